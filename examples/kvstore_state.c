/*
 * kvstore_state.c - keys with their values. Owns copies of both, in the trees of
 * the C library (tsearch).
 */
#include "examples/kvstore_state.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

/* A key and its value in one piece of memory; data: first the one, then the other. */
typedef struct {
    size_t key_size, value_size;
    unsigned char data[];
} pair_t;

typedef struct client {
    uint64_t id;
    uint64_t number;    /* of the last request that was done */
    kv_status_t status; /* what it got */
    void *value;
    size_t value_size;
    TAILQ_ENTRY (client) by_age;
} client_t;

struct kv_state {
    void *pairs;   /* tree of pair_t */
    void *clients; /* tree of client_t */
    size_t clients_count;
    TAILQ_HEAD (, client) quiet; /* the one that was quiet for longest first */
};

static int compare_pairs (const void *a, const void *b)
{
    const pair_t *x = a, *y = b;
    size_t size = x->key_size < y->key_size ? x->key_size : y->key_size;
    int order = memcmp (x->data, y->data, size);
    return order ? order : (x->key_size > y->key_size) - (x->key_size < y->key_size);
}

static int compare_clients (const void *a, const void *b)
{
    const client_t *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static pair_t *new_pair (kv_text_t key, kv_text_t value)
{
    pair_t *pair = kv_resize (NULL, sizeof *pair + key.size + value.size);
    *pair = (pair_t){.key_size = key.size, .value_size = value.size};
    if (key.size)
        memcpy (pair->data, key.data, key.size);
    if (value.size)
        memcpy (pair->data + key.size, value.data, value.size);
    return pair;
}

static pair_t *find (kv_state_t *state, kv_text_t key)
{
    pair_t *wanted = new_pair (key, (kv_text_t){0});
    pair_t *const *found = tfind (wanted, &state->pairs, compare_pairs);
    free (wanted);
    return found ? *found : NULL;
}

static kv_text_t value_of (const pair_t *pair)
{
    return (kv_text_t){.data = pair->data + pair->key_size, .size = pair->value_size};
}

static void put (kv_state_t *state, kv_text_t key, kv_text_t value)
{
    pair_t *pair = new_pair (key, value);
    pair_t **place = tsearch (pair, &state->pairs, compare_pairs);
    if (!place)
        abort ();
    if (*place != pair) {
        free (*place); /* the key is the same: the tree stays in order */
        *place = pair;
    }
}

/* ---- clients */

static void forget (kv_state_t *state, client_t *client)
{
    tdelete (client, &state->clients, compare_clients);
    TAILQ_REMOVE (&state->quiet, client, by_age);
    state->clients_count--;
    free (client->value);
    free (client);
}

/* The client's record, a new one if there is none; it is the youngest now. */
static client_t *client_of (kv_state_t *state, uint64_t id)
{
    client_t *client = kv_resize (NULL, sizeof *client);
    *client = (client_t){.id = id};
    client_t **place = tsearch (client, &state->clients, compare_clients);
    if (!place)
        abort ();
    if (*place == client)
        state->clients_count++;
    else {
        free (client);
        client = *place;
        TAILQ_REMOVE (&state->quiet, client, by_age);
    }
    TAILQ_INSERT_TAIL (&state->quiet, client, by_age);
    if (state->clients_count > KV_CLIENTS_MAX)
        forget (state, TAILQ_FIRST (&state->quiet));
    return client;
}

static void remember (client_t *client, uint64_t number, const kv_answer_t *answer)
{
    client->number = number;
    client->status = answer->status;
    client->value_size = answer->value.size;
    free (client->value);
    client->value = NULL;
    if (answer->value.size)
        client->value = memcpy (kv_resize (NULL, answer->value.size), answer->value.data, answer->value.size);
}

/* ---- what is asked for */

kv_state_t *kv_state_new (void)
{
    kv_state_t *state = kv_resize (NULL, sizeof *state);
    *state = (kv_state_t){0};
    TAILQ_INIT (&state->quiet);
    return state;
}

void kv_state_destroy (kv_state_t **state_p)
{
    kv_state_t *state = *state_p;
    if (!state)
        return;
    while (!TAILQ_EMPTY (&state->quiet))
        forget (state, TAILQ_FIRST (&state->quiet));
    tdestroy (state->pairs, free);
    free (state);
    *state_p = NULL;
}

void kv_state_get (kv_state_t *state, kv_text_t key, kv_answer_t *answer)
{
    const pair_t *pair = find (state, key);
    answer->status = pair ? KV_DONE : KV_ABSENT;
    if (pair)
        answer->value = value_of (pair);
}

static void compare_and_set (kv_state_t *state, const kv_request_t *request, kv_answer_t *answer)
{
    const pair_t *pair = find (state, request->key);
    kv_text_t value = pair ? value_of (pair) : (kv_text_t){0};
    bool is_expected = request->absent
                           ? !pair
                           : pair && value.size == request->expected.size
                                 && (!value.size || !memcmp (value.data, request->expected.data, value.size));
    if (is_expected) {
        put (state, request->key, request->value);
        answer->status = KV_DONE;
        return;
    }
    answer->status = pair ? KV_DIFFERS : KV_ABSENT;
    answer->value = value;
}

void kv_state_apply (kv_state_t *state, const kv_request_t *request, kv_answer_t *answer)
{
    client_t *client = client_of (state, request->client);
    if (request->number < client->number) {
        answer->status = KV_OUTDATED;
        return;
    }
    if (request->number == client->number) {
        answer->status = client->status;
        answer->value = (kv_text_t){.data = client->value, .size = client->value_size};
        return;
    }
    if (request->op == KV_CAS)
        compare_and_set (state, request, answer);
    else {
        put (state, request->key, request->value);
        answer->status = KV_DONE;
    }
    remember (client, request->number, answer);
}
