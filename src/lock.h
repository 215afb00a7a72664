/*
 * lock.h - the lock that every send and every receive takes, and the fence that
 * it is built on.
 *
 * The fence has two halves, for two threads that each write one thing and then
 * read what the other one writes, where one of them at least must see the
 * other. The light half is for the side that passes often: it only keeps the
 * compiler from reordering. The heavy half is for the side that passes seldom:
 * the kernel makes every running thread of the process pass a barrier
 * (membarrier). Where the kernel cannot, the light half is a full barrier, and
 * the heavy one nothing.
 *
 * The lock is taken by one locked instruction and released by none: whoever is
 * about to wait says so, passes the heavy half and looks once more; whoever
 * releases writes that it is free, passes the light half and looks whether
 * somebody waits. It is not recursive and not fair; waiting for it is not
 * interrupted by signals.
 */
#ifndef CTKI_LOCK_H
#define CTKI_LOCK_H

#include <stdatomic.h>

#include "src/base.h"

/* ---- the fence */

extern atomic_bool ctki_fence_is_light; /* whether the light half may be light */

/* Makes it so if the kernel can; any number of times. Until then it is not. */
void ctki_fence_init (void);

void ctki_fence_heavy (void);

/* A store that is followed by the light half: what is read after it by
 * atomic_load () is read after the store can be seen. */
#define CTKI_STORE_LIGHT(object, value)                                                                                \
    do {                                                                                                               \
        if (CTKI_LIKELY (atomic_load_explicit (&ctki_fence_is_light, memory_order_relaxed))) {                         \
            atomic_store_explicit (object, value, memory_order_release);                                               \
            atomic_signal_fence (memory_order_seq_cst);                                                                \
        } else                                                                                                         \
            atomic_store (object, value);                                                                              \
    } while (0)

/* ---- the lock */

typedef struct {
    atomic_uint held;
    atomic_uint waiting; /* somebody may sleep */
    atomic_uint turn;    /* moves on when somebody is woken */
} ctki_lock_t;           /* all zero: free */

static inline void ctki_lock_init (ctki_lock_t *lock)
{
    atomic_init (&lock->held, 0);
    atomic_init (&lock->waiting, 0);
    atomic_init (&lock->turn, 0);
}

void ctki_lock_wait (ctki_lock_t *lock);
void ctki_lock_wake (ctki_lock_t *lock);

static inline void ctki_lock_take (ctki_lock_t *lock)
{
    unsigned held = 0;
    if (CTKI_UNLIKELY (!atomic_compare_exchange_strong_explicit (&lock->held, &held, 1, memory_order_acquire,
                                                                 memory_order_relaxed)))
        ctki_lock_wait (lock);
}

/* The lock must outlive the call, not just its being free. */
static inline void ctki_lock_release (ctki_lock_t *lock)
{
    CTKI_STORE_LIGHT (&lock->held, 0);
    if (CTKI_UNLIKELY (atomic_load (&lock->waiting) > 0))
        ctki_lock_wake (lock);
}

#endif
