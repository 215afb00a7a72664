/*
 * nodes.h - a stress test of a few servers, each with a thread that sends and one
 * that receives: all in this process, or each in a process of its own. What each
 * has sent and received is compared by number, order and content.
 */
#ifndef CTKI_STRESS_NODES_H
#define CTKI_STRESS_NODES_H

#include <stddef.h>
#include <stdint.h>

#include <clustertalk.h>

enum { CTKI_NODES_MAX = 8 };

typedef struct {
    const char *name;
    size_t servers;
    const size_t *sizes; /* of the envelopes, in turn */
    size_t sizes_count;
    size_t count;                        /* envelopes of each sender */
    ctalk_pid_t dst[CTKI_NODES_MAX + 1]; /* whom each pid sends to; 0: it does not send */
    size_t expect[CTKI_NODES_MAX + 1];   /* what each pid receives */
    const char *const *options;          /* of the config; may be NULL */
    uint64_t memory[CTKI_NODES_MAX + 1]; /* bound of what each may use more than at its start, in bytes; 0: none.
                                            In one process their sum. */
} ctki_nodes_t;

/* Runs it; fails the test unless all is well. */
void ctki_nodes_run_threads (const ctki_nodes_t *nodes);
void ctki_nodes_run_processes (const ctki_nodes_t *nodes);

#endif
