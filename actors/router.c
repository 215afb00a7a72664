/*
 * router.c - routing out, receiving in. See router.h.
 *
 * What it owns: the bound socket; for every peer that it heard of, the
 * receiving half; for every peer that something was sent to, the sender.
 *
 * What may go wrong: bytes from strangers are counted and dropped, at most
 * answered with one small frame; a sender's thread that cannot be started is
 * tried again every second while its mailbox keeps what is for it.
 */
#include "actors/router.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actors/actor.h"
#include "actors/sender.h"
#include "src/error.h"
#include "src/mem.h"
#include "src/sys.h"
#include "src/ways.h"

enum {
    BUSY_BYTES = 16 * 1024, /* of small envelopes routed in one pass: more are on their way */
    STEP_FRAMES = 64,       /* received in one step, at most */
    SEND_FRAMES = 256,      /* control frames waiting in libzmq for one connection */
    START_RETRY_MS = 1000,  /* between two tries to start a sender's thread */
    UNBIND_MS = 1000,       /* the longest wait for the port to be free again */
    GOODBYE_MIN_MS = 50,    /* how long a closing server answers at least, ... */
    GOODBYE_MAX_MS = 2000,  /* ... at most, ... */
    GOODBYE_SLACK_MS = 60,  /* ... and beyond its deadline: 100 ms less the time to stop */
    EVENT_RETRY_MS = 10,    /* an event, or a question, that found no memory */
    SALT_IN = 3,            /* of the ways' draws */
    SALT_OUT = 4
};

enum { START = 1, START_ALL, FLUSH, REMOVE, DRAIN, BURY, WATCH, HEAL };

/* The receiving half of the session with one peer, and what is known of its
 * incarnations. */
typedef struct ctki_inbound {
    ctki_in_t in;
    ctki_life_t life;
    uint64_t left_inc;          /* the incarnation whose end was told */
    uint32_t refused;           /* why one of the two refuses the other; 0: none does */
    ctki_inlet_t *aside, *last; /* what came of an incarnation that was not told yet */
    ctki_way_t way_in, way_out;
    bool bad_in, bad_out;
    unsigned owed;              /* events that found no memory, by their kind */
    uint32_t owed_reason;
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
    ctki_peer_t *ring;     /* peers whose sender is to be rung after this pass */
    int64_t retry_us;      /* when to try again to start threads; CTKI_FOREVER: none failed */
    phase_t phase;
    int64_t deadline_us;   /* of closing */
    int64_t parting_us;    /* until when to answer */
    ctki_inlet_t *inlet;   /* for the next frame: made before, so that taking cannot fail */
    ctki_restart_t *restart; /* the same for the next session */
    ctki_map_t out_tombs;  /* pid of a removed peer to what its sender left */
    ctki_report_t *reports, **reports_end; /* of senders, to be dealt with */
    int64_t reports_us;    /* when to try again to deal with them; CTKI_FOREVER: no need */
    uint64_t abandoned;    /* in closing, of peers without a sender */
    size_t passed;         /* bytes of small envelopes that the last pass routed */
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

/* The request is gone as soon as it is done: the gate is the node's. */
static void answer (ctki_router_t *router, request_t *request, int error)
{
    request->error = error;
    atomic_store (&request->done, true);
    ctki_gate_open (&router->node->changed);
}

static void await (ctki_node_t *node, const atomic_bool *done)
{
    while (!atomic_load (done)) {
        unsigned ticket = ctki_gate_ticket (&node->changed);
        if (!atomic_load (done))
            ctki_gate_wait (&node->changed, ticket, CTKI_FOREVER);
        else
            ctki_gate_leave (&node->changed);
    }
}

/* ---- senders */

/* The sender of a peer, made and started if need be. NULL: no memory. One whose
 * thread cannot be started yet takes items all the same. */
static ctki_sender_t *sender_of (ctki_router_t *router, ctki_peer_t *peer)
{
    if (CTKI_LIKELY (peer->sender != NULL))
        return peer->sender;
    ctki_out_tomb_t *tomb = ctki_map_get (&router->out_tombs, (uint64_t) peer->pid);
    uint32_t epoch = peer->inbound ? peer->inbound->life.epoch : 0;
    ctki_sender_t *sender = ctki_sender_new (router->node, peer, &router->actor.bell, epoch, tomb);
    if (!sender)
        return NULL;
    ctki_free (ctki_map_remove (&router->out_tombs, (uint64_t) peer->pid));
    peer->sender = sender;
    int expected = CTALK_STATE_IDLE;
    if (atomic_compare_exchange_strong (&peer->state, &expected, CTALK_STATE_CONNECTING))
        atomic_store_explicit (&peer->state_since_us, ctki_now_us (), memory_order_relaxed);
    int rc = ctki_sender_start (sender);
    if (rc) {
        ctki_actor_note (&router->actor, CTALK_LOG_WARNING, "peer %d: cannot start its sender: %s", (int) peer->pid, strerror (rc));
        router->retry_us = ctki_now_us () + START_RETRY_MS * CTKI_MS;
    }
    return sender;
}

static void start_if_stopped (ctki_peer_t *peer, void *arg)
{
    ctki_router_t *router = arg;
    ctki_sender_t *sender = peer->sender;
    if (sender && (!ctki_sender_started (sender) || ctki_sender_failed (sender)) && ctki_sender_start (sender))
        router->retry_us = ctki_now_us () + START_RETRY_MS * CTKI_MS;
}

/* Calls fn for every peer with a record; the outbox is not locked meanwhile. It
 * needs no memory: closing depends on it. Who comes or goes meanwhile may be
 * missed, or let another one be visited twice. */
static void each_peer (ctki_router_t *router, void (*fn) (ctki_peer_t *peer, void *arg), void *arg)
{
    ctki_outbox_t *outbox = &router->node->outbox;
    for (size_t i = 0, capacity = 1; i < capacity; i++) {
        ctki_outbox_lock (outbox);
        const ctki_map_t *map = &outbox->route.map;
        capacity = map->capacity;
        ctki_peer_t *peer = i < capacity && map->slots[i].value
                                ? ctki_route_peek (&outbox->route, (ctalk_pid_t) map->slots[i].key)
                                : NULL;
        if (peer)
            ctki_peer_hold (peer);
        ctki_outbox_unlock (outbox);
        if (peer)
            fn (peer, arg);
        ctki_peer_release (peer);
    }
}

static void start_one (ctki_peer_t *peer, void *arg)
{
    sender_of (arg, peer);
}

static void start_all (ctki_router_t *router)
{
    ctki_outbox_t *outbox = &router->node->outbox;
    ctki_outbox_lock (outbox);
    ctki_crowd_t *all = ctki_route_everybody (&outbox->route, 0);
    if (all)
        ctki_crowd_hold (all);
    ctki_outbox_unlock (outbox);
    for (size_t i = 0; all && i < all->count; i++)
        start_one (all->peer[i], router);
    ctki_crowd_release (all);
}

/* ---- routing out */

/* An item that cannot go on its way: its peer was removed, or there is no memory. */
static void abandon (ctki_router_t *router, ctki_peer_t *peer, const ctki_item_t *item)
{
    ctki_count (&peer->abandoned, item->count);
    if (router->phase != RUNNING)
        router->abandoned += item->count;
    ctki_outbox_settled (&router->node->outbox, peer, (int64_t) item->charge);
    ctki_node_changed (router->node);
}

/* Hands an item to the sender of its peer; takes it over. */
static void hand_over (ctki_router_t *router, ctki_peer_t *peer, ctki_item_t *item)
{
    ctki_sender_t *sender = peer->removed ? NULL : sender_of (router, peer);
    ctki_count_locked (&router->node->routed, item->count);
    if (!sender) {
        abandon (router, peer, item);
        ctki_item_release (item);
    } else if (ctki_sender_put (sender, item) && !peer->ring) {
        ctki_peer_hold (peer);
        peer->ring = true;
        peer->ring_next = router->ring;
        router->ring = peer;
    }
}

/* A broadcast: the records are encoded and their checksum computed once. */
static void spread (ctki_router_t *router, ctki_item_t *item)
{
    ctki_crowd_t *crowd = item->dest;
    if (item->kind == CTKI_RUN && crowd->count > 1) {
        item->crc = ctki_crc32c (0, item->data, item->size);
        item->crc_known = true;
    }
    for (size_t i = 0; i < crowd->count; i++) {
        ctki_item_t *share = ctki_item_share (item, crowd->peer[i]);
        if (share)
            hand_over (router, crowd->peer[i], share);
        else
            abandon (router, crowd->peer[i], item);
    }
    ctki_crowd_release (crowd);
    ctki_item_release (item);
}

static void ring_senders (ctki_router_t *router)
{
    while (router->ring) {
        ctki_peer_t *peer = router->ring;
        router->ring = peer->ring_next;
        peer->ring = false;
        if (peer->sender)
            ctki_sender_ring (peer->sender);
        ctki_peer_release (peer);
    }
}

/* Everything that was sent since the last time. */
static void route (ctki_router_t *router)
{
    ctki_items_t items;
    router->passed = 0;
    if (!ctki_mailbox_take (&router->node->outbox.mailbox, &items))
        return;
    for (ctki_item_t *item; (item = ctki_items_take (&items));) {
        router->passed += item->kind == CTKI_RUN ? item->size : 0;
        if (item->many)
            spread (router, item);
        else
            hand_over (router, item->dest, item);
    }
    ring_senders (router);
}

/* ---- receiving in */

/* When something is due for a peer if nothing comes. */
static int64_t deadline_of (const inbound_t *inbound)
{
    int64_t delayed_us = CTKI_MIN (ctki_delayed_next (&inbound->way_in.delayed),
                                   ctki_delayed_next (&inbound->way_out.delayed));
    return CTKI_MIN (CTKI_MIN (ctki_in_deadline (&inbound->in), inbound->retry_us), delayed_us);
}

static void set_due (ctki_router_t *router, inbound_t *inbound)
{
    if (!inbound->due && deadline_of (inbound) != CTKI_FOREVER) {
        inbound->due = true;
        inbound->due_next = router->due;
        router->due = inbound;
    }
}

/* 0, or -1 with errno: EHOSTUNREACH: the connection is gone; EAGAIN. */
static int send_bytes (ctki_router_t *router, uint64_t rid, const uint8_t *bytes, size_t size)
{
    ctki_part_t part = {.data = bytes, .size = size};
    return ctki_sock_send (router->sock, rid, &part, 1);
}

/* To the connection rid of a peer. */
static int send_control (ctki_router_t *router, inbound_t *inbound, uint64_t rid, const ctki_frame_t *frame)
{
    uint8_t bytes[CTKI_CONTROL_BYTES];
    const uint8_t *data = bytes;
    size_t size = ctki_wire_encode (frame, bytes, sizeof bytes);
    int copies = 1;
    if (CTKI_UNLIKELY (inbound->bad_out))
        copies = ctki_way_judge (&inbound->way_out, ctki_now_us (), rid, &data, &size, 1);
    for (; copies > 0; copies--) {
        if (send_bytes (router, rid, bytes, size))
            return -1;
    }
    return 0;
}

/* Without state: to somebody whom no receiving half exists for. Not while a way
 * is cut: it might be one of those who must not be answered. */
static void refuse (ctki_router_t *router, uint64_t rid, ctki_type_t type, uint64_t sid, uint32_t reason)
{
    uint8_t bytes[CTKI_CONTROL_BYTES];
    ctki_frame_t frame = {.version = CTKI_WIRE_VERSION, .type = (uint8_t) type, .sid = sid};
    frame.u.reason = reason;
    if (atomic_load_explicit (&router->node->cuts, memory_order_relaxed) == 0)
        send_bytes (router, rid, bytes, ctki_wire_encode (&frame, bytes, sizeof bytes));
}

static void link_inbound (ctki_router_t *router, ctki_peer_t *peer, inbound_t *inbound)
{
    ctki_peer_hold (peer);
    inbound->peer = peer;
    peer->inbound = inbound;
    inbound->prev = NULL;
    inbound->next = router->inbounds;
    if (inbound->next)
        inbound->next->prev = inbound;
    router->inbounds = inbound;
    if (router->phase != RUNNING)
        ctki_in_leave (&inbound->in, ctki_now_us ());
}

static void forget_offers (ctki_router_t *router, const inbound_t *inbound)
{
    for (unsigned i = 0; i < CTKI_OFFERS; i++) {
        if (inbound->in.offer[i].sid)
            ctki_map_remove (&router->sids, inbound->in.offer[i].sid);
    }
}

/* Its sessions, the open one and those that were offered, are found again. -1: no memory. */
static int find_again (ctki_router_t *router, inbound_t *inbound)
{
    const ctki_in_t *in = &inbound->in;
    int rc = in->open ? ctki_map_put (&router->sids, in->sid, inbound) : 0;
    for (unsigned i = 0; rc == 0 && i < CTKI_OFFERS && in->offer[i].sid; i++)
        rc = ctki_map_put (&router->sids, in->offer[i].sid, inbound);
    if (rc) {
        ctki_map_remove (&router->sids, in->sid);
        forget_offers (router, inbound);
    }
    return rc;
}

/* Where the list of tombs has that of a pid; it points to NULL if there is none. */
static inbound_t **find_tomb (ctki_router_t *router, ctalk_pid_t pid)
{
    inbound_t **link = &router->tombs;
    while (*link && (*link)->in.setup.peer != pid)
        link = &(*link)->next;
    return link;
}

/* The receiving half of a peer that was removed and is a member again. */
static inbound_t *revive (ctki_router_t *router, ctki_peer_t *peer, inbound_t **tomb)
{
    inbound_t *inbound = *tomb;
    ctki_flow_t *flow = ctki_flow_new (peer, false), *spare = flow ? ctki_flow_new (peer, false) : NULL;
    if (!spare || find_again (router, inbound)) {
        ctki_flow_release (&router->node->inbox, flow);
        ctki_flow_release (&router->node->inbox, spare);
        return NULL;
    }
    /* What it had received counts as consumed: those figures went with the old record. */
    if (inbound->in.open) {
        flow->consumed = inbound->in.received;
        flow->byte = inbound->in.received_byte - inbound->in.partial_charge;
        flow->frames = inbound->in.expected - 1 - inbound->in.partial_frames;
    }
    inbound->flow = flow;
    inbound->spare = spare;
    *tomb = inbound->next;
    link_inbound (router, peer, inbound);
    return inbound;
}

static inbound_t *new_inbound (ctki_router_t *router, ctki_peer_t *peer)
{
    inbound_t **tomb = find_tomb (router, peer->pid);
    if (*tomb)
        return revive (router, peer, tomb);
    inbound_t *inbound = ctki_alloc_zero (sizeof *inbound);
    if (!inbound)
        return NULL;
    ctki_session_setup_t setup = router->node->setup;
    setup.peer = peer->pid;
    ctki_in_init (&inbound->in, &setup);
    inbound->retry_us = CTKI_FOREVER;
    link_inbound (router, peer, inbound);
    return inbound;
}

static void tell_all_restarts (ctki_router_t *router, inbound_t *inbound);

/* Takes a receiving half out of everything that finds it by its peer or sid. */
static void unlink_inbound (ctki_router_t *router, inbound_t *inbound)
{
    tell_all_restarts (router, inbound);
    for (inbound_t **link = &router->due; *link; link = &(*link)->due_next) {
        if (*link == inbound) {
            *link = inbound->due_next;
            break;
        }
    }
    if (inbound->in.open)
        ctki_map_remove (&router->sids, inbound->in.sid);
    forget_offers (router, inbound);
    inbound->due = false;
    if (inbound->next)
        inbound->next->prev = inbound->prev;
    *(inbound->prev ? &inbound->prev->next : &router->inbounds) = inbound->next;
    ctki_flow_release (&router->node->inbox, inbound->flow);
    ctki_flow_release (&router->node->inbox, inbound->spare);
    inbound->flow = inbound->spare = NULL;
    inbound->peer->inbound = NULL;
    ctki_peer_release (inbound->peer);
    inbound->peer = NULL;
}

static void end_inbound (inbound_t *inbound)
{
    ctki_in_fini (&inbound->in);
    ctki_life_fini (&inbound->life);
    ctki_way_clear (&inbound->way_in);
    ctki_way_clear (&inbound->way_out);
    ctki_free (inbound);
}

/* The peer is no member any more: its receiving half is kept in case it comes back,
 * also one that was only offered a session: its sender takes that for open. */
static void bury (ctki_router_t *router, inbound_t *inbound)
{
    unlink_inbound (router, inbound);
    if (inbound->in.open || ctki_in_offers (&inbound->in)) {
        inbound->next = router->tombs;
        router->tombs = inbound;
    } else
        end_inbound (inbound);
}

/* Whom a HELLO comes from: a member, or NULL. A reference. */
static ctki_peer_t *member (ctki_router_t *router, ctalk_pid_t pid)
{
    ctki_outbox_t *outbox = &router->node->outbox;
    if (pid < 0)
        return NULL;
    ctki_outbox_lock (outbox);
    ctki_peer_t *peer = ctki_route_find (&outbox->route, pid, 0);
    if (peer)
        ctki_peer_hold (peer);
    ctki_outbox_unlock (outbox);
    return peer;
}

/* The receiving half that a frame is for; NULL: none, and the sender was told. */
static inbound_t *find_inbound (ctki_router_t *router, uint64_t rid, const ctki_frame_t *frame)
{
    if (frame->type != CTKI_HELLO) {
        inbound_t *known = ctki_map_get (&router->sids, frame->sid);
        if (!known)
            refuse (router, rid, CTKI_RESET, frame->sid, CTKI_WHY_UNKNOWN_SID);
        return known;
    }
    if (frame->u.hello.dst != router->node->setup.self) {
        refuse (router, rid, CTKI_REJECT, 0, CTKI_WHY_PID);
        return NULL;
    }
    ctki_peer_t *peer = member (router, frame->u.hello.src);
    if (!peer) {
        refuse (router, rid, CTKI_REJECT, 0, CTKI_WHY_UNKNOWN_PID);
        return NULL;
    }
    inbound_t *inbound = peer->inbound ? peer->inbound : new_inbound (router, peer);
    ctki_peer_release (peer);
    return inbound;
}

/* ---- events */

/* What came of an incarnation that was told already goes on into the inbox. */
static void put (ctki_router_t *router, ctki_inlet_t *inlet)
{
    ctki_inbox_t *inbox = &router->node->inbox;
    if (inlet->kind != CTALK_MESSAGE) {
        ctki_inbox_put_event (inbox, inlet);
        return;
    }
    ctki_flow_t *flow = inlet->flow;
    inbound_t *inbound = flow->peer->inbound;
    bool current = inbound && inbound->flow == flow;
    ctki_inbox_put (inbox, inlet, current ? ctki_in_wake_byte (&inbound->in) : UINT64_MAX,
                    current ? ctki_in_wake_frame (&inbound->in) : UINT64_MAX);
}

/* Into the inbox, or aside behind a restart that is not told yet. */
static void put_in_order (ctki_router_t *router, inbound_t *inbound, ctki_inlet_t *inlet)
{
    uint32_t held_under = ctki_life_holds (&inbound->life);
    if (CTKI_LIKELY (held_under == 0)) {
        put (router, inlet);
        return;
    }
    inlet->held_under = held_under;
    inlet->next = NULL;
    if (inlet->flow)
        ctki_flow_hold (&router->node->inbox, inlet->flow);
    *(inbound->last ? &inbound->last->next : &inbound->aside) = inlet;
    inbound->last = inlet;
}

static void put_aside (ctki_router_t *router, inbound_t *inbound, uint32_t held_under)
{
    while (inbound->aside && inbound->aside->held_under == held_under) {
        ctki_inlet_t *inlet = inbound->aside;
        ctki_flow_t *flow = inlet->flow;
        inbound->aside = inlet->next;
        if (!inbound->aside)
            inbound->last = NULL;
        put (router, inlet);
        if (flow)
            ctki_flow_unhold (&router->node->inbox, flow);
    }
}

/* What an event says in words. */
static const char *words_of (uint32_t reason)
{
    static const struct {
        uint32_t reason;
        const char *words;
    } table[] = {{CTALK_WHY_VERSION, "no version of the protocol that both speak"},
                 {CTALK_WHY_CLUSTER, "it belongs to another cluster"},
                 {CTALK_WHY_PID, "another pid is at its endpoint"},
                 {CTALK_WHY_DUPLICATE, "another process with this pid lives"},
                 {CTALK_WHY_UNKNOWN_PID, "it does not list this server"},
                 {CTALK_WHY_QUARANTINED, "it broke the protocol too often"},
                 {CTALK_WHY_CLOSING, "it closed"},
                 {CTALK_WHY_ABANDONED, "it had removed this server"},
                 {CTALK_WHY_LIMITS, "MaxMessageBytes of the sender is above the receiver's"},
                 {CTALK_WHY_SILENT, "nothing is heard from it"},
                 {CTALK_WHY_UNREACHABLE, "no connection to it"},
                 {CTALK_WHY_NO_ADDRESS, "its address is not known"},
                 {CTALK_WHY_PROTOCOL, "what is at its endpoint speaks another protocol"},
                 {CTALK_WHY_NOT_CONSUMING, "its application takes nothing"}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].reason == reason)
            return table[i].words;
    }
    return "";
}

/* An event about a peer, in order with what came from it. -1: no memory. */
static int raise_event (ctki_router_t *router, inbound_t *inbound, ctalk_kind_t kind, ctalk_event_t event,
                        const ctki_obit_t *obits)
{
    if (!atomic_load_explicit (&router->node->watching, memory_order_relaxed) || router->phase != RUNNING)
        return 0;
    snprintf (event.text, sizeof event.text, "%s", words_of ((uint32_t) event.reason));
    if (!event.incarnation)
        event.incarnation = inbound->life.inc;
    ctki_inlet_t *inlet = ctki_inlet_event (inbound->peer, kind, &event, obits);
    if (!inlet)
        return -1;
    if (kind == CTALK_PEER_RESTARTED)
        put (router, inlet); /* what is held stands behind it */
    else
        put_in_order (router, inbound, inlet);
    return 0;
}

/* An event that found no memory is raised later: one of each kind, the newest. */
static void owe_event (ctki_router_t *router, inbound_t *inbound, ctalk_kind_t kind, uint32_t reason)
{
    if (raise_event (router, inbound, kind, (ctalk_event_t) {.reason = (int32_t) reason}, NULL) == 0)
        return;
    inbound->owed |= 1u << kind;
    inbound->owed_reason = reason;
    inbound->retry_us = ctki_now_us () + EVENT_RETRY_MS * CTKI_MS;
}

static void pay_events (ctki_router_t *router, inbound_t *inbound)
{
    unsigned owed = inbound->owed;
    inbound->owed = 0;
    for (unsigned kind = 0; owed >> kind; kind++) {
        if (owed >> kind & 1)
            owe_event (router, inbound, (ctalk_kind_t) kind, inbound->owed_reason);
    }
}

/* The peer's state, if it is one that is told. */
static void tell_state (ctki_router_t *router, inbound_t *inbound, int state, uint32_t reason)
{
    ctki_peer_t *peer = inbound->peer;
    if (peer->told == state)
        return;
    peer->told = state;
    if (state == CTALK_STATE_UP)
        owe_event (router, inbound, CTALK_PEER_UP, CTALK_WHY_NONE);
    else if (state == CTALK_STATE_SUSPECT)
        owe_event (router, inbound, CTALK_PEER_SUSPECT, reason);
    else if (state == CTALK_STATE_DOWN)
        owe_event (router, inbound, CTALK_PEER_DOWN, reason);
}

/* The peer's incarnation is over: told once, and nothing of it comes after it. */
static void tell_left (ctki_router_t *router, inbound_t *inbound, uint32_t reason)
{
    if (inbound->left_inc == inbound->life.inc)
        return;
    inbound->left_inc = inbound->life.inc;
    owe_event (router, inbound, CTALK_PEER_LEFT, reason == CTALK_WHY_NONE ? CTALK_WHY_CLOSING : reason);
}

/* ---- incarnations */

/* Tells one restart. -1: no memory. */
static int tell_restart (ctki_router_t *router, inbound_t *inbound, const ctki_restart_t *restart)
{
    uint64_t old_inc = restart->old_inc ? restart->old_inc : restart->obits ? restart->obits->old_inc : 0;
    if (old_inc == 0) /* the first one that was seen */
        return 0;
    bool same = old_inc == restart->inc; /* it lost the session and lives: that should not be (R8) */
    ctalk_event_t event = {.incarnation = restart->inc,
                           .old_incarnation = old_inc,
                           .reason = same ? CTALK_WHY_ABANDONED : CTALK_WHY_NONE};
    return raise_event (router, inbound, same ? CTALK_PEER_ABANDONED : CTALK_PEER_RESTARTED, event, restart->obits);
}

/* Tells the restarts whose questions are answered, each before what came after
 * it. Where there is no memory it is tried again; what is behind waits. */
static void tell_restarts (ctki_router_t *router, inbound_t *inbound, int64_t now_us)
{
    for (const ctki_restart_t *restart; (restart = ctki_life_ready (&inbound->life));) {
        uint32_t number = restart->number;
        if (tell_restart (router, inbound, restart)) {
            inbound->retry_us = now_us + EVENT_RETRY_MS * CTKI_MS;
            return;
        }
        if (restart->old_inc) {
            ctki_count (&inbound->peer->restarts, restart->old_inc != restart->inc);
            inbound->peer->told = CTALK_STATE_CONNECTING;
        }
        ctki_life_drop (&inbound->life);
        put_aside (router, inbound, number);
    }
}

/* There is nobody to ask any more, and no time to wait for memory. */
static void tell_all_restarts (ctki_router_t *router, inbound_t *inbound)
{
    ctki_life_answer (&inbound->life);
    tell_restarts (router, inbound, ctki_now_us ());
    while (inbound->life.first) {
        uint32_t number = inbound->life.first->number;
        ctki_life_drop (&inbound->life);
        put_aside (router, inbound, number);
    }
}

/* Asks the sender what became of its session with a former incarnation. */
static void ask_sender (ctki_router_t *router, inbound_t *inbound, int64_t now_us)
{
    ctki_sender_t *sender = inbound->peer->sender;
    if (!sender || !ctki_sender_started (sender) || ctki_sender_ended (sender))
        ctki_life_answer (&inbound->life); /* it never had one, or it is over */
    for (ctki_restart_t *question; (question = ctki_life_question (&inbound->life));) {
        if (ctki_sender_ask (sender, question->epoch, &question->proof)) {
            inbound->retry_us = now_us + EVENT_RETRY_MS * CTKI_MS;
            break;
        }
        question->asked = true;
    }
    tell_restarts (router, inbound, now_us);
}

/* A session opened: what is taken from now on counts for it. */
static void begin_session (ctki_router_t *router, inbound_t *inbound, int64_t now_us)
{
    ctki_flow_release (&router->node->inbox, inbound->flow);
    inbound->flow = inbound->spare;
    inbound->spare = NULL;
    inbound->refused = CTALK_WHY_NONE;
    atomic_store (&inbound->peer->incarnation, inbound->in.inc);
    atomic_store (&inbound->peer->left, false);
    ctki_proof_t proof = {.inc = inbound->in.inc, .from_us = inbound->in.offered_us, .to_us = ctki_now_us ()};
    if (ctki_life_inbound (&inbound->life, &proof, &router->restart))
        ask_sender (router, inbound, now_us);
}

/* What is needed to take a frame whatever comes of it: an inlet, the frame's
 * payloads in memory of their own (*buf, the frame points into it then), a flow
 * for a session that may open, and what is known of its restart. kept: the frame
 * lies in memory of the message. False: no memory, and the frame counts as lost. */
static bool prepare (ctki_router_t *router, inbound_t *inbound, ctki_message_t *message, bool kept,
                     ctki_frame_t *frame, ctki_buf_t **buf)
{
    *buf = NULL;
    if (CTKI_UNLIKELY (frame->type == CTKI_HELLO || ctki_in_offers (&inbound->in))) {
        if (!inbound->spare && !(inbound->spare = ctki_flow_new (inbound->peer, false)))
            return false;
        if (!router->restart && !(router->restart = ctki_alloc_zero (sizeof *router->restart)))
            return false;
    }
    if (frame->type != CTKI_DATA)
        return true;
    if (!router->inlet && !(router->inlet = ctki_alloc (sizeof *router->inlet)))
        return false;
    int part = frame->body ? 1 : 0;
    const uint8_t *old = message->data[part];
    *buf = kept ? ctki_message_lease (message, part) : ctki_message_copy (message, part);
    if (!*buf)
        return false;
    if (frame->body)
        frame->body = (*buf)->data;
    else
        frame->records = (*buf)->data + (frame->records - old);
    return true;
}

/* Puts what a frame gave into the inbox. Takes the reference of buf. */
static void deliver (ctki_router_t *router, inbound_t *inbound, const ctki_frame_t *frame, const ctki_effects_t *fx,
                     ctki_buf_t *buf)
{
    ctki_node_t *node = router->node;
    bool one = fx->give == CTKI_GIVE_ONE;
    bool lost_one = one && fx->record.to != 0;
    uint32_t lost = lost_one ? fx->count : fx->lost;
    uint32_t kept = fx->count - lost;
    ctki_count (&inbound->peer->received, fx->count);
    if (lost > 0) { /* nobody has that address */
        uint64_t charge = lost_one ? fx->record.total + CTKI_CHARGE_BYTES : fx->lost_charge;
        ctki_count (&inbound->peer->no_such_actor, lost);
        ctki_inbox_skip (&node->inbox, inbound->flow, lost, charge, kept ? 0 : fx->frames);
    }
    if (kept == 0) {
        ctki_buf_release (fx->whole ? fx->whole : buf, 1);
        return;
    }
    ctki_inlet_t *inlet = router->inlet;
    router->inlet = NULL;
    *inlet = (ctki_inlet_t) {.flow = inbound->flow, .count = kept, .frames = fx->frames, .one = one,
                             .record = fx->record, .buf = fx->whole ? fx->whole : buf};
    inlet->at = fx->whole ? fx->whole->data : one ? frame->body : fx->records;
    inlet->left = fx->whole ? fx->whole->size : one ? frame->body_size : fx->records_size;
    if (kept > 1)
        ctki_buf_hold (inlet->buf, kept - 1); /* one reference per envelope */
    put_in_order (router, inbound, inlet);
}

/* Keeps the map of session ids right. */
static void note_sids (ctki_router_t *router, inbound_t *inbound, ctki_effects_t *fx)
{
    for (unsigned i = 0; i <= CTKI_OFFERS && fx->sid_ended[i]; i++)
        ctki_map_remove (&router->sids, fx->sid_ended[i]);
    if (fx->sid_offered && ctki_map_put (&router->sids, fx->sid_offered, inbound)) {
        ctki_in_withdraw (&inbound->in); /* no memory: it will greet again */
        fx->reply = false;
    }
}

/* What a frame, or the time, changed besides the envelopes that it gave. */
static void take_effects (ctki_router_t *router, inbound_t *inbound, ctki_effects_t *fx)
{
    ctki_peer_t *peer = inbound->peer;
    note_sids (router, inbound, fx);
    if (fx->duplicate)
        ctki_count (&peer->duplicates, 1);
    if (fx->malformed)
        ctki_count (&peer->malformed, 1);
    if (fx->abandoned_frames && inbound->flow) {
        ctki_inbox_skip (&router->node->inbox, inbound->flow, fx->abandoned, fx->abandoned_charge,
                         fx->abandoned_frames);
        if (fx->abandoned)
            raise_event (router, inbound, CTALK_PEER_ABANDONED,
                         (ctalk_event_t) {.reason = CTALK_WHY_ABANDONED, .abandoned = fx->abandoned}, NULL);
    }
    if (fx->refused) {
        ctki_actor_note (&router->actor, CTALK_LOG_WARNING, "peer %d is refused: %s", (int) peer->pid,
                         words_of (fx->refused));
        inbound->refused = fx->refused;
        owe_event (router, inbound, CTALK_PEER_REFUSED, fx->refused);
    }
    if (fx->reply)
        send_control (router, inbound, fx->rid, &fx->answer);
}

/* The peer said goodbye; what was queued for it waits for its next incarnation. */
static void on_left (ctki_router_t *router, inbound_t *inbound, uint32_t reason)
{
    ctki_peer_t *peer = inbound->peer;
    tell_left (router, inbound, reason);
    atomic_store (&peer->left, true);
    if (peer->sender)
        ctki_sender_ring (peer->sender);
}

static void on_frame (ctki_router_t *router, int64_t now_us, inbound_t *inbound, ctki_message_t *message, bool kept,
                      ctki_frame_t *frame)
{
    ctki_effects_t fx;
    ctki_buf_t *buf;
    ctki_peer_t *peer = inbound->peer;
    if (!prepare (router, inbound, message, kept, frame, &buf))
        return;
    bool was_left = inbound->in.left;
    ctki_in_receive (&inbound->in, now_us, message->rid, frame, frame->type == CTKI_HELLO ? ctki_random64 () : 0, &fx);
    if (fx.opened)
        begin_session (router, inbound, now_us);
    take_effects (router, inbound, &fx);
    if (fx.valid)
        atomic_store_explicit (&peer->heard_us, now_us, memory_order_relaxed);
    if (was_left && !inbound->in.left)
        atomic_store (&peer->left, false); /* it had removed us, and is back */
    if (fx.give != CTKI_GIVE_NOTHING) {
        if (fx.whole && buf)
            ctki_buf_release (buf, 1);
        deliver (router, inbound, frame, &fx, buf);
    } else if (buf)
        ctki_buf_release (buf, 1);
    if (fx.left)
        on_left (router, inbound, fx.reason);
    set_due (router, inbound);
}

static void look_at_ways (ctki_router_t *router, inbound_t *inbound, int64_t now_us);

/* A message that was received, or kept back by a bad way (then it is not kept in
 * the message's own memory, and is judged no more). */
static void on_message (ctki_router_t *router, int64_t now_us, ctki_message_t *message, bool kept)
{
    ctki_frame_t frame;
    const char *bad = message->rid == 0 ? "a routing id of its own"
                      : message->count < 1 || message->count > CTKI_MESSAGE_PARTS
                          ? "too many parts"
                          : ctki_wire_decode (&frame, message->data[0], message->size[0],
                                              message->count > 1 ? message->data[1] : NULL,
                                              message->count > 1 ? message->size[1] : 0);
    if (bad) {
        ctki_count (&router->node->malformed, 1);
        return;
    }
    inbound_t *inbound = find_inbound (router, message->rid, &frame);
    if (!inbound)
        return;
    look_at_ways (router, inbound, now_us);
    int copies = 1;
    if (CTKI_UNLIKELY (inbound->bad_in) && kept) {
        copies = ctki_way_judge (&inbound->way_in, now_us, message->rid, message->data, message->size, message->count);
        set_due (router, inbound); /* what is kept back has its time */
    }
    for (; copies > 0; copies--) {
        ctki_frame_t copy = frame;
        on_frame (router, now_us, inbound, message, kept && copies == 1, &copy);
    }
}

/* Returns whether there may be more. */
static bool receive (ctki_router_t *router, int64_t now_us)
{
    for (int i = 0; i < STEP_FRAMES; i++) {
        ctki_message_t message;
        if (ctki_sock_receive (router->sock, &message))
            return false;
        on_message (router, now_us, &message, true);
        ctki_message_close (&message);
    }
    return true;
}

/* ---- bad ways */

static void look_at_ways (ctki_router_t *router, inbound_t *inbound, int64_t now_us)
{
    bool changed = false;
    ctki_lock_t *lock = &router->node->outbox.mailbox.lock;
    inbound->bad_in = ctki_way_look (&inbound->way_in, inbound->peer, lock, CTALK_IN, SALT_IN, &changed);
    inbound->bad_out = ctki_way_look (&inbound->way_out, inbound->peer, lock, CTALK_OUT, SALT_OUT, &changed);
    if (CTKI_UNLIKELY (changed)) {
        ctki_in_hurry (&inbound->in, now_us);
        set_due (router, inbound);
    }
}

/* Frames of a bad way that are due: those that came, and those that go. */
static void pass_delayed (ctki_router_t *router, inbound_t *inbound, int64_t now_us)
{
    for (ctki_delayed_frame_t *frame; (frame = ctki_delayed_pop (&inbound->way_out.delayed, now_us));) {
        send_bytes (router, frame->tag, frame->data[0], frame->size[0]);
        ctki_delayed_free (&frame);
    }
    for (ctki_delayed_frame_t *frame; (frame = ctki_delayed_pop (&inbound->way_in.delayed, now_us));) {
        ctki_message_t message = {.rid = frame->tag, .count = frame->count};
        for (int i = 0; i < frame->count; i++) {
            message.data[i] = frame->data[i];
            message.size[i] = frame->size[i];
        }
        on_message (router, now_us, &message, false);
        ctki_delayed_free (&frame);
    }
}

/* ---- acknowledging */

/* Tells a session how much of it was taken. */
static void update (ctki_router_t *router, inbound_t *inbound, int64_t now_us)
{
    ctki_flow_t flow;
    if (!inbound->flow)
        return;
    ctki_inbox_read (&router->node->inbox, inbound->flow, &flow);
    ctki_in_consumed (&inbound->in, now_us, flow.consumed, flow.byte, flow.frames);
}

static void watch_flow (ctki_router_t *router, inbound_t *inbound)
{
    if (inbound->flow)
        ctki_inbox_watch (&router->node->inbox, inbound->flow, ctki_in_wake_byte (&inbound->in),
                          ctki_in_wake_frame (&inbound->in));
}

/* Sessions that the application has taken enough of. */
static void hear_inbox (ctki_router_t *router, int64_t now_us)
{
    ctki_flow_t copy;
    for (ctki_flow_t *flow; (flow = ctki_inbox_told (&router->node->inbox, &copy));) {
        inbound_t *inbound = copy.peer->inbound;
        if (!inbound || inbound->flow != flow)
            continue;
        ctki_in_consumed (&inbound->in, now_us, copy.consumed, copy.byte, copy.frames);
        set_due (router, inbound);
        if (inbound->in.ack_at_us > now_us) /* told already, with an acknowledgement sent meanwhile */
            watch_flow (router, inbound);
    }
}

/* Sends the acknowledgement that is due, if one is. */
static void acknowledge (ctki_router_t *router, inbound_t *inbound, int64_t now_us)
{
    ctki_frame_t frame;
    if (inbound->in.open && now_us >= inbound->in.ack_at_us)
        update (router, inbound, now_us);
    if (!ctki_in_next (&inbound->in, now_us, &frame))
        return;
    if (send_control (router, inbound, inbound->in.rid, &frame) == 0)
        ctki_in_acked (&inbound->in, now_us);
    else if (errno == EHOSTUNREACH)
        ctki_in_unreachable (&inbound->in);
    else
        inbound->in.ack_at_us = now_us + CTKI_ACK_DELAY_MS * CTKI_MS; /* full: tried again (R11) */
    watch_flow (router, inbound);
}

/* What became due for a peer by the time alone. more: frames wait to be read, so
 * that nobody is called silent yet. */
static void tend (ctki_router_t *router, inbound_t *inbound, int64_t now_us, bool more)
{
    ctki_effects_t fx;
    if (now_us >= inbound->retry_us) {
        inbound->retry_us = CTKI_FOREVER;
        ask_sender (router, inbound, now_us);
        pay_events (router, inbound);
    }
    look_at_ways (router, inbound, now_us);
    acknowledge (router, inbound, now_us);
    while (!more && ctki_in_tick (&inbound->in, now_us, ctki_random64 (), &fx))
        take_effects (router, inbound, &fx);
    pass_delayed (router, inbound, now_us); /* the last: what comes may end it all */
}

/* Whatever is due; returns when the next is. */
static int64_t keep_time (ctki_router_t *router, int64_t now_us, bool more)
{
    int64_t until_us = CTKI_FOREVER;
    inbound_t *due = router->due;
    router->due = NULL;
    while (due) {
        inbound_t *inbound = due;
        due = inbound->due_next;
        inbound->due = false;
        tend (router, inbound, now_us, more);
        set_due (router, inbound);
        until_us = CTKI_MIN (until_us, deadline_of (inbound));
    }
    return until_us;
}

/* ---- what the senders report */

/* The sender has proved an incarnation: sessions with others are over here. */
static void end_other_sessions (ctki_router_t *router, inbound_t *inbound, uint64_t inc, int64_t alive_us)
{
    ctki_effects_t fx;
    bool was_open = inbound->in.open;
    ctki_in_incarnation (&inbound->in, inc, alive_us, &fx);
    note_sids (router, inbound, &fx);
    if (was_open && !inbound->in.open) {
        ctki_flow_release (&router->node->inbox, inbound->flow);
        inbound->flow = NULL;
    }
    atomic_store (&inbound->peer->incarnation, inc);
}

/* The connection of a leaving peer is gone. Its own goodbye may never come. */
static void on_parted (ctki_router_t *router, inbound_t *inbound)
{
    if (inbound->in.open && !inbound->in.left)
        ctki_in_end (&inbound->in);
    tell_left (router, inbound, CTALK_WHY_CLOSING);
}

/* -1: no memory, to be tried again. */
static int take_report (ctki_router_t *router, ctki_report_t *report, int64_t now_us)
{
    ctki_peer_t *peer = report->peer;
    if (peer->removed)
        return 0;
    inbound_t *inbound = peer->inbound ? peer->inbound : new_inbound (router, peer);
    if (!inbound)
        return -1;
    ctki_obit_t *obit = report->obit;
    report->obit = NULL;
    if (ctki_life_report (&inbound->life, report->epoch, report->inc, obit, &report->restart))
        end_other_sessions (router, inbound, report->inc, report->alive_us);
    tell_restarts (router, inbound, now_us);
    if (report->epoch == inbound->life.epoch) { /* else it is about a former incarnation */
        tell_state (router, inbound, report->state, report->reason);
        if (report->parted)
            on_parted (router, inbound);
        if (report->stuck_ms)
            owe_event (router, inbound, CTALK_PEER_STUCK, CTALK_WHY_NOT_CONSUMING);
        inbound->refused = report->refused;
        if (report->refused && report->refused != CTKI_WHY_CLOSING) {
            ctki_actor_note (&router->actor, CTALK_LOG_WARNING, "peer %d refuses this server: %s", (int) peer->pid,
                             words_of (report->refused));
            owe_event (router, inbound, CTALK_PEER_REFUSED, report->refused);
        }
    }
    set_due (router, inbound);
    return 0;
}

static void take_reports (ctki_router_t *router, int64_t now_us)
{
    router->reports_us = CTKI_FOREVER;
    for (ctki_report_t *report; (report = router->reports);) {
        if (take_report (router, report, now_us)) {
            router->reports_us = now_us + EVENT_RETRY_MS * CTKI_MS;
            return;
        }
        router->reports = report->next;
        if (!router->reports)
            router->reports_end = &router->reports;
        ctki_report_destroy (&report);
    }
}

static void add_report (ctki_router_t *router, ctki_report_t *report)
{
    report->next = NULL;
    *router->reports_end = report;
    router->reports_end = &report->next;
}

static void drop_reports (ctki_router_t *router)
{
    while (router->reports) {
        ctki_report_t *report = router->reports;
        router->reports = report->next;
        ctki_report_destroy (&report);
    }
    router->reports_end = &router->reports;
}

/* ---- watching */

static void tell_now (ctki_peer_t *peer, void *arg)
{
    ctki_router_t *router = arg;
    inbound_t *inbound = peer->inbound;
    if (inbound && peer->told == CTALK_STATE_UP)
        owe_event (router, inbound, CTALK_PEER_UP, CTALK_WHY_NONE);
    if (inbound && inbound->refused && inbound->refused != CTALK_WHY_CLOSING)
        owe_event (router, inbound, CTALK_PEER_REFUSED, inbound->refused);
}

/* How things stand now, and from now on every change. */
static void watch (ctki_router_t *router, request_t *request)
{
    bool was = atomic_exchange (&router->node->watching, request->on);
    if (request->on && !was)
        each_peer (router, tell_now, router);
    answer (router, request, 0);
}

/* ---- closing */

static void close_one (ctki_peer_t *peer, void *arg)
{
    ctki_router_t *router = arg;
    if (peer->sender)
        ctki_sender_close (peer->sender, router->deadline_us);
}

static void drain (ctki_router_t *router, int64_t deadline_us)
{
    router->phase = DRAINING;
    router->deadline_us = deadline_us;
    route (router); /* the last of it: nobody sends any more */
    for (inbound_t *inbound = router->inbounds; inbound; inbound = inbound->next) {
        ctki_in_leave (&inbound->in, ctki_now_us ());
        set_due (router, inbound);
    }
    each_peer (router, close_one, router);
}

static void is_ended (ctki_peer_t *peer, void *arg)
{
    if (peer->sender && !ctki_sender_ended (peer->sender))
        *(bool *) arg = false;
}

static bool all_confirmed (const ctki_router_t *router)
{
    for (const inbound_t *inbound = router->inbounds; inbound; inbound = inbound->next) {
        if (!inbound->in.confirmed && inbound->in.open)
            return false;
    }
    return true;
}

/* The own queues are settled: how long to go on answering the others. */
static void begin_parting (ctki_router_t *router, int64_t now_us)
{
    int64_t least = now_us + GOODBYE_MIN_MS * CTKI_MS;
    int64_t until = CTKI_MIN (now_us + GOODBYE_MAX_MS * CTKI_MS, CTKI_MAX (router->deadline_us, least));
    if (router->deadline_us < CTKI_FOREVER - GOODBYE_SLACK_MS * CTKI_MS)
        until = CTKI_MIN (until, router->deadline_us + GOODBYE_SLACK_MS * CTKI_MS);
    router->parting_us = until;
    router->phase = PARTING;
}

/* One look at how far closing has come; returns when to look again. */
static int64_t part (ctki_router_t *router, int64_t now_us)
{
    if (router->phase == DRAINING) {
        bool ended = true;
        each_peer (router, is_ended, &ended);
        if (ended)
            begin_parting (router, now_us);
    }
    if (router->phase != PARTING)
        return CTKI_FOREVER;
    if (now_us < router->parting_us && !all_confirmed (router))
        return router->parting_us;
    router->phase = DONE;
    atomic_store (&router->done, true);
    ctki_gate_open (&router->node->changed);
    return CTKI_FOREVER;
}

/* ---- the actor */

/* libzmq takes an ipc path away from whoever is bound to it (pitfall I1): a lock
 * beside it keeps it ours. -1: EADDRINUSE, or why the lock cannot be made. */
static int lock_path (ctki_router_t *router, ctalk_error_t *error)
{
    struct stat mine, there;
    router->lock_fd = -1;
    if (strncmp (router->bind, "ipc://", 6) != 0)
        return 0;
    snprintf (router->lock, sizeof router->lock, "%s.lock", router->bind + 6);
    for (;;) {
        int fd = open (router->lock, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        if (fd < 0)
            return ctki_error_set (error, errno, "cannot bind %s: cannot make its lock file: %s", router->bind,
                                   strerror (errno));
        if (flock (fd, LOCK_EX | LOCK_NB)) {
            close (fd);
            return ctki_error_set (error, EADDRINUSE, "cannot bind %s: another process or server is bound to it",
                                   router->bind);
        }
        if (fstat (fd, &mine) == 0 && stat (router->lock, &there) == 0 && mine.st_ino == there.st_ino) {
            router->lock_fd = fd;
            return 0;
        }
        close (fd); /* its owner removed it meanwhile: another try */
    }
}

static void unlock_path (ctki_router_t *router)
{
    if (router->lock_fd < 0)
        return;
    unlink (router->lock);
    close (router->lock_fd);
}

static int open_router (void *self, ctalk_error_t *error)
{
    ctki_router_t *router = self;
    if (lock_path (router, error))
        return -1;
    const ctki_session_setup_t *setup = &router->node->setup;
    ctki_sock_options_t options = {.send_frames = SEND_FRAMES,
                                   .receive_frames = (int) CTKI_MIN (2 * setup->window_frames, INT32_MAX / 2),
                                   .frame_bytes = CTKI_FRAME_BYTES_MAX + CTKI_FRAME_SLACK_BYTES,
                                   .backlog = router->backlog,
                                   .domain = "clustertalk"};
    router->sock = ctki_sock_router (&options);
    if (!router->sock)
        return ctki_error_set (error, errno, "pid %d: no socket: %s", (int) setup->self, strerror (errno));
    if (ctki_sock_bind (router->sock, router->bind, router->bound, sizeof router->bound))
        return ctki_error_set (error, errno, "pid %d: cannot bind %s: %s", (int) setup->self, router->bind,
                               strerror (errno));
    return 0;
}

static void start_sender (ctki_router_t *router, request_t *request)
{
    bool known = request->peer->sender != NULL;
    if (request->peer->removed) { /* meanwhile: nobody would end its sender */
        answer (router, request, EHOSTUNREACH);
        return;
    }
    request->sender = sender_of (router, request->peer);
    if (request->sender && known)
        ctki_sender_dial (request->sender);
    answer (router, request, !request->sender ? errno : ctki_sender_started (request->sender) ? 0 : EAGAIN);
}

/* All that concerns the peer leaves this actor; its sender goes to the caller. */
static void remove_peer (ctki_router_t *router, request_t *request)
{
    ctki_peer_t *peer = request->peer;
    route (router); /* what was accepted before is abandoned */
    if (peer->inbound)
        bury (router, peer->inbound);
    request->sender = peer->sender;
    peer->sender = NULL;
    answer (router, request, 0);
}

/* What the sender of a removed peer left, in case the peer comes back (R17). */
static void keep_tomb (ctki_router_t *router, ctalk_pid_t pid, ctki_out_tomb_t *tomb)
{
    ctki_free (ctki_map_remove (&router->out_tombs, (uint64_t) pid));
    if (!tomb->sid || ctki_map_put (&router->out_tombs, (uint64_t) pid, tomb))
        ctki_free (tomb);
}

/* A way was changed: both actors look. */
static void heal (ctki_router_t *router, ctki_peer_t *peer)
{
    if (peer->inbound)
        look_at_ways (router, peer->inbound, ctki_now_us ());
    if (peer->sender)
        ctki_sender_ring (peer->sender);
    ctki_peer_release (peer);
}

static void flush_one (ctki_peer_t *peer, void *arg)
{
    (void) arg;
    if (peer->sender)
        ctki_sender_flush (peer->sender);
}

static void obey (void *self, const ctki_command_t *command)
{
    ctki_router_t *router = self;
    switch (command->kind) {
    case START:
        start_sender (router, command->pointer);
        break;
    case START_ALL:
        start_all (router);
        break;
    case FLUSH:
        route (router);
        if (!command->pointer)
            each_peer (router, flush_one, NULL);
        else
            flush_one (command->pointer, NULL);
        ctki_peer_release (command->pointer);
        break;
    case REMOVE:
        remove_peer (router, command->pointer);
        break;
    case BURY:
        keep_tomb (router, (ctalk_pid_t) command->number, command->pointer);
        break;
    case WATCH:
        watch (router, command->pointer);
        break;
    case HEAL:
        heal (router, command->pointer);
        break;
    case CTKI_REPORT_COMMAND:
        add_report (router, command->pointer);
        break;
    default:
        drain (router, command->number);
    }
}

static int64_t step (void *self, int64_t now_us)
{
    ctki_router_t *router = self;
    route (router);
    take_reports (router, now_us);
    bool more = receive (router, now_us);
    hear_inbox (router, now_us);
    int64_t until_us = CTKI_MIN (keep_time (router, now_us, more), router->reports_us);
    if (router->phase != RUNNING)
        until_us = CTKI_MIN (until_us, part (router, now_us));
    if (atomic_load_explicit (&router->node->sender_failed, memory_order_relaxed)
        && atomic_exchange (&router->node->sender_failed, false))
        router->retry_us = CTKI_MIN (router->retry_us, now_us + START_RETRY_MS * CTKI_MS);
    if (now_us >= router->retry_us) {
        router->retry_us = CTKI_FOREVER;
        each_peer (router, start_if_stopped, router);
    }
    return more ? 0 : CTKI_MIN (until_us, router->retry_us);
}

static bool park (void *self)
{
    ctki_router_t *router = self;
    return router->passed < BUSY_BYTES && ctki_mailbox_park (&router->node->outbox.mailbox)
           && !(ctki_sock_events (router->sock) & CTKI_READABLE);
}

/* Under load it does not park after a pass, only to be rung by the next send:
 * it lets others run, if any want to, and looks again. So a batch gathers while
 * they do, and nobody pays for the wake-up. */
static int64_t after (void *self, int64_t now_us)
{
    ctki_router_t *router = self;
    if (router->passed < BUSY_BYTES)
        return CTKI_FOREVER;
    sched_yield ();
    return now_us;
}

static int watched (void *self, int fds[CTKI_ACTOR_FDS])
{
    ctki_router_t *router = self;
    fds[0] = ctki_sock_fd (router->sock);
    return 1;
}

static void close_router (void *self)
{
    ctki_router_t *router = self;
    while (router->inbounds) {
        inbound_t *inbound = router->inbounds;
        unlink_inbound (router, inbound);
        end_inbound (inbound);
    }
    while (router->tombs) {
        inbound_t *inbound = router->tombs;
        router->tombs = inbound->next;
        end_inbound (inbound);
    }
    if (router->sock && router->bound[0])
        ctki_sock_unbind (router->sock, router->bound, UNBIND_MS);
    ctki_sock_close (&router->sock);
    unlock_path (router);
}

static const ctki_actor_ops_t ops = {.open = open_router,
                                     .command = obey,
                                     .step = step,
                                     .park = park,
                                     .after = after,
                                     .watch = watched,
                                     .close = close_router};

/* ---- for the server */

ctki_router_t *ctki_router_new (ctki_node_t *node, const char *endpoint, int backlog)
{
    ctki_router_t *router = ctki_alloc_zero (sizeof *router);
    if (!router)
        return NULL;
    if (ctki_actor_init (&router->actor, &ops, router)) {
        ctki_free (router);
        return NULL;
    }
    router->node = node;
    router->bind = endpoint;
    router->backlog = backlog;
    router->retry_us = router->reports_us = CTKI_FOREVER;
    router->reports_end = &router->reports;
    return router;
}

int ctki_router_start (ctki_router_t *router, ctalk_error_t *error)
{
    char name[32];
    snprintf (name, sizeof name, "ct-router-%d", (int) router->node->setup.self);
    int rc = ctki_actor_start (&router->actor, name);
    if (rc)
        return ctki_error_set (error, rc, "pid %d: cannot start a thread: %s", (int) router->node->setup.self,
                               strerror (rc));
    return ctki_actor_await (&router->actor, error);
}

ctki_bell_t *ctki_router_bell (ctki_router_t *router)
{
    return &router->actor.bell;
}

const char *ctki_router_endpoint (const ctki_router_t *router)
{
    return router->bound;
}

static int ask (ctki_router_t *router, int kind, request_t *request)
{
    if (ctki_actor_tell (&router->actor, kind, 0, request))
        return ENOMEM;
    await (router->node, &request->done);
    return request->error;
}

int ctki_router_start_sender (ctki_router_t *router, ctki_peer_t *peer, ctalk_error_t *error)
{
    request_t request = {.peer = peer};
    int rc = ask (router, START, &request);
    if (rc)
        return ctki_error_set (error, rc, "the sender for pid %d cannot be started: %s", (int) peer->pid,
                               strerror (rc));
    return ctki_sender_await (request.sender, error);
}

void ctki_router_start_all (ctki_router_t *router)
{
    ctki_actor_tell (&router->actor, START_ALL, 0, NULL);
}

void ctki_router_flush (ctki_router_t *router, ctki_peer_t *peer)
{
    if (peer)
        ctki_peer_hold (peer);
    if (ctki_actor_tell (&router->actor, FLUSH, 0, peer))
        ctki_peer_release (peer); /* no memory: acknowledged all the same, a little later */
}

void ctki_router_remove (ctki_router_t *router, ctki_peer_t *peer, int64_t deadline_us)
{
    request_t request = {.peer = peer};
    ask (router, REMOVE, &request);
    if (!request.sender)
        return;
    ctki_out_tomb_t scratch, *tomb = ctki_alloc (sizeof *tomb);
    ctki_sender_dismiss (request.sender, deadline_us, tomb ? tomb : &scratch);
    ctki_sender_stop (&request.sender);
    /* Without memory the peer will find a new session, should it come back. */
    if (tomb && ctki_actor_tell (&router->actor, BURY, peer->pid, tomb))
        ctki_free (tomb);
}

int ctki_router_watch (ctki_router_t *router, bool on)
{
    request_t request = {.on = on};
    return ask (router, WATCH, &request);
}

void ctki_router_heal (ctki_router_t *router, ctki_peer_t *peer)
{
    ctki_peer_hold (peer);
    if (ctki_actor_tell (&router->actor, HEAL, 0, peer))
        ctki_peer_release (peer); /* no memory: they look at their next frame */
}

void ctki_router_drain (ctki_router_t *router, int64_t deadline_us)
{
    if (ctki_actor_tell (&router->actor, DRAIN, deadline_us, NULL))
        return; /* no memory: what is left is counted when the senders are stopped */
    await (router->node, &router->done);
}

static void stop_one (ctki_peer_t *peer, void *arg)
{
    ctki_router_t *router = arg;
    if (peer->sender)
        router->abandoned += ctki_sender_stop (&peer->sender);
}

uint64_t ctki_router_stop (ctki_router_t **router_p)
{
    ctki_router_t *router = *router_p;
    *router_p = NULL;
    ctki_actor_stop (&router->actor);
    route (router);
    each_peer (router, stop_one, router);
    ctki_actor_drain (&router->actor); /* the senders reported, ... */
    drop_reports (router);
    ctki_actor_fini (&router->actor); /* ... and rang its bell, to the last */
    uint64_t abandoned = router->abandoned;
    for (size_t i = 0; i < router->out_tombs.capacity; i++)
        ctki_free (router->out_tombs.slots[i].value);
    ctki_map_fini (&router->out_tombs);
    ctki_map_fini (&router->sids);
    ctki_free (router->inlet);
    ctki_restart_destroy (&router->restart);
    ctki_free (router);
    return abandoned;
}
