/*
 * calls.c - the list of the threads that make calls, and waiting for those
 * calls to end.
 *
 * It owns the list and its lock. A record is memory of its thread, which takes
 * it out of the list when it ends.
 */
#include "src/calls.h"

#include <pthread.h>

#include "src/sys.h"

CTKI_THREAD_LOCAL ctki_caller_t ctki_caller;
atomic_uint ctki_calls_awaited;

static ctki_gate_t idle; /* of the process: whoever leaves last must not touch what may be gone */
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static ctki_caller_t *list;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key; /* its destructor says that a thread ends */
static bool has_key;

/* ---- the list */

static void link_caller (ctki_caller_t *me)
{
    me->prev = NULL;
    me->next = list;
    if (list)
        list->prev = me;
    list = me;
}

static void unlink_caller (ctki_caller_t *me)
{
    *(me->prev ? &me->prev->next : &list) = me->next;
    if (me->next)
        me->next->prev = me->prev;
}

/* Calls that the thread makes from now on (in other destructors) are counted. */
static void thread_ends (void *arg)
{
    ctki_caller_t *me = arg;
    me->free = false;
    me->gone = true;
    pthread_mutex_lock (&list_lock);
    unlink_caller (me);
    pthread_mutex_unlock (&list_lock);
}

static void before_fork (void)
{
    pthread_mutex_lock (&list_lock);
}

static void after_fork_parent (void)
{
    pthread_mutex_unlock (&list_lock);
}

/* The other threads are not here, nor do any wait; their memory may be used anew. */
static void after_fork_child (void)
{
    ctki_caller_t *me = has_key ? pthread_getspecific (key) : NULL;
    list = NULL;
    if (me)
        link_caller (me);
    atomic_store (&ctki_calls_awaited, 0);
    pthread_mutex_unlock (&list_lock);
}

static void begin (void)
{
    pthread_atfork (before_fork, after_fork_parent, after_fork_child);
    has_key = pthread_key_create (&key, thread_ends) == 0;
}

/* The library may be unloaded before its callers end. */
__attribute__ ((destructor)) static void end (void)
{
    if (has_key)
        pthread_key_delete (key);
}

/* Puts the thread's record into the list. False: no memory. */
static bool make_known (ctki_caller_t *me)
{
    pthread_once (&once, begin);
    if (me->gone || !has_key || pthread_setspecific (key, me))
        return false;
    pthread_mutex_lock (&list_lock);
    link_caller (me);
    pthread_mutex_unlock (&list_lock);
    return true;
}

/* ---- the rare ways in and out */

void ctki_calls_count_in (ctki_calls_t *calls)
{
    ctki_caller_t *me = ctki_caller_self ();
    bool outermost = me->counted == 0 && !atomic_load_explicit (&me->in, memory_order_relaxed);
    if (outermost && make_known (me)) {
        CTKI_STORE_LIGHT (&me->in, calls);
        return;
    }
    me->counted++;
    atomic_fetch_add (&calls->counted, 1);
}

void ctki_calls_count_out (ctki_calls_t *calls)
{
    ctki_caller_self ()->counted--;
    atomic_fetch_sub (&calls->counted, 1);
}

void ctki_calls_left (void)
{
    ctki_gate_open (&idle);
}

/* ---- waiting */

static bool busy (ctki_calls_t *calls)
{
    bool in = atomic_load (&calls->counted) > 0;
    pthread_mutex_lock (&list_lock);
    for (ctki_caller_t *caller = list; caller && !in; caller = caller->next)
        in = atomic_load (&caller->in) == calls;
    pthread_mutex_unlock (&list_lock);
    return in;
}

void ctki_calls_await (ctki_calls_t *calls)
{
    atomic_fetch_add (&ctki_calls_awaited, 1);
    ctki_fence_heavy (); /* a thread that does not see that it is awaited, or refused, is seen */
    for (;;) {
        unsigned ticket = ctki_gate_ticket (&idle);
        if (!busy (calls))
            break;
        ctki_gate_wait (&idle, ticket, CTKI_FOREVER);
    }
    ctki_gate_leave (&idle);
    atomic_fetch_sub (&ctki_calls_awaited, 1);
}
