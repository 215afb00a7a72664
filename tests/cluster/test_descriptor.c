/*
 * test_descriptor.c - ctalk_server_fd (): readable, level-triggered, while the
 * inbox holds something and from the start of close on; never for nothing.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <unistd.h>

#include "tests/cluster/suites.h"
#include "tests/support/support.h"

static bool readable (int fd, int ms)
{
    struct pollfd item = {.fd = fd, .events = POLLIN};
    return poll (&item, 1, ms) == 1;
}

/* It is the same for the whole life, readable while something is there, and not when all is taken. */
START_TEST (level_triggered)
{
    ctki_cluster_t cluster;
    ctki_cluster_open_up (&cluster, 2, NULL);
    int fd = ctalk_server_fd (cluster.server[2]);
    ck_assert_int_ge (fd, 0);
    ck_assert_int_eq (ctalk_server_fd (cluster.server[2]), fd);
    ck_assert_int_ne (fcntl (fd, F_GETFD) & FD_CLOEXEC, 0);
    ck_assert (!readable (fd, 0));
    for (int64_t i = 0; i < 3; i++)
        ctki_traffic_send (cluster.server[1], 2, i, "x");
    for (int64_t i = 0; i < 3; i++) {
        ck_assert (readable (fd, ctki_test_long_ms ()));
        ck_assert (readable (fd, 0));
        ctki_traffic_expect (cluster.server[2], 1, i, "x");
    }
    ck_assert (!readable (fd, 0));
    ctki_cluster_close (&cluster);
}
END_TEST

/* Made when the inbox already holds something, it is readable from the first moment. */
START_TEST (made_late)
{
    ctki_cluster_t cluster;
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctki_traffic_send (cluster.server[1], 2, 1, "first");
    ctki_traffic_expect (cluster.server[2], 1, 1, "first");
    ctki_traffic_send (cluster.server[2], 2, 2, "local");
    int fd = ctalk_server_fd (cluster.server[2]);
    ck_assert (readable (fd, 0));
    ctki_traffic_expect (cluster.server[2], 2, 2, "local");
    ck_assert (!readable (fd, 0));
    ctki_cluster_close (&cluster);
}
END_TEST

static bool send_with_pauses (void *arg, ctki_trouble_t *trouble)
{
    static const size_t sizes[] = {8, 5000};
    const ctki_stream_t *whole = arg;
    unsigned seed = 7;
    for (size_t sent = 0; sent < whole->count;) {
        ctki_stream_t part = *whole;
        part.first = (int64_t) sent;
        size_t some = (size_t) rand_r (&seed) % 20 + 1;
        part.count = CTKI_MIN (whole->count - sent, some);
        part.sizes = sizes;
        part.sizes_count = 2;
        if (!ctki_traffic_stream (&part, trouble))
            return false;
        sent += part.count;
        if (rand_r (&seed) % 4 == 0)
            (void) poll (NULL, 0, 1); /* lets the receiver run dry: the load of this test, not a wait for anything */
    }
    return true;
}

/* Takes at least one, which must be there, and some more if they are; returns how many. */
static size_t drain_some (ctalk_server_t *server, ctki_journal_t *journal, unsigned *seed)
{
    size_t most = (size_t) rand_r (seed) % 30 + 1, count = 0;
    while (count < most) {
        ctalk_envelope_t envelope;
        if (ctalk_recv (server, &envelope, 0)) {
            ck_assert_int_eq (errno, EAGAIN);
            ck_assert_msg (count > 0, "readable for nothing");
            break;
        }
        ctki_journal_received (journal, 2, &envelope);
        ctalk_envelope_close (&envelope);
        count++;
    }
    return count;
}

static void partial_drains (int (*wait_readable) (int fd, int epoll_fd), const char *const *options)
{
    ctki_cluster_t cluster;
    ctki_test_thread_t thread;
    ctki_trouble_t trouble = {""};
    size_t count = ctki_test_count (10000), got = 0, turns = 0;
    unsigned seed = 42;
    ctki_journal_t *journal = ctki_journal_new (2, count);
    ctki_cluster_open_up (&cluster, 2, options);
    int fd = ctalk_server_fd (cluster.server[2]), epoll_fd = epoll_create1 (EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    ck_assert_int_eq (epoll_ctl (epoll_fd, EPOLL_CTL_ADD, fd, &event), 0);
    ctki_stream_t stream = {cluster.server[1], 2, 0, count, NULL, 0, journal};
    ctki_test_thread_start (&thread, send_with_pauses, &stream);
    for (; got < count; turns++) {
        ck_assert_msg (wait_readable (fd, epoll_fd) == 1, "not readable after %zu of %zu", got, count);
        got += drain_some (cluster.server[2], journal, &seed);
    }
    ck_assert (!readable (fd, 0));
    ctki_test_thread_join (&thread);
    ck_assert_msg (ctki_journal_agrees (journal, &trouble), "%s", trouble.text);
    (void) close (epoll_fd);
    ctki_journal_destroy (&journal);
    ctki_cluster_close (&cluster);
    ctki_test_figure ("partial_drains", "%zu envelopes in %zu turns", count, turns);
}

static int by_poll (int fd, int epoll_fd)
{
    (void) epoll_fd;
    return readable (fd, ctki_test_long_ms ());
}

static int by_epoll (int fd, int epoll_fd)
{
    (void) fd;
    struct epoll_event event;
    return epoll_wait (epoll_fd, &event, 1, ctki_test_long_ms ());
}

static int by_select (int fd, int epoll_fd)
{
    (void) epoll_fd;
    fd_set set;
    FD_ZERO (&set);
    FD_SET (fd, &set);
    int ms = ctki_test_long_ms ();
    struct timeval timeout = {ms / 1000, (suseconds_t) (ms % 1000) * 1000};
    return select (fd + 1, &set, NULL, NULL, &timeout);
}

/* A receiver that drains random parts after each poll, epoll or select: never too little, never for nothing. */
START_TEST (partial_drains_by_poll)
{
    partial_drains (by_poll, NULL);
}
END_TEST

START_TEST (partial_drains_by_epoll)
{
    partial_drains (by_epoll, CTKI_OPTIONS ("Help", "off"));
}
END_TEST

START_TEST (partial_drains_by_select)
{
    partial_drains (by_select, CTKI_OPTIONS ("SpinMicros", "20"));
}
END_TEST

static bool wait_readable_then_recv (void *arg, ctki_trouble_t *trouble)
{
    ctalk_envelope_t envelope;
    int fd = ctalk_server_fd (arg);
    CTKI_EXPECT (trouble, fd >= 0);
    CTKI_EXPECT (trouble, ctalk_recv (arg, &envelope, -1) == -1 && errno == ESHUTDOWN);
    return true;
}

static bool hold_recv (void *arg, ctki_trouble_t *trouble)
{
    int fd = ctalk_server_fd (arg);
    CTKI_EXPECT (trouble, readable (fd, ctki_test_long_ms ()));
    return true;
}

/* From the start of close on it is readable: a loop that polls it learns that the server is going. */
START_TEST (readable_on_close)
{
    ctki_cluster_t cluster;
    ctki_test_thread_t waiting, polling;
    ctki_cluster_open_absent (&cluster, 1, NULL);
    ck_assert_int_ge (ctalk_server_fd (cluster.server[1]), 0);
    ctki_traffic_send (cluster.server[1], cluster.absent, 1, "keeps close busy");
    ctki_test_thread_start (&waiting, wait_readable_then_recv, cluster.server[1]);
    ctki_test_thread_start (&polling, hold_recv, cluster.server[1]);
    ctki_test_thread_await_blocked (&waiting);
    ctki_test_thread_await_blocked (&polling);
    ctki_cluster_close_one (&cluster, 1, ctki_test_ms (300), 1);
    ctki_test_thread_join (&waiting);
    ctki_test_thread_join (&polling);
    (void) ctki_cluster_close_abandoning (&cluster, 0);
}
END_TEST

Suite *ctki_suite_descriptor (void)
{
    Suite *suite = suite_create ("descriptor");
    TCase *tcase = ctki_leaks_tcase ("descriptor", 100);
    tcase_add_test (tcase, level_triggered);
    tcase_add_test (tcase, made_late);
    tcase_add_test (tcase, partial_drains_by_poll);
    tcase_add_test (tcase, partial_drains_by_epoll);
    tcase_add_test (tcase, partial_drains_by_select);
    tcase_add_test (tcase, readable_on_close);
    suite_add_tcase (suite, tcase);
    return suite;
}
