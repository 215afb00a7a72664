/*
 * envelope.c - bufs, blocks, items and runs. Memory can run out anywhere here;
 * every call then changes nothing and says so.
 */
#include "src/envelope.h"

#include <errno.h>

#include "src/lock.h"
#include "src/mem.h"

/* ---- buf */

static void free_buf (ctki_buf_t *buf)
{
    ctki_free (buf);
}

ctki_buf_t *ctki_buf_new (size_t size)
{
    _Static_assert (sizeof (ctki_buf_t) % 8 == 0, "the data behind a buf is aligned");
    if (size > SIZE_MAX - sizeof (ctki_buf_t)) {
        errno = ENOMEM;
        return NULL;
    }
    ctki_buf_t *buf = ctki_alloc (sizeof *buf + size);
    if (!buf)
        return NULL;
    ctki_buf_init (buf, buf + 1, size, free_buf);
    return buf;
}

ctki_buf_t *ctki_buf_copy (const void *data, size_t size)
{
    ctki_buf_t *copy = ctki_buf_new (size);
    if (copy && size)
        memcpy (copy->data, data, size);
    return copy;
}

/* ---- owned payloads */

typedef struct ctki_owned {
    ctki_buf_t buf; /* first */
    struct ctki_owned *next;
    ctki_limbo_t *limbo;
    void (*free_fn) (void *, void *);
    void *data, *hint;
} owned_t;

void ctki_limbo_init (ctki_limbo_t *limbo)
{
    pthread_mutex_init (&limbo->lock, NULL);
    limbo->head = NULL;
    atomic_init (&limbo->waiting, 0);
}

void ctki_limbo_fini (ctki_limbo_t *limbo)
{
    CTKI_ASSERT (!limbo->head);
    pthread_mutex_destroy (&limbo->lock);
}

/* The last library reference is gone. Always by way of limbo: the caller may
 * hold a lock. */
static void end_owned (ctki_buf_t *buf)
{
    owned_t *owned = (owned_t *) buf;
    ctki_limbo_t *limbo = owned->limbo;
    pthread_mutex_lock (&limbo->lock);
    owned->next = limbo->head;
    limbo->head = owned;
    atomic_fetch_add (&limbo->waiting, 1);
    pthread_mutex_unlock (&limbo->lock);
}

unsigned ctki_limbo_sweep (ctki_limbo_t *limbo)
{
    if (atomic_load_explicit (&limbo->waiting, memory_order_relaxed) == 0)
        return 0;
    owned_t *ready = NULL;
    pthread_mutex_lock (&limbo->lock);
    for (owned_t **link = &limbo->head; *link;) {
        owned_t *owned = *link;
        if (atomic_load_explicit (&owned->buf.io_refs, memory_order_acquire) == 0) {
            *link = owned->next;
            owned->next = ready;
            ready = owned;
            atomic_fetch_sub (&limbo->waiting, 1);
        } else
            link = &owned->next;
    }
    unsigned left = atomic_load (&limbo->waiting);
    pthread_mutex_unlock (&limbo->lock);
    while (ready) {
        owned_t *owned = ready;
        ready = owned->next;
        if (owned->free_fn)
            owned->free_fn (owned->data, owned->hint);
        ctki_free (owned);
    }
    return left;
}

ctki_buf_t *ctki_buf_own (const void *data, size_t size, void (*free_fn) (void *, void *), void *hint,
                          ctki_limbo_t *limbo)
{
    owned_t *owned = ctki_alloc (sizeof *owned);
    if (!owned)
        return NULL;
    owned->data = (void *) (uintptr_t) data; /* the user's to free, never written to here */
    ctki_buf_init (&owned->buf, owned->data, size, end_owned);
    owned->buf.owned = true;
    owned->next = NULL;
    owned->limbo = limbo;
    owned->free_fn = free_fn;
    owned->hint = hint;
    return &owned->buf;
}

void ctki_buf_disown (ctki_buf_t *buf)
{
    ctki_free (buf);
}

/* ---- pool
 *
 * Blocks come back to a stack that nobody locks: who takes one when the others are
 * used up takes the whole of it. */

struct block;

struct ctki_pool {
    ctki_lock_t lock; /* of those who take */
    struct block *spare;
    _Atomic (struct block *) freed;
    atomic_uint stacked; /* there, nearly: whoever takes them all at the same time is not waited for */
    size_t size;
    atomic_uint keep;
    atomic_uint refs; /* the owner and every block that is out */
};

typedef struct block {
    ctki_buf_t buf; /* first */
    ctki_pool_t *pool;
    struct block *next;
} block_t;

ctki_pool_t *ctki_pool_new (size_t size, unsigned keep)
{
    ctki_pool_t *pool = ctki_alloc_zero (sizeof *pool);
    if (!pool)
        return NULL;
    ctki_lock_init (&pool->lock);
    pool->size = size;
    atomic_init (&pool->keep, keep);
    atomic_init (&pool->refs, 1);
    return pool;
}

static void drop_kept (block_t *block)
{
    while (block) {
        block_t *next = block->next;
        ctki_free (block);
        block = next;
    }
}

static void unref (ctki_pool_t *pool)
{
    if (atomic_fetch_sub (&pool->refs, 1) == 1) {
        drop_kept (atomic_load (&pool->freed));
        ctki_free (pool);
    }
}

/* Nobody takes any more. */
void ctki_pool_destroy (ctki_pool_t **pool_p)
{
    ctki_pool_t *pool = *pool_p;
    if (!pool)
        return;
    *pool_p = NULL;
    atomic_store (&pool->keep, 0);
    drop_kept (pool->spare);
    pool->spare = NULL;
    drop_kept (atomic_exchange (&pool->freed, NULL));
    unref (pool);
}

static void end_block (ctki_buf_t *buf)
{
    block_t *block = (block_t *) buf;
    ctki_pool_t *pool = block->pool;
    if (atomic_load_explicit (&pool->stacked, memory_order_relaxed)
        < atomic_load_explicit (&pool->keep, memory_order_relaxed)) {
        block->next = atomic_load (&pool->freed);
        while (!atomic_compare_exchange_weak (&pool->freed, &block->next, block)) {
        }
        atomic_fetch_add_explicit (&pool->stacked, 1, memory_order_relaxed);
    } else
        ctki_free (block);
    unref (pool);
}

ctki_buf_t *ctki_pool_take (ctki_pool_t *pool)
{
    ctki_lock_take (&pool->lock);
    block_t *block = pool->spare;
    if (!block && (block = atomic_exchange (&pool->freed, NULL)))
        atomic_store_explicit (&pool->stacked, 0, memory_order_relaxed);
    if (block)
        pool->spare = block->next;
    ctki_lock_release (&pool->lock);
    if (!block) {
        block = ctki_alloc (sizeof *block + pool->size);
        if (!block)
            return NULL;
        block->pool = pool;
        ctki_buf_init (&block->buf, block + 1, pool->size, end_block);
    }
    atomic_fetch_add_explicit (&pool->refs, 1, memory_order_relaxed);
    atomic_store_explicit (&block->buf.refs, 1, memory_order_relaxed);
    return &block->buf;
}

/* ---- item */

void ctki_item_release (ctki_item_t *item)
{
    ctki_buf_t *home = item->home;
    if (item->body)
        ctki_buf_release (item->body, 1);
    ctki_buf_release (home, 1);
}

ctki_item_t *ctki_item_share (const ctki_item_t *item, void *dest)
{
    ctki_buf_t *home = ctki_buf_new (sizeof (ctki_item_t));
    if (!home)
        return NULL;
    ctki_item_t *copy = (ctki_item_t *) (void *) home->data;
    *copy = *item;
    copy->next = NULL;
    copy->home = home;
    copy->body = item->body ? item->body : item->home;
    ctki_buf_hold (copy->body, 1);
    copy->dest = dest;
    copy->many = false;
    copy->in_place = false;
    return copy;
}

/* ---- writer */

enum {
    ITEM_BYTES = (sizeof (ctki_item_t) + 7) / 8 * 8,
    RUN_BYTES = ITEM_BYTES + CTKI_HEAD_BYTES + 8, /* a run's own need beside its records */
    FIRST_BLOCK_BYTES = 4096
};

size_t ctki_writer_block_bytes (size_t run_limit)
{
    return run_limit + RUN_BYTES;
}

void ctki_writer_init (ctki_writer_t *writer, ctki_pool_t *pool, size_t block_bytes, size_t run_limit)
{
    *writer = (ctki_writer_t) {.pool = pool, .full = block_bytes, .run_limit = run_limit};
    writer->next_size = CTKI_MIN ((size_t) FIRST_BLOCK_BYTES, block_bytes);
}

void ctki_writer_fini (ctki_writer_t *writer)
{
    if (writer->block)
        ctki_buf_release (writer->block, 1);
    writer->block = NULL;
    ctki_writer_close (writer);
}

/* A block with room for at least `need` bytes. */
static int new_block (ctki_writer_t *writer, size_t need)
{
    CTKI_ASSERT (need <= writer->full);
    while (writer->next_size < need)
        writer->next_size = CTKI_MIN (writer->next_size * 2, writer->full);
    ctki_buf_t *block
        = writer->next_size == writer->full ? ctki_pool_take (writer->pool) : ctki_buf_new (writer->next_size);
    if (!block)
        return -1;
    if (writer->block)
        ctki_buf_release (writer->block, 1);
    writer->block = block;
    writer->used = 0;
    writer->next_size = CTKI_MIN (writer->next_size * 2, writer->full);
    return 0;
}

/* An item in the block with room for `room` bytes of what stands behind it. */
static ctki_item_t *new_item (ctki_writer_t *writer, size_t room, size_t comfortable)
{
    ctki_writer_close (writer);
    writer->used = (writer->used + 7) & ~(size_t) 7;
    size_t left = writer->block ? writer->block->size - CTKI_MIN (writer->used, writer->block->size) : 0;
    /* A nearly full block would only give a short run: better a new one. */
    if (left < ITEM_BYTES + CTKI_MAX (room, comfortable)) {
        if (new_block (writer, ITEM_BYTES + room))
            return NULL;
    }
    CTKI_ASSERT (writer->block);
    ctki_item_t *item = (ctki_item_t *) (void *) (writer->block->data + writer->used);
    memset (item, 0, sizeof *item);
    item->home = writer->block;
    ctki_buf_hold (item->home, 1);
    writer->used += ITEM_BYTES;
    return item;
}

static ctki_item_t *new_run (ctki_writer_t *writer, void *dest, bool many, size_t need)
{
    size_t room = CTKI_HEAD_BYTES + need + 8;
    ctki_item_t *item = new_item (writer, room, CTKI_MIN (writer->full / 8, (size_t) 2048));
    if (!item)
        return NULL;
    item->kind = CTKI_RUN;
    item->dest = dest;
    item->many = many;
    item->in_place = !many;
    item->data = writer->block->data + writer->used + CTKI_HEAD_BYTES;
    writer->used += CTKI_HEAD_BYTES + 8; /* the checksum's room moves along behind the records */
    return item;
}

/* Whether `need` more bytes fit into the open run of dest. */
static bool fits (const ctki_writer_t *writer, const void *dest, size_t need)
{
    return need <= writer->left && writer->open->dest == dest;
}

/* A new run of the list can grow. */
static void open_run (ctki_writer_t *writer, ctki_items_t *items, ctki_item_t *run)
{
    ctki_items_add (items, run);
    writer->open = run;
    writer->left = CTKI_MIN (writer->run_limit, writer->block->size - writer->used);
}

int ctki_writer_put (ctki_writer_t *writer, ctki_items_t *items, void *dest, bool many, const ctki_record_t *record,
                     const void *data)
{
    size_t need = ctki_record_head (record->flags) + ctki_record_pad (record->len);
    if (!fits (writer, dest, need)) {
        ctki_item_t *run = new_run (writer, dest, many, need);
        if (!run)
            return -1;
        open_run (writer, items, run);
    }
    ctki_writer_write (writer, record, data, need);
    return 0;
}

static void append_run (ctki_writer_t *writer, const ctki_item_t *from)
{
    ctki_item_t *run = writer->open;
    memcpy (run->data + run->size, from->data, from->size);
    run->size += from->size;
    run->count += from->count;
    run->charge += from->charge;
    writer->used += from->size;
    writer->left -= from->size;
}

bool ctki_writer_merge (ctki_writer_t *writer, void *dest, const ctki_item_t *run)
{
    if (!fits (writer, dest, run->size))
        return false;
    append_run (writer, run);
    return true;
}

int ctki_writer_begin_merge (ctki_writer_t *writer, ctki_items_t *items, void *dest, const ctki_item_t *run)
{
    ctki_item_t *fresh = new_run (writer, dest, false, run->size);
    if (!fresh)
        return -1;
    open_run (writer, items, fresh);
    append_run (writer, run);
    return 0;
}

int ctki_writer_large (ctki_writer_t *writer, ctki_items_t *items, void *dest, bool many,
                       const ctki_record_t *record, ctki_buf_t *body, const void *data, size_t size)
{
    ctki_item_t *item = new_item (writer, 0, 0);
    if (!item)
        return -1;
    item->kind = CTKI_LARGE;
    item->dest = dest;
    item->many = many;
    item->body = body;
    item->data = (uint8_t *) (uintptr_t) data; /* never written to */
    item->size = size;
    item->count = 1;
    item->charge = size + CTKI_CHARGE_BYTES;
    item->record = *record;
    ctki_items_add (items, item);
    return 0;
}

ctki_record_t ctki_record_of (const ctalk_envelope_t *envelope, bool broadcast)
{
    unsigned flags = CTKI_R_FIRST | CTKI_R_LAST;
    if (broadcast)
        flags |= CTKI_R_BROADCAST;
    if (envelope->msg_id)
        flags |= CTKI_R_ID;
    if (envelope->to)
        flags |= CTKI_R_TO;
    if (envelope->from)
        flags |= CTKI_R_FROM;
    return (ctki_record_t) {.flags = (uint16_t) flags,
                            .len = (uint32_t) envelope->size,
                            .msg_id = envelope->msg_id,
                            .to = envelope->to,
                            .from = envelope->from,
                            .total = envelope->size};
}
