/*
 * bench.h - what the programs of bench/ share: a clock, the payload and its
 * check, processes that report over a socket pair, medians, tables, the command
 * line.
 *
 * A bench has one parent, which measures nothing itself and touches neither
 * ClusterTalk nor libzmq, and children made with fork (), which do the work.
 * Parent and children exchange notes; every wait of the parent has a deadline,
 * and a child that fails says why. When the parent ends, its children end.
 *
 * Nothing here is meant for use outside bench/.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

enum {
    BENCH_CHILDREN_MAX = 8,      /* children of a group */
    BENCH_TEXT_BYTES = 512,      /* the text of a note, its end included */
    BENCH_NUMBERS = 4,           /* numbers of a note */
    BENCH_CELL_BYTES = 24,       /* a cell of a table, its end included */
    BENCH_ROUNDS_MAX = 1000,     /* rounds of a bench */
    BENCH_CLOSE_MS = 5000,       /* for the close of a server */
    BENCH_PAYLOAD_MIN_BYTES = 8, /* room for the number of an envelope */
    BENCH_OPTIONS_MAX = 12       /* options of a program, --csv, --quick and --help not among them */
};

/* ----------------------------------------------------------- clock and cost */

/* Nanoseconds of the monotonic clock, the same in every process. */
uint64_t bench_now_ns (void);

/* Processor time of this process, all its threads, user and system, in ns. */
uint64_t bench_cpu_ns (void);

/* Memory of this process that is in RAM, in bytes; 0: not known. */
double bench_resident_bytes (void);

/* ------------------------------------------------------------------ payload */

/*
 * Every payload is made from a number alone, so that the receiver can check
 * each byte of it: the number, then words that depend on the number and on
 * their place. It costs an addition per 8 bytes on either side, the same for
 * every contestant.
 */
#define BENCH_WORD_OF(number) ((number) *UINT64_C (0x9e3779b97f4a7c15))
#define BENCH_STEP UINT64_C (0xbf58476d1ce4e5b9)

static inline void bench_fill (uint8_t *data, size_t size, uint64_t number)
{
    uint64_t word = BENCH_WORD_OF (number);
    size_t at = sizeof number;
    memcpy (data, &number, sizeof number);
    for (; at + sizeof word <= size; at += sizeof word) {
        word += BENCH_STEP;
        memcpy (data + at, &word, sizeof word);
    }
    word += BENCH_STEP;
    if (at < size)
        memcpy (data + at, &word, size - at);
}

/* Whether this is the payload with that number, to the last byte. */
static inline bool bench_check (const uint8_t *data, size_t size, uint64_t number)
{
    uint64_t word = BENCH_WORD_OF (number), found, wrong;
    size_t at = sizeof number;
    memcpy (&found, data, sizeof found);
    wrong = found ^ number;
    for (; at + sizeof word <= size; at += sizeof word) {
        word += BENCH_STEP;
        memcpy (&found, data + at, sizeof found);
        wrong |= found ^ word;
    }
    word += BENCH_STEP;
    return wrong == 0 && (at == size || memcmp (data + at, &word, size - at) == 0);
}

/* The number without its top byte, in which a bench may tell ways apart. */
#define BENCH_PLACE(number) ((number) & (UINT64_MAX >> 8))

/* The number of the answer to a question with that number. */
#define BENCH_REPLY(number) (~(number))

/* Says in what a payload that failed the check is wrong, by its place. */
void bench_describe (char *text, size_t capacity, const uint8_t *data, size_t size, uint64_t number);

/* ---------------------------------------------------------------- processes */

/* What parent and children say to each other. */
typedef struct {
    bool failed; /* the sender of the note gives up; text says why */
    uint64_t number[BENCH_NUMBERS];
    char text[BENCH_TEXT_BYTES];
} bench_note_t;

typedef struct {
    const char *name; /* for messages */
    pid_t pid;        /* 0 when it was reaped */
    int fd;           /* the parent's end */
    long peak_kib;    /* peak memory, known when it was reaped */
} bench_child_t;

/* The children of one round. Start with = { 0 }. */
typedef struct {
    bench_child_t child[BENCH_CHILDREN_MAX];
    size_t count;
} bench_group_t;

/* What a child does. fd leads to the parent; the return value is its exit status. */
typedef int (*bench_body_t) (int fd, void *arg);

/* Starts a child. Returns its index in the group; -1 after a message. */
int bench_start (bench_group_t *group, const char *name, bench_body_t body, void *arg);

/*
 * Parent: waits for the next note of a child. -1 after a message: the deadline
 * passed, or this child or any other of the group failed or ended.
 *
 *   tick   called some ten times a second while it waits; may be NULL.
 */
int bench_hear (bench_group_t *group, int child, bench_note_t *note, uint64_t deadline_ns, void (*tick) (void *arg),
                void *arg);

/* Child: the same from the parent, for as long as that lives. -1: it is gone. */
int bench_listen (int fd, bench_note_t *note);

/* Sends a note. -1: the other side is gone. */
int bench_tell (int fd, const bench_note_t *note);

/* Child: gives up with a text. Returns 1, for use as exit status. */
int bench_fail (int fd, const char *format, ...) __attribute__ ((format (printf, 2, 3)));

/* Parent: whether a child of the group has failed or ended; says so. */
bool bench_any_failed (const bench_group_t *group);

/* Waits for the first count children to end, all with status 0, and takes
 * their figures. -1 after a message. Whatever then still runs is killed. */
int bench_join (bench_group_t *group, size_t count, uint64_t deadline_ns);

/* Kills and reaps every child that is left. */
void bench_kill (bench_group_t *group);

/* Memory that parent and children share, zeroed; NULL after a message. It lasts until the process ends. */
void *bench_shared (size_t size);

/* ---------------------------------------------------------------- reporting */

/* The middle value, or the mean of the two in the middle; 0 of none. */
double bench_median (const double *values, size_t count);
double bench_least (const double *values, size_t count);
double bench_most (const double *values, size_t count);

/* Times of round trips, in ns: sorts them. Then that which so many of a thousand did not exceed, in us; 0 of none. */
void bench_sort_times (uint32_t *times_ns, size_t count);
double bench_percentile_us (const uint32_t *sorted_ns, size_t count, size_t of_thousand);

/* One line: processor, cores, kernel, libzmq. */
void bench_print_machine (void);

/* A table in Markdown: the head, then rows; the first column is wide and flush left. */
typedef char bench_cell_t[BENCH_CELL_BYTES];
void bench_print_head (const bench_cell_t *cells, size_t count);
void bench_print_row (const bench_cell_t *cells, size_t count);

/* The text of a cell. */
void bench_cell (bench_cell_t cell, const char *format, ...) __attribute__ ((format (printf, 2, 3)));

/* Progress, only when standard error is a terminal; an empty text wipes it. */
void bench_progress (const char *format, ...) __attribute__ ((format (printf, 1, 2)));

/* ------------------------------------------------------------- command line */

/* Exit statuses beside EXIT_SUCCESS and EXIT_FAILURE. */
enum {
    BENCH_WRONG_USAGE = 2,
    BENCH_MISSED = 3 /* what was required of the figures */
};

/* A bench as a program. Every option takes a value; --csv and --help come by themselves, --quick if there is quick. */
typedef struct {
    const char *options[BENCH_OPTIONS_MAX]; /* the names of its own, those left over NULL */
    void (*help) (void);
    bool (*take) (void *options, const char *name, const char *value); /* one of its own; false after a message */
    void (*quick) (void *options);               /* --quick: makes it a run of a few seconds; NULL: there is none */
    int (*run) (const void *options, FILE *csv); /* csv: NULL if none is wanted; returns the exit status */
} bench_program_t;

/* Reads the command line into the options and runs the bench. Returns the exit status. */
int bench_main (int argc, char **argv, const bench_program_t *program, void *options);

/* The number in an argument of the command line. false after a message. */
bool bench_parse_count (const char *option, const char *text, uint64_t least, uint64_t most, uint64_t *value);
/* The same for a list "64,1024" of at most capacity numbers. */
bool bench_parse_list (const char *option, const char *text, uint64_t least, uint64_t most, uint64_t *values,
                       size_t capacity, size_t *count);
bool bench_parse_ratio (const char *option, const char *text, double *value);

#endif
