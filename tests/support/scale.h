/*
 * scale.h - how large and how patient the tests are, time, and what they print.
 *
 * CTALK_TEST_SCALE divides counts, CTALK_TEST_TIMESCALE multiplies deadlines
 * (under valgrind and the sanitizers). Both are 1 unless set. Owns nothing.
 */
#ifndef CTKI_TEST_SCALE_H
#define CTKI_TEST_SCALE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/base.h"

/* A count in full, divided by the scale; at least 1. */
size_t ctki_test_count (size_t full);

/* A deadline or an interval, multiplied by the timescale. */
int ctki_test_ms (int ms);

/* The same as text for an option; one of 16 static buffers, for the main thread. */
const char *ctki_test_ms_text (int ms);

/* A number as text for an option; the same buffers. */
const char *ctki_test_number_text (uint64_t number);

/* How long to wait for what surely comes: 20 s, scaled. */
int ctki_test_long_ms (void);

/* CLOCK_MONOTONIC in ms. */
int64_t ctki_test_now_ms (void);

/*
 * Looks every millisecond whether something holds, until it does or the
 * deadline has passed; returns whether it does. For what has no event to wait
 * for: counters, states, the kernel's lists of descriptors and threads.
 */
bool ctki_test_until (bool (*holds) (void *arg), void *arg, int ms);

/* "counts / 10, deadlines x 4", or "full scale". A static text. */
const char *ctki_test_scale_text (void);

/* One line about the running test on standard output. */
void ctki_test_figure (const char *name, const char *format, ...) CTKI_PRINTF (2, 3);

/* done of total, on a terminal only, at most ten times a second; total 0 wipes the line. */
void ctki_test_progress (const char *what, size_t done, size_t total);

/* Raises the soft limit of descriptors to the hard one (at most 65536); returns it. */
size_t ctki_test_raise_descriptors (void);

#endif
