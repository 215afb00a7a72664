/*
 * main.c - runs the chaos tests: the proxy itself, then the library (and bare
 * libzmq, for comparison) over connections that fail. With the argument "full"
 * at full count, without it at a fraction of that.
 * CK_RUN_SUITE=name runs one suite, CK_FORK=no all in this process.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/chaos/suites.h"
#include "tests/support/scale.h"

enum { QUICK = 25 };

static size_t divisor = QUICK;

size_t ctki_chaos_test_count (size_t full)
{
    size_t count = ctki_test_count (full) / divisor;
    return count ? count : 1;
}

int main (int argc, char **argv)
{
    if (argc > 1 && strcmp (argv[1], "full") == 0)
        divisor = 1;
    (void) ctki_test_raise_descriptors ();
    SRunner *runner = srunner_create (ctki_suite_tool ());
    srunner_add_suite (runner, ctki_suite_faults ());
    srunner_add_suite (runner, ctki_suite_resets ());
    srunner_run_all (runner, CK_ENV);
    int run = srunner_ntests_run (runner), failed = srunner_ntests_failed (runner);
    printf ("chaos: %d tests, %d failed, %s%s\n", run, failed, ctki_test_scale_text (),
            divisor == 1 ? "" : ", resets at a fraction");
    srunner_free (runner);
    return failed == 0 && run > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
