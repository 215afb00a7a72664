/*
 * kvstore_wire.h - the bytes of the key-value store: what a client and a server
 * say to each other, and what the servers say among themselves.
 *
 * Numbers are little-endian, texts have their length in front. Whatever is read
 * came from outside and is checked: a reader that runs over the end gives zeros
 * from then on, and says so when asked.
 */
#ifndef KVSTORE_WIRE_H
#define KVSTORE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <clustertalk.h>

#include "examples/kvstore_log.h"

enum {
    KV_KEY_MAX = 255,    /* bytes of a key */
    KV_VALUE_MAX = 32768 /* bytes of a value */
};

/* The msg_id of a client's request; those below are a kv_message_kind_t. */
enum { KV_REQUEST = 100 };

/* Bytes of somebody else's. */
typedef struct {
    const void *data;
    size_t size;
} kv_text_t;

/* ---- clients and servers */

typedef enum {
    KV_GET = 1,
    KV_PUT,
    KV_CAS, /* put, if the value is the expected one: compare-and-set */
    KV_WHO  /* who are you? Answered by every server, with KV_DONE and the fields "leader" to "applied" */
} kv_op_t;

/* A client gives each of its requests the next number, from 1, and the same request keeps its number however often it
 * is sent: so the servers do it once. */
typedef struct {
    kv_op_t op;
    uint64_t client, number;
    kv_text_t key;
    kv_text_t value;    /* PUT, CAS: the new one */
    kv_text_t expected; /* CAS */
    bool absent;        /* CAS: the key must not be there; "expected" is not looked at */
} kv_request_t;

typedef enum {
    KV_DONE = 1,
    KV_ABSENT,     /* GET: no such key; CAS: not done for that */
    KV_DIFFERS,    /* CAS: not done: the value is another one, and here it is */
    KV_NOT_LEADER, /* ask "leader"; nothing is known about the request */
    KV_OUTDATED,   /* the client has sent later requests: this one will not be done any more */
    KV_INVALID     /* no request */
} kv_status_t;

typedef struct {
    kv_status_t status;
    ctalk_pid_t leader; /* KV_NOBODY: not known */
    uint64_t term, last, commit, applied;
    kv_text_t value;
} kv_answer_t;

/* ---- bytes */

typedef struct {
    unsigned char *data;
    size_t size, capacity;
} kv_writer_t;

typedef struct {
    const unsigned char *at;
    size_t left;
    bool bad;
} kv_reader_t;

void kv_writer_fini (kv_writer_t *writer);
void kv_write_number (kv_writer_t *writer, uint64_t number, size_t bytes);
void kv_write_text (kv_writer_t *writer, const void *data, size_t size);

uint64_t kv_read_number (kv_reader_t *reader, size_t bytes);
kv_text_t kv_read_text (kv_reader_t *reader);
bool kv_reader_is_done (const kv_reader_t *reader); /* all was read, and it was all right */

/* Each appends to what the writer holds. What is read points into the reader's bytes. */
void kv_write_request (kv_writer_t *writer, const kv_request_t *request);
bool kv_read_request (const void *data, size_t size, kv_request_t *request);
void kv_write_answer (kv_writer_t *writer, const kv_answer_t *answer);
bool kv_read_answer (const void *data, size_t size, kv_answer_t *answer);
void kv_write_message (kv_writer_t *writer, const kv_message_t *message);
bool kv_read_message (int64_t kind, const void *data, size_t size, kv_message_t *message,
                      kv_entry_t entries[KV_ENTRIES_MAX]);

#endif
