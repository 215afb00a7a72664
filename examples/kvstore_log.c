/*
 * kvstore_log.c - Raft, as a pure state machine. Owns copies of its entries.
 */
#include "examples/kvstore_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *kv_resize (void *memory, size_t size)
{
    void *larger = realloc (memory, size);
    if (!larger) {
        perror ("kvstore");
        abort ();
    }
    return larger;
}

/* ---- the log itself */

static uint64_t last_term (const kv_log_t *log)
{
    return log->entry[log->last].term;
}

static void append (kv_log_t *log, const kv_entry_t *entry)
{
    if (log->last + 1 == log->capacity) {
        log->capacity *= 2;
        log->entry = kv_resize (log->entry, log->capacity * sizeof *log->entry);
    }
    void *data = entry->size ? memcpy (kv_resize (NULL, entry->size), entry->data, entry->size) : NULL;
    log->entry[++log->last] = (kv_entry_t){.term = entry->term, .data = data, .size = entry->size};
}

/* Takes out the entry at index and all that follow. */
static void cut_off (kv_log_t *log, uint64_t index)
{
    while (log->last >= index)
        free ((void *) log->entry[log->last--].data);
    if (log->saved > log->last)
        log->saved = log->last;
}

void kv_log_init (kv_log_t *log, ctalk_pid_t self, const ctalk_pid_t *members, size_t count)
{
    *log = (kv_log_t){.self = self, .leader = KV_NOBODY, .voted = KV_NOBODY, .capacity = 64, .vote_is_saved = true};
    log->entry = kv_resize (NULL, log->capacity * sizeof *log->entry);
    log->entry[0] = (kv_entry_t){0};
    for (size_t i = 0; i < count; i++)
        if (members[i] != self && log->peers < KV_MEMBERS_MAX - 1)
            log->peer[log->peers++].pid = members[i];
}

void kv_log_fini (kv_log_t *log)
{
    cut_off (log, 1);
    free (log->entry);
    free (log->post);
    *log = (kv_log_t){0};
}

bool kv_log_restore_vote (kv_log_t *log, uint64_t term, ctalk_pid_t voted)
{
    bool follows = term >= log->term;
    log->term = term;
    log->voted = voted;
    return follows;
}

bool kv_log_restore_entry (kv_log_t *log, uint64_t index, const kv_entry_t *entry)
{
    if (index == 0 || index > log->last + 1 || entry->term < log->entry[index - 1].term)
        return false;
    cut_off (log, index);
    append (log, entry);
    log->saved = log->last;
    return true;
}

/* ---- sending */

static void post (kv_log_t *log, ctalk_pid_t to, const kv_message_t *message)
{
    if (log->posts == log->posts_capacity) {
        log->posts_capacity = 2 * log->posts_capacity + 16;
        log->post = kv_resize (log->post, log->posts_capacity * sizeof *log->post);
    }
    log->post[log->posts++] = (kv_post_t){.to = to, .message = *message};
}

/* What a follower lacks, as much as fits. Without entries it is a heartbeat. */
static kv_message_t make_append (const kv_log_t *log, const kv_peer_t *peer)
{
    uint64_t before = peer->next - 1;
    kv_message_t message = {.kind = KV_APPEND,
                            .term = log->term,
                            .index = before,
                            .of = log->entry[before].term,
                            .commit = log->commit,
                            .round = log->round,
                            .entry = &log->entry[before + 1]};
    size_t bytes = 0;
    while (message.count < KV_ENTRIES_MAX && before + message.count < log->last
           && (message.count == 0 || bytes + message.entry[message.count].size <= KV_BATCH_BYTES))
        bytes += message.entry[message.count++].size;
    return message;
}

static bool is_due (const kv_log_t *log, const kv_peer_t *peer)
{
    return peer->round_sent < log->round || (!peer->waits && peer->next <= log->last);
}

bool kv_log_next (kv_log_t *log, ctalk_pid_t *to, kv_message_t *message)
{
    if (log->posts_taken < log->posts) {
        *to = log->post[log->posts_taken].to;
        *message = log->post[log->posts_taken++].message;
        return true;
    }
    log->posts = log->posts_taken = 0;
    for (size_t i = 0; log->role == KV_LEADER && i < log->peers; i++) {
        kv_peer_t *peer = &log->peer[i];
        if (is_due (log, peer)) {
            *to = peer->pid;
            *message = make_append (log, peer);
            peer->waits = true;
            peer->round_sent = log->round;
            return true;
        }
    }
    log->round_is_new = false;
    return false;
}

/* ---- majorities */

static int falling (const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;
    return (x < y) - (x > y);
}

/* The highest number that a majority reaches; values: of the peers, and the own one last. */
static uint64_t majority_of (const kv_log_t *log, uint64_t values[KV_MEMBERS_MAX])
{
    qsort (values, log->peers + 1, sizeof *values, falling);
    return values[(log->peers + 1) / 2];
}

uint64_t kv_log_confirmed (const kv_log_t *log)
{
    uint64_t round[KV_MEMBERS_MAX];
    for (size_t i = 0; i < log->peers; i++)
        round[i] = log->peer[i].round_heard;
    round[log->peers] = log->round;
    return majority_of (log, round);
}

/* What a majority has saved is committed, if the last of it is of this term: an older one could still be replaced by
 * a leader that does not have it (figure 8 of the paper). */
static void count_copies (kv_log_t *log)
{
    uint64_t copy[KV_MEMBERS_MAX];
    for (size_t i = 0; i < log->peers; i++)
        copy[i] = log->peer[i].match;
    copy[log->peers] = log->saved;
    uint64_t index = majority_of (log, copy);
    if (index > log->commit && log->entry[index].term == log->term)
        log->commit = index;
}

void kv_log_saved (kv_log_t *log)
{
    log->vote_is_saved = true;
    log->saved = log->last;
    if (log->role == KV_LEADER)
        count_copies (log);
}

/* ---- roles */

static void set_term (kv_log_t *log, uint64_t term, ctalk_pid_t voted)
{
    log->term = term;
    log->voted = voted;
    log->vote_is_saved = false;
    log->leader = KV_NOBODY;
}

/* Of this term or a new one. */
static void follow (kv_log_t *log, uint64_t term)
{
    if (term > log->term)
        set_term (log, term, KV_NOBODY);
    log->role = KV_FOLLOWER;
}

static void begin_round (kv_log_t *log)
{
    if (!log->round_is_new)
        log->round++;
    log->round_is_new = true;
}

/* An empty entry of the new term comes first: with it all that stands before it gets committed. */
static void lead (kv_log_t *log)
{
    log->role = KV_LEADER;
    log->leader = log->self;
    log->round = log->confirmed = 0;
    log->beats_alone = 0;
    log->round_is_new = false;
    for (size_t i = 0; i < log->peers; i++)
        log->peer[i] = (kv_peer_t){.pid = log->peer[i].pid, .next = log->last + 1};
    append (log, &(kv_entry_t){.term = log->term});
    log->first = log->last;
    begin_round (log);
}

static void count_votes (kv_log_t *log)
{
    size_t votes = 1;
    for (size_t i = 0; i < log->peers; i++)
        votes += log->peer[i].votes_for_us;
    if (votes > (log->peers + 1) / 2)
        lead (log);
}

static void stand (kv_log_t *log)
{
    set_term (log, log->term + 1, log->self);
    log->role = KV_CANDIDATE;
    for (size_t i = 0; i < log->peers; i++) {
        log->peer[i].votes_for_us = false;
        post (log, log->peer[i].pid,
              &(kv_message_t){.kind = KV_ASK_VOTE, .term = log->term, .index = log->last, .of = last_term (log)});
    }
    count_votes (log);
}

/* A leader that has lost the majority steps back, so that its clients ask elsewhere. */
static void beat (kv_log_t *log)
{
    uint64_t confirmed = kv_log_confirmed (log);
    log->beats_alone = confirmed > log->confirmed ? 0 : log->beats_alone + 1;
    log->confirmed = confirmed;
    if (log->beats_alone > KV_BEATS_ALONE_MAX) {
        follow (log, log->term);
        log->leader = KV_NOBODY;
        return;
    }
    log->round_is_new = false;
    begin_round (log);
}

void kv_log_timeout (kv_log_t *log)
{
    if (log->role == KV_LEADER)
        beat (log);
    else if (!log->heard)
        stand (log);
    log->heard = false;
}

/* ---- what comes */

static void on_ask_vote (kv_log_t *log, ctalk_pid_t from, const kv_message_t *asked)
{
    bool has_as_much = asked->of > last_term (log) || (asked->of == last_term (log) && asked->index >= log->last);
    bool yes = asked->term == log->term && has_as_much && (log->voted == KV_NOBODY || log->voted == from);
    if (yes) {
        log->vote_is_saved = log->vote_is_saved && log->voted == from;
        log->voted = from;
        log->heard = true;
    }
    post (log, from, &(kv_message_t){.kind = KV_VOTE, .term = log->term, .yes = yes});
}

static void on_vote (kv_log_t *log, kv_peer_t *peer, const kv_message_t *vote)
{
    if (log->role != KV_CANDIDATE || vote->term != log->term || !vote->yes)
        return;
    peer->votes_for_us = true;
    count_votes (log);
}

/* Makes the log that of the leader, from the entry after index on. What is equal stays: the message may be an old one,
 * and more may have come since. */
static void take_entries (kv_log_t *log, const kv_message_t *message)
{
    for (size_t i = 0; i < message->count; i++) {
        uint64_t at = message->index + 1 + i;
        if (at <= log->last && log->entry[at].term == message->entry[i].term)
            continue;
        if (at <= log->commit) /* no server that keeps the rules sends this */
            return;
        cut_off (log, at);
        append (log, &message->entry[i]);
    }
}

/* Up to where the leader may try again when its entry before the first is not ours: over all of that term at once. */
static uint64_t guess (const kv_log_t *log, uint64_t index)
{
    if (index > log->last)
        return log->last;
    uint64_t term = log->entry[index].term;
    while (index > log->commit && log->entry[index].term == term)
        index--;
    return index;
}

static void on_append (kv_log_t *log, ctalk_pid_t from, const kv_message_t *message)
{
    kv_message_t reply = {.kind = KV_APPENDED, .term = log->term};
    if (message->term == log->term && log->role != KV_LEADER) { /* else its time is over: the term says so */
        follow (log, message->term);
        log->leader = from;
        log->heard = true;
        reply.round = message->round;
        reply.yes = message->index <= log->last && log->entry[message->index].term == message->of;
        reply.index = reply.yes ? message->index + message->count : guess (log, message->index);
    }
    if (reply.yes) {
        take_entries (log, message);
        uint64_t known = message->commit < reply.index ? message->commit : reply.index;
        if (known > log->commit && known <= log->last)
            log->commit = known;
    }
    post (log, from, &reply);
}

static void on_appended (kv_log_t *log, kv_peer_t *peer, const kv_message_t *reply)
{
    if (log->role != KV_LEADER || reply->term != log->term || reply->index > log->last || reply->round > log->round)
        return;
    peer->waits = false;
    if (reply->round > peer->round_heard)
        peer->round_heard = reply->round;
    if (reply->yes && reply->index > peer->match)
        peer->match = reply->index;
    if (reply->yes && peer->next <= peer->match)
        peer->next = peer->match + 1;
    if (!reply->yes && reply->index + 1 < peer->next && reply->index >= peer->match)
        peer->next = reply->index + 1;
    count_copies (log);
}

void kv_log_receive (kv_log_t *log, ctalk_pid_t from, const kv_message_t *message)
{
    kv_peer_t *peer = NULL;
    for (size_t i = 0; i < log->peers; i++)
        if (log->peer[i].pid == from)
            peer = &log->peer[i];
    if (!peer)
        return;
    if (message->term > log->term)
        follow (log, message->term);
    switch (message->kind) {
    case KV_ASK_VOTE:
        on_ask_vote (log, from, message);
        break;
    case KV_VOTE:
        on_vote (log, peer, message);
        break;
    case KV_APPEND:
        on_append (log, from, message);
        break;
    case KV_APPENDED:
        on_appended (log, peer, message);
        break;
    }
}

/* ---- clients */

uint64_t kv_log_propose (kv_log_t *log, const void *data, size_t size)
{
    if (log->role != KV_LEADER || log->last - log->commit >= KV_OPEN_MAX)
        return 0;
    append (log, &(kv_entry_t){.term = log->term, .data = data, .size = size});
    return log->last;
}

bool kv_log_read (kv_log_t *log, uint64_t *round, uint64_t *index)
{
    if (log->role != KV_LEADER)
        return false;
    begin_round (log);
    *round = log->round;
    *index = log->commit > log->first ? log->commit : log->first;
    return true;
}
