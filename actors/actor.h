/*
 * actor.h - the kit of the library's own actors. An actor is state, a step
 * function and a lock; nothing in a step depends on which thread runs it. The
 * actor's own thread makes and closes its sockets, obeys commands and sleeps in
 * poll on its pipe and its sockets until something is to be done.
 *
 * The pipe is an inproc pair: its bell rings the actor, and commands come
 * through it, in order.
 */
#ifndef CTKI_ACTOR_H
#define CTKI_ACTOR_H

#include <clustertalk.h>

#include "actors/lead.h"
#include "src/mailbox.h"
#include "src/sys.h"

enum { CTKI_ACTOR_FDS = 3 }; /* sockets of an actor besides its pipe, at most */

/* A command; what its fields mean is between the actor and its caller. */
typedef struct {
    int kind;
    int64_t number;
    void *pointer;
    int64_t from_us, to_us;
} ctki_command_t;

typedef struct {
    /* On the actor's thread, before it is ready. 0, or -1 with the error filled in. */
    int (*open) (void *self, ctalk_error_t *error);

    /* On the actor's thread, under its lock, before the step that follows. */
    void (*command) (void *self, const ctki_command_t *command);

    /* Under the lock, on any thread: do what there is to do, within bounds.
     * Returns when to be called again at the latest; now or before: at once. */
    int64_t (*step) (void *self, int64_t now_us);

    /* Under the lock: the actor is about to sleep. False when there is
     * something to do after all. */
    bool (*park) (void *self);

    /* After each step, with no lock held (user functions may run here).
     * Returns as step does. */
    int64_t (*after) (void *self, int64_t now_us);

    /* Under the lock, after a step: whether there was so much to do that nobody
     * else should lead. NULL: never. */
    bool (*busy) (void *self);

    /* The descriptors to sleep on; returns how many. */
    int (*watch) (void *self, int fds[CTKI_ACTOR_FDS]);

    /* On the actor's thread, at its end. */
    void (*close) (void *self);
} ctki_actor_ops_t;

typedef struct {
    const ctki_actor_ops_t *ops;
    void *self;
    pthread_mutex_t lock;
    ctki_bell_t bell;
    ctki_sock_t *pipe; /* the actor's end */
    pthread_t thread;
    const ctki_sched_t *sched; /* of the thread; NULL: as its maker */
    bool running; /* the thread was started and not joined */
    atomic_bool stop; /* the actor's thread: end after this step */
    atomic_bool asked; /* by another thread: to stop */
    int note_level; /* 0: no note */
    char note[200]; /* a line for the log, written once the lock is free */
    atomic_bool rang;  /* somebody woke because the pipe could be read */
    int64_t sleeps_us; /* under the lock: until when the thread sleeps, or a leader; 0: there is more to do */
    ctki_lead_t lead;
    ctki_gate_t ready;
    atomic_int opened; /* 0: not yet; 1: ready; -1: open failed */
    ctalk_error_t error;
} ctki_actor_t;

/* Prepares an actor without a thread; its bell can be rung. -1: errno. */
int ctki_actor_init (ctki_actor_t *actor, const ctki_actor_ops_t *ops, void *self);

/* Starts its thread. 0, or an errno. */
int ctki_actor_start (ctki_actor_t *actor, const char *name);

/* Waits until it is ready. -1: its open failed (the error is copied); it must
 * still be stopped. */
int ctki_actor_await (ctki_actor_t *actor, ctalk_error_t *error);

/* -1: the command could not be sent (no memory). */
int ctki_actor_tell (ctki_actor_t *actor, int kind, int64_t number, void *pointer);

/* The actor's own thread ends after this step (called from a step or command). */
static inline void ctki_actor_end (ctki_actor_t *actor)
{
    atomic_store_explicit (&actor->stop, true, memory_order_relaxed);
}

/* ---- other threads */

/* Takes the lock of an actor that is ready, to do some of its work: false if
 * somebody has it, or the actor is not ready. */
bool ctki_actor_borrow (ctki_actor_t *actor);
void ctki_actor_give_back (ctki_actor_t *actor);

/* Leading, between ctki_lead_begin () and ctki_lead_end (): until when to sleep
 * as things stand; 0: not at all, but to make a round. */
int64_t ctki_actor_lead_until (ctki_actor_t *actor);

/* Sleeps as the own thread does, and until `fd` can be read; with these signals
 * kept back, NULL: as they are. 0, or an errno. */
int ctki_actor_lead_sleep (ctki_actor_t *actor, int64_t until_us, int fd, const sigset_t *signals);

/* A round as the own thread makes it; returns as lead_until does. *busy: that was load. */
int64_t ctki_actor_lead_round (ctki_actor_t *actor, bool *busy);

/* Under the lock: a line for the log. It is passed on when the lock is free; the
 * last of several counts. */
void ctki_actor_note (ctki_actor_t *actor, int level, const char *format, ...) CTKI_PRINTF (3, 4);

/* After a start that failed, or whose open failed: as before it. */
void ctki_actor_reset (ctki_actor_t *actor);

/* Joins the thread of an actor that ends by itself. */
void ctki_actor_join (ctki_actor_t *actor);

/* After the thread was joined: obeys the commands that came too late for it. */
void ctki_actor_drain (ctki_actor_t *actor);

/* Stops and joins the thread, if there is one. The bell can still be rung. */
void ctki_actor_stop (ctki_actor_t *actor);

/* The same, and ends the actor: nobody rings it any more. */
void ctki_actor_fini (ctki_actor_t *actor);

#endif
