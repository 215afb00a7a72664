/*
 * test_resolver.c - name look-ups. Most tests answer themselves instead of the
 * system: a name that begins with "hang" hangs until it is let go, one that
 * begins with "bad" is not known, any other has the address 192.0.2.1 at once.
 * Nothing waits for a time to pass: each wait is for an event, with a deadline
 * after which the test has failed.
 */
#include <check.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "actors/resolver.h"
#include "src/mem.h"
#include "tests/support/leaks.h"
#include "tests/support/scale.h"

Suite *ctki_suite_resolver (void);

enum { NAMES = 20, ORDER_MAX = 64 };

#define ADDRESS "192.0.2.1"

#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZER 1
#endif
#endif
#ifndef THREAD_SANITIZER
#define THREAD_SANITIZER 0
#endif

/* ---- the look-up function of the tests */

static sem_t hanging;    /* posted when a name begins to hang */
static sem_t let_one_go; /* ends one */
static atomic_int asked; /* names asked for */
static atomic_int at_once, most_at_once;
static char order[ORDER_MAX][32]; /* the names that hang, as they were asked for; read while none is asked */

static void await (sem_t *sem)
{
    struct timespec end;
    clock_gettime (CLOCK_REALTIME, &end);
    end.tv_sec += ctki_test_long_ms () / 1000;
    int rc;
    while ((rc = sem_timedwait (sem, &end)) != 0 && errno == EINTR)
        ;
    ck_assert_msg (rc == 0, "an event did not come");
}

static int answer (const char *host, char *address, size_t size)
{
    int number = atomic_fetch_add (&asked, 1), now = atomic_fetch_add (&at_once, 1) + 1;
    if (number < ORDER_MAX)
        snprintf (order[number], sizeof order[number], "%s", host);
    int most = atomic_load (&most_at_once);
    while (now > most && !atomic_compare_exchange_weak (&most_at_once, &most, now))
        ;
    if (strncasecmp (host, "hang", 4) == 0) {
        sem_post (&hanging);
        while (sem_wait (&let_one_go) != 0)
            ;
    }
    atomic_fetch_sub (&at_once, 1);
    if (strncasecmp (host, "bad", 3) == 0)
        return EAI_NONAME;
    snprintf (address, size, ADDRESS);
    return 0;
}

static void set_up (void)
{
    ck_assert_int_eq (sem_init (&hanging, 0, 0), 0);
    ck_assert_int_eq (sem_init (&let_one_go, 0, 0), 0);
    ctki_resolver_set_lookup (answer);
    ck_assert_int_eq (ctki_resolver_ref (), 0);
}

static bool no_thread (void *unused)
{
    (void) unused;
    return ctki_leaks_threads_named ("ct-resolve") == 0;
}

static void await_no_thread (void)
{
    ck_assert_msg (ctki_test_until (no_thread, NULL, ctki_test_long_ms ()), "a thread of the resolver did not end");
}

static void tear_down (void)
{
    ctki_resolver_unref ();
    await_no_thread ();
}

/* ---- a look-up whose answer is an event */

typedef struct {
    ctki_lookup_t *lookup;
    sem_t done;
    char address[CTKI_ADDRESS_BYTES], reason[CTKI_RESOLVER_REASON_BYTES];
} ask_t;

static void on_done (void *arg)
{
    ask_t *ask = arg;
    sem_post (&ask->done);
}

static void ask_for (ask_t *ask, const char *host)
{
    memset (ask, 0, sizeof *ask);
    ck_assert_int_eq (sem_init (&ask->done, 0, 0), 0);
    ask->lookup = ctki_resolver_ask (host, on_done, ask);
    ck_assert_ptr_nonnull (ask->lookup);
}

static bool answered (ask_t *ask)
{
    return ctki_lookup_result (ask->lookup, ask->address, sizeof ask->address, ask->reason, sizeof ask->reason);
}

/* Waits for done, which comes once, and destroys the look-up. */
static void finish (ask_t *ask)
{
    await (&ask->done);
    ck_assert (answered (ask));
    ctki_lookup_destroy (&ask->lookup);
    ck_assert_ptr_null (ask->lookup);
    ck_assert_int_ne (sem_trywait (&ask->done), 0);
}

static void ask_hanging (ask_t *asks, size_t count)
{
    for (size_t i = 0; i < count; ++i) {
        char host[32];
        snprintf (host, sizeof host, "hang%zu", i);
        ask_for (&asks[i], host);
    }
}

/* ---- tests */

/* The system knows localhost, by IPv4 where it has both. */
START_TEST (localhost)
{
    ctki_resolver_set_lookup (NULL);
    ask_t ask;
    ask_for (&ask, "localhost");
    finish (&ask);
    ck_assert_msg (strcmp (ask.address, "127.0.0.1") == 0 || strcmp (ask.address, "::1") == 0, "\"%s\" (%s)",
                   ask.address, ask.reason);
    ck_assert_str_eq (ask.reason, "");
}
END_TEST

/* A numeric address comes back as it is, without brackets. */
START_TEST (numeric)
{
    static const char *const hosts[] = {"127.0.0.1", "::1", "192.0.2.77"};
    ctki_resolver_set_lookup (NULL);
    ask_t ask;
    ask_for (&ask, hosts[_i]);
    finish (&ask);
    ck_assert_str_eq (ask.address, hosts[_i]);
}
END_TEST

/* A name that the system refuses gives a reason and no address. (It is too long to be sent to a name server.) */
START_TEST (refused_by_system)
{
    ctki_resolver_set_lookup (NULL);
    char host[80] = {0};
    memset (host, 'x', 70);
    ask_t ask;
    ask_for (&ask, host);
    finish (&ask);
    ck_assert_str_eq (ask.address, "");
    ck_assert_str_ne (ask.reason, "");
}
END_TEST

/* A name that does not exist gives the reason of the system. Name servers may take their time to say so. */
START_TEST (unknown_to_system)
{
    ctki_resolver_set_lookup (NULL);
    ask_t ask;
    ask_for (&ask, "name.invalid");
    for (int tries = 0; tries < 6 && !answered (&ask); ++tries) {
        struct timespec end;
        clock_gettime (CLOCK_REALTIME, &end);
        end.tv_sec += ctki_test_long_ms () / 1000;
        (void) sem_timedwait (&ask.done, &end);
    }
    ck_assert (answered (&ask));
    ck_assert_str_eq (ask.address, "");
    ck_assert_str_ne (ask.reason, "");
    ctki_lookup_destroy (&ask.lookup);
}
END_TEST

/* An EAI_ code becomes its text, and there is no answer before done. */
START_TEST (reasons)
{
    ask_t good, bad, hung;
    ask_hanging (&hung, 1);
    await (&hanging);
    ck_assert (!answered (&hung));
    ask_for (&good, "good");
    ask_for (&bad, "bad");
    finish (&good);
    finish (&bad);
    ck_assert_str_eq (good.address, ADDRESS);
    ck_assert_str_eq (good.reason, "");
    ck_assert_str_eq (bad.address, "");
    ck_assert_str_eq (bad.reason, gai_strerror (EAI_NONAME));
    sem_post (&let_one_go);
    finish (&hung);
}
END_TEST

/* An address for which the caller has no room is no address. */
START_TEST (no_room)
{
    ask_t ask;
    ask_for (&ask, "good");
    await (&ask.done);
    char address[sizeof ADDRESS] = "untouched";
    char reason[CTKI_RESOLVER_REASON_BYTES] = "";
    ck_assert (ctki_lookup_result (ask.lookup, address, sizeof ADDRESS - 1, reason, sizeof reason));
    ck_assert_str_eq (address, "");
    ck_assert_str_eq (reason, "the address is too long");
    ck_assert (ctki_lookup_result (ask.lookup, address, sizeof ADDRESS, reason, sizeof reason));
    ck_assert_str_eq (address, ADDRESS);
    ck_assert_str_eq (reason, "");
    ctki_lookup_destroy (&ask.lookup);
}
END_TEST

/* A hanging name delays none of seven others. */
START_TEST (hanging_delays_nobody)
{
    ask_t hung, others[CTKI_RESOLVER_THREADS - 1];
    ask_hanging (&hung, 1);
    await (&hanging);
    for (size_t i = 0; i < CTKI_RESOLVER_THREADS - 1; ++i) {
        char host[32];
        snprintf (host, sizeof host, "other%zu", i);
        ask_for (&others[i], host);
    }
    for (size_t i = 0; i < CTKI_RESOLVER_THREADS - 1; ++i) {
        finish (&others[i]);
        ck_assert_str_eq (others[i].address, ADDRESS);
    }
    ck_assert (!answered (&hung));
    sem_post (&let_one_go);
    finish (&hung);
}
END_TEST

/* All slots but one hang: the last one serves all others. */
START_TEST (one_slot_left)
{
    ask_t hung[CTKI_RESOLVER_THREADS - 1], others[NAMES];
    ask_hanging (hung, CTKI_RESOLVER_THREADS - 1);
    for (size_t i = 0; i < CTKI_RESOLVER_THREADS - 1; ++i)
        await (&hanging);
    for (size_t i = 0; i < NAMES; ++i) {
        char host[32];
        snprintf (host, sizeof host, "other%zu", i);
        ask_for (&others[i], host);
    }
    for (size_t i = 0; i < NAMES; ++i)
        finish (&others[i]);
    for (size_t i = 0; i < CTKI_RESOLVER_THREADS - 1; ++i)
        sem_post (&let_one_go);
    for (size_t i = 0; i < CTKI_RESOLVER_THREADS - 1; ++i)
        finish (&hung[i]);
}
END_TEST

/* Of twenty hanging names eight are asked at once; the others follow in the order in which they came. */
START_TEST (twenty_names)
{
    ask_t asks[NAMES];
    ask_hanging (asks, NAMES);
    for (int i = 0; i < CTKI_RESOLVER_THREADS; ++i)
        await (&hanging);
    ck_assert_uint_eq (ctki_leaks_threads_named ("ct-resolve"), CTKI_RESOLVER_THREADS);
    ck_assert_int_eq (atomic_load (&asked), CTKI_RESOLVER_THREADS);
    for (int i = CTKI_RESOLVER_THREADS; i < NAMES; ++i) {
        sem_post (&let_one_go);
        await (&hanging);
        ck_assert_int_eq (atomic_load (&asked), i + 1);
        char expected[32];
        snprintf (expected, sizeof expected, "hang%d", i);
        ck_assert_str_eq (order[i], expected);
    }
    for (int i = 0; i < CTKI_RESOLVER_THREADS; ++i)
        sem_post (&let_one_go);
    for (size_t i = 0; i < NAMES; ++i)
        finish (&asks[i]);
    ck_assert_int_eq (atomic_load (&most_at_once), CTKI_RESOLVER_THREADS);
}
END_TEST

/* Look-ups of one name, in whatever case, share one question; each gets the answer. */
START_TEST (shared)
{
    ask_t first, second, third;
    ask_for (&first, "hang.example");
    await (&hanging);
    ask_for (&second, "Hang.Example");
    ask_for (&third, "hang.example");
    ctki_lookup_destroy (&first.lookup);
    sem_post (&let_one_go);
    finish (&second);
    finish (&third);
    ck_assert_str_eq (second.address, ADDRESS);
    ck_assert_str_eq (third.address, ADDRESS);
    ck_assert_int_eq (atomic_load (&asked), 1);
    ck_assert_int_ne (sem_trywait (&first.done), 0);
}
END_TEST

/* An answer is not kept: who asks later asks anew. */
START_TEST (not_kept)
{
    for (int i = 1; i <= 3; ++i) {
        ask_t ask;
        ask_for (&ask, "good");
        finish (&ask);
        ck_assert_int_eq (atomic_load (&asked), i);
    }
}
END_TEST

/* A look-up that hangs can be destroyed at once, and its done is never called. */
START_TEST (destroy_hanging)
{
    ask_t ask;
    ask_hanging (&ask, 1);
    await (&hanging);
    ctki_lookup_destroy (&ask.lookup); /* returns though nothing was let go */
    ck_assert_ptr_null (ask.lookup);
    sem_post (&let_one_go);
    await_no_thread ();
    ck_assert_int_ne (sem_trywait (&ask.done), 0);
}
END_TEST

/* A name that waits and that nobody wants any more is never asked for. */
START_TEST (destroy_waiting)
{
    ask_t hung[CTKI_RESOLVER_THREADS], waiting;
    ask_hanging (hung, CTKI_RESOLVER_THREADS);
    for (int i = 0; i < CTKI_RESOLVER_THREADS; ++i)
        await (&hanging);
    ask_for (&waiting, "good");
    ctki_lookup_destroy (&waiting.lookup);
    for (int i = 0; i < CTKI_RESOLVER_THREADS; ++i)
        sem_post (&let_one_go);
    for (int i = 0; i < CTKI_RESOLVER_THREADS; ++i)
        finish (&hung[i]);
    await_no_thread ();
    ck_assert_int_eq (atomic_load (&asked), CTKI_RESOLVER_THREADS);
}
END_TEST

static void destroy_myself (void *arg)
{
    ask_t *ask = arg;
    ck_assert (answered (ask));
    ctki_lookup_destroy (&ask->lookup);
    sem_post (&ask->done);
}

/* A done may destroy its own look-up. */
START_TEST (destroy_within)
{
    ask_t ask = {.lookup = NULL}, hung;
    ck_assert_int_eq (sem_init (&ask.done, 0, 0), 0);
    ask_for (&hung, "hang");
    await (&hanging);
    ask.lookup = ctki_resolver_ask ("hang", destroy_myself, &ask); /* not before its pointer is in place */
    ck_assert_ptr_nonnull (ask.lookup);
    sem_post (&let_one_go);
    await (&ask.done);
    ck_assert_ptr_null (ask.lookup);
    ck_assert_str_eq (ask.address, ADDRESS);
    finish (&hung);
}
END_TEST

static sem_t in_done, leave_done;
static atomic_bool done_left;

static void stay (void *arg)
{
    (void) arg;
    sem_post (&in_done);
    while (sem_wait (&leave_done) != 0)
        ;
    atomic_store (&done_left, true);
}

static atomic_int destroyer_tid;

static void *destroy (void *arg)
{
    atomic_store (&destroyer_tid, (int) gettid ());
    ctki_lookup_destroy (arg);
    return (void *) (uintptr_t) atomic_load (&done_left);
}

static bool sleeps (void *arg)
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

/* Destroy returns only when a done that runs on another thread has returned. */
START_TEST (destroy_while_done)
{
    ck_assert_int_eq (sem_init (&in_done, 0, 0), 0);
    ck_assert_int_eq (sem_init (&leave_done, 0, 0), 0);
    ctki_lookup_t *lookup = ctki_resolver_ask ("good", stay, NULL);
    ck_assert_ptr_nonnull (lookup);
    await (&in_done);
    pthread_t thread;
    ck_assert_int_eq (pthread_create (&thread, NULL, destroy, &lookup), 0);
    ck_assert (ctki_test_until (sleeps, &destroyer_tid, ctki_test_long_ms ()));
    sem_post (&leave_done);
    void *done_had_left = NULL;
    ck_assert_int_eq (pthread_join (thread, &done_had_left), 0);
    ck_assert_ptr_nonnull (done_had_left);
}
END_TEST

/* The last reference can be given back while a name hangs, and taken again. */
START_TEST (unref_hanging)
{
    ask_t ask, again;
    ask_hanging (&ask, 1);
    await (&hanging);
    ctki_lookup_destroy (&ask.lookup);
    ctki_resolver_unref ();
    ck_assert_int_eq (ctki_resolver_ref (), 0);
    ask_for (&again, "good");
    finish (&again);
    ck_assert_str_eq (again.address, ADDRESS);
    sem_post (&let_one_go);
}
END_TEST

/* A queue that is full refuses further names, not those that are in it already. */
START_TEST (queue_full)
{
    ask_t hung[CTKI_RESOLVER_THREADS];
    ctki_lookup_t **waiting = calloc (CTKI_RESOLVER_NAMES, sizeof *waiting);
    ck_assert_ptr_nonnull (waiting);
    ask_hanging (hung, CTKI_RESOLVER_THREADS);
    for (int i = 0; i < CTKI_RESOLVER_THREADS; ++i)
        await (&hanging);
    for (size_t i = 0; i < CTKI_RESOLVER_NAMES; ++i) {
        char host[32];
        snprintf (host, sizeof host, "good%zu", i);
        waiting[i] = ctki_resolver_ask (host, on_done, &hung[0]);
        ck_assert_ptr_nonnull (waiting[i]);
    }
    errno = 0;
    ck_assert_ptr_null (ctki_resolver_ask ("one more", on_done, NULL));
    ck_assert_int_eq (errno, EAGAIN);
    ctki_lookup_t *same = ctki_resolver_ask ("good0", on_done, NULL);
    ck_assert_ptr_nonnull (same);
    ctki_lookup_destroy (&same);
    for (size_t i = 0; i < CTKI_RESOLVER_NAMES; ++i)
        ctki_lookup_destroy (&waiting[i]);
    free (waiting);
    ask_t room;
    ask_for (&room, "good");
    for (int i = 0; i < CTKI_RESOLVER_THREADS; ++i)
        sem_post (&let_one_go);
    for (int i = 0; i < CTKI_RESOLVER_THREADS; ++i)
        finish (&hung[i]);
    finish (&room);
}
END_TEST

/* When memory runs out at any allocation, ask says so and leaves nothing behind. */
START_TEST (no_memory)
{
    for (long after = 0;; ++after) {
        ck_assert_int_lt (after, 10);
        ctki_mem_fail (after, 1);
        errno = 0;
        ask_t ask;
        ck_assert_int_eq (sem_init (&ask.done, 0, 0), 0);
        ask.lookup = ctki_resolver_ask ("good", on_done, &ask);
        int code = errno;
        ctki_mem_fail (-1, 0);
        if (ask.lookup != NULL) {
            ck_assert_int_eq (after, 3);
            finish (&ask);
            return;
        }
        ck_assert_int_eq (code, ENOMEM);
        ck_assert_int_eq (atomic_load (&asked), 0);
    }
}
END_TEST

/* Null and a pointer to null are harmless. */
START_TEST (destroy_nothing)
{
    ctki_lookup_t *none = NULL;
    ctki_lookup_destroy (NULL);
    ctki_lookup_destroy (&none);
}
END_TEST

static void use_in_child (ask_t *parents)
{
    alarm ((unsigned) (ctki_test_long_ms () / 1000));
    ctki_lookup_destroy (&parents->lookup);
    ctki_resolver_unref (); /* the parent's */
    if (ctki_resolver_ref () != 0)
        _exit (1);
#if !THREAD_SANITIZER /* it allows no new thread in such a child */
    ask_t ask;
    ask_for (&ask, "good");
    finish (&ask);
    if (strcmp (ask.address, ADDRESS) != 0)
        _exit (1);
#endif
    ctki_resolver_unref ();
    raise (SIGKILL); /* not an exit: the sanitizers would miss the parent's threads and memory */
}

/* A child forked while all slots hang has a resolver of its own, and can destroy the parent's look-ups. */
START_TEST (after_fork)
{
    ask_t asks[NAMES];
    ask_hanging (asks, NAMES);
    for (int i = 0; i < CTKI_RESOLVER_THREADS; ++i)
        await (&hanging);
    pid_t child = fork ();
    ck_assert_int_ge (child, 0);
    if (child == 0) {
        use_in_child (&asks[_i]);
        _exit (1);
    }
    int status = 0;
    ck_assert_int_eq (waitpid (child, &status, 0), child);
    ck_assert (WIFSIGNALED (status) && WTERMSIG (status) == SIGKILL);
    for (int i = 0; i < NAMES; ++i)
        sem_post (&let_one_go);
    for (int i = 0; i < NAMES; ++i)
        finish (&asks[i]);
}
END_TEST

static int signals_blocked;

static int look_at_mask (const char *host, char *address, size_t size)
{
    (void) host;
    sigset_t mask;
    pthread_sigmask (SIG_BLOCK, NULL, &mask);
    signals_blocked = sigismember (&mask, SIGINT) && sigismember (&mask, SIGUSR1) && sigismember (&mask, SIGCHLD);
    snprintf (address, size, ADDRESS);
    return 0;
}

/* The threads block all signals. */
START_TEST (signals)
{
    ctki_resolver_set_lookup (look_at_mask);
    ask_t ask;
    ask_for (&ask, "good");
    finish (&ask);
    ck_assert_int_ne (signals_blocked, 0);
}
END_TEST

static TCase *tcase_answers (void)
{
    TCase *tc = ctki_leaks_tcase ("answers", 150);
    tcase_add_checked_fixture (tc, set_up, tear_down);
    tcase_add_test (tc, localhost);
    tcase_add_loop_test (tc, numeric, 0, 3);
    tcase_add_test (tc, refused_by_system);
    tcase_add_test (tc, unknown_to_system);
    tcase_add_test (tc, reasons);
    tcase_add_test (tc, no_room);
    tcase_add_test (tc, shared);
    tcase_add_test (tc, not_kept);
    tcase_add_test (tc, no_memory);
    tcase_add_test (tc, signals);
    return tc;
}

static TCase *tcase_hanging (void)
{
    TCase *tc = ctki_leaks_tcase ("hanging", 60);
    tcase_add_checked_fixture (tc, set_up, tear_down);
    tcase_add_test (tc, hanging_delays_nobody);
    tcase_add_test (tc, one_slot_left);
    tcase_add_test (tc, twenty_names);
    tcase_add_test (tc, queue_full);
    tcase_add_test (tc, unref_hanging);
    tcase_add_loop_test (tc, after_fork, 0, 10);
    return tc;
}

static TCase *tcase_destroy (void)
{
    TCase *tc = ctki_leaks_tcase ("destroy", 60);
    tcase_add_checked_fixture (tc, set_up, tear_down);
    tcase_add_test (tc, destroy_nothing);
    tcase_add_test (tc, destroy_hanging);
    tcase_add_test (tc, destroy_waiting);
    tcase_add_test (tc, destroy_within);
    tcase_add_test (tc, destroy_while_done);
    return tc;
}

Suite *ctki_suite_resolver (void)
{
    Suite *suite = suite_create ("resolver");
    suite_add_tcase (suite, tcase_answers ());
    suite_add_tcase (suite, tcase_hanging ());
    suite_add_tcase (suite, tcase_destroy ());
    return suite;
}
