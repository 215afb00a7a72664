/*
 * mailbox.h - a bell, and a queue of items with a bell.
 *
 * A bell is the ringing end of an actor's inproc pipe; the actor polls the
 * other end. One ring at most is under way. The actor calls ctki_bell_heard ()
 * for each ring that it reads, before it looks at its mailbox.
 *
 * A mailbox holds items until its actor takes them all. While they wait, small
 * runs for it are merged: batches form by themselves when the actor is busy.
 * Whoever puts something in rings the bell only if the actor said that it is
 * about to sleep (parked).
 */
#ifndef CTKI_MAILBOX_H
#define CTKI_MAILBOX_H

#include <pthread.h>
#include <stdatomic.h>

#include "src/envelope.h"
#include "src/lock.h"
#include "src/sock.h"
#include "src/sys.h"

/* ---- bell */

typedef struct {
    pthread_mutex_t lock; /* of the end; held for one non-blocking send */
    ctki_sock_t *end;
    atomic_bool rung;
    atomic_uint calls;    /* rings and commands that were sent */
    atomic_uint heard;    /* of those, when the pipe was last read */
    ctki_gate_t *standby; /* opened at each of them, too, unless another thread hears; NULL: none */
    atomic_bool led;      /* another thread reads the pipe */
} ctki_bell_t;

void ctki_bell_init (ctki_bell_t *bell, ctki_sock_t *end);
void ctki_bell_fini (ctki_bell_t *bell); /* closes the end */

/* From any thread, with or without locks. */
void ctki_bell_ring (ctki_bell_t *bell);

/* Sends a command through the same pipe, size > 1. -1: errno. */
int ctki_bell_command (ctki_bell_t *bell, const void *command, size_t size);

/* Whether something was sent that was not read; it may come a moment before. */
static inline bool ctki_bell_is_called (const ctki_bell_t *bell)
{
    return atomic_load (&bell->calls) != atomic_load (&bell->heard);
}

/* Before the pipe is read to its end. */
static inline void ctki_bell_hear (ctki_bell_t *bell)
{
    atomic_store (&bell->heard, atomic_load (&bell->calls));
}

static inline void ctki_bell_heard (ctki_bell_t *bell)
{
    atomic_store (&bell->rung, false);
}

/* ---- mailbox */

typedef struct {
    ctki_lock_t lock;
    ctki_items_t items;
    ctki_writer_t writer;
    bool parked;
} ctki_mailbox_t;

void ctki_mailbox_init (ctki_mailbox_t *mailbox, ctki_pool_t *pool, size_t run_limit);
void ctki_mailbox_fini (ctki_mailbox_t *mailbox); /* must be empty */

/* Takes an item over: merges it or links it. Returns whether to ring. */
bool ctki_mailbox_put (ctki_mailbox_t *mailbox, ctki_item_t *item);

/* All that is there, in order; false: nothing. */
bool ctki_mailbox_take (ctki_mailbox_t *mailbox, ctki_items_t *items);
bool ctki_mailbox_take_locked (ctki_mailbox_t *mailbox, ctki_items_t *items); /* with the lock held */

/* The actor is about to sleep and wants to be rung for the next item; false,
 * and not parked, when there is one already. */
bool ctki_mailbox_park (ctki_mailbox_t *mailbox);

/* With the lock held: something was added; returns whether to ring. */
static inline bool ctki_mailbox_filled (ctki_mailbox_t *mailbox)
{
    bool ring = mailbox->parked;
    mailbox->parked = false;
    return ring;
}

#endif
