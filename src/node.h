/*
 * node.h - what the actors of one server share: who it is, its way in, its way
 * out, the figures that belong to no peer. Made before its actors and ended
 * after them.
 */
#ifndef CTKI_NODE_H
#define CTKI_NODE_H

#include "src/hall.h"
#include "src/inbox.h"
#include "src/outbox.h"
#include "src/session.h"

typedef struct {
    ctki_session_setup_t setup; /* of every session; peer is filled in for each */
    int64_t started_us;
    bool lazy;
    bool helping;    /* threads do the work of actors that sleep */
    ctki_sched_t sched; /* of the router's thread: its senders run like it, whoever starts them */
    int64_t spin_us; /* how long a receiver that leads looks again before it sleeps */
    ctki_pool_t *pool;
    ctki_limbo_t limbo;
    ctki_inbox_t inbox;
    ctki_outbox_t outbox;
    ctki_hall_t hall;
    ctki_gate_t changed; /* opened when something changed that a call may wait for */
    ctki_count_t routed, malformed;
    ctki_count_t helped, led; /* what threads of the application did in an actor's place */
    atomic_bool sender_failed; /* a sender got no socket: the router tries again */
    atomic_bool watching;      /* events about peers are wanted in the inbox */
    atomic_uint cuts;          /* peers to which the way out is cut */
    ctki_peer_t *gone;       /* removed peers that others still hold, under the outbox's lock */
    ctalk_stats_t gone_sums; /* what the other removed ones leave to the totals */
} ctki_node_t;

/* Tells those who wait for a change, if there are any. What changed is before
 * the look at the waiters, whatever wrote it: hence not a mere load. */
static inline void ctki_node_changed (ctki_node_t *node)
{
    if (atomic_fetch_add (&node->changed.waiters, 0) > 0)
        ctki_gate_open (&node->changed);
}

#endif
