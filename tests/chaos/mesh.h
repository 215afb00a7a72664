/*
 * mesh.h - a few servers, each in a process of its own, every directed pair of
 * them through a link of the proxy. Each sends a stream to each other one and
 * one to all, and receives; the journals of all are compared. The same workload
 * can be run over bare sockets of libzmq, to see what it loses.
 */
#ifndef CTKI_CHAOS_MESH_H
#define CTKI_CHAOS_MESH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/support/chaos.h"
#include "tests/support/journal.h"

enum { CTKI_MESH_SERVERS = 5 };

typedef struct {
    bool bare;                  /* ROUTER and DEALERs of libzmq instead of the library */
    size_t unicasts;            /* of each server to each other one */
    size_t broadcasts;          /* of each server */
    uint64_t seed;              /* of sizes and faults */
    ctki_chaos_plan_t plan;     /* of every link */
    bool mixed;                 /* besides: links drawn from the seed have faults of all kinds, until all was sent */
    const char *const *options; /* of the config; may be NULL */
} ctki_mesh_t;

typedef struct {
    ctki_journal_sums_t sums; /* of all pairs */
    ctki_chaos_counts_t faults;
    uint64_t changes; /* of plans, when mixed */
    int64_t took_ms;
    uint64_t accepted, delivered, abandoned, in_doubt, queued, skipped; /* as the library counts */
    uint64_t retransmitted, duplicates, malformed, reconnects, rebuilt; /* frames; connections */
    uint64_t peak_bytes;                                                /* memory of the largest process */
} ctki_mesh_result_t;

/* Runs it. Fails the test when a process does, or when a descriptor or thread is left over in one;
 * what was lost, doubled, changed or out of order is for the caller to judge. */
void ctki_mesh_run (const ctki_mesh_t *mesh, ctki_mesh_result_t *result);

#endif
