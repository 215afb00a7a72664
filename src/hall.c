/*
 * hall.c - who there is, delivery to actors, and the end of one. See hall.h.
 */
#include "src/hall.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>

#include "src/calls.h"
#include "src/mem.h"
#include "src/sys.h"

static CTKI_THREAD_LOCAL ctalk_actor_t *me;

ctalk_actor_t *ctki_hall_me (const ctki_hall_t *hall)
{
    return me && me->hall == hall ? me : NULL;
}

void ctki_hall_init (ctki_hall_t *hall, ctalk_pid_t self, ctki_inbox_t *inbox, ctki_outbox_t *outbox,
                     uint64_t mailbox_bytes)
{
    memset (hall, 0, sizeof *hall);
    ctki_lock_init (&hall->lock);
    hall->self = self;
    hall->inbox = inbox;
    hall->outbox = outbox;
    hall->mailbox_bytes = mailbox_bytes;
    hall->ids = ctki_random64 ();
    hall->numbers = ctki_random64 ();
    hall->kept_end = &hall->kept;
    hall->dues_end = &hall->dues;
    atomic_init (&hall->next_us, CTKI_FOREVER);
}

/* Who is woken under the lock would only wait for it. One who is not asleep yet
 * looks once more before it is. */
void ctki_hall_wake (ctki_hall_t *hall, ctki_seat_t *seat)
{
    if ((atomic_load (&seat->gate.waiters) == 0 && !atomic_load (&seat->leads)) || atomic_load (&seat->pending))
        return;
    atomic_store (&seat->pending, true);
    atomic_fetch_add (&seat->pins, 1);
    seat->wake_next = hall->to_wake;
    hall->to_wake = seat;
}

void ctki_hall_await_wakers (ctki_seat_t *seat)
{
    while (atomic_load (&seat->pins) > 0)
        sched_yield ();
}

static void wake_all (ctki_hall_t *hall, ctki_seat_t *seats)
{
    while (seats) {
        ctki_seat_t *seat = seats;
        seats = seat->wake_next;
        atomic_store (&seat->pending, false);
        ctki_seat_wake (hall->inbox, seat);
        atomic_fetch_sub (&seat->pins, 1); /* it may be gone now */
    }
}

void ctki_hall_unlock (ctki_hall_t *hall)
{
    bool wake = hall->wake;
    ctki_seat_t *seats = hall->to_wake;
    hall->wake = false;
    hall->to_wake = NULL;
    ctki_lock_release (&hall->lock);
    wake_all (hall, seats);
    if (wake)
        ctki_outbox_wake_router (hall->outbox);
}

/* They follow each other from a number that was drawn at the start: 61 bits, so
 * that two processes do not draw the same. */
uint64_t ctki_hall_draw (ctki_hall_t *hall, uint64_t kind)
{
    do
        hall->ids = (hall->ids + 1) & CTKI_ID_NUMBER;
    while (hall->ids <= CTKI_SYSTEM);
    return hall->ids | kind;
}

/* ---- what peers are told */

static int tell (ctki_hall_t *hall, ctalk_pid_t pid, const ctki_notice_t *notice)
{
    uint8_t bytes[CTKI_NOTICE_BYTES + CTKI_NAME_BYTES];
    ctalk_envelope_t envelope = {.pid = pid, .to = CTKI_SYSTEM, .data = bytes};
    envelope.size = ctki_notice_encode (notice, bytes);
    return ctki_outbox_post (hall->outbox, &envelope, &hall->wake) == ENOMEM ? -1 : 0;
}

int ctki_hall_tell (ctki_hall_t *hall, ctalk_pid_t pid, const ctki_notice_t *notice)
{
    return hall->dues ? -1 : tell (hall, pid, notice);
}

int ctki_hall_tell_credit (const ctalk_actor_t *actor, const ctki_flow_in_t *flow, uint64_t limit)
{
    uint8_t number[CTKI_FLOW_NUMBER_BYTES];
    ctki_notice_t notice = {.op = CTKI_CREDIT, .a = actor->id, .b = limit, .text = (const char *) number,
                            .text_size = sizeof number};
    ctki_put64 (number, flow->number);
    return ctki_hall_tell (actor->hall, flow->pid, &notice);
}

int ctki_hall_tell_due (ctki_hall_t *hall, const ctki_due_t *due)
{
    ctki_notice_t notice = {.op = due->op, .a = due->a, .b = due->b};
    return tell (hall, due->pid, &notice);
}

int ctki_hall_state_of (ctki_hall_t *hall, ctalk_pid_t pid)
{
    ctki_outbox_lock (hall->outbox);
    ctki_peer_t *peer = pid < 0 ? NULL : ctki_route_find (&hall->outbox->route, pid, 0);
    int state = pid < 0                     ? -EHOSTUNREACH
                : !peer                     ? -errno
                : atomic_load (&peer->left) ? CTALK_STATE_LEFT
                                            : atomic_load (&peer->state);
    ctki_outbox_unlock (hall->outbox);
    return state;
}

/* ---- delivery from this server */

/* To a call of this server; it takes the letter. */
static void answer (ctki_hall_t *hall, ctki_letter_t *letter)
{
    uint64_t call = letter->envelope.to;
    ctki_request_done (hall, hall->self, call);
    hall->puts++;
    if (ctki_call_answered (hall, &letter->envelope)) {
        hall->taken++;
        return; /* its memory is the envelope's now */
    }
    hall->late++;
    hall->lost++;
    if (ctki_id_is_call (letter->envelope.from)) /* it asks, too */
        ctki_call_failed (hall, hall->self, letter->envelope.from, ESRCH);
    ctki_letter_free (letter);
}

int ctki_hall_deliver (ctki_hall_t *hall, ctki_letter_t *letter, ctalk_actor_t **actor_p)
{
    const ctalk_envelope_t *envelope = &letter->envelope;
    if (atomic_load (&hall->closing))
        return ESHUTDOWN;
    if (ctki_id_is_call (envelope->to)) {
        answer (hall, letter);
        return 0;
    }
    bool asks = ctki_id_is_call (envelope->from);
    ctalk_actor_t *actor = *actor_p = ctki_map_get (&hall->actors, envelope->to);
    if (!actor) {
        hall->puts++;
        hall->lost++;
        if (asks)
            ctki_call_failed (hall, hall->self, envelope->from, ESRCH);
        ctki_letter_free (letter);
        return 0;
    }
    uint64_t from = envelope->from;
    if (asks && ctki_request_add (actor, hall->self, from))
        return ENOMEM;
    if (ctki_mail_try_put (actor, letter))
        return 0;
    if (asks)
        ctki_request_undo (hall, actor, hall->self, from);
    return EAGAIN;
}

/* Waits in the line for room; the letter is taken, or given back with an errno. With the hall's lock held. */
static int stand (ctki_hall_t *hall, ctki_standing_t *standing, ctalk_actor_t *actor, int timeout_ms)
{
    ctalk_actor_t *self = ctki_hall_me (hall);
    uint64_t from = standing->letter->envelope.from;
    bool asks = ctki_id_is_call (from);
    if (self && atomic_load (&self->stopping))
        return ESHUTDOWN;
    if (asks && ctki_request_add (actor, hall->self, from))
        return ENOMEM;
    atomic_init (&standing->verdict, -1);
    ctki_mail_stand (actor, standing);
    ctki_fence_heavy ();
    ctki_mail_serve (actor); /* room that was made meanwhile */
    if (self) {
        self->stands = standing;
        self->stands_at = actor;
        ctki_mail_serve (self); /* who stands at its own may be whom it waits for */
    }
    int rc = 0;
    int64_t deadline_us = ctki_deadline_us (timeout_ms);
    while (rc == 0 && atomic_load (&standing->verdict) < 0) {
        unsigned ticket = ctki_gate_ticket (&standing->seat.gate);
        ctki_hall_unlock (hall);
        rc = ctki_gate_wait (&standing->seat.gate, ticket, deadline_us);
        ctki_hall_lock (hall);
    }
    if (self)
        self->stands = NULL;
    if (atomic_load (&standing->verdict) < 0)
        ctki_mail_serve (actor); /* room too small for its actor to serve the line; it lives: it would have decided */
    if (atomic_load (&standing->verdict) >= 0)
        rc = atomic_load (&standing->verdict);
    else
        ctki_mail_decide (actor, standing, rc);
    if (rc && asks)
        ctki_request_undo (hall, actor, hall->self, from);
    return rc;
}

static int send_here (ctki_hall_t *hall, const ctalk_envelope_t *envelope, int timeout_ms)
{
    ctalk_actor_t *actor;
    int rc = ctki_outbox_check (hall->outbox, envelope);
    ctki_letter_t *letter = rc ? NULL : ctki_letter_new (hall, envelope);
    if (!letter)
        return rc ? rc : ENOMEM;
    ctki_standing_t standing = {.letter = letter};
    ctki_hall_lock (hall);
    rc = ctki_hall_deliver (hall, letter, &actor);
    if (rc == EAGAIN && timeout_ms != 0)
        rc = stand (hall, &standing, actor, timeout_ms);
    ctki_hall_unlock (hall);
    ctki_hall_await_wakers (&standing.seat);
    if (rc)
        ctki_letter_free (letter);
    return rc;
}

void ctki_hall_sent (ctki_hall_t *hall, const ctalk_envelope_t *envelope)
{
    if (!ctki_id_is_call (envelope->to))
        return;
    ctki_hall_lock (hall);
    ctki_request_done (hall, envelope->pid, envelope->to);
    ctki_hall_unlock (hall);
}

int ctki_hall_pass (ctki_hall_t *hall, const ctalk_envelope_t *envelope, int timeout_ms, const atomic_bool *lost)
{
    if (envelope->pid == hall->self && envelope->to) {
        int rc = send_here (hall, envelope, timeout_ms);
        if (rc)
            ctki_outbox_count_refusal (hall->outbox, rc == EAGAIN ? hall->outbox->self : NULL, rc);
        return rc;
    }
    if (ctki_outbox_send_until (hall->outbox, envelope, timeout_ms, lost))
        return errno;
    ctki_hall_sent (hall, envelope);
    return 0;
}

/* ---- delivery from a peer, by the router */

/* A peer hears again what it may send: it may never have heard it. -1: ENOMEM. */
static int tell_grants (ctki_hall_t *hall, ctalk_pid_t pid)
{
    for (size_t i = 0; i < hall->actors.capacity; i++) {
        ctalk_actor_t *actor = hall->actors.slots[i].value;
        for (ctki_flow_in_t *flow = actor ? actor->flows : NULL; flow; flow = flow->next) {
            if (flow->pid == pid && !flow->over && flow->granted > CTKI_CREDIT_BYTES
                && ctki_hall_tell_credit (actor, flow, flow->granted))
                return -1;
        }
    }
    return 0;
}

/* The peer counts anew what it sends to the actors here. */
static void end_flows_of (ctki_hall_t *hall, ctalk_pid_t pid)
{
    for (size_t i = 0; i < hall->actors.capacity; i++) {
        if (hall->actors.slots[i].value)
            ctki_flows_in_peer_gone (hall->actors.slots[i].value, pid);
    }
}

/* -1: ENOMEM, nothing was done. */
static int hear (ctki_hall_t *hall, ctki_flow_t *flow, const uint8_t *data, size_t size)
{
    ctki_peer_t *peer = flow->peer;
    ctki_notice_t notice;
    if (!ctki_notice_decode (&notice, data, size)) {
        ctki_count (&peer->malformed, 1);
        return 0;
    }
    switch (notice.op) {
    case CTKI_CREDIT:
        return ctki_outbox_grant (hall->outbox, peer->pid, notice.a, ctki_notice_flow (&notice), notice.b);
    case CTKI_GONE:
        ctki_outbox_forget (hall->outbox, peer->pid, notice.a);
        break;
    case CTKI_NO_ANSWER:
        ctki_call_failed (hall, peer->pid, notice.a, ESRCH);
        break;
    case CTKI_CALL_OVER:
        ctki_request_done (hall, peer->pid, notice.a);
        break;
    case CTKI_MONITOR:
        return ctki_watcher_add (hall, peer->pid, notice.a, notice.b);
    case CTKI_UNMONITOR:
        ctki_watcher_remove (hall, peer->pid, notice.a, notice.b);
        break;
    case CTKI_DOWN:
        ctki_watch_fire (hall, peer->pid, notice.a, (uint32_t) (notice.b >> 32), (int32_t) (uint32_t) notice.b);
        break;
    case CTKI_JOINED:
    case CTKI_LEFT:
    case CTKI_TELL_ALL:
    case CTKI_TOLD_ALL:
        return ctki_groups_hear (hall, peer->pid, &notice);
    case CTKI_ANEW:
        end_flows_of (hall, peer->pid);
        flow->number = notice.a;
        break;
    }
    return 0;
}

/* Nobody has that address: those who wait are told. */
static int refuse (ctki_hall_t *hall, ctki_peer_t *peer, const ctki_record_t *record)
{
    ctki_notice_t gone = {.op = CTKI_GONE, .a = record->to}, unanswered = {.op = CTKI_NO_ANSWER, .a = record->from};
    if (ctki_id_is_actor (record->to) && ctki_hall_tell (hall, peer->pid, &gone))
        return -1;
    if (ctki_id_is_call (record->from) && ctki_hall_tell (hall, peer->pid, &unanswered))
        return -1;
    ctki_count (&peer->no_such_actor, 1);
    return 0;
}

static int to_actor (ctalk_actor_t *actor, ctki_flow_t *from, const ctalk_envelope_t *envelope)
{
    ctki_peer_t *peer = from->peer;
    ctki_flow_in_t *flow = ctki_flow_in_of (actor, peer->pid, from->number);
    ctki_letter_t *letter = flow ? ctki_alloc (sizeof *letter) : NULL;
    if (!letter || (ctki_id_is_call (envelope->from) && ctki_request_add (actor, peer->pid, envelope->from))) {
        ctki_free (letter);
        return -1;
    }
    *letter = (ctki_letter_t){.envelope = *envelope, .charge = envelope->size + CTKI_CHARGE_BYTES, .flow = flow,
                              .peer = peer};
    ctki_peer_hold (peer);
    flow->received += letter->charge;
    ctki_mail_put (actor, letter);
    return 0;
}

/* One envelope, which holds a reference of its memory: it goes with it. -1: ENOMEM,
 * nothing was done. */
static int take_in (ctki_hall_t *hall, ctki_flow_t *flow, const ctki_record_t *record, const uint8_t *data, size_t size,
                    ctki_buf_t *buf)
{
    ctki_peer_t *peer = flow->peer;
    ctalk_envelope_t envelope = {.pid = peer->pid, .msg_id = record->msg_id, .data = data, .size = size,
                                 .to = record->to, .from = record->from, .lease = buf,
                                 .flags = record->flags & CTKI_R_BROADCAST ? CTALK_WAS_BROADCAST : 0};
    if (ctki_id_is_call (record->to)) {
        if (ctki_call_answered (hall, &envelope)) {
            ctki_count (&peer->consumed_by_actors, 1);
            return 0;
        }
        if (refuse (hall, peer, record))
            return -1;
        hall->late++;
        ctki_buf_release (buf, 1);
        return 0;
    }
    if (record->to == CTKI_SYSTEM) {
        if (hear (hall, flow, data, size))
            return -1;
        ctki_count (&peer->consumed_by_actors, 1);
        ctki_buf_release (buf, 1);
        return 0;
    }
    ctalk_actor_t *actor = ctki_map_get (&hall->actors, record->to);
    if (actor)
        return to_actor (actor, flow, &envelope);
    if (refuse (hall, peer, record))
        return -1;
    ctki_buf_release (buf, 1);
    return 0;
}

/* The inlet is delivered as far as memory allows. True: all of it. */
static bool unpack (ctki_hall_t *hall, ctki_inlet_t *inlet)
{
    while (inlet->count > 0) {
        ctki_record_t record = inlet->record;
        size_t head = 0, size = inlet->left, whole = size;
        if (!inlet->one) {
            head = ctki_record_get (inlet->at, inlet->left, &record);
            CTKI_ASSERT (head > 0);
            size = record.len;
            whole = head + ctki_record_pad (record.len);
        }
        if (record.to != 0) {
            if (take_in (hall, inlet->flow, &record, inlet->at + head, size, inlet->buf))
                return false;
            inlet->count--;
            inlet->unpacked++;
            inlet->charge += size + CTKI_CHARGE_BYTES;
        }
        inlet->at += whole;
        inlet->left -= whole;
    }
    return true;
}

/* All of an inlet is where it belongs: its sender gets room for it. */
static void finish (ctki_hall_t *hall, ctki_inlet_t *inlet)
{
    ctki_inbox_skip (hall->inbox, inlet->flow, inlet->unpacked, inlet->charge, inlet->frames);
    ctki_free (inlet);
}

static void keep (ctki_hall_t *hall, ctki_inlet_t *inlet)
{
    ctki_flow_hold (hall->inbox, inlet->flow);
    inlet->next = NULL;
    *hall->kept_end = inlet;
    hall->kept_end = &inlet->next;
    ctki_hall_look_at (hall, ctki_now_us () + CTKI_HALL_RETRY_MS * CTKI_MS);
}

void ctki_hall_receive (ctki_hall_t *hall, ctki_inlet_t *inlet)
{
    ctki_hall_lock (hall);
    bool done = !hall->kept && unpack (hall, inlet);
    if (!done)
        keep (hall, inlet);
    ctki_hall_unlock (hall);
    if (done)
        finish (hall, inlet);
}

/* With the lock held: what was kept for want of memory. */
static void receive_kept (ctki_hall_t *hall)
{
    for (ctki_inlet_t *inlet; (inlet = hall->kept) && unpack (hall, inlet);) {
        ctki_flow_t *flow = inlet->flow;
        hall->kept = inlet->next;
        if (!hall->kept)
            hall->kept_end = &hall->kept;
        finish (hall, inlet);
        ctki_flow_unhold (hall->inbox, flow);
    }
    if (hall->kept)
        ctki_hall_look_at (hall, ctki_now_us () + CTKI_HALL_RETRY_MS * CTKI_MS);
}

bool ctki_hall_keeps (ctki_hall_t *hall, ctalk_pid_t pid)
{
    ctki_hall_lock (hall);
    receive_kept (hall);
    const ctki_inlet_t *inlet = hall->kept;
    while (inlet && inlet->flow->peer->pid != pid)
        inlet = inlet->next;
    ctki_hall_unlock (hall);
    return inlet != NULL;
}

/* ---- peers come and go */

/* What was under way when a peer was removed is lost, that flows are over with it. */
static void note_removal (ctki_hall_t *hall, ctalk_pid_t pid)
{
    if (ctki_map_put (&hall->removed, (uint64_t) pid, hall))
        hall->removed_any = true;
}

/* The first word to a peer that was removed here before. -1: ENOMEM. */
static int tell_return (ctki_hall_t *hall, ctalk_pid_t pid)
{
    ctki_notice_t gone = {.op = CTKI_GONE};
    if (!hall->removed_any && !ctki_map_get (&hall->removed, (uint64_t) pid))
        return 0;
    if (ctki_hall_tell (hall, pid, &gone))
        return -1;
    ctki_map_remove (&hall->removed, (uint64_t) pid);
    return 0;
}

int ctki_hall_peer_up (ctki_hall_t *hall, ctalk_pid_t pid)
{
    ctki_hall_lock (hall);
    int rc = tell_return (hall, pid) || tell_grants (hall, pid) || ctki_groups_peer_up (hall, pid) ? -1 : 0;
    ctki_hall_unlock (hall);
    return rc;
}

/* It has ended, or one of the two has removed the other: it counts anew what it
 * sends if it comes back. But for one that was removed here, and may not know it,
 * it asked for nothing. */
static void forget_peer (ctki_hall_t *hall, ctalk_pid_t pid, uint32_t why)
{
    if (why != CTALK_WHY_REMOVED) {
        ctki_requests_peer_gone (hall, pid);
        ctki_watchers_peer_gone (hall, pid);
    }
    end_flows_of (hall, pid);
}

void ctki_hall_peer_gone (ctki_hall_t *hall, ctalk_pid_t pid, uint32_t why)
{
    ctki_hall_lock (hall);
    receive_kept (hall);
    if (why == CTALK_WHY_RESTARTED)
        ctki_outbox_forget (hall->outbox, pid, 0);
    else if (why == CTALK_WHY_REMOVED)
        note_removal (hall, pid);
    if (why != CTALK_WHY_DOWN)
        forget_peer (hall, pid, why);
    ctki_calls_peer_gone (hall, pid);
    ctki_watches_peer_gone (hall, pid, why);
    ctki_groups_peer_gone (hall, pid, why);
    ctki_hall_unlock (hall);
}

/* ---- the end of an actor */

static void free_actor (ctalk_actor_t *actor)
{
    CTKI_ASSERT (!actor->first && !actor->requests && !actor->watchers && !actor->watches && !actor->timers
                 && !actor->flows);
    ctki_free (actor);
}

/* Letters that nobody will receive. */
static void drop_mail (ctalk_actor_t *actor)
{
    ctki_letters_t letters = ctki_mail_empty (actor);
    for (ctki_letter_t *letter; (letter = letters.head);) {
        letters.head = letter->next;
        if (letter->peer)
            ctki_count (&letter->peer->no_such_actor, 1);
        else if (letter->charge > 0)
            actor->hall->lost++;
        ctki_letter_free (letter);
    }
}

/* Those who wait for room have sent to nobody. */
static void clear_line (ctalk_actor_t *actor)
{
    for (ctki_standing_t *standing; (standing = actor->first);) {
        actor->hall->puts++;
        actor->hall->lost++;
        ctki_letter_free (standing->letter);
        ctki_mail_decide (actor, standing, 0);
    }
}

static void end_flows (ctalk_actor_t *actor)
{
    for (ctki_flow_in_t *flow; (flow = actor->flows);) {
        actor->flows = flow->next;
        if (flow->over)
            ctki_free (flow);
        else {
            flow->due = (ctki_due_t){.pid = flow->pid, .op = CTKI_GONE, .a = actor->id};
            ctki_hall_owe (actor->hall, &flow->due);
        }
    }
}

/* Takes an actor out of everything, with the lock held. */
static void take_leave (ctalk_actor_t *actor, uint32_t why, int exit_reason)
{
    ctki_hall_t *hall = actor->hall;
    ctki_map_remove (&hall->actors, actor->id);
    hall->running--;
    clear_line (actor);
    drop_mail (actor);
    ctki_timers_end (actor);
    ctki_groups_end (actor);
    ctki_requests_fail (actor);
    ctki_watches_end (actor, why, exit_reason);
    end_flows (actor);
    hall->puts += actor->puts;
    hall->taken += ctki_counted (&actor->taken);
}

static void reap (ctalk_actor_t *ended)
{
    while (ended) {
        ctalk_actor_t *actor = ended;
        ended = actor->next;
        pthread_join (actor->thread, NULL);
        ctki_hall_await_wakers (&actor->seat);
        free_actor (actor);
    }
}

/* Those that ended before, to be joined with no lock held. */
static ctalk_actor_t *take_ended (ctki_hall_t *hall)
{
    ctalk_actor_t *ended = hall->ended;
    hall->ended = NULL;
    return ended;
}

static void *run (void *arg)
{
    ctalk_actor_t *actor = arg;
    ctki_hall_t *hall = actor->hall;
    char name[32];
    snprintf (name, sizeof name, "ct-actor-%d", (int) hall->self);
    ctki_thread_set_name (name);
    actor->thread = pthread_self ();
    me = actor;
    ctki_outbox_stop_thread (hall->outbox, &actor->stopping);
    unsigned generation = ctki_fork_generation_now ();
    int reason = actor->fn (actor, actor->arg);
    if (generation != ctki_fork_generation_now ())
        return NULL; /* a copy in a child process: the locks may be held by threads that are not there */
    ctki_cancel_disable ();
    ctki_hall_lock (hall);
    take_leave (actor, CTALK_WHY_EXITED, reason);
    ctalk_actor_t *before = take_ended (hall);
    actor->next = NULL;
    hall->ended = actor;
    ctki_gate_open (&hall->changed);
    ctki_hall_unlock (hall);
    reap (before);
    return NULL;
}

/* ---- spawning and stopping */

/* Gives it its id, by which it is found from now on. 0, or an errno. */
static int enroll (ctki_hall_t *hall, ctalk_actor_t *actor, const char *name, size_t length)
{
    if (atomic_load (&hall->closing))
        return ESHUTDOWN;
    do
        actor->id = name ? ctki_name_hash (name, length) | CTKI_ID_NAMED : ctki_hall_draw (hall, 0);
    while (!name && ctki_map_get (&hall->actors, actor->id));
    if (ctki_map_get (&hall->actors, actor->id))
        return EEXIST;
    if (ctki_map_put (&hall->actors, actor->id, actor))
        return ENOMEM;
    actor->serial = ++hall->serials;
    hall->running++;
    return 0;
}

/* 0, or an errno: the actor is as if it had never been. */
static int start (ctki_hall_t *hall, ctalk_actor_t *actor)
{
    pthread_t thread; /* the actor may be gone when this returns */
    int rc = ctki_thread_start_sized (&thread, NULL, run, actor, NULL, CTKI_ACTOR_STACK_BYTES);
    if (rc == 0)
        return 0;
    ctki_hall_lock (hall);
    take_leave (actor, CTALK_WHY_NO_ACTOR, 0);
    ctki_gate_open (&hall->changed);
    ctki_hall_unlock (hall);
    return rc;
}

static ctalk_actor_t *make (ctki_hall_t *hall, ctalk_server_t *server, ctalk_actor_fn *fn, void *arg)
{
    ctalk_actor_t *actor = ctki_alloc_zero (sizeof *actor);
    if (!actor)
        return NULL;
    actor->hall = hall;
    actor->server = server;
    actor->fn = fn;
    actor->arg = arg;
    actor->limit = hall->mailbox_bytes;
    actor->last = &actor->first;
    ctki_lock_init (&actor->lock);
    return actor;
}

uint64_t ctki_hall_spawn (ctki_hall_t *hall, ctalk_server_t *server, const char *name, ctalk_actor_fn *fn, void *arg,
                          uint64_t *serial)
{
    size_t length = ctki_name_length (name);
    ctalk_actor_t *actor = make (hall, server, fn, arg);
    if (!actor)
        return 0;
    ctki_hall_lock (hall);
    int rc = enroll (hall, actor, name, length);
    uint64_t id = actor->id;
    if (serial)
        *serial = actor->serial;
    ctalk_actor_t *ended = take_ended (hall);
    ctki_hall_unlock (hall);
    reap (ended);
    if (rc == 0)
        rc = start (hall, actor);
    if (rc) {
        free_actor (actor);
        errno = rc;
        return 0;
    }
    return id;
}

/* With the lock held: whatever the actor waits in ends. */
static void interrupt (ctalk_actor_t *actor)
{
    ctki_hall_t *hall = actor->hall;
    ctki_hall_wake (hall, &actor->seat);
    if (actor->stands && atomic_load (&actor->stands->verdict) < 0)
        ctki_mail_decide (actor->stands_at, actor->stands, ESHUTDOWN);
    actor->stands = NULL;
    ctki_outbox_interrupt (hall->outbox, &actor->stopping);
    ctki_gate_open (&hall->changed);
}

static bool is_there (ctki_hall_t *hall, uint64_t id, uint64_t serial)
{
    const ctalk_actor_t *actor = ctki_map_get (&hall->actors, id);
    return actor && actor->serial == serial;
}

/* Who is told to stop while it waits here waits no more: it may be waited for itself.
 * Who was told before may wait, so that it can stop others before it ends. */
int ctki_hall_stop (ctki_hall_t *hall, uint64_t id, uint64_t serial, int timeout_ms)
{
    int64_t deadline_us = ctki_deadline_us (timeout_ms);
    ctki_hall_lock (hall);
    const ctalk_actor_t *self = ctki_hall_me (hall);
    if (self && atomic_load (&self->stopping))
        self = NULL;
    ctalk_actor_t *actor = ctki_map_get (&hall->actors, id);
    int rc = !actor || (serial && actor->serial != serial) ? ESRCH : actor == me ? EDEADLK : 0;
    serial = actor ? actor->serial : 0;
    if (rc == 0 && !atomic_exchange (&actor->stopping, true))
        interrupt (actor);
    while (rc == 0 && is_there (hall, id, serial)) {
        unsigned ticket = ctki_gate_ticket (&hall->changed);
        bool over = atomic_load (&hall->closing) || (self && atomic_load (&self->stopping));
        ctki_hall_unlock (hall);
        if (over)
            ctki_gate_leave (&hall->changed);
        rc = over ? ESHUTDOWN : ctki_gate_wait (&hall->changed, ticket, deadline_us);
        ctki_hall_lock (hall);
        if (rc == EAGAIN && !is_there (hall, id, serial))
            rc = 0;
    }
    ctalk_actor_t *ended = take_ended (hall);
    ctki_hall_unlock (hall);
    reap (ended);
    return rc;
}

/* ---- figures */

void ctki_hall_stats (ctki_hall_t *hall, ctalk_stats_t *stats)
{
    ctki_hall_lock (hall);
    uint64_t puts = hall->puts, taken = hall->taken;
    for (size_t i = 0; i < hall->actors.capacity; i++) {
        ctalk_actor_t *actor = hall->actors.slots[i].value;
        if (!actor)
            continue;
        ctki_lock_take (&actor->lock);
        taken += ctki_counted (&actor->taken);
        puts += actor->puts;
        ctki_lock_release (&actor->lock);
    }
    stats->actors += hall->running;
    stats->late_replies += hall->late;
    stats->no_such_actor += hall->lost;
    stats->in_inbox += puts - taken - hall->lost;
    ctki_hall_unlock (hall);
    stats->accepted += puts;
    stats->delivered += puts;
    stats->received += puts;
    stats->consumed += taken;
}

/* ---- closing */

void ctki_hall_close (ctki_hall_t *hall)
{
    atomic_store (&hall->closing, true);
    ctki_hall_lock (hall);
    for (size_t i = 0; i < hall->actors.capacity; i++) {
        ctalk_actor_t *actor = hall->actors.slots[i].value;
        if (!actor)
            continue;
        ctki_hall_wake (hall, &actor->seat);
        while (actor->first)
            ctki_mail_decide (actor, actor->first, ESHUTDOWN);
    }
    for (ctki_call_t *call = hall->calls; call; call = call->next)
        ctki_hall_wake (hall, call->seat);
    ctki_gate_open (&hall->changed);
    ctki_hall_unlock (hall);
}

void ctki_hall_join (ctki_hall_t *hall)
{
    ctki_hall_lock (hall);
    while (hall->running > 0) {
        unsigned ticket = ctki_gate_ticket (&hall->changed);
        ctki_hall_unlock (hall);
        ctki_gate_wait (&hall->changed, ticket, CTKI_FOREVER);
        ctki_hall_lock (hall);
    }
    ctalk_actor_t *ended = take_ended (hall);
    ctki_hall_unlock (hall);
    reap (ended);
}

/* What came from peers and was never delivered. */
static void drop_kept (ctki_hall_t *hall)
{
    while (hall->kept) {
        ctki_inlet_t *inlet = hall->kept;
        hall->kept = inlet->next;
        ctki_flow_t *flow = inlet->flow;
        ctki_buf_release (inlet->buf, inlet->count);
        ctki_free (inlet);
        ctki_flow_unhold (hall->inbox, flow);
    }
}

void ctki_hall_fini (ctki_hall_t *hall)
{
    CTKI_ASSERT (!hall->running && !hall->calls && !hall->timers && !hall->all_watches);
    drop_kept (hall);
    while (hall->dues) {
        ctki_due_t *due = hall->dues;
        hall->dues = due->next;
        ctki_free (due);
    }
    ctki_groups_fini (hall);
    ctki_map_fini (&hall->actors);
    ctki_map_fini (&hall->calls_map);
    ctki_map_fini (&hall->requests);
    ctki_map_fini (&hall->watches);
    ctki_map_fini (&hall->timers_map);
    ctki_map_fini (&hall->ups);
    ctki_map_fini (&hall->removed);
    ctki_free (hall->heap);
    ctki_pool_destroy (&hall->pool);
}

/* ---- the time */

int64_t ctki_hall_tick (ctki_hall_t *hall, int64_t now_us)
{
    int64_t next_us = atomic_load (&hall->next_us);
    if (CTKI_LIKELY (now_us < next_us))
        return next_us;
    ctki_hall_lock (hall);
    atomic_store (&hall->next_us, CTKI_FOREVER);
    receive_kept (hall);
    ctki_hall_run_due (hall, now_us);
    next_us = atomic_load (&hall->next_us);
    ctki_hall_unlock (hall);
    return next_us;
}
