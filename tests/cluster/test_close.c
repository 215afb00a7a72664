/*
 * test_close.c - ctalk_server_close (): it drains, says how many envelopes were
 * abandoned, keeps its deadline, ends all calls in progress, and frees its port.
 */
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/cluster/suites.h"
#include "tests/support/support.h"

static ctki_cluster_t cluster;

/* Closes pid and checks that it took no longer than its timeout and 100 ms, and what the machine was late. */
static int close_in_time (ctalk_pid_t pid, int timeout_ms, int64_t *took_ms)
{
    ctki_lateness_t lateness;
    ctki_lateness_start (&lateness);
    int64_t start_ms = ctki_test_now_ms ();
    int abandoned = ctalk_server_close (&cluster.server[pid], timeout_ms);
    *took_ms = ctki_test_now_ms () - start_ms;
    int64_t late_ms = ctki_lateness_stop (&lateness);
    ck_assert_ptr_null (cluster.server[pid]);
    ck_assert_msg (*took_ms <= timeout_ms + ctki_test_ms (100) + late_ms,
                   "timeout %d ms, took %lld ms, allowed %lld late", timeout_ms, (long long) *took_ms,
                   (long long) late_ms);
    return abandoned;
}

/* No server, and a pointer to none, are closed already. */
START_TEST (no_server)
{
    ctalk_server_t *none = NULL;
    ck_assert_int_eq (ctalk_server_close (NULL, 0), 0);
    ck_assert_int_eq (ctalk_server_close (&none, -1), 0);
    ctki_cluster_open (&cluster, 1, NULL);
    ck_assert_int_eq (ctalk_server_close (&cluster.server[1], 0), 0);
    ck_assert_int_eq (ctalk_server_close (&cluster.server[1], 0), 0);
    ctki_cluster_close (&cluster);
}
END_TEST

/* What was accepted right before close is delivered, small and large; close returns 0. */
START_TEST (drains)
{
    static const size_t sizes[] = {10, 3000, 100000};
    ctki_trouble_t trouble = {""};
    size_t count = ctki_test_count (300);
    ctki_journal_t *journal = ctki_journal_new (2, count);
    ctki_cluster_open_up (&cluster, 2, CTKI_OPTIONS ("QueueBytes", "67108864", "WindowBytes", "67108864"));
    ctki_stream_t stream = {cluster.server[1], 2, 0, count, sizes, 3, journal};
    ck_assert_msg (ctki_traffic_stream (&stream, &trouble), "%s", trouble.text);
    ctki_cluster_close_one (&cluster, 1, ctki_test_long_ms (), 0);
    ctki_drain_t drain = {cluster.server[2], count, journal, NULL};
    ck_assert_msg (ctki_traffic_drain (&drain, &trouble), "%s", trouble.text);
    ck_assert_msg (ctki_journal_agrees (journal, &trouble), "%s", trouble.text);
    ctki_journal_destroy (&journal);
    ctki_cluster_close (&cluster);
}
END_TEST

/* What waits for an absent peer is abandoned and counted, at the deadline. */
START_TEST (absent_peer)
{
    static const int timeouts_ms[] = {0, 10, 200, 1000};
    for (size_t i = 0; i < 4; i++) {
        int64_t took_ms;
        ctki_cluster_open_absent (&cluster, 1, NULL);
        for (int64_t n = 0; n < 37; n++)
            ctki_traffic_send (cluster.server[1], cluster.absent, n, "for nobody");
        ck_assert_int_eq (close_in_time (1, timeouts_ms[i], &took_ms), 37);
        ck_assert_int_ge (took_ms, timeouts_ms[i] - 1);
        (void) ctki_cluster_close_abandoning (&cluster, 0);
        ctki_test_figure ("absent_peer", "timeout %d ms, took %lld ms", timeouts_ms[i], (long long) took_ms);
    }
}
END_TEST

/* Abandoned counts per destination: a broadcast to two absent peers counts twice. */
START_TEST (counts_per_destination)
{
    uint16_t port = 0;
    ctki_cluster_open_absent (&cluster, 1, NULL);
    int fd = ctki_ports_refusing (&port);
    char endpoint[64];
    (void) snprintf (endpoint, sizeof endpoint, "127.0.0.1:%u", port);
    CTKI_SUCCEEDS (ctalk_server_add_peer (cluster.server[1], 9, endpoint));
    for (int64_t n = 0; n < 10; n++)
        ctki_traffic_send (cluster.server[1], CTALK_BROADCAST, n, "for nobody");
    ck_assert_int_eq (ctalk_server_close (&cluster.server[1], 20), 20);
    (void) ctki_cluster_close_abandoning (&cluster, 0);
    (void) close (fd);
}
END_TEST

/* With nothing to wait for, close takes no time to speak of, an absent peer and long timeouts or not. */
START_TEST (nothing_to_wait_for)
{
    ctki_cluster_open_absent (&cluster, 1, NULL);
    int64_t start_ms = ctki_test_now_ms ();
    ck_assert_int_eq (ctalk_server_close (&cluster.server[1], -1), 0);
    int64_t took_ms = ctki_test_now_ms () - start_ms;
    ck_assert_int_le (took_ms, ctki_test_ms (500));
    (void) ctki_cluster_close_abandoning (&cluster, 0);
    ctki_test_figure ("nothing_to_wait_for", "took %lld ms", (long long) took_ms);
}
END_TEST

/* A stopped peer: close returns at its deadline and counts what was not acknowledged. */
START_TEST (stopped_peer)
{
    static ctki_ports_t ports;
    ctki_peer_t peer;
    int64_t took_ms;
    ctki_ports_take (&ports, 2);
    memset (&cluster, 0, sizeof cluster);
    cluster.count = 1;
    cluster.config = ctki_cluster_config (2, ports.port, NULL);
    ctki_peer_fork (&peer, 2, cluster.config, CTKI_PEER_HOLD);
    cluster.server[1] = ctki_cluster_start (1, cluster.config);
    ctki_peer_go (&peer);
    CTKI_SUCCEEDS (ctalk_server_wait_up (cluster.server[1], 1, ctki_test_long_ms ()));
    ctki_traffic_send (cluster.server[1], 2, 1, "delivered");
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], 2, ctki_test_long_ms ()));
    ctki_peer_stop (&peer);
    for (int64_t i = 0; i < 5; i++)
        ctki_traffic_send (cluster.server[1], 2, i, "not delivered");
    ck_assert_int_eq (close_in_time (1, 300, &took_ms), 5);
    ctki_process_kill (&peer.process);
    (void) ctki_cluster_close_abandoning (&cluster, 0);
    ctki_ports_release (&ports);
    ctki_test_figure ("stopped_peer", "took %lld ms of 300", (long long) took_ms);
}
END_TEST

/* A receiver that does not take its envelopes holds close up no longer than the timeout; the rest is abandoned. */
START_TEST (receiver_that_holds)
{
    static const char data[10000];
    int64_t took_ms, accepted = 0;
    ctki_cluster_open_up (&cluster, 2, CTKI_OPTIONS ("QueueBytes", "262144", "WindowBytes", "131072"));
    ctalk_envelope_t envelope = ctki_traffic_envelope (2, 0, data, sizeof data);
    while (ctalk_send (cluster.server[1], &envelope, ctki_test_ms (200)) == 0)
        envelope.msg_id = ++accepted;
    int abandoned = close_in_time (1, 200, &took_ms);
    ck_assert_int_gt (abandoned, 0);
    for (int64_t i = 0; i < accepted - abandoned; i++) {
        ctalk_envelope_t got;
        ctki_traffic_take (cluster.server[2], &got);
        ck_assert_int_eq (got.msg_id, i);
        ctalk_envelope_close (&got);
    }
    ctki_traffic_expect_nothing (cluster.server[2], ctki_test_ms (50));
    ctki_cluster_close (&cluster);
    ctki_test_figure ("receiver_that_holds", "%lld accepted, %d abandoned, %lld ms", (long long) accepted, abandoned,
                      (long long) took_ms);
}
END_TEST

/* Five servers that have just received everything and close all at once, without a flush: each returns 0. */
START_TEST (all_at_once)
{
    ctki_cluster_open_up (&cluster, 5, NULL);
    for (ctalk_pid_t pid = 1; pid <= 5; pid++)
        for (int64_t i = 0; i < 100; i++)
            ctki_traffic_send (cluster.server[pid], CTALK_BROADCAST, i, "to all");
    for (ctalk_pid_t pid = 1; pid <= 5; pid++)
        for (int64_t i = 0; i < 400; i++) {
            ctalk_envelope_t envelope;
            ctki_traffic_take (cluster.server[pid], &envelope);
            ctalk_envelope_close (&envelope);
        }
    int64_t start_ms = ctki_test_now_ms ();
    ck_assert_int_eq (ctki_cluster_close_abandoning (&cluster, ctki_test_long_ms ()), 0);
    ctki_test_figure ("all_at_once", "took %lld ms", (long long) (ctki_test_now_ms () - start_ms));
}
END_TEST

/* One after the other closes and each returns 0: who stays does not hold up who goes. */
START_TEST (one_after_the_other)
{
    ctki_cluster_open_up (&cluster, 5, NULL);
    for (ctalk_pid_t pid = 1; pid <= 5; pid++) {
        int64_t took_ms;
        ctki_traffic_send (cluster.server[pid], 5, pid, "to the last");
        ck_assert_int_eq (close_in_time (pid, ctki_test_ms (3000), &took_ms), 0);
        ck_assert_int_le (took_ms, ctki_test_ms (1000));
    }
    ctki_cluster_close (&cluster);
}
END_TEST

/* A peer that said goodbye ends the wait for it: what is queued for it is abandoned at once, not in doubt. */
START_TEST (peer_that_left)
{
    int64_t took_ms;
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctki_cluster_close_one (&cluster, 2, ctki_test_long_ms (), 0);
    ctki_cluster_await_state (cluster.server[1], 2, CTALK_STATE_LEFT);
    for (int64_t i = 0; i < 12; i++)
        ctki_traffic_send (cluster.server[1], 2, i, "too late");
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 2).queued, 12);
    ck_assert_int_eq (close_in_time (1, ctki_test_ms (10000), &took_ms), 12);
    ck_assert_int_le (took_ms, ctki_test_ms (1000));
    ctki_cluster_close (&cluster);
    ctki_test_figure ("peer_that_left", "took %lld ms", (long long) took_ms);
}
END_TEST

/* The port can be bound again the moment close has returned. */
START_TEST (port_is_free_again)
{
    static ctki_ports_t ports;
    size_t count = ctki_test_count (20);
    ctki_ports_take (&ports, 2);
    ctalk_config_t *config = ctki_cluster_config (2, ports.port, NULL);
    ctalk_server_t *other = ctki_cluster_start (2, config);
    for (size_t i = 0; i < count; i++) {
        ctalk_server_t *server = ctki_cluster_start (1, config);
        CTKI_SUCCEEDS (ctalk_server_wait_up (server, 1, ctki_test_long_ms ()));
        ck_assert_int_eq (ctalk_server_close (&server, ctki_test_long_ms ()), 0);
    }
    ck_assert_int_eq (ctalk_server_close (&other, ctki_test_long_ms ()), 0);
    ctalk_config_destroy (&config);
    ctki_ports_release (&ports);
}
END_TEST

static bool recv_ends (void *arg, ctki_trouble_t *trouble)
{
    ctalk_envelope_t envelope;
    CTKI_EXPECT_EQUAL (trouble, ctalk_recv (arg, &envelope, -1), -1);
    CTKI_EXPECT_EQUAL (trouble, errno, ESHUTDOWN);
    return true;
}

static bool recv_many_ends (void *arg, ctki_trouble_t *trouble)
{
    ctalk_envelope_t envelopes[3];
    CTKI_EXPECT_EQUAL (trouble, ctalk_recv_many (arg, envelopes, 3, -1), -1);
    CTKI_EXPECT_EQUAL (trouble, errno, ESHUTDOWN);
    return true;
}

static bool send_ends (void *arg, ctki_trouble_t *trouble)
{
    ctalk_envelope_t envelope = ctki_traffic_envelope (cluster.absent, 1, "x", 1);
    CTKI_EXPECT_EQUAL (trouble, ctalk_send (arg, &envelope, -1), -1);
    CTKI_EXPECT_EQUAL (trouble, errno, ESHUTDOWN);
    return true;
}

static bool send_owned_ends (void *arg, ctki_trouble_t *trouble)
{
    ctalk_envelope_t envelope = ctki_traffic_envelope (cluster.absent, 1, "x", 1);
    CTKI_EXPECT_EQUAL (trouble, ctalk_send_owned (arg, &envelope, NULL, NULL, -1), -1);
    CTKI_EXPECT_EQUAL (trouble, errno, ESHUTDOWN);
    return true;
}

static bool send_many_ends (void *arg, ctki_trouble_t *trouble)
{
    ctalk_envelope_t envelope = ctki_traffic_envelope (cluster.absent, 1, "x", 1);
    CTKI_EXPECT_EQUAL (trouble, ctalk_send_many (arg, &envelope, 1, -1), -1);
    CTKI_EXPECT_EQUAL (trouble, errno, ESHUTDOWN);
    return true;
}

/* Calls that wait in other threads wake with ESHUTDOWN, and close waits until they have left. */
START_TEST (waiting_calls_wake)
{
    static bool (*const calls[]) (void *arg, ctki_trouble_t *trouble) = {recv_ends, recv_ends,       recv_many_ends,
                                                                         send_ends, send_owned_ends, send_many_ends};
    enum { CALLS = sizeof calls / sizeof calls[0] };
    static const char data[1000];
    ctki_test_thread_t threads[CALLS];
    int abandoned = 0;
    ctki_cluster_open_absent (&cluster, 1, CTKI_OPTIONS ("QueueBytes", "65536"));
    ctalk_envelope_t envelope = ctki_traffic_envelope (cluster.absent, 1, data, sizeof data);
    while (ctalk_send (cluster.server[1], &envelope, 0) == 0)
        abandoned++;
    for (int i = 0; i < CALLS; i++) {
        ctki_test_thread_start (&threads[i], calls[i], cluster.server[1]);
        ctki_test_thread_await_blocked (&threads[i]);
    }
    int64_t took_ms;
    ck_assert_int_eq (close_in_time (1, 100, &took_ms), abandoned);
    for (int i = 0; i < CALLS; i++)
        ctki_test_thread_join (&threads[i]);
    (void) ctki_cluster_close_abandoning (&cluster, 0);
}
END_TEST

/* Everything that can be called on a server that is closing, until it says ESHUTDOWN. */
static bool call_until_shutdown (void *arg, ctki_trouble_t *trouble)
{
    ctalk_server_t *server = arg;
    bool shut = false;
    for (int64_t i = 0; !shut; i++) {
        ctalk_envelope_t envelope = ctki_traffic_envelope (i % 2 ? 1 : 2, i, "x", 1);
        int rc = ctalk_send (server, &envelope, 1);
        CTKI_EXPECT (trouble, rc == 0 || errno == EAGAIN || errno == ESHUTDOWN);
        shut = rc && errno == ESHUTDOWN;
        if (shut)
            break;
        rc = ctalk_recv (server, &envelope, 1);
        CTKI_EXPECT (trouble, rc == 0 || errno == EAGAIN || errno == ESHUTDOWN);
        shut = rc && errno == ESHUTDOWN;
        ctalk_envelope_close (&envelope);
    }
    return true;
}

/* Threads that are in the middle of calls when close begins all learn ESHUTDOWN, at random moments. Nothing may be
 * called once close has returned: what waits for the absent peer keeps it busy until each caller has been told. */
START_TEST (calls_in_progress)
{
    enum { CALLERS = 4, BUSY_MS = 300 };
    size_t rounds = ctki_test_count (10);
    for (size_t round = 0; round < rounds; round++) {
        ctki_test_thread_t threads[CALLERS];
        ctki_cluster_open_absent (&cluster, 2, CTKI_OPTIONS ("QueueBytes", "65536"));
        ctki_traffic_send (cluster.server[1], cluster.absent, 1, "keeps close busy");
        for (int i = 0; i < CALLERS; i++)
            ctki_test_thread_start (&threads[i], call_until_shutdown, cluster.server[1]);
        while (ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST).accepted < 2 + round * 5)
            (void) sched_yield ();
        ck_assert_int_ge (ctalk_server_close (&cluster.server[1], ctki_test_ms (BUSY_MS)), 1);
        for (int i = 0; i < CALLERS; i++)
            ctki_test_thread_join (&threads[i]);
        (void) ctki_cluster_close_abandoning (&cluster, ctki_test_ms (200));
    }
}
END_TEST

/* The inbox is dropped without being counted: to its senders it was received. */
START_TEST (unread_inbox)
{
    ctki_cluster_open_up (&cluster, 2, NULL);
    for (int64_t i = 0; i < 100; i++)
        ctki_traffic_send (cluster.server[1], 2, i, "unread");
    for (int64_t i = 0; i < 100; i++)
        ctki_traffic_send (cluster.server[2], 2, i, "unread, own");
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], 2, ctki_test_long_ms ()));
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[2], CTALK_BROADCAST).in_inbox, 200);
    ctki_cluster_close_one (&cluster, 2, ctki_test_long_ms (), 0);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 2).delivered, 100);
    ctki_cluster_close_one (&cluster, 1, ctki_test_long_ms (), 0);
    ctki_cluster_close (&cluster);
}
END_TEST

Suite *ctki_suite_close (void)
{
    Suite *suite = suite_create ("close");
    TCase *tcase = ctki_leaks_tcase ("close", 120);
    tcase_add_test (tcase, no_server);
    tcase_add_test (tcase, drains);
    tcase_add_test (tcase, absent_peer);
    tcase_add_test (tcase, counts_per_destination);
    tcase_add_test (tcase, nothing_to_wait_for);
    ctki_add_test_of_system (tcase, stopped_peer);
    tcase_add_test (tcase, receiver_that_holds);
    tcase_add_test (tcase, all_at_once);
    tcase_add_test (tcase, one_after_the_other);
    tcase_add_test (tcase, peer_that_left);
    tcase_add_test (tcase, port_is_free_again);
    tcase_add_test (tcase, waiting_calls_wake);
    tcase_add_test (tcase, calls_in_progress);
    tcase_add_test (tcase, unread_inbox);
    suite_add_tcase (suite, tcase);
    return suite;
}
