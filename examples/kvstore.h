/*
 * kvstore.h - what the commands of kvstore share.
 */
#ifndef KVSTORE_H
#define KVSTORE_H

#include <clustertalk.h>

/* Pids below are servers of the store; from here on they are clients. */
enum { KV_CLIENTS_FROM = 100 };

/* The servers of the store among those of a config; at most KV_MEMBERS_MAX. Returns how many, 0: none or too many. */
size_t kv_members (const ctalk_config_t *config, ctalk_pid_t *members);

/* Is one server of the store until SIGINT or SIGTERM. Returns the exit status. */
int kv_serve (const ctalk_config_t *config, ctalk_pid_t pid, const char *dir);

/* Shows it off. Returns the exit status. */
int kv_demo (void);

#endif
