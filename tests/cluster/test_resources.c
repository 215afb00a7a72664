/*
 * test_resources.c - threads and sockets that cannot be made: the k-th of a start
 * fails, for every k, and each time there is a clean error and nothing is left;
 * and while servers run, what they lack is tried again. Uses the countdowns of
 * the library (src/countdown.h).
 */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "actors/resolver.h"
#include "src/sock.h"
#include "src/sys.h"
#include "tests/cluster/suites.h"
#include "tests/support/support.h"

enum { STEPS_MAX = 200 };

typedef long (*arm_t) (long after, long times);

static const struct {
    const char *name;
    arm_t arm;
    int code;
} kinds[] = {{"threads", ctki_thread_fail, EAGAIN}, {"sockets", ctki_sock_fail, EMFILE}};

enum { KINDS = sizeof kinds / sizeof kinds[0] };

static void tear_down (void)
{
    (void) ctki_thread_fail (-1, 0);
    (void) ctki_sock_fail (-1, 0);
}

/* No more is open and running than before. */
static void expect_gone (const ctki_leaks_t *before, const char *name, long k)
{
    char text[400];
    ck_assert_msg (ctki_leaks_gone (before, ctki_test_long_ms (), text, sizeof text), "%s, step %ld: left over: %s",
                   name, k, text);
}

/* A start of pid of which the k-th fails, and `times` in all; NULL: it failed as it should. */
static ctalk_server_t *try_start (int kind, const ctalk_config_t *config, long k, long times)
{
    ctalk_error_t error = {0};
    (void) kinds[kind].arm (k, times);
    errno = 0;
    ctalk_server_t *server = ctalk_server_new (1, config, &error);
    int code = errno;
    (void) kinds[kind].arm (-1, 0);
    ck_assert_msg (server || (code == kinds[kind].code && error.code == code && error.text[0]),
                   "%s, step %ld: %s, %d: '%s'", kinds[kind].name, k, strerror (code), error.code, error.text);
    return server;
}

/* The k-th thread, or socket, of a start fails, for every k, alone or with all that follow: the error says so, all is
 * undone, and the last try is a server that works. */
START_TEST (each_step_of_a_start)
{
    static ctki_leaks_t before;
    int kind = _i % KINDS;
    long times = _i / KINDS ? -1 : 1, k = 0;
    ctalk_config_t *config = ctki_cluster_config (3, NULL, NULL);
    ctalk_server_t *server = NULL;
    ctki_leaks_look (&before);
    for (; k < STEPS_MAX && !server; k++) {
        server = try_start (kind, config, k, times);
        if (!server)
            expect_gone (&before, kinds[kind].name, k);
    }
    ck_assert_ptr_nonnull (server);
    ck_assert_int_gt (k, 3);
    ck_assert_int_eq (ctalk_server_close (&server, 0), 0);
    ctalk_config_destroy (&config);
    ctki_test_figure ("each_step_of_a_start", "%ld %s, %s", k - 1, kinds[kind].name, times < 0 ? "all from it on" : "one");
}
END_TEST

/* The same of a second server, while a first one runs and is not disturbed. */
START_TEST (each_step_of_a_second_start)
{
    static ctki_leaks_t before;
    ctki_cluster_t cluster;
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctalk_config_t *config = ctki_cluster_config (2, NULL, NULL);
    ctalk_server_t *server = NULL;
    long k = 0;
    ctki_leaks_look (&before);
    for (; k < STEPS_MAX && !server; k++) {
        server = try_start (_i, config, k, 1);
        if (!server)
            expect_gone (&before, kinds[_i].name, k);
    }
    ck_assert_ptr_nonnull (server);
    ck_assert_int_eq (ctalk_server_close (&server, 0), 0);
    ctki_traffic_exchange (&cluster, 20);
    ctki_cluster_close (&cluster);
    ctalk_config_destroy (&config);
    ctki_test_figure ("each_step_of_a_second_start", "%ld %s", k - 1, kinds[_i].name);
}
END_TEST

/* The k-th thread, or socket, of adding a peer fails: the call says so, the peer is not there, and the next try works. */
START_TEST (each_step_of_adding_a_peer)
{
    static ctki_leaks_t before;
    ctki_cluster_t cluster;
    ctki_cluster_open_up (&cluster, 2, NULL);
    long k = 0;
    int rc = -1;
    ctki_leaks_look (&before);
    for (; k < STEPS_MAX && rc; k++) {
        (void) kinds[_i].arm (k, 1);
        errno = 0;
        rc = ctalk_server_add_peer (cluster.server[1], 9, "127.0.0.1:9");
        int code = errno;
        (void) kinds[_i].arm (-1, 0);
        ck_assert_msg (rc == 0 || code == kinds[_i].code, "%s, step %ld: %s", kinds[_i].name, k, strerror (code));
        if (rc == 0)
            break;
        ck_assert_int_eq (ctalk_server_peers (cluster.server[1], NULL, 0), 1);
        expect_gone (&before, kinds[_i].name, k);
    }
    ck_assert_int_gt (k, 0);
    ck_assert_int_eq (ctalk_server_peers (cluster.server[1], NULL, 0), 2);
    CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[1], 9));
    expect_gone (&before, kinds[_i].name, k);
    ctki_traffic_exchange (&cluster, 20);
    ctki_cluster_close (&cluster);
    ctki_test_figure ("each_step_of_adding_a_peer", "%ld %s", k, kinds[_i].name);
}
END_TEST

/* ---- while servers run */

static atomic_size_t refusals; /* log lines that say that something could not be made */

static void count_lines (int level, const char *text, void *words)
{
    if (level == CTALK_LOG_WARNING && strstr (text, words))
        atomic_fetch_add (&refusals, 1);
}

static bool refused (void *least)
{
    return atomic_load (&refusals) >= *(size_t *) least;
}

static bool rebuilt (void *server)
{
    return ctki_cluster_stats (server, 2).rebuilt > 0;
}

/* A link that must be made anew and gets no socket, the dealer or its monitor: the old one is kept and it is tried again;
 * when there are sockets it is made anew; nothing is lost on the way, and no descriptor. */
START_TEST (rebuild_without_sockets)
{
    static ctki_leaks_t before;
    ctki_cluster_t cluster;
    ctki_cluster_open_up (&cluster, 2, CTKI_OPTIONS (CTKI_FAST_FAILURE));
    ctki_traffic_exchange (&cluster, 5);
    ctki_leaks_look (&before);
    ctalk_log_set (count_lines, (void *) (uintptr_t) "no socket for a new link", CTALK_LOG_DEBUG);
    CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, CTALK_IN, true)); /* it hears no answer any more */
    (void) ctki_sock_fail (_i, -1);
    size_t two = 2;
    ck_assert (ctki_test_until (refused, &two, ctki_test_long_ms ()));
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 2).rebuilt, 0);
    ctki_traffic_send (cluster.server[1], 2, 1, "over the old link");
    ctki_traffic_expect (cluster.server[2], 1, 1, "over the old link");
    (void) ctki_sock_fail (-1, 0);
    ck_assert (ctki_test_until (rebuilt, cluster.server[1], ctki_test_long_ms ()));
    ctalk_log_set (NULL, NULL, 0);
    CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, CTALK_IN, false));
    ctki_cluster_wait_up (&cluster);
    ctki_traffic_exchange (&cluster, 20);
    expect_gone (&before, "sockets", _i);
    ctki_cluster_close (&cluster);
}
END_TEST

/* The old link is good again before there were sockets: it goes on as if nothing had been. */
START_TEST (rebuild_not_needed)
{
    ctki_cluster_t cluster;
    ctki_cluster_open_up (&cluster, 2, CTKI_OPTIONS (CTKI_FAST_FAILURE));
    ctalk_log_set (count_lines, (void *) (uintptr_t) "no socket for a new link", CTALK_LOG_DEBUG);
    CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, CTALK_IN, true));
    (void) ctki_sock_fail (0, -1);
    size_t once = 1;
    ck_assert (ctki_test_until (refused, &once, ctki_test_long_ms ()));
    CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, CTALK_IN, false));
    ctki_cluster_await_state (cluster.server[1], 2, CTALK_STATE_UP);
    ctki_traffic_exchange (&cluster, 20);
    (void) ctki_sock_fail (-1, 0);
    ctalk_log_set (NULL, NULL, 0);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 2).retransmitted, 0);
    ctki_cluster_close (&cluster);
}
END_TEST

/* A lazy sender that gets no thread, or no socket: the send is accepted all the same, and arrives when it is tried again. */
START_TEST (lazy_sender)
{
    enum { PIPE_SOCKETS = 2 }; /* its pipe is made first: without that there is no sender that could be tried again */
    long k = kinds[_i].code == EMFILE ? PIPE_SOCKETS : 0;
    ctki_cluster_t cluster;
    ctki_cluster_open (&cluster, 2, CTKI_OPTIONS ("Senders", "lazy"));
    (void) kinds[_i].arm (k, 1);
    ctki_traffic_send (cluster.server[1], 2, 7, "arrives");
    ctki_traffic_expect (cluster.server[2], 1, 7, "arrives");
    ck_assert_int_gt (kinds[_i].arm (-1, 0), k + 1); /* one failed, and there was another try */
    ctki_traffic_exchange (&cluster, 5);
    ctki_cluster_close (&cluster);
}
END_TEST

static bool is_seen (void *server)
{
    return ctalk_server_incarnation (server, 2) != 0;
}

/* A sender that gets no thread, or no socket, until a session with its peer was opened from there: what the peer sends is
 * handed out meanwhile, and once the sender is there the peer is told as up. */
START_TEST (late_sender_tells)
{
    enum { PIPE_SOCKETS = 2 };
    ctki_ports_t ports;
    ctki_ports_take (&ports, 2);
    ctalk_config_t *lazy = ctki_cluster_config (2, ports.port, CTKI_OPTIONS ("Senders", "lazy"));
    ctalk_config_t *eager = ctki_cluster_config (2, ports.port, NULL);
    ctalk_server_t *one = ctki_cluster_start (1, lazy);
    CTKI_SUCCEEDS (ctalk_server_watch_peers (one, true));
    CTKI_SUCCEEDS (ctalk_server_cut (one, 2, CTALK_IN, true));
    ctalk_server_t *two = ctki_cluster_start (2, eager);
    ctki_traffic_send (two, 1, 1, "meanwhile");
    (void) kinds[_i].arm (kinds[_i].code == EMFILE ? PIPE_SOCKETS : 0, -1);
    ctki_traffic_send (one, 2, 2, "late");
    CTKI_SUCCEEDS (ctalk_server_cut (one, 2, CTALK_IN, false));
    ck_assert (ctki_test_until (is_seen, one, ctki_test_long_ms ()));
    ctki_traffic_expect (one, 2, 1, "meanwhile");
    (void) kinds[_i].arm (-1, 0);
    ctki_traffic_expect (two, 1, 2, "late");
    ctalk_envelope_t envelope;
    ctki_traffic_take (one, &envelope);
    ck_assert_int_eq (envelope.kind, CTALK_PEER_UP);
    ctalk_envelope_close (&envelope);
    ctki_traffic_expect_nothing (one, 0);
    ck_assert_int_eq (ctalk_server_close (&two, ctki_test_long_ms ()), 0);
    ck_assert_int_eq (ctalk_server_close (&one, ctki_test_long_ms ()), 0);
    ctalk_config_destroy (&lazy);
    ctalk_config_destroy (&eager);
    ctki_ports_release (&ports);
}
END_TEST

/* A name that no thread looks up, for there is none to be had, is looked up a little later. */
START_TEST (resolver_without_threads)
{
    unsigned port = 0;
    char endpoint[64];
    ctki_cluster_t cluster;
    ctki_cluster_open (&cluster, 1, NULL);
    ctalk_config_t *config = ctki_cluster_config (2, NULL, NULL);
    ctalk_server_t *two = ctki_cluster_start (2, config);
    ck_assert_int_eq (sscanf (ctalk_server_endpoint (two), "tcp://127.0.0.1:%u", &port), 1);
    (void) snprintf (endpoint, sizeof endpoint, "localhost:%u", port);
    (void) ctki_thread_fail (1, 1); /* after its sender's */
    CTKI_SUCCEEDS (ctalk_server_add_peer (cluster.server[1], 2, endpoint));
    ctki_traffic_send (cluster.server[1], 2, 1, "by name");
    ctki_traffic_expect (two, 1, 1, "by name");
    ck_assert_int_gt (ctki_thread_fail (-1, 0), 2); /* it was tried, and again */
    ck_assert_int_eq (ctalk_server_close (&cluster.server[1], ctki_test_long_ms ()), 0);
    ck_assert_int_eq (ctalk_server_close (&two, ctki_test_long_ms ()), 0);
    ctalk_config_destroy (&config);
    ctki_cluster_close_abandoning (&cluster, 0);
}
END_TEST

static int turn_about (const char *host, char *address, size_t size)
{
    static atomic_uint turn;
    (void) host;
    (void) snprintf (address, size, atomic_fetch_add (&turn, 1) % 2 ? "127.0.0.1" : "127.0.0.2");
    return 0;
}

/* A name whose addresses take turns, as name servers do it, of a peer that is not there: its link is torn down when it
 * had its time, not with each answer; and when the peer is there it is reached. */
START_TEST (name_with_two_addresses)
{
    char endpoint[64];
    ctki_ports_t ports;
    ctki_cluster_t cluster;
    ctki_ports_take (&ports, 2);
    ctki_cluster_open (&cluster, 1, NULL);
    (void) snprintf (endpoint, sizeof endpoint, "localhost:%u", (unsigned) ports.port[1]);
    ctki_resolver_set_lookup (turn_about);
    CTKI_SUCCEEDS (ctalk_server_add_peer (cluster.server[1], 2, endpoint));
    ctki_traffic_send (cluster.server[1], 2, 1, "by name");
    ck_assert (ctki_test_until (rebuilt, cluster.server[1], ctki_test_long_ms ()));
    ctki_traffic_expect_nothing (cluster.server[1], 300);
    ck_assert_uint_le (ctki_cluster_stats (cluster.server[1], 2).rebuilt, 3);
    ctalk_config_t *config = ctki_cluster_config (2, ports.port, NULL);
    ctalk_server_t *two = ctki_cluster_start (2, config);
    ctki_traffic_expect (two, 1, 1, "by name");
    ck_assert_int_eq (ctalk_server_close (&cluster.server[1], ctki_test_long_ms ()), 0);
    (void) ctalk_server_close (&two, 0);
    ctki_resolver_set_lookup (NULL);
    ctalk_config_destroy (&config);
    ctki_ports_release (&ports);
    ctki_cluster_close_abandoning (&cluster, 0);
}
END_TEST

/* A server closes cleanly, and its port is free, though there is no socket to wait for that with. */
START_TEST (close_without_sockets)
{
    ctki_cluster_t cluster;
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctki_traffic_exchange (&cluster, 10);
    (void) ctki_sock_fail (0, -1);
    ctki_cluster_close (&cluster);
}
END_TEST

Suite *ctki_suite_resources (void)
{
    Suite *suite = suite_create ("resources");
    TCase *start = ctki_leaks_tcase ("start", 120), *running = ctki_leaks_tcase ("running", 120);
    tcase_add_checked_fixture (start, NULL, tear_down);
    tcase_add_checked_fixture (running, NULL, tear_down);
    tcase_add_loop_test (start, each_step_of_a_start, 0, 2 * KINDS);
    tcase_add_loop_test (start, each_step_of_a_second_start, 0, KINDS);
    tcase_add_loop_test (start, each_step_of_adding_a_peer, 0, KINDS);
    tcase_add_loop_test (running, rebuild_without_sockets, 0, 2);
    tcase_add_test (running, rebuild_not_needed);
    tcase_add_loop_test (running, lazy_sender, 0, KINDS);
    tcase_add_loop_test (running, late_sender_tells, 0, KINDS);
    tcase_add_test (running, resolver_without_threads);
    tcase_add_test (running, name_with_two_addresses);
    tcase_add_test (running, close_without_sockets);
    suite_add_tcase (suite, start);
    suite_add_tcase (suite, running);
    return suite;
}
