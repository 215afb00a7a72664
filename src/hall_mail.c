/*
 * hall_mail.c - letters and mailboxes: bounds, the line of those who wait for
 * room, and the credit that peers are given. See hall.h.
 */
#include <errno.h>

#include "src/hall.h"
#include "src/mem.h"

enum {
    SERVE_SHARE = 16, /* of a mailbox's room: when so much is free anew, those in line are served */
    SETTLE_BYTES = CTKI_CREDIT_BYTES / 4 /* taken of flows: they are told at the latest then */
};

/* ---- letters */

ctki_letter_t *ctki_letter_event (ctki_hall_t *hall, ctalk_kind_t kind, ctalk_pid_t pid, uint64_t from,
                                  const void *data, size_t size)
{
    _Static_assert (sizeof (ctki_letter_t) % 8 == 0, "the payload behind a letter is aligned");
    bool small = hall->pool && size <= CTKI_LETTER_BYTES - sizeof (ctki_letter_t);
    ctki_buf_t *buf = small ? ctki_pool_take (hall->pool) : ctki_buf_new (sizeof (ctki_letter_t) + size);
    if (!buf)
        return NULL;
    ctki_letter_t *letter = (ctki_letter_t *) (void *) buf->data;
    uint8_t *copy = buf->data + sizeof *letter;
    if (size)
        memcpy (copy, data, size);
    *letter = (ctki_letter_t){.inside = true,
                              .envelope = {.pid = pid, .kind = kind, .data = copy, .size = size, .from = from,
                                           .lease = buf}};
    return letter;
}

ctki_letter_t *ctki_letter_new (ctki_hall_t *hall, const ctalk_envelope_t *envelope)
{
    ctki_letter_t *letter = ctki_letter_event (hall, CTALK_MESSAGE, hall->self, envelope->from, envelope->data,
                                               envelope->size);
    if (!letter)
        return NULL;
    letter->envelope.msg_id = envelope->msg_id;
    letter->envelope.to = envelope->to;
    letter->charge = envelope->size + CTKI_CHARGE_BYTES;
    return letter;
}

void ctki_letter_free (ctki_letter_t *letter)
{
    if (!letter)
        return;
    ctki_buf_t *buf = letter->envelope.lease;
    ctki_peer_release (letter->peer);
    if (!letter->inside)
        ctki_free (letter);
    ctki_buf_release (buf, 1);
}

static void add (ctki_letters_t *letters, ctki_letter_t *letter)
{
    letter->next = NULL;
    *(letters->tail ? &letters->tail->next : &letters->head) = letter;
    letters->tail = letter;
}

/* Takes out the letter behind `before` (NULL: the first). */
static ctki_letter_t *take_out (ctki_letters_t *letters, ctki_letter_t *before)
{
    ctki_letter_t **link = before ? &before->next : &letters->head;
    ctki_letter_t *letter = *link;
    *link = letter->next;
    if (letters->tail == letter)
        letters->tail = before;
    return letter;
}

static void join (ctki_letters_t *letters, ctki_letters_t *more)
{
    if (more->head) {
        *(letters->tail ? &letters->tail->next : &letters->head) = more->head;
        letters->tail = more->tail;
    }
    *more = (ctki_letters_t){0};
}

/* ---- putting in */

/* Whether there was none before: then the actor is to be woken. It is not for those
 * behind: who sleeps has seen that there is none, and who was woken takes all. */
static bool put (ctalk_actor_t *actor, ctki_letter_t *letter)
{
    bool first = !atomic_load (&actor->filled);
    add (&actor->letters, letter);
    actor->used += letter->charge;
    actor->puts += letter->charge > 0 && !letter->peer;
    if (first)
        atomic_store (&actor->filled, true);
    return first;
}

void ctki_mail_put (ctalk_actor_t *actor, ctki_letter_t *letter)
{
    ctki_lock_take (&actor->lock);
    bool first = put (actor, letter);
    ctki_lock_release (&actor->lock);
    if (first)
        ctki_hall_wake (actor->hall, &actor->seat);
}

/* With the mailbox locked. */
static bool has_room (ctalk_actor_t *actor)
{
    return actor->used - ctki_counted (&actor->freed) < actor->limit;
}

bool ctki_mail_try_put (ctalk_actor_t *actor, ctki_letter_t *letter)
{
    ctki_lock_take (&actor->lock);
    bool room = atomic_load (&actor->standing) == 0 && has_room (actor);
    bool first = room && put (actor, letter);
    ctki_lock_release (&actor->lock);
    if (first)
        ctki_hall_wake (actor->hall, &actor->seat);
    return room;
}

/* ---- the line */

void ctki_mail_stand (ctalk_actor_t *actor, ctki_standing_t *standing)
{
    standing->next = NULL;
    standing->link = actor->last;
    *actor->last = standing;
    actor->last = &standing->next;
    atomic_fetch_add (&actor->standing, 1);
}

void ctki_mail_leave (ctalk_actor_t *actor, ctki_standing_t *standing)
{
    *standing->link = standing->next;
    *(standing->next ? &standing->next->link : &actor->last) = standing->link;
    atomic_fetch_sub (&actor->standing, 1);
}

void ctki_mail_decide (ctalk_actor_t *actor, ctki_standing_t *standing, int verdict)
{
    ctki_mail_leave (actor, standing);
    if (standing->timer) {
        ctki_timer_decided (actor->hall, standing->timer, verdict);
        return;
    }
    atomic_store (&standing->verdict, verdict);
    ctki_hall_wake (actor->hall, &standing->seat);
}

/* Who stands looks for room once more, behind the heavy half of the fence; the
 * actor that makes room looks for those who stand behind the light one: one of the
 * two sees the other. */
void ctki_mail_serve (ctalk_actor_t *actor)
{
    bool first = false;
    ctki_lock_take (&actor->lock);
    for (ctki_standing_t *standing; (standing = actor->first) && has_room (actor);) {
        first |= put (actor, standing->letter);
        ctki_mail_decide (actor, standing, 0);
    }
    ctki_lock_release (&actor->lock);
    if (first)
        ctki_hall_wake (actor->hall, &actor->seat);
}

/* Room that is made from now on is told of anew; what was made before is seen here,
 * behind the heavy half of the fence. */
void ctki_lines_serve (ctki_hall_t *hall)
{
    if (!atomic_load (&hall->lines_due))
        return;
    atomic_store (&hall->lines_due, false);
    ctki_fence_heavy ();
    for (size_t i = 0; i < hall->actors.capacity; i++) {
        ctalk_actor_t *actor = hall->actors.slots[i].value;
        if (actor && actor->first)
            ctki_mail_serve (actor);
    }
}

/* ---- flows */

ctki_flow_in_t *ctki_flow_in_of (ctalk_actor_t *actor, ctalk_pid_t pid, uint64_t number)
{
    ctki_flow_in_t *flow = actor->flows;
    while (flow && (flow->over || flow->pid != pid))
        flow = flow->next;
    if (flow || !(flow = ctki_alloc_zero (sizeof *flow)))
        return flow;
    flow->pid = pid;
    flow->number = number;
    flow->granted = CTKI_CREDIT_BYTES;
    flow->next = actor->flows;
    actor->flows = flow;
    actor->flows_count++;
    return flow;
}

/* How much of the mailbox a flow may yet use, or uses: an envelope may pass what was
 * granted, and nothing new comes of one that is over. */
static uint64_t held_by (const ctki_flow_in_t *flow)
{
    return (flow->over ? flow->received : CTKI_MAX (flow->granted, flow->received)) - flow->consumed;
}

/* A peer may have as much under way as its share of the mailbox, if the others left
 * so much; it is told when half of that is new. *held: by all flows. */
static void grant (ctalk_actor_t *actor, ctki_flow_in_t *flow, uint64_t *held)
{
    uint64_t others = *held - held_by (flow);
    uint64_t share = CTKI_MIN (actor->limit / (actor->flows_count + 1), actor->limit - CTKI_MIN (actor->limit, others));
    share = CTKI_MAX (share, (uint64_t) CTKI_CREDIT_BYTES);
    uint64_t limit = flow->consumed + share;
    if (flow->over || limit < flow->granted + share / 2)
        return;
    if (ctki_hall_tell_credit (actor, flow, limit) == 0) {
        flow->granted = limit;
        *held = others + held_by (flow);
    } else {
        actor->hall->grants_due = true;
        ctki_hall_look_at (actor->hall, ctki_now_us () + CTKI_HALL_RETRY_MS * CTKI_MS);
    }
}

void ctki_flows_in_grant (ctalk_actor_t *actor)
{
    uint64_t held = 0;
    for (const ctki_flow_in_t *flow = actor->flows; flow; flow = flow->next)
        held += held_by (flow);
    for (ctki_flow_in_t *flow = actor->flows; flow; flow = flow->next)
        grant (actor, flow, &held);
}

void ctki_flows_in_peer_gone (ctalk_actor_t *actor, ctalk_pid_t pid)
{
    for (ctki_flow_in_t *flow = actor->flows; flow; flow = flow->next)
        flow->over |= flow->pid == pid;
}

/* With the hall's lock held: what was taken is known to the flows. */
static void settle (ctalk_actor_t *actor)
{
    for (ctki_flow_in_t **link = &actor->flows; *link;) {
        ctki_flow_in_t *flow = *link;
        flow->consumed += flow->pending;
        flow->pending = 0;
        if (flow->over && flow->consumed == flow->received) {
            *link = flow->next;
            actor->flows_count--;
            ctki_free (flow);
        } else
            link = &flow->next;
    }
    actor->pending = 0;
    ctki_flows_in_grant (actor);
}

/* ---- taking out, on the actor's own thread */

/* The actor may take nothing more for long: the router serves the line soon. Read
 * behind the light half of the fence; see ctki_lines_serve (). */
static void leave_to_router (ctki_hall_t *hall)
{
    if (atomic_load (&hall->lines_due))
        return;
    ctki_hall_lock (hall);
    atomic_store (&hall->lines_due, true);
    ctki_hall_look_at (hall, ctki_now_us () + CTKI_HALL_RETRY_MS * CTKI_MS);
    ctki_hall_unlock (hall);
}

/* What was taken has made room. Not for each letter: who is woken sends several. */
static void make_room (ctalk_actor_t *actor, bool now)
{
    uint64_t freed = ctki_counted (&actor->freed);
    if (atomic_load (&actor->standing) == 0 || freed == actor->told_room)
        return;
    if (!now && freed - actor->told_room < actor->limit / SERVE_SHARE) {
        leave_to_router (actor->hall);
        return;
    }
    actor->told_room = freed;
    ctki_hall_lock (actor->hall);
    ctki_mail_serve (actor);
    ctki_hall_unlock (actor->hall);
}

void ctki_mail_make_room (ctalk_actor_t *actor)
{
    make_room (actor, true);
}

/* What the letter's senders are to know. */
static void account (ctalk_actor_t *actor, ctki_letter_t *letter)
{
    CTKI_STORE_LIGHT (&actor->freed, ctki_counted (&actor->freed) + letter->charge);
    actor->lead = letter->peer != NULL;
    if (letter->peer) {
        ctki_count (&letter->peer->consumed_by_actors, 1);
        ctki_peer_release (letter->peer);
        letter->peer = NULL;
        letter->flow->pending += letter->charge;
        actor->pending += letter->charge;
    } else if (letter->charge > 0)
        ctki_count_locked (&actor->taken, 1);
    if (actor->pending >= SETTLE_BYTES) {
        ctki_hall_lock (actor->hall);
        settle (actor);
        ctki_hall_unlock (actor->hall);
    }
    make_room (actor, !actor->mine.head);
}

/* All that is there moves over to where the own thread looks at it. */
static bool fetch (ctalk_actor_t *actor)
{
    if (!atomic_load (&actor->filled))
        return false;
    ctki_lock_take (&actor->lock);
    join (&actor->mine, &actor->letters);
    atomic_store (&actor->filled, false);
    ctki_lock_release (&actor->lock);
    return true;
}

static bool is_ending (const ctalk_actor_t *actor)
{
    return atomic_load (&actor->stopping) || atomic_load (&actor->hall->closing);
}

static bool has_mail (void *arg)
{
    const ctalk_actor_t *actor = arg;
    return atomic_load (&actor->filled) || is_ending (actor);
}

/* The first letter behind `before` that is wanted; *before: the one that it stands behind. */
static bool find (const ctki_letters_t *letters, ctki_letter_t **before,
                  bool (*match) (const ctalk_envelope_t *envelope, void *arg), void *arg)
{
    ctki_letter_t *letter = *before ? (*before)->next : letters->head;
    for (; letter; letter = letter->next) {
        if (!match || match (&letter->envelope, arg))
            return true;
        *before = letter;
    }
    return false;
}

int ctki_mail_take (ctalk_actor_t *actor, bool (*match) (const ctalk_envelope_t *envelope, void *arg), void *arg,
                    ctalk_envelope_t *envelope, int timeout_ms)
{
    int64_t deadline_us = -1;
    ctki_letter_t *before = NULL;
    for (int rc = 0;;) {
        if (is_ending (actor))
            return ESHUTDOWN;
        if (find (&actor->mine, &before, match, arg))
            break;
        if (fetch (actor))
            continue;
        if (rc || timeout_ms == 0)
            return rc ? rc : EAGAIN;
        make_room (actor, true);
        if (deadline_us < 0)
            deadline_us = ctki_deadline_us (timeout_ms);
        rc = ctki_seat_wait (actor->hall->inbox, &actor->seat, actor->lead, has_mail, actor, deadline_us);
    }
    ctki_letter_t *letter = take_out (&actor->mine, before);
    account (actor, letter);
    *envelope = letter->envelope;
    if (!letter->inside)
        ctki_free (letter);
    return 0;
}

static bool drop_from (ctki_letters_t *letters, ctalk_kind_t kind, ctalk_pid_t pid, uint64_t from)
{
    ctki_letter_t *before = NULL;
    for (ctki_letter_t *letter = letters->head; letter; before = letter, letter = letter->next) {
        const ctalk_envelope_t *envelope = &letter->envelope;
        if (envelope->kind == kind && envelope->pid == pid && envelope->from == from) {
            ctki_letter_free (take_out (letters, before));
            return true;
        }
    }
    return false;
}

bool ctki_mail_drop (ctalk_actor_t *actor, ctalk_kind_t kind, ctalk_pid_t pid, uint64_t from)
{
    if (drop_from (&actor->mine, kind, pid, from))
        return true;
    ctki_lock_take (&actor->lock);
    bool dropped = drop_from (&actor->letters, kind, pid, from);
    ctki_lock_release (&actor->lock);
    return dropped;
}

void ctki_mail_set_limit (ctalk_actor_t *actor, uint64_t bytes)
{
    ctki_hall_lock (actor->hall);
    ctki_lock_take (&actor->lock);
    actor->limit = bytes;
    ctki_lock_release (&actor->lock);
    ctki_mail_serve (actor);
    settle (actor);
    ctki_hall_unlock (actor->hall);
}

ctki_letters_t ctki_mail_empty (ctalk_actor_t *actor)
{
    ctki_letters_t all = actor->mine;
    actor->mine = (ctki_letters_t){0};
    ctki_lock_take (&actor->lock);
    join (&all, &actor->letters);
    ctki_lock_release (&actor->lock);
    return all;
}
