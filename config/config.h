/*
 * config.h - what the library reads from a ctalk_config_t. The public calls of
 * the same object are in clustertalk.h. Its list of servers is
 * reference-counted and copied when it is changed while shared: a thousand
 * servers of one config share one list.
 */
#ifndef CTKI_CONFIG_H
#define CTKI_CONFIG_H

#include <clustertalk.h>

#include "config/endpoint.h"
#include "src/base.h"

typedef enum { CTKI_REPORT, CTKI_RESEND } ctki_on_restart_t;

typedef struct {
    uint64_t queue_bytes;       /* charge admitted for one peer */
    uint64_t window_bytes;      /* charge under way to one peer, not consumed */
    uint64_t window_frames;     /* the same in frames */
    uint64_t frame_bytes;       /* records in one frame */
    uint64_t max_message_bytes; /* of payload */
    uint64_t heartbeat_ms, suspect_ms, down_ms;
    uint64_t spin_micros;
    uint64_t io_threads;
    uint64_t mailbox_bytes;
    bool lazy; /* "Senders": "lazy" */
    bool help;
    ctki_on_restart_t on_restart;
} ctki_options_t;

/* Another handle on the same body, unchangeable by the original's owner;
 * ctalk_config_destroy () ends it. Safe against the same call on the same
 * config from other threads. NULL: ENOMEM. */
ctalk_config_t *ctki_config_share (const ctalk_config_t *config);

const ctki_options_t *ctki_config_options (const ctalk_config_t *config);

/* The cluster's name, "" when it has none. */
const char *ctki_config_cluster (const ctalk_config_t *config);

/* Options that contradict each other (HeartbeatMs < SuspectMs < DownMs): 0, or -1 with EINVAL and the text filled in. */
int ctki_config_check_options (const ctalk_config_t *config, ctalk_error_t *error);

/* The servers by index, 0 ... count - 1 in ascending order of pid. */
size_t ctki_config_count (const ctalk_config_t *config);
ctalk_pid_t ctki_config_pid (const ctalk_config_t *config, size_t index);
const ctki_endpoint_t *ctki_config_bind (const ctalk_config_t *config, size_t index);
const ctki_endpoint_t *ctki_config_connect (const ctalk_config_t *config, size_t index);

/* The index of a pid; -1: it is not there. */
long ctki_config_index (const ctalk_config_t *config, ctalk_pid_t pid);

#endif
