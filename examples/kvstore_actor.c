/*
 * kvstore_actor.c - a server of the key-value store. It takes from its mailbox
 * what is there (messages of the other servers, requests of clients, its own
 * timer), lets the log have it, and then does what follows from all of it
 * together: one write to the disk, then the messages, then the answers. So the
 * more there is to do, the less each of it costs.
 *
 * Nothing in here waits but the receive, and the disk: a message for a peer that
 * is not up, or an answer that finds no room, is not sent. Raft sends again what
 * is missing with the next heartbeat, and clients ask again.
 *
 * Owns the log, the state, and the requests that are not answered yet: envelopes
 * that stay open until then.
 */
#include "examples/kvstore_actor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "examples/kvstore_state.h"

enum { TIMER = 1, AT_ONCE_MAX = 256 /* envelopes, before what follows from them is done */ };

/* A request of a client. */
typedef struct {
    ctalk_envelope_t envelope;
    kv_request_t request; /* points into it */
    uint64_t term;        /* of the leader that took it, this server; 0: it waits for a leader */
    uint64_t index;       /* answered when so many entries are applied ... */
    uint64_t round;       /* ... and, a read, this round is confirmed */
} waiting_t;

typedef struct {
    ctalk_actor_t *self;
    const kv_options_t *options;
    ctalk_server_t *server;
    uint64_t actor; /* id of this one and, by its name, of those on the other servers */
    kv_log_t log;
    kv_state_t *state;
    uint64_t applied;
    waiting_t waiting[KV_WAITING_MAX];
    size_t waiting_count;
    kv_writer_t bytes; /* of whatever is sent next */
    uint64_t timer;
    bool timer_is_leaders;
    uint64_t random;
} kv_t;

/* ---- the timer */

/* xorshift: so that two candidates do not meet again and again. */
static int draw_ms (kv_t *kv, int least_ms)
{
    kv->random ^= kv->random << 13;
    kv->random ^= kv->random >> 7;
    kv->random ^= kv->random << 17;
    return least_ms + (int) (kv->random % (uint64_t) least_ms);
}

/* It is not put off with each heartbeat that comes: when it comes it asks whether there was one. */
static bool set_timer (kv_t *kv)
{
    kv->timer_is_leaders = kv->log.role == KV_LEADER;
    ctalk_envelope_t timer = {.pid = ctalk_server_pid (kv->server), .to = kv->actor, .msg_id = TIMER};
    int ms = kv->timer_is_leaders ? kv->options->heartbeat_ms : draw_ms (kv, kv->options->election_ms);
    kv->timer = ctalk_actor_send_after (kv->self, ms, &timer);
    return kv->timer != 0;
}

/* A new leader beats at once, a former one has an election's time again. */
static bool keep_timer (kv_t *kv)
{
    if (kv->timer && kv->timer_is_leaders == (kv->log.role == KV_LEADER))
        return true;
    if (kv->timer)
        ctalk_actor_cancel (kv->self, kv->timer);
    return set_timer (kv);
}

/* ---- answers */

static void reply (kv_t *kv, const ctalk_envelope_t *envelope, const kv_answer_t *answer)
{
    kv->bytes.size = 0;
    kv_write_answer (&kv->bytes, answer);
    (void) ctalk_actor_reply (kv->self, envelope, kv->bytes.data, kv->bytes.size, 0);
}

/* Answers the request at i. */
static void settle (kv_t *kv, size_t i, const kv_answer_t *answer)
{
    reply (kv, &kv->waiting[i].envelope, answer);
    ctalk_envelope_close (&kv->waiting[i].envelope);
    kv->waiting_count--;
    memmove (&kv->waiting[i], &kv->waiting[i + 1], (kv->waiting_count - i) * sizeof kv->waiting[0]);
}

static void tell_who (kv_t *kv, const ctalk_envelope_t *envelope)
{
    kv_answer_t answer = {.status = KV_DONE,
                          .leader = kv->log.leader,
                          .term = kv->log.term,
                          .last = kv->log.last,
                          .commit = kv->log.commit,
                          .applied = kv->applied};
    reply (kv, envelope, &answer);
}

/* ---- requests: taken when they come, and again when there is another leader */

/* Whether this server, a leader, has it now: else there are too many. */
static bool take (kv_t *kv, waiting_t *waiting)
{
    if (waiting->request.op == KV_GET) {
        if (!kv_log_read (&kv->log, &waiting->round, &waiting->index))
            return false;
    } else
        waiting->index = kv_log_propose (&kv->log, waiting->envelope.data, waiting->envelope.size);
    waiting->term = waiting->index ? kv->log.term : 0;
    return waiting->index != 0;
}

/* Those that no leader has yet. Where no leader is known they wait for one: so a client need not ask again and again.
 * Some may have been in the log of this server when it was leader, and may be committed after all: they are not done
 * twice. */
static void admit (kv_t *kv)
{
    for (size_t i = 0; i < kv->waiting_count;) {
        waiting_t *waiting = &kv->waiting[i];
        if (waiting->term && (kv->log.role != KV_LEADER || waiting->term != kv->log.term))
            *waiting = (waiting_t){.envelope = waiting->envelope, .request = waiting->request};
        if (kv->log.leader != KV_NOBODY && kv->log.role != KV_LEADER) {
            settle (kv, i, &(kv_answer_t){.status = KV_NOT_LEADER, .leader = kv->log.leader});
            continue;
        }
        if (!waiting->term && kv->log.role == KV_LEADER)
            take (kv, waiting);
        i++;
    }
}

/* Returns whether the envelope was taken over. */
static bool on_request (kv_t *kv, const ctalk_envelope_t *envelope)
{
    waiting_t waiting = {.envelope = *envelope};
    kv_answer_t answer = {.status = KV_INVALID, .leader = KV_NOBODY};
    if (!kv_read_request (envelope->data, envelope->size, &waiting.request))
        reply (kv, envelope, &answer);
    else if (waiting.request.op == KV_WHO)
        tell_who (kv, envelope);
    else if (waiting.request.op == KV_GET && kv->options->reads_dirty) {
        kv_state_get (kv->state, waiting.request.key, &answer);
        reply (kv, envelope, &answer);
    } else if (kv->waiting_count < KV_WAITING_MAX) {
        kv->waiting[kv->waiting_count++] = waiting;
        return true;
    }
    return false;
}

/* ---- what is committed */

/* The write that became this entry, if its client waits here. */
static void settle_write (kv_t *kv, uint64_t index, const kv_answer_t *answer)
{
    for (size_t i = 0; i < kv->waiting_count; i++) {
        const waiting_t *waiting = &kv->waiting[i];
        if (waiting->term && waiting->request.op != KV_GET && waiting->index == index) {
            settle (kv, i, answer);
            return;
        }
    }
}

/* What stands in the log was checked when it was proposed. */
static void apply (kv_t *kv)
{
    while (kv->applied < kv->log.commit) {
        const kv_entry_t *entry = &kv->log.entry[++kv->applied];
        kv_request_t request;
        kv_answer_t answer = {.leader = kv->log.leader};
        if (entry->size == 0 || !kv_read_request (entry->data, entry->size, &request))
            continue;
        kv_state_apply (kv->state, &request, &answer);
        settle_write (kv, kv->applied, &answer);
    }
}

static void answer_reads (kv_t *kv)
{
    uint64_t confirmed = kv_log_confirmed (&kv->log);
    for (size_t i = 0; i < kv->waiting_count;) {
        const waiting_t *waiting = &kv->waiting[i];
        if (waiting->term && waiting->request.op == KV_GET && waiting->round <= confirmed
            && waiting->index <= kv->applied) {
            kv_answer_t answer = {.leader = kv->log.leader};
            kv_state_get (kv->state, waiting->request.key, &answer);
            settle (kv, i, &answer);
        } else
            i++;
    }
}

/* ---- the actor */

static void send_messages (kv_t *kv)
{
    kv_message_t message;
    ctalk_envelope_t envelope = {.to = kv->actor, .flags = CTALK_IF_UP};
    while (kv_log_next (&kv->log, &envelope.pid, &message)) {
        kv->bytes.size = 0;
        kv_write_message (&kv->bytes, &message);
        envelope.msg_id = message.kind;
        envelope.data = kv->bytes.data;
        envelope.size = kv->bytes.size;
        (void) ctalk_actor_send (kv->self, &envelope, 0);
    }
}

/* What follows from what came. The order matters: nothing is sent that is not saved. */
static bool proceed (kv_t *kv)
{
    admit (kv);
    if (!kv_journal_save (kv->options->disk, &kv->log))
        return false;
    send_messages (kv);
    apply (kv);
    answer_reads (kv);
    return keep_timer (kv);
}

static void on_timer (kv_t *kv, const ctalk_envelope_t *envelope)
{
    if (envelope->from != kv->timer)
        return;
    kv->timer = 0;
    kv_log_timeout (&kv->log);
}

static void on_envelope (kv_t *kv, ctalk_envelope_t *envelope)
{
    kv_message_t message;
    kv_entry_t entries[KV_ENTRIES_MAX];
    bool kept = false;
    if (envelope->kind == CTALK_TIMER)
        on_timer (kv, envelope);
    else if (envelope->kind == CTALK_MESSAGE && envelope->msg_id == KV_REQUEST)
        kept = on_request (kv, envelope);
    else if (envelope->kind == CTALK_MESSAGE
             && kv_read_message (envelope->msg_id, envelope->data, envelope->size, &message, entries))
        kv_log_receive (&kv->log, envelope->pid, &message);
    if (!kept)
        ctalk_envelope_close (envelope);
}

/* Until it is told to stop (ESHUTDOWN), or something fails. */
static int serve (kv_t *kv)
{
    ctalk_envelope_t envelope;
    if (!kv_journal_load (kv->options->disk, &kv->log) || !proceed (kv))
        return errno;
    while (ctalk_actor_recv (kv->self, &envelope, -1) == 0) {
        on_envelope (kv, &envelope);
        for (int n = 1; n < AT_ONCE_MAX && ctalk_actor_recv (kv->self, &envelope, 0) == 0; n++)
            on_envelope (kv, &envelope);
        if (!proceed (kv))
            return errno;
    }
    return errno;
}

static void tell_failure (kv_t *kv, int code)
{
    const char *text = strerror (code);
    ctalk_envelope_t envelope = {
        .pid = ctalk_server_pid (kv->server), .msg_id = KV_FAILED, .data = text, .size = strlen (text)};
    (void) ctalk_actor_send (kv->self, &envelope, 0);
}

int kv_actor (ctalk_actor_t *self, void *arg)
{
    const kv_options_t *options = arg;
    kv_t *kv = kv_resize (NULL, sizeof *kv);
    ctalk_server_t *server = ctalk_actor_server (self);
    ctalk_pid_t pid = ctalk_server_pid (server);
    *kv = (kv_t){.self = self,
                 .options = options,
                 .server = server,
                 .actor = ctalk_actor_named (KV_ACTOR),
                 .state = kv_state_new (),
                 .random = ctalk_server_incarnation (server, pid) | 1};
    kv_log_init (&kv->log, pid, options->members, options->members_count);

    int code = serve (kv);
    if (code == ESHUTDOWN)
        code = 0;
    else
        tell_failure (kv, code);
    while (kv->waiting_count)
        ctalk_envelope_close (&kv->waiting[--kv->waiting_count].envelope);
    kv_writer_fini (&kv->bytes);
    kv_log_fini (&kv->log);
    kv_state_destroy (&kv->state);
    free (kv);
    return code;
}
