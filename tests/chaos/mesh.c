/*
 * mesh.c - servers in processes, every directed pair through a link of the proxy.
 *
 * The processes are forked first, then the proxy is started (its sockets must not
 * be inherited). Over its socket pair a process tells its port, hears the ports
 * of the links to the others, tells what came of the traffic, hears that all are
 * done, closes, and tells what came of that.
 */
#include "tests/chaos/mesh.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/chaos/bare.h"
#include "tests/support/support.h"

enum {
    SIZES = 1000,  /* drawn once, used in turn */
    PATIENCE = 18, /* long deadlines that the traffic may take */
    LEFT_OVER_MS = 5000
};

/* What a process has to say. */
typedef struct {
    ctki_journal_sums_t out[CTKI_MESH_SERVERS + 1]; /* sent to each pid */
    ctki_journal_sums_t in[CTKI_MESH_SERVERS + 1];  /* received from each pid */
    ctalk_stats_t stats;
    int64_t abandoned; /* what its close returned */
    uint64_t peak_bytes;
    ctki_trouble_t trouble; /* of the traffic */
} report_t;

typedef struct {
    const ctki_mesh_t *mesh;
    ctalk_pid_t pid;
    size_t sizes[SIZES];
    report_t report;
} node_t;

static uint64_t mix (uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Most envelopes are small: of a thousand, 900 up to 128 bytes, 90 up to 2 KB, 9 up to 16 KB, one up to 200 KB. */
static size_t size_for (uint64_t draw)
{
    static const struct {
        unsigned below;
        size_t least, most;
    } kinds[] = {{900, 8, 128}, {990, 129, 2000}, {999, 2001, 16000}, {1000, 16001, 200000}};
    size_t k = 0;
    while (draw % 1000 >= kinds[k].below)
        k++;
    return kinds[k].least + (size_t) (mix (draw) % (kinds[k].most - kinds[k].least + 1));
}

/* ---- a process */

static bool run_library (node_t *node, ctalk_server_t *server, ctki_journal_t *journal, ctki_trouble_t *trouble)
{
    const ctki_mesh_t *mesh = node->mesh;
    ctki_test_thread_t threads[CTKI_MESH_SERVERS + 1];
    ctki_stream_t streams[CTKI_MESH_SERVERS + 1];
    size_t count = 0;
    for (ctalk_pid_t dst = 0; dst <= CTKI_MESH_SERVERS; dst++) {
        bool all = dst == 0;
        if (dst == node->pid)
            continue;
        streams[count] = (ctki_stream_t){
            server, all ? CTALK_BROADCAST : dst, 0, all ? mesh->broadcasts : mesh->unicasts, node->sizes, SIZES,
            journal};
        ctki_test_thread_start (&threads[count], ctki_traffic_stream, &streams[count]);
        count++;
    }
    ctki_drain_t drain = {server, (CTKI_MESH_SERVERS - 1) * (mesh->unicasts + mesh->broadcasts), journal,
                          node->pid == 1 ? "envelopes" : NULL};
    bool ok = ctki_traffic_drain (&drain, trouble);
    while (count)
        ok = ctki_test_thread_end (&threads[--count], trouble) && ok;
    if (ok)
        CTKI_EXPECT_EQUAL (trouble, ctalk_server_flush (server, CTALK_BROADCAST, 3 * ctki_test_long_ms ()), 0);
    return ok;
}

static void sum_up (node_t *node, const ctki_journal_t *journal)
{
    for (ctalk_pid_t pid = 1; pid <= CTKI_MESH_SERVERS; pid++) {
        node->report.out[pid] = ctki_journal_sums (journal, node->pid, pid);
        node->report.in[pid] = ctki_journal_sums (journal, pid, node->pid);
    }
    node->report.peak_bytes = ctki_memory_peak ();
}

/* Tells the own port, hears those of the links, by pid from 1. */
static bool exchange_ports (int fd, uint16_t port, uint16_t *ports)
{
    return ctki_process_write (fd, &port, sizeof port)
           && ctki_process_read (fd, ports, (CTKI_MESH_SERVERS + 1) * sizeof *ports, ctki_test_long_ms ());
}

/* Tells what came of the traffic, and waits for all to be done. */
static bool report (node_t *node, int fd)
{
    char go = 0;
    return ctki_process_write (fd, &node->report, sizeof node->report)
           && ctki_process_read (fd, &go, 1, 2 * PATIENCE * ctki_test_long_ms ());
}

static bool add_peers (ctalk_server_t *server, const uint16_t *ports, ctki_trouble_t *trouble)
{
    for (ctalk_pid_t pid = 1; pid <= CTKI_MESH_SERVERS; pid++) {
        char endpoint[64];
        (void) snprintf (endpoint, sizeof endpoint, "127.0.0.1:%u", (unsigned) ports[pid]);
        if (pid != ctalk_server_pid (server))
            CTKI_EXPECT_EQUAL (trouble, ctalk_server_add_peer (server, pid, endpoint), 0);
    }
    return true;
}

static bool live (node_t *node, int fd, ctki_journal_t *journal, ctki_trouble_t *trouble)
{
    uint16_t ports[CTKI_MESH_SERVERS + 1];
    unsigned port = 0;
    ctalk_config_t *config = ctki_cluster_config (CTKI_MESH_SERVERS, NULL, node->mesh->options);
    ctalk_server_t *server = ctki_cluster_start (node->pid, config);
    ctalk_config_destroy (&config);
    CTKI_EXPECT_EQUAL (trouble, sscanf (ctalk_server_endpoint (server), "tcp://127.0.0.1:%u", &port), 1);
    CTKI_EXPECT (trouble, exchange_ports (fd, (uint16_t) port, ports));
    if (!add_peers (server, ports, trouble))
        return false;
    bool ok = run_library (node, server, journal, &node->report.trouble);
    if (ok)
        (void) ctki_cluster_conserved (server, &node->report.trouble);
    (void) ctalk_server_stats (server, CTALK_BROADCAST, &node->report.stats);
    sum_up (node, journal);
    CTKI_EXPECT (trouble, report (node, fd));
    node->report.abandoned = ctalk_server_close (&server, ctki_test_long_ms ());
    return true;
}

static bool live_bare (node_t *node, int fd, ctki_journal_t *journal, ctki_trouble_t *trouble)
{
    uint16_t port, ports[CTKI_MESH_SERVERS + 1];
    ctki_bare_t *bare = ctki_bare_new (node->pid, CTKI_MESH_SERVERS, &port, trouble);
    if (!bare)
        return false;
    CTKI_EXPECT (trouble, exchange_ports (fd, port, ports));
    (void) (ctki_bare_connect (bare, ports, &node->report.trouble)
            && ctki_bare_run (bare, node->mesh->unicasts, node->mesh->broadcasts, node->sizes, SIZES, journal,
                              &node->report.trouble));
    sum_up (node, journal);
    CTKI_EXPECT (trouble, report (node, fd));
    ctki_bare_destroy (&bare);
    return true;
}

/* The body of a process. Nothing may be left over in it either. */
static bool run (int fd, void *arg, ctki_trouble_t *trouble)
{
    static ctki_leaks_t before;
    node_t *node = arg;
    char text[200];
    ctki_leaks_look (&before);
    for (size_t i = 0; i < SIZES; i++)
        node->sizes[i] = size_for (mix (mix (node->mesh->seed) + (uint64_t) node->pid * SIZES + i));
    ctki_journal_t *journal =
        ctki_journal_new (CTKI_MESH_SERVERS, CTKI_MAX (node->mesh->unicasts, node->mesh->broadcasts));
    bool ok = node->mesh->bare ? live_bare (node, fd, journal, trouble) : live (node, fd, journal, trouble);
    ctki_journal_destroy (&journal);
    CTKI_EXPECT (trouble, ok);
    if (!ctki_leaks_gone (&before, ctki_test_ms (LEFT_OVER_MS), text, sizeof text))
        return ctki_trouble_note (trouble, __FILE__, __LINE__, "%d, left over: %s", node->pid, text);
    CTKI_EXPECT (trouble, ctki_process_write (fd, &node->report, sizeof node->report));
    return true;
}

/* ---- faults of all kinds */

enum {
    KINDS = 11,
    LINKS = CTKI_MESH_SERVERS * (CTKI_MESH_SERVERS - 1),
    CHANGE_MS = 15,    /* between two changes: each link has another plan every 300 ms */
    LONGEST_MS = 20000 /* then it ends, whatever is left to send: the rest must arrive */
};

typedef struct {
    ctki_chaos_t *chaos;
    const ctki_mesh_t *mesh;
    uint64_t changes;
    atomic_bool stop;
} nemesis_t;

/* One of the kinds of faults; half of the plans are the mesh's own again. */
static ctki_chaos_plan_t plan_from (const ctki_mesh_t *mesh, uint64_t draw)
{
    static const ctki_chaos_plan_t kinds[KINDS] = {
        {.way = {{.what = CTKI_CHAOS_DISCARD}, {0}}},
        {.way = {{0}, {.what = CTKI_CHAOS_DISCARD}}},
        {.way = {{.what = CTKI_CHAOS_HOLD}, {0}}},
        {.way = {{0}, {.what = CTKI_CHAOS_HOLD}}},
        {.way = {{.delay_ms = 20}, {.delay_ms = 5}}},
        {.way = {{.bytes_per_s = 2000000}, {.bytes_per_s = 20000}}},
        {.way = {{.flip_lo = 10000, .flip_hi = 200000}, {.flip_lo = 100, .flip_hi = 5000}}},
        {.end = CTKI_CHAOS_FIN, .end_lo = 200, .end_hi = 100000},
        {.door = CTKI_CHAOS_BLACKHOLE},
        {.door = CTKI_CHAOS_GARBAGE, .end_lo = 1, .end_hi = 50000},
        {.door = CTKI_CHAOS_WRONG, .end_lo = 1, .end_hi = 50000},
    };
    return draw % 2 ? mesh->plan : kinds[(draw >> 1) % KINDS];
}

/* The body of a thread: changes the plan of one link after the other until it is told to stop; then nothing is wrong.
 */
static bool torment (void *arg, ctki_trouble_t *trouble)
{
    nemesis_t *nemesis = arg;
    int64_t end_ms = ctki_test_now_ms () + LONGEST_MS;
    (void) trouble;
    while (!atomic_load (&nemesis->stop) && ctki_test_now_ms () < end_ms) {
        uint64_t draw = mix (nemesis->mesh->seed ^ mix (nemesis->changes++));
        ctki_chaos_plan_t plan = plan_from (nemesis->mesh, draw >> 8);
        ctki_chaos_set (nemesis->chaos, (int) (draw % LINKS), &plan);
        if (draw >> 60 == 0)
            ctki_chaos_strand (nemesis->chaos, (int) (draw >> 32) % LINKS);
        if (draw >> 60 == 1)
            ctki_chaos_release (nemesis->chaos, CTKI_CHAOS_ALL);
        (void) poll (NULL, 0, CHANGE_MS);
    }
    ctki_chaos_set (nemesis->chaos, CTKI_CHAOS_ALL, NULL);
    ctki_chaos_release (nemesis->chaos, CTKI_CHAOS_ALL);
    return true;
}

/* ---- the test */

typedef struct {
    const ctki_mesh_t *mesh;
    node_t node[CTKI_MESH_SERVERS + 1];
    ctki_process_t process[CTKI_MESH_SERVERS + 1];
    ctki_chaos_t *chaos;
    ctki_trouble_t trouble;
} run_t;

/* Reads from a process; when it has nothing to say, joining it tells why. */
static void hear (run_t *r, ctalk_pid_t pid, void *buffer, size_t size, int ms)
{
    if (ctki_process_read (r->process[pid].fd, buffer, size, ms))
        return;
    ctki_process_join (&r->process[pid], ctki_test_ms (1000));
    ck_abort_msg ("process %d says nothing", pid);
}

/* Links between all, and tells each process its own. */
static void interconnect (run_t *r)
{
    uint16_t port[CTKI_MESH_SERVERS + 1];
    for (ctalk_pid_t pid = 1; pid <= CTKI_MESH_SERVERS; pid++)
        hear (r, pid, &port[pid], sizeof port[pid], ctki_test_long_ms ());
    r->chaos = ctki_chaos_start (r->mesh->seed);
    for (ctalk_pid_t a = 1; a <= CTKI_MESH_SERVERS; a++) {
        uint16_t ports[CTKI_MESH_SERVERS + 1] = {0};
        for (ctalk_pid_t b = 1; b <= CTKI_MESH_SERVERS; b++)
            if (a != b)
                ports[b] = ctki_chaos_port (r->chaos, ctki_chaos_link (r->chaos, 0, port[b]));
        ctki_chaos_set (r->chaos, CTKI_CHAOS_ALL, &r->mesh->plan);
        ck_assert (ctki_process_write (r->process[a].fd, ports, sizeof ports));
    }
}

static void add_sums (ctki_mesh_result_t *result, const report_t *report)
{
    for (size_t pid = 1; pid <= CTKI_MESH_SERVERS; pid++) {
        const ctki_journal_sums_t *out = &report->out[pid], *in = &report->in[pid];
        result->sums.sent += out->sent;
        result->sums.sent_bytes += out->sent_bytes;
        result->sums.received += in->received;
        result->sums.received_bytes += in->received_bytes;
        result->sums.missing += in->missing;
        result->sums.duplicated += in->duplicated;
        result->sums.out_of_order += in->out_of_order;
        result->sums.changed += in->changed;
    }
    result->accepted += report->stats.accepted;
    result->delivered += report->stats.delivered;
    result->in_doubt += report->stats.in_doubt;
    result->queued += report->stats.queued;
    result->skipped += report->stats.skipped;
    result->retransmitted += report->stats.retransmitted;
    result->duplicates += report->stats.duplicates;
    result->malformed += report->stats.malformed;
    result->reconnects += report->stats.reconnects;
    result->rebuilt += report->stats.rebuilt;
    result->peak_bytes = CTKI_MAX (result->peak_bytes, report->peak_bytes);
}

/* What was sent on a way and did not come, at its end too; and whether all that came is what was sent. */
static void compare (run_t *r, ctki_mesh_result_t *result)
{
    for (ctalk_pid_t a = 1; a <= CTKI_MESH_SERVERS; a++)
        for (ctalk_pid_t b = 1; b <= CTKI_MESH_SERVERS; b++) {
            const ctki_journal_sums_t *out = &r->node[a].report.out[b], *in = &r->node[b].report.in[a];
            uint64_t came = in->received - in->duplicated;
            result->sums.missing += out->sent - came - in->missing;
            if (came == out->sent && in->out_of_order + in->duplicated == 0 && out->sent_hash != in->received_hash)
                result->sums.changed++;
        }
}

static void finish (run_t *r, ctki_mesh_result_t *result)
{
    for (ctalk_pid_t pid = 1; pid <= CTKI_MESH_SERVERS; pid++)
        ck_assert (ctki_process_write (r->process[pid].fd, "c", 1));
    for (ctalk_pid_t pid = 1; pid <= CTKI_MESH_SERVERS; pid++) {
        report_t last;
        hear (r, pid, &last, sizeof last, 3 * ctki_test_long_ms ());
        result->abandoned += (uint64_t) last.abandoned;
        ctki_process_join (&r->process[pid], ctki_test_long_ms ());
    }
    ctki_chaos_stop (&r->chaos);
}

void ctki_mesh_run (const ctki_mesh_t *mesh, ctki_mesh_result_t *result)
{
    run_t *r = calloc (1, sizeof *r);
    ck_assert_ptr_nonnull (r);
    *result = (ctki_mesh_result_t){0};
    r->mesh = mesh;
    for (ctalk_pid_t pid = 1; pid <= CTKI_MESH_SERVERS; pid++) {
        r->node[pid].mesh = mesh;
        r->node[pid].pid = pid;
        ctki_process_start (&r->process[pid], run, &r->node[pid]);
    }
    interconnect (r);
    ctki_test_thread_t tormentor;
    nemesis_t nemesis = {.chaos = r->chaos, .mesh = mesh};
    if (mesh->mixed)
        ctki_test_thread_start (&tormentor, torment, &nemesis);
    int64_t start_ms = ctki_test_now_ms ();
    for (ctalk_pid_t pid = 1; pid <= CTKI_MESH_SERVERS; pid++) {
        report_t *said = &r->node[pid].report;
        hear (r, pid, said, sizeof *said, PATIENCE * ctki_test_long_ms ());
        add_sums (result, said);
        if (said->trouble.text[0])
            (void) ctki_trouble_note (&r->trouble, __FILE__, __LINE__, "%d: %.200s", pid, said->trouble.text);
    }
    result->took_ms = ctki_test_now_ms () - start_ms;
    atomic_store (&nemesis.stop, true);
    if (mesh->mixed)
        ctki_test_thread_join (&tormentor);
    result->changes = nemesis.changes;
    result->faults = ctki_chaos_counts (r->chaos, CTKI_CHAOS_ALL);
    compare (r, result);
    ctki_test_progress ("", 0, 0);
    finish (r, result);
    ctki_trouble_t trouble = r->trouble;
    free (r);
    ck_assert_msg (!trouble.text[0], "%s; %llu of %llu received, %llu missing", trouble.text,
                   (unsigned long long) result->sums.received, (unsigned long long) result->sums.sent,
                   (unsigned long long) result->sums.missing);
}
