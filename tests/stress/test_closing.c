/*
 * test_closing.c - closing, many times: all servers at once lose nothing, and
 * under load with an absent peer the deadline holds each time.
 */
#include <sched.h>

#include "tests/stress/suites.h"
#include "tests/support/support.h"

enum { AT_ONCE = 5, AT_ONCE_ROUNDS = 200, CYCLES = 100, BUSY_MS = 60, GRACE_MS = 100 };

static ctki_cluster_t cluster;

/* Takes all that is sent to pid below: from each of the others one kind of envelope or the other. */
static void take (ctalk_pid_t pid, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ctalk_envelope_t envelope;
        ctki_traffic_take (cluster.server[pid], &envelope);
        ctalk_envelope_close (&envelope);
    }
}

/* Five servers that have sent and received everything close all at once, without a flush: each reports that it
 * abandoned nothing, two hundred times, having been waited for or not. */
START_TEST (all_at_once)
{
    enum { BROADCASTS = 200 };
    size_t rounds = ctki_test_count (AT_ONCE_ROUNDS);
    int64_t worst_ms = 0;
    for (size_t round = 0; round < rounds; round++) {
        ctki_cluster_open (&cluster, AT_ONCE, NULL);
        if (round % 2)
            ctki_cluster_wait_up (&cluster);
        for (int64_t i = 0; i < BROADCASTS; i++)
            for (ctalk_pid_t pid = 1; pid <= AT_ONCE; pid++)
                ctki_traffic_send (cluster.server[pid], CTALK_BROADCAST, i, "to all");
        for (ctalk_pid_t pid = 1; pid <= AT_ONCE; pid++)
            take (pid, (size_t) (AT_ONCE - 1) * BROADCASTS);
        int64_t start_ms = ctki_test_now_ms ();
        int abandoned = ctki_cluster_close_abandoning (&cluster, ctki_test_long_ms ());
        ck_assert_msg (abandoned == 0, "round %zu: %d abandoned", round, abandoned);
        worst_ms = CTKI_MAX (worst_ms, ctki_test_now_ms () - start_ms);
    }
    ctki_test_figure ("all_at_once", "%zu rounds of 5 servers, 0 abandoned, at most %lld ms", rounds,
                      (long long) worst_ms);
}
END_TEST

typedef struct {
    ctalk_server_t *server;
    int64_t absent; /* accepted for the absent peer */
    int64_t other;  /* accepted for the other one */
} load_t;

/* Sends to the absent peer and to the other one, and receives, until it is told that the server is closing. */
static bool load (void *arg, ctki_trouble_t *trouble)
{
    load_t *l = arg;
    ctalk_pid_t other = 3 - ctalk_server_pid (l->server);
    for (int64_t i = 0;; i++) {
        ctalk_envelope_t envelope = ctki_traffic_envelope (i % 10 ? other : cluster.absent, i, &i, sizeof i);
        int rc = ctalk_send (l->server, &envelope, 1);
        CTKI_EXPECT (trouble, rc == 0 || errno == EAGAIN || errno == ESHUTDOWN);
        if (rc && errno == ESHUTDOWN)
            return true;
        l->absent += rc == 0 && i % 10 == 0;
        l->other += rc == 0 && i % 10;
        rc = ctalk_recv (l->server, &envelope, 0);
        CTKI_EXPECT (trouble, rc == 0 || errno == EAGAIN || errno == ESHUTDOWN);
        if (rc && errno == ESHUTDOWN)
            return true;
        ctalk_envelope_close (&envelope);
    }
}

/* Closes a server and returns how long after its timeout it came back, without what the machine was late. */
static int64_t close_loaded (ctalk_pid_t pid, int timeout_ms, int *abandoned)
{
    ctki_lateness_t lateness;
    ctki_lateness_start (&lateness);
    int64_t start_ms = ctki_test_now_ms ();
    *abandoned = ctalk_server_close (&cluster.server[pid], timeout_ms);
    int64_t took_ms = ctki_test_now_ms () - start_ms;
    return took_ms - timeout_ms - ctki_lateness_stop (&lateness);
}

/* Opened and closed a hundred times under load with an absent peer: each close keeps its deadline, and counts at least
 * what waits for the absent one. What is queued for that one keeps close busy until the load has been told. */
START_TEST (cycles_with_an_absent_peer)
{
    size_t cycles = ctki_test_count (CYCLES);
    int64_t worst_ms = 0, total = 0;
    for (size_t cycle = 0; cycle < cycles; cycle++) {
        ctki_test_thread_t threads[3];
        load_t loads[3] = {{0}};
        ctki_cluster_open_absent (&cluster, 2, CTKI_OPTIONS ("QueueBytes", "1048576"));
        for (ctalk_pid_t pid = 1; pid <= 2; pid++) {
            loads[pid].server = cluster.server[pid];
            ctki_test_thread_start (&threads[pid], load, &loads[pid]);
        }
        while (ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST).accepted < 1 + cycle * 10
               || ctki_cluster_stats (cluster.server[2], CTALK_BROADCAST).accepted < 1)
            (void) sched_yield ();
        for (ctalk_pid_t pid = 1; pid <= 2; pid++) {
            int abandoned, timeout_ms = ctki_test_ms (BUSY_MS) + (int) (cycle % 7) * 5;
            int64_t late_ms = close_loaded (pid, timeout_ms, &abandoned);
            ctki_test_thread_join (&threads[pid]);
            ck_assert_int_ge (abandoned, loads[pid].absent);
            ck_assert_int_le (abandoned, loads[pid].absent + loads[pid].other);
            ck_assert_msg (late_ms <= ctki_test_ms (GRACE_MS), "cycle %zu: %lld ms late", cycle, (long long) late_ms);
            worst_ms = CTKI_MAX (worst_ms, late_ms);
            total += loads[pid].absent + loads[pid].other;
        }
        (void) ctki_cluster_close_abandoning (&cluster, 0);
        ctki_test_progress ("cycles", cycle, cycles);
    }
    ctki_test_progress ("", 0, 0);
    ctki_test_figure ("cycles_with_an_absent_peer", "%zu cycles, %lld envelopes, at most %lld ms after the timeout",
                      cycles, (long long) total, (long long) worst_ms);
}
END_TEST

Suite *ctki_suite_closing (void)
{
    Suite *suite = suite_create ("closing");
    TCase *tcase = ctki_leaks_tcase ("closing", 300);
    tcase_add_test (tcase, all_at_once);
    tcase_add_test (tcase, cycles_with_an_absent_peer);
    suite_add_tcase (suite, tcase);
    return suite;
}
