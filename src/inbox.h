/*
 * inbox.h - what was received and not taken yet: frames of envelopes in order,
 * handed out one by one to any number of threads.
 *
 * A flow counts what the application has taken of one session (or of what the
 * server sent to itself); the router reads it to extend the sender's credit.
 *
 * Events about peers stand among the envelopes. They take nobody's room; of
 * several states of a peer with nothing else of it between them, the newest is
 * kept, so that a peer that comes and goes does not fill the inbox.
 *
 * What may go wrong: nothing fills it beyond bounds, because room is prepaid by
 * the window of each session (RELIABILITY R12).
 */
#ifndef CTKI_INBOX_H
#define CTKI_INBOX_H

#include <clustertalk.h>

#include "src/envelope.h"
#include "src/mailbox.h"
#include "src/peers.h"
#include "src/session.h"

typedef struct ctki_flow {
    ctki_peer_t *peer;
    unsigned refs; /* under the inbox's lock, as all below */
    bool local;    /* envelopes of the server to itself */
    uint64_t number; /* the router's: what the peer's flows to actors are called now, see notice.h */
    uint64_t consumed, byte, frames;
    uint64_t wake_byte, wake_frame; /* from here on the router wants to know */
    bool listed;
    struct ctki_flow *next;
} ctki_flow_t;

/* What one frame brought: a run of records, or one envelope; or an event. */
typedef struct ctki_inlet {
    struct ctki_inlet *next;
    ctki_flow_t *flow;   /* of an event: NULL, ... */
    ctki_peer_t *peer;   /* ... and whom it is about, a reference */
    ctalk_kind_t kind;   /* CTALK_MESSAGE, or the event's */
    uint32_t held_under; /* the router's, while it is kept aside */
    ctki_buf_t *buf;   /* holds the data: one reference per envelope */
    const uint8_t *at; /* RUN: the next record; ONE: the payload */
    size_t left;       /* RUN: bytes of records; ONE: of payload */
    uint32_t count;    /* envelopes not taken yet, those addressed to an actor not among them */
    uint64_t frames;   /* counted as consumed with the last of them */
    bool one;
    ctki_record_t record; /* ONE */
    bool for_actors;      /* of a run: the others are in another inlet; count is that of these */
    uint32_t unpacked;    /* those of them that were delivered, ... */
    uint64_t charge;      /* ... and their charge */
} ctki_inlet_t;

/* What a receiver may do instead of waiting at the gate: bring itself what comes
 * (it leads, see actors/lead.h). self is the router's. */
typedef struct {
    bool (*begin) (void *self); /* under the inbox's lock; false: not now */
    /* Brings what is there, or waits for it until the deadline. 0: look again;
     * EAGAIN, EINTR: as a wait at the gate. *busy: end it, and wait there. Signals
     * are kept back, but for those that `signals` lets through while it waits: so
     * no handler runs but that it is told, and none while locks are held. */
    int (*turn) (void *self, int64_t deadline_us, const sigset_t *signals, bool *busy);
    void (*end) (void *self, bool busy); /* under the inbox's lock */
    bool (*serve) (void *self); /* does what the router's thread would be rung for; false: ring */
} ctki_lead_ops_t;

/* Where a thread waits for something that does not come through the inbox (an
 * actor for its mailbox, a call for its answer): at the seat's gate, or, as a
 * guest, leading. */
typedef struct ctki_seat {
    ctki_gate_t gate;
    atomic_bool leads;
    bool listed; /* under the inbox's lock, as next: it would lead if nobody did */
    struct ctki_seat *next, **link;
    atomic_uint pins;    /* threads that are about to wake it: it must not go before they have */
    atomic_bool pending; /* one of them has not begun: it will see whatever is there by then */
    struct ctki_seat *wake_next; /* in a list of such */
} ctki_seat_t;

typedef struct {
    ctki_lock_t lock;
    ctki_inlet_t *head, *tail;
    ctki_gate_t gate;   /* where receivers wait */
    const ctki_lead_ops_t *lead; /* NULL: nobody leads */
    void *leads;        /* its self */
    bool led;           /* a receiver leads, or a guest: ... */
    bool (*guest_has) (void *arg); /* ... whether what he waits for is there; NULL: it is no guest */
    void *guest_arg;
    ctki_seat_t *seats; /* of those who would lead if nobody did */
    bool offered;       /* one of those who wait was woken to lead, and has not tried to yet */
    atomic_bool dozing; /* it sleeps, and wants its descriptor written */
    int lead_fd;        /* that descriptor, an eventfd */
    uint64_t roused;    /* the leader's: how often it was written, or is about to be, and not read */
    atomic_uint receivers; /* receives that wait, those that just look again among them */
    atomic_uint wakes;     /* receives that are to return EINTR */
    bool closing;
    int fd;             /* an eventfd, -1: nobody asked for one */
    ctki_flow_t *told;  /* flows that the router wants to know of */
    ctki_bell_t *bell;  /* the router's */
} ctki_inbox_t;

void ctki_inbox_init (ctki_inbox_t *inbox, ctki_bell_t *bell);
void ctki_inbox_fini (ctki_inbox_t *inbox); /* drops what is left */

/* A flow with one reference; holds the peer. NULL: ENOMEM. */
ctki_flow_t *ctki_flow_new (ctki_peer_t *peer, bool local);
void ctki_flow_release (ctki_inbox_t *inbox, ctki_flow_t *flow);

/* Adds what a frame brought; wake_byte and wake_frame are the flow's from now
 * on. The inbox takes the inlet; the inlet's flow gets a reference. */
void ctki_inbox_put (ctki_inbox_t *inbox, ctki_inlet_t *inlet, uint64_t wake_byte, uint64_t wake_frame);

/* Adds an event: the inlet has its peer, its kind and its ctalk_event_t in buf.
 * The inbox takes the inlet. */
void ctki_inbox_put_event (ctki_inbox_t *inbox, ctki_inlet_t *inlet);

/* An inlet for an event that is not put yet; the event is copied, its fates are
 * those of the list. NULL: ENOMEM. */
ctki_inlet_t *ctki_inlet_event (ctki_peer_t *peer, ctalk_kind_t kind, const ctalk_event_t *event,
                                const ctki_obit_t *obits);
void ctki_inlet_destroy (ctki_inbox_t *inbox, ctki_inlet_t *inlet); /* one that was not put */

/* While an inlet waits elsewhere, its flow must live. */
void ctki_flow_hold (ctki_inbox_t *inbox, ctki_flow_t *flow);
void ctki_flow_unhold (ctki_inbox_t *inbox, ctki_flow_t *flow);

/* Envelopes of a flow that nobody will take count as consumed at once. */
void ctki_inbox_skip (ctki_inbox_t *inbox, ctki_flow_t *flow, uint64_t envelopes, uint64_t byte, uint64_t frames);

/* From now on the router wants to know of consumption from here on; says so at
 * once (true) if it is there already. */
void ctki_inbox_watch (ctki_inbox_t *inbox, ctki_flow_t *flow, uint64_t wake_byte, uint64_t wake_frame);

/* The router: the next flow that it wanted to know of, with a copy of its
 * figures; NULL: none. */
ctki_flow_t *ctki_inbox_told (ctki_inbox_t *inbox, ctki_flow_t *copy);

/* The figures of a flow now. */
void ctki_inbox_read (ctki_inbox_t *inbox, const ctki_flow_t *flow, ctki_flow_t *copy);

/* Takes up to capacity envelopes; returns how many, or -1 with errno as
 * ctalk_recv (). local_charge: the charge of those that were local. */
int ctki_inbox_take (ctki_inbox_t *inbox, ctalk_envelope_t *envelopes, size_t capacity, int timeout_ms,
                     uint64_t *local_charge);

/* From now on receivers lead. -1: errno. */
int ctki_inbox_accept_leaders (ctki_inbox_t *inbox, const ctki_lead_ops_t *ops, void *self);

bool ctki_inbox_is_empty (ctki_inbox_t *inbox); /* nothing to be taken, or told */
bool ctki_inbox_leads_on (ctki_inbox_t *inbox); /* the leader: what it waits for is not there */

/* The leader is about to sleep; false: there is something to be taken, or told.
 * Then, and after its sleep on inbox->lead_fd, it is awake. */
bool ctki_inbox_doze (ctki_inbox_t *inbox);
void ctki_inbox_awake (ctki_inbox_t *inbox);

/* Waits until has (arg) is true, which looks at things that somebody changes and
 * then calls ctki_seat_wake (). lead: what is awaited may come from another
 * server. 0, or an errno: EAGAIN: the deadline has passed; EINTR: a handler ran.
 * Also true for ever, once it is closing: has (arg). */
int ctki_seat_wait (ctki_inbox_t *inbox, ctki_seat_t *seat, bool lead, bool (*has) (void *arg), void *arg,
                    int64_t deadline_us);
void ctki_seat_wake (ctki_inbox_t *inbox, ctki_seat_t *seat);

int ctki_inbox_fd (ctki_inbox_t *inbox);
void ctki_inbox_wake (ctki_inbox_t *inbox); /* async-signal-safe */
void ctki_inbox_close (ctki_inbox_t *inbox);

#endif
