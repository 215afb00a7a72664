/*
 * report.c - see report.h.
 */
#include "bench/report.h"

#include "bench/bench.h"

#include <string.h>

enum { NUMBER_CHARS = 24, SPREAD_CHARS = 48 };

/* Median, least and most of a figure or of its ratio. */
typedef struct {
    double median, least, most;
} spread_t;

static spread_t spread_of (const double *values, size_t count)
{
    return (spread_t){bench_median (values, count), bench_least (values, count), bench_most (values, count)};
}

/* Round by round; all 0 without a yardstick. */
static spread_t ratios_of (const bench_figure_t *figure)
{
    double ratios[BENCH_ROUNDS_MAX];
    size_t count = 0;
    for (size_t i = 0; figure->against && i < figure->rounds && count < BENCH_ROUNDS_MAX; i++)
        if (figure->against[i] > 0)
            ratios[count++] = figure->values[i] / figure->against[i];
    return spread_of (ratios, count);
}

/* Four figures or so, without an exponent. */
static const char *number (char text[NUMBER_CHARS], double value)
{
    int decimals = value >= 1000 ? 0 : value >= 100 ? 1 : value >= 1 ? 2 : 4;
    snprintf (text, NUMBER_CHARS, "%.*f", decimals, value);
    return text;
}

static void print_row (const char *const cells[])
{
    static const int chars[] = {-9, -12, -18, 12, 12, 12, 20, -12, 8, 8, -1};
    for (size_t i = 0; i < sizeof chars / sizeof *chars; i++)
        printf ("| %*s ", chars[i], cells[i]);
    printf ("|\n");
    fflush (stdout);
}

void bench_report_head (const char *title)
{
    static const char *const head[] = {"parameter", "metric", "contestant", "median", "least", "most",
                                       "ratio",     "to",     "CPU s",      "MiB",    "note"};
    printf ("\n### %s\n\n", title);
    print_row (head);
    printf ("|-----------|--------------|--------------------|-------------:|-------------:|-------------:"
            "|---------------------:|--------------|---------:|---------:|---|\n");
}

static void print_figure (const bench_figure_t *figure, const spread_t *values, const spread_t *ratios)
{
    char median[NUMBER_CHARS], least[NUMBER_CHARS], most[NUMBER_CHARS], ratio[SPREAD_CHARS] = "";
    char cpu[NUMBER_CHARS] = "", peak[NUMBER_CHARS] = "";
    const char *const cells[] = {figure->parameter,
                                 figure->metric,
                                 figure->contestant,
                                 number (median, values->median),
                                 number (least, values->least),
                                 number (most, values->most),
                                 ratio,
                                 figure->against ? figure->against_name : "",
                                 cpu,
                                 peak,
                                 figure->note ? figure->note : ""};
    if (figure->against)
        snprintf (ratio, sizeof ratio, ratios->most < 100 ? "%.2f (%.2f-%.2f)" : "%.0f (%.0f-%.0f)", ratios->median,
                  ratios->least, ratios->most);
    if (figure->cpu_s >= 0)
        snprintf (cpu, sizeof cpu, "%.3f", figure->cpu_s);
    if (figure->peak_kib >= 0)
        snprintf (peak, sizeof peak, "%.1f", (double) figure->peak_kib / 1024);
    print_row (cells);
}

/* A text as a field: in quotes, which none of ours contains. */
static void put_text (FILE *csv, const char *text)
{
    fprintf (csv, "\"%s\",", text ? text : "");
}

static void put_spread (FILE *csv, const spread_t *spread)
{
    fprintf (csv, "%.6g,%.6g,%.6g,", spread->median, spread->least, spread->most);
}

static void write_line (FILE *csv, const bench_figure_t *figure, const spread_t *values, const spread_t *ratios)
{
    if (ftell (csv) == 0)
        fprintf (csv, "workload,parameter,x,contestant,metric,better,rounds,median,least,most,against,ratio,"
                      "ratio_least,ratio_most,cpu_s,peak_kib,note\n");
    put_text (csv, figure->workload);
    put_text (csv, figure->parameter);
    fprintf (csv, "%.10g,", figure->x);
    put_text (csv, figure->contestant);
    put_text (csv, figure->metric);
    fprintf (csv, "%s,%zu,", figure->lower_is_better ? "lower" : "higher", figure->rounds);
    put_spread (csv, values);
    put_text (csv, figure->against ? figure->against_name : NULL);
    if (figure->against)
        put_spread (csv, ratios);
    else
        fprintf (csv, ",,,");
    if (figure->cpu_s >= 0)
        fprintf (csv, "%.6f", figure->cpu_s);
    fprintf (csv, ",");
    if (figure->peak_kib >= 0)
        fprintf (csv, "%ld", figure->peak_kib);
    fprintf (csv, ",\"%s\"\n", figure->note ? figure->note : "");
    fflush (csv);
}

void bench_report_figure (FILE *csv, const bench_figure_t *figure)
{
    spread_t values = spread_of (figure->values, figure->rounds);
    spread_t ratios = ratios_of (figure);
    bench_progress ("%s", "");
    print_figure (figure, &values, &ratios);
    if (csv)
        write_line (csv, figure, &values, &ratios);
}

void bench_report_skipped (const char *contestant, const char *why)
{
    char note[BENCH_TEXT_BYTES];
    const char *const cells[] = {"", "", contestant, "", "", "", "", "", "", "", note};
    snprintf (note, sizeof note, "skipped: %s", why);
    bench_progress ("%s", "");
    print_row (cells);
}
