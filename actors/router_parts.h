/*
 * router_parts.h - what the three files of the router share, and nobody else:
 * router.c is the actor and the way out, router_in.c the way in, router_events.c
 * what the application is told about its peers.
 */
#ifndef CTKI_ROUTER_PARTS_H
#define CTKI_ROUTER_PARTS_H

#include "actors/actor.h"
#include "actors/router.h"
#include "actors/sender.h"
#include "src/sys.h"
#include "src/ways.h"

enum { CTKI_EVENT_RETRY_MS = 10 }; /* before an event, or a question, that found no memory is tried again */

/* The receiving half of the session with one peer, and what is known of its
 * incarnations. */
typedef struct ctki_inbound {
    ctki_in_t in;
    ctki_life_t life;
    uint64_t left_inc;          /* the incarnation whose end was told */
    uint32_t refused;           /* why the peer is refused here; 0: it is not */
    uint32_t refuses;           /* why it refuses us, as was told; 0: it does not */
    bool stuck;                 /* that it takes nothing was told */
    ctki_inlet_t *aside, *last; /* what came of an incarnation that was not told yet */
    ctki_way_t way_in, way_out;
    bool bad_in, bad_out;
    unsigned owed;              /* events that found no memory, or came behind such, by their kind */
    uint32_t owed_reason[CTALK_PEER_ABANDONED + 1];
    bool owed_up;               /* the hall could not be told that it is up */
    uint32_t leaves_under;      /* the hall is to be told that it left, behind what is aside under this; 0: it is not */
    bool unsaid;                /* the state that its sender reported is not told: a restart has to be before */
    int state;                  /* that state, ... */
    uint32_t state_reason;      /* ... and why */
    uint64_t abandoned;         /* by the peer, and not told yet */
    uint64_t refused_told;      /* the reasons of refusals that were told since the last session opened, a bit each */
    int64_t retry_us;           /* when to try again what found no memory; CTKI_FOREVER: nothing did */
    ctki_flow_t *flow;  /* of the open session; NULL: none */
    ctki_flow_t *spare; /* of the one that is offered: made before, so that opening cannot fail */
    ctki_peer_t *peer;
    struct ctki_inbound *next, *prev; /* all of them */
    struct ctki_inbound *due_next;    /* those with something due */
    bool due;
} inbound_t;

typedef enum { RUNNING, DRAINING, PARTING, DONE } phase_t;

struct ctki_router {
    ctki_actor_t actor;
    ctki_node_t *node;
    ctki_sock_t *sock;
    const char *bind;
    int backlog;
    char bound[CTKI_ENDPOINT_BYTES];
    char lock[CTKI_ENDPOINT_BYTES + 8]; /* beside an ipc path */
    int lock_fd;           /* -1: none */
    ctki_map_t sids;       /* session id to inbound */
    inbound_t *inbounds;   /* all of members */
    inbound_t *tombs;      /* of removed peers: if both come back, nothing is lost (R17); a list, to need no memory */
    inbound_t *due;        /* those with an acknowledgement or an expiry ahead */
    ctki_peer_t *ring;     /* peers whose sender is to be run after this pass */
    unsigned rings;        /* how many */
    int64_t retry_us;      /* when to try again to start threads; CTKI_FOREVER: none failed */
    phase_t phase;
    int64_t deadline_us;   /* of closing */
    int64_t parting_us;    /* until when to answer */
    ctki_inlet_t *inlet;   /* for the next frame: made before, so that taking cannot fail, ... */
    ctki_inlet_t *spare_inlet; /* ... and for what of it is for actors */
    ctki_restart_t *restart; /* the same for the next session */
    ctki_map_t out_tombs;  /* pid of a removed peer to what its sender left */
    ctki_report_t *reports, **reports_end; /* of senders, to be dealt with */
    int64_t reports_us;    /* when to try again to deal with them; CTKI_FOREVER: no need */
    uint64_t abandoned;    /* in closing, of peers without a sender */
    atomic_size_t passed;  /* bytes of small envelopes that the last pass routed; looked at without the lock, too */
    size_t taken;          /* bytes that the last step received */
    bool leaves_work;      /* a leader's: its last round has left something to do */
    uint64_t lot;          /* drawn for the next tick that needs one; 0: not yet */
    int64_t helped_us;     /* when a sending thread last wanted to help */
    unsigned helps;        /* that did in a row, with less than HELP_GAP_US between two */
    atomic_bool done;      /* closing: all is said */
};

/* A request of an application's thread that waits for the answer. */
typedef struct {
    ctki_peer_t *peer;
    ctki_sender_t *sender;
    bool on;
    int error;
    atomic_bool done;
} request_t;

/* ---- router.c */

/* The request of a thread that waits is done, and gone: error is an errno, or 0. */
void ctki_router_answer (ctki_router_t *router, request_t *request, int error);

/* Calls fn for every peer with a record; the outbox is not locked meanwhile. */
void ctki_router_each_peer (ctki_router_t *router, void (*fn) (ctki_peer_t *peer, void *arg), void *arg);

/* ---- router_in.c */

/* How often the peer was found to be another process, also one that was removed and
 * is not heard yet: what its sender reports must not count as about a former one. */
uint32_t ctki_router_epoch_of (ctki_router_t *router, const ctki_peer_t *peer);

/* The receiving half of a peer that has none. NULL: no memory. */
inbound_t *ctki_router_new_inbound (ctki_router_t *router, ctki_peer_t *peer);

/* Takes it out of everything that finds it by its peer or sid. */
void ctki_router_unlink (ctki_router_t *router, inbound_t *inbound);
void ctki_router_end_inbound (inbound_t *inbound);
void ctki_router_bury (ctki_router_t *router, inbound_t *inbound); /* in case its peer comes back */

/* It is looked at when something is due for it. */
void ctki_router_set_due (ctki_router_t *router, inbound_t *inbound);

/* Keeps the map of session ids right. */
void ctki_router_note_sids (ctki_router_t *router, inbound_t *inbound, ctki_effects_t *fx);

void ctki_router_look_at_ways (ctki_router_t *router, inbound_t *inbound, int64_t now_us);

/* Takes what came; returns whether there may be more. */
bool ctki_router_receive (ctki_router_t *router, int64_t now_us);

/* Sessions that the application has taken enough of. */
void ctki_router_hear_inbox (ctki_router_t *router, int64_t now_us);

/* Whatever is due; returns when the next is. more: frames wait to be read. */
int64_t ctki_router_keep_time (ctki_router_t *router, int64_t now_us, bool more);

/* ---- router_events.c */

/* The hall is told that the peer has left, in order with what came of it. */
void ctki_router_tell_hall_left (ctki_router_t *router, inbound_t *inbound);

/* Into the inbox, or aside behind a restart that is not told yet. */
void ctki_router_put_in_order (ctki_router_t *router, inbound_t *inbound, ctki_inlet_t *inlet);

/* An event about a peer, in order with what came from it. -1: no memory. */
int ctki_router_raise_event (ctki_router_t *router, inbound_t *inbound, ctalk_kind_t kind, ctalk_event_t event,
                             const ctki_obit_t *obits);

/* The same; without memory it is raised later, and those that come meanwhile
 * behind it: one of each kind, the newest. */
void ctki_router_owe_event (ctki_router_t *router, inbound_t *inbound, ctalk_kind_t kind, uint32_t reason);
void ctki_router_pay_events (ctki_router_t *router, inbound_t *inbound);

/* One of the two refuses the other: told once per reason, until they talk. */
void ctki_router_tell_refused (ctki_router_t *router, inbound_t *inbound, uint32_t reason, bool by_peer);

/* The peer's incarnation is over: told once. */
void ctki_router_tell_left (ctki_router_t *router, inbound_t *inbound, uint32_t reason);

/* A peer that had removed this server is back. If its sender never saw it leave, it
 * does not report that it is up. */
void ctki_router_tell_back (ctki_router_t *router, inbound_t *inbound);

/* Asks the sender what became of its session with a former incarnation, and
 * tells what is answered. */
void ctki_router_ask_sender (ctki_router_t *router, inbound_t *inbound, int64_t now_us);

/* There is nobody to ask any more, and no time to wait for memory. */
void ctki_router_tell_all_restarts (ctki_router_t *router, inbound_t *inbound);

const char *ctki_router_words (uint32_t reason);

/* Reports of senders, in the order in which they came. */
void ctki_router_add_report (ctki_router_t *router, ctki_report_t *report);
void ctki_router_take_reports (ctki_router_t *router, int64_t now_us);
void ctki_router_drop_reports (ctki_router_t *router);

/* A request to watch, or not to. */
void ctki_router_begin_watch (ctki_router_t *router, request_t *request);

#endif
