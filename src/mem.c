/*
 * mem.c - malloc behind a countdown that tests arm.
 */
#include "src/mem.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SETTLE_BYTES = 2 * 1024 * 1024 };

static atomic_long made;       /* allocations since the last ctki_mem_fail () */
static atomic_bool armed;      /* whether the countdown runs: one load on the common path */
static atomic_long left_to_go; /* that still succeed */
static atomic_long left_to_fail;

static bool fails (void)
{
    if (CTKI_LIKELY (!atomic_load_explicit (&armed, memory_order_relaxed)))
        return false;
    atomic_fetch_add (&made, 1);
    if (atomic_fetch_sub (&left_to_go, 1) > 0)
        return false;
    if (atomic_fetch_sub (&left_to_fail, 1) <= 0)
        return false;
    errno = ENOMEM;
    return true;
}

long ctki_mem_fail (long after, long times)
{
    long count = atomic_exchange (&made, 0);
    atomic_store (&left_to_go, after);
    atomic_store (&left_to_fail, times < 0 ? LONG_MAX : times);
    atomic_store (&armed, after >= 0);
    return count;
}

void *ctki_alloc (size_t size)
{
    return fails () ? NULL : malloc (size ? size : 1);
}

void *ctki_alloc_zero (size_t size)
{
    return fails () ? NULL : calloc (1, size ? size : 1);
}

void *ctki_realloc (void *block, size_t size)
{
    return fails () ? NULL : realloc (block, size ? size : 1);
}

char *ctki_strndup (const char *text, size_t size)
{
    char *copy = ctki_alloc (size + 1);
    if (copy) {
        memcpy (copy, text, size);
        copy[size] = 0;
    }
    return copy;
}

char *ctki_strdup (const char *text)
{
    return ctki_strndup (text, strlen (text));
}

void ctki_free (void *block)
{
    free (block);
}

void ctki_mem_settle (void)
{
    void *volatile block = malloc (SETTLE_BYTES); /* volatile: else the compiler leaves out both */
    free (block);
}
