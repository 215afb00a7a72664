/*
 * test_faults.c - two servers, the way of each to the other through the proxy,
 * and one kind of fault after the other: when it is over, everything that was
 * accepted before, during and after it arrives, in order, once and unchanged.
 *
 * A fault lasts until it has bitten: until bytes were lost, the peers count as
 * down, or the library has dialled again by itself. So nothing here depends on
 * how long that takes.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/chaos/suites.h"
#include "tests/support/chaos.h"
#include "tests/support/support.h"

enum {
    PART = 200, /* envelopes each way in a part of the traffic: about 1 MB */
    LEAST = 50, /* scaled down, so many at least */
    PARTS_MOST = 40,
    ENDS = 20, /* connections ended by FIN */
    FLIP_PARTS = 40,
    FLIPS = 20,     /* at least */
    GARBAGE = 6,    /* connections answered so, each way; one of them may end the dialling of libzmq itself */
    ONE_TO_TWO = 0, /* link */
    TWO_TO_ONE = 1
};

static const size_t sizes[] = {64, 0, 5000, 1, 20000, 8, 700, 64, 64, 30000};

static ctki_cluster_t cluster;
static ctki_chaos_t *chaos;
static ctki_journal_t *journal;
static ctki_test_thread_t drains[3];
static ctki_drain_t drain[3];
static size_t part, parts; /* envelopes of a part; parts sent so far, each way */

static uint16_t port_of (ctalk_pid_t pid)
{
    unsigned port = 0;
    ck_assert_int_eq (sscanf (ctalk_server_endpoint (cluster.server[pid]), "tcp://127.0.0.1:%u", &port), 1);
    return (uint16_t) port;
}

static void add_through (ctalk_pid_t pid, ctalk_pid_t peer, int link)
{
    char endpoint[64];
    (void) snprintf (endpoint, sizeof endpoint, "127.0.0.1:%u", (unsigned) ctki_chaos_port (chaos, link));
    CTKI_SUCCEEDS (ctalk_server_add_peer (cluster.server[pid], peer, endpoint));
}

/* Two servers that reach each other through the proxy, with a plan from the start (NULL: nothing is wrong), and what
 * will be sent in so many parts is received. */
static void open_pair (const ctki_chaos_plan_t *plan, size_t parts_in_all)
{
    const char *const options[] = {CTKI_FAST_FAILURE, NULL};
    memset (&cluster, 0, sizeof cluster);
    cluster.count = 2;
    cluster.config = ctki_cluster_config (2, NULL, options);
    chaos = ctki_chaos_start (20260);
    part = CTKI_MAX (ctki_test_count (PART), (size_t) LEAST);
    parts = 0;
    journal = ctki_journal_new (2, part * PARTS_MOST);
    for (ctalk_pid_t pid = 1; pid <= 2; pid++)
        cluster.server[pid] = ctki_cluster_start (pid, cluster.config);
    ck_assert_int_eq (ctki_chaos_link (chaos, 0, port_of (2)), ONE_TO_TWO);
    ck_assert_int_eq (ctki_chaos_link (chaos, 0, port_of (1)), TWO_TO_ONE);
    ctki_chaos_set (chaos, CTKI_CHAOS_ALL, plan);
    add_through (1, 2, ONE_TO_TWO);
    add_through (2, 1, TWO_TO_ONE);
    for (ctalk_pid_t pid = 1; pid <= 2; pid++) {
        drain[pid] = (ctki_drain_t){cluster.server[pid], part * parts_in_all, journal, NULL};
        ctki_test_thread_start (&drains[pid], ctki_traffic_drain, &drain[pid]);
    }
}

/* The next part of the traffic, each way; it need not have arrived. */
static void send_part (void)
{
    ctki_trouble_t trouble = {""};
    for (ctalk_pid_t pid = 1; pid <= 2; pid++) {
        ctki_stream_t stream = {cluster.server[pid],
                                3 - pid,
                                (int64_t) (parts * part),
                                part,
                                sizes,
                                sizeof sizes / sizeof sizes[0],
                                journal};
        ck_assert_msg (ctki_traffic_stream (&stream, &trouble), "%s", trouble.text);
    }
    parts++;
}

/* All is well from now on: everything must arrive. */
static void close_pair (const char *name)
{
    ctki_trouble_t trouble = {""};
    ctki_chaos_set (chaos, CTKI_CHAOS_ALL, NULL);
    int64_t healed_ms = ctki_test_now_ms ();
    send_part ();
    for (ctalk_pid_t pid = 1; pid <= 2; pid++)
        ctki_test_thread_join (&drains[pid]);
    int64_t took_ms = ctki_test_now_ms () - healed_ms;
    for (ctalk_pid_t pid = 1; pid <= 2; pid++)
        CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[pid], CTALK_BROADCAST, ctki_test_long_ms ()));
    ck_assert_msg (ctki_journal_agrees (journal, &trouble), "%s", trouble.text);
    ctki_journal_sums_t sums = ctki_journal_total (journal);
    uint64_t again = 0, doubles = 0, rebuilt = 0;
    for (ctalk_pid_t pid = 1; pid <= 2; pid++) {
        ctalk_stats_t stats = ctki_cluster_stats (cluster.server[pid], CTALK_BROADCAST);
        again += stats.retransmitted;
        doubles += stats.duplicates;
        rebuilt += stats.rebuilt;
    }
    ctki_test_figure (
        name,
        "%llu sent, %llu received, none missing, doubled, out of order or changed; all there %lld ms after "
        "the fault; %llu frames sent again, %llu dropped as doubles, %llu links rebuilt",
        (unsigned long long) sums.sent, (unsigned long long) sums.received, (long long) took_ms,
        (unsigned long long) again, (unsigned long long) doubles, (unsigned long long) rebuilt);
    ctki_cluster_close (&cluster);
    ctki_journal_destroy (&journal);
    ctki_chaos_stop (&chaos);
}

/* ---- what a fault is waited for */

typedef struct {
    int link;
    uint64_t discarded, connections, garbage, wrongs, flips; /* at least */
} bite_t;

static bool has_bitten (void *arg)
{
    const bite_t *bite = arg;
    ctki_chaos_counts_t counts = ctki_chaos_counts (chaos, bite->link);
    return counts.discarded >= bite->discarded && counts.connections >= bite->connections
           && counts.garbage >= bite->garbage && counts.wrongs >= bite->wrongs && counts.flips >= bite->flips;
}

static void await_bite (bite_t bite)
{
    bool bitten = ctki_test_until (has_bitten, &bite, ctki_test_long_ms ());
    ctki_chaos_counts_t counts = ctki_chaos_counts (chaos, bite.link);
    ck_assert_msg (bitten, "link %d: %llu connections of %llu, %llu bytes discarded of %llu, %llu garbage, %llu wrong",
                   bite.link, (unsigned long long) counts.connections, (unsigned long long) bite.connections,
                   (unsigned long long) counts.discarded, (unsigned long long) bite.discarded,
                   (unsigned long long) counts.garbage, (unsigned long long) counts.wrongs);
}

static void await_down (void)
{
    ctki_cluster_await_state (cluster.server[1], 2, CTALK_STATE_DOWN);
    ctki_cluster_await_state (cluster.server[2], 1, CTALK_STATE_DOWN);
}

/* A way is half-open, in the midst of traffic, until the library has dialled again so many times. */
static void half_open (const char *name, int way, uint64_t dials)
{
    ctki_chaos_plan_t plan = {0};
    plan.way[way].what = CTKI_CHAOS_DISCARD;
    open_pair (NULL, 3);
    ctki_cluster_wait_up (&cluster);
    send_part ();
    ctki_chaos_set (chaos, ONE_TO_TWO, &plan);
    uint64_t before = ctki_chaos_counts (chaos, ONE_TO_TWO).connections;
    send_part ();
    await_bite ((bite_t){.link = ONE_TO_TWO, .discarded = 1, .connections = before + dials});
    close_pair (name);
}

/* Bytes to the peer vanish and then no more: the connection stays useless, and another one is made. */
START_TEST (half_open_out)
{
    half_open ("half-open out, short", CTKI_CHAOS_OUT, 0);
}
END_TEST

/* The same with the answers. */
START_TEST (half_open_back)
{
    half_open ("half-open back, short", CTKI_CHAOS_BACK, 0);
}
END_TEST

/* Bytes to the peer vanish for so long that another connection is tried, as vainly. */
START_TEST (half_open_out_long)
{
    half_open ("half-open out, long", CTKI_CHAOS_OUT, 1);
}
END_TEST

/* The same with the answers. */
START_TEST (half_open_back_long)
{
    half_open ("half-open back, long", CTKI_CHAOS_BACK, 1);
}
END_TEST

/* A fault on both ways in the midst of traffic, until each server sees the other down. */
static void down (const char *name, const ctki_chaos_plan_t *plan, bool cut)
{
    open_pair (NULL, 3);
    ctki_cluster_wait_up (&cluster);
    send_part ();
    ctki_chaos_set (chaos, CTKI_CHAOS_ALL, plan);
    if (cut)
        ctki_chaos_cut (chaos, CTKI_CHAOS_ALL, CTKI_CHAOS_RST);
    send_part ();
    await_down ();
    close_pair (name);
}

/* Nothing comes through in either direction, and nobody answers a connect. */
START_TEST (black_hole)
{
    ctki_chaos_plan_t plan = {.door = CTKI_CHAOS_BLACKHOLE};
    down ("black hole", &plan, false);
}
END_TEST

/* Nothing moves, and nothing is lost: all of it comes later, perhaps beside a new connection. */
START_TEST (stall)
{
    ctki_chaos_plan_t plan = {.way = {{.what = CTKI_CHAOS_HOLD}, {.what = CTKI_CHAOS_HOLD}}};
    down ("stall", &plan, false);
}
END_TEST

static bool has_doubles (void *arg)
{
    (void) arg;
    return ctki_cluster_stats (cluster.server[2], 1).duplicates > 0;
}

/* A connection is stuck with a part of the traffic in it, another one carries all of that, and then the old one comes
 * unstuck: what it carries is known already, and dropped. */
START_TEST (old_tail)
{
    open_pair (NULL, 3);
    ctki_cluster_wait_up (&cluster);
    send_part ();
    ctki_chaos_strand (chaos, ONE_TO_TWO);
    send_part ();
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], 2, ctki_test_long_ms ()));
    ctki_chaos_release (chaos, ONE_TO_TWO);
    ck_assert_msg (ctki_test_until (has_doubles, NULL, ctki_test_long_ms ()), "the old tail never came");
    close_pair ("old tail");
}
END_TEST

/* The connections break, and new ones are refused. */
START_TEST (refused)
{
    ctki_chaos_plan_t plan = {.door = CTKI_CHAOS_REFUSE};
    down ("refused", &plan, true);
}
END_TEST

/* The connections end in good order, again and again. */
START_TEST (fin)
{
    open_pair (NULL, ENDS + 1);
    ctki_cluster_wait_up (&cluster);
    for (size_t i = 0; i < ENDS; i++) {
        uint64_t one = ctki_chaos_counts (chaos, ONE_TO_TWO).connections;
        uint64_t two = ctki_chaos_counts (chaos, TWO_TO_ONE).connections;
        send_part ();
        ctki_chaos_cut (chaos, CTKI_CHAOS_ALL, CTKI_CHAOS_FIN);
        await_bite ((bite_t){.link = ONE_TO_TWO, .connections = one + 1});
        await_bite ((bite_t){.link = TWO_TO_ONE, .connections = two + 1});
    }
    ck_assert_uint_ge (ctki_chaos_counts (chaos, CTKI_CHAOS_ALL).fins, ENDS);
    close_pair ("fin");
}
END_TEST

/* From the start on nobody listens; the peers are down before they were ever up. */
START_TEST (refused_first)
{
    ctki_chaos_plan_t plan = {.door = CTKI_CHAOS_REFUSE};
    open_pair (&plan, 2);
    send_part ();
    await_down ();
    close_pair ("refused first");
}
END_TEST

/* The first that each hears is random bytes. */
START_TEST (garbage_first)
{
    ctki_chaos_plan_t plan = {.door = CTKI_CHAOS_GARBAGE};
    open_pair (&plan, 2);
    send_part ();
    await_bite ((bite_t){.link = ONE_TO_TWO, .garbage = GARBAGE});
    await_bite ((bite_t){.link = TWO_TO_ONE, .garbage = GARBAGE});
    close_pair ("garbage first");
}
END_TEST

/* The first that each reaches are an SSH and an HTTP server. */
START_TEST (wrong_service_first)
{
    ctki_chaos_plan_t plan = {.door = CTKI_CHAOS_WRONG};
    open_pair (&plan, 2);
    send_part ();
    await_bite ((bite_t){.link = ONE_TO_TWO, .wrongs = 2});
    await_bite ((bite_t){.link = TWO_TO_ONE, .wrongs = 2});
    close_pair ("wrong service first");
}
END_TEST

/* The same in the midst of traffic: the connections break, and strangers answer for a while. */
START_TEST (strangers_between)
{
    ctki_chaos_plan_t garbage = {.door = CTKI_CHAOS_GARBAGE}, wrong = {.door = CTKI_CHAOS_WRONG};
    open_pair (NULL, 3);
    ctki_cluster_wait_up (&cluster);
    send_part ();
    ctki_chaos_set (chaos, ONE_TO_TWO, &garbage);
    ctki_chaos_set (chaos, TWO_TO_ONE, &wrong);
    ctki_chaos_cut (chaos, CTKI_CHAOS_ALL, CTKI_CHAOS_RST);
    send_part ();
    await_bite ((bite_t){.link = ONE_TO_TWO, .garbage = 1});
    await_bite ((bite_t){.link = TWO_TO_ONE, .wrongs = 1});
    close_pair ("strangers between");
}
END_TEST

/* Bits are flipped in both directions of both ways: not one changed byte reaches an application. */
START_TEST (flipped_bits)
{
    ctki_chaos_plan_t plan = {0};
    plan.way[CTKI_CHAOS_OUT] = (ctki_chaos_way_t){.flip_lo = 50000, .flip_hi = 400000};
    plan.way[CTKI_CHAOS_BACK] = (ctki_chaos_way_t){.flip_lo = 1000, .flip_hi = 10000};
    open_pair (NULL, FLIP_PARTS);
    ctki_cluster_wait_up (&cluster);
    ctki_chaos_set (chaos, CTKI_CHAOS_ALL, &plan);
    while (parts < FLIP_PARTS - 1)
        send_part ();
    await_bite ((bite_t){.link = CTKI_CHAOS_ALL, .flips = FLIPS});
    uint64_t malformed = ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST).malformed
                         + ctki_cluster_stats (cluster.server[2], CTALK_BROADCAST).malformed;
    char name[64];
    (void) snprintf (name, sizeof name, "%llu flipped bits",
                     (unsigned long long) ctki_chaos_counts (chaos, CTKI_CHAOS_ALL).flips);
    close_pair (name);
    ck_assert_uint_gt (malformed, 0);
}
END_TEST

Suite *ctki_suite_faults (void)
{
    Suite *suite = suite_create ("faults");
    TCase *tcase = ctki_leaks_tcase ("faults", 150);
    tcase_add_test (tcase, half_open_out);
    tcase_add_test (tcase, half_open_back);
    tcase_add_test (tcase, half_open_out_long);
    tcase_add_test (tcase, half_open_back_long);
    tcase_add_test (tcase, black_hole);
    tcase_add_test (tcase, stall);
    tcase_add_test (tcase, old_tail);
    tcase_add_test (tcase, refused);
    tcase_add_test (tcase, fin);
    tcase_add_test (tcase, refused_first);
    tcase_add_test (tcase, garbage_first);
    tcase_add_test (tcase, wrong_service_first);
    tcase_add_test (tcase, strangers_between);
    tcase_add_test (tcase, flipped_bits);
    suite_add_tcase (suite, tcase);
    return suite;
}
