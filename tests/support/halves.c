/*
 * halves.c - see halves.h.
 */
#include "tests/support/halves.h"

#include <check.h>

#include "src/sys.h"

ctki_session_setup_t ctki_halves_setup (ctalk_pid_t self, ctalk_pid_t peer, uint64_t inc)
{
    return (ctki_session_setup_t) {.self = self,
                                   .peer = peer,
                                   .inc = inc,
                                   .frame_bytes = CTKI_HALVES_FRAME_BYTES,
                                   .message_bytes = CTKI_HALVES_MESSAGE_BYTES,
                                   .window_bytes = CTKI_HALVES_WINDOW_BYTES,
                                   .window_frames = CTKI_HALVES_WINDOW_FRAMES,
                                   .heartbeat_us = 500 * CTKI_MS,
                                   .suspect_us = 1500 * CTKI_MS,
                                   .down_us = 5 * CTKI_S};
}

static void write_large (ctki_writer_t *writer, ctki_items_t *items, const ctki_record_t *record, size_t size)
{
    ctki_buf_t *body = ctki_buf_new (size);
    ck_assert_ptr_nonnull (body);
    memset (body->data, (int) record->msg_id, size);
    ck_assert_int_eq (ctki_writer_large (writer, items, NULL, false, record, body, body->data, size), 0);
}

void ctki_halves_push (ctki_out_t *out, bool large, unsigned count, size_t size, int64_t first)
{
    static uint8_t data[CTKI_HALVES_MESSAGE_BYTES];
    ctki_items_t items = {0};
    ctki_writer_t writer;
    size_t block = ctki_writer_block_bytes (CTKI_HALVES_FRAME_BYTES);
    ctki_pool_t *pool = ctki_pool_new (block, 1);
    ck_assert_ptr_nonnull (pool);
    ctki_writer_init (&writer, pool, block, CTKI_HALVES_FRAME_BYTES);
    for (unsigned i = 0; i < count; i++) {
        ctalk_envelope_t envelope = {.pid = CTKI_HALVES_PEER, .msg_id = first + i, .size = size};
        ctki_record_t record = ctki_record_of (&envelope, false);
        memset (data, (int) envelope.msg_id, size);
        if (large)
            write_large (&writer, &items, &record, size);
        else
            ck_assert_int_eq (ctki_writer_put (&writer, &items, NULL, false, &record, data), 0);
    }
    ctki_writer_fini (&writer);
    for (ctki_item_t *item; (item = ctki_items_take (&items));)
        ctki_out_push (out, item);
    ctki_pool_destroy (&pool);
}

/* ---- what a receiver writes */

ctki_frame_t ctki_halves_back (ctki_type_t type, uint64_t sid, uint64_t n)
{
    return (ctki_frame_t) {.version = CTKI_WIRE_VERSION, .type = (uint8_t) type, .sid = sid, .n = n};
}

ctki_frame_t ctki_halves_welcome (uint64_t sid, uint64_t n, bool resumed, uint64_t inc)
{
    ctki_frame_t frame = ctki_halves_back (CTKI_WELCOME, sid, n);
    frame.flags = resumed ? CTKI_F_RESUMED : 0;
    frame.u.welcome = (ctki_welcome_t) {.inc = inc,
                                        .nonce = CTKI_HALVES_NONCE,
                                        .credit_frame = CTKI_HALVES_WINDOW_FRAMES,
                                        .credit_byte = CTKI_HALVES_WINDOW_BYTES};
    return frame;
}

ctki_frame_t ctki_halves_ack (uint64_t n, unsigned flags, uint32_t round)
{
    ctki_frame_t frame = ctki_halves_back (CTKI_ACK, CTKI_HALVES_SID, n);
    frame.flags = (uint16_t) flags;
    frame.round = round;
    frame.u.ack
        = (ctki_ack_t) {.credit_frame = CTKI_HALVES_WINDOW_FRAMES, .credit_byte = CTKI_HALVES_WINDOW_BYTES};
    return frame;
}

ctki_frame_t ctki_halves_reason (ctki_type_t type, uint64_t sid, uint32_t reason)
{
    ctki_frame_t frame = ctki_halves_back (type, sid, 0);
    frame.u.reason = reason;
    return frame;
}

/* ---- what a sender writes */

ctki_frame_t ctki_halves_there (ctki_type_t type, uint64_t sid, uint64_t n)
{
    ctki_frame_t frame = ctki_halves_back (type, sid, n);
    frame.gen = 1;
    return frame;
}

ctki_frame_t ctki_halves_hello (uint64_t inc, uint64_t prev_sid, uint64_t n)
{
    ctki_frame_t frame = ctki_halves_there (CTKI_HELLO, 0, n);
    frame.u.hello = (ctki_hello_t) {.src = CTKI_HALVES_SELF,
                                    .dst = CTKI_HALVES_PEER,
                                    .inc = inc,
                                    .nonce = CTKI_HALVES_NONCE,
                                    .prev_sid = prev_sid,
                                    .version_min = CTKI_WIRE_VERSION,
                                    .version_max = CTKI_WIRE_VERSION,
                                    .frame_bytes = CTKI_HALVES_FRAME_BYTES,
                                    .message_bytes = CTKI_HALVES_MESSAGE_BYTES};
    return frame;
}

ctki_frame_t ctki_halves_data (uint64_t sid, uint64_t n)
{
    static uint8_t record[16];
    ctki_record_put (record, &(ctki_record_t) {.flags = CTKI_R_FIRST | CTKI_R_LAST, .len = 8});
    ctki_frame_t frame = ctki_halves_there (CTKI_DATA, sid, n);
    frame.records = record;
    frame.records_size = sizeof record;
    return frame;
}

ctki_frame_t ctki_halves_fragment (uint64_t sid, uint64_t n, unsigned ends, uint32_t len, uint64_t total)
{
    static uint8_t head[CTKI_RECORD_HEAD_MAX], body[2 * CTKI_HALVES_MESSAGE_BYTES];
    ctki_record_t record = {.flags = (uint16_t) ends, .len = len, .total = total};
    ctki_frame_t frame = ctki_halves_there (CTKI_DATA, sid, n);
    frame.records = head;
    frame.records_size = ctki_record_put (head, &record);
    frame.body = body;
    frame.body_size = len;
    return frame;
}
