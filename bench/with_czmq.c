/*
 * with_czmq.c - CZMQ as a contestant, where configure found it; see
 * contestants.h.
 */
#ifdef BENCH_HAVE_CZMQ
#include <czmq.h>
#endif

#include "bench/contestants.h"

#define NAME_ONEWAY "czmq"
#define NAME_ACTOR "czmq-actor"
#define NAME_TRIP "czmq"

#ifdef BENCH_HAVE_CZMQ

enum variant { PLAIN, ACTED };

/* ---------------------------------------------------- open, join, close */

static int open_types (bench_end_t *end, int pusher_type, int puller_type, char *endpoint, size_t capacity)
{
    endpoint[0] = '\0';
    zsys_handler_set (NULL);
    zsock_t *socket = zsock_new (end->pusher ? pusher_type : puller_type);
    end->own = socket;
    if (!socket)
        return bench_pair_fail (end, "zsock_new");
    if (end->pusher)
        return 0;
    if (zsock_bind (socket, "tcp://127.0.0.1:*") < 0)
        return bench_pair_fail (end, "zsock_bind");
    snprintf (endpoint, capacity, "%s", zsock_endpoint (socket));
    return 0;
}

static int open_pipeline (bench_end_t *end, char *endpoint, size_t capacity)
{
    return open_types (end, ZMQ_PUSH, ZMQ_PULL, endpoint, capacity);
}

static int open_requests (bench_end_t *end, char *endpoint, size_t capacity)
{
    return open_types (end, ZMQ_REQ, ZMQ_REP, endpoint, capacity);
}

static int join (bench_end_t *end, const char *endpoint)
{
    if (end->pusher && zsock_connect (end->own, "%s", endpoint) != 0)
        return bench_pair_fail (end, "zsock_connect");
    return 0;
}

static int close_end (bench_end_t *end)
{
    zsock_t *socket = end->own;
    zsock_destroy (&socket);
    zsys_shutdown ();
    return 0;
}

/* ------------------------------------------------------------- with an actor */

enum { TERM_BYTES = 5 }; /* of "$TERM", by which a zactor is told to end; no payload is so short */

/* Moves a frame on. false: it was the command to end, or there is none. */
static bool pass_on (void *from, void *to)
{
    zframe_t *frame = zframe_recv (from);
    bool passed = frame && zframe_size (frame) != TERM_BYTES && zframe_send (&frame, to, 0) == 0;
    zframe_destroy (&frame);
    return passed;
}

/* The pusher's actor: what comes from the application goes to the network. */
static void push_actor (zsock_t *pipe, void *arg)
{
    zsock_t *socket = arg;
    zsock_signal (pipe, 0);
    while (pass_on (pipe, socket))
        ;
}

/* The puller's: what comes from the network goes to the application, until that says the end. */
static void pull_actor (zsock_t *pipe, void *arg)
{
    zsock_t *socket = arg;
    zpoller_t *poller = zpoller_new (pipe, socket, NULL);
    zsock_signal (pipe, 0);
    while (poller && zpoller_wait (poller, -1) == socket && pass_on (socket, pipe))
        ;
    zpoller_destroy (&poller);
}

/* Both sockets of such an end: the application's is the actor's. */
typedef struct {
    zsock_t *socket;
    zactor_t *actor;
} acted_t;

static int open_acted (bench_end_t *end, char *endpoint, size_t capacity)
{
    acted_t *acted = calloc (1, sizeof *acted);
    if (!acted || open_pipeline (end, endpoint, capacity) != 0) {
        free (acted);
        return bench_pair_fail (end, "zsock_new");
    }
    acted->socket = end->own;
    end->own = acted;
    return 0;
}

/* The socket is connected before the actor has it: a socket is no two threads' at a time. */
static int join_acted (bench_end_t *end, const char *endpoint)
{
    acted_t *acted = end->own;
    if (end->pusher && zsock_connect (acted->socket, "%s", endpoint) != 0)
        return bench_pair_fail (end, "zsock_connect");
    acted->actor = zactor_new (end->pusher ? push_actor : pull_actor, acted->socket);
    return acted->actor ? 0 : bench_pair_fail (end, "zactor_new");
}

static int close_acted (bench_end_t *end)
{
    acted_t *acted = end->own;
    zactor_destroy (&acted->actor);
    zsock_destroy (&acted->socket);
    free (acted);
    zsys_shutdown ();
    return 0;
}

/* ---------------------------------------------------------------- messages */

/* What the application sends to and receives from. */
static void *way_of (const bench_end_t *end)
{
    return end->contestant->variant == ACTED ? (void *) ((const acted_t *) end->own)->actor : end->own;
}

static int say (bench_end_t *end, uint64_t number)
{
    bench_fill (end->payload, end->size, number);
    zframe_t *frame = zframe_new (end->payload, end->size);
    if (!frame || zframe_send (&frame, way_of (end), 0) != 0) {
        zframe_destroy (&frame);
        return bench_pair_fail (end, "zframe_send");
    }
    return 0;
}

static int hear (bench_end_t *end, uint64_t number)
{
    zframe_t *frame = zframe_recv (way_of (end));
    if (!frame)
        return bench_pair_fail (end, "zframe_recv");
    int result = bench_pair_check (end, zframe_data (frame), zframe_size (frame), number);
    zframe_destroy (&frame);
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

const bench_contestant_t bench_czmq_oneway = {.name = NAME_ONEWAY,
                                              .may_fail = true,
                                              .open = open_pipeline,
                                              .join = join,
                                              .push = push,
                                              .pull = pull,
                                              .close = close_end};
const bench_contestant_t bench_czmq_actor = {.name = NAME_ACTOR,
                                             .may_fail = true,
                                             .slow = true,
                                             .variant = ACTED,
                                             .open = open_acted,
                                             .join = join_acted,
                                             .push = push,
                                             .pull = pull,
                                             .close = close_acted};
const bench_contestant_t bench_czmq_trip = {.name = NAME_TRIP,
                                            .may_fail = true,
                                            .open = open_requests,
                                            .join = join,
                                            .push = ask,
                                            .pull = answer,
                                            .close = close_end};

#else

#define ABSENT "CZMQ is not installed (libczmq-dev)"

const bench_contestant_t bench_czmq_oneway = {.name = NAME_ONEWAY, .absent = ABSENT};
const bench_contestant_t bench_czmq_actor = {.name = NAME_ACTOR, .absent = ABSENT};
const bench_contestant_t bench_czmq_trip = {.name = NAME_TRIP, .absent = ABSENT};

#endif
