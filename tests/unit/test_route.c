/*
 * test_route.c - the members of a cluster by pid: listed ones, records, everybody.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>

#include "src/mem.h"
#include "src/route.h"
#include "tests/support/scale.h"

Suite *ctki_suite_route (void);

enum { MANY = 500, FEW = 5 };

static int asked; /* how many endpoints were asked for */

static const char *endpoint_of (void *arg, size_t number)
{
    static char text[64];
    (void) arg;
    asked++;
    if (number == 0)
        return NULL; /* not known */
    snprintf (text, sizeof text, "tcp://10.0.0.1:%zu", number);
    return text;
}

static ctki_route_t route;

/* pids 0, 10, 20 ... under the numbers 0, 1, 2 ... */
static void set_up (size_t members)
{
    asked = 0;
    ctki_route_init (&route, endpoint_of, NULL);
    for (size_t i = 0; i < members; i++)
        ck_assert_int_eq (ctki_route_list (&route, (ctalk_pid_t) i * 10, i), 0);
}

/* A listed member has no record until it is asked for; then it has one, with its endpoint. */
START_TEST (listed)
{
    set_up (FEW);
    ck_assert_uint_eq (ctki_route_count (&route), FEW);
    ck_assert (ctki_route_has (&route, 0) && ctki_route_has (&route, 40) && !ctki_route_has (&route, 41));
    ck_assert_ptr_null (ctki_route_peek (&route, 30));
    ck_assert_int_eq (asked, 0);
    ctki_peer_t *peer = ctki_route_find (&route, 30, 55);
    ck_assert_int_eq (peer->pid, 30);
    ck_assert_str_eq (peer->endpoint, "tcp://10.0.0.1:3");
    ck_assert_int_eq (atomic_load (&peer->state_since_us), 55);
    ck_assert_ptr_eq (ctki_route_find (&route, 30, 66), peer);
    ck_assert_ptr_eq (ctki_route_peek (&route, 30), peer);
    ck_assert_int_eq (asked, 1);
    ck_assert_ptr_null (ctki_route_find (&route, 0, 0)->endpoint);
    ctki_route_fini (&route);
}
END_TEST

/* Who is not a member is not found: EHOSTUNREACH; who was never heard of has no record. */
START_TEST (unknown)
{
    set_up (FEW);
    errno = 0;
    ck_assert_ptr_null (ctki_route_find (&route, 11, 0));
    ck_assert_int_eq (errno, EHOSTUNREACH);
    ck_assert_ptr_null (ctki_route_peek (&route, 11));
    ck_assert_ptr_null (ctki_route_remove (&route, 11));
    ck_assert_uint_eq (ctki_route_count (&route), FEW);
    ctki_route_fini (&route);
}
END_TEST

/* For every capacity up to more than there are: the smallest pids, ascending, and the full count. */
START_TEST (pids)
{
    ctalk_pid_t got[FEW + 3];
    set_up (FEW);
    for (int with = 0; with < 2; with++) { /* with itself, 25, between 20 and 30 */
        ctalk_pid_t expected[] = {0, 10, 20, 25, 30, 40};
        if (!with)
            memmove (&expected[3], &expected[4], 2 * sizeof expected[0]);
        size_t there = (size_t) FEW + (size_t) with;
        ck_assert_uint_eq (ctki_route_pids (&route, with ? 25 : -1, NULL, 0), there);
        for (size_t capacity = 1; capacity <= FEW + 2; capacity++) {
            memset (got, 0xff, sizeof got);
            ck_assert_uint_eq (ctki_route_pids (&route, with ? 25 : -1, got, capacity), there);
            for (size_t i = 0; i < FEW + 3; i++)
                ck_assert_int_eq (got[i], i < CTKI_MIN (capacity, there) ? expected[i] : -1);
        }
    }
    ctki_route_fini (&route);
}
END_TEST

/* The same with many members in no order: each capacity gives the smallest ones. */
START_TEST (pids_of_many)
{
    static ctalk_pid_t got[MANY];
    ctki_route_init (&route, endpoint_of, NULL);
    for (int i = 0; i < MANY; i++) /* 0, 3, 6 ... in an order that jumps about */
        ck_assert_int_eq (ctki_route_list (&route, i * 7 % MANY * 3, 1), 0);
    for (size_t capacity = 1; capacity <= MANY; capacity += 1 + capacity / 4) {
        ck_assert_uint_eq (ctki_route_pids (&route, -1, got, capacity), MANY);
        for (size_t i = 0; i < capacity; i++)
            ck_assert_int_eq (got[i], (int) i * 3);
    }
    ctki_route_fini (&route);
}
END_TEST

/* Everybody is one list, made once, of everybody's records; adding, removing and listing make it anew. */
START_TEST (everybody)
{
    set_up (FEW);
    ctki_crowd_t *all = ctki_route_everybody (&route, 0);
    ck_assert_uint_eq (all->count, FEW);
    for (size_t i = 0; i < FEW; i++)
        ck_assert_ptr_eq (all->peer[i], ctki_route_peek (&route, all->peer[i]->pid));
    ck_assert_ptr_eq (ctki_route_everybody (&route, 0), all);
    ctki_crowd_hold (all);
    ck_assert_int_eq (ctki_route_add (&route, ctki_peer_new (5, NULL, 0)), 0);
    ctki_crowd_t *more = ctki_route_everybody (&route, 0);
    ck_assert_uint_eq (more->count, FEW + 1);
    ck_assert_int_eq (ctki_route_list (&route, 6, 1), 0);
    ck_assert_uint_eq (ctki_route_everybody (&route, 0)->count, FEW + 2);
    ctki_peer_release (ctki_route_remove (&route, 5));
    ck_assert_uint_eq (ctki_route_everybody (&route, 0)->count, FEW + 1);
    ck_assert_uint_eq (all->count, FEW); /* who holds an old list has it as it was */
    ctki_crowd_release (all);
    ctki_route_fini (&route);
}
END_TEST

static void count (ctki_peer_t *peer, void *arg)
{
    *(int *) arg += peer->pid;
}

/* Each member leaves once: with its record if it had one; nothing of it is found again. */
START_TEST (removed)
{
    int sum = 0;
    set_up (FEW);
    ctki_peer_t *peer = ctki_route_find (&route, 30, 0);
    (void) ctki_route_find (&route, 10, 0);
    ctki_route_each (&route, count, &sum);
    ck_assert_int_eq (sum, 40);
    ck_assert_ptr_eq (ctki_route_remove (&route, 30), peer);
    ck_assert_ptr_null (ctki_route_remove (&route, 30));
    ck_assert_ptr_null (ctki_route_remove (&route, 20)); /* only listed */
    ck_assert (!ctki_route_has (&route, 20) && !ctki_route_has (&route, 30));
    ck_assert_uint_eq (ctki_route_count (&route), FEW - 2);
    ck_assert_uint_eq (atomic_load (&peer->refs), 1);
    ctki_peer_release (peer);
    ctki_route_fini (&route);
}
END_TEST

/* Whatever allocation fails: ENOMEM, the members are as they were, and it works afterwards. */
START_TEST (no_memory)
{
    bool failed = true;
    for (long after = 0; failed; after++) {
        ck_assert_int_lt (after, 100);
        set_up (FEW);
        ctki_peer_t *peer = ctki_peer_new (5, NULL, 0);
        ctki_mem_fail (after, 1);
        errno = 0;
        bool found = ctki_route_find (&route, 30, 0) != NULL;
        bool all = found && ctki_route_everybody (&route, 0) != NULL;
        bool added = all && ctki_route_add (&route, peer) == 0;
        bool listed_more = added && !ctki_route_list (&route, 6, 1) && !ctki_route_list (&route, 7, 1);
        int code = errno;
        ctki_mem_fail (-1, 0);
        failed = !listed_more;
        ck_assert (!failed || code == ENOMEM);
        if (!added) {
            ck_assert_uint_eq (ctki_route_count (&route), FEW);
            ctki_peer_release (peer);
        }
        ck_assert_int_eq (ctki_route_find (&route, 30, 0)->pid, 30);
        ck_assert_uint_eq (ctki_route_everybody (&route, 0)->count, ctki_route_count (&route));
        ctki_route_fini (&route);
    }
}
END_TEST

Suite *ctki_suite_route (void)
{
    Suite *suite = suite_create ("route");
    TCase *tcase = tcase_create ("route");
    tcase_set_timeout (tcase, ctki_test_ms (30000) / 1000.0);
    tcase_add_test (tcase, listed);
    tcase_add_test (tcase, unknown);
    tcase_add_test (tcase, pids);
    tcase_add_test (tcase, pids_of_many);
    tcase_add_test (tcase, everybody);
    tcase_add_test (tcase, removed);
    tcase_add_test (tcase, no_memory);
    suite_add_tcase (suite, tcase);
    return suite;
}
