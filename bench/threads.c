/*
 * threads.c - workload W7: 1 to 8 threads of an application that send on one
 * server, to one receiving process, beside plain libzmq in the same run.
 *
 * Method: bench/pair.h. The threads share the messages of a turn: of t threads,
 * thread i sends those whose number leaves i when divided by t, in ascending
 * order, a message a call. They are started within the time that counts. The
 * receiver has one thread, takes what comes, and checks that each sending
 * thread's messages come whole and in order, to the last byte.
 *
 *   ctalk        all threads call ctalk_send on one server, default options
 *   zmq-sockets  a PUSH socket for each thread, one PULL: what a user of libzmq
 *                has to do, for sockets are not for use by several threads; also
 *                the yardstick
 *   zmq-mutex    one PUSH socket, and a mutex around zmq_send
 */
#include "bench/contestants.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <zmq.h>

enum {
    CASES_MAX = 8,
    TURN_COUNT = 50000000, /* envelopes of a turn, at most */
    TURN_LEAST = 1000,
    WARMUP_COUNT = 20000,
    PARAMETER_CHARS = 16
};

/* One of the sending threads. */
typedef struct {
    pthread_t thread;
    bench_end_t *end;
    size_t index;
    uint64_t first, count; /* of all threads */
    pthread_mutex_t *mutex;
    uint8_t *payload;
    const char *failed; /* the call that did; NULL: none */
    int error;
} worker_t;

/* -------------------------------------------------------- the sending threads */

typedef int (*send_one_t) (worker_t *worker, uint64_t number);

static int send_ctalk (worker_t *worker, uint64_t number)
{
    const bench_end_t *end = worker->end;
    ctalk_envelope_t envelope = {
        .pid = BENCH_PULLER_PID, .msg_id = (int64_t) number, .data = worker->payload, .size = end->size};
    return ctalk_send (end->server, &envelope, -1);
}

static int send_socket (worker_t *worker, uint64_t number)
{
    (void) number;
    return zmq_send (worker->end->socket[worker->index], worker->payload, worker->end->size, 0) < 0 ? -1 : 0;
}

static int send_locked (worker_t *worker, uint64_t number)
{
    (void) number;
    pthread_mutex_lock (worker->mutex);
    int sent = zmq_send (worker->end->socket[0], worker->payload, worker->end->size, 0);
    int error = errno;
    pthread_mutex_unlock (worker->mutex);
    errno = error;
    return sent < 0 ? -1 : 0;
}

enum variant { CTALK, ZMQ_SOCKETS, ZMQ_MUTEX };

static const send_one_t send_one[] = {[CTALK] = send_ctalk, [ZMQ_SOCKETS] = send_socket, [ZMQ_MUTEX] = send_locked};

static void *work (void *arg)
{
    worker_t *worker = arg;
    const bench_end_t *end = worker->end;
    send_one_t send = send_one[end->contestant->variant];
    uint64_t number = worker->first + worker->index;
    for (; number < worker->first + worker->count && !worker->failed; number += end->threads) {
        bench_fill (worker->payload, end->size, number);
        if (send (worker, number) != 0) {
            worker->error = errno;
            worker->failed = "a send failed";
        }
    }
    return NULL;
}

static int start (worker_t *worker)
{
    worker->payload = malloc (worker->end->size);
    if (!worker->payload)
        return bench_pair_fail (worker->end, "malloc");
    int error = pthread_create (&worker->thread, NULL, work, worker);
    if (error == 0)
        return 0;
    free (worker->payload);
    worker->payload = NULL;
    errno = error;
    return bench_pair_fail (worker->end, "pthread_create");
}

static int finish (worker_t *worker)
{
    pthread_join (worker->thread, NULL);
    free (worker->payload);
    errno = worker->error;
    return worker->failed ? bench_pair_fail (worker->end, worker->failed) : 0;
}

/* The first number is a multiple of the number of threads: so is the warm-up. */
static int push (bench_end_t *end, uint64_t first, uint64_t count)
{
    worker_t worker[BENCH_THREADS_MAX];
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    size_t started = 0;
    for (; started < end->threads; started++) {
        worker[started] = (worker_t){.end = end, .index = started, .first = first, .count = count, .mutex = &mutex};
        if (start (&worker[started]) != 0)
            break;
    }
    int result = started == end->threads ? 0 : -1;
    for (size_t i = 0; i < started; i++)
        if (finish (&worker[i]) != 0)
            result = -1;
    return result;
}

/* --------------------------------------------------------------- the receiver */

/* What comes next of each thread. */
typedef struct {
    uint64_t next[BENCH_THREADS_MAX];
} order_t;

static order_t begin (const bench_end_t *end, uint64_t first)
{
    order_t order = {{0}};
    for (size_t i = 0; i < end->threads; i++)
        order.next[i] = first + i;
    return order;
}

static int check (bench_end_t *end, order_t *order, const void *data, size_t size)
{
    uint64_t number = 0;
    if (size == end->size)
        memcpy (&number, data, sizeof number);
    uint64_t *next = &order->next[number % end->threads];
    if (bench_pair_check (end, data, size, *next) != 0)
        return -1;
    *next += end->threads;
    return 0;
}

static int pull_ctalk (bench_end_t *end, uint64_t first, uint64_t count)
{
    order_t order = begin (end, first);
    int result = 0;
    for (uint64_t taken = 0; taken < count && result == 0; taken++) {
        ctalk_envelope_t envelope;
        if (ctalk_recv (end->server, &envelope, -1) != 0)
            return bench_pair_fail (end, "ctalk_recv");
        result = check (end, &order, envelope.data, envelope.size);
        ctalk_envelope_close (&envelope);
        bench_pair_progress (end, taken);
    }
    return result;
}

static int pull_zmq (bench_end_t *end, uint64_t first, uint64_t count)
{
    order_t order = begin (end, first);
    int result = 0;
    zmq_msg_t message;
    zmq_msg_init (&message);
    for (uint64_t taken = 0; taken < count && result == 0; taken++) {
        if (zmq_msg_recv (&message, end->socket[0], 0) < 0)
            result = bench_pair_fail (end, "zmq_msg_recv");
        else
            result = check (end, &order, zmq_msg_data (&message), zmq_msg_size (&message));
        bench_pair_progress (end, taken);
    }
    zmq_msg_close (&message);
    return result;
}

/* -------------------------------------------------------------- open and join */

/* How many sockets this end has. */
static size_t sockets_of (const bench_end_t *end)
{
    return end->pusher && end->contestant->variant == ZMQ_SOCKETS ? end->threads : 1;
}

static int open_zmq (bench_end_t *end, char *endpoint, size_t capacity)
{
    endpoint[0] = '\0';
    for (size_t i = 0; i < sockets_of (end); i++)
        if (!(end->socket[i] = bench_zmq_socket (end, end->pusher ? ZMQ_PUSH : ZMQ_PULL, NULL)))
            return -1;
    return end->pusher ? 0 : bench_zmq_bind (end, end->socket[0], endpoint, capacity);
}

static int join_zmq (bench_end_t *end, const char *endpoint)
{
    for (size_t i = 0; end->pusher && i < sockets_of (end); i++)
        if (zmq_connect (end->socket[i], endpoint) != 0)
            return bench_pair_fail (end, "zmq_connect");
    return 0;
}

static const bench_contestant_t ctalk = {.name = "ctalk",
                                         .variant = CTALK,
                                         .open = bench_ctalk_open,
                                         .join = bench_ctalk_join,
                                         .push = push,
                                         .pull = pull_ctalk,
                                         .close = bench_ctalk_close};
static const bench_contestant_t zmq_sockets = {.name = "zmq-sockets",
                                               .variant = ZMQ_SOCKETS,
                                               .open = open_zmq,
                                               .join = join_zmq,
                                               .push = push,
                                               .pull = pull_zmq,
                                               .close = bench_zmq_close};
static const bench_contestant_t zmq_mutex = {.name = "zmq-mutex",
                                             .variant = ZMQ_MUTEX,
                                             .open = open_zmq,
                                             .join = join_zmq,
                                             .push = push,
                                             .pull = pull_zmq,
                                             .close = bench_zmq_close};

static const bench_contestant_t *const contestants[] = {
    [CTALK] = &ctalk, [ZMQ_SOCKETS] = &zmq_sockets, [ZMQ_MUTEX] = &zmq_mutex};

static const bench_versus_t versus[] = {{CTALK, ZMQ_MUTEX}};

static const bench_metric_t metrics[] = {{.name = "envelopes/s", .versus = true}};

/* -------------------------------------------------------------------- rounds */

/* What the command line asks for. */
typedef struct {
    uint64_t threads[CASES_MAX];
    size_t case_count;
    uint64_t size, millis, rounds, deadline_s;
} options_t;

/* All rounds with so many threads. -1 after a message. */
static int run_case (const options_t *options, FILE *csv, uint64_t threads, _Atomic uint64_t *done)
{
    static bench_result_t results[BENCH_LENGTH (contestants)][BENCH_ROUNDS_MAX];
    char parameter[PARAMETER_CHARS], title[BENCH_TEXT_BYTES];
    bench_contest_t contest = {.workload = "W7",
                               .parameter = parameter,
                               .x = (double) threads,
                               .contestants = contestants,
                               .contestant_count = BENCH_LENGTH (contestants),
                               .yardstick = ZMQ_SOCKETS,
                               .versus = versus,
                               .versus_count = BENCH_LENGTH (versus),
                               .metrics = metrics,
                               .metric_count = BENCH_LENGTH (metrics),
                               .turn = {.size = options->size,
                                        .threads = threads,
                                        .warmup = WARMUP_COUNT / threads * threads,
                                        .deadline_s = options->deadline_s,
                                        .done = done},
                               .seconds = (double) options->millis / 1000,
                               .count_least = TURN_LEAST,
                               .count_most = TURN_COUNT,
                               .rounds = options->rounds,
                               .results = results};
    snprintf (parameter, sizeof parameter, threads == 1 ? "%" PRIu64 " thread" : "%" PRIu64 " threads", threads);
    if (bench_pair_contest (&contest) != 0)
        return -1;
    snprintf (title, sizeof title, "W7: %s, one server, %" PRIu64 " B", parameter, options->size);
    bench_pair_report (&contest, title, csv);
    return 0;
}

static int bench (const void *asked, FILE *csv)
{
    const options_t *options = asked;
    _Atomic uint64_t *done = bench_shared (sizeof *done);
    if (!done)
        return EXIT_FAILURE;
    bench_print_machine ();
    printf ("rounds: %" PRIu64 "\n", options->rounds);
    for (size_t i = 0; i < options->case_count; i++)
        if (run_case (options, csv, options->threads[i], done) != 0)
            return EXIT_FAILURE;
    return EXIT_SUCCESS;
}

/* ------------------------------------------------------------ command line */

static void print_help (void)
{
    printf ("usage: threads [OPTION]...\n"
            "The rate of envelopes that several threads send on one server to one receiving\n"
            "process over loopback, ClusterTalk with default options (ctalk) beside plain\n"
            "PUSH -> PULL of libzmq with a socket for each thread (zmq-sockets) and with one\n"
            "socket under a mutex (zmq-mutex), turn about. The order of each thread's\n"
            "envelopes is checked.\n"
            "\n"
            "  --threads LIST    of the sending side, 1 to %d each (1,2,4,8)\n"
            "  --size BYTES      of a payload, 8 to 65536 (64)\n"
            "  --millis N        a turn has about as many envelopes as take so long (1000)\n"
            "  --rounds N        rounds; each contestant has a turn in each (7)\n"
            "  --deadline S      seconds after which a turn is ended as failed (120)\n"
            "  --csv FILE        write the figures\n"
            "  --quick           a run of a few seconds that says little\n"
            "  --help            this text\n"
            "\n"
            "Exit status: 0 measured, 1 failed, 2 wrong usage.\n",
            BENCH_THREADS_MAX);
}

static bool take_option (void *asked, const char *name, const char *value)
{
    options_t *options = asked;
    if (strcmp (name, "threads") == 0)
        return bench_parse_list (name, value, 1, BENCH_THREADS_MAX, options->threads, CASES_MAX, &options->case_count);
    if (strcmp (name, "size") == 0)
        return bench_parse_count (name, value, BENCH_PAYLOAD_MIN_BYTES, 65536, &options->size);
    if (strcmp (name, "millis") == 0)
        return bench_parse_count (name, value, 1, 3600000, &options->millis);
    if (strcmp (name, "rounds") == 0)
        return bench_parse_count (name, value, 1, BENCH_ROUNDS_MAX, &options->rounds);
    return bench_parse_count (name, value, 1, 86400, &options->deadline_s);
}

static void make_quick (void *asked)
{
    options_t *options = asked;
    options->millis = 10;
    options->rounds = 1;
}

int main (int argc, char **argv)
{
    static const bench_program_t program = {.options = {"threads", "size", "millis", "rounds", "deadline"},
                                            .help = print_help,
                                            .take = take_option,
                                            .quick = make_quick,
                                            .run = bench};
    options_t options = {
        .threads = {1, 2, 4, 8}, .case_count = 4, .size = 64, .millis = 1000, .rounds = 7, .deadline_s = 120};
    return bench_main (argc, argv, &program, &options);
}
