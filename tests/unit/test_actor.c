/*
 * test_actor.c - the life of an actor: a small one that notes what happens to it.
 */
#include <check.h>
#include <errno.h>
#include <poll.h>

#include "actors/actor.h"
#include "src/error.h"
#include "tests/support/leaks.h"
#include "tests/support/scale.h"
#include "tests/support/thread.h"

Suite *ctki_suite_actor (void);

enum { COMMANDS = 2000, RINGS = 3000, END = 99 };

/* The kit's user. What is not atomic is used by the actor's thread, or under its lock. */
typedef struct {
    ctki_actor_t actor;
    int open_code;        /* 0: open succeeds */
    atomic_bool may_open; /* open waits for it */
    atomic_bool helped;   /* another thread may hold the lock */
    atomic_bool closed;
    atomic_size_t steps, commands, parks;
    int64_t next_number; /* of the command to come */
    bool out_of_order, in_step, overlapped;
    atomic_size_t put, seen;   /* as if it had a mailbox */
    atomic_bool to_park;       /* what park says, besides */
    atomic_int_fast64_t again; /* what after says */
} probe_t;

static int open_probe (void *self, ctalk_error_t *error)
{
    probe_t *probe = self;
    while (!atomic_load (&probe->may_open))
        sched_yield ();
    return probe->open_code ? ctki_error_set (error, probe->open_code, "no %s", "socket") : 0;
}

static void obey (void *self, const ctki_command_t *command)
{
    probe_t *probe = self;
    if (command->kind == END)
        ctki_actor_end (&probe->actor);
    probe->out_of_order |= command->kind != END && (command->number != probe->next_number || command->pointer != probe);
    probe->next_number++;
    atomic_fetch_add (&probe->commands, 1);
}

static int64_t step (void *self, int64_t now_us)
{
    probe_t *probe = self;
    (void) now_us;
    probe->overlapped |= probe->in_step;
    probe->in_step = true;
    atomic_store (&probe->seen, atomic_load (&probe->put));
    probe->in_step = false;
    atomic_fetch_add (&probe->steps, 1);
    return CTKI_FOREVER;
}

static bool park (void *self)
{
    probe_t *probe = self;
    atomic_fetch_add (&probe->parks, 1);
    return atomic_load (&probe->to_park) && atomic_load (&probe->seen) == atomic_load (&probe->put);
}

static int64_t after (void *self, int64_t now_us)
{
    probe_t *probe = self;
    (void) now_us;
    if (!atomic_load (&probe->helped)) {
        CTKI_ASSERT (pthread_mutex_trylock (&probe->actor.lock) == 0); /* no lock is held */
        pthread_mutex_unlock (&probe->actor.lock);
    }
    return atomic_load (&probe->again);
}

static int watch (void *self, int fds[CTKI_ACTOR_FDS])
{
    (void) self;
    (void) fds;
    return 0;
}

static void close_probe (void *self)
{
    atomic_store (&((probe_t *) self)->closed, true);
}

static const ctki_actor_ops_t ops = {.open = open_probe,
                                     .command = obey,
                                     .step = step,
                                     .park = park,
                                     .after = after,
                                     .watch = watch,
                                     .close = close_probe};

static void set_up (probe_t *probe)
{
    memset (probe, 0, sizeof *probe);
    ck_assert_int_eq (ctki_context_ref (1, NULL), 0);
    ck_assert_int_eq (ctki_actor_init (&probe->actor, &ops, probe), 0);
    atomic_store (&probe->may_open, true);
    atomic_store (&probe->to_park, true);
    atomic_store (&probe->again, CTKI_FOREVER);
}

static void start (probe_t *probe)
{
    ck_assert_int_eq (ctki_actor_start (&probe->actor, "probe"), 0);
    ck_assert_int_eq (ctki_actor_await (&probe->actor, NULL), 0);
}

static void tear_down (probe_t *probe)
{
    ctki_actor_fini (&probe->actor);
    ctki_actor_fini (&probe->actor); /* a second time is harmless */
    ctki_context_unref ();
}

static bool until_equal (const atomic_size_t *count, size_t wanted)
{
    int64_t end_ms = ctki_test_now_ms () + ctki_test_long_ms ();
    while (atomic_load (count) != wanted && ctki_test_now_ms () < end_ms)
        sched_yield ();
    return atomic_load (count) == wanted;
}

static bool is_one (void *arg)
{
    return atomic_load ((atomic_size_t *) arg) >= 1;
}

/* Waits until the actor has parked: it sleeps, or will at once. */
static void await_parked (probe_t *probe)
{
    ck_assert (ctki_test_until (is_one, &probe->parks, ctki_test_long_ms ()));
}

/* ---- tests */

/* An actor that was never started, and one that was never made, are ended all the same. */
START_TEST (never_started)
{
    probe_t probe;
    ctki_actor_t none = {0};
    ctki_actor_fini (&none);
    set_up (&probe);
    tear_down (&probe);
    ck_assert (!atomic_load (&probe.closed));
}
END_TEST

static bool await_ready (void *arg, ctki_trouble_t *trouble)
{
    CTKI_EXPECT_EQUAL (trouble, ctki_actor_await (arg, NULL), 0);
    return true;
}

/* Who awaits it waits until its open is over; its thread has its name; stopping closes it. */
START_TEST (ready)
{
    probe_t probe;
    ctki_test_thread_t waiter;
    set_up (&probe);
    atomic_store (&probe.may_open, false);
    ck_assert_int_eq (ctki_actor_start (&probe.actor, "probe"), 0);
    ck_assert_uint_eq (ctki_leaks_threads_named ("probe"), 1);
    ctki_test_thread_start (&waiter, await_ready, &probe.actor);
    ctki_test_thread_await_blocked (&waiter);
    atomic_store (&probe.may_open, true);
    ctki_test_thread_join (&waiter);
    ck_assert_int_eq (ctki_actor_await (&probe.actor, NULL), 0); /* and later at once */
    ck_assert (!atomic_load (&probe.closed));
    tear_down (&probe);
    ck_assert (atomic_load (&probe.closed));
}
END_TEST

/* When open fails, its error is told, nothing is stepped, and close is called. */
START_TEST (failed_open)
{
    probe_t probe;
    ctalk_error_t error = {0};
    set_up (&probe);
    probe.open_code = EMFILE;
    ck_assert_int_eq (ctki_actor_start (&probe.actor, "probe"), 0);
    ck_assert_int_eq (ctki_actor_await (&probe.actor, &error), -1);
    ck_assert_int_eq (errno, EMFILE);
    ck_assert_int_eq (error.code, EMFILE);
    ck_assert_str_eq (error.text, "no socket");
    ck_assert_int_eq (ctki_actor_await (&probe.actor, NULL), -1);
    tear_down (&probe);
    ck_assert (atomic_load (&probe.closed));
    ck_assert_uint_eq (atomic_load (&probe.steps), 0);
}
END_TEST

/* Commands are obeyed in the order in which they were told, none lost, rings among them. */
START_TEST (commands)
{
    probe_t probe;
    size_t count = ctki_test_count (COMMANDS);
    set_up (&probe);
    ck_assert_int_eq (ctki_actor_tell (&probe.actor, 1, 0, &probe), 0); /* before it was started, too */
    start (&probe);
    for (size_t i = 1; i < count; i++) {
        ck_assert_int_eq (ctki_actor_tell (&probe.actor, 1 + (int) (i % 5), (int64_t) i, &probe), 0);
        if (i % 3 == 0)
            ctki_bell_ring (&probe.actor.bell);
    }
    ck_assert (until_equal (&probe.commands, count));
    tear_down (&probe);
    ck_assert (!probe.out_of_order);
}
END_TEST

/* Whatever is put before the bell is rung is seen by a step, however often the actor falls asleep. */
START_TEST (rings)
{
    probe_t probe;
    size_t count = ctki_test_count (RINGS);
    set_up (&probe);
    start (&probe);
    for (size_t i = 1; i <= count; i++) {
        atomic_store (&probe.put, i);
        ctki_bell_ring (&probe.actor.bell);
        ck_assert_msg (until_equal (&probe.seen, i), "ring %zu woke nobody", i);
    }
    tear_down (&probe);
}
END_TEST

/* An actor that parked sleeps: without a ring it takes no step. One that cannot park goes on. */
START_TEST (sleeps)
{
    probe_t probe;
    set_up (&probe);
    start (&probe);
    await_parked (&probe);
    size_t steps = atomic_load (&probe.steps);
    (void) poll (NULL, 0, 20); /* nothing can be waited for: nothing is to happen */
    ck_assert_uint_le (atomic_load (&probe.steps), steps + 1);
    atomic_store (&probe.to_park, false);
    ctki_bell_ring (&probe.actor.bell);
    size_t more = atomic_load (&probe.steps) + 50;
    int64_t end_ms = ctki_test_now_ms () + ctki_test_long_ms ();
    while (atomic_load (&probe.steps) < more)
        ck_assert (ctki_test_now_ms () < end_ms);
    tear_down (&probe);
}
END_TEST

/* What comes after a step may ask for another one. */
START_TEST (asks_again)
{
    probe_t probe;
    set_up (&probe);
    atomic_store (&probe.again, 0);
    start (&probe);
    int64_t end_ms = ctki_test_now_ms () + ctki_test_long_ms ();
    while (atomic_load (&probe.steps) < 50)
        ck_assert (ctki_test_now_ms () < end_ms);
    tear_down (&probe);
}
END_TEST

/* Stopping wakes an actor that sleeps for ever, at whatever moment it is told. */
START_TEST (stop)
{
    for (int round = 0; round < 200; round++) {
        probe_t probe;
        set_up (&probe);
        start (&probe);
        if (round % 4 == 0)
            await_parked (&probe);
        int64_t begin_ms = ctki_test_now_ms ();
        tear_down (&probe);
        ck_assert_int_le (ctki_test_now_ms () - begin_ms, ctki_test_ms (5000));
        ck_assert (atomic_load (&probe.closed));
    }
}
END_TEST

/* An actor that ends by itself can be joined. */
START_TEST (ends_itself)
{
    probe_t probe;
    set_up (&probe);
    start (&probe);
    ck_assert_int_eq (ctki_actor_tell (&probe.actor, END, 0, NULL), 0);
    ctki_actor_join (&probe.actor);
    ck_assert (atomic_load (&probe.closed));
    ctki_actor_join (&probe.actor);
    tear_down (&probe);
}
END_TEST

/* Another thread may step it under its lock: steps never overlap. */
START_TEST (lock)
{
    probe_t probe;
    set_up (&probe);
    atomic_store (&probe.helped, true);
    start (&probe);
    atomic_store (&probe.to_park, false);
    ctki_bell_ring (&probe.actor.bell);
    for (size_t i = 0; i < ctki_test_count (RINGS); i++) {
        pthread_mutex_lock (&probe.actor.lock);
        size_t steps = atomic_load (&probe.steps);
        (void) step (&probe, ctki_now_us ());
        bool alone = atomic_load (&probe.steps) == steps + 1 && !probe.overlapped;
        pthread_mutex_unlock (&probe.actor.lock);
        ck_assert (alone);
    }
    tear_down (&probe);
}
END_TEST

Suite *ctki_suite_actor (void)
{
    Suite *suite = suite_create ("actor");
    TCase *tcase = ctki_leaks_tcase ("actor", 60);
    tcase_add_test (tcase, never_started);
    tcase_add_test (tcase, ready);
    tcase_add_test (tcase, failed_open);
    tcase_add_test (tcase, commands);
    tcase_add_test (tcase, rings);
    tcase_add_test (tcase, sleeps);
    tcase_add_test (tcase, asks_again);
    tcase_add_test (tcase, stop);
    tcase_add_test (tcase, ends_itself);
    tcase_add_test (tcase, lock);
    suite_add_tcase (suite, tcase);
    return suite;
}
