/*
 * test_threads.c - several threads send and several receive on one server.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "tests/cluster/suites.h"
#include "tests/support/support.h"

enum { SENDERS = 4, RECEIVERS = 4, LANE = 1000000 };

typedef struct {
    ctalk_server_t *server;
    int64_t lane; /* of a sender: its numbers start at lane * LANE */
    int64_t count;
    ctalk_pid_t dst;
} sender_t;

static bool send_lane (void *arg, ctki_trouble_t *trouble)
{
    const sender_t *sender = arg;
    char data[6000];
    for (int64_t i = 0; i < sender->count; i++) {
        int64_t number = sender->lane * LANE + i;
        size_t size = i % 20 == 0 ? sizeof data : (size_t) (i % 100);
        ctki_payload_fill (data, size, ctalk_server_pid (sender->server), sender->dst, number);
        ctalk_envelope_t envelope = ctki_traffic_envelope (sender->dst, number, data, size);
        CTKI_EXPECT_EQUAL (trouble, ctalk_send (sender->server, &envelope, ctki_test_long_ms ()), 0);
    }
    return true;
}

/* Several threads send to one peer: each one's envelopes arrive in its order, all of them. */
START_TEST (several_senders)
{
    ctki_cluster_t cluster;
    ctki_test_thread_t threads[SENDERS];
    sender_t senders[SENDERS];
    int64_t next[SENDERS] = {0}, count = (int64_t) ctki_test_count (5000);
    ctki_cluster_open_up (&cluster, 2, NULL);
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (sender_t){cluster.server[1], i, count, 2};
        ctki_test_thread_start (&threads[i], send_lane, &senders[i]);
    }
    for (int64_t i = 0; i < SENDERS * count; i++) {
        ctalk_envelope_t got;
        ctki_traffic_take (cluster.server[2], &got);
        int64_t lane = got.msg_id / LANE;
        ck_assert_int_eq (got.msg_id % LANE, next[(size_t) lane % SENDERS]++);
        ck_assert_int_lt (lane, SENDERS);
        ck_assert (ctki_payload_ok (got.data, got.size, 1, 2, got.msg_id));
        ctalk_envelope_close (&got);
    }
    for (int i = 0; i < SENDERS; i++)
        ctki_test_thread_join (&threads[i]);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 2).accepted, (uint64_t) (SENDERS * count));
    ctki_cluster_close (&cluster);
    ctki_test_figure ("several_senders", "%d threads, %lld each", SENDERS, (long long) count);
}
END_TEST

/* What the receivers found together, under a lock of the test. */
typedef struct {
    pthread_mutex_t lock;
    ctalk_server_t *server;
    int64_t want, got;
    int64_t per_peer;
    uint8_t *seen; /* by peer and number */
    int64_t twice;
    int64_t by_thread[RECEIVERS];
    atomic_int next_thread;
} pool_t;

static bool note (pool_t *pool, const ctalk_envelope_t *envelope, int thread)
{
    uint8_t *seen = &pool->seen[(envelope->pid - 1) * pool->per_peer + envelope->msg_id];
    pool->twice += *seen;
    *seen = 1;
    pool->by_thread[thread]++;
    return ++pool->got == pool->want;
}

/* Receives until all have all; the last envelope's finder wakes the others. Each thread sees each peer in order. */
static bool receive_pool (void *arg, ctki_trouble_t *trouble)
{
    pool_t *pool = arg;
    int self = atomic_fetch_add (&pool->next_thread, 1);
    int64_t last[SENDERS + 2];
    memset (last, 0xff, sizeof last);
    for (;;) {
        ctalk_envelope_t got[3];
        int n = ctalk_recv_many (pool->server, got, self % 2 ? 3 : 1, ctki_test_long_ms ());
        if (n < 0 && errno == EINTR)
            return ctalk_server_wake (pool->server) == 0; /* passes it on */
        CTKI_EXPECT (trouble, n > 0);
        bool last_one = false;
        for (int i = 0; i < n; i++) {
            CTKI_EXPECT (trouble, got[i].msg_id >= 0 && got[i].msg_id < pool->per_peer);
            CTKI_EXPECT (trouble, got[i].msg_id > last[got[i].pid]);
            last[got[i].pid] = got[i].msg_id;
            CTKI_EXPECT (trouble, ctki_payload_ok (got[i].data, got[i].size, got[i].pid, 1, got[i].msg_id));
            (void) pthread_mutex_lock (&pool->lock);
            last_one = note (pool, &got[i], self) || last_one;
            (void) pthread_mutex_unlock (&pool->lock);
            ctalk_envelope_close (&got[i]);
        }
        if (last_one)
            return ctalk_server_wake (pool->server) == 0;
    }
}

static void many_receivers (const char *const *options, int64_t count)
{
    ctki_cluster_t cluster;
    ctki_test_thread_t receivers[RECEIVERS], threads[SENDERS];
    sender_t senders[SENDERS];
    pool_t pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .want = SENDERS * count, .per_peer = count};
    ctki_cluster_open_up (&cluster, SENDERS + 1, options);
    pool.server = cluster.server[1];
    pool.seen = calloc ((size_t) (count * (SENDERS + 1)), 1);
    ck_assert_ptr_nonnull (pool.seen);
    for (int i = 0; i < RECEIVERS; i++)
        ctki_test_thread_start (&receivers[i], receive_pool, &pool);
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (sender_t){cluster.server[i + 2], 0, count, 1};
        ctki_test_thread_start (&threads[i], send_lane, &senders[i]);
    }
    for (int i = 0; i < SENDERS; i++)
        ctki_test_thread_join (&threads[i]);
    for (int i = 0; i < RECEIVERS; i++)
        ctki_test_thread_join (&receivers[i]);
    ck_assert_int_eq (pool.got, pool.want);
    ck_assert_int_eq (pool.twice, 0);
    ctki_test_figure ("several_receivers", "%lld %lld %lld %lld envelopes by thread", (long long) pool.by_thread[0],
                      (long long) pool.by_thread[1], (long long) pool.by_thread[2], (long long) pool.by_thread[3]);
    free (pool.seen);
    /* The last wake may wait for a receive that never came: take it, so that what follows is not ended by it. */
    ctalk_envelope_t envelope;
    ck_assert_int_eq (ctalk_recv (cluster.server[1], &envelope, 0), -1);
    ctki_cluster_close (&cluster);
}

/* Several threads receive: each envelope goes to one of them, all arrive, and each thread sees each peer in order. */
START_TEST (several_receivers)
{
    many_receivers (NULL, (int64_t) ctki_test_count (5000));
}
END_TEST

/* The same without help, and with small windows. */
START_TEST (several_receivers_without_help)
{
    many_receivers (CTKI_OPTIONS ("Help", "off", "WindowBytes", "131072", "QueueBytes", "65536"),
                    (int64_t) ctki_test_count (3000));
}
END_TEST

/* A ticket for the order in which several threads took the envelopes. */
typedef struct {
    ctalk_server_t *server;
    pthread_mutex_t lock;
    int64_t next;
    int64_t count;
} ticket_t;

static bool receive_by_ticket (void *arg, ctki_trouble_t *trouble)
{
    ticket_t *ticket = arg;
    for (bool more = true; more;) {
        ctalk_envelope_t got = {0};
        (void) pthread_mutex_lock (&ticket->lock);
        bool good = true;
        more = ticket->next < ticket->count;
        if (more)
            good = ctalk_recv (ticket->server, &got, ctki_test_long_ms ()) == 0 && got.msg_id == ticket->next++;
        (void) pthread_mutex_unlock (&ticket->lock);
        ctalk_envelope_close (&got);
        CTKI_EXPECT (trouble, good);
    }
    return true;
}

/* Threads that receive in turn hand out the envelopes of one peer in order: no thread keeps some for itself. */
START_TEST (order_across_receivers)
{
    ctki_cluster_t cluster;
    ctki_test_thread_t receivers[RECEIVERS], thread;
    int64_t count = (int64_t) ctki_test_count (20000);
    ctki_cluster_open_up (&cluster, 2, NULL);
    ticket_t ticket = {cluster.server[2], PTHREAD_MUTEX_INITIALIZER, 0, count};
    for (int i = 0; i < RECEIVERS; i++)
        ctki_test_thread_start (&receivers[i], receive_by_ticket, &ticket);
    sender_t sender = {cluster.server[1], 0, count, 2};
    ctki_test_thread_start (&thread, send_lane, &sender);
    ctki_test_thread_join (&thread);
    for (int i = 0; i < RECEIVERS; i++)
        ctki_test_thread_join (&receivers[i]);
    ctki_cluster_close (&cluster);
}
END_TEST

static bool echo_some (void *arg, ctki_trouble_t *trouble)
{
    const sender_t *task = arg;
    for (int64_t i = 0; i < task->count; i++) {
        ctalk_envelope_t got;
        CTKI_EXPECT_EQUAL (trouble, ctalk_recv (task->server, &got, ctki_test_long_ms ()), 0);
        CTKI_EXPECT_EQUAL (trouble, ctalk_send (task->server, &got, ctki_test_long_ms ()), 0);
        ctalk_envelope_close (&got);
    }
    return true;
}

static bool call_some (void *arg, ctki_trouble_t *trouble)
{
    const sender_t *task = arg;
    for (int64_t i = 0; i < task->count; i++) {
        ctalk_envelope_t envelope = ctki_traffic_envelope (task->dst, i, &i, sizeof i), got;
        CTKI_EXPECT_EQUAL (trouble, ctalk_send (task->server, &envelope, ctki_test_long_ms ()), 0);
        CTKI_EXPECT_EQUAL (trouble, ctalk_recv (task->server, &got, ctki_test_long_ms ()), 0);
        bool good = got.msg_id == i && got.size == sizeof i && memcmp (got.data, &i, sizeof i) == 0;
        ctalk_envelope_close (&got);
        CTKI_EXPECT (trouble, good);
    }
    return true;
}

/* Question and answer, one at a time: no wake-up is ever lost, with a receiver that leads and one that comes and goes.
 */
START_TEST (ping_pong)
{
    static const char *const modes[][2] = {{"Help", "on"}, {"Help", "off"}, {"SpinMicros", "20"}};
    int64_t count = (int64_t) ctki_test_count (5000);
    for (size_t m = 0; m < 3; m++) {
        ctki_cluster_t cluster;
        ctki_test_thread_t threads[2];
        ctki_cluster_open_up (&cluster, 2, CTKI_OPTIONS (modes[m][0], modes[m][1]));
        int64_t start_ms = ctki_test_now_ms ();
        sender_t caller = {cluster.server[1], 0, count, 2}, echo = {cluster.server[2], 0, count, 1};
        ctki_test_thread_start (&threads[0], call_some, &caller);
        ctki_test_thread_start (&threads[1], echo_some, &echo);
        ctki_test_thread_join (&threads[0]);
        ctki_test_thread_join (&threads[1]);
        int64_t took_ms = ctki_test_now_ms () - start_ms;
        ctki_cluster_close (&cluster);
        ctki_test_figure ("ping_pong", "%s %s: %lld round trips, %lld us each", modes[m][0], modes[m][1],
                          (long long) count, (long long) (took_ms * 1000 / count));
    }
}
END_TEST

Suite *ctki_suite_threads (void)
{
    Suite *suite = suite_create ("threads");
    TCase *tcase = ctki_leaks_tcase ("threads", 180);
    tcase_add_test (tcase, several_senders);
    tcase_add_test (tcase, several_receivers);
    tcase_add_test (tcase, several_receivers_without_help);
    tcase_add_test (tcase, order_across_receivers);
    tcase_add_test (tcase, ping_pong);
    suite_add_tcase (suite, tcase);
    return suite;
}
