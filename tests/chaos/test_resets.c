/*
 * test_resets.c - five servers in five processes whose connections are reset
 * again and again: nothing is lost, doubled, changed or out of order. Then the
 * same over bare sockets of libzmq, which lose: so the faults are real.
 */
#include <stdlib.h>

#include "tests/chaos/mesh.h"
#include "tests/chaos/suites.h"
#include "tests/support/support.h"

enum {
    UNICASTS = 40000,   /* of each server to each other one: 800,000 */
    BROADCASTS = 10000, /* of each server to all others: 200,000 receptions */
    LEAST = 200,        /* scaled down, so many at least (unicasts 4 times): else there are hardly any resets */
    RESETS = 500,       /* at least, at full count */
    LEAST_RESETS = 5,   /* and scaled down */
    RESET_LO = 200,
    RESET_HI = 400000,
    SEED = 20260,
    MIB = 1024 * 1024
};

/* CTALK_TEST_SEED, if it is there. */
static uint64_t seed (void)
{
    const char *text = getenv ("CTALK_TEST_SEED");
    return text ? strtoull (text, NULL, 10) : SEED;
}

static ctki_mesh_t mesh_of (bool bare)
{
    ctki_mesh_t mesh = {.bare = bare, .seed = seed ()};
    mesh.unicasts = CTKI_MAX (ctki_chaos_test_count (UNICASTS), (size_t) 4 * LEAST);
    mesh.broadcasts = CTKI_MAX (ctki_chaos_test_count (BROADCASTS), (size_t) LEAST);
    mesh.plan = (ctki_chaos_plan_t){.end = CTKI_CHAOS_RST, .end_lo = RESET_LO, .end_hi = RESET_HI};
    return mesh;
}

static void say (const char *name, const ctki_mesh_result_t *r)
{
    ctki_test_figure (name,
                      "%llu sent, %llu received, %llu MB in %lld ms, %llu resets (seed %llu): %llu missing, %llu "
                      "duplicated, %llu out of order, %llu changed",
                      (unsigned long long) r->sums.sent, (unsigned long long) r->sums.received,
                      (unsigned long long) r->sums.received_bytes / 1000000, (long long) r->took_ms,
                      (unsigned long long) r->faults.resets, (unsigned long long) seed (),
                      (unsigned long long) r->sums.missing, (unsigned long long) r->sums.duplicated,
                      (unsigned long long) r->sums.out_of_order, (unsigned long long) r->sums.changed);
}

static void say_totals (const char *name, const ctki_mesh_result_t *r)
{
    ctki_test_figure (
        name,
        "%llu accepted = %llu delivered + %llu abandoned + %llu queued, %llu in doubt; frames: %llu sent "
        "again, %llu dropped as doubles, %llu malformed; %llu reconnects, %llu rebuilt; peak %llu MiB",
        (unsigned long long) r->accepted, (unsigned long long) r->delivered, (unsigned long long) r->abandoned,
        (unsigned long long) r->queued, (unsigned long long) r->in_doubt, (unsigned long long) r->retransmitted,
        (unsigned long long) r->duplicates, (unsigned long long) r->malformed, (unsigned long long) r->reconnects,
        (unsigned long long) r->rebuilt, (unsigned long long) r->peak_bytes / MIB);
}

/* Everything that was sent came: in order, once, unchanged; and the library counts the same. */
static void expect_all (const ctki_mesh_t *mesh, const ctki_mesh_result_t *result)
{
    uint64_t all = (uint64_t) CTKI_MESH_SERVERS * (CTKI_MESH_SERVERS - 1) * (mesh->unicasts + mesh->broadcasts);
    ck_assert_uint_eq (result->sums.sent, all);
    ck_assert_uint_eq (result->sums.received, all);
    ck_assert_uint_eq (result->sums.missing, 0);
    ck_assert_uint_eq (result->sums.duplicated, 0);
    ck_assert_uint_eq (result->sums.out_of_order, 0);
    ck_assert_uint_eq (result->sums.changed, 0);
    ck_assert_uint_eq (result->accepted, all);
    ck_assert_uint_eq (result->delivered, all);
    ck_assert_uint_eq (result->abandoned, 0);
    ck_assert_uint_eq (result->in_doubt, 0);
    ck_assert_uint_eq (result->skipped, 0);
}

/* Five servers send a million envelopes of 8 bytes to 200 KB to each other, one by one and to all, while every
 * connection is reset after 200 to 400,000 bytes: all of them arrive, in order, once, unchanged. */
START_TEST (nothing_is_lost)
{
    ctki_mesh_t mesh = mesh_of (false);
    ctki_mesh_result_t result;
    ctki_mesh_run (&mesh, &result);
    say ("resets: ClusterTalk", &result);
    say_totals ("resets: its counters", &result);
    expect_all (&mesh, &result);
    ck_assert_uint_ge (result.faults.resets, CTKI_MAX (ctki_chaos_test_count (RESETS), (size_t) LEAST_RESETS));
}
END_TEST

/* The same while single links, drawn anew all the time, are besides half-open, stalled, slow, in a black hole, answered
 * by strangers, ended in good order, stranded, or flip bits. */
START_TEST (nothing_is_lost_in_a_storm)
{
    /* Dead links are found soon, but nobody is ever down: a broadcast may leave out a peer that is. */
    const char *const options[] = {"HeartbeatMs", ctki_test_ms_text (100),   "SuspectMs", ctki_test_ms_text (300),
                                   "DownMs",      ctki_test_ms_text (60000), NULL};
    ctki_mesh_t mesh = mesh_of (false);
    ctki_mesh_result_t result;
    mesh.mixed = true;
    mesh.options = options;
    ctki_mesh_run (&mesh, &result);
    uint64_t strangers = result.faults.garbage + result.faults.wrongs;
    say ("storm: ClusterTalk", &result);
    say_totals ("storm: its counters", &result);
    ctki_test_figure ("storm: its faults",
                      "%llu changes: %llu resets, %llu ends, %llu bits flipped, %llu kB thrown away, "
                      "%llu connections answered by strangers",
                      (unsigned long long) result.changes, (unsigned long long) result.faults.resets,
                      (unsigned long long) result.faults.fins, (unsigned long long) result.faults.flips,
                      (unsigned long long) result.faults.discarded / 1000, (unsigned long long) strangers);
    expect_all (&mesh, &result);
    ck_assert_uint_gt (result.changes, 10);
}
END_TEST

/* The same over DEALER and ROUTER alone loses some: a yardstick, and the proof that the faults bite. */
START_TEST (bare_libzmq_loses)
{
    ctki_mesh_t mesh = mesh_of (true);
    ctki_mesh_result_t result;
    ctki_mesh_run (&mesh, &result);
    say ("resets: bare libzmq", &result);
    ck_assert_uint_gt (result.faults.resets, 0);
    ck_assert_uint_gt (result.sums.missing, 0);
    ck_assert_uint_eq (result.sums.received - result.sums.duplicated + result.sums.missing, result.sums.sent);
}
END_TEST

Suite *ctki_suite_resets (void)
{
    Suite *suite = suite_create ("resets");
    TCase *tcase = ctki_leaks_tcase ("resets", 600);
    tcase_add_test (tcase, nothing_is_lost);
    tcase_add_test (tcase, bare_libzmq_loses);
    tcase_add_test (tcase, nothing_is_lost_in_a_storm);
    suite_add_tcase (suite, tcase);
    return suite;
}
