/*
 * test_absent.c - a dead, absent or stopped peer delays nobody else.
 */
#include <stdlib.h>

#include "tests/cluster/suites.h"
#include "tests/support/support.h"

static ctki_cluster_t cluster;

/* One peer is absent from the start, its queue full: the others exchange everything and close cleanly. */
START_TEST (absent_from_the_start)
{
    static const char data[1000];
    uint64_t queued = 0;
    ctki_cluster_open_absent (&cluster, 4, CTKI_OPTIONS ("QueueBytes", "262144"));
    ctki_cluster_wait_up (&cluster);
    ctalk_envelope_t envelope = ctki_traffic_envelope (cluster.absent, 1, data, sizeof data);
    while (ctalk_send (cluster.server[1], &envelope, 0) == 0)
        queued++;
    int64_t start_ms = ctki_test_now_ms ();
    ctki_traffic_exchange (&cluster, ctki_test_count (1000));
    int64_t took_ms = ctki_test_now_ms () - start_ms;
    ctalk_stats_t stats = ctki_cluster_stats (cluster.server[1], cluster.absent);
    ck_assert_uint_eq (stats.queued, queued);
    ck_assert_uint_eq (stats.delivered, 0);
    for (ctalk_pid_t pid = 1; pid <= 4; pid++)
        CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[pid], pid % 4 + 1, ctki_test_long_ms ()));
    ck_assert_int_eq (ctki_cluster_close_abandoning (&cluster, 100), (int) queued);
    ctki_test_figure ("absent_from_the_start", "exchange of the others took %lld ms", (long long) took_ms);
}
END_TEST

/* Sends to one peer in turn with an absent one: no send to the one present waits. */
START_TEST (sends_in_turn)
{
    size_t count = ctki_test_count (2000);
    ctki_cluster_open_absent (&cluster, 2, NULL);
    CTKI_SUCCEEDS (ctalk_server_wait_up (cluster.server[1], 1, ctki_test_long_ms ()));
    int64_t worst_ms = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t start_ms = ctki_test_now_ms ();
        ctki_traffic_send (cluster.server[1], cluster.absent, (int64_t) i, "absent");
        ctki_traffic_send (cluster.server[1], 2, (int64_t) i, "present");
        ctki_traffic_expect (cluster.server[2], 1, (int64_t) i, "present");
        worst_ms = CTKI_MAX (worst_ms, ctki_test_now_ms () - start_ms);
    }
    ck_assert_int_le (worst_ms, ctki_test_ms (1000));
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], 2, ctki_test_long_ms ()));
    ck_assert_int_eq (ctki_cluster_close_abandoning (&cluster, 0), (int) count);
    ctki_test_figure ("sends_in_turn", "%zu each, worst pair %lld ms", count, (long long) worst_ms);
}
END_TEST

typedef struct {
    ctalk_server_t *server[3];
    ctalk_config_t *config;
    ctki_ports_t ports;
    ctki_peer_t peer;
} stopped_t;

static void open_with_stopped (stopped_t *s)
{
    ctki_ports_take (&s->ports, 3);
    s->config = ctki_cluster_config (3, s->ports.port, CTKI_OPTIONS ("QueueBytes", "262144", "WindowBytes", "131072"));
    ctki_peer_fork (&s->peer, 3, s->config, CTKI_PEER_SINK);
    for (ctalk_pid_t pid = 1; pid <= 2; pid++)
        s->server[pid] = ctki_cluster_start (pid, s->config);
    ctki_peer_go (&s->peer);
    for (ctalk_pid_t pid = 1; pid <= 2; pid++)
        CTKI_SUCCEEDS (ctalk_server_wait_up (s->server[pid], 2, ctki_test_long_ms ()));
    ctki_peer_stop (&s->peer);
}

static uint64_t fill_stopped (ctalk_server_t *server)
{
    static const char data[3000];
    uint64_t count = 0;
    ctalk_envelope_t envelope = ctki_traffic_envelope (3, 1, data, sizeof data);
    while (ctalk_send (server, &envelope, ctki_test_ms (50)) == 0)
        count++;
    ck_assert_int_eq (errno, EAGAIN);
    return count;
}

/* A peer that is stopped with its queues full holds up nothing between the others; continued, it gets everything. */
START_TEST (stopped_with_full_queues)
{
    static stopped_t s;
    open_with_stopped (&s);
    uint64_t sent = fill_stopped (s.server[1]);
    ctki_cluster_t pair = {.count = 2, .server = {NULL, s.server[1], s.server[2]}};
    ctki_traffic_exchange (&pair, ctki_test_count (1000));
    ctki_peer_continue (&s.peer);
    CTKI_SUCCEEDS (ctalk_server_flush (s.server[1], 3, ctki_test_long_ms ()));
    ck_assert_uint_eq (ctki_cluster_stats (s.server[1], 3).delivered, sent);
    ctki_peer_close (&s.peer);
    for (ctalk_pid_t pid = 1; pid <= 2; pid++)
        ck_assert_int_eq (ctalk_server_close (&s.server[pid], ctki_test_long_ms ()), 0);
    ctalk_config_destroy (&s.config);
    ctki_ports_release (&s.ports);
    ctki_test_figure ("stopped_with_full_queues", "%llu envelopes for the stopped one", (unsigned long long) sent);
}
END_TEST

/* A peer that is killed holds up nothing between the others either, and close keeps its deadline. */
START_TEST (killed_peer)
{
    static stopped_t s;
    open_with_stopped (&s);
    uint64_t sent = fill_stopped (s.server[1]);
    ctki_process_kill (&s.peer.process);
    ctki_cluster_t pair = {.count = 2, .server = {NULL, s.server[1], s.server[2]}};
    ctki_traffic_exchange (&pair, ctki_test_count (1000));
    ctki_lateness_t lateness;
    ctki_lateness_start (&lateness);
    int64_t start_ms = ctki_test_now_ms ();
    int abandoned = ctalk_server_close (&s.server[1], 200);
    int64_t took_ms = ctki_test_now_ms () - start_ms;
    int64_t late_ms = ctki_lateness_stop (&lateness);
    ck_assert_int_gt (abandoned, 0);
    ck_assert_uint_le ((uint64_t) abandoned, sent);
    ck_assert_int_le (took_ms, 200 + ctki_test_ms (100) + late_ms);
    ck_assert_int_eq (ctalk_server_close (&s.server[2], 200), 0);
    ctalk_config_destroy (&s.config);
    ctki_ports_release (&s.ports);
    ctki_test_figure ("killed_peer", "%llu sent, %d abandoned, close took %lld ms", (unsigned long long) sent,
                      abandoned, (long long) took_ms);
}
END_TEST

Suite *ctki_suite_absent (void)
{
    Suite *suite = suite_create ("absent");
    TCase *tcase = ctki_leaks_tcase ("absent", 90);
    tcase_add_test (tcase, absent_from_the_start);
    tcase_add_test (tcase, sends_in_turn);
    ctki_add_test_of_system (tcase, stopped_with_full_queues);
    ctki_add_test_of_system (tcase, killed_peer);
    suite_add_tcase (suite, tcase);
    return suite;
}
