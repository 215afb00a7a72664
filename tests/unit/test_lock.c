/*
 * test_lock.c - the lock, and the fence that it is built on, with and without
 * the kernel's help.
 */
#include <check.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/lock.h"
#include "tests/support/scale.h"
#include "tests/support/thread.h"

Suite *ctki_suite_lock (void);

enum { TURNS = 200000, ROUNDS = 100000, ROUNDS_MS = 2000, CROWD = 4, SLEEPERS = 3 };

#define NO_MORE UINT_MAX /* rounds */

/* Loop tests: 0 without the light half, 1 with it where the kernel can. */
static void choose (int light)
{
    ctki_fence_init ();
    if (!light)
        atomic_store (&ctki_fence_is_light, false);
}

/* ---- the fence */

typedef struct {
    atomic_uint round; /* the light side follows the heavy one */
    atomic_uint light, heavy;
    unsigned light_saw, heavy_saw;
    atomic_uint done;
} dekker_t;

static bool go_light (void *arg, ctki_trouble_t *trouble)
{
    dekker_t *game = arg;
    (void) trouble;
    for (unsigned i = 1;; i++) {
        unsigned round;
        while ((round = atomic_load (&game->round)) != i && round != NO_MORE) {
        }
        if (round == NO_MORE)
            return true;
        CTKI_STORE_LIGHT (&game->light, i);
        game->light_saw = atomic_load (&game->heavy);
        atomic_store (&game->done, i);
    }
}

/* Of two sides that each write and then read, one at least sees what the other wrote; as many rounds as two seconds
 * have, where two processors are not to be had. */
START_TEST (one_sees_the_other)
{
    dekker_t game = {0};
    ctki_test_thread_t thread;
    choose (_i);
    ctki_test_thread_start (&thread, go_light, &game);
    int64_t until_ms = ctki_test_now_ms () + ROUNDS_MS;
    for (unsigned i = 1; i <= ctki_test_count (ROUNDS) && ctki_test_now_ms () < until_ms; i++) {
        atomic_store (&game.round, i);
        for (unsigned wait = i % 64; wait > 0; wait--)
            (void) atomic_load_explicit (&game.done, memory_order_relaxed); /* they meet at different places */
        atomic_store_explicit (&game.heavy, i, memory_order_release);
        if (atomic_load (&ctki_fence_is_light))
            ctki_fence_heavy ();
        else
            atomic_store (&game.heavy, i);
        game.heavy_saw = atomic_load (&game.light);
        while (atomic_load (&game.done) != i)
            sched_yield ();
        ck_assert_msg (game.light_saw == i || game.heavy_saw == i, "round %u: neither saw the other", i);
    }
    atomic_store (&game.round, NO_MORE);
    ctki_test_thread_join (&thread);
}
END_TEST

/* A child process has the heavy half, too. */
START_TEST (fence_after_fork)
{
    choose (1);
    bool light = atomic_load (&ctki_fence_is_light);
    pid_t pid = fork ();
    ck_assert_int_ge (pid, 0);
    if (pid == 0) {
        ctki_fence_heavy ();
        _exit (atomic_load (&ctki_fence_is_light) == light ? 0 : 1);
    }
    int status = -1;
    ck_assert_int_eq (waitpid (pid, &status, 0), pid);
    ck_assert_int_eq (status, 0);
}
END_TEST

/* ---- the lock */

typedef struct {
    ctki_lock_t lock;
    size_t count; /* under the lock */
    unsigned inside;
    bool linger;
} counted_t;

static bool count (void *arg, ctki_trouble_t *trouble)
{
    counted_t *counted = arg;
    size_t turns = ctki_test_count (counted->linger ? TURNS / 20 : TURNS);
    for (size_t i = 0; i < turns; i++) {
        ctki_lock_take (&counted->lock);
        unsigned others = counted->inside++;
        counted->count++;
        if (counted->linger && i % 8 == 0)
            sched_yield (); /* so that others go to sleep */
        counted->inside--;
        ctki_lock_release (&counted->lock);
        if (others)
            return ctki_trouble_note (trouble, __FILE__, __LINE__, "%u others inside", others);
    }
    return true;
}

/* One thread at a time holds the lock, and nobody who waits for it is forgotten. */
START_TEST (one_at_a_time)
{
    counted_t counted = {.linger = _i >= 2};
    ctki_test_thread_t threads[CROWD];
    choose (_i % 2);
    ctki_lock_init (&counted.lock);
    for (size_t i = 0; i < CROWD; i++)
        ctki_test_thread_start (&threads[i], count, &counted);
    for (size_t i = 0; i < CROWD; i++)
        ctki_test_thread_join (&threads[i]);
    ck_assert_uint_eq (counted.count, CROWD * ctki_test_count (counted.linger ? TURNS / 20 : TURNS));
    ck_assert_uint_eq (atomic_load (&counted.lock.held), 0);
}
END_TEST

static bool take_once (void *arg, ctki_trouble_t *trouble)
{
    counted_t *counted = arg;
    errno = 12345;
    ctki_lock_take (&counted->lock);
    counted->count++;
    ctki_lock_release (&counted->lock);
    return errno == 12345 || ctki_trouble_note (trouble, __FILE__, __LINE__, "errno is %d", errno);
}

/* Threads that sleep at a held lock get it one after the other when it is released once; errno is left alone. */
START_TEST (sleepers)
{
    counted_t counted = {0};
    ctki_test_thread_t threads[SLEEPERS];
    choose (_i);
    ctki_lock_init (&counted.lock);
    ctki_lock_take (&counted.lock);
    for (size_t i = 0; i < SLEEPERS; i++) {
        ctki_test_thread_start (&threads[i], take_once, &counted);
        ctki_test_thread_await_blocked (&threads[i]);
    }
    ck_assert_uint_eq (counted.count, 0);
    errno = 4711;
    ctki_lock_release (&counted.lock);
    ck_assert_int_eq (errno, 4711);
    for (size_t i = 0; i < SLEEPERS; i++)
        ctki_test_thread_join (&threads[i]);
    ck_assert_uint_eq (counted.count, SLEEPERS);
}
END_TEST

Suite *ctki_suite_lock (void)
{
    Suite *suite = suite_create ("lock");
    TCase *tcase = tcase_create ("lock");
    tcase_set_timeout (tcase, ctki_test_ms (60000) / 1000.0);
    tcase_add_loop_test (tcase, one_sees_the_other, 0, 2);
    tcase_add_test (tcase, fence_after_fork);
    tcase_add_loop_test (tcase, one_at_a_time, 0, 4);
    tcase_add_loop_test (tcase, sleepers, 0, 2);
    suite_add_tcase (suite, tcase);
    return suite;
}
