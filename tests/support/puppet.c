/*
 * puppet.c - actors that do what the test tells them. Owns a lock and a condition
 * per puppet. What may go wrong: an order that is never done; then the test fails
 * at its deadline.
 */
#include "tests/support/puppet.h"

#include <check.h>
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/scale.h"

enum {
    PATIENCE = 4, /* times the long deadline: an order may wait for two itself */
    FILL_MAX_BYTES = 65536,
    FILL_MAX = 100000 /* envelopes */
};

static ctki_puppet_t *all;

/* ---- on the actor's thread */

static void wait_for_order (ctki_puppet_t *puppet)
{
    while (!puppet->ordered && !puppet->ending)
        (void) pthread_cond_wait (&puppet->changed, &puppet->lock);
}

static void do_order (ctki_puppet_t *puppet, ctalk_actor_t *self)
{
    atomic_store (&puppet->thread.tid, (int) gettid ());
    (void) pthread_mutex_unlock (&puppet->lock);
    errno = 0;
    int64_t rc = puppet->order.run (self, &puppet->order);
    int code = errno;
    (void) pthread_mutex_lock (&puppet->lock);
    puppet->rc = rc;
    puppet->code = code;
    puppet->ordered = false;
    atomic_store (&puppet->thread.done, true);
    (void) pthread_cond_broadcast (&puppet->changed);
}

static int body (ctalk_actor_t *self, void *arg)
{
    ctki_puppet_t *puppet = arg;
    (void) pthread_mutex_lock (&puppet->lock);
    for (wait_for_order (puppet); puppet->ordered; wait_for_order (puppet))
        do_order (puppet, self);
    int reason = puppet->reason;
    (void) pthread_mutex_unlock (&puppet->lock);
    return reason;
}

/* ---- on the test's thread */

void ctki_puppet_start (ctki_puppet_t *puppet, ctalk_server_t *server, const char *name)
{
    memset (puppet, 0, sizeof *puppet);
    puppet->server = server;
    puppet->pid = ctalk_server_pid (server);
    ck_assert_int_eq (pthread_mutex_init (&puppet->lock, NULL), 0);
    ck_assert_int_eq (pthread_cond_init (&puppet->changed, NULL), 0);
    puppet->id = ctalk_actor_spawn (server, name, body, puppet);
    ck_assert_msg (puppet->id != 0, "an actor cannot be spawned: %s", strerror (errno));
    puppet->next = all;
    all = puppet;
}

void ctki_puppet_forget (ctki_puppet_t *puppet)
{
    ctki_puppet_t **link = &all;
    while (*link != puppet)
        link = &(*link)->next;
    *link = puppet->next;
    puppet->server = NULL;
    ck_assert_int_eq (pthread_mutex_destroy (&puppet->lock), 0);
    ck_assert_int_eq (pthread_cond_destroy (&puppet->changed), 0);
}

void ctki_puppet_leave (ctki_puppet_t *puppet, int reason)
{
    (void) pthread_mutex_lock (&puppet->lock);
    bool busy = puppet->ordered;
    puppet->reason = reason;
    puppet->ending = true;
    (void) pthread_cond_broadcast (&puppet->changed);
    (void) pthread_mutex_unlock (&puppet->lock);
    if (busy)
        (void) ctalk_actor_stop (puppet->server, puppet->id, 0);
}

void ctki_puppet_exit (ctki_puppet_t *puppet, int reason)
{
    if (!puppet->ending)
        ctki_puppet_leave (puppet, reason);
    int rc = ctalk_actor_stop (puppet->server, puppet->id, PATIENCE * ctki_test_long_ms ());
    ck_assert_msg (rc == 0 || errno == ESRCH, "an actor does not end: %s", strerror (errno));
    ctki_puppet_forget (puppet);
}

void ctki_puppets_end (void)
{
    while (all)
        ctki_puppet_exit (all, 0);
}

void ctki_puppet_begin (ctki_puppet_t *puppet, const ctki_order_t *order)
{
    (void) pthread_mutex_lock (&puppet->lock);
    ck_assert (!puppet->ordered && !puppet->ending);
    puppet->order = *order;
    puppet->ordered = true;
    atomic_store (&puppet->thread.tid, 0);
    atomic_store (&puppet->thread.done, false);
    (void) pthread_cond_broadcast (&puppet->changed);
    (void) pthread_mutex_unlock (&puppet->lock);
}

int64_t ctki_puppet_finish (ctki_puppet_t *puppet)
{
    struct timespec end;
    int rc = 0;
    ck_assert_int_eq (clock_gettime (CLOCK_REALTIME, &end), 0);
    end.tv_sec += PATIENCE * ctki_test_long_ms () / 1000;
    (void) pthread_mutex_lock (&puppet->lock);
    while (puppet->ordered && rc == 0)
        rc = pthread_cond_timedwait (&puppet->changed, &puppet->lock, &end);
    bool done = !puppet->ordered;
    (void) pthread_mutex_unlock (&puppet->lock);
    ck_assert_msg (done, "the call of an actor does not return");
    errno = puppet->code;
    return puppet->rc;
}

int64_t ctki_puppet_do (ctki_puppet_t *puppet, const ctki_order_t *order)
{
    ctki_puppet_begin (puppet, order);
    return ctki_puppet_finish (puppet);
}

void ctki_puppet_await_blocked (ctki_puppet_t *puppet)
{
    ctki_test_thread_await_blocked (&puppet->thread);
}

/* ---- the calls */

static int64_t do_recv (ctalk_actor_t *self, ctki_order_t *order)
{
    return ctalk_actor_recv (self, order->out, order->ms);
}

static int64_t do_match (ctalk_actor_t *self, ctki_order_t *order)
{
    return ctalk_actor_recv_match (self, order->match, order->arg, order->out, order->ms);
}

static int64_t do_send (ctalk_actor_t *self, ctki_order_t *order)
{
    return ctalk_actor_send (self, &order->in, order->ms);
}

static int64_t do_call (ctalk_actor_t *self, ctki_order_t *order)
{
    return ctalk_actor_call (self, &order->in, order->out, order->ms);
}

static int64_t do_reply (ctalk_actor_t *self, ctki_order_t *order)
{
    return ctalk_actor_reply (self, &order->in, order->text, order->text ? strlen (order->text) : 0, order->ms);
}

static int64_t do_monitor (ctalk_actor_t *self, ctki_order_t *order)
{
    return ctalk_actor_monitor (self, order->pid, order->id);
}

static int64_t do_unmonitor (ctalk_actor_t *self, ctki_order_t *order)
{
    return ctalk_actor_unmonitor (self, order->pid, order->id);
}

static int64_t do_send_after (ctalk_actor_t *self, ctki_order_t *order)
{
    return (int64_t) ctalk_actor_send_after (self, order->ms, &order->in);
}

static int64_t do_cancel (ctalk_actor_t *self, ctki_order_t *order)
{
    return ctalk_actor_cancel (self, order->id);
}

static int64_t do_set_mailbox (ctalk_actor_t *self, ctki_order_t *order)
{
    return ctalk_actor_set_mailbox (self, order->size);
}

static int64_t do_join (ctalk_actor_t *self, ctki_order_t *order)
{
    return ctalk_group_join (self, order->text);
}

static int64_t do_quit (ctalk_actor_t *self, ctki_order_t *order)
{
    return ctalk_group_leave (self, order->text);
}

static int64_t do_watch (ctalk_actor_t *self, ctki_order_t *order)
{
    return ctalk_group_watch (self, order->text, order->on);
}

#define ORDER(...) (&(ctki_order_t){__VA_ARGS__})

void ctki_puppet_begin_recv (ctki_puppet_t *puppet, ctalk_envelope_t *envelope, int timeout_ms)
{
    ctki_puppet_begin (puppet, ORDER (.run = do_recv, .out = envelope, .ms = timeout_ms));
}

void ctki_puppet_begin_match (ctki_puppet_t *puppet, ctki_match_fn *match, void *arg, ctalk_envelope_t *envelope,
                              int timeout_ms)
{
    ctki_puppet_begin (puppet, ORDER (.run = do_match, .match = match, .arg = arg, .out = envelope, .ms = timeout_ms));
}

void ctki_puppet_begin_send (ctki_puppet_t *puppet, const ctalk_envelope_t *envelope, int timeout_ms)
{
    ctki_puppet_begin (puppet, ORDER (.run = do_send, .in = *envelope, .ms = timeout_ms));
}

void ctki_puppet_begin_call (ctki_puppet_t *puppet, const ctalk_envelope_t *request, ctalk_envelope_t *reply,
                             int timeout_ms)
{
    ctki_puppet_begin (puppet, ORDER (.run = do_call, .in = *request, .out = reply, .ms = timeout_ms));
}

int ctki_puppet_recv (ctki_puppet_t *puppet, ctalk_envelope_t *envelope, int timeout_ms)
{
    ctki_puppet_begin_recv (puppet, envelope, timeout_ms);
    return (int) ctki_puppet_finish (puppet);
}

int ctki_puppet_recv_match (ctki_puppet_t *puppet, ctki_match_fn *match, void *arg, ctalk_envelope_t *envelope,
                            int timeout_ms)
{
    ctki_puppet_begin_match (puppet, match, arg, envelope, timeout_ms);
    return (int) ctki_puppet_finish (puppet);
}

int ctki_puppet_send (ctki_puppet_t *puppet, const ctalk_envelope_t *envelope, int timeout_ms)
{
    ctki_puppet_begin_send (puppet, envelope, timeout_ms);
    return (int) ctki_puppet_finish (puppet);
}

int ctki_puppet_call (ctki_puppet_t *puppet, const ctalk_envelope_t *request, ctalk_envelope_t *reply, int timeout_ms)
{
    ctki_puppet_begin_call (puppet, request, reply, timeout_ms);
    return (int) ctki_puppet_finish (puppet);
}

int ctki_puppet_reply (ctki_puppet_t *puppet, const ctalk_envelope_t *request, const char *text)
{
    ctki_order_t *order = ORDER (.run = do_reply, .in = *request, .text = text, .ms = ctki_test_long_ms ());
    return (int) ctki_puppet_do (puppet, order);
}

int ctki_puppet_monitor (ctki_puppet_t *puppet, ctalk_pid_t pid, uint64_t actor)
{
    return (int) ctki_puppet_do (puppet, ORDER (.run = do_monitor, .pid = pid, .id = actor));
}

int ctki_puppet_unmonitor (ctki_puppet_t *puppet, ctalk_pid_t pid, uint64_t actor)
{
    return (int) ctki_puppet_do (puppet, ORDER (.run = do_unmonitor, .pid = pid, .id = actor));
}

uint64_t ctki_puppet_send_after (ctki_puppet_t *puppet, int delay_ms, const ctalk_envelope_t *envelope)
{
    return (uint64_t) ctki_puppet_do (puppet, ORDER (.run = do_send_after, .in = *envelope, .ms = delay_ms));
}

int ctki_puppet_cancel (ctki_puppet_t *puppet, uint64_t timer)
{
    return (int) ctki_puppet_do (puppet, ORDER (.run = do_cancel, .id = timer));
}

int ctki_puppet_set_mailbox (ctki_puppet_t *puppet, size_t bytes)
{
    return (int) ctki_puppet_do (puppet, ORDER (.run = do_set_mailbox, .size = bytes));
}

int ctki_puppet_join (ctki_puppet_t *puppet, const char *group)
{
    return (int) ctki_puppet_do (puppet, ORDER (.run = do_join, .text = group));
}

int ctki_puppet_quit (ctki_puppet_t *puppet, const char *group)
{
    return (int) ctki_puppet_do (puppet, ORDER (.run = do_quit, .text = group));
}

int ctki_puppet_watch (ctki_puppet_t *puppet, const char *group, bool on)
{
    return (int) ctki_puppet_do (puppet, ORDER (.run = do_watch, .text = group, .on = on));
}

/* ---- what tests do often */

ctalk_envelope_t ctki_puppet_envelope (const ctki_puppet_t *to, int64_t msg_id, const char *text)
{
    return (ctalk_envelope_t){
        .pid = to->pid, .to = to->id, .msg_id = msg_id, .data = text, .size = text ? strlen (text) : 0};
}

void ctki_puppet_tell (ctki_puppet_t *from, const ctki_puppet_t *to, int64_t msg_id, const char *text)
{
    ctalk_envelope_t envelope = ctki_puppet_envelope (to, msg_id, text);
    int rc = ctki_puppet_send (from, &envelope, ctki_test_long_ms ());
    ck_assert_msg (rc == 0, "an actor cannot send: %s", strerror (errno));
}

int64_t ctki_puppet_fill (ctalk_server_t *server, const ctki_puppet_t *to, int64_t first, size_t size)
{
    static const char data[FILL_MAX_BYTES];
    ctalk_envelope_t envelope = {.pid = to->pid, .to = to->id, .msg_id = first, .data = data, .size = size};
    ck_assert_uint_le (size, sizeof data);
    for (; ctalk_send (server, &envelope, 0) == 0; envelope.msg_id++)
        ck_assert_msg (envelope.msg_id - first < FILL_MAX, "there is no bound");
    ck_assert_msg (errno == EAGAIN, "%s", strerror (errno));
    return envelope.msg_id - first;
}

void ctki_puppet_take (ctki_puppet_t *puppet, ctalk_envelope_t *envelope)
{
    int rc = ctki_puppet_recv (puppet, envelope, ctki_test_long_ms ());
    ck_assert_msg (rc == 0, "an actor receives nothing: %s", strerror (errno));
}

void ctki_puppet_expect (ctki_puppet_t *puppet, ctalk_pid_t pid, uint64_t from, int64_t msg_id, const char *text)
{
    ctalk_envelope_t got;
    ctki_puppet_take (puppet, &got);
    bool same = got.kind == CTALK_MESSAGE && got.pid == pid && got.from == from && got.to == puppet->id
                && got.msg_id == msg_id && got.size == strlen (text) && memcmp (got.data, text, got.size) == 0;
    ck_assert_msg (same, "kind %d, %lld of %d instead of %lld of %d, '%.*s' instead of '%s', from %s, to %s",
                   (int) got.kind, (long long) got.msg_id, (int) got.pid, (long long) msg_id, (int) pid,
                   (int) CTKI_MIN (got.size, (size_t) 60), (const char *) got.data, text,
                   got.from == from ? "the right one" : "another", got.to == puppet->id ? "this one" : "another");
    ctalk_envelope_close (&got);
}

void ctki_puppet_expect_nothing (ctki_puppet_t *puppet, int ms)
{
    ctalk_envelope_t got;
    int rc = ctki_puppet_recv (puppet, &got, ms);
    ck_assert_msg (rc == -1 && errno == EAGAIN, "kind %d, %lld of %d came, or: %s", (int) got.kind,
                   (long long) got.msg_id, (int) got.pid, strerror (errno));
}

typedef struct {
    ctki_puppet_t *puppet;
    ctalk_kind_t kind;
    size_t all, of_kind;
} look_t;

static bool count (const ctalk_envelope_t *envelope, void *arg)
{
    look_t *look = arg;
    look->all++;
    look->of_kind += envelope->kind == look->kind;
    return false;
}

static bool lies_there (void *arg)
{
    look_t *look = arg;
    ctalk_envelope_t none;
    look->all = look->of_kind = 0;
    int rc = ctki_puppet_recv_match (look->puppet, count, look, &none, 0);
    ck_assert_msg (rc == -1 && errno == EAGAIN, "looking takes nothing: %s", strerror (errno));
    return look->of_kind > 0;
}

void ctki_puppet_await_kind (ctki_puppet_t *puppet, ctalk_kind_t kind)
{
    look_t look = {puppet, kind, 0, 0};
    ck_assert_msg (ctki_test_until (lies_there, &look, ctki_test_long_ms ()), "no envelope of kind %d came",
                   (int) kind);
}

size_t ctki_puppet_holds (ctki_puppet_t *puppet)
{
    look_t look = {puppet, CTALK_MESSAGE, 0, 0};
    (void) lies_there (&look);
    return look.all;
}

int ctki_until_stopped (ctalk_actor_t *self, void *arg)
{
    ctalk_envelope_t envelope;
    (void) arg;
    while (ctalk_actor_recv (self, &envelope, -1) == 0)
        ctalk_envelope_close (&envelope);
    return 0;
}
