/*
 * pair.c - see pair.h.
 *
 * How many messages take a given time is found by turns that do not count, and
 * then followed from round to round.
 */
#include "bench/pair.h"

#include "bench/report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <zmq.h>

enum {
    TRIALS = 3,             /* turns to find a count, at most */
    TRIAL_COUNT = 5000,     /* messages of the first, at most ... */
    TRIAL_BYTES = 40 << 20, /* ... or bytes */
    TRIAL_LEAST = 4,        /* ... and at least */
    TRIAL_ENOUGH = 8        /* a turn that took this part of the time aimed at says enough */
};

/* ----------------------------------------------------------- for contestants */

int bench_pair_fail (bench_end_t *end, const char *what)
{
    snprintf (end->error, sizeof end->error, "%s: %s", what, zmq_strerror (errno));
    return -1;
}

int bench_pair_check (bench_end_t *end, const void *data, size_t size, uint64_t number)
{
    if (size == end->size && bench_check (data, size, number))
        return 0;
    bench_describe (end->error, sizeof end->error, data, size, number);
    return -1;
}

void bench_pair_size_text (char *text, size_t capacity, size_t size)
{
    if (size >= 1000000 && size % 1000000 == 0)
        snprintf (text, capacity, "%zu MB", size / 1000000);
    else if (size >= 1 << 20 && size % (1 << 20) == 0)
        snprintf (text, capacity, "%zu MiB", size >> 20);
    else if (size >= 1 << 10 && size % (1 << 10) == 0)
        snprintf (text, capacity, "%zu KiB", size >> 10);
    else
        snprintf (text, capacity, "%zu B", size);
}

/* ------------------------------------------------- the processes of a turn */

/* Notes of a child, in this order: its endpoint; the puller: warmed up; when
 * told so its figures: [0] a time, [1] processor time. The parent tells it the
 * other's endpoint, the pusher to go and to stop counting, both to close. */

/* Opens this end and joins it with the other. */
static int set_up (int fd, const bench_turn_t *turn, bench_end_t *end)
{
    bench_note_t note = {0};
    end->contestant = turn->contestant;
    end->size = turn->size;
    end->threads = turn->threads;
    end->done = turn->done;
    end->listener = end->stream = -1;
    end->payload = calloc (1, end->size);
    if (!end->payload)
        return bench_pair_fail (end, "calloc");
    if (turn->contestant->open (end, note.text, sizeof note.text) != 0 || bench_tell (fd, &note) != 0)
        return -1;
    if (bench_listen (fd, &note) != 0)
        return -1;
    return turn->contestant->join (end, note.text);
}

static int tell_figures (int fd, uint64_t time_ns, uint64_t cpu_ns)
{
    bench_note_t note = {.number = {time_ns, cpu_ns}};
    return bench_tell (fd, &note);
}

static int close_when_told (int fd, const bench_turn_t *turn, bench_end_t *end)
{
    bench_note_t note;
    if (bench_listen (fd, &note) != 0)
        return -1;
    free (end->payload);
    return turn->contestant->close (end);
}

static int push_all (int fd, const bench_turn_t *turn, bench_end_t *end)
{
    bench_note_t note;
    if (set_up (fd, turn, end) != 0 || turn->contestant->push (end, 0, turn->warmup) != 0
        || bench_listen (fd, &note) != 0)
        return -1;
    end->samples_ns = turn->samples_ns;
    uint64_t cpu_ns = bench_cpu_ns ();
    uint64_t start_ns = bench_now_ns ();
    if (turn->contestant->push (end, turn->warmup, turn->count) != 0 || bench_listen (fd, &note) != 0)
        return -1;
    if (tell_figures (fd, start_ns, bench_cpu_ns () - cpu_ns) != 0)
        return -1;
    return close_when_told (fd, turn, end);
}

static int pull_all (int fd, const bench_turn_t *turn, bench_end_t *end)
{
    if (set_up (fd, turn, end) != 0 || turn->contestant->pull (end, 0, turn->warmup) != 0)
        return -1;
    uint64_t cpu_ns = bench_cpu_ns ();
    if (tell_figures (fd, 0, 0) != 0 || turn->contestant->pull (end, turn->warmup, turn->count) != 0)
        return -1;
    uint64_t end_ns = bench_now_ns ();
    if (tell_figures (fd, end_ns, bench_cpu_ns () - cpu_ns) != 0)
        return -1;
    return close_when_told (fd, turn, end);
}

static int pusher_body (int fd, void *arg)
{
    bench_end_t end = {.pusher = true, .error = "the parent has ended"};
    return push_all (fd, arg, &end) == 0 ? 0 : bench_fail (fd, "%s", end.error);
}

static int puller_body (int fd, void *arg)
{
    bench_end_t end = {.error = "the parent has ended"};
    return pull_all (fd, arg, &end) == 0 ? 0 : bench_fail (fd, "%s", end.error);
}

/* -------------------------------------------------------------- the parent */

static void show_progress (void *arg)
{
    const bench_turn_t *turn = arg;
    bench_progress ("%s  %-12s %3.0f %%", turn->label ? turn->label : "", turn->contestant->name,
                    100.0 * (double) atomic_load (turn->done) / (double) turn->count);
}

/* Leads the two children of a turn from their endpoints to their figures. */
static int lead_turn (bench_group_t *group, int puller, int pusher, bench_turn_t *turn, bench_note_t *pulled,
                      bench_note_t *pushed)
{
    uint64_t deadline_ns = bench_now_ns () + turn->deadline_s * UINT64_C (1000000000);
    bench_note_t at_pusher, at_puller, warm, go = {0};
    if (bench_hear (group, puller, &at_puller, deadline_ns, NULL, NULL) != 0
        || bench_hear (group, pusher, &at_pusher, deadline_ns, NULL, NULL) != 0)
        return -1;
    bench_tell (group->child[puller].fd, &at_pusher);
    bench_tell (group->child[pusher].fd, &at_puller);
    if (bench_hear (group, puller, &warm, deadline_ns, show_progress, turn) != 0)
        return -1;
    bench_tell (group->child[pusher].fd, &go);
    if (bench_hear (group, puller, pulled, deadline_ns, show_progress, turn) != 0)
        return -1;
    bench_tell (group->child[pusher].fd, &go);
    if (bench_hear (group, pusher, pushed, deadline_ns, show_progress, turn) != 0)
        return -1;
    bench_tell (group->child[puller].fd, &go);
    bench_tell (group->child[pusher].fd, &go);
    return bench_join (group, group->count, deadline_ns);
}

int bench_pair_turn (const bench_turn_t *asked, bench_result_t *result)
{
    bench_group_t group = {0};
    bench_note_t pulled, pushed;
    bench_turn_t turn = *asked;
    atomic_store (turn.done, 0);
    int puller = bench_start (&group, "receiver", puller_body, &turn);
    int pusher = puller < 0 ? -1 : bench_start (&group, "sender", pusher_body, &turn);
    if (pusher < 0 || lead_turn (&group, puller, pusher, &turn, &pulled, &pushed) != 0) {
        fprintf (stderr, "%s, %s, %zu bytes: failed after at least %" PRIu64 " of %" PRIu64 " messages\n",
                 turn.label ? turn.label : "", turn.contestant->name, turn.size, atomic_load (turn.done), turn.count);
        bench_kill (&group);
        return -1;
    }
    result->seconds = (double) (pulled.number[0] - pushed.number[0]) / 1e9;
    result->rate = (double) turn.count / result->seconds;
    result->pusher_cpu_s = (double) pushed.number[1] / 1e9;
    result->puller_cpu_s = (double) pulled.number[1] / 1e9;
    result->pusher_peak_kib = group.child[pusher].peak_kib;
    result->puller_peak_kib = group.child[puller].peak_kib;
    return 0;
}

/* ------------------------------------------------------------- the contest */

bool bench_pair_takes_part (const bench_contest_t *contest, size_t contestant)
{
    const bench_contestant_t *who = contest->contestants[contestant];
    size_t size = contest->turn.size;
    return (!contest->chosen || contest->chosen[contestant]) && !who->absent && !contest->failed[contestant]
           && size >= who->least && (who->most == 0 || size <= who->most);
}

static uint64_t count_for (const bench_contest_t *contest, double rate)
{
    double count = rate * contest->seconds;
    if (count >= (double) contest->count_most)
        return contest->count_most;
    return count <= (double) contest->count_least ? contest->count_least : (uint64_t) count;
}

/* Finds how many messages of a contestant take the time of a turn. -1 after a message. */
static int find_count (const bench_contest_t *contest, bench_turn_t *turn)
{
    bench_result_t result;
    uint64_t count = TRIAL_BYTES / turn->size;
    turn->label = "trial";
    turn->count = count > TRIAL_COUNT ? TRIAL_COUNT : count < TRIAL_LEAST ? TRIAL_LEAST : count;
    if (turn->count > contest->count_most)
        turn->count = contest->count_most;
    for (int i = 0; i < TRIALS; i++) {
        if (bench_pair_turn (turn, &result) != 0)
            return -1;
        turn->count = count_for (contest, result.rate);
        if (result.seconds >= contest->seconds / TRIAL_ENOUGH)
            break;
    }
    return 0;
}

static int run_turn (bench_contest_t *contest, size_t who, uint64_t round, uint64_t *count)
{
    char label[BENCH_TEXT_BYTES];
    bench_turn_t turn = contest->turn;
    bench_result_t *result = &contest->results[who][round - 1];
    turn.contestant = contest->contestants[who];
    bool found = contest->count == 0 || turn.contestant->slow;
    if (found && *count == 0) {
        if (find_count (contest, &turn) != 0)
            return -1;
        *count = turn.count;
    }
    snprintf (label, sizeof label, "%s %s  round %" PRIu64 "/%" PRIu64, contest->workload, contest->parameter, round,
              contest->rounds);
    turn.label = label;
    turn.count = found && (contest->count == 0 || *count < contest->count) ? *count : contest->count;
    if (bench_pair_turn (&turn, result) != 0)
        return -1;
    *count = count_for (contest, result->rate);
    if (contest->measure)
        contest->measure (&turn, result);
    else
        result->metrics[0] = result->rate;
    return 0;
}

int bench_pair_contest (bench_contest_t *contest)
{
    uint64_t counts[BENCH_CONTESTANTS_MAX] = {0};
    for (uint64_t round = 1; round <= contest->rounds; round++)
        for (size_t i = 0; i < contest->contestant_count; i++) {
            size_t who = (i + (size_t) round - 1) % contest->contestant_count;
            if (!bench_pair_takes_part (contest, who) || run_turn (contest, who, round, &counts[who]) == 0)
                continue;
            if (!contest->contestants[who]->may_fail)
                return -1;
            contest->failed[who] = true;
        }
    bench_progress ("%s", "");
    return 0;
}

/* ---------------------------------------------------------------- reporting */

/* One metric of a contestant in all rounds. */
static void collect (double *values, const bench_contest_t *contest, size_t metric, size_t who)
{
    for (uint64_t i = 0; i < contest->rounds; i++)
        values[i] = contest->results[who][i].metrics[metric];
}

/* What a contestant's turns cost, medians: processor seconds in all and per message in ns, and peak memory. */
typedef struct {
    double cpu_s, each_ns, peak_kib;
} cost_t;

static cost_t cost_of (const bench_contest_t *contest, size_t who)
{
    double cpu_s[BENCH_ROUNDS_MAX], each_ns[BENCH_ROUNDS_MAX], peak_kib[BENCH_ROUNDS_MAX];
    for (uint64_t i = 0; i < contest->rounds; i++) {
        const bench_result_t *result = &contest->results[who][i];
        cpu_s[i] = result->pusher_cpu_s + result->puller_cpu_s;
        each_ns[i] = 1e9 * cpu_s[i] / (result->rate * result->seconds);
        peak_kib[i] = (double) (result->pusher_peak_kib > result->puller_peak_kib ? result->pusher_peak_kib
                                                                                  : result->puller_peak_kib);
    }
    return (cost_t){bench_median (cpu_s, contest->rounds), bench_median (each_ns, contest->rounds),
                    bench_median (peak_kib, contest->rounds)};
}

/* The row of a metric of a contestant, beside another's; what it cost stands in the rows of the first metric. */
static void report (const bench_contest_t *contest, FILE *csv, size_t metric, size_t who, size_t against)
{
    char note[BENCH_TEXT_BYTES] = "";
    double values[BENCH_ROUNDS_MAX], yardstick[BENCH_ROUNDS_MAX];
    bool compared = who != against && bench_pair_takes_part (contest, against);
    cost_t cost = cost_of (contest, who);
    collect (values, contest, metric, who);
    if (compared)
        collect (yardstick, contest, metric, against);
    if (metric == 0)
        snprintf (note, sizeof note, cost.each_ns < 10000 ? "%.0f ns CPU each" : "%.0f us CPU each",
                  cost.each_ns < 10000 ? cost.each_ns : cost.each_ns / 1000);
    bench_report_figure (csv, &(bench_figure_t){.workload = contest->workload,
                                                .parameter = contest->parameter,
                                                .x = contest->x,
                                                .contestant = contest->contestants[who]->name,
                                                .metric = contest->metrics[metric].name,
                                                .lower_is_better = contest->metrics[metric].lower_is_better,
                                                .values = values,
                                                .rounds = contest->rounds,
                                                .against = compared ? yardstick : NULL,
                                                .against_name = compared ? contest->contestants[against]->name : NULL,
                                                .cpu_s = metric == 0 ? cost.cpu_s : -1,
                                                .peak_kib = metric == 0 ? (long) cost.peak_kib : -1,
                                                .note = note});
}

static void report_metric (const bench_contest_t *contest, FILE *csv, size_t metric)
{
    for (size_t who = 0; who < contest->contestant_count; who++)
        if (bench_pair_takes_part (contest, who))
            report (contest, csv, metric, who, contest->yardstick);
    for (size_t i = 0; contest->metrics[metric].versus && i < contest->versus_count; i++) {
        const bench_versus_t *versus = &contest->versus[i];
        if (bench_pair_takes_part (contest, versus->who) && bench_pair_takes_part (contest, versus->against))
            report (contest, csv, metric, versus->who, versus->against);
    }
}

void bench_pair_report (const bench_contest_t *contest, const char *title, FILE *csv)
{
    bench_report_head (title);
    for (size_t metric = 0; metric < contest->metric_count; metric++)
        report_metric (contest, csv, metric);
    for (size_t who = 0; who < contest->contestant_count; who++) {
        const bench_contestant_t *contestant = contest->contestants[who];
        if (contest->chosen && !contest->chosen[who])
            continue;
        if (contestant->absent || contest->failed[who])
            bench_report_skipped (contestant->name, contestant->absent ? contestant->absent : "it failed");
    }
}

double bench_pair_ratio (const bench_contest_t *contest, size_t metric, size_t who, size_t against)
{
    double values[BENCH_ROUNDS_MAX], yardstick[BENCH_ROUNDS_MAX];
    if (!bench_pair_takes_part (contest, who) || !bench_pair_takes_part (contest, against))
        return 0;
    collect (values, contest, metric, who);
    collect (yardstick, contest, metric, against);
    for (uint64_t i = 0; i < contest->rounds; i++)
        values[i] = yardstick[i] > 0 ? values[i] / yardstick[i] : 0;
    return bench_median (values, contest->rounds);
}

/* ------------------------------------------------------------- command line */

/* Chooses the contestant with a name of so many characters. false: there is none. */
static bool choose_one (const char *name, size_t length, const bench_contestant_t *const *contestants, size_t count,
                        bool *chosen)
{
    for (size_t i = 0; i < count; i++)
        if (strlen (contestants[i]->name) == length && memcmp (contestants[i]->name, name, length) == 0)
            return chosen[i] = true;
    return false;
}

bool bench_pair_choose (const char *option, const char *text, const bench_contestant_t *const *contestants,
                        size_t count, bool *chosen)
{
    memset (chosen, 0, count * sizeof *chosen);
    for (const char *name = text;; name += strcspn (name, ",") + 1) {
        size_t length = strcspn (name, ",");
        if (!choose_one (name, length, contestants, count, chosen)) {
            fprintf (stderr, "--%s: there is no \"%.*s\" here; see --help\n", option, (int) length, name);
            return false;
        }
        if (name[length] == '\0')
            return true;
    }
}
