/*
 * sim.h - a whole cluster in one thread, in virtual time: the real state
 * machines of several servers (both halves of each session, and what is known of
 * incarnations), a network that does its worst, and applications. A seed decides
 * everything, so that a failure can be played again.
 *
 *   world    the nodes, the clock, the order of events, the plan of troubles
 *   net      connections as libzmq has them: FIFO, a suffix lost when they break
 *   router   what actors/router.c does with the receiving halves
 *   sender   what actors/sender.c does with the sending halves
 *   app      what is sent, and what is taken
 *   oracle   what must hold, from what really happened
 *
 * Frames pass as bytes, through the codec. Router and sender of one server are
 * apart as they are in a real one: what they tell each other takes time.
 */
#ifndef CTKI_SIM_H
#define CTKI_SIM_H

#include <inttypes.h>

#include "src/inbox.h"
#include "src/life.h"
#include "src/mailbox.h"
#include "src/session.h"
#include "src/sys.h"

enum {
    SIM_NODES = 5,   /* at most; the first is pid 1 */
    SIM_AT_ONCE = 2, /* processes of one pid */
    SIM_PROCESSES = SIM_NODES * SIM_AT_ONCE,
    SIM_LIVES = 1024,       /* processes in one world */
    SIM_SESSIONS = 1 << 16, /* in one world */
    SIM_BATCH = 64,         /* frames in one step, as the actors have it */
    SIM_LINK_EVENTS = 16,   /* that wait for one sender */
    SIM_LATE_US = 200000    /* the longest that an event of a link, or an actor, is late in a bad world */
};

/* ---- what may happen: each place where the world is made worse, and each kind
 * of trouble in the plan. All must be hit in a long run. */

#define SIM_TROUBLES(X)                                                                                                \
    X (RESTART, "a process dies, another one starts")                                                                  \
    X (BREAK, "a connection breaks")                                                                                   \
    X (HALF_OPEN_THERE, "half-open: the way there is mute")                                                            \
    X (HALF_OPEN_BACK, "half-open: the way back is mute")                                                              \
    X (BLACKHOLE, "a connection is made, nothing passes")                                                              \
    X (REFUSED, "connections are refused for a while")                                                                 \
    X (WRONG_SERVER, "somebody else answers at the endpoint")                                                          \
    X (ONE_WAY, "a one-way partition")                                                                                 \
    X (PARTITION, "a partition")                                                                                       \
    X (SWIZZLE, "links are stopped one by one, and resumed in another order")                                          \
    X (STALL, "a connection stalls")                                                                                   \
    X (PAUSE, "a process is stopped for a while")                                                                      \
    X (DUPLICATE, "a second process of a pid")                                                                         \
    X (APP_STOPS, "an application takes nothing for a while")                                                          \
    X (UNLISTED, "a pid is not listed for a while")

#define SIM_SITES(X)                                                                                                   \
    X (MEMORY, "an allocation fails")                                                                                  \
    X (BLOCKED, "a sender's link has no room, without reason")                                                         \
    X (FULL, "a sender's link has no room")                                                                            \
    X (REPLY_BLOCKED, "the router's socket has no room")                                                               \
    X (REPLY_GONE, "a reply goes to a dead connection")                                                                \
    X (EARLY, "a step before its time")                                                                                \
    X (TWICE, "a step too many")                                                                                       \
    X (LATE_EVENT, "an event of a link is late")                                                                       \
    X (SLIPPED, "a frame on a connection that its sender does not know of yet")                                        \
    X (SUFFIX, "a connection takes frames with it")                                                                    \
    X (OLD_TAIL, "the rest of an old connection is read behind a new one's frames")                                    \
    X (LOST_REPLY, "a single answer is lost")                                                                          \
    X (OVERTAKEN, "an answer is overtaken by others")                                                                  \
    X (LOST_FRAME, "a single frame is lost")                                                                           \
    X (DOUBLED, "a frame comes twice")                                                                                 \
    X (SLOW_ACTOR, "an actor is scheduled late")                                                                       \
    X (TINY, "tiny windows")                                                                                           \
    X (STORM, "a storm of restarts")                                                                                   \
    X (RESEND, "a world where what is in doubt is sent again")                                                         \
    X (LAZY, "a world of lazy senders")                                                                                \
    X (UNWATCHED, "a process does not watch, or no longer")                                                            \
    X (OTHER_ADDRESS, "a connection to the second process of a pid")

#define SIM_NAME_IT(name, words) SIM_##name,
typedef enum { SIM_TROUBLES (SIM_NAME_IT) SIM_TROUBLE_KINDS } sim_trouble_t;
typedef enum { SIM_SITE_BASE = SIM_TROUBLE_KINDS - 1, SIM_SITES (SIM_NAME_IT) SIM_SITE_KINDS } sim_site_t;
#undef SIM_NAME_IT

/* What the protocol did, counted for the histogram. */
#define SIM_DEEDS(X)                                                                                                   \
    X (HELLO, "HELLO")                                                                                                 \
    X (WELCOME_NEW, "WELCOME, new")                                                                                    \
    X (WELCOME_RESUMED, "WELCOME, resumed")                                                                            \
    X (DATA, "DATA")                                                                                                   \
    X (DATA_AGAIN, "DATA again")                                                                                       \
    X (ACK, "ACK")                                                                                                     \
    X (GAP, "ACK with GAP")                                                                                            \
    X (PROBE, "ACK with PROBE")                                                                                        \
    X (PING, "PING")                                                                                                   \
    X (RESET, "RESET")                                                                                                 \
    X (REJECT_DUPLICATE, "REJECT, duplicate")                                                                          \
    X (REJECT_UNKNOWN, "REJECT, unknown pid")                                                                          \
    X (REWIND, "rewinds")                                                                                              \
    X (RELINK, "links made anew")                                                                                      \
    X (STATE_NOLINK, "frames in at NOLINK")                                                                            \
    X (STATE_GREET, "frames in at GREET")                                                                              \
    X (STATE_OPEN, "frames in at OPEN")                                                                                \
    X (HALF, "frames in beside a half session")                                                                        \
    X (NEWCOMER, "frames in beside a newcomer")                                                                        \
    X (ASIDE, "inlets put aside")                                                                                      \
    X (QUESTION, "questions to a sender")                                                                              \
    X (REPORT, "reports of a sender")                                                                                  \
    X (OUTBOUND_PROOF, "incarnations proved by the sender")                                                            \
    X (INBOUND_PROOF, "incarnations proved by the router")                                                             \
    X (OBITUARY, "obituaries")                                                                                         \
    X (FATES, "fates in them")                                                                                         \
    X (RESTARTED, "RESTARTED taken")                                                                                   \
    X (ABANDONED, "ABANDONED taken")                                                                                   \
    X (DOWN, "DOWN reported")                                                                                          \
    X (STALLED, "windows found closed")                                                                                \
    X (LARGE, "large envelopes sent")                                                                                  \
    X (BROADCAST, "broadcasts sent")                                                                                   \
    X (ENVELOPE, "envelopes taken")

#define SIM_NAME_IT(name, words) SIM_DID_##name,
typedef enum { SIM_DEEDS (SIM_NAME_IT) SIM_DEED_KINDS } sim_deed_t;
#undef SIM_NAME_IT

/* ---- the network */

/* A frame under way; its parts stand behind it. */
typedef struct sim_packet {
    struct sim_packet *next;
    int64_t at_us; /* CTKI_FOREVER: it stands still */
    uint32_t size[2];
    uint32_t room;
    int count;
} sim_packet_t;

typedef struct {
    sim_packet_t *head, *tail;
    unsigned count;
    int64_t latest_us; /* what is added arrives no earlier */
    bool mute;         /* nothing passes, and nobody is told */
} sim_way_t;

struct sim_sender;
struct sim_process;

typedef struct sim_conn {
    struct sim_conn *next; /* of its receiver */
    uint64_t rid;
    struct sim_sender *from; /* NULL: that end is gone */
    struct sim_process *to;  /* the same */
    unsigned src, dst;       /* nodes */
    sim_way_t there, back;
    bool broken;     /* what is given to it from now on vanishes */
    int64_t gone_us; /* when its receiver's end notices */
} sim_conn_t;

/* ---- what really happened between two processes (the oracle's) */

typedef struct {
    uint64_t envelopes; /* that end in the frames up to this one */
    uint64_t charge;
    uint32_t crc;
} sim_frame_t;

/* What a process sends to a node. Envelopes are numbered from 1. */
typedef struct {
    uint64_t accepted, accepted_charge;
    uint64_t base; /* envelopes that were settled before this session began */
    uint64_t sid;
    uint64_t peer_inc;
    uint64_t acked_seq, given_seq, last_seq; /* last: the one sent last */
    uint64_t acked, consumed;                /* envelopes of this session: acknowledged, known to be consumed */
    sim_frame_t *frames;                     /* of this session, by number */
    size_t capacity;
    uint32_t round;
    bool rewind;                             /* there is evidence for one that was not used yet */
    bool unwatched;                          /* at some time in this session: fates may be missing */
    uint64_t credit_frame, credit_byte;      /* the most that was told */
    uint64_t delivered, abandoned, in_doubt; /* envelopes that must be settled so by now */
    uint64_t said_delivered, said_abandoned, said_in_doubt, said_consumed;
    int64_t said_charge;
    uint64_t due_consumed, due_received, due_doubt, due_fates; /* in obituaries and not in events yet */
    int64_t closed_us;                                         /* since when the window is closed; 0: it is not */
    int64_t ping_us;                                           /* the last PING */
    uint64_t end_accepted;                                     /* when the last session ended */
} sim_stream_t;

/* A session, from its offer on; its number stands in its id. */
typedef struct {
    unsigned src_life, dst_life;
    uint64_t first;    /* number of its first envelope; 0: the sender has not entered it */
    uint64_t taken;    /* envelopes that were put into the inbox, or aside */
    uint64_t consumed; /* of those, by the application */
} sim_session_t;

/* What an application has seen of a node. */
typedef struct {
    unsigned life;    /* of whom it heard last, by an envelope or an event; 0: nobody */
    uint64_t number;  /* of the last envelope of that life */
    unsigned session; /* that it came in; 0: not known */
} sim_seen_t;

/* ---- a process */

typedef struct {
    int64_t at_us;
    int kind; /* CTKI_LINK_... */
} sim_link_event_t;

typedef struct sim_question {
    struct sim_question *next;
    int64_t at_us;
    uint32_t epoch;
    ctki_proof_t proof;
} sim_question_t;

typedef struct sim_report {
    struct sim_report *next;
    int64_t at_us;
    unsigned peer;
    uint32_t epoch;
    uint64_t inc;
    int64_t alive_us;
    ctki_obit_t *obit;
    ctki_restart_t *restart;
    int state;
    uint32_t refused, stuck_ms;
} sim_report_t;

typedef struct sim_sender {
    struct sim_process *process;
    unsigned peer; /* node */
    ctki_out_t out;
    ctki_mailbox_t mailbox;

    /* the link */
    sim_conn_t *conn, *old;
    int64_t connect_us, notice_us; /* when to connect; when the end of conn is noticed */
    int64_t reconnect_us;          /* how long to wait before the next try */
    sim_link_event_t event[SIM_LINK_EVENTS];
    unsigned events;
    bool blocked;

    /* as in actors/sender.c */
    int64_t due_us;
    sim_report_t told;
    uint32_t epoch;
    struct {
        uint32_t epoch;
        ctki_proof_t proof;
    } question;
    sim_question_t *questions, **questions_end;
    int64_t heard_us;     /* the oracle's: a valid frame of the peer, on either connection */
    int64_t late_from_us; /* from then on a pause made it late; 0: none did */
    int64_t excused_us;   /* of pauses since then */

    sim_stream_t stream;
} sim_sender_t;

typedef struct {
    ctki_in_t in;
    ctki_life_t life;
    ctki_inlet_t *aside, *last;
    unsigned owed;
    uint32_t owed_reason;
    int64_t retry_us;
    ctki_flow_t *flow, *spare;
    int told;
    uint64_t way_rid;    /* the oracle's: which connection answers go to, ... */
    uint32_t way_gen;    /* ... and why */
    uint32_t probe;      /* of the newcomer that waits, ... */
    bool probe_answered; /* ... and whether who has the session has answered it */
} sim_inbound_t;

typedef struct sim_process {
    unsigned node, slot, life;
    bool second; /* of its pid */
    ctki_session_setup_t setup;
    int64_t paused_until_us;
    bool watching, unwatched; /* now; at some time */

    ctki_inbox_t inbox;
    ctki_bell_t bell;
    ctki_peer_t *record[SIM_NODES];
    int64_t heard_us[SIM_NODES];

    ctki_map_t sids;
    sim_inbound_t *inbound[SIM_NODES];
    sim_conn_t *conns;
    ctki_inlet_t *inlet;
    ctki_restart_t *restart;
    sim_report_t *reports, **reports_end;
    int64_t reports_us;

    sim_sender_t *sender[SIM_NODES];

    /* the application */
    int64_t send_us, eat_us, stopped_until_us;
    sim_seen_t seen[SIM_NODES];
} sim_process_t;

/* ---- the world */

typedef struct {
    uint64_t seed, random;
    bool aloud;
    int64_t now_us;
    uint64_t events;
    uint64_t want; /* events, at least */

    /* how this world is */
    unsigned nodes;
    ctki_session_setup_t setup;
    unsigned room; /* frames in a connection */
    int64_t delay_us[SIM_NODES][SIM_NODES], jitter_us;
    int64_t latency_us; /* of a wake-up */
    int64_t send_pause_us, eat_pause_us;
    uint64_t queue_bytes;
    uint64_t odds[SIM_SITE_KINDS]; /* once in so many times; 0: never */
    bool enabled[SIM_TROUBLE_KINDS];
    bool lazy, storm, other_address;
    int64_t trouble_us;     /* the next, ... */
    uint64_t trouble_event; /* ... when so many events have happened at the latest */
    int64_t trouble_pause_us;
    bool chaos;     /* troubles may happen */
    unsigned whole; /* the nodes that are in order after that */
    bool sending;

    /* how it stands */
    bool blocked[SIM_NODES][SIM_NODES]; /* nothing passes from, to */
    int64_t heal_us[SIM_NODES][SIM_NODES];
    int64_t refuse_until_us[SIM_NODES];
    bool listed[SIM_NODES][SIM_NODES]; /* at, whom */
    int64_t listed_us[SIM_NODES][SIM_NODES];
    sim_process_t *process[SIM_PROCESSES];
    int64_t restart_us[SIM_NODES];         /* when the next process starts */
    int64_t single_us[SIM_NODES];          /* when one of two ends */
    bool doubled[SIM_NODES];               /* this pid had two processes at once */
    int64_t stop_us[SIM_NODES][SIM_NODES]; /* when a way is stopped */
    int64_t *when;                         /* by slot */
    uint64_t rids;
    unsigned stood; /* events since the clock moved */
    uint64_t left;  /* envelopes to be delivered, the most of a session */

    unsigned lives;
    struct {
        unsigned node;
        uint64_t inc;
    } life[SIM_LIVES];
    sim_session_t *session;
    unsigned sessions, sessions_max;
    ctki_pool_t *pool;
    sim_packet_t *spare;
    bool trouble_met[SIM_SITE_KINDS];
} sim_world_t;

/* The totals of a run. */
typedef struct {
    uint64_t seeds, events, accepted, delivered, abandoned, in_doubt, taken;
    uint64_t site[SIM_SITE_KINDS];
    uint64_t deed[SIM_DEED_KINDS];
    int64_t virtual_us, drain_worst_us;
    uint64_t drain_worst_seed;
} sim_totals_t;
extern sim_totals_t sim_totals;

/* ---- chance, story, failure */

uint64_t sim_chance (sim_world_t *w);
static inline uint64_t sim_below (sim_world_t *w, uint64_t limit)
{
    return limit ? sim_chance (w) % limit : 0;
}
static inline bool sim_one_in (sim_world_t *w, uint64_t n)
{
    return sim_below (w, n) == 0;
}

/* Notes that a site was hit. */
static inline void sim_hit (sim_world_t *w, unsigned site)
{
    sim_totals.site[site]++;
    w->trouble_met[site] = true;
}

/* Whether a site strikes now. */
static inline bool sim_strikes (sim_world_t *w, unsigned site)
{
    if (w->odds[site] == 0 || !w->chaos || !sim_one_in (w, w->odds[site]))
        return false;
    sim_hit (w, site);
    return true;
}

static inline void sim_did (sim_deed_t deed)
{
    sim_totals.deed[deed]++;
}

void sim_story (const sim_world_t *w, const char *format, ...) CTKI_PRINTF (2, 3);
#define SIM_TELL(w, ...) ((w)->aloud ? sim_story (w, __VA_ARGS__) : (void) 0)

_Noreturn void sim_fail (const sim_world_t *w, const char *what, const char *format, ...) CTKI_PRINTF (3, 4);
#define SIM_EXPECT(w, x, ...) (CTKI_LIKELY (x) ? (void) 0 : sim_fail (w, #x, __VA_ARGS__))

/* A name of a process for the story: 2.7 is the seventh process, of pid 2. */
const char *sim_name (const sim_process_t *process);

/* ---- world.c */

typedef enum {
    SIM_ROUTER,
    SIM_APP,
    SIM_SENDERS,
    SIM_LINKS = SIM_SENDERS + SIM_NODES,
    SIM_SLOTS = SIM_LINKS + SIM_NODES
} sim_slot_t;

void sim_world_run (uint64_t seed, uint64_t events, bool aloud);
void sim_catch_aborts (void); /* a world that aborts, or crashes, says its seed */

static inline void sim_wake (sim_world_t *w, const sim_process_t *process, unsigned slot, int64_t at_us)
{
    int64_t *when = &w->when[process->slot * SIM_SLOTS + slot];
    *when = CTKI_MIN (*when, at_us);
}

/* When something that is told now is heard. */
int64_t sim_soon (sim_world_t *w);

/* Makes allocations fail for a while, or not. */
void sim_memory_begin (sim_world_t *w);
void sim_memory_end (sim_world_t *w);

/* ---- trouble.c */

void sim_trouble_choose (sim_world_t *w);
void sim_trouble_strike (sim_world_t *w);
int64_t sim_trouble_due (const sim_world_t *w);
void sim_trouble_end (sim_world_t *w); /* from now on, for good, among the whole */
void sim_restart (sim_world_t *w, unsigned node);

/* ---- process.c */

sim_process_t *sim_process_start (sim_world_t *w, unsigned node, bool second);
void sim_process_die (sim_world_t *w, sim_process_t **process_p);
sim_process_t *sim_process_at (const sim_world_t *w, unsigned node, bool second);

/* ---- net.c */

bool sim_link_happen (sim_world_t *w, sim_sender_t *sender);
void sim_link_tear_down (sim_world_t *w, sim_sender_t *sender); /* closes the socket */
void sim_link_dial (sim_world_t *w, sim_sender_t *sender);      /* a fresh one connects */
int sim_link_send (sim_world_t *w, sim_sender_t *sender, const ctki_part_t *parts, int count); /* -1: no room */
sim_packet_t *sim_link_receive (sim_world_t *w, sim_sender_t *sender);
int sim_router_send (sim_world_t *w, sim_process_t *process, uint64_t rid, const uint8_t *bytes, size_t size);
sim_packet_t *sim_router_receive (sim_world_t *w, sim_process_t *process, uint64_t *rid);
int64_t sim_router_next (const sim_process_t *process);
void sim_conn_break (sim_world_t *w, sim_conn_t *conn);
void sim_conns_end (sim_world_t *w, sim_process_t *process); /* it dies */
void sim_way_block (sim_world_t *w, unsigned src, unsigned dst, bool on);
void sim_packet_free (sim_world_t *w, sim_packet_t *packet);
uint8_t *sim_packet_part (sim_packet_t *packet, int part);

/* ---- router.c, sender.c, app.c */

void sim_router_step (sim_world_t *w, sim_process_t *process);
void sim_router_fini (sim_world_t *w, sim_process_t *process);
void sim_report_free (sim_report_t *report);

sim_sender_t *sim_sender_start (sim_world_t *w, sim_process_t *process, unsigned peer);
void sim_sender_step (sim_world_t *w, sim_sender_t *sender);
void sim_sender_free (sim_world_t *w, sim_sender_t **sender_p);

void sim_app_step (sim_world_t *w, sim_process_t *process);
void sim_app_send_one (sim_world_t *w, sim_process_t *process, unsigned peer); /* to see that it arrives */

/* ---- oracle.c */

void sim_oracle_accepted (sim_world_t *w, sim_sender_t *sender, uint64_t number, size_t size);
void sim_oracle_sent (sim_world_t *w, sim_sender_t *sender, const ctki_emit_t *emit);
void sim_oracle_heard (sim_world_t *w, sim_sender_t *sender, const ctki_frame_t *frame, bool taken);
void sim_oracle_asked (sim_world_t *w, sim_sender_t *sender, uint64_t inc);
void sim_oracle_stepped (sim_world_t *w, sim_sender_t *sender); /* after a step: figures, clocks */
void sim_oracle_reported (sim_world_t *w, sim_sender_t *sender, const sim_report_t *report);
void sim_oracle_forget (sim_stream_t *stream);

void sim_oracle_offered (sim_world_t *w, sim_process_t *process, unsigned peer, uint64_t sid, uint64_t inc);
void sim_oracle_in (sim_world_t *w, sim_process_t *process, unsigned peer, uint64_t rid, const ctki_frame_t *frame,
                    const ctki_effects_t *fx);
void sim_oracle_tick (sim_world_t *w, sim_process_t *process, unsigned peer, const ctki_effects_t *fx);
void sim_oracle_given (sim_world_t *w, sim_process_t *process, unsigned peer, const ctki_frame_t *frame,
                       const ctki_effects_t *fx);
void sim_oracle_taken (sim_world_t *w, sim_process_t *process, const ctalk_envelope_t *envelope);
void sim_oracle_unheard (sim_process_t *process, unsigned peer, const ctki_obit_t *obits); /* nobody watches */
void sim_oracle_paused (sim_world_t *w, sim_process_t *process);
void sim_oracle_woke (sim_world_t *w, sim_sender_t *sender);
bool sim_oracle_settled (const sim_process_t *from, const sim_process_t *to); /* all that was accepted has arrived */
void sim_oracle_arrived (sim_world_t *w, const sim_process_t *from, const sim_process_t *to);

uint64_t sim_fresh_sid (sim_world_t *w);
static inline sim_session_t *sim_session (const sim_world_t *w, uint64_t sid)
{
    return &w->session[sid & (SIM_SESSIONS - 1)]; /* its number is the low part of the id */
}
static inline unsigned sim_life_of (uint64_t inc)
{
    return (unsigned) (inc & (SIM_LIVES - 1));
}

/* Envelopes: who sent them and their number stand in the msg id, all bytes follow from it. */
static inline int64_t sim_msg_id (unsigned life, unsigned peer, uint64_t number)
{
    return (int64_t) ((uint64_t) life << 48 | (uint64_t) peer << 40 | number);
}
void sim_fill (uint8_t *data, size_t size, int64_t msg_id);
bool sim_is_filled (const uint8_t *data, size_t size, int64_t msg_id);

#endif
