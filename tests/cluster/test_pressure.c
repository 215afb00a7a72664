/*
 * test_pressure.c - a receiver that does not take what is sent to it stops its
 * senders, within bounds, and nobody else; and they go on when it does.
 */
#include <stdlib.h>

#include "tests/cluster/suites.h"
#include "tests/support/support.h"

enum {
    KIB = 1024,
    MIB = 1024 * 1024,
    CHARGE = 64,      /* of an envelope, besides its payload */
    FRAME = 64 * KIB, /* a window is used but for less than a frame */
    SLACK = 24 * MIB  /* of memory: buffers of libzmq and of sockets, the allocator, the code itself */
};

static int64_t fill (ctalk_server_t *server, char *data, size_t size)
{
    int64_t count = 0;
    for (;; count++) {
        ctki_payload_fill (data, size, 1, 2, count);
        ctalk_envelope_t envelope = ctki_traffic_envelope (2, count, data, size);
        if (ctalk_send (server, &envelope, ctki_test_ms (300)))
            break;
        ck_assert_int_lt (count, 10000000);
    }
    ck_assert_int_eq (errno, EAGAIN);
    return count;
}

static void take_all (ctalk_server_t *server, int64_t count, size_t size)
{
    for (int64_t i = 0; i < count; i++) {
        ctalk_envelope_t envelope;
        ctki_traffic_take (server, &envelope);
        ck_assert_int_eq (envelope.msg_id, i);
        ck_assert_uint_eq (envelope.size, size);
        ck_assert (ctki_payload_ok (envelope.data, size, 1, 2, i));
        ctalk_envelope_close (&envelope);
    }
}

static void stop_and_resume (size_t size, uint64_t queue, uint64_t window)
{
    ctki_cluster_t cluster;
    char *data = malloc (size + 1);
    ck_assert_ptr_nonnull (data);
    ctki_cluster_open_up (&cluster, 3,
                          CTKI_OPTIONS ("QueueBytes", ctki_test_number_text (queue), "WindowBytes",
                                        ctki_test_number_text (window), "WindowFrames", "65536", "MaxMessageBytes",
                                        ctki_test_number_text (MIB)));
    ctki_memory_reset_peak ();
    uint64_t before = ctki_memory_now (), charge = size + CHARGE;
    int64_t count = fill (cluster.server[1], data, size);
    uint64_t charged = (uint64_t) count * charge, grown = ctki_memory_grown (before);
    /* The sender's queue, one envelope over it, the receiver's window, and credit for the one unfinished. */
    ck_assert_uint_le (charged, queue + window + 3 * charge + FRAME);
    ck_assert_uint_ge (charged + 2 * charge + 2 * FRAME, queue + window);
    ck_assert_msg (grown <= 2 * (queue + 2 * MIB + window + MIB) + SLACK, "%llu MiB of memory",
                   (unsigned long long) grown / MIB);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[2], 1).consumed, 0);
    ctki_traffic_send (cluster.server[1], 3, 1, "others pass");
    ctki_traffic_expect (cluster.server[3], 1, 1, "others pass");
    ctki_traffic_send (cluster.server[3], 2, 1, "x"); /* another sender has its own window */
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[3], 2, ctki_test_long_ms ()));
    ck_assert_int_eq (ctalk_server_peer_state (cluster.server[1], 2), CTALK_STATE_UP);
    CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[2], 3)); /* its envelope stays in the inbox */
    ctalk_envelope_t envelope;
    for (int64_t i = 0, next = 0; i <= count; i++) {
        ctki_traffic_take (cluster.server[2], &envelope);
        if (envelope.pid == 1) {
            ck_assert_int_eq (envelope.msg_id, next);
            ck_assert (ctki_payload_ok (envelope.data, size, 1, 2, next++));
        }
        ctalk_envelope_close (&envelope);
    }
    int64_t again = fill (cluster.server[1], data, size);
    ck_assert_int_ge (again * 10, count * 9);
    take_all (cluster.server[2], again, size);
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], 2, ctki_test_long_ms ()));
    free (data);
    (void) ctki_cluster_close_abandoning (&cluster, ctki_test_long_ms ());
    ctki_test_figure ("stop_and_resume", "%zu bytes: %lld accepted, %llu KiB charged of %llu, memory %llu KiB", size,
                      (long long) count, (unsigned long long) charged / KIB,
                      (unsigned long long) (queue + window) / KIB, (unsigned long long) grown / KIB);
}

/* Envelopes of 100 bytes, 5,000 bytes and 300 KiB: the sender stops at QueueBytes + WindowBytes, memory is bounded,
 * others pass, and it goes on when the receiver takes them. */
START_TEST (sender_stops_and_resumes)
{
    static const size_t sizes[] = {100, 5000, 300 * KIB};
    stop_and_resume (sizes[_i], MIB, MIB);
}
END_TEST

/* Empty envelopes are charged too: their number is bounded. */
START_TEST (empty_envelopes_are_charged)
{
    stop_and_resume (0, 64 * KIB, 128 * KIB);
}
END_TEST

/* A message larger than queue and window together passes, to a receiver that takes it, again and again. */
START_TEST (larger_than_the_window)
{
    static const size_t sizes[] = {4 * MIB, 100, 4 * MIB - 1};
    ctki_cluster_t cluster;
    ctki_test_thread_t thread;
    ctki_trouble_t trouble = {""};
    ctki_journal_t *journal = ctki_journal_new (2, 20);
    ctki_cluster_open_up (&cluster, 2,
                          CTKI_OPTIONS ("QueueBytes", "65536", "WindowBytes", "131072", "WindowFrames", "8",
                                        "MaxMessageBytes", ctki_test_number_text (4 * MIB)));
    ctki_stream_t stream = {cluster.server[1], 2, 0, 20, sizes, 3, journal};
    ctki_drain_t drain = {cluster.server[2], 20, journal, NULL};
    ctki_test_thread_start (&thread, ctki_traffic_stream, &stream);
    ck_assert_msg (ctki_traffic_drain (&drain, &trouble), "%s", trouble.text);
    ctki_test_thread_join (&thread);
    ck_assert_msg (ctki_journal_agrees (journal, &trouble), "%s", trouble.text);
    ctki_journal_destroy (&journal);
    ctki_cluster_close (&cluster);
}
END_TEST

/* A receiver that keeps its envelopes open has taken them: its sender goes on. */
START_TEST (kept_envelopes_hold_nobody_up)
{
    enum { KEPT = 400, SIZE = 2000 };
    static ctalk_envelope_t kept[KEPT];
    ctki_cluster_t cluster;
    char data[SIZE];
    ctki_cluster_open_up (&cluster, 2, CTKI_OPTIONS ("QueueBytes", "65536", "WindowBytes", "131072"));
    for (int64_t i = 0; i < KEPT; i++) {
        ctki_payload_fill (data, sizeof data, 1, 2, i);
        ctalk_envelope_t envelope = ctki_traffic_envelope (2, i, data, sizeof data);
        CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &envelope, ctki_test_long_ms ()));
        ctki_traffic_take (cluster.server[2], &kept[i]);
    }
    for (int64_t i = 0; i < KEPT; i++) {
        ck_assert_int_eq (kept[i].msg_id, i);
        ck_assert (ctki_payload_ok (kept[i].data, kept[i].size, 1, 2, i));
    }
    ctki_cluster_close (&cluster);
    for (int i = KEPT - 1; i >= 0; i--)
        ctalk_envelope_close (&kept[i]);
}
END_TEST

Suite *ctki_suite_pressure (void)
{
    Suite *suite = suite_create ("pressure");
    TCase *tcase = ctki_leaks_tcase ("pressure", 120);
    tcase_add_loop_test (tcase, sender_stops_and_resumes, 0, 3);
    tcase_add_test (tcase, empty_envelopes_are_charged);
    tcase_add_test (tcase, larger_than_the_window);
    tcase_add_test (tcase, kept_envelopes_hold_nobody_up);
    suite_add_tcase (suite, tcase);
    return suite;
}
