/*
 * oneway.c - workloads W1 and W2: the one-way rate of envelopes between two
 * processes, beside plain libzmq, TCP and others over the same loopback in the
 * same run. Up to 1 MiB of payload it is W1, above it W2.
 *
 * Method: bench/pair.h and bench/contestants.h. The ratios are to "zmq", plain
 * PUSH -> PULL with the default high-water mark; those of ctalk also to the
 * other yardsticks. The largest payloads have contestants of their own, which
 * hand over the block instead of copying it. A turn has a given count, or as
 * many envelopes as take a given time.
 */
#include "bench/contestants.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    SIZES_MAX = 16,
    W1_MOST_BYTES = 1024 * 1024,
    TURN_BYTES = 1 << 30, /* of a turn whose count is found, at most */
    TURN_COUNT = 50000000,
    TURN_LEAST = 8,
    WARMUP_BYTES = 4 << 20, /* unless --warmup is given */
    WARMUP_COUNT = 20000,
    WARMUP_LEAST = 2,
    SIZE_CHARS = 16
};

/* Their places in the list. */
enum {
    CTALK,
    ZMQ,
    ZMQ_HWM0,
    ZMQ_SNDBUF_SET,
    ZMQ_DEALER_SENDS,
    TCP,
    NNG,
    CZMQ,
    CZMQ_ACTOR,
    CTALK_MANY,
    CTALK_OWNED,
    ZMQ_OWNED
};

static const bench_contestant_t *const contestants[] = {[CTALK] = &bench_ctalk_oneway,
                                                        [ZMQ] = &bench_zmq_push,
                                                        [ZMQ_HWM0] = &bench_zmq_unlimited,
                                                        [ZMQ_SNDBUF_SET] = &bench_zmq_buffered,
                                                        [ZMQ_DEALER_SENDS] = &bench_zmq_dealer,
                                                        [TCP] = &bench_tcp_oneway,
                                                        [NNG] = &bench_nng_oneway,
                                                        [CZMQ] = &bench_czmq_oneway,
                                                        [CZMQ_ACTOR] = &bench_czmq_actor,
                                                        [CTALK_MANY] = &bench_ctalk_many,
                                                        [CTALK_OWNED] = &bench_ctalk_owned,
                                                        [ZMQ_OWNED] = &bench_zmq_owned};

static const bench_versus_t versus[] = {{CTALK, ZMQ_HWM0}, {CTALK, ZMQ_SNDBUF_SET}, {CTALK, ZMQ_DEALER_SENDS},
                                        {CTALK, TCP},      {CTALK_MANY, TCP},       {CTALK, NNG},
                                        {CTALK, CZMQ},     {CTALK, CZMQ_ACTOR},     {CTALK_OWNED, ZMQ_OWNED}};

static const bench_metric_t metrics[] = {{.name = "envelopes/s", .versus = true}};

/* What the command line asks for. */
typedef struct {
    uint64_t sizes[SIZES_MAX];
    size_t size_count;
    uint64_t count, warmup, millis, rounds, deadline_s; /* count, warmup 0: found */
    bool chosen[BENCH_LENGTH (contestants)];
    double require;
} options_t;

/* -------------------------------------------------------------------- rounds */

static uint64_t within (uint64_t value, uint64_t least, uint64_t most)
{
    return value < least ? least : value > most ? most : value;
}

static bench_contest_t contest_of (const options_t *options, uint64_t size, const char *size_text)
{
    return (bench_contest_t){.workload = size > W1_MOST_BYTES ? "W2" : "W1",
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
                                      .warmup = options->warmup > 0
                                                    ? options->warmup
                                                    : within (WARMUP_BYTES / size, WARMUP_LEAST, WARMUP_COUNT),
                                      .deadline_s = options->deadline_s},
                             .count = options->count,
                             .seconds = (double) options->millis / 1000,
                             .count_least = TURN_LEAST,
                             .count_most = within (TURN_BYTES / size, TURN_LEAST, TURN_COUNT),
                             .rounds = options->rounds};
}

/* All rounds with one size. Returns the exit status. */
static int run_size (const options_t *options, FILE *csv, uint64_t size, _Atomic uint64_t *done)
{
    static bench_result_t results[BENCH_LENGTH (contestants)][BENCH_ROUNDS_MAX];
    char size_text[SIZE_CHARS], title[BENCH_TEXT_BYTES];
    bench_pair_size_text (size_text, sizeof size_text, size);
    bench_contest_t contest = contest_of (options, size, size_text);
    contest.results = results;
    contest.turn.done = done;
    if (bench_pair_contest (&contest) != 0)
        return EXIT_FAILURE;
    snprintf (title, sizeof title, "%s: one way, %s", contest.workload, size_text);
    bench_pair_report (&contest, title, csv);
    return options->require > 0 && bench_pair_ratio (&contest, 0, CTALK, ZMQ) < options->require ? BENCH_MISSED
                                                                                                 : EXIT_SUCCESS;
}

static int bench (const void *asked, FILE *csv)
{
    const options_t *options = asked;
    int result = EXIT_SUCCESS;
    _Atomic uint64_t *done = bench_shared (sizeof *done);
    if (!done)
        return EXIT_FAILURE;
    bench_print_machine ();
    printf ("rounds: %" PRIu64 "\n", options->rounds);
    for (size_t i = 0; i < options->size_count && result != EXIT_FAILURE; i++) {
        int status = run_size (options, csv, options->sizes[i], done);
        result = status != EXIT_SUCCESS ? status : result;
    }
    return result;
}

/* ------------------------------------------------------------ command line */

static void print_help (void)
{
    printf ("usage: oneway [OPTION]...\n"
            "The one-way rate of envelopes between two processes over loopback, ClusterTalk\n"
            "with default options beside plain libzmq and others, turn about. The time\n"
            "counts from the first send call until the receiving program has taken and\n"
            "checked the last envelope; set-up and warm-up are not in it.\n"
            "\n"
            "  --size BYTES      of a payload, 8 to 16777216; a list as in 64,1024, or w1 for\n"
            "                    8 B to 1 MiB (64)\n"
            "  --count N         envelopes in a turn; 0, and for nng and czmq-actor: as\n"
            "                    --millis says (0)\n"
            "  --millis N        a turn has about as many envelopes as take so long, and at\n"
            "                    most 1 GiB of them (1000)\n"
            "  --warmup N        envelopes before the time counts; 0: up to 20000 (0)\n"
            "  --rounds N        rounds; each contestant has a turn in each (7)\n"
            "  --only LIST       contestants, of:");
    for (size_t i = 0; i < BENCH_LENGTH (contestants); i++)
        printf ("%s%s", i % 6 == 0 ? "\n                    " : " ", contestants[i]->name);
    printf ("\n"
            "  --deadline S      seconds after which a turn is ended as failed (120)\n"
            "  --csv FILE        write the figures\n"
            "  --require RATIO   exit with 3 if ctalk / zmq is below it at any size (0)\n"
            "  --quick           a run of a few seconds that says little\n"
            "  --help            this text\n"
            "\n"
            "zmq is PUSH -> PULL as libzmq sets it up; zmq-hwm0 has no high-water mark: what\n"
            "waits lies in memory, some 150 bytes and the payload each; zmq-sndbuf has the\n"
            "send buffer and the I/O threads of ClusterTalk; zmq-dealer is DEALER -> ROUTER;\n"
            "tcp-64k packs messages into writes of 64 KiB; ctalk-many sends and receives many\n"
            "with a call; czmq-actor has a zactor on each side; ctalk-owned and zmq-owned\n"
            "hand over blocks, from 256 KiB on.\n"
            "Exit status: 0 measured, 1 failed, 2 wrong usage, 3 below --require.\n");
}

static bool take_sizes (options_t *options, const char *name, const char *value)
{
    const char *sizes = strcmp (value, "w1") == 0 ? "8,64,256,1024,4096,16384,65536,262144,1048576" : value;
    return bench_parse_list (name, sizes, BENCH_PAYLOAD_MIN_BYTES, BENCH_SIZE_MAX_BYTES, options->sizes, SIZES_MAX,
                             &options->size_count);
}

static bool take_option (void *asked, const char *name, const char *value)
{
    options_t *options = asked;
    if (strcmp (name, "size") == 0)
        return take_sizes (options, name, value);
    if (strcmp (name, "count") == 0)
        return bench_parse_count (name, value, 0, UINT32_MAX, &options->count);
    if (strcmp (name, "millis") == 0)
        return bench_parse_count (name, value, 1, 3600000, &options->millis);
    if (strcmp (name, "warmup") == 0)
        return bench_parse_count (name, value, 0, UINT32_MAX, &options->warmup);
    if (strcmp (name, "rounds") == 0)
        return bench_parse_count (name, value, 1, BENCH_ROUNDS_MAX, &options->rounds);
    if (strcmp (name, "only") == 0)
        return bench_pair_choose (name, value, contestants, BENCH_LENGTH (contestants), options->chosen);
    if (strcmp (name, "deadline") == 0)
        return bench_parse_count (name, value, 1, 86400, &options->deadline_s);
    return bench_parse_ratio (name, value, &options->require);
}

static void make_quick (void *asked)
{
    options_t *options = asked;
    options->sizes[0] = 64;
    options->sizes[1] = 1 << 18;
    options->size_count = 2;
    options->millis = 10;
    options->rounds = 1;
}

int main (int argc, char **argv)
{
    static const bench_program_t program = {
        .options = {"size", "count", "millis", "warmup", "rounds", "only", "deadline", "require"},
        .help = print_help,
        .take = take_option,
        .quick = make_quick,
        .run = bench};
    options_t options = {.sizes = {64}, .size_count = 1, .millis = 1000, .rounds = 7, .deadline_s = 120};
    memset (options.chosen, true, sizeof options.chosen);
    return bench_main (argc, argv, &program, &options);
}
