/*
 * main.c - runs simulated worlds, one per seed. See sim.h.
 *
 *   sim [--seeds FROM-TO | --seed N | --quick] [--events M] [--quiet]
 *
 * A failing seed is printed; --seed N runs that one alone and tells its story.
 * Else there are 20,000 of them, or 2,000 with --quick, divided by
 * CTALK_TEST_SCALE. CTALK_SIM_SEED=n in the environment is --seed n.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim.h"
#include "tests/support/scale.h"

enum {
    SEEDS = 20000,
    QUICK_SEEDS = 2000,
    EVENTS = 2000,
    ALL_SITES = 10000 /* in so many worlds each site is hit */
};

typedef struct {
    uint64_t from, to, events;
    bool aloud, quiet;
} options_t;

static _Noreturn void usage (void)
{
    (void) fprintf (stderr, "usage: sim [--seeds FROM-TO | --seed N | --quick] [--events M] [--quiet]\n");
    exit (2);
}

static uint64_t number_of (const char *text, char **end)
{
    uint64_t number = text ? strtoull (text, end, 10) : 0;
    if (!text || *end == text)
        usage ();
    return number;
}

static void one_seed (options_t *options, const char *text)
{
    char *end;
    options->from = options->to = number_of (text, &end);
    options->aloud = true;
}

static void range_of (options_t *options, const char *text)
{
    char *end;
    options->from = number_of (text, &end);
    if (*end != '-')
        usage ();
    options->to = number_of (end + 1, &end);
}

static void read_options (options_t *options, int argc, char **argv)
{
    char *end;
    for (int i = 1; i < argc; i++) {
        if (strcmp (argv[i], "--seeds") == 0)
            range_of (options, argv[++i]);
        else if (strcmp (argv[i], "--seed") == 0)
            one_seed (options, argv[++i]);
        else if (strcmp (argv[i], "--events") == 0)
            options->events = number_of (argv[++i], &end);
        else if (strcmp (argv[i], "--quick") == 0)
            options->to = ctki_test_count (QUICK_SEEDS);
        else if (strcmp (argv[i], "--quiet") == 0)
            options->quiet = true;
        else
            usage ();
    }
}

#define SIM_WORDS(name, words) words,
static const char *const site_words[] = {SIM_TROUBLES (SIM_WORDS) SIM_SITES (SIM_WORDS)};
static const char *const deed_words[] = {SIM_DEEDS (SIM_WORDS)};
#undef SIM_WORDS

static void print_histogram (void)
{
    printf ("  what went wrong\n");
    for (unsigned i = 0; i < SIM_SITE_KINDS; i++)
        printf ("  %12" PRIu64 "  %s\n", sim_totals.site[i], site_words[i]);
    printf ("  what the protocol did\n");
    for (unsigned i = 0; i < SIM_DEED_KINDS; i++)
        printf ("  %12" PRIu64 "  %s\n", sim_totals.deed[i], deed_words[i]);
}

static unsigned print_what_was_missed (void)
{
    unsigned missed = 0;
    for (unsigned i = 0; i < SIM_SITE_KINDS; i++) {
        if (sim_totals.site[i] == 0) {
            missed++;
            printf ("  never hit: %s\n", site_words[i]);
        }
    }
    for (unsigned i = 0; i < SIM_DEED_KINDS; i++) {
        if (sim_totals.deed[i] == 0) {
            missed++;
            printf ("  never done: %s\n", deed_words[i]);
        }
    }
    return missed;
}

static void print_totals (void)
{
    ctki_test_figure ("worlds, events", "%" PRIu64 ", %" PRIu64 " (%.1f virtual hours)", sim_totals.seeds,
                      sim_totals.events, (double) sim_totals.virtual_us / 3.6e9);
    ctki_test_figure ("envelopes accepted",
                      "%" PRIu64 ", delivered %" PRIu64 ", abandoned %" PRIu64 " (in doubt %" PRIu64 ")",
                      sim_totals.accepted, sim_totals.delivered, sim_totals.abandoned, sim_totals.in_doubt);
    ctki_test_figure ("longest until all arrived", "%.3f virtual s after all was well (seed %" PRIu64 ")",
                      (double) sim_totals.drain_worst_us / 1e6, sim_totals.drain_worst_seed);
}

int main (int argc, char **argv)
{
    options_t options = {.from = 1, .to = ctki_test_count (SEEDS), .events = EVENTS};
    read_options (&options, argc, argv);
    if (getenv ("CTALK_SIM_SEED"))
        one_seed (&options, getenv ("CTALK_SIM_SEED"));
    sim_catch_aborts ();
    for (uint64_t seed = options.from; seed <= options.to; seed++) {
        sim_world_run (seed, options.events, options.aloud);
        ctki_test_progress ("worlds", seed - options.from + 1, options.to - options.from + 1);
    }
    ctki_test_progress ("", 0, 0);
    if (!options.quiet)
        print_histogram ();
    print_totals ();
    printf ("ok 1 - the simulated worlds hold what is promised\n");
    if (sim_totals.seeds < ALL_SITES)
        return EXIT_SUCCESS;
    bool all = print_what_was_missed () == 0;
    printf ("%sok 2 - everything that can go wrong did\n", all ? "" : "not ");
    return all ? EXIT_SUCCESS : EXIT_FAILURE;
}
