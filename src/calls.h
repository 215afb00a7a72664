/*
 * calls.h - the calls that are under way on something that may be closed at
 * any time: who closes it refuses new ones and waits for the others to leave.
 *
 * A thread writes down in its own record what it is in, which costs no locked
 * instruction; who closes looks through the records of all threads (the heavy
 * half of the fence is its). A call within another call of the same thread (a
 * user function may send), and those of threads that have no record, are
 * counted instead.
 */
#ifndef CTKI_CALLS_H
#define CTKI_CALLS_H

#include <stdatomic.h>

#include "src/base.h"
#include "src/lock.h"

typedef struct {
    atomic_bool closing;
    atomic_uint counted; /* calls that stand in no record */
} ctki_calls_t;          /* all zero: open */

/* A thread's record. */
typedef struct ctki_caller {
    _Atomic (ctki_calls_t *) in; /* NULL: nothing */
    bool free;                   /* it is in the list, and in no call */
    unsigned counted;            /* its calls that are counted, the innermost ones */
    bool gone;                   /* the thread ends */
    struct ctki_caller *next, *prev;
} ctki_caller_t;

/* Not with AddressSanitizer and its companions: the linker makes a lea, which sets no flags, of the add that finds the
 * record in that model, and a check for NULL that looks at the flags of the add then sees those of something else. */
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
#define CTKI_THREAD_LOCAL _Thread_local __attribute__ ((tls_model ("initial-exec"))) /* no call to find it */
#else
#define CTKI_THREAD_LOCAL _Thread_local
#endif

extern CTKI_THREAD_LOCAL ctki_caller_t ctki_caller;
extern atomic_uint ctki_calls_awaited; /* how many wait for calls to leave */

/* The thread's own record. By way of a register that the compiler knows nothing
 * of: the linker may turn the addition that makes the address into one that sets
 * no flags, and code that asks by them whether it is NULL (UBSan's) goes astray. */
static inline ctki_caller_t *ctki_caller_self (void)
{
    ctki_caller_t *me = &ctki_caller;
    __asm__ ("" : "+r"(me));
    return me;
}

void ctki_calls_count_in (ctki_calls_t *calls);
void ctki_calls_count_out (ctki_calls_t *calls);
void ctki_calls_left (void);

/* The call is over. The memory may be gone as soon as this was written down. */
static inline void ctki_calls_leave (ctki_calls_t *calls)
{
    ctki_caller_t *me = ctki_caller_self ();
    if (CTKI_LIKELY (me->counted == 0)) {
        me->free = true;
        CTKI_STORE_LIGHT (&me->in, NULL);
    } else
        ctki_calls_count_out (calls);
    if (CTKI_UNLIKELY (atomic_load (&ctki_calls_awaited) > 0))
        ctki_calls_left ();
}

/* Whether the call may go on; if so, it must leave. */
static inline bool ctki_calls_enter (ctki_calls_t *calls)
{
    ctki_caller_t *me = ctki_caller_self ();
    if (CTKI_LIKELY (me->free)) {
        me->free = false;
        CTKI_STORE_LIGHT (&me->in, calls);
    } else
        ctki_calls_count_in (calls);
    if (CTKI_LIKELY (!atomic_load (&calls->closing)))
        return true;
    ctki_calls_leave (calls);
    return false;
}

/* From now on calls are refused. */
static inline void ctki_calls_refuse (ctki_calls_t *calls)
{
    atomic_store (&calls->closing, true);
}

/* Waits until the last call has left; after ctki_calls_refuse (). */
void ctki_calls_await (ctki_calls_t *calls);

#endif
