/*
 * actor.c - the life and the loop of an actor.
 */
#include "actors/actor.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>

#include "src/log.h"

int ctki_actor_init (ctki_actor_t *actor, const ctki_actor_ops_t *ops, void *self)
{
    ctki_sock_t *ends[2];
    memset (actor, 0, sizeof *actor);
    if (ctki_sock_pair (ends))
        return -1;
    actor->ops = ops;
    actor->self = self;
    actor->pipe = ends[0];
    ctki_bell_init (&actor->bell, ends[1]);
    if (ops->busy)
        ctki_lead_init (&actor->lead, &actor->bell);
    pthread_mutex_init (&actor->lock, NULL);
    return 0;
}

/* ---- the actor's thread */

/* Reads what came through the pipe: rings and commands. Its descriptor is seldom
 * readable for something else; then it has to be read, too. */
static void obey (ctki_actor_t *actor)
{
    ctki_command_t command;
    if (!ctki_bell_is_called (&actor->bell) && !atomic_load (&actor->rang))
        return;
    atomic_store (&actor->rang, false);
    ctki_bell_hear (&actor->bell);
    for (int size; (size = ctki_pipe_receive (actor->pipe, &command, sizeof command)) > 0;) {
        if (size != sizeof command)
            ctki_bell_heard (&actor->bell);
        else
            actor->ops->command (actor->self, &command);
    }
    if (atomic_load (&actor->asked))
        ctki_actor_end (actor);
}

void ctki_actor_note (ctki_actor_t *actor, int level, const char *format, ...)
{
    va_list args;
    va_start (args, format);
    vsnprintf (actor->note, sizeof actor->note, format, args);
    va_end (args);
    actor->note_level = level;
}

static bool has_stopped (const ctki_actor_t *actor)
{
    return atomic_load_explicit (&actor->stop, memory_order_relaxed);
}

/* One round under the lock; returns until when to sleep. */
static int64_t round_of (ctki_actor_t *actor, int64_t *now_us_p, bool *busy)
{
    pthread_mutex_lock (&actor->lock);
    obey (actor);
    int64_t now_us = *now_us_p = ctki_now_us ();
    int64_t until_us = actor->ops->step (actor->self, now_us);
    bool stay = has_stopped (actor)
                || (until_us > now_us
                    && (!actor->ops->park (actor->self) || ctki_bell_is_called (&actor->bell)));
    if (stay)
        until_us = 0;
    actor->sleeps_us = until_us;
    *busy = actor->ops->busy && actor->ops->busy (actor->self);
    char note[sizeof actor->note];
    int level = actor->note_level;
    if (CTKI_UNLIKELY (level))
        memcpy (note, actor->note, sizeof note);
    actor->note_level = 0;
    pthread_mutex_unlock (&actor->lock);
    if (CTKI_UNLIKELY (level))
        ctki_log (level, "%s", note);
    return until_us;
}

/* Sleeps on the pipe, the sockets, and another descriptor (-1: none). 0, or an errno. */
static int sleep_until (ctki_actor_t *actor, int64_t until_us, int fd, const sigset_t *signals)
{
    int64_t now_us = ctki_now_us ();
    if (until_us <= now_us)
        return 0;
    int fds[CTKI_ACTOR_FDS];
    int count = actor->ops->watch (actor->self, fds);
    struct pollfd items[CTKI_ACTOR_FDS + 2] = {{.fd = ctki_sock_fd (actor->pipe), .events = POLLIN},
                                               {.fd = fd, .events = POLLIN}};
    for (int i = 0; i < count; i++)
        items[i + 2] = (struct pollfd) {.fd = fds[i], .events = POLLIN};
    int64_t wait_us = until_us - now_us;
    struct timespec wait = {.tv_sec = wait_us / CTKI_S, .tv_nsec = wait_us % CTKI_S * 1000};
    int rc = ppoll (items, (nfds_t) count + 2, until_us == CTKI_FOREVER ? NULL : &wait, signals);
    if (rc > 0 && items[0].revents)
        atomic_store (&actor->rang, true);
    return rc < 0 ? errno : 0;
}

/* A round of the own thread, and a sleep. */
static void go_round (ctki_actor_t *actor)
{
    int64_t now_us;
    bool busy, led = actor->ops->busy != NULL;
    int64_t until_us = round_of (actor, &now_us, &busy);
    int64_t after_us = actor->ops->after (actor->self, now_us);
    if (led)
        ctki_lead_judge (&actor->lead, busy);
    if (!led || ctki_lead_is_own (&actor->lead))
        sleep_until (actor, CTKI_MIN (until_us, after_us), -1, NULL);
    else
        ctki_bell_ring (&actor->bell); /* who began to lead meanwhile may not know what this round made due */
}

static void *run (void *arg)
{
    ctki_actor_t *actor = arg;
    bool open = actor->ops->open (actor->self, &actor->error) == 0;
    atomic_store (&actor->opened, open ? 1 : -1);
    ctki_gate_open (&actor->ready);
    while (open && !has_stopped (actor)) {
        if (actor->ops->busy && !ctki_lead_is_own (&actor->lead))
            ctki_lead_stand_by (&actor->lead);
        go_round (actor);
    }
    actor->ops->close (actor->self);
    return NULL;
}

/* ---- other threads */

bool ctki_actor_borrow (ctki_actor_t *actor)
{
    if (atomic_load (&actor->opened) <= 0 || pthread_mutex_trylock (&actor->lock))
        return false;
    if (CTKI_LIKELY (!has_stopped (actor) && !atomic_load (&actor->asked)))
        return true;
    pthread_mutex_unlock (&actor->lock);
    return false;
}

void ctki_actor_give_back (ctki_actor_t *actor)
{
    pthread_mutex_unlock (&actor->lock);
}

int64_t ctki_actor_lead_until (ctki_actor_t *actor)
{
    pthread_mutex_lock (&actor->lock);
    int64_t until_us = actor->sleeps_us;
    pthread_mutex_unlock (&actor->lock);
    return until_us;
}

int64_t ctki_actor_lead_round (ctki_actor_t *actor, bool *busy)
{
    int64_t now_us;
    return round_of (actor, &now_us, busy);
}

int ctki_actor_lead_sleep (ctki_actor_t *actor, int64_t until_us, int fd, const sigset_t *signals)
{
    return sleep_until (actor, until_us, fd, signals);
}

/* ---- its owner */

int ctki_actor_start (ctki_actor_t *actor, const char *name)
{
    int rc = ctki_thread_start (&actor->thread, name, run, actor, actor->sched);
    actor->running = rc == 0;
    return rc;
}

int ctki_actor_await (ctki_actor_t *actor, ctalk_error_t *error)
{
    while (atomic_load (&actor->opened) == 0) {
        unsigned ticket = ctki_gate_ticket (&actor->ready);
        if (atomic_load (&actor->opened) == 0)
            ctki_gate_wait (&actor->ready, ticket, CTKI_FOREVER);
        else
            ctki_gate_leave (&actor->ready);
    }
    if (atomic_load (&actor->opened) > 0)
        return 0;
    if (error)
        *error = actor->error;
    errno = actor->error.code;
    return -1;
}

int ctki_actor_tell (ctki_actor_t *actor, int kind, int64_t number, void *pointer)
{
    ctki_command_t command;
    memset (&command, 0, sizeof command); /* padding, too: the bytes travel */
    command.kind = kind;
    command.number = number;
    command.pointer = pointer;
    return ctki_bell_command (&actor->bell, &command, sizeof command);
}

void ctki_actor_reset (ctki_actor_t *actor)
{
    ctki_actor_join (actor);
    atomic_store (&actor->opened, 0);
}

void ctki_actor_join (ctki_actor_t *actor)
{
    if (actor->running)
        pthread_join (actor->thread, NULL);
    actor->running = false;
}

void ctki_actor_stop (ctki_actor_t *actor)
{
    if (!actor->running)
        return;
    atomic_store (&actor->asked, true);
    ctki_bell_ring (&actor->bell);
    ctki_actor_join (actor);
}

void ctki_actor_drain (ctki_actor_t *actor)
{
    CTKI_ASSERT (!actor->running);
    pthread_mutex_lock (&actor->lock);
    obey (actor);
    pthread_mutex_unlock (&actor->lock);
}

void ctki_actor_fini (ctki_actor_t *actor)
{
    if (!actor->ops)
        return;
    ctki_actor_stop (actor);
    ctki_sock_close (&actor->pipe);
    ctki_bell_fini (&actor->bell);
    pthread_mutex_destroy (&actor->lock);
    actor->ops = NULL;
}
