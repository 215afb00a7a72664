/*
 * kvstore_actor.h - a server of the key-value store: an actor, spawned with the
 * name KV_ACTOR on a server of the cluster. Any number may run in one process.
 */
#ifndef KVSTORE_ACTOR_H
#define KVSTORE_ACTOR_H

#include <clustertalk.h>

#include "examples/kvstore_disk.h"

#define KV_ACTOR "kv"

enum {
    KV_HEARTBEAT_MS = 50,
    KV_ELECTION_MS = 300,
    KV_WAITING_MAX = 1024 /* requests that are not answered yet; more are not taken, and their clients ask again */
};

/* Must live as long as the actor. The members are the same on all of them. */
typedef struct {
    const ctalk_pid_t *members;
    size_t members_count;
    kv_disk_t *disk;  /* of this server alone */
    int heartbeat_ms; /* of a leader */
    int election_ms;  /* without a leader for so long, at the shortest, and there is an election; at least 3 heartbeats */
    bool reads_dirty; /* answers reads without asking anybody, as a store must not: for tests that must find this out */
} kv_options_t;

/*
 * The actor; arg: a kv_options_t. It ends with 0 when it is told to stop, and
 * with an errno when its disk fails: then it must not go on, and it tells so to the
 * server that it runs on, in an envelope with msg_id KV_FAILED and the exit
 * reason as text.
 */
int kv_actor (ctalk_actor_t *self, void *arg);

enum { KV_FAILED = 1 };

#endif
