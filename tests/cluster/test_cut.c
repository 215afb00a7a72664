/*
 * test_cut.c - ways that are cut or bad: nothing is lost, nothing comes twice or
 * in another order, and each server sees of the others what it can.
 */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "src/mem.h"
#include "tests/cluster/suites.h"
#include "tests/support/support.h"

enum {
    BOTH = CTALK_IN | CTALK_OUT,
    FEW = 10,        /* envelopes that go at once */
    LARGEST = 70000, /* bytes */
    SWITCHERS = 3,
    ROUNDS_MAX = 20 /* of traffic, until the counters have moved */
};

static ctki_cluster_t cluster;

static void cut (ctalk_pid_t at, ctalk_pid_t peer, int directions, bool on)
{
    CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[at], peer, directions, on));
}

static size_t size_of (int64_t number)
{
    static const size_t sizes[] = {64, 0, 5000, 1, LARGEST};
    return sizes[number % 5];
}

/* Sends FEW numbered envelopes without waiting for room: a cut is no reason to refuse them. */
static void send_few (ctalk_pid_t from, ctalk_pid_t to, int64_t first)
{
    static char buffer[LARGEST];
    for (int64_t i = first; i < first + FEW; i++) {
        ctki_payload_fill (buffer, size_of (i), from, to, i);
        ctalk_envelope_t envelope = ctki_traffic_envelope (to, i, buffer, size_of (i));
        CTKI_SUCCEEDS (ctalk_send (cluster.server[from], &envelope, 0));
    }
}

/* The next FEW that come are these, whole; as is the case with a broadcast, too. */
static void take_few (ctalk_pid_t at, ctalk_pid_t from, int64_t first, bool broadcast)
{
    for (int64_t i = first; i < first + FEW; i++) {
        ctalk_envelope_t envelope;
        ctki_traffic_take (cluster.server[at], &envelope);
        ck_assert_int_eq (envelope.kind, CTALK_MESSAGE);
        ck_assert_int_eq (envelope.pid, from);
        ck_assert_int_eq (envelope.msg_id, i);
        ck_assert_uint_eq (envelope.size, size_of (i));
        ck_assert (ctki_payload_ok (envelope.data, envelope.size, from, broadcast ? CTALK_BROADCAST : at, i));
        ctalk_envelope_close (&envelope);
    }
}

static void take_nothing (ctalk_pid_t at)
{
    ctki_traffic_expect_nothing (cluster.server[at], 0);
}

static void await_state (ctalk_pid_t at, ctalk_pid_t peer, int state)
{
    ctki_cluster_await_state (cluster.server[at], peer, state);
}

static int state_of (ctalk_pid_t at, ctalk_pid_t peer)
{
    return ctalk_server_peer_state (cluster.server[at], peer);
}

static void await_all_up (void)
{
    ctki_cluster_wait_up (&cluster);
}

/* Everything is delivered; nobody has anything more. */
static void end_quiet (void)
{
    for (size_t i = 1; i <= cluster.count; i++)
        CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[i], CTALK_BROADCAST, ctki_test_long_ms ()));
    for (size_t i = 1; i <= cluster.count; i++)
        take_nothing ((ctalk_pid_t) i);
    ctki_cluster_close (&cluster);
}

/* ---- one peer */

/* 1 and 2 send each other FEW while the way is cut at 1. What the cut does not stop arrives; who hears nothing says
 * down; healed, the rest arrives. */
static void cut_one (int directions, bool open)
{
    bool out = directions & CTALK_OUT, in = directions & CTALK_IN;
    cut (1, 2, directions, true);
    send_few (1, 2, FEW);
    send_few (2, 1, FEW);
    if (open && !out)
        take_few (2, 1, FEW, false);
    if (open && !in)
        take_few (1, 2, FEW, false);
    if (out)
        await_state (2, 1, CTALK_STATE_DOWN);
    if (in)
        await_state (1, 2, CTALK_STATE_DOWN);
    ck_assert (out || state_of (2, 1) != CTALK_STATE_DOWN);
    ck_assert (in || state_of (1, 2) != CTALK_STATE_DOWN);
    take_nothing (1);
    take_nothing (2);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 2).queued, FEW);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[2], 1).queued, FEW);
    cut (1, 2, directions, false);
    if (!open || out)
        take_few (2, 1, FEW, false);
    if (!open || in)
        take_few (1, 2, FEW, false);
    await_all_up ();
}

/* A cut of one peer out, in, and both: what is sent is held back where the way is cut, and only there; nothing is
 * acknowledged; healed, all of it arrives, once and in order. The session was open before. */
START_TEST (one_peer)
{
    for (int directions = CTALK_IN; directions <= BOTH; directions++) {
        ctki_cluster_open_up (&cluster, 2, CTKI_OPTIONS (CTKI_FAST_FAILURE));
        send_few (1, 2, 0);
        send_few (2, 1, 0);
        take_few (2, 1, 0, false);
        take_few (1, 2, 0, false);
        CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], 2, ctki_test_long_ms ()));
        CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[2], 1, ctki_test_long_ms ()));
        cut_one (directions, true);
        end_quiet ();
    }
}
END_TEST

/* The same with lazy servers that never talked to each other: the cut is there before the sender and the session are.
 */
START_TEST (one_lazy_peer)
{
    for (int directions = CTALK_IN; directions <= BOTH; directions++) {
        ctki_cluster_open (&cluster, 2, CTKI_OPTIONS ("Senders", "lazy", CTKI_FAST_FAILURE));
        cut_one (directions, false);
        end_quiet ();
    }
}
END_TEST

static bool has_tried_again (void *arg)
{
    const uint64_t *rebuilt = arg;
    return ctki_cluster_stats (cluster.server[2], 1).rebuilt >= *rebuilt;
}

/* A way that is cut at both its ends is healed when both are. */
START_TEST (both_ends)
{
    ctki_cluster_open_up (&cluster, 2, CTKI_OPTIONS (CTKI_FAST_FAILURE));
    cut (1, 2, CTALK_OUT, true);
    cut (2, 1, CTALK_IN, true);
    send_few (1, 2, 0);
    await_state (2, 1, CTALK_STATE_DOWN);
    cut (1, 2, BOTH, false);
    uint64_t rebuilt = ctki_cluster_stats (cluster.server[2], 1).rebuilt + 2;
    ck_assert (ctki_test_until (has_tried_again, &rebuilt, ctki_test_long_ms ()));
    ck_assert_int_eq (state_of (2, 1), CTALK_STATE_DOWN);
    take_nothing (2);
    cut (2, 1, CTALK_IN, false);
    take_few (2, 1, 0, false);
    await_all_up ();
    end_quiet ();
}
END_TEST

/* Cutting and healing twice is the same as once; healing what is not cut is harmless; one direction is healed alone. */
START_TEST (twice)
{
    ctki_cluster_open_up (&cluster, 2, CTKI_OPTIONS (CTKI_FAST_FAILURE));
    cut (1, 2, BOTH, false);
    cut (1, 2, BOTH, true);
    cut (1, 2, BOTH, true);
    send_few (1, 2, 0);
    await_state (1, 2, CTALK_STATE_DOWN);
    await_state (2, 1, CTALK_STATE_DOWN);
    cut (1, 2, CTALK_OUT, false); /* now 2 hears 1, and 1 does not hear 2: no handshake */
    ck_assert (ctki_cluster_stats (cluster.server[1], 2).queued == FEW);
    cut (1, 2, CTALK_IN, false);
    cut (1, 2, CTALK_IN, false);
    take_few (2, 1, 0, false);
    await_all_up ();
    end_quiet ();
}
END_TEST

/* ---- all peers */

/* Cut from all: it sees all as down, they see it as down and each other as up; its broadcast reaches nobody and theirs
 * reaches the others at once; one is healed alone, then all, and everything arrives. */
START_TEST (from_all)
{
    ctki_cluster_open_up (&cluster, 4, CTKI_OPTIONS (CTKI_FAST_FAILURE));
    cut (1, CTALK_BROADCAST, BOTH, true);
    send_few (1, CTALK_BROADCAST, 0);
    send_few (2, CTALK_BROADCAST, 0);
    take_few (3, 2, 0, true);
    take_few (4, 2, 0, true);
    for (ctalk_pid_t pid = 2; pid <= 4; pid++) {
        await_state (1, pid, CTALK_STATE_DOWN);
        await_state (pid, 1, CTALK_STATE_DOWN);
        for (ctalk_pid_t other = 2; other <= 4; other++)
            ck_assert_int_eq (state_of (pid, other), CTALK_STATE_UP);
        take_nothing (pid);
    }
    take_nothing (1);
    cut (1, 2, BOTH, false);
    take_few (2, 1, 0, true);
    take_few (1, 2, 0, true);
    await_state (1, 2, CTALK_STATE_UP);
    for (ctalk_pid_t pid = 3; pid <= 4; pid++) {
        ck_assert_int_eq (state_of (1, pid), CTALK_STATE_DOWN);
        take_nothing (pid);
    }
    cut (1, CTALK_BROADCAST, BOTH, false);
    take_few (3, 1, 0, true);
    take_few (4, 1, 0, true);
    await_all_up ();
    end_quiet ();
}
END_TEST

/* A broadcast while one peer is cut reaches the others at once and the cut one after healing; with CTALK_IF_UP it goes
 * to none. */
START_TEST (broadcast_during_a_cut)
{
    ctki_cluster_open_up (&cluster, 3, CTKI_OPTIONS (CTKI_FAST_FAILURE));
    ctalk_envelope_t if_up = ctki_traffic_envelope (CTALK_BROADCAST, FEW, "all", 3);
    if_up.flags = CTALK_IF_UP;
    cut (1, 3, CTALK_OUT, true);
    send_few (1, CTALK_BROADCAST, 0);
    take_few (2, 1, 0, true);
    await_state (3, 1, CTALK_STATE_DOWN);
    take_nothing (3);
    cut (1, 3, CTALK_IN, true);
    await_state (1, 3, CTALK_STATE_DOWN);
    CTKI_FAILS (EHOSTDOWN, ctalk_send (cluster.server[1], &if_up, 0));
    send_few (1, CTALK_BROADCAST, FEW);
    take_few (2, 1, FEW, true);
    take_nothing (3);
    cut (1, 3, BOTH, false);
    take_few (3, 1, 0, true);
    take_few (3, 1, FEW, true);
    await_all_up ();
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST).skipped, 0);
    CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &if_up, 0));
    ctki_traffic_expect (cluster.server[2], 1, FEW, "all");
    ctki_traffic_expect (cluster.server[3], 1, FEW, "all");
    end_quiet ();
}
END_TEST

/* ---- handshakes, and peers that come later */

/* A server that starts while its way is cut, in either direction or both, is not up for the other, nor the other for
 * it, and nobody learns who is there where nothing gets through; healed, both are up and have what was sent. */
START_TEST (handshakes_are_cut)
{
    for (int directions = CTALK_IN; directions <= BOTH; directions++) {
        static ctki_ports_t ports;
        ctki_ports_take (&ports, 2);
        cluster = (ctki_cluster_t){.count = 2};
        cluster.config = ctki_cluster_config (2, ports.port, CTKI_OPTIONS (CTKI_FAST_FAILURE));
        cluster.server[1] = ctki_cluster_start (1, cluster.config);
        cut (1, 2, directions, true);
        cluster.server[2] = ctki_cluster_start (2, cluster.config);
        send_few (1, 2, 0);
        send_few (2, 1, 0);
        if (directions & CTALK_IN)
            await_state (1, 2, CTALK_STATE_DOWN);
        if (directions & CTALK_OUT)
            await_state (2, 1, CTALK_STATE_DOWN);
        for (ctalk_pid_t pid = 1; pid <= 2; pid++) {
            CTKI_FAILS (EAGAIN, ctalk_server_wait_up (cluster.server[pid], 1, 0));
            take_nothing (pid);
        }
        ck_assert (!(directions & CTALK_IN) || ctalk_server_incarnation (cluster.server[1], 2) == 0);
        ck_assert (!(directions & CTALK_OUT) || ctalk_server_incarnation (cluster.server[2], 1) == 0);
        cut (1, 2, directions, false);
        await_all_up ();
        take_few (1, 2, 0, false);
        take_few (2, 1, 0, false);
        end_quiet ();
        ctki_ports_release (&ports);
    }
}
END_TEST

/* A cut from all peers is none from a peer that is added later. */
START_TEST (later_peers_are_not_cut)
{
    ctki_cluster_open_up (&cluster, 2, CTKI_OPTIONS (CTKI_FAST_FAILURE));
    ctalk_config_t *config = ctki_cluster_config (0, NULL, CTKI_OPTIONS (CTKI_FAST_FAILURE));
    ctalk_error_t error;
    CTKI_SUCCEEDS (ctalk_config_add_server (config, 1, ctalk_server_endpoint (cluster.server[1]), &error));
    ctki_cluster_list (config, 3, 0);
    cut (1, CTALK_BROADCAST, BOTH, true);
    ctalk_server_t *later = ctki_cluster_start (3, config);
    CTKI_SUCCEEDS (ctalk_server_add_peer (cluster.server[1], 3, ctalk_server_endpoint (later)));
    CTKI_SUCCEEDS (ctalk_server_wait_up (cluster.server[1], 1, ctki_test_long_ms ()));
    ctki_traffic_send (cluster.server[1], 3, 1, "there");
    ctki_traffic_expect (later, 1, 1, "there");
    ctki_traffic_send (later, 1, 2, "and back");
    ctki_traffic_expect (cluster.server[1], 3, 2, "and back");
    await_state (1, 2, CTALK_STATE_DOWN);
    CTKI_SUCCEEDS (ctalk_server_flush (later, 1, ctki_test_long_ms ()));
    ck_assert_int_eq (ctalk_server_close (&later, ctki_test_long_ms ()), 0);
    cut (1, CTALK_BROADCAST, BOTH, false);
    await_state (1, 2, CTALK_STATE_UP);
    ctalk_config_destroy (&config);
    ctki_cluster_close (&cluster);
}
END_TEST

/* ---- what is seen */

static void expect_event (ctalk_pid_t at, ctalk_pid_t pid, ctalk_kind_t kind, int reason)
{
    ctalk_envelope_t envelope;
    ctki_traffic_take (cluster.server[at], &envelope);
    ck_assert_int_eq (envelope.kind, kind);
    ck_assert_int_eq (envelope.pid, pid);
    ck_assert_uint_ge (envelope.size, sizeof (ctalk_event_t));
    const ctalk_event_t *event = envelope.data;
    ck_assert_uint_eq (event->incarnation, ctalk_server_incarnation (cluster.server[pid], pid));
    /* The link is being made anew all the time: for a moment there is no connection. */
    bool right = event->reason == reason || (kind == CTALK_PEER_DOWN && event->reason == CTALK_WHY_UNREACHABLE);
    ck_assert_msg (right, "%d sees %d: kind %d, reason %d (%s)", at, pid, kind, event->reason, event->text);
    ctalk_envelope_close (&envelope);
}

/* The events of a cut: the peer is suspect, then down; healed, up; both sides see that of each other, and nothing of
 * the third, who sees nothing at all. */
START_TEST (events)
{
    ctki_cluster_open_up (&cluster, 3,
                          CTKI_OPTIONS ("HeartbeatMs", ctki_test_ms_text (100), "SuspectMs", ctki_test_ms_text (250),
                                        "DownMs", ctki_test_ms_text (1500)));
    for (ctalk_pid_t pid = 1; pid <= 3; pid++)
        CTKI_SUCCEEDS (ctalk_server_watch_peers (cluster.server[pid], true));
    for (ctalk_pid_t pid = 1; pid <= 3; pid++) { /* those who are up, in any order */
        ctalk_pid_t seen = 0;
        for (int i = 0; i < 2; i++) {
            ctalk_envelope_t envelope;
            ctki_traffic_take (cluster.server[pid], &envelope);
            ck_assert_int_eq (envelope.kind, CTALK_PEER_UP);
            seen += envelope.pid;
            ctalk_envelope_close (&envelope);
        }
        ck_assert_int_eq (seen, 1 + 2 + 3 - pid);
    }
    cut (1, 2, BOTH, true);
    static const ctalk_kind_t kinds[] = {CTALK_PEER_SUSPECT, CTALK_PEER_DOWN};
    for (int i = 0; i < 2; i++) {
        expect_event (1, 2, kinds[i], CTALK_WHY_SILENT);
        expect_event (2, 1, kinds[i], CTALK_WHY_SILENT);
    }
    ck_assert_uint_ne (ctki_cluster_stats (cluster.server[1], 2).reason, CTALK_WHY_NONE);
    cut (1, 2, BOTH, false);
    expect_event (1, 2, CTALK_PEER_UP, CTALK_WHY_NONE);
    expect_event (2, 1, CTALK_PEER_UP, CTALK_WHY_NONE);
    take_nothing (3);
    end_quiet ();
}
END_TEST

/* The link that a cut has made silent is made anew while it lasts, and both servers count it. */
START_TEST (silent_links_are_rebuilt)
{
    ctki_cluster_open_up (&cluster, 2, CTKI_OPTIONS (CTKI_FAST_FAILURE));
    cut (1, 2, BOTH, true);
    await_state (1, 2, CTALK_STATE_DOWN);
    await_state (2, 1, CTALK_STATE_DOWN);
    ck_assert_uint_gt (ctki_cluster_stats (cluster.server[1], 2).rebuilt, 0);
    ck_assert_uint_gt (ctki_cluster_stats (cluster.server[2], 1).rebuilt, 0);
    cut (1, 2, BOTH, false);
    await_all_up ();
    ctki_traffic_exchange (&cluster, ctki_test_count (50));
    end_quiet ();
}
END_TEST

/* ---- switched by several threads */

typedef struct {
    uint64_t state; /* of the draws */
    size_t rounds;
    atomic_bool done;
} switcher_t;

static uint64_t draw (switcher_t *switcher, uint64_t below)
{
    switcher->state = switcher->state * 6364136223846793005u + 1442695040888963407u;
    return (switcher->state >> 33) % below;
}

typedef struct {
    ctalk_server_t *server;
    uint64_t figures;
} movement_t;

static uint64_t figures_of (ctalk_server_t *server)
{
    ctalk_stats_t stats;
    if (ctalk_server_stats (server, CTALK_BROADCAST, &stats))
        return 0;
    return stats.delivered + stats.received + stats.retransmitted + stats.duplicates;
}

static bool moved (void *arg)
{
    const movement_t *movement = arg;
    return figures_of (movement->server) > movement->figures + 20;
}

/* Lets some traffic pass, or some time if none does. */
static void let_pass (ctalk_server_t *server, uint64_t ms)
{
    movement_t movement = {server, figures_of (server)};
    (void) ctki_test_until (moved, &movement, (int) ms);
}

static int switch_way (uint64_t what, ctalk_server_t *server, ctalk_pid_t peer, int directions, bool on)
{
    static const ctalk_impairment_t how = {.loss = 0.05, .duplicate = 0.3, .delay_ms = 1, .jitter_ms = 10, .seed = 8};
    if (what)
        return ctalk_server_cut (server, peer, directions, on);
    return ctalk_server_impair (server, peer, directions, on ? &how : NULL);
}

/* Each way that it makes bad it makes good again: so at the end of all such threads, all are. */
static bool switch_about (void *arg, ctki_trouble_t *trouble)
{
    switcher_t *switcher = arg;
    for (size_t i = 0; i < switcher->rounds; i++) {
        ctalk_pid_t self = (ctalk_pid_t) (1 + draw (switcher, cluster.count)), peer = CTALK_BROADCAST;
        if (draw (switcher, 4))
            peer = (ctalk_pid_t) (1 + ((uint64_t) self + draw (switcher, cluster.count - 1)) % cluster.count);
        int directions = (int) (1 + draw (switcher, 3));
        uint64_t what = draw (switcher, 3);
        CTKI_EXPECT_EQUAL (trouble, switch_way (what, cluster.server[self], peer, directions, true), 0);
        let_pass (cluster.server[self], draw (switcher, 30));
        CTKI_EXPECT_EQUAL (trouble, switch_way (what, cluster.server[self], peer, directions, false), 0);
        let_pass (cluster.server[self], draw (switcher, 10));
    }
    atomic_store (&switcher->done, true);
    return true;
}

static size_t still_switching (switcher_t *switchers)
{
    size_t count = 0;
    for (size_t i = 0; i < SWITCHERS; i++)
        count += !atomic_load (&switchers[i].done);
    return count;
}

/* Several threads cut and heal ways, and make them bad and good, while everybody sends to everybody: all of it arrives,
 * once and in order. */
START_TEST (switched_during_traffic)
{
    static switcher_t switchers[SWITCHERS];
    ctki_test_thread_t threads[SWITCHERS];
    size_t rounds = 0;
    ctki_cluster_open_up (&cluster, 3, CTKI_OPTIONS (CTKI_FAST_FAILURE, "FrameBytes", "8192"));
    for (size_t i = 0; i < SWITCHERS; i++) {
        switchers[i] = (switcher_t){.state = i, .rounds = ctki_test_count (100)};
        ctki_test_thread_start (&threads[i], switch_about, &switchers[i]);
    }
    for (; still_switching (switchers); rounds++)
        ctki_traffic_exchange (&cluster, ctki_test_count (100));
    for (size_t i = 0; i < SWITCHERS; i++)
        ctki_test_thread_join (&threads[i]);
    ctki_traffic_exchange (&cluster, ctki_test_count (100));
    await_all_up ();
    uint64_t retransmitted = 0, duplicates = 0;
    for (size_t i = 1; i <= cluster.count; i++) {
        retransmitted += ctki_cluster_stats (cluster.server[i], CTALK_BROADCAST).retransmitted;
        duplicates += ctki_cluster_stats (cluster.server[i], CTALK_BROADCAST).duplicates;
        ck_assert_uint_eq (ctki_cluster_stats (cluster.server[i], CTALK_BROADCAST).malformed, 0);
    }
    end_quiet ();
    ctki_test_figure ("switched_during_traffic", "%zu rounds of traffic, %llu frames sent again, %llu duplicates",
                      rounds, (unsigned long long) retransmitted, (unsigned long long) duplicates);
}
END_TEST

/* ---- bad ways */

static const ctalk_impairment_t bad = {.loss = 0.2, .duplicate = 0.1, .delay_ms = 5, .jitter_ms = 20, .seed = 2024};

static void impair (ctalk_pid_t at, ctalk_pid_t peer, int directions, const ctalk_impairment_t *how)
{
    CTKI_SUCCEEDS (ctalk_server_impair (cluster.server[at], peer, directions, how));
}

/* Whether frames on the way from one to the other were lost and came twice. */
static bool suffered (ctalk_pid_t from, ctalk_pid_t to)
{
    return ctki_cluster_stats (cluster.server[from], to).retransmitted > 0
           && ctki_cluster_stats (cluster.server[to], from).duplicates > 0;
}

/* Exchanges envelopes until the ways named suffered; returns how many rounds it took. */
static size_t exchange_until_suffered (bool there, bool back, size_t count)
{
    size_t scaled = ctki_test_count (count), most = ROUNDS_MAX * count / scaled; /* the fewer in a round the more rounds */
    for (size_t rounds = 1; rounds <= most; rounds++) {
        ctki_traffic_exchange (&cluster, scaled);
        if ((!there || suffered (1, 2)) && (!back || suffered (2, 1)))
            return rounds;
    }
    ck_abort_msg ("no frame was lost, or none doubled");
    return 0;
}

/* 20 % loss, 10 % duplicates, a delay of 5 ms and up to 20 ms more, in each direction and in both: everything arrives,
 * once and in order; the counters show that there was something to mend, and nothing broken. */
START_TEST (bad_way)
{
    for (int directions = CTALK_IN; directions <= BOTH; directions++) {
        ctki_cluster_open_up (&cluster, 2, CTKI_OPTIONS ("FrameBytes", "8192"));
        impair (1, 2, directions, &bad);
        size_t rounds = exchange_until_suffered (directions & CTALK_OUT, directions & CTALK_IN, 100);
        ctalk_stats_t there = ctki_cluster_stats (cluster.server[1], 2),
                      back = ctki_cluster_stats (cluster.server[2], 1);
        ck_assert_uint_eq (there.malformed + back.malformed, 0);
        impair (1, 2, directions, NULL);
        ctki_traffic_exchange (&cluster, ctki_test_count (100));
        end_quiet ();
        ctki_test_figure ("bad_way",
                          "%s: %zu rounds; sent again %llu there, %llu back; duplicates %llu there, %llu back",
                          directions == BOTH       ? "both"
                          : directions == CTALK_IN ? "in"
                                                   : "out",
                          rounds, (unsigned long long) there.retransmitted, (unsigned long long) back.retransmitted,
                          (unsigned long long) back.duplicates, (unsigned long long) there.duplicates);
    }
}
END_TEST

/* The same between three servers, every way bad from the first handshake to the last goodbye. */
START_TEST (all_ways_are_bad)
{
    ctki_cluster_open (&cluster, 3, CTKI_OPTIONS ("FrameBytes", "8192"));
    for (ctalk_pid_t pid = 1; pid <= 3; pid++)
        impair (pid, CTALK_BROADCAST, CTALK_OUT, &bad);
    await_all_up ();
    size_t rounds = exchange_until_suffered (true, true, 30);
    for (ctalk_pid_t pid = 1; pid <= 3; pid++)
        ck_assert_uint_eq (ctki_cluster_stats (cluster.server[pid], CTALK_BROADCAST).malformed, 0);
    end_quiet ();
    ctki_test_figure ("all_ways_are_bad", "%zu rounds", rounds);
}
END_TEST

/* A delay is felt, in each direction; and what is still on a way that is made good again comes at once, though no link
 * is made anew and no heartbeat asks for it. */
START_TEST (delay)
{
    static const ctalk_impairment_t late = {.delay_ms = 150}, never = {.delay_ms = 60000};
    for (int directions = CTALK_IN; directions <= CTALK_OUT; directions++) {
        ctalk_pid_t from = directions == CTALK_IN ? 2 : 1, to = 3 - from;
        ctki_cluster_open_up (&cluster, 2,
                              CTKI_OPTIONS ("HeartbeatMs", ctki_test_ms_text (15000), "SuspectMs",
                                            ctki_test_ms_text (45000), "DownMs", ctki_test_ms_text (60000)));
        impair (1, 2, directions, &late);
        int64_t start_ms = ctki_test_now_ms ();
        send_few (from, to, 0);
        take_few (to, from, 0, false);
        ck_assert_int_ge (ctki_test_now_ms () - start_ms, 149);
        impair (1, 2, directions, &never);
        send_few (from, to, FEW);
        CTKI_FAILS (EAGAIN, ctalk_server_flush (cluster.server[from], to, ctki_test_ms (300)));
        take_nothing (to);
        impair (1, 2, directions, NULL);
        take_few (to, from, FEW, false);
        ck_assert_uint_eq (ctki_cluster_stats (cluster.server[from], to).rebuilt, 0);
        ck_assert_uint_eq (ctki_cluster_stats (cluster.server[from], to).retransmitted, 0);
        end_quiet ();
    }
}
END_TEST

/* A way that loses everything is as good as cut; less than that is never down. */
START_TEST (total_loss)
{
    static const ctalk_impairment_t total = {.loss = 1};
    ctki_cluster_open_up (&cluster, 2, CTKI_OPTIONS (CTKI_FAST_FAILURE));
    impair (1, 2, CTALK_OUT, &total);
    send_few (1, 2, 0);
    await_state (2, 1, CTALK_STATE_DOWN);
    take_nothing (2);
    impair (1, 2, CTALK_OUT, NULL);
    take_few (2, 1, 0, false);
    await_all_up ();
    end_quiet ();
}
END_TEST

/* ---- errors */

/* A peer that is none is EHOSTUNREACH; the own pid, no direction or an unknown one, and no server are EINVAL. */
START_TEST (errors)
{
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctalk_server_t *server = cluster.server[1];
    static const int directions[] = {0, 4, 7, -1};
    for (int on = 0; on < 2; on++) {
        const ctalk_impairment_t *how = on ? &bad : NULL;
        CTKI_FAILS (EHOSTUNREACH, ctalk_server_cut (server, 3, BOTH, on));
        CTKI_FAILS (EHOSTUNREACH, ctalk_server_impair (server, 3, BOTH, how));
        CTKI_FAILS (EINVAL, ctalk_server_cut (server, 1, BOTH, on));
        CTKI_FAILS (EINVAL, ctalk_server_impair (server, 1, BOTH, how));
        CTKI_FAILS (EINVAL, ctalk_server_cut (NULL, 2, BOTH, on));
        CTKI_FAILS (EINVAL, ctalk_server_impair (NULL, 2, BOTH, how));
        for (size_t i = 0; i < 4; i++) {
            CTKI_FAILS (EINVAL, ctalk_server_cut (server, 2, directions[i], on));
            CTKI_FAILS (EINVAL, ctalk_server_impair (server, 2, directions[i], how));
            CTKI_FAILS (EINVAL, ctalk_server_cut (server, CTALK_BROADCAST, directions[i], on));
        }
    }
    ctki_traffic_exchange (&cluster, 10); /* and nothing was cut by it */
    ctki_cluster_close (&cluster);
}
END_TEST

/* An impairment with a figure out of its range is EINVAL and changes nothing; those at the ends of the ranges are
 * taken. */
START_TEST (ranges)
{
    static const ctalk_impairment_t wrong[] = {{.loss = -0.01},    {.loss = 1.01},       {.loss = NAN},
                                               {.loss = INFINITY}, {.duplicate = -0.01}, {.duplicate = 1.01},
                                               {.duplicate = NAN}, {.delay_ms = -1},     {.delay_ms = 60001},
                                               {.jitter_ms = -1},  {.jitter_ms = 60001}};
    static const ctalk_impairment_t right[] = {
        {.loss = 0}, {.loss = 1, .duplicate = 1, .delay_ms = 60000, .jitter_ms = 60000, .seed = UINT64_MAX}};
    ctki_cluster_open_up (&cluster, 2, NULL);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CTKI_FAILS (EINVAL, ctalk_server_impair (cluster.server[1], 2, BOTH, &wrong[i]));
        CTKI_FAILS (EINVAL, ctalk_server_impair (cluster.server[1], CTALK_BROADCAST, CTALK_IN, &wrong[i]));
    }
    ctki_traffic_exchange (&cluster, 10);
    for (size_t i = 0; i < 2; i++) {
        impair (1, 2, BOTH, &right[i]);
        impair (1, 2, BOTH, NULL);
    }
    ctki_traffic_exchange (&cluster, 10);
    ctki_cluster_close (&cluster);
}
END_TEST

/* Without peers there is nothing to cut, and that is no error. */
START_TEST (alone)
{
    ctki_cluster_open (&cluster, 1, NULL);
    cut (1, CTALK_BROADCAST, BOTH, true);
    impair (1, CTALK_BROADCAST, BOTH, &bad);
    CTKI_FAILS (EHOSTUNREACH, ctalk_server_cut (cluster.server[1], 2, BOTH, true));
    ctki_cluster_close (&cluster);
}
END_TEST

/* Whichever allocation of a cut fails, it is ENOMEM or done; and it is all or nothing for the peer asked for. */
START_TEST (no_memory)
{
    bool failed = false, done = false;
    for (long k = 0; !done; k++) {
        ck_assert_int_lt (k, 100);
        ctki_cluster_open (&cluster, 2, CTKI_OPTIONS ("Senders", "lazy")); /* no record of the peer is made yet */
        (void) ctki_mem_fail (k, 1);
        errno = 0;
        int rc = ctalk_server_cut (cluster.server[1], 2, BOTH, true);
        int code = errno;
        (void) ctki_mem_fail (-1, 0);
        ck_assert_msg (rc == 0 || code == ENOMEM, "allocation %ld: %s", k, strerror (code));
        failed |= rc != 0;
        done = rc == 0;
        cut (1, 2, BOTH, false);
        ctki_traffic_exchange (&cluster, 2);
        ctki_cluster_close (&cluster);
    }
    ck_assert (failed);
}
END_TEST

typedef struct {
    ctalk_server_t *server;
    int abandoned;
} closing_t;

static bool close_with_patience (void *arg, ctki_trouble_t *trouble)
{
    closing_t *closing = arg;
    closing->abandoned = ctalk_server_close (&closing->server, ctki_test_ms (2000));
    CTKI_EXPECT (trouble, closing->server == NULL);
    return true;
}

static bool is_shut (void *arg)
{
    return ctalk_server_cut (arg, 2, BOTH, true) == -1 && errno == ESHUTDOWN;
}

/* While a server closes, which its cut peer makes long, cuts are ESHUTDOWN; what could not go is abandoned and counted.
 */
START_TEST (closing)
{
    ctki_test_thread_t thread;
    ctki_cluster_open_up (&cluster, 2, NULL);
    cut (1, 2, BOTH, true);
    send_few (1, 2, 0);
    closing_t task = {cluster.server[1], -1};
    ctalk_server_t *server = cluster.server[1];
    ctki_test_thread_start (&thread, close_with_patience, &task);
    ck_assert (ctki_test_until (is_shut, server, ctki_test_ms (1000)));
    CTKI_FAILS (ESHUTDOWN, ctalk_server_impair (server, 2, BOTH, &bad));
    ctki_test_thread_join (&thread);
    ck_assert_int_eq (task.abandoned, FEW);
    cluster.server[1] = NULL;
    take_nothing (2);
    ctki_cluster_close (&cluster);
}
END_TEST

static bool use_in_child (int fd, void *arg, ctki_trouble_t *trouble)
{
    (void) fd;
    ctalk_server_t *server = arg;
    CTKI_EXPECT (trouble, ctalk_server_cut (server, 2, BOTH, true) == -1 && errno == EOWNERDEAD);
    CTKI_EXPECT (trouble, ctalk_server_impair (server, 2, BOTH, &bad) == -1 && errno == EOWNERDEAD);
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_close (&server, -1), 0);
    return true;
}

/* In a child process, cuts of the parent's server are EOWNERDEAD, and the parent's ways are as they were. */
START_TEST (in_a_child)
{
    ctki_process_t process;
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctki_process_copy (&process, use_in_child, cluster.server[1]);
    ctki_process_join (&process, ctki_test_long_ms ());
    ctki_traffic_exchange (&cluster, 10);
    ctki_cluster_close (&cluster);
}
END_TEST

/* A peer that was cut, removed and added again begins with good ways: what is done to them then is all that is done. */
START_TEST (added_again)
{
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctki_traffic_send (cluster.server[2], 1, 1, "before");
    ctki_traffic_expect (cluster.server[1], 2, 1, "before");
    CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, CTALK_IN | CTALK_OUT, true));
    CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[1], 2));
    CTKI_SUCCEEDS (ctalk_server_add_peer (cluster.server[1], 2, ctalk_server_endpoint (cluster.server[2])));
    ctalk_impairment_t slow = {.delay_ms = 5};
    CTKI_SUCCEEDS (ctalk_server_impair (cluster.server[1], 2, CTALK_IN | CTALK_OUT, &slow));
    ctki_traffic_exchange (&cluster, 5);
    ctki_cluster_close (&cluster);
}
END_TEST

Suite *ctki_suite_cut (void)
{
    Suite *suite = suite_create ("cut");
    TCase *tcase = ctki_leaks_tcase ("cut", 240);
    tcase_add_test (tcase, one_peer);
    tcase_add_test (tcase, one_lazy_peer);
    tcase_add_test (tcase, both_ends);
    tcase_add_test (tcase, twice);
    tcase_add_test (tcase, from_all);
    tcase_add_test (tcase, broadcast_during_a_cut);
    tcase_add_test (tcase, handshakes_are_cut);
    tcase_add_test (tcase, later_peers_are_not_cut);
    tcase_add_test (tcase, added_again);
    tcase_add_test (tcase, events);
    tcase_add_test (tcase, silent_links_are_rebuilt);
    tcase_add_test (tcase, switched_during_traffic);
    tcase_add_test (tcase, bad_way);
    tcase_add_test (tcase, all_ways_are_bad);
    tcase_add_test (tcase, delay);
    tcase_add_test (tcase, total_loss);
    tcase_add_test (tcase, errors);
    tcase_add_test (tcase, ranges);
    tcase_add_test (tcase, alone);
    tcase_add_test (tcase, no_memory);
    tcase_add_test (tcase, closing);
    tcase_add_test (tcase, in_a_child);
    suite_add_tcase (suite, tcase);
    return suite;
}
