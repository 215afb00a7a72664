/*
 * suites.h - the suites of the fault tests, one per file.
 */
#ifndef CTKI_FAULTS_SUITES_H
#define CTKI_FAULTS_SUITES_H

#include <check.h>

Suite *ctki_suite_kill (void);
Suite *ctki_suite_pause (void);
Suite *ctki_suite_stuck (void);

#endif
