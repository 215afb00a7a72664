/*
 * log.c - the log sink: one function of the application's per process, called
 * with one line at a time.
 *
 * Owns the sink and a mutex, which is held while the sink runs. So the sink
 * never runs twice at once, and who replaces it waits until it has returned.
 * The level stands beside it as an atomic, so that a silent log costs one load.
 *
 * What may go wrong: the sink may call the library, and that may log. Such a
 * line is dropped, for the mutex is held by this very thread; so is a call of
 * ctalk_log_set () from within the sink, which the header rules out. A fork
 * waits for the sink to return, and the child's mutex is made anew.
 */
#include "src/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

enum {
    LINE_BYTES = 1024 /* of one line, its end included; a longer one ends in "..." */
};

static struct {
    pthread_mutex_t mutex;
    void (*fn) (int level, const char *text, void *arg);
    void *arg;
} sink = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static atomic_int sink_level; /* 0: nothing is wanted */
static _Thread_local bool in_sink;

/* ---- fork */

static void before_fork (void)
{
    if (!in_sink)
        pthread_mutex_lock (&sink.mutex);
}

static void after_fork_in_parent (void)
{
    if (!in_sink)
        pthread_mutex_unlock (&sink.mutex);
}

static void after_fork_in_child (void)
{
    if (!in_sink)
        pthread_mutex_init (&sink.mutex, NULL);
}

static void watch_forks (void)
{
    /* Out of memory: then a child of a fork during a line cannot log. */
    (void) pthread_atfork (before_fork, after_fork_in_parent, after_fork_in_child);
}

/* ---- the sink */

void ctalk_log_set (void (*fn) (int level, const char *text, void *arg), void *arg, int level)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (in_sink)
        return;
    pthread_once (&once, watch_forks);
    pthread_mutex_lock (&sink.mutex);
    sink.fn = fn;
    sink.arg = arg;
    atomic_store_explicit (&sink_level, fn != NULL ? CTKI_MAX (level, 0) : 0, memory_order_relaxed);
    pthread_mutex_unlock (&sink.mutex);
}

bool ctki_log_wants (int level)
{
    return level <= atomic_load_explicit (&sink_level, memory_order_relaxed);
}

/* Asks again under the mutex: the sink may have gone meanwhile. */
static void pass_on (int level, const char *line)
{
    pthread_mutex_lock (&sink.mutex);
    if (sink.fn != NULL && ctki_log_wants (level)) {
        in_sink = true;
        sink.fn (level, line, sink.arg);
        in_sink = false;
    }
    pthread_mutex_unlock (&sink.mutex);
}

/* Cuts what did not fit, and sees to it that a line is one line. */
static void make_one_line (char *line, size_t wanted)
{
    if (wanted >= LINE_BYTES)
        memcpy (line + LINE_BYTES - sizeof "...", "...", sizeof "...");
    for (; *line != '\0'; ++line)
        if ((unsigned char) *line < ' ' || *line == 0x7f)
            *line = '?';
}

void ctki_log (int level, const char *format, ...)
{
    if (CTKI_LIKELY (!ctki_log_wants (level)) || in_sink)
        return;
    int saved_errno = errno;
    char line[LINE_BYTES];
    va_list args;
    va_start (args, format);
    int wanted = vsnprintf (line, sizeof line, format, args);
    va_end (args);
    if (wanted >= 0) {
        make_one_line (line, (size_t) wanted);
        pass_on (level, line);
    }
    errno = saved_errno;
}
