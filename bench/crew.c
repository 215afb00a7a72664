/*
 * crew.c - the processes of a turn, the rounds, the table of figures.
 */
#include "bench/crew.h"

#include "bench/report.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <zmq.h>

enum {
    LEAD_MS = 3 /* from telling the processes to begin to the begin */
};

/* Beside the metrics of the workload. */
enum { OWN_CPU, OWN_PEAK, OWN_METRICS };

struct crew_table {
    const crew_workload_t *workload;
    bool *failed;   /* [case][contestant] */
    double *values; /* [case][contestant][metric][round] */
};

/* ------------------------------------------------------------- in a process */

int crew_fail (crew_member_t *member, const char *what)
{
    snprintf (member->error, sizeof member->error, "%s: %s", what, zmq_strerror (errno));
    return -1;
}

int crew_fail_content (crew_member_t *member, const char *where, const void *data, size_t size, uint64_t number)
{
    int used = snprintf (member->error, sizeof member->error, "%s: ", where);
    bench_describe (member->error + used, sizeof member->error - (size_t) used, data, size, number);
    return -1;
}

static void sleep_until (uint64_t until_ns)
{
    struct timespec until = {.tv_sec = (time_t) (until_ns / UINT64_C (1000000000)),
                             .tv_nsec = (long) (until_ns % UINT64_C (1000000000))};
    while (clock_nanosleep (CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
    }
}

/* What a child is given. */
typedef struct {
    const crew_workload_t *workload;
    const crew_contestant_t *contestant;
    const crew_case_t *at_case;
    void *shared;
    int self;
} turn_t;

static size_t count_steps (const crew_contestant_t *contestant)
{
    size_t count = 0;
    while (count < CREW_STEPS_MAX && contestant->step[count])
        count++;
    return count;
}

/* The notes of a child after each step: [0] begin and [1] end of the timed one,
 * [2] processor time, right from the step after it on. The parent's: [0] when to begin. */
static int take_steps (int fd, const turn_t *turn, crew_member_t *member)
{
    const size_t timed = turn->workload->timed, steps = count_steps (turn->contestant);
    bench_note_t note, told = {0};
    uint64_t cpu_ns = 0;
    for (size_t i = 0; i < steps; i++) {
        if (bench_listen (fd, &note) != 0)
            return -1;
        if (i == timed + 1)
            told.number[2] = bench_cpu_ns () - cpu_ns;
        if (i == timed) {
            sleep_until (note.number[0]);
            cpu_ns = bench_cpu_ns ();
            told.number[0] = bench_now_ns ();
        }
        if (turn->contestant->step[i](member) != 0)
            return -1;
        if (i == timed)
            told.number[1] = member->end_ns ? member->end_ns : bench_now_ns ();
        if (bench_tell (fd, &told) != 0)
            return -1;
    }
    return bench_listen (fd, &note); /* none ends before all are through */
}

static int member_body (int fd, void *arg)
{
    const turn_t *turn = arg;
    crew_member_t member = {.self = turn->self,
                            .task = turn->at_case->task,
                            .way = turn->contestant->way,
                            .shared = turn->shared,
                            .error = "the parent has ended"};
    return take_steps (fd, turn, &member) == 0 ? 0 : bench_fail (fd, "%s", member.error);
}

/* ------------------------------------------------------------------- a turn */

/* A turn, on the parent's side. */
typedef struct {
    bench_group_t group;
    turn_t turns[BENCH_CHILDREN_MAX];
    uint64_t round, deadline_ns;
} play_t;

static int start_children (play_t *play, const turn_t *turn)
{
    for (size_t i = 0; i < turn->workload->processes; i++) {
        play->turns[i] = *turn;
        play->turns[i].self = (int) i;
        if (bench_start (&play->group, turn->workload->process_names[i], member_body, &play->turns[i]) < 0)
            return -1;
    }
    return 0;
}

/* To begin with the next step, or to end. */
static int tell_all (play_t *play)
{
    const bench_note_t begin = {.number = {bench_now_ns () + LEAD_MS * UINT64_C (1000000)}};
    for (size_t i = 0; i < play->group.count; i++)
        if (bench_tell (play->group.child[i].fd, &begin) != 0 && bench_any_failed (&play->group))
            return -1;
    return 0;
}

/* One step of all; notes: what each said after it. */
static int lead_step (play_t *play, bench_note_t *notes)
{
    if (tell_all (play) != 0)
        return -1;
    for (size_t i = 0; i < play->group.count; i++)
        if (bench_hear (&play->group, (int) i, &notes[i], play->deadline_ns, NULL, NULL) != 0)
            return -1;
    return 0;
}

static int lead_turn (play_t *play, const turn_t *turn, crew_cost_t *cost)
{
    bench_note_t notes[BENCH_CHILDREN_MAX] = {{.failed = false}};
    const size_t steps = count_steps (turn->contestant);
    uint64_t begin_ns = UINT64_MAX, end_ns = 0;
    if (start_children (play, turn) != 0)
        return -1;
    for (size_t i = 0; i < steps; i++)
        if (lead_step (play, notes) != 0)
            return -1;
    if (tell_all (play) != 0 || bench_join (&play->group, play->group.count, play->deadline_ns) != 0)
        return -1;
    *cost = (crew_cost_t){0};
    for (size_t i = 0; i < play->group.count; i++) {
        begin_ns = notes[i].number[0] < begin_ns ? notes[i].number[0] : begin_ns;
        end_ns = notes[i].number[1] > end_ns ? notes[i].number[1] : end_ns;
        cost->cpu_s += (double) notes[i].number[2] / 1e9;
        cost->peak_kib += (double) play->group.child[i].peak_kib;
    }
    cost->seconds = (double) (end_ns - begin_ns) / 1e9;
    return 0;
}

static int run_turn (const turn_t *turn, uint64_t round, crew_cost_t *cost)
{
    play_t play = {.round = round, .deadline_ns = bench_now_ns () + turn->workload->deadline_s * UINT64_C (1000000000)};
    memset (turn->shared, 0, turn->workload->shared_bytes);
    bench_progress ("round %" PRIu64 "/%" PRIu64 "  %s, %s", round, turn->workload->rounds, turn->at_case->name,
                    turn->contestant->name);
    int result = lead_turn (&play, turn, cost);
    bench_progress ("%s", "");
    if (result != 0)
        fprintf (stderr, "round %" PRIu64 ", %s, %s: failed\n", round, turn->at_case->name, turn->contestant->name);
    bench_kill (&play.group);
    return result;
}

/* ---------------------------------------------------------------- the table */

static size_t metrics_of (const crew_workload_t *workload)
{
    return workload->metric_count + OWN_METRICS;
}

static double *row_of (const crew_table_t *table, size_t at_case, size_t contestant, size_t metric)
{
    const crew_workload_t *workload = table->workload;
    size_t row = (at_case * workload->contestant_count + contestant) * metrics_of (workload) + metric;
    return &table->values[row * workload->rounds];
}

static bool *failed_of (const crew_table_t *table, size_t at_case, size_t contestant)
{
    return &table->failed[at_case * table->workload->contestant_count + contestant];
}

/* Whether a name is one of those in a list with commas. */
static bool is_listed (const char *list, const char *name)
{
    const size_t length = strlen (name);
    for (const char *at = list; at; at = strchr (at, ',') ? strchr (at, ',') + 1 : NULL)
        if (strcspn (at, ",") == length && strncmp (at, name, length) == 0)
            return true;
    return false;
}

static bool is_chosen (const crew_workload_t *workload, size_t contestant)
{
    return !workload->only || is_listed (workload->only, workload->contestants[contestant].name);
}

/* Whether a contestant has figures for this case. */
static bool takes_part (const crew_table_t *table, size_t at_case, size_t contestant)
{
    return is_chosen (table->workload, contestant) && !*failed_of (table, at_case, contestant);
}

const double *crew_values (const crew_table_t *table, size_t at_case, size_t contestant, size_t metric)
{
    return takes_part (table, at_case, contestant) ? row_of (table, at_case, contestant, metric) : NULL;
}

static crew_table_t *new_table (const crew_workload_t *workload)
{
    const size_t rows = workload->case_count * workload->contestant_count;
    crew_table_t *table = calloc (1, sizeof *table);
    if (!table)
        return NULL;
    table->workload = workload;
    table->failed = calloc (rows, sizeof *table->failed);
    table->values = calloc (rows * metrics_of (workload) * workload->rounds, sizeof *table->values);
    if (!table->failed || !table->values)
        crew_destroy (&table);
    return table;
}

void crew_destroy (crew_table_t **table_p)
{
    if (!*table_p)
        return;
    free ((*table_p)->failed);
    free ((*table_p)->values);
    free (*table_p);
    *table_p = NULL;
}

/* --------------------------------------------------------------- the rounds */

static int take_turn (crew_table_t *table, size_t at_case, size_t contestant, uint64_t round, void *shared)
{
    const crew_workload_t *workload = table->workload;
    const turn_t turn = {.workload = workload,
                         .contestant = &workload->contestants[contestant],
                         .at_case = &workload->cases[at_case],
                         .shared = shared};
    bool *failed = failed_of (table, at_case, contestant);
    crew_cost_t cost;
    double figures[CREW_METRICS_MAX] = {0};
    if (!takes_part (table, at_case, contestant))
        return 0;
    if (run_turn (&turn, round, &cost) != 0) {
        *failed = turn.contestant->may_fail;
        return *failed ? 0 : -1;
    }
    workload->figures (turn.at_case->task, shared, &cost, figures);
    for (size_t i = 0; i < workload->metric_count; i++)
        row_of (table, at_case, contestant, i)[round - 1] = figures[i];
    row_of (table, at_case, contestant, workload->metric_count + OWN_CPU)[round - 1] = cost.cpu_s;
    row_of (table, at_case, contestant, workload->metric_count + OWN_PEAK)[round - 1] = cost.peak_kib;
    return 0;
}

static int take_turns (crew_table_t *table, void *shared)
{
    const crew_workload_t *workload = table->workload;
    for (uint64_t round = 1; round <= workload->rounds; round++)
        for (size_t at_case = 0; at_case < workload->case_count; at_case++)
            for (size_t i = 0; i < workload->contestant_count; i++) {
                size_t who = (i + (size_t) round - 1) % workload->contestant_count;
                if (take_turn (table, at_case, who, round, shared) != 0)
                    return -1;
            }
    return 0;
}

crew_table_t *crew_play (const crew_workload_t *workload)
{
    void *shared = bench_shared (workload->shared_bytes);
    crew_table_t *table = shared ? new_table (workload) : NULL;
    if (table && take_turns (table, shared) != 0)
        crew_destroy (&table);
    if (shared)
        munmap (shared, workload->shared_bytes);
    return table;
}

/* --------------------------------------------------------------- the report */

/* A metric of a contestant, beside that of another one (none: against itself). */
static void report_one (const crew_table_t *table, FILE *csv, size_t at_case, size_t contestant, size_t against,
                        size_t metric)
{
    const crew_workload_t *workload = table->workload;
    const bench_figure_t figure = {
        .workload = workload->name,
        .parameter = workload->cases[at_case].name,
        .x = workload->cases[at_case].x,
        .contestant = workload->contestants[contestant].name,
        .metric = workload->metrics[metric].name,
        .lower_is_better = workload->metrics[metric].lower_is_better,
        .values = row_of (table, at_case, contestant, metric),
        .rounds = (size_t) workload->rounds,
        .against = against == contestant ? NULL : row_of (table, at_case, against, metric),
        .against_name = against == contestant ? NULL : workload->contestants[against].name,
        .cpu_s = bench_median (row_of (table, at_case, contestant, workload->metric_count + OWN_CPU),
                               (size_t) workload->rounds),
        .peak_kib = (long) bench_median (row_of (table, at_case, contestant, workload->metric_count + OWN_PEAK),
                                         (size_t) workload->rounds),
        .note = workload->contestants[contestant].note};
    bench_report_figure (csv, &figure);
}

static bool has_figure (const crew_table_t *table, size_t at_case, size_t contestant, size_t metric)
{
    return takes_part (table, at_case, contestant) && !isnan (row_of (table, at_case, contestant, metric)[0]);
}

/* ClusterTalk's once for each yardstick, those of the yardsticks alone. */
static void report_contestant (const crew_table_t *table, FILE *csv, size_t at_case, size_t contestant, size_t metric)
{
    const crew_workload_t *workload = table->workload;
    bool compared = false;
    if (!has_figure (table, at_case, contestant, metric))
        return;
    for (size_t other = workload->own_count; contestant < workload->own_count && other < workload->contestant_count;
         other++) {
        if (workload->metrics[metric].alone || !has_figure (table, at_case, other, metric))
            continue;
        report_one (table, csv, at_case, contestant, other, metric);
        compared = true;
    }
    if (!compared)
        report_one (table, csv, at_case, contestant, contestant, metric);
}

static void report_failures (const crew_table_t *table)
{
    const crew_workload_t *workload = table->workload;
    for (size_t at_case = 0; at_case < workload->case_count; at_case++)
        for (size_t i = 0; i < workload->contestant_count; i++)
            if (*failed_of (table, at_case, i)) {
                char why[BENCH_TEXT_BYTES];
                snprintf (why, sizeof why, "%s: it failed", workload->cases[at_case].name);
                bench_report_skipped (workload->contestants[i].name, why);
            }
}

void crew_report (const crew_table_t *table, FILE *csv)
{
    const crew_workload_t *workload = table->workload;
    bench_report_head (workload->title);
    for (size_t at_case = 0; at_case < workload->case_count; at_case++)
        for (size_t metric = 0; metric < workload->metric_count; metric++)
            for (size_t i = 0; i < workload->contestant_count; i++)
                report_contestant (table, csv, at_case, i, metric);
    report_failures (table);
}

bool crew_choose (const char *option, const char *text, const crew_contestant_t *contestants, size_t count,
                  const char **only)
{
    for (const char *name = text;; name += strcspn (name, ",") + 1) {
        const size_t length = strcspn (name, ",");
        bool known = false;
        for (size_t i = 0; i < count; i++)
            known =
                known || (strlen (contestants[i].name) == length && memcmp (contestants[i].name, name, length) == 0);
        if (!known) {
            fprintf (stderr, "--%s: there is no \"%.*s\" here; see --help\n", option, (int) length, name);
            return false;
        }
        if (name[length] == '\0')
            break;
    }
    *only = text;
    return true;
}

int crew_bench (const crew_workload_t *workload, FILE *csv)
{
    bench_print_machine ();
    crew_table_t *table = crew_play (workload);
    if (!table)
        return EXIT_FAILURE;
    crew_report (table, csv);
    crew_destroy (&table);
    return EXIT_SUCCESS;
}
