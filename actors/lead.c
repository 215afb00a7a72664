/*
 * lead.c - leaving each other's way. See lead.h.
 *
 * Two pairs of "write, then look at what the other one wrote" hold it together,
 * all sequentially consistent: a leader that leaves writes `who` and looks where
 * the own thread is; the own thread writes where it is and looks at `who`. And
 * who rings counts the call and looks whether somebody leads and hears it, and for
 * waiters at the gate; a leader that leaves says so and looks at the count; the
 * own thread takes its ticket and looks at the count.
 */
#include "actors/lead.h"

#include <errno.h>

enum {
    TICK_MIN_MS = 1, /* from the first leader to the own thread's first look, ... */
    TICK_MAX_MS = 8  /* ... doubled from look to look up to that */
};

/* who */
enum {
    OWN,   /* the own thread; others may lead */
    BUSY,  /* the own thread; others may not */
    LED,   /* a leader */
    VACANT /* a leader has left; others may lead */
};

/* own */
enum { POLLING, TICKING, RESTING };

void ctki_lead_init (ctki_lead_t *lead, ctki_bell_t *bell)
{
    *lead = (ctki_lead_t){.bell = bell};
    bell->standby = &lead->gate;
}

/* ---- a leader */

bool ctki_lead_begin (ctki_lead_t *lead)
{
    int who = atomic_load (&lead->who);
    while (who == OWN || who == VACANT) {
        if (atomic_compare_exchange_weak (&lead->who, &who, LED)) {
            atomic_store (&lead->bell->led, true);
            atomic_fetch_add (&lead->turns, 1);
            return true;
        }
    }
    return false;
}

bool ctki_lead_is_led (ctki_lead_t *lead)
{
    int who = atomic_load (&lead->who);
    return who == LED || who == VACANT;
}

void ctki_lead_end (ctki_lead_t *lead, bool own)
{
    atomic_store (&lead->bell->led, false);
    atomic_store (&lead->who, own ? BUSY : VACANT);
    int where = atomic_load (&lead->own);
    if (own || where == POLLING) /* its sleep ends too late: it does not know what is due meanwhile */
        ctki_bell_ring (lead->bell);
    if (own || where == RESTING || ctki_bell_is_called (lead->bell)) /* a ring that the leader did not hear, too */
        ctki_gate_open (&lead->gate);
}

/* ---- the own thread */

void ctki_lead_judge (ctki_lead_t *lead, bool busy)
{
    int from = busy ? OWN : BUSY;
    atomic_compare_exchange_strong (&lead->who, &from, busy ? BUSY : OWN);
}

bool ctki_lead_is_own (ctki_lead_t *lead)
{
    atomic_store (&lead->own, POLLING);
    return !ctki_lead_is_led (lead);
}

static bool take_over (ctki_lead_t *lead)
{
    int vacant = VACANT;
    return atomic_compare_exchange_strong (&lead->who, &vacant, OWN);
}

/* One sleep; false: the time is over, or nobody leads any more. */
static bool sleep_once (ctki_lead_t *lead, unsigned ticket, bool rest, int64_t tick_us)
{
    atomic_store (&lead->own, rest ? RESTING : TICKING);
    int who = atomic_load (&lead->who);
    if (who == OWN || who == BUSY || (who == VACANT && (rest || ctki_bell_is_called (lead->bell)))) {
        ctki_gate_leave (&lead->gate);
        return true;
    }
    int64_t until_us = rest ? CTKI_FOREVER : ctki_now_us () + tick_us;
    return ctki_gate_wait (&lead->gate, ticket, until_us) != EAGAIN;
}

void ctki_lead_stand_by (ctki_lead_t *lead)
{
    int64_t tick_us = TICK_MIN_MS * CTKI_MS;
    unsigned seen = atomic_load (&lead->turns);
    bool rest = false;
    for (;;) {
        unsigned ticket = ctki_gate_ticket (&lead->gate);
        bool called = sleep_once (lead, ticket, rest, tick_us);
        unsigned turns = atomic_load (&lead->turns);
        bool same = turns == seen;
        int who = atomic_load (&lead->who);
        if (who == OWN || who == BUSY)
            return;
        if (who == VACANT && (called ? ctki_bell_is_called (lead->bell) : same) && take_over (lead))
            return;
        rest = !called && same && tick_us == TICK_MAX_MS * CTKI_MS; /* the leader stays */
        tick_us = called ? TICK_MIN_MS * CTKI_MS : CTKI_MIN (2 * tick_us, TICK_MAX_MS * CTKI_MS);
        seen = turns;
    }
}
