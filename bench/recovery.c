/*
 * recovery.c - how long it takes after a fault of the network is over until
 * envelopes arrive again.
 *
 * Method. Two servers, default options, the way of each to the other through a
 * proxy that fails on purpose (tests/support/chaos.h). A round: the servers
 * exchange an envelope each way; the fault begins; an envelope is sent each way,
 * so that something is under way; the fault lasts its time and up to a second
 * more, drawn anew each round so that nothing in the library keeps step with
 * it; it ends, the time begins, and an envelope is sent each way. Measured is
 * the time until both of these have been received. What is sent later arrives
 * later: so everything has. "acked" is the time until both servers have heard so,
 * too. Number, order and content are checked.
 *
 *   reset         both connections end by RST; nothing else is wrong
 *   half-open     bytes of server 1 to server 2 (out), or the answers (in), are
 *                 thrown away; the connection stays useless also afterwards.
 *                 "short": the fault is over when the first bytes were lost, so
 *                 all that it takes to notice is in the figure
 *   black hole    nothing comes through either way, nobody answers a connect
 *   refused       both connections end by RST, and nobody listens
 *   garbage       the same, and who connects gets random bytes and an end
 *   wrong service the same, and who connects finds an SSH or an HTTP server
 *
 * Each kind of fault has a process of its own with both servers and the proxy.
 * Several run side by side: they sleep most of the time.
 *
 * It owns its child processes; a round that is not over by its deadline is an
 * error, as is a wrong, missing or doubled envelope.
 */
#include "bench/bench.h"
#include "tests/support/chaos.h"

#include <clustertalk.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    SERVERS = 2,
    PAYLOAD_BYTES = 64,
    ENDPOINT_BYTES = 64,
    LINE_BYTES = 200, /* why a process gave up */
    UP_MS = 20000,    /* for the peers to come up */
    JITTER_MS = 1000, /* that a fault lasts longer, at most */
    RECOVER_S = 120,  /* after that a fault counts as never healed */
    BITE_MS = 20000,  /* for the first bytes to be lost */
    KINDS = 10,
    COLUMNS = 7
};

typedef struct {
    const char *name;
    uint64_t lasts_ms; /* 0: until the first bytes were lost, or no time at all */
    bool both;         /* both ways, or only that of server 1 to server 2 */
    bool cut;          /* it begins with a reset */
    ctki_chaos_plan_t plan;
} kind_t;

static const kind_t kinds[KINDS] = {
    {"reset", 0, true, true, {0}},
    {"half-open out, short", 0, false, false, {.way[CTKI_CHAOS_OUT].what = CTKI_CHAOS_DISCARD}},
    {"half-open in, short", 0, false, false, {.way[CTKI_CHAOS_BACK].what = CTKI_CHAOS_DISCARD}},
    {"half-open out", 4000, false, false, {.way[CTKI_CHAOS_OUT].what = CTKI_CHAOS_DISCARD}},
    {"half-open in", 4000, false, false, {.way[CTKI_CHAOS_BACK].what = CTKI_CHAOS_DISCARD}},
    {"black hole 5 s", 5000, true, false, {.door = CTKI_CHAOS_BLACKHOLE}},
    {"black hole 15 s", 15000, true, false, {.door = CTKI_CHAOS_BLACKHOLE}},
    {"refused", 4000, true, true, {.door = CTKI_CHAOS_REFUSE}},
    {"garbage first", 4000, true, true, {.door = CTKI_CHAOS_GARBAGE}},
    {"wrong service first", 4000, true, true, {.door = CTKI_CHAOS_WRONG}},
};

/* What the command line asks for. */
typedef struct {
    uint64_t rounds, seed, together, require_ms;
    const char *fault; /* only kinds whose name begins so */
} options_t;

/* ---------------------------------------------------------- a kind of fault */

typedef struct {
    const options_t *options;
    const kind_t *kind;
} task_t;

/* In its process. Index 0 is server 1. */
typedef struct {
    const task_t *task;
    int fd;
    ctki_chaos_t *chaos;
    int link[SERVERS]; /* of each server to the other */
    ctalk_server_t *server[SERVERS];
    uint64_t sent[SERVERS], received[SERVERS];
    uint64_t random;
    char error[LINE_BYTES];
} trial_t;

static int fail (trial_t *trial, const char *what)
{
    snprintf (trial->error, sizeof trial->error, "%s: %s: %s", trial->task->kind->name, what, strerror (errno));
    return -1;
}

static ctalk_pid_t pid_of (int index)
{
    return (ctalk_pid_t) (index + 1);
}

static int start_server (trial_t *trial, int index)
{
    ctalk_error_t error = {.text = "out of memory"};
    ctalk_config_t *config = ctalk_config_new ();
    bool good = config != NULL;
    for (int i = 0; good && i < SERVERS; i++)
        good = ctalk_config_add_server (config, pid_of (i), "127.0.0.1:0", &error) == 0;
    if (good)
        trial->server[index] = ctalk_server_new (pid_of (index), config, &error);
    ctalk_config_destroy (&config);
    if (trial->server[index])
        return 0;
    snprintf (trial->error, sizeof trial->error, "ctalk_server_new: %.150s", error.text);
    return -1;
}

/* A link from a server to the other one, which it is told is the other one. */
static int interpose (trial_t *trial, int from)
{
    char endpoint[ENDPOINT_BYTES];
    const char *colon = strrchr (ctalk_server_endpoint (trial->server[1 - from]), ':');
    unsigned long port = colon ? strtoul (colon + 1, NULL, 10) : 0;
    if (port == 0 || port > UINT16_MAX)
        return fail (trial, "no port");
    trial->link[from] = ctki_chaos_link (trial->chaos, 0, (uint16_t) port);
    snprintf (endpoint, sizeof endpoint, "tcp://127.0.0.1:%u",
              (unsigned) ctki_chaos_port (trial->chaos, trial->link[from]));
    if (ctalk_server_add_peer (trial->server[from], pid_of (1 - from), endpoint) != 0)
        return fail (trial, "ctalk_server_add_peer");
    return 0;
}

static int set_up (trial_t *trial)
{
    trial->chaos = ctki_chaos_start (trial->task->options->seed);
    if (start_server (trial, 0) != 0 || start_server (trial, 1) != 0)
        return -1;
    if (interpose (trial, 0) != 0 || interpose (trial, 1) != 0)
        return -1;
    for (int i = 0; i < SERVERS; i++)
        if (ctalk_server_wait_up (trial->server[i], SIZE_MAX, UP_MS) != 0)
            return fail (trial, "ctalk_server_wait_up");
    return 0;
}

/* The number of an envelope, for its payload. */
static uint64_t number_of (int from, uint64_t place)
{
    return (uint64_t) (from + 1) << 60 | place;
}

static int send_each_way (trial_t *trial)
{
    for (int from = 0; from < SERVERS; from++) {
        uint8_t payload[PAYLOAD_BYTES];
        bench_fill (payload, sizeof payload, number_of (from, trial->sent[from]));
        ctalk_envelope_t envelope = {.pid = pid_of (1 - from), .data = payload, .size = sizeof payload};
        envelope.msg_id = (int64_t) trial->sent[from]++;
        if (ctalk_send (trial->server[from], &envelope, 0) != 0)
            return fail (trial, "ctalk_send");
    }
    return 0;
}

/* Takes what there is at a server; every one must be the next. */
static int take (trial_t *trial, int at)
{
    ctalk_envelope_t envelope;
    int from = 1 - at;
    while (ctalk_recv (trial->server[at], &envelope, 0) == 0) {
        uint64_t number = number_of (from, trial->received[from]++);
        bool good = envelope.size == PAYLOAD_BYTES && bench_check (envelope.data, envelope.size, number);
        if (!good)
            bench_describe (trial->error, sizeof trial->error, envelope.data, envelope.size, number);
        ctalk_envelope_close (&envelope);
        if (!good)
            return -1;
    }
    return errno == EAGAIN ? 0 : fail (trial, "ctalk_recv");
}

/* Receives until everything that was sent has come. */
static int receive_all (trial_t *trial)
{
    struct pollfd items[SERVERS];
    uint64_t deadline_ns = bench_now_ns () + RECOVER_S * UINT64_C (1000000000);
    for (int i = 0; i < SERVERS; i++)
        items[i] = (struct pollfd){.fd = ctalk_server_fd (trial->server[i]), .events = POLLIN};
    while (trial->received[0] < trial->sent[0] || trial->received[1] < trial->sent[1]) {
        poll (items, SERVERS, 1000);
        if (take (trial, 0) != 0 || take (trial, 1) != 0)
            return -1;
        errno = ETIMEDOUT;
        if (bench_now_ns () >= deadline_ns)
            return fail (trial, "not healed");
    }
    return 0;
}

/* A number below most, from the seed. */
static uint64_t draw (trial_t *trial, uint64_t most)
{
    trial->random = trial->random * UINT64_C (6364136223846793005) + UINT64_C (1442695040888963407);
    return (trial->random >> 33) % most;
}

/* Until the fault has lasted its time, or has made bytes disappear. */
static int let_last (trial_t *trial)
{
    const kind_t *kind = trial->task->kind;
    uint64_t lost_before = ctki_chaos_counts (trial->chaos, CTKI_CHAOS_ALL).discarded;
    if (kind->lasts_ms) {
        poll (NULL, 0, (int) (kind->lasts_ms + draw (trial, JITTER_MS)));
        return 0;
    }
    if (kind->cut)
        return 0;
    for (int ms = 0; ctki_chaos_counts (trial->chaos, CTKI_CHAOS_ALL).discarded == lost_before; ms++) {
        errno = ETIMEDOUT;
        if (ms == BITE_MS)
            return fail (trial, "nothing was lost");
        poll (NULL, 0, 1);
    }
    return 0;
}

/* Until both have heard that everything has been received. */
static int await_acknowledged (trial_t *trial)
{
    for (int i = 0; i < SERVERS; i++)
        if (ctalk_server_flush (trial->server[i], CTALK_BROADCAST, RECOVER_S * 1000) != 0)
            return fail (trial, "ctalk_server_flush");
    return 0;
}

static int one_round (trial_t *trial, uint64_t *took_ns, uint64_t *acknowledged_ns)
{
    const kind_t *kind = trial->task->kind;
    int link = kind->both ? CTKI_CHAOS_ALL : trial->link[0];
    if (send_each_way (trial) != 0 || receive_all (trial) != 0)
        return -1;
    poll (NULL, 0, (int) draw (trial, JITTER_MS));
    ctki_chaos_set (trial->chaos, link, &kind->plan);
    if (kind->cut)
        ctki_chaos_cut (trial->chaos, link, CTKI_CHAOS_RST);
    uint64_t start_ns = bench_now_ns ();
    if (kind->lasts_ms || !kind->cut) {
        if (send_each_way (trial) != 0 || let_last (trial) != 0)
            return -1;
        ctki_chaos_set (trial->chaos, CTKI_CHAOS_ALL, NULL);
        start_ns = bench_now_ns ();
    }
    if (send_each_way (trial) != 0 || receive_all (trial) != 0)
        return -1;
    *took_ns = bench_now_ns () - start_ns;
    if (await_acknowledged (trial) != 0)
        return -1;
    *acknowledged_ns = bench_now_ns () - start_ns;
    return 0;
}

static int run_rounds (trial_t *trial)
{
    bench_note_t note = {0};
    if (set_up (trial) != 0)
        return -1;
    for (uint64_t round = 0; round < trial->task->options->rounds; round++) {
        if (one_round (trial, &note.number[0], &note.number[1]) != 0 || bench_tell (trial->fd, &note) != 0)
            return -1;
    }
    return bench_listen (trial->fd, &note); /* until all kinds are done */
}

static int finish (trial_t *trial)
{
    for (int i = 0; i < SERVERS; i++)
        if (ctalk_server_close (&trial->server[i], BENCH_CLOSE_MS) != 0)
            return fail (trial, "ctalk_server_close");
    ctki_chaos_stop (&trial->chaos);
    return 0;
}

static int trial_body (int fd, void *arg)
{
    task_t *task = arg;
    trial_t trial = {.task = task, .fd = fd, .error = "the parent has ended"};
    trial.random = task->options->seed + (uint64_t) (task->kind - kinds);
    return run_rounds (&trial) == 0 && finish (&trial) == 0 ? 0 : bench_fail (fd, "%s", trial.error);
}

/* -------------------------------------------------------------- the parent */

typedef struct {
    double ms[BENCH_ROUNDS_MAX];
    double acknowledged_ms[BENCH_ROUNDS_MAX];
} figures_t;

static void tick (void *arg)
{
    const uint64_t *start_ns = arg;
    bench_progress ("%" PRIu64 " s", (bench_now_ns () - *start_ns) / UINT64_C (1000000000));
}

/* Runs count kinds side by side. */
static int run_some (const options_t *options, const kind_t *const *chosen, size_t count, figures_t *figures)
{
    bench_group_t group = {0};
    task_t tasks[KINDS];
    uint64_t start_ns = bench_now_ns (), longest_s = 0;
    int result = 0;
    for (size_t i = 0; i < count && result == 0; i++) {
        uint64_t round_s = chosen[i]->lasts_ms / 1000 + RECOVER_S + BITE_MS / 1000;
        longest_s = round_s > longest_s ? round_s : longest_s;
        tasks[i] = (task_t){options, chosen[i]};
        result = bench_start (&group, chosen[i]->name, trial_body, &tasks[i]) < 0 ? -1 : 0;
    }
    uint64_t deadline_ns = start_ns + (UP_MS / 1000 + options->rounds * longest_s) * UINT64_C (1000000000);
    for (size_t i = 0; i < count && result == 0; i++)
        for (uint64_t round = 0; round < options->rounds && result == 0; round++) {
            bench_note_t note;
            result = bench_hear (&group, (int) i, &note, deadline_ns, tick, &start_ns);
            figures[i].ms[round] = (double) note.number[0] / 1e6;
            figures[i].acknowledged_ms[round] = (double) note.number[1] / 1e6;
        }
    bench_progress ("%s", "");
    for (size_t i = 0; i < count && result == 0; i++)
        result = bench_tell (group.child[i].fd, &(bench_note_t){0});
    if (result == 0)
        return bench_join (&group, count, deadline_ns);
    bench_kill (&group);
    return -1;
}

static int compare_doubles (const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

/* The least value that 99 of 100 are not above. */
static double percentile_99 (const double *values, size_t count)
{
    double sorted[BENCH_ROUNDS_MAX];
    memcpy (sorted, values, count * sizeof *values);
    qsort (sorted, count, sizeof *sorted, compare_doubles);
    return sorted[(count * 99 + 99) / 100 - 1];
}

static void print_kind (const options_t *options, const kind_t *kind, const figures_t *figures)
{
    bench_cell_t cells[COLUMNS];
    size_t rounds = (size_t) options->rounds;
    bench_cell (cells[0], "%s", kind->name);
    bench_cell (cells[1], "%" PRIu64, kind->lasts_ms);
    bench_cell (cells[2], "%" PRIu64, options->rounds);
    bench_cell (cells[3], "%.0f", bench_median (figures->ms, rounds));
    bench_cell (cells[4], "%.0f", percentile_99 (figures->ms, rounds));
    bench_cell (cells[5], "%.0f", bench_most (figures->ms, rounds));
    bench_cell (cells[6], "%.0f", bench_most (figures->acknowledged_ms, rounds));
    bench_print_row (cells, COLUMNS);
}

static void write_csv (FILE *csv, const options_t *options, const kind_t *kind, const figures_t *figures)
{
    for (uint64_t round = 0; csv && round < options->rounds; round++)
        fprintf (csv, "\"%s\",%" PRIu64 ",%" PRIu64 ",%.3f,%.3f\n", kind->name, kind->lasts_ms, round,
                 figures->ms[round], figures->acknowledged_ms[round]);
}

/* The kinds that are asked for; returns how many. */
static size_t choose (const options_t *options, const kind_t **chosen)
{
    size_t count = 0;
    for (size_t i = 0; i < KINDS; i++)
        if (!options->fault || strncmp (kinds[i].name, options->fault, strlen (options->fault)) == 0)
            chosen[count++] = &kinds[i];
    return count;
}

static int bench (const void *asked, FILE *csv)
{
    const options_t *options = asked;
    static const bench_cell_t head[COLUMNS] = {"fault",  "lasts ms", "rounds",      "p50 ms",
                                               "p99 ms", "max ms",   "acked max ms"};
    const kind_t *chosen[KINDS];
    size_t count = choose (options, chosen);
    figures_t *figures = calloc (KINDS, sizeof *figures);
    double worst = 0;
    if (!figures)
        return EXIT_FAILURE;
    bench_print_machine ();
    printf ("two servers; from the end of a fault until an envelope sent then has arrived each way, seed %" PRIu64
            "\n\n",
            options->seed);
    if (csv)
        fprintf (csv, "fault,lasts_ms,round,ms,acknowledged_ms\n");
    for (size_t first = 0, some; first < count; first += some) {
        some = count - first < options->together ? count - first : (size_t) options->together;
        if (run_some (options, chosen + first, some, figures + first) != 0) {
            free (figures);
            return EXIT_FAILURE;
        }
    }
    bench_print_head (head, COLUMNS);
    for (size_t i = 0; i < count; i++) {
        double most = bench_most (figures[i].acknowledged_ms, (size_t) options->rounds);
        print_kind (options, chosen[i], &figures[i]);
        write_csv (csv, options, chosen[i], &figures[i]);
        worst = most > worst ? most : worst;
    }
    free (figures);
    return options->require_ms && worst > (double) options->require_ms ? BENCH_MISSED : EXIT_SUCCESS;
}

/* ------------------------------------------------------------ command line */

static void print_help (void)
{
    printf ("usage: recovery [OPTION]...\n"
            "How long it takes after a fault of the network until envelopes arrive again.\n"
            "Two servers, default options, reach each other through a proxy that fails on\n"
            "purpose: resets, half-open connections, black holes, refusals, garbage, another\n"
            "service. The time runs from the end of the fault until an envelope that was sent\n"
            "then has arrived each way. Number, order and content of all are checked.\n"
            "\n"
            "  --rounds N        rounds of each kind of fault (10)\n"
            "  --seed N          of the proxy, and of how long the faults last (1)\n"
            "  --together N      kinds that run side by side, 1 to 8 (8)\n"
            "  --fault NAME      only kinds whose name begins so (all)\n"
            "  --csv FILE        write the figures of every round\n"
            "  --require-ms N    exit with 3 if any round took longer, acked; 0: never (0)\n"
            "  --help            this text\n"
            "\n"
            "\"acked\": until both servers have heard that everything has arrived.\n"
            "\"lasts ms\" 0: over at once, or when the first bytes were lost; otherwise up to\n"
            "1000 more, drawn. Exit status: 0 measured, 1 failed, 2 wrong usage, 3 above\n"
            "--require-ms.\n");
}

static bool take_option (void *asked, const char *name, const char *value)
{
    options_t *options = asked;
    if (strcmp (name, "rounds") == 0)
        return bench_parse_count (name, value, 1, BENCH_ROUNDS_MAX, &options->rounds);
    if (strcmp (name, "seed") == 0)
        return bench_parse_count (name, value, 0, UINT64_MAX, &options->seed);
    if (strcmp (name, "together") == 0)
        return bench_parse_count (name, value, 1, BENCH_CHILDREN_MAX, &options->together);
    if (strcmp (name, "require-ms") == 0)
        return bench_parse_count (name, value, 0, 3600000, &options->require_ms);
    options->fault = value;
    if (choose (options, (const kind_t *[KINDS]){NULL}) > 0)
        return true;
    fprintf (stderr, "--fault: there is no kind that begins with \"%s\"\n", value);
    return false;
}

int main (int argc, char **argv)
{
    static const bench_program_t program = {.options = {"rounds", "seed", "together", "fault", "require-ms"},
                                            .help = print_help,
                                            .take = take_option,
                                            .run = bench};
    options_t options = {.rounds = 10, .seed = 1, .together = BENCH_CHILDREN_MAX};
    return bench_main (argc, argv, &program, &options);
}
