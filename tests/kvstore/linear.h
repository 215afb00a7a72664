/*
 * linear.h - whether a history of a key-value store is linearizable: whether each
 * operation can have happened at one moment between its call and its return, so
 * that all of them, one after the other, give what was answered.
 *
 * M. Herlihy and J. Wing, "Linearizability: A Correctness Condition for Concurrent
 * Objects" (1990): it is enough that the operations of each key are. The search is
 * that of J. Wing and C. Gong, "Testing and Verifying Concurrent Objects" (1993),
 * with what G. Lowe added, "Testing for Linearizability" (2017): no set of done
 * operations with the same state after them is looked at twice; on the list of
 * calls and returns of A. Horn and D. Kroening, "Faster Linearizability Checking
 * via P-Compositionality" (2015).
 */
#ifndef CTKI_KVSTORE_LINEAR_H
#define CTKI_KVSTORE_LINEAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CTKI_NEVER INT64_MAX

typedef enum { CTKI_GET, CTKI_PUT, CTKI_CAS } ctki_op_kind_t;

/* Values are numbers; 0: there is no such key. One that has not returned (no answer came) may have happened at any
 * moment after its call, or never. */
typedef struct {
    ctki_op_kind_t kind;
    int32_t key;
    bool done;         /* CAS: whether it put its value */
    uint64_t value;    /* GET: what was there; PUT, CAS: the new one */
    uint64_t expected; /* CAS */
    uint64_t seen;     /* CAS that was not done: what was there */
    int64_t called, returned;
} ctki_op_t;

/* Changes the order of the operations. When they are not, why (may be NULL) gets a line about the first key that is
 * not. Needs memory for the histories of one key: some (operations per key)^2 / 8 bytes. */
bool ctki_linearizable (ctki_op_t *ops, size_t count, char *why, size_t size);

#endif
