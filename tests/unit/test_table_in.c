/*
 * test_table_in.c - the receiving half as a table: each state times each frame,
 * what the time and the owner do, and what the other connection proves. A cell
 * names the next state, what is sent at once and the facts; or, when nothing at
 * all may change, the reason why.
 */
#include <check.h>

#include "src/session.h"
#include "src/sys.h"
#include "tests/support/halves.h"
#include "tests/support/table.h"

Suite *ctki_suite_table_in (void);

#define SID CTKI_HALVES_SID
#define INC CTKI_HALVES_INC_OUT
#define RID ((uint64_t) CTKI_HALVES_RID)
#define NOW ((int64_t) CTKI_HALVES_START_US)
#define FRESH_SID (SID + 100)

/* ---- the states: those of the code, each with the pasts that matter */

typedef enum {
    ABSENT,      /* nobody came */
    HALF,        /* greeted, and a session was offered */
    OPEN,        /* one envelope came and was taken */
    WAITING,     /* two more came and were not taken */
    PARTIAL,     /* one is half there */
    NEWCOMER,    /* another incarnation has greeted: the probe is out */
    HEARD,       /* the same, and the probe was answered */
    OFFERED,     /* another incarnation was offered a session beside the one that is open */
    LEFT,        /* the peer said BYE */
    REMOVED,     /* the same, because it had removed this server, with an envelope half there */
    QUARANTINED, /* it broke the protocol too often */
    GONE,        /* its connection is gone */
    LEAVING,     /* this server closes */
    CONFIRMED,   /* and the peer knows */
    CLOSED,      /* this server closes, and nobody had come */
    STATES
} state_t;

static const char *const state_names[STATES]
    = {"absent", "half",        "open", "waiting", "partial",   "newcomer", "newcomer refused", "offered", "left",
       "removed", "quarantined", "gone", "leaving", "confirmed", "closed"};

static ctki_effects_t give (ctki_in_t *in, uint64_t rid, ctki_frame_t frame)
{
    ctki_effects_t fx;
    ctki_in_receive (in, NOW, rid, &frame, frame.sid == 0 && frame.u.hello.inc != INC ? FRESH_SID : SID, &fx);
    if (fx.whole)
        ctki_buf_release (fx.whole, 1);
    return fx;
}

/* Acknowledges what is due. */
static void settle (ctki_in_t *in)
{
    ctki_frame_t frame;
    if (ctki_in_next (in, NOW + CTKI_ACK_DELAY_MS * CTKI_MS, &frame))
        ctki_in_acked (in, NOW);
}

static void bring_open (ctki_in_t *in)
{
    give (in, RID, ctki_halves_hello (INC, 0, 1));
    ck_assert (give (in, RID, ctki_halves_there (CTKI_PING, SID, 1)).opened);
    ck_assert_int_eq (give (in, RID, ctki_halves_data (SID, 1)).give, CTKI_GIVE_RUN);
    ctki_in_consumed (in, NOW, 1, 8 + CTKI_CHARGE_BYTES, 1);
    settle (in);
}

static void bring_partial (ctki_in_t *in)
{
    ck_assert_int_eq (give (in, RID, ctki_halves_fragment (SID, 2, CTKI_R_FIRST, 100, 200)).give, CTKI_GIVE_NOTHING);
    ck_assert_ptr_nonnull (in->partial);
    settle (in);
}

static void bring_newcomer (ctki_in_t *in)
{
    ck_assert (!give (in, RID + 1, ctki_halves_hello (INC + 1, 0, 1)).reply);
    ck_assert (in->newcomer.on);
    settle (in);
}

static ctki_frame_t ping (uint64_t sid, uint64_t n, unsigned flags, uint32_t probe)
{
    ctki_frame_t frame = ctki_halves_there (CTKI_PING, sid, n);
    frame.flags = (uint16_t) flags;
    frame.u.ping.probe = probe;
    return frame;
}

static void bring_quarantined (ctki_in_t *in)
{
    for (int i = 0; i < CTKI_VIOLATIONS; i++)
        ck_assert (give (in, RID, ctki_halves_back (CTKI_ACK, SID, 1)).malformed);
    ck_assert (in->quarantined);
}

static void bring_on (ctki_in_t *in, state_t state)
{
    switch (state) {
    case WAITING:
        give (in, RID, ctki_halves_data (SID, 2));
        give (in, RID, ctki_halves_data (SID, 3));
        break;
    case PARTIAL:
        bring_partial (in);
        break;
    case NEWCOMER:
    case HEARD:
        bring_newcomer (in);
        if (state == HEARD)
            give (in, RID, ping (SID, 2, 0, in->newcomer.probe));
        break;
    case OFFERED:
        ctki_in_unreachable (in);
        give (in, RID + 1, ctki_halves_hello (INC + 1, 0, 1));
        in->gone = false;
        break;
    case LEFT:
        give (in, RID, ctki_halves_reason (CTKI_BYE, SID, CTKI_WHY_CLOSING));
        break;
    case REMOVED:
        bring_partial (in);
        give (in, RID, ctki_halves_reason (CTKI_BYE, SID, CTKI_WHY_ABANDONED));
        break;
    case QUARANTINED:
        bring_quarantined (in);
        break;
    case GONE:
        ctki_in_unreachable (in);
        break;
    case LEAVING:
    case CONFIRMED:
        ctki_in_leave (in, NOW);
        if (state == CONFIRMED)
            give (in, RID, ping (SID, 2, CTKI_F_LEAVING_SEEN, 0));
        break;
    default:
        break;
    }
    settle (in);
}

static void bring_to (ctki_in_t *in, state_t state)
{
    ctki_session_setup_t setup = ctki_halves_setup (CTKI_HALVES_PEER, CTKI_HALVES_SELF, CTKI_HALVES_INC_IN);
    ctki_in_init (in, &setup);
    if (state == HALF)
        give (in, RID, ctki_halves_hello (INC, 0, 1));
    else if (state == CLOSED)
        ctki_in_leave (in, NOW);
    else if (state != ABSENT) {
        bring_open (in);
        bring_on (in, state);
    }
}

/* ---- the events */

typedef void (*act_t) (ctki_in_t *in, int64_t *now_us, ctki_effects_t *fx);

/* The session that a frame is about: the open one, or the offered one. */
static uint64_t sid_of (const ctki_in_t *in)
{
    return in->open ? in->sid : ctki_in_offers (in) ? in->offer[0].sid : SID;
}

/* A greeting that goes on with the open session from its frame n on, and says what was before that. */
static ctki_frame_t resume (const ctki_in_t *in, uint64_t n, uint64_t envelopes, uint64_t charge)
{
    ctki_frame_t frame = ctki_halves_hello (INC, sid_of (in), n);
    frame.u.hello.ordinal = envelopes;
    frame.u.hello.charge = charge;
    return frame;
}

/* A greeting with one thing wrong. */
static ctki_frame_t wrong (int what)
{
    ctki_frame_t frame = ctki_halves_hello (INC, 0, 1);
    if (what == CTKI_WHY_CLUSTER)
        frame.u.hello.cluster_id[0] ^= 1;
    if (what == CTKI_WHY_PID)
        frame.u.hello.src++;
    if (what == CTKI_WHY_VERSION)
        frame.u.hello.version_min = frame.u.hello.version_max = CTKI_WIRE_VERSION + 1;
    if (what == CTKI_WHY_LIMITS)
        frame.u.hello.message_bytes++;
    return frame;
}

static ctki_frame_t later_connection (ctki_frame_t frame)
{
    frame.gen++;
    return frame;
}

static ctki_frame_t another_nonce (ctki_frame_t frame)
{
    frame.u.hello.nonce++;
    return frame;
}

static ctki_frame_t flagged (ctki_frame_t frame, unsigned flags)
{
    frame.flags = (uint16_t) flags;
    return frame;
}

/* A record that is none. */
static ctki_frame_t garbage (const ctki_in_t *in)
{
    static const uint8_t bytes[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    ctki_frame_t frame = ctki_halves_data (sid_of (in), CTKI_MAX (in->expected, 1));
    frame.records = bytes;
    return frame;
}

/* Each frame comes a moment later than the last one. */
#define FRAME_FROM(name, rid, frame)                                                                                   \
    static void name (ctki_in_t *in, int64_t *now_us, ctki_effects_t *fx)                                              \
    {                                                                                                                  \
        ctki_frame_t it = frame;                                                                                       \
        ctki_in_receive (in, ++*now_us, rid, &it, FRESH_SID, fx);                                                      \
    }
#define FRAME(name, frame) FRAME_FROM (name, RID, frame)

FRAME (hello_again, ctki_halves_hello (INC, 0, 1))
FRAME (hello_anew, another_nonce (later_connection (ctki_halves_hello (INC, 0, 1))))
FRAME (hello_resumed, resume (in, in->expected, in->received, in->received_byte))
FRAME (hello_behind, resume (in, 1, 0, 0))
FRAME (hello_skips, resume (in, in->expected + 2, in->received + 1, in->received_byte + 164))
FRAME (hello_lies, resume (in, in->expected + 2, in->received + 1, in->credit_byte + 1))
FRAME (hello_back, later_connection (resume (in, in->expected, in->received, in->received_byte)))
FRAME_FROM (hello_other, RID + 1, ctki_halves_hello (INC + 1, 0, 1))
FRAME_FROM (hello_third, RID + 2, ctki_halves_hello (INC + 2, 0, 1))
FRAME (hello_cluster, wrong (CTKI_WHY_CLUSTER))
FRAME (hello_pid, wrong (CTKI_WHY_PID))
FRAME (hello_version, wrong (CTKI_WHY_VERSION))
FRAME (hello_limits, wrong (CTKI_WHY_LIMITS))

static void hello_later (ctki_in_t *in, int64_t *now_us, ctki_effects_t *fx)
{
    *now_us += CTKI_QUARANTINE_MS * CTKI_MS;
    hello_other (in, now_us, fx);
}

FRAME (data_next, ctki_halves_data (sid_of (in), CTKI_MAX (in->expected, 1)))
FRAME (data_now, flagged (ctki_halves_data (sid_of (in), CTKI_MAX (in->expected, 1)), CTKI_F_ACK_NOW))
FRAME (data_old, ctki_halves_data (sid_of (in), CTKI_MAX (in->expected, 1) - 1))
FRAME (data_gap, ctki_halves_data (sid_of (in), CTKI_MAX (in->expected, 1) + 1))
FRAME (data_too_much,
       ctki_halves_fragment (sid_of (in), CTKI_MAX (in->expected, 1), CTKI_R_FIRST | CTKI_R_LAST, 8192, 8192))
FRAME (data_garbage, garbage (in))
FRAME (data_first, ctki_halves_fragment (sid_of (in), CTKI_MAX (in->expected, 1), CTKI_R_FIRST, 100, 200))
FRAME (data_last, ctki_halves_fragment (sid_of (in), CTKI_MAX (in->expected, 1), CTKI_R_LAST, 100, 0))
FRAME (data_foreign, ctki_halves_data (SID + 7, 1))
FRAME (ping_now, ping (sid_of (in), CTKI_MAX (in->expected, 1), CTKI_F_ACK_NOW, 0))
FRAME (ping_gap, ping (sid_of (in), CTKI_MAX (in->expected, 1) + 2, CTKI_F_ACK_NOW, 0))
FRAME (ping_probed, ping (sid_of (in), CTKI_MAX (in->expected, 1), CTKI_F_ACK_NOW, 1))
FRAME (ping_seen, ping (sid_of (in), CTKI_MAX (in->expected, 1), CTKI_F_ACK_NOW | CTKI_F_LEAVING_SEEN, 0))
FRAME (ping_foreign, ping (SID + 7, 1, CTKI_F_ACK_NOW, 0))
FRAME_FROM (ping_offered, RID + 1, ping (ctki_in_offers (in) ? in->offer[0].sid : SID + 7, 1, CTKI_F_ACK_NOW, 0))
FRAME_FROM (data_offered, RID + 1, ctki_halves_data (ctki_in_offers (in) ? in->offer[0].sid : SID + 7, 1))
FRAME (bye, ctki_halves_reason (CTKI_BYE, sid_of (in), CTKI_WHY_CLOSING))
FRAME (bye_removed, ctki_halves_reason (CTKI_BYE, sid_of (in), CTKI_WHY_ABANDONED))
FRAME (welcome, ctki_halves_welcome (sid_of (in), 1, true, INC))
FRAME (ack, ctki_halves_back (CTKI_ACK, sid_of (in), 1))
FRAME (reset, ctki_halves_reason (CTKI_RESET, sid_of (in), CTKI_WHY_UNKNOWN_SID))
FRAME (bye_ack, ctki_halves_reason (CTKI_BYE_ACK, sid_of (in), CTKI_WHY_NONE))
FRAME (reject, ctki_halves_reason (CTKI_REJECT, sid_of (in), CTKI_WHY_PID))
FRAME (unknown, ctki_halves_back ((ctki_type_t) 99, sid_of (in), 1))

#define EVENT(name, call)                                                                                              \
    static void name (ctki_in_t *in, int64_t *now_us, ctki_effects_t *fx)                                              \
    {                                                                                                                  \
        (void) now_us;                                                                                                 \
        (void) fx;                                                                                                     \
        call;                                                                                                          \
    }

EVENT (tick, ctki_in_tick (in, *now_us, FRESH_SID, fx))
EVENT (tick_later, (*now_us += 500 * CTKI_MS, ctki_in_tick (in, *now_us, FRESH_SID, fx)))
EVENT (consumed_little, ctki_in_consumed (in, NOW, in->consumed + 1, in->consumed_byte + 72, in->consumed_frame + 1))
EVENT (consumed_much, ctki_in_consumed (in, NOW, in->consumed + 30, in->consumed_byte + 2160, in->consumed_frame + 30))
EVENT (leave, ctki_in_leave (in, NOW))
EVENT (unreachable, ctki_in_unreachable (in))
EVENT (proved_same, ctki_in_incarnation (in, INC, NOW, fx))
EVENT (proved_other, ctki_in_incarnation (in, INC + 1, NOW, fx))
EVENT (end, ctki_in_end (in))
EVENT (hurry, ctki_in_hurry (in, NOW))

static void later (ctki_in_t *in, int64_t *now_us, ctki_effects_t *fx)
{
    (void) in;
    (void) fx;
    *now_us += CTKI_LEAVING_MS * CTKI_MS;
}

/* ---- the table */

/* A cell: "state/sent/facts", or "=" and the letter of a reason: nothing changes.
 *
 *   state   a absent, h offered a session, o open, n a newcomer waits, f another one was offered a
 *           session, l left, q quarantined, g its connection is gone, v leaving, c leaving and confirmed
 *   sent    at once: W WELCOME, R WELCOME with RESUMED, J REJECT, T RESET, Y BYE-ACK, A ACK with
 *           g GAP, p PONG, b PROBE, l LEAVING; ~ an ACK is due later
 *   facts   v valid, o a session opened, g envelopes given, d duplicate, m malformed, l left, s a hole
 *           skipped, r refused for a new reason, i a session id to be found, e one to be forgotten,
 *           p an envelope half there, x no more
 */
typedef struct {
    const char *name;
    act_t act;
    const char *cells;
} row_t;

static const ctki_table_reason_t reasons[] = {
    {'w', "one that claims the pid waits already: this one greets again"},
    {'q', "nothing is taken any more of one that broke the protocol too often"},
    {'t', "nothing is due"},
    {'p', "it is so already"},
    {'n', "there is no session that could be over"},
    {'a', "there is nobody to be told"},
};

/* clang-format off */
static const row_t rows[] = {
    /* absent | half | open | waiting | partial | newcomer | newcomer refused | offered
     * left | removed | quarantined | gone | leaving | confirmed | closed */

    /* greetings */
    {"HELLO without the session", hello_again,
     "h/W/vi    h/W/v     f/W/vi    f/W/vi    f/W/vi    n/W/vi    n/W/vi    f/W/vi "
     "l/W/vi    l/W/vi    q/J/      f/W/vi    v/J/r     c/J/r     c/J/r"},
    {"HELLO without the session, on a later connection", hello_anew,
     "h/W/vi    h/W/vie   f/W/vi    f/W/vi    f/W/vi    n/W/vi    n/W/vi    f/W/vi "
     "l/W/vi    l/W/vi    q/J/      f/W/vi    v/J/r     c/J/r     c/J/r"},
    {"HELLO: goes on", hello_resumed,
     "h/W/vi    h/W/v     o/R/v     o/R/v     o/R/v     n/R/v     n/R/v     f/R/v "
     "l/R/v     l/R/v     q/J/      o/R/v     v/RAl/v   v/RAl/v   c/J/r"},
    {"HELLO: goes on, on a later connection", hello_back,
     "h/W/vi    h/W/v     o/R/v     o/R/v     o/R/v     n/R/v     n/R/v     f/R/v "
     "o/R/v     o/R/v     q/J/      o/R/v     v/RAl/v   v/RAl/v   c/J/r"},
    {"HELLO: goes on, acknowledgements were lost", hello_behind,
     "h/W/vi    h/W/v     o/R/v     o/R/v     o/R/v     n/R/v     n/R/v     f/R/v "
     "l/R/v     l/R/v     q/J/      o/R/v     v/RAl/v   v/RAl/v   c/J/r"},
    {"HELLO: goes on above a hole", hello_skips,
     "h/W/vi    h/W/v     o/R/vs    o/R/vs    o/R/vsx   n/R/vs    n/R/vs    f/R/vs "
     "l/R/vs    l/R/vsx   q/J/      o/R/vs    v/RAl/vs  v/RAl/vs  c/J/r"},
    {"HELLO: the same above its credit", hello_lies,
     "h/W/vi    h/W/v     o//m      o//m      o//m      n//m      n//m      f//m "
     "l//m      l//m      q/J/      g//m      v//m      c//m      c/J/r"},
    {"HELLO of another incarnation", hello_other,
     "h/W/vi    h/W/vi    n/Ab/     n/Ab/     n/Ab/     =w        =w        f/W/v "
     "l/W/vi    l/W/vi    q/J/r     f/W/vi    v/J/r     c/J/r     c/J/r"},
    {"HELLO of a third one", hello_third,
     "h/W/vi    h/W/vi    n/Ab/     n/Ab/     n/Ab/     =w        =w        n/Ab/ "
     "l/W/vi    l/W/vi    q/J/r     f/W/vi    v/J/r     c/J/r     c/J/r"},
    {"HELLO of another incarnation, 5 s later", hello_later,
     "h/W/vi    h/W/vi    n/Ab/     n/Ab/     n/Ab/     =w        =w        f/W/v "
     "l/W/vi    l/W/vi    q/W/vi    f/W/vi    v/JAl/r   c/J/r     c/J/r"},
    {"HELLO of another cluster", hello_cluster,
     "a/J/r     h/J/r     o/J/r     o/J/r     o/J/r     n/J/r     n/J/r     f/J/r "
     "l/J/r     l/J/r     q/J/r     g/J/r     v/J/r     c/J/r     c/J/r"},
    {"HELLO of another pid", hello_pid,
     "a/J/r     h/J/r     o/J/r     o/J/r     o/J/r     n/J/r     n/J/r     f/J/r "
     "l/J/r     l/J/r     q/J/r     g/J/r     v/J/r     c/J/r     c/J/r"},
    {"HELLO of another version", hello_version,
     "a/J/r     h/J/r     o/J/r     o/J/r     o/J/r     n/J/r     n/J/r     f/J/r "
     "l/J/r     l/J/r     q/J/r     g/J/r     v/J/r     c/J/r     c/J/r"},
    {"HELLO with larger envelopes", hello_limits,
     "a/J/r     h/J/r     o/J/r     o/J/r     o/J/r     n/J/r     n/J/r     f/J/r "
     "l/J/r     l/J/r     q/J/r     g/J/r     v/J/r     c/J/r     c/J/r"},
    /* data */
    {"DATA: the next frame", data_next,
     "a/T/      o/~/vog   o/~/vg    o/~/vg    o//vm     n/~/vg    n/~/vg    f/~/vg "
     "l//v      l//v      =q        o/~/vg    v/Al/v    c/Al/v    c/T/"},
    {"DATA: the next frame, ACK-NOW", data_now,
     "a/T/      o/A/vog   o/A/vg    o/A/vg    o//vm     n/A/vg    n/A/vg    f/A/vg "
     "l//v      l//v      =q        o/A/vg    v/Al/v    c/Al/v    c/T/"},
    {"DATA: an old frame", data_old,
     "a/T/      o/A/vod   o/A/vd    o/A/vd    o/A/vd    n/A/vd    n/A/vd    f/A/vd "
     "l//vd     l//vd     =q        o/A/vd    v/Al/v    c/Al/v    c/T/"},
    {"DATA: a later frame", data_gap,
     "a/T/      o/Ag/vo   o/Ag/v    o/Ag/v    o/Ag/v    n/Ag/v    n/Ag/v    f/Ag/v "
     "l//v      l//v      =q        o/Ag/v    v/Al/v    c/Al/v    c/T/"},
    {"DATA above the credit", data_too_much,
     "a/T/      o//vom    o//vm     o//vm     o//vm     n//vm     n//vm     f//vm "
     "l//v      l//v      =q        o//vm     v/Al/v    c/Al/v    c/T/"},
    {"DATA without a record", data_garbage,
     "a/T/      o//vom    o//vm     o//vm     o//vm     n//vm     n//vm     f//vm "
     "l//v      l//v      =q        o//vm     v/Al/v    c/Al/v    c/T/"},
    {"DATA: a first fragment", data_first,
     "a/T/      o/~/vop   o/~/vp    o/~/vp    o//vm     n/~/vp    n/~/vp    f/~/vp "
     "l//v      l//v      =q        o/~/vp    v/Al/v    c/Al/v    c/T/"},
    {"DATA: a last fragment", data_last,
     "a/T/      o//vom    o//vm     o//vm     o/~/vgx   n//vm     n//vm     f//vm "
     "l//v      l//v      =q        o//vm     v/Al/v    c/Al/v    c/T/"},
    {"DATA of another session", data_foreign,
     "a/T/      h/T/      o/T/      o/T/      o/T/      n/T/      n/T/      f/T/ "
     "l/T/      l/T/      q/T/      g/T/      v/T/      c/T/      c/T/"},
    /* the rest of what a sender writes */
    {"PING", ping_now,
     "a/T/      o/Ap/vo   o/Ap/v    o/Ap/v    o/Ap/v    n/Ap/v    n/Ap/v    f/Ap/v "
     "l//v      l//v      =q        o/Ap/v    v/Apl/v   c//v      c/T/"},
    {"PING: more was sent than came", ping_gap,
     "a/T/      o/Agp/vo  o/Agp/v   o/Agp/v   o/Agp/v   n/Agp/v   n/Agp/v   f/Agp/v "
     "l/Agp/v   l/Agp/v   =q        o/Agp/v   v/Agpl/v  c/Agpl/v  c/T/"},
    {"PING that echoes the first probe", ping_probed,
     "a/T/      o/Ap/vo   o/Ap/v    o/Ap/v    o/Ap/v    n/Ap/v    n/Ap/v    f/Ap/v "
     "l//v      l//v      =q        o/Ap/v    v/Apl/v   c//v      c/T/"},
    {"PING: LEAVING-SEEN", ping_seen,
     "a/T/      o/Ap/vo   o/Ap/v    o/Ap/v    o/Ap/v    n/Ap/v    n/Ap/v    f/Ap/v "
     "l/Ap/v    l/Ap/v    =q        o/Ap/v    c//v      c//v      c/T/"},
    {"PING of another session", ping_foreign,
     "a/T/      h/T/      o/T/      o/T/      o/T/      n/T/      n/T/      f/T/ "
     "l/T/      l/T/      q/T/      g/T/      v/T/      c/T/      c/T/"},
    {"PING of the offered session", ping_offered,
     "a/T/      o/Ap/vo   o/T/      o/T/      o/T/      n/T/      n/T/      o/Ap/voe "
     "l/T/      l/T/      q/T/      g/T/      v/T/      c/T/      c/T/"},
    {"DATA of the offered session", data_offered,
     "a/T/      o/~/vog   o/T/      o/T/      o/T/      n/T/      n/T/      o/~/voge "
     "l/T/      l/T/      q/T/      g/T/      v/T/      c/T/      c/T/"},
    {"BYE", bye,
     "a/T/      l/Y/vol   l/Y/vl    l/Y/vl    l/Y/vlx   l/Y/vl    l/Y/vl    l/Y/vl "
     "l/Y/vl    l/Y/vlx   =q        l/Y/vl    c/Y/vl    c/Y/vl    c/T/"},
    {"BYE: removed", bye_removed,
     "a/T/      l/Y/vol   l/Y/vl    l/Y/vl    l/Y/vl    l/Y/vl    l/Y/vl    l/Y/vl "
     "l/Y/vl    l/Y/vl    =q        l/Y/vl    c/Y/vl    c/Y/vl    c/T/"},
    /* what no sender writes */
    {"a WELCOME", welcome,
     "a/T/      o//om     o//m      o//m      o//m      n//m      n//m      f//m "
     "l//m      l//m      =q        g//m      v//m      c//m      c/T/"},
    {"an ACK", ack,
     "a/T/      o//om     o//m      o//m      o//m      n//m      n//m      f//m "
     "l//m      l//m      =q        g//m      v//m      c//m      c/T/"},
    {"a RESET", reset,
     "a/T/      o//om     o//m      o//m      o//m      n//m      n//m      f//m "
     "l//m      l//m      =q        g//m      v//m      c//m      c/T/"},
    {"a BYE-ACK", bye_ack,
     "a/T/      o//om     o//m      o//m      o//m      n//m      n//m      f//m "
     "l//m      l//m      =q        g//m      v//m      c//m      c/T/"},
    {"a REJECT", reject,
     "a/T/      o//om     o//m      o//m      o//m      n//m      n//m      f//m "
     "l//m      l//m      =q        g//m      v//m      c//m      c/T/"},
    {"an unknown type", unknown,
     "a/T/      o//om     o//m      o//m      o//m      n//m      n//m      f//m "
     "l//m      l//m      =q        g//m      v//m      c//m      c/T/"},
    /* the time */
    {"tick", tick,
     "=t        =t        =t        =t        =t        =t        o/J/r     =t "
     "=t        =t        =t        =t        =t        =t        =t"},
    {"tick, a heartbeat later", tick_later,
     "=t        =t        =t        =t        =t        f/W/i     o/J/r     =t "
     "=t        =t        =t        =t        v/Al/     =t        =t"},
    /* the owner, and what the other connection proves */
    {"a little consumed", consumed_little,
     "a//       h//       o//       o//       o//       n//       n//       f// "
     "l//       l//       q//       g//       v//       c//       c//"},
    {"a quarter of the window consumed", consumed_much,
     "a//       h//       o/A/      o/A/      o/A/      n/A/      n/A/      f/A/ "
     "l/A/      l/A/      q//       g/A/      v/Al/     c/Al/     c//"},
    {"leave", leave,
     "c//       v/Al/     v/Al/     v/Al/     v/Al/     v/Al/     v/Al/     v/Al/ "
     "c//       c//       c//       v/Al/     v/Al/     v/Al/     =p"},
    {"the connection is gone", unreachable,
     "a//       h//       g//       g//       g//       n//       n//       f// "
     "l//       l//       q//       =p        c//       c//       c//"},
    {"proved: the incarnation that is known", proved_same,
     "=p        =p        =p        =p        =p        =p        =p        f// "
     "=p        =p        =p        =p        =p        =p        =p"},
    {"proved: another incarnation", proved_other,
     "=n        h//       a//e      a//e      a//ex     a//e      a//e      h//e "
     "a//e      a//ex     a//e      a//e      v//e      c//e      =n"},
    {"end", end,
     "a//       h//       l//       l//       l//x      l//       l//       l// "
     "=p        l//x      q//       l//       c//       c//       c//"},
    {"hurry", hurry,
     "=a        =a        o/A/      o/A/      o/A/      n/A/      n/A/      f/A/ "
     "=a        =a        =a        g/A/      v/Al/     c/Al/     =a"},
    {"20 ms later", later,
     "=t        =t        =t        =t        =t        =t        =t        =t "
     "=t        =t        =t        =t        v/Al/     =t        =t"},
};
/* clang-format on */

enum { ROWS = sizeof rows / sizeof rows[0] };

/* ---- reading it */

static char state_letter (const ctki_in_t *in)
{
    if (in->leaving)
        return in->confirmed ? 'c' : 'v';
    if (!in->open)
        return ctki_in_offers (in) ? 'h' : 'a';
    return in->quarantined ? 'q' : in->left ? 'l' : in->newcomer.on ? 'n' : ctki_in_offers (in) ? 'f' : in->gone ? 'g' : 'o';
}

static char *spell_sent (const ctki_in_t *was, ctki_in_t *in, int64_t now_us, const ctki_effects_t *fx, char *text)
{
    static const char letters[] = "?hWdapTbYJ";
    ctki_frame_t frame;
    if (fx->reply)
        *text++ = fx->answer.flags & CTKI_F_RESUMED ? 'R' : letters[fx->answer.type];
    if (!ctki_in_next (in, now_us, &frame))
        return ctki_table_add (text, in->ack_at_us != was->ack_at_us && in->ack_at_us != CTKI_FOREVER, '~');
    ck_assert_int_eq (frame.type, CTKI_ACK);
    *text++ = 'A';
    text = ctki_table_add (text, frame.flags & CTKI_F_GAP, 'g');
    text = ctki_table_add (text, frame.flags & CTKI_F_PONG, 'p');
    text = ctki_table_add (text, frame.flags & CTKI_F_PROBE, 'b');
    text = ctki_table_add (text, frame.flags & CTKI_F_LEAVING, 'l');
    ctki_in_acked (in, now_us);
    return text;
}

static void spell_facts (const ctki_in_t *was, const ctki_in_t *is, const ctki_effects_t *fx, char *text)
{
    text = ctki_table_add (text, fx->valid, 'v');
    text = ctki_table_add (text, fx->opened, 'o');
    text = ctki_table_add (text, fx->give != CTKI_GIVE_NOTHING, 'g');
    text = ctki_table_add (text, fx->duplicate, 'd');
    text = ctki_table_add (text, fx->malformed, 'm');
    text = ctki_table_add (text, fx->left, 'l');
    text = ctki_table_add (text, fx->abandoned_frames > 0, 's');
    text = ctki_table_add (text, fx->refused != 0, 'r');
    text = ctki_table_add (text, fx->sid_offered != 0, 'i');
    text = ctki_table_add (text, fx->sid_ended[0] != 0, 'e');
    text = ctki_table_add (text, !was->partial && is->partial, 'p');
    text = ctki_table_add (text, was->partial && !is->partial, 'x');
    *text = '\0';
}

/* To the last byte: the copy was made by memcpy, padding too. */
static bool unchanged (const ctki_in_t *was, const ctki_in_t *is)
{
    return memcmp (was, is, sizeof *was) == 0; /* NOLINT(bugprone-suspicious-memory-comparison) */
}

/* What an event did: "state/frames/facts", or "" for nothing at all. */
static void play (int state, int row, char text[CTKI_TABLE_TEXT_BYTES])
{
    ctki_in_t in, was;
    ctki_effects_t fx = {0};
    int64_t now_us = NOW;
    bring_to (&in, (state_t) state);
    memcpy (&was, &in, sizeof was);
    rows[row].act (&in, &now_us, &fx);
    bool same = unchanged (&was, &in);
    char *at = text + 2, *end = spell_sent (&was, &in, now_us, &fx, at);
    bool said = end > at;
    text[1] = '/';
    *end++ = '/';
    spell_facts (&was, &in, &fx, end);
    text[0] = state_letter (&in);
    if (same && !said && *end == '\0')
        *text = '\0';
    if (fx.whole)
        ctki_buf_release (fx.whole, 1);
    ctki_in_fini (&in);
}

static ctki_table_row_t row_at (int row)
{
    return (ctki_table_row_t){.name = rows[row].name, .cells = rows[row].cells};
}

static const ctki_table_t table = {.name = "table of the receiving half",
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

Suite *ctki_suite_table_in (void)
{
    Suite *suite = suite_create ("table_in");
    TCase *tcase = tcase_create ("table_in");
    tcase_add_loop_test (tcase, cells, 0, ROWS);
    tcase_add_test (tcase, whole);
    suite_add_tcase (suite, tcase);
    return suite;
}
