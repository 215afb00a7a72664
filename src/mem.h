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

/* Frees a block of 2 MiB that was never used. The C library (glibc) takes it as
 * a sign that blocks of such a size come and go, as it does whenever a program
 * frees one: from then on it keeps up to twice that much at the end of a heap
 * instead of giving it to the kernel at every 128 KiB. Else each received frame
 * is paid for with page faults, since frames are freed in another thread than
 * they are received in, a whole window at a time. */
void ctki_mem_settle (void);

/* Tests: let `after` more allocations pass, then fail `times` of them (-1: all).
 * after -1 ends it. Returns how many allocations were made since the last call. */
long ctki_mem_fail (long after, long times);

#endif
