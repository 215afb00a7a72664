/*
 * test_stuck.c - one of five servers runs, but its application does not receive
 * any more. Those who send to it are stopped, and told so; nobody's memory grows
 * above what the options say; the rest of the cluster goes on; and when the
 * application receives again, all is there. Each server is a process of its own.
 */
#include <inttypes.h>
#include <stdio.h>

#include "tests/faults/life.h"
#include "tests/faults/suites.h"
#include "tests/support/support.h"

enum {
    SERVERS = 5,
    STUCK = 5,
    SENDERS = 4,
    KIB = 1024,
    MIB = 1024 * 1024,
    QUEUE = 32 * MIB,
    WINDOW = 16 * MIB,
    MESSAGE = MIB,    /* the largest */
    SLACK = 12 * MIB, /* the code, stacks, buffers of libzmq, the allocator */
    FULL_LOOKS = 15,  /* times without room, one after the other: the queue is full */
    ENOUGH = 2000     /* envelopes among the others in the meantime, at full scale */
};

static const size_t small_sizes[] = {100, 24, 0, 1000};
static const size_t mixed_sizes[] = {1000, 64 * KIB, MIB, 200, 5000, 300 * KIB};
static const size_t neighbour_sizes[] = {64, 500};

static struct {
    ctki_ports_t ports;
    ctalk_config_t *config;
    ctki_life_t *lives; /* by pid, from 1 */
    ctki_process_t process[SERVERS + 1];
    int64_t goal[SERVERS + 1]; /* to be taken */
} trial;

/* Each of the four sends to the one that will be stuck, as fast as it can, and to its neighbour in between. */
static void set_up (const size_t *sizes, size_t count)
{
    memset (&trial, 0, sizeof trial);
    ctki_ports_take (&trial.ports, SERVERS);
    trial.config =
        ctki_cluster_config (SERVERS, trial.ports.port,
                             CTKI_OPTIONS ("QueueBytes", ctki_test_number_text (QUEUE), "WindowBytes",
                                           ctki_test_number_text (WINDOW), "WindowFrames", "65536", "MaxMessageBytes",
                                           ctki_test_number_text (MESSAGE), "HeartbeatMs", ctki_test_ms_text (200),
                                           "SuspectMs", ctki_test_ms_text (600), "DownMs", ctki_test_ms_text (2000)));
    trial.lives = ctki_lives_new (SERVERS + 1);
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++) {
        ctki_life_t *life = &trial.lives[pid];
        life->pid = pid;
        life->config = trial.config;
        if (pid == STUCK)
            continue;
        ctalk_pid_t next = pid % SENDERS + 1;
        life->way[0] = (ctki_way_t){.dst = STUCK, .sizes = sizes, .sizes_count = count};
        life->way[1] = (ctki_way_t){.dst = next, .sizes = neighbour_sizes, .sizes_count = 2, .burst = 5, .pace_ms = 2};
        trial.lives[STUCK].from[pid] = life->way[0];
        trial.lives[next].from[pid] = life->way[1];
    }
    atomic_store (&trial.lives[STUCK].most, 0);
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++)
        ctki_life_start (&trial.lives[pid], &trial.process[pid]);
}

static void tear_down (void)
{
    ctki_lives_destroy (trial.lives, SERVERS + 1);
    ctalk_config_destroy (&trial.config);
    ctki_ports_release (&trial.ports);
}

static bool is_full (void *arg)
{
    return atomic_load (&((const ctki_life_t *) arg)->way[0].refused) >= FULL_LOOKS;
}

static bool is_told (void *arg)
{
    return ctki_life_events (arg, STUCK, CTALK_PEER_STUCK) > 0;
}

static bool has_taken (void *arg)
{
    const ctki_life_t *life = arg;
    return atomic_load (&life->taken) >= trial.goal[life->pid];
}

static void await_one (ctalk_pid_t pid, bool (*holds) (void *arg), const char *what)
{
    ctki_life_t *lives[SERVERS];
    for (int i = 0; i < SERVERS; i++)
        lives[i] = &trial.lives[i + 1];
    ctki_life_await (lives, SERVERS, holds, &trial.lives[pid], what);
}

static void await_each (bool (*holds) (void *arg), const char *what)
{
    for (ctalk_pid_t pid = 1; pid <= SENDERS; pid++)
        await_one (pid, holds, what);
}

/* What stands in the way of the stuck one is bounded; its neighbours' traffic goes on. */
static void be_stuck (void)
{
    await_each (is_full, "a full queue");
    await_each (is_told, "an event STUCK");
    for (ctalk_pid_t pid = 1; pid <= SENDERS; pid++)
        trial.goal[pid] = atomic_load (&trial.lives[pid].taken) + (int64_t) ctki_test_count (ENOUGH);
    await_each (has_taken, "traffic among the others");
    ck_assert_int_eq (atomic_load (&trial.lives[STUCK].taken), 0);
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++)
        ctki_life_weigh (&trial.lives[pid]);
}

static void resume (void)
{
    ctki_life_t *lives[SENDERS];
    atomic_store (&trial.lives[STUCK].most, INT64_MAX);
    for (ctalk_pid_t pid = 1; pid <= SENDERS; pid++)
        lives[pid - 1] = &trial.lives[pid];
    ctki_life_drain (lives, SENDERS);
    for (ctalk_pid_t pid = 1; pid <= SENDERS; pid++) {
        trial.goal[pid] = atomic_load (&trial.lives[(pid + SENDERS - 2) % SENDERS + 1].way[1].accepted);
        trial.goal[STUCK] += atomic_load (&trial.lives[pid].way[0].accepted);
    }
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++)
        await_one (pid, has_taken, "all that was sent taken");
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++)
        ctki_life_end (&trial.lives[pid]);
}

/* Of a sender: what it has queued for the stuck one, and its neighbour's few. Of the stuck one: the windows of four.
 * What is held while all is full is below this. The peak is below twice as much: all of a window may have come in
 * frames, which libzmq allocates, before fragments become envelopes, and the allocator keeps what it took for the
 * former. */
static uint64_t ceiling_of (ctalk_pid_t pid)
{
    return SLACK + (pid == STUCK ? (uint64_t) SENDERS * (WINDOW + MESSAGE) : (uint64_t) QUEUE + 2 * MESSAGE);
}

static bool judge (ctalk_pid_t pid, ctki_trouble_t *trouble)
{
    const ctki_life_t *life = &trial.lives[pid];
    for (ctalk_pid_t other = 1; other <= SERVERS; other++) {
        if (other == pid)
            continue;
        CTKI_EXPECT_EQUAL (trouble, ctki_life_events (life, other, CTALK_PEER_STUCK) > 0,
                           pid != STUCK && other == STUCK);
        CTKI_EXPECT_EQUAL (trouble, ctki_life_events (life, other, CTALK_PEER_DOWN), 0);
        CTKI_EXPECT_EQUAL (trouble, ctki_life_events (life, other, CTALK_PEER_RESTARTED), 0);
        const ctki_way_t *ways = trial.lives[other].way;
        int64_t sent = 0;
        for (int i = 0; i < CTKI_LIFE_WAYS; i++)
            sent += ways[i].dst == pid ? atomic_load (&ways[i].accepted) : 0;
        if (!ctki_life_one_row (life, other, 0, sent, trouble) || !ctki_life_legal (life, other, trouble))
            return false;
    }
    if (ctki_test_ms (1) > 1)
        return true; /* a slow tool keeps memory of its own: what is measured is not ours */
    CTKI_EXPECT (trouble, atomic_load (&life->held) <= ceiling_of (pid));
    CTKI_EXPECT (trouble, atomic_load (&life->grown) <= 2 * ceiling_of (pid));
    return true;
}

static double in_mib (uint64_t bytes)
{
    return (double) bytes / MIB;
}

static void try_sizes (const char *name, const size_t *sizes, size_t count)
{
    set_up (sizes, count);
    be_stuck ();
    resume ();
    uint64_t held = 0, grown = 0;
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++) {
        ctki_trouble_t trouble = {""};
        ctki_life_t *life = &trial.lives[pid];
        bool ok = judge (pid, &trouble);
        if (pid != STUCK)
            held = CTKI_MAX (held, atomic_load (&life->held)), grown = CTKI_MAX (grown, atomic_load (&life->grown));
        if (!ok)
            ctki_life_print (life);
        ck_assert_msg (ok, "server %d (memory: held %" PRIu64 " KiB, peak %" PRIu64 " KiB): %s", pid,
                       atomic_load (&life->held) / KIB, atomic_load (&life->grown) / KIB, trouble.text);
    }
    ctki_test_figure (name, "%" PRId64 " envelopes; memory of the stuck one %.1f MiB, ceiling %.1f, peak %.1f",
                      atomic_load (&trial.lives[STUCK].taken), in_mib (atomic_load (&trial.lives[STUCK].held)),
                      in_mib (ceiling_of (STUCK)), in_mib (atomic_load (&trial.lives[STUCK].grown)));
    ctki_test_figure ("", "of those who send to it %.1f MiB, ceiling %.1f, peak %.1f", in_mib (held),
                      in_mib (ceiling_of (1)), in_mib (grown));
    tear_down ();
}

/* With small envelopes, where most of the memory is not payload. */
START_TEST (small_ones)
{
    try_sizes ("small_ones", small_sizes, sizeof small_sizes / sizeof small_sizes[0]);
}
END_TEST

/* With envelopes up to the largest. */
START_TEST (mixed_ones)
{
    try_sizes ("mixed_ones", mixed_sizes, sizeof mixed_sizes / sizeof mixed_sizes[0]);
}
END_TEST

Suite *ctki_suite_stuck (void)
{
    Suite *suite = suite_create ("stuck");
    TCase *tcase = ctki_leaks_tcase ("stuck", 120);
    tcase_add_test (tcase, small_ones);
    tcase_add_test (tcase, mixed_ones);
    suite_add_tcase (suite, tcase);
    return suite;
}
