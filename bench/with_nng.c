/*
 * with_nng.c - nng as a contestant, where configure found it; see contestants.h.
 */
#include "bench/contestants.h"

#define NAME_ONEWAY "nng"
#define NAME_TRIP "nng"

#ifdef BENCH_HAVE_NNG

#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdlib.h>

static int fail (bench_end_t *end, const char *what, int code)
{
    snprintf (end->error, sizeof end->error, "%s: %s", what, nng_strerror (code));
    return -1;
}

/* ---------------------------------------------------- open, join, close */

static int listen_at (bench_end_t *end, nng_socket socket, char *endpoint, size_t capacity)
{
    nng_listener listener;
    int port = 0, code = nng_listen (socket, "tcp://127.0.0.1:0", &listener, 0);
    if (code == 0)
        code = nng_listener_get_int (listener, NNG_OPT_TCP_BOUND_PORT, &port);
    if (code != 0)
        return fail (end, "nng_listen", code);
    snprintf (endpoint, capacity, "tcp://127.0.0.1:%d", port);
    return 0;
}

static int open_types (bench_end_t *end, int (*pusher) (nng_socket *), int (*puller) (nng_socket *), char *endpoint,
                       size_t capacity)
{
    nng_socket *socket = calloc (1, sizeof *socket);
    endpoint[0] = '\0';
    end->own = socket;
    if (!socket)
        return bench_pair_fail (end, "calloc");
    int code = end->pusher ? pusher (socket) : puller (socket);
    if (code == 0) /* no limit: its own is 1 MiB */
        code = nng_socket_set_size (*socket, NNG_OPT_RECVMAXSZ, 0);
    if (code != 0)
        return fail (end, "nng_open", code);
    return end->pusher ? 0 : listen_at (end, *socket, endpoint, capacity);
}

static int open_pipeline (bench_end_t *end, char *endpoint, size_t capacity)
{
    return open_types (end, nng_push0_open, nng_pull0_open, endpoint, capacity);
}

static int open_requests (bench_end_t *end, char *endpoint, size_t capacity)
{
    return open_types (end, nng_req0_open, nng_rep0_open, endpoint, capacity);
}

static int join (bench_end_t *end, const char *endpoint)
{
    const nng_socket *socket = end->own;
    int code = end->pusher ? nng_dial (*socket, endpoint, NULL, 0) : 0;
    return code == 0 ? 0 : fail (end, "nng_dial", code);
}

static int close_end (bench_end_t *end)
{
    nng_socket *socket = end->own;
    int code = nng_close (*socket);
    free (socket);
    return code == 0 ? 0 : fail (end, "nng_close", code);
}

/* ---------------------------------------------------------------- messages */

static int say (bench_end_t *end, uint64_t number)
{
    const nng_socket *socket = end->own;
    bench_fill (end->payload, end->size, number);
    int code = nng_send (*socket, end->payload, end->size, 0);
    return code == 0 ? 0 : fail (end, "nng_send", code);
}

static int hear (bench_end_t *end, uint64_t number)
{
    const nng_socket *socket = end->own;
    nng_msg *message;
    int code = nng_recvmsg (*socket, &message, 0);
    if (code != 0)
        return fail (end, "nng_recvmsg", code);
    int result = bench_pair_check (end, nng_msg_body (message), nng_msg_len (message), number);
    nng_msg_free (message);
    return result;
}

static int push (bench_end_t *end, uint64_t first, uint64_t count)
{
    for (uint64_t number = first; number < first + count; number++)
        if (say (end, number) != 0)
            return -1;
    return 0;
}

static int pull (bench_end_t *end, uint64_t first, uint64_t count)
{
    for (uint64_t number = first; number < first + count; number++) {
        if (hear (end, number) != 0)
            return -1;
        bench_pair_progress (end, number - first);
    }
    return 0;
}

static int ask (bench_end_t *end, uint64_t first, uint64_t count)
{
    for (uint64_t number = first; number < first + count; number++) {
        uint64_t began_ns = bench_now_ns ();
        if (say (end, number) != 0 || hear (end, BENCH_REPLY (number)) != 0)
            return -1;
        bench_take_sample (end, number - first, began_ns);
    }
    return 0;
}

static int answer (bench_end_t *end, uint64_t first, uint64_t count)
{
    for (uint64_t number = first; number < first + count; number++) {
        if (hear (end, number) != 0 || say (end, BENCH_REPLY (number)) != 0)
            return -1;
        bench_pair_progress (end, number - first);
    }
    return 0;
}

const bench_contestant_t bench_nng_oneway = {.name = NAME_ONEWAY,
                                             .may_fail = true,
                                             .slow = true,
                                             .open = open_pipeline,
                                             .join = join,
                                             .push = push,
                                             .pull = pull,
                                             .close = close_end};
const bench_contestant_t bench_nng_trip = {.name = NAME_TRIP,
                                           .may_fail = true,
                                           .open = open_requests,
                                           .join = join,
                                           .push = ask,
                                           .pull = answer,
                                           .close = close_end};

#else

#define ABSENT "nng is not installed (libnng-dev)"

const bench_contestant_t bench_nng_oneway = {.name = NAME_ONEWAY, .absent = ABSENT};
const bench_contestant_t bench_nng_trip = {.name = NAME_TRIP, .absent = ABSENT};

#endif
