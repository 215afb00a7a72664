/*
 * test_sock.c - sockets over tcp and ipc, with ports and names that the system
 * chooses. Waiting is for readiness, with a deadline. All but the last section
 * holds for the queue sockets of tests/support, too.
 */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#ifndef CTKI_QUEUE_SOCKETS
#include <zmq.h>
#endif

#include "src/mem.h"
#include "src/sock.h"
#include "tests/support/leaks.h"
#include "tests/support/payload.h"
#include "tests/support/ports.h"
#include "tests/support/scale.h"
#include "tests/support/thread.h"

Suite *ctki_suite_sock (void);

enum { TCP, IPC, TRANSPORTS, LARGE = 50000, ENDPOINT = 256, AGAIN = 20 };

static const ctki_sock_options_t options = {
    .send_frames = 100, .receive_frames = 100, .frame_bytes = 65536, .backlog = 10, .domain = "test"};

static ctki_sock_t *router, *dealer;
static char directory[64], bound[ENDPOINT];

static void set_up (int transport)
{
    char endpoint[ENDPOINT] = "tcp://127.0.0.1:*";
    ck_assert_int_eq (ctki_context_ref (1, NULL), 0);
    directory[0] = 0;
    if (transport == IPC) {
        snprintf (directory, sizeof directory, "/tmp/ctalk-test-XXXXXX");
        ck_assert_ptr_nonnull (mkdtemp (directory));
        snprintf (endpoint, sizeof endpoint, "ipc://%s/sock", directory);
    }
    router = ctki_sock_router (&options);
    dealer = ctki_sock_dealer (&options);
    ck_assert (router && dealer);
    ck_assert_int_eq (ctki_sock_bind (router, endpoint, bound, sizeof bound), 0);
}

static void tear_down (void)
{
    ctki_sock_close (&dealer);
    ctki_sock_close (&router);
    ctki_context_unref ();
    if (directory[0]) {
        char path[ENDPOINT];
        snprintf (path, sizeof path, "%s/sock", directory);
        (void) unlink (path);
        ck_assert_int_eq (rmdir (directory), 0);
    }
}

/* Waits until the socket is ready for that. */
static void await (ctki_sock_t *sock, unsigned what)
{
    int64_t end_ms = ctki_test_now_ms () + ctki_test_long_ms ();
    while (!(ctki_sock_events (sock) & what)) {
        struct pollfd item = {.fd = ctki_sock_fd (sock), .events = POLLIN};
        ck_assert_msg (ctki_test_now_ms () < end_ms, "a socket does not get ready");
        (void) poll (&item, 1, 100);
    }
}

static void receive (ctki_sock_t *sock, ctki_message_t *message)
{
    await (sock, CTKI_READABLE);
    ck_assert_int_eq (ctki_sock_receive (sock, message), 0);
}

static void send_text (ctki_sock_t *sock, uint64_t rid, const char *text)
{
    ctki_part_t part = {.data = text, .size = strlen (text)};
    await (sock, CTKI_WRITABLE);
    ck_assert_int_eq (ctki_sock_send (sock, rid, &part, 1), 0);
}

static bool is_text (const ctki_message_t *message, int part, const char *text)
{
    return message->size[part] == strlen (text) && memcmp (message->data[part], text, strlen (text)) == 0;
}

/* Connects the dealer and makes it known to the router; returns its connection's number. */
static uint64_t connect_dealer (void)
{
    ctki_message_t message;
    ck_assert_int_eq (ctki_sock_connect (dealer, bound), 0);
    send_text (dealer, 0, "hello");
    receive (router, &message);
    ck_assert (message.count == 1 && is_text (&message, 0, "hello") && message.rid != 0);
    uint64_t rid = message.rid;
    ctki_message_close (&message);
    return rid;
}

/* ---- messages */

/* Messages of one and of two parts go there and back, whole and in order, copied and shared ones. */
START_TEST (round_trip)
{
    ctki_message_t message;
    set_up (_i);
    uint64_t rid = connect_dealer ();
    ctki_buf_t *buf = ctki_buf_new (LARGE);
    ctki_payload_fill (buf->data, LARGE, 1, 2, 3);
    for (int way = 0; way < 2; way++) {
        ctki_sock_t *from = way ? router : dealer, *to = way ? dealer : router;
        ctki_part_t parts[2] = {{.data = "head", .size = 4}, {.data = buf->data, .size = LARGE, .buf = buf}};
        await (from, CTKI_WRITABLE);
        ck_assert_int_eq (ctki_sock_send (from, rid, parts, 2), 0);
        send_text (from, rid, "");
        send_text (from, rid, "one");
        receive (to, &message);
        ck_assert (message.count == 2 && is_text (&message, 0, "head") && message.rid == (way ? 0 : rid));
        ck_assert (message.size[1] == LARGE && ctki_payload_ok (message.data[1], LARGE, 1, 2, 3));
        ctki_message_close (&message);
        receive (to, &message);
        ck_assert (message.count == 1 && message.size[0] == 0);
        ctki_message_close (&message);
        receive (to, &message);
        ck_assert (message.count == 1 && is_text (&message, 0, "one"));
        ctki_message_close (&message);
        ck_assert_int_eq (ctki_sock_receive (to, &message), -1);
        ck_assert_int_eq (errno, EAGAIN);
    }
    tear_down (); /* libzmq has let go of the buf then at the latest */
    ck_assert_uint_eq (atomic_load (&buf->refs), 1);
    ctki_buf_release (buf, 1);
}
END_TEST

static void nothing (int signal_number)
{
    (void) signal_number;
}

static atomic_bool pestered;

static bool pester (void *arg, ctki_trouble_t *trouble)
{
    (void) trouble;
    while (!atomic_load (&pestered)) {
        (void) pthread_kill (*(const pthread_t *) arg, SIGUSR1);
        sched_yield ();
    }
    return true;
}

/* Sends or receives when there is room or something; nothing else ends a call. */
static void send_row (ctki_sock_t *sock, uint64_t rid, int64_t number)
{
    ctki_part_t parts[2] = {{.data = &number, .size = sizeof number}, {.data = "tail", .size = 4}};
    int64_t end_ms = ctki_test_now_ms () + ctki_test_long_ms ();
    while (ctki_sock_send (sock, rid, parts, 2)) {
        ck_assert_msg (errno == EAGAIN, "a send fails: %s", strerror (errno));
        ck_assert (ctki_test_now_ms () < end_ms);
    }
}

static void receive_row (ctki_sock_t *sock, uint64_t rid, int64_t number)
{
    ctki_message_t message;
    int64_t end_ms = ctki_test_now_ms () + ctki_test_long_ms ();
    while (ctki_sock_receive (sock, &message)) {
        ck_assert_msg (errno == EAGAIN, "a receive fails: %s", strerror (errno));
        ck_assert (ctki_test_now_ms () < end_ms);
    }
    ck_assert_msg (message.count == 2 && message.rid == rid && is_text (&message, 1, "tail")
                       && memcmp (message.data[0], &number, sizeof number) == 0,
                   "message %d is spoiled: %d parts, connection %d", (int) number, message.count, (int) message.rid);
    ctki_message_close (&message);
}

/* Threads of the application use sockets, too: signals that hit them end no call, and spoil no message. */
START_TEST (signals)
{
    enum { AT_ONCE = 60 };
    struct sigaction action = {.sa_handler = nothing}, old;
    pthread_t self = pthread_self ();
    ctki_test_thread_t thread;
    set_up (TCP);
    uint64_t rid = connect_dealer ();
    ck_assert_int_eq (sigaction (SIGUSR1, &action, &old), 0);
    atomic_store (&pestered, false);
    ctki_test_thread_start (&thread, pester, &self);
    int64_t count = (int64_t) ctki_test_count (2000);
    for (int64_t i = 0; i < count; i++)
        for (int way = 0; way < 2; way++) {
            for (int64_t j = 0; j < AT_ONCE; j++)
                send_row (way ? router : dealer, way ? rid : 0, i + j);
            for (int64_t j = 0; j < AT_ONCE; j++)
                receive_row (way ? dealer : router, way ? 0 : rid, i + j);
        }
    atomic_store (&pestered, true);
    ctki_test_thread_join (&thread);
    ck_assert_int_eq (sigaction (SIGUSR1, &old, NULL), 0);
    tear_down ();
}
END_TEST

static void never (void *data, void *hint)
{
    (void) data;
    (void) hint;
    ck_abort_msg ("freed");
}

/* An owned payload is counted as libzmq's until libzmq lets go of it; it is not freed on libzmq's thread. */
START_TEST (owned)
{
    static char bytes[LARGE];
    ctki_limbo_t limbo;
    ctki_message_t message;
    ctki_limbo_init (&limbo);
    set_up (TCP);
    uint64_t rid = connect_dealer ();
    ctki_buf_t *buf = ctki_buf_own (bytes, LARGE, never, NULL, &limbo);
    ctki_part_t part = {.data = bytes, .size = LARGE, .buf = buf};
    ck_assert_int_eq (ctki_sock_send (dealer, 0, &part, 1), 0);
    receive (router, &message);
    ck_assert (message.rid == rid && message.size[0] == LARGE);
    ctki_message_close (&message);
    errno = 0;
    ck_assert_int_eq (ctki_sock_send (router, rid ^ 1, &part, 1), -1); /* nothing is left of a send that failed */
    ck_assert_int_eq (errno, EHOSTUNREACH);
    tear_down ();
    ck_assert_uint_eq (atomic_load (&buf->io_refs), 0);
    ck_assert_uint_eq (atomic_load (&buf->refs), 1);
    ctki_buf_disown (buf);
    ctki_limbo_fini (&limbo);
}
END_TEST

/* Sending to a connection that is not there is EHOSTUNREACH, and takes no reference. */
START_TEST (unreachable)
{
    set_up (_i);
    ctki_buf_t *buf = ctki_buf_new (LARGE);
    ctki_part_t parts[2] = {{.data = "head", .size = 4}, {.data = buf->data, .size = LARGE, .buf = buf}};
    uint64_t rid = connect_dealer ();
    errno = 0;
    ck_assert_int_eq (ctki_sock_send (router, rid + 1, parts, 2), -1);
    ck_assert_int_eq (errno, EHOSTUNREACH);
    ctki_sock_close (&dealer);
    int64_t end_ms = ctki_test_now_ms () + ctki_test_long_ms ();
    while (ctki_sock_send (router, rid, parts, 1) == 0) {
        ck_assert (ctki_test_now_ms () < end_ms);
        (void) ctki_sock_events (router);
        (void) poll (NULL, 0, 1);
    }
    ck_assert_int_eq (errno, EHOSTUNREACH);
    ck_assert_uint_eq (atomic_load (&buf->refs), 1);
    ctki_buf_release (buf, 1);
    tear_down ();
}
END_TEST

/* A dealer that is not connected has no room: EAGAIN, and no reference is taken. */
START_TEST (no_connection)
{
    set_up (TCP);
    ctki_buf_t *buf = ctki_buf_new (LARGE);
    ctki_part_t part = {.data = buf->data, .size = LARGE, .buf = buf};
    ck_assert (!(ctki_sock_events (dealer) & CTKI_WRITABLE));
    errno = 0;
    ck_assert_int_eq (ctki_sock_send (dealer, 0, &part, 1), -1);
    ck_assert_int_eq (errno, EAGAIN);
    ck_assert_uint_eq (atomic_load (&buf->refs), 1);
    ctki_buf_release (buf, 1);
    tear_down ();
}
END_TEST

/* ---- leases */

/* A leased part outlives its message and its socket; small ones are copied, all are aligned; no memory leaves it there.
 */
START_TEST (outlived)
{
    static const size_t sizes[] = {0, 1, 100, CTKI_LEASE_BYTES, CTKI_LEASE_BYTES + 1, LARGE};
    ctki_buf_t *leases[6];
    static uint8_t bytes[LARGE];
    ctki_message_t message;
    set_up (_i);
    uint64_t rid = connect_dealer ();
    for (int i = 0; i < 6; i++) {
        ctki_part_t parts[2] = {{.data = "head", .size = 4}, {.data = bytes, .size = sizes[i]}};
        ctki_payload_fill (bytes, sizes[i], 1, 2, i);
        await (dealer, CTKI_WRITABLE);
        ck_assert_int_eq (ctki_sock_send (dealer, rid, parts, 2), 0);
        receive (router, &message);
        const void *where = message.data[1];
        ctki_mem_fail (0, 1);
        ck_assert_ptr_null (ctki_message_lease (&message, 1));
        ctki_mem_fail (-1, 0);
        ck_assert (ctki_payload_ok (message.data[1], sizes[i], 1, 2, i));
        leases[i] = ctki_message_lease (&message, 1);
        ck_assert (leases[i] && leases[i]->size == sizes[i] && !leases[i]->owned);
        if (sizes[i] <= CTKI_LEASE_BYTES)
            ck_assert_ptr_ne (leases[i]->data, where);
        else if ((uintptr_t) where % 8 == 0)
            ck_assert_ptr_eq (leases[i]->data, where); /* as it came, not a copy of it */
        ctki_message_close (&message);
    }
    tear_down ();
    for (int i = 0; i < 6; i++) {
        ck_assert ((uintptr_t) leases[i]->data % 8 == 0);
        ck_assert (ctki_payload_ok (leases[i]->data, leases[i]->size, 1, 2, i));
        ctki_buf_release (leases[i], 1);
    }
}
END_TEST

/* ---- binding */

/* A port that was given back can be bound again at once, with connections there and without. */
START_TEST (unbind)
{
    static ctki_ports_t ports;
    char again[ENDPOINT];
    set_up (_i);
    if (_i == TCP) { /* a port of the system's choice may be somebody's the moment it is free */
        ctki_ports_take (&ports, 1);
        ctki_sock_unbind (router, bound, ctki_test_long_ms ());
        snprintf (again, sizeof again, "tcp://127.0.0.1:%u", (unsigned) ports.port[0]);
        ck_assert_int_eq (ctki_sock_bind (router, again, bound, sizeof bound), 0);
    }
    (void) connect_dealer ();
    for (int i = 0; i < AGAIN; i++) {
        ctki_sock_unbind (router, bound, ctki_test_long_ms ());
        int rc = ctki_sock_bind (router, bound, again, sizeof again);
        ck_assert_msg (rc == 0, "%s could not be bound again: %s", bound, strerror (errno));
        ck_assert_str_eq (again, bound);
    }
    ctki_sock_t *other = ctki_sock_router (&options);
    if (_i == TCP) { /* libzmq takes an ipc name from whom has it */
        ck_assert_int_eq (ctki_sock_bind (other, bound, again, sizeof again), -1);
        ck_assert_int_eq (errno, EADDRINUSE);
    }
    ctki_sock_unbind (router, bound, ctki_test_long_ms ());
    ck_assert_int_eq (ctki_sock_bind (other, bound, again, sizeof again), 0);
    ctki_sock_close (&other);
    tear_down ();
    if (_i == TCP)
        ctki_ports_release (&ports);
}
END_TEST

/* What cannot be bound or connected to is -1 with its reason. */
START_TEST (bad_endpoints)
{
    char again[ENDPOINT];
    set_up (TCP);
    ck_assert_int_eq (ctki_sock_bind (router, "tcp://192.0.2.1:*", again, sizeof again), -1);
    ck_assert_int_ne (errno, 0);
    ck_assert_int_eq (ctki_sock_bind (router, "ipc:///nowhere/at/all", again, sizeof again), -1);
    ck_assert_int_eq (ctki_sock_connect (dealer, "nothing"), -1);
    ck_assert_int_eq (ctki_sock_disconnect (dealer, "tcp://127.0.0.1:1"), -1);
    tear_down ();
}
END_TEST

/* ---- the monitor */

static ctki_link_t next_event (ctki_sock_t *monitor)
{
    await (monitor, CTKI_READABLE);
    return ctki_sock_monitor_next (monitor);
}

/* The monitor says when a connection is there and when it is lost, again after the other side came back. */
START_TEST (monitor)
{
    char again[ENDPOINT];
    set_up (_i);
    ctki_sock_t *watch = ctki_sock_monitor (dealer);
    ck_assert_ptr_nonnull (watch);
    ck_assert_int_eq (ctki_sock_monitor_next (watch), CTKI_LINK_NONE);
    ck_assert_int_eq (ctki_sock_connect (dealer, bound), 0);
    for (int round = 0; round < 2; round++) {
        ck_assert_int_eq (next_event (watch), CTKI_LINK_UP);
        ck_assert_int_eq (ctki_sock_monitor_next (watch), CTKI_LINK_NONE);
        ctki_sock_unbind (router, bound, ctki_test_long_ms ());
        ctki_sock_close (&router);
        ck_assert_int_eq (next_event (watch), CTKI_LINK_DOWN);
        router = ctki_sock_router (&options);
        ck_assert_int_eq (ctki_sock_bind (router, bound, again, sizeof again), 0);
    }
    ctki_sock_close (&dealer); /* before its monitor */
    ctki_sock_close (&watch);
    tear_down ();
}
END_TEST

/* A dealer that takes the place of one just closed can be watched at once. */
START_TEST (monitor_again)
{
    set_up (TCP);
    for (int i = 0; i < 10 * AGAIN; i++) {
        ctki_sock_t *watch = ctki_sock_monitor (dealer);
        ck_assert_msg (watch != NULL, "the %d-th: %s", i, strerror (errno));
        ctki_sock_close (&dealer);
        ctki_sock_close (&watch);
        dealer = ctki_sock_dealer (&options);
        ck_assert_ptr_nonnull (dealer);
    }
    tear_down ();
}
END_TEST

/* A part that is larger than allowed costs its sender the connection, and the receiver nothing. */
START_TEST (too_large)
{
    static uint8_t bytes[65536 + 1];
    ctki_message_t message;
    set_up (_i);
    ctki_sock_t *watch = ctki_sock_monitor (dealer);
    (void) connect_dealer ();
    ck_assert_int_eq (next_event (watch), CTKI_LINK_UP);
    ctki_part_t part = {.data = bytes, .size = 65536};
    ck_assert_int_eq (ctki_sock_send (dealer, 0, &part, 1), 0);
    receive (router, &message);
    ck_assert_uint_eq (message.size[0], 65536);
    ctki_message_close (&message);
    part.size++;
    ck_assert_int_eq (ctki_sock_send (dealer, 0, &part, 1), 0);
    ck_assert_int_eq (next_event (watch), CTKI_LINK_DOWN);
    ck_assert_int_eq (ctki_sock_receive (router, &message), -1);
    ctki_sock_close (&dealer);
    ctki_sock_close (&watch);
    tear_down ();
}
END_TEST

/* ---- no memory */

/* Without memory no socket is made, and nothing is left behind. */
START_TEST (no_memory)
{
    ctki_sock_t *ends[2];
    ck_assert_int_eq (ctki_context_ref (1, NULL), 0);
    for (long after = 0; after < 2; after++) {
        ctki_mem_fail (after, 1);
        errno = 0;
        ck_assert_int_eq (ctki_sock_pair (ends), -1);
        ck_assert_int_eq (errno, ENOMEM);
        ck_assert (!ends[0] && !ends[1]);
    }
    ctki_mem_fail (0, 2);
    ck_assert_ptr_null (ctki_sock_router (&options));
    ck_assert_ptr_null (ctki_sock_dealer (&options));
    ctki_mem_fail (-1, 0);
    ctki_context_unref ();
}
END_TEST

/* ---- libzmq itself: the context, which is threads, and strangers */

#ifndef CTKI_QUEUE_SOCKETS

static bool so_many_threads (void *arg)
{
    return ctki_leaks_threads () == *(const size_t *) arg;
}

/* There is one context, from the first reference to the last; then a new one can be made. */
START_TEST (context)
{
    size_t before = ctki_leaks_threads ();
    for (int round = 0; round < 2; round++) {
        ctki_sock_t *ends[2];
        ck_assert_int_eq (ctki_context_ref (1, NULL), 0);
        ck_assert_int_eq (ctki_sock_pair (ends), 0);
        size_t threads = ctki_leaks_threads ();
        ck_assert_uint_gt (threads, before);
        ck_assert_int_eq (ctki_context_ref (4, NULL), 0);
        ck_assert_uint_eq (ctki_leaks_threads (), threads);
        ctki_context_unref ();
        ck_assert_int_eq (ctki_pipe_send (ends[0], "x", 1), 0); /* it is still there */
        ctki_sock_close (&ends[0]);
        ctki_sock_close (&ends[1]);
        ck_assert_ptr_null (ends[0]);
        ctki_sock_close (&ends[0]);
        ctki_context_unref ();
        ck_assert (ctki_test_until (so_many_threads, &before, ctki_test_long_ms ()));
    }
}
END_TEST

/* Sends a message of so many parts with a routing id of its own (or none). */
static void *stranger (void *zmq, const char *id, int parts)
{
    void *sock = zmq_socket (zmq, ZMQ_DEALER);
    int no = 0;
    ck_assert_ptr_nonnull (sock);
    ck_assert_int_eq (zmq_setsockopt (sock, ZMQ_LINGER, &no, sizeof no), 0);
    if (id[0])
        ck_assert_int_eq (zmq_setsockopt (sock, ZMQ_ROUTING_ID, id, strlen (id)), 0);
    ck_assert_int_eq (zmq_connect (sock, bound), 0);
    for (int i = 0; i < parts; i++) {
        char text[16];
        snprintf (text, sizeof text, "%d", i);
        ck_assert_int_ge (zmq_send (sock, text, strlen (text), i + 1 < parts ? ZMQ_SNDMORE : 0), 0);
    }
    return sock;
}

/* Parts beyond the second are counted and gone; the next message is whole. */
START_TEST (too_many_parts)
{
    ctki_message_t message;
    set_up (TCP);
    void *zmq = zmq_ctx_new ();
    for (int parts = 2; parts < 6; parts++) {
        void *sock = stranger (zmq, "", parts);
        receive (router, &message);
        ck_assert (message.count == parts && message.rid != 0);
        ck_assert (is_text (&message, 0, "0") && is_text (&message, 1, "1"));
        ctki_message_close (&message);
        ck_assert_int_eq (ctki_sock_receive (router, &message), -1);
        ck_assert_int_eq (zmq_close (sock), 0);
    }
    ck_assert_int_eq (zmq_ctx_term (zmq), 0);
    tear_down ();
}
END_TEST

/* Who comes with a routing id of his own is nobody that can be answered: 0; long, short and as long as ours. */
START_TEST (own_routing_id)
{
    static const char *const ids[] = {"x", "abcde", "a-name-that-is-much-longer-than-any-of-ours"};
    ctki_message_t message;
    set_up (TCP);
    void *zmq = zmq_ctx_new ();
    for (int i = 0; i < 3; i++) {
        void *sock = stranger (zmq, ids[i], 1);
        receive (router, &message);
        ck_assert (message.rid == 0 && message.count == 1 && is_text (&message, 0, "0"));
        ctki_message_close (&message);
        ck_assert_int_eq (zmq_close (sock), 0);
    }
    ck_assert_int_eq (zmq_ctx_term (zmq), 0);
    (void) connect_dealer (); /* ours is still served */
    tear_down ();
}
END_TEST

static void add_libzmq (TCase *tcase)
{
    tcase_add_test (tcase, context);
    tcase_add_test (tcase, too_many_parts);
    tcase_add_test (tcase, own_routing_id);
}
#else
static void add_libzmq (TCase *tcase)
{
    (void) tcase;
}
#endif

Suite *ctki_suite_sock (void)
{
    Suite *suite = suite_create ("sock");
    TCase *tcase = ctki_leaks_tcase ("sock", 60);
    add_libzmq (tcase);
    tcase_add_loop_test (tcase, round_trip, 0, TRANSPORTS);
    tcase_add_test (tcase, signals);
    tcase_add_test (tcase, owned);
    tcase_add_loop_test (tcase, unreachable, 0, TRANSPORTS);
    tcase_add_test (tcase, no_connection);
    tcase_add_loop_test (tcase, outlived, 0, TRANSPORTS);
    tcase_add_loop_test (tcase, unbind, 0, TRANSPORTS);
    tcase_add_test (tcase, bad_endpoints);
    tcase_add_loop_test (tcase, monitor, 0, TRANSPORTS);
    tcase_add_test (tcase, monitor_again);
    tcase_add_loop_test (tcase, too_large, 0, TRANSPORTS);
    tcase_add_test (tcase, no_memory);
    suite_add_tcase (suite, tcase);
    return suite;
}
