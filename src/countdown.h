/*
 * countdown.h - for tests: a resource that fails at the k-th demand. One test of
 * a flag on the common path; armed by ctki_mem_fail () and its like.
 */
#ifndef CTKI_COUNTDOWN_H
#define CTKI_COUNTDOWN_H

#include <limits.h>
#include <stdatomic.h>

#include "src/base.h"

typedef struct {
    atomic_bool armed;
    atomic_long made; /* demands since it was armed */
    atomic_long left_to_go; /* that are still met */
    atomic_long left_to_fail;
} ctki_countdown_t; /* all bytes zero: never fails */

/* A demand: whether it fails. */
static inline bool ctki_countdown_fails (ctki_countdown_t *countdown)
{
    if (CTKI_LIKELY (!atomic_load_explicit (&countdown->armed, memory_order_relaxed)))
        return false;
    atomic_fetch_add (&countdown->made, 1);
    if (atomic_fetch_sub (&countdown->left_to_go, 1) > 0)
        return false;
    return atomic_fetch_sub (&countdown->left_to_fail, 1) > 0;
}

/* Lets `after` more demands be met, then fails `times` of them (-1: all). after
 * -1 ends it. Returns how many demands were made while it was armed before. */
static inline long ctki_countdown_arm (ctki_countdown_t *countdown, long after, long times)
{
    long count = atomic_exchange (&countdown->made, 0);
    atomic_store (&countdown->left_to_go, after);
    atomic_store (&countdown->left_to_fail, times < 0 ? LONG_MAX : times);
    atomic_store (&countdown->armed, after >= 0);
    return count;
}

#endif
