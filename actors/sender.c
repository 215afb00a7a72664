/*
 * sender.c - one peer's sender. See sender.h.
 */
#include "actors/sender.h"

#include <errno.h>
#include <stdio.h>

#include "actors/actor.h"
#include "actors/resolver.h"
#include "config/endpoint.h"
#include "src/mem.h"
#include "src/sys.h"

enum {
    STEP_FRAMES = 64,     /* sent and received in one step, at most */
    SEND_FRAMES = 16,     /* in libzmq's pipe (SNDHWM) */
    RECEIVE_FRAMES = 1000,
    SEND_BUFFER = 512 * 1024,
    LOOKUP_RETRY_MS = 1000,
    LEFT_MS = 300,        /* a closing sender waits so long for the last word of a peer that left */
    LIMBO_MS = 1          /* between two looks at payloads that libzmq still holds */
};

enum { DIAL = 1, CLOSE, DISMISS };

struct ctki_sender {
    ctki_actor_t actor;
    ctki_mailbox_t mailbox;
    ctki_node_t *node;
    ctki_peer_t *peer;
    ctki_bell_t *on_end;
    ctki_out_t out;
    ctki_sock_t *dealer, *monitor;
    ctki_lookup_t *lookup;    /* under way */
    int64_t lookup_at_us;     /* when to ask again; CTKI_FOREVER: no need */
    char endpoint[CTKI_ENDPOINT_BYTES];
    ctki_endpoint_t parsed;
    bool dialled;
    bool blocked;             /* the dealer has no room */
    bool closing;
    int64_t closing_us;       /* since when */
    int64_t deadline_us;      /* until when */
    uint64_t closing_abandoned;
    uint64_t known_sid;       /* of the session last seen */
    uint64_t links;
    atomic_bool flush;
    atomic_bool ended;
};

/* ---- dialling */

static void dial (ctki_sender_t *sender, const char *endpoint)
{
    if (ctki_sock_connect (sender->dealer, endpoint)) {
        ctki_actor_note (&sender->actor, CTALK_LOG_WARNING, "peer %d: cannot connect to %s: %s", (int) sender->peer->pid, endpoint,
                  strerror (errno));
        return;
    }
    sender->dialled = true;
    if (sender->parsed.transport == CTKI_INPROC) /* no handshake, and no event */
        ctki_out_link_up (&sender->out, ctki_now_us (), ctki_random64 ());
}

static void answered (void *arg)
{
    ctki_bell_ring (&((ctki_sender_t *) arg)->actor.bell);
}

static void ask (ctki_sender_t *sender)
{
    sender->lookup = ctki_resolver_ask (sender->parsed.host, answered, sender);
    sender->lookup_at_us = sender->lookup ? CTKI_FOREVER : ctki_now_us () + LOOKUP_RETRY_MS * CTKI_MS;
}

/* Looks for the answer of the resolver, or asks again. */
static void resolve (ctki_sender_t *sender, int64_t now_us)
{
    char address[CTKI_ADDRESS_BYTES], reason[CTKI_RESOLVER_REASON_BYTES], endpoint[CTKI_ENDPOINT_BYTES];
    if (!sender->lookup && now_us >= sender->lookup_at_us)
        ask (sender);
    if (!sender->lookup
        || !ctki_lookup_result (sender->lookup, address, sizeof address, reason, sizeof reason))
        return;
    ctki_lookup_destroy (&sender->lookup);
    if (address[0]) {
        bool v6 = strchr (address, ':') != NULL;
        snprintf (endpoint, sizeof endpoint, v6 ? "tcp://[%s]:%u" : "tcp://%s:%u", address,
                  (unsigned) sender->parsed.port);
        dial (sender, endpoint);
        return;
    }
    ctki_actor_note (&sender->actor, CTALK_LOG_WARNING, "peer %d: %s: %s", (int) sender->peer->pid, sender->parsed.host, reason);
    sender->lookup_at_us = now_us + LOOKUP_RETRY_MS * CTKI_MS;
}

/* Connects, or asks for the address first; nothing while there is no endpoint. */
static void find_peer (ctki_sender_t *sender)
{
    ctki_outbox_lock (&sender->node->outbox);
    bool known = !sender->dialled && !sender->lookup && sender->peer->endpoint;
    if (known)
        snprintf (sender->endpoint, sizeof sender->endpoint, "%s", sender->peer->endpoint);
    ctki_outbox_unlock (&sender->node->outbox);
    if (!known || ctki_endpoint_parse (&sender->parsed, sender->endpoint, strlen (sender->endpoint), CTKI_FOR_CONNECT))
        return;
    if (sender->parsed.transport == CTKI_TCP && !sender->parsed.numeric)
        ask (sender);
    else
        dial (sender, sender->parsed.text);
}

/* ---- the actor */

static int open_sender (void *self, ctalk_error_t *error)
{
    ctki_sender_t *sender = self;
    ctki_sock_options_t options = {.send_frames = SEND_FRAMES,
                                   .receive_frames = RECEIVE_FRAMES,
                                   .frame_bytes = CTKI_FRAME_BYTES_MAX + CTKI_FRAME_SLACK_BYTES,
                                   .send_buffer = SEND_BUFFER};
    (void) error;
    sender->dealer = ctki_sock_dealer (&options);
    sender->monitor = sender->dealer ? ctki_sock_monitor (sender->dealer) : NULL;
    if (!sender->monitor) {
        int code = errno;
        snprintf (sender->actor.error.text, sizeof sender->actor.error.text, "the sender for pid %d: no socket: %s",
                  (int) sender->peer->pid, strerror (code));
        sender->actor.error.code = code;
        atomic_store (&sender->node->sender_failed, true);
        ctki_bell_ring (sender->on_end);
        return -1;
    }
    find_peer (sender);
    return 0;
}

static void obey (void *self, const ctki_command_t *command)
{
    ctki_sender_t *sender = self;
    if (command->kind == DIAL) {
        find_peer (sender);
        return;
    }
    sender->closing = true;
    sender->closing_us = ctki_now_us ();
    sender->deadline_us = command->number;
    /* All for this peer is in the mailbox: nobody sends any more. */
    ctki_items_t items;
    ctki_mailbox_take (&sender->mailbox, &items);
    for (ctki_item_t *item; (item = ctki_items_take (&items));)
        ctki_out_push (&sender->out, item);
    if (command->kind == DISMISS)
        ctki_out_dismiss (&sender->out);
    ctki_out_close (&sender->out, ctki_now_us ());
}

static void watch_link (ctki_sender_t *sender, int64_t now_us)
{
    for (ctki_link_t event; (event = ctki_sock_monitor_next (sender->monitor)) != CTKI_LINK_NONE;) {
        if (event == CTKI_LINK_UP) {
            ctki_out_link_up (&sender->out, now_us, ctki_random64 ());
            ctki_count (&sender->peer->reconnects, sender->links++ > 0);
        } else if (event == CTKI_LINK_DOWN)
            ctki_out_link_down (&sender->out, now_us);
        sender->blocked = false;
    }
}

static void take_frame (ctki_sender_t *sender, int64_t now_us, const ctki_message_t *message)
{
    ctki_frame_t frame;
    const char *bad = message->count > 1 ? "too many parts"
                                         : ctki_wire_decode (&frame, message->data[0], message->size[0], NULL, 0);
    if (bad)
        ctki_count (&sender->peer->malformed, 1);
    else if (ctki_out_receive (&sender->out, now_us, &frame))
        atomic_store_explicit (&sender->peer->heard_us, now_us, memory_order_relaxed);
}

/* Returns whether there may be more. */
static bool receive (ctki_sender_t *sender, int64_t now_us)
{
    for (int i = 0; i < STEP_FRAMES; i++) {
        ctki_message_t message;
        if (ctki_sock_receive (sender->dealer, &message))
            return false;
        take_frame (sender, now_us, &message);
        ctki_message_close (&message);
    }
    return true;
}

static void feed (ctki_sender_t *sender)
{
    ctki_items_t items;
    if (!ctki_out_hungry (&sender->out) || !ctki_mailbox_take (&sender->mailbox, &items))
        return;
    for (ctki_item_t *item; (item = ctki_items_take (&items));)
        ctki_out_push (&sender->out, item);
}

/* Returns whether there may be more. */
static bool emit (ctki_sender_t *sender, int64_t now_us)
{
    for (int i = 0; i < STEP_FRAMES; i++) {
        ctki_emit_t next;
        uint8_t scratch[CTKI_SCRATCH_BYTES];
        ctki_part_t parts[2];
        feed (sender);
        if (atomic_load_explicit (&sender->flush, memory_order_relaxed) && atomic_exchange (&sender->flush, false))
            ctki_out_flush (&sender->out);
        if (!ctki_out_next (&sender->out, now_us, &next))
            return false;
        int count = ctki_emit_parts (&next, scratch, parts);
        if (ctki_sock_send (sender->dealer, 0, parts, count)) {
            sender->blocked = true;
            return false;
        }
        ctki_out_sent (&sender->out, now_us, &next);
    }
    return true;
}

/* Moves what was settled into the counters and makes room. */
static void settle (ctki_sender_t *sender)
{
    ctki_peer_t *peer = sender->peer;
    ctki_out_t *out = &sender->out;
    if (out->settled.retransmitted)
        ctki_count (&peer->retransmitted, out->settled.retransmitted);
    bool some = out->settled.delivered || out->settled.abandoned;
    if (some) {
        ctki_count (&peer->delivered, out->settled.delivered);
        ctki_count (&peer->in_doubt, out->settled.in_doubt);
        ctki_count (&peer->abandoned, out->settled.abandoned);
    }
    if (sender->closing)
        sender->closing_abandoned += out->settled.abandoned;
    int64_t charge = out->settled.charge;
    memset (&out->settled, 0, sizeof out->settled);
    ctki_outbox_settled (&sender->node->outbox, peer, charge);
    if (some)
        ctki_node_changed (sender->node);
}

/* Tells the others how the peer is. */
static int64_t publish (ctki_sender_t *sender, int64_t now_us)
{
    ctki_peer_t *peer = sender->peer;
    ctki_out_t *out = &sender->out;
    int64_t until_us;
    ctki_out_heard (out, atomic_load_explicit (&peer->heard_us, memory_order_relaxed));
    if (out->sid != sender->known_sid) { /* a session with a new incarnation */
        sender->known_sid = out->sid;
        atomic_store (&peer->incarnation, out->peer_inc);
        atomic_store (&peer->left, false);
    }
    int state = ctki_out_peer_state (out, now_us, &until_us);
    if (atomic_load_explicit (&peer->left, memory_order_relaxed))
        state = CTALK_STATE_LEFT;
    if (state != atomic_load_explicit (&peer->state, memory_order_relaxed)) {
        atomic_store_explicit (&peer->state_since_us, now_us, memory_order_relaxed);
        atomic_store (&peer->state, state);
        ctki_outbox_look_again (&sender->node->outbox);
        ctki_node_changed (sender->node);
    }
    if (out->srtt_us) {
        atomic_store_explicit (&peer->rtt_us, (uint64_t) out->srtt_us, memory_order_relaxed);
        atomic_store_explicit (&peer->rtt_worst_us, (uint64_t) out->rtt_worst_us, memory_order_relaxed);
    }
    return until_us;
}

static void finish (ctki_sender_t *sender)
{
    ctki_out_abandon (&sender->out);
    settle (sender);
    atomic_store (&sender->ended, true);
    ctki_bell_ring (sender->on_end);
    ctki_actor_end (&sender->actor);
}

static int64_t step (void *self, int64_t now_us)
{
    ctki_sender_t *sender = self;
    resolve (sender, now_us);
    watch_link (sender, now_us);
    sender->blocked = false;
    bool more = receive (sender, now_us);
    ctki_out_heard (&sender->out, atomic_load_explicit (&sender->peer->heard_us, memory_order_relaxed));
    more |= emit (sender, now_us);
    settle (sender);
    int64_t until_us = publish (sender, now_us);
    if (sender->closing && atomic_load_explicit (&sender->peer->left, memory_order_relaxed))
        sender->deadline_us = CTKI_MIN (sender->deadline_us, sender->closing_us + LEFT_MS * CTKI_MS);
    if (sender->closing && (sender->out.state == CTKI_OUT_ENDED || now_us >= sender->deadline_us)) {
        finish (sender);
        return CTKI_FOREVER;
    }
    if (more)
        return 0;
    if (sender->closing)
        until_us = CTKI_MIN (until_us, sender->deadline_us);
    if (!sender->blocked)
        until_us = CTKI_MIN (until_us, ctki_out_deadline (&sender->out));
    return CTKI_MIN (until_us, sender->lookup_at_us);
}

static bool park (void *self)
{
    ctki_sender_t *sender = self;
    if (ctki_out_hungry (&sender->out) && !ctki_mailbox_park (&sender->mailbox))
        return false;
    unsigned events = ctki_sock_events (sender->dealer);
    if ((events & CTKI_READABLE) || (sender->blocked && (events & CTKI_WRITABLE)))
        return false;
    return !(ctki_sock_events (sender->monitor) & CTKI_READABLE);
}

static int64_t after (void *self, int64_t now_us)
{
    ctki_sender_t *sender = self;
    return ctki_limbo_sweep (&sender->node->limbo) ? now_us + LIMBO_MS * CTKI_MS : CTKI_FOREVER;
}

static int watch (void *self, int fds[CTKI_ACTOR_FDS])
{
    ctki_sender_t *sender = self;
    fds[0] = ctki_sock_fd (sender->dealer);
    fds[1] = ctki_sock_fd (sender->monitor);
    return 2;
}

static void close_sender (void *self)
{
    ctki_sender_t *sender = self;
    ctki_lookup_destroy (&sender->lookup);
    ctki_sock_close (&sender->dealer); /* stops watching first (pitfall F1) */
    ctki_sock_close (&sender->monitor);
}

static const ctki_actor_ops_t ops = {.open = open_sender,
                                     .command = obey,
                                     .step = step,
                                     .park = park,
                                     .after = after,
                                     .watch = watch,
                                     .close = close_sender};

/* ---- for the router */

ctki_sender_t *ctki_sender_new (ctki_node_t *node, ctki_peer_t *peer, ctki_bell_t *on_end)
{
    ctki_sender_t *sender = ctki_alloc_zero (sizeof *sender);
    if (!sender)
        return NULL;
    if (ctki_actor_init (&sender->actor, &ops, sender)) {
        ctki_free (sender);
        return NULL;
    }
    sender->node = node;
    sender->peer = peer;
    sender->on_end = on_end;
    sender->lookup_at_us = CTKI_FOREVER;
    ctki_peer_hold (peer);
    ctki_mailbox_init (&sender->mailbox, node->pool, node->setup.frame_bytes);
    ctki_session_setup_t setup = node->setup;
    setup.peer = peer->pid;
    ctki_out_init (&sender->out, &setup, ctki_now_us ());
    return sender;
}

int ctki_sender_start (ctki_sender_t *sender)
{
    char name[32];
    ctki_actor_reset (&sender->actor); /* it may have failed before */
    snprintf (name, sizeof name, "ct-send-%d-%d", (int) sender->node->setup.self, (int) sender->peer->pid);
    return ctki_actor_start (&sender->actor, name);
}

bool ctki_sender_started (const ctki_sender_t *sender)
{
    return sender->actor.running;
}

bool ctki_sender_failed (const ctki_sender_t *sender)
{
    return atomic_load (&sender->actor.opened) < 0;
}

int ctki_sender_await (ctki_sender_t *sender, ctalk_error_t *error)
{
    return ctki_actor_await (&sender->actor, error);
}

bool ctki_sender_put (ctki_sender_t *sender, ctki_item_t *item)
{
    return ctki_mailbox_put (&sender->mailbox, item);
}

void ctki_sender_ring (ctki_sender_t *sender)
{
    ctki_bell_ring (&sender->actor.bell);
}

void ctki_sender_dial (ctki_sender_t *sender)
{
    ctki_actor_tell (&sender->actor, DIAL, 0, NULL);
}

void ctki_sender_flush (ctki_sender_t *sender)
{
    atomic_store (&sender->flush, true);
    ctki_sender_ring (sender);
}

void ctki_sender_close (ctki_sender_t *sender, int64_t deadline_us)
{
    if (!sender->actor.running || ctki_actor_tell (&sender->actor, CLOSE, deadline_us, NULL))
        atomic_store (&sender->ended, true); /* what it has is abandoned when it is stopped */
}

bool ctki_sender_ended (const ctki_sender_t *sender)
{
    return atomic_load (&sender->ended) || atomic_load (&sender->actor.opened) < 0;
}

void ctki_sender_dismiss (ctki_sender_t *sender, int64_t deadline_us)
{
    if (sender->actor.running && ctki_actor_tell (&sender->actor, DISMISS, deadline_us, NULL) == 0)
        ctki_actor_join (&sender->actor);
}

uint64_t ctki_sender_stop (ctki_sender_t **sender_p)
{
    ctki_sender_t *sender = *sender_p;
    *sender_p = NULL;
    ctki_actor_fini (&sender->actor);
    ctki_items_t items;
    ctki_mailbox_take (&sender->mailbox, &items);
    for (ctki_item_t *item; (item = ctki_items_take (&items));)
        ctki_out_push (&sender->out, item);
    ctki_out_abandon (&sender->out);
    sender->closing = true;
    settle (sender);
    uint64_t abandoned = sender->closing_abandoned;
    ctki_out_fini (&sender->out);
    ctki_mailbox_fini (&sender->mailbox);
    ctki_peer_release (sender->peer);
    ctki_free (sender);
    return abandoned;
}
