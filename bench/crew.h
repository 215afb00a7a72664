/*
 * crew.h - workloads that need several processes: steps that all of them take
 * together, rounds in which the contestants take turns, and the figures.
 *
 * A turn is one contestant in one case (so many peers, such a size), in fresh
 * processes. Every process of a turn has the same steps; the next step begins
 * when all are through with the last. One of the steps is timed: it begins at a
 * moment that the parent names, the same for all. Its time is from that begin
 * to the end of the last process; its processor time is that of all processes
 * up to the begin of the next step, so that what a process does for the others
 * after its own work counts.
 *
 * Every turn has a deadline; a process that fails says why, and ends the bench,
 * except for a contestant that may fail.
 */
#ifndef CREW_H
#define CREW_H

#include "bench/bench.h"

enum {
    CREW_STEPS_MAX = 6,    /* of a contestant */
    CREW_METRICS_MAX = 8,  /* of a workload, processor time and memory not among them */
    CREW_ERROR_BYTES = 400 /* why a process gave up, its end included */
};

/* What a process of a turn knows. */
typedef struct {
    int self;         /* which it is, from 0 on */
    const void *task; /* of the case */
    const void *way;  /* of the contestant */
    void *shared;     /* what the processes share; zeroed before each turn */
    void *own;        /* this process keeps here what it needs from step to step */
    uint64_t end_ns;  /* when the timed step ended, if that was not on its return; else 0 */
    char error[CREW_ERROR_BYTES];
} crew_member_t;

/* A step in one process. -1: it failed, and member->error says why. */
typedef int (*crew_step_t) (crew_member_t *member);

typedef struct {
    const char *name;
    const void *way; /* what tells contestants apart that have steps in common */
    crew_step_t step[CREW_STEPS_MAX];
    bool may_fail;    /* if it does, the case goes on without it */
    const char *note; /* for the table; NULL: none */
} crew_contestant_t;

typedef struct {
    const char *name; /* "64 peers" */
    double x;         /* the same as a number */
    const void *task;
} crew_case_t;

typedef struct {
    const char *name; /* "envelopes/s" */
    bool lower_is_better;
    bool alone; /* shown without a ratio to a yardstick */
} crew_metric_t;

/* What a turn took. */
typedef struct {
    double seconds;  /* of the timed step */
    double cpu_s;    /* of all processes */
    double peak_kib; /* the sum of their peaks */
} crew_cost_t;

/* The first contestant is ClusterTalk, the others are what it is compared with. */
typedef struct {
    const char *name, *title; /* "W4" and what it is */
    const char *const *process_names;
    size_t processes;
    const crew_case_t *cases;
    size_t case_count;
    const crew_contestant_t *contestants;
    size_t contestant_count;
    size_t own_count; /* how many of them, from the first on, are ClusterTalk */
    const crew_metric_t *metrics;
    size_t metric_count;
    size_t timed;        /* the index of the step that is */
    size_t shared_bytes; /* of what the processes share */
    uint64_t rounds, deadline_s;
    const char *only; /* the names of those that take part, with commas; NULL: all */

    /* The parent's: the metrics of a turn. NAN: this contestant has none, and gets no row. */
    void (*figures) (const void *task, const void *shared, const crew_cost_t *cost, double *values);
} crew_workload_t;

/* The figures of all turns. */
typedef struct crew_table crew_table_t;

/* All rounds of all cases. NULL after a message. */
crew_table_t *crew_play (const crew_workload_t *workload);

/* One figure in all rounds; NULL if that contestant failed in this case, or takes no part. */
const double *crew_values (const crew_table_t *table, size_t at_case, size_t contestant, size_t metric);

/* Prints the figures and writes them to csv (NULL: not). */
void crew_report (const crew_table_t *table, FILE *csv);

void crew_destroy (crew_table_t **table_p);

/* An argument of --only. false after a message: there is no such contestant. */
bool crew_choose (const char *option, const char *text, const crew_contestant_t *contestants, size_t count,
                  const char **only);

/* All of that: prints the machine, plays, reports. Returns the exit status. */
int crew_bench (const crew_workload_t *workload, FILE *csv);

/* Child: gives up in a step, with the text of errno. Returns -1. */
int crew_fail (crew_member_t *member, const char *what);

/* Child: gives up in a step, because of an envelope that is not the one with this number. Returns -1. */
int crew_fail_content (crew_member_t *member, const char *where, const void *data, size_t size, uint64_t number);

#endif
