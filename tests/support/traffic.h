/*
 * traffic.h - sending and receiving in tests: single texts, numbered streams
 * written into a journal, and an exchange that shows that a cluster serves.
 */
#ifndef CTKI_TEST_TRAFFIC_H
#define CTKI_TEST_TRAFFIC_H

#include <stddef.h>
#include <stdint.h>

#include <clustertalk.h>

#include "tests/support/cluster.h"
#include "tests/support/journal.h"
#include "tests/support/trouble.h"

/* An envelope to send. */
ctalk_envelope_t ctki_traffic_envelope (ctalk_pid_t pid, int64_t msg_id, const void *data, size_t size);

/* Receives within the long deadline, or fails the test. */
void ctki_traffic_take (ctalk_server_t *server, ctalk_envelope_t *envelope);

/* Sends a text, waiting for room; fails the test unless it is accepted. */
void ctki_traffic_send (ctalk_server_t *server, ctalk_pid_t pid, int64_t msg_id, const char *text);

/* The next envelope is this one. */
void ctki_traffic_expect (ctalk_server_t *server, ctalk_pid_t from, int64_t msg_id, const char *text);

/* Nothing has come for ms. */
void ctki_traffic_expect_nothing (ctalk_server_t *server, int ms);

/* A stream of numbered envelopes from server to dst (or CTALK_BROADCAST); sizes in turn. */
typedef struct {
    ctalk_server_t *server;
    ctalk_pid_t dst;
    int64_t first; /* number */
    size_t count;
    const size_t *sizes;
    size_t sizes_count;
    ctki_journal_t *journal; /* may be NULL */
} ctki_stream_t;

/* Sends the stream; a ctki_stream_t. The body of a thread, or called directly. */
bool ctki_traffic_stream (void *stream, ctki_trouble_t *trouble);

/* Receives count envelopes into the journal, then makes sure that there is no other. */
typedef struct {
    ctalk_server_t *server;
    size_t count;
    ctki_journal_t *journal;
    const char *progress; /* what to call it on a terminal; NULL: say nothing */
} ctki_drain_t;
bool ctki_traffic_drain (void *drain, ctki_trouble_t *trouble);

/* count envelopes from each running server to each other, checked by a journal. */
void ctki_traffic_exchange (ctki_cluster_t *cluster, size_t count);

#endif
