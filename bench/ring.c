/*
 * ring.c - rings of many servers in one process: what a hop takes, and what so
 * many servers cost in threads, descriptors and memory.
 *
 * Method. Envelopes of 64 bytes go round: each server sends what it receives to
 * the next one, the first one starts them and counts them home. Every hop
 * checks number, order and every byte. One lap of a single envelope makes the
 * connections before the time begins. With 1,000 envelopes under way the time
 * by hops is what the machine can carry; with one it is the time of a hop.
 *
 *   ctalk           "Senders": "lazy", every config lists all servers; one
 *                   thread serves all of them with epoll, ctalk_recv_many and
 *                   ctalk_send
 *   ctalk-threads   the same with a thread for each server, in ctalk_recv
 *   zmq             a PULL and a PUSH for each, with a thread that takes a
 *                   message and passes it on; high-water marks and I/O thread
 *                   as libzmq sets them
 *   zmq-io2         the same with two I/O threads, as ClusterTalk has them
 *
 * Threads, descriptors and memory are those of the process: threads after the
 * warm-up, descriptors at the end of the time, memory its peak up to then. A yardstick that does not manage so many is
 * left out.
 */
#include "bench/crew.h"
#include "bench/ends.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <zmq.h>

enum {
    SIZE_BYTES = 64,
    AT_ONCE = 64,             /* envelopes of one receive call, events of one wait */
    STACK_BYTES = 128 * 1024, /* of the threads, for all contestants */
    WAIT_MS = 30000,          /* without any envelope: the ring stands still */
    SERVERS_MAX = 1500,
    FDS_EACH = 12, /* descriptors of a server, at most */
    FDS_SHARED = 64,
    SOCKETS_SPARE = 64,
    CASES_MAX = 4,
    COUNT = 1000 /* envelopes under way, in the cases with many */
};

typedef struct {
    uint64_t servers, rounds, deadline_s; /* servers 0: 100, then 1,000 */
    const char *only;                     /* contestants */
} options_t;

/* envelopes under way, each for so many laps */
typedef struct {
    size_t servers;
    uint64_t envelopes, laps;
} task_t;

/* What a turn leaves behind for the parent. */
typedef struct {
    double start_s, close_s, peak_mib;
    size_t threads, descriptors;
} board_t;

typedef struct {
    int io_threads;
} way_t;

typedef struct ring ring_t;

/* A server or its yardstick. */
typedef struct {
    ring_t *ring;
    size_t index;
    ctalk_server_t *server;
    void *in, *out; /* PULL, PUSH */
    uint64_t taken; /* in the present laps */
    pthread_t thread;
} node_t;

struct ring {
    crew_member_t *member;
    task_t task; /* the present laps: those to warm up or those that count */
    node_t *node;
    int epoll_fd;
    void *context;
    pthread_barrier_t gate; /* the threads and the step, before and after laps */
    int (*pass) (node_t *node, uint64_t number, bool on);
    int (*inject) (node_t *node, uint64_t number);
};

/* --------------------------------------------------------------- the process */

static size_t count_entries (const char *path)
{
    DIR *dir = opendir (path);
    size_t count = 0;
    const struct dirent *entry;
    while (dir && (entry = readdir (dir)))
        count += entry->d_name[0] != '.';
    if (dir)
        closedir (dir);
    return count;
}

static double peak_mib (void)
{
    char line[256];
    double kib = 0;
    FILE *file = fopen ("/proc/self/status", "r");
    while (file && fgets (line, sizeof line, file))
        if (strncmp (line, "VmHWM:", 6) == 0)
            kib = strtod (line + 6, NULL);
    if (file)
        fclose (file);
    return kib / 1024;
}

static double seconds_since (uint64_t begin_ns)
{
    return (double) (bench_now_ns () - begin_ns) / 1e9;
}

/* ------------------------------------------------------------------ the laps */

/* How many envelopes pass each server in the present laps. */
static uint64_t passes_of (const ring_t *ring)
{
    return ring->task.envelopes * ring->task.laps;
}

/* Whether the envelope that a server takes next goes on: at the first one the last lap ends. */
static bool goes_on (const node_t *node)
{
    const ring_t *ring = node->ring;
    return node->index > 0 || node->taken < passes_of (ring) - ring->task.envelopes;
}

static node_t *next_of (const node_t *node)
{
    const ring_t *ring = node->ring;
    return &ring->node[(node->index + 1) % (size_t) ((const task_t *) ring->member->task)->servers];
}

/* The first server starts the envelopes. */
static int inject_all (ring_t *ring)
{
    for (uint64_t number = 0; number < ring->task.envelopes; number++)
        if (ring->inject (&ring->node[0], number) != 0)
            return -1;
    return 0;
}

static uint64_t expected (const node_t *node)
{
    return node->taken % node->ring->task.envelopes;
}

static void begin_laps (ring_t *ring, uint64_t envelopes, uint64_t laps)
{
    const task_t *task = ring->member->task;
    ring->task = (task_t){.servers = task->servers, .envelopes = envelopes, .laps = laps};
    for (size_t i = 0; i < task->servers; i++)
        ring->node[i].taken = 0;
}

/* ------------------------------------------------------------- all by threads */

/* All that comes to one server in the present laps. */
static int pass_all (node_t *node)
{
    if (node->index == 0 && inject_all (node->ring) != 0)
        return -1;
    for (const uint64_t passes = passes_of (node->ring); node->taken < passes; node->taken++)
        if (node->ring->pass (node, expected (node), goes_on (node)) != 0)
            return -1;
    return 0;
}

/* Twice: to warm up, then for the time. The others would wait for ever for one that fails, so that it ends all. */
static void *run_node (void *arg)
{
    node_t *node = arg;
    for (int i = 0; i < 2; i++) {
        pthread_barrier_wait (&node->ring->gate);
        if (pass_all (node) != 0) {
            fprintf (stderr, "server %zu: %s\n", node->index + 1, node->ring->member->error);
            _exit (EXIT_FAILURE);
        }
        pthread_barrier_wait (&node->ring->gate);
    }
    return NULL;
}

static int start_threads (ring_t *ring)
{
    const task_t *task = ring->member->task;
    pthread_attr_t small;
    int result = 0;
    pthread_barrier_init (&ring->gate, NULL, (unsigned) task->servers + 1);
    pthread_attr_init (&small);
    pthread_attr_setstacksize (&small, STACK_BYTES);
    for (size_t i = 0; result == 0 && i < task->servers; i++) {
        errno = pthread_create (&ring->node[i].thread, &small, run_node, &ring->node[i]);
        result = errno == 0 ? 0 : crew_fail (ring->member, "pthread_create");
    }
    pthread_attr_destroy (&small);
    return result;
}

/* At the end of the warm-up: every server has all of its threads, and none has ended. */
static void note_threads (crew_member_t *member)
{
    board_t *board = member->shared;
    board->threads = count_entries ("/proc/self/task");
}

static int warm_threads (crew_member_t *member)
{
    ring_t *ring = member->own;
    if (start_threads (ring) != 0)
        return -1;
    begin_laps (ring, 1, 1);
    pthread_barrier_wait (&ring->gate);
    pthread_barrier_wait (&ring->gate);
    note_threads (member);
    return 0;
}

static void note_process (crew_member_t *member)
{
    board_t *board = member->shared;
    board->descriptors = count_entries ("/proc/self/fd");
    board->peak_mib = peak_mib ();
}

static int run_threads (crew_member_t *member)
{
    const task_t *task = member->task;
    ring_t *ring = member->own;
    begin_laps (ring, task->envelopes, task->laps);
    pthread_barrier_wait (&ring->gate);
    pthread_barrier_wait (&ring->gate);
    member->end_ns = bench_now_ns ();
    note_process (member);
    return 0;
}

static void join_threads (ring_t *ring)
{
    const task_t *task = ring->member->task;
    for (size_t i = 0; i < task->servers; i++)
        pthread_join (ring->node[i].thread, NULL);
    pthread_barrier_destroy (&ring->gate);
}

/* ------------------------------------------------------------------ the ring */

static ring_t *new_ring (crew_member_t *member)
{
    const task_t *task = member->task;
    if (ends_raise_descriptors (member, FDS_EACH * task->servers + FDS_SHARED) != 0)
        return NULL;
    ring_t *ring = calloc (1, sizeof *ring);
    if (ring)
        ring->node = calloc (task->servers, sizeof *ring->node);
    if (!ring || !ring->node) {
        crew_fail (member, "calloc");
        free (ring);
        return NULL;
    }
    ring->member = member;
    ring->epoll_fd = -1;
    for (size_t i = 0; i < task->servers; i++)
        ring->node[i] = (node_t){.ring = ring, .index = i};
    member->own = ring;
    return ring;
}

static void free_ring (ring_t *ring)
{
    if (ring->epoll_fd >= 0)
        close (ring->epoll_fd);
    free (ring->node);
    free (ring);
}

/* -------------------------------------------------------------- ClusterTalk */

static ctalk_pid_t pid_of (const node_t *node)
{
    return (ctalk_pid_t) node->index + 1;
}

static int send_ctalk (node_t *node, const void *data, uint64_t number)
{
    const ctalk_envelope_t envelope = {
        .pid = pid_of (next_of (node)), .msg_id = (int64_t) number, .data = data, .size = SIZE_BYTES};
    return ctalk_send (node->server, &envelope, WAIT_MS) == 0 ? 0 : crew_fail (node->ring->member, "ctalk_send");
}

static int inject_ctalk (node_t *node, uint64_t number)
{
    uint8_t payload[SIZE_BYTES];
    bench_fill (payload, sizeof payload, number);
    return send_ctalk (node, payload, number);
}

/* Checks an envelope and sends it on. */
static int handle_ctalk (node_t *node, const ctalk_envelope_t *envelope, uint64_t number, bool on)
{
    if (envelope->size != SIZE_BYTES || envelope->msg_id != (int64_t) number
        || !bench_check (envelope->data, envelope->size, number))
        return crew_fail_content (node->ring->member, "ctalk", envelope->data, envelope->size, number);
    return on ? send_ctalk (node, envelope->data, number) : 0;
}

static int pass_ctalk (node_t *node, uint64_t number, bool on)
{
    ctalk_envelope_t envelope;
    if (ctalk_recv (node->server, &envelope, WAIT_MS) != 0)
        return crew_fail (node->ring->member, "ctalk_recv");
    int result = handle_ctalk (node, &envelope, number, on);
    ctalk_envelope_close (&envelope);
    return result;
}

/* All servers, each with the endpoint of the next one. */
static int start_servers (ring_t *ring, const ctalk_config_t *config)
{
    const task_t *task = ring->member->task;
    for (size_t i = 0; i < task->servers; i++) {
        node_t *node = &ring->node[i];
        node->server = ends_server (ring->member, pid_of (node), config, NULL);
        if (!node->server)
            return -1;
    }
    for (size_t i = 0; i < task->servers; i++) {
        const node_t *node = &ring->node[i], *next = next_of (node);
        if (ends_meet (ring->member, node->server, pid_of (next), ctalk_server_endpoint (next->server)) != 0)
            return -1;
    }
    return 0;
}

static int open_ctalk (crew_member_t *member)
{
    static const char *const lazy[] = {"Senders", "lazy", NULL};
    const task_t *task = member->task;
    board_t *board = member->shared;
    const uint64_t begin_ns = bench_now_ns ();
    ring_t *ring = new_ring (member);
    ctalk_config_t *config = ring ? ends_config (member, task->servers, lazy) : NULL;
    if (!config)
        return -1;
    ring->pass = pass_ctalk;
    ring->inject = inject_ctalk;
    int result = start_servers (ring, config);
    ctalk_config_destroy (&config);
    board->start_s = seconds_since (begin_ns);
    return result;
}

static void *close_node (void *arg)
{
    node_t *node = arg;
    if (ctalk_server_close (&node->server, BENCH_CLOSE_MS) != 0) {
        fprintf (stderr, "server %zu: not everything arrived by the close\n", node->index + 1);
        _exit (EXIT_FAILURE);
    }
    return NULL;
}

/* All at once, as one after the other would each wait for its neighbours. */
static int close_servers (ring_t *ring)
{
    const task_t *task = ring->member->task;
    pthread_attr_t small;
    size_t started = 0;
    pthread_attr_init (&small);
    pthread_attr_setstacksize (&small, STACK_BYTES);
    for (; started < task->servers && errno == 0; started++)
        errno = pthread_create (&ring->node[started].thread, &small, close_node, &ring->node[started]);
    pthread_attr_destroy (&small);
    if (errno != 0)
        return crew_fail (ring->member, "pthread_create");
    for (size_t i = 0; i < started; i++)
        pthread_join (ring->node[i].thread, NULL);
    return 0;
}

static int close_ctalk (crew_member_t *member)
{
    board_t *board = member->shared;
    ring_t *ring = member->own;
    const uint64_t begin_ns = bench_now_ns ();
    errno = 0;
    if (close_servers (ring) != 0)
        return -1;
    board->close_s = seconds_since (begin_ns);
    free_ring (ring);
    return 0;
}

static int close_ctalk_threads (crew_member_t *member)
{
    join_threads (member->own);
    return close_ctalk (member);
}

/* ---------------------------------------------------- ClusterTalk with epoll */

static int watch_servers (ring_t *ring)
{
    const task_t *task = ring->member->task;
    ring->epoll_fd = epoll_create1 (EPOLL_CLOEXEC);
    for (size_t i = 0; i < task->servers; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data = {.u64 = i}};
        int fd = ctalk_server_fd (ring->node[i].server);
        if (fd < 0)
            return crew_fail (ring->member, "ctalk_server_fd");
        if (epoll_ctl (ring->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
            return crew_fail (ring->member, "epoll_ctl");
    }
    return 0;
}

/* What has come to one server. */
static int serve (node_t *node)
{
    ctalk_envelope_t envelopes[AT_ONCE];
    int result = 0, count = ctalk_recv_many (node->server, envelopes, AT_ONCE, 0);
    if (count < 0)
        return crew_fail (node->ring->member, "ctalk_recv_many");
    for (int i = 0; i < count; i++) {
        if (result == 0)
            result = handle_ctalk (node, &envelopes[i], expected (node), goes_on (node));
        node->taken++;
        ctalk_envelope_close (&envelopes[i]);
    }
    return result;
}

/* The present laps, all by this thread. */
static int serve_all (ring_t *ring)
{
    const uint64_t passes = passes_of (ring);
    if (inject_all (ring) != 0)
        return -1;
    while (ring->node[0].taken < passes) {
        struct epoll_event events[AT_ONCE];
        int count = epoll_wait (ring->epoll_fd, events, AT_ONCE, WAIT_MS);
        if (count == 0)
            errno = ETIME;
        if (count <= 0)
            return crew_fail (ring->member, "epoll_wait");
        for (int i = 0; i < count; i++)
            if (serve (&ring->node[events[i].data.u64]) != 0)
                return -1;
    }
    return 0;
}

static int warm_epoll (crew_member_t *member)
{
    ring_t *ring = member->own;
    if (watch_servers (ring) != 0)
        return -1;
    begin_laps (ring, 1, 1);
    if (serve_all (ring) != 0)
        return -1;
    note_threads (member);
    return 0;
}

static int run_epoll (crew_member_t *member)
{
    const task_t *task = member->task;
    ring_t *ring = member->own;
    begin_laps (ring, task->envelopes, task->laps);
    if (serve_all (ring) != 0)
        return -1;
    member->end_ns = bench_now_ns ();
    note_process (member);
    return 0;
}

/* ------------------------------------------------------------ the yardstick */

static int inject_zmq (node_t *node, uint64_t number)
{
    uint8_t payload[SIZE_BYTES];
    bench_fill (payload, sizeof payload, number);
    return zmq_send (node->out, payload, sizeof payload, 0) >= 0 ? 0 : crew_fail (node->ring->member, "zmq_send");
}

/* Takes a message, checks it and sends the same one on. */
static int pass_zmq (node_t *node, uint64_t number, bool on)
{
    zmq_msg_t message;
    int result = 0;
    zmq_msg_init (&message);
    if (zmq_msg_recv (&message, node->in, 0) < 0)
        result = crew_fail (node->ring->member, "zmq_msg_recv");
    else if (zmq_msg_size (&message) != SIZE_BYTES || !bench_check (zmq_msg_data (&message), SIZE_BYTES, number))
        result =
            crew_fail_content (node->ring->member, "zmq", zmq_msg_data (&message), zmq_msg_size (&message), number);
    else if (on && zmq_msg_send (&message, node->out, 0) < 0)
        result = crew_fail (node->ring->member, "zmq_msg_send");
    zmq_msg_close (&message);
    return result;
}

/* The sockets of one node. They are its thread's from its start on, which makes them safe there. */
static int open_node (node_t *node, char *endpoint)
{
    ring_t *ring = node->ring;
    const int wait_ms = WAIT_MS;
    node->in = ends_socket (ring->member, ring->context, ZMQ_PULL, ENDS_HWM_DEFAULT);
    node->out = node->in ? ends_socket (ring->member, ring->context, ZMQ_PUSH, ENDS_HWM_DEFAULT) : NULL;
    if (!node->out)
        return -1;
    if (zmq_setsockopt (node->in, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms) != 0
        || zmq_setsockopt (node->out, ZMQ_SNDTIMEO, &wait_ms, sizeof wait_ms) != 0)
        return crew_fail (ring->member, "zmq_setsockopt");
    return ends_bind (ring->member, node->in, endpoint);
}

static int open_nodes (ring_t *ring)
{
    const task_t *task = ring->member->task;
    int result = 0;
    char (*endpoints)[ENDS_ENDPOINT_BYTES] = calloc (task->servers, sizeof *endpoints);
    if (!endpoints)
        return crew_fail (ring->member, "calloc");
    for (size_t i = 0; result == 0 && i < task->servers; i++)
        result = open_node (&ring->node[i], endpoints[i]);
    for (size_t i = 0; result == 0 && i < task->servers; i++)
        result = ends_connect (ring->member, ring->node[i].out, endpoints[next_of (&ring->node[i])->index]);
    free (endpoints);
    return result;
}

static int open_zmq (crew_member_t *member)
{
    const task_t *task = member->task;
    const way_t *way = member->way;
    board_t *board = member->shared;
    const uint64_t begin_ns = bench_now_ns ();
    ring_t *ring = new_ring (member);
    if (!ring)
        return -1;
    ring->pass = pass_zmq;
    ring->inject = inject_zmq;
    ring->context = ends_context (member, way->io_threads, (int) (2 * task->servers + SOCKETS_SPARE));
    if (!ring->context || open_nodes (ring) != 0)
        return -1;
    board->start_s = seconds_since (begin_ns);
    return 0;
}

static int close_zmq (crew_member_t *member)
{
    const task_t *task = member->task;
    board_t *board = member->shared;
    ring_t *ring = member->own;
    const uint64_t begin_ns = bench_now_ns ();
    join_threads (ring);
    for (size_t i = 0; i < task->servers; i++)
        if (zmq_close (ring->node[i].in) != 0 || zmq_close (ring->node[i].out) != 0)
            return crew_fail (member, "zmq_close");
    if (zmq_ctx_term (ring->context) != 0)
        return crew_fail (member, "zmq_ctx_term");
    board->close_s = seconds_since (begin_ns);
    free_ring (ring);
    return 0;
}

/* -------------------------------------------------------------- the workload */

enum { HOP_US, HOP_CPU_US, START_S, CLOSE_S, THREADS, DESCRIPTORS, PEAK_MIB, METRICS };

static const crew_metric_t metrics[METRICS] = {
    [HOP_US] = {.name = "us a hop", .lower_is_better = true},
    [HOP_CPU_US] = {.name = "CPU us a hop", .lower_is_better = true},
    [START_S] = {.name = "start s", .lower_is_better = true, .alone = true},
    [CLOSE_S] = {.name = "close s", .lower_is_better = true, .alone = true},
    [THREADS] = {.name = "threads", .lower_is_better = true, .alone = true},
    [DESCRIPTORS] = {.name = "descriptors", .lower_is_better = true, .alone = true},
    [PEAK_MIB] = {.name = "peak MiB", .lower_is_better = true, .alone = true},
};

static const way_t io_default = {0}, io_two = {2};

static const crew_contestant_t contestants[] = {
    {.name = "ctalk", .step = {open_ctalk, warm_epoll, run_epoll, close_ctalk}},
    {.name = "ctalk-threads", .step = {open_ctalk, warm_threads, run_threads, close_ctalk_threads}},
    {.name = "zmq", .way = &io_default, .step = {open_zmq, warm_threads, run_threads, close_zmq}, .may_fail = true},
    {.name = "zmq-io2", .way = &io_two, .step = {open_zmq, warm_threads, run_threads, close_zmq}, .may_fail = true},
};

static void figures (const void *asked, const void *shared, const crew_cost_t *cost, double *values)
{
    const task_t *task = asked;
    const board_t *board = shared;
    const double hops = (double) (task->envelopes * task->laps * task->servers);
    values[HOP_US] = cost->seconds * 1e6 / hops;
    values[HOP_CPU_US] = cost->cpu_s * 1e6 / hops;
    for (int i = START_S; i < METRICS; i++)
        values[i] = NAN;
    if (task->envelopes == 1)
        return; /* what the servers cost stands in the case with many */
    values[START_S] = board->start_s;
    values[CLOSE_S] = board->close_s;
    values[THREADS] = (double) board->threads;
    values[DESCRIPTORS] = (double) board->descriptors;
    values[PEAK_MIB] = board->peak_mib;
}

static int bench (const void *asked, FILE *csv)
{
    static const char *const names[] = {"ring"};
    static const task_t known[CASES_MAX] = {{100, COUNT, 1}, {100, 1, 30}, {1000, COUNT, 1}, {1000, 1, 3}};
    const options_t *options = asked;
    const size_t count = options->servers ? 2 : CASES_MAX;
    task_t tasks[CASES_MAX];
    bench_cell_t texts[CASES_MAX];
    crew_case_t cases[CASES_MAX];
    for (size_t i = 0; i < count; i++) {
        tasks[i] = known[i];
        if (options->servers)
            tasks[i].servers = (size_t) options->servers;
        bench_cell (texts[i], "%zu x %" PRIu64, tasks[i].servers, tasks[i].envelopes);
        cases[i] = (crew_case_t){.name = texts[i], .x = (double) tasks[i].servers, .task = &tasks[i]};
    }
    const crew_workload_t workload = {.name = "W5",
                                      .title = "W5: rings in one process, servers x envelopes under way",
                                      .process_names = names,
                                      .processes = 1,
                                      .cases = cases,
                                      .case_count = count,
                                      .contestants = contestants,
                                      .contestant_count = sizeof contestants / sizeof *contestants,
                                      .own_count = 2,
                                      .metrics = metrics,
                                      .metric_count = METRICS,
                                      .timed = 2,
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
    printf ("usage: ring [OPTION]...\n"
            "Rings of servers in one process, over loopback, each sending 64-byte envelopes on\n"
            "to the next: 1,000 envelopes for a lap, and a single one. ClusterTalk with one\n"
            "thread for all servers and with a thread for each, beside a ring of PULL and PUSH\n"
            "of libzmq with a thread for each, turn about.\n"
            "\n"
            "  --servers N       servers in the ring, 2 to 1500 (100, then 1000)\n"
            "  --only LIST       contestants, of: ctalk, ctalk-threads, zmq, zmq-io2\n"
            "  --rounds N        rounds; each contestant has a turn in each (3)\n"
            "  --deadline S      seconds after which a turn is ended as failed (120)\n"
            "  --quick           one round of 100 servers, to see that it works\n"
            "  --csv FILE        write the figures\n"
            "  --help            this text\n"
            "\n"
            "1,000 servers need some 12,000 file descriptors (ulimit -n). Exit status:\n"
            "0 measured, 1 failed, 2 wrong usage.\n");
}

static bool take_option (void *asked, const char *name, const char *value)
{
    options_t *options = asked;
    if (strcmp (name, "servers") == 0)
        return bench_parse_count (name, value, 2, SERVERS_MAX, &options->servers);
    if (strcmp (name, "only") == 0)
        return crew_choose (name, value, contestants, sizeof contestants / sizeof *contestants, &options->only);
    if (strcmp (name, "rounds") == 0)
        return bench_parse_count (name, value, 1, BENCH_ROUNDS_MAX, &options->rounds);
    return bench_parse_count (name, value, 1, 86400, &options->deadline_s);
}

static void make_quick (void *asked)
{
    options_t *options = asked;
    options->servers = 100;
    options->rounds = 1;
}

int main (int argc, char **argv)
{
    static const bench_program_t program = {.options = {"servers", "only", "rounds", "deadline"},
                                            .help = print_help,
                                            .take = take_option,
                                            .quick = make_quick,
                                            .run = bench};
    options_t options = {.rounds = 3, .deadline_s = 120};
    return bench_main (argc, argv, &program, &options);
}
