/*
 * server_messages.c - the public calls that send and receive. See server.h.
 */
#include <clustertalk.h>

#include <errno.h>

#include "src/mem.h"
#include "src/server.h"

/* ---- sending */

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

/* ---- until it has arrived */

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
        rc = ctki_server_await (server, timeout_ms, reached, &goals) ? errno : 0;
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

/* ---- receiving */

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
