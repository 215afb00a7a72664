/*
 * test_outbox.c - admission and the line. The test stands in for the router:
 * it takes what was sent from the mailbox and settles it.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>

#include "src/mem.h"
#include "src/outbox.h"
#include "tests/support/leaks.h"
#include "tests/support/payload.h"
#include "tests/support/scale.h"
#include "tests/support/thread.h"

Suite *ctki_suite_outbox (void);

enum {
    SELF = 0,
    PEERS = 3, /* 1, 2, 3 */
    RUN_LIMIT = 8192,
    QUEUE_BYTES = 1000,
    MESSAGE_BYTES = 100000,
    LOG_MOST = 100000,
    SENDERS = 4,
    SENDS = 5000
};

static ctki_sock_t *hearer;
static ctki_bell_t bell;
static ctki_pool_t *pool;
static ctki_inbox_t inbox;
static ctki_outbox_t outbox;

/* What the router saw, per peer and in order. */
static struct {
    size_t count;
    int64_t number[LOG_MOST];
    uint64_t charge[LOG_MOST];
} seen[PEERS + 1];

static const char *no_endpoint (void *arg, size_t number)
{
    (void) arg;
    (void) number;
    return NULL;
}

static void set_up_with (size_t run_limit)
{
    ctki_sock_t *ends[2];
    ck_assert_int_eq (ctki_context_ref (1, NULL), 0);
    ck_assert_int_eq (ctki_sock_pair (ends), 0);
    hearer = ends[0];
    ctki_bell_init (&bell, ends[1]);
    ctki_inbox_init (&inbox, &bell);
    pool = ctki_pool_new (ctki_writer_block_bytes (run_limit), 4);
    ctki_outbox_init (&outbox, pool, run_limit, &bell, &inbox);
    ctki_route_init (&outbox.route, no_endpoint, NULL);
    for (ctalk_pid_t pid = 1; pid <= PEERS; pid++)
        ck_assert_int_eq (ctki_route_list (&outbox.route, pid, 0), 0);
    outbox.queue_bytes = QUEUE_BYTES;
    outbox.message_bytes = MESSAGE_BYTES;
    outbox.self = ctki_peer_new (SELF, NULL, 0);
    outbox.local = ctki_flow_new (outbox.self, true);
    for (int i = 0; i <= PEERS; i++)
        seen[i].count = 0;
}

static void set_up (void)
{
    set_up_with (RUN_LIMIT);
}

static ctki_peer_t *peer_of (ctalk_pid_t pid)
{
    ctki_outbox_lock (&outbox);
    ctki_peer_t *peer = pid == SELF ? outbox.self : ctki_route_find (&outbox.route, pid, 0);
    ctki_outbox_unlock (&outbox);
    return peer;
}

/* How many stand in line at a peer. */
static unsigned standing (ctalk_pid_t pid)
{
    const ctki_peer_t *peer = peer_of (pid);
    ctki_outbox_lock (&outbox);
    unsigned count = peer->standing;
    ctki_outbox_unlock (&outbox);
    return count;
}

static uint64_t queued (ctalk_pid_t pid)
{
    return ctki_peer_queued_bytes (peer_of (pid));
}

static void note (const ctki_peer_t *peer, const ctki_record_t *record, const void *data, bool many)
{
    ck_assert_int_eq ((record->flags & CTKI_R_BROADCAST) != 0, many);
    ck_assert (ctki_payload_ok (data, record->len, SELF, many ? CTALK_BROADCAST : peer->pid, record->msg_id));
    size_t at = seen[peer->pid].count++;
    ck_assert_uint_lt (at, LOG_MOST);
    seen[peer->pid].number[at] = record->msg_id;
    seen[peer->pid].charge[at] = record->len + CTKI_CHARGE_BYTES;
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

/* Takes all that was sent and notes it in seen; returns how many items there were. */
static int route (void)
{
    ctki_items_t items;
    int count = 0;
    ctki_outbox_take (&outbox, &items);
    for (ctki_item_t *item; (item = ctki_items_take (&items)); count++) {
        note_item (item);
        if (item->many)
            ctki_crowd_release (item->dest);
        ctki_item_release (item);
    }
    return count;
}

/* Checks the numbers that a peer was sent: a text of one digit each. */
static void check_seen (ctalk_pid_t pid, const char *numbers)
{
    char text[64] = "";
    route ();
    for (size_t i = 0; i < seen[pid].count; i++)
        text[i] = (char) ('0' + seen[pid].number[i]);
    text[seen[pid].count] = 0;
    ck_assert_msg (strcmp (text, numbers) == 0, "peer %d was sent \"%s\" instead of \"%s\"", (int) pid, text, numbers);
}

static void tear_down (void)
{
    route ();
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

static uint8_t *bytes_of (ctalk_pid_t pid, int64_t number, size_t size)
{
    static _Thread_local uint8_t bytes[MESSAGE_BYTES + 1];
    ctki_payload_fill (bytes, size, SELF, pid, number);
    return bytes;
}

/* Sends one envelope; 0, or an errno. */
static int send_one (ctalk_pid_t pid, int64_t number, size_t size, int timeout_ms)
{
    ctalk_envelope_t envelope = {.pid = pid, .msg_id = number, .size = size, .data = bytes_of (pid, number, size)};
    int rc = ctki_outbox_send (&outbox, &envelope, 1, NULL, timeout_ms);
    ck_assert (rc == 1 || rc == -1);
    return rc == 1 ? 0 : errno;
}

/* Fills up a queue, and empties it again. */
static void fill (ctalk_pid_t pid)
{
    atomic_fetch_add (&peer_of (pid)->admitted_bytes, QUEUE_BYTES);
}

static void make_room (ctalk_pid_t pid)
{
    ctki_outbox_settled (&outbox, peer_of (pid), QUEUE_BYTES);
}

/* A send on a thread of its own. */
typedef struct {
    ctki_test_thread_t thread;
    ctalk_pid_t pid;
    int64_t number;
    size_t size;
    int timeout_ms, rc;
} sender_t;

static bool run_sender (void *arg, ctki_trouble_t *trouble)
{
    sender_t *sender = arg;
    (void) trouble;
    sender->rc = send_one (sender->pid, sender->number, sender->size, sender->timeout_ms);
    return true;
}

/* Starts a send that has to wait, and waits until it does. */
static void start (sender_t *sender, ctalk_pid_t pid, int64_t number, size_t size, int timeout_ms)
{
    *sender = (sender_t){.pid = pid, .number = number, .size = size, .timeout_ms = timeout_ms};
    ctki_test_thread_start (&sender->thread, run_sender, sender);
    if (timeout_ms < 0)
        ctki_test_thread_await_blocked (&sender->thread);
}

static int result (sender_t *sender)
{
    ctki_test_thread_join (&sender->thread);
    return sender->rc;
}

/* ---- admission */

/* An envelope of any size is admitted while less than QueueBytes is queued; at that it is refused and counted. */
START_TEST (admission)
{
    set_up ();
    ck_assert_int_eq (send_one (1, 1, 436, 0), 0);
    ck_assert_int_eq (send_one (1, 2, 435, 0), 0);
    ck_assert_uint_eq (queued (1), 999);
    ck_assert_int_eq (send_one (1, 3, MESSAGE_BYTES, 0), 0);
    ck_assert_int_eq (send_one (1, 4, 1, 0), EAGAIN);
    ck_assert_int_eq (send_one (1, 4, CTKI_LARGE_BYTES, 0), EAGAIN);
    ck_assert_int_eq (send_one (1, 4, 1, 10), EAGAIN);
    ck_assert_uint_eq (ctki_counted (&peer_of (1)->refused_full), 3);
    ck_assert_int_eq (send_one (2, 5, 1, 0), 0);
    ctki_outbox_settled (&outbox, peer_of (1), 64 + MESSAGE_BYTES - 1);
    ck_assert_uint_eq (queued (1), 1000);
    ck_assert_int_eq (send_one (1, 6, 1, 0), EAGAIN);
    ctki_outbox_settled (&outbox, peer_of (1), 1);
    ck_assert_int_eq (send_one (1, 6, 1, 0), 0);
    ck_assert_uint_eq (ctki_counted (&peer_of (1)->accepted), 4);
    check_seen (1, "1236");
    check_seen (2, "5");
    tear_down ();
}
END_TEST

/* What cannot be sent is refused with its errno, counted there, and nothing is queued. */
START_TEST (refused)
{
    static const struct {
        ctalk_envelope_t envelope;
        int code;
    } cases[] = {
        {{.pid = -2}, EINVAL},
        {{.pid = 1, .size = 1}, EINVAL},
        {{.pid = 1, .kind = CTALK_PEER_UP}, EINVAL},
        {{.pid = 1, .flags = CTALK_WAS_BROADCAST}, EINVAL},
        {{.pid = 1, .reserved = 1}, EINVAL},
        {{.pid = 1, .size = MESSAGE_BYTES + 1, .data = ""}, EMSGSIZE},
        {{.pid = 9}, EHOSTUNREACH},
        {{.pid = 9, .size = CTKI_LARGE_BYTES, .data = ""}, EHOSTUNREACH},
        {{.pid = 1, .flags = CTALK_IF_UP}, EHOSTDOWN},
        {{.pid = CTALK_BROADCAST, .flags = CTALK_IF_UP}, EHOSTDOWN},
    };
    set_up ();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        errno = 0;
        ck_assert_int_eq (ctki_outbox_send (&outbox, &cases[i].envelope, 1, NULL, -1), -1);
        ck_assert_msg (errno == cases[i].code, "case %zu: %s", i, strerror (errno));
    }
    ck_assert_uint_eq (ctki_counted (&outbox.refused_invalid), 5);
    ck_assert_uint_eq (ctki_counted (&outbox.refused_too_big), 1);
    ck_assert_uint_eq (ctki_counted (&outbox.refused_unreachable), 2);
    ck_assert_uint_eq (ctki_counted (&peer_of (1)->refused_not_up), 1);
    ck_assert_uint_eq (ctki_counted (&outbox.refused_not_up), 1);
    ck_assert_int_eq (route (), 0);
    ck_assert_uint_eq (queued (1), 0);
    tear_down ();
}
END_TEST

/* With "if up" an envelope goes to a peer that is up, and to all when all are. */
START_TEST (if_up)
{
    ctalk_envelope_t envelope = {.pid = CTALK_BROADCAST, .msg_id = 1, .flags = CTALK_IF_UP};
    set_up ();
    for (ctalk_pid_t pid = 1; pid <= PEERS; pid++) {
        ck_assert_int_eq (ctki_outbox_send (&outbox, &envelope, 1, NULL, 0), -1);
        atomic_store (&peer_of (pid)->state, CTALK_STATE_UP);
    }
    ck_assert_int_eq (ctki_outbox_send (&outbox, &envelope, 1, NULL, 0), 1);
    envelope.pid = 2;
    ck_assert_int_eq (ctki_outbox_send (&outbox, &envelope, 1, NULL, 0), 1);
    check_seen (2, "11");
    check_seen (3, "1");
    tear_down ();
}
END_TEST

/* Small and large ones, to one and to all, leave in the order in which they were accepted, their bytes as given. */
START_TEST (order)
{
    static const size_t sizes[] = {0, 10, CTKI_LARGE_BYTES, 7, CTKI_LARGE_BYTES - 1, 50000};
    set_up ();
    outbox.queue_bytes = 10000000;
    for (int64_t i = 1; i <= 60; i++)
        ck_assert_int_eq (send_one (i % 4 ? 1 : CTALK_BROADCAST, i, sizes[i % 6], 0), 0);
    ck_assert_int_lt (route (), 60);
    ck_assert_uint_eq (seen[1].count, 60);
    for (size_t i = 0; i < 60; i++)
        ck_assert_int_eq (seen[1].number[i], (int64_t) i + 1);
    for (size_t i = 0; i < 15; i++)
        ck_assert (seen[2].number[i] == 4 * (int64_t) (i + 1) && seen[3].number[i] == seen[2].number[i]);
    ck_assert_uint_eq (seen[3].count, 15);
    ck_assert_uint_eq (ctki_counted (&peer_of (1)->accepted), 60);
    ck_assert_uint_eq (ctki_counted (&peer_of (2)->accepted), 15);
    tear_down ();
}
END_TEST

/* The router is rung when it is parked, once, and not otherwise. */
START_TEST (rings)
{
    char byte;
    set_up ();
    ck_assert_int_eq (send_one (1, 1, 1, 0), 0);
    ck_assert_int_eq (ctki_pipe_receive (hearer, &byte, 1), -1);
    for (int large = 0; large < 2; large++) {
        route ();
        ck_assert (ctki_mailbox_park (&outbox.mailbox));
        ck_assert_int_eq (send_one (2 + large, 2, large ? CTKI_LARGE_BYTES : 1, 0), 0);
        ck_assert_int_eq (send_one (1, 3, 1, 0), 0);
        ck_assert_int_eq (ctki_pipe_receive (hearer, &byte, 1), 1);
        ck_assert_int_eq (ctki_pipe_receive (hearer, &byte, 1), -1);
        ctki_bell_heard (&bell);
    }
    ck_assert_uint_eq (ctki_counted (&outbox.rung), 2);
    tear_down ();
}
END_TEST

/* ---- several at once */

/* Several are accepted up to the first that is not; that many is returned, and an error only when it is none. */
START_TEST (many)
{
    ctalk_envelope_t envelopes[6] = {{.pid = 1}, {.pid = 2}, {.pid = CTALK_BROADCAST},
                                     {.pid = 1}, {.pid = 9}, {.pid = 2}};
    set_up ();
    for (int i = 0; i < 6; i++)
        envelopes[i].msg_id = i + 1;
    ck_assert_int_eq (ctki_outbox_send (&outbox, envelopes, 6, NULL, 0), 4);
    ck_assert_int_eq (ctki_outbox_send (&outbox, envelopes + 4, 2, NULL, 0), -1);
    ck_assert_int_eq (errno, EHOSTUNREACH);
    ck_assert_int_eq (ctki_outbox_send (&outbox, envelopes, 0, NULL, 0), 0);
    envelopes[4] = (ctalk_envelope_t){.pid = 1, .reserved = 1};
    ck_assert_int_eq (ctki_outbox_send (&outbox, envelopes + 3, 3, NULL, 0), 1);
    fill (2);
    ck_assert_int_eq (ctki_outbox_send (&outbox, envelopes, 4, NULL, 0), 1);
    check_seen (1, "13441");
    check_seen (2, "23");
    check_seen (3, "3");
    tear_down ();
}
END_TEST

/* Small and large ones mixed are all accepted, in order. */
START_TEST (many_mixed)
{
    static uint8_t bytes[9][6000];
    ctalk_envelope_t envelopes[9];
    set_up ();
    outbox.queue_bytes = 100000;
    for (int i = 0; i < 9; i++) {
        size_t size = i % 3 == 1 ? 6000 : 5;
        ctki_payload_fill (bytes[i], size, SELF, 1, i + 1);
        envelopes[i] = (ctalk_envelope_t){.pid = 1, .msg_id = i + 1, .data = bytes[i], .size = size};
    }
    ck_assert_int_eq (ctki_outbox_send (&outbox, envelopes, 9, NULL, -1), 9);
    check_seen (1, "123456789");
    tear_down ();
}
END_TEST

/* ---- the line */

/* Those who wait for one peer go in order of arrival, one for each room that is made; nobody overtakes. */
START_TEST (line)
{
    static sender_t senders[5];
    set_up ();
    fill (1);
    for (int i = 0; i < 5; i++) /* each fills the queue by itself, small and large ones */
        start (&senders[i], 1, i + 1, i % 2 ? 5000 : QUEUE_BYTES, -1);
    ck_assert_uint_eq (standing (1), 5);
    make_room (1);
    for (size_t i = 0; i < 5; i++) {
        ck_assert_int_eq (send_one (1, 9, 1, 0), EAGAIN);
        ck_assert_int_eq (result (&senders[i]), 0);
        route ();
        ck_assert_uint_eq (seen[1].count, i + 1);
        ctki_outbox_settled (&outbox, peer_of (1), (int64_t) seen[1].charge[i]);
    }
    check_seen (1, "12345");
    ck_assert_uint_eq (queued (1), 0);
    ck_assert_uint_eq (standing (1), 0);
    ck_assert_uint_eq (atomic_load (&outbox.waiting), 0);
    tear_down ();
}
END_TEST

/* Room for several at once lets several go, in order, whichever thread wakes first; those to other peers never wait. */
START_TEST (line_at_once)
{
    static sender_t senders[5];
    set_up ();
    fill (1);
    for (int i = 0; i < 5; i++)
        start (&senders[i], 1, i + 1, 10, -1);
    ck_assert_int_eq (send_one (2, 7, 10, 0), 0);
    make_room (1);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq (result (&senders[i]), 0);
    check_seen (1, "12345");
    check_seen (2, "7");
    tear_down ();
}
END_TEST

/* One whose time runs out leaves the line without a trace, and those behind it keep their place. */
START_TEST (line_timeout)
{
    sender_t first, second;
    set_up ();
    fill (1);
    start (&first, 1, 1, 10, 200);
    ctki_test_thread_await_blocked (&first.thread);
    start (&second, 1, 2, 10, -1);
    ck_assert_int_eq (result (&first), EAGAIN);
    ck_assert_uint_eq (standing (1), 1);
    make_room (1);
    ck_assert_int_eq (result (&second), 0);
    check_seen (1, "2");
    ck_assert_uint_eq (ctki_counted (&peer_of (1)->refused_full), 1);
    tear_down ();
}
END_TEST

static void do_nothing (int number)
{
    (void) number;
}

/* A signal handler ends the waiting with EINTR, of a send to one and of one to all; nothing was sent. */
START_TEST (line_interrupted)
{
    struct sigaction action = {.sa_handler = do_nothing, .sa_flags = SA_RESTART}, before;
    sender_t sender;
    ck_assert_int_eq (sigaction (SIGUSR1, &action, &before), 0);
    set_up ();
    fill (1);
    start (&sender, _i ? CTALK_BROADCAST : 1, 1, 10, -1);
    ctki_test_thread_pester (&sender.thread, SIGUSR1);
    ck_assert_int_eq (result (&sender), EINTR);
    ck_assert_uint_eq (ctki_counted (&outbox.refused_interrupted), 1);
    ck_assert_uint_eq (standing (1), 0);
    ck_assert_ptr_null (outbox.first);
    make_room (1);
    ck_assert_int_eq (route (), 0);
    ck_assert_uint_eq (queued (1) + queued (2), 0);
    tear_down ();
    ck_assert_int_eq (sigaction (SIGUSR1, &before, NULL), 0);
}
END_TEST

/* ---- broadcasts */

/* A broadcast for which one peer lacks room is queued nowhere; with room everywhere it is queued everywhere. */
START_TEST (all_or_none)
{
    for (ctalk_pid_t full = 1; full <= PEERS; full++) {
        set_up ();
        fill (full);
        ck_assert_int_eq (send_one (CTALK_BROADCAST, 1, 10, 0), EAGAIN);
        ck_assert_int_eq (send_one (CTALK_BROADCAST, 1, 5000, 0), EAGAIN);
        ck_assert_uint_eq (ctki_counted (&outbox.refused_full), 2);
        for (ctalk_pid_t pid = 1; pid <= PEERS; pid++)
            ck_assert_uint_eq (queued (pid), pid == full ? QUEUE_BYTES : 0);
        ck_assert_int_eq (route (), 0);
        make_room (full);
        ck_assert_int_eq (send_one (CTALK_BROADCAST, 2, 10, 0), 0);
        for (ctalk_pid_t pid = 1; pid <= PEERS; pid++) {
            ck_assert_uint_eq (queued (pid), 10 + CTKI_CHARGE_BYTES);
            check_seen (pid, "2");
        }
        tear_down ();
    }
}
END_TEST

/* A waiting broadcast stands only where it lacked room: sends to others pass, those to that peer go behind it. */
START_TEST (stands_where_it_lacks)
{
    sender_t all, behind;
    set_up ();
    fill (2);
    start (&all, CTALK_BROADCAST, 1, 10, -1);
    ck_assert_int_eq (send_one (1, 2, 10, 0), 0);
    ck_assert_int_eq (send_one (3, 2, 10, 0), 0);
    ck_assert_int_eq (send_one (2, 2, 10, 0), EAGAIN);
    start (&behind, 2, 3, 10, -1);
    make_room (2);
    ck_assert_int_eq (result (&all), 0);
    ck_assert_int_eq (result (&behind), 0);
    check_seen (1, "21");
    check_seen (2, "13");
    check_seen (3, "21");
    tear_down ();
}
END_TEST

/* When another queue is full at its next try, it stands there, and no longer where there is room now. */
START_TEST (stands_anew)
{
    sender_t all;
    set_up ();
    fill (2);
    start (&all, CTALK_BROADCAST, 1, 10, -1);
    fill (3);
    make_room (2);
    ck_assert_uint_eq (standing (2), 0);
    ck_assert_uint_eq (standing (3), 1);
    ck_assert_int_eq (send_one (2, 2, 10, 0), 0);
    ck_assert_int_eq (send_one (3, 3, 10, 0), EAGAIN);
    make_room (3);
    ck_assert_int_eq (result (&all), 0);
    check_seen (2, "21");
    check_seen (3, "1");
    tear_down ();
}
END_TEST

/* One who waited for a peer before the broadcast goes before it. */
START_TEST (behind_a_sender)
{
    sender_t before, all;
    set_up ();
    fill (2);
    start (&before, 2, 1, QUEUE_BYTES, -1);
    start (&all, CTALK_BROADCAST, 2, 10, -1);
    make_room (2);
    ck_assert_int_eq (result (&before), 0);
    ck_assert (!atomic_load (&all.thread.done));
    check_seen (2, "1");
    ctki_outbox_settled (&outbox, peer_of (2), QUEUE_BYTES + CTKI_CHARGE_BYTES);
    ck_assert_int_eq (result (&all), 0);
    check_seen (2, "12");
    tear_down ();
}
END_TEST

/* One broadcast stands at a time: the next ones go behind it, even if there was room for them, in order. */
START_TEST (one_at_a_time)
{
    static sender_t all[3];
    set_up ();
    fill (2);
    for (int i = 0; i < 3; i++)
        start (&all[i], CTALK_BROADCAST, i + 1, i == 1 ? 5000 : 10, -1);
    ck_assert_int_eq (send_one (CTALK_BROADCAST, 9, 10, 0), EAGAIN);
    ck_assert_uint_eq (standing (2), 1); /* the others wait, but stand nowhere */
    make_room (2);
    ck_assert_int_eq (result (&all[0]), 0);
    ck_assert_int_eq (result (&all[1]), 0);
    for (ctalk_pid_t pid = 1; pid <= PEERS; pid++) {
        check_seen (pid, "12");
        ctki_outbox_settled (&outbox, peer_of (pid), (int64_t) queued (pid));
    }
    ck_assert_int_eq (result (&all[2]), 0);
    check_seen (3, "123");
    tear_down ();
}
END_TEST

/* When the standing broadcast gives up, the next one and the senders behind it go. */
START_TEST (gives_up)
{
    sender_t all, next, behind;
    set_up ();
    fill (2);
    start (&all, CTALK_BROADCAST, 1, 10, 200);
    ctki_test_thread_await_blocked (&all.thread);
    start (&behind, 2, 2, 10, -1);
    start (&next, CTALK_BROADCAST, 3, 10, -1);
    ck_assert_int_eq (result (&all), EAGAIN);
    make_room (2);
    ck_assert_int_eq (result (&behind), 0);
    ck_assert_int_eq (result (&next), 0);
    check_seen (1, "3");
    check_seen (2, "23");
    tear_down ();
}
END_TEST

/* A down peer with a full queue is passed over and counted; one with room gets it. */
START_TEST (skips_the_down)
{
    set_up ();
    atomic_store (&peer_of (2)->state, _i ? CTALK_STATE_LEFT : CTALK_STATE_DOWN);
    ck_assert_int_eq (send_one (CTALK_BROADCAST, 1, 10, 0), 0);
    fill (2);
    ck_assert_int_eq (send_one (CTALK_BROADCAST, 2, 10, 0), 0);
    ck_assert_int_eq (send_one (CTALK_BROADCAST, 3, 5000, 0), 0);
    check_seen (1, "123");
    check_seen (2, "1");
    ck_assert_uint_eq (ctki_counted (&peer_of (2)->skipped), 2);
    ck_assert_uint_eq (ctki_counted (&peer_of (2)->accepted), 1);
    ck_assert_uint_eq (ctki_counted (&peer_of (1)->skipped), 0);
    tear_down ();
}
END_TEST

/* A peer that goes down while a broadcast waits for it lets the broadcast go. */
START_TEST (goes_down)
{
    sender_t all;
    set_up ();
    fill (2);
    start (&all, CTALK_BROADCAST, 1, 10, -1);
    atomic_store (&peer_of (2)->state, CTALK_STATE_DOWN);
    ctki_outbox_look_again (&outbox);
    ck_assert_int_eq (result (&all), 0);
    check_seen (1, "1");
    check_seen (2, "");
    ck_assert_uint_eq (ctki_counted (&peer_of (2)->skipped), 1);
    tear_down ();
}
END_TEST

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

/* With nobody there, or everybody down and full, a broadcast is accepted and goes to nobody. */
START_TEST (to_nobody)
{
    set_up ();
    for (ctalk_pid_t pid = 1; pid <= PEERS; pid++) {
        atomic_store (&peer_of (pid)->state, CTALK_STATE_DOWN);
        fill (pid);
    }
    for (int round = 0; round < 2; round++) {
        ck_assert_int_eq (send_one (CTALK_BROADCAST, 1, 10, 0), 0);
        ck_assert_int_eq (send_one (CTALK_BROADCAST, 1, 5000, 0), 0);
        ck_assert_int_eq (route (), 0);
        for (ctalk_pid_t pid = 1; pid <= PEERS && round == 0; pid++)
            drop (pid);
    }
    tear_down ();
}
END_TEST

/* ---- removal and closing */

/* Those who wait for a peer that is removed fail with EHOSTUNREACH; a broadcast that waited for it goes to the rest. */
START_TEST (removal)
{
    sender_t one, other, all;
    set_up ();
    fill (1);
    fill (2);
    start (&one, 2, 1, 10, -1);
    start (&all, CTALK_BROADCAST, 2, 10, -1);
    start (&other, 1, 3, 10, -1);
    drop (2);
    ck_assert_int_eq (result (&one), EHOSTUNREACH);
    ck_assert_int_eq (send_one (2, 4, 10, -1), EHOSTUNREACH);
    ck_assert_uint_eq (ctki_counted (&outbox.refused_unreachable), 2);
    make_room (1);
    ck_assert_int_eq (result (&all), 0);
    ck_assert_int_eq (result (&other), 0);
    check_seen (1, "23");
    check_seen (2, "");
    check_seen (3, "2");
    tear_down ();
}
END_TEST

/* Sends one that is refused though a run is open that it would fit into. */
static void refuse_one (ctalk_pid_t pid, uint32_t flags, int error)
{
    ctalk_envelope_t envelope = {.pid = pid, .msg_id = 9, .size = 10, .data = bytes_of (pid, 9, 10), .flags = flags};
    ck_assert_int_eq (ctki_outbox_send (&outbox, &envelope, 1, NULL, 0), -1);
    ck_assert_int_eq (errno, error);
}

/* With a run open for its peer, a send is refused for all the reasons for which it is without one. */
START_TEST (refused_beside_a_run)
{
    set_up ();
    ck_assert_int_eq (send_one (1, 1, 10, 0), 0);
    refuse_one (1, CTALK_IF_UP, EHOSTDOWN);
    refuse_one (1, 2 * CTALK_IF_UP, EINVAL);
    peer_of (1)->standing++; /* room was made, and who stands there has not been served yet */
    refuse_one (1, 0, EAGAIN);
    peer_of (1)->standing--;
    fill (1);
    refuse_one (1, 0, EAGAIN);
    make_room (1);
    ck_assert_int_eq (send_one (1, 2, 10, 0), 0);
    ctki_peer_t *peer = peer_of (1);
    ctki_peer_hold (peer); /* as the server does until the router has had all for it */
    drop (1);
    refuse_one (1, 0, EHOSTUNREACH);
    ck_assert_int_eq (send_one (2, 1, 10, 0), 0);
    ctki_outbox_close (&outbox);
    refuse_one (2, 0, ESHUTDOWN);
    check_seen (1, "12");
    check_seen (2, "1");
    ctki_peer_release (peer);
    tear_down ();
}
END_TEST

/* A run that is open for everybody takes nothing that is for one, whoever that is. */
START_TEST (beside_a_broadcast)
{
    set_up ();
    for (ctalk_pid_t pid = 1; pid <= PEERS; pid++) {
        ck_assert_int_eq (send_one (CTALK_BROADCAST, 8, 10, 0), 0);
        ck_assert_int_eq (send_one (pid, pid, 10, 0), 0);
    }
    check_seen (1, "8188");
    check_seen (2, "8828");
    check_seen (3, "8883");
    tear_down ();
}
END_TEST

/* What is addressed to an actor, or comes from one, says so also behind others in a run. */
START_TEST (actors_in_a_run)
{
    static const uint8_t data[8] = {0};
    ctki_items_t items;
    ctki_record_t record;
    set_up ();
    for (uint64_t i = 0; i < 4; i++) {
        ctalk_envelope_t envelope = {.pid = 1, .size = 8, .data = data, .to = i & 1 ? 70 : 0, .from = i & 2 ? 80 : 0};
        ck_assert_int_eq (ctki_outbox_send (&outbox, &envelope, 1, NULL, 0), 1);
    }
    ck_assert (ctki_outbox_take (&outbox, &items));
    ctki_item_t *item = ctki_items_take (&items);
    const uint8_t *at = item->data;
    for (uint64_t i = 0; i < 4; i++) {
        size_t head = ctki_record_get (at, (size_t) (item->data + item->size - at), &record);
        ck_assert_uint_gt (head, 0);
        at += head + 8;
        ck_assert (record.to == (i & 1 ? 70 : 0) && record.from == (i & 2 ? 80 : 0) && record.len == 8);
    }
    ck_assert_ptr_eq (at, item->data + item->size);
    ck_assert_ptr_null (items.head);
    ctki_item_release (item);
    tear_down ();
}
END_TEST

/* Closing ends all who wait with ESHUTDOWN, and refuses all who come later. */
START_TEST (closing)
{
    static sender_t senders[4];
    set_up ();
    fill (1);
    fill (SELF);
    for (int i = 0; i < 4; i++)
        start (&senders[i], i == 3 ? SELF : i == 2 ? CTALK_BROADCAST : 1, 1, i == 1 ? 5000 : 10, -1);
    ctki_outbox_close (&outbox);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq (result (&senders[i]), ESHUTDOWN);
    make_room (1);
    ck_assert_int_eq (send_one (1, 1, 10, -1), ESHUTDOWN);
    ck_assert_int_eq (send_one (CTALK_BROADCAST, 1, 5000, -1), ESHUTDOWN);
    ck_assert_int_eq (send_one (SELF, 1, 10, -1), ESHUTDOWN);
    ck_assert_uint_eq (ctki_counted (&outbox.refused_shutdown), 7);
    ck_assert_int_eq (route (), 0);
    tear_down ();
}
END_TEST

/* ---- to oneself */

/* Takes the next of its own envelopes and settles it; returns its number, or 0 when there is none. */
static int64_t take_own (void)
{
    ctalk_envelope_t envelope;
    uint64_t charge = 0;
    if (ctki_inbox_take (&inbox, &envelope, 1, 0, &charge) < 0)
        return 0;
    ck_assert (envelope.pid == SELF && (uintptr_t) envelope.data % 8 == 0 && !(envelope.flags & CTALK_WAS_BROADCAST));
    ck_assert (ctki_payload_ok (envelope.data, envelope.size, SELF, SELF, envelope.msg_id));
    ck_assert_uint_eq (charge, envelope.size + CTKI_CHARGE_BYTES);
    ctki_buf_release (envelope.lease, 1);
    ctki_outbox_settled (&outbox, outbox.self, (int64_t) charge);
    return envelope.msg_id;
}

/* What a server sends to itself lies in its inbox at once, in order, within QueueBytes until it is taken. */
START_TEST (local)
{
    sender_t waiting;
    set_up ();
    ck_assert_int_eq (send_one (SELF, 1, 100, 0), 0);
    ck_assert_int_eq (send_one (SELF, 2, 5000, 0), 0);
    ck_assert_int_eq (send_one (SELF, 3, 1, 0), EAGAIN);
    start (&waiting, SELF, 3, 0, -1);
    ck_assert_int_eq (take_own (), 1);
    ck_assert (!atomic_load (&waiting.thread.done));
    ck_assert_int_eq (take_own (), 2);
    ck_assert_int_eq (result (&waiting), 0);
    ck_assert_int_eq (take_own (), 3);
    ck_assert_int_eq (take_own (), 0);
    ck_assert_uint_eq (queued (SELF), 0);
    ck_assert_uint_eq (ctki_counted (&outbox.self->accepted), 3);
    ck_assert_uint_eq (ctki_counted (&outbox.self->delivered), 3);
    ck_assert_uint_eq (ctki_counted (&outbox.self->received), 3);
    ck_assert_uint_eq (ctki_counted (&outbox.self->consumed), 3);
    ck_assert_int_eq (send_one (CTALK_BROADCAST, 4, 1, 0), 0); /* not to oneself */
    ck_assert_int_eq (take_own (), 0);
    ck_assert_int_eq (route (), 1);
    tear_down ();
}
END_TEST

/* What a server sends to an actor of its own counts as addressed to nobody, and takes no room. */
START_TEST (local_actor)
{
    static uint8_t bytes[5000];
    ctalk_envelope_t envelopes[2] = {{.pid = SELF, .to = 5}, {.pid = SELF, .to = 5, .data = bytes, .size = 5000}};
    set_up ();
    ck_assert_int_eq (ctki_outbox_send (&outbox, envelopes, 2, NULL, 0), 2);
    ck_assert_int_eq (take_own (), 0);
    ck_assert_uint_eq (queued (SELF), 0);
    ck_assert_uint_eq (ctki_counted (&outbox.self->no_such_actor), 2);
    ck_assert_uint_eq (ctki_counted (&outbox.self->received), 2);
    tear_down ();
}
END_TEST

/* ---- owned payloads */

/* A body's reference is taken when its envelope was accepted, by whomever, and left alone when it was not. */
START_TEST (owned)
{
    ctki_buf_t *body = ctki_buf_new (5000);
    ctalk_envelope_t envelope = {.pid = 1, .msg_id = 1, .data = body->data, .size = 5000};
    set_up ();
    ctki_payload_fill (body->data, 5000, SELF, 1, 1);
    fill (1);
    ck_assert_int_eq (ctki_outbox_send (&outbox, &envelope, 1, body, 10), -1);
    envelope.pid = 9;
    ck_assert_int_eq (ctki_outbox_send (&outbox, &envelope, 1, body, 10), -1);
    ck_assert_uint_eq (atomic_load (&body->refs), 1);
    make_room (1);
    envelope.pid = 1;
    ctki_buf_hold (body, 1);
    ck_assert_int_eq (ctki_outbox_send (&outbox, &envelope, 1, body, 0), 1);
    ck_assert_uint_eq (atomic_load (&body->refs), 2);
    check_seen (1, "1");
    ck_assert_uint_eq (atomic_load (&body->refs), 1);
    envelope.pid = CTALK_BROADCAST;
    ctki_payload_fill (body->data, 5000, SELF, CTALK_BROADCAST, 1);
    ctki_outbox_settled (&outbox, peer_of (1), 5000 + CTKI_CHARGE_BYTES);
    ctki_buf_hold (body, 1);
    ck_assert_int_eq (ctki_outbox_send (&outbox, &envelope, 1, body, 0), 1);
    check_seen (1, "11");
    ck_assert_uint_eq (atomic_load (&body->refs), 1);
    for (ctalk_pid_t pid = 1; pid <= PEERS; pid++)
        drop (pid);
    ctki_buf_hold (body, 1);
    ck_assert_int_eq (ctki_outbox_send (&outbox, &envelope, 1, body, 0), 1); /* to nobody: done with it */
    ck_assert_uint_eq (atomic_load (&body->refs), 1);
    tear_down ();
    ctki_buf_release (body, 1);
}
END_TEST

/* The next item that was sent: how many envelopes it holds, and of what kind it is. */
static void expect_item (ctki_items_t *items, ctki_item_kind_t kind, uint32_t count)
{
    ctki_item_t *item = ctki_items_take (items);
    ck_assert_ptr_nonnull (item);
    ck_assert_int_eq (item->kind, kind);
    ck_assert_uint_eq (item->count, count);
    note_item (item);
    ctki_item_release (item);
}

/* What is copied goes into a batch up to three eighths of a frame, 24 KiB;
 * what is longer, or taken over, stands alone. */
START_TEST (batched_or_alone)
{
    static const struct {
        size_t run_limit, batched;
    } limits[] = {{RUN_LIMIT, 4095}, {32768, 12288}, {65536, 24576}};
    ctki_items_t items;
    size_t batched = limits[_i].batched;
    set_up_with (limits[_i].run_limit);
    outbox.queue_bytes = MESSAGE_BYTES;
    outbox.mailbox.writer.next_size = outbox.mailbox.writer.full; /* the first block, too */
    ctki_buf_t *body = ctki_buf_new (4096);
    ctki_payload_fill (body->data, 4096, SELF, 1, 5);
    ctalk_envelope_t taken_over = {.pid = 1, .msg_id = 5, .data = body->data, .size = 4096};
    ck_assert_int_eq (send_one (1, 1, batched / 2, 0), 0);
    ck_assert_int_eq (send_one (1, 2, batched, 0), 0);
    ck_assert_int_eq (send_one (1, 3, batched + 1, 0), 0);
    ck_assert_int_eq (send_one (1, 4, 1, 0), 0);
    ck_assert_int_eq (ctki_outbox_send (&outbox, &taken_over, 1, body, 0), 1);
    ck_assert (ctki_outbox_take (&outbox, &items));
    expect_item (&items, CTKI_RUN, 2);
    expect_item (&items, CTKI_LARGE, 1);
    expect_item (&items, CTKI_RUN, 1);
    expect_item (&items, CTKI_LARGE, 1);
    ck_assert_ptr_null (items.head);
    check_seen (1, "12345");
    tear_down ();
}
END_TEST

/* ---- no memory */

/* Sends of every kind; returns how many failed, each with ENOMEM and with nothing queued for it. */
static int send_each_kind (void)
{
    static const struct {
        ctalk_pid_t pid;
        size_t size;
    } kinds[] = {{1, 10}, {1, 5000}, {CTALK_BROADCAST, 10}, {CTALK_BROADCAST, 5000}, {SELF, 10}, {SELF, 5000}};
    int failures = 0;
    for (int i = 0; i < 6; i++) {
        uint64_t before[PEERS + 1] = {0};
        for (ctalk_pid_t pid = 0; pid <= PEERS; pid++) {
            const ctki_peer_t *peer = pid ? ctki_route_peek (&outbox.route, pid) : outbox.self;
            before[pid] = peer ? ctki_peer_queued_bytes (peer) : 0;
        }
        int rc = send_one (kinds[i].pid, i + 1, kinds[i].size, 0);
        ck_assert (rc == 0 || rc == ENOMEM);
        failures += rc != 0;
        for (ctalk_pid_t pid = 0; pid <= PEERS && rc; pid++) {
            const ctki_peer_t *peer = pid ? ctki_route_peek (&outbox.route, pid) : outbox.self;
            ck_assert_uint_eq (peer ? ctki_peer_queued_bytes (peer) : 0, before[pid]);
        }
    }
    return failures;
}

/* Whichever allocation fails, one send fails with ENOMEM, counted; what was accepted goes its way. */
START_TEST (no_memory)
{
    int failures = 1;
    for (long after = 0; failures > 0; after++) {
        ck_assert_int_lt (after, 200);
        set_up ();
        outbox.queue_bytes = 100000;
        ctki_mem_fail (after, 1);
        failures = send_each_kind ();
        ctki_mem_fail (-1, 0);
        ck_assert_int_le (failures, 1);
        ck_assert_uint_eq (ctki_counted (&outbox.refused_memory), (unsigned) failures);
        ck_assert_int_eq (send_each_kind (), 0);
        route ();
        ck_assert_uint_eq (seen[1].count, ctki_counted (&peer_of (1)->accepted));
        ck_assert_uint_eq (seen[3].count, ctki_counted (&peer_of (3)->accepted));
        size_t own = 0;
        while (take_own ())
            own++;
        ck_assert_uint_eq (own + seen[1].count, 12 - (size_t) failures);
        ck_assert_uint_eq (queued (SELF), 0);
        tear_down ();
    }
}
END_TEST

/* A send in line for which there is no memory when its turn comes fails; the one behind it goes. */
START_TEST (no_memory_in_line)
{
    sender_t first, second;
    set_up ();
    fill (1);
    start (&first, _i ? CTALK_BROADCAST : 1, 1, QUEUE_BYTES, -1);
    start (&second, 1, 2, 10, -1);
    ctki_mem_fail (0, 1);
    make_room (1);
    ck_assert_int_eq (result (&first), ENOMEM);
    ck_assert_int_eq (result (&second), 0);
    ctki_mem_fail (-1, 0);
    check_seen (1, "2");
    check_seen (3, "");
    ck_assert_uint_eq (queued (1), 10 + CTKI_CHARGE_BYTES);
    ck_assert_uint_eq (queued (3), 0);
    tear_down ();
}
END_TEST

/* ---- many threads */

static bool send_many (void *arg, ctki_trouble_t *trouble)
{
    int64_t thread = (int64_t) (intptr_t) arg, count = (int64_t) ctki_test_count (SENDS);
    for (int64_t i = 0; i < count; i++) {
        ctalk_pid_t pid = i % 10 == 0 ? CTALK_BROADCAST : (ctalk_pid_t) (1 + i % PEERS);
        CTKI_EXPECT_EQUAL (trouble, send_one (pid, thread << 32 | i, i % 100 == 50 ? 5000 : 20, -1), 0);
    }
    return true;
}

/* Settles what was seen since the last time, of all peers but one at a time, so that queues fill up. */
static void settle (size_t settled[PEERS + 1])
{
    for (ctalk_pid_t pid = 1; pid <= PEERS; pid++) {
        for (; settled[pid] < seen[pid].count; settled[pid]++)
            ctki_outbox_settled (&outbox, peer_of (pid), (int64_t) seen[pid].charge[settled[pid]]);
    }
}

/* Threads send to one and to all against full queues: all goes out, in each thread's order at each peer, none hangs. */
START_TEST (threads)
{
    ctki_test_thread_t senders[SENDERS];
    size_t settled[PEERS + 1] = {0}, done;
    int64_t end_ms = ctki_test_now_ms () + 3 * ctki_test_long_ms ();
    set_up ();
    for (intptr_t i = 0; i < SENDERS; i++)
        ctki_test_thread_start (&senders[i], send_many, (void *) i);
    do {
        done = 0;
        for (int i = 0; i < SENDERS; i++)
            done += atomic_load (&senders[i].done);
        if (route () == 0)
            sched_yield ();
        settle (settled);
        ck_assert_msg (ctki_test_now_ms () < end_ms, "a sender hangs");
    } while (done < SENDERS);
    for (int i = 0; i < SENDERS; i++)
        ctki_test_thread_join (&senders[i]);
    size_t total = 0;
    for (ctalk_pid_t pid = 1; pid <= PEERS; pid++) {
        int64_t last[SENDERS] = {0};
        total += seen[pid].count;
        for (size_t i = 0; i < seen[pid].count; i++) {
            int64_t thread = seen[pid].number[i] >> 32, number = (seen[pid].number[i] & UINT32_MAX) + 1;
            ck_assert_int_gt (number, last[thread]);
            last[thread] = number;
        }
        ck_assert_uint_eq (queued (pid), 0);
    }
    size_t sends = ctki_test_count (SENDS), broadcasts = (sends + 9) / 10;
    ck_assert_uint_eq (total, SENDERS * (sends - broadcasts + PEERS * broadcasts));
    tear_down ();
}
END_TEST

Suite *ctki_suite_outbox (void)
{
    Suite *suite = suite_create ("outbox");
    TCase *tcase = ctki_leaks_tcase ("outbox", 90);
    tcase_add_test (tcase, admission);
    tcase_add_test (tcase, refused);
    tcase_add_test (tcase, if_up);
    tcase_add_test (tcase, order);
    tcase_add_test (tcase, rings);
    tcase_add_test (tcase, many);
    tcase_add_test (tcase, many_mixed);
    tcase_add_test (tcase, line);
    tcase_add_test (tcase, line_at_once);
    tcase_add_test (tcase, line_timeout);
    tcase_add_loop_test (tcase, line_interrupted, 0, 2);
    tcase_add_test (tcase, all_or_none);
    tcase_add_test (tcase, stands_where_it_lacks);
    tcase_add_test (tcase, stands_anew);
    tcase_add_test (tcase, behind_a_sender);
    tcase_add_test (tcase, one_at_a_time);
    tcase_add_test (tcase, gives_up);
    tcase_add_loop_test (tcase, skips_the_down, 0, 2);
    tcase_add_test (tcase, goes_down);
    tcase_add_test (tcase, to_nobody);
    tcase_add_test (tcase, removal);
    tcase_add_test (tcase, refused_beside_a_run);
    tcase_add_test (tcase, beside_a_broadcast);
    tcase_add_test (tcase, actors_in_a_run);
    tcase_add_test (tcase, closing);
    tcase_add_test (tcase, local);
    tcase_add_test (tcase, local_actor);
    tcase_add_test (tcase, owned);
    tcase_add_loop_test (tcase, batched_or_alone, 0, 3);
    tcase_add_test (tcase, no_memory);
    tcase_add_loop_test (tcase, no_memory_in_line, 0, 2);
    tcase_add_test (tcase, threads);
    suite_add_tcase (suite, tcase);
    return suite;
}
