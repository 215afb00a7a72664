/*
 * suites.h - the suites of the simulated tests, one per file.
 */
#ifndef CTKI_SIMULATED_SUITES_H
#define CTKI_SIMULATED_SUITES_H

#include <check.h>

Suite *ctki_suite_sim_run (void);
Suite *ctki_suite_sim_time (void);
Suite *ctki_suite_sim_faults (void);
Suite *ctki_suite_sim_actors (void);
Suite *ctki_suite_sim_seeds (void);
Suite *ctki_suite_sim_kvstore (void);

#endif
