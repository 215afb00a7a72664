/*
 * process.h - worker processes of a test. They are forked before the test makes
 * a server, talk with the test over a socket pair, note trouble instead of
 * asserting, and are reaped within a deadline: no zombie is left.
 */
#ifndef CTKI_TEST_PROCESS_H
#define CTKI_TEST_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "tests/support/trouble.h"

typedef struct {
    pid_t pid;  /* 0: none */
    int fd;     /* the test's end of the socket pair */
    int report; /* where the worker's trouble comes out; end of file when it has ended */
    bool copy;  /* made by ctki_process_copy () */
} ctki_process_t;

/* Forks a worker that does run (fd, arg, trouble) and exits. The test must have no thread but its own: a copy of
 * others' stacks is memory that the worker's threads may get, and that ThreadSanitizer takes for a thread's. */
void ctki_process_start (ctki_process_t *process, bool (*run) (int fd, void *arg, ctki_trouble_t *trouble), void *arg);

/*
 * The same when the test has servers already: the worker is a copy in which
 * their threads are missing, and what those had in their hands is lost. So it
 * ends by SIGKILL when all is well: nothing looks for leaks in it.
 */
void ctki_process_copy (ctki_process_t *process, bool (*run) (int fd, void *arg, ctki_trouble_t *trouble), void *arg);

/* Waits for its end and fails the test with its trouble, or when it does not end within ms. */
void ctki_process_join (ctki_process_t *process, int ms);

/* Kills it (also when stopped) and reaps it. */
void ctki_process_kill (ctki_process_t *process);

/* Whole reads and writes over the socket pair, on either side; false: end of file or not within ms. */
bool ctki_process_read (int fd, void *buffer, size_t size, int ms);
bool ctki_process_write (int fd, const void *buffer, size_t size);

#endif
