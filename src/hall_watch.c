/*
 * hall_watch.c - monitors: who wants to know of an actor's end, and what the
 * actors of this server want to know. See hall.h.
 *
 * A monitor has a number. Whatever comes first (the actor's end, told by its
 * server; that server's being down, gone or another process, seen here) takes it
 * out of the map and tells; what comes later finds nothing: so it is told once.
 * The letter that tells is made with the monitor: to tell needs no memory.
 */
#include <errno.h>
#include <stdio.h>

#include "src/hall.h"
#include "src/mem.h"

/* ---- actors of this server, and who watches them */

int ctki_watcher_add (ctki_hall_t *hall, ctalk_pid_t pid, uint64_t number, uint64_t target)
{
    ctalk_actor_t *actor = ctki_map_get (&hall->actors, target);
    if (!actor) {
        ctki_notice_t down = {.op = CTKI_DOWN, .a = number, .b = (uint64_t) CTALK_WHY_NO_ACTOR << 32};
        return ctki_hall_tell (hall, pid, &down);
    }
    ctki_watcher_t *watcher = ctki_alloc (sizeof *watcher);
    if (!watcher)
        return -1;
    *watcher = (ctki_watcher_t){.due = {.pid = pid, .op = CTKI_DOWN, .a = number}, .next = actor->watchers};
    actor->watchers = watcher;
    return 0;
}

void ctki_watcher_remove (ctki_hall_t *hall, ctalk_pid_t pid, uint64_t number, uint64_t target)
{
    ctalk_actor_t *actor = ctki_map_get (&hall->actors, target);
    for (ctki_watcher_t **link = actor ? &actor->watchers : NULL; link && *link; link = &(*link)->next) {
        ctki_watcher_t *watcher = *link;
        if (watcher->due.pid == pid && watcher->due.a == number) {
            *link = watcher->next;
            ctki_free (watcher);
            return;
        }
    }
}

void ctki_watchers_peer_gone (ctki_hall_t *hall, ctalk_pid_t pid)
{
    for (size_t i = 0; i < hall->actors.capacity; i++) {
        ctalk_actor_t *actor = hall->actors.slots[i].value;
        for (ctki_watcher_t **link = actor ? &actor->watchers : NULL; link && *link;) {
            ctki_watcher_t *watcher = *link;
            if (watcher->due.pid == pid) {
                *link = watcher->next;
                ctki_free (watcher);
            } else
                link = &watcher->next;
        }
    }
}

/* ---- what the actors of this server want to know */

static const char *words (uint32_t why)
{
    switch (why) {
    case CTALK_WHY_EXITED:
        return "its function returned";
    case CTALK_WHY_NO_ACTOR:
        return "there is no such actor";
    case CTALK_WHY_DOWN:
        return "its server is down";
    case CTALK_WHY_RESTARTED:
        return "its server is another process now";
    case CTALK_WHY_REMOVED:
        return "its server is no peer";
    case CTALK_WHY_CLOSING:
        return "its server closed";
    default:
        return "";
    }
}

static void unlink_watch (ctki_hall_t *hall, ctki_watch_t *watch)
{
    ctki_map_remove (&hall->watches, watch->number);
    *watch->link = watch->next;
    if (watch->next)
        watch->next->link = watch->link;
    *watch->all_link = watch->all_next;
    if (watch->all_next)
        watch->all_next->all_link = watch->all_link;
}

static void fire (ctki_hall_t *hall, ctki_watch_t *watch, uint32_t why, int32_t exit_reason)
{
    unlink_watch (hall, watch);
    ctalk_event_t *event = (ctalk_event_t *) (uintptr_t) watch->letter->envelope.data;
    event->reason = (int32_t) why;
    event->exit_reason = exit_reason;
    snprintf (event->text, sizeof event->text, "%s", words (why));
    ctki_mail_put (watch->actor, watch->letter);
    ctki_free (watch);
}

void ctki_watch_fire (ctki_hall_t *hall, ctalk_pid_t pid, uint64_t number, uint32_t why, int32_t exit_reason)
{
    ctki_watch_t *watch = ctki_map_get (&hall->watches, number);
    if (watch && watch->pid == pid)
        fire (hall, watch, why, exit_reason);
}

/* Its actor's server need not tell any more. */
static void call_off (ctki_hall_t *hall, const ctki_watch_t *watch)
{
    ctki_notice_t notice = {.op = CTKI_UNMONITOR, .a = watch->number, .b = watch->target};
    if (watch->target == 0)
        return;
    if (watch->pid == hall->self)
        ctki_watcher_remove (hall, watch->pid, watch->number, watch->target);
    else
        (void) ctki_hall_tell (hall, watch->pid, &notice); /* without memory: it will tell, and nobody listens */
}

void ctki_watches_peer_gone (ctki_hall_t *hall, ctalk_pid_t pid, uint32_t why)
{
    for (ctki_watch_t *watch = hall->all_watches, *next; watch; watch = next) {
        next = watch->all_next;
        if (watch->pid != pid)
            continue;
        if (why == CTALK_WHY_DOWN)
            call_off (hall, watch);
        fire (hall, watch, why, 0);
    }
}

static ctki_watch_t *find (const ctalk_actor_t *actor, ctalk_pid_t pid, uint64_t target)
{
    ctki_watch_t *watch = actor->watches;
    while (watch && (watch->pid != pid || watch->target != target))
        watch = watch->next;
    return watch;
}

/* Not in any list yet. NULL: ENOMEM. */
static ctki_watch_t *make (ctalk_actor_t *actor, ctalk_pid_t pid, uint64_t target)
{
    ctalk_event_t event = {0};
    ctki_watch_t *watch = ctki_alloc_zero (sizeof *watch);
    ctki_letter_t *letter = watch ? ctki_letter_event (actor->hall, CTALK_ACTOR_DOWN, pid, target, &event,
                                                       sizeof event)
                                  : NULL;
    if (!letter) {
        ctki_free (watch);
        return NULL;
    }
    letter->envelope.to = actor->id;
    watch->actor = actor;
    watch->pid = pid;
    watch->target = target;
    watch->letter = letter;
    watch->number = ++actor->hall->numbers;
    return watch;
}

static int link_watch (ctki_hall_t *hall, ctki_watch_t *watch)
{
    ctalk_actor_t *actor = watch->actor;
    if (ctki_map_put (&hall->watches, watch->number, watch))
        return -1;
    watch->next = actor->watches;
    watch->link = &actor->watches;
    if (watch->next)
        watch->next->link = &watch->next;
    actor->watches = watch;
    watch->all_next = hall->all_watches;
    watch->all_link = &hall->all_watches;
    if (watch->all_next)
        watch->all_next->all_link = &watch->all_next;
    hall->all_watches = watch;
    return 0;
}

/* Gets the actor's server to tell, this one among them. -1: ENOMEM. */
static int ask (ctki_hall_t *hall, ctki_watch_t *watch)
{
    ctki_notice_t notice = {.op = CTKI_MONITOR, .a = watch->number, .b = watch->target};
    if (watch->target == 0)
        return 0;
    if (watch->pid != hall->self)
        return ctki_hall_tell (hall, watch->pid, &notice);
    if (ctki_map_get (&hall->actors, watch->target))
        return ctki_watcher_add (hall, hall->self, watch->number, watch->target);
    fire (hall, watch, CTALK_WHY_NO_ACTOR, 0);
    return 0;
}

/* With the lock held. 0, or an errno. */
static int monitor (ctalk_actor_t *actor, ctalk_pid_t pid, uint64_t target)
{
    ctki_hall_t *hall = actor->hall;
    if (atomic_load (&hall->closing))
        return ESHUTDOWN;
    if (find (actor, pid, target))
        return 0;
    ctki_watch_t *watch = make (actor, pid, target);
    if (!watch)
        return ENOMEM;
    if (link_watch (hall, watch)) {
        ctki_letter_free (watch->letter);
        ctki_free (watch);
        return ENOMEM;
    }
    /* Looked at now that it would be told of a change. */
    int state = pid == hall->self ? CTALK_STATE_UP : ctki_hall_state_of (hall, pid);
    if (state == CTALK_STATE_DOWN || state == CTALK_STATE_LEFT) {
        fire (hall, watch, state == CTALK_STATE_DOWN ? CTALK_WHY_DOWN : CTALK_WHY_CLOSING, 0);
        return 0;
    }
    int rc = state < 0 ? -state : ask (hall, watch) ? ENOMEM : 0;
    if (rc) {
        unlink_watch (hall, watch);
        ctki_letter_free (watch->letter);
        ctki_free (watch);
    }
    return rc;
}

int ctki_hall_monitor (ctalk_actor_t *actor, ctalk_pid_t pid, uint64_t target)
{
    ctki_hall_lock (actor->hall);
    int rc = monitor (actor, pid, target);
    ctki_hall_unlock (actor->hall);
    return rc;
}

int ctki_hall_unmonitor (ctalk_actor_t *actor, ctalk_pid_t pid, uint64_t target)
{
    ctki_hall_t *hall = actor->hall;
    ctki_hall_lock (hall);
    ctki_watch_t *watch = find (actor, pid, target);
    if (watch) {
        call_off (hall, watch);
        unlink_watch (hall, watch);
    }
    ctki_hall_unlock (hall);
    bool asked = watch != NULL;
    if (watch) {
        ctki_letter_free (watch->letter);
        ctki_free (watch);
    }
    while (ctki_mail_drop (actor, CTALK_ACTOR_DOWN, pid, target)) /* of one before, too */
        asked = true;
    return asked ? 0 : ESRCH;
}

void ctki_watches_end (ctalk_actor_t *actor, uint32_t why, int32_t exit_reason)
{
    ctki_hall_t *hall = actor->hall;
    for (ctki_watch_t *watch; (watch = actor->watches);) {
        call_off (hall, watch);
        unlink_watch (hall, watch);
        ctki_letter_free (watch->letter);
        ctki_free (watch);
    }
    for (ctki_watcher_t *watcher; (watcher = actor->watchers);) {
        actor->watchers = watcher->next;
        if (watcher->due.pid == hall->self) {
            ctki_watch_fire (hall, hall->self, watcher->due.a, why, exit_reason);
            ctki_free (watcher);
        } else {
            watcher->due.b = (uint64_t) why << 32 | (uint32_t) exit_reason;
            ctki_hall_owe (hall, &watcher->due);
        }
    }
}
