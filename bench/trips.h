/*
 * trips.h - round trips of two processes as a workload: what bench/roundtrip
 * and bench/call have in common, which differ in their contestants.
 *
 * Method: bench/pair.h and bench/contestants.h. One side asks and waits for the
 * answer, which the other gives at once; there is one question under way at a
 * time. The time of each is taken from before the call that sends until the
 * answer was received and checked. A turn's percentiles are those of all its
 * round trips; what is printed are medians, least and most over the rounds.
 * Less is better.
 */
#ifndef BENCH_TRIPS_H
#define BENCH_TRIPS_H

#include "bench/contestants.h"

typedef struct {
    const char *workload;  /* "W3" */
    const char *title;     /* "round trips" */
    const char *rate_name; /* of the metric: "round trips/s" */
    const bench_contestant_t *const *contestants;
    size_t contestant_count, yardstick;
    const bench_versus_t *versus; /* compared in p50 and p99 */
    size_t versus_count;
    const uint64_t *sizes; /* unless --size says other ones */
    size_t size_count;
    void (*help) (void); /* its own lines around bench_trips_print_options () */
} bench_trips_t;

/* The lines of the options in the help; sizes: what --size is by itself. */
void bench_trips_print_options (const bench_trips_t *trips, const char *sizes);

/* The program. Returns the exit status. */
int bench_trips_main (int argc, char **argv, const bench_trips_t *trips);

#endif
