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

#include "src/life.h"
#include "src/node.h"

typedef struct ctki_sender ctki_sender_t;

/* What a sender tells its router, as the pointer of a command of this kind. The
 * router frees it with ctki_report_destroy (). */
enum { CTKI_REPORT_COMMAND = 100 };
typedef struct ctki_report {
    struct ctki_report *next; /* the router's */
    ctki_peer_t *peer;        /* a reference */
    uint32_t epoch;           /* of the last question about the peer's incarnation that it has seen */
    uint64_t inc;             /* of its session with the peer; 0: none, or one that is revived and was not answered yet */
    int64_t alive_us;         /* that one was alive then, or before */
    ctki_obit_t *obit;        /* of its session with a former one; NULL: none */
    ctki_restart_t *restart;  /* memory for what may come of it */
    int state;                /* of the peer, CTALK_STATE_... */
    uint32_t reason;          /* why it is not up */
    uint32_t refused;         /* it refuses us: why; 0: it does not */
    uint32_t stuck_ms;        /* its application has taken nothing for so long; 0: it has */
    bool parted;              /* it was leaving, and its connection is gone */
} ctki_report_t;
void ctki_report_destroy (ctki_report_t **report_p);

/* A sender without a thread: its mailbox takes items already. The peer's record
 * is held. router is told by reports, and rung when the sender has ended by
 * itself; epoch: of the last question to a former sender of that peer; tomb: of
 * its session, if there was one. NULL: errno. */
ctki_sender_t *ctki_sender_new (ctki_node_t *node, ctki_peer_t *peer, ctki_bell_t *router, uint32_t epoch,
                                const ctki_out_tomb_t *tomb);

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

/* Sends what is in its mailbox, on the caller's thread, which holds the router's
 * lock. False: ring it instead, or all the same. */
bool ctki_sender_help (ctki_sender_t *sender);

/* The peer's endpoint is known now: connect. */
void ctki_sender_dial (ctki_sender_t *sender);

/* Get all that is in the mailbox now acknowledged soon. */
void ctki_sender_flush (ctki_sender_t *sender);

/* Asks what became of its session, now that another incarnation of the peer was
 * proved: it answers with a report of this epoch. -1: no memory. */
int ctki_sender_ask (ctki_sender_t *sender, uint32_t epoch, const ctki_proof_t *proof);

/* For one that has no thread, or failed: the questions up to this epoch were
 * answered without it, and its reports are not older than they. */
void ctki_sender_catch_up (ctki_sender_t *sender, uint32_t epoch);

/* Drain until the deadline, say goodbye, end; what is left is abandoned. */
void ctki_sender_close (ctki_sender_t *sender, int64_t deadline_us);

/* Whether it has ended (or never started): nothing is queued any more. */
bool ctki_sender_ended (const ctki_sender_t *sender);

/* Abandons what is queued, says goodbye until the deadline at the latest, and
 * ends; joined on return. tomb: what is needed to go on if the peer comes back. */
void ctki_sender_dismiss (ctki_sender_t *sender, int64_t deadline_us, ctki_out_tomb_t *tomb);

/* Stops and joins it. What is left is abandoned. Returns how many envelopes it
 * abandoned since it was told to close. */
uint64_t ctki_sender_stop (ctki_sender_t **sender_p);

#endif
