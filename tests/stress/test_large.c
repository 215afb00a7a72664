/*
 * test_large.c - 1,000 envelopes of 10 MB one way, in bounded memory.
 *
 * The bound: a sender holds at most QueueBytes and two messages, a receiver at
 * most WindowBytes and one message (DESIGN section 4, rule R12); the test itself
 * holds the message that it makes and the one that it checks. The slack is for
 * libzmq's and the library's frames under way (256 KiB each), stacks and the allocator.
 */
#include "tests/stress/nodes.h"
#include "tests/stress/suites.h"
#include "tests/support/support.h"

enum { COUNT = 1000, MESSAGE = 10000000, QUEUE = 8 * 1024 * 1024, WINDOW = 4 * 1024 * 1024, SLACK = 40 * 1024 * 1024 };

static ctki_nodes_t large (void)
{
    static const size_t sizes[] = {MESSAGE};
    static const char *options[] = {"MaxMessageBytes", "10000000", NULL};
    size_t count = ctki_test_count (COUNT);
    ctki_nodes_t nodes = {.name = "large", .servers = 2, .sizes = sizes, .sizes_count = 1, .count = count};
    nodes.options = options;
    nodes.dst[1] = 2;
    nodes.expect[2] = count;
    nodes.memory[1] = QUEUE + 2 * MESSAGE + MESSAGE + SLACK;
    nodes.memory[2] = WINDOW + MESSAGE + MESSAGE + SLACK;
    return nodes;
}

/* 1,000 envelopes of 10 MB within one process. */
START_TEST (large_threads)
{
    ctki_nodes_t nodes = large ();
    ctki_nodes_run_threads (&nodes);
}
END_TEST

/* The same between two processes, each within its own bound. */
START_TEST (large_processes)
{
    ctki_nodes_t nodes = large ();
    ctki_nodes_run_processes (&nodes);
}
END_TEST

Suite *ctki_suite_large (void)
{
    Suite *suite = suite_create ("large");
    TCase *tcase = ctki_leaks_tcase ("large", 400);
    tcase_add_test (tcase, large_threads);
    tcase_add_test (tcase, large_processes);
    suite_add_tcase (suite, tcase);
    return suite;
}
