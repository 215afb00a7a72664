/*
 * sim_sys.c - time, random numbers, threads and waiting (src/sys.h), in the
 * simulator. There are no signals, no cancelling and no forks.
 */
#include "src/sys.h"

#include <errno.h>

#include "sim/sched.h"
#include "src/countdown.h"

int64_t ctki_now_us (void)
{
    ctki_task_look ();
    return ctki_sim_now_us ();
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
        uint64_t word = ctki_draw (CTKI_OF_LIBRARY);
        size_t part = CTKI_MIN (size, sizeof word);
        memcpy (p, &word, part);
        p += part;
        size -= part;
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
    sched->known = false;
}

int ctki_thread_start (pthread_t *thread, const char *name, void *(*fn) (void *), void *arg, const ctki_sched_t *sched)
{
    return ctki_thread_start_sized (thread, name, fn, arg, sched, CTKI_STACK_BYTES);
}

/* Stacks are those of a program: memory is not short in a test. */
int ctki_thread_start_sized (pthread_t *thread, const char *name, void *(*fn) (void *), void *arg,
                             const ctki_sched_t *sched, size_t stack_bytes)
{
    (void) sched;
    (void) stack_bytes;
    if (!ctki_task_self ())
        return EPERM;
    long number = ctki_thread_fails () ? -EAGAIN : ctki_task_start (name, CTKI_TASK_LIBRARY, 0, fn, arg);
    if (number < 0)
        return (int) -number;
    *thread = (pthread_t) number;
    return 0;
}

void ctki_thread_set_name (const char *name)
{
    ctki_task_set_name (name);
}

int ctki_cancel_disable (void)
{
    return PTHREAD_CANCEL_ENABLE;
}

void ctki_cancel_restore (int state)
{
    (void) state;
}

void ctki_signals_hold (sigset_t *before)
{
    sigemptyset (before);
}

bool ctki_signals_held (const sigset_t *before)
{
    (void) before;
    return false;
}

void ctki_signals_release (const sigset_t *before)
{
    (void) before;
}

atomic_uint ctki_forks;

unsigned ctki_fork_generation (void)
{
    return ctki_fork_generation_now ();
}

/* ---- the gate */

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
    while (result == 0 && atomic_load (&gate->turn) == ticket)
        result = ctki_sim_now_us () < deadline_us ? ctki_task_wait (gate, "a gate", deadline_us) : EAGAIN;
    ctki_gate_leave (gate);
    return result;
}

void ctki_gate_open (ctki_gate_t *gate)
{
    atomic_fetch_add (&gate->turn, 1);
    if (atomic_load (&gate->waiters) > 0)
        ctki_task_wake_all (gate);
}

void ctki_gate_open_one (ctki_gate_t *gate)
{
    atomic_fetch_add (&gate->turn, 1);
    if (atomic_load (&gate->waiters) > 0)
        ctki_task_wake_one (gate);
}
