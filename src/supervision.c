/*
 * supervision.c - the plan of a supervisor: a phase, the state of each child, and
 * the times of the last restarts. See supervision.h.
 */
#include "src/supervision.h"

#include <errno.h>

#include "src/mem.h"

enum { WINDOW_RESTARTS = 8 }; /* how many times have room to begin with */

enum {
    STARTING, /* upwards: those that are down, from `from` on */
    RUNNING,
    STOPPING, /* downwards: those that are up, to `from`; then STARTING */
    ENDING    /* downwards: all that are up; then the exit */
};

/* ---- making */

static bool child_valid (const ctalk_child_t *child)
{
    return child->fn && child->stop_timeout_ms >= -1 && child->reserved == 0;
}

bool ctki_supervision_valid (const ctalk_supervision_t *how, const ctalk_child_t *children, size_t count)
{
    bool valid = how && children && count > 0
                 && (how->strategy == CTALK_ONE_FOR_ONE || how->strategy == CTALK_ALL_FOR_ONE
                     || how->strategy == CTALK_REST_FOR_ONE)
                 && how->restarts_max >= 0 && how->within_ms >= 0 && how->reserved == 0;
    for (size_t i = 0; valid && i < count; i++)
        valid = child_valid (&children[i]);
    return valid;
}

int ctki_supervision_init (ctki_supervision_t *plan, const ctalk_supervision_t *how, size_t count)
{
    *plan = (ctki_supervision_t){.how = *how, .count = count, .phase = STARTING};
    plan->child = ctki_alloc (count * sizeof *plan->child);
    for (size_t i = 0; plan->child && i < count; i++)
        plan->child[i] = CTKI_CHILD_DOWN;
    return plan->child ? 0 : -1;
}

void ctki_supervision_fini (ctki_supervision_t *plan)
{
    ctki_free (plan->child);
    ctki_free (plan->at_us);
    plan->child = NULL;
    plan->at_us = NULL;
}

/* ---- how many restarts */

/* Room for one more time: those that were forgotten make it, or it grows. */
static bool make_room (ctki_supervision_t *plan)
{
    if (plan->first + plan->restarts < plan->capacity)
        return true;
    if (plan->first > 0 && plan->first >= plan->restarts) {
        memmove (plan->at_us, plan->at_us + plan->first, plan->restarts * sizeof *plan->at_us);
        plan->first = 0;
        return true;
    }
    size_t capacity = CTKI_MAX ((size_t) WINDOW_RESTARTS, 2 * plan->capacity);
    int64_t *at_us = ctki_realloc (plan->at_us, capacity * sizeof *at_us);
    if (!at_us)
        return false;
    plan->at_us = at_us;
    plan->capacity = capacity;
    return true;
}

/* Whether there may be a restart now; if so, it is counted. Two that are apart by just the window are within it. */
static bool count_restart (ctki_supervision_t *plan, int64_t now_us)
{
    while (plan->restarts > 0 && now_us - plan->at_us[plan->first] > (int64_t) plan->how.within_ms * 1000) {
        plan->first++;
        plan->restarts--;
    }
    if (plan->restarts >= (size_t) plan->how.restarts_max || !make_room (plan))
        return false;
    plan->at_us[plan->first + plan->restarts++] = now_us;
    return true;
}

/* ---- what happens to the children */

static void enter_phase (ctki_supervision_t *plan, int phase)
{
    plan->phase = phase;
    plan->cursor = phase == STARTING ? plan->from : plan->count;
}

void ctki_supervision_end (ctki_supervision_t *plan, int reason)
{
    if (plan->phase == ENDING)
        return;
    plan->reason = reason;
    plan->from = 0;
    enter_phase (plan, ENDING);
}

void ctki_supervision_started (ctki_supervision_t *plan, size_t child)
{
    CTKI_ASSERT (plan->phase == STARTING && plan->child[child] == CTKI_CHILD_DOWN);
    plan->child[child] = CTKI_CHILD_UP;
}

void ctki_supervision_stopped (ctki_supervision_t *plan, size_t child, ctki_stop_t how)
{
    CTKI_ASSERT (plan->phase == STOPPING || plan->phase == ENDING);
    CTKI_ASSERT (plan->child[child] == CTKI_CHILD_UP);
    plan->child[child] = how == CTKI_STOP_DONE      ? CTKI_CHILD_DONE
                         : how == CTKI_STOP_TIMEOUT ? CTKI_CHILD_LEFT
                                                    : CTKI_CHILD_DOWN;
    if (how == CTKI_STOP_TIMEOUT)
        ctki_supervision_end (plan, ECHILD); /* it was to be started again, unless this is the end already */
}

bool ctki_supervision_ended (ctki_supervision_t *plan, size_t child, int exit_reason, int64_t now_us)
{
    CTKI_ASSERT (plan->phase == RUNNING && plan->child[child] == CTKI_CHILD_UP);
    plan->child[child] = exit_reason == 0 ? CTKI_CHILD_DONE : CTKI_CHILD_DOWN;
    if (exit_reason == 0)
        return true;
    if (!count_restart (plan, now_us)) {
        ctki_supervision_end (plan, ECHILD);
        return false;
    }
    plan->from = plan->how.strategy == CTALK_ALL_FOR_ONE ? 0 : child;
    enter_phase (plan, plan->how.strategy == CTALK_ONE_FOR_ONE ? STARTING : STOPPING);
    return true;
}

/* ---- the next step */

static bool find_to_start (ctki_supervision_t *plan)
{
    while (plan->cursor < plan->count && plan->child[plan->cursor] != CTKI_CHILD_DOWN)
        plan->cursor++;
    return plan->cursor < plan->count;
}

static bool find_to_stop (ctki_supervision_t *plan)
{
    while (plan->cursor > plan->from && plan->child[plan->cursor - 1] != CTKI_CHILD_UP)
        plan->cursor--;
    return plan->cursor > plan->from;
}

ctki_step_t ctki_supervision_next (ctki_supervision_t *plan, size_t *child)
{
    if (plan->phase == STOPPING || plan->phase == ENDING) {
        if (find_to_stop (plan)) {
            *child = plan->cursor - 1;
            return CTKI_STEP_STOP;
        }
        if (plan->phase == ENDING)
            return CTKI_STEP_EXIT;
        enter_phase (plan, STARTING);
    }
    if (plan->phase == STARTING) {
        if (find_to_start (plan)) {
            *child = plan->cursor;
            return CTKI_STEP_START;
        }
        enter_phase (plan, RUNNING);
    }
    return CTKI_STEP_WAIT;
}
