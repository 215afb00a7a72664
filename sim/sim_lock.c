/*
 * sim_lock.c - the rare halves of src/lock.h, in the simulator: threads run one
 * at a time, so that a lock is found held only if its holder waits.
 */
#include "src/lock.h"

#include "sim/sched.h"
#include "src/sys.h"

atomic_bool ctki_fence_is_light = true;

void ctki_fence_init (void)
{
}

void ctki_fence_heavy (void)
{
}

void ctki_lock_wait (ctki_lock_t *lock)
{
    unsigned held = 0;
    atomic_fetch_add (&lock->waiting, 1);
    while (!atomic_compare_exchange_strong (&lock->held, &held, 1)) {
        ctki_task_wait (lock, "a lock", CTKI_FOREVER);
        held = 0;
    }
    atomic_fetch_sub (&lock->waiting, 1);
}

void ctki_lock_wake (ctki_lock_t *lock)
{
    ctki_task_wake_one (lock);
}
