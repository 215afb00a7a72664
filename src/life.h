/*
 * life.h - which incarnation of a peer is known, and in which order two
 * connections may prove another one: pure, under the router's lock.
 *
 * A pair of servers has two sessions, one each way, and each proves by itself
 * that the peer is another process now (RELIABILITY.md section 3.8). Whichever
 * comes first, the application is told once per incarnation, before anything of
 * it, with the fates of what the sender had sent to the former one:
 *
 *   inbound   the receiving half opened a session with it. The sender is asked
 *             what became of its own session; until it has answered, what comes
 *             of the new incarnation is kept aside. Each question has a number,
 *             the epoch.
 *   outbound  the sender opened a session with it, and reports that with the
 *             fates and the epoch of the last question that it has seen. A report
 *             of an older epoch proves nothing any more: what it says of the
 *             incarnation may be older than what asked the question. What it says
 *             of fates is an answer all the same.
 *
 * So no incarnation that was superseded is ever taken for a new one: an inbound
 * session is opened by a frame that answers an offer, and offers to others are
 * void once the outbound side has proved one (ctki_in_incarnation ()); an
 * outbound one by the answer to a greeting, and older greetings are void once the
 * sender was asked (ctki_out_incarnation ()).
 */
#ifndef CTKI_LIFE_H
#define CTKI_LIFE_H

#include "src/session.h"

/* One change of incarnation, until it was told. */
typedef struct ctki_restart {
    struct ctki_restart *next;
    uint32_t number; /* from 1; what comes after it is kept aside under it */
    uint32_t epoch;  /* of the question; 0: none was asked */
    bool asked;      /* the question went out */
    bool answered;
    uint64_t old_inc, inc; /* old_inc 0: the first that was seen */
    ctki_proof_t proof;    /* of the question */
    ctki_obit_t *obits;    /* of the sender's sessions with former ones, in order */
} ctki_restart_t;

typedef struct {
    uint64_t inc;      /* the one that is known; 0: none was seen */
    uint32_t epoch;    /* of the last question */
    uint32_t number;   /* of the last restart */
    ctki_restart_t *first, *last; /* those not told yet, in order */
    ctki_obit_t *early;           /* of sessions with the one that is known: who came after it is not known yet */
} ctki_life_t;

void ctki_life_fini (ctki_life_t *life); /* frees what was not told */

/* The receiving half opened a session: that is the proof. If it is not the one known,
 * *fresh is taken (and set to NULL), and true is returned: the sender is to be
 * asked, or ctki_life_answer () called if there is none. */
bool ctki_life_inbound (ctki_life_t *life, const ctki_proof_t *proof, ctki_restart_t **fresh);

/* The sender reports: the epoch that it has seen, the incarnation of its session
 * (0: none) and an obituary, taken over (NULL: none). True: that is a new
 * incarnation, *fresh was taken, and inbound sessions with others are over. */
bool ctki_life_report (ctki_life_t *life, uint32_t epoch, uint64_t inc, ctki_obit_t *obit, ctki_restart_t **fresh);

/* All questions are answered: there is nobody to ask. */
void ctki_life_answer (ctki_life_t *life);

/* The next question to be asked; NULL: none. The caller sets `asked`. */
ctki_restart_t *ctki_life_question (const ctki_life_t *life);

/* Under which number what comes now is kept aside; 0: it need not be. */
static inline uint32_t ctki_life_holds (const ctki_life_t *life)
{
    return life->last ? life->last->number : 0;
}

/* The next restart that can be told; NULL: none. It stays until it is dropped. */
static inline const ctki_restart_t *ctki_life_ready (const ctki_life_t *life)
{
    return life->first && life->first->answered ? life->first : NULL;
}
void ctki_life_drop (ctki_life_t *life); /* the first of them */

void ctki_restart_destroy (ctki_restart_t **restart_p);

#endif
