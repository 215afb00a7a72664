/*
 * test_timers.c - envelopes that actors send later, to themselves and to others:
 * when they come, in which order, and how they are ended.
 */
#include <stdatomic.h>
#include <stdio.h>

#include "tests/cluster/suites.h"
#include "tests/support/puppet.h"
#include "tests/support/support.h"

enum { NO_SUCH = 12345, NEVER_MS = 600000, SOON_MS = 20 };

static ctki_cluster_t cluster;
static ctki_puppet_t a, b, c;

static void finish (void)
{
    ctki_puppets_end ();
    ctki_cluster_close (&cluster);
}

/* a on server 1, b on the same or on server 2. */
static void open_two (bool remote)
{
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctki_puppet_start (&a, cluster.server[1], NULL);
    ctki_puppet_start (&b, cluster.server[remote ? 2 : 1], NULL);
}

static uint64_t set (ctki_puppet_t *from, const ctki_puppet_t *to, int delay_ms, int64_t msg_id, const char *text)
{
    ctalk_envelope_t envelope = ctki_puppet_envelope (to, msg_id, text);
    uint64_t id = ctki_puppet_send_after (from, delay_ms, &envelope);
    ck_assert_msg (id != 0, "no timer: %s", strerror (errno));
    return id;
}

/* The next in the mailbox is this timer of its own. */
static void expect_timer (ctki_puppet_t *puppet, uint64_t id, int64_t msg_id, const char *text)
{
    ctalk_envelope_t got;
    ctki_puppet_take (puppet, &got);
    ck_assert_msg (got.kind == CTALK_TIMER, "kind %d", (int) got.kind);
    ck_assert_int_eq (got.pid, puppet->pid);
    ck_assert_uint_eq (got.from, id);
    ck_assert_uint_eq (got.to, puppet->id);
    ck_assert_int_eq (got.msg_id, msg_id);
    ck_assert_uint_eq (got.size, strlen (text));
    ck_assert_mem_eq (got.data, text, got.size);
    ctalk_envelope_close (&got);
}

/* To the actor itself a timer comes as such, with its id, message id and payload, which was copied; not too early, and
 * once. */
START_TEST (to_itself)
{
    char text[] = "payload";
    open_two (false);
    int64_t start_ms = ctki_test_now_ms ();
    uint64_t id = set (&a, &a, SOON_MS, -5, text);
    memset (text, 'x', 7);
    expect_timer (&a, id, -5, "payload");
    ck_assert_int_ge (ctki_test_now_ms () - start_ms, SOON_MS - 1);
    ctki_puppet_expect_nothing (&a, 2 * SOON_MS);
    finish ();
}
END_TEST

/* A delay of 0 is as good as any, and an empty payload, too. */
START_TEST (without_delay)
{
    open_two (false);
    for (int64_t i = 0; i < 100; i++) {
        uint64_t id = set (&a, &a, 0, i, "");
        expect_timer (&a, id, i, "");
    }
    finish ();
}
END_TEST

/* A large payload is copied, too. */
START_TEST (large)
{
    static char data[200000];
    ctalk_envelope_t got;
    open_two (_i == 1);
    ctki_payload_fill (data, sizeof data, 1, 1, 1);
    ctalk_envelope_t envelope = ctki_puppet_envelope (_i ? &b : &a, 1, NULL);
    envelope.data = data;
    envelope.size = sizeof data;
    ck_assert_uint_ne (ctki_puppet_send_after (&a, 1, &envelope), 0);
    memset (data, 0, sizeof data);
    ctki_puppet_take (_i ? &b : &a, &got);
    ck_assert (got.size == sizeof data && ctki_payload_ok (got.data, got.size, 1, 1, 1));
    ctalk_envelope_close (&got);
    finish ();
}
END_TEST

enum { IN_ORDER = 50, STEP_MS = 2, FIRST_MS = 50 };

/* When a timer may be due at the earliest and at the latest, as it was set between two looks at the clock, which counts
 * whole milliseconds. */
typedef struct {
    uint64_t id;
    int64_t earliest_ms, latest_ms;
} due_t;

/* Timers come in the order of their times, whatever order they were set in; each once; ids are never used again. */
START_TEST (in_order)
{
    due_t due[IN_ORDER];
    int64_t came[IN_ORDER];
    open_two (false);
    for (int i = 0; i < IN_ORDER; i++) {
        int place = i * 17 % IN_ORDER, delay_ms = FIRST_MS + STEP_MS * place;
        due[place].earliest_ms = ctki_test_now_ms () + delay_ms;
        due[place].id = set (&a, &a, delay_ms, place, "tick");
        due[place].latest_ms = ctki_test_now_ms () + 2 + delay_ms;
        for (int k = 0; k < i; k++)
            ck_assert_uint_ne (due[k * 17 % IN_ORDER].id, due[place].id);
    }
    for (int i = 0; i < IN_ORDER; i++) {
        ctalk_envelope_t got;
        ctki_puppet_take (&a, &got);
        came[i] = got.msg_id;
        ck_assert (got.kind == CTALK_TIMER && got.from == due[came[i]].id);
        ck_assert_int_ge (ctki_test_now_ms (), due[came[i]].earliest_ms);
        for (int k = 0; k < i; k++)
            ck_assert_int_ge (due[came[i]].latest_ms, due[came[k]].earliest_ms);
        ctalk_envelope_close (&got);
    }
    ctki_puppet_expect_nothing (&a, 0);
    finish ();
}
END_TEST

/* A timer that is set later and comes earlier wakes a receive that waits. */
START_TEST (earlier_than_the_first)
{
    ctalk_envelope_t got;
    open_two (false);
    uint64_t late = set (&a, &a, NEVER_MS, 1, "late"), soon = set (&a, &a, SOON_MS, 2, "soon");
    ctki_puppet_begin_recv (&a, &got, ctki_test_long_ms ());
    CTKI_SUCCEEDS ((int) ctki_puppet_finish (&a));
    ck_assert (got.kind == CTALK_TIMER && got.from == soon);
    ctalk_envelope_close (&got);
    CTKI_SUCCEEDS (ctki_puppet_cancel (&a, late));
    finish ();
}
END_TEST

/* Cancelled before its time, nothing comes; lying in the mailbox already, it is taken out, and what lies there with it
 * is left; received, cancelled or never set: ESRCH. */
START_TEST (cancelled)
{
    open_two (false);
    uint64_t never = set (&a, &a, NEVER_MS, 1, "never"), soon = set (&a, &a, SOON_MS, 2, "soon");
    CTKI_SUCCEEDS (ctki_puppet_cancel (&a, never));
    CTKI_FAILS (ESRCH, ctki_puppet_cancel (&a, never));
    CTKI_SUCCEEDS (ctki_puppet_cancel (&a, soon));
    ctki_puppet_expect_nothing (&a, 2 * SOON_MS);
    ctki_puppet_tell (&b, &a, 3, "before");
    uint64_t there = set (&a, &a, 0, 4, "there");
    ctki_puppet_await_kind (&a, CTALK_TIMER);
    ctki_puppet_tell (&b, &a, 5, "behind");
    CTKI_SUCCEEDS (ctki_puppet_cancel (&a, there));
    CTKI_FAILS (ESRCH, ctki_puppet_cancel (&a, there));
    ctki_puppet_expect (&a, 1, b.id, 3, "before");
    ctki_puppet_expect (&a, 1, b.id, 5, "behind");
    ctki_puppet_expect_nothing (&a, 0);
    uint64_t received = set (&a, &a, 0, 6, "received");
    expect_timer (&a, received, 6, "received");
    CTKI_FAILS (ESRCH, ctki_puppet_cancel (&a, received));
    CTKI_FAILS (ESRCH, ctki_puppet_cancel (&a, NO_SUCH));
    CTKI_FAILS (ESRCH, ctki_puppet_cancel (&a, 0));
    finish ();
}
END_TEST

/* One of several that lie in the mailbox is taken out, and no other. */
START_TEST (cancelled_among_others)
{
    enum { COUNT = 5 };
    uint64_t ids[COUNT];
    open_two (false);
    for (int i = 0; i < COUNT; i++)
        ids[i] = set (&a, &a, 0, i, "tick");
    while (ctki_puppet_holds (&a) < COUNT)
        ctki_puppet_await_kind (&a, CTALK_TIMER);
    CTKI_SUCCEEDS (ctki_puppet_cancel (&a, ids[2]));
    for (int i = 0; i < COUNT - 1; i++) {
        ctalk_envelope_t got;
        ctki_puppet_take (&a, &got);
        ck_assert (got.kind == CTALK_TIMER && got.msg_id != 2 && got.from == ids[got.msg_id]);
        ctalk_envelope_close (&got);
    }
    ctki_puppet_expect_nothing (&a, 0);
    finish ();
}
END_TEST

/* The timer of another actor is not there for this one. */
START_TEST (of_another)
{
    open_two (false);
    uint64_t id = set (&a, &a, ctki_test_ms (100), 1, "mine");
    CTKI_FAILS (ESRCH, ctki_puppet_cancel (&b, id));
    expect_timer (&a, id, 1, "mine");
    finish ();
}
END_TEST

/* To another actor, here and on another server, it comes as a message from the one that set it; then it was sent and
 * cannot be cancelled. Before its time it can. */
START_TEST (to_others)
{
    open_two (_i == 1);
    uint64_t never = set (&a, &b, NEVER_MS, 1, "never"), sent = set (&a, &b, 0, 2, "sent");
    CTKI_SUCCEEDS (ctki_puppet_cancel (&a, never));
    ctki_puppet_expect (&b, 1, a.id, 2, "sent");
    CTKI_FAILS (ESRCH, ctki_puppet_cancel (&a, sent));
    (void) set (&a, &b, 2 * SOON_MS, 3, "later");
    ctki_puppet_expect (&b, 1, a.id, 3, "later");
    finish ();
}
END_TEST

/* To an inbox, of the own server and of another one. */
START_TEST (to_an_inbox)
{
    ctalk_envelope_t envelope = {.pid = _i + 1, .msg_id = 1, .data = "tick", .size = 4}, got;
    open_two (true);
    ck_assert_uint_ne (ctki_puppet_send_after (&a, 1, &envelope), 0);
    ctki_traffic_take (cluster.server[_i + 1], &got);
    ck_assert (got.kind == CTALK_MESSAGE && got.pid == 1 && got.from == a.id && got.msg_id == 1 && got.size == 4);
    ctalk_envelope_close (&got);
    finish ();
}
END_TEST

/* Where there is no room it is sent again and again, and comes when there is; other timers come meanwhile. */
START_TEST (without_room)
{
    open_two (_i == 1);
    CTKI_SUCCEEDS (ctki_puppet_set_mailbox (&b, 1));
    static const char data[16384];
    ctalk_envelope_t envelope = ctki_puppet_envelope (&b, 1, NULL), got;
    envelope.data = data;
    envelope.size = sizeof data;
    size_t full = 0;
    while (ctki_puppet_send (&a, &envelope, 0) == 0)
        full++;
    ck_assert_int_eq (errno, EAGAIN);
    (void) set (&a, &b, 0, 77, "has to wait");
    for (int64_t i = 0; i < 3; i++) {
        uint64_t id = set (&a, &a, SOON_MS, i, "meanwhile");
        expect_timer (&a, id, i, "meanwhile");
    }
    ctki_puppet_await_kind (&b, CTALK_MESSAGE);
    for (size_t i = 0; i < full; i++) {
        ctki_puppet_take (&b, &got);
        ck_assert_int_eq (got.msg_id, 1);
        ctalk_envelope_close (&got);
    }
    ctki_puppet_expect (&b, 1, a.id, 77, "has to wait");
    ctki_puppet_expect_nothing (&b, 0);
    finish ();
}
END_TEST

/* It has its place among those who wait for room, and comes before what was sent after it; there it may be cancelled, ends
 * with its actor, and is lost with the one that it is for. */
START_TEST (stands_in_line)
{
    ctki_cluster_open (&cluster, 1, NULL);
    ctki_puppet_start (&a, cluster.server[1], NULL);
    ctki_puppet_start (&b, cluster.server[1], NULL);
    ctki_puppet_start (&c, cluster.server[1], NULL);
    uint64_t id_of_a = a.id;
    CTKI_SUCCEEDS (ctki_puppet_set_mailbox (&b, 1));
    ctki_puppet_tell (&a, &b, 0, "full");
    uint64_t first = set (&a, &b, 0, 1, "cancelled");
    (void) set (&a, &b, 0, 2, "first");
    expect_timer (&a, set (&a, &a, 0, 3, "due later"), 3, "due later");
    ctalk_envelope_t envelope = ctki_puppet_envelope (&b, 4, "second");
    ctki_puppet_begin_send (&c, &envelope, -1);
    ctki_puppet_await_blocked (&c);
    CTKI_SUCCEEDS (ctki_puppet_cancel (&a, first));
    if (_i > 0)
        ctki_puppet_exit (_i == 1 ? &a : &b, 0);
    if (_i < 2)
        ctki_puppet_expect (&b, 1, id_of_a, 0, "full");
    if (_i < 1)
        ctki_puppet_expect (&b, 1, id_of_a, 2, "first");
    if (_i < 2)
        ctki_puppet_expect (&b, 1, c.id, 4, "second");
    CTKI_SUCCEEDS ((int) ctki_puppet_finish (&c));
    finish ();
}
END_TEST

/* The same at the credit of an actor elsewhere; what was refused to nobody is not counted. */
START_TEST (stands_for_credit)
{
    static const char data[65536];
    size_t size = _i == 1 ? sizeof data : 1000;
    open_two (true);
    ctki_puppet_start (&c, cluster.server[1], NULL);
    ctalk_envelope_t envelope = ctki_puppet_envelope (&b, 0, NULL), got;
    envelope.data = data;
    envelope.size = size;
    int64_t full = ctki_puppet_fill (cluster.server[1], &b, 0, size);
    uint64_t refused = ctki_cluster_stats (cluster.server[1], 2).refused_full;
    envelope.msg_id = full;
    uint64_t first = ctki_puppet_send_after (&a, 0, &envelope);
    envelope.msg_id++;
    ck_assert_uint_ne (first, 0);
    ck_assert_uint_ne (ctki_puppet_send_after (&a, 0, &envelope), 0);
    expect_timer (&a, set (&a, &a, 0, 3, "due later"), 3, "due later");
    envelope.msg_id++;
    ctki_puppet_begin_send (&c, &envelope, -1);
    ctki_puppet_await_blocked (&c);
    expect_timer (&a, set (&a, &a, SOON_MS, 3, "later"), 3, "later");
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 2).refused_full, refused);
    CTKI_SUCCEEDS (ctki_puppet_cancel (&a, first));
    for (int64_t i = 0; i < full + 3; i++) {
        if (i == full)
            continue;
        ctki_puppet_take (&b, &got);
        ck_assert_int_eq (got.msg_id, i);
        ck_assert_uint_eq (got.size, size);
        ctalk_envelope_close (&got);
    }
    CTKI_SUCCEEDS ((int) ctki_puppet_finish (&c));
    ctki_puppet_expect_nothing (&b, 0);
    finish ();
}
END_TEST

/* An actor's own timer comes though its mailbox is full. */
START_TEST (needs_no_room)
{
    open_two (false);
    CTKI_SUCCEEDS (ctki_puppet_set_mailbox (&a, 1));
    ctki_puppet_tell (&b, &a, 1, "full");
    ctalk_envelope_t envelope = ctki_puppet_envelope (&a, 2, "x");
    CTKI_FAILS (EAGAIN, ctki_puppet_send (&b, &envelope, 0));
    uint64_t id = set (&a, &a, 0, 3, "tick");
    ctki_puppet_await_kind (&a, CTALK_TIMER);
    ctki_puppet_expect (&a, 1, b.id, 1, "full");
    expect_timer (&a, id, 3, "tick");
    finish ();
}
END_TEST

/* Timers end with their actor: what it would have sent to another one never comes. */
START_TEST (end_with_the_actor)
{
    bool in_time = false;
    open_two (_i == 1);
    for (int delay_ms = ctki_test_ms (100); !in_time; delay_ms *= 2) {
        int64_t start_ms = ctki_test_now_ms ();
        (void) set (&a, &b, delay_ms, 1, "of one that ended");
        (void) set (&a, &a, delay_ms / 2, 2, "its own");
        ctki_puppet_exit (&a, 0);
        in_time = ctki_test_now_ms () - start_ms < delay_ms; /* else it may have been sent */
        ctki_puppet_start (&a, cluster.server[1], NULL);
        uint64_t id = set (&b, &b, 2 * delay_ms, 3, "later than that");
        if (in_time)
            expect_timer (&b, id, 3, "later than that");
        else
            CTKI_SUCCEEDS (ctki_puppet_cancel (&b, id));
        ck_assert_int_lt (delay_ms, ctki_test_long_ms ());
    }
    ctki_puppet_expect_nothing (&a, 0);
    finish ();
}
END_TEST

/* A server closes at once with timers that are not due for long. */
START_TEST (close_with_timers)
{
    open_two (true);
    for (int64_t i = 0; i < 100; i++)
        (void) set (&a, i % 2 ? &a : &b, NEVER_MS, i, "never");
    finish ();
}
END_TEST

/* EINVAL, EMSGSIZE, EHOSTUNREACH. */
START_TEST (errors)
{
    static char data[2000];
    ctki_cluster_open (&cluster, 1, CTKI_OPTIONS ("MaxMessageBytes", "1000"));
    ctki_puppet_start (&a, cluster.server[1], NULL);
    ctalk_envelope_t good = ctki_puppet_envelope (&a, 1, "x"), too_large = good, nowhere = {.pid = 99};
    ctalk_envelope_t wrong[] = {
        {.pid = -2}, {.pid = 1, .size = 1}, {.pid = 1, .reserved = 1}, {.pid = 1, .flags = 1u << 20}};
    too_large.data = data;
    too_large.size = sizeof data;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        ck_assert_uint_eq (ctki_puppet_send_after (&a, 0, &wrong[i]), 0);
        ck_assert_int_eq (errno, EINVAL);
    }
    ck_assert_uint_eq (ctki_puppet_send_after (&a, -1, &good), 0);
    ck_assert_int_eq (errno, EINVAL);
    ck_assert_uint_eq (ctki_puppet_send_after (&a, 0, &too_large), 0);
    ck_assert_int_eq (errno, EMSGSIZE);
    ck_assert_uint_eq (ctki_puppet_send_after (&a, 0, &nowhere), 0);
    ck_assert_int_eq (errno, EHOSTUNREACH);
    errno = 0;
    ck_assert (ctalk_actor_send_after (NULL, 0, &good) == 0 && errno == EINVAL);
    CTKI_FAILS (EINVAL, ctalk_actor_cancel (NULL, 1));
    ctki_puppet_expect_nothing (&a, 0);
    finish ();
}
END_TEST

/* A timer that is set again each time it comes, while the actor has much else to do, keeps coming. */
START_TEST (ticks_among_others)
{
    enum { TICKS = 20 };
    size_t others = 0;
    open_two (true);
    uint64_t id = set (&a, &a, 1, 0, "tick");
    for (int64_t tick = 0; tick < TICKS;) {
        ctalk_envelope_t got;
        ctki_puppet_tell (&b, &a, 9, "other");
        ctki_puppet_take (&a, &got);
        if (got.kind == CTALK_TIMER) {
            ck_assert (got.from == id && got.msg_id == tick);
            tick++;
            id = set (&a, &a, 1, tick, "tick");
        } else {
            others++;
        }
        ctalk_envelope_close (&got);
    }
    ck_assert_uint_gt (others, 0);
    finish ();
}
END_TEST

Suite *ctki_suite_timers (void)
{
    Suite *suite = suite_create ("timers");
    TCase *tcase = ctki_leaks_tcase ("timers", 60);
    tcase_add_test (tcase, to_itself);
    tcase_add_test (tcase, without_delay);
    tcase_add_loop_test (tcase, large, 0, 2);
    tcase_add_test (tcase, in_order);
    tcase_add_test (tcase, earlier_than_the_first);
    tcase_add_test (tcase, cancelled);
    tcase_add_test (tcase, cancelled_among_others);
    tcase_add_test (tcase, of_another);
    tcase_add_loop_test (tcase, to_others, 0, 2);
    tcase_add_loop_test (tcase, to_an_inbox, 0, 2);
    tcase_add_loop_test (tcase, without_room, 0, 2);
    tcase_add_loop_test (tcase, stands_in_line, 0, 3);
    tcase_add_loop_test (tcase, stands_for_credit, 0, 2);
    tcase_add_test (tcase, needs_no_room);
    tcase_add_loop_test (tcase, end_with_the_actor, 0, 2);
    tcase_add_test (tcase, close_with_timers);
    tcase_add_test (tcase, errors);
    tcase_add_test (tcase, ticks_among_others);
    suite_add_tcase (suite, tcase);
    return suite;
}
