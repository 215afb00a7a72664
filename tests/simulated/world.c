/*
 * world.c - a simulated cluster for a test.
 */
#include "tests/simulated/world.h"

#include <stdio.h>

enum { LONG_MS = 60 * 1000 }; /* of virtual time */

static void main_task (ctalk_sim_t *sim, void *arg)
{
    world_t *world = arg;
    world->sim = sim;
    (void) world->main_fn (world);
}

static void make_config (world_t *world)
{
    ctalk_error_t error;
    world->config = ctalk_config_new ();
    ck_assert_ptr_nonnull (world->config);
    for (const char *const *set = world->settings; set && set[0]; set += 2)
        ck_assert_msg (ctalk_config_set (world->config, set[0], set[1], &error) == 0, "%s", error.text);
    for (size_t i = 1; i <= world->count; i++) {
        char endpoint[32];
        (void) snprintf (endpoint, sizeof endpoint, "tcp://host-%zu:5000", i);
        ck_assert_msg (ctalk_config_add_server (world->config, (ctalk_pid_t) i, endpoint, &error) == 0, "%s",
                       error.text);
    }
}

void world_try (world_t *world)
{
    make_config (world);
    world->trouble.text[0] = 0;
    ctalk_sim_t *sim = ctalk_sim_new (&world->options, &world->error);
    ck_assert_msg (sim != NULL, "%s", world->error.text);
    world->rc = ctalk_sim_run (sim, main_task, world, &world->error);
    world->code = errno;
    world->digest = ctalk_sim_digest (sim);
    world->end_us = ctalk_sim_now_us (sim);
    ctalk_sim_stats (sim, &world->stats);
    size_t size = ctalk_sim_threads (sim, world->threads, sizeof world->threads);
    ck_assert_uint_lt (size, sizeof world->threads);
    ctalk_sim_destroy (&sim);
    ck_assert_ptr_null (sim);
    ctalk_config_destroy (&world->config);
}

void world_run (world_t *world)
{
    world_try (world);
    ck_assert_msg (!world->trouble.text[0], "seed %llu: %s", (unsigned long long) world->options.seed,
                   world->trouble.text);
    ck_assert_msg (world->rc == 0, "seed %llu: %s\n%s", (unsigned long long) world->options.seed, world->error.text,
                   world->threads);
}

bool world_start (world_t *world, ctalk_pid_t pid)
{
    ctalk_error_t error;
    world->server[pid] = ctalk_server_new (pid, world->config, &error);
    if (!world->server[pid])
        return ctki_trouble_note (&world->trouble, __FILE__, __LINE__, "server %d: %s", pid, error.text);
    return true;
}

bool world_open (world_t *world)
{
    for (size_t i = 1; i <= world->count; i++)
        if (!world_start (world, (ctalk_pid_t) i))
            return false;
    return true;
}

bool world_wait_up (world_t *world)
{
    for (size_t i = 1; i <= world->count; i++)
        CTKI_EXPECT (&world->trouble, ctalk_server_wait_up (world->server[i], world->count - 1, LONG_MS) == 0);
    return true;
}

bool world_close (world_t *world)
{
    for (size_t i = 1; i <= world->count; i++) {
        int left = ctalk_server_close (&world->server[i], LONG_MS);
        if (left)
            return ctki_trouble_note (&world->trouble, __FILE__, __LINE__, "closing %zu left %d", i, left);
    }
    return true;
}

bool world_send (world_t *world, ctalk_pid_t from, ctalk_pid_t to, int64_t msg_id)
{
    ctalk_envelope_t envelope = {.pid = to, .msg_id = msg_id};
    CTKI_EXPECT (&world->trouble, ctalk_send (world->server[from], &envelope, LONG_MS) == 0);
    return true;
}

static bool expect (world_t *world, ctalk_pid_t at, const ctalk_envelope_t *wanted)
{
    ctalk_envelope_t envelope;
    CTKI_EXPECT (&world->trouble, ctalk_recv (world->server[at], &envelope, LONG_MS) == 0);
    ctalk_envelope_t got = envelope;
    ctalk_envelope_close (&envelope);
    CTKI_EXPECT_EQUAL (&world->trouble, got.kind, wanted->kind);
    CTKI_EXPECT_EQUAL (&world->trouble, got.pid, wanted->pid);
    CTKI_EXPECT_EQUAL (&world->trouble, got.msg_id, wanted->msg_id);
    return true;
}

bool world_expect (world_t *world, ctalk_pid_t at, ctalk_pid_t from, int64_t msg_id)
{
    return expect (world, at, &(ctalk_envelope_t){.pid = from, .msg_id = msg_id});
}

bool world_expect_event (world_t *world, ctalk_pid_t at, ctalk_pid_t about, ctalk_kind_t kind)
{
    return expect (world, at, &(ctalk_envelope_t){.pid = about, .kind = kind});
}

/* ---- trouble */

uint64_t world_draw (world_t *world, uint64_t end)
{
    return ctalk_sim_random (world->sim) % end;
}

/* Bad ways between two servers, of which the first one does not crash. */
static void impair (world_t *world, ctalk_pid_t from, ctalk_pid_t to)
{
    ctalk_impairment_t how = {.loss = (double) world_draw (world, 30) / 100,
                              .duplicate = (double) world_draw (world, 30) / 100,
                              .delay_ms = (int) world_draw (world, 20),
                              .jitter_ms = (int) world_draw (world, 20),
                              .seed = world_draw (world, UINT64_MAX)};
    int directions = 1 + (int) world_draw (world, CTALK_IN | CTALK_OUT);
    if (from == to)
        return;
    if (world_draw (world, 2))
        (void) ctalk_server_impair (world->server[from], to, directions, world_draw (world, 2) ? &how : NULL);
    else
        (void) ctalk_server_cut (world->server[from], to, directions, world_draw (world, 3) == 0);
}

static void make_all_good (world_t *world)
{
    ctalk_sim_partition (world->sim, NULL, 0, false);
    ctalk_sim_set_network (world->sim, &(ctalk_sim_network_t){0});
    for (ctalk_pid_t pid = 1; pid <= world->sound; pid++) {
        (void) ctalk_server_impair (world->server[pid], CTALK_BROADCAST, CTALK_IN | CTALK_OUT, NULL);
        (void) ctalk_server_cut (world->server[pid], CTALK_BROADCAST, CTALK_IN | CTALK_OUT, false);
    }
}

static void break_things (void *arg)
{
    world_t *world = arg;
    while (!world->quiet) {
        ctalk_pid_t one = 1 + (ctalk_pid_t) world_draw (world, world->count),
                    other = 1 + (ctalk_pid_t) world_draw (world, world->count);
        ctalk_sim_network_t network = {.latency_us_max = (int) world_draw (world, 30000),
                                       .resets_per_second =
                                           world_draw (world, 2) ? 0 : (double) world_draw (world, 20)};
        switch (world_draw (world, 6)) {
        case 0:
            ctalk_sim_partition (world->sim, &one, 1, true);
            break;
        case 1:
            ctalk_sim_partition (world->sim, NULL, 0, false);
            break;
        case 2:
            ctalk_sim_reset (world->sim, one, other);
            break;
        case 3:
            ctalk_sim_set_network (world->sim, &network);
            break;
        default:
            impair (world, 1 + (ctalk_pid_t) world_draw (world, (uint64_t) world->sound), other);
        }
        ctalk_sim_sleep_ms (world->sim, (int) world_draw (world, world_draw (world, 5) ? 300 : 8000));
    }
    make_all_good (world);
}

void world_begin_trouble (world_t *world, ctalk_pid_t sound)
{
    world->sound = sound;
    world->quiet = false;
    world->breaker = ctalk_sim_spawn (world->sim, "breaks", break_things, world);
}

void world_end_trouble (world_t *world)
{
    world->quiet = true;
    ctalk_sim_join (world->sim, world->breaker);
}
