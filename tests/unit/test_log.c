/*
 * test_log.c - the log sink. Sinks note what they see in static variables; a
 * thread that stands in a sink is held there by a semaphore.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/log.h"
#include "tests/support/scale.h"

Suite *ctki_suite_log (void);

enum { THREADS = 4, LINES = 2000 };

static struct {
    int calls, level;
    char text[2048];
    void *arg;
} seen;

static void see (int level, const char *text, void *arg)
{
    ++seen.calls;
    seen.level = level;
    seen.arg = arg;
    snprintf (seen.text, sizeof seen.text, "%s", text);
}

static void silence (void)
{
    ctalk_log_set (NULL, NULL, 0);
}

/* Without a sink nothing is wanted, and a line goes nowhere. */
START_TEST (silent)
{
    for (int level = CTALK_LOG_ERROR; level <= CTALK_LOG_DEBUG; ++level)
        ck_assert (!ctki_log_wants (level));
    ctki_log (CTALK_LOG_ERROR, "nobody hears %d", 1);
    ctalk_log_set (see, NULL, CTALK_LOG_DEBUG);
    silence ();
    ctki_log (CTALK_LOG_ERROR, "nobody hears %d", 2);
    ck_assert_int_eq (seen.calls, 0);
}
END_TEST

/* Lines as grave as the level or graver are passed on with level, text and arg; the others are not. */
START_TEST (levels)
{
    ctalk_log_set (see, &seen, _i);
    int calls = 0;
    for (int level = CTALK_LOG_ERROR; level <= CTALK_LOG_DEBUG; ++level) {
        ck_assert_int_eq (ctki_log_wants (level), level <= _i);
        ctki_log (level, "line %d of %s", level, "four");
        calls += level <= _i;
        ck_assert_int_eq (seen.calls, calls);
        if (level > _i)
            continue;
        char expected[32];
        snprintf (expected, sizeof expected, "line %d of four", level);
        ck_assert_int_eq (seen.level, level);
        ck_assert_str_eq (seen.text, expected);
        ck_assert_ptr_eq (seen.arg, &seen);
    }
}
END_TEST

/* A line has no newline or other control character in it, whatever was printed. */
START_TEST (one_line)
{
    ctalk_log_set (see, NULL, CTALK_LOG_DEBUG);
    ctki_log (CTALK_LOG_INFO, "a%cb\tc\x7f\r\xc3\xa4", '\n');
    ck_assert_str_eq (seen.text, "a?b?c??\xc3\xa4");
}
END_TEST

/* The longest line that fits is whole, a longer one ends in dots. */
START_TEST (long_lines)
{
    ctalk_log_set (see, NULL, CTALK_LOG_DEBUG);
    ctki_log (CTALK_LOG_INFO, "%*d", 1023, 7);
    ck_assert_uint_eq (strlen (seen.text), 1023);
    ck_assert_int_eq (seen.text[1022], '7');
    ctki_log (CTALK_LOG_INFO, "%*d", 1024, 7);
    ck_assert_uint_eq (strlen (seen.text), 1023);
    ck_assert_str_eq (seen.text + 1019, " ...");
}
END_TEST

static void spoil_errno (int level, const char *text, void *arg)
{
    see (level, text, arg);
    errno = ENOTTY;
}

/* A log line leaves errno as it was. */
START_TEST (keeps_errno)
{
    ctalk_log_set (spoil_errno, NULL, CTALK_LOG_DEBUG);
    errno = EXDEV;
    ctki_log (CTALK_LOG_INFO, "x");
    ck_assert_int_eq (seen.calls, 1);
    ck_assert_int_eq (errno, EXDEV);
}
END_TEST

static void log_again (int level, const char *text, void *arg)
{
    see (level, text, arg);
    ctki_log (level, "from within");
    ctalk_log_set (NULL, NULL, 0);
}

/* What a sink makes the library log is dropped, and a sink that replaces itself is not heeded; neither blocks. */
START_TEST (from_within)
{
    ctalk_log_set (log_again, NULL, CTALK_LOG_DEBUG);
    ctki_log (CTALK_LOG_INFO, "first");
    ck_assert_int_eq (seen.calls, 1);
    ck_assert_str_eq (seen.text, "first");
    ctki_log (CTALK_LOG_INFO, "second");
    ck_assert_int_eq (seen.calls, 2);
    ck_assert_str_eq (seen.text, "second");
}
END_TEST

static atomic_int inside, most_inside;

static void count_inside (int level, const char *text, void *arg)
{
    see (level, text, arg);
    int now = atomic_fetch_add (&inside, 1) + 1;
    if (now > atomic_load (&most_inside))
        atomic_store (&most_inside, now);
    sched_yield ();
    atomic_fetch_sub (&inside, 1);
}

static void *write_lines (void *arg)
{
    (void) arg;
    size_t lines = ctki_test_count (LINES);
    for (size_t i = 0; i < lines; ++i)
        ctki_log (CTALK_LOG_INFO, "line %zu", i);
    return NULL;
}

/* Lines of several threads come one at a time, and none is lost. */
START_TEST (one_at_a_time)
{
    ctalk_log_set (count_inside, NULL, CTALK_LOG_INFO);
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; ++i)
        ck_assert_int_eq (pthread_create (&threads[i], NULL, write_lines, NULL), 0);
    for (size_t i = 0; i < THREADS; ++i)
        ck_assert_int_eq (pthread_join (threads[i], NULL), 0);
    ck_assert_int_eq (atomic_load (&most_inside), 1);
    ck_assert_int_eq (seen.calls, THREADS * (int) ctki_test_count (LINES));
}
END_TEST

static sem_t entered, let_go;
static atomic_bool left, replaced;

static void stand_still (int level, const char *text, void *arg)
{
    (void) level;
    (void) text;
    (void) arg;
    sem_post (&entered);
    while (sem_wait (&let_go) != 0)
        ;
    atomic_store (&left, true);
}

static void *write_line (void *arg)
{
    ctki_log (CTALK_LOG_INFO, "x");
    return arg;
}

static void *replace (void *arg)
{
    ctalk_log_set (see, NULL, CTALK_LOG_INFO);
    atomic_store (&replaced, true);
    *(bool *) arg = atomic_load (&left); /* the former sink had ended by then */
    return NULL;
}

static bool tries_to_lock (void *arg)
{
    char path[64], state = 0;
    snprintf (path, sizeof path, "/proc/self/task/%d/stat", atomic_load ((atomic_int *) arg));
    FILE *file = fopen (path, "r");
    if (file == NULL)
        return false;
    bool read = fscanf (file, "%*d (%*[^)]) %c", &state) == 1;
    fclose (file);
    return read && state == 'S';
}

static atomic_int replacer_tid;

static void *replace_with_tid (void *arg)
{
    atomic_store (&replacer_tid, (int) gettid ());
    return replace (arg);
}

/* A sink is replaced only when the former one has returned, which is not called again. */
START_TEST (waits_for_former)
{
    pthread_t writer, replacer;
    bool former_had_left = false;
    ck_assert_int_eq (sem_init (&entered, 0, 0), 0);
    ck_assert_int_eq (sem_init (&let_go, 0, 0), 0);
    ctalk_log_set (stand_still, NULL, CTALK_LOG_INFO);
    ck_assert_int_eq (pthread_create (&writer, NULL, write_line, NULL), 0);
    while (sem_wait (&entered) != 0)
        ;
    ck_assert_int_eq (pthread_create (&replacer, NULL, replace_with_tid, &former_had_left), 0);
    ck_assert (ctki_test_until (tries_to_lock, &replacer_tid, ctki_test_long_ms ()));
    ck_assert (!atomic_load (&replaced));
    sem_post (&let_go);
    ck_assert_int_eq (pthread_join (writer, NULL), 0);
    ck_assert_int_eq (pthread_join (replacer, NULL), 0);
    ck_assert (former_had_left);
    ctki_log (CTALK_LOG_INFO, "to the new one");
    ck_assert_int_eq (seen.calls, 1);
}
END_TEST

/* A child forked while another thread stands at the sink can log. (It says so by SIGKILL: at an exit the thread
 * sanitizer would miss the parent's thread.) */
START_TEST (fork_while_logging)
{
    ctalk_log_set (count_inside, NULL, CTALK_LOG_INFO);
    pthread_t thread;
    ck_assert_int_eq (pthread_create (&thread, NULL, write_lines, NULL), 0);
    for (int i = 0; i < 20; ++i) {
        pid_t child = fork ();
        ck_assert_int_ge (child, 0);
        if (child == 0) {
            alarm ((unsigned) ctki_test_long_ms () / 1000);
            int before = seen.calls;
            ctki_log (CTALK_LOG_INFO, "child");
            if (seen.calls == before + 1)
                raise (SIGKILL);
            _exit (1);
        }
        int status = -1;
        ck_assert_int_eq (waitpid (child, &status, 0), child);
        ck_assert (WIFSIGNALED (status) && WTERMSIG (status) == SIGKILL);
    }
    ck_assert_int_eq (pthread_join (thread, NULL), 0);
}
END_TEST

Suite *ctki_suite_log (void)
{
    TCase *tc = tcase_create ("log");
    tcase_set_timeout (tc, ctki_test_ms (60 * 1000) / 1000);
    tcase_add_checked_fixture (tc, NULL, silence);
    tcase_add_test (tc, silent);
    tcase_add_loop_test (tc, levels, 0, CTALK_LOG_DEBUG + 1);
    tcase_add_test (tc, one_line);
    tcase_add_test (tc, long_lines);
    tcase_add_test (tc, keeps_errno);
    tcase_add_test (tc, from_within);
    tcase_add_test (tc, one_at_a_time);
    tcase_add_test (tc, waits_for_former);
    tcase_add_test (tc, fork_while_logging);
    Suite *suite = suite_create ("log");
    suite_add_tcase (suite, tc);
    return suite;
}
