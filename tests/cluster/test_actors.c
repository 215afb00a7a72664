/*
 * test_actors.c - actors: spawning, names and ids, delivery on one server and
 * between servers, bounded mailboxes.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/sys.h"
#include "tests/cluster/suites.h"
#include "tests/support/puppet.h"
#include "tests/support/support.h"

enum { NAME_MAX_BYTES = 255, CHARGE = 64, BOUND = 65536, PAYLOAD = 1000, NO_SUCH = 12345 };

#define SMALL_MAILBOX "MailboxBytes", ctki_test_number_text (BOUND)

static ctki_cluster_t cluster;
static ctki_puppet_t a, b, c;

static void finish (void)
{
    ctki_puppets_end ();
    ctki_cluster_close (&cluster);
}

/* A call that returns an id returned 0 with this errno. */
#define EXPECT_NO_ID(expected, call)                                                                                   \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        uint64_t id_ = (call);                                                                                         \
        int got_ = errno;                                                                                              \
        ck_assert_msg (id_ == 0 && got_ == (expected), "%s: %s instead of %s", #call, id_ ? "an id" : strerror (got_), \
                       strerror (expected));                                                                           \
    } while (0)

static int at_once (ctalk_actor_t *self, void *arg)
{
    (void) self;
    (void) arg;
    return 0;
}

/* Receives until it is told to end, and then says so in its flag. */
static int until_stopped (ctalk_actor_t *self, void *flag)
{
    ctalk_envelope_t envelope;
    while (ctalk_actor_recv (self, &envelope, -1) == 0)
        ctalk_envelope_close (&envelope);
    if (flag)
        atomic_store ((atomic_bool *) flag, errno == ESHUTDOWN);
    return 0;
}

/* ---- spawning, names, ids */

/* No function, no server, a name that is empty or of 256 bytes: EINVAL; 255 bytes are a name. */
START_TEST (spawn_invalid)
{
    char name[NAME_MAX_BYTES + 2];
    memset (name, 'n', sizeof name);
    name[NAME_MAX_BYTES + 1] = 0;
    ctki_cluster_open (&cluster, 1, NULL);
    EXPECT_NO_ID (EINVAL, ctalk_actor_spawn (cluster.server[1], NULL, NULL, NULL));
    EXPECT_NO_ID (EINVAL, ctalk_actor_spawn (NULL, NULL, at_once, NULL));
    EXPECT_NO_ID (EINVAL, ctalk_actor_spawn (cluster.server[1], "", at_once, NULL));
    EXPECT_NO_ID (EINVAL, ctalk_actor_spawn (cluster.server[1], name, at_once, NULL));
    EXPECT_NO_ID (EINVAL, ctalk_actor_named (name));
    EXPECT_NO_ID (EINVAL, ctalk_actor_named (""));
    EXPECT_NO_ID (EINVAL, ctalk_actor_named (NULL));
    name[NAME_MAX_BYTES] = 0;
    ctki_puppet_start (&a, cluster.server[1], name);
    ck_assert_uint_eq (a.id, ctalk_actor_named (name));
    finish ();
}
END_TEST

static bool name_in_child (int fd, void *name, ctki_trouble_t *trouble)
{
    uint64_t id = ctalk_actor_named (name);
    CTKI_EXPECT (trouble, ctki_process_write (fd, &id, sizeof id));
    return true;
}

/* The id of a name is the same on every server and in every process, and another one for another name. */
START_TEST (named_everywhere)
{
    static char name[] = "a name";
    ctki_process_t process;
    uint64_t id = ctalk_actor_named (name), there = 0;
    ck_assert_uint_ne (id, 0);
    ck_assert_uint_eq (id, ctalk_actor_named (name));
    ck_assert_uint_ne (id, ctalk_actor_named ("a namf"));
    ck_assert_uint_ne (id, ctalk_actor_named ("a nam"));
    ctki_process_start (&process, name_in_child, name);
    ck_assert (ctki_process_read (process.fd, &there, sizeof there, ctki_test_long_ms ()));
    ctki_process_join (&process, ctki_test_long_ms ());
    ck_assert_uint_eq (there, id);
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctki_puppet_start (&a, cluster.server[1], name);
    ctki_puppet_start (&b, cluster.server[2], name);
    ck_assert_uint_eq (a.id, id);
    ck_assert_uint_eq (b.id, id);
    finish ();
}
END_TEST

/* A name is taken on its server as long as its actor runs, and has the same id again afterwards. */
START_TEST (name_taken)
{
    ctki_cluster_open (&cluster, 1, NULL);
    for (int round = 0; round < 3; round++) {
        ctki_puppet_start (&a, cluster.server[1], "taken");
        ck_assert_uint_eq (a.id, ctalk_actor_named ("taken"));
        EXPECT_NO_ID (EEXIST, ctalk_actor_spawn (cluster.server[1], "taken", at_once, NULL));
        ctki_puppet_exit (&a, round);
    }
    finish ();
}
END_TEST

typedef struct {
    uint64_t id;
    ctalk_server_t *server;
    sigset_t blocked;
} known_t;

static int64_t look_at_self (ctalk_actor_t *self, ctki_order_t *order)
{
    known_t *known = order->arg;
    known->id = ctalk_actor_id (self);
    known->server = ctalk_actor_server (self);
    return pthread_sigmask (SIG_BLOCK, NULL, &known->blocked);
}

/* An actor knows its id and its server; all signals are blocked in its thread; without self it is EINVAL. */
START_TEST (self_knows)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGUSR1, SIGCHLD, SIGPIPE, SIGALRM};
    known_t known;
    ctki_cluster_open (&cluster, 1, NULL);
    ctki_puppet_start (&a, cluster.server[1], NULL);
    ck_assert_int_eq (ctki_puppet_do (&a, &(ctki_order_t){.run = look_at_self, .arg = &known}), 0);
    ck_assert_uint_eq (known.id, a.id);
    ck_assert_ptr_eq (known.server, cluster.server[1]);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        ck_assert_int_eq (sigismember (&known.blocked, signals[i]), 1);
    EXPECT_NO_ID (EINVAL, ctalk_actor_id (NULL));
    errno = 0;
    ck_assert (ctalk_actor_server (NULL) == NULL && errno == EINVAL);
    finish ();
}
END_TEST

enum { STACK_USED = 400 * 1024 };

static int64_t use_stack (ctalk_actor_t *self, ctki_order_t *order)
{
    char stack[STACK_USED];
    (void) self;
    (void) order;
    ctki_payload_fill (stack, sizeof stack, 1, 1, 1);
    return ctki_payload_ok (stack, sizeof stack, 1, 1, 1) ? 0 : -1;
}

/* An actor may use 400 KiB of its stack of 512 KiB. */
START_TEST (stack)
{
    ctki_cluster_open (&cluster, 1, NULL);
    ctki_puppet_start (&a, cluster.server[1], NULL);
    CTKI_SUCCEEDS ((int) ctki_puppet_do (&a, &(ctki_order_t){.run = use_stack}));
    finish ();
}
END_TEST

static int compare_ids (const void *left, const void *right)
{
    const uint64_t *x = left, *y = right;
    return (*x > *y) - (*x < *y);
}

static bool none_runs (void *server)
{
    ctalk_stats_t stats;
    return ctalk_server_stats (server, ctalk_server_pid (server), &stats) == 0 && stats.actors == 0;
}

/* Ids of actors without a name are drawn once: no two are the same, after the server was started again neither. */
START_TEST (ids_never_again)
{
    enum { EACH = 300, SERVERS = 3 };
    static uint64_t ids[SERVERS * EACH];
    ctki_ports_t ports;
    ctki_ports_take (&ports, 1);
    ctalk_config_t *config = ctki_cluster_config (1, ports.port, NULL);
    for (size_t round = 0; round < SERVERS; round++) {
        ctalk_server_t *server = ctki_cluster_start (1, config);
        for (size_t i = 0; i < EACH; i++) {
            uint64_t id = ctalk_actor_spawn (server, NULL, at_once, NULL);
            ck_assert_msg (id != 0, "%s", strerror (errno));
            ids[round * EACH + i] = id;
        }
        ck_assert (ctki_test_until (none_runs, server, ctki_test_long_ms ()));
        ck_assert_int_eq (ctalk_server_close (&server, ctki_test_long_ms ()), 0);
    }
    qsort (ids, SERVERS * EACH, sizeof ids[0], compare_ids);
    for (size_t i = 1; i < SERVERS * EACH; i++)
        ck_assert_uint_ne (ids[i - 1], ids[i]);
    ctalk_config_destroy (&config);
    ctki_ports_release (&ports);
}
END_TEST

/* The actors that run are counted for the own pid and in the totals, and for no peer. */
START_TEST (counted)
{
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctki_puppet_start (&a, cluster.server[1], NULL);
    ctki_puppet_start (&b, cluster.server[1], "b");
    ctki_puppet_start (&c, cluster.server[2], "b");
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 1).actors, 2);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], CTALK_BROADCAST).actors, 2);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 2).actors, 0);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[2], 2).actors, 1);
    ctki_puppet_exit (&a, 0);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 1).actors, 1);
    finish ();
}
END_TEST

/* No thread can be started: EAGAIN, nothing is left of the name, and the next try works. */
START_TEST (spawn_without_threads)
{
    ctki_cluster_open (&cluster, 1, NULL);
    (void) ctki_thread_fail (0, -1);
    EXPECT_NO_ID (EAGAIN, ctalk_actor_spawn (cluster.server[1], "name", at_once, NULL));
    EXPECT_NO_ID (EAGAIN, ctalk_actor_spawn (cluster.server[1], NULL, at_once, NULL));
    (void) ctki_thread_fail (-1, 0);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 1).actors, 0);
    ctki_puppet_start (&a, cluster.server[1], "name");
    finish ();
}
END_TEST

/* Actors that come and go leave no thread behind while the server runs. */
START_TEST (threads_end)
{
    ctki_cluster_open (&cluster, 1, NULL);
    ctki_puppet_start (&a, cluster.server[1], NULL);
    static ctki_leaks_t before;
    char text[400];
    ctki_leaks_look (&before);
    for (size_t i = 0; i < ctki_test_count (300); i++)
        ck_assert (ctalk_actor_spawn (cluster.server[1], NULL, at_once, NULL) != 0 || errno == EAGAIN);
    ck_assert_msg (ctki_leaks_gone (&before, ctki_test_long_ms (), text, sizeof text), "left over: %s", text);
    finish ();
}
END_TEST

static int64_t spawn_another (ctalk_actor_t *self, ctki_order_t *order)
{
    return (int64_t) ctalk_actor_spawn (ctalk_actor_server (self), order->text, until_stopped, order->arg);
}

/* An actor spawns another one; arg is handed over. */
START_TEST (spawned_by_an_actor)
{
    static atomic_bool stopped;
    ctki_cluster_open (&cluster, 1, NULL);
    ctki_puppet_start (&a, cluster.server[1], NULL);
    ctki_order_t order = {.run = spawn_another, .text = "other", .arg = &stopped};
    ck_assert_uint_eq ((uint64_t) ctki_puppet_do (&a, &order), ctalk_actor_named ("other"));
    ctki_puppet_exit (&a, 0); /* which ends nobody else */
    ck_assert (!atomic_load (&stopped));
    CTKI_SUCCEEDS (ctalk_actor_stop (cluster.server[1], ctalk_actor_named ("other"), ctki_test_long_ms ()));
    ck_assert (atomic_load (&stopped));
    finish ();
}
END_TEST

/* ---- delivery */

static void open_two_puppets (bool remote, const char *const *options)
{
    ctki_cluster_open_up (&cluster, 2, options);
    ctki_puppet_start (&a, cluster.server[1], "a");
    ctki_puppet_start (&b, cluster.server[remote ? 2 : 1], NULL);
}

/* An envelope comes with its message id, its payload, and the pid and the id of its sender whatever stood in "from";
 * locally and remotely. */
START_TEST (as_sent)
{
    ctalk_envelope_t got;
    open_two_puppets (_i == 1, NULL);
    ctalk_envelope_t envelope = ctki_puppet_envelope (&b, -7, "payload");
    envelope.from = NO_SUCH;
    CTKI_SUCCEEDS (ctki_puppet_send (&a, &envelope, -1));
    ctki_puppet_take (&b, &got);
    ck_assert_int_eq (got.pid, 1);
    ck_assert_int_eq (got.kind, CTALK_MESSAGE);
    ck_assert_int_eq (got.msg_id, -7);
    ck_assert_uint_eq (got.size, 7);
    ck_assert_int_eq (memcmp (got.data, "payload", 7), 0);
    ck_assert_uint_eq ((uintptr_t) got.data % 8, 0);
    ck_assert_uint_eq (got.to, b.id);
    ck_assert_uint_eq (got.from, a.id);
    ck_assert_uint_eq (got.flags, 0);
    ck_assert_uint_eq (got.reserved, 0);
    ctalk_envelope_close (&got);
    ctki_puppet_tell (&b, &a, 8, "");
    ctki_puppet_expect (&a, b.pid, b.id, 8, "");
    finish ();
}
END_TEST

/* From an actor to the inbox of its own server and of another one, and from a server to an actor. */
START_TEST (servers_and_actors)
{
    ctalk_envelope_t got;
    open_two_puppets (true, NULL);
    for (ctalk_pid_t pid = 1; pid <= 2; pid++) {
        ctalk_envelope_t envelope = {.pid = pid, .msg_id = pid, .data = "in", .size = 2};
        CTKI_SUCCEEDS (ctki_puppet_send (&a, &envelope, -1));
        ctki_traffic_take (cluster.server[pid], &got);
        ck_assert (got.pid == 1 && got.from == a.id && got.to == 0 && got.msg_id == pid && got.size == 2);
        ctalk_envelope_close (&got);
        envelope = ctki_puppet_envelope (&b, pid, "from outside");
        CTKI_SUCCEEDS (ctalk_send (cluster.server[pid], &envelope, -1));
        ctki_puppet_expect (&b, pid, 0, pid, "from outside");
    }
    finish ();
}
END_TEST

/* An address that travels in a payload is used by a third one. */
START_TEST (address_in_a_payload)
{
    ctki_cluster_open_up (&cluster, 3, NULL);
    ctki_puppet_start (&a, cluster.server[1], NULL);
    ctki_puppet_start (&b, cluster.server[2], NULL);
    ctki_puppet_start (&c, cluster.server[3], NULL);
    ctalk_address_t address = {a.pid, a.id}, read;
    ctalk_envelope_t envelope = ctki_puppet_envelope (&b, 1, NULL), got;
    envelope.data = &address;
    envelope.size = sizeof address;
    CTKI_SUCCEEDS (ctki_puppet_send (&a, &envelope, -1));
    ctki_puppet_take (&b, &got);
    envelope = ctki_puppet_envelope (&c, 2, NULL);
    envelope.data = got.data;
    envelope.size = got.size;
    CTKI_SUCCEEDS (ctki_puppet_send (&b, &envelope, -1));
    ctalk_envelope_close (&got);
    ctki_puppet_take (&c, &got);
    ck_assert_uint_eq (got.size, sizeof read);
    memcpy (&read, got.data, sizeof read);
    ctalk_envelope_close (&got);
    envelope = (ctalk_envelope_t){.pid = read.pid, .to = read.actor, .msg_id = 3, .data = "found", .size = 5};
    CTKI_SUCCEEDS (ctki_puppet_send (&c, &envelope, -1));
    ctki_puppet_expect (&a, 3, c.id, 3, "found");
    finish ();
}
END_TEST

enum { STREAM = 3000, SIZES = 4, LARGE = 90000 };

static const size_t sizes[SIZES] = {40, 0, 900, 5000};

/* Sends a numbered stream to (pid, id), a large one now and then. */
static int64_t stream (ctalk_actor_t *self, ctki_order_t *order)
{
    static _Thread_local char buffer[LARGE];
    for (int64_t i = 0; i < (int64_t) order->size; i++) {
        size_t size = i % 997 == 500 ? LARGE : sizes[i % SIZES];
        ctki_payload_fill (buffer, size, ctalk_server_pid (ctalk_actor_server (self)), order->pid, i);
        ctalk_envelope_t envelope = {.pid = order->pid, .to = order->id, .msg_id = i, .data = buffer, .size = size};
        if (ctalk_actor_send (self, &envelope, order->ms))
            return i;
    }
    return (int64_t) order->size;
}

/* Receives count envelopes of each of two senders, each of whose numbers and bytes are right. */
static int64_t take_streams (ctalk_actor_t *self, ctki_order_t *order)
{
    int64_t next[2] = {0, 0};
    const ctki_puppet_t *const *from = order->arg;
    while (next[0] + next[1] < 2 * (int64_t) order->size) {
        ctalk_envelope_t got;
        if (ctalk_actor_recv (self, &got, order->ms))
            return -1;
        int which = got.from == from[1]->id;
        bool right = got.pid == from[which]->pid && got.from == from[which]->id && got.msg_id == next[which]
                     && ctki_payload_ok (got.data, got.size, got.pid, order->pid, got.msg_id);
        ctalk_envelope_close (&got);
        if (!right)
            return next[0] + next[1];
        next[which]++;
    }
    return 2 * (int64_t) order->size;
}

/* Streams of two actors to a third one arrive each in order, once and unchanged: of both on its own server, of both on
 * another one, of one on each. */
START_TEST (in_order_once)
{
    static const ctki_puppet_t *from[2] = {&a, &b};
    size_t count = ctki_test_count (STREAM);
    ctki_cluster_open_up (&cluster, 2, CTKI_OPTIONS (SMALL_MAILBOX));
    ctki_puppet_start (&a, cluster.server[_i == 0 ? 1 : 2], NULL);
    ctki_puppet_start (&b, cluster.server[_i == 1 ? 2 : 1], NULL);
    ctki_puppet_start (&c, cluster.server[1], NULL);
    ctki_order_t send = {.run = stream, .pid = c.pid, .id = c.id, .size = count, .ms = ctki_test_long_ms ()};
    ctki_order_t take = {.run = take_streams, .arg = from, .pid = c.pid, .size = count, .ms = ctki_test_long_ms ()};
    ctki_puppet_begin (&a, &send);
    ctki_puppet_begin (&b, &send);
    ck_assert_int_eq (ctki_puppet_do (&c, &take), 2 * (int64_t) count);
    ck_assert_int_eq (ctki_puppet_finish (&a), (int64_t) count);
    ck_assert_int_eq (ctki_puppet_finish (&b), (int64_t) count);
    ctki_puppet_expect_nothing (&c, 0);
    finish ();
}
END_TEST

/* A broadcast to an actor's id goes to the actor of that name on every other server, not to that on the own one; where
 * there is none it is counted. */
START_TEST (broadcast_to_a_name)
{
    ctki_puppet_t own, sender;
    ctki_cluster_open_up (&cluster, 4, NULL);
    ctki_puppet_start (&sender, cluster.server[1], NULL);
    ctki_puppet_start (&own, cluster.server[1], "name");
    ctki_puppet_start (&b, cluster.server[2], "name");
    ctki_puppet_start (&c, cluster.server[3], "name");
    ctalk_envelope_t envelope = {.pid = CTALK_BROADCAST, .to = own.id, .msg_id = 5, .data = "all", .size = 3}, got;
    CTKI_SUCCEEDS (ctki_puppet_send (&sender, &envelope, ctki_test_long_ms ()));
    for (int i = 0; i < 2; i++) {
        ctki_puppet_take (i ? &b : &c, &got);
        ck_assert (got.pid == 1 && got.from == sender.id && got.to == own.id && got.msg_id == 5 && got.size == 3);
        ck_assert_uint_eq (got.flags, CTALK_WAS_BROADCAST);
        ctalk_envelope_close (&got);
        ctki_puppet_expect_nothing (i ? &b : &c, 0);
    }
    CTKI_SUCCEEDS (ctalk_server_flush (cluster.server[1], CTALK_BROADCAST, ctki_test_long_ms ()));
    ctki_puppet_expect_nothing (&own, 0);
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[4], 1).no_such_actor, 1);
    finish ();
}
END_TEST

static bool one_counted (void *server)
{
    ctalk_stats_t stats;
    return ctalk_server_stats (server, 1, &stats) == 0 && stats.no_such_actor == 1;
}

/* To send to an actor that does not exist is no error; the envelope is counted where it arrives: on the own server, on
 * another one. */
START_TEST (to_nobody)
{
    ctki_cluster_open_up (&cluster, 2, NULL);
    ctki_puppet_start (&a, cluster.server[1], NULL);
    ctalk_envelope_t envelope = {.pid = _i + 1, .to = NO_SUCH, .data = "x", .size = 1};
    CTKI_SUCCEEDS (ctki_puppet_send (&a, &envelope, ctki_test_long_ms ()));
    ck_assert (ctki_test_until (one_counted, cluster.server[_i + 1], ctki_test_long_ms ()));
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[_i + 1], CTALK_BROADCAST).no_such_actor, 1);
    ctki_traffic_expect_nothing (cluster.server[_i + 1], 0);
    finish ();
}
END_TEST

/* The errors of ctalk_send () are those of an actor's send. */
START_TEST (send_errors)
{
    static char data[2000];
    ctki_cluster_open_absent (&cluster, 1, CTKI_OPTIONS ("MaxMessageBytes", "1000"));
    ctki_puppet_start (&a, cluster.server[1], NULL);
    ctki_puppet_start (&b, cluster.server[1], NULL);
    ctalk_envelope_t good = ctki_puppet_envelope (&b, 1, "x");
    const ctalk_envelope_t invalid[] = {{.pid = -2, .to = b.id},
                                        {.pid = 1, .to = b.id, .size = 1},
                                        {.pid = 1, .to = b.id, .kind = CTALK_TIMER},
                                        {.pid = 1, .to = b.id, .flags = 1u << 20},
                                        {.pid = 1, .to = b.id, .reserved = 1}};
    for (size_t i = 0; i < sizeof invalid / sizeof invalid[0]; i++)
        CTKI_FAILS (EINVAL, ctki_puppet_send (&a, &invalid[i], 0));
    CTKI_FAILS (EINVAL, ctki_puppet_send (&a, &good, -2));
    CTKI_FAILS (EINVAL, ctalk_actor_send (NULL, &good, 0));
    ctalk_envelope_t envelope = {.pid = 99, .to = b.id};
    CTKI_FAILS (EHOSTUNREACH, ctki_puppet_send (&a, &envelope, 0));
    envelope = (ctalk_envelope_t){.pid = 1, .to = b.id, .data = data, .size = sizeof data};
    CTKI_FAILS (EMSGSIZE, ctki_puppet_send (&a, &envelope, 0));
    envelope = (ctalk_envelope_t){.pid = cluster.absent, .to = b.id, .flags = CTALK_IF_UP};
    CTKI_FAILS (EHOSTDOWN, ctki_puppet_send (&a, &envelope, 0));
    ctki_puppet_expect_nothing (&b, 0);
    finish ();
}
END_TEST

static int64_t recv_wrongly (ctalk_actor_t *self, ctki_order_t *order)
{
    ctalk_envelope_t got;
    (void) order;
    int failed = 0;
    failed += ctalk_actor_recv (self, NULL, 0) == -1 && errno == EINVAL;
    failed += ctalk_actor_recv (self, &got, -2) == -1 && errno == EINVAL;
    failed += ctalk_actor_recv (NULL, &got, 0) == -1 && errno == EINVAL;
    failed += ctalk_actor_recv_match (self, NULL, NULL, &got, 0) == -1 && errno == EINVAL;
    return failed;
}

/* Receiving: EINVAL, EAGAIN after the timeout and not before, with a zeroed envelope. */
START_TEST (recv_errors)
{
    static const ctalk_envelope_t zero;
    ctalk_envelope_t got;
    ctki_cluster_open (&cluster, 1, NULL);
    ctki_puppet_start (&a, cluster.server[1], NULL);
    ck_assert_int_eq (ctki_puppet_do (&a, &(ctki_order_t){.run = recv_wrongly}), 4);
    memset (&got, 0xaa, sizeof got);
    int64_t start_ms = ctki_test_now_ms ();
    CTKI_FAILS (EAGAIN, ctki_puppet_recv (&a, &got, 50));
    ck_assert_int_ge (ctki_test_now_ms () - start_ms, 49);
    ck_assert_mem_eq (&got, &zero, sizeof got);
    finish ();
}
END_TEST

typedef struct {
    int64_t wanted;
    int asked[100];
} wish_t;

static bool is_wanted (const ctalk_envelope_t *envelope, void *arg)
{
    wish_t *wish = arg;
    wish->asked[envelope->msg_id]++;
    return envelope->msg_id == wish->wanted;
}

/* recv_match takes the first that is accepted and leaves the others in their order; it asks once for each envelope. */
START_TEST (match_leaves_others)
{
    enum { COUNT = 20, WANTED = 11 };
    ctalk_envelope_t got;
    wish_t wish = {.wanted = WANTED};
    open_two_puppets (_i == 1, NULL);
    for (int64_t i = 0; i < COUNT; i++)
        ctki_puppet_tell (&b, &a, i, "x");
    CTKI_SUCCEEDS (ctki_puppet_recv_match (&a, is_wanted, &wish, &got, ctki_test_long_ms ()));
    ck_assert_int_eq (got.msg_id, WANTED);
    ctalk_envelope_close (&got);
    for (int i = 0; i < COUNT; i++)
        ck_assert_int_eq (wish.asked[i], i <= WANTED);
    for (int64_t i = 0; i < COUNT; i++)
        if (i != WANTED)
            ctki_puppet_expect (&a, b.pid, b.id, i, "x");
    ctki_puppet_expect_nothing (&a, 0);
    finish ();
}
END_TEST

/* A recv_match that waits is woken by the envelope that it wants, and not by others, of each of which it asks once;
 * where none comes it is EAGAIN and all are left. */
START_TEST (match_waits)
{
    enum { OTHERS = 10, WANTED = 50 };
    ctalk_envelope_t got;
    wish_t wish = {.wanted = WANTED}, never = {.wanted = 99};
    open_two_puppets (_i == 1, NULL);
    ctki_puppet_tell (&b, &a, 0, "x");
    ctki_puppet_begin_match (&a, is_wanted, &wish, &got, -1);
    for (int64_t i = 1; i < OTHERS; i++)
        ctki_puppet_tell (&b, &a, i, "x");
    ctki_puppet_await_blocked (&a);
    ctki_puppet_tell (&b, &a, WANTED, "wanted");
    CTKI_SUCCEEDS ((int) ctki_puppet_finish (&a));
    ck_assert (got.msg_id == WANTED && got.size == 6);
    ctalk_envelope_close (&got);
    for (int i = 0; i < OTHERS; i++)
        ck_assert_int_eq (wish.asked[i], 1);
    ck_assert_int_eq (wish.asked[WANTED], 1);
    CTKI_FAILS (EAGAIN, ctki_puppet_recv_match (&a, is_wanted, &never, &got, 20));
    for (int64_t i = 0; i < OTHERS; i++) {
        ck_assert_int_eq (never.asked[i], 1);
        ctki_puppet_expect (&a, b.pid, b.id, i, "x");
    }
    finish ();
}
END_TEST

/* What was received outlives the actor that received it, and its server. */
START_TEST (kept_envelopes)
{
    ctalk_envelope_t local, remote;
    open_two_puppets (true, NULL);
    ctki_puppet_tell (&a, &a, 1, "kept, from itself");
    ctki_puppet_take (&a, &local);
    ctki_puppet_tell (&b, &a, 2, "kept, from another");
    ctki_puppet_take (&a, &remote);
    finish ();
    ck_assert (local.msg_id == 1 && memcmp (local.data, "kept, from itself", local.size) == 0);
    ck_assert (remote.msg_id == 2 && memcmp (remote.data, "kept, from another", remote.size) == 0);
    ctalk_envelope_close (&local);
    ctalk_envelope_close (&remote);
    ctalk_envelope_close (&remote);
}
END_TEST

/* What lies in the mailbox of an actor that ends is dropped, and the counters agree afterwards (finish () sees to it);
 * an actor of the same name that comes later gets nothing of it. */
START_TEST (unread_is_dropped)
{
    open_two_puppets (_i == 1, NULL);
    for (int64_t i = 0; i < 50; i++)
        ctki_puppet_tell (&b, &a, i, "unread");
    CTKI_SUCCEEDS (ctalk_server_flush (b.server, CTALK_BROADCAST, ctki_test_long_ms ()));
    ctki_puppet_exit (&a, 0);
    ctki_puppet_start (&a, cluster.server[1], "a");
    ctki_puppet_tell (&b, &a, 99, "new");
    ctki_puppet_expect (&a, b.pid, b.id, 99, "new");
    finish ();
}
END_TEST

/* What is accepted, delivered, received and consumed agrees on all servers after a mix of everything. */
START_TEST (counters_agree)
{
    ctki_trouble_t trouble = {""};
    ctki_cluster_open_up (&cluster, 3, NULL);
    ctki_puppet_t *puppets[] = {&a, &b, &c};
    int64_t number = 0;
    for (ctalk_pid_t pid = 1; pid <= 3; pid++)
        ctki_puppet_start (puppets[pid - 1], cluster.server[pid], "p");
    for (int round = 0; round < 20; round++)
        for (int from = 0; from < 3; from++) {
            ctalk_envelope_t envelope = {.pid = CTALK_BROADCAST, .to = a.id, .msg_id = number++};
            CTKI_SUCCEEDS (ctki_puppet_send (puppets[from], &envelope, ctki_test_long_ms ()));
            envelope.to = NO_SUCH;
            CTKI_SUCCEEDS (ctki_puppet_send (puppets[from], &envelope, ctki_test_long_ms ()));
            ctki_puppet_tell (puppets[from], puppets[round % 3], number++, "one");
            ctki_traffic_send (cluster.server[from + 1], round % 3 + 1, number++, "to an inbox");
        }
    for (int i = 0; i < 3; i++) {
        ck_assert_msg (ctki_cluster_conserved (cluster.server[i + 1], &trouble), "%s", trouble.text);
        ctalk_envelope_t got;
        ctki_puppet_take (puppets[i], &got); /* some are taken, some are not */
        ctalk_envelope_close (&got);
    }
    finish ();
}
END_TEST

/* ---- bounds */

static int64_t room (int64_t bytes)
{
    return (bytes + PAYLOAD + CHARGE - 1) / (PAYLOAD + CHARGE);
}

static void take_number (ctki_puppet_t *puppet, int64_t number)
{
    ctalk_envelope_t got;
    ctki_puppet_take (puppet, &got);
    ck_assert_int_eq (got.msg_id, number);
    ctalk_envelope_close (&got);
}

static void open_bounded (void)
{
    ctki_cluster_open (&cluster, 1, CTKI_OPTIONS (SMALL_MAILBOX));
    ctki_puppet_start (&a, cluster.server[1], NULL);
    ctki_puppet_start (&b, cluster.server[1], NULL);
    ctki_puppet_start (&c, cluster.server[1], NULL);
}

/* A mailbox takes envelopes while less than MailboxBytes is in it, payload and 64 bytes each; then sends of servers and
 * of actors are EAGAIN. Other actors are not concerned, and neither is the inbox. */
START_TEST (mailbox_is_bounded)
{
    open_bounded ();
    ck_assert_int_eq (ctki_puppet_fill (cluster.server[1], &a, 0, PAYLOAD), room (BOUND));
    ctalk_envelope_t envelope = ctki_puppet_envelope (&a, 1, "x");
    CTKI_FAILS (EAGAIN, ctki_puppet_send (&b, &envelope, 0));
    int64_t start_ms = ctki_test_now_ms ();
    CTKI_FAILS (EAGAIN, ctki_puppet_send (&b, &envelope, 50));
    ck_assert_int_ge (ctki_test_now_ms () - start_ms, 49);
    CTKI_FAILS (EAGAIN, ctki_puppet_send (&a, &envelope, 0));
    ctki_puppet_tell (&b, &c, 1, "not full");
    ctki_puppet_expect (&c, 1, b.id, 1, "not full");
    ctki_traffic_send (cluster.server[1], 1, 2, "inbox");
    ctki_traffic_expect (cluster.server[1], 1, 2, "inbox");
    ck_assert_uint_eq (ctki_cluster_stats (cluster.server[1], 1).refused_full, 4);
    take_number (&a, 0);
    CTKI_SUCCEEDS (ctki_puppet_send (&b, &envelope, 0));
    finish ();
}
END_TEST

static bool send_waiting (void *arg, ctki_trouble_t *trouble)
{
    const ctki_puppet_t *to = arg;
    ctalk_envelope_t envelope = ctki_puppet_envelope (to, 777, "waited");
    CTKI_EXPECT_EQUAL (trouble, ctalk_send (to->server, &envelope, ctki_test_long_ms ()), 0);
    return true;
}

/* Senders that wait for room in a mailbox, an actor and a thread, are woken when it is taken from. */
START_TEST (waiting_senders_wake)
{
    ctki_test_thread_t thread;
    open_bounded ();
    int64_t count = ctki_puppet_fill (cluster.server[1], &a, 0, PAYLOAD);
    ctalk_envelope_t envelope = ctki_puppet_envelope (&a, 778, "waited");
    ctki_puppet_begin_send (&b, &envelope, ctki_test_long_ms ());
    ctki_test_thread_start (&thread, send_waiting, &a);
    ctki_puppet_await_blocked (&b);
    ctki_test_thread_await_blocked (&thread);
    for (int64_t i = 0; i < count; i++)
        take_number (&a, i);
    CTKI_SUCCEEDS ((int) ctki_puppet_finish (&b));
    ctki_test_thread_join (&thread);
    ck_assert_uint_eq (ctki_puppet_holds (&a), 2);
    finish ();
}
END_TEST

/* Who waits for room gets it although the actor takes only one more envelope, far less than a sixteenth of its mailbox:
 * it does something else then, or calls the one that waits. */
START_TEST (one_is_enough)
{
    ctalk_envelope_t got, reply;
    open_bounded ();
    (void) ctki_puppet_fill (cluster.server[1], &a, 0, PAYLOAD);
    ctalk_envelope_t envelope = ctki_puppet_envelope (&a, 777, "waited");
    ctalk_envelope_t request = ctki_puppet_envelope (&b, 1, "request");
    ctki_puppet_begin_send (&b, &envelope, -1);
    ctki_puppet_await_blocked (&b);
    take_number (&a, 0);
    if (_i == 1)
        ctki_puppet_begin_call (&a, &request, &reply, -1);
    CTKI_SUCCEEDS ((int) ctki_puppet_finish (&b));
    if (_i == 1) {
        ctki_puppet_take (&b, &got);
        CTKI_SUCCEEDS (ctki_puppet_reply (&b, &got, "answer"));
        CTKI_SUCCEEDS ((int) ctki_puppet_finish (&a));
        ctalk_envelope_close (&got);
        ctalk_envelope_close (&reply);
    }
    finish ();
}
END_TEST

/* A mailbox can be made smaller and larger than MailboxBytes; who waits is woken when it is made larger; 0 is EINVAL.
 */
START_TEST (set_mailbox)
{
    open_bounded ();
    CTKI_FAILS (EINVAL, ctki_puppet_set_mailbox (&a, 0));
    CTKI_FAILS (EINVAL, ctalk_actor_set_mailbox (NULL, 1));
    CTKI_SUCCEEDS (ctki_puppet_set_mailbox (&a, 1));
    ck_assert_int_eq (ctki_puppet_fill (cluster.server[1], &a, 0, PAYLOAD), 1);
    ctalk_envelope_t envelope = ctki_puppet_envelope (&a, 1, "x");
    ctki_puppet_begin_send (&b, &envelope, ctki_test_long_ms ());
    ctki_puppet_await_blocked (&b);
    CTKI_SUCCEEDS (ctki_puppet_set_mailbox (&a, 10 * BOUND));
    CTKI_SUCCEEDS ((int) ctki_puppet_finish (&b));
    int64_t used = PAYLOAD + CHARGE + 1 + CHARGE;
    ck_assert_int_eq (ctki_puppet_fill (cluster.server[1], &a, 0, PAYLOAD), room (10 * BOUND - used));
    finish ();
}
END_TEST

/* An actor that ends frees those who wait for room in its mailbox: their envelopes are accepted, and counted as for
 * nobody. */
START_TEST (end_frees_senders)
{
    open_bounded ();
    (void) ctki_puppet_fill (cluster.server[1], &a, 0, PAYLOAD);
    ctalk_envelope_t envelope = ctki_puppet_envelope (&a, 1, "x");
    ctki_puppet_begin_send (&b, &envelope, ctki_test_long_ms ());
    ctki_puppet_await_blocked (&b);
    ctki_puppet_exit (&a, 0);
    CTKI_SUCCEEDS ((int) ctki_puppet_finish (&b));
    ck_assert_uint_ge (ctki_cluster_stats (cluster.server[1], 1).no_such_actor, 1);
    finish ();
}
END_TEST

/* A single envelope larger than the whole mailbox is taken when it is empty. */
START_TEST (larger_than_the_mailbox)
{
    static char data[4 * BOUND];
    ctalk_envelope_t got;
    open_bounded ();
    ctki_payload_fill (data, sizeof data, 1, 1, 3);
    ctalk_envelope_t envelope = ctki_puppet_envelope (&a, 3, NULL);
    envelope.data = data;
    envelope.size = sizeof data;
    CTKI_SUCCEEDS (ctki_puppet_send (&b, &envelope, 0));
    CTKI_FAILS (EAGAIN, ctki_puppet_send (&b, &envelope, 0));
    ctki_puppet_take (&a, &got);
    ck_assert (ctki_payload_ok (got.data, got.size, 1, 1, 3) && got.size == sizeof data);
    ctalk_envelope_close (&got);
    finish ();
}
END_TEST

static void tear_down (void)
{
    (void) ctki_thread_fail (-1, 0);
}

static void add_spawning (TCase *tcase)
{
    tcase_add_test (tcase, spawn_invalid);
    tcase_add_test (tcase, named_everywhere);
    tcase_add_test (tcase, name_taken);
    tcase_add_test (tcase, self_knows);
    tcase_add_test (tcase, stack);
    tcase_add_test (tcase, ids_never_again);
    tcase_add_test (tcase, counted);
    tcase_add_test (tcase, spawn_without_threads);
    tcase_add_test (tcase, threads_end);
    tcase_add_test (tcase, spawned_by_an_actor);
}

static void add_delivery (TCase *tcase)
{
    tcase_add_loop_test (tcase, as_sent, 0, 2);
    tcase_add_test (tcase, servers_and_actors);
    tcase_add_test (tcase, address_in_a_payload);
    tcase_add_loop_test (tcase, in_order_once, 0, 3);
    tcase_add_test (tcase, broadcast_to_a_name);
    tcase_add_loop_test (tcase, to_nobody, 0, 2);
    tcase_add_test (tcase, send_errors);
    tcase_add_test (tcase, recv_errors);
    tcase_add_loop_test (tcase, match_leaves_others, 0, 2);
    tcase_add_loop_test (tcase, match_waits, 0, 2);
    tcase_add_test (tcase, kept_envelopes);
    tcase_add_loop_test (tcase, unread_is_dropped, 0, 2);
    tcase_add_test (tcase, counters_agree);
}

static void add_bounds (TCase *tcase)
{
    tcase_add_test (tcase, mailbox_is_bounded);
    tcase_add_test (tcase, waiting_senders_wake);
    tcase_add_loop_test (tcase, one_is_enough, 0, 2);
    tcase_add_test (tcase, set_mailbox);
    tcase_add_test (tcase, end_frees_senders);
    tcase_add_test (tcase, larger_than_the_mailbox);
}

Suite *ctki_suite_actors (void)
{
    Suite *suite = suite_create ("actors");
    TCase *spawning = ctki_leaks_tcase ("spawning", 60), *delivery = ctki_leaks_tcase ("delivery", 60);
    TCase *bounds = ctki_leaks_tcase ("bounds", 60);
    tcase_add_checked_fixture (spawning, NULL, tear_down);
    add_spawning (spawning);
    add_delivery (delivery);
    add_bounds (bounds);
    suite_add_tcase (suite, spawning);
    suite_add_tcase (suite, delivery);
    suite_add_tcase (suite, bounds);
    return suite;
}
