/*
 * sock.c - the sockets on libzmq, with the settings that are known to be safe
 * (HACKING.md names them and why). The one file that includes zmq.h.
 *
 * What may go wrong: libzmq aborts the process on some resource failures, so
 * ctalk_server_new () checks descriptors first; a send that succeeded may be
 * lost with its connection.
 */
#include "src/sock.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/resource.h>
#include <zmq.h>

#include "src/countdown.h"
#include "src/error.h"
#include "src/mem.h"
#include "src/sys.h"

#if defined(__SANITIZE_THREAD__)
#define CTKI_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CTKI_TSAN 1
#endif
#endif

#ifdef CTKI_TSAN
/* libzmq orders the two ends of a pipe, but is not instrumented: say so. */
void __tsan_acquire (void *address);
void __tsan_release (void *address);
static char pipe_order;
#define ORDER_RELEASE() __tsan_release (&pipe_order)
#define ORDER_ACQUIRE() __tsan_acquire (&pipe_order)
#define BUF_RELEASE(buf) __tsan_release (buf)
#define BUF_ACQUIRE(buf) __tsan_acquire (buf)
#else
#define ORDER_RELEASE() ((void) 0)
#define ORDER_ACQUIRE() ((void) 0)
#define BUF_RELEASE(buf) ((void) 0)
#define BUF_ACQUIRE(buf) ((void) 0)
#endif

/* ---- the context */

static pthread_mutex_t context_lock = PTHREAD_MUTEX_INITIALIZER;
static void *context;
static unsigned context_refs;
static unsigned long inproc_number;
static pthread_once_t context_once = PTHREAD_ONCE_INIT;
static ctki_sock_t *inproc_bound; /* see note_bound () */

static void before_fork (void)
{
    pthread_mutex_lock (&context_lock);
}

static void after_fork_parent (void)
{
    pthread_mutex_unlock (&context_lock);
}

/* The child has none of the context's threads: it forgets it and may make its own. */
static void after_fork_child (void)
{
    context = NULL;
    context_refs = 0;
    inproc_bound = NULL;
    pthread_mutex_unlock (&context_lock);
}

static void watch_forks (void)
{
    pthread_atfork (before_fork, after_fork_parent, after_fork_child);
}

static void *idle (void *gate)
{
    pthread_mutex_lock (gate);
    pthread_mutex_unlock (gate);
    return NULL;
}

/* libzmq ends the process when it cannot start its threads (pitfall D5): see
 * first whether so many can be there at once. */
static bool threads_can_be_started (unsigned count)
{
    enum { MOST = 66 };
    pthread_t threads[MOST];
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    unsigned started = 0;
    count = CTKI_MIN (count, (unsigned) MOST);
    pthread_mutex_lock (&gate);
    while (started < count && ctki_thread_start (&threads[started], "ct-probe", idle, &gate, NULL) == 0)
        started++;
    pthread_mutex_unlock (&gate);
    for (unsigned i = 0; i < started; i++)
        pthread_join (threads[i], NULL);
    return started == count;
}

static void *new_context (int io_threads, ctalk_error_t *error)
{
    int major, minor, patch;
    zmq_version (&major, &minor, &patch);
    if (major * 10000 + minor * 100 + patch < 40304) {
        ctki_error_set (error, ENOTSUP, "libzmq %d.%d.%d is too old: 4.3.4 or newer is needed", major, minor, patch);
        return NULL;
    }
    if (!threads_can_be_started ((unsigned) io_threads + 1)) {
        ctki_error_set (error, EAGAIN, "cannot start the %d threads that libzmq needs: raise the limit with ulimit -u",
                        io_threads + 1);
        return NULL;
    }
    ctki_mem_settle (); /* before its threads receive */
    struct rlimit limit = {0};
    getrlimit (RLIMIT_NOFILE, &limit);
    rlim_t sockets = CTKI_MIN (limit.rlim_max, (rlim_t) 65535); /* fixed by the first socket (pitfall E8) */
    void *fresh = zmq_ctx_new ();
    if (!fresh || zmq_ctx_set (fresh, ZMQ_BLOCKY, 0) || zmq_ctx_set (fresh, ZMQ_IO_THREADS, io_threads)
        || zmq_ctx_set (fresh, ZMQ_MAX_SOCKETS, (int) sockets)) {
        int code = errno;
        if (fresh)
            zmq_ctx_term (fresh);
        ctki_error_set (error, code, "cannot make a libzmq context: %s", zmq_strerror (code));
        return NULL;
    }
    return fresh;
}

int ctki_context_ref (int io_threads, ctalk_error_t *error)
{
    pthread_once (&context_once, watch_forks);
    pthread_mutex_lock (&context_lock);
    int result = 0;
    if (!context)
        result = (context = new_context (io_threads, error)) ? 0 : -1;
    if (result == 0)
        context_refs++;
    pthread_mutex_unlock (&context_lock);
    return result;
}

void ctki_context_unref (void)
{
    pthread_mutex_lock (&context_lock);
    CTKI_ASSERT (context_refs > 0);
    if (--context_refs == 0) {
        while (zmq_ctx_term (context) && errno == EINTR) {
        }
        context = NULL;
    }
    pthread_mutex_unlock (&context_lock);
}

/* ---- sockets */

/* Threads of the application use sockets, too, and a signal that hits them while
 * libzmq looks for commands ends even a call that does not wait. It has done
 * nothing then. What is lost by that may be a part in the middle of a message. */
#define UNINTERRUPTED(rc, call)                                                                                        \
    do                                                                                                                 \
        (rc) = (call);                                                                                                 \
    while (CTKI_UNLIKELY ((rc) < 0) && errno == EINTR)

struct ctki_sock {
    void *zmq;
    int fd; /* that says when to look at its events: the same for its life */
    bool router;
    bool watched; /* a monitor is on */
    bool dry;     /* the last call has found nothing to read: libzmq signals what comes from now on */
    bool inproc;  /* what it carries stays in this process: ThreadSanitizer sees it on both sides */
    char *name;   /* the inproc endpoint that it is bound to; NULL: none */
    ctki_sock_t *next; /* of those that are */
};

/* libzmq lets a socket connect to an inproc endpoint that nobody is bound to, and
 * then cannot close it until somebody is: each try would leave a socket behind.
 * So we know who is bound. Under the context's lock. */
static int note_bound (ctki_sock_t *sock, const char *endpoint)
{
    if (!(sock->name = ctki_strdup (endpoint)))
        return -1;
    pthread_mutex_lock (&context_lock);
    sock->next = inproc_bound;
    inproc_bound = sock;
    pthread_mutex_unlock (&context_lock);
    return 0;
}

static void forget_bound (ctki_sock_t *sock)
{
    if (!sock->name)
        return;
    pthread_mutex_lock (&context_lock);
    for (ctki_sock_t **link = &inproc_bound; *link; link = &(*link)->next) {
        if (*link == sock) {
            *link = sock->next;
            break;
        }
    }
    pthread_mutex_unlock (&context_lock);
    ctki_free (sock->name);
    sock->name = NULL;
}

/* Who is bound stays so while the lock is held: forget_bound () comes before unbinding and closing. */
static int connect_bound (ctki_sock_t *sock, const char *endpoint)
{
    int rc = -1;
    pthread_mutex_lock (&context_lock);
    const ctki_sock_t *bound = inproc_bound;
    while (bound && strcmp (bound->name, endpoint) != 0)
        bound = bound->next;
    if (bound)
        rc = zmq_connect (sock->zmq, endpoint);
    else
        errno = ECONNREFUSED;
    pthread_mutex_unlock (&context_lock);
    return rc;
}

static int set_int (void *zmq, int option, int value)
{
    return zmq_setsockopt (zmq, option, &value, sizeof value);
}

static ctki_countdown_t sockets;

long ctki_sock_fail (long after, long times)
{
    return ctki_countdown_arm (&sockets, after, times);
}

static void *new_socket (int type)
{
    if (CTKI_LIKELY (!ctki_countdown_fails (&sockets)))
        return zmq_socket (context, type);
    errno = EMFILE;
    return NULL;
}

static ctki_sock_t *open_sock (int type)
{
    ctki_sock_t *sock = ctki_alloc_zero (sizeof *sock);
    if (!sock)
        return NULL;
    sock->router = type == ZMQ_ROUTER;
    sock->zmq = new_socket (type);
    size_t size = sizeof sock->fd;
    if (!sock->zmq || set_int (sock->zmq, ZMQ_LINGER, 0)
        || zmq_getsockopt (sock->zmq, ZMQ_FD, &sock->fd, &size)) {
        int code = errno;
        ctki_sock_close (&sock);
        errno = code;
    }
    return sock;
}

void ctki_sock_close (ctki_sock_t **sock_p)
{
    ctki_sock_t *sock = *sock_p;
    if (!sock)
        return;
    *sock_p = NULL;
    forget_bound (sock);
    if (sock->watched)
        zmq_socket_monitor (sock->zmq, NULL, 0);
    if (sock->zmq)
        zmq_close (sock->zmq);
    ctki_free (sock);
}

/* What router and dealer have in common. No ZMTP heartbeats (pitfall C5). */
static int set_common (void *zmq, const ctki_sock_options_t *options)
{
    int64_t part = options->frame_bytes;
    return set_int (zmq, ZMQ_SNDHWM, options->send_frames) || set_int (zmq, ZMQ_RCVHWM, options->receive_frames)
           || zmq_setsockopt (zmq, ZMQ_MAXMSGSIZE, &part, sizeof part) || set_int (zmq, ZMQ_HANDSHAKE_IVL, 3000)
           || set_int (zmq, ZMQ_HEARTBEAT_IVL, 0) || set_int (zmq, ZMQ_TCP_KEEPALIVE, 1)
           || set_int (zmq, ZMQ_TCP_KEEPALIVE_IDLE, 10) || set_int (zmq, ZMQ_TCP_KEEPALIVE_INTVL, 2)
           || set_int (zmq, ZMQ_TCP_KEEPALIVE_CNT, 3) || set_int (zmq, ZMQ_TCP_MAXRT, 5000)
           || (options->send_buffer && set_int (zmq, ZMQ_SNDBUF, options->send_buffer));
}

static ctki_sock_t *give_up (ctki_sock_t *sock)
{
    int code = errno;
    ctki_sock_close (&sock);
    errno = code;
    return NULL;
}

ctki_sock_t *ctki_sock_router (const ctki_sock_options_t *options)
{
    ctki_sock_t *sock = open_sock (ZMQ_ROUTER);
    if (!sock)
        return NULL;
    if (set_common (sock->zmq, options) || set_int (sock->zmq, ZMQ_ROUTER_MANDATORY, 1)
        || set_int (sock->zmq, ZMQ_BACKLOG, options->backlog)
        || zmq_setsockopt (sock->zmq, ZMQ_ZAP_DOMAIN, options->domain, strlen (options->domain)))
        return give_up (sock);
    return sock;
}

ctki_sock_t *ctki_sock_dealer (const ctki_sock_options_t *options)
{
    ctki_sock_t *sock = open_sock (ZMQ_DEALER);
    if (!sock)
        return NULL;
    if (set_common (sock->zmq, options) || set_int (sock->zmq, ZMQ_IMMEDIATE, 1)
        || set_int (sock->zmq, ZMQ_CONNECT_TIMEOUT, 2000) || set_int (sock->zmq, ZMQ_RECONNECT_IVL, 10)
        || set_int (sock->zmq, ZMQ_RECONNECT_IVL_MAX, 1000))
        return give_up (sock);
    return sock;
}

/* A name that was never used: libzmq forgets that of a closed socket only later. */
static void inproc_name (char *name, size_t size)
{
    pthread_mutex_lock (&context_lock);
    unsigned long number = ++inproc_number;
    pthread_mutex_unlock (&context_lock);
    snprintf (name, size, "inproc://clustertalk-%lu", number);
}

static int bind_to (void *zmq, const char *endpoint)
{
    int rc;
    UNINTERRUPTED (rc, zmq_bind (zmq, endpoint));
    return rc;
}

static int connect_to (void *zmq, const char *endpoint)
{
    int rc;
    UNINTERRUPTED (rc, zmq_connect (zmq, endpoint));
    return rc;
}

int ctki_sock_pair (ctki_sock_t *ends[2])
{
    char name[64];
    inproc_name (name, sizeof name);
    ends[0] = open_sock (ZMQ_PAIR);
    ends[1] = ends[0] ? open_sock (ZMQ_PAIR) : NULL;
    if (ends[1] && !set_int (ends[0]->zmq, ZMQ_SNDHWM, 0) && !set_int (ends[0]->zmq, ZMQ_RCVHWM, 0)
        && !set_int (ends[1]->zmq, ZMQ_SNDHWM, 0) && !set_int (ends[1]->zmq, ZMQ_RCVHWM, 0)
        && !bind_to (ends[0]->zmq, name) && !connect_to (ends[1]->zmq, name))
        return 0;
    int code = errno;
    ctki_sock_close (&ends[0]);
    ctki_sock_close (&ends[1]);
    errno = code;
    return -1;
}

/* IPv6 only where the address is one: a host may have none. */
static int set_family (ctki_sock_t *sock, const char *endpoint)
{
    sock->inproc |= strncmp (endpoint, "inproc:", 7) == 0;
    return set_int (sock->zmq, ZMQ_IPV6, strchr (endpoint, '[') != NULL);
}

int ctki_sock_bind (ctki_sock_t *sock, const char *endpoint, char *bound, size_t size)
{
    sock->dry = false;
    if (set_family (sock, endpoint) || zmq_bind (sock->zmq, endpoint))
        return -1;
    if (sock->inproc && note_bound (sock, endpoint))
        return -1;
    return zmq_getsockopt (sock->zmq, ZMQ_LAST_ENDPOINT, bound, &size);
}

/* The listener is closed by another thread of libzmq, which says so in an event
 * (pitfall E5). */
void ctki_sock_unbind (ctki_sock_t *sock, const char *bound, int wait_ms)
{
    char name[64];
    inproc_name (name, sizeof name);
    void *events = NULL;
    forget_bound (sock);
    if (strncmp (bound, "inproc:", 7) != 0 && zmq_socket_monitor (sock->zmq, name, ZMQ_EVENT_CLOSED) == 0) {
        sock->watched = true;
        events = new_socket (ZMQ_PAIR);
        if (events && (set_int (events, ZMQ_LINGER, 0) || zmq_connect (events, name))) {
            zmq_close (events);
            events = NULL;
        }
        if (!events) { /* nobody would read the event: the I/O thread would wait for a reader */
            zmq_socket_monitor (sock->zmq, NULL, 0);
            sock->watched = false;
        }
    }
    int rc = zmq_unbind (sock->zmq, bound);
    if (events) {
        zmq_pollitem_t item = {.socket = events, .events = ZMQ_POLLIN};
        if (rc == 0)
            zmq_poll (&item, 1, wait_ms);
        zmq_socket_monitor (sock->zmq, NULL, 0);
        sock->watched = false;
        zmq_close (events);
    }
}

int ctki_sock_connect (ctki_sock_t *sock, const char *endpoint)
{
    sock->dry = false;
    if (set_family (sock, endpoint))
        return -1;
    return sock->inproc ? connect_bound (sock, endpoint) : zmq_connect (sock->zmq, endpoint);
}

int ctki_sock_disconnect (ctki_sock_t *sock, const char *endpoint)
{
    sock->dry = false;
    return zmq_disconnect (sock->zmq, endpoint);
}

int ctki_sock_fd (ctki_sock_t *sock)
{
    return sock->fd;
}

unsigned ctki_sock_events (ctki_sock_t *sock)
{
    int events = 0, rc;
    size_t size = sizeof events;
    sock->dry = false;
    UNINTERRUPTED (rc, zmq_getsockopt (sock->zmq, ZMQ_EVENTS, &events, &size));
    if (rc)
        return 0;
    sock->dry = !(events & ZMQ_POLLIN);
    return (events & ZMQ_POLLIN ? (unsigned) CTKI_READABLE : 0) | (events & ZMQ_POLLOUT ? (unsigned) CTKI_WRITABLE : 0);
}

/* ---- sending */

static void let_go (void *data, void *hint)
{
    (void) data;
    BUF_ACQUIRE (hint);
    ctki_buf_release (hint, 1);
}

/* On libzmq's thread: the payload is freed elsewhere. */
static void let_go_owned (void *data, void *hint)
{
    (void) data;
    ctki_buf_t *buf = hint;
    BUF_ACQUIRE (buf);
    atomic_fetch_sub_explicit (&buf->io_refs, 1, memory_order_release);
}

static int fill (zmq_msg_t *msg, const ctki_part_t *part)
{
    if (!part->buf) {
        if (zmq_msg_init_size (msg, part->size))
            return -1;
        if (part->size)
            memcpy (zmq_msg_data (msg), part->data, part->size);
        return 0;
    }
    BUF_RELEASE (part->buf);
    /* libzmq only reads it */
    void *data = (void *) (uintptr_t) part->data;
    if (zmq_msg_init_data (msg, data, part->size, part->buf->owned ? let_go_owned : let_go, part->buf))
        return -1;
    if (part->buf->owned)
        atomic_fetch_add_explicit (&part->buf->io_refs, 1, memory_order_relaxed);
    else
        ctki_buf_hold (part->buf, 1);
    return 0;
}

static int send_part (ctki_sock_t *sock, const ctki_part_t *part, int flags)
{
    zmq_msg_t msg;
    if (fill (&msg, part))
        return -1;
    if (sock->inproc)
        ORDER_RELEASE (); /* of what was just filled in */
    int rc;
    UNINTERRUPTED (rc, zmq_msg_send (&msg, sock->zmq, ZMQ_DONTWAIT | flags));
    if (rc >= 0)
        return 0;
    int code = errno;
    zmq_msg_close (&msg); /* the caller of a failed send still owns it (pitfall E7) */
    errno = code;
    return -1;
}

/* A connection's id as libzmq makes them: a zero byte and 32 bits. */
enum { RID_BYTES = 5 };

static int send_rid (ctki_sock_t *sock, uint64_t rid)
{
    uint8_t id[RID_BYTES] = {0};
    ctki_put32 (id + 1, (uint32_t) rid);
    int rc;
    UNINTERRUPTED (rc, zmq_send (sock->zmq, id, sizeof id, ZMQ_DONTWAIT | ZMQ_SNDMORE));
    return rc < 0 ? -1 : 0;
}

/* It is what zmq_recv relies on itself before it blocks: having found nothing it
 * takes the commands that wait, and looks once more; the writer of a pipe whose
 * reader found it empty sends a command; and the first command after all were
 * taken signals the descriptor. */
bool ctki_sock_is_dry (ctki_sock_t *sock)
{
    return sock->dry || !(ctki_sock_events (sock) & CTKI_READABLE);
}

int ctki_sock_send (ctki_sock_t *sock, uint64_t rid, const ctki_part_t *parts, int count)
{
    sock->dry = false; /* it may take commands, too */
    if (sock->router && send_rid (sock, rid)) /* stop at the first error (pitfall A8) */
        return -1;
    for (int i = 0; i < count; i++) {
        if (send_part (sock, &parts[i], i + 1 < count ? ZMQ_SNDMORE : 0) == 0)
            continue;
        if (i == 0 && !sock->router)
            return -1;
        /* Out of memory between two parts: end the message, so that the next
         * one begins where it should; the session takes it as lost. */
        int code = errno;
        int rc;
        UNINTERRUPTED (rc, zmq_send (sock->zmq, "", 0, ZMQ_DONTWAIT));
        errno = code;
        return -1;
    }
    return 0;
}

/* ---- receiving */

static zmq_msg_t *raw (ctki_message_t *message, int part)
{
    _Static_assert (sizeof (zmq_msg_t) <= CTKI_MESSAGE_BYTES, "a zmq_msg_t fits");
    return (zmq_msg_t *) (void *) message->raw[part].bytes;
}

static int receive_rid (ctki_sock_t *sock, uint64_t *rid)
{
    uint8_t id[RID_BYTES + 1];
    int size;
    UNINTERRUPTED (size, zmq_recv (sock->zmq, id, sizeof id, ZMQ_DONTWAIT));
    if (size < 0)
        return -1;
    *rid = size == RID_BYTES && id[0] == 0 ? UINT64_C (1) << 32 | ctki_get32 (id + 1) : 0;
    return 0;
}

int ctki_sock_receive (ctki_sock_t *sock, ctki_message_t *message)
{
    message->rid = 0;
    message->count = 0;
    sock->dry = false;
    if (sock->router && receive_rid (sock, &message->rid)) {
        sock->dry = errno == EAGAIN;
        return -1;
    }
    bool more = true;
    while (more) {
        zmq_msg_t spare;
        bool wanted = message->count < CTKI_MESSAGE_PARTS;
        zmq_msg_t *msg = wanted ? raw (message, message->count) : &spare;
        zmq_msg_init (msg);
        int rc;
        UNINTERRUPTED (rc, zmq_msg_recv (msg, sock->zmq, ZMQ_DONTWAIT));
        if (rc < 0) {
            int code = errno;
            sock->dry = code == EAGAIN && message->count == 0 && !sock->router;
            zmq_msg_close (msg);
            ctki_message_close (message);
            errno = code;
            return -1;
        }
        more = zmq_msg_more (msg) != 0;
        if (wanted) {
            message->data[message->count] = zmq_msg_data (msg);
            message->size[message->count] = zmq_msg_size (msg);
        } else
            zmq_msg_close (&spare);
        message->count++;
    }
    if (sock->inproc)
        ORDER_ACQUIRE ();
    return 0;
}

void ctki_message_close (ctki_message_t *message)
{
    for (int i = 0; i < message->count && i < CTKI_MESSAGE_PARTS; i++)
        zmq_msg_close (raw (message, i));
    message->count = 0;
}

typedef struct {
    ctki_buf_t buf; /* first */
    zmq_msg_t msg;
} lease_t;

static void end_lease (ctki_buf_t *buf)
{
    lease_t *lease = (lease_t *) buf;
    zmq_msg_close (&lease->msg);
    ctki_free (lease);
}

ctki_buf_t *ctki_message_lease (ctki_message_t *message, int part)
{
    const uint8_t *data = message->data[part];
    size_t size = message->size[part];
    if (size <= CTKI_LEASE_BYTES || (uintptr_t) data % 8 != 0)
        return ctki_message_copy (message, part);
    lease_t *lease = ctki_alloc (sizeof *lease);
    if (!lease)
        return NULL;
    zmq_msg_init (&lease->msg);
    zmq_msg_move (&lease->msg, raw (message, part));
    ctki_buf_init (&lease->buf, zmq_msg_data (&lease->msg), size, end_lease);
    return &lease->buf;
}

/* ---- the monitor */

ctki_sock_t *ctki_sock_monitor (ctki_sock_t *dealer)
{
    char name[64];
    inproc_name (name, sizeof name);
    int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL
                 | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
    if (zmq_socket_monitor (dealer->zmq, name, events))
        return NULL;
    dealer->watched = true;
    ctki_sock_t *monitor = open_sock (ZMQ_PAIR);
    if (!monitor)
        return NULL;
    /* Unbounded: a monitor that is full stops the I/O thread (pitfall F1). */
    if (set_int (monitor->zmq, ZMQ_RCVHWM, 0) || zmq_connect (monitor->zmq, name))
        return give_up (monitor);
    return monitor;
}

ctki_link_t ctki_sock_monitor_next (ctki_sock_t *monitor)
{
    ctki_message_t message;
    if (ctki_sock_receive (monitor, &message))
        return CTKI_LINK_NONE;
    uint16_t event = 0;
    if (message.count == 2 && message.size[0] >= sizeof event) /* else half an event (pitfall F2) */
        memcpy (&event, message.data[0], sizeof event);
    ctki_message_close (&message);
    if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED)
        return CTKI_LINK_UP;
    return event == ZMQ_EVENT_DISCONNECTED ? CTKI_LINK_DOWN : CTKI_LINK_REFUSED;
}

/* ---- pipe */

int ctki_pipe_send (ctki_sock_t *end, const void *data, size_t size)
{
    int rc;
    ORDER_RELEASE ();
    UNINTERRUPTED (rc, zmq_send (end->zmq, data, size, ZMQ_DONTWAIT));
    return rc < 0 ? -1 : 0;
}

int ctki_pipe_receive (ctki_sock_t *end, void *data, size_t size)
{
    int got;
    UNINTERRUPTED (got, zmq_recv (end->zmq, data, size, ZMQ_DONTWAIT));
    if (got >= 0)
        ORDER_ACQUIRE ();
    return got;
}
