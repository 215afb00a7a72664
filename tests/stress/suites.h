/*
 * suites.h - the suites of the stress tests, one per file.
 */
#ifndef CTKI_STRESS_SUITES_H
#define CTKI_STRESS_SUITES_H

#include <check.h>

Suite *ctki_suite_numbers (void);
Suite *ctki_suite_ring (void);
Suite *ctki_suite_large (void);
Suite *ctki_suite_closing (void);
Suite *ctki_suite_moments (void);
Suite *ctki_suite_actor_property (void);

#endif
