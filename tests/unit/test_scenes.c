/*
 * test_scenes.c - the two halves of a session against each other, with losses
 * made by hand: the traces of RELIABILITY.md section 3.14, the scenes that
 * other systems were caught by, and one for each rule that has a story.
 *
 * Frames pass as bytes, through the codec. A connection has a number; what is
 * sent to one that is gone comes back as unreachable, as from libzmq. The time is
 * virtual.
 */
#include <check.h>
#include <stdlib.h>

#include "src/mem.h"
#include "src/session.h"
#include "src/sys.h"
#include "tests/support/halves.h"

Suite *ctki_suite_scenes (void);

enum { GOT_MAX = 1024, SENDERS = 2, MANY = 1000, ALL = 100000 };

#define INC_OUT CTKI_HALVES_INC_OUT
#define INC_IN CTKI_HALVES_INC_IN

/* ---- frames under way */

typedef struct letter {
    struct letter *next;
    uint64_t rid;
    int count;
    size_t size[2];
    uint8_t *data[2];
} letter_t;

typedef struct {
    letter_t *head, **end;
    unsigned count;
} post_t;

static void put (post_t *post, uint64_t rid, const ctki_part_t *parts, int count)
{
    letter_t *letter = calloc (1, sizeof *letter);
    ck_assert_ptr_nonnull (letter);
    letter->rid = rid;
    letter->count = count;
    for (int i = 0; i < count; i++) {
        letter->size[i] = parts[i].size;
        letter->data[i] = malloc (parts[i].size);
        ck_assert_ptr_nonnull (letter->data[i]);
        memcpy (letter->data[i], parts[i].data, parts[i].size);
    }
    *(post->head ? post->end : &post->head) = letter;
    post->end = &letter->next;
    post->count++;
}

static letter_t *take (post_t *post)
{
    letter_t *letter = post->head;
    post->head = letter->next;
    post->count--;
    return letter;
}

static void destroy (letter_t *letter)
{
    free (letter->data[0]);
    free (letter->data[1]);
    free (letter);
}

/* Loses frames, after those that are kept. */
static void lose (post_t *post, unsigned kept, unsigned lost)
{
    letter_t **link = &post->head;
    for (; kept > 0; kept--)
        link = &(*link)->next;
    for (; lost > 0 && *link; lost--) {
        letter_t *letter = *link;
        *link = letter->next;
        destroy (letter);
        post->count--;
    }
    while (*link)
        link = &(*link)->next;
    post->end = link;
}

static ctki_frame_t read_letter (const letter_t *letter)
{
    ctki_frame_t frame;
    const char *bad
        = ctki_wire_decode (&frame, letter->data[0], letter->size[0], letter->data[1], letter->size[1]);
    ck_assert_msg (bad == NULL, "%s", bad);
    return frame;
}

/* The first frame that waits: its type and number. */
static void expect_first (const post_t *post, ctki_type_t type, uint64_t n)
{
    ck_assert_ptr_nonnull (post->head);
    ctki_frame_t frame = read_letter (post->head);
    ck_assert_int_eq (frame.type, type);
    ck_assert_uint_eq (frame.n, n);
}

/* ---- the world */

typedef struct {
    ctki_out_t out;
    uint64_t rid; /* its connection; 0: none */
    post_t there, back;
    uint64_t delivered, abandoned, in_doubt;
    int64_t charge;
} sender_t;

static struct {
    int64_t now_us;
    uint64_t connections, draws;
    sender_t sender[SENDERS];
    ctki_in_t in;
    int64_t got[GOT_MAX]; /* message ids, in order */
    size_t count;
    bool lazy; /* the application takes nothing */
    uint64_t came, came_byte, came_frames; /* not taken by the application */
    uint64_t duplicates, malformed, gave_up, refused, opened, lefts;
    bool mute; /* nothing comes back */
} w;

static sender_t *one, *two; /* two claims the same pid */
static size_t looked_at;    /* of what came */

static void start_sender (sender_t *s, uint64_t inc)
{
    ctki_session_setup_t setup = ctki_halves_setup (CTKI_HALVES_SELF, CTKI_HALVES_PEER, inc);
    ctki_out_init (&s->out, &setup, w.now_us);
    s->out.watched = true;
    s->delivered = s->abandoned = s->in_doubt = 0;
    s->charge = 0;
}

static void start_receiver (uint64_t inc)
{
    ctki_session_setup_t setup = ctki_halves_setup (CTKI_HALVES_PEER, CTKI_HALVES_SELF, inc);
    ctki_in_init (&w.in, &setup);
    w.came = w.came_byte = w.came_frames = 0;
}

static void set_up (void)
{
    memset (&w, 0, sizeof w);
    w.now_us = CTKI_HALVES_START_US;
    looked_at = 0;
    one = &w.sender[0];
    two = &w.sender[1];
    start_sender (one, INC_OUT);
    start_sender (two, INC_OUT + 1);
    start_receiver (INC_IN);
}

static void tear_down (void)
{
    for (int i = 0; i < SENDERS; i++) {
        ctki_out_fini (&w.sender[i].out);
        lose (&w.sender[i].there, 0, ALL);
        lose (&w.sender[i].back, 0, ALL);
    }
    ctki_in_fini (&w.in);
}

/* The connection breaks: what is under way is lost, but for what came over already. */
static void break_link (sender_t *s)
{
    lose (&s->there, 0, ALL);
    lose (&s->back, 0, ALL);
    s->rid = 0;
}

static void hear_of_link (sender_t *s)
{
    ctki_out_link_down (&s->out, w.now_us);
    ctki_out_link_up (&s->out, w.now_us, 1000 + ++w.draws);
}

static void connect_link (sender_t *s)
{
    s->rid = ++w.connections;
    hear_of_link (s);
}

/* ---- what moves */

static void settle (sender_t *s)
{
    s->delivered += s->out.settled.delivered;
    s->abandoned += s->out.settled.abandoned;
    s->in_doubt += s->out.settled.in_doubt;
    s->charge += s->out.settled.charge;
    memset (&s->out.settled, 0, sizeof s->out.settled);
}

/* The sender says at most so many frames; returns how many. */
static unsigned say (sender_t *s, unsigned most)
{
    unsigned count = 0;
    ctki_emit_t emit;
    for (; count < most && s->rid && ctki_out_next (&s->out, w.now_us, &emit); count++) {
        uint8_t scratch[CTKI_SCRATCH_BYTES];
        ctki_part_t parts[2];
        put (&s->there, s->rid, parts, ctki_emit_parts (&emit, scratch, parts));
        ctki_out_sent (&s->out, w.now_us, &emit);
    }
    ck_assert_uint_lt (count, ALL);
    return count;
}

/* To the connection rid; false: it is gone. */
static bool answer (uint64_t rid, const ctki_frame_t *frame)
{
    uint8_t bytes[CTKI_CONTROL_BYTES];
    ctki_part_t part = {.data = bytes, .size = ctki_wire_encode (frame, bytes, sizeof bytes)};
    for (int i = 0; i < SENDERS; i++) {
        if (w.sender[i].rid != rid)
            continue;
        if (!w.mute)
            put (&w.sender[i].back, rid, &part, 1);
        return true;
    }
    return false;
}

/* The application sees an envelope. */
static void see (const ctki_record_t *record, const uint8_t *data, size_t size)
{
    ck_assert_uint_lt (w.count, GOT_MAX);
    for (size_t i = 0; i < size; i++)
        ck_assert_uint_eq (data[i], (uint8_t) record->msg_id);
    w.got[w.count++] = record->msg_id;
    w.came++;
    w.came_byte += size + CTKI_CHARGE_BYTES;
}

static void see_run (const ctki_effects_t *fx)
{
    for (size_t at = 0; at < fx->records_size;) {
        ctki_record_t record = {0};
        size_t head = ctki_record_get (fx->records + at, fx->records_size - at, &record);
        ck_assert_uint_gt (head, 0);
        see (&record, fx->records + at + head, record.len);
        at += head + ctki_record_pad (record.len);
    }
}

static void eat (void)
{
    ctki_in_consumed (&w.in, w.now_us, w.in.consumed + w.came, w.in.consumed_byte + w.came_byte,
                      w.in.consumed_frame + w.came_frames);
    w.came = w.came_byte = w.came_frames = 0;
}

static void take_effects (const ctki_effects_t *fx)
{
    w.duplicates += fx->duplicate;
    w.malformed += fx->malformed;
    w.opened += fx->opened;
    w.lefts += fx->left;
    w.gave_up += fx->abandoned;
    if (fx->refused)
        w.refused = fx->refused;
    w.came += fx->abandoned;
    w.came_byte += fx->abandoned_charge;
    w.came_frames += fx->abandoned_frames;
    if (fx->reply)
        answer (fx->rid, &fx->answer);
}

/* A frame comes to the receiver. */
static void come (uint64_t rid, const ctki_frame_t *frame)
{
    ctki_effects_t fx;
    ctki_in_receive (&w.in, w.now_us, rid, frame, 7000 + ++w.draws, &fx);
    if (fx.opened)
        w.came = w.came_byte = w.came_frames = 0;
    if (fx.give == CTKI_GIVE_RUN)
        see_run (&fx);
    else if (fx.give == CTKI_GIVE_ONE)
        see (&fx.record, fx.whole ? fx.whole->data : frame->body, fx.whole ? fx.whole->size : frame->body_size);
    w.came_frames += fx.give == CTKI_GIVE_NOTHING ? 0 : fx.frames;
    if (fx.whole)
        ctki_buf_release (fx.whole, 1);
    take_effects (&fx);
    if (!w.lazy)
        eat ();
}

/* So many frames of a sender come over. */
static void bring (post_t *there, unsigned count)
{
    for (; count > 0 && there->head; count--) {
        letter_t *letter = take (there);
        ctki_frame_t frame = read_letter (letter);
        come (letter->rid, &frame);
        destroy (letter);
    }
}

/* The receiver says what is due. */
static unsigned acknowledge (void)
{
    ctki_frame_t frame;
    ctki_effects_t fx;
    unsigned count = 0;
    while (ctki_in_tick (&w.in, w.now_us, 7000 + ++w.draws, &fx)) {
        take_effects (&fx);
        count++;
    }
    if (!ctki_in_next (&w.in, w.now_us, &frame))
        return count;
    if (answer (w.in.rid, &frame))
        ctki_in_acked (&w.in, w.now_us);
    else
        ctki_in_unreachable (&w.in);
    return count + 1;
}

/* So many frames come back; returns how many of them were taken. */
static unsigned bring_back (sender_t *s, unsigned count)
{
    unsigned taken = 0;
    for (; count > 0 && s->back.head; count--) {
        letter_t *letter = take (&s->back);
        ctki_frame_t frame = read_letter (letter);
        taken += ctki_out_receive (&s->out, w.now_us, &frame);
        destroy (letter);
        settle (s);
    }
    return taken;
}

/* All that can happen without the time moving. */
static void now (void)
{
    for (unsigned moved = 1, rounds = 0; moved; rounds++) {
        ck_assert_uint_lt (rounds, MANY);
        moved = 0;
        for (int i = 0; i < SENDERS; i++) {
            sender_t *s = &w.sender[i];
            moved += say (s, ALL) + s->there.count + s->back.count;
            bring (&s->there, ALL);
            bring_back (s, ALL);
            settle (s);
        }
        moved += acknowledge ();
    }
}

/* A deadline that has passed is that of a dead link, which nobody makes anew here. */
static int64_t sooner (int64_t next_us, int64_t deadline_us)
{
    return deadline_us > w.now_us ? CTKI_MIN (next_us, deadline_us) : next_us;
}

/* The time passes, and whatever is due with it. */
static void pass (int64_t ms)
{
    int64_t end_us = w.now_us + ms * CTKI_MS;
    for (now (); w.now_us < end_us; now ()) {
        int64_t next_us = sooner (end_us, ctki_in_deadline (&w.in));
        for (int i = 0; i < SENDERS; i++)
            if (w.sender[i].rid)
                next_us = sooner (next_us, ctki_out_deadline (&w.sender[i].out));
        w.now_us = next_us;
    }
}

/* ---- what is expected */

static void send_some (sender_t *s, int64_t first, unsigned count)
{
    ctki_halves_push (&s->out, true, count, 100, first);
}

/* These came since the last look, in order, and nothing else. */
static void expect_got (int64_t first, unsigned count)
{
    ck_assert_uint_eq (w.count - looked_at, count);
    for (unsigned i = 0; i < count; i++)
        ck_assert_int_eq (w.got[looked_at + i], first + i);
    looked_at = w.count;
}

static void expect_settled (const sender_t *s, uint64_t delivered, uint64_t abandoned, uint64_t in_doubt)
{
    ck_assert_uint_eq (s->delivered, delivered);
    ck_assert_uint_eq (s->abandoned, abandoned);
    ck_assert_uint_eq (s->in_doubt, in_doubt);
}

/* A session is open on both sides, and it works. */
static void open_session (sender_t *s)
{
    looked_at = w.count;
    connect_link (s);
    now ();
    ck_assert_int_eq (s->out.state, CTKI_OUT_OPEN);
    ck_assert (w.in.open && w.in.sid == s->out.sid);
}

/* Both agree, and something new comes through. */
static void expect_works (sender_t *s)
{
    uint64_t malformed = w.malformed;
    looked_at = w.count;
    send_some (s, 200, 2);
    pass (2500);
    expect_got (200, 2);
    ck_assert (ctki_out_empty (&s->out));
    ck_assert_uint_eq (w.in.expected, s->out.next);
    ck_assert_uint_eq (w.in.received, s->out.ordinal);
    ck_assert_uint_eq (w.in.received_byte, s->out.charge);
    ck_assert_uint_eq (w.malformed, malformed);
}

/* What became of the former session's envelopes: the ids from the first on, so many received, then so many of this kind. */
static void expect_obit (sender_t *s, uint64_t consumed, uint64_t received, uint64_t rest, int kind, uint64_t carried)
{
    ctki_obit_t *obit = ctki_out_obit (&s->out);
    ck_assert_ptr_nonnull (obit);
    ck_assert_uint_eq (obit->old_inc, INC_IN);
    ck_assert_uint_eq (obit->consumed, consumed);
    ck_assert_uint_eq (obit->received, received);
    ck_assert_uint_eq (obit->in_doubt, kind == CTALK_IN_DOUBT ? rest : 0);
    ck_assert_uint_eq (obit->carried, carried);
    ck_assert_uint_eq (obit->count, received + rest);
    for (size_t i = 0; i < obit->count; i++) {
        ck_assert_int_eq (obit->fate[i].msg_id, (int64_t) (consumed + i + 1));
        ck_assert_uint_eq (obit->fate[i].ordinal, consumed + i + 1);
        ck_assert_int_eq (obit->fate[i].kind, i < received ? CTALK_RECEIVED : kind);
    }
    ctki_free (obit);
    ck_assert_ptr_null (ctki_out_obit (&s->out));
}

static void restart_receiver (void)
{
    ctki_in_fini (&w.in);
    start_receiver (w.in.setup.inc + 1);
}

static void restart_sender (sender_t *s)
{
    uint64_t inc = s->out.setup.inc;
    ctki_out_fini (&s->out);
    start_sender (s, inc + 100);
}

/* ---- the traces of section 3.14 */

/* Plain start: HELLO, a new session from frame 1 on, data, an acknowledgement of it. */
START_TEST (plain_start)
{
    connect_link (one);
    send_some (one, 1, 3);
    ck_assert_uint_eq (say (one, ALL), 1);
    expect_first (&one->there, CTKI_HELLO, 1);
    bring (&one->there, 1);
    expect_first (&one->back, CTKI_WELCOME, 1);
    ck_assert_uint_eq (read_letter (one->back.head).flags & CTKI_F_RESUMED, 0);
    bring_back (one, 1);
    ck_assert_uint_eq (say (one, ALL), 4); /* PING, and three of DATA */
    expect_first (&one->there, CTKI_PING, 1);
    bring (&one->there, 1);
    expect_first (&one->there, CTKI_DATA, 1);
    bring (&one->there, ALL);
    pass (CTKI_ACK_DELAY_MS);
    ck_assert_uint_eq (one->out.una, 4);
    expect_got (1, 3);
    expect_settled (one, 3, 0, 0);
}
END_TEST

/* 41 to 60 are sent and the connection dies after 47 reached the receiver. */
static void reset_after_47 (void)
{
    open_session (one);
    for (int64_t i = 1; i <= 40; i += 8) {
        send_some (one, i, 8);
        pass (CTKI_ACK_DELAY_MS);
    }
    expect_got (1, 40);
    send_some (one, 41, 20);
    ck_assert_uint_eq (say (one, ALL), 20);
    bring (&one->there, 7);
    break_link (one);
    expect_got (41, 7);
}

/* Reset in mid-stream, and the sender greets first: it resumes at 48 and repeats nothing that came. */
START_TEST (reset_and_greet)
{
    reset_after_47 ();
    connect_link (one);
    say (one, ALL);
    expect_first (&one->there, CTKI_HELLO, 41);
    bring (&one->there, 1);
    expect_first (&one->back, CTKI_WELCOME, 48);
    now ();
    expect_got (48, 13);
    ck_assert_uint_eq (w.duplicates, 0);
    ck_assert_uint_eq (one->out.round, 1);
    expect_works (one);
    expect_settled (one, 62, 0, 0);
}
END_TEST

/* Reset in mid-stream, and a frame slips out before the sender has noticed: its GAP brings the rest, once per round; when
 * the repeated ones die, too, the next frame of that round reports it. No timer is involved. */
START_TEST (reset_unnoticed)
{
    reset_after_47 ();
    one->rid = ++w.connections;
    send_some (one, 61, 1);
    ck_assert_uint_eq (say (one, ALL), 1);
    bring (&one->there, 1);
    acknowledge ();
    expect_first (&one->back, CTKI_ACK, 48);
    bring_back (one, 1);
    ck_assert_uint_eq (one->out.round, 1);
    ck_assert_uint_eq (one->out.send, 48);
    come (one->rid, &(ctki_frame_t[]) {ctki_halves_there (CTKI_PING, one->out.sid, 70)}[0]); /* of round 0 */
    w.now_us += CTKI_GAP_MS * CTKI_MS;
    acknowledge ();
    ck_assert_uint_eq (bring_back (one, ALL), 1);
    ck_assert_uint_eq (one->out.round, 1); /* old news */
    ck_assert_uint_gt (say (one, ALL), 13);
    lose (&one->there, 0, ALL); /* 48 to 61 again, and lost again */
    send_some (one, 62, 1);
    say (one, ALL);
    bring (&one->there, 1);
    now ();
    expect_got (48, 15);
    ck_assert_uint_eq (one->out.round, 2);
    expect_works (one);
}
END_TEST

/* Old tail after new head: what the new connection brings first is a gap; the old tail closes it; what is repeated is dropped. */
START_TEST (old_tail_after_new_head)
{
    open_session (one);
    send_some (one, 1, 10);
    say (one, ALL);
    bring (&one->there, 5);
    post_t tail = one->there; /* 6 to 10 came over, and wait in the router's old pipe */
    one->there = (post_t) {0};
    one->rid = ++w.connections;
    send_some (one, 11, 1);
    say (one, ALL);
    bring (&one->there, 1); /* 11 */
    bring (&tail, ALL);
    acknowledge (); /* the gap was closed before it was reported */
    now ();
    pass (100);
    expect_got (1, 11);
    ck_assert_uint_le (w.duplicates, 5);
    expect_works (one);
    expect_settled (one, 13, 0, 0);
}
END_TEST

/* The same when the gap was reported before the old tail was read. */
START_TEST (old_tail_after_report)
{
    open_session (one);
    send_some (one, 1, 10);
    say (one, ALL);
    bring (&one->there, 5);
    post_t tail = one->there;
    one->there = (post_t) {0};
    one->rid = ++w.connections;
    send_some (one, 11, 1);
    say (one, ALL);
    bring (&one->there, 1);
    acknowledge ();
    bring_back (one, ALL); /* it goes back to 6 */
    ck_assert_uint_eq (one->out.send, 6);
    say (one, ALL);
    bring (&tail, ALL);
    now ();
    expect_got (1, 11);
    ck_assert_uint_eq (w.duplicates, 5);
    expect_works (one);
}
END_TEST

/* The receiver restarts: RESET, HELLO, a new session of another incarnation; what was never transmitted goes on from 1,
 * what was is told; an acknowledgement of the old session that is still on its way is dropped. */
START_TEST (receiver_restarts)
{
    open_session (one);
    w.lazy = true;
    send_some (one, 1, 3);
    pass (20);
    expect_got (1, 3);
    send_some (one, 4, 2);
    say (one, ALL); /* 4 and 5 are given, and die with the receiver */
    lose (&one->there, 0, ALL);
    uint64_t old_sid = one->out.sid;
    ctki_frame_t late = ctki_halves_back (CTKI_ACK, old_sid, 6);
    restart_receiver ();
    w.lazy = false;
    one->out.credit_frame = 5; /* 6 and 7 cannot go */
    send_some (one, 6, 2);
    while (one->out.sid == old_sid) /* until it asks */
        pass (1);
    ck_assert (!ctki_out_receive (&one->out, w.now_us, &late));
    expect_obit (one, 0, 3, 2, CTALK_IN_DOUBT, 2);
    pass (CTKI_ACK_DELAY_MS);
    expect_got (6, 2);
    expect_settled (one, 5, 2, 2);
    expect_works (one);
}
END_TEST

/* The sender restarts, and its old HELLO and DATA surface late: they open nothing and deliver nothing. */
START_TEST (sender_restarts)
{
    open_session (one);
    send_some (one, 1, 3);
    say (one, ALL);
    bring (&one->there, 1);
    post_t tail = one->there; /* 2 and 3 */
    one->there = (post_t) {0};
    uint64_t old_rid = one->rid, old_inc = one->out.setup.inc;
    one->rid = 0;
    restart_sender (one);
    expect_got (1, 1);
    connect_link (one);
    pass (CTKI_RTT_MAX_MS); /* the probe of the dead one fails: its connection is gone */
    ck_assert_uint_eq (w.in.inc, one->out.setup.inc);
    ctki_frame_t hello = ctki_halves_hello (old_inc, 0, 1);
    come (old_rid, &hello);
    ck_assert (w.in.open && w.in.inc == one->out.setup.inc);
    bring (&tail, ALL);
    pass (1000);
    expect_got (2, 0);
    ck_assert_uint_eq (w.in.inc, one->out.setup.inc);
    ck_assert_uint_eq (w.refused, CTKI_WHY_DUPLICATE); /* of the dead one's greeting, as it lives */
    expect_works (one);
}
END_TEST

/* Both restart and both greet: two independent sessions each way; here is the one from here to there. */
START_TEST (both_restart)
{
    open_session (one);
    send_some (one, 1, 2);
    say (one, ALL);
    break_link (one);
    restart_sender (one);
    restart_receiver ();
    connect_link (one);
    now ();
    ck_assert_uint_eq (w.opened, 2);
    expect_works (one);
    ck_assert_ptr_null (ctki_out_obit (&one->out)); /* a new process knows of no former one */
}
END_TEST

/* Acknowledgements are lost and data is not: a link that is made anew sets all free, and nothing is sent again. */
START_TEST (ack_path_dead)
{
    open_session (one);
    w.mute = true;
    send_some (one, 1, 20);
    pass (3000);
    expect_got (1, 20);
    ck_assert_uint_eq (one->delivered, 0);
    ck_assert (ctki_out_link_dead (&one->out, w.now_us));
    w.mute = false;
    ctki_out_link_made (&one->out, w.now_us, 0);
    break_link (one);
    connect_link (one);
    now ();
    expect_settled (one, 20, 0, 0);
    ck_assert_uint_eq (one->out.round, 0);
    ck_assert_uint_eq (w.duplicates, 0);
    expect_works (one);
}
END_TEST

/* The window is closed, and the acknowledgement that opened it is lost: a probe brings the credit again. */
START_TEST (lost_credit)
{
    open_session (one);
    w.lazy = true;
    send_some (one, 1, 60); /* of 164 bytes each: 8,192 are 49 of them */
    pass (100);
    expect_got (1, 49);
    w.lazy = false;
    eat ();
    acknowledge ();
    ck_assert_uint_eq (one->back.count, 1);
    lose (&one->back, 0, 1);
    say (one, ALL);
    ck_assert_uint_eq (one->there.count, 0);
    pass (CTKI_PROBE_MAX_MS);
    expect_got (50, 11);
    expect_works (one);
}
END_TEST

/* A window that closed again is probed as soon as one that closed for the first time. */
START_TEST (closed_again)
{
    open_session (one);
    w.lazy = true;
    send_some (one, 1, 60);
    pass (2000); /* probed, ever less often */
    ck_assert_int_gt (one->out.probe_wait_us, CTKI_PROBE_MIN_MS * CTKI_MS);
    eat ();
    send_some (one, 61, 60);
    pass (100);
    ck_assert_int_gt (one->out.stalled_us, 0);
    ck_assert_int_eq (one->out.probe_wait_us, CTKI_PROBE_MIN_MS * CTKI_MS);
    w.lazy = false;
    eat ();
    pass (CTKI_PROBE_MAX_MS);
    expect_got (1, 120);
}
END_TEST

/* ---- two processes with one pid (R9) */

static bool answers;

/* two claims the pid of one. one lives if it answers. */
static void claim (void)
{
    open_session (one);
    connect_link (two);
    say (two, ALL);
    bring (&two->there, ALL);
    acknowledge ();
    ck_assert_uint_eq (one->back.count, 1);
    expect_first (&one->back, CTKI_ACK, 1);
    ck_assert (read_letter (one->back.head).flags & CTKI_F_PROBE);
    ck_assert_uint_eq (two->back.count, 0); /* it waits */
    if (answers)
        bring_back (one, ALL);
    else
        lose (&one->back, 0, ALL);
}

/* The probe is answered: the newcomer is refused, and again when it asks again; the session goes on. */
START_TEST (duplicate_answered)
{
    answers = true;
    claim ();
    for (int i = 0; i < 3; i++) {
        pass (CTKI_HELLO_MAX_MS);
        ck_assert_uint_eq (two->out.rejected, CTKI_WHY_DUPLICATE);
        ck_assert_int_eq (two->out.state, CTKI_OUT_GREET);
        ck_assert_uint_eq (w.refused, CTKI_WHY_DUPLICATE);
    }
    ck_assert_uint_eq (w.in.inc, INC_OUT);
    ck_assert_uint_eq (w.opened, 1);
    expect_works (one);
}
END_TEST

/* It is not answered for a heartbeat: the newcomer is let in, not before. */
START_TEST (duplicate_silent)
{
    answers = false;
    claim ();
    one->rid = 0; /* but nobody knows */
    uint64_t rid = w.in.rid;
    w.now_us += 499 * CTKI_MS;
    ctki_effects_t fx;
    ck_assert (!ctki_in_tick (&w.in, w.now_us, 1, &fx));
    ck_assert_int_eq (ctki_in_deadline (&w.in), w.now_us + CTKI_MS);
    w.now_us += CTKI_MS;
    now ();
    ck_assert_uint_ne (w.in.rid, rid);
    ck_assert_uint_eq (w.in.inc, INC_OUT + 1);
    ck_assert_uint_eq (w.refused, 0);
    expect_works (two);
}
END_TEST

/* Its connection is gone: the newcomer is let in at once. */
START_TEST (duplicate_unreachable)
{
    open_session (one);
    break_link (one);
    connect_link (two);
    int64_t start_us = w.now_us;
    now ();
    ck_assert_int_eq (w.now_us, start_us);
    ck_assert_uint_eq (w.in.inc, INC_OUT + 1);
    expect_works (two);
}
END_TEST

/* The PING that answers a probe bears its number; one of before the probe does not count as an answer. */
START_TEST (probe_echo)
{
    open_session (one);
    pass (500);
    ctki_out_hurry (&one->out, w.now_us);
    say (one, 1);
    ck_assert_uint_eq (read_letter (one->there.head).u.ping.probe, 0);
    connect_link (two);
    say (two, ALL);
    bring (&two->there, ALL);
    bring (&one->there, ALL); /* sent before */
    ck_assert (w.in.newcomer.on && !w.in.newcomer.heard);
    acknowledge ();
    bring_back (one, ALL);
    say (one, 1);
    ck_assert_uint_eq (read_letter (one->there.head).u.ping.probe, w.in.newcomer.probe);
    bring (&one->there, ALL);
    ck_assert (w.in.newcomer.heard);
    pass (1);
    ck_assert_uint_eq (two->out.rejected, CTKI_WHY_DUPLICATE);
}
END_TEST

/* A receiver that restarts counts its probes anew: the number of the former one's is not taken for an answer. */
START_TEST (probe_of_a_former_receiver)
{
    answers = true;
    claim ();
    pass (100);
    break_link (two);
    restart_receiver ();
    pass (1000);
    ck_assert (w.in.open && w.in.inc == INC_OUT);
    ctki_free (ctki_out_obit (&one->out));
    ctki_out_hurry (&one->out, w.now_us);
    say (one, 1);
    connect_link (two);
    say (two, ALL);
    bring (&two->there, ALL);
    ck_assert_uint_eq (w.in.newcomer.probe, 1);
    bring (&one->there, ALL); /* sent before the probe */
    ck_assert (!w.in.newcomer.heard);
}
END_TEST

/* ---- scenes of others */

/* The first frame of all is lost. */
START_TEST (first_lost)
{
    open_session (one);
    send_some (one, 1, 3);
    say (one, ALL);
    lose (&one->there, 0, 1);
    now ();
    expect_got (1, 3);
    ck_assert_uint_eq (one->out.round, 1);
    expect_works (one);
}
END_TEST

/* The last one is lost, and nothing follows: a PING shows it. */
START_TEST (last_lost)
{
    open_session (one);
    send_some (one, 1, 3);
    say (one, ALL);
    lose (&one->there, 2, 1);
    pass (CTKI_ACK_WAIT_MS + CTKI_ACK_DELAY_MS);
    expect_got (1, 3);
    expect_works (one);
}
END_TEST

/* The first and the last are lost. */
START_TEST (first_and_last_lost)
{
    open_session (one);
    send_some (one, 1, 5);
    say (one, ALL);
    lose (&one->there, 4, 1);
    lose (&one->there, 0, 1);
    pass (2 * CTKI_ACK_WAIT_MS);
    expect_got (1, 5);
    expect_works (one);
}
END_TEST

/* An acknowledgement is lost: the next PING brings another one, and nothing is sent again. */
START_TEST (ack_lost)
{
    open_session (one);
    send_some (one, 1, 3);
    now ();
    w.now_us += CTKI_ACK_DELAY_MS * CTKI_MS;
    acknowledge ();
    ck_assert_uint_eq (one->back.count, 1);
    lose (&one->back, 0, 1);
    pass (2 * CTKI_ACK_WAIT_MS);
    expect_settled (one, 3, 0, 0);
    expect_got (1, 3);
    ck_assert_uint_eq (w.duplicates, 0);
    ck_assert_uint_eq (one->out.round, 0);
}
END_TEST

/* The WELCOME of a new session is lost: the same session is offered again, and none of its frames is in doubt. */
START_TEST (welcome_lost)
{
    connect_link (one);
    send_some (one, 1, 2);
    say (one, ALL);
    bring (&one->there, ALL);
    uint64_t sid = read_letter (one->back.head).sid;
    lose (&one->back, 0, 1);
    pass (CTKI_HELLO_MIN_MS);
    ck_assert_uint_eq (one->out.sid, sid);
    expect_got (1, 2);
    expect_works (one);
}
END_TEST

/* An acknowledgement is delayed over a restart of either side: it clears nothing of the new session. */
START_TEST (ack_over_a_restart)
{
    for (int receiver = 0; receiver < 2; receiver++) {
        tear_down ();
        set_up ();
        open_session (one);
        send_some (one, 1, 5);
        now ();
        w.now_us += CTKI_ACK_DELAY_MS * CTKI_MS;
        acknowledge ();
        ck_assert_uint_eq (one->back.count, 1);
        post_t late = one->back; /* an acknowledgement of 1 to 5 */
        one->back = (post_t) {0};
        break_link (one);
        if (receiver)
            restart_receiver ();
        else
            restart_sender (one);
        connect_link (one);
        pass (1000);
        send_some (one, 11, 5);
        say (one, ALL); /* numbered 1 to 5, too */
        ck_assert_uint_eq (one->out.next, 6);
        ctki_frame_t frame = read_letter (late.head);
        ck_assert (!ctki_out_receive (&one->out, w.now_us, &frame));
        ck_assert_uint_eq (one->out.una, 1);
        lose (&late, 0, ALL);
        looked_at = w.count;
        pass (100);
        expect_got (11, 5);
        ctki_free (ctki_out_obit (&one->out));
        expect_works (one);
    }
}
END_TEST

/* The sender loses its state and greets as if there had been nothing: it is let in, beside the old session until then. */
START_TEST (sender_forgets)
{
    open_session (one);
    send_some (one, 1, 2);
    pass (20);
    uint64_t old = w.in.sid, inc = one->out.setup.inc;
    ctki_out_fini (&one->out);
    start_sender (one, inc); /* the same incarnation */
    open_session (one);
    ck_assert_uint_ne (w.in.sid, old);
    expect_works (one);
}
END_TEST

/* The receiver loses its state and is the same incarnation: that must not be (R8), and nothing breaks. */
START_TEST (receiver_forgets)
{
    open_session (one);
    send_some (one, 1, 2);
    pass (20);
    ctki_in_fini (&w.in);
    start_receiver (INC_IN);
    pass (600);
    expect_obit (one, 2, 0, 0, CTALK_IN_DOUBT, 0);
    expect_works (one);
}
END_TEST

/* Half-open, then real: a greeting that nobody follows up leaves nothing that is in the way of the next. */
START_TEST (half_open_then_real)
{
    connect_link (two);
    say (two, ALL);
    bring (&two->there, ALL); /* a session was offered, and it is never heard of again */
    break_link (two);
    ck_assert (ctki_in_offers (&w.in) && !w.in.open);
    open_session (one);
    ck_assert_uint_eq (w.opened, 1);
    expect_works (one);
}
END_TEST

/* A message to one that has departed waits for its next incarnation, and is in doubt nowhere. */
START_TEST (to_the_departed)
{
    open_session (one);
    send_some (one, 1, 2);
    pass (20);
    ctki_in_leave (&w.in, w.now_us);
    pass (20);
    ck_assert (one->out.leaving && w.in.confirmed);
    break_link (one);
    ctki_out_link_down (&one->out, w.now_us);
    send_some (one, 3, 2);
    say (one, ALL);
    restart_receiver ();
    connect_link (one);
    pass (20);
    expect_got (1, 4);
    expect_settled (one, 4, 0, 0);
    expect_obit (one, 2, 0, 0, CTALK_IN_DOUBT, 2);
    expect_works (one);
}
END_TEST

/* A frame that was on its way to one that took its leave is not in doubt: the last word says that it was not taken. */
START_TEST (leaving_with_frames_under_way)
{
    open_session (one);
    send_some (one, 1, 4);
    say (one, ALL);
    bring (&one->there, 2);
    ctki_in_leave (&w.in, w.now_us);
    pass (CTKI_LEAVING_MS);
    expect_got (1, 2);
    ck_assert (w.in.confirmed);
    break_link (one);
    restart_receiver ();
    connect_link (one);
    pass (20);
    expect_got (3, 2);
    expect_settled (one, 4, 0, 0);
}
END_TEST

/* The last word of a leaving receiver is lost: it is said again until it is confirmed. */
START_TEST (last_word_lost)
{
    open_session (one);
    ctki_in_leave (&w.in, w.now_us);
    for (int i = 0; i < 3; i++) {
        acknowledge ();
        ck_assert_uint_eq (one->back.count, 1);
        lose (&one->back, 0, 1);
        ck_assert (!w.in.confirmed);
        w.now_us += CTKI_LEAVING_MS * CTKI_MS;
    }
    now ();
    ck_assert (w.in.confirmed && one->out.leaving);
}
END_TEST

/* ---- removal and return (R17) */

/* one's owner removes the receiver, and adds it again. */
static void remove_and_return (bool told)
{
    ctki_out_tomb_t tomb;
    uint32_t round = one->out.round, gen = one->out.gen;
    ctki_out_dismiss (&one->out);
    ctki_out_close (&one->out, w.now_us);
    settle (one);
    say (one, ALL);
    if (!told)
        lose (&one->there, 0, ALL);
    bring (&one->there, ALL);
    ck_assert_uint_eq (w.lefts, told);
    ctki_out_bury (&one->out, &tomb);
    break_link (one);
    uint64_t inc = one->out.setup.inc;
    ctki_out_fini (&one->out);
    start_sender (one, inc);
    ctki_out_revive (&one->out, &tomb);
    looked_at = w.count;
    connect_link (one);
    now ();
    ck_assert_int_eq (one->out.state, CTKI_OUT_OPEN);
    ck_assert (!w.in.left);
    ck_assert_uint_ge (one->out.round, round); /* what is under way of before stays old */
    ck_assert_uint_gt (one->out.gen, gen);
}

/* A full window goes through many times: the figures of credit are right. */
static void expect_full_windows (sender_t *s)
{
    for (int i = 0; i < 20; i++) {
        w.count = looked_at = 0;
        ctki_halves_push (&s->out, false, 30, 150, 1);
        ctki_halves_push (&s->out, true, 1, 5000, 31);
        ctki_halves_push (&s->out, true, 3, 300, 32);
        pass (100);
        expect_got (1, 34);
        ck_assert (ctki_out_empty (&s->out));
        ck_assert_uint_eq (w.in.consumed_byte, w.in.received_byte);
        ck_assert_uint_eq (w.in.consumed_frame, w.in.expected - 1);
        ck_assert_uint_eq (w.in.consumed, w.in.received);
    }
    ck_assert_uint_eq (w.malformed, 0);
}

/* What was lost when the sender removed the receiver is skipped when it comes back, counted exactly, with or without its
 * goodbye; the credit is right afterwards. */
START_TEST (removal_and_return)
{
    w.lazy = _i >= 2;
    open_session (one);
    send_some (one, 1, 5);
    say (one, ALL);
    lose (&one->there, 0, 1); /* so that it went back once */
    pass (20);
    ck_assert_uint_eq (one->out.round, 1);
    send_some (one, 6, 7);
    say (one, ALL);
    bring (&one->there, 3); /* 6 to 8 come, 9 to 12 are lost */
    lose (&one->there, 0, ALL);
    send_some (one, 13, 2); /* never sent */
    remove_and_return (_i % 2 != 0);
    expect_settled (one, 0, 0, 0);
    ck_assert_uint_eq (w.gave_up, 4);
    ck_assert_uint_eq (w.count, 8);
    w.lazy = false;
    eat ();
    expect_works (one);
    expect_full_windows (one);
}
END_TEST

/* The same with an envelope that is half there: the receiver does not wait for its rest. */
START_TEST (removal_of_a_torn_envelope)
{
    open_session (one);
    send_some (one, 1, 2);
    pass (20);
    expect_got (1, 2);
    ctki_halves_push (&one->out, true, 1, 5000, 3); /* five frames */
    if (_i / 2 == 2)
        one->out.credit_frame = 4; /* all the credit there is is used up */
    say (one, 2);
    bring (&one->there, _i / 2 == 1 ? 1 : 2);
    lose (&one->there, 0, ALL);
    if (_i / 2 == 2)
        w.in.credit_frame = 4;
    ck_assert_ptr_nonnull (w.in.partial);
    remove_and_return (_i % 2 != 0);
    ck_assert_ptr_null (w.in.partial);
    ck_assert_uint_eq (w.gave_up, 0); /* it was never whole on its way */
    expect_works (one);
    expect_full_windows (one);
}
END_TEST

/* Nothing was under way: nothing is skipped, and nobody is told that something was. */
START_TEST (removal_at_rest)
{
    open_session (one);
    send_some (one, 1, 5);
    pass (20);
    remove_and_return (true);
    ck_assert_uint_eq (w.gave_up, 0);
    expect_works (one);
    expect_full_windows (one);
}
END_TEST

/* The receiver restarts while it is removed: its next incarnation gets a session of its own, and the tombstone an obituary. */
START_TEST (removal_and_restart)
{
    open_session (one);
    send_some (one, 1, 5);
    pass (20);
    ctki_out_tomb_t tomb;
    ctki_out_dismiss (&one->out);
    ctki_out_bury (&one->out, &tomb);
    break_link (one);
    ctki_out_fini (&one->out);
    start_sender (one, INC_OUT);
    ctki_out_revive (&one->out, &tomb);
    restart_receiver ();
    open_session (one);
    expect_obit (one, 5, 0, 0, CTALK_IN_DOUBT, 0);
    expect_works (one);
    expect_full_windows (one);
}
END_TEST

/* ---- limits and quarantine */

/* Eight frames against the protocol: quarantine, told once; another incarnation is let in after 5 s, not before. */
START_TEST (quarantine)
{
    open_session (one);
    ctki_frame_t bad = ctki_halves_back (CTKI_ACK, one->out.sid, 1);
    for (int i = 1; i <= CTKI_VIOLATIONS; i++) {
        ck_assert (!w.in.quarantined);
        come (one->rid, &bad);
    }
    ck_assert (w.in.quarantined);
    ck_assert_uint_eq (w.refused, CTKI_WHY_QUARANTINED);
    w.refused = 0;
    bring_back (one, ALL);
    ck_assert_uint_eq (one->out.rejected, CTKI_WHY_QUARANTINED);
    send_some (one, 1, 1);
    pass (4000); /* it greets again and again */
    expect_got (1, 0);
    ck_assert_uint_eq (w.refused, 0);
    connect_link (two);
    pass (500);
    ck_assert_int_eq (two->out.state, CTKI_OUT_GREET);
    ck_assert_uint_eq (two->out.rejected, CTKI_WHY_QUARANTINED);
    pass (2500);
    ck_assert_int_eq (two->out.state, CTKI_OUT_OPEN);
    ck_assert (!w.in.quarantined && w.in.inc == INC_OUT + 1);
    expect_works (two);
    for (int i = 1; i < CTKI_VIOLATIONS; i++) { /* it has all its chances again */
        bad.sid = two->out.sid;
        come (two->rid, &bad);
    }
    ck_assert (!w.in.quarantined);
}
END_TEST

/* The incarnation that broke the protocol is never let in again, however long it asks. */
START_TEST (quarantine_is_for_life)
{
    open_session (one);
    ctki_frame_t bad = ctki_halves_back (CTKI_ACK, one->out.sid, 1);
    for (int i = 1; i <= CTKI_VIOLATIONS; i++)
        come (one->rid, &bad);
    send_some (one, 1, 1);
    pass (2 * CTKI_QUARANTINE_MS);
    break_link (one);
    connect_link (one);
    pass (2 * CTKI_QUARANTINE_MS);
    ck_assert_uint_eq (one->out.rejected, CTKI_WHY_QUARANTINED);
    ck_assert_int_eq (one->out.state, CTKI_OUT_GREET);
    ck_assert_uint_eq (w.opened, 1);
    expect_got (1, 0);
}
END_TEST

/* One that does so while this server closes is not waited for. */
START_TEST (quarantine_while_leaving)
{
    open_session (one);
    ctki_in_leave (&w.in, w.now_us);
    ctki_frame_t bad = ctki_halves_back (CTKI_ACK, one->out.sid, 1);
    for (int i = 1; i <= CTKI_VIOLATIONS; i++) {
        ck_assert (!w.in.confirmed);
        come (one->rid, &bad);
    }
    ck_assert (w.in.confirmed);
    ck_assert_int_eq (ctki_in_deadline (&w.in), CTKI_FOREVER);
}
END_TEST

/* A sender whose envelopes may be larger than the receiver takes is refused, and told why; one that may send less is not. */
START_TEST (message_limits)
{
    one->out.setup.message_bytes++;
    connect_link (one);
    now ();
    ck_assert_int_eq (one->out.state, CTKI_OUT_GREET);
    ck_assert_uint_eq (one->out.rejected, CTKI_WHY_LIMITS);
    ck_assert_uint_eq (w.refused, CTKI_WHY_LIMITS);
    one->out.setup.message_bytes -= 2;
    pass (CTKI_HELLO_MAX_MS);
    ck_assert_int_eq (one->out.state, CTKI_OUT_OPEN);
    expect_works (one);
}
END_TEST

/* ---- obituaries */

/* Two consumed, two received, one torn at the receiver, two given and lost, then what was never given whole: each has its fate. */
START_TEST (obituary_exact)
{
    one->out.setup.resend = _i == 1;
    open_session (one);
    send_some (one, 1, 2);
    pass (20);
    w.lazy = true;
    send_some (one, 3, 2);
    pass (20);
    ctki_halves_push (&one->out, false, 2, 10, 5); /* a run: one frame */
    ctki_halves_push (&one->out, true, 1, 2500, 7); /* three frames */
    ctki_halves_push (&one->out, true, 1, 3000, 8);
    say (one, 6); /* 5 and 6, 7, and two of three frames of 8 */
    lose (&one->there, 0, ALL);
    ck_assert_uint_eq (one->out.given, 11);
    ctki_halves_push (&one->out, false, 3, 10, 9);
    restart_receiver ();
    w.lazy = false;
    break_link (one);
    looked_at = w.count;
    connect_link (one);
    now ();
    if (_i == 1)
        expect_obit (one, 2, 2, 3, CTALK_RESENT, 7);
    else
        expect_obit (one, 2, 2, 3, CTALK_IN_DOUBT, 4);
    pass (20);
    if (_i == 1)
        expect_got (5, 7);
    else
        expect_got (8, 4);
    expect_settled (one, _i == 1 ? 11 : 8, _i == 1 ? 0 : 3, _i == 1 ? 0 : 3);
    ck_assert_int_eq (one->charge, 4 * 164 + 5 * 74 + 2564 + 3064); /* all of it was set free, once */
    expect_works (one);
}
END_TEST

/* Where nobody watches, the figures are the same and there is no list; who begins to watch later gets the rest. */
START_TEST (obituary_unwatched)
{
    one->out.watched = false;
    open_session (one);
    w.lazy = true;
    send_some (one, 1, 3);
    pass (20);
    one->out.watched = _i == 1;
    send_some (one, 4, 2);
    pass (20);
    send_some (one, 6, 1);
    say (one, ALL);
    break_link (one);
    restart_receiver ();
    connect_link (one);
    now ();
    ctki_obit_t *obit = ctki_out_obit (&one->out);
    ck_assert_ptr_nonnull (obit);
    ck_assert_uint_eq (obit->received, 5);
    ck_assert_uint_eq (obit->in_doubt, 1);
    ck_assert_uint_eq (obit->count, _i == 1 ? 3 : 0);
    for (size_t i = 0; i < obit->count; i++) {
        ck_assert_int_eq (obit->fate[i].msg_id, (int64_t) (4 + i));
        ck_assert_uint_eq (obit->fate[i].ordinal, 4 + i);
    }
    ctki_free (obit);
}
END_TEST

/* The log of what was received grows without bound by frames, and forgets what was consumed. */
START_TEST (long_log)
{
    open_session (one);
    w.lazy = true;
    ctki_halves_push (&one->out, false, 100, 0, 1); /* of 64 bytes each */
    pass (50);
    ck_assert_uint_eq (one->out.ordinal, 100);
    ck_assert_uint_eq (one->out.log_first, 1);
    w.lazy = false;
    eat ();
    pass (600);
    ck_assert_uint_eq (one->out.log_first, 101);
    for (int i = 0; i < 5; i++) {
        ctki_halves_push (&one->out, false, 100, 0, 1);
        pass (600);
    }
    ck_assert_uint_eq (one->out.log_first, 601);
    ck_assert_uint_le (one->out.log_capacity, 256);
}
END_TEST

/* What is in the log stays there when it grows. */
START_TEST (log_grows)
{
    open_session (one);
    w.lazy = true;
    for (int64_t first = 1; first <= 91; first += 30) {
        ctki_halves_push (&one->out, false, 30, 0, first);
        pass (50);
    }
    break_link (one);
    restart_receiver ();
    connect_link (one);
    now ();
    expect_obit (one, 0, 120, 0, CTALK_IN_DOUBT, 0);
}
END_TEST

/* A receiver that claims to have consumed more than it received is not believed. */
START_TEST (consumed_lie)
{
    open_session (one);
    send_some (one, 1, 3);
    now ();
    ctki_frame_t lie = ctki_halves_back (CTKI_ACK, one->out.sid, 3);
    lie.u.ack.consumed = 1000;
    ck_assert (ctki_out_receive (&one->out, w.now_us, &lie));
    ck_assert_uint_eq (one->out.consumed, 2);
    w.lazy = true;
    restart_receiver ();
    break_link (one);
    connect_link (one);
    now ();
    expect_obit (one, 2, 0, 1, CTALK_IN_DOUBT, 0);
}
END_TEST

/* Without memory for the log an acknowledgement counts as not having come: nothing is settled and nothing lost; it comes again. */
START_TEST (log_without_memory)
{
    open_session (one);
    w.lazy = true;
    send_some (one, 1, 5);
    now ();
    w.now_us += CTKI_ACK_DELAY_MS * CTKI_MS;
    acknowledge ();
    ck_assert_uint_eq (one->back.count, 1);
    ctki_mem_fail (0, -1);
    ck_assert_uint_eq (bring_back (one, 1), 0);
    ctki_mem_fail (-1, 0);
    expect_settled (one, 0, 0, 0);
    ck_assert_uint_eq (one->out.una, 1);
    pass (100);
    expect_settled (one, 5, 0, 0);
    expect_got (1, 5);
    ck_assert_uint_eq (w.duplicates, 0);
    break_link (one);
    restart_receiver ();
    connect_link (one);
    now ();
    expect_obit (one, 0, 5, 0, CTALK_IN_DOUBT, 0);
}
END_TEST

/* Without memory for the obituary a WELCOME counts as not having come: the session stays, and the next one is taken. */
START_TEST (obituary_without_memory)
{
    open_session (one);
    send_some (one, 1, 2);
    say (one, ALL);
    break_link (one);
    restart_receiver ();
    connect_link (one);
    say (one, ALL);
    bring (&one->there, ALL);
    uint64_t sid = one->out.sid;
    ctki_mem_fail (0, -1);
    ck_assert_uint_eq (bring_back (one, ALL), 0);
    ctki_mem_fail (-1, 0);
    ck_assert_uint_eq (one->out.sid, sid);
    ck_assert_int_eq (one->out.state, CTKI_OUT_GREET);
    pass (CTKI_HELLO_MIN_MS);
    ck_assert_uint_ne (one->out.sid, sid);
    expect_obit (one, 0, 0, 2, CTALK_IN_DOUBT, 0);
    expect_settled (one, 0, 2, 2);
    expect_works (one);
}
END_TEST

/* A second restart before the first obituary was collected waits for that: none is lost. */
START_TEST (obituary_not_collected)
{
    open_session (one);
    ctki_proof_t first = {INC_IN + 1, w.now_us + 1, w.now_us + 1}, second = {INC_IN + 2, w.now_us + 2, w.now_us + 2};
    ck_assert (ctki_out_incarnation (&one->out, w.now_us, &first, 1));
    restart_receiver ();
    break_link (one);
    open_session (one);
    ck_assert (!ctki_out_incarnation (&one->out, w.now_us, &second, 1));
    expect_obit (one, 0, 0, 0, CTALK_IN_DOUBT, 0);
    ck_assert (ctki_out_incarnation (&one->out, w.now_us, &second, 1));
}
END_TEST

/* ---- time */

/* Lateness of this process puts every clock off by as much, and never beyond now. */
START_TEST (lateness)
{
    int64_t until_us;
    open_session (one);
    int64_t heard_us = w.now_us;
    w.now_us += 3 * CTKI_S; /* stopped for 3 s, of which 2.6 are not the peer's fault */
    ck_assert_int_eq (ctki_out_peer_state (&one->out, w.now_us, &until_us), CTALK_STATE_SUSPECT);
    ctki_out_late (&one->out, w.now_us, 2600 * CTKI_MS);
    ck_assert_int_eq (ctki_out_peer_state (&one->out, w.now_us, &until_us), CTALK_STATE_UP);
    ck_assert_int_eq (until_us, heard_us + (2600 + 1500) * CTKI_MS);
    ctki_out_late (&one->out, w.now_us, 3600 * CTKI_S);
    ck_assert_int_eq (ctki_out_peer_state (&one->out, w.now_us, &until_us), CTALK_STATE_UP);
    ck_assert_int_eq (until_us, w.now_us + 1500 * CTKI_MS); /* not later than had it just been heard */
    ck_assert_int_eq (ctki_out_peer_state (&one->out, w.now_us + 1500 * CTKI_MS, &until_us), CTALK_STATE_SUSPECT);
}
END_TEST

/* It puts off the death of a link once, by just so much; and of a peer that was never heard. */
START_TEST (lateness_of_a_link)
{
    connect_link (one);
    say (one, 1);
    ck_assert_int_eq (ctki_out_link_deadline (&one->out), w.now_us + CTKI_LINK_BEATS * 500 * CTKI_MS);
    w.now_us += 1900 * CTKI_MS;
    ctki_out_late (&one->out, w.now_us, 1000 * CTKI_MS);
    ck_assert_int_eq (ctki_out_link_deadline (&one->out), w.now_us + 1100 * CTKI_MS);
    int64_t until_us;
    ck_assert_int_eq (ctki_out_peer_state (&one->out, w.now_us, &until_us), CTALK_STATE_CONNECTING);
    ck_assert_int_eq (until_us, w.now_us + (5000 - 1900 + 1000) * CTKI_MS);
    ctki_out_link_down (&one->out, w.now_us);
    int64_t dead_us = ctki_out_link_deadline (&one->out);
    w.now_us += 500 * CTKI_MS;
    ctki_out_late (&one->out, w.now_us, 300 * CTKI_MS);
    ck_assert_int_eq (ctki_out_link_deadline (&one->out), dead_us + 300 * CTKI_MS);
}
END_TEST

/* A link is dead four heartbeats after a HELLO, or a PING, that nothing answered; any answer on it starts anew. */
START_TEST (dead_unanswered)
{
    connect_link (one);
    say (one, ALL);
    int64_t asked_us = w.now_us;
    w.now_us += 200 * CTKI_MS;
    say (one, ALL); /* another HELLO: the first one counts */
    ck_assert (!ctki_out_link_dead (&one->out, asked_us + 2000 * CTKI_MS - 1));
    ck_assert (ctki_out_link_dead (&one->out, asked_us + 2000 * CTKI_MS));
    now ();
    ck_assert_int_eq (ctki_out_link_deadline (&one->out), CTKI_FOREVER);
    pass (10000); /* idle, and all that it asks is answered */
    ck_assert (!ctki_out_link_dead (&one->out, w.now_us));
    w.mute = true;
    while (one->out.asked_us == 0)
        pass (1);
    asked_us = one->out.asked_us;
    ctki_out_heard (&one->out, w.now_us); /* on the other connection: that says nothing of this one */
    ck_assert_int_eq (ctki_out_link_deadline (&one->out), asked_us + 2000 * CTKI_MS);
    w.now_us += 1900 * CTKI_MS;
    hear_of_link (one); /* a new connection has all the time again */
    say (one, 1);
    ck_assert_int_eq (ctki_out_link_deadline (&one->out), w.now_us + 2000 * CTKI_MS);
}
END_TEST

/* A link that takes nothing more is dead four heartbeats later, if nothing comes on it. */
START_TEST (dead_blocked)
{
    open_session (one);
    ctki_out_blocked (&one->out, w.now_us);
    ctki_out_blocked (&one->out, w.now_us + 1000);
    ck_assert_int_eq (ctki_out_link_deadline (&one->out), w.now_us + 2000 * CTKI_MS);
    ctki_in_hurry (&w.in, w.now_us);
    now ();
    ck_assert_int_eq (ctki_out_link_deadline (&one->out), CTKI_FOREVER);
}
END_TEST

/* Without a connection it is made anew after 2 s and an eighth more or less, spread by the draw. */
START_TEST (dead_unconnected)
{
    enum { DRAWS = 200 };
    int64_t least = INT64_MAX, most = 0;
    for (uint64_t i = 0; i < DRAWS; i++) {
        ctki_out_link_made (&one->out, w.now_us, i * UINT64_C (0x9e3779b97f4a7c15));
        int64_t wait_us = ctki_out_link_deadline (&one->out) - w.now_us;
        least = CTKI_MIN (least, wait_us);
        most = CTKI_MAX (most, wait_us);
    }
    ck_assert_int_ge (least, 1750 * CTKI_MS);
    ck_assert_int_lt (most, 2250 * CTKI_MS);
    ck_assert_int_gt (most - least, 400 * CTKI_MS);
    open_session (one);
    w.now_us += CTKI_S;
    ctki_out_link_down (&one->out, w.now_us); /* from when it went */
    ck_assert_int_ge (ctki_out_link_deadline (&one->out), w.now_us + 1750 * CTKI_MS);
}
END_TEST

/* Acknowledgements come, and say nothing new for 5 s though frames are out: the link is dead. One that does starts anew. */
START_TEST (dead_without_progress)
{
    open_session (one);
    send_some (one, 1, 2);
    say (one, ALL);
    int64_t sent_us = w.now_us;
    for (int i = 0; i < 49; i++) {
        w.now_us += 100 * CTKI_MS;
        ctki_frame_t frame = ctki_halves_back (CTKI_ACK, one->out.sid, 1);
        ck_assert (ctki_out_receive (&one->out, w.now_us, &frame));
        ck_assert (!ctki_out_link_dead (&one->out, w.now_us));
    }
    ck_assert_int_eq (ctki_out_link_deadline (&one->out), sent_us + CTKI_PROGRESS_MS * CTKI_MS);
    ctki_frame_t frame = ctki_halves_back (CTKI_ACK, one->out.sid, 2);
    ck_assert (ctki_out_receive (&one->out, w.now_us, &frame));
    ck_assert_int_eq (ctki_out_link_deadline (&one->out), w.now_us + CTKI_PROGRESS_MS * CTKI_MS);
}
END_TEST

/* A heartbeat that is long makes every clock of the link long: progress is not asked for before four of them. */
START_TEST (dead_slowly)
{
    one->out.setup.heartbeat_us = 2 * CTKI_S;
    open_session (one);
    send_some (one, 1, 1);
    say (one, ALL);
    ck_assert_int_eq (ctki_out_link_deadline (&one->out), w.now_us + 8 * CTKI_S);
}
END_TEST

/* An idle session costs one exchange per heartbeat, and its link is asked at least once per SuspectMs. */
START_TEST (idle)
{
    open_session (one);
    uint64_t pings = 0;
    int64_t end_us = w.now_us + 10 * CTKI_S;
    for (; w.now_us < end_us; w.now_us += 50 * CTKI_MS) {
        ctki_out_heard (&one->out, w.now_us); /* the other way is busy */
        pings += one->out.ping_us == w.now_us;
        unsigned said = say (one, ALL);
        pings += said;
        now ();
    }
    ck_assert_uint_ge (pings, 6);
    ck_assert_uint_le (pings, 8);
}
END_TEST

/* The receiver tells for how long its application has taken nothing while something waits. */
START_TEST (stuck)
{
    open_session (one);
    w.lazy = true;
    pass (1000);
    ck_assert_uint_eq (one->out.stuck_ms, 0); /* nothing waits */
    send_some (one, 1, 2);
    pass (3000);
    ck_assert_uint_ge (one->out.stuck_ms, 2400);
    ck_assert_uint_le (one->out.stuck_ms, 3000);
    eat ();
    pass (600);
    ck_assert_uint_eq (one->out.stuck_ms, 0);
}
END_TEST

static TCase *scenes (const char *name)
{
    TCase *tcase = tcase_create (name);
    tcase_add_checked_fixture (tcase, set_up, tear_down);
    return tcase;
}

static TCase *tcase_traces (void)
{
    TCase *tcase = scenes ("traces");
    tcase_add_test (tcase, plain_start);
    tcase_add_test (tcase, reset_and_greet);
    tcase_add_test (tcase, reset_unnoticed);
    tcase_add_test (tcase, old_tail_after_new_head);
    tcase_add_test (tcase, old_tail_after_report);
    tcase_add_test (tcase, receiver_restarts);
    tcase_add_test (tcase, sender_restarts);
    tcase_add_test (tcase, both_restart);
    tcase_add_test (tcase, ack_path_dead);
    tcase_add_test (tcase, lost_credit);
    tcase_add_test (tcase, closed_again);
    return tcase;
}

static TCase *tcase_one_pid (void)
{
    TCase *tcase = scenes ("one pid");
    tcase_add_test (tcase, duplicate_answered);
    tcase_add_test (tcase, duplicate_silent);
    tcase_add_test (tcase, duplicate_unreachable);
    tcase_add_test (tcase, probe_echo);
    tcase_add_test (tcase, probe_of_a_former_receiver);
    return tcase;
}

static TCase *tcase_losses (void)
{
    TCase *tcase = scenes ("losses");
    tcase_add_test (tcase, first_lost);
    tcase_add_test (tcase, last_lost);
    tcase_add_test (tcase, first_and_last_lost);
    tcase_add_test (tcase, ack_lost);
    tcase_add_test (tcase, welcome_lost);
    tcase_add_test (tcase, ack_over_a_restart);
    tcase_add_test (tcase, sender_forgets);
    tcase_add_test (tcase, receiver_forgets);
    tcase_add_test (tcase, half_open_then_real);
    tcase_add_test (tcase, to_the_departed);
    tcase_add_test (tcase, leaving_with_frames_under_way);
    tcase_add_test (tcase, last_word_lost);
    return tcase;
}

static TCase *tcase_removal (void)
{
    TCase *tcase = scenes ("removal");
    tcase_add_loop_test (tcase, removal_and_return, 0, 4);
    tcase_add_loop_test (tcase, removal_of_a_torn_envelope, 0, 6);
    tcase_add_test (tcase, removal_at_rest);
    tcase_add_test (tcase, removal_and_restart);
    return tcase;
}

static TCase *tcase_limits (void)
{
    TCase *tcase = scenes ("limits");
    tcase_add_test (tcase, quarantine);
    tcase_add_test (tcase, quarantine_is_for_life);
    tcase_add_test (tcase, quarantine_while_leaving);
    tcase_add_test (tcase, message_limits);
    return tcase;
}

static TCase *tcase_obituaries (void)
{
    TCase *tcase = scenes ("obituaries");
    tcase_add_loop_test (tcase, obituary_exact, 0, 2);
    tcase_add_loop_test (tcase, obituary_unwatched, 0, 2);
    tcase_add_test (tcase, long_log);
    tcase_add_test (tcase, log_grows);
    tcase_add_test (tcase, consumed_lie);
    tcase_add_test (tcase, log_without_memory);
    tcase_add_test (tcase, obituary_without_memory);
    tcase_add_test (tcase, obituary_not_collected);
    return tcase;
}

static TCase *tcase_time (void)
{
    TCase *tcase = scenes ("time");
    tcase_add_test (tcase, lateness);
    tcase_add_test (tcase, lateness_of_a_link);
    tcase_add_test (tcase, dead_unanswered);
    tcase_add_test (tcase, dead_blocked);
    tcase_add_test (tcase, dead_unconnected);
    tcase_add_test (tcase, dead_without_progress);
    tcase_add_test (tcase, dead_slowly);
    tcase_add_test (tcase, idle);
    tcase_add_test (tcase, stuck);
    return tcase;
}

Suite *ctki_suite_scenes (void)
{
    Suite *suite = suite_create ("scenes");
    suite_add_tcase (suite, tcase_traces ());
    suite_add_tcase (suite, tcase_one_pid ());
    suite_add_tcase (suite, tcase_losses ());
    suite_add_tcase (suite, tcase_removal ());
    suite_add_tcase (suite, tcase_limits ());
    suite_add_tcase (suite, tcase_obituaries ());
    suite_add_tcase (suite, tcase_time ());
    return suite;
}
