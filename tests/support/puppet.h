/*
 * puppet.h - actors that do what the test tells them, one call after the other:
 * so a test of the calls of actors reads from top to bottom on its own thread,
 * and asserts there. An order is done on the actor's thread; what it returned and
 * errno are handed to the test. Between orders the puppet waits in no call of the
 * library: it does not receive, and does not see that it is to stop.
 */
#ifndef CTKI_TEST_PUPPET_H
#define CTKI_TEST_PUPPET_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <clustertalk.h>

#include "tests/support/thread.h"

typedef bool (ctki_match_fn) (const ctalk_envelope_t *envelope, void *arg);

/* One order: what is to be done, and with what. */
typedef struct ctki_order ctki_order_t;
struct ctki_order {
    int64_t (*run) (ctalk_actor_t *self, ctki_order_t *order);
    ctalk_envelope_t in;   /* to send, or a request; its data is the test's */
    ctalk_envelope_t *out; /* where what is received goes */
    ctki_match_fn *match;
    void *arg;
    ctalk_pid_t pid;
    uint64_t id; /* of an actor, or a timer */
    const char *text;
    size_t size;
    bool on;
    int ms;
};

typedef struct ctki_puppet ctki_puppet_t;
struct ctki_puppet {
    ctalk_server_t *server; /* NULL: not there (any more) */
    ctalk_pid_t pid;
    uint64_t id;
    ctki_puppet_t *next;       /* of all that are there */
    ctki_test_thread_t thread; /* only its tid, while an order is being done, and whether none is */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    ctki_order_t order;
    bool ordered, ending;
    int reason; /* of its end */
    int64_t rc;
    int code; /* errno after it */
};

/* Spawns a puppet, or fails the test. name may be NULL. */
void ctki_puppet_start (ctki_puppet_t *puppet, ctalk_server_t *server, const char *name);

/* Lets it return reason; returns when it has ended. An order that it is at is stopped. */
void ctki_puppet_exit (ctki_puppet_t *puppet, int reason);

/* The same without waiting: ctki_puppet_exit () or ctki_puppets_end () must follow. */
void ctki_puppet_leave (ctki_puppet_t *puppet, int reason);

/* The server was closed, and the puppet with it: forgets it. */
void ctki_puppet_forget (ctki_puppet_t *puppet);

/* Ends all that are there: before their servers are closed. */
void ctki_puppets_end (void);

/* Gives an order and does not wait; waits until it is done, and returns what it returned, errno set. */
void ctki_puppet_begin (ctki_puppet_t *puppet, const ctki_order_t *order);
int64_t ctki_puppet_finish (ctki_puppet_t *puppet);
int64_t ctki_puppet_do (ctki_puppet_t *puppet, const ctki_order_t *order);

/* Waits until the order that it was given is blocked. */
void ctki_puppet_await_blocked (ctki_puppet_t *puppet);

/* The calls of the actor, done by it. */
int ctki_puppet_recv (ctki_puppet_t *puppet, ctalk_envelope_t *envelope, int timeout_ms);
int ctki_puppet_recv_match (ctki_puppet_t *puppet, ctki_match_fn *match, void *arg, ctalk_envelope_t *envelope,
                            int timeout_ms);
int ctki_puppet_send (ctki_puppet_t *puppet, const ctalk_envelope_t *envelope, int timeout_ms);
int ctki_puppet_call (ctki_puppet_t *puppet, const ctalk_envelope_t *request, ctalk_envelope_t *reply, int timeout_ms);
int ctki_puppet_reply (ctki_puppet_t *puppet, const ctalk_envelope_t *request, const char *text);
int ctki_puppet_monitor (ctki_puppet_t *puppet, ctalk_pid_t pid, uint64_t actor);
int ctki_puppet_unmonitor (ctki_puppet_t *puppet, ctalk_pid_t pid, uint64_t actor);
uint64_t ctki_puppet_send_after (ctki_puppet_t *puppet, int delay_ms, const ctalk_envelope_t *envelope);
int ctki_puppet_cancel (ctki_puppet_t *puppet, uint64_t timer);
int ctki_puppet_set_mailbox (ctki_puppet_t *puppet, size_t bytes);
int ctki_puppet_join (ctki_puppet_t *puppet, const char *group);
int ctki_puppet_quit (ctki_puppet_t *puppet, const char *group);
int ctki_puppet_watch (ctki_puppet_t *puppet, const char *group, bool on);

/* Those that wait, begun only. */
void ctki_puppet_begin_recv (ctki_puppet_t *puppet, ctalk_envelope_t *envelope, int timeout_ms);
void ctki_puppet_begin_match (ctki_puppet_t *puppet, ctki_match_fn *match, void *arg, ctalk_envelope_t *envelope,
                              int timeout_ms);
void ctki_puppet_begin_send (ctki_puppet_t *puppet, const ctalk_envelope_t *envelope, int timeout_ms);
void ctki_puppet_begin_call (ctki_puppet_t *puppet, const ctalk_envelope_t *request, ctalk_envelope_t *reply,
                             int timeout_ms);

/* An envelope to a puppet. */
ctalk_envelope_t ctki_puppet_envelope (const ctki_puppet_t *to, int64_t msg_id, const char *text);

/* It sends a text to another one, waiting for room; fails the test unless it is accepted. */
void ctki_puppet_tell (ctki_puppet_t *from, const ctki_puppet_t *to, int64_t msg_id, const char *text);

/* Sends envelopes of size bytes, numbered from first, from a server to an actor until there is no room; returns how
 * many were accepted. size is at most 64 KiB. */
int64_t ctki_puppet_fill (ctalk_server_t *server, const ctki_puppet_t *to, int64_t first, size_t size);

/* It receives within the long deadline, or the test fails. */
void ctki_puppet_take (ctki_puppet_t *puppet, ctalk_envelope_t *envelope);

/* The next in its mailbox is this message from that actor (0: the server itself). */
void ctki_puppet_expect (ctki_puppet_t *puppet, ctalk_pid_t pid, uint64_t from, int64_t msg_id, const char *text);

/* Nothing has come for ms. */
void ctki_puppet_expect_nothing (ctki_puppet_t *puppet, int ms);

/* Waits until an envelope of this kind lies in its mailbox, and leaves it there. */
void ctki_puppet_await_kind (ctki_puppet_t *puppet, ctalk_kind_t kind);

/* How many envelopes lie in its mailbox. */
size_t ctki_puppet_holds (ctki_puppet_t *puppet);

/* No puppet: the function of an actor that receives, and does nothing else, until it is told to stop. */
int ctki_until_stopped (ctalk_actor_t *self, void *arg);

#endif
