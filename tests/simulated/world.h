/*
 * world.h - a simulated cluster for a test: a config, a run, and what went wrong
 * in it.
 */
#ifndef CTKI_SIMULATED_WORLD_H
#define CTKI_SIMULATED_WORLD_H

#include <check.h>
#include <errno.h>
#include <string.h>

#include <clustertalk_sim.h>

#include "tests/support/trouble.h"

enum { WORLD_MAX = 8 };

typedef struct world {
    size_t count;                          /* servers, pids from 1 */
    ctalk_sim_options_t options;           /* of the simulation */
    const char *const *settings;           /* options of the config: name, value, ..., NULL; or NULL */
    bool (*main_fn) (struct world *world); /* false: the trouble is noted */
    void *more;                            /* the test's */
    ctalk_sim_t *sim;                      /* while it runs */
    ctalk_config_t *config;
    ctalk_server_t *server[WORLD_MAX + 1]; /* by pid */
    ctki_trouble_t trouble;
    ctalk_pid_t sound; /* pids up to this one do not crash */
    bool quiet;        /* no more faults */
    int breaker;       /* the thread that makes them */
    /* Afterwards. */
    int rc, code;
    ctalk_error_t error;
    uint64_t digest;
    int64_t end_us;
    ctalk_sim_stats_t stats;
    char threads[2000]; /* as ctalk_sim_threads () gives them */
} world_t;

/* Runs main_fn in a simulation, whatever comes of it. */
void world_try (world_t *world);

/* The same; fails the test if the run does, or there is trouble. */
void world_run (world_t *world);

/* In the run: starts a server, or all; waits until all are up for all; closes all, which must abandon nothing. */
bool world_start (world_t *world, ctalk_pid_t pid);
bool world_open (world_t *world);
bool world_wait_up (world_t *world);
bool world_close (world_t *world);

/* In the run: a message, or an event, taken within 60 s. */
bool world_send (world_t *world, ctalk_pid_t from, ctalk_pid_t to, int64_t msg_id);
bool world_expect (world_t *world, ctalk_pid_t at, ctalk_pid_t from, int64_t msg_id);
bool world_expect_event (world_t *world, ctalk_pid_t at, ctalk_pid_t about, ctalk_kind_t kind);

/* In the run: a number below end, from the seed. */
uint64_t world_draw (world_t *world, uint64_t end);

/* In the run: from now on all kinds of faults come at random; until then, and all is
 * good again. Servers with pids above `sound` may crash meanwhile. */
void world_begin_trouble (world_t *world, ctalk_pid_t sound);
void world_end_trouble (world_t *world);

#endif
