/*
 * pair.h - a turn of one contestant in two fresh processes, and the contest of
 * several of them over rounds.
 *
 * A turn: both ends are opened and joined, "warmup" messages pass, the parent
 * says go, and the time counts from just before the first message (read in the
 * pushing end) until the pulling end has taken and checked the last (read
 * there; the monotonic clock is the same for both). Processor time is what both
 * processes took between the end of the warm-up and the last message; peak
 * memory is that of the whole process.
 *
 * A contest: the contestants take turns within a round, a different one first
 * each round, so that what the machine does to one it does to all.
 *
 * It owns the child processes; a turn that is not over by its deadline is ended
 * with an error. A wrong, missing or doubled message is an error too.
 */
#ifndef BENCH_PAIR_H
#define BENCH_PAIR_H

#include "bench/bench.h"

#include <clustertalk.h>
#include <stdatomic.h>

/* The number of elements of an array. */
#define BENCH_LENGTH(array) (sizeof (array) / sizeof *(array))

enum {
    BENCH_PUSHER_PID = 1,
    BENCH_PULLER_PID = 2,
    BENCH_UP_MS = 10000,           /* for the other end to come up */
    BENCH_PROGRESS_EVERY = 1 << 8, /* messages between two looks at the progress */
    BENCH_LARGE_BYTES = 64 * 1024, /* payloads above it are looked at one by one */
    BENCH_THREADS_MAX = 8,         /* of the pushing end */
    BENCH_CONTESTANTS_MAX = 16,
    BENCH_METRICS_MAX = 6, /* of a workload */
    BENCH_SIZE_MAX_BYTES = 16 * 1024 * 1024
};

typedef struct bench_contestant bench_contestant_t;

/* One end of a turn, in its process. What a contestant does not need stays NULL. */
typedef struct {
    const bench_contestant_t *contestant;
    bool pusher;
    size_t size, threads;
    uint8_t *payload;       /* room for one */
    _Atomic uint64_t *done; /* shared with the parent: how many were pulled */
    uint32_t *samples_ns;   /* shared with the parent: a time per round trip after the warm-up; may be NULL */
    ctalk_server_t *server;
    void *context, *socket[BENCH_THREADS_MAX];
    int listener, stream;
    void *own; /* the contestant's own */
    char error[BENCH_TEXT_BYTES / 2];
} bench_end_t;

/* An option of ClusterTalk's config. */
typedef struct {
    const char *name, *value;
} bench_setting_t;

/* A contestant. Each call returns 0, or -1 with end->error filled in. */
struct bench_contestant {
    const char *name;
    const char *absent;      /* why it is not here; NULL if it is */
    bool may_fail;           /* if it does, the contest goes on without it */
    bool slow;               /* a count that suits the others would take minutes */
    size_t least, most;      /* sizes of the payload that it is for; most 0: any */
    bench_setting_t setting; /* of ClusterTalk; name NULL: none */
    int variant;             /* of the contestant's own */
    int (*open) (bench_end_t *end, char *endpoint, size_t capacity); /* the own endpoint, "" if there is none */
    int (*join) (bench_end_t *end, const char *endpoint);            /* that of the other end */
    int (*push) (bench_end_t *end, uint64_t first, uint64_t count);
    int (*pull) (bench_end_t *end, uint64_t first, uint64_t count);
    int (*close) (bench_end_t *end);
};

/* What a turn is to do. */
typedef struct {
    const bench_contestant_t *contestant;
    size_t size, threads;
    uint64_t warmup, count, deadline_s;
    _Atomic uint64_t *done; /* bench_shared () */
    uint32_t *samples_ns;   /* bench_shared (), room for count; NULL: none are taken */
    const char *label;      /* of the progress */
} bench_turn_t;

/* What a turn gave. */
typedef struct {
    double seconds, rate;
    double pusher_cpu_s, puller_cpu_s;
    long pusher_peak_kib, puller_peak_kib;
    double metrics[BENCH_METRICS_MAX]; /* those of the workload */
} bench_result_t;

/* Runs a turn. -1 after a message. */
int bench_pair_turn (const bench_turn_t *turn, bench_result_t *result);

/* What a workload measures. */
typedef struct {
    const char *name;
    bool lower_is_better;
    bool versus; /* the comparisons of the contest are made in it */
} bench_metric_t;

/* Two contestants to compare, beside each with the yardstick. */
typedef struct {
    size_t who, against;
} bench_versus_t;

/* A contest: turns of several contestants under the same conditions. */
typedef struct {
    const char *workload, *parameter; /* as in bench_figure_t */
    double x;
    const bench_contestant_t *const *contestants;
    size_t contestant_count; /* all that are there; those that are absent or for other sizes have no turns */
    size_t yardstick;        /* which of them the others are compared with */
    const bench_versus_t *versus;
    size_t versus_count;
    const bench_metric_t *metrics;
    size_t metric_count;
    const bool *chosen; /* by contestant: whether it is wanted; NULL: all are */
    bench_turn_t turn;  /* contestant, label and count are filled in */
    uint64_t count;     /* of a turn; 0, and for slow ones: as many as take some "seconds" */
    double seconds;
    uint64_t count_least, count_most; /* for a count that is found */
    uint64_t rounds;
    /* Fills in result->metrics after each turn that counts; NULL: the one metric is the rate. */
    void (*measure) (const bench_turn_t *turn, bench_result_t *result);
    bench_result_t (*results)[BENCH_ROUNDS_MAX]; /* [contestant][round] */
    bool failed[BENCH_CONTESTANTS_MAX];          /* set by the contest: it is out of it */
} bench_contest_t;

/* Whether a contestant of the contest has turns in it. */
bool bench_pair_takes_part (const bench_contest_t *contest, size_t contestant);

/* Runs all rounds. -1 after a message. */
int bench_pair_contest (bench_contest_t *contest);

/* Prints the figures of a contest, a table under a title, and writes them to csv (NULL: not). */
void bench_pair_report (const bench_contest_t *contest, const char *title, FILE *csv);

/* The median of one metric's ratios of one contestant to another; 0 if either has no turns. */
double bench_pair_ratio (const bench_contest_t *contest, size_t metric, size_t who, size_t against);

/* Reads a list "ctalk,zmq" of names of contestants. false after a message. */
bool bench_pair_choose (const char *option, const char *text, const bench_contestant_t *const *contestants,
                        size_t count, bool *chosen);

/* For contestants: fills in end->error from what and errno; returns -1. */
int bench_pair_fail (bench_end_t *end, const char *what);

/* For contestants: checks a payload; returns 0, or -1 with end->error filled in. */
int bench_pair_check (bench_end_t *end, const void *data, size_t size, uint64_t number);

/* For contestants: shows that this many were pulled, if it is time for that. */
static inline void bench_pair_progress (bench_end_t *end, uint64_t done)
{
    if (done % BENCH_PROGRESS_EVERY == 0 || end->size > BENCH_LARGE_BYTES)
        atomic_store_explicit (end->done, done, memory_order_relaxed);
}

/* "64 B", "4 KiB", "10 MB". */
void bench_pair_size_text (char *text, size_t capacity, size_t size);

#endif
