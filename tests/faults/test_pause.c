/*
 * test_pause.c - processes that are stopped with SIGSTOP for a while, one of two or
 * both, under traffic in both directions: nothing is lost, doubled or out of order,
 * and who was stopped does not take the others for dead when it wakes: it knows
 * that it is the one who slept. All cases run at the same time, each with a pair of
 * processes of its own.
 *
 * At full scale the times of the options are the standard ones and a stop lasts
 * up to 30 s; scaled down both are a third.
 */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "src/sys.h"
#include "tests/faults/life.h"
#include "tests/faults/suites.h"
#include "tests/support/support.h"

enum {
    FIRST = 1,
    SECOND = 2,
    HEARTBEAT_MS = 500,
    SUSPECT_MS = 1500,
    DOWN_MS = 5000,
    THIRD = 3,
    BURST = 10,
    PACE_MS = 20,
    CASES_MAX = 24
};

static const size_t sizes[] = {100, 8, 2000, 500, 40000, 64, 0, 300};

/* Who is stopped; the first one is the one that is stopped as a sender, the second one as a receiver. */
typedef enum { SENDER = 1, RECEIVER = 2, BOTH = 3 } who_t;

typedef struct {
    who_t who;
    int full_ms; /* at full scale */
    int ms;
    bool has_room;     /* in the queue, for all that comes meanwhile */
    ctki_life_t *life; /* two */
    ctki_process_t process[2];
    ctalk_config_t *config;
    int64_t before[2]; /* taken when the stop began */
    int64_t after[2];  /* to be taken after it */
} case_t;

static struct {
    ctki_ports_t ports;
    case_t cases[CASES_MAX];
    size_t count;
    ctki_life_t *lives;
} trial;

static bool is_scaled (void)
{
    return ctki_test_count (1000) < 1000;
}

static int scaled_ms (int ms)
{
    return ctki_test_ms (is_scaled () ? ms / THIRD : ms);
}

/* The first one sends; with BOTH the second one sends, too. */
static void give_ways (case_t *c)
{
    ctki_way_t way = {.sizes = sizes, .sizes_count = sizeof sizes / sizeof sizes[0], .broadcasts = c->has_room};
    way.burst = BURST;
    way.pace_ms = PACE_MS;
    for (int i = 0; i < 2; i++) {
        c->life[i].pid = i == 0 ? FIRST : SECOND;
        c->life[i].config = c->config;
        c->life[i].from[i == 0 ? SECOND : FIRST] = way;
        way.dst = i == 0 ? SECOND : FIRST;
        if (i == 0 || c->who == BOTH)
            c->life[i].way[0] = way;
        way.dst = 0;
    }
}

static void add (who_t who, int full_ms)
{
    ck_assert_uint_lt (trial.count, CASES_MAX);
    case_t *c = &trial.cases[trial.count++];
    *c = (case_t){.who = who, .full_ms = full_ms, .ms = scaled_ms (full_ms)};
}

static void set_up (void)
{
    static const int durations_ms[] = {100, 500, 1000, 2000, 5000, 10000};
    memset (&trial, 0, sizeof trial);
    for (size_t i = 0; i < sizeof durations_ms / sizeof durations_ms[0]; i++)
        for (who_t who = SENDER; who <= BOTH; who++)
            add (who, durations_ms[i]);
    if (!is_scaled ())
        add (RECEIVER, 30000);
    ctki_ports_take (&trial.ports, 2 * trial.count);
    trial.lives = ctki_lives_new (2 * trial.count);
    for (size_t i = 0; i < trial.count; i++) {
        case_t *c = &trial.cases[i];
        c->life = &trial.lives[2 * i];
        c->has_room = i % 2; /* else no broadcasts: they skip a peer that is down and has a full queue */
        c->config =
            ctki_cluster_config (2, &trial.ports.port[2 * i],
                                 CTKI_OPTIONS ("QueueBytes", c->has_room ? "67108864" : "1048576", "HeartbeatMs",
                                               ctki_test_number_text ((uint64_t) scaled_ms (HEARTBEAT_MS)), "SuspectMs",
                                               ctki_test_number_text ((uint64_t) scaled_ms (SUSPECT_MS)), "DownMs",
                                               ctki_test_number_text ((uint64_t) scaled_ms (DOWN_MS))));
        give_ways (c);
    }
}

static void tear_down (void)
{
    for (size_t i = 0; i < trial.count; i++)
        ctalk_config_destroy (&trial.cases[i].config);
    ctki_lives_destroy (trial.lives, 2 * trial.count);
    ctki_ports_release (&trial.ports);
}

/* ---- stopping */

static bool sends (const case_t *c, int i)
{
    return c->life[i].way[0].dst != 0;
}

/* Both know each other, and traffic flows. */
static bool flows (void *arg)
{
    const case_t *c = arg;
    for (int i = 0; i < 2; i++)
        if (ctki_life_events (&c->life[i], c->life[1 - i].pid, CTALK_PEER_UP) == 0
            || (sends (c, 1 - i) && atomic_load (&c->life[i].taken) < c->after[i]))
            return false;
    return true;
}

static void await_flow (case_t *c, const char *what)
{
    ctki_life_await ((ctki_life_t *const[]){&c->life[0], &c->life[1]}, 2, flows, c, what);
}

static void stop (case_t *c)
{
    for (int i = 0; i < 2; i++) {
        int status = 0;
        pid_t pid = c->process[i].pid;
        if (!(c->who & (1 << i)))
            continue;
        ck_assert_int_eq (kill (pid, SIGSTOP), 0);
        ck_assert_int_eq (waitpid (pid, &status, WUNTRACED), pid);
        ck_assert_msg (WIFSTOPPED (status), "%d ended: %s", c->life[i].pid, c->life[i].trouble.text);
    }
}

/* What was accepted up to now, and some more, is to be taken. */
static void wake (case_t *c)
{
    for (int i = 0; i < 2; i++)
        c->after[i] = atomic_load (&c->life[1 - i].way[0].accepted) + 10 * BURST;
    for (int i = 0; i < 2; i++)
        if (c->who & (1 << i))
            ck_assert_int_eq (kill (c->process[i].pid, SIGCONT), 0);
}

/* The durations ascend, so that the cases wake in their order. */
static void sleep_and_wake (void)
{
    int64_t start_us = ctki_now_us ();
    for (size_t i = 0; i < trial.count; i++) {
        int64_t left_ms;
        while ((left_ms = trial.cases[i].ms - (ctki_now_us () - start_us) / 1000) > 0)
            (void) poll (NULL, 0, (int) left_ms);
        wake (&trial.cases[i]);
        ctki_test_progress ("stops", i, trial.count);
    }
    ctki_test_progress ("", 0, 0);
}

/* The lateness is measured by a thread: made when all processes are, so that none inherits it. */
static void run_all (ctki_lateness_t *lateness)
{
    for (size_t i = 0; i < trial.count; i++)
        for (int j = 0; j < 2; j++)
            ctki_life_start (&trial.cases[i].life[j], &trial.cases[i].process[j]);
    ctki_lateness_start (lateness);
    for (size_t i = 0; i < trial.count; i++) {
        trial.cases[i].after[0] = trial.cases[i].after[1] = 5 * BURST;
        await_flow (&trial.cases[i], "traffic before the stop");
    }
    for (size_t i = 0; i < trial.count; i++)
        stop (&trial.cases[i]);
    sleep_and_wake ();
    for (size_t i = 0; i < trial.count; i++)
        await_flow (&trial.cases[i], "traffic after the stop");
    (void) poll (NULL, 0, scaled_ms (SUSPECT_MS + HEARTBEAT_MS)); /* false alarms would come now */
    for (size_t i = 0; i < trial.count; i++) {
        case_t *c = &trial.cases[i];
        ctki_life_drain ((ctki_life_t *const[]){&c->life[0], &c->life[1]}, 2);
        for (int j = 0; j < 2; j++)
            c->after[j] = atomic_load (&c->life[1 - j].way[0].accepted);
        await_flow (c, "all that was sent taken");
    }
    for (size_t i = 0; i < trial.count; i++)
        for (int j = 0; j < 2; j++)
            ctki_life_end (&trial.cases[i].life[j]);
}

/* ---- what came out */

typedef struct {
    int64_t late_ms; /* the machine, at worst */
    size_t false_alarms, suspects, downs, expected_downs;
    int64_t envelopes;
} sums_t;

static size_t alarms (const case_t *c, int i, ctalk_kind_t kind)
{
    return ctki_life_events (&c->life[i], c->life[1 - i].pid, kind);
}

/* Who was not stopped notices a stop that is long, and none that is short (unless
 * the machine let the other one wait for so long that both together are not). */
static bool judge_watcher (const case_t *c, int i, sums_t *sums, ctki_trouble_t *trouble)
{
    size_t suspects = alarms (c, i, CTALK_PEER_SUSPECT), downs = alarms (c, i, CTALK_PEER_DOWN);
    bool is_long = c->full_ms >= DOWN_MS + SUSPECT_MS, is_short = 2 * c->full_ms <= SUSPECT_MS;
    sums->suspects += suspects;
    sums->downs += downs;
    sums->expected_downs += is_long;
    CTKI_EXPECT (trouble, !is_long || downs == 1);
    CTKI_EXPECT (trouble, !is_short || suspects + downs == 0 || c->ms + sums->late_ms > scaled_ms (SUSPECT_MS));
    return true;
}

static bool judge (const case_t *c, sums_t *sums, ctki_trouble_t *trouble)
{
    for (int i = 0; i < 2; i++) {
        const ctki_life_t *life = &c->life[i], *other = &c->life[1 - i];
        sums->envelopes += atomic_load (&life->taken);
        if (!ctki_life_one_row (life, other->pid, 0, atomic_load (&other->way[0].accepted), trouble)
            || !ctki_life_legal (life, other->pid, trouble))
            return false;
        CTKI_EXPECT_EQUAL (trouble, ctki_life_events (life, other->pid, CTALK_PEER_RESTARTED), 0);
        CTKI_EXPECT_EQUAL (trouble, life->stats.abandoned, 0);
        if (!(c->who & (1 << i))) {
            if (!judge_watcher (c, i, sums, trouble))
                return false;
            continue;
        }
        size_t false_alarms = alarms (c, i, CTALK_PEER_SUSPECT) + alarms (c, i, CTALK_PEER_DOWN);
        sums->false_alarms += false_alarms;
        CTKI_EXPECT_EQUAL (trouble, false_alarms, 0);
    }
    return true;
}

/* Stops of 0.1 to 30 s of the sender, of the receiver and of both: nothing is lost, doubled or out of order, and the
 * one that was stopped reports nobody as suspect or down. */
START_TEST (stopped_and_continued)
{
    static const char *const names[] = {"", "sender", "receiver", "both"};
    sums_t sums = {0};
    ctki_lateness_t lateness;
    set_up ();
    run_all (&lateness);
    (void) ctki_lateness_stop (&lateness);
    sums.late_ms = CTKI_LATENESS_HANDOVERS * lateness.worst_ms;
    for (size_t i = 0; i < trial.count; i++) {
        case_t *c = &trial.cases[i];
        ctki_trouble_t trouble = {""};
        bool ok = judge (c, &sums, &trouble);
        for (int j = 0; j < 2 && !ok; j++)
            ctki_life_print (&c->life[j]);
        ck_assert_msg (ok, "%s stopped for %d ms: %s", names[c->who], c->ms, trouble.text);
    }
    ctki_test_figure ("stopped_and_continued", "%zu stops up to %d ms, %" PRId64 " envelopes, false alarms %zu",
                      trial.count, trial.cases[trial.count - 1].ms, sums.envelopes, sums.false_alarms);
    ctki_test_figure ("", "those who watched: suspect %zu times, down %zu times (%zu of them sure)", sums.suspects,
                      sums.downs, sums.expected_downs);
    tear_down ();
}
END_TEST

Suite *ctki_suite_pause (void)
{
    Suite *suite = suite_create ("pause");
    TCase *tcase = ctki_leaks_tcase ("pause", 240);
    tcase_add_test (tcase, stopped_and_continued);
    suite_add_tcase (suite, tcase);
    return suite;
}
