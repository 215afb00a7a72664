/*
 * test_sys.c - time, random numbers, threads, forks, and the gate.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/sys.h"
#include "tests/support/scale.h"
#include "tests/support/thread.h"

Suite *ctki_suite_sys (void);

enum { TURNS = 20000, CROWD = 4 };

/* ---- time and random numbers */

/* A deadline lies as far ahead as its timeout; -1 is for ever. */
START_TEST (deadlines)
{
    int64_t before = ctki_now_us ();
    int64_t deadline = ctki_deadline_us (1000);
    int64_t after = ctki_now_us ();
    ck_assert_int_ge (deadline, before + CTKI_S);
    ck_assert_int_le (deadline, after + CTKI_S);
    ck_assert (ctki_deadline_us (-1) == CTKI_FOREVER);
    ck_assert (ctki_deadline_us (INT32_MAX) > after);
    ck_assert_int_le (ctki_deadline_us (0), ctki_now_us ());
}
END_TEST

/* Random numbers differ, fill all that is asked for and are never 0. */
START_TEST (randoms)
{
    uint64_t ored = 0, anded = UINT64_MAX, last = 0;
    for (int i = 0; i < 200; i++) {
        uint64_t value = ctki_random64 ();
        ck_assert (value != 0 && value != last);
        last = value;
        ored |= value;
        anded &= value;
    }
    ck_assert (ored == UINT64_MAX && anded == 0);
    uint8_t bytes[300] = {0}, seen[300] = {0};
    for (int round = 0; round < 50; round++) {
        ctki_random (bytes, sizeof bytes - 1);
        for (size_t i = 0; i < sizeof bytes; i++)
            seen[i] |= bytes[i];
    }
    for (size_t i = 0; i < sizeof bytes - 1; i++)
        ck_assert_uint_ne (seen[i], 0);
    ck_assert_uint_eq (bytes[sizeof bytes - 1], 0);
}
END_TEST

/* ---- threads */

typedef struct {
    sigset_t mask;
    atomic_bool named;
    char name[32];
} thread_t;

static void *look_at_itself (void *arg)
{
    thread_t *thread = arg;
    pthread_sigmask (SIG_SETMASK, NULL, &thread->mask);
    while (!atomic_load (&thread->named))
        sched_yield ();
    pthread_getname_np (pthread_self (), thread->name, sizeof thread->name);
    return thread;
}

/* A thread has its name, cut to 15 characters, and blocks every signal; its maker's mask is as it was. */
START_TEST (thread_as_told)
{
    thread_t self = {0};
    sigset_t before, after;
    pthread_t id;
    void *result;
    pthread_sigmask (SIG_SETMASK, NULL, &before);
    ck_assert_int_eq (ctki_thread_start (&id, "name-of-sixteen-and-more", look_at_itself, &self, NULL), 0);
    atomic_store (&self.named, true);
    ck_assert_int_eq (pthread_join (id, &result), 0);
    ck_assert_ptr_eq (result, &self);
    ck_assert_str_eq (self.name, "name-of-sixteen");
    pthread_sigmask (SIG_SETMASK, NULL, &after);
    for (int number = 1; number < SIGRTMAX; number++) {
        ck_assert_int_eq (sigismember (&before, number), sigismember (&after, number));
        /* SIGKILL, SIGSTOP and the two of the C library cannot be blocked. */
        if (number != SIGKILL && number != SIGSTOP && (number < 32 || number > 33))
            ck_assert_msg (sigismember (&self.mask, number) == 1, "signal %d is not blocked", number);
    }
}
END_TEST

/* ---- fork */

/* Each fork makes one more generation in the child and none in the parent. */
START_TEST (generations)
{
    unsigned here = ctki_fork_generation ();
    pid_t child = fork ();
    if (child == 0) {
        if (ctki_fork_generation () != here + 1)
            _exit (1);
        pid_t grandchild = fork ();
        if (grandchild == 0)
            _exit (ctki_fork_generation () == here + 2 ? 0 : 2);
        int status = 0;
        _exit (waitpid (grandchild, &status, 0) == grandchild && status == 0 ? 0 : 3);
    }
    int status;
    ck_assert_int_eq (waitpid (child, &status, 0), child);
    ck_assert_int_eq (status, 0);
    ck_assert_uint_eq (ctki_fork_generation (), here);
}
END_TEST

/* ---- signals */

static void pass_over (int number)
{
    (void) number;
}

/* Only what a handler could run for is held: not what is ignored, by its nature or on request (a process that was
 * stopped has SIGCONT pending), and not what was blocked before. */
START_TEST (held)
{
    static const struct {
        int number;
        void (*handler) (int);
        bool blocked, held;
    } row[] = {{SIGCONT, SIG_DFL, false, false}, {SIGWINCH, SIG_DFL, false, false}, {SIGUSR1, SIG_IGN, false, false},
               {SIGUSR2, pass_over, true, false},   {SIGUSR2, pass_over, false, true},    {SIGCONT, pass_over, false, true}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        struct sigaction action = {.sa_handler = row[i].handler}, was;
        sigset_t one, before, mask;
        sigemptyset (&one);
        sigaddset (&one, row[i].number);
        ck_assert_int_eq (sigaction (row[i].number, &action, &was), 0);
        ck_assert_int_eq (pthread_sigmask (row[i].blocked ? SIG_BLOCK : SIG_UNBLOCK, &one, &mask), 0);
        ctki_signals_hold (&before);
        ck_assert (!ctki_signals_held (&before));
        ck_assert_int_eq (pthread_kill (pthread_self (), row[i].number), 0);
        ck_assert_msg (ctki_signals_held (&before) == row[i].held, "row %zu", i);
        ctki_signals_release (&before);
        ck_assert (!ctki_signals_held (&before) || row[i].blocked);
        ck_assert_int_eq (pthread_sigmask (SIG_SETMASK, &mask, NULL), 0);
        ck_assert_int_eq (sigaction (row[i].number, &was, NULL), 0);
    }
}
END_TEST

/* ---- the gate */

/* A ball that goes round among threads; each waits for its turn. */
typedef struct {
    pthread_mutex_t lock;
    ctki_gate_t gate;
    size_t turn, players, turns;
} game_t;

typedef struct {
    game_t *game;
    size_t number;
} player_t;

static bool await_turn (game_t *game, size_t number, ctki_trouble_t *trouble)
{
    int64_t deadline_us = ctki_deadline_us (ctki_test_long_ms ());
    while (game->turn < game->turns && game->turn % game->players != number) {
        unsigned ticket = ctki_gate_ticket (&game->gate);
        pthread_mutex_unlock (&game->lock);
        int rc = ctki_gate_wait (&game->gate, ticket, deadline_us);
        pthread_mutex_lock (&game->lock);
        CTKI_EXPECT_EQUAL (trouble, rc, 0);
    }
    return true;
}

static bool play (void *arg, ctki_trouble_t *trouble)
{
    player_t *player = arg;
    game_t *game = player->game;
    bool good = true;
    pthread_mutex_lock (&game->lock);
    while (good && game->turn < game->turns) {
        good = await_turn (game, player->number, trouble);
        if (game->turn < game->turns)
            game->turn++;
        pthread_mutex_unlock (&game->lock);
        ctki_gate_open (&game->gate);
        pthread_mutex_lock (&game->lock);
    }
    pthread_mutex_unlock (&game->lock);
    return good;
}

/* No wake-up is lost however threads meet at the gate: a ball goes round to its last turn. */
START_TEST (no_lost_wake)
{
    game_t game = {.lock = PTHREAD_MUTEX_INITIALIZER, .players = (size_t) _i, .turns = ctki_test_count (TURNS)};
    player_t players[CROWD];
    ctki_test_thread_t threads[CROWD];
    for (size_t i = 0; i < game.players; i++) {
        players[i] = (player_t){&game, i};
        ctki_test_thread_start (&threads[i], play, &players[i]);
    }
    for (size_t i = 0; i < game.players; i++)
        ctki_test_thread_join (&threads[i]);
    ck_assert_uint_eq (game.turn, game.turns);
    ck_assert_uint_eq (atomic_load (&game.gate.waiters), 0);
}
END_TEST

/* Tokens that any of several threads takes. */
typedef struct {
    pthread_mutex_t lock;
    ctki_gate_t gate;
    size_t tokens, taken, most;
    bool over;
} shop_t;

static bool buy (void *arg, ctki_trouble_t *trouble)
{
    shop_t *shop = arg;
    int64_t deadline_us = ctki_deadline_us (ctki_test_long_ms ());
    pthread_mutex_lock (&shop->lock);
    while (!shop->over) {
        if (shop->tokens > 0) {
            shop->tokens--;
            shop->over = ++shop->taken == shop->most;
            continue;
        }
        unsigned ticket = ctki_gate_ticket (&shop->gate);
        pthread_mutex_unlock (&shop->lock);
        int rc = ctki_gate_wait (&shop->gate, ticket, deadline_us);
        pthread_mutex_lock (&shop->lock);
        if (rc)
            (void) ctki_trouble_note (trouble, __FILE__, __LINE__, "a wake-up was lost: %d", rc);
        shop->over |= rc != 0;
    }
    pthread_mutex_unlock (&shop->lock);
    ctki_gate_open (&shop->gate);
    return true;
}

/* Waking one waiter per token is enough for all tokens to be taken. */
START_TEST (one_each)
{
    shop_t shop = {.lock = PTHREAD_MUTEX_INITIALIZER, .most = ctki_test_count (TURNS)};
    ctki_test_thread_t threads[CROWD];
    for (size_t i = 0; i < CROWD; i++)
        ctki_test_thread_start (&threads[i], buy, &shop);
    for (size_t i = 0; i < shop.most; i++) {
        pthread_mutex_lock (&shop.lock);
        shop.tokens++;
        pthread_mutex_unlock (&shop.lock);
        ctki_gate_open_one (&shop.gate);
    }
    for (size_t i = 0; i < CROWD; i++)
        ctki_test_thread_join (&threads[i]);
    ck_assert_uint_eq (shop.taken, shop.most);
}
END_TEST

/* A gate that was opened after the ticket was taken lets through at once; a deadline in the past does not. */
START_TEST (tickets)
{
    ctki_gate_t gate = {0};
    unsigned ticket = ctki_gate_ticket (&gate);
    ck_assert_uint_eq (atomic_load (&gate.waiters), 1);
    ctki_gate_open_one (&gate);
    ck_assert_int_eq (ctki_gate_wait (&gate, ticket, CTKI_FOREVER), 0);
    ck_assert_uint_eq (atomic_load (&gate.waiters), 0);
    ck_assert_int_eq (ctki_gate_wait (&gate, ctki_gate_ticket (&gate), 0), EAGAIN);
    (void) ctki_gate_ticket (&gate);
    ctki_gate_leave (&gate);
    ck_assert_uint_eq (atomic_load (&gate.waiters), 0);
}
END_TEST

/* A wait ends at its deadline, not before and not much later. */
START_TEST (deadline)
{
    ctki_gate_t gate = {0};
    int64_t deadline_us = ctki_deadline_us (30);
    ck_assert_int_eq (ctki_gate_wait (&gate, ctki_gate_ticket (&gate), deadline_us), EAGAIN);
    ck_assert_int_ge (ctki_now_us (), deadline_us);
    ck_assert_int_le (ctki_now_us (), deadline_us + ctki_test_ms (2000) * CTKI_MS);
    ck_assert_uint_eq (atomic_load (&gate.waiters), 0);
}
END_TEST

static atomic_int handled;

static void handle (int number)
{
    (void) number;
    atomic_fetch_add (&handled, 1);
}

typedef struct {
    ctki_gate_t gate;
    int64_t deadline_us;
    int rc;
} waiting_t;

static bool wait_there (void *arg, ctki_trouble_t *trouble)
{
    waiting_t *waiting = arg;
    (void) trouble;
    waiting->rc = ctki_gate_wait (&waiting->gate, ctki_gate_ticket (&waiting->gate), waiting->deadline_us);
    return true;
}

/* A signal handler ends a wait with EINTR, even one that asks for a restart, with a deadline and for ever. */
START_TEST (interrupted)
{
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    struct sigaction before;
    ck_assert_int_eq (sigaction (SIGUSR1, &action, &before), 0);
    waiting_t waiting = {.deadline_us = _i ? CTKI_FOREVER : ctki_deadline_us (6 * ctki_test_long_ms ())};
    ctki_test_thread_t thread;
    ctki_test_thread_start (&thread, wait_there, &waiting);
    ctki_test_thread_await_blocked (&thread);
    ctki_test_thread_pester (&thread, SIGUSR1);
    ctki_test_thread_join (&thread);
    ck_assert_int_eq (waiting.rc, EINTR);
    ck_assert_int_ge (atomic_load (&handled), 1);
    ck_assert_uint_eq (atomic_load (&waiting.gate.waiters), 0);
    ck_assert_int_eq (sigaction (SIGUSR1, &before, NULL), 0);
}
END_TEST

static ctki_gate_t *opened_by_handler;

static void open_gate (int number)
{
    (void) number;
    ctki_gate_open (opened_by_handler);
}

/* A gate can be opened from a signal handler, which leaves errno alone. */
START_TEST (from_a_handler)
{
    struct sigaction action = {.sa_handler = open_gate}, before;
    waiting_t waiting = {.deadline_us = CTKI_FOREVER};
    opened_by_handler = &waiting.gate;
    ck_assert_int_eq (sigaction (SIGUSR2, &action, &before), 0);
    ctki_test_thread_t thread;
    ctki_test_thread_start (&thread, wait_there, &waiting);
    ctki_test_thread_await_blocked (&thread);
    errno = 12345;
    raise (SIGUSR2);
    ck_assert_int_eq (errno, 12345);
    ctki_test_thread_join (&thread);
    ck_assert_int_eq (waiting.rc, 0);
    ck_assert_int_eq (sigaction (SIGUSR2, &before, NULL), 0);
}
END_TEST

Suite *ctki_suite_sys (void)
{
    Suite *suite = suite_create ("sys");
    TCase *tcase = tcase_create ("sys");
    tcase_set_timeout (tcase, ctki_test_ms (60000) / 1000.0);
    tcase_add_test (tcase, deadlines);
    tcase_add_test (tcase, randoms);
    tcase_add_test (tcase, thread_as_told);
    tcase_add_test (tcase, generations);
    tcase_add_test (tcase, held);
    tcase_add_loop_test (tcase, no_lost_wake, 2, CROWD + 1);
    tcase_add_test (tcase, one_each);
    tcase_add_test (tcase, tickets);
    tcase_add_test (tcase, deadline);
    tcase_add_loop_test (tcase, interrupted, 0, 2);
    tcase_add_test (tcase, from_a_handler);
    suite_add_tcase (suite, tcase);
    return suite;
}
