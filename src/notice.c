/*
 * notice.c - the bytes of a notice, and the hash of a name. See notice.h.
 */
#include "src/notice.h"

#include "src/envelope.h"

size_t ctki_notice_encode (const ctki_notice_t *notice, uint8_t bytes[CTKI_NOTICE_BYTES + CTKI_NAME_BYTES])
{
    CTKI_ASSERT (notice->text_size <= CTKI_NAME_BYTES);
    ctki_put64 (bytes, (uint64_t) notice->op << 56);
    ctki_put64 (bytes + 8, notice->a);
    ctki_put64 (bytes + 16, notice->b);
    if (notice->text_size)
        memcpy (bytes + CTKI_NOTICE_BYTES, notice->text, notice->text_size);
    return CTKI_NOTICE_BYTES + notice->text_size;
}

bool ctki_notice_decode (ctki_notice_t *notice, const uint8_t *bytes, size_t size)
{
    if (size < CTKI_NOTICE_BYTES)
        return false;
    uint64_t head = ctki_get64 (bytes);
    *notice = (ctki_notice_t) {.op = (ctki_op_t) (head >> 56), .a = ctki_get64 (bytes + 8), .b = ctki_get64 (bytes + 16)};
    notice->text = (const char *) bytes + CTKI_NOTICE_BYTES;
    notice->text_size = size - CTKI_NOTICE_BYTES;
    bool named = notice->op == CTKI_JOINED || notice->op == CTKI_LEFT;
    return head << 8 == 0 && head >> 56 != 0
           && (!named || (notice->text_size > 0 && notice->text_size <= CTKI_NAME_BYTES));
}

size_t ctki_notices_count (const uint8_t *records, size_t size)
{
    size_t count = 0;
    for (size_t at = 0; at < size;) {
        ctki_record_t record;
        size_t head = ctki_record_get (records + at, size - at, &record);
        CTKI_ASSERT (head > 0);
        count += record.to == CTKI_SYSTEM;
        at += head + ctki_record_pad (record.len);
    }
    return count;
}

uint64_t ctki_name_hash (const char *name, size_t size)
{
    uint64_t hash = UINT64_C (0xcbf29ce484222325);
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (uint8_t) name[i]) * UINT64_C (0x100000001b3);
    hash = (hash ^ hash >> 33) * UINT64_C (0xff51afd7ed558ccd);
    hash = (hash ^ hash >> 33) * UINT64_C (0xc4ceb9fe1a85ec53);
    return hash ^ hash >> 33;
}

size_t ctki_name_length (const char *name)
{
    size_t length = name ? strnlen (name, CTKI_NAME_BYTES + 1) : 0;
    return length <= CTKI_NAME_BYTES ? length : 0;
}
