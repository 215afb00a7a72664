/*
 * oracle.c - what must hold in a simulated world. It keeps account of what
 * really happened, from the frames that passed and the envelopes that were
 * accepted and taken, and compares the state machines with that.
 */
#include <stdlib.h>

#include "tests/sim/sim.h"

enum { FRAMES_FIRST = 64, COUNT_EVERY = 64 /* steps, between two counts of all that is queued */ };

/* ---- what a sender did */

static uint64_t given_envelopes (const sim_stream_t *stream)
{
    return stream->given_seq ? stream->frames[stream->given_seq].envelopes : 0;
}

static int64_t id_of (const sim_sender_t *sender, uint64_t ordinal)
{
    return sim_msg_id (sender->process->life, sender->peer, sender->stream.base + ordinal);
}

void sim_oracle_forget (sim_stream_t *stream)
{
    sim_totals.accepted += stream->accepted;
    sim_totals.delivered += stream->delivered;
    sim_totals.abandoned += stream->abandoned;
    sim_totals.in_doubt += stream->in_doubt;
    free (stream->frames);
    stream->frames = NULL;
}

void sim_oracle_accepted (sim_world_t *w, sim_sender_t *sender, uint64_t number, size_t size)
{
    (void) w;
    sender->stream.accepted = number;
    sender->stream.accepted_charge += size + CTKI_CHARGE_BYTES;
}

/* Calls the envelopes that end in a slice by number; returns how many. */
static uint64_t check_records (const sim_world_t *w, const sim_sender_t *sender, const ctki_sent_t *sent,
                               uint64_t before)
{
    uint64_t count = 0;
    if (sent->item->kind == CTKI_LARGE) {
        SIM_EXPECT (w, sent->item->record.msg_id == id_of (sender, before + 1), "a large envelope out of order");
        return sent->last;
    }
    for (size_t at = 0; at < sent->size; count++) {
        ctki_record_t record = {0};
        size_t head = ctki_record_get (sent->data + at, sent->size - at, &record);
        SIM_EXPECT (w, head > 0 && record.msg_id == id_of (sender, before + count + 1), "an envelope out of order");
        at += head + ctki_record_pad (record.len);
    }
    return count;
}

static void grow_frames (sim_stream_t *stream, uint64_t n)
{
    if (n < stream->capacity)
        return;
    stream->capacity = CTKI_MAX (2 * stream->capacity, (size_t) FRAMES_FIRST);
    stream->frames = realloc (stream->frames, stream->capacity * sizeof stream->frames[0]);
    CTKI_ASSERT (stream->frames);
}

/* A frame that was never sent before: it goes on where the last one ended, within the credit. */
static void sent_first (const sim_world_t *w, sim_sender_t *sender, const ctki_emit_t *emit, uint32_t crc)
{
    sim_stream_t *stream = &sender->stream;
    uint64_t n = emit->frame.n;
    SIM_EXPECT (w, n == stream->given_seq + 1, "frame %" PRIu64 " after %" PRIu64, n, stream->given_seq);
    grow_frames (stream, n);
    if (n == 1)
        stream->frames[0] = (sim_frame_t){0};
    sim_frame_t *frame = &stream->frames[n];
    *frame = stream->frames[n - 1];
    frame->crc = crc;
    frame->charge += emit->sent->charge;
    frame->envelopes += check_records (w, sender, emit->sent, frame->envelopes);
    SIM_EXPECT (w, n <= stream->credit_frame && frame->charge <= stream->credit_byte,
                "frame %" PRIu64 " of %" PRIu64 ", charge %" PRIu64 " of %" PRIu64, n, stream->credit_frame,
                frame->charge, stream->credit_byte);
    stream->given_seq = n;
}

static void sent_data (const sim_world_t *w, sim_sender_t *sender, const ctki_emit_t *emit)
{
    sim_stream_t *stream = &sender->stream;
    uint64_t n = emit->frame.n;
    uint32_t crc = ctki_crc32c (emit->sent->last, emit->sent->data, emit->sent->size);
    uint64_t follows = CTKI_MAX (stream->last_seq, stream->acked_seq) + 1;
    bool back = stream->rewind && n == stream->acked_seq + 1;
    SIM_EXPECT (w, n == follows || back, "frame %" PRIu64 " after %" PRIu64 " without evidence", n, stream->last_seq);
    if (n > stream->given_seq)
        sent_first (w, sender, emit, crc);
    SIM_EXPECT (w, stream->frames[n].crc == crc, "frame %" PRIu64 " changed", n);
    SIM_EXPECT (w, emit->sent->size > 0 && emit->sent->size <= CTKI_MAX (w->setup.frame_bytes, w->setup.fragment_bytes), "a frame of %u bytes",
                (unsigned) emit->sent->size);
    stream->rewind = false;
    stream->last_seq = n;
}

void sim_oracle_sent (sim_world_t *w, sim_sender_t *sender, const ctki_emit_t *emit)
{
    sim_stream_t *stream = &sender->stream;
    if (emit->frame.type == CTKI_HELLO) {
        SIM_EXPECT (w, emit->frame.u.hello.prev_sid == stream->sid, "a HELLO with another session");
        return;
    }
    SIM_EXPECT (w, emit->frame.sid == stream->sid && emit->frame.round == stream->round,
                "a frame of another session or round");
    if (emit->frame.type == CTKI_DATA)
        sent_data (w, sender, emit);
    else
        stream->ping_us = w->now_us;
}

/* ---- the end of a session: consumed | received | in doubt | carried */

static void check_fates (const sim_world_t *w, const sim_sender_t *sender, const ctki_obit_t *obit)
{
    const sim_stream_t *stream = &sender->stream;
    uint64_t given = given_envelopes (stream), all = given - stream->consumed;
    bool exact = sender->out.watched && !stream->unwatched;
    SIM_EXPECT (w, exact ? obit->count == all : obit->count <= all, "%zu fates of %" PRIu64, obit->count, all);
    uint64_t ordinal = given - obit->count + 1; /* they end with the last that was given */
    for (size_t i = 0; i < obit->count; i++, ordinal++) {
        const ctalk_fate_t *fate = &obit->fate[i];
        int kind = ordinal <= stream->acked ? CTALK_RECEIVED : w->setup.resend ? CTALK_RESENT : CTALK_IN_DOUBT;
        SIM_EXPECT (w, fate->ordinal == ordinal && fate->msg_id == id_of (sender, ordinal) && fate->kind == kind,
                    "fate %zu: ordinal %" PRIu64 " for %" PRIu64 ", kind %d for %d", i, fate->ordinal, ordinal,
                    fate->kind, kind);
    }
}

static void check_obit (const sim_world_t *w, const sim_sender_t *sender)
{
    const sim_stream_t *stream = &sender->stream;
    const ctki_obit_t *obit = sender->out.obit;
    SIM_EXPECT (w, obit, "a session ended, and there is no obituary");
    uint64_t doubt = w->setup.resend ? 0 : given_envelopes (stream) - stream->acked;
    SIM_EXPECT (w, obit->old_inc == stream->peer_inc, "an obituary of another incarnation");
    SIM_EXPECT (
        w,
        obit->consumed == stream->consumed && obit->received == stream->acked - stream->consumed
            && obit->in_doubt == doubt,
        "consumed %" PRIu64 " received %" PRIu64 " in doubt %" PRIu64 "; by the facts %" PRIu64 " %" PRIu64 " %" PRIu64,
        obit->consumed, obit->received, obit->in_doubt, stream->consumed, stream->acked - stream->consumed, doubt);
    check_fates (w, sender, obit);
}

static void end_session (const sim_world_t *w, sim_sender_t *sender, uint64_t inc)
{
    sim_stream_t *stream = &sender->stream;
    bool doubled = w->doubled[sender->peer] || w->doubled[sender->process->node];
    SIM_EXPECT (w, inc != stream->peer_inc || doubled, "a receiver that lives forgot its session (R8)");
    check_obit (w, sender);
    const ctki_obit_t *obit = sender->out.obit;
    SIM_TELL (w,
              "%s: its session with %u ended: consumed %" PRIu64 " received %" PRIu64 " in doubt %" PRIu64
              " carried %" PRIu64,
              sim_name (sender->process), sender->peer + 1, obit->consumed, obit->received, obit->in_doubt,
              obit->carried);
    sim_did (SIM_DID_OBITUARY);
    sim_totals.deed[SIM_DID_FATES] += obit->count;
    stream->due_consumed += obit->consumed;
    stream->due_received += obit->received;
    stream->due_doubt += obit->in_doubt;
    stream->due_fates += obit->count;
    stream->abandoned += obit->in_doubt;
    stream->in_doubt += obit->in_doubt;
    stream->base += stream->acked + obit->in_doubt;
    stream->sid = 0;
    stream->acked_seq = stream->given_seq = stream->last_seq = 0;
    stream->acked = stream->consumed = 0;
    stream->rewind = false;
    stream->unwatched = !sender->out.watched;
}

void sim_oracle_asked (sim_world_t *w, sim_sender_t *sender, uint64_t inc)
{
    sim_stream_t *stream = &sender->stream;
    if (sender->out.peer_inc == stream->peer_inc)
        return;
    SIM_EXPECT (w, sender->out.sid == 0 && sender->out.peer_inc == inc, "asked about one, and it is another");
    if (stream->sid)
        end_session (w, sender, inc);
    else
        check_obit (w, sender);
    stream->end_accepted = stream->accepted;
    stream->peer_inc = inc;
}

/* ---- what a sender hears */

static void acknowledged (const sim_world_t *w, sim_stream_t *stream, uint64_t n, uint64_t consumed)
{
    SIM_EXPECT (w, n > stream->acked_seq && n <= stream->given_seq + 1,
                "an acknowledgement of %" PRIu64 " was taken: %" PRIu64 " were before, %" PRIu64 " given", n,
                stream->acked_seq, stream->given_seq);
    stream->acked_seq = n - 1;
    stream->acked = n > 1 ? stream->frames[n - 1].envelopes : 0;
    stream->consumed = CTKI_MIN (CTKI_MAX (stream->consumed, consumed), stream->acked);
    const sim_session_t *session = sim_session (w, stream->sid);
    SIM_EXPECT (w, stream->acked <= session->taken, "%" PRIu64 " acknowledged, %" PRIu64 " in the inbox", stream->acked,
                session->taken);
    SIM_EXPECT (w, stream->consumed <= session->consumed, "%" PRIu64 " consumed, %" PRIu64 " by the application",
                stream->consumed, session->consumed);
}

static void delivered (sim_stream_t *stream, uint64_t before)
{
    stream->delivered += stream->acked - before;
}

static void raise_credit (sim_stream_t *stream, uint64_t frame, uint64_t byte)
{
    if (frame > stream->credit_frame || byte > stream->credit_byte)
        stream->closed_us = 0; /* if it still is, that is another time */
    stream->credit_frame = CTKI_MAX (stream->credit_frame, frame);
    stream->credit_byte = CTKI_MAX (stream->credit_byte, byte);
}

/* There is evidence that something did not come: back to it, if it was sent in this round. */
static void rewind_stream (sim_stream_t *stream)
{
    if (stream->rewind || CTKI_MAX (stream->last_seq, stream->acked_seq) == stream->acked_seq)
        return;
    sim_did (SIM_DID_REWIND);
    stream->round++;
    stream->rewind = true;
}

static void heard_ack (const sim_world_t *w, sim_stream_t *stream, const ctki_frame_t *frame)
{
    uint64_t before = stream->acked;
    SIM_EXPECT (w, frame->sid == stream->sid && stream->sid, "an acknowledgement of another session was taken");
    acknowledged (w, stream, frame->n, frame->u.ack.consumed);
    delivered (stream, before);
    raise_credit (stream, frame->u.ack.credit_frame, frame->u.ack.credit_byte);
    if ((frame->flags & CTKI_F_GAP) && frame->round == stream->round)
        rewind_stream (stream);
}

static void enter_session (sim_world_t *w, sim_sender_t *sender, const ctki_frame_t *frame)
{
    sim_stream_t *stream = &sender->stream;
    sim_session_t *session = sim_session (w, frame->sid);
    if (stream->sid)
        end_session (w, sender, frame->u.welcome.inc);
    else if (stream->peer_inc && stream->peer_inc != frame->u.welcome.inc)
        check_obit (w, sender);
    stream->end_accepted = stream->accepted;
    stream->sid = frame->sid;
    stream->peer_inc = frame->u.welcome.inc;
    stream->credit_frame = frame->u.welcome.credit_frame;
    stream->credit_byte = frame->u.welcome.credit_byte;
    SIM_EXPECT (w,
                session->src_life == sender->process->life && session->first == 0
                    && session->dst_life == sim_life_of (stream->peer_inc),
                "a session of another one was entered");
    session->first = stream->base + 1;
    SIM_TELL (w, "%s enters session %" PRIx64 " with %u.%u from %" PRIu64 " on", sim_name (sender->process),
              stream->sid, sender->peer + 1, session->dst_life, session->first);
}

static void heard_welcome (sim_world_t *w, sim_sender_t *sender, const ctki_frame_t *frame)
{
    sim_stream_t *stream = &sender->stream;
    uint64_t before = stream->acked;
    SIM_EXPECT (w, frame->u.welcome.nonce == sender->out.nonce, "the answer to an older greeting was taken");
    if (frame->sid != stream->sid) {
        SIM_EXPECT (w, !(frame->flags & CTKI_F_RESUMED), "another session was resumed");
        enter_session (w, sender, frame);
        return;
    }
    acknowledged (w, stream, frame->n, frame->u.welcome.consumed);
    delivered (stream, before);
    raise_credit (stream, frame->u.welcome.credit_frame, frame->u.welcome.credit_byte);
    rewind_stream (stream);
}

void sim_oracle_heard (sim_world_t *w, sim_sender_t *sender, const ctki_frame_t *frame, bool taken)
{
    const ctki_out_t *out = &sender->out;
    sim_stream_t *stream = &sender->stream;
    SIM_TELL (w, "%s <- %u type %u sid %" PRIx64 " n %" PRIu64 " flags %x%s", sim_name (sender->process),
              sender->peer + 1, frame->type, frame->sid, frame->n, frame->flags, taken ? "" : ", ignored");
    if (taken && frame->type == CTKI_ACK)
        heard_ack (w, stream, frame);
    else if (taken && frame->type == CTKI_WELCOME)
        heard_welcome (w, sender, frame);
    SIM_EXPECT (w,
                out->sid == stream->sid && out->una == stream->acked_seq + 1 && out->ordinal == stream->acked
                    && out->consumed == stream->consumed && out->round == stream->round,
                "sid %" PRIx64 " una %" PRIu64 " ordinal %" PRIu64 " consumed %" PRIu64
                " round %u; by the facts %" PRIx64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %u",
                out->sid, out->una, out->ordinal, out->consumed, out->round, stream->sid, stream->acked_seq + 1,
                stream->acked, stream->consumed, stream->round);
}

/* ---- a sender's figures and clocks */

static uint64_t charge_of_items (const ctki_item_t *item, size_t cut, uint64_t *envelopes)
{
    uint64_t charge = 0;
    for (; item; item = item->next, cut = 0) {
        *envelopes += item->count;
        charge += item->charge;
        if (item->kind == CTKI_LARGE)
            charge -= cut ? cut + CTKI_CHARGE_BYTES : 0;
        for (size_t at = 0; item->kind == CTKI_RUN && at < cut;) {
            ctki_record_t record = {0};
            at += ctki_record_get (item->data + at, item->size - at, &record);
            at += ctki_record_pad (record.len);
            *envelopes -= 1;
            charge -= record.len + CTKI_CHARGE_BYTES;
        }
    }
    return charge;
}

/* Accepted = delivered + abandoned + what is counted in all queues, in envelopes and in charge. */
static void count_all (const sim_world_t *w, const sim_sender_t *sender)
{
    const sim_stream_t *stream = &sender->stream;
    const ctki_out_t *out = &sender->out;
    uint64_t envelopes = 0;
    uint64_t charge = charge_of_items (out->queue.head, out->cut, &envelopes);
    charge += charge_of_items (sender->mailbox.items.head, 0, &envelopes);
    for (uint64_t seq = out->una; seq < out->next; seq++) {
        envelopes += out->ring[seq & (out->ring_capacity - 1)].count;
        charge += out->ring[seq & (out->ring_capacity - 1)].charge;
    }
    SIM_EXPECT (w, stream->accepted == stream->said_delivered + stream->said_abandoned + envelopes,
                "accepted %" PRIu64 " delivered %" PRIu64 " abandoned %" PRIu64 " queued %" PRIu64, stream->accepted,
                stream->said_delivered, stream->said_abandoned, envelopes);
    SIM_EXPECT (w, (int64_t) stream->accepted_charge == stream->said_charge + (int64_t) charge,
                "charge accepted %" PRIu64 " settled %" PRId64 " queued %" PRIu64, stream->accepted_charge,
                stream->said_charge, charge);
}

/* A closed window is asked about within CTKI_PROBE_MIN_MS, whatever else is said. */
static void check_probe (const sim_world_t *w, sim_sender_t *sender)
{
    sim_stream_t *stream = &sender->stream;
    const ctki_out_t *out = &sender->out;
    bool closed =
        out->state == CTKI_OUT_OPEN && !sender->blocked && out->queue.head && out->una == out->next && out->stalled_us;
    if (!closed) {
        stream->closed_us = 0;
        return;
    }
    if (!stream->closed_us) {
        sim_did (SIM_DID_STALLED);
        stream->closed_us = w->now_us;
    }
    SIM_EXPECT (w,
                stream->ping_us >= out->stalled_us
                    || ctki_out_deadline (out) <= stream->closed_us + CTKI_PROBE_MIN_MS * CTKI_MS,
                "the window is closed, and nobody asks");
}

void sim_oracle_stepped (sim_world_t *w, sim_sender_t *sender)
{
    sim_stream_t *stream = &sender->stream;
    ctki_out_t *out = &sender->out;
    stream->said_delivered += out->settled.delivered;
    stream->said_abandoned += out->settled.abandoned;
    stream->said_in_doubt += out->settled.in_doubt;
    stream->said_charge += out->settled.charge;
    memset (&out->settled, 0, sizeof out->settled);
    SIM_EXPECT (w,
                stream->said_delivered == stream->delivered && stream->said_abandoned == stream->abandoned
                    && stream->said_in_doubt == stream->in_doubt,
                "delivered %" PRIu64 " abandoned %" PRIu64 " in doubt %" PRIu64 "; by the facts %" PRIu64 " %" PRIu64
                " %" PRIu64,
                stream->said_delivered, stream->said_abandoned, stream->said_in_doubt, stream->delivered,
                stream->abandoned, stream->in_doubt);
    if (sim_one_in (w, COUNT_EVERY))
        count_all (w, sender);
    check_probe (w, sender);
}

static void note_heard (sim_sender_t *sender)
{
    int64_t heard_us = sender->process->heard_us[sender->peer];
    if (heard_us <= sender->heard_us)
        return;
    sender->heard_us = heard_us;
    sender->excused_us = 0;
}

void sim_oracle_paused (sim_world_t *w, sim_process_t *process)
{
    for (unsigned peer = 0; peer < w->nodes; peer++) {
        sim_sender_t *sender = process->sender[peer];
        if (!sender)
            continue;
        note_heard (sender);
        sender->late_from_us = CTKI_MAX (sender->due_us, w->now_us);
    }
}

/* The first step after a pause. What is shorter than half a heartbeat is no
 * excuse, nor is the time that it would have slept anyway. */
void sim_oracle_woke (sim_world_t *w, sim_sender_t *sender)
{
    int64_t late_us = sender->late_from_us ? w->now_us - sender->late_from_us : 0;
    sender->late_from_us = 0;
    if (late_us > w->setup.heartbeat_us / 2)
        sender->excused_us += late_us;
}

void sim_oracle_reported (sim_world_t *w, sim_sender_t *sender, const sim_report_t *report)
{
    sim_stream_t *stream = &sender->stream;
    if (report->obit) {
        uint64_t least = stream->end_accepted - stream->base, most = stream->accepted - stream->base;
        SIM_EXPECT (w, report->obit->carried >= least && report->obit->carried <= most,
                    "carried %" PRIu64 ", and it is %" PRIu64 " to %" PRIu64, report->obit->carried, least, most);
    }
    note_heard (sender);
    if (report->state != CTALK_STATE_DOWN || sender->told.state == CTALK_STATE_DOWN)
        return;
    sim_did (SIM_DID_DOWN);
    int64_t silent_us = w->now_us - sender->heard_us - sender->excused_us;
    SIM_EXPECT (w, silent_us >= sender->out.setup.down_us, "DOWN after %" PRId64 " us, %" PRId64 " of them excused",
                w->now_us - sender->heard_us, sender->excused_us);
}

/* ---- what a receiver does */

uint64_t sim_fresh_sid (sim_world_t *w)
{
    return sim_chance (w) << 16 | UINT64_C (1) << 63 | (w->sessions + 1);
}

void sim_oracle_offered (sim_world_t *w, sim_process_t *process, unsigned peer, uint64_t sid, uint64_t inc)
{
    (void) peer;
    if (++w->sessions >= w->sessions_max) {
        w->sessions_max = CTKI_MAX (2 * w->sessions_max, 256u);
        w->session = realloc (w->session, w->sessions_max * sizeof w->session[0]);
    }
    SIM_EXPECT (w, w->session && w->sessions < SIM_SESSIONS, "too many sessions");
    *sim_session (w, sid) = (sim_session_t){.src_life = sim_life_of (inc), .dst_life = process->life};
}

static void check_opened (const sim_world_t *w, const sim_process_t *process, unsigned peer)
{
    const sim_inbound_t *inbound = process->inbound[peer];
    const sim_session_t *session = sim_session (w, inbound->in.sid);
    SIM_EXPECT (w, session->first != 0, "a session opened that its sender has not entered (R7)");
    SIM_EXPECT (w, w->life[session->src_life].inc == inbound->in.inc && session->dst_life == process->life,
                "a session of another one opened");
}

/* Which connection answers go to: the latest that brought a frame of the session. */
static void follow_way (const sim_world_t *w, sim_inbound_t *inbound, uint64_t rid, const ctki_frame_t *frame,
                        const ctki_effects_t *fx)
{
    bool of_session = frame->type == CTKI_HELLO ? fx->reply && (fx->answer.flags & CTKI_F_RESUMED) : fx->valid;
    if (fx->opened || (of_session && (int32_t) (frame->gen - inbound->way_gen) >= 0)) {
        inbound->way_rid = rid;
        inbound->way_gen = frame->gen;
    }
    SIM_EXPECT (w, !inbound->in.open || inbound->in.rid == inbound->way_rid, "answers go to an older connection");
}

static void follow_probe (sim_inbound_t *inbound, const ctki_frame_t *frame)
{
    const ctki_in_t *in = &inbound->in;
    if (in->newcomer.on && in->newcomer.probe != inbound->probe) {
        inbound->probe = in->newcomer.probe;
        inbound->probe_answered = false;
    }
    if (frame->type == CTKI_PING && in->open && frame->sid == in->sid && frame->u.ping.probe == inbound->probe)
        inbound->probe_answered = true;
}

/* The memory of R12: what waits and what is put together stay within the window and one envelope. */
static void check_credit (const sim_world_t *w, const sim_process_t *process, const sim_inbound_t *inbound)
{
    const ctki_in_t *in = &inbound->in;
    if (!in->open || !inbound->flow)
        return;
    uint64_t held = in->received_byte - inbound->flow->byte;
    SIM_EXPECT (w, held <= w->setup.window_bytes + w->setup.message_bytes + CTKI_CHARGE_BYTES, "%s holds %" PRIu64,
                sim_name (process), held);
    SIM_EXPECT (w, in->received_byte <= in->credit_byte && in->expected - 1 <= in->credit_frame, "over credit");
    SIM_EXPECT (w, in->violations == 0, "a violation was counted");
}

void sim_oracle_in (sim_world_t *w, sim_process_t *process, unsigned peer, uint64_t rid, const ctki_frame_t *frame,
                    const ctki_effects_t *fx)
{
    sim_inbound_t *inbound = process->inbound[peer];
    SIM_TELL (w, "%s: connection %" PRIu64 " -> type %u sid %" PRIx64 " n %" PRIu64 "%s%s", sim_name (process), rid,
              frame->type, frame->sid, frame->n, fx->duplicate ? ", a duplicate" : "",
              fx->give != CTKI_GIVE_NOTHING ? ", taken" : "");
    if (ctki_in_offers (&inbound->in))
        sim_did (SIM_DID_HALF);
    if (inbound->in.newcomer.on)
        sim_did (SIM_DID_NEWCOMER);
    if (fx->opened)
        check_opened (w, process, peer);
    follow_way (w, inbound, rid, frame, fx);
    follow_probe (inbound, frame);
    if (!fx->opened)
        check_credit (w, process, inbound);
}

void sim_oracle_tick (sim_world_t *w, sim_process_t *process, unsigned peer, const ctki_effects_t *fx)
{
    const sim_inbound_t *inbound = process->inbound[peer];
    SIM_EXPECT (w, fx->answer.type != CTKI_WELCOME || !inbound->in.open || !inbound->probe_answered,
                "a newcomer was let in, and the probe was answered (R9)");
}

static void given_one (const sim_world_t *w, const sim_process_t *process, sim_session_t *session, int64_t msg_id)
{
    int64_t next = sim_msg_id (session->src_life, process->node, session->first + session->taken);
    SIM_EXPECT (w, msg_id == next, "%" PRIx64 " came, and %" PRIx64 " is next", (uint64_t) msg_id, (uint64_t) next);
    session->taken++;
}

void sim_oracle_given (sim_world_t *w, sim_process_t *process, unsigned peer, const ctki_frame_t *frame,
                       const ctki_effects_t *fx)
{
    sim_session_t *session = sim_session (w, frame->sid);
    (void) peer;
    if (fx->give == CTKI_GIVE_ONE) {
        given_one (w, process, session, fx->record.msg_id);
        return;
    }
    uint32_t count = 0;
    for (size_t at = 0; at < fx->records_size; count++) {
        ctki_record_t record = {0};
        size_t head = ctki_record_get (fx->records + at, fx->records_size - at, &record);
        SIM_EXPECT (w, head > 0, "not a record");
        given_one (w, process, session, record.msg_id);
        at += head + ctki_record_pad (record.len);
    }
    SIM_EXPECT (w, count == fx->count, "a run of %u counted as %u", count, fx->count);
}

/* ---- what an application takes */

static bool came_in (const sim_session_t *session, const sim_process_t *process, unsigned life, uint64_t number)
{
    return session->first && session->src_life == life && session->dst_life == process->life
           && session->consumed < session->taken && number == session->first + session->consumed;
}

/* The session that an envelope came in, counted as consumed in it. */
static void note_consumed (sim_world_t *w, const sim_process_t *process, sim_seen_t *seen, unsigned life,
                           uint64_t number)
{
    unsigned i = seen->session;
    if (i == 0 || !came_in (&w->session[i], process, life, number))
        i = 1; /* the oldest one: they come in order */
    while (i <= w->sessions && !came_in (&w->session[i], process, life, number))
        i++;
    SIM_EXPECT (w, i <= w->sessions, "an envelope of no session");
    w->session[i].consumed++;
    seen->session = i;
}

static void taken_message (sim_world_t *w, sim_process_t *process, const ctalk_envelope_t *envelope)
{
    uint64_t id = (uint64_t) envelope->msg_id;
    unsigned life = (unsigned) (id >> 48), node = (unsigned) envelope->pid - 1;
    uint64_t number = id & ((UINT64_C (1) << 40) - 1);
    bool doubled = w->doubled[node] || w->doubled[process->node];
    sim_seen_t *seen = &process->seen[node];
    sim_did (SIM_DID_ENVELOPE);
    SIM_EXPECT (w, w->life[life].node == node && (id >> 40 & 0xff) == process->node, "an envelope of somebody else");
    SIM_EXPECT (w, sim_is_filled (envelope->data, envelope->size, envelope->msg_id), "an envelope changed");
    if (seen->life == life && seen->number)
        SIM_EXPECT (w, number == seen->number + 1 || (doubled && (number > seen->number || w->setup.resend)),
                    "envelope %" PRIu64 " after %" PRIu64, number, seen->number);
    if (seen->life != life && seen->life != 0) {
        SIM_EXPECT (w, process->unwatched, "an envelope of %u.%u, and its restart was not told", node + 1, life);
        SIM_EXPECT (w, life > seen->life || doubled, "an envelope of a process that is gone");
    }
    seen->life = life;
    seen->number = number;
    note_consumed (w, process, seen, life, number);
}

static void pay (const sim_world_t *w, uint64_t *due, uint64_t told, const char *what)
{
    SIM_EXPECT (w, told <= *due, "%" PRIu64 " told as %s, %" PRIu64 " are", told, what, *due);
    *due -= told;
}

static void check_told_fates (const sim_world_t *w, const sim_process_t *process, unsigned node,
                              const ctalk_event_t *event)
{
    int64_t last = 0;
    SIM_EXPECT (w, event->fates <= event->received + event->in_doubt || w->setup.resend, "%zu fates", event->fates);
    for (size_t i = 0; i < event->fates; i++) {
        int64_t id = event->fate[i].msg_id;
        SIM_EXPECT (w, (id > last || w->setup.resend) && (uint64_t) id >> 40 == ((uint64_t) process->life << 8 | node),
                    "a fate out of order");
        last = id;
    }
}

static void pay_sender (const sim_world_t *w, const sim_process_t *process, unsigned node, const ctalk_event_t *event)
{
    sim_sender_t *sender = process->sender[node];
    if (!sender) {
        SIM_EXPECT (w, !event->fates && !event->consumed && !event->received && !event->in_doubt, "fates of nothing");
        return;
    }
    pay (w, &sender->stream.due_consumed, event->consumed, "consumed");
    pay (w, &sender->stream.due_received, event->received, "received");
    pay (w, &sender->stream.due_doubt, event->in_doubt, "in doubt");
    pay (w, &sender->stream.due_fates, event->fates, "fates");
    check_told_fates (w, process, node, event);
}

static void taken_restart (sim_world_t *w, sim_process_t *process, unsigned node, const ctalk_event_t *event)
{
    sim_seen_t *seen = &process->seen[node];
    unsigned life = sim_life_of (event->incarnation);
    bool doubled = w->doubled[node] || w->doubled[process->node];
    sim_did (SIM_DID_RESTARTED);
    SIM_EXPECT (w, life && w->life[life].inc == event->incarnation && w->life[life].node == node,
                "no such incarnation");
    SIM_EXPECT (w, life > sim_life_of (event->old_incarnation) || doubled, "%u.%u restarted as %u.%u", node + 1,
                sim_life_of (event->old_incarnation), node + 1, life);
    SIM_EXPECT (w, seen->life == 0 || process->unwatched || event->old_incarnation == w->life[seen->life].inc,
                "the restart of %u.%u was told, %u.%u was known", node + 1, sim_life_of (event->old_incarnation),
                node + 1, seen->life);
    seen->life = life;
    seen->number = 0;
    pay_sender (w, process, node, event);
}

void sim_oracle_taken (sim_world_t *w, sim_process_t *process, const ctalk_envelope_t *envelope)
{
    unsigned node = (unsigned) envelope->pid - 1;
    if (envelope->kind == CTALK_MESSAGE) {
        taken_message (w, process, envelope);
        return;
    }
    SIM_EXPECT (w, process->watching || process->unwatched, "an event, and nobody watches");
    const ctalk_event_t *event = envelope->data;
    SIM_TELL (w, "%s takes event %d about %u", sim_name (process), (int) envelope->kind, node + 1);
    if (envelope->kind == CTALK_PEER_RESTARTED)
        taken_restart (w, process, node, event);
    else if (envelope->kind == CTALK_PEER_ABANDONED) {
        sim_did (SIM_DID_ABANDONED);
        SIM_EXPECT (w, w->doubled[node] || w->doubled[process->node], "a session with a process that lives was lost");
        pay_sender (w, process, node, event);
    }
}

void sim_oracle_unheard (sim_process_t *process, unsigned peer, const ctki_obit_t *obits)
{
    sim_sender_t *sender = process->sender[peer];
    for (; obits; obits = obits->next) {
        sender->stream.due_consumed -= obits->consumed;
        sender->stream.due_received -= obits->received;
        sender->stream.due_doubt -= obits->in_doubt;
        sender->stream.due_fates -= obits->count;
    }
}

/* ---- in the end */

bool sim_oracle_settled (const sim_process_t *from, const sim_process_t *to)
{
    const sim_sender_t *sender = from->sender[to->node];
    const sim_inbound_t *there = to->inbound[from->node], *here = from->inbound[to->node];
    if (!sender || !there)
        return false;
    const sim_stream_t *stream = &sender->stream;
    bool sent = sender->out.state == CTKI_OUT_OPEN && stream->accepted == stream->delivered + stream->abandoned;
    bool open = there->in.open && there->in.sid == sender->out.sid && !there->aside && !to->inbox.head;
    bool told =
        !sender->questions && !from->reports && !sender->out.obit && (!here || (!here->life.first && !here->owed));
    return sent && open && told && !from->inbox.head;
}

void sim_oracle_arrived (sim_world_t *w, const sim_process_t *from, const sim_process_t *to)
{
    const sim_sender_t *sender = from->sender[to->node];
    const sim_stream_t *stream = &sender->stream;
    const sim_session_t *session = sim_session (w, stream->sid);
    const sim_seen_t *seen = &to->seen[from->node];
    count_all (w, sender);
    SIM_EXPECT (w, session->first + session->taken == stream->accepted + 1 && session->taken == session->consumed,
                "accepted up to %" PRIu64 ", from %" PRIu64 " on %" PRIu64 " came", stream->accepted, session->first,
                session->taken);
    SIM_EXPECT (w, stream->accepted == stream->base || (seen->life == from->life && seen->number == stream->accepted),
                "the last envelope was not taken");
    SIM_EXPECT (w, stream->due_consumed + stream->due_received + stream->due_doubt + stream->due_fates == 0,
                "fates that were not told");
}
