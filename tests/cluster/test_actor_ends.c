/*
 * test_actor_ends.c - how actors end: stopped, with their server, in a child
 * process; and those that wait in a call meanwhile.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/cluster/suites.h"
#include "tests/support/puppet.h"
#include "tests/support/support.h"

enum { BOUND = 65536, PAYLOAD = 1000, NO_SUCH = 12345 };

#define SMALL_MAILBOX "MailboxBytes", ctki_test_number_text (BOUND)

static ctki_cluster_t cluster;
static ctki_puppet_t a, b, c;

static void finish (void)
{
    ctki_puppets_end ();
    ctki_cluster_close (&cluster);
}

static void open_two_puppets (bool remote, const char *const *options)
{
    ctki_cluster_open_up (&cluster, 2, options);
    ctki_puppet_start (&a, cluster.server[1], "a");
    ctki_puppet_start (&b, cluster.server[remote ? 2 : 1], NULL);
}

static void open_bounded (void)
{
    ctki_cluster_open (&cluster, 1, CTKI_OPTIONS (SMALL_MAILBOX));
    ctki_puppet_start (&a, cluster.server[1], NULL);
    ctki_puppet_start (&b, cluster.server[1], NULL);
    ctki_puppet_start (&c, cluster.server[1], NULL);
}

static int at_once (ctalk_actor_t *self, void *arg)
{
    (void) self;
    (void) arg;
    return 0;
}

static bool is_true (void *flag)
{
    return atomic_load ((const atomic_bool *) flag);
}

/* Receives until it is told to end, and then says so in its flag. */
static int until_stopped (ctalk_actor_t *self, void *flag)
{
    ctalk_envelope_t envelope;
    while (ctalk_actor_recv (self, &envelope, -1) == 0)
        ctalk_envelope_close (&envelope);
    if (flag)
        atomic_store ((atomic_bool *) flag, errno == ESHUTDOWN);
    return 0;
}

/* ---- stopping */

/* A stop returns when the function has; what waited failed with ESHUTDOWN; then the actor is not there any more and its
 * name is free. */
START_TEST (stop_in_recv)
{
    static atomic_bool stopped;
    ctki_cluster_open (&cluster, 1, NULL);
    for (int round = 0; round < 10; round++) {
        atomic_store (&stopped, false);
        uint64_t id = ctalk_actor_spawn (cluster.server[1], "name", until_stopped, &stopped);
        ck_assert_uint_ne (id, 0);
        CTKI_SUCCEEDS (ctalk_actor_stop (cluster.server[1], id, ctki_test_long_ms ()));
        ck_assert (atomic_load (&stopped));
        CTKI_FAILS (ESRCH, ctalk_actor_stop (cluster.server[1], id, 0));
    }
    finish ();
}
END_TEST

/* Who does not end in time is asked all the same: EAGAIN, and its next receive, call and waiting send are ESHUTDOWN. */
START_TEST (stop_takes_too_long)
{
    ctalk_envelope_t got;
    open_bounded ();
    (void) ctki_puppet_fill (cluster.server[1], &b, 0, PAYLOAD);
    ctki_puppet_tell (&c, &a, 1, "unread");
    CTKI_FAILS (EAGAIN, ctalk_actor_stop (cluster.server[1], a.id, 0));
    CTKI_FAILS (EAGAIN, ctalk_actor_stop (cluster.server[1], a.id, 20));
    ctalk_envelope_t envelope = ctki_puppet_envelope (&b, 1, "x");
    CTKI_FAILS (ESHUTDOWN, ctki_puppet_recv (&a, &got, -1));
    CTKI_FAILS (ESHUTDOWN, ctki_puppet_call (&a, &envelope, &got, -1));
    CTKI_FAILS (ESHUTDOWN, ctki_puppet_send (&a, &envelope, -1));
    finish ();
}
END_TEST

static bool want_nothing (const ctalk_envelope_t *envelope, void *arg)
{
    (void) envelope;
    (void) arg;
    return false;
}

static int64_t stop_id (ctalk_actor_t *self, ctki_order_t *order)
{
    return ctalk_actor_stop (ctalk_actor_server (self), order->id, order->ms);
}

/* The calls that any thread can make, made by an actor on its own server. */
static int64_t thread_send (ctalk_actor_t *self, ctki_order_t *order)
{
    return ctalk_send (ctalk_actor_server (self), &order->in, order->ms);
}

static int64_t thread_group_send (ctalk_actor_t *self, ctki_order_t *order)
{
    return ctalk_group_send (ctalk_actor_server (self), "full", &order->in, order->ms);
}

static int64_t thread_call (ctalk_actor_t *self, ctki_order_t *order)
{
    return ctalk_call (ctalk_actor_server (self), &order->in, order->out, order->ms);
}

/* Its answer's errno is the call's here. */
static int64_t thread_call_all (ctalk_actor_t *self, ctki_order_t *order)
{
    ctalk_answer_t answer = {.pid = 1};
    int rc = ctalk_call_all (ctalk_actor_server (self), &order->in, &answer, 1, order->ms);
    if (rc == 0)
        errno = answer.error;
    return rc == 0 ? -1 : rc;
}

enum { WAITS = 4, ALL_WAITS = 10 };

/* Begins the i-th thing that can wait for ever, in a; to b it waits for room. */
static void begin_waiting_as_a_thread (int i, ctalk_envelope_t *got)
{
    static int64_t (*const runs[]) (ctalk_actor_t *, ctki_order_t *)
        = {thread_send, thread_group_send, thread_call, thread_call_all, thread_call_all, stop_id};
    ctalk_envelope_t envelope = ctki_puppet_envelope (i == 2 || i == 3 ? &c : &b, 1, "x");
    ctki_puppet_begin (&a, &(ctki_order_t){.run = runs[i], .in = envelope, .out = got, .id = c.id, .ms = -1});
}

static void begin_waiting (int i, ctalk_envelope_t *got)
{
    if (i >= WAITS) {
        begin_waiting_as_a_thread (i - WAITS, got);
        return;
    }
    ctalk_envelope_t envelope = ctki_puppet_envelope (i == 3 ? &b : &c, 1, "x");
    if (i == 0)
        ctki_puppet_begin_recv (&a, got, -1);
    else if (i == 1)
        ctki_puppet_begin_match (&a, want_nothing, NULL, got, -1);
    else if (i == 2)
        ctki_puppet_begin_call (&a, &envelope, got, -1);
    else
        ctki_puppet_begin_send (&a, &envelope, -1);
}

/* Each call in which an actor waits ends with ESHUTDOWN when it is to stop, and the server runs on. */
START_TEST (stop_ends_waits)
{
    ctalk_envelope_t got;
    open_bounded ();
    (void) ctki_puppet_fill (cluster.server[1], &b, 0, PAYLOAD);
    CTKI_SUCCEEDS (ctki_puppet_join (&b, "full"));
    begin_waiting (_i, &got);
    ctki_puppet_await_blocked (&a);
    CTKI_FAILS (EAGAIN, ctalk_actor_stop (cluster.server[1], a.id, 0));
    CTKI_FAILS (ESHUTDOWN, (int) ctki_puppet_finish (&a));
    ctki_puppet_exit (&a, 0);
    ctki_puppet_tell (&c, &c, 2, "runs on");
    finish ();
}
END_TEST

/* The same of sends that wait in the queue for a peer, or for the own inbox. */
START_TEST (stop_ends_waits_for_queues)
{
    ctalk_envelope_t envelope = {.pid = (ctalk_pid_t) _i + 1, .data = "x", .size = 1};
    ctki_cluster_open_up (&cluster, 2, CTKI_OPTIONS ("QueueBytes", ctki_test_number_text (BOUND), "DownMs",
                                                     ctki_test_ms_text (60000)));
    ctki_puppet_start (&a, cluster.server[1], NULL);
    CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, CTALK_IN | CTALK_OUT, true));
    while (ctalk_send (cluster.server[1], &envelope, 0) == 0) {
    }
    ck_assert_int_eq (errno, EAGAIN);
    ctki_puppet_begin (&a, &(ctki_order_t){.run = thread_send, .in = envelope, .ms = -1});
    ctki_puppet_await_blocked (&a);
    CTKI_FAILS (EAGAIN, ctalk_actor_stop (cluster.server[1], a.id, 0));
    CTKI_FAILS (ESHUTDOWN, (int) ctki_puppet_finish (&a));
    ctki_puppets_end ();
    (void) ctki_cluster_close_abandoning (&cluster, 0);
}
END_TEST

/* Two that stop each other both end: the first one's stop fails, the second one's waits until the first has ended. One
 * that is to stop itself can wait for the end of another. */
START_TEST (stop_each_other)
{
    open_bounded ();
    ctki_puppet_begin (&a, &(ctki_order_t){.run = stop_id, .id = b.id, .ms = -1});
    ctki_puppet_await_blocked (&a);
    ctki_puppet_begin (&b, &(ctki_order_t){.run = stop_id, .id = a.id, .ms = -1});
    CTKI_FAILS (ESHUTDOWN, (int) ctki_puppet_finish (&a));
    ctki_puppet_await_blocked (&b);
    ctki_puppet_leave (&a, 0);
    CTKI_SUCCEEDS ((int) ctki_puppet_finish (&b));
    finish ();
}
END_TEST

static atomic_int handled;

static void handler (int number)
{
    (void) number;
    atomic_fetch_add (&handled, 1);
}

static bool stop_with_signals (void *arg, ctki_trouble_t *trouble)
{
    const ctki_puppet_t *puppet = arg;
    CTKI_EXPECT_EQUAL (trouble, ctalk_actor_stop (puppet->server, puppet->id, -1), -1);
    CTKI_EXPECT_EQUAL (trouble, errno, EINTR);
    return true;
}

/* Stopping: ESRCH, EINVAL, EDEADLK for the actor itself, EINTR; and one actor stops another. */
START_TEST (stop_errors)
{
    struct sigaction action = {.sa_handler = handler}, old;
    ctki_test_thread_t thread;
    open_bounded ();
    CTKI_FAILS (ESRCH, ctalk_actor_stop (cluster.server[1], NO_SUCH, -1));
    CTKI_FAILS (EINVAL, ctalk_actor_stop (NULL, a.id, 0));
    CTKI_FAILS (EINVAL, ctalk_actor_stop (cluster.server[1], a.id, -2));
    CTKI_FAILS (EDEADLK, (int) ctki_puppet_do (&a, &(ctki_order_t){.run = stop_id, .id = a.id, .ms = -1}));
    ctki_puppet_tell (&b, &a, 1, "not stopped");
    ctki_puppet_expect (&a, 1, b.id, 1, "not stopped");
    ck_assert_int_eq (sigaction (SIGUSR1, &action, &old), 0);
    ctki_test_thread_start (&thread, stop_with_signals, &a);
    ctki_test_thread_pester (&thread, SIGUSR1);
    ctki_test_thread_join (&thread);
    ck_assert_int_eq (sigaction (SIGUSR1, &old, NULL), 0);
    ctki_puppet_begin (&b, &(ctki_order_t){.run = stop_id, .id = c.id, .ms = -1});
    ctki_puppet_await_blocked (&b);
    ctki_puppet_leave (&c, 0);
    CTKI_SUCCEEDS ((int) ctki_puppet_finish (&b));
    finish ();
}
END_TEST

static bool stop_it (void *arg, ctki_trouble_t *trouble)
{
    const ctki_puppet_t *puppet = arg;
    CTKI_EXPECT_EQUAL (trouble, ctalk_actor_stop (puppet->server, puppet->id, ctki_test_long_ms ()), 0);
    return true;
}

/* Several may wait for the same actor to end. */
START_TEST (stopped_by_several)
{
    enum { STOPPERS = 4 };
    ctki_test_thread_t threads[STOPPERS];
    open_bounded ();
    for (int i = 0; i < STOPPERS; i++) {
        ctki_test_thread_start (&threads[i], stop_it, &a);
        ctki_test_thread_await_blocked (&threads[i]);
    }
    ctki_puppet_leave (&a, 0);
    for (int i = 0; i < STOPPERS; i++)
        ctki_test_thread_join (&threads[i]);
    finish ();
}
END_TEST

/* ---- closing */

/* Takes nothing of its mailbox, and ends when it is to. */
static int take_nothing (ctalk_actor_t *self, void *arg)
{
    ctalk_envelope_t got;
    (void) arg;
    return ctalk_actor_recv_match (self, want_nothing, NULL, &got, -1) == -1 && errno == ESHUTDOWN ? 0 : 1;
}

typedef struct {
    int kind;                  /* of what it waits in */
    ctalk_address_t other;     /* which takes nothing */
    ctki_test_thread_t thread; /* only its tid */
    int code;                  /* errno at the end */
} blocked_t;

/* Sends until there is no room, and waits for it. */
static int send_for_ever (ctalk_actor_t *self, const blocked_t *blocked)
{
    static const char data[PAYLOAD];
    ctalk_envelope_t envelope = {.pid = blocked->other.pid, .to = blocked->other.actor, .data = data, .size = PAYLOAD};
    while (ctalk_actor_send (self, &envelope, -1) == 0) {
    }
    return -1;
}

static int wait_in_something (ctalk_actor_t *self, void *arg)
{
    blocked_t *blocked = arg;
    ctalk_envelope_t request = {.pid = blocked->other.pid, .to = blocked->other.actor}, got;
    int rc = 0;
    atomic_store (&blocked->thread.tid, (int) gettid ());
    if (blocked->kind == 0)
        rc = ctalk_actor_recv (self, &got, -1);
    else if (blocked->kind == 1)
        rc = ctalk_actor_recv_match (self, want_nothing, NULL, &got, -1);
    else if (blocked->kind == 2)
        rc = ctalk_actor_call (self, &request, &got, -1);
    else
        rc = send_for_ever (self, blocked);
    blocked->code = rc == -1 ? errno : 0;
    atomic_store (&blocked->thread.done, true);
    return 0;
}

/* A server closes in time with many actors that wait in everything there is, here and towards another server; each sees
 * ESHUTDOWN (or that the actor that it called has ended), and all have returned when the close does. */
START_TEST (close_with_blocked_actors)
{
    enum { ACTORS = 40, OTHERS = 4 };
    static blocked_t blocked[ACTORS];
    ctalk_address_t others[OTHERS];
    memset (blocked, 0, sizeof blocked);
    ctki_cluster_open_up (&cluster, 2, CTKI_OPTIONS (SMALL_MAILBOX));
    for (int i = 0; i < OTHERS; i++) { /* one of each server to fill, and one to call */
        others[i].pid = i % 2 + 1;
        others[i].actor = ctalk_actor_spawn (cluster.server[i % 2 + 1], NULL, take_nothing, NULL);
        ck_assert_uint_ne (others[i].actor, 0);
    }
    for (int i = 0; i < ACTORS; i++) {
        blocked[i].kind = i % WAITS;
        blocked[i].other = others[i / WAITS % 2 + (i % WAITS == 3 ? 2 : 0)];
        ck_assert_uint_ne (ctalk_actor_spawn (cluster.server[1], NULL, wait_in_something, &blocked[i]), 0);
    }
    for (int i = 0; i < ACTORS; i++)
        ctki_test_thread_await_blocked (&blocked[i].thread);
    ck_assert_int_ge (ctalk_server_close (&cluster.server[1], ctki_test_long_ms ()), 0);
    for (int i = 0; i < ACTORS; i++) {
        ck_assert (atomic_load (&blocked[i].thread.done));
        bool may_end = blocked[i].kind == 2 && blocked[i].other.pid == 1; /* the one that was called, before */
        ck_assert_msg (blocked[i].code == ESHUTDOWN || (may_end && blocked[i].code == ESRCH), "%d: %s", blocked[i].kind,
                       strerror (blocked[i].code));
    }
    (void) ctki_cluster_close_abandoning (&cluster, 0);
}
END_TEST

typedef struct {
    atomic_bool asked, may_end, ended;
} lazy_t;

static int end_late (ctalk_actor_t *self, void *arg)
{
    lazy_t *lazy = arg;
    ctalk_envelope_t got;
    while (ctalk_actor_recv (self, &got, -1) == 0)
        ctalk_envelope_close (&got);
    atomic_store (&lazy->asked, true);
    (void) ctki_test_until (is_true, &lazy->may_end, ctki_test_long_ms ());
    atomic_store (&lazy->ended, true);
    return 0;
}

typedef struct {
    ctalk_server_t *server;
    lazy_t *lazy;
} closing_t;

static bool close_at_once (void *arg, ctki_trouble_t *trouble)
{
    closing_t *closing = arg;
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_close (&closing->server, 0), 0);
    CTKI_EXPECT (trouble, atomic_load (&closing->lazy->ended));
    return true;
}

/* A close waits until the functions of all actors have returned, whatever its timeout. */
START_TEST (close_waits_for_functions)
{
    static lazy_t lazy;
    ctki_test_thread_t thread;
    memset (&lazy, 0, sizeof lazy);
    ctki_cluster_open (&cluster, 1, NULL);
    ck_assert_uint_ne (ctalk_actor_spawn (cluster.server[1], NULL, end_late, &lazy), 0);
    closing_t closing = {cluster.server[1], &lazy};
    ctki_test_thread_start (&thread, close_at_once, &closing);
    ck_assert (ctki_test_until (is_true, &lazy.asked, ctki_test_long_ms ()));
    ctki_test_thread_await_blocked (&thread);
    ck_assert (!atomic_load (&lazy.ended));
    atomic_store (&lazy.may_end, true);
    ctki_test_thread_join (&thread);
    cluster.server[1] = NULL;
    ctki_cluster_close (&cluster);
}
END_TEST

static int64_t close_own (ctalk_actor_t *self, ctki_order_t *order)
{
    ctalk_server_t *server = ctalk_actor_server (self);
    int rc = ctalk_server_close (&server, order->ms);
    order->arg = server;
    return rc;
}

/* An actor that closes its own server gets EDEADLK; its pointer is left and the server runs on. */
START_TEST (close_inside_an_actor)
{
    open_two_puppets (true, NULL);
    CTKI_FAILS (EDEADLK, (int) ctki_puppet_do (&a, &(ctki_order_t){.run = close_own, .ms = -1}));
    ck_assert_ptr_eq (a.order.arg, cluster.server[1]);
    ctki_puppet_tell (&b, &a, 1, "open");
    ctki_puppet_expect (&a, 2, b.id, 1, "open");
    ctki_traffic_exchange (&cluster, 10);
    finish ();
}
END_TEST

typedef struct {
    ctalk_pid_t peer;
    ctki_trouble_t trouble;
} after_t;

#define EXPECT_SHUTDOWN(trouble, rc, call)                                                                             \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        CTKI_EXPECT_EQUAL (trouble, call, rc);                                                                         \
        CTKI_EXPECT_EQUAL (trouble, errno, ESHUTDOWN);                                                                 \
    } while (0)

static bool call_all_that_there_is (ctalk_actor_t *self, ctalk_pid_t peer, ctki_trouble_t *trouble)
{
    ctalk_server_t *server = ctalk_actor_server (self);
    ctalk_envelope_t envelope = {.pid = peer, .to = NO_SUCH}, got;
    ctalk_answer_t answer = {.pid = peer};
    EXPECT_SHUTDOWN (trouble, 0, ctalk_actor_spawn (server, NULL, at_once, NULL));
    EXPECT_SHUTDOWN (trouble, -1, ctalk_actor_recv (self, &got, 0));
    EXPECT_SHUTDOWN (trouble, -1, ctalk_actor_recv_match (self, want_nothing, NULL, &got, 0));
    EXPECT_SHUTDOWN (trouble, -1, ctalk_actor_send (self, &envelope, 0));
    EXPECT_SHUTDOWN (trouble, -1, ctalk_actor_reply (self, &envelope, NULL, 0, 0));
    EXPECT_SHUTDOWN (trouble, -1, ctalk_actor_call (self, &envelope, &got, 0));
    EXPECT_SHUTDOWN (trouble, -1, ctalk_call (server, &envelope, &got, 0));
    EXPECT_SHUTDOWN (trouble, -1, ctalk_reply (server, &envelope, NULL, 0, 0));
    EXPECT_SHUTDOWN (trouble, -1, ctalk_call_all (server, &envelope, &answer, 1, 0));
    EXPECT_SHUTDOWN (trouble, -1, ctalk_actor_monitor (self, peer, NO_SUCH));
    EXPECT_SHUTDOWN (trouble, 0, ctalk_actor_send_after (self, 0, &envelope));
    EXPECT_SHUTDOWN (trouble, -1, ctalk_actor_stop (server, NO_SUCH, 0));
    EXPECT_SHUTDOWN (trouble, -1, ctalk_group_join (self, "group"));
    EXPECT_SHUTDOWN (trouble, -1, ctalk_group_leave (self, "group"));
    EXPECT_SHUTDOWN (trouble, -1, ctalk_group_members (server, "group", NULL, 0));
    EXPECT_SHUTDOWN (trouble, -1, ctalk_group_send (server, "group", &envelope, 0));
    EXPECT_SHUTDOWN (trouble, -1, ctalk_group_watch (self, "group", true));
    return true;
}

static int call_after_the_close (ctalk_actor_t *self, void *arg)
{
    after_t *after = arg;
    ctalk_envelope_t got;
    while (ctalk_actor_recv (self, &got, -1) == 0)
        ctalk_envelope_close (&got);
    (void) call_all_that_there_is (self, after->peer, &after->trouble);
    return 0;
}

/* Once the close has begun, each call on the server and of its actors is ESHUTDOWN. */
START_TEST (calls_while_closing)
{
    static after_t after;
    after = (after_t){.peer = 2};
    ctki_cluster_open_up (&cluster, 2, NULL);
    ck_assert_uint_ne (ctalk_actor_spawn (cluster.server[1], NULL, call_after_the_close, &after), 0);
    ctki_cluster_close (&cluster);
    ck_assert_msg (!after.trouble.text[0], "%s", after.trouble.text);
}
END_TEST

/* ---- forking */

#define EXPECT_DEAD(trouble, rc, call)                                                                                 \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        CTKI_EXPECT_EQUAL (trouble, call, rc);                                                                         \
        CTKI_EXPECT_EQUAL (trouble, errno, EOWNERDEAD);                                                                \
    } while (0)

static bool use_in_child (int fd, void *arg, ctki_trouble_t *trouble)
{
    ctalk_server_t *server = arg;
    ctalk_envelope_t envelope = {.pid = 2, .to = NO_SUCH}, got;
    ctalk_answer_t answer = {.pid = 2};
    (void) fd;
    EXPECT_DEAD (trouble, 0, ctalk_actor_spawn (server, NULL, at_once, NULL));
    EXPECT_DEAD (trouble, -1, ctalk_call (server, &envelope, &got, -1));
    EXPECT_DEAD (trouble, -1, ctalk_reply (server, &envelope, NULL, 0, -1));
    EXPECT_DEAD (trouble, -1, ctalk_call_all (server, &envelope, &answer, 1, -1));
    EXPECT_DEAD (trouble, -1, ctalk_actor_stop (server, NO_SUCH, -1));
    EXPECT_DEAD (trouble, -1, ctalk_group_members (server, "group", NULL, 0));
    EXPECT_DEAD (trouble, -1, ctalk_group_send (server, "group", &envelope, -1));
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_close (&server, -1), 0);
    CTKI_EXPECT (trouble, server == NULL);
    return true;
}

/* In a child process each call on the parent's server is EOWNERDEAD, and its close returns 0 though actors ran; the
 * parent's actors go on. */
START_TEST (in_a_child)
{
    ctki_process_t process;
    ctalk_envelope_t got;
    open_two_puppets (true, NULL);
    ctki_puppet_begin_recv (&a, &got, -1);
    ctki_puppet_await_blocked (&a);
    ctki_process_copy (&process, use_in_child, cluster.server[1]);
    ctki_process_join (&process, ctki_test_long_ms ());
    ctki_puppet_tell (&b, &a, 1, "goes on");
    CTKI_SUCCEEDS ((int) ctki_puppet_finish (&a));
    ctalk_envelope_close (&got);
    finish ();
}
END_TEST

Suite *ctki_suite_actor_ends (void)
{
    Suite *suite = suite_create ("actor_ends");
    TCase *stopping = ctki_leaks_tcase ("stopping", 60), *closing = ctki_leaks_tcase ("closing", 60);
    tcase_add_test (stopping, stop_in_recv);
    tcase_add_test (stopping, stop_takes_too_long);
    tcase_add_loop_test (stopping, stop_ends_waits, 0, ALL_WAITS);
    tcase_add_loop_test (stopping, stop_ends_waits_for_queues, 0, 2);
    tcase_add_test (stopping, stop_each_other);
    tcase_add_test (stopping, stop_errors);
    tcase_add_test (stopping, stopped_by_several);
    tcase_add_test (closing, close_with_blocked_actors);
    tcase_add_test (closing, close_waits_for_functions);
    tcase_add_test (closing, close_inside_an_actor);
    tcase_add_test (closing, calls_while_closing);
    tcase_add_test (closing, in_a_child);
    suite_add_tcase (suite, stopping);
    suite_add_tcase (suite, closing);
    return suite;
}
