/*
 * lock.c - the rare halves: waiting for a lock, and the heavy half of the fence.
 */
#include "src/lock.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    SPINS = 100,   /* looks at a held lock before a thread goes to sleep: a holder is done within a fraction of a µs */
    FIRST_SPINS = 10, /* of those, before it asks for it */
    GIVE_WAY = 50  /* looks at a lock just released, for the one who asked to take it */
};

/* Values of `waiting`. */
enum { NOBODY, ASKED, ASLEEP };

/* ---- the fence */

atomic_bool ctki_fence_is_light;

static long membarrier (int command)
{
    return syscall (SYS_membarrier, command, 0, 0);
}

/* Only what is registered can be had without waiting for all processors. */
static void choose (void)
{
    bool can = membarrier (MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0
               && membarrier (MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0;
    atomic_store (&ctki_fence_is_light, can);
}

static void choose_once (void)
{
    pthread_atfork (NULL, NULL, choose); /* a process registers for itself */
    choose ();
}

void ctki_fence_init (void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int saved = errno;
    pthread_once (&once, choose_once);
    errno = saved;
}

void ctki_fence_heavy (void)
{
    int saved = errno;
    if (atomic_load (&ctki_fence_is_light))
        CTKI_ASSERT (membarrier (MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0);
    errno = saved;
}

/* ---- the lock */

static bool take_now (ctki_lock_t *lock)
{
    unsigned held = 0;
    return atomic_compare_exchange_strong_explicit (&lock->held, &held, 1, memory_order_acquire, memory_order_relaxed);
}

/* Who takes the lock again and again on one processor hardly ever lets another
 * one have it: after a few looks a thread asks for it. */
static bool spin (ctki_lock_t *lock)
{
    for (int i = 0; i < SPINS; i++) {
        unsigned nobody = NOBODY;
        if (i == FIRST_SPINS)
            atomic_compare_exchange_strong (&lock->waiting, &nobody, ASKED);
        if (atomic_load_explicit (&lock->held, memory_order_relaxed) == 0 && take_now (lock))
            return true;
        ctki_pause ();
    }
    return false;
}

/* Whoever goes to sleep has read `turn` before it raised `waiting`: if somebody
 * lowered it again since, he has moved `turn` on, and the kernel does not let
 * the thread sleep. One is woken at a time; whoever was, raises `waiting` for
 * those who still sleep, and his own release wakes the next. */
void ctki_lock_wait (ctki_lock_t *lock)
{
    int saved = errno;
    bool slept = false;
    while (!spin (lock)) {
        unsigned turn = atomic_load (&lock->turn);
        atomic_store (&lock->waiting, ASLEEP);
        ctki_fence_heavy ();
        if (take_now (lock))
            break;
        syscall (SYS_futex, &lock->turn, FUTEX_WAIT_PRIVATE, turn, NULL, NULL, 0);
        slept = true;
    }
    if (slept)
        atomic_store (&lock->waiting, ASLEEP);
    errno = saved;
}

void ctki_lock_wake (ctki_lock_t *lock)
{
    int saved = errno;
    unsigned waiting = atomic_exchange (&lock->waiting, NOBODY);
    if (waiting == ASLEEP) {
        atomic_fetch_add (&lock->turn, 1);
        syscall (SYS_futex, &lock->turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
    for (int i = 0; waiting == ASKED && i < GIVE_WAY; i++) {
        if (atomic_load_explicit (&lock->held, memory_order_relaxed))
            break;
        ctki_pause ();
    }
    errno = saved;
}
