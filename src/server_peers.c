/*
 * server_peers.c - the public calls about the other servers: who is there, who
 * comes and goes, who is up, and bad ways to them, for tests. See server.h.
 */
#include <clustertalk.h>

#include <errno.h>

#include "src/mem.h"
#include "src/server.h"
#include "src/ways.h"

enum { REMOVE_MS = 100 }; /* how long a removed peer is told so */

/* ---- who is there */

uint64_t ctalk_server_incarnation (ctalk_server_t *server, ctalk_pid_t pid)
{
    int cancel;
    if (ctki_server_enter_uncancelled (server, &cancel))
        return 0;
    ctki_peer_t *peer = ctki_server_find (server, pid);
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
    ctki_peer_t *peer = ctki_server_find (server, pid);
    int state = peer ? atomic_load (&peer->state) : -1;
    ctki_peer_release (peer);
    ctki_server_leave_uncancelled (server, cancel);
    return state;
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
        ctki_server_remember (&server->node, peer);
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

/* ---- waiting for them */

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
    int rc = ctki_server_await (server, timeout_ms, enough_up, &up);
    int code = errno;
    ctki_server_leave_uncancelled (server, cancel);
    errno = code;
    return rc;
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
