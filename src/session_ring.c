/*
 * session_ring.c - the frames of a sending half: cut from its items, numbered,
 * kept in a ring until they are acknowledged. See session.h.
 *
 * What may go wrong: memory runs out when a frame is cut: nothing is cut then
 * and it is tried again at the next step.
 */
#include "src/session_out.h"

#include "src/mem.h"
#include "src/sys.h"

enum { RING_FIRST = 16 };

/* ---- the ring */

static int grow_ring (ctki_out_t *out)
{
    size_t capacity = out->ring_capacity ? out->ring_capacity * 2 : RING_FIRST;
    ctki_sent_t *ring = ctki_alloc (capacity * sizeof *ring);
    if (!ring)
        return -1;
    for (uint64_t seq = out->una; seq < out->next; seq++)
        ring[seq & (capacity - 1)] = *ctki_ring_at (out, seq);
    ctki_free (out->ring);
    out->ring = ring;
    out->ring_capacity = capacity;
    return 0;
}

/* Its last frame owns it from now on. */
void ctki_ring_next_item (ctki_out_t *out)
{
    ctki_items_take (&out->queue);
    out->queued_items--;
    out->cut = 0;
}

void ctki_out_fini (ctki_out_t *out)
{
    for (uint64_t seq = out->una; seq < out->next; seq++) {
        if (ctki_ring_at (out, seq)->last)
            ctki_item_release (ctki_ring_at (out, seq)->item);
    }
    for (ctki_item_t *item; (item = ctki_items_take (&out->queue));)
        ctki_item_release (item);
    ctki_free (out->ring);
    ctki_free (out->log);
    ctki_free (out->obit);
    out->ring = NULL;
    out->log = NULL;
    out->obit = NULL;
    out->una = out->next = 1;
    out->queued_items = 0;
}

void ctki_out_push (ctki_out_t *out, ctki_item_t *item)
{
    ctki_items_add (&out->queue, item);
    out->queued_items++;
}

/* ---- cutting frames */

size_t ctki_ring_cut_run (const ctki_item_t *item, size_t offset, size_t limit, uint64_t credit, ctki_sent_t *sent)
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

/* The next fragment of a large envelope of which so much is left: a big one, or
 * where the credit is too small for that one as large as a frame. */
static size_t fragment (const ctki_out_t *out, size_t left, uint64_t credit, ctki_sent_t *sent)
{
    size_t frame = out->setup.frame_bytes, extra = out->cut == 0 ? CTKI_CHARGE_BYTES : 0;
    size_t size = CTKI_MIN (left, CTKI_MAX (frame, (size_t) out->setup.fragment_bytes));
    if (size + extra > credit)
        size = CTKI_MIN (left, frame);
    sent->charge = size + extra;
    sent->count = size == left;
    return sent->charge <= credit ? size : 0;
}

/* The next slice of the first item within the credit; its size, 0: none. */
static size_t slice (const ctki_out_t *out, uint64_t credit, ctki_sent_t *sent)
{
    ctki_item_t *item = out->queue.head;
    size_t left = item->size - out->cut;
    *sent = (ctki_sent_t){.item = item, .data = item->data + out->cut};
    if (item->kind == CTKI_LARGE)
        return fragment (out, left, credit, sent);
    if (out->cut == 0 && item->size <= out->setup.frame_bytes && item->charge <= credit) {
        sent->charge = item->charge;
        sent->count = item->count;
        return item->size;
    }
    /* A run that does not fit whole waits for more room while some is sure to
     * come, so that a window that opens in steps does not make tiny frames. */
    if (item->charge <= out->setup.window_bytes / 4 && item->size <= out->setup.frame_bytes && out->una < out->next)
        return 0;
    return ctki_ring_cut_run (item, out->cut, out->setup.frame_bytes, credit, sent);
}

bool ctki_ring_cut (ctki_out_t *out)
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
    *ctki_ring_at (out, out->next++) = sent;
    out->cut_charge += sent.charge;
    out->cut += size;
    if (sent.last)
        ctki_ring_next_item (out);
    return true;
}

/* ---- acknowledgements */

static void settle (ctki_out_t *out, const ctki_sent_t *sent)
{
    if (CTKI_UNLIKELY (out->watched))
        ctki_fate_received (out, sent);
    out->ordinal += sent->count;
    out->charge += sent->charge;
    out->settled.delivered += sent->count;
    out->settled.charge += (int64_t) sent->charge;
    if (sent->last)
        ctki_item_release (sent->item);
}

bool ctki_ring_acknowledge (ctki_out_t *out, int64_t now_us, uint64_t n, uint64_t consumed)
{
    if (CTKI_UNLIKELY (out->watched) && !ctki_fate_reserve (out, n, consumed))
        return false;
    if (n > out->una) {
        out->ack_us = now_us;
        out->ack_wait_us = CTKI_MAX (CTKI_ACK_WAIT_MS * CTKI_MS, 2 * out->srtt_us + 10 * CTKI_MS);
    }
    out->consumed = CTKI_MAX (out->consumed, consumed);
    while (out->una < n)
        settle (out, ctki_ring_at (out, out->una++));
    out->consumed = CTKI_MIN (out->consumed, out->ordinal); /* whatever the peer says */
    out->send = CTKI_MAX (out->send, out->una);
    ctki_fate_consumed (out, out->consumed);
    return true;
}

void ctki_ring_rewind (ctki_out_t *out)
{
    out->send = out->una;
    out->round++;
}
