/*
 * test_linear.c - that the checker of histories says no to those that are not
 * linearizable, and yes to those that are.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/kvstore/linear.h"
#include "tests/kvstore/suites.h"
#include "tests/support/support.h"

#define GET(what, from, to)                                                                                            \
    {                                                                                                                  \
        .kind = CTKI_GET, .value = what, .called = from, .returned = to                                                \
    }
#define PUT(what, from, to)                                                                                            \
    {                                                                                                                  \
        .kind = CTKI_PUT, .value = what, .called = from, .returned = to                                                \
    }
#define CAS(old, new, from, to)                                                                                        \
    {                                                                                                                  \
        .kind = CTKI_CAS, .done = true, .expected = old, .value = new, .called = from, .returned = to                  \
    }
#define CAS_NOT(old, new, saw, from, to)                                                                               \
    {                                                                                                                  \
        .kind = CTKI_CAS, .expected = old, .value = new, .seen = saw, .called = from, .returned = to                   \
    }

#define IS(verdict, ...)                                                                                               \
    do {                                                                                                               \
        ctki_op_t ops_[] = {__VA_ARGS__};                                                                              \
        char why_[256] = "it is";                                                                                      \
        ck_assert_msg (ctki_linearizable (ops_, sizeof ops_ / sizeof *ops_, why_, sizeof why_) == (verdict), "%s",     \
                       why_);                                                                                          \
    } while (0)
#define ACCEPTED(...) IS (true, __VA_ARGS__)
#define REFUSED(...) IS (false, __VA_ARGS__)

/* Goal: what happened one after the other is accepted, each result that does not fit refused. */
START_TEST (sequential)
{
    ACCEPTED (GET (0, 1, 2), PUT (1, 3, 4), GET (1, 5, 6), CAS (1, 2, 7, 8), GET (2, 9, 10), CAS_NOT (1, 3, 2, 11, 12),
              GET (2, 13, 14));
    ACCEPTED (CAS (0, 5, 1, 2), CAS_NOT (0, 6, 5, 3, 4));
    REFUSED (GET (1, 1, 2));                                     /* nobody put it */
    REFUSED (PUT (1, 1, 2), GET (0, 3, 4));                      /* lost */
    REFUSED (PUT (1, 1, 2), PUT (2, 3, 4), GET (1, 5, 6));       /* stale */
    REFUSED (PUT (1, 1, 2), CAS (2, 3, 3, 4));                   /* done in spite of another value */
    REFUSED (PUT (1, 1, 2), CAS_NOT (1, 3, 1, 3, 4));            /* not done in spite of the value */
    REFUSED (PUT (1, 1, 2), CAS_NOT (2, 3, 4, 3, 4));            /* sees what is not there */
    REFUSED (PUT (1, 1, 2), CAS (1, 2, 3, 4), GET (1, 5, 6));    /* forgotten */
    REFUSED (PUT (1, 1, 2), CAS (1, 2, 3, 4), CAS (1, 3, 5, 6)); /* both had the same lock */
}
END_TEST

/* Goal: what overlaps may have happened in any order, but in one. */
START_TEST (concurrent)
{
    ACCEPTED (PUT (1, 1, 10), GET (0, 2, 3), GET (1, 4, 5));
    ACCEPTED (PUT (1, 1, 10), GET (1, 2, 3), GET (1, 4, 5));
    REFUSED (PUT (1, 1, 10), GET (1, 2, 3), GET (0, 4, 5)); /* it was there, and then not yet */
    ACCEPTED (PUT (1, 1, 10), PUT (2, 1, 10), GET (1, 11, 12));
    ACCEPTED (PUT (1, 1, 10), PUT (2, 1, 10), GET (2, 11, 12));
    REFUSED (PUT (1, 1, 10), PUT (2, 1, 10), GET (1, 11, 12), GET (2, 13, 14));
    REFUSED (PUT (1, 1, 10), PUT (2, 1, 10), GET (1, 2, 3), GET (2, 4, 5), GET (1, 6, 7));
    REFUSED (PUT (1, 1, 2), CAS (1, 2, 3, 10), CAS (1, 3, 3, 10));
    ACCEPTED (PUT (1, 1, 2), CAS (1, 2, 3, 10), CAS (2, 3, 3, 10), GET (3, 11, 12));
    ACCEPTED (PUT (1, 1, 2), GET (0, 2, 3)); /* at the same time: either may be first */
}
END_TEST

/* Goal: what was not answered may have happened whenever it pleases after its call, or never, but not twice. */
START_TEST (unanswered)
{
    ACCEPTED (PUT (1, 1, CTKI_NEVER), GET (0, 2, 3), GET (1, 4, 5));
    ACCEPTED (PUT (1, 1, CTKI_NEVER), GET (0, 2, 3), GET (0, 4, 5));
    REFUSED (PUT (1, 4, CTKI_NEVER), GET (1, 2, 3)); /* before it was called */
    REFUSED (PUT (1, 1, CTKI_NEVER), PUT (2, 2, 3), GET (1, 4, 5), PUT (3, 6, 7), GET (1, 8, 9));
    ACCEPTED (PUT (1, 1, CTKI_NEVER), PUT (2, 2, 3), GET (2, 4, 5), GET (1, 6, 7));
    ACCEPTED (PUT (1, 1, 2), CAS (1, 2, 3, CTKI_NEVER), GET (1, 4, 5), GET (2, 6, 7));
    REFUSED (PUT (1, 1, 2), CAS (3, 2, 3, CTKI_NEVER), GET (2, 6, 7));
    ACCEPTED (PUT (1, 1, CTKI_NEVER), CAS (1, 2, 2, CTKI_NEVER), GET (2, 3, 4));
    ACCEPTED (GET (7, 1, CTKI_NEVER), PUT (1, 2, 3));
    ACCEPTED (PUT (1, 1, CTKI_NEVER), CAS_NOT (5, 6, 1, 2, 3));
    REFUSED (PUT (1, 1, CTKI_NEVER), CAS_NOT (5, 6, 0, 2, 3), GET (1, 4, 5), GET (0, 6, 7));
}
END_TEST

/* Goal: keys are apart, and the one that is wrong is named. */
START_TEST (keys)
{
    ctki_op_t ops[] = {PUT (1, 1, 2), GET (0, 3, 4), PUT (2, 1, 2), GET (2, 3, 4)};
    char why[256] = "";
    ops[1].key = 1;
    ops[2].key = ops[3].key = 2;
    ck_assert (ctki_linearizable (ops, 4, NULL, 0));
    ops[1].key = ops[0].key;
    ops[1].value = 9;
    ck_assert (!ctki_linearizable (ops, 4, why, sizeof why));
    ck_assert_msg (strstr (why, "key 0: get of 9") == why, "%s", why);
}
END_TEST

/* ---- against all orders, one after the other */

enum { SMALL = 6 };

static uint64_t random_state = 1;

static unsigned draw (unsigned below)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned) (random_state >> 33) % below;
}

/* What the operation does, written anew; false: it cannot be so. */
static bool step (const ctki_op_t *op, uint64_t *value)
{
    uint64_t now = *value;
    switch (op->kind) {
    case CTKI_GET:
        return op->returned == CTKI_NEVER || now == op->value;
    case CTKI_PUT:
        *value = op->value;
        return true;
    case CTKI_CAS:
        if (now == op->expected)
            *value = op->value;
        if (op->returned == CTKI_NEVER)
            return true;
        return op->done ? now == op->expected : now != op->expected && now == op->seen;
    }
    return false;
}

/* Whether the operations of the set can be put behind each other, any of those without an answer left out. */
static bool try_all (const ctki_op_t *ops, size_t count, unsigned left, uint64_t value)
{
    bool any = false;
    for (size_t i = 0; i < count; i++)
        any = any || ((left >> i & 1) && ops[i].returned != CTKI_NEVER);
    if (!any)
        return true;
    for (size_t i = 0; i < count; i++) {
        bool first = left >> i & 1;
        for (size_t k = 0; k < count && first; k++)
            first = !((left >> k & 1) && k != i && ops[k].returned < ops[i].called);
        uint64_t after = value;
        if (first && step (&ops[i], &after) && try_all (ops, count, left & ~(1u << i), after))
            return true;
    }
    return false;
}

static ctki_op_t draw_op (void)
{
    ctki_op_t op = {.kind = (ctki_op_kind_t) draw (3), .done = draw (2)};
    op.value = draw (3) + (op.kind != CTKI_GET);
    op.expected = draw (3);
    op.seen = draw (3);
    op.called = draw (12);
    op.returned = draw (5) == 0 ? CTKI_NEVER : op.called + 1 + draw (6);
    return op;
}

/* Goal: on random small histories the checker says what trying all orders says. */
START_TEST (all_orders)
{
    size_t rounds = ctki_test_count (200000), yes = 0;
    for (size_t round = 0; round < rounds; round++) {
        ctki_op_t ops[SMALL];
        size_t count = 1 + draw (SMALL);
        for (size_t i = 0; i < count; i++)
            ops[i] = draw_op ();
        bool right = try_all (ops, count, (1u << count) - 1, 0);
        if (ctki_linearizable (ops, count, NULL, 0) != right) /* no ck_assert: it writes to a file each time */
            ck_abort_msg ("round %zu", round);
        yes += right;
    }
    ck_assert_uint_gt (yes, rounds / 50); /* both verdicts are tried */
    ck_assert_uint_gt (rounds - yes, rounds / 50);
    ctki_test_figure ("all_orders", "%zu histories, %zu of them linearizable", rounds, yes);
}
END_TEST

/* Goal: a long history of many clients is looked at in time, and one wrong answer in it is found. */
START_TEST (long_history)
{
    enum { CLIENTS = 8 };
    size_t count = ctki_test_count (8000) + 100;
    ctki_op_t *ops = calloc (2 * count, sizeof *ops);
    ck_assert_ptr_nonnull (ops);
    int64_t free_at[CLIENTS] = {0}, now = 0;
    uint64_t value = 0;
    for (size_t i = 0; i < count; i++) { /* happens at `now', is called before and returns after */
        unsigned client = draw (CLIENTS);
        ctki_op_t *op = &ops[i];
        op->kind = draw (2) ? CTKI_GET : CTKI_PUT;
        now = CTKI_MAX (now, free_at[client]) + 10;
        op->called = CTKI_MAX (free_at[client], now - draw (100));
        op->returned = now + draw (100);
        free_at[client] = op->returned + 1;
        if (op->kind == CTKI_PUT)
            value = i + 1;
        op->value = value;
        if (op->kind == CTKI_PUT && draw (20) == 0)
            op->returned = CTKI_NEVER;
    }
    memcpy (ops + count, ops, count * sizeof *ops);
    ck_assert (ctki_linearizable (ops + count, count, NULL, 0));
    size_t wrong = count - 1;
    while (ops[wrong].kind != CTKI_GET || ops[wrong].value < 20)
        wrong--;
    ops[wrong].value = ops[0].kind == CTKI_PUT ? 1 : 0; /* as it was at the beginning */
    ck_assert (!ctki_linearizable (ops, count, NULL, 0));
    free (ops);
}
END_TEST

Suite *ctki_suite_kv_linear (void)
{
    Suite *suite = suite_create ("linear");
    TCase *tcase = tcase_create ("linear");
    tcase_set_timeout (tcase, ctki_test_ms (120 * 1000) / 1000.0);
    tcase_add_test (tcase, sequential);
    tcase_add_test (tcase, concurrent);
    tcase_add_test (tcase, unanswered);
    tcase_add_test (tcase, keys);
    tcase_add_test (tcase, all_orders);
    tcase_add_test (tcase, long_history);
    suite_add_tcase (suite, tcase);
    return suite;
}
