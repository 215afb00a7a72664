/*
 * test_envelope.c - bufs, pools, owned payloads, items and the writer of runs.
 */
#include <check.h>
#include <errno.h>

#include "src/envelope.h"
#include "src/mem.h"
#include "tests/support/payload.h"
#include "tests/support/scale.h"
#include "tests/support/thread.h"

Suite *ctki_suite_envelope (void);

enum { BLOCK = 256, RUN_LIMIT = 8192, ENVELOPES = 600, THREADS = 3, ROUNDS = 5000 };

static bool aligned (const void *p)
{
    return (uintptr_t) p % 8 == 0;
}

/* ---- buf */

static int ended;

static void note_end (ctki_buf_t *buf)
{
    ended++;
    ctki_free (buf);
}

/* A buf has its size, aligned, and ends once, with its last reference, however they are given back. */
START_TEST (buf_life)
{
    ctki_buf_t *buf = ctki_buf_new (100);
    ck_assert (aligned (buf->data) && buf->size == 100 && !buf->owned);
    memset (buf->data, 1, 100);
    ended = 0;
    buf->end = note_end;
    ctki_buf_hold (buf, 5);
    ctki_buf_release (buf, 2);
    ctki_buf_release (buf, 3);
    ck_assert_int_eq (ended, 0);
    ctki_buf_release (buf, 1);
    ck_assert_int_eq (ended, 1);
    buf = ctki_buf_new (0);
    ck_assert_uint_eq (buf->size, 0);
    ctki_buf_release (buf, 1);
}
END_TEST

/* A copy is memory of its own with the same bytes, of nothing too; without memory there is none. */
START_TEST (buf_copied)
{
    char text[] = "payload";
    ctki_buf_t *buf = ctki_buf_copy (text, sizeof text);
    memset (text, 0, sizeof text);
    ck_assert_uint_eq (buf->size, sizeof text);
    ck_assert_str_eq ((const char *) buf->data, "payload");
    ck_assert (!buf->owned);
    ctki_buf_release (buf, 1);
    buf = ctki_buf_copy (NULL, 0);
    ck_assert_uint_eq (buf->size, 0);
    ctki_buf_release (buf, 1);
    ctki_mem_fail (0, 1);
    ck_assert_ptr_null (ctki_buf_copy (text, sizeof text));
    ctki_mem_fail (-1, 0);
}
END_TEST

/* A size that memory cannot hold is ENOMEM, not a small block. */
START_TEST (buf_too_large)
{
    errno = 0;
    ck_assert_ptr_null (ctki_buf_new (SIZE_MAX));
    ck_assert_int_eq (errno, ENOMEM);
    errno = 0;
    ck_assert_ptr_null (ctki_buf_new (SIZE_MAX - sizeof (ctki_buf_t) + 1));
    ck_assert_int_eq (errno, ENOMEM);
}
END_TEST

/* ---- pool */

/* Blocks come back: as many as are to be kept are used again, the rest are freed. */
START_TEST (pool_again)
{
    ctki_pool_t *pool = ctki_pool_new (BLOCK, 2);
    ctki_buf_t *out[3], *again[3];
    for (int i = 0; i < 3; i++) {
        out[i] = ctki_pool_take (pool);
        ck_assert (aligned (out[i]->data) && out[i]->size == BLOCK);
        memset (out[i]->data, i, BLOCK);
    }
    for (int i = 0; i < 3; i++)
        ctki_buf_release (out[i], 1);
    ctki_mem_fail (0, -1); /* no new block is needed for the two that were kept */
    again[0] = ctki_pool_take (pool);
    again[1] = ctki_pool_take (pool);
    again[2] = ctki_pool_take (pool);
    ctki_mem_fail (-1, 0);
    ck_assert (again[0] && again[1] && again[0] != again[1]);
    ck_assert_ptr_null (again[2]);
    ck_assert_uint_eq (atomic_load (&again[0]->refs), 1);
    ctki_buf_release (again[0], 1);
    ctki_buf_release (again[1], 1);
    ctki_pool_destroy (&pool);
    ck_assert_ptr_null (pool);
    ctki_pool_destroy (&pool);
}
END_TEST

/* Blocks that are out when the pool's owner is gone stay good, and the last one ends the pool. */
START_TEST (pool_outlived)
{
    ctki_pool_t *pool = ctki_pool_new (BLOCK, 2);
    ctki_buf_t *kept = ctki_pool_take (pool), *first = ctki_pool_take (pool), *last = ctki_pool_take (pool);
    ctki_buf_release (kept, 1);
    ctki_pool_destroy (&pool);
    memset (first->data, 1, BLOCK);
    ctki_buf_release (first, 1);
    memset (last->data, 2, BLOCK);
    ctki_buf_release (last, 1);
}
END_TEST

/* Without memory there is no pool and no block; a pool that could give none is still good. */
START_TEST (pool_no_memory)
{
    ctki_mem_fail (0, -1);
    ck_assert_ptr_null (ctki_pool_new (BLOCK, 2));
    ctki_mem_fail (-1, 0);
    ctki_pool_t *pool = ctki_pool_new (BLOCK, 2);
    ctki_mem_fail (0, 1);
    ck_assert_ptr_null (ctki_pool_take (pool));
    ctki_mem_fail (-1, 0);
    ctki_buf_t *block = ctki_pool_take (pool);
    ctki_pool_destroy (&pool);
    ctki_buf_release (block, 1);
}
END_TEST

static bool take_and_give (void *arg, ctki_trouble_t *trouble)
{
    size_t rounds = ctki_test_count (ROUNDS);
    for (size_t i = 0; i < rounds; i++) {
        ctki_buf_t *one = ctki_pool_take (arg), *two = ctki_pool_take (arg);
        CTKI_EXPECT (trouble, one && two && one != two);
        memset (one->data, (int) i, BLOCK);
        memset (two->data, (int) i + 1, BLOCK);
        CTKI_EXPECT (trouble, one->data[0] == (uint8_t) i && one->data[BLOCK - 1] == (uint8_t) i);
        ctki_buf_release (one, 1);
        ctki_buf_release (two, 1);
    }
    return true;
}

/* Threads that take and give back never hold the same block. */
START_TEST (pool_threads)
{
    ctki_pool_t *pool = ctki_pool_new (BLOCK, 3);
    ctki_test_thread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        ctki_test_thread_start (&threads[i], take_and_give, pool);
    for (int i = 0; i < THREADS; i++)
        ctki_test_thread_join (&threads[i]);
    ctki_pool_destroy (&pool);
}
END_TEST

/* ---- owned payloads */

static char payload[100];
static int freed;

static void free_payload (void *data, void *hint)
{
    ck_assert_ptr_eq (data, payload);
    ck_assert_ptr_eq (hint, &freed);
    freed++;
}

/* An owned payload is freed once, by a sweep, when neither the library nor libzmq uses it any more. */
START_TEST (owned_once)
{
    ctki_limbo_t limbo;
    freed = 0;
    ctki_limbo_init (&limbo);
    ck_assert_uint_eq (ctki_limbo_sweep (&limbo), 0);
    ctki_buf_t *buf = ctki_buf_own (payload, sizeof payload, free_payload, &freed, &limbo);
    ck_assert (buf->data == (uint8_t *) payload && buf->size == sizeof payload && buf->owned);
    atomic_fetch_add (&buf->io_refs, 2);
    ck_assert_uint_eq (ctki_limbo_sweep (&limbo), 0); /* it is not there yet */
    ctki_buf_release (buf, 1);
    ck_assert_uint_eq (ctki_limbo_sweep (&limbo), 1);
    atomic_fetch_sub (&buf->io_refs, 1);
    ck_assert_uint_eq (ctki_limbo_sweep (&limbo), 1);
    ck_assert_int_eq (freed, 0);
    atomic_fetch_sub (&buf->io_refs, 1);
    ck_assert_uint_eq (ctki_limbo_sweep (&limbo), 0);
    ck_assert_int_eq (freed, 1);
    ck_assert_uint_eq (ctki_limbo_sweep (&limbo), 0);
    ck_assert_int_eq (freed, 1);
    ctki_limbo_fini (&limbo);
}
END_TEST

/* A sweep frees those that can be freed and leaves the others, wherever they lie; no function is no trouble. */
START_TEST (owned_some)
{
    ctki_limbo_t limbo;
    ctki_buf_t *bufs[5];
    freed = 0;
    ctki_limbo_init (&limbo);
    for (int i = 0; i < 5; i++) {
        bufs[i] = ctki_buf_own (payload, sizeof payload, i == 1 ? NULL : free_payload, &freed, &limbo);
        atomic_store (&bufs[i]->io_refs, i % 2 ? 0 : 1);
        ctki_buf_release (bufs[i], 1);
    }
    ck_assert_uint_eq (ctki_limbo_sweep (&limbo), 3);
    ck_assert_int_eq (freed, 1);
    for (int i = 0; i < 5; i += 2)
        atomic_store (&bufs[i]->io_refs, 0);
    ck_assert_uint_eq (ctki_limbo_sweep (&limbo), 0);
    ck_assert_int_eq (freed, 4);
    ctki_limbo_fini (&limbo);
}
END_TEST

/* A payload that was not accepted stays the user's: its function is never called. */
START_TEST (owned_given_up)
{
    ctki_limbo_t limbo;
    freed = 0;
    ctki_limbo_init (&limbo);
    ctki_buf_disown (ctki_buf_own (payload, sizeof payload, free_payload, &freed, &limbo));
    ctki_mem_fail (0, -1);
    ck_assert_ptr_null (ctki_buf_own (payload, sizeof payload, free_payload, &freed, &limbo));
    ctki_mem_fail (-1, 0);
    ck_assert_uint_eq (ctki_limbo_sweep (&limbo), 0);
    ck_assert_int_eq (freed, 0);
    ctki_limbo_fini (&limbo);
}
END_TEST

typedef struct {
    ctki_limbo_t limbo;
    atomic_bool over;
} sweeping_t;

static atomic_int freed_by_threads;

static void count_free (void *data, void *hint)
{
    (void) data;
    (void) hint;
    atomic_fetch_add (&freed_by_threads, 1);
}

static bool sweep (void *arg, ctki_trouble_t *trouble)
{
    sweeping_t *sweeping = arg;
    (void) trouble;
    while (!atomic_load (&sweeping->over))
        ctki_limbo_sweep (&sweeping->limbo);
    return true;
}

/* With several threads sweeping, each payload is still freed once. */
START_TEST (owned_threads)
{
    sweeping_t sweeping = {.over = false};
    ctki_test_thread_t threads[2];
    size_t rounds = ctki_test_count (ROUNDS);
    ctki_limbo_init (&sweeping.limbo);
    atomic_store (&freed_by_threads, 0);
    for (int i = 0; i < 2; i++)
        ctki_test_thread_start (&threads[i], sweep, &sweeping);
    for (size_t i = 0; i < rounds; i++)
        ctki_buf_release (ctki_buf_own (payload, sizeof payload, count_free, NULL, &sweeping.limbo), 1);
    atomic_store (&sweeping.over, true);
    for (int i = 0; i < 2; i++)
        ctki_test_thread_join (&threads[i]);
    ck_assert_uint_eq (ctki_limbo_sweep (&sweeping.limbo), 0);
    ck_assert_int_eq (atomic_load (&freed_by_threads), (int) rounds);
    ctki_limbo_fini (&sweeping.limbo);
}
END_TEST

/* ---- records */

/* The record of an envelope has a flag for each field that is not 0, and for a broadcast. */
START_TEST (record_of)
{
    for (int i = 0; i < 16; i++) {
        ctalk_envelope_t envelope = {.msg_id = i & 1 ? -5 : 0, .to = i & 2 ? 6 : 0, .from = i & 4 ? 7 : 0, .size = 99};
        ctki_record_t record = ctki_record_of (&envelope, (i & 8) != 0);
        unsigned flags = CTKI_R_FIRST | CTKI_R_LAST | (i & 1 ? CTKI_R_ID : 0u) | (i & 2 ? CTKI_R_TO : 0u)
                         | (i & 4 ? CTKI_R_FROM : 0u) | (i & 8 ? CTKI_R_BROADCAST : 0u);
        ck_assert_uint_eq (record.flags, flags);
        ck_assert (record.msg_id == envelope.msg_id && record.to == envelope.to && record.from == envelope.from);
        ck_assert (record.len == 99 && record.total == 99);
    }
}
END_TEST

/* ---- the writer */

static ctki_pool_t *pool;
static ctki_writer_t writer;
static ctki_items_t items;
static char one, two; /* destinations: only their addresses count */

static void set_up_writer (void)
{
    pool = ctki_pool_new (ctki_writer_block_bytes (RUN_LIMIT), 4);
    ctki_writer_init (&writer, pool, ctki_writer_block_bytes (RUN_LIMIT), RUN_LIMIT);
    items = (ctki_items_t){0};
}

static void release_items (void)
{
    for (ctki_item_t *item; (item = ctki_items_take (&items));)
        ctki_item_release (item);
}

/* Items outlive their writer and their pool's owner. */
static void tear_down_writer (void)
{
    ctki_writer_fini (&writer);
    ctki_pool_destroy (&pool);
    release_items ();
}

/* The number-th envelope of a test: sizes and fields of every kind. */
static ctalk_envelope_t envelope_of (int64_t number, uint8_t *bytes)
{
    static const size_t sizes[] = {0, 1, 7, 8, 9, 15, 16, 63, 64, 100, 1000, 4095};
    size_t size = sizes[(size_t) number % (sizeof sizes / sizeof sizes[0])];
    ctki_payload_fill (bytes, size, 1, 2, number);
    return (ctalk_envelope_t){.msg_id = number, .data = bytes, .size = size, .to = number % 5 == 0 ? 9 : 0};
}

static int put (void *dest, bool many, int64_t number)
{
    static uint8_t bytes[CTKI_LARGE_BYTES];
    ctalk_envelope_t envelope = envelope_of (number, bytes);
    ctki_record_t record = ctki_record_of (&envelope, many);
    int rc = ctki_writer_put (&writer, &items, dest, many, &record, envelope.size ? envelope.data : NULL);
    memset (bytes, 0xee, sizeof bytes); /* it was copied */
    return rc;
}

/* Checks the records of a run, numbered from first on; returns how many. */
static int64_t check_run (const ctki_item_t *run, int64_t first)
{
    static uint8_t bytes[CTKI_LARGE_BYTES];
    const uint8_t *at = run->data, *end = run->data + run->size;
    uint64_t charge = 0;
    int64_t count = 0;
    ck_assert_int_eq (run->kind, CTKI_RUN);
    ck_assert (aligned (run) && aligned (run->data) && run->size % 8 == 0);
    for (; at < end; count++) {
        ctki_record_t record;
        size_t head = ctki_record_get (at, (size_t) (end - at), &record);
        ctalk_envelope_t envelope = envelope_of (first + count, bytes);
        ck_assert (head > 0 && record.len == envelope.size && record.to == envelope.to);
        ck_assert_int_eq (record.msg_id, envelope.msg_id);
        ck_assert (ctki_payload_ok (at + head, record.len, 1, 2, record.msg_id));
        for (size_t i = record.len; i < ctki_record_pad (record.len); i++)
            ck_assert_uint_eq (at[head + i], 0);
        at += head + ctki_record_pad (record.len);
        charge += record.len + CTKI_CHARGE_BYTES;
    }
    ck_assert_ptr_eq (at, end);
    ck_assert_int_eq (count, run->count);
    ck_assert_uint_eq (charge, run->charge);
    return count;
}

/* The room for a header before a run and for a checksum behind it lies in its block and in no other item. */
static void check_room (const ctki_item_t *run)
{
    uint8_t *from = run->data - CTKI_HEAD_BYTES, *to = run->data + run->size + CTKI_CRC_BYTES;
    ck_assert (from >= (const uint8_t *) (run + 1));
    ck_assert (from >= run->home->data && to <= run->home->data + run->home->size);
    for (const ctki_item_t *other = items.head; other; other = other->next)
        ck_assert (other == run || other->home != run->home || (const uint8_t *) (other + 1) <= from
                   || (const uint8_t *) other >= to);
}

/* Envelopes to one destination make runs that hold all of them in order, within the limit, in place. */
START_TEST (writer_one)
{
    set_up_writer ();
    for (int64_t i = 1; i <= ENVELOPES; i++)
        ck_assert_int_eq (put (&one, false, i), 0);
    int64_t next = 1, runs = 0;
    for (ctki_item_t *run = items.head; run; run = run->next, runs++) {
        ck_assert (run->dest == &one && run->in_place && !run->many && !run->crc_known && !run->body);
        ck_assert_uint_le (run->size, RUN_LIMIT);
        check_room (run);
        memset (run->data - CTKI_HEAD_BYTES, 0xaa, CTKI_HEAD_BYTES);
        memset (run->data + run->size, 0xbb, CTKI_CRC_BYTES);
        next += check_run (run, next);
    }
    ck_assert_int_eq (next, ENVELOPES + 1);
    ck_assert_int_le (runs, ENVELOPES / 4); /* a batch is more than a few */
    tear_down_writer ();
}
END_TEST

/* Another destination, or the same one as a list, begins another run: no run has two. */
START_TEST (writer_two)
{
    set_up_writer ();
    for (int64_t i = 0; i < 40; i++)
        ck_assert_int_eq (put (i / 4 % 2 ? &two : &one, i / 4 % 2 != 0, i), 0);
    int64_t next = 0;
    for (ctki_item_t *run = items.head; run; run = run->next) {
        ck_assert (run->dest == (next / 4 % 2 ? &two : &one) && run->many == (run->dest == &two));
        ck_assert (run->in_place == !run->many);
        check_room (run);
        int64_t count = check_run (run, next);
        ck_assert_int_eq ((next + count - 1) / 4, next / 4);
        next += count;
    }
    ck_assert_int_eq (next, 40);
    tear_down_writer ();
}
END_TEST

/* A run that left the list grows no more. */
START_TEST (writer_closed)
{
    set_up_writer ();
    ck_assert_int_eq (put (&one, false, 1), 0);
    ctki_item_t *run = ctki_items_take (&items);
    ctki_writer_close (&writer);
    ck_assert_int_eq (put (&one, false, 2), 0);
    ck_assert_ptr_ne (items.head, run);
    ck_assert_int_eq (check_run (run, 1), 1);
    ck_assert_int_eq (check_run (items.head, 2), 1);
    ctki_item_release (run);
    tear_down_writer ();
}
END_TEST

/* Blocks begin small and grow to their full size, from where on they are the pool's. */
START_TEST (writer_blocks)
{
    set_up_writer ();
    size_t last = 0, full = ctki_writer_block_bytes (RUN_LIMIT);
    for (int64_t i = 1; last < full; i++) {
        ck_assert_int_lt (i, 10000);
        ck_assert_int_eq (put (&one, false, 2), 0);
        ck_assert_uint_le (writer.block->size, full);
        ck_assert_uint_ge (writer.block->size, last);
        last = writer.block->size;
        if (i == 1)
            ck_assert_uint_le (last, 4096);
    }
    ctki_buf_t *block = writer.block;
    release_items ();
    ctki_writer_fini (&writer);
    ctki_buf_t *again = ctki_pool_take (pool);
    ck_assert_ptr_eq (again, block); /* it came back to the pool */
    ctki_buf_release (again, 1);
    tear_down_writer ();
}
END_TEST

/* One record as large as a run may be fits into a run, even into the first. */
START_TEST (writer_largest)
{
    static uint8_t bytes[RUN_LIMIT];
    set_up_writer ();
    ctalk_envelope_t envelope = {.data = bytes, .size = RUN_LIMIT - CTKI_RECORD_BYTES};
    ctki_record_t record = ctki_record_of (&envelope, false);
    for (int i = 0; i < 3; i++) {
        memset (bytes, i + 1, sizeof bytes);
        ck_assert_int_eq (ctki_writer_put (&writer, &items, &one, false, &record, bytes), 0);
        ck_assert_uint_eq (items.tail->size, RUN_LIMIT);
        check_room (items.tail);
    }
    int number = 1;
    for (ctki_item_t *run = items.head; run; run = run->next, number++)
        ck_assert (run->data[CTKI_RECORD_BYTES] == number && run->data[RUN_LIMIT - 1] == number);
    ck_assert_int_eq (number, 4);
    tear_down_writer ();
}
END_TEST

/* A large envelope is an item of its own that shares the payload; those before and behind it keep their order. */
START_TEST (writer_large)
{
    set_up_writer ();
    ctki_buf_t *body = ctki_buf_new (10000);
    ctalk_envelope_t envelope = {.msg_id = 77, .data = body->data + 3, .size = 9000};
    ctki_record_t record = ctki_record_of (&envelope, true);
    ck_assert_int_eq (put (&one, false, 1), 0);
    ctki_buf_hold (body, 1);
    ck_assert_int_eq (ctki_writer_large (&writer, &items, &one, true, &record, body, envelope.data, 9000), 0);
    ck_assert_int_eq (put (&one, false, 2), 0);
    ctki_item_t *large = items.head->next;
    ck_assert_int_eq (check_run (items.head, 1), 1);
    ck_assert_int_eq (check_run (large->next, 2), 1);
    ck_assert (large->kind == CTKI_LARGE && large->data == body->data + 3 && large->size == 9000);
    ck_assert (large->count == 1 && large->charge == 9000 + CTKI_CHARGE_BYTES && large->many);
    ck_assert (large->record.msg_id == 77 && large->record.len == 9000 && large->body == body);
    check_room (items.head);
    ck_assert_uint_eq (atomic_load (&body->refs), 2);
    tear_down_writer ();
    ck_assert_uint_eq (atomic_load (&body->refs), 1);
    ctki_buf_release (body, 1);
}
END_TEST

/* A shared item shows the same records to another destination, for as long as it lives itself. */
START_TEST (item_share)
{
    set_up_writer ();
    ck_assert_int_eq (put (&one, true, 1), 0);
    ck_assert_int_eq (put (&one, true, 2), 0);
    ctki_item_t *run = ctki_items_take (&items), *share = ctki_item_share (run, &two);
    ck_assert (share->dest == &two && !share->many && !share->in_place && share->data == run->data && !share->next);
    ctki_item_t *second = ctki_item_share (share, &one);
    ctki_item_release (run);
    ctki_item_release (share);
    ctki_writer_fini (&writer);
    ctki_pool_destroy (&pool);
    ck_assert_int_eq (check_run (second, 1), 2);
    ctki_mem_fail (0, 1);
    ck_assert_ptr_null (ctki_item_share (second, &two));
    ctki_mem_fail (-1, 0);
    ctki_item_release (second);
}
END_TEST

/* Small runs are merged behind one another, up to the limit and for one destination only. */
START_TEST (writer_merge)
{
    static ctki_item_t *small[200];
    ctki_items_t merged = {0};
    ctki_writer_t other;
    set_up_writer ();
    ctki_writer_init (&other, pool, ctki_writer_block_bytes (RUN_LIMIT), RUN_LIMIT);
    for (int64_t i = 0; i < 200; i++) {
        ck_assert_int_eq (put (&one, false, i), 0);
        small[i] = ctki_items_take (&items);
        ctki_writer_close (&writer);
    }
    ck_assert (!ctki_writer_merge (&other, &one, small[0])); /* nothing is open */
    for (int i = 0; i < 200; i++) {
        ck_assert (!ctki_writer_merge (&other, &two, small[i]));
        if (!ctki_writer_merge (&other, &one, small[i]))
            ck_assert_int_eq (ctki_writer_begin_merge (&other, &merged, &one, small[i]), 0);
        ctki_item_release (small[i]);
    }
    items = merged; /* for check_room () */
    int64_t next = 0;
    for (ctki_item_t *run = items.head; run; run = run->next) {
        ck_assert_uint_le (run->size, RUN_LIMIT);
        ck_assert (run->dest == &one && run->in_place);
        check_room (run);
        next += check_run (run, next);
    }
    ck_assert_int_eq (next, 200);
    ctki_writer_fini (&other);
    tear_down_writer ();
}
END_TEST

/* Whichever allocation fails, that one call fails, nothing that was written changes, and it works at the next try. */
START_TEST (writer_no_memory)
{
    bool failed = true;
    for (long after = 0; failed; after++) {
        int64_t failures = 0;
        ck_assert_int_lt (after, 1000);
        set_up_writer ();
        ctki_buf_t *body = ctki_buf_new (5000);
        ctki_record_t record = {.flags = CTKI_R_FIRST | CTKI_R_LAST, .len = 5000, .total = 5000};
        ctki_mem_fail (after, 1);
        for (int64_t i = 1; i <= 60; i++) {
            while (put (&one, false, i))
                failures++;
            if (i % 20)
                continue;
            ctki_buf_hold (body, 1);
            while (ctki_writer_large (&writer, &items, &two, false, &record, body, body->data, 5000))
                failures++;
        }
        ctki_mem_fail (-1, 0);
        failed = failures > 0;
        ck_assert_int_le (failures, 1);
        int64_t next = 1, large = 0;
        for (ctki_item_t *item = items.head; item; item = item->next) {
            if (item->kind == CTKI_RUN)
                next += check_run (item, next);
            else
                ck_assert_int_eq (next, 1 + 20 * ++large);
        }
        ck_assert_int_eq (next, 61);
        ck_assert_uint_eq (atomic_load (&body->refs), 4);
        tear_down_writer ();
        ctki_buf_release (body, 1);
    }
}
END_TEST

Suite *ctki_suite_envelope (void)
{
    Suite *suite = suite_create ("envelope");
    TCase *tcase = tcase_create ("envelope");
    tcase_set_timeout (tcase, ctki_test_ms (30000) / 1000.0);
    tcase_add_test (tcase, buf_life);
    tcase_add_test (tcase, buf_copied);
    tcase_add_test (tcase, buf_too_large);
    tcase_add_test (tcase, pool_again);
    tcase_add_test (tcase, pool_outlived);
    tcase_add_test (tcase, pool_no_memory);
    tcase_add_test (tcase, pool_threads);
    tcase_add_test (tcase, owned_once);
    tcase_add_test (tcase, owned_some);
    tcase_add_test (tcase, owned_given_up);
    tcase_add_test (tcase, owned_threads);
    tcase_add_test (tcase, record_of);
    tcase_add_test (tcase, writer_one);
    tcase_add_test (tcase, writer_two);
    tcase_add_test (tcase, writer_closed);
    tcase_add_test (tcase, writer_blocks);
    tcase_add_test (tcase, writer_largest);
    tcase_add_test (tcase, writer_large);
    tcase_add_test (tcase, item_share);
    tcase_add_test (tcase, writer_merge);
    tcase_add_test (tcase, writer_no_memory);
    suite_add_tcase (suite, tcase);
    return suite;
}
