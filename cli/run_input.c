/*
 * run_input.c - lines from a file descriptor: any bytes but the newline, up to
 * a limit, the last one with or without its end. It owns one buffer that grows
 * to the longest line seen. What may go wrong: no memory, a read that fails.
 */
#include "cli/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { READ_BYTES = 64 * 1024 };

void run_input_init (run_input_t *input, size_t line_limit)
{
    *input = (run_input_t){.line_limit = line_limit};
}

void run_input_fini (run_input_t *input)
{
    free (input->bytes);
    input->bytes = NULL;
}

/* Moves the rest to the front and makes room for one more read. */
static int make_room (run_input_t *input)
{
    size_t rest = input->end - input->start;
    if (rest > 0 && input->start > 0)
        memmove (input->bytes, input->bytes + input->start, rest);
    input->scanned -= input->start;
    input->start = 0;
    input->end = rest;
    if (input->capacity - rest >= READ_BYTES)
        return 0;
    size_t capacity = input->capacity * 2 + READ_BYTES;
    char *bytes = realloc (input->bytes, capacity);
    if (!bytes)
        return -1;
    input->bytes = bytes;
    input->capacity = capacity;
    return 0;
}

int run_input_read (run_input_t *input, int fd)
{
    if (make_room (input) == -1)
        return -1;
    ssize_t count = read (fd, input->bytes + input->end, READ_BYTES);
    if (count == -1)
        return -1;
    input->end += (size_t) count;
    input->ended = count == 0;
    return 0;
}

/* Hands out what lies before position, and passes over gap bytes after it. */
static run_line_t hand_out (run_input_t *input, size_t position, size_t gap, const char **line, size_t *size)
{
    bool skipped = input->skipping;
    *line = input->bytes + input->start;
    *size = position - input->start;
    input->start = position + gap;
    input->scanned = input->start;
    input->skipping = false;
    if (skipped)
        return RUN_NO_LINE;
    input->number++;
    return *size > input->line_limit ? RUN_LINE_TOO_LONG : RUN_LINE;
}

/* No end of line in sight: keeps waiting for it, unless it is too far off. */
static run_line_t unfinished (run_input_t *input)
{
    bool too_long = input->end - input->start > input->line_limit;
    input->scanned = input->end;
    if (!input->skipping && !too_long)
        return RUN_NO_LINE;
    input->start = input->end;
    if (input->skipping)
        return RUN_NO_LINE;
    input->skipping = true;
    input->number++;
    return RUN_LINE_TOO_LONG;
}

run_line_t run_input_line (run_input_t *input, const char **line, size_t *size)
{
    while (input->start < input->end) {
        const char *from = input->bytes + input->scanned;
        const char *newline = memchr (from, '\n', input->end - input->scanned);
        if (!newline && !input->ended)
            return unfinished (input);
        size_t position = newline ? (size_t) (newline - input->bytes) : input->end;
        run_line_t result = hand_out (input, position, newline ? 1 : 0, line, size);
        if (result != RUN_NO_LINE)
            return result;
    }
    return RUN_NO_LINE;
}
