/*
 * scale.c - how large and how patient the tests are, time, and what they print.
 * The environment is read at each use: it does not change while tests run.
 */
#include "tests/support/scale.h"

#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    LONG_MS = 20000,
    PROGRESS_MS = 100, /* between two lines of progress */
    TEXTS = 16,        /* static buffers */
    DESCRIPTORS_MAX = 65536
};

/* A positive number from the environment, 1 when it is not there. */
static double factor (const char *name)
{
    const char *text = getenv (name);
    double value = text ? strtod (text, NULL) : 1.0;
    return value > 0.0 ? value : 1.0;
}

size_t ctki_test_count (size_t full)
{
    double count = (double) full / factor ("CTALK_TEST_SCALE");
    return count < 1.0 ? 1 : (size_t) count;
}

int ctki_test_ms (int ms)
{
    double scaled = (double) ms * factor ("CTALK_TEST_TIMESCALE");
    return scaled > (double) INT_MAX ? INT_MAX : (int) scaled;
}

const char *ctki_test_number_text (uint64_t number)
{
    static char text[TEXTS][24];
    static unsigned next;
    char *buffer = text[next++ % TEXTS];
    (void) snprintf (buffer, sizeof text[0], "%" PRIu64, number);
    return buffer;
}

const char *ctki_test_ms_text (int ms)
{
    return ctki_test_number_text ((uint64_t) ctki_test_ms (ms));
}

int ctki_test_long_ms (void)
{
    return ctki_test_ms (LONG_MS);
}

int64_t ctki_test_now_ms (void)
{
    struct timespec now;
    (void) clock_gettime (CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool ctki_test_until (bool (*holds) (void *arg), void *arg, int ms)
{
    int64_t end = ctki_test_now_ms () + ms;
    while (!holds (arg)) {
        if (ctki_test_now_ms () >= end)
            return holds (arg);
        (void) poll (NULL, 0, 1);
    }
    return true;
}

const char *ctki_test_scale_text (void)
{
    static char text[80];
    double scale = factor ("CTALK_TEST_SCALE"), timescale = factor ("CTALK_TEST_TIMESCALE");
    bool full = scale < 1.0001 && timescale < 1.0001;
    (void) snprintf (text, sizeof text, full ? "full scale" : "counts / %g, deadlines x %g", scale, timescale);
    return text;
}

void ctki_test_figure (const char *name, const char *format, ...)
{
    char text[400];
    va_list list;
    va_start (list, format);
    (void) vsnprintf (text, sizeof text, format, list);
    va_end (list);
    printf ("  %-26s %s\n", name, text);
    (void) fflush (stdout);
}

void ctki_test_progress (const char *what, size_t done, size_t total)
{
    static int64_t last_ms;
    if (!isatty (STDERR_FILENO))
        return;
    int64_t now_ms = ctki_test_now_ms ();
    if (total && now_ms - last_ms < PROGRESS_MS)
        return;
    last_ms = now_ms;
    if (total)
        (void) fprintf (stderr, "\r  %s %zu of %zu ", what, done, total);
    else
        (void) fprintf (stderr, "\r%60s\r", "");
}

size_t ctki_test_raise_descriptors (void)
{
    struct rlimit limit;
    if (getrlimit (RLIMIT_NOFILE, &limit))
        return 0;
    if (limit.rlim_cur < DESCRIPTORS_MAX && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = CTKI_MIN (limit.rlim_max, (rlim_t) DESCRIPTORS_MAX);
        (void) setrlimit (RLIMIT_NOFILE, &limit);
    }
    return (size_t) limit.rlim_cur;
}
