/*
 * test_supervisors.c - actors that start other actors, and start them again: the
 * order, the strategies, too many restarts, children that do not stop, and starts
 * that fail at every point.
 *
 * The children are workers that end when they are told so and note what they do in
 * a trace: +1 worker 1 has started, x1 it ends as it was told, ?1 it is asked to
 * stop, -1 it does. Notes of starts that follow each other come in any order, as each
 * is made by a thread of its own: they are sorted.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "src/mem.h"
#include "src/sys.h" /* ctki_thread_fail */
#include "tests/cluster/suites.h"
#include "tests/support/support.h"

enum {
    WORKERS = 8,
    MANY = 1000000,  /* restarts */
    LONG_MS = 60000, /* a window */
    TRACE_BYTES = 600,
    ARE_YOU_THERE = 1000, /* message ids; smaller ones: end with this reason */
    DROPPED = 1001
};

typedef struct {
    int number;
    atomic_uint_fast64_t id; /* of its last life */
    atomic_int lives, deaths, stops;
    atomic_bool quiet;   /* it notes nothing */
    atomic_bool lingers; /* asked to stop, it waits until it no longer lingers */
    atomic_long memory;  /* before it ends as it was told: ctki_mem_fail (memory, 1); -1: not */
} worker_t;

static ctki_cluster_t cluster;
static worker_t workers[WORKERS];
static ctalk_child_t children[WORKERS];
static char trace[TRACE_BYTES];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* of the trace */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static ctalk_server_t *server (void)
{
    return cluster.server[1];
}

/* ---- the trace */

static void note (const worker_t *worker, char what)
{
    pthread_mutex_lock (&mutex);
    size_t used = strlen (trace);
    if (!atomic_load (&worker->quiet) && used + 4 < sizeof trace)
        (void) snprintf (trace + used, sizeof trace - used, "%s%c%d", used ? " " : "", what, worker->number);
    pthread_cond_broadcast (&changed);
    pthread_mutex_unlock (&mutex);
}

/* Each note is two letters and a space. Askings that follow each other are sorted, too. */
static void sort_notes (void)
{
    size_t count = (strlen (trace) + 1) / 3;
    for (size_t i = 0; i < count; i++)
        for (char *at = trace; at + 3 < trace + 3 * count; at += 3)
            if ((at[0] == at[3] && (at[0] == '+' || at[0] == '?') && at[1] > at[4])
                || (at[0] == '?' && at[3] == '+' && at[1] != at[4])) { /* a start that is noted late */
                char first[2] = {at[0], at[1]};
                memmove (at, at + 3, 2);
                memcpy (at + 3, first, 2);
            }
}

/* Waits until something changes; false: for too long. With the mutex. */
static bool wait_changed (int64_t deadline_ms)
{
    int64_t left_ms = deadline_ms - ctki_test_now_ms ();
    struct timespec until;
    (void) clock_gettime (CLOCK_REALTIME, &until);
    int64_t nanoseconds = until.tv_nsec + left_ms * 1000000;
    until.tv_sec += nanoseconds / 1000000000;
    until.tv_nsec = nanoseconds % 1000000000;
    return left_ms > 0 && pthread_cond_timedwait (&changed, &mutex, &until) != EINVAL;
}

/* Waits until just this has happened since the last look. */
static void expect (const char *story)
{
    int64_t deadline_ms = ctki_test_now_ms () + ctki_test_long_ms ();
    bool same = false;
    char got[TRACE_BYTES];
    pthread_mutex_lock (&mutex);
    do {
        sort_notes ();
        same = strcmp (trace, story) == 0;
    } while (!same && wait_changed (deadline_ms));
    memcpy (got, trace, sizeof got);
    trace[0] = '\0';
    pthread_mutex_unlock (&mutex);
    ck_assert_msg (same, "%s instead of %s", got, story);
}

static void forget (void)
{
    pthread_mutex_lock (&mutex);
    trace[0] = '\0';
    pthread_mutex_unlock (&mutex);
}

/* These have stopped since the last look, in this order, whatever else was noted: notes of starts may come late. */
static void expect_stops (const char *story)
{
    char got[TRACE_BYTES] = "";
    pthread_mutex_lock (&mutex);
    for (const char *at = strchr (trace, '-'); at; at = strchr (at + 1, '-'))
        (void) snprintf (got + strlen (got), sizeof got - strlen (got), "%s%.2s", *got ? " " : "", at);
    trace[0] = '\0';
    pthread_mutex_unlock (&mutex);
    ck_assert_str_eq (got, story);
}

/* ---- workers */

static int end_as_told (worker_t *worker, int reason)
{
    long memory = atomic_exchange (&worker->memory, -1);
    atomic_fetch_add (&worker->deaths, 1);
    note (worker, 'x');
    if (memory >= 0)
        (void) ctki_mem_fail (memory, 1);
    return reason;
}

/* Returns 0 all the same: who is asked to stop has not done its work by that. */
static int end_as_asked (worker_t *worker)
{
    if (atomic_load (&worker->lingers)) {
        note (worker, '?');
        pthread_mutex_lock (&mutex);
        while (atomic_load (&worker->lingers))
            (void) pthread_cond_wait (&changed, &mutex);
        pthread_mutex_unlock (&mutex);
    }
    atomic_fetch_add (&worker->stops, 1);
    note (worker, '-');
    return 0;
}

static int work (ctalk_actor_t *self, void *arg)
{
    worker_t *worker = arg;
    ctalk_envelope_t envelope;
    atomic_store (&worker->id, ctalk_actor_id (self));
    atomic_fetch_add (&worker->lives, 1);
    note (worker, '+');
    while (ctalk_actor_recv (self, &envelope, -1) == 0) {
        int64_t told = envelope.msg_id;
        if (told == ARE_YOU_THERE)
            (void) ctalk_actor_reply (self, &envelope, NULL, 0, -1);
        ctalk_envelope_close (&envelope);
        if (told < ARE_YOU_THERE)
            return end_as_told (worker, (int) told);
    }
    return errno == ESHUTDOWN ? end_as_asked (worker) : end_as_told (worker, -1);
}

static void linger (int number, bool on)
{
    pthread_mutex_lock (&mutex);
    atomic_store (&workers[number].lingers, on);
    pthread_cond_broadcast (&changed);
    pthread_mutex_unlock (&mutex);
}

static void send_to (uint64_t actor, int64_t msg_id)
{
    ctalk_envelope_t envelope = {.pid = 1, .to = actor, .msg_id = msg_id};
    CTKI_SUCCEEDS (ctalk_send (server (), &envelope, ctki_test_long_ms ()));
}

/* Tells a worker to end. */
static void end (int number, int reason)
{
    send_to (atomic_load (&workers[number].id), reason);
}

/* Of all workers: how many lives, and how they ended. */
#define SUM_OF(field)                                                                                                  \
    static int field (void)                                                                                            \
    {                                                                                                                  \
        int sum = 0;                                                                                                   \
        for (int i = 0; i < WORKERS; i++)                                                                              \
            sum += atomic_load (&workers[i].field);                                                                    \
        return sum;                                                                                                    \
    }
SUM_OF (lives)
SUM_OF (deaths)
SUM_OF (stops)

/* ---- who watches how a supervisor exits */

typedef struct {
    uint64_t actor;
    bool ready, told; /* with the mutex */
    int why, exit_reason;
} watcher_t;

static void set (bool *flag)
{
    pthread_mutex_lock (&mutex);
    *flag = true;
    pthread_cond_broadcast (&changed);
    pthread_mutex_unlock (&mutex);
}

static void await (const bool *flag, const char *what)
{
    int64_t deadline_ms = ctki_test_now_ms () + ctki_test_long_ms ();
    pthread_mutex_lock (&mutex);
    while (!*flag && wait_changed (deadline_ms)) {
    }
    bool set = *flag;
    pthread_mutex_unlock (&mutex);
    ck_assert_msg (set, "%s", what);
}

static int watch (ctalk_actor_t *self, void *arg)
{
    watcher_t *watcher = arg;
    ctalk_envelope_t envelope;
    int rc = ctalk_actor_monitor (self, 1, watcher->actor);
    set (&watcher->ready);
    if (rc || ctalk_actor_recv (self, &envelope, -1))
        return 1;
    const ctalk_event_t *event = envelope.data;
    watcher->why = envelope.kind == CTALK_ACTOR_DOWN && envelope.from == watcher->actor ? event->reason : -1;
    watcher->exit_reason = event->exit_reason;
    ctalk_envelope_close (&envelope);
    set (&watcher->told);
    return 0;
}

static void watch_start (watcher_t *watcher, uint64_t actor)
{
    *watcher = (watcher_t){.actor = actor};
    ck_assert_uint_ne (ctalk_actor_spawn (server (), NULL, watch, watcher), 0);
    await (&watcher->ready, "the watcher did not start");
}

static void expect_exit (watcher_t *watcher, int exit_reason)
{
    await (&watcher->told, "the supervisor has not ended");
    ck_assert_int_eq (watcher->why, CTALK_WHY_EXITED);
    ck_assert_int_eq (watcher->exit_reason, exit_reason);
}

/* ---- a scene */

static void open_scene_absent (bool absent)
{
    if (absent)
        ctki_cluster_open_absent (&cluster, 1, NULL);
    else
        ctki_cluster_open (&cluster, 1, NULL);
    memset (workers, 0, sizeof workers);
    forget ();
    for (int i = 0; i < WORKERS; i++) {
        workers[i].number = i;
        atomic_store (&workers[i].memory, -1);
        children[i] = (ctalk_child_t){.fn = work, .arg = &workers[i], .stop_timeout_ms = -1};
    }
}

static void open_scene (void)
{
    open_scene_absent (false);
}

static uint64_t try_supervisor (ctalk_strategy_t strategy, size_t count, int restarts_max)
{
    ctalk_supervision_t how = {.strategy = strategy, .restarts_max = restarts_max, .within_ms = LONG_MS};
    return ctalk_supervisor_spawn (server (), NULL, children, count, &how);
}

static uint64_t open_supervised (ctalk_strategy_t strategy, size_t count, int restarts_max)
{
    char story[3 * WORKERS + 1] = "";
    open_scene ();
    uint64_t id = try_supervisor (strategy, count, restarts_max);
    ck_assert_msg (id != 0, "%s", strerror (errno));
    for (size_t i = 0; i < count; i++)
        (void) snprintf (story + strlen (story), sizeof story - strlen (story), "%s+%zu", i ? " " : "", i);
    expect (story);
    return id;
}

static uint64_t actors (void)
{
    return ctki_cluster_stats (server (), 1).actors;
}

static bool so_many_actors (void *arg)
{
    return actors () == *(uint64_t *) arg;
}

static void expect_actors (uint64_t count)
{
    ck_assert_msg (ctki_test_until (so_many_actors, &count, ctki_test_long_ms ()), "%llu actors instead of %llu",
                   (unsigned long long) actors (), (unsigned long long) count);
}

static void stop (uint64_t supervisor)
{
    CTKI_SUCCEEDS (ctalk_actor_stop (server (), supervisor, ctki_test_long_ms ()));
}

static void close_scene (void)
{
    expect ("");
    expect_actors (0);
    ctki_cluster_close (&cluster);
}

/* ---- the log */

static char logged[400];
static atomic_int lines;

static void keep_line (int level, const char *text, void *arg)
{
    (void) arg;
    if (level != CTALK_LOG_WARNING)
        return;
    pthread_mutex_lock (&mutex);
    (void) snprintf (logged, sizeof logged, "%s", text);
    pthread_mutex_unlock (&mutex);
    atomic_fetch_add (&lines, 1);
}

static void log_start (void)
{
    atomic_store (&lines, 0);
    logged[0] = '\0';
    ctalk_log_set (keep_line, NULL, CTALK_LOG_WARNING);
}

static void log_expect (int count, const char *part)
{
    ctalk_log_set (NULL, NULL, 0);
    ck_assert_int_eq (atomic_load (&lines), count);
    ck_assert_msg (strstr (logged, part) != NULL, "%s", logged);
}

/* ---- starting and stopping */

/* When it returns all run; stopped, it stops them in reverse order, and has ended when that returns. */
START_TEST (starts_and_stops)
{
    watcher_t watcher;
    for (size_t count = 1; count <= WORKERS; count++) {
        open_scene ();
        uint64_t id = try_supervisor (CTALK_ONE_FOR_ONE, count, 0);
        ck_assert_uint_ne (id, 0);
        ck_assert_uint_eq (actors (), count + 1);
        while (lives () < (int) count)
            (void) sched_yield ();
        watch_start (&watcher, id);
        forget ();
        stop (id);
        CTKI_FAILS (ESRCH, ctalk_actor_stop (server (), id, 0));
        char story[3 * WORKERS + 1] = "";
        for (size_t i = count; i-- > 0;)
            (void) snprintf (story + strlen (story), sizeof story - strlen (story), "-%zu%s", i, i ? " " : "");
        expect_stops (story);
        expect_exit (&watcher, 0);
        close_scene ();
    }
}
END_TEST

/* The id of a supervisor with a name is that of the name; EEXIST when there is an actor of that name. */
START_TEST (named_supervisor)
{
    ctalk_supervision_t how = {.strategy = CTALK_ONE_FOR_ONE};
    open_scene ();
    uint64_t id = ctalk_supervisor_spawn (server (), "boss", children, 1, &how);
    ck_assert_uint_eq (id, ctalk_actor_named ("boss"));
    errno = 0;
    ck_assert (ctalk_supervisor_spawn (server (), "boss", children + 1, 1, &how) == 0 && errno == EEXIST);
    expect ("+0");
    stop (id);
    expect ("-0");
    close_scene ();
}
END_TEST

/* The array of the children, their names and how they are supervised are copied; what arg points to is not. */
START_TEST (copies)
{
    open_scene ();
    char *name = strdup ("worker");
    ctalk_child_t *list = calloc (2, sizeof *list);
    ctalk_supervision_t *how = calloc (1, sizeof *how);
    ck_assert (name && list && how);
    *how = (ctalk_supervision_t){.strategy = CTALK_ALL_FOR_ONE, .restarts_max = MANY, .within_ms = LONG_MS};
    list[0] = children[0], list[0].name = name;
    list[1] = children[1];
    uint64_t id = ctalk_supervisor_spawn (server (), NULL, list, 2, how);
    ck_assert_uint_ne (id, 0);
    memset (name, 'x', strlen (name));
    memset (list, 0xee, 2 * sizeof *list);
    memset (how, 0xee, sizeof *how);
    free (name), free (list), free (how);
    expect ("+0 +1");
    for (int i = 0; i < 3; i++) {
        end (1, 1);
        expect ("x1 -0 +0 +1");
        ck_assert_uint_eq (atomic_load (&workers[0].id), ctalk_actor_named ("worker"));
    }
    stop (id);
    expect ("-1 -0");
    close_scene ();
}
END_TEST

/* EINVAL for everything that cannot be, and nothing runs then. */
START_TEST (invalid)
{
    char too_long[257];
    open_scene ();
    memset (too_long, 'n', sizeof too_long - 1);
    too_long[256] = '\0';
    for (int fault = 0; fault < 14; fault++) {
        ctalk_child_t list[2] = {children[0], children[1]};
        ctalk_supervision_t how = {.strategy = CTALK_ONE_FOR_ONE};
        list[1].fn = fault == 0 ? NULL : work;
        list[1].stop_timeout_ms = fault == 1 ? -2 : -1;
        list[1].reserved = fault == 2;
        list[1].name = fault == 3 ? "" : fault == 4 ? too_long : NULL;
        how.strategy = fault == 5 ? (ctalk_strategy_t) 3 : CTALK_ONE_FOR_ONE;
        how.restarts_max = fault == 6 ? -1 : 0;
        how.within_ms = fault == 7 ? -1 : 0;
        how.reserved = fault == 8;
        errno = 0;
        uint64_t id =
            ctalk_supervisor_spawn (fault == 9 ? NULL : server (), fault == 10 ? "" : NULL, fault == 11 ? NULL : list,
                                    fault == 12 ? 0 : 2, fault == 13 ? NULL : &how);
        ck_assert_msg (id == 0 && errno == EINVAL, "fault %d: %s", fault, strerror (errno));
        ck_assert_uint_eq (actors (), 0);
    }
    close_scene ();
}
END_TEST

/* A child that cannot be started (its name is taken): its errno, those that were started are stopped in reverse, and
 * the supervisor's own name is free at once. */
START_TEST (start_fails)
{
    ctalk_supervision_t how = {.strategy = CTALK_ONE_FOR_ONE};
    open_scene ();
    children[1].name = children[3].name = "twice";
    for (int i = 0; i < 20; i++) {
        errno = 0;
        ck_assert_uint_eq (ctalk_supervisor_spawn (server (), "boss", children, 4, &how), 0);
        ck_assert_int_eq (errno, EEXIST);
        ck_assert_uint_eq (actors (), 0);
        ck_assert_int_eq (lives (), 3 * (i + 1));
        expect_stops ("-2 -1 -0");
    }
    children[3].name = "once";
    uint64_t id = ctalk_supervisor_spawn (server (), "boss", children, 4, &how);
    ck_assert_uint_ne (id, 0);
    expect ("+0 +1 +2 +3");
    stop (id);
    expect ("-3 -2 -1 -0");
    close_scene ();
}
END_TEST

/* The k-th thread cannot be started, for every k: EAGAIN, and just the children before it ran, and were stopped. */
START_TEST (thread_fails)
{
    ctalk_supervision_t how = {.strategy = CTALK_ALL_FOR_ONE};
    open_scene ();
    for (int k = 0; k <= 4; k++) {
        (void) ctki_thread_fail (k, 1);
        errno = 0;
        uint64_t id = ctalk_supervisor_spawn (server (), "boss", children, 4, &how);
        int code = errno;
        (void) ctki_thread_fail (-1, 0);
        ck_assert (id == 0 && code == EAGAIN);
        ck_assert_uint_eq (actors (), 0);
        for (int i = 0; i < 4; i++)
            ck_assert_int_eq (atomic_exchange (&workers[i].lives, 0), i < k - 1);
    }
    forget ();
    close_scene ();
}
END_TEST

/* The k-th allocation of a start fails, for every k: ENOMEM each time, nothing runs, and at last it succeeds. */
START_TEST (memory_fails)
{
    ctalk_supervision_t how = {.strategy = CTALK_ALL_FOR_ONE};
    uint64_t id = 0;
    long k = 0;
    open_scene ();
    children[0].name = "a", children[2].name = "c";
    for (int i = 0; i < WORKERS; i++)
        atomic_store (&workers[i].quiet, true);
    for (; k < 1000 && id == 0; k++) {
        (void) ctki_mem_fail (k, 1);
        id = ctalk_supervisor_spawn (server (), "boss", children, 4, &how);
        int code = errno;
        (void) ctki_mem_fail (-1, 0);
        ck_assert_msg (id || code == ENOMEM, "allocation %ld: %s", k, strerror (code));
        ck_assert_uint_eq (actors (), id ? 5 : 0);
    }
    ck_assert_uint_ne (id, 0);
    ck_assert_int_gt (k, 5);
    stop (id);
    close_scene ();
    ctki_test_figure ("memory_fails", "%ld allocations", k - 1);
}
END_TEST

/* ---- restarts */

/* Which children are stopped and started, for each strategy and each child that dies. */
START_TEST (strategies)
{
    static const char *const stories[3][4] = {
        {"x0 +0", "x1 +1", "x2 +2", "x3 +3"},
        {"x0 -3 -2 -1 +0 +1 +2 +3", "x1 -3 -2 -0 +0 +1 +2 +3", "x2 -3 -1 -0 +0 +1 +2 +3", "x3 -2 -1 -0 +0 +1 +2 +3"},
        {"x0 -3 -2 -1 +0 +1 +2 +3", "x1 -3 -2 +1 +2 +3", "x2 -3 +2 +3", "x3 +3"},
    };
    for (int named = 0; named < 2; named++)
        for (int i = 0; i < 3; i++) {
            static const char *const names[] = {"a", "b", "c", "d"};
            ctalk_supervision_t how = {(ctalk_strategy_t) i, MANY, LONG_MS, 0};
            open_scene ();
            for (int k = 0; k < 4; k++)
                children[k].name = named ? names[k] : NULL;
            uint64_t id = ctalk_supervisor_spawn (server (), NULL, children, 4, &how);
            expect ("+0 +1 +2 +3");
            for (int k = 0; k < 12; k++) {
                end (k * 7 % 4, k % 2 ? 1 : -1);
                expect (stories[i][k * 7 % 4]);
            }
            stop (id);
            expect ("-3 -2 -1 -0");
            close_scene ();
        }
}
END_TEST

/* A child without a name has another id after each restart, one with a name the same. */
START_TEST (ids)
{
    enum { LIVES = 20 };
    uint64_t former[LIVES];
    open_scene ();
    children[0].name = "named";
    uint64_t id = try_supervisor (CTALK_ALL_FOR_ONE, 2, MANY);
    expect ("+0 +1");
    for (int i = 0; i < LIVES; i++) {
        ck_assert_uint_eq (atomic_load (&workers[0].id), ctalk_actor_named ("named"));
        former[i] = atomic_load (&workers[1].id);
        for (int k = 0; k < i; k++)
            ck_assert_uint_ne (former[k], former[i]);
        end (1, 1);
        expect ("x1 -0 +0 +1");
    }
    stop (id);
    expect ("-1 -0");
    close_scene ();
}
END_TEST

/* A child that returns 0 is left alone, also when others are stopped and started; when all have, the supervisor stays.
 */
START_TEST (normal_ends)
{
    for (int i = 0; i < 3; i++) {
        uint64_t id = open_supervised ((ctalk_strategy_t) i, 3, 1);
        end (1, 0);
        expect ("x1");
        expect_actors (3);
        end (0, 5);
        expect (i == CTALK_ONE_FOR_ONE ? "x0 +0" : "x0 -2 +0 +2");
        end (0, 0);
        end (2, 0);
        expect_actors (1);
        forget ();
        stop (id);
        close_scene ();
    }
}
END_TEST

/* One restart more than restarts_max: all the others are stopped in reverse, and it exits with ECHILD. */
START_TEST (too_many)
{
    for (int i = 0; i < 9; i++) {
        watcher_t watcher;
        uint64_t id = open_supervised ((ctalk_strategy_t) (i % 3), 3, i / 3);
        watch_start (&watcher, id);
        for (int k = 0; k < i / 3; k++) {
            static const char *const stories[] = {"x2 +2", "x2 -1 -0 +0 +1 +2", "x2 +2"};
            end (2, 1);
            expect (stories[i % 3]);
        }
        log_start ();
        end (1, 9);
        expect_exit (&watcher, ECHILD);
        log_expect (1, "too many restarts");
        expect ("x1 -2 -0");
        close_scene ();
    }
}
END_TEST

/* Restarts count within the window alone: with one of no length there may be any number of them, one by one, and with
 * the longest one not. */
START_TEST (window)
{
    ctalk_supervision_t how = {.strategy = CTALK_ONE_FOR_ONE, .restarts_max = 1};
    watcher_t watcher;
    open_scene ();
    uint64_t id = ctalk_supervisor_spawn (server (), NULL, children, 1, &how);
    expect ("+0");
    for (int i = 0; i < 30; i++) {
        end (0, 1);
        expect ("x0 +0");
    }
    stop (id);
    expect ("-0");
    how.within_ms = INT_MAX;
    id = ctalk_supervisor_spawn (server (), NULL, children, 1, &how);
    expect ("+0");
    watch_start (&watcher, id);
    end (0, 1);
    expect ("x0 +0");
    end (0, 1);
    expect_exit (&watcher, ECHILD);
    expect ("x0");
    close_scene ();
}
END_TEST

/* A child cannot be started again: the others are stopped, and it exits with ECHILD. */
START_TEST (restart_fails)
{
    static const char *const stories[3][3] = {
        {"x1 -3 -2 -0"}, {"x1 -3 -2 -0", "x1 -3 -2 -0 +0 -0"}, {"x1 -3 -2 -0", "x1 -3 -2 +1 -1 -0"}};
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 2 && stories[i][k]; k++) {
            watcher_t watcher;
            uint64_t id = open_supervised ((ctalk_strategy_t) i, 4, MANY);
            watch_start (&watcher, id);
            log_start ();
            (void) ctki_thread_fail (k, 1);
            end (1, 1);
            expect_exit (&watcher, ECHILD);
            (void) ctki_thread_fail (-1, 0);
            log_expect (1, "cannot be started");
            expect (stories[i][k]);
            close_scene ();
        }
}
END_TEST

static int wait_for_stop (ctalk_actor_t *self, void *arg)
{
    ctalk_envelope_t envelope;
    (void) arg;
    while (ctalk_actor_recv (self, &envelope, -1) == 0)
        ctalk_envelope_close (&envelope);
    return 0;
}

/* While a child is down another actor takes its name: it cannot be started again, and the other one is let alone. */
START_TEST (name_is_taken)
{
    watcher_t watcher;
    open_scene ();
    children[0].name = "coveted";
    linger (1, true);
    uint64_t id = try_supervisor (CTALK_ALL_FOR_ONE, 2, MANY);
    expect ("+0 +1");
    watch_start (&watcher, id);
    end (0, 1);
    expect ("x0 ?1");
    expect_actors (3); /* the supervisor, the watcher, the one that lingers: the name is free */
    uint64_t thief = ctalk_actor_spawn (server (), "coveted", wait_for_stop, NULL);
    ck_assert_uint_eq (thief, ctalk_actor_named ("coveted"));
    linger (1, false);
    expect_exit (&watcher, ECHILD);
    expect ("-1");
    stop (thief);
    close_scene ();
}
END_TEST

/* The same when the child was to be stopped, and had ended before: neither is the other one stopped. */
START_TEST (name_is_another_s)
{
    open_scene ();
    children[0].name = "coveted";
    linger (2, true);
    uint64_t id = try_supervisor (CTALK_ALL_FOR_ONE, 3, MANY);
    expect ("+0 +1 +2");
    end (1, 1);
    expect ("x1 ?2");
    end (0, 0);
    expect ("x0");
    expect_actors (2); /* the name is free */
    uint64_t other = ctalk_actor_spawn (server (), "coveted", wait_for_stop, NULL);
    ck_assert_uint_eq (other, ctalk_actor_named ("coveted"));
    linger (2, false);
    expect ("-2 +1 +2");
    stop (other);
    stop (id);
    expect ("-2 -1");
    close_scene ();
}
END_TEST

/* A memory failure at any point of a restart: the children run again or all are stopped, and nothing is lost. */
START_TEST (restart_without_memory)
{
    int gave_up = 0, went_on = 0;
    for (long k = 0; k < 30; k++) {
        watcher_t watcher;
        uint64_t id = open_supervised (CTALK_ALL_FOR_ONE, 3, MANY);
        watch_start (&watcher, id);
        atomic_store (&workers[1].memory, k);
        for (int i = 0; i < 3; i++)
            atomic_store (&workers[i].quiet, true);
        end (1, 1);
        int64_t until_ms = ctki_test_now_ms () + ctki_test_long_ms ();
        bool told = false;
        while (!told && lives () < 6 && ctki_test_now_ms () < until_ms) {
            (void) sched_yield ();
            pthread_mutex_lock (&mutex);
            told = watcher.told;
            pthread_mutex_unlock (&mutex);
        }
        (void) ctki_mem_fail (-1, 0);
        ck_assert_msg (told || lives () == 6, "allocation %ld: neither restarted nor given up", k);
        gave_up += told;
        went_on += !told;
        if (!told)
            (void) ctalk_actor_stop (server (), id, ctki_test_long_ms ());
        await (&watcher.told, "the supervisor has not ended");
        ck_assert_int_eq (lives (), stops () + 1);
        close_scene ();
    }
    ck_assert_int_gt (went_on, 0);
    ctki_test_figure ("restart_without_memory", "%d gave up, %d went on", gave_up, went_on);
}
END_TEST

/* ---- children that end while others are stopped */

/* Child 0 ends with this reason while child 2 is being stopped for child 1. */
static uint64_t two_at_once (ctalk_strategy_t strategy, int restarts_max, int reason)
{
    uint64_t id = open_supervised (strategy, 3, restarts_max);
    linger (2, true);
    end (1, 1);
    expect ("x1 ?2");
    end (0, reason);
    expect ("x0");
    expect_actors (2); /* it has ended */
    linger (2, false);
    return id;
}

/* It belongs to the same restart where its turn to be stopped comes yet, and is not counted once more. */
START_TEST (two_deaths_are_one_restart)
{
    uint64_t id = two_at_once (CTALK_ALL_FOR_ONE, 1, 7);
    expect ("-2 +0 +1 +2");
    stop (id);
    expect ("-2 -1 -0");
    close_scene ();
}
END_TEST

/* If it ended with 0 it stays ended. */
START_TEST (death_and_normal_end)
{
    uint64_t id = two_at_once (CTALK_ALL_FOR_ONE, 1, 0);
    expect ("-2 +1 +2");
    expect_actors (3);
    stop (id);
    expect ("-2 -1");
    close_scene ();
}
END_TEST

/* Where its turn does not come it is the next restart, which is counted. */
START_TEST (two_deaths_are_two_restarts)
{
    for (int enough = 0; enough < 2; enough++) {
        uint64_t id = two_at_once (CTALK_REST_FOR_ONE, 1 + enough, 7);
        if (enough) {
            /* The starts of the first restart may be noted after the stops of the second have begun. */
            while (atomic_load (&workers[0].lives) < 2 || atomic_load (&workers[1].lives) < 3
                   || atomic_load (&workers[2].lives) < 3)
                (void) sched_yield ();
            stop (id);
        }
        expect_actors (0);
        ck_assert_int_eq (atomic_load (&workers[0].lives), 1 + enough);
        ck_assert_int_eq (atomic_load (&workers[1].lives), 2 + enough);
        ck_assert_int_eq (atomic_load (&workers[2].lives), 2 + enough);
        ck_assert_int_eq (lives (), stops () + deaths ());
        forget ();
        close_scene ();
    }
}
END_TEST

/* ---- children that do not stop */

/* A child that does not stop in time is left behind, the log says so, and the others are stopped all the same. */
START_TEST (left_behind)
{
    for (int timeout_ms = 0; timeout_ms <= 20; timeout_ms += 20) {
        watcher_t watcher;
        open_scene ();
        children[1].stop_timeout_ms = timeout_ms;
        children[1].name = "stubborn";
        uint64_t id = try_supervisor (CTALK_ONE_FOR_ONE, 3, 0);
        expect ("+0 +1 +2");
        watch_start (&watcher, id);
        linger (1, true);
        log_start ();
        int64_t start_ms = ctki_test_now_ms ();
        stop (id);
        ck_assert_int_ge (ctki_test_now_ms () - start_ms, timeout_ms - 1);
        expect_exit (&watcher, 0);
        log_expect (1, "stubborn");
        ck_assert_ptr_nonnull (strstr (logged, "left behind"));
        expect_actors (1);
        linger (1, false);
        expect_actors (0);
        ck_assert_int_eq (stops (), 3);
        forget ();
        close_scene ();
    }
}
END_TEST

/* Where it was to be started again the supervisor gives up. */
START_TEST (left_behind_in_a_restart)
{
    watcher_t watcher;
    open_scene ();
    children[2].stop_timeout_ms = 10;
    uint64_t id = try_supervisor (CTALK_REST_FOR_ONE, 4, MANY);
    expect ("+0 +1 +2 +3");
    watch_start (&watcher, id);
    linger (2, true);
    log_start ();
    end (1, 1);
    expect_exit (&watcher, ECHILD);
    log_expect (1, "left behind");
    expect ("x1 -3 ?2 -0");
    expect_actors (1);
    linger (2, false);
    expect ("-2");
    close_scene ();
}
END_TEST

/* With stop_timeout_ms -1 the supervisor waits for ever; who stops the supervisor need not. */
START_TEST (waits_for_ever)
{
    uint64_t id = open_supervised (CTALK_ONE_FOR_ONE, 2, 0);
    linger (1, true);
    CTKI_FAILS (EAGAIN, ctalk_actor_stop (server (), id, 30));
    expect ("?1");
    expect_actors (3);
    linger (1, false);
    expect_actors (0);
    expect ("-1 -0");
    close_scene ();
}
END_TEST

/* Stopped in the middle of a restart, it starts nothing any more. */
START_TEST (stopped_in_a_restart)
{
    for (int i = CTALK_ALL_FOR_ONE; i <= CTALK_REST_FOR_ONE; i++) {
        watcher_t watcher;
        uint64_t id = open_supervised ((ctalk_strategy_t) i, 3, MANY);
        watch_start (&watcher, id);
        linger (2, true);
        end (1, 1);
        expect ("x1 ?2");
        CTKI_FAILS (EAGAIN, ctalk_actor_stop (server (), id, 0));
        linger (2, false);
        expect_exit (&watcher, 0);
        expect ("-2 -0");
        close_scene ();
    }
}
END_TEST

static atomic_int mutiny_code;

/* Stops its supervisor, whose id it is sent, and says what came of it. */
static int mutiny (ctalk_actor_t *self, void *arg)
{
    ctalk_envelope_t order;
    (void) arg;
    if (ctalk_actor_recv (self, &order, -1))
        return 1;
    uint64_t id = (uint64_t) order.msg_id;
    ctalk_envelope_close (&order);
    atomic_store (&mutiny_code, ctalk_actor_stop (ctalk_actor_server (self), id, -1) ? errno : 0);
    return 0;
}

/* A child that waits for the end of its supervisor is stopped by it, as the others are. */
START_TEST (stopped_by_a_child)
{
    open_scene ();
    children[1] = (ctalk_child_t){.name = "mutineer", .fn = mutiny, .stop_timeout_ms = -1};
    uint64_t id = try_supervisor (CTALK_ONE_FOR_ONE, 2, 0);
    ck_assert_msg (id != 0, "%s", strerror (errno));
    expect ("+0");
    send_to (ctalk_actor_named ("mutineer"), (int64_t) id);
    expect_actors (0);
    ck_assert_int_eq (atomic_load (&mutiny_code), ESHUTDOWN);
    expect ("-0");
    close_scene ();
}
END_TEST

/* ---- what is sent to a supervisor */

/* Whatever is sent to it is dropped, more than a mailbox holds; a call gets no answer; and it goes on. */
START_TEST (dropped)
{
    static char data[60000];
    ctalk_envelope_t reply;
    uint64_t id = open_supervised (CTALK_ONE_FOR_ONE, 2, MANY);
    for (int i = 0; i < 500; i++) {
        ctalk_envelope_t envelope = {.pid = 1, .to = id, .msg_id = i, .data = data, .size = sizeof data};
        CTKI_SUCCEEDS (ctalk_send (server (), &envelope, ctki_test_long_ms ()));
    }
    ctalk_envelope_t request = {.pid = 1, .to = id, .msg_id = DROPPED};
    CTKI_FAILS (ETIMEDOUT, ctalk_call (server (), &request, &reply, 20));
    end (1, 1);
    expect ("x1 +1");
    stop (id);
    expect ("-1 -0");
    close_scene ();
}
END_TEST

/* ---- supervisors of supervisors */

typedef struct {
    size_t first, count; /* of the children */
    int restarts_max;
    atomic_int lives;
} branch_t;

/* A child that starts a supervisor, and ends as that ends. */
static int supervise_branch (ctalk_actor_t *self, void *arg)
{
    branch_t *branch = arg;
    ctalk_envelope_t envelope;
    atomic_fetch_add (&branch->lives, 1);
    ctalk_supervision_t how = {
        .strategy = CTALK_ONE_FOR_ONE, .restarts_max = branch->restarts_max, .within_ms = LONG_MS};
    uint64_t id =
        ctalk_supervisor_spawn (ctalk_actor_server (self), NULL, children + branch->first, branch->count, &how);
    if (id == 0)
        return errno;
    int reason = ctalk_actor_monitor (self, 1, id) ? errno : 0;
    if (reason == 0 && ctalk_actor_recv (self, &envelope, -1) == 0) {
        const ctalk_event_t *event = envelope.data;
        reason = event->reason == CTALK_WHY_EXITED ? event->exit_reason : ECHILD;
        ctalk_envelope_close (&envelope);
    }
    (void) ctalk_actor_stop (ctalk_actor_server (self), id, -1);
    return reason;
}

static uint64_t open_tree (branch_t branch[2], int restarts_max)
{
    ctalk_child_t list[2];
    ctalk_supervision_t how = {.strategy = CTALK_ONE_FOR_ONE, .restarts_max = restarts_max, .within_ms = LONG_MS};
    open_scene ();
    memset (branch, 0, 2 * sizeof *branch);
    for (size_t i = 0; i < 2; i++) {
        branch[i].first = 2 * i;
        branch[i].count = 2;
        list[i] = (ctalk_child_t){.fn = supervise_branch, .arg = &branch[i], .stop_timeout_ms = -1};
    }
    uint64_t id = ctalk_supervisor_spawn (server (), NULL, list, 2, &how);
    ck_assert_uint_ne (id, 0);
    expect ("+0 +1 +2 +3");
    expect_actors (9);
    return id;
}

/* A supervisor that gives up is started again by its own; stopped at the top, all of the tree is. */
START_TEST (tree)
{
    branch_t branch[2];
    uint64_t id = open_tree (branch, 3);
    for (int i = 0; i < 3; i++) {
        end (1, 1);
        expect ("x1 -0 +0 +1");
        ck_assert_int_eq (atomic_load (&branch[0].lives), 2 + i);
    }
    expect_actors (9);
    stop (id);
    expect ("-3 -2 -1 -0");
    ck_assert_int_eq (atomic_load (&branch[1].lives), 1);
    close_scene ();
}
END_TEST

/* Too many of them, and the top gives up as well. */
START_TEST (tree_gives_up)
{
    branch_t branch[2];
    watcher_t watcher;
    uint64_t id = open_tree (branch, 0);
    watch_start (&watcher, id);
    end (2, 1);
    expect_exit (&watcher, ECHILD);
    expect ("x2 -3 -1 -0");
    close_scene ();
}
END_TEST

/* ---- many deaths */

/* Waits a little for one more death. */
static void await_death (int before)
{
    int64_t deadline_ms = ctki_test_now_ms () + 2;
    pthread_mutex_lock (&mutex);
    while (deaths () == before && wait_changed (deadline_ms)) {
    }
    pthread_mutex_unlock (&mutex);
}

/* Kills random children, several at a time, until so many have died of it. Who is down just then is not hit. */
static void kill_at_random (uint64_t seed, size_t count, int most)
{
    uint64_t state = seed;
    while (deaths () < most) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        int before = deaths (), burst = 1 + (int) (state >> 62);
        for (int i = 0; i < burst; i++)
            send_to (atomic_load (&workers[(state >> (20 + 8 * i)) % count].id), 1);
        await_death (before);
        ctki_test_progress ("kills", (size_t) deaths (), (size_t) most);
    }
    ctki_test_progress ("", 0, 0);
}

static bool answers (void *arg)
{
    ctalk_envelope_t request = {.pid = 1, .to = atomic_load (&((worker_t *) arg)->id), .msg_id = ARE_YOU_THERE}, reply;
    bool there = ctalk_call (server (), &request, &reply, ctki_test_ms (100)) == 0;
    ctalk_envelope_close (&reply);
    return there;
}

static uint64_t open_victims (ctalk_strategy_t strategy, size_t count)
{
    static const char *const names[WORKERS] = {"v0", NULL, "v2", NULL, "v4", NULL, "v6", NULL};
    open_scene ();
    for (int i = 0; i < WORKERS; i++) {
        children[i].name = names[i];
        atomic_store (&workers[i].quiet, true);
        atomic_store (&workers[i].id, ctalk_actor_named (i % 2 ? "none" : names[i]));
    }
    uint64_t id = try_supervisor (strategy, count, MANY);
    ck_assert_uint_ne (id, 0);
    return id;
}

/* After thousands of deaths at random all children run, each life has ended in one way or runs yet, and each death is
 * one life. */
START_TEST (thousands_of_kills)
{
    static const size_t kills[] = {10000, 1000, 2000};
    static const size_t counts[] = {WORKERS, 3, 4};
    for (int i = 0; i < 3; i++) {
        int64_t start_ms = ctki_test_now_ms ();
        uint64_t id = open_victims ((ctalk_strategy_t) i, counts[i]);
        kill_at_random ((uint64_t) i + 1, counts[i], (int) ctki_test_count (kills[i]));
        for (size_t k = 0; k < counts[i]; k++) /* what was sent to a life before is behind it when it answers */
            ck_assert_msg (ctki_test_until (answers, &workers[k], ctki_test_long_ms ()), "child %zu does not run", k);
        expect_actors (counts[i] + 1);
        int died = deaths ();
        ck_assert_int_eq (lives (), died + stops () + (int) counts[i]);
        if (i == CTALK_ONE_FOR_ONE)
            ck_assert_int_eq (stops (), 0);
        stop (id);
        ck_assert_int_eq (lives (), deaths () + stops ());
        ctki_test_figure ("thousands_of_kills", "strategy %d: %d deaths, %d lives in %lld ms", i, died, lives (),
                          (long long) (ctki_test_now_ms () - start_ms));
        close_scene ();
    }
}
END_TEST

/* ---- closing */

/* A server that closes ends supervisors, trees of them and children, idle ones and such as are in the middle of
 * restarts. */
START_TEST (server_closes)
{
    static branch_t branch[2];
    size_t rounds = ctki_test_count (30);
    for (size_t i = 0; i < rounds; i++) {
        if (i % 2) {
            (void) open_tree (branch, MANY);
            end (1, 1);
            end (2, 1);
        } else {
            (void) open_victims ((ctalk_strategy_t) (i / 2 % 3), 4);
            kill_at_random (i, 4, (int) i);
            for (int k = 0; k < 4; k++)
                send_to (atomic_load (&workers[k].id), 1);
        }
        ck_assert_int_eq (ctalk_server_close (&cluster.server[1], ctki_test_long_ms ()), 0);
        ck_assert_int_eq (lives (), deaths () + stops ());
        ctki_cluster_close (&cluster);
    }
}
END_TEST

static bool close_server (void *arg, ctki_trouble_t *trouble)
{
    (void) arg;
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_close (&cluster.server[1], -1), 0);
    return true;
}

/* A server that closes asks all children at once: none waits for another one that has not stopped yet. */
START_TEST (closes_at_once)
{
    ctki_test_thread_t thread;
    (void) open_supervised (CTALK_ALL_FOR_ONE, 4, MANY);
    for (int i = 0; i < 4; i++)
        linger (i, true);
    ctki_test_thread_start (&thread, close_server, NULL);
    expect ("?0 ?1 ?2 ?3");
    ck_assert (!atomic_load (&thread.done));
    for (int i = 0; i < 4; i++) {
        linger (i, false);
        char story[3] = {'-', (char) ('0' + i), '\0'};
        expect (story);
    }
    ctki_test_thread_join (&thread);
    ctki_cluster_close (&cluster);
}
END_TEST

static atomic_int started;

/* Starts supervisors until the server closes. */
static bool start_until_closed (void *arg, ctki_trouble_t *trouble)
{
    ctalk_supervision_t how = {.strategy = CTALK_ALL_FOR_ONE, .restarts_max = MANY, .within_ms = LONG_MS};
    for (;;) {
        uint64_t id = ctalk_supervisor_spawn (arg, NULL, children, 3, &how);
        if (id == 0) {
            CTKI_EXPECT_EQUAL (trouble, errno, ESHUTDOWN);
            return true;
        }
        atomic_fetch_add (&started, 1);
        if (ctalk_actor_stop (arg, id, -1)) {
            CTKI_EXPECT (trouble, errno == ESHUTDOWN || errno == ESRCH);
            return true;
        }
    }
}

/* A start that is under way when the server closes fails with ESHUTDOWN or is over, and the close waits for it. What
 * waits for the absent peer keeps the close busy until both threads have been told. */
START_TEST (closes_during_start)
{
    size_t rounds = ctki_test_count (10);
    for (size_t i = 0; i < rounds; i++) {
        ctki_test_thread_t threads[2];
        open_scene_absent (true);
        ctki_traffic_send (server (), cluster.absent, 1, "keeps close busy");
        for (int k = 0; k < WORKERS; k++)
            atomic_store (&workers[k].quiet, true);
        atomic_store (&started, 0);
        for (int k = 0; k < 2; k++)
            ctki_test_thread_start (&threads[k], start_until_closed, server ());
        while (atomic_load (&started) < 2 + (int) i)
            (void) sched_yield ();
        ck_assert_int_eq (ctalk_server_close (&cluster.server[1], ctki_test_ms (300)), 1);
        for (int k = 0; k < 2; k++)
            ctki_test_thread_join (&threads[k]);
        ck_assert_int_eq (lives (), stops ());
        (void) ctki_cluster_close_abandoning (&cluster, 0);
    }
}
END_TEST

static bool start_in_child (int fd, void *arg, ctki_trouble_t *trouble)
{
    (void) fd, (void) arg;
    errno = 0;
    CTKI_EXPECT_EQUAL (trouble, try_supervisor (CTALK_ONE_FOR_ONE, 2, 0), 0);
    CTKI_EXPECT_EQUAL (trouble, errno, EOWNERDEAD);
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_close (&cluster.server[1], 0), 0);
    return true;
}

/* In a child process it is EOWNERDEAD, and the supervisors of the parent's go on. */
START_TEST (in_a_child_process)
{
    ctki_process_t process;
    uint64_t id = open_supervised (CTALK_ONE_FOR_ONE, 2, 1);
    ctki_process_copy (&process, start_in_child, NULL);
    ctki_process_join (&process, ctki_test_long_ms ());
    end (0, 1);
    expect ("x0 +0");
    stop (id);
    expect ("-1 -0");
    close_scene ();
}
END_TEST

static void do_nothing (int number)
{
    (void) number;
}

static bool start_one (void *arg, ctki_trouble_t *trouble)
{
    children[1].name = "twice", children[2].name = "twice";
    uint64_t id = try_supervisor (CTALK_ONE_FOR_ONE, 3, 0);
    CTKI_EXPECT (trouble, id == 0 && errno == EEXIST);
    (void) arg;
    return true;
}

/* Signals do not end the wait for a start: it fails when the last child has stopped, with the errno of the child. */
START_TEST (signals)
{
    struct sigaction action = {.sa_handler = do_nothing}, before;
    ctki_test_thread_t thread;
    open_scene ();
    ck_assert_int_eq (sigaction (SIGUSR1, &action, &before), 0);
    linger (1, true);
    ctki_test_thread_start (&thread, start_one, NULL);
    expect ("+0 +1 ?1");
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq (pthread_kill (thread.thread, SIGUSR1), 0);
        ctki_test_thread_await_blocked (&thread);
    }
    ck_assert (!atomic_load (&thread.done));
    linger (1, false);
    ctki_test_thread_join (&thread);
    expect ("-1 -0");
    ck_assert_int_eq (sigaction (SIGUSR1, &before, NULL), 0);
    close_scene ();
}
END_TEST

Suite *ctki_suite_supervisors (void)
{
    Suite *suite = suite_create ("supervisors");
    TCase *tcase = ctki_leaks_tcase ("supervisors", 120);
    tcase_add_test (tcase, starts_and_stops);
    tcase_add_test (tcase, named_supervisor);
    tcase_add_test (tcase, copies);
    tcase_add_test (tcase, invalid);
    tcase_add_test (tcase, start_fails);
    tcase_add_test (tcase, thread_fails);
    tcase_add_test (tcase, memory_fails);
    tcase_add_test (tcase, strategies);
    tcase_add_test (tcase, ids);
    tcase_add_test (tcase, normal_ends);
    tcase_add_test (tcase, too_many);
    tcase_add_test (tcase, window);
    tcase_add_test (tcase, restart_fails);
    tcase_add_test (tcase, name_is_taken);
    tcase_add_test (tcase, name_is_another_s);
    tcase_add_test (tcase, restart_without_memory);
    tcase_add_test (tcase, two_deaths_are_one_restart);
    tcase_add_test (tcase, death_and_normal_end);
    tcase_add_test (tcase, two_deaths_are_two_restarts);
    tcase_add_test (tcase, left_behind);
    tcase_add_test (tcase, left_behind_in_a_restart);
    tcase_add_test (tcase, waits_for_ever);
    tcase_add_test (tcase, stopped_in_a_restart);
    tcase_add_test (tcase, stopped_by_a_child);
    tcase_add_test (tcase, dropped);
    tcase_add_test (tcase, tree);
    tcase_add_test (tcase, tree_gives_up);
    tcase_add_test (tcase, thousands_of_kills);
    tcase_add_test (tcase, server_closes);
    tcase_add_test (tcase, closes_at_once);
    tcase_add_test (tcase, closes_during_start);
    tcase_add_test (tcase, signals);
    ctki_add_test_of_system (tcase, in_a_child_process);
    suite_add_tcase (suite, tcase);
    return suite;
}
