/*
 * test_lead.c - whoever runs the rounds of an actor, somebody does: leaders come
 * and go at random, an own thread stands by, others ring, tell, and make a
 * descriptor readable. Each of these is served in the end (a deadline says when
 * it is not), and there are never two leaders.
 */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "actors/actor.h"
#include "actors/lead.h"
#include "tests/support/leaks.h"
#include "tests/support/scale.h"
#include "tests/support/thread.h"

Suite *ctki_suite_lead (void);

enum { LEADERS = 3, CALLERS = 3, CALLS = 3000, TURNS_MAX = 6, BUSY_ONE_IN = 16 };

/* ---- what was asked for, and what was done */

typedef struct {
    atomic_uint asked, served; /* a round serves what was asked before it */
    atomic_bool stop;          /* the leaders, and the own thread */
    atomic_int leading;        /* leaders now */
    atomic_bool two;           /* there were two */
    atomic_uint led;
} work_t;

static void init_work (work_t *work)
{
    memset (work, 0, sizeof *work);
}

static void serve (work_t *work)
{
    atomic_store (&work->served, atomic_load (&work->asked));
}

static bool await_served (work_t *work, unsigned number, ctki_trouble_t *trouble)
{
    int64_t end_ms = ctki_test_now_ms () + ctki_test_long_ms ();
    while ((int) (atomic_load (&work->served) - number) < 0) {
        if (ctki_test_now_ms () >= end_ms)
            return ctki_trouble_note (trouble, __FILE__, __LINE__, "call %u is not served (%u are): nobody looks",
                                      number, atomic_load (&work->served));
        sched_yield ();
    }
    return true;
}

static void begin (work_t *work)
{
    if (atomic_fetch_add (&work->leading, 1) > 0)
        atomic_store (&work->two, true);
    atomic_fetch_add (&work->led, 1);
}

static void end (work_t *work)
{
    atomic_fetch_sub (&work->leading, 1);
}

/* Stays away for a while: mostly not at all, then for longer than the own thread's looks. */
static void stay_away (unsigned *seed)
{
    int draw = rand_r (seed) % 64;
    if (draw < 8)
        (void) poll (NULL, 0, draw);
    else if (draw == 8)
        (void) poll (NULL, 0, 25);
    else if (draw < 40)
        sched_yield ();
}

/* ---- the bookkeeping alone, with an own thread made for it */

typedef struct {
    work_t work;
    ctki_lead_t lead;
    ctki_bell_t bell;
    ctki_sock_t *pipe;
    pthread_mutex_t lock; /* of the pipe, as an actor's */
    unsigned draws;       /* under the lock */
    atomic_bool slow;     /* the own thread is late everywhere */
} kit_t;

static void set_up (kit_t *kit)
{
    ctki_sock_t *ends[2];
    memset (kit, 0, sizeof *kit);
    init_work (&kit->work);
    ck_assert_int_eq (ctki_context_ref (1, NULL), 0);
    ck_assert_int_eq (ctki_sock_pair (ends), 0);
    kit->pipe = ends[0];
    ctki_bell_init (&kit->bell, ends[1]);
    ctki_lead_init (&kit->lead, &kit->bell);
    pthread_mutex_init (&kit->lock, NULL);
}

static void tear_down (kit_t *kit)
{
    ctki_sock_close (&kit->pipe);
    ctki_bell_fini (&kit->bell);
    pthread_mutex_destroy (&kit->lock);
    ctki_context_unref ();
}

/* Returns whether it was "much". */
static bool round_of (kit_t *kit)
{
    char byte;
    pthread_mutex_lock (&kit->lock);
    ctki_bell_hear (&kit->bell);
    while (ctki_pipe_receive (kit->pipe, &byte, sizeof byte) > 0)
        ctki_bell_heard (&kit->bell);
    serve (&kit->work);
    bool busy = rand_r (&kit->draws) % BUSY_ONE_IN == 0;
    pthread_mutex_unlock (&kit->lock);
    return busy;
}

static void sleep_on_pipe (kit_t *kit, int ms)
{
    struct pollfd item = {.fd = ctki_sock_fd (kit->pipe), .events = POLLIN};
    (void) poll (&item, 1, ms);
}

static void dawdle (kit_t *kit, unsigned *seed)
{
    if (atomic_load (&kit->slow) && rand_r (seed) % 4 == 0)
        (void) poll (NULL, 0, 1);
}

/* As run () and go_round () of actor.c: it sleeps without limit. */
static bool run_own (void *arg, ctki_trouble_t *trouble)
{
    kit_t *kit = arg;
    unsigned seed = 1;
    (void) trouble;
    while (!atomic_load (&kit->work.stop)) {
        if (!ctki_lead_is_own (&kit->lead))
            ctki_lead_stand_by (&kit->lead);
        dawdle (kit, &seed);
        bool busy = round_of (kit), stop = atomic_load (&kit->work.stop); /* as obey () looks for it: after a ring */
        dawdle (kit, &seed);
        ctki_lead_judge (&kit->lead, busy);
        if (ctki_lead_is_own (&kit->lead)) {
            dawdle (kit, &seed);
            sleep_on_pipe (kit, stop ? 0 : -1);
        } else
            ctki_bell_ring (&kit->bell);
    }
    return true;
}

typedef struct {
    void *kit;
    unsigned seed;
} person_t;

static bool lead_now_and_then (void *arg, ctki_trouble_t *trouble)
{
    person_t *me = arg;
    kit_t *kit = me->kit;
    while (!atomic_load (&kit->work.stop)) {
        stay_away (&me->seed);
        if (!ctki_lead_begin (&kit->lead))
            continue;
        begin (&kit->work);
        CTKI_EXPECT (trouble, ctki_lead_is_led (&kit->lead));
        bool busy = false;
        for (int turns = rand_r (&me->seed) % TURNS_MAX; turns >= 0 && !busy; turns--) {
            sleep_on_pipe (kit, rand_r (&me->seed) % 16 == 0 ? 20 : rand_r (&me->seed) % 2);
            busy = round_of (kit);
        }
        if (rand_r (&me->seed) % 4 == 0)
            sched_yield ();
        end (&kit->work);
        ctki_lead_end (&kit->lead, busy);
    }
    return true;
}

static bool ring_and_await (void *arg, ctki_trouble_t *trouble)
{
    person_t *me = arg;
    kit_t *kit = me->kit;
    for (size_t i = 0; i < ctki_test_count (CALLS); i++) {
        unsigned number = atomic_fetch_add (&kit->work.asked, 1) + 1;
        if (rand_r (&me->seed) % 4)
            ctki_bell_ring (&kit->bell);
        else
            CTKI_EXPECT_EQUAL (trouble, ctki_bell_command (&kit->bell, "xx", 2), 0);
        if (!await_served (&kit->work, number, trouble))
            return false;
        stay_away (&me->seed);
    }
    return true;
}

/* Starts the leaders and the callers, and ends them. */
static void play (work_t *work, void *kit, int leaders, bool (*leader) (void *, ctki_trouble_t *),
                  bool (*caller) (void *, ctki_trouble_t *))
{
    ctki_test_thread_t leading[LEADERS], calling[CALLERS];
    person_t people[LEADERS + CALLERS];
    for (int i = 0; i < LEADERS + CALLERS; i++)
        people[i] = (person_t){kit, (unsigned) (i + 1)};
    for (int i = 0; i < leaders; i++)
        ctki_test_thread_start (&leading[i], leader, &people[i]);
    for (int i = 0; i < CALLERS; i++)
        ctki_test_thread_start (&calling[i], caller, &people[LEADERS + i]);
    for (int i = 0; i < CALLERS; i++)
        ctki_test_thread_join (&calling[i]);
    atomic_store (&work->stop, true);
    for (int i = 0; i < leaders; i++)
        ctki_test_thread_join (&leading[i]);
    ck_assert (!atomic_load (&work->two));
    ck_assert (leaders == 0 || atomic_load (&work->led) > 0);
}

/* Whoever rings is heard, by a leader or by the own thread, however these come and go (none, one or three leaders; the
 * own thread in time or late); and there is one leader at most. */
START_TEST (all_are_heard)
{
    static const int leaders[] = {0, 1, LEADERS, LEADERS};
    kit_t kit;
    ctki_test_thread_t own;
    set_up (&kit);
    atomic_store (&kit.slow, _i == 3);
    ctki_test_thread_start (&own, run_own, &kit);
    play (&kit.work, &kit, leaders[_i], lead_now_and_then, ring_and_await);
    ctki_bell_ring (&kit.bell);
    ctki_test_thread_join (&own);
    ctki_test_figure ("all_are_heard", "%u calls, led %u times", atomic_load (&kit.work.asked),
                      atomic_load (&kit.work.led));
    tear_down (&kit);
}
END_TEST

/* One leads at a time; who is told to leave it to the own thread finds nobody leading until that has judged. */
START_TEST (one_at_a_time)
{
    kit_t kit;
    set_up (&kit);
    ck_assert (!ctki_lead_is_led (&kit.lead));
    ck_assert (ctki_lead_is_own (&kit.lead));
    ck_assert (ctki_lead_begin (&kit.lead));
    ck_assert (ctki_lead_is_led (&kit.lead) && !ctki_lead_is_own (&kit.lead));
    ck_assert (!ctki_lead_begin (&kit.lead));
    ctki_lead_judge (&kit.lead, true); /* changes nothing while one leads */
    ctki_lead_end (&kit.lead, false);
    ck_assert (ctki_lead_is_led (&kit.lead)); /* the next one may, and the own thread waits for it */
    ck_assert (ctki_lead_begin (&kit.lead));
    ctki_lead_end (&kit.lead, true);
    ck_assert (!ctki_lead_is_led (&kit.lead) && !ctki_lead_begin (&kit.lead));
    ctki_lead_judge (&kit.lead, true);
    ck_assert (!ctki_lead_begin (&kit.lead));
    ctki_lead_judge (&kit.lead, false);
    ck_assert (ctki_lead_begin (&kit.lead));
    ctki_lead_end (&kit.lead, false);
    ctki_lead_stand_by (&kit.lead); /* returns: nobody comes back */
    ck_assert (!ctki_lead_is_led (&kit.lead) && ctki_lead_is_own (&kit.lead));
    ctki_lead_judge (&kit.lead, true); /* much to do: nobody else now */
    ck_assert (!ctki_lead_begin (&kit.lead));
    tear_down (&kit);
}
END_TEST

/* ---- a whole actor */

enum { ASK = 1, SOON };

typedef struct {
    ctki_actor_t actor;
    work_t work;
    int fd;         /* as its socket: readable when something came */
    int64_t due_us; /* under the lock: a time of its own; CTKI_FOREVER: none */
    unsigned seed;  /* under the lock */
    int order;      /* under the lock: steps that overlap would spoil it */
    atomic_bool closed;
} probe_t;

static int open_probe (void *self, ctalk_error_t *error)
{
    (void) self, (void) error;
    return 0;
}

static void obey (void *self, const ctki_command_t *command)
{
    probe_t *probe = self;
    if (command->kind == SOON)
        probe->due_us = CTKI_MIN (probe->due_us, ctki_now_us () + command->number);
}

/* Serves what rang and what its descriptor says at once, and what was asked for with a time when it is due. */
static int64_t step (void *self, int64_t now_us)
{
    probe_t *probe = self;
    uint64_t count;
    CTKI_ASSERT (probe->order++ == 0);
    (void) !read (probe->fd, &count, sizeof count);
    if (now_us >= probe->due_us)
        probe->due_us = CTKI_FOREVER;
    if (probe->due_us == CTKI_FOREVER)
        serve (&probe->work);
    CTKI_ASSERT (--probe->order == 0);
    return rand_r (&probe->seed) % 32 == 0 ? now_us : probe->due_us;
}

static bool park (void *self)
{
    probe_t *probe = self;
    return rand_r (&probe->seed) % 16 != 0;
}

static int64_t after (void *self, int64_t now_us)
{
    (void) self, (void) now_us;
    return CTKI_FOREVER;
}

static bool is_busy (void *self)
{
    return rand_r (&((probe_t *) self)->seed) % BUSY_ONE_IN == 0;
}

static int watch (void *self, int fds[CTKI_ACTOR_FDS])
{
    fds[0] = ((probe_t *) self)->fd;
    return 1;
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
                                     .busy = is_busy,
                                     .watch = watch,
                                     .close = close_probe};

/* As a receiver: sleeps and makes rounds, for a while. */
static bool lead_the_probe (void *arg, ctki_trouble_t *trouble)
{
    person_t *me = arg;
    probe_t *probe = me->kit;
    ctki_lead_t *lead = &probe->actor.lead;
    (void) trouble;
    while (!atomic_load (&probe->work.stop)) {
        stay_away (&me->seed);
        if (!ctki_lead_begin (lead))
            continue;
        begin (&probe->work);
        bool busy = false;
        for (int turns = rand_r (&me->seed) % TURNS_MAX; turns >= 0 && !busy; turns--) {
            int64_t until_us = ctki_actor_lead_until (&probe->actor);
            int64_t limit_us = ctki_now_us () + rand_r (&me->seed) % 3 * 1000;
            (void) ctki_actor_lead_sleep (&probe->actor, CTKI_MIN (until_us, limit_us), -1, NULL);
            (void) ctki_actor_lead_round (&probe->actor, &busy);
        }
        end (&probe->work);
        ctki_lead_end (lead, busy);
    }
    return true;
}

static bool call_the_probe (void *arg, ctki_trouble_t *trouble)
{
    person_t *me = arg;
    probe_t *probe = me->kit;
    uint64_t one = 1;
    for (size_t i = 0; i < ctki_test_count (CALLS); i++) {
        unsigned number = atomic_fetch_add (&probe->work.asked, 1) + 1;
        switch (rand_r (&me->seed) % 4) {
        case 0:
            CTKI_EXPECT_EQUAL (trouble, ctki_actor_tell (&probe->actor, ASK, 0, NULL), 0);
            break;
        case 1: /* a time that a round of another makes due */
            CTKI_EXPECT_EQUAL (trouble, ctki_actor_tell (&probe->actor, SOON, rand_r (&me->seed) % 3 * 1000, NULL), 0);
            break;
        case 2:
            CTKI_EXPECT_EQUAL (trouble, write (probe->fd, &one, sizeof one), sizeof one);
            break;
        default:
            ctki_bell_ring (&probe->actor.bell);
        }
        if (!await_served (&probe->work, number, trouble))
            return false;
        stay_away (&me->seed);
    }
    return true;
}

/* The same with an actor as it is: rings, commands, times that become due and what its descriptor says are served,
 * whoever leads; it ends when it is told to. */
START_TEST (actor)
{
    static const int leaders[] = {0, 1, LEADERS};
    probe_t probe;
    memset (&probe, 0, sizeof probe);
    init_work (&probe.work);
    probe.due_us = CTKI_FOREVER;
    probe.fd = eventfd (0, EFD_NONBLOCK | EFD_CLOEXEC);
    ck_assert_int_ge (probe.fd, 0);
    ck_assert_int_eq (ctki_context_ref (1, NULL), 0);
    ck_assert_int_eq (ctki_actor_init (&probe.actor, &ops, &probe), 0);
    ck_assert_int_eq (ctki_actor_start (&probe.actor, "probe"), 0);
    ck_assert_int_eq (ctki_actor_await (&probe.actor, NULL), 0);
    play (&probe.work, &probe, leaders[_i], lead_the_probe, call_the_probe);
    ctki_actor_fini (&probe.actor);
    ck_assert (atomic_load (&probe.closed));
    ctki_test_figure ("actor", "%u calls, led %u times", atomic_load (&probe.work.asked),
                      atomic_load (&probe.work.led));
    ctki_context_unref ();
    ck_assert_int_eq (close (probe.fd), 0);
}
END_TEST

Suite *ctki_suite_lead (void)
{
    Suite *suite = suite_create ("lead");
    TCase *tcase = ctki_leaks_tcase ("lead", 180);
    tcase_add_test (tcase, one_at_a_time);
    tcase_add_loop_test (tcase, all_are_heard, 0, 4);
    tcase_add_loop_test (tcase, actor, 0, 3);
    suite_add_tcase (suite, tcase);
    return suite;
}
