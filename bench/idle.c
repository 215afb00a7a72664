/*
 * idle.c - what a cluster at rest costs: wake-ups, processor time and memory of
 * a server with 64 peers to which nobody sends anything.
 *
 * Method. The observed server is alone in its process, its peers are in another
 * one; they know it and not each other. When all are up, and SETTLE has passed,
 * the observed process is watched for a fixed time: voluntary context switches
 * of all its threads but the one that watches (/proc/self/task), and its
 * processor time. That is done with two heartbeats, the default one and ten
 * times as much, in the same round.
 *
 *   ctalk        nobody receives
 *   ctalk-recv   a thread waits in ctalk_recv
 *   zmq          a DEALER with 64 connections to as many ROUTER, ZMTP heartbeats
 *                at the same interval from both sides; one connection per peer
 *                where ClusterTalk has two
 *
 * Wake-ups beyond heartbeats. With w wake-ups per peer and second at the
 * interval H, and w' at 10 H, w = a + b / H and w' = a + b / (10 H): b is what a
 * heartbeat costs, a what is there without any. Both follow from the two cases
 * of one round; nothing is assumed of what a heartbeat must cost. Heartbeats that
 * fall together share wake-ups, and do so in other numbers in the two cases, so
 * that a may come out a little below 0; w' is a bound for it that supposes
 * nothing. For comparison, at most 7 wake-ups can be put down to a heartbeat: of
 * the sender for its time and for the answer; of the router for the peer's; of
 * the I/O threads to send and to receive, each way.
 *
 * Memory. Of the observed process, resident and from the allocator, from before
 * the server (the socket) to the end of the watch, by the number of peers. A
 * second table has single servers: what 64 of them without peers take, what a
 * peer takes in a config of 10,000 and in each lazy server made from it; and
 * bound ROUTER sockets in place of servers.
 */
#include "bench/crew.h"
#include "bench/ends.h"
#include "bench/report.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

enum {
    OBSERVED = 0, /* the processes */
    PEERS = 1,
    PEERS_MAX = 256,
    OBSERVED_PID = 1,
    FDS_EACH = 16, /* descriptors for a peer, at most */
    FDS_SHARED = 64,
    LONGER = 10,       /* the second heartbeat by the first */
    SUSPECT_BEATS = 3, /* SuspectMs and DownMs in heartbeats, as by default */
    DOWN_BEATS = 10,
    NUMBER_BYTES = 16,
    CASES = 2,
    LONE_SERVERS = 64,  /* for the memory of one */
    LISTED = 10000,     /* in the config for the memory of a listed peer */
    LISTING_SERVERS = 8 /* made from it */
};

typedef struct {
    uint64_t peers, millis, settle_ms, heartbeat_ms, rounds, deadline_s;
    const char *only; /* contestants */
} options_t;

typedef struct {
    size_t peers;
    uint64_t millis, settle_ms, heartbeat_ms;
} task_t;

/* Which threads woke: by their names. */
typedef enum { SENDERS, ROUTER, IO, OTHERS, KINDS } kind_t;

/* Bytes that the process has: resident, and from the allocator. */
typedef struct {
    double resident, heap;
} memory_t;

/* What the processes of a turn share. */
typedef struct {
    char observed[ENDS_ENDPOINT_BYTES];
    char peer[PEERS_MAX][ENDS_ENDPOINT_BYTES];
    double wakes[KINDS]; /* per second, of the observed process */
    double cpu_percent;
    memory_t memory; /* that it grew by */
} board_t;

/* What a process has. */
typedef struct {
    ctalk_server_t *server[PEERS_MAX]; /* the observed one: server[0] */
    void *context, *socket[PEERS_MAX];
    memory_t before;
    pthread_t receiver;
    bool receives;
} end_t;

/* --------------------------------------------------------------- the process */

static double heap_now (void)
{
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
    const struct mallinfo2 info = mallinfo2 ();
    return (double) (info.uordblks + info.hblkhd);
#else
    return 0;
#endif
}

static memory_t memory_now (void)
{
    return (memory_t){.resident = bench_resident_bytes (), .heap = heap_now ()};
}

static memory_t grown_since (memory_t before)
{
    const memory_t now = memory_now ();
    return (memory_t){.resident = now.resident - before.resident, .heap = now.heap - before.heap};
}

static kind_t kind_of (const char *name)
{
    static const struct {
        const char *prefix;
        kind_t kind;
    } known[] = {{"ct-send", SENDERS}, {"ct-router", ROUTER}, {"ZMQbg/", IO}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncmp (name, known[i].prefix, strlen (known[i].prefix)) == 0)
            return known[i].kind;
    return OTHERS;
}

/* Adds the voluntary context switches of one thread to its kind. */
static void count_thread (const char *tid, double *wakes)
{
    char path[64], line[256];
    kind_t kind = OTHERS;
    snprintf (path, sizeof path, "/proc/self/task/%.20s/status", tid);
    FILE *file = fopen (path, "r");
    while (file && fgets (line, sizeof line, file)) {
        if (strncmp (line, "Name:\t", 6) == 0)
            kind = kind_of (line + 6);
        if (strncmp (line, "voluntary_ctxt_switches:", 24) == 0)
            wakes[kind] += strtod (line + 24, NULL);
    }
    if (file)
        fclose (file);
}

/* Those of all threads but this one. */
static void count_wakes (double wakes[KINDS])
{
    const struct dirent *entry;
    const long self = (long) gettid ();
    DIR *dir = opendir ("/proc/self/task");
    memset (wakes, 0, KINDS * sizeof *wakes);
    while (dir && (entry = readdir (dir)))
        if (entry->d_name[0] != '.' && strtol (entry->d_name, NULL, 10) != self)
            count_thread (entry->d_name, wakes);
    if (dir)
        closedir (dir);
}

static void sleep_ms (uint64_t millis)
{
    struct timespec time = {.tv_sec = (time_t) (millis / 1000), .tv_nsec = (long) (millis % 1000) * 1000000};
    while (nanosleep (&time, &time) != 0 && errno == EINTR) {
    }
}

/* ----------------------------------------------------- the steps all have */

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
    member->own = end;
    end->before = memory_now ();
    return end;
}

static int settle (crew_member_t *member)
{
    const task_t *task = member->task;
    sleep_ms (task->settle_ms);
    return 0;
}

/* Rests for the time; the observed process counts. */
static int watch (crew_member_t *member)
{
    const task_t *task = member->task;
    const end_t *end = member->own;
    board_t *board = member->shared;
    double before[KINDS], after[KINDS];
    count_wakes (before);
    const uint64_t begin_ns = bench_now_ns (), begin_cpu_ns = bench_cpu_ns ();
    sleep_ms (task->millis);
    const double cpu_ns = (double) (bench_cpu_ns () - begin_cpu_ns), took_ns = (double) (bench_now_ns () - begin_ns);
    count_wakes (after);
    if (member->self != OBSERVED)
        return 0;
    for (int i = 0; i < KINDS; i++)
        board->wakes[i] = (after[i] - before[i]) * 1e9 / took_ns;
    board->cpu_percent = 100 * cpu_ns / took_ns;
    board->memory = grown_since (end->before);
    return 0;
}

/* -------------------------------------------------------------- ClusterTalk */

static ctalk_pid_t pid_of (size_t index)
{
    return (ctalk_pid_t) index + OBSERVED_PID + 1;
}

static int open_observed (crew_member_t *member, ends_options_t options)
{
    const task_t *task = member->task;
    board_t *board = member->shared;
    end_t *end = member->own;
    ctalk_config_t *config = ends_config (member, OBSERVED_PID + task->peers, options);
    if (config)
        end->server[0] = ends_server (member, OBSERVED_PID, config, board->observed);
    ctalk_config_destroy (&config);
    return end->server[0] ? 0 : -1;
}

static int open_peers (crew_member_t *member, ends_options_t options)
{
    const task_t *task = member->task;
    board_t *board = member->shared;
    end_t *end = member->own;
    for (size_t i = 0; i < task->peers; i++) {
        end->server[i] = ends_satellite (member, pid_of (i), options, board->peer[i]);
        if (!end->server[i])
            return -1;
    }
    return 0;
}

static int open_ctalk (crew_member_t *member)
{
    const task_t *task = member->task;
    char heartbeat[NUMBER_BYTES], suspect[NUMBER_BYTES], down[NUMBER_BYTES];
    const char *const options[] = {"HeartbeatMs", heartbeat, "SuspectMs", suspect, "DownMs", down, NULL};
    snprintf (heartbeat, sizeof heartbeat, "%" PRIu64, task->heartbeat_ms);
    snprintf (suspect, sizeof suspect, "%" PRIu64, SUSPECT_BEATS * task->heartbeat_ms);
    snprintf (down, sizeof down, "%" PRIu64, DOWN_BEATS * task->heartbeat_ms);
    if (!new_end (member))
        return -1;
    return member->self == OBSERVED ? open_observed (member, options) : open_peers (member, options);
}

/* How many servers this process has. */
static size_t servers_of (const crew_member_t *member)
{
    const task_t *task = member->task;
    return member->self == OBSERVED ? 1 : task->peers;
}

static int meet_ctalk (crew_member_t *member)
{
    const task_t *task = member->task;
    const board_t *board = member->shared;
    const end_t *end = member->own;
    for (size_t i = 0; i < task->peers; i++)
        if (member->self == OBSERVED ? ends_meet (member, end->server[0], pid_of (i), board->peer[i]) != 0
                                     : ends_meet (member, end->server[i], OBSERVED_PID, board->observed) != 0)
            return -1;
    for (size_t i = 0; i < servers_of (member); i++)
        if (ctalk_server_wait_up (end->server[i], SIZE_MAX, ENDS_UP_MS) != 0)
            return crew_fail (member, "ctalk_server_wait_up");
    return 0;
}

/* Waits for what never comes. */
static void *receive (void *arg)
{
    ctalk_envelope_t envelope;
    while (ctalk_recv (arg, &envelope, -1) == 0 || errno == EINTR)
        ctalk_envelope_close (&envelope);
    return NULL;
}

static int settle_receiving (crew_member_t *member)
{
    end_t *end = member->own;
    if (member->self == OBSERVED) {
        errno = pthread_create (&end->receiver, NULL, receive, end->server[0]);
        if (errno != 0)
            return crew_fail (member, "pthread_create");
        end->receives = true;
    }
    return settle (member);
}

static int close_ctalk (crew_member_t *member)
{
    end_t *end = member->own;
    for (size_t i = 0; i < servers_of (member); i++)
        if (ends_close (member, &end->server[i]) != 0)
            return -1;
    if (end->receives)
        pthread_join (end->receiver, NULL);
    free (end);
    return 0;
}

/* ------------------------------------------------------------ the yardstick */

static void *open_beating (crew_member_t *member, int type)
{
    const task_t *task = member->task;
    const end_t *end = member->own;
    const int interval_ms = (int) task->heartbeat_ms;
    void *socket = ends_socket (member, end->context, type, ENDS_HWM_DEFAULT);
    if (socket && zmq_setsockopt (socket, ZMQ_HEARTBEAT_IVL, &interval_ms, sizeof interval_ms) != 0)
        crew_fail (member, "zmq_setsockopt");
    return socket;
}

static int open_zmq (crew_member_t *member)
{
    const task_t *task = member->task;
    board_t *board = member->shared;
    end_t *end = new_end (member);
    if (!end || !(end->context = ends_context (member, 0, 0)))
        return -1;
    if (member->self == OBSERVED)
        return (end->socket[0] = open_beating (member, ZMQ_DEALER)) ? 0 : -1;
    for (size_t i = 0; i < task->peers; i++) {
        end->socket[i] = open_beating (member, ZMQ_ROUTER);
        if (!end->socket[i] || ends_bind (member, end->socket[i], board->peer[i]) != 0)
            return -1;
    }
    return 0;
}

static int meet_zmq (crew_member_t *member)
{
    const task_t *task = member->task;
    const board_t *board = member->shared;
    const end_t *end = member->own;
    for (size_t i = 0; member->self == OBSERVED && i < task->peers; i++)
        if (ends_connect (member, end->socket[0], board->peer[i]) != 0)
            return -1;
    return 0;
}

static int close_zmq (crew_member_t *member)
{
    end_t *end = member->own;
    for (size_t i = 0; i < PEERS_MAX && end->socket[i]; i++)
        if (zmq_close (end->socket[i]) != 0)
            return crew_fail (member, "zmq_close");
    if (zmq_ctx_term (end->context) != 0)
        return crew_fail (member, "zmq_ctx_term");
    free (end);
    return 0;
}

/* --------------------------------------------------- the workload of the watch */

enum { WAKES, WAKES_PEER, CPU, RESIDENT, HEAP, OF_SENDERS, OF_ROUTER, OF_IO, METRICS };

static const crew_metric_t metrics[METRICS] = {
    [WAKES] = {.name = "wakes/s", .lower_is_better = true},
    [WAKES_PEER] = {.name = "wakes/s/peer", .lower_is_better = true},
    [CPU] = {.name = "CPU %", .lower_is_better = true},
    [RESIDENT] = {.name = "RSS KiB/peer", .lower_is_better = true},
    [HEAP] = {.name = "heap KiB/peer", .lower_is_better = true},
    [OF_SENDERS] = {.name = "of senders/s", .lower_is_better = true, .alone = true},
    [OF_ROUTER] = {.name = "of router/s", .lower_is_better = true, .alone = true},
    [OF_IO] = {.name = "of I/O/s", .lower_is_better = true, .alone = true},
};

static const crew_contestant_t contestants[] = {
    {.name = "ctalk", .step = {open_ctalk, meet_ctalk, settle, watch, close_ctalk}},
    {.name = "ctalk-recv", .step = {open_ctalk, meet_ctalk, settle_receiving, watch, close_ctalk}},
    {.name = "zmq", .step = {open_zmq, meet_zmq, settle, watch, close_zmq}},
};
enum { CONTESTANTS = sizeof contestants / sizeof *contestants };

static void figures (const void *asked, const void *shared, const crew_cost_t *cost, double *values)
{
    const task_t *task = asked;
    const board_t *board = shared;
    const double peers = (double) task->peers;
    (void) cost;
    values[WAKES] = 0;
    for (int i = 0; i < KINDS; i++)
        values[WAKES] += board->wakes[i];
    values[WAKES_PEER] = values[WAKES] / peers;
    values[CPU] = board->cpu_percent;
    values[RESIDENT] = board->memory.resident / 1024 / peers;
    values[HEAP] = board->memory.heap / 1024 / peers;
    const bool is_ours = board->wakes[SENDERS] + board->wakes[ROUTER] > 0;
    values[OF_SENDERS] = is_ours ? board->wakes[SENDERS] : NAN;
    values[OF_ROUTER] = is_ours ? board->wakes[ROUTER] : NAN;
    values[OF_IO] = board->wakes[IO];
}

static void report_derived (const crew_workload_t *workload, FILE *csv, size_t contestant, const char *metric,
                            const double *values)
{
    const bench_figure_t figure = {.workload = workload->name,
                                   .parameter = "from both",
                                   .contestant = contestants[contestant].name,
                                   .metric = metric,
                                   .lower_is_better = true,
                                   .values = values,
                                   .rounds = (size_t) workload->rounds,
                                   .cpu_s = -1,
                                   .peak_kib = -1};
    bench_report_figure (csv, &figure);
}

/* a and b of the comment at the top, of each contestant. */
static void report_split (const crew_table_t *table, const crew_workload_t *workload, const options_t *options,
                          FILE *csv)
{
    const double beats = 1000.0 / (double) options->heartbeat_ms; /* per second */
    for (size_t i = 0; i < CONTESTANTS; i++) {
        const double *often = crew_values (table, 0, i, WAKES_PEER), *seldom = crew_values (table, 1, i, WAKES_PEER);
        if (!often || !seldom)
            continue;
        double beyond[BENCH_ROUNDS_MAX], of_beat[BENCH_ROUNDS_MAX];
        for (size_t j = 0; j < workload->rounds; j++) {
            of_beat[j] = (often[j] - seldom[j]) / (beats - beats / LONGER);
            beyond[j] = often[j] - of_beat[j] * beats;
        }
        report_derived (workload, csv, i, "beyond/s/peer", beyond);
        report_derived (workload, csv, i, "wakes/beat", of_beat);
    }
}

static int bench_rest (const options_t *options, FILE *csv)
{
    static const char *const names[] = {[OBSERVED] = "observed", [PEERS] = "peers"};
    task_t tasks[CASES];
    bench_cell_t texts[CASES];
    crew_case_t cases[CASES];
    for (size_t i = 0; i < CASES; i++) {
        uint64_t heartbeat_ms = i == 0 ? options->heartbeat_ms : LONGER * options->heartbeat_ms;
        tasks[i] = (task_t){.peers = (size_t) options->peers,
                            .millis = options->millis,
                            .settle_ms = options->settle_ms,
                            .heartbeat_ms = heartbeat_ms};
        bench_cell (texts[i], "beat %" PRIu64 " ms", heartbeat_ms);
        cases[i] = (crew_case_t){.name = texts[i], .x = (double) heartbeat_ms, .task = &tasks[i]};
    }
    const crew_workload_t workload = {.name = "W9",
                                      .title = "W9: a server at rest with its peers in another process",
                                      .process_names = names,
                                      .processes = 2,
                                      .cases = cases,
                                      .case_count = CASES,
                                      .contestants = contestants,
                                      .contestant_count = CONTESTANTS,
                                      .own_count = 2,
                                      .metrics = metrics,
                                      .metric_count = METRICS,
                                      .timed = 3,
                                      .shared_bytes = sizeof (board_t),
                                      .rounds = options->rounds,
                                      .only = options->only,
                                      .deadline_s = options->deadline_s + (options->millis + options->settle_ms) / 1000,
                                      .figures = figures};
    crew_table_t *table = crew_play (&workload);
    if (!table)
        return -1;
    crew_report (table, csv);
    report_split (table, &workload, options, csv);
    crew_destroy (&table);
    return 0;
}

/* ------------------------------------------------- the workload of the memory */

enum { SERVER_RESIDENT, SERVER_HEAP, IN_CONFIG, IN_SERVER, SIZES };

static const crew_metric_t sizes[SIZES] = {
    [SERVER_RESIDENT] = {.name = "RSS KiB/srv", .lower_is_better = true},
    [SERVER_HEAP] = {.name = "heap KiB/srv", .lower_is_better = true},
    [IN_CONFIG] = {.name = "B/listed cfg", .lower_is_better = true},
    [IN_SERVER] = {.name = "B/listed srv", .lower_is_better = true},
};

/* What a turn leaves behind for the parent. */
typedef struct {
    double size[SIZES];
} sizes_t;

/* The servers of a turn, or the sockets in their place. */
typedef struct {
    ctalk_server_t *lone[LONE_SERVERS + 1]; /* the first one pays for the context */
    ctalk_server_t *listing[LISTING_SERVERS];
    void *context, *socket[LONE_SERVERS + 1];
} many_t;

static many_t *new_many (crew_member_t *member)
{
    if (ends_raise_descriptors (member, FDS_EACH * (LONE_SERVERS + LISTING_SERVERS) + FDS_SHARED) != 0)
        return NULL;
    member->own = calloc (1, sizeof (many_t));
    if (!member->own)
        crew_fail (member, "calloc");
    return member->own;
}

static ctalk_server_t *open_lone (crew_member_t *member)
{
    ctalk_config_t *config = ends_config (member, 1, NULL);
    ctalk_server_t *server = config ? ends_server (member, 1, config, NULL) : NULL;
    ctalk_config_destroy (&config);
    return server;
}

/* Servers without peers. */
static int measure_lone (crew_member_t *member)
{
    many_t *many = member->own;
    sizes_t *found = member->shared;
    memory_t before = {0};
    for (size_t i = 0; i <= LONE_SERVERS; i++) {
        many->lone[i] = open_lone (member);
        if (!many->lone[i])
            return -1;
        if (i == 0)
            before = memory_now ();
    }
    const memory_t grown = grown_since (before);
    found->size[SERVER_RESIDENT] = grown.resident / 1024 / LONE_SERVERS;
    found->size[SERVER_HEAP] = grown.heap / 1024 / LONE_SERVERS;
    return 0;
}

/* Lazy servers from a config that lists many; what they take beyond a lone one is for those listed. */
static int measure_listing (crew_member_t *member)
{
    static const char *const lazy[] = {"Senders", "lazy", NULL};
    many_t *many = member->own;
    sizes_t *found = member->shared;
    memory_t before = memory_now ();
    ctalk_config_t *config = ends_config (member, LISTED, lazy);
    if (!config)
        return -1;
    found->size[IN_CONFIG] = grown_since (before).heap / LISTED;
    before = memory_now ();
    for (size_t i = 0; i < LISTING_SERVERS; i++) {
        many->listing[i] = ends_server (member, (ctalk_pid_t) i + 1, config, NULL);
        if (!many->listing[i])
            return -1;
    }
    const double each = grown_since (before).heap / LISTING_SERVERS;
    found->size[IN_SERVER] = (each - found->size[SERVER_HEAP] * 1024) / LISTED;
    ctalk_config_destroy (&config);
    return 0;
}

static int size_ctalk (crew_member_t *member)
{
    return new_many (member) && measure_lone (member) == 0 ? measure_listing (member) : -1;
}

static int end_ctalk (crew_member_t *member)
{
    many_t *many = member->own;
    for (size_t i = 0; i < LISTING_SERVERS; i++)
        if (ends_close (member, &many->listing[i]) != 0)
            return -1;
    for (size_t i = 0; i <= LONE_SERVERS; i++)
        if (ends_close (member, &many->lone[i]) != 0)
            return -1;
    free (many);
    return 0;
}

static int size_zmq (crew_member_t *member)
{
    char endpoint[ENDS_ENDPOINT_BYTES];
    many_t *many = new_many (member);
    sizes_t *found = member->shared;
    memory_t before = {0};
    if (!many || !(many->context = ends_context (member, 0, 0)))
        return -1;
    for (size_t i = 0; i <= LONE_SERVERS; i++) {
        many->socket[i] = ends_socket (member, many->context, ZMQ_ROUTER, ENDS_HWM_DEFAULT);
        if (!many->socket[i] || ends_bind (member, many->socket[i], endpoint) != 0)
            return -1;
        if (i == 0)
            before = memory_now ();
    }
    const memory_t grown = grown_since (before);
    found->size[SERVER_RESIDENT] = grown.resident / 1024 / LONE_SERVERS;
    found->size[SERVER_HEAP] = grown.heap / 1024 / LONE_SERVERS;
    found->size[IN_CONFIG] = found->size[IN_SERVER] = NAN;
    return 0;
}

static int end_zmq (crew_member_t *member)
{
    many_t *many = member->own;
    for (size_t i = 0; i <= LONE_SERVERS; i++)
        if (zmq_close (many->socket[i]) != 0)
            return crew_fail (member, "zmq_close");
    if (zmq_ctx_term (many->context) != 0)
        return crew_fail (member, "zmq_ctx_term");
    free (many);
    return 0;
}

static void size_figures (const void *asked, const void *shared, const crew_cost_t *cost, double *values)
{
    const sizes_t *found = shared;
    (void) asked;
    (void) cost;
    memcpy (values, found->size, sizeof found->size);
}

static int bench_sizes (const options_t *options, FILE *csv)
{
    static const char *const names[] = {"servers"};
    static const crew_case_t only[] = {{.name = "no peers", .x = 0}};
    static const crew_contestant_t two[] = {{.name = "ctalk", .step = {size_ctalk, end_ctalk}},
                                            {.name = "zmq", .step = {size_zmq, end_zmq}}};
    const crew_workload_t workload = {.name = "W9",
                                      .title = "W9: the memory of servers at rest, and of peers that are only listed",
                                      .process_names = names,
                                      .processes = 1,
                                      .cases = only,
                                      .case_count = 1,
                                      .contestants = two,
                                      .contestant_count = 2,
                                      .own_count = 1,
                                      .metrics = sizes,
                                      .metric_count = SIZES,
                                      .timed = 0,
                                      .shared_bytes = sizeof (sizes_t),
                                      .rounds = options->rounds,
                                      .only = options->only,
                                      .deadline_s = options->deadline_s,
                                      .figures = size_figures};
    crew_table_t *table = crew_play (&workload);
    if (!table)
        return -1;
    crew_report (table, csv);
    crew_destroy (&table);
    return 0;
}

static int bench (const void *asked, FILE *csv)
{
    bench_print_machine ();
    return bench_rest (asked, csv) == 0 && bench_sizes (asked, csv) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ------------------------------------------------------------ command line */

static void print_help (void)
{
    printf ("usage: idle [OPTION]...\n"
            "A server at rest with its peers in another process: how often its process wakes\n"
            "up, its processor time and its memory, with two heartbeats, ClusterTalk beside\n"
            "a DEALER of libzmq with as many connections and heartbeats, turn about. Then the\n"
            "memory of servers without peers, and of peers that are only listed.\n"
            "\n"
            "  --peers N         peers of the observed server, up to 256 (64)\n"
            "  --millis N        the time of a turn (10000)\n"
            "  --settle-ms N     from the moment that all are up to its begin (1000)\n"
            "  --heartbeat-ms N  the first heartbeat; the second is ten times as long (500)\n"
            "  --only LIST       contestants, of: ctalk, ctalk-recv, zmq\n"
            "  --rounds N        rounds; each contestant has a turn in each (2)\n"
            "  --deadline S      seconds beyond these times after which a turn has failed (60)\n"
            "  --quick           one round of 1 s with heartbeats of 100 ms and 1 s\n"
            "  --csv FILE        write the figures\n"
            "  --help            this text\n"
            "\n"
            "The time of a turn should be a multiple of the longer heartbeat. Exit status:\n"
            "0 measured, 1 failed, 2 wrong usage.\n");
}

static bool take_option (void *asked, const char *name, const char *value)
{
    options_t *options = asked;
    if (strcmp (name, "peers") == 0)
        return bench_parse_count (name, value, 1, PEERS_MAX, &options->peers);
    if (strcmp (name, "millis") == 0)
        return bench_parse_count (name, value, 100, 3600000, &options->millis);
    if (strcmp (name, "settle-ms") == 0)
        return bench_parse_count (name, value, 0, 3600000, &options->settle_ms);
    if (strcmp (name, "heartbeat-ms") == 0)
        return bench_parse_count (name, value, 10, 60000, &options->heartbeat_ms);
    if (strcmp (name, "only") == 0)
        return crew_choose (name, value, contestants, CONTESTANTS, &options->only);
    if (strcmp (name, "rounds") == 0)
        return bench_parse_count (name, value, 1, BENCH_ROUNDS_MAX, &options->rounds);
    return bench_parse_count (name, value, 1, 86400, &options->deadline_s);
}

static void make_quick (void *asked)
{
    options_t *options = asked;
    options->millis = 1000;
    options->settle_ms = 300;
    options->heartbeat_ms = 100;
    options->rounds = 1;
}

int main (int argc, char **argv)
{
    static const bench_program_t program = {
        .options = {"peers", "millis", "settle-ms", "heartbeat-ms", "only", "rounds", "deadline"},
        .help = print_help,
        .take = take_option,
        .quick = make_quick,
        .run = bench};
    options_t options = {
        .peers = 64, .millis = 10000, .settle_ms = 1000, .heartbeat_ms = 500, .rounds = 2, .deadline_s = 60};
    return bench_main (argc, argv, &program, &options);
}
