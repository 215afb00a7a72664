/*
 * life.c - what the process of a life does, and the journal of it. A thread per
 * way sends, the first thread receives. An entry is written in full before `size'
 * counts it, a row grows by one number: a kill at any moment leaves it whole, one
 * envelope behind at most.
 */
#include "tests/faults/life.h"

#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "src/sys.h"
#include "tests/support/cluster.h"
#include "tests/support/memory.h"
#include "tests/support/payload.h"
#include "tests/support/scale.h"
#include "tests/support/thread.h"

enum { NUMBER_BITS = 32, BROADCAST_EACH = 7, PATIENCE = 3 };

ctki_life_t *ctki_lives_new (size_t count)
{
    ctki_life_t *lives =
        mmap (NULL, count * sizeof *lives, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ck_assert_msg (lives != MAP_FAILED, "no memory for %zu lives", count);
    for (size_t i = 0; i < count; i++) {
        atomic_store (&lives[i].most, INT64_MAX);
        atomic_store (&lives[i].latest, -1);
    }
    return lives;
}

void ctki_lives_destroy (ctki_life_t *lives, size_t count)
{
    (void) munmap (lives, count * sizeof *lives);
}

/* ---- what an envelope looks like */

static bool is_broadcast (const ctki_way_t *way, int64_t place)
{
    return way->broadcasts && place % BROADCAST_EACH == BROADCAST_EACH - 1;
}

static size_t size_of (const ctki_way_t *way, int64_t place)
{
    return way->sizes[(size_t) place % way->sizes_count];
}

static int64_t number_of (int32_t life, int64_t place)
{
    return (int64_t) life << NUMBER_BITS | place;
}

static uint64_t from_of (int64_t place)
{
    return place % 3 ? (uint64_t) place * 2654435761u : 0;
}

/* ---- sending */

typedef struct {
    ctki_life_t *life;
    ctki_way_t *way;
    ctalk_server_t *server;
    ctki_test_thread_t thread;
} sending_t;

static bool drains (const ctki_life_t *life)
{
    return atomic_load (&life->order) != CTKI_LIFE_GO;
}

static size_t largest (const ctki_way_t *way)
{
    size_t most = 1;
    for (size_t i = 0; i < way->sizes_count; i++)
        most = CTKI_MAX (most, way->sizes[i]);
    return most;
}

/* As long as the test wants a pause; what was begun is then accepted. */
static void pause_here (sending_t *s)
{
    atomic_store (&s->way->begun, atomic_load (&s->way->accepted));
    atomic_fetch_add (&s->life->paused, 1);
    while (atomic_load (&s->life->pause) && !drains (s->life))
        (void) poll (NULL, 0, 1);
    atomic_fetch_sub (&s->life->paused, 1);
}

/* Sends one; false and no trouble: there was no room for the moment. */
static bool send_next (sending_t *s, void *buffer, ctki_trouble_t *trouble)
{
    ctki_way_t *way = s->way;
    int64_t place = atomic_load (&way->accepted), number = number_of (s->life->number, place);
    ctalk_pid_t dst = is_broadcast (way, place) ? CTALK_BROADCAST : way->dst;
    ctalk_envelope_t envelope = {.pid = dst, .msg_id = number, .data = buffer, .from = from_of (place)};
    envelope.size = size_of (way, place);
    ctki_payload_fill (buffer, envelope.size, s->life->pid, dst, number);
    atomic_store (&way->begun, place + 1);
    if (ctalk_send (s->server, &envelope, CTKI_LIFE_LOOK_MS)) {
        if (errno != EAGAIN)
            return ctki_trouble_note (trouble, __FILE__, __LINE__, "a send failed");
        atomic_fetch_add (&way->refused, 1);
        return false;
    }
    atomic_store (&way->accepted, place + 1);
    return true;
}

static bool stream (void *arg, ctki_trouble_t *trouble)
{
    sending_t *s = arg;
    void *buffer = malloc (largest (s->way));
    CTKI_EXPECT (trouble, buffer);
    while (!drains (s->life) && !trouble->text[0]) {
        if (atomic_load (&s->life->pause))
            pause_here (s);
        bool sent = send_next (s, buffer, trouble);
        if (sent && s->way->pace_ms && atomic_load (&s->way->accepted) % s->way->burst == 0)
            (void) poll (NULL, 0, s->way->pace_ms);
    }
    free (buffer);
    if (trouble->text[0])
        return false;
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_flush (s->server, s->way->dst, PATIENCE * ctki_test_long_ms ()), 0);
    atomic_fetch_add (&s->life->drained, 1);
    return true;
}

/* ---- receiving */

typedef struct {
    ctki_life_t *life;
    ctalk_server_t *server;
    uint64_t memory;                       /* before the server */
    ctki_entry_t *row[CTKI_LIFE_PIDS + 1]; /* of each peer: the one that the next envelope may belong to */
} receiving_t;

static bool new_entry (ctki_life_t *life, const ctki_entry_t *entry, ctki_trouble_t *trouble)
{
    size_t size = atomic_load (&life->size);
    CTKI_EXPECT (trouble, size < CTKI_LIFE_ENTRIES);
    life->entry[size] = *entry;
    life->entry[size].at_us = ctki_now_us ();
    atomic_store (&life->size, size + 1);
    return true;
}

static bool check_envelope (const ctki_life_t *life, const ctalk_envelope_t *envelope, ctki_trouble_t *trouble)
{
    const ctki_way_t *way = &life->from[envelope->pid];
    int64_t place = envelope->msg_id & INT64_C (0xffffffff);
    bool broadcast = envelope->flags & CTALK_WAS_BROADCAST;
    CTKI_EXPECT (trouble, way->sizes_count > 0);
    CTKI_EXPECT_EQUAL (trouble, broadcast, is_broadcast (way, place));
    CTKI_EXPECT_EQUAL (trouble, envelope->size, size_of (way, place));
    CTKI_EXPECT_EQUAL (trouble, envelope->from, from_of (place));
    CTKI_EXPECT_EQUAL (trouble, envelope->to, 0);
    CTKI_EXPECT (trouble, ctki_payload_ok (envelope->data, envelope->size, envelope->pid,
                                           broadcast ? CTALK_BROADCAST : life->pid, envelope->msg_id));
    return true;
}

static bool note_envelope (receiving_t *r, const ctalk_envelope_t *envelope, ctki_trouble_t *trouble)
{
    ctki_life_t *life = r->life;
    if (!check_envelope (life, envelope, trouble))
        return false;
    ctki_entry_t entry = {.kind = CTALK_MESSAGE, .pid = envelope->pid};
    entry.life = (int32_t) (envelope->msg_id >> NUMBER_BITS);
    entry.first = envelope->msg_id & INT64_C (0xffffffff);
    entry.count = 1;
    ctki_entry_t *row = r->row[entry.pid];
    if (row && row->life == entry.life && row->first + atomic_load (&row->count) == entry.first)
        atomic_fetch_add (&row->count, 1);
    else if (!new_entry (life, &entry, trouble))
        return false;
    else
        r->row[entry.pid] = &life->entry[atomic_load (&life->size) - 1];
    atomic_fetch_add (&life->taken, 1);
    atomic_store (&life->latest, entry.life);
    return true;
}

/* The fates of an event: received ones first, then those in doubt or sent again, each in order, without a gap. */
static bool check_fates (const ctki_life_t *life, const ctki_way_t *way, ctki_entry_t *entry, ctki_trouble_t *trouble)
{
    const ctalk_event_t *event = &entry->event;
    uint64_t kinds[CTALK_RESENT + 1] = {0};
    for (size_t i = 0; i < event->fates; i++) {
        const ctalk_fate_t *fate = &event->fate[i];
        int64_t place = fate->msg_id & INT64_C (0xffffffff);
        if (i == 0)
            entry->fate_first = place;
        CTKI_EXPECT (trouble, fate->kind >= CTALK_RECEIVED && fate->kind <= CTALK_RESENT);
        kinds[fate->kind]++;
        CTKI_EXPECT_EQUAL (trouble, fate->kind == CTALK_RECEIVED, i < event->received);
        CTKI_EXPECT_EQUAL (trouble, fate->msg_id >> NUMBER_BITS, life->number);
        CTKI_EXPECT_EQUAL (trouble, place, entry->fate_first + (int64_t) i);
        CTKI_EXPECT_EQUAL (trouble, fate->ordinal, event->consumed + i + 1);
        CTKI_EXPECT_EQUAL (trouble, fate->to, 0);
        CTKI_EXPECT_EQUAL (trouble, fate->from, from_of (place));
        CTKI_EXPECT_EQUAL (trouble, fate->flags, is_broadcast (way, place) ? CTALK_WAS_BROADCAST : 0);
    }
    CTKI_EXPECT_EQUAL (trouble, kinds[CTALK_RECEIVED], event->received);
    CTKI_EXPECT_EQUAL (trouble, kinds[CTALK_IN_DOUBT], event->in_doubt);
    CTKI_EXPECT (trouble, kinds[CTALK_RESENT] <= event->carried);
    entry->resent = (int64_t) kinds[CTALK_RESENT];
    return true;
}

static bool note_event (receiving_t *r, const ctalk_envelope_t *envelope, ctki_trouble_t *trouble)
{
    static const ctki_way_t none;
    ctki_life_t *life = r->life;
    const ctki_way_t *way = &none;
    for (int i = 0; i < CTKI_LIFE_WAYS; i++)
        way = life->way[i].dst == envelope->pid ? &life->way[i] : way;
    ctki_entry_t entry = {.kind = envelope->kind, .pid = envelope->pid, .fate_first = -1};
    CTKI_EXPECT (trouble, envelope->data && envelope->size >= sizeof entry.event);
    memcpy (&entry.event, envelope->data, sizeof entry.event);
    CTKI_EXPECT_EQUAL (trouble, envelope->msg_id | (int64_t) (envelope->to | envelope->from) | envelope->flags, 0);
    CTKI_EXPECT (trouble, memchr (entry.event.text, 0, sizeof entry.event.text) != NULL);
    CTKI_EXPECT (trouble, entry.kind == CTALK_PEER_RESTARTED || entry.event.fates == 0);
    entry.begun = atomic_load (&way->begun);
    if (!check_fates (life, way, &entry, trouble))
        return false;
    entry.event.fate = NULL; /* they go with the envelope */
    if (!new_entry (life, &entry, trouble))
        return false;
    r->row[entry.pid] = NULL;
    if (entry.kind == CTALK_PEER_RESTARTED)
        atomic_fetch_add (&life->restarts, 1);
    return true;
}

static bool receive (receiving_t *r, ctki_trouble_t *trouble)
{
    ctalk_envelope_t envelope;
    if (ctalk_recv (r->server, &envelope, CTKI_LIFE_LOOK_MS)) {
        CTKI_EXPECT_EQUAL (trouble, errno, EAGAIN);
        return true;
    }
    CTKI_EXPECT (trouble, envelope.pid >= 1 && envelope.pid <= CTKI_LIFE_PIDS);
    bool message = envelope.kind == CTALK_MESSAGE;
    bool ok = message ? note_envelope (r, &envelope, trouble) : note_event (r, &envelope, trouble);
    ctalk_envelope_close (&envelope);
    if (message && r->life->take_ms && !drains (r->life))
        (void) poll (NULL, 0, r->life->take_ms);
    return ok;
}

/* What malloc has kept is given back before it is weighed; the peak so far is noted first. */
static void weigh (receiving_t *r)
{
    uint64_t grown = ctki_memory_grown (r->memory);
    atomic_store (&r->life->grown, CTKI_MAX (grown, atomic_load (&r->life->grown)));
    ctki_memory_reset_peak ();
    uint64_t now = ctki_memory_now ();
    atomic_store (&r->life->held, now > r->memory ? now - r->memory : 0);
    atomic_store (&r->life->weigh, false);
}

/* Receives until the end; holds in between when it has taken all it may. */
static bool serve (receiving_t *r, ctki_trouble_t *trouble)
{
    ctki_life_t *life = r->life;
    while (atomic_load (&life->order) != CTKI_LIFE_END) {
        if (atomic_load (&life->weigh))
            weigh (r);
        if (atomic_load (&life->taken) >= atomic_load (&life->most) && !drains (life))
            (void) poll (NULL, 0, 1);
        else if (!receive (r, trouble))
            return false;
    }
    return true;
}

/* ---- the process */

static bool live_with (ctki_life_t *life, ctalk_server_t *server, uint64_t memory, ctki_trouble_t *trouble)
{
    sending_t sending[CTKI_LIFE_WAYS];
    receiving_t receiving = {.life = life, .server = server, .memory = memory};
    for (int i = 0; i < CTKI_LIFE_WAYS; i++) {
        sending[i] = (sending_t){.life = life, .way = &life->way[i], .server = server};
        if (life->way[i].dst)
            ctki_test_thread_start (&sending[i].thread, stream, &sending[i]);
    }
    bool ok = serve (&receiving, trouble);
    if (!ok)
        return false; /* the process ends, and its threads with it */
    for (int i = 0; i < CTKI_LIFE_WAYS; i++)
        ok = (!life->way[i].dst || ctki_test_thread_end (&sending[i].thread, trouble)) && ok;
    CTKI_EXPECT (trouble, ctki_cluster_conserved (server, trouble));
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_stats (server, CTALK_BROADCAST, &life->stats), 0);
    return ok;
}

static bool live (ctki_life_t *life, ctki_trouble_t *trouble)
{
    ctalk_error_t error = {0};
    ctki_memory_reset_peak ();
    uint64_t before = ctki_memory_now ();
    ctalk_server_t *server = ctalk_server_new (life->pid, life->config, &error);
    if (!server)
        return ctki_trouble_note (trouble, __FILE__, __LINE__, "server %d: %.150s", life->pid, error.text);
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_watch_peers (server, true), 0);
    atomic_store (&life->incarnation, ctalk_server_incarnation (server, life->pid));
    if (!live_with (life, server, before, trouble))
        return false;
    CTKI_EXPECT_EQUAL (trouble, ctalk_server_close (&server, PATIENCE * ctki_test_long_ms ()), 0);
    atomic_store (&life->grown, CTKI_MAX (ctki_memory_grown (before), atomic_load (&life->grown)));
    return true;
}

static bool run (int fd, void *arg, ctki_trouble_t *trouble)
{
    ctki_life_t *life = arg;
    (void) fd;
    bool ok = live (life, trouble);
    if (!ok)
        memcpy (&life->trouble, trouble, sizeof life->trouble);
    return ok;
}

void ctki_life_start (ctki_life_t *life, ctki_process_t *process)
{
    life->process = process;
    life->started_us = ctki_now_us ();
    ctki_process_start (process, run, life);
}

/* ---- what the test waits for */

typedef struct {
    ctki_life_t *const *lives;
    size_t count;
    bool (*holds) (void *arg);
    void *arg;
    ctki_life_t *troubled; /* NULL: none */
} await_t;

/* A process writes to its report, or closes it, at its end only. */
static bool has_ended (const ctki_life_t *life)
{
    struct pollfd item = {.fd = life->process->report, .events = POLLIN};
    return poll (&item, 1, 0) != 0;
}

static bool holds_or_troubled (void *arg)
{
    await_t *await = arg;
    for (size_t i = 0; i < await->count && !await->troubled; i++)
        if (has_ended (await->lives[i]))
            await->troubled = await->lives[i];
    return await->troubled || await->holds (await->arg);
}

void ctki_life_await (ctki_life_t *const *lives, size_t count, bool (*holds) (void *arg), void *arg, const char *what)
{
    await_t await = {lives, count, holds, arg, NULL};
    bool held = ctki_test_until (holds_or_troubled, &await, PATIENCE * ctki_test_long_ms ());
    for (size_t i = 0; i < count && (!held || await.troubled); i++)
        ctki_life_print (lives[i]);
    if (await.troubled)
        ctki_process_join (await.troubled->process, ctki_test_long_ms ()); /* fails with what it reports */
    ck_assert_msg (!await.troubled, "a life of %d is over", (int) await.troubled->pid);
    ck_assert_msg (held, "too long without: %s", what);
}

static bool all_drained (void *arg)
{
    const ctki_life_t *life = arg;
    int ways = 0;
    for (int i = 0; i < CTKI_LIFE_WAYS; i++)
        ways += life->way[i].dst != 0;
    return atomic_load (&life->drained) == ways;
}

void ctki_life_drain (ctki_life_t *const *lives, size_t count)
{
    for (size_t i = 0; i < count; i++)
        atomic_store (&lives[i]->order, CTKI_LIFE_DRAIN);
    for (size_t i = 0; i < count; i++)
        ctki_life_await (lives, count, all_drained, lives[i], "all acknowledged");
}

static bool is_weighed (void *arg)
{
    return !atomic_load (&((const ctki_life_t *) arg)->weigh);
}

void ctki_life_weigh (ctki_life_t *life)
{
    atomic_store (&life->weigh, true);
    ctki_life_await (&life, 1, is_weighed, life, "its memory weighed");
}

void ctki_life_end (ctki_life_t *life)
{
    atomic_store (&life->order, CTKI_LIFE_END);
    ctki_process_join (life->process, 2 * PATIENCE * ctki_test_long_ms ());
}

/* ---- looking at the journal */

bool ctki_life_one_row (const ctki_life_t *life, ctalk_pid_t pid, int32_t number, int64_t count,
                        ctki_trouble_t *trouble)
{
    int64_t next = 0;
    for (size_t i = 0; i < atomic_load (&life->size); i++) {
        const ctki_entry_t *entry = &life->entry[i];
        if (entry->kind != CTALK_MESSAGE || entry->pid != pid)
            continue;
        CTKI_EXPECT_EQUAL (trouble, entry->life, number);
        CTKI_EXPECT_EQUAL (trouble, entry->first, next);
        next += atomic_load (&entry->count);
    }
    CTKI_EXPECT_EQUAL (trouble, next, count);
    return true;
}

size_t ctki_life_events (const ctki_life_t *life, ctalk_pid_t pid, ctalk_kind_t kind)
{
    size_t count = 0;
    for (size_t i = 0; i < atomic_load (&life->size); i++)
        count += life->entry[i].kind == kind && life->entry[i].pid == pid;
    return count;
}

/* What may come after what: SUSPECT and STUCK only of a peer that was up, LEFT only of one that was seen; UP again at
 * any time, for what stood between may have been replaced by it. */
static bool may_follow (ctalk_kind_t last, ctalk_kind_t kind)
{
    bool seen = last != CTALK_MESSAGE;
    switch (kind) {
    case CTALK_PEER_SUSPECT:
    case CTALK_PEER_STUCK:
        return seen && last != CTALK_PEER_LEFT && last != CTALK_PEER_DOWN;
    case CTALK_PEER_LEFT:
        return seen && last != CTALK_PEER_LEFT;
    default:
        return kind == CTALK_PEER_UP || kind == CTALK_PEER_DOWN || kind == CTALK_PEER_REFUSED
               || kind == CTALK_PEER_RESTARTED;
    }
}

bool ctki_life_legal (const ctki_life_t *life, ctalk_pid_t pid, ctki_trouble_t *trouble)
{
    ctalk_kind_t last = CTALK_MESSAGE; /* none yet */
    uint64_t incarnation = 0;
    for (size_t i = 0; i < atomic_load (&life->size); i++) {
        const ctki_entry_t *entry = &life->entry[i];
        const ctalk_event_t *event = &entry->event;
        if (entry->kind == CTALK_MESSAGE || entry->pid != pid)
            continue;
        bool ok = may_follow (last, entry->kind);
        if (entry->kind == CTALK_PEER_RESTARTED) /* of whom it knew, to another one */
            ok = ok && event->old_incarnation && (!incarnation || event->old_incarnation == incarnation)
                 && event->incarnation && event->incarnation != event->old_incarnation;
        else /* the first one tells it */
            ok = ok && event->old_incarnation == 0
                 && (!incarnation || !event->incarnation || event->incarnation == incarnation);
        ok = ok && (entry->kind != CTALK_PEER_UP || event->incarnation);
        if (!ok)
            return ctki_trouble_note (trouble, __FILE__, __LINE__, "entry %zu: event %d after %d about %d", i,
                                      (int) entry->kind, (int) last, (int) pid);
        incarnation = event->incarnation ? event->incarnation : incarnation;
        last = entry->kind;
    }
    return true;
}

static void print_entry (const ctki_life_t *life, size_t i)
{
    static const char *const names[] = {"row",  "UP",    "SUSPECT", "DOWN",      "RESTARTED",
                                        "LEFT", "STUCK", "REFUSED", "ABANDONED", "?"};
    const ctki_entry_t *entry = &life->entry[i];
    const ctalk_event_t *e = &entry->event;
    size_t kind = CTKI_MIN ((size_t) entry->kind, sizeof names / sizeof names[0] - 1);
    printf ("    %4zu %8" PRId64 " us %-9s of %d: ", i, entry->at_us - life->started_us, names[kind], (int) entry->pid);
    if (entry->kind == CTALK_MESSAGE)
        printf ("life %d, %" PRId64 " and %" PRId64 " in all\n", (int) entry->life, entry->first,
                atomic_load (&entry->count));
    else
        printf ("%016" PRIx64 " (was %016" PRIx64 "), %d %s, consumed %" PRIu64 ", received %" PRIu64
                ", in doubt %" PRIu64 ", carried %" PRIu64 " (%" PRId64 " again), fates %zu from %" PRId64
                " on, begun %" PRId64 "\n",
                e->incarnation, e->old_incarnation, (int) e->reason, e->text, e->consumed, e->received, e->in_doubt,
                e->carried, entry->resent, e->fates, entry->fate_first, entry->begun);
}

void ctki_life_print (const ctki_life_t *life)
{
    enum { LAST = 100 }; /* entries, of a long life */
    size_t size = atomic_load (&life->size);
    printf ("  pid %d, life %d, incarnation %016" PRIx64 ", accepted %" PRId64 ", begun %" PRId64 ", taken %" PRId64
            ", noted %" PRId64 ":\n",
            (int) life->pid, (int) life->number, atomic_load (&life->incarnation), atomic_load (&life->way[0].accepted),
            atomic_load (&life->way[0].begun), atomic_load (&life->taken), life->noted);
    for (size_t i = size > LAST ? size - LAST : 0; i < size; i++)
        print_entry (life, i);
    (void) fflush (stdout);
}
