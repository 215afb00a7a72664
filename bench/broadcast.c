/*
 * broadcast.c - five servers, a process each, each of which sends envelopes to
 * the four others: one broadcast of ClusterTalk beside PUB -> SUB of libzmq and
 * beside a PUSH to each of the four.
 *
 * Method. In every process one thread sends and another one receives. All five
 * are connected, and have heard each other, before the time begins; it begins
 * for all at the same moment and ends when the last one has taken and checked
 * the last envelope of the four others. Each copies its payload when it sends.
 * Number, order and every byte are checked by the receivers, at the same cost
 * for all.
 *
 *   ctalk        ctalk_send to CTALK_BROADCAST / ctalk_recv, default options
 *   pub/sub      a PUB bound in each process and a SUB connected to the four
 *                others, high-water marks 0; what is lost is counted. Each PUB
 *                sends probes until the four SUBs have had one
 *   push         a PULL bound in each and four PUSH, each message sent four
 *                times, high-water marks as libzmq sets them
 *   push-hwm0    the same with high-water marks 0: what waits lies in memory
 *   ...-io2      the same with two I/O threads, as ClusterTalk has them
 *
 * Rate: envelopes received per second by all five together. Processor time and
 * peak memory are the sums over the five processes. A lost envelope is an error
 * except with PUB -> SUB, where it is counted; after LOSS_MS of silence what is
 * missing counts as lost, and the time ends with the last one that came.
 */
#include "bench/crew.h"
#include "bench/ends.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <zmq.h>

enum {
    SERVERS = 5,
    OTHERS = SERVERS - 1,
    SIZE_BYTES = 64,
    PROBE_BYTES = 1,   /* what a PUB sends until it is heard */
    PROBE_WAIT_MS = 2, /* between two of them */
    LOSS_MS = 2000,    /* of silence, after which what is missing counts as lost */
    FROM_SHIFT = 56,   /* the sender's index in the number of an envelope */
    CASES_MAX = 2
};

typedef struct {
    uint64_t count, rounds, deadline_s; /* count 0: both of the default */
    const char *only;                   /* contestants */
} options_t;

typedef struct {
    uint64_t count; /* envelopes of each server */
} task_t;

/* What the processes of a turn share. */
typedef struct {
    char endpoint[SERVERS][ENDS_ENDPOINT_BYTES];
    _Atomic bool heard[SERVERS][SERVERS]; /* a probe: from, by */
    _Atomic uint64_t lost[SERVERS];
    _Atomic bool may_lose; /* PUB -> SUB */
} board_t;

/* How the yardsticks differ. */
typedef struct {
    int high_water, io_threads;
} way_t;

/* What a process has. */
typedef struct {
    ctalk_server_t *server;
    void *context, *in, *out[OTHERS]; /* PUB: out[0] alone */
    uint64_t next[SERVERS];           /* the place that is expected of each */
    uint64_t left;                    /* how many are still to come */
} end_t;

static uint64_t number_of (int from, uint64_t place)
{
    return (uint64_t) from << FROM_SHIFT | place;
}

static end_t *new_end (crew_member_t *member)
{
    const task_t *task = member->task;
    end_t *end = calloc (1, sizeof *end);
    if (!end) {
        crew_fail (member, "calloc");
        return NULL;
    }
    end->left = OTHERS * task->count;
    member->own = end;
    return end;
}

/* ----------------------------------------------------- sending beside receiving */

/* The sending thread. */
typedef struct {
    crew_member_t member; /* a copy: its error is its own */
    int (*send) (crew_member_t *member);
    int result;
} sender_t;

static void *run_sender (void *arg)
{
    sender_t *sender = arg;
    sender->result = sender->send (&sender->member);
    return NULL;
}

/* The timed step: a thread sends while this one receives. */
static int exchange (crew_member_t *member, int (*send) (crew_member_t *member), int (*receive) (crew_member_t *member))
{
    pthread_t thread;
    sender_t sender = {.member = *member, .send = send};
    errno = pthread_create (&thread, NULL, run_sender, &sender);
    if (errno != 0)
        return crew_fail (member, "pthread_create");
    int result = receive (member);
    if (result != 0)
        return -1; /* the process ends, and its thread with it */
    pthread_join (thread, NULL);
    if (sender.result != 0)
        *member = sender.member;
    return sender.result;
}

/* Whether an envelope is the next one of its sender. Skipped ones are lost, which only PUB -> SUB may. */
static int take_one (crew_member_t *member, const uint8_t *data, size_t size, bool may_lose)
{
    end_t *end = member->own;
    board_t *board = member->shared;
    uint64_t number = 0;
    if (size == SIZE_BYTES)
        memcpy (&number, data, sizeof number);
    int from = (int) (number >> FROM_SHIFT);
    uint64_t place = BENCH_PLACE (number);
    if (from >= SERVERS || from == member->self || place < end->next[from] || size != SIZE_BYTES)
        return crew_fail_content (member, "unexpected", data, size, number);
    if (!may_lose && place != end->next[from])
        return crew_fail_content (member, "out of order", data, size, number_of (from, end->next[from]));
    if (!bench_check (data, size, number))
        return crew_fail_content (member, "changed", data, size, number);
    if (place != end->next[from])
        atomic_fetch_add (&board->lost[member->self], place - end->next[from]);
    end->left -= place + 1 - end->next[from];
    end->next[from] = place + 1;
    return 0;
}

/* -------------------------------------------------------------- ClusterTalk */

static int open_ctalk (crew_member_t *member)
{
    board_t *board = member->shared;
    end_t *end = new_end (member);
    ctalk_config_t *config = end ? ends_config (member, SERVERS, NULL) : NULL;
    if (config)
        end->server = ends_server (member, member->self + 1, config, board->endpoint[member->self]);
    ctalk_config_destroy (&config);
    return end && end->server ? 0 : -1;
}

static int meet_ctalk (crew_member_t *member)
{
    const board_t *board = member->shared;
    const end_t *end = member->own;
    for (int i = 0; i < SERVERS; i++)
        if (i != member->self && ends_meet (member, end->server, i + 1, board->endpoint[i]) != 0)
            return -1;
    return 0;
}

static int wait_ctalk (crew_member_t *member)
{
    const end_t *end = member->own;
    if (ctalk_server_wait_up (end->server, SIZE_MAX, ENDS_UP_MS) != 0)
        return crew_fail (member, "ctalk_server_wait_up");
    return 0;
}

static int send_ctalk (crew_member_t *member)
{
    const task_t *task = member->task;
    end_t *end = member->own;
    uint8_t payload[SIZE_BYTES];
    ctalk_envelope_t envelope = {.pid = CTALK_BROADCAST, .data = payload, .size = sizeof payload};
    for (uint64_t place = 0; place < task->count; place++) {
        bench_fill (payload, sizeof payload, number_of (member->self, place));
        envelope.msg_id = (int64_t) place;
        if (ctalk_send (end->server, &envelope, -1) != 0)
            return crew_fail (member, "ctalk_send");
    }
    return 0;
}

static int receive_ctalk (crew_member_t *member)
{
    end_t *end = member->own;
    while (end->left > 0) {
        ctalk_envelope_t envelope;
        if (ctalk_recv (end->server, &envelope, -1) != 0)
            return crew_fail (member, "ctalk_recv");
        int result = take_one (member, envelope.data, envelope.size, false);
        ctalk_envelope_close (&envelope);
        if (result != 0)
            return -1;
    }
    return 0;
}

static int run_ctalk (crew_member_t *member)
{
    return exchange (member, send_ctalk, receive_ctalk);
}

static int close_ctalk (crew_member_t *member)
{
    end_t *end = member->own;
    int result = ends_close (member, &end->server);
    free (end);
    return result;
}

/* ------------------------------------------------- PUSH to each, PULL from all */

static int open_push (crew_member_t *member)
{
    const way_t *way = member->way;
    board_t *board = member->shared;
    end_t *end = new_end (member);
    if (!end || !(end->context = ends_context (member, way->io_threads, 0)))
        return -1;
    if (!(end->in = ends_socket (member, end->context, ZMQ_PULL, way->high_water)))
        return -1;
    return ends_bind (member, end->in, board->endpoint[member->self]);
}

static int join_push (crew_member_t *member)
{
    const way_t *way = member->way;
    const board_t *board = member->shared;
    end_t *end = member->own;
    for (int i = 0, at = 0; i < SERVERS; i++) {
        if (i == member->self)
            continue;
        if (!(end->out[at] = ends_socket (member, end->context, ZMQ_PUSH, way->high_water))
            || ends_connect (member, end->out[at], board->endpoint[i]) != 0)
            return -1;
        at++;
    }
    return 0;
}

/* Each of the four sends a probe, so that all connections stand before the time begins. */
static int warm_push (crew_member_t *member)
{
    end_t *end = member->own;
    uint8_t probe[SIZE_BYTES];
    for (int i = 0; i < OTHERS; i++)
        if (zmq_send (end->out[i], probe, PROBE_BYTES, 0) < 0)
            return crew_fail (member, "zmq_send");
    for (int i = 0; i < OTHERS; i++)
        if (zmq_recv (end->in, probe, sizeof probe, 0) != PROBE_BYTES)
            return crew_fail (member, "zmq_recv of a probe");
    return 0;
}

static int send_push (crew_member_t *member)
{
    const task_t *task = member->task;
    end_t *end = member->own;
    uint8_t payload[SIZE_BYTES];
    for (uint64_t place = 0; place < task->count; place++) {
        bench_fill (payload, sizeof payload, number_of (member->self, place));
        for (int i = 0; i < OTHERS; i++)
            if (zmq_send (end->out[i], payload, sizeof payload, 0) < 0)
                return crew_fail (member, "zmq_send");
    }
    return 0;
}

static int receive_push (crew_member_t *member)
{
    end_t *end = member->own;
    int result = 0;
    zmq_msg_t message;
    zmq_msg_init (&message);
    while (result == 0 && end->left > 0)
        result = zmq_msg_recv (&message, end->in, 0) < 0
                     ? crew_fail (member, "zmq_msg_recv")
                     : take_one (member, zmq_msg_data (&message), zmq_msg_size (&message), false);
    zmq_msg_close (&message);
    return result;
}

static int run_push (crew_member_t *member)
{
    return exchange (member, send_push, receive_push);
}

static int close_zmq (crew_member_t *member)
{
    end_t *end = member->own;
    for (int i = 0; i < OTHERS && end->out[i]; i++)
        zmq_close (end->out[i]);
    if (zmq_close (end->in) != 0 || zmq_ctx_term (end->context) != 0)
        return crew_fail (member, "zmq_close");
    free (end);
    return 0;
}

/* ----------------------------------------------------------------- PUB -> SUB */

static int open_pub (crew_member_t *member)
{
    const way_t *way = member->way;
    board_t *board = member->shared;
    end_t *end = new_end (member);
    if (!end || !(end->context = ends_context (member, way->io_threads, 0)))
        return -1;
    if (!(end->out[0] = ends_socket (member, end->context, ZMQ_PUB, way->high_water)))
        return -1;
    return ends_bind (member, end->out[0], board->endpoint[member->self]);
}

static int join_sub (crew_member_t *member)
{
    const way_t *way = member->way;
    const board_t *board = member->shared;
    end_t *end = member->own;
    const int silence_ms = LOSS_MS;
    if (!(end->in = ends_socket (member, end->context, ZMQ_SUB, way->high_water)))
        return -1;
    if (zmq_setsockopt (end->in, ZMQ_SUBSCRIBE, "", 0) != 0
        || zmq_setsockopt (end->in, ZMQ_RCVTIMEO, &silence_ms, sizeof silence_ms) != 0)
        return crew_fail (member, "zmq_setsockopt");
    for (int i = 0; i < SERVERS; i++)
        if (i != member->self && ends_connect (member, end->in, board->endpoint[i]) != 0)
            return -1;
    return 0;
}

/* Whether this process has heard all others, and was heard by all. */
static bool is_acquainted (const crew_member_t *member)
{
    const board_t *board = member->shared;
    for (int i = 0; i < SERVERS; i++)
        if (i != member->self
            && (!atomic_load (&board->heard[i][member->self]) || !atomic_load (&board->heard[member->self][i])))
            return false;
    return true;
}

/* Probes, the sender's index in one byte, until all subscriptions are known to work. */
static int subscribe (crew_member_t *member)
{
    board_t *board = member->shared;
    end_t *end = member->own;
    const uint8_t own = (uint8_t) member->self;
    uint8_t probe[SIZE_BYTES] = {0};
    atomic_store (&board->may_lose, true);
    while (!is_acquainted (member)) {
        zmq_pollitem_t wait = {.socket = end->in, .events = ZMQ_POLLIN};
        if (zmq_send (end->out[0], &own, PROBE_BYTES, 0) < 0)
            return crew_fail (member, "zmq_send of a probe");
        zmq_poll (&wait, 1, PROBE_WAIT_MS);
        while (zmq_recv (end->in, probe, sizeof probe, ZMQ_DONTWAIT) == PROBE_BYTES && probe[0] < SERVERS)
            atomic_store (&board->heard[probe[0]][member->self], true);
    }
    return 0;
}

static int send_pub (crew_member_t *member)
{
    const task_t *task = member->task;
    end_t *end = member->own;
    uint8_t payload[SIZE_BYTES];
    for (uint64_t place = 0; place < task->count; place++) {
        bench_fill (payload, sizeof payload, number_of (member->self, place));
        if (zmq_send (end->out[0], payload, sizeof payload, 0) < 0)
            return crew_fail (member, "zmq_send");
    }
    return 0;
}

/* Nothing has come for LOSS_MS: what is missing is lost, and the time ended before the silence. */
static int give_up (crew_member_t *member)
{
    board_t *board = member->shared;
    end_t *end = member->own;
    if (errno != EAGAIN)
        return crew_fail (member, "zmq_msg_recv");
    atomic_fetch_add (&board->lost[member->self], end->left);
    member->end_ns = bench_now_ns () - LOSS_MS * UINT64_C (1000000);
    return 0;
}

/* Until all have come, or nothing comes any more. */
static int receive_sub (crew_member_t *member)
{
    end_t *end = member->own;
    int result = 0;
    zmq_msg_t message;
    zmq_msg_init (&message);
    while (result == 0 && end->left > 0) {
        if (zmq_msg_recv (&message, end->in, 0) < 0) {
            result = give_up (member);
            break;
        }
        if (zmq_msg_size (&message) != PROBE_BYTES)
            result = take_one (member, zmq_msg_data (&message), zmq_msg_size (&message), true);
    }
    zmq_msg_close (&message);
    return result;
}

static int run_pub (crew_member_t *member)
{
    return exchange (member, send_pub, receive_sub);
}

/* -------------------------------------------------------------- the workload */

enum { RATE, CPU_US, TIME_MS, LOST, METRICS };

static const crew_metric_t metrics[METRICS] = {[RATE] = {.name = "envelopes/s"},
                                               [CPU_US] = {.name = "CPU us each", .lower_is_better = true},
                                               [TIME_MS] = {.name = "time ms", .lower_is_better = true, .alone = true},
                                               [LOST] = {.name = "lost", .lower_is_better = true, .alone = true}};

static const way_t unlimited = {0, 0}, unlimited_io2 = {0, 2};
static const way_t limited = {ENDS_HWM_DEFAULT, 0};

static const crew_contestant_t contestants[] = {
    {.name = "ctalk", .step = {open_ctalk, meet_ctalk, wait_ctalk, run_ctalk, close_ctalk}},
    {.name = "pub/sub", .way = &unlimited, .step = {open_pub, join_sub, subscribe, run_pub, close_zmq}},
    {.name = "pub/sub-io2", .way = &unlimited_io2, .step = {open_pub, join_sub, subscribe, run_pub, close_zmq}},
    {.name = "push", .way = &limited, .step = {open_push, join_push, warm_push, run_push, close_zmq}},
    {.name = "push-hwm0", .way = &unlimited, .step = {open_push, join_push, warm_push, run_push, close_zmq}},
    {.name = "push-hwm0-io2", .way = &unlimited_io2, .step = {open_push, join_push, warm_push, run_push, close_zmq}},
};

static void figures (const void *task, const void *shared, const crew_cost_t *cost, double *values)
{
    const task_t *asked = task;
    const board_t *board = shared;
    uint64_t lost = 0;
    for (int i = 0; i < SERVERS; i++)
        lost += atomic_load (&board->lost[i]);
    const double received = (double) (SERVERS * OTHERS * asked->count - lost);
    values[RATE] = received / cost->seconds;
    values[CPU_US] = cost->cpu_s * 1e6 / received;
    values[TIME_MS] = cost->seconds * 1000;
    values[LOST] = atomic_load (&board->may_lose) ? (double) lost : NAN;
}

static int bench (const void *asked, FILE *csv)
{
    static const char *const names[SERVERS] = {"server 1", "server 2", "server 3", "server 4", "server 5"};
    const options_t *options = asked;
    const task_t tasks[CASES_MAX] = {{options->count ? options->count : 10000}, {100000}};
    bench_cell_t texts[CASES_MAX];
    crew_case_t cases[CASES_MAX];
    for (int i = 0; i < CASES_MAX; i++) {
        bench_cell (texts[i], "5 x %" PRIu64, tasks[i].count);
        cases[i] = (crew_case_t){.name = texts[i], .x = (double) tasks[i].count, .task = &tasks[i]};
    }
    const crew_workload_t workload = {.name = "W4",
                                      .title = "W4: five servers, each broadcasting 64-byte envelopes to the others",
                                      .process_names = names,
                                      .processes = SERVERS,
                                      .cases = cases,
                                      .case_count = options->count ? 1 : CASES_MAX,
                                      .contestants = contestants,
                                      .contestant_count = sizeof contestants / sizeof *contestants,
                                      .own_count = 1,
                                      .metrics = metrics,
                                      .metric_count = METRICS,
                                      .timed = 3,
                                      .shared_bytes = sizeof (board_t),
                                      .rounds = options->rounds,
                                      .only = options->only,
                                      .deadline_s = options->deadline_s,
                                      .figures = figures};
    return crew_bench (&workload, csv);
}

/* ------------------------------------------------------------ command line */

static void print_help (void)
{
    printf ("usage: broadcast [OPTION]...\n"
            "Five servers, a process each, over loopback, each broadcasting 64-byte envelopes\n"
            "to the four others: ClusterTalk with default options beside PUB -> SUB of libzmq\n"
            "and beside a PUSH to each, turn about. The time counts from the common start\n"
            "until the last server has taken and checked the last envelope.\n"
            "\n"
            "  --count N         envelopes that each server sends (10000, then 100000)\n"
            "  --only LIST       contestants, of: ctalk, pub/sub, pub/sub-io2, push, push-hwm0,\n"
            "                    push-hwm0-io2\n"
            "  --rounds N        rounds; each contestant has a turn in each (7)\n"
            "  --deadline S      seconds after which a turn is ended as failed (60)\n"
            "  --quick           one round of 10000, to see that it works\n"
            "  --csv FILE        write the figures\n"
            "  --help            this text\n"
            "\n"
            "CPU s and MiB are sums over the five processes. Exit status: 0 measured,\n"
            "1 failed, 2 wrong usage.\n");
}

static bool take_option (void *asked, const char *name, const char *value)
{
    options_t *options = asked;
    if (strcmp (name, "count") == 0)
        return bench_parse_count (name, value, 1, UINT32_MAX, &options->count);
    if (strcmp (name, "only") == 0)
        return crew_choose (name, value, contestants, sizeof contestants / sizeof *contestants, &options->only);
    if (strcmp (name, "rounds") == 0)
        return bench_parse_count (name, value, 1, BENCH_ROUNDS_MAX, &options->rounds);
    return bench_parse_count (name, value, 1, 86400, &options->deadline_s);
}

static void make_quick (void *asked)
{
    options_t *options = asked;
    options->count = 10000;
    options->rounds = 1;
}

int main (int argc, char **argv)
{
    static const bench_program_t program = {.options = {"count", "only", "rounds", "deadline"},
                                            .help = print_help,
                                            .take = take_option,
                                            .quick = make_quick,
                                            .run = bench};
    options_t options = {.rounds = 7, .deadline_s = 60};
    return bench_main (argc, argv, &program, &options);
}
