/*
 * clustertalk_sim.h - a simulator for programs that use ClusterTalk.
 *
 * A program, or its test, that is linked with libclustertalk-sim instead of
 * libclustertalk runs any number of servers in one process, with the same calls
 * of clustertalk.h, on a network that is simulated and on virtual time. Its
 * threads, those of the library and its actors among them, run in lock-step: one
 * at a time, until it waits in a call. Who is next is drawn from a seed, and so
 * is what the network does: a seed replays byte for byte. Virtual time passes
 * only when all threads wait, in jumps to the next thing that happens: an hour
 * of heartbeats takes seconds.
 *
 * How to write a simulation: a function that does what the main program does
 * (ctalk_server_new (), ctalk_actor_spawn (), ...) is given to ctalk_sim_run ();
 * further threads come from ctalk_sim_spawn (). Break what you like meanwhile
 * (ctalk_sim_partition (), ctalk_sim_crash (), ...), close the servers, look
 * whether all is as it should be, and do that for some hundred seeds.
 *
 * Rules for what runs in a simulation:
 *
 *   Waiting    in calls of the library and of this header alone. A thread that
 *              waits elsewhere (sleep (), a socket, a condition variable) stops
 *              all the others. A mutex may be used, but not be held in a call
 *              that may wait.
 *   Time       ctalk_sim_now_us () and ctalk_sim_sleep_ms (). To compute takes no
 *              time. A loop that polls without ever waiting holds it up.
 *   Chance     ctalk_sim_random (). What depends on addresses, on the real time or
 *              on other processes does not replay.
 *   Threads    ctalk_sim_spawn () and actors. Calls on servers that are made on
 *              any other thread, or outside of ctalk_sim_run (), are errors:
 *              ctalk_server_new () fails there with EPERM.
 *   Network    endpoints are names and nothing else: no port is opened, any host
 *              may be bound, and names of hosts have made-up addresses.
 *
 * Not simulated: signals (no call returns EINTR but for ctalk_server_wake ()),
 * cancelling, fork, lack of memory, the processors' order of memory accesses:
 * threads switch in calls that wait and nowhere else.
 *
 * Copyright (c) the ClusterTalk authors. SPDX-License-Identifier: MPL-2.0
 */
#ifndef CLUSTERTALK_SIM_H
#define CLUSTERTALK_SIM_H

#include <poll.h>
#include <stdio.h>

#include <clustertalk.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A simulation. There is one at a time in a process. */
typedef struct ctalk_sim ctalk_sim_t;

/* What the network does by itself. Zeroed: a good one. */
typedef struct {
    int latency_us_min;       /* of each message, drawn; those of one connection keep their order */
    int latency_us_max;       /* both 0: from 50 to 500 */
    double resets_per_second; /* how often each connection breaks, on average: what was in it is lost */
    uint64_t reserved[4];
} ctalk_sim_network_t;

typedef struct {
    uint64_t seed;
    ctalk_sim_network_t network;
    int64_t limit_ms; /* of virtual time, then the run fails; 0: an hour */
    FILE *trace;      /* a line for each event; NULL: none */
    uint64_t reserved[4];
} ctalk_sim_options_t;

/* Figures. Fields are added in place of the reserved tail. */
typedef struct {
    uint64_t switches;    /* from one thread to another */
    uint64_t messages;    /* that arrived over the network */
    uint64_t bytes;       /* of those */
    uint64_t lost;        /* messages in connections that broke */
    uint64_t connections; /* that were made */
    uint64_t resets;      /* connections that broke by themselves */
    uint64_t reserved[6];
} ctalk_sim_stats_t;

/* ------------------------------------------------------------------ a run */

/*
 * Makes a simulation; options NULL: all zero. It is to be destroyed.
 *
 * NULL: EBUSY: there is one already; EINVAL: a latency that is negative or whose
 * min is above max, resets_per_second not from 0 to 1000, limit_ms negative, a
 * reserved field not 0; ENOMEM.
 */
CTALK_EXPORT ctalk_sim_t *ctalk_sim_new (const ctalk_sim_options_t *options, ctalk_error_t *error);

/*
 * Runs main_fn as the first thread, until it and all that were spawned have
 * returned. One run for each simulation. Called from outside.
 *
 * -1, and error says more: EDEADLK: every thread waits, and nothing is under way
 * that could wake one; ETIME: limit_ms is over; EBUSY: all have returned, and a
 * server was not closed; EINVAL: it has run already; EAGAIN: no thread can be
 * started. After the first three ctalk_sim_threads () tells who waits where;
 * threads and memory of that run are left behind, for good, and a new simulation
 * may be made.
 */
CTALK_EXPORT int ctalk_sim_run (ctalk_sim_t *sim, void (*main_fn) (ctalk_sim_t *sim, void *arg), void *arg,
                                ctalk_error_t *error);

/*
 * Ends a simulation that does not run, and sets *sim_p to NULL. NULL is harmless.
 */
CTALK_EXPORT void ctalk_sim_destroy (ctalk_sim_t **sim_p);

/*
 * A hash over all that has happened: who ran when, and every message with its
 * bytes. Equal for equal seeds and programs, so that a test can see whether it
 * replays.
 */
CTALK_EXPORT uint64_t ctalk_sim_digest (const ctalk_sim_t *sim);

CTALK_EXPORT void ctalk_sim_stats (const ctalk_sim_t *sim, ctalk_sim_stats_t *stats);

/*
 * Writes a line for each thread that has not ended: its name, what it waits for,
 * and until when. At most size bytes, always terminated if size is not 0. Returns
 * the length of the whole text.
 */
CTALK_EXPORT size_t ctalk_sim_threads (const ctalk_sim_t *sim, char *text, size_t size);

/* ---------------------------------------------------------------- threads */

/*
 * Starts a thread, before the run or within. It may make any call. The name is
 * for people, and is copied. Returns its number, from 1. -1: EINVAL: no function,
 * or the run is over; EAGAIN: no thread can be started; ENOMEM.
 */
CTALK_EXPORT int ctalk_sim_spawn (ctalk_sim_t *sim, const char *name, void (*fn) (void *arg), void *arg);

/*
 * Waits until it has returned; within the run only. -1: ESRCH: there is none of
 * that number, or another thread waits for it; EDEADLK: it is the caller; EPERM:
 * outside of the run.
 */
CTALK_EXPORT int ctalk_sim_join (ctalk_sim_t *sim, int thread);

/* Virtual time since the beginning. */
CTALK_EXPORT int64_t ctalk_sim_now_us (const ctalk_sim_t *sim);

/* Waits for so long; 0 lets others run. Outside of the run it does nothing. */
CTALK_EXPORT void ctalk_sim_sleep_ms (ctalk_sim_t *sim, int ms);

/* poll () for ctalk_server_fd () alone: other descriptors are never ready. */
CTALK_EXPORT int ctalk_sim_poll (ctalk_sim_t *sim, struct pollfd *items, nfds_t count, int timeout_ms);

/* A random number from the seed, of a series that only the caller's draws move on. */
CTALK_EXPORT uint64_t ctalk_sim_random (ctalk_sim_t *sim);

/* Puts a line into the trace, and into the digest. */
CTALK_EXPORT void ctalk_sim_note (ctalk_sim_t *sim, const char *text);

/* ----------------------------------------------------------------- faults
 *
 * Any thread may call these, at any time. Bad ways between two servers, frame by
 * frame, are in clustertalk.h: ctalk_server_cut (), ctalk_server_impair (). */

/*
 * Changes what the network does from now on. -1: EINVAL, as in ctalk_sim_new ().
 */
CTALK_EXPORT int ctalk_sim_set_network (ctalk_sim_t *sim, const ctalk_sim_network_t *network);

/*
 * Parts the servers of these pids from all others, or, on = false, takes that
 * back. Nothing gets across meanwhile: what is under way waits in the
 * connections, which stay, and no new one is made. Several may be on at once.
 * on = false and count = 0: takes all of them back.
 *
 * -1: EINVAL: no pids; ESRCH: to take back what is not on; ENOMEM.
 */
CTALK_EXPORT int ctalk_sim_partition (ctalk_sim_t *sim, const ctalk_pid_t *side, size_t count, bool on);

/*
 * Breaks the connections between two servers, each with what is in it; they are
 * made anew by themselves. CTALK_BROADCAST: any. Returns how many there were.
 */
CTALK_EXPORT int ctalk_sim_reset (ctalk_sim_t *sim, ctalk_pid_t a, ctalk_pid_t b);

/*
 * Ends a server as if its process had died: all its connections break now, with
 * what is in them, and no byte of it leaves any more; then it is closed, timeout
 * 0, and *server_p is NULL. Its actors see the end of their server. It may be
 * started again (ctalk_server_new ()): another incarnation. Within the run only.
 *
 * Returns as ctalk_server_close (). -1: EPERM: outside of the run; EINVAL.
 */
CTALK_EXPORT int ctalk_sim_crash (ctalk_sim_t *sim, ctalk_server_t **server_p);

#ifdef __cplusplus
}
#endif

#endif
