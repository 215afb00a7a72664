/*
 * thread.h - threads of a test: they note trouble instead of asserting, and are
 * joined within a deadline.
 */
#ifndef CTKI_TEST_THREAD_H
#define CTKI_TEST_THREAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/support/trouble.h"

typedef struct {
    pthread_t thread;
    bool (*run) (void *arg, ctki_trouble_t *trouble);
    void *arg;
    ctki_trouble_t trouble;
    atomic_int tid; /* of the kernel; 0: not running yet */
    atomic_bool done;
} ctki_test_thread_t;

/* Starts run (arg, trouble) on a thread of its own, with a stack of 256 KiB. */
void ctki_test_thread_start (ctki_test_thread_t *thread, bool (*run) (void *arg, ctki_trouble_t *trouble), void *arg);

/* Waits for its end and fails the test with its trouble, or when it does not end in time. */
void ctki_test_thread_join (ctki_test_thread_t *thread);

/* The same within ms. */
void ctki_test_thread_join_within (ctki_test_thread_t *thread, int ms);

/* The same in a worker process, where Check's assertions cannot be used. */
bool ctki_test_thread_end (ctki_test_thread_t *thread, ctki_trouble_t *trouble);

/*
 * Waits until the thread sleeps in the kernel and still does so ten looks
 * later: the nearest thing to an event for "this call is blocked now".
 */
void ctki_test_thread_await_blocked (ctki_test_thread_t *thread);

/* Sends it a signal each millisecond until it is done: one sent before it waits would miss the wait. */
void ctki_test_thread_pester (ctki_test_thread_t *thread, int signal_number);

/*
 * How late the machine itself is: a thread beside the test that asks to be woken
 * each millisecond and notes by how much it was not. A test of a promised
 * deadline allows for it, so that it says something about the library also when
 * the machine has much else to do. On an idle machine it is next to nothing.
 *
 * Who has just slept is woken soon, also on a busy machine; threads that have work
 * wait longer. So the kernel is asked, too, if it knows: for how long some thread
 * was ready and had no processor (/proc/pressure/cpu).
 */

/* How often a close may have to wait for a processor, one thread after the other. */
enum { CTKI_LATENESS_HANDOVERS = 4 };

typedef struct {
    ctki_test_thread_t thread;
    atomic_bool runs, stop;
    int64_t worst_ms;
    int64_t starved_ms; /* at the start */
} ctki_lateness_t;

/* Returns when it is watching. */
void ctki_lateness_start (ctki_lateness_t *lateness);

/* Ends it; returns what to allow: the worst lateness times the handovers, or the
 * time in which some thread had no processor if that is more. */
int64_t ctki_lateness_stop (ctki_lateness_t *lateness);

#endif
