/*
 * mem.c - malloc behind a countdown that tests arm.
 */
#include "src/mem.h"

#include <errno.h>
#include <stdlib.h>

#include "src/countdown.h"

enum { SETTLE_BYTES = 2 * 1024 * 1024 };

static ctki_countdown_t countdown;

static bool fails (void)
{
    if (CTKI_LIKELY (!ctki_countdown_fails (&countdown)))
        return false;
    errno = ENOMEM;
    return true;
}

long ctki_mem_fail (long after, long times)
{
    return ctki_countdown_arm (&countdown, after, times);
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
