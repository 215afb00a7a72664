/*
 * test_table_out.c - the sending half as a table: each state times each frame,
 * each event of the link, each timer and each wish of its owner. A cell names
 * the next state, the frames that follow at once and the facts; or, when nothing
 * at all may change, the reason why.
 */
#include <check.h>

#include "src/mem.h"
#include "src/session.h"
#include "src/sys.h"
#include "tests/support/halves.h"
#include "tests/support/table.h"

Suite *ctki_suite_table_out (void);

#define SID CTKI_HALVES_SID
#define NONCE CTKI_HALVES_NONCE
#define INC CTKI_HALVES_INC_IN
#define NOW ((int64_t) CTKI_HALVES_START_US)

/* ---- the states: those of the code, each with the pasts that matter */

typedef enum {
    NEW_NOLINK, /* just made */
    NOLINK,     /* three frames sent and not acknowledged, then the connection went */
    LEFT_NOLINK, /* the same after the receiver took its leave: two kept */
    NEW_GREET,  /* connected, greeted, not answered */
    REJECTED,   /* the same, and refused */
    GREET,      /* connected again with three frames not acknowledged */
    REVIVED,    /* the same after a removal: nothing left but the numbers */
    OPEN,       /* a session, nothing to do */
    BUSY,       /* three frames sent and not acknowledged */
    AGAIN,      /* resumed: the first of three acknowledged, the others sent a second time */
    STALLED,    /* an envelope and no credit for it */
    LEAVING,    /* the receiver takes its leave: two envelopes are kept */
    DRAINING,   /* told to close with three frames not acknowledged */
    CLOSING,    /* told to close, all acknowledged: BYE was said */
    ENDED,
    STATES
} state_t;

static const char *const state_names[STATES] = {"new, no link", "no link", "left, no link", "new greeting", "rejected",
                                                "greeting", "revived", "open", "busy", "resumed", "stalled",
                                                "leaving", "draining", "closing", "ended"};

static bool hear (ctki_out_t *out, ctki_frame_t frame)
{
    return ctki_out_receive (out, NOW, &frame);
}

/* Sends all that goes now; writes a letter for each frame. */
static char *say_all (ctki_out_t *out, int64_t now_us, char *text)
{
    static const char letters[] = "?HwDaPrB";
    ctki_emit_t emit;
    for (int i = 0; ctki_out_next (out, now_us, &emit); i++) {
        ck_assert_int_lt (i, 30);
        unsigned flags = emit.frame.flags;
        bool seen = emit.frame.type == CTKI_PING && (flags & CTKI_F_LEAVING_SEEN);
        bool echo = emit.frame.type == CTKI_PING && emit.frame.u.ping.probe;
        *text++ = seen ? 'L' : echo ? 'E' : letters[emit.frame.type];
        ctki_out_sent (out, now_us, &emit);
    }
    *text = '\0';
    return text;
}

static void start (ctki_out_t *out)
{
    ctki_session_setup_t setup = ctki_halves_setup (CTKI_HALVES_SELF, CTKI_HALVES_PEER, CTKI_HALVES_INC_OUT);
    ctki_out_init (out, &setup, NOW);
}

static void expect_said (ctki_out_t *out, const char *expected)
{
    char text[64];
    say_all (out, NOW, text);
    ck_assert_str_eq (text, expected);
}

static void connect_it (ctki_out_t *out)
{
    ctki_out_link_up (out, NOW, NONCE);
    expect_said (out, "H");
}

static void bring_open (ctki_out_t *out)
{
    start (out);
    connect_it (out);
    ck_assert (hear (out, ctki_halves_welcome (SID, 1, false, INC)));
    expect_said (out, "P");
    ck_assert (hear (out, ctki_halves_ack (1, 0, 0)));
}

static void bring_busy (ctki_out_t *out)
{
    bring_open (out);
    ctki_halves_push (out, true, 3, 500, 1);
    expect_said (out, "DDD");
}

static void bring_leaving (ctki_out_t *out)
{
    bring_busy (out);
    ck_assert (hear (out, ctki_halves_ack (2, CTKI_F_LEAVING, 0)));
    expect_said (out, "L");
}

static void bring_again (ctki_out_t *out)
{
    bring_busy (out);
    ctki_out_link_down (out, NOW);
    connect_it (out);
    ck_assert (hear (out, ctki_halves_welcome (SID, 2, true, INC)));
    expect_said (out, "PDD");
    ck_assert (hear (out, ctki_halves_ack (2, 0, 1)));
}

static void bring_stalled (ctki_out_t *out)
{
    bring_open (out);
    out->credit_frame = 0;
    ctki_halves_push (out, true, 1, 500, 1);
    expect_said (out, "");
}

static void bring_closing (ctki_out_t *out)
{
    bring_open (out);
    ctki_out_close (out, NOW);
    expect_said (out, "B");
}

static void bring_revived (ctki_out_t *out)
{
    ctki_out_tomb_t tomb = {.sid = SID, .peer_inc = INC, .next = 4, .ordinal = 3, .charge = 1692};
    start (out);
    ctki_out_revive (out, &tomb);
    connect_it (out);
}

static void bring_to (ctki_out_t *out, state_t state)
{
    switch (state) {
    case NEW_NOLINK:
        start (out);
        break;
    case NOLINK:
    case GREET:
        bring_busy (out);
        ctki_out_link_down (out, NOW);
        if (state == GREET)
            connect_it (out);
        break;
    case LEFT_NOLINK:
        bring_leaving (out);
        ctki_out_link_down (out, NOW);
        break;
    case NEW_GREET:
    case REJECTED:
        start (out);
        connect_it (out);
        if (state == REJECTED)
            ck_assert (hear (out, ctki_halves_reason (CTKI_REJECT, 0, CTKI_WHY_CLUSTER)));
        break;
    case REVIVED:
        bring_revived (out);
        break;
    case OPEN:
        bring_open (out);
        break;
    case BUSY:
    case DRAINING:
        bring_busy (out);
        if (state == DRAINING)
            ctki_out_close (out, NOW);
        expect_said (out, state == DRAINING ? "P" : "");
        break;
    case AGAIN:
        bring_again (out);
        break;
    case STALLED:
        bring_stalled (out);
        break;
    case LEAVING:
        bring_leaving (out);
        break;
    default:
        bring_closing (out);
        if (state == ENDED)
            ck_assert (hear (out, ctki_halves_back (CTKI_BYE_ACK, SID, 1)));
    }
    memset (&out->settled, 0, sizeof out->settled);
}

/* ---- the events */

/* Each does one thing; false: a frame that was not taken. *now_us: the time after it. */
typedef bool (*act_t) (ctki_out_t *out, int64_t *now_us);

#define FRAME(name, frame)                                                                                             \
    static bool name (ctki_out_t *out, int64_t *now_us)                                                                \
    {                                                                                                                  \
        return ctki_out_receive (out, ++*now_us, &(ctki_frame_t[]) {frame}[0]);                                        \
    }

/* Of the other direction, of another version, of no known type. */
FRAME (hello_frame, ctki_halves_hello (CTKI_HALVES_INC_OUT, SID, 1))
FRAME (data_frame, ctki_halves_data (SID, 1))
FRAME (ping_frame, ctki_halves_there (CTKI_PING, SID, 1))
FRAME (bye_frame, ctki_halves_there (CTKI_BYE, SID, 1))
FRAME (unknown_frame, ctki_halves_back ((ctki_type_t) 99, SID, 1))

static ctki_frame_t newer (ctki_frame_t frame)
{
    frame.version++;
    return frame;
}
FRAME (other_version, newer (ctki_halves_ack (1, CTKI_F_GAP, 0)))

/* WELCOME */
static ctki_frame_t nonce (ctki_frame_t frame)
{
    frame.u.welcome.nonce++;
    return frame;
}
FRAME (welcome_new, ctki_halves_welcome (SID + 1, 1, false, INC))
FRAME (welcome_new_inc, ctki_halves_welcome (SID + 1, 1, false, INC + 1))
FRAME (welcome_same_sid, ctki_halves_welcome (SID, 1, false, INC))
FRAME (welcome_resumed, ctki_halves_welcome (SID, 4, true, INC))
FRAME (welcome_far, ctki_halves_welcome (SID, 5, true, INC))
FRAME (welcome_foreign, ctki_halves_welcome (SID + 1, 1, true, INC))
FRAME (welcome_nonce, nonce (ctki_halves_welcome (SID + 1, 1, false, INC + 1)))
FRAME (welcome_no_sid, ctki_halves_welcome (0, 1, false, INC + 1))
FRAME (welcome_not_one, ctki_halves_welcome (SID + 1, 2, false, INC + 1))

static bool welcome_no_memory (ctki_out_t *out, int64_t *now_us)
{
    ctki_frame_t frame = ctki_halves_welcome (SID + 1, 1, false, INC + 1);
    ctki_mem_fail (0, -1);
    bool taken = ctki_out_receive (out, ++*now_us, &frame);
    ctki_mem_fail (-1, 0);
    return taken;
}

/* ACK; n relative to what is not acknowledged yet */
static ctki_frame_t una_plus (const ctki_out_t *out, uint64_t more, unsigned flags, uint32_t round)
{
    ctki_frame_t frame = ctki_halves_ack (out->una + more, flags, round);
    frame.u.ack.probe = flags & CTKI_F_PROBE ? 5 : 0;
    frame.u.ack.stamp = NOW - 1000;
    return frame;
}
static ctki_frame_t of_another (ctki_frame_t frame)
{
    frame.sid++;
    return frame;
}
static ctki_frame_t richer (ctki_frame_t frame)
{
    frame.u.ack.credit_frame++;
    return frame;
}
FRAME (ack_nothing, una_plus (out, 0, 0, out->round))
FRAME (ack_all, una_plus (out, out->given - out->una, 0, out->round))
FRAME (ack_far, una_plus (out, out->given - out->una + 1, 0, out->round))
FRAME (ack_below, una_plus (out, UINT64_MAX, 0, out->round))
FRAME (ack_foreign, of_another (una_plus (out, 0, 0, 0)))
FRAME (ack_gap, una_plus (out, 0, CTKI_F_GAP, out->round))
FRAME (ack_old_gap, una_plus (out, 0, CTKI_F_GAP, out->round - 1))
FRAME (ack_probe, una_plus (out, 0, CTKI_F_PROBE, out->round))
FRAME (ack_pong, una_plus (out, 0, CTKI_F_PONG, out->round))
FRAME (ack_credit, richer (una_plus (out, 0, 0, out->round)))
FRAME (ack_leaving, una_plus (out, 0, CTKI_F_LEAVING, out->round))

/* The rest */
FRAME (reset_mine, ctki_halves_reason (CTKI_RESET, SID, CTKI_WHY_UNKNOWN_SID))
FRAME (reset_foreign, ctki_halves_reason (CTKI_RESET, SID + 1, CTKI_WHY_UNKNOWN_SID))
FRAME (bye_ack_mine, ctki_halves_reason (CTKI_BYE_ACK, SID, CTKI_WHY_CLOSING))
FRAME (bye_ack_foreign, ctki_halves_reason (CTKI_BYE_ACK, SID + 1, CTKI_WHY_CLOSING))
FRAME (reject_greeting, ctki_halves_reason (CTKI_REJECT, 0, CTKI_WHY_PID))
FRAME (reject_closing, ctki_halves_reason (CTKI_REJECT, 0, CTKI_WHY_CLOSING))
FRAME (reject_session, ctki_halves_reason (CTKI_REJECT, SID, CTKI_WHY_QUARANTINED))
FRAME (reject_foreign, ctki_halves_reason (CTKI_REJECT, SID + 1, CTKI_WHY_QUARANTINED))

#define EVENT(name, call)                                                                                              \
    static bool name (ctki_out_t *out, int64_t *now_us)                                                                \
    {                                                                                                                  \
        (void) now_us;                                                                                                 \
        call;                                                                                                          \
        return true;                                                                                                   \
    }

/* The link, and this process's own clock */
EVENT (link_up, ctki_out_link_up (out, NOW, NONCE + 1))
EVENT (link_down, ctki_out_link_down (out, NOW))
EVENT (link_made, ctki_out_link_made (out, NOW, 0))
static bool link_kept (ctki_out_t *out, int64_t *now_us)
{
    *now_us += 2300 * CTKI_MS; /* every clock of a link has run out but that of progress */
    ctki_out_link_kept (out, *now_us);
    return true;
}
EVENT (blocked, ctki_out_blocked (out, NOW))
EVENT (hurry, ctki_out_hurry (out, NOW))
EVENT (heard, ctki_out_heard (out, NOW + 1))
EVENT (late, ctki_out_late (out, *now_us += 100 * CTKI_MS, 60 * CTKI_MS))

/* What the other connection proved */
static bool ask (ctki_out_t *out, int64_t now_us, uint64_t inc, int64_t alive_us)
{
    ctki_proof_t proof = {.inc = inc, .from_us = alive_us, .to_us = alive_us};
    return ctki_out_incarnation (out, now_us, &proof, NONCE + 1);
}
EVENT (asked_same, ck_assert (ask (out, NOW, out->peer_inc, NOW)))
EVENT (asked_later, ck_assert (ask (out, ++*now_us, INC + 1, NOW + 1)))
EVENT (asked_earlier, ck_assert (ask (out, NOW, INC + 1, NOW - 1)))
EVENT (asked_at_once, (void) ask (out, NOW, INC + 1, NOW))

static bool asked_no_memory (ctki_out_t *out, int64_t *now_us)
{
    (void) now_us;
    ctki_mem_fail (0, -1);
    bool done = ask (out, NOW + 1, INC + 1, NOW + 1);
    ctki_mem_fail (-1, 0);
    return done;
}

/* Its owner */
EVENT (push_one, ctki_halves_push (out, true, 1, 500, 9))
EVENT (flush, ctki_out_flush (out))
EVENT (close_it, ctki_out_close (out, NOW))
EVENT (dismiss, (ctki_out_dismiss (out), ctki_out_close (out, NOW)))
EVENT (abandon, ctki_out_abandon (out))

/* Time */
#define AFTER(name, step)                                                                                              \
    static bool name (ctki_out_t *out, int64_t *now_us)                                                                \
    {                                                                                                                  \
        (void) out;                                                                                                    \
        step;                                                                                                          \
        return true;                                                                                                   \
    }
AFTER (after_20, *now_us += CTKI_ACK_WAIT_MS * CTKI_MS)
AFTER (after_100, *now_us += CTKI_BYE_MS * CTKI_MS)
AFTER (after_200, *now_us += CTKI_HELLO_MIN_MS * CTKI_MS)
AFTER (after_500, *now_us += 500 * CTKI_MS)
AFTER (after_1750, *now_us += 1750 * CTKI_MS)
AFTER (after_2000, *now_us += 2000 * CTKI_MS)
AFTER (after_5000, *now_us += 5000 * CTKI_MS)

/* ---- the table */

/* A cell: "state/frames/facts", or "=" and the letter of a reason: nothing changes.
 *
 *   state    n no link, g greeting, o open, e ended
 *   frames   that go at once: H HELLO, P PING, L PING with LEAVING-SEEN, E PING with
 *            the number of a probe, D DATA, B BYE
 *   facts    s session changed, + delivered, ! abandoned, ? of those in doubt, x obituary,
 *            r goes back, l the receiver takes its leave (or does no more), j refused (or no
 *            more), c more credit, m round trip measured, k the link is dead
 */
typedef struct {
    const char *name;
    act_t act;
    const char *cells;
} row_t;

static const ctki_table_reason_t reasons[] = {
    {'d', "it belongs to the other direction"},
    {'t', "no frame has this type"},
    {'v', "it speaks another version of the protocol"},
    {'e', "all is over: nothing is taken any more"},
    {'g', "nobody greets: it answers nothing"},
    {'n', "it answers a greeting of another connection"},
    {'i', "no receiver offers that"},
    {'s', "it is about another session"},
    {'h', "there is no session yet that it could be about"},
    {'f', "nobody can have received what was not sent"},
    {'b', "it is older than one that came before"},
    {'m', "without memory it counts as not having come"},
    {'r', "what it asks for is under way, or begins with the next connection"},
    {'y', "no BYE was said"},
    {'j', "it refuses a greeting, and there is none"},
    {'q', "nothing is due yet"},
    {'a', "it is so already"},
    {'o', "the session is with one that was alive later"},
    {'w', "whoever is there is greeted when there is a connection"},
    {'k', "there is nothing that could be given up"},
};

/* clang-format off */
static const row_t rows[] = {
    /* not open: new, no link | no link | left, no link | new greeting | rejected | greeting | revived
     * open: open | busy | resumed | stalled | leaving | draining | closing; ended */

    /* frames that are not for a sender */
    {"a HELLO", hello_frame,
     "=d       =d       =d       =d       =d       =d       =d "
     "=d      =d      =d      =d      =d      =d      =d      =e"},
    {"DATA", data_frame,
     "=d       =d       =d       =d       =d       =d       =d "
     "=d      =d      =d      =d      =d      =d      =d      =e"},
    {"a PING", ping_frame,
     "=d       =d       =d       =d       =d       =d       =d "
     "=d      =d      =d      =d      =d      =d      =d      =e"},
    {"a BYE", bye_frame,
     "=d       =d       =d       =d       =d       =d       =d "
     "=d      =d      =d      =d      =d      =d      =d      =e"},
    {"an unknown type", unknown_frame,
     "=t       =t       =t       =t       =t       =t       =t "
     "=t      =t      =t      =t      =t      =t      =t      =e"},
    {"another version", other_version,
     "=v       =v       =v       =v       =v       =v       =v "
     "=v      =v      =v      =v      =v      =v      =v      =e"},
    /* answers to a greeting */
    {"WELCOME: new, same incarnation", welcome_new,
     "=g       =g       =g       o/P/sc   o/P/sjc  o/P/s!?x o/P/sxc "
     "=g      =g      =g      =g      =g      =g      =g      =e"},
    {"WELCOME: new, another incarnation", welcome_new_inc,
     "=g       =g       =g       o/P/sc   o/P/sjc  o/P/s!?x o/P/sxc "
     "=g      =g      =g      =g      =g      =g      =g      =e"},
    {"WELCOME: the same session offered again", welcome_same_sid,
     "=g       =g       =g       o/P/sc   o/P/sjc  o/PDDD/r =b "
     "=g      =g      =g      =g      =g      =g      =g      =e"},
    {"WELCOME: resumed, all had come", welcome_resumed,
     "=g       =g       =g       =h       =h       o/P/+    o/P/c "
     "=g      =g      =g      =g      =g      =g      =g      =e"},
    {"WELCOME: resumed above what was sent", welcome_far,
     "=g       =g       =g       =f       =f       =f       =f "
     "=g      =g      =g      =g      =g      =g      =g      =e"},
    {"WELCOME: resumed, another session", welcome_foreign,
     "=g       =g       =g       =s       =s       =s       =s "
     "=g      =g      =g      =g      =g      =g      =g      =e"},
    {"WELCOME: to an older greeting", welcome_nonce,
     "=g       =g       =g       =n       =n       =n       =n "
     "=g      =g      =g      =g      =g      =g      =g      =e"},
    {"WELCOME: new without an id", welcome_no_sid,
     "=g       =g       =g       =i       =i       =i       =i "
     "=g      =g      =g      =g      =g      =g      =g      =e"},
    {"WELCOME: new, not from frame 1", welcome_not_one,
     "=g       =g       =g       =i       =i       =i       =i "
     "=g      =g      =g      =g      =g      =g      =g      =e"},
    {"WELCOME: new, and no memory", welcome_no_memory,
     "=g       =g       =g       o/P/sc   o/P/sjc  =m       =m "
     "=g      =g      =g      =g      =g      =g      =g      =e"},
    /* acknowledgements */
    {"ACK of nothing new", ack_nothing,
     "=h       n//      n//      =h       =h       g//      g//c "
     "o//     o//     o//     o/D/c   o//     o//     o//     =e"},
    {"ACK of all", ack_all,
     "=h       n//+     n//      =h       =h       g//+     g//c "
     "o//     o//+    o//+    o/D/c   o//     o/B/+   o//     =e"},
    {"ACK above what was sent", ack_far,
     "=h       =f       =f       =h       =h       =f       =f "
     "=f      =f      =f      =f      =f      =f      =f      =e"},
    {"ACK below the last", ack_below,
     "=h       =b       =b       =h       =h       =b       =b "
     "=b      =b      =b      =b      =b      =b      =b      =e"},
    {"ACK of another session", ack_foreign,
     "=h       =s       =s       =h       =h       =s       =s "
     "=s      =s      =s      =s      =s      =s      =s      =e"},
    {"ACK with a GAP of this round", ack_gap,
     "=h       n//r     n//      =h       =h       g//r     g//c "
     "o//     o/DDD/r o/DD/r  o/D/c   o//     o/DDD/r o//     =e"},
    {"ACK with a GAP of the round before", ack_old_gap,
     "=h       n//      n//      =h       =h       g//      g//c "
     "o//     o//     o//     o/D/c   o//     o//     o//     =e"},
    {"ACK with a PROBE", ack_probe,
     "=h       n//      n//      =h       =h       g//      g//c "
     "o/E/    o/E/    o/E/    o/ED/c  o/E/    o/E/    o/E/    =e"},
    {"ACK that answers a PING", ack_pong,
     "=h       n//m     n//m     =h       =h       g//m     g//cm "
     "o//m    o//m    o//m    o/D/cm  o//m    o//m    o//m    =e"},
    {"ACK with more credit", ack_credit,
     "=h       n//c     n//c     =h       =h       g//c     g//c "
     "o//c    o//c    o//c    o/D/c   o//c    o//c    o//c    =e"},
    {"ACK: LEAVING", ack_leaving,
     "=h       n//l     n//      =h       =h       g//l     g//lc "
     "o/L/l   o/L/l   o/L/l   o/L/lc  o/L/    e/L/!l  e/L/l   =e"},
    /* the rest of the frames */
    {"RESET", reset_mine,
     "=h       =r       =r       =h       =h       =r       =r "
     "g/H/    g/H/    g/H/    g/H/    g/H/    g/H/    e//     =e"},
    {"RESET of another session", reset_foreign,
     "=s       =s       =s       =s       =s       =s       =s "
     "=s      =s      =s      =s      =s      =s      =s      =e"},
    {"BYE-ACK", bye_ack_mine,
     "=h       =y       =y       =h       =h       =y       =y "
     "=y      =y      =y      =y      =y      =y      e//     =e"},
    {"BYE-ACK of another session", bye_ack_foreign,
     "=s       =s       =s       =s       =s       =s       =s "
     "=s      =s      =s      =s      =s      =s      =s      =e"},
    {"REJECT of a greeting", reject_greeting,
     "=j       =j       =j       g//j     g//j     g//j     g//j "
     "=j      =j      =j      =j      =j      =j      =j      =e"},
    {"REJECT: closing", reject_closing,
     "=j       =j       =j       g//lj    g//lj    g//lj    g//lj "
     "=j      =j      =j      =j      =j      =j      =j      =e"},
    {"REJECT of the session", reject_session,
     "=s       =j       =j       =s       =s       g//j     g//j "
     "g//j    g//j    g//j    g//j    g//j    g//j    e//j    =e"},
    {"REJECT of another session", reject_foreign,
     "=s       =s       =s       =s       =s       =s       =s "
     "=s      =s      =s      =s      =s      =s      =s      =e"},
    /* the link, and the clock of this process */
    {"connected", link_up,
     "g/H/     g/H/     g/H/     g/H/     g/H/     g/H/     g/H/ "
     "g/H/    g/H/    g/H/    g/H/    g/H/    g/H/    e//     =e"},
    {"disconnected", link_down,
     "=a       =a       =a       n//      n//      n//      n// "
     "n//     n//     n//     n//     n//     n//     e//     =e"},
    {"a link made anew", link_made,
     "=a       =a       =a       n//      n//      n//      n// "
     "n//     n//     n//     n//     n//     n//     e//     =e"},
    {"a dead link is kept", link_kept,
     "n//      n//      n//      g/H/     g/H/     g/H/     g/H/ "
     "o/P/    o/P/    o/P/    o/P/    o/P/    o/P/    o/PB/   e//"},
    {"the link is full", blocked,
     "n//      n//      =a       =a       g//      =a       =a "
     "o//     o//     o//     o//     =a      =a      =a      e//"},
    {"hurry", hurry,
     "n//      n//      n//      g/H/     g/H/     g/H/     g/H/ "
     "o/P/    o/P/    o/P/    o/P/    o/P/    o/P/    o/P/    e//"},
    {"heard on the other connection", heard,
     "n//      n//      n//      g//      g//      g//      g// "
     "o//     o//     o//     o//     o//     o//     o//     e//"},
    {"this process was late", late,
     "n//      n//      n//      g//      g//      g//      g// "
     "o//     o/P/    o/P/    o//     o//     o/P/    o/B/    e//"},
    /* what the other connection proves */
    {"asked: the incarnation that is known", asked_same,
     "=a       =a       =a       =a       =a       =a       =a "
     "=a      =a      =a      =a      =a      =a      =a      =e"},
    {"asked: one that was alive before", asked_earlier,
     "n//x     =o       =o       g/H/x    g/H/x    =o       g/H/sx "
     "=o      =o      =o      =o      =o      =o      =o      =e"},
    {"asked: which was later is not known", asked_at_once,
     "n//x     =w       =w       g/H/x    g/H/x    g/H/     g/H/sx "
     "g/H/    g/H/    g/H/    g/H/    g/H/    g/H/    e//     =e"},
    {"asked: another incarnation, later", asked_later,
     "n//x     n//s!?x  n//sxl   g/H/x    g/H/x    g/H/s!?x g/H/sx "
     "g/H/sx  g/H/s!?x g/H/s!?x g/H/sx  g/H/sxl e//s!?x e//sx   =e"},
    {"the same without memory", asked_no_memory,
     "=m       =m       =m       =m       =m       =m       =m "
     "=m      =m      =m      =m      =m      =m      =m      =e"},
    /* its owner */
    {"an envelope to send", push_one,
     "n//      n//      n//      g//      g//      g//      g// "
     "o/D/    o/D/    o/D/    o//     o//     o/D/    o/D/    e//"},
    {"flush", flush,
     "n//      n//      n//      g//      g//      g//      g// "
     "o//     o/P/    o/P/    o//     o//     o/P/    =a      =e"},
    {"close", close_it,
     "e//      n//      e//!     e//      e//      g//      e// "
     "o/B/    o/P/    o/P/    o//     e//!    o/P/    o/B/    e//"},
    {"dismiss", dismiss,
     "e//      e//!?    e//!     e//      e//      e//!?    e// "
     "o/B/    o/B/!?  o/B/!?  o/B/!   e//!    o/B/!?  o/B/    e//"},
    {"abandon", abandon,
     "=k       n//!?    n//!     =k       =k       g//!?    =k "
     "=k      o//!?   o//!?   o//!    o//!    o/B/!?  =k      =e"},
    /* time: acknowledgement, BYE, HELLO and probe, heartbeat, no connection, no answer, no progress */
    {"20 ms later", after_20,
     "=q       =q       =q       =q       =q       =q       =q "
     "=q      o/P/    o/P/    =q      =q      o/P/    =q      =e"},
    {"100 ms later", after_100,
     "=q       =q       =q       =q       =q       =q       =q "
     "=q      o/P/    o/P/    =q      =q      o/P/    o/B/    =e"},
    {"200 ms later", after_200,
     "=q       =q       =q       g/H/     =q       g/H/     g/H/ "
     "=q      o/P/    o/P/    o/P/    =q      o/P/    o/B/    =e"},
    {"500 ms later", after_500,
     "=q       =q       =q       g/H/     =q       g/H/     g/H/ "
     "o/P/    o/P/    o/P/    o/P/    o/P/    o/P/    o/PB/   =e"},
    {"1,750 ms later", after_1750,
     "n//k     n//k     n//k     g/H/     =q       g/H/     g/H/ "
     "o/P/    o/P/    o/P/    o/P/    o/P/    o/P/    o/PB/   =e"},
    {"2 s later", after_2000,
     "n//k     n//k     n//k     g/H/k    g/H/     g/H/k    g/H/k "
     "o/P/    o/P/    o/P/    o/P/    o/P/k   o/P/k   o/PB/k  =e"},
    {"5 s later", after_5000,
     "n//k     n//k     n//k     g/H/k    g/H/     g/H/k    g/H/k "
     "o/P/    o/P/k   o/P/k   o/P/    o/P/k   o/P/k   o/PB/k  =e"},
};
/* clang-format on */

enum { ROWS = sizeof rows / sizeof rows[0] };

/* ---- reading it */

/* What changed, in letters. */
static void spell_facts (const ctki_out_t *was, ctki_out_t *is, int64_t now_us, char *text)
{
    text = ctki_table_add (text, is->sid != was->sid, 's');
    text = ctki_table_add (text, is->settled.delivered > 0, '+');
    text = ctki_table_add (text, is->settled.abandoned > 0, '!');
    text = ctki_table_add (text, is->settled.in_doubt > 0, '?');
    text = ctki_table_add (text, is->obit != NULL, 'x');
    text = ctki_table_add (text, is->round != was->round, 'r');
    text = ctki_table_add (text, is->leaving != was->leaving, 'l');
    text = ctki_table_add (text, is->rejected != was->rejected, 'j');
    text = ctki_table_add (text, is->credit_frame > was->credit_frame, 'c');
    text = ctki_table_add (text, is->srtt_us != was->srtt_us, 'm');
    text = ctki_table_add (text, ctki_out_link_dead (is, now_us), 'k');
    *text = '\0';
}

/* To the last byte: the copy was made by memcpy, padding too. */
static bool unchanged (const ctki_out_t *was, const ctki_out_t *is)
{
    return memcmp (was, is, sizeof *was) == 0; /* NOLINT(bugprone-suspicious-memory-comparison) */
}

/* What an event did: "state/frames/facts", or "" for nothing at all. */
static void play (int state, int row, char text[CTKI_TABLE_TEXT_BYTES])
{
    static const char states[] = "ngoe";
    ctki_out_t out, was;
    int64_t now_us = NOW;
    bring_to (&out, (state_t) state);
    memcpy (&was, &out, sizeof was);
    bool taken = rows[row].act (&out, &now_us);
    bool same = unchanged (&was, &out);
    ck_assert_msg (taken || same, "%s: not taken, and something has changed", state_names[state]);
    char *at = text;
    *at++ = '?';
    *at++ = '/';
    char *end = say_all (&out, now_us, at);
    bool said = end > at;
    at = end;
    *at++ = '/';
    spell_facts (&was, &out, now_us, at);
    text[0] = states[out.state];
    if (!said && unchanged (&was, &out) && *at == '\0')
        *text = '\0';
    ctki_out_fini (&out);
}

static ctki_table_row_t row_at (int row)
{
    return (ctki_table_row_t){.name = rows[row].name, .cells = rows[row].cells};
}

static const ctki_table_t table = {.name = "table of the sending half",
                                   .states = state_names,
                                   .state_count = STATES,
                                   .row_count = ROWS,
                                   .row = row_at,
                                   .reasons = reasons,
                                   .reason_count = sizeof reasons / sizeof reasons[0],
                                   .play = play};

/* Every cell of the table is as it says. */
START_TEST (cells)
{
    ctki_table_check_row (&table, _i);
}
END_TEST

/* The table has no hole, every cell in which nothing happens says why, and no reason is left over. */
START_TEST (whole)
{
    ctki_table_check_whole (&table);
}
END_TEST

Suite *ctki_suite_table_out (void)
{
    Suite *suite = suite_create ("table_out");
    TCase *tcase = tcase_create ("table_out");
    tcase_add_loop_test (tcase, cells, 0, ROWS);
    tcase_add_test (tcase, whole);
    suite_add_tcase (suite, tcase);
    return suite;
}
