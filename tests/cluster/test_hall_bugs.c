/*
 * test_hall_bugs.c - what a review of the actors found: each of these failed once.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/cluster/suites.h"
#include "tests/support/forge.h"
#include "tests/support/puppet.h"
#include "tests/support/support.h"

enum { END = -1, BLOCK = 1024, MUCH = 1024 * 1024 };

static ctki_cluster_t cluster;

/* ---- actors */

typedef struct {
    atomic_int_fast64_t taken;
    atomic_int lives;
} sink_t;

static int sink (ctalk_actor_t *self, void *arg)
{
    sink_t *told = arg;
    ctalk_envelope_t envelope;
    int64_t msg_id = 0;
    while (msg_id != END && ctalk_actor_recv (self, &envelope, -1) == 0) {
        msg_id = envelope.msg_id;
        ctalk_envelope_close (&envelope);
        if (told)
            atomic_fetch_add (&told->taken, 1);
    }
    if (told)
        atomic_fetch_add (&told->lives, 1);
    return 0;
}

static ctalk_envelope_t block_for (ctalk_pid_t pid, const char *name)
{
    static const char block[BLOCK];
    ctalk_envelope_t envelope = ctki_traffic_envelope (pid, 1, block, sizeof block);
    envelope.to = ctalk_actor_named (name);
    return envelope;
}

/* As much as no credit of a beginning is enough for. */
static void send_much (ctalk_pid_t from, ctalk_pid_t pid, const char *name)
{
    ctalk_envelope_t envelope = block_for (pid, name);
    for (int i = 0; i < MUCH / BLOCK; i++)
        CTKI_SUCCEEDS (ctalk_send (cluster.server[from], &envelope, ctki_test_long_ms ()));
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[from], pid, ctki_test_long_ms ()));
}

static uint64_t spawn (ctalk_pid_t pid, const char *name, ctalk_actor_fn *fn, void *arg)
{
    uint64_t id = ctalk_actor_spawn (cluster.server[pid], name, fn, arg);
    ck_assert_msg (id != 0, "no actor: %s", strerror (errno));
    return id;
}

static void stop (ctalk_pid_t pid, const char *name)
{
    CTKI_SUCCEEDS (ctalk_actor_stop (cluster.server[pid], ctalk_actor_named (name), ctki_test_long_ms ()));
}

/* ---- figures while others tell peers something */

static atomic_bool told_enough;

static int monitors (ctalk_actor_t *self, void *arg)
{
    (void) arg;
    while (!atomic_load (&told_enough)) {
        (void) ctalk_actor_monitor (self, 2, ctalk_actor_named ("sink"));
        (void) ctalk_actor_unmonitor (self, 2, ctalk_actor_named ("sink"));
    }
    return 0;
}

START_TEST (totals_while_told)
{
    ctki_cluster_open_up (&cluster, 2, NULL);
    spawn (2, "sink", sink, NULL);
    atomic_store (&told_enough, false);
    uint64_t id = spawn (1, NULL, monitors, NULL);
    for (size_t i = 0; i < ctki_test_count (20000); i++)
        (void) ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST);
    atomic_store (&told_enough, true);
    if (ctalk_actor_stop (cluster.server[1], id, ctki_test_long_ms ()))
        ck_assert_int_eq (errno, ESRCH);
    ctki_cluster_close (&cluster);
}
END_TEST

/* ---- credit */

/* The sender removes the receiver's server, and adds it again: its credit begins anew. */
START_TEST (credit_after_return_of_receiver)
{
    ctki_cluster_open_up (&cluster, 2, NULL);
    const char *endpoint = ctalk_server_endpoint (cluster.server[2]);
    spawn (2, "sink", sink, NULL);
    for (int i = 0; i < 3; i++) {
        send_much (1, 2, "sink");
        CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[1], 2));
        CTKI_SUCCEEDS (ctalk_server_add_peer (cluster.server[1], 2, endpoint));
        ctki_cluster_wait_up (&cluster);
    }
    send_much (1, 2, "sink");
    ctki_cluster_close (&cluster);
}
END_TEST

/* The receiver's server removes the sender; meanwhile the actor becomes another one, which cannot be told. */
START_TEST (credit_after_return_of_sender)
{
    ctki_cluster_open_up (&cluster, 2, NULL);
    const char *endpoint = ctalk_server_endpoint (cluster.server[1]);
    spawn (2, "sink", sink, NULL);
    for (int i = 0; i < 3; i++) {
        send_much (1, 2, "sink");
        CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[2], 1));
        stop (2, "sink");
        spawn (2, "sink", sink, NULL);
        CTKI_SUCCEEDS (ctalk_server_add_peer (cluster.server[2], 1, endpoint));
        ctki_cluster_wait_up (&cluster);
    }
    send_much (1, 2, "sink");
    ctki_cluster_close (&cluster);
}
END_TEST

/* Actors of one name come and go under load: none begins with a debt. */
START_TEST (credit_of_those_that_follow)
{
    sink_t told = {0};
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctalk_envelope_t envelope = block_for (2, "sink");
    for (size_t i = 0; i < ctki_test_count (200); i++) {
        spawn (2, "sink", sink, &told);
        for (int k = 0; k < 200; k++)
            CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &envelope, ctki_test_long_ms ()));
        stop (2, "sink");
    }
    spawn (2, "sink", sink, &told);
    send_much (1, 2, "sink");
    ctki_cluster_close (&cluster);
}
END_TEST

/* The receiver's server is another process: what was queued meanwhile uses up what the next one grants. */
START_TEST (credit_after_restart)
{
    ctki_cluster_open_up (&cluster, 2, NULL);
    for (int i = 0; i < 3; i++) {
        ctalk_envelope_t envelope = block_for (2, "sink");
        spawn (2, "sink", sink, NULL);
        send_much (1, 2, "sink");
        const char *endpoint = ctalk_server_endpoint (cluster.server[1]);
        char where[100];
        (void) snprintf (where, sizeof where, "%s", ctalk_server_endpoint (cluster.server[2]));
        CTKI_SUCCEEDS (ctalk_server_close (&cluster.server[2], ctki_test_long_ms ()));
        for (int k = 0; k < 100 && ctalk_send (cluster.server[1], &envelope, 0) == 0; k++)
            ;
        CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[1], 2));
        cluster.server[2] = ctki_cluster_start (2, cluster.config);
        CTKI_SUCCEEDS (ctalk_server_add_peer (cluster.server[1], 2, ctalk_server_endpoint (cluster.server[2])));
        if (ctalk_server_add_peer (cluster.server[2], 1, endpoint))
            ck_assert_int_eq (errno, EEXIST);
        ctki_cluster_wait_up (&cluster);
    }
    spawn (2, "sink", sink, NULL);
    send_much (1, 2, "sink");
    (void) ctki_cluster_close_abandoning (&cluster, ctki_test_long_ms ());
}
END_TEST

/* ---- monitors */

static atomic_int asked, told;

/* Monitors the server 2 as often as it is asked to, and counts what it is told. */
static int watcher (ctalk_actor_t *self, void *arg)
{
    ctalk_envelope_t envelope;
    (void) arg;
    while (ctalk_actor_recv (self, &envelope, -1) == 0) {
        if (envelope.kind == CTALK_ACTOR_DOWN)
            atomic_fetch_add (&told, 1);
        else if (ctalk_actor_monitor (self, 2, 0) == 0)
            atomic_fetch_add (&asked, 1);
        ctalk_envelope_close (&envelope);
    }
    return 0;
}

static bool was_asked (void *arg)
{
    return atomic_load (&asked) >= *(int *) arg;
}

static bool was_told (void *arg)
{
    return atomic_load (&told) >= *(int *) arg;
}

/* A peer that removes this server leaves each time, also when it is the same process. */
START_TEST (leaves_twice)
{
    ctki_cluster_open_up (&cluster, 2, NULL);
    const char *endpoint = ctalk_server_endpoint (cluster.server[1]);
    ctalk_envelope_t envelope = ctki_traffic_envelope (1, 1, "ask", 3);
    atomic_store (&asked, 0);
    atomic_store (&told, 0);
    envelope.to = spawn (1, NULL, watcher, NULL);
    for (int i = 1; i <= 3; i++) {
        CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &envelope, 0));
        ck_assert (ctki_test_until (was_asked, &i, ctki_test_long_ms ()));
        CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[2], 1));
        ck_assert (ctki_test_until (was_told, &i, ctki_test_long_ms ()));
        CTKI_SUCCEEDS (ctalk_server_add_peer (cluster.server[2], 1, endpoint));
        ctki_cluster_wait_up (&cluster);
    }
    ck_assert_int_eq (atomic_load (&told), 3);
    ctki_cluster_close (&cluster);
}
END_TEST

/* What was told, not received, and is asked for again, is both taken back. */
static int takes_back (ctalk_actor_t *self, void *arg)
{
    ctalk_envelope_t envelope;
    uint64_t nobody = ctalk_actor_named ("nobody");
    (void) arg;
    for (int times = 0; times < 2; times++)
        if (ctalk_actor_monitor (self, 1, nobody))
            return 1;
    if (ctalk_actor_unmonitor (self, 1, nobody))
        return 2;
    if (ctalk_actor_recv (self, &envelope, 0) == 0 || errno != EAGAIN)
        return 3;
    return ctalk_actor_unmonitor (self, 1, nobody) == -1 && errno == ESRCH ? 0 : 4;
}

static atomic_int result;

static int runs (ctalk_actor_t *self, void *arg)
{
    int (*fn) (ctalk_actor_t *, void *);
    memcpy (&fn, arg, sizeof fn);
    atomic_store (&result, fn (self, NULL));
    return 0;
}

static bool has_result (void *arg)
{
    (void) arg;
    return atomic_load (&result) >= 0;
}

static void run_on_1 (ctalk_actor_fn *fn)
{
    atomic_store (&result, -1);
    spawn (1, NULL, runs, &fn);
    ck_assert (ctki_test_until (has_result, NULL, ctki_test_long_ms ()));
    ck_assert_int_eq (atomic_load (&result), 0);
}

START_TEST (unmonitor_takes_all)
{
    ctki_cluster_open_up (&cluster, 1, NULL);
    run_on_1 (takes_back);
    ctki_cluster_close (&cluster);
}
END_TEST

/* ---- calls */

/* Answers by a timer, and ends when it is told so. */
static int answers_later (ctalk_actor_t *self, void *arg)
{
    ctalk_envelope_t request;
    int64_t msg_id = 0;
    (void) arg;
    while (msg_id != END && ctalk_actor_recv (self, &request, -1) == 0) {
        ctalk_envelope_t answer = {.pid = request.pid, .to = request.from, .msg_id = request.msg_id};
        msg_id = request.msg_id;
        if (msg_id != END)
            (void) ctalk_actor_send_after (self, 0, &answer);
        ctalk_envelope_close (&request);
    }
    return 0;
}

static bool is_one_actor_less (void *arg)
{
    return ctki_cluster_stats (arg, CTALK_BROADCAST).actors == 0;
}

/* What was answered is owed no more: the actor's end tells nobody of it. */
START_TEST (timer_answers)
{
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctalk_envelope_t request = {.pid = 2, .to = spawn (2, NULL, answers_later, NULL)}, reply;
    for (int i = 0; i < 20; i++) {
        CTKI_SUCCEEDS (ctalk_call (cluster.server[1], &request, &reply, ctki_test_long_ms ()));
        ctalk_envelope_close (&reply);
    }
    uint64_t before = ctki_cluster_stats (cluster.server[2], 1).accepted;
    request.msg_id = END;
    CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &request, ctki_test_long_ms ()));
    ck_assert (ctki_test_until (is_one_actor_less, cluster.server[2], ctki_test_long_ms ()));
    ck_assert_uint_le (ctki_cluster_stats (cluster.server[2], 1).accepted, before + 1); /* that its flow is over */
    ctki_cluster_close (&cluster);
}
END_TEST

/* Takes a request, and asks back where it came from when nobody waits there any more. */
static int asks_back (ctalk_actor_t *self, void *arg)
{
    ctalk_envelope_t request, go, reply;
    (void) arg;
    if (ctalk_actor_recv (self, &request, -1) || ctalk_actor_recv (self, &go, -1))
        return 1;
    ctalk_envelope_t back = {.pid = request.pid, .to = request.from};
    atomic_store (&result, ctalk_actor_call (self, &back, &reply, ctki_test_long_ms ()) ? errno : 0);
    ctalk_envelope_close (&request);
    ctalk_envelope_close (&go);
    return 0;
}

START_TEST (call_to_nobody)
{
    ctki_cluster_open_up (&cluster, 2, NULL);
    for (ctalk_pid_t from = 1; from <= 2; from++) {
        ctalk_envelope_t request = {.pid = 2, .to = spawn (2, NULL, asks_back, NULL)}, reply;
        atomic_store (&result, -1);
        CTKI_FAILS (ETIMEDOUT, ctalk_call (cluster.server[from], &request, &reply, ctki_test_ms (50)));
        CTKI_SUCCEEDS (ctalk_send (cluster.server[from], &request, ctki_test_long_ms ()));
        ck_assert (ctki_test_until (has_result, NULL, ctki_test_long_ms ()));
        ck_assert_int_eq (atomic_load (&result), ESRCH);
    }
    ctki_cluster_close (&cluster);
}
END_TEST

static int echoes (ctalk_actor_t *self, void *arg)
{
    ctalk_envelope_t request;
    (void) arg;
    while (ctalk_actor_recv (self, &request, -1) == 0) {
        (void) ctalk_actor_reply (self, &request, request.data, request.size, -1);
        ctalk_envelope_close (&request);
    }
    return 0;
}

/* A request that was a broadcast is passed on in a call. */
START_TEST (call_with_what_was_received)
{
    ctki_cluster_open_up (&cluster, 1, NULL);
    ctalk_envelope_t request = ctki_traffic_envelope (1, 7, "text", 4), reply;
    request.to = spawn (1, NULL, echoes, NULL);
    request.flags = CTALK_WAS_BROADCAST;
    CTKI_SUCCEEDS (ctalk_call (cluster.server[1], &request, &reply, ctki_test_long_ms ()));
    ck_assert_int_eq (reply.msg_id, 7);
    ctalk_envelope_close (&reply);
    ctki_cluster_close (&cluster);
}
END_TEST

/* ---- notices of those who have no part in it */

static ctki_puppet_t asker, worker, forger;

/* asker on server 1, worker on 2, forger on 3. */
static void open_forgery (void)
{
    ctki_cluster_open_up (&cluster, 3, NULL);
    ctki_puppet_start (&asker, cluster.server[1], NULL);
    ctki_puppet_start (&worker, cluster.server[2], NULL);
    ctki_puppet_start (&forger, cluster.server[3], NULL);
}

/* Server 3 tells server 1 that, and it is known there. */
static void forge (ctki_op_t op, uint64_t a, uint64_t b)
{
    ctki_puppet_t witness;
    ctki_forge (cluster.server[3], 1, &(ctki_notice_t){.op = op, .a = a, .b = b});
    ctki_puppet_start (&witness, cluster.server[1], NULL);
    ctki_puppet_tell (&forger, &witness, 1, "it was told before");
    ctki_puppet_expect (&witness, 3, forger.id, 1, "it was told before");
    ctki_puppet_exit (&witness, 0);
}

/* Only the server that was called can say that nobody will answer. */
START_TEST (no_answer_from_another)
{
    ctalk_envelope_t got, reply;
    open_forgery ();
    ctalk_envelope_t request = ctki_puppet_envelope (&worker, 1, "question");
    ctki_puppet_begin_call (&asker, &request, &reply, 2 * ctki_test_long_ms ());
    ctki_puppet_take (&worker, &got);
    forge (CTKI_NO_ANSWER, got.from, 0);
    CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &got, "answer"));
    ctalk_envelope_close (&got);
    CTKI_SUCCEEDS ((int) ctki_puppet_finish (&asker));
    ck_assert (reply.pid == 2 && reply.size == 6 && memcmp (reply.data, "answer", 6) == 0);
    ctalk_envelope_close (&reply);
    ctki_puppets_end ();
    ctki_cluster_close (&cluster);
}
END_TEST

/* Only the server of an actor can say that it is there no more. */
START_TEST (down_from_another)
{
    ctalk_envelope_t got;
    open_forgery ();
    CTKI_SUCCEEDS (ctki_puppet_monitor (&asker, 2, worker.id));
    forge (CTKI_DOWN, ctki_forge_last_number (cluster.server[1]), (uint64_t) CTALK_WHY_EXITED << 32);
    ctki_puppet_expect_nothing (&asker, 0);
    ctki_puppet_exit (&worker, 7);
    ctki_puppet_take (&asker, &got);
    ck_assert (got.kind == CTALK_ACTOR_DOWN && got.pid == 2 && got.from == worker.id);
    ck_assert_int_eq (((const ctalk_event_t *) got.data)->exit_reason, 7);
    ctalk_envelope_close (&got);
    ctki_puppets_end ();
    ctki_cluster_close (&cluster);
}
END_TEST

/* ---- wrong calls, and calls in a child */

static int wrong_calls (ctalk_actor_t *self, void *arg)
{
    ctalk_envelope_t envelope = {.msg_id = 1}, zero = {0}, reply = {.msg_id = 1};
    (void) arg;
    if (ctalk_actor_recv (self, &envelope, -2) == 0 || errno != EINVAL || memcmp (&envelope, &zero, sizeof zero) != 0)
        return 1;
    if (ctalk_actor_call (NULL, &zero, &reply, 0) == 0 || errno != EINVAL || memcmp (&reply, &zero, sizeof zero) != 0)
        return 2;
    return 0;
}

static int forks (ctalk_actor_t *self, void *arg)
{
    (void) arg;
    ctalk_envelope_t envelope;
    pid_t child = fork ();
    if (child == 0)
        _exit (ctalk_actor_recv (self, &envelope, 0) == 0 || errno != EOWNERDEAD ? 1
               : ctalk_actor_set_mailbox (self, 1) == 0 || errno != EOWNERDEAD   ? 2
                                                                                 : 0);
    int status = -1;
    if (child < 0 || waitpid (child, &status, 0) != child)
        return 10;
    return WIFEXITED (status) ? WEXITSTATUS (status) : 11;
}

START_TEST (in_an_actor)
{
    ctki_cluster_open_up (&cluster, 1, NULL);
    run_on_1 (wrong_calls);
    run_on_1 (forks);
    ctki_cluster_close (&cluster);
}
END_TEST

Suite *ctki_suite_hall_bugs (void)
{
    Suite *suite = suite_create ("hall_bugs");
    TCase *tcase = ctki_leaks_tcase ("hall_bugs", 60);
    tcase_add_test (tcase, totals_while_told);
    tcase_add_test (tcase, credit_of_those_that_follow);
    tcase_add_test (tcase, credit_after_restart);
    tcase_add_test (tcase, leaves_twice);
    tcase_add_test (tcase, unmonitor_takes_all);
    tcase_add_test (tcase, timer_answers);
    tcase_add_test (tcase, call_to_nobody);
    tcase_add_test (tcase, call_with_what_was_received);
    tcase_add_test (tcase, no_answer_from_another);
    tcase_add_test (tcase, down_from_another);
    tcase_add_test (tcase, in_an_actor);
    suite_add_tcase (suite, tcase);
    tcase = ctki_leaks_tcase ("returns", 60);
    tcase_add_test (tcase, credit_after_return_of_receiver);
    tcase_add_test (tcase, credit_after_return_of_sender);
    suite_add_tcase (suite, tcase);
    return suite;
}
