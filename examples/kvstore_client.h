/*
 * kvstore_client.h - a client of the key-value store, on a server of the cluster
 * that is not one of the store's. One thread at a time; each has its own.
 *
 * A client finds the leader by asking: who is none says who is. A request whose
 * answer does not come is sent again with the same number, here or there, until
 * there is an answer or the time is over. In that case it may have been done, or
 * be done later; it is not any more once a later request of this client was.
 */
#ifndef KVSTORE_CLIENT_H
#define KVSTORE_CLIENT_H

#include "examples/kvstore_wire.h"

enum {
    KV_TRY_MS = 1000, /* for the answer of one server */
    KV_PAUSE_MS = 20  /* when none of them could be asked */
};

/* Where time comes from. */
typedef struct {
    int64_t (*now_ms) (void *arg);
    void (*pause_ms) (void *arg, int ms);
    void *arg;
} kv_clock_t;

typedef struct {
    uint64_t id, number; /* of the client, and of its last request */
    const ctalk_pid_t *servers;
    size_t count;
    size_t next;      /* whom to ask */
    size_t failed;    /* so many could not be asked, one after the other */
    int try_ms;       /* KV_TRY_MS unless changed */
    kv_clock_t clock; /* the system's unless changed */
} kv_client_t;

/* The servers must live as long. Id: no other client's in the whole cluster, ever; see kv_client_id (). */
void kv_client_init (kv_client_t *client, uint64_t id, const ctalk_pid_t *servers, size_t count);

/* The incarnation of a server is a random number, drawn at its start; which: 0, 1 ... for the clients on it. */
uint64_t kv_client_id (ctalk_server_t *server, unsigned which);

/*
 * Does a request (op, key, value, expected, absent), and fills in the rest of it.
 * 0: answered; the answer's value stays until *reply is closed. -1, and *reply is
 * zeroed: ETIMEDOUT: no answer in time; ESHUTDOWN, EINTR and others of
 * ctalk_call (): the same; EPROTO: somebody else answers there.
 */
int kv_client_do (kv_client_t *client, ctalk_server_t *server, kv_request_t *request, kv_answer_t *answer,
                  ctalk_envelope_t *reply, int timeout_ms);

#endif
