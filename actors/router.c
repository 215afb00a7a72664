/*
 * router.c - the router as an actor: routing out, its senders, its commands, and
 * closing. What comes in is in router_in.c, what is told about peers in
 * router_events.c. See router.h.
 *
 * What it owns: the bound socket; for every peer that it heard of, the
 * receiving half; for every peer that something was sent to, the sender.
 *
 * What may go wrong: a sender's thread that cannot be started is tried again
 * every second while its mailbox keeps what is for it.
 */
#include "actors/router_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/error.h"
#include "src/mem.h"
#include "src/notice.h"

enum {
    BUSY_BYTES = 16 * 1024, /* of small envelopes routed in one pass: more are on their way */
    LOAD_BYTES = 256 * 1024, /* moved in one round: two threads get more done than one that leads */
    SEND_FRAMES = 256,      /* control frames waiting in libzmq for one connection */
    START_RETRY_MS = 1000,  /* between two tries to start a sender's thread */
    HELP_GAP_US = 20,       /* sends that come so quickly one after the other are load: ... */
    HELPS_MAX = 4,          /* ... helped so often at most, ... */
    HELP_SENDERS = 4,       /* ... and so many senders each time; the others are the router's own */
    FEW_SENDERS = 2,        /* are woken; of more the router does the work */
    UNBIND_MS = 1000,       /* the longest wait for the port to be free again */
    GOODBYE_MIN_MS = 50,    /* how long a closing server answers at least, ... */
    GOODBYE_MAX_MS = 2000,  /* ... at most, ... */
    GOODBYE_SLACK_MS = 60   /* ... and beyond its deadline: 100 ms less the time to stop */
};

enum { START = 1, START_SOON, START_ALL, FLUSH, REMOVE, DRAIN, BURY, WATCH, HEAL };

/* The request is gone as soon as it is done: the gate is the node's. */
void ctki_router_answer (ctki_router_t *router, request_t *request, int error)
{
    request->error = error;
    atomic_store (&request->done, true);
    ctki_gate_open (&router->node->changed);
}

static void await (ctki_node_t *node, const atomic_bool *done)
{
    while (!atomic_load (done)) {
        unsigned ticket = ctki_gate_ticket (&node->changed);
        if (!atomic_load (done))
            ctki_gate_wait (&node->changed, ticket, CTKI_FOREVER);
        else
            ctki_gate_leave (&node->changed);
    }
}

/* ---- senders */

/* The sender of a peer, made and started if need be. NULL: no memory. One whose
 * thread cannot be started yet takes items all the same. */
static ctki_sender_t *sender_of (ctki_router_t *router, ctki_peer_t *peer)
{
    if (CTKI_LIKELY (peer->sender != NULL))
        return peer->sender;
    ctki_out_tomb_t *tomb = ctki_map_get (&router->out_tombs, (uint64_t) peer->pid);
    uint32_t epoch = ctki_router_epoch_of (router, peer);
    ctki_sender_t *sender = ctki_sender_new (router->node, peer, &router->actor.bell, epoch, tomb);
    if (!sender)
        return NULL;
    ctki_free (ctki_map_remove (&router->out_tombs, (uint64_t) peer->pid));
    peer->sender = sender;
    int expected = CTALK_STATE_IDLE;
    if (atomic_compare_exchange_strong (&peer->state, &expected, CTALK_STATE_CONNECTING))
        atomic_store_explicit (&peer->state_since_us, ctki_now_us (), memory_order_relaxed);
    int rc = ctki_sender_start (sender);
    if (rc) {
        ctki_actor_note (&router->actor, CTALK_LOG_WARNING, "peer %d: cannot start its sender: %s", (int) peer->pid, strerror (rc));
        router->retry_us = ctki_now_us () + START_RETRY_MS * CTKI_MS;
    }
    return sender;
}

static void start_if_stopped (ctki_peer_t *peer, void *arg)
{
    ctki_router_t *router = arg;
    ctki_sender_t *sender = peer->sender;
    if (!sender || (ctki_sender_started (sender) && !ctki_sender_failed (sender)))
        return;
    if (peer->inbound) /* it was asked before it failed: nothing waits for it any longer */
        ctki_router_ask_sender (router, peer->inbound, ctki_now_us ());
    if (ctki_sender_start (sender))
        router->retry_us = ctki_now_us () + START_RETRY_MS * CTKI_MS;
}

/* Calls fn for every peer with a record; the outbox is not locked meanwhile. It
 * needs no memory: closing depends on it. Who comes or goes meanwhile may be
 * missed, or let another one be visited twice. */
void ctki_router_each_peer (ctki_router_t *router, void (*fn) (ctki_peer_t *peer, void *arg), void *arg)
{
    ctki_outbox_t *outbox = &router->node->outbox;
    for (size_t i = 0, capacity = 1; i < capacity; i++) {
        ctki_outbox_lock (outbox);
        const ctki_map_t *map = &outbox->route.map;
        capacity = map->capacity;
        ctki_peer_t *peer = i < capacity && map->slots[i].value
                                ? ctki_route_peek (&outbox->route, (ctalk_pid_t) map->slots[i].key)
                                : NULL;
        if (peer)
            ctki_peer_hold (peer);
        ctki_outbox_unlock (outbox);
        if (peer)
            fn (peer, arg);
        ctki_peer_release (peer);
    }
}

static void start_one (ctki_peer_t *peer, void *arg)
{
    sender_of (arg, peer);
}

/* One that is no peer any more has none. */
static void start_soon (ctki_router_t *router, ctalk_pid_t pid)
{
    ctki_outbox_t *outbox = &router->node->outbox;
    ctki_outbox_lock (outbox);
    ctki_peer_t *peer = ctki_route_find (&outbox->route, pid, 0);
    if (peer)
        ctki_peer_hold (peer);
    ctki_outbox_unlock (outbox);
    if (peer)
        start_one (peer, router);
    ctki_peer_release (peer);
}

static void start_all (ctki_router_t *router)
{
    ctki_outbox_t *outbox = &router->node->outbox;
    ctki_outbox_lock (outbox);
    ctki_crowd_t *all = ctki_route_everybody (&outbox->route, 0);
    if (all)
        ctki_crowd_hold (all);
    ctki_outbox_unlock (outbox);
    for (size_t i = 0; all && i < all->count; i++)
        start_one (all->peer[i], router);
    ctki_crowd_release (all);
}

/* ---- routing out */

/* An item that cannot go on its way: its peer was removed, or there is no memory. The
 * peer's actors will never count what was for them, so all is counted anew. */
static void abandon (ctki_router_t *router, ctki_peer_t *peer, const ctki_item_t *item)
{
    ctki_count_locked (&router->node->routed, item->count);
    ctki_count (&peer->abandoned, item->count);
    if (router->phase != RUNNING)
        router->abandoned += item->count - (item->kind == CTKI_RUN ? ctki_notices_count (item->data, item->size) : 0);
    if (!peer->removed)
        ctki_outbox_forget (&router->node->outbox, peer->pid, 0);
    ctki_outbox_settled (&router->node->outbox, peer, (int64_t) item->charge);
    ctki_node_changed (router->node);
}

/* Hands an item to the sender of its peer; takes it over. */
static void hand_over (ctki_router_t *router, ctki_peer_t *peer, ctki_item_t *item)
{
    ctki_sender_t *sender = peer->removed ? NULL : sender_of (router, peer);
    if (!sender) {
        abandon (router, peer, item);
        ctki_item_release (item);
        return;
    }
    ctki_count_locked (&router->node->routed, item->count);
    if (ctki_sender_put (sender, item) && !peer->ring) {
        ctki_peer_hold (peer);
        peer->ring = true;
        peer->ring_next = router->ring;
        router->ring = peer;
        router->rings++;
    }
}

/* A broadcast: the records are encoded and their checksum computed once. */
static void spread (ctki_router_t *router, ctki_item_t *item)
{
    ctki_crowd_t *crowd = item->dest;
    if (item->kind == CTKI_RUN && crowd->count > 1) {
        item->crc = ctki_crc32c (0, item->data, item->size);
        item->crc_known = true;
    }
    for (size_t i = 0; i < crowd->count; i++) {
        ctki_item_t *share = ctki_item_share (item, crowd->peer[i]);
        if (share)
            hand_over (router, crowd->peer[i], share);
        else
            abandon (router, crowd->peer[i], item);
    }
    ctki_crowd_release (crowd);
    ctki_item_release (item);
}

/* Gets the senders going that something was handed over to: their work is done
 * here, or they are woken. At most so many; the others wait. */
static void run_senders (ctki_router_t *router, bool help, unsigned most)
{
    for (; router->ring && most > 0; most--) {
        ctki_peer_t *peer = router->ring;
        router->ring = peer->ring_next;
        router->rings--;
        peer->ring = false;
        if (peer->sender && !(help && ctki_sender_help (peer->sender)))
            ctki_sender_ring (peer->sender);
        ctki_peer_release (peer);
    }
}

/* Hands everything over that was sent since the last time. */
static void take_sent (ctki_router_t *router)
{
    ctki_items_t items;
    size_t passed = 0;
    atomic_store_explicit (&router->passed, 0, memory_order_relaxed);
    if (!ctki_outbox_take (&router->node->outbox, &items))
        return;
    for (ctki_item_t *item; (item = ctki_items_take (&items));) {
        passed += item->kind == CTKI_RUN ? item->size : 0;
        if (item->many)
            spread (router, item);
        else
            hand_over (router, item->dest, item);
    }
    atomic_store_explicit (&router->passed, passed, memory_order_relaxed);
}

/* The router's own pass. To wake a few senders lets them work side by side; to
 * wake many costs more than to do their work. */
static void route (ctki_router_t *router)
{
    take_sent (router);
    run_senders (router, router->node->helping && router->rings > FEW_SENDERS, UINT_MAX);
}

/* Whether the last pass shows that more is on its way. */
static bool passed_much (const ctki_router_t *router)
{
    return atomic_load_explicit (&router->passed, memory_order_relaxed) >= BUSY_BYTES;
}

/* ---- closing */

static void close_one (ctki_peer_t *peer, void *arg)
{
    ctki_router_t *router = arg;
    if (peer->sender)
        ctki_sender_close (peer->sender, router->deadline_us);
}

static void drain (ctki_router_t *router, int64_t deadline_us)
{
    router->phase = DRAINING;
    router->deadline_us = deadline_us;
    route (router); /* the last of it: nobody sends any more */
    for (inbound_t *inbound = router->inbounds; inbound; inbound = inbound->next) {
        ctki_in_leave (&inbound->in, ctki_now_us ());
        ctki_router_set_due (router, inbound);
    }
    ctki_router_each_peer (router, close_one, router);
}

static void is_ended (ctki_peer_t *peer, void *arg)
{
    if (peer->sender && !ctki_sender_ended (peer->sender))
        *(bool *) arg = false;
}

static bool all_confirmed (const ctki_router_t *router)
{
    for (const inbound_t *inbound = router->inbounds; inbound; inbound = inbound->next) {
        if (!inbound->in.confirmed && inbound->in.open)
            return false;
    }
    return true;
}

/* The own queues are settled: how long to go on answering the others. */
static void begin_parting (ctki_router_t *router, int64_t now_us)
{
    int64_t least = now_us + GOODBYE_MIN_MS * CTKI_MS;
    int64_t until = CTKI_MIN (now_us + GOODBYE_MAX_MS * CTKI_MS, CTKI_MAX (router->deadline_us, least));
    if (router->deadline_us < CTKI_FOREVER - GOODBYE_SLACK_MS * CTKI_MS)
        until = CTKI_MIN (until, router->deadline_us + GOODBYE_SLACK_MS * CTKI_MS);
    router->parting_us = until;
    router->phase = PARTING;
}

/* One look at how far closing has come; returns when to look again. */
static int64_t part (ctki_router_t *router, int64_t now_us)
{
    if (router->phase == DRAINING) {
        bool ended = true;
        ctki_router_each_peer (router, is_ended, &ended);
        if (ended)
            begin_parting (router, now_us);
    }
    if (router->phase != PARTING)
        return CTKI_FOREVER;
    if (now_us < router->parting_us && !all_confirmed (router))
        return router->parting_us;
    router->phase = DONE;
    atomic_store (&router->done, true);
    ctki_gate_open (&router->node->changed);
    return CTKI_FOREVER;
}

/* ---- the actor */

/* libzmq takes an ipc path away from whoever is bound to it (pitfall I1): a lock
 * beside it keeps it ours. -1: EADDRINUSE, or why the lock cannot be made. */
static int lock_path (ctki_router_t *router, ctalk_error_t *error)
{
    struct stat mine, there;
    router->lock_fd = -1;
    if (strncmp (router->bind, "ipc://", 6) != 0)
        return 0;
    snprintf (router->lock, sizeof router->lock, "%s.lock", router->bind + 6);
    for (;;) {
        int fd = open (router->lock, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        if (fd < 0)
            return ctki_error_set (error, errno, "cannot bind %s: cannot make its lock file: %s", router->bind,
                                   strerror (errno));
        if (flock (fd, LOCK_EX | LOCK_NB)) {
            close (fd);
            return ctki_error_set (error, EADDRINUSE, "cannot bind %s: another process or server is bound to it",
                                   router->bind);
        }
        if (fstat (fd, &mine) == 0 && stat (router->lock, &there) == 0 && mine.st_ino == there.st_ino) {
            router->lock_fd = fd;
            return 0;
        }
        close (fd); /* its owner removed it meanwhile: another try */
    }
}

static void unlock_path (ctki_router_t *router)
{
    if (router->lock_fd < 0)
        return;
    unlink (router->lock);
    close (router->lock_fd);
}

static int open_router (void *self, ctalk_error_t *error)
{
    ctki_router_t *router = self;
    ctki_sched_get (&router->node->sched);
    if (lock_path (router, error))
        return -1;
    const ctki_session_setup_t *setup = &router->node->setup;
    ctki_sock_options_t options = {.send_frames = SEND_FRAMES,
                                   .receive_frames = (int) CTKI_MIN (2 * setup->window_frames, INT32_MAX / 2),
                                   .frame_bytes = CTKI_PART_BYTES_MAX + CTKI_FRAME_SLACK_BYTES,
                                   .backlog = router->backlog,
                                   .domain = "clustertalk",
                                   .owner = setup->self};
    router->sock = ctki_sock_router (&options);
    if (!router->sock)
        return ctki_error_set (error, errno, "pid %d: no socket: %s", (int) setup->self, strerror (errno));
    if (ctki_sock_bind (router->sock, router->bind, router->bound, sizeof router->bound))
        return ctki_error_set (error, errno, "pid %d: cannot bind %s: %s", (int) setup->self, router->bind,
                               strerror (errno));
    return 0;
}

static void start_sender (ctki_router_t *router, request_t *request)
{
    bool known = request->peer->sender != NULL;
    if (request->peer->removed) { /* meanwhile: nobody would end its sender */
        ctki_router_answer (router, request, EHOSTUNREACH);
        return;
    }
    request->sender = sender_of (router, request->peer);
    if (request->sender && known)
        ctki_sender_dial (request->sender);
    ctki_router_answer (router, request, !request->sender ? errno : ctki_sender_started (request->sender) ? 0 : EAGAIN);
}

/* All that concerns the peer leaves this actor; its sender goes to the caller. */
static void remove_peer (ctki_router_t *router, request_t *request)
{
    ctki_peer_t *peer = request->peer;
    route (router); /* what was accepted before is abandoned */
    ctki_hall_peer_gone (&router->node->hall, peer->pid, CTALK_WHY_REMOVED);
    if (peer->inbound)
        ctki_router_bury (router, peer->inbound);
    request->sender = peer->sender;
    peer->sender = NULL;
    ctki_router_answer (router, request, 0);
}

/* What the sender of a removed peer left, in case the peer comes back (R17). */
static void keep_tomb (ctki_router_t *router, ctalk_pid_t pid, ctki_out_tomb_t *tomb)
{
    ctki_free (ctki_map_remove (&router->out_tombs, (uint64_t) pid));
    if (!tomb->sid || ctki_map_put (&router->out_tombs, (uint64_t) pid, tomb))
        ctki_free (tomb);
}

/* A way was changed: both actors look. */
static void heal (ctki_router_t *router, ctki_peer_t *peer)
{
    if (peer->inbound)
        ctki_router_look_at_ways (router, peer->inbound, ctki_now_us ());
    if (peer->sender)
        ctki_sender_ring (peer->sender);
    ctki_peer_release (peer);
}

static void flush_one (ctki_peer_t *peer, void *arg)
{
    (void) arg;
    if (peer->sender)
        ctki_sender_flush (peer->sender);
}

static void obey (void *self, const ctki_command_t *command)
{
    ctki_router_t *router = self;
    switch (command->kind) {
    case START:
        start_sender (router, command->pointer);
        break;
    case START_SOON:
        start_soon (router, (ctalk_pid_t) command->number);
        break;
    case START_ALL:
        start_all (router);
        break;
    case FLUSH:
        route (router);
        if (!command->pointer)
            ctki_router_each_peer (router, flush_one, NULL);
        else
            flush_one (command->pointer, NULL);
        ctki_peer_release (command->pointer);
        break;
    case REMOVE:
        remove_peer (router, command->pointer);
        break;
    case BURY:
        keep_tomb (router, (ctalk_pid_t) command->number, command->pointer);
        break;
    case WATCH:
        ctki_router_begin_watch (router, command->pointer);
        break;
    case HEAL:
        heal (router, command->pointer);
        break;
    case CTKI_REPORT_COMMAND:
        ctki_router_add_report (router, command->pointer);
        break;
    default:
        drain (router, command->number);
    }
}

static int64_t step (void *self, int64_t now_us)
{
    ctki_router_t *router = self;
    route (router);
    ctki_router_take_reports (router, now_us);
    bool more = ctki_router_receive (router, now_us);
    ctki_router_hear_inbox (router, now_us);
    int64_t until_us = CTKI_MIN (ctki_router_keep_time (router, now_us, more), router->reports_us);
    until_us = CTKI_MIN (until_us, ctki_hall_tick (&router->node->hall, now_us));
    if (router->phase != RUNNING)
        until_us = CTKI_MIN (until_us, part (router, now_us));
    if (atomic_load_explicit (&router->node->sender_failed, memory_order_relaxed)
        && atomic_exchange (&router->node->sender_failed, false))
        router->retry_us = CTKI_MIN (router->retry_us, now_us + START_RETRY_MS * CTKI_MS);
    if (now_us >= router->retry_us) {
        router->retry_us = CTKI_FOREVER;
        ctki_router_each_peer (router, start_if_stopped, router);
    }
    return more ? 0 : CTKI_MIN (until_us, router->retry_us);
}

static bool park (void *self)
{
    ctki_router_t *router = self;
    return !passed_much (router) && ctki_mailbox_park (&router->node->outbox.mailbox)
           && ctki_sock_is_dry (router->sock);
}

/* Under load it does not park after a pass, only to be rung by the next send:
 * it lets others run, if any want to, and looks again. So a batch gathers while
 * they do, and nobody pays for the wake-up. */
static int64_t after (void *self, int64_t now_us)
{
    ctki_router_t *router = self;
    if (!passed_much (router))
        return CTKI_FOREVER;
    sched_yield ();
    return now_us;
}

static bool is_busy (void *self)
{
    const ctki_router_t *router = self;
    return atomic_load_explicit (&router->passed, memory_order_relaxed) + router->taken >= LOAD_BYTES;
}

static int watched (void *self, int fds[CTKI_ACTOR_FDS])
{
    ctki_router_t *router = self;
    fds[0] = ctki_sock_fd (router->sock);
    return 1;
}

static void close_router (void *self)
{
    ctki_router_t *router = self;
    while (router->inbounds) {
        inbound_t *inbound = router->inbounds;
        ctki_router_unlink (router, inbound);
        ctki_router_end_inbound (inbound);
    }
    while (router->tombs) {
        inbound_t *inbound = router->tombs;
        router->tombs = inbound->next;
        ctki_router_end_inbound (inbound);
    }
    if (router->sock && router->bound[0])
        ctki_sock_unbind (router->sock, router->bound, UNBIND_MS);
    ctki_sock_close (&router->sock);
    unlock_path (router);
}

static const ctki_actor_ops_t ops = {.open = open_router,
                                     .command = obey,
                                     .step = step,
                                     .park = park,
                                     .after = after,
                                     .busy = is_busy,
                                     .watch = watched,
                                     .close = close_router};

/* ---- what other threads do in its place */

/* Whether the sends come one by one. Under load it is better to wake a thread:
 * what is sent until it runs is a batch. Where something waits to be received,
 * what comes of that will be sent next. */
static bool is_quiet (ctki_router_t *router, int64_t now_us)
{
    if (!ctki_inbox_is_empty (&router->node->inbox))
        return false;
    bool row = now_us - router->helped_us < HELP_GAP_US;
    router->helped_us = now_us;
    router->helps = row ? router->helps + 1 : 0;
    return router->helps < HELPS_MAX;
}

/* A thread has sent something while the router slept: it takes it on its way, to
 * the sender and into libzmq. The router goes on sleeping. */
static bool help (void *self)
{
    ctki_router_t *router = self;
    if (!ctki_actor_borrow (&router->actor))
        return false;
    bool done = router->phase == RUNNING && is_quiet (router, ctki_now_us ());
    if (done) {
        int64_t retry_us = router->retry_us;
        take_sent (router);
        run_senders (router, true, HELP_SENDERS);
        ctki_count (&router->node->helped, 1);
        done = !router->ring && ctki_mailbox_park (&router->node->outbox.mailbox) && router->retry_us == retry_us
               && !router->actor.note_level;
    }
    ctki_actor_give_back (&router->actor);
    return done;
}

static bool begin_to_lead (void *self)
{
    ctki_router_t *router = self;
    if (!ctki_lead_begin (&router->actor.lead))
        return false;
    router->leaves_work = false;
    return true;
}

/* Nobody looks for what is left to do but the router's own thread, at once. */
static void end_to_lead (void *self, bool busy)
{
    ctki_router_t *router = self;
    ctki_lead_end (&router->actor.lead, busy || router->leaves_work);
}

static void make_round (ctki_router_t *router, bool *busy)
{
    router->leaves_work = ctki_actor_lead_round (&router->actor, busy) == 0;
    ctki_count (&router->node->led, 1);
}

/* Looks whether something came, for a while (SpinMicros) without sleeping. */
static int spin (ctki_router_t *router, int64_t deadline_us, const sigset_t *signals, bool *busy)
{
    int64_t until_us = CTKI_MIN (ctki_now_us () + router->node->spin_us, deadline_us);
    for (;;) {
        make_round (router, busy);
        if (*busy || !ctki_inbox_leads_on (&router->node->inbox) || ctki_now_us () >= until_us)
            return 0;
        if (ppoll (NULL, 0, &(struct timespec){0}, signals) < 0) /* a handler ran */
            return errno;
        sched_yield ();
    }
}

/* A sleep, if there is nothing to do, and a round as the router's thread makes it. */
static int lead (void *self, int64_t deadline_us, const sigset_t *signals, bool *busy)
{
    ctki_router_t *router = self;
    ctki_inbox_t *inbox = &router->node->inbox;
    int rc = router->node->spin_us ? spin (router, deadline_us, signals, busy) : 0;
    if (rc || *busy || !ctki_inbox_doze (inbox))
        return rc;
    rc = ctki_actor_lead_sleep (&router->actor, CTKI_MIN (ctki_actor_lead_until (&router->actor), deadline_us),
                                inbox->lead_fd, signals);
    ctki_inbox_awake (inbox);
    make_round (router, busy);
    return rc == 0 && deadline_us != CTKI_FOREVER && ctki_now_us () >= deadline_us ? EAGAIN : rc;
}

/* A receiver has taken so much that a peer is to be told: it does that itself, if
 * nobody is at work here who could. */
static bool serve (void *self)
{
    ctki_router_t *router = self;
    if (!ctki_lead_is_led (&router->actor.lead) || !ctki_actor_borrow (&router->actor))
        return false;
    int64_t now_us = ctki_now_us ();
    ctki_router_hear_inbox (router, now_us);
    int64_t until_us = ctki_router_keep_time (router, now_us, true);
    bool done = until_us >= router->actor.sleeps_us && park (router) && !router->actor.note_level;
    ctki_actor_give_back (&router->actor);
    return done;
}

static const ctki_lead_ops_t lead_ops = {.begin = begin_to_lead, .turn = lead, .end = end_to_lead, .serve = serve};

int ctki_router_accept_help (ctki_router_t *router)
{
    ctki_node_t *node = router->node;
    node->helping = true;
    node->outbox.help = help;
    node->outbox.helps = router;
    return ctki_inbox_accept_leaders (&node->inbox, &lead_ops, router);
}

/* ---- for the server */

ctki_router_t *ctki_router_new (ctki_node_t *node, const char *endpoint, int backlog)
{
    ctki_router_t *router = ctki_alloc_zero (sizeof *router);
    if (!router)
        return NULL;
    if (ctki_actor_init (&router->actor, &ops, router)) {
        ctki_free (router);
        return NULL;
    }
    router->node = node;
    router->bind = endpoint;
    router->backlog = backlog;
    router->retry_us = router->reports_us = CTKI_FOREVER;
    router->reports_end = &router->reports;
    return router;
}

int ctki_router_start (ctki_router_t *router, ctalk_error_t *error)
{
    char name[32];
    snprintf (name, sizeof name, "ct-router-%d", (int) router->node->setup.self);
    int rc = ctki_actor_start (&router->actor, name);
    if (rc)
        return ctki_error_set (error, rc, "pid %d: cannot start a thread: %s", (int) router->node->setup.self,
                               strerror (rc));
    return ctki_actor_await (&router->actor, error);
}

ctki_bell_t *ctki_router_bell (ctki_router_t *router)
{
    return &router->actor.bell;
}

const char *ctki_router_endpoint (const ctki_router_t *router)
{
    return router->bound;
}

static int ask (ctki_router_t *router, int kind, request_t *request)
{
    if (ctki_actor_tell (&router->actor, kind, 0, request))
        return ENOMEM;
    await (router->node, &request->done);
    return request->error;
}

int ctki_router_start_sender (ctki_router_t *router, ctki_peer_t *peer, ctalk_error_t *error)
{
    request_t request = {.peer = peer};
    int rc = ask (router, START, &request);
    if (rc)
        return ctki_error_set (error, rc, "the sender for pid %d cannot be started: %s", (int) peer->pid,
                               strerror (rc));
    return ctki_sender_await (request.sender, error);
}

int ctki_router_start_soon (ctki_router_t *router, ctalk_pid_t pid)
{
    return ctki_actor_tell (&router->actor, START_SOON, pid, NULL);
}

void ctki_router_start_all (ctki_router_t *router)
{
    ctki_actor_tell (&router->actor, START_ALL, 0, NULL);
}

void ctki_router_flush (ctki_router_t *router, ctki_peer_t *peer)
{
    if (peer)
        ctki_peer_hold (peer);
    if (ctki_actor_tell (&router->actor, FLUSH, 0, peer))
        ctki_peer_release (peer); /* no memory: acknowledged all the same, a little later */
}

void ctki_router_remove (ctki_router_t *router, ctki_peer_t *peer, int64_t deadline_us)
{
    request_t request = {.peer = peer};
    ask (router, REMOVE, &request);
    if (!request.sender)
        return;
    ctki_out_tomb_t scratch, *tomb = ctki_alloc (sizeof *tomb);
    ctki_sender_dismiss (request.sender, deadline_us, tomb ? tomb : &scratch);
    ctki_sender_stop (&request.sender);
    /* Without memory the peer will find a new session, should it come back. */
    if (tomb && ctki_actor_tell (&router->actor, BURY, peer->pid, tomb))
        ctki_free (tomb);
}

int ctki_router_watch (ctki_router_t *router, bool on)
{
    request_t request = {.on = on};
    return ask (router, WATCH, &request);
}

void ctki_router_heal (ctki_router_t *router, ctki_peer_t *peer)
{
    ctki_peer_hold (peer);
    if (ctki_actor_tell (&router->actor, HEAL, 0, peer))
        ctki_peer_release (peer); /* no memory: they look at their next frame */
}

void ctki_router_drain (ctki_router_t *router, int64_t deadline_us)
{
    if (ctki_actor_tell (&router->actor, DRAIN, deadline_us, NULL))
        return; /* no memory: what is left is counted when the senders are stopped */
    await (router->node, &router->done);
}

static void stop_one (ctki_peer_t *peer, void *arg)
{
    ctki_router_t *router = arg;
    if (peer->sender)
        router->abandoned += ctki_sender_stop (&peer->sender);
}

uint64_t ctki_router_stop (ctki_router_t **router_p)
{
    ctki_router_t *router = *router_p;
    *router_p = NULL;
    ctki_actor_stop (&router->actor);
    route (router);
    ctki_router_each_peer (router, stop_one, router);
    ctki_actor_drain (&router->actor); /* the senders reported, ... */
    ctki_router_drop_reports (router);
    ctki_actor_fini (&router->actor); /* ... and rang its bell, to the last */
    uint64_t abandoned = router->abandoned;
    for (size_t i = 0; i < router->out_tombs.capacity; i++)
        ctki_free (router->out_tombs.slots[i].value);
    ctki_map_fini (&router->out_tombs);
    ctki_map_fini (&router->sids);
    ctki_free (router->inlet);
    ctki_free (router->spare_inlet);
    ctki_restart_destroy (&router->restart);
    ctki_free (router);
    return abandoned;
}
