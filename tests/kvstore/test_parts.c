/*
 * test_parts.c - the parts of the key-value store that the log stands on: the
 * bytes, the file, and the keys and values.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "examples/kvstore_disk.h"
#include "examples/kvstore_state.h"
#include "tests/kvstore/suites.h"
#include "tests/support/support.h"

static kv_text_t text_of (const char *text)
{
    return (kv_text_t){.data = text, .size = strlen (text)};
}

static bool is_text (kv_text_t text, const char *wanted)
{
    return text.size == strlen (wanted) && (!text.size || !memcmp (text.data, wanted, text.size));
}

/* ---- bytes */

/* Goal: requests, answers and messages are read as they were written; cut short or too long they are refused. */
START_TEST (bytes)
{
    kv_writer_t writer = {0};
    kv_request_t in, out = {.op = KV_CAS, .client = UINT64_MAX - 1, .number = 7, .absent = true};
    out.key = text_of ("key");
    out.value = text_of ("value");
    kv_write_request (&writer, &out);
    ck_assert (kv_read_request (writer.data, writer.size, &in));
    ck_assert (in.op == KV_CAS && in.client == UINT64_MAX - 1 && in.number == 7 && in.absent);
    ck_assert (is_text (in.key, "key") && is_text (in.value, "value") && is_text (in.expected, ""));
    for (size_t size = 0; size < writer.size; size++)
        ck_assert (!kv_read_request (writer.data, size, &in));
    kv_write_number (&writer, 0, 1);
    ck_assert (!kv_read_request (writer.data, writer.size, &in));

    writer.size = 0;
    kv_answer_t heard, said = {.status = KV_DIFFERS, .leader = KV_NOBODY, .term = 3, .applied = 9};
    said.value = text_of ("another");
    kv_write_answer (&writer, &said);
    ck_assert (kv_read_answer (writer.data, writer.size, &heard));
    ck_assert (heard.status == KV_DIFFERS && heard.leader == KV_NOBODY && heard.term == 3 && heard.applied == 9);
    ck_assert (is_text (heard.value, "another"));
    for (size_t size = 0; size < writer.size; size++)
        ck_assert (!kv_read_answer (writer.data, size, &heard));

    writer.size = 0;
    kv_entry_t got[KV_ENTRIES_MAX], entries[2] = {{.term = 1}, {.term = 2, .data = "two", .size = 3}};
    kv_message_t received, sent = {.kind = KV_APPEND, .term = 2, .index = 5, .count = 2, .entry = entries};
    kv_write_message (&writer, &sent);
    ck_assert (kv_read_message (KV_APPEND, writer.data, writer.size, &received, got));
    ck_assert (received.index == 5 && received.count == 2 && got[0].size == 0 && got[1].term == 2);
    ck_assert_mem_eq (got[1].data, "two", 3);
    ck_assert (!kv_read_message (KV_REQUEST, writer.data, writer.size, &received, got));
    for (size_t size = 0; size < writer.size; size++)
        ck_assert (!kv_read_message (KV_APPEND, writer.data, size, &received, got));
    kv_writer_fini (&writer);
}
END_TEST

/* Goal: a key or a value that is too long, and a request without a number, are refused. */
START_TEST (limits)
{
    static char large[KV_VALUE_MAX + 1];
    kv_writer_t writer = {0};
    kv_request_t in, out = {.op = KV_PUT, .number = 1, .key = {large, KV_KEY_MAX}, .value = {large, KV_VALUE_MAX}};
    kv_write_request (&writer, &out);
    ck_assert (kv_read_request (writer.data, writer.size, &in));
    for (int i = 0; i < 3; i++) {
        kv_request_t bad = out;
        bad.key.size += i == 0;
        bad.value.size += i == 1;
        bad.number -= i == 2;
        writer.size = 0;
        kv_write_request (&writer, &bad);
        ck_assert (!kv_read_request (writer.data, writer.size, &in));
    }
    kv_writer_fini (&writer);
}
END_TEST

/* ---- the file */

static char folder[64];

static void make_folder (void)
{
    (void) snprintf (folder, sizeof folder, "/tmp/ctk-kv-XXXXXX");
    ck_assert_ptr_nonnull (mkdtemp (folder));
}

static void remove_folder (void)
{
    char path[128];
    (void) snprintf (path, sizeof path, "%s/3.log", folder);
    (void) unlink (path);
    ck_assert_int_eq (rmdir (folder), 0);
}

static void open_log (kv_disk_t *disk, kv_log_t *log)
{
    ctalk_pid_t members[] = {3};
    kv_log_init (log, 3, members, 1);
    ck_assert_msg (kv_disk_open (disk, folder, 3), "%s", strerror (errno));
    ck_assert_msg (kv_journal_load (disk, log), "%s", strerror (errno));
}

static void close_log (kv_disk_t *disk, kv_log_t *log)
{
    kv_log_fini (log);
    kv_disk_close (disk);
}

static void write_some (kv_disk_t *disk, kv_log_t *log)
{
    kv_log_timeout (log); /* alone, it is leader at once */
    ck_assert_uint_eq (kv_log_propose (log, "one", 3), 2);
    ck_assert_uint_eq (kv_log_propose (log, "two", 3), 3);
    ck_assert (kv_journal_save (disk, log));
    ck_assert_uint_eq (log->commit, 3);
}

/* Goal: what was saved is there when the file is opened again, and it goes on from there. */
START_TEST (saved)
{
    kv_disk_t disk;
    kv_log_t log;
    make_folder ();
    open_log (&disk, &log);
    write_some (&disk, &log);
    close_log (&disk, &log);
    open_log (&disk, &log);
    ck_assert (log.term == 1 && log.voted == 3 && log.last == 3 && log.saved == 3 && log.vote_is_saved);
    ck_assert_mem_eq (log.entry[3].data, "two", 3);
    kv_log_timeout (&log);
    ck_assert (kv_journal_save (&disk, &log));
    close_log (&disk, &log);
    open_log (&disk, &log);
    ck_assert (log.term == 2 && log.last == 4 && log.entry[4].size == 0 && log.entry[4].term == 2);
    close_log (&disk, &log);
    remove_folder ();
}
END_TEST

/* The file holds these bytes when the server is started, and then it becomes leader and goes on. */
static void go_on_from (const unsigned char *data, size_t size)
{
    kv_disk_t disk;
    kv_log_t log;
    ck_assert (kv_disk_open (&disk, folder, 3) && disk.cut (&disk, 0) && disk.append (&disk, data, size));
    kv_disk_close (&disk);
    open_log (&disk, &log);
    ck_assert_uint_eq (log.last, 2);
    ck_assert_mem_eq (log.entry[2].data, "one", 3);
    kv_log_timeout (&log);
    ck_assert (kv_journal_save (&disk, &log));
    close_log (&disk, &log);
    open_log (&disk, &log);
    ck_assert (log.term == 2 && log.last == 3 && log.entry[3].size == 0);
    close_log (&disk, &log);
}

/* Goal: wherever the last record is torn or wrong, what stands before it is there, and what is written next, too. */
START_TEST (torn)
{
    enum { RECORD = 8 + 4 + 1 + 8 + 8 + 4 + 3 };
    kv_disk_t disk;
    kv_log_t log;
    unsigned char *data;
    size_t size;
    make_folder ();
    open_log (&disk, &log);
    write_some (&disk, &log);
    ck_assert (disk.read (&disk, &data, &size));
    close_log (&disk, &log);
    for (size_t cut = 1; cut <= RECORD; cut++) {
        go_on_from (data, size - cut);
        data[size - cut] ^= 1;
        go_on_from (data, size);
        data[size - cut] ^= 1;
    }
    free (data);
    remove_folder ();
}
END_TEST

/* Goal: two servers cannot have the same file. */
START_TEST (locked)
{
    kv_disk_t disk, other;
    kv_log_t log;
    make_folder ();
    open_log (&disk, &log);
    errno = 0;
    ck_assert (!kv_disk_open (&other, folder, 3));
    ck_assert_int_eq (errno, EAGAIN);
    close_log (&disk, &log);
    ck_assert (kv_disk_open (&other, folder, 3));
    kv_disk_close (&other);
    remove_folder ();
}
END_TEST

static bool break_down (kv_disk_t *disk, const void *data, size_t size)
{
    (void) disk;
    (void) data;
    (void) size;
    errno = EIO;
    return false;
}

/* Goal: a disk that fails is told of, and nothing counts as saved. */
START_TEST (failing)
{
    kv_disk_t disk;
    kv_log_t log;
    ctalk_pid_t members[] = {3};
    kv_disk_in_memory (&disk);
    disk.append = break_down;
    kv_log_init (&log, 3, members, 1);
    kv_log_timeout (&log);
    ck_assert (!kv_journal_save (&disk, &log));
    ck_assert_int_eq (errno, EIO);
    ck_assert (log.saved == 0 && log.commit == 0 && !log.vote_is_saved);
    close_log (&disk, &log);
}
END_TEST

/* ---- keys and values */

static kv_status_t apply (kv_state_t *state, kv_op_t op, uint64_t client, uint64_t number, const char *expected,
                          const char *value, const char *answered)
{
    kv_answer_t answer = {0};
    kv_request_t request = {.op = op,
                            .client = client,
                            .number = number,
                            .key = text_of ("key"),
                            .value = text_of (value),
                            .absent = !expected};
    request.expected = text_of (expected ? expected : "");
    kv_state_apply (state, &request, &answer);
    ck_assert_msg (is_text (answer.value, answered), "'%.*s', not '%s'", (int) answer.value.size,
                   (const char *) answer.value.data, answered);
    return answer.status;
}

static void has (kv_state_t *state, const char *value)
{
    kv_answer_t answer = {0};
    kv_state_get (state, text_of ("key"), &answer);
    ck_assert_int_eq (answer.status, value ? KV_DONE : KV_ABSENT);
    ck_assert (!value || is_text (answer.value, value));
}

/* Goal: put, get and cas do what they say. */
START_TEST (operations)
{
    kv_state_t *state = kv_state_new ();
    has (state, NULL);
    ck_assert_int_eq (apply (state, KV_CAS, 1, 1, "a", "b", ""), KV_ABSENT);
    has (state, NULL);
    ck_assert_int_eq (apply (state, KV_CAS, 1, 2, NULL, "a", ""), KV_DONE);
    has (state, "a");
    ck_assert_int_eq (apply (state, KV_CAS, 1, 3, NULL, "b", "a"), KV_DIFFERS);
    ck_assert_int_eq (apply (state, KV_CAS, 1, 4, "ab", "b", "a"), KV_DIFFERS);
    ck_assert_int_eq (apply (state, KV_CAS, 1, 5, "a", "", ""), KV_DONE);
    has (state, "");
    ck_assert_int_eq (apply (state, KV_PUT, 1, 6, NULL, "c", ""), KV_DONE);
    has (state, "c");
    kv_state_destroy (&state);
    ck_assert_ptr_null (state);
}
END_TEST

/* Goal: a request that comes again is answered as before and not done again; an older one is not done at all. */
START_TEST (once)
{
    kv_state_t *state = kv_state_new ();
    ck_assert_int_eq (apply (state, KV_PUT, 1, 1, NULL, "a", ""), KV_DONE);
    ck_assert_int_eq (apply (state, KV_CAS, 1, 2, "a", "b", ""), KV_DONE);
    ck_assert_int_eq (apply (state, KV_CAS, 2, 1, "a", "c", "b"), KV_DIFFERS);
    ck_assert_int_eq (apply (state, KV_PUT, 2, 2, NULL, "a", ""), KV_DONE);
    ck_assert_int_eq (apply (state, KV_CAS, 1, 2, "a", "b", ""), KV_DONE);
    has (state, "a");
    ck_assert_int_eq (apply (state, KV_PUT, 1, 1, NULL, "z", ""), KV_OUTDATED);
    has (state, "a");
    ck_assert_int_eq (apply (state, KV_CAS, 3, 5, "b", "z", "a"), KV_DIFFERS);
    ck_assert_int_eq (apply (state, KV_PUT, 2, 3, NULL, "b", ""), KV_DONE);
    ck_assert_int_eq (apply (state, KV_CAS, 3, 5, "b", "z", "a"), KV_DIFFERS);
    has (state, "b");
    kv_state_destroy (&state);
}
END_TEST

/* Goal: of too many clients the one that was quiet for longest is forgotten, and no other. */
START_TEST (many_clients)
{
    kv_state_t *state = kv_state_new ();
    for (uint64_t client = 1; client <= KV_CLIENTS_MAX; client++)
        ck_assert_int_eq (apply (state, KV_PUT, client, 5, NULL, "a", ""), KV_DONE);
    ck_assert_int_eq (apply (state, KV_PUT, 1, 6, NULL, "b", ""), KV_DONE);
    ck_assert_int_eq (apply (state, KV_PUT, KV_CLIENTS_MAX + 1, 1, NULL, "b", ""), KV_DONE);
    ck_assert_int_eq (apply (state, KV_PUT, 1, 5, NULL, "z", ""), KV_OUTDATED);
    ck_assert_int_eq (apply (state, KV_PUT, 3, 4, NULL, "z", ""), KV_OUTDATED);
    has (state, "b");
    ck_assert_int_eq (apply (state, KV_PUT, 2, 4, NULL, "z", ""), KV_DONE); /* as if it were new */
    kv_state_destroy (&state);
}
END_TEST

Suite *ctki_suite_kv_parts (void)
{
    Suite *suite = suite_create ("parts");
    TCase *tcase = tcase_create ("parts");
    tcase_set_timeout (tcase, ctki_test_ms (60 * 1000) / 1000.0);
    tcase_add_test (tcase, bytes);
    tcase_add_test (tcase, limits);
    tcase_add_test (tcase, saved);
    tcase_add_test (tcase, torn);
    tcase_add_test (tcase, locked);
    tcase_add_test (tcase, failing);
    tcase_add_test (tcase, operations);
    tcase_add_test (tcase, once);
    tcase_add_test (tcase, many_clients);
    suite_add_tcase (suite, tcase);
    return suite;
}
