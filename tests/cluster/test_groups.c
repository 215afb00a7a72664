/*
 * test_groups.c - groups: who is a member in the eyes of each server, who is told,
 * and what is sent to all.
 */
#include <stdatomic.h>
#include <stdio.h>

#include "tests/cluster/suites.h"
#include "tests/support/puppet.h"
#include "tests/support/support.h"

enum { NAME_MAX_BYTES = 255, MANY = 12 };

static ctki_cluster_t cluster;
static ctki_puppet_t a, b, c, watcher;
static ctki_ports_t ports;

static void finish (void)
{
    ctki_puppets_end ();
    ctki_cluster_close (&cluster);
}

static void finish_abandoning (void)
{
    ctki_puppets_end ();
    (void) ctki_cluster_close_abandoning (&cluster, ctki_test_long_ms ());
}

/* a, b and c on servers 1, 2 and 3; watcher on server 1. */
static void open_three (const char *const *options)
{
    ctki_cluster_open_up (&cluster, 3, options);
    ctki_puppet_start (&a, cluster.server[1], NULL);
    ctki_puppet_start (&b, cluster.server[2], NULL);
    ctki_puppet_start (&c, cluster.server[3], NULL);
    ctki_puppet_start (&watcher, cluster.server[1], NULL);
}

typedef struct {
    ctalk_server_t *server;
    const char *group;
    int count;
} wish_t;

static bool so_many (void *arg)
{
    const wish_t *wish = arg;
    return ctalk_group_members (wish->server, wish->group, NULL, 0) == wish->count;
}

static void await_members (ctalk_pid_t pid, const char *group, int count)
{
    wish_t wish = {cluster.server[pid], group, count};
    ck_assert_msg (ctki_test_until (so_many, &wish, ctki_test_long_ms ()), "server %d sees %d members of %s, not %d",
                   (int) pid, ctalk_group_members (cluster.server[pid], group, NULL, 0), group, count);
}

/* The next in the mailbox of a puppet says that this member came or went. */
static void expect_member (ctki_puppet_t *puppet, ctalk_kind_t kind, ctalk_pid_t pid, uint64_t actor, const char *group)
{
    ctalk_envelope_t got;
    ctki_puppet_take (puppet, &got);
    ck_assert_msg (got.kind == kind && got.pid == pid && got.from == actor, "kind %d of %d, not %d of %d",
                   (int) got.kind, (int) got.pid, (int) kind, (int) pid);
    ck_assert_uint_eq (got.to, puppet->id);
    ck_assert_uint_eq (got.size, strlen (group));
    ck_assert_str_eq (got.data, group); /* its end is there */
    ctalk_envelope_close (&got);
}

/* ---- members */

/* Every server knows the members on all; EEXIST, ESRCH; an empty group has none. */
START_TEST (join_and_leave)
{
    open_three (NULL);
    for (ctalk_pid_t pid = 1; pid <= 3; pid++)
        ck_assert_int_eq (ctalk_group_members (cluster.server[pid], "group", NULL, 0), 0);
    CTKI_FAILS (ESRCH, ctki_puppet_quit (&a, "group"));
    CTKI_SUCCEEDS (ctki_puppet_join (&a, "group"));
    CTKI_FAILS (EEXIST, ctki_puppet_join (&a, "group"));
    ck_assert_int_eq (ctalk_group_members (cluster.server[1], "group", NULL, 0), 1);
    CTKI_SUCCEEDS (ctki_puppet_join (&b, "group"));
    CTKI_SUCCEEDS (ctki_puppet_join (&c, "group"));
    CTKI_SUCCEEDS (ctki_puppet_join (&c, "other"));
    for (ctalk_pid_t pid = 1; pid <= 3; pid++) {
        await_members (pid, "group", 3);
        await_members (pid, "other", 1);
        ck_assert_int_eq (ctalk_group_members (cluster.server[pid], "grou", NULL, 0), 0);
    }
    CTKI_SUCCEEDS (ctki_puppet_quit (&b, "group"));
    CTKI_FAILS (ESRCH, ctki_puppet_quit (&b, "group"));
    for (ctalk_pid_t pid = 1; pid <= 3; pid++)
        await_members (pid, "group", 2);
    CTKI_SUCCEEDS (ctki_puppet_join (&b, "group"));
    for (ctalk_pid_t pid = 1; pid <= 3; pid++)
        await_members (pid, "group", 3);
    finish ();
}
END_TEST

/* Members come by pid and id, at most as many as there is place for; their number is returned all the same. */
START_TEST (members_in_order)
{
    ctki_puppet_t puppets[MANY];
    ctalk_address_t members[MANY + 1];
    ctki_cluster_open_up (&cluster, 3, NULL);
    for (int i = 0; i < MANY; i++) {
        ctki_puppet_start (&puppets[i], cluster.server[(i * 2 + 1) % 3 + 1], NULL);
        CTKI_SUCCEEDS (ctki_puppet_join (&puppets[i], "group"));
    }
    for (ctalk_pid_t pid = 1; pid <= 3; pid++) {
        await_members (pid, "group", MANY);
        ck_assert_int_eq (ctalk_group_members (cluster.server[pid], "group", members, MANY + 1), MANY);
        for (int i = 1; i < MANY; i++)
            ck_assert (members[i - 1].pid < members[i].pid
                       || (members[i - 1].pid == members[i].pid && members[i - 1].actor < members[i].actor));
        for (int i = 0; i < MANY; i++) {
            int found = 0;
            for (int k = 0; k < MANY; k++)
                found += members[k].pid == puppets[i].pid && members[k].actor == puppets[i].id;
            ck_assert_int_eq (found, 1);
        }
        ctalk_address_t few[3] = {{0, 0}, {0, 0}, {77, 77}};
        ck_assert_int_eq (ctalk_group_members (cluster.server[pid], "group", few, 2), MANY);
        ck_assert (few[0].actor == members[0].actor && few[1].actor == members[1].actor && few[2].pid == 77);
    }
    finish ();
}
END_TEST

/* Names that are none, and one of 255 bytes. */
START_TEST (errors)
{
    char name[NAME_MAX_BYTES + 2];
    const char *const wrong[] = {NULL, "", name};
    ctalk_envelope_t envelope = {.data = "x", .size = 1};
    memset (name, 'n', sizeof name);
    name[NAME_MAX_BYTES + 1] = 0;
    open_three (NULL);
    ctalk_server_t *server = cluster.server[1];
    for (int i = 0; i < 3; i++) {
        CTKI_FAILS (EINVAL, ctki_puppet_join (&a, wrong[i]));
        CTKI_FAILS (EINVAL, ctki_puppet_quit (&a, wrong[i]));
        CTKI_FAILS (EINVAL, ctki_puppet_watch (&a, wrong[i], true));
        CTKI_FAILS (EINVAL, ctalk_group_members (server, wrong[i], NULL, 0));
        CTKI_FAILS (EINVAL, ctalk_group_send (server, wrong[i], &envelope, 0));
    }
    name[NAME_MAX_BYTES] = 0;
    CTKI_SUCCEEDS (ctki_puppet_join (&a, name));
    await_members (3, name, 1);
    CTKI_FAILS (EINVAL, ctalk_group_members (server, "group", NULL, 1));
    CTKI_FAILS (EINVAL, ctalk_group_members (NULL, "group", NULL, 0));
    CTKI_FAILS (EINVAL, ctalk_group_join (NULL, "group"));
    CTKI_FAILS (EINVAL, ctalk_group_leave (NULL, "group"));
    CTKI_FAILS (EINVAL, ctalk_group_watch (NULL, "group", true));
    CTKI_FAILS (EINVAL, ctalk_group_send (NULL, "group", &envelope, 0));
    CTKI_FAILS (EINVAL, ctalk_group_send (server, name, NULL, 0));
    CTKI_FAILS (EINVAL, ctalk_group_send (server, name, &envelope, -2));
    envelope.data = NULL;
    CTKI_FAILS (EINVAL, ctalk_group_send (server, name, &envelope, 0));
    ctki_puppet_expect_nothing (&a, 0);
    finish ();
}
END_TEST

/* An actor that ends leaves its groups, on all servers. */
START_TEST (end_leaves)
{
    open_three (NULL);
    CTKI_SUCCEEDS (ctki_puppet_watch (&watcher, "group", true));
    for (int i = 0; i < 2; i++) {
        ctki_puppet_t *puppet = i ? &a : &b;
        CTKI_SUCCEEDS (ctki_puppet_join (puppet, "group"));
        CTKI_SUCCEEDS (ctki_puppet_join (puppet, "other"));
        expect_member (&watcher, CTALK_GROUP_JOINED, puppet->pid, puppet->id, "group");
        uint64_t id = puppet->id;
        ctki_puppet_exit (puppet, 0);
        expect_member (&watcher, CTALK_GROUP_LEFT, puppet->pid, id, "group");
        for (ctalk_pid_t pid = 1; pid <= 3; pid++) {
            await_members (pid, "group", 0);
            await_members (pid, "other", 0);
        }
    }
    ctki_puppet_expect_nothing (&watcher, 0);
    finish ();
}
END_TEST

/* ---- watching */

/* Who watches is told of each member there is, then of those that come and go, of this group and no other; switched off
 * of nothing any more. A watcher that is a member is told of itself. */
START_TEST (watched)
{
    open_three (NULL);
    CTKI_SUCCEEDS (ctki_puppet_join (&a, "group"));
    CTKI_SUCCEEDS (ctki_puppet_join (&b, "group"));
    CTKI_SUCCEEDS (ctki_puppet_join (&b, "other"));
    await_members (1, "group", 2);
    await_members (1, "other", 1);
    CTKI_SUCCEEDS (ctki_puppet_watch (&watcher, "group", true));
    bool seen[3] = {false};
    for (int i = 0; i < 2; i++) {
        ctalk_envelope_t got;
        ctki_puppet_take (&watcher, &got);
        ck_assert (got.kind == CTALK_GROUP_JOINED && (got.pid == 1 || got.pid == 2) && !seen[got.pid]);
        ck_assert_uint_eq (got.from, got.pid == 1 ? a.id : b.id);
        seen[got.pid] = true;
        ctalk_envelope_close (&got);
    }
    CTKI_SUCCEEDS (ctki_puppet_join (&c, "group"));
    expect_member (&watcher, CTALK_GROUP_JOINED, 3, c.id, "group");
    CTKI_SUCCEEDS (ctki_puppet_join (&watcher, "group"));
    expect_member (&watcher, CTALK_GROUP_JOINED, 1, watcher.id, "group");
    CTKI_SUCCEEDS (ctki_puppet_quit (&a, "group"));
    expect_member (&watcher, CTALK_GROUP_LEFT, 1, a.id, "group");
    CTKI_SUCCEEDS (ctki_puppet_watch (&watcher, "group", false));
    CTKI_SUCCEEDS (ctki_puppet_quit (&b, "group"));
    await_members (1, "group", 2);
    ctki_puppet_expect_nothing (&watcher, 0);
    finish ();
}
END_TEST

/* Joins and leaves reach the peers in the order in which their server made them, over all its actors and groups. */
START_TEST (in_the_order_made)
{
    enum { ROUNDS = 30 };
    ctki_puppet_t second;
    open_three (NULL);
    ctki_puppet_start (&second, cluster.server[2], NULL);
    CTKI_SUCCEEDS (ctki_puppet_watch (&watcher, "one", true));
    CTKI_SUCCEEDS (ctki_puppet_watch (&watcher, "two", true));
    for (int i = 0; i < ROUNDS; i++) {
        CTKI_SUCCEEDS (ctki_puppet_join (&b, "one"));
        CTKI_SUCCEEDS (ctki_puppet_join (&second, "two"));
        CTKI_SUCCEEDS (ctki_puppet_join (&second, "one"));
        CTKI_SUCCEEDS (ctki_puppet_quit (&b, "one"));
        CTKI_SUCCEEDS (ctki_puppet_quit (&second, "two"));
        CTKI_SUCCEEDS (ctki_puppet_quit (&second, "one"));
    }
    for (int i = 0; i < ROUNDS; i++) {
        expect_member (&watcher, CTALK_GROUP_JOINED, 2, b.id, "one");
        expect_member (&watcher, CTALK_GROUP_JOINED, 2, second.id, "two");
        expect_member (&watcher, CTALK_GROUP_JOINED, 2, second.id, "one");
        expect_member (&watcher, CTALK_GROUP_LEFT, 2, b.id, "one");
        expect_member (&watcher, CTALK_GROUP_LEFT, 2, second.id, "two");
        expect_member (&watcher, CTALK_GROUP_LEFT, 2, second.id, "one");
    }
    ctki_puppet_expect_nothing (&watcher, 0);
    finish ();
}
END_TEST

/* Members on a peer that goes down are gone for this server, and come back with it; what changed there meanwhile is
 * known then. */
START_TEST (peer_down_and_up)
{
    ctki_puppet_t second;
    open_three (CTKI_OPTIONS (CTKI_FAST_FAILURE));
    ctki_puppet_start (&second, cluster.server[2], NULL);
    CTKI_SUCCEEDS (ctki_puppet_watch (&watcher, "group", true));
    CTKI_SUCCEEDS (ctki_puppet_join (&b, "group"));
    expect_member (&watcher, CTALK_GROUP_JOINED, 2, b.id, "group");
    for (int round = 0; round < 2; round++) {
        ctki_puppet_t *gone = round ? &second : &b, *come = round ? &b : &second;
        CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, CTALK_IN | CTALK_OUT, true));
        expect_member (&watcher, CTALK_GROUP_LEFT, 2, gone->id, "group");
        ck_assert_int_eq (ctalk_group_members (cluster.server[1], "group", NULL, 0), 0);
        await_members (3, "group", 1);
        CTKI_SUCCEEDS (ctki_puppet_join (come, "group"));
        CTKI_SUCCEEDS (ctki_puppet_quit (gone, "group"));
        CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, CTALK_IN | CTALK_OUT, false));
        await_members (1, "group", 1);
        ctalk_address_t member;
        ck_assert_int_eq (ctalk_group_members (cluster.server[1], "group", &member, 1), 1);
        while (member.actor != come->id) { /* the former one came back and leaves */
            await_members (1, "group", 1);
            (void) ctalk_group_members (cluster.server[1], "group", &member, 1);
        }
        bool gone_is_in = false, come_is_in = false;
        while (!come_is_in || gone_is_in) { /* as the watcher is told */
            ctalk_envelope_t got;
            ctki_puppet_take (&watcher, &got);
            ck_assert (got.pid == 2 && (got.from == gone->id || got.from == come->id));
            *(got.from == gone->id ? &gone_is_in : &come_is_in) = got.kind == CTALK_GROUP_JOINED;
            ctalk_envelope_close (&got);
        }
    }
    finish ();
}
END_TEST

static void open_restartable (void)
{
    ctki_ports_take (&ports, 2);
    memset (&cluster, 0, sizeof cluster);
    cluster.config = ctki_cluster_config (2, ports.port, CTKI_OPTIONS ("DownMs", ctki_test_ms_text (60000)));
    cluster.count = 2;
    for (ctalk_pid_t pid = 1; pid <= 2; pid++)
        cluster.server[pid] = ctki_cluster_start (pid, cluster.config);
    ctki_cluster_wait_up (&cluster);
    ctki_puppet_start (&watcher, cluster.server[1], NULL);
    ctki_puppet_start (&b, cluster.server[2], NULL);
}

/* A peer that closes, or is another process when it is heard again, has no members any more; those of the new process
 * are known, and it knows those that were there before it. */
START_TEST (peer_restarted)
{
    bool told = _i == 0;
    open_restartable ();
    CTKI_SUCCEEDS (ctki_puppet_watch (&watcher, "group", true));
    CTKI_SUCCEEDS (ctki_puppet_join (&b, "group"));
    expect_member (&watcher, CTALK_GROUP_JOINED, 2, b.id, "group");
    CTKI_SUCCEEDS (ctki_puppet_join (&watcher, "elders"));
    uint64_t former = b.id;
    if (!told)
        CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, CTALK_IN | CTALK_OUT, true));
    ctki_puppet_exit (&b, 0);
    (void) ctalk_server_close (&cluster.server[2], told ? ctki_test_long_ms () : 0);
    cluster.server[2] = ctki_cluster_start (2, cluster.config);
    ctki_puppet_start (&b, cluster.server[2], NULL);
    CTKI_SUCCEEDS (ctki_puppet_join (&b, "group"));
    CTKI_SUCCEEDS (ctalk_server_cut (cluster.server[1], 2, CTALK_IN | CTALK_OUT, false));
    expect_member (&watcher, CTALK_GROUP_LEFT, 2, former, "group");
    expect_member (&watcher, CTALK_GROUP_JOINED, 2, b.id, "group");
    await_members (2, "elders", 1);
    ctki_puppet_expect_nothing (&watcher, 0);
    finish_abandoning ();
    ctki_ports_release (&ports);
}
END_TEST

/* A peer that is removed, or closes, takes its members with it. */
START_TEST (peer_gone)
{
    open_three (NULL);
    CTKI_SUCCEEDS (ctki_puppet_watch (&watcher, "group", true));
    CTKI_SUCCEEDS (ctki_puppet_join (&b, "group"));
    CTKI_SUCCEEDS (ctki_puppet_join (&c, "group"));
    await_members (1, "group", 2);
    ctalk_envelope_t got;
    for (int i = 0; i < 2; i++) {
        ctki_puppet_take (&watcher, &got);
        ctalk_envelope_close (&got);
    }
    CTKI_SUCCEEDS (ctalk_server_remove_peer (cluster.server[1], 2));
    expect_member (&watcher, CTALK_GROUP_LEFT, 2, b.id, "group");
    ctki_puppet_leave (&c, 0);
    (void) ctalk_server_close (&cluster.server[3], ctki_test_long_ms ());
    ctki_puppet_forget (&c);
    expect_member (&watcher, CTALK_GROUP_LEFT, 3, c.id, "group");
    ck_assert_int_eq (ctalk_group_members (cluster.server[1], "group", NULL, 0), 0);
    finish_abandoning ();
}
END_TEST

/* With lazy senders the first join starts them all; a server knows the members on those that it reaches itself. */
START_TEST (lazy_senders)
{
    ctki_cluster_open (&cluster, 3, CTKI_OPTIONS ("Senders", "lazy"));
    ctki_puppet_start (&a, cluster.server[1], NULL);
    for (ctalk_pid_t pid = 2; pid <= 3; pid++)
        ck_assert_int_eq (ctalk_server_peer_state (cluster.server[1], pid), CTALK_STATE_IDLE);
    CTKI_SUCCEEDS (ctki_puppet_join (&a, "group"));
    CTKI_SUCCEEDS (ctalk_server_wait_up (cluster.server[1], 2, ctki_test_long_ms ()));
    for (ctalk_pid_t pid = 2; pid <= 3; pid++) {
        ctki_puppet_t *puppet = pid == 2 ? &b : &c;
        ctki_puppet_start (puppet, cluster.server[pid], NULL);
        CTKI_SUCCEEDS (ctki_puppet_join (puppet, "other"));
        await_members (pid, "group", 1);
        await_members (1, "other", pid - 1);
    }
    finish ();
}
END_TEST

/* So does the first watch: who only watches sees the members on all. */
START_TEST (lazy_watcher)
{
    ctki_cluster_open (&cluster, 3, CTKI_OPTIONS ("Senders", "lazy"));
    ctki_puppet_start (&watcher, cluster.server[1], NULL);
    ctki_puppet_start (&b, cluster.server[2], NULL);
    ctki_puppet_start (&c, cluster.server[3], NULL);
    CTKI_SUCCEEDS (ctki_puppet_join (&b, "group"));
    CTKI_SUCCEEDS (ctki_puppet_watch (&watcher, "group", true));
    expect_member (&watcher, CTALK_GROUP_JOINED, 2, b.id, "group");
    CTKI_SUCCEEDS (ctki_puppet_join (&c, "group"));
    expect_member (&watcher, CTALK_GROUP_JOINED, 3, c.id, "group");
    ck_assert_int_eq (ctalk_group_members (cluster.server[1], "group", NULL, 0), 2);
    finish ();
}
END_TEST

/* A peer that is added later knows the members, too. */
START_TEST (added_later)
{
    ctki_cluster_t later;
    open_three (NULL);
    CTKI_SUCCEEDS (ctki_puppet_join (&a, "group"));
    CTKI_SUCCEEDS (ctki_puppet_join (&b, "group"));
    memset (&later, 0, sizeof later);
    ctalk_config_t *config = ctki_cluster_config (4, NULL, NULL);
    ctalk_server_t *four = ctki_cluster_start (4, config);
    for (ctalk_pid_t pid = 1; pid <= 3; pid++) {
        CTKI_SUCCEEDS (ctalk_server_add_peer (cluster.server[pid], 4, ctalk_server_endpoint (four)));
        CTKI_SUCCEEDS (ctalk_server_add_peer (four, pid, ctalk_server_endpoint (cluster.server[pid])));
    }
    wish_t wish = {four, "group", 2};
    ck_assert (ctki_test_until (so_many, &wish, ctki_test_long_ms ()));
    ck_assert_int_eq (ctalk_server_close (&four, ctki_test_long_ms ()), 0);
    ctalk_config_destroy (&config);
    finish_abandoning ();
}
END_TEST

/* ---- sending */

/* A send goes to each member, on all servers, and says to how many; pid and to are not looked at. */
START_TEST (send_to_all)
{
    open_three (NULL);
    ctalk_envelope_t envelope = {.pid = 99, .to = 12345, .msg_id = 6, .data = "all", .size = 3};
    ck_assert_int_eq (ctalk_group_send (cluster.server[1], "group", &envelope, 0), 0);
    CTKI_SUCCEEDS (ctki_puppet_join (&a, "group"));
    CTKI_SUCCEEDS (ctki_puppet_join (&b, "group"));
    CTKI_SUCCEEDS (ctki_puppet_join (&c, "group"));
    for (ctalk_pid_t pid = 1; pid <= 3; pid++) {
        await_members (pid, "group", 3);
        ck_assert_int_eq (ctalk_group_send (cluster.server[pid], "group", &envelope, ctki_test_long_ms ()), 3);
        ctki_puppet_expect (&a, pid, 0, 6, "all");
        ctki_puppet_expect (&b, pid, 0, 6, "all");
        ctki_puppet_expect (&c, pid, 0, 6, "all");
    }
    ctki_puppet_expect_nothing (&watcher, 0);
    finish ();
}
END_TEST

/* Members without room do not get it: the others do, and errno says so. */
START_TEST (send_without_room)
{
    static const char data[20000];
    ctalk_envelope_t envelope = {.msg_id = 6, .data = "all", .size = 3}, full = {.data = data, .size = sizeof data};
    open_three (NULL);
    ctki_puppet_t *stuck = _i ? &b : &a; /* on another server, on the own one */
    CTKI_SUCCEEDS (ctki_puppet_set_mailbox (stuck, 1));
    CTKI_SUCCEEDS (ctki_puppet_join (&a, "group"));
    CTKI_SUCCEEDS (ctki_puppet_join (&b, "group"));
    CTKI_SUCCEEDS (ctki_puppet_join (&c, "group"));
    await_members (1, "group", 3);
    full.pid = stuck->pid;
    full.to = stuck->id;
    while (ctalk_send (cluster.server[1], &full, 0) == 0) {
    }
    errno = 0;
    ck_assert_int_eq (ctalk_group_send (cluster.server[1], "group", &envelope, 20), 2);
    ck_assert_int_eq (errno, EAGAIN);
    ctki_puppet_expect (_i ? &a : &b, 1, 0, 6, "all");
    ctki_puppet_expect (&c, 1, 0, 6, "all");
    size_t there = ctki_puppet_holds (stuck);
    ctalk_envelope_t got;
    for (size_t i = 0; i < there; i++) {
        ctki_puppet_take (stuck, &got);
        ck_assert_uint_eq (got.size, sizeof data);
        ctalk_envelope_close (&got);
    }
    finish_abandoning ();
}
END_TEST

/* Too large for anybody: -1, and it went to nobody. */
START_TEST (send_too_large)
{
    static const char data[2000];
    ctalk_envelope_t envelope = {.data = data, .size = sizeof data};
    open_three (CTKI_OPTIONS ("MaxMessageBytes", "1000"));
    CTKI_SUCCEEDS (ctki_puppet_join (&a, "group"));
    CTKI_SUCCEEDS (ctki_puppet_join (&b, "group"));
    await_members (1, "group", 2);
    CTKI_FAILS (EMSGSIZE, ctalk_group_send (cluster.server[1], "group", &envelope, 0));
    ctki_puppet_expect_nothing (&a, 0);
    ctki_puppet_expect_nothing (&b, 0);
    finish ();
}
END_TEST

/* A server closes with members, watchers and joins under way: nothing is left (the leak check sees to it). */
START_TEST (close_with_members)
{
    open_three (NULL);
    for (int i = 0; i < 20; i++) {
        char group[16];
        (void) snprintf (group, sizeof group, "group %d", i);
        CTKI_SUCCEEDS (ctki_puppet_join (&a, group));
        CTKI_SUCCEEDS (ctki_puppet_join (&b, group));
        CTKI_SUCCEEDS (ctki_puppet_watch (&c, group, true));
    }
    finish_abandoning ();
}
END_TEST

Suite *ctki_suite_groups (void)
{
    Suite *suite = suite_create ("groups");
    TCase *members = ctki_leaks_tcase ("members", 60), *peers = ctki_leaks_tcase ("peers", 90);
    TCase *sending = ctki_leaks_tcase ("sending", 60);
    tcase_add_test (members, join_and_leave);
    tcase_add_test (members, members_in_order);
    tcase_add_test (members, errors);
    tcase_add_test (members, end_leaves);
    tcase_add_test (members, watched);
    tcase_add_test (members, in_the_order_made);
    tcase_add_test (members, close_with_members);
    tcase_add_test (peers, peer_down_and_up);
    tcase_add_loop_test (peers, peer_restarted, 0, 2);
    tcase_add_test (peers, peer_gone);
    tcase_add_test (peers, lazy_senders);
    tcase_add_test (peers, lazy_watcher);
    tcase_add_test (peers, added_later);
    tcase_add_test (sending, send_to_all);
    tcase_add_loop_test (sending, send_without_room, 0, 2);
    tcase_add_test (sending, send_too_large);
    suite_add_tcase (suite, members);
    suite_add_tcase (suite, peers);
    suite_add_tcase (suite, sending);
    return suite;
}
