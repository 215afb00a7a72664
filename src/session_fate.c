/*
 * session_fate.c - what becomes of the envelopes of a sending half: which were
 * received and not known to be consumed, which are in doubt, which go to the
 * next incarnation of the receiver. See session.h.
 *
 * The receiver's death splits what was accepted for it exactly, in order
 * (RELIABILITY.md section 3.8): consumed | received | in doubt | never sent.
 * Who wants to know which (watched) gets a list, the obituary.
 *
 * What may go wrong: memory runs out for the list: then the event that asked for
 * it counts as not having come yet, and it comes again.
 */
#include "src/session_out.h"

#include "src/mem.h"
#include "src/notice.h"
#include "src/sys.h"

enum { LOG_FIRST = 64 }; /* fates */

/* ---- the log: received, not known to be consumed */

static ctalk_fate_t *log_at (const ctki_out_t *out, uint64_t ordinal)
{
    return &out->log[ordinal & (out->log_capacity - 1)];
}

/* How many envelopes end in the frames from una up to n. */
static uint64_t envelopes_below (const ctki_out_t *out, uint64_t n)
{
    uint64_t count = 0;
    for (uint64_t seq = out->una; seq < n; seq++)
        count += ctki_ring_at (out, seq)->count;
    return count;
}

static bool grow_log (ctki_out_t *out, uint64_t entries)
{
    size_t capacity = CTKI_MAX (out->log_capacity, (size_t) LOG_FIRST);
    while (capacity < entries)
        capacity *= 2;
    if (capacity == out->log_capacity)
        return true;
    ctalk_fate_t *log = ctki_alloc (capacity * sizeof *log);
    if (!log)
        return false;
    for (uint64_t ordinal = out->log_first; ordinal <= out->ordinal; ordinal++)
        log[ordinal & (capacity - 1)] = *log_at (out, ordinal);
    ctki_free (out->log);
    out->log = log;
    out->log_capacity = capacity;
    return true;
}

bool ctki_fate_reserve (ctki_out_t *out, uint64_t n, uint64_t consumed)
{
    uint64_t last = out->ordinal + envelopes_below (out, n);
    uint64_t first = CTKI_MAX (out->log_first, CTKI_MAX (out->consumed, consumed) + 1);
    /* Those between log_first and first are still there until they are dropped. */
    return first > last || grow_log (out, last + 1 - CTKI_MIN (out->log_first, last));
}

void ctki_fate_consumed (ctki_out_t *out, uint64_t consumed)
{
    if (!out->watched) /* what is received while nobody watches is not kept */
        out->log_first = out->ordinal + 1;
    else
        out->log_first = CTKI_MAX (out->log_first, consumed + 1);
}

/* ---- the envelopes of a frame, one by one */

static ctalk_fate_t fate_of (const ctki_record_t *record, uint64_t ordinal, int kind)
{
    return (ctalk_fate_t) {.msg_id = record->msg_id,
                           .to = record->to,
                           .from = record->from,
                           .ordinal = ordinal,
                           .kind = kind,
                           .flags = record->flags & CTKI_R_BROADCAST ? CTALK_WAS_BROADCAST : 0};
}

/* Calls note for each envelope that ends in the frame, numbered from ordinal on. */
static void each_envelope (const ctki_sent_t *sent, uint64_t ordinal, int kind,
                           void (*note) (void *arg, const ctalk_fate_t *fate), void *arg)
{
    if (sent->item->kind == CTKI_LARGE) {
        ctalk_fate_t fate = fate_of (&sent->item->record, ordinal, kind);
        if (sent->count)
            note (arg, &fate);
        return;
    }
    for (size_t at = 0; at < sent->size; ordinal++) {
        ctki_record_t record;
        size_t head = ctki_record_get (sent->data + at, sent->size - at, &record);
        CTKI_ASSERT (head > 0);
        ctalk_fate_t fate = fate_of (&record, ordinal, kind);
        note (arg, &fate);
        at += head + ctki_record_pad (record.len);
    }
}

static void write_down (void *arg, const ctalk_fate_t *fate)
{
    ctki_out_t *out = arg;
    if (fate->ordinal > out->consumed && fate->ordinal >= out->log_first)
        *log_at (out, fate->ordinal) = *fate;
}

void ctki_fate_received (ctki_out_t *out, const ctki_sent_t *sent)
{
    if (out->ordinal + sent->count > out->consumed) /* else all of it was consumed already */
        each_envelope (sent, out->ordinal + 1, CTALK_RECEIVED, write_down, out);
}

/* ---- the end of a session */

/* Takes back the frames that libzmq never had: as if they had not been cut. */
static void uncut (ctki_out_t *out)
{
    while (out->next > out->given) {
        ctki_sent_t *sent = ctki_ring_at (out, --out->next);
        if (sent->last) {
            sent->item->next = out->queue.head;
            out->queue.head = sent->item;
            if (!out->queue.tail)
                out->queue.tail = sent->item;
            out->queued_items++;
        }
        CTKI_ASSERT (out->queue.head == sent->item);
        out->cut = (size_t) (sent->data - sent->item->data);
        out->cut_charge -= sent->charge;
    }
    out->send = CTKI_MIN (out->send, out->next);
}

/* A large envelope whose last byte was never given counts as never transmitted
 * and begins anew (R15): its fragments leave the ring, and the charge that was
 * set free by those acknowledged is taken again. */
static void begin_anew (ctki_out_t *out)
{
    ctki_item_t *head = out->queue.head;
    if (!head || head->kind != CTKI_LARGE || out->cut == 0)
        return;
    size_t settled = out->cut; /* bytes acknowledged */
    while (out->next > out->una && ctki_ring_at (out, out->next - 1)->item == head)
        settled = (size_t) (ctki_ring_at (out, --out->next)->data - head->data);
    if (settled > 0)
        out->settled.charge -= (int64_t) (settled + CTKI_CHARGE_BYTES);
    out->cut = 0;
}

/* What is in the ring may have been received or not. */
static void doubt_ring (ctki_out_t *out)
{
    for (; out->una < out->next; out->una++) {
        const ctki_sent_t *sent = ctki_ring_at (out, out->una);
        out->ordinal += sent->count;
        out->charge += sent->charge;
        out->settled.abandoned += sent->count;
        out->settled.in_doubt += sent->count;
        if (sent->item->kind == CTKI_RUN)
            out->settled.notices += ctki_notices_count (sent->data, sent->size);
        out->settled.charge += (int64_t) sent->charge;
        if (sent->last)
            ctki_item_release (sent->item);
    }
}

/* How many envelopes no frame holds. */
static uint64_t envelopes_queued (const ctki_out_t *out)
{
    uint64_t count = 0;
    for (const ctki_item_t *item = out->queue.head; item; item = item->next)
        count += item->count;
    const ctki_item_t *head = out->queue.head;
    ctki_sent_t cut = {0};
    if (head && head->kind == CTKI_RUN)
        ctki_ring_cut_run (head, 0, out->cut, UINT64_MAX, &cut);
    return count - cut.count;
}

/* The application is told of what it has sent, not of notices. */
static void add_fate (void *arg, const ctalk_fate_t *fate)
{
    ctki_obit_t *obit = arg;
    if (fate->to != CTKI_SYSTEM)
        obit->fate[obit->count++] = *fate;
}

/* The obituary as it stands before anything is taken back. NULL: no memory. */
static ctki_obit_t *write_obit (const ctki_out_t *out, uint64_t inc)
{
    uint64_t doubtful = envelopes_below (out, out->given);
    uint64_t logged = out->watched ? out->ordinal + 1 - CTKI_MIN (out->log_first, out->ordinal + 1) : 0;
    size_t fates = out->watched ? (size_t) (logged + doubtful) : 0;
    ctki_obit_t *obit = ctki_alloc (sizeof *obit + fates * sizeof obit->fate[0]);
    if (!obit)
        return NULL;
    *obit = (ctki_obit_t) {.old_inc = out->peer_inc,
                           .new_inc = inc,
                           .consumed = out->consumed,
                           .received = out->ordinal - out->consumed,
                           .in_doubt = out->setup.resend ? 0 : doubtful};
    if (!out->watched)
        return obit;
    for (uint64_t ordinal = out->log_first; ordinal <= out->ordinal; ordinal++)
        add_fate (obit, log_at (out, ordinal));
    uint64_t ordinal = out->ordinal + 1;
    int kind = out->setup.resend ? CTALK_RESENT : CTALK_IN_DOUBT;
    for (uint64_t seq = out->una; seq < out->given; seq++) {
        each_envelope (ctki_ring_at (out, seq), ordinal, kind, add_fate, obit);
        ordinal += ctki_ring_at (out, seq)->count;
    }
    CTKI_ASSERT (obit->count <= fates);
    return obit;
}

bool ctki_fate_restart (ctki_out_t *out, uint64_t inc)
{
    if (out->obit || !(out->obit = write_obit (out, inc)))
        return false;
    if (out->setup.resend)
        out->given = out->una; /* as if it had never been sent */
    uncut (out);
    begin_anew (out);
    doubt_ring (out);
    out->obit->carried = envelopes_queued (out);
    out->una = out->next = out->send = out->given = 1;
    out->ordinal = out->charge = out->consumed = 0;
    out->log_first = 1;
    return true;
}

ctki_obit_t *ctki_out_obit (ctki_out_t *out)
{
    ctki_obit_t *obit = out->obit;
    out->obit = NULL;
    return obit;
}

/* ---- giving up */

/* The envelopes and the charge of the first item that no frame holds. */
static void abandon_head (ctki_out_t *out)
{
    ctki_item_t *item = out->queue.head;
    ctki_sent_t cut = {0}; /* what was cut from it before */
    if (item->kind == CTKI_RUN)
        ctki_ring_cut_run (item, 0, out->cut, UINT64_MAX, &cut);
    else if (out->cut > 0)
        cut.charge = out->cut + CTKI_CHARGE_BYTES;
    out->settled.abandoned += item->count - cut.count;
    if (item->kind == CTKI_RUN)
        out->settled.notices += ctki_notices_count (item->data + out->cut, item->size - out->cut);
    out->settled.charge += (int64_t) (item->charge - cut.charge);
    ctki_ring_next_item (out);
    ctki_item_release (item);
}

void ctki_out_abandon (ctki_out_t *out)
{
    uncut (out);
    doubt_ring (out);
    /* The rest of an envelope that is half over there takes a number that never
     * comes: should the session go on (R17), that is how the receiver learns that
     * it must not wait for it. */
    if (out->queue.head && out->queue.head->kind == CTKI_LARGE && out->cut > 0)
        out->una = out->given = ++out->next;
    out->send = out->next;
    while (out->queue.head)
        abandon_head (out);
}

bool ctki_out_only_notices (const ctki_out_t *out)
{
    for (uint64_t n = out->una; n < out->next; n++) {
        const ctki_sent_t *sent = ctki_ring_at (out, n);
        if (sent->item->kind != CTKI_RUN || ctki_notices_count (sent->data, sent->size) < sent->count)
            return false;
    }
    size_t cut = out->cut;
    for (const ctki_item_t *item = out->queue.head; item; item = item->next, cut = 0) {
        size_t notices = item->kind == CTKI_RUN ? ctki_notices_count (item->data + cut, item->size - cut) : 0;
        if (notices == 0 || (cut == 0 && notices < item->count))
            return false;
    }
    return true;
}

/* ---- a peer that is removed, and comes back */

void ctki_out_bury (const ctki_out_t *out, ctki_out_tomb_t *tomb)
{
    *tomb = (ctki_out_tomb_t) {.sid = out->sid,
                               .peer_inc = out->peer_inc,
                               .next = out->next,
                               .ordinal = out->ordinal,
                               .charge = out->charge,
                               .round = out->round,
                               .gen = out->gen};
}

void ctki_out_revive (ctki_out_t *out, const ctki_out_tomb_t *tomb)
{
    out->sid = tomb->sid;
    out->peer_inc = tomb->peer_inc;
    out->una = out->next = out->send = out->given = tomb->next;
    out->ordinal = out->consumed = tomb->ordinal;
    out->log_first = tomb->ordinal + 1;
    out->charge = out->cut_charge = tomb->charge;
    out->round = tomb->round;
    out->gen = tomb->gen;
}
