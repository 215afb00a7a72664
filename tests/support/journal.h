/*
 * journal.h - the tests' own book of what was sent and what was received, kept
 * without the library: per ordered pair of servers, unicasts and broadcasts
 * apart, how many, how many bytes and a running hash over number and content in
 * order. It finds loss, duplicates, wrong order and changed bytes.
 *
 * Envelopes of one book are numbered from 0 by their msg_id, per pair and kind.
 * One thread writes a pair's sent side and one its received side; look at the
 * result when they have been joined.
 */
#ifndef CTKI_TEST_JOURNAL_H
#define CTKI_TEST_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <clustertalk.h>

#include "tests/support/trouble.h"

typedef struct ctki_journal ctki_journal_t;

/* One direction of one pair. */
typedef struct {
    uint64_t sent, sent_bytes, sent_hash;
    uint64_t received, received_bytes, received_hash;
    uint64_t missing, duplicated, out_of_order, changed;
} ctki_journal_sums_t;

/* A book for the pids 1 ... servers; most: envelopes of one pair and kind. */
ctki_journal_t *ctki_journal_new (size_t servers, size_t most);
void ctki_journal_destroy (ctki_journal_t **journal_p);

/* An envelope was accepted for dst, CTALK_BROADCAST for a broadcast. */
void ctki_journal_sent (ctki_journal_t *journal, ctalk_pid_t src, ctalk_pid_t dst, int64_t number, const void *data,
                        size_t size);

/* Server dst has received an envelope made by ctki_payload_fill (). */
void ctki_journal_received (ctki_journal_t *journal, ctalk_pid_t dst, const ctalk_envelope_t *envelope);

/* The sums of a pair, both kinds together (the hashes xored). */
ctki_journal_sums_t ctki_journal_sums (const ctki_journal_t *journal, ctalk_pid_t src, ctalk_pid_t dst);

/* Whether each pair received what was sent: in full, in order, once, unchanged. */
bool ctki_journal_agrees (const ctki_journal_t *journal, ctki_trouble_t *trouble);

/* Whether the library's counters for each peer of a server say what the book says. */
bool ctki_journal_matches (const ctki_journal_t *journal, ctalk_server_t *server, ctki_trouble_t *trouble);

/* All pairs together. */
ctki_journal_sums_t ctki_journal_total (const ctki_journal_t *journal);

#endif
