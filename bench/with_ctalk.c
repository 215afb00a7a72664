/*
 * with_ctalk.c - ClusterTalk as a contestant; see contestants.h.
 */
#include "bench/contestants.h"

#include <errno.h>
#include <stdlib.h>

enum {
    BATCH = 64,               /* envelopes of a send_many or recv_many, at most ... */
    BATCH_BYTES = 128 * 1024, /* ... or bytes */
    MANY_MOST = 64 * 1024,    /* larger payloads leave nothing to batch */
    OWNED_LEAST = 256 * 1024  /* smaller ones are not what it is for */
};

/* -------------------------------------------------------- open, join, close */

int bench_ctalk_open (bench_end_t *end, char *endpoint, size_t capacity)
{
    ctalk_error_t error = {.text = "out of memory"};
    ctalk_config_t *config = ctalk_config_new ();
    const bench_setting_t *setting = &end->contestant->setting;
    if (config && ctalk_config_add_server (config, BENCH_PUSHER_PID, "127.0.0.1:0", &error) == 0
        && ctalk_config_add_server (config, BENCH_PULLER_PID, "127.0.0.1:0", &error) == 0
        && (!setting->name || ctalk_config_set (config, setting->name, setting->value, &error) == 0))
        end->server = ctalk_server_new (end->pusher ? BENCH_PUSHER_PID : BENCH_PULLER_PID, config, &error);
    ctalk_config_destroy (&config);
    if (!end->server) {
        snprintf (end->error, sizeof end->error, "ctalk_server_new: %.160s", error.text);
        return -1;
    }
    snprintf (endpoint, capacity, "%s", ctalk_server_endpoint (end->server));
    return 0;
}

int bench_ctalk_join (bench_end_t *end, const char *endpoint)
{
    if (ctalk_server_add_peer (end->server, end->pusher ? BENCH_PULLER_PID : BENCH_PUSHER_PID, endpoint) != 0)
        return bench_pair_fail (end, "ctalk_server_add_peer");
    if (ctalk_server_wait_up (end->server, SIZE_MAX, BENCH_UP_MS) != 0)
        return bench_pair_fail (end, "ctalk_server_wait_up");
    return 0;
}

int bench_ctalk_close (bench_end_t *end)
{
    int abandoned = ctalk_server_close (&end->server, BENCH_CLOSE_MS);
    if (abandoned == 0)
        return 0;
    snprintf (end->error, sizeof end->error, "ctalk_server_close: %d envelopes abandoned", abandoned);
    return -1;
}

/* ------------------------------------------------------------------ one way */

static int push (bench_end_t *end, uint64_t first, uint64_t count)
{
    ctalk_envelope_t envelope = {.pid = BENCH_PULLER_PID, .data = end->payload, .size = end->size};
    for (uint64_t number = first; number < first + count; number++) {
        bench_fill (end->payload, end->size, number);
        envelope.msg_id = (int64_t) number;
        if (ctalk_send (end->server, &envelope, -1) != 0)
            return bench_pair_fail (end, "ctalk_send");
    }
    return 0;
}

/* Checks an envelope and closes it. */
static int take (bench_end_t *end, ctalk_envelope_t *envelope, ctalk_pid_t from, uint64_t msg_id, uint64_t number)
{
    int result = bench_pair_check (end, envelope->data, envelope->size, number);
    if (result == 0 && (envelope->pid != from || envelope->msg_id != (int64_t) msg_id)) {
        snprintf (end->error, sizeof end->error, "an envelope has another pid or message id than it was sent with");
        result = -1;
    }
    ctalk_envelope_close (envelope);
    return result;
}

static int pull (bench_end_t *end, uint64_t first, uint64_t count)
{
    for (uint64_t number = first; number < first + count; number++) {
        ctalk_envelope_t envelope;
        if (ctalk_recv (end->server, &envelope, -1) != 0)
            return bench_pair_fail (end, "ctalk_recv");
        if (take (end, &envelope, BENCH_PUSHER_PID, number, number) != 0)
            return -1;
        bench_pair_progress (end, number - first);
    }
    return 0;
}

/* How many envelopes a batch has. */
static size_t batch_of (const bench_end_t *end)
{
    size_t batch = BATCH_BYTES / end->size;
    return batch > BATCH ? BATCH : batch < 1 ? 1 : batch;
}

static int push_batches (bench_end_t *end, uint8_t *payloads, uint64_t first, uint64_t count)
{
    ctalk_envelope_t envelope[BATCH] = {{0}};
    size_t most = batch_of (end);
    for (uint64_t sent = 0; sent < count;) {
        size_t batch = count - sent < most ? (size_t) (count - sent) : most;
        for (size_t i = 0; i < batch; i++) {
            uint8_t *payload = payloads + i * end->size;
            bench_fill (payload, end->size, first + sent + i);
            envelope[i] = (ctalk_envelope_t){
                .pid = BENCH_PULLER_PID, .msg_id = (int64_t) (first + sent + i), .data = payload, .size = end->size};
        }
        if (ctalk_send_many (end->server, envelope, batch, -1) != (int) batch)
            return bench_pair_fail (end, "ctalk_send_many");
        sent += batch;
    }
    return 0;
}

static int push_many (bench_end_t *end, uint64_t first, uint64_t count)
{
    uint8_t *payloads = malloc (batch_of (end) * end->size);
    int result = payloads ? push_batches (end, payloads, first, count) : bench_pair_fail (end, "malloc");
    free (payloads);
    return result;
}

static int pull_many (bench_end_t *end, uint64_t first, uint64_t count)
{
    ctalk_envelope_t envelope[BATCH];
    int result = 0;
    for (uint64_t number = first; number < first + count && result == 0;) {
        uint64_t left = first + count - number;
        int got = ctalk_recv_many (end->server, envelope, left < BATCH ? (size_t) left : BATCH, -1);
        if (got < 0)
            return bench_pair_fail (end, "ctalk_recv_many");
        for (int i = 0; i < got; i++, number++) {
            if (result == 0)
                result = take (end, &envelope[i], BENCH_PUSHER_PID, number, number);
            else
                ctalk_envelope_close (&envelope[i]);
            bench_pair_progress (end, number - first);
        }
    }
    return result;
}

static void free_block (void *data, void *hint)
{
    (void) hint;
    free (data);
}

static int push_owned (bench_end_t *end, uint64_t first, uint64_t count)
{
    for (uint64_t number = first; number < first + count; number++) {
        uint8_t *block = malloc (end->size);
        ctalk_envelope_t envelope = {
            .pid = BENCH_PULLER_PID, .msg_id = (int64_t) number, .data = block, .size = end->size};
        if (!block)
            return bench_pair_fail (end, "malloc");
        bench_fill (block, end->size, number);
        if (ctalk_send_owned (end->server, &envelope, free_block, NULL, -1) != 0) {
            free (block);
            return bench_pair_fail (end, "ctalk_send_owned");
        }
    }
    return 0;
}

const bench_contestant_t bench_ctalk_oneway = {.name = "ctalk",
                                               .open = bench_ctalk_open,
                                               .join = bench_ctalk_join,
                                               .push = push,
                                               .pull = pull,
                                               .close = bench_ctalk_close};
const bench_contestant_t bench_ctalk_many = {.name = "ctalk-many",
                                             .most = MANY_MOST,
                                             .open = bench_ctalk_open,
                                             .join = bench_ctalk_join,
                                             .push = push_many,
                                             .pull = pull_many,
                                             .close = bench_ctalk_close};
const bench_contestant_t bench_ctalk_owned = {.name = "ctalk-owned",
                                              .least = OWNED_LEAST,
                                              .open = bench_ctalk_open,
                                              .join = bench_ctalk_join,
                                              .push = push_owned,
                                              .pull = pull,
                                              .close = bench_ctalk_close};

/* -------------------------------------------------------------- round trips */

static int say (bench_end_t *end, ctalk_pid_t to, uint64_t msg_id, uint64_t number)
{
    ctalk_envelope_t envelope = {.pid = to, .msg_id = (int64_t) msg_id, .data = end->payload, .size = end->size};
    bench_fill (end->payload, end->size, number);
    return ctalk_send (end->server, &envelope, -1) == 0 ? 0 : bench_pair_fail (end, "ctalk_send");
}

static int hear (bench_end_t *end, ctalk_pid_t from, uint64_t msg_id, uint64_t number)
{
    ctalk_envelope_t envelope;
    if (ctalk_recv (end->server, &envelope, -1) != 0)
        return bench_pair_fail (end, "ctalk_recv");
    return take (end, &envelope, from, msg_id, number);
}

static int ask (bench_end_t *end, uint64_t first, uint64_t count)
{
    for (uint64_t number = first; number < first + count; number++) {
        uint64_t began_ns = bench_now_ns ();
        if (say (end, BENCH_PULLER_PID, number, number) != 0
            || hear (end, BENCH_PULLER_PID, number, BENCH_REPLY (number)) != 0)
            return -1;
        bench_take_sample (end, number - first, began_ns);
    }
    return 0;
}

static int answer (bench_end_t *end, uint64_t first, uint64_t count)
{
    for (uint64_t number = first; number < first + count; number++) {
        if (hear (end, BENCH_PUSHER_PID, number, number) != 0
            || say (end, BENCH_PUSHER_PID, number, BENCH_REPLY (number)) != 0)
            return -1;
        bench_pair_progress (end, number - first);
    }
    return 0;
}

const bench_contestant_t bench_ctalk_trip = {.name = "ctalk",
                                             .open = bench_ctalk_open,
                                             .join = bench_ctalk_join,
                                             .push = ask,
                                             .pull = answer,
                                             .close = bench_ctalk_close};
const bench_contestant_t bench_ctalk_trip_spin = {.name = "ctalk-spin",
                                                  .setting = {"SpinMicros", "50"},
                                                  .open = bench_ctalk_open,
                                                  .join = bench_ctalk_join,
                                                  .push = ask,
                                                  .pull = answer,
                                                  .close = bench_ctalk_close};
const bench_contestant_t bench_ctalk_trip_alone = {.name = "ctalk-nohelp",
                                                   .setting = {"Help", "false"},
                                                   .open = bench_ctalk_open,
                                                   .join = bench_ctalk_join,
                                                   .push = ask,
                                                   .pull = answer,
                                                   .close = bench_ctalk_close};
