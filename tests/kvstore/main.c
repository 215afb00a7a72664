/*
 * main.c - runs the tests of the key-value store (examples/kvstore.c).
 * CK_RUN_SUITE=name runs one suite, CK_FORK=no all in this process.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/kvstore/suites.h"
#include "tests/support/scale.h"

int main (void)
{
    (void) ctki_test_raise_descriptors ();
    SRunner *runner = srunner_create (ctki_suite_kv_linear ());
    srunner_add_suite (runner, ctki_suite_kv_log ());
    srunner_add_suite (runner, ctki_suite_kv_parts ());
    srunner_add_suite (runner, ctki_suite_kv_cluster ());
    srunner_run_all (runner, CK_ENV);
    int run = srunner_ntests_run (runner), failed = srunner_ntests_failed (runner);
    printf ("kvstore: %d tests, %d failed, %s\n", run, failed, ctki_test_scale_text ());
    srunner_free (runner);
    return failed == 0 && run > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
