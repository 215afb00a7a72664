/*
 * with_tcp.c - plain TCP sockets as a contestant; see contestants.h.
 *
 * A message is its size in 4 bytes and the payload. One way, messages are packed
 * into a buffer of 64 KiB, which is written when the next does not fit: nobody
 * who hands over single messages with a copy can be faster by much, so this is
 * the limit. In round trips a message is one write.
 */
#include "bench/contestants.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { BUFFER_BYTES = 64 * 1024, HEAD_BYTES = 4 };

enum variant { SLEEPING, SPINNING };

/* What an end keeps: bytes to write, or those read and not yet taken. */
typedef struct {
    size_t used, taken, capacity;
    uint8_t bytes[];
} buffer_t;

/* -------------------------------------------------------- open, join, close */

static int open_puller (bench_end_t *end, char *endpoint, size_t capacity)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl (INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    const struct timeval patience = {.tv_sec = BENCH_UP_MS / 1000};
    end->listener = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (end->listener < 0 || bind (end->listener, (struct sockaddr *) &address, length) != 0
        || listen (end->listener, 1) != 0
        || setsockopt (end->listener, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0
        || getsockname (end->listener, (struct sockaddr *) &address, &length) != 0)
        return bench_pair_fail (end, "listen");
    snprintf (endpoint, capacity, "%d", ntohs (address.sin_port));
    return 0;
}

static int open_end (bench_end_t *end, char *endpoint, size_t capacity)
{
    size_t room = BUFFER_BYTES + (end->size > BUFFER_BYTES ? end->size : 0) + HEAD_BYTES;
    buffer_t *buffer = calloc (1, sizeof *buffer + room);
    if (!buffer)
        return bench_pair_fail (end, "calloc");
    buffer->capacity = room;
    end->own = buffer;
    endpoint[0] = '\0';
    return end->pusher ? 0 : open_puller (end, endpoint, capacity);
}

static int join_puller (bench_end_t *end)
{
    const struct timeval for_ever = {0};
    end->stream = accept (end->listener, NULL, NULL);
    if (end->stream < 0 || setsockopt (end->stream, SOL_SOCKET, SO_RCVTIMEO, &for_ever, sizeof for_ever) != 0)
        return bench_pair_fail (end, "accept");
    return 0;
}

static int join_pusher (bench_end_t *end, const char *endpoint)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl (INADDR_LOOPBACK),
                                  .sin_port = htons ((uint16_t) strtoul (endpoint, NULL, 10))};
    end->stream = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (end->stream < 0 || connect (end->stream, (struct sockaddr *) &address, sizeof address) != 0)
        return bench_pair_fail (end, "connect");
    return 0;
}

static int join (bench_end_t *end, const char *endpoint)
{
    const int on = 1;
    if ((end->pusher ? join_pusher (end, endpoint) : join_puller (end)) != 0)
        return -1;
    if (setsockopt (end->stream, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
        return bench_pair_fail (end, "TCP_NODELAY");
    return 0;
}

static int close_end (bench_end_t *end)
{
    free (end->own);
    if (end->listener >= 0)
        close (end->listener);
    return close (end->stream) == 0 ? 0 : bench_pair_fail (end, "close");
}

/* -------------------------------------------------------------------- bytes */

static int write_all (bench_end_t *end, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        ssize_t written = send (end->stream, bytes, size, MSG_NOSIGNAL);
        if (written < 0 && errno != EINTR)
            return bench_pair_fail (end, "send");
        if (written > 0) {
            bytes += written;
            size -= (size_t) written;
        }
    }
    return 0;
}

/* recv () that spins first if that is the variant. */
static ssize_t receive (const bench_end_t *end, uint8_t *bytes, size_t size)
{
    if (end->contestant->variant == SPINNING) {
        uint64_t began_ns = bench_now_ns ();
        do {
            ssize_t got = recv (end->stream, bytes, size, MSG_DONTWAIT);
            if (got >= 0 || errno != EAGAIN)
                return got;
        } while (bench_spin (began_ns));
    }
    return recv (end->stream, bytes, size, 0);
}

/* Reads on until the buffer holds so many bytes that were not taken. */
static int fill_buffer (bench_end_t *end, buffer_t *buffer, size_t wanted)
{
    if (buffer->used - buffer->taken < wanted) {
        memmove (buffer->bytes, buffer->bytes + buffer->taken, buffer->used - buffer->taken);
        buffer->used -= buffer->taken;
        buffer->taken = 0;
    }
    while (buffer->used - buffer->taken < wanted) {
        ssize_t got = receive (end, buffer->bytes + buffer->used, buffer->capacity - buffer->used);
        if (got == 0)
            errno = ECONNRESET;
        if (got == 0 || (got < 0 && errno != EINTR))
            return bench_pair_fail (end, "recv");
        if (got > 0)
            buffer->used += (size_t) got;
    }
    return 0;
}

/* Takes the next message and checks it. */
static int take (bench_end_t *end, uint64_t number)
{
    buffer_t *buffer = end->own;
    uint32_t size;
    if (fill_buffer (end, buffer, HEAD_BYTES) != 0)
        return -1;
    memcpy (&size, buffer->bytes + buffer->taken, HEAD_BYTES);
    if (size != end->size) {
        snprintf (end->error, sizeof end->error, "a message of %u bytes came", size);
        return -1;
    }
    if (fill_buffer (end, buffer, HEAD_BYTES + end->size) != 0)
        return -1;
    const uint8_t *payload = buffer->bytes + buffer->taken + HEAD_BYTES;
    buffer->taken += HEAD_BYTES + end->size;
    return bench_pair_check (end, payload, end->size, number);
}

static int flush (bench_end_t *end)
{
    buffer_t *buffer = end->own;
    size_t used = buffer->used;
    buffer->used = 0;
    return write_all (end, buffer->bytes, used);
}

/* Adds a message to what is to be written; it fits. */
static void pack (bench_end_t *end, uint64_t number)
{
    buffer_t *buffer = end->own;
    uint32_t size = (uint32_t) end->size;
    bench_fill (end->payload, end->size, number);
    memcpy (buffer->bytes + buffer->used, &size, HEAD_BYTES);
    memcpy (buffer->bytes + buffer->used + HEAD_BYTES, end->payload, end->size);
    buffer->used += HEAD_BYTES + end->size;
}

/* ------------------------------------------------------------------ one way */

static int push (bench_end_t *end, uint64_t first, uint64_t count)
{
    const buffer_t *buffer = end->own;
    for (uint64_t number = first; number < first + count; number++) {
        if (buffer->used > 0 && buffer->used + HEAD_BYTES + end->size > BUFFER_BYTES && flush (end) != 0)
            return -1;
        pack (end, number);
    }
    return flush (end);
}

static int pull (bench_end_t *end, uint64_t first, uint64_t count)
{
    for (uint64_t number = first; number < first + count; number++) {
        if (take (end, number) != 0)
            return -1;
        bench_pair_progress (end, number - first);
    }
    return 0;
}

const bench_contestant_t bench_tcp_oneway = {.name = "tcp-64k",
                                             .variant = SLEEPING,
                                             .open = open_end,
                                             .join = join,
                                             .push = push,
                                             .pull = pull,
                                             .close = close_end};

/* -------------------------------------------------------------- round trips */

static int say (bench_end_t *end, buffer_t *buffer, uint64_t number)
{
    buffer->used = buffer->taken = 0;
    pack (end, number);
    return flush (end);
}

static int ask (bench_end_t *end, uint64_t first, uint64_t count)
{
    for (uint64_t number = first; number < first + count; number++) {
        uint64_t began_ns = bench_now_ns ();
        if (say (end, end->own, number) != 0 || take (end, BENCH_REPLY (number)) != 0)
            return -1;
        bench_take_sample (end, number - first, began_ns);
    }
    return 0;
}

static int answer (bench_end_t *end, uint64_t first, uint64_t count)
{
    for (uint64_t number = first; number < first + count; number++) {
        if (take (end, number) != 0 || say (end, end->own, BENCH_REPLY (number)) != 0)
            return -1;
        bench_pair_progress (end, number - first);
    }
    return 0;
}

const bench_contestant_t bench_tcp_trip = {.name = "tcp",
                                           .variant = SLEEPING,
                                           .open = open_end,
                                           .join = join,
                                           .push = ask,
                                           .pull = answer,
                                           .close = close_end};
const bench_contestant_t bench_tcp_trip_spin = {.name = "tcp-spin",
                                                .variant = SPINNING,
                                                .open = open_end,
                                                .join = join,
                                                .push = ask,
                                                .pull = answer,
                                                .close = close_end};
