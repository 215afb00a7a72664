/*
 * test_wake.c - ctalk_server_wake (): one waiting receive returns EINTR; if none
 * waits, the next one does.
 */
#include <signal.h>
#include <stdatomic.h>

#include "tests/cluster/suites.h"
#include "tests/support/support.h"

static ctki_cluster_t cluster;
static atomic_int returned;

static void open_pair (void)
{
    atomic_store (&returned, 0);
    ctki_cluster_open_up (&cluster, 2, NULL);
}

static void close_pair (void)
{
    ctki_cluster_close (&cluster);
}

/* If none waits, the next receive returns EINTR, even when there is something to take, which the one after it takes. */
START_TEST (next_receive)
{
    ctalk_envelope_t envelope;
    ctki_traffic_send (cluster.server[1], 1, 1, "local");
    CTKI_SUCCEEDS (ctalk_server_wake (cluster.server[1]));
    CTKI_FAILS (EINTR, ctalk_recv (cluster.server[1], &envelope, 0));
    ctki_traffic_expect (cluster.server[1], 1, 1, "local");
    CTKI_FAILS (EAGAIN, ctalk_recv (cluster.server[1], &envelope, 0));
    CTKI_SUCCEEDS (ctalk_server_wake (cluster.server[1]));
    CTKI_FAILS (EINTR, ctalk_recv_many (cluster.server[1], &envelope, 1, -1));
    CTKI_FAILS (EAGAIN, ctalk_recv (cluster.server[1], &envelope, 10));
}
END_TEST

static bool recv_until_woken (void *arg, ctki_trouble_t *trouble)
{
    ctalk_envelope_t envelope;
    CTKI_EXPECT_EQUAL (trouble, ctalk_recv (arg, &envelope, -1), -1);
    CTKI_EXPECT_EQUAL (trouble, errno, EINTR);
    atomic_fetch_add (&returned, 1);
    return true;
}

static bool some_returned (void *arg)
{
    return atomic_load (&returned) == *(const int *) arg;
}

/* Of several waiting receives one wake ends one, and so on until the last. */
START_TEST (one_of_several)
{
    enum { WAITING = 3 };
    ctki_test_thread_t threads[WAITING];
    for (int i = 0; i < WAITING; i++) {
        ctki_test_thread_start (&threads[i], recv_until_woken, cluster.server[1]);
        ctki_test_thread_await_blocked (&threads[i]);
    }
    for (int i = 1; i <= WAITING; i++) {
        CTKI_SUCCEEDS (ctalk_server_wake (cluster.server[1]));
        ck_assert (ctki_test_until (some_returned, &i, ctki_test_long_ms ()));
        int more = i + 1;
        ck_assert_msg (!ctki_test_until (some_returned, &more, 20), "one wake ended two receives");
    }
    for (int i = 0; i < WAITING; i++)
        ctki_test_thread_join (&threads[i]);
}
END_TEST

static ctalk_server_t *woken_server;
static atomic_int woke_badly;

static void wake_in_handler (int signal_number)
{
    (void) signal_number;
    int code = errno;
    if (ctalk_server_wake (woken_server))
        atomic_store (&woke_badly, 1);
    errno = code;
}

static bool busy_calls (void *arg, ctki_trouble_t *trouble)
{
    int64_t end = ctki_test_now_ms () + 200;
    while (ctki_test_now_ms () < end) {
        ctalk_envelope_t envelope = ctki_traffic_envelope (1, 1, "x", 1);
        int rc = ctalk_send (arg, &envelope, 5);
        CTKI_EXPECT (trouble, rc == 0 || errno == EAGAIN || errno == EINTR);
        rc = ctalk_recv (arg, &envelope, 1);
        CTKI_EXPECT (trouble, rc == 0 || errno == EAGAIN || errno == EINTR);
        ctalk_envelope_close (&envelope);
    }
    return true;
}

static void install (struct sigaction *old)
{
    struct sigaction action = {.sa_handler = wake_in_handler, .sa_flags = SA_RESTART};
    atomic_store (&woke_badly, 0);
    woken_server = cluster.server[1];
    ck_assert_int_eq (sigaction (SIGUSR2, &action, old), 0);
}

/* A signal handler may call it, on the thread that waits and on another one. */
START_TEST (from_a_handler)
{
    ctki_test_thread_t thread;
    struct sigaction old;
    install (&old);
    ctki_test_thread_start (&thread, recv_until_woken, cluster.server[1]);
    ctki_test_thread_await_blocked (&thread);
    ck_assert_int_eq (raise (SIGUSR2), 0);
    ctki_test_thread_join (&thread);
    ctki_test_thread_start (&thread, recv_until_woken, cluster.server[1]);
    ctki_test_thread_await_blocked (&thread);
    ctki_test_thread_pester (&thread, SIGUSR2);
    ctki_test_thread_join (&thread);
    ck_assert_int_eq (atomic_load (&woke_badly), 0);
    ck_assert_int_eq (sigaction (SIGUSR2, &old, NULL), 0);
    ctalk_envelope_t envelope;
    (void) ctalk_recv (cluster.server[1], &envelope, 0); /* a wake may be left */
}
END_TEST

/* A handler that calls it again and again in the middle of other calls on the same thread stops nothing. */
START_TEST (handler_in_other_calls)
{
    ctki_test_thread_t thread;
    struct sigaction old;
    install (&old);
    ctki_test_thread_start (&thread, busy_calls, cluster.server[1]);
    ctki_test_thread_pester (&thread, SIGUSR2);
    ctki_test_thread_join (&thread);
    ck_assert_int_eq (atomic_load (&woke_badly), 0);
    ck_assert_int_eq (sigaction (SIGUSR2, &old, NULL), 0);
    ctalk_envelope_t envelope;
    while (ctalk_recv (cluster.server[1], &envelope, 0) == 0 || errno == EINTR)
        ctalk_envelope_close (&envelope);
    ctki_traffic_exchange (&cluster, 20);
}
END_TEST

Suite *ctki_suite_wake (void)
{
    Suite *suite = suite_create ("wake");
    TCase *tcase = ctki_leaks_tcase ("wake", 60);
    tcase_add_checked_fixture (tcase, open_pair, close_pair);
    tcase_add_test (tcase, next_receive);
    tcase_add_test (tcase, one_of_several);
    tcase_add_test (tcase, from_a_handler);
    tcase_add_test (tcase, handler_in_other_calls);
    suite_add_tcase (suite, tcase);
    return suite;
}
