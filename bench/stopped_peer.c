/*
 * stopped_peer.c - what a stopped server costs the others: the rate of four
 * servers while a fifth one stands still (SIGSTOP), beside their rate when the
 * fifth was never started.
 *
 * Method. Five servers, a process each, default options. Four of them work:
 * one thread sends to the other three in turn, point to point, waiting for
 * room when a queue is full; another thread receives and checks number, order
 * and every byte. Once these four are up and warmed up, the time begins. It is
 * a fixed time, by default 8 s: long enough for the fifth to be up, then
 * suspect, then down (1.5 s and 5 s without a frame, by default). Counted are
 * the envelopes that the four receiving programs have taken within it.
 *
 *   stopped   the fifth server is started and up, and gets SIGSTOP just before
 *             the time begins
 *   absent    the fifth server was never started; its port is held by the
 *             bench without listening, so that connections are refused
 *
 * Two kinds of traffic:
 *
 *   four      envelopes go to the three others that work
 *   five      and, at each turn, one also to the fifth with timeout 0: it is
 *             queued while there is room, afterwards the send fails with
 *             EAGAIN, which is expected, and the same in both conditions
 *
 * The conditions take turns, the other one first each round. After the time
 * the senders stop and everything sent among the four must arrive; then they
 * close. "low" is the lowest rate of a quarter second within the time: a stall
 * that the mean hides shows there. "/CPUs" are envelopes per second of processor
 * time that the four used within the time: on a machine that others use, too,
 * the better guide.
 *
 * It owns its child processes, the stopped one too; a turn that is not over by
 * its deadline is ended with an error, as is a missing or changed envelope.
 */
#include "bench/bench.h"

#include <arpa/inet.h>
#include <clustertalk.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    SERVERS = 5,         /* pids 1 ... 5 */
    WORKERS = 4,         /* of these 1 ... 4 work */
    FIFTH = 4,           /* the index of the one that does not */
    UP_MS = 15000,       /* for the peers to come up */
    RECV_MS = 100,       /* how often an idle receiver looks whether all has come */
    SLICE_MS = 250,      /* the time over which the lowest rate is taken */
    SLACK_S = 30,        /* for set-up, the last envelopes and the close of a turn */
    LINE_BYTES = 300,    /* why a worker gave up */
    ENDPOINT_BYTES = 64, /* "tcp://127.0.0.1:65535" */
    SIZE_MAX_BYTES = 64 * 1024
};

typedef enum { STOPPED, ABSENT, CONDITIONS } condition_t;
typedef enum { FOUR, FIVE, TRAFFICS } traffic_t;
static const char *const condition_names[] = {"stopped", "absent"};
static const char *const traffic_names[] = {"four", "five"};

/* What the command line asks for. */
typedef struct {
    uint64_t size, seconds, warmup_ms, rounds;
    bool traffic[TRAFFICS];
    double require;
} options_t;

/* A number that one process writes and others read, alone in its cache line. */
typedef struct {
    _Alignas(128) _Atomic uint64_t value;
} counter_t;

/* What the processes of a turn share. */
typedef struct {
    counter_t stop;                   /* 1: the senders stop */
    counter_t received[WORKERS];      /* envelopes taken by each */
    counter_t sent[WORKERS][WORKERS]; /* from, to; final once finished[from] is 1 */
    counter_t finished[WORKERS];
    counter_t to_fifth[WORKERS]; /* accepted for the fifth */
    counter_t refused[WORKERS];  /* refused with EAGAIN */
} board_t;

/* What a child is given. */
typedef struct {
    const options_t *options;
    board_t *board;
    int self; /* index of the server */
    condition_t condition;
    traffic_t traffic;
} turn_t;

static uint64_t read_counter (const counter_t *counter)
{
    return atomic_load_explicit (&counter->value, memory_order_acquire);
}

static void write_counter (counter_t *counter, uint64_t value)
{
    atomic_store_explicit (&counter->value, value, memory_order_release);
}

/* The number of an envelope, for its payload: its way and its place there. */
static uint64_t number_of (int from, int to, uint64_t place)
{
    return (uint64_t) from << 60 | (uint64_t) to << 56 | place;
}

static ctalk_pid_t pid_of (int index)
{
    return (ctalk_pid_t) (index + 1);
}

/* --------------------------------------------------------------- a server */

/* A server in its process. */
typedef struct {
    const turn_t *turn;
    int fd;
    ctalk_server_t *server;
    uint8_t *payload;
    char error[LINE_BYTES];        /* of the receiving thread */
    char sender_error[LINE_BYTES]; /* of the sending thread, read after it was joined */
} worker_t;

static int fail (char *error, const char *what)
{
    snprintf (error, LINE_BYTES, "%s: %s", what, strerror (errno));
    return -1;
}

static int start_server (worker_t *worker)
{
    ctalk_error_t error = {.text = "out of memory"};
    ctalk_config_t *config = ctalk_config_new ();
    bool good = config != NULL;
    for (int i = 0; good && i < SERVERS; i++)
        good = ctalk_config_add_server (config, pid_of (i), "127.0.0.1:0", &error) == 0;
    if (good)
        worker->server = ctalk_server_new (pid_of (worker->turn->self), config, &error);
    ctalk_config_destroy (&config);
    if (worker->server)
        return 0;
    snprintf (worker->error, sizeof worker->error, "ctalk_server_new: %s", error.text);
    return -1;
}

/* Gives the server the endpoints of the others; endpoints is one line with all five in turn. */
static int add_peers (worker_t *worker, char *endpoints)
{
    char *rest = NULL, *endpoint = strtok_r (endpoints, " ", &rest);
    for (int i = 0; i < SERVERS && endpoint; i++, endpoint = strtok_r (NULL, " ", &rest))
        if (i != worker->turn->self && ctalk_server_add_peer (worker->server, pid_of (i), endpoint) != 0)
            return fail (worker->error, "ctalk_server_add_peer");
    return 0;
}

/* Until the server runs and reaches all that there are; then says so. */
static int set_up (worker_t *worker)
{
    bench_note_t note = {0};
    size_t peers = worker->turn->condition == ABSENT ? WORKERS - 1 : SERVERS - 1;
    if (start_server (worker) != 0)
        return -1;
    snprintf (note.text, sizeof note.text, "%s", ctalk_server_endpoint (worker->server));
    if (bench_tell (worker->fd, &note) != 0 || bench_listen (worker->fd, &note) != 0
        || add_peers (worker, note.text) != 0)
        return -1;
    if (ctalk_server_wait_up (worker->server, peers, UP_MS) != 0)
        return fail (worker->error, "ctalk_server_wait_up");
    if (bench_tell (worker->fd, &note) != 0 || bench_listen (worker->fd, &note) != 0)
        return -1;
    return 0;
}

/* Sends the envelope at this place of its way. */
static int send_one (worker_t *worker, int to, uint64_t place, int timeout_ms)
{
    const size_t size = worker->turn->options->size;
    ctalk_envelope_t envelope = {.pid = pid_of (to), .msg_id = (int64_t) place, .data = worker->payload, .size = size};
    bench_fill (worker->payload, size, number_of (worker->turn->self, to, place));
    return ctalk_send (worker->server, &envelope, timeout_ms);
}

/* To the fifth, without waiting. A full queue is expected. */
static int offer_to_fifth (worker_t *worker, uint64_t *accepted, uint64_t *refused)
{
    if (send_one (worker, FIFTH, *accepted, 0) == 0)
        ++*accepted;
    else if (errno == EAGAIN)
        ++*refused;
    else
        return fail (worker->sender_error, "ctalk_send to the fifth server");
    return 0;
}

/* One envelope to each of the other three, and perhaps to the fifth. */
static int send_turn (worker_t *worker, uint64_t place, uint64_t *accepted, uint64_t *refused)
{
    const turn_t *turn = worker->turn;
    for (int to = 0; to < WORKERS; to++) {
        if (to == turn->self)
            continue;
        if (send_one (worker, to, place, -1) != 0)
            return fail (worker->sender_error, "ctalk_send");
    }
    return turn->traffic == FIVE ? offer_to_fifth (worker, accepted, refused) : 0;
}

/* The sending thread of a worker: until it is told to stop. */
static void *send_until_stop (void *arg)
{
    worker_t *worker = arg;
    const turn_t *turn = worker->turn;
    board_t *board = turn->board;
    uint64_t place = 0, accepted = 0, refused = 0;
    while (read_counter (&board->stop) == 0) {
        if (send_turn (worker, place, &accepted, &refused) != 0) {
            bench_fail (worker->fd, "%s", worker->sender_error);
            return NULL;
        }
        place++;
    }
    write_counter (&board->to_fifth[turn->self], accepted);
    write_counter (&board->refused[turn->self], refused);
    for (int to = 0; to < WORKERS; to++)
        write_counter (&board->sent[turn->self][to], to == turn->self ? 0 : place);
    write_counter (&board->finished[turn->self], 1);
    return NULL;
}

/* Whether all that was sent to this server has come. */
static bool is_complete (const turn_t *turn, const uint64_t *next)
{
    for (int from = 0; from < WORKERS; from++) {
        if (from == turn->self)
            continue;
        if (read_counter (&turn->board->finished[from]) == 0
            || next[from] != read_counter (&turn->board->sent[from][turn->self]))
            return false;
    }
    return true;
}

/* Checks an envelope and counts it as the next of its sender. */
static int take_one (worker_t *worker, const ctalk_envelope_t *envelope, uint64_t *next)
{
    const turn_t *turn = worker->turn;
    int from = (int) envelope->pid - 1;
    if (from < 0 || from >= WORKERS || from == turn->self) {
        snprintf (worker->error, sizeof worker->error, "an envelope from pid %d came", (int) envelope->pid);
        return -1;
    }
    uint64_t place = next[from]++, number = number_of (from, turn->self, place);
    if (envelope->size == turn->options->size && envelope->msg_id == (int64_t) place
        && bench_check (envelope->data, envelope->size, number))
        return 0;
    int used = snprintf (worker->error, sizeof worker->error, "from server %d: ", (int) envelope->pid);
    bench_describe (worker->error + used, sizeof worker->error - (size_t) used, envelope->data, envelope->size, number);
    return -1;
}

/* The receiving thread of a worker: until all has come. */
static int receive_until_complete (worker_t *worker)
{
    uint64_t next[WORKERS] = {0}, received = 0;
    board_t *board = worker->turn->board;
    while (read_counter (&board->stop) == 0 || !is_complete (worker->turn, next)) {
        ctalk_envelope_t envelope;
        if (ctalk_recv (worker->server, &envelope, RECV_MS) != 0) {
            if (errno == EAGAIN)
                continue;
            return fail (worker->error, "ctalk_recv");
        }
        int result = take_one (worker, &envelope, next);
        ctalk_envelope_close (&envelope);
        if (result != 0)
            return -1;
        write_counter (&board->received[worker->turn->self], ++received);
    }
    return 0;
}

/* Nothing among the four may be left; what was for the fifth is lost with it. */
static int close_server (worker_t *worker)
{
    uint64_t expected = read_counter (&worker->turn->board->to_fifth[worker->turn->self]);
    int abandoned = ctalk_server_close (&worker->server, 0);
    if (abandoned >= 0 && (uint64_t) abandoned <= expected)
        return 0;
    snprintf (worker->error, sizeof worker->error, "ctalk_server_close: %d envelopes abandoned", abandoned);
    return -1;
}

static int work (worker_t *worker)
{
    pthread_t sender;
    bench_note_t note = {0};
    worker->payload = calloc (1, worker->turn->options->size);
    if (!worker->payload)
        return fail (worker->error, "calloc");
    if (set_up (worker) != 0)
        return -1;
    errno = pthread_create (&sender, NULL, send_until_stop, worker);
    if (errno != 0)
        return fail (worker->error, "pthread_create");
    if (receive_until_complete (worker) != 0)
        return -1;
    pthread_join (sender, NULL);
    for (int to = 0; to < WORKERS; to++)
        if (to != worker->turn->self && ctalk_server_flush (worker->server, pid_of (to), BENCH_CLOSE_MS) != 0)
            return fail (worker->error, "ctalk_server_flush");
    if (bench_tell (worker->fd, &note) != 0 || bench_listen (worker->fd, &note) != 0)
        return -1;
    free (worker->payload);
    return close_server (worker);
}

static int worker_body (int fd, void *arg)
{
    worker_t worker = {.turn = arg, .fd = fd, .error = "the parent has ended"};
    return work (&worker) == 0 ? 0 : bench_fail (fd, "%s", worker.error);
}

/* The fifth server: receives what comes until it is stopped, and later killed. */
static int fifth_body (int fd, void *arg)
{
    worker_t fifth = {.turn = arg, .fd = fd, .error = "the parent has ended"};
    if (set_up (&fifth) != 0)
        return bench_fail (fd, "%s", fifth.error);
    for (;;) {
        ctalk_envelope_t envelope;
        if (ctalk_recv (fifth.server, &envelope, -1) != 0)
            return bench_fail (fd, "ctalk_recv: %s", strerror (errno));
        ctalk_envelope_close (&envelope);
    }
}

/* -------------------------------------------------------------- the parent */

/* What a turn gave: envelopes per second of all four together. */
typedef struct {
    double rate, lowest;
    double per_cpu;           /* envelopes per second of processor time of the four */
    uint64_t queued, refused; /* for the fifth */
} result_t;

/* The whole turn, on the parent's side. */
typedef struct {
    const options_t *options;
    bench_group_t group;
    turn_t turns[SERVERS];
    board_t *board;
    condition_t condition;
    traffic_t traffic;
    int reserved; /* the socket that holds the port of an absent server, or -1 */
    uint64_t round, deadline_ns;
} play_t;

/* A port that refuses connections for as long as the socket is open. */
static int reserve_port (char *endpoint, size_t capacity)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl (INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind (fd, (struct sockaddr *) &address, sizeof address) == 0
        && getsockname (fd, (struct sockaddr *) &address, &length) == 0) {
        snprintf (endpoint, capacity, "tcp://127.0.0.1:%u", (unsigned) ntohs (address.sin_port));
        return fd;
    }
    fprintf (stderr, "no port can be reserved: %s\n", strerror (errno));
    if (fd >= 0)
        close (fd);
    return -1;
}

static int start_children (play_t *play)
{
    static const char *const names[SERVERS] = {"server 1", "server 2", "server 3", "server 4", "server 5"};
    int count = play->condition == STOPPED ? SERVERS : WORKERS;
    for (int i = 0; i < count; i++) {
        play->turns[i] = (turn_t){.options = play->options,
                                  .board = play->board,
                                  .self = i,
                                  .condition = play->condition,
                                  .traffic = play->traffic};
        if (bench_start (&play->group, names[i], i == FIFTH ? fifth_body : worker_body, &play->turns[i]) < 0)
            return -1;
    }
    return 0;
}

static int tell_all (play_t *play, const bench_note_t *note)
{
    for (size_t i = 0; i < play->group.count; i++)
        if (bench_tell (play->group.child[i].fd, note) != 0)
            return -1;
    return 0;
}

/* Waits for a note of each of the first count children. */
static int hear_all (play_t *play, size_t count)
{
    bench_note_t note;
    for (size_t i = 0; i < count; i++)
        if (bench_hear (&play->group, (int) i, &note, play->deadline_ns, NULL, NULL) != 0)
            return -1;
    return 0;
}

/* Collects the endpoints, tells them to all, and waits until all are up. */
static int introduce (play_t *play)
{
    bench_note_t note, all = {0};
    char endpoints[SERVERS][ENDPOINT_BYTES] = {{0}};
    for (size_t i = 0; i < play->group.count; i++) {
        if (bench_hear (&play->group, (int) i, &note, play->deadline_ns, NULL, NULL) != 0)
            return -1;
        snprintf (endpoints[i], sizeof endpoints[i], "%.*s", ENDPOINT_BYTES - 1, note.text);
    }
    if (play->condition == ABSENT) {
        play->reserved = reserve_port (endpoints[FIFTH], sizeof endpoints[FIFTH]);
        if (play->reserved < 0)
            return -1;
    }
    snprintf (all.text, sizeof all.text, "%s %s %s %s %s", endpoints[0], endpoints[1], endpoints[2], endpoints[3],
              endpoints[4]);
    return tell_all (play, &all) == 0 ? hear_all (play, play->group.count) : -1;
}

static uint64_t count_received (const board_t *board)
{
    uint64_t sum = 0;
    for (int i = 0; i < WORKERS; i++)
        sum += read_counter (&board->received[i]);
    return sum;
}

/* The processor time of the four workers up to now. */
static uint64_t count_cpu_ns (const bench_group_t *group)
{
    uint64_t sum = 0;
    for (int i = 0; i < WORKERS; i++) {
        clockid_t clock;
        struct timespec used = {0};
        if (clock_getcpuclockid (group->child[i].pid, &clock) == 0 && clock_gettime (clock, &used) == 0)
            sum += (uint64_t) used.tv_sec * UINT64_C (1000000000) + (uint64_t) used.tv_nsec;
    }
    return sum;
}

/* Sleeps to a point of the monotonic clock. false: a child has failed. */
static bool sleep_until (play_t *play, uint64_t until_ns)
{
    while (bench_now_ns () < until_ns) {
        struct timespec until = {.tv_sec = (time_t) (until_ns / UINT64_C (1000000000)),
                                 .tv_nsec = (long) (until_ns % UINT64_C (1000000000))};
        clock_nanosleep (CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
    return !bench_any_failed (&play->group);
}

/* Stops the fifth server and makes sure that it stands. */
static int stop_fifth (play_t *play)
{
    int status;
    bench_child_t *fifth = &play->group.child[FIFTH];
    if (kill (fifth->pid, SIGSTOP) == 0 && waitpid (fifth->pid, &status, WUNTRACED) == fifth->pid
        && WIFSTOPPED (status))
        return 0;
    fprintf (stderr, "%s: cannot be stopped\n", fifth->name);
    return -1;
}

/* Counts through the time, slice by slice. */
static int measure (play_t *play, result_t *result)
{
    const uint64_t begin_ns = bench_now_ns (), slice_ns = SLICE_MS * UINT64_C (1000000);
    const uint64_t slices = play->options->seconds * 1000 / SLICE_MS;
    const uint64_t begin = count_received (play->board), begin_cpu_ns = count_cpu_ns (&play->group);
    uint64_t last = begin, last_ns = begin_ns;
    for (uint64_t i = 1; i <= slices; i++) {
        if (!sleep_until (play, begin_ns + i * slice_ns))
            return -1;
        uint64_t now_ns = bench_now_ns (), now = count_received (play->board);
        double rate = (double) (now - last) * 1e9 / (double) (now_ns - last_ns);
        if (i == 1 || rate < result->lowest)
            result->lowest = rate;
        bench_progress ("round %" PRIu64 "/%" PRIu64 "  %s, %-8s %3" PRIu64 " %%  %.0f/s", play->round,
                        play->options->rounds, traffic_names[play->traffic], condition_names[play->condition],
                        100 * i / slices, rate);
        last = now;
        last_ns = now_ns;
    }
    result->rate = (double) (last - begin) * 1e9 / (double) (last_ns - begin_ns);
    result->per_cpu = (double) (last - begin) * 1e9 / (double) (count_cpu_ns (&play->group) - begin_cpu_ns);
    return 0;
}

/* Lets the senders stop, everything arrive, and the four close. */
static int wind_up (play_t *play, result_t *result)
{
    bench_note_t note = {0};
    write_counter (&play->board->stop, 1);
    if (hear_all (play, WORKERS) != 0)
        return -1;
    for (int i = 0; i < WORKERS; i++) {
        result->queued += read_counter (&play->board->to_fifth[i]);
        result->refused += read_counter (&play->board->refused[i]);
    }
    for (int i = 0; i < WORKERS; i++)
        if (bench_tell (play->group.child[i].fd, &note) != 0)
            return -1;
    return bench_join (&play->group, WORKERS, play->deadline_ns);
}

static int play_turn (play_t *play, result_t *result)
{
    bench_note_t note = {0};
    if (start_children (play) != 0 || introduce (play) != 0 || tell_all (play, &note) != 0)
        return -1;
    if (!sleep_until (play, bench_now_ns () + play->options->warmup_ms * UINT64_C (1000000)))
        return -1;
    if (play->condition == STOPPED && stop_fifth (play) != 0)
        return -1;
    return measure (play, result) == 0 ? wind_up (play, result) : -1;
}

/* A turn in one condition. Whatever happens, no process and no socket is left. */
static int run_turn (const options_t *options, board_t *board, condition_t condition, traffic_t traffic, uint64_t round,
                     result_t *result)
{
    const uint64_t limit_ms = (options->seconds + SLACK_S) * 1000 + options->warmup_ms;
    play_t play = {.options = options,
                   .board = board,
                   .condition = condition,
                   .traffic = traffic,
                   .reserved = -1,
                   .round = round,
                   .deadline_ns = bench_now_ns () + limit_ms * UINT64_C (1000000)};
    memset ((void *) board, 0, sizeof *board);
    *result = (result_t){0};
    int done = play_turn (&play, result);
    bench_progress ("%s", "");
    bench_kill (&play.group);
    if (play.reserved >= 0)
        close (play.reserved);
    if (done != 0)
        fprintf (stderr, "round %" PRIu64 ", %s, %s: failed\n", round, traffic_names[traffic],
                 condition_names[condition]);
    return done;
}

/* ------------------------------------------------------------------ report */

static void print_round (traffic_t traffic, uint64_t round, const result_t *results)
{
    bench_cell_t cells[8];
    bench_cell (cells[0], "%s, round %" PRIu64, traffic_names[traffic], round);
    bench_cell (cells[1], "%.0f", results[STOPPED].rate);
    bench_cell (cells[2], "%.0f", results[ABSENT].rate);
    bench_cell (cells[3], "%.2f", results[STOPPED].rate / results[ABSENT].rate);
    bench_cell (cells[4], "%.0f", results[STOPPED].lowest);
    bench_cell (cells[5], "%.0f", results[ABSENT].lowest);
    bench_cell (cells[6], "%.0f", results[STOPPED].per_cpu);
    bench_cell (cells[7], "%.0f", results[ABSENT].per_cpu);
    bench_print_row (cells, sizeof cells / sizeof *cells);
}

static void write_csv (FILE *csv, const options_t *options, traffic_t traffic, uint64_t round, const result_t *results)
{
    for (int i = 0; csv && i < CONDITIONS; i++)
        fprintf (csv, "%s,%s,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%.0f,%.0f,%.0f,%" PRIu64 ",%" PRIu64 "\n",
                 traffic_names[traffic], condition_names[i], round, options->size, options->seconds, results[i].rate,
                 results[i].lowest, results[i].per_cpu, results[i].queued, results[i].refused);
    if (csv)
        fflush (csv);
}

/* A figure of all rounds in a row of the table; returns its median. */
static double print_condition (const char *name, const double *values, uint64_t rounds, int digits)
{
    bench_cell_t cells[4];
    const double figures[] = {bench_median (values, rounds), bench_least (values, rounds), bench_most (values, rounds)};
    bench_cell (cells[0], "%s", name);
    for (size_t i = 0; i < 3; i++)
        bench_cell (cells[i + 1], "%.*f", digits, figures[i]);
    bench_print_row (cells, sizeof cells / sizeof *cells);
    return figures[0];
}

/* Sums up one kind of traffic; returns the ratio of the medians. */
static double print_summary (traffic_t traffic, const result_t (*results)[CONDITIONS], uint64_t rounds)
{
    const bench_cell_t head[] = {"envelopes/s", "median", "least", "most"};
    double values[CONDITIONS][BENCH_ROUNDS_MAX], ratios[BENCH_ROUNDS_MAX], per_cpu[BENCH_ROUNDS_MAX];
    for (uint64_t i = 0; i < rounds; i++) {
        for (int j = 0; j < CONDITIONS; j++)
            values[j][i] = results[i][j].rate;
        ratios[i] = values[STOPPED][i] / values[ABSENT][i];
        per_cpu[i] = results[i][STOPPED].per_cpu / results[i][ABSENT].per_cpu;
    }
    printf ("\n");
    bench_print_head (head, sizeof head / sizeof *head);
    double stopped = print_condition (condition_names[STOPPED], values[STOPPED], rounds, 0);
    double absent = print_condition (condition_names[ABSENT], values[ABSENT], rounds, 0);
    print_condition ("ratio of a round", ratios, rounds, 2);
    print_condition ("the same per CPU s", per_cpu, rounds, 2);
    printf ("\n%s: stopped / absent, ratio of the medians: %.2f; at least 0.90: %s\n\n", traffic_names[traffic],
            stopped / absent, stopped / absent >= 0.9 ? "yes" : "no");
    return stopped / absent;
}

/* All rounds of one kind of traffic. */
static int run_traffic (const options_t *options, board_t *board, FILE *csv, traffic_t traffic, double *ratio)
{
    static result_t results[BENCH_ROUNDS_MAX][CONDITIONS];
    const bench_cell_t head[] = {"traffic",     "stopped/s",  "absent/s",      "ratio",
                                 "stopped low", "absent low", "stopped /CPUs", "absent /CPUs"};
    bench_print_head (head, sizeof head / sizeof *head);
    for (uint64_t round = 1; round <= options->rounds; round++) {
        result_t *result = results[round - 1];
        for (uint64_t i = 0; i < CONDITIONS; i++) {
            condition_t condition = (i + round) % CONDITIONS == 0 ? ABSENT : STOPPED;
            if (run_turn (options, board, condition, traffic, round, &result[condition]) != 0)
                return -1;
        }
        print_round (traffic, round, result);
        write_csv (csv, options, traffic, round, result);
    }
    *ratio = print_summary (traffic, (const result_t (*)[CONDITIONS]) results, options->rounds);
    return 0;
}

static int bench (const void *asked, FILE *csv)
{
    const options_t *options = asked;
    double ratio, least = -1;
    board_t *board = bench_shared (sizeof *board);
    if (!board)
        return EXIT_FAILURE;
    bench_print_machine ();
    printf ("five servers, one stopped or absent; %" PRIu64 " bytes, %" PRIu64 " s a turn, %" PRIu64 " rounds\n\n",
            options->size, options->seconds, options->rounds);
    if (csv)
        fprintf (csv,
                 "traffic,condition,round,size_bytes,seconds,envelopes_per_s,lowest_per_s,per_cpu_s,for_fifth_accepted,"
                 "for_fifth_refused\n");
    for (int i = 0; i < TRAFFICS; i++) {
        if (!options->traffic[i])
            continue;
        if (run_traffic (options, board, csv, (traffic_t) i, &ratio) != 0)
            return EXIT_FAILURE;
        least = least < 0 || ratio < least ? ratio : least;
    }
    return least < options->require ? BENCH_MISSED : EXIT_SUCCESS;
}

/* ------------------------------------------------------------ command line */

static void print_help (void)
{
    printf ("usage: stopped_peer [OPTION]...\n"
            "What a stopped server costs the others. Five servers, a process each, default\n"
            "options, over loopback. Four of them send to each other, point to point, each\n"
            "to the other three in turn, waiting for room. Their rate is taken over a fixed\n"
            "time in two conditions, turn about: the fifth server gets SIGSTOP just before\n"
            "the time begins (stopped), or was never started and its port refuses connections\n"
            "(absent). Number, order and content of every envelope are checked, and all must\n"
            "arrive after the time.\n"
            "\n"
            "  --traffic KIND    four: among the four only; five: at each turn one also to\n"
            "                    the fifth, with timeout 0, EAGAIN expected; both (both)\n"
            "  --size BYTES      of a payload, 8 to 65536 (64)\n"
            "  --seconds N       the time of a turn; from 6 on it covers up, suspect and\n"
            "                    down of the fifth (8)\n"
            "  --warmup-ms N     traffic before the time begins (1000)\n"
            "  --rounds N        rounds; each condition has a turn in each (5)\n"
            "  --csv FILE        write the figures of every turn\n"
            "  --require RATIO   exit with 3 if stopped / absent is below it (0)\n"
            "  --help            this text\n"
            "\n"
            "\"low\" is the lowest rate of a quarter second within the time, \"/CPUs\" the\n"
            "envelopes per second of processor time that the four used. Exit status:\n"
            "0 measured, 1 failed, 2 wrong usage, 3 below --require.\n");
}

static bool take_traffic (options_t *options, const char *kind)
{
    bool both = strcmp (kind, "both") == 0;
    for (int i = 0; i < TRAFFICS; i++)
        options->traffic[i] = both || strcmp (kind, traffic_names[i]) == 0;
    if (options->traffic[FOUR] || options->traffic[FIVE])
        return true;
    fprintf (stderr, "--traffic: four, five or both is needed, not \"%s\"\n", kind);
    return false;
}

static bool take_option (void *asked, const char *name, const char *value)
{
    options_t *options = asked;
    if (strcmp (name, "traffic") == 0)
        return take_traffic (options, value);
    if (strcmp (name, "size") == 0)
        return bench_parse_count (name, value, BENCH_PAYLOAD_MIN_BYTES, SIZE_MAX_BYTES, &options->size);
    if (strcmp (name, "seconds") == 0)
        return bench_parse_count (name, value, 1, 3600, &options->seconds);
    if (strcmp (name, "warmup-ms") == 0)
        return bench_parse_count (name, value, 0, 3600000, &options->warmup_ms);
    if (strcmp (name, "rounds") == 0)
        return bench_parse_count (name, value, 1, BENCH_ROUNDS_MAX, &options->rounds);
    return bench_parse_ratio (name, value, &options->require);
}

int main (int argc, char **argv)
{
    static const bench_program_t program = {.options = {"traffic", "size", "seconds", "warmup-ms", "rounds", "require"},
                                            .help = print_help,
                                            .take = take_option,
                                            .run = bench};
    options_t options = {
        .size = 64, .seconds = 8, .warmup_ms = 1000, .rounds = 5, .traffic = {[FOUR] = true, [FIVE] = true}};
    return bench_main (argc, argv, &program, &options);
}
