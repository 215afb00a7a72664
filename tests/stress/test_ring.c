/*
 * test_ring.c - rings of 100 and of 1,000 servers in one process, every config
 * listing all of them, lazy, with 1,000 envelopes going round. One thread serves
 * all of them with epoll.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tests/stress/suites.h"
#include "tests/support/support.h"

enum { ENVELOPES = 1000, BODY = 48, AT_ONCE = 64, EVENTS = 64, PER_SERVER = 13, SHARED = 64, THREADS_SHARED = 16 };

typedef struct {
    uint64_t hops;
    char body[BODY]; /* follows from the envelope's number */
} rider_t;

typedef struct {
    size_t count;
    ctalk_server_t **server; /* from index 0; the pid is one more */
    int epoll_fd;
    int64_t home; /* how many have come round */
    uint64_t hops;
} ring_t;

static void start (ring_t *ring, const ctalk_config_t *config)
{
    for (size_t i = 0; i < ring->count; i++) {
        ring->server[i] = ctki_cluster_start ((ctalk_pid_t) i + 1, config);
        struct epoll_event event = {.events = EPOLLIN, .data = {.u64 = i}};
        int fd = ctalk_server_fd (ring->server[i]);
        ck_assert_msg (fd >= 0, "descriptor of server %zu: %s", i + 1, strerror (errno));
        ck_assert_int_eq (epoll_ctl (ring->epoll_fd, EPOLL_CTL_ADD, fd, &event), 0);
        ctki_test_progress ("servers", i, ring->count);
    }
}

static void pass_on (ring_t *ring, size_t from, int64_t number, const rider_t *rider)
{
    ctalk_pid_t next = (ctalk_pid_t) ((from + 1) % ring->count) + 1;
    ctalk_envelope_t envelope = ctki_traffic_envelope (next, number, rider, sizeof *rider);
    CTKI_SUCCEEDS (ctalk_send (ring->server[from], &envelope, ctki_test_long_ms ()));
}

/* An envelope has come to server index: one more hop, or it is home. */
static void arrive (ring_t *ring, size_t index, const ctalk_envelope_t *envelope)
{
    rider_t rider;
    ck_assert_uint_eq (envelope->size, sizeof rider);
    memcpy (&rider, envelope->data, sizeof rider);
    ck_assert_int_eq (envelope->pid, (ctalk_pid_t) ((index + ring->count - 1) % ring->count) + 1);
    ck_assert (ctki_payload_ok (rider.body, BODY, 1, CTALK_BROADCAST, envelope->msg_id));
    rider.hops++;
    ring->hops++;
    if (index) {
        ck_assert_uint_eq (rider.hops, index);
        pass_on (ring, index, envelope->msg_id, &rider);
        return;
    }
    ck_assert_uint_eq (rider.hops, ring->count);
    ck_assert_int_eq (envelope->msg_id, ring->home++);
}

static void serve (ring_t *ring, size_t index)
{
    ctalk_envelope_t envelopes[AT_ONCE];
    int n = ctalk_recv_many (ring->server[index], envelopes, AT_ONCE, 0);
    ck_assert_msg (n > 0, "server %zu was readable for nothing: %s", index + 1, strerror (errno));
    for (int i = 0; i < n; i++) {
        arrive (ring, index, &envelopes[i]);
        ctalk_envelope_close (&envelopes[i]);
    }
}

static void go_round (ring_t *ring, int64_t envelopes)
{
    for (int64_t i = 0; i < envelopes; i++) {
        rider_t rider = {0};
        ctki_payload_fill (rider.body, BODY, 1, CTALK_BROADCAST, i);
        pass_on (ring, 0, i, &rider);
    }
    while (ring->home < envelopes) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait (ring->epoll_fd, events, EVENTS, ctki_test_long_ms ());
        ck_assert_msg (n > 0, "nothing moves: %lld of %lld are home after %llu hops", (long long) ring->home,
                       (long long) envelopes, (unsigned long long) ring->hops);
        for (int i = 0; i < n; i++)
            serve (ring, (size_t) events[i].data.u64);
        ctki_test_progress ("hops", ring->hops, ring->count * (size_t) envelopes);
    }
    ctki_test_progress ("", 0, 0);
}

static void check_figures (const ring_t *ring, uint64_t envelopes)
{
    for (size_t i = 0; i < ring->count; i++) {
        ctki_trouble_t trouble = {""};
        ctalk_stats_t stats = ctki_cluster_stats (ring->server[i], CTALK_BROADCAST);
        ck_assert_uint_eq (stats.accepted, envelopes);
        ck_assert_uint_eq (stats.consumed, envelopes);
        CTKI_SUCCEEDS (ctalk_server_flush (ring->server[i], CTALK_BROADCAST, ctki_test_long_ms ()));
        if (ring->count <= CTKI_CLUSTER_MAX)
            ck_assert_msg (ctki_cluster_conserved (ring->server[i], &trouble), "%s", trouble.text);
    }
}

static void run (size_t servers)
{
    static ctki_ports_t ports;
    ctki_trouble_t trouble = {""};
    size_t envelopes = ctki_test_count (ENVELOPES);
    ring_t ring = {.count = servers, .server = calloc (servers, sizeof *ring.server)};
    ck_assert_ptr_nonnull (ring.server);
    size_t fds_before = ctki_leaks_descriptors (), threads_before = ctki_leaks_threads ();
    ctki_ports_take (&ports, servers);
    ctalk_config_t *config = ctki_cluster_config (servers, ports.port, CTKI_OPTIONS ("Senders", "lazy"));
    ring.epoll_fd = epoll_create1 (EPOLL_CLOEXEC);
    ctki_memory_reset_peak ();
    uint64_t memory_before = ctki_memory_now ();
    int64_t start_ms = ctki_test_now_ms ();
    start (&ring, config);
    int64_t started_ms = ctki_test_now_ms ();
    go_round (&ring, (int64_t) envelopes);
    int64_t round_ms = ctki_test_now_ms ();
    size_t fds = ctki_leaks_descriptors () - fds_before, threads = ctki_leaks_threads () - threads_before;
    uint64_t memory = ctki_memory_grown (memory_before);
    check_figures (&ring, envelopes);
    int abandoned = ctki_cluster_close_all (ring.server, servers, 3 * ctki_test_long_ms (), &trouble);
    ctki_test_figure (
        "ring", "%zu servers, %zu envelopes round in %lld ms (%.1f us a hop), start %lld ms, close %lld ms", servers,
        envelopes, (long long) (round_ms - started_ms), (double) (round_ms - started_ms) * 1000.0 / (double) ring.hops,
        (long long) (started_ms - start_ms), (long long) (ctki_test_now_ms () - round_ms));
    ctki_test_figure ("ring", "%zu descriptors, %zu threads, %llu KiB of memory", fds, threads,
                      (unsigned long long) memory / 1024);
    ck_assert_msg (abandoned == 0, "%s", trouble.text);
    ck_assert_uint_le (fds, PER_SERVER * servers + SHARED);
    ck_assert_uint_le (threads, 2 * servers + THREADS_SHARED);
    (void) close (ring.epoll_fd);
    free (ring.server);
    ctalk_config_destroy (&config);
    ctki_ports_release (&ports);
}

/* A hundred servers, a thousand envelopes round: each comes home, in order, after a hundred hops, unchanged. */
START_TEST (ring_of_100)
{
    run (CTKI_MAX (ctki_test_count (100), (size_t) 3));
}
END_TEST

/* A thousand servers. */
START_TEST (ring_of_1000)
{
    run (CTKI_MAX (ctki_test_count (1000), (size_t) 3));
}
END_TEST

Suite *ctki_suite_ring (void)
{
    Suite *suite = suite_create ("ring");
    TCase *tcase = ctki_leaks_tcase ("ring", 600);
    tcase_add_test (tcase, ring_of_100);
    tcase_add_test (tcase, ring_of_1000);
    suite_add_tcase (suite, tcase);
    return suite;
}
