/*
 * test_actor_memory.c - actors without memory: each allocation of each thing that
 * they do fails once; and actors that come and go leave nothing behind.
 */
#include <stdio.h>

#include "src/mem.h"
#include "tests/cluster/suites.h"
#include "tests/support/puppet.h"
#include "tests/support/support.h"

enum { NO_SUCH = 12345 };

static ctki_cluster_t cluster;
static ctki_puppet_t a, b, c;

static void finish (void)
{
    ctki_puppets_end ();
    ctki_cluster_close (&cluster);
}

/* Receives until it is told to end. */
static int until_stopped (ctalk_actor_t *self, void *arg)
{
    ctalk_envelope_t envelope;
    while (ctalk_actor_recv (self, &envelope, -1) == 0)
        ctalk_envelope_close (&envelope);
    (void) arg;
    return 0;
}

/* Answers each request with its own payload, however often that takes. */
static int echo (ctalk_actor_t *self, void *arg)
{
    ctalk_envelope_t got;
    (void) arg;
    while (ctalk_actor_recv (self, &got, -1) == 0) {
        while (ctalk_actor_reply (self, &got, got.data, got.size, -1) == -1 && errno == ENOMEM) {
        }
        ctalk_envelope_close (&got);
    }
    return 0;
}

/* Whether it was done; else there was no memory, or the test fails. */
static bool done_or_enomem (const char *what, bool done)
{
    ck_assert_msg (done || errno == ENOMEM, "%s: %s", what, strerror (errno));
    return done;
}

static char large[100000];

static bool spawn_named (const char *name)
{
    uint64_t id = ctalk_actor_spawn (cluster.server[1], name, until_stopped, NULL);
    if (!done_or_enomem ("spawn", id != 0))
        return false;
    (void) ctki_mem_fail (-1, 0);
    CTKI_SUCCEEDS (ctalk_actor_stop (cluster.server[1], id, ctki_test_long_ms ()));
    return true;
}

static bool act_spawn (void)
{
    return spawn_named (NULL);
}

static bool act_spawn_named (void)
{
    return spawn_named ("a name");
}

/* From a to another one, which gets it unchanged. */
static bool send_to (ctki_puppet_t *to, size_t size)
{
    ctalk_envelope_t envelope = ctki_puppet_envelope (to, 4, NULL), got;
    envelope.data = large;
    envelope.size = size;
    if (!done_or_enomem ("send", ctki_puppet_send (&a, &envelope, ctki_test_long_ms ()) == 0))
        return false;
    ctki_puppet_take (to, &got);
    ck_assert (got.msg_id == 4 && got.from == a.id && got.size == size && memcmp (got.data, large, size) == 0);
    ctalk_envelope_close (&got);
    return true;
}

static bool act_send_local (void)
{
    return send_to (&c, 10);
}

static bool act_send_large_local (void)
{
    return send_to (&c, sizeof large);
}

static bool act_send_remote (void)
{
    return send_to (&b, 10);
}

static bool act_send_large_remote (void)
{
    return send_to (&b, sizeof large);
}

static bool call_echo (ctalk_pid_t pid, bool by_actor)
{
    ctalk_envelope_t request = {.pid = pid, .to = ctalk_actor_named ("echo"), .msg_id = 5, .data = "ping", .size = 4};
    ctalk_envelope_t reply;
    int rc = by_actor ? ctki_puppet_call (&a, &request, &reply, ctki_test_long_ms ())
                      : ctalk_call (cluster.server[1], &request, &reply, ctki_test_long_ms ());
    if (!done_or_enomem ("call", rc == 0))
        return false;
    ck_assert (reply.msg_id == 5 && reply.size == 4 && memcmp (reply.data, "ping", 4) == 0);
    ctalk_envelope_close (&reply);
    return true;
}

static bool act_call_local (void)
{
    return call_echo (1, true);
}

static bool act_call_remote (void)
{
    return call_echo (2, true);
}

static bool act_call_of_a_thread (void)
{
    return call_echo (2, false);
}

static bool act_call_all (void)
{
    ctalk_answer_t answers[2] = {{.pid = 1}, {.pid = 2}};
    ctalk_envelope_t request = {.to = ctalk_actor_named ("echo"), .msg_id = 5, .data = "ping", .size = 4};
    int rc = ctalk_call_all (cluster.server[1], &request, answers, 2, ctki_test_long_ms ());
    bool done = done_or_enomem ("call_all", rc >= 0);
    for (int i = 0; done && i < 2; i++) {
        ck_assert_msg (answers[i].error == 0 || answers[i].error == ENOMEM, "%s", strerror (answers[i].error));
        ctalk_envelope_close (&answers[i].reply);
    }
    return rc == 2;
}

/* An actor that is not there is told as such. */
static bool monitor_nobody (ctalk_pid_t pid)
{
    ctalk_envelope_t got;
    if (!done_or_enomem ("monitor", ctki_puppet_monitor (&a, pid, NO_SUCH) == 0))
        return false;
    ctki_puppet_take (&a, &got);
    ck_assert (got.kind == CTALK_ACTOR_DOWN && got.pid == pid && got.from == NO_SUCH);
    ctalk_envelope_close (&got);
    return true;
}

static bool act_monitor_local (void)
{
    return monitor_nobody (1);
}

static bool act_monitor_remote (void)
{
    return monitor_nobody (2);
}

static bool act_timer (void)
{
    ctalk_envelope_t envelope = ctki_puppet_envelope (&a, 6, "tick"), got;
    uint64_t id = ctki_puppet_send_after (&a, 0, &envelope);
    if (!done_or_enomem ("send_after", id != 0))
        return false;
    ctki_puppet_take (&a, &got);
    ck_assert (got.kind == CTALK_TIMER && got.from == id && got.msg_id == 6);
    ctalk_envelope_close (&got);
    return true;
}

/* To another one on another server. */
static bool act_timer_to_other (void)
{
    ctalk_envelope_t envelope = ctki_puppet_envelope (&b, 6, "tick");
    if (!done_or_enomem ("send_after", ctki_puppet_send_after (&a, 0, &envelope) != 0))
        return false;
    ctki_puppet_expect (&b, 1, a.id, 6, "tick");
    return true;
}

/* a comes and goes, b on the other server is told. */
static bool act_join (void)
{
    ctalk_envelope_t got;
    if (!done_or_enomem ("join", ctki_puppet_join (&a, "group") == 0))
        return false;
    for (ctalk_kind_t kind = CTALK_GROUP_JOINED; kind <= CTALK_GROUP_LEFT; kind++) {
        ctki_puppet_take (&b, &got);
        ck_assert (got.kind == kind && got.pid == 1 && got.from == a.id);
        ctalk_envelope_close (&got);
        if (kind == CTALK_GROUP_JOINED)
            CTKI_SUCCEEDS (ctki_puppet_quit (&a, "group"));
    }
    return true;
}

static bool act_watch (void)
{
    if (!done_or_enomem ("watch", ctki_puppet_watch (&c, "other group", true) == 0))
        return false;
    CTKI_SUCCEEDS (ctki_puppet_watch (&c, "other group", false));
    return true;
}

static const struct {
    const char *name;
    bool (*act) (void); /* the k-th allocation from its start on fails, on whatever thread; false: ENOMEM */
} works[] = {{"spawn", act_spawn},
             {"spawn with a name", act_spawn_named},
             {"send", act_send_local},
             {"send a large one", act_send_large_local},
             {"send to another server", act_send_remote},
             {"send a large one to another server", act_send_large_remote},
             {"call", act_call_local},
             {"call another server", act_call_remote},
             {"call of a thread", act_call_of_a_thread},
             {"call_all", act_call_all},
             {"monitor", act_monitor_local},
             {"monitor on another server", act_monitor_remote},
             {"timer", act_timer},
             {"timer to another server", act_timer_to_other},
             {"join a group", act_join},
             {"watch a group", act_watch}};

enum { WORKS = sizeof works / sizeof works[0], K_MAX = 400, QUIET = 3 };

static void open_for_work (void)
{
    ctki_payload_fill (large, sizeof large, 1, 2, 5);
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctki_puppet_start (&a, cluster.server[1], NULL);
    ctki_puppet_start (&b, cluster.server[2], NULL);
    ctki_puppet_start (&c, cluster.server[1], NULL);
    for (ctalk_pid_t pid = 1; pid <= 2; pid++)
        ck_assert_uint_ne (ctalk_actor_spawn (cluster.server[pid], "echo", echo, NULL), 0);
}

/* The k-th allocation fails, for every k that there is, of each thing that actors do: it says ENOMEM and nothing was
 * done, or it is done in full; and everything goes on afterwards. */
START_TEST (each_step_without_memory)
{
    long k = 0, failed = 0, refused = 0;
    int quiet = 0;
    open_for_work ();
    if (works[_i].act == act_join)
        CTKI_SUCCEEDS (ctki_puppet_watch (&b, "group", true));
    for (; k < K_MAX && quiet < QUIET; k++) {
        (void) ctki_mem_fail (k, 1);
        bool done = works[_i].act ();
        bool was = ctki_mem_fail (-1, 0) > k; /* it came so far */
        failed += was;
        refused += !done;
        quiet = was || !done ? 0 : quiet + 1;
        ck_assert (act_send_local () && act_send_remote () && act_call_remote () && act_timer ());
    }
    ck_assert_int_lt (k, K_MAX);
    ctki_puppet_expect_nothing (&a, 0);
    ctki_puppet_expect_nothing (&b, 0);
    ctki_puppet_expect_nothing (&c, 0);
    finish ();
    ctki_test_figure ("each_step_without_memory", "%s: %ld allocations failed, ENOMEM %ld times", works[_i].name,
                      failed, refused);
}
END_TEST

enum { LISTED = 30 };

/* The i-th thing that an actor can begin with a peer of which nothing is known but where it is; 0 or its errno. */
static int begin_with (int i, ctalk_pid_t pid)
{
    ctalk_envelope_t envelope = {.pid = pid, .to = NO_SUCH}, reply;
    bool done = i == 0   ? ctki_puppet_call (&a, &envelope, &reply, 0) == 0
                : i == 1 ? ctki_puppet_monitor (&a, pid, NO_SUCH) == 0
                         : ctki_puppet_send_after (&a, 60000, &envelope) != 0;
    return done ? 0 : errno;
}

/* The first thing that is begun with a listed peer makes its record: without memory for that it is ENOMEM, not that
 * there is no such peer. */
START_TEST (first_of_a_listed_peer)
{
    static ctki_ports_t ports;
    const int good = _i == 0 ? ETIMEDOUT : 0;
    int refused = 0;
    ctki_ports_take (&ports, LISTED);
    memset (&cluster, 0, sizeof cluster);
    cluster.config = ctki_cluster_config (LISTED, ports.port,
                                          CTKI_OPTIONS ("Senders", "lazy", "DownMs", ctki_test_ms_text (60000)));
    cluster.count = 1;
    cluster.server[1] = ctki_cluster_start (1, cluster.config);
    ctki_puppet_start (&a, cluster.server[1], NULL);
    for (int k = 0; k < LISTED - 1; k++) {
        (void) ctki_mem_fail (k, 1);
        int code = begin_with (_i, (ctalk_pid_t) k + 2);
        (void) ctki_mem_fail (-1, 0);
        ck_assert_msg (code == good || code == ENOMEM, "%d: %s", k, strerror (code));
        refused += code == ENOMEM;
    }
    ck_assert_int_gt (refused, 0);
    ck_assert_int_eq (begin_with (_i, LISTED), good);
    ck_assert_int_eq (begin_with (_i, LISTED + 1), EHOSTUNREACH);
    ctki_puppets_end ();
    (void) ctki_cluster_close_abandoning (&cluster, 0);
    ctki_ports_release (&ports);
}
END_TEST

static bool few_run (void *server)
{
    ctalk_stats_t stats;
    return ctalk_server_stats (server, 1, &stats) == 0 && stats.actors <= 8;
}

/* A server does not grow with the actors that came and went, each with unread envelopes, a timer and a monitor. */
START_TEST (churn)
{
    size_t count = ctki_test_count (4000);
    uint64_t before = 0;
    ctki_cluster_open (&cluster, 1, NULL);
    for (size_t i = 0; i < count; i++) {
        if (i == count / 4) {
            ctki_memory_reset_peak ();
            before = ctki_memory_now ();
        }
        ctki_puppet_t *puppet = &a;
        ctki_puppet_start (puppet, cluster.server[1], i % 2 ? NULL : "name");
        ctalk_envelope_t envelope = ctki_puppet_envelope (puppet, (int64_t) i, "unread");
        CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &envelope, ctki_test_long_ms ()));
        ck_assert_uint_ne (ctki_puppet_send_after (puppet, 60000, &envelope), 0);
        CTKI_SUCCEEDS (ctki_puppet_monitor (puppet, 1, NO_SUCH));
        CTKI_SUCCEEDS (ctki_puppet_join (puppet, "group"));
        ctki_puppet_exit (puppet, 0);
        ck_assert (ctki_test_until (few_run, cluster.server[1], ctki_test_long_ms ()));
    }
    uint64_t grown = ctki_memory_grown (before);
    ck_assert_uint_le (grown, (8u << 20) + 200 * count);
    finish ();
    ctki_test_figure ("churn", "%zu actors, grown by %llu KiB", count, (unsigned long long) grown / 1024);
}
END_TEST

static void tear_down (void)
{
    (void) ctki_mem_fail (-1, 0);
}

Suite *ctki_suite_actor_memory (void)
{
    Suite *suite = suite_create ("actor_memory");
    TCase *tcase = ctki_leaks_tcase ("actor_memory", 120);
    tcase_add_checked_fixture (tcase, NULL, tear_down);
    tcase_add_loop_test (tcase, each_step_without_memory, 0, WORKS);
    tcase_add_loop_test (tcase, first_of_a_listed_peer, 0, 3);
    tcase_add_test (tcase, churn);
    suite_add_tcase (suite, tcase);
    return suite;
}
