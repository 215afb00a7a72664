/*
 * test_fork.c - a child process and a server made before the fork: every call
 * fails with EOWNERDEAD, its close touches nothing of the parent's, and the
 * child may make servers of its own.
 */
#include <unistd.h>

#include "tests/cluster/suites.h"
#include "tests/support/support.h"

static ctki_cluster_t cluster;

#define EXPECT_DEAD(trouble, call)                                                                                     \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        CTKI_EXPECT_EQUAL (trouble, call, -1);                                                                         \
        CTKI_EXPECT_EQUAL (trouble, errno, EOWNERDEAD);                                                                \
    } while (0)

static bool use_in_child (int fd, void *arg, ctki_trouble_t *trouble)
{
    (void) fd;
    ctalk_server_t *server = arg;
    ctalk_envelope_t envelope = ctki_traffic_envelope (2, 1, "x", 1), got;
    EXPECT_DEAD (trouble, ctalk_send (server, &envelope, -1));
    EXPECT_DEAD (trouble, ctalk_send_owned (server, &envelope, NULL, NULL, -1));
    EXPECT_DEAD (trouble, ctalk_send_many (server, &envelope, 1, -1));
    EXPECT_DEAD (trouble, ctalk_recv (server, &got, -1));
    EXPECT_DEAD (trouble, ctalk_recv_many (server, &got, 1, -1));
    EXPECT_DEAD (trouble, ctalk_server_flush (server, 2, -1));
    EXPECT_DEAD (trouble, ctalk_server_wait_up (server, 1, -1));
    EXPECT_DEAD (trouble, ctalk_server_add_peer (server, 9, "127.0.0.1:9"));
    EXPECT_DEAD (trouble, ctalk_server_remove_peer (server, 2));
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_close (&server, -1), 0);
    CTKI_EXPECT (trouble, server == NULL);
    return true;
}

/* In the child every call on the parent's server is EOWNERDEAD and its close returns 0; the parent's serves on. */
START_TEST (child_cannot_use_it)
{
    ctki_process_t process;
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctki_process_copy (&process, use_in_child, cluster.server[1]);
    ctki_process_join (&process, ctki_test_long_ms ());
    ctki_traffic_exchange (&cluster, 100);
    ctki_cluster_close (&cluster);
}
END_TEST

static bool close_in_child (int fd, void *arg, ctki_trouble_t *trouble)
{
    (void) fd;
    ctki_cluster_t *copy = arg;
    for (size_t i = 1; i <= copy->count; i++)
        CTKI_EXPECT_EQUAL (trouble, ctalk_server_close (&copy->server[i], -1), 0);
    ctalk_config_destroy (&copy->config);
    return true;
}

/* A fork while the servers are busy: the child closes them all at once, the parent loses nothing. */
START_TEST (fork_under_load)
{
    static const size_t sizes[] = {100, 5000};
    ctki_process_t process;
    ctki_test_thread_t threads[2];
    ctki_trouble_t trouble = {""};
    size_t count = ctki_test_count (20000);
    ctki_journal_t *journal = ctki_journal_new (2, count);
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctki_stream_t stream = {cluster.server[1], 2, 0, count, sizes, 2, journal};
    ctki_drain_t drain = {cluster.server[2], count, journal, NULL};
    ctki_test_thread_start (&threads[0], ctki_traffic_stream, &stream);
    ctki_test_thread_start (&threads[1], ctki_traffic_drain, &drain);
    for (int i = 0; i < 5; i++) {
        ctki_process_copy (&process, close_in_child, &cluster);
        ctki_process_join (&process, ctki_test_long_ms ());
    }
    ctki_test_thread_join (&threads[0]);
    ctki_test_thread_join (&threads[1]);
    ck_assert_msg (ctki_journal_agrees (journal, &trouble), "%s", trouble.text);
    ctki_journal_destroy (&journal);
    ctki_cluster_close (&cluster);
}
END_TEST

static bool own_servers_in_child (int fd, void *arg, ctki_trouble_t *trouble)
{
    (void) fd;
    ctki_cluster_t *copy = arg;
    ctalk_server_t *one = ctalk_server_new (1, copy->config, NULL), *two = ctalk_server_new (2, copy->config, NULL);
    CTKI_EXPECT (trouble, one && two);
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_add_peer (one, 2, ctalk_server_endpoint (two)), 0);
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_add_peer (two, 1, ctalk_server_endpoint (one)), 0);
    ctalk_envelope_t envelope = ctki_traffic_envelope (2, 42, "child", 5), got;
    CTKI_EXPECT_EQUAL (trouble, ctalk_send (one, &envelope, ctki_test_long_ms ()), 0);
    CTKI_EXPECT_EQUAL (trouble, ctalk_recv (two, &got, ctki_test_long_ms ()), 0);
    CTKI_EXPECT (trouble, got.msg_id == 42 && got.size == 5);
    ctalk_envelope_close (&got);
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_close (&copy->server[1], 0), 0);
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_close (&two, ctki_test_long_ms ()), 0);
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_close (&one, ctki_test_long_ms ()), 0);
    return true;
}

/* The child may make servers of its own from the parent's config while the parent's run on. */
START_TEST (child_makes_its_own)
{
    ctki_process_t process;
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctki_process_copy (&process, own_servers_in_child, &cluster);
    ctki_process_join (&process, 2 * ctki_test_long_ms ());
    ctki_traffic_exchange (&cluster, 100);
    ctki_cluster_close (&cluster);
}
END_TEST

Suite *ctki_suite_fork (void)
{
    Suite *suite = suite_create ("fork");
    TCase *tcase = ctki_leaks_tcase ("fork", 100);
    tcase_add_test (tcase, child_cannot_use_it);
    tcase_add_test (tcase, fork_under_load);
#ifdef __SANITIZE_THREAD__ /* which does not support threads in the child of a process that had some */
    (void) child_makes_its_own;
#else
    tcase_add_test (tcase, child_makes_its_own);
#endif
    suite_add_tcase (suite, tcase);
    return suite;
}
