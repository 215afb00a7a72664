/*
 * mixed.c - round trips of small envelopes to one peer while large ones stream
 * to another from the same server: how long the small ones take, and what the
 * large ones still carry.
 *
 * Method. Three processes. In the first one a thread sends envelopes of 10 MB
 * to the third one as fast as they are taken, and another thread sends 64-byte
 * envelopes to the second one, which sends each back; one is under way at a
 * time. That goes on for a fixed time. Everything is connected and some of
 * either kind have passed before. The payload is copied by the send. Number,
 * order and every byte are checked, of the small ones at both ends, at the same
 * cost for all. In the case "quiet" the large ones are left out.
 *
 *   ctalk     one server in each process, default options
 *   zmq       a DEALER to a ROUTER for the small ones, a PUSH to a PULL for the
 *             large ones, in one context; I/O thread as libzmq sets it. The
 *             high-water marks of PUSH and PULL are HIGH_WATER: as much waits
 *             as with ClusterTalk's limit of 8 MiB. With libzmq's own 1,000 it
 *             would be 10 GB.
 *   zmq-io2   the same with two I/O threads, as ClusterTalk has them
 *
 * Percentiles are those of all round trips of a turn. As one is under way at a
 * time, a long one stands for the many that would have begun meanwhile: rates
 * of the round trips tell more of such pauses than percentiles do. A short round
 * trip beside a slow stream says little: see both.
 */
#include "bench/crew.h"
#include "bench/ends.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <zmq.h>

enum {
    FIRST = 0, /* the processes */
    ECHO = 1,
    SINK = 2,
    PROCESSES = 3,
    SMALL_BYTES = 64,
    END_BYTES = 8, /* the size of the envelope that ends the echo and the stream */
    HIGH_WATER = 2,
    WARM_TRIPS = 200,
    WARM_LARGE = 2,
    TRIPS_MAX = 1 << 20, /* of a turn; more are made and not noted */
    WAIT_MS = 20000,     /* for the next envelope */
    LARGE_MAX_BYTES = 16 * 1024 * 1024,
    CASES = 2
};

typedef struct {
    uint64_t large, millis, rounds, deadline_s;
    const char *only; /* contestants */
} options_t;

typedef struct {
    size_t large; /* bytes of a large one; 0: none are sent */
    uint64_t millis;
} task_t;

/* What the processes of a turn share. */
typedef struct {
    char endpoint[PROCESSES][ENDS_ENDPOINT_BYTES];
    double p50_us, p99_us, p999_us, trips_s;
    double stream_mb_s;
} board_t;

typedef struct {
    int io_threads;
} way_t;

/* What a process has, and how it sends and receives; each call 0 or -1. Small
 * ones go between FIRST and ECHO, large ones from FIRST to SINK. */
typedef struct end end_t;
struct end {
    ctalk_server_t *server;
    void *context, *small, *large_socket;
    uint64_t small_next, large_next;
    uint8_t *large;
    uint32_t *trip_ns;
    size_t trips;
    uint64_t until_ns;
    int (*send_small) (crew_member_t *member, uint64_t number, size_t size);
    int (*take_small) (crew_member_t *member, uint64_t number);
    int (*echo) (crew_member_t *member, uint64_t number, bool *ended);
    int (*send_large) (crew_member_t *member, const void *data, size_t size);
    int (*take_large) (crew_member_t *member, uint64_t number, bool *ended);
};

static end_t *new_end (crew_member_t *member)
{
    const task_t *task = member->task;
    end_t *end = calloc (1, sizeof *end);
    if (end) {
        member->own = end;
        end->large = calloc (1, task->large + END_BYTES);
        end->trip_ns = calloc (TRIPS_MAX, sizeof *end->trip_ns);
    }
    if (end && end->large && end->trip_ns)
        return end;
    crew_fail (member, "calloc");
    return NULL;
}

static void free_end (end_t *end)
{
    free (end->large);
    free (end->trip_ns);
    free (end);
}

static int check (crew_member_t *member, const char *where, const void *data, size_t size, size_t expected,
                  uint64_t number)
{
    if (size == expected && bench_check (data, size, number))
        return 0;
    return crew_fail_content (member, where, data, size, number);
}

/* ------------------------------------------------------------ the first process */

static int make_trip (crew_member_t *member)
{
    end_t *end = member->own;
    const uint64_t number = end->small_next++;
    if (end->send_small (member, number, SMALL_BYTES) != 0)
        return -1;
    return end->take_small (member, number);
}

/* Round trips until the time is over, each noted. */
static int make_trips (crew_member_t *member)
{
    end_t *end = member->own;
    uint64_t now_ns = bench_now_ns ();
    while (now_ns < end->until_ns) {
        const uint64_t begin_ns = now_ns;
        if (make_trip (member) != 0)
            return -1;
        now_ns = bench_now_ns ();
        const uint64_t took_ns = now_ns - begin_ns;
        if (end->trips < TRIPS_MAX)
            end->trip_ns[end->trips++] = took_ns < UINT32_MAX ? (uint32_t) took_ns : UINT32_MAX;
    }
    return 0;
}

static int send_large (crew_member_t *member)
{
    const task_t *task = member->task;
    end_t *end = member->own;
    bench_fill (end->large, task->large, end->large_next++);
    return end->send_large (member, end->large, task->large);
}

/* The streaming thread, with a copy of the member: its error is its own. */
typedef struct {
    crew_member_t member;
    int result;
} stream_t;

static void *run_stream (void *arg)
{
    stream_t *stream = arg;
    const end_t *end = stream->member.own;
    while (stream->result == 0 && bench_now_ns () < end->until_ns)
        stream->result = send_large (&stream->member);
    if (stream->result == 0)
        stream->result = end->send_large (&stream->member, end->large, END_BYTES);
    return NULL;
}

/* Not in the timed step, as sorting takes its time. */
static void note_trips (crew_member_t *member)
{
    const task_t *task = member->task;
    end_t *end = member->own;
    board_t *board = member->shared;
    if (member->self != FIRST)
        return;
    bench_sort_times (end->trip_ns, end->trips);
    board->p50_us = bench_percentile_us (end->trip_ns, end->trips, 500);
    board->p99_us = bench_percentile_us (end->trip_ns, end->trips, 990);
    board->p999_us = bench_percentile_us (end->trip_ns, end->trips, 999);
    board->trips_s = (double) end->trips * 1000 / (double) task->millis;
}

/* Both kinds for the time of a turn, then what ends them. */
static int run_first (crew_member_t *member)
{
    const task_t *task = member->task;
    end_t *end = member->own;
    pthread_t thread;
    stream_t stream = {.member = *member};
    end->until_ns = bench_now_ns () + task->millis * UINT64_C (1000000);
    errno = task->large > 0 ? pthread_create (&thread, NULL, run_stream, &stream) : 0;
    if (errno != 0)
        return crew_fail (member, "pthread_create");
    if (make_trips (member) != 0 || end->send_small (member, end->small_next, END_BYTES) != 0)
        return -1; /* the process ends, and its thread with it */
    if (task->large > 0)
        pthread_join (thread, NULL);
    if (stream.result != 0)
        *member = stream.member;
    return stream.result;
}

static int warm_first (crew_member_t *member)
{
    const task_t *task = member->task;
    for (int i = 0; i < WARM_TRIPS; i++)
        if (make_trip (member) != 0)
            return -1;
    for (int i = 0; i < WARM_LARGE && task->large > 0; i++)
        if (send_large (member) != 0)
            return -1;
    return 0;
}

/* --------------------------------------------------------- the other processes */

/* Sends back what comes, until the end or after so many. */
static int echo (crew_member_t *member, uint64_t count)
{
    end_t *end = member->own;
    bool ended = false;
    for (uint64_t i = 0; i < count && !ended; i++)
        if (end->echo (member, end->small_next++, &ended) != 0)
            return -1;
    return 0;
}

/* Takes large ones, until the end or after so many. */
static int sink (crew_member_t *member, uint64_t count)
{
    end_t *end = member->own;
    bool ended = false;
    for (uint64_t i = 0; i < count && !ended; i++)
        if (end->take_large (member, end->large_next++, &ended) != 0)
            return -1;
    return 0;
}

static int run_sink (crew_member_t *member)
{
    const task_t *task = member->task;
    const end_t *end = member->own;
    board_t *board = member->shared;
    if (task->large == 0)
        return 0;
    const uint64_t begin_ns = bench_now_ns (), before = end->large_next;
    if (sink (member, UINT64_MAX) != 0)
        return -1;
    const uint64_t count = end->large_next - before - 1; /* the last one was the end */
    board->stream_mb_s = (double) (count * task->large) * 1e3 / (double) (bench_now_ns () - begin_ns);
    return 0;
}

/* The steps that all contestants share. */
static int warm (crew_member_t *member)
{
    const task_t *task = member->task;
    if (member->self == FIRST)
        return warm_first (member);
    if (member->self == ECHO)
        return echo (member, WARM_TRIPS);
    return task->large > 0 ? sink (member, WARM_LARGE) : 0;
}

static int run (crew_member_t *member)
{
    if (member->self == FIRST)
        return run_first (member);
    return member->self == ECHO ? echo (member, UINT64_MAX) : run_sink (member);
}

/* -------------------------------------------------------------- ClusterTalk */

static ctalk_pid_t pid_of (int process)
{
    return process + 1;
}

static int send_ctalk (crew_member_t *member, int to, const void *data, size_t size)
{
    const end_t *end = member->own;
    const ctalk_envelope_t envelope = {.pid = pid_of (to), .data = data, .size = size};
    return ctalk_send (end->server, &envelope, -1) == 0 ? 0 : crew_fail (member, "ctalk_send");
}

static int send_small_ctalk (crew_member_t *member, uint64_t number, size_t size)
{
    uint8_t payload[SMALL_BYTES];
    bench_fill (payload, sizeof payload, number);
    return send_ctalk (member, ECHO, payload, size);
}

static int send_large_ctalk (crew_member_t *member, const void *data, size_t size)
{
    return send_ctalk (member, SINK, data, size);
}

static int receive_ctalk (crew_member_t *member, ctalk_envelope_t *envelope)
{
    const end_t *end = member->own;
    return ctalk_recv (end->server, envelope, WAIT_MS) == 0 ? 0 : crew_fail (member, "ctalk_recv");
}

static int take_small_ctalk (crew_member_t *member, uint64_t number)
{
    ctalk_envelope_t envelope;
    if (receive_ctalk (member, &envelope) != 0)
        return -1;
    int result = check (member, "round trip", envelope.data, envelope.size, SMALL_BYTES, number);
    ctalk_envelope_close (&envelope);
    return result;
}

static int echo_ctalk (crew_member_t *member, uint64_t number, bool *ended)
{
    ctalk_envelope_t envelope;
    int result = 0;
    if (receive_ctalk (member, &envelope) != 0)
        return -1;
    *ended = envelope.size == END_BYTES;
    if (!*ended)
        result = check (member, "echo", envelope.data, envelope.size, SMALL_BYTES, number);
    if (!*ended && result == 0)
        result = send_ctalk (member, FIRST, envelope.data, envelope.size);
    ctalk_envelope_close (&envelope);
    return result;
}

static int take_large_ctalk (crew_member_t *member, uint64_t number, bool *ended)
{
    const task_t *task = member->task;
    ctalk_envelope_t envelope;
    if (receive_ctalk (member, &envelope) != 0)
        return -1;
    *ended = envelope.size == END_BYTES;
    int result = *ended ? 0 : check (member, "stream", envelope.data, envelope.size, task->large, number);
    ctalk_envelope_close (&envelope);
    return result;
}

static int open_ctalk (crew_member_t *member)
{
    board_t *board = member->shared;
    end_t *end = new_end (member);
    ctalk_config_t *config = end ? ends_config (member, PROCESSES, NULL) : NULL;
    if (!config)
        return -1;
    end->send_small = send_small_ctalk;
    end->take_small = take_small_ctalk;
    end->echo = echo_ctalk;
    end->send_large = send_large_ctalk;
    end->take_large = take_large_ctalk;
    end->server = ends_server (member, pid_of (member->self), config, board->endpoint[member->self]);
    ctalk_config_destroy (&config);
    return end->server ? 0 : -1;
}

static int meet_ctalk (crew_member_t *member)
{
    const board_t *board = member->shared;
    const end_t *end = member->own;
    for (int i = 0; i < PROCESSES; i++)
        if (i != member->self && ends_meet (member, end->server, pid_of (i), board->endpoint[i]) != 0)
            return -1;
    if (ctalk_server_wait_up (end->server, SIZE_MAX, ENDS_UP_MS) != 0)
        return crew_fail (member, "ctalk_server_wait_up");
    return 0;
}

static int close_ctalk (crew_member_t *member)
{
    end_t *end = member->own;
    note_trips (member);
    int result = ends_close (member, &end->server);
    free_end (end);
    return result;
}

/* ------------------------------------------------------------ the yardstick */

static int send_small_zmq (crew_member_t *member, uint64_t number, size_t size)
{
    const end_t *end = member->own;
    uint8_t payload[SMALL_BYTES];
    bench_fill (payload, sizeof payload, number);
    return zmq_send (end->small, payload, size, 0) >= 0 ? 0 : crew_fail (member, "zmq_send");
}

static int send_large_zmq (crew_member_t *member, const void *data, size_t size)
{
    const end_t *end = member->own;
    return zmq_send (end->large_socket, data, size, 0) >= 0 ? 0 : crew_fail (member, "zmq_send");
}

static int take_small_zmq (crew_member_t *member, uint64_t number)
{
    const end_t *end = member->own;
    zmq_msg_t message;
    zmq_msg_init (&message);
    int result = zmq_msg_recv (&message, end->small, 0) < 0 ? crew_fail (member, "zmq_msg_recv")
                                                            : check (member, "round trip", zmq_msg_data (&message),
                                                                     zmq_msg_size (&message), SMALL_BYTES, number);
    zmq_msg_close (&message);
    return result;
}

/* The routing id and the payload, sent back as they are. */
static int echo_parts (crew_member_t *member, zmq_msg_t *from, zmq_msg_t *message, uint64_t number, bool *ended)
{
    const end_t *end = member->own;
    if (zmq_msg_recv (from, end->small, 0) < 0 || zmq_msg_recv (message, end->small, 0) < 0)
        return crew_fail (member, "zmq_msg_recv");
    *ended = zmq_msg_size (message) == END_BYTES;
    if (*ended)
        return 0;
    if (check (member, "echo", zmq_msg_data (message), zmq_msg_size (message), SMALL_BYTES, number) != 0)
        return -1;
    if (zmq_msg_send (from, end->small, ZMQ_SNDMORE) < 0 || zmq_msg_send (message, end->small, 0) < 0)
        return crew_fail (member, "zmq_msg_send");
    return 0;
}

static int echo_zmq (crew_member_t *member, uint64_t number, bool *ended)
{
    zmq_msg_t from, message;
    zmq_msg_init (&from);
    zmq_msg_init (&message);
    int result = echo_parts (member, &from, &message, number, ended);
    zmq_msg_close (&from);
    zmq_msg_close (&message);
    return result;
}

static int take_large_zmq (crew_member_t *member, uint64_t number, bool *ended)
{
    const task_t *task = member->task;
    const end_t *end = member->own;
    int result = 0;
    zmq_msg_t message;
    zmq_msg_init (&message);
    if (zmq_msg_recv (&message, end->large_socket, 0) < 0)
        result = crew_fail (member, "zmq_msg_recv");
    *ended = result == 0 && zmq_msg_size (&message) == END_BYTES;
    if (result == 0 && !*ended)
        result = check (member, "stream", zmq_msg_data (&message), zmq_msg_size (&message), task->large, number);
    zmq_msg_close (&message);
    return result;
}

static void *waiting_socket (crew_member_t *member, int type, int high_water)
{
    const end_t *end = member->own;
    const int wait_ms = WAIT_MS;
    void *socket = ends_socket (member, end->context, type, high_water);
    if (socket && zmq_setsockopt (socket, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms) != 0)
        crew_fail (member, "zmq_setsockopt");
    return socket;
}

/* ROUTER and PULL bind. */
static int open_zmq (crew_member_t *member)
{
    const way_t *way = member->way;
    board_t *board = member->shared;
    end_t *end = new_end (member);
    if (!end || !(end->context = ends_context (member, way->io_threads, 0)))
        return -1;
    end->send_small = send_small_zmq;
    end->take_small = take_small_zmq;
    end->echo = echo_zmq;
    end->send_large = send_large_zmq;
    end->take_large = take_large_zmq;
    if (member->self == FIRST)
        return 0;
    void **socket = member->self == ECHO ? &end->small : &end->large_socket;
    *socket = member->self == ECHO ? waiting_socket (member, ZMQ_ROUTER, ENDS_HWM_DEFAULT)
                                   : waiting_socket (member, ZMQ_PULL, HIGH_WATER);
    return *socket ? ends_bind (member, *socket, board->endpoint[member->self]) : -1;
}

static int meet_zmq (crew_member_t *member)
{
    const board_t *board = member->shared;
    end_t *end = member->own;
    if (member->self != FIRST)
        return 0;
    end->small = waiting_socket (member, ZMQ_DEALER, ENDS_HWM_DEFAULT);
    end->large_socket = end->small ? waiting_socket (member, ZMQ_PUSH, HIGH_WATER) : NULL;
    if (!end->large_socket || ends_connect (member, end->small, board->endpoint[ECHO]) != 0)
        return -1;
    return ends_connect (member, end->large_socket, board->endpoint[SINK]);
}

static int close_zmq (crew_member_t *member)
{
    end_t *end = member->own;
    note_trips (member);
    if ((end->small && zmq_close (end->small) != 0) || (end->large_socket && zmq_close (end->large_socket) != 0)
        || zmq_ctx_term (end->context) != 0)
        return crew_fail (member, "zmq_close");
    free_end (end);
    return 0;
}

/* -------------------------------------------------------------- the workload */

enum { P50, P99, P999, TRIPS, STREAM, METRICS };

static const crew_metric_t metrics[METRICS] = {
    [P50] = {.name = "p50 us", .lower_is_better = true},
    [P99] = {.name = "p99 us", .lower_is_better = true},
    [P999] = {.name = "p99.9 us", .lower_is_better = true},
    [TRIPS] = {.name = "trips/s"},
    [STREAM] = {.name = "stream MB/s"},
};

static const way_t io_default = {0}, io_two = {2};

static const crew_contestant_t contestants[] = {
    {.name = "ctalk", .step = {open_ctalk, meet_ctalk, warm, run, close_ctalk}},
    {.name = "zmq", .way = &io_default, .step = {open_zmq, meet_zmq, warm, run, close_zmq}},
    {.name = "zmq-io2", .way = &io_two, .step = {open_zmq, meet_zmq, warm, run, close_zmq}},
};

static void figures (const void *asked, const void *shared, const crew_cost_t *cost, double *values)
{
    const task_t *task = asked;
    const board_t *board = shared;
    (void) cost;
    values[P50] = board->p50_us;
    values[P99] = board->p99_us;
    values[P999] = board->p999_us;
    values[TRIPS] = board->trips_s;
    values[STREAM] = task->large > 0 ? board->stream_mb_s : NAN;
}

static int bench (const void *asked, FILE *csv)
{
    static const char *const names[PROCESSES] = {[FIRST] = "first", [ECHO] = "echo", [SINK] = "sink"};
    const options_t *options = asked;
    const task_t tasks[CASES] = {{.large = (size_t) options->large, .millis = options->millis},
                                 {.large = 0, .millis = options->millis}};
    const crew_case_t cases[CASES] = {{.name = "stream", .x = (double) options->large, .task = &tasks[0]},
                                      {.name = "quiet", .x = 0, .task = &tasks[1]}};
    const crew_workload_t workload = {.name = "W8",
                                      .title = "W8: round trips of 64 bytes beside a stream of large envelopes",
                                      .process_names = names,
                                      .processes = PROCESSES,
                                      .cases = cases,
                                      .case_count = CASES,
                                      .contestants = contestants,
                                      .contestant_count = sizeof contestants / sizeof *contestants,
                                      .own_count = 1,
                                      .metrics = metrics,
                                      .metric_count = METRICS,
                                      .timed = 3,
                                      .shared_bytes = sizeof (board_t),
                                      .rounds = options->rounds,
                                      .only = options->only,
                                      .deadline_s = options->deadline_s + options->millis / 1000,
                                      .figures = figures};
    return crew_bench (&workload, csv);
}

/* ------------------------------------------------------------ command line */

static void print_help (void)
{
    printf ("usage: mixed [OPTION]...\n"
            "Round trips of 64-byte envelopes to one process while large envelopes stream to\n"
            "another one from the same server, and without them (quiet): ClusterTalk with\n"
            "default options beside DEALER <-> ROUTER and PUSH -> PULL of libzmq, turn about.\n"
            "\n"
            "  --large BYTES     of a large envelope, 64 to 16777216 (10000000)\n"
            "  --millis N        the time of a turn (2000)\n"
            "  --only LIST       contestants, of: ctalk, zmq, zmq-io2\n"
            "  --rounds N        rounds; each contestant has a turn in each (5)\n"
            "  --deadline S      seconds beyond that after which a turn has failed (60)\n"
            "  --quick           one round of 500 ms, to see that it works\n"
            "  --csv FILE        write the figures\n"
            "  --help            this text\n"
            "\n"
            "Exit status: 0 measured, 1 failed, 2 wrong usage.\n");
}

static bool take_option (void *asked, const char *name, const char *value)
{
    options_t *options = asked;
    if (strcmp (name, "large") == 0)
        return bench_parse_count (name, value, SMALL_BYTES, LARGE_MAX_BYTES, &options->large);
    if (strcmp (name, "millis") == 0)
        return bench_parse_count (name, value, 100, 3600000, &options->millis);
    if (strcmp (name, "only") == 0)
        return crew_choose (name, value, contestants, sizeof contestants / sizeof *contestants, &options->only);
    if (strcmp (name, "rounds") == 0)
        return bench_parse_count (name, value, 1, BENCH_ROUNDS_MAX, &options->rounds);
    return bench_parse_count (name, value, 1, 86400, &options->deadline_s);
}

static void make_quick (void *asked)
{
    options_t *options = asked;
    options->millis = 500;
    options->rounds = 1;
}

int main (int argc, char **argv)
{
    static const bench_program_t program = {.options = {"large", "millis", "only", "rounds", "deadline"},
                                            .help = print_help,
                                            .take = take_option,
                                            .quick = make_quick,
                                            .run = bench};
    options_t options = {.large = 10000000, .millis = 2000, .rounds = 5, .deadline_s = 60};
    return bench_main (argc, argv, &program, &options);
}
