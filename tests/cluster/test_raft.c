/*
 * test_raft.c - what a program that needs agreement makes of this library: a
 * small Raft (tests/support/raft.h) on five servers, under partitions and on bad
 * ways. Its referee looks at Raft's promises all the time; the tests look at
 * what goes on and what stands still, and that all agree in the end.
 */
#include "tests/cluster/suites.h"
#include "tests/support/raft.h"
#include "tests/support/support.h"

enum {
    SERVERS = 5,
    BOTH = CTALK_IN | CTALK_OUT,
    COMMANDS = 100, /* before, during and after a partition */
    LOST = 5,       /* commands given to a leader that cannot commit them */
    COMMANDS_OF_A_RUN = 10000,
    WINDOW = 50 /* commands that a client has under way */
};

static ctki_cluster_t cluster;
static ctki_raft_t *raft;

static const ctki_raft_set_t all = CTKI_RAFT_ALL (SERVERS);

static void open_raft (uint64_t most)
{
    ctki_cluster_open_up (&cluster, SERVERS, CTKI_OPTIONS (CTKI_FAST_FAILURE));
    raft = ctki_raft_start (&cluster, most);
}

/* All logs are the same; nothing is left over. The last messages are acknowledged before anybody closes: to one that
 * closes first they would be abandoned. */
static void close_raft (void)
{
    ctki_raft_await_agreement (raft);
    ctki_raft_stop (&raft);
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++)
        CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[pid], CTALK_BROADCAST, ctki_test_long_ms ()));
    ctki_cluster_close (&cluster);
}

/* Cuts each of the set from each that is not in it, or heals it. */
static void partition (ctki_raft_set_t set, bool on)
{
    for (ctalk_pid_t a = 1; a <= SERVERS; a++)
        for (ctalk_pid_t b = 1; b <= SERVERS; b++)
            if ((set & CTKI_RAFT_ONE (a)) && !(set & CTKI_RAFT_ONE (b)))
                CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[a], b, BOTH, on));
}

static bool is_no_leader_above (const ctki_raft_view_t *view, uint64_t term)
{
    return view->role != CTKI_RAFT_LEADER && view->term > term;
}

static bool has_entries (const ctki_raft_view_t *view, uint64_t last)
{
    return view->last >= last;
}

/* Without trouble: one leader, and what it is given is committed everywhere in the order in which it was given. */
START_TEST (in_peace)
{
    open_raft (COMMANDS);
    ctalk_pid_t leader = ctki_raft_await_leader (raft, all, 0);
    ctki_raft_commit (raft, all, 1, COMMANDS, WINDOW);
    ck_assert_uint_eq (ctki_raft_count (raft), COMMANDS);
    close_raft ();
    ctki_test_figure ("in_peace", "leader %d", leader);
}
END_TEST

/* Cuts the leader from all and returns it; another try if it had just lost its place. */
static ctalk_pid_t cut_leader (ctki_raft_view_t *view)
{
    for (;;) {
        ctalk_pid_t leader = ctki_raft_await_leader (raft, all, 0);
        CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[leader], CTALK_BROADCAST, BOTH, true));
        *view = ctki_raft_view (raft, leader);
        if (view->role == CTKI_RAFT_LEADER)
            return leader;
        CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[leader], CTALK_BROADCAST, BOTH, false));
    }
}

/* The leader is cut from all, in both directions: the others elect a new one and go on; what the old one is given
 * meanwhile is never committed. Back again it steps down, and the logs converge. */
START_TEST (isolated_leader)
{
    open_raft (2 * COMMANDS + LOST);
    ctki_raft_commit (raft, all, 1, COMMANDS, WINDOW);
    ctki_raft_view_t before;
    ctalk_pid_t old = cut_leader (&before);
    ctki_raft_set_t others = all & ~CTKI_RAFT_ONE (old);
    for (uint64_t i = 0; i < LOST; i++)
        ctki_raft_propose (raft, old, 2 * COMMANDS + 1 + i);
    ctki_raft_await (raft, old, has_entries, before.last + LOST); /* in its own log, and nowhere else */
    ctalk_pid_t new = ctki_raft_await_leader (raft, others, before.term);
    ctki_raft_commit (raft, others, COMMANDS + 1, COMMANDS, WINDOW);
    ctki_raft_view_t during = ctki_raft_view (raft, old);
    ck_assert (during.role == CTKI_RAFT_LEADER && during.term == before.term); /* nobody could tell it */
    ck_assert_uint_le (during.commit, before.last);

    CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[old], CTALK_BROADCAST, BOTH, false));
    ctki_raft_await (raft, old, is_no_leader_above, before.term);
    ctki_raft_await_agreement (raft);
    for (uint64_t i = 0; i < LOST; i++)
        ck_assert (!ctki_raft_committed (raft, 2 * COMMANDS + 1 + i));
    ck_assert_uint_eq (ctki_raft_count (raft), 2 * COMMANDS);
    close_raft ();
    ctki_test_figure ("isolated_leader", "leader %d, then %d", old, new);
}
END_TEST

/* Two of five are cut off, the leader among them or not: the three go on committing, the two commit nothing, and after
 * healing all agree. */
START_TEST (minority)
{
    for (int with_leader = 0; with_leader < 2; with_leader++) {
        open_raft (3 * COMMANDS + LOST);
        ctalk_pid_t leader = ctki_raft_await_leader (raft, all, 0);
        ctki_raft_commit (raft, all, 1, COMMANDS, WINDOW);
        ctki_raft_await_agreement (raft);
        leader = ctki_raft_await_leader (raft, all, 0); /* in case that it is another by now */
        ctalk_pid_t first = with_leader ? leader : leader % SERVERS + 1, second = first % SERVERS + 1;
        ctki_raft_set_t few = CTKI_RAFT_ONE (first) | CTKI_RAFT_ONE (second), many = all & ~few;
        partition (few, true);
        ctki_raft_view_t before[2] = {ctki_raft_view (raft, first), ctki_raft_view (raft, second)};
        for (uint64_t i = 0; i < LOST; i++) {
            ctki_raft_propose (raft, first, 3 * COMMANDS + 1 + i);
            ctki_raft_propose (raft, second, 3 * COMMANDS + 1 + i);
        }
        ctki_raft_commit (raft, many, COMMANDS + 1, COMMANDS, WINDOW);
        ctki_raft_view_t during[2] = {ctki_raft_view (raft, first), ctki_raft_view (raft, second)};
        for (int i = 0; i < 2; i++)
            ck_assert_uint_le (during[i].commit, before[i].last);
        partition (few, false);
        ctki_raft_commit (raft, all, 2 * COMMANDS + 1, COMMANDS, WINDOW);
        ctki_raft_await_agreement (raft);
        for (uint64_t i = 0; i < LOST; i++)
            ck_assert (!ctki_raft_committed (raft, 3 * COMMANDS + 1 + i));
        ck_assert_uint_eq (ctki_raft_count (raft), 3 * COMMANDS);
        close_raft ();
    }
}
END_TEST

/* 10,000 commands are committed while every way loses, doubles and delays frames: the logs are equal, and hold all of
 * them. */
START_TEST (message_scale)
{
    static const ctalk_impairment_t bad = {.loss = 0.02, .duplicate = 0.05, .delay_ms = 1, .jitter_ms = 4, .seed = 77};
    uint64_t count = ctki_test_count (COMMANDS_OF_A_RUN), sent = 0, retransmitted = 0, duplicates = 0;
    open_raft (count);
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++)
        CTKI_SUCCEEDS (ctalk_server_impair (cluster.server[pid], CTALK_BROADCAST, BOTH, &bad));
    int64_t start_ms = ctki_test_now_ms ();
    size_t again = ctki_raft_commit (raft, all, 1, count, WINDOW);
    int64_t took_ms = ctki_test_now_ms () - start_ms;
    ctki_raft_await_agreement (raft);
    ck_assert_uint_eq (ctki_raft_count (raft), count);
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++) {
        ctalk_stats_t stats = ctki_cluster_stats (cluster.server[pid], CTALK_BROADCAST);
        ck_assert_uint_eq (stats.malformed, 0);
        sent += stats.accepted;
        retransmitted += stats.retransmitted;
        duplicates += stats.duplicates;
    }
    if (count == COMMANDS_OF_A_RUN) /* a few frames may be spared */
        ck_assert_uint_gt (duplicates, 0);
    close_raft ();
    ctki_test_figure (
        "message_scale",
        "%llu commands in %lld ms, %llu messages; frames sent again %llu, duplicates %llu; given again %zu",
        (unsigned long long) count, (long long) took_ms, (unsigned long long) sent, (unsigned long long) retransmitted,
        (unsigned long long) duplicates, again);
}
END_TEST

Suite *ctki_suite_raft (void)
{
    Suite *suite = suite_create ("raft");
    TCase *tcase = ctki_leaks_tcase ("raft", 300);
    tcase_add_test (tcase, in_peace);
    tcase_add_test (tcase, isolated_leader);
    tcase_add_test (tcase, minority);
    tcase_add_test (tcase, message_scale);
    suite_add_tcase (suite, tcase);
    return suite;
}
