/*
 * guest.c - a client of the key-value store that does what comes into its head.
 */
#include "tests/kvstore/guest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

enum { TEXT = 24 /* bytes of a value */ };

void ctki_guest_init (ctki_guest_t *guest, ctalk_server_t *server, const ctalk_pid_t *servers, size_t count,
                      unsigned number, uint64_t seed)
{
    *guest = (ctki_guest_t){.server = server, .random = seed + number * 977, .values = (number + 1) * 1000000000u};
    kv_client_init (&guest->client, kv_client_id (server, number), servers, count);
}

static unsigned draw (ctki_guest_t *guest, unsigned below)
{
    guest->random = guest->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned) (guest->random >> 33) % below;
}

static kv_text_t to_text (uint64_t value, char text[TEXT])
{
    return (kv_text_t){.data = text, .size = (size_t) snprintf (text, TEXT, "%" PRIu64, value)};
}

static uint64_t to_value (kv_text_t text)
{
    uint64_t value = 0;
    for (size_t i = 0; i < text.size; i++)
        value = 10 * value + (uint64_t) (((const char *) text.data)[i] - '0');
    return value;
}

static ctki_op_t draw_op (ctki_guest_t *guest)
{
    ctki_op_t op = {.kind = (ctki_op_kind_t) draw (guest, 3), .returned = CTKI_NEVER};
    op.key = (int32_t) draw (guest, CTKI_GUEST_KEYS);
    if (op.kind != CTKI_GET)
        op.value = ++guest->values;
    if (op.kind == CTKI_CAS)
        op.expected = guest->last[op.key];
    return op;
}

static bool take_answer (ctki_guest_t *guest, ctki_op_t *op, const kv_answer_t *answer, ctki_trouble_t *trouble)
{
    uint64_t found = answer->status == KV_ABSENT ? 0 : to_value (answer->value);
    bool possible = answer->status == KV_DONE || (op->kind != CTKI_PUT && answer->status == KV_ABSENT)
                    || (op->kind == CTKI_CAS && answer->status == KV_DIFFERS);
    if (!possible)
        return ctki_trouble_note (trouble, __FILE__, __LINE__, "answered with status %d", (int) answer->status);
    op->done = op->kind != CTKI_GET && answer->status == KV_DONE;
    if (op->kind == CTKI_GET)
        op->value = found;
    if (op->kind == CTKI_CAS && !op->done)
        op->seen = found;
    guest->last[op->key] = op->done ? op->value : found;
    return true;
}

bool ctki_guest_do (ctki_guest_t *guest, ctki_op_t *op, ctki_trouble_t *trouble)
{
    static const kv_op_t ops[] = {[CTKI_GET] = KV_GET, [CTKI_PUT] = KV_PUT, [CTKI_CAS] = KV_CAS};
    *op = draw_op (guest);
    char key = (char) ('a' + op->key), value[TEXT], expected[TEXT];
    kv_answer_t answer;
    ctalk_envelope_t reply;
    kv_request_t request = {.op = ops[op->kind], .key = {&key, 1}, .absent = op->kind == CTKI_CAS && !op->expected};
    if (op->kind != CTKI_GET)
        request.value = to_text (op->value, value);
    if (op->kind == CTKI_CAS)
        request.expected = to_text (op->expected, expected);
    if (draw (guest, 4) == 0) /* not the leader, for once; perhaps one that believes that it is */
        guest->client.next = draw (guest, (unsigned) guest->client.count);

    op->called = guest->stamp (guest->arg);
    if (kv_client_do (&guest->client, guest->server, &request, &answer, &reply, guest->answer_ms) == -1) {
        CTKI_EXPECT (trouble, errno == ETIMEDOUT);
        return true;
    }
    op->returned = guest->stamp (guest->arg);
    bool ok = take_answer (guest, op, &answer, trouble);
    ctalk_envelope_close (&reply);
    return ok;
}
