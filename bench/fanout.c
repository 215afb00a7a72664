/*
 * fanout.c - one server that sends to 1, 2, 4 ... 64 others, point to point in
 * turn: what more peers cost the total rate.
 *
 * Method. Two processes: in the first one a single thread sends 64-byte
 * envelopes to the receivers in turn, in the second one are all receivers. The
 * total number of envelopes is the same for any number of receivers. All are
 * connected and have had one envelope before the time begins; it ends when the
 * last receiver has taken and checked its last envelope. Every envelope is a
 * call to send and a call to receive; the payload is copied by the send. Each
 * receiver checks number, order and every byte, at the same cost for all.
 *
 *   ctalk     ctalk_send / ctalk_recv, default options, a thread receiving per
 *             server
 *   zmq       a PUSH for each receiver, a PULL each with a thread, high-water
 *             marks as libzmq sets them
 *   zmq-io2   the same with two I/O threads, as ClusterTalk has them
 *
 * With --poll one thread serves all receivers: ctalk_recv with timeout 0 after
 * epoll on the descriptors of the servers, beside zmq_msg_recv with
 * ZMQ_DONTWAIT after zmq_poll, at most AT_ONCE from one receiver at a time.
 *
 * Processor time is that of both processes, peak memory the sum of theirs.
 */
#include "bench/crew.h"
#include "bench/ends.h"
#include "bench/report.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <zmq.h>

enum {
    SENDER = 0, /* the processes */
    RECEIVERS = 1,
    PEERS_MAX = 64,
    CASES_MAX = 7, /* 1, 2, 4 ... 64 */
    SIZE_BYTES = 64,
    AT_ONCE = 64,
    FDS_EACH = 16, /* descriptors for a peer, at most */
    FDS_SHARED = 64,
    STACK_BYTES = 256 * 1024, /* of a receiving thread */
    WAIT_MS = 20000,          /* for the next envelope, before a receiver gives up */
    TO_SHIFT = 56             /* the receiver's index in the number of an envelope */
};

typedef struct {
    uint64_t count, peers, rounds, deadline_s; /* peers 0: 1 to 64; otherwise 1 and so many */
    bool poll;
    const char *only; /* contestants */
} options_t;

typedef struct {
    size_t peers;
    uint64_t each; /* envelopes for each */
    bool poll;
} task_t;

/* What the processes of a turn share. */
typedef struct {
    char sender[ENDS_ENDPOINT_BYTES];
    char receiver[PEERS_MAX][ENDS_ENDPOINT_BYTES];
} board_t;

typedef struct {
    int io_threads;
} way_t;

typedef struct end end_t;

/* A receiver; in the sending process the way to it. */
typedef struct {
    end_t *end;
    size_t index;
    ctalk_server_t *server;
    void *socket;
    uint64_t next, until; /* the place that comes next, and where the present envelopes end */
    pthread_t thread;
} peer_t;

/* What a process has. */
struct end {
    crew_member_t *member;
    peer_t peer[PEERS_MAX];
    ctalk_server_t *server; /* of the sender */
    void *context;
    int epoll_fd;
    pthread_barrier_t gate; /* the receiving threads and the step, before and after some envelopes */
    int (*take) (peer_t *peer);
    int (*take_polled) (end_t *end);
    int (*give) (end_t *end, size_t index, uint64_t place);
};

static uint64_t number_of (size_t index, uint64_t place)
{
    return (uint64_t) index << TO_SHIFT | place;
}

static const task_t *task_of (const end_t *end)
{
    return end->member->task;
}

static end_t *new_end (crew_member_t *member)
{
    const task_t *task = member->task;
    if (ends_raise_descriptors (member, FDS_EACH * task->peers + FDS_SHARED) != 0)
        return NULL;
    end_t *end = calloc (1, sizeof *end);
    if (!end) {
        crew_fail (member, "calloc");
        return NULL;
    }
    end->member = member;
    end->epoll_fd = -1;
    for (size_t i = 0; i < PEERS_MAX; i++)
        end->peer[i] = (peer_t){.end = end, .index = i};
    member->own = end;
    return end;
}

static void free_end (end_t *end)
{
    if (end->epoll_fd >= 0)
        close (end->epoll_fd);
    free (end);
}

/* ------------------------------------------------------------------ sending */

/* So many envelopes to each receiver, from this place on, in turn. */
static int send_all (end_t *end, uint64_t place, uint64_t count)
{
    const size_t peers = task_of (end)->peers;
    for (const uint64_t until = place + count; place < until; place++)
        for (size_t i = 0; i < peers; i++)
            if (end->give (end, i, place) != 0)
                return -1;
    return 0;
}

/* ---------------------------------------------------------------- receiving */

static int check (const peer_t *peer, const void *data, size_t size)
{
    const uint64_t number = number_of (peer->index, peer->next);
    if (size == SIZE_BYTES && bench_check (data, size, number))
        return 0;
    return crew_fail_content (peer->end->member, "receiver", data, size, number);
}

/* One receiver for the present envelopes. */
static int take_all (peer_t *peer)
{
    for (; peer->next < peer->until; peer->next++)
        if (peer->end->take (peer) != 0)
            return -1;
    return 0;
}

/* Twice: to warm up, then for the time. One that fails ends the process. */
static void *run_receiver (void *arg)
{
    peer_t *peer = arg;
    for (int i = 0; i < 2; i++) {
        pthread_barrier_wait (&peer->end->gate);
        if (take_all (peer) != 0) {
            fprintf (stderr, "receiver %zu: %s\n", peer->index + 1, peer->end->member->error);
            _exit (EXIT_FAILURE);
        }
        pthread_barrier_wait (&peer->end->gate);
    }
    return NULL;
}

static int start_receivers (end_t *end)
{
    const size_t peers = task_of (end)->peers;
    pthread_attr_t small;
    int result = 0;
    pthread_barrier_init (&end->gate, NULL, (unsigned) peers + 1);
    pthread_attr_init (&small);
    pthread_attr_setstacksize (&small, STACK_BYTES);
    for (size_t i = 0; result == 0 && i < peers; i++) {
        errno = pthread_create (&end->peer[i].thread, &small, run_receiver, &end->peer[i]);
        result = errno == 0 ? 0 : crew_fail (end->member, "pthread_create");
    }
    pthread_attr_destroy (&small);
    return result;
}

static void join_receivers (end_t *end)
{
    const task_t *task = task_of (end);
    if (task->poll)
        return;
    for (size_t i = 0; i < task->peers; i++)
        pthread_join (end->peer[i].thread, NULL);
    pthread_barrier_destroy (&end->gate);
}

/* All receivers for so many envelopes each. */
static int receive_all (end_t *end, uint64_t count)
{
    const task_t *task = task_of (end);
    for (size_t i = 0; i < task->peers; i++)
        end->peer[i].until += count;
    if (task->poll)
        return end->take_polled (end);
    pthread_barrier_wait (&end->gate);
    pthread_barrier_wait (&end->gate);
    return 0;
}

/* The steps that all contestants share: one envelope each, then those that count. */
static int warm (crew_member_t *member)
{
    end_t *end = member->own;
    if (member->self == SENDER)
        return send_all (end, 0, 1);
    if (!task_of (end)->poll && start_receivers (end) != 0)
        return -1;
    return receive_all (end, 1);
}

static int run (crew_member_t *member)
{
    end_t *end = member->own;
    const uint64_t each = task_of (end)->each;
    return member->self == SENDER ? send_all (end, 1, each) : receive_all (end, each);
}

/* -------------------------------------------------------------- ClusterTalk */

enum { SENDER_PID = 1 };

static ctalk_pid_t pid_of (size_t index)
{
    return (ctalk_pid_t) index + SENDER_PID + 1;
}

static int give_ctalk (end_t *end, size_t index, uint64_t place)
{
    uint8_t payload[SIZE_BYTES];
    const ctalk_envelope_t envelope = {
        .pid = pid_of (index), .msg_id = (int64_t) place, .data = payload, .size = sizeof payload};
    bench_fill (payload, sizeof payload, number_of (index, place));
    return ctalk_send (end->server, &envelope, -1) == 0 ? 0 : crew_fail (end->member, "ctalk_send");
}

/* 1: there was one; 0: none within the time; -1: failed. */
static int take_within (peer_t *peer, int timeout_ms)
{
    ctalk_envelope_t envelope;
    if (ctalk_recv (peer->server, &envelope, timeout_ms) != 0)
        return errno == EAGAIN ? 0 : crew_fail (peer->end->member, "ctalk_recv");
    int result = check (peer, envelope.data, envelope.size);
    ctalk_envelope_close (&envelope);
    return result == 0 ? 1 : -1;
}

static int take_ctalk (peer_t *peer)
{
    int taken = take_within (peer, WAIT_MS);
    if (taken == 0) {
        errno = ETIME;
        crew_fail (peer->end->member, "ctalk_recv");
    }
    return taken == 1 ? 0 : -1;
}

/* What one receiver has, at most AT_ONCE. */
static int drain_ctalk (peer_t *peer)
{
    int taken = 1;
    for (int i = 0; i < AT_ONCE && taken == 1 && peer->next < peer->until; i++) {
        taken = take_within (peer, 0);
        peer->next += taken == 1;
    }
    return taken < 0 ? -1 : 0;
}

/* How many envelopes are still to come in all. */
static uint64_t count_left (const end_t *end)
{
    uint64_t left = 0;
    for (size_t i = 0; i < task_of (end)->peers; i++)
        left += end->peer[i].until - end->peer[i].next;
    return left;
}

static int poll_ctalk (end_t *end)
{
    while (count_left (end) > 0) {
        struct epoll_event events[PEERS_MAX];
        int count = epoll_wait (end->epoll_fd, events, PEERS_MAX, WAIT_MS);
        if (count == 0)
            errno = ETIME;
        if (count <= 0)
            return crew_fail (end->member, "epoll_wait");
        for (int i = 0; i < count; i++)
            if (drain_ctalk (&end->peer[events[i].data.u64]) != 0)
                return -1;
    }
    return 0;
}

static int open_receiver (end_t *end, size_t index, char *endpoint)
{
    end->peer[index].server = ends_satellite (end->member, pid_of (index), NULL, endpoint);
    return end->peer[index].server ? 0 : -1;
}

static int open_sender (end_t *end, char *endpoint)
{
    ctalk_config_t *config = ends_config (end->member, SENDER_PID + task_of (end)->peers, NULL);
    if (config)
        end->server = ends_server (end->member, SENDER_PID, config, endpoint);
    ctalk_config_destroy (&config);
    return end->server ? 0 : -1;
}

static int watch_receiver (end_t *end, size_t index)
{
    struct epoll_event event = {.events = EPOLLIN, .data = {.u64 = index}};
    int fd = ctalk_server_fd (end->peer[index].server);
    if (fd < 0 || epoll_ctl (end->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        return crew_fail (end->member, "ctalk_server_fd");
    return 0;
}

static int open_ctalk (crew_member_t *member)
{
    const task_t *task = member->task;
    board_t *board = member->shared;
    end_t *end = new_end (member);
    if (!end)
        return -1;
    end->take = take_ctalk;
    end->take_polled = poll_ctalk;
    end->give = give_ctalk;
    if (member->self == SENDER)
        return open_sender (end, board->sender);
    end->epoll_fd = epoll_create1 (EPOLL_CLOEXEC);
    for (size_t i = 0; i < task->peers; i++)
        if (open_receiver (end, i, board->receiver[i]) != 0 || (task->poll && watch_receiver (end, i) != 0))
            return -1;
    return 0;
}

static int meet_ctalk (crew_member_t *member)
{
    const task_t *task = member->task;
    const board_t *board = member->shared;
    end_t *end = member->own;
    for (size_t i = 0; i < task->peers; i++)
        if (member->self == SENDER ? ends_meet (member, end->server, pid_of (i), board->receiver[i]) != 0
                                   : ends_meet (member, end->peer[i].server, SENDER_PID, board->sender) != 0)
            return -1;
    return 0;
}

/* Until everybody is up, both ways; then the one envelope each. */
static int warm_ctalk (crew_member_t *member)
{
    const task_t *task = member->task;
    end_t *end = member->own;
    for (size_t i = 0; i < task->peers; i++)
        if (ctalk_server_wait_up (member->self == SENDER ? end->server : end->peer[i].server, SIZE_MAX, ENDS_UP_MS)
            != 0)
            return crew_fail (member, "ctalk_server_wait_up");
    return warm (member);
}

static int close_ctalk (crew_member_t *member)
{
    const task_t *task = member->task;
    end_t *end = member->own;
    int result = 0;
    if (member->self == SENDER) {
        result = ends_close (member, &end->server);
    } else {
        join_receivers (end);
        for (size_t i = 0; result == 0 && i < task->peers; i++)
            result = ends_close (member, &end->peer[i].server);
    }
    free_end (end);
    return result;
}

/* ------------------------------------------------------------ the yardstick */

static int give_zmq (end_t *end, size_t index, uint64_t place)
{
    uint8_t payload[SIZE_BYTES];
    bench_fill (payload, sizeof payload, number_of (index, place));
    return zmq_send (end->peer[index].socket, payload, sizeof payload, 0) >= 0 ? 0
                                                                               : crew_fail (end->member, "zmq_send");
}

static int take_zmq (peer_t *peer)
{
    zmq_msg_t message;
    zmq_msg_init (&message);
    int result = zmq_msg_recv (&message, peer->socket, 0) < 0
                     ? crew_fail (peer->end->member, "zmq_msg_recv")
                     : check (peer, zmq_msg_data (&message), zmq_msg_size (&message));
    zmq_msg_close (&message);
    return result;
}

/* What one receiver has, at most AT_ONCE. */
static int drain_zmq (peer_t *peer, zmq_msg_t *message)
{
    for (int i = 0; i < AT_ONCE && peer->next < peer->until; i++) {
        if (zmq_msg_recv (message, peer->socket, ZMQ_DONTWAIT) < 0)
            return errno == EAGAIN ? 0 : crew_fail (peer->end->member, "zmq_msg_recv");
        if (check (peer, zmq_msg_data (message), zmq_msg_size (message)) != 0)
            return -1;
        peer->next++;
    }
    return 0;
}

static int poll_zmq (end_t *end)
{
    const size_t peers = task_of (end)->peers;
    zmq_pollitem_t wait[PEERS_MAX];
    zmq_msg_t message;
    int result = 0;
    for (size_t i = 0; i < peers; i++)
        wait[i] = (zmq_pollitem_t){.socket = end->peer[i].socket, .events = ZMQ_POLLIN};
    zmq_msg_init (&message);
    while (result == 0 && count_left (end) > 0) {
        if (zmq_poll (wait, (int) peers, WAIT_MS) <= 0)
            result = crew_fail (end->member, "zmq_poll");
        for (size_t i = 0; result == 0 && i < peers; i++)
            if (wait[i].revents & ZMQ_POLLIN)
                result = drain_zmq (&end->peer[i], &message);
    }
    zmq_msg_close (&message);
    return result;
}

/* The receivers bind and the senders connect, as those of ClusterTalk do. */
static int open_zmq (crew_member_t *member)
{
    const task_t *task = member->task;
    const way_t *way = member->way;
    board_t *board = member->shared;
    const int wait_ms = WAIT_MS;
    end_t *end = new_end (member);
    if (!end || !(end->context = ends_context (member, way->io_threads, 0)))
        return -1;
    end->take = take_zmq;
    end->take_polled = poll_zmq;
    end->give = give_zmq;
    for (size_t i = 0; member->self == RECEIVERS && i < task->peers; i++) {
        void *socket = ends_socket (member, end->context, ZMQ_PULL, ENDS_HWM_DEFAULT);
        end->peer[i].socket = socket;
        if (!socket || ends_bind (member, socket, board->receiver[i]) != 0)
            return -1;
        if (zmq_setsockopt (socket, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms) != 0)
            return crew_fail (member, "zmq_setsockopt");
    }
    return 0;
}

static int meet_zmq (crew_member_t *member)
{
    const task_t *task = member->task;
    const board_t *board = member->shared;
    end_t *end = member->own;
    for (size_t i = 0; member->self == SENDER && i < task->peers; i++) {
        void *socket = ends_socket (member, end->context, ZMQ_PUSH, ENDS_HWM_DEFAULT);
        end->peer[i].socket = socket;
        if (!socket || ends_connect (member, socket, board->receiver[i]) != 0)
            return -1;
    }
    return 0;
}

static int close_zmq (crew_member_t *member)
{
    const task_t *task = member->task;
    end_t *end = member->own;
    if (member->self == RECEIVERS)
        join_receivers (end);
    for (size_t i = 0; i < task->peers; i++)
        if (zmq_close (end->peer[i].socket) != 0)
            return crew_fail (member, "zmq_close");
    if (zmq_ctx_term (end->context) != 0)
        return crew_fail (member, "zmq_ctx_term");
    free_end (end);
    return 0;
}

/* -------------------------------------------------------------- the workload */

enum { RATE, CPU_US, METRICS };

static const crew_metric_t metrics[METRICS] = {
    [RATE] = {.name = "envelopes/s"},
    [CPU_US] = {.name = "CPU us each", .lower_is_better = true},
};

static const way_t io_default = {0}, io_two = {2};

static const crew_contestant_t contestants[] = {
    {.name = "ctalk", .step = {open_ctalk, meet_ctalk, warm_ctalk, run, close_ctalk}},
    {.name = "zmq", .way = &io_default, .step = {open_zmq, meet_zmq, warm, run, close_zmq}},
    {.name = "zmq-io2", .way = &io_two, .step = {open_zmq, meet_zmq, warm, run, close_zmq}},
};
enum { CONTESTANTS = sizeof contestants / sizeof *contestants };

static void figures (const void *asked, const void *shared, const crew_cost_t *cost, double *values)
{
    const task_t *task = asked;
    const double count = (double) task->each * (double) task->peers;
    (void) shared;
    values[RATE] = count / cost->seconds;
    values[CPU_US] = cost->cpu_s * 1e6 / count;
}

/* The rate at the most peers by that at one, of each contestant. */
static void report_slope (const crew_table_t *table, const crew_workload_t *workload, FILE *csv)
{
    for (size_t i = 0; i < CONTESTANTS; i++) {
        if (!crew_values (table, 0, i, RATE))
            continue;
        const bench_figure_t figure = {.workload = workload->name,
                                       .parameter = workload->cases[workload->case_count - 1].name,
                                       .x = workload->cases[workload->case_count - 1].x,
                                       .contestant = contestants[i].name,
                                       .metric = "envelopes/s",
                                       .values = crew_values (table, workload->case_count - 1, i, RATE),
                                       .rounds = (size_t) workload->rounds,
                                       .against = crew_values (table, 0, i, RATE),
                                       .against_name = workload->cases[0].name,
                                       .cpu_s = -1,
                                       .peak_kib = -1};
        bench_report_figure (csv, &figure);
    }
}

/* 1, 2, 4 ... 64 peers, or 1 and so many. Returns how many cases. */
static size_t make_cases (const options_t *options, task_t *tasks, bench_cell_t *texts, crew_case_t *cases)
{
    const size_t count = options->peers == 0 ? CASES_MAX : options->peers == 1 ? 1 : 2;
    for (size_t i = 0; i < count; i++) {
        size_t peers = options->peers > 0 && i == 1 ? (size_t) options->peers : (size_t) 1 << i;
        tasks[i] = (task_t){.peers = peers, .each = options->count / peers, .poll = options->poll};
        bench_cell (texts[i], "%zu peer%s%s", peers, peers == 1 ? "" : "s", options->poll ? ", poll" : "");
        cases[i] = (crew_case_t){.name = texts[i], .x = (double) peers, .task = &tasks[i]};
    }
    return count;
}

static int bench (const void *asked, FILE *csv)
{
    static const char *const names[] = {[SENDER] = "sender", [RECEIVERS] = "receivers"};
    const options_t *options = asked;
    task_t tasks[CASES_MAX];
    bench_cell_t texts[CASES_MAX];
    crew_case_t cases[CASES_MAX];
    const crew_workload_t workload = {.name = "W6",
                                      .title = options->poll ? "W6: one server to many, one thread receiving for all"
                                                             : "W6: one server to many, a thread receiving for each",
                                      .process_names = names,
                                      .processes = 2,
                                      .cases = cases,
                                      .case_count = make_cases (options, tasks, texts, cases),
                                      .contestants = contestants,
                                      .contestant_count = CONTESTANTS,
                                      .own_count = 1,
                                      .metrics = metrics,
                                      .metric_count = METRICS,
                                      .timed = 3,
                                      .shared_bytes = sizeof (board_t),
                                      .rounds = options->rounds,
                                      .only = options->only,
                                      .deadline_s = options->deadline_s,
                                      .figures = figures};
    bench_print_machine ();
    crew_table_t *table = crew_play (&workload);
    if (!table)
        return EXIT_FAILURE;
    crew_report (table, csv);
    if (workload.case_count > 1)
        report_slope (table, &workload, csv);
    crew_destroy (&table);
    return EXIT_SUCCESS;
}

/* ------------------------------------------------------------ command line */

static void print_help (void)
{
    printf ("usage: fanout [OPTION]...\n"
            "One server in a process of its own that sends 64-byte envelopes to 1, 2, 4 ... 64\n"
            "servers in another process, in turn: the total rate, and the processor time of an\n"
            "envelope on both sides. ClusterTalk with default options beside a PUSH of libzmq\n"
            "for each receiver, turn about.\n"
            "\n"
            "  --count N         envelopes in a turn, to all receivers together (2000000)\n"
            "  --peers N         1 and so many receivers, up to 64 (1, 2, 4 ... 64)\n"
            "  --receivers HOW   threads: one for each; poll: one for all (threads)\n"
            "  --only LIST       contestants, of: ctalk, zmq, zmq-io2\n"
            "  --rounds N        rounds; each contestant has a turn in each (5)\n"
            "  --deadline S      seconds after which a turn is ended as failed (120)\n"
            "  --quick           one round of 500000 with 1 and 64 receivers\n"
            "  --csv FILE        write the figures\n"
            "  --help            this text\n"
            "\n"
            "Exit status: 0 measured, 1 failed, 2 wrong usage.\n");
}

static bool take_receivers (options_t *options, const char *how)
{
    options->poll = strcmp (how, "poll") == 0;
    if (options->poll || strcmp (how, "threads") == 0)
        return true;
    fprintf (stderr, "--receivers: threads or poll is needed, not \"%s\"\n", how);
    return false;
}

static bool take_option (void *asked, const char *name, const char *value)
{
    options_t *options = asked;
    if (strcmp (name, "count") == 0)
        return bench_parse_count (name, value, PEERS_MAX, UINT32_MAX, &options->count);
    if (strcmp (name, "peers") == 0)
        return bench_parse_count (name, value, 1, PEERS_MAX, &options->peers);
    if (strcmp (name, "receivers") == 0)
        return take_receivers (options, value);
    if (strcmp (name, "only") == 0)
        return crew_choose (name, value, contestants, CONTESTANTS, &options->only);
    if (strcmp (name, "rounds") == 0)
        return bench_parse_count (name, value, 1, BENCH_ROUNDS_MAX, &options->rounds);
    return bench_parse_count (name, value, 1, 86400, &options->deadline_s);
}

static void make_quick (void *asked)
{
    options_t *options = asked;
    options->count = 500000;
    options->peers = PEERS_MAX;
    options->rounds = 1;
}

int main (int argc, char **argv)
{
    static const bench_program_t program = {.options = {"count", "peers", "receivers", "only", "rounds", "deadline"},
                                            .help = print_help,
                                            .take = take_option,
                                            .quick = make_quick,
                                            .run = bench};
    options_t options = {.count = 2000000, .rounds = 5, .deadline_s = 120};
    return bench_main (argc, argv, &program, &options);
}
