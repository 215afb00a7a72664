/*
 * supervisor.c - actors that start other actors, and start them again when they
 * fail. They do it by the public calls, but that a child is stopped as the life
 * that it was started as: another actor may have its name by then. What to do next
 * says the plan (src/supervision.h), here it is done.
 *
 * All memory of a supervisor is one block, its nest: a copy of the children and
 * their names, and how its start went. It is held by whoever may look at it yet:
 * the supervisor, the caller that waits for the start, and each child that runs,
 * for one that is left behind needs its part of it to its end.
 *
 * How a child ended it says in the nest itself, before anybody else can know that
 * it did. So nothing depends on whether it was monitored in time, a
 * CTALK_ACTOR_DOWN about a former life of a child with a name is known as such, and
 * one that had ended when it was to be stopped can be told from one that did as it
 * was asked.
 */
#include <clustertalk.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>

#include "src/log.h"
#include "src/mem.h"
#include "src/server.h"
#include "src/supervision.h"

enum { PENDING = -1 }; /* the start is under way */

typedef struct nest nest_t;

typedef struct {
    nest_t *nest;
    const char *name; /* in the nest; NULL: none */
    ctalk_actor_fn *fn;
    void *arg;
    int stop_timeout_ms;
    uint64_t id;     /* of its last life ... */
    uint64_t serial; /* ... which others of its name do not have */
    int exit_reason; /* of that, once it has ended */
    atomic_bool ended;
} child_t;

struct nest {
    atomic_uint holders;
    ctki_gate_t gate;
    atomic_int outcome; /* of the start: PENDING, 0 or an errno */
    int error;          /* the first that a child could not be started for */
    ctki_supervision_t plan;
    size_t count;
    child_t child[]; /* behind them their names */
};

/* ---- the nest */

static size_t name_bytes (const ctalk_child_t *child)
{
    return child->name ? strlen (child->name) + 1 : 0;
}

static void fill (nest_t *nest, const ctalk_child_t *children)
{
    char *names = (char *) &nest->child[nest->count];
    for (size_t i = 0; i < nest->count; i++) {
        const ctalk_child_t *from = &children[i];
        nest->child[i] = (child_t){.nest = nest,
                                   .name = from->name ? names : NULL,
                                   .fn = from->fn,
                                   .arg = from->arg,
                                   .stop_timeout_ms = from->stop_timeout_ms};
        if (from->name)
            memcpy (names, from->name, name_bytes (from));
        names += name_bytes (from);
    }
}

/* Held by the supervisor and the caller. NULL: ENOMEM. */
static nest_t *nest_new (const ctalk_child_t *children, size_t count, const ctalk_supervision_t *how)
{
    size_t size = sizeof (nest_t) + count * sizeof (child_t);
    for (size_t i = 0; i < count; i++)
        size += name_bytes (&children[i]);
    nest_t *nest = ctki_alloc_zero (size);
    if (!nest)
        return NULL;
    if (ctki_supervision_init (&nest->plan, how, count)) {
        ctki_free (nest);
        return NULL;
    }
    atomic_init (&nest->holders, 2);
    atomic_init (&nest->outcome, PENDING);
    nest->count = count;
    fill (nest, children);
    return nest;
}

static void nest_release (nest_t *nest)
{
    if (atomic_fetch_sub (&nest->holders, 1) > 1)
        return;
    ctki_supervision_fini (&nest->plan);
    ctki_free (nest);
}

/* ---- how the start went */

static void announce (nest_t *nest, int outcome)
{
    if (atomic_load (&nest->outcome) != PENDING)
        return;
    atomic_store (&nest->outcome, outcome);
    ctki_gate_open (&nest->gate);
}

/* Signals do not end it: what is waited for comes soon, and cannot be taken back. */
static int await_start (nest_t *nest)
{
    for (;;) {
        unsigned ticket = ctki_gate_ticket (&nest->gate);
        int outcome = atomic_load (&nest->outcome);
        if (outcome != PENDING) {
            ctki_gate_leave (&nest->gate);
            return outcome;
        }
        (void) ctki_gate_wait (&nest->gate, ticket, CTKI_FOREVER);
    }
}

/* ---- a child */

/* What runs as the child. */
static int live (ctalk_actor_t *self, void *arg)
{
    child_t *child = arg;
    int exit_reason = child->fn (self, child->arg);
    child->exit_reason = exit_reason;
    atomic_store (&child->ended, true);
    nest_release (child->nest);
    return exit_reason;
}

static void complain (ctalk_actor_t *self, const child_t *child, const char *what)
{
    ctki_log (CTALK_LOG_WARNING, "pid %d: supervisor %016llx: child %zu (%s) %s",
              (int) ctalk_server_pid (ctalk_actor_server (self)), (unsigned long long) ctalk_actor_id (self),
              (size_t) (child - child->nest->child), child->name ? child->name : "no name", what);
}

/* Stops all and ends. A server that closes, or a supervisor that is to stop, is no failure of a child. */
static void give_up (nest_t *nest, int code)
{
    if (nest->error == 0)
        nest->error = code;
    ctki_supervision_end (&nest->plan, code == ESHUTDOWN ? 0 : ECHILD);
}

static void cannot_start (nest_t *nest, ctalk_actor_t *self, const child_t *child, int code)
{
    char text[160], reason[80];
    (void) snprintf (text, sizeof text, "cannot be started: %s", strerror_r (code, reason, sizeof reason));
    if (code != ESHUTDOWN)
        complain (self, child, text);
    give_up (nest, code);
}

static bool never (const ctalk_envelope_t *envelope, void *arg)
{
    (void) envelope, (void) arg;
    return false;
}

static bool is_to_stop (ctalk_actor_t *self)
{
    ctalk_envelope_t envelope;
    return ctalk_actor_recv_match (self, never, NULL, &envelope, 0) && errno == ESHUTDOWN;
}

/* One that is to stop itself starts nothing any more. */
static void start_child (nest_t *nest, ctalk_actor_t *self, size_t number)
{
    child_t *child = &nest->child[number];
    ctalk_server_t *server = ctalk_actor_server (self);
    if (is_to_stop (self)) {
        give_up (nest, ESHUTDOWN);
        return;
    }
    child->exit_reason = 0;
    atomic_store (&child->ended, false);
    atomic_fetch_add (&nest->holders, 1);
    child->id = ctki_server_spawn (server, child->name, live, child, &child->serial);
    if (child->id == 0) {
        int code = errno;
        nest_release (nest);
        cannot_start (nest, self, child, code);
        return;
    }
    ctki_supervision_started (&nest->plan, number);
    if (ctalk_actor_monitor (self, ctalk_server_pid (server), child->id))
        cannot_start (nest, self, child, errno);
}

/* One that is told to stop itself meanwhile waits on: this child has its time, too. 0, or an errno. */
static int await_stop (ctalk_server_t *server, const child_t *child)
{
    int64_t deadline_us = ctki_deadline_us (child->stop_timeout_ms);
    int code = ctki_server_stop (server, child->id, child->serial, child->stop_timeout_ms) ? errno : 0;
    if (code == ESHUTDOWN) {
        int left_ms = ctki_left_ms (child->stop_timeout_ms, deadline_us);
        code = ctki_server_stop (server, child->id, child->serial, left_ms) ? errno : 0;
    }
    return code;
}

/* That it is gone is not told any more: what comes for its id from now on is about its next life. */
static ctki_stop_t stop_child (nest_t *nest, ctalk_actor_t *self, child_t *child)
{
    ctalk_server_t *server = ctalk_actor_server (self);
    bool had_ended = atomic_load (&child->ended);
    int code = await_stop (server, child);
    if (code == ESHUTDOWN) { /* all actors were asked to stop by the server, and it waits for them */
        give_up (nest, code);
        return CTKI_STOP_TIMEOUT;
    }
    if (code != 0 && code != ESRCH) {
        complain (self, child, "has not stopped in time: it is left behind");
        return CTKI_STOP_TIMEOUT;
    }
    (void) ctalk_actor_unmonitor (self, ctalk_server_pid (server), child->id);
    if (!had_ended && code == 0)
        return CTKI_STOPPED;
    return child->exit_reason == 0 ? CTKI_STOP_DONE : CTKI_STOP_FAILED;
}

/* ---- the supervisor */

static void child_ended (nest_t *nest, ctalk_actor_t *self, size_t number)
{
    const child_t *child = &nest->child[number];
    if (!ctki_supervision_ended (&nest->plan, number, child->exit_reason, ctki_now_us ()))
        complain (self, child, "has ended once more: there were too many restarts");
}

/* The child that is up and has ended with this id; SIZE_MAX: none. */
static size_t find_ended (const nest_t *nest, uint64_t id)
{
    for (size_t i = 0; i < nest->count; i++) {
        const child_t *child = &nest->child[i];
        if (child->id == id && nest->plan.child[i] == CTKI_CHILD_UP && atomic_load (&child->ended))
            return i;
    }
    return SIZE_MAX;
}

/* Takes one envelope; those that are not about a child are dropped. */
static void take_envelope (nest_t *nest, ctalk_actor_t *self)
{
    ctalk_envelope_t envelope;
    if (ctalk_actor_recv (self, &envelope, -1)) {
        ctki_supervision_end (&nest->plan, 0);
        return;
    }
    size_t number = envelope.kind == CTALK_ACTOR_DOWN ? find_ended (nest, envelope.from) : SIZE_MAX;
    ctalk_envelope_close (&envelope);
    if (number != SIZE_MAX)
        child_ended (nest, self, number);
}

static void follow_plan (nest_t *nest, ctalk_actor_t *self)
{
    for (;;) {
        size_t number = 0;
        switch (ctki_supervision_next (&nest->plan, &number)) {
        case CTKI_STEP_START:
            start_child (nest, self, number);
            break;
        case CTKI_STEP_STOP:
            ctki_supervision_stopped (&nest->plan, number, stop_child (nest, self, &nest->child[number]));
            break;
        case CTKI_STEP_WAIT:
            announce (nest, 0);
            take_envelope (nest, self);
            break;
        case CTKI_STEP_EXIT:
            return;
        }
    }
}

static int supervise (ctalk_actor_t *self, void *arg)
{
    nest_t *nest = arg;
    follow_plan (nest, self);
    int reason = nest->plan.reason;
    announce (nest, nest->error);
    nest_release (nest);
    return reason;
}

/* ---- the call */

static bool names_valid (const ctalk_child_t *children, size_t count)
{
    bool valid = true;
    for (size_t i = 0; valid && i < count; i++)
        valid = !children[i].name || ctalk_actor_named (children[i].name) != 0;
    return valid;
}

/* Until the supervisor is gone, so that its name is free again. */
static void await_end (ctalk_server_t *server, uint64_t id)
{
    while (ctalk_actor_stop (server, id, -1) && errno == EINTR) {
    }
}

/* 0, or an errno; *id is the supervisor's. */
static int spawn (ctalk_server_t *server, const char *name, nest_t *nest, uint64_t *id)
{
    *id = ctalk_actor_spawn (server, name, supervise, nest);
    if (*id == 0) {
        int code = errno;
        nest_release (nest); /* the supervisor's part */
        return code;
    }
    int code = await_start (nest);
    if (code)
        await_end (server, *id);
    return code;
}

static uint64_t none (int code)
{
    errno = code;
    return 0;
}

/* One call on the server, from its beginning to its end: a close waits for it. */
uint64_t ctalk_supervisor_spawn (ctalk_server_t *server, const char *name, const ctalk_child_t *children, size_t count,
                                 const ctalk_supervision_t *how)
{
    int cancel;
    uint64_t id;
    if (!ctki_supervision_valid (how, children, count) || !names_valid (children, count))
        return none (EINVAL);
    if (ctki_server_enter_uncancelled (server, &cancel))
        return 0;
    nest_t *nest = nest_new (children, count, how);
    int code = nest ? spawn (server, name, nest, &id) : ENOMEM;
    if (nest)
        nest_release (nest);
    ctki_server_leave_uncancelled (server, cancel);
    return code ? none (code) : id;
}
