/*
 * with_actors.c - calls of ClusterTalk as contestants: a question from one
 * process to an actor of the other, which answers; see contestants.h.
 *
 * The answering actor is the same for all: it lives from open to close, takes
 * each question, checks it, and answers by ctalk_actor_reply. The process's own
 * thread only waits until so many were answered. Who asks is a thread
 * (ctalk_call) or an actor of its own for each stretch of questions.
 */
#include "bench/contestants.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

enum { WAIT_MS = 20000 }; /* for an answer */

#define ANSWERER "answer"

/* Who asks, and how. */
enum variant {
    BY_THREAD, /* ctalk_call */
    BY_ACTOR,  /* ctalk_actor_call */
    BY_HAND    /* an actor, ctalk_actor_send and ctalk_actor_recv */
};

/* What the thread of the process and its actor share. */
typedef struct {
    bench_end_t *end;
    uint64_t answerer; /* its id */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t first, count; /* what the asking actor is to ask */
    /* Guarded: */
    uint64_t done;   /* how many were asked, or answered, from the beginning on */
    uint64_t wanted; /* for how many the thread waits */
    bool failed;     /* end->error says why */
} state_t;

/* ---------------------------------------------------- the thread's waiting */

/* The thread is woken at the last one alone: it is to cost nothing meanwhile. */
static void note_done (state_t *state, uint64_t done)
{
    pthread_mutex_lock (&state->lock);
    state->done = done;
    if (done == state->wanted)
        pthread_cond_signal (&state->changed);
    pthread_mutex_unlock (&state->lock);
}

static int note_failed (state_t *state)
{
    pthread_mutex_lock (&state->lock);
    state->failed = true;
    pthread_cond_signal (&state->changed);
    pthread_mutex_unlock (&state->lock);
    return -1;
}

/* Waits until the actor has done that many. */
static int wait_done (state_t *state, uint64_t done)
{
    pthread_mutex_lock (&state->lock);
    state->wanted = done;
    while (state->done < done && !state->failed)
        pthread_cond_wait (&state->changed, &state->lock);
    int result = state->failed ? -1 : 0;
    pthread_mutex_unlock (&state->lock);
    return result;
}

/* ----------------------------------------------------------------- messages */

/* Checks an envelope and closes it. */
static int check (bench_end_t *end, ctalk_envelope_t *envelope, ctalk_pid_t from, uint64_t msg_id, uint64_t number)
{
    int result = bench_pair_check (end, envelope->data, envelope->size, number);
    if (result == 0
        && (envelope->kind != CTALK_MESSAGE || envelope->pid != from || envelope->msg_id != (int64_t) msg_id)) {
        snprintf (end->error, sizeof end->error, "an envelope has another kind, pid or message id than was sent");
        result = -1;
    }
    ctalk_envelope_close (envelope);
    return result;
}

/* The question with this number. */
static ctalk_envelope_t question (const state_t *state, uint64_t number)
{
    const bench_end_t *end = state->end;
    bench_fill (end->payload, end->size, number);
    return (ctalk_envelope_t){.pid = BENCH_PULLER_PID,
                              .to = state->answerer,
                              .msg_id = (int64_t) number,
                              .data = end->payload,
                              .size = end->size};
}

/* --------------------------------------------------------- the one that asks */

static int ask_by_thread (const state_t *state, uint64_t number)
{
    bench_end_t *end = state->end;
    const ctalk_envelope_t request = question (state, number);
    ctalk_envelope_t reply;
    if (ctalk_call (end->server, &request, &reply, WAIT_MS) != 0)
        return bench_pair_fail (end, "ctalk_call");
    return check (end, &reply, BENCH_PULLER_PID, number, BENCH_REPLY (number));
}

static int ask_by_actor (ctalk_actor_t *self, const state_t *state, uint64_t number)
{
    bench_end_t *end = state->end;
    const ctalk_envelope_t request = question (state, number);
    ctalk_envelope_t reply;
    if (end->contestant->variant == BY_ACTOR) {
        if (ctalk_actor_call (self, &request, &reply, WAIT_MS) != 0)
            return bench_pair_fail (end, "ctalk_actor_call");
    } else {
        if (ctalk_actor_send (self, &request, WAIT_MS) != 0)
            return bench_pair_fail (end, "ctalk_actor_send");
        if (ctalk_actor_recv (self, &reply, WAIT_MS) != 0)
            return bench_pair_fail (end, "ctalk_actor_recv");
    }
    return check (end, &reply, BENCH_PULLER_PID, number, BENCH_REPLY (number));
}

/* self NULL: a thread asks. */
static int ask_all (ctalk_actor_t *self, const state_t *state, uint64_t first, uint64_t count)
{
    for (uint64_t number = first; number < first + count; number++) {
        uint64_t began_ns = bench_now_ns ();
        if ((self ? ask_by_actor (self, state, number) : ask_by_thread (state, number)) != 0)
            return -1;
        bench_take_sample (state->end, number - first, began_ns);
    }
    return 0;
}

static int asker (ctalk_actor_t *self, void *arg)
{
    state_t *state = arg;
    if (ask_all (self, state, state->first, state->count) != 0)
        return note_failed (state);
    note_done (state, state->first + state->count);
    return 0;
}

static int push (bench_end_t *end, uint64_t first, uint64_t count)
{
    state_t *state = end->own;
    if (end->contestant->variant == BY_THREAD)
        return ask_all (NULL, state, first, count);
    state->first = first;
    state->count = count;
    if (ctalk_actor_spawn (end->server, NULL, asker, state) == 0)
        return bench_pair_fail (end, "ctalk_actor_spawn");
    return wait_done (state, first + count);
}

/* ------------------------------------------------------ the one that answers */

static int answer_one (ctalk_actor_t *self, bench_end_t *end, ctalk_envelope_t *request, uint64_t number)
{
    ctalk_envelope_t asked = *request;
    bench_fill (end->payload, end->size, BENCH_REPLY (number));
    int result = bench_pair_check (end, request->data, request->size, number);
    if (result == 0 && (asked.pid != BENCH_PUSHER_PID || asked.msg_id != (int64_t) number)) {
        snprintf (end->error, sizeof end->error, "a question has another pid or message id than it was sent with");
        result = -1;
    }
    if (result == 0 && ctalk_actor_reply (self, request, end->payload, end->size, WAIT_MS) != 0)
        result = bench_pair_fail (end, "ctalk_actor_reply");
    ctalk_envelope_close (request);
    return result;
}

/* Until the server closes. */
static int answerer (ctalk_actor_t *self, void *arg)
{
    state_t *state = arg;
    for (uint64_t number = 0;; number++) {
        ctalk_envelope_t request;
        if (ctalk_actor_recv (self, &request, -1) != 0)
            break;
        if (answer_one (self, state->end, &request, number) != 0)
            return note_failed (state);
        note_done (state, number + 1);
        bench_pair_progress (state->end, number);
    }
    if (errno == ESHUTDOWN)
        return 0;
    bench_pair_fail (state->end, "ctalk_actor_recv");
    return note_failed (state);
}

static int pull (bench_end_t *end, uint64_t first, uint64_t count)
{
    return wait_done (end->own, first + count);
}

/* ------------------------------------------------------------- open and close */

static int open_calls (bench_end_t *end, char *endpoint, size_t capacity)
{
    state_t *state = calloc (1, sizeof *state);
    if (!state)
        return bench_pair_fail (end, "calloc");
    state->end = end;
    state->answerer = ctalk_actor_named (ANSWERER);
    pthread_mutex_init (&state->lock, NULL);
    pthread_cond_init (&state->changed, NULL);
    end->own = state;
    if (bench_ctalk_open (end, endpoint, capacity) != 0)
        return -1;
    if (!end->pusher && ctalk_actor_spawn (end->server, ANSWERER, answerer, state) == 0)
        return bench_pair_fail (end, "ctalk_actor_spawn");
    return 0;
}

static int close_calls (bench_end_t *end)
{
    state_t *state = end->own;
    int result = bench_ctalk_close (end);
    pthread_cond_destroy (&state->changed);
    pthread_mutex_destroy (&state->lock);
    free (state);
    return result;
}

const bench_contestant_t bench_ctalk_call = {.name = "ctalk",
                                             .variant = BY_THREAD,
                                             .open = open_calls,
                                             .join = bench_ctalk_join,
                                             .push = push,
                                             .pull = pull,
                                             .close = close_calls};
const bench_contestant_t bench_ctalk_call_spin = {.name = "ctalk-spin",
                                                  .variant = BY_THREAD,
                                                  .setting = {"SpinMicros", "50"},
                                                  .open = open_calls,
                                                  .join = bench_ctalk_join,
                                                  .push = push,
                                                  .pull = pull,
                                                  .close = close_calls};
const bench_contestant_t bench_ctalk_call_actor = {.name = "ctalk-actor",
                                                   .variant = BY_ACTOR,
                                                   .open = open_calls,
                                                   .join = bench_ctalk_join,
                                                   .push = push,
                                                   .pull = pull,
                                                   .close = close_calls};
const bench_contestant_t bench_ctalk_call_actor_spin = {.name = "ctalk-actor-spin",
                                                        .variant = BY_ACTOR,
                                                        .setting = {"SpinMicros", "50"},
                                                        .open = open_calls,
                                                        .join = bench_ctalk_join,
                                                        .push = push,
                                                        .pull = pull,
                                                        .close = close_calls};
const bench_contestant_t bench_ctalk_call_hand = {.name = "ctalk-by-hand",
                                                  .variant = BY_HAND,
                                                  .open = open_calls,
                                                  .join = bench_ctalk_join,
                                                  .push = push,
                                                  .pull = pull,
                                                  .close = close_calls};
