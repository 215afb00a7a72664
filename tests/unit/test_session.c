/*
 * test_session.c - each half of a session by itself: the clocks, and the figures
 * where an envelope is half sent. What every event does in every state is in
 * test_table_out.c and test_table_in.c, stories of the two halves are in
 * test_scenes.c, and what they make of a bad link together in test_pair.c.
 */
#include <check.h>

#include "src/session.h"
#include "src/sys.h"

Suite *ctki_suite_session (void);

enum { US_START = 1000000, RID = 7 };

#define SID UINT64_C (0x5e5510)
#define FRESH_SID UINT64_C (0xf5e5)
#define NONCE UINT64_C (0x9099)
#define INC_OUT UINT64_C (0x111)
#define INC_IN UINT64_C (0x222)

static ctki_session_setup_t setup_of (ctalk_pid_t self, ctalk_pid_t peer, uint64_t inc)
{
    return (ctki_session_setup_t){.self = self,
                                  .peer = peer,
                                  .inc = inc,
                                  .frame_bytes = 1024,
                                  .message_bytes = 8192,
                                  .window_bytes = 8192,
                                  .window_frames = 100,
                                  .heartbeat_us = 500 * CTKI_MS,
                                  .suspect_us = 1500 * CTKI_MS,
                                  .down_us = 5 * CTKI_S};
}

/* ---- a sending half */

static ctki_frame_t back (ctki_type_t type, uint64_t sid, uint64_t n)
{
    return (ctki_frame_t){.version = CTKI_WIRE_VERSION, .type = (uint8_t) type, .sid = sid, .n = n};
}

static ctki_frame_t welcome (uint64_t sid, uint64_t n, bool resumed, uint64_t inc)
{
    ctki_frame_t frame = back (CTKI_WELCOME, sid, n);
    frame.flags = resumed ? CTKI_F_RESUMED : 0;
    frame.u.welcome = (ctki_welcome_t){.inc = inc, .nonce = NONCE, .credit_frame = 100, .credit_byte = 8192};
    return frame;
}

static ctki_frame_t ack (uint64_t n, unsigned flags, uint32_t round)
{
    ctki_frame_t frame = back (CTKI_ACK, SID, n);
    frame.flags = (uint16_t) flags;
    frame.round = round;
    frame.u.ack = (ctki_ack_t){.credit_frame = 100, .credit_byte = 8192};
    return frame;
}

static bool hear (ctki_out_t *out, ctki_frame_t frame)
{
    return ctki_out_receive (out, US_START, &frame);
}

/* Sends one frame if there is one; returns its type, 0: none. */
static int say (ctki_out_t *out, int64_t now_us)
{
    ctki_emit_t emit;
    if (!ctki_out_next (out, now_us, &emit))
        return 0;
    ctki_out_sent (out, now_us, &emit);
    return emit.frame.type;
}

static void say_all (ctki_out_t *out, int64_t now_us)
{
    for (int i = 0; i < 1000 && say (out, now_us); i++)
        ck_assert_int_lt (i, 999);
}

static void start_out (ctki_out_t *out)
{
    ctki_session_setup_t setup = setup_of (1, 2, INC_OUT);
    ctki_out_init (out, &setup, US_START);
    ctki_out_link_up (out, US_START, NONCE);
}

/* With a session, after its first PING. */
static void open_out (ctki_out_t *out)
{
    start_out (out);
    ck_assert_int_eq (say (out, US_START), CTKI_HELLO);
    ck_assert (hear (out, welcome (SID, 1, false, INC_IN)));
    ck_assert_int_eq (out->state, CTKI_OUT_OPEN);
    ck_assert_int_eq (say (out, US_START), CTKI_PING);
}

static void push (ctki_out_t *out, bool large, unsigned count, size_t size)
{
    static const uint8_t zeros[8192];
    ctki_items_t items = {0};
    ctki_writer_t writer;
    ctki_pool_t *pool = ctki_pool_new (ctki_writer_block_bytes (1024), 1);
    ctki_writer_init (&writer, pool, ctki_writer_block_bytes (1024), 1024);
    ctki_record_t record = {.flags = CTKI_R_FIRST | CTKI_R_LAST, .len = (uint32_t) size, .total = size};
    for (unsigned i = 0; i < count; i++) {
        if (large) {
            ctki_buf_t *body = ctki_buf_new (size);
            memset (body->data, 0, size);
            ck_assert_int_eq (ctki_writer_large (&writer, &items, NULL, false, &record, body, body->data, size), 0);
        } else
            ck_assert_int_eq (ctki_writer_put (&writer, &items, NULL, false, &record, zeros), 0);
    }
    ctki_writer_fini (&writer);
    for (ctki_item_t *item; (item = ctki_items_take (&items));)
        ctki_out_push (out, item);
    ctki_pool_destroy (&pool);
}

static void check_settled (ctki_out_t *out, uint64_t delivered, uint64_t abandoned, uint64_t in_doubt, int64_t charge)
{
    ck_assert_uint_eq (out->settled.delivered, delivered);
    ck_assert_uint_eq (out->settled.abandoned, abandoned);
    ck_assert_uint_eq (out->settled.in_doubt, in_doubt);
    ck_assert_int_eq (out->settled.charge, charge);
}

/* A new incarnation answers the greeting of a new connection. */
static void meet_new_incarnation (ctki_out_t *out)
{
    ctki_out_link_down (out, US_START);
    ctki_out_link_up (out, US_START, NONCE);
    ck_assert (hear (out, welcome (SID + 1, 1, false, INC_IN + 1)));
}

/* ---- what each frame does to a sending half */

enum { FRAMES = 11, STATES = 4 };

static ctki_frame_t sample_back (int which, uint64_t sid)
{
    switch (which) {
    case 0:
        return welcome (sid + 1, 1, false, INC_IN + 1);
    case 1:
        return welcome (sid, 1, true, INC_IN);
    case 9: {
        ctki_frame_t frame = ack (1, 0, 0);
        frame.sid = sid;
        return frame;
    }
    case 10:
        return back ((ctki_type_t) 99, sid, 1);
    default: {
        static const ctki_type_t types[] = {CTKI_HELLO, CTKI_DATA,    CTKI_PING,  CTKI_RESET,
                                            CTKI_BYE,   CTKI_BYE_ACK, CTKI_REJECT};
        return back (types[which - 2], types[which - 2] == CTKI_REJECT ? 0 : sid, 1);
    }
    }
}

static void bring_to (ctki_out_t *out, int state)
{
    open_out (out);
    if (state == CTKI_OUT_NOLINK || state == CTKI_OUT_GREET)
        ctki_out_link_down (out, US_START);
    if (state == CTKI_OUT_GREET)
        ctki_out_link_up (out, US_START, NONCE);
    if (state == CTKI_OUT_ENDED) {
        ctki_out_link_down (out, US_START);
        ctki_out_close (out, US_START);
        ck_assert_int_eq (say (out, US_START), 0);
    }
    ck_assert_int_eq (out->state, state);
}

/* A frame of another session changes nothing, in whatever state; nor does one of another version. */
START_TEST (test_out_foreign)
{
    for (int state = 0; state < STATES; state++) {
        for (int which = 1; which < FRAMES; which++) {
            ctki_out_t out;
            bring_to (&out, state);
            if (which != 8) { /* REJECT bears no sid */
                ck_assert_msg (!hear (&out, sample_back (which, SID + 5)), "state %d frame %d", state, which);
                ck_assert_int_eq (out.state, state);
            }
            ctki_frame_t frame = sample_back (which, SID);
            frame.version++;
            ck_assert (!hear (&out, frame));
            ck_assert_int_eq (out.state, state);
            ctki_out_fini (&out);
        }
    }
}
END_TEST

/* Only an answer to the greeting of this connection is one. */
START_TEST (test_out_nonce)
{
    ctki_out_t out;
    start_out (&out);
    ctki_frame_t frame = welcome (SID, 1, false, INC_IN);
    frame.u.welcome.nonce++;
    ck_assert (!hear (&out, frame));
    ck_assert (!hear (&out, welcome (0, 1, false, INC_IN)));
    ck_assert (!hear (&out, welcome (SID, 2, false, INC_IN)));
    ck_assert (!hear (&out, welcome (SID, 1, true, INC_IN)));
    ck_assert_int_eq (out.state, CTKI_OUT_GREET);
    ck_assert (hear (&out, welcome (SID, 1, false, INC_IN)));
    ctki_out_fini (&out);
}
END_TEST

/* An acknowledgement of what was never sent, or below the last one, is none. */
START_TEST (test_out_ack_range)
{
    ctki_out_t out;
    open_out (&out);
    push (&out, true, 3, 500);
    say_all (&out, US_START);
    ck_assert (!hear (&out, ack (5, 0, 0)));
    ck_assert (hear (&out, ack (3, 0, 0)));
    ck_assert (!hear (&out, ack (2, 0, 0)));
    check_settled (&out, 2, 0, 0, 2 * (500 + CTKI_CHARGE_BYTES));
    ck_assert (hear (&out, ack (4, 0, 0)));
    ck_assert (ctki_out_empty (&out));
    check_settled (&out, 3, 0, 0, 3 * (500 + CTKI_CHARGE_BYTES));
    ctki_out_fini (&out);
}
END_TEST

/* The sender goes back once per round, on evidence of that round only. */
START_TEST (test_out_gap)
{
    ctki_out_t out;
    open_out (&out);
    push (&out, true, 4, 500);
    say_all (&out, US_START);
    ck_assert (hear (&out, ack (2, CTKI_F_GAP, 0)));
    ck_assert_uint_eq (out.send, 2);
    ck_assert_uint_eq (out.round, 1);
    ck_assert_int_eq (say (&out, US_START), CTKI_DATA);
    ck_assert (hear (&out, ack (2, CTKI_F_GAP, 0))); /* of the round before */
    ck_assert_uint_eq (out.send, 3);
    ck_assert_uint_eq (out.round, 1);
    ck_assert_uint_eq (out.settled.retransmitted, 1);
    ck_assert (hear (&out, ack (2, CTKI_F_GAP, 1)));
    ck_assert_uint_eq (out.send, 2);
    ck_assert_uint_eq (out.round, 2);
    ctki_out_fini (&out);
}
END_TEST

/* A session that is offered a second time was never used over there: its frames
 * go again, and nothing is in doubt. */
START_TEST (test_out_offered_again)
{
    ctki_out_t out;
    open_out (&out);
    push (&out, true, 3, 500);
    say_all (&out, US_START);
    ctki_out_link_down (&out, US_START);
    ctki_out_link_up (&out, US_START, NONCE);
    ck_assert (hear (&out, welcome (SID, 1, false, INC_IN)));
    check_settled (&out, 0, 0, 0, 0);
    ck_assert_uint_eq (out.send, 1);
    ck_assert_uint_eq (out.next, 4);
    say_all (&out, US_START);
    ck_assert (hear (&out, ack (4, 0, 1)));
    check_settled (&out, 3, 0, 0, 3 * (500 + CTKI_CHARGE_BYTES));
    ctki_out_fini (&out);
}
END_TEST

/* A restart parts a run that is half sent where the last frame ended. */
START_TEST (test_out_restart_run)
{
    ctki_out_t out;
    open_out (&out);
    out.credit_byte = 3 * (100 + CTKI_CHARGE_BYTES); /* three of eight */
    push (&out, false, 8, 100);
    say_all (&out, US_START);
    ck_assert_uint_eq (out.next, 2);
    meet_new_incarnation (&out);
    check_settled (&out, 0, 3, 3, 3 * (100 + CTKI_CHARGE_BYTES));
    out.settled.abandoned = out.settled.in_doubt = 0;
    say_all (&out, US_START);
    ctki_frame_t frame = ack (out.next, 0, 0);
    frame.sid = SID + 1;
    ck_assert (hear (&out, frame));
    check_settled (&out, 5, 0, 0, 8 * (100 + CTKI_CHARGE_BYTES));
    ck_assert (ctki_out_empty (&out));
    ctki_out_fini (&out);
}
END_TEST

/* An envelope whose last byte was not sent begins anew, with its whole charge. */
START_TEST (test_out_restart_large)
{
    ctki_out_t out;
    open_out (&out);
    out.credit_frame = 3;
    push (&out, true, 1, 5000);
    say_all (&out, US_START);
    ck_assert (hear (&out, ack (3, 0, 0)));
    check_settled (&out, 0, 0, 0, 2 * 1024 + CTKI_CHARGE_BYTES);
    meet_new_incarnation (&out);
    check_settled (&out, 0, 0, 0, 0);
    say_all (&out, US_START);
    ck_assert_uint_eq (out.next, 6); /* all five frames of it */
    ctki_frame_t frame = ack (6, 0, 0);
    frame.sid = SID + 1;
    ck_assert (hear (&out, frame));
    check_settled (&out, 1, 0, 0, 5000 + CTKI_CHARGE_BYTES);
    ctki_out_fini (&out);
}
END_TEST

/* Its last byte sent and not acknowledged, it is in doubt, with what is left of its charge. */
START_TEST (test_out_restart_large_sent)
{
    ctki_out_t out;
    open_out (&out);
    push (&out, true, 1, 5000);
    say_all (&out, US_START);
    ck_assert (hear (&out, ack (3, 0, 0)));
    meet_new_incarnation (&out);
    check_settled (&out, 0, 1, 1, 5000 + CTKI_CHARGE_BYTES);
    ck_assert (ctki_out_empty (&out));
    ctki_out_fini (&out);
}
END_TEST

/* Given up in the middle of a run and of a large envelope, each is counted once. */
START_TEST (test_out_abandon)
{
    for (int large = 0; large < 2; large++) {
        ctki_out_t out;
        open_out (&out);
        out.credit_byte = large ? 2 * 1024 + CTKI_CHARGE_BYTES : 3 * (100 + CTKI_CHARGE_BYTES);
        push (&out, large, large ? 1 : 8, large ? 5000 : 100);
        push (&out, false, 2, 10);
        say_all (&out, US_START);
        ctki_out_abandon (&out);
        int64_t charge =
            (large ? 5000 + CTKI_CHARGE_BYTES : 8 * (100 + CTKI_CHARGE_BYTES)) + 2 * (10 + CTKI_CHARGE_BYTES);
        check_settled (&out, 0, large ? 3 : 10, large ? 0 : 3, charge);
        ck_assert (ctki_out_empty (&out));
        ctki_out_fini (&out);
    }
}
END_TEST

/* Another incarnation was proved on the other connection: one that was alive before
 * the last greeting was sent is older, and nothing changes; one that was alive
 * after it was answered is newer, and the session is over; where that cannot be
 * told, whoever is there is greeted, once, and the session stays until it answers,
 * or for DownMs. */
START_TEST (test_out_incarnation)
{
    ctki_out_t out;
    ctki_emit_t emit;
    open_out (&out);
    ck_assert (out.alive_from_us == US_START && out.alive_to_us == US_START);
    ctki_proof_t older = {.inc = INC_IN + 1, .from_us = US_START - 2, .to_us = US_START - 1};
    ck_assert (ctki_out_incarnation (&out, US_START, &older, 1));
    ck_assert (out.sid == SID && out.state == CTKI_OUT_OPEN);

    ctki_proof_t unclear = {.inc = INC_IN + 1, .from_us = US_START - 1, .to_us = US_START + 1};
    ck_assert (!ctki_out_incarnation (&out, US_START + 2, &unclear, NONCE + 1));
    ck_assert (out.sid == SID && out.state == CTKI_OUT_GREET && out.nonce == NONCE + 1);
    ck_assert (!ctki_out_incarnation (&out, US_START + 3, &unclear, NONCE + 2));
    ck_assert_uint_eq (out.nonce, NONCE + 1);
    ck_assert (ctki_out_next (&out, US_START + 3, &emit) && emit.frame.u.hello.prev_sid == SID);
    ctki_out_sent (&out, US_START + 3, &emit);
    ctki_frame_t frame = welcome (SID, 1, true, INC_IN);
    frame.u.welcome.nonce = NONCE + 1;
    ck_assert (ctki_out_receive (&out, US_START + 4, &frame));
    ck_assert (ctki_out_incarnation (&out, US_START + 5, &unclear, NONCE + 3));
    ck_assert (out.sid == SID && out.state == CTKI_OUT_OPEN);

    unclear = (ctki_proof_t) {.inc = INC_IN + 1, .from_us = US_START + 4, .to_us = US_START + 6};
    ck_assert (!ctki_out_incarnation (&out, US_START + 6, &unclear, NONCE + 4));
    int64_t end_us = unclear.to_us + out.setup.down_us;
    ck_assert (!ctki_out_incarnation (&out, end_us - 1, &unclear, NONCE + 5));
    ck_assert (ctki_out_incarnation (&out, end_us, &unclear, NONCE + 6));
    ck_assert (out.sid == 0 && out.peer_inc == INC_IN + 1 && out.nonce == NONCE + 6);
    ctki_out_fini (&out);

    open_out (&out);
    ctki_proof_t newer = {.inc = INC_IN + 1, .from_us = US_START + 1, .to_us = US_START + 1};
    ck_assert (ctki_out_incarnation (&out, US_START + 1, &newer, NONCE + 1));
    ck_assert (out.sid == 0 && out.peer_inc == INC_IN + 1 && out.state == CTKI_OUT_GREET);
    ctki_out_fini (&out);
}
END_TEST

/* What a leaving receiver did not take is kept for the next incarnation, and not in doubt. */
START_TEST (test_out_leaving)
{
    ctki_out_t out;
    ctki_emit_t emit;
    int64_t until_us;
    open_out (&out);
    push (&out, true, 3, 500);
    say_all (&out, US_START);
    ck_assert (hear (&out, ack (2, CTKI_F_LEAVING, 0)));
    ck_assert (ctki_out_next (&out, US_START, &emit));
    ck_assert_int_eq (emit.frame.type, CTKI_PING);
    ck_assert (emit.frame.flags & CTKI_F_LEAVING_SEEN);
    ctki_out_sent (&out, US_START, &emit);
    ck_assert_int_eq (say (&out, US_START), 0);
    ck_assert (!ctki_out_hungry (&out));
    ck_assert_int_eq (ctki_out_peer_state (&out, US_START, &until_us), CTALK_STATE_LEFT);
    meet_new_incarnation (&out);
    check_settled (&out, 1, 0, 0, 500 + CTKI_CHARGE_BYTES);
    ck_assert_int_eq (ctki_out_peer_state (&out, US_START, &until_us), CTALK_STATE_UP);
    say_all (&out, US_START);
    ck_assert_uint_eq (out.next, 3);
    ctki_out_fini (&out);
}
END_TEST

/* When both close, what was not taken is abandoned at once, not in doubt, in whatever order they do. */
START_TEST (test_out_both_close)
{
    for (int first = 0; first < 2; first++) {
        ctki_out_t out;
        open_out (&out);
        push (&out, true, 3, 500);
        say_all (&out, US_START);
        if (first)
            ctki_out_close (&out, US_START);
        ck_assert (hear (&out, ack (2, CTKI_F_LEAVING, 0)));
        if (!first)
            ctki_out_close (&out, US_START);
        check_settled (&out, 1, 2, 0, 3 * (500 + CTKI_CHARGE_BYTES));
        ck_assert_int_eq (say (&out, US_START), CTKI_PING); /* it still says so */
        ck_assert_int_eq (say (&out, US_START), 0);
        ck_assert_int_eq (out.state, CTKI_OUT_ENDED);
        ctki_out_fini (&out);
    }
}
END_TEST

/* BYE follows the last acknowledgement, five times at most; its answer ends it. */
START_TEST (test_out_bye)
{
    for (int answered = 0; answered < 2; answered++) {
        ctki_out_t out;
        open_out (&out);
        push (&out, true, 1, 500);
        ctki_out_close (&out, US_START);
        ck_assert_int_eq (say (&out, US_START), CTKI_DATA);
        ck_assert_int_eq (say (&out, US_START), 0);
        ck_assert (hear (&out, ack (2, 0, 0)));
        int64_t now_us = US_START;
        for (int i = 0; i < (answered ? 1 : CTKI_BYE_TRIES); i++, now_us += CTKI_BYE_MS * CTKI_MS) {
            out.heard_us = out.link_heard_us = now_us; /* so that no PING comes between */
            ck_assert_int_le (ctki_out_deadline (&out), now_us);
            ck_assert_int_eq (say (&out, now_us), CTKI_BYE);
            ck_assert_int_eq (say (&out, now_us), 0);
        }
        if (answered)
            ck_assert (hear (&out, back (CTKI_BYE_ACK, SID, 2)));
        else
            say (&out, now_us);
        ck_assert_int_eq (out.state, CTKI_OUT_ENDED);
        ck_assert_int_eq (ctki_out_deadline (&out), CTKI_FOREVER);
        ctki_out_fini (&out);
    }
}
END_TEST

/* A closing sender whose receiver closes, too, before there was a session gives up at once: nobody will take it. */
START_TEST (test_out_rejected_closing)
{
    ctki_out_t out;
    start_out (&out);
    push (&out, false, 3, 50);
    ctki_out_link_up (&out, US_START, 1);
    ctki_emit_t emit;
    ck_assert (ctki_out_next (&out, US_START, &emit) && emit.frame.type == CTKI_HELLO);
    ctki_out_sent (&out, US_START, &emit);
    ctki_out_close (&out, US_START);
    ctki_frame_t frame = back (CTKI_REJECT, 0, 0);
    frame.u.reason = CTKI_WHY_CLOSING;
    ck_assert (ctki_out_receive (&out, US_START, &frame));
    ck_assert_uint_eq (out.settled.abandoned, 3);
    ck_assert_uint_eq (out.settled.in_doubt, 0);
    ck_assert (!ctki_out_next (&out, US_START, &emit));
    ck_assert_int_eq (out.state, CTKI_OUT_ENDED);
    ctki_out_fini (&out);
}
END_TEST

/* HELLO is repeated after 200 ms, doubled up to 2 s; a REJECT waits 2 s. */
START_TEST (test_out_hello_clock)
{
    static const int64_t waits_ms[] = {200, 400, 800, 1600, 2000, 2000};
    ctki_out_t out;
    start_out (&out);
    out.setup.heartbeat_us = CTKI_S * 60; /* the link is not given up meanwhile */
    int64_t now_us = US_START;
    for (size_t i = 0; i < sizeof waits_ms / sizeof waits_ms[0]; i++) {
        ck_assert_int_eq (ctki_out_deadline (&out), now_us);
        ck_assert_int_eq (say (&out, now_us), CTKI_HELLO);
        ck_assert_int_eq (say (&out, now_us), 0);
        now_us += waits_ms[i] * CTKI_MS;
    }
    ctki_frame_t frame = back (CTKI_REJECT, 0, 0);
    frame.u.reason = CTKI_WHY_CLUSTER;
    ck_assert (ctki_out_receive (&out, now_us, &frame));
    ck_assert_uint_eq (out.rejected, CTKI_WHY_CLUSTER);
    ck_assert_int_eq (ctki_out_deadline (&out), now_us + 2000 * CTKI_MS);
    ck_assert_int_eq (out.heard_us, 0); /* that was not the peer */
    ctki_out_fini (&out);
}
END_TEST

/* PING comes after a heartbeat of silence; sooner, and ever less often, for want
 * of an acknowledgement or of credit. */
START_TEST (test_out_ping_clocks)
{
    static const int64_t ack_ms[] = {20, 40, 80, 160, 320, 500, 500};
    ctki_out_t out;
    open_out (&out);
    ck_assert_int_eq (ctki_out_deadline (&out), US_START + 500 * CTKI_MS);
    push (&out, true, 1, 500);
    ck_assert_int_eq (say (&out, US_START), CTKI_DATA);
    int64_t now_us = US_START;
    for (size_t i = 0; i < sizeof ack_ms / sizeof ack_ms[0]; i++) {
        now_us += ack_ms[i] * CTKI_MS;
        ck_assert_int_eq (ctki_out_deadline (&out), now_us);
        ck_assert_int_eq (say (&out, now_us), CTKI_PING);
        ck_assert_int_eq (say (&out, now_us), 0);
    }
    ctki_frame_t frame = ack (2, 0, 0);
    frame.u.ack.credit_frame = 0;
    out.credit_frame = 1; /* the window is closed */
    ck_assert (ctki_out_receive (&out, now_us, &frame));
    push (&out, true, 1, 500);
    ck_assert_int_eq (say (&out, now_us), 0);
    ck_assert_int_eq (ctki_out_deadline (&out), now_us + 200 * CTKI_MS);
    ck_assert_int_eq (say (&out, now_us + 200 * CTKI_MS), CTKI_PING);
    ck_assert_int_eq (out.probe_wait_us, 400 * CTKI_MS);
    ctki_out_fini (&out);
}
END_TEST

/* A session that goes on after its peer was removed says nothing of the peer until a greeting was answered. */
START_TEST (test_out_revived)
{
    ctki_session_setup_t setup = setup_of (1, 2, INC_OUT);
    ctki_out_tomb_t tomb;
    ctki_out_t out;
    int64_t until_us;
    open_out (&out);
    ctki_out_bury (&out, &tomb);
    ctki_out_fini (&out);
    ctki_out_init (&out, &setup, US_START);
    ctki_out_revive (&out, &tomb);
    ck_assert_int_eq (ctki_out_peer_state (&out, US_START, &until_us), CTALK_STATE_CONNECTING);
    ctki_out_link_up (&out, US_START, NONCE);
    ck_assert_int_eq (say (&out, US_START), CTKI_HELLO);
    ck_assert (hear (&out, welcome (SID, 1, true, INC_IN)));
    ck_assert_int_eq (ctki_out_peer_state (&out, US_START, &until_us), CTALK_STATE_UP);
    ctki_out_fini (&out);
}
END_TEST

/* A stamp that no PING bore measures nothing, whatever number it is; one that a PING bore measures the round trip. */
START_TEST (test_out_stamps)
{
    static const uint64_t strange[] = {UINT64_C (1) << 63, (UINT64_C (1) << 63) - 1, US_START + 1};
    ctki_out_t out;
    open_out (&out);
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++) {
        ctki_frame_t frame = ack (1, CTKI_F_PONG, 0);
        frame.u.ack.stamp = strange[i];
        ck_assert (hear (&out, frame));
        ck_assert_int_eq (out.rtt_worst_us, 0);
    }
    ctki_frame_t frame = ack (1, CTKI_F_PONG, 0);
    frame.u.ack.stamp = US_START - 300;
    ck_assert (hear (&out, frame));
    ck_assert_int_eq (out.rtt_worst_us, 300);
    ck_assert_int_eq (out.srtt_us, 300);
    ctki_out_fini (&out);
}
END_TEST

/* Silence makes a peer suspect, then down; any frame of it makes it up. */
START_TEST (test_out_peer_state)
{
    ctki_out_t out;
    int64_t until_us;
    start_out (&out);
    ck_assert_int_eq (ctki_out_peer_state (&out, US_START, &until_us), CTALK_STATE_CONNECTING);
    ck_assert_int_eq (ctki_out_peer_state (&out, until_us, &until_us), CTALK_STATE_DOWN);
    ctki_out_fini (&out);
    open_out (&out);
    ck_assert_int_eq (ctki_out_peer_state (&out, US_START, &until_us), CTALK_STATE_UP);
    ck_assert_int_eq (until_us, US_START + 1500 * CTKI_MS);
    ck_assert_int_eq (ctki_out_peer_state (&out, until_us, &until_us), CTALK_STATE_SUSPECT);
    ck_assert_int_eq (until_us, US_START + 5 * CTKI_S);
    ck_assert_int_eq (ctki_out_peer_state (&out, until_us, &until_us), CTALK_STATE_DOWN);
    ctki_out_heard (&out, US_START + 5 * CTKI_S);
    ck_assert_int_eq (ctki_out_peer_state (&out, US_START + 5 * CTKI_S, &until_us), CTALK_STATE_UP);
    ctki_out_fini (&out);
}
END_TEST

/* ---- a receiving half */

static ctki_frame_t there (ctki_type_t type, uint64_t sid, uint64_t n)
{
    return (ctki_frame_t){.version = CTKI_WIRE_VERSION, .type = (uint8_t) type, .sid = sid, .n = n, .gen = 1};
}

static ctki_frame_t hello (uint64_t inc, uint64_t prev_sid, uint32_t gen)
{
    ctki_frame_t frame = there (CTKI_HELLO, 0, 1);
    frame.gen = gen;
    frame.u.hello = (ctki_hello_t){
        .src = 1, .dst = 2, .inc = inc, .nonce = NONCE, .prev_sid = prev_sid, .version_min = 1, .version_max = 1};
    return frame;
}

/* One small envelope. */
static ctki_frame_t data (uint64_t n)
{
    static uint8_t record[16];
    ctki_record_put (record, &(ctki_record_t){.flags = CTKI_R_FIRST | CTKI_R_LAST, .len = 8});
    ctki_frame_t frame = there (CTKI_DATA, SID, n);
    frame.records = record;
    frame.records_size = sizeof record;
    return frame;
}

/* A fragment, its header apart from its payload. */
static ctki_frame_t fragment (uint64_t n, unsigned ends, uint32_t len, uint64_t total)
{
    static uint8_t head[CTKI_RECORD_HEAD_MAX], body[16384];
    ctki_record_t record = {.flags = (uint16_t) ends, .len = len, .total = total};
    ctki_frame_t frame = there (CTKI_DATA, SID, n);
    frame.records = head;
    frame.records_size = ctki_record_put (head, &record);
    frame.body = body;
    frame.body_size = len;
    return frame;
}

static ctki_effects_t give_from (ctki_in_t *in, uint64_t rid, ctki_frame_t frame)
{
    ctki_effects_t fx;
    ctki_in_receive (in, US_START, rid, &frame, SID, &fx);
    return fx;
}

static ctki_effects_t give (ctki_in_t *in, ctki_frame_t frame)
{
    return give_from (in, RID, frame);
}

/* The acknowledgement that is due now; its flags, -1: none. */
static int acknowledgement (ctki_in_t *in, int64_t now_us, uint64_t *n)
{
    ctki_frame_t frame;
    if (!ctki_in_next (in, now_us, &frame))
        return -1;
    ctki_in_acked (in, now_us);
    *n = frame.n;
    return frame.flags;
}

typedef enum { ABSENT, HALF, OPEN, LEFT, LEAVING, IN_STATES } in_state_t;

static void start_in (ctki_in_t *in, in_state_t state)
{
    ctki_session_setup_t setup = setup_of (2, 1, INC_IN);
    uint64_t n;
    ctki_in_init (in, &setup);
    if (state == ABSENT)
        return;
    ctki_effects_t fx = give (in, hello (INC_OUT, 0, 1));
    ck_assert (fx.reply && fx.answer.type == CTKI_WELCOME && fx.sid_offered == SID);
    if (state == HALF)
        return;
    fx = give (in, there (CTKI_PING, SID, 1));
    ck_assert (fx.opened);
    ck_assert_int_eq (acknowledgement (in, US_START, &n), CTKI_F_PONG);
    if (state == LEFT)
        give (in, there (CTKI_BYE, SID, 1));
    if (state == LEAVING)
        ctki_in_leave (in, US_START);
}

/* A greeting that is not for this server, or not of its cluster or version, gets the reason and leaves nothing. */
START_TEST (test_in_reject)
{
    for (int which = 0; which < 4; which++) {
        static const uint32_t reasons[] = {CTKI_WHY_PID, CTKI_WHY_PID, CTKI_WHY_CLUSTER, CTKI_WHY_VERSION};
        ctki_in_t in;
        start_in (&in, ABSENT);
        ctki_frame_t frame = hello (INC_OUT, 0, 1);
        frame.u.hello.src += which == 0;
        frame.u.hello.dst += which == 1;
        frame.u.hello.cluster_id[3] = which == 2;
        if (which == 3)
            frame.u.hello.version_min = frame.u.hello.version_max = 9;
        ctki_effects_t fx = give (&in, frame);
        ck_assert (fx.reply && fx.answer.type == CTKI_REJECT && !fx.valid);
        ck_assert_uint_eq (fx.answer.u.reason, reasons[which]);
        ck_assert (!ctki_in_offers (&in) && !in.open);
    }
}
END_TEST

/* The same incarnation is offered the same session however often it asks, and it
 * does not disturb the one that is open. */
START_TEST (test_in_half)
{
    ctki_in_t in;
    ctki_effects_t fx;
    start_in (&in, OPEN);
    ctki_in_unreachable (&in); /* else it would be asked first whether it lives */
    ctki_frame_t frame = hello (INC_OUT + 1, 0, 1);
    for (int i = 0; i < 3; i++) {
        ctki_in_receive (&in, US_START + i * 100 * CTKI_S, RID + 1, &frame, FRESH_SID + (uint64_t) i, &fx);
        ck_assert_uint_eq (fx.answer.sid, FRESH_SID);
        ck_assert_uint_eq (fx.sid_offered, i == 0 ? FRESH_SID : 0);
    }
    ck_assert (in.open && in.sid == SID && in.rid == RID);
    fx = give (&in, data (1));
    ck_assert_int_eq (fx.give, CTKI_GIVE_RUN);
    fx = give_from (&in, RID + 1, there (CTKI_PING, FRESH_SID, 1));
    ck_assert (fx.opened && fx.sid_ended[0] == SID && !fx.sid_ended[1]);
    ck_assert (in.sid == FRESH_SID && in.rid == RID + 1 && in.expected == 1);
    fx = give (&in, data (2)); /* the dead one's last */
    ck_assert (fx.reply && fx.answer.type == CTKI_RESET);
    ctki_in_fini (&in);
}
END_TEST

/* A greeting of a dead process that is read late does not void what was offered to
 * the living one, which opens it; offers that are older are void then, newer ones are not. */
START_TEST (test_in_offers)
{
    ctki_in_t in;
    ctki_effects_t fx;
    start_in (&in, ABSENT);
    for (uint64_t i = 0; i < CTKI_OFFERS; i++) {
        ctki_frame_t frame = hello (INC_OUT + i, 0, 1);
        ctki_in_receive (&in, US_START, RID + i, &frame, FRESH_SID + i, &fx);
        ck_assert (fx.sid_offered == FRESH_SID + i && !fx.sid_ended[0]);
    }
    fx = give_from (&in, RID + 2, there (CTKI_PING, FRESH_SID + 2, 1));
    ck_assert (fx.opened && in.inc == INC_OUT + 2 && in.rid == RID + 2);
    ck_assert (fx.sid_ended[0] == FRESH_SID + 1 && fx.sid_ended[1] == FRESH_SID && !fx.sid_ended[2]);
    fx = give_from (&in, RID, there (CTKI_PING, FRESH_SID, 1));
    ck_assert (!fx.opened && fx.answer.type == CTKI_RESET);
    fx = give_from (&in, RID + 3, there (CTKI_PING, FRESH_SID + 3, 1));
    ck_assert (fx.opened && fx.sid_ended[0] == FRESH_SID + 2);
    ctki_in_fini (&in);
}
END_TEST

/* Only so many are kept: the oldest offer gives way. */
START_TEST (test_in_offers_full)
{
    ctki_in_t in;
    ctki_effects_t fx;
    start_in (&in, ABSENT);
    for (uint64_t i = 0; i <= CTKI_OFFERS; i++) {
        ctki_frame_t frame = hello (INC_OUT + i, 0, 1);
        ctki_in_receive (&in, US_START, RID, &frame, FRESH_SID + i, &fx);
        ck_assert_uint_eq (fx.sid_ended[0], i == CTKI_OFFERS ? FRESH_SID : 0);
    }
    ctki_in_withdraw (&in);
    ck_assert (in.offer[0].sid == FRESH_SID + 3 && in.offer[CTKI_OFFERS - 1].sid == 0);
    ctki_in_fini (&in);
}
END_TEST

/* When another incarnation was alive after an offer was made, who answers the
 * offer may be dead: the session opens when a probe was answered, not before. An
 * offer that was made later opens at once. */
START_TEST (test_in_offer_doubtful)
{
    for (int later = 0; later < 2; later++) {
        ctki_in_t in;
        ctki_effects_t fx;
        start_in (&in, ABSENT);
        ctki_frame_t frame = hello (INC_OUT, 0, 1);
        ctki_in_receive (&in, US_START, RID, &frame, FRESH_SID, &fx);
        ctki_in_incarnation (&in, INC_OUT + 1, US_START - later, &fx);
        ck_assert (!fx.sid_ended[0]);
        frame = there (CTKI_PING, FRESH_SID, 1);
        fx = give (&in, frame);
        ck_assert_int_eq (fx.opened, later);
        for (int i = 0; !later && i < 2; i++) {
            ck_assert (fx.reply && fx.answer.type == CTKI_ACK && fx.answer.n == 1 && fx.answer.sid == FRESH_SID);
            ck_assert (fx.answer.flags == CTKI_F_PROBE && fx.answer.u.ack.probe == 1);
            frame.u.ping.probe = i == 0 ? 7 : 1; /* another one's, then the right one */
            fx = give (&in, frame);
            ck_assert_int_eq (fx.opened, i);
        }
        ck_assert (in.open && in.sid == FRESH_SID);
        ctki_in_fini (&in);
    }
}
END_TEST

/* Who was offered a session and greets anew later, not in that session, has given
 * it up, and is offered another one; who has only sent an
 * older greeting has not. */
START_TEST (test_in_offer_given_up)
{
    ctki_in_t in;
    ctki_effects_t fx;
    start_in (&in, ABSENT);
    static const struct {
        uint64_t prev_sid;
        uint32_t gen;
        uint64_t offered;
    } greetings[] = {{0, 2, FRESH_SID}, {0, 2, FRESH_SID}, {FRESH_SID, 3, FRESH_SID},
                     {0, 3, FRESH_SID}, {0, 4, FRESH_SID + 4}, {0, 3, FRESH_SID + 4}};
    for (uint64_t i = 0; i < sizeof greetings / sizeof greetings[0]; i++) {
        ctki_frame_t frame = hello (INC_OUT, greetings[i].prev_sid, greetings[i].gen);
        ctki_in_receive (&in, US_START, RID, &frame, FRESH_SID + i, &fx);
        ck_assert_uint_eq (fx.answer.sid, greetings[i].offered);
        ck_assert_uint_eq (fx.sid_ended[0], i == 4 ? FRESH_SID : 0);
    }
    ctki_in_fini (&in);
}
END_TEST

/* Neither a greeting nor a frame of an older connection takes the way back over. */
START_TEST (test_in_way_back)
{
    ctki_in_t in;
    start_in (&in, OPEN);
    give_from (&in, RID + 2, hello (INC_OUT, SID, 3));
    ck_assert_uint_eq (in.rid, RID + 2);
    ctki_effects_t fx = give_from (&in, RID + 1, hello (INC_OUT, SID, 2));
    ck_assert (fx.reply && (fx.answer.flags & CTKI_F_RESUMED)); /* answered, where it came from */
    ck_assert_uint_eq (in.rid, RID + 2);
    fx = give_from (&in, RID, data (1));
    ck_assert_int_eq (fx.give, CTKI_GIVE_RUN); /* what it bears is good all the same */
    ck_assert_uint_eq (in.rid, RID + 2);
    ctki_in_fini (&in);
}
END_TEST

/* A gap is reported at once, then not more often than every 20 ms; the report is
 * dropped if the gap is closed before it went out. */
START_TEST (test_in_gap)
{
    ctki_in_t in;
    uint64_t n;
    start_in (&in, OPEN);
    give (&in, data (2));
    ck_assert_int_eq (acknowledgement (&in, US_START, &n), CTKI_F_GAP);
    ck_assert_uint_eq (n, 1);
    give (&in, data (3));
    ck_assert_int_eq (acknowledgement (&in, US_START, &n), -1);
    ctki_frame_t frame = data (3);
    ctki_effects_t fx;
    ctki_in_receive (&in, US_START + CTKI_GAP_MS * CTKI_MS, RID, &frame, 0, &fx);
    ck_assert_int_eq (fx.give, CTKI_GIVE_NOTHING);
    fx = give (&in, data (1));
    ck_assert_int_eq (fx.give, CTKI_GIVE_RUN);
    ck_assert_int_eq (acknowledgement (&in, US_START + CTKI_GAP_MS * CTKI_MS, &n), 0);
    ck_assert_uint_eq (n, 2);
    ctki_frame_t ping = there (CTKI_PING, SID, 5); /* frames were sent that did not come */
    ctki_in_receive (&in, US_START + CTKI_S, RID, &ping, 0, &fx);
    ck_assert_int_eq (acknowledgement (&in, US_START + CTKI_S, &n), CTKI_F_GAP | CTKI_F_PONG);
    ctki_in_fini (&in);
}
END_TEST

/* An acknowledgement waits for 10 ms at most; it goes at once for 32 frames, a
 * repeated one, and one that asks for it. */
START_TEST (test_in_ack_clock)
{
    ctki_in_t in;
    uint64_t n;
    start_in (&in, OPEN);
    give (&in, data (1));
    ck_assert_int_eq (ctki_in_deadline (&in), US_START + CTKI_ACK_DELAY_MS * CTKI_MS);
    ck_assert_int_eq (acknowledgement (&in, US_START, &n), -1);
    ck_assert_int_eq (acknowledgement (&in, US_START + CTKI_ACK_DELAY_MS * CTKI_MS, &n), 0);
    ck_assert_int_eq (ctki_in_deadline (&in), CTKI_FOREVER);
    for (uint64_t i = 2; i < 2 + CTKI_ACK_FRAMES; i++) {
        ck_assert_int_eq (acknowledgement (&in, US_START, &n), -1);
        give (&in, data (i));
    }
    ck_assert_int_eq (acknowledgement (&in, US_START, &n), 0);
    ck_assert_uint_eq (n, 2 + CTKI_ACK_FRAMES);
    ck_assert (give (&in, data (5)).duplicate);
    ck_assert_int_eq (acknowledgement (&in, US_START, &n), 0);
    ctki_frame_t frame = data (n);
    frame.flags = CTKI_F_ACK_NOW;
    give (&in, frame);
    ck_assert_int_eq (acknowledgement (&in, US_START, &n), 0);
    ctki_in_fini (&in);
}
END_TEST

/* More than the credit, in frames or in bytes, is malformed and not taken. */
START_TEST (test_in_over_credit)
{
    ctki_in_t in;
    start_in (&in, OPEN);
    in.credit_byte = in.received_byte + 8 + CTKI_CHARGE_BYTES - 1;
    ck_assert (give (&in, data (1)).malformed);
    in.credit_byte++;
    in.credit_frame = 0;
    ck_assert (give (&in, data (1)).malformed);
    in.credit_frame = 1;
    ck_assert_int_eq (give (&in, data (1)).give, CTKI_GIVE_RUN);
    ck_assert (give (&in, fragment (2, CTKI_R_FIRST, 100, 200)).malformed);
    ck_assert_ptr_null (in.partial);
    ck_assert_uint_eq (in.expected, 2);
    ctki_in_fini (&in);
}
END_TEST

/* Each application's step opens the window again: consumed, and what is being
 * put together, and the window; never less than before. */
START_TEST (test_in_credit)
{
    ctki_in_t in;
    ctki_frame_t frame;
    start_in (&in, OPEN);
    give (&in, data (1));
    give (&in, fragment (2, CTKI_R_FIRST, 1000, 3000));
    give (&in, fragment (3, 0, 1000, 0));
    ck_assert (ctki_in_next (&in, US_START + CTKI_S, &frame));
    ck_assert_uint_eq (frame.u.ack.credit_byte, 8192 + 2000 + CTKI_CHARGE_BYTES);
    ck_assert_uint_eq (frame.u.ack.credit_frame, 100 + 2);
    ctki_in_acked (&in, US_START + CTKI_S);
    ctki_effects_t fx = give (&in, fragment (4, CTKI_R_LAST, 1000, 0));
    ck_assert_int_eq (fx.give, CTKI_GIVE_ONE);
    ck_assert_uint_eq (fx.frames, 3);
    ck_assert_uint_eq (fx.whole->size, 3000);
    ctki_buf_release (fx.whole, 1);
    ck_assert (ctki_in_next (&in, US_START + CTKI_S, &frame));
    ck_assert_uint_eq (frame.u.ack.credit_byte, 8192 + 2000 + CTKI_CHARGE_BYTES); /* never lowered */
    ctki_in_acked (&in, US_START + CTKI_S);
    ctki_in_consumed (&in, US_START, 2, 3000 + 8 + 2 * CTKI_CHARGE_BYTES, 4);
    ck_assert_int_eq (ctki_in_deadline (&in), CTKI_FOREVER); /* not worth a frame yet */
    ctki_in_consumed (&in, US_START, 3, ctki_in_wake_byte (&in), 5);
    ck_assert_int_eq (ctki_in_deadline (&in), US_START);
    ctki_in_fini (&in);
}
END_TEST

/* Writes count records of len bytes; every other one, if `to` is set, is for an actor. Returns their bytes. */
static size_t put_records (uint8_t *at, size_t count, uint32_t len, unsigned flags, uint64_t to)
{
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        ctki_record_t record = {.flags = (uint16_t) (CTKI_R_FIRST | CTKI_R_LAST | flags), .len = len,
                                .msg_id = (int64_t) i + 1, .to = i % 2 ? to : 0};
        size_t head = ctki_record_put (at + used, &record);
        memset (at + used + head, 0, ctki_record_pad (len));
        used += head + ctki_record_pad (len);
    }
    return used;
}

/* A run is counted record by record: alike or not, and how many of them are for an actor. */
START_TEST (test_in_run)
{
    static uint8_t records[4096];
    ctki_in_t in;
    start_in (&in, OPEN);
    size_t used = put_records (records, 5, 8, CTKI_R_ID, 0);
    used += put_records (records + used, 3, 8, 0, 0);
    used += put_records (records + used, 7, 20, CTKI_R_TO, 99);
    used += put_records (records + used, 4, 0, CTKI_R_BROADCAST, 0);
    ctki_frame_t frame = there (CTKI_DATA, SID, 1);
    frame.records = records;
    frame.records_size = used;
    ctki_effects_t fx = give (&in, frame);
    ck_assert_int_eq (fx.give, CTKI_GIVE_RUN);
    ck_assert_uint_eq (fx.count, 5 + 3 + 7 + 4);
    ck_assert_uint_eq (fx.charge, 8 * 8 + 7 * 20 + 19 * CTKI_CHARGE_BYTES);
    ck_assert_uint_eq (fx.actors, 3);
    ck_assert_uint_eq (fx.actors_charge, 3 * (20 + CTKI_CHARGE_BYTES));
    ck_assert_ptr_eq (fx.records, records);
    ck_assert_uint_eq (fx.records_size, used);
    ctki_in_fini (&in);
}
END_TEST

/* A run that ends within a record is malformed, wherever that is; one that ends behind one is taken. */
START_TEST (test_in_cut_run)
{
    static uint8_t records[4096];
    enum { RECORDS = 5, EACH = 16 + 24 };
    size_t used = put_records (records, RECORDS, 20, CTKI_R_ID, 0);
    ck_assert_uint_eq (used, RECORDS * EACH);
    for (size_t size = 1; size <= used; size++) {
        ctki_in_t in;
        start_in (&in, OPEN);
        ctki_frame_t frame = there (CTKI_DATA, SID, 1);
        frame.records = records;
        frame.records_size = size;
        ctki_effects_t fx = give (&in, frame);
        ck_assert_msg (fx.malformed == (size % EACH != 0), "%zu bytes", size);
        ck_assert_uint_eq (fx.count, fx.malformed ? 0 : size / EACH);
        ctki_in_fini (&in);
    }
}
END_TEST

/* Fragments that do not fit together are malformed, and nothing is handed out. */
START_TEST (test_in_bad_fragments)
{
    enum { F = CTKI_R_FIRST, L = CTKI_R_LAST };
    static const struct {
        unsigned ends[2];
        uint32_t len[2];
        uint64_t total;
    } bad[] = {
        {{0, 0}, {100, 0}, 0},         /* no beginning */
        {{L, 0}, {100, 0}, 0},         /* nothing but an end */
        {{F, 0}, {100, 0}, 100},       /* whole, and not said so */
        {{F, 0}, {100, 0}, 8193},      /* larger than an envelope may be */
        {{F, F}, {100, 100}, 300},     /* a second beginning */
        {{F, L}, {100, 100}, 300},     /* an end too soon */
        {{F, 0}, {100, 200}, 300},     /* complete, and not the end */
        {{F, L}, {100, 201}, 300},     /* too much */
        {{F, 0}, {100, 0}, 300},       /* an empty one */
        {{F, F | L}, {100, 100}, 300}, /* another envelope between */
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ctki_in_t in;
        start_in (&in, OPEN);
        ctki_effects_t fx = give (&in, fragment (1, bad[i].ends[0], bad[i].len[0], bad[i].total));
        if (!fx.malformed) {
            ck_assert_uint_eq (in.expected, 2);
            fx = give (&in, fragment (2, bad[i].ends[1], bad[i].len[1], bad[i].total));
        }
        ck_assert_msg (fx.malformed && fx.give == CTKI_GIVE_NOTHING, "case %zu", i);
        ck_assert_ptr_null (fx.whole);
        ctki_in_fini (&in);
    }
}
END_TEST

/* A receiver that closes takes nothing more, and says so every 20 ms until the
 * sender knows; a sender that greets again is told again. */
START_TEST (test_in_leave)
{
    ctki_in_t in;
    uint64_t n;
    start_in (&in, OPEN);
    give (&in, data (1));
    ctki_in_leave (&in, US_START);
    for (int i = 0; i < 3; i++) {
        int64_t now_us = US_START + i * CTKI_LEAVING_MS * CTKI_MS;
        ck_assert_int_eq (ctki_in_deadline (&in), now_us);
        ck_assert_int_eq (acknowledgement (&in, now_us, &n), CTKI_F_LEAVING);
        ck_assert_uint_eq (n, 2);
    }
    ck_assert_int_eq (give (&in, data (2)).give, CTKI_GIVE_NOTHING);
    ctki_frame_t ping = there (CTKI_PING, SID, 2);
    ping.flags = CTKI_F_LEAVING_SEEN;
    give (&in, ping);
    ck_assert (in.confirmed);
    acknowledgement (&in, US_START, &n);
    ck_assert_int_eq (ctki_in_deadline (&in), CTKI_FOREVER);
    give (&in, hello (INC_OUT, SID, 2));
    ck_assert (!in.confirmed);
    ck_assert_int_eq (acknowledgement (&in, US_START, &n) & CTKI_F_LEAVING, CTKI_F_LEAVING);
    ctki_in_unreachable (&in);
    ck_assert (in.confirmed);
    ctki_in_fini (&in);
}
END_TEST

/* Nobody needs to be told where no session is open, or where the peer has gone. */
START_TEST (test_in_leave_nobody)
{
    static const in_state_t states[] = {ABSENT, LEFT};
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        ctki_in_t in;
        start_in (&in, states[i]);
        ctki_in_leave (&in, US_START);
        ck_assert (in.confirmed);
        ctki_in_fini (&in);
    }
}
END_TEST

/* A sender that was offered a session takes it for open: it is told that we close, on the offered session. */
START_TEST (test_in_leave_half)
{
    ctki_in_t in;
    uint64_t n = 0;
    start_in (&in, HALF);
    uint64_t offered = in.offer[0].sid;
    ctki_in_leave (&in, US_START);
    ck_assert (!in.confirmed);
    ck_assert_int_eq (acknowledgement (&in, US_START, &n) & CTKI_F_LEAVING, CTKI_F_LEAVING);
    ck_assert_uint_eq (n, 1);
    ck_assert_uint_eq (in.sid, offered);
    ctki_in_unreachable (&in);
    ck_assert (in.confirmed);
    ctki_in_fini (&in);
}
END_TEST

Suite *ctki_suite_session (void)
{
    Suite *suite = suite_create ("session");
    TCase *out = tcase_create ("out"), *in = tcase_create ("in");
    tcase_add_test (out, test_out_rejected_closing);
    tcase_add_test (out, test_out_foreign);
    tcase_add_test (out, test_out_nonce);
    tcase_add_test (out, test_out_ack_range);
    tcase_add_test (out, test_out_gap);
    tcase_add_test (out, test_out_offered_again);
    tcase_add_test (out, test_out_restart_run);
    tcase_add_test (out, test_out_restart_large);
    tcase_add_test (out, test_out_restart_large_sent);
    tcase_add_test (out, test_out_abandon);
    tcase_add_test (out, test_out_leaving);
    tcase_add_test (out, test_out_both_close);
    tcase_add_test (out, test_out_bye);
    tcase_add_test (out, test_out_hello_clock);
    tcase_add_test (out, test_out_ping_clocks);
    tcase_add_test (out, test_out_revived);
    tcase_add_test (out, test_out_stamps);
    tcase_add_test (out, test_out_peer_state);
    tcase_add_test (out, test_out_incarnation);
    tcase_add_test (in, test_in_reject);
    tcase_add_test (in, test_in_half);
    tcase_add_test (in, test_in_offers);
    tcase_add_test (in, test_in_offers_full);
    tcase_add_test (in, test_in_offer_given_up);
    tcase_add_test (in, test_in_offer_doubtful);
    tcase_add_test (in, test_in_way_back);
    tcase_add_test (in, test_in_gap);
    tcase_add_test (in, test_in_ack_clock);
    tcase_add_test (in, test_in_over_credit);
    tcase_add_test (in, test_in_credit);
    tcase_add_test (in, test_in_run);
    tcase_add_test (in, test_in_cut_run);
    tcase_add_test (in, test_in_bad_fragments);
    tcase_add_test (in, test_in_leave);
    tcase_add_test (in, test_in_leave_nobody);
    tcase_add_test (in, test_in_leave_half);
    suite_add_tcase (suite, out);
    suite_add_tcase (suite, in);
    return suite;
}
