/*
 * traffic.c - sending and receiving in tests. Owns a buffer per stream.
 */
#include "tests/support/traffic.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/payload.h"
#include "tests/support/scale.h"
#include "tests/support/thread.h"

enum { TAKE_AT_ONCE = 64, PROGRESS_EVERY = 1024 };

ctalk_envelope_t ctki_traffic_envelope (ctalk_pid_t pid, int64_t msg_id, const void *data, size_t size)
{
    return (ctalk_envelope_t){.pid = pid, .msg_id = msg_id, .data = data, .size = size};
}

void ctki_traffic_take (ctalk_server_t *server, ctalk_envelope_t *envelope)
{
    int rc = ctalk_recv (server, envelope, ctki_test_long_ms ());
    ck_assert_msg (rc == 0, "server %d received nothing: %s", ctalk_server_pid (server), strerror (errno));
}

void ctki_traffic_send (ctalk_server_t *server, ctalk_pid_t pid, int64_t msg_id, const char *text)
{
    ctalk_envelope_t envelope = ctki_traffic_envelope (pid, msg_id, text, strlen (text));
    int rc = ctalk_send (server, &envelope, ctki_test_long_ms ());
    ck_assert_msg (rc == 0, "server %d to %d: %s", ctalk_server_pid (server), pid, strerror (errno));
}

void ctki_traffic_expect (ctalk_server_t *server, ctalk_pid_t from, int64_t msg_id, const char *text)
{
    ctalk_envelope_t envelope;
    ctki_traffic_take (server, &envelope);
    ck_assert_int_eq (envelope.kind, CTALK_MESSAGE);
    ck_assert_int_eq (envelope.pid, from);
    ck_assert_int_eq (envelope.msg_id, msg_id);
    ck_assert_uint_eq (envelope.size, strlen (text));
    ck_assert_msg (memcmp (envelope.data, text, envelope.size) == 0, "%.*s is not %s", (int) envelope.size,
                   (const char *) envelope.data, text);
    ctalk_envelope_close (&envelope);
}

void ctki_traffic_expect_nothing (ctalk_server_t *server, int ms)
{
    ctalk_envelope_t envelope;
    ck_assert_int_eq (ctalk_recv (server, &envelope, ms), -1);
    ck_assert_int_eq (errno, EAGAIN);
}

static size_t largest (const ctki_stream_t *stream)
{
    size_t most = 1;
    for (size_t i = 0; i < stream->sizes_count; i++)
        most = CTKI_MAX (most, stream->sizes[i]);
    return most;
}

static bool send_all (const ctki_stream_t *stream, char *buffer, ctki_trouble_t *trouble)
{
    ctalk_pid_t self = ctalk_server_pid (stream->server);
    for (size_t i = 0; i < stream->count; i++) {
        int64_t number = stream->first + (int64_t) i;
        size_t size = stream->sizes[i % stream->sizes_count];
        ctki_payload_fill (buffer, size, self, stream->dst, number);
        ctalk_envelope_t envelope = ctki_traffic_envelope (stream->dst, number, buffer, size);
        CTKI_EXPECT_EQUAL (trouble, ctalk_send (stream->server, &envelope, 6 * ctki_test_long_ms ()), 0);
        if (stream->journal)
            ctki_journal_sent (stream->journal, self, stream->dst, number, buffer, size);
    }
    return true;
}

bool ctki_traffic_stream (void *arg, ctki_trouble_t *trouble)
{
    const ctki_stream_t *stream = arg;
    char *buffer = malloc (largest (stream));
    CTKI_EXPECT (trouble, buffer);
    bool ok = send_all (stream, buffer, trouble);
    free (buffer);
    return ok;
}

bool ctki_traffic_drain (void *arg, ctki_trouble_t *trouble)
{
    const ctki_drain_t *drain = arg;
    ctalk_envelope_t envelopes[TAKE_AT_ONCE];
    ctalk_pid_t self = ctalk_server_pid (drain->server);
    size_t got = 0;
    while (got < drain->count) {
        size_t want = CTKI_MIN (drain->count - got, (size_t) TAKE_AT_ONCE);
        int n = ctalk_recv_many (drain->server, envelopes, want, 6 * ctki_test_long_ms ());
        if (n < 1)
            return ctki_trouble_note (trouble, __FILE__, __LINE__, "server %d: %zu of %zu received", self, got,
                                      drain->count);
        for (int i = 0; i < n; i++) {
            ctki_journal_received (drain->journal, self, &envelopes[i]);
            ctalk_envelope_close (&envelopes[i]);
        }
        if (drain->progress && got / PROGRESS_EVERY != (got + (size_t) n) / PROGRESS_EVERY)
            ctki_test_progress (drain->progress, got, drain->count);
        got += (size_t) n;
    }
    CTKI_EXPECT (trouble, ctalk_recv (drain->server, &envelopes[0], 0) == -1 && errno == EAGAIN);
    return true;
}

static void start_streams (ctki_cluster_t *cluster, ctki_stream_t *streams, ctki_test_thread_t *threads, size_t count,
                           ctki_journal_t *journal)
{
    static const size_t sizes[] = {64, 0, 5000, 1, 70000};
    size_t next = 0;
    for (size_t a = 1; a <= cluster->count; a++)
        for (size_t b = 1; b <= cluster->count; b++) {
            if (a == b || !cluster->server[a] || !cluster->server[b])
                continue;
            streams[next] = (ctki_stream_t){cluster->server[a], (ctalk_pid_t) b, 0, count, sizes, 5, journal};
            ctki_test_thread_start (&threads[next], ctki_traffic_stream, &streams[next]);
            next++;
        }
}

static size_t running (const ctki_cluster_t *cluster)
{
    size_t count = 0;
    for (size_t i = 1; i <= cluster->count; i++)
        count += cluster->server[i] ? 1 : 0;
    return count;
}

void ctki_traffic_exchange (ctki_cluster_t *cluster, size_t count)
{
    size_t n = running (cluster), pairs = n * (n - 1);
    ctki_journal_t *journal = ctki_journal_new (cluster->count, count);
    ctki_test_thread_t *threads = calloc (pairs + n, sizeof *threads);
    ctki_stream_t *streams = calloc (pairs, sizeof *streams);
    ctki_drain_t drains[CTKI_CLUSTER_MAX];
    ctki_trouble_t trouble = {""};
    ck_assert (threads && streams);
    start_streams (cluster, streams, threads, count, journal);
    size_t next = 0;
    for (size_t i = 1; i <= cluster->count; i++) {
        if (!cluster->server[i])
            continue;
        drains[next] = (ctki_drain_t){cluster->server[i], (n - 1) * count, journal, NULL};
        ctki_test_thread_start (&threads[pairs + next], ctki_traffic_drain, &drains[next]);
        next++;
    }
    for (size_t i = 0; i < pairs + n; i++)
        ctki_test_thread_join (&threads[i]);
    ck_assert_msg (ctki_journal_agrees (journal, &trouble), "%s", trouble.text);
    free (threads);
    free (streams);
    ctki_journal_destroy (&journal);
}
