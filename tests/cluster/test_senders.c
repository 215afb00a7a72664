/*
 * test_senders.c - which threads a server has: a router, and a sender per peer,
 * eager or lazy; their names; and what they cost.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <time.h>

#include "tests/cluster/suites.h"
#include "tests/support/support.h"

static ctki_cluster_t cluster;

/* Eager: with the server, one sender for each peer is there, each thread with its name. */
START_TEST (eager)
{
    ctki_cluster_open_up (&cluster, 3, CTKI_OPTIONS ("Senders", "eager"));
    for (int a = 1; a <= 3; a++) {
        char name[32];
        (void) snprintf (name, sizeof name, "ct-router-%d\n", a);
        ck_assert_uint_eq (ctki_leaks_threads_named (name), 1);
        for (int b = 1; b <= 3; b++) {
            (void) snprintf (name, sizeof name, "ct-send-%d-%d\n", a, b);
            ck_assert_uint_eq (ctki_leaks_threads_named (name), a == b ? 0 : 1);
        }
    }
    ck_assert_uint_eq (ctki_leaks_threads_named ("ct-router-"), 3);
    ck_assert_uint_eq (ctki_leaks_threads_named ("ct-send-"), 6);
    ctki_cluster_close (&cluster);
}
END_TEST

/* Lazy: no sender at first, one after the first envelope for its peer, all after a broadcast. */
START_TEST (lazy)
{
    ctki_cluster_open (&cluster, 4, CTKI_OPTIONS ("Senders", "lazy"));
    ck_assert_uint_eq (ctki_leaks_threads_named ("ct-router-"), 4);
    ck_assert_uint_eq (ctki_leaks_threads_named ("ct-send-"), 0);
    ctki_traffic_send (cluster.server[1], 3, 1, "x");
    ctki_traffic_expect (cluster.server[3], 1, 1, "x");
    ck_assert_uint_eq (ctki_leaks_threads_named ("ct-send-1-3"), 1);
    ck_assert_uint_eq (ctki_leaks_threads_named ("ct-send-"), 1);
    ctki_traffic_send (cluster.server[2], CTALK_BROADCAST, 2, "y");
    for (ctalk_pid_t pid = 1; pid <= 4; pid++)
        if (pid != 2)
            ctki_traffic_expect (cluster.server[pid], 2, 2, "y");
    ck_assert_uint_eq (ctki_leaks_threads_named ("ct-send-2-"), 3);
    ck_assert_uint_eq (ctki_leaks_threads_named ("ct-send-"), 4);
    ctki_cluster_close (&cluster);
}
END_TEST

/* Own traffic, receiving, and a look at states and figures start no lazy sender. */
START_TEST (lazy_stays_lazy)
{
    ctki_cluster_open (&cluster, 3, CTKI_OPTIONS ("Senders", "lazy"));
    ctki_traffic_send (cluster.server[1], 1, 1, "own");
    ctki_traffic_expect (cluster.server[1], 1, 1, "own");
    ctki_traffic_expect_nothing (cluster.server[2], 10);
    ck_assert_int_eq (ctalk_server_peer_state (cluster.server[1], 2), CTALK_STATE_IDLE);
    (void) ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST);
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], CTALK_BROADCAST, 100));
    ck_assert_uint_eq (ctki_leaks_threads_named ("ct-send-"), 0);
    ctki_cluster_close (&cluster);
}
END_TEST

/* A removed peer's sender is gone when the call returns. */
START_TEST (removed)
{
    ctki_cluster_open_up (&cluster, 3, NULL);
    ck_assert_uint_eq (ctki_leaks_threads_named ("ct-send-1-"), 2);
    size_t before = ctki_leaks_descriptors ();
    CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[1], 2));
    ck_assert_uint_eq (ctki_leaks_threads_named ("ct-send-1-2"), 0);
    ck_assert_uint_eq (ctki_leaks_threads_named ("ct-send-1-"), 1);
    ck_assert (ctki_leaks_await_descriptors (before - 1, ctki_test_long_ms ()));
    ctki_cluster_close (&cluster);
}
END_TEST

/* A lazy server that talks to one neighbour needs at most thirteen descriptors, its own and those of its connections. */
START_TEST (descriptors_of_a_ring)
{
    enum { RING = 10 };
    size_t before = ctki_leaks_descriptors ();
    ctalk_config_t *one = ctki_cluster_config (1, NULL, NULL);
    ctalk_server_t *first = ctki_cluster_start (1, one); /* the process-wide ones are its */
    size_t shared = ctki_leaks_descriptors ();
    ctki_cluster_open (&cluster, RING, CTKI_OPTIONS ("Senders", "lazy"));
    for (ctalk_pid_t pid = 1; pid <= RING; pid++)
        ck_assert_int_ge (ctalk_server_fd (cluster.server[pid]), 0);
    for (ctalk_pid_t pid = 1; pid <= RING; pid++) {
        ctki_traffic_send (cluster.server[pid], pid % RING + 1, 1, "next");
        ctki_traffic_expect (cluster.server[pid % RING + 1], pid, 1, "next");
    }
    size_t used = ctki_leaks_descriptors () - shared;
    ck_assert_msg (used <= 13 * RING, "%zu descriptors for %d servers", used, RING);
    ctki_cluster_close (&cluster);
    ck_assert_int_eq (ctalk_server_close (&first, 0), 0);
    ctalk_config_destroy (&one);
    ctki_test_figure ("descriptors_of_a_ring", "%zu for %d servers, %zu for the first and the process", used, RING,
                      shared - before);
}
END_TEST

/* Sends small envelopes under load, and takes them. */
static void burst (ctalk_server_t *server, ctalk_pid_t to)
{
    static const char text[] = "one of many";
    enum { BURST = 5000 };
    ctalk_envelope_t out = {.pid = to, .data = text, .size = sizeof text}, in;
    for (int i = 0; i < BURST; i++)
        ck_assert_int_eq (ctalk_send (server, &out, ctki_test_long_ms ()), 0);
    for (int i = 0; i < BURST; i++) {
        ck_assert_int_eq (ctalk_recv (cluster.server[to], &in, ctki_test_long_ms ()), 0);
        ctalk_envelope_close (&in);
    }
}

/* Idle servers use no processor time to speak of, also after they had much to do. */
START_TEST (idle_is_idle)
{
    struct timespec before, after;
    ctki_cluster_open_up (&cluster, 3, NULL);
    ctki_traffic_exchange (&cluster, 10);
    burst (cluster.server[1], 2);
    ck_assert_int_eq (clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &before), 0);
    ctki_traffic_expect_nothing (cluster.server[1], ctki_test_ms (1000));
    ck_assert_int_eq (clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &after), 0);
    int64_t used_us = (int64_t) (after.tv_sec - before.tv_sec) * 1000000 + (after.tv_nsec - before.tv_nsec) / 1000;
    ck_assert_int_le (used_us, (int64_t) ctki_test_ms (100) * 1000);
    ctki_cluster_close (&cluster);
    ctki_test_figure ("idle_is_idle", "%lld us of processor time in a second, 3 servers", (long long) used_us);
}
END_TEST

static bool send_bound_to_one (void *arg, ctki_trouble_t *trouble)
{
    cpu_set_t one;
    CPU_ZERO (&one);
    CPU_SET ((size_t) sched_getcpu (), &one);
    CTKI_EXPECT_EQUAL (trouble, pthread_setaffinity_np (pthread_self (), sizeof one, &one), 0);
    ctalk_envelope_t envelope = ctki_traffic_envelope (2, 1, "x", 1);
    CTKI_EXPECT_EQUAL (trouble, ctalk_send (arg, &envelope, ctki_test_long_ms ()), 0);
    return true;
}

static bool has_sender (void *arg)
{
    (void) arg;
    return ctki_leaks_thread_named ("ct-send-1-2") != 0;
}

/* A lazy sender runs where the router does, also when the thread that sends starts it, which is bound to one processor. */
START_TEST (lazy_is_not_bound)
{
    cpu_set_t router, sender;
    ctki_test_thread_t thread;
    ctki_cluster_open (&cluster, 2, CTKI_OPTIONS ("Senders", "lazy"));
    ctki_test_thread_start (&thread, send_bound_to_one, cluster.server[1]);
    ctki_test_thread_join (&thread);
    ctki_traffic_expect (cluster.server[2], 1, 1, "x");
    ck_assert (ctki_test_until (has_sender, NULL, ctki_test_long_ms ()));
    ck_assert_int_eq (sched_getaffinity ((pid_t) ctki_leaks_thread_named ("ct-router-1"), sizeof router, &router), 0);
    ck_assert_int_eq (sched_getaffinity ((pid_t) ctki_leaks_thread_named ("ct-send-1-2"), sizeof sender, &sender), 0);
    ck_assert (CPU_EQUAL (&router, &sender));
    ctki_cluster_close (&cluster);
}
END_TEST

Suite *ctki_suite_senders (void)
{
    Suite *suite = suite_create ("senders");
    TCase *tcase = ctki_leaks_tcase ("senders", 60);
    tcase_add_test (tcase, eager);
    tcase_add_test (tcase, lazy);
    tcase_add_test (tcase, lazy_stays_lazy);
    tcase_add_test (tcase, lazy_is_not_bound);
    tcase_add_test (tcase, removed);
    tcase_add_test (tcase, descriptors_of_a_ring);
    tcase_add_test (tcase, idle_is_idle);
    suite_add_tcase (suite, tcase);
    return suite;
}
