/*
 * session_in.c - the receiving half of a session. See session.h.
 *
 * What may go wrong: memory runs out for an envelope that is put together: its
 * fragment is then dropped as if it had been lost, and the gap brings it back.
 */
#include "src/session.h"

#include "src/sys.h"

void ctki_in_init (ctki_in_t *in, const ctki_session_setup_t *setup)
{
    *in = (ctki_in_t){.setup = *setup, .ack_at_us = CTKI_FOREVER};
}

static void drop_partial (ctki_in_t *in)
{
    if (in->partial)
        ctki_buf_release (in->partial, 1);
    in->partial = NULL;
    in->partial_have = 0;
    in->partial_charge = in->partial_frames = 0;
}

void ctki_in_fini (ctki_in_t *in)
{
    drop_partial (in);
}

/* ---- credit: consumed + held by the one unfinished envelope + window (R12) */

static uint64_t byte_due (const ctki_in_t *in)
{
    return in->consumed_byte + in->partial_charge + in->setup.window_bytes;
}

static uint64_t frame_due (const ctki_in_t *in)
{
    return in->consumed_frame + in->partial_frames + in->setup.window_frames;
}

static void raise_credit (ctki_in_t *in)
{
    in->credit_byte = CTKI_MAX (in->credit_byte, byte_due (in));
    in->credit_frame = CTKI_MAX (in->credit_frame, frame_due (in));
}

/* The sender is told when a quarter of a window is free that it does not know
 * of: often enough never to stop it, too seldom to wake it for nothing. One in
 * quarantine is told nothing any more. */
uint64_t ctki_in_wake_byte (const ctki_in_t *in)
{
    if (in->quarantined)
        return UINT64_MAX;
    uint64_t known = in->credit_byte - CTKI_MIN (in->credit_byte, in->setup.window_bytes);
    return known + CTKI_MAX (in->setup.window_bytes / 4, 1);
}

uint64_t ctki_in_wake_frame (const ctki_in_t *in)
{
    if (in->quarantined)
        return UINT64_MAX;
    uint64_t known = in->credit_frame - CTKI_MIN (in->credit_frame, in->setup.window_frames);
    return known + CTKI_MAX (in->setup.window_frames / 4, 1);
}

void ctki_in_consumed (ctki_in_t *in, int64_t now_us, uint64_t envelopes, uint64_t byte, uint64_t frames)
{
    if (envelopes > in->consumed)
        in->stuck_us = now_us;
    in->consumed = envelopes;
    in->consumed_byte = byte;
    in->consumed_frame = frames;
    if (in->open && !in->quarantined && (byte >= ctki_in_wake_byte (in) || frames >= ctki_in_wake_frame (in)))
        in->ack_at_us = CTKI_MIN (in->ack_at_us, now_us);
}

static void owe (ctki_in_t *in, int64_t when_us)
{
    in->ack_at_us = CTKI_MIN (in->ack_at_us, when_us);
}

/* ---- greeting */

static void answer (const ctki_in_t *in, ctki_effects_t *fx, ctki_type_t type, uint64_t sid, uint64_t n)
{
    fx->reply = true; /* to the connection in fx->rid */
    fx->answer = (ctki_frame_t){
        .version = CTKI_WIRE_VERSION, .type = (uint8_t) type, .sid = sid, .n = n, .round = in->round, .gen = in->gen};
}

/* Says no to the process inc; the first time it is told here, too. */
static void reject (ctki_in_t *in, ctki_effects_t *fx, uint64_t sid, uint64_t inc, uint32_t reason)
{
    answer (in, fx, CTKI_REJECT, sid, 0);
    fx->answer.u.reason = reason;
    if (in->refused_inc != inc || in->refused != reason)
        fx->refused = reason;
    in->refused_inc = inc;
    in->refused = reason;
}

/* An older connection never takes the way back over. */
static void take_way_back (ctki_in_t *in, uint64_t rid, uint32_t gen)
{
    if ((int32_t) (gen - in->gen) < 0)
        return;
    in->rid = rid;
    in->gen = gen;
    in->gone = false;
}

/* The sender begins above what came: it gave up what is missing, when it
 * removed this server (R17). Its figures are taken over. */
static void skip (ctki_in_t *in, ctki_effects_t *fx, const ctki_frame_t *frame)
{
    const ctki_hello_t *hello = &frame->u.hello;
    fx->abandoned = hello->ordinal - in->received;
    fx->abandoned_charge = hello->charge - in->received_byte + in->partial_charge;
    fx->abandoned_frames = frame->n - in->expected + in->partial_frames;
    drop_partial (in);
    in->received = hello->ordinal;
    in->received_byte = hello->charge;
    in->expected = frame->n;
}

/* Whether what a greeting says of its session can be. One number above the
 * credit may stand for the rest of an envelope that was given up. */
static bool agrees (const ctki_in_t *in, const ctki_frame_t *frame)
{
    const ctki_hello_t *hello = &frame->u.hello;
    return frame->n <= in->expected
           || (hello->ordinal >= in->received && hello->charge >= in->received_byte && frame->n - 2 <= in->credit_frame
               && hello->charge <= in->credit_byte);
}

static void welcome_resumed (ctki_in_t *in, ctki_effects_t *fx, const ctki_frame_t *frame)
{
    const ctki_hello_t *hello = &frame->u.hello;
    if (frame->n > in->expected)
        skip (in, fx, frame);
    raise_credit (in);
    answer (in, fx, CTKI_WELCOME, in->sid, in->expected);
    fx->answer.flags = CTKI_F_RESUMED;
    fx->answer.u.welcome = (ctki_welcome_t){.inc = in->setup.inc,
                                            .nonce = hello->nonce,
                                            .received = in->received,
                                            .consumed = in->consumed,
                                            .credit_frame = in->credit_frame,
                                            .credit_byte = in->credit_byte};
}

/* ---- offers */

static void end_sid (ctki_effects_t *fx, uint64_t sid)
{
    unsigned i = 0;
    while (fx->sid_ended[i])
        i++;
    fx->sid_ended[i] = sid;
}

/* What was offered to this incarnation; NULL: nothing. */
static ctki_offer_t *offer_to (ctki_in_t *in, uint64_t inc)
{
    for (unsigned i = 0; i < CTKI_OFFERS && in->offer[i].sid; i++) {
        if (in->offer[i].inc == inc)
            return &in->offer[i];
    }
    return NULL;
}

/* Which offer has this sid; CTKI_OFFERS: none. */
static unsigned offer_of (const ctki_in_t *in, uint64_t sid)
{
    unsigned i = 0;
    while (i < CTKI_OFFERS && in->offer[i].sid && in->offer[i].sid != sid)
        i++;
    return i < CTKI_OFFERS && in->offer[i].sid ? i : CTKI_OFFERS;
}

/* The newest one; the oldest gives way if need be. */
static ctki_offer_t *add_offer (ctki_in_t *in, int64_t now_us, uint64_t inc, uint64_t sid, ctki_effects_t *fx)
{
    if (in->offer[CTKI_OFFERS - 1].sid)
        end_sid (fx, in->offer[CTKI_OFFERS - 1].sid);
    memmove (in->offer + 1, in->offer, (CTKI_OFFERS - 1) * sizeof in->offer[0]);
    in->offer[0] = (ctki_offer_t) {.inc = inc, .sid = sid, .us = now_us};
    fx->sid_offered = sid;
    return &in->offer[0];
}

static void remove_offer (ctki_in_t *in, unsigned i)
{
    memmove (in->offer + i, in->offer + i + 1, (CTKI_OFFERS - 1 - i) * sizeof in->offer[0]);
    in->offer[CTKI_OFFERS - 1].sid = 0;
}

void ctki_in_withdraw (ctki_in_t *in)
{
    remove_offer (in, 0);
}

/* Voids the offers from i on. */
static void drop_offers (ctki_in_t *in, unsigned i, ctki_effects_t *fx)
{
    while (i < CTKI_OFFERS && in->offer[i].sid) {
        end_sid (fx, in->offer[i].sid);
        remove_offer (in, i);
    }
}

/* Another process than inc was alive then: who was offered something before may
 * be dead, and has to show that it is not. */
static void doubt_offers (ctki_in_t *in, uint64_t inc, int64_t alive_us)
{
    for (unsigned i = 0; i < CTKI_OFFERS && in->offer[i].sid; i++) {
        ctki_offer_t *offer = &in->offer[i];
        if (offer->inc == inc || offer->us > alive_us)
            continue;
        offer->doubtful = true;
        offer->probe = 0;
    }
}

/* Whether who sent this frame may open the session: it lives, or it is asked. */
static bool is_alive (ctki_in_t *in, int64_t now_us, ctki_offer_t *offer, const ctki_frame_t *frame, ctki_effects_t *fx)
{
    if (!offer->doubtful || (offer->probe && frame->type == CTKI_PING && frame->u.ping.probe == offer->probe))
        return true;
    if (!offer->probe) {
        offer->probe = ++in->probes;
        offer->us = now_us;
    }
    answer (in, fx, CTKI_ACK, offer->sid, 1);
    fx->answer.flags = CTKI_F_PROBE;
    fx->answer.u.ack = (ctki_ack_t) {.credit_frame = in->setup.window_frames,
                                     .credit_byte = in->setup.window_bytes,
                                     .probe = offer->probe};
    return false;
}

/* Whether who greets so has given up what was offered to it: it is not in that
 * session, and will not take the answer to an older greeting any more. */
static bool is_given_up (const ctki_offer_t *offer, const ctki_hello_t *hello, uint32_t gen)
{
    return hello->prev_sid != offer->sid && (int32_t) (gen - offer->gen) > 0;
}

/* Offers a session: the same sid to the same incarnation however often and
 * late it asks. It may have sent frames with it that were lost: by the same sid
 * it knows that none of them came. But never one that it has given up: frames
 * with that sid may be under way. */
static void welcome_new (ctki_in_t *in, int64_t now_us, uint64_t rid, const ctki_hello_t *hello, uint32_t gen,
                         uint64_t fresh_sid, ctki_effects_t *fx)
{
    ctki_offer_t *offer = offer_to (in, hello->inc);
    if (offer && is_given_up (offer, hello, gen)) {
        end_sid (fx, offer->sid);
        remove_offer (in, (unsigned) (offer - in->offer));
        offer = NULL;
    }
    if (!offer) {
        offer = add_offer (in, now_us, hello->inc, fresh_sid, fx);
        offer->gen = gen;
    }
    if (hello->prev_sid == offer->sid && (int32_t) (gen - offer->gen) > 0)
        offer->gen = gen;
    offer->rid = rid;
    answer (in, fx, CTKI_WELCOME, offer->sid, 1);
    fx->answer.u.welcome = (ctki_welcome_t){.inc = in->setup.inc,
                                            .nonce = hello->nonce,
                                            .credit_frame = in->setup.window_frames,
                                            .credit_byte = in->setup.window_bytes};
}

/* Another process claims the pid. The one that has the session is asked whether
 * it lives; until it has answered, or has not, the other one waits. */
static void on_newcomer (ctki_in_t *in, int64_t now_us, uint64_t rid, const ctki_frame_t *frame)
{
    const ctki_hello_t *hello = &frame->u.hello;
    ctki_newcomer_t *newcomer = &in->newcomer;
    if (newcomer->on && newcomer->hello.inc != hello->inc)
        return; /* one at a time: it will greet again */
    if (!newcomer->on) {
        *newcomer = (ctki_newcomer_t) {.on = true,
                                       .probe = ++in->probes,
                                       .until_us = now_us + in->setup.heartbeat_us};
        in->ack_flags |= CTKI_F_PROBE;
        owe (in, now_us);
    }
    newcomer->hello = *hello;
    newcomer->rid = rid;
    newcomer->gen = frame->gen;
}

/* Who greets again has missed the final acknowledgement, or it was given up. */
static void say_leaving_again (ctki_in_t *in, int64_t now_us)
{
    if (!in->leaving || in->left)
        return;
    in->confirmed = false;
    owe (in, now_us);
}

/* Why a greeting is refused whoever it comes from; 0: it is not. */
static uint32_t objection (const ctki_in_t *in, int64_t now_us, const ctki_hello_t *hello)
{
    if (hello->version_min > CTKI_WIRE_VERSION || hello->version_max < CTKI_WIRE_VERSION)
        return CTKI_WHY_VERSION;
    if (memcmp (hello->cluster_id, in->setup.cluster_id, sizeof hello->cluster_id) != 0)
        return CTKI_WHY_CLUSTER;
    if (hello->dst != in->setup.self || hello->src != in->setup.peer)
        return CTKI_WHY_PID;
    if (hello->message_bytes > in->setup.message_bytes)
        return CTKI_WHY_LIMITS;
    if (in->quarantined && (hello->inc == in->inc || now_us < in->quarantine_us))
        return CTKI_WHY_QUARANTINED;
    return CTKI_WHY_NONE;
}

/* The process that has the session greets on a new connection, or again. */
static void on_return (ctki_in_t *in, int64_t now_us, uint64_t rid, const ctki_frame_t *frame, ctki_effects_t *fx)
{
    if (!agrees (in, frame)) {
        fx->malformed = true;
        return;
    }
    fx->valid = true;
    bool later = (int32_t) (frame->gen - in->gen) > 0;
    if (in->left && !in->leaving && later)
        in->left = in->confirmed = false; /* it had removed us, and is back */
    take_way_back (in, rid, frame->gen);
    say_leaving_again (in, now_us);
    welcome_resumed (in, fx, frame);
}

static void on_hello (ctki_in_t *in, int64_t now_us, uint64_t rid, const ctki_frame_t *frame, uint64_t fresh_sid,
                      ctki_effects_t *fx)
{
    const ctki_hello_t *hello = &frame->u.hello;
    uint32_t why = objection (in, now_us, hello);
    if (why)
        reject (in, fx, 0, hello->inc, why);
    else if (in->open && in->inc == hello->inc && in->sid == hello->prev_sid)
        on_return (in, now_us, rid, frame, fx);
    else if (in->leaving)
        reject (in, fx, 0, hello->inc, CTKI_WHY_CLOSING);
    else if (in->open && !in->left && !in->gone && !in->quarantined && in->inc != hello->inc
             && !offer_to (in, hello->inc))
        on_newcomer (in, now_us, rid, frame);
    else {
        fx->valid = true;
        if (in->newcomer.hello.inc == hello->inc)
            in->newcomer.on = false; /* it waits no more: this is its answer */
        welcome_new (in, now_us, rid, hello, frame->gen, fresh_sid, fx);
    }
}

/* The probe of who has the session was answered, or was not. */
static void decide (ctki_in_t *in, int64_t now_us, uint64_t fresh_sid, ctki_effects_t *fx)
{
    ctki_newcomer_t newcomer = in->newcomer;
    in->newcomer.on = false;
    in->ack_flags &= (uint16_t) ~CTKI_F_PROBE;
    fx->rid = newcomer.rid;
    uint32_t why = objection (in, now_us, &newcomer.hello); /* meanwhile the pid may have been put in quarantine */
    if (why)
        reject (in, fx, 0, newcomer.hello.inc, why);
    else if (newcomer.heard && in->open)
        reject (in, fx, 0, newcomer.hello.inc, CTKI_WHY_DUPLICATE);
    else
        welcome_new (in, now_us, newcomer.rid, &newcomer.hello, newcomer.gen, fresh_sid, fx);
}

/* When the newcomer's fate can be decided. */
static int64_t newcomer_deadline (const ctki_in_t *in)
{
    if (!in->newcomer.on)
        return CTKI_FOREVER;
    return in->newcomer.heard || in->gone || !in->open ? 0 : in->newcomer.until_us;
}

bool ctki_in_tick (ctki_in_t *in, int64_t now_us, uint64_t fresh_sid, ctki_effects_t *fx)
{
    *fx = (ctki_effects_t) {0};
    if (now_us < newcomer_deadline (in))
        return false;
    if (in->leaving) {
        in->newcomer.on = false;
        return false;
    }
    decide (in, now_us, fresh_sid, fx);
    return true;
}

/* The first frame with an offered sid proves the sender alive and completes the
 * handshake: a process that was dead when it was offered can never send one (R7). */
static void commit (ctki_in_t *in, unsigned which, uint32_t gen, ctki_effects_t *fx)
{
    ctki_offer_t offer = in->offer[which];
    remove_offer (in, which);
    if (in->open)
        end_sid (fx, in->sid);
    drop_partial (in);
    in->open = true;
    in->left = false;
    in->sid = offer.sid;
    in->inc = offer.inc;
    in->offered_us = offer.us;
    in->gen = gen;
    in->rid = offer.rid;
    in->expected = 1;
    in->received = in->received_byte = 0;
    in->consumed = in->consumed_byte = in->consumed_frame = 0;
    in->credit_byte = in->setup.window_bytes;
    in->credit_frame = in->setup.window_frames;
    in->unacked_frames = 0;
    in->unacked_byte = 0;
    in->ack_at_us = CTKI_FOREVER;
    in->ack_flags = 0;
    in->gap_expected = 0;
    in->confirmed = false;
    in->gone = in->quarantined = false;
    in->violations = 0;
    in->newcomer.on = false; /* whoever it was greets again */
    in->refused = CTKI_WHY_NONE;
    fx->opened = true;
}

/* ---- data */

/* The frame is taken: it counts for credit and acknowledgement. */
static void taken (ctki_in_t *in, int64_t now_us, uint64_t charge, uint32_t count)
{
    in->expected++;
    if (in->received == in->consumed)
        in->stuck_us = now_us;
    in->received += count;
    in->received_byte += charge;
    in->unacked_frames++;
    in->unacked_byte += charge;
    in->ack_flags &= (uint16_t) ~CTKI_F_GAP; /* closed before it was reported: no reason to go back */
    bool enough = in->unacked_frames >= CTKI_MIN (CTKI_ACK_FRAMES, in->setup.window_frames / 2)
                  || in->unacked_byte >= in->setup.window_bytes / 2;
    owe (in, enough ? now_us : now_us + CTKI_ACK_DELAY_MS * CTKI_MS);
}

/* How many records in a row begin with the same word (flags and length), as
 * the one before them does, and fit. Where the next one stands is then known
 * before this one was read, which is what makes it quick. */
static size_t alike (const uint8_t *records, size_t size, const uint8_t *model, size_t whole)
{
    uint64_t word, next;
    size_t count = 0;
    memcpy (&word, model, sizeof word);
    for (size_t at = 0; whole <= size - at; at += whole, count++) {
        memcpy (&next, records + at, sizeof next);
        if (next != word)
            break;
    }
    return count;
}

/* Checks a run of whole envelopes: every length exact. */
static bool check_run (const ctki_in_t *in, const uint8_t *records, size_t size, ctki_effects_t *fx)
{
    size_t at = 0;
    while (at < size) {
        ctki_record_t record;
        size_t head = ctki_record_get (records + at, size - at, &record);
        size_t whole = head + ctki_record_pad (record.len);
        if (head == 0 || whole > size - at || record.len > in->setup.message_bytes
            || (record.flags & (CTKI_R_FIRST | CTKI_R_LAST)) != (CTKI_R_FIRST | CTKI_R_LAST))
            return false;
        uint64_t charge = record.len + CTKI_CHARGE_BYTES;
        size_t count = 1;
        if (record.flags & CTKI_R_TO) { /* to whom may differ */
            fx->actors += record.to != 0;
            fx->actors_charge += record.to != 0 ? charge : 0;
        } else
            count += alike (records + at + whole, size - at - whole, records + at, whole);
        fx->count += (uint32_t) count;
        fx->charge += count * charge;
        at += count * whole;
    }
    fx->records = records;
    fx->records_size = size;
    return fx->count > 0;
}

typedef enum { TAKE, DROP, BAD } verdict_t;

/* A sender that takes more than it was given is malformed (R12). */
static bool over_credit (const ctki_in_t *in, uint64_t charge)
{
    return charge > in->credit_byte - in->received_byte;
}

/* A fragment in a frame of its own. */
static verdict_t on_fragment (ctki_in_t *in, const ctki_record_t *record, const uint8_t *data, ctki_effects_t *fx)
{
    bool first = (record->flags & CTKI_R_FIRST) != 0;
    uint64_t charge = record->len + (first ? (uint64_t) CTKI_CHARGE_BYTES : 0);
    if (over_credit (in, charge))
        return BAD;
    if (first) {
        if (in->partial || record->total > in->setup.message_bytes || record->len >= record->total)
            return BAD;
        if (!(in->partial = ctki_buf_new (record->total)))
            return DROP;
        in->partial_record = *record;
    } else if (!in->partial || record->len > in->partial->size - in->partial_have || record->len == 0)
        return BAD;
    memcpy (in->partial->data + in->partial_have, data, record->len);
    in->partial_have += record->len;
    in->partial_charge += charge;
    in->partial_frames++;
    bool complete = in->partial_have == in->partial->size;
    if (complete != ((record->flags & CTKI_R_LAST) != 0)) {
        drop_partial (in);
        return BAD;
    }
    fx->charge = charge;
    if (complete) {
        fx->give = CTKI_GIVE_ONE;
        fx->count = 1;
        fx->frames = in->partial_frames;
        fx->record = in->partial_record;
        fx->whole = in->partial;
        in->partial = NULL;
        drop_partial (in);
    }
    return TAKE;
}

/* An envelope or a fragment whose record header stands apart from its payload. */
static verdict_t on_split (ctki_in_t *in, const ctki_frame_t *frame, ctki_effects_t *fx)
{
    ctki_record_t record;
    size_t head = ctki_record_get (frame->records, frame->records_size, &record);
    if (head == 0 || head != frame->records_size || record.len != frame->body_size)
        return BAD;
    unsigned ends = record.flags & (CTKI_R_FIRST | CTKI_R_LAST);
    if (ends != (CTKI_R_FIRST | CTKI_R_LAST))
        return on_fragment (in, &record, frame->body, fx);
    if (in->partial || record.len > in->setup.message_bytes)
        return BAD;
    fx->give = CTKI_GIVE_ONE;
    fx->record = record;
    fx->count = 1;
    fx->frames = 1;
    fx->charge = record.len + CTKI_CHARGE_BYTES;
    return over_credit (in, fx->charge) ? BAD : TAKE;
}

static verdict_t on_run (const ctki_in_t *in, const uint8_t *records, size_t size, ctki_effects_t *fx)
{
    if (in->partial || !check_run (in, records, size, fx) || over_credit (in, fx->charge))
        return BAD;
    fx->give = CTKI_GIVE_RUN;
    fx->frames = 1;
    return TAKE;
}

static verdict_t on_records (ctki_in_t *in, const ctki_frame_t *frame, ctki_effects_t *fx)
{
    if (frame->body && frame->records_size > 0)
        return on_split (in, frame, fx);
    return frame->body ? on_run (in, frame->body, frame->body_size, fx)
                       : on_run (in, frame->records, frame->records_size, fx);
}

/* A later frame than the expected one: report it, not more often than R2 says. */
static void on_gap (ctki_in_t *in, int64_t now_us)
{
    if (in->gap_expected == in->expected && now_us - in->gap_us < CTKI_GAP_MS * CTKI_MS)
        return;
    in->gap_expected = in->expected;
    in->gap_us = now_us;
    in->ack_flags |= CTKI_F_GAP;
    owe (in, now_us);
}

static void give_nothing (ctki_effects_t *fx)
{
    if (fx->whole)
        ctki_buf_release (fx->whole, 1);
    fx->whole = NULL;
    fx->give = CTKI_GIVE_NOTHING;
    fx->count = 0;
}

static void on_data (ctki_in_t *in, int64_t now_us, const ctki_frame_t *frame, ctki_effects_t *fx)
{
    if (in->leaving) {
        owe (in, now_us); /* the final acknowledgement says that it was not taken */
        return;
    }
    if (frame->n < in->expected) {
        fx->duplicate = true;
        owe (in, now_us);
        return;
    }
    if (frame->n > in->expected) {
        on_gap (in, now_us);
        return;
    }
    verdict_t verdict = frame->n > in->credit_frame ? BAD : on_records (in, frame, fx);
    if (verdict == TAKE) {
        taken (in, now_us, fx->charge, fx->count);
        if (frame->flags & CTKI_F_ACK_NOW)
            owe (in, now_us);
        return;
    }
    give_nothing (fx);
    fx->malformed = verdict == BAD;
    if (verdict == DROP)
        on_gap (in, now_us);
}

/* ---- the rest */

static void on_ping (ctki_in_t *in, int64_t now_us, const ctki_frame_t *frame)
{
    in->ack_flags |= CTKI_F_PONG;
    in->echo_stamp = frame->u.ping.stamp;
    if (in->newcomer.on && frame->u.ping.probe == in->newcomer.probe)
        in->newcomer.heard = true; /* no older frame can know that number */
    if (frame->flags & CTKI_F_LEAVING_SEEN)
        in->confirmed = in->leaving;
    if (frame->n > in->expected)
        on_gap (in, now_us); /* frames were sent that did not come */
    if (!in->confirmed)
        owe (in, now_us);
}

static void on_bye (ctki_in_t *in, const ctki_frame_t *frame, ctki_effects_t *fx)
{
    answer (in, fx, CTKI_BYE_ACK, in->sid, in->expected);
    fx->answer.u.reason = frame->u.reason;
    fx->left = true;
    fx->reason = frame->u.reason;
    in->left = true;
    in->confirmed = true;
    in->ack_at_us = CTKI_FOREVER;
    if (frame->u.reason != CTKI_WHY_ABANDONED) /* then it may come back and begin above what is missing */
        drop_partial (in);
}

/* It broke the protocol too often: nothing more is taken of this incarnation (R14). */
static void quarantine (ctki_in_t *in, int64_t now_us, ctki_effects_t *fx)
{
    in->quarantined = in->confirmed = true; /* nobody waits for its word */
    in->quarantine_us = now_us + CTKI_QUARANTINE_MS * CTKI_MS;
    in->ack_at_us = CTKI_FOREVER;
    drop_partial (in);
    drop_offers (in, 0, fx);
    reject (in, fx, in->sid, in->inc, CTKI_WHY_QUARANTINED);
}

static void judge (ctki_in_t *in, int64_t now_us, ctki_effects_t *fx)
{
    if (CTKI_UNLIKELY (fx->malformed) && ++in->violations >= CTKI_VIOLATIONS)
        quarantine (in, now_us, fx);
}

static void reset (const ctki_in_t *in, uint64_t sid, ctki_effects_t *fx)
{
    answer (in, fx, CTKI_RESET, sid, 0);
    fx->answer.u.reason = CTKI_WHY_UNKNOWN_SID;
}

void ctki_in_receive (ctki_in_t *in, int64_t now_us, uint64_t rid, const ctki_frame_t *frame, uint64_t fresh_sid,
                      ctki_effects_t *fx)
{
    *fx = (ctki_effects_t){.rid = rid};
    if (frame->type == CTKI_HELLO) {
        on_hello (in, now_us, rid, frame, fresh_sid, fx);
        judge (in, now_us, fx);
        return;
    }
    unsigned offer = offer_of (in, frame->sid);
    if (CTKI_UNLIKELY (offer < CTKI_OFFERS)) {
        if (!is_alive (in, now_us, &in->offer[offer], frame, fx))
            return; /* what it sent is as if it had been lost */
        commit (in, offer, frame->gen, fx);
        drop_offers (in, offer, fx); /* the older ones */
        if (in->leaving)
            owe (in, now_us); /* it learns from the first acknowledgement that it came too late */
    }
    if (!in->open || frame->sid != in->sid) {
        reset (in, frame->sid, fx);
        return;
    }
    if (in->quarantined)
        return;
    fx->valid = true;
    take_way_back (in, rid, frame->gen);
    in->round = frame->round;
    if (frame->type == CTKI_BYE)
        on_bye (in, frame, fx);
    else if (frame->type == CTKI_PING)
        on_ping (in, now_us, frame);
    else if (frame->type == CTKI_DATA && in->left)
        fx->duplicate = frame->n < in->expected; /* of an older connection: it came before, or was given up */
    else if (frame->type == CTKI_DATA)
        on_data (in, now_us, frame, fx);
    else {
        fx->valid = false;
        fx->malformed = true;
    }
    judge (in, now_us, fx);
}

/* ---- what the other connection knows */

void ctki_in_incarnation (ctki_in_t *in, uint64_t inc, int64_t alive_us, ctki_effects_t *fx)
{
    *fx = (ctki_effects_t) {0};
    doubt_offers (in, inc, alive_us);
    if (in->open && in->inc != inc) {
        end_sid (fx, in->sid);
        in->open = false;
        drop_partial (in);
        in->ack_at_us = CTKI_FOREVER;
    }
}

void ctki_in_hurry (ctki_in_t *in, int64_t now_us)
{
    if (in->open && !in->quarantined && !(in->left && !in->leaving))
        owe (in, now_us);
}

void ctki_in_end (ctki_in_t *in)
{
    in->left = in->confirmed = true;
    in->ack_at_us = CTKI_FOREVER;
    drop_partial (in);
}

/* ---- acknowledgements */

static uint32_t stuck_ms (const ctki_in_t *in, int64_t now_us)
{
    if (in->received == in->consumed || now_us < in->stuck_us)
        return 0;
    return (uint32_t) CTKI_MIN ((now_us - in->stuck_us) / CTKI_MS, (int64_t) UINT32_MAX);
}

bool ctki_in_next (ctki_in_t *in, int64_t now_us, ctki_frame_t *frame)
{
    if (!in->open || now_us < in->ack_at_us)
        return false;
    raise_credit (in);
    *frame = (ctki_frame_t){.version = CTKI_WIRE_VERSION,
                            .type = CTKI_ACK,
                            .flags = (uint16_t) (in->ack_flags | (in->leaving ? CTKI_F_LEAVING : 0)),
                            .sid = in->sid,
                            .n = in->expected,
                            .round = in->round,
                            .gen = in->gen};
    frame->u.ack = (ctki_ack_t){.received = in->received,
                                .consumed = in->consumed,
                                .credit_frame = in->credit_frame,
                                .credit_byte = in->credit_byte,
                                .stamp = in->echo_stamp,
                                .stuck_ms = stuck_ms (in, now_us),
                                .probe = in->newcomer.on ? in->newcomer.probe : 0};
    return true;
}

void ctki_in_acked (ctki_in_t *in, int64_t now_us)
{
    in->ack_flags = 0;
    in->unacked_frames = 0;
    in->unacked_byte = 0;
    in->ack_at_us = in->leaving && !in->confirmed ? now_us + CTKI_LEAVING_MS * CTKI_MS : CTKI_FOREVER;
}

int64_t ctki_in_deadline (const ctki_in_t *in)
{
    int64_t due_us = newcomer_deadline (in);
    return in->open ? CTKI_MIN (due_us, in->ack_at_us) : due_us;
}

/* ---- closing */

void ctki_in_leave (ctki_in_t *in, int64_t now_us)
{
    in->leaving = true;
    if (!in->open && ctki_in_offers (in)) {
        /* The sender has, or will have, our WELCOME and takes the session for open.
         * Nothing is taken in it any more, so no proof is needed to tell it so. */
        ctki_effects_t effects = {0};
        commit (in, 0, 0, &effects);
    }
    in->confirmed = !in->open || in->left || in->quarantined;
    if (!in->confirmed)
        owe (in, now_us);
}

void ctki_in_unreachable (ctki_in_t *in)
{
    if (in->leaving)
        in->confirmed = true;
    in->gone = true;
    in->ack_at_us = CTKI_FOREVER;
}
