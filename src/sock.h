/*
 * sock.h - sockets, as the actors see them: a router, dealers with their
 * monitor, inproc pairs. The seam below which libzmq stands; sock.c is the only
 * file that includes zmq.h.
 *
 * A socket is used only under its actor's lock (the full fence that libzmq asks
 * for between threads) and made, connected and closed only on the actor's own
 * thread. Every call is non-blocking. Readiness is edge-triggered (pitfall E9):
 * poll the descriptor, then look at ctki_sock_events () until nothing is left.
 *
 * What libzmq does on its own (reconnecting, dropping at a lost connection) is
 * nothing to rely on: see the session protocol.
 */
#ifndef CTKI_SOCK_H
#define CTKI_SOCK_H

#include <clustertalk.h>

#include "src/base.h"
#include "src/envelope.h"

/* ---- the context: one per process, made by the first reference */

int ctki_context_ref (int io_threads, ctalk_error_t *error);
void ctki_context_unref (void);

/* ---- sockets */

typedef struct ctki_sock ctki_sock_t;

typedef struct {
    int send_frames;    /* high-water marks */
    int receive_frames;
    int64_t frame_bytes; /* the largest part that is accepted */
    int send_buffer;     /* of the kernel, in bytes; 0: its default */
    int backlog;
    const char *domain;  /* never empty (pitfall G5) */
    ctalk_pid_t owner;   /* whose it is: for networks that are simulated */
} ctki_sock_options_t;

/* NULL: errno (EMFILE: too many sockets or descriptors). */
ctki_sock_t *ctki_sock_router (const ctki_sock_options_t *options);
ctki_sock_t *ctki_sock_dealer (const ctki_sock_options_t *options);

/* Two ends of an inproc pipe. 0, or -1. */
int ctki_sock_pair (ctki_sock_t *ends[2]);

void ctki_sock_close (ctki_sock_t **sock_p);

/* Tests: as ctki_mem_fail (), for the making of sockets: EMFILE. */
long ctki_sock_fail (long after, long times);

/* 0, or -1 with errno. `bound` gets the endpoint as it is, wildcards resolved.
 * Connecting to an inproc endpoint that nobody is bound to: ECONNREFUSED. */
int ctki_sock_bind (ctki_sock_t *sock, const char *endpoint, char *bound, size_t size);
int ctki_sock_connect (ctki_sock_t *sock, const char *endpoint);
/* Gives the port back: on return it can be bound again, unless wait_ms was too short. */
void ctki_sock_unbind (ctki_sock_t *sock, const char *bound, int wait_ms);
int ctki_sock_disconnect (ctki_sock_t *sock, const char *endpoint);

int ctki_sock_fd (ctki_sock_t *sock);

enum { CTKI_READABLE = 1, CTKI_WRITABLE = 2 };
unsigned ctki_sock_events (ctki_sock_t *sock);

/* Whether there is nothing to read, and the descriptor will say so when there is.
 * Costs nothing when the last call on the socket has found that already. */
bool ctki_sock_is_dry (ctki_sock_t *sock);

/* ---- sending */

/* Sends one message of one or two parts; on a router to the connection `rid`.
 * 0; or -1: EAGAIN: no room or no connection; EHOSTUNREACH: that connection is
 * gone; ENOMEM. Then nothing was sent and no reference taken. */
int ctki_sock_send (ctki_sock_t *sock, uint64_t rid, const ctki_part_t *parts, int count);

/* ---- receiving */

enum { CTKI_MESSAGE_PARTS = 2, CTKI_MESSAGE_BYTES = 64 };

/* A received message. Parts beyond the second are drained and counted only. */
typedef struct {
    uint64_t rid; /* of the connection it came on; 0: not one of ours (router only) */
    int count;    /* of parts, the routing id not among them */
    const uint8_t *data[CTKI_MESSAGE_PARTS];
    size_t size[CTKI_MESSAGE_PARTS];
    union {
        max_align_t align;
        char bytes[CTKI_MESSAGE_BYTES];
    } raw[CTKI_MESSAGE_PARTS];
} ctki_message_t;

/* 0, or -1: EAGAIN: nothing there. A received message must be closed. */
int ctki_sock_receive (ctki_sock_t *sock, ctki_message_t *message);
void ctki_message_close (ctki_message_t *message);

/* A part's memory on its own, for as long as somebody holds it; 8-byte aligned
 * data, copied where it is small (pitfall H1) or lies askew. The part is empty
 * afterwards. NULL: ENOMEM, and the part is as it was. */
ctki_buf_t *ctki_message_lease (ctki_message_t *message, int part);

/* A copy of a part, whatever memory it lies in. NULL: ENOMEM. */
static inline ctki_buf_t *ctki_message_copy (const ctki_message_t *message, int part)
{
    return ctki_buf_copy (message->data[part], message->size[part]);
}

/* ---- the monitor of a dealer */

typedef enum { CTKI_LINK_NONE, CTKI_LINK_UP, CTKI_LINK_DOWN, CTKI_LINK_REFUSED } ctki_link_t;

/* To be made before the dealer connects and closed after it stopped watching. */
ctki_sock_t *ctki_sock_monitor (ctki_sock_t *dealer);
ctki_link_t ctki_sock_monitor_next (ctki_sock_t *monitor);

/* ---- pipe: a byte or a command through a pair, ordered for ThreadSanitizer too */

int ctki_pipe_send (ctki_sock_t *end, const void *data, size_t size); /* 0, or -1 */
int ctki_pipe_receive (ctki_sock_t *end, void *data, size_t size);    /* size received, or -1: EAGAIN */

#endif
