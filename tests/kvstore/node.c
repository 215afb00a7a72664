/*
 * node.c - the processes of the tests of the key-value store. A server process
 * waits for orders on its socket pair and answers each; a client process waits for
 * the order to end. Owns the folder, the ports and the shared memory.
 */
#include "tests/kvstore/node.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "examples/kvstore_actor.h"
#include "tests/kvstore/guest.h"
#include "tests/support/scale.h"
#include "tests/support/thread.h"

enum {
    CUT = 1,
    HEAL,
    WHO,
    END,
    HEARTBEAT_MS = 30,
    ELECTION_MS = 150,
    TRY_MS = 150,
    ANSWER_MS = 400, /* so that some have no answer while there is no leader */
    CLOSE_MS = 2000,
    FOR_EVER_MS = 1 << 30
};

typedef struct {
    int what;
    unsigned set;
} order_t;

/* ---- a server */

static bool cut (ctalk_server_t *server, unsigned set, ctki_trouble_t *trouble)
{
    for (ctalk_pid_t pid = 1; pid <= CTKI_KV_SERVERS; pid++)
        if (set >> (pid - 1) & 1 && pid != ctalk_server_pid (server))
            CTKI_EXPECT (trouble, ctalk_server_cut (server, pid, CTALK_IN | CTALK_OUT, true) == 0);
    return true;
}

/* Its own actor. */
static bool ask_who (ctalk_server_t *server, kv_answer_t *answer, ctki_trouble_t *trouble)
{
    kv_client_t client;
    kv_request_t request = {.op = KV_WHO};
    ctalk_envelope_t reply;
    ctalk_pid_t pid = ctalk_server_pid (server);
    kv_client_init (&client, 1, &pid, 1);
    CTKI_EXPECT (trouble, kv_client_do (&client, server, &request, answer, &reply, ctki_test_long_ms ()) == 0);
    ctalk_envelope_close (&reply);
    answer->value = (kv_text_t){0};
    return true;
}

static bool obey (ctalk_server_t *server, int fd, const order_t *order, ctki_trouble_t *trouble)
{
    kv_answer_t answer = {0};
    if (order->what == CUT && !cut (server, order->set, trouble))
        return false;
    if (order->what == HEAL)
        CTKI_EXPECT (trouble, ctalk_server_cut (server, CTALK_BROADCAST, CTALK_IN | CTALK_OUT, false) == 0);
    if (order->what == WHO && !ask_who (server, &answer, trouble))
        return false;
    CTKI_EXPECT (trouble, ctki_process_write (fd, &answer, sizeof answer));
    return true;
}

static bool serve (int fd, ctki_kv_t *kv, kv_options_t *options, ctki_trouble_t *trouble)
{
    ctalk_error_t error = {.text = ""};
    ctalk_server_t *server = ctalk_server_new (kv->next_pid, kv->config, &error);
    order_t order = {0};
    bool ok = true;
    if (!server)
        return ctki_trouble_note (trouble, __FILE__, __LINE__, "%s", error.text);
    CTKI_EXPECT (trouble, ctalk_actor_spawn (server, KV_ACTOR, kv_actor, options) != 0);
    while (ok && ctki_process_read (fd, &order, sizeof order, FOR_EVER_MS) && order.what != END)
        ok = obey (server, fd, &order, trouble);
    ctalk_envelope_t failed;
    if (ok && ctalk_recv (server, &failed, 0) == 0)
        ok = ctki_trouble_note (trouble, __FILE__, __LINE__, "the actor: %.*s", (int) failed.size,
                                (const char *) failed.data);
    (void) ctalk_server_close (&server, ctki_test_ms (CLOSE_MS));
    return ok;
}

static bool run_server (int fd, void *arg, ctki_trouble_t *trouble)
{
    ctki_kv_t *kv = arg;
    kv_disk_t disk;
    kv_options_t options = {.members = kv->members,
                            .members_count = CTKI_KV_SERVERS,
                            .disk = &disk,
                            .heartbeat_ms = ctki_test_ms (HEARTBEAT_MS),
                            .election_ms = ctki_test_ms (ELECTION_MS),
                            .reads_dirty = kv->reads_dirty};
    CTKI_EXPECT (trouble, kv_disk_open (&disk, kv->folder, kv->next_pid));
    bool ok = serve (fd, kv, &options, trouble);
    kv_disk_close (&disk);
    return ok;
}

/* ---- a client */

typedef struct {
    ctki_kv_t *kv;
    ctki_kv_history_t *history;
    ctki_guest_t guest;
    ctki_test_thread_t thread;
} visit_t;

static int64_t now_ns (void *arg)
{
    struct timespec now;
    (void) arg;
    (void) clock_gettime (CLOCK_MONOTONIC, &now); /* the same in all processes */
    return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
}

static void count (ctki_kv_shared_t *shared, const ctki_op_t *op)
{
    bool answered = op->returned != CTKI_NEVER;
    atomic_fetch_add (answered ? &shared->answered : &shared->unanswered, 1);
    if (answered && op->done)
        atomic_fetch_add (&shared->written, 1);
}

static bool run_visit (void *arg, ctki_trouble_t *trouble)
{
    visit_t *visit = arg;
    ctki_kv_shared_t *shared = visit->kv->shared;
    ctki_kv_history_t *history = visit->history;
    while (!atomic_load (&shared->stop) && history->count < CTKI_KV_OPS_MAX) {
        ctki_op_t *op = &history->op[history->count++];
        if (!ctki_guest_do (&visit->guest, op, trouble))
            return false;
        count (shared, op);
    }
    return true;
}

static void begin_visit (visit_t *visit, ctki_kv_t *kv, ctalk_server_t *server, size_t number)
{
    *visit = (visit_t){.kv = kv, .history = &kv->shared->history[number]};
    ctki_guest_init (&visit->guest, server, kv->members, CTKI_KV_SERVERS, (unsigned) number, kv->seed);
    visit->guest.client.try_ms = ctki_test_ms (TRY_MS);
    visit->guest.answer_ms = ctki_test_ms (ANSWER_MS);
    visit->guest.stamp = now_ns;
    ctki_test_thread_start (&visit->thread, run_visit, visit);
}

static bool run_client (int fd, void *arg, ctki_trouble_t *trouble)
{
    ctki_kv_t *kv = arg;
    ctalk_error_t error = {.text = ""};
    ctalk_server_t *server = ctalk_server_new (kv->next_pid, kv->config, &error);
    static visit_t visits[CTKI_KV_THREADS];
    order_t order;
    bool ok = true;
    if (!server)
        return ctki_trouble_note (trouble, __FILE__, __LINE__, "%s", error.text);
    for (size_t i = 0; i < CTKI_KV_THREADS; i++)
        begin_visit (&visits[i], kv, server, (size_t) (kv->next_pid - CTKI_KV_SERVERS - 1) * CTKI_KV_THREADS + i);
    (void) ctki_process_read (fd, &order, sizeof order, FOR_EVER_MS);
    for (size_t i = 0; i < CTKI_KV_THREADS; i++)
        ok = ctki_test_thread_end (&visits[i].thread, trouble) && ok;
    (void) ctalk_server_close (&server, ctki_test_ms (CLOSE_MS));
    return ok;
}

/* ---- the test's side */

static void give (ctki_process_t *process, int what, unsigned set)
{
    order_t order = {.what = what, .set = set};
    ck_assert (ctki_process_write (process->fd, &order, sizeof order));
}

static void make_config (ctki_kv_t *kv)
{
    char endpoint[32];
    ctki_ports_take (&kv->ports, CTKI_KV_SERVERS + CTKI_KV_CLIENTS);
    kv->config = ctalk_config_new ();
    ck_assert_ptr_nonnull (kv->config);
    for (size_t i = 0; i < kv->ports.count; i++) {
        (void) snprintf (endpoint, sizeof endpoint, "127.0.0.1:%d", kv->ports.port[i]);
        ck_assert_int_eq (ctalk_config_add_server (kv->config, (ctalk_pid_t) i + 1, endpoint, NULL), 0);
    }
    ck_assert_int_eq (ctalk_config_set (kv->config, "HeartbeatMs", ctki_test_ms_text (50), NULL), 0);
    ck_assert_int_eq (ctalk_config_set (kv->config, "SuspectMs", ctki_test_ms_text (200), NULL), 0);
    ck_assert_int_eq (ctalk_config_set (kv->config, "DownMs", ctki_test_ms_text (500), NULL), 0);
}

void ctki_kv_set_up (ctki_kv_t *kv, bool reads_dirty)
{
    *kv = (ctki_kv_t){.reads_dirty = reads_dirty, .seed = 20261};
    make_config (kv);
    (void) snprintf (kv->folder, sizeof kv->folder, "/tmp/ctalk-kv-XXXXXX");
    ck_assert_ptr_nonnull (mkdtemp (kv->folder));
    void *memory = mmap (NULL, sizeof *kv->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne (memory, MAP_FAILED);
    kv->shared = memory;
    for (size_t i = 0; i < CTKI_KV_SERVERS; i++)
        kv->members[i] = (ctalk_pid_t) i + 1;
}

void ctki_kv_tear_down (ctki_kv_t *kv)
{
    char path[128];
    ctki_kv_join_clients (kv);
    for (size_t i = 0; i < CTKI_KV_SERVERS; i++) {
        if (kv->server[i].pid) {
            give (&kv->server[i], END, 0);
            ctki_process_join (&kv->server[i], ctki_test_long_ms ());
        }
        (void) snprintf (path, sizeof path, "%s/%zu.log", kv->folder, i + 1);
        (void) unlink (path);
    }
    ck_assert_int_eq (rmdir (kv->folder), 0);
    ck_assert_int_eq (munmap (kv->shared, sizeof *kv->shared), 0);
    ctalk_config_destroy (&kv->config);
    ctki_ports_release (&kv->ports);
}

void ctki_kv_start_server (ctki_kv_t *kv, size_t i)
{
    kv->next_pid = (ctalk_pid_t) i + 1;
    ctki_process_start (&kv->server[i], run_server, kv);
}

void ctki_kv_start_client (ctki_kv_t *kv, size_t i)
{
    kv->next_pid = (ctalk_pid_t) (CTKI_KV_SERVERS + i + 1);
    ctki_process_start (&kv->client[i], run_client, kv);
}

void ctki_kv_kill (ctki_kv_t *kv, size_t i)
{
    ctki_process_kill (&kv->server[i]);
}

void ctki_kv_join_clients (ctki_kv_t *kv)
{
    atomic_store (&kv->shared->stop, true);
    for (size_t i = 0; i < CTKI_KV_CLIENTS; i++)
        if (kv->client[i].pid) {
            give (&kv->client[i], END, 0);
            ctki_process_join (&kv->client[i], ctki_test_long_ms ());
        }
}

static kv_answer_t tell (ctki_kv_t *kv, size_t i, int what, unsigned set)
{
    kv_answer_t answer = {0};
    give (&kv->server[i], what, set);
    ck_assert_msg (ctki_process_read (kv->server[i].fd, &answer, sizeof answer, ctki_test_long_ms ()),
                   "server %zu does not answer", i + 1);
    return answer;
}

void ctki_kv_cut (ctki_kv_t *kv, size_t i, unsigned set)
{
    (void) tell (kv, i, set ? CUT : HEAL, set);
}

kv_answer_t ctki_kv_who (ctki_kv_t *kv, size_t i)
{
    return tell (kv, i, WHO, 0);
}

/* ---- waiting */

typedef struct {
    ctki_kv_t *kv;
    unsigned set;
    size_t found, goal;
} wish_t;

static bool one_leads (void *arg)
{
    wish_t *wish = arg;
    uint64_t term = 0;
    for (size_t i = 0; i < CTKI_KV_SERVERS; i++) {
        if (!(wish->set >> i & 1) || !wish->kv->server[i].pid)
            continue;
        kv_answer_t answer = ctki_kv_who (wish->kv, i);
        if (answer.leader == (ctalk_pid_t) i + 1 && answer.term > term) {
            wish->found = i;
            term = answer.term;
        }
    }
    return term > 0;
}

size_t ctki_kv_await_leader (ctki_kv_t *kv, unsigned set)
{
    wish_t wish = {.kv = kv, .set = set};
    ck_assert_msg (ctki_test_until (one_leads, &wish, ctki_test_long_ms ()), "none of the servers leads");
    return wish.found;
}

static bool has_applied (void *arg)
{
    const wish_t *wish = arg;
    return ctki_kv_who (wish->kv, wish->found).applied >= wish->goal;
}

void ctki_kv_await_caught_up (ctki_kv_t *kv, size_t i, size_t leader)
{
    wish_t wish = {.kv = kv, .found = i, .goal = ctki_kv_who (kv, leader).commit};
    ck_assert_msg (ctki_test_until (has_applied, &wish, ctki_test_long_ms ()), "server %zu does not catch up", i + 1);
}

static bool has_written (void *arg)
{
    const wish_t *wish = arg;
    return atomic_load (&wish->kv->shared->written) >= wish->goal;
}

void ctki_kv_await_writes (ctki_kv_t *kv, size_t more)
{
    wish_t wish = {.kv = kv, .goal = atomic_load (&kv->shared->written) + more};
    ck_assert_msg (ctki_test_until (has_written, &wish, ctki_test_long_ms ()), "no %zu more writes", more);
}
