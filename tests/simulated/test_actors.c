/*
 * test_actors.c - actors in the simulator: calls, timers, monitors, groups and
 * supervisors in virtual time; and some hundred seeds of a small bank under faults.
 */
#include <stdlib.h>

#include "tests/simulated/suites.h"
#include "tests/simulated/world.h"
#include "tests/support/leaks.h"
#include "tests/support/scale.h"

enum { LONG_MS = 60 * 1000 };

/* An actor that answers what it is sent, until it is stopped; 13 ends it with that reason. */
static int echo (ctalk_actor_t *self, void *arg)
{
    ctalk_envelope_t envelope;
    (void) arg;
    while (ctalk_actor_recv (self, &envelope, -1) == 0) {
        int64_t asked = envelope.msg_id;
        if (asked != 13)
            (void) ctalk_actor_reply (self, &envelope, envelope.data, envelope.size, -1);
        ctalk_envelope_close (&envelope);
        if (asked == 13)
            return 13;
    }
    return 0;
}

/* One that takes requests and never answers. */
static int mute (ctalk_actor_t *self, void *arg)
{
    ctalk_envelope_t envelope;
    (void) arg;
    while (ctalk_actor_recv (self, &envelope, -1) == 0)
        ctalk_envelope_close (&envelope);
    return 0;
}

static ctalk_envelope_t to_actor (ctalk_pid_t pid, const char *name, int64_t msg_id)
{
    return (ctalk_envelope_t){.pid = pid, .to = ctalk_actor_named (name), .msg_id = msg_id};
}

/* ---- calls */

static bool make_calls (world_t *world)
{
    ctki_trouble_t *trouble = &world->trouble;
    ctalk_envelope_t reply, request;
    if (!world_open (world) || !world_wait_up (world))
        return false;
    CTKI_EXPECT (trouble, ctalk_actor_spawn (world->server[2], "echo", echo, NULL) != 0);
    CTKI_EXPECT (trouble, ctalk_actor_spawn (world->server[2], "mute", mute, NULL) != 0);
    int64_t before_us = ctalk_sim_now_us (world->sim);
    request = to_actor (2, "echo", 5);
    CTKI_EXPECT_EQUAL (trouble, ctalk_call (world->server[1], &request, &reply, LONG_MS), 0);
    CTKI_EXPECT_EQUAL (trouble, reply.msg_id, 5);
    ctalk_envelope_close (&reply);
    int64_t took_us = ctalk_sim_now_us (world->sim) - before_us;
    CTKI_EXPECT (trouble, took_us >= 100 && took_us < 50000); /* two ways */
    before_us = ctalk_sim_now_us (world->sim);
    request = to_actor (2, "mute", 6);
    CTKI_EXPECT (trouble, ctalk_call (world->server[1], &request, &reply, 5000) == -1 && errno == ETIMEDOUT);
    CTKI_EXPECT_EQUAL (trouble, ctalk_sim_now_us (world->sim) - before_us, 5000000);
    request = to_actor (2, "nobody", 7);
    CTKI_EXPECT (trouble, ctalk_call (world->server[1], &request, &reply, LONG_MS) == -1 && errno == ESRCH);
    return world_close (world);
}

/* An answer takes two ways over the network; a call without one ends at its timeout, to the microsecond. */
START_TEST (calls)
{
    world_t world = {.count = 2, .main_fn = make_calls};
    for (world.options.seed = 1; world.options.seed <= 10; world.options.seed++)
        world_run (&world);
}
END_TEST

/* ---- timers */

typedef struct {
    world_t *world;
    int done;
} timing_t;

static int set_timers (ctalk_actor_t *self, void *arg)
{
    timing_t *timing = arg;
    world_t *world = timing->world;
    int64_t before_us = ctalk_sim_now_us (world->sim);
    ctalk_envelope_t envelope = {.pid = 1, .to = ctalk_actor_id (self)};
    uint64_t cancelled = 0;
    for (int i = 10; i > 0; i--) { /* the last one comes first */
        envelope.msg_id = i;
        uint64_t timer = ctalk_actor_send_after (self, i * 60 * 1000, &envelope);
        cancelled = i == 5 ? timer : cancelled;
    }
    if (ctalk_actor_cancel (self, cancelled))
        return ctki_trouble_note (&world->trouble, __FILE__, __LINE__, "cannot cancel");
    for (int64_t i = 1; i <= 10; i += i == 4 ? 2 : 1) {
        if (ctalk_actor_recv (self, &envelope, -1) || envelope.kind != CTALK_TIMER || envelope.msg_id != i)
            return ctki_trouble_note (&world->trouble, __FILE__, __LINE__, "not timer %d", (int) i);
        int64_t late_us = ctalk_sim_now_us (world->sim) - before_us - i * 60 * 1000 * 1000;
        if (late_us < 0 || late_us > 1000)
            return ctki_trouble_note (&world->trouble, __FILE__, __LINE__, "%d us late", (int) late_us);
        ctalk_envelope_close (&envelope);
        timing->done++;
    }
    return 0;
}

static bool run_timers (world_t *world)
{
    timing_t timing = {.world = world};
    if (!world_open (world))
        return false;
    CTKI_EXPECT (&world->trouble, ctalk_actor_spawn (world->server[1], "timed", set_timers, &timing) != 0);
    ctalk_sim_sleep_ms (world->sim, 11 * 60 * 1000);
    CTKI_EXPECT_EQUAL (&world->trouble, timing.done, 9);
    return world_close (world);
}

/* Ten minutes of timers, each on time, but for the one that was cancelled. */
START_TEST (timers)
{
    world_t world = {.count = 1, .main_fn = run_timers};
    world_run (&world);
}
END_TEST

/* ---- monitors and groups */

typedef struct {
    world_t *world;
    int64_t down_us, left_us; /* when it was told */
    int reason, exit_reason;
} watch_t;

static int watch (ctalk_actor_t *self, void *arg)
{
    watch_t *seen = arg;
    ctalk_envelope_t envelope;
    (void) ctalk_actor_monitor (self, 2, ctalk_actor_named ("member"));
    (void) ctalk_group_watch (self, "club", true);
    while (ctalk_actor_recv (self, &envelope, -1) == 0) {
        if (envelope.kind == CTALK_GROUP_LEFT)
            seen->left_us = ctalk_sim_now_us (seen->world->sim);
        if (envelope.kind == CTALK_ACTOR_DOWN) {
            const ctalk_event_t *event = envelope.data;
            seen->reason = event->reason;
            seen->exit_reason = event->exit_reason;
            seen->down_us = ctalk_sim_now_us (seen->world->sim);
        }
        ctalk_envelope_close (&envelope);
    }
    return 0;
}

static int be_member (ctalk_actor_t *self, void *arg)
{
    (void) ctalk_group_join (self, "club");
    return echo (self, arg);
}

static bool watch_an_end (world_t *world, bool crash)
{
    ctki_trouble_t *trouble = &world->trouble;
    watch_t seen = {.world = world};
    ctalk_address_t member;
    if (!world_open (world) || !world_wait_up (world))
        return false;
    CTKI_EXPECT (trouble, ctalk_actor_spawn (world->server[2], "member", be_member, NULL) != 0);
    CTKI_EXPECT (trouble, ctalk_actor_spawn (world->server[1], "watch", watch, &seen) != 0);
    ctalk_sim_sleep_ms (world->sim, 1000);
    CTKI_EXPECT_EQUAL (trouble, ctalk_group_members (world->server[1], "club", &member, 1), 1);
    CTKI_EXPECT (trouble, member.pid == 2 && member.actor == ctalk_actor_named ("member"));
    int64_t before_us = ctalk_sim_now_us (world->sim);
    ctalk_envelope_t end = to_actor (2, "member", 13);
    if (crash)
        CTKI_EXPECT (trouble, ctalk_sim_crash (world->sim, &world->server[2]) >= 0);
    else
        CTKI_EXPECT_EQUAL (trouble, ctalk_send (world->server[1], &end, -1), 0);
    ctalk_sim_sleep_ms (world->sim, LONG_MS);
    CTKI_EXPECT_EQUAL (trouble, ctalk_group_members (world->server[1], "club", &member, 1), 0);
    CTKI_EXPECT_EQUAL (trouble, seen.reason, crash ? CTALK_WHY_DOWN : CTALK_WHY_EXITED);
    CTKI_EXPECT_EQUAL (trouble, seen.exit_reason, crash ? 0 : 13);
    int64_t least_us = crash ? 4000000 : 0, most_us = crash ? 6000000 : 100000;
    CTKI_EXPECT (trouble, seen.down_us >= before_us + least_us && seen.down_us < before_us + most_us);
    CTKI_EXPECT (trouble, seen.left_us >= before_us + least_us && seen.left_us < before_us + most_us);
    return crash ? ctalk_server_close (&world->server[1], 0) >= 0 : world_close (world);
}

static bool watch_an_exit (world_t *world)
{
    return watch_an_end (world, false);
}

static bool watch_a_crash (world_t *world)
{
    return watch_an_end (world, true);
}

/* An actor that ends is told to who monitors it and to its group at once, with its reason; one whose server crashes
 * when DownMs is over. */
START_TEST (monitors)
{
    static const char *const settings[] = {"HeartbeatMs", "500", "SuspectMs", "1500", "DownMs", "5000", NULL};
    world_t world = {.count = 2, .main_fn = watch_an_exit, .settings = settings};
    for (world.options.seed = 1; world.options.seed <= 10; world.options.seed++)
        world_run (&world);
    world.main_fn = watch_a_crash;
    for (world.options.seed = 1; world.options.seed <= 10; world.options.seed++)
        world_run (&world);
}
END_TEST

/* ---- supervisors */

static bool restart_children (world_t *world)
{
    ctki_trouble_t *trouble = &world->trouble;
    const ctalk_child_t children[] = {{.name = "first", .fn = echo, .stop_timeout_ms = 1000},
                                      {.name = "second", .fn = echo, .stop_timeout_ms = 1000}};
    const ctalk_supervision_t how = {.strategy = CTALK_REST_FOR_ONE, .restarts_max = 3, .within_ms = 60 * 1000};
    ctalk_envelope_t reply;
    if (!world_open (world) || !world_wait_up (world))
        return false;
    CTKI_EXPECT (trouble, ctalk_supervisor_spawn (world->server[2], "boss", children, 2, &how) != 0);
    for (int64_t i = 0; i < 20; i++) {
        ctalk_envelope_t end = to_actor (2, i % 2 ? "first" : "second", 13), call = to_actor (2, "second", i + 20);
        CTKI_EXPECT_EQUAL (trouble, ctalk_send (world->server[1], &end, -1), 0);
        ctalk_sim_sleep_ms (world->sim, 30 * 1000); /* never more than three within a minute */
        CTKI_EXPECT_EQUAL (trouble, ctalk_call (world->server[1], &call, &reply, 1000), 0);
        ctalk_envelope_close (&reply);
    }
    for (int i = 0; i < 4; i++) {
        ctalk_envelope_t end = to_actor (2, "first", 13);
        CTKI_EXPECT_EQUAL (trouble, ctalk_send (world->server[1], &end, -1), 0);
        ctalk_sim_sleep_ms (world->sim, 1000);
    }
    ctalk_envelope_t call = to_actor (2, "second", 1);
    CTKI_EXPECT (trouble, ctalk_call (world->server[1], &call, &reply, 1000) == -1 && errno == ESRCH);
    return world_close (world);
}

/* Children are started again for ten minutes, until there were too many ends within a minute. */
START_TEST (supervisors)
{
    world_t world = {.count = 2, .main_fn = restart_children};
    world_run (&world);
}
END_TEST

/* ---- a bank: each server has an account, and clients that pay into all of them */

enum { SERVERS = 3, CLIENTS = 2, PAYMENTS = 40 }; /* clients of each server, payments of each client */

typedef struct {
    uint32_t client, number;
} payment_t;

typedef struct {
    world_t *world;
    ctalk_pid_t pid;
    uint32_t client;
    unsigned paid[SERVERS + 1], unknown[SERVERS + 1]; /* as the client was told */
    bool done;
} client_t;

typedef struct {
    world_t *world;
    uint32_t last[SERVERS * CLIENTS]; /* number of each client's last payment ... */
    unsigned paid[SERVERS * CLIENTS]; /* ... and how many */
    bool ended;
} account_t;

typedef struct {
    client_t client[SERVERS * CLIENTS];
    account_t account[SERVERS + 1];
    uint64_t paid, unknown;
} bank_t;

/* What a client pays comes in its order, and once: a payment that comes late, too. */
static bool book (account_t *account, const ctalk_envelope_t *envelope)
{
    payment_t payment;
    CTKI_EXPECT_EQUAL (&account->world->trouble, envelope->size, sizeof payment);
    memcpy (&payment, envelope->data, sizeof payment);
    CTKI_EXPECT (&account->world->trouble, payment.number > account->last[payment.client]);
    account->last[payment.client] = payment.number;
    account->paid[payment.client]++;
    return true;
}

static int keep_account (ctalk_actor_t *self, void *arg)
{
    account_t *account = arg;
    ctalk_envelope_t envelope;
    while (ctalk_actor_recv (self, &envelope, -1) == 0) {
        if (book (account, &envelope) && ctalk_actor_reply (self, &envelope, envelope.data, envelope.size, 0)
            && errno != EAGAIN && errno != ESHUTDOWN && errno != EHOSTUNREACH)
            ctki_trouble_note (&account->world->trouble, __FILE__, __LINE__, "a reply failed");
        ctalk_envelope_close (&envelope);
    }
    account->ended = true;
    return 7;
}

static bool pay (ctalk_actor_t *self, client_t *client, ctalk_pid_t pid, uint32_t number)
{
    ctki_trouble_t *trouble = &client->world->trouble;
    payment_t payment = {.client = client->client, .number = number};
    ctalk_envelope_t reply, request = to_actor (pid, "account", number);
    request.data = &payment;
    request.size = sizeof payment;
    if (ctalk_actor_call (self, &request, &reply, 10 + (int) world_draw (client->world, 3000)) == 0) {
        bool own = reply.msg_id == number && reply.size == sizeof payment
                   && memcmp (reply.data, &payment, sizeof payment) == 0;
        ctalk_envelope_close (&reply);
        CTKI_EXPECT (trouble, own);
        client->paid[pid]++;
        return true;
    }
    CTKI_EXPECT (trouble, errno == ETIMEDOUT || errno == EAGAIN || errno == EHOSTDOWN);
    client->unknown[pid] += errno != EAGAIN;
    return true;
}

/* Waits by a timer of its own; what is no timer is left where it is. */
static bool is_timer (const ctalk_envelope_t *envelope, void *arg)
{
    (void) arg;
    return envelope->kind == CTALK_TIMER;
}

static bool rest (ctalk_actor_t *self, client_t *client)
{
    ctalk_envelope_t envelope = {.pid = client->pid, .to = ctalk_actor_id (self)};
    CTKI_EXPECT (&client->world->trouble,
                 ctalk_actor_send_after (self, (int) world_draw (client->world, 500), &envelope));
    CTKI_EXPECT_EQUAL (&client->world->trouble, ctalk_actor_recv_match (self, is_timer, NULL, &envelope, -1), 0);
    ctalk_envelope_close (&envelope);
    return true;
}

static int spend (ctalk_actor_t *self, void *arg)
{
    client_t *client = arg;
    for (uint32_t number = 1; number <= PAYMENTS; number++)
        if (!pay (self, client, 1 + (ctalk_pid_t) world_draw (client->world, SERVERS), number) || !rest (self, client))
            break;
    client->done = true;
    return 0;
}

static bool open_bank (world_t *world, bank_t *bank)
{
    for (uint32_t i = 0; i < SERVERS * CLIENTS; i++) {
        ctalk_pid_t pid = 1 + (ctalk_pid_t) i % SERVERS;
        bank->client[i] = (client_t){.world = world, .pid = pid, .client = i};
        if (i < SERVERS) {
            bank->account[pid].world = world;
            CTKI_EXPECT (&world->trouble,
                         ctalk_actor_spawn (world->server[pid], "account", keep_account, &bank->account[pid]) != 0);
        }
        CTKI_EXPECT (&world->trouble, ctalk_actor_spawn (world->server[pid], NULL, spend, &bank->client[i]) != 0);
    }
    return true;
}

static bool all_done (const bank_t *bank)
{
    for (int i = 0; i < SERVERS * CLIENTS; i++)
        if (!bank->client[i].done)
            return false;
    return true;
}

/* Whatever a client was told was paid, was; and no more than what it does not know of besides. */
static bool balance (world_t *world, bank_t *bank)
{
    for (int i = 0; i < SERVERS * CLIENTS; i++)
        for (int pid = 1; pid <= SERVERS; pid++) {
            unsigned booked = bank->account[pid].paid[i], paid = bank->client[i].paid[pid];
            CTKI_EXPECT (&world->trouble, booked >= paid && booked <= paid + bank->client[i].unknown[pid]);
            bank->paid += paid;
            bank->unknown += bank->client[i].unknown[pid];
        }
    return true;
}

static bool keep_bank (world_t *world)
{
    bank_t *bank = world->more;
    if (!world_open (world) || !open_bank (world, bank))
        return false;
    world_begin_trouble (world, SERVERS);
    while (!all_done (bank) && !world->trouble.text[0])
        ctalk_sim_sleep_ms (world->sim, 100);
    world_end_trouble (world);
    ctalk_sim_sleep_ms (world->sim, LONG_MS);
    if (!balance (world, bank))
        return false;
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++) {
        ctalk_stats_t stats;
        uint64_t account = ctalk_actor_named ("account");
        CTKI_EXPECT_EQUAL (&world->trouble, ctalk_actor_stop (world->server[pid], account, LONG_MS), 0);
        CTKI_EXPECT (&world->trouble, bank->account[pid].ended);
        CTKI_EXPECT_EQUAL (&world->trouble, ctalk_server_stats (world->server[pid], CTALK_BROADCAST, &stats), 0);
        CTKI_EXPECT_EQUAL (&world->trouble, stats.actors, 0);
        CTKI_EXPECT_EQUAL (&world->trouble, stats.no_such_actor,
                           stats.late_replies); /* all others found who they were for */
        CTKI_EXPECT_EQUAL (&world->trouble, stats.received, stats.consumed + stats.in_inbox + stats.no_such_actor);
    }
    for (ctalk_pid_t pid = 1; pid <= SERVERS; pid++) /* that the accounts have ended, too */
        CTKI_EXPECT_EQUAL (&world->trouble, ctalk_server_flush (world->server[pid], CTALK_BROADCAST, LONG_MS), 0);
    return world_close (world);
}

/* Under partitions, broken connections and bad ways: each payment is booked once at most, in its client's order; no
 * answer is taken for that to another call; and what was answered was booked. */
START_TEST (a_bank)
{
    uint64_t paid = 0, unknown = 0;
    size_t seeds = ctki_test_count (200);
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        bank_t bank = {.paid = 0};
        world_t world = {.count = SERVERS, .main_fn = keep_bank, .more = &bank, .options.seed = seed};
        world_run (&world);
        paid += bank.paid;
        unknown += bank.unknown;
        ctki_test_progress ("seeds", seed, seeds);
    }
    ctki_test_progress ("", 0, 0);
    ctki_test_figure ("a_bank", "%zu seeds, %llu payments made, %llu not known", seeds, (unsigned long long) paid,
                      (unsigned long long) unknown);
    ck_assert_uint_gt (unknown, seeds);
    ck_assert_uint_gt (paid, unknown);
}
END_TEST

/* With actors, too, a seed replays, and another one does not. */
START_TEST (a_seed_replays)
{
    uint64_t digest[2] = {0};
    for (uint64_t seed = 1; seed <= 5; seed++) {
        for (int i = 0; i < 2; i++) {
            bank_t bank = {.paid = 0};
            world_t world = {.count = SERVERS, .main_fn = keep_bank, .more = &bank, .options.seed = seed};
            world_run (&world);
            ck_assert (i == 1 || world.digest != digest[0]);
            digest[i] = world.digest;
        }
        ck_assert_uint_eq (digest[0], digest[1]);
    }
}
END_TEST

Suite *ctki_suite_sim_actors (void)
{
    Suite *suite = suite_create ("sim_actors");
    TCase *tcase = ctki_leaks_tcase ("sim_actors", 300);
    tcase_add_test (tcase, calls);
    tcase_add_test (tcase, timers);
    tcase_add_test (tcase, monitors);
    tcase_add_test (tcase, supervisors);
    tcase_add_test (tcase, a_bank);
    tcase_add_test (tcase, a_seed_replays);
    suite_add_tcase (suite, tcase);
    return suite;
}
