/*
 * node.h - the processes of the tests of the key-value store: servers of the
 * store, which can be told to cut themselves off from each other, and clients,
 * which do what comes into their heads and write down what came of it, in memory
 * that the test shares.
 */
#ifndef CTKI_KVSTORE_NODE_H
#define CTKI_KVSTORE_NODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <clustertalk.h>

#include "examples/kvstore_client.h"
#include "tests/kvstore/linear.h"
#include "tests/support/ports.h"
#include "tests/support/process.h"

enum {
    CTKI_KV_SERVERS = 5,
    CTKI_KV_CLIENTS = 2,     /* processes, with the pids 6 and 7 ... */
    CTKI_KV_THREADS = 2,     /* ... and so many clients in each */
    CTKI_KV_OPS_MAX = 200000 /* of one client */
};

/* What one client wrote down; read when it has ended. */
typedef struct {
    size_t count;
    ctki_op_t op[CTKI_KV_OPS_MAX];
} ctki_kv_history_t;

typedef struct {
    ctki_kv_history_t history[CTKI_KV_CLIENTS * CTKI_KV_THREADS];
    _Atomic size_t written; /* puts, and cas that were done */
    _Atomic size_t answered, unanswered;
    atomic_bool stop;
} ctki_kv_shared_t;

typedef struct {
    ctki_ports_t ports;
    ctalk_config_t *config;
    char folder[64];
    ctki_kv_shared_t *shared;
    ctalk_pid_t members[CTKI_KV_SERVERS];
    bool reads_dirty;
    uint64_t seed;
    /* What is told to a process that is started next. */
    ctalk_pid_t next_pid;
    ctki_process_t server[CTKI_KV_SERVERS], client[CTKI_KV_CLIENTS];
} ctki_kv_t;

/* Makes folder and config; ends what runs and removes the folder. */
void ctki_kv_set_up (ctki_kv_t *kv, bool reads_dirty);
void ctki_kv_tear_down (ctki_kv_t *kv);

/* i: 0 is pid 1, the first server. The test has no server of its own then. */
void ctki_kv_start_server (ctki_kv_t *kv, size_t i);
void ctki_kv_start_client (ctki_kv_t *kv, size_t i);
void ctki_kv_kill (ctki_kv_t *kv, size_t i);
void ctki_kv_join_clients (ctki_kv_t *kv);

/* Cuts a server off from those of the set (bit 0: pid 1), in both directions; 0 heals all. */
void ctki_kv_cut (ctki_kv_t *kv, size_t i, unsigned set);

/* What a server says of itself (KV_WHO). */
kv_answer_t ctki_kv_who (ctki_kv_t *kv, size_t i);

/* Waits until one of the set leads, and says so itself; returns it. */
size_t ctki_kv_await_leader (ctki_kv_t *kv, unsigned set);

/* Waits until a server has applied all that the leader of now knows to be committed. */
void ctki_kv_await_caught_up (ctki_kv_t *kv, size_t i, size_t leader);

/* Waits until the clients have so many more writes answered. */
void ctki_kv_await_writes (ctki_kv_t *kv, size_t more);

#endif
