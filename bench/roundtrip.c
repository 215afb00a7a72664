/*
 * roundtrip.c - workload W3: the time of round trips between two processes,
 * beside plain libzmq, TCP and others over the same loopback in the same run.
 *
 * Method: bench/pair.h and bench/contestants.h. One side asks and waits for the
 * answer, which the other gives at once; there is one question under way at a
 * time. The time of each is taken from before the call that sends until the
 * answer was received and checked. A turn's percentiles are those of all its
 * round trips; what is printed are medians, least and most over the rounds.
 * Less is better. The ratios are to "zmq", DEALER <-> ROUTER; the spinning
 * contestants are also compared with each other.
 */
#include "bench/contestants.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    SIZES_MAX = 8,
    TURN_COUNT = 1000000, /* round trips of a turn, at most */
    TURN_LEAST = 100,
    SIZE_CHARS = 16
};

/* Their places in the list. */
enum { CTALK, CTALK_SPIN, CTALK_NOHELP, ZMQ, ZMQ_SPIN, TCP, TCP_SPIN, NNG, CZMQ };

static const bench_contestant_t *const contestants[] = {[CTALK] = &bench_ctalk_trip,
                                                        [CTALK_SPIN] = &bench_ctalk_trip_spin,
                                                        [CTALK_NOHELP] = &bench_ctalk_trip_alone,
                                                        [ZMQ] = &bench_zmq_trip,
                                                        [ZMQ_SPIN] = &bench_zmq_trip_spin,
                                                        [TCP] = &bench_tcp_trip,
                                                        [TCP_SPIN] = &bench_tcp_trip_spin,
                                                        [NNG] = &bench_nng_trip,
                                                        [CZMQ] = &bench_czmq_trip};

static const bench_versus_t versus[] = {{CTALK, TCP}, {CTALK_SPIN, ZMQ_SPIN}, {CTALK_SPIN, TCP_SPIN}};

enum { P50, P99, P999, WORST, RATE };

static const bench_metric_t metrics[] = {[P50] = {.name = "p50 us", .lower_is_better = true, .versus = true},
                                         [P99] = {.name = "p99 us", .lower_is_better = true, .versus = true},
                                         [P999] = {.name = "p99.9 us", .lower_is_better = true},
                                         [WORST] = {.name = "max us", .lower_is_better = true},
                                         [RATE] = {.name = "round trips/s"}};

/* What the command line asks for. */
typedef struct {
    uint64_t sizes[SIZES_MAX];
    size_t size_count;
    uint64_t count, warmup, millis, rounds, deadline_s; /* count 0: found */
    bool chosen[BENCH_LENGTH (contestants)];
} options_t;

/* -------------------------------------------------------------------- rounds */

static int compare_samples (const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;
    return (x > y) - (x < y);
}

/* The sample below or at which this part of all is, in us. */
static double percentile_us (const uint32_t *sorted_ns, uint64_t count, double part)
{
    uint64_t index = (uint64_t) (part * (double) count);
    return (double) sorted_ns[index < count ? index : count - 1] / 1000;
}

static void measure (const bench_turn_t *turn, bench_result_t *result)
{
    uint32_t *samples_ns = turn->samples_ns;
    qsort (samples_ns, turn->count, sizeof *samples_ns, compare_samples);
    result->metrics[P50] = percentile_us (samples_ns, turn->count, 0.5);
    result->metrics[P99] = percentile_us (samples_ns, turn->count, 0.99);
    result->metrics[P999] = percentile_us (samples_ns, turn->count, 0.999);
    result->metrics[WORST] = percentile_us (samples_ns, turn->count, 1);
    result->metrics[RATE] = result->rate;
}

/* All rounds with one size. -1 after a message. */
static int run_size (const options_t *options, FILE *csv, uint64_t size, _Atomic uint64_t *done, uint32_t *samples_ns)
{
    static bench_result_t results[BENCH_LENGTH (contestants)][BENCH_ROUNDS_MAX];
    char size_text[SIZE_CHARS], title[BENCH_TEXT_BYTES];
    bench_pair_size_text (size_text, sizeof size_text, size);
    bench_contest_t contest = {.workload = "W3",
                               .parameter = size_text,
                               .x = (double) size,
                               .contestants = contestants,
                               .contestant_count = BENCH_LENGTH (contestants),
                               .yardstick = ZMQ,
                               .versus = versus,
                               .versus_count = BENCH_LENGTH (versus),
                               .metrics = metrics,
                               .metric_count = BENCH_LENGTH (metrics),
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
    snprintf (title, sizeof title, "W3: round trips, %s", size_text);
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

static void print_help (void)
{
    printf ("usage: roundtrip [OPTION]...\n"
            "The time of round trips between two processes over loopback, one at a time,\n"
            "ClusterTalk beside plain libzmq and others, turn about.\n"
            "\n"
            "  --size LIST       payloads, 8 to 16777216 bytes, at most %d of them (64,4096)\n"
            "  --count N         round trips in a turn, at most %d; 0: as --millis says (0)\n"
            "  --millis N        a turn has about as many as take so long (1000)\n"
            "  --warmup N        round trips before the time counts (500)\n"
            "  --rounds N        rounds; each contestant has a turn in each (7)\n"
            "  --only LIST       contestants, of:\n"
            "                   ",
            SIZES_MAX, TURN_COUNT);
    for (size_t i = 0; i < BENCH_LENGTH (contestants); i++)
        printf (" %s", contestants[i]->name);
    printf ("\n"
            "  --deadline S      seconds after which a turn is ended as failed (120)\n"
            "  --csv FILE        write the figures\n"
            "  --quick           a run of a few seconds that says little\n"
            "  --help            this text\n"
            "\n"
            "ctalk has default options, ctalk-spin SpinMicros %d, ctalk-nohelp Help off; zmq\n"
            "is DEALER <-> ROUTER, zmq-spin the same that spins up to %d us before it sleeps,\n"
            "tcp and tcp-spin plain sockets with TCP_NODELAY; nng and czmq REQ <-> REP.\n"
            "Exit status: 0 measured, 1 failed, 2 wrong usage.\n",
            BENCH_SPIN_US, BENCH_SPIN_US);
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
        return bench_pair_choose (name, value, contestants, BENCH_LENGTH (contestants), options->chosen);
    return bench_parse_count (name, value, 1, 86400, &options->deadline_s);
}

static void make_quick (void *asked)
{
    options_t *options = asked;
    options->millis = 10;
    options->warmup = 20;
    options->rounds = 1;
}

int main (int argc, char **argv)
{
    static const bench_program_t program = {
        .options = {"size", "count", "millis", "warmup", "rounds", "only", "deadline"},
        .help = print_help,
        .take = take_option,
        .quick = make_quick,
        .run = bench};
    options_t options = {
        .sizes = {64, 4096}, .size_count = 2, .millis = 1000, .warmup = 500, .rounds = 7, .deadline_s = 120};
    memset (options.chosen, true, sizeof options.chosen);
    return bench_main (argc, argv, &program, &options);
}
