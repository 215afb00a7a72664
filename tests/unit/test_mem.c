/*
 * test_mem.c - the allocator seam: it is malloc, until a test arms it.
 */
#include <check.h>
#include <errno.h>
#include <malloc.h>

#include "src/mem.h"

Suite *ctki_suite_mem (void);

/* Disarmed: all calls succeed, zeroed memory is zero, size 0 is a block, copies end where they should. */
START_TEST (disarmed)
{
    uint8_t *zero = ctki_alloc_zero (100);
    for (int i = 0; i < 100; i++)
        ck_assert_uint_eq (zero[i], 0);
    memset (zero, 7, 100);
    zero = ctki_realloc (zero, 1000);
    ck_assert_uint_eq (zero[99], 7);
    void *none = ctki_alloc (0);
    ck_assert_ptr_nonnull (none);
    char *text = ctki_strdup ("envelope"), *part = ctki_strndup ("envelope", 3);
    ck_assert_str_eq (text, "envelope");
    ck_assert_str_eq (part, "env");
    ctki_free (zero);
    ctki_free (none);
    ctki_free (text);
    ctki_free (part);
    ctki_free (NULL);
}
END_TEST

/* Which of ten allocations succeed, one digit each. */
static const char *pattern (char out[11])
{
    for (int i = 0; i < 10; i++) {
        errno = 0;
        void *block = ctki_alloc (8);
        out[i] = block ? '1' : '0';
        ck_assert (block || errno == ENOMEM);
        ctki_free (block);
    }
    out[10] = 0;
    return out;
}

/* Armed: so many pass, then so many fail, and those after them pass again; -1 fails all the rest. */
START_TEST (armed)
{
    char out[11];
    ctki_mem_fail (0, 1);
    ck_assert_str_eq (pattern (out), "0111111111");
    ctki_mem_fail (3, 2);
    ck_assert_str_eq (pattern (out), "1110011111");
    ctki_mem_fail (4, -1);
    ck_assert_str_eq (pattern (out), "1111000000");
    ctki_mem_fail (-1, 0);
    ck_assert_str_eq (pattern (out), "1111111111");
}
END_TEST

/* It says how many allocations were made while it was armed, the failed ones among them. */
START_TEST (counted)
{
    char out[11];
    ctki_mem_fail (1000, -1);
    pattern (out);
    ck_assert_int_eq (ctki_mem_fail (2, -1), 10);
    pattern (out);
    ck_assert_int_eq (ctki_mem_fail (-1, 0), 10);
    pattern (out);
    ck_assert_int_eq (ctki_mem_fail (-1, 0), 0);
}
END_TEST

/* Every way to allocate fails when armed; a block that could not grow is as it was. */
START_TEST (every_way)
{
    char *block = ctki_strdup ("as it was");
    ctki_mem_fail (0, -1);
    ck_assert_ptr_null (ctki_alloc (1));
    ck_assert_ptr_null (ctki_alloc_zero (1));
    ck_assert_ptr_null (ctki_strdup ("x"));
    ck_assert_ptr_null (ctki_strndup ("x", 1));
    ck_assert_ptr_null (ctki_realloc (block, 4096));
    ctki_mem_fail (-1, 0);
    ck_assert_str_eq (block, "as it was");
    ctki_free (block);
}
END_TEST

#ifdef __GLIBC_PREREQ
#if __GLIBC_PREREQ(2, 33)
/* Once settled, the C library takes a block of 1 MiB from its heap, which it then keeps, and not from the kernel. */
START_TEST (settled)
{
    if (mallinfo2 ().arena == 0)
        return; /* another allocator stands in for it */
    ctki_mem_settle ();
    size_t mapped = mallinfo2 ().hblks;
    void *volatile block = ctki_alloc (1 << 20);
    ck_assert_ptr_nonnull (block);
    ck_assert_uint_eq (mallinfo2 ().hblks, mapped);
    ctki_free (block);
}
END_TEST
#define HAS_SETTLED 1
#endif
#endif

Suite *ctki_suite_mem (void)
{
    Suite *suite = suite_create ("mem");
    TCase *tcase = tcase_create ("mem");
    tcase_add_test (tcase, disarmed);
    tcase_add_test (tcase, armed);
    tcase_add_test (tcase, counted);
    tcase_add_test (tcase, every_way);
#ifdef HAS_SETTLED
    tcase_add_test (tcase, settled);
#endif
    suite_add_tcase (suite, tcase);
    return suite;
}
