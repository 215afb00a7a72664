/*
 * route.h - where an envelope goes: the members of the cluster by pid. A
 * member that nobody talked to yet is only listed (a number in the map); its
 * record is made when it is first asked for. Not thread-safe: it stands under
 * its owner's lock.
 */
#ifndef CTKI_ROUTE_H
#define CTKI_ROUTE_H

#include "src/peers.h"

typedef struct {
    ctki_map_t map;      /* pid to a peer, or to a tagged number */
    ctki_crowd_t *crowd; /* everybody; NULL: to be made again */
    /* Where a listed member can be reached (NULL: not known). */
    const char *(*endpoint) (void *arg, size_t number);
    void *arg;
} ctki_route_t;

void ctki_route_init (ctki_route_t *route, const char *(*endpoint) (void *arg, size_t number), void *arg);
void ctki_route_fini (ctki_route_t *route);

/* Lists a member under the number that endpoint () understands. -1: ENOMEM. */
int ctki_route_list (ctki_route_t *route, ctalk_pid_t pid, size_t number);

/* How many members there are, and their pids in ascending order, at most
 * capacity of them, with `self` among them if it is not negative. */
size_t ctki_route_count (const ctki_route_t *route);
size_t ctki_route_pids (const ctki_route_t *route, ctalk_pid_t self, ctalk_pid_t *pids, size_t capacity);

bool ctki_route_has (const ctki_route_t *route, ctalk_pid_t pid);

/* The record of a member if it was made, else NULL. */
ctki_peer_t *ctki_route_peek (const ctki_route_t *route, ctalk_pid_t pid);

/* The record of a member, made if need be. NULL: EHOSTUNREACH, ENOMEM. */
ctki_peer_t *ctki_route_find (ctki_route_t *route, ctalk_pid_t pid, int64_t now_us);

/* Adds a member with its record (the route takes the reference). -1: ENOMEM. */
int ctki_route_add (ctki_route_t *route, ctki_peer_t *peer);

/* Removes a member; returns its record with the route's reference, or NULL
 * when it had none or is not there (ctki_route_has () tells). */
ctki_peer_t *ctki_route_remove (ctki_route_t *route, ctalk_pid_t pid);

/* Everybody, all records made; the route keeps its reference. NULL: ENOMEM. */
ctki_crowd_t *ctki_route_everybody (ctki_route_t *route, int64_t now_us);

/* Calls fn for every record that was made. */
void ctki_route_each (const ctki_route_t *route, void (*fn) (ctki_peer_t *peer, void *arg), void *arg);

#endif
