/*
 * main.c - runs the tests of the simulator, which are programs as its users
 * write them: on the public headers alone, linked with libclustertalk-sim.
 * CK_RUN_SUITE=name runs one suite, CK_FORK=no all in this process.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/simulated/suites.h"
#include "tests/support/scale.h"

int main (void)
{
    SRunner *runner = srunner_create (ctki_suite_sim_run ());
    srunner_add_suite (runner, ctki_suite_sim_time ());
    srunner_add_suite (runner, ctki_suite_sim_faults ());
    srunner_add_suite (runner, ctki_suite_sim_actors ());
    srunner_add_suite (runner, ctki_suite_sim_seeds ());
    srunner_add_suite (runner, ctki_suite_sim_kvstore ());
    srunner_run_all (runner, CK_ENV);
    int run = srunner_ntests_run (runner), failed = srunner_ntests_failed (runner);
    printf ("simulated: %d tests, %d failed, %s\n", run, failed, ctki_test_scale_text ());
    srunner_free (runner);
    return failed == 0 && run > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
