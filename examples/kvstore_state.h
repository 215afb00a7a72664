/*
 * kvstore_state.h - what the log is about: keys with their values. A state that
 * applies the same entries in the same order becomes the same on every server.
 *
 * It also remembers of each client the last request that changed something, and
 * what became of it: the same one again (the client had no answer, and asked
 * another server) is answered and not done a second time. Of KV_CLIENTS_MAX
 * clients; the one that was quiet for longest is forgotten first.
 */
#ifndef KVSTORE_STATE_H
#define KVSTORE_STATE_H

#include "examples/kvstore_wire.h"

enum { KV_CLIENTS_MAX = 10000 };

typedef struct kv_state kv_state_t;

kv_state_t *kv_state_new (void);
void kv_state_destroy (kv_state_t **state_p);

/* Does a PUT or CAS. The value in the answer stays until the next one is done. */
void kv_state_apply (kv_state_t *state, const kv_request_t *request, kv_answer_t *answer);

/* Answers a GET; the same. */
void kv_state_get (kv_state_t *state, kv_text_t key, kv_answer_t *answer);

#endif
