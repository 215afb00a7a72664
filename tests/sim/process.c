/*
 * process.c - a process of a simulated world: a server with its application. It
 * dies without a word, and all that it knew with it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim.h"

const char *sim_name (const sim_process_t *process)
{
    static char text[4][24];
    static unsigned next;
    char *name = text[next++ % 4];
    (void) snprintf (name, sizeof text[0], "%u.%u", process->node + 1, process->life);
    return name;
}

sim_process_t *sim_process_at (const sim_world_t *w, unsigned node, bool second)
{
    return w->process[node * SIM_AT_ONCE + second];
}

sim_process_t *sim_process_start (sim_world_t *w, unsigned node, bool second)
{
    sim_process_t *process = calloc (1, sizeof *process);
    CTKI_ASSERT (process && w->lives + 1 < SIM_LIVES);
    process->node = node;
    process->slot = node * SIM_AT_ONCE + second;
    process->life = ++w->lives;
    process->second = second;
    process->setup = w->setup;
    process->setup.self = (ctalk_pid_t) node + 1;
    process->setup.inc = sim_chance (w) << 16 | process->life;
    w->life[process->life].node = node;
    w->life[process->life].inc = process->setup.inc;
    process->watching = !sim_strikes (w, SIM_UNWATCHED);
    process->unwatched = !process->watching;
    atomic_init (&process->bell.rung, true); /* whoever rings it is satisfied */
    ctki_inbox_init (&process->inbox, &process->bell);
    for (unsigned i = 0; i < w->nodes; i++)
        process->record[i] = ctki_peer_new ((ctalk_pid_t) i + 1, NULL, w->now_us);
    process->reports_end = &process->reports;
    process->reports_us = CTKI_FOREVER;
    process->send_us = process->eat_us = w->now_us;
    SIM_TELL (w, "%s starts%s", sim_name (process), second ? ", a second one" : "");
    w->process[process->slot] = process;
    for (unsigned i = 0; i < SIM_SLOTS; i++)
        w->when[process->slot * SIM_SLOTS + i] = CTKI_FOREVER;
    for (unsigned i = 0; !w->lazy && i < w->nodes; i++) {
        if (i != node)
            sim_sender_start (w, process, i);
    }
    sim_wake (w, process, SIM_APP, w->now_us);
    return process;
}

void sim_process_die (sim_world_t *w, sim_process_t **process_p)
{
    sim_process_t *process = *process_p;
    if (!process)
        return;
    SIM_TELL (w, "%s dies", sim_name (process));
    for (unsigned i = 0; i < w->nodes; i++)
        sim_sender_free (w, &process->sender[i]);
    sim_conns_end (w, process);
    sim_router_fini (w, process);
    ctki_inbox_fini (&process->inbox);
    for (unsigned i = 0; i < w->nodes; i++)
        ctki_peer_release (process->record[i]);
    for (unsigned i = 0; i < SIM_SLOTS; i++)
        w->when[process->slot * SIM_SLOTS + i] = CTKI_FOREVER;
    free (process);
    *process_p = NULL;
}
