/*
 * test_seeds.c - some hundred runs, each from another seed, in which all kinds of
 * faults come at random; the guarantee holds in each of them.
 */
#include <stdlib.h>

#include "tests/simulated/suites.h"
#include "tests/simulated/world.h"
#include "tests/support/leaks.h"
#include "tests/support/scale.h"

enum {
    SERVERS = 3,
    ENVELOPES = 150, /* from each life of a server to each other server */
    LIVES = 3,       /* of the server that crashes */
    BYTES_MAX = 9000
};

/* What travels: a sender's life and a number, then bytes that follow from both. */
typedef struct {
    uint32_t life, number;
} head_t;

/* What a receiver knows of one sender. */
typedef struct {
    uint32_t life, next; /* next: expected; 0: the first is open */
    bool any;
} seen_t;

typedef struct {
    world_t *world;
    ctalk_pid_t pid;
    uint32_t life;
    uint32_t sent[SERVERS + 1];
    seen_t seen[SERVERS + 1];
    size_t received;
    bool over; /* the server crashes: calls may fail */
} node_t;

typedef struct {
    bool crashes;
    node_t node[SERVERS + 1];
} chaos_t;

static size_t size_of (const head_t *head)
{
    return sizeof *head + head->number * head->number * 7 % (head->number % 10 ? 300 : BYTES_MAX);
}

static void fill (uint8_t *bytes, const head_t *head, size_t size)
{
    memcpy (bytes, head, sizeof *head);
    for (size_t i = sizeof *head; i < size; i++)
        bytes[i] = (uint8_t) (head->life * 31 + head->number * 7 + i);
}

/* ---- a sender */

static bool send_one (node_t *node, ctalk_pid_t to)
{
    static uint8_t bytes[sizeof (head_t) + BYTES_MAX];
    head_t head = {.life = node->life, .number = node->sent[to] + 1};
    size_t size = size_of (&head);
    fill (bytes, &head, size);
    ctalk_envelope_t envelope = {.pid = to, .msg_id = head.number, .data = bytes, .size = size};
    int rc = ctalk_send (node->world->server[node->pid], &envelope, -1);
    if (rc && node->over)
        return false;
    CTKI_EXPECT (&node->world->trouble, rc == 0);
    node->sent[to]++;
    return true;
}

static bool is_done (const node_t *node)
{
    for (int to = 1; to <= SERVERS; to++)
        if (to != node->pid && node->sent[to] < ENVELOPES)
            return false;
    return true;
}

static void send_all (void *arg)
{
    node_t *node = arg;
    while (!is_done (node) && !node->over) {
        ctalk_pid_t to = 1 + (ctalk_pid_t) world_draw (node->world, SERVERS);
        for (uint64_t burst = world_draw (node->world, 20); to != node->pid && burst > 0 && node->sent[to] < ENVELOPES;
             burst--)
            if (!send_one (node, to))
                return;
        ctalk_sim_sleep_ms (node->world->sim, (int) world_draw (node->world, 100));
    }
}

/* ---- a receiver */

/* In a life of the receiver: the first from a life of the sender may be any that no former life has seen, since
 * others went to those; then one after the other. */
static bool judge (node_t *node, const ctalk_envelope_t *envelope)
{
    ctki_trouble_t *trouble = &node->world->trouble;
    const chaos_t *chaos = node->world->more;
    seen_t *seen = &node->seen[envelope->pid];
    head_t head;
    CTKI_EXPECT (trouble, envelope->kind == CTALK_MESSAGE && envelope->size >= sizeof head);
    memcpy (&head, envelope->data, sizeof head);
    CTKI_EXPECT_EQUAL (trouble, envelope->msg_id, head.number);
    CTKI_EXPECT_EQUAL (trouble, envelope->size, size_of (&head));
    uint8_t *bytes = malloc (envelope->size);
    fill (bytes, &head, envelope->size);
    bool same = memcmp (bytes, envelope->data, envelope->size) == 0;
    free (bytes);
    CTKI_EXPECT (trouble, same);
    if (!seen->any || head.life != seen->life) {
        CTKI_EXPECT (trouble, !seen->any || head.life > seen->life);
        CTKI_EXPECT (trouble, chaos->crashes || head.number == 1);
        CTKI_EXPECT (trouble, node->life > 1 || head.number == 1);
        *seen = (seen_t){.life = head.life, .next = head.number, .any = true};
    }
    if (seen->next == 0) {
        CTKI_EXPECT (trouble, chaos->crashes);
        seen->next = head.number;
    }
    CTKI_EXPECT_EQUAL (trouble, head.number, seen->next);
    seen->next++;
    node->received++;
    return true;
}

static void receive_all (void *arg)
{
    node_t *node = arg;
    ctalk_envelope_t envelope;
    while (!node->over && ctalk_recv (node->world->server[node->pid], &envelope, -1) == 0) {
        bool good = judge (node, &envelope);
        ctalk_envelope_close (&envelope);
        if (!good)
            return;
        if (world_draw (node->world, 50) == 0)
            ctalk_sim_sleep_ms (node->world->sim, (int) world_draw (node->world, 200));
    }
    if (!node->over && errno != ESHUTDOWN)
        ctki_trouble_note (&node->world->trouble, __FILE__, __LINE__, "receiving failed");
}

/* ---- a world */

typedef struct {
    int sender, receiver;
} threads_t;

static bool begin_life (world_t *world, ctalk_pid_t pid, threads_t *threads)
{
    node_t *node = &((chaos_t *) world->more)->node[pid];
    node->world = world;
    node->pid = pid;
    node->life++;
    node->over = false;
    memset (node->sent, 0, sizeof node->sent);
    for (int i = 1; i <= SERVERS; i++)
        node->seen[i].next = 0;
    if (!world_start (world, pid))
        return false;
    threads->receiver = ctalk_sim_spawn (world->sim, "receives", receive_all, node);
    threads->sender = ctalk_sim_spawn (world->sim, "sends", send_all, node);
    return threads->receiver > 0 && threads->sender > 0;
}

static void join_life (world_t *world, const threads_t *threads)
{
    ctalk_sim_join (world->sim, threads->sender);
    ctalk_sim_join (world->sim, threads->receiver);
}

/* The last server crashes in the middle of it, and starts again. */
static bool crash_often (world_t *world, threads_t *threads)
{
    node_t *node = &((chaos_t *) world->more)->node[SERVERS];
    for (int life = 1; life < LIVES; life++) {
        ctalk_sim_sleep_ms (world->sim, (int) world_draw (world, 4000));
        node->over = true;
        CTKI_EXPECT (&world->trouble, ctalk_sim_crash (world->sim, &world->server[SERVERS]) >= 0);
        join_life (world, threads);
        ctalk_sim_sleep_ms (world->sim, (int) world_draw (world, world_draw (world, 2) ? 100 : 10000));
        if (!begin_life (world, SERVERS, threads))
            return false;
    }
    return true;
}

/* accepted = delivered + abandoned + queued, and nothing is queued any more. */
static bool figures_are_right (world_t *world, ctalk_pid_t pid)
{
    ctalk_stats_t stats;
    CTKI_EXPECT_EQUAL (&world->trouble, ctalk_server_stats (world->server[pid], CTALK_BROADCAST, &stats), 0);
    CTKI_EXPECT_EQUAL (&world->trouble, stats.queued, 0);
    CTKI_EXPECT_EQUAL (&world->trouble, stats.accepted, stats.delivered + stats.abandoned);
    CTKI_EXPECT_EQUAL (&world->trouble, stats.malformed, 0);
    CTKI_EXPECT (&world->trouble, stats.abandoned == 0 || (((chaos_t *) world->more)->crashes && pid != SERVERS));
    return true;
}

static bool survive (world_t *world)
{
    chaos_t *chaos = world->more;
    threads_t threads[SERVERS + 1];
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++)
        if (!begin_life (world, pid, &threads[pid]))
            return false;
    world_begin_trouble (world, chaos->crashes ? SERVERS - 1 : SERVERS);
    if (chaos->crashes && !crash_often (world, &threads[SERVERS]))
        return false;
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++)
        ctalk_sim_join (world->sim, threads[pid].sender);
    world_end_trouble (world);
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++) {
        int rc = ctalk_server_flush (world->server[pid], CTALK_BROADCAST, -1);
        CTKI_EXPECT (&world->trouble, rc == 0 || (chaos->crashes && errno == ECONNABORTED));
        rc = rc ? ctalk_server_flush (world->server[pid], CTALK_BROADCAST, -1) : 0;
        CTKI_EXPECT_EQUAL (&world->trouble, rc, 0);
    }
    ctalk_sim_sleep_ms (world->sim, 60000); /* all is taken */
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++) {
        if (!figures_are_right (world, pid))
            return false;
        const node_t *node = &chaos->node[pid];
        CTKI_EXPECT (&world->trouble, chaos->crashes || node->received == (SERVERS - 1) * ENVELOPES);
        for (int from = 1; from <= SERVERS;
             from++) /* what the last life of a sender sent to the last one of a receiver */
            CTKI_EXPECT (&world->trouble, from == pid || node->seen[from].next == ENVELOPES + 1 || chaos->crashes);
    }
    if (!world_close (world))
        return false;
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++)
        ctalk_sim_join (world->sim, threads[pid].receiver);
    return true;
}

static void many_worlds (bool crashes, size_t seeds)
{
    uint64_t resets = 0, lost = 0;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        chaos_t chaos = {.crashes = crashes};
        world_t world = {.count = SERVERS, .main_fn = survive, .more = &chaos, .options.seed = seed};
        world_run (&world);
        resets += world.stats.resets;
        lost += world.stats.lost;
        ctki_test_progress ("seeds", seed, seeds);
    }
    ctki_test_progress ("", 0, 0);
    ctki_test_figure (crashes ? "crashes" : "faults", "%zu seeds, %llu connections broke, %llu messages lost in them",
                      seeds, (unsigned long long) resets, (unsigned long long) lost);
    ck_assert_uint_gt (resets, seeds);
    ck_assert_uint_gt (lost, seeds);
}

/* Partitions, broken connections and latencies at random: every envelope arrives once, unchanged, in order. */
START_TEST (faults)
{
    many_worlds (false, ctki_test_count (200));
}
END_TEST

/* The same while a server crashes and starts again: what arrives in one of its lives does so in order, once, and
 * nothing of it in a later one. */
START_TEST (crashes)
{
    many_worlds (true, ctki_test_count (200));
}
END_TEST

Suite *ctki_suite_sim_seeds (void)
{
    Suite *suite = suite_create ("sim_seeds");
    TCase *tcase = ctki_leaks_tcase ("sim_seeds", 300);
    tcase_add_test (tcase, faults);
    tcase_add_test (tcase, crashes);
    suite_add_tcase (suite, tcase);
    return suite;
}
