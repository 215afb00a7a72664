/*
 * outbox.h - the way in for everything that is sent: admission, and the
 * router's mailbox. One lock covers both, so the order in which sends are
 * accepted is the order in which they travel.
 *
 * Admission: an envelope is taken while less than queue_bytes is queued for
 * its peer, so nothing can fill up behind the router and the router never
 * waits. Who finds no room stands in line, holding nothing: first come, first
 * served per peer. A broadcast needs room at all peers that are not down at
 * once; while it waits it stands only at those that lacked room at its last
 * try, so that sends to the others pass; one broadcast stands at a time.
 *
 * What is for an actor of a peer needs that actor's credit, too. Who lacks it
 * stands at the credit and not at the peer: those who send elsewhere pass. A
 * broadcast that lacks it somewhere stands nowhere, and tries again.
 *
 * Lanes: small envelopes for one peer gather in a run while others for other
 * peers are sent in between; each lane has one run that can grow. What is for all
 * keeps its place among what is for each: it closes the runs of all lanes.
 */
#ifndef CTKI_OUTBOX_H
#define CTKI_OUTBOX_H

#include <clustertalk.h>

#include "src/inbox.h"
#include "src/mailbox.h"
#include "src/route.h"

enum { CTKI_LANES = 64 }; /* with more peers some share one, and gather less */

typedef struct ctki_outbox {
    ctki_mailbox_t mailbox; /* the router's; its lock covers all below */
    ctki_writer_t *lane[CTKI_LANES]; /* lane 0 is the mailbox's writer, which those for all go through, too */
    uint64_t open_lanes;             /* bits: of those above 0, that have a run that can grow */
    unsigned lanes;                  /* given to peers so far */
    ctki_writer_t *hot;              /* the lane of the last small envelope */
    ctki_route_t route;
    ctki_bell_t *bell; /* the router's */
    bool (*help) (void *self); /* what a sending thread does for a router that sleeps; false: ring. NULL: always ring */
    void *helps;               /* its self, the router */
    ctki_inbox_t *inbox;
    ctki_flow_t *local;  /* what the server sent to itself */
    ctki_peer_t *self;   /* the figures of that */
    uint64_t queue_bytes, message_bytes;
    uint64_t incarnation; /* of this process: the number of its first flows to actors; ... */
    uint64_t anew;        /* ... and how often some began anew since */
    size_t copy_bytes; /* payloads from here on are not copied into a batch */
    bool closing;
    struct ctki_waiter *first, *last; /* the line */
    unsigned long pass;
    atomic_uint waiting; /* in the line, or about to be */
    ctki_count_t refused_unreachable, refused_invalid, refused_shutdown, refused_memory, refused_interrupted;
    ctki_count_t refused_too_big;
    ctki_count_t refused_full, refused_not_up; /* of broadcasts: those to one peer are counted there */
    ctki_count_t rung;
} ctki_outbox_t;

/* The route, queue_bytes, message_bytes, incarnation, local and self are set by the caller. */
void ctki_outbox_init (ctki_outbox_t *outbox, ctki_pool_t *pool, size_t run_limit, ctki_bell_t *bell,
                       ctki_inbox_t *inbox);
void ctki_outbox_fini (ctki_outbox_t *outbox);

/* Sends count envelopes in order. body: a payload to be shared instead of
 * copied (count is 1, of at least CTKI_LARGE_BYTES), whose reference is taken on success only. Returns how
 * many were accepted, or -1 with errno as ctalk_send (). */
int ctki_outbox_send (ctki_outbox_t *outbox, const ctalk_envelope_t *envelopes, size_t count, ctki_buf_t *body,
                      int timeout_ms);

/* The same for one envelope; a wait for room ends with ESHUTDOWN when *stop (NULL:
 * none) is true: see ctki_outbox_interrupt (). 0, or -1. */
int ctki_outbox_send_until (ctki_outbox_t *outbox, const ctalk_envelope_t *envelope, int timeout_ms,
                            const atomic_bool *stop);

/* The same for all that this thread sends: it is an actor's, which may be told to stop. */
void ctki_outbox_stop_thread (const ctki_outbox_t *outbox, const atomic_bool *stop);

/* An envelope that no thread waits for: it is sent, or stands in line for as long as
 * it takes. The payload is the caller's until the end; a large one is copied, once.
 * NULL: ENOMEM. */
typedef struct ctki_waiter ctki_waiter_t;
ctki_waiter_t *ctki_outbox_begin (ctki_outbox_t *outbox, const ctalk_envelope_t *envelope);

/* EAGAIN: it stands; 0: sent; else an errno. The end takes it out of the line and frees it. */
int ctki_outbox_look (ctki_outbox_t *outbox, const ctki_waiter_t *waiter);
int ctki_outbox_end (ctki_outbox_t *outbox, ctki_waiter_t *waiter);

/* *stop has become true: who waits with it fails. */
void ctki_outbox_interrupt (ctki_outbox_t *outbox, const atomic_bool *stop);

/* Sends a small envelope to a peer whether there is room or not: what servers tell
 * each other about their actors. *wake is set when the router is to be woken
 * afterwards. 0, or an errno. */
int ctki_outbox_post (ctki_outbox_t *outbox, const ctalk_envelope_t *envelope, bool *wake);
void ctki_outbox_wake_router (ctki_outbox_t *outbox);

/* A refusal in another place: it is counted as if it were here. */
void ctki_outbox_count_refusal (ctki_outbox_t *outbox, ctki_peer_t *peer, int error);

/* 0, or why nobody would take such an envelope: EINVAL, EMSGSIZE. */
int ctki_outbox_check (const ctki_outbox_t *outbox, const ctalk_envelope_t *envelope);

/* ---- credit for the actors of peers */

/* An actor of this peer may be sent so much since the flow of that number began. -1: ENOMEM. */
int ctki_outbox_grant (ctki_outbox_t *outbox, ctalk_pid_t pid, uint64_t actor, uint64_t flows, uint64_t limit);

/* Its flow is over: what is sent from now on begins another one. actor 0: all of them,
 * and the peer is told so ahead of what is sent to its actors next. */
void ctki_outbox_forget (ctki_outbox_t *outbox, ctalk_pid_t pid, uint64_t actor);

/* The router: all that was sent since the last time, in order; false: nothing. */
bool ctki_outbox_take (ctki_outbox_t *outbox, ctki_items_t *items);

/* Room was made: `charge` of what was queued for the peer is settled. */
void ctki_outbox_settled (ctki_outbox_t *outbox, ctki_peer_t *peer, int64_t charge);

/* A peer went down or left: those who wait look again. */
void ctki_outbox_look_again (ctki_outbox_t *outbox);

/* Refuse everything from now on; those who wait fail with ESHUTDOWN. */
void ctki_outbox_close (ctki_outbox_t *outbox);

/* With the lock held: the peer is no longer a member; those who wait for it
 * fail with EHOSTUNREACH. */
void ctki_outbox_drop (ctki_outbox_t *outbox, ctki_peer_t *peer);

static inline void ctki_outbox_lock (ctki_outbox_t *outbox)
{
    ctki_lock_take (&outbox->mailbox.lock);
}

static inline void ctki_outbox_unlock (ctki_outbox_t *outbox)
{
    ctki_lock_release (&outbox->mailbox.lock);
}

#endif
