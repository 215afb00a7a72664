/*
 * process.c - worker processes of a test. Owns the two descriptors and the child
 * until it is joined or killed. A worker dies with the test that forked it.
 */
#include "tests/support/process.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/scale.h"

bool ctki_process_write (int fd, const void *buffer, size_t size)
{
    const char *at = buffer;
    while (size) {
        ssize_t n = send (fd, at, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        at += n;
        size -= (size_t) n;
    }
    return true;
}

bool ctki_process_read (int fd, void *buffer, size_t size, int ms)
{
    char *at = buffer;
    int64_t end = ctki_test_now_ms () + ms;
    while (size) {
        struct pollfd item = {.fd = fd, .events = POLLIN};
        int64_t left = end - ctki_test_now_ms ();
        int rc = poll (&item, 1, left > 0 ? (int) left : 0);
        if (rc < 0 && errno == EINTR)
            continue;
        if (rc <= 0)
            return false;
        ssize_t n = read (fd, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        at += n;
        size -= (size_t) n;
    }
    return true;
}

static const char ALL_WELL = '.'; /* the report of a copy before it ends itself */

/* In the worker: never returns. Nothing of the test's (buffers, handlers) is run at its exit. */
static _Noreturn void work (int fd, int report, bool copy, bool (*run) (int fd, void *arg, ctki_trouble_t *trouble),
                            void *arg)
{
    (void) prctl (PR_SET_PDEATHSIG, SIGKILL);
    ctki_trouble_t trouble = {""};
    bool ok = run (fd, arg, &trouble);
    if (!ok) {
        (void) ctki_trouble_note (&trouble, __FILE__, __LINE__, "the worker gave up");
        (void) !write (report, trouble.text, strlen (trouble.text));
    }
    (void) fflush (stdout);
    if (ok && copy) {
        (void) !write (report, &ALL_WELL, 1);
        (void) raise (SIGKILL);
    }
    _exit (ok ? 0 : 1);
}

static void start (ctki_process_t *process, bool copy, bool (*run) (int fd, void *arg, ctki_trouble_t *trouble),
                   void *arg)
{
    int pair[2], report[2];
    ck_assert_int_eq (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    ck_assert_int_eq (pipe2 (report, O_CLOEXEC), 0);
    (void) fflush (NULL);
    pid_t pid = fork ();
    ck_assert_int_ge (pid, 0);
    if (pid == 0) {
        (void) close (pair[0]);
        (void) close (report[0]);
        work (pair[1], report[1], copy, run, arg);
    }
    (void) close (pair[1]);
    (void) close (report[1]);
    *process = (ctki_process_t){.pid = pid, .fd = pair[0], .report = report[0], .copy = copy};
}

#ifndef __SANITIZE_THREAD__ /* which has a thread of its own */
static size_t threads_here (void)
{
    size_t count = 0;
    DIR *dir = opendir ("/proc/self/task");
    ck_assert_ptr_nonnull (dir);
    for (const struct dirent *entry; (entry = readdir (dir));)
        count += entry->d_name[0] != '.';
    (void) closedir (dir);
    return count;
}
#endif

void ctki_process_start (ctki_process_t *process, bool (*run) (int fd, void *arg, ctki_trouble_t *trouble), void *arg)
{
#ifndef __SANITIZE_THREAD__
    ck_assert_uint_eq (threads_here (), 1); /* see process.h */
#endif
    start (process, false, run, arg);
}

void ctki_process_copy (ctki_process_t *process, bool (*run) (int fd, void *arg, ctki_trouble_t *trouble), void *arg)
{
    start (process, true, run, arg);
}

/* Reaps the worker, whose end is certain, and closes what belongs to it. Returns its status. */
static int reap (ctki_process_t *process)
{
    int status = 0;
    while (waitpid (process->pid, &status, 0) < 0 && errno == EINTR) {
    }
    (void) close (process->fd);
    (void) close (process->report);
    *process = (ctki_process_t){0};
    return status;
}

void ctki_process_kill (ctki_process_t *process)
{
    if (process->pid == 0)
        return;
    (void) kill (process->pid, SIGKILL);
    (void) reap (process);
}

/* Reads the report to its end; false: the worker was still there at the deadline. */
static bool read_report (int fd, char *text, size_t size, int64_t end_ms)
{
    size_t used = 0;
    for (;;) {
        char one;
        int64_t left = end_ms - ctki_test_now_ms ();
        if (left <= 0)
            return false;
        struct pollfd item = {.fd = fd, .events = POLLIN};
        if (poll (&item, 1, (int) left) <= 0)
            continue;
        if (read (fd, &one, 1) <= 0)
            break;
        if (used + 1 < size)
            text[used++] = one;
    }
    text[used] = 0;
    return true;
}

void ctki_process_join (ctki_process_t *process, int ms)
{
    char text[320] = "";
    pid_t pid = process->pid;
    bool copy = process->copy;
    bool ended = read_report (process->report, text, sizeof text, ctki_test_now_ms () + ms);
    if (!ended)
        ctki_process_kill (process);
    ck_assert_msg (ended, "worker %d did not end within %d ms", (int) pid, ms);
    int status = reap (process);
    if (copy && text[0] == ALL_WELL && WIFSIGNALED (status) && WTERMSIG (status) == SIGKILL)
        return;
    ck_assert_msg (WIFEXITED (status), "worker %d died of signal %d", (int) pid, WTERMSIG (status));
    ck_assert_msg (WEXITSTATUS (status) == 0, "worker %d: %s", (int) pid, text);
}
