/*
 * test_errors.c - the errors that the header names for sending, receiving and
 * asking, each produced once; and that a failed call changes nothing.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/cluster/suites.h"
#include "tests/support/support.h"

static ctki_cluster_t cluster;

static void open_pair (void)
{
    ctki_cluster_open_absent (&cluster, 2, CTKI_OPTIONS ("QueueBytes", "65536", "MaxMessageBytes", "200000"));
    CTKI_SUCCEEDS (ctalk_server_wait_up (cluster.server[1], 1, ctki_test_long_ms ()));
}

static void close_pair (void)
{
    (void) ctki_cluster_close_abandoning (&cluster, 0);
}

static uint64_t refused_invalid (void)
{
    return ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST).refused_invalid;
}

/* Every envelope that is not valid is refused with EINVAL by each send call, counted, and nothing is sent. */
START_TEST (send_invalid)
{
    const ctalk_envelope_t wrong[] = {
        {.pid = -2, .data = "x", .size = 1},
        {.pid = INT32_MIN, .data = "x", .size = 1},
        {.pid = 2, .data = NULL, .size = 1},
        {.pid = 2, .data = "x", .size = 1, .kind = CTALK_PEER_UP},
        {.pid = 2, .data = "x", .size = 1, .kind = CTALK_TIMER},
        {.pid = 2, .data = "x", .size = 1, .flags = 4},
        {.pid = 2, .data = "x", .size = 1, .flags = 0x80000000u},
        {.pid = 2, .data = "x", .size = 1, .reserved = 1},
        {.pid = CTALK_BROADCAST, .data = NULL, .size = 1},
        {.pid = 1, .data = NULL, .size = 1},
    };
    uint64_t before = refused_invalid ();
    size_t count = sizeof wrong / sizeof wrong[0];
    for (size_t i = 0; i < count; i++) {
        CTKI_FAILS (EINVAL, ctalk_send (cluster.server[1], &wrong[i], 0));
        CTKI_FAILS (EINVAL, ctalk_send_owned (cluster.server[1], &wrong[i], NULL, NULL, 0));
        CTKI_FAILS (EINVAL, ctalk_send_many (cluster.server[1], &wrong[i], 1, 0));
    }
    ck_assert_uint_eq (refused_invalid () - before, 3 * count);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST).accepted, 0);
    ctki_traffic_expect_nothing (cluster.server[2], 0);
}
END_TEST

/* A missing server, envelope or array, and a timeout below -1, are EINVAL for each call that takes one. */
START_TEST (null_and_timeout)
{
    ctalk_server_t *server = cluster.server[1];
    ctalk_envelope_t envelope = ctki_traffic_envelope (2, 1, "x", 1), got;
    ctalk_stats_t stats;
    CTKI_FAILS (EINVAL, ctalk_send (NULL, &envelope, 0));
    CTKI_FAILS (EINVAL, ctalk_send (server, NULL, 0));
    CTKI_FAILS (EINVAL, ctalk_send (server, &envelope, -2));
    CTKI_FAILS (EINVAL, ctalk_send_owned (NULL, &envelope, NULL, NULL, 0));
    CTKI_FAILS (EINVAL, ctalk_send_owned (server, NULL, NULL, NULL, 0));
    CTKI_FAILS (EINVAL, ctalk_send_owned (server, &envelope, NULL, NULL, -2));
    CTKI_FAILS (EINVAL, ctalk_send_many (NULL, &envelope, 1, 0));
    CTKI_FAILS (EINVAL, ctalk_send_many (server, NULL, 1, 0));
    CTKI_FAILS (EINVAL, ctalk_send_many (server, &envelope, 1, INT_MIN));
    CTKI_FAILS (EINVAL, ctalk_recv (NULL, &got, 0));
    CTKI_FAILS (EINVAL, ctalk_recv (server, NULL, 0));
    CTKI_FAILS (EINVAL, ctalk_recv (server, &got, -2));
    CTKI_FAILS (EINVAL, ctalk_recv_many (NULL, &got, 1, 0));
    CTKI_FAILS (EINVAL, ctalk_recv_many (server, NULL, 1, 0));
    CTKI_FAILS (EINVAL, ctalk_recv_many (server, &got, 0, 0));
    CTKI_FAILS (EINVAL, ctalk_recv_many (server, &got, 1, -2));
    CTKI_FAILS (EINVAL, ctalk_server_flush (NULL, 2, 0));
    CTKI_FAILS (EINVAL, ctalk_server_flush (server, 2, -2));
    CTKI_FAILS (EINVAL, ctalk_server_wait_up (NULL, 1, 0));
    CTKI_FAILS (EINVAL, ctalk_server_wait_up (server, 1, -2));
    CTKI_FAILS (EINVAL, ctalk_server_stats (NULL, 2, &stats));
    CTKI_FAILS (EINVAL, ctalk_server_stats (server, 2, NULL));
    CTKI_FAILS (EINVAL, ctalk_server_peers (NULL, NULL, 0));
    CTKI_FAILS (EINVAL, ctalk_server_peers (server, NULL, 1));
    CTKI_FAILS (EINVAL, ctalk_server_members (NULL, NULL, 0));
    CTKI_FAILS (EINVAL, ctalk_server_members (server, NULL, 1));
    CTKI_FAILS (EINVAL, ctalk_server_wake (NULL));
    CTKI_FAILS (EINVAL, ctalk_server_close (&cluster.server[1], -2));
    ck_assert_ptr_eq (cluster.server[1], server);
    ctki_traffic_send (server, 2, 1, "still open");
    ctki_traffic_expect (cluster.server[2], 1, 1, "still open");
}
END_TEST

/* A pid that is not in the cluster is EHOSTUNREACH for each call that takes one. */
START_TEST (unknown_pid)
{
    ctalk_server_t *server = cluster.server[1];
    ctalk_envelope_t envelope = ctki_traffic_envelope (99, 1, "x", 1);
    ctalk_stats_t stats;
    CTKI_FAILS (EHOSTUNREACH, ctalk_send (server, &envelope, 0));
    CTKI_FAILS (EHOSTUNREACH, ctalk_send_owned (server, &envelope, NULL, NULL, 0));
    CTKI_FAILS (EHOSTUNREACH, ctalk_send_many (server, &envelope, 1, 0));
    CTKI_FAILS (EHOSTUNREACH, ctalk_server_flush (server, 99, 0));
    CTKI_FAILS (EHOSTUNREACH, ctalk_server_peer_state (server, 99));
    CTKI_FAILS (EHOSTUNREACH, ctalk_server_stats (server, 99, &stats));
    ck_assert_uint_eq (ctki_cluster_stats (server, CTALK_BROADCAST).refused_unreachable, 3);
}
END_TEST

/* A payload over MaxMessageBytes is EMSGSIZE to a peer, to all and to the own pid. */
START_TEST (too_big)
{
    static char data[200001];
    static const ctalk_pid_t pids[] = {2, CTALK_BROADCAST, 1};
    for (size_t i = 0; i < 3; i++) {
        ctalk_envelope_t envelope = ctki_traffic_envelope (pids[i], 1, data, sizeof data);
        CTKI_FAILS (EMSGSIZE, ctalk_send (cluster.server[1], &envelope, -1));
        CTKI_FAILS (EMSGSIZE, ctalk_send_owned (cluster.server[1], &envelope, NULL, NULL, -1));
        CTKI_FAILS (EMSGSIZE, ctalk_send_many (cluster.server[1], &envelope, 1, -1));
    }
    ck_assert_uint_ge (ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST).refused_too_big, 9);
}
END_TEST

/* Fills the queue for the absent peer; returns how many envelopes it took. */
static uint64_t fill_absent (void)
{
    char data[1000] = {0};
    ctalk_envelope_t envelope = ctki_traffic_envelope (cluster.absent, 1, data, sizeof data);
    uint64_t count = 0;
    while (ctalk_send (cluster.server[1], &envelope, 0) == 0)
        ck_assert_uint_lt (++count, 1000);
    ck_assert_int_eq (errno, EAGAIN);
    return count;
}

/* The queue for an absent peer takes what fits QueueBytes, then EAGAIN: at once with 0, after 50 ms with 50. */
START_TEST (full_queue)
{
    uint64_t count = fill_absent ();
    ck_assert_uint_ge (count, 65536 / 1064);
    ck_assert_uint_le (count, 65536 / 1064 + 1);
    ctalk_envelope_t envelope = ctki_traffic_envelope (cluster.absent, 1, "x", 1);
    int64_t start_ms = ctki_test_now_ms ();
    CTKI_FAILS (EAGAIN, ctalk_send (cluster.server[1], &envelope, 50));
    int64_t took_ms = ctki_test_now_ms () - start_ms;
    ck_assert_int_ge (took_ms, 49);
    ck_assert_int_le (took_ms, 50 + ctki_test_ms (1000));
    CTKI_FAILS (EAGAIN, ctalk_send_owned (cluster.server[1], &envelope, NULL, NULL, 0));
    CTKI_FAILS (EAGAIN, ctalk_send_many (cluster.server[1], &envelope, 1, 0));
    CTKI_FAILS (EAGAIN, ctalk_server_flush (cluster.server[1], cluster.absent, 50));
    ctalk_stats_t stats = ctki_cluster_stats (cluster.server[1], cluster.absent);
    ck_assert_uint_eq (stats.accepted, count);
    ck_assert_uint_eq (stats.queued, count);
    ck_assert_uint_eq (stats.queued_bytes, count * 1064);
    ck_assert_uint_eq (stats.refused_full, 4);
    ctki_test_figure ("full_queue", "%llu envelopes queued, 50 ms took %lld ms", (unsigned long long) count,
                      (long long) took_ms);
}
END_TEST

/* With CTALK_IF_UP an envelope for a peer that is not up fails with EHOSTDOWN and queues nothing; an up one gets it. */
START_TEST (if_up)
{
    ctalk_envelope_t envelope = ctki_traffic_envelope (cluster.absent, 1, "x", 1);
    envelope.flags = CTALK_IF_UP;
    CTKI_FAILS (EHOSTDOWN, ctalk_send (cluster.server[1], &envelope, -1));
    CTKI_FAILS (EHOSTDOWN, ctalk_send_owned (cluster.server[1], &envelope, NULL, NULL, -1));
    CTKI_FAILS (EHOSTDOWN, ctalk_send_many (cluster.server[1], &envelope, 1, -1));
    ctalk_stats_t stats = ctki_cluster_stats (cluster.server[1], cluster.absent);
    ck_assert_uint_eq (stats.refused_not_up, 3);
    ck_assert_uint_eq (stats.queued, 0);
    ck_assert_uint_eq (stats.accepted, 0);
    envelope.pid = 2;
    CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &envelope, -1));
    ctki_traffic_expect (cluster.server[2], 1, 1, "x");
}
END_TEST

/* A receive that fails zeroes its envelope and says EAGAIN after its timeout. */
START_TEST (failed_receive_zeroes)
{
    static const ctalk_envelope_t zero;
    ctalk_envelope_t envelope;
    memset (&envelope, 0xaa, sizeof envelope);
    CTKI_FAILS (EAGAIN, ctalk_recv (cluster.server[1], &envelope, 0));
    ck_assert_mem_eq (&envelope, &zero, sizeof zero);
    memset (&envelope, 0xaa, sizeof envelope);
    int64_t start_ms = ctki_test_now_ms ();
    CTKI_FAILS (EAGAIN, ctalk_recv (cluster.server[1], &envelope, 50));
    ck_assert_int_ge (ctki_test_now_ms () - start_ms, 49);
    ck_assert_mem_eq (&envelope, &zero, sizeof zero);
    memset (&envelope, 0xaa, sizeof envelope);
    CTKI_FAILS (EINVAL, ctalk_recv (cluster.server[1], &envelope, -5));
    ck_assert_mem_eq (&envelope, &zero, sizeof zero);
    CTKI_FAILS (EAGAIN, ctalk_recv_many (cluster.server[1], &envelope, 1, 10));
}
END_TEST

/* Closing an envelope twice, a zero one and none is harmless, with the server there or not. */
START_TEST (close_envelope_twice)
{
    ctalk_envelope_t envelope, copy = {0};
    ctki_traffic_send (cluster.server[1], 2, 1, "twice");
    ctki_traffic_take (cluster.server[2], &envelope);
    ctalk_envelope_close (&envelope);
    ck_assert_mem_eq (&envelope, &copy, sizeof copy);
    ctalk_envelope_close (&envelope);
    ctalk_envelope_close (&copy);
    ctalk_envelope_close (NULL);
}
END_TEST

/* Nothing is written to the caller's envelope and payload: both lie in memory that cannot be written. */
START_TEST (envelope_is_read_only)
{
    static const ctalk_pid_t pids[] = {2, CTALK_BROADCAST, 1, 99};
    size_t bytes = 65536;
    char *page = mmap (NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert (page != MAP_FAILED);
    for (size_t i = 0; i < 4; i++)
        for (size_t size = 10; size <= 20000; size *= 2000) {
            ck_assert_int_eq (mprotect (page, bytes, PROT_READ | PROT_WRITE), 0);
            ctalk_envelope_t *envelope = (ctalk_envelope_t *) (void *) page;
            *envelope = ctki_traffic_envelope (pids[i], 1, page + sizeof *envelope, size);
            ck_assert_int_eq (mprotect (page, bytes, PROT_READ), 0);
            int want = pids[i] == 99 ? -1 : 0;
            ck_assert_int_eq (ctalk_send (cluster.server[1], envelope, ctki_test_long_ms ()), want);
            ck_assert_int_eq (ctalk_send_many (cluster.server[1], envelope, 1, ctki_test_long_ms ()), want ? -1 : 1);
            ck_assert_int_eq (ctalk_send_owned (cluster.server[1], envelope, NULL, NULL, ctki_test_long_ms ()), want);
            for (int n = 0; n < 3 && pids[i] != 1 && pids[i] != 99; n++) {
                ctalk_envelope_t got;
                ctki_traffic_take (cluster.server[2], &got);
                ctalk_envelope_close (&got);
            }
        }
    /* What was handed over (sent owned) may be read until the servers are closed. */
    (void) ctki_cluster_close_abandoning (&cluster, 0);
    ck_assert_int_eq (munmap (page, bytes), 0);
    open_pair ();
}
END_TEST

/* The kept envelope outlives the server that received it, small and large. */
START_TEST (lease_outlives_the_server)
{
    static char data[150000];
    ctalk_envelope_t small, large;
    ctki_payload_fill (data, sizeof data, 1, 2, 2);
    ctki_traffic_send (cluster.server[1], 2, 1, "small one");
    ctalk_envelope_t envelope = ctki_traffic_envelope (2, 2, data, sizeof data);
    CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &envelope, -1));
    ctki_traffic_take (cluster.server[2], &small);
    ctki_traffic_take (cluster.server[2], &large);
    ck_assert_int_eq (ctki_cluster_close_abandoning (&cluster, ctki_test_long_ms ()), 0);
    ck_assert_uint_eq (small.size, 9);
    ck_assert_mem_eq (small.data, "small one", 9);
    ck_assert (ctki_payload_ok (large.data, large.size, 1, 2, 2));
    ctalk_envelope_close (&small);
    ctalk_envelope_close (&large);
    open_pair ();
}
END_TEST

/* wait_up for more than there are is EINVAL, for the absent one EAGAIN after its time, for none 0. */
START_TEST (wait_up_errors)
{
    ctalk_server_t *server = cluster.server[1];
    CTKI_FAILS (EINVAL, ctalk_server_wait_up (server, 3, 0));
    CTKI_FAILS (EINVAL, ctalk_server_wait_up (server, SIZE_MAX - 1, 0));
    int64_t start_ms = ctki_test_now_ms ();
    CTKI_FAILS (EAGAIN, ctalk_server_wait_up (server, SIZE_MAX, 60));
    ck_assert_int_ge (ctki_test_now_ms () - start_ms, 59);
    CTKI_FAILS (EAGAIN, ctalk_server_wait_up (server, 2, 0));
    CTKI_SUCCEEDS (ctalk_server_wait_up (server, 0, 0));
    CTKI_SUCCEEDS (ctalk_server_wait_up (server, 1, 0));
}
END_TEST

static void count_error (const ctalk_error_t *error, void *arg)
{
    ck_assert (error->code != 0 && error->text[0]);
    ++*(int *) arg;
}

/* The config calls fail as their doc blocks say, with a text. */
START_TEST (config_errors)
{
    ctalk_error_t error = {0};
    ctalk_config_t *config = ctalk_config_new ();
    ck_assert_ptr_nonnull (config);
    CTKI_SUCCEEDS (ctalk_config_add_server (config, 1, "127.0.0.1:5001", &error));
    CTKI_FAILS (EEXIST, ctalk_config_add_server (config, 1, "127.0.0.1:5002", &error));
    ck_assert_int_eq (error.code, EEXIST);
    CTKI_FAILS (EEXIST, ctalk_config_add_server (config, 2, "tcp://127.0.0.1:5001", NULL));
    CTKI_FAILS (EINVAL, ctalk_config_add_server (config, -1, "127.0.0.1:5003", &error));
    CTKI_FAILS (EINVAL, ctalk_config_add_server (config, 3, "udp://127.0.0.1:5003", &error));
    CTKI_FAILS (EINVAL, ctalk_config_set (config, "NoSuchOption", "1", &error));
    CTKI_FAILS (EINVAL, ctalk_config_set (config, "QueueBytes", "minus one", &error));
    CTKI_FAILS (EINVAL, ctalk_config_set (config, "QueueBytes", "1", &error));
    ck_assert_ptr_nonnull (strstr (error.text, "QueueBytes"));
    errno = 0;
    ck_assert (ctalk_config_get (config, "NoSuchOption") == NULL && errno == EINVAL);
    errno = 0;
    ck_assert (ctalk_config_endpoint (config, 77) == NULL && errno == EHOSTUNREACH);
    ck_assert_str_eq (ctalk_config_endpoint (config, 1), "tcp://127.0.0.1:5001");
    ck_assert_int_eq (ctalk_config_pids (config, NULL, 0), 1);
    ctalk_config_destroy (&config);
    ctalk_config_destroy (&config);
    ctalk_config_destroy (NULL);
}
END_TEST

static void load_fails (const char *path, int code)
{
    ctalk_error_t error = {0};
    int count = 0;
    errno = 0;
    ctalk_config_t *config = ctalk_config_load (path, &error);
    ck_assert_msg (config == NULL && errno == code && error.code == code && error.text[0], "%s: %s, %s", path,
                   strerror (errno), error.text);
    ck_assert_int_ge (ctalk_config_check (path, count_error, &count), 1);
    ck_assert_int_ge (count, 1);
}

/* A config file that is not there, a directory, too large, or not a config: each has its own errno. */
START_TEST (config_file_errors)
{
    char path[] = "/tmp/ctalk-config-XXXXXX";
    int fd = mkstemp (path);
    ck_assert_int_ge (fd, 0);
    load_fails ("/nowhere/at/all.json", ENOENT);
    load_fails ("/tmp", EISDIR);
    ck_assert_int_eq (ftruncate (fd, 1024 * 1024 + 1), 0);
    load_fails (path, EFBIG);
    ck_assert_int_eq (ftruncate (fd, 0), 0);
    load_fails (path, EINVAL);
    ck_assert_int_eq (fchmod (fd, 0), 0);
    if (access (path, R_OK))
        load_fails (path, EACCES); /* not for root */
    (void) close (fd);
    ck_assert_int_eq (unlink (path), 0);
    errno = 0;
    ck_assert (ctalk_config_parse ("{", 1, NULL) == NULL && errno == EINVAL);
}
END_TEST

Suite *ctki_suite_errors (void)
{
    Suite *suite = suite_create ("errors");
    TCase *tcase = ctki_leaks_tcase ("errors", 60);
    tcase_add_checked_fixture (tcase, open_pair, close_pair);
    tcase_add_test (tcase, send_invalid);
    tcase_add_test (tcase, null_and_timeout);
    tcase_add_test (tcase, unknown_pid);
    tcase_add_test (tcase, too_big);
    tcase_add_test (tcase, full_queue);
    tcase_add_test (tcase, if_up);
    tcase_add_test (tcase, failed_receive_zeroes);
    tcase_add_test (tcase, close_envelope_twice);
    tcase_add_test (tcase, envelope_is_read_only);
    tcase_add_test (tcase, lease_outlives_the_server);
    tcase_add_test (tcase, wait_up_errors);
    suite_add_tcase (suite, tcase);
    tcase = ctki_leaks_tcase ("config", 60);
    tcase_add_test (tcase, config_errors);
    tcase_add_test (tcase, config_file_errors);
    suite_add_tcase (suite, tcase);
    return suite;
}
