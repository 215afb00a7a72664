/*
 * kvstore_wire.c - the bytes of the key-value store. Owns nothing but what a
 * writer holds.
 */
#include "examples/kvstore_wire.h"

#include <stdlib.h>
#include <string.h>

void kv_writer_fini (kv_writer_t *writer)
{
    free (writer->data);
    *writer = (kv_writer_t){0};
}

static unsigned char *more (kv_writer_t *writer, size_t size)
{
    if (writer->capacity - writer->size < size) {
        writer->capacity = 2 * writer->capacity + size + 64;
        writer->data = kv_resize (writer->data, writer->capacity);
    }
    writer->size += size;
    return writer->data + writer->size - size;
}

void kv_write_number (kv_writer_t *writer, uint64_t number, size_t bytes)
{
    unsigned char *at = more (writer, bytes);
    for (size_t i = 0; i < bytes; i++)
        at[i] = (unsigned char) (number >> 8 * i);
}

void kv_write_text (kv_writer_t *writer, const void *data, size_t size)
{
    kv_write_number (writer, size, 4);
    if (size)
        memcpy (more (writer, size), data, size);
}

/* The next bytes, or NULL: there are not so many. */
static const unsigned char *next (kv_reader_t *reader, size_t size)
{
    if (reader->bad || reader->left < size) {
        reader->bad = true;
        return NULL;
    }
    reader->at += size;
    reader->left -= size;
    return reader->at - size;
}

uint64_t kv_read_number (kv_reader_t *reader, size_t bytes)
{
    const unsigned char *at = next (reader, bytes);
    uint64_t number = 0;
    for (size_t i = 0; at && i < bytes; i++)
        number |= (uint64_t) at[i] << 8 * i;
    return number;
}

kv_text_t kv_read_text (kv_reader_t *reader)
{
    size_t size = (size_t) kv_read_number (reader, 4);
    const unsigned char *at = next (reader, size);
    return (kv_text_t){.data = at, .size = at ? size : 0};
}

bool kv_reader_is_done (const kv_reader_t *reader)
{
    return !reader->bad && reader->left == 0;
}

/* ---- clients and servers */

void kv_write_request (kv_writer_t *writer, const kv_request_t *request)
{
    kv_write_number (writer, (uint64_t) request->op, 1);
    kv_write_number (writer, request->absent, 1);
    kv_write_number (writer, request->client, 8);
    kv_write_number (writer, request->number, 8);
    kv_write_text (writer, request->key.data, request->key.size);
    kv_write_text (writer, request->value.data, request->value.size);
    kv_write_text (writer, request->expected.data, request->expected.size);
}

bool kv_read_request (const void *data, size_t size, kv_request_t *request)
{
    kv_reader_t reader = {.at = data, .left = size};
    *request = (kv_request_t){.op = (kv_op_t) kv_read_number (&reader, 1)};
    request->absent = kv_read_number (&reader, 1) != 0;
    request->client = kv_read_number (&reader, 8);
    request->number = kv_read_number (&reader, 8);
    request->key = kv_read_text (&reader);
    request->value = kv_read_text (&reader);
    request->expected = kv_read_text (&reader);
    return kv_reader_is_done (&reader) && request->op >= KV_GET && request->op <= KV_WHO && request->number > 0
           && request->key.size <= KV_KEY_MAX && request->value.size <= KV_VALUE_MAX
           && request->expected.size <= KV_VALUE_MAX;
}

void kv_write_answer (kv_writer_t *writer, const kv_answer_t *answer)
{
    kv_write_number (writer, (uint64_t) answer->status, 1);
    kv_write_number (writer, (uint32_t) answer->leader, 4);
    kv_write_number (writer, answer->term, 8);
    kv_write_number (writer, answer->last, 8);
    kv_write_number (writer, answer->commit, 8);
    kv_write_number (writer, answer->applied, 8);
    kv_write_text (writer, answer->value.data, answer->value.size);
}

bool kv_read_answer (const void *data, size_t size, kv_answer_t *answer)
{
    kv_reader_t reader = {.at = data, .left = size};
    *answer = (kv_answer_t){.status = (kv_status_t) kv_read_number (&reader, 1)};
    answer->leader = (ctalk_pid_t) (uint32_t) kv_read_number (&reader, 4);
    answer->term = kv_read_number (&reader, 8);
    answer->last = kv_read_number (&reader, 8);
    answer->commit = kv_read_number (&reader, 8);
    answer->applied = kv_read_number (&reader, 8);
    answer->value = kv_read_text (&reader);
    return kv_reader_is_done (&reader) && answer->status >= KV_DONE && answer->status <= KV_INVALID;
}

/* ---- servers among themselves; the kind is the envelope's msg_id */

void kv_write_message (kv_writer_t *writer, const kv_message_t *message)
{
    kv_write_number (writer, message->term, 8);
    kv_write_number (writer, message->index, 8);
    kv_write_number (writer, message->of, 8);
    kv_write_number (writer, message->commit, 8);
    kv_write_number (writer, message->round, 8);
    kv_write_number (writer, message->yes, 1);
    kv_write_number (writer, message->count, 4);
    for (size_t i = 0; i < message->count; i++) {
        kv_write_number (writer, message->entry[i].term, 8);
        kv_write_text (writer, message->entry[i].data, message->entry[i].size);
    }
}

bool kv_read_message (int64_t kind, const void *data, size_t size, kv_message_t *message,
                      kv_entry_t entries[KV_ENTRIES_MAX])
{
    kv_reader_t reader = {.at = data, .left = size};
    if (kind < KV_ASK_VOTE || kind > KV_APPENDED)
        return false;
    *message = (kv_message_t){.kind = (kv_message_kind_t) kind, .term = kv_read_number (&reader, 8), .entry = entries};
    message->index = kv_read_number (&reader, 8);
    message->of = kv_read_number (&reader, 8);
    message->commit = kv_read_number (&reader, 8);
    message->round = kv_read_number (&reader, 8);
    message->yes = kv_read_number (&reader, 1) != 0;
    message->count = (size_t) kv_read_number (&reader, 4);
    if (message->count > KV_ENTRIES_MAX)
        return false;
    for (size_t i = 0; i < message->count; i++) {
        entries[i].term = kv_read_number (&reader, 8);
        kv_text_t text = kv_read_text (&reader);
        entries[i].data = text.data;
        entries[i].size = text.size;
    }
    return kv_reader_is_done (&reader);
}
