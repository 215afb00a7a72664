/*
 * server.c - the public calls on a server: the facade over the actors and the
 * config. It owns the node and the router; close waits for the calls that are
 * under way; and a server knows whether it is a copy in a child process.
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
#include "src/ways.h"

enum {
    POOL_BLOCKS = 64,        /* free blocks that a server keeps */
    FDS_SERVER = 16,         /* descriptors that a server needs at most, ... */
    FDS_SENDER = 8,          /* ... and each eager sender, ... */
    FDS_LAZY = 2,            /* ... and all lazy ones, to begin with */
    REMOVE_MS = 100,         /* how long a removed peer is told so */
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
    if (ctki_hall_me () && ctki_hall_me ()->server == server)
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

/* ---- who is there */

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

/* The record of a peer with a reference, made if need be; the own one among
 * them. NULL: errno. */
static ctki_peer_t *find (ctalk_server_t *server, ctalk_pid_t pid)
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

uint64_t ctalk_server_incarnation (ctalk_server_t *server, ctalk_pid_t pid)
{
    int cancel;
    if (ctki_server_enter_uncancelled (server, &cancel))
        return 0;
    ctki_peer_t *peer = find (server, pid);
    uint64_t incarnation = peer ? ctki_counted (&peer->incarnation) : 0;
    ctki_peer_release (peer);
    ctki_server_leave_uncancelled (server, cancel);
    return incarnation;
}

static int list (ctalk_server_t *server, ctalk_pid_t self, ctalk_pid_t *pids, size_t capacity)
{
    if (!pids && capacity > 0)
        return ctki_fail (EINVAL);
    int cancel;
    if (ctki_server_enter_uncancelled (server, &cancel))
        return -1;
    ctki_outbox_lock (&server->node.outbox);
    size_t count = ctki_route_pids (&server->node.outbox.route, self, pids, capacity);
    ctki_outbox_unlock (&server->node.outbox);
    ctki_server_leave_uncancelled (server, cancel);
    return (int) count;
}

int ctalk_server_peers (ctalk_server_t *server, ctalk_pid_t *pids, size_t capacity)
{
    return list (server, -1, pids, capacity);
}

int ctalk_server_members (ctalk_server_t *server, ctalk_pid_t *pids, size_t capacity)
{
    return server ? list (server, server->node.setup.self, pids, capacity) : ctki_fail (EINVAL);
}

int ctalk_server_peer_state (ctalk_server_t *server, ctalk_pid_t pid)
{
    int cancel;
    if (ctki_server_enter_uncancelled (server, &cancel))
        return -1;
    ctki_peer_t *peer = find (server, pid);
    int state = peer ? atomic_load (&peer->state) : -1;
    ctki_peer_release (peer);
    ctki_server_leave_uncancelled (server, cancel);
    return state;
}

/* ---- what a peer's figures are, and what removed ones leave */

static void add_stats (ctki_peer_t *peer, void *arg)
{
    ctalk_stats_t *stats = arg;
    uint64_t delivered = ctki_counted (&peer->delivered), abandoned = ctki_counted (&peer->abandoned);
    uint64_t consumed = ctki_counted (&peer->consumed) + ctki_counted (&peer->consumed_by_actors);
    uint64_t lost = ctki_counted (&peer->no_such_actor);
    uint64_t accepted = ctki_counted (&peer->accepted), received = ctki_counted (&peer->received);
    stats->accepted += accepted;
    stats->delivered += delivered;
    stats->abandoned += abandoned;
    stats->in_doubt += ctki_counted (&peer->in_doubt);
    stats->queued += accepted - delivered - abandoned;
    stats->queued_bytes += accepted - delivered - abandoned ? ctki_peer_queued_bytes (peer) : 0;
    stats->skipped += ctki_counted (&peer->skipped);
    stats->refused_full += ctki_counted (&peer->refused_full);
    stats->refused_not_up += ctki_counted (&peer->refused_not_up);
    stats->received += received;
    stats->consumed += consumed;
    stats->no_such_actor += lost;
    stats->in_inbox += received - consumed - lost;
    stats->duplicates += ctki_counted (&peer->duplicates);
    stats->malformed += ctki_counted (&peer->malformed);
    stats->retransmitted += ctki_counted (&peer->retransmitted);
    stats->reconnects += ctki_counted (&peer->reconnects);
    stats->rtt_us = CTKI_MAX (stats->rtt_us, ctki_counted (&peer->rtt_us));
    stats->rtt_worst_us = CTKI_MAX (stats->rtt_worst_us, ctki_counted (&peer->rtt_worst_us));
    stats->rebuilt += ctki_counted (&peer->rebuilt);
    stats->restarts += ctki_counted (&peer->restarts);
}

/* Every field is a sum but the round trip, of which the worst counts. */
static void add_sums (ctalk_stats_t *stats, const ctalk_stats_t *more)
{
    uint64_t rtt_us = CTKI_MAX (stats->rtt_us, more->rtt_us);
    uint64_t worst_us = CTKI_MAX (stats->rtt_worst_us, more->rtt_worst_us);
    uint64_t *to = (uint64_t *) stats;
    const uint64_t *from = (const uint64_t *) more;
    for (size_t i = 0; i < sizeof *stats / sizeof *to; i++)
        to[i] += from[i];
    stats->rtt_us = rtt_us;
    stats->rtt_worst_us = worst_us;
}

/* Removed peers that nobody holds any more are summed up and freed. With the
 * outbox locked. */
static void fold_gone (ctki_node_t *node)
{
    for (ctki_peer_t **link = &node->gone; *link;) {
        ctki_peer_t *peer = *link;
        if (atomic_load (&peer->refs) > 1) {
            link = &peer->gone_next;
            continue;
        }
        *link = peer->gone_next;
        add_stats (peer, &node->gone_sums);
        ctki_peer_release (peer);
    }
}

/* Takes over the reference of a peer that was removed. */
static void remember (ctki_node_t *node, ctki_peer_t *peer)
{
    ctki_outbox_lock (&node->outbox);
    peer->gone_next = node->gone;
    node->gone = peer;
    fold_gone (node);
    ctki_outbox_unlock (&node->outbox);
}

/* ---- members come and go */

static void count_cut (ctki_peer_t *peer, void *arg)
{
    const ctki_ways_t *ways = atomic_load (&peer->ways);
    *(unsigned *) arg += ways && (ways->cut & CTALK_OUT);
}

/* With the outbox locked. */
static void count_cuts (ctki_node_t *node)
{
    unsigned cuts = 0;
    ctki_route_each (&node->outbox.route, count_cut, &cuts);
    atomic_store (&node->cuts, cuts);
}

/* With the outbox locked: a peer with this endpoint. A reference; NULL: errno. */
static ctki_peer_t *insert (ctki_outbox_t *outbox, ctalk_pid_t pid, const char *endpoint)
{
    ctki_peer_t *peer;
    if (!ctki_route_has (&outbox->route, pid)) {
        peer = ctki_peer_new (pid, endpoint, ctki_now_us ());
        if (peer && ctki_route_add (&outbox->route, peer)) {
            ctki_peer_release (peer);
            peer = NULL;
        }
    } else {
        peer = ctki_route_find (&outbox->route, pid, 0);
        if (peer && peer->endpoint) {
            errno = EEXIST;
            return NULL;
        }
        if (peer && !(peer->endpoint = ctki_strdup (endpoint)))
            peer = NULL;
    }
    if (peer)
        ctki_peer_hold (peer);
    return peer;
}

/* Takes a member out, with all that concerns it. Returns whether it was one. */
static bool take_out (ctalk_server_t *server, ctalk_pid_t pid)
{
    ctki_outbox_t *outbox = &server->node.outbox;
    ctki_outbox_lock (outbox);
    bool known = ctki_route_has (&outbox->route, pid);
    ctki_peer_t *peer = ctki_route_remove (&outbox->route, pid);
    if (peer)
        ctki_outbox_drop (outbox, peer);
    count_cuts (&server->node);
    ctki_outbox_unlock (outbox);
    if (peer) {
        ctki_router_remove (server->router, peer, ctki_now_us () + REMOVE_MS * CTKI_MS);
        remember (&server->node, peer);
    }
    ctki_gate_open (&server->node.changed);
    return known;
}

/* A peer whose sender could not be started is not added; one that was listed
 * without a port is listed so again. */
static void undo_add (ctalk_server_t *server, ctalk_pid_t pid, bool listed)
{
    ctki_outbox_t *outbox = &server->node.outbox;
    take_out (server, pid);
    if (!listed)
        return;
    ctki_peer_t *again = ctki_peer_new (pid, NULL, ctki_now_us ());
    ctki_outbox_lock (outbox);
    if (again && ctki_route_add (&outbox->route, again))
        ctki_peer_release (again);
    ctki_outbox_unlock (outbox);
}

static int add_peer (ctalk_server_t *server, ctalk_pid_t pid, const char *endpoint)
{
    ctki_outbox_t *outbox = &server->node.outbox;
    ctki_outbox_lock (outbox);
    bool listed = ctki_route_has (&outbox->route, pid);
    ctki_peer_t *peer = insert (outbox, pid, endpoint);
    ctki_outbox_unlock (outbox);
    if (!peer)
        return -1;
    int rc = 0;
    bool started = atomic_load (&peer->state) != CTALK_STATE_IDLE;
    if (!server->node.lazy || started)
        rc = ctki_router_start_sender (server->router, peer, NULL);
    ctki_peer_release (peer);
    if (rc) {
        int code = errno;
        undo_add (server, pid, listed);
        errno = code;
    }
    return rc;
}

int ctalk_server_add_peer (ctalk_server_t *server, ctalk_pid_t pid, const char *endpoint)
{
    ctki_endpoint_t parsed;
    if (!server || pid < 0 || pid == server->node.setup.self || !endpoint
        || ctki_endpoint_parse (&parsed, endpoint, strlen (endpoint), CTKI_FOR_CONNECT)
        || !ctki_endpoint_dialable (&parsed))
        return ctki_fail (EINVAL);
    int cancel;
    if (ctki_server_enter_uncancelled (server, &cancel))
        return -1;
    pthread_mutex_lock (&server->members);
    int rc = add_peer (server, pid, parsed.text);
    pthread_mutex_unlock (&server->members);
    int code = errno;
    ctki_server_leave_uncancelled (server, cancel);
    errno = code;
    return rc;
}

int ctalk_server_remove_peer (ctalk_server_t *server, ctalk_pid_t pid)
{
    if (!server || pid < 0 || pid == server->node.setup.self)
        return ctki_fail (EINVAL);
    int cancel;
    if (ctki_server_enter_uncancelled (server, &cancel))
        return -1;
    pthread_mutex_lock (&server->members);
    bool known = take_out (server, pid);
    pthread_mutex_unlock (&server->members);
    ctki_server_leave_uncancelled (server, cancel);
    return known ? 0 : ctki_fail (ESRCH);
}

/* ---- waiting */

/* Waits until done (arg) says 0 or an errno but EAGAIN. */
static int await (ctalk_server_t *server, int timeout_ms, int (*done) (ctalk_server_t *server, void *arg), void *arg)
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

typedef struct {
    size_t wanted;
    size_t up;
} up_t;

static void count_up (ctki_peer_t *peer, void *arg)
{
    ((up_t *) arg)->up += atomic_load (&peer->state) == CTALK_STATE_UP;
}

static int enough_up (ctalk_server_t *server, void *arg)
{
    up_t *up = arg;
    ctki_outbox_t *outbox = &server->node.outbox;
    up->up = 0;
    ctki_outbox_lock (outbox);
    size_t peers = ctki_route_count (&outbox->route);
    ctki_route_each (&outbox->route, count_up, up);
    ctki_outbox_unlock (outbox);
    size_t wanted = up->wanted == SIZE_MAX ? peers : up->wanted;
    return wanted > peers ? EINVAL : up->up >= wanted ? 0 : EAGAIN;
}

int ctalk_server_wait_up (ctalk_server_t *server, size_t peers, int timeout_ms)
{
    up_t up = {.wanted = peers};
    if (timeout_ms < -1)
        return ctki_fail (EINVAL);
    int cancel;
    if (ctki_server_enter_uncancelled (server, &cancel))
        return -1;
    if (server->node.lazy)
        ctki_router_start_all (server->router);
    int rc = await (server, timeout_ms, enough_up, &up);
    int code = errno;
    ctki_server_leave_uncancelled (server, cancel);
    errno = code;
    return rc;
}

/* What a flush waits for at one peer. */
typedef struct {
    ctki_peer_t *peer;
    uint64_t accepted, abandoned;
} goal_t;

typedef struct {
    size_t count, done;
    goal_t *goal;
} goals_t;

static int reached (ctalk_server_t *server, void *arg)
{
    goals_t *goals = arg;
    for (; goals->done < goals->count; goals->done++) {
        goal_t *goal = &goals->goal[goals->done];
        ctki_outbox_lock (&server->node.outbox);
        bool removed = goal->peer->removed;
        ctki_outbox_unlock (&server->node.outbox);
        if (removed)
            return EHOSTUNREACH;
        if (ctki_counted (&goal->peer->abandoned) != goal->abandoned)
            return ECONNABORTED;
        if (ctki_counted (&goal->peer->delivered) + goal->abandoned < goal->accepted)
            return EAGAIN;
    }
    return 0;
}

static void set_goal (goals_t *goals, ctki_peer_t *peer)
{
    ctki_peer_hold (peer);
    goals->goal[goals->count++] = (goal_t) {.peer = peer,
                                            .accepted = ctki_counted (&peer->accepted),
                                            .abandoned = ctki_counted (&peer->abandoned)};
}

static void add_goal (ctki_peer_t *peer, void *arg)
{
    set_goal (arg, peer);
}

/* With the outbox locked. 0, or an errno. */
static int set_goals (ctki_outbox_t *outbox, ctalk_pid_t pid, goals_t *goals)
{
    bool all = pid == CTALK_BROADCAST;
    if (!all && pid != outbox->self->pid && (pid < 0 || !ctki_route_has (&outbox->route, pid)))
        return EHOSTUNREACH;
    goals->goal = ctki_alloc ((all ? ctki_route_count (&outbox->route) + 1 : 1) * sizeof *goals->goal);
    if (!goals->goal)
        return ENOMEM;
    ctki_peer_t *one = all || pid == outbox->self->pid ? NULL : ctki_route_peek (&outbox->route, pid);
    if (all)
        ctki_route_each (&outbox->route, add_goal, goals);
    else if (one) /* else nothing was ever sent to it */
        set_goal (goals, one);
    return 0;
}

static int flush (ctalk_server_t *server, ctalk_pid_t pid, int timeout_ms)
{
    goals_t goals = {0};
    ctki_outbox_lock (&server->node.outbox);
    int rc = set_goals (&server->node.outbox, pid, &goals);
    ctki_outbox_unlock (&server->node.outbox);
    if (rc == 0 && (rc = reached (server, &goals)) == EAGAIN && timeout_ms != 0) {
        ctki_router_flush (server->router, pid == CTALK_BROADCAST ? NULL : goals.goal[0].peer);
        rc = await (server, timeout_ms, reached, &goals) ? errno : 0;
    }
    for (size_t i = 0; i < goals.count; i++)
        ctki_peer_release (goals.goal[i].peer);
    ctki_free (goals.goal);
    return rc ? ctki_fail (rc) : 0;
}

int ctalk_server_flush (ctalk_server_t *server, ctalk_pid_t peer, int timeout_ms)
{
    if (timeout_ms < -1)
        return ctki_fail (EINVAL);
    int cancel;
    if (ctki_server_enter_uncancelled (server, &cancel))
        return -1;
    int rc = flush (server, peer, timeout_ms);
    int code = errno;
    ctki_server_leave_uncancelled (server, cancel);
    errno = code;
    return rc;
}

int ctalk_server_fd (ctalk_server_t *server)
{
    int cancel;
    if (ctki_server_enter_uncancelled (server, &cancel))
        return -1;
    int fd = ctki_inbox_fd (&server->node.inbox);
    ctki_server_leave_uncancelled (server, cancel);
    return fd;
}

int ctalk_server_wake (ctalk_server_t *server)
{
    if (!server)
        return ctki_fail (EINVAL);
    ctki_inbox_wake (&server->node.inbox);
    return 0;
}

int ctalk_server_watch_peers (ctalk_server_t *server, bool on)
{
    int cancel;
    if (ctki_server_enter_uncancelled (server, &cancel))
        return -1;
    int rc = ctki_router_watch (server->router, on);
    ctki_server_leave_uncancelled (server, cancel);
    return rc ? ctki_fail (rc) : 0;
}

/* ---- bad ways, for tests */

/* What is to be done to the ways of one peer. */
typedef struct {
    unsigned directions;
    bool cuts, on;                 /* cut or heal, ... */
    const ctalk_impairment_t *how; /* ... or impair */
} change_t;

static int change_one (ctalk_server_t *server, ctki_peer_t *peer, const change_t *change)
{
    int rc = change->cuts ? ctki_ways_cut (peer, change->directions, change->on)
                          : ctki_ways_impair (peer, change->directions, change->how);
    if (rc == 0)
        ctki_router_heal (server->router, peer);
    return rc;
}

/* With the outbox locked. 0, or an errno. */
static int change_ways (ctalk_server_t *server, ctalk_pid_t pid, const change_t *change)
{
    ctki_route_t *route = &server->node.outbox.route;
    if (pid != CTALK_BROADCAST) {
        ctki_peer_t *peer = pid < 0 ? NULL : ctki_route_find (route, pid, 0);
        return !peer ? (pid < 0 ? EHOSTUNREACH : errno) : change_one (server, peer, change) ? ENOMEM : 0;
    }
    ctki_crowd_t *all = ctki_route_everybody (route, 0);
    int rc = all ? 0 : ENOMEM;
    for (size_t i = 0; all && rc == 0 && i < all->count; i++)
        rc = change_one (server, all->peer[i], change) ? ENOMEM : 0;
    return rc;
}

static int change (ctalk_server_t *server, ctalk_pid_t pid, const change_t *change)
{
    if (!server || change->directions == 0 || (change->directions & ~(unsigned) (CTALK_IN | CTALK_OUT))
        || pid == server->node.setup.self)
        return ctki_fail (EINVAL);
    int cancel;
    if (ctki_server_enter_uncancelled (server, &cancel))
        return -1;
    ctki_outbox_lock (&server->node.outbox);
    int rc = change_ways (server, pid, change);
    count_cuts (&server->node);
    ctki_outbox_unlock (&server->node.outbox);
    ctki_server_leave_uncancelled (server, cancel);
    return rc ? ctki_fail (rc) : 0;
}

int ctalk_server_cut (ctalk_server_t *server, ctalk_pid_t peer, int directions, bool on)
{
    change_t cut = {.directions = (unsigned) directions, .cuts = true, .on = on};
    return change (server, peer, &cut);
}

int ctalk_server_impair (ctalk_server_t *server, ctalk_pid_t peer, int directions, const ctalk_impairment_t *how)
{
    change_t impair = {.directions = (unsigned) directions, .how = how};
    if (how && !ctki_fault_valid (how))
        return ctki_fail (EINVAL);
    return change (server, peer, &impair);
}

/* ---- sending and receiving */

/* Those for actors and calls pass the hall. */
static int send_one (ctalk_server_t *server, const ctalk_envelope_t *envelope, int timeout_ms)
{
    if (CTKI_LIKELY (!envelope->to))
        return ctki_outbox_send (&server->node.outbox, envelope, 1, NULL, timeout_ms) < 0 ? -1 : 0;
    int cancel = ctki_cancel_disable ();
    int rc = ctki_hall_pass (&server->node.hall, envelope, timeout_ms, NULL);
    ctki_cancel_restore (cancel);
    return rc ? ctki_fail (rc) : 0;
}

static bool any_for_actors (const ctalk_envelope_t *envelopes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (envelopes[i].to)
            return true;
    }
    return false;
}

static int send_each (ctalk_server_t *server, const ctalk_envelope_t *envelopes, size_t count, int timeout_ms)
{
    int64_t deadline_us = ctki_deadline_us (timeout_ms);
    size_t sent = 0;
    while (sent < count && send_one (server, &envelopes[sent], ctki_left_ms (timeout_ms, deadline_us)) == 0)
        sent++;
    return sent > 0 ? (int) sent : -1;
}

int ctalk_send_many (ctalk_server_t *server, const ctalk_envelope_t *envelopes, size_t count, int timeout_ms)
{
    if (CTKI_UNLIKELY ((!envelopes && count > 0) || timeout_ms < -1))
        return ctki_fail (EINVAL);
    int cancel;
    if (ctki_server_enter_uncancelled (server, &cancel))
        return -1;
    count = CTKI_MIN (count, (size_t) INT_MAX);
    int sent = any_for_actors (envelopes, count)
                   ? send_each (server, envelopes, count, timeout_ms)
                   : ctki_outbox_send (&server->node.outbox, envelopes, count, NULL, timeout_ms);
    ctki_server_leave_uncancelled (server, cancel);
    return sent;
}

int ctalk_send (ctalk_server_t *server, const ctalk_envelope_t *envelope, int timeout_ms)
{
    if (CTKI_UNLIKELY (!envelope || timeout_ms < -1))
        return ctki_fail (EINVAL);
    if (CTKI_UNLIKELY (ctki_server_enter (server)))
        return -1;
    int rc = send_one (server, envelope, timeout_ms);
    ctki_server_leave (server);
    return rc;
}

/* Small, or to oneself: copied, and given back at once. */
static int send_copy (ctalk_server_t *server, const ctalk_envelope_t *envelope, void (*free_fn) (void *, void *),
                      void *hint, int timeout_ms)
{
    if (send_one (server, envelope, timeout_ms))
        return -1;
    if (free_fn)
        free_fn ((void *) (uintptr_t) envelope->data, hint);
    return 0;
}

static int send_owned (ctalk_server_t *server, const ctalk_envelope_t *envelope, void (*free_fn) (void *, void *),
                       void *hint, int timeout_ms)
{
    if (!envelope->data || envelope->size < CTKI_LARGE_BYTES || envelope->pid == server->node.setup.self)
        return send_copy (server, envelope, free_fn, hint, timeout_ms);
    ctki_buf_t *body = ctki_buf_own (envelope->data, envelope->size, free_fn, hint, &server->node.limbo);
    if (!body)
        return ctki_fail (ENOMEM);
    if (ctki_outbox_send (&server->node.outbox, envelope, 1, body, timeout_ms) < 0) {
        ctki_buf_disown (body);
        return -1;
    }
    ctki_hall_sent (&server->node.hall, envelope);
    ctki_limbo_sweep (&server->node.limbo); /* a broadcast to nobody is done with already */
    return 0;
}

int ctalk_send_owned (ctalk_server_t *server, const ctalk_envelope_t *envelope, void (*free_fn) (void *, void *),
                      void *hint, int timeout_ms)
{
    if (!envelope || timeout_ms < -1)
        return ctki_fail (EINVAL);
    int cancel;
    if (ctki_server_enter_uncancelled (server, &cancel))
        return -1;
    int rc = send_owned (server, envelope, free_fn, hint, timeout_ms);
    int code = errno;
    ctki_server_leave_uncancelled (server, cancel);
    errno = code;
    return rc;
}

static inline int receive (ctalk_server_t *server, ctalk_envelope_t *envelopes, size_t capacity, int timeout_ms)
{
    uint64_t local_charge = 0;
    if (CTKI_UNLIKELY (!envelopes || capacity == 0 || timeout_ms < -1))
        return ctki_fail (EINVAL);
    if (CTKI_UNLIKELY (ctki_server_enter (server)))
        return -1;
    int taken = ctki_inbox_take (&server->node.inbox, envelopes, CTKI_MIN (capacity, (size_t) INT_MAX), timeout_ms,
                                 &local_charge);
    if (CTKI_UNLIKELY (local_charge > 0))
        ctki_outbox_settled (&server->node.outbox, server->node.outbox.self, (int64_t) local_charge);
    ctki_server_leave (server);
    return taken;
}

int ctalk_recv_many (ctalk_server_t *server, ctalk_envelope_t *envelopes, size_t capacity, int timeout_ms)
{
    return receive (server, envelopes, capacity, timeout_ms);
}

int ctalk_recv (ctalk_server_t *server, ctalk_envelope_t *envelope, int timeout_ms)
{
    if (CTKI_LIKELY (receive (server, envelope, 1, timeout_ms) == 1))
        return 0;
    if (envelope)
        memset (envelope, 0, sizeof *envelope);
    return -1;
}

void ctalk_envelope_close (ctalk_envelope_t *envelope)
{
    if (!envelope)
        return;
    if (envelope->lease)
        ctki_buf_release (envelope->lease, 1);
    memset (envelope, 0, sizeof *envelope);
}

/* ---- figures */

static void add_totals (ctalk_server_t *server, ctalk_stats_t *stats)
{
    ctki_node_t *node = &server->node;
    ctki_outbox_t *outbox = &node->outbox;
    ctki_outbox_lock (outbox);
    ctki_route_each (&outbox->route, add_stats, stats);
    add_stats (outbox->self, stats);
    fold_gone (node);
    for (ctki_peer_t *peer = node->gone; peer; peer = peer->gone_next)
        add_stats (peer, stats);
    add_sums (stats, &node->gone_sums);
    ctki_outbox_unlock (outbox);
    ctki_hall_stats (&node->hall, stats); /* its lock stands above the outbox's */
    stats->refused_full += ctki_counted (&outbox->refused_full);
    stats->refused_not_up += ctki_counted (&outbox->refused_not_up);
    stats->refused_too_big = ctki_counted (&outbox->refused_too_big);
    stats->refused_unreachable = ctki_counted (&outbox->refused_unreachable);
    stats->refused_invalid = ctki_counted (&outbox->refused_invalid);
    stats->refused_shutdown = ctki_counted (&outbox->refused_shutdown);
    stats->refused_memory = ctki_counted (&outbox->refused_memory);
    stats->refused_interrupted = ctki_counted (&outbox->refused_interrupted);
    stats->malformed += ctki_counted (&node->malformed);
    stats->routed = ctki_counted (&node->routed);
    stats->rung = ctki_counted (&outbox->rung);
    stats->helped = ctki_counted (&server->node.helped);
    stats->led = ctki_counted (&server->node.led);
}

static int one_stats (ctalk_server_t *server, ctalk_pid_t pid, ctalk_stats_t *stats)
{
    ctki_peer_t *peer = find (server, pid);
    if (!peer)
        return -1;
    int64_t since_us = atomic_load (&peer->state_since_us);
    since_us = since_us ? since_us : server->node.started_us;
    add_stats (peer, stats);
    if (peer == server->node.outbox.self)
        ctki_hall_stats (&server->node.hall, stats);
    stats->state = (uint64_t) atomic_load (&peer->state);
    stats->state_since_ms = (uint64_t) ((ctki_now_us () - since_us) / CTKI_MS);
    stats->reason = atomic_load (&peer->reason);
    stats->stuck_ms = ctki_counted (&peer->stuck_ms);
    ctki_peer_release (peer);
    return 0;
}

int ctalk_server_stats (ctalk_server_t *server, ctalk_pid_t peer, ctalk_stats_t *stats)
{
    if (!stats)
        return ctki_fail (EINVAL);
    memset (stats, 0, sizeof *stats);
    int cancel;
    if (ctki_server_enter_uncancelled (server, &cancel))
        return -1;
    int rc = 0;
    if (peer == CTALK_BROADCAST)
        add_totals (server, stats);
    else
        rc = one_stats (server, peer, stats);
    int code = errno;
    ctki_server_leave_uncancelled (server, cancel);
    errno = code;
    return rc;
}
