/*
 * sys.c - time, random numbers, threads and waiting on Linux.
 */
#include "src/sys.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "src/countdown.h"

int64_t ctki_now_us (void)
{
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * CTKI_S + now.tv_nsec / 1000;
}

int64_t ctki_deadline_us (int timeout_ms)
{
    return timeout_ms < 0 ? CTKI_FOREVER : ctki_now_us () + timeout_ms * CTKI_MS;
}

int ctki_left_ms (int timeout_ms, int64_t deadline_us)
{
    if (timeout_ms <= 0)
        return timeout_ms;
    int64_t left_us = CTKI_MAX (deadline_us - ctki_now_us (), (int64_t) 0);
    return (int) CTKI_MIN ((left_us + CTKI_MS - 1) / CTKI_MS, (int64_t) timeout_ms);
}

void ctki_random (void *out, size_t size)
{
    uint8_t *p = out;
    while (size > 0) {
        ssize_t got = getrandom (p, size, 0);
        CTKI_ASSERT (got > 0 || errno == EINTR);
        if (got > 0) {
            p += got;
            size -= (size_t) got;
        }
    }
}

uint64_t ctki_random64 (void)
{
    uint64_t value = 0;
    while (value == 0)
        ctki_random (&value, sizeof value);
    return value;
}

/* ---- threads */

typedef struct {
    void *(*fn) (void *);
    void *arg;
} start_t;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define STACK_TIMES 4 /* its own frames are larger */
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define STACK_TIMES 4
#endif
#endif
#ifndef STACK_TIMES
#define STACK_TIMES 1
#endif

static ctki_countdown_t threads;

long ctki_thread_fail (long after, long times)
{
    return ctki_countdown_arm (&threads, after, times);
}

bool ctki_thread_fails (void)
{
    return ctki_countdown_fails (&threads);
}

void ctki_sched_get (ctki_sched_t *sched)
{
    sched->known = pthread_getaffinity_np (pthread_self (), sizeof sched->cpus, &sched->cpus) == 0
                   && pthread_getschedparam (pthread_self (), &sched->policy, &sched->param) == 0;
}

static void schedule (pthread_attr_t *attr, const ctki_sched_t *sched)
{
    pthread_attr_setaffinity_np (attr, sizeof sched->cpus, &sched->cpus);
    pthread_attr_setinheritsched (attr, PTHREAD_EXPLICIT_SCHED);
    pthread_attr_setschedpolicy (attr, sched->policy);
    pthread_attr_setschedparam (attr, &sched->param);
}

int ctki_thread_start (pthread_t *thread, const char *name, void *(*fn) (void *), void *arg,
                       const ctki_sched_t *sched)
{
    return ctki_thread_start_sized (thread, name, fn, arg, sched, CTKI_STACK_BYTES);
}

int ctki_thread_start_sized (pthread_t *thread, const char *name, void *(*fn) (void *), void *arg,
                             const ctki_sched_t *sched, size_t stack_bytes)
{
    pthread_attr_t attr;
    sigset_t all, before;
    int rc = ctki_thread_fails () ? EAGAIN : pthread_attr_init (&attr);
    if (rc)
        return rc;
    pthread_attr_setstacksize (&attr, STACK_TIMES * stack_bytes);
    if (sched && sched->known)
        schedule (&attr, sched);
    sigfillset (&all);
    pthread_sigmask (SIG_SETMASK, &all, &before); /* a new thread inherits the mask */
    rc = pthread_create (thread, &attr, fn, arg);
    pthread_sigmask (SIG_SETMASK, &before, NULL);
    pthread_attr_destroy (&attr);
    if (rc == 0 && name) {
        char label[16];
        snprintf (label, sizeof label, "%s", name);
        pthread_setname_np (*thread, label);
    }
    return rc;
}

void ctki_thread_set_name (const char *name)
{
    char label[16];
    snprintf (label, sizeof label, "%s", name);
    pthread_setname_np (pthread_self (), label);
}

int ctki_cancel_disable (void)
{
    int state;
    pthread_setcancelstate (PTHREAD_CANCEL_DISABLE, &state);
    return state;
}

void ctki_cancel_restore (int state)
{
    pthread_setcancelstate (state, NULL);
}

/* Those that the thread causes itself come at once. */
void ctki_signals_hold (sigset_t *before)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    sigset_t all;
    sigfillset (&all);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        sigdelset (&all, own[i]);
    pthread_sigmask (SIG_BLOCK, &all, before);
}

/* What has no handler interrupts nothing: it is ignored, or ends or stops the
 * process. A blocked signal is pending even so, SIGCONT after each stop. */
static bool is_handled (int number)
{
    struct sigaction action;
    return sigaction (number, NULL, &action) == 0 && action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
}

bool ctki_signals_held (const sigset_t *before)
{
    sigset_t pending;
    bool some = false;
    sigpending (&pending);
    for (int number = 1; number < NSIG && !some; number++)
        some = sigismember (&pending, number) == 1 && sigismember (before, number) == 0 && is_handled (number);
    return some;
}

void ctki_signals_release (const sigset_t *before)
{
    pthread_sigmask (SIG_SETMASK, before, NULL);
}

/* ---- fork */

atomic_uint ctki_forks;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void forked (void)
{
    atomic_fetch_add_explicit (&ctki_forks, 1, memory_order_relaxed);
}

static void watch_forks (void)
{
    pthread_atfork (NULL, NULL, forked);
}

unsigned ctki_fork_generation (void)
{
    pthread_once (&fork_once, watch_forks);
    return ctki_fork_generation_now ();
}

/* ---- the gate */

/* A futex wait without a timeout is restarted after a handler with SA_RESTART;
 * one with a timeout never is. So "for ever" waits a day at a time. */
#define DAY_US (INT64_C (86400) * CTKI_S)

/* Not FUTEX_PRIVATE_FLAG: since Linux 6.16 the table for that has but 16 buckets on two
 * processors, and who wakes one of 10,000 actors looks through 600 sleepers. That
 * for all processes has 256 a processor. */
static int futex_wait (atomic_uint *word, unsigned seen, int64_t until_us)
{
    struct timespec until = {.tv_sec = until_us / CTKI_S, .tv_nsec = until_us % CTKI_S * 1000};
    if (syscall (SYS_futex, word, FUTEX_WAIT_BITSET, seen, &until, NULL, FUTEX_BITSET_MATCH_ANY) == 0)
        return 0;
    return errno;
}

static void futex_wake (atomic_uint *word, int count)
{
    int saved = errno;
    syscall (SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
    errno = saved;
}

unsigned ctki_gate_ticket (ctki_gate_t *gate)
{
    atomic_fetch_add (&gate->waiters, 1);
    return atomic_load (&gate->turn);
}

void ctki_gate_leave (ctki_gate_t *gate)
{
    atomic_fetch_sub (&gate->waiters, 1);
}

int ctki_gate_wait (ctki_gate_t *gate, unsigned ticket, int64_t deadline_us)
{
    int result = 0;
    while (result == 0 && atomic_load (&gate->turn) == ticket) {
        int64_t now = ctki_now_us ();
        if (now >= deadline_us) {
            result = EAGAIN;
            break;
        }
        int64_t until = deadline_us - now > DAY_US ? now + DAY_US : deadline_us;
        int rc = futex_wait (&gate->turn, ticket, until);
        if (rc == EINTR)
            result = EINTR;
    }
    ctki_gate_leave (gate);
    return result;
}

static void open_for (ctki_gate_t *gate, int count)
{
    atomic_fetch_add (&gate->turn, 1);
    if (atomic_load (&gate->waiters) > 0)
        futex_wake (&gate->turn, count);
}

void ctki_gate_open (ctki_gate_t *gate)
{
    open_for (gate, INT32_MAX);
}

void ctki_gate_open_one (ctki_gate_t *gate)
{
    open_for (gate, 1);
}
