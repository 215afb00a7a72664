/*
 * suites.h - the suites of the cluster tests, one per file.
 */
#ifndef CTKI_CLUSTER_SUITES_H
#define CTKI_CLUSTER_SUITES_H

#include <check.h>

Suite *ctki_suite_support (void);
Suite *ctki_suite_basics (void);
Suite *ctki_suite_order (void);
Suite *ctki_suite_local (void);
Suite *ctki_suite_errors (void);
Suite *ctki_suite_start (void);
Suite *ctki_suite_interrupt (void);
Suite *ctki_suite_fork (void);
Suite *ctki_suite_memory (void);
Suite *ctki_suite_resources (void);
Suite *ctki_suite_owned (void);
Suite *ctki_suite_many (void);
Suite *ctki_suite_threads (void);
Suite *ctki_suite_descriptor (void);
Suite *ctki_suite_wake (void);
Suite *ctki_suite_states (void);
Suite *ctki_suite_flush (void);
Suite *ctki_suite_broadcast (void);
Suite *ctki_suite_pressure (void);
Suite *ctki_suite_members (void);
Suite *ctki_suite_senders (void);
Suite *ctki_suite_close (void);
Suite *ctki_suite_restart (void);
Suite *ctki_suite_absent (void);
Suite *ctki_suite_transports (void);
Suite *ctki_suite_abuse (void);
Suite *ctki_suite_events (void);
Suite *ctki_suite_cut (void);
Suite *ctki_suite_raft (void);
Suite *ctki_suite_help (void);
Suite *ctki_suite_supervisors (void);
Suite *ctki_suite_actors (void);
Suite *ctki_suite_actor_ends (void);
Suite *ctki_suite_actor_memory (void);
Suite *ctki_suite_actor_calls (void);
Suite *ctki_suite_monitors (void);
Suite *ctki_suite_timers (void);
Suite *ctki_suite_groups (void);
Suite *ctki_suite_credit (void);
Suite *ctki_suite_hall_bugs (void);

#endif
