/*
 * test_states.c - how a server sees its peers: idle, connecting, up, suspect,
 * down, left; and waiting until they are up.
 */
#include <stdatomic.h>

#include "tests/cluster/suites.h"
#include "tests/support/support.h"

/* wait_up returns when all are up, on every server, with eager senders and with lazy ones, which it starts. */
START_TEST (wait_for_all)
{
    static const char *const senders[] = {"eager", "lazy"};
    for (size_t i = 0; i < 2; i++) {
        ctki_cluster_t cluster;
        ctki_cluster_open (&cluster, 4, CTKI_OPTIONS ("Senders", senders[i]));
        for (ctalk_pid_t pid = 1; pid <= 4; pid++)
            CTKI_SUCCEEDS (ctalk_server_wait_up (cluster.server[pid], SIZE_MAX, ctki_test_long_ms ()));
        for (ctalk_pid_t a = 1; a <= 4; a++)
            for (ctalk_pid_t b = 1; b <= 4; b++)
                ck_assert_int_eq (ctalk_server_peer_state (cluster.server[a], b), CTALK_STATE_UP);
        ctki_cluster_close (&cluster);
    }
}
END_TEST

/* A server alone waits for nobody. */
START_TEST (alone)
{
    ctki_cluster_t cluster;
    ctki_cluster_open (&cluster, 1, NULL);
    CTKI_SUCCEEDS (ctalk_server_wait_up (cluster.server[1], SIZE_MAX, 0));
    CTKI_FAILS (EINVAL, ctalk_server_wait_up (cluster.server[1], 1, 0));
    ck_assert_int_eq (ctalk_server_peers (cluster.server[1], NULL, 0), 0);
    ctki_cluster_close (&cluster);
}
END_TEST

/* A lazy peer is idle until something is sent to it; then up, while the others stay idle. */
START_TEST (idle_until_used)
{
    ctki_cluster_t cluster;
    ctki_cluster_open (&cluster, 3, CTKI_OPTIONS ("Senders", "lazy"));
    ck_assert_int_eq (ctalk_server_peer_state (cluster.server[1], 2), CTALK_STATE_IDLE);
    ctki_traffic_send (cluster.server[1], 2, 1, "x");
    ctki_traffic_expect (cluster.server[2], 1, 1, "x");
    ctki_cluster_await_state (cluster.server[1], 2, CTALK_STATE_UP);
    ck_assert_int_eq (ctalk_server_peer_state (cluster.server[1], 3), CTALK_STATE_IDLE);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 3).state, CTALK_STATE_IDLE);
    ctki_cluster_close (&cluster);
}
END_TEST

/* An absent peer is connecting, and down after DownMs from the start of its sender. */
START_TEST (absent_peer)
{
    ctki_cluster_t cluster;
    ctki_cluster_open_absent (&cluster, 1, CTKI_OPTIONS (CTKI_FAST_FAILURE));
    int64_t start_ms = ctki_test_now_ms ();
    ck_assert_int_eq (ctalk_server_peer_state (cluster.server[1], cluster.absent), CTALK_STATE_CONNECTING);
    ctki_cluster_await_state (cluster.server[1], cluster.absent, CTALK_STATE_DOWN);
    int64_t took_ms = ctki_test_now_ms () - start_ms;
    ck_assert_int_ge (took_ms, ctki_test_ms (700) - 100);
    ck_assert_int_le (took_ms, ctki_test_ms (700) + ctki_test_ms (2000));
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], cluster.absent).state, CTALK_STATE_DOWN);
    ctki_cluster_close (&cluster);
    ctki_test_figure ("absent_peer", "down after %lld ms", (long long) took_ms);
}
END_TEST

/* An absent lazy peer that nobody talks to stays idle; used, it is connecting, then down, and keeps what is queued. */
START_TEST (absent_lazy_peer)
{
    ctki_cluster_t cluster;
    ctki_cluster_open_absent (&cluster, 1, CTKI_OPTIONS ("Senders", "lazy", CTKI_FAST_FAILURE));
    ck_assert_int_eq (ctalk_server_peer_state (cluster.server[1], cluster.absent), CTALK_STATE_IDLE);
    ctki_traffic_send (cluster.server[1], cluster.absent, 1, "x");
    ctki_cluster_await_state (cluster.server[1], cluster.absent, CTALK_STATE_CONNECTING);
    ctki_cluster_await_state (cluster.server[1], cluster.absent, CTALK_STATE_DOWN);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], cluster.absent).queued, 1);
    ck_assert_int_eq (ctki_cluster_close_abandoning (&cluster, 0), 1);
}
END_TEST

/* A stopped peer turns suspect, then down; continued, it is up again, and what was sent meanwhile arrives. */
START_TEST (stopped_peer)
{
    static ctki_ports_t ports;
    ctki_peer_t peer;
    ctki_ports_take (&ports, 2);
    ctalk_config_t *config = ctki_cluster_config (2, ports.port, CTKI_OPTIONS (CTKI_FAST_FAILURE));
    ctki_peer_fork (&peer, 2, config, CTKI_PEER_ECHO);
    ctalk_server_t *server = ctki_cluster_start (1, config);
    ctki_peer_go (&peer);
    CTKI_SUCCEEDS (ctalk_server_wait_up (server, 1, ctki_test_long_ms ()));
    ctki_traffic_send (server, 2, 1, "before");
    ctki_traffic_expect (server, 2, 1, "before");
    ctki_peer_stop (&peer);
    int64_t start_ms = ctki_test_now_ms ();
    ctki_cluster_await_state (server, 2, CTALK_STATE_SUSPECT);
    int64_t suspect_ms = ctki_test_now_ms () - start_ms;
    ctki_cluster_await_state (server, 2, CTALK_STATE_DOWN);
    int64_t down_ms = ctki_test_now_ms () - start_ms;
    ck_assert_int_ge (suspect_ms, ctki_test_ms (100));
    ck_assert_int_ge (down_ms, ctki_test_ms (500));
    ck_assert_int_le (down_ms, ctki_test_ms (700) + ctki_test_ms (2000));
    ctalk_envelope_t envelope = ctki_traffic_envelope (2, 2, "x", 1);
    envelope.flags = CTALK_IF_UP;
    CTKI_FAILS (EHOSTDOWN, ctalk_send (server, &envelope, 0));
    CTKI_FAILS (EAGAIN, ctalk_server_wait_up (server, 1, 0));
    ctki_traffic_send (server, 2, 3, "meanwhile");
    ctki_peer_continue (&peer);
    ctki_cluster_await_state (server, 2, CTALK_STATE_UP);
    ctki_traffic_expect (server, 2, 3, "meanwhile");
    ctki_peer_close (&peer);
    ctki_cluster_await_state (server, 2, CTALK_STATE_LEFT);
    ck_assert_int_eq (ctalk_server_close (&server, ctki_test_long_ms ()), 0);
    ctalk_config_destroy (&config);
    ctki_ports_release (&ports);
    ctki_test_figure ("stopped_peer", "suspect after %lld ms, down after %lld ms", (long long) suspect_ms,
                      (long long) down_ms);
}
END_TEST

/* A peer that closes has left, at once and for all the others; the rest goes on. */
START_TEST (peer_that_closes)
{
    ctki_cluster_t cluster;
    ctki_cluster_open_up (&cluster, 3, NULL);
    int64_t start_ms = ctki_test_now_ms ();
    ctki_cluster_close_one (&cluster, 2, ctki_test_long_ms (), 0);
    ctki_cluster_await_state (cluster.server[1], 2, CTALK_STATE_LEFT);
    ctki_cluster_await_state (cluster.server[3], 2, CTALK_STATE_LEFT);
    int64_t took_ms = ctki_test_now_ms () - start_ms;
    ck_assert_int_le (took_ms, ctki_test_ms (2000)); /* far from DownMs, 5 s */
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 2).state, CTALK_STATE_LEFT);
    ctki_traffic_exchange (&cluster, 20);
    ctki_cluster_close (&cluster);
    ctki_test_figure ("peer_that_closes", "left after %lld ms", (long long) took_ms);
}
END_TEST

/* Idle peers stay up for longer than DownMs: the heartbeat sees to it, and measures the round trip. */
START_TEST (idle_peers_stay_up)
{
    ctki_cluster_t cluster;
    ctki_cluster_open_up (&cluster, 2,
                          CTKI_OPTIONS ("HeartbeatMs", ctki_test_ms_text (100), "SuspectMs", ctki_test_ms_text (1000),
                                        "DownMs", ctki_test_ms_text (2000)));
    int64_t end_ms = ctki_test_now_ms () + ctki_test_ms (2500);
    while (ctki_test_now_ms () < end_ms) {
        ck_assert_int_eq (ctalk_server_peer_state (cluster.server[1], 2), CTALK_STATE_UP);
        ck_assert_int_eq (ctalk_server_peer_state (cluster.server[2], 1), CTALK_STATE_UP);
        ctki_traffic_expect_nothing (cluster.server[1], ctki_test_ms (20));
    }
    ctalk_stats_t stats = ctki_cluster_stats (cluster.server[1], 2);
    ck_assert_uint_ge (stats.state_since_ms, (uint64_t) ctki_test_ms (1000));
    ck_assert_uint_gt (stats.rtt_us, 0);
    ck_assert_uint_ge (stats.rtt_worst_us, stats.rtt_us);
    ck_assert_uint_eq (stats.reconnects, 0);
    ck_assert_uint_eq (stats.retransmitted, 0);
    ctki_cluster_close (&cluster);
    ctki_test_figure ("idle_peers_stay_up", "round trip %llu us, worst %llu us", (unsigned long long) stats.rtt_us,
                      (unsigned long long) stats.rtt_worst_us);
}
END_TEST

static bool wait_up_until_closed (void *arg, ctki_trouble_t *trouble)
{
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_wait_up (arg, SIZE_MAX, -1), -1);
    CTKI_EXPECT_EQUAL (trouble, errno, ESHUTDOWN);
    return true;
}

static bool wait_up_long (void *arg, ctki_trouble_t *trouble)
{
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_wait_up (arg, SIZE_MAX, -1), 0);
    return true;
}

/* A waiting wait_up is woken by the last peer that comes up, and by close. */
START_TEST (wait_up_is_woken)
{
    static ctki_ports_t ports;
    ctki_test_thread_t thread;
    ctki_ports_take (&ports, 2);
    ctalk_config_t *config = ctki_cluster_config (2, ports.port, NULL);
    ctalk_server_t *one = ctki_cluster_start (1, config);
    ctki_test_thread_start (&thread, wait_up_long, one);
    ctki_test_thread_await_blocked (&thread);
    ctalk_server_t *two = ctki_cluster_start (2, config);
    ctki_test_thread_join (&thread);
    ck_assert_int_eq (ctalk_server_close (&two, ctki_test_long_ms ()), 0);
    ctki_cluster_await_state (one, 2, CTALK_STATE_LEFT);
    ctki_test_thread_start (&thread, wait_up_until_closed, one);
    ctki_test_thread_await_blocked (&thread);
    ck_assert_int_eq (ctalk_server_close (&one, 0), 0);
    ctki_test_thread_join (&thread);
    ctalk_config_destroy (&config);
    ctki_ports_release (&ports);
}
END_TEST

Suite *ctki_suite_states (void)
{
    Suite *suite = suite_create ("states");
    TCase *tcase = ctki_leaks_tcase ("states", 120);
    tcase_add_test (tcase, wait_for_all);
    tcase_add_test (tcase, alone);
    tcase_add_test (tcase, idle_until_used);
    tcase_add_test (tcase, absent_peer);
    tcase_add_test (tcase, absent_lazy_peer);
    ctki_add_test_of_system (tcase, stopped_peer);
    tcase_add_test (tcase, peer_that_closes);
    tcase_add_test (tcase, idle_peers_stay_up);
    tcase_add_test (tcase, wait_up_is_woken);
    suite_add_tcase (suite, tcase);
    return suite;
}
