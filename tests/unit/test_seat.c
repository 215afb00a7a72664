/*
 * test_seat.c - waiting for what does not come through the inbox: at a gate, or
 * leading as a guest. The test stands in for the router: a turn of its leader
 * sleeps on an eventfd, the wire, and brings what came there. No thread of the
 * router's own stands by: where nobody leads and somebody should, the test hangs
 * and says so.
 */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "src/inbox.h"
#include "src/mem.h"
#include "tests/support/leaks.h"
#include "tests/support/scale.h"
#include "tests/support/thread.h"

Suite *ctki_suite_seat (void);

enum { PEER = 7, GUESTS = 4, TOKENS = 2, HANDOVERS = 100000 };

static ctki_sock_t *hearer;
static ctki_bell_t bell;
static ctki_inbox_t inbox;
static ctki_peer_t *peer;
static ctki_flow_t *flow;
static atomic_bool over; /* all who sit are to leave */

/* ---- who waits */

typedef struct {
    ctki_test_thread_t thread;
    ctki_seat_t seat;
    atomic_uint mail; /* what it waits for */
    atomic_uint due;  /* comes on the wire */
    bool lead;
    int64_t deadline_us;
    int rc;
} guest_t;

static guest_t guests[GUESTS];

static bool has_mail (void *arg)
{
    guest_t *guest = arg;
    return atomic_load (&guest->mail) > 0 || atomic_load (&over);
}

static void give_mail (guest_t *guest, unsigned count)
{
    atomic_fetch_add (&guest->mail, count);
    ctki_seat_wake (&inbox, &guest->seat);
}

/* ---- the router */

static struct {
    atomic_bool led;
    atomic_uint begun, ended;
    atomic_bool own;     /* its own thread goes on alone: nobody may lead */
    atomic_bool busy;    /* the next turn is the last one of its leader */
    atomic_uint letters; /* come on the wire, for the inbox */
    ctki_inlet_t *at_end; /* comes just when a leader ends */
    int wire;
} router;

/* One envelope, with memory of its own. */
static ctki_inlet_t *letter (int64_t number)
{
    ctalk_envelope_t envelope = {.msg_id = number};
    ctki_buf_t *buf = ctki_buf_new (0);
    ctki_inlet_t *inlet = ctki_alloc_zero (sizeof *inlet);
    *inlet = (ctki_inlet_t){.flow = flow, .buf = buf, .at = buf->data, .count = 1, .frames = 1, .one = true,
                            .record = ctki_record_of (&envelope, false)};
    return inlet;
}

static void put (int64_t number)
{
    ctki_inbox_put (&inbox, letter (number), UINT64_MAX, UINT64_MAX);
}

static bool begin (void *self)
{
    (void) self;
    if (atomic_load (&router.own))
        return false;
    CTKI_ASSERT (!atomic_exchange (&router.led, true)); /* under the inbox's lock, one at a time */
    atomic_fetch_add (&router.begun, 1);
    return true;
}

static void make_round (void)
{
    uint64_t count;
    if (read (router.wire, &count, sizeof count) < 0)
        return;
    for (unsigned letters = atomic_exchange (&router.letters, 0); letters > 0; letters--)
        put (1);
    for (int i = 0; i < GUESTS; i++) {
        unsigned due = atomic_exchange (&guests[i].due, 0);
        if (due > 0)
            give_mail (&guests[i], due);
    }
}

/* As the router's lead (): a sleep if there is nothing to do, and a round. */
static int turn (void *self, int64_t deadline_us, const sigset_t *signals, bool *busy)
{
    struct pollfd items[2] = {{.fd = inbox.lead_fd, .events = POLLIN}, {.fd = router.wire, .events = POLLIN}};
    (void) self;
    if (!ctki_inbox_doze (&inbox))
        return 0;
    int64_t left_us = CTKI_MAX (deadline_us - ctki_now_us (), 0);
    struct timespec left = {.tv_sec = left_us / CTKI_S, .tv_nsec = left_us % CTKI_S * 1000};
    int rc = ppoll (items, 2, deadline_us == CTKI_FOREVER ? NULL : &left, signals) < 0 ? errno : 0;
    ctki_inbox_awake (&inbox);
    make_round ();
    *busy = atomic_exchange (&router.busy, false);
    if (*busy)
        atomic_store (&router.own, true);
    return rc == 0 && deadline_us != CTKI_FOREVER && ctki_now_us () >= deadline_us ? EAGAIN : rc;
}

/* What comes just now is put as ctki_inbox_put () would, but that it has woken nobody yet. */
static void end (void *self, bool busy)
{
    (void) self;
    (void) busy;
    if (router.at_end) {
        flow->refs++;
        inbox.head = inbox.tail = router.at_end;
        router.at_end = NULL;
    }
    atomic_fetch_add (&router.ended, 1);
    CTKI_ASSERT (atomic_exchange (&router.led, false));
}

static void send_on_wire (void)
{
    uint64_t one = 1;
    CTKI_ASSERT (write (router.wire, &one, sizeof one) == sizeof one);
}

static void mail_on_wire (guest_t *guest)
{
    atomic_fetch_add (&guest->due, 1);
    send_on_wire ();
}

static void letter_on_wire (void)
{
    atomic_fetch_add (&router.letters, 1);
    send_on_wire ();
}

/* ---- the kit */

static void set_up (bool leaders)
{
    static const ctki_lead_ops_t ops = {.begin = begin, .turn = turn, .end = end};
    ctki_sock_t *ends[2];
    ck_assert_int_eq (ctki_context_ref (1, NULL), 0);
    ck_assert_int_eq (ctki_sock_pair (ends), 0);
    hearer = ends[0];
    ctki_bell_init (&bell, ends[1]);
    ctki_inbox_init (&inbox, &bell);
    peer = ctki_peer_new (PEER, NULL, 0);
    flow = ctki_flow_new (peer, false);
    memset (&router, 0, sizeof router);
    memset (guests, 0, sizeof guests);
    atomic_store (&over, false);
    router.wire = eventfd (0, EFD_NONBLOCK | EFD_CLOEXEC);
    ck_assert_int_ge (router.wire, 0);
    if (leaders)
        ck_assert_int_eq (ctki_inbox_accept_leaders (&inbox, &ops, NULL), 0);
}

static void tear_down (void)
{
    ck_assert (!inbox.led && !inbox.seats && !inbox.guest_has);
    ck_assert_uint_eq (atomic_load (&inbox.gate.waiters), 0);
    ck_assert_uint_eq (atomic_load (&router.begun), atomic_load (&router.ended));
    for (int i = 0; i < GUESTS; i++)
        ck_assert (atomic_load (&guests[i].seat.gate.waiters) == 0 && !atomic_load (&guests[i].seat.leads));
    ctki_flow_release (&inbox, flow);
    ctki_inbox_fini (&inbox);
    ck_assert_uint_eq (atomic_load (&peer->refs), 1);
    ctki_peer_release (peer);
    ctki_bell_fini (&bell);
    ctki_sock_close (&hearer);
    ck_assert_int_eq (close (router.wire), 0);
    ctki_context_unref ();
}

static bool sit (void *arg, ctki_trouble_t *trouble)
{
    guest_t *guest = arg;
    (void) trouble;
    guest->rc = ctki_seat_wait (&inbox, &guest->seat, guest->lead, has_mail, guest, guest->deadline_us);
    return true;
}

/* Starts one that waits, and waits until it does. */
static void start_until (int i, bool lead, int64_t deadline_us)
{
    guests[i].lead = lead;
    guests[i].deadline_us = deadline_us;
    ctki_test_thread_start (&guests[i].thread, sit, &guests[i]);
    if (deadline_us == CTKI_FOREVER)
        ctki_test_thread_await_blocked (&guests[i].thread);
}

static void start (int i, bool lead)
{
    start_until (i, lead, CTKI_FOREVER);
}

static int result (int i)
{
    ctki_test_thread_join (&guests[i].thread);
    return guests[i].rc;
}

static bool leads (const guest_t *guest)
{
    return atomic_load (&guest->seat.leads);
}

static bool sleeps_leading (void *arg)
{
    return leads (arg) && atomic_load (&inbox.dozing);
}

static void await_leading (int i)
{
    ck_assert_msg (ctki_test_until (sleeps_leading, &guests[i], ctki_test_long_ms ()), "guest %d does not lead", i);
}

static bool is_listed (void *arg)
{
    const guest_t *guest = arg;
    ctki_lock_take (&inbox.lock);
    bool listed = guest->seat.listed;
    ctki_lock_release (&inbox.lock);
    return listed;
}

static bool is_first (const guest_t *guest)
{
    ctki_lock_take (&inbox.lock);
    bool first = inbox.seats == &guest->seat;
    ctki_lock_release (&inbox.lock);
    return first;
}

/* A receive on a thread of its own. */
typedef struct {
    ctki_test_thread_t thread;
    int result, code;
    int64_t msg_id;
} receive_t;

static bool receive (void *arg, ctki_trouble_t *trouble)
{
    receive_t *got = arg;
    ctalk_envelope_t envelope;
    uint64_t charge = 0;
    (void) trouble;
    got->result = ctki_inbox_take (&inbox, &envelope, 1, -1, &charge);
    got->code = errno;
    if (got->result == 1) {
        got->msg_id = envelope.msg_id;
        ctki_buf_release (envelope.lease, 1);
    }
    return true;
}

static void start_receive (receive_t *got)
{
    *got = (receive_t){.result = 0};
    ctki_test_thread_start (&got->thread, receive, got);
    ctki_test_thread_await_blocked (&got->thread);
}

static void expect_letter (receive_t *got, int64_t number)
{
    ctki_test_thread_join (&got->thread);
    ck_assert_int_eq (got->result, 1);
    ck_assert_int_eq (got->msg_id, number);
}

static bool someone_leads (void *arg)
{
    (void) arg;
    return atomic_load (&inbox.dozing);
}

/* A receiver leads now; no guest does. */
static void await_receiver_leading (void)
{
    ck_assert_msg (ctki_test_until (someone_leads, NULL, ctki_test_long_ms ()), "nobody leads");
    for (int i = 0; i < GUESTS; i++)
        ck_assert (!leads (&guests[i]));
}

/* ---- one who waits */

/* What is there already is not waited for, nor does one lead for it; what is not there at the deadline is EAGAIN, and
 * not before, also for one who leads and for one who waits while another one does. */
START_TEST (deadline)
{
    set_up (_i > 0);
    atomic_store (&guests[0].mail, 1);
    ck_assert_int_eq (ctki_seat_wait (&inbox, &guests[0].seat, true, has_mail, &guests[0], 0), 0);
    ck_assert_int_eq (ctki_seat_wait (&inbox, &guests[0].seat, true, has_mail, &guests[0], CTKI_FOREVER), 0);
    ck_assert_uint_eq (atomic_load (&router.begun), 0);
    if (_i == 2) {
        start (2, true);
        await_leading (2);
    }
    for (int lead = 0; lead < 2; lead++) {
        ck_assert_int_eq (ctki_seat_wait (&inbox, &guests[1].seat, lead, has_mail, &guests[1], 0), EAGAIN);
        int64_t end_us = ctki_deadline_us (20);
        ck_assert_int_eq (ctki_seat_wait (&inbox, &guests[1].seat, lead, has_mail, &guests[1], end_us), EAGAIN);
        ck_assert_int_ge (ctki_now_us (), end_us);
        ck_assert (!guests[1].seat.listed && !leads (&guests[1]));
    }
    ck_assert_uint_eq (atomic_load (&router.begun), _i == 0 ? 0 : _i == 1 ? 2 : 1);
    if (_i == 2) {
        give_mail (&guests[2], 1);
        ck_assert_int_eq (result (2), 0);
    }
    tear_down ();
}
END_TEST

/* Where nobody leads at all, or what is awaited comes from inside, one waits at the gate, and a wake ends it; a wake
 * for nothing does not. */
START_TEST (at_the_gate)
{
    set_up (_i);
    start (0, !_i);
    ck_assert_uint_eq (atomic_load (&guests[0].seat.gate.waiters), 1);
    ck_assert (!inbox.led && !inbox.seats);
    ctki_seat_wake (&inbox, &guests[0].seat);
    ctki_test_thread_await_blocked (&guests[0].thread);
    give_mail (&guests[0], 1);
    ck_assert_int_eq (result (0), 0);
    ck_assert_uint_eq (atomic_load (&router.begun), 0);
    tear_down ();
}
END_TEST

/* While nobody receives a guest leads: it brings itself what comes on the wire, and leaves with it; a wake from
 * another thread ends its sleep as well; one for nothing, or one that is meant for receivers, does not. */
START_TEST (guest_leads)
{
    ctalk_envelope_t envelope;
    uint64_t charge = 0;
    set_up (true);
    start (0, true);
    await_leading (0);
    send_on_wire (); /* nothing of his */
    ctki_seat_wake (&inbox, &guests[0].seat);
    ctki_inbox_wake (&inbox);
    ctki_test_thread_await_blocked (&guests[0].thread);
    await_leading (0);
    if (_i)
        mail_on_wire (&guests[0]);
    else
        give_mail (&guests[0], 1);
    ck_assert_int_eq (result (0), 0);
    ck_assert (!inbox.led);
    ck_assert_uint_eq (atomic_load (&router.begun), 1);
    ck_assert_int_eq (ctki_inbox_take (&inbox, &envelope, 1, -1, &charge), -1);
    ck_assert_int_eq (errno, EINTR); /* the wake was kept */
    tear_down ();
}
END_TEST

static void do_nothing (int number)
{
    (void) number;
}

/* A signal handler ends the waiting with EINTR, of one who leads and of one at the gate; nobody leads then that does
 * not wait, and nobody is listed. */
START_TEST (interrupted)
{
    struct sigaction action = {.sa_handler = do_nothing, .sa_flags = SA_RESTART}, before;
    ck_assert_int_eq (sigaction (SIGUSR1, &action, &before), 0);
    set_up (true);
    start (0, true);
    await_leading (0);
    start (1, true);
    ck_assert (is_listed (&guests[1]));
    ctki_test_thread_pester (&guests[1].thread, SIGUSR1);
    ck_assert_int_eq (result (1), EINTR);
    ck_assert_ptr_null (inbox.seats);
    ctki_test_thread_pester (&guests[0].thread, SIGUSR1);
    ck_assert_int_eq (result (0), EINTR);
    ck_assert (!inbox.led);
    tear_down ();
    ck_assert_int_eq (sigaction (SIGUSR1, &before, NULL), 0);
}
END_TEST

/* When the server closes, who waits for what will not come says so himself: he is woken, wherever he waits. */
START_TEST (closing)
{
    set_up (true);
    start (0, true);
    await_leading (0);
    start (1, true);
    start (2, false);
    atomic_store (&over, true);
    ctki_inbox_close (&inbox);
    for (int i = 0; i < 3; i++)
        ctki_seat_wake (&inbox, &guests[i].seat);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq (result (i), 0);
    tear_down ();
}
END_TEST

/* A guest under whom much moves leads no more, and goes on waiting at the gate; nobody is asked to lead for him. */
START_TEST (much_to_do)
{
    set_up (true);
    start (0, true);
    await_leading (0);
    start (1, true);
    atomic_store (&router.busy, true);
    send_on_wire ();
    ck_assert (ctki_test_until (is_listed, &guests[0], ctki_test_long_ms ()));
    ctki_test_thread_await_blocked (&guests[0].thread);
    ck_assert (!atomic_load (&router.led) && !leads (&guests[0]) && !leads (&guests[1]));
    ck_assert (is_listed (&guests[1]));
    for (int i = 0; i < 2; i++)
        give_mail (&guests[i], 1);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq (result (i), 0);
    ck_assert_uint_eq (atomic_load (&router.begun), 1);
    tear_down ();
}
END_TEST

/* ---- beside receivers */

/* What comes into the inbox while a guest leads, brought by himself or put by another thread, wakes a receiver at the
 * gate; the guest goes on. */
START_TEST (receiver_beside_a_guest)
{
    receive_t got;
    set_up (true);
    start (0, true);
    await_leading (0);
    for (int round = 0; round < 3; round++) {
        start_receive (&got);
        ck_assert_uint_eq (atomic_load (&inbox.gate.waiters), 1);
        if (_i)
            letter_on_wire ();
        else
            put (1);
        expect_letter (&got, 1);
    }
    start_receive (&got);
    ctki_inbox_wake (&inbox);
    ctki_test_thread_join (&got.thread);
    ck_assert (got.result == -1 && got.code == EINTR);
    await_leading (0);
    ck_assert_uint_eq (atomic_load (&router.begun), 1);
    give_mail (&guests[0], 1);
    ck_assert_int_eq (result (0), 0);
    tear_down ();
}
END_TEST

static bool is_readable (void *arg)
{
    struct pollfd item = {.fd = *(int *) arg, .events = POLLIN};
    return poll (&item, 1, 0) == 1;
}

/* The same makes the descriptor readable, for one who does not wait in a receive. */
START_TEST (descriptor_beside_a_guest)
{
    ctalk_envelope_t envelope;
    uint64_t charge = 0;
    set_up (true);
    int fd = ctki_inbox_fd (&inbox);
    start (0, true);
    await_leading (0);
    for (int round = 0; round < 3; round++) {
        ck_assert (!is_readable (&fd));
        if (_i)
            letter_on_wire ();
        else
            put (1);
        ck_assert (ctki_test_until (is_readable, &fd, ctki_test_long_ms ()));
        ck_assert_int_eq (ctki_inbox_take (&inbox, &envelope, 1, 0, &charge), 1);
        ctki_buf_release (envelope.lease, 1);
    }
    await_leading (0);
    give_mail (&guests[0], 1);
    ck_assert_int_eq (result (0), 0);
    tear_down ();
}
END_TEST

/* ---- passing the lead on */

/* A guest that leaves, with what he waited for, at his deadline or by a signal, leaves the lead to a receiver who
 * waits; that one, when it leaves, to another guest. */
START_TEST (to_a_receiver)
{
    struct sigaction action = {.sa_handler = do_nothing, .sa_flags = SA_RESTART}, before;
    receive_t got;
    ck_assert_int_eq (sigaction (SIGUSR1, &action, &before), 0);
    set_up (true);
    start (0, true);
    await_leading (0);
    start (1, true);
    start_receive (&got);
    if (_i)
        ctki_test_thread_pester (&guests[0].thread, SIGUSR1);
    else
        mail_on_wire (&guests[0]);
    ck_assert_int_eq (result (0), _i ? EINTR : 0);
    await_receiver_leading ();
    letter_on_wire ();
    expect_letter (&got, 1);
    await_leading (1);
    mail_on_wire (&guests[1]);
    ck_assert_int_eq (result (1), 0);
    ck_assert_uint_eq (atomic_load (&router.begun), 3);
    tear_down ();
    ck_assert_int_eq (sigaction (SIGUSR1, &before, NULL), 0);
}
END_TEST

/* Else to another one who sits, one after the other; each brings itself what comes for it, and for others. */
START_TEST (to_a_seat)
{
    set_up (true);
    for (int i = 0; i < GUESTS; i++)
        start (i, true);
    for (int left = GUESTS; left > 0; left--) {
        int leader = 0;
        ck_assert (ctki_test_until (someone_leads, NULL, ctki_test_long_ms ()));
        while (leader < GUESTS && !leads (&guests[leader]))
            leader++;
        ck_assert_int_lt (leader, GUESTS);
        mail_on_wire (&guests[leader]);
        ck_assert_int_eq (result (leader), 0);
    }
    ck_assert_uint_eq (atomic_load (&router.begun), GUESTS);
    tear_down ();
}
END_TEST

/* The lead is not lost with one whom it is left to while he leaves himself: he who has got his mail by then, or a
 * receiver for whom something lies in the inbox, leaves it to the next one. */
START_TEST (to_one_who_leaves)
{
    receive_t got;
    set_up (true);
    start (0, true);
    await_leading (0);
    start (1, true);
    if (_i) {
        start_receive (&got);
        router.at_end = letter (5);
    } else {
        start (2, true);
        ck_assert (is_first (&guests[2]));     /* the next one, ... */
        atomic_store (&guests[2].mail, 1); /* ... whom nobody has told yet */
    }
    mail_on_wire (&guests[0]);
    ck_assert_int_eq (result (0), 0);
    if (_i)
        expect_letter (&got, 5);
    else
        ck_assert_int_eq (result (2), 0);
    await_leading (1);
    mail_on_wire (&guests[1]);
    ck_assert_int_eq (result (1), 0);
    tear_down ();
}
END_TEST

/* ---- many threads */

static atomic_size_t handed;
static size_t handovers;

static void end_all (void)
{
    atomic_store (&over, true);
    ctki_inbox_close (&inbox);
    for (int i = 0; i < GUESTS; i++)
        ctki_seat_wake (&inbox, &guests[i].seat);
}

/* Hands a token over to another one, directly or by the wire. */
static void hand_over (const guest_t *from, unsigned *seed)
{
    int to = (int) (from - guests) + 1 + rand_r (seed) % (GUESTS - 1);
    guest_t *guest = &guests[to % GUESTS];
    if (guest->lead && rand_r (seed) % 2)
        mail_on_wire (guest);
    else
        give_mail (guest, 1);
    if (rand_r (seed) % 32 == 0)
        put (1);
    else if (guest->lead && rand_r (seed) % 32 == 0)
        letter_on_wire ();
}

/* Waits for a token, and hands it over. */
static bool pass_tokens (void *arg, ctki_trouble_t *trouble)
{
    guest_t *guest = arg;
    unsigned seed = (unsigned) (guest - guests) + 1;
    for (;;) {
        int64_t deadline_us = ctki_deadline_us (ctki_test_long_ms ());
        int rc = ctki_seat_wait (&inbox, &guest->seat, guest->lead, has_mail, guest, deadline_us);
        if (atomic_load (&over))
            return true;
        if (rc) {
            bool led = atomic_load (&router.led);
            end_all ();
            return ctki_trouble_note (trouble, __FILE__, __LINE__, "a wake is lost after %zu: %s, %s",
                                      atomic_load (&handed), strerror (rc), led ? "one leads" : "nobody leads");
        }
        atomic_fetch_sub (&guest->mail, 1);
        if (atomic_fetch_add (&handed, 1) + 1 >= handovers)
            end_all ();
        else
            hand_over (guest, &seed);
    }
}

/* Receives, waiting not at all, for a moment, or as long as it takes; is away for a moment. */
static bool receive_now_and_then (void *arg, ctki_trouble_t *trouble)
{
    unsigned seed = 99;
    ctalk_envelope_t envelope;
    uint64_t charge = 0;
    (void) arg;
    for (;;) {
        int draw = rand_r (&seed) % 8;
        int timeout_ms = draw < 3 ? draw : draw < 4 ? -1 : 1;
        if (ctki_inbox_take (&inbox, &envelope, 1, timeout_ms, &charge) > 0)
            ctki_buf_release (envelope.lease, 1);
        else if (errno == ESHUTDOWN)
            return true;
        else
            CTKI_EXPECT_EQUAL (trouble, errno, EAGAIN);
        if (draw == 7)
            (void) poll (NULL, 0, 1);
    }
}

/* Threads hand tokens over to each other, woken directly, or by whoever leads, while others receive: no wake is lost
 * between the look and the wait, and the lead never with one who leaves. Also where nobody leads. */
START_TEST (handed_over)
{
    ctki_test_thread_t receivers[2];
    handovers = ctki_test_count (HANDOVERS);
    set_up (_i);
    atomic_store (&handed, 0);
    for (int i = 0; i < GUESTS; i++) {
        guests[i].lead = _i;
        atomic_store (&guests[i].mail, i < TOKENS);
    }
    for (int i = 0; i < GUESTS; i++)
        ctki_test_thread_start (&guests[i].thread, pass_tokens, &guests[i]);
    for (int i = 0; i < 2; i++)
        ctki_test_thread_start (&receivers[i], receive_now_and_then, NULL);
    for (int i = 0; i < GUESTS; i++)
        ctki_test_thread_join_within (&guests[i].thread, 6 * ctki_test_long_ms ());
    for (int i = 0; i < 2; i++)
        ctki_test_thread_join (&receivers[i]);
    ck_assert_uint_ge (atomic_load (&handed), handovers);
    ctki_test_figure ("handed_over", "%zu times, %u led", atomic_load (&handed), atomic_load (&router.begun));
    tear_down ();
}
END_TEST

Suite *ctki_suite_seat (void)
{
    Suite *suite = suite_create ("seat");
    TCase *tcase = ctki_leaks_tcase ("seat", 150);
    tcase_add_loop_test (tcase, deadline, 0, 3);
    tcase_add_loop_test (tcase, at_the_gate, 0, 2);
    tcase_add_loop_test (tcase, guest_leads, 0, 2);
    tcase_add_test (tcase, interrupted);
    tcase_add_test (tcase, closing);
    tcase_add_test (tcase, much_to_do);
    tcase_add_loop_test (tcase, receiver_beside_a_guest, 0, 2);
    tcase_add_loop_test (tcase, descriptor_beside_a_guest, 0, 2);
    tcase_add_loop_test (tcase, to_a_receiver, 0, 2);
    tcase_add_test (tcase, to_a_seat);
    tcase_add_loop_test (tcase, to_one_who_leaves, 0, 2);
    tcase_add_loop_test (tcase, handed_over, 0, 2);
    suite_add_tcase (suite, tcase);
    return suite;
}
