/*
 * suites.h - the suites of the chaos tests, one per file.
 */
#ifndef CTKI_CHAOS_SUITES_H
#define CTKI_CHAOS_SUITES_H

#include <check.h>
#include <stddef.h>

Suite *ctki_suite_tool (void);
Suite *ctki_suite_faults (void);
Suite *ctki_suite_resets (void);

/* A count of the resets suite: in full for `chaos full', a fraction of it in the quick tests; scaled in both. */
size_t ctki_chaos_test_count (size_t full);

#endif
