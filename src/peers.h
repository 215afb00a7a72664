/*
 * peers.h - who is there: a map from numbers to things, and the record that
 * the threads of a server share about one peer. Pure data: no socket, no
 * thread, no clock.
 */
#ifndef CTKI_PEERS_H
#define CTKI_PEERS_H

#include <clustertalk.h>

#include "src/base.h"
#include "src/sys.h"

/* ---- map: uint64_t to a pointer, by open addressing */

typedef struct {
    uint64_t key;
    void *value; /* NULL: free */
} ctki_slot_t;

typedef struct {
    ctki_slot_t *slots;
    size_t capacity; /* a power of two, or 0 */
    size_t count;
} ctki_map_t;

void ctki_map_fini (ctki_map_t *map);

/* The value of a key, or NULL. */
void *ctki_map_get (const ctki_map_t *map, uint64_t key);

/* Sets a key's value, not NULL. -1: ENOMEM. */
int ctki_map_put (ctki_map_t *map, uint64_t key, void *value);

/* Removes a key; returns the value it had, or NULL. */
void *ctki_map_remove (ctki_map_t *map, uint64_t key);

/* ---- peer */

struct ctki_sender;
struct ctki_inbound;
struct ctki_inlet;
struct ctki_ways;

/* What may be sent to one actor of a peer: its server grants it as the actor takes
 * what came. sent counts from when the other side began to count, or later (when
 * the actor ended): that leaves more room than there is, by what was under way,
 * never less. */
typedef struct {
    uint64_t actor;
    uint64_t sent, limit; /* charge */
    unsigned standing;    /* waiting senders that stand in line here */
    unsigned long mark;   /* the last pass over the line that found somebody standing here */
} ctki_credit_t;

/* What is known about one peer. Made when it is first needed, so that a listed
 * peer that nobody talks to costs a pointer. Reference-counted. */
typedef struct ctki_peer {
    /* What a send looks at and writes, together: with many peers each line of
     * memory is one more that is not in the cache. Under the outbox's lock. */
    ctalk_pid_t pid;
    unsigned lane;               /* of the outbox, and 1; 0: none yet */
    unsigned standing;           /* waiting senders that stand in line here */
    int judged;                  /* how it stood to the last broadcast */
    ctki_count_t admitted_bytes; /* the charge of all that was admitted; read without the lock, too */
    uint64_t room_bytes;         /* to be admitted before settled_bytes is looked at again */
    ctki_count_t accepted;       /* read without the lock, too */
    unsigned long mark;          /* the last pass over the line that found somebody standing here */
    char *endpoint;              /* where to connect; NULL: not known yet (its port is the system's choice) */
    atomic_bool removed;         /* no longer in the cluster; read without the lock, too */
    ctki_map_t credits;          /* what may be sent to its actors: id to ctki_credit_t */
    uint64_t flows;              /* the number of the flows to them, see notice.h; 0: new ones are to begin */

    /* The router's alone. */
    struct ctki_sender *sender; /* NULL: not started */
    struct ctki_inbound *inbound; /* the receiving half; NULL: nothing came yet */
    struct ctki_peer *ring_next;
    int told;                   /* the state that was told last, CTALK_STATE_... */
    bool ring;                  /* its mailbox got something in this step */

    struct ctki_inlet *state_event; /* under the inbox's lock: its state in the inbox, with nothing of it behind */

    struct ctki_peer *gone_next; /* the server's list of removed peers whose figures still move */

    /* Atomic, each on its own. */
    atomic_uint refs;
    atomic_int state;          /* CTALK_STATE_... */
    ctki_count_t settled_bytes;  /* of admitted_bytes, what is no longer queued */
    atomic_int_fast64_t state_since_us;
    atomic_int_fast64_t heard_us; /* when a valid frame last came, on either connection; 0: never */
    ctki_count_t incarnation;     /* as last seen */
    ctki_count_t delivered, abandoned, in_doubt, skipped;
    ctki_count_t refused_full, refused_not_up;
    ctki_count_t received, consumed, no_such_actor;
    ctki_count_t consumed_by_actors;
    ctki_count_t duplicates, malformed, retransmitted, reconnects, rtt_us, rtt_worst_us;
    ctki_count_t rebuilt, restarts, stuck_ms;
    atomic_uint reason; /* why it is not up, CTALK_WHY_... */
    atomic_bool left;   /* it said goodbye and has not come back */

    /* Cuts and impairments of the ways to and from it; NULL: there never were any. */
    _Atomic (struct ctki_ways *) ways;
} ctki_peer_t;

/* A peer with one reference; the endpoint is copied. NULL: ENOMEM. */
ctki_peer_t *ctki_peer_new (ctalk_pid_t pid, const char *endpoint, int64_t now_us);
void ctki_peer_hold (ctki_peer_t *peer);
void ctki_peer_release (ctki_peer_t *peer);

/* The charge admitted and not settled. */
static inline uint64_t ctki_peer_queued_bytes (const ctki_peer_t *peer)
{
    uint64_t settled = atomic_load (&peer->settled_bytes); /* first: it never passes the other one */
    return atomic_load (&peer->admitted_bytes) - settled;
}

/* Whether a broadcast may pass it over when its queue is full. */
static inline bool ctki_peer_is_down (ctki_peer_t *peer)
{
    int state = atomic_load_explicit (&peer->state, memory_order_relaxed);
    return state == CTALK_STATE_DOWN || state == CTALK_STATE_LEFT;
}

/* ---- crowd: the receivers of a broadcast, an immutable list */

typedef struct {
    atomic_uint refs;
    size_t count;
    ctki_peer_t *peer[];
} ctki_crowd_t;

/* Room for so many; the caller fills it with references. NULL: ENOMEM. */
ctki_crowd_t *ctki_crowd_new (size_t capacity);
void ctki_crowd_hold (ctki_crowd_t *crowd);
void ctki_crowd_release (ctki_crowd_t *crowd);

#endif
