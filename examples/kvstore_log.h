/*
 * kvstore_log.h - the replicated log of the key-value store: Raft, as a pure
 * state machine. No clock, no network, no disk, no thread: events go in (a
 * message came, the timer came, a client wants something), and what follows from
 * them can be asked for (messages to send, entries to save, how much is
 * committed). So it can be tested without any of these.
 *
 * The algorithm is that of D. Ongaro and J. Ousterhout, "In Search of an
 * Understandable Consensus Algorithm" (2014), figure 2; reads as in section 6.4
 * of Ongaro's thesis. The promise: an entry that is committed on one server is
 * the entry at its place on every server, for ever, as long as a majority keeps
 * what it saved. Not here: snapshots (the log grows for ever), changes of the
 * members.
 *
 * What the caller owes: after events, and before it sends any message, it saves
 * the vote and the entries that are not saved yet, and says so (kv_log_saved ()).
 */
#ifndef KVSTORE_LOG_H
#define KVSTORE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <clustertalk.h>

#define KV_NOBODY ((ctalk_pid_t) -1)

enum {
    KV_MEMBERS_MAX = 15,
    KV_ENTRIES_MAX = 256,   /* in a message ... */
    KV_BATCH_BYTES = 65536, /* ... and their bytes, but one entry at least */
    KV_OPEN_MAX = 4096,     /* entries that a leader has and that are not committed */
    KV_BEATS_ALONE_MAX = 8  /* heartbeats that no majority answers; one more, and the leader steps back */
};

/* What the data mean is no matter of the log. */
typedef struct {
    uint64_t term;    /* of the leader that made it */
    const void *data; /* in the log: its own */
    size_t size;      /* 0: a leader's first one, which says nothing */
} kv_entry_t;

typedef enum { KV_ASK_VOTE = 1, KV_VOTE, KV_APPEND, KV_APPENDED } kv_message_kind_t;

typedef struct {
    kv_message_kind_t kind;
    uint64_t term;           /* of the sender */
    uint64_t index;          /* ASK_VOTE: its last entry; APPEND: the one before the first; APPENDED: the two logs are
                                equal up to here, or (no) perhaps are */
    uint64_t of;             /* ASK_VOTE, APPEND: the term of that entry */
    uint64_t commit;         /* APPEND */
    uint64_t round;          /* APPEND, and the same in its APPENDED */
    bool yes;                /* VOTE, APPENDED */
    size_t count;            /* APPEND */
    const kv_entry_t *entry; /* count of them */
} kv_message_t;

typedef enum { KV_FOLLOWER, KV_CANDIDATE, KV_LEADER } kv_role_t;

/* Another server, as a candidate or a leader sees it. */
typedef struct {
    ctalk_pid_t pid;
    bool votes_for_us;
    uint64_t next;        /* the entry that it is sent next */
    uint64_t match;       /* up to here it has our log */
    bool waits;           /* something was sent, and not answered yet: nothing more until then, or the next heartbeat */
    uint64_t round_sent;  /* the last one */
    uint64_t round_heard; /* the last one that it answered */
} kv_peer_t;

typedef struct {
    ctalk_pid_t to;
    kv_message_t message;
} kv_post_t;

/* To be read by all, to be changed by kvstore_log.c. */
typedef struct {
    ctalk_pid_t self;
    kv_role_t role;
    ctalk_pid_t leader; /* of this term; KV_NOBODY: not known */
    bool heard;         /* of a leader or a candidate, since the timer came */
    bool vote_is_saved; /* term and voted are */
    bool round_is_new;  /* not sent to all yet */
    int beats_alone;    /* leader: heartbeats since a newer round was confirmed */

    /* What must be saved. */
    ctalk_pid_t voted; /* in this term; KV_NOBODY: for nobody */
    uint64_t term;
    kv_entry_t *entry; /* from 1 on; the one at 0 is there for all */
    uint64_t last, capacity;
    uint64_t saved; /* up to here the entries are */

    uint64_t commit;
    uint64_t first;     /* leader: the first entry of its term */
    uint64_t round;     /* leader: a number that the others send back, and so say that it is their leader still */
    uint64_t confirmed; /* leader: the newest round that a majority had answered at the last heartbeat */
    size_t peers;
    kv_peer_t peer[KV_MEMBERS_MAX];
    kv_post_t *post; /* to be sent, but for APPENDs: those are made when they are asked for */
    size_t posts, posts_taken, posts_capacity;
} kv_log_t;

/* Members: all of them, self too, at most KV_MEMBERS_MAX. */
void kv_log_init (kv_log_t *log, ctalk_pid_t self, const ctalk_pid_t *members, size_t count);
void kv_log_fini (kv_log_t *log);

/* What was saved, given back in the same order before anything else. false: it cannot have been saved so. */
bool kv_log_restore_vote (kv_log_t *log, uint64_t term, ctalk_pid_t voted);
bool kv_log_restore_entry (kv_log_t *log, uint64_t index, const kv_entry_t *entry);

/* ---- events */

/* A leader's time for a heartbeat has come, or another's to ask for votes if it has heard nothing since the last. */
void kv_log_timeout (kv_log_t *log);

/* A message came; what is in it is checked. One from a pid that is no member is nothing. */
void kv_log_receive (kv_log_t *log, ctalk_pid_t from, const kv_message_t *message);

/* Appends an entry; size > 0. Returns its index, 0: this is no leader, or too many are not committed yet. It may be
 * replaced by another one until it is committed: look at the term. */
uint64_t kv_log_propose (kv_log_t *log, const void *data, size_t size);

/* To read what is true now: the state will do that has applied *index entries, once *round is confirmed, in this term.
 * false: this is no leader. */
bool kv_log_read (kv_log_t *log, uint64_t *round, uint64_t *index);

/* ---- what follows */

/* The vote and the entries from saved + 1 on are safe now. */
void kv_log_saved (kv_log_t *log);

/* The next message to be sent. Its entries stay until the next event. */
bool kv_log_next (kv_log_t *log, ctalk_pid_t *to, kv_message_t *message);

/* The newest round that a majority has answered. */
uint64_t kv_log_confirmed (const kv_log_t *log);

/* Memory, or the end of the process: a server that has none left is a server that died, and the others go on. */
void *kv_resize (void *memory, size_t size);

#endif
