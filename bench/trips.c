/*
 * trips.c - see trips.h.
 */
#include "bench/trips.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    SIZES_MAX = 8,
    TURN_COUNT = 1000000, /* round trips of a turn, at most */
    TURN_LEAST = 100,
    SIZE_CHARS = 16
};

enum { P50, P90, P99, P999, WORST, RATE, METRICS };

/* What the command line asks for. */
typedef struct {
    const bench_trips_t *trips;
    uint64_t sizes[SIZES_MAX];
    size_t size_count;
    uint64_t count, warmup, millis, rounds, deadline_s; /* count 0: found */
    bool chosen[BENCH_CONTESTANTS_MAX];
} options_t;

/* -------------------------------------------------------------------- rounds */

static void measure (const bench_turn_t *turn, bench_result_t *result)
{
    bench_sort_times (turn->samples_ns, turn->count);
    result->metrics[P50] = bench_percentile_us (turn->samples_ns, turn->count, 500);
    result->metrics[P90] = bench_percentile_us (turn->samples_ns, turn->count, 900);
    result->metrics[P99] = bench_percentile_us (turn->samples_ns, turn->count, 990);
    result->metrics[P999] = bench_percentile_us (turn->samples_ns, turn->count, 999);
    result->metrics[WORST] = bench_percentile_us (turn->samples_ns, turn->count, 1000);
    result->metrics[RATE] = result->rate;
}

/* All rounds with one size. -1 after a message. */
static int run_size (const options_t *options, FILE *csv, uint64_t size, _Atomic uint64_t *done, uint32_t *samples_ns)
{
    static bench_result_t results[BENCH_CONTESTANTS_MAX][BENCH_ROUNDS_MAX];
    const bench_trips_t *trips = options->trips;
    const bench_metric_t metrics[METRICS] = {[P50] = {.name = "p50 us", .lower_is_better = true, .versus = true},
                                             [P90] = {.name = "p90 us", .lower_is_better = true},
                                             [P99] = {.name = "p99 us", .lower_is_better = true, .versus = true},
                                             [P999] = {.name = "p99.9 us", .lower_is_better = true},
                                             [WORST] = {.name = "max us", .lower_is_better = true},
                                             [RATE] = {.name = trips->rate_name}};
    char size_text[SIZE_CHARS], title[BENCH_TEXT_BYTES];
    bench_pair_size_text (size_text, sizeof size_text, size);
    bench_contest_t contest = {.workload = trips->workload,
                               .parameter = size_text,
                               .x = (double) size,
                               .contestants = trips->contestants,
                               .contestant_count = trips->contestant_count,
                               .yardstick = trips->yardstick,
                               .versus = trips->versus,
                               .versus_count = trips->versus_count,
                               .metrics = metrics,
                               .metric_count = METRICS,
                               .chosen = options->chosen,
                               .turn = {.size = size,
                                        .threads = 1,
                                        .warmup = options->warmup,
                                        .deadline_s = options->deadline_s,
                                        .done = done,
                                        .samples_ns = samples_ns},
                               .count = options->count,
                               .seconds = (double) options->millis / 1000,
                               .count_least = TURN_LEAST,
                               .count_most = TURN_COUNT,
                               .rounds = options->rounds,
                               .measure = measure,
                               .results = results};
    if (bench_pair_contest (&contest) != 0)
        return -1;
    snprintf (title, sizeof title, "%s: %s, %s", trips->workload, trips->title, size_text);
    bench_pair_report (&contest, title, csv);
    return 0;
}

static int bench (const void *asked, FILE *csv)
{
    const options_t *options = asked;
    _Atomic uint64_t *done = bench_shared (sizeof *done);
    uint32_t *samples_ns = bench_shared (TURN_COUNT * sizeof *samples_ns);
    if (!done || !samples_ns)
        return EXIT_FAILURE;
    bench_print_machine ();
    printf ("rounds: %" PRIu64 "\n", options->rounds);
    for (size_t i = 0; i < options->size_count; i++)
        if (run_size (options, csv, options->sizes[i], done, samples_ns) != 0)
            return EXIT_FAILURE;
    return EXIT_SUCCESS;
}

/* ------------------------------------------------------------ command line */

void bench_trips_print_options (const bench_trips_t *trips, const char *sizes)
{
    printf ("  --size LIST       payloads, 8 to 16777216 bytes, at most %d of them (%s)\n"
            "  --count N         round trips in a turn, at most %d; 0: as --millis says (0)\n"
            "  --millis N        a turn has about as many as take so long (1000)\n"
            "  --warmup N        round trips before the time counts (500)\n"
            "  --rounds N        rounds; each contestant has a turn in each (7)\n"
            "  --only LIST       contestants, of:\n"
            "                   ",
            SIZES_MAX, sizes, TURN_COUNT);
    for (size_t i = 0; i < trips->contestant_count; i++)
        printf (" %s", trips->contestants[i]->name);
    printf ("\n"
            "  --deadline S      seconds after which a turn is ended as failed (120)\n"
            "  --csv FILE        write the figures\n"
            "  --quick           a run of a few seconds that says little\n"
            "  --help            this text\n");
}

static bool take_option (void *asked, const char *name, const char *value)
{
    options_t *options = asked;
    if (strcmp (name, "size") == 0)
        return bench_parse_list (name, value, BENCH_PAYLOAD_MIN_BYTES, BENCH_SIZE_MAX_BYTES, options->sizes, SIZES_MAX,
                                 &options->size_count);
    if (strcmp (name, "count") == 0)
        return bench_parse_count (name, value, 0, TURN_COUNT, &options->count);
    if (strcmp (name, "millis") == 0)
        return bench_parse_count (name, value, 1, 3600000, &options->millis);
    if (strcmp (name, "warmup") == 0)
        return bench_parse_count (name, value, 1, UINT32_MAX, &options->warmup);
    if (strcmp (name, "rounds") == 0)
        return bench_parse_count (name, value, 1, BENCH_ROUNDS_MAX, &options->rounds);
    if (strcmp (name, "only") == 0)
        return bench_pair_choose (name, value, options->trips->contestants, options->trips->contestant_count,
                                  options->chosen);
    return bench_parse_count (name, value, 1, 86400, &options->deadline_s);
}

static void make_quick (void *asked)
{
    options_t *options = asked;
    options->millis = 10;
    options->warmup = 20;
    options->rounds = 1;
}

int bench_trips_main (int argc, char **argv, const bench_trips_t *trips)
{
    const bench_program_t program = {.options = {"size", "count", "millis", "warmup", "rounds", "only", "deadline"},
                                     .help = trips->help,
                                     .take = take_option,
                                     .quick = make_quick,
                                     .run = bench};
    options_t options = {
        .trips = trips, .size_count = trips->size_count, .millis = 1000, .warmup = 500, .rounds = 7, .deadline_s = 120};
    memcpy (options.sizes, trips->sizes, trips->size_count * sizeof *trips->sizes);
    memset (options.chosen, true, sizeof options.chosen);
    return bench_main (argc, argv, &program, &options);
}
