/*
 * kvstore_client.c - a client of the key-value store. Owns nothing.
 */
#include "examples/kvstore_client.h"

#include <errno.h>
#include <time.h>

#include "examples/kvstore_actor.h"

/* What became of one try. */
typedef enum {
    ANSWERED,
    FAILED, /* for good: errno */
    AGAIN,  /* another one is asked next */
    LATER   /* none of them could be asked */
} verdict_t;

static int64_t now_ms (void *arg)
{
    struct timespec now;
    (void) arg;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Nothing tells when one of the servers can be asked again. */
static void pause_ms (void *arg, int ms)
{
    struct timespec time = {.tv_nsec = ms * 1000000L};
    (void) arg;
    nanosleep (&time, NULL);
}

void kv_client_init (kv_client_t *client, uint64_t id, const ctalk_pid_t *servers, size_t count)
{
    *client = (kv_client_t){.id = id,
                            .servers = servers,
                            .count = count,
                            .try_ms = KV_TRY_MS,
                            .clock = {.now_ms = now_ms, .pause_ms = pause_ms}};
}

uint64_t kv_client_id (ctalk_server_t *server, unsigned which)
{
    return ctalk_server_incarnation (server, ctalk_server_pid (server)) + which;
}

static void ask_next (kv_client_t *client)
{
    client->next = (client->next + 1) % client->count;
}

static void ask_leader (kv_client_t *client, ctalk_pid_t leader)
{
    ask_next (client); /* if it is not known, or nobody of ours */
    for (size_t i = 0; i < client->count; i++)
        if (client->servers[i] == leader)
            client->next = i;
}

/* What can be had from another server, or later from this one. */
static verdict_t judge_failure (kv_client_t *client, int code)
{
    if (code != EAGAIN && code != ETIMEDOUT && code != ESRCH && code != EHOSTDOWN)
        return FAILED;
    ask_next (client);
    if (code == ETIMEDOUT || ++client->failed < client->count)
        return AGAIN;
    client->failed = 0;
    return LATER;
}

static verdict_t judge_answer (kv_client_t *client, const ctalk_envelope_t *reply, kv_answer_t *answer)
{
    client->failed = 0;
    if (!kv_read_answer (reply->data, reply->size, answer)) {
        errno = EPROTO;
        return FAILED;
    }
    if (answer->status != KV_NOT_LEADER)
        return ANSWERED;
    ask_leader (client, answer->leader);
    return AGAIN;
}

/* Asks one server. */
static verdict_t try_once (kv_client_t *client, ctalk_server_t *server, const kv_writer_t *bytes, kv_answer_t *answer,
                           ctalk_envelope_t *reply, int64_t left_ms)
{
    ctalk_envelope_t envelope = {.pid = client->servers[client->next],
                                 .to = ctalk_actor_named (KV_ACTOR),
                                 .msg_id = KV_REQUEST,
                                 .data = bytes->data,
                                 .size = bytes->size};
    int timeout_ms = left_ms < client->try_ms ? (int) left_ms : client->try_ms;
    if (ctalk_call (server, &envelope, reply, timeout_ms) == -1)
        return judge_failure (client, errno);
    verdict_t verdict = judge_answer (client, reply, answer);
    if (verdict != ANSWERED)
        ctalk_envelope_close (reply);
    return verdict;
}

int kv_client_do (kv_client_t *client, ctalk_server_t *server, kv_request_t *request, kv_answer_t *answer,
                  ctalk_envelope_t *reply, int timeout_ms)
{
    const kv_clock_t *clock = &client->clock;
    kv_writer_t bytes = {0};
    int64_t left_ms = timeout_ms, end_ms = clock->now_ms (clock->arg) + timeout_ms;
    verdict_t verdict = AGAIN;
    int code = ETIMEDOUT;

    request->client = client->id;
    request->number = ++client->number;
    kv_write_request (&bytes, request);
    *reply = (ctalk_envelope_t){0};
    while ((verdict == AGAIN || verdict == LATER) && left_ms > 0) {
        verdict = try_once (client, server, &bytes, answer, reply, left_ms);
        if (verdict == FAILED)
            code = errno;
        if (verdict == LATER)
            clock->pause_ms (clock->arg, KV_PAUSE_MS);
        left_ms = end_ms - clock->now_ms (clock->arg);
    }
    kv_writer_fini (&bytes);
    errno = code;
    return verdict == ANSWERED ? 0 : -1;
}
