/*
 * test_members.c - peers that are added and removed while the server runs.
 */
#include "src/session.h"
#include "src/sock.h"
#include "src/sys.h"
#include "src/wire.h"
#include "tests/cluster/suites.h"
#include "tests/support/support.h"

static ctki_cluster_t cluster;

/* What is there already, is not a pid, is the own pid, or cannot be connected to, is refused. */
START_TEST (add_errors)
{
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctalk_server_t *server = cluster.server[1];
    CTKI_FAILS (EEXIST, ctalk_server_add_peer (server, 2, "127.0.0.1:9"));
    CTKI_FAILS (EINVAL, ctalk_server_add_peer (server, -1, "127.0.0.1:9"));
    CTKI_FAILS (EINVAL, ctalk_server_add_peer (server, -7, "127.0.0.1:9"));
    CTKI_FAILS (EINVAL, ctalk_server_add_peer (server, 1, "127.0.0.1:9"));
    CTKI_FAILS (EINVAL, ctalk_server_add_peer (server, 3, NULL));
    CTKI_FAILS (EINVAL, ctalk_server_add_peer (server, 3, ""));
    CTKI_FAILS (EINVAL, ctalk_server_add_peer (server, 3, "127.0.0.1:0"));
    CTKI_FAILS (EINVAL, ctalk_server_add_peer (server, 3, "127.0.0.1:*"));
    CTKI_FAILS (EINVAL, ctalk_server_add_peer (server, 3, "*:5001"));
    CTKI_FAILS (EINVAL, ctalk_server_add_peer (server, 3, "udp://127.0.0.1:5001"));
    CTKI_FAILS (EINVAL, ctalk_server_add_peer (NULL, 3, "127.0.0.1:9"));
    ck_assert_int_eq (ctalk_server_peers (server, NULL, 0), 1);
    ctki_traffic_exchange (&cluster, 20);
    ctki_cluster_close (&cluster);
}
END_TEST

/* Who is not there, is not a pid, or is this server itself, cannot be removed. */
START_TEST (remove_errors)
{
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctalk_server_t *server = cluster.server[1];
    CTKI_FAILS (ESRCH, ctalk_server_remove_peer (server, 3));
    CTKI_FAILS (EINVAL, ctalk_server_remove_peer (server, -1));
    CTKI_FAILS (EINVAL, ctalk_server_remove_peer (NULL, 2));
    ck_assert_int_eq (ctalk_server_remove_peer (server, 1), -1);
    CTKI_SUCCEEDS (ctalk_server_remove_peer (server, 2));
    CTKI_FAILS (ESRCH, ctalk_server_remove_peer (server, 2));
    ck_assert_int_eq (ctalk_server_peers (server, NULL, 0), 0);
    ctki_cluster_close (&cluster);
}
END_TEST

/* A third server joins two that talk: from then on all three do. */
START_TEST (one_joins)
{
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctki_traffic_exchange (&cluster, 50);
    ctki_cluster_list (cluster.config, 3, 0);
    ctalk_server_t *third = ctki_cluster_start (3, cluster.config);
    cluster.server[3] = third;
    cluster.count = 3;
    for (ctalk_pid_t pid = 1; pid <= 2; pid++) {
        CTKI_SUCCEEDS (ctalk_server_add_peer (cluster.server[pid], 3, ctalk_server_endpoint (third)));
        CTKI_SUCCEEDS (ctalk_server_add_peer (third, pid, ctalk_server_endpoint (cluster.server[pid])));
        CTKI_FAILS (EEXIST, ctalk_server_add_peer (third, pid, ctalk_server_endpoint (cluster.server[pid])));
    }
    ctki_cluster_wait_up (&cluster);
    ctki_traffic_exchange (&cluster, 50);
    ctki_traffic_send (third, CTALK_BROADCAST, 1, "hello");
    ctki_traffic_expect (cluster.server[1], 3, 1, "hello");
    ctki_traffic_expect (cluster.server[2], 3, 1, "hello");
    ctki_cluster_close (&cluster);
}
END_TEST

/* A removed peer is gone on both lists of this server: it is sent nothing, gets no broadcast; what it had sent stays.
 */
START_TEST (one_is_removed)
{
    ctki_cluster_open_up (&cluster, 3, NULL);
    ctki_traffic_send (cluster.server[3], 1, 1, "stays in the inbox");
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[3], 1, ctki_test_long_ms ()));
    int64_t start_ms = ctki_test_now_ms ();
    CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[1], 3));
    int64_t took_ms = ctki_test_now_ms () - start_ms;
    ck_assert_int_le (took_ms, ctki_test_ms (500));
    ctalk_pid_t pids[3];
    ck_assert_int_eq (ctalk_server_peers (cluster.server[1], pids, 3), 1);
    ck_assert_int_eq (pids[0], 2);
    ctalk_envelope_t envelope = ctki_traffic_envelope (3, 1, "x", 1);
    CTKI_FAILS (EHOSTUNREACH, ctalk_send (cluster.server[1], &envelope, 0));
    CTKI_FAILS (EHOSTUNREACH, ctalk_server_peer_state (cluster.server[1], 3));
    ctki_traffic_send (cluster.server[1], CTALK_BROADCAST, 2, "to the rest");
    ctki_traffic_expect (cluster.server[2], 1, 2, "to the rest");
    ctki_traffic_expect_nothing (cluster.server[3], ctki_test_ms (20));
    ctki_traffic_expect (cluster.server[1], 3, 1, "stays in the inbox");
    ctki_traffic_send (cluster.server[3], 2, 3, "two and three still talk");
    ctki_traffic_expect (cluster.server[2], 3, 3, "two and three still talk");
    CTKI_SUCCEEDS (ctalk_server_wait_up (cluster.server[1], SIZE_MAX, ctki_test_long_ms ()));
    ctki_cluster_close (&cluster);
    ctki_test_figure ("one_is_removed", "in %lld ms", (long long) took_ms);
}
END_TEST

/* What a removed peer sends is not taken; when both have removed each other and close, nothing waits. */
START_TEST (removed_peer_is_not_heard)
{
    ctki_cluster_open_up (&cluster, 2, NULL);
    CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[1], 2));
    ctki_traffic_send (cluster.server[2], 1, 1, "not heard");
    ctki_traffic_expect_nothing (cluster.server[1], ctki_test_ms (200));
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[2], 1).delivered, 0);
    CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[2], 1));
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[2], CTALK_BROADCAST).abandoned, 1);
    ctki_cluster_close (&cluster);
}
END_TEST

/* What is queued for a peer that is removed is abandoned and counted; close does not count it again. */
START_TEST (abandoned_is_counted)
{
    ctki_cluster_open_absent (&cluster, 1, NULL);
    for (int64_t i = 0; i < 100; i++)
        ctki_traffic_send (cluster.server[1], cluster.absent, i, "for nobody");
    CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[1], cluster.absent));
    ctalk_stats_t stats = ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST);
    ck_assert_uint_eq (stats.accepted, 100);
    ck_assert_uint_eq (stats.abandoned, 100);
    ck_assert_uint_eq (stats.in_doubt, 0);
    ck_assert_uint_eq (stats.queued, 0);
    ck_assert_uint_eq (stats.queued_bytes, 0);
    ctki_cluster_close (&cluster);
}
END_TEST

typedef struct {
    ctalk_server_t *server;
    int code;
} task_t;

static bool send_to_full (void *arg, ctki_trouble_t *trouble)
{
    const task_t *task = arg;
    ctalk_envelope_t envelope = ctki_traffic_envelope (cluster.absent, 1, "x", 1);
    CTKI_EXPECT_EQUAL (trouble, ctalk_send (task->server, &envelope, -1), -1);
    CTKI_EXPECT_EQUAL (trouble, errno, task->code);
    return true;
}

/* A send that waits for room at a peer that is removed ends with EHOSTUNREACH. */
START_TEST (waiting_send_ends)
{
    static const char data[1000];
    ctki_test_thread_t thread;
    ctki_cluster_open_absent (&cluster, 1, CTKI_OPTIONS ("QueueBytes", "65536"));
    ctalk_envelope_t envelope = ctki_traffic_envelope (cluster.absent, 1, data, sizeof data);
    while (ctalk_send (cluster.server[1], &envelope, 0) == 0) {
    }
    task_t task = {cluster.server[1], EHOSTUNREACH};
    ctki_test_thread_start (&thread, send_to_full, &task);
    ctki_test_thread_await_blocked (&thread);
    CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[1], cluster.absent));
    ctki_test_thread_join (&thread);
    ctki_cluster_close (&cluster);
}
END_TEST

/* A lazy peer to which nothing was ever sent is removed as well, and can be added again. */
START_TEST (idle_peer_is_removed)
{
    ctki_cluster_open (&cluster, 2, CTKI_OPTIONS ("Senders", "lazy"));
    const char *endpoint = ctalk_server_endpoint (cluster.server[2]);
    for (int i = 0; i < 3; i++) {
        CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[1], 2));
        CTKI_SUCCEEDS (ctalk_server_add_peer (cluster.server[1], 2, endpoint));
    }
    ctki_traffic_send (cluster.server[1], 2, 1, "x");
    ctki_traffic_expect (cluster.server[2], 1, 1, "x");
    ctki_cluster_close (&cluster);
}
END_TEST

/* A living peer that is removed and added again is talked to again, each time. */
START_TEST (removed_and_added_again)
{
    ctki_cluster_open_up (&cluster, 2, NULL);
    const char *endpoint = ctalk_server_endpoint (cluster.server[2]);
    for (int64_t i = 0; i < 5; i++) {
        ctki_traffic_send (cluster.server[1], 2, i, "before");
        ctki_traffic_expect (cluster.server[2], 1, i, "before");
        CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[1], 2));
        CTKI_SUCCEEDS (ctalk_server_add_peer (cluster.server[1], 2, endpoint));
        ctki_traffic_send (cluster.server[1], 2, i, "after");
        ctki_traffic_expect (cluster.server[2], 1, i, "after");
        ctki_traffic_send (cluster.server[2], 1, i, "back");
        ctki_traffic_expect (cluster.server[1], 2, i, "back");
    }
    ctki_cluster_close (&cluster);
}
END_TEST

static bool churn (void *arg, ctki_trouble_t *trouble)
{
    ctalk_server_t *server = arg;
    size_t count = ctki_test_count (50);
    for (size_t i = 0; i < count; i++) {
        ctalk_pid_t pid = (ctalk_pid_t) (100 + i % 5);
        CTKI_EXPECT_EQUAL (trouble, ctalk_server_add_peer (server, pid, "127.0.0.1:9"), 0);
        ctalk_envelope_t envelope = ctki_traffic_envelope (pid, 1, "x", 1);
        CTKI_EXPECT_EQUAL (trouble, ctalk_send (server, &envelope, 0), 0);
        CTKI_EXPECT_EQUAL (trouble, ctalk_server_remove_peer (server, pid), 0);
    }
    return true;
}

/* While peers come and go, those who stay lose nothing. */
START_TEST (churn_under_load)
{
    ctki_test_thread_t threads[2];
    ctki_cluster_open_up (&cluster, 2, NULL);
    for (int i = 0; i < 2; i++)
        ctki_test_thread_start (&threads[i], churn, cluster.server[i + 1]);
    ctki_traffic_exchange (&cluster, ctki_test_count (3000));
    for (int i = 0; i < 2; i++)
        ctki_test_thread_join (&threads[i]);
    ctalk_stats_t stats = ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST);
    ck_assert_uint_eq (stats.abandoned, ctki_test_count (50));
    ctki_cluster_close (&cluster);
}
END_TEST

/* ---- a sender that speaks by hand */

static ctki_sock_t *dealer;

static void dial_by_hand (ctalk_server_t *server)
{
    ctki_sock_options_t options = {.send_frames = 16, .receive_frames = 16, .frame_bytes = 1024};
    ck_assert_int_eq (ctki_context_ref (1, NULL), 0);
    dealer = ctki_sock_dealer (&options);
    ck_assert_ptr_nonnull (dealer);
    ck_assert_int_eq (ctki_sock_connect (dealer, ctalk_server_endpoint (server)), 0);
}

static void hang_up (void)
{
    ctki_sock_close (&dealer);
    ctki_context_unref ();
}

static bool sent_by_hand (void *frame)
{
    uint8_t bytes[CTKI_CONTROL_BYTES];
    ctki_part_t part = {.data = bytes, .size = ctki_wire_encode (frame, bytes, sizeof bytes)};
    return ctki_sock_send (dealer, 0, &part, 1) == 0;
}

static bool received_by_hand (void *frame)
{
    ctki_message_t message;
    if (ctki_sock_receive (dealer, &message))
        return false;
    ck_assert_int_eq (message.count, 1);
    const char *bad = ctki_wire_decode (frame, message.data[0], message.size[0], NULL, 0);
    ck_assert_msg (bad == NULL, "%s", bad);
    ctki_message_close (&message);
    return true;
}

/* As the library makes it of the cluster's name. */
static void make_cluster_id (uint8_t *id, const char *name)
{
    size_t length = strlen (name);
    uint64_t forth = UINT64_C (0xcbf29ce484222325), back = forth;
    for (size_t i = 0; i < length; i++) {
        forth = (forth ^ (uint8_t) name[i]) * UINT64_C (0x100000001b3);
        back = (back ^ (uint8_t) name[length - 1 - i]) * UINT64_C (0x100000001b3);
    }
    ctki_put64 (id, forth);
    ctki_put64 (id + 8, back ^ length);
}

/* What is answered to a greeting of pid 9 that has this session. */
static ctki_frame_t greet_by_hand (uint64_t sid)
{
    ctki_frame_t hello = {.version = CTKI_WIRE_VERSION, .type = CTKI_HELLO, .n = 1, .gen = 1}, answer;
    hello.u.hello = (ctki_hello_t){.src = 9, .dst = 1, .inc = 99, .nonce = 5, .prev_sid = sid, .version_min = 1,
                                   .version_max = 1};
    make_cluster_id (hello.u.hello.cluster_id, ctalk_config_get (cluster.config, "Cluster"));
    ck_assert (ctki_test_until (sent_by_hand, &hello, ctki_test_long_ms ()));
    ck_assert (ctki_test_until (received_by_hand, &answer, ctki_test_long_ms ()));
    return answer;
}

/* A peer that was offered a session, removed before it used it, and added again is offered the same one: it may have sent
 * with it, and would else have to take that for lost. */
START_TEST (removed_half_open)
{
    ctki_cluster_open (&cluster, 1, NULL);
    ctalk_server_t *server = cluster.server[1];
    CTKI_SUCCEEDS (ctalk_server_add_peer (server, 9, "127.0.0.1:9"));
    dial_by_hand (server);
    ctki_frame_t first = greet_by_hand (0);
    ck_assert_int_eq (first.type, CTKI_WELCOME);
    CTKI_SUCCEEDS (ctalk_server_remove_peer (server, 9));
    ctki_frame_t refusal = greet_by_hand (first.sid);
    ck_assert_int_eq (refusal.type, CTKI_REJECT);
    ck_assert_uint_eq (refusal.u.reason, CTKI_WHY_UNKNOWN_PID);
    CTKI_SUCCEEDS (ctalk_server_add_peer (server, 9, "127.0.0.1:9"));
    ctki_frame_t second = greet_by_hand (first.sid);
    ck_assert_int_eq (second.type, CTKI_WELCOME);
    ck_assert_uint_eq (second.sid, first.sid);
    ctki_frame_t ping = {.version = CTKI_WIRE_VERSION, .type = CTKI_PING, .sid = first.sid, .n = 1, .gen = 1}, ack;
    ck_assert (ctki_test_until (sent_by_hand, &ping, ctki_test_long_ms ()));
    ck_assert (ctki_test_until (received_by_hand, &ack, ctki_test_long_ms ()));
    ck_assert_int_eq (ack.type, CTKI_ACK);
    hang_up ();
    ctki_cluster_close_abandoning (&cluster, 0);
}
END_TEST

/* One envelope in a frame of its own. */
static bool data_by_hand (void *frame)
{
    uint8_t bytes[CTKI_HEAD_BYTES + 16 + CTKI_CRC_BYTES] = {0};
    size_t size = CTKI_HEAD_BYTES + 16;
    ctki_wire_put_head (bytes, frame);
    ctki_record_put (bytes + CTKI_HEAD_BYTES, &(ctki_record_t){.flags = CTKI_R_FIRST | CTKI_R_LAST, .len = 8});
    ctki_put32 (bytes + size, ctki_crc32c (0, bytes, size));
    ctki_part_t part = {.data = bytes, .size = sizeof bytes};
    return ctki_sock_send (dealer, 0, &part, 1) == 0;
}

static bool has_violated (void *server)
{
    return ctki_cluster_stats (server, 9).malformed >= CTKI_VIOLATIONS;
}

/* What came of a peer before it was put into quarantine can still be taken, more of it than its credit would be raised
 * for, and the router goes on: it answers the next greeting. */
START_TEST (quarantined_unread)
{
    enum { UNREAD = 8 };
    ctki_cluster_open (&cluster, 1, CTKI_OPTIONS ("WindowFrames", "8"));
    ctalk_server_t *server = cluster.server[1];
    CTKI_SUCCEEDS (ctalk_server_add_peer (server, 9, "127.0.0.1:9"));
    dial_by_hand (server);
    ctki_frame_t frame = {.version = CTKI_WIRE_VERSION, .type = CTKI_DATA, .sid = greet_by_hand (0).sid, .gen = 1}, answer;
    for (frame.n = 1; frame.n <= UNREAD; frame.n++)
        ck_assert (ctki_test_until (data_by_hand, &frame, ctki_test_long_ms ()));
    frame.type = CTKI_BYE_ACK; /* of the other direction */
    for (int i = 0; i < CTKI_VIOLATIONS; i++)
        ck_assert (ctki_test_until (sent_by_hand, &frame, ctki_test_long_ms ()));
    ck_assert (ctki_test_until (has_violated, server, ctki_test_long_ms ()));
    for (int i = 0; i < UNREAD; i++) {
        ctalk_envelope_t envelope;
        ctki_traffic_take (server, &envelope);
        ctalk_envelope_close (&envelope);
    }
    answer = greet_by_hand (frame.sid);
    while (answer.type != CTKI_REJECT || answer.sid) /* what was sent before */
        ck_assert (ctki_test_until (received_by_hand, &answer, ctki_test_long_ms ()));
    ck_assert_uint_eq (answer.u.reason, CTKI_WHY_QUARANTINED);
    hang_up ();
    ctki_cluster_close_abandoning (&cluster, 0);
}
END_TEST

Suite *ctki_suite_members (void)
{
    Suite *suite = suite_create ("members");
    TCase *tcase = ctki_leaks_tcase ("members", 60);
    tcase_add_test (tcase, add_errors);
    tcase_add_test (tcase, remove_errors);
    tcase_add_test (tcase, one_joins);
    tcase_add_test (tcase, one_is_removed);
    tcase_add_test (tcase, removed_peer_is_not_heard);
    tcase_add_test (tcase, abandoned_is_counted);
    tcase_add_test (tcase, waiting_send_ends);
    tcase_add_test (tcase, idle_peer_is_removed);
    tcase_add_test (tcase, removed_and_added_again);
    tcase_add_test (tcase, removed_half_open);
    tcase_add_test (tcase, quarantined_unread);
    tcase_add_test (tcase, churn_under_load);
    suite_add_tcase (suite, tcase);
    return suite;
}
