/*
 * server_stats.c - the figures of a server: those of its peers, and what removed
 * ones leave. See server.h.
 */
#include <clustertalk.h>

#include <errno.h>

#include "src/server.h"

/* ---- a peer's, and what removed ones leave */

static void add_stats (ctki_peer_t *peer, void *arg)
{
    ctalk_stats_t *stats = arg;
    uint64_t delivered = ctki_counted (&peer->delivered), abandoned = ctki_counted (&peer->abandoned);
    uint64_t consumed = ctki_counted (&peer->consumed) + ctki_counted (&peer->consumed_by_actors);
    uint64_t lost = ctki_counted (&peer->no_such_actor);
    uint64_t accepted = ctki_counted (&peer->accepted), received = ctki_counted (&peer->received);
    stats->accepted += accepted;
    stats->delivered += delivered;
    stats->abandoned += abandoned;
    stats->in_doubt += ctki_counted (&peer->in_doubt);
    stats->queued += accepted - delivered - abandoned;
    stats->queued_bytes += accepted - delivered - abandoned ? ctki_peer_queued_bytes (peer) : 0;
    stats->skipped += ctki_counted (&peer->skipped);
    stats->refused_full += ctki_counted (&peer->refused_full);
    stats->refused_not_up += ctki_counted (&peer->refused_not_up);
    stats->received += received;
    stats->consumed += consumed;
    stats->no_such_actor += lost;
    stats->in_inbox += received - consumed - lost;
    stats->duplicates += ctki_counted (&peer->duplicates);
    stats->malformed += ctki_counted (&peer->malformed);
    stats->retransmitted += ctki_counted (&peer->retransmitted);
    stats->reconnects += ctki_counted (&peer->reconnects);
    stats->rtt_us = CTKI_MAX (stats->rtt_us, ctki_counted (&peer->rtt_us));
    stats->rtt_worst_us = CTKI_MAX (stats->rtt_worst_us, ctki_counted (&peer->rtt_worst_us));
    stats->rebuilt += ctki_counted (&peer->rebuilt);
    stats->restarts += ctki_counted (&peer->restarts);
}

/* Every field is a sum but the round trip, of which the worst counts. */
static void add_sums (ctalk_stats_t *stats, const ctalk_stats_t *more)
{
    uint64_t rtt_us = CTKI_MAX (stats->rtt_us, more->rtt_us);
    uint64_t worst_us = CTKI_MAX (stats->rtt_worst_us, more->rtt_worst_us);
    uint64_t *to = (uint64_t *) stats;
    const uint64_t *from = (const uint64_t *) more;
    for (size_t i = 0; i < sizeof *stats / sizeof *to; i++)
        to[i] += from[i];
    stats->rtt_us = rtt_us;
    stats->rtt_worst_us = worst_us;
}

/* Removed peers that nobody holds any more are summed up and freed. With the
 * outbox locked. */
static void fold_gone (ctki_node_t *node)
{
    for (ctki_peer_t **link = &node->gone; *link;) {
        ctki_peer_t *peer = *link;
        if (atomic_load (&peer->refs) > 1) {
            link = &peer->gone_next;
            continue;
        }
        *link = peer->gone_next;
        add_stats (peer, &node->gone_sums);
        ctki_peer_release (peer);
    }
}

void ctki_server_remember (ctki_node_t *node, ctki_peer_t *peer)
{
    ctki_outbox_lock (&node->outbox);
    peer->gone_next = node->gone;
    node->gone = peer;
    fold_gone (node);
    ctki_outbox_unlock (&node->outbox);
}

/* ---- one peer's, or all */

static void add_totals (ctalk_server_t *server, ctalk_stats_t *stats)
{
    ctki_node_t *node = &server->node;
    ctki_outbox_t *outbox = &node->outbox;
    ctki_outbox_lock (outbox);
    ctki_route_each (&outbox->route, add_stats, stats);
    add_stats (outbox->self, stats);
    fold_gone (node);
    for (ctki_peer_t *peer = node->gone; peer; peer = peer->gone_next)
        add_stats (peer, stats);
    add_sums (stats, &node->gone_sums);
    ctki_outbox_unlock (outbox);
    ctki_hall_stats (&node->hall, stats); /* its lock stands above the outbox's */
    stats->refused_full += ctki_counted (&outbox->refused_full);
    stats->refused_not_up += ctki_counted (&outbox->refused_not_up);
    stats->refused_too_big = ctki_counted (&outbox->refused_too_big);
    stats->refused_unreachable = ctki_counted (&outbox->refused_unreachable);
    stats->refused_invalid = ctki_counted (&outbox->refused_invalid);
    stats->refused_shutdown = ctki_counted (&outbox->refused_shutdown);
    stats->refused_memory = ctki_counted (&outbox->refused_memory);
    stats->refused_interrupted = ctki_counted (&outbox->refused_interrupted);
    stats->malformed += ctki_counted (&node->malformed);
    stats->routed = ctki_counted (&node->routed);
    stats->rung = ctki_counted (&outbox->rung);
    stats->helped = ctki_counted (&server->node.helped);
    stats->led = ctki_counted (&server->node.led);
}

static int one_stats (ctalk_server_t *server, ctalk_pid_t pid, ctalk_stats_t *stats)
{
    ctki_peer_t *peer = ctki_server_find (server, pid);
    if (!peer)
        return -1;
    int64_t since_us = atomic_load (&peer->state_since_us);
    since_us = since_us ? since_us : server->node.started_us;
    add_stats (peer, stats);
    if (peer == server->node.outbox.self)
        ctki_hall_stats (&server->node.hall, stats);
    stats->state = (uint64_t) atomic_load (&peer->state);
    stats->state_since_ms = (uint64_t) ((ctki_now_us () - since_us) / CTKI_MS);
    stats->reason = atomic_load (&peer->reason);
    stats->stuck_ms = ctki_counted (&peer->stuck_ms);
    ctki_peer_release (peer);
    return 0;
}

int ctalk_server_stats (ctalk_server_t *server, ctalk_pid_t peer, ctalk_stats_t *stats)
{
    if (!stats)
        return ctki_fail (EINVAL);
    memset (stats, 0, sizeof *stats);
    int cancel;
    if (ctki_server_enter_uncancelled (server, &cancel))
        return -1;
    int rc = 0;
    if (peer == CTALK_BROADCAST)
        add_totals (server, stats);
    else
        rc = one_stats (server, peer, stats);
    int code = errno;
    ctki_server_leave_uncancelled (server, cancel);
    errno = code;
    return rc;
}
