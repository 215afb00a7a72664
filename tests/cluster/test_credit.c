/*
 * test_credit.c - actors that do not receive, and senders on other servers: how
 * much goes to such an actor, that nobody else is held up, and that all goes on
 * when it receives again.
 */
#include <stdatomic.h>
#include <stdio.h>

#include "src/mem.h"
#include "tests/cluster/suites.h"
#include "tests/support/puppet.h"
#include "tests/support/support.h"

enum { FIRST_CREDIT = 16384, BOUND = 65536, PAYLOAD = 1000, CHARGE = PAYLOAD + 64, NO_SUCH = 12345, STUCK = 100 };

static ctki_cluster_t cluster;
static ctki_puppet_t sender, receiver, other;

static void finish (void)
{
    ctki_puppets_end ();
    ctki_cluster_close (&cluster);
}

#define SMALL_MAILBOX "MailboxBytes", ctki_test_number_text (BOUND)

/* sender on server 1, receiver and other on server 2. */
static void open_two (const char *const *options)
{
    ctki_cluster_open_up (&cluster, 2, options);
    ctki_puppet_start (&sender, cluster.server[1], NULL);
    ctki_puppet_start (&receiver, cluster.server[2], "receiver");
    ctki_puppet_start (&other, cluster.server[2], NULL);
}

static ctalk_envelope_t envelope_to (const ctki_puppet_t *to, int64_t msg_id)
{
    static const char data[PAYLOAD];
    return (ctalk_envelope_t){.pid = to->pid, .to = to->id, .msg_id = msg_id, .data = data, .size = PAYLOAD};
}

/* Sends to an actor from a server until there is no credit; returns how many were accepted. */
static int64_t fill (ctalk_server_t *server, const ctki_puppet_t *to, int64_t first)
{
    return ctki_puppet_fill (server, to, first, PAYLOAD);
}

static void flush (ctalk_pid_t from, ctalk_pid_t to)
{
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[from], to, ctki_test_long_ms ()));
}

/* The same from sender's server, and until no more credit comes: what an envelope of other's overtakes not is known
 * when that has come, several times for nothing. */
static int64_t fill_up (const ctki_puppet_t *to, int64_t first)
{
    int64_t count = 0;
    for (int idle = 0; idle < 3; idle++) {
        int64_t more = fill (sender.server, to, first + count);
        count += more;
        idle = more ? -1 : idle;
        flush (sender.pid, to->pid);
        ctki_puppet_tell (&other, &sender, 0, "what came before is known");
        ctki_puppet_expect (&sender, other.pid, other.id, 0, "what came before is known");
    }
    return count;
}

static int64_t room (int64_t bytes)
{
    return (bytes + CHARGE - 1) / CHARGE;
}

/* Takes the envelopes of these numbers. */
static void take (ctki_puppet_t *puppet, int64_t first, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        ctalk_envelope_t got;
        ctki_puppet_take (puppet, &got);
        ck_assert_int_eq (got.msg_id, first + i);
        ctalk_envelope_close (&got);
    }
}

/* The receiver's credit has begun anew: at least the first of it, no more than its mailbox. It is taken. */
static void expect_credit_anew (void)
{
    int64_t count = fill_up (&receiver, 0);
    ck_assert_int_ge (count, room (FIRST_CREDIT));
    ck_assert_int_le (count, room (BOUND));
    take (&receiver, 0, count);
}

/* The end of a test in which a server went away. */
static void finish_on_ports (ctki_ports_t *ports)
{
    ctki_puppets_end ();
    (void) ctki_cluster_close_abandoning (&cluster, ctki_test_long_ms ());
    ctki_ports_release (ports);
}

/* An actor on another server gets 16 KiB before it has received anything; then sends of actors and of servers are
 * EAGAIN after their timeout. Its server's inbox, other actors there and the way back are not concerned. */
START_TEST (first_credit)
{
    open_two (NULL);
    int64_t count = fill (cluster.server[1], &receiver, 0);
    ck_assert_int_eq (count, room (FIRST_CREDIT));
    ctalk_envelope_t envelope = envelope_to (&receiver, 99);
    CTKI_FAILS (EAGAIN, ctki_puppet_send (&sender, &envelope, 0));
    int64_t start_ms = ctki_test_now_ms ();
    CTKI_FAILS (EAGAIN, ctki_puppet_send (&sender, &envelope, 50));
    ck_assert_int_ge (ctki_test_now_ms () - start_ms, 49);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 2).refused_full, 3);
    ctki_puppet_tell (&sender, &other, 1, "not stuck");
    ctki_puppet_expect (&other, 1, sender.id, 1, "not stuck");
    ctki_puppet_tell (&receiver, &sender, 2, "back");
    ctki_puppet_expect (&sender, 2, receiver.id, 2, "back");
    ctki_traffic_exchange (&cluster, 20);
    ctki_puppet_tell (&other, &receiver, 3, "from here");
    take (&receiver, 0, count);
    ctki_puppet_expect (&receiver, 2, other.id, 3, "from here");
    ctki_puppet_expect_nothing (&receiver, 0);
    finish ();
}
END_TEST

static bool send_waiting (void *arg, ctki_trouble_t *trouble)
{
    ctalk_envelope_t envelope = envelope_to (arg, 777);
    CTKI_EXPECT_EQUAL (trouble, ctalk_send (cluster.server[1], &envelope, ctki_test_long_ms ()), 0);
    return true;
}

/* Those who wait for credit, an actor and a thread, are woken when the actor receives. */
START_TEST (waiting_senders_wake)
{
    ctki_test_thread_t thread;
    open_two (CTKI_OPTIONS (SMALL_MAILBOX));
    int64_t count = fill_up (&receiver, 0);
    ctalk_envelope_t envelope = envelope_to (&receiver, 777);
    ctki_puppet_begin_send (&sender, &envelope, ctki_test_long_ms ());
    ctki_test_thread_start (&thread, send_waiting, &receiver);
    ctki_puppet_await_blocked (&sender);
    ctki_test_thread_await_blocked (&thread);
    take (&receiver, 0, count);
    CTKI_SUCCEEDS ((int) ctki_puppet_finish (&sender));
    ctki_test_thread_join (&thread);
    take (&receiver, 777, 1);
    take (&receiver, 777, 1);
    ctki_puppet_expect_nothing (&receiver, 0);
    finish ();
}
END_TEST

/* An actor that receives what comes gets far more than its first credit, in order; when it stops receiving, what it has
 * not taken is bounded by its mailbox. */
START_TEST (credit_grows)
{
    int64_t count = (int64_t) ctki_test_count (3000);
    open_two (CTKI_OPTIONS ("MailboxBytes", ctki_test_number_text (BOUND)));
    for (int64_t i = 0; i < count; i++) {
        ctalk_envelope_t envelope = envelope_to (&receiver, i);
        CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &envelope, ctki_test_long_ms ()));
        if (i >= 10)
            take (&receiver, i - 10, 1);
    }
    take (&receiver, count - 10, 10);
    int64_t more = fill_up (&receiver, count);
    ck_assert_int_ge (more, room (FIRST_CREDIT / 2));
    ck_assert_int_le (more, room (BOUND));
    take (&receiver, count, more);
    finish ();
}
END_TEST

/* Who has sent all that it may, and of whom all has come, has credit on its way: one more, which waits for that. */
static void send_if_all_came (ctalk_pid_t from, int64_t *sent, int64_t taken)
{
    if (*sent > taken) return;
    ctalk_envelope_t envelope = envelope_to (&receiver, (*sent)++);
    CTKI_SUCCEEDS (ctalk_send (cluster.server[from], &envelope, ctki_test_long_ms ()));
}

/* The credit of several servers together is bounded by the mailbox, though each has 16 KiB. */
START_TEST (shared_credit)
{
    enum { SERVERS = 4 };
    int64_t sent[SERVERS + 1] = {0}, taken[SERVERS + 1] = {0}, sum = 0;
    ctki_cluster_open_up (&cluster, SERVERS, CTKI_OPTIONS ("MailboxBytes", ctki_test_number_text (BOUND)));
    ctki_puppet_start (&receiver, cluster.server[1], NULL);
    for (int round = 0; round < 20; round++)
        for (ctalk_pid_t pid = 2; pid <= SERVERS; pid++)
            sent[pid] += fill (cluster.server[pid], &receiver, sent[pid]);
    for (int64_t rounds = (int64_t) ctki_test_count (2000); rounds > 0; rounds--) {
        ctalk_envelope_t got;
        for (ctalk_pid_t pid = 2; pid <= SERVERS; pid++)
            send_if_all_came (pid, &sent[pid], taken[pid]);
        ctki_puppet_take (&receiver, &got);
        ck_assert_int_eq (got.msg_id, taken[got.pid]);
        taken[got.pid]++;
        ctalk_envelope_close (&got);
        for (ctalk_pid_t pid = 2; pid <= SERVERS; pid++)
            sent[pid] += fill (cluster.server[pid], &receiver, sent[pid]);
    }
    for (ctalk_pid_t pid = 2; pid <= SERVERS; pid++) {
        send_if_all_came (pid, &sent[pid], taken[pid]);
        sum += sent[pid] - taken[pid];
    }
    ck_assert_int_le (sum, room (BOUND) + SERVERS);
    for (; sum > 0; sum--) {
        ctalk_envelope_t got;
        ctki_puppet_take (&receiver, &got);
        ck_assert_int_eq (got.msg_id, taken[got.pid]++);
        ctalk_envelope_close (&got);
    }
    finish ();
}
END_TEST

static bool is_from (const ctalk_envelope_t *envelope, void *arg)
{
    return envelope->pid == *(const ctalk_pid_t *) arg;
}

/* Servers that come one after the other, and each is received from only at first: what all have credit for is the
 * mailbox and no more, but for the 16 KiB that each has to begin with. */
START_TEST (shared_in_turn)
{
    enum { SERVERS = 7, LARGE_BOUND = 1048576 };
    int64_t sum = 0;
    ctki_cluster_open_up (&cluster, SERVERS, CTKI_OPTIONS ("MailboxBytes", ctki_test_number_text (LARGE_BOUND)));
    ctki_puppet_start (&receiver, cluster.server[1], NULL);
    ctki_puppet_start (&other, cluster.server[1], NULL);
    for (ctalk_pid_t pid = 2; pid <= SERVERS; pid++) {
        ctki_puppet_start (&sender, cluster.server[pid], NULL);
        ctalk_envelope_t got;
        int64_t count = fill_up (&receiver, 0);
        for (int64_t i = 0; i < room (FIRST_CREDIT); i++) {
            CTKI_SUCCEEDS (ctki_puppet_recv_match (&receiver, is_from, &pid, &got, ctki_test_long_ms ()));
            ctalk_envelope_close (&got);
        }
        count += fill_up (&receiver, count);
        sum += count - room (FIRST_CREDIT);
        ctki_puppet_exit (&sender, 0);
        if (pid == 2)
            ck_assert_int_ge (sum, room (LARGE_BOUND / 4));
    }
    ck_assert_int_le (sum, room (LARGE_BOUND) + (SERVERS - 1) * room (FIRST_CREDIT));
    for (; sum > 0; sum--) {
        ctalk_envelope_t got;
        ctki_puppet_take (&receiver, &got);
        ctalk_envelope_close (&got);
    }
    finish ();
}
END_TEST

/* However small a mailbox is made, another server has 16 KiB; and a larger mailbox is more credit for who is received
 * from. */
START_TEST (set_mailbox)
{
    open_two (NULL);
    CTKI_SUCCEEDS (ctki_puppet_set_mailbox (&receiver, 1));
    int64_t count = fill (cluster.server[1], &receiver, 0);
    ck_assert_int_eq (count, room (FIRST_CREDIT));
    take (&receiver, 0, count);
    for (int64_t i = 0; i < 100; i++) {
        ctalk_envelope_t envelope = envelope_to (&receiver, count + i);
        CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &envelope, ctki_test_long_ms ()));
        take (&receiver, count + i, 1);
    }
    finish ();
}
END_TEST

/* A large envelope is taken while some credit is left, however little; then there is none. */
START_TEST (larger_than_the_credit)
{
    static char data[20 * FIRST_CREDIT];
    ctalk_envelope_t got;
    open_two (CTKI_OPTIONS (SMALL_MAILBOX));
    ctki_payload_fill (data, sizeof data, 1, 2, 3);
    ctalk_envelope_t envelope = {.pid = 2, .to = receiver.id, .msg_id = 3, .data = data, .size = sizeof data};
    for (int round = 0; round < 3; round++) {
        CTKI_SUCCEEDS (ctki_puppet_send (&sender, &envelope, ctki_test_long_ms ()));
        if (round == 0)
            CTKI_FAILS (EAGAIN, ctki_puppet_send (&sender, &envelope, 20));
        ctki_puppet_take (&receiver, &got);
        ck_assert (got.size == sizeof data && ctki_payload_ok (got.data, got.size, 1, 2, 3));
        ctalk_envelope_close (&got);
    }
    finish ();
}
END_TEST

/* A hundred actors of one server that do not receive, and one that does: it gets all of its envelopes, in order, while
 * the senders to each of the others get EAGAIN; each of these got 16 KiB at least, and its mailbox at most. */
START_TEST (one_works_among_the_stuck)
{
    static ctki_puppet_t stuck[STUCK];
    int64_t count = (int64_t) ctki_test_count (2000), each[STUCK];
    open_two (CTKI_OPTIONS (SMALL_MAILBOX));
    for (int i = 0; i < STUCK; i++)
        ctki_puppet_start (&stuck[i], cluster.server[2], NULL);
    for (int i = 0; i < STUCK; i++) {
        each[i] = fill_up (&stuck[i], 0);
        ck_assert (each[i] >= room (FIRST_CREDIT) && each[i] <= room (BOUND));
    }
    for (int64_t i = 0; i < count; i++) {
        ctalk_envelope_t envelope = envelope_to (&receiver, i), to_stuck = envelope_to (&stuck[i % STUCK], 99999);
        CTKI_FAILS (EAGAIN, ctki_puppet_send (&sender, &to_stuck, 0));
        CTKI_SUCCEEDS (ctki_puppet_send (&sender, &envelope, ctki_test_long_ms ()));
        if (i % 10 == 9)
            take (&receiver, i - 9, 10);
    }
    take (&receiver, count - count % 10, count % 10);
    for (int i = 0; i < STUCK; i++) {
        ck_assert_uint_eq (ctki_puppet_holds (&stuck[i]), (size_t) each[i]);
        if (i % 10 == 0)
            take (&stuck[i], 0, each[i]);
    }
    finish ();
}
END_TEST

/* The same when the senders to the stuck ones wait for ever: they hold up nobody, and each goes on when its actor
 * receives. */
START_TEST (waiting_for_the_stuck)
{
    enum { WAITING = 10 };
    ctki_puppet_t stuck[WAITING], waiting[WAITING];
    int64_t each[WAITING];
    open_two (CTKI_OPTIONS (SMALL_MAILBOX));
    for (int i = 0; i < WAITING; i++) {
        ctki_puppet_start (&stuck[i], cluster.server[2], NULL);
        ctki_puppet_start (&waiting[i], cluster.server[1], NULL);
        each[i] = fill_up (&stuck[i], 0);
        ctalk_envelope_t envelope = envelope_to (&stuck[i], each[i]);
        ctki_puppet_begin_send (&waiting[i], &envelope, -1);
        ctki_puppet_await_blocked (&waiting[i]);
    }
    for (int64_t i = 0; i < 200; i++) {
        ctalk_envelope_t envelope = envelope_to (&receiver, i);
        CTKI_SUCCEEDS (ctki_puppet_send (&sender, &envelope, ctki_test_long_ms ()));
        take (&receiver, i, 1);
    }
    for (int i = WAITING - 1; i >= 0; i--) {
        take (&stuck[i], 0, each[i]);
        CTKI_SUCCEEDS ((int) ctki_puppet_finish (&waiting[i]));
        take (&stuck[i], each[i], 1);
    }
    finish ();
}
END_TEST

/* Who waits for credit is freed when the actor ends: what it sent is accepted, and counted there as for nobody. */
START_TEST (end_frees_senders)
{
    open_two (CTKI_OPTIONS (SMALL_MAILBOX));
    (void) fill_up (&receiver, 0);
    ctalk_envelope_t envelope = envelope_to (&receiver, 1);
    ctki_puppet_begin_send (&sender, &envelope, ctki_test_long_ms ());
    ctki_puppet_await_blocked (&sender);
    ctki_puppet_exit (&receiver, 0);
    CTKI_SUCCEEDS ((int) ctki_puppet_finish (&sender));
    for (int i = 0; i < 100; i++)
        CTKI_SUCCEEDS (ctki_puppet_send (&sender, &envelope, ctki_test_long_ms ()));
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], 2, ctki_test_long_ms ()));
    ck_assert_uint_ge (ctki_cluster_stats (cluster.server[2], 1).no_such_actor, 101);
    ctki_puppet_tell (&other, &sender, 0, "that it is gone is known");
    ctki_puppet_expect (&sender, other.pid, other.id, 0, "that it is gone is known");
    ctki_puppet_start (&receiver, cluster.server[2], "receiver"); /* which has all its credit */
    int64_t count = fill (cluster.server[1], &receiver, 0);
    ck_assert_int_ge (count, room (FIRST_CREDIT) - 1);
    take (&receiver, 0, count);
    finish ();
}
END_TEST

/* What is sent to actors that do not exist uses up nobody's credit: any number is accepted, and each is counted. */
START_TEST (nobody_has_credit)
{
    size_t count = ctki_test_count (5000);
    open_two (NULL);
    ctalk_envelope_t envelope = envelope_to (&receiver, 1);
    for (size_t i = 0; i < count; i++) {
        envelope.to = i % 2 ? NO_SUCH : NO_SUCH + 1 + i;
        CTKI_SUCCEEDS (ctki_puppet_send (&sender, &envelope, ctki_test_long_ms ()));
    }
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], 2, ctki_test_long_ms ()));
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[2], 1).no_such_actor, count);
    ctki_puppet_tell (&sender, &receiver, 2, "there");
    ctki_puppet_expect (&receiver, 1, sender.id, 2, "there");
    finish ();
}
END_TEST

/* A broadcast to a name of whose actors one has no credit left goes to none; when that one receives it goes to all. */
START_TEST (broadcast_without_credit)
{
    ctki_puppet_t second;
    ctki_cluster_open_up (&cluster, 3, CTKI_OPTIONS (SMALL_MAILBOX));
    ctki_puppet_start (&sender, cluster.server[1], NULL);
    ctki_puppet_start (&receiver, cluster.server[2], "receiver");
    ctki_puppet_start (&second, cluster.server[3], "receiver");
    ctki_puppet_start (&other, cluster.server[2], NULL);
    int64_t count = fill_up (&receiver, 0);
    ctalk_envelope_t envelope = {.pid = CTALK_BROADCAST, .to = receiver.id, .msg_id = count, .data = "all", .size = 3};
    CTKI_FAILS (EAGAIN, ctki_puppet_send (&sender, &envelope, 20));
    ctki_puppet_expect_nothing (&second, 20);
    ctki_puppet_begin_send (&sender, &envelope, ctki_test_long_ms ());
    ctki_puppet_await_blocked (&sender);
    take (&receiver, 0, count);
    CTKI_SUCCEEDS ((int) ctki_puppet_finish (&sender));
    take (&receiver, count, 1);
    take (&second, count, 1);
    finish ();
}
END_TEST

/* Credit outlives a cut of the way between the servers: nothing of it is lost. */
START_TEST (over_a_cut)
{
    open_two (CTKI_OPTIONS ("DownMs", ctki_test_ms_text (60000)));
    int64_t number = 0;
    for (int round = 0; round < 5; round++) {
        int64_t count = fill (cluster.server[1], &receiver, number);
        ck_assert_int_ge (count, 1);
        CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, CTALK_IN | CTALK_OUT, true));
        ctalk_envelope_t envelope = envelope_to (&receiver, number + count);
        ctki_puppet_begin_send (&sender, &envelope, 2 * ctki_test_long_ms ());
        CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, CTALK_IN | CTALK_OUT, false));
        take (&receiver, number, count);
        CTKI_SUCCEEDS ((int) ctki_puppet_finish (&sender));
        take (&receiver, number + count, 1);
        number += count + 1;
    }
    finish ();
}
END_TEST

/* Two servers that can be started again. */
static void open_on_ports (ctki_ports_t *ports, const char *const *options)
{
    ctki_ports_take (ports, 2);
    memset (&cluster, 0, sizeof cluster);
    cluster.config = ctki_cluster_config (2, ports->port, options);
    cluster.count = 2;
    for (ctalk_pid_t pid = 1; pid <= 2; pid++)
        cluster.server[pid] = ctki_cluster_start (pid, cluster.config);
    ctki_cluster_wait_up (&cluster);
}

/* A peer that was restarted has new credit for its actors, and gives it; who waited for credit with the former one goes
 * on. */
START_TEST (over_a_restart)
{
    ctki_ports_t ports;
    open_on_ports (&ports, CTKI_OPTIONS (SMALL_MAILBOX));
    ctki_puppet_start (&sender, cluster.server[1], NULL);
    ctki_puppet_start (&receiver, cluster.server[2], "receiver");
    ctki_puppet_start (&other, cluster.server[2], NULL);
    (void) fill_up (&receiver, 0);
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], 2, ctki_test_long_ms ()));
    ctalk_envelope_t envelope = envelope_to (&receiver, 5000);
    ctki_puppet_begin_send (&sender, &envelope, 4 * ctki_test_long_ms ());
    ctki_puppet_await_blocked (&sender);
    ctki_puppet_exit (&other, 0);
    ctki_puppet_leave (&receiver, 0);
    (void) ctalk_server_close (&cluster.server[2], ctki_test_long_ms ());
    ctki_puppet_forget (&receiver);
    cluster.server[2] = ctki_cluster_start (2, cluster.config);
    ctki_puppet_start (&receiver, cluster.server[2], "receiver");
    CTKI_SUCCEEDS ((int) ctki_puppet_finish (&sender));
    CTKI_SUCCEEDS (ctalk_server_wait_up (cluster.server[1], 1, ctki_test_long_ms ()));
    ctalk_envelope_t last = envelope_to (&receiver, 6000), got = {0};
    CTKI_SUCCEEDS (ctki_puppet_send (&sender, &last, ctki_test_long_ms ()));
    do { /* what waited may have been accepted for the former one's end, or for the new one */
        ctalk_envelope_close (&got);
        ctki_puppet_take (&receiver, &got);
        ck_assert (got.msg_id == 5000 || got.msg_id == 6000);
    } while (got.msg_id != 6000);
    ctalk_envelope_close (&got);
    int64_t count = fill (cluster.server[1], &receiver, 0);
    ck_assert_int_ge (count, 1);
    take (&receiver, 0, count);
    finish_on_ports (&ports);
}
END_TEST

/* receiver is on server 1, sender on server 2; what receiver took of that is far more than its mailbox holds, and what
 * lies there is as much as that had credit for. Returns how many those are; *number counts what was sent. */
static int64_t send_far_more (int64_t *number)
{
    int64_t count = (int64_t) ctki_test_count (20000);
    ctki_puppet_start (&receiver, cluster.server[1], "receiver");
    ctki_puppet_start (&other, cluster.server[1], NULL);
    ctki_puppet_start (&sender, cluster.server[2], NULL);
    for (int64_t i = 0; i < count; i++) {
        ctalk_envelope_t envelope = envelope_to (&receiver, i);
        CTKI_SUCCEEDS (ctalk_send (cluster.server[2], &envelope, ctki_test_long_ms ()));
        if (i >= 10)
            take (&receiver, i - 10, 1);
    }
    take (&receiver, count - 10, 10);
    int64_t left = fill_up (&receiver, count);
    *number = count + left;
    return left;
}

/* Credit that was granted to a process that is dead is not its successor's: that has what the mailbox has room for. */
START_TEST (granted_to_the_dead)
{
    ctki_ports_t ports;
    int64_t number, left;
    open_on_ports (&ports, CTKI_OPTIONS (SMALL_MAILBOX, "DownMs", ctki_test_ms_text (60000)));
    left = send_far_more (&number);
    CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, CTALK_IN | CTALK_OUT, true));
    ctki_puppet_leave (&sender, 0);
    (void) ctalk_server_close (&cluster.server[2], 0);
    ctki_puppet_forget (&sender);
    take (&receiver, number - left, left); /* grants */
    cluster.server[2] = ctki_cluster_start (2, cluster.config);
    ctki_puppet_start (&sender, cluster.server[2], NULL);
    CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, CTALK_IN | CTALK_OUT, false));
    ctki_cluster_wait_up (&cluster);
    expect_credit_anew ();
    finish_on_ports (&ports);
}
END_TEST

/* The same when the sender's server removes the other one, which does not hear of it, and adds it again: what it had
 * sent before does not count any more, what it may send does not either. And the credit grows again. */
START_TEST (granted_before_a_removal)
{
    ctki_ports_t ports;
    int64_t number, left;
    open_on_ports (&ports, CTKI_OPTIONS (SMALL_MAILBOX, "DownMs", ctki_test_ms_text (60000)));
    left = send_far_more (&number);
    char endpoint[100];
    (void) snprintf (endpoint, sizeof endpoint, "%s", ctalk_server_endpoint (cluster.server[1]));
    CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, CTALK_IN | CTALK_OUT, true));
    CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[2], 1));
    take (&receiver, number - left, left);
    CTKI_SUCCEEDS (ctalk_server_add_peer (cluster.server[2], 1, endpoint));
    CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, CTALK_IN | CTALK_OUT, false));
    ctki_cluster_wait_up (&cluster);
    for (int round = 0; round < 3; round++)
        expect_credit_anew ();
    finish_on_ports (&ports);
}
END_TEST

/* What is lost on its way out, as there is no memory to share a broadcast, uses up nobody's credit: far more of it than
 * that is lost, and the next one goes. */
START_TEST (lost_without_memory)
{
    enum { LOST = 2 * BOUND / CHARGE };
    ctalk_envelope_t envelope = {.pid = CTALK_BROADCAST, .to = ctalk_actor_named ("sink"), .size = PAYLOAD};
    static const char data[PAYLOAD];
    ctki_cluster_open_up (&cluster, 3, CTKI_OPTIONS (SMALL_MAILBOX));
    for (ctalk_pid_t pid = 2; pid <= 3; pid++)
        ck_assert_uint_eq (ctalk_actor_spawn (cluster.server[pid], "sink", ctki_until_stopped, NULL), envelope.to);
    envelope.data = data;
    int64_t end_ms = ctki_test_now_ms () + 3 * ctki_test_long_ms ();
    for (long after = 0; ctki_cluster_stats (cluster.server[1], 2).abandoned < LOST; after = (after + 1) % 8) {
        ck_assert_int_lt (ctki_test_now_ms (), end_ms);
        (void) ctki_mem_fail (after, 1);
        int rc = ctalk_send (cluster.server[1], &envelope, 0);
        int error = rc ? errno : 0;
        (void) ctalk_server_flush (cluster.server[1], CTALK_BROADCAST, ctki_test_long_ms ());
        (void) ctki_mem_fail (-1, 0);
        CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], CTALK_BROADCAST, ctki_test_long_ms ()));
        if (error == EAGAIN) /* credit is on its way, or there is none any more */
            CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &envelope, ctki_test_long_ms ()));
        else
            ck_assert (rc == 0 || error == ENOMEM);
    }
    envelope.pid = 2;
    for (int i = 0; i < 2 * LOST; i++)
        CTKI_SUCCEEDS (ctalk_send (cluster.server[1], &envelope, ctki_test_long_ms ()));
    for (ctalk_pid_t pid = 2; pid <= 3; pid++)
        CTKI_SUCCEEDS (ctalk_actor_stop (cluster.server[pid], envelope.to, ctki_test_long_ms ()));
    ctki_cluster_close (&cluster);
}
END_TEST

/* The counters agree while actors are stuck, when they were told to end with unread envelopes, and afterwards. */
START_TEST (counters_agree)
{
    ctki_trouble_t trouble = {""};
    open_two (NULL);
    int64_t count = fill (cluster.server[1], &receiver, 0);
    count += fill (cluster.server[1], &other, 0);
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], 2, ctki_test_long_ms ()));
    ck_assert_msg (ctki_cluster_conserved (cluster.server[2], &trouble), "%s", trouble.text);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 2).delivered, (uint64_t) count);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[2], 1).received, (uint64_t) count);
    take (&receiver, 0, 3);
    ck_assert_msg (ctki_cluster_conserved (cluster.server[2], &trouble), "%s", trouble.text);
    ctki_puppet_exit (&receiver, 0);
    ck_assert_msg (ctki_cluster_conserved (cluster.server[2], &trouble), "%s", trouble.text);
    finish ();
}
END_TEST

Suite *ctki_suite_credit (void)
{
    Suite *suite = suite_create ("credit");
    TCase *tcase = ctki_leaks_tcase ("credit", 90);
    tcase_add_test (tcase, first_credit);
    tcase_add_test (tcase, waiting_senders_wake);
    tcase_add_test (tcase, credit_grows);
    tcase_add_test (tcase, shared_credit);
    tcase_add_test (tcase, shared_in_turn);
    tcase_add_test (tcase, set_mailbox);
    tcase_add_test (tcase, larger_than_the_credit);
    tcase_add_test (tcase, one_works_among_the_stuck);
    tcase_add_test (tcase, waiting_for_the_stuck);
    tcase_add_test (tcase, end_frees_senders);
    tcase_add_test (tcase, nobody_has_credit);
    tcase_add_test (tcase, broadcast_without_credit);
    tcase_add_test (tcase, over_a_cut);
    tcase_add_test (tcase, over_a_restart);
    tcase_add_test (tcase, granted_to_the_dead);
    tcase_add_test (tcase, granted_before_a_removal);
    tcase_add_test (tcase, lost_without_memory);
    tcase_add_test (tcase, counters_agree);
    suite_add_tcase (suite, tcase);
    return suite;
}
