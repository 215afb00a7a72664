/*
 * bare.c - the workload of a mesh over bare sockets of libzmq. Owns a context,
 * the ROUTER (used by the receiving thread) and the DEALERs (used by the sending
 * one). A message is one frame: who, which kind, which number, and the payload.
 */
#include "tests/chaos/bare.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "tests/support/payload.h"
#include "tests/support/scale.h"
#include "tests/support/thread.h"

enum {
    SERVERS_MAX = 16,
    QUIET_MS = 3000, /* what has not come by then after the last that came is lost */
    ENDPOINT_BYTES = 64
};

typedef struct {
    int64_t number;
    int32_t src;
    uint32_t flags;
} head_t;

struct ctki_bare {
    ctalk_pid_t self;
    size_t servers;
    void *context, *router;
    void *dealer[SERVERS_MAX + 1]; /* by pid */
    /* Of the run: */
    size_t unicasts, broadcasts;
    const size_t *sizes;
    size_t sizes_count;
    ctki_journal_t *journal;
};

static void *new_socket (ctki_bare_t *bare, int type, int linger_ms)
{
    int none = 0;
    void *socket = zmq_socket (bare->context, type);
    if (socket && zmq_setsockopt (socket, ZMQ_SNDHWM, &none, sizeof none) == 0
        && zmq_setsockopt (socket, ZMQ_RCVHWM, &none, sizeof none) == 0
        && zmq_setsockopt (socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms) == 0)
        return socket;
    if (socket)
        (void) zmq_close (socket);
    return NULL;
}

ctki_bare_t *ctki_bare_new (ctalk_pid_t self, size_t servers, uint16_t *port, ctki_trouble_t *trouble)
{
    char endpoint[ENDPOINT_BYTES] = "";
    size_t size = sizeof endpoint;
    int quiet_ms = ctki_test_ms (QUIET_MS);
    unsigned number = 0;
    ctki_bare_t *bare = calloc (1, sizeof *bare);
    if (!bare || servers > SERVERS_MAX)
        abort ();
    bare->self = self;
    bare->servers = servers;
    bare->context = zmq_ctx_new ();
    bare->router = new_socket (bare, ZMQ_ROUTER, 0);
    if (bare->router && zmq_setsockopt (bare->router, ZMQ_RCVTIMEO, &quiet_ms, sizeof quiet_ms) == 0
        && zmq_bind (bare->router, "tcp://127.0.0.1:*") == 0
        && zmq_getsockopt (bare->router, ZMQ_LAST_ENDPOINT, endpoint, &size) == 0
        && sscanf (endpoint, "tcp://127.0.0.1:%u", &number) == 1) {
        *port = (uint16_t) number;
        return bare;
    }
    (void) ctki_trouble_note (trouble, __FILE__, __LINE__, "bare %d cannot bind", self);
    ctki_bare_destroy (&bare);
    return NULL;
}

bool ctki_bare_connect (ctki_bare_t *bare, const uint16_t *ports, ctki_trouble_t *trouble)
{
    for (size_t pid = 1; pid <= bare->servers; pid++) {
        char endpoint[ENDPOINT_BYTES];
        if (pid == (size_t) bare->self)
            continue;
        (void) snprintf (endpoint, sizeof endpoint, "tcp://127.0.0.1:%u", (unsigned) ports[pid]);
        bare->dealer[pid] = new_socket (bare, ZMQ_DEALER, 0);
        CTKI_EXPECT (trouble, bare->dealer[pid]);
        CTKI_EXPECT_EQUAL (trouble, zmq_connect (bare->dealer[pid], endpoint), 0);
    }
    return true;
}

static bool send_one (ctki_bare_t *bare, size_t pid, const head_t *head, const void *data, size_t size,
                      ctki_trouble_t *trouble)
{
    zmq_msg_t message;
    CTKI_EXPECT_EQUAL (trouble, zmq_msg_init_size (&message, sizeof *head + size), 0);
    memcpy (zmq_msg_data (&message), head, sizeof *head);
    memcpy ((char *) zmq_msg_data (&message) + sizeof *head, data, size);
    CTKI_EXPECT (trouble, zmq_msg_send (&message, bare->dealer[pid], 0) >= 0);
    return true;
}

/* The envelope with this number, to one (by pid) or to all others. */
static bool send_number (ctki_bare_t *bare, ctalk_pid_t dst, size_t number, char *buffer, ctki_trouble_t *trouble)
{
    bool all = dst == CTALK_BROADCAST;
    size_t size = bare->sizes[number % bare->sizes_count];
    head_t head = {(int64_t) number, bare->self, all ? CTALK_WAS_BROADCAST : 0};
    ctki_payload_fill (buffer, size, bare->self, dst, head.number);
    for (size_t pid = 1; pid <= bare->servers; pid++)
        if (bare->dealer[pid] && (all || pid == (size_t) dst) && !send_one (bare, pid, &head, buffer, size, trouble))
            return false;
    ctki_journal_sent (bare->journal, bare->self, dst, head.number, buffer, size);
    return true;
}

static bool send_all (ctki_bare_t *bare, char *buffer, ctki_trouble_t *trouble)
{
    size_t most = CTKI_MAX (bare->unicasts, bare->broadcasts);
    for (size_t number = 0; number < most; number++) {
        if (number < bare->broadcasts && !send_number (bare, CTALK_BROADCAST, number, buffer, trouble))
            return false;
        for (size_t pid = 1; pid <= bare->servers && number < bare->unicasts; pid++)
            if (bare->dealer[pid] && !send_number (bare, (ctalk_pid_t) pid, number, buffer, trouble))
                return false;
    }
    return true;
}

static bool send_thread (void *arg, ctki_trouble_t *trouble)
{
    ctki_bare_t *bare = arg;
    size_t most = 1;
    for (size_t i = 0; i < bare->sizes_count; i++)
        most = CTKI_MAX (most, bare->sizes[i]);
    char *buffer = malloc (most);
    CTKI_EXPECT (trouble, buffer);
    bool ok = send_all (bare, buffer, trouble);
    free (buffer);
    return ok;
}

/* Books one message; the routing id that came before it was dropped. */
static bool book (ctki_bare_t *bare, zmq_msg_t *message, ctki_trouble_t *trouble)
{
    head_t head;
    size_t size = zmq_msg_size (message);
    CTKI_EXPECT (trouble, size >= sizeof head);
    memcpy (&head, zmq_msg_data (message), sizeof head);
    CTKI_EXPECT (trouble, head.src >= 1 && (size_t) head.src <= bare->servers);
    ctalk_envelope_t envelope = {.pid = head.src, .msg_id = head.number, .flags = head.flags};
    envelope.data = (const char *) zmq_msg_data (message) + sizeof head;
    envelope.size = size - sizeof head;
    ctki_journal_received (bare->journal, bare->self, &envelope);
    return true;
}

static bool receive_all (ctki_bare_t *bare, ctki_trouble_t *trouble)
{
    size_t expected = (bare->servers - 1) * (bare->unicasts + bare->broadcasts), got = 0;
    bool ok = true;
    zmq_msg_t message;
    (void) zmq_msg_init (&message);
    while (ok && got < expected && zmq_msg_recv (&message, bare->router, 0) >= 0) {
        if (zmq_msg_more (&message))
            continue; /* the routing id */
        ok = book (bare, &message, trouble);
        got++;
    }
    (void) zmq_msg_close (&message);
    return ok;
}

bool ctki_bare_run (ctki_bare_t *bare, size_t unicasts, size_t broadcasts, const size_t *sizes, size_t sizes_count,
                    ctki_journal_t *journal, ctki_trouble_t *trouble)
{
    ctki_test_thread_t sender;
    bare->unicasts = unicasts;
    bare->broadcasts = broadcasts;
    bare->sizes = sizes;
    bare->sizes_count = sizes_count;
    bare->journal = journal;
    ctki_test_thread_start (&sender, send_thread, bare);
    bool ok = receive_all (bare, trouble);
    return ctki_test_thread_end (&sender, trouble) && ok;
}

void ctki_bare_destroy (ctki_bare_t **bare_p)
{
    ctki_bare_t *bare = *bare_p;
    if (!bare)
        return;
    for (size_t pid = 1; pid <= bare->servers; pid++)
        if (bare->dealer[pid])
            (void) zmq_close (bare->dealer[pid]);
    if (bare->router)
        (void) zmq_close (bare->router);
    while (bare->context && zmq_ctx_term (bare->context) != 0 && errno == EINTR) {
    }
    free (bare);
    *bare_p = NULL;
}
