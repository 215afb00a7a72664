/*
 * mem.h - the allocator seam: every allocation of the library passes here, so
 * that tests can make the k-th one fail. All memory is the caller's.
 */
#ifndef CTKI_MEM_H
#define CTKI_MEM_H

#include "src/base.h"

/* As malloc, calloc, realloc and strdup; NULL and ENOMEM when there is none. */
void *ctki_alloc (size_t size);
void *ctki_alloc_zero (size_t size);
void *ctki_realloc (void *block, size_t size);
char *ctki_strdup (const char *text);
char *ctki_strndup (const char *text, size_t size);
void ctki_free (void *block);

/* Tests: let `after` more allocations pass, then fail `times` of them (-1: all).
 * after -1 ends it. Returns how many allocations were made since the last call. */
long ctki_mem_fail (long after, long times);

#endif
