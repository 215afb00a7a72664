/*
 * test_numbers.c - 10,000 envelopes one way, and five servers that broadcast
 * 10,000 each, as threads and as processes: number, order and content.
 */
#include "tests/stress/nodes.h"
#include "tests/stress/suites.h"
#include "tests/support/support.h"

enum { COUNT = 10000, BROADCASTERS = 5 };

static ctki_nodes_t one_way (void)
{
    static const size_t sizes[] = {64, 0, 1, 1000, 63, 4096, 65536, 200, 100, 65};
    size_t count = ctki_test_count (COUNT);
    ctki_nodes_t nodes = {.name = "one way", .servers = 2, .sizes = sizes, .sizes_count = 10, .count = count};
    nodes.dst[1] = 2;
    nodes.expect[2] = count;
    return nodes;
}

static ctki_nodes_t broadcast (void)
{
    static const size_t sizes[] = {64, 300, 5000, 64, 64, 100, 0, 64, 64, 64};
    size_t count = ctki_test_count (COUNT);
    ctki_nodes_t nodes = {
        .name = "broadcast", .servers = BROADCASTERS, .sizes = sizes, .sizes_count = 10, .count = count};
    for (size_t i = 1; i <= BROADCASTERS; i++) {
        nodes.dst[i] = CTALK_BROADCAST;
        nodes.expect[i] = (BROADCASTERS - 1) * count;
    }
    return nodes;
}

/* 10,000 envelopes from one server to another in the same process arrive, in order and unchanged. */
START_TEST (one_way_threads)
{
    ctki_nodes_t nodes = one_way ();
    ctki_nodes_run_threads (&nodes);
}
END_TEST

/* The same between two processes. */
START_TEST (one_way_processes)
{
    ctki_nodes_t nodes = one_way ();
    ctki_nodes_run_processes (&nodes);
}
END_TEST

/* Five servers of one process broadcast 10,000 each, and each confirms 40,000. */
START_TEST (broadcast_threads)
{
    ctki_nodes_t nodes = broadcast ();
    ctki_nodes_run_threads (&nodes);
}
END_TEST

/* The same with five processes. */
START_TEST (broadcast_processes)
{
    ctki_nodes_t nodes = broadcast ();
    ctki_nodes_run_processes (&nodes);
}
END_TEST

Suite *ctki_suite_numbers (void)
{
    Suite *suite = suite_create ("numbers");
    TCase *tcase = ctki_leaks_tcase ("numbers", 300);
    tcase_add_test (tcase, one_way_threads);
    tcase_add_test (tcase, one_way_processes);
    tcase_add_test (tcase, broadcast_threads);
    tcase_add_test (tcase, broadcast_processes);
    suite_add_tcase (suite, tcase);
    return suite;
}
