/*
 * report.h - the results of the benches: one table row and one CSV line a
 * figure, the same shape for every workload.
 *
 * A figure is what one contestant reached in one metric at one parameter of a
 * workload, in all rounds. Its ratio to a yardstick is taken round by round,
 * from the two turns that ran beside each other, and then its median, least and
 * most: what the machine did in that minute to both cancels out. The ratio is
 * always the contestant's value by the yardstick's: for rates more is better,
 * for times less is.
 *
 * Tables go to the standard output. Nothing here keeps state.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef struct {
    const char *workload;  /* "W1" */
    const char *parameter; /* "64 B", "8 peers" */
    double x;              /* the same as a number, for charts */
    const char *contestant;
    const char *metric; /* "envelopes/s", "p50 us" */
    bool lower_is_better;
    const double *values; /* one per round */
    size_t rounds;
    const double *against;    /* the yardstick's, of the same rounds; NULL: there is none */
    const char *against_name; /* of the yardstick; NULL if there is none */
    double cpu_s;             /* processor time of both sides in a turn, median; negative: unknown */
    long peak_kib;            /* peak memory, the larger of both sides; negative: unknown */
    const char *note;         /* NULL: none */
} bench_figure_t;

/* Prints a heading and the head of the table. */
void bench_report_head (const char *title);

/* Prints the row of a figure, and its line to csv if that is not NULL. */
void bench_report_figure (FILE *csv, const bench_figure_t *figure);

/* Prints a row that says why a contestant has none, with "skipped: " before the reason. */
void bench_report_skipped (const char *contestant, const char *why);

#endif
