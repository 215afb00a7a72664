/*
 * cluster.c - ready clusters for tests. Owns its servers and its config.
 */
#include "tests/support/cluster.h"

#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/ports.h"
#include "tests/support/scale.h"
#include "tests/support/thread.h"

void ctki_cluster_set (ctalk_config_t *config, const char *const *options)
{
    ctalk_error_t error;
    for (; options && options[0]; options += 2) {
        int rc = ctalk_config_set (config, options[0], options[1], &error);
        ck_assert_msg (rc == 0, "%s = %s: %s", options[0], options[1], error.text);
    }
}

void ctki_cluster_list (ctalk_config_t *config, ctalk_pid_t pid, uint16_t port)
{
    char endpoint[64];
    ctalk_error_t error;
    (void) snprintf (endpoint, sizeof endpoint, "127.0.0.1:%u", (unsigned) port);
    int rc = ctalk_config_add_server (config, pid, endpoint, &error);
    ck_assert_msg (rc == 0, "%d at %s: %s", pid, endpoint, error.text);
}

ctalk_config_t *ctki_cluster_config (size_t count, const uint16_t *ports, const char *const *options)
{
    ctalk_config_t *config = ctalk_config_new ();
    ck_assert_ptr_nonnull (config);
    const char *help = getenv ("CTALK_TEST_HELP");
    if (help && help[0])
        ctki_cluster_set (config, CTKI_OPTIONS ("Help", help));
    ctki_cluster_set (config, options);
    for (size_t i = 0; i < count; i++)
        ctki_cluster_list (config, (ctalk_pid_t) i + 1, ports ? ports[i] : 0);
    return config;
}

ctalk_server_t *ctki_cluster_start (ctalk_pid_t pid, const ctalk_config_t *config)
{
    ctalk_error_t error = {0};
    ctalk_server_t *server = ctalk_server_new (pid, config, &error);
    ck_assert_msg (server != NULL, "server %d: %s (errno %d)", pid, error.text, error.code);
    return server;
}

/* Tells each running server where the others are. */
static void introduce (ctki_cluster_t *cluster)
{
    for (size_t a = 1; a <= cluster->count; a++)
        for (size_t b = 1; b <= cluster->count; b++) {
            if (a == b)
                continue;
            const char *endpoint = ctalk_server_endpoint (cluster->server[b]);
            int rc = ctalk_server_add_peer (cluster->server[a], (ctalk_pid_t) b, endpoint);
            ck_assert_msg (rc == 0, "%zu adds %zu at %s: %s", a, b, endpoint, strerror (errno));
        }
}

static void open_all (ctki_cluster_t *cluster, size_t count)
{
    cluster->count = count;
    for (size_t i = 1; i <= count; i++)
        cluster->server[i] = ctki_cluster_start ((ctalk_pid_t) i, cluster->config);
    introduce (cluster);
}

void ctki_cluster_open (ctki_cluster_t *cluster, size_t count, const char *const *options)
{
    ck_assert_uint_le (count, CTKI_CLUSTER_MAX);
    memset (cluster, 0, sizeof *cluster);
    cluster->config = ctki_cluster_config (count, NULL, options);
    open_all (cluster, count);
}

void ctki_cluster_open_absent (ctki_cluster_t *cluster, size_t count, const char *const *options)
{
    uint16_t port = 0;
    ck_assert_uint_le (count, CTKI_CLUSTER_MAX);
    memset (cluster, 0, sizeof *cluster);
    cluster->config = ctki_cluster_config (count, NULL, options);
    cluster->absent = (ctalk_pid_t) count + 1;
    cluster->absent_fd = ctki_ports_refusing (&port);
    ctki_cluster_list (cluster->config, cluster->absent, port);
    open_all (cluster, count);
}

void ctki_cluster_wait_up (ctki_cluster_t *cluster)
{
    for (size_t i = 1; i <= cluster->count; i++) {
        int rc = ctalk_server_wait_up (cluster->server[i], cluster->count - 1, ctki_test_long_ms ());
        ck_assert_msg (rc == 0, "%zu of %zu does not see its peers up: %s", i, cluster->count, strerror (errno));
    }
}

void ctki_cluster_open_up (ctki_cluster_t *cluster, size_t count, const char *const *options)
{
    ctki_cluster_open (cluster, count, options);
    ctki_cluster_wait_up (cluster);
}

ctalk_stats_t ctki_cluster_stats (ctalk_server_t *server, ctalk_pid_t peer)
{
    ctalk_stats_t stats;
    int rc = ctalk_server_stats (server, peer, &stats);
    ck_assert_msg (rc == 0, "stats of %d: %s", peer, strerror (errno));
    return stats;
}

static bool one_conserved (const ctalk_stats_t *s, int peer, ctki_trouble_t *trouble)
{
    if (s->accepted != s->delivered + s->abandoned + s->queued)
        return ctki_trouble_note (trouble, __FILE__, __LINE__,
                                  "peer %d: accepted %" PRIu64 " != delivered %" PRIu64 " + abandoned %" PRIu64
                                  " + queued %" PRIu64,
                                  peer, s->accepted, s->delivered, s->abandoned, s->queued);
    if (s->received != s->consumed + s->in_inbox + s->no_such_actor)
        return ctki_trouble_note (trouble, __FILE__, __LINE__,
                                  "peer %d: received %" PRIu64 " != consumed %" PRIu64 " + in inbox %" PRIu64
                                  " + no such actor %" PRIu64,
                                  peer, s->received, s->consumed, s->in_inbox, s->no_such_actor);
    if ((s->queued == 0) != (s->queued_bytes == 0))
        return ctki_trouble_note (trouble, __FILE__, __LINE__, "peer %d: queued %" PRIu64 ", %" PRIu64 " bytes", peer,
                                  s->queued, s->queued_bytes);
    return true;
}

static bool look (ctalk_server_t *server, ctki_trouble_t *trouble)
{
    ctalk_pid_t pids[CTKI_CLUSTER_MAX + 2];
    int count = ctalk_server_members (server, pids, CTKI_CLUSTER_MAX + 2);
    ctalk_stats_t total, own;
    CTKI_EXPECT (trouble, count > 0);
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_stats (server, CTALK_BROADCAST, &total), 0);
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_stats (server, ctalk_server_pid (server), &own), 0);
    for (int i = 0; i < count && i < CTKI_CLUSTER_MAX + 2; i++) {
        ctalk_stats_t stats;
        CTKI_EXPECT_EQUAL (trouble, ctalk_server_stats (server, pids[i], &stats), 0);
        if (!one_conserved (&stats, pids[i], trouble))
            return false;
    }
    if (!one_conserved (&total, CTALK_BROADCAST, trouble))
        return false;
    CTKI_EXPECT_EQUAL (trouble, total.routed, total.accepted - own.accepted);
    return true;
}

typedef struct {
    ctalk_server_t *server;
    ctki_trouble_t trouble;
} look_t;

static bool looks_good (void *arg)
{
    look_t *l = arg;
    l->trouble.text[0] = 0;
    return look (l->server, &l->trouble);
}

bool ctki_cluster_conserved (ctalk_server_t *server, ctki_trouble_t *trouble)
{
    look_t l = {server, {""}};
    if (ctki_test_until (looks_good, &l, ctki_test_ms (2000)))
        return true;
    return ctki_trouble_note (trouble, __FILE__, __LINE__, "server %d: %.180s", ctalk_server_pid (server),
                              l.trouble.text);
}

typedef struct {
    ctalk_server_t *server;
    int timeout_ms;
    int abandoned;
} closing_t;

static bool close_one (void *arg, ctki_trouble_t *trouble)
{
    closing_t *closing = arg;
    closing->abandoned = ctalk_server_close (&closing->server, closing->timeout_ms);
    CTKI_EXPECT (trouble, closing->abandoned >= 0);
    CTKI_EXPECT (trouble, closing->server == NULL);
    return true;
}

int ctki_cluster_close_all (ctalk_server_t **servers, size_t count, int timeout_ms, ctki_trouble_t *trouble)
{
    closing_t *closing = calloc (count, sizeof *closing);
    ctki_test_thread_t *threads = calloc (count, sizeof *threads);
    int sum = 0;
    ck_assert (closing && threads);
    for (size_t i = 0; i < count; i++) {
        closing[i] = (closing_t){servers[i], timeout_ms, 0};
        ctki_test_thread_start (&threads[i], close_one, &closing[i]);
    }
    for (size_t i = 0; i < count; i++) {
        ctki_test_thread_join (&threads[i]);
        sum += closing[i].abandoned;
        servers[i] = NULL;
        if (closing[i].abandoned)
            (void) ctki_trouble_note (trouble, __FILE__, __LINE__, "server %zu abandoned %d", i, closing[i].abandoned);
    }
    free (closing);
    free (threads);
    return sum;
}

static void forget (ctki_cluster_t *cluster)
{
    ctalk_config_destroy (&cluster->config);
    if (cluster->absent)
        (void) close (cluster->absent_fd);
    memset (cluster, 0, sizeof *cluster);
}

static int close_running (ctki_cluster_t *cluster, int timeout_ms, ctki_trouble_t *trouble)
{
    ctalk_server_t *running[CTKI_CLUSTER_MAX];
    size_t count = 0;
    for (size_t i = 1; i <= cluster->count; i++)
        if (cluster->server[i])
            running[count++] = cluster->server[i];
    return ctki_cluster_close_all (running, count, timeout_ms, trouble);
}

static void check_all (ctki_cluster_t *cluster)
{
    ctki_trouble_t trouble = {""};
    for (size_t i = 1; i <= cluster->count; i++)
        if (cluster->server[i])
            ck_assert_msg (ctki_cluster_conserved (cluster->server[i], &trouble), "%s", trouble.text);
}

/* Who closes first does not wait for what others have on the way to it. */
static void flush_all (ctki_cluster_t *cluster)
{
    for (size_t from = 1; from <= cluster->count; from++)
        for (size_t to = 1; to <= cluster->count; to++)
            if (from != to && cluster->server[from] && cluster->server[to]
                && ctalk_server_flush (cluster->server[from], (ctalk_pid_t) to, ctki_test_long_ms ()))
                ck_assert_msg (errno != EAGAIN, "what %zu sent does not come to %zu", from, to);
}

void ctki_cluster_close (ctki_cluster_t *cluster)
{
    ctki_trouble_t trouble = {""};
    flush_all (cluster);
    check_all (cluster);
    int abandoned = close_running (cluster, ctki_test_long_ms (), &trouble);
    ck_assert_msg (abandoned == 0, "%s", trouble.text);
    forget (cluster);
}

int ctki_cluster_close_abandoning (ctki_cluster_t *cluster, int timeout_ms)
{
    ctki_trouble_t trouble = {""};
    check_all (cluster);
    int abandoned = close_running (cluster, timeout_ms, &trouble);
    forget (cluster);
    return abandoned;
}

void ctki_cluster_close_one (ctki_cluster_t *cluster, ctalk_pid_t pid, int timeout_ms, int abandoned)
{
    ck_assert_int_eq (ctalk_server_close (&cluster->server[pid], timeout_ms), abandoned);
    ck_assert_ptr_null (cluster->server[pid]);
}

typedef struct {
    ctalk_server_t *server;
    ctalk_pid_t peer;
    int state;
} state_t;

static bool has_state (void *arg)
{
    const state_t *s = arg;
    return ctalk_server_peer_state (s->server, s->peer) == s->state;
}

void ctki_cluster_await_state (ctalk_server_t *server, ctalk_pid_t peer, int state)
{
    state_t s = {server, peer, state};
    ck_assert_msg (ctki_test_until (has_state, &s, ctki_test_long_ms ()), "peer %d has state %d, not %d", peer,
                   ctalk_server_peer_state (server, peer), state);
}
