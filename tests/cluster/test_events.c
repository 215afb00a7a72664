/*
 * test_events.c - events about peers in the inbox: each kind once, with its
 * reason, in order with the data, and only for those who watch.
 */
#include <inttypes.h>

#include "tests/cluster/suites.h"
#include "tests/support/puppet.h"
#include "tests/support/support.h"

static ctki_ports_t ports;
static ctki_cluster_t cluster;

static void close_clean (ctalk_server_t **server)
{
    ck_assert_int_eq (ctalk_server_close (server, ctki_test_long_ms ()), 0);
}

static void watch (ctalk_server_t *server)
{
    CTKI_SUCCEEDS (ctalk_server_watch_peers (server, true));
}

/* The next envelope is this event; the envelope is the caller's to close. */
static const ctalk_event_t *take_event (ctalk_server_t *server, ctalk_pid_t pid, ctalk_kind_t kind,
                                        ctalk_envelope_t *envelope)
{
    ctki_traffic_take (server, envelope);
    ck_assert_msg (envelope->kind == kind && envelope->pid == pid, "kind %d of %d, instead of kind %d of %d",
                   (int) envelope->kind, (int) envelope->pid, (int) kind, (int) pid);
    ck_assert_uint_eq (envelope->size, sizeof (ctalk_event_t));
    ck_assert_int_eq (envelope->msg_id, 0);
    return envelope->data;
}

/* The next envelope is this event, for this reason. */
static void expect_event (ctalk_server_t *server, ctalk_pid_t pid, ctalk_kind_t kind, int32_t reason)
{
    ctalk_envelope_t envelope;
    const ctalk_event_t *event = take_event (server, pid, kind, &envelope);
    ck_assert_int_eq (event->reason, reason);
    ck_assert ((event->text[0] != '\0') == (reason != CTALK_WHY_NONE));
    ctalk_envelope_close (&envelope);
}

/* Takes what comes until this event; returns its reason. */
static int32_t pass_until (ctalk_server_t *server, ctalk_kind_t kind)
{
    ctalk_kind_t came;
    int32_t reason;
    do {
        ctalk_envelope_t envelope;
        ctki_traffic_take (server, &envelope);
        came = envelope.kind;
        reason = came == kind ? ((const ctalk_event_t *) envelope.data)->reason : 0;
        ctalk_envelope_close (&envelope);
    } while (came != kind);
    return reason;
}

/* The next envelope but for CTALK_PEER_UP, which says that we reach the peer and comes when we do. */
static void expect_beside_up (ctalk_server_t *server, ctalk_pid_t pid, int64_t msg_id, ctalk_kind_t kind)
{
    ctalk_envelope_t envelope;
    ctki_traffic_take (server, &envelope);
    while (envelope.kind == CTALK_PEER_UP) {
        ctalk_envelope_close (&envelope);
        ctki_traffic_take (server, &envelope);
    }
    ck_assert_int_eq (envelope.pid, pid);
    ck_assert_int_eq (envelope.kind, kind);
    ck_assert_int_eq (envelope.msg_id, msg_id);
    ctalk_envelope_close (&envelope);
}

/* Nobody who does not watch gets an event; watching starts with one UP per peer that is up; off is off. */
START_TEST (only_for_watchers)
{
    ctki_cluster_open_up (&cluster, 3, NULL);
    ctki_traffic_expect_nothing (cluster.server[1], 0);
    watch (cluster.server[1]);
    ctalk_envelope_t envelope;
    bool seen[4] = {false};
    for (int i = 0; i < 2; i++) {
        ctki_traffic_take (cluster.server[1], &envelope);
        ck_assert_int_eq (envelope.kind, CTALK_PEER_UP);
        const ctalk_event_t *event = envelope.data;
        ck_assert_uint_eq (event->incarnation, ctalk_server_incarnation (cluster.server[envelope.pid], envelope.pid));
        ck_assert (!seen[envelope.pid]);
        seen[envelope.pid] = true;
        ctalk_envelope_close (&envelope);
    }
    watch (cluster.server[1]); /* twice is once */
    ctki_traffic_expect_nothing (cluster.server[1], 0);
    CTKI_SUCCEEDS (ctalk_server_watch_peers (cluster.server[1], false));
    ctki_cluster_close_one (&cluster, 3, ctki_test_long_ms (), 0);
    ctki_cluster_await_state (cluster.server[1], 3, CTALK_STATE_LEFT);
    ctki_traffic_expect_nothing (cluster.server[1], 0);
    CTKI_FAILS (EINVAL, ctalk_server_watch_peers (NULL, true));
    ctki_cluster_close (&cluster);
}
END_TEST

/* Events are no envelopes to the counters, and a kept one outlives its server. */
START_TEST (not_counted_and_kept)
{
    ctalk_envelope_t kept;
    ctki_cluster_open_up (&cluster, 2, NULL);
    watch (cluster.server[1]);
    const ctalk_event_t *event = take_event (cluster.server[1], 2, CTALK_PEER_UP, &kept);
    uint64_t incarnation = event->incarnation;
    ctalk_stats_t stats = ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST);
    ck_assert_uint_eq (stats.received + stats.consumed + stats.in_inbox, 0);
    ctki_traffic_send (cluster.server[2], 1, 1, "behind");
    ctki_traffic_expect (cluster.server[1], 2, 1, "behind");
    ctki_cluster_close (&cluster);
    ck_assert_uint_eq (event->incarnation, incarnation);
    ctalk_envelope_close (&kept);
}
END_TEST

/* A stopped peer is told as suspect, then as down, because it is silent, and as up when it goes on. */
START_TEST (suspect_down_up)
{
    ctki_peer_t peer;
    ctki_ports_take (&ports, 2);
    ctalk_config_t *config = ctki_cluster_config (2, ports.port, CTKI_OPTIONS (CTKI_FAST_FAILURE));
    ctki_peer_fork (&peer, 2, config, CTKI_PEER_ECHO);
    ctalk_server_t *server = ctki_cluster_start (1, config);
    watch (server);
    ctki_peer_go (&peer);
    expect_event (server, 2, CTALK_PEER_UP, CTALK_WHY_NONE);
    ctki_peer_stop (&peer);
    ctalk_envelope_t envelope;
    take_event (server, 2, CTALK_PEER_SUSPECT, &envelope);
    ctalk_envelope_close (&envelope);
    take_event (server, 2, CTALK_PEER_DOWN, &envelope);
    ctalk_envelope_close (&envelope);
    ctki_peer_continue (&peer);
    expect_event (server, 2, CTALK_PEER_UP, CTALK_WHY_NONE);
    ctki_peer_close (&peer);
    expect_event (server, 2, CTALK_PEER_LEFT, CTALK_WHY_CLOSING);
    close_clean (&server);
    ctalk_config_destroy (&config);
    ctki_ports_release (&ports);
}
END_TEST

/* Of several states in a row that nobody took, the newest is there, and data that came before stands before it. */
START_TEST (states_collapse)
{
    ctki_peer_t peer;
    ctki_ports_take (&ports, 2);
    ctalk_config_t *config = ctki_cluster_config (2, ports.port, CTKI_OPTIONS (CTKI_FAST_FAILURE));
    ctki_peer_fork (&peer, 2, config, CTKI_PEER_ECHO);
    ctalk_server_t *server = ctki_cluster_start (1, config);
    ctki_peer_go (&peer);
    ctki_traffic_send (server, 2, 1, "data");
    ctki_traffic_expect (server, 2, 1, "data");
    ctki_traffic_send (server, 2, 2, "before");
    while (ctki_cluster_stats (server, 2).in_inbox == 0)
        CTKI_SUCCEEDS (ctalk_server_flush (server, 2, ctki_test_long_ms ()));
    watch (server);
    ctki_peer_stop (&peer);
    ctki_cluster_await_state (server, 2, CTALK_STATE_DOWN);
    ctki_traffic_expect (server, 2, 2, "before");
    (void) pass_until (server, CTALK_PEER_DOWN);
    ctki_traffic_expect_nothing (server, 0);
    ctki_peer_continue (&peer);
    expect_event (server, 2, CTALK_PEER_UP, CTALK_WHY_NONE);
    ctki_peer_close (&peer);
    close_clean (&server);
    ctalk_config_destroy (&config);
    ctki_ports_release (&ports);
}
END_TEST

/* A peer that closes and comes back: LEFT after its last envelope, RESTARTED with both incarnations before its first
 * one, and UP; each time, and with the right figures. */
START_TEST (left_and_restarted)
{
    enum { ROUNDS = 5, WAITING = 3 };
    ctki_ports_take (&ports, 2);
    ctalk_config_t *config = ctki_cluster_config (2, ports.port, NULL);
    ctalk_server_t *one = ctki_cluster_start (1, config), *two = ctki_cluster_start (2, config);
    uint64_t former = 0;
    watch (one);
    for (int64_t round = 0; round < ROUNDS; round++) {
        ctalk_envelope_t envelope;
        uint64_t incarnation = ctalk_server_incarnation (two, 2);
        if (former) {
            const ctalk_event_t *event = take_event (one, 2, CTALK_PEER_RESTARTED, &envelope);
            ck_assert_uint_eq (event->old_incarnation, former);
            ck_assert_uint_eq (event->incarnation, incarnation);
            ck_assert_uint_eq (event->consumed + event->received, (uint64_t) WAITING * (round > 1) + 1);
            ck_assert_uint_eq (event->in_doubt, 0);
            ck_assert_uint_eq (event->carried, WAITING);
            ck_assert_uint_eq (event->fates, event->received);
            ctalk_envelope_close (&envelope);
        }
        former = incarnation;
        ctki_traffic_send (two, 1, round, "new");
        expect_beside_up (one, 2, round, CTALK_MESSAGE);
        for (int64_t i = 0; round > 0 && i < WAITING; i++)
            ctki_traffic_expect (two, 1, i, "waits");
        ctki_traffic_send (one, 2, round, "there");
        ctki_traffic_expect (two, 1, round, "there");
        ctki_traffic_send (two, 1, round, "last");
        close_clean (&two);
        expect_beside_up (one, 2, round, CTALK_MESSAGE);
        expect_beside_up (one, 2, 0, CTALK_PEER_LEFT);
        for (int64_t i = 0; i < WAITING; i++)
            ctki_traffic_send (one, 2, i, "waits");
        ck_assert_uint_eq (ctki_cluster_stats (one, 2).restarts, (uint64_t) round);
        two = ctki_cluster_start (2, config);
    }
    (void) ctalk_server_close (&two, 0);
    (void) ctalk_server_close (&one, 0);
    ctalk_config_destroy (&config);
    ctki_ports_release (&ports);
}
END_TEST

static bool has_three (void *server)
{
    return ctki_cluster_stats (server, 1).received >= 3;
}

/* What servers tell each other about calls has no fate: only what the application has sent. */
START_TEST (fates_of_the_application)
{
    ctki_ports_take (&ports, 2);
    ctalk_config_t *config =
        ctki_cluster_config (2, ports.port, CTKI_OPTIONS ("DownMs", "600000", "SuspectMs", "300000"));
    ctalk_server_t *one = ctki_cluster_start (1, config), *two = ctki_cluster_start (2, config);
    uint64_t silent = ctalk_actor_spawn (two, "silent", ctki_until_stopped, NULL);
    ctalk_envelope_t request = {.pid = 2, .msg_id = 8, .to = silent}, got;
    CTKI_SUCCEEDS (ctalk_server_wait_up (one, 1, ctki_test_long_ms ()));
    watch (one);
    CTKI_SUCCEEDS (ctalk_server_cut (one, 2, CTALK_IN, true));
    ctki_traffic_send (one, 2, 7, "never acknowledged");
    CTKI_FAILS (ETIMEDOUT, ctalk_call (one, &request, &got, 0)); /* and that nobody waits is told */
    ctki_traffic_expect (two, 1, 7, "never acknowledged");
    ck_assert (ctki_test_until (has_three, two, ctki_test_long_ms ()));
    (void) ctalk_server_close (&two, 0);
    two = ctki_cluster_start (2, config);
    CTKI_SUCCEEDS (ctalk_server_cut (one, 2, CTALK_IN, false));
    ctki_traffic_take (one, &got);
    while (got.kind != CTALK_PEER_RESTARTED) {
        ctalk_envelope_close (&got);
        ctki_traffic_take (one, &got);
    }
    const ctalk_event_t *event = got.data;
    ck_assert_uint_eq (event->in_doubt, 3);
    ck_assert_uint_eq (event->fates, 2);
    ck_assert (event->fate[0].msg_id == 7 && event->fate[0].to == 0);
    ck_assert (event->fate[1].msg_id == 8 && event->fate[1].to == request.to);
    ctalk_envelope_close (&got);
    (void) ctalk_server_close (&two, 0);
    (void) ctalk_server_close (&one, 0);
    ctalk_config_destroy (&config);
    ctki_ports_release (&ports);
}
END_TEST

/* A second process with a pid whose holder lives is refused, both are told why, and the holder is not disturbed;
 * when the holder is gone, the second is let in. */
START_TEST (duplicate_pid)
{
    ctki_ports_take (&ports, 3);
    ctalk_config_t *config = ctki_cluster_config (2, ports.port, NULL);
    uint16_t other_ports[2] = {ports.port[0], ports.port[2]};
    ctalk_config_t *other = ctki_cluster_config (2, other_ports, NULL);
    ctalk_server_t *one = ctki_cluster_start (1, config), *two = ctki_cluster_start (2, config);
    CTKI_SUCCEEDS (ctalk_server_wait_up (one, 1, ctki_test_long_ms ()));
    ctki_traffic_send (two, 1, 1, "holder");
    ctki_traffic_expect (one, 2, 1, "holder");
    watch (one);
    expect_event (one, 2, CTALK_PEER_UP, CTALK_WHY_NONE);
    ctalk_server_t *second = ctki_cluster_start (2, other);
    watch (second);
    ctki_traffic_send (second, 1, 1, "usurper");
    expect_event (one, 2, CTALK_PEER_REFUSED, CTALK_WHY_DUPLICATE);
    expect_event (second, 1, CTALK_PEER_REFUSED, CTALK_WHY_DUPLICATE);
    ctki_traffic_send (two, 1, 2, "holder");
    ctki_traffic_expect (one, 2, 2, "holder");
    close_clean (&two);
    expect_event (one, 2, CTALK_PEER_LEFT, CTALK_WHY_CLOSING);
    (void) pass_until (one, CTALK_PEER_RESTARTED);
    ctki_traffic_expect (one, 2, 1, "usurper");
    (void) ctalk_server_close (&second, 0);
    (void) ctalk_server_close (&one, 0);
    ctalk_config_destroy (&config);
    ctalk_config_destroy (&other);
    ctki_ports_release (&ports);
}
END_TEST

/* Two servers of different clusters, and two of which one may send what the other does not take: both are told. */
START_TEST (refused)
{
    static const struct {
        const char *option, *first, *second;
        int32_t reason;
        bool mutual; /* each refuses the other */
    } cases[] = {{"Cluster", "this", "that", CTALK_WHY_CLUSTER, true},
                 {"MaxMessageBytes", "2000", "1000", CTALK_WHY_LIMITS, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ctki_ports_take (&ports, 2);
        /* Lazy: they are not to refuse each other before they are watched. */
        ctalk_config_t *config = ctki_cluster_config (2, ports.port, CTKI_OPTIONS ("Senders", "lazy"));
        ctalk_error_t error;
        ctalk_server_t *servers[2];
        for (int s = 0; s < 2; s++) {
            const char *value = s ? cases[i].second : cases[i].first;
            ck_assert_int_eq (ctalk_config_set (config, cases[i].option, value, &error), 0);
            servers[s] = ctki_cluster_start (s + 1, config);
            watch (servers[s]);
        }
        for (int s = 0; s < 2; s++)
            (void) ctalk_server_wait_up (servers[s], 1, 0); /* starts the senders */
        for (int s = 0; s < 2; s++)
            ck_assert_int_eq (pass_until (servers[s], CTALK_PEER_REFUSED), cases[i].reason);
        int down = cases[i].mutual ? CTALK_STATE_CONNECTING : CTALK_STATE_UP;
        ck_assert_int_ne (ctalk_server_peer_state (servers[0], 2), CTALK_STATE_UP);
        ctki_cluster_await_state (servers[1], 1, down);
        for (int s = 0; s < 2; s++)
            close_clean (&servers[s]);
        ctalk_config_destroy (&config);
        ctki_ports_release (&ports);
    }
}
END_TEST

/* A peer that refuses us and is therefore down is told as refusing once, not again with each change of its state. */
START_TEST (refused_once)
{
    ctki_ports_take (&ports, 2);
    ctalk_config_t *config = ctki_cluster_config (2, ports.port, CTKI_OPTIONS (CTKI_FAST_FAILURE));
    ctalk_config_t *alone = ctalk_config_new ();
    ck_assert_int_eq (ctalk_config_add_server (alone, 2, ctalk_config_endpoint (config, 2), NULL), 0);
    ctalk_server_t *two = ctki_cluster_start (2, alone), *one = ctki_cluster_start (1, config);
    watch (one);
    expect_event (one, 2, CTALK_PEER_REFUSED, CTALK_WHY_UNKNOWN_PID);
    expect_event (one, 2, CTALK_PEER_DOWN, CTALK_WHY_UNKNOWN_PID);
    ctki_traffic_expect_nothing (one, ctki_test_ms (300));
    CTKI_SUCCEEDS (ctalk_server_watch_peers (one, false));
    watch (one); /* that is how it stands */
    expect_event (one, 2, CTALK_PEER_REFUSED, CTALK_WHY_UNKNOWN_PID);
    ctki_traffic_expect_nothing (one, 0);
    close_clean (&one);
    close_clean (&two);
    ctalk_config_destroy (&config);
    ctalk_config_destroy (&alone);
    ctki_ports_release (&ports);
}
END_TEST

/* A peer that was removed, became another process and was added again is told as restarted when it greets; that our
 * former session with it is over, which is seen when the first envelope goes there, is told as nothing else. */
START_TEST (restarted_while_removed)
{
    ctki_ports_take (&ports, 2);
    ctalk_config_t *config = ctki_cluster_config (2, ports.port, CTKI_OPTIONS ("Senders", "lazy"));
    ctalk_server_t *one = ctki_cluster_start (1, config), *two = ctki_cluster_start (2, config);
    ctki_traffic_send (one, 2, 1, "there");
    ctki_traffic_expect (two, 1, 1, "there");
    ctki_traffic_send (two, 1, 1, "back");
    ctki_traffic_expect (one, 2, 1, "back");
    CTKI_SUCCEEDS (ctalk_server_flush (one, 2, ctki_test_long_ms ()));
    CTKI_SUCCEEDS (ctalk_server_remove_peer (one, 2));
    (void) ctalk_server_close (&two, 0);
    two = ctki_cluster_start (2, config);
    watch (one);
    CTKI_SUCCEEDS (ctalk_server_add_peer (one, 2, ctalk_server_endpoint (two)));
    ctki_traffic_send (two, 1, 2, "new");
    (void) pass_until (one, CTALK_PEER_RESTARTED);
    ctki_traffic_expect (one, 2, 2, "new");
    ctki_traffic_send (one, 2, 2, "new");
    ctki_traffic_expect (two, 1, 2, "new");
    expect_event (one, 2, CTALK_PEER_UP, CTALK_WHY_NONE);
    ctki_traffic_expect_nothing (one, 0);
    close_clean (&two);
    close_clean (&one);
    ctalk_config_destroy (&config);
    ctki_ports_release (&ports);
}
END_TEST

/* A peer that takes nothing is told as stuck, once, though it is up; again only after it has taken something. */
START_TEST (stuck)
{
    ctki_cluster_open_up (&cluster, 2, CTKI_OPTIONS (CTKI_FAST_FAILURE));
    watch (cluster.server[1]);
    expect_event (cluster.server[1], 2, CTALK_PEER_UP, CTALK_WHY_NONE);
    for (int64_t round = 0; round < 2; round++) {
        ctki_traffic_send (cluster.server[1], 2, 2 * round, "waits");
        expect_event (cluster.server[1], 2, CTALK_PEER_STUCK, CTALK_WHY_NOT_CONSUMING);
        ck_assert_uint_ge (ctki_cluster_stats (cluster.server[1], 2).stuck_ms, (uint64_t) ctki_test_ms (700));
        ctki_traffic_send (cluster.server[1], 2, 2 * round + 1, "waits, too");
        ctki_traffic_expect_nothing (cluster.server[1], ctki_test_ms (300));
        ck_assert_int_eq (ctalk_server_peer_state (cluster.server[1], 2), CTALK_STATE_UP);
        ctki_traffic_expect (cluster.server[2], 1, 2 * round, "waits");
        ctki_traffic_expect (cluster.server[2], 1, 2 * round + 1, "waits, too");
    }
    ctki_cluster_close (&cluster);
}
END_TEST

/* A peer that removed us while envelopes were on their way, and added us again, has given them up: we are told how
 * many, and what it sends afterwards arrives. */
START_TEST (abandoned)
{
    enum { LOST = 10 };
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctki_traffic_send (cluster.server[1], 2, 1, "before");
    ctki_traffic_expect (cluster.server[2], 1, 1, "before");
    watch (cluster.server[2]);
    expect_event (cluster.server[2], 1, CTALK_PEER_UP, CTALK_WHY_NONE);
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], 2, ctki_test_long_ms ()));
    CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, CTALK_OUT, true));
    for (int64_t i = 0; i < LOST; i++)
        ctki_traffic_send (cluster.server[1], 2, i, "lost");
    CTKI_FAILS (EAGAIN, ctalk_server_flush (cluster.server[1], 2, ctki_test_ms (200)));
    CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[1], 2));
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST).in_doubt, LOST);
    CTKI_SUCCEEDS (ctalk_server_add_peer (cluster.server[1], 2, ctalk_server_endpoint (cluster.server[2])));
    ctki_traffic_send (cluster.server[1], 2, 2, "after");
    ctalk_envelope_t envelope;
    ctki_traffic_take (cluster.server[2], &envelope);
    while (envelope.kind == CTALK_PEER_SUSPECT || envelope.kind == CTALK_PEER_UP || envelope.kind == CTALK_PEER_REFUSED) {
        ctalk_envelope_close (&envelope); /* refused: it may have greeted while it was no member */
        ctki_traffic_take (cluster.server[2], &envelope);
    }
    ck_assert_int_eq (envelope.kind, CTALK_PEER_ABANDONED);
    ck_assert_uint_eq (((const ctalk_event_t *) envelope.data)->abandoned, LOST);
    ctalk_envelope_close (&envelope);
    ctki_traffic_expect (cluster.server[2], 1, 2, "after");
    ctki_cluster_close (&cluster);
}
END_TEST

Suite *ctki_suite_events (void)
{
    Suite *suite = suite_create ("events");
    TCase *tcase = ctki_leaks_tcase ("events", 60);
    tcase_add_test (tcase, only_for_watchers);
    tcase_add_test (tcase, not_counted_and_kept);
    ctki_add_test_of_system (tcase, suspect_down_up);
    ctki_add_test_of_system (tcase, states_collapse);
    tcase_add_test (tcase, left_and_restarted);
    tcase_add_test (tcase, fates_of_the_application);
    tcase_add_test (tcase, duplicate_pid);
    tcase_add_test (tcase, refused);
    tcase_add_test (tcase, refused_once);
    tcase_add_test (tcase, restarted_while_removed);
    tcase_add_test (tcase, stuck);
    tcase_add_test (tcase, abandoned);
    suite_add_tcase (suite, tcase);
    return suite;
}
