/*
 * test_basics.c - two servers talk: what is sent arrives, with every field and
 * every byte, and the servers know who they are.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/cluster/suites.h"
#include "tests/support/support.h"

enum { KIB = 1024, MIB = 1024 * 1024, LARGEST = 12 * MIB + 5 };

static const size_t sizes[] = {0,    1,    7,    8,     9,     63,    64,      65,  4095,     4096,   4097,
                               8191, 8192, 8193, 65535, 65536, 65537, MIB - 1, MIB, 10 * MIB, LARGEST};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static void send_payload (ctalk_server_t *server, ctalk_pid_t dst, int64_t number, char *buffer, size_t size)
{
    ctki_payload_fill (buffer, size, ctalk_server_pid (server), dst, number);
    ctalk_envelope_t envelope = ctki_traffic_envelope (dst, number, size ? buffer : NULL, size);
    CTKI_SUCCEEDS (ctalk_send (server, &envelope, ctki_test_long_ms ()));
    memset (buffer, 0x55, size); /* it was copied: the caller may reuse it at once */
}

static void take_payload (ctalk_server_t *server, ctalk_pid_t src, int64_t number, size_t size)
{
    ctalk_envelope_t envelope;
    ctki_traffic_take (server, &envelope);
    ck_assert_int_eq (envelope.kind, CTALK_MESSAGE);
    ck_assert_int_eq (envelope.pid, src);
    ck_assert_int_eq (envelope.msg_id, number);
    ck_assert_uint_eq (envelope.size, size);
    ck_assert_uint_eq (envelope.flags, 0);
    ck_assert_uint_eq (envelope.to, 0);
    ck_assert_uint_eq (envelope.from, 0);
    ck_assert_uint_eq (envelope.reserved, 0);
    ck_assert_uint_eq ((uintptr_t) envelope.data % 8, 0);
    ck_assert (size == 0 || ctki_payload_ok (envelope.data, size, src, ctalk_server_pid (server), number));
    ctalk_envelope_close (&envelope);
    ck_assert_ptr_null (envelope.data);
    ck_assert_ptr_null (envelope.lease);
}

/* Envelopes of every size that is special anywhere arrive both ways, one at a time and unchanged. */
START_TEST (sizes_both_ways)
{
    ctki_cluster_t cluster;
    char *buffer = malloc (LARGEST);
    ck_assert_ptr_nonnull (buffer);
    ctki_cluster_open_up (&cluster, 2, CTKI_OPTIONS ("MaxMessageBytes", ctki_test_number_text (LARGEST)));
    for (int64_t i = 0; i < SIZES; i++)
        for (ctalk_pid_t src = 1; src <= 2; src++) {
            ctalk_pid_t dst = 3 - src;
            send_payload (cluster.server[src], dst, i, buffer, sizes[i]);
            take_payload (cluster.server[dst], src, i, sizes[i]);
        }
    free (buffer);
    ctki_cluster_close (&cluster);
    ctki_test_figure ("sizes_both_ways", "%d sizes, 0 to %d bytes", (int) SIZES, (int) LARGEST);
}
END_TEST

/* All sizes sent in one go arrive in order, unchanged, through a queue smaller than the largest of them. */
START_TEST (sizes_in_one_go)
{
    ctki_cluster_t cluster;
    ctki_test_thread_t threads[2];
    ctki_trouble_t trouble = {""};
    ctki_journal_t *journal = ctki_journal_new (2, SIZES);
    ctki_cluster_open_up (&cluster, 2,
                          CTKI_OPTIONS ("MaxMessageBytes", ctki_test_number_text (LARGEST), "QueueBytes", "1048576",
                                        "WindowBytes", "131072"));
    ctki_stream_t stream = {cluster.server[1], 2, 0, SIZES, sizes, SIZES, journal};
    ctki_drain_t drain = {cluster.server[2], SIZES, journal, NULL};
    ctki_test_thread_start (&threads[0], ctki_traffic_stream, &stream);
    ctki_test_thread_start (&threads[1], ctki_traffic_drain, &drain);
    ctki_test_thread_join (&threads[0]);
    ctki_test_thread_join (&threads[1]);
    ck_assert_msg (ctki_journal_agrees (journal, &trouble), "%s", trouble.text);
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], 2, ctki_test_long_ms ()));
    ck_assert_msg (ctki_journal_matches (journal, cluster.server[1], &trouble), "%s", trouble.text);
    ck_assert_msg (ctki_journal_matches (journal, cluster.server[2], &trouble), "%s", trouble.text);
    ctki_journal_destroy (&journal);
    ctki_cluster_close (&cluster);
}
END_TEST

/* The largest allowed message passes and one byte more does not. */
START_TEST (largest_message)
{
    ctki_cluster_t cluster;
    char *buffer = calloc (1, 3 * MIB + 1);
    ck_assert_ptr_nonnull (buffer);
    ctki_cluster_open_up (&cluster, 2, CTKI_OPTIONS ("MaxMessageBytes", ctki_test_number_text (3 * MIB)));
    send_payload (cluster.server[1], 2, 1, buffer, 3 * MIB);
    take_payload (cluster.server[2], 1, 1, 3 * MIB);
    ctalk_envelope_t envelope = ctki_traffic_envelope (2, 2, buffer, 3 * MIB + 1);
    CTKI_FAILS (EMSGSIZE, ctalk_send (cluster.server[1], &envelope, -1));
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST).refused_too_big, 1);
    ctki_traffic_send (cluster.server[1], 2, 3, "after");
    ctki_traffic_expect (cluster.server[2], 1, 3, "after");
    free (buffer);
    ctki_cluster_close (&cluster);
}
END_TEST

/* The message id is carried as it is, from the smallest to the largest. */
START_TEST (message_ids)
{
    static const int64_t ids[] = {0, 1, -1, INT32_MAX, INT64_MAX, INT64_MIN};
    ctki_cluster_t cluster;
    ctki_cluster_open_up (&cluster, 2, NULL);
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        ctki_traffic_send (cluster.server[1], 2, ids[i], "id");
        ctki_traffic_expect (cluster.server[2], 1, ids[i], "id");
    }
    ctki_cluster_close (&cluster);
}
END_TEST

/* The sending actor's id is carried; an envelope for an actor that is not there is counted and not delivered. */
START_TEST (actor_addresses)
{
    ctki_cluster_t cluster;
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctalk_envelope_t envelope = ctki_traffic_envelope (2, 1, "x", 1);
    envelope.from = UINT64_MAX;
    CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &envelope, -1));
    envelope.to = 77;
    CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &envelope, -1));
    ctki_traffic_send (cluster.server[1], 2, 2, "last");
    ctalk_envelope_t got;
    ctki_traffic_take (cluster.server[2], &got);
    ck_assert_int_eq (got.msg_id, 1);
    ck_assert_uint_eq (got.from, UINT64_MAX);
    ck_assert_uint_eq (got.to, 0);
    ctalk_envelope_close (&got);
    ctki_traffic_expect (cluster.server[2], 1, 2, "last");
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[2], 1).no_such_actor, 1);
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], 2, ctki_test_long_ms ()));
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 2).delivered, 3);
    ctki_cluster_close (&cluster);
}
END_TEST

/* A broadcast reaches each other server once and marked, and not the sender; a unicast is not marked. */
START_TEST (broadcast_flag)
{
    ctki_cluster_t cluster;
    ctki_cluster_open_up (&cluster, 3, NULL);
    ctki_traffic_send (cluster.server[1], CTALK_BROADCAST, 1, "all");
    ctki_traffic_send (cluster.server[1], 2, 2, "one");
    for (ctalk_pid_t pid = 2; pid <= 3; pid++) {
        ctalk_envelope_t envelope;
        ctki_traffic_take (cluster.server[pid], &envelope);
        ck_assert_uint_eq (envelope.flags, CTALK_WAS_BROADCAST);
        ck_assert_int_eq (envelope.pid, 1);
        ctalk_envelope_close (&envelope);
    }
    ctalk_envelope_t envelope;
    ctki_traffic_take (cluster.server[2], &envelope);
    ck_assert_uint_eq (envelope.flags, 0);
    ctalk_envelope_close (&envelope);
    for (ctalk_pid_t pid = 1; pid <= 3; pid++)
        ctki_traffic_expect_nothing (cluster.server[pid], 0);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST).accepted, 3);
    ctki_cluster_close (&cluster);
}
END_TEST

/* Pid 0 and the largest pid are pids like others. */
START_TEST (extreme_pids)
{
    ctalk_config_t *config = ctalk_config_new ();
    ck_assert_ptr_nonnull (config);
    ctki_cluster_list (config, 0, 0);
    ctki_cluster_list (config, INT32_MAX, 0);
    ctalk_server_t *zero = ctki_cluster_start (0, config), *last = ctki_cluster_start (INT32_MAX, config);
    CTKI_SUCCEEDS (ctalk_server_add_peer (zero, INT32_MAX, ctalk_server_endpoint (last)));
    CTKI_SUCCEEDS (ctalk_server_add_peer (last, 0, ctalk_server_endpoint (zero)));
    ctki_traffic_send (zero, INT32_MAX, 1, "to the last");
    ctki_traffic_send (last, 0, 2, "to zero");
    ctki_traffic_expect (last, 0, 1, "to the last");
    ctki_traffic_expect (zero, INT32_MAX, 2, "to zero");
    ctalk_config_destroy (&config);
    ck_assert_int_eq (ctalk_server_close (&zero, ctki_test_long_ms ()), 0);
    ck_assert_int_eq (ctalk_server_close (&last, ctki_test_long_ms ()), 0);
}
END_TEST

/* A server says who it is, who the others are, and where it is bound; its config may be gone. */
START_TEST (who_is_who)
{
    ctki_cluster_t cluster;
    ctalk_pid_t pids[4] = {-7, -7, -7, -7};
    ctki_cluster_open_up (&cluster, 3, NULL);
    ctalk_config_destroy (&cluster.config);
    ck_assert_ptr_null (cluster.config);
    ck_assert_int_eq (ctalk_server_pid (cluster.server[2]), 2);
    ck_assert_int_eq (ctalk_server_peers (cluster.server[2], NULL, 0), 2);
    ck_assert_int_eq (ctalk_server_peers (cluster.server[2], pids, 1), 2);
    ck_assert (pids[0] == 1 && pids[1] == -7);
    ck_assert_int_eq (ctalk_server_peers (cluster.server[2], pids, 4), 2);
    ck_assert (pids[0] == 1 && pids[1] == 3 && pids[2] == -7);
    ck_assert_int_eq (ctalk_server_members (cluster.server[2], pids, 4), 3);
    ck_assert (pids[0] == 1 && pids[1] == 2 && pids[2] == 3 && pids[3] == -7);
    unsigned port = 0;
    ck_assert_int_eq (sscanf (ctalk_server_endpoint (cluster.server[2]), "tcp://127.0.0.1:%u", &port), 1);
    ck_assert_uint_gt (port, 0);
    ctki_cluster_close (&cluster);
}
END_TEST

/* Incarnations are seen by the others as the server itself says, differ, and are 0 for who was never seen. */
START_TEST (incarnations)
{
    ctki_cluster_t cluster;
    ctki_cluster_open_absent (&cluster, 2, NULL);
    ctki_cluster_wait_up (&cluster);
    uint64_t one = ctalk_server_incarnation (cluster.server[1], 1);
    uint64_t two = ctalk_server_incarnation (cluster.server[2], 2);
    ck_assert (one != 0 && two != 0 && one != two);
    ck_assert_uint_eq (ctalk_server_incarnation (cluster.server[1], 2), two);
    ck_assert_uint_eq (ctalk_server_incarnation (cluster.server[2], 1), one);
    ck_assert_uint_eq (ctalk_server_incarnation (cluster.server[1], cluster.absent), 0);
    ck_assert_uint_eq (ctalk_server_incarnation (cluster.server[1], 999), 0);
    ctki_cluster_close (&cluster);
}
END_TEST

/* A received envelope is sent on as it stands, and stays its holder's. */
START_TEST (forwarding)
{
    ctki_cluster_t cluster;
    ctki_cluster_open_up (&cluster, 3, NULL);
    char *buffer = malloc (100000);
    ck_assert_ptr_nonnull (buffer);
    for (size_t size = 10; size <= 100000; size *= 10) {
        ctalk_envelope_t envelope, again;
        send_payload (cluster.server[1], 2, 5, buffer, size);
        ctki_traffic_take (cluster.server[2], &envelope);
        envelope.pid = 3;
        CTKI_SUCCEEDS (ctalk_send (cluster.server[2], &envelope, -1));
        ctalk_envelope_close (&envelope);
        ctki_traffic_take (cluster.server[3], &again);
        ck_assert_int_eq (again.pid, 2);
        ck_assert (ctki_payload_ok (again.data, size, 1, 2, 5));
        ctalk_envelope_close (&again);
    }
    free (buffer);
    ctki_cluster_close (&cluster);
}
END_TEST

/* Both directions at full speed, mixed sizes, and the counters say what the journal says. */
START_TEST (exchange_of_many)
{
    ctki_cluster_t cluster;
    ctki_cluster_open_up (&cluster, 4, NULL);
    size_t count = ctki_test_count (1000);
    ctki_traffic_exchange (&cluster, count);
    ctalk_stats_t stats = ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST);
    ck_assert_uint_eq (stats.accepted, 3 * count);
    ck_assert_uint_eq (stats.received, 3 * count);
    ck_assert_uint_eq (stats.consumed, 3 * count);
    ctki_cluster_close (&cluster);
    ctki_test_figure ("exchange_of_many", "4 servers, %zu envelopes per pair", count);
}
END_TEST

/* The same with steps run by the actors' own threads only, and the counters tell which way it went. */
START_TEST (exchange_without_help)
{
    ctki_cluster_t cluster;
    ctki_cluster_open_up (&cluster, 3, CTKI_OPTIONS ("Help", "off"));
    ctki_traffic_exchange (&cluster, ctki_test_count (1000));
    /* A router that has much to do need not be rung; one that sleeps must be. */
    for (int64_t i = 0; i < 1000 && ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST).rung == 0; i++) {
        ctki_traffic_send (cluster.server[1], 2, i, "alone");
        ctki_traffic_expect (cluster.server[2], 1, i, "alone");
    }
    ctalk_stats_t stats = ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST);
    ck_assert_uint_eq (stats.helped, 0);
    ck_assert_uint_eq (stats.led, 0);
    ck_assert_uint_gt (stats.rung, 0);
    ctki_cluster_close (&cluster);
}
END_TEST

/* Before the peers are up, envelopes are accepted and arrive once they are. */
START_TEST (sent_before_the_peer_is_up)
{
    static ctki_ports_t ports;
    ctki_ports_take (&ports, 2);
    ctalk_config_t *config = ctki_cluster_config (2, ports.port, NULL);
    ctalk_server_t *early = ctki_cluster_start (1, config);
    for (int64_t i = 0; i < 100; i++)
        ctki_traffic_send (early, 2, i, "early");
    ctalk_server_t *late = ctki_cluster_start (2, config);
    for (int64_t i = 0; i < 100; i++)
        ctki_traffic_expect (late, 1, i, "early");
    ck_assert_int_eq (ctalk_server_close (&early, ctki_test_long_ms ()), 0);
    ck_assert_int_eq (ctalk_server_close (&late, ctki_test_long_ms ()), 0);
    ctalk_config_destroy (&config);
    ctki_ports_release (&ports);
}
END_TEST

/* The version in use is the version of the header. */
START_TEST (version)
{
    char text[40];
    (void) snprintf (text, sizeof text, "%d.%d.%d", CTALK_VERSION_MAJOR, CTALK_VERSION_MINOR, CTALK_VERSION_PATCH);
    ck_assert_str_eq (ctalk_version (), text);
}
END_TEST

Suite *ctki_suite_basics (void)
{
    Suite *suite = suite_create ("basics");
    TCase *tcase = ctki_leaks_tcase ("basics", 120);
    tcase_add_test (tcase, sizes_both_ways);
    tcase_add_test (tcase, sizes_in_one_go);
    tcase_add_test (tcase, largest_message);
    tcase_add_test (tcase, message_ids);
    tcase_add_test (tcase, actor_addresses);
    tcase_add_test (tcase, broadcast_flag);
    tcase_add_test (tcase, extreme_pids);
    tcase_add_test (tcase, who_is_who);
    tcase_add_test (tcase, incarnations);
    tcase_add_test (tcase, forwarding);
    tcase_add_test (tcase, exchange_of_many);
    tcase_add_test (tcase, exchange_without_help);
    tcase_add_test (tcase, sent_before_the_peer_is_up);
    tcase_add_test (tcase, version);
    suite_add_tcase (suite, tcase);
    return suite;
}
