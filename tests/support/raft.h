/*
 * raft.h - a small Raft over the public interface of the library, for tests of
 * partitions: leader election and a replicated log, a thread for each server of
 * a cluster. Terms, votes, heartbeats, election timeouts at random, entries
 * committed by a majority in the leader's own term. No disk, no snapshots, no
 * change of members.
 *
 * Messages may be lost on the way in: what the library does not take at once, or
 * for a peer that is not up, is not sent; the next heartbeat mends it.
 *
 * A referee sees every leader and every commit, and the test fails when one of
 * Raft's promises is broken: at most one leader in a term; what was committed is
 * the same on each server and never changes; a new leader has all of it.
 */
#ifndef CTKI_TEST_RAFT_H
#define CTKI_TEST_RAFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <clustertalk.h>

#include "tests/support/cluster.h"

typedef struct ctki_raft ctki_raft_t;

/* What a server is in its term. */
typedef enum { CTKI_RAFT_FOLLOWER, CTKI_RAFT_CANDIDATE, CTKI_RAFT_LEADER } ctki_raft_role_t;

/* A server as it was after its last step. */
typedef struct {
    ctki_raft_role_t role;
    uint64_t term;
    uint64_t last;   /* how many entries its log has */
    uint64_t commit; /* how many of them are committed, as it knows */
    uint64_t hash;   /* of the whole log */
} ctki_raft_view_t;

/* A set of servers. */
typedef uint32_t ctki_raft_set_t;
#define CTKI_RAFT_ONE(pid) ((ctki_raft_set_t) 1 << (pid))
#define CTKI_RAFT_ALL(raft_size) ((ctki_raft_set_t) ((2u << (raft_size)) - 2))

/* Starts a thread on each server of the cluster. Commands are 1 ... most. */
ctki_raft_t *ctki_raft_start (const ctki_cluster_t *cluster, uint64_t most);

/* Ends the threads, compares all that was committed, and fails the test with the first trouble. */
void ctki_raft_stop (ctki_raft_t **raft_p);

/* Waits until a server of the set is leader in a term above this one, and knows that its own term's first entry is
 * committed; returns it. */
ctalk_pid_t ctki_raft_await_leader (ctki_raft_t *raft, ctki_raft_set_t set, uint64_t above_term);

/* Gives a command to a server, leader or not. One that is no leader, or soon will not be, loses it. */
void ctki_raft_propose (ctki_raft_t *raft, ctalk_pid_t pid, uint64_t command);

/* Gets count commands from first on committed: gives them to whoever is leader in the set, window at a time, again
 * when the leader changes. Returns how often it gave one again. */
size_t ctki_raft_commit (ctki_raft_t *raft, ctki_raft_set_t set, uint64_t first, uint64_t count, uint64_t window);

/* Whether a command was committed, anywhere; how many different ones were. */
bool ctki_raft_committed (ctki_raft_t *raft, uint64_t command);
uint64_t ctki_raft_count (ctki_raft_t *raft);

ctki_raft_view_t ctki_raft_view (ctki_raft_t *raft, ctalk_pid_t pid);

/* Waits until a server has its present view in a way that holds () says yes to. */
void ctki_raft_await (ctki_raft_t *raft, ctalk_pid_t pid, bool (*holds) (const ctki_raft_view_t *view, uint64_t arg),
                      uint64_t arg);

/* Waits until all logs are equal, whole, and committed everywhere. */
void ctki_raft_await_agreement (ctki_raft_t *raft);

#endif
