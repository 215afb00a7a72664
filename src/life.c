/*
 * life.c - one peer's incarnations. See life.h.
 */
#include "src/life.h"

#include "src/mem.h"

static void free_obits (ctki_obit_t *obits)
{
    while (obits) {
        ctki_obit_t *obit = obits;
        obits = obit->next;
        ctki_free (obit);
    }
}

void ctki_restart_destroy (ctki_restart_t **restart_p)
{
    ctki_restart_t *restart = *restart_p;
    if (!restart)
        return;
    *restart_p = NULL;
    free_obits (restart->obits);
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
    free_obits (life->early);
    life->early = NULL;
}

/* The last obituary is the newest. */
static void add_obit (ctki_obit_t **link, ctki_obit_t *obit)
{
    while (*link)
        link = &(*link)->next;
    obit->next = NULL;
    *link = obit;
}

/* Those that waited are told with this one: they are older than any of its own. */
static void inherit (ctki_life_t *life, ctki_restart_t *restart)
{
    while (life->early) {
        ctki_obit_t *obit = life->early;
        life->early = obit->next;
        add_obit (&restart->obits, obit);
    }
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
    inherit (life, restart);
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

/* To which of these an obituary belongs: that from its incarnation, or, if that one
 * was never seen here, to the one that came after. NULL: that is not known yet, as
 * the sender proved it and has not seen the last question. */
static ctki_restart_t *heir_of (ctki_restart_t *open, const ctki_obit_t *obit)
{
    for (ctki_restart_t *restart = open; restart; restart = restart->next) {
        if (restart->old_inc == obit->old_inc)
            return restart;
    }
    for (ctki_restart_t *restart = open; restart; restart = restart->next) {
        if (restart->inc == obit->new_inc)
            return restart;
    }
    return NULL;
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
    ctki_restart_t *open = answer (life, epoch), *heir = NULL;
    bool proof = epoch == life->epoch && inc != 0 && inc != life->inc;
    /* Without a question and a proof the sender lost its session with an
     * incarnation that lives: that is told, too (R8). */
    if (!open && (proof || obit)) {
        open = heir = begin (life, proof ? inc : life->inc, fresh);
        open->answered = true;
    } else if (proof)
        begin (life, inc, fresh)->answered = true;
    if (obit && !heir)
        heir = heir_of (open, obit);
    if (heir)
        inherit (life, heir);
    if (obit)
        add_obit (heir ? &heir->obits : &life->early, obit);
    return proof;
}

ctki_restart_t *ctki_life_question (const ctki_life_t *life)
{
    ctki_restart_t *restart = life->first;
    while (restart && (restart->asked || restart->answered))
        restart = restart->next;
    return restart;
}
