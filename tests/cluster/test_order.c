/*
 * test_order.c - sends and broadcasts of one thread arrive in order at each peer,
 * small and large alike.
 */
#include <stdlib.h>

#include "tests/cluster/suites.h"
#include "tests/support/support.h"

enum { SERVERS = 3, LARGEST = 200000 };

typedef struct {
    ctalk_server_t *server;
    int64_t count;
} mixed_t;

/* Every number goes to one peer or to all, as the number says. */
static ctalk_pid_t destination (int64_t number)
{
    return number % 5 == 0 ? CTALK_BROADCAST : (ctalk_pid_t) (2 + number % 7 % 2);
}

static size_t size_of (int64_t number)
{
    static const size_t sizes[] = {8, 100, 4096, 0, 65536, 3000, LARGEST, 64, 5000, 1};
    return sizes[number % 10];
}

static bool send_mixed (void *arg, ctki_trouble_t *trouble)
{
    const mixed_t *mixed = arg;
    char *buffer = malloc (LARGEST);
    bool ok = buffer != NULL;
    for (int64_t i = 0; ok && i < mixed->count; i++) {
        ctki_payload_fill (buffer, size_of (i), 1, destination (i), i);
        ctalk_envelope_t envelope = ctki_traffic_envelope (destination (i), i, buffer, size_of (i));
        ok = ctalk_send (mixed->server, &envelope, ctki_test_long_ms ()) == 0;
    }
    free (buffer);
    CTKI_EXPECT (trouble, ok);
    return true;
}

static bool is_for (int64_t number, ctalk_pid_t pid)
{
    return destination (number) == pid || destination (number) == CTALK_BROADCAST;
}

static bool take_mixed (void *arg, ctki_trouble_t *trouble)
{
    const mixed_t *mixed = arg;
    ctalk_pid_t self = ctalk_server_pid (mixed->server);
    for (int64_t i = 0; i < mixed->count; i++) {
        ctalk_envelope_t envelope;
        if (!is_for (i, self))
            continue;
        CTKI_EXPECT_EQUAL (trouble, ctalk_recv (mixed->server, &envelope, ctki_test_long_ms ()), 0);
        CTKI_EXPECT_EQUAL (trouble, envelope.msg_id, i);
        CTKI_EXPECT_EQUAL (trouble, envelope.size, size_of (i));
        CTKI_EXPECT_EQUAL (trouble, envelope.flags, destination (i) == CTALK_BROADCAST ? CTALK_WAS_BROADCAST : 0);
        CTKI_EXPECT (trouble, ctki_payload_ok (envelope.data, envelope.size, 1, destination (i), i));
        ctalk_envelope_close (&envelope);
    }
    return true;
}

static void mixed_order (const char *const *options, int64_t count)
{
    ctki_cluster_t cluster;
    ctki_test_thread_t threads[SERVERS];
    mixed_t mixed[SERVERS];
    ctki_cluster_open_up (&cluster, SERVERS, options);
    for (int i = 0; i < SERVERS; i++) {
        mixed[i] = (mixed_t){cluster.server[i + 1], count};
        ctki_test_thread_start (&threads[i], i ? take_mixed : send_mixed, &mixed[i]);
    }
    for (int i = 0; i < SERVERS; i++)
        ctki_test_thread_join (&threads[i]);
    ctki_traffic_expect_nothing (cluster.server[2], 0);
    ctki_traffic_expect_nothing (cluster.server[3], 0);
    ctki_cluster_close (&cluster);
}

/* Unicasts and broadcasts, small and large, from one thread arrive in order at each peer. */
START_TEST (mixed_at_default)
{
    int64_t count = (int64_t) ctki_test_count (3000);
    mixed_order (NULL, count);
    ctki_test_figure ("mixed_at_default", "%lld envelopes", (long long) count);
}
END_TEST

/* The same when queues and windows are as small as can be, so that every send waits. */
START_TEST (mixed_through_small_queues)
{
    mixed_order (
        CTKI_OPTIONS ("QueueBytes", "65536", "WindowBytes", "131072", "WindowFrames", "8", "FrameBytes", "8192"),
        (int64_t) ctki_test_count (1000));
}
END_TEST

/* The same without help. */
START_TEST (mixed_without_help)
{
    mixed_order (CTKI_OPTIONS ("Help", "off"), (int64_t) ctki_test_count (1000));
}
END_TEST

/* The same with lazy senders, which the traffic starts. */
START_TEST (mixed_with_lazy_senders)
{
    mixed_order (CTKI_OPTIONS ("Senders", "lazy"), (int64_t) ctki_test_count (1000));
}
END_TEST

/* The same with receivers that spin. */
START_TEST (mixed_with_spinning)
{
    mixed_order (CTKI_OPTIONS ("SpinMicros", "50"), (int64_t) ctki_test_count (1000));
}
END_TEST

Suite *ctki_suite_order (void)
{
    Suite *suite = suite_create ("order");
    TCase *tcase = ctki_leaks_tcase ("order", 180);
    tcase_add_test (tcase, mixed_at_default);
    tcase_add_test (tcase, mixed_through_small_queues);
    tcase_add_test (tcase, mixed_without_help);
    tcase_add_test (tcase, mixed_with_lazy_senders);
    tcase_add_test (tcase, mixed_with_spinning);
    suite_add_tcase (suite, tcase);
    return suite;
}
