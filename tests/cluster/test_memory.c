/*
 * test_memory.c - what happens when there is no memory: ENOMEM, counted, and the
 * server goes on. Uses the allocator seam of the library.
 */
#include <stdatomic.h>
#include <stdio.h>
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

/* ---- each allocation of what can be done with a running server */

/* What is done: with whatever allocation failing, it ends as it should. -1: it said ENOMEM; 0: it was done. */
typedef struct {
    const char *name;
    int (*act) (ctki_cluster_t *cluster);    /* the k-th allocation from its start on fails, on whatever thread */
    void (*undo) (ctki_cluster_t *cluster, bool done); /* with memory again: as before */
} work_t;

static char endpoint_of_2[80];
static char large[300000];

/* 0, or -1 if there was no memory; another error fails the test. */
static int enomem (const char *what, int rc)
{
    ck_assert_msg (rc == 0 || errno == ENOMEM, "%s: %s", what, strerror (errno));
    return rc;
}

/* Takes until an event of this kind comes. */
static void await_event (ctalk_server_t *server, ctalk_kind_t kind)
{
    ctalk_envelope_t envelope = {0};
    do {
        ctalk_envelope_close (&envelope);
        ctki_traffic_take (server, &envelope);
    } while (envelope.kind != kind);
    ctalk_envelope_close (&envelope);
}

/* Watching is switched on: the UP that says how it stands comes, a little later if need be. */
static int watch (ctki_cluster_t *cluster)
{
    int rc = enomem ("watch_peers", ctalk_server_watch_peers (cluster->server[1], true));
    if (rc == 0)
        await_event (cluster->server[1], CTALK_PEER_UP);
    return rc;
}

static void drop_all (ctalk_server_t *server)
{
    ctalk_envelope_t envelope;
    while (ctalk_recv (server, &envelope, 0) == 0)
        ctalk_envelope_close (&envelope);
}

static void unwatch (ctki_cluster_t *cluster, bool done)
{
    (void) done;
    CTKI_SUCCEEDS (ctalk_server_watch_peers (cluster->server[1], false));
    drop_all (cluster->server[1]);
}

static int cut (ctki_cluster_t *cluster)
{
    return enomem ("cut", ctalk_server_cut (cluster->server[1], CTALK_BROADCAST, CTALK_IN | CTALK_OUT, true));
}

static void heal (ctki_cluster_t *cluster, bool done)
{
    CTKI_SUCCEEDS (ctalk_server_cut (cluster->server[1], CTALK_BROADCAST, CTALK_IN | CTALK_OUT, false));
    CTKI_SUCCEEDS (ctalk_server_impair (cluster->server[1], 2, CTALK_IN | CTALK_OUT, NULL));
    (void) done;
}

/* A bad way, and an exchange over it: frames that find no memory to wait in are lost, and come again. */
static int impair (ctki_cluster_t *cluster)
{
    ctalk_impairment_t how = {.loss = 0.05, .duplicate = 0.2, .delay_ms = 1, .jitter_ms = 2, .seed = 7};
    int rc = enomem ("impair", ctalk_server_impair (cluster->server[1], 2, CTALK_IN | CTALK_OUT, &how));
    if (rc == 0) {
        for (int64_t i = 0; i < 5 && rc == 0; i++) {
            ctalk_envelope_t envelope = ctki_traffic_envelope (2, i, "over a bad way", 14);
            rc = enomem ("send", ctalk_send (cluster->server[1], &envelope, ctki_test_long_ms ()));
            if (rc == 0)
                ctki_traffic_expect (cluster->server[2], 1, i, "over a bad way");
        }
    }
    return rc;
}

/* A peer is removed and comes back, with its session. */
static int remove_and_add (ctki_cluster_t *cluster)
{
    if (enomem ("remove_peer", ctalk_server_remove_peer (cluster->server[1], 2)))
        return -1;
    return enomem ("add_peer", ctalk_server_add_peer (cluster->server[1], 2, endpoint_of_2));
}

static void be_there (ctki_cluster_t *cluster, bool done)
{
    if (!done && ctalk_server_peers (cluster->server[1], NULL, 0) < 1)
        CTKI_SUCCEEDS (ctalk_server_add_peer (cluster->server[1], 2, endpoint_of_2));
    CTKI_SUCCEEDS (ctalk_server_wait_up (cluster->server[1], 1, ctki_test_long_ms ()));
}

/* One that was never there comes and goes. */
static int add_and_remove (ctki_cluster_t *cluster)
{
    if (enomem ("add_peer", ctalk_server_add_peer (cluster->server[1], 9, "127.0.0.1:9")))
        return -1;
    return enomem ("remove_peer", ctalk_server_remove_peer (cluster->server[1], 9));
}

static void be_gone (ctki_cluster_t *cluster, bool done)
{
    if (!done && ctalk_server_peers (cluster->server[1], NULL, 0) > 1)
        CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster->server[1], 9));
}

/* A large envelope is accepted and arrives unchanged, or it is refused. */
static int send_large (ctki_cluster_t *cluster)
{
    ctalk_envelope_t envelope = ctki_traffic_envelope (2, 5, large, sizeof large), got;
    if (enomem ("send", ctalk_send (cluster->server[1], &envelope, ctki_test_long_ms ())))
        return -1;
    ctki_traffic_take (cluster->server[2], &got);
    ck_assert (got.msg_id == 5 && got.size == sizeof large && ctki_payload_ok (got.data, got.size, 1, 2, 5));
    ctalk_envelope_close (&got);
    return 0;
}

static void nothing (ctki_cluster_t *cluster, bool done)
{
    (void) cluster;
    (void) done;
}

/* The peer closes and starts again, in other words restarts, while one watches: LEFT and RESTARTED come, each once. */
static int restart (ctki_cluster_t *cluster)
{
    ck_assert_int_ge (ctalk_server_close (&cluster->server[2], ctki_test_long_ms ()), 0);
    cluster->server[2] = ctalk_server_new (2, cluster->config, NULL);
    if (!cluster->server[2])
        return enomem ("server_new", -1);
    await_event (cluster->server[1], CTALK_PEER_RESTARTED);
    await_event (cluster->server[1], CTALK_PEER_UP);
    return 0;
}

/* One that failed to start may have been seen for a moment: its own UP is not that of the next. */
static void be_back (ctki_cluster_t *cluster, bool done)
{
    if (!done) {
        cluster->server[2] = ctki_cluster_start (2, cluster->config);
        uint64_t incarnation = ctalk_server_incarnation (cluster->server[2], 2), told = 0;
        while (told != incarnation) {
            ctalk_envelope_t got;
            ctki_traffic_take (cluster->server[1], &got);
            if (got.kind == CTALK_PEER_RESTARTED)
                told = ((const ctalk_event_t *) got.data)->incarnation;
            ctalk_envelope_close (&got);
        }
        await_event (cluster->server[1], CTALK_PEER_UP);
    }
    drop_all (cluster->server[1]);
}

static const work_t works[] = {{"watch_peers", watch, unwatch},
                               {"cut", cut, heal},
                               {"impair", impair, heal},
                               {"remove and add a peer", remove_and_add, be_there},
                               {"add and remove a peer", add_and_remove, be_gone},
                               {"a large envelope", send_large, nothing},
                               {"restart of a peer", restart, be_back}};

enum { WORKS = sizeof works / sizeof works[0], WATCHED_WORK = WORKS - 1, K_MAX = 400, QUIET = 3 };

static ctki_ports_t ports;

static void open_pair (ctki_cluster_t *cluster)
{
    memset (cluster, 0, sizeof *cluster);
    cluster->config = ctki_cluster_config (2, ports.port, NULL);
    cluster->count = 2;
    for (ctalk_pid_t pid = 1; pid <= 2; pid++)
        cluster->server[pid] = ctki_cluster_start (pid, cluster->config);
    ctki_cluster_wait_up (cluster);
}

/* An envelope passes each way; an event that found no memory before may come now. */
static void expect_goes_on (ctki_cluster_t *cluster, int64_t number)
{
    for (ctalk_pid_t from = 1; from <= 2; from++) {
        ctalk_envelope_t got = {0};
        ctki_traffic_send (cluster->server[from], 3 - from, number, "goes on");
        do {
            ctalk_envelope_close (&got);
            ctki_traffic_take (cluster->server[3 - from], &got);
        } while (got.kind != CTALK_MESSAGE);
        ck_assert (got.pid == from && got.msg_id == number);
        ctalk_envelope_close (&got);
    }
}

/* The k-th allocation fails, for every k that there is, of each thing that can be done with a running server: it says
 * ENOMEM or is done, and everything goes on afterwards; nothing is left (the leak check sees to it). */
START_TEST (each_step_of_running)
{
    const work_t *work = &works[_i];
    ctki_cluster_t cluster;
    long k = 0, failed = 0, refused = 0;
    int quiet = 0;
    ctki_ports_take (&ports, 2);
    ctki_payload_fill (large, sizeof large, 1, 2, 5);
    open_pair (&cluster);
    (void) snprintf (endpoint_of_2, sizeof endpoint_of_2, "%s", ctalk_server_endpoint (cluster.server[2]));
    if (_i == WATCHED_WORK)
        CTKI_SUCCEEDS (ctalk_server_watch_peers (cluster.server[1], true));
    for (; k < K_MAX && quiet < QUIET; k++) {
        (void) ctki_mem_fail (k, 1);
        int rc = work->act (&cluster);
        bool was = ctki_mem_fail (-1, 0) > k; /* it came so far */
        ck_assert_msg (rc == 0 || was, "%s: ENOMEM, and nothing had failed", work->name);
        work->undo (&cluster, rc == 0);
        expect_goes_on (&cluster, k);
        failed += was;
        refused += rc != 0;
        quiet = was ? 0 : quiet + 1;
    }
    ck_assert_int_gt (failed, 0);
    ck_assert_int_lt (k, K_MAX);
    if (_i == WATCHED_WORK)
        unwatch (&cluster, true);
    ctki_traffic_exchange (&cluster, 10);
    (void) ctki_cluster_close_abandoning (&cluster, ctki_test_long_ms ());
    ctki_ports_release (&ports);
    ctki_test_figure ("each_step_of_running", "%s: %ld allocations failed, ENOMEM %ld times", work->name, failed,
                      refused);
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
    TCase *running = ctki_leaks_tcase ("running", 120);
    tcase_add_loop_test (running, each_step_of_running, 0, WORKS);
    suite_add_tcase (suite, tcase);
    suite_add_tcase (suite, running);
    return suite;
}
