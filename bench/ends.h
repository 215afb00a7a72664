/*
 * ends.h - the ends of the workloads with several processes: servers of
 * ClusterTalk and sockets of libzmq, opened and closed in one step each.
 *
 * All calls are those of a child (bench/crew.h): they return 0 or a handle; -1
 * or NULL when they failed, with member->error filled in.
 */
#ifndef ENDS_H
#define ENDS_H

#include "bench/crew.h"

#include <clustertalk.h>

enum {
    ENDS_ENDPOINT_BYTES = 64, /* "tcp://127.0.0.1:65535" */
    ENDS_UP_MS = 60000,       /* for the peers to come up */
    ENDS_HWM_DEFAULT = -1     /* a high-water mark as libzmq sets it */
};

/* Names and values in turn, up to a NULL. */
typedef const char *const *ends_options_t;

/* A config with the pids 1 ... count, each to bind a port of the system's choice. options may be NULL. */
ctalk_config_t *ends_config (crew_member_t *member, size_t count, ends_options_t options);

/* A server from such a config. endpoint (NULL: not wanted) has room for ENDS_ENDPOINT_BYTES. */
ctalk_server_t *ends_server (crew_member_t *member, ctalk_pid_t pid, const ctalk_config_t *config, char *endpoint);

/* A server that lists the one with pid 1 and itself alone. options may be NULL. */
ctalk_server_t *ends_satellite (crew_member_t *member, ctalk_pid_t pid, ends_options_t options, char *endpoint);

/* Tells a server where a peer is. */
int ends_meet (crew_member_t *member, ctalk_server_t *server, ctalk_pid_t pid, const char *endpoint);

/* Closes a server. What is abandoned is a failure. */
int ends_close (crew_member_t *member, ctalk_server_t **server_p);

/* A context with so many I/O threads, which makes so many sockets; 0: as libzmq sets it. */
void *ends_context (crew_member_t *member, int io_threads, int sockets);

/* A socket with these marks on both sides. */
void *ends_socket (crew_member_t *member, void *context, int type, int high_water);

/* Binds a port of the system's choice; endpoint has room for ENDS_ENDPOINT_BYTES. */
int ends_bind (crew_member_t *member, void *socket, char *endpoint);

int ends_connect (crew_member_t *member, void *socket, const char *endpoint);

/* Raises the limit of file descriptors of this process as far as it may. -1: it stays below need. */
int ends_raise_descriptors (crew_member_t *member, size_t need);

#endif
