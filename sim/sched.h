/*
 * sched.h - the heart of the simulator: threads in lock-step, virtual time, and
 * what is drawn from the seed.
 *
 * A task is a thread of the simulation, a real one, that runs only while it is
 * its turn: it has the baton. It passes the baton on when it waits and when it
 * ends; whoever passes it on draws the next one from those that are ready. When
 * none is, the time moves on to the next alarm.
 *
 * Everything here is called by the task that runs, or by the thread of
 * ctalk_sim_run () while no task runs: so nothing needs a lock, and the baton (a
 * semaphore for each task) orders all accesses.
 *
 * What may go wrong: without memory the process ends, by an assertion. A task
 * that waits for something that the simulator does not know stops everything.
 */
#ifndef CTKI_SCHED_H
#define CTKI_SCHED_H

#include <clustertalk_sim.h>

#include "src/base.h"

/* ---- draws */

enum ctki_series { CTKI_OF_TURNS, CTKI_OF_NETWORK, CTKI_OF_LIBRARY, CTKI_OF_PROGRAM, CTKI_SERIES };

/* From one of the series, which do not disturb each other. */
uint64_t ctki_draw (enum ctki_series series);
uint64_t ctki_draw_below (enum ctki_series series, uint64_t end); /* 0 ... end - 1; end 0: 0 */

/* ---- time */

int64_t ctki_sim_now_us (void);

/* Something that happens at a time; under way while place is not 0. */
typedef struct ctki_alarm {
    int64_t at_us;
    uint64_t order; /* among those of the same time */
    size_t place;   /* in the heap, from 1 */
    void (*ring) (struct ctki_alarm *alarm);
} ctki_alarm_t;

void ctki_alarm_set (ctki_alarm_t *alarm, int64_t at_us); /* or moves it */
void ctki_alarm_unset (ctki_alarm_t *alarm);

/* ---- tasks */

typedef struct ctki_task ctki_task_t;

/* The task that calls; NULL: a thread outside of the simulation. */
ctki_task_t *ctki_task_self (void);

enum ctki_task_kind {
    CTKI_TASK_APP,     /* the run lasts until all of these have ended */
    CTKI_TASK_LIBRARY, /* to be joined */
    CTKI_TASK_DETACHED /* the library's, not to be joined */
};

/* Starts one; stack_bytes 0: the default. Returns its number, or the negated errno. */
long ctki_task_start (const char *name, enum ctki_task_kind kind, size_t stack_bytes, void *(*fn) (void *), void *arg);

long ctki_task_number (void); /* the caller's; 0: it is none */
void ctki_task_set_name (const char *name);

/* Waits for the end of a task; it is forgotten then. 0, or an errno. */
int ctki_task_join (long number, void **result);

/* Waits at something, at most until then. 0: it was woken; EAGAIN: the time is
 * over. `what` says in a word what it is, for people. */
int ctki_task_wait (const void *at, const char *what, int64_t until_us);

/* The same for descriptors of the simulator (descriptors.h). */
int ctki_task_wait_fds (const int *fds, size_t count, int64_t until_us);

/* Wakes those that wait at something: all, or one that is drawn. */
void ctki_task_wake_all (const void *at);
void ctki_task_wake_one (const void *at);
void ctki_task_wake_fd (int fd);

/* Lets others run that are ready. */
void ctki_task_yield (void);

/* The task looks whether something has happened, as loops do that end then. Who
 * does so again and again without waiting is made to wait for a moment: else
 * nothing would ever happen. */
void ctki_task_look (void);

/* ---- what has happened */

/* Into the digest. */
void ctki_sim_mix (uint64_t word);
void ctki_sim_mix_bytes (const void *data, size_t size);

/* A line of the trace, if there is one. */
bool ctki_sim_is_traced (void);
void ctki_sim_trace (const char *format, ...) CTKI_PRINTF (1, 2);

ctalk_sim_stats_t *ctki_sim_stats (void);
const ctalk_sim_network_t *ctki_sim_network (void);
void ctki_sim_set_network (const ctalk_sim_network_t *network);

/* Whether there is a simulation, and it is this one. */
bool ctki_sim_is (const ctalk_sim_t *sim);

#endif
