/*
 * supervision.h - what a supervisor does next: which of its children it stops and
 * starts, in which order, and when it gives up. Pure: what became of the children
 * goes in, and the time; steps come out. Nothing here is thread-safe.
 *
 * Whoever uses it asks for the next step (ctki_supervision_next ()), does it, and
 * says how it went:
 *
 *   START   ctki_supervision_started (), or ctki_supervision_end () where it
 *           cannot be started
 *   STOP    ctki_supervision_stopped ()
 *   WAIT    nothing is to be done until a child ends (ctki_supervision_ended ())
 *           or the supervisor is stopped (ctki_supervision_end ())
 *   EXIT    all is done: `reason`
 *
 * One child that ends is one restart, however many children are started again for
 * it. Children that end while others are stopped for that restart belong to it if
 * their turn to be stopped comes yet: they are found to have ended then. All others
 * wait for the next WAIT.
 */
#ifndef CTKI_SUPERVISION_H
#define CTKI_SUPERVISION_H

#include <clustertalk.h>

#include "src/base.h"

typedef enum {
    CTKI_CHILD_DOWN, /* to be started, when the plan comes to it */
    CTKI_CHILD_UP,
    CTKI_CHILD_DONE, /* it has done its work: left alone */
    CTKI_CHILD_LEFT  /* it did not stop in time: left behind */
} ctki_child_state_t;

typedef enum { CTKI_STEP_START, CTKI_STEP_STOP, CTKI_STEP_WAIT, CTKI_STEP_EXIT } ctki_step_t;

/* What became of a child that was to be stopped. */
typedef enum {
    CTKI_STOPPED,     /* it did as it was asked */
    CTKI_STOP_DONE,   /* before it was asked, it had ended by itself with reason 0 ... */
    CTKI_STOP_FAILED, /* ... or with another one */
    CTKI_STOP_TIMEOUT /* it has not ended */
} ctki_stop_t;

typedef struct {
    ctalk_supervision_t how;
    size_t count;
    ctki_child_state_t *child;
    int phase;
    size_t from;   /* the first child that the restart may touch */
    size_t cursor; /* where the search for the next child goes on */
    int reason;    /* of the end */
    /* When there were restarts, those that may still be within a window with the next one. */
    int64_t *at_us;
    size_t first, restarts, capacity;
} ctki_supervision_t;

/* Whether a supervisor can be made so: a strategy, numbers and children as clustertalk.h says; names are not looked at.
 */
bool ctki_supervision_valid (const ctalk_supervision_t *how, const ctalk_child_t *children, size_t count);

/* All children are to be started. how must be valid. -1: ENOMEM. */
int ctki_supervision_init (ctki_supervision_t *plan, const ctalk_supervision_t *how, size_t count);
void ctki_supervision_fini (ctki_supervision_t *plan);

/* The next step, and which child to start or stop; the same until it was said how it went. */
ctki_step_t ctki_supervision_next (ctki_supervision_t *plan, size_t *child);

void ctki_supervision_started (ctki_supervision_t *plan, size_t child);
void ctki_supervision_stopped (ctki_supervision_t *plan, size_t child, ctki_stop_t how);

/* At a WAIT: a child that is up ended by itself. false: it should be started again,
 * and there were too many restarts (or no memory to count them): the plan is now to
 * stop all others and to exit with ECHILD. */
bool ctki_supervision_ended (ctki_supervision_t *plan, size_t child, int exit_reason, int64_t now_us);

/* At any time: stops all that are up, and exits with this reason, or with that of the end that has begun already. */
void ctki_supervision_end (ctki_supervision_t *plan, int reason);

#endif
