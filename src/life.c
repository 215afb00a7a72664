/*
 * life.c - one peer's incarnations. See life.h.
 */
#include "src/life.h"

#include "src/mem.h"

void ctki_restart_destroy (ctki_restart_t **restart_p)
{
    ctki_restart_t *restart = *restart_p;
    if (!restart)
        return;
    *restart_p = NULL;
    while (restart->obits) {
        ctki_obit_t *obit = restart->obits;
        restart->obits = obit->next;
        ctki_free (obit);
    }
    ctki_free (restart);
}

void ctki_life_drop (ctki_life_t *life)
{
    ctki_restart_t *restart = life->first;
    life->first = restart->next;
    if (!life->first)
        life->last = NULL;
    ctki_restart_destroy (&restart);
}

void ctki_life_fini (ctki_life_t *life)
{
    while (life->first)
        ctki_life_drop (life);
}

static ctki_restart_t *begin (ctki_life_t *life, uint64_t inc, ctki_restart_t **fresh)
{
    ctki_restart_t *restart = *fresh;
    *fresh = NULL;
    *restart = (ctki_restart_t) {.number = ++life->number, .old_inc = life->inc, .inc = inc};
    if (restart->number == 0)
        restart->number = ++life->number;
    *(life->last ? &life->last->next : &life->first) = restart;
    life->last = restart;
    life->inc = inc;
    return restart;
}

bool ctki_life_inbound (ctki_life_t *life, const ctki_proof_t *proof, ctki_restart_t **fresh)
{
    if (life->inc == proof->inc)
        return false;
    ctki_restart_t *restart = begin (life, proof->inc, fresh);
    restart->epoch = ++life->epoch;
    restart->proof = *proof;
    return true;
}

/* The last obituary is the newest. */
static void add_obit (ctki_restart_t *restart, ctki_obit_t *obit)
{
    ctki_obit_t **link = &restart->obits;
    while (*link)
        link = &(*link)->next;
    obit->next = NULL;
    *link = obit;
}

/* To which of these an obituary belongs: the one that came after that incarnation;
 * if that was never seen here, the first one of another. */
static ctki_restart_t *heir_of (ctki_restart_t *open, const ctki_obit_t *obit)
{
    for (ctki_restart_t *restart = open; restart; restart = restart->next) {
        if (restart->old_inc == obit->old_inc)
            return restart;
    }
    for (ctki_restart_t *restart = open; restart; restart = restart->next) {
        if (restart->inc != obit->old_inc)
            return restart;
    }
    return open;
}

/* Answers the questions up to this epoch; returns the first that was open. */
static ctki_restart_t *answer (ctki_life_t *life, uint32_t epoch)
{
    ctki_restart_t *open = NULL;
    for (ctki_restart_t *restart = life->first; restart; restart = restart->next) {
        if (restart->answered)
            continue;
        open = open ? open : restart;
        restart->answered = (int32_t) (epoch - restart->epoch) >= 0;
    }
    return open;
}

void ctki_life_answer (ctki_life_t *life)
{
    answer (life, life->epoch);
}

bool ctki_life_report (ctki_life_t *life, uint32_t epoch, uint64_t inc, ctki_obit_t *obit, ctki_restart_t **fresh)
{
    ctki_restart_t *open = answer (life, epoch);
    bool proof = epoch == life->epoch && inc != 0 && inc != life->inc;
    /* Without a question and a proof the sender lost its session with an
     * incarnation that lives: that is told, too (R8). */
    if (!open && (proof || obit)) {
        open = begin (life, proof ? inc : life->inc, fresh);
        open->answered = true;
    } else if (proof)
        begin (life, inc, fresh)->answered = true;
    if (obit)
        add_obit (heir_of (open, obit), obit);
    return proof;
}

ctki_restart_t *ctki_life_question (const ctki_life_t *life)
{
    ctki_restart_t *restart = life->first;
    while (restart && (restart->asked || restart->answered))
        restart = restart->next;
    return restart;
}
