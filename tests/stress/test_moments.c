/*
 * test_moments.c - servers that are closed at random moments, under load and with
 * dead peers about: one whose port refuses, one that takes connections and never
 * says a word, and those that closed before. A seed says when; a failure prints it
 * and CTALK_TEST_SEED sets it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tests/stress/suites.h"
#include "tests/support/support.h"

enum {
    LIVING = 3,
    REFUSING = 4,      /* its pid */
    SILENT = 5,        /* its pid */
    CYCLES = 334,      /* of LIVING closes each */
    MOMENT_US = 15000, /* the first close comes at most so long after the start, each other one so long after that */
    TIMEOUT_MS = 40,   /* of a close, at most */
    GRACE_MS = 100,    /* what it may last longer */
    TURNS = 2,         /* its five actors hand over to each other more often than those of a pair do */
    LARGE = 50000      /* bytes */
};

/* Descriptors and threads at the start: too large for a stack. */
static ctki_leaks_t before;

static struct {
    uint64_t seed, state;
    ctki_cluster_t cluster;
    uint16_t refusing, silent; /* ports */
    int64_t worst_ms, closes, envelopes;
} trial;

static uint64_t draw (uint64_t below)
{
    trial.state = trial.state * 6364136223846793005u + 1442695040888963407u;
    return (trial.state >> 33) % below;
}

/* A moment is what it says: time that passes. */
static void pass (uint64_t us)
{
    struct timespec time = {0, (long) us * 1000};
    (void) nanosleep (&time, NULL);
}

typedef struct {
    ctalk_server_t *server;
    ctki_test_thread_t thread;
    int64_t dead, all; /* accepted for the two that never answer; for anybody */
} load_t;

static bool is_over (int rc, ctki_trouble_t *trouble)
{
    if (rc && errno != EAGAIN && errno != ESHUTDOWN)
        return ctki_trouble_note (trouble, __FILE__, __LINE__, "neither room nor closing");
    return rc && errno == ESHUTDOWN;
}

/* Sends to all others in turn, a large envelope now and then, and receives, until it is told that the server closes. */
static bool load (void *arg, ctki_trouble_t *trouble)
{
    static const char payload[LARGE];
    load_t *l = arg;
    for (int64_t i = 0; !trouble->text[0]; i++) {
        ctalk_pid_t dst = (ctalk_pid_t) (i % SILENT) + 1;
        ctalk_envelope_t envelope = ctki_traffic_envelope (dst, i, payload, i % 101 ? 100 : sizeof payload);
        if (dst == ctalk_server_pid (l->server))
            continue;
        int rc = ctalk_send (l->server, &envelope, 0);
        if (is_over (rc, trouble))
            return true;
        l->dead += rc == 0 && dst > LIVING;
        l->all += rc == 0;
        if (is_over (ctalk_recv (l->server, &envelope, rc ? 1 : 0), trouble))
            return true;
        ctalk_envelope_close (&envelope);
    }
    return false;
}

static void add_dead (ctalk_server_t *server, ctalk_pid_t pid, uint16_t port)
{
    char endpoint[40];
    (void) snprintf (endpoint, sizeof endpoint, "127.0.0.1:%u", (unsigned) port);
    CTKI_SUCCEEDS (ctalk_server_add_peer (server, pid, endpoint));
}

static void start (load_t *loads)
{
    ctki_cluster_open (&trial.cluster, LIVING, CTKI_OPTIONS ("QueueBytes", "262144"));
    for (ctalk_pid_t pid = 1; pid <= LIVING; pid++) {
        ctalk_server_t *server = trial.cluster.server[pid];
        add_dead (server, REFUSING, trial.refusing);
        add_dead (server, SILENT, trial.silent);
        loads[pid] = (load_t){.server = server};
        ctki_test_thread_start (&loads[pid].thread, load, &loads[pid]);
    }
}

/* Closes one at a moment; its deadline holds, and what it counts as abandoned can be. */
static void close_one (ctalk_pid_t pid, load_t *l)
{
    ctki_lateness_t lateness;
    int timeout_ms = ctki_test_ms ((int) draw (TIMEOUT_MS + 1));
    pass (draw (MOMENT_US));
    ctki_lateness_start (&lateness);
    int64_t start_ms = ctki_test_now_ms ();
    int abandoned = ctalk_server_close (&trial.cluster.server[pid], timeout_ms);
    int64_t took_ms = ctki_test_now_ms () - start_ms;
    int64_t late_ms = took_ms - timeout_ms - TURNS * ctki_lateness_stop (&lateness);
    ctki_test_thread_join (&l->thread);
    ck_assert_msg (late_ms <= ctki_test_ms (GRACE_MS), "seed %" PRIu64 ", close %lld: %lld ms late", trial.seed,
                   (long long) trial.closes, (long long) late_ms);
    ck_assert_msg (abandoned >= l->dead && abandoned <= l->all,
                   "seed %" PRIu64 ", close %lld: %d abandoned, %lld for dead ones, %lld in all", trial.seed,
                   (long long) trial.closes, abandoned, (long long) l->dead, (long long) l->all);
    trial.worst_ms = CTKI_MAX (trial.worst_ms, late_ms);
    trial.closes++;
    trial.envelopes += l->all;
}

static void cycle (void)
{
    load_t loads[LIVING + 1];
    char text[400];
    start (loads);
    ctalk_pid_t first = (ctalk_pid_t) draw (LIVING);
    for (ctalk_pid_t i = 0; i < LIVING; i++) {
        ctalk_pid_t pid = (first + i) % LIVING + 1;
        close_one (pid, &loads[pid]);
    }
    (void) ctki_cluster_close_abandoning (&trial.cluster, 0); /* only the config is left */
    bool gone = ctki_leaks_gone (&before, ctki_test_long_ms (), text, sizeof text);
    ck_assert_msg (gone, "seed %" PRIu64 ", close %lld: left over: %s", trial.seed, (long long) trial.closes, text);
}

/* A thousand closes at random moments, under load and with dead peers about: each keeps its deadline, and after each
 * cycle no descriptor and no thread is left. */
START_TEST (at_random_moments)
{
    const char *seed = getenv ("CTALK_TEST_SEED");
    size_t cycles = ctki_test_count (CYCLES);
    trial.seed = trial.state = seed && *seed ? strtoull (seed, NULL, 0) : 11;
    int refusing = ctki_ports_refusing (&trial.refusing), silent = ctki_ports_listening (&trial.silent);
    ctki_leaks_look (&before);
    for (size_t i = 0; i < cycles; i++) {
        cycle ();
        ctki_test_progress ("cycles", i, cycles);
    }
    ctki_test_progress ("", 0, 0);
    (void) close (refusing);
    (void) close (silent);
    ctki_test_figure ("at_random_moments",
                      "seed %" PRIu64 ": %lld closes, %lld envelopes, at most %lld ms after the timeout", trial.seed,
                      (long long) trial.closes, (long long) trial.envelopes, (long long) trial.worst_ms);
}
END_TEST

Suite *ctki_suite_moments (void)
{
    Suite *suite = suite_create ("moments");
    TCase *tcase = ctki_leaks_tcase ("moments", 300);
    tcase_add_test (tcase, at_random_moments);
    suite_add_tcase (suite, tcase);
    return suite;
}
