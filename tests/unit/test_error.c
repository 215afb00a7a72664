/*
 * test_error.c - filling in a ctalk_error_t.
 */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "src/error.h"

Suite *ctki_suite_error (void);

/* A text with its place arrives whole, errno is the code, and -1 is returned. */
START_TEST (filled_in)
{
    ctalk_error_t error;

    errno = 0;
    ck_assert_int_eq (ctki_error_at (&error, EINVAL, 3, 14, "%s: %d", "field", 42), -1);
    ck_assert_int_eq (errno, EINVAL);
    ck_assert_int_eq (error.code, EINVAL);
    ck_assert_int_eq (error.line, 3);
    ck_assert_int_eq (error.column, 14);
    ck_assert_str_eq (error.text, "field: 42");
}
END_TEST

/* Without a place, line and column are 0 even in a struct that was used before. */
START_TEST (no_place)
{
    ctalk_error_t error;

    memset (&error, 0x5a, sizeof error);
    ck_assert_int_eq (ctki_error_set (&error, ENOMEM, "no memory"), -1);
    ck_assert_int_eq (errno, ENOMEM);
    ck_assert_int_eq (error.line, 0);
    ck_assert_int_eq (error.column, 0);
    ck_assert_str_eq (error.text, "no memory");
    ctki_error_clear (&error);
    ck_assert_int_eq (error.code, 0);
    ck_assert_str_eq (error.text, "");
}
END_TEST

/* A caller that wants no text still gets errno. */
START_TEST (no_struct)
{
    errno = 0;
    ck_assert_int_eq (ctki_error_set (NULL, EEXIST, "%d", 1), -1);
    ck_assert_int_eq (errno, EEXIST);
    ctki_error_clear (NULL);
}
END_TEST

/* A text of exactly the room stays whole; one more byte and it ends in dots. */
START_TEST (cut)
{
    ctalk_error_t error;
    char text[sizeof error.text + 1];

    memset (text, 'x', sizeof text);
    text[sizeof error.text - 1] = '\0';
    ctki_error_set (&error, EINVAL, "%s", text);
    ck_assert_str_eq (error.text, text);
    text[sizeof error.text - 1] = 'x';
    text[sizeof error.text] = '\0';
    ctki_error_set (&error, EINVAL, "%s", text);
    ck_assert_uint_eq (strlen (error.text), sizeof error.text - 1);
    ck_assert_str_eq (error.text + sizeof error.text - 5, "x...");
}
END_TEST

/* The cut never leaves half a UTF-8 sequence, wherever it falls. */
START_TEST (cut_utf8)
{
    ctalk_error_t error;
    char text[600] = "";

    for (int i = 0; i < _i; i++)
        strcat (text, "x");
    for (int i = 0; i < 100; i++)
        strcat (text, "\xe2\x82\xac");
    ctki_error_set (&error, EINVAL, "%s", text);
    size_t size = strlen (error.text);
    ck_assert_str_eq (error.text + size - 3, "...");
    ck_assert_uint_eq ((size - 3 - (size_t) _i) % 3, 0);
}
END_TEST

Suite *ctki_suite_error (void)
{
    Suite *suite = suite_create ("error");
    TCase *tc = tcase_create ("error");

    tcase_add_test (tc, filled_in);
    tcase_add_test (tc, no_place);
    tcase_add_test (tc, no_struct);
    tcase_add_test (tc, cut);
    tcase_add_loop_test (tc, cut_utf8, 0, 3);
    suite_add_tcase (suite, tc);
    return suite;
}
