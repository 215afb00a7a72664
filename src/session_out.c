/*
 * session_out.c - the sending half of a session. See session.h.
 *
 * What may go wrong: the peer, the network and this process's own clock. Frames
 * that do not belong are ignored; a link that says nothing is called dead, so
 * that its owner makes it anew; and time that this process did not have counts
 * for nobody's silence. Where memory runs out, a frame counts as not received.
 */
#include "src/session_out.h"

#include "src/sys.h"

void ctki_out_init (ctki_out_t *out, const ctki_session_setup_t *setup, int64_t now_us)
{
    *out = (ctki_out_t){.setup = *setup, .started_us = now_us, .una = 1, .next = 1, .send = 1, .given = 1, .log_first = 1};
    out->ack_wait_us = CTKI_ACK_WAIT_MS * CTKI_MS;
    out->probe_wait_us = CTKI_PROBE_MIN_MS * CTKI_MS;
    out->hello_wait_us = CTKI_HELLO_MIN_MS * CTKI_MS;
    ctki_out_link_made (out, now_us, 0);
}

/* ---- sessions */

/* The window is open; should it close again, that is another time, and the first
 * probe goes out soon. */
static void unstall (ctki_out_t *out)
{
    out->stalled_us = 0;
    out->probe_wait_us = CTKI_PROBE_MIN_MS * CTKI_MS;
}

static void raise_credit (ctki_out_t *out, uint64_t frame, uint64_t byte)
{
    if (frame > out->credit_frame || byte > out->credit_byte)
        unstall (out);
    out->credit_frame = CTKI_MAX (out->credit_frame, frame);
    out->credit_byte = CTKI_MAX (out->credit_byte, byte);
}

/* Starts numbering anew under a sid of a receiver that knows nothing. False: no memory. */
static bool new_session (ctki_out_t *out, const ctki_frame_t *frame)
{
    bool former = out->sid || (out->peer_inc && out->peer_inc != frame->u.welcome.inc);
    if (former && !ctki_fate_restart (out, frame->u.welcome.inc))
        return false;
    out->sid = frame->sid;
    out->peer_inc = frame->u.welcome.inc;
    out->cut_charge = out->credit_frame = out->credit_byte = 0;
    raise_credit (out, frame->u.welcome.credit_frame, frame->u.welcome.credit_byte);
    out->leaving = out->leaving_seen = false;
    out->stuck_ms = 0;
    out->probe = 0; /* the receiver counts anew */
    out->want_ping = true; /* the first frame with the new sid opens the session over there */
    return true;
}

static bool resume (ctki_out_t *out, int64_t now_us, const ctki_frame_t *frame)
{
    if (!ctki_ring_acknowledge (out, now_us, frame->n, frame->u.welcome.consumed))
        return false;
    raise_credit (out, frame->u.welcome.credit_frame, frame->u.welcome.credit_byte);
    if (out->send > out->una)
        ctki_ring_rewind (out);
    out->want_ping = true; /* it tells the receiver the way back */
    out->leaving = out->leaving_seen = false; /* if it is closing, it says so again */
    return true;
}

bool ctki_out_hungry (const ctki_out_t *out)
{
    return out->state == CTKI_OUT_OPEN && !out->queue.head && !out->leaving;
}

/* ---- what comes in */

static bool enter_session (ctki_out_t *out, int64_t now_us, const ctki_frame_t *frame)
{
    if (frame->flags & CTKI_F_RESUMED)
        return frame->sid == out->sid && frame->n >= out->una && frame->n <= out->given
               && resume (out, now_us, frame);
    if (frame->n != 1)
        return false;
    if (frame->sid != out->sid)
        return new_session (out, frame);
    return out->una == 1 && resume (out, now_us, frame); /* offered again: no frame of it ever came over, nothing is in doubt */
}

static bool on_welcome (ctki_out_t *out, int64_t now_us, const ctki_frame_t *frame)
{
    if (out->state != CTKI_OUT_GREET || frame->u.welcome.nonce != out->nonce || frame->sid == 0
        || !enter_session (out, now_us, frame))
        return false;
    out->state = CTKI_OUT_OPEN;
    out->alive_from_us = out->nonce_us;
    out->alive_to_us = now_us;
    out->ack_us = now_us;
    out->rejected = 0;
    out->hello_wait_us = CTKI_HELLO_MIN_MS * CTKI_MS;
    return true;
}

static void measure (ctki_out_t *out, int64_t now_us, uint64_t stamp)
{
    uint64_t since_us = (uint64_t) now_us - stamp; /* from outside: any number */
    if (since_us > (uint64_t) (CTKI_RTT_MAX_MS * CTKI_MS))
        return;
    int64_t rtt = (int64_t) since_us;
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
    if (!ctki_ring_acknowledge (out, now_us, frame->n, ack->consumed))
        return false;
    raise_credit (out, ack->credit_frame, ack->credit_byte);
    if (frame->flags & CTKI_F_PONG)
        measure (out, now_us, ack->stamp);
    if (frame->flags & CTKI_F_PROBE) {
        out->probe = ack->probe;
        out->want_ping = true;
    }
    out->stuck_ms = ack->stuck_ms;
    if ((frame->flags & CTKI_F_GAP) && frame->round == out->round && out->send > out->una)
        ctki_ring_rewind (out);
    if (frame->flags & CTKI_F_LEAVING)
        on_leaving (out);
    return true;
}

static void greet (ctki_out_t *out, int64_t now_us)
{
    out->state = CTKI_OUT_GREET;
    out->hello_at_us = now_us;
}

/* An answer to an older greeting is none any more: it may be that of a dead process. */
static void greet_anew (ctki_out_t *out, int64_t now_us, uint64_t nonce)
{
    out->gen++;
    out->nonce = nonce;
    out->nonce_us = now_us;
    out->hello_wait_us = CTKI_HELLO_MIN_MS * CTKI_MS;
    greet (out, now_us);
}

/* Another nonce, as good as the last one (splitmix64: no random source in here). */
static uint64_t nonce_after (uint64_t nonce)
{
    uint64_t z = nonce + UINT64_C (0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C (0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C (0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* What answered the greeting before may have been another process by now. */
static bool on_reset (ctki_out_t *out, int64_t now_us, const ctki_frame_t *frame)
{
    if (frame->sid != out->sid || out->state != CTKI_OUT_OPEN)
        return false;
    greet_anew (out, now_us, nonce_after (out->nonce));
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
    if (frame->sid ? frame->sid != out->sid : out->state != CTKI_OUT_GREET)
        return false; /* of a session that is over; or it answers no greeting */
    if (out->state != CTKI_OUT_GREET && out->state != CTKI_OUT_OPEN)
        return false;
    out->state = CTKI_OUT_GREET;
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
    out->asked_us = 0;
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
    out->asked_us = 0;
    greet_anew (out, now_us, nonce);
}

void ctki_out_link_down (ctki_out_t *out, int64_t now_us)
{
    if (out->state == CTKI_OUT_ENDED)
        return;
    out->state = CTKI_OUT_NOLINK;
    out->link_us = now_us;
}

/* Which of the two came later is not known: who answers now, did. */
static void greet_whoever_is_there (ctki_out_t *out, int64_t now_us, const ctki_proof_t *proof, uint64_t nonce)
{
    if (out->nonce_us <= proof->to_us && out->state != CTKI_OUT_NOLINK)
        greet_anew (out, now_us, nonce);
}

bool ctki_out_incarnation (ctki_out_t *out, int64_t now_us, const ctki_proof_t *proof, uint64_t nonce)
{
    if (out->state == CTKI_OUT_ENDED || out->peer_inc == proof->inc)
        return true;
    if (out->sid && out->alive_from_us > proof->to_us)
        return true;
    if (out->sid && out->alive_to_us >= proof->from_us && now_us - proof->to_us < out->setup.down_us) {
        greet_whoever_is_there (out, now_us, proof, nonce);
        return false;
    }
    if (!ctki_fate_restart (out, proof->inc)) /* also without a session: what is queued was for the former one, and is carried */
        return false;
    out->sid = 0;
    out->peer_inc = proof->inc;
    out->leaving = out->leaving_seen = out->want_ping = false;
    out->stalled_us = 0;
    out->stuck_ms = 0;
    if (out->state != CTKI_OUT_NOLINK)
        greet_anew (out, now_us, nonce);
    return true;
}

/* ---- a link that died without a word, and time that this process lost */

void ctki_out_link_made (ctki_out_t *out, int64_t now_us, uint64_t draw)
{
    ctki_out_link_down (out, now_us);
    int64_t eighth = CTKI_RELINK_MS * CTKI_MS / 8;
    out->link_wait_us = CTKI_RELINK_MS * CTKI_MS - eighth + (int64_t) (draw % (uint64_t) (2 * eighth));
}

void ctki_out_link_kept (ctki_out_t *out, int64_t now_us)
{
    out->link_us = out->ack_us = now_us;
    if (out->asked_us)
        out->asked_us = now_us;
}

int64_t ctki_out_link_deadline (const ctki_out_t *out)
{
    int64_t patience_us = CTKI_LINK_BEATS * out->setup.heartbeat_us;
    if (out->state == CTKI_OUT_NOLINK)
        return out->link_us + out->link_wait_us;
    if (out->state == CTKI_OUT_ENDED)
        return CTKI_FOREVER;
    int64_t dead_us = out->asked_us ? out->asked_us + patience_us : CTKI_FOREVER;
    if (out->state == CTKI_OUT_OPEN && out->una < out->given)
        dead_us = CTKI_MIN (dead_us, out->ack_us + CTKI_MAX (patience_us, CTKI_PROGRESS_MS * CTKI_MS));
    return dead_us;
}

bool ctki_out_link_dead (const ctki_out_t *out, int64_t now_us)
{
    return now_us >= ctki_out_link_deadline (out);
}

void ctki_out_hurry (ctki_out_t *out, int64_t now_us)
{
    out->hello_at_us = now_us;
    out->hello_wait_us = CTKI_HELLO_MIN_MS * CTKI_MS;
    out->ack_wait_us = CTKI_ACK_WAIT_MS * CTKI_MS;
    out->probe_wait_us = CTKI_PROBE_MIN_MS * CTKI_MS;
    out->want_ping = out->state == CTKI_OUT_OPEN;
}

void ctki_out_blocked (ctki_out_t *out, int64_t now_us)
{
    if (!out->asked_us)
        out->asked_us = now_us;
}

static void put_off (int64_t *when_us, int64_t now_us, int64_t late_us)
{
    if (*when_us)
        *when_us = CTKI_MIN (*when_us + late_us, now_us);
}

void ctki_out_late (ctki_out_t *out, int64_t now_us, int64_t late_us)
{
    put_off (&out->started_us, now_us, late_us);
    put_off (&out->heard_us, now_us, late_us);
    put_off (&out->link_heard_us, now_us, late_us);
    put_off (&out->asked_us, now_us, late_us);
    put_off (&out->ack_us, now_us, late_us);
    put_off (&out->link_us, now_us, late_us);
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
    hello->ordinal = out->ordinal;
    hello->charge = out->charge;
}

static void make_ping (const ctki_out_t *out, int64_t now_us, ctki_emit_t *emit)
{
    control (out, emit, CTKI_PING);
    emit->frame.n = out->send;
    emit->frame.flags = (uint16_t) (CTKI_F_ACK_NOW | (out->leaving_seen ? CTKI_F_LEAVING_SEEN : 0));
    emit->frame.u.ping = (ctki_ping_t){.stamp = (uint64_t) now_us, .inc = out->peer_inc, .probe = out->probe};
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
    if (out->send == out->next && !ctki_ring_cut (out)) {
        if (out->queue.head && !out->stalled_us)
            out->stalled_us = now_us; /* no credit (or no memory) for what is there */
        return false;
    }
    unstall (out);
    control (out, emit, CTKI_DATA);
    emit->frame.n = out->send;
    emit->sent = ctki_ring_at (out, out->send);
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
    if (emit->frame.type != CTKI_DATA && !out->asked_us)
        out->asked_us = now_us; /* each of them is answered at once */
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
    int64_t due_us = ctki_out_link_deadline (out);
    if (out->state == CTKI_OUT_GREET)
        return CTKI_MIN (due_us, out->hello_at_us);
    if (out->state != CTKI_OUT_OPEN)
        return due_us;
    if (out->closing && ctki_out_empty (out) && !out->leaving)
        due_us = CTKI_MIN (due_us, out->bye_at_us);
    return CTKI_MIN (due_us, ping_at (out));
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
    if (!out->sid || !out->alive_to_us) /* none, or one that is revived: it may be over */
        return CTALK_STATE_CONNECTING;
    *until_us = since + out->setup.suspect_us;
    return CTALK_STATE_UP;
}
