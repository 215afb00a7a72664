/*
 * test_actor_property.c - what holds of calls and monitors whatever happens: each
 * answer goes to the call that it answers, each monitor that is not taken back
 * fires exactly once and for a reason that is true, and one-way envelopes come in
 * order without a gap. Meanwhile workers end with requests in their hands, answer
 * late or twice, ways lose frames, are cut and healed, and servers are restarted.
 *
 * The test keeps its own book: a record per worker that ever was (whether it ended
 * and with what), a token per call, a list of what each caller monitors, a number
 * per sender and receiver. Draws come from a seed, which a failure prints and
 * CTALK_TEST_SEED sets; what the machine makes of them differs from run to run.
 */
#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/stress/suites.h"
#include "tests/support/support.h"

enum {
    SERVERS = 4,
    CALLERS = 6,           /* of a server */
    WORKERS = 8,           /* of a server */
    CALLS = 100000,        /* answered ones */
    RECORDS_MAX = 100000,  /* workers in all */
    WATCHED_MAX = 40,      /* by one caller at a time */
    TARGETS_MAX = 60,      /* of one-way envelopes of a caller */
    SENDERS_MAX = 2000,    /* that a worker hears of */
    STASH_MAX = 3,         /* requests that a worker answers late */
    BYTES_MAX = 3000,      /* of a request */
    CALL_MS = 400,         /* at most, but for hasty ones */
    CUT_MS = 1000,         /* at most: longer than DownMs now and then */
    TROUBLE_EVERY_MS = 30, /* on average, of the driver's making */
    NO_SUCH = 12345
};

/* What an envelope to a worker is: its message id. */
enum { REQUEST = 1, ONE_WAY, DIE };

/* A worker that was spawned once. */
typedef struct {
    uint64_t id;
    ctalk_pid_t pid;
    int reason; /* with which it ended, when it has */
    atomic_bool ended;
    uint64_t state; /* of its draws */
} record_t;

typedef struct {
    ctalk_pid_t pid;
    uint64_t id;
    const record_t *record; /* NULL: nobody ever */
} target_t;

typedef struct {
    target_t target;
    uint64_t next; /* number */
} stream_t;

/* A caller that runs. */
typedef struct {
    ctalk_actor_t *self;
    ctalk_pid_t pid;
    uint64_t state;
    target_t watched[WATCHED_MAX];
    size_t watched_count;
    stream_t streams[TARGETS_MAX];
    size_t streams_count;
} caller_t;

static struct {
    uint64_t seed, state;
    ctki_ports_t ports;
    ctki_cluster_t cluster;
    record_t records[RECORDS_MAX];
    size_t records_count;
    record_t *_Atomic workers[SERVERS + 1][WORKERS];
    caller_t callers[SERVERS + 1][CALLERS];
    atomic_int restarts[SERVERS + 1];
    atomic_bool cut_ever;
    int64_t heal_ms[SERVERS + 1][SERVERS + 1]; /* 0: not cut */
    int64_t trouble_ms;                        /* when the next is made */
    atomic_bool finishing, quiet;              /* nobody asks any more; no worker is left */
    atomic_bool failed;
    pthread_mutex_t lock; /* of the trouble */
    ctki_trouble_t trouble;
    atomic_uint_least64_t token, answered, timed_out, not_sent, no_actor, host_down;
    atomic_uint_least64_t monitored, fired, taken_back, forgotten, one_way;
    uint64_t cuts, kills;
} world = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- draws, blame */

static uint64_t draw (uint64_t *state, uint64_t below)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (*state >> 33) % below;
}

static bool chance (uint64_t *state, uint64_t of_a_thousand)
{
    return draw (state, 1000) < of_a_thousand;
}

#define BLAME(...)                                                                                                     \
    do {                                                                                                               \
        (void) pthread_mutex_lock (&world.lock);                                                                       \
        (void) ctki_trouble_note (&world.trouble, __FILE__, __LINE__, __VA_ARGS__);                                    \
        (void) pthread_mutex_unlock (&world.lock);                                                                     \
        atomic_store (&world.failed, true);                                                                            \
    } while (0)

static bool is_over (void)
{
    return errno == ESHUTDOWN || atomic_load (&world.failed);
}

/* ---- workers */

typedef struct {
    uint64_t from, next;
} heard_t;

typedef struct {
    ctalk_actor_t *self;
    record_t *record;
    ctalk_envelope_t stash[STASH_MAX];
    size_t stashed;
    heard_t heard[SENDERS_MAX];
    size_t heard_count;
} worker_t;

/* What a request and an answer begin with; what follows are bytes that follow from the token. */
typedef struct {
    uint64_t token, worker;
} head_t;

static bool bytes_ok (const ctalk_envelope_t *envelope, ctalk_pid_t src, ctalk_pid_t dst, head_t *head)
{
    if (envelope->size < sizeof *head)
        return false;
    memcpy (head, envelope->data, sizeof *head);
    return ctki_payload_ok ((const char *) envelope->data + sizeof *head, envelope->size - sizeof *head, src, dst,
                            (int64_t) head->token);
}

static void answer (worker_t *worker, const ctalk_envelope_t *request)
{
    static _Thread_local char buffer[BYTES_MAX];
    head_t head = {0, 0};
    if (!bytes_ok (request, request->pid, worker->record->pid, &head)) {
        BLAME ("a request of %d was changed", (int) request->pid);
        return;
    }
    head.worker = ctalk_actor_id (worker->self);
    memcpy (buffer, &head, sizeof head);
    ctki_payload_fill (buffer + sizeof head, request->size - sizeof head, worker->record->pid, request->pid,
                       (int64_t) head.token);
    int rc = ctalk_actor_reply (worker->self, request, buffer, request->size, CALL_MS);
    if (rc && errno != ESHUTDOWN && errno != EAGAIN)
        BLAME ("a reply failed");
}

static void answer_stashed (worker_t *worker)
{
    for (; worker->stashed > 0; worker->stashed--) {
        answer (worker, &worker->stash[worker->stashed - 1]);
        ctalk_envelope_close (&worker->stash[worker->stashed - 1]);
    }
}

/* At once, later, twice; false: it ends with the request in its hands. */
static bool serve (worker_t *worker, ctalk_envelope_t *request)
{
    uint64_t *state = &worker->record->state;
    if (chance (state, 10))
        return false;
    if (chance (state, 30) && worker->stashed < STASH_MAX) {
        worker->stash[worker->stashed++] = *request;
        memset (request, 0, sizeof *request);
        return true;
    }
    answer (worker, request);
    if (chance (state, 20))
        answer (worker, request);
    if (chance (state, 200))
        answer_stashed (worker);
    return true;
}

/* One-way envelopes of a sender are numbered without a gap. */
static void hear (worker_t *worker, const ctalk_envelope_t *envelope)
{
    uint64_t number;
    size_t i = 0;
    while (i < worker->heard_count && worker->heard[i].from != envelope->from)
        i++;
    if (i == SENDERS_MAX)
        return;
    if (i == worker->heard_count)
        worker->heard[worker->heard_count++] = (heard_t){envelope->from, 0};
    memcpy (&number, envelope->data, sizeof number);
    if (number != worker->heard[i].next)
        BLAME ("number %" PRIu64 " of %d came where %" PRIu64 " was due", number, (int) envelope->pid,
               worker->heard[i].next);
    worker->heard[i].next = number + 1;
    atomic_fetch_add (&world.one_way, 1);
}

/* What one envelope makes of a worker; false: it ends. */
static bool work_at (worker_t *worker, ctalk_envelope_t *envelope)
{
    if (envelope->kind != CTALK_MESSAGE) {
        BLAME ("an event of kind %d that no worker asked for", (int) envelope->kind);
        return false;
    }
    if (envelope->msg_id == REQUEST)
        return serve (worker, envelope);
    if (envelope->msg_id == ONE_WAY)
        hear (worker, envelope);
    return envelope->msg_id != DIE;
}

static int work (ctalk_actor_t *self, void *arg)
{
    record_t *record = arg;
    worker_t *worker = calloc (1, sizeof *worker);
    bool goes_on = worker != NULL;
    if (worker) {
        worker->self = self;
        worker->record = record;
    }
    while (goes_on) {
        ctalk_envelope_t envelope;
        int rc = ctalk_actor_recv (self, &envelope, worker->stashed ? 20 : -1);
        if (rc && errno == EAGAIN)
            answer_stashed (worker);
        else
            goes_on = rc == 0 && work_at (worker, &envelope);
        ctalk_envelope_close (&envelope);
    }
    for (size_t i = 0; worker && i < worker->stashed; i++)
        ctalk_envelope_close (&worker->stash[i]);
    free (worker);
    record->reason = (int) draw (&record->state, 1000) - 500;
    atomic_store (&record->ended, true);
    return record->reason;
}

/* ---- callers: whom they ask */

static target_t draw_target (caller_t *caller)
{
    uint64_t *state = &caller->state;
    ctalk_pid_t pid = (ctalk_pid_t) draw (state, SERVERS) + 1;
    if (chance (state, 10))
        return (target_t){pid, NO_SUCH, NULL};
    if (chance (state, 100) && caller->watched_count > 0) /* one of old, which may have ended */
        return caller->watched[draw (state, caller->watched_count)];
    const record_t *record = atomic_load (&world.workers[pid][draw (state, WORKERS)]);
    return record ? (target_t){pid, record->id, record} : (target_t){pid, NO_SUCH, NULL};
}

static bool has_ended (const target_t *target)
{
    return !target->record || atomic_load (&target->record->ended);
}

/* Ever: a worker of the new process may be known here before the restart is known to the library. */
static bool has_restarted (const target_t *target)
{
    return atomic_load (&world.restarts[target->pid]) > 0;
}

/* ---- callers: calls */

/* The answer is that to this call, of the one that was asked. */
static void check_answer (const caller_t *caller, const target_t *target, uint64_t token, const ctalk_envelope_t *reply)
{
    head_t head = {0, 0};
    bool ok = bytes_ok (reply, target->pid, caller->pid, &head);
    if (!ok || head.token != token || head.worker != target->id || reply->from != target->id
        || reply->pid != target->pid || reply->msg_id != REQUEST)
        BLAME ("call %" PRIu64 " of %d got answer %" PRIu64 " of %d, bytes %s", token, (int) caller->pid, head.token,
               (int) reply->pid, ok ? "right" : "wrong");
}

static void count_failure (const target_t *target)
{
    if (errno == ETIMEDOUT)
        atomic_fetch_add (&world.timed_out, 1);
    else if (errno == EAGAIN)
        atomic_fetch_add (&world.not_sent, 1);
    else if (errno == ESRCH && has_ended (target))
        atomic_fetch_add (&world.no_actor, 1);
    else if (errno == EHOSTDOWN && (atomic_load (&world.cut_ever) || has_restarted (target)))
        atomic_fetch_add (&world.host_down, 1);
    else if (errno != ESHUTDOWN)
        BLAME ("a call failed so, and it cannot be");
}

static bool call (caller_t *caller)
{
    static _Thread_local char buffer[BYTES_MAX];
    target_t target = draw_target (caller);
    head_t head = {atomic_fetch_add (&world.token, 1), 0};
    size_t size = sizeof head + draw (&caller->state, chance (&caller->state, 50) ? BYTES_MAX - sizeof head : 100);
    memcpy (buffer, &head, sizeof head);
    ctki_payload_fill (buffer + sizeof head, size - sizeof head, caller->pid, target.pid, (int64_t) head.token);
    ctalk_envelope_t request = {.pid = target.pid, .to = target.id, .msg_id = REQUEST, .data = buffer, .size = size};
    ctalk_envelope_t reply;
    int ms = ctki_test_ms (chance (&caller->state, 50) ? 2 : CALL_MS);
    if (ctalk_actor_call (caller->self, &request, &reply, (int) draw (&caller->state, (uint64_t) ms + 1))) {
        count_failure (&target);
        return !is_over ();
    }
    check_answer (caller, &target, head.token, &reply);
    ctalk_envelope_close (&reply);
    atomic_fetch_add (&world.answered, 1);
    return !atomic_load (&world.failed);
}

/* ---- callers: one-way envelopes */

static stream_t *stream_to (caller_t *caller, target_t target)
{
    for (size_t i = 0; i < caller->streams_count; i++)
        if (caller->streams[i].target.id == target.id && caller->streams[i].target.pid == target.pid)
            return &caller->streams[i];
    if (caller->streams_count == TARGETS_MAX) /* that of one that has ended is of no use any more */
        for (size_t i = 0; i < TARGETS_MAX; i++)
            if (has_ended (&caller->streams[i].target)) {
                caller->streams[i] = (stream_t){target, 0};
                return &caller->streams[i];
            }
    if (caller->streams_count == TARGETS_MAX)
        return NULL;
    caller->streams[caller->streams_count] = (stream_t){target, 0};
    return &caller->streams[caller->streams_count++];
}

static bool send_one_way (caller_t *caller)
{
    stream_t *stream = stream_to (caller, draw_target (caller));
    if (!stream || !stream->target.record)
        return true;
    ctalk_envelope_t envelope = {.pid = stream->target.pid,
                                 .to = stream->target.id,
                                 .msg_id = ONE_WAY,
                                 .data = &stream->next,
                                 .size = sizeof stream->next};
    int rc = ctalk_actor_send (caller->self, &envelope, (int) draw (&caller->state, 3));
    if (rc == 0)
        stream->next++;
    else if (errno != EAGAIN && errno != ESHUTDOWN)
        BLAME ("a send failed");
    return rc == 0 || !is_over ();
}

/* ---- callers: monitors */

static size_t find_watched (const caller_t *caller, ctalk_pid_t pid, uint64_t id)
{
    size_t i = 0;
    while (i < caller->watched_count && (caller->watched[i].pid != pid || caller->watched[i].id != id))
        i++;
    return i;
}

static void forget_watched (caller_t *caller, size_t i)
{
    caller->watched[i] = caller->watched[--caller->watched_count];
}

/* Once more for one that is watched already changes nothing. */
static bool watch (caller_t *caller)
{
    target_t target = draw_target (caller);
    size_t i = find_watched (caller, target.pid, target.id);
    if (i == WATCHED_MAX)
        return true;
    if (ctalk_actor_monitor (caller->self, target.pid, target.id)) {
        if (errno != ESHUTDOWN)
            BLAME ("a monitor failed");
        return false;
    }
    if (i < caller->watched_count)
        return true;
    caller->watched[caller->watched_count++] = target;
    atomic_fetch_add (&world.monitored, 1);
    return true;
}

/* One that was not told yet can be taken back, and is not told then. */
static bool take_back (caller_t *caller)
{
    if (caller->watched_count == 0)
        return true;
    size_t i = draw (&caller->state, caller->watched_count);
    if (ctalk_actor_unmonitor (caller->self, caller->watched[i].pid, caller->watched[i].id)) {
        if (errno != ESHUTDOWN)
            BLAME ("a monitor that was not told cannot be taken back");
        return false;
    }
    forget_watched (caller, i);
    atomic_fetch_add (&world.taken_back, 1);
    return true;
}

static bool reason_is_true (const target_t *target, const ctalk_event_t *event)
{
    switch (event->reason) {
    case CTALK_WHY_EXITED:
        return target->record && has_ended (target) && target->record->reason == event->exit_reason;
    case CTALK_WHY_NO_ACTOR:
        return has_ended (target) || has_restarted (target);
    case CTALK_WHY_DOWN:
        return atomic_load (&world.cut_ever);
    case CTALK_WHY_CLOSING:
    case CTALK_WHY_RESTARTED:
        return has_restarted (target);
    default:
        return false;
    }
}

/* A caller gets nothing but what it monitors, once. */
static void take_event (caller_t *caller, const ctalk_envelope_t *envelope)
{
    size_t i = find_watched (caller, envelope->pid, envelope->from);
    if (envelope->kind != CTALK_ACTOR_DOWN || i == caller->watched_count) {
        BLAME ("a caller of %d got what it had not asked for: kind %d, %" PRId64 " of %d", (int) caller->pid,
               (int) envelope->kind, envelope->msg_id, (int) envelope->pid);
        return;
    }
    const ctalk_event_t *event = envelope->data;
    if (!reason_is_true (&caller->watched[i], event))
        BLAME ("a monitor of %d was told '%s' (%d, %d) of one of %d that %s", (int) caller->pid, event->text,
               (int) event->reason, (int) event->exit_reason, (int) envelope->pid,
               has_ended (&caller->watched[i]) ? "ended otherwise" : "runs");
    forget_watched (caller, i);
    atomic_fetch_add (&world.fired, 1);
}

/* Takes what is there; false: the server closes. */
static bool take_events (caller_t *caller, int timeout_ms)
{
    ctalk_envelope_t envelope;
    while (ctalk_actor_recv (caller->self, &envelope, timeout_ms) == 0) {
        take_event (caller, &envelope);
        ctalk_envelope_close (&envelope);
        timeout_ms = 0;
    }
    return !is_over ();
}

/* All that is watched must be told when no worker is left, and then nothing comes any more. */
static void await_all (caller_t *caller)
{
    int64_t end_ms = ctki_test_now_ms () + 2 * ctki_test_long_ms ();
    while (!atomic_load (&world.quiet))
        if (!take_events (caller, 10))
            return;
    while (caller->watched_count > 0 && ctki_test_now_ms () < end_ms)
        if (!take_events (caller, 50))
            return;
    if (caller->watched_count > 0)
        BLAME ("%zu monitors of a caller of %d never fired; one of %d, which %s", caller->watched_count,
               (int) caller->pid, (int) caller->watched[0].pid, has_ended (&caller->watched[0]) ? "ended" : "runs");
    (void) take_events (caller, ctki_test_ms (100));
}

static bool act (caller_t *caller)
{
    uint64_t what = draw (&caller->state, 100);
    if (what < 65)
        return call (caller);
    if (what < 82)
        return send_one_way (caller);
    if (what < 94)
        return watch (caller);
    return take_back (caller);
}

static int ask (ctalk_actor_t *self, void *arg)
{
    caller_t *caller = arg;
    bool goes_on = true;
    caller->self = self;
    while (goes_on && !atomic_load (&world.finishing))
        goes_on = act (caller) && take_events (caller, 0);
    if (goes_on)
        await_all (caller);
    atomic_fetch_add (&world.forgotten, caller->watched_count);
    return 0;
}

/* ---- the driver: servers, actors */

static void start_worker (ctalk_pid_t pid, int slot)
{
    if (world.records_count == RECORDS_MAX)
        return;
    record_t *record = &world.records[world.records_count++];
    record->pid = pid;
    record->state = draw (&world.state, UINT32_MAX);
    record->id = ctalk_actor_spawn (world.cluster.server[pid], NULL, work, record);
    ck_assert_msg (record->id != 0, "no worker: %s", strerror (errno));
    atomic_store (&world.workers[pid][slot], record);
}

static void impair (ctalk_pid_t pid)
{
    ctalk_impairment_t how = {.loss = 0.01, .duplicate = 0.01, .jitter_ms = 1};
    how.seed = draw (&world.state, UINT32_MAX);
    CTKI_SUCCEEDS (ctalk_server_impair (world.cluster.server[pid], CTALK_BROADCAST, CTALK_IN | CTALK_OUT, &how));
}

static void start_server (ctalk_pid_t pid)
{
    world.cluster.server[pid] = ctki_cluster_start (pid, world.cluster.config);
    impair (pid);
    for (int i = 0; i < WORKERS; i++)
        start_worker (pid, i);
    for (int i = 0; i < CALLERS; i++) {
        caller_t *caller = &world.callers[pid][i];
        memset (caller, 0, sizeof *caller);
        caller->pid = pid;
        caller->state = draw (&world.state, UINT32_MAX);
        uint64_t id = ctalk_actor_spawn (world.cluster.server[pid], NULL, ask, caller);
        ck_assert_msg (id != 0, "no caller: %s", strerror (errno));
    }
}

static void respawn (void)
{
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++)
        for (int i = 0; i < WORKERS; i++)
            if (atomic_load (&atomic_load (&world.workers[pid][i])->ended))
                start_worker (pid, i);
}

/* ---- the driver: trouble */

static void set_cut (ctalk_pid_t at, ctalk_pid_t peer, int directions, bool on)
{
    CTKI_SUCCEEDS (ctalk_server_cut (world.cluster.server[at], peer, directions, on));
}

static void cut_one (void)
{
    ctalk_pid_t at = (ctalk_pid_t) draw (&world.state, SERVERS) + 1,
                peer = (ctalk_pid_t) draw (&world.state, SERVERS) + 1;
    if (at == peer)
        return;
    atomic_store (&world.cut_ever, true);
    set_cut (at, peer, (int) draw (&world.state, 3) + 1, true);
    uint64_t most_ms = chance (&world.state, 200) ? CUT_MS : CUT_MS / 10;
    world.heal_ms[at][peer] =
        ctki_test_now_ms () + 1 + (int64_t) draw (&world.state, (uint64_t) ctki_test_ms ((int) most_ms));
    world.cuts++;
}

static void heal (bool all)
{
    for (ctalk_pid_t at = 1; at <= SERVERS; at++)
        for (ctalk_pid_t peer = 1; peer <= SERVERS; peer++)
            if (world.heal_ms[at][peer] && (all || world.heal_ms[at][peer] <= ctki_test_now_ms ())) {
                set_cut (at, peer, CTALK_IN | CTALK_OUT, false);
                world.heal_ms[at][peer] = 0;
            }
}

static void restart_one (void)
{
    ctalk_pid_t pid = (ctalk_pid_t) draw (&world.state, SERVERS) + 1;
    atomic_fetch_add (&world.restarts[pid], 1);
    ck_assert_int_ge (ctalk_server_close (&world.cluster.server[pid], (int) draw (&world.state, 50)), 0);
    memset (world.heal_ms[pid], 0, sizeof world.heal_ms[pid]);
    start_server (pid);
}

/* By a word, or by stopping it. */
static void kill_one (void)
{
    ctalk_pid_t pid = (ctalk_pid_t) draw (&world.state, SERVERS) + 1;
    const record_t *record = atomic_load (&world.workers[pid][draw (&world.state, WORKERS)]);
    ctalk_envelope_t die = {.pid = pid, .to = record->id, .msg_id = DIE};
    if (chance (&world.state, 500))
        (void) ctalk_actor_stop (world.cluster.server[pid], record->id, 0);
    else
        (void) ctalk_send (world.cluster.server[(int) draw (&world.state, SERVERS) + 1], &die, 0);
    world.kills++;
}

static void make_trouble (void)
{
    if (ctki_test_now_ms () < world.trouble_ms)
        return;
    world.trouble_ms = ctki_test_now_ms () + (int64_t) draw (&world.state, 2 * TROUBLE_EVERY_MS);
    uint64_t what = draw (&world.state, 100);
    if (what < 50)
        cut_one ();
    else if (what < 96)
        kill_one ();
    else
        restart_one ();
}

static void expect_no_trouble (void)
{
    if (!atomic_load (&world.failed))
        return;
    (void) pthread_mutex_lock (&world.lock);
    ck_abort_msg ("seed %" PRIu64 ", %" PRIu64 " calls: %s", world.seed, (uint64_t) atomic_load (&world.answered),
                  world.trouble.text);
}

static bool none_runs (void *server)
{
    ctalk_stats_t stats;
    return ctalk_server_stats (server, ctalk_server_pid (server), &stats) == 0 && stats.actors == 0;
}

/* Heals, ends all workers, and waits until each caller has been told of all that it watched. */
static void settle (void)
{
    ctki_trouble_t trouble = {""};
    atomic_store (&world.finishing, true);
    heal (true);
    ctki_cluster_wait_up (&world.cluster);
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++)
        for (int i = 0; i < WORKERS; i++) {
            const record_t *record = atomic_load (&world.workers[pid][i]);
            int rc = ctalk_actor_stop (world.cluster.server[pid], record->id, ctki_test_long_ms ());
            ck_assert_msg (rc == 0 || errno == ESRCH, "a worker does not end: %s", strerror (errno));
        }
    atomic_store (&world.quiet, true);
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++)
        ck_assert_msg (ctki_test_until (none_runs, world.cluster.server[pid], 4 * ctki_test_long_ms ()),
                       "seed %" PRIu64 ": callers of %d do not end: %s", world.seed, (int) pid, world.trouble.text);
    expect_no_trouble ();
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++)
        ck_assert_msg (ctki_cluster_conserved (world.cluster.server[pid], &trouble), "%s", trouble.text);
}

static void start_all (void)
{
    const char *seed = getenv ("CTALK_TEST_SEED");
    world.seed = world.state = seed && *seed ? strtoull (seed, NULL, 0) : 23;
    ctki_ports_take (&world.ports, SERVERS);
    world.cluster.config =
        ctki_cluster_config (SERVERS, world.ports.port, CTKI_OPTIONS (CTKI_FAST_FAILURE, "MailboxBytes", "65536"));
    world.cluster.count = SERVERS;
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++)
        start_server (pid);
}

static void report (void)
{
    int restarts = 0;
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++)
        restarts += atomic_load (&world.restarts[pid]);
    ctki_test_figure ("whatever_happens",
                      "seed %" PRIu64 ": %" PRIu64 " calls answered, %" PRIu64 " timed out, %" PRIu64
                      " not sent, %" PRIu64 " no actor, %" PRIu64 " peer down; %" PRIu64 " one-way",
                      world.seed, (uint64_t) world.answered, (uint64_t) world.timed_out, (uint64_t) world.not_sent,
                      (uint64_t) world.no_actor, (uint64_t) world.host_down, (uint64_t) world.one_way);
    ctki_test_figure ("",
                      "%" PRIu64 " monitors: %" PRIu64 " fired, %" PRIu64 " taken back, %" PRIu64
                      " ended with their server; %zu workers, %" PRIu64 " cuts, %d restarts",
                      (uint64_t) world.monitored, (uint64_t) world.fired, (uint64_t) world.taken_back,
                      (uint64_t) world.forgotten, world.records_count, world.cuts, restarts);
}

/* A hundred thousand calls are answered, each by its own answer, and each monitor fires exactly once, whatever happens.
 */
START_TEST (whatever_happens)
{
    uint64_t calls = ctki_test_count (CALLS), last = 0;
    int64_t last_ms = ctki_test_now_ms ();
    start_all ();
    while (atomic_load (&world.answered) < calls) {
        (void) poll (NULL, 0, 1);
        expect_no_trouble ();
        heal (false);
        make_trouble ();
        respawn ();
        if (atomic_load (&world.answered) > last) {
            last = atomic_load (&world.answered);
            last_ms = ctki_test_now_ms ();
        }
        ck_assert_msg (ctki_test_now_ms () - last_ms < ctki_test_long_ms (),
                       "seed %" PRIu64 ": no call is answered any more", world.seed);
        ctki_test_progress ("calls", last, calls);
    }
    ctki_test_progress ("", 0, 0);
    settle ();
    ck_assert_uint_eq (world.monitored, world.fired + world.taken_back + world.forgotten);
    report ();
    (void) ctki_cluster_close_abandoning (&world.cluster, 0);
    ctki_ports_release (&world.ports);
}
END_TEST

Suite *ctki_suite_actor_property (void)
{
    Suite *suite = suite_create ("actor_property");
    TCase *tcase = ctki_leaks_tcase ("actor_property", 600);
    tcase_add_test (tcase, whatever_happens);
    suite_add_tcase (suite, tcase);
    return suite;
}
