/*
 * outbox.c - admission, the line of those who wait, and the one copy of a
 * payload.
 */
#include "src/outbox.h"

#include <errno.h>

#include "src/calls.h"
#include "src/mem.h"
#include "src/notice.h"

/* What ends the waits of this thread, and where. */
static CTKI_THREAD_LOCAL struct {
    const ctki_outbox_t *outbox;
    const atomic_bool *stop;
} own;

void ctki_outbox_stop_thread (const ctki_outbox_t *outbox, const atomic_bool *stop)
{
    own.outbox = outbox;
    own.stop = stop;
}

void ctki_outbox_init (ctki_outbox_t *outbox, ctki_pool_t *pool, size_t run_limit, ctki_bell_t *bell,
                       ctki_inbox_t *inbox)
{
    memset (outbox, 0, sizeof *outbox);
    ctki_mailbox_init (&outbox->mailbox, pool, run_limit);
    outbox->copy_bytes = CTKI_MAX ((size_t) CTKI_LARGE_BYTES, CTKI_MIN ((size_t) CTKI_COPY_BYTES, run_limit / 8 * 3 + 1));
    outbox->lane[0] = outbox->hot = &outbox->mailbox.writer;
    outbox->bell = bell;
    outbox->inbox = inbox;
}

void ctki_outbox_fini (ctki_outbox_t *outbox)
{
    CTKI_ASSERT (!outbox->first);
    for (unsigned i = 1; i < CTKI_LANES; i++) {
        if (outbox->lane[i])
            ctki_writer_fini (outbox->lane[i]);
        ctki_free (outbox->lane[i]);
    }
    ctki_mailbox_fini (&outbox->mailbox);
}

/* ---- lanes, with the lock held */

/* The lane of a peer; a new one is made, or without memory the first one used. */
static ctki_writer_t *lane_of (ctki_outbox_t *outbox, ctki_peer_t *peer)
{
    if (CTKI_UNLIKELY (!peer->lane))
        peer->lane = outbox->lanes++ % CTKI_LANES + 1;
    ctki_writer_t **lane = &outbox->lane[peer->lane - 1];
    if (CTKI_UNLIKELY (!*lane)) {
        const ctki_writer_t *first = &outbox->mailbox.writer;
        if (!(*lane = ctki_alloc (sizeof **lane)))
            return outbox->lane[0];
        ctki_writer_init (*lane, first->pool, first->full, first->run_limit);
    }
    return *lane;
}

static void close_lanes (ctki_outbox_t *outbox)
{
    for (; outbox->open_lanes; outbox->open_lanes &= outbox->open_lanes - 1)
        ctki_writer_close (outbox->lane[__builtin_ctzll (outbox->open_lanes)]);
}

/* Where to write what is for a peer (NULL: for many), so that all keeps its order:
 * no run can grow that stands before one for many, nor one for many that stands
 * before another. */
static ctki_writer_t *writer_for (ctki_outbox_t *outbox, ctki_peer_t *peer)
{
    ctki_writer_t *first = outbox->lane[0];
    if (!peer) {
        close_lanes (outbox);
        return outbox->hot = first;
    }
    ctki_writer_t *writer = lane_of (outbox, peer);
    if (first->open && first->open->many)
        ctki_writer_close (first);
    if (writer != first)
        outbox->open_lanes |= UINT64_C (1) << (peer->lane - 1);
    return outbox->hot = writer;
}

bool ctki_outbox_take (ctki_outbox_t *outbox, ctki_items_t *items)
{
    ctki_outbox_lock (outbox);
    close_lanes (outbox);
    bool some = ctki_mailbox_take_locked (&outbox->mailbox, items);
    ctki_outbox_unlock (outbox);
    return some;
}

/* How long a call waits. */
typedef struct {
    int timeout_ms;
    int64_t deadline_us;     /* -1: it has not waited yet */
    const atomic_bool *stop; /* NULL, or what ends it when it becomes true */
    ctki_waiter_t *waiter;   /* not NULL: no thread waits, this one stands in line */
} patience_t;

/* ---- credit, with the lock held */

/* That of an actor of a peer, made if need be. NULL: ENOMEM. */
static ctki_credit_t *credit_of (ctki_peer_t *peer, uint64_t actor)
{
    ctki_credit_t *credit = ctki_map_get (&peer->credits, actor);
    if (CTKI_LIKELY (credit != NULL))
        return credit;
    if (!(credit = ctki_alloc_zero (sizeof *credit)))
        return NULL;
    credit->actor = actor;
    credit->limit = CTKI_CREDIT_BYTES;
    if (ctki_map_put (&peer->credits, actor, credit)) {
        ctki_free (credit);
        return NULL;
    }
    return credit;
}

static inline bool has_credit (const ctki_credit_t *credit)
{
    return !credit || credit->sent < credit->limit;
}

static inline void use_credit (ctki_credit_t *credit, uint64_t charge)
{
    if (credit)
        credit->sent += charge;
}

/* Begins anew; one that nobody stands at is not kept. */
static void reset_credit (ctki_peer_t *peer, ctki_credit_t *credit)
{
    credit->sent = 0;
    credit->limit = CTKI_CREDIT_BYTES;
    if (credit->standing == 0) {
        ctki_map_remove (&peer->credits, credit->actor);
        ctki_free (credit);
    }
}

/* Nothing was sent after all: a credit that is as a new one is not kept, as no word of
 * the other side's would ever end it. */
static void drop_unused (ctki_peer_t *peer, uint64_t actor)
{
    ctki_credit_t *credit = ctki_map_get (&peer->credits, actor);
    if (credit && credit->sent == 0 && credit->standing == 0 && credit->limit == CTKI_CREDIT_BYTES)
        reset_credit (peer, credit);
}

/* A broadcast to an actor of each was accepted, or given up (a negative charge). */
static void use_credits (const ctki_crowd_t *crowd, const ctalk_envelope_t *envelope, uint64_t charge)
{
    for (size_t i = 0; ctki_id_is_actor (envelope->to) && i < crowd->count; i++) {
        ctki_credit_t *credit = ctki_map_get (&crowd->peer[i]->credits, envelope->to);
        use_credit (credit, charge);
    }
}

/* ---- the way on, with the lock held */

static inline void reserve (ctki_peer_t *peer, uint64_t charge)
{
    ctki_count_locked (&peer->admitted_bytes, charge);
}

/* What an admitted envelope goes to: a peer, or a crowd. */
typedef struct {
    ctki_peer_t *peer;
    ctki_crowd_t *crowd;
    ctki_credit_t *credit; /* of the actor, NULL: it needs none */
    bool held; /* a reference of peer: the lock was let go meanwhile */
    bool used; /* the body's reference was taken */
} dest_t;

/* To the own inbox; body: the payload if it was copied already. */
static int deliver_locally (ctki_outbox_t *outbox, const ctalk_envelope_t *envelope, ctki_buf_t *body)
{
    if (envelope->to) { /* nobody has that address: there is nobody but the inbox */
        ctki_count_locked (&outbox->self->no_such_actor, 1);
        atomic_fetch_add (&outbox->self->settled_bytes, envelope->size + CTKI_CHARGE_BYTES);
        if (body)
            ctki_buf_release (body, 1);
    } else {
        ctki_inlet_t *inlet = ctki_alloc_zero (sizeof *inlet);
        ctki_buf_t *buf = inlet && !body ? ctki_buf_copy (envelope->data, envelope->size) : body;
        if (!inlet || !buf) {
            ctki_free (inlet);
            return ENOMEM;
        }
        *inlet = (ctki_inlet_t) {.flow = outbox->local, .buf = buf, .at = buf->data, .left = envelope->size,
                                 .count = 1, .one = true, .record = ctki_record_of (envelope, false)};
        ctki_inbox_put (outbox->inbox, inlet, UINT64_MAX, UINT64_MAX);
    }
    ctki_count_locked (&outbox->self->accepted, 1);
    ctki_count_locked (&outbox->self->delivered, 1);
    ctki_count_locked (&outbox->self->received, 1);
    return 0;
}

/* Into the router's mailbox: small ones by copy, large ones by reference. */
static int append (ctki_outbox_t *outbox, const ctalk_envelope_t *envelope, const dest_t *dest, ctki_buf_t *body)
{
    ctki_items_t *items = &outbox->mailbox.items;
    bool many = dest->crowd != NULL;
    void *to = many ? (void *) dest->crowd : (void *) dest->peer;
    ctki_writer_t *writer = writer_for (outbox, dest->crowd ? NULL : dest->peer);
    ctki_record_t record = ctki_record_of (envelope, many);
    if (body)
        return ctki_writer_large (writer, items, to, many, &record, body, body->data, body->size);
    return ctki_writer_put (writer, items, to, many, &record, envelope->data);
}

/* An item for a crowd holds a reference of it, one per item: whoever began the
 * item gave it, later ones of the same run give theirs back. */
static int enqueue (ctki_outbox_t *outbox, const ctalk_envelope_t *envelope, dest_t *dest, ctki_buf_t *body)
{
    const ctki_item_t *before = outbox->mailbox.items.tail;
    if (append (outbox, envelope, dest, body))
        return ENOMEM;
    if (!dest->crowd) {
        ctki_count_locked (&dest->peer->accepted, 1);
        return 0;
    }
    for (size_t i = 0; i < dest->crowd->count; i++)
        ctki_count_locked (&dest->crowd->peer[i]->accepted, 1);
    if (outbox->mailbox.items.tail == before)
        ctki_crowd_release (dest->crowd);
    dest->crowd = NULL;
    return 0;
}

/* All that is sent to the actors of a peer from now on is counted anew, and so it is
 * there: that stands ahead of it. The first flows of a process need no word, they
 * have its incarnation. 0, or ENOMEM. */
static int begin_flows (ctki_outbox_t *outbox, ctki_peer_t *peer)
{
    uint8_t bytes[CTKI_NOTICE_BYTES + CTKI_NAME_BYTES];
    uint64_t number = outbox->incarnation + outbox->anew;
    ctki_notice_t notice = {.op = CTKI_ANEW, .a = number};
    ctalk_envelope_t envelope = {.pid = peer->pid, .to = CTKI_SYSTEM, .data = bytes};
    dest_t dest = {.peer = peer};
    if (CTKI_LIKELY (peer->flows))
        return 0;
    if (outbox->anew > 0) {
        envelope.size = ctki_notice_encode (&notice, bytes);
        if (enqueue (outbox, &envelope, &dest, NULL))
            return ENOMEM;
        reserve (peer, envelope.size + CTKI_CHARGE_BYTES);
    }
    peer->flows = number;
    return 0;
}

/* The same for each that an envelope for an actor goes to. */
static int begin_all_flows (ctki_outbox_t *outbox, const dest_t *dest)
{
    int rc = dest->peer ? begin_flows (outbox, dest->peer) : 0;
    for (size_t i = 0; dest->crowd && i < dest->crowd->count && rc == 0; i++)
        rc = begin_flows (outbox, dest->crowd->peer[i]);
    return rc;
}

static void unreserve (const dest_t *dest, const ctalk_envelope_t *envelope)
{
    uint64_t charge = envelope->size + CTKI_CHARGE_BYTES;
    if (dest->crowd)
        use_credits (dest->crowd, envelope, 0 - charge);
    if (dest->peer)
        atomic_fetch_add (&dest->peer->settled_bytes, charge);
    for (size_t i = 0; dest->crowd && i < dest->crowd->count; i++)
        atomic_fetch_add (&dest->crowd->peer[i]->settled_bytes, charge);
}

/* Sends an envelope that room was reserved for. The crowd is taken, unless it
 * is empty: then there is nothing to send. 0, or ENOMEM: not reserved any more. */
static int pass_on (ctki_outbox_t *outbox, const ctalk_envelope_t *envelope, dest_t *dest, ctki_buf_t *body)
{
    if (dest->crowd && dest->crowd->count == 0)
        return 0;
    bool local = dest->peer && dest->peer == outbox->self;
    int rc = !local && ctki_id_is_actor (envelope->to) ? begin_all_flows (outbox, dest) : 0;
    if (rc == 0)
        rc = local ? deliver_locally (outbox, envelope, body) : enqueue (outbox, envelope, dest, body);
    if (rc)
        unreserve (dest, envelope);
    dest->used = rc == 0;
    return rc;
}

static void ring (ctki_outbox_t *outbox)
{
    ctki_count (&outbox->rung, 1);
    ctki_bell_ring (outbox->bell);
}

/* With the lock held: something is in the mailbox. */
static void ring_router (ctki_outbox_t *outbox)
{
    if (ctki_mailbox_filled (&outbox->mailbox))
        ring (outbox);
}

/* Without the lock: the router slept when something was put into its mailbox. */
static void wake_router (ctki_outbox_t *outbox)
{
    int cancel = ctki_cancel_disable ();
    if (!outbox->help || !outbox->help (outbox->helps))
        ring (outbox);
    ctki_cancel_restore (cancel);
}

/* ---- the line */

typedef enum { WAITING, SENT, FAILED } verdict_t;

/* A sender that waits; it lives on its thread's stack, or is one of ctki_outbox_begin (). */
typedef struct ctki_waiter {
    struct ctki_waiter *next, *prev;
    ctki_peer_t *peer; /* NULL: a broadcast */
    const ctalk_envelope_t *envelope;
    ctki_buf_t *body;
    uint64_t charge;
    ctki_credit_t *credit; /* stands there; NULL: it needs none */
    bool at_peer;          /* stands there: all it lacks is room */
    const atomic_bool *stop[2]; /* NULL, or what ends it: the call's, and the thread's */
    ctki_gate_t gate;
    verdict_t verdict;
    int error;           /* FAILED */
    bool body_used;      /* SENT: the body's reference was taken */
    ctki_crowd_t *crowd; /* a broadcast that waits: where it stands */
    /* Where no thread waits: */
    bool holds;           /* it has a reference of peer */
    ctalk_envelope_t own; /* `envelope` */
} waiter_t;

static void enter_line (ctki_outbox_t *outbox, waiter_t *waiter)
{
    waiter->prev = outbox->last;
    waiter->next = NULL;
    *(outbox->last ? &outbox->last->next : &outbox->first) = waiter;
    outbox->last = waiter;
    atomic_fetch_add (&outbox->waiting, 1);
}

static inline void stand_at_peer (waiter_t *waiter, bool stands)
{
    waiter->peer->standing += (unsigned) stands - (unsigned) waiter->at_peer;
    waiter->at_peer = stands;
}

/* A broadcast stands nowhere any more. */
static void step_aside (waiter_t *waiter)
{
    if (waiter->crowd) {
        for (size_t i = 0; i < waiter->crowd->count; i++)
            waiter->crowd->peer[i]->standing--;
        ctki_crowd_release (waiter->crowd);
        waiter->crowd = NULL;
    }
}

static void leave_line (ctki_outbox_t *outbox, waiter_t *waiter)
{
    *(waiter->prev ? &waiter->prev->next : &outbox->first) = waiter->next;
    *(waiter->next ? &waiter->next->prev : &outbox->last) = waiter->prev;
    atomic_fetch_sub (&outbox->waiting, 1);
    if (waiter->credit)
        waiter->credit->standing--;
    if (waiter->peer)
        stand_at_peer (waiter, false);
    else
        step_aside (waiter);
}

static void decide (ctki_outbox_t *outbox, waiter_t *waiter, verdict_t verdict, int error)
{
    leave_line (outbox, waiter);
    waiter->verdict = verdict;
    waiter->error = error;
    ctki_gate_open (&waiter->gate);
}

/* ---- room */

/* As long as less was admitted than the queue takes beyond what was settled when
 * that was last looked at, nobody needs to look again. */
static inline bool has_room (const ctki_outbox_t *outbox, ctki_peer_t *peer)
{
    uint64_t admitted = ctki_counted (&peer->admitted_bytes);
    if (CTKI_LIKELY (admitted < peer->room_bytes))
        return true;
    peer->room_bytes = atomic_load (&peer->settled_bytes) + outbox->queue_bytes;
    return admitted < peer->room_bytes;
}

typedef enum { TAKES, LACKS, PASSED_OVER } judgement_t;

/* How a peer stands to a broadcast now: a down one with a full queue does not
 * get it; another one must have room, and nobody before it in this pass. */
static judgement_t judge (const ctki_outbox_t *outbox, ctki_peer_t *peer)
{
    bool room = has_room (outbox, peer);
    if (ctki_peer_is_down (peer))
        return room ? TAKES : PASSED_OVER;
    return room && peer->mark != outbox->pass ? TAKES : LACKS;
}

/* Those of `all` that were judged so (queues shrink meanwhile: the judgement is
 * kept); `all` itself when all were. A reference; NULL: ENOMEM. */
static ctki_crowd_t *select_from (ctki_crowd_t *all, judgement_t wanted, size_t count)
{
    if (count == all->count) {
        ctki_crowd_hold (all);
        return all;
    }
    ctki_crowd_t *some = ctki_crowd_new (count);
    for (size_t i = 0; some && i < all->count; i++) {
        if (all->peer[i]->judged == (int) wanted) {
            ctki_peer_hold (all->peer[i]);
            some->peer[some->count++] = all->peer[i];
        }
    }
    return some;
}

/* Whether there is credit for the actor that a broadcast is for, at all peers that
 * are not down, and nobody before it in this pass stands there. 0, EAGAIN or ENOMEM. */
static int look_for_credit (const ctki_outbox_t *outbox, const ctki_crowd_t *all, uint64_t actor)
{
    int rc = 0;
    for (size_t i = 0; i < all->count; i++) {
        const ctki_credit_t *credit = credit_of (all->peer[i], actor);
        if (!credit)
            return ENOMEM;
        if ((credit->mark == outbox->pass || !has_credit (credit)) && !ctki_peer_is_down (all->peer[i]))
            rc = EAGAIN;
    }
    return rc;
}

static bool lacks_credit (const ctki_outbox_t *outbox, const ctki_peer_t *peer, uint64_t actor)
{
    const ctki_credit_t *credit = ctki_map_get (&peer->credits, actor);
    return credit && (credit->mark == outbox->pass || !has_credit (credit));
}

/* Reserves room for a broadcast everywhere, or says where it has to stand.
 * 0: *crowd gets it; EAGAIN: *crowd lacks room, or without one an actor credit; ENOMEM. */
static int reserve_broadcast (ctki_outbox_t *outbox, const ctalk_envelope_t *envelope, ctki_crowd_t **crowd)
{
    ctki_crowd_t *all = ctki_route_everybody (&outbox->route, 0);
    uint64_t charge = envelope->size + CTKI_CHARGE_BYTES;
    bool to_actor = ctki_id_is_actor (envelope->to);
    size_t counts[3] = {0};
    if (!all)
        return ENOMEM;
    int rc = to_actor ? look_for_credit (outbox, all, envelope->to) : 0;
    if (rc)
        return rc;
    for (size_t i = 0; i < all->count; i++) {
        judgement_t judgement = judge (outbox, all->peer[i]);
        if (to_actor && judgement == TAKES && lacks_credit (outbox, all->peer[i], envelope->to))
            judgement = PASSED_OVER; /* it is down */
        all->peer[i]->judged = (int) judgement;
        counts[judgement]++;
    }
    if (counts[LACKS] > 0)
        return (*crowd = select_from (all, LACKS, counts[LACKS])) ? EAGAIN : ENOMEM;
    if (!(*crowd = select_from (all, TAKES, counts[TAKES])))
        return ENOMEM;
    for (size_t i = 0; i < all->count; i++) {
        if (all->peer[i]->judged == (int) TAKES)
            reserve (all->peer[i], charge);
        else {
            ctki_count_locked (&all->peer[i]->skipped, 1);
            drop_unused (all->peer[i], envelope->to);
        }
    }
    use_credits (*crowd, envelope, charge);
    return 0;
}

/* Sends what a waiter has room for now, on its behalf: those in line go out in
 * the order in which they came, whichever of them wakes first. rc: an errno
 * that forbids it. Takes the reference of crowd. */
static void grant (ctki_outbox_t *outbox, waiter_t *waiter, int rc, ctki_crowd_t *crowd)
{
    dest_t dest = {.peer = waiter->peer, .crowd = crowd};
    if (rc == 0)
        rc = pass_on (outbox, waiter->envelope, &dest, waiter->body);
    waiter->body_used = dest.used;
    if (rc == 0)
        use_credit (waiter->credit, waiter->charge);
    ctki_crowd_release (dest.crowd);
    decide (outbox, waiter, rc ? FAILED : SENT, rc);
}

/* The broadcast at the head of those in line tries again. */
static void serve_broadcast (ctki_outbox_t *outbox, waiter_t *waiter)
{
    ctki_crowd_t *crowd = NULL;
    step_aside (waiter);
    int rc = reserve_broadcast (outbox, waiter->envelope, &crowd);
    if (rc == EAGAIN) {
        waiter->crowd = crowd;
        for (size_t i = 0; crowd && i < crowd->count; i++) {
            crowd->peer[i]->standing++;
            crowd->peer[i]->mark = outbox->pass;
        }
        return;
    }
    grant (outbox, waiter, rc, crowd);
}

static void serve_one (ctki_outbox_t *outbox, waiter_t *waiter)
{
    ctki_peer_t *peer = waiter->peer;
    ctki_credit_t *credit = waiter->credit;
    bool lacks = credit && (credit->mark == outbox->pass || !has_credit (credit));
    stand_at_peer (waiter, !lacks);
    if (lacks) {
        credit->mark = outbox->pass;
        return;
    }
    if (peer->mark != outbox->pass && has_room (outbox, peer)) {
        reserve (peer, waiter->charge);
        grant (outbox, waiter, 0, NULL);
        return;
    }
    peer->mark = outbox->pass;
    if (credit)
        credit->mark = outbox->pass;
}

/* One pass over the line, in order of arrival: who finds room goes; where
 * somebody stands, nobody behind him is served. */
static void serve (ctki_outbox_t *outbox)
{
    bool broadcast_stands = false;
    outbox->pass++;
    for (waiter_t *waiter = outbox->first, *next; waiter; waiter = next) {
        next = waiter->next;
        if (!waiter->peer) {
            if (!broadcast_stands)
                serve_broadcast (outbox, waiter);
            broadcast_stands |= waiter->crowd != NULL;
        } else
            serve_one (outbox, waiter);
    }
    if (outbox->mailbox.items.head)
        ring_router (outbox);
}

void ctki_outbox_look_again (ctki_outbox_t *outbox)
{
    if (atomic_load (&outbox->waiting) == 0)
        return;
    ctki_outbox_lock (outbox);
    serve (outbox);
    ctki_outbox_unlock (outbox);
}

void ctki_outbox_settled (ctki_outbox_t *outbox, ctki_peer_t *peer, int64_t charge)
{
    if (charge == 0)
        return;
    atomic_fetch_add (&peer->settled_bytes, (uint64_t) charge);
    if (charge < 0) { /* what was settled is not: there is less room than was seen */
        ctki_outbox_lock (outbox);
        peer->room_bytes = 0;
        ctki_outbox_unlock (outbox);
    }
    ctki_outbox_look_again (outbox); /* reads `waiting` after that: see wait_in_line () */
}

void ctki_outbox_drop (ctki_outbox_t *outbox, ctki_peer_t *peer)
{
    peer->removed = true;
    outbox->anew++; /* should it come back, it may count on from what it has */
    for (waiter_t *waiter = outbox->first, *next; waiter; waiter = next) {
        next = waiter->next;
        if (waiter->peer == peer)
            decide (outbox, waiter, FAILED, EHOSTUNREACH);
    }
    serve (outbox);
}

void ctki_outbox_close (ctki_outbox_t *outbox)
{
    ctki_outbox_lock (outbox);
    outbox->closing = true;
    while (outbox->first)
        decide (outbox, outbox->first, FAILED, ESHUTDOWN);
    ctki_outbox_unlock (outbox);
}

/* ---- admission, with the lock held */

/* Waits for the verdict; the lock is held before and after. */
static int await_verdict (ctki_outbox_t *outbox, waiter_t *waiter, patience_t *patience)
{
    if (patience->deadline_us < 0)
        patience->deadline_us = ctki_deadline_us (patience->timeout_ms);
    int rc = 0;
    while (waiter->verdict == WAITING && rc == 0) {
        unsigned ticket = ctki_gate_ticket (&waiter->gate);
        ctki_outbox_unlock (outbox);
        rc = ctki_gate_wait (&waiter->gate, ticket, patience->deadline_us);
        ctki_outbox_lock (outbox);
    }
    if (waiter->verdict == WAITING) {
        leave_line (outbox, waiter);
        serve (outbox); /* those behind may go */
        return rc;
    }
    return waiter->verdict == SENT ? 0 : waiter->error;
}

static bool is_stopped (const waiter_t *waiter)
{
    return (waiter->stop[0] && atomic_load (waiter->stop[0])) || (waiter->stop[1] && atomic_load (waiter->stop[1]));
}

/* The count of waiters is raised before the queues are looked at again, and
 * ctki_outbox_settled () lowers the queue before it looks at the count: one of the
 * two sees the other. */
static void stand_in_line (ctki_outbox_t *outbox, waiter_t *waiter, dest_t *dest)
{
    waiter->peer = dest->peer;
    waiter->credit = dest->credit;
    enter_line (outbox, waiter);
    if (dest->peer) {
        if (dest->credit)
            dest->credit->standing++;
        ctki_peer_hold (dest->peer);
        dest->held = true;
    }
    serve (outbox); /* rings the router, too: what is there must move, or nobody makes room */
}

/* Stands in line until it was sent or cannot be. */
static int wait_in_line (ctki_outbox_t *outbox, const ctalk_envelope_t *envelope, ctki_buf_t *body, patience_t *patience, dest_t *dest)
{
    waiter_t waiter = {.envelope = envelope, .body = body, .charge = envelope->size + CTKI_CHARGE_BYTES,
                       .stop = {patience->stop, own.outbox == outbox ? own.stop : NULL}};
    if (patience->waiter) {
        stand_in_line (outbox, patience->waiter, dest);
        return EAGAIN;
    }
    if (is_stopped (&waiter))
        return ESHUTDOWN;
    stand_in_line (outbox, &waiter, dest);
    int rc = await_verdict (outbox, &waiter, patience);
    dest->used = waiter.body_used;
    return rc;
}

static int send_one (ctki_outbox_t *outbox, const ctalk_envelope_t *envelope, ctki_buf_t *body, patience_t *patience, dest_t *dest)
{
    ctki_peer_t *peer = dest->peer;
    if ((envelope->flags & CTALK_IF_UP) && peer != outbox->self
        && atomic_load_explicit (&peer->state, memory_order_relaxed) != CTALK_STATE_UP)
        return EHOSTDOWN;
    if (ctki_id_is_actor (envelope->to) && peer != outbox->self
        && !(dest->credit = credit_of (peer, envelope->to)))
        return ENOMEM;
    if (CTKI_LIKELY (peer->standing == 0 && has_room (outbox, peer))
        && (!dest->credit || (dest->credit->standing == 0 && has_credit (dest->credit)))) {
        reserve (peer, envelope->size + CTKI_CHARGE_BYTES);
        int rc = pass_on (outbox, envelope, dest, body);
        if (rc == 0)
            use_credit (dest->credit, envelope->size + CTKI_CHARGE_BYTES);
        return rc;
    }
    return patience->timeout_ms == 0 ? EAGAIN : wait_in_line (outbox, envelope, body, patience, dest);
}

static bool all_up (ctki_outbox_t *outbox)
{
    ctki_crowd_t *all = ctki_route_everybody (&outbox->route, 0);
    for (size_t i = 0; all && i < all->count; i++) {
        if (atomic_load_explicit (&all->peer[i]->state, memory_order_relaxed) != CTALK_STATE_UP)
            return false;
    }
    return true;
}

static int send_all (ctki_outbox_t *outbox, const ctalk_envelope_t *envelope, ctki_buf_t *body, patience_t *patience, dest_t *dest)
{
    if ((envelope->flags & CTALK_IF_UP) && !all_up (outbox))
        return EHOSTDOWN;
    if (CTKI_LIKELY (!outbox->first)) {
        outbox->pass++;
        int rc = reserve_broadcast (outbox, envelope, &dest->crowd);
        if (rc == 0)
            return pass_on (outbox, envelope, dest, body);
        if (rc != EAGAIN)
            return rc;
        ctki_crowd_release (dest->crowd);
        dest->crowd = NULL;
    }
    return wait_in_line (outbox, envelope, body, patience, dest);
}

static int find (ctki_outbox_t *outbox, ctalk_pid_t pid, dest_t *dest)
{
    if (outbox->closing)
        return ESHUTDOWN;
    if (pid == CTALK_BROADCAST)
        return 0;
    dest->peer = pid == outbox->self->pid ? outbox->self : ctki_route_find (&outbox->route, pid, 0);
    return dest->peer ? 0 : errno;
}

/* ---- refusals */

void ctki_outbox_count_refusal (ctki_outbox_t *outbox, ctki_peer_t *peer, int error)
{
    ctki_count_t *count;
    switch (error) {
    case EAGAIN:
        count = peer ? &peer->refused_full : &outbox->refused_full;
        break;
    case EHOSTDOWN:
        count = peer ? &peer->refused_not_up : &outbox->refused_not_up;
        break;
    case EMSGSIZE:
        count = &outbox->refused_too_big;
        break;
    case EHOSTUNREACH:
        count = &outbox->refused_unreachable;
        break;
    case ESHUTDOWN:
        count = &outbox->refused_shutdown;
        break;
    case ENOMEM:
        count = &outbox->refused_memory;
        break;
    case EINTR:
        count = &outbox->refused_interrupted;
        break;
    default:
        count = &outbox->refused_invalid;
    }
    ctki_count (count, 1);
}

static inline int look_at (const ctki_outbox_t *outbox, const ctalk_envelope_t *envelope)
{
    if (envelope->pid < CTALK_BROADCAST || (!envelope->data && envelope->size > 0) || envelope->kind != CTALK_MESSAGE
        || envelope->to == CTKI_SYSTEM || (envelope->flags & ~(uint32_t) CTALK_IF_UP) || envelope->reserved)
        return EINVAL;
    return envelope->size > outbox->message_bytes ? EMSGSIZE : 0;
}

/* ---- accepting one, with the lock held */

static int try_one (ctki_outbox_t *outbox, const ctalk_envelope_t *envelope, ctki_buf_t *body, patience_t *patience, dest_t *dest)
{
    int rc = find (outbox, envelope->pid, dest);
    if (rc)
        return rc;
    return dest->peer ? send_one (outbox, envelope, body, patience, dest)
                      : send_all (outbox, envelope, body, patience, dest);
}

static void drop_unused_at (ctki_peer_t *peer, void *actor)
{
    drop_unused (peer, *(const uint64_t *) actor);
}

/* One for an actor was refused: no credit is left behind. */
static void drop_credits (ctki_outbox_t *outbox, const ctalk_envelope_t *envelope, const dest_t *dest)
{
    uint64_t actor = envelope->to;
    if (dest->peer)
        drop_unused (dest->peer, actor);
    else if (envelope->pid == CTALK_BROADCAST)
        ctki_route_each (&outbox->route, drop_unused_at, &actor);
}

/* Accepts one envelope, or counts why not; *used: it took the body. */
static int accept_one (ctki_outbox_t *outbox, const ctalk_envelope_t *envelope, ctki_buf_t *body, patience_t *patience, bool *used)
{
    dest_t dest = {0};
    int rc = try_one (outbox, envelope, body, patience, &dest);
    *used = dest.used;
    if (rc) {
        ctki_outbox_count_refusal (outbox, dest.peer, rc);
        if (envelope->to)
            drop_credits (outbox, envelope, &dest);
    }
    if (dest.held)
        ctki_peer_release (dest.peer);
    ctki_crowd_release (dest.crowd);
    return rc;
}

/* ---- sending */

/* Whether the payload has memory of its own on its way instead of being copied
 * into a batch. A frame costs far more than copying a few KiB; but the lock is
 * held meanwhile, and a batch is cut where the next one does not fit. */
static inline bool is_large (const ctki_outbox_t *outbox, const ctalk_envelope_t *envelope)
{
    return envelope->size >= outbox->copy_bytes;
}

/* Before a large payload is copied without the lock: would it be refused at once? */
static int probe (ctki_outbox_t *outbox, const ctalk_envelope_t *envelope, const patience_t *patience)
{
    dest_t dest = {0};
    ctki_outbox_lock (outbox);
    int rc = find (outbox, envelope->pid, &dest);
    if (rc == 0 && dest.peer && patience->timeout_ms == 0 && (dest.peer->standing > 0 || !has_room (outbox, dest.peer)))
        rc = EAGAIN;
    if (rc)
        ctki_outbox_count_refusal (outbox, dest.peer, rc);
    ctki_outbox_unlock (outbox);
    return rc;
}

/* One large envelope: its payload is there before the lock is taken. */
static int send_large (ctki_outbox_t *outbox, const ctalk_envelope_t *envelope, ctki_buf_t *body, patience_t *patience)
{
    bool owned = body != NULL, used = false;
    if (!owned) {
        int rc = probe (outbox, envelope, patience);
        if (rc)
            return rc;
        if (!(body = ctki_buf_copy (envelope->data, envelope->size))) {
            ctki_outbox_count_refusal (outbox, NULL, ENOMEM);
            return ENOMEM;
        }
    }
    ctki_outbox_lock (outbox);
    int rc = accept_one (outbox, envelope, body, patience, &used);
    bool wake = outbox->mailbox.items.head && ctki_mailbox_filled (&outbox->mailbox);
    ctki_outbox_unlock (outbox);
    if (wake)
        wake_router (outbox);
    if (!used && (!owned || rc == 0)) /* accepted by nobody, or a copy that was refused: done with it */
        ctki_buf_release (body, 1);
    return rc;
}

/* Small ones, as many as come in a row, under one hold of the lock. */
static int send_small (ctki_outbox_t *outbox, const ctalk_envelope_t *envelopes, size_t count, size_t *accepted,
                       patience_t *patience)
{
    int rc = 0;
    size_t done = 0;
    ctki_outbox_lock (outbox);
    do {
        bool used;
        rc = accept_one (outbox, &envelopes[done], NULL, patience, &used);
        done += rc == 0;
    } while (rc == 0 && done < count && !is_large (outbox, &envelopes[done]) && look_at (outbox, &envelopes[done]) == 0);
    bool wake = outbox->mailbox.items.head && ctki_mailbox_filled (&outbox->mailbox);
    ctki_outbox_unlock (outbox);
    if (wake)
        wake_router (outbox);
    *accepted += done;
    return rc;
}

/* The lane where a run for the pid can grow; NULL: none. A lane's run that can
 * grow stands behind all that is for many. */
static inline ctki_writer_t *open_lane (ctki_outbox_t *outbox, ctalk_pid_t pid)
{
    const ctki_item_t *run = outbox->hot->open;
    if (CTKI_LIKELY (run && !run->many && ((ctki_peer_t *) run->dest)->pid == pid))
        return outbox->hot;
    const ctki_peer_t *peer = outbox->open_lanes ? ctki_route_peek (&outbox->route, pid) : NULL;
    ctki_writer_t *writer = peer && peer->lane ? outbox->lane[peer->lane - 1] : NULL;
    if (!writer || !writer->open || writer->open->dest != peer)
        return NULL;
    return outbox->hot = writer;
}

/* With the lock held: nearly every send is one more small envelope for a peer that
 * a run can grow for. False: nothing was done, it takes the long way. */
static inline bool send_at_once (ctki_outbox_t *outbox, const ctalk_envelope_t *envelope)
{
    const ctki_writer_t *before = outbox->hot;
    ctki_writer_t *writer = outbox->closing ? NULL : open_lane (outbox, envelope->pid);
    if (!writer)
        return false;
    ctki_peer_t *peer = writer->open->dest;
    ctki_credit_t *credit = NULL;
    if (CTKI_UNLIKELY (envelope->to != 0) && ctki_id_is_actor (envelope->to)) {
        credit = ctki_map_get (&peer->credits, envelope->to);
        if (!credit || credit->standing > 0 || !has_credit (credit) || !peer->flows)
            return false;
    }
    if (peer->standing > 0 || atomic_load_explicit (&peer->removed, memory_order_relaxed)
        || !has_room (outbox, peer) || !ctki_writer_append (writer, envelope))
        return false;
    reserve (peer, envelope->size + CTKI_CHARGE_BYTES);
    use_credit (credit, envelope->size + CTKI_CHARGE_BYTES);
    ctki_count_locked (&peer->accepted, 1);
    if (writer != before)
        ctki_writer_prepare (writer);
    return true;
}

/* The quick way for one envelope: true when it was sent. */
static inline bool send_quickly (ctki_outbox_t *outbox, const ctalk_envelope_t *envelope)
{
    if (is_large (outbox, envelope) || envelope->flags || look_at (outbox, envelope))
        return false;
    ctki_outbox_lock (outbox);
    bool sent = send_at_once (outbox, envelope);
    bool wake = sent && ctki_mailbox_filled (&outbox->mailbox);
    ctki_outbox_unlock (outbox);
    if (CTKI_UNLIKELY (wake))
        wake_router (outbox);
    return sent;
}

/* Not inlined: what it needs would be saved and restored on the quick way, too. */
__attribute__ ((noinline)) static int send_slowly (ctki_outbox_t *outbox, const ctalk_envelope_t *envelopes,
                                                   size_t count, ctki_buf_t *body, int timeout_ms,
                                                   const atomic_bool *stop)
{
    patience_t patience = {.timeout_ms = timeout_ms, .deadline_us = -1, .stop = stop};
    size_t accepted = 0;
    int rc = 0;
    while (accepted < count && rc == 0) {
        const ctalk_envelope_t *envelope = &envelopes[accepted];
        rc = look_at (outbox, envelope);
        if (rc)
            ctki_outbox_count_refusal (outbox, NULL, rc);
        else if (body || is_large (outbox, envelope)) {
            rc = send_large (outbox, envelope, body, &patience);
            accepted += rc == 0;
        } else
            rc = send_small (outbox, envelope, count - accepted, &accepted, &patience);
    }
    if (rc)
        errno = rc;
    return accepted > 0 || rc == 0 ? (int) accepted : -1;
}

int ctki_outbox_send (ctki_outbox_t *outbox, const ctalk_envelope_t *envelopes, size_t count, ctki_buf_t *body,
                      int timeout_ms)
{
    if (CTKI_LIKELY (count == 1 && !body && send_quickly (outbox, envelopes)))
        return 1;
    return send_slowly (outbox, envelopes, count, body, timeout_ms, NULL);
}

int ctki_outbox_send_until (ctki_outbox_t *outbox, const ctalk_envelope_t *envelope, int timeout_ms,
                            const atomic_bool *stop)
{
    if (CTKI_LIKELY (send_quickly (outbox, envelope)))
        return 0;
    return send_slowly (outbox, envelope, 1, NULL, timeout_ms, stop) < 0 ? -1 : 0;
}

/* ---- sending without a thread that waits */

/* With the lock held: it is sent, stands in line, or cannot be sent. */
static void begin (ctki_outbox_t *outbox, waiter_t *waiter)
{
    patience_t patience = {.timeout_ms = -1, .deadline_us = -1, .waiter = waiter};
    dest_t dest = {0};
    int rc = try_one (outbox, waiter->envelope, waiter->body, &patience, &dest);
    waiter->holds = dest.held;
    if (rc != EAGAIN) {
        waiter->verdict = rc ? FAILED : SENT;
        waiter->error = rc;
        waiter->body_used = dest.used;
    }
    if (rc && rc != EAGAIN)
        ctki_outbox_count_refusal (outbox, dest.peer, rc);
    ctki_crowd_release (dest.crowd);
}

ctki_waiter_t *ctki_outbox_begin (ctki_outbox_t *outbox, const ctalk_envelope_t *envelope)
{
    waiter_t *waiter = ctki_alloc_zero (sizeof *waiter);
    bool large = is_large (outbox, envelope);
    if (!waiter || (large && !(waiter->body = ctki_buf_copy (envelope->data, envelope->size)))) {
        ctki_free (waiter);
        return NULL;
    }
    waiter->own = *envelope;
    waiter->envelope = &waiter->own;
    waiter->charge = envelope->size + CTKI_CHARGE_BYTES;
    ctki_outbox_lock (outbox);
    begin (outbox, waiter);
    bool wake = outbox->mailbox.items.head && ctki_mailbox_filled (&outbox->mailbox);
    ctki_outbox_unlock (outbox);
    if (wake)
        wake_router (outbox);
    return waiter;
}

static int state_of (const waiter_t *waiter)
{
    return waiter->verdict == WAITING ? EAGAIN : waiter->verdict == SENT ? 0 : waiter->error;
}

int ctki_outbox_look (ctki_outbox_t *outbox, const ctki_waiter_t *waiter)
{
    ctki_outbox_lock (outbox);
    int rc = state_of (waiter);
    ctki_outbox_unlock (outbox);
    return rc;
}

int ctki_outbox_end (ctki_outbox_t *outbox, ctki_waiter_t *waiter)
{
    ctki_outbox_lock (outbox);
    int rc = state_of (waiter);
    if (rc == EAGAIN) {
        leave_line (outbox, waiter);
        serve (outbox); /* those behind may go */
    }
    ctki_outbox_unlock (outbox);
    if (waiter->body && !waiter->body_used)
        ctki_buf_release (waiter->body, 1);
    if (waiter->holds)
        ctki_peer_release (waiter->peer);
    ctki_free (waiter);
    return rc;
}

int ctki_outbox_check (const ctki_outbox_t *outbox, const ctalk_envelope_t *envelope)
{
    return look_at (outbox, envelope);
}

void ctki_outbox_interrupt (ctki_outbox_t *outbox, const atomic_bool *stop)
{
    ctki_outbox_lock (outbox);
    for (waiter_t *waiter = outbox->first, *next; waiter; waiter = next) {
        next = waiter->next;
        if (waiter->stop[0] == stop || waiter->stop[1] == stop)
            decide (outbox, waiter, FAILED, ESHUTDOWN);
    }
    serve (outbox); /* those behind may go */
    ctki_outbox_unlock (outbox);
}

/* ---- about actors */

int ctki_outbox_post (ctki_outbox_t *outbox, const ctalk_envelope_t *envelope, bool *wake)
{
    dest_t dest = {0};
    ctki_outbox_lock (outbox);
    int rc = find (outbox, envelope->pid, &dest);
    CTKI_ASSERT (rc || (dest.peer && dest.peer != outbox->self));
    if (rc == 0) {
        reserve (dest.peer, envelope->size + CTKI_CHARGE_BYTES);
        rc = pass_on (outbox, envelope, &dest, NULL);
    }
    if (rc == 0 && ctki_mailbox_filled (&outbox->mailbox))
        *wake = true;
    ctki_outbox_unlock (outbox);
    return rc;
}

void ctki_outbox_wake_router (ctki_outbox_t *outbox)
{
    wake_router (outbox);
}

/* One that is for other flows was granted to a process that is dead, or before all
 * began anew: what it counts from is not what is counted from here. One that is not
 * there was not kept when its flow began anew: the other side does not say it again. */
int ctki_outbox_grant (ctki_outbox_t *outbox, ctalk_pid_t pid, uint64_t actor, uint64_t flows, uint64_t limit)
{
    int rc = 0;
    ctki_outbox_lock (outbox);
    ctki_peer_t *peer = ctki_id_is_actor (actor) ? ctki_route_peek (&outbox->route, pid) : NULL;
    if (peer && peer->flows != flows)
        peer = NULL;
    ctki_credit_t *credit = peer ? credit_of (peer, actor) : NULL;
    if (peer && !credit)
        rc = -1;
    else if (credit && limit > credit->limit) {
        credit->limit = limit;
        serve (outbox); /* broadcasts, too, which stand nowhere */
    }
    ctki_outbox_unlock (outbox);
    return rc;
}

void ctki_outbox_forget (ctki_outbox_t *outbox, ctalk_pid_t pid, uint64_t actor)
{
    ctki_outbox_lock (outbox);
    ctki_peer_t *peer = ctki_route_peek (&outbox->route, pid);
    ctki_credit_t *credit = peer && actor ? ctki_map_get (&peer->credits, actor) : NULL;
    if (credit)
        reset_credit (peer, credit);
    if (peer && !actor) {
        peer->flows = 0;
        outbox->anew++;
    }
    /* Those that are not kept make others move: a pass ends when it finds none. */
    for (bool some = peer && !actor; some;) {
        some = false;
        for (size_t i = 0; i < peer->credits.capacity; i++) {
            ctki_credit_t *one = peer->credits.slots[i].value;
            if (one && (one->sent > 0 || one->limit > CTKI_CREDIT_BYTES || one->standing == 0)) {
                some = true;
                reset_credit (peer, one);
            }
        }
    }
    serve (outbox);
    ctki_outbox_unlock (outbox);
}
