/*
 * test_calls.c - calls: a request and the answer to it, between actors, threads and
 * inboxes, on one server and between servers; each errno; answers that come late,
 * twice, or from somebody else; calls to many.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/cluster/suites.h"
#include "tests/support/puppet.h"
#include "tests/support/support.h"

enum { NO_SUCH = 12345, BOUND = 65536, PAYLOAD = 1000, SOON_MS = 30 };

static ctki_cluster_t cluster;
static ctki_puppet_t caller, worker, third;

static void finish (void)
{
    ctki_puppets_end ();
    ctki_cluster_close (&cluster);
}

/* caller on server 1, worker on the same or on server 2. */
static void open_two (bool remote, const char *const *options)
{
    ctki_cluster_open_up (&cluster, 2, options);
    ctki_puppet_start (&caller, cluster.server[1], NULL);
    ctki_puppet_start (&worker, cluster.server[remote ? 2 : 1], "worker");
}

static void begin_call (int64_t msg_id, const char *text, ctalk_envelope_t *reply)
{
    ctalk_envelope_t request = ctki_puppet_envelope (&worker, msg_id, text);
    ctki_puppet_begin_call (&caller, &request, reply, 2 * ctki_test_long_ms ());
}

/* The call that was begun got this answer. */
static void expect_reply (ctalk_envelope_t *reply, int64_t msg_id, const char *text)
{
    CTKI_SUCCEEDS ((int) ctki_puppet_finish (&caller));
    ck_assert_int_eq (reply->kind, CTALK_MESSAGE);
    ck_assert_int_eq (reply->msg_id, msg_id);
    ck_assert_uint_eq (reply->size, strlen (text));
    ck_assert_mem_eq (reply->data, text, reply->size);
    ctalk_envelope_close (reply);
}

/* The call that was begun failed so, and its reply is zeroed. */
static void expect_failure (const ctalk_envelope_t *reply, int code)
{
    static const ctalk_envelope_t zero;
    CTKI_FAILS (code, (int) ctki_puppet_finish (&caller));
    ck_assert_mem_eq (reply, &zero, sizeof zero);
}

static uint64_t late_replies (ctalk_pid_t pid)
{
    return ctki_cluster_stats (cluster.server[pid], CTALK_BROADCAST).late_replies;
}

static uint64_t late_wanted;

static bool late_came (void *server)
{
    ctalk_stats_t stats;
    return ctalk_server_stats (server, CTALK_BROADCAST, &stats) == 0 && stats.late_replies == late_wanted;
}

static void await_late (ctalk_pid_t pid, uint64_t count)
{
    late_wanted = count;
    ck_assert_msg (ctki_test_until (late_came, cluster.server[pid], ctki_test_long_ms ()), "%llu late, not %llu",
                   (unsigned long long) late_replies (pid), (unsigned long long) count);
}

/* ---- request and answer */

/* A request comes with its message id and payload, from an address that is not the caller's; the answer comes from who
 * gave it, with the request's message id. Locally and remotely. */
START_TEST (request_and_reply)
{
    ctalk_envelope_t request, reply;
    open_two (_i == 1, NULL);
    for (int64_t i = 0; i < 5; i++) {
        begin_call (i - 2, "question", &reply);
        ctki_puppet_take (&worker, &request);
        ck_assert (request.kind == CTALK_MESSAGE && request.pid == 1 && request.to == worker.id);
        ck_assert (request.from != caller.id && request.from != 0 && request.msg_id == i - 2);
        ck_assert (request.size == 8 && memcmp (request.data, "question", 8) == 0);
        CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &request, "answer"));
        CTKI_SUCCEEDS ((int) ctki_puppet_finish (&caller));
        ck_assert_int_eq (reply.pid, worker.pid);
        ck_assert_uint_eq (reply.from, worker.id);
        ck_assert_uint_eq ((uintptr_t) reply.data % 8, 0);
        ck_assert (reply.msg_id == i - 2 && reply.size == 6 && memcmp (reply.data, "answer", 6) == 0);
        ctalk_envelope_close (&reply);
        ctalk_envelope_close (&request);
    }
    ck_assert_uint_eq (late_replies (1), 0);
    finish ();
}
END_TEST

/* Each call has a reply address of its own. */
START_TEST (one_shot_addresses)
{
    enum { CALLS = 20 };
    uint64_t addresses[CALLS];
    ctalk_envelope_t request, reply;
    open_two (_i == 1, NULL);
    for (int i = 0; i < CALLS; i++) {
        begin_call (i, "x", &reply);
        ctki_puppet_take (&worker, &request);
        addresses[i] = request.from;
        for (int k = 0; k < i; k++)
            ck_assert_uint_ne (addresses[k], addresses[i]);
        CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &request, NULL));
        expect_reply (&reply, i, "");
        ctalk_envelope_close (&request);
    }
    finish ();
}
END_TEST

/* Large requests and large answers come unchanged. */
START_TEST (large_ones)
{
    static char data[300001], text[200001];
    ctalk_envelope_t request = {.data = data, .size = sizeof data}, reply, got;
    ctki_payload_fill (data, sizeof data, 1, 2, 1);
    memset (text, 't', sizeof text - 1);
    open_two (_i == 1, NULL);
    request.pid = worker.pid;
    request.to = worker.id;
    ctki_puppet_begin_call (&caller, &request, &reply, ctki_test_long_ms ());
    ctki_puppet_take (&worker, &got);
    ck_assert (got.size == sizeof data && ctki_payload_ok (got.data, got.size, 1, 2, 1));
    CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &got, text));
    ctalk_envelope_close (&got);
    expect_reply (&reply, 0, text);
    finish ();
}
END_TEST

/* What else comes meanwhile waits in the mailbox, in order. */
START_TEST (others_wait)
{
    ctalk_envelope_t request, reply;
    open_two (_i == 1, NULL);
    ctki_puppet_tell (&worker, &caller, 1, "before");
    begin_call (7, "question", &reply);
    ctki_puppet_take (&worker, &request);
    ctki_puppet_tell (&worker, &caller, 2, "meanwhile");
    CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &request, "answer"));
    ctki_puppet_tell (&worker, &caller, 3, "behind");
    ctalk_envelope_close (&request);
    expect_reply (&reply, 7, "answer");
    ctki_puppet_expect (&caller, worker.pid, worker.id, 1, "before");
    ctki_puppet_expect (&caller, worker.pid, worker.id, 2, "meanwhile");
    ctki_puppet_expect (&caller, worker.pid, worker.id, 3, "behind");
    finish ();
}
END_TEST

/* An answer comes though the caller's mailbox is full. */
START_TEST (reply_needs_no_room)
{
    ctalk_envelope_t request, reply;
    open_two (_i == 1, CTKI_OPTIONS ("MailboxBytes", ctki_test_number_text (BOUND)));
    (void) ctki_puppet_fill (cluster.server[1], &caller, 0, PAYLOAD);
    begin_call (1, "question", &reply);
    ctki_puppet_take (&worker, &request);
    CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &request, "answer"));
    ctalk_envelope_close (&request);
    expect_reply (&reply, 1, "answer");
    finish ();
}
END_TEST

typedef struct {
    ctalk_server_t *server;
    ctalk_envelope_t request, reply;
    int timeout_ms;
    int rc, code;
} call_t;

static bool call_in_thread (void *arg, ctki_trouble_t *trouble)
{
    call_t *call = arg;
    (void) trouble;
    errno = 0;
    call->rc = ctalk_call (call->server, &call->request, &call->reply, call->timeout_ms);
    call->code = errno;
    return true;
}

/* A thread calls an actor. */
START_TEST (from_a_thread)
{
    ctki_test_thread_t thread;
    ctalk_envelope_t request;
    open_two (_i == 1, NULL);
    call_t call = {.server = cluster.server[1],
                   .request = ctki_puppet_envelope (&worker, 9, "question"),
                   .timeout_ms = ctki_test_long_ms ()};
    ctki_test_thread_start (&thread, call_in_thread, &call);
    ctki_puppet_take (&worker, &request);
    ck_assert (request.pid == 1 && request.from != 0 && request.msg_id == 9);
    CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &request, "answer"));
    ctalk_envelope_close (&request);
    ctki_test_thread_join (&thread);
    ck_assert_msg (call.rc == 0, "%s", strerror (call.code));
    ck_assert (call.reply.msg_id == 9 && call.reply.from == worker.id && call.reply.pid == worker.pid);
    ck_assert (call.reply.size == 6 && memcmp (call.reply.data, "answer", 6) == 0);
    ctalk_envelope_close (&call.reply);
    ctki_traffic_expect_nothing (cluster.server[1], 0);
    finish ();
}
END_TEST

/* A request to the inbox of a server, its own or another one's, is answered by ctalk_reply () there. */
START_TEST (to_an_inbox)
{
    ctalk_pid_t pid = _i % 2 + 1;
    ctalk_envelope_t request = {.pid = pid, .msg_id = 3, .data = "question", .size = 8}, got, reply;
    ctki_test_thread_t thread;
    open_two (true, NULL);
    call_t call = {.server = cluster.server[1], .request = request, .timeout_ms = ctki_test_long_ms ()};
    if (_i < 2)
        ctki_puppet_begin_call (&caller, &request, &reply, ctki_test_long_ms ());
    else
        ctki_test_thread_start (&thread, call_in_thread, &call);
    ctki_traffic_take (cluster.server[pid], &got);
    ck_assert (got.pid == 1 && got.to == 0 && got.from != 0 && got.from != caller.id && got.msg_id == 3);
    CTKI_SUCCEEDS (ctalk_reply (cluster.server[pid], &got, "answer", 6, ctki_test_long_ms ()));
    ctalk_envelope_close (&got);
    if (_i >= 2) {
        ctki_test_thread_join (&thread);
        ck_assert_msg (call.rc == 0, "%s", strerror (call.code));
        reply = call.reply;
    } else {
        CTKI_SUCCEEDS ((int) ctki_puppet_finish (&caller));
    }
    ck_assert (reply.pid == pid && reply.from == 0 && reply.msg_id == 3 && reply.size == 6);
    ctalk_envelope_close (&reply);
    finish ();
}
END_TEST

/* What is no request can be answered, too: the answer comes as a message to the actor, or to the inbox, that it came
 * from, with its message id. */
START_TEST (reply_to_a_message)
{
    ctalk_envelope_t got;
    open_two (_i == 1, NULL);
    ctki_puppet_tell (&caller, &worker, 5, "a message");
    ctki_puppet_take (&worker, &got);
    CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &got, "thanks"));
    ctalk_envelope_close (&got);
    ctki_puppet_expect (&caller, worker.pid, worker.id, 5, "thanks");
    ctalk_envelope_t envelope = ctki_puppet_envelope (&worker, 6, "of a server");
    CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &envelope, -1));
    ctki_puppet_take (&worker, &got);
    CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &got, "thanks"));
    ctalk_envelope_close (&got);
    ctki_traffic_expect (cluster.server[1], worker.pid, 6, "thanks");
    finish ();
}
END_TEST

/* Hands the address of a request on, in a payload, to third. */
static void pass_on (const ctalk_envelope_t *request, ctalk_envelope_t *there)
{
    ctalk_address_t address = {request->pid, request->from};
    ctalk_envelope_t envelope = ctki_puppet_envelope (&third, request->msg_id, NULL), got;
    envelope.data = &address;
    envelope.size = sizeof address;
    CTKI_SUCCEEDS (ctki_puppet_send (&worker, &envelope, ctki_test_long_ms ()));
    ctki_puppet_take (&third, &got);
    memcpy (&address, got.data, sizeof address);
    *there = (ctalk_envelope_t){.pid = address.pid, .from = address.actor, .msg_id = got.msg_id};
    ctalk_envelope_close (&got);
}

/* A request is answered by another actor than it was sent to: on the caller's server, on the worker's, on a third one;
 * and by the inbox of a third one. */
START_TEST (answered_by_another)
{
    ctalk_envelope_t request, reply, passed;
    ctki_cluster_open_up (&cluster, 3, NULL);
    ctki_puppet_start (&caller, cluster.server[1], NULL);
    ctki_puppet_start (&worker, cluster.server[2], NULL);
    ctki_puppet_start (&third, cluster.server[_i % 3 + 1], NULL);
    begin_call (8, "question", &reply);
    ctki_puppet_take (&worker, &request);
    pass_on (&request, &passed);
    ctalk_envelope_close (&request);
    if (_i < 3)
        CTKI_SUCCEEDS (ctki_puppet_reply (&third, &passed, "from a third"));
    else
        CTKI_SUCCEEDS (ctalk_reply (cluster.server[3], &passed, "from a third", 12, ctki_test_long_ms ()));
    CTKI_SUCCEEDS ((int) ctki_puppet_finish (&caller));
    ck_assert_int_eq (reply.pid, _i % 3 + (_i < 3 ? 1 : 3));
    ck_assert_uint_eq (reply.from, _i < 3 ? third.id : 0);
    ck_assert (reply.msg_id == 8 && reply.size == 12 && memcmp (reply.data, "from a third", 12) == 0);
    ctalk_envelope_close (&reply);
    finish ();
}
END_TEST

/* A second answer is discarded where it arrives and counted there; the next call gets its own. */
START_TEST (second_answer)
{
    ctalk_envelope_t first, second, reply;
    open_two (_i == 1, NULL);
    begin_call (1, "first", &reply);
    ctki_puppet_take (&worker, &first);
    CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &first, "one"));
    expect_reply (&reply, 1, "one");
    CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &first, "two"));
    await_late (1, 1);
    begin_call (1, "second", &reply);
    ctki_puppet_take (&worker, &second);
    CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &first, "three"));
    CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &second, "right"));
    expect_reply (&reply, 1, "right");
    await_late (1, 2);
    ctki_puppet_expect_nothing (&caller, 0);
    ctki_traffic_expect_nothing (cluster.server[1], 0);
    ctalk_envelope_close (&first);
    ctalk_envelope_close (&second);
    finish ();
}
END_TEST

/* An actor that answers calls others meanwhile, up to the third. */
START_TEST (nested)
{
    ctalk_envelope_t request, inner, reply, inner_reply;
    ctki_cluster_open_up (&cluster, 3, NULL);
    ctki_puppet_start (&caller, cluster.server[1], NULL);
    ctki_puppet_start (&worker, cluster.server[2], NULL);
    ctki_puppet_start (&third, cluster.server[3], NULL);
    begin_call (1, "outer", &reply);
    ctki_puppet_take (&worker, &request);
    ctalk_envelope_t envelope = ctki_puppet_envelope (&third, 2, "inner");
    ctki_puppet_begin_call (&worker, &envelope, &inner_reply, ctki_test_long_ms ());
    ctki_puppet_take (&third, &inner);
    CTKI_SUCCEEDS (ctki_puppet_reply (&third, &inner, "inner answer"));
    CTKI_SUCCEEDS ((int) ctki_puppet_finish (&worker));
    ck_assert (inner_reply.msg_id == 2 && inner_reply.from == third.id);
    CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &request, "outer answer"));
    expect_reply (&reply, 1, "outer answer");
    ctalk_envelope_close (&request);
    ctalk_envelope_close (&inner);
    ctalk_envelope_close (&inner_reply);
    finish ();
}
END_TEST

/* ---- no answer */

/* Not sent within the timeout: EAGAIN, for there is no room in the mailbox, or no credit. */
START_TEST (not_sent)
{
    static const char data[PAYLOAD];
    ctalk_envelope_t reply, request;
    open_two (_i == 1, CTKI_OPTIONS ("MailboxBytes", ctki_test_number_text (BOUND)));
    ctalk_envelope_t envelope = ctki_puppet_envelope (&worker, 1, NULL);
    envelope.data = data;
    envelope.size = sizeof data;
    while (ctki_puppet_send (&caller, &envelope, ctki_test_ms (100)) == 0) { /* while credit comes */
    }
    request = ctki_puppet_envelope (&worker, 1, "x");
    ctki_puppet_begin_call (&caller, &request, &reply, 0);
    expect_failure (&reply, EAGAIN);
    int64_t start_ms = ctki_test_now_ms ();
    ctki_puppet_begin_call (&caller, &request, &reply, SOON_MS);
    expect_failure (&reply, EAGAIN);
    ck_assert_int_ge (ctki_test_now_ms () - start_ms, SOON_MS - 1);
    CTKI_FAILS (EAGAIN, ctalk_call (cluster.server[1], &request, &reply, SOON_MS));
    finish ();
}
END_TEST

/* Sent and not answered: ETIMEDOUT, not before the timeout. The answer that comes later is discarded and counted, and
 * never taken for that to the next call. */
START_TEST (not_answered)
{
    ctalk_envelope_t first, second, reply;
    open_two (_i == 1, NULL);
    ctalk_envelope_t request = ctki_puppet_envelope (&worker, 1, "x");
    int64_t start_ms = ctki_test_now_ms ();
    memset (&reply, 0xaa, sizeof reply);
    ctki_puppet_begin_call (&caller, &request, &reply, SOON_MS);
    expect_failure (&reply, ETIMEDOUT);
    ck_assert_int_ge (ctki_test_now_ms () - start_ms, SOON_MS - 1);
    begin_call (1, "y", &reply);
    ctki_puppet_take (&worker, &first);
    ctki_puppet_take (&worker, &second);
    CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &first, "late"));
    await_late (1, 1);
    CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &second, "in time"));
    expect_reply (&reply, 1, "in time");
    ctki_puppet_expect_nothing (&caller, 0);
    ctalk_envelope_close (&first);
    ctalk_envelope_close (&second);
    ck_assert_uint_eq (late_replies (1), 1);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 1).late_replies, 1);
    finish ();
}
END_TEST

/* The same of a thread's call, to an actor and to an inbox that nobody receives from. */
START_TEST (not_answered_to_a_thread)
{
    static const ctalk_envelope_t zero;
    ctalk_envelope_t got, reply;
    open_two (_i == 1, NULL);
    ctalk_envelope_t request = ctki_puppet_envelope (&worker, 1, "x");
    memset (&reply, 0xaa, sizeof reply);
    CTKI_FAILS (ETIMEDOUT, ctalk_call (cluster.server[1], &request, &reply, SOON_MS));
    ck_assert_mem_eq (&reply, &zero, sizeof zero);
    request.to = 0;
    CTKI_FAILS (ETIMEDOUT, ctalk_call (cluster.server[1], &request, &reply, SOON_MS));
    ctki_puppet_take (&worker, &got);
    CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &got, "late"));
    ctalk_envelope_close (&got);
    await_late (1, 1);
    ctki_traffic_take (worker.server, &got);
    CTKI_SUCCEEDS (ctalk_reply (worker.server, &got, "late", 4, ctki_test_long_ms ()));
    ctalk_envelope_close (&got);
    await_late (1, 2);
    finish ();
}
END_TEST

/* There is no such actor, there was one, or it is of another name: ESRCH, long before the timeout. */
START_TEST (no_such_actor)
{
    ctalk_envelope_t reply;
    open_two (_i == 1, NULL);
    ctalk_envelope_t request = ctki_puppet_envelope (&worker, 1, "x");
    ctki_puppet_exit (&worker, 0);
    CTKI_FAILS (ESRCH, ctki_puppet_call (&caller, &request, &reply, -1));
    CTKI_FAILS (ESRCH, ctalk_call (cluster.server[1], &request, &reply, -1));
    request.to = NO_SUCH;
    CTKI_FAILS (ESRCH, ctki_puppet_call (&caller, &request, &reply, -1));
    CTKI_FAILS (ESRCH, ctalk_call (cluster.server[1], &request, &reply, -1));
    finish ();
}
END_TEST

/* The actor ends with the request in its mailbox, or taken: ESRCH. */
START_TEST (ended_before_the_answer)
{
    ctalk_envelope_t got = {0}, reply;
    ctki_test_thread_t thread;
    open_two (_i % 2 == 1, NULL);
    call_t call = {.server = cluster.server[1],
                   .request = ctki_puppet_envelope (&worker, 2, "of a thread"),
                   .timeout_ms = 2 * ctki_test_long_ms ()};
    begin_call (1, "of an actor", &reply);
    ctki_puppet_await_kind (&worker, CTALK_MESSAGE);
    ctki_test_thread_start (&thread, call_in_thread, &call);
    while (ctki_puppet_holds (&worker) < 2)
        ctki_test_thread_await_blocked (&thread);
    for (int i = 0; i < _i / 2; i++) { /* takes none, the first, both */
        ctki_puppet_take (&worker, &got);
        ctalk_envelope_close (&got);
    }
    ctki_puppet_exit (&worker, 1);
    expect_failure (&reply, ESRCH);
    ctki_test_thread_join (&thread);
    ck_assert_int_eq (call.rc, -1);
    ck_assert_int_eq (call.code, ESRCH);
    finish ();
}
END_TEST

/* An actor that answered and ended: the answer counts, not the end. */
START_TEST (ended_after_the_answer)
{
    ctalk_envelope_t request, reply;
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctki_puppet_start (&caller, cluster.server[1], NULL);
    for (int64_t i = 0; i < (int64_t) ctki_test_count (50); i++) {
        ctki_puppet_start (&worker, cluster.server[_i + 1], "worker");
        begin_call (i, "question", &reply);
        ctki_puppet_take (&worker, &request);
        CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &request, "last words"));
        ctki_puppet_exit (&worker, 1);
        expect_reply (&reply, i, "last words");
        ctalk_envelope_close (&request);
    }
    finish ();
}
END_TEST

/* An actor that calls itself, and two that call each other, time out; what they asked lies in their mailboxes, and an
 * answer to it comes too late. */
START_TEST (cycles_time_out)
{
    ctalk_envelope_t got, reply, other_reply;
    open_two (_i == 1, NULL);
    ctalk_envelope_t request = ctki_puppet_envelope (&caller, 1, "to myself");
    CTKI_FAILS (ETIMEDOUT, ctki_puppet_call (&caller, &request, &reply, SOON_MS));
    ctki_puppet_take (&caller, &got);
    ck_assert (got.msg_id == 1 && got.pid == 1);
    CTKI_SUCCEEDS (ctki_puppet_reply (&caller, &got, "late"));
    ctalk_envelope_close (&got);
    await_late (1, 1);
    ctalk_envelope_t there = ctki_puppet_envelope (&worker, 2, "there"),
                     back = ctki_puppet_envelope (&caller, 3, "back");
    ctki_puppet_begin_call (&caller, &there, &reply, 5 * SOON_MS);
    ctki_puppet_begin_call (&worker, &back, &other_reply, 5 * SOON_MS);
    CTKI_FAILS (ETIMEDOUT, (int) ctki_puppet_finish (&caller));
    CTKI_FAILS (ETIMEDOUT, (int) ctki_puppet_finish (&worker));
    ctki_puppet_await_kind (&caller, CTALK_MESSAGE);
    ctki_puppet_await_kind (&worker, CTALK_MESSAGE);
    ck_assert_uint_eq (ctki_puppet_holds (&caller), 1);
    ck_assert_uint_eq (ctki_puppet_holds (&worker), 1);
    finish ();
}
END_TEST

/* EINVAL, EHOSTUNREACH, EMSGSIZE, and what is not looked at in a request. */
START_TEST (call_errors)
{
    static char data[2000];
    ctalk_envelope_t reply, got;
    open_two (false, CTKI_OPTIONS ("MaxMessageBytes", "1000"));
    ctalk_server_t *server = cluster.server[1];
    ctalk_envelope_t good = ctki_puppet_envelope (&worker, 1, "x");
    ctalk_envelope_t wrong[] = {
        {.pid = CTALK_BROADCAST, .to = worker.id}, {.pid = -2}, {.pid = 1, .to = worker.id, .size = 1}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CTKI_FAILS (EINVAL, ctki_puppet_call (&caller, &wrong[i], &reply, -1));
        CTKI_FAILS (EINVAL, ctalk_call (server, &wrong[i], &reply, -1));
    }
    CTKI_FAILS (EINVAL, ctki_puppet_call (&caller, &good, NULL, -1));
    CTKI_FAILS (EINVAL, ctki_puppet_call (&caller, &good, &reply, -2));
    CTKI_FAILS (EINVAL, ctalk_actor_call (NULL, &good, &reply, -1));
    CTKI_FAILS (EINVAL, ctalk_call (NULL, &good, &reply, -1));
    CTKI_FAILS (EINVAL, ctalk_call (server, NULL, &reply, -1));
    CTKI_FAILS (EINVAL, ctalk_call (server, &good, NULL, -1));
    CTKI_FAILS (EINVAL, ctalk_call (server, &good, &reply, -2));
    ctalk_envelope_t unknown = {.pid = 99}, large = {.pid = 1, .to = worker.id, .data = data, .size = sizeof data};
    CTKI_FAILS (EHOSTUNREACH, ctki_puppet_call (&caller, &unknown, &reply, -1));
    CTKI_FAILS (EHOSTUNREACH, ctalk_call (server, &unknown, &reply, -1));
    CTKI_FAILS (EMSGSIZE, ctki_puppet_call (&caller, &large, &reply, -1));
    CTKI_FAILS (EMSGSIZE, ctalk_call (server, &large, &reply, -1));
    ctki_puppet_expect_nothing (&worker, 0);
    good.from = NO_SUCH;
    ctki_puppet_begin_call (&caller, &good, &reply, ctki_test_long_ms ());
    ctki_puppet_take (&worker, &got);
    ck_assert_uint_ne (got.from, NO_SUCH);
    CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &got, "y"));
    ctalk_envelope_close (&got);
    expect_reply (&reply, 1, "y");
    finish ();
}
END_TEST

/* An event is not answered, and neither is nothing. */
START_TEST (reply_errors)
{
    ctalk_envelope_t event, request;
    open_two (false, NULL);
    ctalk_envelope_t timer = ctki_puppet_envelope (&worker, 1, "tick");
    ck_assert_uint_ne (ctki_puppet_send_after (&worker, 0, &timer), 0);
    ctki_puppet_take (&worker, &event);
    ck_assert_int_eq (event.kind, CTALK_TIMER);
    CTKI_FAILS (EINVAL, ctki_puppet_reply (&worker, &event, "x"));
    CTKI_FAILS (EINVAL, ctalk_reply (cluster.server[1], &event, "x", 1, 0));
    request = (ctalk_envelope_t){.pid = 1, .from = NO_SUCH};
    CTKI_FAILS (EINVAL, ctalk_reply (cluster.server[1], NULL, "x", 1, 0));
    CTKI_FAILS (EINVAL, ctalk_reply (NULL, &request, "x", 1, 0));
    CTKI_FAILS (EINVAL, ctalk_reply (cluster.server[1], &request, NULL, 1, 0));
    CTKI_FAILS (EINVAL, ctalk_reply (cluster.server[1], &request, "x", 1, -2));
    CTKI_FAILS (EINVAL, ctalk_actor_reply (NULL, &request, "x", 1, 0));
    request.pid = 99;
    CTKI_FAILS (EHOSTUNREACH, ctalk_reply (cluster.server[1], &request, "x", 1, 0));
    ctalk_envelope_close (&event);
    finish ();
}
END_TEST

static void ignore (int number)
{
    (void) number;
}

/* A signal handler that runs in a thread that calls ends the call with EINTR; an answer that comes then is late. */
START_TEST (interrupted)
{
    struct sigaction action = {.sa_handler = ignore}, old;
    ctki_test_thread_t thread;
    ctalk_envelope_t got;
    open_two (_i == 1, NULL);
    call_t call = {
        .server = cluster.server[1], .request = ctki_puppet_envelope (&worker, 2, "question"), .timeout_ms = -1};
    ck_assert_int_eq (sigaction (SIGUSR1, &action, &old), 0);
    ctki_test_thread_start (&thread, call_in_thread, &call);
    ctki_puppet_await_kind (&worker, CTALK_MESSAGE);
    ctki_test_thread_pester (&thread, SIGUSR1);
    ctki_test_thread_join (&thread);
    ck_assert_int_eq (sigaction (SIGUSR1, &old, NULL), 0);
    ck_assert_int_eq (call.rc, -1);
    ck_assert_int_eq (call.code, EINTR);
    ctki_puppet_take (&worker, &got);
    CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &got, "late"));
    ctalk_envelope_close (&got);
    await_late (1, 1);
    finish ();
}
END_TEST

/* ---- peers that go */

static ctki_ports_t ports;

/* A pair whose servers can be started again, worker on server 2, with a call to it that was taken. */
static void open_calling (const char *const *options, ctalk_envelope_t *reply)
{
    ctalk_envelope_t got;
    ctki_ports_take (&ports, 2);
    memset (&cluster, 0, sizeof cluster);
    cluster.config = ctki_cluster_config (2, ports.port, options);
    cluster.count = 2;
    for (ctalk_pid_t pid = 1; pid <= 2; pid++)
        cluster.server[pid] = ctki_cluster_start (pid, cluster.config);
    ctki_cluster_wait_up (&cluster);
    ctki_puppet_start (&caller, cluster.server[1], NULL);
    ctki_puppet_start (&worker, cluster.server[2], "worker");
    begin_call (1, "question", reply);
    ctki_puppet_take (&worker, &got);
    ctalk_envelope_close (&got);
}

static void cut (bool on)
{
    CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, CTALK_IN | CTALK_OUT, on));
}

static void finish_calling (void)
{
    ctki_puppets_end ();
    (void) ctki_cluster_close_abandoning (&cluster, ctki_test_long_ms ());
    ctki_ports_release (&ports);
}

/* The peer goes down during a call: EHOSTDOWN; it is down: EHOSTDOWN at once, and nothing is sent; it is back: a call
 * is answered. The answer to the former is late. */
START_TEST (peer_down)
{
    ctalk_envelope_t reply, got;
    open_calling (CTKI_OPTIONS (CTKI_FAST_FAILURE), &reply);
    cut (true);
    expect_failure (&reply, EHOSTDOWN);
    ck_assert_int_eq (ctalk_server_peer_state (cluster.server[1], 2), CTALK_STATE_DOWN);
    uint64_t accepted = ctki_cluster_stats (cluster.server[1], 2).accepted;
    ctalk_envelope_t request = ctki_puppet_envelope (&worker, 2, "nothing is sent");
    CTKI_FAILS (EHOSTDOWN, ctki_puppet_call (&caller, &request, &reply, -1));
    CTKI_FAILS (EHOSTDOWN, ctalk_call (cluster.server[1], &request, &reply, -1));
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 2).accepted, accepted);
    cut (false);
    ctki_cluster_wait_up (&cluster);
    begin_call (3, "again", &reply);
    ctki_puppet_take (&worker, &got);
    ck_assert_int_eq (got.msg_id, 3);
    CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &got, "answer"));
    ctalk_envelope_close (&got);
    expect_reply (&reply, 3, "answer");
    finish_calling ();
}
END_TEST

/* A call that waits to be sent, of an actor or of a thread, ends as one that waits for its answer when the peer goes
 * down; and it is not sent when the peer is back. */
START_TEST (peer_down_before_sending)
{
    static const ctalk_envelope_t zero;
    ctki_test_thread_t thread;
    ctalk_envelope_t reply, got;
    open_two (true, CTKI_OPTIONS (CTKI_FAST_FAILURE));
    int64_t count = ctki_puppet_fill (cluster.server[1], &worker, 0, PAYLOAD);
    ctalk_envelope_t request = ctki_puppet_envelope (&worker, -1, "never sent");
    call_t call = {.server = cluster.server[1], .request = request, .timeout_ms = -1};
    ctki_puppet_begin_call (&caller, &request, &reply, -1);
    ctki_puppet_await_blocked (&caller);
    ctki_test_thread_start (&thread, call_in_thread, &call);
    ctki_test_thread_await_blocked (&thread);
    cut (true);
    expect_failure (&reply, EHOSTDOWN);
    ctki_test_thread_join (&thread);
    ck_assert_msg (call.rc == -1 && call.code == EHOSTDOWN, "%d, %s", call.rc, strerror (call.code));
    ck_assert_mem_eq (&call.reply, &zero, sizeof zero);
    cut (false);
    ctki_cluster_wait_up (&cluster);
    for (int64_t i = 0; i < count; i++) {
        ctki_puppet_take (&worker, &got);
        ck_assert_int_eq (got.msg_id, i);
        ctalk_envelope_close (&got);
    }
    ctki_puppet_tell (&caller, &worker, 1, "the next");
    ctki_puppet_expect (&worker, 1, caller.id, 1, "the next");
    finish ();
}
END_TEST

/* The peer closes during a call: EHOSTDOWN (or ESRCH, if the actor that was asked ends before), and EHOSTDOWN at once
 * when it has left. */
START_TEST (peer_closed)
{
    ctalk_envelope_t reply, got, inbox = {.pid = 2, .msg_id = 2, .data = "x", .size = 1};
    ctki_test_thread_t thread;
    open_calling (NULL, &reply);
    call_t call = {.server = cluster.server[1], .request = inbox, .timeout_ms = 2 * ctki_test_long_ms ()};
    ctki_test_thread_start (&thread, call_in_thread, &call);
    ctki_traffic_take (cluster.server[2], &got);
    ctalk_envelope_close (&got);
    ctki_puppet_leave (&worker, 0);
    ck_assert_int_ge (ctalk_server_close (&cluster.server[2], ctki_test_long_ms ()), 0);
    ctki_puppet_forget (&worker);
    ctki_test_thread_join (&thread);
    ck_assert_msg (call.rc == -1 && call.code == EHOSTDOWN, "%d, %s", call.rc, strerror (call.code));
    ck_assert_int_eq (ctki_puppet_finish (&caller), -1);
    ck_assert_msg (errno == EHOSTDOWN || errno == ESRCH, "%s", strerror (errno));
    ctki_cluster_await_state (cluster.server[1], 2, CTALK_STATE_LEFT);
    CTKI_FAILS (EHOSTDOWN, ctki_puppet_call (&caller, &inbox, &reply, -1));
    CTKI_FAILS (EHOSTDOWN, ctalk_call (cluster.server[1], &inbox, &reply, -1));
    finish_calling ();
}
END_TEST

/* The peer is another process when it is heard again: EHOSTDOWN. An actor of the same name there is called anew. */
START_TEST (peer_restarted)
{
    ctalk_envelope_t reply, got;
    open_calling (CTKI_OPTIONS ("DownMs", ctki_test_ms_text (60000)), &reply);
    cut (true);
    ctki_puppet_exit (&worker, 0);
    (void) ctalk_server_close (&cluster.server[2], 0);
    cluster.server[2] = ctki_cluster_start (2, cluster.config);
    ctki_puppet_start (&worker, cluster.server[2], "worker");
    cut (false);
    expect_failure (&reply, EHOSTDOWN);
    ctki_cluster_wait_up (&cluster);
    begin_call (3, "again", &reply);
    ctki_puppet_take (&worker, &got);
    while (got.msg_id != 3) { /* the former one, if it had not been sent when the way was cut */
        ctalk_envelope_close (&got);
        ctki_puppet_take (&worker, &got);
    }
    CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &got, "answer"));
    ctalk_envelope_close (&got);
    expect_reply (&reply, 3, "answer");
    finish_calling ();
}
END_TEST

/* The peer is removed during a call: the call ends, and the next one is EHOSTUNREACH. */
START_TEST (peer_removed)
{
    ctalk_envelope_t reply;
    open_calling (NULL, &reply);
    CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[1], 2));
    ck_assert_int_eq (ctki_puppet_finish (&caller), -1);
    ck_assert_msg (errno == EHOSTDOWN || errno == EHOSTUNREACH, "%s", strerror (errno));
    ctalk_envelope_t request = ctki_puppet_envelope (&worker, 2, "x");
    CTKI_FAILS (EHOSTUNREACH, ctki_puppet_call (&caller, &request, &reply, -1));
    finish_calling ();
}
END_TEST

/* A call over a way that is cut for a time shorter than DownMs is answered after healing. */
START_TEST (cut_and_healed)
{
    ctalk_envelope_t request, reply;
    open_two (true, CTKI_OPTIONS ("DownMs", ctki_test_ms_text (60000)));
    cut (true);
    begin_call (1, "question", &reply);
    ctki_puppet_await_blocked (&caller);
    cut (false);
    ctki_puppet_take (&worker, &request);
    cut (true);
    CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &request, "answer"));
    ctalk_envelope_close (&request);
    cut (false);
    expect_reply (&reply, 1, "answer");
    finish ();
}
END_TEST

static int call_until_closed (ctalk_actor_t *self, void *arg)
{
    call_t *call = arg;
    call->rc = ctalk_actor_call (self, &call->request, &call->reply, -1);
    call->code = errno;
    return 0;
}

static bool two_came (void *server)
{
    ctalk_stats_t stats;
    return ctalk_server_stats (server, CTALK_BROADCAST, &stats) == 0 && stats.in_inbox == 2;
}

/* The caller's own server closes: ESHUTDOWN, for an actor and for a thread. */
START_TEST (own_close)
{
    ctki_test_thread_t thread;
    ctalk_pid_t pid = (ctalk_pid_t) (_i + 1);
    ctki_cluster_open_up (&cluster, 2, NULL);
    call_t calls[2];
    for (int i = 0; i < 2; i++)
        calls[i] = (call_t){.server = cluster.server[1], .request = {.pid = pid, .msg_id = i}, .timeout_ms = -1};
    ck_assert_uint_ne (ctalk_actor_spawn (cluster.server[1], NULL, call_until_closed, &calls[0]), 0);
    ctki_test_thread_start (&thread, call_in_thread, &calls[1]);
    ck_assert (ctki_test_until (two_came, cluster.server[pid], ctki_test_long_ms ()));
    ck_assert_int_ge (ctalk_server_close (&cluster.server[1], ctki_test_long_ms ()), 0);
    ctki_test_thread_join (&thread);
    for (int i = 0; i < 2; i++)
        ck_assert_msg (calls[i].rc == -1 && calls[i].code == ESHUTDOWN, "%d: %s", i, strerror (calls[i].code));
    (void) ctki_cluster_close_abandoning (&cluster, ctki_test_long_ms ());
}
END_TEST

/* ---- calls to many */

/* Answers each request with its own payload. */
static int echo (ctalk_actor_t *self, void *arg)
{
    ctalk_envelope_t got;
    (void) arg;
    while (ctalk_actor_recv (self, &got, -1) == 0) {
        (void) ctalk_actor_reply (self, &got, got.data, got.size, -1);
        ctalk_envelope_close (&got);
    }
    return 0;
}

static void spawn_echo (ctalk_pid_t pid)
{
    ck_assert_msg (ctalk_actor_spawn (cluster.server[pid], "echo", echo, NULL) != 0, "%s", strerror (errno));
}

static const ctalk_envelope_t *ask_echo (void)
{
    static ctalk_envelope_t request;
    request = (ctalk_envelope_t){.to = ctalk_actor_named ("echo"), .msg_id = 4, .data = "echo", .size = 4};
    return &request;
}

static void expect_answer (ctalk_answer_t *answer, int error)
{
    static const ctalk_envelope_t zero;
    ck_assert_msg (answer->error == error, "%d: %s, not %s", (int) answer->pid, strerror (answer->error),
                   strerror (error));
    if (error) {
        ck_assert_mem_eq (&answer->reply, &zero, sizeof zero);
        return;
    }
    ck_assert (answer->reply.pid == answer->pid && answer->reply.msg_id == 4);
    ck_assert (answer->reply.size == 4 && memcmp (answer->reply.data, "echo", 4) == 0);
    ctalk_envelope_close (&answer->reply);
}

/* All answer, the own server and one that is asked twice among them. */
START_TEST (all_answer)
{
    ctki_cluster_open_up (&cluster, 4, NULL);
    for (ctalk_pid_t pid = 1; pid <= 4; pid++)
        spawn_echo (pid);
    ctalk_answer_t answers[] = {{.pid = 2}, {.pid = 3}, {.pid = 1}, {.pid = 3}, {.pid = 4}};
    memset (&answers[2].reply, 0xaa, sizeof answers[2].reply);
    ck_assert_int_eq (ctalk_call_all (cluster.server[1], ask_echo (), answers, 5, ctki_test_long_ms ()), 5);
    for (int i = 0; i < 5; i++)
        expect_answer (&answers[i], 0);
    finish ();
}
END_TEST

/* Some answer, and each other one says why not: no such actor, no such peer, a peer that is down, an actor that ends,
 * one that does not answer in time. */
START_TEST (some_answer)
{
    enum { SOME = 7 };
    ctki_cluster_open_absent (&cluster, 4, CTKI_OPTIONS (CTKI_FAST_FAILURE));
    for (ctalk_pid_t pid = 1; pid <= 4; pid++)
        CTKI_SUCCEEDS (ctalk_server_wait_up (cluster.server[pid], 3, ctki_test_long_ms ()));
    ctki_cluster_await_state (cluster.server[1], cluster.absent, CTALK_STATE_DOWN);
    spawn_echo (1);
    spawn_echo (2);
    ctki_puppet_start (&worker, cluster.server[4], "echo"); /* it does not answer */
    ctalk_answer_t answers[SOME] = {{.pid = 2}, {.pid = 3}, {.pid = 99}, {.pid = 5},
                                    {.pid = 4}, {.pid = 3}, {.pid = 1}};
    static const int errors[SOME] = {0, ESRCH, EHOSTUNREACH, EHOSTDOWN, ETIMEDOUT, ESRCH, 0};
    int64_t start_ms = ctki_test_now_ms ();
    ck_assert_int_eq (ctalk_call_all (cluster.server[1], ask_echo (), answers, SOME, ctki_test_ms (300)), 2);
    ck_assert_int_ge (ctki_test_now_ms () - start_ms, ctki_test_ms (300) - 1);
    for (int i = 0; i < SOME; i++)
        expect_answer (&answers[i], errors[i]);
    ctki_puppet_exit (&worker, 0); /* from now on nobody has to be waited for */
    answers[4].error = 0;
    ck_assert_int_eq (ctalk_call_all (cluster.server[1], ask_echo (), answers, SOME, -1), 2);
    expect_answer (&answers[4], ESRCH);
    ctalk_envelope_close (&answers[0].reply);
    ctalk_envelope_close (&answers[6].reply);
    (void) ctki_cluster_close_abandoning (&cluster, 0);
}
END_TEST

/* A late answer to a call to many is counted, and not taken for one to the next. */
START_TEST (all_late)
{
    ctalk_envelope_t got;
    open_two (true, NULL);
    ctalk_envelope_t request = {.to = worker.id, .msg_id = 4, .data = "echo", .size = 4};
    ctalk_answer_t answer = {.pid = 2};
    ck_assert_int_eq (ctalk_call_all (cluster.server[1], &request, &answer, 1, SOON_MS), 0);
    expect_answer (&answer, ETIMEDOUT);
    ctki_puppet_take (&worker, &got);
    CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &got, "late"));
    ctalk_envelope_close (&got);
    await_late (1, 1);
    ctki_traffic_expect_nothing (cluster.server[1], 0);
    finish ();
}
END_TEST

/* What makes the whole of a call to many fail: then nothing was sent. */
START_TEST (all_errors)
{
    static char data[2000];
    open_two (true, CTKI_OPTIONS ("MaxMessageBytes", "1000"));
    ctalk_server_t *server = cluster.server[1];
    ctalk_envelope_t request = {.to = worker.id, .msg_id = 4};
    ctalk_envelope_t large = {.to = worker.id, .data = data, .size = sizeof data};
    ctalk_envelope_t wrong = {.to = worker.id, .data = NULL, .size = 5};
    ctalk_answer_t answers[2] = {{.pid = 2}, {.pid = 1}};
    CTKI_FAILS (EINVAL, ctalk_call_all (NULL, &request, answers, 2, -1));
    CTKI_FAILS (EINVAL, ctalk_call_all (server, NULL, answers, 2, -1));
    CTKI_FAILS (EINVAL, ctalk_call_all (server, &request, NULL, 2, -1));
    CTKI_FAILS (EINVAL, ctalk_call_all (server, &request, answers, 2, -2));
    CTKI_FAILS (EINVAL, ctalk_call_all (server, &wrong, answers, 2, -1));
    CTKI_FAILS (EMSGSIZE, ctalk_call_all (server, &large, answers, 2, -1));
    ctki_puppet_expect_nothing (&worker, 0);
    finish ();
}
END_TEST

/* ---- many at once */

enum { HELD = 5, TOKEN_CALLERS = 6 };

/* Answers a handful of requests in reverse order, or those that there are when no more comes. */
static int shuffle (ctalk_actor_t *self, void *arg)
{
    ctalk_envelope_t held[HELD];
    size_t count = 0;
    (void) arg;
    for (;;) {
        int rc = ctalk_actor_recv (self, &held[count], count ? 1 : -1);
        count += rc == 0;
        bool over = rc && errno == ESHUTDOWN;
        while (count > 0 && (rc || count == HELD)) {
            count--;
            (void) ctalk_actor_reply (self, &held[count], held[count].data, held[count].size, -1);
            ctalk_envelope_close (&held[count]);
            rc = -1;
        }
        if (over)
            return 0;
    }
}

typedef struct {
    ctalk_server_t *server;
    ctalk_actor_t *self; /* NULL: of a thread */
    uint64_t first;      /* token */
    size_t count;
    atomic_size_t *done;
} tokens_t;

static bool call_with_token (const tokens_t *tokens, uint64_t token, ctki_trouble_t *trouble)
{
    ctalk_envelope_t request = {.pid = (ctalk_pid_t) (token % 3) + 1, .to = ctalk_actor_named ("shuffle")}, reply;
    request.data = &token;
    request.size = sizeof token;
    request.msg_id = (int64_t) (token % 2); /* which says nothing */
    int rc = tokens->self ? ctalk_actor_call (tokens->self, &request, &reply, ctki_test_long_ms ())
                          : ctalk_call (tokens->server, &request, &reply, ctki_test_long_ms ());
    CTKI_EXPECT_EQUAL (trouble, rc, 0);
    bool right = reply.size == sizeof token && memcmp (reply.data, &token, sizeof token) == 0;
    ctalk_envelope_close (&reply);
    CTKI_EXPECT (trouble, right);
    atomic_fetch_add (tokens->done, 1);
    return true;
}

static bool call_with_tokens (void *arg, ctki_trouble_t *trouble)
{
    const tokens_t *tokens = arg;
    for (uint64_t i = 0; i < tokens->count; i++)
        if (!call_with_token (tokens, tokens->first + i, trouble))
            return false;
    return true;
}

static int64_t call_as_actor (ctalk_actor_t *self, ctki_order_t *order)
{
    ctki_trouble_t trouble = {""};
    tokens_t *tokens = order->arg;
    tokens->self = self;
    return call_with_tokens (tokens, &trouble) ? 0 : -1;
}

/* Actors and threads call at once, and are answered in another order than they asked in: each gets its own answer. */
START_TEST (each_its_own)
{
    static atomic_size_t done;
    size_t count = ctki_test_count (500);
    ctki_test_thread_t threads[TOKEN_CALLERS];
    ctki_puppet_t puppets[TOKEN_CALLERS];
    tokens_t tokens[2 * TOKEN_CALLERS];
    atomic_store (&done, 0);
    ctki_cluster_open_up (&cluster, 3, NULL);
    for (ctalk_pid_t pid = 1; pid <= 3; pid++)
        ck_assert_uint_ne (ctalk_actor_spawn (cluster.server[pid], "shuffle", shuffle, NULL), 0);
    for (size_t i = 0; i < TOKEN_CALLERS; i++) {
        ctalk_server_t *server = cluster.server[i % 3 + 1];
        tokens[2 * i] = (tokens_t){server, NULL, 2 * i * 1000000, count, &done};
        tokens[2 * i + 1] = (tokens_t){server, NULL, (2 * i + 1) * 1000000, count, &done};
        ctki_puppet_start (&puppets[i], server, NULL);
        ctki_test_thread_start (&threads[i], call_with_tokens, &tokens[2 * i]);
        ctki_puppet_begin (&puppets[i], &(ctki_order_t){.run = call_as_actor, .arg = &tokens[2 * i + 1]});
    }
    for (size_t i = 0; i < TOKEN_CALLERS; i++) {
        ctki_test_thread_join (&threads[i]);
        CTKI_SUCCEEDS ((int) ctki_puppet_finish (&puppets[i]));
    }
    ck_assert_uint_eq (atomic_load (&done), 2 * TOKEN_CALLERS * count);
    for (ctalk_pid_t pid = 1; pid <= 3; pid++)
        ck_assert_uint_eq (late_replies (pid), 0);
    finish ();
}
END_TEST

static void add_answered (TCase *tcase)
{
    tcase_add_loop_test (tcase, request_and_reply, 0, 2);
    tcase_add_loop_test (tcase, one_shot_addresses, 0, 2);
    tcase_add_loop_test (tcase, large_ones, 0, 2);
    tcase_add_loop_test (tcase, others_wait, 0, 2);
    tcase_add_loop_test (tcase, reply_needs_no_room, 0, 2);
    tcase_add_loop_test (tcase, from_a_thread, 0, 2);
    tcase_add_loop_test (tcase, to_an_inbox, 0, 4);
    tcase_add_loop_test (tcase, reply_to_a_message, 0, 2);
    tcase_add_loop_test (tcase, answered_by_another, 0, 4);
    tcase_add_loop_test (tcase, second_answer, 0, 2);
    tcase_add_test (tcase, nested);
    tcase_add_test (tcase, each_its_own);
}

static void add_unanswered (TCase *tcase)
{
    tcase_add_loop_test (tcase, not_sent, 0, 2);
    tcase_add_loop_test (tcase, not_answered, 0, 2);
    tcase_add_loop_test (tcase, not_answered_to_a_thread, 0, 2);
    tcase_add_loop_test (tcase, no_such_actor, 0, 2);
    tcase_add_loop_test (tcase, ended_before_the_answer, 0, 6);
    tcase_add_loop_test (tcase, ended_after_the_answer, 0, 2);
    tcase_add_loop_test (tcase, cycles_time_out, 0, 2);
    tcase_add_test (tcase, call_errors);
    tcase_add_test (tcase, reply_errors);
    tcase_add_loop_test (tcase, interrupted, 0, 2);
}

static void add_peers (TCase *tcase)
{
    tcase_add_test (tcase, peer_down);
    tcase_add_test (tcase, peer_down_before_sending);
    tcase_add_test (tcase, peer_closed);
    tcase_add_test (tcase, peer_restarted);
    tcase_add_test (tcase, peer_removed);
    tcase_add_test (tcase, cut_and_healed);
    tcase_add_loop_test (tcase, own_close, 0, 2);
}

enum { STUCK_FIRST = 4 };

/* Four servers; the first two to be asked, worker on server 1 or 2 and third on server 3, take nothing and have no room. */
static int64_t open_stuck (ctalk_pid_t stuck, ctalk_answer_t answers[STUCK_FIRST])
{
    ctki_cluster_open_up (&cluster, 4, CTKI_OPTIONS ("MailboxBytes", ctki_test_number_text (BOUND)));
    ctki_puppet_start (&worker, cluster.server[stuck], "echo");
    ctki_puppet_start (&third, cluster.server[3], "echo");
    spawn_echo (3 - stuck);
    spawn_echo (4);
    for (int i = 0; i < STUCK_FIRST; i++)
        answers[i] = (ctalk_answer_t){.pid = (const ctalk_pid_t[]){stuck, 3, 3 - stuck, 4}[i]};
    (void) ctki_puppet_fill (cluster.server[1], &third, 0, PAYLOAD);
    return ctki_puppet_fill (cluster.server[1], &worker, 0, PAYLOAD);
}

/* Those that have no room keep nobody else from being asked and from answering. */
START_TEST (some_without_room)
{
    ctalk_answer_t answers[STUCK_FIRST];
    (void) open_stuck (_i + 1, answers);
    int64_t start_ms = ctki_test_now_ms ();
    ck_assert_int_eq (ctalk_call_all (cluster.server[1], ask_echo (), answers, STUCK_FIRST, ctki_test_ms (300)), 2);
    ck_assert_int_ge (ctki_test_now_ms () - start_ms, ctki_test_ms (300) - 1);
    for (int i = 0; i < STUCK_FIRST; i++)
        expect_answer (&answers[i], i < 2 ? EAGAIN : 0);
    ck_assert_int_eq (ctalk_call_all (cluster.server[1], ask_echo (), answers, 2, 0), 0);
    for (int i = 0; i < 2; i++)
        expect_answer (&answers[i], EAGAIN);
    finish ();
}
END_TEST

typedef struct {
    ctalk_answer_t answers[STUCK_FIRST];
    size_t count;
    int rc;
} call_all_t;

static bool call_all_for_ever (void *arg, ctki_trouble_t *trouble)
{
    call_all_t *call = arg;
    (void) trouble;
    call->rc = ctalk_call_all (cluster.server[1], ask_echo (), call->answers, call->count, -1);
    return true;
}

/* They are waited for behind the others, and asked when there is room. */
START_TEST (room_is_made)
{
    ctki_test_thread_t thread;
    ctalk_envelope_t got;
    call_all_t call = {.count = STUCK_FIRST};
    int64_t count = open_stuck (_i + 1, call.answers);
    call.answers[1].pid = 4;
    ctki_test_thread_start (&thread, call_all_for_ever, &call);
    ctki_test_thread_await_blocked (&thread);
    for (int64_t i = 0; i < count; i++) {
        ctki_puppet_take (&worker, &got);
        ck_assert_int_eq (got.msg_id, i);
        ctalk_envelope_close (&got);
    }
    ctki_puppet_take (&worker, &got);
    CTKI_SUCCEEDS (ctki_puppet_reply (&worker, &got, "echo"));
    ctalk_envelope_close (&got);
    ctki_test_thread_join (&thread);
    ck_assert_int_eq (call.rc, STUCK_FIRST);
    for (int i = 0; i < STUCK_FIRST; i++)
        expect_answer (&call.answers[i], 0);
    finish ();
}
END_TEST

/* A signal handler ends the wait for room of one, and with that the call: no other is waited for. */
START_TEST (all_interrupted)
{
    struct sigaction action = {.sa_handler = ignore}, old;
    ctki_test_thread_t thread;
    call_all_t call = {.count = STUCK_FIRST};
    (void) open_stuck (_i + 1, call.answers);
    ck_assert_int_eq (sigaction (SIGUSR1, &action, &old), 0);
    ctki_test_thread_start (&thread, call_all_for_ever, &call);
    ctki_test_thread_await_blocked (&thread);
    CTKI_SUCCEEDS (pthread_kill (thread.thread, SIGUSR1));
    ctki_test_thread_join (&thread);
    ck_assert_int_eq (sigaction (SIGUSR1, &old, NULL), 0);
    ck_assert_int_ge (call.rc, 0);
    for (int i = 0; i < STUCK_FIRST; i++)
        expect_answer (&call.answers[i], i >= 2 && call.answers[i].error == 0 ? 0 : EINTR);
    finish ();
}
END_TEST

Suite *ctki_suite_actor_calls (void)
{
    Suite *suite = suite_create ("actor_calls");
    TCase *answered = ctki_leaks_tcase ("answered", 60), *unanswered = ctki_leaks_tcase ("unanswered", 60);
    TCase *peers = ctki_leaks_tcase ("peers", 90), *many = ctki_leaks_tcase ("many", 60);
    add_answered (answered);
    add_unanswered (unanswered);
    add_peers (peers);
    tcase_add_test (many, all_answer);
    tcase_add_test (many, some_answer);
    tcase_add_loop_test (many, some_without_room, 0, 2);
    tcase_add_loop_test (many, room_is_made, 0, 2);
    tcase_add_loop_test (many, all_interrupted, 0, 2);
    tcase_add_test (many, all_late);
    tcase_add_test (many, all_errors);
    suite_add_tcase (suite, answered);
    suite_add_tcase (suite, unanswered);
    suite_add_tcase (suite, peers);
    suite_add_tcase (suite, many);
    return suite;
}
