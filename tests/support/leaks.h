/*
 * leaks.h - nothing may be left over after a test: descriptors, threads, children.
 *
 * A close of the library joins its own threads; those of libzmq and the kernel's
 * entries of joined threads may be seen a moment longer, so the check waits for
 * them by looking at /proc until a deadline.
 */
#ifndef CTKI_TEST_LEAKS_H
#define CTKI_TEST_LEAKS_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>

enum { CTKI_LEAKS_DESCRIPTORS = 65536 };

/* What is open and running. */
typedef struct {
    size_t descriptors;
    size_t threads;
    bool open[CTKI_LEAKS_DESCRIPTORS]; /* by number */
} ctki_leaks_t;

void ctki_leaks_look (ctki_leaks_t *now);

/* Waits until no more is open and running than before, for ms at most; false, and
 * a text that names what is too much, when there still is. */
bool ctki_leaks_gone (const ctki_leaks_t *before, int ms, char *text, size_t size);

/* How many descriptors are open and how many threads run now. */
size_t ctki_leaks_descriptors (void);
size_t ctki_leaks_threads (void);

/* Waits until as many descriptors or fewer are open. */
bool ctki_leaks_await_descriptors (size_t most, int ms);

/* How many threads have a name that starts with prefix. */
size_t ctki_leaks_threads_named (const char *prefix);

/* The number of the one thread whose name begins so; 0: none, or several. */
long ctki_leaks_thread_named (const char *prefix);

/* A test case with a timeout in seconds (scaled) whose every test is checked for leaks. */
TCase *ctki_leaks_tcase (const char *name, int seconds);

#endif
