/*
 * thread.c - threads of a test. What may go wrong: a thread that never ends; then
 * the test fails at its deadline and its process with it.
 */
#include "tests/support/thread.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/scale.h"

enum { STACK_BYTES = 256 * 1024, BLOCKED_LOOKS = 10 };

static void *body (void *arg)
{
    ctki_test_thread_t *thread = arg;
    atomic_store (&thread->tid, (int) gettid ());
    if (!thread->run (thread->arg, &thread->trouble))
        (void) ctki_trouble_note (&thread->trouble, __FILE__, __LINE__, "the thread gave up");
    atomic_store (&thread->done, true);
    return NULL;
}

void ctki_test_thread_start (ctki_test_thread_t *thread, bool (*run) (void *arg, ctki_trouble_t *trouble), void *arg)
{
    memset (thread, 0, sizeof *thread);
    thread->run = run;
    thread->arg = arg;
    pthread_attr_t attributes;
    ck_assert_int_eq (pthread_attr_init (&attributes), 0);
    ck_assert_int_eq (pthread_attr_setstacksize (&attributes, STACK_BYTES), 0);
    ck_assert_int_eq (pthread_create (&thread->thread, &attributes, body, thread), 0);
    ck_assert_int_eq (pthread_attr_destroy (&attributes), 0);
}

void ctki_test_thread_join_within (ctki_test_thread_t *thread, int ms)
{
    struct timespec end;
    ck_assert_int_eq (clock_gettime (CLOCK_REALTIME, &end), 0);
    end.tv_sec += ms / 1000;
    end.tv_nsec += (long) (ms % 1000) * 1000000L;
    if (end.tv_nsec >= 1000000000L) {
        end.tv_nsec -= 1000000000L;
        end.tv_sec++;
    }
    int rc = pthread_timedjoin_np (thread->thread, NULL, &end);
    ck_assert_msg (rc == 0, "a thread did not end within %d ms (%d)", ms, rc);
    ck_assert_msg (!thread->trouble.text[0], "%s", thread->trouble.text);
}

void ctki_test_thread_join (ctki_test_thread_t *thread)
{
    ctki_test_thread_join_within (thread, 6 * ctki_test_long_ms ());
}

bool ctki_test_thread_end (ctki_test_thread_t *thread, ctki_trouble_t *trouble)
{
    CTKI_EXPECT_EQUAL (trouble, pthread_join (thread->thread, NULL), 0);
    if (thread->trouble.text[0])
        return ctki_trouble_note (trouble, __FILE__, __LINE__, "%.200s", thread->trouble.text);
    return true;
}

/* 'S' while the thread sleeps; 0 when it is not there. */
static char state_of (ctki_test_thread_t *thread)
{
    char path[64], line[512];
    (void) snprintf (path, sizeof path, "/proc/self/task/%d/stat", atomic_load (&thread->tid));
    FILE *file = fopen (path, "re");
    if (!file)
        return 0;
    const char *end = fgets (line, sizeof line, file) ? strrchr (line, ')') : NULL;
    char state = end && end[1] ? end[2] : 0;
    (void) fclose (file);
    return state;
}

static bool sleeps (void *arg)
{
    for (int look = 0; look < BLOCKED_LOOKS; look++) {
        if (state_of (arg) != 'S')
            return false;
        (void) poll (NULL, 0, 1);
    }
    return true;
}

void ctki_test_thread_await_blocked (ctki_test_thread_t *thread)
{
    ck_assert_msg (ctki_test_until (sleeps, thread, ctki_test_long_ms ()), "the thread never blocked (%s)",
                   thread->trouble.text);
    ck_assert_msg (!atomic_load (&thread->done), "the call that was to block returned (%s)", thread->trouble.text);
}

typedef struct {
    ctki_test_thread_t *thread;
    int signal_number;
} pester_t;

static bool done_or_pester (void *arg)
{
    pester_t *pester = arg;
    if (atomic_load (&pester->thread->done))
        return true;
    (void) pthread_kill (pester->thread->thread, pester->signal_number);
    return false;
}

void ctki_test_thread_pester (ctki_test_thread_t *thread, int signal_number)
{
    pester_t pester = {thread, signal_number};
    ck_assert_msg (ctki_test_until (done_or_pester, &pester, ctki_test_long_ms ()), "no signal ended the call");
}

/* ---- lateness */

static bool watch (void *arg, ctki_trouble_t *trouble)
{
    ctki_lateness_t *lateness = arg;
    (void) trouble;
    while (!atomic_load (&lateness->stop)) {
        int64_t due_ms = ctki_test_now_ms () + 1;
        atomic_store (&lateness->runs, true);
        (void) poll (NULL, 0, 1);
        lateness->worst_ms = CTKI_MAX (lateness->worst_ms, ctki_test_now_ms () - due_ms);
    }
    return true;
}

static bool is_true (void *arg)
{
    return atomic_load ((const atomic_bool *) arg);
}

/* For how long some thread of this machine was ready and had no processor, since it started; 0: not known. */
static int64_t starved_ms (void)
{
    long long total_us = 0;
    FILE *file = fopen ("/proc/pressure/cpu", "re");
    if (!file)
        return 0;
    if (fscanf (file, "some avg10=%*s avg60=%*s avg300=%*s total=%lld", &total_us) != 1)
        total_us = 0;
    (void) fclose (file);
    return total_us / 1000;
}

void ctki_lateness_start (ctki_lateness_t *lateness)
{
    lateness->starved_ms = starved_ms ();
    atomic_store (&lateness->stop, false);
    atomic_store (&lateness->runs, false);
    lateness->worst_ms = 0;
    ctki_test_thread_start (&lateness->thread, watch, lateness);
    (void) ctki_test_until (is_true, &lateness->runs, ctki_test_long_ms ());
}

int64_t ctki_lateness_stop (ctki_lateness_t *lateness)
{
    atomic_store (&lateness->stop, true);
    ctki_test_thread_join (&lateness->thread);
    return CTKI_MAX (CTKI_LATENESS_HANDOVERS * lateness->worst_ms, starved_ms () - lateness->starved_ms);
}
