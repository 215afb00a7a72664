/*
 * oneway.c - the one-way rate of small envelopes between two processes, beside
 * plain PUSH -> PULL of libzmq over the same loopback in the same run.
 *
 * Method. A turn is one contestant in two fresh processes, a sender and a
 * receiver. The contestants take turns within a round, a different one first
 * each round. The connection is set up and warm-up envelopes pass before the
 * time counts. It counts from just before the first send call (read in the
 * sender) until the receiving program has taken and checked the last envelope
 * (read in the receiver; the monotonic clock is the same for both). Every
 * envelope is one call to send and one call to receive; the payload is copied
 * by the send. Number, order and every byte are checked by the receiver, at
 * the same cost for all.
 *
 *   ctalk       ctalk_send / ctalk_recv + ctalk_envelope_close, default options
 *   zmq         zmq_send / zmq_msg_recv, PUSH -> PULL, default high-water mark
 *   zmq-hwm0    the same with ZMQ_SNDHWM and ZMQ_RCVHWM 0 (no limit): what
 *               waits lies in memory without bound
 *
 * Processor time is what both processes took between the end of the warm-up
 * and the last envelope; peak memory is that of the whole process.
 *
 * It owns its child processes; a turn that is not over by its deadline is
 * ended with an error. A wrong, missing or doubled envelope is an error too.
 */
#include "bench/bench.h"

#include <clustertalk.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <zmq.h>

enum {
    SENDER_PID = 1,
    RECEIVER_PID = 2,
    UP_MS = 10000,            /* for the peer to come up */
    PROGRESS_EVERY = 1 << 14, /* envelopes between two looks at the progress */
    CONTESTANTS = 3,
    SIZE_MAX_BYTES = 16 * 1024 * 1024
};

/* What the command line asks for. */
typedef struct {
    uint64_t size, count, warmup, rounds, deadline_s;
    double require;
} options_t;

/* One end of a turn, in its process. */
typedef struct {
    ctalk_server_t *server;
    void *context, *socket;
    uint8_t *payload;
    size_t size;
    _Atomic uint64_t *done; /* shared with the parent: how many were received */
    char error[BENCH_TEXT_BYTES / 2];
} end_t;

/* A contestant. Each call returns 0, or -1 with end->error filled in. */
typedef struct {
    const char *name;
    int (*open) (end_t *end, bool sender, char *endpoint, size_t capacity); /* the own endpoint, "" if there is none */
    int (*join) (end_t *end, bool sender, const char *endpoint);            /* that of the other end */
    int (*push) (end_t *end, uint64_t first, uint64_t count);
    int (*pull) (end_t *end, uint64_t first, uint64_t count);
    int (*close) (end_t *end);
} contestant_t;

static int fail (end_t *end, const char *what)
{
    snprintf (end->error, sizeof end->error, "%s: %s", what, zmq_strerror (errno));
    return -1;
}

/* ------------------------------------------------------------------- ctalk */

static int open_ctalk (end_t *end, bool sender, char *endpoint, size_t capacity)
{
    ctalk_error_t error = {.text = "out of memory"};
    ctalk_config_t *config = ctalk_config_new ();
    if (config && ctalk_config_add_server (config, SENDER_PID, "127.0.0.1:0", &error) == 0
        && ctalk_config_add_server (config, RECEIVER_PID, "127.0.0.1:0", &error) == 0)
        end->server = ctalk_server_new (sender ? SENDER_PID : RECEIVER_PID, config, &error);
    ctalk_config_destroy (&config);
    if (!end->server) {
        snprintf (end->error, sizeof end->error, "ctalk_server_new: %s", error.text);
        return -1;
    }
    snprintf (endpoint, capacity, "%s", ctalk_server_endpoint (end->server));
    return 0;
}

static int join_ctalk (end_t *end, bool sender, const char *endpoint)
{
    if (ctalk_server_add_peer (end->server, sender ? RECEIVER_PID : SENDER_PID, endpoint) != 0)
        return fail (end, "ctalk_server_add_peer");
    if (ctalk_server_wait_up (end->server, SIZE_MAX, UP_MS) != 0)
        return fail (end, "ctalk_server_wait_up");
    return 0;
}

static int push_ctalk (end_t *end, uint64_t first, uint64_t count)
{
    ctalk_envelope_t envelope = {.pid = RECEIVER_PID, .data = end->payload, .size = end->size};
    for (uint64_t number = first; number < first + count; number++) {
        bench_fill (end->payload, end->size, number);
        envelope.msg_id = (int64_t) number;
        if (ctalk_send (end->server, &envelope, -1) != 0)
            return fail (end, "ctalk_send");
    }
    return 0;
}

static int pull_ctalk (end_t *end, uint64_t first, uint64_t count)
{
    for (uint64_t number = first; number < first + count; number++) {
        ctalk_envelope_t envelope;
        if (ctalk_recv (end->server, &envelope, -1) != 0)
            return fail (end, "ctalk_recv");
        bool good = envelope.size == end->size && envelope.msg_id == (int64_t) number && envelope.pid == SENDER_PID
                    && bench_check (envelope.data, envelope.size, number);
        if (!good)
            bench_describe (end->error, sizeof end->error, envelope.data, envelope.size, number);
        ctalk_envelope_close (&envelope);
        if (!good)
            return -1;
        if (number % PROGRESS_EVERY == 0)
            atomic_store_explicit (end->done, number - first, memory_order_relaxed);
    }
    return 0;
}

static int close_ctalk (end_t *end)
{
    int abandoned = ctalk_server_close (&end->server, BENCH_CLOSE_MS);
    if (abandoned == 0)
        return 0;
    snprintf (end->error, sizeof end->error, "ctalk_server_close: %d envelopes abandoned", abandoned);
    return -1;
}

/* ----------------------------------------------------------- the yardstick */

static int open_socket (end_t *end, int type, const int *high_water)
{
    end->context = zmq_ctx_new ();
    end->socket = end->context ? zmq_socket (end->context, type) : NULL;
    if (!end->socket)
        return fail (end, "zmq_socket");
    if (high_water
        && (zmq_setsockopt (end->socket, ZMQ_SNDHWM, high_water, sizeof *high_water) != 0
            || zmq_setsockopt (end->socket, ZMQ_RCVHWM, high_water, sizeof *high_water) != 0))
        return fail (end, "zmq_setsockopt");
    return 0;
}

/* The receiver binds and the sender connects, as those of ClusterTalk do. */
static int open_zmq (end_t *end, bool sender, char *endpoint, size_t capacity, const int *high_water)
{
    if (open_socket (end, sender ? ZMQ_PUSH : ZMQ_PULL, high_water) != 0)
        return -1;
    endpoint[0] = '\0';
    if (sender)
        return 0;
    if (zmq_bind (end->socket, "tcp://127.0.0.1:*") != 0)
        return fail (end, "zmq_bind");
    if (zmq_getsockopt (end->socket, ZMQ_LAST_ENDPOINT, endpoint, &capacity) != 0)
        return fail (end, "zmq_getsockopt");
    return 0;
}

static int open_zmq_default (end_t *end, bool sender, char *endpoint, size_t capacity)
{
    return open_zmq (end, sender, endpoint, capacity, NULL);
}

static int open_zmq_unlimited (end_t *end, bool sender, char *endpoint, size_t capacity)
{
    const int no_limit = 0;
    return open_zmq (end, sender, endpoint, capacity, &no_limit);
}

static int join_zmq (end_t *end, bool sender, const char *endpoint)
{
    if (sender && zmq_connect (end->socket, endpoint) != 0)
        return fail (end, "zmq_connect");
    return 0;
}

static int push_zmq (end_t *end, uint64_t first, uint64_t count)
{
    for (uint64_t number = first; number < first + count; number++) {
        bench_fill (end->payload, end->size, number);
        if (zmq_send (end->socket, end->payload, end->size, 0) < 0)
            return fail (end, "zmq_send");
    }
    return 0;
}

static int pull_zmq (end_t *end, uint64_t first, uint64_t count)
{
    int result = 0;
    zmq_msg_t message;
    zmq_msg_init (&message);
    for (uint64_t number = first; result == 0 && number < first + count; number++) {
        if (zmq_msg_recv (&message, end->socket, 0) < 0) {
            result = fail (end, "zmq_msg_recv");
        } else if (zmq_msg_size (&message) != end->size || !bench_check (zmq_msg_data (&message), end->size, number)) {
            bench_describe (end->error, sizeof end->error, zmq_msg_data (&message), zmq_msg_size (&message), number);
            result = -1;
        }
        if (number % PROGRESS_EVERY == 0)
            atomic_store_explicit (end->done, number - first, memory_order_relaxed);
    }
    zmq_msg_close (&message);
    return result;
}

static int close_zmq (end_t *end)
{
    if (zmq_close (end->socket) != 0 || zmq_ctx_term (end->context) != 0)
        return fail (end, "zmq_close");
    return 0;
}

static const contestant_t contestants[CONTESTANTS] = {
    {"ctalk", open_ctalk, join_ctalk, push_ctalk, pull_ctalk, close_ctalk},
    {"zmq", open_zmq_default, join_zmq, push_zmq, pull_zmq, close_zmq},
    {"zmq-hwm0", open_zmq_unlimited, join_zmq, push_zmq, pull_zmq, close_zmq},
};

/* ------------------------------------------------- the processes of a turn */

/* What a child is given. */
typedef struct {
    const options_t *options;
    const contestant_t *contestant;
    _Atomic uint64_t *done;
} turn_t;

/* Notes of a child, in this order: its endpoint; the receiver: warmed up; when
 * told so its figures: [0] a time, [1] processor time. The parent tells it the
 * other's endpoint, the sender to go and to stop counting, both to close. */

/* Opens this end and joins it with the other. */
static int set_up (int fd, const turn_t *turn, end_t *end, bool sender)
{
    bench_note_t note = {0};
    end->size = turn->options->size;
    end->done = turn->done;
    end->payload = calloc (1, end->size);
    if (!end->payload)
        return fail (end, "calloc");
    if (turn->contestant->open (end, sender, note.text, sizeof note.text) != 0 || bench_tell (fd, &note) != 0)
        return -1;
    if (bench_listen (fd, &note) != 0)
        return -1;
    return turn->contestant->join (end, sender, note.text);
}

static int tell_figures (int fd, uint64_t time_ns, uint64_t cpu_ns)
{
    bench_note_t note = {.number = {time_ns, cpu_ns}};
    return bench_tell (fd, &note);
}

static int close_when_told (int fd, const turn_t *turn, end_t *end)
{
    bench_note_t note;
    if (bench_listen (fd, &note) != 0)
        return -1;
    free (end->payload);
    return turn->contestant->close (end);
}

static int send_all (int fd, const turn_t *turn, end_t *end)
{
    const options_t *options = turn->options;
    bench_note_t note;
    if (set_up (fd, turn, end, true) != 0 || turn->contestant->push (end, 0, options->warmup) != 0
        || bench_listen (fd, &note) != 0)
        return -1;
    uint64_t cpu_ns = bench_cpu_ns ();
    uint64_t start_ns = bench_now_ns ();
    if (turn->contestant->push (end, options->warmup, options->count) != 0 || bench_listen (fd, &note) != 0)
        return -1;
    if (tell_figures (fd, start_ns, bench_cpu_ns () - cpu_ns) != 0)
        return -1;
    return close_when_told (fd, turn, end);
}

static int receive_all (int fd, const turn_t *turn, end_t *end)
{
    const options_t *options = turn->options;
    if (set_up (fd, turn, end, false) != 0 || turn->contestant->pull (end, 0, options->warmup) != 0)
        return -1;
    uint64_t cpu_ns = bench_cpu_ns ();
    if (tell_figures (fd, 0, 0) != 0 || turn->contestant->pull (end, options->warmup, options->count) != 0)
        return -1;
    uint64_t end_ns = bench_now_ns ();
    if (tell_figures (fd, end_ns, bench_cpu_ns () - cpu_ns) != 0)
        return -1;
    return close_when_told (fd, turn, end);
}

static int sender_body (int fd, void *arg)
{
    end_t end = {.error = "the parent has ended"};
    return send_all (fd, arg, &end) == 0 ? 0 : bench_fail (fd, "%s", end.error);
}

static int receiver_body (int fd, void *arg)
{
    end_t end = {.error = "the parent has ended"};
    return receive_all (fd, arg, &end) == 0 ? 0 : bench_fail (fd, "%s", end.error);
}

/* -------------------------------------------------------------- the parent */

/* What a turn gave. */
typedef struct {
    double seconds, rate;
    double sender_cpu_s, receiver_cpu_s;
    long sender_peak_kib, receiver_peak_kib;
} result_t;

/* For the progress line. */
typedef struct {
    const turn_t *turn;
    uint64_t round;
} watch_t;

static void show_progress (void *arg)
{
    const watch_t *watch = arg;
    const options_t *options = watch->turn->options;
    bench_progress ("round %" PRIu64 "/%" PRIu64 "  %-9s %3.0f %%", watch->round, options->rounds,
                    watch->turn->contestant->name,
                    100.0 * (double) atomic_load (watch->turn->done) / (double) options->count);
}

/* Leads the two children of a turn from their endpoints to their figures. */
static int lead_turn (bench_group_t *group, int receiver, int sender, watch_t *watch, uint64_t deadline_ns,
                      bench_note_t *received, bench_note_t *sent)
{
    bench_note_t at_sender, at_receiver, warm, go = {0};
    if (bench_hear (group, receiver, &at_receiver, deadline_ns, NULL, NULL) != 0
        || bench_hear (group, sender, &at_sender, deadline_ns, NULL, NULL) != 0)
        return -1;
    bench_tell (group->child[receiver].fd, &at_sender);
    bench_tell (group->child[sender].fd, &at_receiver);
    if (bench_hear (group, receiver, &warm, deadline_ns, show_progress, watch) != 0)
        return -1;
    bench_tell (group->child[sender].fd, &go);
    if (bench_hear (group, receiver, received, deadline_ns, show_progress, watch) != 0)
        return -1;
    bench_tell (group->child[sender].fd, &go);
    if (bench_hear (group, sender, sent, deadline_ns, show_progress, watch) != 0)
        return -1;
    bench_tell (group->child[receiver].fd, &go);
    bench_tell (group->child[sender].fd, &go);
    return bench_join (group, group->count, deadline_ns);
}

static int run_turn (turn_t *turn, uint64_t round, result_t *result)
{
    bench_group_t group = {0};
    bench_note_t received, sent;
    watch_t watch = {.turn = turn, .round = round};
    uint64_t deadline_ns = bench_now_ns () + turn->options->deadline_s * UINT64_C (1000000000);
    atomic_store (turn->done, 0);
    int receiver = bench_start (&group, "receiver", receiver_body, turn);
    int sender = receiver < 0 ? -1 : bench_start (&group, "sender", sender_body, turn);
    if (sender < 0 || lead_turn (&group, receiver, sender, &watch, deadline_ns, &received, &sent) != 0) {
        fprintf (stderr, "round %" PRIu64 ", %s: failed after at least %" PRIu64 " envelopes\n", round,
                 turn->contestant->name, atomic_load (turn->done));
        bench_kill (&group);
        return -1;
    }
    result->seconds = (double) (received.number[0] - sent.number[0]) / 1e9;
    result->rate = (double) turn->options->count / result->seconds;
    result->sender_cpu_s = (double) sent.number[1] / 1e9;
    result->receiver_cpu_s = (double) received.number[1] / 1e9;
    result->sender_peak_kib = group.child[sender].peak_kib;
    result->receiver_peak_kib = group.child[receiver].peak_kib;
    return 0;
}

static void print_round (uint64_t round, const result_t *results)
{
    bench_cell_t cells[CONTESTANTS + 3];
    bench_progress ("%s", "");
    bench_cell (cells[0], "%" PRIu64, round);
    for (size_t i = 0; i < CONTESTANTS; i++)
        bench_cell (cells[i + 1], "%.0f", results[i].rate);
    bench_cell (cells[CONTESTANTS + 1], "%.2f", results[0].rate / results[1].rate);
    bench_cell (cells[CONTESTANTS + 2], "%.2f", results[0].rate / results[2].rate);
    bench_print_row (cells, CONTESTANTS + 3);
}

static void write_csv (FILE *csv, const options_t *options, uint64_t round, const result_t *results)
{
    if (!csv)
        return;
    if (round == 1)
        fprintf (csv, "contestant,round,size_bytes,count,seconds,envelopes_per_s,sender_cpu_s,receiver_cpu_s,"
                      "sender_peak_kib,receiver_peak_kib\n");
    for (size_t i = 0; i < CONTESTANTS; i++)
        fprintf (csv, "%s,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%.6f,%.0f,%.3f,%.3f,%ld,%ld\n", contestants[i].name,
                 round, options->size, options->count, results[i].seconds, results[i].rate, results[i].sender_cpu_s,
                 results[i].receiver_cpu_s, results[i].sender_peak_kib, results[i].receiver_peak_kib);
    fflush (csv);
}

/* One figure of one contestant in all rounds. */
enum figure { RATE, SENDER_CPU, RECEIVER_CPU, SENDER_PEAK, RECEIVER_PEAK };

static size_t collect (double *values, const result_t (*results)[CONTESTANTS], uint64_t rounds, size_t contestant,
                       enum figure figure)
{
    for (uint64_t i = 0; i < rounds; i++) {
        const result_t *result = &results[i][contestant];
        const double figures[] = {[RATE] = result->rate,
                                  [SENDER_CPU] = result->sender_cpu_s,
                                  [RECEIVER_CPU] = result->receiver_cpu_s,
                                  [SENDER_PEAK] = (double) result->sender_peak_kib,
                                  [RECEIVER_PEAK] = (double) result->receiver_peak_kib};
        values[i] = figures[figure];
    }
    return rounds;
}

static double median_of (const result_t (*results)[CONTESTANTS], uint64_t rounds, size_t contestant, enum figure figure)
{
    double values[BENCH_ROUNDS_MAX];
    return bench_median (values, collect (values, results, rounds, contestant, figure));
}

static void print_summary (const options_t *options, const result_t (*results)[CONTESTANTS])
{
    const bench_cell_t head[] = {"envelopes/s",  "median",         "least",      "most",
                                 "sender CPU s", "receiver CPU s", "sender MiB", "receiver MiB"};
    printf ("\n");
    bench_print_head (head, sizeof head / sizeof *head);
    for (size_t i = 0; i < CONTESTANTS; i++) {
        bench_cell_t cells[sizeof head / sizeof *head];
        double rates[BENCH_ROUNDS_MAX];
        size_t count = collect (rates, results, options->rounds, i, RATE);
        bench_cell (cells[0], "%s", contestants[i].name);
        bench_cell (cells[1], "%.0f", bench_median (rates, count));
        bench_cell (cells[2], "%.0f", bench_least (rates, count));
        bench_cell (cells[3], "%.0f", bench_most (rates, count));
        bench_cell (cells[4], "%.2f", median_of (results, options->rounds, i, SENDER_CPU));
        bench_cell (cells[5], "%.2f", median_of (results, options->rounds, i, RECEIVER_CPU));
        bench_cell (cells[6], "%.1f", median_of (results, options->rounds, i, SENDER_PEAK) / 1024);
        bench_cell (cells[7], "%.1f", median_of (results, options->rounds, i, RECEIVER_PEAK) / 1024);
        bench_print_row (cells, sizeof head / sizeof *head);
    }
    printf ("\nThe last four columns are medians.\n\n");
}

/* Prints ClusterTalk's ratio to a yardstick; returns the ratio of the medians. */
static double print_ratio (const options_t *options, const result_t (*results)[CONTESTANTS], size_t yardstick)
{
    double ratios[BENCH_ROUNDS_MAX];
    double ratio =
        median_of (results, options->rounds, 0, RATE) / median_of (results, options->rounds, yardstick, RATE);
    for (uint64_t i = 0; i < options->rounds; i++)
        ratios[i] = results[i][0].rate / results[i][yardstick].rate;
    printf ("ctalk / %s: ratio of the medians %.2f, median of the rounds' ratios %.2f (%.2f to %.2f)\n",
            contestants[yardstick].name, ratio, bench_median (ratios, options->rounds),
            bench_least (ratios, options->rounds), bench_most (ratios, options->rounds));
    return ratio;
}

static int run_rounds (const options_t *options, FILE *csv, result_t (*results)[CONTESTANTS])
{
    const bench_cell_t head[] = {"round", "ctalk/s", "zmq/s", "zmq-hwm0/s", "to zmq", "to zmq-hwm0"};
    turn_t turn = {.options = options, .done = bench_shared (sizeof *turn.done)};
    if (!turn.done)
        return -1;
    bench_print_head (head, sizeof head / sizeof *head);
    for (uint64_t round = 1; round <= options->rounds; round++) {
        for (size_t i = 0; i < CONTESTANTS; i++) {
            size_t who = (i + (size_t) round - 1) % CONTESTANTS;
            turn.contestant = &contestants[who];
            if (run_turn (&turn, round, &results[round - 1][who]) != 0)
                return -1;
        }
        print_round (round, results[round - 1]);
        write_csv (csv, options, round, results[round - 1]);
    }
    return 0;
}

static int bench (const void *asked, FILE *csv)
{
    const options_t *options = asked;
    static result_t results[BENCH_ROUNDS_MAX][CONTESTANTS];
    bench_print_machine ();
    printf ("one way, %" PRIu64 " bytes, %" PRIu64 " envelopes after %" PRIu64 " to warm up, %" PRIu64 " rounds\n\n",
            options->size, options->count, options->warmup, options->rounds);
    if (run_rounds (options, csv, results) != 0)
        return EXIT_FAILURE;
    print_summary (options, results);
    double ratio = print_ratio (options, results, 1);
    double ratio_unlimited = print_ratio (options, results, 2);
    printf ("at least as fast as plain PUSH -> PULL: %s\n", ratio >= 1 && ratio_unlimited >= 1 ? "yes" : "no");
    return ratio < options->require ? BENCH_MISSED : EXIT_SUCCESS;
}

/* ------------------------------------------------------------ command line */

static void print_help (void)
{
    printf ("usage: oneway [OPTION]...\n"
            "The one-way rate of envelopes between two processes over loopback, ClusterTalk\n"
            "with default options beside plain PUSH -> PULL of libzmq, turn about.\n"
            "The time counts from the first send call until the receiving program has taken\n"
            "and checked the last envelope; set-up and warm-up are not in it.\n"
            "\n"
            "  --size BYTES      of a payload, 8 to 16777216 (64)\n"
            "  --count N         envelopes in a turn (5000000)\n"
            "  --warmup N        envelopes before the time counts, at least 1 (100000)\n"
            "  --rounds N        rounds; each contestant has a turn in each (7)\n"
            "  --deadline S      seconds after which a turn is ended as failed (120)\n"
            "  --csv FILE        write the figures of every turn\n"
            "  --require RATIO   exit with 3 if ctalk / zmq is below it (0)\n"
            "  --help            this text\n"
            "\n"
            "Without a limit (zmq-hwm0) what waits lies in memory: some 150 bytes and the\n"
            "payload for each envelope. Exit status: 0 measured, 1 failed, 2 wrong usage,\n"
            "3 below --require.\n");
}

static bool take_option (void *asked, const char *name, const char *value)
{
    options_t *options = asked;
    if (strcmp (name, "size") == 0)
        return bench_parse_count (name, value, BENCH_PAYLOAD_MIN_BYTES, SIZE_MAX_BYTES, &options->size);
    if (strcmp (name, "count") == 0)
        return bench_parse_count (name, value, 1, UINT32_MAX, &options->count);
    if (strcmp (name, "warmup") == 0)
        return bench_parse_count (name, value, 1, UINT32_MAX, &options->warmup);
    if (strcmp (name, "rounds") == 0)
        return bench_parse_count (name, value, 1, BENCH_ROUNDS_MAX, &options->rounds);
    if (strcmp (name, "deadline") == 0)
        return bench_parse_count (name, value, 1, 86400, &options->deadline_s);
    return bench_parse_ratio (name, value, &options->require);
}

int main (int argc, char **argv)
{
    static const bench_program_t program = {.options = {"size", "count", "warmup", "rounds", "deadline", "require"},
                                            .help = print_help,
                                            .take = take_option,
                                            .run = bench};
    options_t options = {.size = 64, .count = 5000000, .warmup = 100000, .rounds = 7, .deadline_s = 120};
    return bench_main (argc, argv, &program, &options);
}
