/*
 * test_interrupt.c - a signal handler that runs in a waiting thread ends the wait
 * with EINTR, with SA_RESTART and without, and nothing is sent or taken.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include "tests/cluster/suites.h"
#include "tests/support/support.h"

static atomic_int handled;
static ctki_cluster_t cluster;
static struct sigaction old_action;

static void handler (int signal_number)
{
    (void) signal_number;
    atomic_fetch_add (&handled, 1);
}

static void install (int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    atomic_store (&handled, 0);
    ck_assert_int_eq (sigaction (SIGUSR1, &action, &old_action), 0);
}

static void open_pair (void)
{
    ctki_cluster_open_absent (&cluster, 2, CTKI_OPTIONS ("QueueBytes", "65536"));
    CTKI_SUCCEEDS (ctalk_server_wait_up (cluster.server[1], 1, ctki_test_long_ms ()));
    char data[1000] = {0};
    ctalk_envelope_t envelope = ctki_traffic_envelope (cluster.absent, 1, data, sizeof data);
    while (ctalk_send (cluster.server[1], &envelope, 0) == 0) {
    }
}

static void close_pair (void)
{
    (void) ctki_cluster_close_abandoning (&cluster, 0);
    ck_assert_int_eq (sigaction (SIGUSR1, &old_action, NULL), 0);
}

#define EXPECT_EINTR(trouble, call)                                                                                    \
    do {                                                                                                               \
        CTKI_EXPECT_EQUAL (trouble, call, -1);                                                                         \
        CTKI_EXPECT_EQUAL (trouble, errno, EINTR);                                                                     \
    } while (0)

static bool in_recv (void *arg, ctki_trouble_t *trouble)
{
    static const ctalk_envelope_t zero;
    ctalk_envelope_t envelope;
    memset (&envelope, 0xaa, sizeof envelope);
    EXPECT_EINTR (trouble, ctalk_recv (arg, &envelope, -1));
    CTKI_EXPECT (trouble, memcmp (&envelope, &zero, sizeof zero) == 0);
    return true;
}

static bool in_recv_timed (void *arg, ctki_trouble_t *trouble)
{
    ctalk_envelope_t envelope;
    EXPECT_EINTR (trouble, ctalk_recv (arg, &envelope, 10 * ctki_test_long_ms ()));
    return true;
}

static bool in_recv_many (void *arg, ctki_trouble_t *trouble)
{
    ctalk_envelope_t envelopes[4];
    EXPECT_EINTR (trouble, ctalk_recv_many (arg, envelopes, 4, -1));
    return true;
}

static bool in_send (void *arg, ctki_trouble_t *trouble)
{
    ctalk_envelope_t envelope = ctki_traffic_envelope (cluster.absent, 2, "x", 1);
    EXPECT_EINTR (trouble, ctalk_send (arg, &envelope, -1));
    return true;
}

static bool in_broadcast (void *arg, ctki_trouble_t *trouble)
{
    ctalk_envelope_t envelope = ctki_traffic_envelope (CTALK_BROADCAST, 2, "x", 1);
    EXPECT_EINTR (trouble, ctalk_send (arg, &envelope, -1));
    return true;
}

static bool in_flush (void *arg, ctki_trouble_t *trouble)
{
    EXPECT_EINTR (trouble, ctalk_server_flush (arg, cluster.absent, -1));
    return true;
}

static bool in_wait_up (void *arg, ctki_trouble_t *trouble)
{
    EXPECT_EINTR (trouble, ctalk_server_wait_up (arg, SIZE_MAX, -1));
    return true;
}

static bool (*const calls[]) (void *arg, ctki_trouble_t *trouble) = {
    in_recv, in_recv_timed, in_recv_many, in_send, in_broadcast, in_flush, in_wait_up,
};
enum { CALLS = sizeof calls / sizeof calls[0] };

static void interrupt (int index, int flags)
{
    ctki_test_thread_t thread;
    install (flags);
    ctalk_stats_t before = ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST);
    ctki_test_thread_start (&thread, calls[index], cluster.server[1]);
    ctki_test_thread_await_blocked (&thread);
    ctki_test_thread_pester (&thread, SIGUSR1);
    ctki_test_thread_join (&thread);
    ck_assert_int_ge (atomic_load (&handled), 1);
    ctalk_stats_t after = ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST);
    ck_assert_uint_eq (after.accepted, before.accepted);
    ck_assert_uint_eq (after.consumed, before.consumed);
    ctki_traffic_send (cluster.server[2], 1, 5, "next");
    ctki_traffic_expect (cluster.server[1], 2, 5, "next");
}

/* Each blocking call ends with EINTR when a handler without SA_RESTART ran. */
START_TEST (without_restart)
{
    interrupt (_i, 0);
}
END_TEST

/* Each blocking call ends with EINTR when a handler with SA_RESTART ran. */
START_TEST (with_restart)
{
    interrupt (_i, SA_RESTART);
}
END_TEST

static bool recv_with_blocked_signal (void *arg, ctki_trouble_t *trouble)
{
    ctalk_envelope_t envelope;
    sigset_t set;
    (void) sigemptyset (&set);
    (void) sigaddset (&set, SIGUSR1);
    CTKI_EXPECT_EQUAL (trouble, pthread_sigmask (SIG_BLOCK, &set, NULL), 0);
    CTKI_EXPECT_EQUAL (trouble, ctalk_recv (arg, &envelope, ctki_test_long_ms ()), 0);
    ctalk_envelope_close (&envelope);
    return true;
}

/* A signal that is blocked in the waiting thread ends no wait, and the library's threads take no signal of the process.
 */
START_TEST (blocked_signal)
{
    ctki_test_thread_t thread;
    sigset_t set, old, pending;
    install (0);
    (void) sigemptyset (&set);
    (void) sigaddset (&set, SIGUSR1);
    ck_assert_int_eq (pthread_sigmask (SIG_BLOCK, &set, &old), 0);
    ctki_test_thread_start (&thread, recv_with_blocked_signal, cluster.server[1]);
    ctki_test_thread_await_blocked (&thread);
    ck_assert_int_eq (kill (getpid (), SIGUSR1), 0);
    ck_assert_int_eq (pthread_kill (thread.thread, SIGUSR1), 0);
    ctki_test_thread_await_blocked (&thread);
    ck_assert_int_eq (atomic_load (&handled), 0);
    ck_assert_int_eq (sigpending (&pending), 0);
    ck_assert_int_eq (sigismember (&pending, SIGUSR1), 1);
    ctki_traffic_send (cluster.server[2], 1, 1, "x");
    ctki_test_thread_join (&thread);
    ck_assert_int_eq (pthread_sigmask (SIG_SETMASK, &old, NULL), 0);
    ck_assert_int_eq (atomic_load (&handled), 1);
}
END_TEST

/* ---- cancelling */

static atomic_bool came_back;

typedef struct {
    pthread_t thread;
    int call;
} cancelled_t;

enum { RECEIVES, SENDS, FLUSHES, WAITS_UP, CANCELLED_CALLS };

/* Each ends by itself: the first one by what it gets, the others after their time. */
static void make_call (int call)
{
    enum { MS = 200 };
    char data[1000] = {0};
    ctalk_envelope_t envelope = {0};
    switch (call) {
    case RECEIVES:
        if (ctalk_recv (cluster.server[1], &envelope, -1) == 0)
            ctalk_envelope_close (&envelope);
        break;
    case SENDS:
        envelope = ctki_traffic_envelope (cluster.absent, 1, data, sizeof data);
        (void) ctalk_send (cluster.server[1], &envelope, MS);
        break;
    case FLUSHES:
        (void) ctalk_server_flush (cluster.server[1], cluster.absent, MS);
        break;
    default:
        (void) ctalk_server_wait_up (cluster.server[1], SIZE_MAX, MS);
    }
}

static void *run_cancelled (void *arg)
{
    cancelled_t *thread = arg;
    make_call (thread->call);
    atomic_store (&came_back, true);
    pthread_testcancel ();
    return NULL; /* not reached */
}

/* A thread that is cancelled within a call ends after it, and the server works on: no lock is left behind, nobody leads
 * any more. */
START_TEST (cancelled)
{
    cancelled_t thread = {.call = _i};
    void *result = NULL;
    atomic_store (&came_back, false);
    ck_assert_int_eq (pthread_create (&thread.thread, NULL, run_cancelled, &thread), 0);
    for (int i = 0; i < 20; i++) /* whenever it comes: before the call, at its beginning, in its midst */
        sched_yield ();
    ck_assert_int_eq (pthread_cancel (thread.thread), 0);
    if (_i == RECEIVES)
        ctki_traffic_send (cluster.server[2], 1, 1, "for the cancelled one");
    ck_assert_int_eq (pthread_join (thread.thread, &result), 0);
    ck_assert_ptr_eq (result, PTHREAD_CANCELED);
    ck_assert (atomic_load (&came_back));
    ctki_traffic_send (cluster.server[1], 2, 2, "there");
    ctki_traffic_expect (cluster.server[2], 1, 2, "there");
    ctki_traffic_send (cluster.server[2], 1, 3, "and back");
    ctki_traffic_expect (cluster.server[1], 2, 3, "and back");
}
END_TEST

Suite *ctki_suite_interrupt (void)
{
    Suite *suite = suite_create ("interrupt");
    TCase *tcase = ctki_leaks_tcase ("interrupt", 60);
    tcase_add_checked_fixture (tcase, open_pair, close_pair);
    tcase_add_loop_test (tcase, without_restart, 0, CALLS);
    tcase_add_loop_test (tcase, with_restart, 0, CALLS);
    tcase_add_test (tcase, blocked_signal);
    tcase_add_loop_test (tcase, cancelled, 0, CANCELLED_CALLS);
    suite_add_tcase (suite, tcase);
    return suite;
}
