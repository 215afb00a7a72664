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
#include "src/ways.h"

enum {
    STEP_FRAMES = 64,     /* sent and received in one step, at most */
    HELP_FRAMES = 8,      /* sent in its place by another thread, at most; with more to do, two threads do it */
    SEND_FRAMES = 64,     /* in libzmq's pipe (SNDHWM) */
    RECEIVE_FRAMES = 1000,
    SEND_BUFFER = 512 * 1024,
    LOOKUP_RETRY_MS = 1000,
    REDIAL_MIN_MS = 10,   /* before an endpoint that cannot be dialled is tried again; doubled up to ... */
    REDIAL_MAX_MS = 1000,
    REPORT_RETRY_MS = 10, /* a report that found no memory */
    SALT_OUT = 1,         /* of this way's draws */
    SALT_IN = 2,
    LEFT_MS = 300,        /* a closing sender waits so long for the last word of a peer that left */
    LIMBO_MS = 1          /* between two looks at payloads that libzmq still holds */
};

enum { DIAL = 1, CLOSE, DISMISS, ASK };

struct ctki_sender {
    ctki_actor_t actor;
    ctki_mailbox_t mailbox;
    ctki_node_t *node;
    ctki_peer_t *peer;
    ctki_bell_t *router;
    ctki_out_t out;
    ctki_sock_t *dealer, *monitor;
    ctki_lookup_t *lookup;    /* under way */
    int64_t lookup_at_us;     /* when to ask again; CTKI_FOREVER: no need */
    int64_t redial_at_us;     /* the same of dialling */
    int64_t redial_wait_us;
    char endpoint[CTKI_ENDPOINT_BYTES];
    ctki_endpoint_t parsed;
    char address[CTKI_ENDPOINT_BYTES]; /* where to dial: numeric, the last that was good; "": not known */
    bool dialled;             /* this link was */
    bool redirected;          /* it was made anew for what a look-up said: it has its time, whatever the next one says */
    bool other_protocol;      /* what answers there does not speak ZMTP */
    bool blocked;             /* the dealer has no room */
    bool bad_out, bad_in;     /* a test makes the way a bad one */
    bool closing;
    int64_t closing_us;       /* since when */
    int64_t deadline_us;      /* until when */
    uint64_t closing_abandoned;
    uint64_t links;
    atomic_bool flush;
    atomic_bool ended;

    /* what the router knows */
    bool helped;              /* since the last step of its own thread */
    int64_t due_us;           /* when the last step asked to be called again; CTKI_FOREVER: never */
    int64_t report_at_us;     /* when to try again to report */
    ctki_report_t told;       /* what was reported last, without its pointers */
    uint64_t known_sid;       /* of the session last seen */
    uint32_t epoch;
    struct {
        uint32_t epoch;
        ctki_proof_t proof;
    } question;               /* not dealt with yet if its epoch is another one */

    ctki_way_t way_out, way_in;
};

/* ---- dialling */

/* Dials where the peer was last known to be. One that is not there (inproc) is
 * tried again, at growing intervals. */
static void dial (ctki_sender_t *sender, int64_t now_us)
{
    sender->redial_at_us = CTKI_FOREVER;
    if (ctki_sock_connect (sender->dealer, sender->address)) {
        if (errno != ECONNREFUSED)
            ctki_actor_note (&sender->actor, CTALK_LOG_WARNING, "peer %d: cannot connect to %s: %s",
                             (int) sender->peer->pid, sender->address, strerror (errno));
        sender->redial_at_us = now_us + sender->redial_wait_us;
        sender->redial_wait_us = CTKI_MIN (2 * sender->redial_wait_us, REDIAL_MAX_MS * CTKI_MS);
        return;
    }
    sender->dialled = true;
    sender->redial_wait_us = REDIAL_MIN_MS * CTKI_MS;
    if (sender->parsed.transport == CTKI_INPROC) { /* no handshake, and no event */
        ctki_out_link_up (&sender->out, now_us, ctki_random64 ());
        ctki_count (&sender->peer->reconnects, sender->links++ > 0);
    }
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

static void make_link (ctki_sender_t *sender, int64_t now_us);

/* An address was found. What is dialled already stays, unless it leads nowhere
 * and this one is another: once per link, for the addresses of a name may take turns. */
static void use_address (ctki_sender_t *sender, int64_t now_us, const char *address)
{
    char endpoint[CTKI_ENDPOINT_BYTES];
    bool v6 = strchr (address, ':') != NULL;
    snprintf (endpoint, sizeof endpoint, v6 ? "tcp://[%s]:%u" : "tcp://%s:%u", address, (unsigned) sender->parsed.port);
    bool same = strcmp (endpoint, sender->address) == 0;
    if (sender->dialled && (same || sender->redirected || sender->out.state == CTKI_OUT_OPEN))
        return;
    snprintf (sender->address, sizeof sender->address, "%s", endpoint);
    if (sender->dialled) {
        make_link (sender, now_us);
        sender->redirected = true;
    } else
        dial (sender, now_us);
}

/* Looks for the answer of the resolver, or asks again. */
static void resolve (ctki_sender_t *sender, int64_t now_us)
{
    char address[CTKI_ADDRESS_BYTES], reason[CTKI_RESOLVER_REASON_BYTES];
    if (!sender->lookup && now_us >= sender->lookup_at_us)
        ask (sender);
    if (!sender->lookup
        || !ctki_lookup_result (sender->lookup, address, sizeof address, reason, sizeof reason))
        return;
    ctki_lookup_destroy (&sender->lookup);
    if (address[0]) {
        use_address (sender, now_us, address);
        return;
    }
    ctki_actor_note (&sender->actor, CTALK_LOG_WARNING, "peer %d: %s: %s", (int) sender->peer->pid, sender->parsed.host, reason);
    sender->lookup_at_us = sender->address[0] ? CTKI_FOREVER : now_us + LOOKUP_RETRY_MS * CTKI_MS;
}

/* Connects, or asks for the address first (a known one is used meanwhile);
 * nothing while there is no endpoint. */
static void find_peer (ctki_sender_t *sender, int64_t now_us)
{
    ctki_outbox_lock (&sender->node->outbox);
    bool known = !sender->dialled && !sender->lookup && sender->peer->endpoint;
    if (known)
        snprintf (sender->endpoint, sizeof sender->endpoint, "%s", sender->peer->endpoint);
    ctki_outbox_unlock (&sender->node->outbox);
    if (!known || ctki_endpoint_parse (&sender->parsed, sender->endpoint, strlen (sender->endpoint), CTKI_FOR_CONNECT))
        return;
    bool name = sender->parsed.transport == CTKI_TCP && !sender->parsed.numeric;
    if (!name)
        snprintf (sender->address, sizeof sender->address, "%s", sender->parsed.text);
    if (sender->address[0])
        dial (sender, now_us);
    if (name)
        ask (sender);
}

/* ---- the link */

/* A dealer and its monitor. -1: errno. */
static int new_sockets (const ctki_sender_t *sender, ctki_sock_t **dealer, ctki_sock_t **monitor)
{
    ctki_sock_options_t options = {.send_frames = SEND_FRAMES,
                                   .receive_frames = RECEIVE_FRAMES,
                                   .frame_bytes = CTKI_PART_BYTES_MAX + CTKI_FRAME_SLACK_BYTES,
                                   .send_buffer = SEND_BUFFER,
                                   .owner = sender->node->setup.self};
    *dealer = ctki_sock_dealer (&options);
    *monitor = *dealer ? ctki_sock_monitor (*dealer) : NULL;
    if (*monitor)
        return 0;
    int code = errno;
    ctki_sock_close (dealer);
    errno = code;
    return -1;
}

static void close_sockets (ctki_sender_t *sender)
{
    ctki_sock_close (&sender->dealer); /* stops watching first (pitfall F1) */
    ctki_sock_close (&sender->monitor);
}

/* Tears the link down and makes it anew: what libzmq had is lost, and the
 * session gets it through. The one cure for all the ways in which a connection
 * dies without a word. Without sockets the old one is kept for another while. */
static void make_link (ctki_sender_t *sender, int64_t now_us)
{
    ctki_sock_t *dealer, *monitor;
    if (new_sockets (sender, &dealer, &monitor)) {
        ctki_out_link_kept (&sender->out, now_us);
        ctki_actor_note (&sender->actor, CTALK_LOG_WARNING, "peer %d: no socket for a new link: %s",
                         (int) sender->peer->pid, strerror (errno));
        return;
    }
    ctki_out_link_made (&sender->out, now_us, ctki_random64 ());
    close_sockets (sender);
    sender->dealer = dealer;
    sender->monitor = monitor;
    sender->dialled = sender->redirected = sender->blocked = false;
    ctki_way_clear (&sender->way_out);
    ctki_way_clear (&sender->way_in);
    ctki_count (&sender->peer->rebuilt, 1);
    find_peer (sender, now_us);
}

/* ---- the actor */

static int open_sender (void *self, ctalk_error_t *error)
{
    ctki_sender_t *sender = self;
    (void) error;
    if (new_sockets (sender, &sender->dealer, &sender->monitor)) {
        int code = errno;
        snprintf (sender->actor.error.text, sizeof sender->actor.error.text, "the sender for pid %d: no socket: %s",
                  (int) sender->peer->pid, strerror (code));
        sender->actor.error.code = code;
        atomic_store (&sender->node->sender_failed, true);
        ctki_bell_ring (sender->router);
        return -1;
    }
    ctki_out_link_made (&sender->out, ctki_now_us (), ctki_random64 ());
    find_peer (sender, ctki_now_us ());
    return 0;
}

static void obey (void *self, const ctki_command_t *command)
{
    ctki_sender_t *sender = self;
    if (command->kind == DIAL) {
        find_peer (sender, ctki_now_us ());
        return;
    }
    if (command->kind == ASK) {
        sender->question.epoch = (uint32_t) (uintptr_t) command->pointer;
        sender->question.proof = (ctki_proof_t) {
            .inc = (uint64_t) command->number, .from_us = command->from_us, .to_us = command->to_us};
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
        sender->other_protocol = event == CTKI_LINK_REFUSED;
        sender->blocked = false;
        ctki_way_clear (&sender->way_out);
        ctki_way_clear (&sender->way_in);
    }
}

static void take_frame (ctki_sender_t *sender, int64_t now_us, int count, const uint8_t *data, size_t size)
{
    ctki_frame_t frame;
    const char *bad = count > 1 ? "too many parts" : ctki_wire_decode (&frame, data, size, NULL, 0);
    if (bad)
        ctki_count (&sender->peer->malformed, 1);
    else if (ctki_out_receive (&sender->out, now_us, &frame) && frame.type != CTKI_REJECT) /* that was not the peer */
        atomic_store_explicit (&sender->peer->heard_us, now_us, memory_order_relaxed);
}

/* Returns whether there may be more. */
static bool receive (ctki_sender_t *sender, int64_t now_us)
{
    for (int i = 0; i < STEP_FRAMES; i++) {
        ctki_message_t message;
        if (ctki_sock_receive (sender->dealer, &message))
            return false;
        int copies = sender->bad_in ? ctki_way_judge (&sender->way_in, now_us, 0, message.data, message.size, 1) : 1;
        for (; copies > 0; copies--)
            take_frame (sender, now_us, message.count, message.data[0], message.size[0]);
        ctki_message_close (&message);
    }
    return true;
}

/* Frames of a bad way that are due: those that came, and those that go. */
static void pass_delayed (ctki_sender_t *sender, int64_t now_us)
{
    for (ctki_delayed_frame_t *frame; (frame = ctki_delayed_pop (&sender->way_in.delayed, now_us));) {
        take_frame (sender, now_us, frame->count, frame->data[0], frame->size[0]);
        ctki_delayed_free (&frame);
    }
    while (ctki_delayed_next (&sender->way_out.delayed) <= now_us) {
        const ctki_delayed_frame_t *first = sender->way_out.delayed.head;
        ctki_part_t parts[2] = {{.data = first->data[0], .size = first->size[0]},
                                {.data = first->data[1], .size = first->size[1]}};
        if (ctki_sock_send (sender->dealer, 0, parts, first->count)) {
            sender->blocked = true; /* the next step tries again */
            ctki_out_blocked (&sender->out, now_us);
            return;
        }
        ctki_delayed_frame_t *sent = ctki_delayed_pop (&sender->way_out.delayed, now_us);
        ctki_delayed_free (&sent);
    }
}

/* Looks whether the ways are bad; what was healed is used at once. */
static void look_at_ways (ctki_sender_t *sender, int64_t now_us)
{
    bool changed = false;
    ctki_lock_t *lock = &sender->node->outbox.mailbox.lock;
    sender->bad_out = ctki_way_look (&sender->way_out, sender->peer, lock, CTALK_OUT, SALT_OUT, &changed);
    sender->bad_in = ctki_way_look (&sender->way_in, sender->peer, lock, CTALK_IN, SALT_IN, &changed);
    if (changed)
        ctki_out_hurry (&sender->out, now_us);
    if (sender->bad_out || sender->bad_in)
        pass_delayed (sender, now_us);
}

/* Gives a frame to the link. False: it has no room. */
static bool give (ctki_sender_t *sender, int64_t now_us, const ctki_part_t *parts, int count)
{
    int copies = 1;
    if (CTKI_UNLIKELY (sender->bad_out)) {
        const uint8_t *data[2] = {parts[0].data, count > 1 ? parts[1].data : NULL};
        size_t size[2] = {parts[0].size, count > 1 ? parts[1].size : 0};
        copies = ctki_way_judge (&sender->way_out, now_us, 0, data, size, count);
    }
    for (int i = 0; i < copies; i++) {
        if (ctki_sock_send (sender->dealer, 0, parts, count))
            return i > 0; /* once is enough: libzmq reads it from now on */
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
        sender->closing_abandoned += out->settled.abandoned - out->settled.notices;
    int64_t charge = out->settled.charge;
    memset (&out->settled, 0, sizeof out->settled);
    ctki_outbox_settled (&sender->node->outbox, peer, charge);
    if (some)
        ctki_node_changed (sender->node);
}

/* A session is over: all that was accepted and is not settled goes to the next
 * one, wherever it waits: in the session, the mailbox, or before the router. */
static void count_carried (ctki_sender_t *sender)
{
    const ctki_peer_t *peer = sender->peer;
    ctki_obit_t *obit = sender->out.obit;
    if (CTKI_LIKELY (!obit || obit->counted))
        return;
    settle (sender);
    uint64_t settled = ctki_counted (&peer->delivered) + ctki_counted (&peer->abandoned);
    obit->carried = ctki_counted (&peer->accepted) - settled;
    obit->counted = true;
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
static bool emit (ctki_sender_t *sender, int64_t now_us, int most)
{
    for (int i = 0; i < most; i++) {
        ctki_emit_t next;
        uint8_t scratch[CTKI_SCRATCH_BYTES];
        ctki_part_t parts[2];
        feed (sender);
        look_at_ways (sender, now_us); /* what was sent after a cut has returned must not pass */
        count_carried (sender);        /* a frame that was kept back may have ended a session */
        if (atomic_load_explicit (&sender->flush, memory_order_relaxed) && atomic_exchange (&sender->flush, false))
            ctki_out_flush (&sender->out);
        if (!ctki_out_next (&sender->out, now_us, &next))
            return false;
        int count = ctki_emit_parts (&next, scratch, parts);
        if (!give (sender, now_us, parts, count)) {
            sender->blocked = true;
            ctki_out_blocked (&sender->out, now_us);
            return false;
        }
        ctki_out_sent (&sender->out, now_us, &next);
    }
    return true;
}

/* Why the peer is not up. */
static uint32_t reason_of (const ctki_sender_t *sender, int state)
{
    const ctki_out_t *out = &sender->out;
    if (state == CTALK_STATE_UP)
        return CTALK_WHY_NONE;
    if (state == CTALK_STATE_LEFT)
        return CTALK_WHY_CLOSING;
    if (out->rejected)
        return out->rejected;
    if (out->state != CTKI_OUT_NOLINK)
        return CTALK_WHY_SILENT;
    if (!sender->address[0])
        return CTALK_WHY_NO_ADDRESS;
    return sender->other_protocol ? CTALK_WHY_PROTOCOL : CTALK_WHY_UNREACHABLE;
}

/* Tells the others how the peer is; returns until when that holds. */
static int64_t publish (ctki_sender_t *sender, int64_t now_us, ctki_report_t *report)
{
    ctki_peer_t *peer = sender->peer;
    ctki_out_t *out = &sender->out;
    int64_t until_us;
    if (out->alive_to_us && out->sid != sender->known_sid) { /* a session with a new incarnation, or none any more */
        sender->known_sid = out->sid;
        if (out->sid) {
            atomic_store (&peer->incarnation, out->peer_inc);
            atomic_store (&peer->left, false);
        }
    }
    int state = ctki_out_peer_state (out, now_us, &until_us);
    if (atomic_load_explicit (&peer->left, memory_order_relaxed))
        state = CTALK_STATE_LEFT;
    uint32_t reason = reason_of (sender, state);
    atomic_store_explicit (&peer->reason, reason, memory_order_relaxed);
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
    atomic_store_explicit (&peer->stuck_ms, out->stuck_ms, memory_order_relaxed);
    report->state = state;
    report->reason = reason;
    if (out->leaving && out->state == CTKI_OUT_NOLINK) { /* its own goodbye may never come; but it may drain to us yet */
        int64_t gone_us = out->heard_us + out->setup.suspect_us;
        report->parted = now_us >= gone_us;
        until_us = report->parted ? until_us : CTKI_MIN (until_us, gone_us);
    }
    return until_us;
}

/* ---- reporting to the router */

void ctki_report_destroy (ctki_report_t **report_p)
{
    ctki_report_t *report = *report_p;
    if (!report)
        return;
    *report_p = NULL;
    ctki_peer_release (report->peer);
    ctki_restart_destroy (&report->restart);
    ctki_free (report->obit);
    ctki_free (report);
}

static bool is_news (const ctki_sender_t *sender, const ctki_report_t *now)
{
    const ctki_report_t *told = &sender->told;
    return sender->out.obit || now->epoch != told->epoch || now->inc != told->inc || now->state != told->state
           || now->refused != told->refused || (now->stuck_ms != 0) != (told->stuck_ms != 0)
           || now->parted != told->parted;
}

/* -1: no memory, nothing was told. */
static int tell (ctki_sender_t *sender, const ctki_report_t *now)
{
    ctki_command_t command;
    ctki_report_t *report = ctki_alloc (sizeof *report);
    if (!report)
        return -1;
    *report = *now;
    report->peer = sender->peer;
    ctki_peer_hold (report->peer);
    report->obit = NULL;
    report->restart = ctki_alloc_zero (sizeof *report->restart);
    memset (&command, 0, sizeof command);
    command.kind = CTKI_REPORT_COMMAND;
    command.pointer = report;
    if (report->restart) {
        report->obit = ctki_out_obit (&sender->out);
        if (ctki_bell_command (sender->router, &command, sizeof command) == 0)
            return 0;
        sender->out.obit = report->obit;
        report->obit = NULL;
    }
    ctki_report_destroy (&report);
    return -1;
}

/* Tells the router what is new; returns when to try again. */
static int64_t report (ctki_sender_t *sender, int64_t now_us, ctki_report_t *now)
{
    const ctki_out_t *out = &sender->out;
    now->epoch = sender->epoch;
    now->inc = out->sid && out->alive_to_us ? out->peer_inc : 0; /* one that is revived proves nothing yet */
    now->alive_us = out->alive_to_us;
    now->refused = out->rejected;
    now->stuck_ms = out->stuck_ms >= out->setup.down_us / CTKI_MS ? out->stuck_ms : 0;
    if (!is_news (sender, now))
        return CTKI_FOREVER;
    if (tell (sender, now))
        return now_us + REPORT_RETRY_MS * CTKI_MS;
    sender->told = *now;
    return CTKI_FOREVER;
}

/* The router asked: it has proved an incarnation. Returns when to try again. */
static int64_t hear_question (ctki_sender_t *sender, int64_t now_us)
{
    if ((int32_t) (sender->question.epoch - sender->epoch) <= 0)
        return CTKI_FOREVER;
    if (!ctki_out_incarnation (&sender->out, now_us, &sender->question.proof, ctki_random64 ()))
        return now_us + REPORT_RETRY_MS * CTKI_MS;
    sender->epoch = sender->question.epoch;
    return CTKI_FOREVER;
}

/* ---- the step */

static void finish (ctki_sender_t *sender)
{
    ctki_out_abandon (&sender->out);
    settle (sender);
    atomic_store (&sender->ended, true);
    ctki_bell_ring (sender->router);
    ctki_actor_end (&sender->actor);
}

/* What the router heard of the peer, on the other connection. */
static void hear_router (ctki_sender_t *sender)
{
    ctki_out_heard (&sender->out, atomic_load_explicit (&sender->peer->heard_us, memory_order_relaxed));
}

/* This process was stopped, or starved, if it is much later than it asked for:
 * then nobody else is to blame for the silence (Lifeguard's lesson). */
static void mind_lateness (ctki_sender_t *sender, int64_t now_us)
{
    int64_t late_us = sender->due_us == CTKI_FOREVER ? 0 : now_us - sender->due_us;
    if (CTKI_LIKELY (late_us <= sender->out.setup.heartbeat_us / 2))
        return;
    hear_router (sender); /* what came before that counts from then on, too */
    ctki_out_late (&sender->out, now_us, late_us);
}

static void keep_link (ctki_sender_t *sender, int64_t now_us)
{
    if (CTKI_LIKELY (!ctki_out_link_dead (&sender->out, now_us)))
        return;
    if (sender->dialled)
        make_link (sender, now_us);
    else
        ctki_out_link_made (&sender->out, now_us, ctki_random64 ()); /* there is nothing to be torn down */
}

/* What a step does before the deadlines are looked at. Returns whether there may be more. */
static bool exchange (ctki_sender_t *sender, int64_t now_us)
{
    resolve (sender, now_us);
    if (now_us >= sender->redial_at_us)
        dial (sender, now_us);
    watch_link (sender, now_us);
    sender->blocked = false;
    look_at_ways (sender, now_us);
    sender->out.watched = atomic_load_explicit (&sender->node->watching, memory_order_relaxed);
    bool more = receive (sender, now_us);
    hear_router (sender);
    if (!more)
        keep_link (sender, now_us);
    count_carried (sender); /* before any of it goes out */
    return emit (sender, now_us, STEP_FRAMES) || more;
}

/* When the next step is due if nothing happens. */
static int64_t next_due (const ctki_sender_t *sender)
{
    int64_t due_us = CTKI_MIN (sender->lookup_at_us, sender->redial_at_us);
    due_us = CTKI_MIN (due_us, ctki_delayed_next (&sender->way_in.delayed));
    if (!sender->blocked) /* else the dealer says when there is room */
        due_us = CTKI_MIN (due_us, ctki_delayed_next (&sender->way_out.delayed));
    if (sender->closing)
        due_us = CTKI_MIN (due_us, sender->deadline_us);
    int64_t session_us = sender->blocked ? ctki_out_link_deadline (&sender->out) : ctki_out_deadline (&sender->out);
    return CTKI_MIN (due_us, session_us);
}

/* Closing waits for no peer that is not there when nothing but notices is left. */
static bool has_only_notices (ctki_sender_t *sender)
{
    if (sender->out.state == CTKI_OUT_OPEN || !ctki_out_only_notices (&sender->out))
        return false;
    ctki_lock_take (&sender->mailbox.lock);
    bool empty = !sender->mailbox.items.head;
    ctki_lock_release (&sender->mailbox.lock);
    return empty;
}

static int64_t step (void *self, int64_t now_us)
{
    ctki_sender_t *sender = self;
    ctki_report_t now = {0};
    mind_lateness (sender, now_us);
    int64_t retry_us = hear_question (sender, now_us);
    bool more = exchange (sender, now_us);
    settle (sender);
    int64_t until_us = publish (sender, now_us, &now);
    retry_us = CTKI_MIN (retry_us, report (sender, now_us, &now));
    if (sender->closing && atomic_load_explicit (&sender->peer->left, memory_order_relaxed))
        sender->deadline_us = CTKI_MIN (sender->deadline_us, sender->closing_us + LEFT_MS * CTKI_MS);
    if (sender->closing
        && (sender->out.state == CTKI_OUT_ENDED || now_us >= sender->deadline_us || has_only_notices (sender))) {
        finish (sender);
        return CTKI_FOREVER;
    }
    until_us = CTKI_MIN (CTKI_MIN (until_us, retry_us), next_due (sender));
    if (sender->helped) /* and will be: what that makes due is not sooner than this */
        until_us = CTKI_MIN (until_us, now_us + CTKI_ACK_WAIT_MS * CTKI_MS);
    sender->helped = false;
    sender->due_us = until_us;
    return more ? 0 : until_us;
}

static bool park (void *self)
{
    ctki_sender_t *sender = self;
    if (ctki_out_hungry (&sender->out) && !ctki_mailbox_park (&sender->mailbox))
        return false;
    if (sender->blocked && (ctki_sock_events (sender->dealer) & CTKI_WRITABLE))
        return false;
    return ctki_sock_is_dry (sender->dealer) && ctki_sock_is_dry (sender->monitor);
}

/* What a sending thread may do here: give frames of an open session to a link
 * that is as it should be. All else is left to the own thread, which sleeps on:
 * what it waits for is not touched, and nothing may become due before it wakes. */
bool ctki_sender_help (ctki_sender_t *sender)
{
    if (!ctki_actor_borrow (&sender->actor))
        return false;
    int64_t now_us = ctki_now_us ();
    bool done = false, plain = sender->out.state == CTKI_OUT_OPEN && !sender->closing && !sender->blocked
                               && !sender->out.obit && sender->question.epoch == sender->epoch;
    if (plain)
        look_at_ways (sender, now_us);
    if (plain && !sender->bad_out && !sender->bad_in) {
        done = !emit (sender, now_us, HELP_FRAMES) && park (sender) && next_due (sender) >= sender->actor.sleeps_us;
        sender->helped = true;
        ctki_count (&sender->node->helped, 1);
    }
    ctki_actor_give_back (&sender->actor);
    return done;
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
    close_sockets (sender);
}

static const ctki_actor_ops_t ops = {.open = open_sender,
                                     .command = obey,
                                     .step = step,
                                     .park = park,
                                     .after = after,
                                     .watch = watch,
                                     .close = close_sender};

/* ---- for the router */

ctki_sender_t *ctki_sender_new (ctki_node_t *node, ctki_peer_t *peer, ctki_bell_t *router, uint32_t epoch,
                                const ctki_out_tomb_t *tomb)
{
    ctki_sender_t *sender = ctki_alloc_zero (sizeof *sender);
    if (!sender)
        return NULL;
    if (ctki_actor_init (&sender->actor, &ops, sender)) {
        ctki_free (sender);
        return NULL;
    }
    sender->actor.sched = &node->sched;
    sender->node = node;
    sender->peer = peer;
    sender->router = router;
    sender->lookup_at_us = sender->redial_at_us = sender->due_us = CTKI_FOREVER;
    sender->redial_wait_us = REDIAL_MIN_MS * CTKI_MS;
    sender->epoch = sender->question.epoch = sender->told.epoch = epoch;
    sender->told.state = CTALK_STATE_CONNECTING;
    ctki_peer_hold (peer);
    ctki_mailbox_init (&sender->mailbox, node->pool, node->setup.frame_bytes);
    ctki_session_setup_t setup = node->setup;
    setup.peer = peer->pid;
    ctki_out_init (&sender->out, &setup, ctki_now_us ());
    if (tomb)
        ctki_out_revive (&sender->out, tomb);
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

int ctki_sender_ask (ctki_sender_t *sender, uint32_t epoch, const ctki_proof_t *proof)
{
    ctki_command_t command;
    memset (&command, 0, sizeof command);
    command.kind = ASK;
    command.pointer = (void *) (uintptr_t) epoch;
    command.number = (int64_t) proof->inc;
    command.from_us = proof->from_us;
    command.to_us = proof->to_us;
    return ctki_bell_command (&sender->actor.bell, &command, sizeof command);
}

/* `told` stays: its first report answers what it may have been asked before. */
void ctki_sender_catch_up (ctki_sender_t *sender, uint32_t epoch)
{
    CTKI_ASSERT (!ctki_sender_started (sender) || ctki_sender_failed (sender));
    sender->epoch = sender->question.epoch = epoch;
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

void ctki_sender_dismiss (ctki_sender_t *sender, int64_t deadline_us, ctki_out_tomb_t *tomb)
{
    if (sender->actor.running && ctki_actor_tell (&sender->actor, DISMISS, deadline_us, NULL) == 0)
        ctki_actor_join (&sender->actor);
    else
        ctki_actor_stop (&sender->actor); /* nobody steps it any more */
    ctki_out_dismiss (&sender->out); /* whatever was not given to it before */
    ctki_out_bury (&sender->out, tomb);
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
    ctki_way_clear (&sender->way_out);
    ctki_way_clear (&sender->way_in);
    ctki_out_fini (&sender->out);
    ctki_mailbox_fini (&sender->mailbox);
    ctki_peer_release (sender->peer);
    ctki_free (sender);
    return abandoned;
}
