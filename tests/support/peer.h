/*
 * peer.h - a member of the cluster in a process of its own, so that a test can
 * stop, continue, kill and close it. Fork it before the test makes a server.
 */
#ifndef CTKI_TEST_PEER_H
#define CTKI_TEST_PEER_H

#include <clustertalk.h>

#include "tests/support/process.h"

typedef enum {
    CTKI_PEER_ECHO, /* sends each envelope back */
    CTKI_PEER_SINK, /* takes each envelope and drops it */
    CTKI_PEER_HOLD  /* never receives */
} ctki_peer_mode_t;

typedef struct {
    ctki_process_t process;
    ctalk_pid_t pid;
    const ctalk_config_t *config;
    ctki_peer_mode_t mode;
} ctki_peer_t;

/* Forks it; it waits for ctki_peer_go () before it makes its server. The ports of config must be known. */
void ctki_peer_fork (ctki_peer_t *peer, ctalk_pid_t pid, const ctalk_config_t *config, ctki_peer_mode_t mode);

/* Lets it make its server; returns when it has. */
void ctki_peer_go (ctki_peer_t *peer);

/* Changes what it does with what it receives. */
void ctki_peer_set_mode (ctki_peer_t *peer, ctki_peer_mode_t mode);

/* How many envelopes it has taken. */
int64_t ctki_peer_taken (ctki_peer_t *peer);

/* Lets it close its server and end; fails the test unless it abandoned nothing. */
void ctki_peer_close (ctki_peer_t *peer);

/* The signals SIGSTOP and SIGCONT; the former returns when it has stopped. */
void ctki_peer_stop (ctki_peer_t *peer);
void ctki_peer_continue (ctki_peer_t *peer);

#endif
