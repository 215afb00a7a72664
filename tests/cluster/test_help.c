/*
 * test_help.c - threads of the application that do the work of sleeping actors:
 * sending threads help, a waiting receiver leads. Every way has run, nothing is
 * lost when they come and go, and nobody waits for what nobody looks at.
 *
 * Heartbeats are seldom in most of these clusters, so that no timer hides what
 * was forgotten: it hangs, and the test fails at its deadline.
 */
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/cluster/suites.h"
#include "tests/support/support.h"

#define SELDOM "HeartbeatMs", "60000", "SuspectMs", "120000", "DownMs", "240000"
#define HELPING(...) CTKI_OPTIONS ("Help", "on", SELDOM, ##__VA_ARGS__)

enum {
    END = -1,      /* the msg_id that ends an echo and a taker */
    QUIET_MS = 50, /* in which a leader with nothing to do does nothing */
    BOTH = CTALK_IN | CTALK_OUT
};

static ctki_cluster_t cluster;

static ctalk_stats_t totals (ctalk_pid_t pid)
{
    return ctki_cluster_stats (cluster.server[pid], CTALK_BROADCAST);
}

static void send_number (ctalk_pid_t from, ctalk_pid_t to, int64_t number)
{
    ctalk_envelope_t envelope = ctki_traffic_envelope (to, number, "x", 1);
    ck_assert_int_eq (ctalk_send (cluster.server[from], &envelope, ctki_test_long_ms ()), 0);
}

static void flush (ctalk_pid_t from, ctalk_pid_t to)
{
    ck_assert_msg (ctalk_server_flush (cluster.server[from], to, ctki_test_long_ms ()) == 0,
                   "what %d sent to %d is not acknowledged: %s", from, to, strerror (errno));
}

static bool readable (int fd, int ms)
{
    struct pollfd item = {.fd = fd, .events = POLLIN};
    return poll (&item, 1, ms) == 1;
}

/* ---- the ways have run */

/* Sends back whatever comes, until END. */
static bool echo (void *arg, ctki_trouble_t *trouble)
{
    for (;;) {
        ctalk_envelope_t envelope;
        CTKI_EXPECT_EQUAL (trouble, ctalk_recv (arg, &envelope, 6 * ctki_test_long_ms ()), 0);
        bool end = envelope.msg_id == END;
        ctalk_envelope_t back = ctki_traffic_envelope (envelope.pid, envelope.msg_id, envelope.data, envelope.size);
        int rc = end ? 0 : ctalk_send (arg, &back, ctki_test_long_ms ());
        ctalk_envelope_close (&envelope);
        CTKI_EXPECT_EQUAL (trouble, rc, 0);
        if (end)
            return true;
    }
}

static void round_trip (ctalk_pid_t from, ctalk_pid_t to, int64_t number)
{
    send_number (from, to, number);
    ctki_traffic_expect (cluster.server[from], to, number, "x");
}

static bool all_ways (ctalk_pid_t pid, const ctalk_stats_t *before)
{
    ctalk_stats_t now = totals (pid);
    return now.helped > before->helped && now.led > before->led;
}

/* Round trips until both ends have helped and led since the call; at least count. */
static void round_trips_until_led (int64_t count)
{
    ctalk_stats_t before[3] = {totals (1), totals (1), totals (2)};
    int64_t end_ms = ctki_test_now_ms () + ctki_test_long_ms ();
    for (int64_t i = 0; i < count || !all_ways (1, &before[1]) || !all_ways (2, &before[2]); i++) {
        ck_assert_msg (i < count || ctki_test_now_ms () < end_ms, "1: helped %d led %d; 2: helped %d led %d",
                       (int) totals (1).helped, (int) totals (1).led, (int) totals (2).helped, (int) totals (2).led);
        round_trip (1, 2, i);
    }
}

/* Round trips one by one: both ends help, and both lead. */
START_TEST (round_trips)
{
    ctki_test_thread_t thread;
    ctki_cluster_open_up (&cluster, 2, HELPING ());
    ctki_test_thread_start (&thread, echo, cluster.server[2]);
    round_trips_until_led ((int64_t) ctki_test_count (5000));
    ctki_test_figure ("round_trips", "helped %d, led %d, rung %d", (int) totals (1).helped, (int) totals (1).led,
                      (int) totals (1).rung);
    send_number (1, 2, END);
    ctki_test_thread_join (&thread);
    ctki_cluster_close (&cluster);
}
END_TEST

/* With Help off nobody does: threads are rung. */
START_TEST (off)
{
    ctki_test_thread_t thread;
    ctki_cluster_open_up (&cluster, 2, CTKI_OPTIONS ("Help", "off", SELDOM, "SpinMicros", "50"));
    ctki_test_thread_start (&thread, echo, cluster.server[2]);
    for (int64_t i = 0; i < 200; i++)
        round_trip (1, 2, i);
    send_number (1, 2, END);
    ctki_test_thread_join (&thread);
    for (ctalk_pid_t pid = 1; pid <= 2; pid++) {
        ctalk_stats_t stats = totals (pid);
        ck_assert_uint_eq (stats.helped, 0);
        ck_assert_uint_eq (stats.led, 0);
        ck_assert_uint_gt (stats.rung, 0);
    }
    ctki_cluster_close (&cluster);
}
END_TEST

/* A flood in both directions arrives as it was sent, whoever worked, and afterwards receivers lead again. */
START_TEST (flood)
{
    static const size_t sizes[] = {64, 64, 200, 0, 3000};
    size_t count = ctki_test_count (200000);
    ctki_journal_t *journal = ctki_journal_new (2, count);
    ctki_test_thread_t threads[5];
    ctki_trouble_t trouble = {""};
    ctki_cluster_open_up (&cluster, 2, HELPING ());
    ctki_stream_t streams[2];
    ctki_drain_t drains[2];
    for (int i = 0; i < 2; i++) {
        streams[i] = (ctki_stream_t){cluster.server[i + 1], 2 - i, 0, count, sizes, 5, journal};
        drains[i] = (ctki_drain_t){cluster.server[i + 1], count, journal, NULL};
        ctki_test_thread_start (&threads[i], ctki_traffic_stream, &streams[i]);
        ctki_test_thread_start (&threads[2 + i], ctki_traffic_drain, &drains[i]);
    }
    for (int i = 0; i < 4; i++)
        ctki_test_thread_join (&threads[i]);
    ck_assert_msg (ctki_journal_agrees (journal, &trouble), "%s", trouble.text);
    ctki_test_figure ("flood", "%zu each way; helped %d, led %d, rung %d", count, (int) totals (1).helped,
                      (int) totals (1).led, (int) totals (1).rung);
    ctki_test_thread_start (&threads[4], echo, cluster.server[2]);
    round_trips_until_led (1);
    send_number (1, 2, END);
    ctki_test_thread_join (&threads[4]);
    ctki_journal_destroy (&journal);
    ctki_cluster_close (&cluster);
}
END_TEST

/* ---- at rest */

static uint64_t led_before;

static bool led_moves (void *arg)
{
    return totals (*(const ctalk_pid_t *) arg).led != led_before;
}

static bool is_quiet (void *arg)
{
    led_before = totals (*(const ctalk_pid_t *) arg).led;
    return !ctki_test_until (led_moves, arg, QUIET_MS);
}

/* A leader that nothing comes for sleeps: it does not go round and round. */
static void expect_rest (ctalk_pid_t pid)
{
    ck_assert_msg (ctki_test_until (is_quiet, &pid, ctki_test_long_ms ()), "server %d: its leader never sleeps", pid);
}

/* ---- one that leaves */

static void nothing (int signal_number)
{
    (void) signal_number;
}

static void handle (int signal_number, void (*handler) (int), struct sigaction *old)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    ck_assert_int_eq (sigaction (signal_number, &action, old), 0);
}

typedef struct {
    ctalk_server_t *server;
    int timeout_ms, error;
} wait_t;

static bool wait_in_vain (void *arg, ctki_trouble_t *trouble)
{
    const wait_t *wait = arg;
    ctalk_envelope_t envelope;
    CTKI_EXPECT_EQUAL (trouble, ctalk_recv (wait->server, &envelope, wait->timeout_ms), -1);
    CTKI_EXPECT_EQUAL (trouble, errno, wait->error);
    return true;
}

enum { BY_TIMEOUT, BY_SIGNAL, BY_WAKE, BY_TAKING, WAYS_TO_LEAVE };

static bool take_one (void *arg, ctki_trouble_t *trouble)
{
    ctalk_envelope_t envelope;
    CTKI_EXPECT_EQUAL (trouble, ctalk_recv (arg, &envelope, ctki_test_long_ms ()), 0);
    ctalk_envelope_close (&envelope);
    return true;
}

/* Somebody waits at server 2 and leaves. */
static void wait_and_leave (int how, bool blocked)
{
    ctki_test_thread_t thread;
    wait_t wait = {cluster.server[2], how == BY_TIMEOUT ? (blocked ? 30 : 1) : -1, how == BY_TIMEOUT ? EAGAIN : EINTR};
    if (how == BY_TAKING)
        ctki_test_thread_start (&thread, take_one, cluster.server[2]);
    else
        ctki_test_thread_start (&thread, wait_in_vain, &wait);
    if (blocked && how != BY_TIMEOUT)
        ctki_test_thread_await_blocked (&thread);
    if (how == BY_SIGNAL)
        ctki_test_thread_pester (&thread, SIGUSR1);
    else if (how == BY_WAKE)
        CTKI_SUCCEEDS (ctalk_server_wake (cluster.server[2]));
    else if (how == BY_TAKING)
        send_number (1, 2, END);
    ctki_test_thread_join (&thread);
}

/* When a leader has left for whatever reason, what comes is taken in, acknowledged and seen by the descriptor though
 * nobody receives; what the others ask of the server is done; and the next one takes it. */
START_TEST (nobody_left)
{
    struct sigaction old;
    handle (SIGUSR1, nothing, &old);
    ctki_cluster_open_up (&cluster, 2, HELPING ());
    int fd = ctalk_server_fd (cluster.server[2]);
    size_t rounds = CTKI_MAX (ctki_test_count (100), (size_t) 4);
    for (size_t i = 0; i < rounds; i++) {
        wait_and_leave (_i, i % 4 == 0);
        ck_assert (!readable (fd, 0));
        if (i % 2)
            (void) poll (NULL, 0, (int) (i % 24)); /* where the router's thread is meanwhile varies */
        send_number (1, 2, 1);
        flush (1, 2);
        ck_assert (readable (fd, 0));
        send_number (2, 1, 2);
        flush (2, 1);
        ctki_traffic_expect (cluster.server[1], 2, 2, "x");
        ctki_traffic_expect (cluster.server[2], 1, 1, "x");
    }
    ck_assert_uint_gt (totals (2).led, 0);
    ctki_cluster_close (&cluster);
    ck_assert_int_eq (sigaction (SIGUSR1, &old, NULL), 0);
}
END_TEST

/* ---- what wakes a leader */

static atomic_int_fast64_t taken;

static bool take_until_end (void *arg, ctki_trouble_t *trouble)
{
    for (int64_t number = 0; number != END;) {
        ctalk_envelope_t envelope;
        CTKI_EXPECT_EQUAL (trouble, ctalk_recv (arg, &envelope, 6 * ctki_test_long_ms ()), 0);
        number = envelope.msg_id;
        ctalk_envelope_close (&envelope);
        atomic_fetch_add (&taken, 1);
    }
    return true;
}

static void await_taken (int64_t count)
{
    int64_t end_ms = ctki_test_now_ms () + ctki_test_long_ms ();
    while (atomic_load (&taken) < count) {
        ck_assert_msg (ctki_test_now_ms () < end_ms, "%d taken instead of %d: the receiver was not woken",
                       (int) atomic_load (&taken), (int) count);
        sched_yield ();
    }
}

/* An envelope that another thread sends to its own server wakes the leader, each single time, also when something from
 * a peer does so at the same moment; and when it is over, the leader sleeps. */
START_TEST (own_pid)
{
    ctki_test_thread_t thread;
    ctki_cluster_open_up (&cluster, 2, HELPING ());
    atomic_store (&taken, 0);
    ctki_test_thread_start (&thread, take_until_end, cluster.server[1]);
    int64_t count = (int64_t) ctki_test_count (10000), sent = 0;
    for (int64_t i = 0; i < count; i++) {
        if (i % 3 == 0)
            send_number (2, 1, i);
        send_number (1, 1, i);
        sent += i % 3 == 0 ? 2 : 1;
        await_taken (sent);
    }
    ck_assert_uint_gt (totals (1).led, 0);
    expect_rest (1);
    send_number (1, 1, END);
    ctki_test_thread_join (&thread);
    ctki_cluster_close (&cluster);
}
END_TEST

static ctalk_server_t *woken_server;
static atomic_int woke_badly;

static void wake_in_handler (int signal_number)
{
    (void) signal_number;
    int code = errno;
    if (ctalk_server_wake (woken_server))
        atomic_store (&woke_badly, 1);
    errno = code;
}

typedef struct {
    ctalk_server_t *server;
    size_t count;
} woken_t;

static bool be_woken (void *arg, ctki_trouble_t *trouble)
{
    const woken_t *woken = arg;
    for (size_t i = 0; i < woken->count; i++) {
        ctalk_envelope_t envelope;
        CTKI_EXPECT_EQUAL (trouble, ctalk_recv (woken->server, &envelope, 6 * ctki_test_long_ms ()), -1);
        CTKI_EXPECT_EQUAL (trouble, errno, EINTR);
    }
    return true;
}

static bool signal_until_done (void *arg, ctki_trouble_t *trouble)
{
    ctki_test_thread_t *thread = arg;
    (void) trouble;
    while (!atomic_load (&thread->done)) {
        (void) pthread_kill (thread->thread, SIGUSR2);
        sched_yield ();
    }
    return true;
}

/* A handler that wakes on the thread that leads, at whatever moment: each receive ends, and the leader sleeps in the
 * end. */
START_TEST (wake_in_a_handler)
{
    ctki_test_thread_t thread, pest;
    struct sigaction old;
    ctki_cluster_open_up (&cluster, 2, HELPING ());
    atomic_store (&woke_badly, 0);
    woken_server = cluster.server[1];
    handle (SIGUSR2, wake_in_handler, &old);
    woken_t woken = {cluster.server[1], ctki_test_count (5000)};
    ctki_test_thread_start (&thread, be_woken, &woken);
    ctki_test_thread_start (&pest, signal_until_done, &thread);
    ctki_test_thread_join (&pest);
    ctki_test_thread_join (&thread);
    ck_assert_int_eq (atomic_load (&woke_badly), 0);
    ck_assert_int_eq (sigaction (SIGUSR2, &old, NULL), 0);
    ctalk_envelope_t envelope;
    (void) ctalk_recv (cluster.server[1], &envelope, 0); /* a wake may be left */
    atomic_store (&taken, 0);
    ctki_test_thread_start (&thread, take_until_end, cluster.server[1]);
    expect_rest (1);
    send_number (2, 1, END);
    ctki_test_thread_join (&thread);
    ctki_cluster_close (&cluster);
}
END_TEST

/* ---- many at once */

enum { SERVERS = 3, RECEIVERS_MAX = 8 };

typedef struct {
    ctalk_server_t *server;
    ctki_journal_t *journal;
    pthread_mutex_t *lock; /* of the journal */
    atomic_size_t *left;
    unsigned seed;
} receiver_t;

static bool receive_some (void *arg, ctki_trouble_t *trouble)
{
    receiver_t *r = arg;
    while (atomic_load (r->left) > 0) {
        ctalk_envelope_t envelopes[4];
        int draw = rand_r (&r->seed) % 16, n;
        n = ctalk_recv_many (r->server, envelopes, (size_t) (draw % 4) + 1, draw == 15 ? -1 : draw % 5);
        CTKI_EXPECT (trouble, n > 0 || errno == EAGAIN || errno == EINTR);
        for (int i = 0; i < n; i++) {
            pthread_mutex_lock (r->lock);
            ctki_journal_received (r->journal, ctalk_server_pid (r->server), &envelopes[i]);
            pthread_mutex_unlock (r->lock);
            ctalk_envelope_close (&envelopes[i]);
        }
        if (n > 0)
            atomic_fetch_sub (r->left, (size_t) n);
    }
    return true;
}

static bool send_slowly (void *arg, ctki_trouble_t *trouble)
{
    static const size_t sizes[] = {8, 0, 100, 5000, 64, 40000};
    const ctki_stream_t *whole = arg;
    unsigned seed = (unsigned) whole->dst;
    for (size_t sent = 0; sent < whole->count;) {
        ctki_stream_t part = *whole;
        size_t some = (size_t) rand_r (&seed) % 8 + 1;
        part.first = (int64_t) sent;
        part.count = CTKI_MIN (whole->count - sent, some);
        part.sizes = &sizes[rand_r (&seed) % 6];
        part.sizes_count = 1;
        if (!ctki_traffic_stream (&part, trouble))
            return false;
        sent += part.count;
        if (rand_r (&seed) % 8 == 0)
            (void) poll (NULL, 0, rand_r (&seed) % 3); /* the load of this test: receivers run dry */
    }
    return true;
}

static bool is_none (void *arg)
{
    return atomic_load ((atomic_size_t *) arg) == 0;
}

static bool wake_until_done (void *arg)
{
    ctki_test_thread_t *thread = arg;
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++)
        (void) ctalk_server_wake (cluster.server[pid]);
    return atomic_load (&thread->done);
}

/* Two to eight receivers at each of three servers, with all sorts of timeouts, while each server sends to each: all
 * comes, once and unchanged, and nobody hangs. */
START_TEST (many_receivers)
{
    int receivers = 2 + 2 * _i;
    size_t count = ctki_test_count (4000);
    ctki_journal_t *journal = ctki_journal_new (SERVERS, count);
    pthread_mutex_t locks[SERVERS];
    atomic_size_t left[SERVERS];
    ctki_stream_t streams[SERVERS * SERVERS];
    ctki_test_thread_t senders[SERVERS * SERVERS], threads[SERVERS * RECEIVERS_MAX];
    receiver_t r[SERVERS * RECEIVERS_MAX];
    int sending = 0;
    ctki_cluster_open_up (&cluster, SERVERS, HELPING ());
    for (int s = 0; s < SERVERS; s++) {
        pthread_mutex_init (&locks[s], NULL);
        atomic_init (&left[s], (SERVERS - 1) * count);
    }
    for (int i = 0; i < SERVERS * receivers; i++) {
        int s = i / receivers;
        r[i] = (receiver_t){cluster.server[s + 1], journal, &locks[s], &left[s], (unsigned) (i + 1)};
        ctki_test_thread_start (&threads[i], receive_some, &r[i]);
    }
    for (int a = 1; a <= SERVERS; a++)
        for (int b = 1; b <= SERVERS; b++) {
            if (a == b)
                continue;
            streams[sending] = (ctki_stream_t){cluster.server[a], b, 0, count, NULL, 0, journal};
            ctki_test_thread_start (&senders[sending], send_slowly, &streams[sending]);
            sending++;
        }
    for (int i = 0; i < sending; i++)
        ctki_test_thread_join (&senders[i]);
    for (int s = 0; s < SERVERS; s++)
        ck_assert_msg (ctki_test_until (is_none, &left[s], ctki_test_long_ms ()), "server %d: %zu were not taken",
                       s + 1, atomic_load (&left[s]));
    for (int i = 0; i < SERVERS * receivers; i++) {
        ck_assert_msg (ctki_test_until (wake_until_done, &threads[i], ctki_test_long_ms ()), "a receiver hangs");
        ctki_test_thread_join (&threads[i]);
    }
    ctki_journal_sums_t sums = ctki_journal_total (journal);
    ck_assert_uint_eq (sums.received, sums.sent);
    ck_assert_uint_eq (sums.missing + sums.duplicated + sums.changed, 0);
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++) {
        ck_assert_uint_gt (totals (pid).led, 0);
        ck_assert_uint_eq (totals (pid).malformed, 0);
    }
    for (int s = 0; s < SERVERS; s++)
        pthread_mutex_destroy (&locks[s]);
    ctki_journal_destroy (&journal);
    ctki_cluster_close (&cluster);
}
END_TEST

typedef struct {
    ctalk_server_t *server;
    ctalk_pid_t to;
    int64_t count;
} trips_t;

/* Until it is no signal that ends it. */
static bool receive_number (ctalk_server_t *server, int64_t number, ctki_trouble_t *trouble)
{
    ctalk_envelope_t envelope;
    int rc;
    do
        rc = ctalk_recv (server, &envelope, ctki_test_long_ms ());
    while (rc && errno == EINTR);
    CTKI_EXPECT_EQUAL (trouble, rc, 0);
    CTKI_EXPECT_EQUAL (trouble, envelope.msg_id, number);
    ctalk_envelope_close (&envelope);
    return true;
}

static bool send_a_number (ctalk_server_t *server, ctalk_pid_t to, int64_t number, ctki_trouble_t *trouble)
{
    ctalk_envelope_t envelope = ctki_traffic_envelope (to, number, "x", 1);
    int rc;
    do
        rc = ctalk_send (server, &envelope, ctki_test_long_ms ());
    while (rc && errno == EINTR);
    CTKI_EXPECT_EQUAL (trouble, rc, 0);
    return true;
}

/* Several at once and all of them back, again and again. */
static bool make_trips (void *arg, ctki_trouble_t *trouble)
{
    enum { AT_ONCE = 3 };
    const trips_t *trips = arg;
    for (int64_t i = 0; i < trips->count; i += AT_ONCE) {
        for (int64_t j = i; j < i + AT_ONCE; j++)
            if (!send_a_number (trips->server, trips->to, j, trouble))
                return false;
        for (int64_t j = i; j < i + AT_ONCE; j++)
            if (!receive_number (trips->server, j, trouble))
                return false;
    }
    return send_a_number (trips->server, trips->to, END, trouble);
}

static bool answer_trips (void *arg, ctki_trouble_t *trouble)
{
    const trips_t *trips = arg;
    for (;;) {
        ctalk_envelope_t envelope;
        int rc = ctalk_recv (trips->server, &envelope, ctki_test_long_ms ());
        if (rc && errno == EINTR)
            continue;
        CTKI_EXPECT_EQUAL (trouble, rc, 0);
        int64_t number = envelope.msg_id;
        ctalk_envelope_close (&envelope);
        if (number == END)
            return true;
        if (!send_a_number (trips->server, trips->to, number, trouble))
            return false;
    }
}

/* Signals that hit threads which lead, help and send, at every moment: nothing is lost, no frame is spoiled, none is
 * sent again. */
START_TEST (under_signals)
{
    struct sigaction old;
    ctki_test_thread_t threads[2], pests[2];
    handle (SIGUSR2, nothing, &old);
    ctki_cluster_open_up (&cluster, 2, HELPING ());
    trips_t there = {cluster.server[1], 2, (int64_t) ctki_test_count (20000)}, back = {cluster.server[2], 1, 0};
    ctki_test_thread_start (&threads[0], make_trips, &there);
    ctki_test_thread_start (&threads[1], answer_trips, &back);
    for (int i = 0; i < 2; i++)
        ctki_test_thread_start (&pests[i], signal_until_done, &threads[i]);
    for (int i = 0; i < 2; i++) {
        ctki_test_thread_join (&pests[i]);
        ctki_test_thread_join (&threads[i]);
    }
    for (ctalk_pid_t pid = 1; pid <= 2; pid++) {
        ctalk_stats_t stats = totals (pid);
        ck_assert_uint_gt (stats.led, 0);
        ck_assert_uint_eq (stats.malformed, 0);
        ck_assert_uint_eq (stats.retransmitted, 0);
    }
    ctki_cluster_close (&cluster);
    ck_assert_int_eq (sigaction (SIGUSR2, &old, NULL), 0);
}
END_TEST

/* ---- what happens to the members while one leads */

static atomic_int seen[16]; /* events of peer 2, by kind */

static bool take_events (void *arg, ctki_trouble_t *trouble)
{
    for (bool end = false; !end;) {
        ctalk_envelope_t envelope;
        CTKI_EXPECT_EQUAL (trouble, ctalk_recv (arg, &envelope, 6 * ctki_test_long_ms ()), 0);
        CTKI_EXPECT (trouble, (unsigned) envelope.kind < 16);
        if (envelope.pid == 2 && envelope.kind != CTALK_MESSAGE)
            atomic_fetch_add (&seen[envelope.kind], 1);
        end = envelope.kind == CTALK_MESSAGE && envelope.msg_id == END;
        ctalk_envelope_close (&envelope);
    }
    return true;
}

typedef struct {
    ctalk_kind_t kind;
    int count;
} seen_t;

static bool has_seen (void *arg)
{
    const seen_t *s = arg;
    return atomic_load (&seen[s->kind]) > s->count;
}

static void await_event (ctalk_kind_t kind, int before)
{
    seen_t s = {kind, before};
    ck_assert_msg (ctki_test_until (has_seen, &s, ctki_test_long_ms ()), "the leader was not told (%d)", (int) kind);
}

/* While one leads, peers are cut off, healed, removed and added: the leader is told, at once, and all is done. */
START_TEST (members_change)
{
    ctki_test_thread_t thread;
    ctki_cluster_open_up (&cluster, 3, CTKI_OPTIONS ("Help", "on", CTKI_FAST_FAILURE));
    ctki_test_thread_start (&thread, take_events, cluster.server[1]);
    ctki_test_thread_await_blocked (&thread);
    CTKI_SUCCEEDS (ctalk_server_watch_peers (cluster.server[1], true));
    for (int round = 0; round < 3; round++) {
        int down = atomic_load (&seen[CTALK_PEER_DOWN]);
        CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, BOTH, true));
        await_event (CTALK_PEER_DOWN, down);
        int up = atomic_load (&seen[CTALK_PEER_UP]);
        CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, BOTH, false));
        await_event (CTALK_PEER_UP, up);
        CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[1], 3));
        ck_assert_int_eq (ctalk_server_add_peer (cluster.server[1], 3, ctalk_server_endpoint (cluster.server[3])), 0);
        ctki_cluster_await_state (cluster.server[1], 3, CTALK_STATE_UP);
        ctki_cluster_await_state (cluster.server[3], 1, CTALK_STATE_UP);
        send_number (1, 3, round);
        ctki_traffic_expect (cluster.server[3], 1, round, "x");
    }
    ck_assert_uint_gt (totals (1).led, 0);
    send_number (3, 1, END);
    ctki_test_thread_join (&thread);
    CTKI_SUCCEEDS (ctalk_server_watch_peers (cluster.server[1], false));
    (void) ctki_cluster_close_abandoning (&cluster, ctki_test_long_ms ());
}
END_TEST

/* Threads that go on until their server closes: it closes when all have begun, or
 * one that was late would call a server that is gone. */
static atomic_int going_on;

static bool have_begun (void *arg)
{
    return atomic_load (&going_on) >= *(const int *) arg;
}

static void await_begun (int count)
{
    ck_assert (ctki_test_until (have_begun, &count, ctki_test_long_ms ()));
    atomic_store (&going_on, 0);
}

static bool receive_until_closed (void *arg, ctki_trouble_t *trouble)
{
    ctalk_envelope_t envelope;
    atomic_fetch_add (&going_on, 1);
    while (ctalk_recv (arg, &envelope, -1) == 0)
        ctalk_envelope_close (&envelope);
    CTKI_EXPECT_EQUAL (trouble, errno, ESHUTDOWN);
    return true;
}

static bool send_until_closed (void *arg, ctki_trouble_t *trouble)
{
    atomic_fetch_add (&going_on, 1);
    ctalk_envelope_t envelope = ctki_traffic_envelope (2, 1, "x", 1);
    while (ctalk_send (arg, &envelope, -1) == 0)
        sched_yield ();
    CTKI_EXPECT_EQUAL (trouble, errno, ESHUTDOWN);
    return true;
}

typedef struct {
    ctalk_server_t *server;
} closing_t;

static bool close_it (void *arg, ctki_trouble_t *trouble)
{
    closing_t *closing = arg;
    CTKI_EXPECT (trouble, ctalk_server_close (&closing->server, ctki_test_long_ms ()) >= 0);
    return true;
}

/* Closing from another thread ends all receives, that of the leader and those that wait, with traffic and without. */
START_TEST (closed)
{
    enum { THREADS = 4 };
    size_t rounds = CTKI_MAX (ctki_test_count (40), (size_t) 4);
    for (size_t round = 0; round < rounds; round++) {
        ctki_test_thread_t threads[THREADS], other, sender, closer;
        bool traffic = round % 2;
        ctki_cluster_open_up (&cluster, 2, HELPING ());
        for (int i = 0; i < THREADS; i++)
            ctki_test_thread_start (&threads[i], receive_until_closed, cluster.server[1]);
        ctki_test_thread_start (&other, receive_until_closed, cluster.server[2]);
        if (traffic) {
            ctki_test_thread_start (&sender, send_until_closed, cluster.server[1]);
            for (int64_t i = 0; i < (int64_t) round; i++)
                send_number (2, 1, i);
        } else
            for (int i = 0; i < THREADS; i++)
                ctki_test_thread_await_blocked (&threads[i]);
        await_begun (THREADS + 1 + traffic);
        closing_t closing = {cluster.server[1]};
        cluster.server[1] = NULL;
        ctki_test_thread_start (&closer, close_it, &closing);
        ctki_test_thread_join (&closer);
        for (int i = 0; i < THREADS; i++)
            ctki_test_thread_join (&threads[i]);
        if (traffic)
            ctki_test_thread_join (&sender);
        closing = (closing_t){cluster.server[2]};
        cluster.server[2] = NULL;
        ctki_test_thread_start (&closer, close_it, &closing);
        ctki_test_thread_join (&closer);
        ctki_test_thread_join (&other);
        ctki_cluster_close (&cluster);
    }
}
END_TEST

/* ---- what is helped along */

/* Broadcasts to more peers than are helped at once: each gets each, in order. */
START_TEST (broadcasts)
{
    enum { MANY = 8 };
    static const size_t sizes[] = {8, 1000, 0, 30000};
    size_t count = ctki_test_count (500);
    ctki_journal_t *journal = ctki_journal_new (MANY, count);
    ctki_test_thread_t threads[MANY + 1];
    ctki_drain_t drains[MANY + 1];
    ctki_trouble_t trouble = {""};
    ctki_cluster_open_up (&cluster, MANY, HELPING ());
    for (int i = 2; i <= MANY; i++) {
        drains[i] = (ctki_drain_t){cluster.server[i], count, journal, NULL};
        ctki_test_thread_start (&threads[i], ctki_traffic_drain, &drains[i]);
    }
    for (size_t i = 0; i < count; i++) {
        ctki_stream_t one = {cluster.server[1], CTALK_BROADCAST, (int64_t) i, 1, &sizes[i % 4], 1, journal};
        ck_assert_msg (ctki_traffic_stream (&one, &trouble), "%s", trouble.text);
        if (i % 8 == 0) /* now they sleep */
            CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], CTALK_BROADCAST, ctki_test_long_ms ()));
    }
    for (int i = 2; i <= MANY; i++)
        ctki_test_thread_join (&threads[i]);
    ck_assert_msg (ctki_journal_agrees (journal, &trouble), "%s", trouble.text);
    ck_assert_uint_gt (totals (1).helped, 0);
    ctki_journal_destroy (&journal);
    ctki_cluster_close (&cluster);
}
END_TEST

enum { LARGE = 10 * 1000 * 1000 };

static atomic_int given_back;

static void give_back (void *data, void *hint)
{
    (void) hint;
    free (data);
    atomic_fetch_add (&given_back, 1);
}

static bool send_large (void *arg, ctki_trouble_t *trouble)
{
    const ctki_stream_t *stream = arg;
    ctalk_pid_t self = ctalk_server_pid (stream->server);
    for (int64_t i = 0; i < (int64_t) stream->count; i++) {
        size_t size = i % 2 ? 5000 : LARGE;
        char *data = malloc (size);
        CTKI_EXPECT (trouble, data);
        ctki_payload_fill (data, size, self, stream->dst, i);
        ctki_journal_sent (stream->journal, self, stream->dst, i, data, size);
        ctalk_envelope_t envelope = ctki_traffic_envelope (stream->dst, i, data, size);
        CTKI_EXPECT_EQUAL (trouble,
                           ctalk_send_owned (stream->server, &envelope, give_back, NULL, 6 * ctki_test_long_ms ()), 0);
    }
    return true;
}

/* Large payloads of the user's, in both directions, each after the other slept: whole, and given back once. */
START_TEST (large)
{
    size_t count = CTKI_MAX (ctki_test_count (20), (size_t) 4);
    ctki_journal_t *journal = ctki_journal_new (2, count);
    ctki_test_thread_t threads[4];
    ctki_stream_t streams[2];
    ctki_drain_t drains[2];
    ctki_trouble_t trouble = {""};
    atomic_store (&given_back, 0);
    ctki_cluster_open_up (&cluster, 2, HELPING ("MaxMessageBytes", "16777216", "QueueBytes", "67108864"));
    for (int i = 0; i < 2; i++) {
        streams[i] = (ctki_stream_t){cluster.server[i + 1], 2 - i, 0, count, NULL, 0, journal};
        drains[i] = (ctki_drain_t){cluster.server[i + 1], count, journal, NULL};
        ctki_test_thread_start (&threads[i], send_large, &streams[i]);
        ctki_test_thread_start (&threads[2 + i], ctki_traffic_drain, &drains[i]);
    }
    for (int i = 0; i < 4; i++)
        ctki_test_thread_join (&threads[i]);
    ck_assert_msg (ctki_journal_agrees (journal, &trouble), "%s", trouble.text);
    ctki_journal_destroy (&journal);
    ctki_cluster_close (&cluster);
    ck_assert_int_eq (atomic_load (&given_back), (int) (2 * count));
}
END_TEST

/* A leader that looks again before it sleeps: all the same works, and what wakes it ends its looking, too. */
START_TEST (spinning)
{
    static const char *const micros[] = {"50", "1000000"};
    ctki_test_thread_t thread;
    ctki_cluster_open_up (&cluster, 2, HELPING ("SpinMicros", micros[_i]));
    ctki_test_thread_start (&thread, echo, cluster.server[2]);
    for (int64_t i = 0; i < 200; i++)
        round_trip (1, 2, i);
    send_number (2, 2, END); /* to itself */
    ctki_test_thread_join (&thread);
    ctalk_envelope_t envelope;
    for (int ms = 1; ms < 20; ms += 6) {
        int64_t start_ms = ctki_test_now_ms ();
        CTKI_FAILS (EAGAIN, ctalk_recv (cluster.server[1], &envelope, ms));
        ck_assert_int_ge (ctki_test_now_ms () - start_ms, ms - 1);
    }
    wait_t wait = {cluster.server[2], -1, EINTR};
    ctki_test_thread_start (&thread, wait_in_vain, &wait);
    CTKI_SUCCEEDS (ctalk_server_wake (cluster.server[2]));
    ctki_test_thread_join (&thread);
    send_number (1, 2, 1);
    flush (1, 2);
    ctki_traffic_expect (cluster.server[2], 1, 1, "x");
    ctki_test_thread_start (&thread, receive_until_closed, cluster.server[2]);
    await_begun (1);
    closing_t closing = {cluster.server[2]};
    cluster.server[2] = NULL;
    ck_assert (close_it (&closing, &thread.trouble));
    ctki_test_thread_join (&thread);
    ctki_cluster_close (&cluster);
}
END_TEST

/* ---- helping and a cut */

static atomic_int_fast64_t begun, highest;
static atomic_bool cut_over;

static bool send_on (void *arg, ctki_trouble_t *trouble)
{
    while (!atomic_load (&cut_over)) {
        int64_t number = atomic_fetch_add (&begun, 1) + 1;
        ctalk_envelope_t envelope = ctki_traffic_envelope (2, number, "x", 1);
        CTKI_EXPECT_EQUAL (trouble, ctalk_send (arg, &envelope, ctki_test_long_ms ()), 0);
        if (number % 16 == 0)
            sched_yield ();
        if (number % 64 == 0)
            (void) poll (NULL, 0, 1);
    }
    ctalk_envelope_t end = ctki_traffic_envelope (2, END, "x", 1);
    CTKI_EXPECT_EQUAL (trouble, ctalk_send (arg, &end, ctki_test_long_ms ()), 0);
    return true;
}

static bool note_highest (void *arg, ctki_trouble_t *trouble)
{
    for (int64_t next = 1;; next++) {
        ctalk_envelope_t envelope;
        CTKI_EXPECT_EQUAL (trouble, ctalk_recv (arg, &envelope, 6 * ctki_test_long_ms ()), 0);
        int64_t number = envelope.msg_id;
        ctalk_envelope_close (&envelope);
        if (number == END)
            return true;
        CTKI_EXPECT_EQUAL (trouble, number, next);
        atomic_store (&highest, number);
    }
}

static bool has_begun (void *arg)
{
    return atomic_load (&begun) >= *(const int64_t *) arg;
}

static bool has_come (void *arg)
{
    return atomic_load (&highest) >= *(const int64_t *) arg;
}

/* What is sent after a cut has returned does not pass before it is healed, whoever sends it; then all comes, in order.
 */
START_TEST (cut)
{
    ctki_test_thread_t sender, receiver;
    ctki_cluster_open_up (&cluster, 2,
                          CTKI_OPTIONS ("Help", "on", "HeartbeatMs", "2000", "SuspectMs", "60000", "DownMs", "120000"));
    atomic_store (&begun, 0);
    atomic_store (&highest, 0);
    atomic_store (&cut_over, false);
    ctki_test_thread_start (&receiver, note_highest, cluster.server[2]);
    ctki_test_thread_start (&sender, send_on, cluster.server[1]);
    size_t rounds = CTKI_MAX (ctki_test_count (60), (size_t) 4);
    for (size_t i = 0; i < rounds; i++) {
        int64_t some = atomic_load (&begun) + 50 + (int64_t) (i % 7);
        ck_assert (ctki_test_until (has_begun, &some, ctki_test_long_ms ()));
        CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, CTALK_OUT, true));
        int64_t last = atomic_load (&begun), more = last + 200; /* the last one may have been on its way */
        ck_assert (ctki_test_until (has_begun, &more, ctki_test_long_ms ()));
        (void) poll (NULL, 0, 2); /* what passed wrongly may be seen by now */
        ck_assert_msg (atomic_load (&highest) <= last, "%d passed the cut; sent before it were %d",
                       (int) atomic_load (&highest), (int) last);
        CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, CTALK_OUT, false));
        ck_assert_msg (ctki_test_until (has_come, &more, ctki_test_long_ms ()), "not healed");
    }
    atomic_store (&cut_over, true);
    ctki_test_thread_join (&sender);
    ctki_test_thread_join (&receiver);
    ck_assert_int_eq (atomic_load (&highest), atomic_load (&begun));
    ck_assert_uint_gt (totals (1).helped, 0);
    ctki_cluster_close (&cluster);
}
END_TEST

/* ---- a slow application */

static atomic_bool work_over;

static bool work_slowly (void *arg, ctki_trouble_t *trouble)
{
    const wait_t *work = arg;
    while (!atomic_load (&work_over)) {
        ctalk_envelope_t envelope;
        CTKI_EXPECT_EQUAL (trouble, ctalk_recv (work->server, &envelope, ctki_test_long_ms ()), 0);
        CTKI_EXPECT_EQUAL (trouble, envelope.kind, CTALK_MESSAGE);
        ctalk_envelope_close (&envelope);
        (void) poll (NULL, 0, work->timeout_ms); /* the work */
    }
    return true;
}

/* An application that takes one, works for 5 or 50 ms and takes the next: what is sent to it meanwhile is acknowledged
 * while it works, and its peer is not suspected. */
START_TEST (slow_application)
{
    ctki_test_thread_t thread;
    ctki_cluster_open_up (&cluster, 2,
                          CTKI_OPTIONS ("Help", "on", "HeartbeatMs", ctki_test_ms_text (100), "SuspectMs",
                                        ctki_test_ms_text (1000), "DownMs", ctki_test_ms_text (3000)));
    atomic_store (&work_over, false);
    wait_t work = {cluster.server[2], _i ? 50 : 5, 0};
    CTKI_SUCCEEDS (ctalk_server_watch_peers (cluster.server[1], true));
    ctalk_envelope_t event;
    ctki_traffic_take (cluster.server[1], &event);
    ck_assert_int_eq (event.kind, CTALK_PEER_UP);
    ctalk_envelope_close (&event);
    ctki_test_thread_start (&thread, work_slowly, &work);
    int64_t end_ms = ctki_test_now_ms () + ctki_test_ms (1500);
    while (ctki_test_now_ms () < end_ms) {
        send_number (1, 2, 1);
        flush (1, 2);
        ck_assert_int_eq (ctalk_server_peer_state (cluster.server[1], 2), CTALK_STATE_UP);
        ck_assert_int_eq (ctalk_server_peer_state (cluster.server[2], 1), CTALK_STATE_UP);
    }
    atomic_store (&work_over, true);
    send_number (1, 2, 1);
    ctki_test_thread_join (&thread);
    CTKI_FAILS (EAGAIN, ctalk_recv (cluster.server[1], &event, 0)); /* nothing was to be told */
    CTKI_SUCCEEDS (ctalk_server_watch_peers (cluster.server[1], false));
    while (ctalk_recv (cluster.server[2], &event, 0) == 0)
        ctalk_envelope_close (&event);
    ctki_cluster_close (&cluster);
}
END_TEST

Suite *ctki_suite_help (void)
{
    Suite *suite = suite_create ("help");
    TCase *tcase = ctki_leaks_tcase ("help", 120);
    tcase_add_test (tcase, round_trips);
    tcase_add_test (tcase, off);
    tcase_add_test (tcase, flood);
    tcase_add_loop_test (tcase, nobody_left, 0, WAYS_TO_LEAVE);
    tcase_add_test (tcase, own_pid);
    tcase_add_test (tcase, wake_in_a_handler);
    tcase_add_loop_test (tcase, many_receivers, 0, 4);
    tcase_add_test (tcase, under_signals);
    tcase_add_test (tcase, members_change);
    tcase_add_test (tcase, closed);
    tcase_add_test (tcase, broadcasts);
    tcase_add_test (tcase, large);
    tcase_add_loop_test (tcase, spinning, 0, 2);
    tcase_add_loop_test (tcase, slow_application, 0, 2);
    suite_add_tcase (suite, tcase);
    tcase = ctki_leaks_tcase ("cut", 120);
    tcase_add_test (tcase, cut);
    suite_add_tcase (suite, tcase);
    return suite;
}
