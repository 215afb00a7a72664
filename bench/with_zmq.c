/*
 * with_zmq.c - plain libzmq as a contestant; see contestants.h.
 */
#include "bench/contestants.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <zmq.h>

enum {
    SEND_BUFFER = 512 * 1024, /* what our senders set ... */
    IO_THREADS = 2,           /* ... and our contexts */
    OWNED_LEAST = 256 * 1024  /* smaller ones are not what it is for */
};

enum variant { PLAIN, UNLIMITED, BUFFERED };

/* -------------------------------------------------------- open, join, close */

static int fail_socket (bench_end_t *end, void *socket, const char *what)
{
    bench_pair_fail (end, what);
    if (socket)
        zmq_close (socket);
    return -1;
}

void *bench_zmq_socket (bench_end_t *end, int type, const int *high_water)
{
    if (!end->context)
        end->context = zmq_ctx_new ();
    void *socket = end->context ? zmq_socket (end->context, type) : NULL;
    if (!socket) {
        fail_socket (end, NULL, "zmq_socket");
        return NULL;
    }
    if (high_water
        && (zmq_setsockopt (socket, ZMQ_SNDHWM, high_water, sizeof *high_water) != 0
            || zmq_setsockopt (socket, ZMQ_RCVHWM, high_water, sizeof *high_water) != 0)) {
        fail_socket (end, socket, "zmq_setsockopt");
        return NULL;
    }
    return socket;
}

int bench_zmq_bind (bench_end_t *end, void *socket, char *endpoint, size_t capacity)
{
    if (zmq_bind (socket, "tcp://127.0.0.1:*") != 0)
        return bench_pair_fail (end, "zmq_bind");
    if (zmq_getsockopt (socket, ZMQ_LAST_ENDPOINT, endpoint, &capacity) != 0)
        return bench_pair_fail (end, "zmq_getsockopt");
    return 0;
}

int bench_zmq_close (bench_end_t *end)
{
    for (size_t i = 0; i < BENCH_THREADS_MAX; i++)
        if (end->socket[i] && zmq_close (end->socket[i]) != 0)
            return bench_pair_fail (end, "zmq_close");
    if (zmq_ctx_term (end->context) != 0)
        return bench_pair_fail (end, "zmq_ctx_term");
    return 0;
}

static int open_types (bench_end_t *end, int pusher_type, int puller_type, char *endpoint, size_t capacity)
{
    const int no_limit = 0, send_buffer = SEND_BUFFER;
    endpoint[0] = '\0';
    if (end->contestant->variant == BUFFERED) {
        end->context = zmq_ctx_new ();
        if (!end->context || zmq_ctx_set (end->context, ZMQ_IO_THREADS, IO_THREADS) != 0)
            return bench_pair_fail (end, "zmq_ctx_set");
    }
    end->socket[0] = bench_zmq_socket (end, end->pusher ? pusher_type : puller_type,
                                       end->contestant->variant == UNLIMITED ? &no_limit : NULL);
    if (!end->socket[0])
        return -1;
    if (end->contestant->variant == BUFFERED
        && zmq_setsockopt (end->socket[0], ZMQ_SNDBUF, &send_buffer, sizeof send_buffer) != 0)
        return bench_pair_fail (end, "ZMQ_SNDBUF");
    return end->pusher ? 0 : bench_zmq_bind (end, end->socket[0], endpoint, capacity);
}

static int open_push (bench_end_t *end, char *endpoint, size_t capacity)
{
    return open_types (end, ZMQ_PUSH, ZMQ_PULL, endpoint, capacity);
}

static int open_dealer (bench_end_t *end, char *endpoint, size_t capacity)
{
    return open_types (end, ZMQ_DEALER, ZMQ_ROUTER, endpoint, capacity);
}

static int join (bench_end_t *end, const char *endpoint)
{
    if (end->pusher && zmq_connect (end->socket[0], endpoint) != 0)
        return bench_pair_fail (end, "zmq_connect");
    return 0;
}

/* ------------------------------------------------------------------ one way */

static int push (bench_end_t *end, uint64_t first, uint64_t count)
{
    for (uint64_t number = first; number < first + count; number++) {
        bench_fill (end->payload, end->size, number);
        if (zmq_send (end->socket[0], end->payload, end->size, 0) < 0)
            return bench_pair_fail (end, "zmq_send");
    }
    return 0;
}

static void free_block (void *data, void *hint)
{
    (void) hint;
    free (data);
}

static int push_owned (bench_end_t *end, uint64_t first, uint64_t count)
{
    for (uint64_t number = first; number < first + count; number++) {
        zmq_msg_t message;
        uint8_t *block = malloc (end->size);
        if (!block || zmq_msg_init_data (&message, block, end->size, free_block, NULL) != 0) {
            free (block);
            return bench_pair_fail (end, "zmq_msg_init_data");
        }
        bench_fill (block, end->size, number);
        if (zmq_msg_send (&message, end->socket[0], 0) < 0) {
            bench_pair_fail (end, "zmq_msg_send");
            zmq_msg_close (&message);
            return -1;
        }
    }
    return 0;
}

/* From a ROUTER the sender's identity comes first. */
static int pull_one (bench_end_t *end, zmq_msg_t *message, bool with_identity, uint64_t number)
{
    if (with_identity && (zmq_msg_recv (message, end->socket[0], 0) < 0 || !zmq_msg_more (message)))
        return bench_pair_fail (end, "no identity");
    if (zmq_msg_recv (message, end->socket[0], 0) < 0)
        return bench_pair_fail (end, "zmq_msg_recv");
    return bench_pair_check (end, zmq_msg_data (message), zmq_msg_size (message), number);
}

static int pull_all (bench_end_t *end, bool with_identity, uint64_t first, uint64_t count)
{
    int result = 0;
    zmq_msg_t message;
    zmq_msg_init (&message);
    for (uint64_t number = first; result == 0 && number < first + count; number++) {
        result = pull_one (end, &message, with_identity, number);
        bench_pair_progress (end, number - first);
    }
    zmq_msg_close (&message);
    return result;
}

static int pull (bench_end_t *end, uint64_t first, uint64_t count)
{
    return pull_all (end, false, first, count);
}

static int pull_routed (bench_end_t *end, uint64_t first, uint64_t count)
{
    return pull_all (end, true, first, count);
}

const bench_contestant_t bench_zmq_push = {.name = "zmq",
                                           .variant = PLAIN,
                                           .open = open_push,
                                           .join = join,
                                           .push = push,
                                           .pull = pull,
                                           .close = bench_zmq_close};
const bench_contestant_t bench_zmq_unlimited = {.name = "zmq-hwm0",
                                                .variant = UNLIMITED,
                                                .open = open_push,
                                                .join = join,
                                                .push = push,
                                                .pull = pull,
                                                .close = bench_zmq_close};
const bench_contestant_t bench_zmq_buffered = {.name = "zmq-sndbuf",
                                               .variant = BUFFERED,
                                               .open = open_push,
                                               .join = join,
                                               .push = push,
                                               .pull = pull,
                                               .close = bench_zmq_close};
const bench_contestant_t bench_zmq_owned = {.name = "zmq-owned",
                                            .least = OWNED_LEAST,
                                            .open = open_push,
                                            .join = join,
                                            .push = push_owned,
                                            .pull = pull,
                                            .close = bench_zmq_close};
const bench_contestant_t bench_zmq_dealer = {.name = "zmq-dealer",
                                             .open = open_dealer,
                                             .join = join,
                                             .push = push,
                                             .pull = pull_routed,
                                             .close = bench_zmq_close};

/* -------------------------------------------------------------- round trips */

enum trip { SLEEPING = PLAIN, SPINNING = BUFFERED + 1 };

bool bench_spin (uint64_t began_ns)
{
    sched_yield ();
    return bench_now_ns () - began_ns < BENCH_SPIN_US * 1000;
}

/* Receives a part, spinning first if that is the variant. */
static int receive (bench_end_t *end, zmq_msg_t *message)
{
    if (end->contestant->variant == SPINNING) {
        uint64_t began_ns = bench_now_ns ();
        do {
            if (zmq_msg_recv (message, end->socket[0], ZMQ_DONTWAIT) >= 0)
                return 0;
            if (errno != EAGAIN)
                return bench_pair_fail (end, "zmq_msg_recv");
        } while (bench_spin (began_ns));
    }
    return zmq_msg_recv (message, end->socket[0], 0) >= 0 ? 0 : bench_pair_fail (end, "zmq_msg_recv");
}

static int say (bench_end_t *end, uint64_t number)
{
    bench_fill (end->payload, end->size, number);
    return zmq_send (end->socket[0], end->payload, end->size, 0) >= 0 ? 0 : bench_pair_fail (end, "zmq_send");
}

static int hear (bench_end_t *end, zmq_msg_t *message, uint64_t number)
{
    if (receive (end, message) != 0)
        return -1;
    return bench_pair_check (end, zmq_msg_data (message), zmq_msg_size (message), number);
}

static int ask (bench_end_t *end, uint64_t first, uint64_t count)
{
    int result = 0;
    zmq_msg_t message;
    zmq_msg_init (&message);
    for (uint64_t number = first; result == 0 && number < first + count; number++) {
        uint64_t began_ns = bench_now_ns ();
        result = say (end, number) != 0 || hear (end, &message, BENCH_REPLY (number)) != 0 ? -1 : 0;
        bench_take_sample (end, number - first, began_ns);
    }
    zmq_msg_close (&message);
    return result;
}

/* A question comes with the identity of who asks, to which the answer goes. */
static int answer_one (bench_end_t *end, zmq_msg_t *identity, zmq_msg_t *message, uint64_t number)
{
    if (receive (end, identity) != 0 || hear (end, message, number) != 0)
        return -1;
    if (zmq_msg_send (identity, end->socket[0], ZMQ_SNDMORE) < 0)
        return bench_pair_fail (end, "zmq_msg_send");
    return say (end, BENCH_REPLY (number));
}

static int answer (bench_end_t *end, uint64_t first, uint64_t count)
{
    int result = 0;
    zmq_msg_t identity, message;
    zmq_msg_init (&identity);
    zmq_msg_init (&message);
    for (uint64_t number = first; result == 0 && number < first + count; number++) {
        result = answer_one (end, &identity, &message, number);
        bench_pair_progress (end, number - first);
    }
    zmq_msg_close (&identity);
    zmq_msg_close (&message);
    return result;
}

const bench_contestant_t bench_zmq_trip = {.name = "zmq",
                                           .variant = SLEEPING,
                                           .open = open_dealer,
                                           .join = join,
                                           .push = ask,
                                           .pull = answer,
                                           .close = bench_zmq_close};
const bench_contestant_t bench_zmq_trip_spin = {.name = "zmq-spin",
                                                .variant = SPINNING,
                                                .open = open_dealer,
                                                .join = join,
                                                .push = ask,
                                                .pull = answer,
                                                .close = bench_zmq_close};
