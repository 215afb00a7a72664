/*
 * main.c - runs the fault tests: processes that are killed, stopped, or do not
 * receive. CK_RUN_SUITE=name runs one suite, CK_FORK=no all in this process.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/faults/suites.h"
#include "tests/support/scale.h"

int main (void)
{
    (void) ctki_test_raise_descriptors ();
    SRunner *runner = srunner_create (ctki_suite_kill ());
    srunner_add_suite (runner, ctki_suite_pause ());
    srunner_add_suite (runner, ctki_suite_stuck ());
    srunner_run_all (runner, CK_ENV);
    int run = srunner_ntests_run (runner), failed = srunner_ntests_failed (runner);
    printf ("faults: %d tests, %d failed, %s\n", run, failed, ctki_test_scale_text ());
    srunner_free (runner);
    return failed == 0 && run > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
