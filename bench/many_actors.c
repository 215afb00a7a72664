/*
 * many_actors.c - workload W12: many actors in one process: what each costs, and
 * what they carry.
 *
 * Method. The actors stand in a ring; envelopes of 64 bytes go round it. Each
 * actor passes on what it receives to the next one; the first one starts the
 * envelopes when it is told to, and counts them home. Every hop checks number,
 * order and every byte. One lap of a single envelope passes before the time
 * begins. With many envelopes under way the hops in a second are what the
 * machine can carry; with one they are the time of a hop, most of which is
 * waking a thread.
 *
 *   ctalk     actors of one server; "1000/10" are 1,000 over ten servers of this
 *             process, neighbours on different ones, so that every hop goes over
 *             TCP of the loopback
 *   zactor    zactors of CZMQ, each with a PULL and a PUSH to the next one over
 *             inproc, by zmq_msg_recv and zmq_msg_send; only as many as it can do:
 *             it takes four sockets for each
 *
 * The time to spawn one is that until all of them run, by their number; that to
 * close likewise. Memory is what the process has more in RAM than before they
 * were spawned, by their number: idle, when each waits for its first envelope;
 * used, after the laps. What the kernel has for a thread is not in it.
 */
#ifdef BENCH_HAVE_CZMQ
#include <czmq.h>
#endif

#include "bench/crew.h"
#include "bench/ends.h"
#include "bench/report.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    SIZE_BYTES = 64,
    START_BYTES = 8, /* the size of what tells the first one to start; no envelope of the ring is so short */
    WAIT_MS = 60000, /* for room to send */
    ACTORS_MAX = 15000,
    SERVERS_MAX = 10,
    ZACTORS_MAX = 2000,
    ZACTOR_FDS = 4,
    SERVER_FDS = 64,
    FDS_SHARED = 64,
    AT_ONCE = 100, /* envelopes under way, in the cases with many */
    CASES = 6
};

typedef struct {
    uint64_t actors, ring; /* in the large case, and in the others */
    uint64_t rounds, deadline_s;
    const char *only; /* contestants */
} options_t;

/* envelopes under way, each for so many laps */
typedef struct {
    size_t actors, servers;
    uint64_t envelopes, laps;
} task_t;

/* What a turn leaves behind for the parent. */
typedef struct {
    bool measured; /* this contestant has something to do in this case */
    double spawn_us, close_us, idle_kib, used_kib;
} board_t;

typedef struct ring ring_t;

/* An actor. */
typedef struct {
    ring_t *ring;
    size_t index;
    uint64_t taken; /* in the present laps */
    ctalk_pid_t pid;
    uint64_t id;
    ctalk_actor_t *self;
    void *in, *out; /* of a zactor: PULL, PUSH */
    void *zactor;
} node_t;

struct ring {
    crew_member_t *member;
    uint64_t envelopes, laps; /* the present ones: those to warm up or those that count */
    node_t *node;
    atomic_size_t running; /* how many actors have begun */
    sem_t all_run, all_home;
    double before; /* memory in bytes, without the actors */
    int (*send) (node_t *node, const void *data, uint64_t number);
    ctalk_server_t *server[SERVERS_MAX];
    void *starter; /* with zactors: a PUSH to the first one */
};

static const task_t *task_of (const ring_t *ring)
{
    return ring->member->task;
}

static node_t *next_of (const node_t *node)
{
    return &node->ring->node[(node->index + 1) % task_of (node->ring)->actors];
}

/* What there is more than before the actors, for each of them. */
static double kib_each (const ring_t *ring)
{
    return (bench_resident_bytes () - ring->before) / 1024 / (double) task_of (ring)->actors;
}

static double us_each (const ring_t *ring, uint64_t begin_ns)
{
    return (double) (bench_now_ns () - begin_ns) / 1000 / (double) task_of (ring)->actors;
}

/* ------------------------------------------------------ what an actor does */

/* The others would wait for ever for one that fails, so that it ends all. */
static _Noreturn void die (const node_t *node)
{
    fprintf (stderr, "actor %zu: %s\n", node->index + 1, node->ring->member->error);
    _exit (EXIT_FAILURE);
}

static void note_running (ring_t *ring)
{
    if (atomic_fetch_add (&ring->running, 1) + 1 == task_of (ring)->actors)
        sem_post (&ring->all_run);
}

/* The first one starts the envelopes. */
static int start_all (node_t *node)
{
    uint8_t payload[SIZE_BYTES];
    for (uint64_t number = 0; number < node->ring->envelopes; number++) {
        bench_fill (payload, sizeof payload, number);
        if (node->ring->send (node, payload, number) != 0)
            return -1;
    }
    return 0;
}

/* Checks what came and sends it on; at the first one the last lap ends. */
static int pass_on (node_t *node, const void *data, size_t size)
{
    ring_t *ring = node->ring;
    const uint64_t number = node->taken % ring->envelopes, passes = ring->envelopes * ring->laps;
    if (size != SIZE_BYTES || !bench_check (data, size, number))
        return crew_fail_content (ring->member, "ring", data, size, number);
    node->taken++;
    if (node->index > 0 || node->taken <= passes - ring->envelopes)
        return ring->send (node, data, number);
    if (node->taken == passes)
        sem_post (&ring->all_home);
    return 0;
}

static int handle (node_t *node, const void *data, size_t size)
{
    return node->index == 0 && size == START_BYTES ? start_all (node) : pass_on (node, data, size);
}

/* ----------------------------------------------------------------- the ring */

static ring_t *new_ring (crew_member_t *member)
{
    const task_t *task = member->task;
    ring_t *ring = calloc (1, sizeof *ring);
    if (ring)
        ring->node = calloc (task->actors, sizeof *ring->node);
    if (!ring || !ring->node) {
        crew_fail (member, "calloc");
        free (ring);
        return NULL;
    }
    ring->member = member;
    sem_init (&ring->all_run, 0, 0);
    sem_init (&ring->all_home, 0, 0);
    for (size_t i = 0; i < task->actors; i++)
        ring->node[i] = (node_t){.ring = ring, .index = i, .pid = (ctalk_pid_t) (i % task->servers) + 1};
    member->own = ring;
    return ring;
}

static void free_ring (ring_t *ring)
{
    sem_destroy (&ring->all_run);
    sem_destroy (&ring->all_home);
    free (ring->node);
    free (ring);
}

static void wait_for (sem_t *event)
{
    while (sem_wait (event) != 0 && errno == EINTR) {
    }
}

/* Spawns all. */
static int spawn_all (ring_t *ring, int (*spawn) (node_t *node))
{
    board_t *board = ring->member->shared;
    ring->before = bench_resident_bytes ();
    const uint64_t begin_ns = bench_now_ns ();
    for (size_t i = 0; i < task_of (ring)->actors; i++)
        if (spawn (&ring->node[i]) != 0)
            return -1;
    wait_for (&ring->all_run);
    board->spawn_us = us_each (ring, begin_ns);
    board->idle_kib = kib_each (ring);
    board->measured = true;
    return 0;
}

/* No actor is at work meanwhile, and each hears of it by what it receives next. */
static void set_laps (ring_t *ring, uint64_t envelopes, uint64_t laps)
{
    ring->envelopes = envelopes;
    ring->laps = laps;
    for (size_t i = 0; i < task_of (ring)->actors; i++)
        ring->node[i].taken = 0;
}

static void note_used (ring_t *ring)
{
    board_t *board = ring->member->shared;
    board->used_kib = kib_each (ring);
}

/* -------------------------------------------------------------- ClusterTalk */

static int send_ctalk (node_t *node, const void *data, uint64_t number)
{
    const node_t *next = next_of (node);
    const ctalk_envelope_t envelope = {
        .pid = next->pid, .to = next->id, .msg_id = (int64_t) number, .data = data, .size = SIZE_BYTES};
    return ctalk_actor_send (node->self, &envelope, WAIT_MS) == 0 ? 0
                                                                  : crew_fail (node->ring->member, "ctalk_actor_send");
}

/* Whether it is from the actor before this one, or tells the first one to start. */
static int check_origin (const node_t *node, const ctalk_envelope_t *envelope)
{
    const size_t actors = task_of (node->ring)->actors;
    const node_t *last = &node->ring->node[(node->index + actors - 1) % actors];
    const uint64_t from = envelope->size == START_BYTES ? 0 : last->id;
    if (envelope->kind == CTALK_MESSAGE && envelope->from == from)
        return 0;
    errno = EBADMSG;
    return crew_fail (node->ring->member, "an envelope is not from the actor before this one");
}

/* Until the server closes. */
static int run_actor (ctalk_actor_t *self, void *arg)
{
    node_t *node = arg;
    ctalk_envelope_t envelope;
    node->self = self;
    note_running (node->ring);
    while (ctalk_actor_recv (self, &envelope, -1) == 0) {
        if (check_origin (node, &envelope) != 0 || handle (node, envelope.data, envelope.size) != 0)
            die (node);
        ctalk_envelope_close (&envelope);
    }
    if (errno == ESHUTDOWN)
        return 0;
    crew_fail (node->ring->member, "ctalk_actor_recv");
    die (node);
}

static int spawn_actor (node_t *node)
{
    ring_t *ring = node->ring;
    node->id = ctalk_actor_spawn (ring->server[node->pid - 1], NULL, run_actor, node);
    return node->id != 0 ? 0 : crew_fail (ring->member, "ctalk_actor_spawn");
}

/* All servers, each of which knows the others. */
static int start_servers (ring_t *ring, const ctalk_config_t *config)
{
    const size_t count = task_of (ring)->servers;
    for (size_t i = 0; i < count; i++)
        if (!(ring->server[i] = ends_server (ring->member, (ctalk_pid_t) i + 1, config, NULL)))
            return -1;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < count; j++)
            if (i != j
                && ends_meet (ring->member, ring->server[i], (ctalk_pid_t) j + 1,
                              ctalk_server_endpoint (ring->server[j]))
                       != 0)
                return -1;
    for (size_t i = 0; i < count; i++)
        if (ctalk_server_wait_up (ring->server[i], SIZE_MAX, ENDS_UP_MS) != 0)
            return crew_fail (ring->member, "ctalk_server_wait_up");
    return 0;
}

static int open_ctalk (crew_member_t *member)
{
    const task_t *task = member->task;
    if (ends_raise_descriptors (member, SERVER_FDS * task->servers + FDS_SHARED) != 0)
        return -1;
    ring_t *ring = new_ring (member);
    ctalk_config_t *config = ring ? ends_config (member, task->servers, NULL) : NULL;
    if (!config)
        return -1;
    ring->send = send_ctalk;
    int result = start_servers (ring, config);
    ctalk_config_destroy (&config);
    return result == 0 ? spawn_all (ring, spawn_actor) : -1;
}

static int make_laps_ctalk (ring_t *ring, uint64_t envelopes, uint64_t laps)
{
    static const uint8_t start[START_BYTES] = {0};
    const ctalk_envelope_t envelope = {
        .pid = ring->node[0].pid, .to = ring->node[0].id, .data = start, .size = sizeof start};
    set_laps (ring, envelopes, laps);
    if (ctalk_send (ring->server[0], &envelope, WAIT_MS) != 0)
        return crew_fail (ring->member, "ctalk_send");
    wait_for (&ring->all_home);
    return 0;
}

static int warm_ctalk (crew_member_t *member)
{
    return make_laps_ctalk (member->own, 1, 1);
}

static int run_ctalk (crew_member_t *member)
{
    const task_t *task = member->task;
    return make_laps_ctalk (member->own, task->envelopes, task->laps);
}

static int close_ctalk (crew_member_t *member)
{
    board_t *board = member->shared;
    ring_t *ring = member->own;
    note_used (ring);
    const uint64_t begin_ns = bench_now_ns ();
    for (size_t i = 0; i < task_of (ring)->servers; i++)
        if (ends_close (member, &ring->server[i]) != 0)
            return -1;
    board->close_us = us_each (ring, begin_ns);
    free_ring (ring);
    return 0;
}

/* ------------------------------------------------------------ the yardstick */

#ifdef BENCH_HAVE_CZMQ

enum { END_BYTES = 1 }; /* the size of what goes round to end all */

static const char end_mark[END_BYTES] = {0};

static int send_zactor (node_t *node, const void *data, uint64_t number)
{
    (void) number;
    return zmq_send (node->out, data, SIZE_BYTES, 0) >= 0 ? 0 : crew_fail (node->ring->member, "zmq_send");
}

/* Takes one and handles it. false: it was the end. */
static bool serve (node_t *node, zmq_msg_t *message)
{
    if (zmq_msg_recv (message, node->in, 0) < 0) {
        crew_fail (node->ring->member, "zmq_msg_recv");
        die (node);
    }
    if (zmq_msg_size (message) == END_BYTES)
        return false;
    if (handle (node, zmq_msg_data (message), zmq_msg_size (message)) != 0)
        die (node);
    return true;
}

/* An inproc socket may be connected to before it is bound. The last thing that comes over the pipe is "$TERM". */
static void run_zactor (zsock_t *pipe, void *arg)
{
    node_t *node = arg;
    zmq_msg_t message;
    zsock_t *in = zsock_new (ZMQ_PULL), *out = zsock_new (ZMQ_PUSH);
    if (!in || !out || zsock_bind (in, "inproc://ring-%zu", node->index) < 0
        || zsock_connect (out, "inproc://ring-%zu", next_of (node)->index) != 0) {
        crew_fail (node->ring->member, "zsock_new");
        die (node);
    }
    node->in = zsock_resolve (in);
    node->out = zsock_resolve (out);
    note_running (node->ring);
    zsock_signal (pipe, 0);
    zmq_msg_init (&message);
    while (serve (node, &message)) {
    }
    zmq_msg_close (&message);
    if (next_of (node)->index != 0)
        zmq_send (node->out, end_mark, END_BYTES, 0);
    zframe_t *told = zframe_recv (pipe);
    zframe_destroy (&told);
    zsock_destroy (&out);
    zsock_destroy (&in);
}

static int spawn_zactor (node_t *node)
{
    node->zactor = zactor_new (run_zactor, node);
    return node->zactor ? 0 : crew_fail (node->ring->member, "zactor_new");
}

static int open_zactor (crew_member_t *member)
{
    const task_t *task = member->task;
    if (task->servers > 1 || task->actors > ZACTORS_MAX)
        return 0;
    if (ends_raise_descriptors (member, ZACTOR_FDS * task->actors + FDS_SHARED) != 0)
        return -1;
    ring_t *ring = new_ring (member);
    if (!ring)
        return -1;
    ring->send = send_zactor;
    zsys_handler_set (NULL);
    zsys_set_max_sockets (0);
    if (spawn_all (ring, spawn_zactor) != 0)
        return -1;
    zsock_t *starter = zsock_new (ZMQ_PUSH);
    ring->starter = starter;
    if (!starter || zsock_connect (starter, "inproc://ring-0") != 0)
        return crew_fail (member, "zsock_new");
    return 0;
}

static int make_laps_zactor (ring_t *ring, uint64_t envelopes, uint64_t laps)
{
    static const uint8_t start[START_BYTES] = {0};
    if (!ring)
        return 0;
    set_laps (ring, envelopes, laps);
    if (zmq_send (zsock_resolve (ring->starter), start, sizeof start, 0) < 0)
        return crew_fail (ring->member, "zmq_send");
    wait_for (&ring->all_home);
    return 0;
}

static int warm_zactor (crew_member_t *member)
{
    return make_laps_zactor (member->own, 1, 1);
}

static int run_zactors (crew_member_t *member)
{
    const task_t *task = member->task;
    return make_laps_zactor (member->own, task->envelopes, task->laps);
}

static int close_zactor (crew_member_t *member)
{
    board_t *board = member->shared;
    ring_t *ring = member->own;
    if (!ring)
        return 0;
    note_used (ring);
    const uint64_t begin_ns = bench_now_ns ();
    zsock_t *starter = ring->starter;
    if (zmq_send (zsock_resolve (starter), end_mark, END_BYTES, 0) < 0)
        return crew_fail (member, "zmq_send");
    for (size_t i = 0; i < task_of (ring)->actors; i++) {
        zactor_t *zactor = ring->node[i].zactor;
        zactor_destroy (&zactor);
    }
    board->close_us = us_each (ring, begin_ns);
    zsock_destroy (&starter);
    zsys_shutdown ();
    free_ring (ring);
    return 0;
}

#endif

/* -------------------------------------------------------------- the workload */

enum { HOPS, HOP_CPU_US, SPAWN_US, IDLE_KIB, USED_KIB, CLOSE_US, METRICS };

static const crew_metric_t metrics[METRICS] = {
    [HOPS] = {.name = "hops/s"},
    [HOP_CPU_US] = {.name = "CPU us a hop", .lower_is_better = true},
    [SPAWN_US] = {.name = "spawn us", .lower_is_better = true},
    [IDLE_KIB] = {.name = "KiB idle", .lower_is_better = true},
    [USED_KIB] = {.name = "KiB used", .lower_is_better = true},
    [CLOSE_US] = {.name = "close us", .lower_is_better = true},
};

static const crew_contestant_t contestants[] = {
    {.name = "ctalk", .step = {open_ctalk, warm_ctalk, run_ctalk, close_ctalk}},
#ifdef BENCH_HAVE_CZMQ
    {.name = "zactor", .step = {open_zactor, warm_zactor, run_zactors, close_zactor}, .may_fail = true},
#endif
};

static void figures (const void *asked, const void *shared, const crew_cost_t *cost, double *values)
{
    const task_t *task = asked;
    const board_t *board = shared;
    const double hops = (double) (task->envelopes * task->laps * task->actors);
    for (int i = 0; i < METRICS; i++)
        values[i] = NAN;
    if (!board->measured)
        return;
    values[HOPS] = hops / cost->seconds;
    values[HOP_CPU_US] = cost->cpu_s * 1e6 / hops;
    if (task->envelopes == 1)
        return; /* what the actors cost stands in the case with many */
    values[SPAWN_US] = board->spawn_us;
    values[IDLE_KIB] = board->idle_kib;
    values[USED_KIB] = board->used_kib;
    values[CLOSE_US] = board->close_us;
}

static int bench (const void *asked, FILE *csv)
{
    static const char *const names[] = {"actors"};
    const options_t *options = asked;
    const size_t actors = (size_t) options->actors, ring = (size_t) options->ring;
    const task_t tasks[CASES] = {{actors, 1, AT_ONCE, 1},         {actors, 1, 1, 2},
                                 {ring, 1, AT_ONCE, 10},          {ring, 1, 1, 20},
                                 {ring, SERVERS_MAX, AT_ONCE, 2}, {ring, SERVERS_MAX, 1, 5}};
    bench_cell_t texts[CASES];
    crew_case_t cases[CASES];
    for (size_t i = 0; i < CASES; i++) {
        const task_t *task = &tasks[i];
        if (task->servers > 1)
            bench_cell (texts[i], "%zu/%zu x %" PRIu64, task->actors, task->servers, task->envelopes);
        else
            bench_cell (texts[i], "%zu x %" PRIu64, task->actors, task->envelopes);
        cases[i] = (crew_case_t){.name = texts[i], .x = (double) task->actors / (double) task->servers, .task = task};
    }
    const crew_workload_t workload = {.name = "W12",
                                      .title = "W12: rings of actors, actors/servers x envelopes under way",
                                      .process_names = names,
                                      .processes = 1,
                                      .cases = cases,
                                      .case_count = CASES,
                                      .contestants = contestants,
                                      .contestant_count = sizeof contestants / sizeof *contestants,
                                      .own_count = 1,
                                      .metrics = metrics,
                                      .metric_count = METRICS,
                                      .timed = 2,
                                      .shared_bytes = sizeof (board_t),
                                      .rounds = options->rounds,
                                      .only = options->only,
                                      .deadline_s = options->deadline_s,
                                      .figures = figures};
    int status = crew_bench (&workload, csv);
#ifndef BENCH_HAVE_CZMQ
    bench_report_skipped ("zactor", "CZMQ is not installed (libczmq-dev)");
#endif
    return status;
}

/* ------------------------------------------------------------ command line */

static void print_help (void)
{
    printf ("usage: many_actors [OPTION]...\n"
            "Rings of actors in one process that pass 64-byte envelopes on, %d at once and a\n"
            "single one: many on one server; fewer on one server, beside as many zactors of\n"
            "CZMQ; and those over ten servers, neighbours on different ones.\n"
            "\n"
            "  --actors N        actors in the large ring, 10 to %d (10000)\n"
            "  --ring N          actors in the others, a multiple of ten up to %d (1000)\n"
            "  --only LIST       contestants, of: ctalk, zactor\n"
            "  --rounds N        rounds; each contestant has a turn in each (3)\n"
            "  --deadline S      seconds after which a turn is ended as failed (120)\n"
            "  --quick           one round of few actors, to see that it works\n"
            "  --csv FILE        write the figures\n"
            "  --help            this text\n"
            "\n"
            "Each actor has a thread: 10,000 need as many (ulimit -u). 1,000 zactors need\n"
            "some 4,000 file descriptors (ulimit -n). Exit status: 0 measured, 1 failed,\n"
            "2 wrong usage.\n",
            AT_ONCE, ACTORS_MAX, ZACTORS_MAX);
}

/* The last of a ring over ten servers and the first of it are to be on different ones. */
static bool take_ring (const char *value, uint64_t *ring)
{
    if (!bench_parse_count ("ring", value, SERVERS_MAX, ZACTORS_MAX, ring))
        return false;
    if (*ring % SERVERS_MAX == 0)
        return true;
    fprintf (stderr, "--ring: a multiple of %d is needed, not \"%s\"\n", SERVERS_MAX, value);
    return false;
}

static bool take_option (void *asked, const char *name, const char *value)
{
    options_t *options = asked;
    if (strcmp (name, "actors") == 0)
        return bench_parse_count (name, value, 10, ACTORS_MAX, &options->actors);
    if (strcmp (name, "ring") == 0)
        return take_ring (value, &options->ring);
    if (strcmp (name, "only") == 0)
        return crew_choose (name, value, contestants, sizeof contestants / sizeof *contestants, &options->only);
    if (strcmp (name, "rounds") == 0)
        return bench_parse_count (name, value, 1, BENCH_ROUNDS_MAX, &options->rounds);
    return bench_parse_count (name, value, 1, 86400, &options->deadline_s);
}

static void make_quick (void *asked)
{
    options_t *options = asked;
    options->actors = 200;
    options->ring = 50;
    options->rounds = 1;
}

int main (int argc, char **argv)
{
    static const bench_program_t program = {.options = {"actors", "ring", "only", "rounds", "deadline"},
                                            .help = print_help,
                                            .take = take_option,
                                            .quick = make_quick,
                                            .run = bench};
    options_t options = {.actors = 10000, .ring = 1000, .rounds = 3, .deadline_s = 120};
    return bench_main (argc, argv, &program, &options);
}
