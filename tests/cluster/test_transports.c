/*
 * test_transports.c - the same over ipc, inproc and IPv6.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/cluster/suites.h"
#include "tests/support/support.h"

/* Three servers at endpoints made from a prefix and their pids exchange what others do, twice, and restart in between.
 */
static void over (const char *prefix)
{
    for (int round = 0; round < 2; round++) {
        ctki_cluster_t cluster = {.count = 3, .config = ctalk_config_new ()};
        ck_assert_ptr_nonnull (cluster.config);
        for (ctalk_pid_t pid = 1; pid <= 3; pid++) {
            char endpoint[200];
            ctalk_error_t error = {0};
            (void) snprintf (endpoint, sizeof endpoint, "%s%d", prefix, pid);
            int rc = ctalk_config_add_server (cluster.config, pid, endpoint, &error);
            ck_assert_msg (rc == 0, "%s", error.text);
        }
        for (ctalk_pid_t pid = 1; pid <= 3; pid++) {
            cluster.server[pid] = ctki_cluster_start (pid, cluster.config);
            ck_assert_str_eq (ctalk_server_endpoint (cluster.server[pid]), ctalk_config_endpoint (cluster.config, pid));
        }
        ctki_cluster_wait_up (&cluster);
        ctki_traffic_exchange (&cluster, ctki_test_count (500));
        ctki_traffic_send (cluster.server[1], CTALK_BROADCAST, 1, "all");
        ctki_traffic_expect (cluster.server[2], 1, 1, "all");
        ctki_traffic_expect (cluster.server[3], 1, 1, "all");
        ctki_cluster_close (&cluster);
    }
}

/* Over ipc, with absolute paths; the sockets are gone afterwards or can be bound again. */
START_TEST (over_ipc)
{
    char folder[] = "/tmp/ctalk-ipc-XXXXXX", path[80];
    ck_assert_ptr_nonnull (mkdtemp (folder));
    (void) snprintf (path, sizeof path, "ipc://%s/", folder);
    over (path);
    for (int pid = 1; pid <= 3; pid++) {
        (void) snprintf (path, sizeof path, "%s/%d", folder, pid);
        (void) unlink (path);
    }
    ck_assert_int_eq (rmdir (folder), 0);
}
END_TEST

/* Over inproc, within the process. */
START_TEST (over_inproc)
{
    over ("inproc://clustertalk-test-");
}
END_TEST

static bool has_ipv6 (void)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket (AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool has = fd >= 0 && bind (fd, (const struct sockaddr *) &address, sizeof address) == 0;
    if (fd >= 0)
        (void) close (fd);
    return has;
}

/* Over IPv6, with ports chosen by the system. */
START_TEST (over_ipv6)
{
    if (!has_ipv6 ()) {
        ctki_test_figure ("over_ipv6", "SKIPPED: this machine has no IPv6 loopback");
        return;
    }
    ctki_cluster_t cluster = {.count = 2, .config = ctalk_config_new ()};
    ck_assert_ptr_nonnull (cluster.config);
    for (ctalk_pid_t pid = 1; pid <= 2; pid++)
        CTKI_SUCCEEDS (ctalk_config_add_server (cluster.config, pid, "[::1]:0", NULL));
    for (ctalk_pid_t pid = 1; pid <= 2; pid++)
        cluster.server[pid] = ctki_cluster_start (pid, cluster.config);
    for (ctalk_pid_t pid = 1; pid <= 2; pid++) {
        const char *endpoint = ctalk_server_endpoint (cluster.server[3 - pid]);
        ck_assert_msg (strncmp (endpoint, "tcp://[::1]:", 12) == 0, "%s", endpoint);
        CTKI_SUCCEEDS (ctalk_server_add_peer (cluster.server[pid], 3 - pid, endpoint));
    }
    ctki_cluster_wait_up (&cluster);
    ctki_traffic_exchange (&cluster, 100);
    ctki_cluster_close (&cluster);
}
END_TEST

/* An ipc endpoint that a living server holds is in use: it is not taken away from it. */
START_TEST (ipc_in_use)
{
    char folder[] = "/tmp/ctalk-ipc-XXXXXX", endpoint[80];
    ctalk_error_t error = {0};
    ck_assert_ptr_nonnull (mkdtemp (folder));
    (void) snprintf (endpoint, sizeof endpoint, "ipc://%s/1", folder);
    ctalk_config_t *config = ctalk_config_new ();
    ck_assert_ptr_nonnull (config);
    CTKI_SUCCEEDS (ctalk_config_add_server (config, 1, endpoint, NULL));
    ctalk_server_t *server = ctki_cluster_start (1, config);
    errno = 0;
    ctalk_server_t *second = ctalk_server_new (1, config, &error);
    ck_assert_msg (second == NULL && errno == EADDRINUSE, "%s", error.text);
    ck_assert_int_eq (ctalk_server_close (&server, 0), 0);
    ctalk_config_destroy (&config);
    (void) unlink (endpoint + 6);
    ck_assert_int_eq (rmdir (folder), 0);
}
END_TEST

Suite *ctki_suite_transports (void)
{
    Suite *suite = suite_create ("transports");
    TCase *tcase = ctki_leaks_tcase ("transports", 60);
    tcase_add_test (tcase, over_ipc);
    tcase_add_test (tcase, over_inproc);
    tcase_add_test (tcase, over_ipv6);
    tcase_add_test (tcase, ipc_in_use);
    suite_add_tcase (suite, tcase);
    return suite;
}
