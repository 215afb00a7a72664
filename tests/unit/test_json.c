/*
 * test_json.c - the validating pass and the walk over the tokens. Each text is
 * validated in a block of just its size, so that reading past its end is seen
 * by the sanitizers and by valgrind.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/json.h"
#include "src/mem.h"
#include "tests/support/scale.h"

Suite *ctki_suite_json (void);

typedef struct {
    const char *text;
    size_t size;
    int expected; /* good: tokens; bad: offset of the fault */
} sample_t;

#define S(text, expected)                                                                                              \
    {                                                                                                                  \
        text, sizeof text - 1, expected                                                                                \
    }

static bool validate (const char *text, size_t size, int *tokens, ctki_json_fault_t *fault)
{
    char *copy = malloc (size ? size : 1);

    ck_assert_ptr_nonnull (copy);
    memcpy (copy, text, size);
    bool good = ctki_json_validate (copy, size, tokens, fault);
    free (copy);
    return good;
}

static const sample_t good[] = {
    S ("0", 1),
    S ("-0", 1),
    S (" 1 ", 1),
    S ("-1.5e+10", 1),
    S ("1E5", 1),
    S ("0.0e-0", 1),
    S ("123456789012345678901", 1),
    S ("1e999999", 1),
    S ("true", 1),
    S ("false", 1),
    S ("null", 1),
    S ("\"\"", 1),
    S ("\"a\"", 1),
    S ("{}", 1),
    S ("[]", 1),
    S ("[ ]", 1),
    S ("{ }", 1),
    S ("[1,2]", 3),
    S ("[[],[[]]]", 4),
    S ("{\"a\":1}", 3),
    S ("{\"a\":{\"b\":[1,\"c\"]},\"a\":null}", 9),
    S ("\t\r\n {\t\"a\"\n:\r1 , \"b\" : 2 } \n", 5),
    S ("{\"\":\"\"}", 3),
    S ("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\\uABCD\\uabcd\"", 1),
    S ("\"\\ud83d\\ude00\"", 1),
    S ("\"\\uDBFF\\uDFFF\"", 1),
    S ("\"\\u0022\"", 1),
    S ("\"\x7f\"", 1),
    S ("\"\xc2\x80\xdf\xbf\"", 1),
    S ("\"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\"", 1),
    S ("\"\xef\xbf\xbf\"", 1),
    S ("\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"", 1),
    S ("\"\xe2\x80\xa8\"", 1),
    S ("\"\xef\xbb\xbf\"", 1),
    S ("[\"/*\",\"//\",\"#\"]", 4),
    S ("[1\n,2]", 3),
    S ("[null,1,\"1\",{}]", 5),
};

/* Every JSON text of the table is taken, with its number of tokens. */
START_TEST (valid)
{
    ctki_json_fault_t fault;
    int tokens = 0;

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        ck_assert_msg (validate (good[i].text, good[i].size, &tokens, &fault), "%s: %s", good[i].text, fault.reason);
        ck_assert_int_eq (tokens, good[i].expected);
        ck_assert (validate (good[i].text, good[i].size, NULL, &fault));
    }
}
END_TEST

static const sample_t bad[] = {
    S ("", 0),
    S (" ", 1),
    S ("\xef\xbb\xbf{}", 0),
    S ("\xef\xbb\xbf", 0),
    S ("\xff\xfe[\0]\0", 0),
    S ("\xc2\xa0[]", 0),
    S ("\x0c[]", 0),
    S ("[]\x0b", 2),
    S ("[]\0", 2),
    S ("\0", 0),
    S ("\xe2\x81\xa0[]", 0),
    S ("[", 1),
    S ("{", 1),
    S ("]", 0),
    S ("}", 0),
    S ("[1", 2),
    S ("[1,", 3),
    S ("[1 true]", 3),
    S ("[1,]", 3),
    S ("[,1]", 1),
    S ("[1,,2]", 3),
    S ("[,]", 1),
    S ("[1:2]", 2),
    S ("[1}", 2),
    S ("{]", 1),
    S ("[1]]", 3),
    S ("[]{}", 2),
    S ("[][]", 2),
    S ("[1]x", 3),
    S ("[\"a\",\n4\n,1,", 11),
    S ("[(1)]", 1),
    S ("[<null>]", 1),
    S ("[3[4]]", 2),
    S ("{\"a\"", 4),
    S ("{\"a\":", 5),
    S ("{\"a\":1", 6),
    S ("{\"a\":1,", 7),
    S ("{\"a\":1,}", 7),
    S ("{\"a\":1,,\"b\":2}", 7),
    S ("{,\"a\":1}", 1),
    S ("{\"a\",\"b\"}", 4),
    S ("{\"a\" \"b\"}", 5),
    S ("{\"a\":1 \"b\":2}", 7),
    S ("{\"a\"::1}", 5),
    S ("{\"a\":}", 5),
    S ("{a:1}", 1),
    S ("{1:1}", 1),
    S ("{null:1}", 1),
    S ("{'a':1}", 1),
    S ("{[]:1}", 1),
    S ("{\"a\"}", 4),
    S ("{\"a\":1}}", 7),
    S ("{\"a\":1}/**/", 7),
    S ("{\"a\":/*x*/1}", 5),
    S ("[1]//", 3),
    S ("[1]#", 3),
    S ("{\"a\":1;}", 6),
    S ("{\"a\":1 1}", 7),
    S ("{\"a\":\"a\" 123}", 9),
    S ("{\"x\", null}", 4),
    S ("{true}", 1),
    S ("{\"a\":1,\"b\"}", 10),
    S ("tru", 0),
    S ("truee", 0),
    S ("True", 0),
    S ("nul", 0),
    S ("nulll", 0),
    S ("NULL", 0),
    S ("[fals]", 1),
    S ("[a]", 1),
    S ("[NaN]", 1),
    S ("[-NaN]", 1),
    S ("[Infinity]", 1),
    S ("[-Infinity]", 1),
    S ("[inf]", 1),
    S ("undefined", 0),
    S ("-", 0),
    S ("+1", 0),
    S (".5", 0),
    S ("-.5", 0),
    S ("1.", 0),
    S ("1.e1", 0),
    S ("1e", 0),
    S ("1e+", 0),
    S ("1e-", 0),
    S ("1E", 0),
    S ("1eE2", 0),
    S ("1e1.5", 0),
    S ("01", 0),
    S ("-01", 0),
    S ("00", 0),
    S ("-00.1", 0),
    S ("0x1", 0),
    S ("1a", 0),
    S ("1.2.3", 0),
    S ("1-2", 0),
    S ("1+2", 0),
    S ("--1", 0),
    S ("-+1", 0),
    S ("[1_000]", 1),
    S ("1 000", 2),
    S ("0e", 0),
    S ("[-]", 1),
    S ("[- 1]", 1),
    S ("[1.0.]", 1),
    S ("[\xef\xbc\x91]", 1),
    S ("2.e3", 0),
    S ("9.e+", 0),
    S ("[1,2", 4),
    S ("\"", 1),
    S ("\"a", 2),
    S ("\"a\\\"", 4),
    S ("'a'", 0),
    S ("[\"a]", 4),
    S ("\"a\"b", 3),
    S ("\"a\nb\"", 2),
    S ("\"a\tb\"", 2),
    S ("\"a\0b\"", 2),
    S ("\"\x1f\"", 1),
    S ("\"\\", 1),
    S ("\"\\x41\"", 1),
    S ("\"\\'\"", 1),
    S ("\"\\a\"", 1),
    S ("\"\\0\"", 1),
    S ("\"\\U0041\"", 1),
    S ("\"\\\n\"", 1),
    S ("\"\\\0\"", 1),
    S ("\"\\u\"", 1),
    S ("\"\\u1\"", 1),
    S ("\"\\u123\"", 1),
    S ("\"\\u123g\"", 1),
    S ("\"\\u 123\"", 1),
    S ("\"\\u00A", 1),
    S ("\"\\ud800\"", 1),
    S ("\"\\udc00\"", 1),
    S ("\"\\ud800\\n\"", 1),
    S ("\"\\ud800\\u0041\"", 1),
    S ("\"\\ud800\\ud800\"", 1),
    S ("\"\\udc00\\ud800\"", 1),
    S ("\"\\ud800\\", 1),
    S ("\"\\ud800\\udc0", 1),
    S ("\"a\\ud800b\"", 2),
    S ("\"\\\xc3\xa9\"", 1),
    S ("\"\x80\"", 1),
    S ("\"\xbf\"", 1),
    S ("\"\xc0\x80\"", 1),
    S ("\"\xc1\xbf\"", 1),
    S ("\"\xc3\"", 1),
    S ("\"\xc3\x28\"", 1),
    S ("\"\xe0\x9f\xbf\"", 1),
    S ("\"\xe2\x82\"", 1),
    S ("\"\xed\xa0\x80\"", 1),
    S ("\"\xed\xbf\xbf\"", 1),
    S ("\"\xf0\x8f\xbf\xbf\"", 1),
    S ("\"\xf4\x90\x80\x80\"", 1),
    S ("\"\xf5\x80\x80\x80\"", 1),
    S ("\"\xf8\x88\x80\x80\x80\"", 1),
    S ("\"\xfe\"", 1),
    S ("\"\xff\"", 1),
    S ("\"\xf0\x9f\x98", 1),
    S ("\"a\xe2\x28\xa1\"", 2),
    S ("\xc3\xa9", 0),
    S ("[\xff]", 1),
    S ("{\"\xc3\":1}", 2),
};

/* Everything of the table that is not JSON is refused at its place. */
START_TEST (invalid)
{
    ctki_json_fault_t fault;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg (!validate (bad[i].text, bad[i].size, NULL, &fault), "taken: %s", bad[i].text);
        ck_assert_msg ((int) fault.offset == bad[i].expected, "%s: %zu instead of %d: %s", bad[i].text, fault.offset,
                       bad[i].expected, fault.reason);
        ck_assert_uint_gt (strlen (fault.reason), 4);
        ck_assert_uint_gt (strlen (fault.field), 0);
    }
}
END_TEST

/* Sixty-four levels are taken, the bracket of the sixty-fifth is the fault, in
 * arrays, objects and both mixed. */
START_TEST (depth)
{
    static const char *const opening[] = {"[", "{\"a\":", "[{\"\":"}, *const closing[] = {"]", "}", "}]"};
    static const int levels[] = {64, 64, 32};
    char text[1024];
    ctki_json_fault_t fault;

    for (int more = 0; more <= 1; more++) {
        size_t used = 0;
        for (int i = 0; i < levels[_i] + more; i++)
            used += (size_t) sprintf (text + used, "%s", opening[_i]);
        size_t inner = used;
        used += (size_t) sprintf (text + used, "0");
        for (int i = 0; i < levels[_i] + more; i++)
            used += (size_t) sprintf (text + used, "%s", closing[_i]);
        ck_assert (validate (text, used, NULL, &fault) == (more == 0));
        if (more == 1)
            ck_assert_uint_eq (fault.offset, inner - strlen (opening[_i]));
    }
}
END_TEST

static const struct {
    const char *text, *field;
} fields[] = {
    {"x", "(top level)"},
    {"{x", "(top level)"},
    {"{\"a\":x", "a"},
    {"{\"a\":1 x", "(top level)"},
    {"{\"a\":{\"b_2\":x", "a.b_2"},
    {"{\"a\":{\"2\":{\"B\":x", "a.\"2\".B"},
    {"{\"a\":[0,{},x", "a[2]"},
    {"{\"a\":[0,{\"b c\":[[x", "a[1].\"b c\"[0][0]"},
    {"{\"\":x", "\"\""},
    {"{\"\\n\\u0041\":x", "\"\\n\\u0041\""},
    {"{\"\x7f\xc2\x85\xe2\x80\xa8\":x", "\"???\""},
    {"{\"\xc3\xa9\":x", "\"\xc3\xa9\""},
    {"{\"abcdefghijklmnopqrstuvwxyz0123456\":x", "abcdefghijklmnopqrstuvwxyz012..."},
    {"{\"a234567890123456789012345678\":{\"b234567890123456789012345678\":{\"c234567890123456789012345678\":x",
     "a23456789012345678901234....c234567890123456789012345678"},
};

/* The field of a fault is the path to where it lies, printable and of limited
 * length. */
START_TEST (field)
{
    ctki_json_fault_t fault;

    ck_assert (!validate (fields[_i].text, strlen (fields[_i].text), NULL, &fault));
    ck_assert_str_eq (fault.field, fields[_i].field);
}
END_TEST

static void init (ctki_json_t *json, const char *text)
{
    ctki_json_fault_t fault;

    ck_assert_msg (ctki_json_init (json, text, strlen (text), &fault) == 0, "%s: %s", text, fault.reason);
}

/* The walk meets each key and element in the order of the text, and passes over
 * what lies inside. */
START_TEST (walk)
{
    ctki_json_t json;
    size_t size;

    init (&json, " {\"a\": [1, [2, {}], \"x\"], \"b\": {\"c\": {}}, \"d\": true, \"e\": false, \"f\": null}");
    ck_assert_int_eq (ctki_json_kind (&json, 0), CTKI_JSON_OBJECT);
    ck_assert_uint_eq (ctki_json_offset (&json, 0), 1);
    ck_assert_int_eq (ctki_json_size (&json, 0), 5);
    ck_assert_int_eq (ctki_json_next (&json, 0), -1);
    int a = ctki_json_first (&json, 0), b = ctki_json_next (&json, a), d = ctki_json_next (&json, b);
    ck_assert_uint_eq (ctki_json_offset (&json, a), 2);
    ck_assert_int_eq (*ctki_json_raw (&json, b, &size), 'b');
    ck_assert_uint_eq (size, 1);
    ck_assert_int_eq (*ctki_json_raw (&json, d, &size), 'd');
    int one = ctki_json_first (&json, a + 1), list = ctki_json_next (&json, one), x = ctki_json_next (&json, list);
    ck_assert_int_eq (ctki_json_size (&json, a + 1), 3);
    ck_assert_int_eq (ctki_json_kind (&json, one), CTKI_JSON_NUMBER);
    ck_assert_int_eq (ctki_json_kind (&json, list), CTKI_JSON_ARRAY);
    ck_assert_int_eq (ctki_json_kind (&json, x), CTKI_JSON_STRING);
    ck_assert_int_eq (ctki_json_next (&json, x), -1);
    ck_assert_int_eq (ctki_json_first (&json, one), -1);
    ck_assert_int_eq (ctki_json_first (&json, a), -1);
    ck_assert_int_eq (ctki_json_first (&json, ctki_json_first (&json, b + 1) + 1), -1);
    ck_assert_int_eq (ctki_json_kind (&json, d + 1), CTKI_JSON_TRUE);
    int e = ctki_json_next (&json, d), f = ctki_json_next (&json, e);
    ck_assert_int_eq (ctki_json_kind (&json, e + 1), CTKI_JSON_FALSE);
    ck_assert_int_eq (ctki_json_kind (&json, f + 1), CTKI_JSON_NULL);
    ck_assert_int_eq (ctki_json_next (&json, f), -1);
    ctki_json_fini (&json);
}
END_TEST

/* The path of a key is that of its value; an element has the index it is given. */
START_TEST (node_field)
{
    ctki_json_t json;
    char text[CTKI_JSON_FIELD_BYTES];

    init (&json, "{\"Servers\": {\"2\": {\"Bind\": 1}}, \"PidList\": [7, 8]}");
    ctki_json_field (&json, 0, -1, text);
    ck_assert_str_eq (text, "(top level)");
    int servers = ctki_json_first (&json, 0), two = ctki_json_first (&json, servers + 1);
    ctki_json_field (&json, ctki_json_first (&json, two + 1), -1, text);
    ck_assert_str_eq (text, "Servers.\"2\".Bind");
    ctki_json_field (&json, ctki_json_first (&json, two + 1) + 1, -1, text);
    ck_assert_str_eq (text, "Servers.\"2\".Bind");
    int list = ctki_json_next (&json, servers);
    ctki_json_field (&json, ctki_json_next (&json, ctki_json_first (&json, list + 1)), 1, text);
    ck_assert_str_eq (text, "PidList[1]");
    ctki_json_fini (&json);
}
END_TEST

static const struct {
    const char *raw, *decoded;
    size_t size;
} strings[] = {
    {"", "", 0},
    {"plain", "plain", 5},
    {"\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t", 8},
    {"a\\u0000b", "a\0b", 3},
    {"\\u007f\\u0080\\u07ff\\u0800\\uFFFF", "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf", 11},
    {"\\ud83d\\ude00\\uDBFF\\uDFFF\\ud800\\udc00", "\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\xf0\x90\x80\x80", 12},
    {"\xe2\x82\xac", "\xe2\x82\xac", 3},
};

/* Strings are decoded; with too little room the size is told and nothing is
 * written beyond it. */
START_TEST (string)
{
    char text[128], out[64];
    ctki_json_t json;

    snprintf (text, sizeof text, "[\"%s\"]", strings[_i].raw);
    init (&json, text);
    for (size_t capacity = 0; capacity < 32; capacity++) {
        memset (out, '~', sizeof out);
        ck_assert_uint_eq (ctki_json_string (&json, 1, out, capacity), strings[_i].size);
        size_t written = CTKI_MIN (capacity, strings[_i].size);
        ck_assert_int_eq (memcmp (out, strings[_i].decoded, written), 0);
        ck_assert_int_eq (out[written], '~');
    }
    ctki_json_fini (&json);
}
END_TEST

/* A text whose top level is a bare value is JSON but has no tokens to walk. */
START_TEST (bare_value)
{
    ctki_json_fault_t fault;
    ctki_json_t json;

    errno = 0;
    ck_assert_int_eq (ctki_json_init (&json, " 42", 3, &fault), -1);
    ck_assert_int_eq (errno, EINVAL);
    ck_assert_uint_eq (fault.offset, 1);
    ctki_mem_fail (0, 1);
    ck_assert_int_eq (ctki_json_init (&json, "[]", 2, &fault), -1);
    ctki_mem_fail (-1, 0);
    ck_assert_int_eq (errno, ENOMEM);
}
END_TEST

/* Lines end with a line feed, a column is a character, whatever its bytes. */
START_TEST (places)
{
    static const char text[] = "a\tb\r\n\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80x\n\ny";
    static const int expected[][3] = {{0, 0, 0},  {2, 0, 2},  {4, 0, 4},  {5, 1, 0},  {7, 1, 1}, {10, 1, 2},
                                      {14, 1, 3}, {15, 1, 4}, {16, 2, 0}, {17, 3, 0}, {18, 3, 1}};
    ctki_json_place_t place = {0};

    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        ctki_json_seek (&place, text, (size_t) expected[i][0]);
        ck_assert_int_eq (place.line, expected[i][1]);
        ck_assert_int_eq (place.column, expected[i][2]);
    }
}
END_TEST

/* Text made printable: what cannot be shown becomes "?", what does not fit
 * dots, and no sequence is cut in two, at every size of the room. */
START_TEST (printable)
{
    static const char text[] = "ab\n\xff\xc3\xa9\xe2\x82\xac\xe2\x80\xae\xf0\x9f\x98\x80z";
    char out[32];

    ck_assert_str_eq (ctki_printable (out, sizeof out, text, sizeof text - 1),
                      "ab??\xc3\xa9\xe2\x82\xac?\xf0\x9f\x98\x80z");
    for (size_t capacity = 4; capacity <= 16; capacity++) {
        ctki_printable (out, capacity, text, sizeof text - 1);
        size_t size = strlen (out);
        uint32_t point;
        ck_assert_uint_lt (size, capacity);
        ck_assert (capacity >= 16 || strcmp (out + size - 3, "...") == 0);
        for (size_t at = 0; at < size;) {
            size_t width = ctki_utf8_decode (out + at, size - at, &point);
            ck_assert_uint_gt (width, 0);
            at += width;
        }
    }
}
END_TEST

/* Random texts of the characters that JSON is made of: what the validation
 * takes, jsmn takes with the same number of tokens. */
START_TEST (random_texts)
{
    static const char *const parts[] = {"{",    "}", "[",           "]",  ",",  ":",       "\"a\"",  "1",
                                        "true", " ", "\"\\u0041\"", "{}", "[]", "\"a\":1", ",\"b\":"};
    uint64_t state = 88172645463325252u;
    int taken = 0, count = (int) ctki_test_count (300000);

    for (int i = 0; i < count; i++) {
        char text[128] = "";
        ctki_json_fault_t fault;
        ctki_json_t json;
        int tokens = 0, length = 1 + i % 9;
        for (int j = 0; j < length; j++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            strcat (text, parts[(state >> 33) % (sizeof parts / sizeof parts[0])]);
        }
        if (!validate (text, strlen (text), &tokens, &fault))
            continue;
        if (ctki_json_init (&json, text, strlen (text), &fault) < 0) {
            ck_assert_msg (strstr (fault.reason, "must be an object") != NULL, "%s: %s", text, fault.reason);
            continue;
        }
        taken++;
        ck_assert_int_eq (json.count, tokens);
        ctki_json_fini (&json);
    }
    ck_assert_int_gt (taken, count / 1000);
}
END_TEST

static TCase *tcase_validate (void)
{
    TCase *tc = tcase_create ("validate");

    tcase_add_test (tc, valid);
    tcase_add_test (tc, invalid);
    tcase_add_loop_test (tc, depth, 0, 3);
    tcase_add_loop_test (tc, field, 0, sizeof fields / sizeof fields[0]);
    tcase_add_test (tc, random_texts);
    return tc;
}

static TCase *tcase_walk (void)
{
    TCase *tc = tcase_create ("walk");

    tcase_add_test (tc, walk);
    tcase_add_test (tc, node_field);
    tcase_add_loop_test (tc, string, 0, sizeof strings / sizeof strings[0]);
    tcase_add_test (tc, bare_value);
    tcase_add_test (tc, places);
    tcase_add_test (tc, printable);
    return tc;
}

Suite *ctki_suite_json (void)
{
    TCase *cases[] = {tcase_validate (), tcase_walk ()};
    Suite *suite = suite_create ("json");

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tcase_set_timeout (cases[i], ctki_test_ms (30 * 1000) / 1000);
        suite_add_tcase (suite, cases[i]);
    }
    return suite;
}
