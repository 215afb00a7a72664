/*
 * test_fault.c - what becomes of frames on a bad way: draws, times, order, and
 * the queue of those that are not due yet.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/fault.h"
#include "src/mem.h"
#include "tests/support/scale.h"

Suite *ctki_suite_fault (void);

enum {
    FRAMES = 100000, /* judged in a test of figures */
    SEEDS = 20,
    STEP_US = 100 /* between two frames */
};

/* What became of a row of frames. */
typedef struct {
    int lost, doubled, on;
    int64_t least_us, most_us, sum_us; /* of the delays of those that went on */
} row_t;

static ctki_fault_t bad_way (const ctalk_impairment_t *how, uint64_t salt)
{
    ctki_fault_t fault = {0};
    ck_assert (ctki_fault_valid (how));
    ctki_fault_set (&fault, how, salt);
    return fault;
}

/* Judges frames step_us apart and checks that none is due before one that was before it, or in the past. */
static row_t judge_row (ctki_fault_t *fault, int frames, int64_t step_us)
{
    row_t row = {.least_us = INT64_MAX};
    int64_t last_us = 0;
    for (int i = 0; i < frames; i++) {
        int64_t due_us[CTKI_FAULT_COPIES], now_us = 1000000 + i * step_us;
        int copies = ctki_fault_judge (fault, now_us, due_us);
        ck_assert (copies >= 0 && copies <= CTKI_FAULT_COPIES);
        row.lost += copies == 0;
        row.doubled += copies == 2;
        for (int k = 0; k < copies; k++) {
            ck_assert (due_us[k] >= now_us && due_us[k] >= last_us);
            last_us = due_us[k];
            row.on++;
            row.sum_us += due_us[k] - now_us;
            row.least_us = CTKI_MIN (row.least_us, due_us[k] - now_us);
            row.most_us = CTKI_MAX (row.most_us, due_us[k] - now_us);
        }
    }
    return row;
}

/* Within five standard deviations of what was asked for. */
static void about (int got, int of, double p)
{
    double expected = of * p, most = 5 * sqrt (of * p * (1 - p)) + 1e-9;
    ck_assert_msg (fabs (got - expected) <= most, "%d of %d instead of %g", got, of, expected);
}

/* A way that nobody touched, one that is good again and one whose impairment changes nothing let all frames pass at
 * once, and need no judging. */
START_TEST (good_way)
{
    ctki_fault_t fault = {0};
    ctalk_impairment_t some = {.loss = 0.5, .delay_ms = 10, .seed = 1}, nothing = {.seed = 7};
    for (int i = 0; i < 3; i++) {
        ck_assert (!ctki_fault_on (&fault));
        row_t row = judge_row (&fault, 1000, STEP_US);
        ck_assert_int_eq (row.on, 1000);
        ck_assert_int_eq (row.doubled, 0);
        ck_assert_int_eq (row.most_us, 0);
        ctki_fault_set (&fault, &some, 1);
        ck_assert (ctki_fault_on (&fault));
        ctki_fault_set (&fault, i ? NULL : &nothing, 1);
    }
}
END_TEST

/* As many frames are lost and doubled as was asked for, for every seed, and both independently of each other. */
START_TEST (loss_and_duplicates)
{
    static const double p[] = {0.001, 0.05, 0.2, 0.5, 0.999};
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        ctalk_impairment_t how = {.loss = p[seed % 5], .duplicate = p[(seed + seed / 5) % 5], .seed = seed};
        ctki_fault_t fault = bad_way (&how, 3);
        row_t row = judge_row (&fault, FRAMES, STEP_US);
        about (row.lost, FRAMES, how.loss);
        about (row.doubled, FRAMES - row.lost, how.duplicate);
    }
}
END_TEST

/* Probability 0 is never and 1 is always. */
START_TEST (never_and_always)
{
    ctalk_impairment_t lose = {.loss = 1, .duplicate = 1, .seed = 5}, twice = {.duplicate = 1, .seed = 5};
    ctki_fault_t fault = bad_way (&lose, 0);
    ck_assert_int_eq (judge_row (&fault, FRAMES, STEP_US).lost, FRAMES);
    fault = bad_way (&twice, 0);
    ck_assert_int_eq (judge_row (&fault, FRAMES, STEP_US).doubled, FRAMES);
    twice.duplicate = 0;
    twice.delay_ms = 1;
    fault = bad_way (&twice, 0);
    ck_assert_int_eq (judge_row (&fault, FRAMES, STEP_US).on, FRAMES);
}
END_TEST

/* Every frame is delayed by delay_ms, and by 0 to jitter_ms more: both ends are come near to, the mean lies between. */
START_TEST (delay_and_jitter)
{
    ctalk_impairment_t how = {.delay_ms = 5, .jitter_ms = 20, .seed = 11};
    ctki_fault_t fault = bad_way (&how, 1);
    row_t row = judge_row (&fault, 10000, 100000); /* so far apart that none waits for another */
    ck_assert_int_eq (row.on, 10000);
    ck_assert (row.least_us >= 5000 && row.least_us < 5100);
    ck_assert (row.most_us <= 25000 && row.most_us > 24900);
    ck_assert (llabs (row.sum_us / row.on - 15000) < 300);
    how = (ctalk_impairment_t){.delay_ms = 60000, .jitter_ms = 60000, .seed = 11};
    fault = bad_way (&how, 1);
    row = judge_row (&fault, 10000, 1000000);
    ck_assert (row.least_us >= 60000000 && row.most_us <= 120000000);
    how = (ctalk_impairment_t){.delay_ms = 3};
    fault = bad_way (&how, 1);
    row = judge_row (&fault, 1000, STEP_US);
    ck_assert (row.least_us == 3000 && row.most_us == 3000);
}
END_TEST

/* Frames that come faster than the jitter stay in order (judge_row looks): each waits for the one before it, no longer.
 */
START_TEST (in_order)
{
    ctalk_impairment_t how = {.loss = 0.1, .duplicate = 0.3, .delay_ms = 5, .jitter_ms = 20};
    for (how.seed = 0; how.seed < SEEDS; how.seed++) {
        ctki_fault_t fault = bad_way (&how, how.seed);
        row_t row = judge_row (&fault, 5000, 10);
        ck_assert (row.least_us >= 5000 && row.most_us <= 25000);
        ck_assert_int_gt (row.on, 5000);
    }
}
END_TEST

/* Writes down what is drawn for 200 frames; returns how many went on. */
static int story (ctki_fault_t *fault, int64_t dues_us[400])
{
    int n = 0;
    for (int i = 0; i < 200; i++)
        n += ctki_fault_judge (fault, i * 100000, &dues_us[n]);
    return n;
}

/* The same seed and the same way: the same draws, also when they are set again; another seed or another way: others. */
START_TEST (determinism)
{
    static int64_t first[400], second[400];
    ctalk_impairment_t how = {.loss = 0.3, .duplicate = 0.3, .jitter_ms = 30, .seed = 42};
    for (uint64_t salt = 0; salt < SEEDS; salt++) {
        ctki_fault_t fault = bad_way (&how, salt), other = bad_way (&how, salt + 1);
        int n = story (&fault, first);
        ctki_fault_set (&fault, &how, salt);
        ck_assert_int_eq (story (&fault, second), n);
        ck_assert_mem_eq (first, second, (size_t) n * sizeof *first);
        int m = story (&other, second);
        ck_assert (m != n || memcmp (first, second, (size_t) n * sizeof *first) != 0);
        ctalk_impairment_t more = how;
        more.seed = how.seed + 1;
        ctki_fault_set (&other, &more, salt);
        m = story (&other, second);
        ck_assert (m != n || memcmp (first, second, (size_t) n * sizeof *first) != 0);
    }
}
END_TEST

/* Two ways of one seed are independent: they lose the same frame as often as chance does. */
START_TEST (ways_are_independent)
{
    ctalk_impairment_t how = {.loss = 0.5, .seed = 9};
    for (uint64_t salt = 1; salt <= SEEDS; salt++) {
        ctki_fault_t a = bad_way (&how, salt), b = bad_way (&how, salt + 1);
        int both = 0;
        for (int i = 0; i < FRAMES; i++) {
            int64_t due_us[CTKI_FAULT_COPIES];
            bool a_lost = !ctki_fault_judge (&a, i, due_us), b_lost = !ctki_fault_judge (&b, i, due_us);
            both += a_lost && b_lost;
        }
        about (both, FRAMES, 0.25);
    }
}
END_TEST

/* One figure changed leaves the draws for the others as they were: the same frames are lost and doubled. */
START_TEST (draws_stay)
{
    ctalk_impairment_t how = {.loss = 0.3, .duplicate = 0.4, .jitter_ms = 10, .seed = 4}, no_loss = how, later = how;
    no_loss.loss = 0;
    later.jitter_ms = 0;
    later.delay_ms = 100;
    ctki_fault_t a = bad_way (&how, 1), b = bad_way (&no_loss, 1), c = bad_way (&later, 1);
    for (int i = 0; i < 1000; i++) {
        int64_t due_us[CTKI_FAULT_COPIES];
        int of_a = ctki_fault_judge (&a, i, due_us), of_b = ctki_fault_judge (&b, i, due_us);
        ck_assert_int_eq (ctki_fault_judge (&c, i, due_us), of_a);
        ck_assert (of_b > 0 && (of_a == 0 || of_a == of_b));
    }
}
END_TEST

/* A copy has a delay of its own, but is never due before the first. */
START_TEST (copies_are_late)
{
    ctalk_impairment_t how = {.duplicate = 1, .jitter_ms = 20, .seed = 6};
    ctki_fault_t fault = bad_way (&how, 1);
    int later = 0;
    for (int i = 0; i < 1000; i++) {
        int64_t due_us[CTKI_FAULT_COPIES];
        ck_assert_int_eq (ctki_fault_judge (&fault, (int64_t) i * 100000, due_us), 2);
        ck_assert (due_us[1] >= due_us[0]);
        later += due_us[1] > due_us[0];
    }
    about (later, 1000, 0.5);
}
END_TEST

/* A way that is cut lets nothing pass, good or bad; healed, it is what it was, and late frames of before do not hold up
 * new ones. */
START_TEST (cut)
{
    ctki_fault_t fault = {0};
    int64_t due_us[CTKI_FAULT_COPIES];
    ctki_fault_cut (&fault, true);
    ck_assert (ctki_fault_on (&fault));
    ck_assert_int_eq (judge_row (&fault, 1000, STEP_US).lost, 1000);
    ctki_fault_cut (&fault, false);
    ck_assert (!ctki_fault_on (&fault));
    ck_assert_int_eq (judge_row (&fault, 1000, STEP_US).on, 1000);

    ctalk_impairment_t how = {.delay_ms = 60000};
    ctki_fault_set (&fault, &how, 0);
    ck_assert_int_eq (ctki_fault_judge (&fault, 0, due_us), 1);
    ctki_fault_cut (&fault, true);
    ck_assert_int_eq (judge_row (&fault, 1000, STEP_US).lost, 1000);
    ctki_fault_set (&fault, NULL, 0); /* the cut remains */
    ck_assert (ctki_fault_on (&fault));
    ck_assert_int_eq (judge_row (&fault, 1000, STEP_US).lost, 1000);
    how.delay_ms = 1;
    ctki_fault_set (&fault, &how, 0);
    ctki_fault_cut (&fault, false);
    ck_assert (ctki_fault_on (&fault));
    ck_assert_int_eq (ctki_fault_judge (&fault, 1000000, due_us), 1);
    ctki_fault_cut (&fault, true);
    ctki_fault_cut (&fault, false);
    ck_assert_int_eq (ctki_fault_judge (&fault, 500, due_us), 1);
    ck_assert_int_eq (due_us[0], 1500);
}
END_TEST

/* What is in the ranges of clustertalk.h is valid, and what is just outside is not, NaN and infinity among it. */
START_TEST (ranges)
{
    static const double good[] = {0.0, 1e-300, 0.5, 1.0},
                        bad[] = {-1e-9, 1.0 + 1e-9, -1.0, NAN, -NAN, INFINITY, -INFINITY};
    static const int good_ms[] = {0, 1, 60000}, bad_ms[] = {-1, 60001, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < 4; i++) {
        ck_assert (ctki_fault_valid (&(ctalk_impairment_t){.loss = good[i]}));
        ck_assert (ctki_fault_valid (&(ctalk_impairment_t){.duplicate = good[i], .seed = UINT64_MAX}));
    }
    for (size_t i = 0; i < 7; i++) {
        ck_assert (!ctki_fault_valid (&(ctalk_impairment_t){.loss = bad[i]}));
        ck_assert (!ctki_fault_valid (&(ctalk_impairment_t){.duplicate = bad[i]}));
    }
    for (size_t i = 0; i < 3; i++)
        ck_assert (ctki_fault_valid (&(ctalk_impairment_t){.delay_ms = good_ms[i], .jitter_ms = good_ms[2 - i]}));
    for (size_t i = 0; i < 4; i++) {
        ck_assert (!ctki_fault_valid (&(ctalk_impairment_t){.delay_ms = bad_ms[i]}));
        ck_assert (!ctki_fault_valid (&(ctalk_impairment_t){.jitter_ms = bad_ms[i]}));
    }
}
END_TEST

/* ---- the queue */

static uint8_t bytes[65536];

static void fill_bytes (void)
{
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t) (i * 7 + i / 256);
}

static bool push (ctki_delayed_t *queue, int64_t due_us, uint64_t tag, size_t first, size_t second, int count)
{
    const uint8_t *data[] = {bytes, bytes + 1};
    size_t size[] = {first, second};
    return ctki_delayed_push (queue, due_us, tag, data, size, count);
}

static uint64_t pop_tag (ctki_delayed_t *queue, int64_t now_us)
{
    ctki_delayed_frame_t *frame = ctki_delayed_pop (queue, now_us);
    ck_assert_ptr_nonnull (frame);
    uint64_t tag = frame->tag;
    ctki_delayed_free (&frame);
    ck_assert_ptr_null (frame);
    return tag;
}

/* A frame comes out as it went in, when it is due and not before: parts of every size, aligned, empty ones too. */
START_TEST (frame_as_it_was)
{
    static const size_t sizes[] = {0, 1, 7, 8, 9, 4096, 65535};
    ctki_delayed_t queue = {0};
    fill_bytes ();
    ck_assert_int_eq (ctki_delayed_next (&queue), INT64_MAX);
    ck_assert_ptr_null (ctki_delayed_pop (&queue, INT64_MAX));
    for (size_t i = 0; i < 7 * 7 * 2; i++) {
        size_t first = sizes[i % 7], second = sizes[i / 7 % 7];
        int count = i < 49 ? 2 : 1;
        ck_assert (push (&queue, 1000, 77 + i, first, second, count));
        ck_assert_uint_eq (queue.bytes, first + (count == 2 ? second : 0));
        ck_assert_int_eq (ctki_delayed_next (&queue), 1000);
        ck_assert_ptr_null (ctki_delayed_pop (&queue, 999));
        ctki_delayed_frame_t *frame = ctki_delayed_pop (&queue, 1000);
        ck_assert_ptr_nonnull (frame);
        ck_assert_uint_eq (frame->tag, 77 + i);
        ck_assert_int_eq (frame->count, count);
        for (int k = 0; k < count; k++) {
            ck_assert_uint_eq (frame->size[k], k ? second : first);
            ck_assert_uint_eq ((uintptr_t) frame->data[k] % 8, 0);
            ck_assert (memcmp (frame->data[k], bytes + k, frame->size[k]) == 0);
        }
        ctki_delayed_free (&frame);
        ck_assert (queue.count == 0 && queue.bytes == 0);
    }
}
END_TEST

/* Frames come out by their due time, those of one time as they went in, whatever the order of the times. */
START_TEST (by_due_time)
{
    ctki_delayed_t queue = {0};
    enum { MANY = 1000, TIMES = 17 };
    for (uint64_t i = 0; i < MANY; i++)
        ck_assert (push (&queue, (int64_t) (i * 5 % TIMES), i, 1, 0, 1));
    uint64_t before = 0;
    for (int64_t now_us = 0; now_us < TIMES; now_us++) {
        ck_assert_int_eq (ctki_delayed_next (&queue), now_us);
        for (bool first = true; ctki_delayed_next (&queue) == now_us; first = false) {
            uint64_t tag = pop_tag (&queue, now_us);
            ck_assert_uint_eq (tag * 5 % TIMES, (uint64_t) now_us);
            ck_assert (first || tag > before);
            before = tag;
        }
        ck_assert_ptr_null (ctki_delayed_pop (&queue, now_us));
    }
    ck_assert (!queue.head && !queue.tail && queue.count == 0 && queue.bytes == 0);
}
END_TEST

/* Hurried, all frames are due at once, in their order, and later ones come behind them; cleared, the queue is empty and
 * works. */
START_TEST (hurry_and_clear)
{
    ctki_delayed_t queue = {0};
    for (uint64_t i = 0; i < 5; i++)
        ck_assert (push (&queue, (int64_t) (i + 1) * 1000000, i, 10, 20, 2));
    ctki_delayed_hurry (&queue);
    ck_assert (push (&queue, 1, 5, 1, 0, 1));
    for (uint64_t i = 0; i < 6; i++)
        ck_assert_uint_eq (pop_tag (&queue, 1), i);
    for (uint64_t i = 0; i < 5; i++)
        ck_assert (push (&queue, 0, i, 10, 20, 2));
    ctki_delayed_clear (&queue);
    ck_assert (!queue.head && !queue.tail && queue.count == 0 && queue.bytes == 0);
    ctki_delayed_hurry (&queue);
    ctki_delayed_clear (&queue);
    ck_assert (push (&queue, 0, 9, 1, 1, 2));
    ck_assert_uint_eq (pop_tag (&queue, 0), 9);
}
END_TEST

/* Beyond the limit of frames, and beyond that of bytes, a frame is lost; with room again the next one is not. */
START_TEST (limits)
{
    ctki_delayed_t queue = {0};
    for (uint64_t i = 0; i < CTKI_DELAYED_FRAMES; i++)
        ck_assert (push (&queue, 0, i, 0, 0, 1));
    ck_assert (!push (&queue, 0, 0, 0, 0, 1));
    ck_assert_uint_eq (pop_tag (&queue, 0), 0);
    ck_assert (push (&queue, 0, 1, 0, 0, 1));
    ck_assert (!push (&queue, 0, 2, 0, 0, 1));
    ctki_delayed_clear (&queue);

    for (uint64_t i = 0; i < CTKI_DELAYED_BYTES / 65536; i++)
        ck_assert (push (&queue, 0, i, 32768, 32768, 2));
    ck_assert_uint_eq (queue.bytes, CTKI_DELAYED_BYTES);
    ck_assert (!push (&queue, 0, 0, 1, 0, 1));
    ck_assert (push (&queue, 0, 0, 0, 0, 1)); /* nothing fits in nothing */
    ck_assert_uint_eq (pop_tag (&queue, 0), 0);
    ck_assert (!push (&queue, 0, 0, 32768, 32769, 2));
    ck_assert (push (&queue, 0, 0, 32768, 32767, 2));
    ck_assert (push (&queue, 0, 0, 1, 0, 1));
    ck_assert_uint_eq (queue.bytes, CTKI_DELAYED_BYTES);
    ctki_delayed_clear (&queue);
}
END_TEST

/* Without memory a frame is lost, the queue is as it was, and works afterwards. */
START_TEST (no_memory)
{
    ctki_delayed_t queue = {0};
    ck_assert (push (&queue, 5, 1, 100, 100, 2));
    ctki_mem_fail (0, 1);
    bool lost = !push (&queue, 5, 2, 100, 100, 2);
    ctki_mem_fail (-1, 0);
    ck_assert (lost);
    ck_assert (queue.count == 1 && queue.bytes == 200);
    ck_assert (push (&queue, 5, 3, 100, 100, 2));
    ck_assert_uint_eq (pop_tag (&queue, 5), 1);
    ck_assert_uint_eq (pop_tag (&queue, 5), 3);
    ck_assert_ptr_null (ctki_delayed_pop (&queue, 5));
}
END_TEST

Suite *ctki_suite_fault (void)
{
    Suite *suite = suite_create ("fault");
    TCase *tcase = tcase_create ("fault");
    tcase_set_timeout (tcase, ctki_test_ms (30000) / 1000.0);
    tcase_add_test (tcase, good_way);
    tcase_add_test (tcase, loss_and_duplicates);
    tcase_add_test (tcase, never_and_always);
    tcase_add_test (tcase, delay_and_jitter);
    tcase_add_test (tcase, in_order);
    tcase_add_test (tcase, determinism);
    tcase_add_test (tcase, ways_are_independent);
    tcase_add_test (tcase, draws_stay);
    tcase_add_test (tcase, copies_are_late);
    tcase_add_test (tcase, cut);
    tcase_add_test (tcase, ranges);
    tcase_add_test (tcase, frame_as_it_was);
    tcase_add_test (tcase, by_due_time);
    tcase_add_test (tcase, hurry_and_clear);
    tcase_add_test (tcase, limits);
    tcase_add_test (tcase, no_memory);
    suite_add_tcase (suite, tcase);
    return suite;
}
