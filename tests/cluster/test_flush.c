/*
 * test_flush.c - ctalk_server_flush (): until what was accepted lies in the
 * memory of the receiver.
 */
#include "tests/cluster/suites.h"
#include "tests/support/support.h"

/* After a flush everything is delivered and nothing is queued, though nobody has received it yet. */
START_TEST (one_and_all)
{
    static char data[20000];
    ctki_cluster_t cluster;
    ctki_cluster_open_up (&cluster, 3, NULL);
    for (int round = 0; round < 50; round++) {
        ctalk_pid_t pid = round % 3 == 0 ? CTALK_BROADCAST : (ctalk_pid_t) (1 + round % 3);
        ctalk_envelope_t envelope = ctki_traffic_envelope (pid, round, data, round % 5 ? 10 : sizeof data);
        CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &envelope, -1));
        CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], pid, ctki_test_long_ms ()));
        ctalk_stats_t stats = ctki_cluster_stats (cluster.server[1], pid);
        ck_assert_uint_eq (stats.queued, 0);
        ck_assert_uint_eq (stats.queued_bytes, 0);
        ck_assert_uint_eq (stats.delivered, stats.accepted);
    }
    ctalk_stats_t in = ctki_cluster_stats (cluster.server[2], 1);
    ck_assert_uint_eq (in.received, ctki_cluster_stats (cluster.server[1], 2).delivered);
    ck_assert_uint_eq (in.in_inbox, in.received);
    ctki_cluster_close (&cluster);
}
END_TEST

/* With nothing sent a flush returns at once, to an absent peer and to all as well, and to the own pid. */
START_TEST (nothing_to_flush)
{
    ctki_cluster_t cluster;
    ctki_cluster_open_absent (&cluster, 1, CTKI_OPTIONS ("Senders", "lazy"));
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], cluster.absent, 0));
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], CTALK_BROADCAST, 0));
    ctki_traffic_send (cluster.server[1], 1, 1, "own");
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], 1, ctki_test_long_ms ()));
    ctki_traffic_expect (cluster.server[1], 1, 1, "own");
    ctki_cluster_close (&cluster);
}
END_TEST

/* A stopped peer: EAGAIN within the timeout; continued, the flush succeeds. */
START_TEST (stopped_peer)
{
    static ctki_ports_t ports;
    ctki_peer_t peer;
    ctki_ports_take (&ports, 2);
    ctalk_config_t *config = ctki_cluster_config (2, ports.port, NULL);
    ctki_peer_fork (&peer, 2, config, CTKI_PEER_HOLD);
    ctalk_server_t *server = ctki_cluster_start (1, config);
    ctki_peer_go (&peer);
    CTKI_SUCCEEDS (ctalk_server_wait_up (server, 1, ctki_test_long_ms ()));
    ctki_peer_stop (&peer);
    ctki_traffic_send (server, 2, 1, "x");
    int64_t start_ms = ctki_test_now_ms ();
    CTKI_FAILS (EAGAIN, ctalk_server_flush (server, 2, 100));
    CTKI_FAILS (EAGAIN, ctalk_server_flush (server, CTALK_BROADCAST, 100));
    ck_assert_int_ge (ctki_test_now_ms () - start_ms, 198);
    CTKI_FAILS (EAGAIN, ctalk_server_flush (server, 2, 0));
    ctki_peer_continue (&peer);
    CTKI_SUCCEEDS (ctalk_server_flush (server, 2, ctki_test_long_ms ()));
    ck_assert_uint_eq (ctki_cluster_stats (server, 2).delivered, 1);
    ctki_peer_close (&peer);
    ck_assert_int_eq (ctalk_server_close (&server, ctki_test_long_ms ()), 0);
    ctalk_config_destroy (&config);
    ctki_ports_release (&ports);
}
END_TEST

typedef struct {
    ctalk_server_t *server;
    ctalk_pid_t peer;
    int code; /* what errno must say */
} task_t;

static bool flush_until_failure (void *arg, ctki_trouble_t *trouble)
{
    const task_t *task = arg;
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_flush (task->server, task->peer, -1), -1);
    CTKI_EXPECT_EQUAL (trouble, errno, task->code);
    return true;
}

/* A waiting flush ends with EHOSTUNREACH when its peer is removed. */
START_TEST (removed_meanwhile)
{
    ctki_cluster_t cluster;
    ctki_test_thread_t thread;
    ctki_cluster_open_absent (&cluster, 1, NULL);
    ctki_traffic_send (cluster.server[1], cluster.absent, 1, "x");
    task_t task = {cluster.server[1], cluster.absent, EHOSTUNREACH};
    ctki_test_thread_start (&thread, flush_until_failure, &task);
    ctki_test_thread_await_blocked (&thread);
    CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[1], cluster.absent));
    ctki_test_thread_join (&thread);
    ctki_cluster_close (&cluster);
}
END_TEST

/* A waiting flush ends with ESHUTDOWN when the server closes. */
START_TEST (closed_meanwhile)
{
    static const ctalk_pid_t peers[] = {2, CTALK_BROADCAST};
    for (size_t i = 0; i < 2; i++) {
        ctki_cluster_t cluster;
        ctki_test_thread_t thread;
        ctki_cluster_open_absent (&cluster, 1, NULL);
        ctki_traffic_send (cluster.server[1], cluster.absent, 1, "x");
        task_t task = {cluster.server[1], peers[i], ESHUTDOWN};
        ctki_test_thread_start (&thread, flush_until_failure, &task);
        ctki_test_thread_await_blocked (&thread);
        ck_assert_int_eq (ctki_cluster_close_abandoning (&cluster, 50), 1);
        ctki_test_thread_join (&thread);
    }
}
END_TEST

static bool keep_sending (void *arg, ctki_trouble_t *trouble)
{
    const task_t *task = arg;
    int64_t end_ms = ctki_test_now_ms () + ctki_test_ms (1500);
    for (int64_t i = 0; ctki_test_now_ms () < end_ms; i++) {
        ctalk_envelope_t envelope = ctki_traffic_envelope (task->peer, i, &i, sizeof i);
        int rc = ctalk_send (task->server, &envelope, 10);
        CTKI_EXPECT (trouble, rc == 0 || errno == EAGAIN);
    }
    return true;
}

static bool keep_receiving (void *arg, ctki_trouble_t *trouble)
{
    const task_t *task = arg;
    for (;;) {
        ctalk_envelope_t envelopes[64];
        int n = ctalk_recv_many (task->server, envelopes, 64, ctki_test_ms (1000));
        if (n < 0)
            break;
        for (int i = 0; i < n; i++)
            ctalk_envelope_close (&envelopes[i]);
    }
    CTKI_EXPECT_EQUAL (trouble, errno, EAGAIN);
    return true;
}

/* A flush waits for what was accepted before it, not for what another thread goes on to send. */
START_TEST (while_another_sends)
{
    ctki_cluster_t cluster;
    ctki_test_thread_t sender, receiver;
    ctki_cluster_open_up (&cluster, 2, NULL);
    task_t out = {cluster.server[1], 2, 0}, in = {cluster.server[2], 1, 0};
    ctki_test_thread_start (&receiver, keep_receiving, &in);
    ctki_test_thread_start (&sender, keep_sending, &out);
    size_t flushes = 0;
    for (; flushes < 20 && !atomic_load (&sender.done); flushes++)
        CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], 2, ctki_test_long_ms ()));
    ck_assert_msg (flushes == 20, "%zu flushes while another thread sent", flushes);
    ctki_test_thread_join (&sender);
    ctki_test_thread_join (&receiver);
    ctki_cluster_close (&cluster);
}
END_TEST

Suite *ctki_suite_flush (void)
{
    Suite *suite = suite_create ("flush");
    TCase *tcase = ctki_leaks_tcase ("flush", 60);
    tcase_add_test (tcase, one_and_all);
    tcase_add_test (tcase, nothing_to_flush);
    ctki_add_test_of_system (tcase, stopped_peer);
    tcase_add_test (tcase, removed_meanwhile);
    tcase_add_test (tcase, closed_meanwhile);
    tcase_add_test (tcase, while_another_sends);
    suite_add_tcase (suite, tcase);
    return suite;
}
