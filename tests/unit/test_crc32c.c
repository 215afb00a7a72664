/*
 * test_crc32c.c - the checksum, by the processor and without it.
 */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>

#include "src/wire.h"
#include "tests/support/scale.h"

Suite *ctki_suite_crc32c (void);

enum {
    BUFFER_BYTES = 128 * 1024,
    LENGTHS = 800, /* over the first length that is cut into three stretches */
    ALIGNMENTS = 16,
    THREADS = 4
};

static uint8_t *buffer;

static void fill (void)
{
    buffer = malloc (BUFFER_BYTES);
    ck_assert_ptr_nonnull (buffer);
    srandom (3);
    for (size_t i = 0; i < BUFFER_BYTES; ++i)
        buffer[i] = (uint8_t) random ();
}

static void drop (void)
{
    free (buffer);
}

/* Bit by bit, as the polynomial is written down in RFC 3720. */
static uint32_t by_bits (uint32_t crc, const uint8_t *p, size_t size)
{
    crc = ~crc;
    for (; size > 0; --size, ++p) {
        crc ^= *p;
        for (int bit = 0; bit < 8; ++bit)
            crc = crc & 1u ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
    }
    return ~crc;
}

static void assert_both (const void *data, size_t size, uint32_t expected)
{
    ck_assert_uint_eq (ctki_crc32c (0, data, size), expected);
    ck_assert_uint_eq (ctki_crc32c_portable (0, data, size), expected);
}

/* The vectors of RFC 3720 B.4 (their bytes are given there in the order of the wire), and the customary one. */
START_TEST (vectors)
{
    static const uint8_t read_command[48] = {0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                                             0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00,
                                             0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x18, 0x28, 0x00, 0x00, 0x00,
                                             0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
    uint8_t bytes[32];
    memset (bytes, 0, sizeof bytes);
    assert_both (bytes, sizeof bytes, 0x8a9136aau);
    memset (bytes, 0xff, sizeof bytes);
    assert_both (bytes, sizeof bytes, 0x62a8ab43u);
    for (uint8_t i = 0; i < sizeof bytes; ++i)
        bytes[i] = i;
    assert_both (bytes, sizeof bytes, 0x46dd794eu);
    for (uint8_t i = 0; i < sizeof bytes; ++i)
        bytes[i] = (uint8_t) (31 - i);
    assert_both (bytes, sizeof bytes, 0x113fdb5cu);
    assert_both (read_command, sizeof read_command, 0xd9963a56u);
    assert_both ("123456789", 9, 0xe3069283u);
}
END_TEST

/* No bytes change nothing, and need no address. */
START_TEST (nothing)
{
    ck_assert_uint_eq (ctki_crc32c (0x12345678, NULL, 0), 0x12345678);
    ck_assert_uint_eq (ctki_crc32c_portable (0x12345678, NULL, 0), 0x12345678);
    ck_assert_uint_eq (ctki_crc32c_combine (0x12345678, 0, 0), 0x12345678);
}
END_TEST

/* Both ways agree with the definition at every length of some hundred bytes and every alignment. */
START_TEST (lengths_and_alignments)
{
    for (size_t at = 0; at < ALIGNMENTS; ++at)
        for (size_t size = 0; size < LENGTHS; ++size) {
            uint32_t start = (uint32_t) (size * 0x9e3779b9u), expected = by_bits (start, buffer + at, size);
            ck_assert_msg (ctki_crc32c (start, buffer + at, size) == expected, "%zu at %zu", size, at);
            ck_assert_msg (ctki_crc32c_portable (start, buffer + at, size) == expected, "%zu at %zu, portable", size,
                           at);
        }
}
END_TEST

/* Both ways agree on large blocks, around the lengths where the way of computing changes. */
START_TEST (large_blocks)
{
    for (size_t size = 3000; size < BUFFER_BYTES; size += 381)
        ck_assert_uint_eq (ctki_crc32c (1, buffer, size), ctki_crc32c_portable (1, buffer, size));
    for (size_t size = 3072 - 9; size < 3072 + 400; ++size)
        ck_assert_uint_eq (ctki_crc32c (1, buffer + 1, size), ctki_crc32c_portable (1, buffer + 1, size));
}
END_TEST

/* No byte behind the block is read. */
START_TEST (exact_end)
{
    for (size_t size = 1; size < LENGTHS; ++size) {
        uint8_t *block = malloc (size);
        ck_assert_ptr_nonnull (block);
        memcpy (block, buffer, size);
        ck_assert_uint_eq (ctki_crc32c (0, block, size), ctki_crc32c_portable (0, block, size));
        free (block);
    }
}
END_TEST

/* The checksum of two pieces one after the other is that of the whole. */
START_TEST (chains)
{
    const size_t size = 1000;
    uint32_t whole = ctki_crc32c (0, buffer, size);
    for (size_t cut = 0; cut <= size; ++cut) {
        ck_assert_uint_eq (ctki_crc32c (ctki_crc32c (0, buffer, cut), buffer + cut, size - cut), whole);
        ck_assert_uint_eq (ctki_crc32c_portable (ctki_crc32c_portable (0, buffer, cut), buffer + cut, size - cut),
                           whole);
    }
}
END_TEST

/* Checksums of two pieces combine to that of the whole, wherever it is cut. */
START_TEST (combines)
{
    for (size_t size = 0; size < BUFFER_BYTES; size = size * 2 + 1)
        for (size_t i = 0; i <= 32; ++i) {
            size_t cut = size * i / 32;
            uint32_t a = ctki_crc32c (5, buffer, cut), b = ctki_crc32c (0, buffer + cut, size - cut);
            ck_assert_uint_eq (ctki_crc32c_combine (a, b, size - cut), ctki_crc32c (5, buffer, size));
            ck_assert_uint_eq (ctki_crc32c_combine_portable (a, b, size - cut), ctki_crc32c (5, buffer, size));
        }
}
END_TEST

/* What is too long to be had in a test combines too: 2^k bytes are twice 2^(k-1), up to the largest size. */
START_TEST (combines_far)
{
    const uint32_t crc = 0x527d5351u;
    for (unsigned k = 1; k < 8 * sizeof (size_t); ++k) {
        size_t half = (size_t) 1 << (k - 1);
        uint32_t once = ctki_crc32c_combine (crc, 0, half), whole = ctki_crc32c_combine (crc, 0, 2 * half);
        ck_assert_uint_eq (ctki_crc32c_combine (once, 0, half), whole);
        ck_assert_uint_eq (ctki_crc32c_combine_portable (crc, 0, 2 * half), whole);
    }
    ck_assert_uint_eq (ctki_crc32c_combine (crc, 1, SIZE_MAX), ctki_crc32c_combine_portable (crc, 1, SIZE_MAX));
}
END_TEST

static void *compute (void *arg)
{
    uint32_t *crc = arg;
    *crc = ctki_crc32c (0, "123456789", 9);
    return NULL;
}

/* The first calls may be made by several threads at once. */
START_TEST (first_calls)
{
    pthread_t threads[THREADS];
    uint32_t crcs[THREADS] = {0};
    for (size_t i = 0; i < THREADS; ++i)
        ck_assert_int_eq (pthread_create (&threads[i], NULL, compute, &crcs[i]), 0);
    for (size_t i = 0; i < THREADS; ++i) {
        ck_assert_int_eq (pthread_join (threads[i], NULL), 0);
        ck_assert_uint_eq (crcs[i], 0xe3069283u);
    }
}
END_TEST

Suite *ctki_suite_crc32c (void)
{
    TCase *tc = tcase_create ("crc32c");
    tcase_set_timeout (tc, ctki_test_ms (30 * 1000) / 1000);
    tcase_add_checked_fixture (tc, fill, drop);
    tcase_add_test (tc, vectors);
    tcase_add_test (tc, nothing);
    tcase_add_test (tc, lengths_and_alignments);
    tcase_add_test (tc, large_blocks);
    tcase_add_test (tc, exact_end);
    tcase_add_test (tc, chains);
    tcase_add_test (tc, combines);
    tcase_add_test (tc, combines_far);
    tcase_add_test (tc, first_calls);
    Suite *suite = suite_create ("crc32c");
    suite_add_tcase (suite, tc);
    return suite;
}
