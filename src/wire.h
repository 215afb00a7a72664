/*
 * wire.h - the bytes of a frame: encoding and decoding of the session protocol
 * (version 1). Pure: no socket, no clock, no memory of its own. The grammar
 * stands beside it in wire.bnf.
 *
 * A frame is one libzmq message part, or two: headers, then a shared body.
 *
 *    0        2     3      4        6       8        16      24       28     32
 *   +--------+-----+------+--------+-------+--------+-------+--------+------+ ...
 *   | magic  | ver | type | flags  | hlen  | sid    | n     | round  | gen  |
 *   +--------+-----+------+--------+-------+--------+-------+--------+------+ ...
 *   ... body of the type (DATA: records) ... | crc32c u32
 *
 * All numbers are big-endian. The checksum closes the first part; it covers
 * the first part before it, then the whole second part.
 *
 * DATA carries records in one of three shapes:
 *   one part                       header, records, crc
 *   two parts, nothing before crc  header, crc | records
 *   two parts, one record header   header, record header, crc | its payload, unpadded
 *
 * A record is an envelope, or a fragment of one:
 *
 *   len u32 | flags u16 | 0 u16 | [msg id i64] [to u64] [from u64] [total u64] | len bytes | 0 to 7 zero bytes
 *
 * The optional fields are there when their flag is set (ID, TO, FROM), total
 * when FIRST is set without LAST. Each record starts at a multiple of 8 from
 * the first, so a payload is as aligned as its frame is.
 */
#ifndef CTKI_WIRE_H
#define CTKI_WIRE_H

#include "src/base.h"

#define CTKI_WIRE_MAGIC 0xC7A1u
#define CTKI_WIRE_VERSION 1
enum {
    CTKI_HEAD_BYTES = 32,
    CTKI_CRC_BYTES = 4,
    CTKI_RECORD_BYTES = 8,        /* a record's fixed header */
    CTKI_RECORD_HEAD_MAX = 40,    /* with all optional fields */
    CTKI_CONTROL_BYTES = 256,     /* enough for any frame but DATA that this version writes */
    CTKI_CLUSTER_ID_BYTES = 16
};

typedef enum {
    CTKI_HELLO = 1, /* sender to receiver: opens or resumes a session */
    CTKI_WELCOME,   /* receiver to sender: its answer */
    CTKI_DATA,      /* sender to receiver: records */
    CTKI_ACK,       /* receiver to sender: cumulative, with absolute credit */
    CTKI_PING,      /* sender to receiver: answer at once with an ACK */
    CTKI_RESET,     /* receiver to sender: unknown sid, greet again */
    CTKI_BYE,       /* sender to receiver: the session ends */
    CTKI_BYE_ACK,   /* receiver to sender */
    CTKI_REJECT     /* receiver to sender: no session, and why */
} ctki_type_t;

/* Flags of a frame. */
enum {
    CTKI_F_ACK_NOW = 0x0001,      /* DATA, PING: acknowledge at once */
    CTKI_F_GAP = 0x0002,          /* ACK: a later frame than the expected one came */
    CTKI_F_PONG = 0x0004,         /* ACK: answers a PING, the echo is valid */
    CTKI_F_PROBE = 0x0008,        /* ACK: answer with PING at once */
    CTKI_F_LEAVING = 0x0010,      /* ACK: the receiver is closing and takes no more */
    CTKI_F_LEAVING_SEEN = 0x0020, /* PING: the sender knows that */
    CTKI_F_RESUMED = 0x0040       /* WELCOME: the session continues; else it is new */
};

/* Flags of a record. */
enum {
    CTKI_R_FIRST = 0x0001,     /* holds the first byte of its envelope */
    CTKI_R_LAST = 0x0002,      /* holds the last */
    CTKI_R_BROADCAST = 0x0004, /* was sent to everybody */
    CTKI_R_TO = 0x0008,
    CTKI_R_FROM = 0x0010,
    CTKI_R_ID = 0x0020,
    CTKI_R_ALL = 0x003f
};

/* Reasons in REJECT, RESET and BYE. */
enum {
    CTKI_WHY_NONE = 0,
    CTKI_WHY_UNKNOWN_SID = 1,
    CTKI_WHY_VERSION = 2,
    CTKI_WHY_CLUSTER = 3,
    CTKI_WHY_PID = 4, /* not the pid that was called, or one that it may not use */
    CTKI_WHY_DUPLICATE = 5,
    CTKI_WHY_UNKNOWN_PID = 6, /* the sender is not in the receiver's list */
    CTKI_WHY_QUARANTINED = 7,
    CTKI_WHY_CLOSING = 8,
    CTKI_WHY_ABANDONED = 9, /* BYE: the peer was removed */
    CTKI_WHY_LIMITS = 10    /* the sender's payloads may be larger than the receiver takes */
};

typedef struct {
    uint8_t cluster_id[CTKI_CLUSTER_ID_BYTES];
    int32_t src, dst;
    uint64_t inc;
    uint64_t nonce;
    uint64_t prev_sid; /* 0: none */
    uint8_t version_min, version_max;
    uint32_t frame_bytes;
    uint64_t message_bytes;
    uint64_t ordinal; /* envelopes of that session that end before frame n */
    uint64_t charge;  /* of the frames before frame n */
} ctki_hello_t;

typedef struct {
    uint64_t inc;
    uint64_t nonce; /* echo */
    uint64_t received, consumed, credit_frame, credit_byte;
} ctki_welcome_t;

typedef struct {
    uint64_t received, consumed; /* envelopes of this session */
    uint64_t credit_frame;       /* the highest frame number that may be sent */
    uint64_t credit_byte;        /* the charge that may be sent, from the session's start */
    uint64_t stamp;              /* echo of PING, valid with PONG */
    uint32_t stuck_ms;           /* for how long nothing was consumed while something waited */
    uint32_t probe;              /* with PROBE: a number to be echoed */
} ctki_ack_t;

typedef struct {
    uint64_t stamp;
    uint64_t inc;   /* the receiver's, as the sender believes; 0: not known */
    uint32_t probe; /* echo of the last PROBE's; 0: none */
} ctki_ping_t;

/* A frame in the clear. For DATA: records is what stands between header and
 * checksum of the first part, body the second part (NULL if there is none). */
typedef struct {
    uint8_t version;
    uint8_t type;
    uint16_t flags;
    uint64_t sid;
    uint64_t n;
    uint32_t round;
    uint32_t gen;
    union {
        ctki_hello_t hello;
        ctki_welcome_t welcome;
        ctki_ack_t ack;
        ctki_ping_t ping;
        uint32_t reason; /* RESET, BYE, BYE_ACK, REJECT */
    } u;
    const uint8_t *records;
    size_t records_size;
    const uint8_t *body;
    size_t body_size;
} ctki_frame_t;

/* Encodes any frame but DATA, checksum included; returns its size. `size` of
 * at least CTKI_CONTROL_BYTES is asserted. */
size_t ctki_wire_encode (const ctki_frame_t *frame, uint8_t *out, size_t size);

/* Writes the 32-byte header of a DATA frame. */
void ctki_wire_put_head (uint8_t *out, const ctki_frame_t *frame);

/* Decodes and checks a frame: one part (body NULL) or two. For a version other
 * than ours only version, type and, for HELLO, the body are filled in, so that
 * it can be rejected. Returns NULL, or why it is malformed (a constant text).
 * Unknown ACK blocks are skipped; unknown frame flags are ignored. The records
 * of DATA are not looked at. */
const char *ctki_wire_decode (ctki_frame_t *frame, const uint8_t *part, size_t size, const uint8_t *body,
                              size_t body_size);

/* CRC32C (Castagnoli; RFC 3720 appendix B.4), by the processor where it can. */
uint32_t ctki_crc32c (uint32_t crc, const void *data, size_t size);

/* The portable way, whatever the processor can (tests compare the two). */
uint32_t ctki_crc32c_portable (uint32_t crc, const void *data, size_t size);
uint32_t ctki_crc32c_combine_portable (uint32_t crc_a, uint32_t crc_b, size_t size_b);

/* The crc of a‖b from those of a and b. */
uint32_t ctki_crc32c_combine (uint32_t crc_a, uint32_t crc_b, size_t size_b);

/* ---- records */

typedef struct {
    uint16_t flags;
    uint32_t len; /* of the payload in this record */
    int64_t msg_id;
    uint64_t to, from;
    uint64_t total; /* of the envelope's payload; meaningful with FIRST */
} ctki_record_t;

/* The bytes before the payload. */
static inline size_t ctki_record_head (uint16_t flags)
{
    return (size_t) CTKI_RECORD_BYTES + (flags & CTKI_R_ID ? 8u : 0u) + (flags & CTKI_R_TO ? 8u : 0u)
           + (flags & CTKI_R_FROM ? 8u : 0u) + ((flags & (CTKI_R_FIRST | CTKI_R_LAST)) == CTKI_R_FIRST ? 8u : 0u);
}

static inline size_t ctki_record_pad (size_t size)
{
    return (size + 7u) & ~(size_t) 7u;
}

/* Writes a record's header; returns its size. */
static inline size_t ctki_record_put (uint8_t *p, const ctki_record_t *r)
{
    uint8_t *q = p + CTKI_RECORD_BYTES;
    ctki_put64 (p, (uint64_t) r->len << 32 | (uint64_t) r->flags << 16);
    if (r->flags & CTKI_R_ID) {
        ctki_put64 (q, (uint64_t) r->msg_id);
        q += 8;
    }
    if (r->flags & CTKI_R_TO) {
        ctki_put64 (q, r->to);
        q += 8;
    }
    if (r->flags & CTKI_R_FROM) {
        ctki_put64 (q, r->from);
        q += 8;
    }
    if ((r->flags & (CTKI_R_FIRST | CTKI_R_LAST)) == CTKI_R_FIRST) {
        ctki_put64 (q, r->total);
        q += 8;
    }
    return (size_t) (q - p);
}

/* Reads a record's header from at most `left` bytes; returns its size, or 0
 * when it is not one. The payload may lie elsewhere: it is not looked at. */
static inline size_t ctki_record_get (const uint8_t *p, size_t left, ctki_record_t *r)
{
    if (CTKI_UNLIKELY (left < CTKI_RECORD_BYTES))
        return 0;
    uint64_t word = ctki_get64 (p);
    r->len = (uint32_t) (word >> 32);
    r->flags = (uint16_t) (word >> 16);
    if (CTKI_UNLIKELY ((word & 0xffffu) != 0 || (r->flags & ~CTKI_R_ALL) != 0))
        return 0;
    size_t head = ctki_record_head (r->flags);
    if (CTKI_UNLIKELY (left < head))
        return 0;
    const uint8_t *q = p + CTKI_RECORD_BYTES;
    r->msg_id = 0;
    r->to = r->from = 0;
    r->total = r->len;
    if (r->flags & CTKI_R_ID) {
        r->msg_id = (int64_t) ctki_get64 (q);
        q += 8;
    }
    if (r->flags & CTKI_R_TO) {
        r->to = ctki_get64 (q);
        q += 8;
    }
    if (r->flags & CTKI_R_FROM) {
        r->from = ctki_get64 (q);
        q += 8;
    }
    if ((r->flags & (CTKI_R_FIRST | CTKI_R_LAST)) == CTKI_R_FIRST)
        r->total = ctki_get64 (q);
    return head;
}

#endif
