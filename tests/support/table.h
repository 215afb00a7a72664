/*
 * table.h - a state machine as a table: each state times each event. A cell says
 * what the event does, in letters; or, with "=" and the letter of a reason, why
 * nothing at all may change. What the letters mean, the test says. Owns nothing.
 */
#ifndef CTKI_TEST_TABLE_H
#define CTKI_TEST_TABLE_H

#include <stdbool.h>
#include <stddef.h>

enum { CTKI_TABLE_TEXT_BYTES = 80 /* what an event did, its end included */ };

/* An event, and its cells in the order of the states, with blanks between them. */
typedef struct {
    const char *name;
    const char *cells;
} ctki_table_row_t;

typedef struct {
    char letter;
    const char *words;
} ctki_table_reason_t;

typedef struct {
    const char *name; /* of what is tested */
    const char *const *states;
    int state_count;
    int row_count;
    ctki_table_row_t (*row) (int row);
    const ctki_table_reason_t *reasons;
    size_t reason_count;
    /* Brings one to the state and lets the event of the row happen; text gets
     * what it did, as a cell says it, or "" for nothing at all. */
    void (*play) (int state, int row, char text[CTKI_TABLE_TEXT_BYTES]);
} ctki_table_t;

/* Every cell of a row is as it says. */
void ctki_table_check_row (const ctki_table_t *table, int row);

/* The table has no hole, every cell in which nothing happens says why, and no
 * reason is left over. Prints how much there is. */
void ctki_table_check_whole (const ctki_table_t *table);

/* Appends the letter of a fact to a text that is not ended. Returns its end. */
char *ctki_table_add (char *text, bool fact, char letter);

#endif
