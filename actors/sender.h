/*
 * sender.h - the actor that talks to one peer: it owns the connected socket
 * with its monitor and the sending half of the session. Made and ended by the
 * router; told what to send through its mailbox.
 *
 * How it may fail: a peer that is absent, slow or stopped is a state, not an
 * error: what is queued waits within its bound. A thread that cannot be started
 * is tried again by the router.
 */
#ifndef CTKI_SENDER_H
#define CTKI_SENDER_H

#include "src/node.h"

typedef struct ctki_sender ctki_sender_t;

/* A sender without a thread: its mailbox takes items already. The peer's record
 * is held. on_end is rung when it has ended by itself. NULL: errno. */
ctki_sender_t *ctki_sender_new (ctki_node_t *node, ctki_peer_t *peer, ctki_bell_t *on_end);

/* Starts its thread, once; does not wait until it is ready. 0, or an errno. */
int ctki_sender_start (ctki_sender_t *sender);
bool ctki_sender_started (const ctki_sender_t *sender);

/* Whether it ended at once, for want of a socket: it can be started again. */
bool ctki_sender_failed (const ctki_sender_t *sender);

/* Waits until a started one is ready. -1: the error. */
int ctki_sender_await (ctki_sender_t *sender, ctalk_error_t *error);

/* Puts an item into its mailbox; returns whether to ring. */
bool ctki_sender_put (ctki_sender_t *sender, ctki_item_t *item);
void ctki_sender_ring (ctki_sender_t *sender);

/* The peer's endpoint is known now: connect. */
void ctki_sender_dial (ctki_sender_t *sender);

/* Get all that is in the mailbox now acknowledged soon. */
void ctki_sender_flush (ctki_sender_t *sender);

/* Drain until the deadline, say goodbye, end; what is left is abandoned. */
void ctki_sender_close (ctki_sender_t *sender, int64_t deadline_us);

/* Whether it has ended (or never started): nothing is queued any more. */
bool ctki_sender_ended (const ctki_sender_t *sender);

/* Abandons what is queued, says goodbye until the deadline at the latest, and
 * ends; joined on return. */
void ctki_sender_dismiss (ctki_sender_t *sender, int64_t deadline_us);

/* Stops and joins it. What is left is abandoned. Returns how many envelopes it
 * abandoned since it was told to close. */
uint64_t ctki_sender_stop (ctki_sender_t **sender_p);

#endif
