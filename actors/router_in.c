/*
 * router_in.c - what comes in at the router's socket: which receiving half a
 * frame is for, what came of it, and the acknowledgements. See router.h.
 *
 * What may go wrong: bytes from strangers are counted and dropped, at most
 * answered with one small frame. Where memory is missing, a frame counts as lost.
 */
#include "actors/router_parts.h"

#include <errno.h>

#include "src/mem.h"

enum {
    STEP_FRAMES = 64, /* received in one step, at most */
    SALT_IN = 3,      /* of the ways' draws */
    SALT_OUT = 4
};

/* ---- receiving in */

/* When something is due for a peer if nothing comes. */
static int64_t deadline_of (const inbound_t *inbound)
{
    int64_t delayed_us = CTKI_MIN (ctki_delayed_next (&inbound->way_in.delayed),
                                   ctki_delayed_next (&inbound->way_out.delayed));
    return CTKI_MIN (CTKI_MIN (ctki_in_deadline (&inbound->in), inbound->retry_us), delayed_us);
}

void ctki_router_set_due (ctki_router_t *router, inbound_t *inbound)
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
    flow->number = inbound->in.inc;
    inbound->flow = flow;
    inbound->spare = spare;
    *tomb = inbound->next;
    link_inbound (router, peer, inbound);
    return inbound;
}

uint32_t ctki_router_epoch_of (ctki_router_t *router, const ctki_peer_t *peer)
{
    const inbound_t *inbound = peer->inbound ? peer->inbound : *find_tomb (router, peer->pid);
    return inbound ? inbound->life.epoch : 0;
}

inbound_t *ctki_router_new_inbound (ctki_router_t *router, ctki_peer_t *peer)
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

/* What was done to the ways goes with the peer's record: should it come back, they are good. */
static void forget_ways (inbound_t *inbound)
{
    ctki_way_clear (&inbound->way_in);
    ctki_way_clear (&inbound->way_out);
    inbound->way_in = inbound->way_out = (ctki_way_t) {0};
    inbound->bad_in = inbound->bad_out = false;
}

/* Takes a receiving half out of everything that finds it by its peer or sid. */
void ctki_router_unlink (ctki_router_t *router, inbound_t *inbound)
{
    ctki_router_tell_all_restarts (router, inbound);
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
    forget_ways (inbound);
    inbound->peer->inbound = NULL;
    ctki_peer_release (inbound->peer);
    inbound->peer = NULL;
}

void ctki_router_end_inbound (inbound_t *inbound)
{
    ctki_in_fini (&inbound->in);
    ctki_life_fini (&inbound->life);
    ctki_free (inbound);
}

/* The peer is no member any more: its receiving half is kept in case it comes back,
 * also one that was only offered a session: its sender takes that for open. */
void ctki_router_bury (ctki_router_t *router, inbound_t *inbound)
{
    ctki_router_unlink (router, inbound);
    if (inbound->in.open || ctki_in_offers (&inbound->in)) {
        inbound->next = router->tombs;
        router->tombs = inbound;
    } else
        ctki_router_end_inbound (inbound);
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
    inbound_t *inbound = peer->inbound ? peer->inbound : ctki_router_new_inbound (router, peer);
    ctki_peer_release (peer);
    return inbound;
}

/* A session opened: what is taken from now on counts for it. */
static void begin_session (ctki_router_t *router, inbound_t *inbound, int64_t now_us)
{
    ctki_flow_release (&router->node->inbox, inbound->flow);
    inbound->flow = inbound->spare;
    inbound->flow->number = inbound->in.inc;
    inbound->spare = NULL;
    inbound->refused = CTALK_WHY_NONE;
    inbound->refused_told = 0;
    atomic_store (&inbound->peer->incarnation, inbound->in.inc);
    atomic_store (&inbound->peer->left, false);
    ctki_proof_t proof = {.inc = inbound->in.inc, .from_us = inbound->in.offered_us, .to_us = ctki_now_us ()};
    if (ctki_life_inbound (&inbound->life, &proof, &router->restart))
        ctki_router_ask_sender (router, inbound, now_us);
}

/* What is needed to take a frame whatever comes of it: two inlets, the frame's
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
    if (!router->spare_inlet && !(router->spare_inlet = ctki_alloc (sizeof *router->spare_inlet)))
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

/* What a frame gave, in an inlet with `count` references of its memory. */
static void hand_on (ctki_router_t *router, inbound_t *inbound, ctki_inlet_t **spare, ctki_inlet_t inlet)
{
    ctki_inlet_t *filled = *spare;
    *spare = NULL;
    *filled = inlet;
    ctki_router_put_in_order (router, inbound, filled);
}

/* Puts what a frame gave into the inbox, and what is for actors into the hall.
 * Takes the reference of buf. */
static void deliver (ctki_router_t *router, inbound_t *inbound, const ctki_frame_t *frame, const ctki_effects_t *fx,
                     ctki_buf_t *buf)
{
    bool one = fx->give == CTKI_GIVE_ONE;
    uint32_t others = one ? fx->record.to != 0 : fx->actors;
    ctki_inlet_t inlet = {.flow = inbound->flow, .one = one, .record = fx->record, .buf = fx->whole ? fx->whole : buf};
    inlet.at = fx->whole ? fx->whole->data : one ? frame->body : fx->records;
    inlet.left = fx->whole ? fx->whole->size : one ? frame->body_size : fx->records_size;
    ctki_count (&inbound->peer->received, fx->count);
    if (fx->count > 1)
        ctki_buf_hold (inlet.buf, fx->count - 1); /* one reference per envelope */
    if (CTKI_UNLIKELY (others > 0)) {
        ctki_inlet_t actors = inlet;
        actors.for_actors = true;
        actors.count = others;
        actors.frames = others == fx->count ? fx->frames : 0;
        hand_on (router, inbound, &router->spare_inlet, actors);
    }
    if (others < fx->count) {
        inlet.count = fx->count - others;
        inlet.frames = fx->frames;
        hand_on (router, inbound, &router->inlet, inlet);
    }
}

/* Keeps the map of session ids right. */
void ctki_router_note_sids (ctki_router_t *router, inbound_t *inbound, ctki_effects_t *fx)
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
    ctki_router_note_sids (router, inbound, fx);
    if (fx->duplicate)
        ctki_count (&peer->duplicates, 1);
    if (fx->malformed)
        ctki_count (&peer->malformed, 1);
    if (fx->abandoned_frames && inbound->flow) {
        ctki_inbox_skip (&router->node->inbox, inbound->flow, fx->abandoned, fx->abandoned_charge,
                         fx->abandoned_frames);
        inbound->abandoned += fx->abandoned;
        if (fx->abandoned)
            ctki_router_owe_event (router, inbound, CTALK_PEER_ABANDONED, CTALK_WHY_ABANDONED);
    }
    if (fx->refused) {
        inbound->refused = fx->refused;
        ctki_router_tell_refused (router, inbound, fx->refused, false);
    }
    if (fx->reply)
        send_control (router, inbound, fx->rid, &fx->answer);
}

/* The peer said goodbye; what was queued for it waits for its next incarnation. Who
 * asks the hall from now on sees that it left, who asked before is told; each time,
 * as one that had removed this server may come and go. */
static void on_left (ctki_router_t *router, inbound_t *inbound, uint32_t reason)
{
    ctki_peer_t *peer = inbound->peer;
    atomic_store (&peer->left, true);
    ctki_router_tell_hall_left (router, inbound);
    ctki_router_tell_left (router, inbound, reason);
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
    if (was_left && !inbound->in.left) { /* it had removed us, and is back */
        atomic_store (&peer->left, false);
        ctki_router_tell_back (router, inbound);
    }
    if (fx.give != CTKI_GIVE_NOTHING) {
        if (fx.whole && buf)
            ctki_buf_release (buf, 1);
        deliver (router, inbound, frame, &fx, buf);
    } else if (buf)
        ctki_buf_release (buf, 1);
    if (fx.left)
        on_left (router, inbound, fx.reason);
    ctki_router_set_due (router, inbound);
}

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
    ctki_router_look_at_ways (router, inbound, now_us);
    int copies = 1;
    if (CTKI_UNLIKELY (inbound->bad_in) && kept) {
        copies = ctki_way_judge (&inbound->way_in, now_us, message->rid, message->data, message->size, message->count);
        ctki_router_set_due (router, inbound); /* what is kept back has its time */
    }
    for (; copies > 0; copies--) {
        ctki_frame_t copy = frame;
        on_frame (router, now_us, inbound, message, kept && copies == 1, &copy);
    }
}

/* Returns whether there may be more. */
bool ctki_router_receive (ctki_router_t *router, int64_t now_us)
{
    router->taken = 0;
    for (int i = 0; i < STEP_FRAMES; i++) {
        ctki_message_t message;
        if (ctki_sock_receive (router->sock, &message))
            return false;
        for (int part = 0; part < message.count && part < CTKI_MESSAGE_PARTS; part++)
            router->taken += message.size[part];
        on_message (router, now_us, &message, true);
        ctki_message_close (&message);
    }
    return true;
}

/* ---- bad ways */

void ctki_router_look_at_ways (ctki_router_t *router, inbound_t *inbound, int64_t now_us)
{
    bool changed = false;
    ctki_lock_t *lock = &router->node->outbox.mailbox.lock;
    inbound->bad_in = ctki_way_look (&inbound->way_in, inbound->peer, lock, CTALK_IN, SALT_IN, &changed);
    inbound->bad_out = ctki_way_look (&inbound->way_out, inbound->peer, lock, CTALK_OUT, SALT_OUT, &changed);
    if (CTKI_UNLIKELY (changed)) {
        ctki_in_hurry (&inbound->in, now_us);
        ctki_router_set_due (router, inbound);
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
void ctki_router_hear_inbox (ctki_router_t *router, int64_t now_us)
{
    ctki_flow_t copy;
    for (ctki_flow_t *flow; (flow = ctki_inbox_told (&router->node->inbox, &copy));) {
        inbound_t *inbound = copy.peer->inbound;
        if (!inbound || inbound->flow != flow)
            continue;
        ctki_in_consumed (&inbound->in, now_us, copy.consumed, copy.byte, copy.frames);
        ctki_router_set_due (router, inbound);
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
        ctki_router_ask_sender (router, inbound, now_us);
        ctki_router_pay_events (router, inbound);
    }
    ctki_router_look_at_ways (router, inbound, now_us);
    acknowledge (router, inbound, now_us);
    if (!router->lot)
        router->lot = ctki_random64 ();
    for (; !more && ctki_in_tick (&inbound->in, now_us, router->lot, &fx); router->lot = ctki_random64 ())
        take_effects (router, inbound, &fx);
    pass_delayed (router, inbound, now_us); /* the last: what comes may end it all */
}

/* Whatever is due; returns when the next is. */
int64_t ctki_router_keep_time (ctki_router_t *router, int64_t now_us, bool more)
{
    int64_t until_us = CTKI_FOREVER;
    inbound_t *due = router->due;
    router->due = NULL;
    while (due) {
        inbound_t *inbound = due;
        due = inbound->due_next;
        inbound->due = false;
        tend (router, inbound, now_us, more);
        ctki_router_set_due (router, inbound);
        until_us = CTKI_MIN (until_us, deadline_of (inbound));
    }
    return until_us;
}
