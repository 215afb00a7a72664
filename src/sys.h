/*
 * sys.h - what the library asks of the operating system: time, random numbers,
 * threads, waiting. Nothing here belongs to a server.
 */
#ifndef CTKI_SYS_H
#define CTKI_SYS_H

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include "src/base.h"

/* Times are microseconds of CLOCK_MONOTONIC. */
#define CTKI_FOREVER INT64_MAX
#define CTKI_MS INT64_C (1000)
#define CTKI_S INT64_C (1000000)

int64_t ctki_now_us (void);

/* When a timeout of the public interface ends; -1 gives CTKI_FOREVER. */
int64_t ctki_deadline_us (int timeout_ms);

/* What is left of a timeout that ends then, in ms, rounded up; -1 and 0 are left as they are. */
int ctki_left_ms (int timeout_ms, int64_t deadline_us);

/* Unpredictable bytes, never all zero for a uint64_t by ctki_random64 (). */
void ctki_random (void *out, size_t size);
uint64_t ctki_random64 (void);

/* Where and how a thread runs: on which processors, by which policy. */
typedef struct {
    cpu_set_t cpus;
    int policy;
    struct sched_param param;
    bool known;
} ctki_sched_t;

void ctki_sched_get (ctki_sched_t *sched); /* of the caller's thread */

/* Starts a thread with all signals blocked, a small stack and a name (cut to
 * 15 characters), scheduled so; NULL: as its maker. 0, or an errno. */
int ctki_thread_start (pthread_t *thread, const char *name, void *(*fn) (void *), void *arg,
                       const ctki_sched_t *sched);

/* The same with a stack of so many bytes. name NULL: it gives itself one; so it may
 * end, and be joined by others, before this returns. */
int ctki_thread_start_sized (pthread_t *thread, const char *name, void *(*fn) (void *), void *arg,
                             const ctki_sched_t *sched, size_t stack_bytes);

void ctki_thread_set_name (const char *name); /* the caller's */

/* Tests: as ctki_mem_fail (), for the starts of threads: EAGAIN. Whoever starts
 * one in another way asks whether that fails. */
long ctki_thread_fail (long after, long times);
bool ctki_thread_fails (void);

/* A thread must not be cancelled while it holds a lock; what it calls may wait. */
int ctki_cancel_disable (void); /* returns what to restore */
void ctki_cancel_restore (int state);

/* Keeps back the signals that a handler could run for in this thread; *before is
 * what to restore. Whether one with a handler waits by now; and restoring. */
void ctki_signals_hold (sigset_t *before);
bool ctki_signals_held (const sigset_t *before);
void ctki_signals_release (const sigset_t *before);

/* How often this process descends from a fork since the library was used: a
 * handle remembers it and is dead where it differs. */
unsigned ctki_fork_generation (void);

/* The same, quickly, once the other one was called. */
extern atomic_uint ctki_forks;
static inline unsigned ctki_fork_generation_now (void)
{
    return atomic_load_explicit (&ctki_forks, memory_order_relaxed);
}

/* A gate: threads wait at it for a condition that some mutex protects, without
 * holding the mutex. Take a ticket under the mutex when the condition does not
 * hold, unlock, wait; whoever makes it true under the mutex opens the gate,
 * then or after unlocking. Unlike a condition variable it reports signals. */
typedef struct {
    atomic_uint turn;
    atomic_uint waiters;
} ctki_gate_t;

/* Under the mutex: announces a waiter. Each ticket ends in one wait or leave. */
unsigned ctki_gate_ticket (ctki_gate_t *gate);

/* 0 when the gate was opened since the ticket was taken (or for no reason);
 * EAGAIN when the deadline passed; EINTR when a signal handler ran. */
int ctki_gate_wait (ctki_gate_t *gate, unsigned ticket, int64_t deadline_us);
void ctki_gate_leave (ctki_gate_t *gate);

/* Wakes all waiters, or one. Async-signal-safe. */
void ctki_gate_open (ctki_gate_t *gate);
void ctki_gate_open_one (ctki_gate_t *gate);

/* A counter in a figure: relaxed, no order implied. */
typedef atomic_uint_fast64_t ctki_count_t;

static inline void ctki_count (ctki_count_t *count, uint64_t by)
{
    atomic_fetch_add_explicit (count, by, memory_order_relaxed);
}

/* The same where a lock keeps other writers out: no locked instruction. */
static inline void ctki_count_locked (ctki_count_t *count, uint64_t by)
{
    atomic_store_explicit (count, atomic_load_explicit (count, memory_order_relaxed) + by, memory_order_relaxed);
}

static inline uint64_t ctki_counted (const ctki_count_t *count)
{
    return atomic_load_explicit (count, memory_order_relaxed);
}

#endif
