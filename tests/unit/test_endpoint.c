/*
 * test_endpoint.c - endpoints taken apart, put into normal form, or refused.
 * Each text is parsed from a block of just its size, so that reading past its
 * end is seen by the sanitizers and by valgrind.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/endpoint.h"
#include "tests/support/scale.h"

Suite *ctki_suite_endpoint (void);

static const char *parse (ctki_endpoint_t *endpoint, const char *text, size_t size, ctki_purpose_t purpose)
{
    char *copy = malloc (size ? size : 1);

    ck_assert_ptr_nonnull (copy);
    memcpy (copy, text, size);
    memset (endpoint, 0x5a, sizeof *endpoint);
    const char *why = ctki_endpoint_parse (endpoint, copy, size, purpose);
    free (copy);
    return why;
}

static const struct {
    const char *text, *normal, *host;
    ctki_transport_t transport;
    uint16_t port;
    bool numeric, v6, dialable;
} good[] = {
    {"127.0.0.1:5001", "tcp://127.0.0.1:5001", "127.0.0.1", CTKI_TCP, 5001, true, false, true},
    {"tcp://127.0.0.1:5001", "tcp://127.0.0.1:5001", "127.0.0.1", CTKI_TCP, 5001, true, false, true},
    {"TCP://HOST.Example:1", "tcp://host.example:1", "host.example", CTKI_TCP, 1, false, false, true},
    {"localhost:65535", "tcp://localhost:65535", "localhost", CTKI_TCP, 65535, false, false, true},
    {"a:0", "tcp://a:*", "a", CTKI_TCP, 0, false, false, false},
    {"a:*", "tcp://a:*", "a", CTKI_TCP, 0, false, false, false},
    {"[::1]:5001", "tcp://[::1]:5001", "::1", CTKI_TCP, 5001, true, true, true},
    {"tcp://[0:0:0:0:0:0:0:1]:5001", "tcp://[::1]:5001", "::1", CTKI_TCP, 5001, true, true, true},
    {"[2001:DB8::A]:*", "tcp://[2001:db8::a]:*", "2001:db8::a", CTKI_TCP, 0, true, true, false},
    {"[::ffff:10.0.0.1]:1", "tcp://[::ffff:10.0.0.1]:1", "::ffff:10.0.0.1", CTKI_TCP, 1, true, true, true},
    {"1.example:1", "tcp://1.example:1", "1.example", CTKI_TCP, 1, false, false, true},
    {"3com.1a:1", "tcp://3com.1a:1", "3com.1a", CTKI_TCP, 1, false, false, true},
    {"xn--bcher-kva.example:1", "tcp://xn--bcher-kva.example:1", "xn--bcher-kva.example", CTKI_TCP, 1, false, false,
     true},
    {"ipc:///run/a.sock", "ipc:///run/a.sock", "", CTKI_IPC, 0, false, false, true},
    {"IPC:///run//./A", "ipc:///run/A", "", CTKI_IPC, 0, false, false, true},
    {"ipc:///a/.b/..c", "ipc:///a/.b/..c", "", CTKI_IPC, 0, false, false, true},
    {"inproc://Name 1", "inproc://Name 1", "", CTKI_INPROC, 0, false, false, true},
};

static void expect_good (size_t i)
{
    ctki_endpoint_t endpoint, again;

    for (int purpose = CTKI_FOR_BOTH; purpose <= CTKI_FOR_CONNECT; purpose++) {
        const char *why = parse (&endpoint, good[i].text, strlen (good[i].text), (ctki_purpose_t) purpose);
        ck_assert_msg (why == NULL, "%s: %s", good[i].text, why);
        ck_assert_str_eq (endpoint.text, good[i].normal);
        ck_assert_str_eq (endpoint.host, good[i].host);
        ck_assert_int_eq (endpoint.transport, good[i].transport);
        ck_assert_uint_eq (endpoint.port, good[i].port);
        ck_assert (endpoint.numeric == good[i].numeric);
        ck_assert (endpoint.v6 == good[i].v6);
        ck_assert (ctki_endpoint_dialable (&endpoint) == good[i].dialable);
        ck_assert_ptr_null (parse (&again, endpoint.text, strlen (endpoint.text), (ctki_purpose_t) purpose));
        ck_assert_str_eq (again.text, endpoint.text);
    }
}

/* What is an endpoint is one for every purpose, with its parts and its normal
 * form; and the normal form is its own. */
START_TEST (taken)
{
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        expect_good (i);
}
END_TEST

static const char *const everywhere[] = {"*:5001", "tcp://*:*", "0.0.0.0:5001", "[::]:5001", "[0::0]:0"};

/* All interfaces can be bound, but nobody can connect to them. */
START_TEST (all_interfaces)
{
    ctki_endpoint_t endpoint;
    const char *text = everywhere[_i];

    ck_assert_ptr_null (parse (&endpoint, text, strlen (text), CTKI_FOR_BIND));
    ck_assert (endpoint.numeric);
    ck_assert (!ctki_endpoint_dialable (&endpoint));
    ck_assert_ptr_nonnull (parse (&endpoint, text, strlen (text), CTKI_FOR_CONNECT));
    ck_assert_ptr_nonnull (parse (&endpoint, text, strlen (text), CTKI_FOR_BOTH));
}
END_TEST

#define BAD(text)                                                                                                      \
    {                                                                                                                  \
        text, sizeof text - 1                                                                                          \
    }
static const struct {
    const char *text;
    size_t size;
} bad[] = {
    BAD (""),
    BAD (":"),
    BAD ("a"),
    BAD ("a:"),
    BAD (":1"),
    BAD ("a:65536"),
    BAD ("a:99999999999999999999"),
    BAD ("a:-1"),
    BAD ("a:+1"),
    BAD ("a: 1"),
    BAD ("a:1 "),
    BAD ("a:01"),
    BAD ("a:00"),
    BAD ("a:0x1"),
    BAD ("a:**"),
    BAD ("a:1/"),
    BAD ("a:1\0"),
    BAD ("a\0b:1"),
    BAD (" a:1"),
    BAD ("a b:1"),
    BAD ("a_b:1"),
    BAD ("-a:1"),
    BAD ("a-:1"),
    BAD (".a:1"),
    BAD ("a.:1"),
    BAD ("a..b:1"),
    BAD (".:1"),
    BAD ("caf\xc3\xa9:1"),
    BAD ("*.a:1"),
    BAD ("1:1"),
    BAD ("127.1:1"),
    BAD ("1.2.3:1"),
    BAD ("1.2.3.4.5:1"),
    BAD ("1.2.3.256:1"),
    BAD ("1.2.3.04:1"),
    BAD ("a.1:1"),
    BAD ("0x7f.0.0.1:1"),
    BAD ("a.0x1:1"),
    BAD ("2130706433:1"),
    BAD ("[]:1"),
    BAD ("[::1]"),
    BAD ("[::1]1"),
    BAD ("[::1]:"),
    BAD ("[::1:1"),
    BAD ("::1:1"),
    BAD ("[::1%lo]:1"),
    BAD ("[1.2.3.4]:1"),
    BAD ("[:::]:1"),
    BAD ("[::1\0]:1"),
    BAD ("[*]:1"),
    BAD ("[::12345]:1"),
    BAD ("[[::1]]:1"),
    BAD ("tcp://"),
    BAD ("tcp:/a:1"),
    BAD ("tcp:a:1"),
    BAD ("tcp://tcp://a:1"),
    BAD ("tcp://a"),
    BAD ("tcp://eth0;a:1"),
    BAD ("tcp://a:1;b:2"),
    BAD ("tcp://a,b:1"),
    BAD ("tcp://user@a:1"),
    BAD ("udp://a:1"),
    BAD ("pgm://a:1"),
    BAD ("epgm://a:1"),
    BAD ("norm://a:1"),
    BAD ("tipc://{1,2,3}"),
    BAD ("ws://a:1"),
    BAD ("wss://a:1"),
    BAD ("vmci://1:1"),
    BAD ("gssapi://a:1"),
    BAD ("://a:1"),
    BAD ("ipc://"),
    BAD ("ipc://a"),
    BAD ("ipc://./a"),
    BAD ("ipc://*"),
    BAD ("ipc://@a"),
    BAD ("ipc:///"),
    BAD ("ipc:///a/"),
    BAD ("ipc:///a/."),
    BAD ("ipc:///a\0b"),
    BAD ("ipc:///a\nb"),
    BAD ("ipc:/a"),
    BAD ("/a"),
    BAD ("inproc://"),
    BAD ("inproc://a\0b"),
    BAD ("inproc://a\x7f"),
};

static void expect_refused (size_t i)
{
    ctki_endpoint_t endpoint;

    for (int purpose = CTKI_FOR_BOTH; purpose <= CTKI_FOR_CONNECT; purpose++) {
        const char *why = parse (&endpoint, bad[i].text, bad[i].size, (ctki_purpose_t) purpose);
        ck_assert_msg (why != NULL, "\"%s\" was taken as \"%s\"", bad[i].text, endpoint.text);
        ck_assert_uint_gt (strlen (why), 4);
        ck_assert_uint_lt (strlen (why), 112);
    }
}

/* What is no endpoint is refused for every purpose with a reason. */
START_TEST (refused)
{
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        expect_refused (i);
}
END_TEST

static const struct {
    const char *before, *after;
    int most;
} lengths[] = {
    {"", ":1", 63},        /* a label */
    {"ipc:///", "", 106},  /* a path with its "/" */
    {"inproc://", "", 255} /* a name */
};

/* At each limit of length the last that is allowed is taken, one more is not. */
START_TEST (limits)
{
    char text[512];
    ctki_endpoint_t endpoint;

    for (int more = 0; more <= 1; more++) {
        int count = lengths[_i].most + more, used = 0;
        used += snprintf (text, sizeof text, "%s%0*d%s", lengths[_i].before, count, 0, lengths[_i].after);
        for (int i = 0; i < count; i++)
            text[strlen (lengths[_i].before) + (size_t) i] = 'x';
        const char *why = parse (&endpoint, text, (size_t) used, CTKI_FOR_BOTH);
        ck_assert ((why == NULL) == (more == 0));
    }
}
END_TEST

/* A host name of 253 characters is taken whole, one of 254 is refused. */
START_TEST (host_length)
{
    char text[300] = "";
    ctki_endpoint_t endpoint;

    for (int i = 0; i < 126; i++)
        strcat (text, "h.");
    strcat (text, "h:65535");
    ck_assert_ptr_null (parse (&endpoint, text, strlen (text), CTKI_FOR_BOTH));
    ck_assert_uint_eq (strlen (endpoint.host), 253);
    ck_assert_uint_eq (strlen (endpoint.text), 253 + strlen ("tcp://:65535"));
    memmove (text + 1, text, strlen (text) + 1);
    ck_assert_ptr_nonnull (parse (&endpoint, text, strlen (text), CTKI_FOR_BOTH));
}
END_TEST

/* Random short texts of the characters that matter: what is taken has a normal
 * form that is taken again as itself. */
START_TEST (random_texts)
{
    static const char letters[] = "a1.:*[]/-%@;0x \0tcp://ipc://";
    uint64_t state = 88172645463325252u;
    ctki_endpoint_t endpoint, again;
    int taken_count = 0, count = 200000;

    for (int i = 0; i < count; i++) {
        char text[12] = "";
        size_t size = (size_t) i % sizeof text;
        for (size_t j = 0; j < size; j++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            text[j] = letters[(state >> 33) % (sizeof letters - 1)];
        }
        if (parse (&endpoint, text, size, CTKI_FOR_BIND) != NULL)
            continue;
        taken_count++;
        ck_assert_ptr_null (parse (&again, endpoint.text, strlen (endpoint.text), CTKI_FOR_BIND));
        ck_assert_int_eq (memcmp (&again, &endpoint, sizeof again), 0);
    }
    ck_assert_int_gt (taken_count, count / 2000);
}
END_TEST

Suite *ctki_suite_endpoint (void)
{
    Suite *suite = suite_create ("endpoint");
    TCase *tc = tcase_create ("endpoint");

    tcase_add_test (tc, taken);
    tcase_add_loop_test (tc, all_interfaces, 0, sizeof everywhere / sizeof everywhere[0]);
    tcase_add_test (tc, refused);
    tcase_add_loop_test (tc, limits, 0, sizeof lengths / sizeof lengths[0]);
    tcase_add_test (tc, host_length);
    tcase_add_test (tc, random_texts);
    tcase_set_timeout (tc, ctki_test_ms (30 * 1000) / 1000);
    suite_add_tcase (suite, tc);
    return suite;
}
