/*
 * router.h - the actor every envelope of a server passes: it owns the bound
 * socket, the receiving halves of all sessions, and the senders. It routes by
 * pid what the application sends, and puts into the inbox what the peers send.
 * It never waits for a peer: room was reserved before, on both ways.
 */
#ifndef CTKI_ROUTER_H
#define CTKI_ROUTER_H

#include "src/node.h"

typedef struct ctki_router ctki_router_t;

/* A router without a thread: its bell can be rung. The endpoint must live as
 * long. NULL: errno. */
ctki_router_t *ctki_router_new (ctki_node_t *node, const char *endpoint, int backlog);
ctki_bell_t *ctki_router_bell (ctki_router_t *router);

/* From now on threads that send and receive may do its work. Before it starts. -1: errno. */
int ctki_router_accept_help (ctki_router_t *router);

/* Binds the endpoint; ready on return. -1: the error is filled in. */
int ctki_router_start (ctki_router_t *router, ctalk_error_t *error);
const char *ctki_router_endpoint (const ctki_router_t *router); /* as bound */

/* Starts the sender of a peer, or gives it the endpoint that is known now.
 * Waits until it is ready. -1: the error is filled in. */
int ctki_router_start_sender (ctki_router_t *router, ctki_peer_t *peer, ctalk_error_t *error);

/* The same without waiting: it is tried until it can be started. -1: no memory. */
int ctki_router_start_soon (ctki_router_t *router, ctalk_pid_t pid);

/* Starts the senders of all peers; does not wait. */
void ctki_router_start_all (ctki_router_t *router);

/* Gets what was sent to the peer (NULL: to all) acknowledged soon. */
void ctki_router_flush (ctki_router_t *router, ctki_peer_t *peer);

/* Ends all that concerns a peer that is no member any more (ctki_outbox_drop ()
 * was called): says goodbye until the deadline at the latest. */
void ctki_router_remove (ctki_router_t *router, ctki_peer_t *peer, int64_t deadline_us);

/* Whether events about peers are put into the inbox. 0, or an errno. */
int ctki_router_watch (ctki_router_t *router, bool on);

/* A way to or from the peer was changed (src/ways.h): it is looked at now. */
void ctki_router_heal (ctki_router_t *router, ctki_peer_t *peer);

/* Drains and says goodbye, in the order that HACKING.md describes; returns when that is done or
 * over. Nobody sends any more. */
void ctki_router_drain (ctki_router_t *router, int64_t deadline_us);

/* Stops and joins the senders and the router; the port is free on return.
 * Returns how many envelopes were abandoned since the drain began. */
uint64_t ctki_router_stop (ctki_router_t **router_p);

#endif
