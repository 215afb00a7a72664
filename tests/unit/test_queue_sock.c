/*
 * test_queue_sock.c - what the queue sockets do beside the common tests of
 * sock.h: where libzmq has a choice, or a thread of its own decides when, they
 * do the same thing at a known moment.
 */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/sock.h"
#include "tests/support/leaks.h"

Suite *ctki_suite_queue_sock (void);

enum { ENDPOINT = 256, SEND_FRAMES = 8, RECEIVE_FRAMES = 4, FRAME_BYTES = 1000 };

static const ctki_sock_options_t options = {.send_frames = SEND_FRAMES,
                                            .receive_frames = RECEIVE_FRAMES,
                                            .frame_bytes = FRAME_BYTES,
                                            .backlog = 10,
                                            .domain = "test"};

static ctki_sock_t *router, *dealer, *monitor;
static char bound[ENDPOINT];

static void set_up (const char *endpoint)
{
    ck_assert_int_eq (ctki_context_ref (1, NULL), 0);
    router = ctki_sock_router (&options);
    dealer = ctki_sock_dealer (&options);
    ck_assert (router && dealer);
    monitor = ctki_sock_monitor (dealer);
    ck_assert_ptr_nonnull (monitor);
    ck_assert_int_eq (ctki_sock_bind (router, endpoint, bound, sizeof bound), 0);
    ck_assert_int_eq (ctki_sock_connect (dealer, bound), 0);
}

static void tear_down (void)
{
    ctki_sock_close (&dealer);
    ctki_sock_close (&monitor);
    ctki_sock_close (&router);
    ctki_context_unref ();
}

/* Whether the descriptor is readable now. */
static bool rings (ctki_sock_t *sock)
{
    struct pollfd item = {.fd = ctki_sock_fd (sock), .events = POLLIN};
    return poll (&item, 1, 0) == 1;
}

static int send_number (ctki_sock_t *sock, uint64_t rid, int number)
{
    ctki_part_t part = {.data = &number, .size = sizeof number};
    return ctki_sock_send (sock, rid, &part, 1);
}

/* The next number; -1: there is none. */
static int receive_number (ctki_sock_t *sock, uint64_t *rid)
{
    ctki_message_t message;
    int number = -1;
    if (ctki_sock_receive (sock, &message))
        return -1;
    ck_assert (message.count == 1 && message.size[0] == sizeof number);
    memcpy (&number, message.data[0], sizeof number);
    if (rid)
        *rid = message.rid;
    ctki_message_close (&message);
    return number;
}

static uint64_t meet (void)
{
    uint64_t rid = 0;
    ck_assert_int_eq (send_number (dealer, 0, 0), 0);
    ck_assert_int_eq (receive_number (router, &rid), 0);
    ck_assert_uint_eq (rid >> 32, 1);
    return rid;
}

/* An edge comes when the reader had found nothing, once; any call of the owner swallows it. */
START_TEST (edges)
{
    set_up ("tcp://127.0.0.1:*");
    uint64_t rid = meet ();
    ck_assert_int_eq (receive_number (router, NULL), -1);
    ck_assert (!rings (router));
    ck_assert_int_eq (send_number (dealer, 0, 1), 0);
    ck_assert (rings (router));
    ck_assert_int_eq (send_number (router, rid, 1), 0); /* swallows it: who sleeps now sleeps for ever */
    ck_assert (!rings (router));
    ck_assert_int_eq (send_number (dealer, 0, 2), 0);
    ck_assert (!rings (router));
    ck_assert_uint_eq (ctki_sock_events (router) & CTKI_READABLE, CTKI_READABLE);
    ck_assert_int_eq (receive_number (router, NULL), 1);
    ck_assert_int_eq (receive_number (router, NULL), 2);
    ck_assert_uint_eq (ctki_sock_events (router) & CTKI_READABLE, 0);
    ck_assert_int_eq (send_number (dealer, 0, 3), 0);
    ck_assert (rings (router));
    tear_down ();
}
END_TEST

/* Who was told that there is no room is woken when half of it is read, and not before. */
START_TEST (room)
{
    set_up ("tcp://127.0.0.1:*");
    (void) meet ();
    for (int i = 0; i < SEND_FRAMES; i++)
        ck_assert_int_eq (send_number (dealer, 0, i), 0);
    errno = 0;
    ck_assert_int_eq (send_number (dealer, 0, 99), -1);
    ck_assert_int_eq (errno, EAGAIN);
    for (int i = 0; i < SEND_FRAMES / 2; i++) {
        ck_assert (!rings (dealer));
        ck_assert_uint_eq (ctki_sock_events (dealer) & CTKI_WRITABLE, 0);
        ck_assert_int_eq (send_number (dealer, 0, 99), -1);
        ck_assert_int_eq (receive_number (router, NULL), i);
    }
    ck_assert (rings (dealer));
    ck_assert_int_eq (send_number (dealer, 0, SEND_FRAMES), 0);
    tear_down ();
}
END_TEST

/* A router's answers have their limit, too. */
START_TEST (room_of_the_router)
{
    set_up ("tcp://127.0.0.1:*");
    uint64_t rid = meet ();
    for (int i = 0; i < SEND_FRAMES + RECEIVE_FRAMES; i++)
        ck_assert_int_eq (send_number (router, rid, i), 0);
    errno = 0;
    ck_assert_int_eq (send_number (router, rid, 99), -1);
    ck_assert_int_eq (errno, EAGAIN);
    tear_down ();
}
END_TEST

/* At the end of a connection the bound side keeps all but the last it was sent,
 * the connecting side nothing; the next connection has another number, and what
 * is left of the old one comes in turn with what is new. */
START_TEST (what_is_lost)
{
    char again[ENDPOINT];
    uint64_t from = 0;
    set_up ("tcp://127.0.0.1:*");
    uint64_t rid = meet ();
    ck_assert_int_eq (ctki_sock_monitor_next (monitor), CTKI_LINK_UP);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq (send_number (dealer, 0, i), 0);
    ck_assert_int_eq (send_number (router, rid, 100), 0);
    ctki_sock_unbind (router, bound, 0);
    ck_assert_int_eq (ctki_sock_monitor_next (monitor), CTKI_LINK_DOWN);
    ck_assert_int_eq (ctki_sock_monitor_next (monitor), CTKI_LINK_NONE);
    ck_assert_int_eq (receive_number (dealer, NULL), -1);
    errno = 0;
    ck_assert_int_eq (send_number (dealer, 0, 99), -1);
    ck_assert_int_eq (errno, EAGAIN);
    ck_assert_int_eq (send_number (router, rid, 99), -1);
    ck_assert_int_eq (errno, EHOSTUNREACH);
    ck_assert_int_eq (ctki_sock_bind (router, bound, again, sizeof again), 0);
    ck_assert_int_eq (ctki_sock_monitor_next (monitor), CTKI_LINK_UP);
    ck_assert_int_eq (send_number (dealer, 0, 10), 0);
    ck_assert_int_eq (send_number (dealer, 0, 11), 0);
    static const int order[] = {0, 10, 1, 11, 2, -1};
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq (receive_number (router, &from), order[i]);
        ck_assert (order[i] < 0 || (from == rid) == (order[i] < 10));
    }
    tear_down ();
}
END_TEST

/* Too large a part towards the dealer ends its connecting for good, as in libzmq; a new dealer can. */
START_TEST (too_large_an_answer)
{
    static const char bytes[FRAME_BYTES + 1];
    set_up ("tcp://127.0.0.1:*");
    uint64_t rid = meet ();
    ctki_part_t part = {.data = bytes, .size = sizeof bytes};
    ck_assert_int_eq (ctki_sock_send (router, rid, &part, 1), 0);
    ck_assert_int_eq (ctki_sock_monitor_next (monitor), CTKI_LINK_UP);
    ck_assert_int_eq (ctki_sock_monitor_next (monitor), CTKI_LINK_DOWN);
    ck_assert_int_eq (ctki_sock_monitor_next (monitor), CTKI_LINK_NONE);
    ck_assert_uint_eq (ctki_sock_events (dealer) & CTKI_WRITABLE, 0);
    ctki_sock_close (&dealer);
    ctki_sock_close (&monitor);
    dealer = ctki_sock_dealer (&options);
    ck_assert_int_eq (ctki_sock_connect (dealer, bound), 0);
    (void) meet ();
    tear_down ();
}
END_TEST

/* Over inproc there are no events, nothing is lost, and who was left does not
 * come back by itself; nobody connects to a name that is not bound. */
START_TEST (inproc)
{
    char again[ENDPOINT];
    set_up ("inproc://test");
    uint64_t rid = meet ();
    ck_assert_int_eq (send_number (dealer, 0, 1), 0);
    ck_assert_int_eq (send_number (router, rid, 2), 0);
    ctki_sock_unbind (router, bound, 0);
    ck_assert_int_eq (ctki_sock_bind (router, bound, again, sizeof again), 0);
    ck_assert_int_eq (receive_number (router, NULL), 1);
    ck_assert_int_eq (receive_number (dealer, NULL), 2);
    ck_assert_int_eq (send_number (dealer, 0, 3), -1);
    ck_assert_int_eq (ctki_sock_monitor_next (monitor), CTKI_LINK_NONE);
    ck_assert_int_eq (ctki_sock_disconnect (dealer, bound), 0);
    errno = 0;
    ck_assert_int_eq (ctki_sock_connect (dealer, "inproc://another"), -1);
    ck_assert_int_eq (errno, ECONNREFUSED);
    ck_assert_int_eq (ctki_sock_connect (dealer, bound), 0);
    (void) meet ();
    tear_down ();
}
END_TEST

/* A name is waited for, taken by one, and let go of; a port is given once. */
START_TEST (names)
{
    char again[ENDPOINT], other[ENDPOINT];
    set_up ("tcp://127.0.0.1:*");
    ctki_sock_t *second = ctki_sock_router (&options);
    ck_assert_int_eq (ctki_sock_bind (second, "tcp://127.0.0.1:*", other, sizeof other), 0);
    ck_assert_str_ne (bound, other);
    ck_assert_int_eq (ctki_sock_bind (second, bound, again, sizeof again), -1);
    ck_assert_int_eq (errno, EADDRINUSE);
    ck_assert_int_eq (ctki_sock_disconnect (dealer, other), -1);
    ck_assert_int_eq (ctki_sock_disconnect (dealer, bound), 0);
    ck_assert_int_eq (ctki_sock_connect (dealer, "ipc:///tmp/ctalk-no-such-name"), 0);
    ck_assert_uint_eq (ctki_sock_events (dealer) & CTKI_WRITABLE, 0);
    ck_assert_int_eq (ctki_sock_bind (second, "ipc:///tmp/ctalk-no-such-name", again, sizeof again), 0);
    ck_assert (rings (dealer));
    ck_assert_int_eq (send_number (dealer, 0, 7), 0);
    ck_assert_int_eq (receive_number (second, NULL), 7);
    ctki_sock_close (&second);
    ck_assert_int_eq (ctki_sock_bind (router, other, again, sizeof again), 0);
    tear_down ();
}
END_TEST

/* The parts of a message beyond the second are counted and gone. */
START_TEST (many_parts)
{
    ctki_message_t message;
    set_up ("tcp://127.0.0.1:*");
    ctki_buf_t *buf = ctki_buf_new (10);
    ctki_part_t parts[4] = {{.data = "0", .size = 1},
                            {.data = "1", .size = 1},
                            {.data = "2", .size = 1},
                            {.data = buf->data, .size = 10, .buf = buf}};
    memset (buf->data, 0, 10);
    ck_assert_int_eq (ctki_sock_send (dealer, 0, parts, 4), 0);
    ck_assert_uint_eq (atomic_load (&buf->refs), 2);
    ck_assert_int_eq (ctki_sock_receive (router, &message), 0);
    ck_assert_int_eq (message.count, 4);
    ck_assert (message.data[0][0] == '0' && message.data[1][0] == '1');
    ck_assert_uint_eq (atomic_load (&buf->refs), 1);
    ctki_message_close (&message);
    ctki_buf_release (buf, 1);
    tear_down ();
}
END_TEST

/* A child forgets its parent's sockets and may make its own, at the same name. */
START_TEST (forked)
{
    char again[ENDPOINT];
    int status = -1;
    set_up ("tcp://127.0.0.1:*");
    pid_t child = fork ();
    if (child == 0) {
        if (ctki_context_ref (1, NULL))
            _exit (1);
        ctki_sock_t *own = ctki_sock_router (&options);
        if (!own || ctki_sock_bind (own, bound, again, sizeof again))
            _exit (2);
        ctki_sock_close (&own);
        ctki_context_unref ();
        _exit (0);
    }
    ck_assert_int_eq (waitpid (child, &status, 0), child);
    ck_assert_int_eq (status, 0);
    (void) meet ();
    tear_down ();
}
END_TEST

Suite *ctki_suite_queue_sock (void)
{
    Suite *suite = suite_create ("queue_sock");
    TCase *tcase = ctki_leaks_tcase ("queue_sock", 60);
    tcase_add_test (tcase, edges);
    tcase_add_test (tcase, room);
    tcase_add_test (tcase, room_of_the_router);
    tcase_add_test (tcase, what_is_lost);
    tcase_add_test (tcase, too_large_an_answer);
    tcase_add_test (tcase, inproc);
    tcase_add_test (tcase, names);
    tcase_add_test (tcase, many_parts);
    tcase_add_test (tcase, forked);
    suite_add_tcase (suite, tcase);
    return suite;
}
