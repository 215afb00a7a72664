/*
 * nodes.c - a few servers, each with a thread that sends and one that receives.
 * A node waits for nobody but its peers' being up: when it has received what it
 * expects it closes, whatever the others still do.
 */
#include "tests/stress/nodes.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/support/support.h"

enum { PATIENCE = 30, MIB = 1024 * 1024 }; /* long deadlines that a whole run may take */

/* What a node has to say at its end. */
typedef struct {
    ctki_journal_sums_t out[CTKI_NODES_MAX + 1]; /* sent to each pid */
    ctki_journal_sums_t in[CTKI_NODES_MAX + 1];  /* received from each pid */
    int abandoned;
    uint64_t memory; /* used more than at the start, at most */
} result_t;

typedef struct {
    const ctki_nodes_t *nodes;
    ctalk_config_t *config;
    ctalk_pid_t pid;
    result_t result;
} node_t;

static bool traffic (const node_t *node, ctalk_server_t *server, ctki_journal_t *journal, ctki_trouble_t *trouble)
{
    const ctki_nodes_t *nodes = node->nodes;
    ctki_test_thread_t sender;
    ctalk_pid_t dst = nodes->dst[node->pid];
    ctki_stream_t stream = {server, dst, 0, nodes->count, nodes->sizes, nodes->sizes_count, journal};
    size_t expect = nodes->expect[node->pid];
    ctki_drain_t drain = {server, expect, journal,
                          expect && node->pid == (ctalk_pid_t) nodes->servers ? nodes->name : NULL};
    if (dst)
        ctki_test_thread_start (&sender, ctki_traffic_stream, &stream);
    bool ok = ctki_traffic_drain (&drain, trouble);
    if (dst)
        ok = ctki_test_thread_end (&sender, trouble) && ok;
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_flush (server, CTALK_BROADCAST, PATIENCE * ctki_test_long_ms ()), 0);
    return ok;
}

static bool check_figures (const node_t *node, ctalk_server_t *server, ctki_trouble_t *trouble)
{
    ctalk_stats_t stats;
    size_t targets = node->nodes->dst[node->pid] == CTALK_BROADCAST ? node->nodes->servers - 1 : 1;
    uint64_t sent = node->nodes->dst[node->pid] ? node->nodes->count * targets : 0;
    if (!ctki_cluster_conserved (server, trouble))
        return false;
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_stats (server, CTALK_BROADCAST, &stats), 0);
    CTKI_EXPECT_EQUAL (trouble, stats.accepted, sent);
    CTKI_EXPECT_EQUAL (trouble, stats.delivered, sent);
    CTKI_EXPECT_EQUAL (trouble, stats.consumed, node->nodes->expect[node->pid]);
    CTKI_EXPECT_EQUAL (trouble, stats.malformed, 0);
    CTKI_EXPECT_EQUAL (trouble, stats.duplicates, 0);
    return true;
}

static bool serve (node_t *node, ctalk_server_t *server, ctki_trouble_t *trouble)
{
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_wait_up (server, SIZE_MAX, 3 * ctki_test_long_ms ()), 0);
    ctki_journal_t *journal = ctki_journal_new (node->nodes->servers, node->nodes->count);
    bool ok = traffic (node, server, journal, trouble) && check_figures (node, server, trouble);
    for (ctalk_pid_t pid = 1; (size_t) pid <= node->nodes->servers; pid++) {
        node->result.out[pid] = ctki_journal_sums (journal, node->pid, pid);
        node->result.in[pid] = ctki_journal_sums (journal, pid, node->pid);
    }
    ctki_journal_destroy (&journal);
    return ok;
}

/* A whole node: the body of a thread. */
static bool live (void *arg, ctki_trouble_t *trouble)
{
    node_t *node = arg;
    ctalk_error_t error = {0};
    ctalk_server_t *server = ctalk_server_new (node->pid, node->config, &error);
    if (!server)
        return ctki_trouble_note (trouble, __FILE__, __LINE__, "server %d: %.180s", node->pid, error.text);
    bool ok = serve (node, server, trouble);
    node->result.abandoned = ctalk_server_close (&server, ctki_test_long_ms ());
    return ok;
}

/* The body of a process: the result goes to the test over the socket pair. */
static bool live_alone (int fd, void *arg, ctki_trouble_t *trouble)
{
    node_t *node = arg;
    ctki_memory_reset_peak ();
    uint64_t before = ctki_memory_now ();
    bool ok = live (node, trouble);
    node->result.memory = ctki_memory_grown (before);
    CTKI_EXPECT (trouble, ctki_process_write (fd, &node->result, sizeof node->result));
    return ok;
}

static void compare (const ctki_nodes_t *nodes, const node_t *node)
{
    for (ctalk_pid_t a = 1; (size_t) a <= nodes->servers; a++) {
        ck_assert_msg (node[a].result.abandoned == 0, "%d: close returned %d", a, node[a].result.abandoned);
        for (ctalk_pid_t b = 1; (size_t) b <= nodes->servers; b++) {
            const ctki_journal_sums_t *out = &node[a].result.out[b], *in = &node[b].result.in[a];
            ck_assert_msg (in->missing == 0 && in->duplicated == 0 && in->out_of_order == 0 && in->changed == 0,
                           "%d to %d: %llu missing, %llu duplicated, %llu out of order, %llu changed", a, b,
                           (unsigned long long) in->missing, (unsigned long long) in->duplicated,
                           (unsigned long long) in->out_of_order, (unsigned long long) in->changed);
            ck_assert_msg (out->sent == in->received && out->sent_bytes == in->received_bytes
                               && out->sent_hash == in->received_hash,
                           "%d to %d: %llu sent, %llu received, or other content", a, b, (unsigned long long) out->sent,
                           (unsigned long long) in->received);
        }
    }
}

static uint64_t total_received (const ctki_nodes_t *nodes, const node_t *node)
{
    uint64_t total = 0;
    for (size_t a = 1; a <= nodes->servers; a++)
        for (size_t b = 1; b <= nodes->servers; b++)
            total += node[a].result.in[b].received;
    return total;
}

static void say (const ctki_nodes_t *nodes, const node_t *node, const char *how, int64_t start_ms)
{
    int64_t took_ms = CTKI_MAX (ctki_test_now_ms () - start_ms, (int64_t) 1);
    uint64_t total = total_received (nodes, node);
    ctki_test_progress ("", 0, 0);
    ctki_test_figure (nodes->name, "%zu servers as %s: %llu received in %lld ms, 0 missing, duplicated or changed",
                      nodes->servers, how, (unsigned long long) total, (long long) took_ms);
}

static void prepare (const ctki_nodes_t *nodes, node_t *node, ctki_ports_t *ports, ctalk_config_t **config)
{
    ck_assert_uint_le (nodes->servers, CTKI_NODES_MAX);
    ctki_ports_take (ports, nodes->servers);
    *config = ctki_cluster_config (nodes->servers, ports->port, nodes->options);
    for (ctalk_pid_t pid = 1; (size_t) pid <= nodes->servers; pid++) {
        node[pid].nodes = nodes;
        node[pid].config = *config;
        node[pid].pid = pid;
    }
}

static void check_memory (const char *name, const char *who, uint64_t used, uint64_t bound)
{
    if (bound == 0)
        return;
    ctki_test_figure (name, "%s: peak memory %llu MiB, bound %llu MiB", who, (unsigned long long) used / MIB,
                      (unsigned long long) bound / MIB);
    if (ctki_test_ms (1) > 1)
        return; /* a slow tool keeps memory of its own: what is measured is not ours */
    ck_assert_msg (used <= bound, "%s used %llu bytes of memory, bound %llu", who, (unsigned long long) used,
                   (unsigned long long) bound);
}

void ctki_nodes_run_threads (const ctki_nodes_t *nodes)
{
    static ctki_ports_t ports;
    ctalk_config_t *config;
    ctki_test_thread_t threads[CTKI_NODES_MAX + 1];
    node_t *node = calloc (CTKI_NODES_MAX + 1, sizeof *node);
    uint64_t bound = 0;
    ck_assert_ptr_nonnull (node);
    prepare (nodes, node, &ports, &config);
    ctki_memory_reset_peak ();
    uint64_t before = ctki_memory_now ();
    int64_t start_ms = ctki_test_now_ms ();
    for (size_t i = 1; i <= nodes->servers; i++) {
        ctki_test_thread_start (&threads[i], live, &node[i]);
        bound += nodes->memory[i];
    }
    for (size_t i = 1; i <= nodes->servers; i++)
        ctki_test_thread_join_within (&threads[i], PATIENCE * ctki_test_long_ms ());
    compare (nodes, node);
    say (nodes, node, "threads", start_ms);
    check_memory (nodes->name, "one process", ctki_memory_grown (before), bound);
    free (node);
    ctalk_config_destroy (&config);
    ctki_ports_release (&ports);
}

void ctki_nodes_run_processes (const ctki_nodes_t *nodes)
{
    static ctki_ports_t ports;
    ctalk_config_t *config;
    ctki_process_t process[CTKI_NODES_MAX + 1];
    node_t *node = calloc (CTKI_NODES_MAX + 1, sizeof *node);
    ck_assert_ptr_nonnull (node);
    prepare (nodes, node, &ports, &config);
    int64_t start_ms = ctki_test_now_ms ();
    for (size_t i = 1; i <= nodes->servers; i++)
        ctki_process_start (&process[i], live_alone, &node[i]);
    for (size_t i = 1; i <= nodes->servers; i++) {
        (void) ctki_process_read (process[i].fd, &node[i].result, sizeof node[i].result,
                                  PATIENCE * ctki_test_long_ms ());
        ctki_process_join (&process[i], ctki_test_long_ms ());
    }
    compare (nodes, node);
    say (nodes, node, "processes", start_ms);
    for (size_t i = 1; i <= nodes->servers; i++) {
        char who[32];
        (void) snprintf (who, sizeof who, "process %zu", i);
        check_memory (nodes->name, who, node[i].result.memory, nodes->memory[i]);
    }
    free (node);
    ctalk_config_destroy (&config);
    ctki_ports_release (&ports);
}
