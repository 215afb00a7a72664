/*
 * test_mailbox.c - the bell, and what a mailbox makes of the items that wait in it.
 */
#include <check.h>
#include <errno.h>

#include "src/mailbox.h"
#include "src/mem.h"
#include "tests/support/leaks.h"
#include "tests/support/payload.h"
#include "tests/support/scale.h"
#include "tests/support/thread.h"

Suite *ctki_suite_mailbox (void);

enum { RUN_LIMIT = 8192, THREADS = 3, ITEMS = 20000, SMALL = 40 };

/* ---- the bell */

static ctki_sock_t *hearer; /* the actor's end of the pipe */
static ctki_bell_t bell;

static void hang_bell (void)
{
    ctki_sock_t *ends[2];
    ck_assert_int_eq (ctki_context_ref (1, NULL), 0);
    ck_assert_int_eq (ctki_sock_pair (ends), 0);
    hearer = ends[0];
    ctki_bell_init (&bell, ends[1]);
}

static void take_bell_down (void)
{
    ctki_bell_fini (&bell);
    ctki_sock_close (&hearer);
    ctki_context_unref ();
}

/* How many bytes the next thing in the pipe has; -1: nothing there. */
static int heard (void)
{
    char bytes[64];
    return ctki_pipe_receive (hearer, bytes, sizeof bytes);
}

/* However often the bell is rung, one ring is under way; heard, it rings again. */
START_TEST (one_ring)
{
    hang_bell ();
    for (int round = 0; round < 3; round++) {
        ck_assert_int_eq (heard (), -1);
        for (int i = 0; i < 5; i++)
            ctki_bell_ring (&bell);
        ck_assert_int_eq (heard (), 1);
        ck_assert_int_eq (heard (), -1);
        ctki_bell_ring (&bell); /* it was read, but not heard yet */
        ck_assert_int_eq (heard (), -1);
        ctki_bell_heard (&bell);
    }
    take_bell_down ();
}
END_TEST

/* Commands come through the same pipe, whole and in order, rung or not. */
START_TEST (commands)
{
    char command[32], got[32];
    hang_bell ();
    for (int i = 2; i < 30; i++) {
        memset (command, i, sizeof command);
        if (i == 9)
            ctki_bell_ring (&bell);
        ck_assert_int_eq (ctki_bell_command (&bell, command, (size_t) i), 0);
    }
    for (int i = 2; i < 30; i++) {
        if (i == 9)
            ck_assert_int_eq (heard (), 1);
        ck_assert_int_eq (ctki_pipe_receive (hearer, got, sizeof got), i);
        for (int k = 0; k < i; k++)
            ck_assert_int_eq (got[k], i);
    }
    ck_assert_int_eq (heard (), -1);
    take_bell_down ();
}
END_TEST

static bool ring_often (void *arg, ctki_trouble_t *trouble)
{
    atomic_size_t *rung = arg;
    size_t times = ctki_test_count (ITEMS);
    (void) trouble;
    for (size_t i = 0; i < times; i++) {
        atomic_fetch_add (rung, 1);
        ctki_bell_ring (&bell);
    }
    return true;
}

/* Whoever rings is heard: after the last ring a hearer that looks behind each ring has seen all there was to see. */
START_TEST (no_lost_ring)
{
    atomic_size_t rung = 0;
    ctki_test_thread_t threads[THREADS];
    size_t all = THREADS * ctki_test_count (ITEMS), seen = 0;
    int64_t end_ms = ctki_test_now_ms () + ctki_test_long_ms ();
    hang_bell ();
    for (int i = 0; i < THREADS; i++)
        ctki_test_thread_start (&threads[i], ring_often, &rung);
    while (seen < all && ctki_test_now_ms () < end_ms) {
        if (heard () != 1) {
            sched_yield ();
            continue;
        }
        ctki_bell_heard (&bell);
        seen = atomic_load (&rung);
    }
    ck_assert_uint_eq (seen, all);
    for (int i = 0; i < THREADS; i++)
        ctki_test_thread_join (&threads[i]);
    take_bell_down ();
}
END_TEST

/* ---- the mailbox */

static ctki_pool_t *pool;
static ctki_mailbox_t mailbox;
static char here, there; /* destinations */

static void set_up (void)
{
    pool = ctki_pool_new (ctki_writer_block_bytes (RUN_LIMIT), 4);
    ctki_mailbox_init (&mailbox, pool, RUN_LIMIT);
}

static void tear_down (void)
{
    ctki_mailbox_fini (&mailbox);
    ctki_pool_destroy (&pool);
}

/* An item with one envelope: a run, or a large one. */
static ctki_item_t *item_of (void *dest, int64_t number, size_t size)
{
    static _Thread_local uint8_t bytes[20000];
    ctki_items_t items = {0};
    ctki_writer_t writer;
    ctki_writer_init (&writer, pool, ctki_writer_block_bytes (RUN_LIMIT), RUN_LIMIT);
    ctki_payload_fill (bytes, size, 1, 2, number);
    ctalk_envelope_t envelope = {.msg_id = number, .size = size};
    ctki_record_t record = ctki_record_of (&envelope, false);
    if (size < CTKI_LARGE_BYTES)
        ck_assert_int_eq (ctki_writer_put (&writer, &items, dest, false, &record, bytes), 0);
    else {
        ctki_buf_t *body = ctki_buf_new (size);
        memcpy (body->data, bytes, size);
        ck_assert_int_eq (ctki_writer_large (&writer, &items, dest, false, &record, body, body->data, size), 0);
    }
    ctki_writer_fini (&writer);
    return ctki_items_take (&items);
}

/* Calls fn for each envelope of an item in order; returns how many. */
static uint32_t each (const ctki_item_t *item, void (*fn) (const ctki_record_t *record, const void *data, void *arg),
                      void *arg)
{
    uint32_t count = 0;
    if (item->kind == CTKI_LARGE) {
        fn (&item->record, item->data, arg);
        return 1;
    }
    for (size_t at = 0; at < item->size; count++) {
        ctki_record_t record;
        size_t head = ctki_record_get (item->data + at, item->size - at, &record);
        ck_assert_uint_gt (head, 0);
        fn (&record, item->data + at + head, arg);
        at += head + ctki_record_pad (record.len);
    }
    return count;
}

static void check_next (const ctki_record_t *record, const void *data, void *arg)
{
    int64_t *next = arg;
    ck_assert_int_eq (record->msg_id, *next);
    ck_assert (ctki_payload_ok (data, record->len, 1, 2, *next));
    ++*next;
}

/* Takes all there is and checks that it is numbered from *next on; returns how many items there were. */
static int take_all (int64_t *next)
{
    ctki_items_t items;
    int count = 0;
    ctki_mailbox_take (&mailbox, &items);
    for (ctki_item_t *item; (item = ctki_items_take (&items)); count++) {
        ck_assert_uint_eq (each (item, check_next, next), item->count);
        ctki_item_release (item);
    }
    return count;
}

/* Only who parked is to be rung, once; parking fails while there is something, and taking ends it. */
START_TEST (parked)
{
    int64_t next = 1;
    set_up ();
    ck_assert (!ctki_mailbox_put (&mailbox, item_of (&here, 1, 10)));
    ck_assert (!ctki_mailbox_park (&mailbox));
    ck_assert (!ctki_mailbox_put (&mailbox, item_of (&here, 2, 10)));
    take_all (&next);
    ck_assert (ctki_mailbox_park (&mailbox));
    ck_assert (ctki_mailbox_put (&mailbox, item_of (&here, 3, 10)));
    ck_assert (!ctki_mailbox_put (&mailbox, item_of (&here, 4, 10)));
    take_all (&next);
    ck_assert (ctki_mailbox_park (&mailbox));
    ck_assert_int_eq (take_all (&next), 0);
    ck_assert (!ctki_mailbox_put (&mailbox, item_of (&here, 5, 10)));
    take_all (&next);
    ck_assert_int_eq (next, 6);
    tear_down ();
}
END_TEST

/* What is taken is all that was put, and says whether it was anything. */
START_TEST (taken)
{
    ctki_items_t items;
    set_up ();
    ck_assert (!ctki_mailbox_take (&mailbox, &items));
    ck_assert_ptr_null (items.head);
    ctki_mailbox_put (&mailbox, item_of (&here, 1, 10));
    ck_assert (ctki_mailbox_take (&mailbox, &items));
    ctki_item_release (ctki_items_take (&items));
    ck_assert (!ctki_mailbox_take (&mailbox, &items));
    tear_down ();
}
END_TEST

/* Small runs that wait are merged: a hundred become a few, order and bytes as they were put. */
START_TEST (merged)
{
    int64_t next = 1;
    set_up ();
    for (int64_t i = 1; i <= 100; i++)
        ctki_mailbox_put (&mailbox, item_of (&here, i, (size_t) i % 70));
    int count = take_all (&next);
    ck_assert_int_le (count, 4);
    ck_assert_int_eq (next, 101);
    tear_down ();
}
END_TEST

/* Small, middling and large items, for two destinations, keep their order whatever is merged. */
START_TEST (order)
{
    int64_t next = 1;
    uint64_t seed = 1;
    set_up ();
    for (int round = 0; round < 20; round++) {
        int64_t first = next;
        for (int64_t i = first; i < first + 60; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            unsigned kind = (unsigned) (seed >> 33) % 10;
            size_t size = kind < 7 ? (seed >> 40) % 200 : kind < 9 ? 2000 : 9000;
            ctki_mailbox_put (&mailbox, item_of (kind == 3 ? &there : &here, i, size));
        }
        ck_assert_int_lt (take_all (&next), 60);
        ck_assert_int_eq (next, first + 60);
    }
    tear_down ();
}
END_TEST

static void check_dest (const ctki_record_t *record, const void *data, void *arg)
{
    (void) data;
    ck_assert_ptr_eq (arg, record->msg_id % 3 ? &here : &there);
}

/* Runs for different destinations are never merged into one. */
START_TEST (destinations)
{
    ctki_items_t items;
    set_up ();
    for (int64_t i = 1; i <= 30; i++)
        ctki_mailbox_put (&mailbox, item_of (i % 3 ? &here : &there, i, 20));
    ck_assert (ctki_mailbox_take (&mailbox, &items));
    for (ctki_item_t *item; (item = ctki_items_take (&items));) {
        each (item, check_dest, item->dest);
        ctki_item_release (item);
    }
    tear_down ();
}
END_TEST

/* Without memory to merge, an item waits as it is: nothing is lost, wherever memory runs out. */
START_TEST (no_memory)
{
    for (long after = 0; after < 6; after++) {
        int64_t next = 1;
        ctki_item_t *items[30];
        set_up ();
        for (int i = 0; i < 30; i++)
            items[i] = item_of (&here, i + 1, 500);
        ctki_mem_fail (after, 2);
        for (int i = 0; i < 30; i++)
            ctki_mailbox_put (&mailbox, items[i]);
        ctki_mem_fail (-1, 0);
        take_all (&next);
        ck_assert_int_eq (next, 31);
        tear_down ();
    }
}
END_TEST

static void check_thread (const ctki_record_t *record, const void *data, void *arg)
{
    int64_t *next = arg, thread = record->msg_id >> 32, number = record->msg_id & UINT32_MAX;
    ck_assert_int_eq (number, next[thread]);
    ck_assert (ctki_payload_ok (data, record->len, 1, 2, record->msg_id));
    next[thread]++;
}

static bool put_many (void *arg, ctki_trouble_t *trouble)
{
    int64_t thread = (int64_t) (intptr_t) arg, count = (int64_t) ctki_test_count (ITEMS);
    (void) trouble;
    for (int64_t i = 0; i < count; i++) {
        if (ctki_mailbox_put (&mailbox, item_of (&here, thread << 32 | i, SMALL)))
            ctki_bell_ring (&bell);
    }
    return true;
}

/* Threads put and one takes, parking and being rung: all arrives, in each thread's order, and no ring is missed. */
START_TEST (threads)
{
    ctki_test_thread_t putters[THREADS];
    int64_t next[THREADS] = {0}, count = (int64_t) ctki_test_count (ITEMS), got = 0;
    int64_t end_ms = ctki_test_now_ms () + 3 * ctki_test_long_ms ();
    hang_bell ();
    set_up ();
    for (intptr_t i = 0; i < THREADS; i++)
        ctki_test_thread_start (&putters[i], put_many, (void *) i);
    while (got < THREADS * count) {
        ctki_items_t items;
        ctki_mailbox_take (&mailbox, &items);
        for (ctki_item_t *item; (item = ctki_items_take (&items));) {
            got += each (item, check_thread, next);
            ctki_item_release (item);
        }
        if (got == THREADS * count || !ctki_mailbox_park (&mailbox))
            continue;
        while (heard () != 1) {
            ck_assert_msg (ctki_test_now_ms () < end_ms, "a ring was missed");
            sched_yield ();
        }
        ctki_bell_heard (&bell);
    }
    for (int i = 0; i < THREADS; i++)
        ctki_test_thread_join (&putters[i]);
    tear_down ();
    take_bell_down ();
}
END_TEST

Suite *ctki_suite_mailbox (void)
{
    Suite *suite = suite_create ("mailbox");
    TCase *tcase = ctki_leaks_tcase ("mailbox", 60);
    tcase_add_test (tcase, one_ring);
    tcase_add_test (tcase, commands);
    tcase_add_test (tcase, no_lost_ring);
    tcase_add_test (tcase, parked);
    tcase_add_test (tcase, taken);
    tcase_add_test (tcase, merged);
    tcase_add_test (tcase, order);
    tcase_add_test (tcase, destinations);
    tcase_add_test (tcase, no_memory);
    tcase_add_test (tcase, threads);
    suite_add_tcase (suite, tcase);
    return suite;
}
