/*
 * life.h - the life of a server in a process of its own, which may be killed or
 * stopped at any moment, and what that process itself wrote down of it.
 *
 * The journal stands in memory that test and processes share and that was made
 * before they were forked: it outlives a kill. Each process writes into its own
 * life alone: what it sent (begun before each call, accepted after it), and, in
 * one order, what its application received: rows of envelopes that came one after
 * the other, and events. The library's own figures are no part of it.
 *
 * An envelope's number is its sender's life and its place, from 0, among those
 * which that life sent to this peer; size, content, kind (every seventh may be a
 * broadcast) and `from' follow from it. What comes changed, or with a number that
 * does not follow, or an event that contradicts itself, is trouble of the life.
 */
#ifndef CTKI_FAULTS_LIFE_H
#define CTKI_FAULTS_LIFE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <clustertalk.h>

#include "tests/support/process.h"
#include "tests/support/trouble.h"

enum {
    CTKI_LIFE_ENTRIES = 4096, /* of one journal */
    CTKI_LIFE_WAYS = 2,       /* peers that one server sends to */
    CTKI_LIFE_PIDS = 8,       /* the pids 1 ... 8 */
    CTKI_LIFE_LOOK_MS = 20    /* how long a process waits before it looks at its orders again */
};

/* What a life is told to do, one after the other. */
enum {
    CTKI_LIFE_GO,
    CTKI_LIFE_DRAIN, /* send no more, wait until all was acknowledged; go on receiving */
    CTKI_LIFE_END    /* close, and abandon nothing */
};

typedef struct {
    ctalk_kind_t kind; /* CTALK_MESSAGE: a row of envelopes; else an event */
    ctalk_pid_t pid;   /* from whom, about whom */
    int64_t at_us;     /* when the first of them came */
    /* a row */
    int32_t life;  /* of the sender */
    int64_t first; /* place of the first */
    _Atomic int64_t count;
    /* an event */
    ctalk_event_t event; /* without its fates */
    int64_t fate_first;  /* place of the first envelope that has a fate; -1: none has */
    int64_t resent;      /* how many of them are sent again */
    int64_t begun;       /* how many sends to that peer this process had begun by then */
} ctki_entry_t;

/* Envelopes for one peer. */
typedef struct {
    ctalk_pid_t dst; /* 0: none */
    const size_t *sizes;
    size_t sizes_count;
    bool broadcasts; /* every seventh */
    int burst;       /* so many at once, then ... */
    int pace_ms;     /* ... wait for so long; 0: as fast as they are taken */
    _Atomic int64_t begun, accepted;
    _Atomic int64_t refused; /* how often there was no room in time */
} ctki_way_t;

typedef struct {
    /* Given by the test beforehand. */
    ctalk_pid_t pid;
    int32_t number;
    const ctalk_config_t *config;
    ctki_way_t way[CTKI_LIFE_WAYS];
    ctki_way_t from[CTKI_LIFE_PIDS + 1]; /* what the peers send, by pid: sizes and broadcasts */
    int take_ms;                         /* how long the application works on each envelope */
    /* Orders of the test. */
    _Atomic int order;
    atomic_bool pause;    /* send nothing more for the moment */
    _Atomic int64_t most; /* take no more than so many envelopes before CTKI_LIFE_DRAIN */
    atomic_bool weigh;    /* note `held'; false again when it has */
    /* Notes of the test. */
    ctki_process_t *process;
    int64_t started_us;
    int64_t noted; /* what the stayer had accepted for this life at least when it was over */
    /* Written by the process. */
    _Atomic uint64_t incarnation;
    _Atomic int paused; /* ways that send nothing because of `pause' */
    _Atomic int drained;
    _Atomic int64_t taken;    /* envelopes */
    _Atomic int32_t latest;   /* life of the sender of the last envelope; -1: none came */
    _Atomic int64_t restarts; /* events CTALK_PEER_RESTARTED */
    _Atomic uint64_t grown;   /* memory, at most, above what it was before the server, in bytes */
    _Atomic uint64_t held;    /* the same when weighed, without what the allocator had kept of freed memory */
    ctalk_stats_t stats;      /* totals at the end */
    ctki_trouble_t trouble;   /* empty: none */
    _Atomic size_t size;      /* entries */
    ctki_entry_t entry[CTKI_LIFE_ENTRIES];
} ctki_life_t;

/* Lives in shared memory, all zero but `most' (no limit) and `latest'; fails the test when there is none. */
ctki_life_t *ctki_lives_new (size_t count);
void ctki_lives_destroy (ctki_life_t *lives, size_t count);

/* Forks the process of a life. The test must have no server of its own. */
void ctki_life_start (ctki_life_t *life, ctki_process_t *process);

/* Waits until holds (arg), and fails the test when one of the lives has trouble or ended, or with what if it lasts too
 * long. */
void ctki_life_await (ctki_life_t *const *lives, size_t count, bool (*holds) (void *arg), void *arg, const char *what);

/* Order, and wait for what follows from it. */
void ctki_life_drain (ctki_life_t *const *lives, size_t count);
void ctki_life_weigh (ctki_life_t *life);
void ctki_life_end (ctki_life_t *life);

/* How many envelopes of pid a life has received whole rows of: fails unless they are 0, 1, 2 ... of one life. */
bool ctki_life_one_row (const ctki_life_t *life, ctalk_pid_t pid, int32_t number, int64_t count,
                        ctki_trouble_t *trouble);

/* How many events of this kind about pid. */
size_t ctki_life_events (const ctki_life_t *life, ctalk_pid_t pid, ctalk_kind_t kind);

/* Whether the events about pid could happen one after the other. */
bool ctki_life_legal (const ctki_life_t *life, ctalk_pid_t pid, ctki_trouble_t *trouble);

/* Prints all of it on standard output, for a failure. */
void ctki_life_print (const ctki_life_t *life);

#endif
