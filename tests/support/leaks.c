/*
 * leaks.c - nothing may be left over after a test. Reads /proc/self/fd and
 * /proc/self/task; the descriptor of the directory itself is left out.
 */
#include "tests/support/leaks.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/scale.h"

enum { GONE_MS = 5000, LINK_BYTES = 128 };

/* Calls each with every number that names an entry of a directory; returns how many there are. */
static size_t numbers (const char *path, void (*each) (long number, void *arg), void *arg)
{
    DIR *directory = opendir (path);
    if (!directory)
        return 0;
    size_t count = 0;
    bool own = strcmp (path, "/proc/self/fd") == 0;
    for (const struct dirent *entry = readdir (directory); entry; entry = readdir (directory)) {
        long number = strtol (entry->d_name, NULL, 10);
        if (entry->d_name[0] == '.' || (own && number == dirfd (directory)))
            continue;
        count++;
        if (each)
            each (number, arg);
    }
    (void) closedir (directory);
    return count;
}

static void mark (long number, void *arg)
{
    ctki_leaks_t *now = arg;
    if (number >= 0 && number < CTKI_LEAKS_DESCRIPTORS)
        now->open[number] = true;
}

size_t ctki_leaks_descriptors (void)
{
    return numbers ("/proc/self/fd", NULL, NULL);
}

size_t ctki_leaks_threads (void)
{
    return numbers ("/proc/self/task", NULL, NULL);
}

void ctki_leaks_look (ctki_leaks_t *now)
{
    memset (now, 0, sizeof *now);
    now->descriptors = numbers ("/proc/self/fd", mark, now);
    now->threads = ctki_leaks_threads ();
}

static bool back (void *arg)
{
    const ctki_leaks_t *before = arg;
    return ctki_leaks_threads () <= before->threads && ctki_leaks_descriptors () <= before->descriptors;
}

/* What the first descriptor that was not open before points to. */
static void name_new (const ctki_leaks_t *before, const ctki_leaks_t *now, char *text, size_t size)
{
    for (int fd = 0; fd < CTKI_LEAKS_DESCRIPTORS; fd++) {
        if (!now->open[fd] || before->open[fd])
            continue;
        char path[64];
        (void) snprintf (path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t n = readlink (path, text, size - 1);
        text[n > 0 ? n : 0] = 0;
        return;
    }
}

bool ctki_leaks_gone (const ctki_leaks_t *before, int ms, char *text, size_t size)
{
    ctki_leaks_t copy = *before;
    if (ctki_test_until (back, &copy, ms))
        return true;
    ctki_leaks_t now;
    ctki_leaks_look (&now);
    char name[LINK_BYTES] = "";
    name_new (before, &now, name, sizeof name);
    (void) snprintf (text, size, "%zu descriptors where %zu were (%s), %zu threads where %zu were", now.descriptors,
                     before->descriptors, name, now.threads, before->threads);
    return false;
}

static bool few (void *arg)
{
    return ctki_leaks_descriptors () <= *(const size_t *) arg;
}

bool ctki_leaks_await_descriptors (size_t most, int ms)
{
    return ctki_test_until (few, &most, ms);
}

typedef struct {
    const char *prefix;
    size_t count;
    long last; /* of those, its number */
} named_t;

static void count_named (long number, void *arg)
{
    named_t *named = arg;
    char path[64], name[32] = "";
    (void) snprintf (path, sizeof path, "/proc/self/task/%ld/comm", number);
    FILE *file = fopen (path, "re");
    if (!file)
        return;
    if (fgets (name, sizeof name, file) && strncmp (name, named->prefix, strlen (named->prefix)) == 0) {
        named->count++;
        named->last = number;
    }
    (void) fclose (file);
}

size_t ctki_leaks_threads_named (const char *prefix)
{
    named_t named = {.prefix = prefix};
    (void) numbers ("/proc/self/task", count_named, &named);
    return named.count;
}

long ctki_leaks_thread_named (const char *prefix)
{
    named_t named = {.prefix = prefix};
    (void) numbers ("/proc/self/task", count_named, &named);
    return named.count == 1 ? named.last : 0;
}

static ctki_leaks_t at_start;

static void *nothing_to_do (void *arg)
{
    return arg;
}

/* ThreadSanitizer starts a thread of its own beside the first one of a process:
 * so the first one is over before anything is counted. */
static void setup (void)
{
    pthread_t thread;
    ck_assert_int_eq (pthread_create (&thread, NULL, nothing_to_do, NULL), 0);
    ck_assert_int_eq (pthread_join (thread, NULL), 0);
    ctki_leaks_look (&at_start);
}

static void teardown (void)
{
    char text[400];
    ck_assert_msg (ctki_leaks_gone (&at_start, ctki_test_ms (GONE_MS), text, sizeof text), "left over: %s", text);
    ck_assert_msg (waitpid (-1, NULL, WNOHANG) == -1 && errno == ECHILD, "a worker process is left over");
}

TCase *ctki_leaks_tcase (const char *name, int seconds)
{
    TCase *tcase = tcase_create (name);
    tcase_set_timeout (tcase, (double) ctki_test_ms (seconds * 1000) / 1000.0);
    tcase_add_checked_fixture (tcase, setup, teardown);
    return tcase;
}
