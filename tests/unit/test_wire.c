/*
 * test_wire.c - the codec: golden bytes, round trips, and that nothing bad is
 * taken. Each frame is decoded from a block of just its size, so that reading
 * past the end is seen by the sanitizers and by valgrind.
 */
#include <check.h>
#include <stdlib.h>

#include "src/wire.h"
#include "tests/support/scale.h"

Suite *ctki_suite_wire (void);

enum { FRAME_MAX = 512, RANDOM_FRAMES = 50000 };

/* ---- samples: written down by hand from wire.bnf, their checksums computed bit by bit by another program */

#define SID UINT64_C (0x1112131415161718)
#define N UINT64_C (0x2122232425262728)
#define ROUND 0x31323334u
#define GEN 0x41424344u
#define NUMBERS "21222324252627283132333441424344"

static const struct {
    ctki_frame_t frame;
    const char *hex;
} golden[] = {
    {{.type = CTKI_HELLO,
      .n = N,
      .round = ROUND,
      .gen = GEN,
      .u.hello = {.cluster_id = {0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad,
                                 0xae, 0xaf},
                  .src = 0x51525354,
                  .dst = 0x61626364,
                  .inc = UINT64_C (0x7172737475767778),
                  .nonce = UINT64_C (0x8182838485868788),
                  .prev_sid = UINT64_C (0x9192939495969798),
                  .version_min = 1,
                  .version_max = 2,
                  .frame_bytes = 0xd1d2d3d4u,
                  .message_bytes = UINT64_C (0xe1e2e3e4e5e6e7e8),
                  .ordinal = UINT64_C (0xb1b2b3b4b5b6b7b8),
                  .charge = UINT64_C (0xc1c2c3c4c5c6c7c8)}},
     "c7a10101000000200000000000000000" NUMBERS "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf51525354616263647172737475767778"
     "8182838485868788919293949596979801020000d1d2d3d4e1e2e3e4e5e6e7e8"
     "b1b2b3b4b5b6b7b8c1c2c3c4c5c6c7c8"
     "288f18c0"},
    {{.type = CTKI_WELCOME,
      .flags = CTKI_F_RESUMED,
      .sid = SID,
      .n = N,
      .round = ROUND,
      .gen = GEN,
      .u.welcome = {.inc = UINT64_C (0x7172737475767778),
                    .nonce = UINT64_C (0x8182838485868788),
                    .received = UINT64_C (0x0102030405060708),
                    .consumed = UINT64_C (0x090a0b0c0d0e0f10),
                    .credit_frame = UINT64_C (0x5152535455565758),
                    .credit_byte = UINT64_C (0x6162636465666768)}},
     "c7a10102004000201112131415161718" NUMBERS "717273747576777881828384858687880102030405060708090a0b0c0d0e0f10"
     "51525354555657586162636465666768"
     "fb3720aa"},
    {{.type = CTKI_ACK,
      .flags = CTKI_F_GAP | CTKI_F_PONG | CTKI_F_LEAVING,
      .sid = SID,
      .n = N,
      .round = ROUND,
      .gen = GEN,
      .u.ack = {.received = UINT64_C (0x0102030405060708),
                .consumed = UINT64_C (0x090a0b0c0d0e0f10),
                .credit_frame = UINT64_C (0x5152535455565758),
                .credit_byte = UINT64_C (0x6162636465666768),
                .stamp = UINT64_C (0xb1b2b3b4b5b6b7b8),
                .stuck_ms = 0xc1c2c3c4u,
                .probe = 0xd1d2d3d4u}},
     "c7a10104001600201112131415161718" NUMBERS "0102030405060708090a0b0c0d0e0f1051525354555657586162636465666768"
     "b1b2b3b4b5b6b7b8c1c2c3c4d1d2d3d4"
     "f8e86573"},
    {{.type = CTKI_PING,
      .flags = CTKI_F_ACK_NOW | CTKI_F_LEAVING_SEEN,
      .sid = SID,
      .n = N,
      .round = ROUND,
      .gen = GEN,
      .u.ping = {.stamp = UINT64_C (0xb1b2b3b4b5b6b7b8), .inc = UINT64_C (0x7172737475767778), .probe = 0xe1e2e3e4u}},
     "c7a10105002100201112131415161718" NUMBERS "b1b2b3b4b5b6b7b87172737475767778e1e2e3e4"
     "54646d60"},
    {{.type = CTKI_RESET, .sid = SID, .round = ROUND, .gen = GEN, .u.reason = CTKI_WHY_UNKNOWN_SID},
     "c7a1010600000020111213141516171800000000000000003132333441424344"
     "00000001"
     "46c7e788"},
    {{.type = CTKI_BYE, .sid = SID, .n = N, .round = ROUND, .gen = GEN, .u.reason = CTKI_WHY_ABANDONED},
     "c7a10107000000201112131415161718" NUMBERS "00000009"
     "117f8e77"},
    {{.type = CTKI_BYE_ACK, .sid = SID, .n = N, .round = ROUND, .gen = GEN, .u.reason = CTKI_WHY_NONE},
     "c7a10108000000201112131415161718" NUMBERS "00000000"
     "309f461d"},
    {{.type = CTKI_REJECT, .round = ROUND, .gen = GEN, .u.reason = CTKI_WHY_CLUSTER},
     "c7a1010900000020000000000000000000000000000000003132333441424344"
     "00000003"
     "b9daa3de"}};

enum { GOLDENS = sizeof golden / sizeof golden[0], DATAS = 3, EXTRAS = 3, SAMPLES = GOLDENS + DATAS + EXTRAS };

#define RECORDS "0000000500230000fffffffffffffffe68656c6c6f000000"
#define LAST_RECORD "00000000001f0000f1f2f3f4f5f6f7f80f1f2f3f4f5f6f7f"

/* DATA in its three shapes. */
static const struct {
    const char *hex, *body;
} data_hex[DATAS] = {
    {"c7a10103000100201112131415161718" NUMBERS RECORDS LAST_RECORD "b4e013d8", NULL},
    {"c7a10103000000201112131415161718" NUMBERS "c29f25f4", RECORDS LAST_RECORD},
    {"c7a10103000000201112131415161718" NUMBERS "0000000900210000fffffffffffffffe0000123456789abcc8868009",
     "626967206279746573"},
};

/* A frame in bytes. */
typedef struct {
    uint8_t part[FRAME_MAX], body[FRAME_MAX];
    size_t size, body_size; /* body_size 0: one part */
} bytes_t;

static unsigned hex_digit (char c)
{
    return (unsigned) (c <= '9' ? c - '0' : c - 'a' + 10);
}

static size_t from_hex (uint8_t *out, const char *hex)
{
    size_t size = strlen (hex) / 2;
    ck_assert_uint_le (size, FRAME_MAX);
    for (size_t i = 0; i < size; ++i)
        out[i] = (uint8_t) (hex_digit (hex[2 * i]) << 4 | hex_digit (hex[2 * i + 1]));
    return size;
}

/* Makes the checksum right again after a change. */
static void seal (bytes_t *b)
{
    uint32_t crc = ctki_crc32c_portable (0, b->part, b->size - CTKI_CRC_BYTES);
    ctki_put32 (b->part + b->size - CTKI_CRC_BYTES, ctki_crc32c_portable (crc, b->body, b->body_size));
}

/* Puts size bytes in at an offset and seals. */
static void insert (bytes_t *b, size_t at, const void *bytes, size_t size)
{
    ck_assert_uint_le (b->size + size, FRAME_MAX);
    memmove (b->part + at + size, b->part + at, b->size - at);
    memcpy (b->part + at, bytes, size);
    b->size += size;
    seal (b);
}

static void append (bytes_t *b, const void *bytes, size_t size)
{
    insert (b, b->size - CTKI_CRC_BYTES, bytes, size);
}

/* Decodes from blocks of just the sizes; what the frame points to is gone afterwards. */
static const char *decode (const bytes_t *b, ctki_frame_t *frame)
{
    uint8_t *part = malloc (b->size > 0 ? b->size : 1);
    uint8_t *body = b->body_size > 0 ? malloc (b->body_size) : NULL;
    ck_assert (part != NULL && (body != NULL || b->body_size == 0));
    memcpy (part, b->part, b->size);
    if (body != NULL)
        memcpy (body, b->body, b->body_size);
    const char *why = ctki_wire_decode (frame, part, b->size, body, b->body_size);
    free (part);
    free (body);
    return why;
}

static bool refuses (const bytes_t *b)
{
    ctki_frame_t frame;
    return decode (b, &frame) != NULL;
}

/* Fails unless the frame is refused for this reason. */
static void assert_why (const bytes_t *b, const char *expected)
{
    ctki_frame_t frame;
    const char *why = decode (b, &frame);
    ck_assert_ptr_nonnull (why);
    ck_assert_str_eq (why, expected);
}

static void assert_good (const bytes_t *b)
{
    ctki_frame_t frame;
    const char *why = decode (b, &frame);
    ck_assert_msg (why == NULL, "%s", why);
}

static bytes_t golden_of (ctki_type_t type)
{
    bytes_t b = {.size = 0};
    for (size_t i = 0; i < GOLDENS; ++i)
        if (golden[i].frame.type == type)
            b.size = from_hex (b.part, golden[i].hex);
    ck_assert_uint_gt (b.size, 0);
    return b;
}

static bytes_t data_of (size_t shape)
{
    bytes_t b = {.size = from_hex (b.part, data_hex[shape].hex)};
    b.body_size = data_hex[shape].body == NULL ? 0 : from_hex (b.body, data_hex[shape].body);
    return b;
}

/* A longer header than ours, as a later minor change may bring. */
static bytes_t long_head (bytes_t b, uint16_t more)
{
    static const uint8_t zeros[FRAME_MAX];
    ctki_put16 (b.part + 6, (uint16_t) (CTKI_HEAD_BYTES + more));
    insert (&b, CTKI_HEAD_BYTES, zeros, more);
    return b;
}

/* An ACK with two blocks that no version knows, the second one empty. */
static bytes_t ack_with_blocks (void)
{
    static const uint8_t blocks[] = {0, 77, 0, 3, 'a', 'b', 'c', 0xff, 0xff, 0, 0};
    bytes_t b = golden_of (CTKI_ACK);
    append (&b, blocks, sizeof blocks);
    return b;
}

/* All frames that the tests start from. */
static bytes_t sample (size_t i)
{
    if (i < GOLDENS)
        return golden_of (golden[i].frame.type);
    if (i < GOLDENS + DATAS)
        return data_of (i - GOLDENS);
    switch (i - GOLDENS - DATAS) {
    case 0:
        return ack_with_blocks ();
    case 1:
        return long_head (golden_of (CTKI_PING), 8);
    default:
        return long_head (data_of (2), 64);
    }
}

/* ---- what is right */

/* Every control frame has the bytes that the grammar says, and they read back as the frame. */
START_TEST (golden_control)
{
    bytes_t expected = {.size = from_hex (expected.part, golden[_i].hex)};
    uint8_t out[CTKI_CONTROL_BYTES], again[CTKI_CONTROL_BYTES];
    ck_assert_uint_eq (ctki_wire_encode (&golden[_i].frame, out, sizeof out), expected.size);
    ck_assert_mem_eq (out, expected.part, expected.size);

    ctki_frame_t frame;
    const char *why = decode (&expected, &frame);
    ck_assert_msg (why == NULL, "%s", why);
    ck_assert_uint_eq (frame.version, CTKI_WIRE_VERSION);
    ck_assert_uint_eq (frame.type, golden[_i].frame.type);
    ck_assert_uint_eq (ctki_wire_encode (&frame, again, sizeof again), expected.size);
    ck_assert_mem_eq (again, expected.part, expected.size);
}
END_TEST

/* DATA built by put_head, ctki_record_put and the combined checksum has the golden bytes. */
START_TEST (golden_data)
{
    bytes_t expected = data_of (0);
    ctki_frame_t frame = {.type = CTKI_DATA, .flags = CTKI_F_ACK_NOW, .sid = SID, .n = N, .round = ROUND, .gen = GEN};
    bytes_t b = {.size = CTKI_HEAD_BYTES};
    ctki_wire_put_head (b.part, &frame);
    b.size += ctki_record_put (b.part + b.size, &(ctki_record_t){.flags = 0x23, .len = 5, .msg_id = -2});
    memcpy (b.part + b.size, "hello\0\0", ctki_record_pad (5));
    b.size += ctki_record_pad (5);
    b.size += ctki_record_put (
        b.part + b.size,
        &(ctki_record_t){.flags = 0x1f, .to = UINT64_C (0xf1f2f3f4f5f6f7f8), .from = UINT64_C (0x0f1f2f3f4f5f6f7f)});
    uint32_t head = ctki_crc32c (0, b.part, CTKI_HEAD_BYTES);
    uint32_t records = ctki_crc32c (0, b.part + CTKI_HEAD_BYTES, b.size - CTKI_HEAD_BYTES);
    ctki_put32 (b.part + b.size, ctki_crc32c_combine (head, records, b.size - CTKI_HEAD_BYTES));
    b.size += CTKI_CRC_BYTES;
    ck_assert_uint_eq (b.size, expected.size);
    ck_assert_mem_eq (b.part, expected.part, expected.size);
}
END_TEST

/* A decoded DATA frame points at its records and its second part, in each shape. */
START_TEST (data_points)
{
    static const size_t records_sizes[DATAS] = {48, 0, 24};
    bytes_t b = data_of ((size_t) _i);
    const uint8_t *body = b.body_size > 0 ? b.body : NULL;
    ctki_frame_t frame;
    const char *why = ctki_wire_decode (&frame, b.part, b.size, body, b.body_size);
    ck_assert_msg (why == NULL, "%s", why);
    ck_assert_uint_eq (frame.type, CTKI_DATA);
    ck_assert_uint_eq (frame.sid, SID);
    ck_assert_uint_eq (frame.n, N);
    ck_assert_uint_eq (frame.round, ROUND);
    ck_assert_uint_eq (frame.gen, GEN);
    ck_assert_ptr_eq (frame.records, b.part + CTKI_HEAD_BYTES);
    ck_assert_uint_eq (frame.records_size, records_sizes[_i]);
    ck_assert_ptr_eq (frame.body, body);
    ck_assert_uint_eq (frame.body_size, b.body_size);
}
END_TEST

/* The records of a decoded DATA frame read back to its end, in the one-part shape. */
START_TEST (data_records)
{
    bytes_t b = data_of (0);
    ctki_frame_t frame;
    ck_assert_ptr_null (ctki_wire_decode (&frame, b.part, b.size, NULL, 0));
    ctki_record_t r;
    size_t head = ctki_record_get (frame.records, frame.records_size, &r);
    ck_assert_uint_eq (head, 16);
    ck_assert_uint_eq (r.len, 5);
    ck_assert_uint_eq (r.total, 5);
    ck_assert_int_eq (r.msg_id, -2);
    ck_assert_mem_eq (frame.records + head, "hello", 5);
    size_t at = head + ctki_record_pad (r.len);
    head = ctki_record_get (frame.records + at, frame.records_size - at, &r);
    ck_assert_uint_eq (at + head, frame.records_size);
    ck_assert_uint_eq (r.to, UINT64_C (0xf1f2f3f4f5f6f7f8));
    ck_assert_uint_eq (r.from, UINT64_C (0x0f1f2f3f4f5f6f7f));
}
END_TEST

/* Frame flags that this version does not know are no reason to refuse a frame. */
START_TEST (unknown_flags)
{
    bytes_t b = sample ((size_t) _i);
    ctki_put16 (b.part + 4, 0xffff);
    seal (&b);
    assert_good (&b);
}
END_TEST

/* Random fields survive encoding and decoding. */
START_TEST (round_trip)
{
    srandom (1);
    size_t count = ctki_test_count (20000);
    for (size_t i = 0; i < count; ++i) {
        ctki_frame_t frame = golden[i % GOLDENS].frame;
        uint8_t *p = (uint8_t *) &frame.u;
        for (size_t k = 0; k < sizeof frame.u; ++k)
            p[k] = (uint8_t) random ();
        if (frame.type == CTKI_HELLO) {
            frame.u.hello.src &= INT32_MAX;
            frame.u.hello.dst &= INT32_MAX;
            frame.u.hello.version_min &= frame.u.hello.version_max;
        }
        frame.flags = (uint16_t) random ();
        bytes_t b = {.size = ctki_wire_encode (&frame, b.part, sizeof b.part)};
        ctki_frame_t read;
        const char *why = decode (&b, &read);
        ck_assert_msg (why == NULL, "%s", why);
        uint8_t again[CTKI_CONTROL_BYTES];
        ck_assert_uint_eq (ctki_wire_encode (&read, again, sizeof again), b.size);
        ck_assert_mem_eq (again, b.part, b.size);
    }
}
END_TEST

/* ---- what is damaged */

/* What was tried, and what was taken though it was damaged. */
typedef struct {
    size_t cases, taken;
} tally_t;

static void try_damaged (tally_t *tally, const bytes_t *b)
{
    tally->cases++;
    tally->taken += !refuses (b);
}

static void truncate_each (tally_t *tally, const bytes_t *whole)
{
    bytes_t b = *whole;
    for (b.size = 0; b.size < whole->size; ++b.size)
        try_damaged (tally, &b);
    b = *whole;
    for (b.body_size = 0; b.body_size < whole->body_size; ++b.body_size)
        try_damaged (tally, &b);
}

static void flip_each (tally_t *tally, const bytes_t *whole)
{
    bytes_t b = *whole;
    for (size_t bit = 0; bit < 8 * (b.size + b.body_size); ++bit) {
        uint8_t *byte = bit / 8 < b.size ? &b.part[bit / 8] : &b.body[bit / 8 - b.size];
        *byte = (uint8_t) (*byte ^ 1u << bit % 8);
        try_damaged (tally, &b);
        *byte = (uint8_t) (*byte ^ 1u << bit % 8);
    }
    assert_good (&b);
}

/* No beginning of a frame is taken for a frame, nor one whose second part was cut or lost. */
START_TEST (truncations)
{
    tally_t tally = {0};
    for (size_t i = 0; i < SAMPLES; ++i) {
        bytes_t whole = sample (i);
        truncate_each (&tally, &whole);
        ck_assert_msg (tally.taken == 0, "sample %zu", i);
    }
    ctki_test_figure ("truncated frames", "%zu cases, accepted bad %zu", tally.cases, tally.taken);
}
END_TEST

/* No single changed bit goes unseen, in either part. */
START_TEST (bit_flips)
{
    tally_t tally = {0};
    for (size_t i = 0; i < SAMPLES; ++i) {
        bytes_t whole = sample (i);
        flip_each (&tally, &whole);
        ck_assert_msg (tally.taken == 0, "sample %zu", i);
    }
    ctki_test_figure ("frames with a changed bit", "%zu cases, accepted bad %zu", tally.cases, tally.taken);
}
END_TEST

/* An empty part, a part of one byte and what is no frame at all are refused with their reason. */
START_TEST (no_frame)
{
    bytes_t b = {.size = 0};
    for (b.size = 0; b.size < CTKI_HEAD_BYTES + CTKI_CRC_BYTES; ++b.size)
        assert_why (&b, "shorter than a header");
    assert_why (&b, "not a frame");
    b = golden_of (CTKI_PING);
    b.part[b.size - 1] ^= 1;
    assert_why (&b, "a wrong checksum");
}
END_TEST

/* ---- what is sealed but wrong */

/* A frame whose length is not just that of its type is refused, whatever its checksum. */
START_TEST (exact_lengths)
{
    static const uint8_t zeros[64];
    ctki_type_t type = golden[_i].frame.type;
    bytes_t whole = golden_of (type);
    for (size_t more = 1; more <= sizeof zeros; ++more) {
        bytes_t b = whole;
        append (&b, zeros, more);
        if (type != CTKI_ACK) /* zeros are empty blocks to an ACK */
            assert_why (&b, "longer than its type demands");
        else
            ck_assert_int_eq (refuses (&b), more % 4 != 0);
    }
    for (size_t size = CTKI_HEAD_BYTES + CTKI_CRC_BYTES; size < whole.size; ++size) {
        bytes_t b = whole;
        b.size = size;
        seal (&b);
        assert_why (&b, "shorter than its type demands");
    }
}
END_TEST

/* Through the lengths up to UINT16_MAX: each one up to 1024, then each 31st, the last one among them. */
static unsigned step (unsigned length)
{
    return length < 1024 ? 1 : 31;
}

/* A header may be longer than ours by steps of 8 and within the frame; any other length is refused. */
START_TEST (header_lengths)
{
    bytes_t ping = golden_of (CTKI_PING);
    for (uint16_t more = 8; more <= 128; more = (uint16_t) (more + 8)) {
        bytes_t b = long_head (ping, more);
        assert_good (&b);
        ctki_frame_t frame;
        decode (&b, &frame);
        ck_assert_uint_eq (frame.u.ping.stamp, golden[3].frame.u.ping.stamp);
    }
    for (unsigned hlen = 0; hlen <= UINT16_MAX; hlen += step (hlen)) {
        bytes_t b = ping;
        ctki_put16 (b.part + 6, (uint16_t) hlen);
        seal (&b);
        ck_assert_int_eq (refuses (&b), hlen != CTKI_HEAD_BYTES);
    }
    bytes_t odd = long_head (ping, 4);
    assert_why (&odd, "a wrong header length");
}
END_TEST

/* What a longer header adds is skipped, and the records of DATA still start behind it. */
START_TEST (header_skipped)
{
    bytes_t b = long_head (data_of (0), 16);
    ctki_frame_t frame;
    ck_assert_ptr_null (ctki_wire_decode (&frame, b.part, b.size, NULL, 0));
    ck_assert_ptr_eq (frame.records, b.part + CTKI_HEAD_BYTES + 16);
    ck_assert_uint_eq (frame.records_size, 48);
}
END_TEST

/* Only the types 1 to 9 exist. */
START_TEST (unknown_types)
{
    for (unsigned type = 0; type <= UINT8_MAX; ++type) {
        bytes_t b = golden_of (CTKI_PING);
        b.part[3] = (uint8_t) type;
        seal (&b);
        if (type < CTKI_HELLO || type > CTKI_REJECT)
            assert_why (&b, "unknown type");
    }
}
END_TEST

/* A session id of 0 is refused in every type that speaks of a session. */
START_TEST (no_sid)
{
    bytes_t b = sample ((size_t) _i);
    memset (b.part + 8, 0, 8);
    seal (&b);
    if (b.part[3] == CTKI_HELLO || b.part[3] == CTKI_REJECT)
        assert_good (&b);
    else
        assert_why (&b, "no session id");
}
END_TEST

/* A second part with any type but DATA is refused. */
START_TEST (no_second_part)
{
    bytes_t b = golden_of (golden[_i].frame.type);
    b.body_size = 8;
    seal (&b);
    assert_why (&b, "a second part where none may be");
}
END_TEST

/* DATA without a frame number, without a record, or in a fourth shape is refused. */
START_TEST (data_shapes)
{
    bytes_t b = data_of (0);
    memset (b.part + 16, 0, 8);
    seal (&b);
    assert_why (&b, "no frame number");

    b = data_of (0);
    for (b.size = CTKI_HEAD_BYTES + CTKI_CRC_BYTES; b.size < CTKI_HEAD_BYTES + CTKI_CRC_BYTES + 8; ++b.size) {
        seal (&b);
        assert_why (&b, "no record");
    }
    b = data_of (1);
    for (b.body_size = 1; b.body_size < 8; ++b.body_size) {
        seal (&b);
        assert_why (&b, "no record");
    }
    b = data_of (2);
    for (size_t size = 1; size <= 128; ++size) {
        b.size = CTKI_HEAD_BYTES + size + CTKI_CRC_BYTES;
        seal (&b);
        if (size >= CTKI_RECORD_BYTES && size <= CTKI_RECORD_HEAD_MAX)
            assert_good (&b);
        else
            assert_why (&b, "a second part after something other than one record header");
    }
}
END_TEST

/* A second part that is there but empty is refused. */
START_TEST (empty_second_part)
{
    bytes_t b = data_of (0);
    ctki_frame_t frame;
    const char *why = ctki_wire_decode (&frame, b.part, b.size, b.body, 0);
    ck_assert_ptr_nonnull (why);
    ck_assert_str_eq (why, "an empty second part");
}
END_TEST

/* The blocks of an ACK are skipped when they fit and refused when one does not. */
START_TEST (ack_blocks)
{
    bytes_t good = ack_with_blocks ();
    ctki_frame_t frame;
    ck_assert_ptr_null (decode (&good, &frame));
    ck_assert_uint_eq (frame.u.ack.stuck_ms, 0xc1c2c3c4u);
    for (unsigned length = 0; length <= UINT16_MAX; length += step (length)) {
        bytes_t b = golden_of (CTKI_ACK);
        uint8_t block[11] = {0, 1, (uint8_t) (length >> 8), (uint8_t) length};
        append (&b, block, sizeof block);
        if (length != 3 && length != 7) /* 3: followed by an empty one */
            assert_why (&b, "a block that does not fit");
        else
            assert_good (&b);
    }
}
END_TEST

/* The offsets of what a greeting may not say, and the reasons. */
static const struct {
    size_t at, size;
    uint64_t value;
    const char *why;
} bad_hello[] = {{48, 4, 0x80000000u, "a negative pid"}, {52, 4, 0xffffffffu, "a negative pid"},
                 {56, 8, 0, "no incarnation"},           {80, 1, 3, "a range of versions that is empty"},
                 {82, 2, 1, "a reserved field in use"},  {82, 2, 0x8000, "a reserved field in use"}};

/* A HELLO with a negative pid, no incarnation, no version or a reserved field in use is refused. */
START_TEST (hello_values)
{
    bytes_t b = golden_of (CTKI_HELLO);
    for (size_t i = 0; i < bad_hello[_i].size; ++i)
        b.part[bad_hello[_i].at + i] = (uint8_t) (bad_hello[_i].value >> 8 * (bad_hello[_i].size - 1 - i));
    seal (&b);
    assert_why (&b, bad_hello[_i].why);
}
END_TEST

/* The largest values that a HELLO may hold are taken. */
START_TEST (hello_extremes)
{
    ctki_frame_t frame = {.type = CTKI_HELLO,
                          .sid = UINT64_MAX,
                          .n = UINT64_MAX,
                          .u.hello = {.src = INT32_MAX,
                                      .dst = 0,
                                      .inc = UINT64_MAX,
                                      .version_min = 0,
                                      .version_max = UINT8_MAX,
                                      .frame_bytes = UINT32_MAX,
                                      .message_bytes = UINT64_MAX,
                                      .ordinal = UINT64_MAX,
                                      .charge = UINT64_MAX}};
    bytes_t b = {.size = ctki_wire_encode (&frame, b.part, sizeof b.part)};
    ctki_frame_t read;
    ck_assert_ptr_null (decode (&b, &read));
    ck_assert_int_eq (read.u.hello.src, INT32_MAX);
    ck_assert_int_eq (read.u.hello.dst, 0);
    ck_assert_uint_eq (read.u.hello.version_max, UINT8_MAX);
    ck_assert_uint_eq (read.u.hello.frame_bytes, UINT32_MAX);
    ck_assert_uint_eq (read.u.hello.message_bytes, UINT64_MAX);
    ck_assert_uint_eq (read.u.hello.ordinal, UINT64_MAX);
    ck_assert_uint_eq (read.u.hello.charge, UINT64_MAX);
}
END_TEST

/* Every number of the other bodies may be the largest or 0 (but for an incarnation), and reads back. */
START_TEST (body_extremes)
{
    static const ctki_type_t types[] = {CTKI_WELCOME, CTKI_ACK, CTKI_PING, CTKI_RESET, CTKI_BYE};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; ++i) {
        for (int fill = 0; fill <= UINT8_MAX; fill += UINT8_MAX) {
            ctki_frame_t frame = {.type = (uint8_t) types[i], .sid = UINT64_MAX}, read;
            memset (&frame.u, fill, sizeof frame.u);
            if (types[i] == CTKI_WELCOME)
                frame.u.welcome.inc = 1;
            bytes_t b = {.size = ctki_wire_encode (&frame, b.part, sizeof b.part)};
            ck_assert_ptr_null (decode (&b, &read));
            bool ack = types[i] == CTKI_ACK, ping = types[i] == CTKI_PING;
            ck_assert (!ack || memcmp (&read.u.ack, &frame.u.ack, sizeof frame.u.ack) == 0);
            ck_assert (!ping || read.u.ping.probe == frame.u.ping.probe);
            ck_assert (!ping || (read.u.ping.stamp == frame.u.ping.stamp && read.u.ping.inc == frame.u.ping.inc));
            ck_assert (ack || ping || types[i] == CTKI_WELCOME || read.u.reason == frame.u.reason);
        }
    }
}
END_TEST

/* A WELCOME without an incarnation is refused. */
START_TEST (welcome_values)
{
    bytes_t b = golden_of (CTKI_WELCOME);
    memset (b.part + 32, 0, 8);
    seal (&b);
    assert_why (&b, "no incarnation");
}
END_TEST

/* Of a frame of another version, version and type are told and nothing else, whatever follows. */
START_TEST (other_versions)
{
    for (unsigned version = 0; version <= UINT8_MAX; ++version) {
        if (version == CTKI_WIRE_VERSION)
            continue;
        bytes_t b = sample ((size_t) _i);
        bool hello = b.part[3] == CTKI_HELLO;
        b.part[2] = (uint8_t) version;
        append (&b, "something new", 13);
        ctki_frame_t frame;
        const char *why = decode (&b, &frame);
        ck_assert_msg (why == NULL, "%s", why);
        ck_assert_uint_eq (frame.version, version);
        ck_assert_uint_eq (frame.type, b.part[3]);
        ck_assert_uint_eq (frame.n, 0);
        ck_assert_ptr_null (frame.records);
        ck_assert_ptr_null (frame.body);
        ck_assert_uint_eq (frame.u.hello.nonce, hello ? golden[0].frame.u.hello.nonce : 0);
    }
}
END_TEST

/* A HELLO of another version that lacks a part of the greeting is refused. */
START_TEST (other_version_short)
{
    bytes_t b = golden_of (CTKI_HELLO);
    b.part[2] = 2;
    seal (&b);
    assert_good (&b);
    for (b.size -= 1; b.size >= CTKI_HEAD_BYTES + CTKI_CRC_BYTES; --b.size) {
        seal (&b);
        assert_why (&b, "shorter than its type demands");
    }
}
END_TEST

/* Random bytes never lead the decoder astray, and a control frame that it takes is one that could have been written. */
START_TEST (random_bytes)
{
    srandom (2);
    size_t taken = 0, count = ctki_test_count (RANDOM_FRAMES);
    for (size_t i = 0; i < count; ++i) {
        bytes_t b = sample ((size_t) random () % SAMPLES);
        for (long changes = random () % 4; changes >= 0; --changes)
            b.part[(size_t) random () % b.size] = (uint8_t) random ();
        if (random () % 2 == 0)
            b.size = CTKI_HEAD_BYTES + CTKI_CRC_BYTES + (size_t) random () % 100;
        seal (&b);
        ctki_frame_t frame;
        if (decode (&b, &frame) != NULL)
            continue;
        ++taken;
        if (frame.version != CTKI_WIRE_VERSION || frame.type == CTKI_DATA)
            continue;
        uint8_t again[CTKI_CONTROL_BYTES];
        size_t size = ctki_wire_encode (&frame, again, sizeof again);
        if (size == b.size)
            ck_assert_mem_eq (again, b.part, size);
        else /* a longer header, or blocks */
            ck_assert (b.size > size && (ctki_get16 (b.part + 6) > CTKI_HEAD_BYTES || frame.type == CTKI_ACK));
    }
    ck_assert_uint_gt (taken, 0);
    ck_assert_uint_lt (taken, count);
}
END_TEST

/* ---- records */

static ctki_record_t record_of (unsigned flags)
{
    ctki_record_t r = {.flags = (uint16_t) flags, .len = 0xf1020304u, .total = 0xf1020304u};
    if (flags & CTKI_R_ID)
        r.msg_id = INT64_MIN;
    if (flags & CTKI_R_TO)
        r.to = UINT64_MAX;
    if (flags & CTKI_R_FROM)
        r.from = UINT64_C (0x0102030405060708);
    if ((flags & (CTKI_R_FIRST | CTKI_R_LAST)) == CTKI_R_FIRST)
        r.total = UINT64_MAX - 1;
    return r;
}

/* A record's header with any set of flags reads back, has the size foretold, and no beginning of it is taken. */
START_TEST (records)
{
    ctki_record_t r = record_of ((unsigned) _i), read;
    uint8_t out[CTKI_RECORD_HEAD_MAX];
    size_t size = ctki_record_put (out, &r);
    ck_assert_uint_eq (size, ctki_record_head (r.flags));
    ck_assert_uint_eq (size % 8, 0);
    ck_assert_uint_le (size, CTKI_RECORD_HEAD_MAX);
    for (size_t left = 0; left < size; ++left) {
        uint8_t *cut = malloc (left + 1);
        ck_assert_ptr_nonnull (cut);
        memcpy (cut + 1, out, left);
        ck_assert_uint_eq (ctki_record_get (cut + 1, left, &read), 0);
        free (cut);
    }
    ck_assert_uint_eq (ctki_record_get (out, size, &read), size);
    ck_assert_uint_eq (read.flags, r.flags);
    ck_assert_uint_eq (read.len, r.len);
    ck_assert_int_eq (read.msg_id, r.msg_id);
    ck_assert_uint_eq (read.to, r.to);
    ck_assert_uint_eq (read.from, r.from);
    ck_assert_uint_eq (read.total, r.total);
}
END_TEST

/* A record with an unknown flag or a reserved bit in use is none. */
START_TEST (bad_records)
{
    for (unsigned bit = 0; bit < 32; ++bit) {
        uint8_t out[CTKI_RECORD_HEAD_MAX] = {0};
        ctki_put32 (out + 4, UINT32_C (1) << bit);
        ctki_record_t r;
        bool known = bit >= 16 && (1u << (bit - 16) & CTKI_R_ALL) != 0;
        ck_assert_int_eq (ctki_record_get (out, sizeof out, &r) != 0, known);
    }
}
END_TEST

/* Padding goes up to the next multiple of 8 and no further. */
START_TEST (padding)
{
    ck_assert_uint_eq (ctki_record_pad (0), 0);
    for (size_t size = 1; size <= 64; ++size) {
        size_t padded = ctki_record_pad (size);
        ck_assert (padded % 8 == 0 && padded >= size && padded < size + 8);
    }
}
END_TEST

static TCase *tcase_right (void)
{
    TCase *tc = tcase_create ("right");
    tcase_add_loop_test (tc, golden_control, 0, GOLDENS);
    tcase_add_test (tc, golden_data);
    tcase_add_loop_test (tc, data_points, 0, DATAS);
    tcase_add_test (tc, data_records);
    tcase_add_loop_test (tc, unknown_flags, 0, SAMPLES);
    tcase_add_test (tc, round_trip);
    return tc;
}

static TCase *tcase_damaged (void)
{
    TCase *tc = tcase_create ("damaged");
    tcase_add_test (tc, truncations);
    tcase_add_test (tc, bit_flips);
    tcase_add_test (tc, no_frame);
    return tc;
}

static TCase *tcase_wrong (void)
{
    TCase *tc = tcase_create ("wrong");
    tcase_add_loop_test (tc, exact_lengths, 0, GOLDENS);
    tcase_add_test (tc, header_lengths);
    tcase_add_test (tc, header_skipped);
    tcase_add_test (tc, unknown_types);
    tcase_add_loop_test (tc, no_sid, 0, SAMPLES);
    tcase_add_loop_test (tc, no_second_part, 0, GOLDENS);
    tcase_add_test (tc, data_shapes);
    tcase_add_test (tc, empty_second_part);
    tcase_add_test (tc, ack_blocks);
    tcase_add_loop_test (tc, hello_values, 0, sizeof bad_hello / sizeof bad_hello[0]);
    tcase_add_test (tc, hello_extremes);
    tcase_add_test (tc, body_extremes);
    tcase_add_test (tc, welcome_values);
    tcase_add_loop_test (tc, other_versions, 0, SAMPLES);
    tcase_add_test (tc, other_version_short);
    tcase_add_test (tc, random_bytes);
    return tc;
}

static TCase *tcase_records (void)
{
    TCase *tc = tcase_create ("records");
    tcase_add_loop_test (tc, records, 0, CTKI_R_ALL + 1);
    tcase_add_test (tc, bad_records);
    tcase_add_test (tc, padding);
    return tc;
}

Suite *ctki_suite_wire (void)
{
    TCase *cases[] = {tcase_right (), tcase_damaged (), tcase_wrong (), tcase_records ()};
    Suite *suite = suite_create ("wire");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
        tcase_set_timeout (cases[i], ctki_test_ms (30 * 1000) / 1000);
        suite_add_tcase (suite, cases[i]);
    }
    return suite;
}
