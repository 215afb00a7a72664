/*
 * test_supervision.c - the plan of a supervisor: which children it stops and
 * starts for every strategy and every child that ends, when it gives up, and many
 * random histories against a naive model.
 */
#include <check.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/mem.h"
#include "src/supervision.h"
#include "tests/support/scale.h"

Suite *ctki_suite_supervision (void);

enum { CHILDREN_MAX = 12, TEXT_BYTES = 4096, MS = 1000, LONG_MS = 60000, MANY = 1000000 };

static const ctalk_strategy_t strategies[] = {CTALK_ONE_FOR_ONE, CTALK_ALL_FOR_ONE, CTALK_REST_FOR_ONE};

/* What becomes of each child in the steps that come. */
typedef struct {
    ctki_stop_t stop[CHILDREN_MAX];
    bool fails[CHILDREN_MAX]; /* to start */
} fates_t;

static ctki_supervision_t plan;
static fates_t fates;
static char text[TEXT_BYTES]; /* of the steps: +1 start, -1 stop, . wait, !10 exit with 10 */

/* Check marks each assertion that it passes by a system call: too many, here. */
static void must (bool holds, const char *what)
{
    if (!holds)
        ck_abort_msg ("%s", what);
}

static void note (char *to, const char *format, long number)
{
    size_t used = strlen (to);
    must (used < TEXT_BYTES - 32, "a text that is too long");
    (void) snprintf (to + used, TEXT_BYTES - used, format, number);
}

/* Does what the plan says until it waits or exits. */
static const char *play (void)
{
    text[0] = '\0';
    for (;;) {
        size_t child = SIZE_MAX, again = SIZE_MAX;
        ctki_step_t step = ctki_supervision_next (&plan, &child);
        must (ctki_supervision_next (&plan, &again) == step && again == child, "not the same step until it was done");
        if (step == CTKI_STEP_WAIT || step == CTKI_STEP_EXIT) {
            note (text, step == CTKI_STEP_WAIT ? "." : "!%ld", plan.reason);
            return text;
        }
        must (child < plan.count, "no child");
        note (text, step == CTKI_STEP_START ? "+%ld " : "-%ld ", (long) child);
        if (step == CTKI_STEP_STOP)
            ctki_supervision_stopped (&plan, child, fates.stop[child]);
        else if (fates.fails[child])
            ctki_supervision_end (&plan, EAGAIN);
        else
            ctki_supervision_started (&plan, child);
    }
}

static void begin (ctalk_strategy_t strategy, int restarts_max, int within_ms, size_t count)
{
    ctalk_supervision_t how = {.strategy = strategy, .restarts_max = restarts_max, .within_ms = within_ms};
    memset (&fates, 0, sizeof fates);
    ctki_supervision_fini (&plan);
    must (ctki_supervision_init (&plan, &how, count) == 0, "no memory");
}

static void set_up (void)
{
    memset (&plan, 0, sizeof plan);
}

static void tear_down (void)
{
    ctki_supervision_fini (&plan);
    ctki_supervision_fini (&plan); /* twice is harmless */
}

static const char *ends (size_t child, int reason, int64_t now_us)
{
    (void) ctki_supervision_ended (&plan, child, reason, now_us);
    return play ();
}

/* What clustertalk.h calls EINVAL is refused: no children, no function, a strategy that there is not, negative numbers
 * but for -1 as stop_timeout_ms, reserved fields. The bounds themselves are good. */
START_TEST (arguments)
{
    ctalk_actor_fn *fn = (ctalk_actor_fn *) (void (*) (void)) abort; /* never called */
    ctalk_child_t good[2] = {{.fn = fn}, {.fn = fn, .stop_timeout_ms = -1}}, bad[2];
    ctalk_supervision_t how = {.strategy = CTALK_REST_FOR_ONE}, wrong;
    ck_assert (ctki_supervision_valid (&how, good, 2));
    ck_assert (!ctki_supervision_valid (NULL, good, 2));
    ck_assert (!ctki_supervision_valid (&how, NULL, 2));
    ck_assert (!ctki_supervision_valid (&how, good, 0));
    wrong = how, wrong.strategy = (ctalk_strategy_t) 3;
    ck_assert (!ctki_supervision_valid (&wrong, good, 2));
    wrong = how, wrong.strategy = (ctalk_strategy_t) -1;
    ck_assert (!ctki_supervision_valid (&wrong, good, 2));
    wrong = how, wrong.restarts_max = -1;
    ck_assert (!ctki_supervision_valid (&wrong, good, 2));
    wrong = how, wrong.within_ms = -1;
    ck_assert (!ctki_supervision_valid (&wrong, good, 2));
    wrong = how, wrong.reserved = 1;
    ck_assert (!ctki_supervision_valid (&wrong, good, 2));
    wrong = how, wrong.restarts_max = wrong.within_ms = INT_MAX;
    ck_assert (ctki_supervision_valid (&wrong, good, 2));
    for (size_t i = 0; i < 2; i++) {
        memcpy (bad, good, sizeof bad), bad[i].fn = NULL;
        ck_assert (!ctki_supervision_valid (&how, bad, 2));
        memcpy (bad, good, sizeof bad), bad[i].stop_timeout_ms = -2;
        ck_assert (!ctki_supervision_valid (&how, bad, 2));
        memcpy (bad, good, sizeof bad), bad[i].reserved = 1;
        ck_assert (!ctki_supervision_valid (&how, bad, 2));
    }
}
END_TEST

/* The children are started in their order, and stopped in reverse, with the reason that was given first. */
START_TEST (start_and_end)
{
    for (int i = 0; i < 3; i++) {
        begin (strategies[i], 0, 0, 3);
        ck_assert_str_eq (play (), "+0 +1 +2 .");
        ctki_supervision_end (&plan, 0);
        ctki_supervision_end (&plan, ECHILD);
        ck_assert_str_eq (play (), "-2 -1 -0 !0");
        ck_assert_str_eq (play (), "!0"); /* that is the end of it */
    }
}
END_TEST

/* A child that cannot be started at the start: those that were started are stopped again. */
START_TEST (start_fails)
{
    static const char *const story[] = {"+0 !11", "+0 +1 -0 !11", "+0 +1 +2 -1 -0 !11"};
    ck_assert_int_eq (EAGAIN, 11);
    for (size_t child = 0; child < 3; child++) {
        begin (CTALK_ONE_FOR_ONE, MANY, LONG_MS, 3);
        fates.fails[child] = true;
        ck_assert_str_eq (play (), story[child]);
    }
}
END_TEST

/* Which ones are stopped and started, for every strategy and every child that dies; again and again. */
START_TEST (who_is_restarted)
{
    static const char *const story[3][4] = {
        {"+0 .", "+1 .", "+2 .", "+3 ."},
        {"-3 -2 -1 +0 +1 +2 +3 .", "-3 -2 -0 +0 +1 +2 +3 .", "-3 -1 -0 +0 +1 +2 +3 .", "-2 -1 -0 +0 +1 +2 +3 ."},
        {"-3 -2 -1 +0 +1 +2 +3 .", "-3 -2 +1 +2 +3 .", "-3 +2 +3 .", "+3 ."},
    };
    for (int i = 0; i < 3; i++) {
        begin (strategies[i], MANY, LONG_MS, 4);
        ck_assert_str_eq (play (), "+0 +1 +2 +3 .");
        for (size_t round = 0; round < 12; round++)
            ck_assert_str_eq (ends (round % 4, round % 3 ? 1 : -1, (int64_t) round), story[i][round % 4]);
    }
}
END_TEST

/* A child that ends with 0 is no restart, and stays ended when others are started again, and at the end. */
START_TEST (normal_end)
{
    static const char *const story[3][3] = {
        {"+0 .", "+2 .", "-2 -0 !0"}, {"-2 +0 +2 .", "-0 +0 +2 .", "-2 -0 !0"}, {"-2 +0 +2 .", "+2 .", "-2 -0 !0"}};
    for (int i = 0; i < 3; i++) {
        begin (strategies[i], 2, LONG_MS, 3);
        (void) play ();
        ck_assert_str_eq (ends (1, 0, 0), ".");
        ck_assert_str_eq (ends (0, 7, 0), story[i][0]);
        ck_assert_str_eq (ends (2, 7, 0), story[i][1]);
        ctki_supervision_end (&plan, 0);
        ck_assert_str_eq (play (), story[i][2]);
    }
}
END_TEST

/* When all have done their work the supervisor waits on. */
START_TEST (all_done)
{
    begin (CTALK_ALL_FOR_ONE, 0, 0, 2);
    (void) play ();
    ck_assert_str_eq (ends (0, 0, 0), ".");
    ck_assert_str_eq (ends (1, 0, 0), ".");
    ctki_supervision_end (&plan, 0);
    ck_assert_str_eq (play (), "!0");
}
END_TEST

/* A child that had ended by itself when its turn to be stopped came: with 0 it stays ended, else it is started again
 * with the others, and it is no restart of its own. */
START_TEST (ended_meanwhile)
{
    begin (CTALK_ALL_FOR_ONE, 2, LONG_MS, 4);
    (void) play ();
    fates.stop[1] = CTKI_STOP_DONE;
    fates.stop[2] = CTKI_STOP_FAILED;
    ck_assert_str_eq (ends (3, 1, 0), "-2 -1 -0 +0 +2 +3 .");
    ck_assert_str_eq (ends (3, 1, 0), "-2 -0 +0 +2 +3 .");
    ck_assert_str_eq (ends (3, 1, 0), "-2 -0 !10"); /* one more: too many */
}
END_TEST

/* A child that does not stop in time ends the restart and the supervisor, and is asked no second time. */
START_TEST (left_behind)
{
    ck_assert_int_eq (ECHILD, 10);
    begin (CTALK_REST_FOR_ONE, MANY, LONG_MS, 4);
    (void) play ();
    fates.stop[2] = CTKI_STOP_TIMEOUT;
    ck_assert_str_eq (ends (1, 1, 0), "-3 -2 -0 !10");
    begin (CTALK_REST_FOR_ONE, MANY, LONG_MS, 4);
    (void) play ();
    fates.stop[2] = CTKI_STOP_TIMEOUT;
    ctki_supervision_end (&plan, 0); /* where nothing was to be started again it changes nothing */
    ck_assert_str_eq (play (), "-3 -2 -1 -0 !0");
}
END_TEST

/* A child that cannot be started again: all the others are stopped, those of this restart and the rest. */
START_TEST (restart_fails)
{
    static const char *const story[] = {"+2 -4 -3 -1 -0 !11", "-4 -3 -1 -0 +0 +1 +2 -1 -0 !11", "-4 -3 +2 -1 -0 !11"};
    for (int i = 0; i < 3; i++) {
        begin (strategies[i], MANY, LONG_MS, 5);
        (void) play ();
        fates.fails[2] = true;
        ck_assert_str_eq (ends (2, 1, 0), story[i]);
    }
}
END_TEST

/* With restarts_max 0 the first restart is one too many; a child that ends with 0 is none. */
START_TEST (no_restarts)
{
    for (int i = 0; i < 3; i++) {
        begin (strategies[i], 0, LONG_MS, 3);
        (void) play ();
        ck_assert_str_eq (ends (0, 0, 0), ".");
        ck_assert (!ctki_supervision_ended (&plan, 1, 1, 0));
        ck_assert_str_eq (play (), "-2 !10");
    }
}
END_TEST

/* Two ends of a window count as within it; a microsecond more, and they do not. */
START_TEST (bounds_of_the_window)
{
    for (int64_t extra_us = 0; extra_us < 2; extra_us++) {
        begin (CTALK_ONE_FOR_ONE, 3, 50, 1);
        (void) play ();
        for (int64_t at_ms = 10; at_ms <= 30; at_ms += 10)
            ck_assert_str_eq (ends (0, 1, at_ms * MS), "+0 .");
        ck_assert_str_eq (ends (0, 1, 60 * MS + extra_us), extra_us ? "+0 ." : "!10");
    }
}
END_TEST

/* The window slides: as many as may be within it, for ever, and one more at any moment is too many. */
START_TEST (window_slides)
{
    for (int rounds = 1; rounds < 60; rounds++) {
        int64_t now_us = 5;
        begin (CTALK_ONE_FOR_ONE, 4, 100, 1);
        (void) play ();
        for (int i = 0; i < rounds; i++, now_us += 26 * MS)
            ck_assert_str_eq (ends (0, 1, now_us), "+0 .");
        int64_t too_soon_us = now_us - 4 * 26 * MS + 100 * MS; /* the fourth last one is just within it yet */
        ck_assert_str_eq (ends (0, 1, too_soon_us), rounds >= 4 ? "!10" : "+0 .");
    }
}
END_TEST

/* within_ms 0: those of one moment count, and no others. */
START_TEST (window_of_nothing)
{
    begin (CTALK_ONE_FOR_ONE, 2, 0, 1);
    (void) play ();
    for (int64_t now_us = 0; now_us < 100; now_us++) {
        ck_assert_str_eq (ends (0, 1, now_us), "+0 .");
        ck_assert_str_eq (ends (0, 1, now_us), "+0 .");
    }
    ck_assert_str_eq (ends (0, 1, 99), "!10");
}
END_TEST

/* The greatest numbers are counted exactly, and take memory for the restarts that there were, not for those that there
 * may be. */
START_TEST (greatest_numbers)
{
    begin (CTALK_ONE_FOR_ONE, INT_MAX, INT_MAX, 1);
    (void) play ();
    for (int64_t i = 0; i < 10000; i++)
        ck_assert_str_eq (ends (0, 1, i * 1000000 * MS), "+0 ."); /* one in a thousand seconds */
    ck_assert_uint_eq (plan.restarts, INT_MAX / 1000000 + 1);
    ck_assert_uint_lt (plan.capacity, 4 * plan.restarts);
    begin (CTALK_ONE_FOR_ONE, 10, 1, 1);
    (void) play ();
    for (int64_t i = 0; i < 10000; i++)
        ck_assert_str_eq (ends (0, 1, i * 100 + i / 10 * 1), "+0 ."); /* ten in a millisecond and a little */
    ck_assert_uint_le (plan.capacity, 32);
}
END_TEST

/* Without memory there is no plan; without memory to count a restart it gives up, in good order. */
START_TEST (no_memory)
{
    ctalk_supervision_t how = {.strategy = CTALK_ONE_FOR_ONE, .restarts_max = MANY, .within_ms = LONG_MS};
    (void) ctki_mem_fail (0, -1);
    int rc = ctki_supervision_init (&plan, &how, 3), code = errno;
    (void) ctki_mem_fail (-1, 0);
    ck_assert (rc == -1 && code == ENOMEM);
    for (int before = 0; before < 100; before++) {
        begin (CTALK_ONE_FOR_ONE, MANY, LONG_MS, 3);
        (void) play ();
        for (int i = 0; i < before; i++)
            ck_assert_str_eq (ends (1, 1, 0), "+1 .");
        size_t room = plan.capacity - plan.restarts;
        (void) ctki_mem_fail (0, -1);
        for (size_t i = 0; i < room; i++)
            ck_assert (ctki_supervision_ended (&plan, 1, 1, 0) && *play () == '+');
        bool goes_on = ctki_supervision_ended (&plan, 1, 1, 0);
        (void) ctki_mem_fail (-1, 0);
        ck_assert (!goes_on);
        ck_assert_str_eq (play (), "-2 -0 !10");
    }
}
END_TEST

/* ---- against a model that keeps everything and thinks of nothing */

typedef struct {
    ctalk_supervision_t how;
    int count;
    char state[CHILDREN_MAX]; /* u up, d down, o over (left alone), l left behind */
    int64_t at_us[4000];      /* of all restarts */
    int restarts;
    char text[TEXT_BYTES];
} model_t;

static void model_end (model_t *model, int reason)
{
    for (int i = model->count - 1; i >= 0; i--)
        if (model->state[i] == 'u') {
            note (model->text, "-%ld ", i);
            model->state[i] = 'l';
        }
    note (model->text, "!%ld", reason);
}

static bool model_concerns (const model_t *model, int dead, int other)
{
    return other == dead || model->how.strategy == CTALK_ALL_FOR_ONE
           || (model->how.strategy == CTALK_REST_FOR_ONE && other > dead);
}

static bool model_too_many (model_t *model, int64_t now_us)
{
    int within = 0;
    model->at_us[model->restarts++] = now_us;
    for (int i = 0; i < model->restarts; i++)
        within += now_us - model->at_us[i] <= model->how.within_ms * (int64_t) MS;
    return within > model->how.restarts_max;
}

/* false: it is at its end. */
static bool model_stops (model_t *model, int dead)
{
    for (int i = model->count - 1; i >= 0; i--) {
        if (!model_concerns (model, dead, i) || model->state[i] != 'u')
            continue;
        note (model->text, "-%ld ", i);
        model->state[i] = "dodl"[fates.stop[i]];
        if (model->state[i] == 'l') {
            model_end (model, ECHILD);
            return false;
        }
    }
    return true;
}

static bool model_starts (model_t *model)
{
    for (int i = 0; i < model->count; i++) {
        if (model->state[i] != 'd')
            continue;
        note (model->text, "+%ld ", i);
        if (fates.fails[i]) {
            model_end (model, EAGAIN);
            return false;
        }
        model->state[i] = 'u';
    }
    note (model->text, ".", 0);
    return true;
}

static bool model_child_ends (model_t *model, int child, int reason, int64_t now_us)
{
    model->text[0] = '\0';
    model->state[child] = reason ? 'd' : 'o';
    if (reason && model_too_many (model, now_us)) {
        model_end (model, ECHILD);
        return false;
    }
    if (reason && !model_stops (model, child))
        return false;
    return model_starts (model);
}

static uint64_t draw (uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static int draw_below (uint64_t *state, int bound)
{
    return (int) (draw (state) % (uint64_t) bound);
}

/* Mostly as it was asked; seldom otherwise. */
static void draw_fates (uint64_t *state, int rarity)
{
    for (int i = 0; i < CHILDREN_MAX; i++) {
        int luck = draw_below (state, rarity);
        fates.stop[i] = luck == 0   ? CTKI_STOP_TIMEOUT
                        : luck == 1 ? CTKI_STOP_DONE
                        : luck < 40 ? CTKI_STOP_FAILED
                                    : CTKI_STOPPED;
        fates.fails[i] = draw_below (state, rarity) == 0;
    }
}

/* Steps between restarts that often are the window, a part of it, or a microsecond beside. */
static int64_t draw_pause_us (uint64_t *state, const ctalk_supervision_t *how)
{
    int64_t part = how->restarts_max > 0 ? how->within_ms * (int64_t) MS / how->restarts_max : 1;
    int beside_us = draw_below (state, 4);
    switch (draw_below (state, 4)) {
    case 0:
        return 0;
    case 1:
        return draw_below (state, 3);
    default:
        return CTKI_MAX (part - 1 + beside_us, 0);
    }
}

static int draw_up (uint64_t *state, const model_t *model)
{
    int child = draw_below (state, model->count);
    for (int i = 0; i < model->count; i++, child = (child + 1) % model->count)
        if (model->state[child] == 'u')
            return child;
    return -1;
}

/* Plays one history; returns how many children ended in it. */
static int play_history (uint64_t seed)
{
    static model_t model;
    uint64_t state = seed * 0x9E3779B97F4A7C15U + 1;
    memset (&model, 0, sizeof model);
    model.how = (ctalk_supervision_t){.strategy = strategies[draw_below (&state, 3)],
                                      .restarts_max = draw_below (&state, 6),
                                      .within_ms = draw_below (&state, 20)};
    model.count = 1 + draw_below (&state, CHILDREN_MAX);
    int rarity = 41 + draw_below (&state, 2000), rounds = 0;
    int64_t now_us = draw_below (&state, 100);
    memset (model.state, 'd', sizeof model.state);
    begin (model.how.strategy, model.how.restarts_max, model.how.within_ms, (size_t) model.count);
    draw_fates (&state, rarity);
    for (bool runs = model_starts (&model); runs; rounds++) {
        if (strcmp (play (), model.text) != 0)
            ck_abort_msg ("seed %llu, round %d: %s instead of %s", (unsigned long long) seed, rounds, text, model.text);
        int child = draw_up (&state, &model);
        if (child < 0 || rounds == 300)
            return rounds;
        now_us += draw_pause_us (&state, &model.how);
        int reason = draw_below (&state, 30) ? 1 + draw_below (&state, 9) : 0;
        draw_fates (&state, rarity);
        (void) ctki_supervision_ended (&plan, (size_t) child, reason, now_us);
        runs = model_child_ends (&model, child, reason, now_us);
    }
    ck_assert_msg (strcmp (play (), model.text) == 0, "seed %llu, the end: %s instead of %s", (unsigned long long) seed,
                   text, model.text);
    return rounds;
}

/* Every history that a seed draws goes, step by step, as the model says. */
START_TEST (random_histories)
{
    uint64_t seeds = ctki_test_count (20000);
    long ended = 0;
    int longest = 0;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        int rounds = play_history (seed);
        ended += rounds;
        longest = CTKI_MAX (longest, rounds);
    }
    ck_assert_int_gt (ended, (long) seeds); /* they are no empty ones */
    ctki_test_figure ("random_histories", "%llu histories, %ld children ended, %d in the longest",
                      (unsigned long long) seeds, ended, longest);
}
END_TEST

Suite *ctki_suite_supervision (void)
{
    Suite *suite = suite_create ("supervision");
    TCase *tcase = tcase_create ("supervision");
    tcase_set_timeout (tcase, 60);
    tcase_add_checked_fixture (tcase, set_up, tear_down);
    tcase_add_test (tcase, arguments);
    tcase_add_test (tcase, start_and_end);
    tcase_add_test (tcase, start_fails);
    tcase_add_test (tcase, who_is_restarted);
    tcase_add_test (tcase, normal_end);
    tcase_add_test (tcase, all_done);
    tcase_add_test (tcase, ended_meanwhile);
    tcase_add_test (tcase, left_behind);
    tcase_add_test (tcase, restart_fails);
    tcase_add_test (tcase, no_restarts);
    tcase_add_test (tcase, bounds_of_the_window);
    tcase_add_test (tcase, window_slides);
    tcase_add_test (tcase, window_of_nothing);
    tcase_add_test (tcase, greatest_numbers);
    tcase_add_test (tcase, no_memory);
    tcase_add_test (tcase, random_histories);
    suite_add_tcase (suite, tcase);
    return suite;
}
