/*
 * test_credit.c - what may be sent to the actors of peers, and what servers send
 * each other about them. The test stands in for the router, and for the peers:
 * it takes what was sent from the mailbox, settles it, and grants.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>

#include "src/mem.h"
#include "src/notice.h"
#include "src/outbox.h"
#include "tests/support/leaks.h"
#include "tests/support/payload.h"
#include "tests/support/scale.h"
#include "tests/support/thread.h"

Suite *ctki_suite_credit (void);

enum {
    SELF = 0,
    PEERS = 3, /* 1, 2, 3 */
    RUN_LIMIT = 65536,
    QUEUE_BYTES = 1000000,
    CREDIT = CTKI_CREDIT_BYTES,
    WHOLE = CREDIT - CTKI_CHARGE_BYTES, /* a payload that uses up a credit that nothing was taken of */
    MESSAGE_BYTES = 100000,
    LOG_MOST = 100000,
    ACTOR = 70,
    OTHER = 71,
    INCARNATION = 1234,
    STEPS = 30000,
    SENDERS = 4,
    SENDS = 4000
};

static ctki_sock_t *hearer;
static ctki_bell_t bell;
static ctki_pool_t *pool;
static ctki_inbox_t inbox;
static ctki_outbox_t outbox;

/* What the router saw, in order. */
static struct {
    size_t count;
    uint64_t anew[PEERS + 1]; /* the number of the flows that were last said to begin */
    struct {
        ctalk_pid_t pid;
        int64_t number;
        uint64_t to, charge;
    } entry[LOG_MOST];
} seen;

static const char *no_endpoint (void *arg, size_t number)
{
    (void) arg;
    (void) number;
    return NULL;
}

static void set_up (void)
{
    ctki_sock_t *ends[2];
    ck_assert_int_eq (ctki_context_ref (1, NULL), 0);
    ck_assert_int_eq (ctki_sock_pair (ends), 0);
    hearer = ends[0];
    ctki_bell_init (&bell, ends[1]);
    ctki_inbox_init (&inbox, &bell);
    pool = ctki_pool_new (ctki_writer_block_bytes (RUN_LIMIT), 0);
    ctki_outbox_init (&outbox, pool, RUN_LIMIT, &bell, &inbox);
    ctki_route_init (&outbox.route, no_endpoint, NULL);
    for (ctalk_pid_t pid = 1; pid <= PEERS; pid++)
        ck_assert_int_eq (ctki_route_list (&outbox.route, pid, 0), 0);
    outbox.queue_bytes = QUEUE_BYTES;
    outbox.message_bytes = MESSAGE_BYTES;
    outbox.incarnation = INCARNATION;
    outbox.self = ctki_peer_new (SELF, NULL, 0);
    outbox.local = ctki_flow_new (outbox.self, true);
    seen.count = 0;
    memset (seen.anew, 0, sizeof seen.anew);
}

static ctki_peer_t *peer_of (ctalk_pid_t pid)
{
    ctki_outbox_lock (&outbox);
    ctki_peer_t *peer = ctki_route_find (&outbox.route, pid, 0);
    ctki_outbox_unlock (&outbox);
    return peer;
}

/* A credit that is there. */
static ctki_credit_t *record_of (ctalk_pid_t pid, uint64_t actor)
{
    const ctki_peer_t *peer = peer_of (pid);
    ctki_outbox_lock (&outbox);
    ctki_credit_t *credit = ctki_map_get (&peer->credits, actor);
    ctki_outbox_unlock (&outbox);
    ck_assert_ptr_nonnull (credit);
    return credit;
}

/* A copy of a credit; one that is not there is as one that is new, with the actor 0. */
static ctki_credit_t credit_of (ctalk_pid_t pid, uint64_t actor)
{
    const ctki_peer_t *peer = peer_of (pid);
    ctki_outbox_lock (&outbox);
    const ctki_credit_t *credit = ctki_map_get (&peer->credits, actor);
    ctki_credit_t copy = credit ? *credit : (ctki_credit_t){.limit = CREDIT};
    ctki_outbox_unlock (&outbox);
    return copy;
}

static uint64_t sent_to (ctalk_pid_t pid, uint64_t actor)
{
    return credit_of (pid, actor).sent;
}

/* How many credits are kept for a peer. */
static size_t kept (ctalk_pid_t pid)
{
    return peer_of (pid)->credits.count;
}

/* How many stand in line at a peer, not at the credit of one of its actors. */
static unsigned standing (ctalk_pid_t pid)
{
    const ctki_peer_t *peer = peer_of (pid);
    ctki_outbox_lock (&outbox);
    unsigned count = peer->standing;
    ctki_outbox_unlock (&outbox);
    return count;
}

/* Of what a peer is to count from. */
static uint64_t flows_of (ctalk_pid_t pid)
{
    ctki_outbox_lock (&outbox);
    const ctki_peer_t *peer = ctki_route_peek (&outbox.route, pid);
    uint64_t number = peer ? peer->flows : 0;
    ctki_outbox_unlock (&outbox);
    return number;
}

static uint64_t queued (ctalk_pid_t pid)
{
    return ctki_peer_queued_bytes (peer_of (pid));
}

/* Whether the outbox itself says so, to one peer; that is no envelope of the tests. */
static bool note_anew (ctalk_pid_t pid, const ctki_record_t *record, const void *data)
{
    ctki_notice_t notice;
    if (record->to != CTKI_SYSTEM || record->msg_id)
        return false;
    ck_assert (ctki_notice_decode (&notice, data, record->len));
    ck_assert_int_eq (notice.op, CTKI_ANEW);
    ck_assert_uint_gt (notice.a, seen.anew[pid]);
    seen.anew[pid] = notice.a;
    return true;
}

static void note (const ctki_peer_t *peer, const ctki_record_t *record, const void *data, bool many)
{
    if (!many && note_anew (peer->pid, record, data))
        return;
    ck_assert_int_eq ((record->flags & CTKI_R_BROADCAST) != 0, many);
    ck_assert (ctki_payload_ok (data, record->len, SELF, many ? CTALK_BROADCAST : peer->pid, record->msg_id));
    size_t at = seen.count++;
    ck_assert_uint_lt (at, LOG_MOST);
    seen.entry[at].pid = peer->pid;
    seen.entry[at].number = record->msg_id;
    seen.entry[at].to = record->to;
    seen.entry[at].charge = record->len + CTKI_CHARGE_BYTES;
}

static void note_all (const ctki_item_t *item, const ctki_record_t *record, const void *data)
{
    const ctki_crowd_t *crowd = item->many ? item->dest : NULL;
    if (!crowd)
        note (item->dest, record, data, false);
    for (size_t i = 0; crowd && i < crowd->count; i++)
        note (crowd->peer[i], record, data, true);
}

static void note_item (const ctki_item_t *item)
{
    if (item->kind == CTKI_LARGE)
        note_all (item, &item->record, item->data);
    for (size_t at = 0; item->kind == CTKI_RUN && at < item->size;) {
        ctki_record_t record;
        size_t head = ctki_record_get (item->data + at, item->size - at, &record);
        ck_assert_uint_gt (head, 0);
        note_all (item, &record, item->data + at + head);
        at += head + ctki_record_pad (record.len);
    }
}

/* Takes all that was sent and notes it in seen. */
static void route (void)
{
    ctki_items_t items;
    ctki_outbox_take (&outbox, &items);
    for (ctki_item_t *item; (item = ctki_items_take (&items));) {
        note_item (item);
        if (item->many)
            ctki_crowd_release (item->dest);
        ctki_item_release (item);
    }
}

/* Checks the numbers that a peer was sent, to whomever there: a text of one digit each. */
static void check_seen (ctalk_pid_t pid, const char *numbers)
{
    char text[64] = "";
    size_t length = 0;
    route ();
    for (size_t i = 0; i < seen.count; i++) {
        if (seen.entry[i].pid == pid && length < sizeof text - 1)
            text[length++] = (char) ('0' + seen.entry[i].number);
    }
    ck_assert_msg (strcmp (text, numbers) == 0, "peer %d was sent \"%s\" instead of \"%s\"", (int) pid, text, numbers);
}

static void tear_down (void)
{
    route ();
    ck_assert_ptr_null (outbox.first);
    ck_assert_uint_eq (atomic_load (&outbox.waiting), 0);
    ctki_flow_release (&inbox, outbox.local);
    ctki_inbox_fini (&inbox);
    ctki_route_fini (&outbox.route);
    ctki_peer_release (outbox.self);
    ctki_outbox_fini (&outbox);
    ctki_pool_destroy (&pool);
    ctki_bell_fini (&bell);
    ctki_sock_close (&hearer);
    ctki_context_unref ();
}

static ctalk_envelope_t envelope_of (ctalk_pid_t pid, uint64_t to, int64_t number, size_t size)
{
    static _Thread_local uint8_t bytes[MESSAGE_BYTES];
    ctki_payload_fill (bytes, size, SELF, pid, number);
    return (ctalk_envelope_t){.pid = pid, .to = to, .msg_id = number, .size = size, .data = bytes};
}

/* Sends one envelope; 0, or an errno. */
static int send_one (ctalk_pid_t pid, uint64_t to, int64_t number, size_t size, int timeout_ms,
                     const atomic_bool *stop)
{
    ctalk_envelope_t envelope = envelope_of (pid, to, number, size);
    int rc = ctki_outbox_send_until (&outbox, &envelope, timeout_ms, stop);
    ck_assert (rc == 0 || rc == -1);
    return rc == 0 ? 0 : errno;
}

/* The same without waiting. */
static int try (ctalk_pid_t pid, uint64_t to, int64_t number, size_t size)
{
    return send_one (pid, to, number, size, 0, NULL);
}

/* Uses up all that an actor of a peer may be sent, of a new credit. */
static void use_up (ctalk_pid_t pid, uint64_t actor)
{
    ck_assert_int_eq (try (pid, actor, 0, WHOLE), 0);
    ck_assert_uint_eq (sent_to (pid, actor), CREDIT);
    route ();
    seen.count = 0;
}

static void grant (ctalk_pid_t pid, uint64_t actor, uint64_t limit)
{
    ck_assert_int_eq (ctki_outbox_grant (&outbox, pid, actor, flows_of (pid), limit), 0);
}

/* Fills up a queue, and empties it again. */
static void fill (ctalk_pid_t pid)
{
    atomic_fetch_add (&peer_of (pid)->admitted_bytes, outbox.queue_bytes);
}

static void make_room (ctalk_pid_t pid)
{
    ctki_outbox_settled (&outbox, peer_of (pid), (int64_t) outbox.queue_bytes);
}

/* Removes a peer as the server does. */
static void drop (ctalk_pid_t pid)
{
    ctki_outbox_lock (&outbox);
    ctki_peer_t *peer = ctki_route_remove (&outbox.route, pid);
    if (peer)
        ctki_outbox_drop (&outbox, peer);
    ctki_outbox_unlock (&outbox);
    ctki_peer_release (peer);
}

/* A send on a thread of its own. */
typedef struct {
    ctki_test_thread_t thread;
    ctalk_pid_t pid;
    uint64_t to;
    int64_t number;
    size_t size;
    int timeout_ms, rc;
    const atomic_bool *stop;
} sender_t;

static bool run_sender (void *arg, ctki_trouble_t *trouble)
{
    sender_t *sender = arg;
    (void) trouble;
    sender->rc = send_one (sender->pid, sender->to, sender->number, sender->size, sender->timeout_ms, sender->stop);
    return true;
}

/* Starts a send that has to wait, and waits until it does. */
static void start_with (sender_t *sender, ctalk_pid_t pid, uint64_t to, int64_t number, size_t size, int timeout_ms,
                        const atomic_bool *stop)
{
    *sender = (sender_t){.pid = pid, .to = to, .number = number, .size = size, .timeout_ms = timeout_ms, .stop = stop};
    ctki_test_thread_start (&sender->thread, run_sender, sender);
    if (timeout_ms < 0)
        ctki_test_thread_await_blocked (&sender->thread);
}

static void start (sender_t *sender, ctalk_pid_t pid, uint64_t to, int64_t number, size_t size)
{
    start_with (sender, pid, to, number, size, -1, NULL);
}

static int result (sender_t *sender)
{
    ctki_test_thread_join (&sender->thread);
    return sender->rc;
}

/* Still waits: it was not decided, whichever thread runs now. */
static bool waits (sender_t *sender)
{
    return !atomic_load (&sender->thread.done);
}

/* ---- one actor */

/* An actor of a peer may be sent 16 KiB to begin with, counted as in a queue, envelopes of any size while less was
 * sent; then it is refused and counted, and nothing was done. A grant is what may be sent in all. */
START_TEST (begins_with_16_kib)
{
    static const size_t sizes[] = {0, 10, 1000, WHOLE - 1, WHOLE, 40000};
    size_t size = sizes[_i];
    uint64_t charge = size + CTKI_CHARGE_BYTES, fits = (CREDIT + charge - 1) / charge;
    set_up ();
    ck_assert_uint_eq (CREDIT, 16384); /* both sides of the protocol have it so */
    for (uint64_t i = 0; i < fits; i++) {
        ck_assert_uint_eq (sent_to (1, ACTOR), i * charge);
        ck_assert_int_eq (try (1, ACTOR, (int64_t) i, size), 0);
    }
    uint64_t before = queued (1);
    ck_assert_uint_eq (before, fits * charge);
    for (int i = 1; i <= 3; i++) {
        ck_assert_int_eq (try (1, ACTOR, 1, i == 3 ? 40000 : size), EAGAIN);
        ck_assert_uint_eq (ctki_counted (&peer_of (1)->refused_full), (unsigned) i);
    }
    ck_assert_int_eq (send_one (1, ACTOR, 1, size, 10, NULL), EAGAIN);
    ck_assert_uint_eq (queued (1), before);
    ck_assert_uint_eq (sent_to (1, ACTOR), fits * charge);
    ck_assert_uint_eq (credit_of (1, ACTOR).standing, 0);
    grant (1, ACTOR, fits * charge); /* that much it was sent already */
    ck_assert_int_eq (try (1, ACTOR, 1, size), EAGAIN);
    grant (1, ACTOR, fits * charge + 1);
    grant (1, ACTOR, 1); /* it is never taken back */
    ck_assert_int_eq (try (1, ACTOR, 1, size), 0);
    ck_assert_int_eq (try (1, ACTOR, 1, size), EAGAIN);
    route ();
    ck_assert_uint_eq (seen.count, fits + 1);
    tear_down ();
}
END_TEST

/* Who is no actor needs no credit: the inbox, an answer to a call; nor does an actor of the own server. */
START_TEST (needed_by_actors)
{
    static const uint64_t others[] = {0, CTKI_ID_CALL | 5, CTKI_ID_TIMER | 5};
    set_up ();
    for (size_t i = 0; i < 3; i++) {
        for (int k = 0; k < 3; k++)
            ck_assert_int_eq (try (1, others[i], 1, WHOLE), 0);
    }
    for (int k = 0; k < 3; k++)
        ck_assert_int_eq (try (CTALK_BROADCAST, 0, 1, WHOLE), 0);
    ck_assert_uint_eq (kept (1), 0);
    for (int k = 0; k < 3; k++)
        ck_assert_int_eq (try (SELF, ACTOR, 1, WHOLE), 0);
    ck_assert_uint_eq (outbox.self->credits.count, 0);
    ck_assert_int_eq (try (1, CTKI_ID_NAMED | 5, 1, WHOLE), 0);
    ck_assert_int_eq (try (1, CTKI_ID_NAMED | 5, 1, WHOLE), EAGAIN);
    ck_assert_int_eq (try (1, CTKI_SYSTEM, 1, 1), EINVAL);
    tear_down ();
}
END_TEST

/* Who lacks credit waits; a grant lets as many go as it is for, in the order in which they came, small and large. */
START_TEST (granted)
{
    static sender_t senders[5];
    set_up ();
    use_up (1, ACTOR);
    for (int i = 0; i < 5; i++)
        start (&senders[i], 1, ACTOR, i + 1, i % 2 ? 30000 : 1000 - CTKI_CHARGE_BYTES);
    ck_assert_uint_eq (credit_of (1, ACTOR).standing, 5);
    grant (2, ACTOR, 100000); /* another one's */
    grant (1, OTHER, 100000);
    grant (9, ACTOR, 100000);
    check_seen (1, "");
    grant (1, ACTOR, CREDIT + 1);
    ck_assert_int_eq (result (&senders[0]), 0);
    check_seen (1, "1");
    ck_assert_int_eq (try (1, ACTOR, 9, 1), EAGAIN);
    grant (1, ACTOR, CREDIT + 1000);
    check_seen (1, "1");
    grant (1, ACTOR, CREDIT + 1001);
    ck_assert_int_eq (result (&senders[1]), 0);
    check_seen (1, "12");
    grant (1, ACTOR, 1000000);
    for (int i = 2; i < 5; i++)
        ck_assert_int_eq (result (&senders[i]), 0);
    check_seen (1, "12345");
    ck_assert_uint_eq (credit_of (1, ACTOR).standing, 0);
    ck_assert_uint_eq (sent_to (1, ACTOR), CREDIT + 3 * 1000 + 2 * (30000 + CTKI_CHARGE_BYTES));
    ck_assert_int_eq (try (1, ACTOR, 6, 1), 0);
    tear_down ();
}
END_TEST

/* A peer that is removed here and added again may count on from before, until it hears that this server does not: it is
 * told so ahead of the first envelope for an actor, and what it granted before is not taken, nor what it granted to a
 * process before this one. */
START_TEST (granted_before)
{
    set_up ();
    grant (1, ACTOR, 0);
    use_up (1, ACTOR);
    ck_assert_uint_eq (flows_of (1), INCARNATION);
    ck_assert_int_eq (ctki_outbox_grant (&outbox, 1, ACTOR, INCARNATION - 1, 5 * CREDIT), 0);
    ck_assert_int_eq (try (1, ACTOR, 1, 10), EAGAIN);
    grant (1, ACTOR, 5 * CREDIT);
    ck_assert_int_eq (try (1, ACTOR, 1, 10), 0);
    route ();
    ck_assert_uint_eq (seen.anew[1], 0); /* that this process is new is known */
    drop (1);
    ck_assert_int_eq (ctki_route_list (&outbox.route, 1, 0), 0);
    ck_assert_int_eq (ctki_outbox_grant (&outbox, 1, ACTOR, INCARNATION, 5 * CREDIT), 0);
    ck_assert_uint_eq (kept (1), 0);
    ck_assert_int_eq (try (1, 0, 2, 10), 0);
    route ();
    ck_assert_uint_eq (seen.anew[1], 0);
    ck_assert_int_eq (try (1, ACTOR, 3, WHOLE), 0);
    route ();
    ck_assert_uint_eq (seen.anew[1], flows_of (1));
    ck_assert_uint_eq (ctki_counted (&peer_of (1)->accepted), 3);
    ck_assert_int_eq (ctki_outbox_grant (&outbox, 1, ACTOR, INCARNATION, 5 * CREDIT), 0);
    ck_assert_int_eq (try (1, ACTOR, 9, 10), EAGAIN);
    grant (1, ACTOR, CREDIT + 1);
    ck_assert_int_eq (try (1, ACTOR, 4, 10), 0);
    check_seen (1, "1234");
    tear_down ();
}
END_TEST

/* All flows to a peer that forgets them, or was started again, begin anew, whoever sends next: one on the quick way or
 * not, who stood there, or a broadcast. Without memory to say so nothing is sent. */
START_TEST (begins_anew)
{
    set_up ();
    use_up (1, ACTOR);
    ck_assert_int_eq (try (2, ACTOR, 0, 10), 0);
    for (int64_t i = 1; i < 4; i++) {
        uint64_t before = flows_of (1);
        ctki_outbox_forget (&outbox, 1, 0);
        ck_assert_int_eq (try (1, 0, i, 10), 0); /* opens a run */
        int rc = ENOMEM;
        for (long after = i == 3 ? 0 : -1; rc; after++) {
            ck_assert_int_lt (after, 100);
            ctki_mem_fail (after, 1);
            rc = try (i == 1 ? 1 : CTALK_BROADCAST, ACTOR, i, i == 2 ? 30000 : 10);
            ctki_mem_fail (-1, 0);
            ck_assert (rc == 0 || (rc == ENOMEM && i == 3 && sent_to (1, ACTOR) == 0));
        }
        ck_assert_uint_ne (flows_of (1), before);
        ck_assert_int_eq (try (1, ACTOR, i, 10), i == 2 ? EAGAIN : 0);
        route ();
        ck_assert_uint_eq (seen.anew[1], flows_of (1));
        grant (2, ACTOR, 100000);
        grant (3, ACTOR, 100000);
    }
    ck_assert_uint_eq (flows_of (2), INCARNATION);
    tear_down ();
}
END_TEST

/* A grant for an actor whose credit was not kept, as its flow began anew, is good: it does not come again. Without
 * memory it is to come once more. */
START_TEST (granted_when_forgotten)
{
    set_up ();
    use_up (1, ACTOR);
    ctki_outbox_forget (&outbox, 1, ACTOR);
    for (uint64_t actor = ACTOR; actor < ACTOR + 6; actor++) /* the map is full */
        grant (1, OTHER + actor, 0);
    ck_assert_uint_eq (kept (1), 6);
    for (long after = 0; after < 2; after++) { /* the record, and its place */
        ctki_mem_fail (after, 1);
        ck_assert_int_eq (ctki_outbox_grant (&outbox, 1, ACTOR, flows_of (1), 5 * CREDIT), -1);
        ctki_mem_fail (-1, 0);
        ck_assert_uint_eq (kept (1), 6);
    }
    grant (1, ACTOR, 5 * CREDIT);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq (try (1, ACTOR, 1, WHOLE), 0);
    ck_assert_int_eq (try (1, ACTOR, 1, WHOLE), EAGAIN);
    tear_down ();
}
END_TEST

/* Nobody overtakes who stands at a credit, even if there is some before he was looked at: neither on the long way nor
 * on the quick one, with a run open for the peer. */
START_TEST (nobody_overtakes)
{
    sender_t first;
    set_up ();
    use_up (1, ACTOR);
    start (&first, 1, ACTOR, 1, 10);
    ck_assert_int_eq (try (1, 0, 2, 10), 0); /* opens a run */
    ck_assert_ptr_nonnull (outbox.hot->open);
    record_of (1, ACTOR)->limit += 1000;
    ck_assert_int_eq (try (1, ACTOR, 9, 10), EAGAIN);
    ck_assert_int_eq (try (1, ACTOR, 9, 30000), EAGAIN);
    ck_assert (waits (&first));
    ctki_outbox_look_again (&outbox);
    ck_assert_int_eq (result (&first), 0);
    check_seen (1, "21");
    tear_down ();
}
END_TEST

/* Who lacks credit is in nobody's way: others send to other actors and to the inbox of that peer, and to that actor
 * of others. */
START_TEST (no_obstacle)
{
    sender_t first;
    set_up ();
    use_up (1, ACTOR);
    start (&first, 1, ACTOR, 1, 10);
    ck_assert_uint_eq (standing (1), 0);
    for (int large = 0; large < 2; large++) {
        size_t size = large ? 30000 : 10;
        ck_assert_int_eq (try (1, OTHER, 2, size), 0);
        ck_assert_int_eq (try (1, 0, 3, size), 0);
        ck_assert_int_eq (try (2, ACTOR, 4, size), 0);
        ck_assert_int_eq (try (CTALK_BROADCAST, 0, 5, size), 0);
    }
    ck_assert (waits (&first));
    grant (1, ACTOR, CREDIT + 1);
    ck_assert_int_eq (result (&first), 0);
    check_seen (1, "2352351");
    check_seen (2, "4545");
    tear_down ();
}
END_TEST

/* Who has credit but finds no room stands at the peer: nobody behind him takes the room that is made before he was
 * looked at, whomever it is for there. */
START_TEST (stands_at_the_peer)
{
    sender_t first, second, third;
    set_up ();
    fill (1);
    start (&first, 1, ACTOR, 1, WHOLE);
    ck_assert_uint_eq (standing (1), 1);
    start (&second, 1, ACTOR, 2, 10); /* behind him, and without credit when he has gone */
    start (&third, 1, 0, 3, 10);
    ck_assert_uint_eq (credit_of (1, ACTOR).standing, 2);
    ck_assert_uint_eq (standing (1), 2);
    atomic_fetch_add (&peer_of (1)->settled_bytes, outbox.queue_bytes); /* and they will be looked at in a moment */
    ck_assert_int_eq (try (1, 0, 9, 10), EAGAIN);
    ck_assert_int_eq (try (1, OTHER, 9, 10), EAGAIN);
    ck_assert_int_eq (try (1, ACTOR, 9, 10), EAGAIN);
    ctki_outbox_look_again (&outbox);
    ck_assert_int_eq (result (&first), 0);
    ck_assert_int_eq (result (&third), 0);
    ck_assert_uint_eq (standing (1), 0);
    ck_assert_uint_eq (credit_of (1, ACTOR).standing, 1);
    ck_assert_int_eq (try (1, 0, 4, 10), 0);
    grant (1, ACTOR, CREDIT + 1);
    ck_assert_int_eq (result (&second), 0);
    check_seen (1, "1342");
    tear_down ();
}
END_TEST

/* He who gets credit while there is no room goes over to the peer, and back to the credit when the one before him took
 * it; who stands at the peer only does not lose his place. */
START_TEST (from_credit_to_peer)
{
    sender_t first, second;
    set_up ();
    use_up (1, ACTOR);
    start (&first, 1, ACTOR, 1, 10);
    fill (1);
    start (&second, 1, 0, 2, 10);
    ck_assert_uint_eq (standing (1), 1);
    grant (1, ACTOR, CREDIT + 1);
    ck_assert_uint_eq (standing (1), 2);
    ck_assert (waits (&first));
    make_room (1);
    ck_assert_int_eq (result (&first), 0);
    ck_assert_int_eq (result (&second), 0);
    check_seen (1, "12");
    ck_assert_uint_eq (standing (1), 0);
    tear_down ();
}
END_TEST

/* On a slow machine it may have given up before it was seen. */
static bool stands_or_gave_up (void *arg)
{
    sender_t *sender = arg;
    return !waits (sender) || credit_of (sender->pid, sender->to).standing > 0;
}

/* One whose time runs out leaves, wherever he stands, without a trace; those behind him keep their place. */
START_TEST (gives_up)
{
    sender_t first, second;
    set_up ();
    if (_i)
        fill (1);
    else
        use_up (1, ACTOR);
    start_with (&first, 1, ACTOR, 1, 10, ctki_test_ms (200), NULL);
    ck_assert (ctki_test_until (stands_or_gave_up, &first, ctki_test_long_ms ()));
    start (&second, 1, ACTOR, 2, 10);
    ck_assert_int_eq (result (&first), EAGAIN);
    ck_assert_uint_eq (credit_of (1, ACTOR).standing, 1);
    ck_assert_uint_eq (standing (1), _i ? 1 : 0);
    if (_i)
        make_room (1);
    else
        grant (1, ACTOR, CREDIT + 1);
    ck_assert_int_eq (result (&second), 0);
    check_seen (1, "2");
    ck_assert_uint_eq (credit_of (1, ACTOR).standing, 0);
    ck_assert_uint_eq (standing (1), 0);
    tear_down ();
}
END_TEST

/* Nothing is kept of a send that was refused, to whatever actor it was: at once, or when its time was over, or to all;
 * nor where there was no memory. What was sent to, or was granted, is kept. */
START_TEST (refused_and_not_kept)
{
    atomic_bool stop = true;
    set_up ();
    fill (1);
    grant (1, OTHER, CREDIT + 1);
    for (uint64_t i = 0; i < 100; i++) {
        uint64_t actor = 100 + i;
        ck_assert_int_eq (try (1, actor, 1, 10), EAGAIN);
        ck_assert_int_eq (try (CTALK_BROADCAST, actor, 1, 10), EAGAIN);
        ck_assert_int_eq (send_one (1, actor, 1, 10, -1, &stop), ESHUTDOWN);
        ck_assert_int_eq (try (1, OTHER, 1, 10), EAGAIN);
    }
    ck_assert_int_eq (send_one (1, ACTOR, 1, 10, 10, NULL), EAGAIN);
    ck_assert_int_eq (send_one (CTALK_BROADCAST, ACTOR, 1, 10, 10, NULL), EAGAIN);
    ck_assert_uint_eq (kept (1), 1);
    ck_assert_uint_eq (kept (2), 0);
    make_room (1);
    ck_assert_int_eq (try (1, ACTOR, 1, WHOLE), 0);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq (try (1, ACTOR, 1, 10), EAGAIN);
        ck_assert_int_eq (try (CTALK_BROADCAST, ACTOR, 1, 10), EAGAIN);
    }
    ck_assert_uint_eq (kept (1), 2);
    ck_assert_uint_eq (kept (2), 0);
    ck_assert_uint_eq (sent_to (1, ACTOR), CREDIT);
    for (long after = 0;; after++) {
        int rc;
        ctki_mem_fail (after, 1);
        rc = try (CTALK_BROADCAST, 5, 1, 30000);
        ctki_mem_fail (-1, 0);
        if (rc == 0)
            break;
        ck_assert_int_eq (rc, ENOMEM);
        ck_assert_uint_eq (kept (1), 2);
        ck_assert_uint_eq (kept (2), 0);
    }
    ck_assert_uint_eq (kept (2), 1);
    fill (3);
    atomic_store (&peer_of (3)->state, CTALK_STATE_DOWN);
    ck_assert_int_eq (try (CTALK_BROADCAST, 6, 1, 10), 0); /* passes it over */
    ck_assert_uint_eq (kept (2), 2);
    ck_assert_uint_eq (kept (3), 1);
    tear_down ();
}
END_TEST

/* ---- broadcasts to an actor of each */

/* A broadcast uses credit at each peer, or, where one lacks it, at none. */
START_TEST (all_or_none)
{
    for (ctalk_pid_t lacking = 1; lacking <= PEERS; lacking++) {
        set_up ();
        use_up (lacking, ACTOR);
        ck_assert_int_eq (try (CTALK_BROADCAST, ACTOR, 1, 10), EAGAIN);
        ck_assert_int_eq (try (CTALK_BROADCAST, ACTOR, 1, 30000), EAGAIN);
        ck_assert_int_eq (send_one (CTALK_BROADCAST, ACTOR, 1, 10, 10, NULL), EAGAIN);
        ck_assert_uint_eq (ctki_counted (&outbox.refused_full), 3);
        for (ctalk_pid_t pid = 1; pid <= PEERS; pid++) {
            ck_assert_uint_eq (sent_to (pid, ACTOR), pid == lacking ? CREDIT : 0);
            ck_assert_uint_eq (queued (pid), pid == lacking ? CREDIT : 0);
            check_seen (pid, "");
        }
        grant (lacking, ACTOR, CREDIT + 1);
        ck_assert_int_eq (try (CTALK_BROADCAST, ACTOR, 2, 10), 0);
        for (ctalk_pid_t pid = 1; pid <= PEERS; pid++) {
            ck_assert_uint_eq (sent_to (pid, ACTOR), 10 + CTKI_CHARGE_BYTES + (pid == lacking ? CREDIT : 0));
            check_seen (pid, "2");
        }
        tear_down ();
    }
}
END_TEST

/* One that lacks credit at a peer waits, and holds up nobody: neither sends to that peer nor other broadcasts, to
 * another actor or to the inboxes, that come behind it. */
START_TEST (holds_up_nobody)
{
    sender_t all;
    set_up ();
    use_up (2, ACTOR);
    start (&all, CTALK_BROADCAST, ACTOR, 1, 10);
    ck_assert_int_eq (try (2, 0, 2, 10), 0);
    ck_assert_int_eq (try (2, OTHER, 3, 10), 0);
    ck_assert_int_eq (try (1, ACTOR, 4, 10), 0);
    ck_assert_int_eq (try (CTALK_BROADCAST, 0, 5, 10), 0);
    ck_assert_int_eq (try (CTALK_BROADCAST, OTHER, 6, 30000), 0);
    ck_assert_int_eq (try (CTALK_BROADCAST, OTHER, 7, 10), EAGAIN);
    ck_assert (waits (&all));
    for (ctalk_pid_t pid = 1; pid <= PEERS; pid++)
        ck_assert_uint_eq (standing (pid), 0);
    grant (2, ACTOR, CREDIT + 1);
    ck_assert_int_eq (result (&all), 0);
    check_seen (1, "4561");
    check_seen (2, "23561");
    check_seen (3, "561");
    tear_down ();
}
END_TEST

/* Several to the same actor go in order; so do senders to it that came before, and those that came behind it do not
 * keep it back for ever by standing where it has to find credit. */
START_TEST (in_order_of_arrival)
{
    sender_t before, all, next, behind;
    set_up ();
    use_up (2, ACTOR);
    start (&before, 2, ACTOR, 1, 1000 - CTKI_CHARGE_BYTES);
    start (&all, CTALK_BROADCAST, ACTOR, 2, 1000 - CTKI_CHARGE_BYTES);
    start (&next, CTALK_BROADCAST, ACTOR, 3, 1000 - CTKI_CHARGE_BYTES);
    start (&behind, 2, ACTOR, 4, 1000 - CTKI_CHARGE_BYTES);
    grant (2, ACTOR, CREDIT + 1);
    ck_assert_int_eq (result (&before), 0);
    check_seen (2, "1");
    grant (2, ACTOR, CREDIT + 1001);
    check_seen (2, "12");
    ck_assert_int_eq (result (&all), 0);
    grant (2, ACTOR, CREDIT + 2001);
    check_seen (2, "123");
    ck_assert_int_eq (result (&next), 0);
    grant (2, ACTOR, CREDIT + 3001);
    ck_assert_int_eq (result (&behind), 0);
    check_seen (2, "1234");
    check_seen (1, "23");
    tear_down ();
}
END_TEST

/* One that gets the credit but finds no room somewhere stands there, as others do. */
START_TEST (credit_then_room)
{
    sender_t all;
    set_up ();
    use_up (2, ACTOR);
    fill (3);
    start (&all, CTALK_BROADCAST, ACTOR, 1, 10);
    ck_assert_uint_eq (standing (3), 0);
    grant (2, ACTOR, CREDIT + 1);
    ck_assert_uint_eq (standing (3), 1);
    ck_assert_int_eq (try (CTALK_BROADCAST, 0, 9, 10), EAGAIN);
    make_room (3);
    ck_assert_int_eq (result (&all), 0);
    check_seen (3, "1");
    tear_down ();
}
END_TEST

/* A down peer whose actor lacks credit is passed over and counted, whether it was down before or goes down meanwhile;
 * one that has credit and room gets it. */
START_TEST (skips_the_down)
{
    sender_t all;
    set_up ();
    use_up (2, ACTOR);
    if (_i)
        start (&all, CTALK_BROADCAST, ACTOR, 1, 10);
    atomic_store (&peer_of (2)->state, CTALK_STATE_DOWN);
    atomic_store (&peer_of (3)->state, CTALK_STATE_LEFT);
    if (_i) {
        ctki_outbox_look_again (&outbox);
        ck_assert_int_eq (result (&all), 0);
    } else
        ck_assert_int_eq (try (CTALK_BROADCAST, ACTOR, 1, 10), 0);
    check_seen (1, "1");
    check_seen (2, "");
    check_seen (3, "1");
    ck_assert_uint_eq (ctki_counted (&peer_of (2)->skipped), 1);
    ck_assert_uint_eq (ctki_counted (&peer_of (3)->skipped), 0);
    ck_assert_uint_eq (sent_to (2, ACTOR), CREDIT);
    ck_assert_uint_eq (sent_to (3, ACTOR), 10 + CTKI_CHARGE_BYTES);
    tear_down ();
}
END_TEST

/* ---- forgetting */

/* When a flow is over what is sent begins another one, with 16 KiB: those who stand there go, in order. What nobody
 * stands at is not kept. */
START_TEST (forgotten)
{
    static sender_t senders[3];
    set_up ();
    use_up (1, ACTOR);
    use_up (1, OTHER);
    use_up (2, ACTOR);
    grant (1, ACTOR, CREDIT);
    for (int i = 0; i < 3; i++)
        start (&senders[i], 1, ACTOR, i + 1, i ? 10 : WHOLE);
    ctki_outbox_forget (&outbox, 1, ACTOR);
    ck_assert_int_eq (result (&senders[0]), 0);
    ck_assert_uint_eq (sent_to (1, ACTOR), CREDIT);
    ck_assert_uint_eq (credit_of (1, ACTOR).limit, CREDIT);
    ck_assert_uint_eq (credit_of (1, ACTOR).standing, 2);
    check_seen (1, "1");
    ctki_outbox_forget (&outbox, 1, ACTOR);
    for (int i = 1; i < 3; i++)
        ck_assert_int_eq (result (&senders[i]), 0);
    check_seen (1, "123");
    ck_assert_uint_eq (kept (1), 2);
    ctki_outbox_forget (&outbox, 1, ACTOR);
    ctki_outbox_forget (&outbox, 1, ACTOR); /* and one that is not there, in vain */
    ctki_outbox_forget (&outbox, 9, ACTOR);
    ctki_outbox_forget (&outbox, 9, 0);
    ck_assert_uint_eq (kept (1), 1);
    ck_assert_int_eq (try (1, ACTOR, 4, 10), 0);
    ck_assert_int_eq (try (1, OTHER, 9, 10), EAGAIN);
    ck_assert_int_eq (try (2, ACTOR, 9, 10), EAGAIN);
    tear_down ();
}
END_TEST

/* When a peer was started again all its flows are over, however many there were: those who stand there go, credits at
 * which somebody still stands begin anew, the others are not kept, and other peers are not concerned. */
START_TEST (all_forgotten)
{
    enum { ACTORS = 300 };
    static sender_t credits[3], room;
    uint64_t named = CTKI_ID_NAMED | 12345;
    set_up ();
    outbox.queue_bytes = UINT64_C (100) * QUEUE_BYTES;
    for (uint64_t actor = 0; actor < ACTORS; actor++)
        ck_assert_int_eq (try (1, actor * 7919 + 2, 0, WHOLE), 0);
    use_up (1, named);
    use_up (2, ACTOR);
    ck_assert_uint_eq (kept (1), ACTORS + 1);
    start (&credits[0], 1, 2, 1, 10);
    start (&credits[1], 1, 150 * 7919 + 2, 2, 10);
    start (&credits[2], 1, named, 3, WHOLE);
    ctki_outbox_forget (&outbox, 1, 0);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq (result (&credits[i]), 0);
    check_seen (1, "123");
    ck_assert_uint_eq (kept (1), 3);
    ck_assert_uint_eq (sent_to (1, 2), 10 + CTKI_CHARGE_BYTES);
    ck_assert_int_eq (try (1, named, 9, 10), EAGAIN);
    ck_assert_int_eq (try (2, ACTOR, 9, 10), EAGAIN);
    fill (1);
    start (&room, 1, 2, 4, 10); /* stands there without need of credit */
    grant (1, 2, 5 * CREDIT);
    ctki_outbox_forget (&outbox, 1, 0);
    ctki_outbox_forget (&outbox, 1, 0);
    ck_assert_uint_eq (kept (1), 1);
    ck_assert_uint_eq (sent_to (1, 2), 0);
    grant (1, 2, 5 * CREDIT); /* of before, a late one: */
    ctki_outbox_forget (&outbox, 1, 0);
    ck_assert_uint_eq (credit_of (1, 2).limit, CREDIT); /* it is not kept either */
    ctki_outbox_settled (&outbox, peer_of (1), (int64_t) queued (1));
    ck_assert_int_eq (result (&room), 0);
    check_seen (1, "1234");
    tear_down ();
}
END_TEST

/* A broadcast that lacked credit goes when the flow is over. */
START_TEST (forgotten_for_all)
{
    sender_t all;
    set_up ();
    use_up (2, ACTOR);
    start (&all, CTALK_BROADCAST, ACTOR, 1, 10);
    ctki_outbox_forget (&outbox, 2, _i ? 0 : ACTOR);
    ck_assert_int_eq (result (&all), 0);
    check_seen (2, "1");
    check_seen (3, "1");
    tear_down ();
}
END_TEST

/* ---- ends */

/* Who stands at a credit of a peer that is removed fails; a broadcast that lacked it there goes to the rest. */
START_TEST (removal)
{
    sender_t at_credit, at_peer, all, elsewhere;
    set_up ();
    use_up (2, ACTOR);
    use_up (3, ACTOR);
    start (&at_credit, 2, ACTOR, 1, 10);
    start (&elsewhere, 3, ACTOR, 2, 10);
    fill (2);
    start (&at_peer, 2, OTHER, 3, 10);
    start (&all, CTALK_BROADCAST, OTHER, 4, 10);
    drop (2);
    ck_assert_int_eq (result (&at_credit), EHOSTUNREACH);
    ck_assert_int_eq (result (&at_peer), EHOSTUNREACH);
    ck_assert_int_eq (result (&all), 0);
    ck_assert (waits (&elsewhere));
    grant (2, ACTOR, 100000);
    ctki_outbox_forget (&outbox, 2, ACTOR);
    ctki_outbox_forget (&outbox, 2, 0);
    ck_assert_int_eq (try (2, ACTOR, 9, 10), EHOSTUNREACH);
    grant (3, ACTOR, 100000);
    ck_assert_int_eq (result (&elsewhere), 0);
    check_seen (1, "4");
    check_seen (2, "");
    check_seen (3, "42");
    tear_down ();
}
END_TEST

/* What waits with a flag that becomes true ends, one to a peer as well as a broadcast, wherever it stands; what waits
 * with another one, or with none, does not. */
START_TEST (interrupted)
{
    static sender_t mine[3], others[2];
    atomic_bool stop = false, another = false;
    set_up ();
    use_up (1, ACTOR);
    fill (2);
    start_with (&mine[0], 1, ACTOR, 1, 10, -1, &stop);
    start_with (&others[0], 1, ACTOR, 2, 10, -1, &another);
    start_with (&mine[1], CTALK_BROADCAST, ACTOR, 3, 10, -1, &stop);
    start_with (&others[1], 2, OTHER, 4, 10, -1, NULL);
    start_with (&mine[2], 2, 0, 5, 30000, -1, &stop);
    atomic_store (&stop, true);
    ctki_outbox_interrupt (&outbox, &stop);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq (result (&mine[i]), ESHUTDOWN);
    ck_assert_uint_eq (ctki_counted (&outbox.refused_shutdown), 3);
    ck_assert_uint_eq (credit_of (1, ACTOR).standing, 1);
    ck_assert_uint_eq (standing (2), 1);
    ck_assert (waits (&others[0]) && waits (&others[1]));
    ctki_outbox_interrupt (&outbox, &stop); /* nobody is left */
    grant (1, ACTOR, CREDIT + 1);
    make_room (2);
    ck_assert_int_eq (result (&others[0]), 0);
    ck_assert_int_eq (result (&others[1]), 0);
    check_seen (1, "2");
    check_seen (2, "4");
    tear_down ();
}
END_TEST

/* When the flag was set before, there is no waiting: who would have to fails at once; who need not sends. */
START_TEST (interrupted_before)
{
    static const size_t sizes[] = {10, 30000};
    atomic_bool stop = true;
    set_up ();
    use_up (1, ACTOR);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq (send_one (1, ACTOR, 1, sizes[i], -1, &stop), ESHUTDOWN);
        ck_assert_int_eq (send_one (CTALK_BROADCAST, ACTOR, 1, sizes[i], -1, &stop), ESHUTDOWN);
        ck_assert_int_eq (send_one (1, ACTOR, 1, sizes[i], 0, &stop), EAGAIN);
        ck_assert_int_eq (send_one (1, 0, 2, sizes[i], -1, &stop), 0);
    }
    fill (2);
    ck_assert_int_eq (send_one (2, 0, 3, 10, -1, &stop), ESHUTDOWN);
    check_seen (1, "22");
    check_seen (2, "");
    tear_down ();
}
END_TEST

/* The interrupt of one that waits in front lets those behind it go. */
START_TEST (interrupted_in_front)
{
    sender_t all, behind;
    atomic_bool stop = false;
    set_up ();
    fill (2);
    start_with (&all, CTALK_BROADCAST, 0, 1, 10, -1, &stop);
    fill (3);
    start (&behind, CTALK_BROADCAST, ACTOR, 2, 10);
    make_room (2);
    make_room (3);
    ck_assert_int_eq (result (&all), 0);
    ck_assert_int_eq (result (&behind), 0);
    fill (2);
    start_with (&all, CTALK_BROADCAST, 0, 3, 10, -1, &stop);
    start (&behind, 2, 0, 4, 10);
    atomic_fetch_add (&peer_of (2)->settled_bytes, outbox.queue_bytes);
    atomic_store (&stop, true);
    ctki_outbox_interrupt (&outbox, &stop);
    ck_assert_int_eq (result (&all), ESHUTDOWN);
    ck_assert_int_eq (result (&behind), 0);
    tear_down ();
}
END_TEST

/* Closing ends those who stand at a credit, too. */
START_TEST (closing)
{
    sender_t one, all;
    set_up ();
    use_up (1, ACTOR);
    start (&one, 1, ACTOR, 1, 10);
    start (&all, CTALK_BROADCAST, ACTOR, 2, 10);
    ctki_outbox_close (&outbox);
    ck_assert_int_eq (result (&one), ESHUTDOWN);
    ck_assert_int_eq (result (&all), ESHUTDOWN);
    grant (1, ACTOR, 100000);
    ck_assert_int_eq (try (1, ACTOR, 3, 10), ESHUTDOWN);
    check_seen (1, "");
    tear_down ();
}
END_TEST

/* ---- notices */

static int post (ctalk_pid_t pid, int64_t number, size_t size, bool *wake)
{
    ctalk_envelope_t envelope = envelope_of (pid, CTKI_SYSTEM, number, size);
    return ctki_outbox_post (&outbox, &envelope, wake);
}

/* What servers tell each other passes whatever is full and whoever stands in line, behind all that was sent before, and
 * is counted; it needs no credit. It wakes a router that sleeps, once. */
START_TEST (posted)
{
    sender_t at_peer, at_credit;
    bool wake = false;
    char byte;
    set_up ();
    use_up (1, ACTOR);
    start (&at_credit, 1, ACTOR, 1, 10);
    ck_assert_int_eq (try (1, 0, 2, 10), 0);
    fill (1);
    start (&at_peer, 1, 0, 3, 10);
    uint64_t before = queued (1), accepted = ctki_counted (&peer_of (1)->accepted);
    ck_assert_int_eq (post (1, 4, 24, &wake), 0);
    ck_assert_int_eq (post (1, 5, 279, &wake), 0);
    ck_assert (!wake); /* the router looks for what was sent by itself */
    ck_assert_uint_eq (queued (1), before + 24 + 279 + 2 * CTKI_CHARGE_BYTES);
    ck_assert_uint_eq (ctki_counted (&peer_of (1)->accepted), accepted + 2);
    check_seen (1, "245");
    ck_assert_uint_eq (kept (1), 1);
    ck_assert (waits (&at_peer) && waits (&at_credit));
    ck_assert (ctki_mailbox_park (&outbox.mailbox));
    ck_assert_int_eq (post (2, 6, 24, &wake), 0);
    ck_assert (wake);
    wake = false;
    ck_assert_int_eq (post (2, 7, 24, &wake), 0);
    ck_assert (!wake);
    ck_assert_int_eq (ctki_pipe_receive (hearer, &byte, 1), -1); /* that is the caller's */
    ctki_outbox_wake_router (&outbox);
    ck_assert_int_eq (ctki_pipe_receive (hearer, &byte, 1), 1);
    ctki_bell_heard (&bell);
    check_seen (2, "67");
    grant (1, ACTOR, CREDIT + 1);
    ctki_outbox_settled (&outbox, peer_of (1), (int64_t) queued (1));
    ck_assert_int_eq (result (&at_peer), 0);
    ck_assert_int_eq (result (&at_credit), 0);
    tear_down ();
}
END_TEST

/* Nothing is posted to a stranger, or when closing, and nobody is woken. */
START_TEST (not_posted)
{
    bool wake = false;
    set_up ();
    ck_assert (ctki_mailbox_park (&outbox.mailbox));
    ck_assert_int_eq (post (9, 1, 24, &wake), EHOSTUNREACH);
    ctki_outbox_close (&outbox);
    ck_assert_int_eq (post (1, 2, 24, &wake), ESHUTDOWN);
    ck_assert (!wake);
    check_seen (1, "");
    tear_down ();
}
END_TEST

/* Without memory nothing is posted, and nothing is left of it. */
START_TEST (no_memory_to_post)
{
    int rc = ENOMEM;
    for (long after = 0; rc; after++) {
        bool wake = false;
        ck_assert_int_lt (after, 100);
        set_up ();
        ck_assert (ctki_mailbox_park (&outbox.mailbox));
        ctki_mem_fail (after, 1);
        rc = post (1, 1, 24, &wake);
        ctki_mem_fail (-1, 0);
        ck_assert (rc == 0 || rc == ENOMEM);
        ck_assert (rc || after > 1);
        ck_assert (wake == (rc == 0));
        ck_assert_uint_eq (queued (1), rc ? 0 : 24 + CTKI_CHARGE_BYTES);
        check_seen (1, rc ? "" : "1");
        tear_down ();
    }
}
END_TEST

/* ---- no memory */

/* The figures of all peers: what is queued, and what was sent to the actor. */
typedef struct {
    uint64_t queued[PEERS], sent[PEERS];
} figures_t;

static figures_t figures_now (void)
{
    figures_t now = {{0}, {0}};
    for (ctalk_pid_t pid = 1; pid <= PEERS; pid++) { /* no record of a peer is made */
        const ctki_peer_t *peer = ctki_route_peek (&outbox.route, pid);
        const ctki_credit_t *credit = peer ? ctki_map_get (&peer->credits, ACTOR) : NULL;
        now.queued[pid - 1] = peer ? ctki_peer_queued_bytes (peer) : 0;
        now.sent[pid - 1] = credit ? credit->sent : 0;
    }
    return now;
}

/* Whichever allocation fails, the send fails with ENOMEM, counted, and has changed nothing: what it would have used is
 * still there for the next one. */
START_TEST (no_memory)
{
    static const struct {
        ctalk_pid_t pid;
        size_t size;
    } kinds[] = {{1, 10}, {1, 30000}, {CTALK_BROADCAST, 10}, {CTALK_BROADCAST, 30000}};
    int rc = ENOMEM;
    for (long after = 0; rc; after++) {
        ck_assert_int_lt (after, 100);
        set_up ();
        figures_t before = figures_now ();
        ctki_mem_fail (after, 1);
        rc = try (kinds[_i].pid, ACTOR, 1, kinds[_i].size);
        ctki_mem_fail (-1, 0);
        ck_assert (rc == 0 || rc == ENOMEM);
        ck_assert_uint_eq (ctki_counted (&outbox.refused_memory), rc ? 1 : 0);
        figures_t now = figures_now ();
        ck_assert (rc == 0 || memcmp (&now, &before, sizeof now) == 0);
        ck_assert (rc || after > 2);
        if (rc)
            ck_assert_int_eq (try (kinds[_i].pid, ACTOR, 1, kinds[_i].size), 0);
        now = figures_now ();
        for (int i = 0; i < PEERS; i++) {
            uint64_t charge = i == 0 || kinds[_i].pid == CTALK_BROADCAST ? kinds[_i].size + CTKI_CHARGE_BYTES : 0;
            ck_assert (now.queued[i] == charge && now.sent[i] == charge);
        }
        check_seen (1, "1");
        tear_down ();
    }
}
END_TEST

/* Without memory when the credit comes, the one in front fails and uses none; the one behind it goes. */
START_TEST (no_memory_in_line)
{
    sender_t first, second;
    set_up ();
    fill (1);
    grant (1, ACTOR, 0); /* makes its credit, and no memory to write to */
    make_room (1);
    record_of (1, ACTOR)->sent = CREDIT;
    start (&first, _i ? CTALK_BROADCAST : 1, ACTOR, 1, 30000);
    start (&second, 1, ACTOR, 2, 10);
    ctki_mem_fail (0, 1);
    grant (1, ACTOR, CREDIT + 1);
    ctki_mem_fail (-1, 0);
    ck_assert_int_eq (result (&first), ENOMEM);
    ck_assert_int_eq (result (&second), 0);
    check_seen (1, "2");
    check_seen (3, "");
    ck_assert_uint_eq (sent_to (1, ACTOR), CREDIT + 10 + CTKI_CHARGE_BYTES);
    ck_assert_uint_eq (sent_to (3, ACTOR), 0);
    tear_down ();
}
END_TEST

/* ---- against a model */

enum { M_ACTORS = 4 }; /* 0: the inbox */

/* What the outbox should do: each envelope is judged by these numbers alone. */
typedef struct {
    uint64_t queued[PEERS], sent[PEERS][M_ACTORS], limit[PEERS][M_ACTORS], skipped[PEERS];
    bool down[PEERS], begun[PEERS], anew; /* the flows to it; some did so anew */
} model_t;

static uint64_t actor_of (unsigned index)
{
    static const uint64_t actors[M_ACTORS] = {0, 2, 3, CTKI_ID_NAMED | 2};
    return actors[index];
}

static bool model_takes (const model_t *model, unsigned peer, unsigned actor)
{
    return model->queued[peer] < outbox.queue_bytes
           && (actor == 0 || model->sent[peer][actor] < model->limit[peer][actor]);
}

static void model_count (model_t *model, unsigned peer, unsigned actor, uint64_t charge)
{
    if (actor && !model->begun[peer]) {
        model->queued[peer] += model->anew ? CTKI_NOTICE_BYTES + CTKI_CHARGE_BYTES : 0;
        model->begun[peer] = true;
    }
    model->queued[peer] += charge;
    model->sent[peer][actor] += actor ? charge : 0;
}

/* peer PEERS: all. Whether it is accepted. */
static bool model_send (model_t *model, unsigned peer, unsigned actor, uint64_t charge)
{
    bool ok = true;
    for (unsigned i = 0; i < PEERS; i++)
        ok &= (peer != i && peer != PEERS) || (peer == PEERS && model->down[i]) || model_takes (model, i, actor);
    for (unsigned i = 0; i < PEERS && ok; i++) {
        if (peer != i && peer != PEERS)
            continue;
        if (model_takes (model, i, actor))
            model_count (model, i, actor, charge);
        else
            model->skipped[i]++;
    }
    return ok;
}

static void compare (const model_t *model, size_t step)
{
    for (unsigned i = 0; i < PEERS; i++) {
        ctki_peer_t *peer = peer_of ((ctalk_pid_t) i + 1);
        ck_assert_msg (ctki_peer_queued_bytes (peer) == model->queued[i], "step %zu, peer %u", step, i + 1);
        ck_assert_uint_eq (ctki_counted (&peer->skipped), model->skipped[i]);
        ck_assert_uint_eq (peer->standing, 0);
        for (unsigned k = 1; k < M_ACTORS; k++) {
            ctki_credit_t credit = credit_of (peer->pid, actor_of (k));
            ck_assert_msg (credit.sent == model->sent[i][k] && credit.limit == model->limit[i][k] && !credit.standing,
                           "step %zu, actor %u of peer %u: %llu of %llu instead of %llu of %llu", step, k, i + 1,
                           (unsigned long long) credit.sent, (unsigned long long) credit.limit,
                           (unsigned long long) model->sent[i][k], (unsigned long long) model->limit[i][k]);
        }
    }
}

/* One envelope, on the quick way if it is possible, or on the long one: one that nobody takes comes with it. */
static int send_by (bool quick, ctalk_pid_t pid, uint64_t to, size_t size)
{
    ctalk_envelope_t envelopes[2] = {envelope_of (pid, to, 1, size), {.pid = 1, .reserved = 1}};
    int rc = ctki_outbox_send (&outbox, envelopes, quick ? 1 : 2, NULL, 0);
    ck_assert (rc == 1 || (rc == -1 && errno == EAGAIN));
    return rc == 1 ? 0 : EAGAIN;
}

static void one_send (model_t *model, unsigned *seed, bool quick)
{
    unsigned peer = (unsigned) rand_r (seed) % 10, actor = (unsigned) rand_r (seed) % M_ACTORS;
    peer = peer < PEERS * 3 ? peer / 3 : PEERS;
    size_t size = (size_t) rand_r (seed) % (rand_r (seed) % 32 == 0 ? 40000 : 400);
    bool accepted = model_send (model, peer, actor, size + CTKI_CHARGE_BYTES);
    ctalk_pid_t pid = peer == PEERS ? CTALK_BROADCAST : (ctalk_pid_t) peer + 1;
    ck_assert_int_eq (send_by (quick, pid, actor_of (actor), size), accepted ? 0 : EAGAIN);
}

static void one_change (model_t *model, unsigned *seed)
{
    unsigned peer = (unsigned) rand_r (seed) % PEERS, actor = 1 + (unsigned) rand_r (seed) % (M_ACTORS - 1);
    ctalk_pid_t pid = (ctalk_pid_t) peer + 1;
    uint64_t limit = model->sent[peer][actor] + (uint64_t) rand_r (seed) % CREDIT;
    switch (rand_r (seed) % 8) {
    case 0:
        ctki_outbox_forget (&outbox, pid, actor_of (actor));
        model->sent[peer][actor] = 0;
        model->limit[peer][actor] = CREDIT;
        break;
    case 1:
        if (rand_r (seed) % 8)
            break;
        ctki_outbox_forget (&outbox, pid, 0);
        model->begun[peer] = false;
        model->anew = true;
        for (unsigned k = 1; k < M_ACTORS; k++) {
            model->sent[peer][k] = 0;
            model->limit[peer][k] = CREDIT;
        }
        break;
    case 2:
        model->down[peer] = rand_r (seed) % 4 == 0;
        atomic_store (&peer_of (pid)->state, model->down[peer] ? CTALK_STATE_DOWN : CTALK_STATE_UP);
        break;
    case 3:
    case 4:
        route ();
        seen.count = 0;
        ctki_outbox_settled (&outbox, peer_of (pid), (int64_t) model->queued[peer]);
        model->queued[peer] = 0;
        break;
    default:
        model->limit[peer][actor] = CTKI_MAX (model->limit[peer][actor], limit);
        grant (pid, actor_of (actor), limit);
    }
}

/* Whatever is sent to whom, and settled, granted and forgotten in between, as many threads would do one after the
 * other: the quick way and the long one accept the same envelopes, those that the model does, and count the same. */
START_TEST (as_the_model)
{
    size_t steps = ctki_test_count (STEPS), accepted = 0;
    unsigned seed = 1 + (unsigned) _i / 2;
    model_t model = {.queued = {0}};
    set_up ();
    outbox.queue_bytes = 30000;
    for (int i = 0; i < PEERS * M_ACTORS; i++)
        model.limit[i / M_ACTORS][i % M_ACTORS] = CREDIT;
    for (size_t step = 0; step < steps; step++) {
        if (rand_r (&seed) % 8 == 0)
            one_change (&model, &seed);
        else
            one_send (&model, &seed, _i % 2 == 0);
        if (step % 16 == 0)
            compare (&model, step);
    }
    compare (&model, steps);
    for (ctalk_pid_t pid = 1; pid <= PEERS; pid++)
        accepted += ctki_counted (&peer_of (pid)->accepted);
    ctki_test_figure ("as_the_model", "%zu steps, %zu accepted", steps, accepted);
    tear_down ();
}
END_TEST

/* ---- many threads */

/* Each thread sends to two actors and the inbox of each peer, and to the actors of all. */
static bool send_many (void *arg, ctki_trouble_t *trouble)
{
    int64_t thread = (int64_t) (intptr_t) arg, count = (int64_t) ctki_test_count (SENDS);
    for (int64_t i = 0; i < count; i++) {
        ctalk_pid_t pid = i % 10 == 0 ? CTALK_BROADCAST : (ctalk_pid_t) (1 + i % PEERS);
        uint64_t to = i % 7 < 3 ? ACTOR : i % 7 < 6 ? OTHER : 0;
        CTKI_EXPECT_EQUAL (trouble, send_one (pid, to, thread << 32 | i, i % 100 == 50 ? 30000 : 200, -1, NULL), 0);
    }
    return true;
}

/* What the actors of each peer got so far, of it granted, and how far the log was looked at. */
typedef struct {
    uint64_t got[PEERS][2], granted[PEERS][2], most;
    size_t looked;
    int64_t last[PEERS][SENDERS];
} flows_t;

static void look_at_entry (flows_t *flows, size_t at)
{
    unsigned peer = (unsigned) seen.entry[at].pid - 1;
    int64_t thread = seen.entry[at].number >> 32, number = (seen.entry[at].number & UINT32_MAX) + 1;
    uint64_t to = seen.entry[at].to, charge = seen.entry[at].charge;
    ck_assert_int_gt (number, flows->last[peer][thread]); /* in each thread's order */
    flows->last[peer][thread] = number;
    if (to) {
        unsigned actor = to == OTHER;
        ck_assert_msg (flows->got[peer][actor] < flows->granted[peer][actor], "more than was granted");
        flows->got[peer][actor] += charge;
    }
    ctki_outbox_settled (&outbox, peer_of ((ctalk_pid_t) peer + 1), (int64_t) charge);
}

/* As the peers: settles what came, and grants now and then what their actors took. */
static void be_the_peers (flows_t *flows)
{
    while (flows->looked < seen.count)
        look_at_entry (flows, flows->looked++);
    for (unsigned i = 0; i < 2 * PEERS; i++) {
        unsigned peer = i / 2, actor = i % 2;
        if (flows->got[peer][actor] + CREDIT / 2 < flows->granted[peer][actor])
            continue;
        flows->granted[peer][actor] = flows->got[peer][actor] + CREDIT;
        grant ((ctalk_pid_t) peer + 1, actor ? OTHER : ACTOR, flows->granted[peer][actor]);
    }
}

/* Threads send to actors of all peers, and to all, with little credit and little room: all goes out, in each thread's
 * order at each peer, no actor gets more than was granted to it and one envelope, the counts agree, and none hangs. */
START_TEST (threads)
{
    static flows_t flows;
    ctki_test_thread_t senders[SENDERS];
    size_t done;
    int64_t end_ms = ctki_test_now_ms () + 3 * ctki_test_long_ms ();
    set_up ();
    outbox.queue_bytes = 40000;
    memset (&flows, 0, sizeof flows);
    for (unsigned i = 0; i < 2 * PEERS; i++)
        flows.granted[i / 2][i % 2] = CREDIT;
    for (intptr_t i = 0; i < SENDERS; i++)
        ctki_test_thread_start (&senders[i], send_many, (void *) i);
    do {
        done = 0;
        for (int i = 0; i < SENDERS; i++)
            done += atomic_load (&senders[i].done);
        size_t before = seen.count;
        route ();
        if (seen.count == before)
            sched_yield ();
        be_the_peers (&flows);
        ck_assert_msg (ctki_test_now_ms () < end_ms, "a sender hangs");
    } while (done < SENDERS);
    for (int i = 0; i < SENDERS; i++)
        ctki_test_thread_join (&senders[i]);
    size_t sends = ctki_test_count (SENDS), broadcasts = (sends + 9) / 10;
    ck_assert_uint_eq (seen.count, SENDERS * (sends - broadcasts + PEERS * broadcasts));
    for (unsigned i = 0; i < 2 * PEERS; i++)
        ck_assert_uint_eq (sent_to ((ctalk_pid_t) i / 2 + 1, i % 2 ? OTHER : ACTOR), flows.got[i / 2][i % 2]);
    tear_down ();
}
END_TEST

Suite *ctki_suite_credit (void)
{
    Suite *suite = suite_create ("credit");
    TCase *tcase = ctki_leaks_tcase ("credit", 90);
    tcase_add_loop_test (tcase, begins_with_16_kib, 0, 6);
    tcase_add_test (tcase, needed_by_actors);
    tcase_add_test (tcase, granted);
    tcase_add_test (tcase, granted_before);
    tcase_add_test (tcase, begins_anew);
    tcase_add_test (tcase, granted_when_forgotten);
    tcase_add_test (tcase, nobody_overtakes);
    tcase_add_test (tcase, no_obstacle);
    tcase_add_test (tcase, stands_at_the_peer);
    tcase_add_test (tcase, from_credit_to_peer);
    tcase_add_loop_test (tcase, gives_up, 0, 2);
    tcase_add_test (tcase, refused_and_not_kept);
    tcase_add_test (tcase, all_or_none);
    tcase_add_test (tcase, holds_up_nobody);
    tcase_add_test (tcase, in_order_of_arrival);
    tcase_add_test (tcase, credit_then_room);
    tcase_add_loop_test (tcase, skips_the_down, 0, 2);
    tcase_add_test (tcase, forgotten);
    tcase_add_test (tcase, all_forgotten);
    tcase_add_loop_test (tcase, forgotten_for_all, 0, 2);
    tcase_add_test (tcase, removal);
    tcase_add_test (tcase, interrupted);
    tcase_add_test (tcase, interrupted_before);
    tcase_add_test (tcase, interrupted_in_front);
    tcase_add_test (tcase, closing);
    tcase_add_test (tcase, posted);
    tcase_add_test (tcase, not_posted);
    tcase_add_test (tcase, no_memory_to_post);
    tcase_add_loop_test (tcase, no_memory, 0, 4);
    tcase_add_loop_test (tcase, no_memory_in_line, 0, 2);
    tcase_add_loop_test (tcase, as_the_model, 0, 6);
    tcase_add_test (tcase, threads);
    suite_add_tcase (suite, tcase);
    return suite;
}
