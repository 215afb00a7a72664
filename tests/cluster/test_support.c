/*
 * test_support.c - the tests' own tools: a check that cannot fail proves nothing.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/cluster/suites.h"
#include "tests/support/support.h"

enum { LOOK_MS = 30 };

/* The leak check finds an open descriptor and names it. */
START_TEST (leak_check_finds_a_descriptor)
{
    ctki_leaks_t before;
    char text[400];
    ctki_leaks_look (&before);
    int fd = open ("/dev/null", O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge (fd, 0);
    ck_assert (!ctki_leaks_gone (&before, LOOK_MS, text, sizeof text));
    ck_assert_ptr_nonnull (strstr (text, "/dev/null"));
    ck_assert_int_eq (close (fd), 0);
    ck_assert (ctki_leaks_gone (&before, LOOK_MS, text, sizeof text));
}
END_TEST

static bool wait_for_byte (void *arg, ctki_trouble_t *trouble)
{
    char byte;
    const int *fd = arg;
    CTKI_EXPECT (trouble, read (*fd, &byte, 1) == 1);
    return true;
}

/* The leak check finds a thread that still runs. */
START_TEST (leak_check_finds_a_thread)
{
    int ends[2];
    ck_assert_int_eq (pipe2 (ends, O_CLOEXEC), 0);
    ctki_leaks_t before;
    ctki_test_thread_t thread;
    char text[400];
    ctki_leaks_look (&before);
    ctki_test_thread_start (&thread, wait_for_byte, &ends[0]);
    ck_assert (!ctki_leaks_gone (&before, LOOK_MS, text, sizeof text));
    ck_assert_int_eq (write (ends[1], "x", 1), 1);
    ctki_test_thread_join (&thread);
    ck_assert_msg (ctki_leaks_gone (&before, ctki_test_long_ms (), text, sizeof text), "%s", text);
    (void) close (ends[0]);
    (void) close (ends[1]);
}
END_TEST

/* The threads of a name are counted. */
START_TEST (threads_are_counted_by_name)
{
    int ends[2];
    ctki_test_thread_t thread;
    ck_assert_int_eq (pipe2 (ends, O_CLOEXEC), 0);
    ctki_test_thread_start (&thread, wait_for_byte, &ends[0]);
    ck_assert_int_eq (pthread_setname_np (thread.thread, "ct-example-1"), 0);
    ck_assert_uint_eq (ctki_leaks_threads_named ("ct-example-"), 1);
    ck_assert_uint_eq (ctki_leaks_threads_named ("ct-another-"), 0);
    ck_assert_int_eq (write (ends[1], "x", 1), 1);
    ctki_test_thread_join (&thread);
    (void) close (ends[0]);
    (void) close (ends[1]);
}
END_TEST

/* Thirty envelopes that both sides of a journal see, but for those that spoil changes. */
typedef enum { NOTHING, LOSE_MIDDLE, LOSE_LAST, DUPLICATE, REORDER, CHANGE, INVENT } spoil_t;

static void receive_one (ctki_journal_t *journal, int64_t number, bool change)
{
    char data[32];
    ctki_payload_fill (data, sizeof data, 1, 2, number);
    if (change)
        data[17] = (char) (data[17] ^ 4);
    ctalk_envelope_t envelope = {.pid = 1, .msg_id = number, .data = data, .size = sizeof data};
    ctki_journal_received (journal, 2, &envelope);
}

static ctki_journal_t *spoiled (spoil_t how)
{
    ctki_journal_t *journal = ctki_journal_new (2, 100);
    char data[32];
    for (int64_t i = 0; i < 30; i++) {
        ctki_payload_fill (data, sizeof data, 1, 2, i);
        ctki_journal_sent (journal, 1, 2, i, data, sizeof data);
    }
    for (int64_t i = 0; i < 30; i++) {
        bool skip = (how == LOSE_MIDDLE && i == 7) || (how == LOSE_LAST && i == 29);
        int64_t number = how == REORDER && i >= 8 && i < 10 ? 17 - i : i;
        if (!skip)
            receive_one (journal, number, how == CHANGE && i == 11);
        if (how == DUPLICATE && i == 11)
            receive_one (journal, i, false);
    }
    if (how == INVENT)
        receive_one (journal, 1000, false);
    return journal;
}

/* The journal tells loss, duplicates, wrong order, changed bytes and inventions from a good run, and from each other.
 */
START_TEST (journal_finds_each_fault)
{
    static const struct {
        spoil_t how;
        ctki_journal_sums_t want;
    } cases[] = {
        {NOTHING, {.received = 30}},
        {LOSE_MIDDLE, {.received = 29, .missing = 1}},
        {LOSE_LAST, {.received = 29, .missing = 1}},
        {DUPLICATE, {.received = 31, .duplicated = 1}},
        {REORDER, {.received = 30, .out_of_order = 1}},
        {CHANGE, {.received = 30, .changed = 1}},
        {INVENT, {.received = 31, .changed = 1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ctki_trouble_t trouble = {""};
        ctki_journal_t *journal = spoiled (cases[i].how);
        ctki_journal_sums_t sums = ctki_journal_sums (journal, 1, 2);
        ck_assert_uint_eq (sums.sent, 30);
        ck_assert_uint_eq (sums.received, cases[i].want.received);
        ck_assert_uint_eq (sums.missing, cases[i].want.missing);
        ck_assert_uint_eq (sums.duplicated, cases[i].want.duplicated);
        ck_assert_uint_eq (sums.out_of_order, cases[i].want.out_of_order);
        ck_assert_uint_eq (sums.changed, cases[i].want.changed);
        ck_assert_int_eq (ctki_journal_agrees (journal, &trouble), cases[i].how == NOTHING);
        ck_assert_int_eq (trouble.text[0] == 0, cases[i].how == NOTHING);
        ctki_journal_destroy (&journal);
    }
}
END_TEST

/* The running hash depends on the order, the numbers, the sizes and every byte. */
START_TEST (hash_sees_order_and_every_byte)
{
    char data[41] = {0};
    uint64_t one = ctki_payload_hash (ctki_payload_hash (0, 1, "ab", 2), 2, "cd", 2);
    ck_assert_uint_ne (one, ctki_payload_hash (ctki_payload_hash (0, 2, "cd", 2), 1, "ab", 2));
    ck_assert_uint_ne (one, ctki_payload_hash (ctki_payload_hash (0, 1, "ab", 2), 3, "cd", 2));
    uint64_t zeros = ctki_payload_hash (0, 0, data, 41);
    ck_assert_uint_ne (zeros, ctki_payload_hash (0, 0, data, 40));
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = 1;
        ck_assert_uint_ne (zeros, ctki_payload_hash (0, 0, data, 41));
        data[i] = 0;
    }
}
END_TEST

/* A payload is recognised by size, sender, receiver and number, and a change of any byte is seen. */
START_TEST (payload_is_recognised)
{
    char data[67];
    for (size_t size = 0; size <= sizeof data; size++) {
        ctki_payload_fill (data, size, 3, 4, 5);
        ck_assert (ctki_payload_ok (data, size, 3, 4, 5));
        for (size_t i = 0; i < size; i++) {
            data[i] = (char) (data[i] ^ 1);
            ck_assert (!ctki_payload_ok (data, size, 3, 4, 5));
            data[i] = (char) (data[i] ^ 1);
        }
        bool other = size > 3 && (ctki_payload_ok (data, size, 4, 3, 5) || ctki_payload_ok (data, size, 3, 4, 6));
        ck_assert (!other);
    }
}
END_TEST

/* Ports come from 20000-29999, are distinct and bindable, and no other holder gets the same. */
START_TEST (ports_are_locked)
{
    static ctki_ports_t mine, others;
    ctki_ports_take (&mine, 20);
    ctki_ports_take (&others, 20);
    for (size_t i = 0; i < 20; i++) {
        ck_assert_uint_ge (mine.port[i], 20000);
        ck_assert_uint_le (mine.port[i], 29999);
        for (size_t j = 0; j < 20; j++)
            ck_assert (mine.port[i] != others.port[j] && (i == j || mine.port[i] != mine.port[j]));
    }
    uint16_t first = mine.port[0];
    ctki_ports_release (&mine);
    ctki_ports_take (&mine, 1);
    ck_assert_uint_eq (mine.port[0], first);
    ctki_ports_release (&mine);
    ctki_ports_release (&others);
}
END_TEST

static bool fail_in_worker (int fd, void *arg, ctki_trouble_t *trouble)
{
    (void) fd;
    CTKI_EXPECT_EQUAL (trouble, *(int *) arg, 4);
    return true;
}

static bool hang_in_worker (int fd, void *arg, ctki_trouble_t *trouble)
{
    char byte;
    (void) arg;
    CTKI_EXPECT (trouble, read (fd, &byte, 1) == 1); /* nobody writes */
    return true;
}

/* The same in a process of its own, whose failed assertion is expected. */
static void join_in_child (bool (*run) (int fd, void *arg, ctki_trouble_t *trouble), int *arg, int ms)
{
    ctki_process_t process;
    ctki_process_start (&process, run, arg);
    ctki_process_join (&process, ms);
}

static bool measure_lateness (int fd, void *arg, ctki_trouble_t *trouble)
{
    char go;
    (void) arg;
    ctki_lateness_t lateness;
    ctki_lateness_start (&lateness);
    CTKI_EXPECT (trouble, ctki_process_write (fd, "r", 1));
    CTKI_EXPECT (trouble, ctki_process_read (fd, &go, 1, ctki_test_long_ms ()));
    int64_t late_ms = ctki_lateness_stop (&lateness);
    return ctki_process_write (fd, &late_ms, sizeof late_ms);
}

/* The machine's lateness is seen: a process that did not run for 50 ms says so, times the handovers. */
START_TEST (lateness_is_measured)
{
    ctki_process_t process;
    char ready;
    int64_t late_ms = 0;
    ctki_process_start (&process, measure_lateness, NULL);
    ck_assert (ctki_process_read (process.fd, &ready, 1, ctki_test_long_ms ()));
    ck_assert_int_eq (kill (process.pid, SIGSTOP), 0);
    ck_assert_int_eq (waitpid (process.pid, NULL, WUNTRACED), process.pid);
    (void) poll (NULL, 0, 50); /* the time for which it stands still */
    ck_assert_int_eq (kill (process.pid, SIGCONT), 0);
    ck_assert (ctki_process_write (process.fd, "g", 1));
    ck_assert (ctki_process_read (process.fd, &late_ms, sizeof late_ms, ctki_test_long_ms ()));
    ctki_process_join (&process, ctki_test_long_ms ());
    ck_assert_int_ge (late_ms, 45 * CTKI_LATENESS_HANDOVERS);
}
END_TEST

/* A worker's success passes through, and it leaves no zombie. */
START_TEST (worker_that_succeeds)
{
    int four = 4;
    join_in_child (fail_in_worker, &four, ctki_test_long_ms ());
    ck_assert_int_eq (waitpid (-1, NULL, WNOHANG), -1);
}
END_TEST

/* A worker's failure fails the test (this test is to fail). */
START_TEST (worker_that_fails)
{
    int five = 5;
    join_in_child (fail_in_worker, &five, ctki_test_long_ms ());
}
END_TEST

/* A worker that hangs fails the test at the deadline and is killed (this test is to fail). */
START_TEST (worker_that_hangs)
{
    join_in_child (hang_in_worker, NULL, LOOK_MS);
}
END_TEST

static bool fail_in_thread (void *arg, ctki_trouble_t *trouble)
{
    (void) arg;
    CTKI_EXPECT (trouble, 1 > 2);
    return true;
}

/* A thread's trouble fails the test (this test is to fail). */
START_TEST (thread_that_fails)
{
    ctki_test_thread_t thread;
    ctki_test_thread_start (&thread, fail_in_thread, NULL);
    ctki_test_thread_join (&thread);
}
END_TEST

/* A leaked descriptor fails the test in its teardown (this test is to fail). */
START_TEST (test_that_leaks)
{
    ck_assert_int_ge (dup (1), 0);
}
END_TEST

/* Runs one test in a runner of its own; returns how many failed and their text. */
static int fails (const TTest *test, char *text, size_t size)
{
    Suite *suite = suite_create ("inner");
    TCase *tcase = ctki_leaks_tcase ("inner", 30);
    tcase_add_test (tcase, test);
    suite_add_tcase (suite, tcase);
    SRunner *runner = srunner_create (suite);
    srunner_set_fork_status (runner, CK_FORK);
    srunner_run (runner, "inner", "inner", CK_SILENT);
    int failed = srunner_ntests_failed (runner);
    TestResult **results = srunner_failures (runner);
    (void) snprintf (text, size, "%s", failed ? tr_msg (results[0]) : "");
    free (results);
    srunner_free (runner);
    return failed;
}

/* Tests that fail for each of these reasons are seen to fail, with the reason in the text. */
START_TEST (failures_are_seen)
{
    char text[600];
    (void) setenv ("CTALK_TEST_TIMESCALE", "0.2", 1);
    ck_assert_int_eq (fails (worker_that_fails, text, sizeof text), 1);
    ck_assert_ptr_nonnull (strstr (text, "== 4: 5, 4"));
    ck_assert_int_eq (fails (worker_that_hangs, text, sizeof text), 1);
    ck_assert_ptr_nonnull (strstr (text, "did not end within"));
    ck_assert_int_eq (fails (thread_that_fails, text, sizeof text), 1);
    ck_assert_ptr_nonnull (strstr (text, "1 > 2"));
    ck_assert_int_eq (fails (test_that_leaks, text, sizeof text), 1);
    ck_assert_ptr_nonnull (strstr (text, "left over"));
}
END_TEST

/* Counts are divided and deadlines multiplied as the environment says. */
START_TEST (scales_come_from_the_environment)
{
    (void) setenv ("CTALK_TEST_SCALE", "10", 1);
    (void) setenv ("CTALK_TEST_TIMESCALE", "2.5", 1);
    ck_assert_uint_eq (ctki_test_count (1000), 100);
    ck_assert_uint_eq (ctki_test_count (3), 1);
    ck_assert_int_eq (ctki_test_ms (100), 250);
    ck_assert_str_eq (ctki_test_scale_text (), "counts / 10, deadlines x 2.5");
    (void) unsetenv ("CTALK_TEST_SCALE");
    (void) unsetenv ("CTALK_TEST_TIMESCALE");
    ck_assert_uint_eq (ctki_test_count (1000), 1000);
    ck_assert_str_eq (ctki_test_scale_text (), "full scale");
}
END_TEST

/* The environment is as it was after a test that changed it, in one process, too. */
static char *kept_scale, *kept_timescale;

static void keep (void)
{
    const char *scale = getenv ("CTALK_TEST_SCALE"), *timescale = getenv ("CTALK_TEST_TIMESCALE");
    kept_scale = scale ? strdup (scale) : NULL;
    kept_timescale = timescale ? strdup (timescale) : NULL;
}

static void put_back (const char *name, char **value)
{
    (void) (*value ? setenv (name, *value, 1) : unsetenv (name));
    free (*value);
    *value = NULL;
}

static void restore (void)
{
    put_back ("CTALK_TEST_SCALE", &kept_scale);
    put_back ("CTALK_TEST_TIMESCALE", &kept_timescale);
}

/* The peak of memory is seen, and a reset forgets it. */
START_TEST (memory_peak_is_measured)
{
    enum { BLOCK = 64 * 1024 * 1024 };
    ctki_memory_reset_peak ();
    uint64_t before = ctki_memory_now ();
    char *block = mmap (NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert (block != MAP_FAILED);
    memset (block, 1, BLOCK);
    ck_assert_int_eq (block[BLOCK / 2], 1);
    ck_assert_int_eq (munmap (block, BLOCK), 0);
    ck_assert_uint_ge (ctki_memory_peak (), before + BLOCK / 10 * 9);
    ctki_memory_reset_peak ();
    ck_assert_uint_le (ctki_memory_peak (), before + BLOCK / 2);
}
END_TEST

Suite *ctki_suite_support (void)
{
    Suite *suite = suite_create ("support");
    TCase *tcase = ctki_leaks_tcase ("leaks", 60);
    tcase_add_test (tcase, leak_check_finds_a_descriptor);
    tcase_add_test (tcase, leak_check_finds_a_thread);
    tcase_add_test (tcase, threads_are_counted_by_name);
    suite_add_tcase (suite, tcase);
    tcase = ctki_leaks_tcase ("journal", 60);
    tcase_add_test (tcase, journal_finds_each_fault);
    tcase_add_test (tcase, hash_sees_order_and_every_byte);
    tcase_add_test (tcase, payload_is_recognised);
    suite_add_tcase (suite, tcase);
    tcase = ctki_leaks_tcase ("helpers", 60);
    tcase_add_test (tcase, ports_are_locked);
    tcase_add_test (tcase, worker_that_succeeds);
    tcase_add_test (tcase, lateness_is_measured);
    tcase_add_test (tcase, memory_peak_is_measured);
    suite_add_tcase (suite, tcase);
    tcase = ctki_leaks_tcase ("environment", 60);
    tcase_add_checked_fixture (tcase, keep, restore);
    tcase_add_test (tcase, scales_come_from_the_environment);
    tcase_add_test (tcase, failures_are_seen);
    suite_add_tcase (suite, tcase);
    return suite;
}
