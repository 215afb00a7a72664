/*
 * test_run.c - a run and its threads: how it ends, well and badly, what is
 * refused, and the calls that wait.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/simulated/suites.h"
#include "tests/simulated/world.h"
#include "tests/support/leaks.h"

/* ---- good ends */

static int counter;

static void count (void *arg)
{
    ctalk_sim_sleep_ms (arg, 10);
    counter++;
}

static bool spawn_some (world_t *world)
{
    int thread[3];
    for (int i = 0; i < 3; i++) {
        thread[i] = ctalk_sim_spawn (world->sim, "counts", count, world->sim);
        CTKI_EXPECT (&world->trouble, thread[i] > 0);
    }
    CTKI_EXPECT_EQUAL (&world->trouble, ctalk_sim_join (world->sim, thread[1]), 0);
    CTKI_EXPECT (&world->trouble, ctalk_sim_join (world->sim, thread[1]) == -1 && errno == ESRCH);
    CTKI_EXPECT (&world->trouble, ctalk_sim_join (world->sim, 1) == -1 && errno == EDEADLK); /* oneself */
    return true;
}

/* A run lasts until all threads have returned, those that nobody joins, too. */
START_TEST (until_all_have_returned)
{
    world_t world = {.main_fn = spawn_some};
    counter = 0;
    world_run (&world);
    ck_assert_int_eq (counter, 3);
    ck_assert_int_eq (world.end_us, 10000);
    ck_assert_str_eq (world.threads, "");
}
END_TEST

static void run_nothing (ctalk_sim_t *sim, void *arg)
{
    (void) sim;
    (void) arg;
}

/* What is spawned before the run runs with it; in a simulation that never runs, it does not. */
START_TEST (spawned_before)
{
    ctalk_sim_t *sim = ctalk_sim_new (NULL, NULL);
    counter = 0;
    ck_assert_int_gt (ctalk_sim_spawn (sim, "early", count, sim), 0);
    ck_assert_int_eq (ctalk_sim_run (sim, run_nothing, NULL, NULL), 0);
    ck_assert_int_eq (counter, 1);
    ck_assert_int_eq (ctalk_sim_spawn (sim, "late", count, sim), -1);
    ck_assert_int_eq (errno, EINVAL);
    ctalk_sim_destroy (&sim);
    sim = ctalk_sim_new (NULL, NULL);
    ck_assert_int_gt (ctalk_sim_spawn (sim, "never", count, sim), 0);
    ctalk_sim_destroy (&sim);
    ck_assert_int_eq (counter, 1);
    ctalk_sim_destroy (&sim);
    ctalk_sim_destroy (NULL);
}
END_TEST

/* ---- bad ends; threads and memory are left behind */

static void wait_for_main (void *arg)
{
    world_t *world = arg;
    (void) ctalk_sim_join (world->sim, 1);
}

static bool wait_for_each_other (world_t *world)
{
    (void) ctalk_sim_join (world->sim, ctalk_sim_spawn (world->sim, "other", wait_for_main, world));
    return true;
}

/* Two threads that wait for each other: the run tells who waits for what. */
START_TEST (a_deadlock)
{
    world_t world = {.main_fn = wait_for_each_other};
    world_try (&world);
    ck_assert_int_eq (world.rc, -1);
    ck_assert_int_eq (world.code, EDEADLK);
    ck_assert_int_eq (world.error.code, EDEADLK);
    ck_assert_str_eq (world.threads, "main waits for other, for ever\nother waits for main, for ever\n");
    world_t next = {.main_fn = spawn_some};
    world_run (&next); /* a new simulation works */
}
END_TEST

static bool receive_for_ever (world_t *world)
{
    ctalk_envelope_t envelope;
    if (!world_open (world))
        return false;
    (void) ctalk_recv (world->server[1], &envelope, -1);
    return true;
}

/* A thread that waits for what never comes, while heartbeats go on: the limit ends it. */
START_TEST (the_limit)
{
    world_t world = {.count = 2, .main_fn = receive_for_ever, .options = {.limit_ms = 30000}};
    world_try (&world);
    ck_assert_int_eq (world.code, ETIME);
    ck_assert_int_le (world.end_us, 30000000);
    ck_assert_int_gt (world.end_us, 29000000);
    ck_assert_msg (strstr (world.threads, "main waits for ") != NULL, "%s", world.threads);
    ck_assert_msg (strstr (world.threads, "ct-router-2 waits for messages, ") != NULL, "%s", world.threads);
}
END_TEST

static bool leave_open (world_t *world)
{
    return world_open (world);
}

/* A server that is not closed. */
START_TEST (not_closed)
{
    world_t world = {.count = 2, .main_fn = leave_open};
    world_try (&world);
    ck_assert_int_eq (world.code, EBUSY);
    ck_assert_msg (strstr (world.error.text, "not closed") != NULL, "%s", world.error.text);
    world_t again = {.count = 2, .main_fn = leave_open};
    world_try (&again);
    ck_assert_uint_eq (again.digest, world.digest);
}
END_TEST

/* ---- what is refused */

static void expect_invalid (const ctalk_sim_options_t *options)
{
    ctalk_error_t error;
    ck_assert_ptr_null (ctalk_sim_new (options, &error));
    ck_assert_int_eq (errno, EINVAL);
    ck_assert_int_eq (error.code, EINVAL);
}

START_TEST (options)
{
    expect_invalid (&(ctalk_sim_options_t){.network.latency_us_min = -1});
    expect_invalid (&(ctalk_sim_options_t){.network = {.latency_us_min = 2, .latency_us_max = 1}});
    expect_invalid (&(ctalk_sim_options_t){.network.resets_per_second = -1});
    expect_invalid (&(ctalk_sim_options_t){.network.resets_per_second = 1001});
    expect_invalid (&(ctalk_sim_options_t){.network.reserved[3] = 1});
    expect_invalid (&(ctalk_sim_options_t){.limit_ms = -1});
    expect_invalid (&(ctalk_sim_options_t){.reserved[0] = 1});
}
END_TEST

static bool misuse (world_t *world)
{
    ctalk_sim_network_t bad = {.resets_per_second = 2000};
    ctki_trouble_t *trouble = &world->trouble;
    const ctalk_pid_t one[] = {1};
    CTKI_EXPECT (trouble, ctalk_sim_new (NULL, NULL) == NULL && errno == EBUSY);
    CTKI_EXPECT (trouble, ctalk_sim_spawn (world->sim, "nothing", NULL, NULL) == -1 && errno == EINVAL);
    CTKI_EXPECT (trouble, ctalk_sim_set_network (world->sim, &bad) == -1 && errno == EINVAL);
    CTKI_EXPECT (trouble, ctalk_sim_partition (world->sim, NULL, 0, true) == -1 && errno == EINVAL);
    CTKI_EXPECT (trouble, ctalk_sim_partition (world->sim, one, 1, false) == -1 && errno == ESRCH);
    CTKI_EXPECT (trouble, ctalk_sim_crash (world->sim, NULL) == -1 && errno == EINVAL);
    CTKI_EXPECT (trouble, ctalk_sim_crash (world->sim, &world->server[1]) == -1 && errno == EINVAL);
    CTKI_EXPECT_EQUAL (trouble, ctalk_sim_reset (world->sim, 1, 2), 0);
    return true;
}

/* Outside of the run no server can be made, and what would wait fails. */
START_TEST (calls)
{
    ctalk_error_t error;
    world_t world = {.count = 2, .main_fn = misuse};
    world_run (&world);
    ctalk_config_t *config = ctalk_config_new ();
    ck_assert_int_eq (ctalk_config_add_server (config, 1, "127.0.0.1:5001", &error), 0);
    ck_assert_ptr_null (ctalk_server_new (1, config, &error));
    ck_assert_int_eq (errno, EPERM);
    ctalk_sim_t *sim = ctalk_sim_new (NULL, NULL);
    ck_assert_ptr_null (ctalk_server_new (1, config, &error));
    ck_assert_int_eq (errno, EPERM);
    ck_assert_int_eq (ctalk_sim_join (sim, 1), -1);
    ck_assert_int_eq (errno, EPERM);
    ck_assert_int_eq (ctalk_sim_poll (sim, NULL, 0, 0), -1);
    ck_assert_int_eq (errno, EINVAL);
    ctalk_server_t *none = NULL;
    ck_assert_int_eq (ctalk_sim_crash (sim, &none), -1);
    ck_assert_int_eq (errno, EPERM);
    ctalk_sim_sleep_ms (sim, 1000);
    ck_assert_int_eq (ctalk_sim_now_us (sim), 0);
    ck_assert_int_eq (ctalk_sim_run (sim, NULL, NULL, &error), -1);
    ck_assert_int_eq (errno, EINVAL);
    ck_assert_int_eq (ctalk_sim_run (sim, run_nothing, NULL, &error), 0);
    ck_assert_int_eq (ctalk_sim_run (sim, run_nothing, NULL, &error), -1);
    ck_assert_int_eq (error.code, EINVAL);
    ctalk_sim_destroy (&sim);
    ctalk_config_destroy (&config);
}
END_TEST

/* ---- calls that wait */

static void send_soon (void *arg)
{
    world_t *world = arg;
    ctalk_sim_sleep_ms (world->sim, 500);
    (void) world_send (world, 2, 1, 7);
    ctalk_sim_sleep_ms (world->sim, 500);
    ctalk_server_wake (world->server[1]);
}

static bool wait_in_all_ways (world_t *world)
{
    ctki_trouble_t *trouble = &world->trouble;
    if (!world_open (world) || !world_wait_up (world))
        return false;
    ctalk_server_t *one = world->server[1];
    struct pollfd item = {.fd = ctalk_server_fd (one), .events = POLLIN};
    int64_t before_us = ctalk_sim_now_us (world->sim);
    CTKI_EXPECT_EQUAL (trouble, ctalk_sim_poll (world->sim, &item, 1, 100), 0);
    CTKI_EXPECT_EQUAL (trouble, ctalk_sim_now_us (world->sim) - before_us, 100000);
    ctalk_sim_spawn (world->sim, "sends", send_soon, world);
    CTKI_EXPECT_EQUAL (trouble, ctalk_sim_poll (world->sim, &item, 1, -1), 1);
    CTKI_EXPECT_EQUAL (trouble, item.revents, POLLIN);
    if (!world_expect (world, 1, 2, 7))
        return false;
    CTKI_EXPECT_EQUAL (trouble, ctalk_sim_poll (world->sim, &item, 1, 0), 0);
    ctalk_envelope_t envelope;
    CTKI_EXPECT (trouble, ctalk_recv (one, &envelope, 100) == -1 && errno == EAGAIN);
    CTKI_EXPECT (trouble, ctalk_recv (one, &envelope, -1) == -1 && errno == EINTR);
    int64_t passed_us = ctalk_sim_now_us (world->sim) - before_us;
    CTKI_EXPECT (trouble, passed_us >= 1100000 && passed_us < 1200000);
    return world_close (world);
}

START_TEST (waiting)
{
    world_t world = {.count = 2, .main_fn = wait_in_all_ways};
    world_run (&world);
}
END_TEST

static bool poll_without_waiting (world_t *world)
{
    ctalk_envelope_t envelope;
    if (!world_open (world) || !world_wait_up (world) || !world_send (world, 2, 1, 1))
        return false;
    while (ctalk_recv (world->server[1], &envelope, 0) == -1)
        CTKI_EXPECT_EQUAL (&world->trouble, errno, EAGAIN);
    ctalk_envelope_close (&envelope);
    return world_close (world);
}

/* A loop that receives with timeout 0 gets there. */
START_TEST (polling)
{
    world_t world = {.count = 2, .main_fn = poll_without_waiting};
    world_run (&world);
}
END_TEST

static bool resolve (world_t *world)
{
    (void) world;
    ctalk_error_t error;
    static const char text[] = "{\"Servers\": {\"1\": {\"Bind\": \"*:5001\", \"Connect\": \"some.host:5001\"},"
                               "\"2\": \"another.host:5001\", \"3\": \"inproc://three\", \"4\": \"[::1]:0\"}}";
    ctalk_config_destroy (&world->config);
    world->config = ctalk_config_parse (text, sizeof text - 1, &error);
    CTKI_EXPECT (&world->trouble, world->config != NULL);
    world->count = 4;
    if (!world_start (world, 1))
        return false;
    CTKI_EXPECT (&world->trouble, ctalk_server_new (2, world->config, &error) == NULL && errno == EADDRINUSE);
    return world_start (world, 3) && world_start (world, 4) && ctalk_server_close (&world->server[1], 0) == 0
           && world_start (world, 2) && ctalk_server_close (&world->server[2], 0) == 0
           && ctalk_server_close (&world->server[3], 0) == 0 && ctalk_server_close (&world->server[4], 0) == 0;
}

/* Endpoints of all kinds; hosts' names need no answer from anybody. */
START_TEST (endpoints)
{
    world_t world = {.main_fn = resolve};
    world_run (&world);
}
END_TEST

static bool note (world_t *world)
{
    ctalk_sim_note (world->sim, world->more);
    return true;
}

/* What a program notes stands in the trace and changes the digest. */
START_TEST (the_trace)
{
    char *text = NULL;
    size_t size = 0;
    FILE *trace = open_memstream (&text, &size);
    world_t one = {.main_fn = note, .more = "one", .options.trace = trace}, two = {.main_fn = note, .more = "two"};
    world_run (&one);
    world_run (&two);
    (void) fclose (trace);
    ck_assert_str_eq (text, "    0.000000 main runs\n    0.000000 main: one\n    0.000000 main has ended\n");
    ck_assert_uint_ne (one.digest, two.digest);
    free (text);
}
END_TEST

Suite *ctki_suite_sim_run (void)
{
    Suite *suite = suite_create ("sim_run");
    TCase *tcase = ctki_leaks_tcase ("sim_run", 60);
    tcase_add_test (tcase, until_all_have_returned);
    tcase_add_test (tcase, spawned_before);
    tcase_add_test (tcase, options);
    tcase_add_test (tcase, calls);
    tcase_add_test (tcase, waiting);
    tcase_add_test (tcase, polling);
    tcase_add_test (tcase, endpoints);
    tcase_add_test (tcase, the_trace);
    suite_add_tcase (suite, tcase);
    tcase = tcase_create ("sim_bad_ends"); /* these leave threads behind */
    tcase_add_test (tcase, a_deadlock);
    tcase_add_test (tcase, the_limit);
    tcase_add_test (tcase, not_closed);
    suite_add_tcase (suite, tcase);
    return suite;
}
