/*
 * raft.c - a small Raft for tests. Each server's state belongs to its thread;
 * the referee, the views and the proposals stand under one lock, and whoever
 * waits for something is woken at each change of a view.
 */
#include "tests/support/raft.h"

#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/support/scale.h"
#include "tests/support/thread.h"
#include "tests/support/traffic.h"

enum {
    HEARTBEAT_MS = 50,
    ELECTION_MS = 300, /* the shortest; up to twice that */
    RETRY_MS = 1000,   /* a client that sees no progress gives its commands again */
    TAKE_AT_ONCE = 32, /* envelopes in a step */
    BATCH = 10,        /* entries in a message */
    UNDER_WAY = 2000,  /* entries sent to a follower and not acknowledged */
    TERMS_MAX = 100000
};

/* ---- log */

typedef struct {
    uint64_t term;
    uint64_t command; /* 0: none, the first entry of a leader */
} entry_t;

/* Entries from 1 on; the one at 0 is there for all. hash[i] is over 1 ... i. */
typedef struct {
    entry_t *entry;
    uint64_t *hash;
    uint64_t last, capacity;
} log_t;

static void log_reserve (log_t *log, uint64_t capacity)
{
    if (capacity <= log->capacity)
        return;
    log->capacity = CTKI_MAX (capacity, 2 * log->capacity);
    log->entry = realloc (log->entry, log->capacity * sizeof *log->entry);
    log->hash = realloc (log->hash, log->capacity * sizeof *log->hash);
    CTKI_ASSERT (log->entry && log->hash);
}

static void log_init (log_t *log)
{
    *log = (log_t){0};
    log_reserve (log, 1024);
    log->entry[0] = (entry_t){0};
    log->hash[0] = 0;
}

static void log_fini (log_t *log)
{
    free (log->entry);
    free (log->hash);
}

static void log_append (log_t *log, entry_t entry)
{
    log_reserve (log, log->last + 2);
    uint64_t at = ++log->last;
    log->entry[at] = entry;
    uint64_t h = (log->hash[at - 1] ^ entry.term) * 0x9e3779b97f4a7c15u;
    log->hash[at] = ((h ^ h >> 29) + entry.command) * 0xbf58476d1ce4e5b9u;
}

/* ---- messages: the kind is the envelope's msg_id */

enum { ASK_VOTE = 1, VOTE, APPEND, APPENDED };

typedef struct {
    uint64_t term;   /* of the sender */
    uint64_t index;  /* ASK_VOTE: its last entry; APPEND: the one before the first; APPENDED: of the APPEND */
    uint64_t of;     /* the term of that entry */
    uint64_t commit; /* APPEND: of the leader */
    uint64_t match;  /* APPENDED: up to there the logs are equal; refused: no more than so many entries are there */
    uint64_t yes;    /* VOTE, APPENDED */
    uint64_t count;  /* APPEND: entries */
    entry_t entry[BATCH];
} message_t;

static size_t size_of (const message_t *message)
{
    return offsetof (message_t, entry) + message->count * sizeof (entry_t);
}

/* ---- what there is */

typedef struct {
    uint64_t next;  /* the entry to be sent next */
    uint64_t match; /* up to there it has the leader's log */
} follower_t;

typedef struct {
    ctki_raft_t *raft;
    ctalk_server_t *server;
    ctalk_pid_t pid;
    ctki_test_thread_t thread;
    size_t majority;
    ctki_raft_role_t role;
    uint64_t term;
    ctalk_pid_t voted; /* in this term; 0: for nobody */
    log_t log;
    uint64_t commit, applied;
    uint64_t random;
    ctki_raft_set_t votes;
    follower_t follower[CTKI_CLUSTER_MAX + 1];
    int64_t election_ms, heartbeat_ms; /* when it is time */
    /* under the lock */
    ctki_raft_view_t view;
    uint64_t *proposed;
    size_t proposals, proposals_max;
} node_t;

struct ctki_raft {
    size_t count;
    node_t node[CTKI_CLUSTER_MAX + 1]; /* from 1 */
    atomic_bool stopping, failed;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* the referee */
    log_t committed;
    ctalk_pid_t leader_of[TERMS_MAX];
    uint64_t most, known;
    bool *is_known; /* by command */
};

/* ---- the referee */

static bool referee_leader (node_t *node, ctki_trouble_t *trouble)
{
    ctki_raft_t *raft = node->raft;
    CTKI_EXPECT (trouble, node->term < TERMS_MAX);
    pthread_mutex_lock (&raft->lock);
    ctalk_pid_t other = raft->leader_of[node->term];
    raft->leader_of[node->term] = node->pid;
    uint64_t count = raft->committed.last;
    bool has_all = node->log.last >= count && node->log.hash[count] == raft->committed.hash[count];
    pthread_mutex_unlock (&raft->lock);
    if (other && other != node->pid)
        return ctki_trouble_note (trouble, __FILE__, __LINE__, "%d and %d are leaders in term %" PRIu64, other,
                                  node->pid, node->term);
    if (!has_all)
        return ctki_trouble_note (trouble, __FILE__, __LINE__,
                                  "%d is leader in term %" PRIu64 " and has not all that was committed", node->pid,
                                  node->term);
    return true;
}

/* With the lock held: a server says that the entry is committed. */
static bool referee_entry (ctki_raft_t *raft, uint64_t index, const log_t *log, ctki_trouble_t *trouble)
{
    const entry_t *entry = &log->entry[index];
    if (index > raft->committed.last) {
        log_append (&raft->committed, *entry);
        if (entry->command && !raft->is_known[entry->command]) {
            raft->is_known[entry->command] = true;
            raft->known++;
        }
    }
    if (raft->committed.hash[index] != log->hash[index])
        return ctki_trouble_note (trouble, __FILE__, __LINE__,
                                  "entry %" PRIu64 " was committed as %" PRIu64 " of term %" PRIu64
                                  ", and again as %" PRIu64 " of term %" PRIu64,
                                  index, raft->committed.entry[index].command, raft->committed.entry[index].term,
                                  entry->command, entry->term);
    return true;
}

/* ---- sending */

/* To one peer, now or never. */
static bool post (node_t *node, ctalk_pid_t pid, int64_t kind, const message_t *message, ctki_trouble_t *trouble)
{
    ctalk_envelope_t envelope = ctki_traffic_envelope (pid, kind, message, size_of (message));
    envelope.flags = pid == CTALK_BROADCAST ? 0 : CTALK_IF_UP;
    if (ctalk_send (node->server, &envelope, 0) == 0)
        return true;
    if (errno != EHOSTDOWN && errno != EAGAIN)
        (void) ctki_trouble_note (trouble, __FILE__, __LINE__, "%d to %d: %s", node->pid, pid, strerror (errno));
    return false;
}

/* The next entries for a follower, or none: then it is a heartbeat. */
static bool send_entries (node_t *node, ctalk_pid_t pid, ctki_trouble_t *trouble)
{
    follower_t *follower = &node->follower[pid];
    uint64_t before = follower->next - 1;
    message_t message = {
        .term = node->term, .index = before, .of = node->log.entry[before].term, .commit = node->commit};
    message.count = CTKI_MIN (node->log.last - before, (uint64_t) BATCH);
    memcpy (message.entry, &node->log.entry[before + 1], message.count * sizeof (entry_t));
    if (!post (node, pid, APPEND, &message, trouble))
        return false;
    follower->next += message.count;
    return true;
}

/* All that the followers lack, as far as it goes. */
static void replicate (node_t *node, ctki_trouble_t *trouble)
{
    for (ctalk_pid_t pid = 1; (size_t) pid <= node->raft->count; pid++) {
        follower_t *follower = &node->follower[pid];
        while (pid != node->pid && follower->next <= node->log.last && follower->next - follower->match <= UNDER_WAY
               && send_entries (node, pid, trouble))
            ;
    }
}

static void send_heartbeats (node_t *node, int64_t now_ms, ctki_trouble_t *trouble)
{
    for (ctalk_pid_t pid = 1; (size_t) pid <= node->raft->count; pid++)
        if (pid != node->pid)
            (void) send_entries (node, pid, trouble);
    node->heartbeat_ms = now_ms + ctki_test_ms (HEARTBEAT_MS);
}

/* ---- roles */

static void put_off_election (node_t *node, int64_t now_ms)
{
    int64_t least = ctki_test_ms (ELECTION_MS);
    node->random = node->random * 6364136223846793005u + 1442695040888963407u;
    node->election_ms = now_ms + least + (int64_t) ((node->random >> 33) % (uint64_t) least);
}

static void follow (node_t *node, uint64_t term)
{
    if (term > node->term)
        node->voted = 0;
    node->term = term;
    node->role = CTKI_RAFT_FOLLOWER;
}

static bool lead (node_t *node, int64_t now_ms, ctki_trouble_t *trouble)
{
    if (!referee_leader (node, trouble))
        return false;
    node->role = CTKI_RAFT_LEADER;
    for (size_t i = 1; i <= node->raft->count; i++)
        node->follower[i] = (follower_t){.next = node->log.last + 1};
    log_append (&node->log, (entry_t){.term = node->term});
    send_heartbeats (node, now_ms, trouble);
    return true;
}

/* Whether a majority is for it; then it leads. */
static bool count_votes (node_t *node, int64_t now_ms, ctki_trouble_t *trouble)
{
    if ((size_t) __builtin_popcount (node->votes) < node->majority)
        return true;
    return lead (node, now_ms, trouble);
}

static bool stand (node_t *node, int64_t now_ms, ctki_trouble_t *trouble)
{
    node->role = CTKI_RAFT_CANDIDATE;
    node->term++;
    node->voted = node->pid;
    node->votes = CTKI_RAFT_ONE (node->pid);
    put_off_election (node, now_ms);
    message_t message = {.term = node->term, .index = node->log.last, .of = node->log.entry[node->log.last].term};
    (void) post (node, CTALK_BROADCAST, ASK_VOTE, &message, trouble);
    return count_votes (node, now_ms, trouble);
}

/* ---- what comes */

static void on_ask_vote (node_t *node, ctalk_pid_t from, const message_t *asked, int64_t now_ms,
                         ctki_trouble_t *trouble)
{
    uint64_t of = node->log.entry[node->log.last].term;
    bool has_as_much = asked->of > of || (asked->of == of && asked->index >= node->log.last);
    message_t message = {.term = node->term};
    if (asked->term == node->term && has_as_much && (!node->voted || node->voted == from)) {
        node->voted = from;
        message.yes = 1;
        put_off_election (node, now_ms);
    }
    (void) post (node, from, VOTE, &message, trouble);
}

static bool on_vote (node_t *node, ctalk_pid_t from, const message_t *vote, int64_t now_ms, ctki_trouble_t *trouble)
{
    if (node->role != CTKI_RAFT_CANDIDATE || vote->term != node->term || !vote->yes)
        return true;
    node->votes |= CTKI_RAFT_ONE (from);
    return count_votes (node, now_ms, trouble);
}

/* Makes the log that of the leader, from the entry after index on. */
static bool take_entries (node_t *node, const message_t *append, ctki_trouble_t *trouble)
{
    for (uint64_t i = 0; i < append->count; i++) {
        uint64_t at = append->index + 1 + i;
        if (at <= node->log.last && node->log.entry[at].term == append->entry[i].term)
            continue;
        if (at <= node->log.last) {
            CTKI_EXPECT (trouble, at > node->commit); /* else something committed would be lost */
            node->log.last = at - 1;
        }
        log_append (&node->log, append->entry[i]);
    }
    return true;
}

static bool on_append (node_t *node, ctalk_pid_t from, const message_t *append, int64_t now_ms, ctki_trouble_t *trouble)
{
    message_t message = {.term = node->term, .index = append->index};
    if (append->term == node->term) {
        CTKI_EXPECT (trouble, node->role != CTKI_RAFT_LEADER); /* else there were two */
        follow (node, append->term);
        put_off_election (node, now_ms);
        message.yes = append->index <= node->log.last && node->log.entry[append->index].term == append->of;
        message.match = CTKI_MIN (node->log.last, append->index ? append->index - 1 : 0);
    }
    if (message.yes) {
        if (!take_entries (node, append, trouble))
            return false;
        message.match = append->index + append->count;
        node->commit = CTKI_MAX (node->commit, CTKI_MIN (append->commit, message.match));
    }
    (void) post (node, from, APPENDED, &message, trouble);
    return true;
}

/* What a majority has is committed, if the last of it is of this term. */
static void count_copies (node_t *node)
{
    for (uint64_t at = node->log.last; at > node->commit && node->log.entry[at].term == node->term; at--) {
        size_t copies = 1;
        for (size_t i = 1; i <= node->raft->count; i++)
            copies += (ctalk_pid_t) i != node->pid && node->follower[i].match >= at;
        if (copies >= node->majority) {
            node->commit = at;
            return;
        }
    }
}

static void on_appended (node_t *node, ctalk_pid_t from, const message_t *appended)
{
    follower_t *follower = &node->follower[from];
    if (node->role != CTKI_RAFT_LEADER || appended->term != node->term)
        return;
    if (appended->yes) {
        follower->match = CTKI_MAX (follower->match, appended->match);
        follower->next = CTKI_MAX (follower->next, follower->match + 1);
    } else if (appended->index < follower->next) /* else it has gone back already */
        follower->next = CTKI_MAX (follower->match, appended->match) + 1;
}

static bool on_message (node_t *node, const ctalk_envelope_t *envelope, int64_t now_ms, ctki_trouble_t *trouble)
{
    const message_t *message = envelope->data;
    CTKI_EXPECT (trouble, envelope->size >= offsetof (message_t, entry) && message->count <= BATCH);
    CTKI_EXPECT_EQUAL (trouble, envelope->size, size_of (message));
    if (message->term > node->term) {
        if (node->role == CTKI_RAFT_LEADER) /* it had no election in mind */
            put_off_election (node, now_ms);
        follow (node, message->term);
    }
    switch (envelope->msg_id) {
    case ASK_VOTE:
        on_ask_vote (node, envelope->pid, message, now_ms, trouble);
        return true;
    case VOTE:
        return on_vote (node, envelope->pid, message, now_ms, trouble);
    case APPEND:
        return on_append (node, envelope->pid, message, now_ms, trouble);
    case APPENDED:
        on_appended (node, envelope->pid, message);
        return true;
    default:
        return ctki_trouble_note (trouble, __FILE__, __LINE__, "a message of kind %lld", (long long) envelope->msg_id);
    }
}

/* ---- a server's thread */

static int wait_ms (const node_t *node)
{
    int64_t at_ms = node->role == CTKI_RAFT_LEADER ? node->heartbeat_ms : node->election_ms;
    int64_t ms = at_ms - ctki_test_now_ms ();
    return ms > 0 ? (int) ms : 0;
}

static bool receive (node_t *node, ctki_trouble_t *trouble)
{
    ctalk_envelope_t envelopes[TAKE_AT_ONCE];
    int n = ctalk_recv_many (node->server, envelopes, TAKE_AT_ONCE, wait_ms (node));
    bool ok = n > 0 || errno == EAGAIN || errno == EINTR;
    CTKI_EXPECT (trouble, ok);
    for (int i = 0; i < n; i++) {
        ok = ok && on_message (node, &envelopes[i], ctki_test_now_ms (), trouble);
        ctalk_envelope_close (&envelopes[i]);
    }
    return ok;
}

/* A leader takes what was proposed into its log; another forgets it. */
static void take_proposals (node_t *node)
{
    pthread_mutex_lock (&node->raft->lock);
    for (size_t i = 0; i < node->proposals && node->role == CTKI_RAFT_LEADER; i++)
        log_append (&node->log, (entry_t){node->term, node->proposed[i]});
    node->proposals = 0;
    pthread_mutex_unlock (&node->raft->lock);
}

static bool keep_time (node_t *node, ctki_trouble_t *trouble)
{
    int64_t now_ms = ctki_test_now_ms ();
    if (node->role == CTKI_RAFT_LEADER && now_ms >= node->heartbeat_ms)
        send_heartbeats (node, now_ms, trouble);
    if (node->role != CTKI_RAFT_LEADER && now_ms >= node->election_ms)
        return stand (node, now_ms, trouble);
    return true;
}

static bool is_same (const ctki_raft_view_t *a, const ctki_raft_view_t *b)
{
    return a->role == b->role && a->term == b->term && a->last == b->last && a->commit == b->commit
           && a->hash == b->hash;
}

/* Tells the referee what is committed, and everybody how things are here. */
static bool publish (node_t *node, ctki_trouble_t *trouble)
{
    ctki_raft_t *raft = node->raft;
    ctki_raft_view_t view = {node->role, node->term, node->log.last, node->commit, node->log.hash[node->log.last]};
    bool ok = true;
    if (is_same (&view, &node->view)) /* which only this thread writes */
        return true;
    pthread_mutex_lock (&raft->lock);
    while (ok && node->applied < node->commit)
        ok = referee_entry (raft, ++node->applied, &node->log, trouble);
    node->view = view;
    pthread_cond_broadcast (&raft->changed);
    pthread_mutex_unlock (&raft->lock);
    return ok;
}

static bool run (void *arg, ctki_trouble_t *trouble)
{
    node_t *node = arg;
    bool ok = true;
    put_off_election (node, ctki_test_now_ms ());
    while (ok && !atomic_load (&node->raft->stopping)) {
        ok = receive (node, trouble) && keep_time (node, trouble);
        take_proposals (node);
        if (node->role == CTKI_RAFT_LEADER) {
            replicate (node, trouble);
            count_copies (node);
        }
        ok = ok && publish (node, trouble) && !trouble->text[0];
    }
    if (!ok)
        atomic_store (&node->raft->failed, true);
    return ok;
}

/* ---- the test's side */

static void init_node (ctki_raft_t *raft, ctalk_server_t *server, ctalk_pid_t pid)
{
    node_t *node = &raft->node[pid];
    node->raft = raft;
    node->server = server;
    node->pid = pid;
    node->random = (uint64_t) pid;
    node->majority = (size_t) ctalk_server_members (server, NULL, 0) / 2 + 1;
    log_init (&node->log);
}

static void init_lock (ctki_raft_t *raft)
{
    pthread_condattr_t attributes;
    ck_assert_int_eq (pthread_condattr_init (&attributes), 0);
    ck_assert_int_eq (pthread_condattr_setclock (&attributes, CLOCK_MONOTONIC), 0);
    ck_assert_int_eq (pthread_cond_init (&raft->changed, &attributes), 0);
    ck_assert_int_eq (pthread_condattr_destroy (&attributes), 0);
    ck_assert_int_eq (pthread_mutex_init (&raft->lock, NULL), 0);
}

ctki_raft_t *ctki_raft_start (const ctki_cluster_t *cluster, uint64_t most)
{
    ctki_raft_t *raft = calloc (1, sizeof *raft);
    ck_assert_ptr_nonnull (raft);
    raft->count = cluster->count;
    raft->most = most;
    raft->is_known = calloc (most + 1, sizeof *raft->is_known);
    ck_assert_ptr_nonnull (raft->is_known);
    log_init (&raft->committed);
    init_lock (raft);
    for (size_t i = 1; i <= raft->count; i++)
        init_node (raft, cluster->server[i], (ctalk_pid_t) i);
    for (size_t i = 1; i <= raft->count; i++)
        ctki_test_thread_start (&raft->node[i].thread, run, &raft->node[i]);
    return raft;
}

static void end_threads (ctki_raft_t *raft)
{
    atomic_store (&raft->stopping, true);
    for (size_t i = 1; i <= raft->count; i++)
        (void) ctalk_server_wake (raft->node[i].server);
    for (size_t i = 1; i <= raft->count; i++)
        ctki_test_thread_join (&raft->node[i].thread);
}

/* What each server has committed is what the referee saw, entry by entry. */
static void compare_logs (const ctki_raft_t *raft)
{
    for (size_t i = 1; i <= raft->count; i++) {
        const node_t *node = &raft->node[i];
        ck_assert_uint_le (node->commit, raft->committed.last);
        ck_assert_uint_le (node->commit, node->log.last);
        for (uint64_t at = 1; at <= node->commit; at++) {
            ck_assert_uint_eq (node->log.entry[at].term, raft->committed.entry[at].term);
            ck_assert_uint_eq (node->log.entry[at].command, raft->committed.entry[at].command);
        }
    }
}

void ctki_raft_stop (ctki_raft_t **raft_p)
{
    ctki_raft_t *raft = *raft_p;
    end_threads (raft);
    compare_logs (raft);
    for (size_t i = 1; i <= raft->count; i++) {
        log_fini (&raft->node[i].log);
        free (raft->node[i].proposed);
    }
    log_fini (&raft->committed);
    pthread_cond_destroy (&raft->changed);
    pthread_mutex_destroy (&raft->lock);
    free (raft->is_known);
    free (raft);
    *raft_p = NULL;
}

/* With the lock held: waits for a change until then; false: the time is over. */
static bool wait_until (ctki_raft_t *raft, int64_t end_ms)
{
    struct timespec end = {.tv_sec = (time_t) (end_ms / 1000), .tv_nsec = (long) (end_ms % 1000) * 1000000L};
    return pthread_cond_timedwait (&raft->changed, &raft->lock, &end) == 0;
}

typedef struct {
    ctki_raft_t *raft;
    ctki_raft_set_t set;
    ctalk_pid_t pid; /* the one that is looked at; 0: none */
    uint64_t number;
    bool (*holds) (const ctki_raft_view_t *view, uint64_t arg);
} wish_t;

/* Ends the threads when something went wrong: the join then tells what. */
static void give_up (ctki_raft_t *raft, const char *wish)
{
    char text[600] = "";
    for (size_t i = 1; i <= raft->count; i++) {
        const ctki_raft_view_t *view = &raft->node[i].view;
        size_t used = strlen (text);
        (void) snprintf (text + used, sizeof text - used,
                         "; %zu: role %d, term %" PRIu64 ", last %" PRIu64 ", commit %" PRIu64, i, (int) view->role,
                         view->term, view->last, view->commit);
    }
    pthread_mutex_unlock (&raft->lock);
    end_threads (raft);
    ck_abort_msg ("waited in vain for %s%s", wish, text);
}

static void await (wish_t *wish, bool (*fulfilled) (wish_t *wish), const char *what)
{
    ctki_raft_t *raft = wish->raft;
    int64_t end_ms = ctki_test_now_ms () + 3 * ctki_test_long_ms ();
    pthread_mutex_lock (&raft->lock);
    while (!fulfilled (wish))
        if (atomic_load (&raft->failed) || !wait_until (raft, end_ms))
            give_up (raft, what);
    pthread_mutex_unlock (&raft->lock);
}

/* With the lock held: the leader of the highest term in the set that has committed something in it; 0: none. */
static ctalk_pid_t leader_in (const ctki_raft_t *raft, ctki_raft_set_t set)
{
    ctalk_pid_t best = 0;
    for (ctalk_pid_t pid = 1; (size_t) pid <= raft->count; pid++) {
        const ctki_raft_view_t *view = &raft->node[pid].view;
        if ((set & CTKI_RAFT_ONE (pid)) && view->role == CTKI_RAFT_LEADER
            && (!best || view->term > raft->node[best].view.term))
            best = pid;
    }
    return best;
}

static bool has_leader (wish_t *wish)
{
    const ctki_raft_t *raft = wish->raft;
    wish->pid = leader_in (raft, wish->set);
    if (!wish->pid || raft->node[wish->pid].view.term <= wish->number)
        return false;
    return raft->committed.entry[raft->committed.last].term == raft->node[wish->pid].view.term;
}

ctalk_pid_t ctki_raft_await_leader (ctki_raft_t *raft, ctki_raft_set_t set, uint64_t above_term)
{
    wish_t wish = {.raft = raft, .set = set, .number = above_term};
    await (&wish, has_leader, "a leader");
    return wish.pid;
}

static bool view_holds (wish_t *wish)
{
    return wish->holds (&wish->raft->node[wish->pid].view, wish->number);
}

void ctki_raft_await (ctki_raft_t *raft, ctalk_pid_t pid, bool (*holds) (const ctki_raft_view_t *view, uint64_t arg),
                      uint64_t arg)
{
    wish_t wish = {.raft = raft, .pid = pid, .number = arg, .holds = holds};
    await (&wish, view_holds, "the state of a server");
}

static bool all_agree (wish_t *wish)
{
    const ctki_raft_t *raft = wish->raft;
    uint64_t last = raft->committed.last;
    for (size_t i = 1; i <= raft->count; i++) {
        const ctki_raft_view_t *view = &raft->node[i].view;
        if (view->last != last || view->commit != last || view->hash != raft->committed.hash[last])
            return false;
    }
    return true;
}

void ctki_raft_await_agreement (ctki_raft_t *raft)
{
    wish_t wish = {.raft = raft};
    await (&wish, all_agree, "agreement");
}

ctki_raft_view_t ctki_raft_view (ctki_raft_t *raft, ctalk_pid_t pid)
{
    pthread_mutex_lock (&raft->lock);
    ctki_raft_view_t view = raft->node[pid].view;
    pthread_mutex_unlock (&raft->lock);
    return view;
}

bool ctki_raft_committed (ctki_raft_t *raft, uint64_t command)
{
    pthread_mutex_lock (&raft->lock);
    bool known = raft->is_known[command];
    pthread_mutex_unlock (&raft->lock);
    return known;
}

uint64_t ctki_raft_count (ctki_raft_t *raft)
{
    pthread_mutex_lock (&raft->lock);
    uint64_t known = raft->known;
    pthread_mutex_unlock (&raft->lock);
    return known;
}

/* ---- a client */

/* With the lock held. */
static void propose (ctki_raft_t *raft, ctalk_pid_t pid, uint64_t command)
{
    node_t *node = &raft->node[pid];
    CTKI_ASSERT (command >= 1 && command <= raft->most);
    if (node->proposals == node->proposals_max) {
        node->proposals_max = CTKI_MAX (2 * node->proposals_max, (size_t) 64);
        node->proposed = realloc (node->proposed, node->proposals_max * sizeof *node->proposed);
        CTKI_ASSERT (node->proposed);
    }
    node->proposed[node->proposals++] = command;
}

void ctki_raft_propose (ctki_raft_t *raft, ctalk_pid_t pid, uint64_t command)
{
    pthread_mutex_lock (&raft->lock);
    propose (raft, pid, command);
    pthread_mutex_unlock (&raft->lock);
    (void) ctalk_server_wake (raft->node[pid].server);
}

typedef struct {
    ctki_raft_t *raft;
    uint64_t low, high, end; /* below low all are committed; from high on none was given yet */
    uint64_t window;
    ctalk_pid_t leader; /* who was given them, and in which term */
    uint64_t term;
    int64_t progress_ms; /* when something was committed or given last */
    size_t again;
} client_t;

/* Gives those from `from` to the end of the window that are not committed. */
static void give (client_t *client, uint64_t from)
{
    ctki_raft_t *raft = client->raft;
    uint64_t to = CTKI_MIN (client->low + client->window, client->end);
    for (uint64_t command = from; command < to; command++) {
        if (raft->is_known[command])
            continue;
        propose (raft, client->leader, command);
        client->again += command < client->high;
    }
    if (from < to)
        (void) ctalk_server_wake (raft->node[client->leader].server);
    client->high = CTKI_MAX (client->high, to);
}

/* With the lock held: gives the leader what is new, and all that is open when the leader is new or nothing moves. */
static void advance (client_t *client, ctki_raft_set_t set)
{
    ctki_raft_t *raft = client->raft;
    int64_t now_ms = ctki_test_now_ms ();
    uint64_t low = client->low;
    while (client->low < client->end && raft->is_known[client->low])
        client->low++;
    if (client->low > low)
        client->progress_ms = now_ms;
    ctalk_pid_t leader = leader_in (raft, set);
    uint64_t term = leader ? raft->node[leader].view.term : 0;
    if (!leader)
        return;
    bool anew =
        leader != client->leader || term != client->term || now_ms - client->progress_ms >= ctki_test_ms (RETRY_MS);
    client->leader = leader;
    client->term = term;
    if (anew)
        client->progress_ms = now_ms;
    give (client, anew ? client->low : client->high);
}

size_t ctki_raft_commit (ctki_raft_t *raft, ctki_raft_set_t set, uint64_t first, uint64_t count, uint64_t window)
{
    client_t client = {.raft = raft, .low = first, .high = first, .end = first + count, .window = window};
    int64_t end_ms = ctki_test_now_ms () + 6 * ctki_test_long_ms ();
    pthread_mutex_lock (&raft->lock);
    for (;;) {
        advance (&client, set);
        if (client.low == client.end)
            break;
        if (atomic_load (&raft->failed) || ctki_test_now_ms () >= end_ms)
            give_up (raft, "commands to be committed");
        (void) wait_until (raft, ctki_test_now_ms () + ctki_test_ms (RETRY_MS));
        ctki_test_progress ("committed", client.low - first, count);
    }
    pthread_mutex_unlock (&raft->lock);
    ctki_test_progress ("", 0, 0);
    return client.again;
}
