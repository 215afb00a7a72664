/*
 * test_kill.c - one of two servers is killed with signal 9 at random moments under
 * traffic and started again on its port, mostly at once, many times. What the other
 * one is told, and what each got, is held against the journals (life.h): every
 * envelope is in exactly one place.
 *
 * The stayer is pid 1, the mortal one pid 2. The moments follow from a seed, which
 * a failure prints and CTALK_TEST_SEED sets.
 */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "src/sys.h"
#include "tests/faults/life.h"
#include "tests/faults/suites.h"
#include "tests/support/support.h"

enum { STAYER = 1, MORTAL = 2, KIB = 1024, LIVES_MAX = 1001 };

static const size_t small_sizes[] = {8, 100, 0, 1000, 33, 3000};
static const size_t mixed_sizes[] = {8, 300 * KIB, 100, 1000, 5000, 70 * KIB, 0, 64};
#define SIZES(those) .sizes = those, .sizes_count = sizeof those / sizeof those[0]

/* What is tried. */
typedef struct {
    const char *name;
    size_t kills;
    bool to_mortal, to_stayer; /* who sends */
    const size_t *sizes;
    size_t sizes_count;
    const char *queue_bytes, *window_bytes;
    bool resend, lazy, ipc;
    int absent_ms; /* at most so long the mortal one stays away */
} plan_t;

/* What came out. */
typedef struct {
    size_t kills, events;
    int64_t envelopes; /* taken by an application */
    uint64_t consumed, received, in_doubt, resent, carried;
    int64_t twice; /* of those sent again: taken by both processes */
    size_t rejoins;
    int64_t rejoin_us[LIVES_MAX];
} outcome_t;

typedef struct {
    const plan_t *plan;
    uint64_t seed, state;
    size_t kills;
    ctki_ports_t ports;
    char folder[32]; /* of ipc */
    ctalk_config_t *config;
    ctki_life_t *stayer, *mortal; /* one; one of each life */
    ctki_process_t stayer_process, mortal_process;
    size_t now; /* the life that is */
    outcome_t out;
} trial_t;

static trial_t trial; /* large: not for the stack */

/* ---- the moments */

static uint64_t draw (trial_t *t, uint64_t below)
{
    t->state += 0x9e3779b97f4a7c15u;
    uint64_t x = t->state;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (x ^ (x >> 31)) % below;
}

/* A moment is what it says: time that passes. */
static void pass (uint64_t us)
{
    struct timespec time = {(time_t) (us / 1000000), (long) (us % 1000000) * 1000};
    (void) nanosleep (&time, NULL);
}

static uint64_t seed_of (const char *name)
{
    const char *text = getenv ("CTALK_TEST_SEED");
    if (text && *text)
        return strtoull (text, NULL, 0);
    uint64_t seed = 14695981039346656037u; /* another one for each test, the same one each time */
    for (; *name; name++)
        seed = (seed ^ (uint8_t) *name) * 1099511628211u;
    return seed % 1000000;
}

/* ---- the trial */

/* Without broadcasts to one that stays away: they skip a peer that is down and has a full queue. */
static void prepare (const trial_t *t, ctki_life_t *life, int32_t number, bool stays)
{
    ctki_way_t way = {.sizes = t->plan->sizes, .sizes_count = t->plan->sizes_count, .broadcasts = !t->plan->absent_ms};
    ctalk_pid_t other = stays ? MORTAL : STAYER;
    life->pid = stays ? STAYER : MORTAL;
    life->number = number;
    life->config = t->config;
    life->from[other] = way;
    if (stays ? t->plan->to_mortal : t->plan->to_stayer) {
        way.dst = other;
        life->way[0] = way;
    }
}

static void make_config (trial_t *t)
{
    const plan_t *plan = t->plan;
    char endpoint[64];
    ctki_ports_take (&t->ports, 2);
    t->config = ctki_cluster_config (
        plan->ipc ? 0 : 2, t->ports.port,
        CTKI_OPTIONS ("QueueBytes", plan->queue_bytes, "WindowBytes", plan->window_bytes, "MaxMessageBytes", "1048576",
                      "OnRestart", plan->resend ? "resend" : "report", "Senders", plan->lazy ? "lazy" : "eager"));
    if (!plan->ipc)
        return;
    (void) strcpy (t->folder, "/tmp/ctalk-kill-XXXXXX");
    ck_assert_ptr_nonnull (mkdtemp (t->folder));
    for (ctalk_pid_t pid = STAYER; pid <= MORTAL; pid++) {
        (void) snprintf (endpoint, sizeof endpoint, "ipc://%s/%d", t->folder, pid);
        ck_assert_int_eq (ctalk_config_add_server (t->config, pid, endpoint, NULL), 0);
    }
}

static void remove_folder (const trial_t *t)
{
    static const char *const names[] = {"1", "2", "1.lock", "2.lock"};
    char path[64];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void) snprintf (path, sizeof path, "%s/%s", t->folder, names[i]);
        (void) unlink (path);
    }
    ck_assert_int_eq (rmdir (t->folder), 0);
}

static void set_up (trial_t *t, const plan_t *plan)
{
    memset (t, 0, sizeof *t);
    t->plan = plan;
    t->kills = ctki_test_count (plan->kills);
    ck_assert_uint_lt (t->kills, LIVES_MAX);
    t->seed = t->state = seed_of (plan->name);
    make_config (t);
    t->stayer = ctki_lives_new (t->kills + 2);
    t->mortal = t->stayer + 1;
    for (size_t i = 0; i < t->kills + 2; i++)
        prepare (t, &t->stayer[i], i == 0 ? 0 : (int32_t) i - 1, i == 0);
}

static void tear_down (trial_t *t)
{
    ctki_lives_destroy (t->stayer, t->kills + 2);
    ctalk_config_destroy (&t->config);
    ctki_ports_release (&t->ports);
    if (t->plan->ipc)
        remove_folder (t);
}

static bool is_lively (void *arg)
{
    const trial_t *t = arg;
    return (!t->plan->to_mortal || atomic_load (&t->mortal[t->now].taken) > 0)
           && (!t->plan->to_stayer || atomic_load (&t->stayer->latest) == (int32_t) t->now);
}

static bool has_paused (void *arg)
{
    const trial_t *t = arg;
    return atomic_load (&t->stayer->paused) == 1;
}

static bool was_told (void *arg)
{
    const trial_t *t = arg;
    const ctki_life_t *life = t->stayer;
    uint64_t incarnation = atomic_load (&t->mortal[t->now].incarnation);
    for (size_t i = 0; i < atomic_load (&life->size) && incarnation; i++)
        if (life->entry[i].kind == CTALK_PEER_RESTARTED && life->entry[i].event.incarnation == incarnation)
            return true;
    return false;
}

static void await (trial_t *t, bool (*holds) (void *arg), const char *what)
{
    ctki_life_await ((ctki_life_t *const[]){t->stayer, &t->mortal[t->now]}, 2, holds, t, what);
}

/* How the application of the next life receives: at full speed, slowly, or some and then nothing any more. */
static void draw_manner (trial_t *t)
{
    ctki_life_t *life = &t->mortal[t->now];
    uint64_t manner = t->now == t->kills ? 0 : draw (t, 4);
    life->take_ms = manner == 1;
    if (manner == 2)
        atomic_store (&life->most, 1 + (int64_t) draw (t, 300));
}

/* Lets the life that is last until its end: while it starts, or when it is at it, for a while or a little longer. */
static void last (trial_t *t)
{
    if (t->now > 0 && draw (t, 5) == 0) {
        pass (draw (t, 60000));
        return;
    }
    await (t, is_lively, "the first envelope of a life");
    pass (draw (t, draw (t, 4) ? 20000 : 150000));
}

/* Kills it. In every third case the stayer then pauses until it has been told of the next: what it had accepted is then
 * known to the envelope. */
static void end (trial_t *t)
{
    ctki_life_t *life = &t->mortal[t->now];
    ctki_process_kill (&t->mortal_process);
    t->out.kills++;
    if (t->plan->absent_ms)
        pass (draw (t, (uint64_t) ctki_test_ms (t->plan->absent_ms) * 1000));
    if (t->plan->to_mortal && t->now % 3 == 2) {
        atomic_store (&t->stayer->pause, true);
        ctki_life_await (&t->stayer, 1, has_paused, t, "a pause");
    }
    life->noted = atomic_load (&t->stayer->way[0].accepted);
}

static void begin (trial_t *t)
{
    ctki_life_start (&t->mortal[t->now], &t->mortal_process);
    if (atomic_load (&t->stayer->pause)) {
        await (t, was_told, "an event RESTARTED");
        atomic_store (&t->stayer->pause, false);
    }
}

/* All that the last life is to get, and all that it sent. */
static bool all_taken (void *arg)
{
    const trial_t *t = arg;
    const ctki_life_t *last_life = &t->mortal[t->kills];
    const ctki_entry_t *row = NULL;
    for (size_t i = 0; i < atomic_load (&last_life->size); i++)
        if (last_life->entry[i].kind == CTALK_MESSAGE)
            row = &last_life->entry[i];
    int64_t there = row ? row->first + atomic_load (&row->count) : 0, here = 0;
    for (size_t i = 0; i < atomic_load (&t->stayer->size); i++)
        if (t->stayer->entry[i].kind == CTALK_MESSAGE && t->stayer->entry[i].life == (int32_t) t->kills)
            here += atomic_load (&t->stayer->entry[i].count);
    return there == atomic_load (&t->stayer->way[0].accepted) && here == atomic_load (&last_life->way[0].accepted);
}

static void run (trial_t *t)
{
    ctki_life_start (t->stayer, &t->stayer_process);
    for (t->now = 0; t->now < t->kills; t->now++) {
        draw_manner (t);
        begin (t);
        last (t);
        end (t);
        ctki_test_progress (t->plan->name, t->now, t->kills);
    }
    ctki_test_progress ("", 0, 0);
    draw_manner (t);
    begin (t);
    await (t, is_lively, "the first envelope of the last life");
    pass (draw (t, 20000));
    ctki_life_drain ((ctki_life_t *const[]){t->stayer, &t->mortal[t->now]}, 2);
    await (t, all_taken, "all that was sent taken");
    ctki_life_end (&t->mortal[t->now]);
    ctki_life_end (t->stayer);
}

/* ---- what came out, held against the journals */

/* Which life has this incarnation; one that was killed before it wrote down its own is the next nameless one. */
static int32_t life_of (const trial_t *t, uint64_t incarnation, int32_t after)
{
    for (int32_t i = after + 1; i <= (int32_t) t->kills; i++)
        if (atomic_load (&t->mortal[i].incarnation) == incarnation)
            return i;
    for (int32_t i = after + 1; i <= (int32_t) t->kills; i++)
        if (atomic_load (&t->mortal[i].incarnation) == 0)
            return i;
    return -1;
}

/* How many envelopes this life took: one row, from base on. */
static bool row_of (const trial_t *t, int32_t number, int64_t base, int64_t *taken, ctki_trouble_t *trouble)
{
    const ctki_life_t *life = &t->mortal[number];
    *taken = 0;
    for (size_t i = 0; i < atomic_load (&life->size); i++) {
        const ctki_entry_t *entry = &life->entry[i];
        if (entry->kind != CTALK_MESSAGE)
            continue;
        CTKI_EXPECT_EQUAL (trouble, entry->life, 0);
        CTKI_EXPECT_EQUAL (trouble, entry->first, base + *taken); /* in order, once, from the first that is its */
        *taken += atomic_load (&entry->count);
    }
    return true;
}

/* One event, about the end of a life whose first envelope is base: all that was accepted is in one of its parts. */
static bool judge_event (trial_t *t, int32_t number, const ctki_entry_t *entry, int64_t *base, ctki_trouble_t *trouble)
{
    const ctki_life_t *life = &t->mortal[number];
    const ctalk_event_t *e = &entry->event;
    int64_t consumed = (int64_t) e->consumed, received = (int64_t) e->received, in_doubt = (int64_t) e->in_doubt;
    int64_t taken, known = consumed + received, gone = known + in_doubt, all = gone + (int64_t) e->carried;
    if (!row_of (t, number, *base, &taken, trouble))
        return false;
    CTKI_EXPECT (trouble, taken <= gone + entry->resent); /* what was taken is not carried */
    CTKI_EXPECT (trouble, consumed <= taken + 1);         /* it may have been killed before it wrote down the last */
    CTKI_EXPECT (trouble, entry->resent == 0 || t->plan->resend);
    CTKI_EXPECT (trouble, in_doubt == 0 || !t->plan->resend);
    CTKI_EXPECT_EQUAL (trouble, e->fates, received + in_doubt + entry->resent);
    CTKI_EXPECT (trouble, e->fates == 0 || entry->fate_first == *base + consumed);
    if (t->plan->to_mortal) {
        CTKI_EXPECT (trouble, *base + all >= life->noted);  /* accepted before the next life was begun */
        CTKI_EXPECT (trouble, *base + all <= entry->begun); /* and by the time it was told; the same in a pause */
    } else
        CTKI_EXPECT_EQUAL (trouble, all, 0);
    t->out.twice += CTKI_MAX (taken - known, 0) * (t->plan->resend ? 1 : 0);
    t->out.consumed += e->consumed;
    t->out.received += e->received;
    t->out.in_doubt += e->in_doubt;
    t->out.resent += (uint64_t) entry->resent;
    t->out.carried += e->carried;
    t->out.events++;
    *base += gone;
    return true;
}

/* All lives that the stayer knew, by its events, as receivers; the others got nothing. */
static bool judge_receivers (trial_t *t, ctki_trouble_t *trouble)
{
    int64_t base = 0, taken;
    int32_t now = 0;
    for (size_t i = 0; i < atomic_load (&t->stayer->size); i++) {
        const ctki_entry_t *entry = &t->stayer->entry[i];
        if (entry->kind != CTALK_PEER_RESTARTED)
            continue;
        int32_t next = life_of (t, entry->event.incarnation, now);
        if (next < 0)
            return ctki_trouble_note (trouble, __FILE__, __LINE__, "entry %zu: nobody has this incarnation", i);
        if (!judge_event (t, now, entry, &base, trouble)) {
            printf ("  entry %zu, the end of life %d, from %" PRId64 " on, is not right\n", i, now, base);
            return false;
        }
        while (++now < next)
            CTKI_EXPECT_EQUAL (trouble, atomic_load (&t->mortal[now].taken), 0);
    }
    CTKI_EXPECT_EQUAL (trouble, now, t->kills);
    if (!row_of (t, now, base, &taken, trouble))
        return false;
    CTKI_EXPECT_EQUAL (trouble, base + taken, atomic_load (&t->stayer->way[0].accepted));
    return true;
}

/* All lives as senders: of each the stayer got, after the event that told of it and before the next one, a prefix of
 * what it sent; all of the last one. */
static bool judge_senders (trial_t *t, ctki_trouble_t *trouble)
{
    int32_t now = 0;
    int64_t place = 0;
    for (size_t i = 0; i < atomic_load (&t->stayer->size); i++) {
        const ctki_entry_t *entry = &t->stayer->entry[i];
        if (entry->kind == CTALK_PEER_RESTARTED) {
            uint64_t former = atomic_load (&t->mortal[CTKI_MAX (now, 0)].incarnation);
            CTKI_EXPECT (trouble, now >= 0 && (!former || former == entry->event.old_incarnation));
            now = life_of (t, entry->event.incarnation, now);
            place = 0;
        }
        if (entry->kind != CTALK_MESSAGE)
            continue;
        const ctki_life_t *life = &t->mortal[now < 0 ? 0 : now];
        if (entry->life != now || entry->first != place
            || place + atomic_load (&entry->count) > atomic_load (&life->way[0].begun))
            return ctki_trouble_note (trouble, __FILE__, __LINE__,
                                      "entry %zu: from %" PRId64 " on of life %d; expected: from %" PRId64
                                      " on of life %d",
                                      i, entry->first, entry->life, place, now);
        place += atomic_load (&entry->count);
    }
    CTKI_EXPECT_EQUAL (trouble, now, t->kills);
    CTKI_EXPECT_EQUAL (trouble, place, atomic_load (&t->mortal[now].way[0].accepted));
    return true;
}

/* Each incarnation is told of once, and the events make sense, here and there. */
static bool judge_events (trial_t *t, ctki_trouble_t *trouble)
{
    size_t unfit = ctki_life_events (t->stayer, MORTAL, CTALK_PEER_REFUSED)
                   + ctki_life_events (t->stayer, MORTAL, CTALK_PEER_ABANDONED);
    CTKI_EXPECT_EQUAL (trouble, unfit, 0);
    CTKI_EXPECT (trouble, ctki_life_events (t->stayer, MORTAL, CTALK_PEER_LEFT) <= 1);
    if (!ctki_life_legal (t->stayer, MORTAL, trouble))
        return false;
    for (size_t i = 0; i <= t->kills; i++) {
        const ctki_life_t *life = &t->mortal[i];
        CTKI_EXPECT_EQUAL (trouble, ctki_life_events (life, STAYER, CTALK_PEER_RESTARTED), 0);
        CTKI_EXPECT_EQUAL (trouble, ctki_life_events (life, STAYER, CTALK_PEER_LEFT), 0);
        if (!ctki_life_legal (life, STAYER, trouble))
            return ctki_trouble_note (trouble, __FILE__, __LINE__, "life %zu", i);
        if (life->trouble.text[0])
            return ctki_trouble_note (trouble, __FILE__, __LINE__, "life %zu: %.200s", i, life->trouble.text);
    }
    return true;
}

/* And the library's own figures say the same. */
static bool judge_figures (trial_t *t, ctki_trouble_t *trouble)
{
    const ctalk_stats_t *stats = &t->stayer->stats;
    CTKI_EXPECT_EQUAL (trouble, stats->accepted, atomic_load (&t->stayer->way[0].accepted));
    CTKI_EXPECT_EQUAL (trouble, stats->queued, 0);
    CTKI_EXPECT_EQUAL (trouble, stats->in_doubt, t->out.in_doubt);
    CTKI_EXPECT_EQUAL (trouble, stats->abandoned, t->out.in_doubt);
    CTKI_EXPECT_EQUAL (trouble, stats->consumed, atomic_load (&t->stayer->taken));
    CTKI_EXPECT_EQUAL (trouble, stats->restarts, atomic_load (&t->stayer->restarts));
    CTKI_EXPECT_EQUAL (trouble, stats->malformed, 0);
    return true;
}

static int in_order (const void *a, const void *b)
{
    int64_t x = *(const int64_t *) a, y = *(const int64_t *) b;
    return (x > y) - (x < y);
}

/* From the start of each life until the first envelope came. */
static void collect_rejoins (trial_t *t)
{
    for (size_t i = 1; i <= t->kills; i++) {
        const ctki_life_t *page = t->plan->to_mortal ? &t->mortal[i] : t->stayer;
        for (size_t j = 0; j < atomic_load (&page->size); j++)
            if (page->entry[j].kind == CTALK_MESSAGE && (page != t->stayer || page->entry[j].life == (int32_t) i)) {
                t->out.rejoin_us[t->out.rejoins++] = page->entry[j].at_us - t->mortal[i].started_us;
                break;
            }
    }
    qsort (t->out.rejoin_us, t->out.rejoins, sizeof t->out.rejoin_us[0], in_order);
}

static void say (trial_t *t)
{
    outcome_t *o = &t->out;
    o->envelopes = atomic_load (&t->stayer->taken);
    for (size_t i = 0; i <= t->kills; i++)
        o->envelopes += atomic_load (&t->mortal[i].taken);
    collect_rejoins (t);
    ctki_test_figure (t->plan->name, "seed %" PRIu64 ": %zu kills, %zu told, %" PRId64 " envelopes", t->seed, o->kills,
                      o->events, o->envelopes);
    if (t->plan->to_mortal)
        ctki_test_figure ("",
                          "consumed %" PRIu64 ", received %" PRIu64 ", in doubt %" PRIu64 ", sent again %" PRIu64
                          " (%" PRId64 " twice), carried %" PRIu64,
                          o->consumed, o->received, o->in_doubt, o->resent, o->twice, o->carried);
    if (o->rejoins)
        ctki_test_figure (
            "", "rejoined within p50 %.1f ms, p99 %.1f ms, max %.1f ms", (double) o->rejoin_us[o->rejoins / 2] / 1e3,
            (double) o->rejoin_us[o->rejoins * 99 / 100] / 1e3, (double) o->rejoin_us[o->rejoins - 1] / 1e3);
}

static void print_all (const trial_t *t)
{
    ctki_life_print (t->stayer);
    for (size_t i = t->kills > 20 ? t->kills - 20 : 0; i <= t->kills; i++)
        ctki_life_print (&t->mortal[i]);
}

static void try_plan (const plan_t *plan)
{
    trial_t *t = &trial;
    ctki_trouble_t trouble = {""};
    set_up (t, plan);
    printf ("  %-26s seed %" PRIu64 " begins\n", plan->name, t->seed);
    run (t);
    bool ok = judge_events (t, &trouble) && judge_receivers (t, &trouble) && judge_senders (t, &trouble)
              && judge_figures (t, &trouble);
    if (!ok)
        print_all (t);
    ck_assert_msg (ok, "seed %" PRIu64 ": %s", t->seed, trouble.text);
    ck_assert_uint_eq (t->out.kills, t->kills);
    say (t);
    tear_down (t);
}

/* A receiver that is killed: each envelope accepted for it was consumed, received, is in doubt or goes to the next one,
 * as the sender is told; nothing is lost, doubled or out of order. */
START_TEST (receiver)
{
    try_plan (&(plan_t){.name = "receiver",
                        .kills = 150,
                        .to_mortal = true,
                        SIZES (small_sizes),
                        .queue_bytes = "1048576",
                        .window_bytes = "262144"});
}
END_TEST

/* The same with large envelopes among them, which go in fragments: one that was begun only is carried in whole. */
START_TEST (receiver_of_large_ones)
{
    try_plan (&(plan_t){.name = "receiver_of_large_ones",
                        .kills = 150,
                        .to_mortal = true,
                        SIZES (mixed_sizes),
                        .queue_bytes = "4194304",
                        .window_bytes = "1048576"});
}
END_TEST

/* With "OnRestart": "resend" those in doubt come to the next process: these, and no others, may have come twice. */
START_TEST (receiver_resend)
{
    try_plan (&(plan_t){.name = "receiver_resend",
                        .kills = 100,
                        .to_mortal = true,
                        SIZES (mixed_sizes),
                        .queue_bytes = "4194304",
                        .window_bytes = "1048576",
                        .resend = true});
}
END_TEST

/* A sender that is killed: the receiver is told once of each new one, before its first envelope, gets nothing of the
 * former one afterwards, and of each one a prefix of what it sent. */
START_TEST (sender)
{
    try_plan (&(plan_t){.name = "sender",
                        .kills = 150,
                        .to_stayer = true,
                        SIZES (small_sizes),
                        .queue_bytes = "1048576",
                        .window_bytes = "262144"});
}
END_TEST

/* The same with large envelopes: a part of one never comes. */
START_TEST (sender_of_large_ones)
{
    try_plan (&(plan_t){.name = "sender_of_large_ones",
                        .kills = 150,
                        .to_stayer = true,
                        SIZES (mixed_sizes),
                        .queue_bytes = "4194304",
                        .window_bytes = "1048576"});
}
END_TEST

/* All of this at once: both send, and whichever direction finds the new process first, it is told of once. */
START_TEST (both_ways)
{
    try_plan (&(plan_t){.name = "both_ways",
                        .kills = 200,
                        .to_mortal = true,
                        .to_stayer = true,
                        SIZES (mixed_sizes),
                        .queue_bytes = "1048576",
                        .window_bytes = "262144"});
}
END_TEST

/* A sender that is killed, and a receiver that has no sender of its own to it: it is told all the same. */
START_TEST (sender_to_a_lazy_one)
{
    try_plan (&(plan_t){.name = "sender_to_a_lazy_one",
                        .kills = 50,
                        .to_stayer = true,
                        SIZES (small_sizes),
                        .queue_bytes = "1048576",
                        .window_bytes = "262144",
                        .lazy = true});
}
END_TEST

/* Both ways, and the one that was killed stays away until it is suspect or down, and the queue for it full. */
START_TEST (absent_for_a_while)
{
    try_plan (&(plan_t){.name = "absent_for_a_while",
                        .kills = 30,
                        .to_mortal = true,
                        .to_stayer = true,
                        SIZES (mixed_sizes),
                        .queue_bytes = "1048576",
                        .window_bytes = "262144",
                        .absent_ms = 1500});
}
END_TEST

/* Both ways over ipc: what the killed process left in the file system is in nobody's way. */
START_TEST (over_ipc)
{
    try_plan (&(plan_t){.name = "over_ipc",
                        .kills = 50,
                        .to_mortal = true,
                        .to_stayer = true,
                        SIZES (mixed_sizes),
                        .queue_bytes = "1048576",
                        .window_bytes = "262144",
                        .ipc = true});
}
END_TEST

Suite *ctki_suite_kill (void)
{
    Suite *suite = suite_create ("kill");
    TCase *tcase = ctki_leaks_tcase ("kill", 300);
    tcase_add_test (tcase, receiver);
    tcase_add_test (tcase, receiver_of_large_ones);
    tcase_add_test (tcase, receiver_resend);
    tcase_add_test (tcase, sender);
    tcase_add_test (tcase, sender_of_large_ones);
    tcase_add_test (tcase, both_ways);
    tcase_add_test (tcase, sender_to_a_lazy_one);
    tcase_add_test (tcase, absent_for_a_while);
    tcase_add_test (tcase, over_ipc);
    suite_add_tcase (suite, tcase);
    return suite;
}
