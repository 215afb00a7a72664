/*
 * memory.h - how much memory this process has used at most since a moment.
 */
#ifndef CTKI_TEST_MEMORY_H
#define CTKI_TEST_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* Starts anew: the peak is what is used now. */
void ctki_memory_reset_peak (void);

/* Resident memory now, and at most since the reset, in bytes (0: not known here). */
uint64_t ctki_memory_now (void);
uint64_t ctki_memory_peak (void);

/* By how much the peak is above what was used before; 0 when it is not. */
uint64_t ctki_memory_grown (uint64_t before);

#endif
