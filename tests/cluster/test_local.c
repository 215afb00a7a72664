/*
 * test_local.c - what a server sends to its own pid.
 */
#include "tests/cluster/suites.h"
#include "tests/support/support.h"

enum { QUEUE_BYTES = 65536, PAYLOAD = 1000, CHARGE = PAYLOAD + 64 };

/* Envelopes to the own pid arrive in order, in the own inbox, unmarked, and pass no router. */
START_TEST (own_pid_in_order)
{
    ctki_cluster_t cluster;
    ctki_cluster_open_up (&cluster, 2, NULL);
    for (int64_t i = 0; i < 500; i++)
        ctki_traffic_send (cluster.server[1], 1, i, i % 2 ? "odd" : "even");
    for (int64_t i = 0; i < 500; i++)
        ctki_traffic_expect (cluster.server[1], 1, i, i % 2 ? "odd" : "even");
    ctki_traffic_expect_nothing (cluster.server[2], 0);
    ctalk_stats_t own = ctki_cluster_stats (cluster.server[1], 1);
    ck_assert_uint_eq (own.accepted, 500);
    ck_assert_uint_eq (own.delivered, 500);
    ck_assert_uint_eq (own.received, 500);
    ck_assert_uint_eq (own.consumed, 500);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST).routed, 0);
    ctki_cluster_close (&cluster);
}
END_TEST

/* Sends to the own pid until there is no room; returns how many were accepted. */
static int64_t fill (ctalk_server_t *server)
{
    char data[PAYLOAD] = {0};
    int64_t count = 0;
    ctalk_envelope_t envelope = ctki_traffic_envelope (1, 0, data, sizeof data);
    for (; count < 100000; count++) {
        envelope.msg_id = count;
        if (ctalk_send (server, &envelope, 0)) {
            ck_assert_int_eq (errno, EAGAIN);
            break;
        }
    }
    return count;
}

/* The own inbox is bounded by QueueBytes: then sends fail with EAGAIN, wait their time, and go on when there is room.
 */
START_TEST (own_pid_is_bounded)
{
    ctki_cluster_t cluster;
    ctki_cluster_open (&cluster, 1, CTKI_OPTIONS ("QueueBytes", ctki_test_number_text (QUEUE_BYTES)));
    int64_t count = fill (cluster.server[1]);
    ck_assert_int_ge (count, QUEUE_BYTES / CHARGE);
    ck_assert_int_le (count, QUEUE_BYTES / CHARGE + 1);
    ctalk_envelope_t envelope = ctki_traffic_envelope (1, count, "x", 1);
    int64_t start_ms = ctki_test_now_ms ();
    CTKI_FAILS (EAGAIN, ctalk_send (cluster.server[1], &envelope, 50));
    ck_assert_int_ge (ctki_test_now_ms () - start_ms, 49);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 1).refused_full, 2);
    for (int64_t i = 0; i < count; i++) {
        ctalk_envelope_t got;
        ctki_traffic_take (cluster.server[1], &got);
        ck_assert_int_eq (got.msg_id, i);
        ctalk_envelope_close (&got);
    }
    CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &envelope, 0));
    ctki_traffic_expect (cluster.server[1], 1, count, "x");
    ctki_cluster_close (&cluster);
}
END_TEST

static bool send_one (void *arg, ctki_trouble_t *trouble)
{
    ctalk_envelope_t envelope = ctki_traffic_envelope (1, 777, "late", 4);
    CTKI_EXPECT_EQUAL (trouble, ctalk_send (arg, &envelope, ctki_test_long_ms ()), 0);
    return true;
}

/* A send to the own pid that waits for room is woken by a receive. */
START_TEST (own_pid_waits_for_room)
{
    ctki_cluster_t cluster;
    ctki_test_thread_t thread;
    ctki_cluster_open (&cluster, 1, CTKI_OPTIONS ("QueueBytes", ctki_test_number_text (QUEUE_BYTES)));
    int64_t count = fill (cluster.server[1]);
    ctki_test_thread_start (&thread, send_one, cluster.server[1]);
    ctki_test_thread_await_blocked (&thread);
    for (int64_t i = 0; i <= count; i++) {
        ctalk_envelope_t got;
        ctki_traffic_take (cluster.server[1], &got);
        ck_assert_int_eq (got.msg_id, i == count ? 777 : i);
        ctalk_envelope_close (&got);
    }
    ctki_test_thread_join (&thread);
    ctki_cluster_close (&cluster);
}
END_TEST

/* Large envelopes to the own pid arrive unchanged and are a copy of the sender's. */
START_TEST (own_pid_large)
{
    static char data[300000];
    ctki_cluster_t cluster;
    ctki_cluster_open (&cluster, 1, NULL);
    ctki_payload_fill (data, sizeof data, 1, 1, 9);
    ctalk_envelope_t envelope = ctki_traffic_envelope (1, 9, data, sizeof data), got;
    CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &envelope, 0));
    memset (data, 0, sizeof data);
    ctki_traffic_take (cluster.server[1], &got);
    ck_assert_uint_eq ((uintptr_t) got.data % 8, 0);
    ck_assert_uint_eq (got.size, sizeof data);
    ck_assert (ctki_payload_ok (got.data, got.size, 1, 1, 9));
    ctalk_envelope_close (&got);
    ctki_cluster_close (&cluster);
}
END_TEST

/* With CTALK_IF_UP the own pid is up; for an actor that is not there it is counted. */
START_TEST (own_pid_flags)
{
    ctki_cluster_t cluster;
    ctki_cluster_open (&cluster, 1, NULL);
    ctalk_envelope_t envelope = ctki_traffic_envelope (1, 1, "x", 1);
    envelope.flags = CTALK_IF_UP;
    CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &envelope, 0));
    ctki_traffic_expect (cluster.server[1], 1, 1, "x");
    ck_assert_int_eq (ctalk_server_peer_state (cluster.server[1], 1), CTALK_STATE_UP);
    envelope.to = 5;
    CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &envelope, 0));
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 1).no_such_actor, 1);
    ctki_traffic_expect_nothing (cluster.server[1], 0);
    ctki_cluster_close (&cluster);
}
END_TEST

Suite *ctki_suite_local (void)
{
    Suite *suite = suite_create ("local");
    TCase *tcase = ctki_leaks_tcase ("local", 60);
    tcase_add_test (tcase, own_pid_in_order);
    tcase_add_test (tcase, own_pid_is_bounded);
    tcase_add_test (tcase, own_pid_waits_for_room);
    tcase_add_test (tcase, own_pid_large);
    tcase_add_test (tcase, own_pid_flags);
    suite_add_tcase (suite, tcase);
    return suite;
}
