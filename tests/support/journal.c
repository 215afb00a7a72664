/*
 * journal.c - the tests' own book of what was sent and what was received. Owns
 * its table; a bit per envelope tells a duplicate from one that came late.
 */
#include "tests/support/journal.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/payload.h"

typedef struct {
    ctki_journal_sums_t sums;
    int64_t next;  /* the number expected next */
    uint8_t *seen; /* a bit per number */
} cell_t;

struct ctki_journal {
    size_t servers;
    size_t most;
    cell_t *cells; /* by src, dst and kind */
};

static size_t index_of (const ctki_journal_t *journal, ctalk_pid_t src, ctalk_pid_t dst, bool broadcast)
{
    CTKI_ASSERT (src >= 1 && (size_t) src <= journal->servers && dst >= 1 && (size_t) dst <= journal->servers);
    return (((size_t) src - 1) * journal->servers + (size_t) dst - 1) * 2 + (broadcast ? 1 : 0);
}

ctki_journal_t *ctki_journal_new (size_t servers, size_t most)
{
    ctki_journal_t *journal = calloc (1, sizeof *journal);
    CTKI_ASSERT (journal);
    journal->servers = servers;
    journal->most = most;
    journal->cells = calloc (servers * servers * 2, sizeof *journal->cells);
    CTKI_ASSERT (journal->cells);
    for (size_t i = 0; i < servers * servers * 2; i++) {
        journal->cells[i].seen = calloc (most / 8 + 1, 1);
        CTKI_ASSERT (journal->cells[i].seen);
    }
    return journal;
}

void ctki_journal_destroy (ctki_journal_t **journal_p)
{
    ctki_journal_t *journal = *journal_p;
    if (!journal)
        return;
    for (size_t i = 0; i < journal->servers * journal->servers * 2; i++)
        free (journal->cells[i].seen);
    free (journal->cells);
    free (journal);
    *journal_p = NULL;
}

static void sent_one (ctki_journal_t *journal, ctalk_pid_t src, ctalk_pid_t dst, bool broadcast, int64_t number,
                      const void *data, size_t size)
{
    ctki_journal_sums_t *sums = &journal->cells[index_of (journal, src, dst, broadcast)].sums;
    sums->sent++;
    sums->sent_bytes += size;
    sums->sent_hash = ctki_payload_hash (sums->sent_hash, number, data, size);
}

void ctki_journal_sent (ctki_journal_t *journal, ctalk_pid_t src, ctalk_pid_t dst, int64_t number, const void *data,
                        size_t size)
{
    if (dst != CTALK_BROADCAST) {
        sent_one (journal, src, dst, false, number, data, size);
        return;
    }
    for (ctalk_pid_t each = 1; (size_t) each <= journal->servers; each++)
        if (each != src)
            sent_one (journal, src, each, true, number, data, size);
}

/* Puts a number into its place: the one expected, one after a hole, or one that comes late or again. */
static void place (cell_t *cell, size_t most, int64_t number)
{
    if (number < 0 || (size_t) number >= most) {
        cell->sums.changed++;
        return;
    }
    uint8_t *byte = &cell->seen[number / 8], bit = (uint8_t) (1u << (number % 8));
    if (*byte & bit) {
        cell->sums.duplicated++;
        return;
    }
    *byte = (uint8_t) (*byte | bit);
    if (number < cell->next) {
        cell->sums.out_of_order++;
        cell->sums.missing--;
        return;
    }
    cell->sums.missing += (uint64_t) (number - cell->next);
    cell->next = number + 1;
}

void ctki_journal_received (ctki_journal_t *journal, ctalk_pid_t dst, const ctalk_envelope_t *envelope)
{
    bool broadcast = (envelope->flags & CTALK_WAS_BROADCAST) != 0;
    cell_t *cell = &journal->cells[index_of (journal, envelope->pid, dst, broadcast)];
    place (cell, journal->most, envelope->msg_id);
    cell->sums.received++;
    cell->sums.received_bytes += envelope->size;
    cell->sums.received_hash =
        ctki_payload_hash (cell->sums.received_hash, envelope->msg_id, envelope->data, envelope->size);
    if (!ctki_payload_ok (envelope->data, envelope->size, envelope->pid, broadcast ? CTALK_BROADCAST : dst,
                          envelope->msg_id))
        cell->sums.changed++;
}

static void add (ctki_journal_sums_t *sums, const cell_t *cell)
{
    const ctki_journal_sums_t *more = &cell->sums;
    uint64_t came = (uint64_t) cell->next;
    sums->sent += more->sent;
    sums->sent_bytes += more->sent_bytes;
    sums->sent_hash ^= more->sent_hash;
    sums->received += more->received;
    sums->received_bytes += more->received_bytes;
    sums->received_hash ^= more->received_hash;
    sums->missing += more->missing + (more->sent > came ? more->sent - came : 0);
    sums->duplicated += more->duplicated;
    sums->out_of_order += more->out_of_order;
    sums->changed += more->changed;
}

ctki_journal_sums_t ctki_journal_sums (const ctki_journal_t *journal, ctalk_pid_t src, ctalk_pid_t dst)
{
    ctki_journal_sums_t sums = {0};
    add (&sums, &journal->cells[index_of (journal, src, dst, false)]);
    add (&sums, &journal->cells[index_of (journal, src, dst, true)]);
    return sums;
}

ctki_journal_sums_t ctki_journal_total (const ctki_journal_t *journal)
{
    ctki_journal_sums_t sums = {0};
    for (size_t i = 0; i < journal->servers * journal->servers * 2; i++)
        add (&sums, &journal->cells[i]);
    return sums;
}

static bool agrees (const ctki_journal_sums_t *sums, int src, int dst, ctki_trouble_t *trouble)
{
    bool good = sums->sent == sums->received && sums->sent_bytes == sums->received_bytes
                && sums->sent_hash == sums->received_hash && sums->missing == 0 && sums->duplicated == 0
                && sums->out_of_order == 0 && sums->changed == 0;
    if (good)
        return true;
    return ctki_trouble_note (trouble, __FILE__, __LINE__,
                              "%d to %d: sent %llu, received %llu, missing %llu, duplicated %llu, out of order %llu, "
                              "changed %llu, hashes %s",
                              src, dst, (unsigned long long) sums->sent, (unsigned long long) sums->received,
                              (unsigned long long) sums->missing, (unsigned long long) sums->duplicated,
                              (unsigned long long) sums->out_of_order, (unsigned long long) sums->changed,
                              sums->sent_hash == sums->received_hash ? "equal" : "differ");
}

bool ctki_journal_agrees (const ctki_journal_t *journal, ctki_trouble_t *trouble)
{
    for (ctalk_pid_t src = 1; (size_t) src <= journal->servers; src++)
        for (ctalk_pid_t dst = 1; (size_t) dst <= journal->servers; dst++) {
            ctki_journal_sums_t sums = ctki_journal_sums (journal, src, dst);
            if (!agrees (&sums, src, dst, trouble))
                return false;
        }
    return true;
}

bool ctki_journal_matches (const ctki_journal_t *journal, ctalk_server_t *server, ctki_trouble_t *trouble)
{
    ctalk_pid_t self = ctalk_server_pid (server);
    for (ctalk_pid_t peer = 1; (size_t) peer <= journal->servers; peer++) {
        ctki_journal_sums_t out = ctki_journal_sums (journal, self, peer);
        ctki_journal_sums_t in = ctki_journal_sums (journal, peer, self);
        ctalk_stats_t stats;
        CTKI_EXPECT_EQUAL (trouble, ctalk_server_stats (server, peer, &stats), 0);
        CTKI_EXPECT_EQUAL (trouble, stats.accepted, out.sent);
        CTKI_EXPECT_EQUAL (trouble, stats.delivered, out.sent);
        CTKI_EXPECT_EQUAL (trouble, stats.consumed, in.received);
        CTKI_EXPECT_EQUAL (trouble, stats.duplicates, 0);
        CTKI_EXPECT_EQUAL (trouble, stats.malformed, 0);
    }
    return true;
}
