/*
 * mailbox.c - ringing, and merging what waits.
 */
#include "src/mailbox.h"

/* ---- bell */

static const char RING = '!';

void ctki_bell_init (ctki_bell_t *bell, ctki_sock_t *end)
{
    pthread_mutex_init (&bell->lock, NULL);
    bell->end = end;
    bell->standby = NULL;
    atomic_init (&bell->led, false);
    atomic_init (&bell->rung, false);
    atomic_init (&bell->calls, 0);
    atomic_init (&bell->heard, 0);
}

void ctki_bell_fini (ctki_bell_t *bell)
{
    ctki_sock_close (&bell->end);
    pthread_mutex_destroy (&bell->lock);
}

/* Nobody is cancelled within. */
static int send_to (ctki_bell_t *bell, const void *data, size_t size)
{
    int cancel = ctki_cancel_disable ();
    pthread_mutex_lock (&bell->lock);
    int rc = ctki_pipe_send (bell->end, data, size);
    pthread_mutex_unlock (&bell->lock);
    ctki_cancel_restore (cancel);
    return rc;
}

/* Counted first, then whoever stands by is looked for, who does not poll the pipe. */
static void count_call (ctki_bell_t *bell)
{
    atomic_fetch_add (&bell->calls, 1);
    if (bell->standby && !atomic_load (&bell->led) && atomic_load (&bell->standby->waiters) > 0)
        ctki_gate_open (bell->standby);
}

void ctki_bell_ring (ctki_bell_t *bell)
{
    if (atomic_exchange (&bell->rung, true))
        return; /* the actor has not heard the last one yet */
    int rc = send_to (bell, &RING, 1);
    if (rc)
        ctki_bell_heard (bell);
    count_call (bell);
}

int ctki_bell_command (ctki_bell_t *bell, const void *command, size_t size)
{
    CTKI_ASSERT (size > 1);
    int rc = send_to (bell, command, size);
    count_call (bell);
    return rc;
}

/* ---- mailbox */

void ctki_mailbox_init (ctki_mailbox_t *mailbox, ctki_pool_t *pool, size_t run_limit)
{
    ctki_lock_init (&mailbox->lock);
    mailbox->items = (ctki_items_t) {0};
    mailbox->parked = false;
    ctki_writer_init (&mailbox->writer, pool, ctki_writer_block_bytes (run_limit), run_limit);
}

void ctki_mailbox_fini (ctki_mailbox_t *mailbox)
{
    CTKI_ASSERT (!mailbox->items.head);
    ctki_writer_fini (&mailbox->writer);
}

/* Copies a small run behind the others that wait. */
static bool merge (ctki_mailbox_t *mailbox, const ctki_item_t *item)
{
    ctki_writer_t *writer = &mailbox->writer;
    if (item->kind != CTKI_RUN || item->size > writer->run_limit / 8 || !mailbox->items.head)
        return false;
    return ctki_writer_merge (writer, item->dest, item)
           || ctki_writer_begin_merge (writer, &mailbox->items, item->dest, item) == 0;
}

bool ctki_mailbox_put (ctki_mailbox_t *mailbox, ctki_item_t *item)
{
    ctki_lock_take (&mailbox->lock);
    bool merged = merge (mailbox, item);
    if (!merged) {
        ctki_writer_close (&mailbox->writer);
        ctki_items_add (&mailbox->items, item);
    }
    bool ring = ctki_mailbox_filled (mailbox);
    ctki_lock_release (&mailbox->lock);
    if (merged)
        ctki_item_release (item);
    return ring;
}

bool ctki_mailbox_take_locked (ctki_mailbox_t *mailbox, ctki_items_t *items)
{
    *items = mailbox->items;
    mailbox->items = (ctki_items_t) {0};
    mailbox->parked = false;
    ctki_writer_close (&mailbox->writer);
    return items->head != NULL;
}

bool ctki_mailbox_take (ctki_mailbox_t *mailbox, ctki_items_t *items)
{
    ctki_lock_take (&mailbox->lock);
    bool some = ctki_mailbox_take_locked (mailbox, items);
    ctki_lock_release (&mailbox->lock);
    return some;
}

bool ctki_mailbox_park (ctki_mailbox_t *mailbox)
{
    ctki_lock_take (&mailbox->lock);
    mailbox->parked = !mailbox->items.head;
    bool parked = mailbox->parked;
    ctki_lock_release (&mailbox->lock);
    return parked;
}
