/*
 * test_start.c - ctalk_server_new () when it cannot start the server: a clear
 * error, and nothing left behind (the leak check of each test sees to that).
 * What changes limits or users is done in a worker process.
 */
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/cluster/suites.h"
#include "tests/support/support.h"

enum { NOBODY = 65534 };

/* The start of pid fails with this errno and a text that holds every word of words. */
static void start_fails (ctalk_pid_t pid, const ctalk_config_t *config, int code, const char *word)
{
    ctalk_error_t error = {0};
    errno = 0;
    ctalk_server_t *server = ctalk_server_new (pid, config, &error);
    ck_assert_msg (server == NULL && errno == code, "%s, not %s: %s", strerror (errno), strerror (code), error.text);
    ck_assert_int_eq (error.code, code);
    ck_assert_msg (strstr (error.text, word), "'%s' does not say '%s'", error.text, word);
    errno = 0;
    ck_assert (ctalk_server_new (pid, config, NULL) == NULL && errno == code);
}

/* After a failed start a good one works. */
static void start_works (void)
{
    ctki_cluster_t cluster;
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctki_traffic_exchange (&cluster, 10);
    ctki_cluster_close (&cluster);
}

/* No config, and a pid that is not in it. */
START_TEST (no_config_no_pid)
{
    ctalk_config_t *config = ctki_cluster_config (2, NULL, NULL);
    start_fails (1, NULL, EINVAL, "");
    start_fails (3, config, EHOSTUNREACH, "3");
    start_fails (CTALK_BROADCAST, config, EHOSTUNREACH, "");
    ctalk_config_destroy (&config);
    start_works ();
}
END_TEST

/* Options that contradict each other are named. */
START_TEST (contradicting_options)
{
    ctalk_config_t *config = ctki_cluster_config (1, NULL, CTKI_OPTIONS ("HeartbeatMs", "2000"));
    start_fails (1, config, EINVAL, "HeartbeatMs");
    ctki_cluster_set (config, CTKI_OPTIONS ("SuspectMs", "3000", "DownMs", "3000"));
    start_fails (1, config, EINVAL, "DownMs");
    ctki_cluster_set (config, CTKI_OPTIONS ("DownMs", "3001"));
    ctalk_server_t *server = ctki_cluster_start (1, config);
    ck_assert_int_eq (ctalk_server_close (&server, 0), 0);
    ctalk_config_destroy (&config);
}
END_TEST

/* A port that somebody else listens on is EADDRINUSE, and the text names the endpoint; when it is free, it works. */
START_TEST (port_in_use)
{
    uint16_t port = 0;
    char text[40];
    int fd = ctki_ports_listening (&port);
    ctalk_config_t *config = ctki_cluster_config (1, &port, NULL);
    (void) snprintf (text, sizeof text, "127.0.0.1:%u", port);
    start_fails (1, config, EADDRINUSE, text);
    (void) close (fd);
    ctalk_server_t *server = ctki_cluster_start (1, config);
    start_fails (1, config, EADDRINUSE, text);
    ck_assert_int_eq (ctalk_server_close (&server, 0), 0);
    ctalk_config_destroy (&config);
}
END_TEST

/* An address that is not this machine's is EADDRNOTAVAIL. */
START_TEST (address_not_available)
{
    ctalk_config_t *config = ctalk_config_new ();
    ck_assert_ptr_nonnull (config);
    CTKI_SUCCEEDS (ctalk_config_add_server (config, 1, "192.0.2.1:5001", NULL));
    start_fails (1, config, EADDRNOTAVAIL, "192.0.2.1:5001");
    ctalk_config_destroy (&config);
    start_works ();
}
END_TEST

/* In the worker, nothing is asserted with Check. */
static bool start_is_refused (const ctalk_config_t *config, int code, const char *word, ctki_trouble_t *trouble)
{
    ctalk_error_t error = {0};
    ctalk_server_t *server = ctalk_server_new (1, config, &error);
    CTKI_EXPECT (trouble, server == NULL);
    CTKI_EXPECT_EQUAL (trouble, errno, code);
    CTKI_EXPECT_EQUAL (trouble, error.code, code);
    if (!strstr (error.text, word))
        return ctki_trouble_note (trouble, __FILE__, __LINE__, "no '%s' in: %.150s", word, error.text);
    return true;
}

static void drop_root (void)
{
    if (getuid () == 0 && (setgroups (0, NULL) || setgid (NOBODY) || setuid (NOBODY)))
        return;
}

static bool bind_where_forbidden (int fd, void *arg, ctki_trouble_t *trouble)
{
    (void) fd;
    ctalk_config_t *config = ctalk_config_new ();
    drop_root ();
    CTKI_EXPECT_EQUAL (trouble, ctalk_config_add_server (config, 1, arg, NULL), 0);
    size_t before = ctki_leaks_descriptors ();
    bool ok = start_is_refused (config, EACCES, (const char *) arg + strlen ("ipc://"), trouble);
    ctalk_config_destroy (&config);
    CTKI_EXPECT (trouble, ctki_leaks_await_descriptors (before, ctki_test_long_ms ()));
    return ok;
}

/* A folder that may not be written is EACCES for an ipc endpoint. */
START_TEST (no_permission)
{
    char folder[] = "/tmp/ctalk-closed-XXXXXX", endpoint[80];
    ctki_process_t process;
    ck_assert_ptr_nonnull (mkdtemp (folder));
    ck_assert_int_eq (chmod (folder, 0555), 0);
    (void) snprintf (endpoint, sizeof endpoint, "ipc://%s/socket", folder);
    ctki_process_start (&process, bind_where_forbidden, endpoint);
    ctki_process_join (&process, ctki_test_long_ms ());
    ck_assert_int_eq (rmdir (folder), 0);
}
END_TEST

/* Limits the descriptors so that just so many are free: numbers below the limit may be free, too. Returns the limit. */
static size_t limit_descriptors (size_t more)
{
    struct rlimit limit;
    if (getrlimit (RLIMIT_NOFILE, &limit))
        return 0;
    int fd = 0;
    for (size_t free_ones = 0; fd < CTKI_LEAKS_DESCRIPTORS; fd++)
        if (fcntl (fd, F_GETFD) < 0 && free_ones++ == more)
            break;
    limit.rlim_cur = (rlim_t) fd;
    return setrlimit (RLIMIT_NOFILE, &limit) ? 0 : (size_t) fd;
}

/* Every limit from none to some more than a server needs: EMFILE with the figures, and then a server. */
static bool start_with_few_descriptors (int fd, void *arg, ctki_trouble_t *trouble)
{
    (void) fd;
    size_t refused = 0;
    for (size_t more = 0; more < 80; more++) {
        char figure[24];
        size_t limit = limit_descriptors (more);
        CTKI_EXPECT (trouble, limit > 0);
        ctalk_error_t error = {0};
        ctalk_server_t *server = ctalk_server_new (1, arg, &error);
        if (server) {
            CTKI_EXPECT_EQUAL (trouble, ctalk_server_close (&server, 0), 0);
            CTKI_EXPECT (trouble, refused > 0);
            continue;
        }
        CTKI_EXPECT_EQUAL (trouble, errno, EMFILE);
        (void) snprintf (figure, sizeof figure, "%zu", limit);
        if (!strstr (error.text, figure))
            return ctki_trouble_note (trouble, __FILE__, __LINE__, "no limit %s in: %.150s", figure, error.text);
        refused++;
    }
    CTKI_EXPECT (trouble, refused > 0 && refused < 80);
    return true;
}

/* Too few descriptors: EMFILE with a text that says how many are needed and what the limit is, never a crash. */
START_TEST (few_descriptors)
{
    ctki_process_t process;
    ctalk_config_t *config = ctki_cluster_config (3, NULL, NULL);
    ctki_process_start (&process, start_with_few_descriptors, config);
    ctki_process_join (&process, 4 * ctki_test_long_ms ());
    ctalk_config_destroy (&config);
}
END_TEST

static bool start_without_threads (int fd, void *arg, ctki_trouble_t *trouble)
{
    (void) fd;
    struct rlimit none = {1, 1};
    drop_root ();
    CTKI_EXPECT_EQUAL (trouble, setrlimit (RLIMIT_NPROC, &none), 0);
    size_t before = ctki_leaks_descriptors ();
    if (!start_is_refused (arg, EAGAIN, "thread", trouble))
        return false;
    CTKI_EXPECT (trouble, ctki_leaks_await_descriptors (before, ctki_test_long_ms ()));
    return true;
}

/* A process that may start no thread gets EAGAIN. */
START_TEST (no_threads)
{
    ctki_process_t process;
    ctalk_config_t *config = ctki_cluster_config (2, NULL, NULL);
    ctki_process_start (&process, start_without_threads, config);
    ctki_process_join (&process, ctki_test_long_ms ());
    ctalk_config_destroy (&config);
}
END_TEST

static bool second_start_without_threads (int fd, void *arg, ctki_trouble_t *trouble)
{
    (void) fd;
    struct rlimit none = {1, 1};
    drop_root ();
    ctalk_server_t *first = ctalk_server_new (2, arg, NULL);
    CTKI_EXPECT (trouble, first);
    CTKI_EXPECT_EQUAL (trouble, setrlimit (RLIMIT_NPROC, &none), 0);
    bool ok = start_is_refused (arg, EAGAIN, "thread", trouble);
    CTKI_EXPECT (trouble, ctalk_server_add_peer (first, 9, "127.0.0.1:9") == -1 && errno == EAGAIN);
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_close (&first, 0), 0);
    return ok;
}

/* The same for a second server while a first one runs, and for a peer that is added. */
START_TEST (no_more_threads)
{
    ctki_process_t process;
    ctalk_config_t *config = ctki_cluster_config (2, NULL, NULL);
    ctki_process_start (&process, second_start_without_threads, config);
    ctki_process_join (&process, ctki_test_long_ms ());
    ctalk_config_destroy (&config);
}
END_TEST

static bool descriptors_run_out_later (int fd, void *arg, ctki_trouble_t *trouble)
{
    (void) fd;
    ctalk_server_t *server = ctalk_server_new (1, arg, NULL);
    CTKI_EXPECT (trouble, server);
    CTKI_EXPECT (trouble, limit_descriptors (0));
    CTKI_EXPECT (trouble, ctalk_server_fd (server) == -1 && errno == EMFILE);
    CTKI_EXPECT (trouble, ctalk_server_add_peer (server, 9, "127.0.0.1:9") == -1 && errno == EMFILE);
    CTKI_EXPECT (trouble, limit_descriptors (100));
    CTKI_EXPECT (trouble, ctalk_server_fd (server) >= 0);
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_add_peer (server, 9, "127.0.0.1:9"), 0);
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_close (&server, 0), 0);
    return true;
}

/* Descriptors that run out later: EMFILE from ctalk_server_fd () and ctalk_server_add_peer (), which work later on. */
START_TEST (descriptors_run_out)
{
    ctki_process_t process;
    ctalk_config_t *config = ctki_cluster_config (1, NULL, NULL);
    ctki_process_start (&process, descriptors_run_out_later, config);
    ctki_process_join (&process, ctki_test_long_ms ());
    ctalk_config_destroy (&config);
}
END_TEST

/* A peer whose name does not resolve hinders nothing: it is a state of the link, not an error of the start. */
START_TEST (unresolvable_peer)
{
    ctki_cluster_t cluster;
    ctki_cluster_open (&cluster, 2, NULL);
    CTKI_SUCCEEDS (ctalk_server_add_peer (cluster.server[1], 3, "no-such-host.invalid:5001"));
    ctki_traffic_send (cluster.server[1], 2, 1, "works");
    ctki_traffic_expect (cluster.server[2], 1, 1, "works");
    ck_assert_int_ne (ctalk_server_peer_state (cluster.server[1], 3), CTALK_STATE_UP);
    ctki_cluster_close (&cluster);
}
END_TEST

/* A peer given by name is reached. */
START_TEST (peer_by_name)
{
    char endpoint[64];
    unsigned port = 0;
    ctalk_config_t *config = ctki_cluster_config (2, NULL, NULL);
    ctalk_server_t *one = ctki_cluster_start (1, config), *two = ctki_cluster_start (2, config);
    ck_assert_int_eq (sscanf (ctalk_server_endpoint (two), "tcp://127.0.0.1:%u", &port), 1);
    (void) snprintf (endpoint, sizeof endpoint, "localhost:%u", port);
    CTKI_SUCCEEDS (ctalk_server_add_peer (one, 2, endpoint));
    ctki_traffic_send (one, 2, 1, "by name");
    ctki_traffic_expect (two, 1, 1, "by name");
    ck_assert_int_eq (ctalk_server_close (&one, ctki_test_long_ms ()), 0);
    ck_assert_int_eq (ctalk_server_close (&two, ctki_test_long_ms ()), 0);
    ctalk_config_destroy (&config);
}
END_TEST

Suite *ctki_suite_start (void)
{
    Suite *suite = suite_create ("start");
    TCase *tcase = ctki_leaks_tcase ("start", 100);
    tcase_add_test (tcase, no_config_no_pid);
    tcase_add_test (tcase, contradicting_options);
    ctki_add_test_of_system (tcase, port_in_use);
    tcase_add_test (tcase, address_not_available);
    tcase_add_test (tcase, no_permission);
    ctki_add_test_of_system (tcase, few_descriptors);
    ctki_add_test_of_system (tcase, no_threads);
    ctki_add_test_of_system (tcase, no_more_threads);
    ctki_add_test_of_system (tcase, descriptors_run_out);
    tcase_add_test (tcase, unresolvable_peer);
    tcase_add_test (tcase, peer_by_name);
    suite_add_tcase (suite, tcase);
    return suite;
}
