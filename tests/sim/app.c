/*
 * app.c - the application of a simulated server: it sends bursts of envelopes of
 * all sizes while there is room for them, and takes what is in its inbox, in its
 * own time.
 */
#include <stdlib.h>

#include "tests/sim/sim.h"

enum {
    BURST = 6, /* envelopes sent at once, mostly */
    LONG_BURST = 60,
    SMALL_BYTES = 40,
    MEAL = 16 /* envelopes taken at once */
};

/* ---- what envelopes hold: all bytes follow from the message's id and its size */

static uint64_t word_of (int64_t msg_id, size_t size, size_t i)
{
    return ((uint64_t) msg_id + size * 0x10001u) * UINT64_C (0x9e3779b97f4a7c15) + i * UINT64_C (0x2545f4914f6cdd1d);
}

void sim_fill (uint8_t *data, size_t size, int64_t msg_id)
{
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = word_of (msg_id, size, i);
        memcpy (data + i, &word, CTKI_MIN (size - i, (size_t) 8));
    }
}

bool sim_is_filled (const uint8_t *data, size_t size, int64_t msg_id)
{
    uint64_t wrong = 0;
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = word_of (msg_id, size, i);
        wrong |= (uint64_t) (memcmp (data + i, &word, CTKI_MIN (size - i, (size_t) 8)) != 0);
    }
    return wrong == 0;
}

/* ---- sending */

typedef struct {
    ctki_writer_t writer;
    ctki_items_t items;
} burst_t;

static size_t small_size (sim_world_t *w)
{
    if (sim_one_in (w, 4))
        return 0;
    return (size_t) sim_below (w, sim_one_in (w, 4) ? w->setup.frame_bytes / 2 : SMALL_BYTES);
}

static size_t large_size (sim_world_t *w)
{
    return 1 + (size_t) sim_below (w, sim_one_in (w, 4) ? w->setup.message_bytes : w->setup.frame_bytes);
}

static ctki_record_t record_of (int64_t msg_id, size_t size)
{
    ctalk_envelope_t envelope = {.msg_id = msg_id, .size = size};
    return ctki_record_of (&envelope, false);
}

/* -1: no memory. */
static int write_small (burst_t *burst, int64_t msg_id, size_t size)
{
    uint8_t data[CTKI_LARGE_BYTES];
    sim_fill (data, size, msg_id);
    ctki_record_t record = record_of (msg_id, size);
    return ctki_writer_put (&burst->writer, &burst->items, NULL, false, &record, data);
}

static int write_large (burst_t *burst, int64_t msg_id, size_t size)
{
    ctki_buf_t *body = ctki_buf_new (size);
    if (!body)
        return -1;
    sim_fill (body->data, size, msg_id);
    ctki_record_t record = record_of (msg_id, size);
    ctki_writer_close (&burst->writer);
    if (ctki_writer_large (&burst->writer, &burst->items, NULL, false, &record, body, body->data, size) == 0) {
        sim_did (SIM_DID_LARGE);
        return 0;
    }
    ctki_buf_release (body, 1);
    return -1;
}

/* Whether another envelope is admitted. */
static bool has_room (const sim_world_t *w, const sim_sender_t *sender)
{
    const sim_stream_t *stream = &sender->stream;
    return (int64_t) stream->accepted_charge - stream->said_charge < (int64_t) w->queue_bytes;
}

/* Returns whether it was accepted. */
static bool write_one (sim_world_t *w, sim_sender_t *sender, burst_t *burst)
{
    uint64_t number = sender->stream.accepted + 1;
    int64_t msg_id = sim_msg_id (sender->process->life, sender->peer, number);
    bool large = sim_one_in (w, 10);
    size_t size = large ? large_size (w) : small_size (w);
    if (!has_room (w, sender) || (large ? write_large : write_small) (burst, msg_id, size))
        return false;
    sim_oracle_accepted (w, sender, number, size);
    return true;
}

/* As the router does with a broadcast: the records are shared, their checksum is
 * known. Returns the item itself if there is no memory. */
static ctki_item_t *as_broadcast (ctki_item_t *item)
{
    item->crc_known = item->kind == CTKI_RUN;
    item->crc = item->crc_known ? ctki_crc32c (0, item->data, item->size) : 0;
    ctki_item_t *share = ctki_item_share (item, NULL);
    if (!share)
        return item;
    sim_did (SIM_DID_BROADCAST);
    ctki_item_release (item);
    return share;
}

static void send_burst (sim_world_t *w, sim_process_t *process, unsigned peer, uint64_t count)
{
    sim_sender_t *sender = process->sender[peer] ? process->sender[peer] : sim_sender_start (w, process, peer);
    burst_t burst = {0};
    sim_memory_begin (w);
    ctki_writer_init (&burst.writer, w->pool, ctki_writer_block_bytes (w->setup.frame_bytes), w->setup.frame_bytes);
    while (count > 0 && write_one (w, sender, &burst))
        count--;
    ctki_writer_fini (&burst.writer);
    for (ctki_item_t *item; (item = ctki_items_take (&burst.items));)
        ctki_mailbox_put (&sender->mailbox, sim_one_in (w, 5) ? as_broadcast (item) : item);
    sim_memory_end (w);
    sim_wake (w, process, SIM_SENDERS + peer, sim_soon (w));
}

void sim_app_send_one (sim_world_t *w, sim_process_t *process, unsigned peer)
{
    uint64_t queue_bytes = w->queue_bytes;
    w->queue_bytes = UINT64_MAX / 4;
    send_burst (w, process, peer, 1);
    w->queue_bytes = queue_bytes;
}

static void send_some (sim_world_t *w, sim_process_t *process)
{
    uint64_t count = 1 + sim_below (w, sim_one_in (w, 8) ? LONG_BURST : BURST);
    unsigned peer = (unsigned) sim_below (w, w->nodes);
    bool all = sim_one_in (w, 6);
    for (unsigned i = 0; i < w->nodes; i++) {
        if (i != process->node && (all || i == peer))
            send_burst (w, process, i, count);
    }
    process->send_us = w->now_us + (int64_t) sim_below (w, (uint64_t) w->send_pause_us + 1);
}

/* ---- taking */

static void eat (sim_world_t *w, sim_process_t *process)
{
    ctalk_envelope_t envelope[MEAL];
    uint64_t local;
    size_t most = w->chaos ? 1 + (size_t) sim_below (w, MEAL) : MEAL;
    int count = ctki_inbox_take (&process->inbox, envelope, most, 0, &local);
    for (int i = 0; i < count; i++) {
        sim_oracle_taken (w, process, &envelope[i]);
        ctki_buf_release (envelope[i].lease, 1);
    }
    process->eat_us = w->now_us + (w->chaos ? (int64_t) sim_below (w, (uint64_t) w->eat_pause_us + 1) : 0);
    if (process->inbox.told)
        sim_wake (w, process, SIM_ROUTER, sim_soon (w));
}

/* Somebody begins to watch, or does no more. */
static void change_watch (sim_process_t *process)
{
    process->watching = !process->watching;
    process->unwatched = true;
}

void sim_app_step (sim_world_t *w, sim_process_t *process)
{
    if (w->sending && w->now_us >= process->send_us)
        send_some (w, process);
    if (process->inbox.head && w->now_us >= process->eat_us && w->now_us >= process->stopped_until_us)
        eat (w, process);
    if (sim_strikes (w, SIM_UNWATCHED))
        change_watch (process);
    if (w->sending)
        sim_wake (w, process, SIM_APP, process->send_us);
    if (process->inbox.head)
        sim_wake (w, process, SIM_APP, CTKI_MAX (process->eat_us, process->stopped_until_us));
}
