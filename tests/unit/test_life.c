/*
 * test_life.c - one peer's incarnations: who proves which one, in which order
 * they are told, and whose fates belong to which restart.
 */
#include <check.h>

#include "src/life.h"
#include "src/mem.h"

Suite *ctki_suite_life (void);

enum { A = 101, B, C, D };

static ctki_life_t life;

static void set_up (void)
{
    memset (&life, 0, sizeof life);
}

static void tear_down (void)
{
    ctki_life_fini (&life);
    ck_assert_ptr_null (life.first);
    ck_assert_ptr_null (life.last);
}

static ctki_restart_t *fresh_one (void)
{
    ctki_restart_t *fresh = ctki_alloc_zero (sizeof *fresh);
    ck_assert_ptr_nonnull (fresh);
    return fresh;
}

static ctki_obit_t *obit_of (uint64_t inc, uint64_t heir)
{
    ctki_obit_t *obit = ctki_alloc_zero (sizeof *obit);
    ck_assert_ptr_nonnull (obit);
    obit->old_inc = inc;
    obit->new_inc = heir;
    return obit;
}

/* The receiving half opened a session with inc: whether that is news. */
static bool inbound (uint64_t inc)
{
    ctki_restart_t *fresh = fresh_one ();
    const ctki_proof_t proof = {.inc = inc, .from_us = 10, .to_us = 20};
    bool news = ctki_life_inbound (&life, &proof, &fresh);
    ck_assert (!news || memcmp (&life.last->proof, &proof, sizeof proof) == 0); /* the sender is asked with it */
    ck_assert_int_eq (fresh == NULL, news); /* taken exactly if it was needed */
    ctki_restart_destroy (&fresh);
    return news;
}

/* The sender reports: whether that is a proof; *taken: a restart was made of it. */
static bool report (uint32_t epoch, uint64_t inc, uint64_t dead, bool *taken)
{
    ctki_restart_t *fresh = fresh_one ();
    bool proof = ctki_life_report (&life, epoch, inc, dead ? obit_of (dead, inc ? inc : life.inc) : NULL, &fresh);
    *taken = fresh == NULL;
    ctki_restart_destroy (&fresh);
    return proof;
}

/* The next restart that can be told is this one, with the obituaries of these sessions (0: no more); it is told. */
static void tell (uint64_t old_inc, uint64_t inc, uint64_t first_dead, uint64_t second_dead)
{
    const ctki_restart_t *ready = ctki_life_ready (&life);
    ck_assert_ptr_nonnull (ready);
    ck_assert_uint_eq (ready->old_inc, old_inc);
    ck_assert_uint_eq (ready->inc, inc);
    const ctki_obit_t *obit = ready->obits;
    ck_assert_uint_eq (obit ? obit->old_inc : 0, first_dead);
    obit = obit ? obit->next : NULL;
    ck_assert_uint_eq (obit ? obit->old_inc : 0, second_dead);
    ck_assert (!obit || !obit->next);
    ctki_life_drop (&life);
}

static void expect_nothing_ready (void)
{
    ck_assert_ptr_null (ctki_life_ready (&life));
}

/* The first incarnation, the same again, and another one: the first and the last are news, each with a question of its
 * own; what comes meanwhile is held under the number of the last. */
START_TEST (inbound_verdicts)
{
    ck_assert_uint_eq (ctki_life_holds (&life), 0);
    ck_assert (inbound (A));
    ck_assert (!inbound (A));
    ck_assert_uint_eq (ctki_life_holds (&life), 1);
    ck_assert_uint_eq (ctki_life_question (&life)->epoch, 1);
    ck_assert (inbound (B));
    ck_assert_uint_eq (ctki_life_holds (&life), 2);
    ck_assert_uint_eq (life.epoch, 2);
    ck_assert_uint_eq (life.inc, B);
    expect_nothing_ready ();
}
END_TEST

/* A question is asked once, in order; nothing is ready before it is answered, and nobody overtakes. */
START_TEST (questions_in_order)
{
    bool taken;
    inbound (A);
    inbound (B);
    inbound (C);
    for (uint32_t epoch = 1; epoch <= 3; epoch++) {
        ctki_restart_t *question = ctki_life_question (&life);
        ck_assert_uint_eq (question->epoch, epoch);
        question->asked = true;
    }
    ck_assert_ptr_null (ctki_life_question (&life));
    ck_assert (!report (0, A, 0, &taken)); /* of before the first question */
    expect_nothing_ready ();
    ck_assert (!report (1, A, 0, &taken));
    tell (0, A, 0, 0);
    expect_nothing_ready ();
    ck_assert (!report (3, C, 0, &taken)); /* the second one went unanswered by itself */
    tell (A, B, 0, 0);
    tell (B, C, 0, 0);
    expect_nothing_ready ();
    ck_assert_uint_eq (ctki_life_holds (&life), 0);
}
END_TEST

/* A report of the current epoch with the incarnation that is known is no news; with another one it is a proof, and ready
 * at once. */
START_TEST (report_current)
{
    bool taken;
    ck_assert (report (0, A, 0, &taken) && taken); /* the first that was seen */
    tell (0, A, 0, 0);
    ck_assert (!report (0, A, 0, &taken) && !taken);
    ck_assert (!report (0, 0, 0, &taken) && !taken); /* it has no session */
    ck_assert (report (0, B, A, &taken) && taken);
    tell (A, B, A, 0);
    ck_assert (!inbound (B)); /* the inbound proof raises none */
    ck_assert_uint_eq (life.inc, B);
}
END_TEST

/* A report of an older epoch proves nothing: what it says may be older than what asked the question. */
START_TEST (report_stale)
{
    bool taken;
    inbound (A);
    report (1, A, 0, &taken);
    tell (0, A, 0, 0);
    ck_assert (inbound (B));
    ck_assert (!report (1, A, 0, &taken) && !taken); /* it still has the session with A */
    ck_assert_uint_eq (life.inc, B);
    expect_nothing_ready ();
    ck_assert (!report (2, 0, A, &taken) && !taken);
    tell (A, B, A, 0);
}
END_TEST

/* What an old report says of fates belongs to the restart that it was asked for, though it proves nothing. */
START_TEST (stale_obituary)
{
    bool taken;
    inbound (A);
    report (1, A, 0, &taken);
    tell (0, A, 0, 0);
    ck_assert (inbound (B));
    ck_assert (!report (1, B, A, &taken) && !taken); /* it proved B by itself before it saw the question */
    expect_nothing_ready ();
    ck_assert (!report (2, B, 0, &taken) && !taken);
    tell (A, B, A, 0);
}
END_TEST

/* Each obituary goes to the restart that ended its session, however many restarts wait. */
START_TEST (obituaries_of_several)
{
    bool taken;
    inbound (A);
    report (1, A, 0, &taken);
    tell (0, A, 0, 0);
    inbound (B);
    inbound (C);
    ck_assert (!report (2, 0, A, &taken)); /* answers B alone */
    tell (A, B, A, 0);
    expect_nothing_ready ();
    ck_assert (!report (2, B, 0, &taken)); /* it had a session with B, too: old news by now */
    expect_nothing_ready ();
    ck_assert (!report (3, 0, B, &taken));
    tell (B, C, B, 0);
}
END_TEST

/* Of several that wait, the obituary of the one between belongs to the restart that ended it. */
START_TEST (obituary_of_the_one_between)
{
    bool taken;
    inbound (A);
    report (1, A, 0, &taken);
    tell (0, A, 0, 0);
    inbound (B);
    inbound (C);
    ck_assert (!report (3, 0, B, &taken));
    tell (A, B, 0, 0);
    tell (B, C, B, 0);
    inbound (D);
    inbound (A);
    inbound (B);
    ck_assert (!report (6, 0, A, &taken));
    tell (C, D, 0, 0);
    tell (D, A, 0, 0);
    tell (A, B, A, 0);
}
END_TEST

/* One report may answer two questions: the fates belong to the restart that came after that session. */
START_TEST (obituary_of_the_second)
{
    bool taken;
    inbound (A);
    inbound (B);
    ck_assert (!report (2, B, A, &taken));
    tell (0, A, 0, 0);
    tell (A, B, A, 0);
}
END_TEST

/* The sender met the next incarnation before it saw the question about the one that it came after: the fates wait for
 * the restart of that one, however it is proved, and the question's has none. */
START_TEST (obituary_too_early)
{
    bool taken;
    for (int by_question = 0; by_question < 2; by_question++) {
        inbound (A);
        ck_assert (!report (life.epoch - 1, B, A, &taken) && !taken);
        expect_nothing_ready ();
        ck_assert (!report (life.epoch, 0, 0, &taken));
        tell (by_question ? B : 0, A, 0, 0);
        if (by_question)
            ck_assert (inbound (B) && !report (life.epoch, B, 0, &taken));
        else
            ck_assert (report (life.epoch, B, 0, &taken));
        tell (A, B, A, 0);
    }
}
END_TEST

/* Nor is it told with the restart of another one that came before both. */
START_TEST (obituary_of_an_unknown)
{
    bool taken;
    inbound (A);
    ck_assert (!report (0, C, B, &taken)); /* it met B, which never came here, and then C */
    ck_assert (report (1, C, 0, &taken));
    tell (0, A, 0, 0);
    tell (A, C, B, 0);
}
END_TEST

/* What waits is told with the next obituary of that sender at the latest, and before it. */
START_TEST (obituary_that_waits)
{
    bool taken;
    inbound (A);
    inbound (D);
    ck_assert (!report (0, C, B, &taken)); /* it met B and C, which never came here */
    ck_assert (!report (2, D, C, &taken));
    tell (0, A, 0, 0);
    tell (A, D, B, C);
}
END_TEST

/* Two sessions may have ended before one question is answered: both obituaries, the newest last. */
START_TEST (two_obituaries)
{
    bool taken;
    inbound (A);
    report (1, A, 0, &taken);
    tell (0, A, 0, 0);
    inbound (C);
    ck_assert (!report (1, B, A, &taken)); /* it met B, which never came here */
    ck_assert (!report (2, 0, B, &taken));
    tell (A, C, A, B);
}
END_TEST

/* The sender proves a newer one while a question about an older one is open: two restarts, the fates with the first. */
START_TEST (proof_during_a_question)
{
    bool taken;
    inbound (A);
    report (1, A, 0, &taken);
    tell (0, A, 0, 0);
    inbound (B);
    ck_assert (report (2, C, A, &taken) && taken);
    ck_assert_uint_eq (life.inc, C);
    tell (A, B, A, 0);
    tell (B, C, 0, 0);
    expect_nothing_ready ();
}
END_TEST

/* A session that was lost with an incarnation that lives is told all the same, of one and the same (R8). */
START_TEST (lost_and_lives)
{
    bool taken;
    report (0, A, 0, &taken);
    tell (0, A, 0, 0);
    ck_assert (!report (0, A, A, &taken));
    ck_assert (taken);
    tell (A, A, A, 0);
}
END_TEST

/* Where there is nobody to ask, all are answered, those asked already among them. */
START_TEST (nobody_to_ask)
{
    inbound (A);
    ctki_life_question (&life)->asked = true;
    inbound (B);
    ctki_life_answer (&life);
    tell (0, A, 0, 0);
    tell (A, B, 0, 0);
    ck_assert_ptr_null (ctki_life_question (&life));
}
END_TEST

/* Numbers and epochs go round: no restart is held under 0, and an epoch of after the turn is a later one. */
START_TEST (numbers_go_round)
{
    bool taken;
    life.number = life.epoch = UINT32_MAX;
    inbound (A);
    ck_assert_uint_ne (ctki_life_holds (&life), 0);
    ck_assert_uint_eq (life.first->epoch, 0);
    ck_assert (!report (UINT32_MAX, A, 0, &taken));
    expect_nothing_ready ();
    ck_assert (!report (0, A, 0, &taken));
    tell (0, A, 0, 0);
}
END_TEST

/* What was not told is freed at the end, with its obituaries (the leak checkers see to it). */
START_TEST (left_over)
{
    bool taken;
    inbound (A);
    report (0, 0, D, &taken);
    report (0, 0, D, &taken);
    inbound (B);
}
END_TEST

Suite *ctki_suite_life (void)
{
    Suite *suite = suite_create ("life");
    TCase *tcase = tcase_create ("life");
    tcase_add_checked_fixture (tcase, set_up, tear_down);
    tcase_add_test (tcase, inbound_verdicts);
    tcase_add_test (tcase, questions_in_order);
    tcase_add_test (tcase, report_current);
    tcase_add_test (tcase, report_stale);
    tcase_add_test (tcase, stale_obituary);
    tcase_add_test (tcase, obituaries_of_several);
    tcase_add_test (tcase, obituary_of_the_one_between);
    tcase_add_test (tcase, obituary_of_the_second);
    tcase_add_test (tcase, obituary_too_early);
    tcase_add_test (tcase, obituary_of_an_unknown);
    tcase_add_test (tcase, obituary_that_waits);
    tcase_add_test (tcase, two_obituaries);
    tcase_add_test (tcase, proof_during_a_question);
    tcase_add_test (tcase, lost_and_lives);
    tcase_add_test (tcase, nobody_to_ask);
    tcase_add_test (tcase, numbers_go_round);
    tcase_add_test (tcase, left_over);
    suite_add_tcase (suite, tcase);
    return suite;
}
