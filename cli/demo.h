/*
 * demo.h - what the parts of "clustertalk demo" share.
 *
 *   cmd_demo.c      the command line
 *   demo_text.c     the file, its lines and the hash of them all
 *   demo_plan.c     which servers take part, and where they bind
 *   demo_check.c    the journal of one receiver in one round
 *   demo_child.c    a server process
 *   demo_parent.c   starts the processes, leads them from round to round
 *   demo_report.c   progress, results, the table
 *
 * The parent talks to each child over a socket pair, one note at a time: the
 * rounds are kept apart by it, never by waiting a while.
 */
#ifndef CLI_DEMO_H
#define CLI_DEMO_H

#include <clustertalk.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DEMO_SERVERS_DEFAULT = 5,
    DEMO_SERVERS_MIN = 2,
    DEMO_SERVERS_MAX = 100,
    DEMO_REPEAT_MAX = 1000000,
    DEMO_LINES_MAX = 1 << 26, /* in one round from one server; a bit each is kept per sender */
    DEMO_FILE_BYTES_MAX = 1 << 30,
    DEMO_TIMEOUT_MS_DEFAULT = 30000,
    DEMO_TIMEOUT_MS_MAX = 86400000,
    DEMO_ENDPOINT_BYTES = 320,
    DEMO_NOTE_BYTES = 400 /* of text in a note; an endpoint is shorter */
};

/* ----------------------------------------------------------------- the text */

typedef struct {
    const char *data;
    size_t size;
} demo_line_t;

/* The lines of a file, as often as wanted. Line n of total, from 1, is what an
 * envelope with message id n carries. */
typedef struct {
    char *bytes;
    demo_line_t *lines;
    uint64_t count; /* of lines */
    uint64_t repeat;
    uint64_t total; /* count * repeat */
    size_t longest; /* bytes */
    uint64_t hash;  /* over message id, size and bytes of all of them, in order */
} demo_text_t;

/* 0, or -1 and said why on standard error. */
int demo_text_load (demo_text_t *text, const char *path, uint64_t repeat);
void demo_text_fini (demo_text_t *text);
demo_line_t demo_text_line (const demo_text_t *text, uint64_t number);

/* A running hash (FNV-1a, 64 bits). */
#define DEMO_HASH_START UINT64_C (0xcbf29ce484222325)
uint64_t demo_hash (uint64_t hash, int64_t msg_id, const void *data, size_t size);

/* ----------------------------------------------------------------- the plan */

typedef enum { DEMO_POINT_TO_POINT, DEMO_BROADCAST, DEMO_RING, DEMO_ROUNDS } demo_round_t;

typedef struct {
    ctalk_config_t *config;
    const char *name; /* of the config, for messages; NULL: made here, ports chosen by the system */
    size_t servers;   /* that take part */
    size_t listed;    /* in the config; those from servers on stay away */
    ctalk_pid_t *pids;
    int timeout_ms; /* without any progress */
    demo_text_t text;
} demo_plan_t;

/* From a config file: its first servers. servers 0: as many as it lists. */
int demo_plan_load (demo_plan_t *plan, const char *path, size_t servers);
/* On 127.0.0.1, on ports that the system chooses. */
int demo_plan_make (demo_plan_t *plan, size_t servers);
void demo_plan_fini (demo_plan_t *plan);

/* The envelopes that a round delivers, at all servers together. */
uint64_t demo_plan_deliveries (const demo_plan_t *plan, demo_round_t round);

/* -------------------------------------------------------------- the journal */

/* What a server did, summed over the rounds. Sent: once per destination. */
typedef struct {
    uint64_t sent, received, missing, duplicated, changed;
    int64_t busy_ns; /* from the start of each round until its own part was done */
} demo_counts_t;

/* What came from one sender in one round. */
typedef struct {
    bool expected;
    uint8_t *seen; /* a bit per line */
    uint64_t distinct;
    uint64_t next; /* number of the line that should come */
    uint64_t hash;
    bool clean; /* nothing was missing, twice, changed or out of order so far */
} demo_stream_t;

typedef struct {
    const demo_plan_t *plan;
    demo_stream_t streams[DEMO_SERVERS_MAX];
    size_t open; /* streams that have not ended */
    bool wants_broadcast;
    demo_counts_t *counts;
} demo_check_t;

/* Begins the journal of server index in a round. -1: ENOMEM. */
int demo_check_init (demo_check_t *check, const demo_plan_t *plan, size_t index, demo_round_t round,
                     demo_counts_t *counts);
void demo_check_take (demo_check_t *check, const ctalk_envelope_t *envelope);
/* Whether the last line of every sender was seen. */
bool demo_check_ended (const demo_check_t *check);
/* Ends the journal: counts what is missing, compares the hashes. */
void demo_check_fini (demo_check_t *check);

/* ---------------------------------------------------------------- the notes */

typedef enum {
    /* From the parent. */
    DEMO_PEER = 1, /* pid, text: its endpoint */
    DEMO_CONNECT,  /* no more peers come: wait until they are up */
    DEMO_START,    /* value: the round */
    DEMO_STOP,     /* end the round as it stands */
    DEMO_CLOSE,
    /* From a child. */
    DEMO_BOUND, /* text: its endpoint */
    DEMO_UP,
    DEMO_PROGRESS, /* counts */
    DEMO_DONE,     /* the round is over; counts */
    DEMO_CLOSED,
    DEMO_FAILED /* value: errno, text: what */
} demo_note_type_t;

typedef struct {
    demo_note_type_t type;
    ctalk_pid_t pid;
    int value;
    demo_counts_t counts;
    char text[DEMO_NOTE_BYTES];
} demo_note_t;

/* The life of a server process; ends it. control: its end of the socket pair. */
_Noreturn void demo_child (const demo_plan_t *plan, size_t index, int control);

/* --------------------------------------------------------------- the report */

typedef struct {
    const demo_plan_t *plan;
    demo_counts_t counts[DEMO_SERVERS_MAX]; /* as last heard */
    demo_round_t round;
    bool lost[DEMO_SERVERS_MAX]; /* its figures are not final */
    bool started;                /* some round was */
    bool running;                /* a round is */
    bool shows_progress;         /* standard error is a terminal */
    uint64_t received_before;    /* at the start of the round */
    int64_t round_start_ns;
    int64_t shown_ms; /* when the progress was shown last; 0: nothing stands there */
} demo_report_t;

void demo_report_init (demo_report_t *report, const demo_plan_t *plan);
void demo_report_start (demo_report_t *report, demo_round_t round);
void demo_report_progress (demo_report_t *report);
void demo_report_clear (demo_report_t *report);
void demo_report_end (demo_report_t *report);
/* Prints the table. ended: all servers did, cleanly. Returns whether moreover
 * every line came once, in order and unchanged. */
bool demo_report_table (const demo_report_t *report, bool ended);
uint64_t demo_report_moved (const demo_report_t *report);

/* ---------------------------------------------------------------- the whole */

typedef enum { DEMO_OK, DEMO_NOT_WELL, DEMO_PORT_TAKEN, DEMO_SIGNALLED } demo_outcome_t;

/* Carries the text. Everything is said; for DEMO_SIGNALLED *signal_number is
 * the signal. DEMO_PORT_TAKEN: nothing was printed but which port it is. */
demo_outcome_t demo_run (const demo_plan_t *plan, int *signal_number);

#endif
