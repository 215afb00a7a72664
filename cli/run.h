/*
 * run.h - the two halves of "clustertalk run" that know nothing of servers:
 * standard input taken apart into lines, and envelopes put into printed lines.
 */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include <clustertalk.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Lines from a file descriptor. Owns its buffer, not the descriptor. */
typedef struct {
    char *bytes;
    size_t capacity;
    size_t start;      /* of what was not handed out yet */
    size_t end;        /* of what was read */
    size_t scanned;    /* up to here there is no end of line */
    size_t line_limit; /* the longest line, in bytes without its end */
    int64_t number;    /* of the line handed out last, from 1 */
    bool skipping;     /* inside a line that was too long */
    bool ended;        /* nothing more will be read */
} run_input_t;

typedef enum { RUN_LINE, RUN_NO_LINE, RUN_LINE_TOO_LONG } run_line_t;

void run_input_init (run_input_t *input, size_t line_limit);
void run_input_fini (run_input_t *input);

/* Reads once. 0, also at the end of the input (then ended is set); -1: errno,
 * EINTR among them. Lines handed out before are no longer valid. */
int run_input_read (run_input_t *input, int fd);

/* The next line without its end, valid until the next read. RUN_NO_LINE: read
 * first, or the input has ended. A line that is too long is told once and left
 * out. */
run_line_t run_input_line (run_input_t *input, const char **line, size_t *size);

/* What is to be printed. Owns its buffer, not the descriptor. */
typedef struct {
    char *bytes;
    size_t capacity;
    size_t start; /* of what was not written yet */
    size_t end;
    bool broken;   /* the reader has gone, or the descriptor cannot be written */
    bool ordinary; /* a file: a write never waits */
} run_output_t;

void run_output_init (run_output_t *output, int fd);
void run_output_fini (run_output_t *output);

/* Adds "PID MSGID TEXT" with its newline; see run --help for what is escaped.
 * -1: ENOMEM. */
int run_output_add (run_output_t *output, const ctalk_envelope_t *envelope);

/* How many bytes wait to be written. */
size_t run_output_waiting (const run_output_t *output);

/* Writes a piece that does not make a writable pipe wait. 0, or -1 with errno;
 * then the output is broken, and drops what it holds (not for EINTR). */
int run_output_write (run_output_t *output, int fd);

#endif
