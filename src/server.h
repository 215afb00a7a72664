/*
 * server.h - a server, as the files of the public calls share it, and how a call
 * comes in and goes out. Close waits for the calls that are under way; a server
 * knows whether it is a copy in a child process.
 */
#ifndef CTKI_SERVER_H
#define CTKI_SERVER_H

#include <clustertalk.h>

#include <errno.h>

#include "actors/router.h"
#include "config/config.h"
#include "src/calls.h"
#include "src/node.h"

struct ctalk_server {
    ctki_node_t node;
    ctki_router_t *router;
    ctalk_config_t *config;
    pthread_mutex_t members; /* one member comes or goes at a time; above all other locks */
    char bind[CTKI_ENDPOINT_BYTES];
    unsigned generation; /* of forks, when it was made */
    ctki_calls_t calls;
};

static inline int ctki_fail (int code)
{
    errno = code;
    return -1;
}

/* ---- calls under way */

static inline void ctki_server_leave (ctalk_server_t *server)
{
    ctki_calls_leave (&server->calls);
}

static inline int ctki_server_enter (ctalk_server_t *server)
{
    if (CTKI_UNLIKELY (!server))
        return ctki_fail (EINVAL);
    if (CTKI_UNLIKELY (server->generation != ctki_fork_generation_now ()))
        return ctki_fail (EOWNERDEAD);
    return CTKI_LIKELY (ctki_calls_enter (&server->calls)) ? 0 : ctki_fail (ESHUTDOWN);
}

/* The same for all calls but those that send and receive, which see to it
 * themselves where they may wait: nobody is cancelled within. */
static inline int ctki_server_enter_uncancelled (ctalk_server_t *server, int *cancel)
{
    *cancel = ctki_cancel_disable ();
    if (ctki_server_enter (server) == 0)
        return 0;
    ctki_cancel_restore (*cancel);
    return -1;
}

static inline void ctki_server_leave_uncancelled (ctalk_server_t *server, int cancel)
{
    ctki_server_leave (server);
    ctki_cancel_restore (cancel);
}

/* ---- shared by the files of the public calls */

/* The record of a peer with a reference, made if need be; the own one among them. NULL: errno. Takes the outbox's lock. */
ctki_peer_t *ctki_server_find (ctalk_server_t *server, ctalk_pid_t pid);

/* ctalk_actor_spawn () and ctalk_actor_stop () for one life of an actor, by its serial: see ctki_hall_stop (). */
uint64_t ctki_server_spawn (ctalk_server_t *server, const char *name, ctalk_actor_fn *fn, void *arg, uint64_t *serial);
int ctki_server_stop (ctalk_server_t *server, uint64_t actor, uint64_t serial, int timeout_ms);

/* Waits until done (arg) says 0 or an errno but EAGAIN; it is asked whenever something has changed. 0, or -1 and errno. */
int ctki_server_await (ctalk_server_t *server, int timeout_ms, int (*done) (ctalk_server_t *server, void *arg), void *arg);

/* Takes over the reference of a peer that was removed: its figures stay in the sums. Takes the outbox's lock. */
void ctki_server_remember (ctki_node_t *node, ctki_peer_t *peer);

#endif
