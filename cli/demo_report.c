/*
 * demo_report.c - what the demo shows: progress while it runs, on a terminal
 * only, a line per round, and the table. It owns the figures as last heard.
 */
#include "cli/cli.h"
#include "cli/demo.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

enum {
    SHOW_MS = 100,    /* between two lines of progress */
    LINE_COLUMNS = 60 /* of a line of progress */
};

static const char *const round_names[] = {
    [DEMO_POINT_TO_POINT] = "point to point", [DEMO_BROADCAST] = "broadcast", [DEMO_RING] = "ring"};

void demo_report_init (demo_report_t *report, const demo_plan_t *plan)
{
    *report = (demo_report_t){.plan = plan, .shows_progress = isatty (STDERR_FILENO) == 1};
}

static uint64_t sum_received (const demo_report_t *report)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < report->plan->servers; i++)
        sum += report->counts[i].received;
    return sum;
}

uint64_t demo_report_moved (const demo_report_t *report)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < report->plan->servers; i++)
        sum += report->counts[i].sent + report->counts[i].received;
    return sum;
}

static void print_heading (const demo_plan_t *plan)
{
    printf ("%zu servers in %zu processes, %s%s\n", plan->servers, plan->servers, plan->name ? "config " : "",
            plan->name ? plan->name : "ports chosen by the system");
    printf ("%" PRIu64 " lines to carry (%" PRIu64 " lines, %" PRIu64 " time%s)\n\n", plan->text.total,
            plan->text.count, plan->text.repeat, plan->text.repeat == 1 ? "" : "s");
    fflush (stdout);
}

void demo_report_start (demo_report_t *report, demo_round_t round)
{
    if (!report->started)
        print_heading (report->plan);
    report->started = true;
    report->running = true;
    report->round = round;
    report->received_before = sum_received (report);
    report->round_start_ns = cli_now_ns ();
}

void demo_report_clear (demo_report_t *report)
{
    if (report->shown_ms)
        fprintf (stderr, "\r%*s\r", LINE_COLUMNS, "");
    report->shown_ms = 0;
}

void demo_report_progress (demo_report_t *report)
{
    int64_t now_ms = cli_now_ms ();
    if (!report->shows_progress || !report->running || now_ms - report->shown_ms < SHOW_MS)
        return;
    uint64_t all = demo_plan_deliveries (report->plan, report->round);
    uint64_t received = sum_received (report) - report->received_before;
    fprintf (stderr, "\r%-15s %3" PRIu64 " %%  %" PRIu64 " of %" PRIu64 " ", round_names[report->round],
             all ? received * 100 / all : 100, received, all);
    report->shown_ms = now_ms;
}

static double per_second (uint64_t count, int64_t ns)
{
    return ns > 0 ? (double) count * 1e9 / (double) ns : 0.0;
}

void demo_report_end (demo_report_t *report)
{
    int64_t ns = cli_now_ns () - report->round_start_ns;
    uint64_t received = sum_received (report) - report->received_before;
    report->running = false;
    demo_report_clear (report);
    printf ("%-15s %12" PRIu64 " envelopes in %7.2f s, %10.0f a second\n", round_names[report->round], received,
            (double) ns / 1e9, per_second (received, ns));
    fflush (stdout);
}

static void print_row (const char *name, const demo_counts_t *counts, int64_t busy_ns, const char *remark)
{
    printf ("%6s %12" PRIu64 " %12" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %12.0f%s\n", name, counts->sent,
            counts->received, counts->missing, counts->duplicated, counts->changed,
            per_second (counts->sent + counts->received, busy_ns), remark);
}

static void add (demo_counts_t *sum, const demo_counts_t *counts)
{
    sum->sent += counts->sent;
    sum->received += counts->received;
    sum->missing += counts->missing;
    sum->duplicated += counts->duplicated;
    sum->changed += counts->changed;
    if (counts->busy_ns > sum->busy_ns)
        sum->busy_ns = counts->busy_ns;
}

static bool is_clean (const demo_counts_t *sum)
{
    return sum->sent == sum->received && sum->missing == 0 && sum->duplicated == 0 && sum->changed == 0;
}

bool demo_report_table (const demo_report_t *report, bool ended)
{
    demo_counts_t all = {0};
    printf ("\n%6s %12s %12s %10s %10s %10s %12s\n", "server", "sent", "received", "missing", "duplicated", "changed",
            "envelopes/s");
    for (size_t i = 0; i < report->plan->servers; i++) {
        const demo_counts_t *counts = &report->counts[i];
        char name[16];
        snprintf (name, sizeof name, "%d", (int) report->plan->pids[i]);
        print_row (name, counts, counts->busy_ns, report->lost[i] ? "  (as last heard)" : "");
        add (&all, counts);
    }
    print_row ("all", &all, all.busy_ns, "");
    bool well = ended && is_clean (&all);
    printf ("\n%s\n",
            well ? "All is well: every line came to every receiver once, in order and unchanged." : "All is not well.");
    return well;
}
