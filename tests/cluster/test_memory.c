/*
 * test_memory.c - what happens when there is no memory: ENOMEM, counted, and the
 * server goes on. Uses the allocator seam of the library.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "src/mem.h"
#include "tests/cluster/suites.h"
#include "tests/support/support.h"

/* Without memory no config and no server is made, and each says ENOMEM. */
START_TEST (nothing_is_made)
{
    static const char json[] = "{\"Servers\": {\"1\": \"127.0.0.1:0\"}}";
    ctalk_config_t *config = ctki_cluster_config (1, NULL, NULL);
    ctalk_error_t error = {0};
    (void) ctki_mem_fail (0, -1);
    errno = 0;
    ck_assert (ctalk_config_new () == NULL && errno == ENOMEM);
    errno = 0;
    ck_assert (ctalk_config_parse (json, sizeof json - 1, &error) == NULL && errno == ENOMEM);
    errno = 0;
    ck_assert (ctalk_server_new (1, config, &error) == NULL && errno == ENOMEM);
    ck_assert_int_eq (error.code, ENOMEM);
    CTKI_FAILS (ENOMEM, ctalk_config_add_server (config, 2, "127.0.0.1:0", &error));
    (void) ctki_mem_fail (-1, 0);
    CTKI_SUCCEEDS (ctalk_config_add_server (config, 2, "127.0.0.1:0", &error));
    ctalk_config_destroy (&config);
}
END_TEST

/* The k-th allocation of a start fails, for every k: ENOMEM each time, nothing is left, and at last it succeeds. */
START_TEST (each_step_of_a_start)
{
    ctalk_config_t *config = ctki_cluster_config (3, NULL, NULL);
    long k = 0;
    ctalk_server_t *server = NULL;
    for (; k < 1000 && !server; k++) {
        ctalk_error_t error = {0};
        (void) ctki_mem_fail (k, 1);
        server = ctalk_server_new (1, config, &error);
        int code = errno;
        (void) ctki_mem_fail (-1, 0);
        ck_assert_msg (server || code == ENOMEM, "allocation %ld: %s, %s", k, strerror (code), error.text);
    }
    ck_assert_ptr_nonnull (server);
    ck_assert_int_gt (k, 3);
    ck_assert_int_eq (ctalk_server_close (&server, 0), 0);
    ctalk_config_destroy (&config);
    ctki_test_figure ("each_step_of_a_start", "%ld allocations", k - 1);
}
END_TEST

/* A large payload that cannot be copied is ENOMEM and counted; a moment later it is sent. */
START_TEST (send_without_memory)
{
    static char data[100000];
    ctki_cluster_t cluster;
    ctki_cluster_open_absent (&cluster, 2, NULL);
    ctalk_envelope_t envelope = ctki_traffic_envelope (cluster.absent, 1, data, sizeof data);
    (void) ctki_mem_fail (0, -1);
    errno = 0;
    int rc = ctalk_send (cluster.server[1], &envelope, 0);
    int code = errno;
    (void) ctki_mem_fail (-1, 0);
    ck_assert_int_eq (rc, -1);
    ck_assert_int_eq (code, ENOMEM);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST).refused_memory, 1);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], cluster.absent).queued, 0);
    CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &envelope, 0));
    ctki_traffic_exchange (&cluster, 50);
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], 2, ctki_test_long_ms ()));
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[2], 1, ctki_test_long_ms ()));
    ck_assert_int_eq (ctki_cluster_close_abandoning (&cluster, 0), 1);
}
END_TEST

/* Whichever allocation of a close fails, it ends in time, with a peer up and one absent. */
START_TEST (close_without_memory)
{
    for (long k = 0; k < 10; k++) {
        ctki_cluster_t cluster;
        ctki_cluster_open_absent (&cluster, 2, NULL);
        ctki_traffic_exchange (&cluster, 2);
        (void) ctki_mem_fail (k, 1);
        int closed = ctalk_server_close (&cluster.server[1], 200);
        (void) ctki_mem_fail (-1, 0);
        ck_assert_int_ge (closed, 0);
        ck_assert_ptr_null (cluster.server[1]);
        (void) ctki_cluster_close_abandoning (&cluster, 0);
    }
}
END_TEST

/* One allocation in a hundred fails for a while, wherever: what was accepted arrives, in order and unchanged. */
START_TEST (traffic_with_little_memory)
{
    ctki_cluster_t cluster;
    ctki_cluster_open_up (&cluster, 2, NULL);
    char *buffer = malloc (70000);
    int64_t accepted = 0, refused = 0, count = (int64_t) ctki_test_count (5000);
    ck_assert_ptr_nonnull (buffer);
    for (int64_t i = 0; i < count; i++) {
        size_t size = i % 7 ? 50 : 70000;
        ctki_payload_fill (buffer, size, 1, 2, accepted);
        ctalk_envelope_t envelope = ctki_traffic_envelope (2, accepted, buffer, size), got;
        if (i % 10 == 0)
            (void) ctki_mem_fail (i % 13, 1);
        int rc = ctalk_send (cluster.server[1], &envelope, ctki_test_long_ms ());
        ck_assert_msg (rc == 0 || errno == ENOMEM, "%s", strerror (errno));
        accepted += rc == 0;
        refused += rc != 0;
        if (rc)
            continue;
        int n = -1;
        for (int tries = 0; tries < 100 && n; tries++) {
            n = ctalk_recv (cluster.server[2], &got, ctki_test_long_ms ());
            ck_assert_msg (n == 0 || errno == ENOMEM || errno == EAGAIN, "%s", strerror (errno));
        }
        ck_assert_int_eq (n, 0);
        ck_assert_int_eq (got.msg_id, accepted - 1);
        ck_assert (ctki_payload_ok (got.data, got.size, 1, 2, accepted - 1));
        ctalk_envelope_close (&got);
    }
    (void) ctki_mem_fail (-1, 0);
    free (buffer);
    ctki_traffic_exchange (&cluster, 50);
    ctki_cluster_close (&cluster);
    ctki_test_figure ("traffic_with_little_memory", "%lld accepted, %lld refused", (long long) accepted,
                      (long long) refused);
}
END_TEST

Suite *ctki_suite_memory (void)
{
    Suite *suite = suite_create ("memory");
    TCase *tcase = ctki_leaks_tcase ("memory", 120);
    tcase_add_test (tcase, nothing_is_made);
    tcase_add_test (tcase, each_step_of_a_start);
    tcase_add_test (tcase, send_without_memory);
    tcase_add_test (tcase, close_without_memory);
    tcase_add_test (tcase, traffic_with_little_memory);
    suite_add_tcase (suite, tcase);
    return suite;
}
