/*
 * hall_calls.c - calls that wait for their answers, and the requests that the
 * actors of this server have not answered. See hall.h.
 *
 * A call stands in a map under its own id, which is the address of its answer. So
 * an answer that comes late finds nothing, whoever calls meanwhile. A request is
 * known to the server of the actor that has it until it is answered from there,
 * or until the caller says that nobody waits: so the actor's end can be told.
 */
#include <errno.h>

#include "src/hall.h"
#include "src/mem.h"

/* ---- requests */

static uint64_t key_of (ctalk_pid_t pid, uint64_t call)
{
    return call ^ (uint64_t) (uint32_t) pid * UINT64_C (0x9E3779B97F4A7C15);
}

int ctki_request_add (ctalk_actor_t *actor, ctalk_pid_t pid, uint64_t call)
{
    ctki_hall_t *hall = actor->hall;
    ctki_request_t *request = ctki_alloc_zero (sizeof *request);
    if (!request)
        return -1;
    request->due = (ctki_due_t){.pid = pid, .op = CTKI_NO_ANSWER, .a = call};
    request->actor = actor;
    request->same = ctki_map_get (&hall->requests, key_of (pid, call));
    if (ctki_map_put (&hall->requests, key_of (pid, call), request)) {
        ctki_free (request);
        return -1;
    }
    request->next = actor->requests;
    request->link = &actor->requests;
    if (request->next)
        request->next->link = &request->next;
    actor->requests = request;
    return 0;
}

/* Takes it out of the map and of its actor's list. */
static void unlink_request (ctki_hall_t *hall, ctki_request_t *request)
{
    uint64_t key = key_of (request->due.pid, request->due.a);
    ctki_request_t *first = ctki_map_get (&hall->requests, key);
    if (first != request) {
        while (first->same != request)
            first = first->same;
        first->same = request->same;
    } else if (request->same)
        (void) ctki_map_put (&hall->requests, key, request->same); /* the key is there: needs no memory */
    else
        ctki_map_remove (&hall->requests, key);
    *request->link = request->next;
    if (request->next)
        request->next->link = request->link;
}

/* The same request may have been sent to several actors: each of them owes it. */
void ctki_request_done (ctki_hall_t *hall, ctalk_pid_t pid, uint64_t call)
{
    ctki_request_t *request = ctki_map_get (&hall->requests, key_of (pid, call));
    while (request) {
        ctki_request_t *next = request->same;
        if (request->due.pid == pid && request->due.a == call) {
            unlink_request (hall, request);
            ctki_free (request);
        }
        request = next;
    }
}

void ctki_request_undo (ctki_hall_t *hall, const ctalk_actor_t *actor, ctalk_pid_t pid, uint64_t call)
{
    ctki_request_t *request = ctki_map_get (&hall->requests, key_of (pid, call));
    while (request && (request->actor != actor || request->due.pid != pid || request->due.a != call))
        request = request->same;
    if (request) {
        unlink_request (hall, request);
        ctki_free (request);
    }
}

void ctki_requests_fail (ctalk_actor_t *actor)
{
    ctki_hall_t *hall = actor->hall;
    for (ctki_request_t *request; (request = actor->requests);) {
        unlink_request (hall, request);
        if (request->due.pid == hall->self) {
            ctki_call_failed (hall, hall->self, request->due.a, ESRCH);
            ctki_free (request);
        } else
            ctki_hall_owe (hall, &request->due);
    }
}

void ctki_requests_peer_gone (ctki_hall_t *hall, ctalk_pid_t pid)
{
    for (size_t i = 0; i < hall->actors.capacity; i++) {
        ctalk_actor_t *actor = hall->actors.slots[i].value;
        for (ctki_request_t *request = actor ? actor->requests : NULL, *next; request; request = next) {
            next = request->next;
            if (request->due.pid == pid) {
                unlink_request (hall, request);
                ctki_free (request);
            }
        }
    }
}

/* ---- calls */

/* Ends the wait, with 0 or an errno; takes the call out of the map. */
static void finish (ctki_hall_t *hall, ctki_call_t *call, int state)
{
    ctki_map_remove (&hall->calls_map, call->id);
    *call->link = call->next;
    if (call->next)
        call->next->link = call->link;
    ctki_seat_t *seat = call->seat;
    if (call->left)
        atomic_fetch_sub (call->left, 1);
    atomic_store (&call->state, state); /* the last: who waits may be gone then, but for the lock that is held */
    ctki_hall_wake (hall, seat);
}

/* The server that was called need not keep the request any more. */
static void call_over (ctki_hall_t *hall, ctalk_pid_t pid, uint64_t id)
{
    ctki_notice_t over = {.op = CTKI_CALL_OVER, .a = id};
    if (pid == hall->self)
        ctki_request_done (hall, pid, id);
    else if (ctki_hall_tell (hall, pid, &over)) {
        ctki_due_t *due = ctki_alloc (sizeof *due); /* without memory it is kept there until the actor ends */
        if (due) {
            *due = (ctki_due_t){.pid = pid, .op = CTKI_CALL_OVER, .a = id};
            ctki_hall_owe (hall, due);
        }
    }
}

bool ctki_call_answered (ctki_hall_t *hall, const ctalk_envelope_t *reply)
{
    ctki_call_t *call = ctki_map_get (&hall->calls_map, reply->to);
    if (!call)
        return false;
    if (call->pid != reply->pid)
        call_over (hall, call->pid, call->id);
    call->reply = *reply;
    finish (hall, call, 0);
    return true;
}

void ctki_call_failed (ctki_hall_t *hall, ctalk_pid_t pid, uint64_t id, int error)
{
    ctki_call_t *call = ctki_map_get (&hall->calls_map, id);
    if (call && call->pid == pid)
        finish (hall, call, error);
}

void ctki_calls_peer_gone (ctki_hall_t *hall, ctalk_pid_t pid)
{
    for (ctki_call_t *call = hall->calls, *next; call; call = next) {
        next = call->next;
        if (call->pid == pid) {
            finish (hall, call, EHOSTDOWN);
            atomic_store (&call->lost, true);
            ctki_outbox_interrupt (hall->outbox, &call->lost); /* it may wait to be sent */
        }
    }
}

/* ---- calling */

/* Gives the call its address. 0, or an errno. */
static int begin (ctki_hall_t *hall, ctki_call_t *call, ctalk_pid_t pid, ctki_seat_t *seat, atomic_uint *left)
{
    int rc = 0;
    *call = (ctki_call_t){.pid = pid, .seat = seat, .left = left};
    atomic_init (&call->state, -1);
    ctki_hall_lock (hall);
    call->id = ctki_hall_draw (hall, CTKI_ID_CALL);
    if (atomic_load (&hall->closing))
        rc = ESHUTDOWN;
    else if (ctki_map_put (&hall->calls_map, call->id, call))
        rc = ENOMEM;
    else {
        call->next = hall->calls;
        call->link = &hall->calls;
        if (call->next)
            call->next->link = &call->next;
        hall->calls = call;
        /* Looked at now that it would be told of a change. */
        int state = pid == hall->self ? CTALK_STATE_UP : ctki_hall_state_of (hall, pid);
        rc = state < 0 ? -state : state == CTALK_STATE_DOWN || state == CTALK_STATE_LEFT ? EHOSTDOWN : 0;
        if (rc)
            finish (hall, call, rc);
    }
    ctki_hall_unlock (hall);
    return rc;
}

/* Nobody waits for it any more: its state is final. The server that was called is told
 * so here, by the thread that has sent the request: behind it. */
static void give_up (ctki_hall_t *hall, ctki_call_t *call, int error)
{
    ctki_hall_lock (hall);
    bool waits = atomic_load (&call->state) < 0;
    if (waits)
        finish (hall, call, error);
    if (call->sent && (waits || atomic_load (&call->lost)))
        call_over (hall, call->pid, call->id);
    ctki_hall_unlock (hall);
}

static int send_request (ctki_hall_t *hall, const ctalk_envelope_t *request, ctki_call_t *call, int timeout_ms)
{
    ctalk_envelope_t envelope = {.pid = call->pid, .msg_id = request->msg_id, .data = request->data,
                                 .size = request->size, .to = request->to, .from = call->id};
    int rc = ctki_hall_pass (hall, &envelope, timeout_ms, &call->lost);
    call->sent = rc == 0;
    return rc;
}

typedef struct {
    ctki_hall_t *hall;
    const ctki_call_t *call;   /* one, ... */
    const atomic_uint *left;   /* ... or how many have no answer yet */
    const ctalk_actor_t *actor;
} wait_t;

static bool is_over (void *arg)
{
    const wait_t *wait = arg;
    return (wait->left ? atomic_load (wait->left) == 0 : atomic_load (&wait->call->state) >= 0)
           || atomic_load (&wait->hall->closing) || (wait->actor && atomic_load (&wait->actor->stopping));
}

int ctki_hall_call (ctki_hall_t *hall, const ctalk_envelope_t *request, ctalk_envelope_t *reply, int timeout_ms)
{
    ctki_call_t call;
    ctalk_actor_t *actor = ctki_hall_me (hall);
    ctki_seat_t seat = {.listed = false};
    int64_t deadline_us = ctki_deadline_us (timeout_ms);
    if (actor && atomic_load (&actor->stopping))
        return ESHUTDOWN;
    if (actor)
        ctki_mail_make_room (actor); /* the answer may depend on who stands there */
    int rc = begin (hall, &call, request->pid, actor ? &actor->seat : &seat, NULL);
    if (rc)
        return rc;
    rc = send_request (hall, request, &call, timeout_ms);
    wait_t wait = {.hall = hall, .call = &call, .actor = actor};
    if (rc == 0) {
        rc = ctki_seat_wait (hall->inbox, call.seat, request->pid != hall->self, is_over, &wait, deadline_us);
        rc = rc == EAGAIN ? ETIMEDOUT : rc ? rc : ESHUTDOWN;
    }
    give_up (hall, &call, rc);
    ctki_hall_await_wakers (&seat);
    rc = atomic_load (&call.state);
    if (rc == 0)
        *reply = call.reply;
    return rc;
}

/* Gives each call its address, or its final state. */
static void begin_all (ctki_hall_t *hall, ctki_call_t *calls, const ctalk_answer_t *answers, size_t count,
                       ctki_seat_t *seat, atomic_uint *left)
{
    atomic_init (left, (unsigned) count);
    for (size_t i = 0; i < count; i++) {
        int rc = begin (hall, &calls[i], answers[i].pid, seat, left);
        if (rc && atomic_load (&calls[i].state) < 0) { /* it never was in the map */
            atomic_store (&calls[i].state, rc);
            atomic_fetch_sub (left, 1);
        }
    }
}

/* Sends those that have not been sent; last: who finds no room within the timeout is
 * given up. 0, or EINTR: nobody is waited for any more. */
static int send_requests (ctki_hall_t *hall, const ctalk_envelope_t *request, ctki_call_t *calls, size_t count,
                          int timeout_ms, bool last)
{
    int64_t deadline_us = ctki_deadline_us (timeout_ms);
    for (size_t i = 0; i < count; i++) {
        if (calls[i].sent || atomic_load (&calls[i].state) >= 0)
            continue;
        int rc = send_request (hall, request, &calls[i], ctki_left_ms (timeout_ms, deadline_us));
        if (rc == EINTR)
            return rc;
        if (rc && (rc != EAGAIN || last))
            give_up (hall, &calls[i], rc);
    }
    return 0;
}

/* First all to whom that is possible without waiting: nobody who has no room keeps
 * the others from answering meanwhile. */
int ctki_hall_call_all (ctki_hall_t *hall, const ctalk_envelope_t *request, ctalk_answer_t *answers, size_t count,
                        int timeout_ms)
{
    ctalk_actor_t *actor = ctki_hall_me (hall);
    ctki_seat_t own = {.listed = false}, *seat = actor ? &actor->seat : &own;
    atomic_uint left;
    int64_t deadline_us = ctki_deadline_us (timeout_ms);
    if (actor && atomic_load (&actor->stopping))
        return ESHUTDOWN;
    ctki_call_t *calls = ctki_alloc (CTKI_MAX (count, (size_t) 1) * sizeof *calls);
    if (!calls)
        return ENOMEM;
    begin_all (hall, calls, answers, count, seat, &left);
    int rc = send_requests (hall, request, calls, count, 0, timeout_ms == 0);
    if (rc == 0)
        rc = send_requests (hall, request, calls, count, ctki_left_ms (timeout_ms, deadline_us), true);
    wait_t wait = {.hall = hall, .left = &left, .actor = actor};
    if (rc == 0)
        rc = ctki_seat_wait (hall->inbox, seat, true, is_over, &wait, deadline_us);
    for (size_t i = 0; i < count; i++) {
        give_up (hall, &calls[i], rc == EAGAIN ? ETIMEDOUT : rc ? rc : ESHUTDOWN);
        answers[i].error = atomic_load (&calls[i].state);
        if (answers[i].error == 0)
            answers[i].reply = calls[i].reply;
    }
    ctki_hall_await_wakers (&own);
    ctki_free (calls);
    return 0;
}
