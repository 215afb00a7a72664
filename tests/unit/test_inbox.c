/*
 * test_inbox.c - handing out what came: runs and single envelopes, leases,
 * threads, wakes, the descriptor, flows, events.
 */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "src/inbox.h"
#include "src/mem.h"
#include "tests/support/leaks.h"
#include "tests/support/payload.h"
#include "tests/support/scale.h"
#include "tests/support/thread.h"

Suite *ctki_suite_inbox (void);

enum { PEER = 7, THREADS = 4, FRAMES = 3000, WAKES = 20000, CAPACITY = 16 };

static ctki_sock_t *hearer;
static ctki_bell_t bell;
static ctki_inbox_t inbox;
static ctki_peer_t *peer;
static ctki_flow_t *flow;
static uint64_t local_charge;

static void set_up (void)
{
    ctki_sock_t *ends[2];
    ck_assert_int_eq (ctki_context_ref (1, NULL), 0);
    ck_assert_int_eq (ctki_sock_pair (ends), 0);
    hearer = ends[0];
    ctki_bell_init (&bell, ends[1]);
    ctki_inbox_init (&inbox, &bell);
    peer = ctki_peer_new (PEER, NULL, 0);
    flow = ctki_flow_new (peer, false);
    local_charge = 0;
}

static void tear_down (void)
{
    ctki_flow_release (&inbox, flow);
    ctki_inbox_fini (&inbox);
    ck_assert_uint_eq (atomic_load (&peer->refs), 1);
    ctki_peer_release (peer);
    ctki_bell_fini (&bell);
    ctki_sock_close (&hearer);
    ctki_context_unref ();
}

/* Whether the router was rung since the last time. */
static bool rung (void)
{
    char byte;
    bool was = ctki_pipe_receive (hearer, &byte, 1) == 1;
    if (was)
        ctki_bell_heard (&bell);
    return was;
}

static size_t size_of (int64_t number)
{
    return (size_t) (number * 13 % 90);
}

/* Writes a record with the number; returns its bytes. */
static size_t put_record (uint8_t *at, int64_t number, uint64_t to)
{
    size_t size = size_of (number);
    ctalk_envelope_t envelope = {.msg_id = number, .size = size, .to = to, .from = 5};
    ctki_record_t record = ctki_record_of (&envelope, number % 3 == 0);
    size_t head = ctki_record_put (at, &record);
    memset (at + head, 0, ctki_record_pad (size));
    ctki_payload_fill (at + head, size, PEER, 1, number);
    return head + ctki_record_pad (size);
}

/* A frame with envelopes first ... first + count - 1; every `foreign`-th record besides is for an actor. */
static ctki_inlet_t *run_of (int64_t first, uint32_t count, unsigned foreign)
{
    ctki_buf_t *buf = ctki_buf_new ((size_t) count * 2 * 160);
    size_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (foreign && i % foreign == 0)
            used += put_record (buf->data + used, 1000000, 99);
        used += put_record (buf->data + used, first + i, 0);
    }
    ctki_inlet_t *inlet = ctki_alloc_zero (sizeof *inlet);
    ctki_buf_hold (buf, count - 1);
    *inlet = (ctki_inlet_t){.flow = flow, .buf = buf, .at = buf->data, .left = used, .count = count, .frames = 1};
    return inlet;
}

/* One envelope that has its memory to itself. */
static ctki_inlet_t *one_of (ctki_flow_t *from, int64_t number, uint64_t frames)
{
    size_t size = size_of (number);
    ctki_buf_t *buf = ctki_buf_new (size);
    ctki_payload_fill (buf->data, size, PEER, 1, number);
    ctalk_envelope_t envelope = {.msg_id = number, .size = size, .from = 5};
    ctki_inlet_t *inlet = ctki_alloc_zero (sizeof *inlet);
    *inlet = (ctki_inlet_t){.flow = from,
                            .buf = buf,
                            .at = buf->data,
                            .left = size,
                            .count = 1,
                            .frames = frames,
                            .one = true,
                            .record = ctki_record_of (&envelope, number % 3 == 0)};
    return inlet;
}

static void put (ctki_inlet_t *inlet)
{
    ctki_inbox_put (&inbox, inlet, UINT64_MAX, UINT64_MAX);
}

static bool good (const ctalk_envelope_t *envelope)
{
    int64_t number = envelope->msg_id;
    return envelope->pid == PEER && envelope->kind == CTALK_MESSAGE && envelope->size == size_of (number)
           && (uintptr_t) envelope->data % 8 == 0 && envelope->to == 0 && envelope->from == 5 && envelope->lease
           && envelope->flags == (number % 3 == 0 ? CTALK_WAS_BROADCAST : 0)
           && ctki_payload_ok (envelope->data, envelope->size, PEER, 1, number);
}

static void close_envelope (const ctalk_envelope_t *envelope)
{
    ctki_buf_release (envelope->lease, 1);
}

static int take (ctalk_envelope_t *envelopes, size_t capacity, int timeout_ms)
{
    return ctki_inbox_take (&inbox, envelopes, capacity, timeout_ms, &local_charge);
}

/* Takes until there is nothing, a few at a time; checks numbers from first on; returns the next. */
static int64_t take_all (int64_t next, size_t capacity)
{
    ctalk_envelope_t envelopes[CAPACITY];
    for (int taken; (taken = take (envelopes, capacity, 0)) > 0;) {
        ck_assert_int_le (taken, (int) capacity);
        for (int i = 0; i < taken; i++) {
            ck_assert_int_eq (envelopes[i].msg_id, next++);
            ck_assert (good (&envelopes[i]));
            close_envelope (&envelopes[i]);
        }
    }
    ck_assert_int_eq (errno, EAGAIN);
    return next;
}

/* ---- taking */

/* Runs and single envelopes come out in order, however many are taken at once; those for actors are left out. */
START_TEST (order)
{
    static const size_t capacities[] = {1, 3, CAPACITY};
    set_up ();
    for (int round = 0; round < 3; round++) {
        int64_t next = 1;
        for (int i = 0; i < 30; i++) {
            uint32_t count = i % 3 ? 1 : (uint32_t) i + 1;
            put (i % 3 == 1 ? one_of (flow, next, 1) : run_of (next, count, (unsigned) i % 4));
            next += count;
        }
        ck_assert_int_eq (take_all (1, capacities[round]), next);
    }
    tear_down ();
}
END_TEST

/* An empty inbox is EAGAIN, at once or at the deadline and not before. */
START_TEST (empty)
{
    ctalk_envelope_t envelope;
    set_up ();
    ck_assert_int_eq (take (&envelope, 1, 0), -1);
    ck_assert_int_eq (errno, EAGAIN);
    int64_t end_us = ctki_deadline_us (20);
    errno = 0;
    ck_assert_int_eq (take (&envelope, 1, 20), -1);
    ck_assert_int_eq (errno, EAGAIN);
    ck_assert_int_ge (ctki_now_us (), end_us);
    tear_down ();
}
END_TEST

/* Envelopes stay valid when the run they came in is used up, and when the inbox is gone. */
START_TEST (leases)
{
    ctalk_envelope_t envelopes[CAPACITY];
    set_up ();
    put (run_of (1, 4, 0));
    put (one_of (flow, 5, 1));
    put (run_of (6, 3, 0)); /* of these one is taken, two are dropped with the inbox */
    ck_assert_int_eq (take (envelopes, 6, 0), 6);
    tear_down ();
    for (int i = 5; i >= 0; i--) {
        ck_assert (good (&envelopes[i]));
        ck_assert_int_eq (envelopes[i].msg_id, i + 1);
        close_envelope (&envelopes[i]);
    }
}
END_TEST

/* ---- threads */

static atomic_size_t taken_by_threads;

typedef struct {
    size_t all, capacity;
} hunger_t;

static bool take_share (void *arg, ctki_trouble_t *trouble)
{
    const hunger_t *hunger = arg;
    int64_t last = 0;
    ctalk_envelope_t envelopes[CAPACITY];
    uint64_t charge = 0;
    for (;;) {
        int taken = ctki_inbox_take (&inbox, envelopes, hunger->capacity, ctki_test_long_ms (), &charge);
        if (taken < 0)
            break;
        for (int i = 0; i < taken; i++) {
            CTKI_EXPECT (trouble, good (&envelopes[i]) && envelopes[i].msg_id > last);
            last = envelopes[i].msg_id;
            close_envelope (&envelopes[i]);
        }
        if (atomic_fetch_add (&taken_by_threads, (size_t) taken) + (size_t) taken == hunger->all)
            ctki_inbox_close (&inbox);
    }
    CTKI_EXPECT_EQUAL (trouble, errno, ESHUTDOWN);
    return true;
}

/* Several threads take: each envelope once, ascending in each thread, and no frame leaves a waiting thread asleep. */
START_TEST (threads)
{
    ctki_test_thread_t takers[THREADS];
    size_t frames = ctki_test_count (FRAMES);
    hunger_t hunger = {.capacity = _i ? CAPACITY : 1};
    int64_t next = 1;
    for (size_t i = 0; i < frames; i++)
        hunger.all += i % 5 + 1;
    set_up ();
    atomic_store (&taken_by_threads, 0);
    for (int i = 0; i < THREADS; i++)
        ctki_test_thread_start (&takers[i], take_share, &hunger);
    for (size_t i = 0; i < frames; i++) {
        put (run_of (next, (uint32_t) (i % 5 + 1), 0));
        next += (int64_t) (i % 5 + 1);
    }
    for (int i = 0; i < THREADS; i++)
        ctki_test_thread_join (&takers[i]);
    ck_assert_uint_eq (atomic_load (&taken_by_threads), hunger.all);
    ck_assert_uint_eq (ctki_counted (&peer->consumed), hunger.all);
    ck_assert_uint_eq (flow->consumed, hunger.all);
    ck_assert_uint_eq (flow->frames, frames);
    tear_down ();
}
END_TEST

/* ---- waking */

typedef struct {
    int result, code;
    int64_t msg_id;
} receive_t;

static bool receive (void *arg, ctki_trouble_t *trouble)
{
    receive_t *got = arg;
    ctalk_envelope_t envelope;
    uint64_t charge = 0;
    (void) trouble;
    got->result = ctki_inbox_take (&inbox, &envelope, 1, 6 * ctki_test_long_ms (), &charge);
    got->code = errno;
    if (got->result == 1) {
        got->msg_id = envelope.msg_id;
        close_envelope (&envelope);
    }
    return true;
}

/* Starts `count` receives and waits until all of them sleep. */
static void start_receives (ctki_test_thread_t *receivers, receive_t *got, int count)
{
    for (int i = 0; i < count; i++)
        ctki_test_thread_start (&receivers[i], receive, &got[i]);
    for (int i = 0; i < count; i++)
        ctki_test_thread_await_blocked (&receivers[i]);
    ck_assert_uint_eq (atomic_load (&inbox.gate.waiters), (unsigned) count);
}

/* A frame that comes wakes a waiting receive with its envelope. */
START_TEST (woken_by_frame)
{
    ctki_test_thread_t receiver;
    receive_t got = {0};
    set_up ();
    start_receives (&receiver, &got, 1);
    put (run_of (42, 1, 0));
    ctki_test_thread_join (&receiver);
    ck_assert_int_eq (got.result, 1);
    ck_assert_int_eq (got.msg_id, 42);
    tear_down ();
}
END_TEST

/* A wake when nobody waits is kept for the next receive; several of them are one. */
START_TEST (wake_pending)
{
    ctalk_envelope_t envelope;
    set_up ();
    put (run_of (1, 3, 0));
    for (int i = 0; i < 3; i++)
        ctki_inbox_wake (&inbox);
    ck_assert_int_eq (take (&envelope, 1, -1), -1);
    ck_assert_int_eq (errno, EINTR);
    ck_assert_int_eq (take_all (1, 1), 4); /* nothing was taken by it, and it is over */
    tear_down ();
}
END_TEST

/* As many wakes as threads wait end the waiting of each, once. */
START_TEST (wake_each)
{
    ctki_test_thread_t receivers[THREADS];
    receive_t got[THREADS] = {{0}};
    set_up ();
    for (int round = 0; round < 10; round++) {
        start_receives (receivers, got, THREADS);
        for (int i = 0; i < THREADS; i++) {
            ctki_inbox_wake (&inbox);
            for (int pause = 0; pause < round * 200; pause++)
                atomic_thread_fence (memory_order_seq_cst); /* some of them are awake by then, some are not */
        }
        for (int i = 0; i < THREADS; i++) {
            ctki_test_thread_join_within (&receivers[i], ctki_test_long_ms ());
            ck_assert (got[i].result == -1 && got[i].code == EINTR);
        }
        ck_assert_uint_eq (atomic_load (&inbox.wakes), 0);
    }
    tear_down ();
}
END_TEST

/* One wake ends one of two waiting receives; the other one still gets the next frame. */
START_TEST (wake_one)
{
    ctki_test_thread_t receivers[2];
    receive_t got[2] = {{0}};
    set_up ();
    start_receives (receivers, got, 2);
    ctki_inbox_wake (&inbox);
    int64_t end_ms = ctki_test_now_ms () + ctki_test_long_ms ();
    while (!atomic_load (&receivers[0].done) && !atomic_load (&receivers[1].done))
        ck_assert (ctki_test_now_ms () < end_ms && sched_yield () == 0);
    int left = atomic_load (&receivers[0].done) ? 1 : 0;
    ctki_test_thread_await_blocked (&receivers[left]);
    put (run_of (3, 1, 0));
    for (int i = 0; i < 2; i++)
        ctki_test_thread_join (&receivers[i]);
    ck_assert (got[1 - left].result == -1 && got[1 - left].code == EINTR);
    ck_assert (got[left].result == 1 && got[left].msg_id == 3);
    tear_down ();
}
END_TEST

static atomic_size_t ended; /* receives that a wake ended */

static bool receive_wakes (void *arg, ctki_trouble_t *trouble)
{
    ctalk_envelope_t envelope;
    uint64_t charge = 0;
    (void) arg;
    while (ctki_inbox_take (&inbox, &envelope, 1, ctki_test_long_ms (), &charge) < 0 && errno == EINTR)
        atomic_fetch_add (&ended, 1);
    CTKI_EXPECT_EQUAL (trouble, errno, ESHUTDOWN);
    return true;
}

/* A wake is not lost at whatever moment of a receive it comes: each one ends a receive. */
START_TEST (wake_at_any_time)
{
    ctki_test_thread_t receiver;
    size_t wakes = ctki_test_count (WAKES);
    set_up ();
    atomic_store (&ended, 0);
    ctki_test_thread_start (&receiver, receive_wakes, NULL);
    for (size_t i = 0; i < wakes && !atomic_load (&receiver.done); i++) {
        ctki_inbox_wake (&inbox);
        for (int look = 1; atomic_load (&ended) <= i && !atomic_load (&receiver.done); look++) {
            if (look % 1000 == 0)
                sched_yield ();
        }
    }
    ctki_inbox_close (&inbox);
    ctki_test_thread_join (&receiver);
    ck_assert_uint_eq (atomic_load (&ended), wakes);
    tear_down ();
}
END_TEST

static void do_nothing (int number)
{
    (void) number;
}

/* A signal handler ends a waiting receive with EINTR and takes nothing. */
START_TEST (interrupted)
{
    struct sigaction action = {.sa_handler = do_nothing, .sa_flags = SA_RESTART}, before;
    ctki_test_thread_t receiver;
    receive_t got = {0};
    ck_assert_int_eq (sigaction (SIGUSR1, &action, &before), 0);
    set_up ();
    start_receives (&receiver, &got, 1);
    ctki_test_thread_pester (&receiver, SIGUSR1);
    ctki_test_thread_join (&receiver);
    ck_assert (got.result == -1 && got.code == EINTR);
    tear_down ();
    ck_assert_int_eq (sigaction (SIGUSR1, &before, NULL), 0);
}
END_TEST

/* Closing ends all waiting receives with ESHUTDOWN, and every later one, even if something is there. */
START_TEST (closed)
{
    ctki_test_thread_t receivers[THREADS];
    receive_t got[THREADS] = {{0}};
    ctalk_envelope_t envelope;
    set_up ();
    start_receives (receivers, got, THREADS);
    ctki_inbox_close (&inbox);
    for (int i = 0; i < THREADS; i++) {
        ctki_test_thread_join (&receivers[i]);
        ck_assert (got[i].result == -1 && got[i].code == ESHUTDOWN);
    }
    put (run_of (1, 3, 0));
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq (take (&envelope, 1, -1), -1);
        ck_assert_int_eq (errno, ESHUTDOWN);
        ctki_inbox_wake (&inbox);
    }
    tear_down ();
}
END_TEST

/* ---- the descriptor */

static bool readable (void)
{
    struct pollfd item = {.fd = ctki_inbox_fd (&inbox), .events = POLLIN};
    return poll (&item, 1, 0) == 1;
}

/* The descriptor is one and the same, and readable exactly while something is there, and from closing on. */
START_TEST (descriptor)
{
    ctalk_envelope_t envelope;
    set_up ();
    int fd = ctki_inbox_fd (&inbox);
    ck_assert_int_ge (fd, 0);
    for (int round = 0; round < 3; round++) {
        ck_assert (!readable ());
        put (run_of (1, 2, 0));
        put (one_of (flow, 3, 1));
        for (int i = 0; i < 3; i++) {
            ck_assert (readable () && readable ());
            ck_assert_int_eq (take (&envelope, 1, 0), 1);
            close_envelope (&envelope);
        }
    }
    ck_assert (!readable ());
    ctki_inbox_wake (&inbox);
    ck_assert (!readable ());
    ctki_inbox_close (&inbox);
    ck_assert (readable ());
    put (run_of (1, 1, 0));
    ck_assert (readable ());
    ck_assert_int_eq (ctki_inbox_fd (&inbox), fd);
    tear_down ();
}
END_TEST

/* One that is asked for late is readable if something is there already, or closed already. */
START_TEST (descriptor_late)
{
    set_up ();
    if (_i)
        ctki_inbox_close (&inbox);
    else
        put (run_of (1, 1, 0));
    ck_assert (readable ());
    if (!_i)
        take_all (1, 1);
    ck_assert (readable () == (_i != 0));
    tear_down ();
}
END_TEST

/* ---- flows */

/* A flow counts envelopes, their charge, and frames that are used up. */
START_TEST (flow_counts)
{
    ctki_flow_t figures;
    ctalk_envelope_t envelopes[2];
    set_up ();
    put (run_of (1, 3, 0));
    put (one_of (flow, 4, 5));
    ck_assert_int_eq (take (envelopes, 2, 0), 2);
    close_envelope (&envelopes[0]);
    close_envelope (&envelopes[1]);
    ctki_inbox_read (&inbox, flow, &figures);
    ck_assert (figures.consumed == 2 && figures.frames == 0);
    ck_assert_uint_eq (figures.byte, size_of (1) + size_of (2) + 2 * CTKI_CHARGE_BYTES);
    take_all (3, 2);
    ctki_inbox_skip (&inbox, flow, 10, 1000, 100);
    ctki_inbox_read (&inbox, flow, &figures);
    ck_assert (figures.consumed == 14 && figures.frames == 106);
    ck_assert_uint_eq (figures.byte,
                       size_of (1) + size_of (2) + size_of (3) + size_of (4) + 4 * CTKI_CHARGE_BYTES + 1000);
    ck_assert_uint_eq (ctki_counted (&peer->consumed), 4);
    ck_assert_uint_eq (local_charge, 0);
    tear_down ();
}
END_TEST

/* The charge of what was local is told to whom takes it. */
START_TEST (flow_local)
{
    set_up ();
    ctki_flow_t *local = ctki_flow_new (peer, true);
    put (one_of (local, 1, 0));
    put (one_of (flow, 2, 1));
    put (one_of (local, 3, 0));
    take_all (1, CAPACITY);
    ck_assert_uint_eq (local_charge, size_of (1) + size_of (3) + 2 * CTKI_CHARGE_BYTES);
    ctki_flow_release (&inbox, local);
    tear_down ();
}
END_TEST

/* The router is rung once when consumption reaches what it watches, bytes or frames, and told the figures. */
START_TEST (flow_told)
{
    ctki_flow_t figures;
    ctalk_envelope_t envelope;
    set_up ();
    uint64_t charge = size_of (1) + CTKI_CHARGE_BYTES;
    ctki_inbox_put (&inbox, run_of (1, 4, 0), _i ? UINT64_MAX : charge + 1, _i ? 1 : UINT64_MAX);
    int wake_at = _i ? 4 : 2; /* the frame is used up with its last envelope */
    for (int i = 1; i <= 4; i++) {
        ck_assert_int_eq (take (&envelope, 1, 0), 1);
        close_envelope (&envelope);
        ck_assert (rung () == (i == wake_at));
    }
    ck_assert_ptr_eq (ctki_inbox_told (&inbox, &figures), flow);
    ck_assert (figures.consumed == 4 && figures.frames == 1);
    ck_assert_ptr_null (ctki_inbox_told (&inbox, &figures));
    put (run_of (5, 1, 0)); /* until it is set anew, nobody wants to know */
    take_all (5, 1);
    ck_assert (!rung () && !ctki_inbox_told (&inbox, &figures));
    tear_down ();
}
END_TEST

/* Watching what is consumed already rings at once, and so does skipping up to it. */
START_TEST (flow_watched)
{
    ctki_flow_t figures;
    set_up ();
    ctki_inbox_watch (&inbox, flow, 100, UINT64_MAX);
    ck_assert (!rung ());
    ctki_inbox_skip (&inbox, flow, 1, 100, 1);
    ck_assert (rung ());
    ck_assert_ptr_eq (ctki_inbox_told (&inbox, &figures), flow);
    ctki_inbox_watch (&inbox, flow, UINT64_MAX, 1);
    ck_assert (rung ());
    ck_assert_ptr_eq (ctki_inbox_told (&inbox, &figures), flow);
    ck_assert_uint_eq (figures.byte, 100);
    tear_down ();
}
END_TEST

/* A flow that is given up is not told of any more; its envelopes are still handed out. */
START_TEST (flow_given_up)
{
    ctki_flow_t figures;
    set_up ();
    ctki_inbox_put (&inbox, run_of (1, 3, 0), 0, 0);
    ctki_inbox_watch (&inbox, flow, 0, 0);
    ck_assert (rung ());
    ctki_flow_release (&inbox, flow);
    ck_assert_ptr_null (ctki_inbox_told (&inbox, &figures));
    ck_assert_int_eq (take_all (1, 2), 4);
    ck_assert (!rung () && !ctki_inbox_told (&inbox, &figures));
    flow = NULL;
    tear_down ();
}
END_TEST

/* Without memory there is no flow, and no peer is held. */
START_TEST (flow_no_memory)
{
    set_up ();
    ctki_mem_fail (0, 1);
    ck_assert_ptr_null (ctki_flow_new (peer, false));
    ctki_mem_fail (-1, 0);
    tear_down ();
}
END_TEST

/* ---- events */

/* Puts an event about a peer; its number is its incarnation. */
static void put_event_of (ctki_peer_t *about, ctalk_kind_t kind, uint64_t number)
{
    ctalk_event_t event = {.incarnation = number};
    ctki_inlet_t *inlet = ctki_inlet_event (about, kind, &event, NULL);
    ck_assert_ptr_nonnull (inlet);
    ctki_inbox_put_event (&inbox, inlet);
}

static void put_event (ctalk_kind_t kind, uint64_t number)
{
    put_event_of (peer, kind, number);
}

/* Takes the next one, which is this event, or, for CTALK_MESSAGE, the envelope with that number. */
static void expect_next (ctalk_kind_t kind, uint64_t number)
{
    ctalk_envelope_t envelope;
    ck_assert_int_eq (take (&envelope, 1, 0), 1);
    ck_assert_int_eq (envelope.kind, kind);
    ck_assert_int_eq (envelope.pid, PEER);
    if (kind == CTALK_MESSAGE)
        ck_assert_int_eq (envelope.msg_id, (int64_t) number);
    else {
        const ctalk_event_t *event = envelope.data;
        ck_assert_uint_eq (envelope.size, sizeof *event);
        ck_assert_uint_eq ((uintptr_t) envelope.data % 8, 0);
        ck_assert_uint_eq (event->incarnation, number);
        ck_assert_uint_eq (event->fates, 0);
        ck_assert_ptr_null (event->fate);
        ck_assert (envelope.to == 0 && envelope.from == 0 && envelope.msg_id == 0 && envelope.flags == 0);
    }
    close_envelope (&envelope);
}

static void expect_no_more (void)
{
    ctalk_envelope_t envelope;
    ck_assert_int_eq (take (&envelope, 1, 0), -1);
    ck_assert_int_eq (errno, EAGAIN);
}

/* Of states of a peer with nothing of it between them the newest is kept, where the first stood; with something of it
 * between them all are. */
START_TEST (states_collapse)
{
    static const ctalk_kind_t states[] = {CTALK_PEER_UP, CTALK_PEER_SUSPECT, CTALK_PEER_DOWN};
    set_up ();
    for (uint64_t i = 0; i < 9; i++)
        put_event (states[i % 3], i);
    put (run_of (1, 2, 0));
    put_event (CTALK_PEER_UP, 10);
    put_event (CTALK_PEER_SUSPECT, 11);
    put (one_of (flow, 3, 1));
    put_event (CTALK_PEER_UP, 12);
    put_event (CTALK_PEER_LEFT, 13);
    put_event (CTALK_PEER_DOWN, 14);
    expect_next (CTALK_PEER_DOWN, 8);
    expect_next (CTALK_MESSAGE, 1);
    expect_next (CTALK_MESSAGE, 2);
    expect_next (CTALK_PEER_SUSPECT, 11);
    expect_next (CTALK_MESSAGE, 3);
    expect_next (CTALK_PEER_UP, 12);
    expect_next (CTALK_PEER_LEFT, 13);
    expect_next (CTALK_PEER_DOWN, 14);
    expect_no_more ();
    tear_down ();
}
END_TEST

/* A state that was taken is not changed any more: the next one comes, too. */
START_TEST (taken_states_stay)
{
    ctalk_envelope_t kept;
    set_up ();
    put_event (CTALK_PEER_UP, 1);
    ck_assert_int_eq (take (&kept, 1, 0), 1);
    put_event (CTALK_PEER_DOWN, 2);
    ck_assert_int_eq (kept.kind, CTALK_PEER_UP);
    ck_assert_uint_eq (((const ctalk_event_t *) kept.data)->incarnation, 1);
    close_envelope (&kept);
    expect_next (CTALK_PEER_DOWN, 2);
    expect_no_more ();
    tear_down ();
}
END_TEST

/* The others never collapse, however many there are in a row. */
START_TEST (others_never_collapse)
{
    static const ctalk_kind_t kinds[]
        = {CTALK_PEER_RESTARTED, CTALK_PEER_LEFT, CTALK_PEER_STUCK, CTALK_PEER_REFUSED, CTALK_PEER_ABANDONED};
    set_up ();
    for (uint64_t i = 0; i < 50; i++)
        put_event (kinds[i / 2 % 5], i); /* two of each in a row */
    for (uint64_t i = 0; i < 50; i++)
        expect_next (kinds[i / 2 % 5], i);
    expect_no_more ();
    tear_down ();
}
END_TEST

/* What another peer sends or does between two states of one peer is none of its business: they collapse all the same. */
START_TEST (states_of_two_peers)
{
    set_up ();
    ctki_peer_t *other = ctki_peer_new (PEER, NULL, 0);
    put_event (CTALK_PEER_UP, 1);
    put_event_of (other, CTALK_PEER_UP, 2);
    ctki_flow_t *theirs = ctki_flow_new (other, false);
    put (one_of (theirs, 1, 1));
    put_event (CTALK_PEER_DOWN, 3);
    put_event_of (other, CTALK_PEER_DOWN, 4);
    expect_next (CTALK_PEER_DOWN, 3);
    expect_next (CTALK_PEER_UP, 2);
    expect_next (CTALK_MESSAGE, 1);
    expect_next (CTALK_PEER_DOWN, 4);
    expect_no_more ();
    ctki_flow_release (&inbox, theirs);
    ck_assert_uint_eq (atomic_load (&other->refs), 1);
    ctki_peer_release (other);
    tear_down ();
}
END_TEST

/* Events move no figure, take nobody's room and ring nobody. */
START_TEST (events_are_not_counted)
{
    ctki_flow_t figures;
    set_up ();
    ctki_inbox_watch (&inbox, flow, 1, 1);
    put_event (CTALK_PEER_UP, 1);
    put_event (CTALK_PEER_LEFT, 2);
    expect_next (CTALK_PEER_UP, 1);
    expect_next (CTALK_PEER_LEFT, 2);
    ck_assert (!rung ());
    ctki_inbox_read (&inbox, flow, &figures);
    ck_assert (figures.consumed == 0 && figures.byte == 0 && figures.frames == 0);
    ck_assert_uint_eq (ctki_counted (&peer->consumed), 0);
    ck_assert_uint_eq (local_charge, 0);
    tear_down ();
}
END_TEST

/* Several are taken at once, events among envelopes. */
START_TEST (events_many_at_once)
{
    ctalk_envelope_t envelopes[CAPACITY];
    set_up ();
    put_event (CTALK_PEER_UP, 1);
    put (run_of (1, 3, 0));
    put_event (CTALK_PEER_LEFT, 2);
    put_event (CTALK_PEER_RESTARTED, 3);
    put (one_of (flow, 4, 1));
    ck_assert_int_eq (take (envelopes, CAPACITY, 0), 7);
    static const ctalk_kind_t kinds[] = {CTALK_PEER_UP, CTALK_MESSAGE, CTALK_MESSAGE, CTALK_MESSAGE, CTALK_PEER_LEFT,
                                         CTALK_PEER_RESTARTED, CTALK_MESSAGE};
    for (int i = 0; i < 7; i++) {
        ck_assert_int_eq (envelopes[i].kind, kinds[i]);
        close_envelope (&envelopes[i]);
    }
    ck_assert_uint_eq (flow->consumed, 4);
    tear_down ();
}
END_TEST

/* The descriptor is readable while an event is there, also one that took the place of another; not after the last. */
START_TEST (descriptor_of_events)
{
    set_up ();
    ck_assert (!readable ());
    put_event (CTALK_PEER_UP, 1);
    put_event (CTALK_PEER_DOWN, 2);
    ck_assert (readable () && readable ());
    expect_next (CTALK_PEER_DOWN, 2);
    ck_assert (!readable ());
    put_event (CTALK_PEER_UP, 3);
    put (one_of (flow, 1, 1));
    expect_next (CTALK_PEER_UP, 3);
    ck_assert (readable ());
    expect_next (CTALK_MESSAGE, 1);
    ck_assert (!readable ());
    tear_down ();
}
END_TEST

/* An event wakes one waiting receive. */
START_TEST (woken_by_event)
{
    ctki_test_thread_t receiver;
    receive_t got = {0};
    set_up ();
    start_receives (&receiver, &got, 1);
    put_event (CTALK_PEER_LEFT, 1);
    ctki_test_thread_join (&receiver);
    ck_assert_int_eq (got.result, 1);
    ck_assert_int_eq (got.msg_id, 0);
    expect_no_more ();
    tear_down ();
}
END_TEST

static ctki_obit_t *obit_of (uint64_t first, size_t count, uint64_t received, uint64_t carried)
{
    ctki_obit_t *obit = ctki_alloc_zero (sizeof *obit + count * sizeof obit->fate[0]);
    ck_assert_ptr_nonnull (obit);
    *obit = (ctki_obit_t){.consumed = first, .received = received, .in_doubt = count - received, .carried = carried,
                          .count = count};
    for (size_t i = 0; i < count; i++)
        obit->fate[i] = (ctalk_fate_t){.msg_id = (int64_t) (first + i), .ordinal = first + i, .kind = CTALK_RECEIVED};
    return obit;
}

/* The fates of a restart are the event's own memory: those of several sessions one after the other, good as long as the
 * event is open, whoever is gone. */
START_TEST (fates)
{
    ctalk_envelope_t envelope;
    ctalk_event_t event = {.incarnation = 2, .old_incarnation = 1};
    set_up ();
    ctki_obit_t *first = obit_of (10, 5, 3, 100), *second = obit_of (15, 4, 0, 7);
    first->next = second;
    ctki_inlet_t *inlet = ctki_inlet_event (peer, CTALK_PEER_RESTARTED, &event, first);
    ck_assert_ptr_nonnull (inlet);
    ctki_free (first);
    ctki_free (second);
    ctki_inbox_put_event (&inbox, inlet);
    ck_assert_int_eq (take (&envelope, 1, 0), 1);
    tear_down ();
    const ctalk_event_t *got = envelope.data;
    ck_assert (got->incarnation == 2 && got->old_incarnation == 1);
    ck_assert (got->consumed == 25 && got->received == 3 && got->in_doubt == 6);
    ck_assert_uint_eq (got->carried, 7); /* what the first left is in the second's figures */
    ck_assert_uint_eq (got->fates, 9);
    for (size_t i = 0; i < 9; i++) {
        ck_assert_int_eq (got->fate[i].msg_id, (int64_t) (10 + i));
        ck_assert_uint_eq (got->fate[i].ordinal, 10 + i);
    }
    close_envelope (&envelope);
}
END_TEST

/* Closing with events inside: receives fail as ever, and what lies there is freed, with its fates and its peers. */
START_TEST (closed_with_events)
{
    ctalk_envelope_t envelope;
    ctalk_event_t event = {0};
    set_up ();
    ctki_obit_t *obit = obit_of (1, 3, 3, 0);
    put_event (CTALK_PEER_UP, 1);
    ctki_inbox_put_event (&inbox, ctki_inlet_event (peer, CTALK_PEER_RESTARTED, &event, obit));
    ctki_free (obit);
    put (run_of (1, 2, 0));
    put_event (CTALK_PEER_DOWN, 2);
    ctki_inbox_close (&inbox);
    put_event (CTALK_PEER_UP, 3);
    put_event (CTALK_PEER_LEFT, 4);
    ck_assert_int_eq (take (&envelope, 1, -1), -1);
    ck_assert_int_eq (errno, ESHUTDOWN);
    tear_down (); /* nobody holds the peer any more */
}
END_TEST

/* Without memory there is no event and nobody is held; one that is not put gives back what it held. */
START_TEST (event_no_memory)
{
    ctalk_event_t event = {0};
    long k = 0;
    set_up ();
    ctki_obit_t *obit = obit_of (1, 3, 3, 0);
    ctki_inlet_t *inlet = NULL;
    unsigned refs = atomic_load (&peer->refs);
    for (; !inlet; k++) {
        ck_assert_uint_eq (atomic_load (&peer->refs), refs);
        ctki_mem_fail (k, 1);
        inlet = ctki_inlet_event (peer, CTALK_PEER_RESTARTED, &event, obit);
        ctki_mem_fail (-1, 0);
    }
    ck_assert_int_eq (k, 3); /* two allocations */
    ck_assert_uint_eq (atomic_load (&peer->refs), refs + 1);
    ctki_inlet_destroy (&inbox, inlet);
    ctki_free (obit);
    tear_down ();
}
END_TEST

static bool begin_nothing (void *self)
{
    (void) self;
    return false;
}

static bool is_readable (int fd)
{
    struct pollfd item = {.fd = fd, .events = POLLIN};
    return poll (&item, 1, 0) == 1;
}

/* Who rouses the leader says so first and writes its descriptor then. If the leader is awake by that time, for another
 * reason, one sleep of it is a short one, and no more. */
START_TEST (roused_late)
{
    static const ctki_lead_ops_t ops = {.begin = begin_nothing};
    uint64_t one = 1;
    set_up ();
    ck_assert_int_eq (ctki_inbox_accept_leaders (&inbox, &ops, NULL), 0);
    for (int late = 0; late < 3; late++) {
        ck_assert (ctki_inbox_doze (&inbox));
        ck_assert (!is_readable (inbox.lead_fd));
        ck_assert (atomic_exchange (&inbox.dozing, false)); /* a thread that rouses it gets so far, ... */
        ctki_inbox_awake (&inbox);
        if (late == 1) { /* and a second one is in time */
            ck_assert (ctki_inbox_doze (&inbox));
            ctki_inbox_wake (&inbox);
            ctki_inbox_awake (&inbox);
            atomic_store (&inbox.wakes, 0);
        }
        ck_assert_int_eq (write (inbox.lead_fd, &one, sizeof one), sizeof one); /* ... and goes on */
        ck_assert (ctki_inbox_doze (&inbox));
        ck_assert (is_readable (inbox.lead_fd));
        ctki_inbox_awake (&inbox);
        ck_assert_msg (!is_readable (inbox.lead_fd), "the leader never sleeps again");
    }
    tear_down ();
}
END_TEST

Suite *ctki_suite_inbox (void)
{
    Suite *suite = suite_create ("inbox");
    TCase *tcase = ctki_leaks_tcase ("inbox", 60);
    tcase_add_test (tcase, order);
    tcase_add_test (tcase, empty);
    tcase_add_test (tcase, leases);
    tcase_add_loop_test (tcase, threads, 0, 2);
    tcase_add_test (tcase, woken_by_frame);
    tcase_add_test (tcase, wake_pending);
    tcase_add_test (tcase, wake_each);
    tcase_add_test (tcase, wake_one);
    tcase_add_test (tcase, wake_at_any_time);
    tcase_add_test (tcase, interrupted);
    tcase_add_test (tcase, closed);
    tcase_add_test (tcase, descriptor);
    tcase_add_loop_test (tcase, descriptor_late, 0, 2);
    tcase_add_test (tcase, flow_counts);
    tcase_add_test (tcase, flow_local);
    tcase_add_loop_test (tcase, flow_told, 0, 2);
    tcase_add_test (tcase, flow_watched);
    tcase_add_test (tcase, flow_given_up);
    tcase_add_test (tcase, flow_no_memory);
    tcase_add_test (tcase, states_collapse);
    tcase_add_test (tcase, taken_states_stay);
    tcase_add_test (tcase, others_never_collapse);
    tcase_add_test (tcase, states_of_two_peers);
    tcase_add_test (tcase, events_are_not_counted);
    tcase_add_test (tcase, events_many_at_once);
    tcase_add_test (tcase, descriptor_of_events);
    tcase_add_test (tcase, woken_by_event);
    tcase_add_test (tcase, fates);
    tcase_add_test (tcase, closed_with_events);
    tcase_add_test (tcase, event_no_memory);
    tcase_add_test (tcase, roused_late);
    suite_add_tcase (suite, tcase);
    return suite;
}
