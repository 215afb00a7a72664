/*
 * resolver.h - name look-ups that delay nobody: libzmq gets numeric addresses
 * only (pitfall C10), and no thread of a server ever waits for a name.
 *
 * There is one resolver per process, for as long as somebody holds a reference
 * to it. A look-up is a request for one name; look-ups of the same name that
 * are under way at the same time share one question to the system. At most
 * CTKI_RESOLVER_THREADS questions are asked at once, each on a thread that ends
 * when no name waits any more; further names wait in the order in which they came.
 *
 * Any thread may call any of these functions. None of them waits for an answer.
 */
#ifndef CTKI_RESOLVER_H
#define CTKI_RESOLVER_H

#include "src/base.h"

enum {
    CTKI_RESOLVER_THREADS = 8,  /* questions asked at once */
    CTKI_RESOLVER_NAMES = 4096, /* that may wait behind them */
    CTKI_ADDRESS_BYTES = 64,    /* the longest numeric address with its zone, its end included */
    CTKI_RESOLVER_REASON_BYTES = 128
};

typedef struct ctki_lookup ctki_lookup_t;

/* Takes a reference to the resolver. -1: ENOMEM. */
int ctki_resolver_ref (void);

/* Gives it back, after the look-ups that were asked for under it have been
 * destroyed. Questions that still hang end by themselves, and their threads
 * free what they hold. */
void ctki_resolver_unref (void);

/*
 * Asks for the address of a host: a name, copied. The result belongs to the
 * caller: ctki_lookup_destroy ().
 *
 *   done   called once, when there is an answer, on a thread of the resolver
 *          and perhaps before this call returns; no lock is held. It must not
 *          block. It may call any function of this file, also destroy for this
 *          look-up.
 *
 * NULL: ENOMEM; EAGAIN: too many names wait, or no thread can be started.
 */
ctki_lookup_t *ctki_resolver_ask (const char *host, void (*done) (void *arg), void *arg);

/*
 * The answer. False: there is none yet. Otherwise address holds a numeric
 * address, IPv6 without brackets: the first IPv4 address in the order of the
 * system, for want of one the first address; or it is empty, and reason says
 * why. CTKI_ADDRESS_BYTES and CTKI_RESOLVER_REASON_BYTES are always enough.
 */
bool ctki_lookup_result (ctki_lookup_t *lookup, char *address, size_t size, char *reason, size_t reason_size);

/*
 * Ends a look-up, answered or not, and sets the pointer to NULL. When it
 * returns, done is not running and will not be called: it waits for a done that
 * runs on another thread, never for the answer. NULL and a pointer to NULL are
 * harmless. In a child of a fork it frees a look-up of the parent's.
 */
void ctki_lookup_destroy (ctki_lookup_t **lookup_p);

/* Tests: asks this function instead of the system; it writes the address and
 * returns 0, or returns an EAI_ code. NULL: the system again. */
void ctki_resolver_set_lookup (int (*lookup) (const char *host, char *address, size_t size));

#endif
