/*
 * test_faults.c - what the simulated network can be made to do: partitions,
 * connections that break, servers that crash.
 */
#include "tests/simulated/suites.h"
#include "tests/simulated/world.h"
#include "tests/support/leaks.h"

enum { MANY = 500 };

static bool send_many (world_t *world, ctalk_pid_t from, ctalk_pid_t to, int64_t first)
{
    for (int64_t i = first; i < first + MANY; i++)
        if (!world_send (world, from, to, i))
            return false;
    return true;
}

static bool expect_many (world_t *world, ctalk_pid_t at, ctalk_pid_t from, int64_t first)
{
    for (int64_t i = first; i < first + MANY; i++)
        if (!world_expect (world, at, from, i))
            return false;
    return true;
}

static bool nothing_comes (world_t *world, ctalk_pid_t at, int timeout_ms)
{
    ctalk_envelope_t envelope;
    CTKI_EXPECT (&world->trouble, ctalk_recv (world->server[at], &envelope, timeout_ms) == -1 && errno == EAGAIN);
    return true;
}

/* ---- partitions */

/* The servers 1 and 2 on one side, 3 on the other one, for so long. */
static bool part_and_heal (world_t *world, int time_ms)
{
    const ctalk_pid_t side[] = {1, 2}, other_way_round[] = {2, 1};
    ctalk_sim_partition (world->sim, side, 2, true);
    if (!send_many (world, 1, 3, 0) || !send_many (world, 3, 2, 0) || !send_many (world, 1, 2, 0)
        || !expect_many (world, 2, 1, 0) || !nothing_comes (world, 3, time_ms) || !nothing_comes (world, 2, 0))
        return false;
    CTKI_EXPECT_EQUAL (&world->trouble, ctalk_sim_partition (world->sim, other_way_round, 2, false), 0);
    return send_many (world, 1, 3, MANY) && expect_many (world, 3, 1, 0) && expect_many (world, 3, 1, MANY)
           && expect_many (world, 2, 3, 0) && nothing_comes (world, 2, 1000) && nothing_comes (world, 3, 1000);
}

static bool partitions (world_t *world)
{
    return world_open (world) && world_wait_up (world) && part_and_heal (world, 300) && part_and_heal (world, 3000)
           && part_and_heal (world, 60000) && world_close (world);
}

/* Across a partition nothing comes, short, longer than SuspectMs, and for a minute; within a side all does. When it is
 * over all comes that was sent, once, in order. */
START_TEST (a_partition)
{
    world_t world = {.count = 3, .main_fn = partitions};
    for (world.options.seed = 1; world.options.seed <= 10; world.options.seed++)
        world_run (&world);
}
END_TEST

static bool two_partitions (world_t *world)
{
    const ctalk_pid_t one[] = {1}, three[] = {3};
    if (!world_open (world) || !world_wait_up (world))
        return false;
    ctalk_sim_partition (world->sim, one, 1, true);
    ctalk_sim_partition (world->sim, three, 1, true);
    if (!world_send (world, 1, 3, 1) || !world_send (world, 1, 2, 1) || !nothing_comes (world, 2, 1000))
        return false;
    ctalk_sim_partition (world->sim, three, 1, false); /* 1 alone is parted still */
    if (!world_send (world, 2, 3, 2) || !world_expect (world, 3, 2, 2) || !nothing_comes (world, 3, 1000))
        return false;
    ctalk_sim_partition (world->sim, NULL, 0, false);
    return world_expect (world, 2, 1, 1) && world_expect (world, 3, 1, 1) && world_close (world);
}

/* Two at once, taken back one after the other. */
START_TEST (several_partitions)
{
    world_t world = {.count = 3, .main_fn = two_partitions};
    world_run (&world);
}
END_TEST

/* ---- connections that break */

static bool break_while_sending (world_t *world)
{
    if (!world_open (world) || !world_wait_up (world))
        return false;
    CTKI_EXPECT_EQUAL (&world->trouble, ctalk_sim_reset (world->sim, 2, 3), 2);
    CTKI_EXPECT_EQUAL (&world->trouble, ctalk_sim_reset (world->sim, CTALK_BROADCAST, 9), 0);
    for (int64_t round = 0; round < 20; round++) {
        if (!send_many (world, 1, 2, round * MANY))
            return false;
        ctalk_sim_sleep_ms (world->sim, (int) (round % 3));
        (void) ctalk_sim_reset (world->sim, 1, CTALK_BROADCAST);
    }
    for (int64_t round = 0; round < 20; round++)
        if (!expect_many (world, 2, 1, round * MANY))
            return false;
    ctalk_stats_t stats;
    (void) ctalk_server_stats (world->server[1], 2, &stats);
    CTKI_EXPECT (&world->trouble, stats.reconnects >= 3 && stats.retransmitted > 0);
    return world_close (world);
}

/* Connections that break while messages are in them: all arrives, once, in order. */
START_TEST (resets)
{
    world_t world = {.count = 3, .main_fn = break_while_sending};
    world_run (&world);
    ck_assert_uint_gt (world.stats.lost, 0);
    ck_assert_uint_eq (world.stats.resets, 0); /* none by itself */
}
END_TEST

static bool change_the_network (world_t *world)
{
    ctalk_sim_network_t network = {.latency_us_min = 20000, .latency_us_max = 20000, .resets_per_second = 0};
    if (!world_open (world) || !world_wait_up (world))
        return false;
    ctalk_sim_set_network (world->sim, &network);
    int64_t before_us = ctalk_sim_now_us (world->sim);
    if (!world_send (world, 1, 2, 1) || !world_expect (world, 2, 1, 1))
        return false;
    int64_t took_us = ctalk_sim_now_us (world->sim) - before_us;
    CTKI_EXPECT (&world->trouble, took_us >= 20000 && took_us < 25000);
    network.resets_per_second = 5;
    ctalk_sim_set_network (world->sim, &network);
    ctalk_sim_sleep_ms (world->sim, 10000);
    network.resets_per_second = 0;
    ctalk_sim_set_network (world->sim, &network);
    return world_close (world);
}

/* Latency and breaking connections can be changed: two for 10 s, five times a second each. */
START_TEST (the_network)
{
    world_t world = {.count = 2, .main_fn = change_the_network};
    world_run (&world);
    ck_assert_uint_ge (world.stats.resets, 50);
    ck_assert_uint_le (world.stats.resets, 150);
}
END_TEST

/* ---- crashes */

static bool crash_and_restart (world_t *world)
{
    ctki_trouble_t *trouble = &world->trouble;
    if (!world_open (world) || !world_wait_up (world))
        return false;
    ctalk_server_watch_peers (world->server[1], true);
    if (!world_expect_event (world, 1, 2, CTALK_PEER_UP) || !world_send (world, 1, 2, 1)
        || !world_expect (world, 2, 1, 1) || !world_send (world, 1, 2, 2))
        return false;
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_flush (world->server[1], 2, 1000), 0);
    /* What it sends last does not leave it. */
    if (!world_send (world, 2, 1, 99))
        return false;
    CTKI_EXPECT (trouble, ctalk_sim_crash (world->sim, &world->server[2]) >= 0 && !world->server[2]);
    if (!world_expect_event (world, 1, 2, CTALK_PEER_SUSPECT) || !world_expect_event (world, 1, 2, CTALK_PEER_DOWN)
        || !world_send (world, 1, 2, 3) || !world_start (world, 2))
        return false;
    ctalk_envelope_t envelope;
    CTKI_EXPECT_EQUAL (trouble, ctalk_recv (world->server[1], &envelope, 60000), 0);
    CTKI_EXPECT_EQUAL (trouble, envelope.kind, CTALK_PEER_RESTARTED);
    const ctalk_event_t *event = envelope.data;
    CTKI_EXPECT_EQUAL (trouble, event->fates, 1);
    CTKI_EXPECT_EQUAL (trouble, event->fate[0].msg_id, 2);
    CTKI_EXPECT_EQUAL (trouble, event->fate[0].kind, CTALK_RECEIVED);
    CTKI_EXPECT_EQUAL (trouble, event->carried, 1);
    ctalk_envelope_close (&envelope);
    return world_expect_event (world, 1, 2, CTALK_PEER_UP) && world_expect (world, 2, 1, 3) && world_close (world);
}

/* A server that crashes says no goodbye; when it is there again, those who sent to it are told. */
START_TEST (a_crash)
{
    world_t world = {.count = 2, .main_fn = crash_and_restart};
    for (world.options.seed = 1; world.options.seed <= 10; world.options.seed++)
        world_run (&world);
}
END_TEST

Suite *ctki_suite_sim_faults (void)
{
    Suite *suite = suite_create ("sim_faults");
    TCase *tcase = ctki_leaks_tcase ("sim_faults", 60);
    tcase_add_test (tcase, a_partition);
    tcase_add_test (tcase, several_partitions);
    tcase_add_test (tcase, resets);
    tcase_add_test (tcase, the_network);
    tcase_add_test (tcase, a_crash);
    suite_add_tcase (suite, tcase);
    return suite;
}
