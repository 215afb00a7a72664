/*
 * test_cluster.c - the key-value store as it is used: five servers in processes of
 * their own, clients in others, and a nemesis that cuts the servers off from each
 * other and kills them with signal 9. What the clients wrote down must be
 * linearizable (linear.h), and after each trouble writes must succeed again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kvstore/node.h"
#include "tests/kvstore/suites.h"
#include "tests/support/support.h"

enum { ALL = (1 << CTKI_KV_SERVERS) - 1, WRITES = 30 /* that must succeed after each trouble */ };

static ctki_kv_t kv;
static uint64_t random_state;

static unsigned draw (unsigned below)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned) (random_state >> 33) % below;
}

/* ---- the nemesis */

/* Two servers, the leader among them more often than not. */
static unsigned draw_two (void)
{
    unsigned first = draw (3) ? (unsigned) ctki_kv_await_leader (&kv, ALL) : draw (CTKI_KV_SERVERS);
    unsigned second = (first + 1 + draw (CTKI_KV_SERVERS - 1)) % CTKI_KV_SERVERS;
    return 1u << first | 1u << second;
}

/* 2 | 3: the majority goes on; healed, all do. */
static void cut_two_off (void)
{
    unsigned two = draw_two ();
    for (size_t i = 0; i < CTKI_KV_SERVERS; i++)
        ctki_kv_cut (&kv, i, two >> i & 1 ? ALL & ~two : two);
    (void) ctki_kv_await_leader (&kv, ALL & ~two);
    ctki_kv_await_writes (&kv, WRITES);
    for (size_t i = 0; i < CTKI_KV_SERVERS; i++)
        ctki_kv_cut (&kv, i, 0);
    size_t leader = ctki_kv_await_leader (&kv, ALL);
    for (size_t i = 0; i < CTKI_KV_SERVERS; i++)
        if (two >> i & 1)
            ctki_kv_await_caught_up (&kv, i, leader);
    ctki_kv_await_writes (&kv, WRITES);
}

static void bring_back (unsigned set)
{
    for (size_t i = 0; i < CTKI_KV_SERVERS; i++)
        if (set >> i & 1)
            ctki_kv_start_server (&kv, i);
    size_t leader = ctki_kv_await_leader (&kv, ALL);
    for (size_t i = 0; i < CTKI_KV_SERVERS; i++)
        if (set >> i & 1)
            ctki_kv_await_caught_up (&kv, i, leader);
    ctki_kv_await_writes (&kv, WRITES);
}

static void kill_set (unsigned set)
{
    for (size_t i = 0; i < CTKI_KV_SERVERS; i++)
        if (set >> i & 1)
            ctki_kv_kill (&kv, i);
}

static void kill_leader (void)
{
    unsigned one = 1u << ctki_kv_await_leader (&kv, ALL);
    kill_set (one);
    ctki_kv_await_writes (&kv, WRITES);
    bring_back (one);
}

static void kill_two (void)
{
    unsigned two = draw_two ();
    kill_set (two);
    ctki_kv_await_writes (&kv, WRITES);
    bring_back (two);
}

/* What was answered must be on the disks. */
static void kill_all (void)
{
    kill_set (ALL);
    bring_back (ALL);
}

/* ---- the histories */

static void check_histories (const char *name)
{
    size_t count = 0;
    ctki_op_t *ops = NULL;
    char why[320] = "";
    for (size_t i = 0; i < CTKI_KV_CLIENTS * CTKI_KV_THREADS; i++) {
        const ctki_kv_history_t *history = &kv.shared->history[i];
        size_t some = history->count;
        ops = realloc (ops, (count + some + 1) * sizeof *ops);
        ck_assert_ptr_nonnull (ops);
        memcpy (ops + count, history->op, some * sizeof *ops);
        count += some;
    }
    size_t unanswered = atomic_load (&kv.shared->unanswered), written = atomic_load (&kv.shared->written);
    ck_assert_uint_eq (atomic_load (&kv.shared->answered) + unanswered, count);
    ck_assert_msg (ctki_linearizable (ops, count, why, sizeof why), "not linearizable: %s", why);
    ctki_test_figure (name, "%zu operations, %zu writes, %zu without an answer: linearizable", count, written,
                      unanswered);
    free (ops);
}

/* Goal: with partitions and kills all the time, what the clients see is linearizable, and writes go on each time. */
START_TEST (nemesis)
{
    static void (*const troubles[]) (void) = {cut_two_off, kill_leader, kill_two, cut_two_off, kill_leader, kill_all};
    size_t count = sizeof troubles / sizeof *troubles;
    size_t rounds = CTKI_MAX (ctki_test_count (60), count);
    ctki_kv_set_up (&kv, false);
    random_state = kv.seed;
    for (size_t i = 0; i < CTKI_KV_SERVERS; i++)
        ctki_kv_start_server (&kv, i);
    for (size_t i = 0; i < CTKI_KV_CLIENTS; i++)
        ctki_kv_start_client (&kv, i);
    ctki_kv_await_writes (&kv, WRITES);
    for (size_t round = 0; round < rounds; round++) {
        troubles[round % count]();
        ctki_test_progress ("nemesis", round + 1, rounds);
    }
    ctki_test_progress ("", 0, 0);
    ctki_kv_join_clients (&kv);
    check_histories ("nemesis");
    ctki_kv_tear_down (&kv);
}
END_TEST

/* ---- a store that is broken */

static ctki_op_t operate (ctalk_server_t *server, const ctalk_pid_t *whom, size_t count, kv_request_t request, int ms)
{
    static int64_t time;
    static unsigned clients;
    kv_client_t client;
    kv_answer_t answer = {0};
    ctalk_envelope_t reply;
    ctki_op_t op = {.kind = request.op == KV_GET ? CTKI_GET : CTKI_PUT, .called = ++time, .returned = CTKI_NEVER};
    request.key = (kv_text_t){"k", 1};
    op.value = request.value.size ? (uint64_t) (*(const char *) request.value.data - '0') : 0;
    kv_client_init (&client, kv_client_id (server, clients++), whom, count);
    if (kv_client_do (&client, server, &request, &answer, &reply, ms) == 0) {
        op.returned = ++time;
        if (op.kind == CTKI_GET && answer.status == KV_DONE)
            op.value = (uint64_t) (*(const char *) answer.value.data - '0');
    }
    ctalk_envelope_close (&reply);
    return op;
}

/* A leader is cut off, and asked, after the others have gone on without it. */
static bool read_from_the_past (bool dirty, ctki_op_t ops[3])
{
    ctalk_error_t error = {.text = ""};
    ctalk_pid_t old, others[CTKI_KV_SERVERS - 1];
    kv_request_t put_1 = {.op = KV_PUT, .value = {"1", 1}}, put_2 = {.op = KV_PUT, .value = {"2", 1}};
    ctki_kv_set_up (&kv, dirty);
    for (size_t i = 0; i < CTKI_KV_SERVERS; i++)
        ctki_kv_start_server (&kv, i);
    size_t leader = ctki_kv_await_leader (&kv, ALL);
    ctalk_server_t *server = ctalk_server_new (CTKI_KV_SERVERS + 1, kv.config, &error);
    ck_assert_msg (server != NULL, "%s", error.text);
    ops[0] = operate (server, kv.members, CTKI_KV_SERVERS, put_1, ctki_test_long_ms ());
    ctki_kv_await_caught_up (&kv, leader, ctki_kv_await_leader (&kv, ALL));

    old = (ctalk_pid_t) leader + 1;
    for (size_t i = 0, n = 0; i < CTKI_KV_SERVERS; i++) {
        ctki_kv_cut (&kv, i, i == leader ? ALL & ~(1u << leader) : 1u << leader);
        if (i != leader)
            others[n++] = (ctalk_pid_t) i + 1;
    }
    ops[1] = operate (server, others, CTKI_KV_SERVERS - 1, put_2, ctki_test_long_ms ());
    ops[2] = operate (server, &old, 1, (kv_request_t){.op = KV_GET}, ctki_test_ms (dirty ? 20000 : 1000));
    ck_assert (ops[0].returned != CTKI_NEVER && ops[1].returned != CTKI_NEVER);
    ck_assert_int_ge (ctalk_server_close (&server, ctki_test_ms (1000)), 0);
    ctki_kv_tear_down (&kv);
    return ctki_linearizable (ops, 3, NULL, 0);
}

/* Goal: a store whose servers answer reads by themselves is found out. */
START_TEST (dirty_reads)
{
    ctki_op_t ops[3];
    ck_assert (!read_from_the_past (true, ops));
}
END_TEST

/* Goal: the same with the store as it is: a server that is cut off does not answer. */
START_TEST (clean_reads)
{
    ctki_op_t ops[3];
    ck_assert (read_from_the_past (false, ops));
    for (size_t i = 0; i < 3; i++)
        ck_assert (ops[i].kind != CTKI_GET || ops[i].returned == CTKI_NEVER);
}
END_TEST

Suite *ctki_suite_kv_cluster (void)
{
    Suite *suite = suite_create ("cluster");
    TCase *tcase = tcase_create ("cluster");
    tcase_set_timeout (tcase, ctki_test_ms (600 * 1000) / 1000.0);
    tcase_add_test (tcase, dirty_reads);
    tcase_add_test (tcase, clean_reads);
    tcase_add_test (tcase, nemesis);
    suite_add_tcase (suite, tcase);
    return suite;
}
