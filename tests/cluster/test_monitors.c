/*
 * test_monitors.c - who is told that an actor, or a server, is there no more: why,
 * once, and behind all that came from it.
 */
#include <stdatomic.h>
#include <stdio.h>

#include "tests/cluster/suites.h"
#include "tests/support/puppet.h"
#include "tests/support/support.h"

enum { NO_SUCH = 12345, WATCHERS = 10 };

static ctki_cluster_t cluster;
static ctki_puppet_t watcher, target;

static void finish (void)
{
    ctki_puppets_end ();
    ctki_cluster_close (&cluster);
}

static void finish_abandoning (void)
{
    ctki_puppets_end ();
    (void) ctki_cluster_close_abandoning (&cluster, ctki_test_long_ms ());
}

/* watcher on server 1, target on the same or on server 2. */
static void open_two (bool remote, const char *const *options)
{
    ctki_cluster_open_up (&cluster, 2, options);
    ctki_puppet_start (&watcher, cluster.server[1], NULL);
    ctki_puppet_start (&target, cluster.server[remote ? 2 : 1], NULL);
}

/* Asks, and waits until that has arrived: what watcher sends to target comes behind it. */
static void monitor_and_wait (int64_t msg_id)
{
    CTKI_SUCCEEDS (ctki_puppet_monitor (&watcher, target.pid, target.id));
    ctki_puppet_tell (&watcher, &target, msg_id, "asked before");
    ctki_puppet_expect (&target, 1, watcher.id, msg_id, "asked before");
}

/* The next in the mailbox of a puppet says that this one is there no more, and why. */
static void expect_down (ctki_puppet_t *puppet, ctalk_pid_t pid, uint64_t actor, int32_t reason, int32_t exit_reason)
{
    ctalk_envelope_t got;
    ctki_puppet_take (puppet, &got);
    ck_assert_msg (got.kind == CTALK_ACTOR_DOWN, "kind %d", (int) got.kind);
    ck_assert_int_eq (got.pid, pid);
    ck_assert_uint_eq (got.from, actor);
    ck_assert_uint_eq (got.to, puppet->id);
    ck_assert_uint_eq (got.size, sizeof (ctalk_event_t));
    const ctalk_event_t *event = got.data;
    ck_assert_msg (event->reason == reason, "reason %d (%s), not %d", (int) event->reason, event->text, (int) reason);
    ck_assert_int_eq (event->exit_reason, exit_reason);
    ck_assert (memchr (event->text, 0, sizeof event->text) != NULL && event->text[0]);
    ctalk_envelope_close (&got);
}

/* ---- of actors */

/* An actor that ends is told with its exit reason, whatever that is, once; then a monitor says that it is not there. */
START_TEST (exited)
{
    static const int32_t reasons[] = {0, 7, -1, INT32_MIN, INT32_MAX};
    open_two (_i == 1, NULL);
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        monitor_and_wait ((int64_t) i);
        ctki_puppet_expect_nothing (&watcher, 0);
        uint64_t id = target.id;
        ctki_puppet_exit (&target, reasons[i]);
        expect_down (&watcher, target.pid, id, CTALK_WHY_EXITED, reasons[i]);
        CTKI_SUCCEEDS (ctki_puppet_monitor (&watcher, target.pid, id));
        expect_down (&watcher, target.pid, id, CTALK_WHY_NO_ACTOR, 0);
        ctki_puppet_expect_nothing (&watcher, 10);
        ctki_puppet_start (&target, cluster.server[_i + 1], NULL);
    }
    finish ();
}
END_TEST

/* An actor that was never there is told at once, also by the id of a name. */
START_TEST (no_actor)
{
    open_two (_i == 1, NULL);
    CTKI_SUCCEEDS (ctki_puppet_monitor (&watcher, target.pid, NO_SUCH));
    expect_down (&watcher, target.pid, NO_SUCH, CTALK_WHY_NO_ACTOR, 0);
    CTKI_SUCCEEDS (ctki_puppet_monitor (&watcher, target.pid, ctalk_actor_named ("nobody")));
    expect_down (&watcher, target.pid, ctalk_actor_named ("nobody"), CTALK_WHY_NO_ACTOR, 0);
    ctki_puppet_expect_nothing (&watcher, 10);
    finish ();
}
END_TEST

/* It comes behind all that the watcher got from that actor. */
START_TEST (behind_all)
{
    enum { BEFORE = 100 }; /* less than the first credit */
    static const char data[500] = {1};
    open_two (_i == 1, NULL);
    monitor_and_wait (0);
    for (int64_t i = 0; i < BEFORE; i++) {
        ctalk_envelope_t envelope = ctki_puppet_envelope (&watcher, i, NULL);
        envelope.data = data;
        envelope.size = i % 10 ? 10 : sizeof data;
        CTKI_SUCCEEDS (ctki_puppet_send (&target, &envelope, ctki_test_long_ms ()));
    }
    ctki_puppet_exit (&target, 3);
    for (int64_t i = 0; i < BEFORE; i++) {
        ctalk_envelope_t got;
        ctki_puppet_take (&watcher, &got);
        ck_assert (got.kind == CTALK_MESSAGE && got.from == target.id && got.msg_id == i);
        ctalk_envelope_close (&got);
    }
    expect_down (&watcher, target.pid, target.id, CTALK_WHY_EXITED, 3);
    finish ();
}
END_TEST

/* Asked twice while it was not told is told once. */
START_TEST (asked_twice)
{
    open_two (_i == 1, NULL);
    for (int i = 0; i < 3; i++)
        monitor_and_wait (i);
    ctki_puppet_exit (&target, 1);
    expect_down (&watcher, target.pid, target.id, CTALK_WHY_EXITED, 1);
    ctki_puppet_expect_nothing (&watcher, 20);
    finish ();
}
END_TEST

/* Each of many watchers, on two servers, is told once; one that ended before is no trouble. */
START_TEST (many_watchers)
{
    ctki_puppet_t watchers[WATCHERS];
    open_two (true, NULL);
    for (int i = 0; i < WATCHERS; i++) {
        ctki_puppet_start (&watchers[i], cluster.server[i % 2 + 1], NULL);
        CTKI_SUCCEEDS (ctki_puppet_monitor (&watchers[i], target.pid, target.id));
        ctki_puppet_tell (&watchers[i], &target, i, "asked before");
        ctki_puppet_expect (&target, watchers[i].pid, watchers[i].id, i, "asked before");
    }
    ctki_puppet_exit (&watchers[0], 0);
    ctki_puppet_exit (&watchers[1], 0);
    ctki_puppet_exit (&target, 5);
    for (int i = 2; i < WATCHERS; i++) {
        expect_down (&watchers[i], target.pid, target.id, CTALK_WHY_EXITED, 5);
        ctki_puppet_expect_nothing (&watchers[i], 0);
    }
    finish ();
}
END_TEST

/* One watcher of many actors is told of each, once, in the order in which they ended on one server. */
START_TEST (many_targets)
{
    ctki_puppet_t targets[WATCHERS];
    open_two (true, NULL);
    for (int i = 0; i < WATCHERS; i++) {
        ctki_puppet_start (&targets[i], cluster.server[_i + 1], NULL);
        CTKI_SUCCEEDS (ctki_puppet_monitor (&watcher, targets[i].pid, targets[i].id));
        ctki_puppet_tell (&watcher, &targets[i], i, "asked before");
        ctki_puppet_expect (&targets[i], 1, watcher.id, i, "asked before");
    }
    for (int i = 0; i < WATCHERS; i++) {
        ctki_puppet_exit (&targets[i], i);
        expect_down (&watcher, targets[i].pid, targets[i].id, CTALK_WHY_EXITED, i);
    }
    ctki_puppet_expect_nothing (&watcher, 10);
    finish ();
}
END_TEST

/* Two actors watch each other; the one that is left is told. */
START_TEST (each_other)
{
    open_two (_i == 1, NULL);
    CTKI_SUCCEEDS (ctki_puppet_monitor (&watcher, target.pid, target.id));
    CTKI_SUCCEEDS (ctki_puppet_monitor (&target, 1, watcher.id));
    ctki_puppet_tell (&target, &watcher, 1, "asked before");
    ctki_puppet_expect (&watcher, target.pid, target.id, 1, "asked before");
    uint64_t id = watcher.id;
    ctki_puppet_exit (&watcher, 2);
    expect_down (&target, 1, id, CTALK_WHY_EXITED, 2);
    ctki_puppet_expect_nothing (&target, 0);
    finish ();
}
END_TEST

/* It is told though the watcher's mailbox is full. */
START_TEST (needs_no_room)
{
    open_two (_i == 1, NULL);
    CTKI_SUCCEEDS (ctki_puppet_set_mailbox (&watcher, 1));
    monitor_and_wait (0);
    ctalk_envelope_t envelope = ctki_puppet_envelope (&watcher, 1, "full");
    CTKI_SUCCEEDS (ctki_puppet_send (&watcher, &envelope, 0));
    CTKI_FAILS (EAGAIN, ctki_puppet_send (&watcher, &envelope, 0));
    ctki_puppet_exit (&target, 1);
    ctki_puppet_await_kind (&watcher, CTALK_ACTOR_DOWN);
    ctki_puppet_expect (&watcher, 1, watcher.id, 1, "full");
    expect_down (&watcher, target.pid, target.id, CTALK_WHY_EXITED, 1);
    finish ();
}
END_TEST

/* Taken back, nothing comes any more; in the mailbox already, it is taken out; received, or never asked: ESRCH. */
START_TEST (unmonitor)
{
    open_two (_i == 1, NULL);
    CTKI_FAILS (ESRCH, ctki_puppet_unmonitor (&watcher, target.pid, target.id));
    CTKI_SUCCEEDS (ctki_puppet_monitor (&watcher, target.pid, target.id));
    CTKI_SUCCEEDS (ctki_puppet_unmonitor (&watcher, target.pid, target.id));
    CTKI_FAILS (ESRCH, ctki_puppet_unmonitor (&watcher, target.pid, target.id));
    ctki_puppet_exit (&target, 1);
    ctki_puppet_expect_nothing (&watcher, 30);
    ctki_puppet_start (&target, cluster.server[_i + 1], NULL);
    CTKI_SUCCEEDS (ctki_puppet_monitor (&watcher, target.pid, target.id));
    ctki_puppet_tell (&target, &watcher, 1, "before");
    ctki_puppet_exit (&target, 1);
    ctki_puppet_await_kind (&watcher, CTALK_ACTOR_DOWN);
    ctki_puppet_tell (&watcher, &watcher, 2, "behind");
    CTKI_SUCCEEDS (ctki_puppet_unmonitor (&watcher, target.pid, target.id));
    ctki_puppet_expect (&watcher, target.pid, target.id, 1, "before");
    ctki_puppet_expect (&watcher, 1, watcher.id, 2, "behind");
    ctki_puppet_expect_nothing (&watcher, 10);
    CTKI_SUCCEEDS (ctki_puppet_monitor (&watcher, target.pid, target.id));
    expect_down (&watcher, target.pid, target.id, CTALK_WHY_NO_ACTOR, 0);
    CTKI_FAILS (ESRCH, ctki_puppet_unmonitor (&watcher, target.pid, target.id));
    finish ();
}
END_TEST

/* Taken back and asked again, often: at the end it is told once. */
START_TEST (asked_again_and_again)
{
    open_two (_i == 1, NULL);
    for (int i = 0; i < 50; i++) {
        CTKI_SUCCEEDS (ctki_puppet_monitor (&watcher, target.pid, target.id));
        CTKI_SUCCEEDS (ctki_puppet_unmonitor (&watcher, target.pid, target.id));
    }
    monitor_and_wait (1);
    ctki_puppet_exit (&target, 9);
    expect_down (&watcher, target.pid, target.id, CTALK_WHY_EXITED, 9);
    ctki_puppet_expect_nothing (&watcher, 20);
    finish ();
}
END_TEST

/* No such peer is EHOSTUNREACH; the own server and the own id are EINVAL, and so is nobody. */
START_TEST (errors)
{
    open_two (true, NULL);
    CTKI_FAILS (EHOSTUNREACH, ctki_puppet_monitor (&watcher, 99, NO_SUCH));
    CTKI_FAILS (EHOSTUNREACH, ctki_puppet_monitor (&watcher, 99, 0));
    CTKI_FAILS (EINVAL, ctki_puppet_monitor (&watcher, 1, 0));
    CTKI_FAILS (EINVAL, ctki_puppet_monitor (&watcher, 1, watcher.id));
    CTKI_FAILS (EINVAL, ctalk_actor_monitor (NULL, 2, NO_SUCH));
    CTKI_FAILS (EINVAL, ctalk_actor_unmonitor (NULL, 2, NO_SUCH));
    CTKI_FAILS (ESRCH, ctki_puppet_unmonitor (&watcher, 99, NO_SUCH));
    ctki_puppet_expect_nothing (&watcher, 0);
    finish ();
}
END_TEST

/* ---- of servers, and of actors whose server is lost */

static void cut (bool on)
{
    CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, CTALK_IN | CTALK_OUT, on));
}

static void monitor_both (void)
{
    CTKI_SUCCEEDS (ctki_puppet_monitor (&watcher, 2, target.id));
    CTKI_SUCCEEDS (ctki_puppet_monitor (&watcher, 2, 0));
}

/* Both come, in any order, each once, for this reason. */
static void expect_both (int32_t reason)
{
    bool seen[2] = {false, false};
    for (int i = 0; i < 2; i++) {
        ctalk_envelope_t got;
        ctki_puppet_take (&watcher, &got);
        ck_assert_msg (got.kind == CTALK_ACTOR_DOWN && got.pid == 2, "kind %d of %d", (int) got.kind, (int) got.pid);
        ck_assert (got.from == 0 || got.from == target.id);
        const ctalk_event_t *event = got.data;
        ck_assert_msg (event->reason == reason, "reason %d (%s), not %d, of the %s", (int) event->reason, event->text,
                       (int) reason, got.from ? "actor" : "server");
        ck_assert (!seen[got.from != 0]);
        seen[got.from != 0] = true;
        ctalk_envelope_close (&got);
    }
    ctki_puppet_expect_nothing (&watcher, 0);
}

/* A peer that goes down is told, once; one that is down is told at once; when it is up again both are there, and can be
 * monitored anew. */
START_TEST (down)
{
    open_two (true, CTKI_OPTIONS (CTKI_FAST_FAILURE));
    monitor_both ();
    cut (true);
    expect_both (CTALK_WHY_DOWN);
    monitor_both ();
    expect_both (CTALK_WHY_DOWN);
    cut (false);
    ctki_cluster_wait_up (&cluster);
    ctki_puppet_expect_nothing (&watcher, 0);
    monitor_and_wait (1);
    ctki_puppet_tell (&target, &watcher, 1, "lives");
    ctki_puppet_expect (&watcher, 2, target.id, 1, "lives");
    ctki_puppet_exit (&target, 4);
    expect_down (&watcher, 2, target.id, CTALK_WHY_EXITED, 4);
    ctki_puppet_expect_nothing (&watcher, 0);
    finish ();
}
END_TEST

/* An actor that ends while its server is cut off for less than DownMs is told after healing, once. */
START_TEST (ended_while_cut)
{
    open_two (true, CTKI_OPTIONS ("DownMs", ctki_test_ms_text (60000)));
    monitor_both ();
    monitor_and_wait (1);
    cut (true);
    ctki_puppet_exit (&target, 6);
    ctki_puppet_expect_nothing (&watcher, 20);
    cut (false);
    expect_down (&watcher, 2, target.id, CTALK_WHY_EXITED, 6);
    ctki_puppet_expect_nothing (&watcher, 20);
    finish ();
}
END_TEST

/* One that ends after its server was told as down is not told again. */
START_TEST (ended_while_down)
{
    open_two (true, CTKI_OPTIONS (CTKI_FAST_FAILURE));
    monitor_both ();
    cut (true);
    expect_both (CTALK_WHY_DOWN);
    ctki_puppet_exit (&target, 6);
    cut (false);
    ctki_cluster_wait_up (&cluster);
    ctki_traffic_exchange (&cluster, 5);
    ctki_puppet_expect_nothing (&watcher, 20);
    finish ();
}
END_TEST

/* A peer that is listed and was never there is told when it is down; then at once. */
START_TEST (never_there)
{
    ctki_cluster_open_absent (&cluster, 1, CTKI_OPTIONS (CTKI_FAST_FAILURE));
    ctki_puppet_start (&watcher, cluster.server[1], NULL);
    CTKI_SUCCEEDS (ctki_puppet_monitor (&watcher, cluster.absent, NO_SUCH));
    expect_down (&watcher, cluster.absent, NO_SUCH, CTALK_WHY_DOWN, 0);
    CTKI_SUCCEEDS (ctki_puppet_monitor (&watcher, cluster.absent, 0));
    expect_down (&watcher, cluster.absent, 0, CTALK_WHY_DOWN, 0);
    ctki_puppet_expect_nothing (&watcher, 20);
    ctki_puppets_end ();
    (void) ctki_cluster_close_abandoning (&cluster, 0);
}
END_TEST

/* The same of who asks about the server alone, which sends it nothing: with lazy senders, too. */
START_TEST (never_there_itself)
{
    ctki_cluster_open_absent (&cluster, 1, CTKI_OPTIONS ("Senders", _i == 1 ? "lazy" : "eager", CTKI_FAST_FAILURE));
    ctki_puppet_start (&watcher, cluster.server[1], NULL);
    CTKI_SUCCEEDS (ctki_puppet_monitor (&watcher, cluster.absent, 0));
    expect_down (&watcher, cluster.absent, 0, CTALK_WHY_DOWN, 0);
    ctki_puppets_end ();
    (void) ctki_cluster_close_abandoning (&cluster, 0);
}
END_TEST

/* Who asked only about a peer that was never there has sent nothing: its server closes at once and abandons nothing. */
START_TEST (nothing_holds_up_the_close)
{
    ctki_cluster_open_absent (&cluster, 1, NULL);
    ctki_puppet_start (&watcher, cluster.server[1], NULL);
    CTKI_SUCCEEDS (ctki_puppet_monitor (&watcher, cluster.absent, NO_SUCH));
    ctki_puppets_end ();
    int64_t start_ms = ctki_test_now_ms ();
    ck_assert_int_eq (ctki_cluster_close_abandoning (&cluster, ctki_test_long_ms ()), 0);
    ck_assert_int_lt (ctki_test_now_ms () - start_ms, ctki_test_long_ms () / 2);
}
END_TEST

/* The target's reason when its server closes: its function may return before the goodbye is said. */
static void expect_closing (void)
{
    bool seen[2] = {false, false};
    for (int i = 0; i < 2; i++) {
        ctalk_envelope_t got;
        ctki_puppet_take (&watcher, &got);
        ck_assert (got.kind == CTALK_ACTOR_DOWN && got.pid == 2 && (got.from == 0 || got.from == target.id));
        const ctalk_event_t *event = got.data;
        bool ended = got.from && event->reason == CTALK_WHY_EXITED;
        ck_assert_msg (ended || event->reason == CTALK_WHY_CLOSING, "reason %d (%s)", (int) event->reason, event->text);
        ck_assert (!seen[got.from != 0]);
        seen[got.from != 0] = true;
        ctalk_envelope_close (&got);
    }
    ctki_puppet_expect_nothing (&watcher, 20);
}

static bool close_two (void *arg, ctki_trouble_t *trouble)
{
    CTKI_EXPECT (trouble, ctalk_server_close (arg, ctki_test_long_ms ()) >= 0);
    return true;
}

/* A peer that closes is told as closing; its actors as well, or as ended. */
START_TEST (closing)
{
    ctki_test_thread_t thread;
    open_two (true, NULL);
    monitor_both ();
    ctki_puppet_tell (&target, &watcher, 1, "before");
    ctki_test_thread_start (&thread, close_two, &cluster.server[2]);
    ctki_puppet_leave (&target, 0);
    ctki_test_thread_join (&thread);
    ctki_puppet_forget (&target);
    ctki_puppet_expect (&watcher, 2, target.id, 1, "before");
    expect_closing ();
    finish_abandoning ();
}
END_TEST

/* A peer that is removed is told as such; afterwards it is no peer. */
START_TEST (removed)
{
    open_two (true, NULL);
    monitor_both ();
    CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[1], 2));
    expect_both (CTALK_WHY_REMOVED);
    CTKI_FAILS (EHOSTUNREACH, ctki_puppet_monitor (&watcher, 2, target.id));
    finish_abandoning ();
}
END_TEST

static ctki_ports_t ports;

static void open_restartable (const char *const *options)
{
    ctki_ports_take (&ports, 2);
    memset (&cluster, 0, sizeof cluster);
    cluster.config = ctki_cluster_config (2, ports.port, options);
    cluster.count = 2;
    for (ctalk_pid_t pid = 1; pid <= 2; pid++)
        cluster.server[pid] = ctki_cluster_start (pid, cluster.config);
    ctki_cluster_wait_up (&cluster);
    ctki_puppet_start (&watcher, cluster.server[1], NULL);
    ctki_puppet_start (&target, cluster.server[2], "target");
}

/* A peer that is another process when it is heard again is told as restarted, once, before anything of the new one;
 * also when the actor's name is there again. It can be monitored there. */
START_TEST (restarted)
{
    open_restartable (CTKI_OPTIONS ("DownMs", ctki_test_ms_text (60000)));
    monitor_both ();
    monitor_and_wait (0);
    ctki_puppet_tell (&target, &watcher, 1, "former");
    ctki_puppet_expect (&watcher, 2, target.id, 1, "former");
    cut (true);
    ctki_puppet_exit (&target, 0);
    (void) ctalk_server_close (&cluster.server[2], 0);
    cluster.server[2] = ctki_cluster_start (2, cluster.config);
    ctki_puppet_start (&target, cluster.server[2], "target");
    ctki_puppet_tell (&target, &watcher, 2, "new");
    cut (false);
    bool seen[2] = {false, false};
    for (int i = 0; i < 2; i++) {
        ctalk_envelope_t got;
        ctki_puppet_take (&watcher, &got);
        const ctalk_event_t *event = got.data;
        ck_assert_msg (got.kind == CTALK_ACTOR_DOWN && event->reason == CTALK_WHY_RESTARTED, "kind %d", (int) got.kind);
        ck_assert (!seen[got.from != 0]);
        seen[got.from != 0] = true;
        ctalk_envelope_close (&got);
    }
    ctki_puppet_expect (&watcher, 2, target.id, 2, "new");
    ctki_puppet_expect_nothing (&watcher, 0);
    monitor_and_wait (3);
    ctki_puppet_exit (&target, 8);
    expect_down (&watcher, 2, target.id, CTALK_WHY_EXITED, 8);
    finish_abandoning ();
    ctki_ports_release (&ports);
}
END_TEST

/* Watchers' own server closes with many monitors asked: nothing is left (the leak check sees to it), and the other
 * server's actors go on. */
START_TEST (watchers_close)
{
    open_two (true, NULL);
    monitor_both ();
    ctki_puppet_exit (&watcher, 0);
    ctki_puppet_start (&watcher, cluster.server[1], NULL);
    monitor_both ();
    ctki_puppet_leave (&watcher, 0);
    ck_assert_int_ge (ctalk_server_close (&cluster.server[1], ctki_test_long_ms ()), 0);
    ctki_puppet_forget (&watcher);
    ctki_puppet_tell (&target, &target, 1, "goes on");
    ctki_puppet_expect (&target, 2, target.id, 1, "goes on");
    finish_abandoning ();
}
END_TEST

Suite *ctki_suite_monitors (void)
{
    Suite *suite = suite_create ("monitors");
    TCase *actors = ctki_leaks_tcase ("actors", 60), *servers = ctki_leaks_tcase ("servers", 90);
    tcase_add_loop_test (actors, exited, 0, 2);
    tcase_add_loop_test (actors, no_actor, 0, 2);
    tcase_add_loop_test (actors, behind_all, 0, 2);
    tcase_add_loop_test (actors, asked_twice, 0, 2);
    tcase_add_test (actors, many_watchers);
    tcase_add_loop_test (actors, many_targets, 0, 2);
    tcase_add_loop_test (actors, each_other, 0, 2);
    tcase_add_loop_test (actors, needs_no_room, 0, 2);
    tcase_add_loop_test (actors, unmonitor, 0, 2);
    tcase_add_loop_test (actors, asked_again_and_again, 0, 2);
    tcase_add_test (actors, errors);
    tcase_add_test (servers, down);
    tcase_add_test (servers, ended_while_cut);
    tcase_add_test (servers, ended_while_down);
    tcase_add_test (servers, never_there);
    tcase_add_loop_test (servers, never_there_itself, 0, 2);
    tcase_add_test (servers, nothing_holds_up_the_close);
    tcase_add_test (servers, closing);
    tcase_add_test (servers, removed);
    tcase_add_test (servers, restarted);
    tcase_add_test (servers, watchers_close);
    suite_add_tcase (suite, actors);
    suite_add_tcase (suite, servers);
    return suite;
}
