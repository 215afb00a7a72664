/*
 * trouble.c - what goes wrong in a simulated world, and when. The seed chooses
 * some kinds of trouble and some places where the world is a little worse; they
 * strike at random until the world is made whole.
 */
#include <stdlib.h>

#include "tests/sim/sim.h"

enum {
    KINDS_LEAST = 4,   /* of trouble in a world that the plan knows */
    EVENTS_MOST = 150, /* between two troubles */
    STORM_US = 30000,  /* what lasts or waits in a storm, at most */
    LONG_US = 8000000, /* a pause, a partition, ... at most */
    STALL_US = 3000000,
    TRIES = 8 /* to find a connection */
};

/* ---- choosing */

static void choose_places (sim_world_t *w)
{
    static const struct {
        unsigned site;
        unsigned odds;   /* once in so many */
        unsigned worlds; /* in one of so many */
    } places[] = {{SIM_MEMORY, 40, 3},    {SIM_BLOCKED, 30, 3},   {SIM_REPLY_BLOCKED, 20, 3}, {SIM_EARLY, 20, 3},
                  {SIM_TWICE, 20, 3},     {SIM_LATE_EVENT, 3, 2}, {SIM_LOST_REPLY, 30, 3},    {SIM_LOST_FRAME, 100, 4},
                  {SIM_OVERTAKEN, 10, 4}, {SIM_DOUBLED, 60, 4},   {SIM_SLOW_ACTOR, 60, 3},    {SIM_UNWATCHED, 300, 8}};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        if (sim_one_in (w, places[i].worlds))
            w->odds[places[i].site] = 1 + places[i].odds / 2 + sim_below (w, places[i].odds);
    }
}

/* Whether it strikes by the plan, not where somebody connects. */
static bool is_planned (unsigned kind)
{
    return kind != SIM_BLACKHOLE && kind != SIM_WRONG_SERVER;
}

/* A world where processes come and go faster than their deaths are heard of. */
static void choose_storm (sim_world_t *w)
{
    sim_hit (w, SIM_STORM);
    w->storm = true;
    for (unsigned kind = 0; kind < SIM_TROUBLE_KINDS; kind++)
        w->enabled[kind] = kind == SIM_RESTART || kind == SIM_BREAK || kind == SIM_STALL || kind == SIM_PAUSE;
    w->enabled[SIM_DUPLICATE] = sim_one_in (w, 3);
    w->odds[SIM_OVERTAKEN] = sim_one_in (w, 2) ? 4 : 0;
    w->odds[SIM_LATE_EVENT] = sim_one_in (w, 2) ? 3 : 0;
    w->latency_us = (int64_t) sim_below (w, STORM_US);
    w->trouble_pause_us = 1000 + (int64_t) sim_below (w, STORM_US);
}

/* A world where two processes of one pid contend for their peers, over bad ways. */
static void choose_rivals (sim_world_t *w)
{
    w->enabled[SIM_DUPLICATE] = w->enabled[SIM_BREAK] = w->other_address = true;
    w->odds[SIM_LOST_FRAME] = 4 + sim_below (w, 8);
    w->trouble_pause_us = 10000 + (int64_t) sim_below (w, 100000);
}

static unsigned count_planned (const sim_world_t *w)
{
    unsigned count = 0;
    for (unsigned kind = 0; kind < SIM_DUPLICATE; kind++)
        count += w->enabled[kind] && is_planned (kind);
    return count;
}

void sim_trouble_choose (sim_world_t *w)
{
    for (unsigned kind = 0; kind < SIM_TROUBLE_KINDS; kind++)
        w->enabled[kind] = sim_one_in (w, 4);
    while (count_planned (w) < KINDS_LEAST)
        w->enabled[sim_below (w, SIM_DUPLICATE)] = true;
    choose_places (w);
    if (w->enabled[SIM_BLACKHOLE])
        w->odds[SIM_BLACKHOLE] = 4 + sim_below (w, 20);
    if (w->enabled[SIM_WRONG_SERVER])
        w->odds[SIM_WRONG_SERVER] = 4 + sim_below (w, 20);
    w->trouble_pause_us = 20000 + (int64_t) sim_below (w, sim_one_in (w, 3) ? 2000000 : 300000);
    if (sim_one_in (w, 3))
        choose_storm (w);
    else if (sim_one_in (w, 6))
        choose_rivals (w);
    w->trouble_us = w->now_us + (int64_t) sim_below (w, (uint64_t) w->trouble_pause_us);
    w->trouble_event = EVENTS_MOST;
    if (!w->enabled[SIM_UNLISTED])
        return;
    unsigned node = (unsigned) sim_below (w, w->nodes), whom = (unsigned) sim_below (w, w->nodes);
    if (node != whom) {
        sim_hit (w, SIM_UNLISTED);
        w->listed[node][whom] = false;
        w->listed_us[node][whom] = w->now_us + (int64_t) sim_below (w, LONG_US);
    }
}

/* ---- striking */

static sim_process_t *any_process (sim_world_t *w)
{
    sim_process_t *process = w->process[sim_below (w, (uint64_t) w->nodes * SIM_AT_ONCE)];
    return process ? process : w->process[sim_below (w, w->nodes) * SIM_AT_ONCE];
}

/* One that is whole. */
static sim_conn_t *any_conn (sim_world_t *w)
{
    for (unsigned i = 0; i < TRIES; i++) {
        sim_process_t *process = any_process (w);
        sim_sender_t *sender = process ? process->sender[sim_below (w, w->nodes)] : NULL;
        if (sender && sender->conn && !sender->conn->broken)
            return sender->conn;
    }
    return NULL;
}

static int64_t some_time (sim_world_t *w, uint64_t most_us)
{
    if (w->storm)
        return (int64_t) sim_below (w, STORM_US);
    return (int64_t) sim_below (w, sim_one_in (w, 4) ? most_us : most_us / 40);
}

void sim_restart (sim_world_t *w, unsigned node)
{
    sim_process_die (w, &w->process[node * SIM_AT_ONCE]);
    w->restart_us[node] = w->now_us + (sim_one_in (w, 2) ? some_time (w, 40000) : some_time (w, 4000000));
}

/* Returns whether it could. */
static bool restart (sim_world_t *w)
{
    unsigned node = (unsigned) sim_below (w, w->nodes);
    if (!sim_process_at (w, node, false) || w->restart_us[node] != CTKI_FOREVER || w->lives + 8 >= SIM_LIVES)
        return false;
    sim_restart (w, node);
    return true;
}

static bool half_open (sim_world_t *w, bool there)
{
    sim_conn_t *conn = any_conn (w);
    if (!conn)
        return false;
    SIM_TELL (w, "connection %" PRIu64 ": the way %s is mute", conn->rid, there ? "there" : "back");
    *(there ? &conn->there.mute : &conn->back.mute) = true;
    return true;
}

static bool break_one (sim_world_t *w)
{
    sim_conn_t *conn = any_conn (w);
    if (!conn)
        return false;
    sim_conn_break (w, conn);
    return true;
}

static bool refuse (sim_world_t *w)
{
    unsigned node = (unsigned) sim_below (w, w->nodes);
    w->refuse_until_us[node] = w->now_us + some_time (w, 2000000);
    return true;
}

static void stop_way (sim_world_t *w, unsigned src, unsigned dst, int64_t at_us, int64_t until_us)
{
    w->stop_us[src][dst] = at_us;
    w->heal_us[src][dst] = until_us;
}

static bool one_way (sim_world_t *w)
{
    unsigned src = (unsigned) sim_below (w, w->nodes), dst = (unsigned) sim_below (w, w->nodes);
    if (src == dst)
        return false;
    stop_way (w, src, dst, w->now_us, w->now_us + some_time (w, LONG_US));
    return true;
}

static bool partition (sim_world_t *w)
{
    uint64_t sides = 1 + sim_below (w, (UINT64_C (1) << w->nodes) - 2);
    int64_t until_us = w->now_us + some_time (w, LONG_US);
    for (unsigned src = 0; src < w->nodes; src++) {
        for (unsigned dst = 0; dst < w->nodes; dst++) {
            if ((sides >> src & 1) != (sides >> dst & 1))
                stop_way (w, src, dst, w->now_us, until_us);
        }
    }
    return true;
}

/* All ways in some order, then all of them in another. */
static bool swizzle (sim_world_t *w)
{
    int64_t step_us = (int64_t) sim_below (w, 200000);
    int64_t middle_us = w->now_us + step_us * w->nodes * w->nodes;
    for (unsigned src = 0; src < w->nodes; src++) {
        for (unsigned dst = 0; dst < w->nodes; dst++) {
            int64_t span_us = middle_us - w->now_us;
            if (src != dst)
                stop_way (w, src, dst, w->now_us + (int64_t) sim_below (w, (uint64_t) span_us + 1),
                          middle_us + (int64_t) sim_below (w, (uint64_t) span_us + 1));
        }
    }
    return true;
}

static bool stall (sim_world_t *w)
{
    sim_conn_t *conn = any_conn (w);
    if (!conn)
        return false;
    sim_way_t *way = sim_one_in (w, 2) ? &conn->there : &conn->back;
    int64_t until_us = w->now_us + some_time (w, STALL_US);
    if (way->latest_us == CTKI_FOREVER)
        return false;
    way->latest_us = CTKI_MAX (way->latest_us, until_us);
    for (sim_packet_t *packet = way->head; packet; packet = packet->next)
        packet->at_us = CTKI_MAX (packet->at_us, until_us);
    return true;
}

static bool pause_one (sim_world_t *w)
{
    sim_process_t *process = any_process (w);
    if (!process || process->paused_until_us > w->now_us)
        return false;
    int64_t pause_us = some_time (w, LONG_US);
    process->paused_until_us = w->now_us + pause_us;
    sim_oracle_paused (w, process);
    SIM_TELL (w, "%s is stopped for %" PRId64 " us", sim_name (process), pause_us);
    return true;
}

static void go_on (const sim_world_t *w, sim_process_t *process)
{
    if (process->paused_until_us <= w->now_us)
        return;
    process->paused_until_us = 0;
    for (unsigned i = 0; i < SIM_SLOTS; i++) {
        int64_t *when = &w->when[process->slot * SIM_SLOTS + i];
        if (*when != CTKI_FOREVER)
            *when = w->now_us;
    }
}

static bool duplicate (sim_world_t *w)
{
    unsigned node = (unsigned) sim_below (w, w->nodes);
    if (!sim_process_at (w, node, false) || sim_process_at (w, node, true) || w->lives + 8 >= SIM_LIVES)
        return false;
    w->doubled[node] = true;
    sim_process_start (w, node, true);
    w->single_us[node] = w->now_us + some_time (w, LONG_US);
    return true;
}

/* One of two processes ends; the other one is the first from now on. */
static void end_one (sim_world_t *w, unsigned node)
{
    w->single_us[node] = CTKI_FOREVER;
    sim_process_die (w, &w->process[node * SIM_AT_ONCE + (sim_process_at (w, node, false) ? sim_below (w, 2) : 0)]);
}

static bool stop_app (sim_world_t *w)
{
    sim_process_t *process = any_process (w);
    if (!process)
        return false;
    process->stopped_until_us = w->now_us + some_time (w, LONG_US);
    return true;
}

static bool strike (sim_world_t *w, unsigned kind)
{
    switch (kind) {
    case SIM_RESTART:
        return restart (w);
    case SIM_BREAK:
        return break_one (w);
    case SIM_HALF_OPEN_THERE:
    case SIM_HALF_OPEN_BACK:
        return half_open (w, kind == SIM_HALF_OPEN_THERE);
    case SIM_REFUSED:
        return refuse (w);
    case SIM_ONE_WAY:
        return one_way (w);
    case SIM_PARTITION:
        return partition (w);
    case SIM_SWIZZLE:
        return sim_one_in (w, 3) && swizzle (w);
    case SIM_STALL:
        return stall (w);
    case SIM_PAUSE:
        return pause_one (w);
    case SIM_DUPLICATE:
        return duplicate (w);
    case SIM_APP_STOPS:
        return stop_app (w);
    default:
        return false;
    }
}

/* ---- what was planned */

static void start_again (sim_world_t *w, unsigned node)
{
    w->restart_us[node] = CTKI_FOREVER;
    if (!sim_process_at (w, node, false))
        sim_process_start (w, node, false);
}

static void change_way (sim_world_t *w, unsigned src, unsigned dst)
{
    if (w->now_us >= w->stop_us[src][dst]) {
        w->stop_us[src][dst] = CTKI_FOREVER;
        sim_way_block (w, src, dst, true);
    }
    if (w->now_us >= w->heal_us[src][dst]) {
        w->heal_us[src][dst] = CTKI_FOREVER;
        sim_way_block (w, src, dst, false);
    }
    if (w->now_us >= w->listed_us[src][dst]) {
        w->listed_us[src][dst] = CTKI_FOREVER;
        w->listed[src][dst] = true;
    }
}

static void new_trouble (sim_world_t *w)
{
    w->trouble_us = w->now_us + (int64_t) sim_below (w, (uint64_t) w->trouble_pause_us);
    w->trouble_event = w->events + EVENTS_MOST;
    if (w->events > w->want) /* what was chosen finds nothing to strike at */
        w->enabled[SIM_REFUSED] = w->enabled[SIM_PAUSE] = w->enabled[SIM_APP_STOPS] = true;
    unsigned kind = (unsigned) sim_below (w, SIM_TROUBLE_KINDS);
    while (!w->enabled[kind])
        kind = (kind + 1) % SIM_TROUBLE_KINDS;
    if (!strike (w, kind))
        return;
    SIM_TELL (w, "trouble %u", kind);
    sim_hit (w, kind);
}

void sim_trouble_strike (sim_world_t *w)
{
    for (unsigned node = 0; node < w->nodes; node++) {
        if (w->now_us >= w->restart_us[node])
            start_again (w, node);
        if (w->now_us >= w->single_us[node])
            end_one (w, node);
        for (unsigned other = 0; other < w->nodes; other++)
            change_way (w, node, other);
    }
    if (w->chaos && (w->now_us >= w->trouble_us || w->events >= w->trouble_event))
        new_trouble (w);
}

int64_t sim_trouble_due (const sim_world_t *w)
{
    int64_t due_us = !w->chaos ? CTKI_FOREVER : w->events < w->trouble_event ? w->trouble_us : w->now_us;
    for (unsigned node = 0; node < w->nodes; node++) {
        due_us = CTKI_MIN (due_us, CTKI_MIN (w->restart_us[node], w->single_us[node]));
        for (unsigned other = 0; other < w->nodes; other++)
            due_us = CTKI_MIN (due_us, CTKI_MIN (w->stop_us[node][other],
                                                 CTKI_MIN (w->heal_us[node][other], w->listed_us[node][other])));
    }
    return due_us;
}

/* ---- the end of all trouble */

static bool is_whole (const sim_world_t *w, unsigned node)
{
    return w->whole >> node & 1;
}

/* Who is in order from now on: all, most, or two of them. */
static void choose_whole (sim_world_t *w)
{
    unsigned want = w->nodes;
    if (sim_one_in (w, 2))
        want = sim_one_in (w, 3) ? 2 : w->nodes / 2 + 1;
    while ((unsigned) __builtin_popcount (w->whole) < want)
        w->whole |= 1u << sim_below (w, w->nodes);
}

/* What is not whole stays as bad as it is, or gets worse, for good. */
static void leave_broken (sim_world_t *w, unsigned node)
{
    sim_process_t *process = sim_process_at (w, node, false);
    unsigned how = (unsigned) sim_below (w, 3);
    if (how == 0)
        sim_process_die (w, &w->process[node * SIM_AT_ONCE]);
    else if (how == 1 && process) {
        go_on (w, process);
        process->paused_until_us = CTKI_FOREVER;
    }
    for (unsigned other = 0; other < w->nodes; other++) {
        if (how == 2 && other != node && !w->blocked[node][other])
            sim_way_block (w, node, other, true);
        if (how == 2 && other != node && !w->blocked[other][node])
            sim_way_block (w, other, node, true);
    }
}

static void mend (sim_world_t *w, unsigned node)
{
    start_again (w, node);
    w->refuse_until_us[node] = 0;
    sim_process_t *process = sim_process_at (w, node, false);
    go_on (w, process);
    process->stopped_until_us = process->eat_us = w->now_us;
    sim_wake (w, process, SIM_APP, w->now_us);
    for (unsigned other = 0; other < w->nodes; other++) {
        if (!is_whole (w, other) || other == node)
            continue;
        w->listed[node][other] = true;
        if (w->blocked[node][other])
            sim_way_block (w, node, other, false);
    }
}

void sim_trouble_end (sim_world_t *w)
{
    w->chaos = false;
    choose_whole (w);
    SIM_TELL (w, "no more trouble; whole are %x", w->whole);
    for (unsigned node = 0; node < w->nodes; node++) {
        w->restart_us[node] = CTKI_FOREVER;
        if (w->single_us[node] != CTKI_FOREVER || sim_process_at (w, node, true))
            end_one (w, node);
        if (!sim_process_at (w, node, false) && sim_process_at (w, node, true)) {
            sim_process_die (w, &w->process[node * SIM_AT_ONCE + 1]);
        }
        for (unsigned other = 0; other < w->nodes; other++)
            w->stop_us[node][other] = w->heal_us[node][other] = w->listed_us[node][other] = CTKI_FOREVER;
    }
    for (unsigned node = 0; node < w->nodes; node++) {
        if (is_whole (w, node))
            mend (w, node);
        else
            leave_broken (w, node);
    }
}
