/*
 * test_abuse.c - whatever comes to the bound port: random bytes, port scans, other
 * protocols, broken greetings, huge announcements, and ZMTP peers that speak
 * something else. The server lives, serves a good peer, counts what was not
 * valid, and has no more descriptors afterwards than before.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/cluster/suites.h"
#include "tests/support/support.h"

enum { GREETING = 64, BURST = 2000 };

static ctki_cluster_t cluster;
static size_t descriptors;
static uint16_t target; /* port of server 1 */
static unsigned seed;

static void open_pair (void)
{
    unsigned port = 0;
    seed = 20261;
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctki_traffic_exchange (&cluster, 10);
    ck_assert_int_eq (sscanf (ctalk_server_endpoint (cluster.server[1]), "tcp://127.0.0.1:%u", &port), 1);
    target = (uint16_t) port;
    descriptors = ctki_leaks_descriptors ();
}

/* After every abuse: a good peer is served, nothing was delivered, and the descriptors are back to what they were. */
static void close_pair (void)
{
    ctki_traffic_expect_nothing (cluster.server[1], 0);
    ctki_traffic_exchange (&cluster, 50);
    ck_assert_msg (ctki_leaks_await_descriptors (descriptors, ctki_test_long_ms ()), "%zu descriptors, %zu before",
                   ctki_leaks_descriptors (), descriptors);
    ctalk_stats_t stats = ctki_cluster_stats (cluster.server[1], 2);
    ck_assert_uint_eq (stats.reconnects, 0);
    ck_assert_uint_eq (stats.malformed, 0);
    ctki_cluster_close (&cluster);
}

static int dial (void)
{
    int fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons (target)};
    address.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
    ck_assert_int_ge (fd, 0);
    ck_assert_int_eq (connect (fd, (const struct sockaddr *) &address, sizeof address), 0);
    return fd;
}

/* Sends what the other side takes; it may have hung up, which is its right. */
static void throw (int fd, const void *data, size_t size)
{
    const char *at = data;
    while (size) {
        ssize_t n = send (fd, at, size, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        at += n;
        size -= (size_t) n;
    }
}

static void random_bytes (uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t) (rand_r (&seed) >> 8);
}

/* Whether the other side hangs up within ms. */
static bool hangs_up (int fd, int ms)
{
    char buffer[512];
    int64_t end_ms = ctki_test_now_ms () + ms;
    for (;;) {
        struct pollfd item = {.fd = fd, .events = POLLIN};
        int64_t left_ms = end_ms - ctki_test_now_ms ();
        if (left_ms <= 0 || poll (&item, 1, (int) left_ms) != 1)
            return false;
        if (recv (fd, buffer, sizeof buffer, 0) <= 0)
            return true;
    }
}

static void greeting (uint8_t *bytes, const char *mechanism)
{
    memset (bytes, 0, GREETING);
    bytes[0] = 0xff;
    bytes[8] = 1;
    bytes[9] = 0x7f;
    bytes[10] = 3;
    memcpy (bytes + 12, mechanism, strlen (mechanism));
}

/* One ZMTP frame of at most 255 bytes. */
static void frame (int fd, uint8_t flags, const void *data, size_t size)
{
    uint8_t head[2] = {flags, (uint8_t) size};
    throw (fd, head, 2);
    throw (fd, data, size);
}

/* A ZMTP 3.0 connection of a socket of this type, greeted, and told READY. */
static int zmtp (const char *type)
{
    uint8_t bytes[GREETING], ready[64], answer[GREETING];
    size_t length = strlen (type), size = 0;
    int fd = dial ();
    greeting (bytes, "NULL");
    throw (fd, bytes, GREETING);
    ck_assert (ctki_process_read (fd, answer, GREETING, ctki_test_long_ms ()));
    ready[size++] = 5;
    memcpy (ready + size, "READY", 5);
    size += 5;
    ready[size++] = 11;
    memcpy (ready + size, "Socket-Type", 11);
    size += 11;
    memset (ready + size, 0, 3);
    size += 3;
    ready[size++] = (uint8_t) length;
    memcpy (ready + size, type, length);
    size += length;
    frame (fd, 4, ready, size);
    return fd;
}

/* Random bytes, at once and in dribs and drabs. */
START_TEST (noise)
{
    uint8_t bytes[BURST];
    size_t count = ctki_test_count (100);
    for (size_t i = 0; i < count; i++) {
        int fd = dial ();
        random_bytes (bytes, sizeof bytes);
        throw (fd, bytes, (size_t) rand_r (&seed) % sizeof bytes);
        throw (fd, bytes, (size_t) rand_r (&seed) % 10);
        (void) close (fd);
    }
}
END_TEST

/* A port scan: connect and close at once, many times, also with a reset. */
START_TEST (port_scan)
{
    struct linger reset = {1, 0};
    size_t count = ctki_test_count (500);
    for (size_t i = 0; i < count; i++) {
        int fd = dial ();
        if (i % 2)
            (void) setsockopt (fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        (void) close (fd);
    }
    ctki_test_figure ("port_scan", "%zu connections", count);
}
END_TEST

/* Connections that say nothing and stay: the good peer is served all the while. */
START_TEST (connect_and_hold)
{
    enum { HELD = 50 };
    int fds[HELD];
    for (int i = 0; i < HELD; i++)
        fds[i] = dial ();
    ctki_traffic_exchange (&cluster, 100);
    for (int i = 0; i < HELD; i++)
        (void) close (fds[i]);
}
END_TEST

/* Another protocol altogether. */
START_TEST (foreign_protocols)
{
    static const char *const words[] = {
        "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "EHLO localhost\r\nMAIL FROM:<a@b>\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "*1\r\n$4\r\nPING\r\n",
    };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        int fd = dial ();
        throw (fd, words[i], strlen (words[i]));
        (void) shutdown (fd, SHUT_WR);
        (void) hangs_up (fd, ctki_test_ms (200));
        (void) close (fd);
    }
}
END_TEST

/* The greeting of ZMTP, cut after each of its bytes; and with each of its bytes changed. */
START_TEST (greetings)
{
    uint8_t bytes[GREETING];
    for (size_t i = 0; i <= GREETING; i++) {
        int fd = dial ();
        greeting (bytes, "NULL");
        throw (fd, bytes, i);
        (void) close (fd);
        fd = dial ();
        bytes[i % GREETING] ^= 0x5a;
        throw (fd, bytes, GREETING);
        frame (fd, 4, "\5READY", 6);
        (void) close (fd);
    }
    static const char *const mechanisms[] = {"PLAIN", "CURVE", "GSSAPI", "NONSENSE", ""};
    for (size_t i = 0; i < sizeof mechanisms / sizeof mechanisms[0]; i++) {
        int fd = dial ();
        greeting (bytes, mechanisms[i]);
        throw (fd, bytes, GREETING);
        frame (fd, 4, "\5HELLO", 6);
        (void) close (fd);
    }
}
END_TEST

/* READY commands with wrong lengths and properties. */
START_TEST (handshakes)
{
    static const struct {
        const char *data;
        size_t size;
    } commands[] = {
        {"", 0},
        {"\5READY", 6},
        {"\5REA", 4},
        {"\377READY", 6},
        {"\5READY\13Socket-Type\0\0\0\377DEALER", 27},
        {"\5READY\13Socket-Type\377\377\377\377DEALER", 28},
        {"\5READY\377Socket-Type\0\0\0\6DEALER", 28},
        {"\5READY\13Socket-Type\0\0\0\3PUB", 25},
        {"\5READY\10Identity\0\0\0\0", 19},
        {"\5ERROR\377x", 8},
        {"\5HELLO", 6},
        {"\4PING\0\0", 7},
    };
    uint8_t bytes[GREETING];
    greeting (bytes, "NULL");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        for (unsigned flags = 0; flags < 8; flags++) {
            int fd = dial ();
            throw (fd, bytes, GREETING);
            frame (fd, (uint8_t) flags, commands[i].data, commands[i].size);
            (void) close (fd);
        }
}
END_TEST

/* Frames announced as huge: the connection is cut, and no memory is taken for them. */
START_TEST (huge_announcements)
{
    static const uint64_t sizes[] = {300000, 1u << 20, 1ull << 31, 1ull << 32, 1ull << 40, INT64_MAX, UINT64_MAX};
    ctki_memory_reset_peak ();
    uint64_t before = ctki_memory_now ();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t head[9] = {2};
        int fd = zmtp ("DEALER");
        for (int b = 0; b < 8; b++)
            head[1 + b] = (uint8_t) (sizes[i] >> (56 - 8 * b));
        throw (fd, head, sizeof head);
        throw (fd, "some bytes of it", 16);
        ck_assert_msg (hangs_up (fd, ctki_test_long_ms ()), "%llu bytes are waited for", (unsigned long long) sizes[i]);
        (void) close (fd);
    }
    ck_assert_uint_le (ctki_memory_grown (before), 16u << 20);
}
END_TEST

static uint64_t malformed (void)
{
    return ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST).malformed;
}

static bool counted (void *arg)
{
    return malformed () >= *(const uint64_t *) arg;
}

static void send_parts (int fd, size_t parts)
{
    uint8_t data[200];
    for (size_t i = 0; i < parts; i++) {
        size_t size = (size_t) rand_r (&seed) % sizeof data;
        random_bytes (data, size);
        frame (fd, i + 1 < parts ? 1 : 0, data, size);
    }
}

/* A DEALER that speaks ZMTP well, but sends random messages of 1, 2, 3 and 100 parts: each is counted as malformed. */
START_TEST (foreign_dealer)
{
    static const size_t parts[] = {1, 2, 3, 100};
    size_t count = ctki_test_count (100);
    for (size_t p = 0; p < 4; p++) {
        uint64_t want = malformed () + count;
        int fd = zmtp ("DEALER");
        for (size_t i = 0; i < count; i++)
            send_parts (fd, parts[p]);
        bool all = ctki_test_until (counted, &want, ctki_test_long_ms ());
        ck_assert_msg (all, "%zu parts: %llu malformed, not %llu", parts[p], (unsigned long long) malformed (),
                       (unsigned long long) want);
        (void) close (fd);
    }
}
END_TEST

/* A message that never ends: parts announced as followed by more, on and on, take no memory to speak of. */
START_TEST (endless_message)
{
    uint8_t part[200] = {0};
    size_t count = ctki_test_count (100000);
    ctki_memory_reset_peak ();
    uint64_t before = ctki_memory_now ();
    int fd = zmtp ("DEALER");
    for (size_t i = 0; i < count; i++)
        frame (fd, 1, part, sizeof part);
    ctki_traffic_exchange (&cluster, 20);
    uint64_t grown = ctki_memory_grown (before);
    (void) close (fd);
    ctki_test_figure ("endless_message", "%zu parts of 200 bytes, memory %llu KiB", count,
                      (unsigned long long) grown / 1024);
}
END_TEST

/* Sockets of other types that connect and send. */
START_TEST (foreign_sockets)
{
    static const char *const types[] = {"REQ", "PUSH", "SUB", "PUB", "PAIR", "ROUTER", "REP", "XSUB", "STREAM", "?"};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        int fd = zmtp (types[i]);
        frame (fd, 1, "", 0);
        frame (fd, 0, "hello", 5);
        frame (fd, 0, "\1", 1);
        (void) hangs_up (fd, 20);
        (void) close (fd);
    }
}
END_TEST

/* Frames that begin like ours: the magic, the version and each type, with random bytes after, and cut at each length.
 */
START_TEST (nearly_right_frames)
{
    uint8_t data[200];
    int fd = zmtp ("DEALER");
    uint64_t want = malformed ();
    for (unsigned type = 0; type < 16; type++)
        for (size_t size = 0; size < sizeof data; size += 7, want++) {
            random_bytes (data, sizeof data);
            data[0] = 0xc7;
            data[1] = 0xa1;
            data[2] = 1;
            data[3] = (uint8_t) type;
            frame (fd, 0, data, size);
        }
    ck_assert_msg (ctki_test_until (counted, &want, ctki_test_long_ms ()), "%llu malformed, not %llu",
                   (unsigned long long) malformed (), (unsigned long long) want);
    (void) close (fd);
}
END_TEST

static bool abuse (void *arg, ctki_trouble_t *trouble)
{
    (void) trouble;
    const atomic_bool *stop = arg;
    unsigned own = 99;
    while (!atomic_load (stop)) {
        uint8_t bytes[300];
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons (target)};
        address.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
        int fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect (fd, (const struct sockaddr *) &address, sizeof address) == 0) {
            greeting (bytes, "NULL");
            for (size_t i = (size_t) rand_r (&own) % 70; i < sizeof bytes; i++)
                bytes[i] = (uint8_t) rand_r (&own);
            throw (fd, bytes, sizeof bytes);
        }
        if (fd >= 0)
            (void) close (fd);
    }
    return true;
}

/* While the port is abused all the time, a good exchange is complete. */
START_TEST (exchange_under_abuse)
{
    ctki_test_thread_t thread;
    atomic_bool stop = false;
    ctki_test_thread_start (&thread, abuse, &stop);
    ctki_traffic_exchange (&cluster, ctki_test_count (2000));
    atomic_store (&stop, true);
    ctki_test_thread_join (&thread);
}
END_TEST

Suite *ctki_suite_abuse (void)
{
    Suite *suite = suite_create ("abuse");
    TCase *tcase = ctki_leaks_tcase ("abuse", 90);
    tcase_add_checked_fixture (tcase, open_pair, close_pair);
    tcase_add_test (tcase, noise);
    tcase_add_test (tcase, port_scan);
    tcase_add_test (tcase, connect_and_hold);
    tcase_add_test (tcase, foreign_protocols);
    tcase_add_test (tcase, greetings);
    tcase_add_test (tcase, handshakes);
    tcase_add_test (tcase, huge_announcements);
    tcase_add_test (tcase, foreign_dealer);
    tcase_add_test (tcase, endless_message);
    tcase_add_test (tcase, foreign_sockets);
    tcase_add_test (tcase, nearly_right_frames);
    tcase_add_test (tcase, exchange_under_abuse);
    suite_add_tcase (suite, tcase);
    return suite;
}
