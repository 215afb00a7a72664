/*
 * test_owned.c - ctalk_send_owned (): free_fn is called exactly once for what was
 * accepted, never for what was not, and before close returns.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "tests/cluster/suites.h"
#include "tests/support/support.h"

static atomic_int freed;
static atomic_int wrong; /* calls with another hint than the payload's */

static const size_t sizes[] = {0, 1, 64, 4095, 4096, 4097, 65536, 300000, 3000000};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

/* The hint is the payload itself, so that a mix-up is seen. */
static void free_payload (void *data, void *hint)
{
    if (data != hint)
        atomic_fetch_add (&wrong, 1);
    atomic_fetch_add (&freed, 1);
    free (hint);
}

static void reset (void)
{
    atomic_store (&freed, 0);
    atomic_store (&wrong, 0);
}

static int send_owned (ctalk_server_t *server, ctalk_pid_t pid, int64_t number, size_t size, int timeout_ms)
{
    char *data = malloc (size ? size : 1);
    ck_assert_ptr_nonnull (data);
    ctki_payload_fill (data, size, ctalk_server_pid (server), pid, number);
    ctalk_envelope_t envelope = ctki_traffic_envelope (pid, number, data, size);
    int rc = ctalk_send_owned (server, &envelope, free_payload, data, timeout_ms);
    int code = errno;
    if (rc)
        free (data); /* it stayed the caller's */
    errno = code;
    return rc;
}

static void take (ctalk_server_t *server, ctalk_pid_t src, bool broadcast, int64_t number, size_t size)
{
    ctalk_envelope_t envelope;
    ctki_traffic_take (server, &envelope);
    ck_assert_int_eq (envelope.msg_id, number);
    ck_assert_uint_eq (envelope.size, size);
    ctalk_pid_t dst = broadcast ? CTALK_BROADCAST : ctalk_server_pid (server);
    ck_assert (ctki_payload_ok (envelope.data, size, src, dst, number));
    ctalk_envelope_close (&envelope);
}

static bool all_freed (void *arg)
{
    return atomic_load (&freed) == *(const int *) arg;
}

static void await_freed (int count)
{
    ck_assert_msg (ctki_test_until (all_freed, &count, ctki_test_long_ms ()), "%d of %d freed", atomic_load (&freed),
                   count);
    ck_assert_int_eq (atomic_load (&wrong), 0);
}

/* Payloads of all sizes arrive unchanged and are freed once, when they are acknowledged. */
START_TEST (each_is_freed_once)
{
    ctki_cluster_t cluster;
    reset ();
    ctki_cluster_open_up (&cluster, 2, NULL);
    for (int i = 0; i < SIZES; i++) {
        CTKI_SUCCEEDS (send_owned (cluster.server[1], 2, i, sizes[i], -1));
        take (cluster.server[2], 1, false, i, sizes[i]);
    }
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], 2, ctki_test_long_ms ()));
    await_freed (SIZES);
    ctki_cluster_close (&cluster);
    ck_assert_int_eq (atomic_load (&freed), SIZES);
}
END_TEST

/* What fails stays the caller's: free_fn is not called, for any of the errors. */
START_TEST (not_freed_on_failure)
{
    ctki_cluster_t cluster;
    reset ();
    ctki_cluster_open_absent (&cluster, 1, CTKI_OPTIONS ("QueueBytes", "65536", "MaxMessageBytes", "100000"));
    ctalk_server_t *server = cluster.server[1];
    CTKI_FAILS (EHOSTUNREACH, send_owned (server, 99, 1, 5000, 0));
    CTKI_FAILS (EMSGSIZE, send_owned (server, cluster.absent, 1, 100001, 0));
    CTKI_FAILS (EINVAL, send_owned (server, -5, 1, 5000, 0));
    int accepted = 0;
    while (send_owned (server, cluster.absent, 1, 5000, 0) == 0)
        accepted++;
    ck_assert_int_eq (errno, EAGAIN);
    CTKI_FAILS (EAGAIN, send_owned (server, CTALK_BROADCAST, 1, 5000, 20));
    CTKI_FAILS (EAGAIN, send_owned (server, cluster.absent, 1, 100, 0));
    ck_assert_int_eq (atomic_load (&freed), 0);
    ck_assert_int_eq (ctki_cluster_close_abandoning (&cluster, 0), accepted);
    ck_assert_int_eq (atomic_load (&freed), accepted);
    ck_assert_int_eq (atomic_load (&wrong), 0);
}
END_TEST

/* What waits for an absent peer is freed before close returns. */
START_TEST (freed_before_close_returns)
{
    ctki_cluster_t cluster;
    reset ();
    ctki_cluster_open_absent (&cluster, 2, NULL);
    for (int i = 0; i < 50; i++)
        CTKI_SUCCEEDS (send_owned (cluster.server[1], cluster.absent, i, sizes[i % SIZES] % 100000, 0));
    for (int i = 0; i < 50; i++)
        CTKI_SUCCEEDS (send_owned (cluster.server[1], 2, i, sizes[i % SIZES] % 100000, -1));
    int rc = ctalk_server_close (&cluster.server[1], 100);
    ck_assert_int_eq (atomic_load (&freed), 100);
    ck_assert_int_ge (rc, 50);
    ck_assert_int_eq (atomic_load (&wrong), 0);
    (void) ctki_cluster_close_abandoning (&cluster, ctki_test_long_ms ());
}
END_TEST

/* A payload broadcast to several is freed once, when the last of them has it. */
START_TEST (broadcast_is_freed_once)
{
    ctki_cluster_t cluster;
    reset ();
    ctki_cluster_open_up (&cluster, 4, NULL);
    for (int i = 0; i < SIZES; i++)
        CTKI_SUCCEEDS (send_owned (cluster.server[1], CTALK_BROADCAST, i, sizes[i], -1));
    for (ctalk_pid_t pid = 2; pid <= 4; pid++)
        for (int i = 0; i < SIZES; i++)
            take (cluster.server[pid], 1, true, i, sizes[i]);
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], CTALK_BROADCAST, ctki_test_long_ms ()));
    await_freed (SIZES);
    ctki_cluster_close (&cluster);
    ck_assert_int_eq (atomic_load (&freed), SIZES);
}
END_TEST

/* A broadcast that goes to an absent peer, too, is freed only when that one's copy is abandoned. */
START_TEST (broadcast_with_an_absent_peer)
{
    ctki_cluster_t cluster;
    reset ();
    ctki_cluster_open_absent (&cluster, 3, NULL);
    CTKI_SUCCEEDS (send_owned (cluster.server[1], CTALK_BROADCAST, 0, 100000, -1));
    take (cluster.server[2], 1, true, 0, 100000);
    take (cluster.server[3], 1, true, 0, 100000);
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], 2, ctki_test_long_ms ()));
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], 3, ctki_test_long_ms ()));
    ck_assert_int_eq (atomic_load (&freed), 0);
    CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[1], cluster.absent));
    await_freed (1);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST).abandoned, 1);
    (void) ctki_cluster_close_abandoning (&cluster, ctki_test_long_ms ());
    ck_assert_int_eq (atomic_load (&freed), 1);
}
END_TEST

/* A payload for the own pid is copied and freed at once; so is a small one, and a broadcast without peers. */
START_TEST (freed_at_once)
{
    ctki_cluster_t cluster;
    reset ();
    ctki_cluster_open (&cluster, 1, NULL);
    CTKI_SUCCEEDS (send_owned (cluster.server[1], 1, 0, 100000, 0));
    ck_assert_int_eq (atomic_load (&freed), 1);
    CTKI_SUCCEEDS (send_owned (cluster.server[1], 1, 1, 10, 0));
    ck_assert_int_eq (atomic_load (&freed), 2);
    CTKI_SUCCEEDS (send_owned (cluster.server[1], CTALK_BROADCAST, 2, 100000, 0));
    ck_assert_int_eq (atomic_load (&freed), 3);
    take (cluster.server[1], 1, false, 0, 100000);
    take (cluster.server[1], 1, false, 1, 10);
    ctki_cluster_close (&cluster);
    ck_assert_int_eq (atomic_load (&freed), 3);
}
END_TEST

/* A small payload for an absent peer is copied and freed at once. */
START_TEST (small_is_freed_at_once)
{
    ctki_cluster_t cluster;
    reset ();
    ctki_cluster_open_absent (&cluster, 1, NULL);
    CTKI_SUCCEEDS (send_owned (cluster.server[1], cluster.absent, 0, 4095, 0));
    ck_assert_int_eq (atomic_load (&freed), 1);
    CTKI_SUCCEEDS (send_owned (cluster.server[1], cluster.absent, 0, 4096, 0));
    ck_assert_int_eq (atomic_load (&freed), 1);
    ck_assert_int_eq (ctki_cluster_close_abandoning (&cluster, 0), 2);
    ck_assert_int_eq (atomic_load (&freed), 2);
}
END_TEST

/* Without a free_fn a constant is sent. */
START_TEST (constant_payload)
{
    static char data[50000];
    ctki_cluster_t cluster;
    ctki_payload_fill (data, sizeof data, 1, 2, 1);
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctalk_envelope_t envelope = ctki_traffic_envelope (2, 1, data, sizeof data);
    CTKI_SUCCEEDS (ctalk_send_owned (cluster.server[1], &envelope, NULL, NULL, -1));
    take (cluster.server[2], 1, false, 1, sizeof data);
    ctki_cluster_close (&cluster);
}
END_TEST

static ctalk_server_t *sending_server;

/* A free_fn that itself makes a call: it would block for ever if a lock were held. */
static void free_and_call (void *data, void *hint)
{
    ctalk_stats_t stats;
    if (ctalk_server_stats (sending_server, CTALK_BROADCAST, &stats))
        atomic_fetch_add (&wrong, 1);
    free_payload (data, hint);
}

/* free_fn runs with no lock of the library held: it may ask the server something. */
START_TEST (no_lock_is_held)
{
    ctki_cluster_t cluster;
    reset ();
    ctki_cluster_open_up (&cluster, 2, NULL);
    sending_server = cluster.server[1];
    for (int i = 0; i < 100; i++) {
        size_t size = sizes[i % SIZES] % 70000;
        ctalk_pid_t pid = i % 3 == 0 ? 1 : i % 3 == 1 ? 2 : CTALK_BROADCAST;
        char *data = malloc (size + 1);
        ck_assert_ptr_nonnull (data);
        ctki_payload_fill (data, size, 1, pid, i);
        ctalk_envelope_t envelope = ctki_traffic_envelope (pid, i, data, size);
        CTKI_SUCCEEDS (ctalk_send_owned (cluster.server[1], &envelope, free_and_call, data, ctki_test_long_ms ()));
        take (cluster.server[pid == 1 ? 1 : 2], 1, pid == CTALK_BROADCAST, i, size);
    }
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], CTALK_BROADCAST, ctki_test_long_ms ()));
    await_freed (100);
    ctki_cluster_close (&cluster);
}
END_TEST

Suite *ctki_suite_owned (void)
{
    Suite *suite = suite_create ("owned");
    TCase *tcase = ctki_leaks_tcase ("owned", 60);
    tcase_add_test (tcase, each_is_freed_once);
    tcase_add_test (tcase, not_freed_on_failure);
    tcase_add_test (tcase, freed_before_close_returns);
    tcase_add_test (tcase, broadcast_is_freed_once);
    tcase_add_test (tcase, broadcast_with_an_absent_peer);
    tcase_add_test (tcase, freed_at_once);
    tcase_add_test (tcase, small_is_freed_at_once);
    tcase_add_test (tcase, constant_payload);
    tcase_add_test (tcase, no_lock_is_held);
    suite_add_tcase (suite, tcase);
    return suite;
}
