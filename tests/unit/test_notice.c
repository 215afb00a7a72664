/*
 * test_notice.c - what halls tell each other: golden bytes, round trips, and
 * that nothing bad is taken; ids, and the hash of a name, which is the same in
 * all versions. Each notice is decoded from a block of just its size, so that
 * reading past the end is seen by the sanitizers and by valgrind.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/notice.h"
#include "tests/support/scale.h"

Suite *ctki_suite_notice (void);

enum { NOTICE_MAX = CTKI_NOTICE_BYTES + CTKI_NAME_BYTES + 1, RANDOM_NOTICES = 100000, NAMES = 1000000 };

static const ctki_op_t ops[] = {CTKI_CREDIT, CTKI_GONE, CTKI_NO_ANSWER, CTKI_CALL_OVER, CTKI_MONITOR, CTKI_UNMONITOR,
                                CTKI_DOWN, CTKI_JOINED, CTKI_LEFT, CTKI_TELL_ALL, CTKI_TOLD_ALL,
                                CTKI_ANEW};

enum { OPS = sizeof ops / sizeof ops[0] };

/* Whether such a notice names a group. */
static bool is_named (ctki_op_t op)
{
    return op == CTKI_JOINED || op == CTKI_LEFT;
}

/* A notice with all that such a one has. */
static ctki_notice_t sample_of (ctki_op_t op)
{
    ctki_notice_t notice = {.op = op, .a = UINT64_C (0x1112131415161718), .b = UINT64_C (0x2122232425262728)};
    if (is_named (op)) {
        notice.text = "group";
        notice.text_size = 5;
    }
    return notice;
}

/* Decodes from a block of just its size. The text must lie in it, behind the
 * head, and is checked to be what stands there. */
static bool decode (const uint8_t *bytes, size_t size, ctki_notice_t *notice)
{
    uint8_t *block = malloc (size > 0 ? size : 1);
    ck_assert_ptr_nonnull (block);
    memcpy (block, bytes, size);
    bool good = ctki_notice_decode (notice, block, size);
    if (good) {
        ck_assert_ptr_eq (notice->text, (const char *) block + CTKI_NOTICE_BYTES);
        ck_assert_uint_eq (notice->text_size, size - CTKI_NOTICE_BYTES);
        ck_assert_int_eq (memcmp (notice->text, bytes + CTKI_NOTICE_BYTES, notice->text_size), 0);
        ck_assert (notice->op > 0 && notice->op <= 0xff);
        ck_assert (!is_named (notice->op) || (notice->text_size > 0 && notice->text_size <= CTKI_NAME_BYTES));
        notice->text = NULL; /* it is gone */
    }
    free (block);
    return good;
}

/* ---- bytes */

/* The numbers of the ops, and where which field stands: another version reads it so. */
START_TEST (golden)
{
    static const uint8_t expected[] = {
        8,                                              /* the op */
        0,    0,    0,    0,    0,    0,    0,          /* zeros */
        0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, /* a */
        0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, /* b */
        'g',  'r',  'o',  'u',  'p'};
    uint8_t bytes[NOTICE_MAX];
    ctki_notice_t notice = sample_of (CTKI_JOINED);
    ck_assert_uint_eq (ctki_notice_encode (&notice, bytes), sizeof expected);
    ck_assert_mem_eq (bytes, expected, sizeof expected);
    for (unsigned i = 0; i < OPS; i++)
        ck_assert_uint_eq (ops[i], i + 1);
    ck_assert_uint_eq (CTKI_SYSTEM, 1);
}
END_TEST

/* What is written is read again, of every op, with the least and the greatest numbers. */
START_TEST (round_trips)
{
    static const uint64_t numbers[] = {0, 1, UINT64_C (1) << 63, UINT64_MAX};
    for (size_t i = 0; i < OPS * 16; i++) {
        uint8_t bytes[NOTICE_MAX];
        ctki_notice_t got, notice = sample_of (ops[i / 16]);
        notice.a = numbers[i / 4 % 4];
        notice.b = numbers[i % 4];
        size_t size = ctki_notice_encode (&notice, bytes);
        ck_assert_uint_eq (size, CTKI_NOTICE_BYTES + notice.text_size);
        ck_assert (decode (bytes, size, &got));
        ck_assert (got.op == notice.op && got.a == notice.a && got.b == notice.b);
        ck_assert_uint_eq (got.text_size, notice.text_size);
        ck_assert (!notice.text_size || memcmp (bytes + CTKI_NOTICE_BYTES, notice.text, notice.text_size) == 0);
    }
}
END_TEST

/* A group has a name of 1 to 255 bytes, of any kind; with none or a longer one it is no notice. */
START_TEST (names)
{
    static const size_t sizes[] = {0, 1, 2, 254, CTKI_NAME_BYTES, CTKI_NAME_BYTES + 1};
    for (size_t i = 0; i < 2 * sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t bytes[NOTICE_MAX];
        ctki_notice_t got, notice = sample_of (i % 2 ? CTKI_LEFT : CTKI_JOINED);
        size_t size = sizes[i / 2];
        ctki_notice_encode (&notice, bytes);
        for (size_t k = 0; k < size; k++)
            bytes[CTKI_NOTICE_BYTES + k] = (uint8_t) (k * 7);
        ck_assert_int_eq (decode (bytes, CTKI_NOTICE_BYTES + size, &got), size > 0 && size <= CTKI_NAME_BYTES);
    }
}
END_TEST

/* What is cut off is refused, or it is one with a shorter name. */
START_TEST (truncated)
{
    uint8_t bytes[NOTICE_MAX];
    ctki_notice_t got, notice = sample_of (ops[_i]);
    size_t whole = ctki_notice_encode (&notice, bytes);
    for (size_t size = 0; size < whole; size++) {
        bool good = decode (bytes, size, &got);
        ck_assert_int_eq (good, is_named (notice.op) && size > CTKI_NOTICE_BYTES);
        ck_assert (!good || (got.op == notice.op && got.a == notice.a && got.b == notice.b));
    }
}
END_TEST

/* Each bit that is another one is refused (the zeros, the op 0), or makes another notice that says just these bytes:
 * written again it is the same. What stands behind an op that has no text is no harm: a later version may have more. */
START_TEST (bits_flipped)
{
    uint8_t bytes[NOTICE_MAX], again[NOTICE_MAX];
    ctki_notice_t got, notice = sample_of (ops[_i]);
    size_t size = ctki_notice_encode (&notice, bytes);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        bytes[bit / 8] ^= (uint8_t) (1u << bit % 8);
        bool zeros = bit / 8 >= 1 && bit / 8 <= 7, named = is_named ((ctki_op_t) bytes[0]);
        bool good = decode (bytes, size, &got);
        ck_assert_msg (good == (!zeros && bytes[0] != 0 && (!named || size > CTKI_NOTICE_BYTES)), "bit %zu", bit);
        if (good) {
            got.text = (const char *) bytes + CTKI_NOTICE_BYTES;
            ck_assert_uint_eq (ctki_notice_encode (&got, again), size);
            ck_assert_mem_eq (again, bytes, size);
        }
        bytes[bit / 8] ^= (uint8_t) (1u << bit % 8);
    }
}
END_TEST

/* Random bytes of random sizes, most of them with zeros where they belong, are refused or well-formed. */
START_TEST (random_bytes)
{
    unsigned seed = 1;
    size_t count = ctki_test_count (RANDOM_NOTICES), taken = 0;
    for (size_t i = 0; i < count; i++) {
        uint8_t bytes[NOTICE_MAX];
        ctki_notice_t got;
        size_t size = (size_t) rand_r (&seed) % (i % 2 ? NOTICE_MAX + 1 : 2 * CTKI_NOTICE_BYTES);
        for (size_t k = 0; k < size; k++)
            bytes[k] = (uint8_t) (rand_r (&seed) >> 4);
        if (i % 8)
            memset (bytes + 1, 0, 7);
        if (i % 3 && size > 0)
            bytes[0] = (uint8_t) (rand_r (&seed) % (OPS + 3));
        taken += decode (bytes, size, &got);
    }
    ctki_test_figure ("random_bytes", "%zu of %zu taken", taken, count);
    ck_assert (count < 100 || (taken > count / 8 && taken < count));
}
END_TEST

/* ---- ids */

/* An id is a call's, a timer's, an actor's, or nobody's: whatever its number is, and that of a name is an actor's. */
START_TEST (kinds_of_ids)
{
    static const uint64_t numbers[] = {2, 3, 12345, CTKI_ID_NUMBER - 1, CTKI_ID_NUMBER};
    ck_assert (!ctki_id_is_actor (0) && !ctki_id_is_call (0));
    ck_assert (!ctki_id_is_actor (CTKI_SYSTEM) && !ctki_id_is_call (CTKI_SYSTEM));
    ck_assert (ctki_id_is_call (CTKI_ID_CALL) && !ctki_id_is_actor (CTKI_ID_CALL));
    ck_assert (!ctki_id_is_call (CTKI_ID_TIMER) && !ctki_id_is_actor (CTKI_ID_TIMER));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        for (uint64_t kind = 0; kind < 8; kind++) {
            uint64_t id = kind << 61 | numbers[i];
            ck_assert_msg (ctki_id_is_actor (id) == (kind == 0 || kind >= 4), "kind %d", (int) kind);
            ck_assert_msg (ctki_id_is_call (id) == (kind == 1), "kind %d", (int) kind);
        }
    }
    ck_assert (ctki_id_is_actor (CTKI_ID_NAMED)); /* a name may have that hash */
    ck_assert_uint_eq (CTKI_ID_KIND & CTKI_ID_NUMBER, 0);
    ck_assert_uint_eq (CTKI_ID_KIND | CTKI_ID_NUMBER, UINT64_MAX);
}
END_TEST

/* ---- names */

/* The length of a name is that up to its end, 0 where it is none: not there, empty, or longer than 255. */
START_TEST (lengths)
{
    static const size_t sizes[] = {0, 1, 2, 254, CTKI_NAME_BYTES, CTKI_NAME_BYTES + 1, 4 * CTKI_NAME_BYTES};
    ck_assert_uint_eq (ctki_name_length (NULL), 0);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char *name = malloc (sizes[i] + 1);
        ck_assert_ptr_nonnull (name);
        memset (name, 'x', sizes[i]);
        name[sizes[i]] = 0;
        ck_assert_uint_eq (ctki_name_length (name), sizes[i] <= CTKI_NAME_BYTES ? sizes[i] : 0);
        free (name);
    }
    char *endless = malloc (CTKI_NAME_BYTES + 1); /* not looked at any further */
    ck_assert_ptr_nonnull (endless);
    memset (endless, 'x', CTKI_NAME_BYTES + 1);
    ck_assert_uint_eq (ctki_name_length (endless), 0);
    free (endless);
}
END_TEST

/* The hash of a name is part of the protocol: these were computed by another program. */
START_TEST (golden_hashes)
{
    static const struct {
        const char *name;
        uint64_t hash;
    } hashes[] = {
        {"", UINT64_C (0xefd01f60ba992926)},         {"a", UINT64_C (0x82a2a958a9bece5b)},
        {"b", UINT64_C (0x6e673288764ad2d0)},        {"ab", UINT64_C (0xda71cbd11dd9bde4)},
        {"ba", UINT64_C (0x0679519be9cf602c)},       {"router", UINT64_C (0x9375485cdadd8a68)},
        {"worker-1", UINT64_C (0x47e73c9b4c3c6e74)}, {"worker-2", UINT64_C (0x913cd475a7f43362)},
        {"z\xc3\xa4hler", UINT64_C (0x6eb638ba3aa06a00)},
    };
    char name[CTKI_NAME_BYTES];
    for (size_t i = 0; i < sizeof hashes / sizeof hashes[0]; i++)
        ck_assert_uint_eq (ctki_name_hash (hashes[i].name, strlen (hashes[i].name)), hashes[i].hash);
    memset (name, 'x', sizeof name);
    ck_assert_uint_eq (ctki_name_hash (name, sizeof name), UINT64_C (0x1915a56308b37f70));
    for (unsigned i = 0; i < sizeof name; i++) /* bytes from 128 on are no negative numbers */
        name[i] = (char) (uint8_t) (i + 1);
    ck_assert_uint_eq (ctki_name_hash (name, sizeof name), UINT64_C (0xd4dfaa42d46edbc8));
}
END_TEST

static int ascending (const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;
    return (x > y) - (x < y);
}

/* A million names that differ in few places have as many ids, and these spread over the slots of a table. */
START_TEST (no_collisions)
{
    static const char *const patterns[] = {"worker-%zu", "%zu", "session/%08zx/out", "%zu%%"};
    size_t count = CTKI_MAX (ctki_test_count (NAMES), 4000u), buckets[256] = {0};
    uint64_t *ids = malloc (count * sizeof *ids);
    ck_assert_ptr_nonnull (ids);
    for (size_t i = 0; i < count; i++) {
        char name[64];
        int size = snprintf (name, sizeof name, patterns[i % 4], i / 4);
        ids[i] = ctki_name_hash (name, (size_t) size) | CTKI_ID_NAMED;
        buckets[ids[i] & 255]++;
    }
    qsort (ids, count, sizeof *ids, ascending);
    size_t same = 0;
    for (size_t i = 1; i < count; i++)
        same += ids[i] == ids[i - 1];
    ck_assert_uint_eq (same, 0);
    for (int i = 0; i < 256; i++)
        ck_assert_msg (buckets[i] > 0 && buckets[i] < 4 * count / 256, "%zu of %zu in slot %d", buckets[i], count, i);
    free (ids);
}
END_TEST

Suite *ctki_suite_notice (void)
{
    Suite *suite = suite_create ("notice");
    TCase *tcase = tcase_create ("notice");
    tcase_set_timeout (tcase, ctki_test_ms (120 * 1000) / 1000);
    tcase_add_test (tcase, golden);
    tcase_add_test (tcase, round_trips);
    tcase_add_test (tcase, names);
    tcase_add_loop_test (tcase, truncated, 0, OPS);
    tcase_add_loop_test (tcase, bits_flipped, 0, OPS);
    tcase_add_test (tcase, random_bytes);
    tcase_add_test (tcase, kinds_of_ids);
    tcase_add_test (tcase, lengths);
    tcase_add_test (tcase, golden_hashes);
    tcase_add_test (tcase, no_collisions);
    suite_add_tcase (suite, tcase);
    return suite;
}
