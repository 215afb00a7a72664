/*
 * lead.h - who runs the rounds of an actor: its own thread, or for a while
 * another one that waits for what the actor brings (it leads). Then a message
 * reaches who waits for it without waking a thread in between.
 *
 * While somebody leads, the own thread stands by: it sleeps where no message
 * wakes it. When the leader has left, with what it was waiting for, it will be
 * back soon or not at all. So the own thread looks every few milliseconds, and
 * takes over when there was none since its last look; when one stays, it sleeps
 * without limit in the end, and the leader wakes it when it leaves. Under load nobody leads: two threads get more done than one.
 *
 * This is the bookkeeping alone; the rounds are in actor.c.
 */
#ifndef CTKI_LEAD_H
#define CTKI_LEAD_H

#include "src/mailbox.h"
#include "src/sys.h"

typedef struct {
    atomic_int who;     /* OWN ... VACANT of lead.c */
    atomic_int own;     /* where the own thread is */
    atomic_uint turns;  /* leaders so far */
    ctki_gate_t gate;   /* where the own thread stands by */
    ctki_bell_t *bell;
} ctki_lead_t;

void ctki_lead_init (ctki_lead_t *lead, ctki_bell_t *bell);

/* ---- a leader */

/* Begins to lead: false if another one does, or nobody may now. Any thread. */
bool ctki_lead_begin (ctki_lead_t *lead);

/* Ends it. own: the actor's thread is to go on at once, and alone for a while. */
void ctki_lead_end (ctki_lead_t *lead, bool own);

/* Whether the own thread stands by, or is to. */
bool ctki_lead_is_led (ctki_lead_t *lead);

/* ---- the own thread */

/* After a round of its own: whether there was much to do. */
void ctki_lead_judge (ctki_lead_t *lead, bool busy);

/* Whether to sleep on the sockets: nobody leads, or has just led. Else stand by. */
bool ctki_lead_is_own (ctki_lead_t *lead);

/* Returns when the own thread is to make a round. */
void ctki_lead_stand_by (ctki_lead_t *lead);

#endif
