/*
 * suites.h - the suites of the tests of the key-value store.
 */
#ifndef CTKI_KVSTORE_SUITES_H
#define CTKI_KVSTORE_SUITES_H

#include <check.h>

Suite *ctki_suite_kv_linear (void);
Suite *ctki_suite_kv_log (void);
Suite *ctki_suite_kv_parts (void);
Suite *ctki_suite_kv_cluster (void);

#endif
