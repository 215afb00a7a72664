/*
 * ways.h - the ways between this server and one peer, when tests make them bad:
 * what was asked for (shared, set from any thread), and what one actor does with
 * the frames of one way (its own, under its lock). A way that nobody ever
 * touched costs a look at one pointer.
 *
 * Each direction of a pair has two ways here: frames of the session that this
 * server sends pass the sender, the answers to the other session the router; and
 * the same coming in.
 */
#ifndef CTKI_WAYS_H
#define CTKI_WAYS_H

#include "src/fault.h"
#include "src/lock.h"
#include "src/peers.h"
#include "src/sock.h"

/* ---- what was asked for */

/* Under the outbox's lock, but for turn. */
typedef struct ctki_ways {
    atomic_uint turn; /* counts the changes */
    unsigned cut;     /* CTALK_IN | CTALK_OUT */
    unsigned bad;     /* the same */
    ctalk_impairment_t in, out;
} ctki_ways_t;

/* With the outbox's lock held. -1: ENOMEM. */
int ctki_ways_cut (ctki_peer_t *peer, unsigned directions, bool on);
int ctki_ways_impair (ctki_peer_t *peer, unsigned directions, const ctalk_impairment_t *how);

/* ---- one actor's end of one way */

typedef struct {
    unsigned turn; /* of the changes that are known here */
    ctki_fault_t fault;
    ctki_delayed_t delayed;
} ctki_way_t; /* all bytes zero: good */

/* Whether what is on this way must be judged. lock: the outbox's; direction:
 * CTALK_IN or CTALK_OUT; salt tells the ways of one direction apart. *changed is
 * set when the way was changed since the last look. */
bool ctki_way_look (ctki_way_t *way, ctki_peer_t *peer, ctki_lock_t *lock, unsigned direction, uint64_t salt,
                    bool *changed);

/* Passes judgement: how many copies go on at once; those that go on later are
 * in way->delayed. */
int ctki_way_judge (ctki_way_t *way, int64_t now_us, uint64_t tag, const uint8_t *const *data, const size_t *size,
                    int count);

/* The connection broke: what was on its way is lost. */
static inline void ctki_way_clear (ctki_way_t *way)
{
    if (CTKI_UNLIKELY (way->delayed.head != NULL))
        ctki_delayed_clear (&way->delayed);
}

#endif
