/*
 * cluster.h - ready clusters for tests: configs, several servers in one process
 * on ports chosen by the system, absent peers, and the checks that every test
 * ends with.
 */
#ifndef CTKI_TEST_CLUSTER_H
#define CTKI_TEST_CLUSTER_H

#include <stddef.h>
#include <stdint.h>

#include <clustertalk.h>

#include "tests/support/trouble.h"

enum { CTKI_CLUSTER_MAX = 16 };

/* Options of a config: name, value, name, value, ... */
#define CTKI_OPTIONS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* Options under which a peer is suspect and down soon. */
#define CTKI_FAST_FAILURE                                                                                              \
    "HeartbeatMs", ctki_test_ms_text (100), "SuspectMs", ctki_test_ms_text (300), "DownMs", ctki_test_ms_text (700)

/* A config of the pids 1 ... count on 127.0.0.1; ports NULL: the system chooses. Fails the test when it cannot.
 * CTALK_TEST_HELP (on, off) in the environment: the option Help, unless the test sets it itself. */
ctalk_config_t *ctki_cluster_config (size_t count, const uint16_t *ports, const char *const *options);

/* Sets options; NULL: none. */
void ctki_cluster_set (ctalk_config_t *config, const char *const *options);

/* Lists 127.0.0.1:port as pid. */
void ctki_cluster_list (ctalk_config_t *config, ctalk_pid_t pid, uint16_t port);

/* A server, or the test fails with the library's text. */
ctalk_server_t *ctki_cluster_start (ctalk_pid_t pid, const ctalk_config_t *config);

typedef struct {
    size_t count;
    ctalk_config_t *config;
    ctalk_server_t *server[CTKI_CLUSTER_MAX + 1]; /* by pid, from 1; NULL: not running */
    ctalk_pid_t absent;                           /* 0: none; a listed pid that refuses connections */
    int absent_fd;                                /* holds its port */
} ctki_cluster_t;

/* Starts the pids 1 ... count and makes them known to each other, but does not wait. options may be NULL. */
void ctki_cluster_open (ctki_cluster_t *cluster, size_t count, const char *const *options);

/* The same with one more pid listed, count + 1, that is not there. */
void ctki_cluster_open_absent (ctki_cluster_t *cluster, size_t count, const char *const *options);

/* Waits until all are up for all (but the absent one). */
void ctki_cluster_wait_up (ctki_cluster_t *cluster);

/* Opens and waits. */
void ctki_cluster_open_up (ctki_cluster_t *cluster, size_t count, const char *const *options);

/* Flushes, compares the counters of each server with each other, and closes all
 * servers that run at the same time; fails the test unless all return 0. */
void ctki_cluster_close (ctki_cluster_t *cluster);

/* The same without looking at what closing returns: their sum is returned. */
int ctki_cluster_close_abandoning (ctki_cluster_t *cluster, int timeout_ms);

/* Closes one of them, which must return abandoned. */
void ctki_cluster_close_one (ctki_cluster_t *cluster, ctalk_pid_t pid, int timeout_ms, int abandoned);

/* Closes many servers at once, a thread each; returns the sum of what was abandoned, or -1 and the trouble. */
int ctki_cluster_close_all (ctalk_server_t **servers, size_t count, int timeout_ms, ctki_trouble_t *trouble);

/* The conservation laws of DESIGN section 8, waited for: they hold at quiet moments. */
bool ctki_cluster_conserved (ctalk_server_t *server, ctki_trouble_t *trouble);

/* A peer's figures (own pid, CTALK_BROADCAST); fails the test on an error. */
ctalk_stats_t ctki_cluster_stats (ctalk_server_t *server, ctalk_pid_t peer);

/* Waits until peer has this state. */
void ctki_cluster_await_state (ctalk_server_t *server, ctalk_pid_t peer, int state);

#endif
