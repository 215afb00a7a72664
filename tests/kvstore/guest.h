/*
 * guest.h - a client of the key-value store that does what comes into its head,
 * and says what came of it: operations of a history (linear.h). On real time or on
 * that of a simulation.
 */
#ifndef CTKI_KVSTORE_GUEST_H
#define CTKI_KVSTORE_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include <clustertalk.h>

#include "examples/kvstore_client.h"
#include "tests/kvstore/linear.h"
#include "tests/support/trouble.h"

enum { CTKI_GUEST_KEYS = 3 };

typedef struct {
    kv_client_t client;
    ctalk_server_t *server;
    int answer_ms;                /* how long it waits for the answer of an operation */
    int64_t (*stamp) (void *arg); /* when something is called or has returned: never less than before */
    void *arg;
    uint64_t random;
    uint64_t values;                /* each is put once in a history: this is the last one, of this guest */
    uint64_t last[CTKI_GUEST_KEYS]; /* what it saw last */
} ctki_guest_t;

/* The client's clock and patience may be changed afterwards. Number: another one for each guest of a history. */
void ctki_guest_init (ctki_guest_t *guest, ctalk_server_t *server, const ctalk_pid_t *servers, size_t count,
                      unsigned number, uint64_t seed);

/* Does one operation. false: something came of it that cannot be. */
bool ctki_guest_do (ctki_guest_t *guest, ctki_op_t *op, ctki_trouble_t *trouble);

#endif
