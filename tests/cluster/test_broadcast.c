/*
 * test_broadcast.c - a broadcast: room in all queues or in none, who is skipped,
 * who waits for whom.
 */
#include "tests/cluster/suites.h"
#include "tests/support/support.h"

#define SMALL "QueueBytes", "65536", "WindowBytes", "131072"
enum { PAYLOAD = 2000 };

static ctki_cluster_t cluster;

/* Sends to pid until there is no room for a while; returns how many it took. */
static int64_t fill (ctalk_server_t *server, ctalk_pid_t pid, int patience_ms)
{
    static const char data[PAYLOAD];
    int64_t count = 0;
    for (;; count++) {
        ctalk_envelope_t envelope = ctki_traffic_envelope (pid, count, data, sizeof data);
        if (ctalk_send (server, &envelope, patience_ms))
            break;
        ck_assert_int_lt (count, 100000);
    }
    ck_assert_int_eq (errno, EAGAIN);
    return count;
}

static void drain (ctalk_server_t *server, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        ctalk_envelope_t envelope;
        ctki_traffic_take (server, &envelope);
        ck_assert_int_eq (envelope.msg_id, i);
        ctalk_envelope_close (&envelope);
    }
}

/* With no peers a broadcast returns 0 and reaches nobody. */
START_TEST (no_peers)
{
    ctki_cluster_open (&cluster, 1, NULL);
    ctki_traffic_send (cluster.server[1], CTALK_BROADCAST, 1, "nobody");
    ctki_traffic_expect_nothing (cluster.server[1], 0);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST).accepted, 0);
    ctki_cluster_close (&cluster);
}
END_TEST

/* While one peer that is not down has no room, a broadcast goes to none; when it has, to all. */
START_TEST (all_or_none)
{
    ctki_cluster_open_up (&cluster, 3, CTKI_OPTIONS (SMALL));
    int64_t count = fill (cluster.server[1], 2, ctki_test_ms (200));
    ctalk_envelope_t envelope = ctki_traffic_envelope (CTALK_BROADCAST, count, "all", 3);
    CTKI_FAILS (EAGAIN, ctalk_send (cluster.server[1], &envelope, 0));
    CTKI_FAILS (EAGAIN, ctalk_send (cluster.server[1], &envelope, 50));
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 3).accepted, 0);
    ctki_traffic_expect_nothing (cluster.server[3], 0);
    drain (cluster.server[2], count);
    CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &envelope, ctki_test_long_ms ()));
    ctki_traffic_expect (cluster.server[2], 1, count, "all");
    ctki_traffic_expect (cluster.server[3], 1, count, "all");
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST).skipped, 0);
    ctki_cluster_close (&cluster);
}
END_TEST

/* A peer that is down gets a broadcast into its queue while there is room; with a full queue it is skipped and counted.
 */
START_TEST (down_and_full_is_skipped)
{
    ctki_cluster_open_absent (&cluster, 2, CTKI_OPTIONS (SMALL, CTKI_FAST_FAILURE));
    ctki_cluster_await_state (cluster.server[1], cluster.absent, CTALK_STATE_DOWN);
    ctki_traffic_send (cluster.server[1], CTALK_BROADCAST, 1, "queued");
    ctki_traffic_expect (cluster.server[2], 1, 1, "queued");
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], cluster.absent).queued, 1);
    uint64_t queued = (uint64_t) fill (cluster.server[1], cluster.absent, 0) + 1;
    ctalk_envelope_t envelope = ctki_traffic_envelope (CTALK_BROADCAST, 2, "skips", 5);
    for (uint64_t i = 1; i <= 3; i++) {
        CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &envelope, 0));
        ctki_traffic_expect (cluster.server[2], 1, 2, "skips");
        ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], cluster.absent).skipped, i);
    }
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST).skipped, 3);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], cluster.absent).queued, queued);
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], 2, ctki_test_long_ms ()));
    ck_assert_int_eq (ctki_cluster_close_abandoning (&cluster, 0), (int) queued);
}
END_TEST

typedef struct {
    ctalk_server_t *server;
    ctalk_pid_t pid;
    int64_t msg_id;
    int code; /* 0: it is accepted */
} task_t;

static bool send_waiting (void *arg, ctki_trouble_t *trouble)
{
    const task_t *task = arg;
    ctalk_envelope_t envelope = ctki_traffic_envelope (task->pid, task->msg_id, "w", 1);
    int rc = ctalk_send (task->server, &envelope, -1);
    CTKI_EXPECT_EQUAL (trouble, rc ? errno : 0, task->code);
    return true;
}

static void start_waiting (ctki_test_thread_t *thread, task_t *task)
{
    ctki_test_thread_start (thread, send_waiting, task);
    ctki_test_thread_await_blocked (thread);
}

/* While a broadcast waits for one peer, later sends to that peer wait behind it, also in a second broadcast; sends to
 * the other peers pass at once. */
START_TEST (waiting_is_not_overtaken)
{
    ctki_test_thread_t threads[3];
    ctki_cluster_open_up (&cluster, 3, CTKI_OPTIONS (SMALL));
    int64_t count = fill (cluster.server[1], 2, ctki_test_ms (200));
    task_t tasks[3] = {
        {cluster.server[1], CTALK_BROADCAST, count, 0},
        {cluster.server[1], 2, count + 1, 0},
        {cluster.server[1], CTALK_BROADCAST, count + 2, 0},
    };
    for (int i = 0; i < 3; i++)
        start_waiting (&threads[i], &tasks[i]);
    ctki_traffic_send (cluster.server[1], 3, 100000, "passes");
    ctki_traffic_expect (cluster.server[3], 1, 100000, "passes");
    drain (cluster.server[2], count);
    for (int64_t i = 0; i < 3; i++)
        ctki_traffic_expect (cluster.server[2], 1, count + i, "w");
    ctki_traffic_expect (cluster.server[3], 1, count, "w");
    ctki_traffic_expect (cluster.server[3], 1, count + 2, "w");
    for (int i = 0; i < 3; i++)
        ctki_test_thread_join (&threads[i]);
    ctki_cluster_close (&cluster);
}
END_TEST

/* Senders that wait for one peer are served in the order in which they came. */
START_TEST (waiting_senders_in_line)
{
    enum { WAITING = 6 };
    ctki_test_thread_t threads[WAITING];
    task_t tasks[WAITING];
    ctki_cluster_open_up (&cluster, 2, CTKI_OPTIONS (SMALL));
    int64_t count = fill (cluster.server[1], 2, ctki_test_ms (200));
    for (int i = 0; i < WAITING; i++) {
        tasks[i] = (task_t){cluster.server[1], 2, count + i, 0};
        start_waiting (&threads[i], &tasks[i]);
    }
    drain (cluster.server[2], count);
    for (int64_t i = 0; i < WAITING; i++)
        ctki_traffic_expect (cluster.server[2], 1, count + i, "w");
    for (int i = 0; i < WAITING; i++)
        ctki_test_thread_join (&threads[i]);
    ctki_cluster_close (&cluster);
}
END_TEST

/* A broadcast that gives up gives way: the send behind it is served, and nothing of the broadcast arrives. */
START_TEST (waiting_gives_up)
{
    ctki_test_thread_t thread;
    ctki_cluster_open_up (&cluster, 3, CTKI_OPTIONS (SMALL));
    int64_t count = fill (cluster.server[1], 2, ctki_test_ms (200));
    ctalk_envelope_t envelope = ctki_traffic_envelope (CTALK_BROADCAST, -1, "no", 2);
    CTKI_FAILS (EAGAIN, ctalk_send (cluster.server[1], &envelope, 50));
    task_t task = {cluster.server[1], 2, count, 0};
    start_waiting (&thread, &task);
    CTKI_FAILS (EAGAIN, ctalk_send (cluster.server[1], &envelope, 50));
    drain (cluster.server[2], count);
    ctki_traffic_expect (cluster.server[2], 1, count, "w");
    ctki_test_thread_join (&thread);
    ctki_traffic_expect_nothing (cluster.server[3], 0);
    ctki_cluster_close (&cluster);
}
END_TEST

/* A waiting broadcast goes on to the others when the peer that it waits for is removed. */
START_TEST (waits_for_a_removed_peer)
{
    ctki_test_thread_t thread;
    ctki_cluster_open_absent (&cluster, 2, CTKI_OPTIONS (SMALL));
    int64_t count = fill (cluster.server[1], cluster.absent, 0);
    task_t task = {cluster.server[1], CTALK_BROADCAST, 7, 0};
    start_waiting (&thread, &task);
    CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[1], cluster.absent));
    ctki_traffic_expect (cluster.server[2], 1, 7, "w");
    ctki_test_thread_join (&thread);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST).abandoned, (uint64_t) count);
    ck_assert_int_eq (ctki_cluster_close_abandoning (&cluster, ctki_test_long_ms ()), 0);
}
END_TEST

/* It goes on when that peer is found to be down: then it is skipped. */
START_TEST (waits_for_a_peer_that_goes_down)
{
    ctki_test_thread_t thread;
    ctki_cluster_open_absent (&cluster, 2, CTKI_OPTIONS (SMALL, CTKI_FAST_FAILURE));
    CTKI_SUCCEEDS (ctalk_server_wait_up (cluster.server[1], 1, ctki_test_long_ms ()));
    int64_t count = fill (cluster.server[1], cluster.absent, 0);
    task_t task = {cluster.server[1], CTALK_BROADCAST, 7, 0};
    ctki_test_thread_start (&thread, send_waiting, &task);
    ctki_traffic_expect (cluster.server[2], 1, 7, "w");
    ctki_test_thread_join (&thread);
    ck_assert_int_eq (ctalk_server_peer_state (cluster.server[1], cluster.absent), CTALK_STATE_DOWN);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], cluster.absent).skipped, 1);
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], 2, ctki_test_long_ms ()));
    ck_assert_int_eq (ctki_cluster_close_abandoning (&cluster, 0), (int) count);
}
END_TEST

/* It goes on when that peer leaves: a peer that left is down at once. */
START_TEST (waits_for_a_peer_that_leaves)
{
    ctki_test_thread_t thread;
    ctki_cluster_open_up (&cluster, 3, CTKI_OPTIONS (SMALL));
    (void) fill (cluster.server[1], 2, ctki_test_ms (200));
    task_t task = {cluster.server[1], CTALK_BROADCAST, 7, 0};
    start_waiting (&thread, &task);
    ctki_cluster_close_one (&cluster, 2, ctki_test_long_ms (), 0);
    ctki_traffic_expect (cluster.server[3], 1, 7, "w");
    ctki_test_thread_join (&thread);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 2).skipped, 1);
    uint64_t queued = ctki_cluster_stats (cluster.server[1], 2).queued;
    ck_assert_uint_gt (queued, 0);
    ck_assert_int_eq (ctki_cluster_close_abandoning (&cluster, ctki_test_ms (500)), (int) queued);
}
END_TEST

/* Close ends it with ESHUTDOWN, and it was sent to nobody. */
START_TEST (waiting_at_close)
{
    ctki_test_thread_t threads[2];
    ctki_cluster_open_absent (&cluster, 2, CTKI_OPTIONS (SMALL));
    int64_t count = fill (cluster.server[1], cluster.absent, 0);
    task_t tasks[2] = {{cluster.server[1], CTALK_BROADCAST, 7, ESHUTDOWN},
                       {cluster.server[1], cluster.absent, 8, ESHUTDOWN}};
    start_waiting (&threads[0], &tasks[0]);
    start_waiting (&threads[1], &tasks[1]);
    ctki_cluster_close_one (&cluster, 1, 50, (int) count);
    ctki_test_thread_join (&threads[0]);
    ctki_test_thread_join (&threads[1]);
    ctki_traffic_expect_nothing (cluster.server[2], 0);
    ctki_cluster_close (&cluster);
}
END_TEST

Suite *ctki_suite_broadcast (void)
{
    Suite *suite = suite_create ("broadcast");
    TCase *tcase = ctki_leaks_tcase ("broadcast", 60);
    tcase_add_test (tcase, no_peers);
    tcase_add_test (tcase, all_or_none);
    tcase_add_test (tcase, down_and_full_is_skipped);
    tcase_add_test (tcase, waiting_is_not_overtaken);
    tcase_add_test (tcase, waiting_senders_in_line);
    tcase_add_test (tcase, waiting_gives_up);
    tcase_add_test (tcase, waits_for_a_removed_peer);
    tcase_add_test (tcase, waits_for_a_peer_that_goes_down);
    tcase_add_test (tcase, waits_for_a_peer_that_leaves);
    tcase_add_test (tcase, waiting_at_close);
    suite_add_tcase (suite, tcase);
    return suite;
}
