/*
 * wire.c - the codec of the session protocol; its grammar is wire.bnf, its
 * layout is drawn in wire.h.
 *
 * Owns nothing: a decoded frame points into the parts that it was read from.
 *
 * What may go wrong: anything, on the reading side. Every byte of a frame
 * comes from outside, so one cursor reads them, which never passes the end,
 * and a frame is taken only if its checksum, its lengths and the few values
 * that no peer may send (a session id of 0, a negative pid) are right. The
 * writing side has only the caller to fear, and asserts.
 */
#include "src/wire.h"

enum {
    AT_VERSION = 2,
    AT_TYPE = 3,
    AT_FLAGS = 4,
    AT_HLEN = 6,
    AT_SID = 8,
    AT_N = 16,
    AT_ROUND = 24,
    AT_GEN = 28,
    HEAD_STEP_BYTES = 8 /* a longer header keeps what follows it aligned */
};

/* ---- writing */

static uint8_t *put32 (uint8_t *p, uint32_t v)
{
    ctki_put32 (p, v);
    return p + 4;
}

static uint8_t *put64 (uint8_t *p, uint64_t v)
{
    ctki_put64 (p, v);
    return p + 8;
}

void ctki_wire_put_head (uint8_t *out, const ctki_frame_t *frame)
{
    ctki_put16 (out, CTKI_WIRE_MAGIC);
    out[AT_VERSION] = CTKI_WIRE_VERSION;
    out[AT_TYPE] = frame->type;
    ctki_put16 (out + AT_FLAGS, frame->flags);
    ctki_put16 (out + AT_HLEN, CTKI_HEAD_BYTES);
    ctki_put64 (out + AT_SID, frame->sid);
    ctki_put64 (out + AT_N, frame->n);
    ctki_put32 (out + AT_ROUND, frame->round);
    ctki_put32 (out + AT_GEN, frame->gen);
}

static uint8_t *put_hello (uint8_t *p, const ctki_hello_t *hello)
{
    memcpy (p, hello->cluster_id, CTKI_CLUSTER_ID_BYTES);
    p = put32 (p + CTKI_CLUSTER_ID_BYTES, (uint32_t) hello->src);
    p = put32 (p, (uint32_t) hello->dst);
    p = put64 (p, hello->inc);
    p = put64 (p, hello->nonce);
    p = put64 (p, hello->prev_sid);
    *p++ = hello->version_min;
    *p++ = hello->version_max;
    *p++ = 0;
    *p++ = 0;
    p = put32 (p, hello->frame_bytes);
    p = put64 (p, hello->message_bytes);
    p = put64 (p, hello->ordinal);
    return put64 (p, hello->charge);
}

static uint8_t *put_welcome (uint8_t *p, const ctki_welcome_t *welcome)
{
    p = put64 (p, welcome->inc);
    p = put64 (p, welcome->nonce);
    p = put64 (p, welcome->received);
    p = put64 (p, welcome->consumed);
    p = put64 (p, welcome->credit_frame);
    return put64 (p, welcome->credit_byte);
}

static uint8_t *put_ack (uint8_t *p, const ctki_ack_t *ack)
{
    p = put64 (p, ack->received);
    p = put64 (p, ack->consumed);
    p = put64 (p, ack->credit_frame);
    p = put64 (p, ack->credit_byte);
    p = put64 (p, ack->stamp);
    p = put32 (p, ack->stuck_ms);
    return put32 (p, ack->probe);
}

static uint8_t *put_ping (uint8_t *p, const ctki_ping_t *ping)
{
    p = put64 (p, ping->stamp);
    p = put64 (p, ping->inc);
    return put32 (p, ping->probe);
}

static uint8_t *put_body (uint8_t *p, const ctki_frame_t *frame)
{
    switch (frame->type) {
    case CTKI_HELLO:
        return put_hello (p, &frame->u.hello);
    case CTKI_WELCOME:
        return put_welcome (p, &frame->u.welcome);
    case CTKI_ACK:
        return put_ack (p, &frame->u.ack);
    case CTKI_PING:
        return put_ping (p, &frame->u.ping);
    case CTKI_RESET:
    case CTKI_BYE:
    case CTKI_BYE_ACK:
    case CTKI_REJECT:
        return put32 (p, frame->u.reason);
    default:
        return NULL;
    }
}

size_t ctki_wire_encode (const ctki_frame_t *frame, uint8_t *out, size_t size)
{
    CTKI_ASSERT (size >= CTKI_CONTROL_BYTES);
    ctki_wire_put_head (out, frame);
    uint8_t *end = put_body (out + CTKI_HEAD_BYTES, frame);
    CTKI_ASSERT (end != NULL);
    end = put32 (end, ctki_crc32c (0, out, (size_t) (end - out)));
    CTKI_ASSERT ((size_t) (end - out) <= CTKI_CONTROL_BYTES);
    return (size_t) (end - out);
}

/* ---- reading */

/* Reads on from p and never past its end; once it fell short it stays so and
 * reads zeros, so that it is enough to ask at the end. */
typedef struct {
    const uint8_t *p;
    size_t left;
    bool fell_short;
} cursor_t;

static const uint8_t *take (cursor_t *c, size_t size)
{
    static const uint8_t zeros[CTKI_CLUSTER_ID_BYTES];
    CTKI_ASSERT (size <= sizeof zeros);
    if (c->left < size) {
        c->fell_short = true;
        c->left = 0;
        return zeros;
    }
    const uint8_t *p = c->p;
    c->p += size;
    c->left -= size;
    return p;
}

static uint8_t get8 (cursor_t *c)
{
    return *take (c, 1);
}

static uint16_t get16 (cursor_t *c)
{
    return ctki_get16 (take (c, 2));
}

static uint32_t get32 (cursor_t *c)
{
    return ctki_get32 (take (c, 4));
}

static uint64_t get64 (cursor_t *c)
{
    return ctki_get64 (take (c, 8));
}

static const char *too_short (const cursor_t *c)
{
    return c->fell_short ? "shorter than its type demands" : NULL;
}

static const char *at_end (const cursor_t *c)
{
    return c->left != 0 ? "longer than its type demands" : too_short (c);
}

/* Reads the part of a HELLO that is the same in every version. */
static const char *get_hello (cursor_t *c, ctki_hello_t *hello)
{
    memcpy (hello->cluster_id, take (c, CTKI_CLUSTER_ID_BYTES), CTKI_CLUSTER_ID_BYTES);
    hello->src = (int32_t) get32 (c);
    hello->dst = (int32_t) get32 (c);
    hello->inc = get64 (c);
    hello->nonce = get64 (c);
    hello->prev_sid = get64 (c);
    hello->version_min = get8 (c);
    hello->version_max = get8 (c);
    uint16_t reserved = get16 (c);
    hello->frame_bytes = get32 (c);
    hello->message_bytes = get64 (c);
    hello->ordinal = get64 (c);
    hello->charge = get64 (c);
    if (c->fell_short)
        return too_short (c);
    if (hello->src < 0 || hello->dst < 0)
        return "a negative pid";
    if (hello->inc == 0)
        return "no incarnation";
    if (hello->version_min > hello->version_max)
        return "a range of versions that is empty";
    return reserved != 0 ? "a reserved field in use" : NULL;
}

static const char *get_welcome (cursor_t *c, ctki_welcome_t *welcome)
{
    welcome->inc = get64 (c);
    welcome->nonce = get64 (c);
    welcome->received = get64 (c);
    welcome->consumed = get64 (c);
    welcome->credit_frame = get64 (c);
    welcome->credit_byte = get64 (c);
    const char *why = at_end (c);
    return why == NULL && welcome->inc == 0 ? "no incarnation" : why;
}

/* The blocks after an ACK: none is known to this version, all must fit. */
static const char *skip_blocks (cursor_t *c)
{
    while (c->left > 0) {
        (void) get16 (c);
        size_t size = get16 (c);
        if (c->fell_short || c->left < size)
            return "a block that does not fit";
        c->p += size;
        c->left -= size;
    }
    return NULL;
}

static const char *get_ack (cursor_t *c, ctki_ack_t *ack)
{
    ack->received = get64 (c);
    ack->consumed = get64 (c);
    ack->credit_frame = get64 (c);
    ack->credit_byte = get64 (c);
    ack->stamp = get64 (c);
    ack->stuck_ms = get32 (c);
    ack->probe = get32 (c);
    return c->fell_short ? too_short (c) : skip_blocks (c);
}

static const char *get_ping (cursor_t *c, ctki_ping_t *ping)
{
    ping->stamp = get64 (c);
    ping->inc = get64 (c);
    ping->probe = get32 (c);
    return at_end (c);
}

static const char *get_reason (cursor_t *c, uint32_t *reason)
{
    *reason = get32 (c);
    return at_end (c);
}

/* The three shapes of DATA. */
static const char *get_data (cursor_t *c, ctki_frame_t *frame)
{
    if (frame->n == 0)
        return "no frame number";
    frame->records = c->p;
    frame->records_size = c->left;
    if (frame->body == NULL)
        return c->left < CTKI_RECORD_BYTES ? "no record" : NULL;
    if (frame->body_size == 0)
        return "an empty second part";
    if (c->left == 0)
        return frame->body_size < CTKI_RECORD_BYTES ? "no record" : NULL;
    if (c->left < CTKI_RECORD_BYTES || c->left > CTKI_RECORD_HEAD_MAX)
        return "a second part after something other than one record header";
    return NULL;
}

/* What stands between the header and the checksum, by type. */
static const char *get_body (cursor_t *c, ctki_frame_t *frame)
{
    if (frame->type < CTKI_HELLO || frame->type > CTKI_REJECT)
        return "unknown type";
    if (frame->body != NULL && frame->type != CTKI_DATA)
        return "a second part where none may be";
    if (frame->sid == 0 && frame->type != CTKI_HELLO && frame->type != CTKI_REJECT)
        return "no session id";
    switch (frame->type) {
    case CTKI_HELLO: {
        const char *why = get_hello (c, &frame->u.hello);
        return why == NULL ? at_end (c) : why;
    }
    case CTKI_WELCOME:
        return get_welcome (c, &frame->u.welcome);
    case CTKI_DATA:
        return get_data (c, frame);
    case CTKI_ACK:
        return get_ack (c, &frame->u.ack);
    case CTKI_PING:
        return get_ping (c, &frame->u.ping);
    default:
        return get_reason (c, &frame->u.reason);
    }
}

/* A frame of another version: enough of it to say no. A later HELLO may be
 * longer than ours, not shorter. */
static const char *get_foreign (cursor_t *c, ctki_frame_t *frame)
{
    frame->body = NULL;
    frame->body_size = 0;
    return frame->type == CTKI_HELLO ? get_hello (c, &frame->u.hello) : NULL;
}

static void get_head (const uint8_t *part, ctki_frame_t *frame)
{
    frame->flags = ctki_get16 (part + AT_FLAGS);
    frame->sid = ctki_get64 (part + AT_SID);
    frame->n = ctki_get64 (part + AT_N);
    frame->round = ctki_get32 (part + AT_ROUND);
    frame->gen = ctki_get32 (part + AT_GEN);
}

static uint32_t checksum (const uint8_t *part, size_t size, const uint8_t *body, size_t body_size)
{
    uint32_t crc = ctki_crc32c (0, part, size - CTKI_CRC_BYTES);
    return body_size == 0 ? crc : ctki_crc32c (crc, body, body_size);
}

const char *ctki_wire_decode (ctki_frame_t *frame, const uint8_t *part, size_t size, const uint8_t *body,
                              size_t body_size)
{
    CTKI_ASSERT (body != NULL || body_size == 0);
    *frame = (ctki_frame_t){.body = body, .body_size = body_size};
    if (size < CTKI_HEAD_BYTES + CTKI_CRC_BYTES)
        return "shorter than a header";
    if (ctki_get16 (part) != CTKI_WIRE_MAGIC)
        return "not a frame";
    size_t hlen = ctki_get16 (part + AT_HLEN);
    if (hlen < CTKI_HEAD_BYTES || hlen % HEAD_STEP_BYTES != 0 || hlen > size - CTKI_CRC_BYTES)
        return "a wrong header length";
    if (ctki_get32 (part + size - CTKI_CRC_BYTES) != checksum (part, size, body, body_size))
        return "a wrong checksum";

    cursor_t c = {.p = part + hlen, .left = size - CTKI_CRC_BYTES - hlen};
    frame->version = part[AT_VERSION];
    frame->type = part[AT_TYPE];
    if (frame->version != CTKI_WIRE_VERSION)
        return get_foreign (&c, frame);
    get_head (part, frame);
    return get_body (&c, frame);
}
