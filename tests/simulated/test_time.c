/*
 * test_time.c - virtual time passes as far as is asked for, in no time; and a
 * seed replays.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/simulated/suites.h"
#include "tests/simulated/world.h"
#include "tests/support/leaks.h"
#include "tests/support/scale.h"

#define SECOND_US INT64_C (1000000)

enum { HOUR_S = 3600 };

static bool sleep_exactly (world_t *world)
{
    int64_t before_us = ctalk_sim_now_us (world->sim);
    ctalk_sim_sleep_ms (world->sim, 1234);
    CTKI_EXPECT_EQUAL (&world->trouble, ctalk_sim_now_us (world->sim) - before_us, 1234000);
    ctalk_sim_sleep_ms (world->sim, 0);
    CTKI_EXPECT_EQUAL (&world->trouble, ctalk_sim_now_us (world->sim) - before_us, 1234000);
    return true;
}

/* A sleep lasts as long as it was asked to last, and computing takes no time. */
START_TEST (a_sleep)
{
    world_t world = {.count = 1, .main_fn = sleep_exactly};
    world_run (&world);
    ck_assert_int_eq (world.end_us, 1234000);
}
END_TEST

static bool idle_for_an_hour (world_t *world)
{
    if (!world_open (world) || !world_wait_up (world))
        return false;
    for (int64_t i = 0; i < 60; i++) {
        ctalk_sim_sleep_ms (world->sim, 60 * 1000);
        if (!world_send (world, 1, 2, i) || !world_expect (world, 2, 1, i))
            return false;
    }
    ctalk_stats_t stats;
    CTKI_EXPECT_EQUAL (&world->trouble, ctalk_server_stats (world->server[1], 2, &stats), 0);
    CTKI_EXPECT_EQUAL (&world->trouble, stats.state, CTALK_STATE_UP);
    CTKI_EXPECT (&world->trouble, stats.state_since_ms >= HOUR_S * UINT64_C (1000));
    CTKI_EXPECT_EQUAL (&world->trouble, stats.reconnects, 0);
    return world_close (world);
}

/* Two servers that talk once a minute for an hour stay up all the time. That is no hour of ours: it must not take a
 * quarter of one. */
START_TEST (an_hour)
{
    world_t world = {.count = 2, .main_fn = idle_for_an_hour, .options = {.limit_ms = 2 * HOUR_S * INT64_C (1000)}};
    int64_t before_ms = ctki_test_now_ms ();
    world_run (&world);
    ck_assert_int_ge (world.end_us, HOUR_S * SECOND_US);
    ck_assert_int_lt (ctki_test_now_ms () - before_ms, ctki_test_ms (HOUR_S * 250));
    ck_assert_uint_gt (world.stats.messages, 2 * HOUR_S); /* heartbeats */
}
END_TEST

static bool lose_a_peer (world_t *world)
{
    const ctalk_pid_t side[] = {1};
    if (!world_open (world) || !world_wait_up (world))
        return false;
    ctalk_server_watch_peers (world->server[1], true);
    if (!world_expect_event (world, 1, 2, CTALK_PEER_UP))
        return false;
    int64_t before_us = ctalk_sim_now_us (world->sim);
    ctalk_sim_partition (world->sim, side, 1, true);
    if (!world_expect_event (world, 1, 2, CTALK_PEER_SUSPECT))
        return false;
    int64_t suspect_us = ctalk_sim_now_us (world->sim) - before_us;
    if (!world_expect_event (world, 1, 2, CTALK_PEER_DOWN))
        return false;
    int64_t down_us = ctalk_sim_now_us (world->sim) - before_us;
    CTKI_EXPECT (&world->trouble, suspect_us >= SECOND_US && suspect_us < 2 * SECOND_US);
    CTKI_EXPECT (&world->trouble, down_us >= 4 * SECOND_US && down_us < 6 * SECOND_US);
    ctalk_sim_partition (world->sim, NULL, 0, false);
    return world_expect_event (world, 1, 2, CTALK_PEER_UP) && world_close (world);
}

/* SuspectMs and DownMs pass in virtual time, to the ms that they say (counted from the last frame before). */
START_TEST (silence)
{
    static const char *const settings[] = {"HeartbeatMs", "500", "SuspectMs", "1500", "DownMs", "5000", NULL};
    world_t world = {.count = 2, .main_fn = lose_a_peer, .settings = settings};
    world_run (&world);
}
END_TEST

/* ---- replaying */

static void talk (void *arg)
{
    world_t *world = arg;
    for (int i = 0; i < 100; i++) {
        (void) world_send (world, 1 + (ctalk_pid_t) (ctalk_sim_random (world->sim) % 3), 2, i);
        ctalk_sim_sleep_ms (world->sim, (int) (ctalk_sim_random (world->sim) % 50));
    }
}

static bool much_happens (world_t *world)
{
    if (!world_open (world))
        return false;
    int one = ctalk_sim_spawn (world->sim, "one", talk, world),
        other = ctalk_sim_spawn (world->sim, "other", talk, world);
    for (int i = 0; i < 200; i++) {
        ctalk_envelope_t envelope;
        CTKI_EXPECT_EQUAL (&world->trouble, ctalk_recv (world->server[2], &envelope, -1), 0);
        ctalk_envelope_close (&envelope);
    }
    CTKI_EXPECT_EQUAL (&world->trouble, ctalk_sim_join (world->sim, one), 0);
    CTKI_EXPECT_EQUAL (&world->trouble, ctalk_sim_join (world->sim, other), 0);
    return world_close (world);
}

static uint64_t digest_of (uint64_t seed)
{
    world_t world = {
        .count = 3, .main_fn = much_happens, .options = {.seed = seed, .network = {.resets_per_second = 0.5}}};
    world_run (&world);
    return world.digest;
}

/* In another process, whose addresses are others. */
static uint64_t digest_elsewhere (uint64_t seed)
{
    int ends[2];
    uint64_t digest = 0;
    ck_assert_int_eq (pipe (ends), 0);
    pid_t child = fork ();
    if (child == 0) {
        void *volatile shift = malloc (12345);
        digest = digest_of (seed);
        free (shift);
        _exit (write (ends[1], &digest, sizeof digest) == sizeof digest ? 0 : 1);
    }
    (void) close (ends[1]);
    ck_assert_int_eq (read (ends[0], &digest, sizeof digest), sizeof digest);
    (void) close (ends[0]);
    ck_assert_int_eq (waitpid (child, NULL, 0), child);
    return digest;
}

/* The same seed gives the same run, message for message, in this process and in another one; another seed another. */
START_TEST (a_seed_replays)
{
    uint64_t last = 0;
    size_t seeds = ctki_test_count (20);
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        uint64_t digest = digest_of (seed);
        ck_assert_uint_eq (digest, digest_of (seed));
        ck_assert_uint_eq (digest, digest_elsewhere (seed));
        ck_assert_uint_ne (digest, last);
        last = digest;
    }
}
END_TEST

Suite *ctki_suite_sim_time (void)
{
    Suite *suite = suite_create ("sim_time");
    TCase *tcase = ctki_leaks_tcase ("sim_time", 120);
    tcase_add_test (tcase, a_sleep);
    tcase_add_test (tcase, an_hour);
    tcase_add_test (tcase, silence);
    tcase_add_test (tcase, a_seed_replays);
    suite_add_tcase (suite, tcase);
    return suite;
}
