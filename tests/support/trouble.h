/*
 * trouble.h - the first thing that went wrong in a thread or a worker process,
 * where Check's own assertions cannot be used (they jump, or write to the
 * test's pipe). Whoever joins the thread or the process fails with its text.
 */
#ifndef CTKI_TEST_TROUBLE_H
#define CTKI_TEST_TROUBLE_H

#include <stdbool.h>

#include "src/base.h"

/* Empty: none. All bytes zero at the start. */
typedef struct {
    char text[300];
} ctki_trouble_t;

/* Notes the first trouble, errno with it; returns false, so that a caller can return it. */
bool ctki_trouble_note (ctki_trouble_t *trouble, const char *file, int line, const char *format, ...)
    CTKI_PRINTF (4, 5);

/* In a function that returns bool: false at once when x does not hold. */
#define CTKI_EXPECT(trouble, x)                                                                                        \
    do {                                                                                                               \
        if (!(x))                                                                                                      \
            return ctki_trouble_note (trouble, __FILE__, __LINE__, "%s", #x);                                          \
    } while (0)

/* The same with two numbers, printed when they differ. */
#define CTKI_EXPECT_EQUAL(trouble, a, b)                                                                               \
    do {                                                                                                               \
        long long left_ = (long long) (a), right_ = (long long) (b);                                                   \
        if (left_ != right_)                                                                                           \
            return ctki_trouble_note (trouble, __FILE__, __LINE__, "%s == %s: %lld, %lld", #a, #b, left_, right_);     \
    } while (0)

#endif
