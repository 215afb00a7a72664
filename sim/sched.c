/*
 * sched.c - lock-step, virtual time and draws; and the calls of
 * clustertalk_sim.h about a run and its threads.
 *
 * Owns the one simulation of the process. The thread of ctalk_sim_run () starts
 * the first task and sleeps; it gets the baton back when a task has ended, to
 * join the thread: its destructors (pthread_key_create ()) run before anybody
 * else does. And when the run is over, or cannot go on.
 */
#include "sim/sched.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>

#include "sim/net.h"
#include "src/error.h"
#include "src/sys.h"

enum {
    LIMIT_MS = 3600 * 1000, /* of a run, by default */
    LATENCY_US_MIN = 50,
    LATENCY_US_MAX = 500,
    RESETS_MAX = 1000, /* a second */
    LOOKS = 1000,      /* of a task without waiting, then it has to wait for ... */
    LOOKS_US = 10,
    NAME_BYTES = 32,
    FDS_MAX = 16 /* that a task waits for at once */
};

enum state { READY, RUNNING, WAITING, ENDED };

struct ctki_task {
    ctki_task_t *prev, *next; /* in the list of all, by number; or of the ready ones, or of those that wait */
    ctki_task_t *prev_queued, *next_queued;
    long number;
    char name[NAME_BYTES];
    enum ctki_task_kind kind;
    enum state state;
    pthread_t thread;
    sem_t baton;
    void *(*fn) (void *);
    void *arg, *result;
    bool awaited; /* somebody joins it */
    int looks;    /* since it waited */
    /* While it waits. */
    const void *at;
    const char *what;
    int64_t until_us;
    int fds[FDS_MAX];
    size_t fds_count;
    int code; /* what the wait gives */
    ctki_alarm_t alarm;
};

/* A list of tasks that are ready, or that wait. */
typedef struct {
    ctki_task_t *head, *tail;
    size_t count;
} queue_t;

enum verdict { NONE, GOING_ON, FINISHED, DEADLOCK, LIMIT, NOT_CLOSED };

struct ctalk_sim {
    ctalk_sim_options_t options;
    ctalk_sim_stats_t stats;
    uint64_t series[CTKI_SERIES];
    uint64_t digest;
    int64_t now_us;
    enum verdict verdict; /* NONE: it has not run */
    ctki_alarm_t **heap;  /* heap[0] is not used */
    size_t alarms, room;
    uint64_t orders;
    ctki_task_t *first, *last; /* all tasks that were not joined */
    queue_t ready, waiting;
    ctki_task_t *running; /* or the one that runs next */
    ctki_task_t *ended;   /* to be joined by the thread of ctalk_sim_run () */
    size_t apps;          /* tasks of that kind that have not ended */
    long numbers;
    sem_t baton;
    ctki_net_t *net;
    ctalk_sim_t *left_next;
};

static ctalk_sim_t *world;
static ctalk_sim_t *left; /* those whose threads wait for ever: their memory is not lost, but kept */
static _Thread_local ctki_task_t *self;

bool ctki_sim_is (const ctalk_sim_t *sim)
{
    return sim && sim == world;
}

ctki_net_t *ctki_sim_net (void)
{
    return world ? world->net : NULL;
}

/* ---- draws: splitmix64 */

static uint64_t step (uint64_t *state)
{
    uint64_t z = *state += UINT64_C (0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C (0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C (0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t ctki_draw (enum ctki_series series)
{
    static uint64_t outside; /* of a simulation, where nothing depends on it */
    return step (world ? &world->series[series] : &outside);
}

uint64_t ctki_draw_below (enum ctki_series series, uint64_t end)
{
    return end > 1 ? ctki_draw (series) % end : 0;
}

/* ---- what has happened */

void ctki_sim_mix (uint64_t word)
{
    uint64_t digest = (world->digest ^ word) * UINT64_C (0x9e3779b97f4a7c15);
    world->digest = digest ^ digest >> 32;
}

void ctki_sim_mix_bytes (const void *data, size_t size)
{
    const uint8_t *at = data;
    ctki_sim_mix (size);
    for (; size >= 8; at += 8, size -= 8)
        ctki_sim_mix (ctki_get64 (at));
    for (; size > 0; at++, size--)
        ctki_sim_mix (*at);
}

bool ctki_sim_is_traced (void)
{
    return world && world->options.trace;
}

void ctki_sim_trace (const char *format, ...)
{
    if (!ctki_sim_is_traced ())
        return;
    FILE *trace = world->options.trace;
    va_list args;
    va_start (args, format);
    fprintf (trace, "%5lld.%06lld ", (long long) (world->now_us / CTKI_S), (long long) (world->now_us % CTKI_S));
    vfprintf (trace, format, args);
    fputc ('\n', trace);
    va_end (args);
}

ctalk_sim_stats_t *ctki_sim_stats (void)
{
    return &world->stats;
}

const ctalk_sim_network_t *ctki_sim_network (void)
{
    return &world->options.network;
}

/* ---- alarms: a heap, the next one at its top */

int64_t ctki_sim_now_us (void)
{
    return world ? world->now_us : 0;
}

static bool before (const ctki_alarm_t *a, const ctki_alarm_t *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void put_at (size_t place, ctki_alarm_t *alarm)
{
    world->heap[place] = alarm;
    alarm->place = place;
}

static void rise (ctki_alarm_t *alarm, size_t place)
{
    for (; place > 1 && before (alarm, world->heap[place / 2]); place /= 2)
        put_at (place, world->heap[place / 2]);
    put_at (place, alarm);
}

static void sink (ctki_alarm_t *alarm, size_t place)
{
    for (size_t child; (child = 2 * place) <= world->alarms; place = child) {
        if (child < world->alarms && before (world->heap[child + 1], world->heap[child]))
            child++;
        if (!before (world->heap[child], alarm))
            break;
        put_at (place, world->heap[child]);
    }
    put_at (place, alarm);
}

void ctki_alarm_unset (ctki_alarm_t *alarm)
{
    size_t place = alarm->place;
    if (place == 0)
        return;
    alarm->place = 0;
    ctki_alarm_t *last = world->heap[world->alarms--];
    if (last == alarm)
        return;
    if (place > 1 && before (last, world->heap[place / 2]))
        rise (last, place);
    else
        sink (last, place);
}

void ctki_alarm_set (ctki_alarm_t *alarm, int64_t at_us)
{
    ctki_alarm_unset (alarm);
    if (at_us == CTKI_FOREVER)
        return;
    if (world->alarms + 1 >= world->room) {
        world->room = world->room ? 2 * world->room : 256;
        world->heap = realloc (world->heap, world->room * sizeof *world->heap);
        CTKI_ASSERT (world->heap);
    }
    alarm->at_us = at_us;
    alarm->order = ++world->orders;
    rise (alarm, ++world->alarms);
}

/* All that are due. */
static void ring_alarms (void)
{
    while (world->alarms > 0 && world->heap[1]->at_us <= world->now_us) {
        ctki_alarm_t *alarm = world->heap[1];
        ctki_alarm_unset (alarm);
        alarm->ring (alarm);
    }
}

/* ---- queues of tasks */

static void enqueue (queue_t *queue, ctki_task_t *task)
{
    task->next_queued = NULL;
    task->prev_queued = queue->tail;
    *(queue->tail ? &queue->tail->next_queued : &queue->head) = task;
    queue->tail = task;
    queue->count++;
}

static void dequeue (queue_t *queue, ctki_task_t *task)
{
    *(task->prev_queued ? &task->prev_queued->next_queued : &queue->head) = task->next_queued;
    *(task->next_queued ? &task->next_queued->prev_queued : &queue->tail) = task->prev_queued;
    queue->count--;
}

static void make_ready (ctki_task_t *task)
{
    task->state = READY;
    enqueue (&world->ready, task);
}

/* Ends a wait. */
static void rouse (ctki_task_t *task, int code)
{
    ctki_alarm_unset (&task->alarm);
    dequeue (&world->waiting, task);
    task->code = code;
    make_ready (task);
}

static void time_is_over (ctki_alarm_t *alarm)
{
    ctki_task_t *task = (ctki_task_t *) (void *) ((char *) alarm - offsetof (ctki_task_t, alarm));
    rouse (task, EAGAIN);
}

/* ---- the baton */

static void await_baton (sem_t *baton)
{
    while (sem_wait (baton) != 0) {
    }
}

static ctki_task_t *draw_ready (void)
{
    uint64_t number = ctki_draw_below (CTKI_OF_TURNS, world->ready.count);
    ctki_task_t *task = world->ready.head;
    for (; number > 0; number--)
        task = task->next_queued;
    dequeue (&world->ready, task);
    return task;
}

/* Who is next; NULL: the run is over, or cannot go on. */
static ctki_task_t *choose (void)
{
    for (;;) {
        ring_alarms ();
        if (world->ready.count > 0)
            return draw_ready ();
        if (world->alarms == 0 || world->heap[1]->at_us > world->options.limit_ms * CTKI_MS) {
            world->verdict = world->alarms == 0 ? DEADLOCK : LIMIT;
            return NULL;
        }
        world->now_us = world->heap[1]->at_us;
    }
}

/* Gives the baton to a task, or to the thread of ctalk_sim_run (). */
static void pass_on (ctki_task_t *task)
{
    world->running = task;
    if (!task) {
        sem_post (&world->baton);
        return;
    }
    task->state = RUNNING;
    world->stats.switches++;
    ctki_sim_mix ((uint64_t) world->now_us);
    ctki_sim_mix ((uint64_t) task->number);
    if (ctki_sim_is_traced ())
        ctki_sim_trace ("%s runs", task->name);
    sem_post (&task->baton);
}

/* The caller waits or is ready, and lets another one run. */
static void give_up (ctki_task_t *task)
{
    int saved = errno;
    ctki_task_t *next = choose ();
    if (next == task) {
        task->state = RUNNING;
        world->running = task;
    } else {
        pass_on (next);
        await_baton (&task->baton);
    }
    errno = saved;
}

ctki_task_t *ctki_task_self (void)
{
    return self;
}

static int wait_here (const void *at, const char *what, int64_t until_us)
{
    ctki_task_t *task = self;
    if (!task) {
        fprintf (stderr, "clustertalk-sim: a call that waits was made outside of the simulation\n");
        abort ();
    }
    CTKI_ASSERT (task->state == RUNNING); /* else a destructor of its thread would wait */
    task->at = at;
    task->what = what;
    task->until_us = until_us;
    task->state = WAITING;
    task->looks = 0;
    task->alarm.ring = time_is_over;
    enqueue (&world->waiting, task);
    ctki_alarm_set (&task->alarm, until_us);
    give_up (task);
    return task->code;
}

int ctki_task_wait (const void *at, const char *what, int64_t until_us)
{
    if (self)
        self->fds_count = 0;
    return wait_here (at, what, until_us);
}

int ctki_task_wait_fds (const int *fds, size_t count, int64_t until_us)
{
    CTKI_ASSERT (count <= FDS_MAX);
    if (self && count > 0)
        memcpy (self->fds, fds, count * sizeof *fds);
    if (self)
        self->fds_count = count;
    return wait_here (NULL, count > 0 ? "messages" : "time", until_us);
}

void ctki_task_wake_all (const void *at)
{
    for (ctki_task_t *task = world ? world->waiting.head : NULL, *next; task; task = next) {
        next = task->next_queued;
        if (task->at == at && task->fds_count == 0)
            rouse (task, 0);
    }
}

void ctki_task_wake_one (const void *at)
{
    uint64_t count = 0;
    for (ctki_task_t *task = world ? world->waiting.head : NULL; task; task = task->next_queued)
        count += task->at == at && task->fds_count == 0;
    if (count == 0)
        return;
    uint64_t number = ctki_draw_below (CTKI_OF_TURNS, count);
    for (ctki_task_t *task = world->waiting.head; task; task = task->next_queued) {
        if (task->at == at && task->fds_count == 0 && number-- == 0) {
            rouse (task, 0);
            return;
        }
    }
}

static bool waits_for (const ctki_task_t *task, int fd)
{
    for (size_t i = 0; i < task->fds_count; i++)
        if (task->fds[i] == fd)
            return true;
    return false;
}

void ctki_task_wake_fd (int fd)
{
    for (ctki_task_t *task = world->waiting.head, *next; task; task = next) {
        next = task->next_queued;
        if (waits_for (task, fd))
            rouse (task, 0);
    }
}

void ctki_task_yield (void)
{
    if (!self)
        return;
    make_ready (self);
    give_up (self);
}

void ctki_task_look (void)
{
    if (self && self->state == RUNNING && ++self->looks >= LOOKS)
        ctki_task_wait (self, "time", world->now_us + LOOKS_US);
}

/* ---- beginning and ending */

/* The thread is joined before anybody else runs. */
static void *run_task (void *arg)
{
    ctki_task_t *task = arg;
    self = task;
    await_baton (&task->baton);
    task->result = task->fn (task->arg);
    task->state = ENDED;
    world->ended = task;
    pass_on (NULL);
    return NULL;
}

static int start_thread (ctki_task_t *task, size_t stack_bytes)
{
    pthread_attr_t attr;
    sigset_t all, saved;
    int rc = pthread_attr_init (&attr);
    if (rc)
        return rc;
    if (stack_bytes > 0)
        pthread_attr_setstacksize (&attr, stack_bytes);
    sigfillset (&all);
    pthread_sigmask (SIG_SETMASK, &all, &saved); /* a new thread inherits the mask */
    rc = pthread_create (&task->thread, &attr, run_task, task);
    pthread_sigmask (SIG_SETMASK, &saved, NULL);
    pthread_attr_destroy (&attr);
    return rc;
}

static void name_task (ctki_task_t *task, const char *name)
{
    char label[16];
    snprintf (task->name, sizeof task->name, "%s", name);
    snprintf (label, sizeof label, "%.15s", name);
    pthread_setname_np (task->thread, label);
}

long ctki_task_number (void)
{
    return self ? self->number : 0;
}

void ctki_task_set_name (const char *name)
{
    if (self)
        name_task (self, name);
}

static void link_task (ctki_task_t *task)
{
    task->number = ++world->numbers;
    task->prev = world->last;
    *(world->last ? &world->last->next : &world->first) = task;
    world->last = task;
    world->apps += task->kind == CTKI_TASK_APP;
    make_ready (task);
}

long ctki_task_start (const char *name, enum ctki_task_kind kind, size_t stack_bytes, void *(*fn) (void *), void *arg)
{
    ctki_task_t *task = calloc (1, sizeof *task);
    if (!task)
        return -ENOMEM;
    task->kind = kind;
    task->fn = fn;
    task->arg = arg;
    sem_init (&task->baton, 0, 0);
    int rc = start_thread (task, stack_bytes);
    if (rc) {
        sem_destroy (&task->baton);
        free (task);
        return -rc;
    }
    name_task (task, name ? name : "thread");
    link_task (task);
    return task->number;
}

static void forget (ctki_task_t *task)
{
    *(task->prev ? &task->prev->next : &world->first) = task->next;
    *(task->next ? &task->next->prev : &world->last) = task->prev;
    sem_destroy (&task->baton);
    free (task);
}

static ctki_task_t *find (long number)
{
    ctki_task_t *task = world->first;
    while (task && task->number != number)
        task = task->next;
    return task;
}

int ctki_task_join (long number, void **result)
{
    ctki_task_t *task = find (number);
    if (!task || task->awaited || task->kind == CTKI_TASK_DETACHED)
        return ESRCH;
    if (task == self)
        return EDEADLK;
    task->awaited = true;
    while (task->state != ENDED)
        ctki_task_wait (task, task->name, CTKI_FOREVER);
    if (result)
        *result = task->result;
    forget (task);
    return 0;
}

/* By the thread of ctalk_sim_run (): the thread of a task is gone. */
static void bury (ctki_task_t *task)
{
    pthread_join (task->thread, NULL);
    world->apps -= task->kind == CTKI_TASK_APP;
    if (ctki_sim_is_traced ())
        ctki_sim_trace ("%s has ended", task->name);
    if (task->awaited)
        ctki_task_wake_all (task);
    else if (task->kind == CTKI_TASK_DETACHED)
        forget (task);
}

static bool some_task_lives (void)
{
    for (const ctki_task_t *task = world->first; task; task = task->next)
        if (task->state != ENDED)
            return true;
    return false;
}

/* By the same: who runs now; NULL: the run is over. */
static ctki_task_t *go_on (void)
{
    if (world->ended)
        bury (world->ended);
    world->ended = NULL;
    if (world->apps == 0 && ctki_net_in_use (world->net))
        world->verdict = NOT_CLOSED;
    else if (!some_task_lives ())
        world->verdict = FINISHED;
    return world->verdict == GOING_ON ? choose () : NULL;
}

typedef struct {
    ctalk_sim_t *sim;
    void (*main_fn) (ctalk_sim_t *sim, void *arg);
    void (*fn) (void *arg);
    void *arg;
} job_t;

static void *do_job (void *arg)
{
    job_t job = *(job_t *) arg;
    free (arg);
    if (job.main_fn)
        job.main_fn (job.sim, job.arg);
    else
        job.fn (job.arg);
    return NULL;
}

/* Returns as ctki_task_start () does. */
static long start_job (const char *name, const job_t *job)
{
    job_t *copy = malloc (sizeof *copy);
    if (!copy)
        return -ENOMEM;
    *copy = *job;
    long number = ctki_task_start (name, CTKI_TASK_APP, 0, do_job, copy);
    if (number < 0)
        free (copy);
    return number;
}

/* ---- the calls: a run */

static bool network_is_valid (const ctalk_sim_network_t *network)
{
    for (size_t i = 0; i < sizeof network->reserved / sizeof network->reserved[0]; i++)
        if (network->reserved[i])
            return false;
    return network->latency_us_min >= 0 && network->latency_us_min <= network->latency_us_max
           && network->resets_per_second >= 0 && network->resets_per_second <= RESETS_MAX;
}

static bool options_are_valid (const ctalk_sim_options_t *options)
{
    for (size_t i = 0; i < sizeof options->reserved / sizeof options->reserved[0]; i++)
        if (options->reserved[i])
            return false;
    return options->limit_ms >= 0 && options->limit_ms <= INT64_MAX / CTKI_MS && network_is_valid (&options->network);
}

void ctki_sim_set_network (const ctalk_sim_network_t *network)
{
    world->options.network = *network;
    if (network->latency_us_max == 0) {
        world->options.network.latency_us_min = LATENCY_US_MIN;
        world->options.network.latency_us_max = LATENCY_US_MAX;
    }
}

int ctalk_sim_set_network (ctalk_sim_t *sim, const ctalk_sim_network_t *network)
{
    if (!ctki_sim_is (sim) || !network || !network_is_valid (network)) {
        errno = EINVAL;
        return -1;
    }
    ctki_sim_set_network (network);
    ctki_net_network_changed (sim->net);
    return 0;
}

static void begin_series (ctalk_sim_t *sim)
{
    uint64_t state = sim->options.seed;
    for (size_t i = 0; i < CTKI_SERIES; i++)
        sim->series[i] = step (&state);
    sim->digest = step (&state);
}

ctalk_sim_t *ctalk_sim_new (const ctalk_sim_options_t *options, ctalk_error_t *error)
{
    static const ctalk_sim_options_t none;
    ctki_error_clear (error);
    options = options ? options : &none;
    int code = world ? EBUSY : !options_are_valid (options) ? EINVAL : 0;
    ctalk_sim_t *sim = code ? NULL : calloc (1, sizeof *sim);
    if (sim && !(sim->net = ctki_net_new ())) {
        free (sim);
        sim = NULL;
    }
    if (!sim) {
        code = code ? code : ENOMEM;
        ctki_error_set (error, code, "%s",
                        code == EBUSY    ? "there is a simulation already"
                        : code == EINVAL ? "the options of the simulation are not valid"
                                         : "out of memory");
        return NULL;
    }
    world = sim;
    sim->options = *options;
    sim->options.limit_ms = options->limit_ms ? options->limit_ms : LIMIT_MS;
    ctki_sim_set_network (&options->network);
    begin_series (sim);
    sem_init (&sim->baton, 0, 0);
    return sim;
}

/* Until the run is over. */
static void preside (ctalk_sim_t *sim)
{
    for (ctki_task_t *next; (next = go_on ()) != NULL;) {
        pass_on (next);
        await_baton (&sim->baton);
        if (!sim->ended)
            return;
    }
}

static int give_verdict (const ctalk_sim_t *sim, ctalk_error_t *error)
{
    double at_s = (double) sim->now_us / 1e6;
    switch (sim->verdict) {
    case DEADLOCK:
        return ctki_error_set (error, EDEADLK, "after %.6f s every thread waits, and nothing is under way", at_s);
    case LIMIT:
        return ctki_error_set (error, ETIME, "after %.6f s the run has not ended: limit_ms is over", at_s);
    case NOT_CLOSED:
        return ctki_error_set (error, EBUSY, "after %.6f s all threads have returned, but a server was not closed",
                               at_s);
    default:
        return 0;
    }
}

int ctalk_sim_run (ctalk_sim_t *sim, void (*main_fn) (ctalk_sim_t *sim, void *arg), void *arg, ctalk_error_t *error)
{
    ctki_error_clear (error);
    if (!ctki_sim_is (sim) || !main_fn || sim->verdict != NONE)
        return ctki_error_set (error, EINVAL, "a simulation runs once, and has a main function");
    job_t job = {.sim = sim, .main_fn = main_fn, .arg = arg};
    long number = start_job ("main", &job);
    if (number < 0)
        return ctki_error_set (error, (int) -number, "cannot start a thread: %s", strerror ((int) -number));
    sim->verdict = GOING_ON;
    preside (sim);
    return give_verdict (sim, error);
}

static void *do_nothing (void *arg)
{
    free (arg);
    return NULL;
}

/* A task whose simulation never ran: it ends. */
static void call_off (ctalk_sim_t *sim, ctki_task_t *task)
{
    task->fn = do_nothing;
    sem_post (&task->baton);
    await_baton (&sim->baton);
    pthread_join (task->thread, NULL);
}

/* Those that have ended, and those that never ran. The others wait for ever. */
static void drop_tasks (ctalk_sim_t *sim)
{
    for (ctki_task_t *task = sim->first, *next; task; task = next) {
        next = task->next;
        if (sim->verdict == NONE)
            call_off (sim, task);
        if (task->state == ENDED)
            forget (task);
    }
}

void ctalk_sim_destroy (ctalk_sim_t **sim_p)
{
    ctalk_sim_t *sim = sim_p ? *sim_p : NULL;
    if (!sim)
        return;
    CTKI_ASSERT (ctki_sim_is (sim) && !self);
    drop_tasks (sim);
    bool clean = !sim->first;
    if (clean) {
        ctki_net_destroy (&sim->net);
        sem_destroy (&sim->baton);
        free (sim->heap);
        free (sim);
    } else {
        sim->left_next = left;
        left = sim;
    }
    world = NULL;
    *sim_p = NULL;
}

uint64_t ctalk_sim_digest (const ctalk_sim_t *sim)
{
    return sim->digest;
}

void ctalk_sim_stats (const ctalk_sim_t *sim, ctalk_sim_stats_t *stats)
{
    *stats = sim->stats;
}

/* One line of ctalk_sim_threads (). */
static int describe (const ctki_task_t *task, char *text, size_t size)
{
    static const char *const states[] = {"is ready", "runs"};
    if (task->state != WAITING)
        return snprintf (text, size, "%s %s\n", task->name, states[task->state]);
    if (task->until_us == CTKI_FOREVER)
        return snprintf (text, size, "%s waits for %s, for ever\n", task->name, task->what);
    return snprintf (text, size, "%s waits for %s, until %.6f s\n", task->name, task->what,
                     (double) task->until_us / 1e6);
}

size_t ctalk_sim_threads (const ctalk_sim_t *sim, char *text, size_t size)
{
    size_t length = 0;
    if (size > 0)
        text[0] = 0;
    for (const ctki_task_t *task = sim->first; task; task = task->next) {
        size_t room = length < size ? size - length : 0;
        if (task->state != ENDED)
            length += (size_t) describe (task, room ? text + length : NULL, room);
    }
    return length;
}

/* ---- the calls: threads */

int ctalk_sim_spawn (ctalk_sim_t *sim, const char *name, void (*fn) (void *arg), void *arg)
{
    if (!ctki_sim_is (sim) || !fn || sim->verdict > GOING_ON || (sim->verdict == GOING_ON && !self)) {
        errno = EINVAL;
        return -1;
    }
    job_t job = {.sim = sim, .fn = fn, .arg = arg};
    long number = start_job (name ? name : "thread", &job);
    if (number > 0)
        return (int) number;
    errno = (int) -number;
    return -1;
}

int ctalk_sim_join (ctalk_sim_t *sim, int thread)
{
    int rc = !ctki_sim_is (sim) || !self ? EPERM : ctki_task_join (thread, NULL);
    if (rc == 0)
        return 0;
    errno = rc;
    return -1;
}

int64_t ctalk_sim_now_us (const ctalk_sim_t *sim)
{
    return sim->now_us;
}

void ctalk_sim_sleep_ms (ctalk_sim_t *sim, int ms)
{
    if (!ctki_sim_is (sim) || !self)
        return;
    if (ms <= 0)
        ctki_task_yield ();
    else
        ctki_task_wait (self, "time", sim->now_us + ms * CTKI_MS);
}

uint64_t ctalk_sim_random (ctalk_sim_t *sim)
{
    return step (&sim->series[CTKI_OF_PROGRAM]);
}

void ctalk_sim_note (ctalk_sim_t *sim, const char *text)
{
    if (!ctki_sim_is (sim))
        return;
    ctki_sim_mix_bytes (text, strlen (text));
    ctki_sim_trace ("%s: %s", self ? self->name : "outside", text);
}
