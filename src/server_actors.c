/*
 * server_actors.c - the public calls on actors, calls and groups: arguments are
 * checked here, the work is the hall's. A call of an actor counts as one under
 * way on its server, as every other.
 */
#include <clustertalk.h>

#include "src/mem.h"
#include "src/server.h"

/* The end of a call with what came of it: 0 or an errno. */
static int done (ctalk_server_t *server, int cancel, int rc)
{
    ctki_server_leave_uncancelled (server, cancel);
    return rc ? ctki_fail (rc) : 0;
}

static uint64_t none (int code)
{
    errno = code;
    return 0;
}

/* ---- who there is */

uint64_t ctki_server_spawn (ctalk_server_t *server, const char *name, ctalk_actor_fn *fn, void *arg, uint64_t *serial)
{
    int cancel;
    if (!fn || (name && ctki_name_length (name) == 0))
        return none (EINVAL);
    if (ctki_server_enter_uncancelled (server, &cancel))
        return 0;
    uint64_t id = ctki_hall_spawn (&server->node.hall, server, name, fn, arg, serial);
    int code = errno;
    ctki_server_leave_uncancelled (server, cancel);
    return id ? id : none (code);
}

uint64_t ctalk_actor_spawn (ctalk_server_t *server, const char *name, ctalk_actor_fn *fn, void *arg)
{
    return ctki_server_spawn (server, name, fn, arg, NULL);
}

uint64_t ctalk_actor_named (const char *name)
{
    size_t length = ctki_name_length (name);
    return length ? ctki_name_hash (name, length) | CTKI_ID_NAMED : none (EINVAL);
}

uint64_t ctalk_actor_id (const ctalk_actor_t *self)
{
    return self ? self->id : none (EINVAL);
}

ctalk_server_t *ctalk_actor_server (const ctalk_actor_t *self)
{
    if (!self)
        errno = EINVAL;
    return self ? self->server : NULL;
}

int ctki_server_stop (ctalk_server_t *server, uint64_t actor, uint64_t serial, int timeout_ms)
{
    int cancel;
    if (timeout_ms < -1 || !actor)
        return ctki_fail (EINVAL);
    if (ctki_server_enter_uncancelled (server, &cancel))
        return -1;
    return done (server, cancel, ctki_hall_stop (&server->node.hall, actor, serial, timeout_ms));
}

int ctalk_actor_stop (ctalk_server_t *server, uint64_t actor, int timeout_ms)
{
    return ctki_server_stop (server, actor, 0, timeout_ms);
}

int ctalk_actor_set_mailbox (ctalk_actor_t *self, size_t bytes)
{
    if (!self || bytes == 0)
        return ctki_fail (EINVAL);
    if (self->server->generation != ctki_fork_generation_now ())
        return ctki_fail (EOWNERDEAD);
    ctki_mail_set_limit (self, bytes);
    return 0;
}

/* ---- receiving */

/* An actor of a server that closes is told so by its mailbox: it need not enter. */
static int receive (ctalk_actor_t *self, bool (*match) (const ctalk_envelope_t *envelope, void *arg), void *arg,
                    ctalk_envelope_t *envelope, int timeout_ms)
{
    bool dead = self && self->server->generation != ctki_fork_generation_now ();
    int rc = !self || !envelope || timeout_ms < -1 ? EINVAL
             : dead                                ? EOWNERDEAD
                                                   : ctki_mail_take (self, match, arg, envelope, timeout_ms);
    if (rc == 0)
        return 0;
    if (envelope)
        memset (envelope, 0, sizeof *envelope);
    return ctki_fail (rc);
}

int ctalk_actor_recv_match (ctalk_actor_t *self, bool (*match) (const ctalk_envelope_t *envelope, void *arg), void *arg,
                            ctalk_envelope_t *envelope, int timeout_ms)
{
    return receive (match ? self : NULL, match, arg, envelope, timeout_ms);
}

int ctalk_actor_recv (ctalk_actor_t *self, ctalk_envelope_t *envelope, int timeout_ms)
{
    return receive (self, NULL, NULL, envelope, timeout_ms);
}

/* ---- sending */

int ctalk_actor_send (ctalk_actor_t *self, const ctalk_envelope_t *envelope, int timeout_ms)
{
    if (!self || !envelope || timeout_ms < -1)
        return ctki_fail (EINVAL);
    if (ctki_server_enter (self->server))
        return -1;
    ctalk_envelope_t copy = *envelope;
    copy.from = self->id;
    int rc = ctki_hall_pass (self->hall, &copy, timeout_ms, NULL);
    ctki_server_leave (self->server);
    return rc ? ctki_fail (rc) : 0;
}

/* An answer goes to where the request came from. 0, or an errno. */
static int reply_from (ctalk_server_t *server, uint64_t from, const ctalk_envelope_t *request, const void *data,
                       size_t size, int timeout_ms)
{
    ctalk_envelope_t answer = {.pid = request->pid, .msg_id = request->msg_id, .data = data, .size = size,
                               .to = request->from, .from = from};
    return ctki_hall_pass (&server->node.hall, &answer, timeout_ms, NULL);
}

int ctalk_actor_reply (ctalk_actor_t *self, const ctalk_envelope_t *request, const void *data, size_t size,
                       int timeout_ms)
{
    if (!self || !request || request->kind != CTALK_MESSAGE || request->pid < 0 || timeout_ms < -1)
        return ctki_fail (EINVAL);
    if (ctki_server_enter (self->server))
        return -1;
    int rc = reply_from (self->server, self->id, request, data, size, timeout_ms);
    ctki_server_leave (self->server);
    return rc ? ctki_fail (rc) : 0;
}

int ctalk_reply (ctalk_server_t *server, const ctalk_envelope_t *request, const void *data, size_t size,
                 int timeout_ms)
{
    int cancel;
    if (!request || request->kind != CTALK_MESSAGE || request->pid < 0 || timeout_ms < -1)
        return ctki_fail (EINVAL);
    if (ctki_server_enter_uncancelled (server, &cancel))
        return -1;
    return done (server, cancel, reply_from (server, 0, request, data, size, timeout_ms));
}

/* ---- calls */

static bool is_request (const ctalk_envelope_t *request)
{
    return request && request->kind == CTALK_MESSAGE && !request->reserved && (request->data || request->size == 0);
}

int ctalk_call (ctalk_server_t *server, const ctalk_envelope_t *request, ctalk_envelope_t *reply, int timeout_ms)
{
    int cancel;
    if (reply)
        memset (reply, 0, sizeof *reply);
    if (!reply || !is_request (request) || request->pid < 0 || timeout_ms < -1)
        return ctki_fail (EINVAL);
    if (ctki_server_enter_uncancelled (server, &cancel))
        return -1;
    return done (server, cancel, ctki_hall_call (&server->node.hall, request, reply, timeout_ms));
}

int ctalk_actor_call (ctalk_actor_t *self, const ctalk_envelope_t *request, ctalk_envelope_t *reply, int timeout_ms)
{
    return ctalk_call (self ? self->server : NULL, request, reply, timeout_ms);
}

static int count_answers (const ctalk_answer_t *answers, size_t count)
{
    int answered = 0;
    for (size_t i = 0; i < count; i++)
        answered += answers[i].error == 0;
    return answered;
}

int ctalk_call_all (ctalk_server_t *server, const ctalk_envelope_t *request, ctalk_answer_t *answers, size_t count,
                    int timeout_ms)
{
    int cancel;
    if (!is_request (request) || (!answers && count > 0) || count > INT_MAX || timeout_ms < -1)
        return ctki_fail (EINVAL);
    for (size_t i = 0; i < count; i++) {
        if (answers[i].pid < 0)
            return ctki_fail (EINVAL);
        answers[i].error = 0;
        memset (&answers[i].reply, 0, sizeof answers[i].reply);
    }
    if (ctki_server_enter_uncancelled (server, &cancel))
        return -1;
    int rc = request->size > server->node.outbox.message_bytes
                 ? EMSGSIZE
                 : ctki_hall_call_all (&server->node.hall, request, answers, count, timeout_ms);
    if (done (server, cancel, rc))
        return -1;
    return count_answers (answers, count);
}

/* ---- monitors and timers */

int ctalk_actor_monitor (ctalk_actor_t *self, ctalk_pid_t pid, uint64_t actor)
{
    int cancel;
    if (!self || (pid == self->hall->self && (actor == 0 || actor == self->id))
        || (actor != 0 && !ctki_id_is_actor (actor)))
        return ctki_fail (EINVAL);
    if (ctki_server_enter_uncancelled (self->server, &cancel))
        return -1;
    bool start = self->server->node.lazy && actor == 0; /* else nothing is sent that would start it */
    int rc = start && ctki_router_start_soon (self->server->router, pid) ? ENOMEM : 0;
    return done (self->server, cancel, rc ? rc : ctki_hall_monitor (self, pid, actor));
}

int ctalk_actor_unmonitor (ctalk_actor_t *self, ctalk_pid_t pid, uint64_t actor)
{
    int cancel;
    if (!self)
        return ctki_fail (EINVAL);
    if (ctki_server_enter_uncancelled (self->server, &cancel))
        return -1;
    return done (self->server, cancel, ctki_hall_unmonitor (self, pid, actor));
}

uint64_t ctalk_actor_send_after (ctalk_actor_t *self, int delay_ms, const ctalk_envelope_t *envelope)
{
    int cancel;
    if (!self || !envelope || delay_ms < 0)
        return none (EINVAL);
    if (ctki_server_enter_uncancelled (self->server, &cancel))
        return 0;
    uint64_t id = ctki_hall_send_after (self, delay_ms, envelope);
    int code = errno;
    ctki_server_leave_uncancelled (self->server, cancel);
    return id ? id : none (code);
}

int ctalk_actor_cancel (ctalk_actor_t *self, uint64_t timer)
{
    int cancel;
    if (!self)
        return ctki_fail (EINVAL);
    if (ctki_server_enter_uncancelled (self->server, &cancel))
        return -1;
    return done (self->server, cancel, ctki_hall_cancel (self, timer));
}

/* ---- groups */

static int change_group (ctalk_actor_t *self, const char *group, int (*change) (ctalk_actor_t *actor, const char *name))
{
    int cancel;
    if (!self || ctki_name_length (group) == 0)
        return ctki_fail (EINVAL);
    if (ctki_server_enter_uncancelled (self->server, &cancel))
        return -1;
    return done (self->server, cancel, change (self, group));
}

int ctalk_group_join (ctalk_actor_t *self, const char *group)
{
    if (change_group (self, group, ctki_hall_join_group))
        return -1;
    if (self->server->node.lazy)
        ctki_router_start_all (self->server->router);
    return 0;
}

int ctalk_group_leave (ctalk_actor_t *self, const char *group)
{
    return change_group (self, group, ctki_hall_leave_group);
}

static int watch (ctalk_actor_t *actor, const char *name)
{
    return ctki_hall_watch_group (actor, name, true);
}

static int unwatch (ctalk_actor_t *actor, const char *name)
{
    return ctki_hall_watch_group (actor, name, false);
}

int ctalk_group_watch (ctalk_actor_t *self, const char *group, bool on)
{
    if (change_group (self, group, on ? watch : unwatch))
        return -1;
    if (on && self->server->node.lazy)
        ctki_router_start_all (self->server->router);
    return 0;
}

int ctalk_group_members (ctalk_server_t *server, const char *group, ctalk_address_t *members, size_t capacity)
{
    int cancel;
    if (ctki_name_length (group) == 0 || (!members && capacity > 0))
        return ctki_fail (EINVAL);
    if (ctki_server_enter_uncancelled (server, &cancel))
        return -1;
    int count = ctki_hall_members (&server->node.hall, group, members, capacity);
    ctki_server_leave_uncancelled (server, cancel);
    return count;
}

/* A copy of the list of members, and how many there are; -1: errno. */
static int list_members (ctki_hall_t *hall, const char *group, ctalk_address_t **members)
{
    size_t capacity = 0;
    for (;;) {
        int count = ctki_hall_members (hall, group, *members, capacity);
        if (count < 0 || (size_t) count <= capacity)
            return count;
        capacity = (size_t) count + 8;
        ctki_free (*members);
        if (!(*members = ctki_alloc (capacity * sizeof **members)))
            return ctki_fail (ENOMEM);
    }
}

static int send_to_members (ctki_hall_t *hall, const ctalk_address_t *members, size_t count,
                            const ctalk_envelope_t *envelope, int timeout_ms)
{
    int sent = 0, error = 0;
    int64_t deadline_us = ctki_deadline_us (timeout_ms);
    for (size_t i = 0; i < count; i++) {
        ctalk_envelope_t copy = *envelope;
        copy.pid = members[i].pid;
        copy.to = members[i].actor;
        int rc = ctki_hall_pass (hall, &copy, ctki_left_ms (timeout_ms, deadline_us), NULL);
        sent += rc == 0;
        error = rc ? rc : error;
    }
    errno = error;
    return sent > 0 || count == 0 ? sent : -1;
}

int ctalk_group_send (ctalk_server_t *server, const char *group, const ctalk_envelope_t *envelope, int timeout_ms)
{
    int cancel;
    if (!envelope || ctki_name_length (group) == 0 || timeout_ms < -1)
        return ctki_fail (EINVAL);
    if (ctki_server_enter_uncancelled (server, &cancel))
        return -1;
    ctalk_address_t *members = NULL;
    int count = list_members (&server->node.hall, group, &members);
    int sent = count > 0 ? send_to_members (&server->node.hall, members, (size_t) count, envelope, timeout_ms) : count;
    int code = errno;
    ctki_free (members);
    ctki_server_leave_uncancelled (server, cancel);
    errno = code;
    return sent;
}
