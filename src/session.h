/*
 * session.h - the delivery protocol between an ordered pair of servers, as two
 * pure state machines: the sending half (in the sender actor) and the receiving
 * half (in the peer's router actor). Events and the time go in, frames and
 * facts come out: no socket, no thread, no clock, no random source inside.
 * Neither half is thread-safe; each stands under its actor's lock.
 *
 * One session carries frames one way. The receiver draws its id (sid), which
 * every frame bears: a frame of another session is never taken for one of this.
 * Frames are numbered from 1 and acknowledged cumulatively; credit is absolute.
 * A frame that does not come next is dropped and reported (GAP), and the sender
 * goes back to it, once per round (go-back-N on evidence: TCP reorders nothing
 * within a connection, so no timer ever repeats a frame).
 */
#ifndef CTKI_SESSION_H
#define CTKI_SESSION_H

#include "src/envelope.h"
#include "src/wire.h"

enum {
    CTKI_HELLO_MIN_MS = 200,  /* between two HELLOs, doubled up to ... */
    CTKI_HELLO_MAX_MS = 2000, /* ... this; also after a REJECT */
    CTKI_PROBE_MIN_MS = 200,  /* between two probes of a closed window, doubled up to ... */
    CTKI_PROBE_MAX_MS = 2000,
    CTKI_BYE_MS = 100,        /* between two BYEs */
    CTKI_BYE_TRIES = 5,
    CTKI_ACK_DELAY_MS = 10,   /* the longest that a receiver keeps an acknowledgement back */
    CTKI_ACK_FRAMES = 32,     /* received and not acknowledged: acknowledge at once */
    CTKI_ACK_WAIT_MS = 20,    /* the shortest that a sender waits for one before it asks */
    CTKI_GAP_MS = 20,         /* between two reports of one gap */
    CTKI_LEAVING_MS = 20,     /* between two final acknowledgements of a closing receiver */
    CTKI_RTT_MAX_MS = 10000,  /* an older echo is not measured */
    CTKI_LINK_BEATS = 4,      /* heartbeats without an answer, and the link is made anew */
    CTKI_RELINK_MS = 2000,    /* without a connection for so long, and an eighth more or less: the same */
    CTKI_PROGRESS_MS = 5000,  /* without any progress of acknowledgements for so long: the same */
    CTKI_OFFERS = 4,          /* sessions offered to processes of one pid and not opened */
    CTKI_VIOLATIONS = 8,      /* frames against the protocol that a session may bring */
    CTKI_QUARANTINE_MS = 5000 /* how long the next incarnation of such a peer waits */
};

/* What both halves know from the start. */
typedef struct {
    ctalk_pid_t self, peer;
    uint64_t inc; /* own incarnation */
    uint8_t cluster_id[CTKI_CLUSTER_ID_BYTES];
    uint32_t frame_bytes;    /* a run's frame, at most */
    uint32_t fragment_bytes; /* a large envelope's, at most; smaller than the former, or 0: as the former */
    uint64_t message_bytes;
    uint64_t window_bytes;
    uint64_t window_frames;
    int64_t heartbeat_us, suspect_us, down_us;
    bool resend; /* at a restart, what is in doubt is sent again instead of reported */
} ctki_session_setup_t;

/* ================================================== the sending half */

typedef enum {
    CTKI_OUT_NOLINK, /* no connection */
    CTKI_OUT_GREET,  /* connected, HELLO not answered yet */
    CTKI_OUT_OPEN,   /* frames may go */
    CTKI_OUT_ENDED   /* closed: nothing goes any more */
} ctki_out_state_t;

/* A numbered frame: a slice of an item. It is never changed. */
typedef struct {
    ctki_item_t *item;
    const uint8_t *data;
    uint32_t size;
    uint32_t count;    /* envelopes that end in it */
    uint64_t charge;
    bool last;         /* of its item: the item is released when it is acknowledged */
    bool given;        /* libzmq had it once */
} ctki_sent_t;

/* The peer was this incarnation at some moment between the two. */
typedef struct {
    uint64_t inc;
    int64_t from_us, to_us;
} ctki_proof_t;

/* What became of what was sent to a receiver that is another process now. */
typedef struct ctki_obit {
    struct ctki_obit *next; /* its owner's */
    uint64_t old_inc, new_inc; /* whose session it was, and who came after */
    uint64_t consumed, received, in_doubt, carried; /* envelopes */
    bool counted; /* its owner's: carried is more than what the session had */
    size_t count;
    ctalk_fate_t fate[]; /* the received ones, then those in doubt or sent again */
} ctki_obit_t;

/* A session that was dismissed, for the case that the peer comes back. */
typedef struct {
    uint64_t sid, peer_inc, next, ordinal, charge;
    uint32_t round, gen;
} ctki_out_tomb_t;

typedef struct {
    ctki_session_setup_t setup;
    ctki_out_state_t state;
    int64_t started_us;

    /* identity */
    uint64_t sid;      /* 0: no session yet */
    uint64_t peer_inc; /* of the session; 0: none */
    uint64_t nonce;
    int64_t nonce_us;                    /* when it was drawn; gen counts them */
    int64_t alive_from_us, alive_to_us;  /* the receiver answered a greeting at some moment between the two */
    uint32_t round, gen;

    /* frames: a ring of those cut and not acknowledged, una ... next - 1 */
    ctki_sent_t *ring;
    size_t ring_capacity; /* a power of two */
    uint64_t una;         /* the lowest number not acknowledged */
    uint64_t next;        /* the number of the next frame to be cut */
    uint64_t send;        /* the number of the next frame to be sent; below next after a rewind */
    uint64_t given;       /* one above the highest number that libzmq had in this session */

    /* what was acknowledged in this session */
    uint64_t ordinal;  /* envelopes */
    uint64_t charge;   /* of all frames below una */
    uint64_t consumed; /* envelopes that the receiver's application has taken, as far as is known */
    bool watched;      /* somebody wants to know the fate of each envelope: set by the owner */
    ctalk_fate_t *log; /* of the envelopes log_first ... ordinal: received, and not known to be consumed */
    size_t log_capacity; /* a power of two, or 0 */
    uint64_t log_first;
    ctki_obit_t *obit; /* of the former session: to be collected */

    /* items not cut yet, the first from `cut` bytes on */
    ctki_items_t queue;
    size_t cut;
    uint64_t queued_items;

    /* credit */
    uint64_t cut_charge; /* of all frames cut in this session */
    uint64_t credit_frame, credit_byte;

    /* clocks */
    int64_t heard_us;      /* any valid frame of the peer, on either connection; 0: never */
    int64_t link_heard_us; /* on this link */
    int64_t ping_us;       /* the last PING */
    int64_t ack_us;        /* the last sign that acknowledgements flow, or the first frame since all were */
    int64_t hello_at_us;
    int64_t hello_wait_us;
    int64_t ack_wait_us;   /* before the next PING for want of an acknowledgement; doubled */
    int64_t stalled_us;    /* since when the window is closed to what is queued; 0: it is not */
    int64_t probe_wait_us; /* before the next probe of a closed window; doubled */
    int64_t bye_at_us;
    int64_t srtt_us, rtt_worst_us;
    int64_t asked_us;      /* when something was sent, or could not be, that nothing on this link has answered; 0: none */
    int64_t link_us;       /* since when there is no connection */
    int64_t link_wait_us;  /* how long to wait for one before the link is made anew */

    bool want_ping;    /* at once */
    bool leaving;      /* the receiver closes */
    bool leaving_seen; /* say so with the next PING */
    bool flushing;     /* the last frame asks for its acknowledgement */
    bool closing;
    int byes;
    uint32_t bye_reason;
    uint32_t rejected; /* the reason of the last REJECT, 0: none */
    uint32_t stuck_ms; /* for how long the receiver's application has taken nothing while something waits */
    uint32_t probe;    /* of the last PROBE */

    /* facts since they were last collected */
    struct {
        uint64_t delivered, abandoned, in_doubt; /* envelopes */
        uint64_t notices;                        /* of the abandoned: of no application's making */
        int64_t charge;                          /* set free; negative: taken again */
        uint64_t retransmitted;
    } settled;
} ctki_out_t;

void ctki_out_init (ctki_out_t *out, const ctki_session_setup_t *setup, int64_t now_us);
void ctki_out_fini (ctki_out_t *out); /* releases what is left without counting it */

/* Goes on with a session that was dismissed; before anything else. */
void ctki_out_revive (ctki_out_t *out, const ctki_out_tomb_t *tomb);
void ctki_out_bury (const ctki_out_t *out, ctki_out_tomb_t *tomb);

/* A new link was made: it is not connected yet. `draw` is any number; it spreads
 * the times at which links are made anew. */
void ctki_out_link_made (ctki_out_t *out, int64_t now_us, uint64_t draw);

/* The link is dead, and cannot be made anew for now: it gets as much time again. */
void ctki_out_link_kept (ctki_out_t *out, int64_t now_us);

/* Whether the link is dead: it should be torn down and made anew (it may be
 * silent for ever without a word from libzmq). */
bool ctki_out_link_dead (const ctki_out_t *out, int64_t now_us);
int64_t ctki_out_link_deadline (const ctki_out_t *out); /* when it is, if nothing comes */

/* The way was bad, and may be good again: ask at once. */
void ctki_out_hurry (ctki_out_t *out, int64_t now_us);

/* The link takes nothing more for now. */
void ctki_out_blocked (ctki_out_t *out, int64_t now_us);

/* This process was late by so much (it was stopped, or starved): what did not
 * come meanwhile is not the peer's fault. */
void ctki_out_late (ctki_out_t *out, int64_t now_us, int64_t late_us);

/* The other connection has proved an incarnation of the receiver. If the session
 * is with another one that was alive later, it stays. If it was alive earlier, the
 * session is over: what libzmq had is in doubt, the rest goes to the new one,
 * which is greeted with this nonce. If that is not known, whoever is there is
 * greeted, and asked again until it has answered, DownMs long at most. False: try
 * again, for that reason or for want of memory (or a former obituary was not
 * collected). */
bool ctki_out_incarnation (ctki_out_t *out, int64_t now_us, const ctki_proof_t *proof, uint64_t nonce);

/* The obituary of a session that is over, once; NULL: none. The caller's to free. */
ctki_obit_t *ctki_out_obit (ctki_out_t *out);

/* The connection came (with a fresh random nonce) or went. */
void ctki_out_link_up (ctki_out_t *out, int64_t now_us, uint64_t nonce);
void ctki_out_link_down (ctki_out_t *out, int64_t now_us);

/* A valid frame came on this link. Returns false for one that does not belong. */
bool ctki_out_receive (ctki_out_t *out, int64_t now_us, const ctki_frame_t *frame);

/* A valid frame of the peer came on the other connection. */
void ctki_out_heard (ctki_out_t *out, int64_t when_us);

/* Items to send, in order. */
void ctki_out_push (ctki_out_t *out, ctki_item_t *item);

/* Whether it could use more items at once. */
bool ctki_out_hungry (const ctki_out_t *out);

/* Ask for the acknowledgement of all that is queued, soon. */
void ctki_out_flush (ctki_out_t *out);

/* Drain, say BYE, end. */
void ctki_out_close (ctki_out_t *out, int64_t now_us);

/* The peer was removed: abandons what is queued; BYE will say so. */
void ctki_out_dismiss (ctki_out_t *out);

/* Gives up all that is left: counted as abandoned, what libzmq had as in doubt. */
void ctki_out_abandon (ctki_out_t *out);

/* What to send next. A frame stays the next one until ctki_out_sent () says
 * that the link took it. */
typedef struct {
    ctki_frame_t frame; /* its header; the body, too, unless it is DATA */
    ctki_sent_t *sent;  /* DATA: the slice; else NULL */
} ctki_emit_t;

bool ctki_out_next (ctki_out_t *out, int64_t now_us, ctki_emit_t *emit);
void ctki_out_sent (ctki_out_t *out, int64_t now_us, const ctki_emit_t *emit);

/* The bytes of a frame, in one part or two; scratch holds what is copied. */
enum { CTKI_SCRATCH_BYTES = CTKI_CONTROL_BYTES };
int ctki_emit_parts (const ctki_emit_t *emit, uint8_t scratch[CTKI_SCRATCH_BYTES], ctki_part_t parts[2]);

/* When something is due if nothing happens before. */
int64_t ctki_out_deadline (const ctki_out_t *out);

/* The peer's state (CTALK_STATE_...) and when it changes if nothing is heard. */
int ctki_out_peer_state (const ctki_out_t *out, int64_t now_us, int64_t *until_us);

/* Whether nothing is left but notices (notice.h), which nobody waits for. */
bool ctki_out_only_notices (const ctki_out_t *out);

static inline bool ctki_out_empty (const ctki_out_t *out)
{
    return out->una == out->next && !out->queue.head;
}

/* ================================================== the receiving half */

/* A session that was offered and not opened yet. */
typedef struct {
    uint64_t inc, sid, rid; /* sid 0: none */
    int64_t us;             /* when it was made; of a doubtful one, when it was asked */
    bool doubtful;          /* it has to show first that it lives, ... */
    uint32_t probe;         /* ... by answering this; 0: it was not asked yet */
    uint32_t gen;           /* of the last greeting in it, or for it */
} ctki_offer_t;

/* Another process that claims the pid while a session is open: it is let in
 * when the one that has the session does not answer a probe (R9). */
typedef struct {
    bool on;
    bool heard; /* the probe was answered */
    ctki_hello_t hello;
    uint64_t rid;
    uint32_t gen;
    uint32_t probe; /* the number of the probe */
    int64_t until_us;
} ctki_newcomer_t;

typedef struct ctki_in {
    ctki_session_setup_t setup;

    /* Offers wait, the newest first, and never disturb the open session. Several,
     * for a greeting of a dead process may be read late: the living one may have
     * sent frames under its offer already. */
    ctki_offer_t offer[CTKI_OFFERS];

    ctki_newcomer_t newcomer;
    uint32_t probes;      /* numbers given to probes */
    uint64_t refused_inc; /* the incarnation that was refused last, and why: told once */
    uint32_t refused;

    bool open;
    bool left; /* the peer said BYE and has not come back */
    bool gone; /* the connection rid is */
    uint64_t sid, inc, rid;
    int64_t offered_us;  /* the sender has answered the offer, after that */
    uint32_t round, gen; /* of the latest frame, echoed */
    uint64_t expected;
    uint64_t received;      /* envelopes */
    uint64_t received_byte; /* charge of all frames taken */

    /* told by the inbox */
    uint64_t consumed, consumed_byte, consumed_frame;
    uint64_t credit_frame, credit_byte; /* as told to the sender; never lowered */

    /* the unfinished envelope */
    ctki_buf_t *partial;
    size_t partial_have;
    uint64_t partial_charge, partial_frames;
    ctki_record_t partial_record;

    /* acknowledgements owed */
    uint32_t unacked_frames;
    uint64_t unacked_byte;
    int64_t ack_at_us; /* CTKI_FOREVER: none */
    uint16_t ack_flags;
    uint64_t echo_stamp;
    uint64_t gap_expected;
    int64_t gap_us;

    bool leaving;   /* this server closes */
    bool confirmed; /* the sender knows, or is gone */

    uint32_t violations;   /* frames against the protocol in this session */
    bool quarantined;      /* too many: nothing more is taken in it */
    int64_t quarantine_us; /* until when nobody of this pid is let in */
    int64_t stuck_us;      /* when something was last consumed, or began to wait */
} ctki_in_t;

typedef enum { CTKI_GIVE_NOTHING, CTKI_GIVE_RUN, CTKI_GIVE_ONE } ctki_give_t;

/* What came of a frame. */
typedef struct {
    bool reply; /* send `answer` to the connection rid */
    uint64_t rid;
    ctki_frame_t answer;
    ctki_give_t give;
    const uint8_t *records; /* RUN: within the frame */
    size_t records_size;
    uint32_t count;       /* envelopes */
    uint64_t charge;      /* theirs */
    uint32_t actors;      /* of those, addressed to something else than the inbox */
    uint64_t actors_charge;
    uint64_t frames;      /* that they came in */
    ctki_record_t record; /* ONE */
    ctki_buf_t *whole;    /* ONE: its payload, put together (the caller gets the reference); NULL: it is the frame's body */
    uint64_t sid_offered; /* a sid to be found from now on; 0: none */
    uint64_t sid_ended[CTKI_OFFERS + 1]; /* to be forgotten; 0: none */
    bool opened;          /* a session began: a fresh flow from here on */
    bool left;            /* the peer said BYE */
    uint32_t reason;      /* of the BYE */
    uint32_t refused;     /* why the peer is refused, to be told; 0: it is not, or that was told */
    /* The peer gave up frames that did not come: they count as taken. */
    uint64_t abandoned; /* envelopes */
    uint64_t abandoned_charge, abandoned_frames;
    bool duplicate, malformed, valid;
} ctki_effects_t;

void ctki_in_init (ctki_in_t *in, const ctki_session_setup_t *setup);
void ctki_in_fini (ctki_in_t *in);

/* Whether a frame may open a session. */
static inline bool ctki_in_offers (const ctki_in_t *in)
{
    return in->offer[0].sid != 0;
}

/* Takes the newest offer back: nobody was told of it. */
void ctki_in_withdraw (ctki_in_t *in);

/* A frame for this half: a HELLO of its peer, or one that bears its sid.
 * fresh_sid is random, used when a session is offered. */
void ctki_in_receive (ctki_in_t *in, int64_t now_us, uint64_t rid, const ctki_frame_t *frame, uint64_t fresh_sid,
                      ctki_effects_t *effects);

/* What has become due without a frame; to be called until it returns false. */
bool ctki_in_tick (ctki_in_t *in, int64_t now_us, uint64_t fresh_sid, ctki_effects_t *effects);

/* The other connection has proved that the peer was this incarnation at alive_us
 * or before: a session with another one is over; one that was offered to another
 * one before opens when that has shown that it lives. sid_ended[] is filled in. */
void ctki_in_incarnation (ctki_in_t *in, uint64_t inc, int64_t alive_us, ctki_effects_t *effects);

/* The way was bad, and may be good again: acknowledge at once. */
void ctki_in_hurry (ctki_in_t *in, int64_t now_us);

/* The peer is gone for good, it said so on the other connection: nothing more is
 * taken in the open session. */
void ctki_in_end (ctki_in_t *in);

/* What the application has taken of this session so far. */
void ctki_in_consumed (ctki_in_t *in, int64_t now_us, uint64_t envelopes, uint64_t byte, uint64_t frames);

/* Consumption from which on the sender should be told: see ctki_in_consumed (). */
uint64_t ctki_in_wake_byte (const ctki_in_t *in);
uint64_t ctki_in_wake_frame (const ctki_in_t *in);

/* An acknowledgement that is due, for the connection in->rid; it stays due
 * until ctki_in_acked (). */
bool ctki_in_next (ctki_in_t *in, int64_t now_us, ctki_frame_t *frame);
void ctki_in_acked (ctki_in_t *in, int64_t now_us);
int64_t ctki_in_deadline (const ctki_in_t *in);

/* This server closes: take no more, say so until the sender has confirmed. */
void ctki_in_leave (ctki_in_t *in, int64_t now_us);

/* The connection in->rid is gone. */
void ctki_in_unreachable (ctki_in_t *in);

#endif
