/*
 * hall.h - where a server's user actors are: who there is, their mailboxes, and
 * what is owed to whom when one of them ends. What the halls of two servers tell
 * each other travels as notices (notice.h), in order with the envelopes.
 *
 * One lock guards who there is, and all that concerns two actors; a mailbox has
 * one of its own. What a reader of a mailbox has taken out is its thread's alone.
 *
 * hall.c          who there is, delivery, the end of an actor
 * hall_mail.c     mailboxes, and the line of those who wait for room in one
 * hall_calls.c    calls, and the requests that an actor has not answered
 * hall_watch.c    monitors
 * hall_time.c     timers, and what found no memory and is tried again
 * hall_groups.c   groups
 *
 * What may go wrong: memory is missing for something that cannot be refused. It is
 * tried again 10 ms later, and what must stand behind it waits.
 */
#ifndef CTKI_HALL_H
#define CTKI_HALL_H

#include <clustertalk.h>

#include "src/inbox.h"
#include "src/notice.h"
#include "src/outbox.h"

enum {
    CTKI_HALL_RETRY_MS = 10,
    CTKI_LETTER_BYTES = 512,  /* letters up to this size, payload included, are from a pool: ... */
    CTKI_LETTERS_KEPT = 1024  /* ... they are made in one thread and freed in another, where malloc's locks would meet */
};

typedef struct ctki_hall ctki_hall_t;

/* An envelope in a mailbox. */
typedef struct ctki_letter {
    struct ctki_letter *next;
    ctalk_envelope_t envelope; /* as it is handed out */
    uint64_t charge;           /* 0: of the library's own making, takes no room */
    struct ctki_flow_in *flow; /* from a peer; NULL: from here */
    ctki_peer_t *peer;         /* the same: a reference, whose figures it moves */
    bool inside;               /* it stands in the memory of its lease */
} ctki_letter_t;

typedef struct {
    ctki_letter_t *head, *tail;
} ctki_letters_t;

/* Something that must be told, and found no memory for it. */
typedef struct ctki_due {
    struct ctki_due *next;
    ctalk_pid_t pid;
    ctki_op_t op;
    uint64_t a, b;
} ctki_due_t;

/* What one peer sends to one actor: how much, and how much it may. */
typedef struct ctki_flow_in {
    ctki_due_t due; /* first: that it is over is owed when the actor ends */
    struct ctki_flow_in *next; /* of the actor */
    ctalk_pid_t pid;
    uint64_t number; /* from which envelope on the peer counts, see notice.h */
    bool over; /* the peer counts anew: freed when all of it was taken */
    uint64_t received, consumed, granted; /* charge, since the flow began */
    uint64_t pending; /* the actor's own thread's: taken, and not in `consumed` yet */
} ctki_flow_in_t;

/* A request that an actor has and has not answered. */
typedef struct ctki_request {
    ctki_due_t due; /* first: it is owed itself when the actor ends. a: the call */
    struct ctki_request *same, *next, **link; /* of the same key; of the actor */
    ctalk_actor_t *actor;
} ctki_request_t;

/* Somebody, here or at a peer, who wants to know when an actor of this server ends. */
typedef struct ctki_watcher {
    ctki_due_t due; /* first, as above. pid: whose; a: under which number */
    struct ctki_watcher *next;
} ctki_watcher_t;

/* What an actor of this server wants to know. */
typedef struct ctki_watch {
    struct ctki_watch *next, **link;         /* of the actor */
    struct ctki_watch *all_next, **all_link; /* of the hall */
    uint64_t number;
    ctalk_actor_t *actor;
    ctalk_pid_t pid;
    uint64_t target; /* 0: the server */
    ctki_letter_t *letter; /* made before */
} ctki_watch_t;

/* A sender that waits for room in a mailbox; it lives on its thread's stack, or in a timer. */
typedef struct ctki_standing {
    struct ctki_standing *next, **link;
    ctki_letter_t *letter;
    ctki_seat_t seat;
    atomic_int verdict; /* -1: it waits; else 0 or an errno */
    struct ctki_timer *timer; /* whose it is; NULL: a thread's */
} ctki_standing_t;

typedef struct ctki_timer {
    uint64_t id;
    int64_t due_us; /* CTKI_FOREVER: it was due, and stands */
    size_t place; /* in the heap */
    ctalk_actor_t *actor;
    struct ctki_timer *next, **link; /* of the actor */
    ctki_letter_t *letter;           /* what is to be sent */
    bool own;                        /* to the actor itself */
    ctki_standing_t standing;        /* in the line of ... */
    ctalk_actor_t *stands_at;        /* ... this one of this server; NULL: in none */
    ctki_waiter_t *waiter;           /* it is the outbox's: in line there, or sent; else NULL */
} ctki_timer_t;

/* A call that waits for its answer; on its thread's stack, or in an array of such. */
typedef struct ctki_call {
    struct ctki_call *next, **link;
    uint64_t id;
    ctalk_pid_t pid;
    ctki_seat_t *seat;
    atomic_int state; /* -1: it waits; else 0 or an errno */
    atomic_bool lost; /* the peer is gone: it need not be sent any more */
    bool sent;        /* the caller's own */
    atomic_uint *left; /* of several that one thread waits for; NULL: it is alone */
    ctalk_envelope_t reply;
} ctki_call_t;

struct ctki_member;

struct ctalk_actor {
    ctki_hall_t *hall;
    ctalk_server_t *server;
    ctalk_actor_fn *fn;
    void *arg;
    uint64_t id;
    uint64_t serial; /* counts the actors: those of one name differ in it */
    pthread_t thread;

    /* The mailbox. */
    ctki_lock_t lock;
    ctki_letters_t letters; /* under its lock, as these two */
    uint64_t used;          /* the charge of all letters that were ever put in */
    uint64_t limit;
    uint64_t puts;          /* letters from this server, for the figures */
    atomic_bool filled;     /* something is in `letters` */
    atomic_bool stopping;
    atomic_uint standing;   /* senders in the line */
    ctki_seat_t seat;

    /* Its own thread's. */
    ctki_letters_t mine;    /* taken out of the mailbox and not received yet */
    ctki_count_t freed;     /* the charge of all letters that were taken; others read it */
    uint64_t told_room;     /* what it was when those in line were last served */
    uint64_t pending;       /* of all flows */
    ctki_count_t taken;     /* letters from this server, for the figures */
    bool lead;              /* the last letter came from another server */

    /* Under the hall's lock. */
    ctki_flow_in_t *flows;
    unsigned flows_count;
    ctki_standing_t *first, **last; /* the line */
    ctki_standing_t *stands;        /* this actor, in the line of ... */
    struct ctalk_actor *stands_at;
    ctki_request_t *requests;
    ctki_watcher_t *watchers;
    ctki_watch_t *watches;
    ctki_timer_t *timers;
    struct ctki_member *memberships;
    struct ctki_group_watch *group_watches;
    struct ctalk_actor *next; /* of those that ended */
};

struct ctki_hall {
    ctki_lock_t lock;
    ctalk_pid_t self;
    ctki_inbox_t *inbox;
    ctki_outbox_t *outbox;
    uint64_t mailbox_bytes;
    ctki_pool_t *pool; /* of letters; NULL: none */
    atomic_bool closing;
    bool wake; /* the router, when the lock is free, ... */
    ctki_seat_t *to_wake; /* ... and those who sit here */

    ctki_map_t actors;   /* id to actor */
    uint64_t running;
    uint64_t ids;        /* the last one drawn for an actor, a call, a timer */
    uint64_t serials;
    ctalk_actor_t *ended; /* to be joined */
    ctki_gate_t changed;  /* opened when one ended */

    ctki_map_t calls_map; /* id to call */
    ctki_call_t *calls;
    ctki_map_t requests;  /* of pid and call to the requests of that key */
    uint64_t late;        /* answers */

    ctki_map_t watches;   /* number to watch */
    ctki_watch_t *all_watches;
    uint64_t numbers;

    ctki_timer_t **heap;
    size_t timers, heap_capacity;
    ctki_map_t timers_map;
    atomic_int_fast64_t next_us; /* when the router is to look */

    ctki_inlet_t *kept, **kept_end; /* received, and not delivered for want of memory, with what came behind */
    ctki_due_t *dues, **dues_end;

    ctki_map_t groups; /* hash of the name to the groups of it */
    ctki_map_t ups;    /* pid of a peer that is up: to something */
    bool groups_used;  /* an actor of this server was once a member of one */
    bool groups_due;   /* watchers could not be told, or peers */
    bool grants_due;   /* credit could not be given */
    atomic_bool lines_due; /* a mailbox has room that those in its line were not told of */
    ctki_map_t removed; /* pid of a peer that was removed, and not up since, to something */
    bool removed_any;   /* one may be missing there */

    /* Figures of deliveries on this server. */
    uint64_t puts, taken, lost;
};

void ctki_hall_init (ctki_hall_t *hall, ctalk_pid_t self, ctki_inbox_t *inbox, ctki_outbox_t *outbox,
                     uint64_t mailbox_bytes);
void ctki_hall_fini (ctki_hall_t *hall);

/* From now on everything that waits ends with ESHUTDOWN. */
void ctki_hall_close (ctki_hall_t *hall);

/* Waits until all actors have ended. */
void ctki_hall_join (ctki_hall_t *hall);

static inline void ctki_hall_lock (ctki_hall_t *hall)
{
    ctki_lock_take (&hall->lock);
}

void ctki_hall_unlock (ctki_hall_t *hall);

/* With the lock held: who sits there is woken when it is free. Before a seat goes,
 * and with no lock held: nobody wakes it any more. */
void ctki_hall_wake (ctki_hall_t *hall, ctki_seat_t *seat);
void ctki_hall_await_wakers (ctki_seat_t *seat);

/* The next id of a kind, never used again; with the lock held. */
uint64_t ctki_hall_draw (ctki_hall_t *hall, uint64_t kind);

/* The actor of this hall whose thread this is; NULL: none's. */
ctalk_actor_t *ctki_hall_me (const ctki_hall_t *hall);

/* ---- life (hall.c) */

/* 0: errno as ctalk_actor_spawn (). *serial (it may be NULL) tells this life from others of the name. */
uint64_t ctki_hall_spawn (ctki_hall_t *hall, ctalk_server_t *server, const char *name, ctalk_actor_fn *fn, void *arg,
                          uint64_t *serial);

/* 0, or an errno as ctalk_actor_stop (). serial: that life alone; 0: whoever has the id. */
int ctki_hall_stop (ctki_hall_t *hall, uint64_t id, uint64_t serial, int timeout_ms);

/* Adds what happened on this server to the figures of its own pid. */
void ctki_hall_stats (ctki_hall_t *hall, ctalk_stats_t *stats);

/* ---- delivery */

/* The router: what came from a peer for others than the inbox. It takes the inlet. */
void ctki_hall_receive (ctki_hall_t *hall, ctki_inlet_t *inlet);

/* The router: a peer is up (-1: ENOMEM, to be told again); it is down, has left, is
 * removed (a CTALK_WHY_...), or another process, before anything of that one. */
int ctki_hall_peer_up (ctki_hall_t *hall, ctalk_pid_t pid);
void ctki_hall_peer_gone (ctki_hall_t *hall, ctalk_pid_t pid, uint32_t why);
bool ctki_hall_keeps (ctki_hall_t *hall, ctalk_pid_t pid); /* something of it is not delivered yet, for want of memory */

/* The router: what is due by the time; returns when to look again. */
int64_t ctki_hall_tick (ctki_hall_t *hall, int64_t now_us);

/* To an actor of any server, a call, or an inbox. A wait for room ends with ESHUTDOWN
 * when the thread is an actor's that is to stop; one in the queue of a peer also when
 * *lost (NULL: none) is true: see ctki_outbox_interrupt (). 0, or an errno. */
int ctki_hall_pass (ctki_hall_t *hall, const ctalk_envelope_t *envelope, int timeout_ms, const atomic_bool *lost);

/* An envelope was accepted by the outbox: if it is an answer, the request is done. */
void ctki_hall_sent (ctki_hall_t *hall, const ctalk_envelope_t *envelope);

/* From here to an actor or a call of this server, with the lock held. 0: it took the
 * letter; EAGAIN: no room, and *actor_p is whose; else an errno. */
int ctki_hall_deliver (ctki_hall_t *hall, ctki_letter_t *letter, ctalk_actor_t **actor_p);

/* Tells a peer, with the lock held. -1: no memory, also while something is owed: this
 * must not overtake it. What cannot go to it for another reason is nobody's business
 * any more. */
int ctki_hall_tell (ctki_hall_t *hall, ctalk_pid_t pid, const ctki_notice_t *notice);

/* The same: how much a flow may be in all. */
int ctki_hall_tell_credit (const ctalk_actor_t *actor, const ctki_flow_in_t *flow, uint64_t limit);

/* What is owed, ahead of all else. -1: no memory. */
int ctki_hall_tell_due (ctki_hall_t *hall, const ctki_due_t *due);

/* The same, later if there is no memory now; takes the due over (from ctki_alloc). */
void ctki_hall_owe (ctki_hall_t *hall, ctki_due_t *due);

/* The router is to look at the time, or before: with the lock held. */
void ctki_hall_look_at (ctki_hall_t *hall, int64_t at_us);

/* ---- letters and mailboxes (hall_mail.c) */

/* A letter with a copy of the payload, for the actor `to`, from here. NULL: ENOMEM. */
ctki_letter_t *ctki_letter_new (ctki_hall_t *hall, const ctalk_envelope_t *envelope);

/* The same of the library's own making: an event, a timer's. */
ctki_letter_t *ctki_letter_event (ctki_hall_t *hall, ctalk_kind_t kind, ctalk_pid_t pid, uint64_t from,
                                  const void *data, size_t size);
void ctki_letter_free (ctki_letter_t *letter); /* with its payload */

/* Into the mailbox, whatever it holds; wakes the actor. With the hall's lock held. */
void ctki_mail_put (ctalk_actor_t *actor, ctki_letter_t *letter);

/* The same if there is room, and nobody stands in line for it. */
bool ctki_mail_try_put (ctalk_actor_t *actor, ctki_letter_t *letter);

/* With the hall's lock held: a sender stands in line; is taken out of it, or so
 * with a verdict; those who find room go. */
void ctki_mail_stand (ctalk_actor_t *actor, ctki_standing_t *standing);
void ctki_mail_leave (ctalk_actor_t *actor, ctki_standing_t *standing);
void ctki_mail_decide (ctalk_actor_t *actor, ctki_standing_t *standing, int verdict);
void ctki_mail_serve (ctalk_actor_t *actor);

/* The router: the same for all lines, if room was made that nobody was told of. */
void ctki_lines_serve (ctki_hall_t *hall);

/* The actor's own thread, with no lock held: it is about to wait for something else
 * than letters, and those in line may have what it has taken. */
void ctki_mail_make_room (ctalk_actor_t *actor);

/* From now on it holds so much. */
void ctki_mail_set_limit (ctalk_actor_t *actor, uint64_t bytes);

/* The actor's own thread: the next letter, or the first that match () takes. 0,
 * or an errno as ctalk_actor_recv (). */
int ctki_mail_take (ctalk_actor_t *actor, bool (*match) (const ctalk_envelope_t *envelope, void *arg), void *arg,
                    ctalk_envelope_t *envelope, int timeout_ms);

/* The same: takes out and frees the letter of this kind and origin. */
bool ctki_mail_drop (ctalk_actor_t *actor, ctalk_kind_t kind, ctalk_pid_t pid, uint64_t from);

/* The actor ends, with the hall's lock held: all letters that are left. */
ctki_letters_t ctki_mail_empty (ctalk_actor_t *actor);

/* With the hall's lock held: the flow from a peer to an actor, made if need be, of
 * this number (NULL: ENOMEM); those to which that is due get more credit; those of a
 * peer are over. */
ctki_flow_in_t *ctki_flow_in_of (ctalk_actor_t *actor, ctalk_pid_t pid, uint64_t number);
void ctki_flows_in_grant (ctalk_actor_t *actor);
void ctki_flows_in_peer_gone (ctalk_actor_t *actor, ctalk_pid_t pid);

/* ---- calls (hall_calls.c), with the hall's lock held but for the first three */

/* The state of a peer, with or without the lock: a CTALK_STATE_...; else -EHOSTUNREACH: it is
 * none, or -ENOMEM. */
int ctki_hall_state_of (ctki_hall_t *hall, ctalk_pid_t pid);

int ctki_hall_call (ctki_hall_t *hall, const ctalk_envelope_t *request, ctalk_envelope_t *reply, int timeout_ms);
int ctki_hall_call_all (ctki_hall_t *hall, const ctalk_envelope_t *request, ctalk_answer_t *answers, size_t count,
                        int timeout_ms);

/* An answer: the call takes the envelope with its lease. False: nobody waits for it. */
bool ctki_call_answered (ctki_hall_t *hall, const ctalk_envelope_t *reply);

/* The server pid says that nobody will answer: ignored unless it is the one that was called. */
void ctki_call_failed (ctki_hall_t *hall, ctalk_pid_t pid, uint64_t id, int error);
void ctki_calls_peer_gone (ctki_hall_t *hall, ctalk_pid_t pid);

/* An actor has a request, and owes an answer. -1: ENOMEM. */
int ctki_request_add (ctalk_actor_t *actor, ctalk_pid_t pid, uint64_t call);

/* The actor (which may have ended) did not get it after all; others that have it owe the answer. */
void ctki_request_undo (ctki_hall_t *hall, const ctalk_actor_t *actor, ctalk_pid_t pid, uint64_t call);

/* It was answered, or nobody waits any more. */
void ctki_request_done (ctki_hall_t *hall, ctalk_pid_t pid, uint64_t call);

/* The actor ends: nobody will answer. */
void ctki_requests_fail (ctalk_actor_t *actor);
void ctki_requests_peer_gone (ctki_hall_t *hall, ctalk_pid_t pid);

/* ---- monitors (hall_watch.c), the first two without the lock */

int ctki_hall_monitor (ctalk_actor_t *actor, ctalk_pid_t pid, uint64_t target);
int ctki_hall_unmonitor (ctalk_actor_t *actor, ctalk_pid_t pid, uint64_t target);
int ctki_watcher_add (ctki_hall_t *hall, ctalk_pid_t pid, uint64_t number, uint64_t target); /* -1: ENOMEM */
void ctki_watcher_remove (ctki_hall_t *hall, ctalk_pid_t pid, uint64_t number, uint64_t target);

/* The server pid says what was to be told: ignored unless it is the actor's. */
void ctki_watch_fire (ctki_hall_t *hall, ctalk_pid_t pid, uint64_t number, uint32_t why, int32_t exit_reason);
void ctki_watches_peer_gone (ctki_hall_t *hall, ctalk_pid_t pid, uint32_t why);
void ctki_watchers_peer_gone (ctki_hall_t *hall, ctalk_pid_t pid);

/* The actor ends: those who want to know are told, and what it wanted to know is not told any more. */
void ctki_watches_end (ctalk_actor_t *actor, uint32_t why, int32_t exit_reason);

/* ---- timers (hall_time.c), the first two without the lock */

uint64_t ctki_hall_send_after (ctalk_actor_t *actor, int delay_ms, const ctalk_envelope_t *envelope);
int ctki_hall_cancel (ctalk_actor_t *actor, uint64_t id);
void ctki_timers_end (ctalk_actor_t *actor);

/* One that stood in line is out of it, and over: verdict 0: its letter was taken. */
void ctki_timer_decided (ctki_hall_t *hall, ctki_timer_t *timer, int verdict);
void ctki_hall_run_due (ctki_hall_t *hall, int64_t now_us);

/* ---- groups (hall_groups.c), the first four without the lock */

int ctki_hall_join_group (ctalk_actor_t *actor, const char *name);
int ctki_hall_leave_group (ctalk_actor_t *actor, const char *name);
int ctki_hall_watch_group (ctalk_actor_t *actor, const char *name, bool on);
int ctki_hall_members (ctki_hall_t *hall, const char *name, ctalk_address_t *members, size_t capacity);

int ctki_groups_hear (ctki_hall_t *hall, ctalk_pid_t pid, const ctki_notice_t *notice); /* -1: ENOMEM */
int ctki_groups_peer_up (ctki_hall_t *hall, ctalk_pid_t pid); /* -1: ENOMEM */
void ctki_groups_peer_gone (ctki_hall_t *hall, ctalk_pid_t pid, uint32_t why);
void ctki_groups_end (ctalk_actor_t *actor);
void ctki_groups_retry (ctki_hall_t *hall);
void ctki_groups_fini (ctki_hall_t *hall);

#endif
