/*
 * server.c - making and closing a server: the facade over the actors and the
 * config (the other public calls are in server_messages, server_peers,
 * server_stats and server_actors). It owns the node and the router; close waits
 * for the calls that are under way; and a server knows whether it is a copy in a
 * child process.
 */
#include <clustertalk.h>

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "actors/resolver.h"
#include "actors/router.h"
#include "config/config.h"
#include "src/error.h"
#include "src/log.h"
#include "src/mem.h"
#include "src/server.h"

enum {
    POOL_BLOCKS = 64,        /* free blocks that a server keeps */
    FDS_SERVER = 16,         /* descriptors that a server needs at most, ... */
    FDS_SENDER = 8,          /* ... and each eager sender, ... */
    FDS_LAZY = 2,            /* ... and all lazy ones, to begin with */
    CLOSE_LIMBO_MS = 1000    /* how long libzmq may hold on to a payload of the user's */
};

const char *ctalk_version (void)
{
    return PACKAGE_VERSION;
}

/* ---- making */

/* How many numbers for descriptors are free, of those below the limit, up to
 * `need`: looked for from above, where they are. To count what is open takes the
 * longer the more servers there are; to try would take them from other threads. */
static size_t free_fds (rlim_t limit, size_t need)
{
    enum { BLOCK = 256 };
    size_t count = 0;
    for (int end = (int) CTKI_MIN (limit, (rlim_t) INT_MAX); end > 0 && count < need;) {
        struct pollfd items[BLOCK];
        int block = CTKI_MIN (end, (int) BLOCK);
        for (int i = 0; i < block; i++)
            items[i] = (struct pollfd){.fd = --end};
        while (poll (items, (nfds_t) block, 0) < 0 && errno == EINTR) {
        }
        for (int i = 0; i < block; i++)
            count += (items[i].revents & POLLNVAL) != 0;
    }
    return count;
}

/* libzmq ends the process when it gets no descriptor (pitfall D3): see first
 * whether there are enough. */
static int check_fds (ctalk_pid_t pid, size_t peers, bool lazy, ctalk_error_t *error)
{
    struct rlimit limit;
    size_t need = FDS_SERVER + (lazy ? (size_t) FDS_LAZY : FDS_SENDER * peers);
    if (getrlimit (RLIMIT_NOFILE, &limit) || limit.rlim_cur == RLIM_INFINITY)
        return 0;
    size_t there = free_fds (limit.rlim_cur, need);
    if (there >= need)
        return 0;
    return ctki_error_set (error, EMFILE,
                           "pid %d needs %zu file descriptors, %zu of %llu are free: raise the limit with ulimit -n",
                           (int) pid, need, there, (unsigned long long) limit.rlim_cur);
}

/* A name of an own interface in Bind: looked up here, since it must be known now. */
static int resolve_bind (ctalk_server_t *server, const ctki_endpoint_t *endpoint, ctalk_error_t *error)
{
    snprintf (server->bind, sizeof server->bind, "%s", endpoint->text);
    if (endpoint->transport != CTKI_TCP || endpoint->numeric)
        return 0;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    char address[INET6_ADDRSTRLEN + 16] = "";
    int rc = getaddrinfo (endpoint->host, NULL, &hints, &found);
    const struct addrinfo *best = found;
    for (const struct addrinfo *one = found; one; one = one->ai_next) {
        if (one->ai_family == AF_INET) {
            best = one;
            break;
        }
    }
    if (rc == 0 && best)
        rc = getnameinfo (best->ai_addr, best->ai_addrlen, address, sizeof address, NULL, 0, NI_NUMERICHOST);
    bool v6 = best && best->ai_family == AF_INET6;
    if (found)
        freeaddrinfo (found);
    if (rc)
        return ctki_error_set (error, EADDRNOTAVAIL, "cannot bind %s: the host's address is not known: %s",
                               endpoint->text, gai_strerror (rc));
    const char *port = strrchr (endpoint->text, ':');
    snprintf (server->bind, sizeof server->bind, v6 ? "tcp://[%s]%s" : "tcp://%s%s", address, port);
    return 0;
}

/* 128 bits of the cluster's name, to keep clusters apart that share endpoints:
 * FNV-1a, 64 bits from each end. No secret. */
static void make_cluster_id (uint8_t id[CTKI_CLUSTER_ID_BYTES], const char *name)
{
    size_t length = strlen (name);
    uint64_t forth = UINT64_C (0xcbf29ce484222325), back = forth;
    for (size_t i = 0; i < length; i++) {
        forth = (forth ^ (uint8_t) name[i]) * UINT64_C (0x100000001b3);
        back = (back ^ (uint8_t) name[length - 1 - i]) * UINT64_C (0x100000001b3);
    }
    ctki_put64 (id, forth);
    ctki_put64 (id + 8, back ^ length);
}

/* Where a listed peer is dialled; NULL while its port is the system's choice. */
static const char *listed_endpoint (void *arg, size_t index)
{
    const ctki_endpoint_t *endpoint = ctki_config_connect (((ctalk_server_t *) arg)->config, index);
    return ctki_endpoint_dialable (endpoint) ? endpoint->text : NULL;
}

static void fill_setup (ctki_node_t *node, ctalk_pid_t pid, const ctalk_config_t *config)
{
    const ctki_options_t *options = ctki_config_options (config);
    node->setup = (ctki_session_setup_t) {.self = pid,
                                          .inc = ctki_random64 (),
                                          .frame_bytes = (uint32_t) options->frame_bytes,
                                          .fragment_bytes = CTKI_FRAGMENT_FRAMES * (uint32_t) options->frame_bytes,
                                          .message_bytes = options->max_message_bytes,
                                          .window_bytes = options->window_bytes,
                                          .window_frames = options->window_frames,
                                          .heartbeat_us = (int64_t) options->heartbeat_ms * CTKI_MS,
                                          .suspect_us = (int64_t) options->suspect_ms * CTKI_MS,
                                          .down_us = (int64_t) options->down_ms * CTKI_MS,
                                          .resend = options->on_restart == CTKI_RESEND};
    make_cluster_id (node->setup.cluster_id, ctki_config_cluster (config));
    node->lazy = options->lazy;
    node->spin_us = (int64_t) options->spin_micros;
    node->started_us = ctki_now_us ();
}

/* The parts that need no thread. -1: ENOMEM or EMFILE; what was made is ended by
 * unmake (). */
static int make_node (ctalk_server_t *server, size_t index)
{
    ctki_node_t *node = &server->node;
    const ctki_options_t *options = ctki_config_options (server->config);
    size_t count = ctki_config_count (server->config);
    ctki_outbox_t *outbox = &node->outbox;
    node->pool = ctki_pool_new (ctki_writer_block_bytes (node->setup.frame_bytes), POOL_BLOCKS);
    server->router = node->pool
                         ? ctki_router_new (node, server->bind, (int) CTKI_MIN (128 + 2 * count, (size_t) 4096))
                         : NULL;
    if (!server->router)
        return -1;
    ctki_limbo_init (&node->limbo);
    ctki_inbox_init (&node->inbox, ctki_router_bell (server->router));
    ctki_outbox_init (outbox, node->pool, node->setup.frame_bytes, ctki_router_bell (server->router), &node->inbox);
    ctki_route_init (&outbox->route, listed_endpoint, server);
    outbox->queue_bytes = options->queue_bytes;
    outbox->message_bytes = options->max_message_bytes;
    outbox->incarnation = node->setup.inc;
    ctki_hall_init (&node->hall, node->setup.self, &node->inbox, outbox, options->mailbox_bytes);
    node->hall.pool = ctki_pool_new (CTKI_LETTER_BYTES, CTKI_LETTERS_KEPT);
    if (!node->hall.pool)
        return -1;
    outbox->self = ctki_peer_new (node->setup.self, NULL, node->started_us);
    outbox->local = outbox->self ? ctki_flow_new (outbox->self, true) : NULL;
    if (!outbox->local)
        return -1;
    atomic_store (&outbox->self->state, CTALK_STATE_UP);
    atomic_store (&outbox->self->incarnation, node->setup.inc);
    if (options->help && ctki_router_accept_help (server->router))
        return -1;
    for (size_t i = 0; i < count; i++) {
        if (i != index && ctki_route_list (&outbox->route, ctki_config_pid (server->config, i), i))
            return -1;
    }
    return 0;
}

/* Ends what make_node () made. Returns how many envelopes were abandoned since
 * the drain began. */
static uint64_t unmake (ctalk_server_t *server)
{
    ctki_node_t *node = &server->node;
    uint64_t abandoned = 0;
    if (server->router) {
        abandoned = ctki_router_stop (&server->router);
        int64_t until_us = ctki_now_us () + CLOSE_LIMBO_MS * CTKI_MS;
        unsigned held;
        while ((held = ctki_limbo_sweep (&node->limbo)) > 0 && ctki_now_us () < until_us)
            nanosleep (&(struct timespec) {.tv_nsec = 100 * 1000}, NULL); /* libzmq tells nobody when it lets go */
        if (held == 0)
            ctki_limbo_fini (&node->limbo);
        else
            ctki_log (CTALK_LOG_ERROR, "pid %d: libzmq holds %u payloads after close: they are not freed",
                      (int) node->setup.self, held);
        ctki_flow_release (&node->inbox, node->outbox.local);
        ctki_hall_fini (&node->hall);
        ctki_inbox_fini (&node->inbox);
        while (node->gone) {
            ctki_peer_t *peer = node->gone;
            node->gone = peer->gone_next;
            ctki_peer_release (peer);
        }
        ctki_route_fini (&node->outbox.route);
        ctki_peer_release (node->outbox.self);
        ctki_outbox_fini (&node->outbox);
    }
    ctki_pool_destroy (&node->pool);
    return abandoned;
}

static int start_senders (ctalk_server_t *server, ctalk_error_t *error)
{
    ctki_outbox_t *outbox = &server->node.outbox;
    ctki_outbox_lock (outbox);
    ctki_crowd_t *all = ctki_route_everybody (&outbox->route, 0);
    if (all)
        ctki_crowd_hold (all);
    ctki_outbox_unlock (outbox);
    int rc = all ? 0 : ctki_error_set (error, ENOMEM, "out of memory");
    for (size_t i = 0; all && rc == 0 && i < all->count; i++)
        rc = ctki_router_start_sender (server->router, all->peer[i], error);
    ctki_crowd_release (all);
    return rc;
}

/* Everything from the first descriptor on. -1: the error is filled in. */
static int start (ctalk_server_t *server, size_t index, ctalk_error_t *error)
{
    if (make_node (server, index))
        return ctki_error_set (error, errno, "pid %d: %s", (int) server->node.setup.self, strerror (errno));
    if (ctki_router_start (server->router, error))
        return -1;
    return server->node.lazy ? 0 : start_senders (server, error);
}

/* The process-wide parts: the context and the resolver. */
static int ref_process (const ctki_options_t *options, ctalk_error_t *error)
{
    if (ctki_context_ref ((int) options->io_threads, error))
        return -1;
    if (ctki_resolver_ref () == 0)
        return 0;
    ctki_context_unref ();
    return ctki_error_set (error, ENOMEM, "out of memory");
}

static void unref_process (void)
{
    ctki_resolver_unref ();
    ctki_context_unref ();
}

static ctalk_server_t *make (ctalk_pid_t pid, const ctalk_config_t *config, size_t index, ctalk_error_t *error)
{
    ctalk_server_t *server = ctki_alloc_zero (sizeof *server);
    if (!server || !(server->config = ctki_config_share (config))) {
        ctki_free (server);
        ctki_error_set (error, ENOMEM, "out of memory");
        return NULL;
    }
    const ctki_options_t *options = ctki_config_options (server->config);
    ctki_fence_init ();
    server->generation = ctki_fork_generation ();
    pthread_mutex_init (&server->members, NULL);
    fill_setup (&server->node, pid, server->config);
    int rc = resolve_bind (server, ctki_config_bind (server->config, index), error);
    if (rc == 0 && (rc = ref_process (options, error)) == 0 && (rc = start (server, index, error)) != 0) {
        int code = errno;
        unmake (server);
        unref_process ();
        errno = code;
    }
    if (rc == 0)
        return server;
    int code = errno;
    ctalk_config_destroy (&server->config);
    pthread_mutex_destroy (&server->members);
    ctki_free (server);
    errno = code;
    return NULL;
}

ctalk_server_t *ctalk_server_new (ctalk_pid_t pid, const ctalk_config_t *config, ctalk_error_t *error)
{
    ctki_error_clear (error);
    if (!config) {
        ctki_error_set (error, EINVAL, "no config");
        return NULL;
    }
    if (ctki_config_check_options (config, error))
        return NULL;
    long index = ctki_config_index (config, pid);
    if (index < 0) {
        ctki_error_set (error, EHOSTUNREACH, "pid %d is not in the config: add it to \"Servers\"", (int) pid);
        return NULL;
    }
    int cancel = ctki_cancel_disable ();
    ctalk_server_t *server = NULL;
    if (check_fds (pid, ctki_config_count (config) - 1, ctki_config_options (config)->lazy, error) == 0)
        server = make (pid, config, (size_t) index, error);
    ctki_cancel_restore (cancel);
    return server;
}

/* ---- closing */

/* In a child process: no thread of the server is here, and its locks may be
 * held by threads that are not. Only what nobody else can have been changing
 * is freed; descriptors stay as they are, they are the parent's. */
static void forget (ctalk_server_t **server_p)
{
    ctalk_server_t *server = *server_p;
    *server_p = NULL;
    ctalk_config_destroy (&server->config);
    ctki_free (server);
}

int ctalk_server_close (ctalk_server_t **server_p, int timeout_ms)
{
    if (timeout_ms < -1)
        return ctki_fail (EINVAL);
    if (!server_p || !*server_p)
        return 0;
    ctalk_server_t *server = *server_p;
    if (server->generation != ctki_fork_generation ()) {
        forget (server_p);
        return 0;
    }
    if (ctki_hall_me (&server->node.hall))
        return ctki_fail (EDEADLK);
    int cancel = ctki_cancel_disable ();
    int64_t deadline_us = ctki_deadline_us (timeout_ms);
    ctki_calls_refuse (&server->calls);
    ctki_hall_close (&server->node.hall);
    ctki_outbox_close (&server->node.outbox);
    ctki_inbox_close (&server->node.inbox);
    ctki_gate_open (&server->node.changed);
    ctki_calls_await (&server->calls);
    ctki_hall_join (&server->node.hall);
    *server_p = NULL;
    ctki_router_drain (server->router, deadline_us);
    uint64_t abandoned = unmake (server);
    unref_process ();
    ctki_calls_await (&server->calls); /* those that came while it was closing: they look at it, too, before they fail */
    ctalk_config_destroy (&server->config);
    pthread_mutex_destroy (&server->members);
    ctki_free (server);
    ctki_cancel_restore (cancel);
    return (int) CTKI_MIN (abandoned, (uint64_t) INT_MAX);
}

/* ---- who it is, and what its calls share */

ctalk_pid_t ctalk_server_pid (const ctalk_server_t *server)
{
    return server ? server->node.setup.self : ctki_fail (EINVAL);
}

const char *ctalk_server_endpoint (const ctalk_server_t *server)
{
    if (!server) {
        errno = EINVAL;
        return NULL;
    }
    return ctki_router_endpoint (server->router);
}

ctki_peer_t *ctki_server_find (ctalk_server_t *server, ctalk_pid_t pid)
{
    ctki_outbox_t *outbox = &server->node.outbox;
    ctki_outbox_lock (outbox);
    ctki_peer_t *peer = pid == outbox->self->pid ? outbox->self : NULL;
    if (!peer && pid >= 0)
        peer = ctki_route_find (&outbox->route, pid, 0);
    if (peer)
        ctki_peer_hold (peer);
    ctki_outbox_unlock (outbox);
    if (!peer && pid < 0)
        errno = EHOSTUNREACH;
    return peer;
}

int ctki_server_await (ctalk_server_t *server, int timeout_ms, int (*done) (ctalk_server_t *server, void *arg), void *arg)
{
    ctki_gate_t *gate = &server->node.changed;
    int64_t deadline_us = ctki_deadline_us (timeout_ms);
    for (;;) {
        unsigned ticket = ctki_gate_ticket (gate);
        int rc = atomic_load (&server->calls.closing) ? ESHUTDOWN : done (server, arg);
        if (rc != EAGAIN) {
            ctki_gate_leave (gate);
            return rc ? ctki_fail (rc) : 0;
        }
        rc = ctki_gate_wait (gate, ticket, deadline_us);
        if (rc)
            return rc == EAGAIN && done (server, arg) == 0 ? 0 : ctki_fail (rc);
    }
}
