/*
 * hall_time.c - timers, in a heap by their time, and what is tried again. The
 * router looks at them in its steps; who makes one that is due before it would
 * look wakes it. See hall.h.
 */
#include <errno.h>

#include "src/hall.h"
#include "src/mem.h"

/* ---- when to look */

void ctki_hall_look_at (ctki_hall_t *hall, int64_t at_us)
{
    if (at_us >= atomic_load (&hall->next_us))
        return;
    atomic_store (&hall->next_us, at_us);
    ctki_bell_ring (hall->outbox->bell);
}

/* ---- what could not be told */

void ctki_hall_owe (ctki_hall_t *hall, ctki_due_t *due)
{
    if (!hall->dues && ctki_hall_tell_due (hall, due) == 0) {
        ctki_free (due);
        return;
    }
    due->next = NULL;
    *hall->dues_end = due;
    hall->dues_end = &due->next;
    ctki_hall_look_at (hall, ctki_now_us () + CTKI_HALL_RETRY_MS * CTKI_MS);
}

static void pay_dues (ctki_hall_t *hall)
{
    for (ctki_due_t *due; (due = hall->dues) && ctki_hall_tell_due (hall, due) == 0;) {
        hall->dues = due->next;
        if (!hall->dues)
            hall->dues_end = &hall->dues;
        ctki_free (due);
    }
    if (hall->dues)
        ctki_hall_look_at (hall, ctki_now_us () + CTKI_HALL_RETRY_MS * CTKI_MS);
}

/* Credit that could not be told: it is told anew from what it should be. */
static void pay_grants (ctki_hall_t *hall)
{
    hall->grants_due = false;
    for (size_t i = 0; i < hall->actors.capacity; i++) {
        ctalk_actor_t *actor = hall->actors.slots[i].value;
        if (actor)
            ctki_flows_in_grant (actor);
    }
}

/* ---- the heap */

static bool is_before (const ctki_timer_t *a, const ctki_timer_t *b)
{
    return a->due_us != b->due_us ? a->due_us < b->due_us : a->id < b->id;
}

static void place (ctki_hall_t *hall, ctki_timer_t *timer, size_t at)
{
    hall->heap[at] = timer;
    timer->place = at;
}

static void sift (ctki_hall_t *hall, ctki_timer_t *timer, size_t at)
{
    while (at > 0 && is_before (timer, hall->heap[(at - 1) / 2])) {
        place (hall, hall->heap[(at - 1) / 2], at);
        at = (at - 1) / 2;
    }
    for (size_t child; (child = 2 * at + 1) < hall->timers; at = child) {
        if (child + 1 < hall->timers && is_before (hall->heap[child + 1], hall->heap[child]))
            child++;
        if (!is_before (hall->heap[child], timer))
            break;
        place (hall, hall->heap[child], at);
    }
    place (hall, timer, at);
}

static int add (ctki_hall_t *hall, ctki_timer_t *timer)
{
    if (hall->timers == hall->heap_capacity) {
        size_t capacity = CTKI_MAX (2 * hall->heap_capacity, (size_t) 16);
        ctki_timer_t **heap = ctki_realloc (hall->heap, capacity * sizeof *heap);
        if (!heap)
            return -1;
        hall->heap = heap;
        hall->heap_capacity = capacity;
    }
    if (ctki_map_put (&hall->timers_map, timer->id, timer))
        return -1;
    hall->timers++;
    sift (hall, timer, hall->timers - 1);
    ctalk_actor_t *actor = timer->actor;
    timer->next = actor->timers;
    timer->link = &actor->timers;
    if (timer->next)
        timer->next->link = &timer->next;
    actor->timers = timer;
    return 0;
}

/* Out of the outbox's line. Whether it was sent. */
static bool withdraw (ctki_hall_t *hall, ctki_timer_t *timer)
{
    const ctalk_envelope_t *envelope = &timer->letter->envelope;
    if (!timer->waiter || ctki_outbox_end (hall->outbox, timer->waiter)) {
        timer->waiter = NULL;
        return false;
    }
    timer->waiter = NULL;
    if (ctki_id_is_call (envelope->to))
        ctki_request_done (hall, envelope->pid, envelope->to);
    return true;
}

/* Out of everything; its letter is the caller's. */
static ctki_letter_t *take_out (ctki_hall_t *hall, ctki_timer_t *timer)
{
    ctki_letter_t *letter = timer->letter;
    if (timer->stands_at)
        ctki_mail_leave (timer->stands_at, &timer->standing);
    (void) withdraw (hall, timer);
    ctki_timer_t *last = hall->heap[--hall->timers];
    if (last != timer)
        sift (hall, last, timer->place);
    ctki_map_remove (&hall->timers_map, timer->id);
    *timer->link = timer->next;
    if (timer->next)
        timer->next->link = timer->link;
    ctki_free (timer);
    return letter;
}

/* ---- when it is due */

void ctki_timer_decided (ctki_hall_t *hall, ctki_timer_t *timer, int verdict)
{
    timer->stands_at = NULL;
    ctki_letter_t *letter = take_out (hall, timer);
    if (verdict)
        ctki_letter_free (letter);
}

/* Not again before that time. */
static void put_off (ctki_hall_t *hall, ctki_timer_t *timer, int64_t due_us)
{
    timer->due_us = due_us;
    sift (hall, timer, timer->place);
}

/* There is no room: it is due no more, but stands in line for it, as a thread would; see ctki_mail_serve (). */
static void stand (ctki_hall_t *hall, ctki_timer_t *timer, ctalk_actor_t *actor)
{
    put_off (hall, timer, CTKI_FOREVER);
    timer->standing = (ctki_standing_t){.letter = timer->letter, .timer = timer};
    timer->stands_at = actor;
    ctki_mail_stand (actor, &timer->standing);
    ctki_fence_heavy ();
    ctki_mail_serve (actor); /* room that was made meanwhile: the timer may be gone now */
}

/* To an actor or a call of this server goes the letter itself. */
static void send_here (ctki_hall_t *hall, ctki_timer_t *timer, int64_t now_us)
{
    ctalk_actor_t *actor;
    ctki_letter_t *letter = timer->letter;
    letter->charge = letter->envelope.size + CTKI_CHARGE_BYTES;
    letter->envelope.flags = 0;
    int rc = ctki_hall_deliver (hall, letter, &actor);
    if (rc == EAGAIN)
        stand (hall, timer, actor);
    else if (rc == ENOMEM)
        put_off (hall, timer, now_us + CTKI_HALL_RETRY_MS * CTKI_MS);
    else {
        (void) take_out (hall, timer);
        if (rc)
            ctki_letter_free (letter);
    }
}

/* Elsewhere, or to the own inbox: the outbox has it from now on, and is asked again until it was sent. */
static void send_away (ctki_hall_t *hall, ctki_timer_t *timer, int64_t now_us)
{
    ctalk_envelope_t envelope = timer->letter->envelope;
    envelope.lease = NULL;
    if (!timer->waiter)
        timer->waiter = ctki_outbox_begin (hall->outbox, &envelope);
    int rc = timer->waiter ? ctki_outbox_look (hall->outbox, timer->waiter) : ENOMEM;
    if (rc == ENOMEM)
        (void) withdraw (hall, timer); /* it begins anew */
    if (rc == EAGAIN || rc == ENOMEM)
        put_off (hall, timer, now_us + CTKI_HALL_RETRY_MS * CTKI_MS);
    else
        ctki_letter_free (take_out (hall, timer));
}

static void run_timer (ctki_hall_t *hall, ctki_timer_t *timer, int64_t now_us)
{
    const ctalk_envelope_t *envelope = &timer->letter->envelope;
    if (timer->own) {
        ctalk_actor_t *actor = timer->actor;
        ctki_mail_put (actor, take_out (hall, timer));
    } else if (envelope->pid == hall->self && envelope->to)
        send_here (hall, timer, now_us);
    else
        send_away (hall, timer, now_us);
}

void ctki_hall_run_due (ctki_hall_t *hall, int64_t now_us)
{
    pay_dues (hall);
    if (hall->grants_due)
        pay_grants (hall);
    if (hall->groups_due)
        ctki_groups_retry (hall);
    ctki_lines_serve (hall);
    while (hall->timers > 0 && hall->heap[0]->due_us <= now_us)
        run_timer (hall, hall->heap[0], now_us);
    if (hall->timers > 0)
        ctki_hall_look_at (hall, hall->heap[0]->due_us);
}

/* ---- for the actor */

static ctki_timer_t *make (ctalk_actor_t *actor, int delay_ms, const ctalk_envelope_t *envelope)
{
    ctki_hall_t *hall = actor->hall;
    ctki_timer_t *timer = ctki_alloc_zero (sizeof *timer);
    ctki_letter_t *letter = timer ? ctki_letter_event (hall, CTALK_MESSAGE, envelope->pid, actor->id, envelope->data,
                                                       envelope->size)
                                  : NULL;
    if (!letter) {
        ctki_free (timer);
        return NULL;
    }
    letter->envelope.msg_id = envelope->msg_id;
    letter->envelope.to = envelope->to;
    letter->envelope.flags = envelope->flags;
    timer->actor = actor;
    timer->letter = letter;
    timer->due_us = ctki_now_us () + delay_ms * CTKI_MS;
    timer->own = envelope->pid == hall->self && envelope->to == actor->id;
    return timer;
}

/* With the lock held: it begins to run. 0, or an errno. */
static int begin (ctki_hall_t *hall, ctki_timer_t *timer)
{
    if (atomic_load (&hall->closing))
        return ESHUTDOWN;
    timer->id = ctki_hall_draw (hall, CTKI_ID_TIMER);
    if (timer->own) {
        timer->letter->envelope.kind = CTALK_TIMER;
        timer->letter->envelope.from = timer->id;
        timer->letter->envelope.flags = 0;
    }
    if (add (hall, timer))
        return ENOMEM;
    ctki_hall_look_at (hall, timer->due_us);
    return 0;
}

uint64_t ctki_hall_send_after (ctalk_actor_t *actor, int delay_ms, const ctalk_envelope_t *envelope)
{
    ctki_hall_t *hall = actor->hall;
    int rc = ctki_outbox_check (hall->outbox, envelope);
    if (rc == 0 && envelope->pid >= 0 && envelope->pid != hall->self) {
        int state = ctki_hall_state_of (hall, envelope->pid);
        rc = state < 0 ? -state : 0;
    }
    ctki_timer_t *timer = rc ? NULL : make (actor, delay_ms, envelope);
    if (!timer) {
        errno = rc ? rc : ENOMEM;
        return 0;
    }
    ctki_hall_lock (hall);
    rc = begin (hall, timer);
    uint64_t id = timer->id;
    ctki_hall_unlock (hall);
    if (rc == 0)
        return id;
    ctki_letter_free (timer->letter);
    ctki_free (timer);
    errno = rc;
    return 0;
}

int ctki_hall_cancel (ctalk_actor_t *actor, uint64_t id)
{
    ctki_hall_t *hall = actor->hall;
    ctki_hall_lock (hall);
    ctki_timer_t *timer = ctki_map_get (&hall->timers_map, id);
    bool its = timer && timer->actor == actor, sent = its && withdraw (hall, timer);
    ctki_letter_t *letter = its ? take_out (hall, timer) : NULL;
    ctki_hall_unlock (hall);
    if (sent) {
        ctki_letter_free (letter);
        return ESRCH;
    }
    if (!letter)
        return ctki_mail_drop (actor, CTALK_TIMER, hall->self, id) ? 0 : ESRCH;
    ctki_letter_free (letter);
    return 0;
}

void ctki_timers_end (ctalk_actor_t *actor)
{
    while (actor->timers)
        ctki_letter_free (take_out (actor->hall, actor->timers));
}
