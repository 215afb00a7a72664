/*
 * world.c - the clock of a simulated world, and the order of events in it.
 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "src/mem.h"
#include "tests/sim/sim.h"

enum {
    KINDS_LEAST = 3,       /* of trouble that must have struck before the world is made whole */
    CHAOS_EVENTS_MAX = 20, /* times the events that are wanted */
    STOOD_MAX = 20000,     /* events without the clock moving: a busy loop */
    LOOK_EVERY = 32,       /* events, whether all has arrived */
    DRAIN_US = 15000000,   /* within so long, and a round trip for each envelope, everything has arrived */
    QUIET_US = 2000000,    /* nothing happens for so long, ... */
    QUIET_EVENTS = 60      /* ... and a session costs no more events a second */
};

sim_totals_t sim_totals;

static char last_words[160]; /* of the world that runs */
static size_t last_words_size;

/* ---- chance, story, failure */

uint64_t sim_chance (sim_world_t *w)
{
    w->random += UINT64_C (0x9e3779b97f4a7c15); /* splitmix64 */
    uint64_t z = w->random;
    z = (z ^ z >> 30) * UINT64_C (0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C (0x94d049bb133111eb);
    return z ^ z >> 31;
}

void sim_story (const sim_world_t *w, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    printf ("%10.3f ms ", (double) w->now_us / 1000);
    (void) vprintf (format, args);
    (void) putchar ('\n');
    va_end (args);
}

static void write_last_words (const sim_world_t *w)
{
    (void) snprintf (last_words, sizeof last_words,
                     "CTALK_SIM_SEED=%" PRIu64 "; again, with its story: tests/sim/sim --seed %" PRIu64
                     " --events %" PRIu64 "\n",
                     w->seed, w->seed, w->want);
    last_words_size = strlen (last_words);
}

/* Standard output may be in any state: past it. */
static void on_abort (int number)
{
    ssize_t written = write (STDOUT_FILENO, last_words, last_words_size);
    (void) written;
    (void) signal (number, SIG_DFL);
    (void) raise (number);
}

void sim_catch_aborts (void)
{
    (void) signal (SIGABRT, on_abort);
    (void) signal (SIGSEGV, on_abort);
}

void sim_fail (const sim_world_t *w, const char *what, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    printf ("seed %" PRIu64 " at %.3f ms: ", w->seed, (double) w->now_us / 1000);
    (void) vprintf (format, args);
    printf (" [%s]\n", what);
    va_end (args);
    printf ("%s", last_words);
    printf ("not ok 1 - the simulated worlds hold what is promised\n");
    (void) fflush (stdout);
    exit (EXIT_FAILURE);
}

/* ---- small things */

int64_t sim_soon (sim_world_t *w)
{
    return w->now_us + (int64_t) sim_below (w, (uint64_t) w->latency_us + 1);
}

void sim_memory_begin (sim_world_t *w)
{
    if (sim_strikes (w, SIM_MEMORY))
        ctki_mem_fail ((long) sim_below (w, 4), 1 + (long) sim_below (w, 3));
}

void sim_memory_end (sim_world_t *w)
{
    if (w->odds[SIM_MEMORY])
        ctki_mem_fail (-1, 0);
}

/* ---- making a world */

static void choose_setup (sim_world_t *w)
{
    uint32_t frame = 256u << sim_below (w, 3);
    bool tiny = sim_one_in (w, 3);
    w->setup = (ctki_session_setup_t){.frame_bytes = frame,
                                      .fragment_bytes = frame * (uint32_t) (w->seed % 5),
                                      .message_bytes = frame * (1 + sim_below (w, 12)),
                                      .window_bytes = frame * (tiny ? 2 : 2 + sim_below (w, 60)),
                                      .window_frames = tiny ? 2 + sim_below (w, 4) : 8 + sim_below (w, 100),
                                      .heartbeat_us = 500 * CTKI_MS,
                                      .suspect_us = 1500 * CTKI_MS,
                                      .down_us = 5 * CTKI_S,
                                      .resend = sim_one_in (w, 4)};
    if (tiny)
        sim_hit (w, SIM_TINY);
    if (w->setup.resend)
        sim_hit (w, SIM_RESEND);
    w->queue_bytes = frame * (4 + sim_below (w, 60));
}

static void choose_network (sim_world_t *w)
{
    bool slow = sim_one_in (w, 4);
    w->room = 1 + (unsigned) sim_below (w, sim_one_in (w, 2) ? 4 : 64);
    w->jitter_us = (int64_t) sim_below (w, slow ? 20000 : 300);
    w->latency_us = (int64_t) sim_below (w, sim_one_in (w, 4) ? 20000 : 200);
    for (unsigned src = 0; src < w->nodes; src++) {
        for (unsigned dst = 0; dst < w->nodes; dst++)
            w->delay_us[src][dst] = 20 + (int64_t) sim_below (w, slow ? 30000 : 300);
    }
}

static void choose_world (sim_world_t *w)
{
    static const unsigned sizes[] = {2, 2, 2, 3, 3, 4, 5};
    w->nodes = sizes[sim_below (w, sizeof sizes / sizeof sizes[0])];
    choose_setup (w);
    choose_network (w);
    w->lazy = sim_one_in (w, 4);
    if (w->lazy)
        sim_hit (w, SIM_LAZY);
    w->other_address = sim_one_in (w, 2);
    w->send_pause_us = (int64_t) sim_below (w, sim_one_in (w, 2) ? 20000 : 300000);
    w->eat_pause_us = (int64_t) sim_below (w, sim_one_in (w, 3) ? 60000 : 1000);
}

static void fill_times (int64_t *times, size_t count)
{
    for (size_t i = 0; i < count; i++)
        times[i] = CTKI_FOREVER;
}

static void make_world (sim_world_t *w, uint64_t seed, uint64_t events, bool aloud)
{
    *w = (sim_world_t){.seed = seed, .random = seed * 977 + 1, .want = events, .aloud = aloud};
    w->now_us = CTKI_S;
    w->chaos = w->sending = true;
    w->when = malloc (SIM_PROCESSES * SIM_SLOTS * sizeof *w->when);
    CTKI_ASSERT (w->when);
    fill_times (w->when, SIM_PROCESSES * SIM_SLOTS);
    fill_times (w->restart_us, SIM_NODES);
    fill_times (w->single_us, SIM_NODES);
    fill_times (&w->stop_us[0][0], SIM_NODES * SIM_NODES);
    fill_times (&w->heal_us[0][0], SIM_NODES * SIM_NODES);
    fill_times (&w->listed_us[0][0], SIM_NODES * SIM_NODES);
    memset (w->listed, true, sizeof w->listed);
    choose_world (w);
    sim_trouble_choose (w);
    w->pool = ctki_pool_new (ctki_writer_block_bytes (w->setup.frame_bytes), 4);
    for (unsigned node = 0; node < w->nodes; node++)
        sim_process_start (w, node, false);
}

static void free_world (sim_world_t *w)
{
    for (unsigned i = 0; i < SIM_PROCESSES; i++)
        sim_process_die (w, &w->process[i]);
    ctki_pool_destroy (&w->pool);
    while (w->spare) {
        sim_packet_t *packet = w->spare;
        w->spare = packet->next;
        free (packet);
    }
    free (w->when);
    free (w->session);
}

/* ---- time */

static unsigned earliest (const sim_world_t *w)
{
    unsigned first = 0;
    for (unsigned i = 1; i < w->nodes * SIM_AT_ONCE * SIM_SLOTS; i++) {
        if (w->when[i] < w->when[first])
            first = i;
    }
    return first;
}

static void run_slot (sim_world_t *w, sim_process_t *process, unsigned slot)
{
    if (slot == SIM_ROUTER)
        sim_router_step (w, process);
    else if (slot == SIM_APP)
        sim_app_step (w, process);
    else if (slot < SIM_LINKS && process->sender[slot - SIM_SENDERS])
        sim_sender_step (w, process->sender[slot - SIM_SENDERS]);
    else if (slot >= SIM_LINKS && process->sender[slot - SIM_LINKS])
        sim_link_happen (w, process->sender[slot - SIM_LINKS]);
}

/* Somebody's step, though nothing asked for it. */
static void step_anybody (sim_world_t *w)
{
    sim_process_t *process = w->process[sim_below (w, (uint64_t) w->nodes * SIM_AT_ONCE)];
    if (process && process->paused_until_us <= w->now_us)
        run_slot (w, process, (unsigned) sim_below (w, SIM_LINKS));
}

static void happen (sim_world_t *w, unsigned which)
{
    sim_process_t *process = w->process[which / SIM_SLOTS];
    unsigned slot = which % SIM_SLOTS;
    int64_t at_us = w->when[which];
    w->when[which] = CTKI_FOREVER;
    CTKI_ASSERT (process);
    if (process->paused_until_us > w->now_us) {
        w->when[which] = process->paused_until_us;
        return;
    }
    if (slot < SIM_LINKS && sim_strikes (w, SIM_SLOW_ACTOR)) {
        w->when[which] = at_us + (int64_t) sim_below (w, SIM_LATE_US);
        return;
    }
    w->events++;
    run_slot (w, process, slot);
    if (sim_strikes (w, SIM_TWICE))
        run_slot (w, process, slot);
    if (sim_strikes (w, SIM_EARLY))
        step_anybody (w);
}

/* The clock stands still only so long. */
static void move_clock (sim_world_t *w, int64_t at_us)
{
    if (at_us > w->now_us) {
        w->now_us = at_us;
        w->stood = 0;
        return;
    }
    w->stood++;
    SIM_EXPECT (w, w->stood < STOOD_MAX, "a busy loop");
}

static int64_t next_us (const sim_world_t *w)
{
    return CTKI_MIN (w->when[earliest (w)], sim_trouble_due (w));
}

static void step (sim_world_t *w)
{
    unsigned which = earliest (w);
    int64_t trouble_us = sim_trouble_due (w);
    if (trouble_us <= w->when[which]) {
        move_clock (w, trouble_us);
        w->events++;
        sim_trouble_strike (w);
        return;
    }
    move_clock (w, w->when[which]);
    happen (w, which);
}

/* ---- a life of a world */

static unsigned kinds_met (const sim_world_t *w)
{
    unsigned count = 0;
    for (unsigned kind = 0; kind < SIM_TROUBLE_KINDS; kind++)
        count += w->trouble_met[kind];
    return count;
}

static void live_badly (sim_world_t *w)
{
    while ((w->events < w->want * 3 / 4 || kinds_met (w) < KINDS_LEAST) && w->events < w->want * CHAOS_EVENTS_MAX)
        step (w);
    SIM_EXPECT (w, kinds_met (w) >= KINDS_LEAST, "only %u kinds of trouble", kinds_met (w));
}

/* Calls fn for each ordered pair of whole nodes; returns whether it said yes to all. */
static bool each_pair (sim_world_t *w, bool (*fn) (sim_world_t *, sim_process_t *, sim_process_t *))
{
    for (unsigned from = 0; from < w->nodes; from++) {
        for (unsigned to = 0; to < w->nodes; to++) {
            if (from != to && (w->whole >> from & 1) && (w->whole >> to & 1)
                && !fn (w, sim_process_at (w, from, false), sim_process_at (w, to, false)))
                return false;
        }
    }
    return true;
}

static bool send_one (sim_world_t *w, sim_process_t *from, sim_process_t *to)
{
    sim_app_send_one (w, from, to->node);
    return true;
}

static bool is_settled (sim_world_t *w, sim_process_t *from, sim_process_t *to)
{
    (void) w;
    return sim_oracle_settled (from, to);
}

static bool has_arrived (sim_world_t *w, sim_process_t *from, sim_process_t *to)
{
    sim_oracle_arrived (w, from, to);
    return true;
}

static bool count_left (sim_world_t *w, sim_process_t *from, sim_process_t *to)
{
    const sim_stream_t *stream = &from->sender[to->node]->stream;
    w->left = CTKI_MAX (w->left, stream->accepted - stream->delivered - stream->abandoned);
    return true;
}

static bool say_what_is_left (sim_world_t *w, sim_process_t *from, sim_process_t *to)
{
    const sim_sender_t *sender = from->sender[to->node];
    if (!sim_oracle_settled (from, to))
        printf ("  %s to %s: state %d, accepted %" PRIu64 " delivered %" PRIu64 " abandoned %" PRIu64
                ", rejected %u, inbox %d, una %" PRIu64 " next %" PRIu64 " credit %" PRIu64 "\n",
                sim_name (from), sim_name (to), (int) sender->out.state, sender->stream.accepted,
                sender->stream.delivered, sender->stream.abandoned, sender->out.rejected, to->inbox.head != NULL,
                sender->out.una, sender->out.next, sender->out.credit_frame);
    (void) w;
    return true;
}

static int64_t round_trip_us (const sim_world_t *w)
{
    int64_t worst_us = 0;
    for (unsigned i = 0; i < w->nodes * w->nodes; i++)
        worst_us = CTKI_MAX (worst_us, w->delay_us[i / w->nodes][i % w->nodes]);
    return 2 * (worst_us + w->jitter_us + 2 * w->latency_us);
}

/* From now on nothing goes wrong: all arrives, soon. */
static void drain (sim_world_t *w)
{
    int64_t begun_us = w->now_us;
    w->sending = false;
    each_pair (w, send_one);
    w->left = 0;
    each_pair (w, count_left);
    int64_t limit_us = begun_us + DRAIN_US + (int64_t) w->left * 2 * round_trip_us (w);
    for (unsigned i = 0; i % LOOK_EVERY != 0 || !each_pair (w, is_settled); i++) {
        if (w->now_us > limit_us) {
            each_pair (w, say_what_is_left);
            SIM_EXPECT (w, w->now_us <= limit_us, "not all has arrived %" PRId64 " us after all is well",
                        w->now_us - begun_us);
        }
        step (w);
    }
    each_pair (w, has_arrived);
    int64_t took_us = w->now_us - begun_us;
    if (took_us > sim_totals.drain_worst_us) {
        sim_totals.drain_worst_us = took_us;
        sim_totals.drain_worst_seed = w->seed;
    }
}

/* Nothing is sent: hardly anything happens. */
static void be_quiet (sim_world_t *w)
{
    int64_t until_us = w->now_us + QUIET_US;
    uint64_t before = w->events, sessions = (uint64_t) w->nodes * (w->nodes - 1);
    while (next_us (w) < until_us)
        step (w);
    uint64_t most = sessions * QUIET_EVENTS * (uint64_t) (QUIET_US / CTKI_S);
    SIM_EXPECT (w, w->events - before <= most, "%" PRIu64 " events in quiet times, for at most %" PRIu64,
                w->events - before, most);
}

static void send_again (sim_world_t *w)
{
    w->sending = true;
    for (unsigned node = 0; node < w->nodes; node++) {
        sim_process_t *process = sim_process_at (w, node, false);
        if (process)
            sim_wake (w, process, SIM_APP, CTKI_MAX (process->send_us, w->now_us));
    }
}

static void live (sim_world_t *w)
{
    live_badly (w);
    sim_trouble_end (w);
    drain (w);
    if (sim_one_in (w, 4))
        be_quiet (w);
    send_again (w);
    while (w->events < w->want)
        step (w);
    drain (w);
}

void sim_world_run (uint64_t seed, uint64_t events, bool aloud)
{
    sim_world_t *w = malloc (sizeof *w);
    CTKI_ASSERT (w);
    *w = (sim_world_t){.seed = seed, .want = events};
    write_last_words (w);
    make_world (w, seed, events, aloud);
    live (w);
    sim_totals.seeds++;
    sim_totals.events += w->events;
    sim_totals.virtual_us += w->now_us;
    free_world (w);
    free (w);
}
