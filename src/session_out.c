/*
 * session_out.c - the sending half of a session. See session.h.
 *
 * What may go wrong: memory runs out when a frame is cut: nothing is cut then
 * and it is tried again at the next step.
 */
#include "src/session.h"

#include "src/mem.h"
#include "src/sys.h"

enum { RING_FIRST = 16 };

void ctki_out_init (ctki_out_t *out, const ctki_session_setup_t *setup, int64_t now_us)
{
    *out = (ctki_out_t){.setup = *setup, .started_us = now_us, .una = 1, .next = 1, .send = 1, .given = 1};
    out->ack_wait_us = CTKI_ACK_WAIT_MS * CTKI_MS;
    out->probe_wait_us = CTKI_PROBE_MIN_MS * CTKI_MS;
    out->hello_wait_us = CTKI_HELLO_MIN_MS * CTKI_MS;
}

/* ---- the ring */

static ctki_sent_t *at (const ctki_out_t *out, uint64_t seq)
{
    return &out->ring[seq & (out->ring_capacity - 1)];
}

static int grow_ring (ctki_out_t *out)
{
    size_t capacity = out->ring_capacity ? out->ring_capacity * 2 : RING_FIRST;
    ctki_sent_t *ring = ctki_alloc (capacity * sizeof *ring);
    if (!ring)
        return -1;
    for (uint64_t seq = out->una; seq < out->next; seq++)
        ring[seq & (capacity - 1)] = *at (out, seq);
    ctki_free (out->ring);
    out->ring = ring;
    out->ring_capacity = capacity;
    return 0;
}

/* The item being cut leaves the queue; its last frame owns it from now on. */
static void next_item (ctki_out_t *out)
{
    ctki_items_take (&out->queue);
    out->queued_items--;
    out->cut = 0;
}

void ctki_out_fini (ctki_out_t *out)
{
    for (uint64_t seq = out->una; seq < out->next; seq++) {
        if (at (out, seq)->last)
            ctki_item_release (at (out, seq)->item);
    }
    for (ctki_item_t *item; (item = ctki_items_take (&out->queue));)
        ctki_item_release (item);
    ctki_free (out->ring);
    out->ring = NULL;
    out->una = out->next = 1;
    out->queued_items = 0;
}

void ctki_out_push (ctki_out_t *out, ctki_item_t *item)
{
    ctki_items_add (&out->queue, item);
    out->queued_items++;
}

/* ---- cutting frames */

/* How much of a run fits into `limit` bytes and `charge`, in whole records. */
static size_t cut_run (const ctki_item_t *item, size_t offset, size_t limit, uint64_t credit, ctki_sent_t *sent)
{
    size_t size = 0;
    while (offset + size < item->size) {
        ctki_record_t record;
        size_t head = ctki_record_get (item->data + offset + size, item->size - offset - size, &record);
        CTKI_ASSERT (head > 0);
        size_t whole = head + ctki_record_pad (record.len);
        uint64_t cost = record.len + CTKI_CHARGE_BYTES;
        if (size + whole > limit || sent->charge + cost > credit)
            break;
        size += whole;
        sent->charge += cost;
        sent->count++;
    }
    return size;
}

/* The next slice of the first item within the credit; its size, 0: none. */
static size_t slice (const ctki_out_t *out, uint64_t credit, ctki_sent_t *sent)
{
    ctki_item_t *item = out->queue.head;
    size_t left = item->size - out->cut;
    *sent = (ctki_sent_t){.item = item, .data = item->data + out->cut};
    if (item->kind == CTKI_LARGE) {
        size_t size = CTKI_MIN (left, (size_t) out->setup.frame_bytes);
        sent->charge = size + (out->cut == 0 ? CTKI_CHARGE_BYTES : 0u);
        sent->count = size == left;
        return sent->charge <= credit ? size : 0;
    }
    if (out->cut == 0 && item->size <= out->setup.frame_bytes && item->charge <= credit) {
        sent->charge = item->charge;
        sent->count = item->count;
        return item->size;
    }
    /* A run that does not fit whole waits for more room while some is sure to
     * come, so that a window that opens in steps does not make tiny frames. */
    if (item->charge <= out->setup.window_bytes / 4 && item->size <= out->setup.frame_bytes && out->una < out->next)
        return 0;
    return cut_run (item, out->cut, out->setup.frame_bytes, credit, sent);
}

/* Cuts the next frame if there is an item and credit for it. */
static bool cut (ctki_out_t *out)
{
    if (!out->queue.head || out->next > out->credit_frame || out->cut_charge >= out->credit_byte)
        return false;
    ctki_sent_t sent;
    size_t size = slice (out, out->credit_byte - out->cut_charge, &sent);
    if (size == 0)
        return false;
    if (out->next - out->una == out->ring_capacity && grow_ring (out))
        return false;
    sent.size = (uint32_t) size;
    sent.last = out->cut + size == sent.item->size;
    *at (out, out->next++) = sent;
    out->cut_charge += sent.charge;
    out->cut += size;
    if (sent.last)
        next_item (out);
    return true;
}

bool ctki_out_hungry (const ctki_out_t *out)
{
    return out->state == CTKI_OUT_OPEN && !out->queue.head && !out->leaving;
}

/* ---- acknowledgements */

static void settle (ctki_out_t *out, const ctki_sent_t *sent)
{
    out->settled.delivered += sent->count;
    out->settled.charge += (int64_t) sent->charge;
    if (sent->last)
        ctki_item_release (sent->item);
}

/* All below n was received. */
static void acknowledge (ctki_out_t *out, int64_t now_us, uint64_t n)
{
    if (n > out->una) {
        out->ack_us = now_us;
        out->ack_wait_us = CTKI_MAX (CTKI_ACK_WAIT_MS * CTKI_MS, 2 * out->srtt_us + 10 * CTKI_MS);
    }
    while (out->una < n)
        settle (out, at (out, out->una++));
    out->send = CTKI_MAX (out->send, out->una);
}

/* Back to the first frame that was not received. */
static void rewind_to_una (ctki_out_t *out)
{
    out->send = out->una;
    out->round++;
}

/* ---- a new session while there was an old one */

/* Takes back the frames that libzmq never had: as if they had not been cut. */
static void uncut (ctki_out_t *out)
{
    while (out->next > out->given) {
        ctki_sent_t *sent = at (out, --out->next);
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
    while (out->next > out->una && at (out, out->next - 1)->item == head)
        settled = (size_t) (at (out, --out->next)->data - head->data);
    if (settled > 0)
        out->settled.charge -= (int64_t) (settled + CTKI_CHARGE_BYTES);
    out->cut = 0;
}

/* What is in the ring may have been received or not. */
static void doubt_ring (ctki_out_t *out)
{
    for (; out->una < out->next; out->una++) {
        const ctki_sent_t *sent = at (out, out->una);
        out->settled.abandoned += sent->count;
        out->settled.in_doubt += sent->count;
        out->settled.charge += (int64_t) sent->charge;
        if (sent->last)
            ctki_item_release (sent->item);
    }
}

/* The receiver is another incarnation: what libzmq had is in doubt, the rest
 * goes to the new one. */
static void restart (ctki_out_t *out)
{
    uncut (out);
    begin_anew (out);
    doubt_ring (out);
    out->una = out->next = out->send = out->given = 1;
}

/* Starts numbering anew under a sid of a receiver that knows nothing. */
static void new_session (ctki_out_t *out, const ctki_frame_t *frame)
{
    if (out->sid)
        restart (out);
    out->sid = frame->sid;
    out->peer_inc = frame->u.welcome.inc;
    out->cut_charge = 0;
    out->credit_frame = frame->u.welcome.credit_frame;
    out->credit_byte = frame->u.welcome.credit_byte;
    out->leaving = out->leaving_seen = false;
    out->want_ping = true; /* the first frame with the new sid opens the session over there */
}

static void resume (ctki_out_t *out, int64_t now_us, const ctki_frame_t *frame)
{
    acknowledge (out, now_us, frame->n);
    out->credit_frame = CTKI_MAX (out->credit_frame, frame->u.welcome.credit_frame);
    out->credit_byte = CTKI_MAX (out->credit_byte, frame->u.welcome.credit_byte);
    if (out->send > out->una)
        rewind_to_una (out);
    out->want_ping = true; /* it tells the receiver the way back */
}

/* ---- what comes in */

static bool on_welcome (ctki_out_t *out, int64_t now_us, const ctki_frame_t *frame)
{
    if (out->state != CTKI_OUT_GREET || frame->u.welcome.nonce != out->nonce || frame->sid == 0)
        return false;
    if (frame->flags & CTKI_F_RESUMED) {
        if (frame->sid != out->sid || frame->n < out->una || frame->n > out->given)
            return false;
        resume (out, now_us, frame);
    } else if (frame->n != 1)
        return false;
    else if (frame->sid != out->sid)
        new_session (out, frame);
    else if (out->una == 1)
        resume (out, now_us, frame); /* offered again: no frame of it ever came over, nothing is in doubt */
    else
        return false;
    out->state = CTKI_OUT_OPEN;
    out->ack_us = now_us;
    out->rejected = 0;
    out->hello_wait_us = CTKI_HELLO_MIN_MS * CTKI_MS;
    return true;
}

static void measure (ctki_out_t *out, int64_t now_us, uint64_t stamp)
{
    int64_t rtt = now_us - (int64_t) stamp;
    if (rtt < 0 || rtt > CTKI_RTT_MAX_MS * CTKI_MS)
        return;
    out->srtt_us = out->srtt_us ? out->srtt_us + (rtt - out->srtt_us) / 8 : rtt;
    out->rtt_worst_us = CTKI_MAX (out->rtt_worst_us, rtt);
}

/* The receiver takes no more: what it has not acknowledged it did not receive. */
static void on_leaving (ctki_out_t *out)
{
    out->leaving = out->leaving_seen = true;
    out->want_ping = true;
    out->given = out->send = out->una;
    if (out->closing)
        ctki_out_abandon (out);
}

static bool on_ack (ctki_out_t *out, int64_t now_us, const ctki_frame_t *frame)
{
    if (frame->sid != out->sid || out->sid == 0 || frame->n < out->una || frame->n > out->given)
        return false;
    const ctki_ack_t *ack = &frame->u.ack;
    bool opened = ack->credit_frame > out->credit_frame || ack->credit_byte > out->credit_byte;
    acknowledge (out, now_us, frame->n);
    out->credit_frame = CTKI_MAX (out->credit_frame, ack->credit_frame);
    out->credit_byte = CTKI_MAX (out->credit_byte, ack->credit_byte);
    if (opened)
        out->probe_wait_us = CTKI_PROBE_MIN_MS * CTKI_MS;
    if (frame->flags & CTKI_F_PONG)
        measure (out, now_us, ack->stamp);
    if (frame->flags & CTKI_F_PROBE)
        out->want_ping = true;
    if ((frame->flags & CTKI_F_GAP) && frame->round == out->round && out->send > out->una)
        rewind_to_una (out);
    if (frame->flags & CTKI_F_LEAVING)
        on_leaving (out);
    return true;
}

static void greet (ctki_out_t *out, int64_t now_us)
{
    out->state = CTKI_OUT_GREET;
    out->hello_at_us = now_us;
}

static bool on_reset (ctki_out_t *out, int64_t now_us, const ctki_frame_t *frame)
{
    if (frame->sid != out->sid || out->state != CTKI_OUT_OPEN)
        return false;
    greet (out, now_us);
    return true;
}

static bool on_bye_ack (ctki_out_t *out, const ctki_frame_t *frame)
{
    if (frame->sid != out->sid || out->byes == 0)
        return false;
    out->state = CTKI_OUT_ENDED;
    return true;
}

static bool on_reject (ctki_out_t *out, int64_t now_us, const ctki_frame_t *frame)
{
    if (out->state != CTKI_OUT_GREET)
        return false;
    out->rejected = frame->u.reason;
    if (frame->u.reason == CTKI_WHY_CLOSING) {
        out->leaving = true; /* that incarnation never opens a session with us */
        if (out->closing)
            ctki_out_abandon (out);
    }
    out->hello_wait_us = CTKI_HELLO_MAX_MS * CTKI_MS;
    out->hello_at_us = now_us + out->hello_wait_us;
    return true;
}

static bool dispatch (ctki_out_t *out, int64_t now_us, const ctki_frame_t *frame)
{
    switch (frame->type) {
    case CTKI_WELCOME:
        return on_welcome (out, now_us, frame);
    case CTKI_ACK:
        return on_ack (out, now_us, frame);
    case CTKI_RESET:
        return on_reset (out, now_us, frame);
    case CTKI_BYE_ACK:
        return on_bye_ack (out, frame);
    case CTKI_REJECT:
        return on_reject (out, now_us, frame);
    default:
        return false; /* frames of the other direction */
    }
}

bool ctki_out_receive (ctki_out_t *out, int64_t now_us, const ctki_frame_t *frame)
{
    if (out->state == CTKI_OUT_ENDED || frame->version != CTKI_WIRE_VERSION || !dispatch (out, now_us, frame))
        return false;
    if (frame->type == CTKI_REJECT)
        return true; /* somebody answered, but not a peer that we may talk to */
    out->link_heard_us = now_us;
    ctki_out_heard (out, now_us);
    return true;
}

void ctki_out_heard (ctki_out_t *out, int64_t when_us)
{
    out->heard_us = CTKI_MAX (out->heard_us, when_us);
}

void ctki_out_link_up (ctki_out_t *out, int64_t now_us, uint64_t nonce)
{
    if (out->state == CTKI_OUT_ENDED)
        return;
    out->gen++;
    out->nonce = nonce;
    out->hello_wait_us = CTKI_HELLO_MIN_MS * CTKI_MS;
    greet (out, now_us);
}

void ctki_out_link_down (ctki_out_t *out, int64_t now_us)
{
    (void) now_us;
    if (out->state != CTKI_OUT_ENDED)
        out->state = CTKI_OUT_NOLINK;
}

/* ---- closing */

void ctki_out_flush (ctki_out_t *out)
{
    out->flushing = true;
    if (out->send == out->next && !out->queue.head && out->una < out->next)
        out->want_ping = true; /* all is on its way: ask */
}

void ctki_out_close (ctki_out_t *out, int64_t now_us)
{
    out->closing = true;
    if (!out->bye_reason)
        out->bye_reason = CTKI_WHY_CLOSING;
    out->bye_at_us = now_us;
    if (out->leaving)
        ctki_out_abandon (out);
    else
        ctki_out_flush (out);
}

/* The envelopes and the charge of the first item that no frame holds. */
static void abandon_head (ctki_out_t *out)
{
    ctki_item_t *item = out->queue.head;
    ctki_sent_t cut = {0}; /* what was cut from it before */
    if (item->kind == CTKI_RUN)
        cut_run (item, 0, out->cut, UINT64_MAX, &cut);
    else if (out->cut > 0)
        cut.charge = out->cut + CTKI_CHARGE_BYTES;
    out->settled.abandoned += item->count - cut.count;
    out->settled.charge += (int64_t) (item->charge - cut.charge);
    next_item (out);
    ctki_item_release (item);
}

void ctki_out_abandon (ctki_out_t *out)
{
    uncut (out);
    doubt_ring (out);
    out->send = out->next;
    while (out->queue.head)
        abandon_head (out);
}

void ctki_out_dismiss (ctki_out_t *out)
{
    out->bye_reason = CTKI_WHY_ABANDONED;
    ctki_out_abandon (out);
}

/* ---- what goes out */

static void control (const ctki_out_t *out, ctki_emit_t *emit, ctki_type_t type)
{
    emit->sent = NULL;
    emit->frame = (ctki_frame_t){.version = CTKI_WIRE_VERSION,
                                 .type = (uint8_t) type,
                                 .sid = out->sid,
                                 .n = out->next,
                                 .round = out->round,
                                 .gen = out->gen};
}

static void make_hello (const ctki_out_t *out, ctki_emit_t *emit)
{
    control (out, emit, CTKI_HELLO);
    emit->frame.sid = 0;
    emit->frame.n = out->una;
    ctki_hello_t *hello = &emit->frame.u.hello;
    memcpy (hello->cluster_id, out->setup.cluster_id, sizeof hello->cluster_id);
    hello->src = out->setup.self;
    hello->dst = out->setup.peer;
    hello->inc = out->setup.inc;
    hello->nonce = out->nonce;
    hello->prev_sid = out->sid;
    hello->version_min = hello->version_max = CTKI_WIRE_VERSION;
    hello->frame_bytes = out->setup.frame_bytes;
    hello->message_bytes = out->setup.message_bytes;
}

static void make_ping (const ctki_out_t *out, int64_t now_us, ctki_emit_t *emit)
{
    control (out, emit, CTKI_PING);
    emit->frame.n = out->send;
    emit->frame.flags = (uint16_t) (CTKI_F_ACK_NOW | (out->leaving_seen ? CTKI_F_LEAVING_SEEN : 0));
    emit->frame.u.ping = (ctki_ping_t){.stamp = (uint64_t) now_us, .inc = out->peer_inc};
}

/* When the next PING is due, by the three clocks of R6 and section 3.9. */
static int64_t ping_at (const ctki_out_t *out)
{
    int64_t quiet = CTKI_MAX (out->heard_us, out->ping_us) + out->setup.heartbeat_us;
    int64_t link = CTKI_MAX (out->link_heard_us, out->ping_us) + out->setup.suspect_us;
    int64_t due = CTKI_MIN (quiet, link);
    if (out->una < out->given)
        due = CTKI_MIN (due, CTKI_MAX (out->ack_us, out->ping_us) + out->ack_wait_us);
    else if (out->stalled_us && !out->leaving)
        due = CTKI_MIN (due, CTKI_MAX (out->stalled_us, out->ping_us) + out->probe_wait_us);
    return due;
}

static bool make_data (ctki_out_t *out, int64_t now_us, ctki_emit_t *emit)
{
    if (out->leaving)
        return false;
    if (out->send == out->next && !cut (out)) {
        if (out->queue.head && !out->stalled_us)
            out->stalled_us = now_us; /* no credit (or no memory) for what is there */
        return false;
    }
    out->stalled_us = 0;
    control (out, emit, CTKI_DATA);
    emit->frame.n = out->send;
    emit->sent = at (out, out->send);
    if (out->flushing && out->send + 1 == out->next && !out->queue.head)
        emit->frame.flags |= CTKI_F_ACK_NOW;
    return true;
}

/* All is settled, or will never be. */
static bool make_bye (ctki_out_t *out, int64_t now_us, ctki_emit_t *emit)
{
    if (!out->closing || !ctki_out_empty (out) || out->leaving)
        return false;
    if (out->byes >= CTKI_BYE_TRIES) {
        out->state = CTKI_OUT_ENDED; /* nothing is at stake: it need not know */
        return false;
    }
    if (now_us < out->bye_at_us)
        return false;
    control (out, emit, CTKI_BYE);
    emit->frame.u.reason = out->bye_reason;
    return true;
}

bool ctki_out_next (ctki_out_t *out, int64_t now_us, ctki_emit_t *emit)
{
    if (out->closing && out->state != CTKI_OUT_OPEN && ctki_out_empty (out))
        out->state = CTKI_OUT_ENDED; /* no session, nothing to say goodbye to */
    if (out->state == CTKI_OUT_GREET && now_us >= out->hello_at_us) {
        make_hello (out, emit);
        return true;
    }
    if (out->state != CTKI_OUT_OPEN)
        return false;
    if (out->want_ping || now_us >= ping_at (out)) {
        make_ping (out, now_us, emit);
        return true;
    }
    if (out->closing && out->leaving) {
        out->state = CTKI_OUT_ENDED; /* both close; the last PING has said so */
        return false;
    }
    return make_data (out, now_us, emit) || make_bye (out, now_us, emit);
}

static void sent_hello (ctki_out_t *out, int64_t now_us)
{
    out->hello_at_us = now_us + out->hello_wait_us;
    out->hello_wait_us = CTKI_MIN (2 * out->hello_wait_us, CTKI_HELLO_MAX_MS * CTKI_MS);
}

static void sent_ping (ctki_out_t *out, int64_t now_us)
{
    if (out->una < out->given && now_us >= CTKI_MAX (out->ack_us, out->ping_us) + out->ack_wait_us)
        out->ack_wait_us = CTKI_MIN (2 * out->ack_wait_us, out->setup.heartbeat_us);
    else if (out->una == out->given && out->stalled_us)
        out->probe_wait_us = CTKI_MIN (2 * out->probe_wait_us, CTKI_PROBE_MAX_MS * CTKI_MS);
    out->want_ping = false;
    out->leaving_seen = false;
    out->ping_us = now_us;
}

static void sent_data (ctki_out_t *out, int64_t now_us, ctki_sent_t *sent)
{
    if (sent->given)
        out->settled.retransmitted++;
    if (out->una == out->given)
        out->ack_us = now_us; /* the wait for an acknowledgement begins */
    sent->given = true;
    sent->item->in_place = false; /* libzmq reads it from now on */
    out->send++;
    out->given = CTKI_MAX (out->given, out->send);
    if (out->send == out->next && !out->queue.head)
        out->flushing = false;
}

void ctki_out_sent (ctki_out_t *out, int64_t now_us, const ctki_emit_t *emit)
{
    switch (emit->frame.type) {
    case CTKI_HELLO:
        sent_hello (out, now_us);
        break;
    case CTKI_PING:
        sent_ping (out, now_us);
        break;
    case CTKI_BYE:
        out->byes++;
        out->bye_at_us = now_us + CTKI_BYE_MS * CTKI_MS;
        break;
    default:
        sent_data (out, now_us, emit->sent);
    }
}

/* ---- the bytes of a frame */

/* A run that is still as it was written becomes a frame where it stands. */
static int whole_run (const ctki_emit_t *emit, ctki_part_t parts[2])
{
    const ctki_sent_t *sent = emit->sent;
    uint8_t *head = sent->item->data - CTKI_HEAD_BYTES;
    size_t size = CTKI_HEAD_BYTES + sent->size;
    ctki_wire_put_head (head, &emit->frame);
    ctki_put32 (head + size, ctki_crc32c (0, head, size));
    parts[0] = (ctki_part_t){.data = head, .size = size + CTKI_CRC_BYTES, .buf = sent->item->home};
    return 1;
}

/* Headers in the first part, the slice shared in the second. */
static int two_parts (const ctki_emit_t *emit, uint8_t *scratch, ctki_part_t parts[2])
{
    const ctki_sent_t *sent = emit->sent;
    const ctki_item_t *item = sent->item;
    size_t size = CTKI_HEAD_BYTES;
    ctki_wire_put_head (scratch, &emit->frame);
    if (item->kind == CTKI_LARGE) {
        ctki_record_t record = item->record;
        record.len = sent->size;
        record.total = item->size;
        record.flags &= (uint16_t) ~(CTKI_R_FIRST | CTKI_R_LAST);
        if (sent->data == item->data)
            record.flags |= CTKI_R_FIRST;
        if (sent->last)
            record.flags |= CTKI_R_LAST;
        size += ctki_record_put (scratch + size, &record);
    }
    uint32_t crc = ctki_crc32c (0, scratch, size);
    if (item->crc_known && sent->size == item->size)
        crc = ctki_crc32c_combine (crc, item->crc, sent->size);
    else
        crc = ctki_crc32c (crc, sent->data, sent->size);
    ctki_put32 (scratch + size, crc);
    parts[0] = (ctki_part_t){.data = scratch, .size = size + CTKI_CRC_BYTES};
    parts[1] = (ctki_part_t){.data = sent->data, .size = sent->size, .buf = item->body ? item->body : item->home};
    return 2;
}

int ctki_emit_parts (const ctki_emit_t *emit, uint8_t scratch[CTKI_SCRATCH_BYTES], ctki_part_t parts[2])
{
    const ctki_sent_t *sent = emit->sent;
    if (!sent) {
        size_t size = ctki_wire_encode (&emit->frame, scratch, CTKI_SCRATCH_BYTES);
        parts[0] = (ctki_part_t){.data = scratch, .size = size};
        return 1;
    }
    if (sent->item->in_place && sent->size == sent->item->size)
        return whole_run (emit, parts);
    return two_parts (emit, scratch, parts);
}

/* ---- clocks */

int64_t ctki_out_deadline (const ctki_out_t *out)
{
    switch (out->state) {
    case CTKI_OUT_GREET:
        return out->hello_at_us;
    case CTKI_OUT_OPEN:
        if (out->closing && ctki_out_empty (out) && !out->leaving)
            return CTKI_MIN (ping_at (out), out->bye_at_us);
        return ping_at (out);
    default:
        return CTKI_FOREVER;
    }
}

int ctki_out_peer_state (const ctki_out_t *out, int64_t now_us, int64_t *until_us)
{
    int64_t since = out->heard_us ? out->heard_us : out->started_us;
    *until_us = CTKI_FOREVER;
    if (out->leaving)
        return CTALK_STATE_LEFT;
    if (now_us - since >= out->setup.down_us)
        return CTALK_STATE_DOWN;
    *until_us = since + out->setup.down_us;
    if (out->heard_us && now_us - since >= out->setup.suspect_us)
        return CTALK_STATE_SUSPECT;
    if (!out->sid)
        return CTALK_STATE_CONNECTING;
    *until_us = since + out->setup.suspect_us;
    return CTALK_STATE_UP;
}
