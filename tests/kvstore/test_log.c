/*
 * test_log.c - the replicated log alone (kvstore_log.c, kvstore_disk.c), on a
 * network that loses, doubles and reorders, with servers that die between any two
 * steps, also while they write; no clock, no thread, everything drawn from a seed.
 *
 * A referee sees all of it: at most one leader in a term; what was committed is the
 * same everywhere and for ever; a new leader has all of it; a read sees all that
 * was committed when it began. And when the network is good again, new entries are
 * committed everywhere.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "examples/kvstore_disk.h"
#include "examples/kvstore_wire.h"
#include "tests/kvstore/suites.h"
#include "tests/support/support.h"

enum {
    SERVERS_MAX = 5,
    PACKETS_MAX = 400, /* under way; the oldest is lost then */
    STEPS = 4000,      /* of trouble ... */
    CALM = 20000,      /* ... and, at most, of calm until all agree */
    TERMS_MAX = 8192,
    READS_MAX = 8
};

/* Check writes to a file at each of its own assertions: too slow for millions. */
#define MUST_SAY(x, ...)                                                                                               \
    do {                                                                                                               \
        if (!(x))                                                                                                      \
            ck_abort_msg (__VA_ARGS__);                                                                                \
    } while (0)
#define MUST(x) MUST_SAY (x, "%s", #x)

typedef struct {
    ctalk_pid_t from, to;
    int64_t kind;
    kv_writer_t bytes;
} packet_t;

typedef struct {
    bool open;
    uint64_t term, round, index, floor;
} read_t;

typedef struct {
    kv_disk_t disk;
    kv_log_t log;
    read_t read[READS_MAX];
    bool cut; /* from all others */
} server_t;

typedef struct {
    uint64_t seed, random;
    size_t count;
    server_t server[SERVERS_MAX];
    packet_t packet[PACKETS_MAX];
    size_t packets;
    bool calm;
    ctalk_pid_t leader_of[TERMS_MAX];
    kv_log_t committed; /* only its entries are used */
    uint64_t value;     /* the last one that was proposed */
    size_t reads, elections, deaths, torn;
} world_t;

static size_t tear; /* of what is written next, so many bytes get to the disk; SIZE_MAX: all */

static unsigned draw (world_t *world, unsigned below)
{
    world->random = world->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned) (world->random >> 33) % below;
}

static bool append_torn (kv_disk_t *disk, const void *data, size_t size)
{
    kv_disk_t whole;
    kv_disk_in_memory (&whole);
    size_t some = size < tear ? size : tear;
    whole.data = disk->data;
    whole.size = disk->size;
    (void) whole.append (&whole, data, some);
    disk->data = whole.data;
    disk->size = whole.size;
    return tear == SIZE_MAX;
}

/* ---- the referee */

static bool same (const kv_entry_t *a, const kv_entry_t *b)
{
    return a->term == b->term && a->size == b->size && (!a->size || !memcmp (a->data, b->data, a->size));
}

static void look_at_commits (world_t *world, const server_t *server)
{
    const kv_log_t *log = &server->log;
    MUST (log->commit <= log->last);
    for (uint64_t at = 1; at <= log->commit && at <= world->committed.last; at++)
        MUST_SAY (same (&log->entry[at], &world->committed.entry[at]),
                  "seed %" PRIu64 ": entry %" PRIu64 " was committed and is another one on %d", world->seed, at,
                  (int) log->self);
    while (world->committed.last < log->commit)
        MUST (kv_log_restore_entry (&world->committed, world->committed.last + 1,
                                    &log->entry[world->committed.last + 1]));
}

static void look_at_leader (world_t *world, const server_t *server)
{
    const kv_log_t *log = &server->log;
    if (log->role != KV_LEADER)
        return;
    MUST (log->term < TERMS_MAX);
    ctalk_pid_t *leader = &world->leader_of[log->term];
    if (*leader == log->self)
        return;
    MUST_SAY (*leader == 0, "seed %" PRIu64 ": %d and %d are leaders in term %" PRIu64, world->seed, (int) *leader,
              (int) log->self, log->term);
    *leader = log->self;
    world->elections++;
    MUST (log->last >= world->committed.last);
    for (uint64_t at = 1; at <= world->committed.last; at++)
        MUST_SAY (same (&log->entry[at], &world->committed.entry[at]),
                  "seed %" PRIu64 ": %d is leader and has not entry %" PRIu64, world->seed, (int) log->self, at);
}

static void look_at_reads (world_t *world, server_t *server)
{
    const kv_log_t *log = &server->log;
    for (size_t i = 0; i < READS_MAX; i++) {
        read_t *read = &server->read[i];
        if (!read->open)
            continue;
        if (log->role != KV_LEADER || log->term != read->term)
            read->open = false;
        else if (kv_log_confirmed (log) >= read->round && log->commit >= read->index) {
            MUST_SAY (read->index >= read->floor, "seed %" PRIu64 ": a read sees %" PRIu64 " of %" PRIu64 " entries",
                      world->seed, read->index, read->floor);
            read->open = false;
            world->reads++;
        }
    }
}

static void look (world_t *world, server_t *server)
{
    look_at_commits (world, server);
    look_at_leader (world, server);
    look_at_reads (world, server);
}

/* ---- what happens */

static void start (world_t *world, server_t *server, ctalk_pid_t pid)
{
    ctalk_pid_t members[SERVERS_MAX] = {1, 2, 3, 4, 5};
    kv_log_init (&server->log, pid, members, world->count);
    MUST (kv_journal_load (&server->disk, &server->log));
}

/* It dies; perhaps while it writes what is not saved. */
static void die (world_t *world, server_t *server)
{
    ctalk_pid_t pid = server->log.self;
    if (draw (world, 2)) {
        size_t before = server->disk.size;
        tear = draw (world, 120);
        (void) kv_journal_save (&server->disk, &server->log);
        tear = SIZE_MAX;
        world->torn += server->disk.size > before;
    }
    kv_log_fini (&server->log);
    memset (server->read, 0, sizeof server->read);
    start (world, server, pid);
    world->deaths++;
}

static void lose (world_t *world, size_t i)
{
    kv_writer_fini (&world->packet[i].bytes);
    world->packet[i] = world->packet[--world->packets];
}

/* Saves, and sends what is to be sent. */
static void flush (world_t *world, server_t *server)
{
    ctalk_pid_t to;
    kv_message_t message;
    MUST (kv_journal_save (&server->disk, &server->log));
    while (kv_log_next (&server->log, &to, &message)) {
        if (world->packets == PACKETS_MAX)
            lose (world, 0);
        packet_t *packet = &world->packet[world->packets++];
        *packet = (packet_t){.from = server->log.self, .to = to, .kind = message.kind};
        kv_write_message (&packet->bytes, &message);
    }
    look (world, server);
}

static void deliver (world_t *world, size_t i)
{
    const packet_t *packet = &world->packet[i];
    server_t *to = &world->server[packet->to - 1];
    kv_message_t message;
    kv_entry_t entries[KV_ENTRIES_MAX];
    MUST (kv_read_message (packet->kind, packet->bytes.data, packet->bytes.size, &message, entries));
    if (!to->cut && !world->server[packet->from - 1].cut)
        kv_log_receive (&to->log, packet->from, &message);
    look (world, to);
    if (world->calm || draw (world, 10)) /* else it comes again */
        lose (world, i);
}

static void propose (world_t *world, server_t *server)
{
    uint64_t value = world->value + 1;
    if (kv_log_propose (&server->log, &value, sizeof value))
        world->value = value;
}

static void begin_read (world_t *world, server_t *server)
{
    read_t *read = &server->read[draw (world, READS_MAX)];
    if (read->open)
        return;
    read->open = kv_log_read (&server->log, &read->round, &read->index);
    read->term = server->log.term;
    read->floor = world->committed.last;
}

static void step (world_t *world)
{
    unsigned what = draw (world, 100);
    server_t *server = &world->server[draw (world, (unsigned) world->count)];
    if (what < 50 && world->packets)
        deliver (world, draw (world, (unsigned) world->packets));
    else if (what < 75)
        flush (world, server);
    else if (what < 80 && world->packets && !world->calm)
        lose (world, draw (world, (unsigned) world->packets));
    else if (what < 88)
        propose (world, server);
    else if (what < 92)
        begin_read (world, server);
    else if (what < 94 || (what < 98 && server->log.role == KV_LEADER)) {
        kv_log_timeout (&server->log);
        look (world, server);
    } else if (what == 98 && !world->calm)
        server->cut = draw (world, 3) == 0;
    else if (what == 99 && !world->calm && draw (world, 4) == 0)
        die (world, server);
}

/* All have all that was proposed at last, and know that it is committed. */
static bool agree (const world_t *world)
{
    for (size_t i = 0; i < world->count; i++) {
        const kv_log_t *log = &world->server[i].log;
        if (log->commit < log->last || log->last != world->committed.last || log->last < 1)
            return false;
    }
    return true;
}

static void calm_down (world_t *world)
{
    world->calm = true;
    for (size_t i = 0; i < world->count; i++)
        world->server[i].cut = false;
    uint64_t before = world->value;
    size_t steps = 0;
    while (steps++ < CALM && !(world->value > before && agree (world)))
        step (world);
    MUST_SAY (world->value > before && agree (world), "seed %" PRIu64 ": no agreement", world->seed);
}

static void play (world_t *world, uint64_t seed)
{
    *world = (world_t){.seed = seed, .random = seed * 0x9e3779b97f4a7c15u + 1, .count = 1 + 2 * (seed % 3)};
    kv_log_init (&world->committed, 0, NULL, 0);
    tear = SIZE_MAX;
    for (size_t i = 0; i < world->count; i++) {
        kv_disk_in_memory (&world->server[i].disk);
        world->server[i].disk.append = append_torn;
        start (world, &world->server[i], (ctalk_pid_t) i + 1);
    }
    for (size_t i = 0; i < STEPS; i++)
        step (world);
    calm_down (world);
}

static void clean_up (world_t *world)
{
    while (world->packets)
        lose (world, 0);
    for (size_t i = 0; i < world->count; i++) {
        kv_log_fini (&world->server[i].log);
        kv_disk_close (&world->server[i].disk);
    }
    kv_log_fini (&world->committed);
}

/* Goal: none of Raft's promises is broken in any of many seeded runs, and each ends in agreement. */
START_TEST (promises)
{
    size_t seeds = ctki_test_count (3000), entries = 0, reads = 0, elections = 0, deaths = 0, torn = 0;
    static world_t world;
    for (size_t seed = 1; seed <= seeds; seed++) {
        play (&world, seed);
        entries += world.committed.last;
        reads += world.reads;
        elections += world.elections;
        deaths += world.deaths;
        torn += world.torn;
        clean_up (&world);
        ctki_test_progress ("promises", seed, seeds);
    }
    ctki_test_progress ("", 0, 0);
    ctki_test_figure ("promises", "%zu seeds: %zu elections, %zu deaths (%zu while writing), %zu entries, %zu reads",
                      seeds, elections, deaths, torn, entries, reads);
    ck_assert_uint_gt (reads, 0);
    ck_assert_uint_gt (deaths, 0);
}
END_TEST

static void hear (kv_log_t *log, ctalk_pid_t from, kv_message_kind_t kind, uint64_t index)
{
    kv_message_t message = {.kind = kind, .term = log->term, .index = index, .yes = true};
    kv_log_receive (log, from, &message);
}

/* Goal: an entry of a former term is not committed because a majority has it (figure 8 of the paper), but with the
 * first one of the own term. (In the runs above it is too rare: the two mostly travel together.) */
START_TEST (own_term)
{
    kv_log_t log;
    ctalk_pid_t members[] = {1, 2, 3, 4, 5};
    kv_log_init (&log, 1, members, 5);
    ck_assert (kv_log_restore_vote (&log, 2, 1));
    ck_assert (kv_log_restore_entry (&log, 1, &(kv_entry_t){.term = 1}));
    ck_assert (kv_log_restore_entry (&log, 2, &(kv_entry_t){.term = 2}));
    kv_log_timeout (&log);
    hear (&log, 2, KV_VOTE, 0);
    ck_assert_int_eq (log.role, KV_CANDIDATE);
    hear (&log, 2, KV_VOTE, 0); /* the same one twice is one vote */
    ck_assert_int_eq (log.role, KV_CANDIDATE);
    hear (&log, 3, KV_VOTE, 0);
    ck_assert (log.role == KV_LEADER && log.term == 3 && log.last == 3);
    kv_log_saved (&log);
    hear (&log, 2, KV_APPENDED, 2);
    hear (&log, 3, KV_APPENDED, 2);
    hear (&log, 4, KV_APPENDED, 2);
    ck_assert_uint_eq (log.commit, 0);
    hear (&log, 2, KV_APPENDED, 3);
    ck_assert_uint_eq (log.commit, 0);
    hear (&log, 3, KV_APPENDED, 3);
    ck_assert_uint_eq (log.commit, 3);
    kv_log_fini (&log);
}
END_TEST

/* Goal: what the leader has not saved itself counts for no majority. */
START_TEST (own_copy)
{
    kv_log_t log;
    ctalk_pid_t members[] = {1, 2, 3};
    kv_log_init (&log, 1, members, 3);
    kv_log_timeout (&log);
    hear (&log, 2, KV_VOTE, 0);
    ck_assert_int_eq (log.role, KV_LEADER);
    hear (&log, 2, KV_APPENDED, 1);
    ck_assert_uint_eq (log.commit, 0);
    kv_log_saved (&log);
    ck_assert_uint_eq (log.commit, 1);
    kv_log_fini (&log);
}
END_TEST

/* Goal: a leader that no majority answers steps back, also when many reads begin rounds, and no sooner. */
START_TEST (alone)
{
    kv_log_t log;
    ctalk_pid_t members[] = {1, 2, 3};
    uint64_t round, index;
    kv_log_init (&log, 1, members, 3);
    kv_log_timeout (&log);
    hear (&log, 2, KV_VOTE, 0);
    for (int i = 0; i < KV_BEATS_ALONE_MAX; i++) {
        kv_log_timeout (&log);
        log.round_is_new = false;
        ck_assert (kv_log_read (&log, &round, &index));
        ck_assert_int_eq (log.role, KV_LEADER);
    }
    kv_log_timeout (&log);
    ck_assert_int_eq (log.role, KV_FOLLOWER);
    ck_assert_int_eq (log.leader, KV_NOBODY);
    ck_assert (!kv_log_read (&log, &round, &index));
    kv_log_fini (&log);
}
END_TEST

/* Goal: who is no member is not heard: it can neither vote nor be voted for. */
START_TEST (strangers)
{
    kv_log_t log;
    ctalk_pid_t members[] = {1, 2, 3}, to;
    kv_message_t message, ask = {.kind = KV_ASK_VOTE, .term = 9, .index = 9, .of = 9};
    kv_log_init (&log, 1, members, 3);
    kv_log_receive (&log, 100, &ask);
    ck_assert (log.term == 0 && !kv_log_next (&log, &to, &message));
    kv_log_timeout (&log);
    hear (&log, 100, KV_VOTE, 0);
    ck_assert_int_eq (log.role, KV_CANDIDATE);
    kv_log_fini (&log);
}
END_TEST

Suite *ctki_suite_kv_log (void)
{
    Suite *suite = suite_create ("log");
    TCase *tcase = tcase_create ("log");
    tcase_set_timeout (tcase, ctki_test_ms (240 * 1000) / 1000.0);
    tcase_add_test (tcase, promises);
    tcase_add_test (tcase, own_term);
    tcase_add_test (tcase, own_copy);
    tcase_add_test (tcase, alone);
    tcase_add_test (tcase, strangers);
    suite_add_tcase (suite, tcase);
    return suite;
}
