/*
 * clustertalk.h - the whole public interface of ClusterTalk.
 *
 * ClusterTalk lets a group of servers talk to each other. A server is any
 * entity that needs to communicate. The servers form a cluster; each has a
 * numeric pid and a socket endpoint, both given by a JSON config. Messages
 * travel in envelopes (pid, message id, opaque payload), point to point or
 * broadcast.
 *
 * The guarantee. For each ordered pair of servers (s, r) and each pair of their
 * incarnations: the envelopes that r's inbox gets from s are, at every moment, a
 * prefix of the sequence that s assigned to it in the order in which its sends
 * were accepted, each once and unchanged. If both processes stay alive and the
 * network lets them talk for long enough, every accepted envelope is received;
 * disconnections and reconnections do not matter. If r restarts, s is told which
 * envelopes were consumed, which were received but perhaps not processed, and
 * which are in doubt; envelopes never transmitted continue to the new
 * incarnation; nothing else crosses incarnations unless asked. If s restarts, r
 * is told before it sees anything new. If a limit set by the operator is reached,
 * the send fails or the session is reported abandoned; nothing is dropped in
 * silence. (Who is told: see ctalk_server_watch_peers ().)
 *
 * Not promised: survival of data when a process dies; order between different
 * senders or between the receivers of a broadcast; a common view of membership;
 * delivery through a member that lies.
 *
 * Conventions that hold for every call below, unless its own block differs:
 *
 *   Errors     -1 or NULL, and errno says why. A call that takes a
 *              ctalk_error_t * (NULL is allowed) also fills in a text, and
 *              line and column where a file is at fault.
 *   Threads    every call may be made from any thread at any time. The one
 *              exception: nothing may be called on a server once its
 *              ctalk_server_close () has returned.
 *   Timeouts   timeout_ms is always the last argument: -1 waits for ever,
 *              0 does not wait, less than -1 is EINVAL. A time that ran out
 *              is EAGAIN.
 *   Signals    a blocking call returns EINTR when a signal handler ran in the
 *              waiting thread, with nothing sent and nothing taken. The
 *              library installs no handler; its threads block all signals.
 *   Help       a thread that sends or receives may meanwhile do the work of
 *              the library's own threads that sleep (option "Help"). What
 *              keeps it from running then (a long signal handler, a low
 *              priority) delays acknowledgements and heartbeats, too.
 *   Cancelling no call on a server is a cancellation point: a thread that is
 *              cancelled (pthread_cancel (), deferred) meanwhile ends after it.
 *   Fork       in a child process, calls on a server made before the fork
 *              fail with EOWNERDEAD; see ctalk_server_close ().
 *   Callbacks  no function of yours is ever called with a lock of the library
 *              held.
 *
 * Copyright (c) the ClusterTalk authors. SPDX-License-Identifier: MPL-2.0
 */
#ifndef CLUSTERTALK_H
#define CLUSTERTALK_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CTALK_VERSION_MAJOR 0
#define CTALK_VERSION_MINOR 1
#define CTALK_VERSION_PATCH 0

#if defined(__GNUC__) || defined(__clang__)
#define CTALK_EXPORT __attribute__ ((visibility ("default")))
#else
#define CTALK_EXPORT
#endif

/* ------------------------------------------------------------------ types */

/* The number of a server in its cluster: 0 ... INT32_MAX. */
typedef int32_t ctalk_pid_t;

/* As the receiver of an envelope: every other server of the cluster. */
#define CTALK_BROADCAST ((ctalk_pid_t) -1)

/* What went wrong. code is an errno; line and column count from 1 and are 0
 * where no file is at fault; text is one line, always terminated. */
typedef struct {
    int code;
    int line;
    int column;
    char text[244];
} ctalk_error_t;

/* What a received envelope is: a message, or an event. Those of CTALK_PEER_...
 * are about the peer in pid, come to the inboxes of those who asked for them
 * (ctalk_server_watch_peers ()), and their data is a ctalk_event_t. May grow:
 * ignore a kind that you do not know. */
typedef enum {
    CTALK_MESSAGE = 0,
    CTALK_PEER_UP,        /* its session is open and it is heard */
    CTALK_PEER_SUSPECT,   /* not heard for SuspectMs */
    CTALK_PEER_DOWN,      /* not heard for DownMs; what is queued for it waits */
    CTALK_PEER_RESTARTED, /* it is another process now: what became of what was sent to the former one */
    CTALK_PEER_LEFT,      /* it said goodbye */
    CTALK_PEER_STUCK,     /* it is there, and its application has taken nothing for DownMs */
    CTALK_PEER_REFUSED,   /* one of the two will not talk to the other: reason */
    CTALK_PEER_ABANDONED, /* it gave up envelopes for us: it had removed us, and added us again */
    CTALK_ACTOR_DOWN,     /* to an actor: one that it monitors has ended, or cannot be reached (ctalk_actor_monitor ()) */
    CTALK_TIMER,          /* to an actor: its own timer (ctalk_actor_send_after ()) */
    CTALK_GROUP_JOINED,   /* to an actor: a member of a group that it watches came (ctalk_group_watch ()) ... */
    CTALK_GROUP_LEFT      /* ... or went */
} ctalk_kind_t;

/* Flags of an envelope. */
enum {
    CTALK_WAS_BROADCAST = 1, /* received: it was sent to CTALK_BROADCAST */
    CTALK_IF_UP = 2          /* to send: EHOSTDOWN, and nothing queued, if the peer is not up */
};

/* A message with its address. Initialise with = { 0 } or designators: fields
 * may be added at the end. */
typedef struct {
    ctalk_pid_t pid;   /* to send: the receiver, or CTALK_BROADCAST; received: the sender */
    ctalk_kind_t kind; /* CTALK_MESSAGE, or the event that this envelope reports */
    int64_t msg_id;    /* the application's own, opaque to the library */
    const void *data;  /* received: 8-byte aligned, valid until ctalk_envelope_close () */
    size_t size;       /* of data, in bytes */
    uint64_t to;       /* id of the receiving actor; 0 is the server itself (its inbox) */
    uint64_t from;     /* id of the sending actor; 0 is the server itself */
    uint32_t flags;    /* received: CTALK_WAS_BROADCAST; to send: 0 or CTALK_IF_UP */
    uint32_t reserved; /* 0 */
    void *lease;       /* received: what keeps data alive; may outlive the server */
} ctalk_envelope_t;

/* Why: the reason of an event, or of a state (ctalk_stats_t). May grow. */
enum {
    CTALK_WHY_NONE = 0,
    CTALK_WHY_VERSION = 2,       /* no version of the protocol that both speak */
    CTALK_WHY_CLUSTER = 3,       /* another "Cluster" */
    CTALK_WHY_PID = 4,           /* at its endpoint is a server with another pid */
    CTALK_WHY_DUPLICATE = 5,     /* another process with this pid is there and lives */
    CTALK_WHY_UNKNOWN_PID = 6,   /* the peer does not list this server */
    CTALK_WHY_QUARANTINED = 7,   /* it broke the protocol too often */
    CTALK_WHY_CLOSING = 8,       /* it is closing, or did */
    CTALK_WHY_ABANDONED = 9,     /* the peer was removed */
    CTALK_WHY_LIMITS = 10,       /* the sender's MaxMessageBytes is above the receiver's */
    CTALK_WHY_SILENT = 32,       /* nothing is heard from it, though there is a connection */
    CTALK_WHY_UNREACHABLE = 33,  /* there is no connection to it */
    CTALK_WHY_NO_ADDRESS = 34,   /* its host's name has no address, or its endpoint is not known */
    CTALK_WHY_PROTOCOL = 35,     /* what answers at its endpoint does not speak this protocol */
    CTALK_WHY_NOT_CONSUMING = 36, /* its application does not receive */
    CTALK_WHY_EXITED = 64,       /* CTALK_ACTOR_DOWN: its function returned: exit_reason */
    CTALK_WHY_NO_ACTOR = 65,     /* the same: its server has no such actor */
    CTALK_WHY_DOWN = 66,         /* the same: its server is down */
    CTALK_WHY_RESTARTED = 67,    /* the same: its server is another process now */
    CTALK_WHY_REMOVED = 68       /* the same: its server is no peer (any more) */
};

/* What became of an envelope when its receiver was restarted. */
enum {
    CTALK_RECEIVED = 1, /* it was received; whether it was processed is not known */
    CTALK_IN_DOUBT = 2, /* it was on its way: received or not */
    CTALK_RESENT = 3    /* the same, and sent again to the new process ("OnRestart": "resend") */
};
typedef struct {
    int64_t msg_id;
    uint64_t to, from; /* as in the envelope */
    uint64_t ordinal;  /* its number in the session with the former process, from 1 */
    int kind;          /* CTALK_RECEIVED ... */
    uint32_t flags;    /* CTALK_WAS_BROADCAST */
} ctalk_fate_t;

/* What an event says; the data of an envelope whose kind is CTALK_PEER_... or
 * CTALK_ACTOR_DOWN. All of it lives until that envelope is closed. */
typedef struct {
    uint64_t incarnation;     /* of the peer now; 0: not known */
    uint64_t old_incarnation; /* RESTARTED: the former one; else 0 */
    int32_t reason;           /* CTALK_WHY_... */
    char text[64];            /* the same in words, for people */
    /* RESTARTED: of the envelopes that were accepted here for the former process
     * and not known to be consumed at the last event. The counts have in them what
     * servers tell each other about actors and groups; the fates do not. */
    uint64_t consumed;  /* taken by its application, since its session began */
    uint64_t received;  /* received there and not known to be taken */
    uint64_t in_doubt;  /* sent, and not known to be received; abandoned */
    uint64_t carried;   /* they go to the new process: never sent before, or CTALK_RESENT */
    size_t fates;       /* how many follow: the received ones, then those in doubt or sent again, each in order */
    const ctalk_fate_t *fate;
    uint64_t abandoned; /* ABANDONED: how many envelopes the peer gave up */
    int32_t exit_reason; /* CTALK_ACTOR_DOWN with CTALK_WHY_EXITED: what the actor's function returned */
    uint32_t reserved;
} ctalk_event_t;

/* Directions of a way between this server and a peer, for cuts and impairments. */
enum { CTALK_IN = 1, CTALK_OUT = 2 };

/* A bad way, for tests: see ctalk_server_impair (). */
typedef struct {
    double loss, duplicate; /* of a frame, probabilities from 0 to 1 */
    int delay_ms;           /* of every frame, up to 60,000 */
    int jitter_ms;          /* 0 to so much more, drawn for each frame; up to 60,000 */
    uint64_t seed;          /* the same draws for the same seed */
} ctalk_impairment_t;

/* The state of a peer, as this server sees it. May grow. */
enum {
    CTALK_STATE_IDLE = 0,   /* "Senders": "lazy", and nothing was sent to it or asked about it yet */
    CTALK_STATE_CONNECTING, /* no session with it yet, but not for DownMs */
    CTALK_STATE_UP,         /* the session to it is open, a valid frame came within SuspectMs */
    CTALK_STATE_SUSPECT,    /* no valid frame for SuspectMs */
    CTALK_STATE_DOWN,       /* no valid frame for DownMs */
    CTALK_STATE_LEFT        /* it closed; what is queued waits for its next incarnation */
};

/* Figures about one peer, or about the server in whole; see
 * ctalk_server_stats (). Envelopes unless a unit is named. Fields are added in
 * place of the reserved tail. */
typedef struct {
    /* Sending: accepted = delivered + abandoned + queued, at every quiet moment. */
    uint64_t accepted;            /* taken by a send call, once per destination */
    uint64_t delivered;           /* acknowledged by the peer */
    uint64_t abandoned;           /* given up at close, removal or restart */
    uint64_t in_doubt;            /* of those, perhaps received */
    uint64_t queued;              /* accepted, and neither delivered nor abandoned yet */
    uint64_t queued_bytes;        /* the charge for them: payload + 64 bytes each */
    uint64_t skipped;             /* broadcasts that a down peer with a full queue did not get */
    uint64_t refused_full;        /* send failed with EAGAIN */
    uint64_t refused_not_up;      /* EHOSTDOWN */
    uint64_t refused_too_big;     /* EMSGSIZE; in the totals only */
    uint64_t refused_unreachable; /* EHOSTUNREACH; in the totals only */
    uint64_t refused_invalid;     /* EINVAL; in the totals only */
    uint64_t refused_shutdown;    /* ESHUTDOWN; in the totals only */
    uint64_t refused_memory;      /* ENOMEM; in the totals only */
    uint64_t refused_interrupted; /* EINTR; in the totals only */
    /* Receiving: received = consumed + in_inbox + no_such_actor. */
    uint64_t received;      /* whole envelopes taken over from the peer */
    uint64_t consumed;      /* handed to the application by a receive call */
    uint64_t in_inbox;      /* received and not consumed yet */
    uint64_t no_such_actor; /* addressed to an actor that this server does not have */
    /* The link, frames unless a unit is named. */
    uint64_t duplicates;     /* frames discarded because they had been received before */
    uint64_t malformed;      /* frames discarded because they were not valid */
    uint64_t retransmitted;  /* frames sent again */
    uint64_t reconnects;     /* connections made after the first */
    uint64_t rtt_us;         /* round trip of a heartbeat, smoothed; 0: not known yet */
    uint64_t rtt_worst_us;   /* the worst */
    uint64_t state;          /* CTALK_STATE_..., not in the totals */
    uint64_t state_since_ms; /* for how long it has had that state; not in the totals */
    /* Which way envelopes went; in the totals only. */
    uint64_t routed; /* envelopes for another server that passed the router, once per destination */
    uint64_t helped; /* steps of an actor run by another thread, a sending one or the router's */
    uint64_t led;    /* steps of the router run by a receiving thread */
    uint64_t rung;   /* times that a sending thread woke an actor */
    /* The link, continued. */
    uint64_t rebuilt;   /* times that a silent link was torn down and made anew */
    uint64_t restarts;  /* times that the peer was found to be another process */
    uint64_t reason;    /* why it is not up, CTALK_WHY_...; not in the totals */
    uint64_t stuck_ms;  /* for how long its application has taken nothing while something waits there; not in the totals */
    /* Actors. For the own pid and in the totals only. */
    uint64_t actors;       /* that run now */
    uint64_t late_replies; /* that came when nobody waited for them any more: discarded */
    uint64_t reserved[10];
} ctalk_stats_t;

typedef struct ctalk_actor ctalk_actor_t;   /* an actor, as its own function sees it */
typedef struct ctalk_config ctalk_config_t; /* who is in the cluster, and the options */
typedef struct ctalk_server ctalk_server_t; /* one member of the cluster, in this process */

/* ---------------------------------------------------------------- general */

/*
 * The version of the library in use, "major.minor.patch". A constant string.
 */
CTALK_EXPORT const char *ctalk_version (void);

/* Levels of the log, the graver the lower. */
enum { CTALK_LOG_ERROR = 1, CTALK_LOG_WARNING = 2, CTALK_LOG_INFO = 3, CTALK_LOG_DEBUG = 4 };

/*
 * Says where the library's log lines go. Silent by default; fn NULL makes it
 * silent again. One sink per process.
 *
 * Of several lines that one step of an actor has to say, the last is passed on.
 *
 *   fn      called with the level, one line of text without newline and arg,
 *           from any thread of the library or of a caller, never from two at
 *           once, with no lock of a server held. It must not block and must
 *           not call this function.
 *   level   lines graver than or as grave as this are passed on.
 *
 * When it returns, the former fn is not running and will not be called again.
 */
CTALK_EXPORT void ctalk_log_set (void (*fn) (int level, const char *text, void *arg), void *arg, int level);

/* ----------------------------------------------------------------- config */

/*
 * An empty config: no server, every option at its default. The caller owns
 * it: ctalk_config_destroy (). A config is not changed by any other call than
 * those that are given it as non-const; those must not run at the same time
 * as another call on the same config. NULL: ENOMEM.
 */
CTALK_EXPORT ctalk_config_t *ctalk_config_new (void);

/*
 * Reads a config from a JSON file of at most 1 MiB; see the README for its
 * grammar. It is validated in full; the first error is reported.
 *
 *   error   file, line, column, field and reason. May be NULL.
 *
 * NULL: ENOENT, EACCES, EISDIR and the like: the file cannot be read; EINVAL:
 * it is not a valid config; EFBIG: larger than 1 MiB; ENOMEM.
 */
CTALK_EXPORT ctalk_config_t *ctalk_config_load (const char *path, ctalk_error_t *error);

/*
 * The same from size bytes of memory, which are copied where needed.
 */
CTALK_EXPORT ctalk_config_t *ctalk_config_parse (const char *json, size_t size, ctalk_error_t *error);

/*
 * Checks a config file and reports every error in it, in the order of the
 * file. A text that is not JSON ends the check at its first error.
 *
 *   report   called once per error on the caller's thread; may be NULL.
 *
 * Returns how many errors there are, 0 when the config is good; a file that
 * cannot be read counts as one.
 */
CTALK_EXPORT int ctalk_config_check (const char *path, void (*report) (const ctalk_error_t *error, void *arg),
                                     void *arg);

/*
 * Adds a server to a config.
 *
 *   endpoint   where it binds and where the others connect: "host:port",
 *              "[v6]:port", or a full tcp://, ipc:// (absolute path) or
 *              inproc://. Port "*" or 0 lets the system choose; see
 *              ctalk_server_endpoint ().
 *
 * -1: EEXIST: the pid is there, or another server has this endpoint; EINVAL:
 * the pid is negative or the endpoint is not one; ENOMEM.
 */
CTALK_EXPORT int ctalk_config_add_server (ctalk_config_t *config, ctalk_pid_t pid, const char *endpoint,
                                          ctalk_error_t *error);

/*
 * Sets an option by its name, in the text that the file would have:
 * ("QueueBytes", "1048576"), ("Senders", "lazy"). That HeartbeatMs < SuspectMs
 * < DownMs is checked by ctalk_server_new (), so their order does not matter.
 *
 * -1: EINVAL: no such option, or a value out of its range (the text names it);
 * ENOMEM.
 */
CTALK_EXPORT int ctalk_config_set (ctalk_config_t *config, const char *option, const char *value,
                                   ctalk_error_t *error);

/*
 * The value of an option as text, "Cluster" (the cluster's name) among them;
 * valid until the option is set again or the config destroyed. NULL: EINVAL:
 * no such option.
 */
CTALK_EXPORT const char *ctalk_config_get (const ctalk_config_t *config, const char *option);

/*
 * The pids in ascending order, at most capacity of them, into pids (which may
 * be NULL when capacity is 0). Returns how many there are.
 */
CTALK_EXPORT int ctalk_config_pids (const ctalk_config_t *config, ctalk_pid_t *pids, size_t capacity);

/*
 * Where others reach a server, in normal form ("tcp://127.0.0.1:5001"); valid
 * as long as the config. NULL: EHOSTUNREACH: no such pid.
 */
CTALK_EXPORT const char *ctalk_config_endpoint (const ctalk_config_t *config, ctalk_pid_t pid);

/*
 * Frees a config and sets the caller's pointer to NULL. NULL and a pointer to
 * NULL are harmless. Servers made from it are not affected.
 */
CTALK_EXPORT void ctalk_config_destroy (ctalk_config_t **config_p);

/* ----------------------------------------------------------------- server */

/*
 * Starts the server with this pid: binds its endpoint, starts its router actor
 * and, with "Senders": "eager", one sender actor per peer. It does not wait
 * for the peers: see ctalk_server_wait_up ().
 *
 *   config   is copied (its parts are shared, not duplicated).
 *
 * Threads: one for the router and one per started sender; one libzmq context
 * per process with its I/O threads, made with the first server and ended with
 * the last.
 *
 * NULL: EINVAL: no config, or options that contradict each other;
 * EHOSTUNREACH: the pid is not in the config; EADDRINUSE, EADDRNOTAVAIL,
 * EACCES ...: its own endpoint cannot be bound; EMFILE: too few file
 * descriptors are free (the text says how many are needed and what the limit
 * is); EAGAIN: a thread cannot be started; ENOMEM. Nothing is left behind.
 */
CTALK_EXPORT ctalk_server_t *ctalk_server_new (ctalk_pid_t pid, const ctalk_config_t *config, ctalk_error_t *error);

/*
 * Closes a server: refuses new sends, waits until what was accepted is
 * acknowledged, says goodbye, stops its threads, frees its port, and sets the
 * caller's pointer to NULL.
 *
 *   timeout_ms   how long to wait for the acknowledgements; -1: for ever. It
 *                returns at the latest 100 ms after that.
 *
 * Returns how many accepted envelopes were abandoned, counted per destination
 * (at most INT_MAX); 0 is the only clean end. A peer that said goodbye itself
 * ends the wait for it: what it did not receive is abandoned. From the first
 * moment, sends and receives on other threads fail with ESHUTDOWN, waiting
 * ones wake, and the close waits until they have left. What lies unread in the
 * inbox is dropped and not counted: to its senders it was received. Envelopes
 * that were received stay valid until their ctalk_envelope_close ().
 *
 * Call it once, from one thread. NULL and a pointer to NULL return 0. In a
 * child process after a fork it frees what memory it safely can, touches
 * nothing of the parent's and returns 0. Actors are asked to stop, and the close
 * waits for them beyond its timeout, if need be. -1: EINVAL: timeout below -1;
 * EDEADLK: called by an actor of this server; the server stays open then.
 */
CTALK_EXPORT int ctalk_server_close (ctalk_server_t **server_p, int timeout_ms);

/*
 * Waits until all that was accepted for a peer (CTALK_BROADCAST: for every
 * peer) before this call is acknowledged: it lies in the memory of the
 * receiver. The receiving application need not have taken it.
 *
 * -1: EAGAIN: not within the timeout; EHOSTUNREACH: no such peer, or it was
 * removed while waiting; ECONNABORTED: some of it was abandoned because the
 * peer restarted; EINVAL; EINTR; ESHUTDOWN.
 */
CTALK_EXPORT int ctalk_server_flush (ctalk_server_t *server, ctalk_pid_t peer, int timeout_ms);

/*
 * The server's own pid.
 */
CTALK_EXPORT ctalk_pid_t ctalk_server_pid (const ctalk_server_t *server);

/*
 * The incarnation of this server (its own pid) or of a peer as last seen: a
 * random number drawn at each start, to be compared for equality only. 0: this
 * peer was never seen, or there is no such peer.
 */
CTALK_EXPORT uint64_t ctalk_server_incarnation (ctalk_server_t *server, ctalk_pid_t pid);

/*
 * Where this server is bound, wildcard ports resolved ("tcp://127.0.0.1:41233").
 * The string lives until close.
 */
CTALK_EXPORT const char *ctalk_server_endpoint (const ctalk_server_t *server);

/*
 * The pids of the other servers, ascending, at most capacity of them. Returns
 * how many there are. -1: EINVAL.
 */
CTALK_EXPORT int ctalk_server_peers (ctalk_server_t *server, ctalk_pid_t *pids, size_t capacity);

/*
 * The same with this server's own among them: what a majority is counted over.
 */
CTALK_EXPORT int ctalk_server_members (ctalk_server_t *server, ctalk_pid_t *pids, size_t capacity);

/*
 * The state of a peer, a CTALK_STATE_...: this server's own view, of the way
 * from here to there. That the peer can reach us is its own "up". The own pid
 * is always up. -1: EHOSTUNREACH: no such peer.
 */
CTALK_EXPORT int ctalk_server_peer_state (ctalk_server_t *server, ctalk_pid_t peer);

/*
 * Adds a peer to a running server, or gives a listed peer whose port was left
 * to the system its endpoint. The others are not told: add it there too.
 *
 * -1: EEXIST: it is there with a usable endpoint; EINVAL: not a pid, the own
 * one, or not an endpoint that can be connected to; EAGAIN: its thread cannot
 * be started; EMFILE; ENOMEM; ESHUTDOWN.
 */
CTALK_EXPORT int ctalk_server_add_peer (ctalk_server_t *server, ctalk_pid_t pid, const char *endpoint);

/*
 * Removes a peer: tells it so if it can be reached, abandons what is queued
 * for it (counted), and takes nothing more from it. Envelopes from it that
 * are in the inbox stay there. Returns when its sender has ended, within some
 * 100 ms.
 *
 * -1: ESRCH: no such peer; EINVAL; ESHUTDOWN.
 */
CTALK_EXPORT int ctalk_server_remove_peer (ctalk_server_t *server, ctalk_pid_t pid);

/*
 * Waits until so many peers are up; SIZE_MAX: all there are. Starts all
 * senders of a lazy server.
 *
 * -1: EAGAIN: not within the timeout; EINVAL: more than there are peers;
 * EINTR; ESHUTDOWN.
 */
CTALK_EXPORT int ctalk_server_wait_up (ctalk_server_t *server, size_t peers, int timeout_ms);

/*
 * Whether events about the peers come in the inbox, among the envelopes and in
 * order with them: the data of an envelope whose kind is CTALK_PEER_... is a
 * ctalk_event_t. Off at the start.
 *
 * When it is switched on, one CTALK_PEER_UP comes for each peer that is up at
 * that moment, one CTALK_PEER_REFUSED for each that is refused or refuses, and
 * from then on every change. Events are not counted as
 * received or consumed, and take no room of anybody's window.
 *
 *   UP, SUSPECT, DOWN   the state of the peer. Of several with nothing else of
 *                       that peer between them, the newest is kept.
 *   RESTARTED           once per incarnation after the first that was seen, and
 *                       before every envelope of it; nothing of the former one
 *                       comes after it. It tells what became of what was sent
 *                       to the former process: counts, and a fate for each
 *                       envelope (those of CTALK_RECEIVED if they were
 *                       acknowledged while this was on).
 *   LEFT                the peer has closed; nothing of it comes after this.
 *   STUCK               the peer's application has taken nothing for DownMs.
 *   REFUSED             one of the two refuses the other, once per reason.
 *   ABANDONED           the peer gave up envelopes that it had accepted for us.
 *
 * Switched off, what is in the inbox stays. -1: ENOMEM; ESHUTDOWN; EINVAL.
 */
CTALK_EXPORT int ctalk_server_watch_peers (ctalk_server_t *server, bool on);

/*
 * Cuts the way to or from a peer, for tests of partitions: every frame is
 * dropped, handshakes and acknowledgements among them, from this call on until
 * it is healed.
 *
 *   peer         CTALK_BROADCAST: all peers, those that come later not.
 *   directions   CTALK_IN, CTALK_OUT or both (CTALK_IN | CTALK_OUT).
 *   on           false heals.
 *
 * Sends are accepted all the same, broadcasts too: what is queued goes out
 * after healing, none of it is lost. Cut in both directions, peers see each
 * other as down after DownMs. A cut in one direction soon stops the other one
 * as well: who hears no answer makes its link anew, and a greeting needs both.
 * Does not block.
 *
 * -1: EHOSTUNREACH: no such peer; EINVAL: the own pid, no direction; ENOMEM;
 * ESHUTDOWN.
 */
CTALK_EXPORT int ctalk_server_cut (ctalk_server_t *server, ctalk_pid_t peer, int directions, bool on);

/*
 * Makes the way to or from a peer a bad one, for tests: frames are lost,
 * delayed and doubled by seeded draws, each direction with its own. Nothing of
 * that changes what the peers receive, only when. Frames of one way stay in
 * order. After a lost frame all that is under way is sent again (go-back-N): a
 * lossy way costs far more frames than it loses.
 *
 *   peer, directions   as for ctalk_server_cut ().
 *   how                copied; NULL: a good way again.
 *
 * -1: EHOSTUNREACH; EINVAL: also a probability or a time out of its range;
 * ENOMEM; ESHUTDOWN.
 */
CTALK_EXPORT int ctalk_server_impair (ctalk_server_t *server, ctalk_pid_t peer, int directions,
                                      const ctalk_impairment_t *how);

/*
 * A file descriptor for poll, epoll or select: readable, level-triggered,
 * while the inbox holds something and from the start of close on. It is made
 * at the first call, is the same for the server's whole life and belongs to
 * the server: never read, write or close it. With one receiving thread it is
 * never readable for nothing.
 *
 * -1: EMFILE, ENFILE, ENOMEM; ESHUTDOWN.
 */
CTALK_EXPORT int ctalk_server_fd (ctalk_server_t *server);

/*
 * Makes one waiting receive return EINTR; if none waits, the next one does.
 * Async-signal-safe: the one call that a signal handler may make. -1: EINVAL.
 */
CTALK_EXPORT int ctalk_server_wake (ctalk_server_t *server);

/*
 * Figures about a peer; about local deliveries for the own pid; totals for
 * CTALK_BROADCAST. Nothing is stopped for it: the fields are each right, and
 * agree with each other when nothing is under way.
 *
 * -1: EHOSTUNREACH: no such peer; EINVAL.
 */
CTALK_EXPORT int ctalk_server_stats (ctalk_server_t *server, ctalk_pid_t peer, ctalk_stats_t *stats);

/* ---------------------------------------------------------------- sending */

/*
 * Sends an envelope: to a peer, to every peer (CTALK_BROADCAST), or to the
 * own pid (delivered locally). Accepted envelopes arrive at each receiver in
 * the order in which its sends were accepted, each once.
 *
 *   envelope     pid, msg_id, data, size, to, from and flags are read; nothing
 *                is ever written to it. The payload is copied, once: the
 *                caller keeps its own and may reuse it on return.
 *   timeout_ms   how long to wait for room in the peer's queue. An envelope is
 *                admitted when less than QueueBytes is queued for its peer. A
 *                peer that is down queues until its queue is full.
 *
 * A broadcast goes to every peer, not to the sender; room is found in the
 * queues of all peers that are not down, or it goes to none. A down peer whose
 * queue is full is skipped and counted. With no peers it returns 0. With
 * CTALK_IF_UP it goes to all or, if one of them is not up, to none. While a
 * broadcast waits, no later send overtakes it at the peers that lack room.
 *
 * Two programs that only send with timeout -1 and never receive stop each
 * other: their queues fill up and both wait for room for ever.
 *
 * Returns 0 when accepted. -1, and nothing was sent: EINVAL: NULL, a pid below
 * -1, data NULL with a size, a kind other than CTALK_MESSAGE, unknown flags,
 * a reserved field not 0; EHOSTUNREACH: the pid is not in the cluster;
 * EMSGSIZE: larger than MaxMessageBytes; EHOSTDOWN: CTALK_IF_UP, and the peer
 * is not up; EAGAIN: no room within the timeout; ESHUTDOWN: closing; ENOMEM;
 * EINTR; EOWNERDEAD.
 */
CTALK_EXPORT int ctalk_send (ctalk_server_t *server, const ctalk_envelope_t *envelope, int timeout_ms);

/*
 * The same, taking over the payload instead of copying it (from 4 KiB on;
 * smaller ones are copied and freed at once).
 *
 *   free_fn   called exactly once with data and hint when the library is done
 *             with a payload that was accepted: before ctalk_server_close ()
 *             returns at the latest, on a thread of the library or inside some
 *             ctalk call, with no lock held. It must not block, nor add
 *             or remove a peer, nor close. NULL: nothing
 *             is called (a constant). A payload for the own pid is copied, and
 *             freed at once.
 *
 * When it fails the payload is still the caller's and free_fn is not called.
 * Until free_fn is called the payload must not be changed.
 */
CTALK_EXPORT int ctalk_send_owned (ctalk_server_t *server, const ctalk_envelope_t *envelope,
                                   void (*free_fn) (void *data, void *hint), void *hint, int timeout_ms);

/*
 * Sends count envelopes in order, as that many ctalk_send () would, cheaper.
 *
 * Returns how many were accepted, from the first on: fewer than count when one
 * of them failed (errno says why). -1 if none was. With count 0 it returns 0.
 */
CTALK_EXPORT int ctalk_send_many (ctalk_server_t *server, const ctalk_envelope_t *envelopes, size_t count,
                                  int timeout_ms);

/* -------------------------------------------------------------- receiving */

/*
 * Takes the next envelope from the inbox. Several threads may receive: each
 * envelope goes to one of them, and envelopes of one peer are handed out in
 * order.
 *
 *   envelope   overwritten: filled in on success, zeroed on failure (an
 *              envelope that is still open must be closed first). data is
 *              read-only and stays valid until ctalk_envelope_close (), even
 *              after the server is closed. A kept envelope keeps at most the
 *              frame (64 KiB) that it came in, or its own payload if that is
 *              larger.
 *
 * Taking an envelope gives its sender room to send more: an application that
 * does not receive stops those who send to it, and nobody else.
 *
 * -1: EAGAIN: nothing came within the timeout; EINTR: a signal handler ran, or
 * ctalk_server_wake (); ESHUTDOWN: closing, whatever the inbox holds; EINVAL;
 * EOWNERDEAD.
 */
CTALK_EXPORT int ctalk_recv (ctalk_server_t *server, ctalk_envelope_t *envelope, int timeout_ms);

/*
 * Waits for the first envelope, then takes what is there, at most capacity.
 * Returns how many (at least 1). Each is closed on its own. -1: as ctalk_recv ();
 * EINVAL also when capacity is 0.
 */
CTALK_EXPORT int ctalk_recv_many (ctalk_server_t *server, ctalk_envelope_t *envelopes, size_t capacity,
                                  int timeout_ms);

/*
 * Ends the use of a received envelope: its data is freed or reused when nobody
 * else holds it, and the envelope is zeroed. Twice is harmless, and so is NULL.
 * Needs no server and may be called on any thread.
 */
CTALK_EXPORT void ctalk_envelope_close (ctalk_envelope_t *envelope);

/* ----------------------------------------------------------------- actors */

/*
 * An actor is a function with a thread, a mailbox and an address of its own. The
 * address is (pid, id); it is the same for an actor of this server and for one
 * of another, and may travel in payloads. To send to an actor, set pid and to of
 * an envelope; id 0 is the server itself (its inbox, ctalk_recv ()).
 *
 * Delivery. Between two actors the guarantee at the top of this file holds for
 * each receiver on its own: in order, once. An actor of this server gets its
 * envelopes without any socket. What is in a mailbox counts as consumed to the
 * server that sent it.
 *
 * Bounds. A mailbox is bounded (option "MailboxBytes", ctalk_actor_set_mailbox ()):
 * senders on its own server wait for room as they wait for room in a queue. Each
 * other server has credit for each actor, 16 KiB to begin with and then more as
 * the actor takes what came; where the credit is used up, senders to that actor
 * wait, or get EAGAIN. So an actor that does not receive stops those who send to
 * it and nobody else. An envelope is taken while less than the bound, or than
 * the credit, is in use; who waits for room in a mailbox may learn of it up to
 * about 10 ms later, and those behind wait with it.
 *
 * Calls. A call is a request with a one-shot reply address: the "from" of the
 * request that arrives is that address, not the caller's. Who answers sends to
 * it: ctalk_actor_reply (), ctalk_reply (), or whoever it was passed on to.
 *
 * self may be used by the actor's own thread alone, and only until its function
 * has returned. All signals are blocked in that thread.
 */

/*
 * What an actor does. It runs until it returns; the return value is its exit
 * reason: 0 is a normal end, what else there is is yours. It must end soon after
 * a receive returned -1 with ESHUTDOWN: ctalk_server_close () and
 * ctalk_actor_stop () wait for it.
 */
typedef int (ctalk_actor_fn) (ctalk_actor_t *self, void *arg);

/*
 * Starts an actor.
 *
 *   name   at most 255 bytes, or NULL: it is known by its id alone. The id of an
 *          actor with a name is ctalk_actor_named (name), on every server and in
 *          every process; that of one without is drawn and never used again, by
 *          a later process neither.
 *
 * Its stack is 512 KiB, of which what is used takes memory.
 *
 * Returns its id. 0: EINVAL: no function, or a name that is empty or too long;
 * EEXIST: an actor of that name runs; EAGAIN: no thread can be started; ENOMEM;
 * ESHUTDOWN; EOWNERDEAD.
 */
CTALK_EXPORT uint64_t ctalk_actor_spawn (ctalk_server_t *server, const char *name, ctalk_actor_fn *fn, void *arg);

/*
 * The id that an actor of this name has on any server. A pure function: nothing
 * says that there is one. 0: EINVAL: NULL, empty, or longer than 255 bytes.
 */
CTALK_EXPORT uint64_t ctalk_actor_named (const char *name);

/*
 * An actor's own id, and its server. 0 and NULL: EINVAL.
 */
CTALK_EXPORT uint64_t ctalk_actor_id (const ctalk_actor_t *self);
CTALK_EXPORT ctalk_server_t *ctalk_actor_server (const ctalk_actor_t *self);

/*
 * Says how much the own mailbox may hold, payload and 64 bytes for each
 * envelope, instead of "MailboxBytes". Other servers together get that much
 * credit, though each at least 16 KiB; one that is down keeps what it has, and
 * what was granted is not taken back when the mailbox is made smaller. -1: EINVAL: 0.
 */
CTALK_EXPORT int ctalk_actor_set_mailbox (ctalk_actor_t *self, size_t bytes);

/*
 * Takes the next envelope of the own mailbox: a message; CTALK_ACTOR_DOWN,
 * CTALK_TIMER, CTALK_GROUP_...: what was asked for. It must be closed
 * (ctalk_envelope_close ()), as a received one.
 *
 * -1, and the envelope is zeroed: EAGAIN: nothing came within the timeout;
 * ESHUTDOWN: the actor is to stop, or the server closes; EINVAL.
 */
CTALK_EXPORT int ctalk_actor_recv (ctalk_actor_t *self, ctalk_envelope_t *envelope, int timeout_ms);

/*
 * Takes the first envelope that match () accepts, and leaves the others in their
 * order. match () is called once for each envelope; it must not use self.
 *
 * -1: as ctalk_actor_recv ().
 */
CTALK_EXPORT int ctalk_actor_recv_match (ctalk_actor_t *self, bool (*match) (const ctalk_envelope_t *envelope, void *arg),
                                         void *arg, ctalk_envelope_t *envelope, int timeout_ms);

/*
 * Sends an envelope as ctalk_send () does, from this actor: "from" is filled in
 * on the way (what stands in the envelope is not looked at). To CTALK_BROADCAST
 * with an actor's id in "to": to the actor of that id on every other server.
 *
 * -1: as ctalk_send (); EAGAIN also: no room in the actor's mailbox, or no credit
 * for it, within the timeout. To send to an actor that does not exist is no
 * error: the envelope is counted (no_such_actor). Use a call or a monitor to know.
 */
CTALK_EXPORT int ctalk_actor_send (ctalk_actor_t *self, const ctalk_envelope_t *envelope, int timeout_ms);

/*
 * Answers a request: sends data to where it came from, with its msg_id. A
 * request may be answered by another actor, or on another server, than it was
 * sent to; a second answer is discarded where it arrives.
 *
 *   timeout_ms   how long to wait for room in the peer's queue.
 *
 * -1: as ctalk_send (); EINVAL also: the envelope is no message.
 */
CTALK_EXPORT int ctalk_actor_reply (ctalk_actor_t *self, const ctalk_envelope_t *request, const void *data, size_t size,
                                    int timeout_ms);

/*
 * Sends a request and waits for the answer to it, which is a received envelope.
 * Other envelopes wait in the mailbox meanwhile.
 *
 *   request      pid, to, msg_id, data and size are read.
 *   timeout_ms   for both together.
 *
 * -1, and reply is zeroed: EAGAIN: it was not sent within the timeout; ETIMEDOUT:
 * sent, and not answered (an answer that comes later is discarded and counted,
 * never taken for that to another call); ESRCH: there is no such actor, or it
 * ended before it answered; EHOSTDOWN: the peer was down already (nothing was
 * sent then), went down, closed, restarted or was removed, also while the call
 * waited to be sent: whether it did what it was asked is not known; ESHUTDOWN: the
 * own server closes, or the actor is to stop; else as ctalk_send (); EINVAL also:
 * CTALK_BROADCAST.
 */
CTALK_EXPORT int ctalk_actor_call (ctalk_actor_t *self, const ctalk_envelope_t *request, ctalk_envelope_t *reply,
                                   int timeout_ms);

/*
 * The same without an actor, from any thread. A signal handler ends them with
 * EINTR; a call may have been sent then.
 */
CTALK_EXPORT int ctalk_call (ctalk_server_t *server, const ctalk_envelope_t *request, ctalk_envelope_t *reply,
                             int timeout_ms);
CTALK_EXPORT int ctalk_reply (ctalk_server_t *server, const ctalk_envelope_t *request, const void *data, size_t size,
                              int timeout_ms);

/* One answer to a call to many. error: 0, or an errno as ctalk_call () has it. */
typedef struct {
    ctalk_pid_t pid; /* filled in by the caller: whom to ask */
    int error;
    ctalk_envelope_t reply; /* to be closed where error is 0; else zeroed */
} ctalk_answer_t;

/*
 * Calls many servers at once and waits for all their answers, until the timeout:
 * the request goes to (answers[i].pid, request->to) for each i. First to all that
 * have room, then to the others, for whose room it waits in turn, while answers
 * come. A signal handler ends it: what was not answered is EINTR.
 *
 * Returns how many answered. -1, and nothing was sent: EINVAL; EMSGSIZE;
 * ESHUTDOWN; ENOMEM; EOWNERDEAD.
 */
CTALK_EXPORT int ctalk_call_all (ctalk_server_t *server, const ctalk_envelope_t *request, ctalk_answer_t *answers,
                                 size_t count, int timeout_ms);

/*
 * Asks to be told, once, when an actor is there no more: an envelope of kind
 * CTALK_ACTOR_DOWN with its pid, "from" its id, and a ctalk_event_t whose reason
 * is CTALK_WHY_EXITED (exit_reason says with what), CTALK_WHY_NO_ACTOR,
 * CTALK_WHY_DOWN (its server is not heard for DownMs; the actor may live),
 * CTALK_WHY_RESTARTED, CTALK_WHY_CLOSING (its server said goodbye) or
 * CTALK_WHY_REMOVED. It comes behind all that this actor got from that one.
 *
 *   actor   0: the server itself, for the last four.
 *
 * Once more for the same one while the first has not been told: 0, and nothing
 * is changed. A peer that is down already is told at once.
 *
 * -1: EHOSTUNREACH: no such peer; EINVAL: also the own server or the own id;
 * ENOMEM; ESHUTDOWN.
 */
CTALK_EXPORT int ctalk_actor_monitor (ctalk_actor_t *self, ctalk_pid_t pid, uint64_t actor);

/*
 * Takes that back: nothing about it comes any more, what is in the mailbox
 * already is taken out. -1: ESRCH: nothing was asked, or it was received; EINVAL;
 * ESHUTDOWN.
 */
CTALK_EXPORT int ctalk_actor_unmonitor (ctalk_actor_t *self, ctalk_pid_t pid, uint64_t actor);

/*
 * Sends an envelope later: at the earliest after delay_ms (0 or more). It is
 * copied. To the actor itself it comes as CTALK_TIMER, with its msg_id and
 * payload and the id of the timer in "from"; to others as if it were sent then,
 * and it waits for room in line with others who wait, for as long as it takes.
 * Timers end with their actor.
 *
 * Returns the id of the timer, never used again. 0: EINVAL; EMSGSIZE;
 * EHOSTUNREACH; ENOMEM; ESHUTDOWN.
 */
CTALK_EXPORT uint64_t ctalk_actor_send_after (ctalk_actor_t *self, int delay_ms, const ctalk_envelope_t *envelope);

/*
 * Ends a timer of this actor: nothing of it comes any more, also when it lies in
 * the own mailbox already. -1: ESRCH: there is no such timer, or it was sent or
 * received; EINVAL; ESHUTDOWN.
 */
CTALK_EXPORT int ctalk_actor_cancel (ctalk_actor_t *self, uint64_t timer);

/*
 * Asks an actor of this server to stop: its receives, calls and waiting sends
 * fail with ESHUTDOWN from now on, also those that it makes on its server as any
 * thread can: ctalk_send (), ctalk_call (), ctalk_call_all (), ctalk_reply (),
 * ctalk_group_send () and the like. Waits until its function has returned. An
 * actor that waits here and is asked to stop itself waits no more: ESHUTDOWN; one
 * that was asked before can wait for the end of others before it ends.
 *
 * -1: ESRCH: no such actor (any more); EAGAIN: it has not ended within the
 * timeout (it is asked all the same); EDEADLK: an actor stops itself; EINVAL;
 * EINTR; ESHUTDOWN.
 */
CTALK_EXPORT int ctalk_actor_stop (ctalk_server_t *server, uint64_t actor, int timeout_ms);

/* ------------------------------------------------------------ supervisors */

/* An actor that a supervisor starts, and starts again. */
typedef struct {
    const char *name; /* NULL: none; else copied */
    ctalk_actor_fn *fn;
    void *arg;           /* must live as long as the supervisor, and as a child that it leaves behind */
    int stop_timeout_ms; /* how long it may take to stop; -1: for ever */
    uint32_t reserved;   /* 0 */
} ctalk_child_t;

/* What is started again when a child ends with a reason other than 0. A child
 * that returns 0 has done its work and is left alone. */
typedef enum {
    CTALK_ONE_FOR_ONE, /* that child */
    CTALK_ALL_FOR_ONE, /* all: the others are stopped before, in reverse order */
    CTALK_REST_FOR_ONE /* that one and those that were started after it */
} ctalk_strategy_t;

typedef struct {
    ctalk_strategy_t strategy;
    int restarts_max; /* within any time of within_ms; one more, and the supervisor gives up */
    int within_ms;
    uint32_t reserved; /* 0 */
} ctalk_supervision_t;

/*
 * Starts an actor that starts the children, in their order, and restarts them.
 * When it returns, all run. Stopped (ctalk_actor_stop ()), it stops them in
 * reverse order, each within its stop_timeout_ms; when the server closes, all are
 * asked at once. When there were too many restarts, or a child cannot be started
 * again, it stops them, too, and exits with ECHILD: so supervisors of supervisors
 * are told. A child that does not stop in time is left behind, and the log says
 * so; where it was to be started again, the supervisor gives up.
 *
 * A child without a name has another id after each restart. One that fails is one
 * restart, however many are started again for it. When all have returned 0, the
 * supervisor stays. What is sent to it is dropped.
 *
 * Returns its id. 0: as ctalk_actor_spawn (), for the supervisor or a child
 * (those that were started are stopped again); EINVAL also: no children, a
 * strategy that does not exist, negative numbers (but stop_timeout_ms -1), a
 * reserved field not 0.
 */
CTALK_EXPORT uint64_t ctalk_supervisor_spawn (ctalk_server_t *server, const char *name, const ctalk_child_t *children,
                                              size_t count, const ctalk_supervision_t *how);

/* ----------------------------------------------------------------- groups */

/* Where an actor is. */
typedef struct {
    ctalk_pid_t pid;
    uint64_t actor;
} ctalk_address_t;

/*
 * Joins a group, or leaves it. A group is a name, at most 255 bytes, that actors
 * of all servers join; it needs no making. Every server knows the members on
 * itself and on those peers that are up in its eyes: members on a peer that goes
 * down are gone for it and come back with the peer. Joins and leaves reach the
 * peers in the order in which this server made them. With "Senders": "lazy", the
 * first join or watch starts all senders; before, members on peers that nothing
 * was sent to are not known, nor sent to. An actor that ends leaves its groups.
 *
 * -1: EEXIST: it is a member; ESRCH: it is not; EINVAL; ENOMEM; ESHUTDOWN.
 */
CTALK_EXPORT int ctalk_group_join (ctalk_actor_t *self, const char *group);
CTALK_EXPORT int ctalk_group_leave (ctalk_actor_t *self, const char *group);

/*
 * The members as this server knows them, by pid and id, at most capacity of
 * them. Returns how many there are. -1: EINVAL; ESHUTDOWN; EOWNERDEAD.
 */
CTALK_EXPORT int ctalk_group_members (ctalk_server_t *server, const char *group, ctalk_address_t *members,
                                      size_t capacity);

/*
 * Sends to every member; pid and to of the envelope are not looked at. Returns
 * to how many it went: those that had no room within the timeout did not get it
 * (errno says EAGAIN then, or why the last of them did not get it). -1, and it went to nobody: as ctalk_send (). 0: the
 * group has no members.
 */
CTALK_EXPORT int ctalk_group_send (ctalk_server_t *server, const char *group, const ctalk_envelope_t *envelope,
                                   int timeout_ms);

/*
 * Whether this actor is told of the members that come and go: envelopes of kind
 * CTALK_GROUP_JOINED and CTALK_GROUP_LEFT with pid and "from" of the member, and
 * the name of the group as data (size: without its end, which is there). When it
 * is switched on, a CTALK_GROUP_JOINED comes for each member there is.
 *
 * -1: EINVAL; ENOMEM; ESHUTDOWN.
 */
CTALK_EXPORT int ctalk_group_watch (ctalk_actor_t *self, const char *group, bool on);

#ifdef __cplusplus
}
#endif

#endif
