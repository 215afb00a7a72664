/*
 * table.c - see table.h.
 */
#include "tests/support/table.h"

#include <check.h>
#include <stdint.h>
#include <string.h>

#include "tests/support/scale.h"

enum { CELL_BYTES = 16 };

char *ctki_table_add (char *text, bool fact, char letter)
{
    if (fact)
        *text++ = letter;
    return text;
}

static const char *reason_of (const ctki_table_t *table, char letter)
{
    for (size_t i = 0; i < table->reason_count; i++) {
        if (table->reasons[i].letter == letter)
            return table->reasons[i].words;
    }
    return NULL;
}

/* Reads the next cell of a row; false: there is none. */
static bool next_cell (const char **cells, char cell[CELL_BYTES])
{
    *cells += strspn (*cells, " ");
    size_t size = strcspn (*cells, " ");
    ck_assert_uint_lt (size, CELL_BYTES);
    memcpy (cell, *cells, size);
    cell[size] = '\0';
    *cells += size;
    return size > 0;
}

void ctki_table_check_row (const ctki_table_t *table, int row)
{
    const ctki_table_row_t is = table->row (row);
    const char *at = is.cells;
    char got[CTKI_TABLE_TEXT_BYTES], cell[CELL_BYTES];
    for (int state = 0; state < table->state_count; state++) {
        const char *name = table->states[state];
        ck_assert_msg (next_cell (&at, cell), "%s: no cell for: %s", is.name, name);
        table->play (state, row, got);
        ck_assert_msg (strcmp (got, *cell == '=' ? "" : cell) == 0, "%s, %s: '%s', and in the table it is '%s' (%s)",
                       name, is.name, got, cell, *cell == '=' ? reason_of (table, cell[1]) : "");
    }
}

/* Counts the cells of a row, and of these the ones in which nothing happens. */
static void count_cells (const ctki_table_t *table, int row, bool used[UINT8_MAX + 1], size_t *covered, size_t *ignored)
{
    const ctki_table_row_t is = table->row (row);
    const char *at = is.cells;
    char cell[CELL_BYTES];
    for (; next_cell (&at, cell); ++*covered) {
        if (*cell != '=')
            continue;
        ck_assert_msg (reason_of (table, cell[1]) != NULL, "%s: '%s' has no reason", is.name, cell);
        used[(uint8_t) cell[1]] = true;
        ++*ignored;
    }
}

void ctki_table_check_whole (const ctki_table_t *table)
{
    size_t covered = 0, ignored = 0, all = (size_t) table->row_count * (size_t) table->state_count;
    bool used[UINT8_MAX + 1] = {false};
    for (int row = 0; row < table->row_count; row++)
        count_cells (table, row, used, &covered, &ignored);
    for (size_t i = 0; i < table->reason_count; i++)
        ck_assert_msg (used[(uint8_t) table->reasons[i].letter], "never: %s", table->reasons[i].words);
    ck_assert_uint_eq (covered, all);
    ctki_test_figure (table->name, "%d states x %d events: %zu of %zu cells, %zu ignored with a reason",
                      table->state_count, table->row_count, covered, all, ignored);
}
