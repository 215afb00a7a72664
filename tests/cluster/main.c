/*
 * main.c - runs the cluster tests: servers of one process or of several, over
 * loopback. CK_RUN_SUITE=name runs one suite, CK_FORK=no all in this process.
 * Built with CTKI_QUEUE_SOCKETS: over queue sockets, without libzmq.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/cluster/suites.h"
#include "tests/support/scale.h"

int main (void)
{
    (void) ctki_test_raise_descriptors ();
    SRunner *runner = srunner_create (ctki_suite_support ());
    static Suite *(*const suites[]) (void) = {
        ctki_suite_basics,    ctki_suite_order,   ctki_suite_local,      ctki_suite_errors,  ctki_suite_start,
        ctki_suite_interrupt, ctki_suite_fork,    ctki_suite_memory,     ctki_suite_owned,   ctki_suite_many,
        ctki_suite_threads,   ctki_suite_wake,    ctki_suite_states,     ctki_suite_flush,   ctki_suite_descriptor,
        ctki_suite_broadcast, ctki_suite_members, ctki_suite_pressure,   ctki_suite_senders, ctki_suite_close,
        ctki_suite_restart,   ctki_suite_absent,  ctki_suite_transports, ctki_suite_events,  ctki_suite_cut,
        ctki_suite_raft,      ctki_suite_help,    ctki_suite_supervisors,
        ctki_suite_actors,    ctki_suite_actor_ends, ctki_suite_actor_memory, ctki_suite_actor_calls,
        ctki_suite_monitors,  ctki_suite_timers,  ctki_suite_groups,     ctki_suite_credit, ctki_suite_hall_bugs,
#ifndef CTKI_QUEUE_SOCKETS
        ctki_suite_abuse,     ctki_suite_resources,
#endif
    };
    for (size_t i = 0; i < sizeof suites / sizeof suites[0]; i++)
        srunner_add_suite (runner, suites[i]());
    srunner_run_all (runner, CK_ENV);
    int run = srunner_ntests_run (runner), failed = srunner_ntests_failed (runner);
    printf ("cluster: %d tests, %d failed, %s\n", run, failed, ctki_test_scale_text ());
    srunner_free (runner);
    return failed == 0 && run > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
