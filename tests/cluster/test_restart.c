/*
 * test_restart.c - a server that closes and starts again on its port is reached
 * again, by those who stayed; and two clusters of different names do not talk.
 */
#include <stdio.h>

#include "tests/cluster/suites.h"
#include "tests/support/support.h"

static ctki_ports_t ports;
static ctalk_config_t *config;

static void take_ports (void)
{
    ctki_ports_take (&ports, 3);
    config = ctki_cluster_config (3, ports.port, NULL);
}

static void release_ports (void)
{
    ctalk_config_destroy (&config);
    ctki_ports_release (&ports);
}

static void close_clean (ctalk_server_t **server)
{
    ck_assert_int_eq (ctalk_server_close (server, ctki_test_long_ms ()), 0);
}

/* After each restart both ways work again, the incarnation is another, and nothing of before arrives. */
START_TEST (in_one_process)
{
    ctalk_server_t *one = ctki_cluster_start (1, config);
    uint64_t last = 0;
    for (int64_t i = 0; i < 5; i++) {
        ctalk_server_t *two = ctki_cluster_start (2, config);
        ctki_traffic_send (one, 2, i, "there");
        ctki_traffic_expect (two, 1, i, "there");
        ctki_traffic_send (two, 1, i, "and back");
        ctki_traffic_expect (one, 2, i, "and back");
        ctki_cluster_await_state (one, 2, CTALK_STATE_UP);
        uint64_t incarnation = ctalk_server_incarnation (two, 2);
        ck_assert_uint_eq (ctalk_server_incarnation (one, 2), incarnation);
        ck_assert_uint_ne (incarnation, last);
        last = incarnation;
        close_clean (&two);
        ctki_cluster_await_state (one, 2, CTALK_STATE_LEFT);
    }
    close_clean (&one);
}
END_TEST

/* What is sent while a peer has left is kept, and arrives in order at its next incarnation. */
START_TEST (kept_for_the_next)
{
    ctalk_server_t *one = ctki_cluster_start (1, config), *two = ctki_cluster_start (2, config);
    ctki_traffic_send (one, 2, -1, "before");
    ctki_traffic_expect (two, 1, -1, "before");
    close_clean (&two);
    ctki_cluster_await_state (one, 2, CTALK_STATE_LEFT);
    for (int64_t i = 0; i < 200; i++)
        ctki_traffic_send (one, 2, i, "kept");
    ck_assert_uint_eq (ctki_cluster_stats (one, 2).queued, 200);
    two = ctki_cluster_start (2, config);
    for (int64_t i = 0; i < 200; i++)
        ctki_traffic_expect (two, 1, i, "kept");
    ctki_traffic_expect_nothing (two, 0);
    CTKI_SUCCEEDS (ctalk_server_flush (one, 2, ctki_test_long_ms ()));
    ctki_trouble_t trouble = {""};
    ck_assert_msg (ctki_cluster_conserved (one, &trouble), "%s", trouble.text);
    ck_assert_uint_eq (ctki_cluster_stats (one, 2).delivered, 201);
    close_clean (&one);
    close_clean (&two);
}
END_TEST

/* A restart in another process, under load of two others, which wait for it without harm. */
START_TEST (in_another_process)
{
    ctki_peer_t first, second;
    ctki_peer_fork (&first, 3, config, CTKI_PEER_ECHO);
    ctki_peer_fork (&second, 3, config, CTKI_PEER_ECHO);
    ctalk_server_t *one = ctki_cluster_start (1, config), *two = ctki_cluster_start (2, config);
    ctki_peer_go (&first);
    ctki_traffic_send (one, 3, 1, "first");
    ctki_traffic_expect (one, 3, 1, "first");
    ctki_traffic_send (two, 3, 2, "first");
    ctki_traffic_expect (two, 3, 2, "first");
    ctki_peer_close (&first);
    ctki_cluster_await_state (one, 3, CTALK_STATE_LEFT);
    ctki_cluster_await_state (two, 3, CTALK_STATE_LEFT);
    ctki_traffic_send (one, 3, 3, "between");
    ctki_traffic_send (one, 2, 4, "not held up");
    ctki_traffic_expect (two, 1, 4, "not held up");
    ctki_peer_go (&second);
    ctki_traffic_expect (one, 3, 3, "between");
    ctki_traffic_send (two, 3, 5, "second");
    ctki_traffic_expect (two, 3, 5, "second");
    ctki_peer_close (&second);
    close_clean (&one);
    close_clean (&two);
}
END_TEST

/* All close and all start again, several times, on the same ports. */
START_TEST (the_whole_cluster)
{
    for (int round = 0; round < 5; round++) {
        ctki_cluster_t cluster = {.count = 3};
        cluster.config = ctki_cluster_config (3, ports.port, NULL);
        for (ctalk_pid_t pid = 1; pid <= 3; pid++)
            cluster.server[pid] = ctki_cluster_start (pid, cluster.config);
        ctki_cluster_wait_up (&cluster);
        ctki_traffic_exchange (&cluster, 20);
        ctki_cluster_close (&cluster);
    }
}
END_TEST

/* Servers of clusters with different names do not talk, whatever their configs say; of the same name they do. */
START_TEST (different_clusters)
{
    char red[400], blue[400];
    static const char *const format =
        "{\"Cluster\": \"%s\", \"Servers\": {\"1\": \"127.0.0.1:%u\", \"2\": \"127.0.0.1:%u\", \"3\": "
        "\"127.0.0.1:%u\"}}";
    int red_size = snprintf (red, sizeof red, format, "red", (unsigned) ports.port[0], (unsigned) ports.port[1],
                             (unsigned) ports.port[2]);
    int blue_size = snprintf (blue, sizeof blue, format, "blue", (unsigned) ports.port[0], (unsigned) ports.port[1],
                              (unsigned) ports.port[2]);
    ctalk_config_t *red_config = ctalk_config_parse (red, (size_t) red_size, NULL);
    ctalk_config_t *blue_config = ctalk_config_parse (blue, (size_t) blue_size, NULL);
    ck_assert (red_config && blue_config);
    ck_assert_str_eq (ctalk_config_get (red_config, "Cluster"), "red");
    ctalk_server_t *one = ctki_cluster_start (1, red_config), *two = ctki_cluster_start (2, blue_config);
    ctalk_server_t *three = ctki_cluster_start (3, red_config);
    ctki_traffic_send (one, 2, 1, "wrong cluster");
    ctki_traffic_send (two, 1, 1, "wrong cluster");
    ctki_traffic_send (one, 3, 2, "right cluster");
    ctki_traffic_expect (three, 1, 2, "right cluster");
    CTKI_FAILS (EAGAIN, ctalk_server_wait_up (one, 2, ctki_test_ms (500)));
    ctki_traffic_expect_nothing (one, 0);
    ctki_traffic_expect_nothing (two, 0);
    ck_assert_int_ne (ctalk_server_peer_state (one, 2), CTALK_STATE_UP);
    ck_assert_int_eq (ctalk_server_close (&one, 0), 1);
    ck_assert_int_eq (ctalk_server_close (&two, 0), 1);
    close_clean (&three);
    ctalk_config_destroy (&red_config);
    ctalk_config_destroy (&blue_config);
}
END_TEST

/* A server that finds another pid at a peer's endpoint does not take it for that peer. */
START_TEST (wrong_pid_at_the_endpoint)
{
    ctki_cluster_t cluster;
    ctki_cluster_open (&cluster, 3, NULL);
    ctalk_config_t *other = ctki_cluster_config (1, NULL, NULL);
    ctki_cluster_set (other, NULL);
    ctalk_server_t *liar = ctki_cluster_start (1, other);
    CTKI_SUCCEEDS (ctalk_server_add_peer (liar, 2, ctalk_server_endpoint (cluster.server[3])));
    ctki_traffic_send (liar, 2, 1, "for two, not for three");
    ctki_traffic_expect_nothing (cluster.server[3], ctki_test_ms (300));
    ck_assert_int_ne (ctalk_server_peer_state (liar, 2), CTALK_STATE_UP);
    ck_assert_int_eq (ctalk_server_close (&liar, 0), 1);
    ctalk_config_destroy (&other);
    ctki_traffic_exchange (&cluster, 20);
    ctki_cluster_close (&cluster);
}
END_TEST

Suite *ctki_suite_restart (void)
{
    Suite *suite = suite_create ("restart");
    TCase *tcase = ctki_leaks_tcase ("restart", 90);
    tcase_add_checked_fixture (tcase, take_ports, release_ports);
    tcase_add_test (tcase, in_one_process);
    tcase_add_test (tcase, kept_for_the_next);
    ctki_add_test_of_system (tcase, in_another_process);
    tcase_add_test (tcase, the_whole_cluster);
    tcase_add_test (tcase, different_clusters);
    tcase_add_test (tcase, wrong_pid_at_the_endpoint);
    suite_add_tcase (suite, tcase);
    return suite;
}
