/*
 * test_many.c - ctalk_send_many () and ctalk_recv_many ().
 */
#include <stdlib.h>

#include "tests/cluster/suites.h"
#include "tests/support/support.h"

enum { BATCH = 100 };

static void number (ctalk_envelope_t *envelopes, size_t count, ctalk_pid_t pid, const void *data, size_t size)
{
    for (size_t i = 0; i < count; i++)
        envelopes[i] = ctki_traffic_envelope (pid, (int64_t) i, data, size);
}

/* Many envelopes to several receivers in one call arrive in order at each; a receive takes as many as it has room for.
 */
START_TEST (many_in_order)
{
    ctki_cluster_t cluster;
    ctalk_envelope_t envelopes[BATCH], got[7];
    ctki_cluster_open_up (&cluster, 3, NULL);
    number (envelopes, BATCH, 2, "payload", 7);
    for (size_t i = 0; i < BATCH; i += 2)
        envelopes[i].pid = i % 10 ? 3 : CTALK_BROADCAST;
    ck_assert_int_eq (ctalk_send_many (cluster.server[1], envelopes, BATCH, ctki_test_long_ms ()), BATCH);
    for (ctalk_pid_t pid = 2; pid <= 3; pid++) {
        int64_t last = -1;
        size_t want = pid == 2 ? 60 : 50, count = 0;
        while (count < want) {
            int n = ctalk_recv_many (cluster.server[pid], got, 7, ctki_test_long_ms ());
            ck_assert_int_ge (n, 1);
            ck_assert_int_le (n, 7);
            for (int i = 0; i < n; i++) {
                ck_assert_int_gt (got[i].msg_id, last);
                last = got[i].msg_id;
                ck_assert (envelopes[last].pid == pid || envelopes[last].pid == CTALK_BROADCAST);
                ck_assert_mem_eq (got[i].data, "payload", 7);
                ctalk_envelope_close (&got[i]);
            }
            count += (size_t) n;
        }
        ck_assert_uint_eq (count, want);
        ctki_traffic_expect_nothing (cluster.server[pid], 0);
    }
    ctki_cluster_close (&cluster);
}
END_TEST

/* When room runs out, the envelopes up to there are accepted and counted, and errno says EAGAIN. */
START_TEST (partial_when_full)
{
    static char data[1000];
    ctki_cluster_t cluster;
    ctalk_envelope_t envelopes[BATCH];
    ctki_cluster_open_absent (&cluster, 1, CTKI_OPTIONS ("QueueBytes", "65536"));
    number (envelopes, BATCH, cluster.absent, data, sizeof data);
    errno = 0;
    int n = ctalk_send_many (cluster.server[1], envelopes, BATCH, 20);
    ck_assert_int_eq (errno, EAGAIN);
    ck_assert_int_ge (n, 65536 / 1064);
    ck_assert_int_le (n, 65536 / 1064 + 1);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], cluster.absent).accepted, (uint64_t) n);
    CTKI_FAILS (EAGAIN, ctalk_send_many (cluster.server[1], envelopes, BATCH, 0));
    ck_assert_int_eq (ctki_cluster_close_abandoning (&cluster, 0), n);
}
END_TEST

/* One envelope that is not valid ends the call there: those before it are sent, none after it. */
START_TEST (partial_when_invalid)
{
    static const struct {
        ctalk_envelope_t wrong;
        int code;
    } cases[] = {
        {{.pid = 2, .data = NULL, .size = 1}, EINVAL},
        {{.pid = 77, .data = "x", .size = 1}, EHOSTUNREACH},
        {{.pid = 2, .data = "x", .size = 1u << 30}, EMSGSIZE},
        {{.pid = 3, .data = "x", .size = 1, .flags = CTALK_IF_UP}, EHOSTDOWN},
    };
    ctki_cluster_t cluster;
    ctalk_envelope_t envelopes[10];
    ctki_cluster_open_absent (&cluster, 2, NULL);
    CTKI_SUCCEEDS (ctalk_server_wait_up (cluster.server[1], 1, ctki_test_long_ms ()));
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        number (envelopes, 10, 2, "x", 1);
        envelopes[4] = cases[c].wrong;
        errno = 0;
        ck_assert_int_eq (ctalk_send_many (cluster.server[1], envelopes, 10, -1), 4);
        ck_assert_int_eq (errno, cases[c].code);
        for (int64_t i = 0; i < 4; i++)
            ctki_traffic_expect (cluster.server[2], 1, i, "x");
        CTKI_FAILS (cases[c].code, ctalk_send_many (cluster.server[1], envelopes + 4, 6, -1));
    }
    ctki_traffic_expect_nothing (cluster.server[2], 0);
    ctki_cluster_close (&cluster);
}
END_TEST

/* No envelopes to send is 0, even without an array. */
START_TEST (none)
{
    ctki_cluster_t cluster;
    ctki_cluster_open (&cluster, 2, NULL);
    ck_assert_int_eq (ctalk_send_many (cluster.server[1], NULL, 0, 0), 0);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST).accepted, 0);
    ctki_cluster_close (&cluster);
}
END_TEST

typedef struct {
    ctalk_server_t *server;
    size_t count;
} task_t;

static bool send_batches (void *arg, ctki_trouble_t *trouble)
{
    static const char data[8000];
    const task_t *task = arg;
    ctalk_envelope_t envelopes[BATCH];
    size_t sent = 0;
    while (sent < task->count) {
        size_t count = CTKI_MIN ((size_t) BATCH, task->count - sent);
        for (size_t i = 0; i < count; i++) {
            size_t n = sent + i;
            envelopes[i] = ctki_traffic_envelope (2, (int64_t) n, data, n % 50 == 0 ? sizeof data : n % 100);
        }
        int rc = ctalk_send_many (task->server, envelopes, count, ctki_test_long_ms ());
        CTKI_EXPECT (trouble, rc > 0);
        sent += (size_t) rc;
    }
    return true;
}

/* Batches sent through a small queue, each waiting for room, arrive complete and in order. */
START_TEST (batches_through_a_small_queue)
{
    ctki_cluster_t cluster;
    ctki_test_thread_t thread;
    size_t count = ctki_test_count (20000), next = 0;
    ctki_cluster_open_up (&cluster, 2, CTKI_OPTIONS ("QueueBytes", "65536", "WindowBytes", "131072"));
    task_t task = {cluster.server[1], count};
    ctki_test_thread_start (&thread, send_batches, &task);
    while (next < count) {
        ctalk_envelope_t got[BATCH];
        int n = ctalk_recv_many (cluster.server[2], got, BATCH, ctki_test_long_ms ());
        ck_assert_int_ge (n, 1);
        for (int i = 0; i < n; i++, next++) {
            ck_assert_int_eq (got[i].msg_id, (int64_t) next);
            ck_assert_uint_eq (got[i].size, next % 50 == 0 ? 8000 : next % 100);
            ctalk_envelope_close (&got[i]);
        }
    }
    ctki_test_thread_join (&thread);
    ctki_cluster_close (&cluster);
    ctki_test_figure ("batches_through_a_small", "%zu envelopes", count);
}
END_TEST

Suite *ctki_suite_many (void)
{
    Suite *suite = suite_create ("many");
    TCase *tcase = ctki_leaks_tcase ("many", 100);
    tcase_add_test (tcase, many_in_order);
    tcase_add_test (tcase, partial_when_full);
    tcase_add_test (tcase, partial_when_invalid);
    tcase_add_test (tcase, none);
    tcase_add_test (tcase, batches_through_a_small_queue);
    suite_add_tcase (suite, tcase);
    return suite;
}
