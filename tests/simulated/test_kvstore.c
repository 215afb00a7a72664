/*
 * test_kvstore.c - one of the examples, the replicated key-value store, in the
 * simulator: five servers with disks in memory, two more with two clients each, on
 * a network that breaks connections, parts servers from the others, and on which
 * servers die and come back. Some hundred seeds; what the clients saw is
 * linearizable in each of them (tests/kvstore/linear.h), and after the troubles
 * every server has the same.
 *
 * A program that stands on ClusterTalk can be tested in this way.
 */
#include <stdlib.h>

#include "examples/kvstore_actor.h"
#include "tests/kvstore/guest.h"
#include "tests/kvstore/linear.h"
#include "tests/simulated/suites.h"
#include "tests/simulated/world.h"
#include "tests/support/scale.h"

enum {
    SERVERS = 5,
    HOSTS = 2,  /* of clients: the pids 6 and 7 ... */
    GUESTS = 2, /* ... and so many in each */
    OPS = 40,   /* of a guest */
    TROUBLES = 8,
    ANSWER_MS = 400,
    TRY_MS = 150,
    LONG_MS = 60000
};

static const char *const settings[] = {"HeartbeatMs", "100", "SuspectMs", "300", "DownMs", "600", NULL};

struct store;

typedef struct {
    struct store *store;
    ctki_guest_t guest;
    int thread;
    bool failed;
} visit_t;

typedef struct store {
    world_t world;
    bool reads_dirty;
    int heartbeat_ms;
    ctalk_pid_t members[SERVERS];
    kv_disk_t disk[SERVERS + 1];
    kv_options_t options[SERVERS + 1];
    visit_t visit[HOSTS * GUESTS];
    int64_t now; /* a number for each call and return: threads run one at a time, so that they have an order */
    ctki_op_t op[HOSTS * GUESTS * OPS];
    size_t ops, unanswered;
    size_t crashes, partitions, resets, leaders; /* that were cut off or died */
} store_t;

static unsigned draw (const store_t *store, unsigned below)
{
    return (unsigned) (ctalk_sim_random (store->world.sim) % below);
}

/* ---- servers */

static bool start (store_t *store, ctalk_pid_t pid)
{
    store->options[pid] = (kv_options_t){.members = store->members,
                                         .members_count = SERVERS,
                                         .disk = &store->disk[pid],
                                         .heartbeat_ms = store->heartbeat_ms,
                                         .election_ms = KV_ELECTION_MS,
                                         .reads_dirty = store->reads_dirty};
    CTKI_EXPECT (&store->world.trouble, world_start (&store->world, pid));
    CTKI_EXPECT (&store->world.trouble,
                 ctalk_actor_spawn (store->world.server[pid], KV_ACTOR, kv_actor, &store->options[pid]) != 0);
    return true;
}

/* ---- clients */

static int64_t now_ms (void *sim)
{
    return ctalk_sim_now_us (sim) / 1000;
}

static void pause_ms (void *sim, int ms)
{
    ctalk_sim_sleep_ms (sim, ms);
}

static int64_t stamp (void *arg)
{
    store_t *store = arg;
    return ++store->now;
}

static void run_visit (void *arg)
{
    visit_t *visit = arg;
    store_t *store = visit->store;
    for (size_t i = 0; i < OPS && !visit->failed; i++) {
        ctki_op_t *op = &store->op[store->ops++];
        visit->failed = !ctki_guest_do (&visit->guest, op, &store->world.trouble);
        store->unanswered += op->returned == CTKI_NEVER;
        ctalk_sim_sleep_ms (store->world.sim, (int) draw (store, 100));
    }
}

static void begin_visit (store_t *store, unsigned number)
{
    visit_t *visit = &store->visit[number];
    ctalk_sim_t *sim = store->world.sim;
    ctalk_server_t *server = store->world.server[SERVERS + 1 + number % HOSTS];
    visit->store = store;
    ctki_guest_init (&visit->guest, server, store->members, SERVERS, number, ctalk_sim_random (sim));
    visit->guest.client.clock = (kv_clock_t){.now_ms = now_ms, .pause_ms = pause_ms, .arg = sim};
    visit->guest.client.try_ms = TRY_MS;
    visit->guest.answer_ms = ANSWER_MS;
    visit->guest.stamp = stamp;
    visit->guest.arg = store;
    visit->thread = ctalk_sim_spawn (sim, "guest", run_visit, visit);
}

/* What a server says of itself; false: it does not answer. */
static bool who (store_t *store, ctalk_pid_t pid, kv_answer_t *answer)
{
    kv_client_t client;
    kv_request_t request = {.op = KV_WHO};
    ctalk_envelope_t reply;
    kv_client_init (&client, 1, &pid, 1);
    client.clock = (kv_clock_t){.now_ms = now_ms, .pause_ms = pause_ms, .arg = store->world.sim};
    bool answered = kv_client_do (&client, store->world.server[SERVERS + 1], &request, answer, &reply, TRY_MS) == 0;
    ctalk_envelope_close (&reply);
    return answered;
}

/* One that says that it leads, or any. */
static ctalk_pid_t find_victim (store_t *store)
{
    kv_answer_t answer;
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++)
        if (draw (store, 4) && who (store, pid, &answer) && answer.leader == pid) {
            store->leaders++;
            return pid;
        }
    return 1 + (ctalk_pid_t) draw (store, SERVERS);
}

/* ---- troubles */

static void part (store_t *store, ctalk_pid_t victim)
{
    ctalk_pid_t side[2] = {victim, 1 + (victim + (ctalk_pid_t) draw (store, SERVERS - 1)) % SERVERS};
    size_t count = 1 + draw (store, 2);
    if (draw (store, 2)) { /* from the clients, too */
        (void) ctalk_sim_partition (store->world.sim, side, count, true);
        ctalk_sim_sleep_ms (store->world.sim, (int) draw (store, 2000));
        (void) ctalk_sim_partition (store->world.sim, NULL, 0, false);
    } else { /* from the other servers alone */
        for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++)
            if (pid != victim)
                (void) ctalk_server_cut (store->world.server[victim], pid, CTALK_IN | CTALK_OUT, true);
        ctalk_sim_sleep_ms (store->world.sim, (int) draw (store, 2000));
        (void) ctalk_server_cut (store->world.server[victim], CTALK_BROADCAST, CTALK_IN | CTALK_OUT, false);
    }
    store->partitions++;
}

static bool crash (store_t *store, ctalk_pid_t victim)
{
    ctalk_pid_t other = 1 + (victim + (ctalk_pid_t) draw (store, SERVERS - 1)) % SERVERS;
    bool both = draw (store, 3) == 0;
    (void) ctalk_sim_crash (store->world.sim, &store->world.server[victim]);
    if (both)
        (void) ctalk_sim_crash (store->world.sim, &store->world.server[other]);
    store->crashes += 1 + both;
    ctalk_sim_sleep_ms (store->world.sim, (int) draw (store, 1500));
    return start (store, victim) && (!both || start (store, other));
}

static bool make_trouble (store_t *store)
{
    ctalk_sim_sleep_ms (store->world.sim, (int) draw (store, 500));
    unsigned what = draw (store, 5);
    ctalk_pid_t victim = find_victim (store);
    if (what < 2)
        part (store, victim);
    else if (what < 4)
        return crash (store, victim);
    else
        store->resets += (size_t) ctalk_sim_reset (store->world.sim, victim, CTALK_BROADCAST);
    return true;
}

/* ---- a run */

/* Waits until all have applied the same, and all of it. */
static bool await_agreement (store_t *store)
{
    int64_t end_ms = now_ms (store->world.sim) + LONG_MS;
    while (now_ms (store->world.sim) < end_ms) {
        kv_answer_t answer, first = {0};
        bool same = who (store, 1, &first) && first.applied > 0 && first.applied == first.last;
        for (ctalk_pid_t pid = 2; pid <= SERVERS && same; pid++)
            same = who (store, pid, &answer) && answer.term == first.term && answer.applied == first.applied
                   && answer.last == first.last;
        if (same)
            return true;
        ctalk_sim_sleep_ms (store->world.sim, 50);
    }
    return ctki_trouble_note (&store->world.trouble, __FILE__, __LINE__, "no agreement");
}

static bool play (world_t *world)
{
    store_t *store = world->more;
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++)
        CTKI_EXPECT (&world->trouble, start (store, pid));
    for (ctalk_pid_t pid = SERVERS + 1; pid <= SERVERS + HOSTS; pid++)
        CTKI_EXPECT (&world->trouble, world_start (world, pid));
    for (unsigned i = 0; i < HOSTS * GUESTS; i++)
        begin_visit (store, i);
    for (int i = 0; i < TROUBLES; i++)
        CTKI_EXPECT (&world->trouble, make_trouble (store));
    for (unsigned i = 0; i < HOSTS * GUESTS; i++)
        CTKI_EXPECT (&world->trouble, ctalk_sim_join (world->sim, store->visit[i].thread) == 0);
    bool agreed = await_agreement (store);
    for (size_t pid = 1; pid <= world->count; pid++)
        (void) ctalk_server_close (&world->server[pid], 0);
    return agreed;
}

/* One seed, its figures in *store. Returns whether the history is linearizable. */
static bool run (store_t *store, uint64_t seed, bool reads_dirty, char *why, size_t size)
{
    *store = (store_t){.reads_dirty = reads_dirty};
    store->world = (world_t){.count = SERVERS + HOSTS, .settings = settings, .main_fn = play, .more = store};
    store->world.options.seed = seed;
    /* A leader that is cut off believes for some heartbeats that it is one: for longer than an election takes. */
    store->heartbeat_ms = seed % 2 ? KV_HEARTBEAT_MS : 2 * KV_HEARTBEAT_MS;
    if (seed % 3 == 0)
        store->world.options.network.resets_per_second = 0.5;
    if (seed % 4 == 0)
        store->world.options.network = (ctalk_sim_network_t){.latency_us_min = 1000, .latency_us_max = 30000};
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++) {
        store->members[pid - 1] = pid;
        kv_disk_in_memory (&store->disk[pid]);
    }
    world_run (&store->world);
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++)
        kv_disk_close (&store->disk[pid]);
    return ctki_linearizable (store->op, store->ops, why, size);
}

static store_t store; /* large: not for the stack */

/* Goal: the store is linearizable in every one of some hundred seeds, whatever happens to its servers. */
START_TEST (seeds)
{
    size_t count = ctki_test_count (200), ops = 0, unanswered = 0, crashes = 0, partitions = 0, leaders = 0;
    int64_t virtual_us = 0;
    char why[320] = "";
    for (uint64_t seed = 1; seed <= count; seed++) {
        bool right = run (&store, seed, false, why, sizeof why);
        ck_assert_msg (right, "seed %llu: not linearizable: %s", (unsigned long long) seed, why);
        ops += store.ops;
        unanswered += store.unanswered;
        crashes += store.crashes;
        partitions += store.partitions;
        leaders += store.leaders;
        virtual_us += store.world.end_us;
        ctki_test_progress ("seeds", (size_t) seed, count);
    }
    ctki_test_progress ("", 0, 0);
    ctki_test_figure ("kvstore",
                      "%zu seeds, %lld s of virtual time: %zu crashes, %zu partitions, %zu of a leader; "
                      "%zu operations, %zu without an answer",
                      count, (long long) (virtual_us / 1000000), crashes, partitions, leaders, ops, unanswered);
}
END_TEST

/* Goal: a store whose servers answer reads by themselves is found out, within a few seeds. */
START_TEST (dirty_reads)
{
    bool found = false;
    for (uint64_t seed = 1; seed <= 30 && !found; seed++)
        found = !run (&store, seed, true, NULL, 0);
    ck_assert (found);
}
END_TEST

/* Goal: a seed replays. */
START_TEST (replay)
{
    (void) run (&store, 12, false, NULL, 0);
    uint64_t digest = store.world.digest;
    (void) run (&store, 12, false, NULL, 0);
    ck_assert_uint_eq (store.world.digest, digest);
    (void) run (&store, 13, false, NULL, 0);
    ck_assert_uint_ne (store.world.digest, digest);
}
END_TEST

Suite *ctki_suite_sim_kvstore (void)
{
    Suite *suite = suite_create ("kvstore");
    TCase *tcase = tcase_create ("kvstore");
    tcase_set_timeout (tcase, ctki_test_ms (600 * 1000) / 1000.0);
    tcase_add_test (tcase, replay);
    tcase_add_test (tcase, dirty_reads);
    tcase_add_test (tcase, seeds);
    suite_add_tcase (suite, tcase);
    return suite;
}
