/*
 * test_tool.c - the proxy that fails on purpose does each thing it says, and
 * nothing else. The test plays both ends: who connects, and the target.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/chaos/suites.h"
#include "tests/support/chaos.h"
#include "tests/support/support.h"

enum { SOON_MS = 100, BYTES = 300000 };

static ctki_chaos_t *chaos;
static int door, link_; /* the target's listening socket; the link to it */
static uint8_t sent[BYTES], got[BYTES];

static struct sockaddr_in address_of (uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons (port)};
    address.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
    return address;
}

static void open_link (void)
{
    uint16_t port = 0;
    door = ctki_ports_listening (&port);
    chaos = ctki_chaos_start (1);
    link_ = ctki_chaos_link (chaos, 0, port);
    ctki_payload_fill (sent, sizeof sent, 1, 2, 3);
}

static void close_link (void)
{
    ctki_chaos_stop (&chaos);
    ck_assert_ptr_null (chaos);
    (void) close (door);
}

/* Within ms: 0, or the errno of a connect; ETIMEDOUT when nobody answers. */
static int dial_within (int *fd, int ms)
{
    struct sockaddr_in address = address_of (ctki_chaos_port (chaos, link_));
    int error = 0;
    socklen_t size = sizeof error;
    *fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_ge (*fd, 0);
    if (connect (*fd, (const struct sockaddr *) &address, sizeof address) == 0)
        return 0;
    struct pollfd item = {.fd = *fd, .events = POLLOUT};
    if (errno == EINPROGRESS && poll (&item, 1, ms) == 0)
        return ETIMEDOUT;
    (void) getsockopt (*fd, SOL_SOCKET, SO_ERROR, &error, &size);
    return error;
}

static int dial (void)
{
    int fd;
    ck_assert_int_eq (dial_within (&fd, ctki_test_long_ms ()), 0);
    return fd;
}

/* The target's side of the next connection. */
static int answer (void)
{
    struct pollfd item = {.fd = door, .events = POLLIN};
    ck_assert_int_eq (poll (&item, 1, ctki_test_long_ms ()), 1);
    int fd = accept4 (door, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    ck_assert_int_ge (fd, 0);
    return fd;
}

/* Reads until size bytes, an end, an error or a silence of ms; returns how many; *end is 0 (silent), 'F' or 'R'. */
static size_t hear (int fd, void *buffer, size_t size, int ms, char *end)
{
    size_t used = 0;
    *end = 0;
    while (used < size) {
        struct pollfd item = {.fd = fd, .events = POLLIN};
        if (poll (&item, 1, ms) == 0)
            return used;
        ssize_t n = recv (fd, (char *) buffer + used, size - used, 0);
        if (n <= 0) {
            *end = n == 0 ? 'F' : errno == ECONNRESET ? 'R' : '?';
            return used;
        }
        used += (size_t) n;
    }
    return used;
}

static void expect_end (int fd, char expected)
{
    char byte, end;
    ck_assert_uint_eq (hear (fd, &byte, 1, ctki_test_long_ms (), &end), 0);
    ck_assert_int_eq (end, expected);
}

static void expect_silence (int fd)
{
    char byte, end;
    ck_assert_uint_eq (hear (fd, &byte, 1, ctki_test_ms (SOON_MS), &end), 0);
    ck_assert_int_eq (end, 0);
}

/* Writes from one end and reads from the other, side by side, until size bytes have come, an end, or a silence. */
static size_t carry (int from, int to, size_t size, char *end)
{
    size_t written = 0, used = 0;
    *end = 0;
    while (used < size && !*end) {
        struct pollfd items[2] = {{to, POLLIN, 0}, {from, written < size ? POLLOUT : 0, 0}};
        if (poll (items, 2, ctki_test_ms (1000)) == 0)
            return used;
        if (items[1].revents & POLLOUT) {
            ssize_t n = send (from, sent + written, size - written, MSG_NOSIGNAL);
            written += n > 0 ? (size_t) n : size - written;
        } else if (items[1].revents) {
            written = size;
        }
        if (items[0].revents == 0)
            continue;
        ssize_t n = recv (to, got + used, size - used, 0);
        used += n > 0 ? (size_t) n : 0;
        if (n <= 0)
            *end = n == 0 ? 'F' : 'R';
    }
    return used;
}

static void expect_carried (int from, int to, size_t size)
{
    char end;
    ck_assert_uint_eq (carry (from, to, size, &end), size);
    ck_assert (memcmp (sent, got, size) == 0);
}

static void close_both (int a, int b)
{
    (void) close (a);
    (void) close (b);
}

static ctki_chaos_counts_t counts (void)
{
    return ctki_chaos_counts (chaos, link_);
}

static bool all_over (void *arg)
{
    (void) arg;
    return counts ().open == 0;
}

static void await_all_over (void)
{
    ck_assert_msg (ctki_test_until (all_over, NULL, ctki_test_long_ms ()), "%llu connections are open",
                   (unsigned long long) counts ().open);
}

/* Without a plan bytes pass both ways unchanged and are counted, and so does the end of each side. */
START_TEST (passes)
{
    int client = dial (), server = answer ();
    expect_carried (client, server, BYTES);
    expect_carried (server, client, BYTES);
    ck_assert_int_eq (shutdown (client, SHUT_WR), 0);
    expect_end (server, 'F');
    expect_carried (server, client, 1000);
    (void) close (server);
    expect_end (client, 'F');
    (void) close (client);
    await_all_over ();
    ck_assert_uint_eq (counts ().connections, 1);
    ck_assert_uint_eq (counts ().passed[CTKI_CHAOS_OUT], BYTES);
    ck_assert_uint_eq (counts ().passed[CTKI_CHAOS_BACK], BYTES + 1000);
    ck_assert_uint_eq (counts ().resets + counts ().fins + counts ().flips + counts ().discarded, 0);
}
END_TEST

/* A reset of one side, and a target that refuses, are passed on as resets. */
START_TEST (passes_resets)
{
    struct linger now = {1, 0};
    int client = dial (), server = answer ();
    ck_assert_int_eq (setsockopt (server, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    (void) close (server);
    expect_end (client, 'R');
    (void) close (client);
    uint16_t nobody;
    int holder = ctki_ports_refusing (&nobody);
    ctki_chaos_aim (chaos, link_, nobody);
    int error = dial_within (&client, ctki_test_long_ms ());
    ck_assert (error == 0 || error == ECONNRESET); /* it may have heard already */
    if (error == 0)
        expect_end (client, 'R');
    close_both (client, holder);
    await_all_over ();
}
END_TEST

/* How many bytes each of ten connections carries until it is reset, for a seed. */
static void lifetimes (uint64_t seed, uint16_t target, size_t *bytes)
{
    ctki_chaos_plan_t plan = {.end = CTKI_CHAOS_RST, .end_lo = 200, .end_hi = 100000};
    char end;
    ctki_chaos_stop (&chaos);
    chaos = ctki_chaos_start (seed);
    link_ = ctki_chaos_link (chaos, 0, target);
    ctki_chaos_set (chaos, link_, &plan);
    for (int i = 0; i < 10; i++) {
        int client = dial (), server = answer ();
        bytes[i] = carry (client, server, BYTES, &end);
        ck_assert_int_eq (end, 'R');
        ck_assert_uint_le (bytes[i], 100000);
        ck_assert (memcmp (sent, got, bytes[i]) == 0);
        expect_end (client, 'R');
        close_both (client, server);
    }
    ck_assert_uint_eq (counts ().resets, 10);
}

/* Each connection is reset after a number of bytes between two bounds, on both sides, the same for the same seed. */
START_TEST (resets)
{
    size_t first[10], again[10], other[10];
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    ck_assert_int_eq (getsockname (door, (struct sockaddr *) &address, &size), 0);
    lifetimes (7, ntohs (address.sin_port), first);
    lifetimes (7, ntohs (address.sin_port), again);
    lifetimes (8, ntohs (address.sin_port), other);
    ck_assert (memcmp (first, again, sizeof first) == 0);
    ck_assert (memcmp (first, other, sizeof first) != 0);
}
END_TEST

/* A connection that is cut at a byte carries exactly that many, both ways together, and ends as it should. */
START_TEST (cuts_at_a_byte)
{
    ctki_chaos_plan_t plan = {.end = CTKI_CHAOS_FIN, .end_lo = 5000, .end_hi = 5000};
    char end;
    ctki_chaos_set (chaos, link_, &plan);
    int client = dial (), server = answer ();
    expect_carried (server, client, 1000);
    ck_assert_uint_eq (carry (client, server, BYTES, &end), 4000);
    ck_assert_int_eq (end, 'F');
    expect_end (client, 'F');
    close_both (client, server);
    await_all_over ();
    ck_assert_uint_eq (counts ().fins, 1);
}
END_TEST

/* All connections can be ended at once, by FIN and by RST; later ones live. */
START_TEST (ends_now)
{
    int client = dial (), server = answer ();
    ctki_chaos_cut (chaos, link_, CTKI_CHAOS_FIN);
    expect_end (client, 'F');
    expect_end (server, 'F');
    close_both (client, server);
    client = dial ();
    server = answer ();
    ctki_chaos_cut (chaos, CTKI_CHAOS_ALL, CTKI_CHAOS_RST);
    expect_end (client, 'R');
    expect_end (server, 'R');
    close_both (client, server);
    client = dial ();
    server = answer ();
    expect_carried (client, server, 1000);
    close_both (client, server);
    ck_assert_uint_eq (counts ().fins, 1);
    ck_assert_uint_eq (counts ().resets, 1);
}
END_TEST

/* A stalled direction keeps what it is given and forwards it afterwards; the other one goes on. */
START_TEST (holds)
{
    ctki_chaos_plan_t plan = {.way[CTKI_CHAOS_OUT].what = CTKI_CHAOS_HOLD};
    int client = dial (), server = answer ();
    char end;
    ctki_chaos_set (chaos, link_, &plan);
    ck_assert_int_eq (send (client, sent, 1000, 0), 1000);
    expect_silence (server);
    expect_carried (server, client, BYTES);
    ctki_chaos_set (chaos, link_, NULL);
    ck_assert_uint_eq (hear (server, got, 1000, ctki_test_long_ms (), &end), 1000);
    ck_assert (memcmp (sent, got, 1000) == 0);
    close_both (client, server);
}
END_TEST

/* A stranded connection keeps what is under way while a new one is good, and an end with it; released, it delivers. */
START_TEST (strands)
{
    int client = dial (), server = answer ();
    char end;
    ctki_chaos_strand (chaos, link_);
    ck_assert_int_eq (send (client, sent, 1000, 0), 1000);
    (void) close (client);
    expect_silence (server);
    int later = dial (), later_server = answer ();
    expect_carried (later, later_server, BYTES);
    close_both (later, later_server);
    ctki_chaos_release (chaos, link_);
    ck_assert_uint_eq (hear (server, got, BYTES, ctki_test_long_ms (), &end), 1000);
    ck_assert_int_eq (end, 'F');
    ck_assert (memcmp (sent, got, 1000) == 0);
    (void) close (server);
    await_all_over ();
}
END_TEST

/* A half-open direction swallows bytes and ends without a word; the other one goes on. Afterwards only new connections
 * are good. */
START_TEST (discards)
{
    ctki_chaos_plan_t plan = {.way[CTKI_CHAOS_BACK].what = CTKI_CHAOS_DISCARD};
    int client = dial (), server = answer ();
    ctki_chaos_set (chaos, link_, &plan);
    ck_assert_int_eq (send (server, sent, 1000, 0), 1000);
    expect_silence (client);
    expect_carried (client, server, BYTES);
    ctki_chaos_set (chaos, link_, NULL);
    ck_assert_int_eq (send (server, sent, 1000, 0), 1000);
    expect_silence (client);
    ck_assert_uint_eq (counts ().discarded, 2000);
    int later = dial (), later_server = answer ();
    expect_carried (later_server, later, BYTES);
    close_both (later, later_server);
    (void) close (server);
    expect_end (client, 'R');
    (void) close (client);
}
END_TEST

/* A side that ends while its direction is half-open: the other side is told when that is over, not before. */
START_TEST (ends_in_silence)
{
    ctki_chaos_plan_t plan = {.way[CTKI_CHAOS_OUT].what = CTKI_CHAOS_DISCARD};
    int client = dial (), server = answer ();
    ctki_chaos_set (chaos, link_, &plan);
    ck_assert_int_eq (send (client, sent, 10, 0), 10);
    (void) close (client);
    expect_silence (server);
    ctki_chaos_set (chaos, link_, NULL);
    expect_end (server, 'R');
    (void) close (server);
    await_all_over ();
}
END_TEST

/* A black hole answers no connect and swallows bytes both ways; afterwards the waiting connect succeeds. */
START_TEST (black_hole)
{
    ctki_chaos_plan_t plan = {.door = CTKI_CHAOS_BLACKHOLE};
    int client = dial (), server = answer (), late;
    ctki_chaos_set (chaos, link_, &plan);
    ck_assert_int_eq (dial_within (&late, ctki_test_ms (SOON_MS)), ETIMEDOUT);
    ck_assert_int_eq (send (client, sent, 500, 0), 500);
    ck_assert_int_eq (send (server, sent, 500, 0), 500);
    expect_silence (server);
    expect_silence (client);
    ck_assert_uint_eq (counts ().connections, 1);
    ctki_chaos_set (chaos, link_, NULL);
    int late_server = answer ();
    expect_carried (late, late_server, BYTES);
    ck_assert_uint_eq (counts ().connections, 2);
    ck_assert_uint_eq (counts ().discarded, 1000);
    close_both (client, server);
    close_both (late, late_server);
}
END_TEST

/* A closed door refuses; its port is the same when it opens again. */
START_TEST (refuses)
{
    ctki_chaos_plan_t plan = {.door = CTKI_CHAOS_REFUSE};
    uint16_t port = ctki_chaos_port (chaos, link_);
    int fd;
    for (int i = 0; i < 3; i++) {
        ctki_chaos_set (chaos, link_, &plan);
        ck_assert_int_eq (dial_within (&fd, ctki_test_long_ms ()), ECONNREFUSED);
        (void) close (fd);
        ctki_chaos_set (chaos, link_, NULL);
        ck_assert_uint_eq (ctki_chaos_port (chaos, link_), port);
        int client = dial (), server = answer ();
        expect_carried (client, server, 1000);
        close_both (client, server);
    }
}
END_TEST

/* Garbage is some random bytes and an end; the target hears nothing of it. */
START_TEST (garbage)
{
    ctki_chaos_plan_t plan = {.door = CTKI_CHAOS_GARBAGE};
    char end;
    size_t sizes[2];
    ctki_chaos_set (chaos, link_, &plan);
    for (int i = 0; i < 2; i++) {
        int client = dial ();
        sizes[i] = hear (client, got + (i ? BYTES / 2 : 0), BYTES / 2, ctki_test_long_ms (), &end);
        ck_assert_int_eq (end, 'F');
        ck_assert (sizes[i] >= 1 && sizes[i] <= 4096);
        (void) close (client);
    }
    ck_assert (memcmp (got, got + BYTES / 2, CTKI_MIN (sizes[0], sizes[1])) != 0);
    await_all_over ();
    struct pollfd item = {.fd = door, .events = POLLIN};
    ck_assert_int_eq (poll (&item, 1, 0), 0);
    ck_assert_uint_eq (counts ().garbage, 2);
}
END_TEST

/* A wrong service is an SSH and an HTTP server by turns. */
START_TEST (wrong_service)
{
    static const char *const starts[] = {"SSH-2.0-", "HTTP/1.1 400 "};
    ctki_chaos_plan_t plan = {.door = CTKI_CHAOS_WRONG};
    char end;
    ctki_chaos_set (chaos, link_, &plan);
    for (int i = 0; i < 2; i++) {
        int client = dial ();
        ck_assert_int_eq (send (client, "\xff\0\0\0\0\0\0\0\1\x7f", 10, 0), 10);
        size_t size = hear (client, got, BYTES, ctki_test_long_ms (), &end);
        ck_assert_int_eq (end, 'F');
        ck_assert_uint_gt (size, 20);
        ck_assert (memcmp (got, starts[i], strlen (starts[i])) == 0);
        (void) close (client);
    }
    await_all_over ();
    ck_assert_uint_eq (counts ().wrongs, 2);
}
END_TEST

/* A delay holds back each byte for at least its time, and a rate is not exceeded; nothing is lost by either. */
START_TEST (slow)
{
    ctki_chaos_plan_t plan = {.way[CTKI_CHAOS_OUT].delay_ms = 100};
    int client = dial (), server = answer ();
    char byte, end;
    ctki_chaos_set (chaos, link_, &plan);
    int64_t start_ms = ctki_test_now_ms ();
    ck_assert_int_eq (send (client, "x", 1, 0), 1);
    ck_assert_uint_eq (hear (server, &byte, 1, ctki_test_long_ms (), &end), 1);
    ck_assert_int_ge (ctki_test_now_ms () - start_ms, 99);
    plan = (ctki_chaos_plan_t){.way[CTKI_CHAOS_OUT].bytes_per_s = 1000000};
    ctki_chaos_set (chaos, link_, &plan);
    start_ms = ctki_test_now_ms ();
    expect_carried (client, server, BYTES);
    ck_assert_int_ge (ctki_test_now_ms () - start_ms, 270);
    expect_carried (server, client, BYTES);
    close_both (client, server);
}
END_TEST

/* As many bits differ as it says it has flipped, in that direction only. */
START_TEST (flips)
{
    ctki_chaos_plan_t plan = {.way[CTKI_CHAOS_OUT] = {.flip_lo = 100, .flip_hi = 5000}};
    int client = dial (), server = answer ();
    uint64_t differ = 0;
    char end;
    ctki_chaos_set (chaos, link_, &plan);
    ck_assert_uint_eq (carry (client, server, BYTES, &end), BYTES);
    for (size_t i = 0; i < BYTES; i++)
        differ += (uint64_t) __builtin_popcount ((unsigned) (sent[i] ^ got[i]));
    ck_assert_uint_eq (differ, counts ().flips);
    ck_assert_uint_ge (differ, BYTES / 5000);
    expect_carried (server, client, BYTES);
    close_both (client, server);
}
END_TEST

Suite *ctki_suite_tool (void)
{
    Suite *suite = suite_create ("tool");
    TCase *tcase = ctki_leaks_tcase ("tool", 60);
    tcase_add_checked_fixture (tcase, open_link, close_link);
    tcase_add_test (tcase, passes);
    tcase_add_test (tcase, passes_resets);
    tcase_add_test (tcase, resets);
    tcase_add_test (tcase, cuts_at_a_byte);
    tcase_add_test (tcase, ends_now);
    tcase_add_test (tcase, holds);
    tcase_add_test (tcase, strands);
    tcase_add_test (tcase, discards);
    tcase_add_test (tcase, ends_in_silence);
    tcase_add_test (tcase, black_hole);
    tcase_add_test (tcase, refuses);
    tcase_add_test (tcase, garbage);
    tcase_add_test (tcase, wrong_service);
    tcase_add_test (tcase, slow);
    tcase_add_test (tcase, flips);
    suite_add_tcase (suite, tcase);
    return suite;
}
