/*
 * envelope.h - what a message is inside the library, and the memory it lives in.
 *
 * buf     reference-counted memory: a block of records, a payload, a received
 *         message. Read-only once it is shared.
 * pool    blocks of one size, used again instead of freed.
 * item    what travels from the outbox to a sender: a run of small envelopes
 *         for one destination, already as records of the wire; or one large
 *         envelope whose payload is shared.
 * writer  appends envelopes to a run in a block.
 *
 * Layout of a run in its block, each run at a multiple of 8:
 *
 *   item | room for a frame header (32) | records ... | room for the checksum (4)
 *
 * so a run that goes to one peer becomes a frame where it stands.
 */
#ifndef CTKI_ENVELOPE_H
#define CTKI_ENVELOPE_H

#include <clustertalk.h>
#include <pthread.h>
#include <stdatomic.h>

#include "src/base.h"
#include "src/wire.h"

/* ---- buf */

typedef struct ctki_buf ctki_buf_t;
struct ctki_buf {
    atomic_uint refs;
    atomic_uint io_refs;             /* of an owned payload: libzmq messages that point into it */
    void (*end) (ctki_buf_t *buf);   /* called at the last release */
    bool owned;                      /* a user's payload, see limbo */
    uint8_t *data;                   /* 8-byte aligned unless owned */
    size_t size;
};

/* A buf with one reference and size bytes behind it. NULL: ENOMEM. */
ctki_buf_t *ctki_buf_new (size_t size);

/* The same, with a copy in it. */
ctki_buf_t *ctki_buf_copy (const void *data, size_t size);

/* Makes a buf with one reference around memory that `end` gives back; not owned. */
static inline void ctki_buf_init (ctki_buf_t *buf, void *data, size_t size, void (*end) (ctki_buf_t *buf))
{
    atomic_init (&buf->refs, 1);
    atomic_init (&buf->io_refs, 0);
    buf->end = end;
    buf->owned = false;
    buf->data = data;
    buf->size = size;
}

static inline void ctki_buf_hold (ctki_buf_t *buf, unsigned count)
{
    atomic_fetch_add_explicit (&buf->refs, count, memory_order_relaxed);
}

static inline void ctki_buf_release (ctki_buf_t *buf, unsigned count)
{
    if (atomic_fetch_sub_explicit (&buf->refs, count, memory_order_acq_rel) == count)
        buf->end (buf);
}

/* One part of a message to send. */
typedef struct {
    const void *data;
    size_t size;
    ctki_buf_t *buf; /* NULL: copied; else the part points into it and holds it */
} ctki_part_t;

/* ---- limbo: where owned payloads wait that libzmq still points into
 *
 * A user's free function must run neither on libzmq's I/O thread nor under a
 * lock. An owned payload that nobody in the library needs any more goes here;
 * ctki_limbo_sweep () frees those that libzmq has let go of, too. */

typedef struct {
    pthread_mutex_t lock;
    struct ctki_owned *head;
    atomic_uint waiting; /* how many are in it */
} ctki_limbo_t;

void ctki_limbo_init (ctki_limbo_t *limbo);
void ctki_limbo_fini (ctki_limbo_t *limbo);

/* Frees what can be freed; call it with no lock held. Returns how many are left. */
unsigned ctki_limbo_sweep (ctki_limbo_t *limbo);

/* A buf around a payload of the user's. NULL: ENOMEM, the payload is still his. */
ctki_buf_t *ctki_buf_own (const void *data, size_t size, void (*free_fn) (void *, void *), void *hint,
                          ctki_limbo_t *limbo);

/* Gives up a buf whose payload was not accepted: the user's function is not called. */
void ctki_buf_disown (ctki_buf_t *buf);

/* ---- pool */

typedef struct ctki_pool ctki_pool_t;

/* Keeps some `keep` free blocks of `size` bytes, up to twice that. It lives until it is
 * destroyed and the last of its blocks is released. */
ctki_pool_t *ctki_pool_new (size_t size, unsigned keep);
void ctki_pool_destroy (ctki_pool_t **pool_p);
ctki_buf_t *ctki_pool_take (ctki_pool_t *pool);

/* ---- item */

typedef enum { CTKI_RUN, CTKI_LARGE } ctki_item_kind_t;

typedef struct ctki_item ctki_item_t;
struct ctki_item {
    ctki_item_t *next;
    ctki_buf_t *home;      /* the memory this item stands in; released last */
    ctki_buf_t *body;      /* what data points into when that is not home, else NULL */
    uint8_t *data;         /* RUN: the records; LARGE: the payload */
    size_t size;           /* of data */
    void *dest;            /* whom it is for: a peer, or a list of them when many */
    ctki_item_kind_t kind;
    uint32_t count;        /* envelopes */
    uint64_t charge;       /* payload + CTKI_CHARGE_BYTES each */
    bool many;             /* for a list of peers */
    bool in_place;         /* RUN: nobody else uses the room before and behind the records */
    bool crc_known;        /* RUN, shared: crc is that of the records */
    uint32_t crc;
    ctki_record_t record;  /* LARGE */
};

/* Gives back an item that is in no list. */
void ctki_item_release (ctki_item_t *item);

/* A list of items in order. */
typedef struct {
    ctki_item_t *head, *tail;
} ctki_items_t;

static inline void ctki_items_add (ctki_items_t *items, ctki_item_t *item)
{
    item->next = NULL;
    if (items->tail)
        items->tail->next = item;
    else
        items->head = item;
    items->tail = item;
}

static inline ctki_item_t *ctki_items_take (ctki_items_t *items)
{
    ctki_item_t *item = items->head;
    if (item) {
        items->head = item->next;
        if (!items->head)
            items->tail = NULL;
        item->next = NULL;
    }
    return item;
}

/* Another item for the same memory (a broadcast has one per peer). NULL: ENOMEM. */
ctki_item_t *ctki_item_share (const ctki_item_t *item, void *dest);

/* ---- writer */

typedef struct {
    ctki_pool_t *pool;  /* of full-size blocks */
    size_t full;        /* size of those */
    size_t next_size;   /* of the next block: small at first, doubled as they fill up */
    size_t run_limit;   /* bytes of records in a run */
    ctki_buf_t *block;  /* with the writer's own reference; NULL: none yet */
    size_t used;        /* of the block, the open run included */
    ctki_item_t *open;  /* the run that can still grow, in somebody's list; NULL: none */
    size_t left;        /* bytes of records that the open run has room for; 0: none is open */
} ctki_writer_t;

void ctki_writer_init (ctki_writer_t *writer, ctki_pool_t *pool, size_t block_bytes, size_t run_limit);
void ctki_writer_fini (ctki_writer_t *writer);

/* The size of a block that holds one run of run_limit bytes. */
size_t ctki_writer_block_bytes (size_t run_limit);

/* No more may be appended to the open run: it left the list. */
static inline void ctki_writer_close (ctki_writer_t *writer)
{
    writer->open = NULL;
    writer->left = 0;
}

/* How far ahead of the records memory is made ready to be written to. It was last
 * read on another processor, and the lock of the next send waits until all is
 * written. */
enum { CTKI_AHEAD_BYTES = 768 };

/* The same for a run that is written to again in a while. */
static inline void ctki_writer_prepare (const ctki_writer_t *writer)
{
    const uint8_t *next = writer->open->data + writer->open->size;
    CTKI_PREFETCH_WRITE (next + 63);
    CTKI_PREFETCH_WRITE (next + 127);
}

/* Writes a record with its payload behind the records of the open run; it has
 * room for `need` bytes, which is what the record takes. */
static inline void ctki_writer_write (ctki_writer_t *writer, const ctki_record_t *record, const void *data, size_t need)
{
    ctki_item_t *run = writer->open;
    uint8_t *p = run->data + run->size;
    size_t head = ctki_record_put (p, record);
    if (record->len % 8)
        memset (p + need - 8, 0, 8);
    if (record->len)
        memcpy (p + head, data, record->len);
    CTKI_PREFETCH_WRITE (p + CTKI_AHEAD_BYTES);
    run->size += need;
    run->count++;
    run->charge += record->len + CTKI_CHARGE_BYTES;
    writer->used += need;
    writer->left -= need;
}

/* Appends a small envelope (copied) for the destination of the open run, if
 * there is room. */
static inline bool ctki_writer_append (ctki_writer_t *writer, const ctalk_envelope_t *envelope)
{
    ctki_record_t record = {.flags = (uint16_t) (CTKI_R_FIRST | CTKI_R_LAST | (envelope->msg_id ? CTKI_R_ID : 0)),
                            .len = (uint32_t) envelope->size,
                            .msg_id = envelope->msg_id};
    if (CTKI_UNLIKELY ((envelope->to | envelope->from) != 0)) {
        record.flags |= (uint16_t) ((envelope->to ? CTKI_R_TO : 0) | (envelope->from ? CTKI_R_FROM : 0));
        record.to = envelope->to;
        record.from = envelope->from;
    }
    size_t need = ctki_record_head (record.flags) + ctki_record_pad (envelope->size);
    if (need > writer->left)
        return false;
    ctki_writer_write (writer, &record, envelope->data, need);
    return true;
}

/* Appends a small envelope (copied) for dest to the open run, or to a new one
 * that it adds to items. -1: ENOMEM, nothing changed. */
int ctki_writer_put (ctki_writer_t *writer, ctki_items_t *items, void *dest, bool many, const ctki_record_t *record,
                     const void *data);

/* Appends the records of a small run to the open run if they fit. */
bool ctki_writer_merge (ctki_writer_t *writer, void *dest, const ctki_item_t *run);

/* Begins a run and merges the records of a run into it. -1: ENOMEM. */
int ctki_writer_begin_merge (ctki_writer_t *writer, ctki_items_t *items, void *dest, const ctki_item_t *run);

/* Adds an item for a large envelope; the item takes one reference of body.
 * -1: ENOMEM, the reference is still the caller's. */
int ctki_writer_large (ctki_writer_t *writer, ctki_items_t *items, void *dest, bool many,
                       const ctki_record_t *record, ctki_buf_t *body, const void *data, size_t size);

/* The record of an envelope to send (all but len and total, which follow from size). */
ctki_record_t ctki_record_of (const ctalk_envelope_t *envelope, bool broadcast);

#endif
