/*
 * test_calls.c - calls under way: who closes waits for all of them, whoever
 * makes them.
 */
#include <check.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/calls.h"
#include "tests/support/scale.h"
#include "tests/support/thread.h"

Suite *ctki_suite_calls (void);

enum { CLOSINGS = 2000, CLOSINGS_MS = 2000, CROWD = 3 };

/* Loop tests: 0 without the light half of the fence, 1 with it where the kernel can. */
static void choose (int light)
{
    ctki_fence_init ();
    if (!light)
        atomic_store (&ctki_fence_is_light, false);
}

/* Calls enter until they are refused; with none under way nobody is waited for. */
START_TEST (refused)
{
    ctki_calls_t calls = {0};
    for (int i = 0; i < 3; i++) {
        ck_assert (ctki_calls_enter (&calls));
        ctki_calls_leave (&calls);
    }
    ctki_calls_refuse (&calls);
    ck_assert (!ctki_calls_enter (&calls));
    ctki_calls_await (&calls);
    ck_assert_uint_eq (atomic_load (&calls.counted), 0);
}
END_TEST

static bool await_calls (void *arg, ctki_trouble_t *trouble)
{
    (void) trouble;
    ctki_calls_await (arg);
    return true;
}

/* Closing waits for a call, for calls within it, and for the outer one after
 * those within have left; not for one on something else. */
START_TEST (nested)
{
    ctki_calls_t calls = {0}, other = {0};
    ctki_test_thread_t thread;
    ck_assert (ctki_calls_enter (_i == 0 ? &calls : &other)); /* the outermost one may be either */
    ck_assert (ctki_calls_enter (&calls));
    ck_assert (ctki_calls_enter (&other));
    ctki_calls_refuse (&calls);
    ctki_test_thread_start (&thread, await_calls, &calls);
    ctki_test_thread_await_blocked (&thread);
    ck_assert (!ctki_calls_enter (&calls));
    ctki_calls_leave (&other);
    ctki_test_thread_await_blocked (&thread);
    ctki_calls_leave (&calls);
    if (_i == 0) {
        ctki_test_thread_await_blocked (&thread);
        ctki_calls_leave (&calls);
    }
    ctki_test_thread_join (&thread);
    if (_i == 1)
        ctki_calls_leave (&other);
    ck_assert_uint_eq (atomic_load (&calls.counted), 0);
    ck_assert_uint_eq (atomic_load (&other.counted), 0);
    ctki_calls_await (&other);
}
END_TEST

/* Something that is made and closed again and again while threads call it. */
typedef struct {
    ctki_calls_t calls;
    bool alive; /* written only while no call is under way */
    atomic_bool over;
    atomic_size_t made;
} thing_t;

static bool call_it (void *arg, ctki_trouble_t *trouble)
{
    thing_t *thing = arg;
    while (!atomic_load_explicit (&thing->over, memory_order_relaxed)) {
        if (!ctki_calls_enter (&thing->calls)) {
            sched_yield ();
            continue;
        }
        bool alive = thing->alive;
        ctki_calls_leave (&thing->calls);
        if (!alive)
            return ctki_trouble_note (trouble, __FILE__, __LINE__, "a call after it was closed");
        atomic_fetch_add_explicit (&thing->made, 1, memory_order_relaxed);
    }
    return true;
}

/* After the wait no call is under way, however many threads make them; every wait ends. */
START_TEST (no_call_after_close)
{
    thing_t thing = {.alive = true};
    ctki_test_thread_t threads[CROWD];
    choose (_i);
    for (size_t i = 0; i < CROWD; i++)
        ctki_test_thread_start (&threads[i], call_it, &thing);
    int64_t until_ms = ctki_test_now_ms () + CLOSINGS_MS; /* on a busy machine each may cost several time slices */
    for (size_t i = 0; i < ctki_test_count (CLOSINGS) && ctki_test_now_ms () < until_ms; i++) {
        size_t before = atomic_load (&thing.made);
        for (int turn = 0; turn < 1000 && atomic_load (&thing.made) == before; turn++)
            sched_yield ();
        ctki_calls_refuse (&thing.calls);
        ctki_calls_await (&thing.calls);
        thing.alive = false;
        for (volatile int pause = 0; pause < 500; pause++) {
        }
        thing.alive = true;
        atomic_store (&thing.calls.closing, false);
    }
    atomic_store (&thing.over, true);
    for (size_t i = 0; i < CROWD; i++)
        ctki_test_thread_join (&threads[i]);
    ck_assert_uint_gt (atomic_load (&thing.made), 0);
    ck_assert_uint_eq (atomic_load (&thing.calls.counted), 0);
}
END_TEST

static bool call_once (void *arg, ctki_trouble_t *trouble)
{
    (void) trouble;
    bool in = ctki_calls_enter (arg);
    if (in)
        ctki_calls_leave (arg);
    return in;
}

/* Threads that have ended are not looked at: their records are gone. */
START_TEST (ended_threads)
{
    ctki_calls_t calls = {0};
    for (int i = 0; i < 20; i++) {
        ctki_test_thread_t threads[CROWD];
        for (size_t k = 0; k < CROWD; k++)
            ctki_test_thread_start (&threads[k], call_once, &calls);
        for (size_t k = 0; k < CROWD; k++)
            ctki_test_thread_join (&threads[k]);
    }
    ctki_calls_refuse (&calls);
    ctki_calls_await (&calls);
}
END_TEST

static pthread_key_t late_key;

static void call_late (void *arg)
{
    pthread_setspecific (late_key, arg); /* again and again, after the record's own destructor, too */
    if (ctki_calls_enter (arg))
        ctki_calls_leave (arg);
}

static bool call_at_the_end (void *arg, ctki_trouble_t *trouble)
{
    return pthread_setspecific (late_key, arg) == 0 && call_once (arg, trouble);
}

/* A destructor of a thread's may call: those calls are counted, and nothing of the thread is left. */
START_TEST (calls_of_an_ending_thread)
{
    ctki_calls_t calls = {0};
    ctki_test_thread_t thread;
    ck_assert (ctki_calls_enter (&calls)); /* first, so that the record's destructor runs before the other */
    ctki_calls_leave (&calls);
    ck_assert_int_eq (pthread_key_create (&late_key, call_late), 0);
    for (int i = 0; i < 20; i++) { /* later ones have the memory of earlier ones */
        ctki_test_thread_start (&thread, call_at_the_end, &calls);
        ctki_test_thread_join (&thread);
    }
    ck_assert_uint_eq (atomic_load (&calls.counted), 0);
    ctki_calls_refuse (&calls);
    ctki_calls_await (&calls);
    ck_assert_int_eq (pthread_key_delete (late_key), 0);
}
END_TEST

static bool stay_in (void *arg, ctki_trouble_t *trouble)
{
    thing_t *thing = arg;
    (void) trouble;
    bool in = ctki_calls_enter (&thing->calls);
    atomic_store (&thing->made, 1);
    while (!atomic_load (&thing->over))
        sched_yield ();
    ctki_calls_leave (&thing->calls);
    return in;
}

/* A child process does not wait for calls of threads that it does not have. */
START_TEST (after_fork)
{
    thing_t thing = {0};
    ctki_test_thread_t thread;
    ck_assert (ctki_calls_enter (&thing.calls));
    ctki_calls_leave (&thing.calls);
    ctki_test_thread_start (&thread, stay_in, &thing);
    while (!atomic_load (&thing.made))
        sched_yield ();
    pid_t pid = fork ();
    ck_assert_int_ge (pid, 0);
    if (pid == 0) {
        alarm ((unsigned) ctki_test_long_ms () / 1000 + 1); /* a wait without end */
        bool in = ctki_calls_enter (&thing.calls);
        ctki_calls_leave (&thing.calls);
        ctki_calls_refuse (&thing.calls);
        ctki_calls_await (&thing.calls);
        _exit (in ? 0 : 1);
    }
    int status = -1;
    ck_assert_int_eq (waitpid (pid, &status, 0), pid);
    atomic_store (&thing.over, true);
    ctki_test_thread_join (&thread);
    ck_assert_int_eq (status, 0);
}
END_TEST

Suite *ctki_suite_calls (void)
{
    Suite *suite = suite_create ("calls");
    TCase *tcase = tcase_create ("calls");
    tcase_set_timeout (tcase, ctki_test_ms (60000) / 1000.0);
    tcase_add_test (tcase, refused);
    tcase_add_loop_test (tcase, nested, 0, 2);
    tcase_add_loop_test (tcase, no_call_after_close, 0, 2);
    tcase_add_test (tcase, ended_threads);
    tcase_add_test (tcase, calls_of_an_ending_thread);
    tcase_add_test (tcase, after_fork);
    suite_add_tcase (suite, tcase);
    return suite;
}
