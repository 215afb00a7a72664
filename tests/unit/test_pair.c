/*
 * test_pair.c - one real sending half against one real receiving half over a
 * simulated link, in virtual time. A seed decides everything: breaks that lose
 * a suffix of what is under way in either direction, delays, late events,
 * restarts of either side, a slow consumer, small windows, memory that runs out.
 * Frames pass as bytes, through the codec.
 *
 * The oracle knows every envelope by its number: it comes at most once, in
 * order, unchanged; only a restart may lose one, and the figures say which.
 *
 * CTALK_TEST_SEED=n runs that seed alone and tells its story on stderr. Owns
 * all that a world holds; a failing seed is printed.
 */
#include <check.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/mem.h"
#include "src/session.h"
#include "src/sys.h"
#include "tests/support/scale.h"

Suite *ctki_suite_pair (void);

enum {
    SEEDS = 100,           /* of each kind */
    STEPS_MAX = 400000,    /* in one world */
    STEPS_AT_ONCE = 20000, /* without the clock moving: a busy loop */
    ENVELOPES_MAX = 2000,  /* in one world */
    FRAMES_MAX = 1 << 13,  /* in one session */
    CHAOS_US = 3000000,    /* trouble until then; then the world is whole */
    DRAIN_US = 5000000,    /* and after so long everything has arrived */
    FAREWELL_US = 1000000
};

enum { SELF = 1, PEER = 2 };

/* What may happen in a world. */
enum { BREAKS = 1, RECEIVER_RESTARTS = 2, SENDER_RESTARTS = 4, NO_MEMORY = 8, SLOW = 16, EVERYTHING = 31 };

/* A frame under way. */
typedef struct packet {
    struct packet *next;
    int64_t at_us;
    unsigned connection;
    int count;
    size_t size[2];
    uint8_t *data[2];
} packet_t;

typedef struct {
    packet_t *head, *tail;
    unsigned count;
} way_t;

/* A frame's worth in the application's inbox. */
typedef struct meal {
    struct meal *next;
    uint64_t envelopes, charge, frames;
} meal_t;

/* What became of an envelope. */
typedef struct {
    uint64_t charge;
    bool transmitted; /* its last byte was given to the link */
    bool came;
} fate_t;

typedef struct {
    uint64_t seed, random;
    unsigned trouble;
    int64_t now_us, chaos_until_us;
    ctki_session_setup_t setup;
    ctki_pool_t *pool;

    /* the link */
    unsigned connection;   /* the latest; 0: never connected */
    bool connected, known; /* to the sender */
    int64_t connect_at_us, event_at_us, break_at_us, restart_at_us;
    way_t there[2], back; /* there: of the connection before, of this one */
    int64_t there_at_us, back_at_us;
    unsigned room; /* frames that the link holds */
    int64_t delay_us, jitter_us;
    bool blocked;

    /* the sender */
    ctki_out_t out;
    unsigned sender_life;
    uint64_t seen_sid;
    uint32_t *slice_crc; /* of the frames of this session, by number; 0: not sent yet */
    int64_t push_at_us, pause_us;
    uint64_t pushed, pushed_charge; /* in this life */
    uint64_t delivered, abandoned, in_doubt;
    int64_t charge;
    uint64_t to_push;

    /* the receiver */
    ctki_in_t in;
    meal_t *meals, *last_meal;
    uint64_t consumed, consumed_byte, consumed_frame;
    uint64_t wake_byte, wake_frame;
    int64_t eat_at_us, eat_us;
    unsigned receiver_lives;

    fate_t fate[ENVELOPES_MAX + 1]; /* by number, of this life of the sender */
    uint64_t newest;                /* that came, of newest_life */
    unsigned newest_life;
    uint64_t total_came, total_malformed;
    bool aloud;
} world_t;

/* ---- chance */

static uint64_t chance (world_t *w)
{
    w->random += UINT64_C (0x9e3779b97f4a7c15); /* splitmix64 */
    uint64_t z = w->random;
    z = (z ^ z >> 30) * UINT64_C (0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C (0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint64_t below (world_t *w, uint64_t limit)
{
    return limit ? chance (w) % limit : 0;
}

static bool one_in (world_t *w, uint64_t n)
{
    return below (w, n) == 0;
}

CTKI_PRINTF (2, 3) static void tell (const world_t *w, const char *format, ...)
{
    if (!w->aloud)
        return;
    va_list args;
    va_start (args, format);
    fprintf (stderr, "%9.3f ms ", (double) w->now_us / 1000);
    vfprintf (stderr, format, args);
    fputc ('\n', stderr);
    va_end (args);
}

#define EXPECT(w, condition, ...)                                                                                      \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf (stderr, "seed %" PRIu64 " trouble %u at %" PRId64 " us: ", (w)->seed, (w)->trouble, (w)->now_us); \
            fprintf (stderr, __VA_ARGS__);                                                                             \
            fputc ('\n', stderr);                                                                                      \
            ck_abort_msg ("CTALK_TEST_SEED=%" PRIu64 ": %s", (w)->seed, #condition);                                   \
        }                                                                                                              \
    } while (0)

/* ---- envelopes: the number and the life of the sender stand in the msg id,
 * and all bytes follow from it */

static uint8_t payload_byte (uint64_t id, size_t i)
{
    return (uint8_t) ((id * 31 + i * 7 + i / 251) & 0xff);
}

static void fill (uint8_t *data, size_t size, uint64_t id)
{
    for (size_t i = 0; i < size; i++)
        data[i] = payload_byte (id, i);
}

static uint64_t id_of (const world_t *w, uint64_t number)
{
    return (uint64_t) w->sender_life << 32 | number;
}

static size_t size_of (world_t *w, bool large)
{
    size_t frame = w->setup.frame_bytes;
    if (large)
        return 1 + (size_t) below (w, one_in (w, 4) ? w->setup.message_bytes : frame);
    return (size_t) below (w, one_in (w, 4) ? frame / 2 : 40);
}

static ctki_record_t record_of (uint64_t id, size_t size)
{
    ctalk_envelope_t envelope = {.pid = PEER, .msg_id = (int64_t) id, .size = size};
    return ctki_record_of (&envelope, false);
}

/* A record of a run; returns its header's size. */
static size_t read_record (const uint8_t *records, size_t size, size_t at, ctki_record_t *record)
{
    *record = (ctki_record_t){0};
    size_t head = ctki_record_get (records + at, size - at, record);
    ck_assert_uint_gt (head, 0);
    return head;
}

/* ---- the sender's side */

static void account (world_t *w, uint64_t id, size_t size)
{
    uint64_t number = id & UINT32_MAX;
    ck_assert_uint_le (number, ENVELOPES_MAX);
    w->fate[number] = (fate_t){.charge = size + CTKI_CHARGE_BYTES};
    w->pushed = number;
    w->pushed_charge += size + CTKI_CHARGE_BYTES;
}

static void write_large (world_t *w, ctki_writer_t *writer, ctki_items_t *items, uint64_t id)
{
    size_t size = size_of (w, true);
    ctki_buf_t *body = ctki_buf_new (size);
    fill (body->data, size, id);
    ctki_record_t record = record_of (id, size);
    ck_assert_int_eq (ctki_writer_large (writer, items, NULL, false, &record, body, body->data, size), 0);
    account (w, id, size);
}

static void write_small (world_t *w, ctki_writer_t *writer, ctki_items_t *items, uint64_t id)
{
    uint8_t data[4096];
    size_t size = size_of (w, false);
    fill (data, size, id);
    ctki_record_t record = record_of (id, size);
    ck_assert_int_eq (ctki_writer_put (writer, items, NULL, false, &record, data), 0);
    account (w, id, size);
}

/* As the router does with a broadcast: the records are shared, their checksum is known. */
static ctki_item_t *as_broadcast (ctki_item_t *item)
{
    item->crc_known = true;
    item->crc = ctki_crc32c (0, item->data, item->size);
    ctki_item_t *copy = ctki_item_share (item, NULL);
    ck_assert_ptr_nonnull (copy);
    ctki_item_release (item);
    return copy;
}

static void push_some (world_t *w)
{
    ctki_items_t items = {0};
    ctki_writer_t writer;
    ctki_writer_init (&writer, w->pool, ctki_writer_block_bytes (w->setup.frame_bytes), w->setup.frame_bytes);
    uint64_t count = 1 + below (w, one_in (w, 5) ? 60 : 5);
    count = CTKI_MIN (count, w->to_push);
    w->to_push -= count;
    for (; count > 0; count--) {
        uint64_t id = id_of (w, w->pushed + 1);
        if (one_in (w, 8)) {
            ctki_writer_close (&writer);
            write_large (w, &writer, &items, id);
        } else
            write_small (w, &writer, &items, id);
    }
    ctki_writer_fini (&writer);
    for (ctki_item_t *item; (item = ctki_items_take (&items));)
        ctki_out_push (&w->out, one_in (w, 4) ? as_broadcast (item) : item);
    if (one_in (w, 10))
        ctki_out_flush (&w->out);
}

/* What the sender still holds, counted from its frames and items. */
static void count_queued (const ctki_out_t *out, uint64_t *envelopes, uint64_t *charge)
{
    *envelopes = *charge = 0;
    for (uint64_t seq = out->una; seq < out->next; seq++) {
        *envelopes += out->ring[seq & (out->ring_capacity - 1)].count;
        *charge += out->ring[seq & (out->ring_capacity - 1)].charge;
    }
    size_t gone = out->cut;
    for (const ctki_item_t *item = out->queue.head; item; item = item->next, gone = 0) {
        *envelopes += item->count;
        *charge += item->charge;
        if (item->kind == CTKI_LARGE)
            *charge -= gone ? gone + CTKI_CHARGE_BYTES : 0;
        for (size_t at = 0; item->kind == CTKI_RUN && at < gone;) {
            ctki_record_t record;
            at += read_record (item->data, item->size, at, &record);
            at += ctki_record_pad (record.len);
            *envelopes -= 1;
            *charge -= record.len + CTKI_CHARGE_BYTES;
        }
    }
}

/* Pushed = delivered + abandoned + still there, in envelopes and in charge. */
static void check_figures (world_t *w)
{
    uint64_t envelopes, charge;
    ctki_out_t *out = &w->out;
    w->delivered += out->settled.delivered;
    w->abandoned += out->settled.abandoned;
    w->in_doubt += out->settled.in_doubt;
    w->charge += out->settled.charge;
    memset (&out->settled, 0, sizeof out->settled);
    count_queued (out, &envelopes, &charge);
    EXPECT (w, w->pushed == w->delivered + w->abandoned + envelopes,
            "pushed %" PRIu64 " delivered %" PRIu64 " abandoned %" PRIu64 " queued %" PRIu64, w->pushed, w->delivered,
            w->abandoned, envelopes);
    EXPECT (w, (int64_t) w->pushed_charge == w->charge + (int64_t) charge,
            "charge pushed %" PRIu64 " settled %" PRId64 " queued %" PRIu64, w->pushed_charge, w->charge, charge);
    EXPECT (w, w->in_doubt <= w->abandoned, "in doubt %" PRIu64, w->in_doubt);
}

/* ---- packets */

static packet_t *make_packet (const ctki_part_t *parts, int count, unsigned connection)
{
    packet_t *packet = calloc (1, sizeof *packet);
    packet->connection = connection;
    packet->count = count;
    for (int i = 0; i < count; i++) {
        packet->size[i] = parts[i].size;
        packet->data[i] = malloc (parts[i].size + !parts[i].size);
        memcpy (packet->data[i], parts[i].data, parts[i].size);
    }
    return packet;
}

static void free_packet (packet_t *packet)
{
    free (packet->data[0]);
    free (packet->data[1]);
    free (packet);
}

static void add_packet (way_t *way, packet_t *packet)
{
    if (way->tail)
        way->tail->next = packet;
    else
        way->head = packet;
    way->tail = packet;
    way->count++;
}

static packet_t *take_packet (way_t *way)
{
    packet_t *packet = way->head;
    way->head = packet->next;
    if (!way->head)
        way->tail = NULL;
    way->count--;
    return packet;
}

/* Loses all but the first `keep`. */
static void lose_suffix (way_t *way, unsigned keep)
{
    way_t kept = {0};
    while (way->head) {
        packet_t *packet = take_packet (way);
        packet->next = NULL;
        if (kept.count < keep)
            add_packet (&kept, packet);
        else
            free_packet (packet);
    }
    *way = kept;
}

static int64_t arrival (world_t *w, int64_t *latest_us)
{
    int64_t at_us = w->now_us + w->delay_us + (int64_t) below (w, (uint64_t) w->jitter_us + 1);
    return *latest_us = CTKI_MAX (*latest_us, at_us);
}

/* ---- the link */

static void break_link (world_t *w)
{
    tell (w, "connection %u breaks: %u there, %u back", w->connection, w->there[1].count, w->back.count);
    lose_suffix (&w->there[0], 0); /* at most one old connection's frames are left */
    lose_suffix (&w->there[1], (unsigned) below (w, w->there[1].count + 1));
    w->there[0] = w->there[1]; /* what came over may be read late, between later frames */
    w->there[1] = (way_t){0};
    lose_suffix (&w->back, (unsigned) below (w, w->back.count + 1));
    w->connected = false;
    w->break_at_us = CTKI_FOREVER;
    w->connect_at_us = w->now_us + (int64_t) below (w, one_in (w, 4) ? 1000000 : 20000);
}

static void connect_link (world_t *w)
{
    w->connection++;
    w->connected = true;
    w->connect_at_us = CTKI_FOREVER;
    w->there_at_us = w->back_at_us = w->now_us;
    /* The event may come late: some frames slip out before the HELLO. */
    w->event_at_us = w->now_us + (one_in (w, 3) ? (int64_t) below (w, 5000) : 0);
    if ((w->trouble & BREAKS) && w->now_us < w->chaos_until_us)
        w->break_at_us = w->now_us + (int64_t) below (w, one_in (w, 3) ? 5000 : 500000);
    w->blocked = false;
    tell (w, "connection %u", w->connection);
}

/* A link that says nothing is torn down by the sender and made anew. */
static void rebuild_link (world_t *w)
{
    tell (w, "the sender gives the link up");
    if (w->connected) {
        break_link (w);
        w->connect_at_us = w->now_us + (int64_t) below (w, 20000);
    }
    w->event_at_us = CTKI_FOREVER;
    ctki_out_link_made (&w->out, w->now_us, chance (w));
}

static void hear_of_link (world_t *w)
{
    w->event_at_us = CTKI_FOREVER;
    ctki_out_link_down (&w->out, w->now_us);
    ctki_out_link_up (&w->out, w->now_us, chance (w));
}

/* ---- sending */

/* A numbered frame never changes. */
static void check_slice (world_t *w, const ctki_emit_t *emit)
{
    if (w->out.sid != w->seen_sid) {
        w->seen_sid = w->out.sid;
        memset (w->slice_crc, 0, FRAMES_MAX * sizeof *w->slice_crc);
    }
    uint64_t n = emit->frame.n;
    uint32_t crc = ctki_crc32c (emit->sent->last, emit->sent->data, emit->sent->size) | 1;
    EXPECT (w, n < FRAMES_MAX, "too many frames");
    EXPECT (w, w->slice_crc[n] == 0 || w->slice_crc[n] == crc, "frame %" PRIu64 " changed", n);
    EXPECT (w, n <= w->out.credit_frame && w->out.cut_charge <= w->out.credit_byte, "over credit at %" PRIu64, n);
    EXPECT (w, emit->sent->size > 0 && emit->sent->size <= CTKI_MAX (w->setup.frame_bytes, w->setup.fragment_bytes), "a frame of %u bytes",
            (unsigned) emit->sent->size);
    w->slice_crc[n] = crc;
}

static void note_transmitted (world_t *w, const ctki_sent_t *sent)
{
    for (size_t at = 0; sent->item->kind == CTKI_RUN && at < sent->size;) {
        ctki_record_t record;
        at += read_record (sent->data, sent->size, at, &record);
        at += ctki_record_pad (record.len);
        w->fate[record.msg_id & UINT32_MAX].transmitted = true;
    }
    if (sent->item->kind == CTKI_LARGE && sent->last)
        w->fate[sent->item->record.msg_id & UINT32_MAX].transmitted = true;
}

static void emit_all (world_t *w)
{
    ctki_emit_t emit;
    uint8_t scratch[CTKI_SCRATCH_BYTES];
    ctki_part_t parts[2];
    w->blocked = false;
    bool fail = (w->trouble & NO_MEMORY) && w->now_us < w->chaos_until_us && one_in (w, 10);
    if (fail)
        ctki_mem_fail (0, 1);
    for (unsigned i = 0; i < STEPS_AT_ONCE && ctki_out_next (&w->out, w->now_us, &emit); i++) {
        EXPECT (w, i < STEPS_AT_ONCE - 1, "the sender never stops talking");
        int count = ctki_emit_parts (&emit, scratch, parts);
        if (!w->connected || w->there[1].count >= w->room) {
            w->blocked = true;
            ctki_out_blocked (&w->out, w->now_us);
            break;
        }
        if (emit.sent) {
            check_slice (w, &emit);
            note_transmitted (w, emit.sent);
        }
        tell (w, "    type %u n %" PRIu64 " flags %x round %u ->", emit.frame.type, emit.frame.n, emit.frame.flags,
              emit.frame.round);
        packet_t *packet = make_packet (parts, count, w->connection);
        packet->at_us = arrival (w, &w->there_at_us);
        add_packet (&w->there[1], packet);
        ctki_out_sent (&w->out, w->now_us, &emit);
    }
    if (fail)
        ctki_mem_fail (-1, 0);
}

/* ---- the receiver's side */

/* Returns whether the connection is still there; a frame for a dead one may vanish silently. */
static bool send_back (world_t *w, uint64_t rid, const ctki_frame_t *frame)
{
    uint8_t bytes[CTKI_CONTROL_BYTES];
    ctki_part_t part = {.data = bytes, .size = ctki_wire_encode (frame, bytes, sizeof bytes)};
    if (!w->connected || rid != w->connection)
        return one_in (w, 3);
    tell (w, "    <- type %u n %" PRIu64 " flags %x round %u", frame->type, frame->n, frame->flags, frame->round);
    packet_t *packet = make_packet (&part, 1, (unsigned) rid);
    packet->at_us = arrival (w, &w->back_at_us);
    add_packet (&w->back, packet);
    return true;
}

static void came (world_t *w, uint64_t id, const uint8_t *data, size_t size)
{
    unsigned life = (unsigned) (id >> 32);
    uint64_t number = id & UINT32_MAX;
    EXPECT (w, life > w->newest_life || (life == w->newest_life && number > w->newest),
            "envelope %u.%" PRIu64 " after %u.%" PRIu64, life, number, w->newest_life, w->newest);
    w->newest_life = life;
    w->newest = number;
    w->total_came++;
    if (life == w->sender_life) {
        EXPECT (w, number <= w->pushed && size + CTKI_CHARGE_BYTES == w->fate[number].charge, "a size changed");
        w->fate[number].came = true;
    }
    for (size_t i = 0; i < size; i++)
        EXPECT (w, data[i] == payload_byte (id, i), "envelope %" PRIu64 " changed at byte %zu", number, i);
}

/* Returns what the envelopes of a frame cost. */
static uint64_t take_run (world_t *w, const ctki_effects_t *fx)
{
    uint64_t charge = 0;
    uint32_t count = 0;
    for (size_t at = 0; at < fx->records_size; count++) {
        ctki_record_t record;
        size_t head = read_record (fx->records, fx->records_size, at, &record);
        came (w, (uint64_t) record.msg_id, fx->records + at + head, record.len);
        charge += record.len + CTKI_CHARGE_BYTES;
        at += head + ctki_record_pad (record.len);
    }
    EXPECT (w, count == fx->count, "a run of %u counted as %u", count, fx->count);
    return charge;
}

static uint64_t take_one (world_t *w, const ctki_frame_t *frame, const ctki_effects_t *fx)
{
    const uint8_t *data = fx->whole ? fx->whole->data : frame->body;
    size_t size = fx->whole ? fx->whole->size : frame->body_size;
    came (w, (uint64_t) fx->record.msg_id, data, size);
    if (fx->whole)
        ctki_buf_release (fx->whole, 1);
    return size + CTKI_CHARGE_BYTES;
}

static void watch (world_t *w)
{
    w->wake_byte = ctki_in_wake_byte (&w->in);
    w->wake_frame = ctki_in_wake_frame (&w->in);
}

static void deliver (world_t *w, const ctki_frame_t *frame, const ctki_effects_t *fx)
{
    meal_t *meal = calloc (1, sizeof *meal);
    meal->envelopes = fx->count;
    meal->frames = fx->frames;
    meal->charge = fx->give == CTKI_GIVE_RUN ? take_run (w, fx) : take_one (w, frame, fx);
    if (w->last_meal)
        w->last_meal->next = meal;
    else
        w->meals = meal;
    w->last_meal = meal;
    watch (w);
}

static void drop_meals (world_t *w)
{
    for (meal_t *meal; (meal = w->meals);) {
        w->meals = meal->next;
        free (meal);
    }
    w->last_meal = NULL;
    w->consumed = w->consumed_byte = w->consumed_frame = 0;
    w->wake_byte = w->wake_frame = UINT64_MAX;
}

/* The memory of R12: what waits and what is put together never exceeds the window and one envelope. */
static void check_memory (world_t *w)
{
    uint64_t held = w->in.received_byte - w->consumed_byte;
    EXPECT (w, held <= w->setup.window_bytes + w->setup.message_bytes + CTKI_CHARGE_BYTES, "holds %" PRIu64, held);
    EXPECT (w, w->in.received_byte <= w->in.credit_byte, "bytes over credit");
    EXPECT (w, !w->in.open || w->in.expected - 1 <= w->in.credit_frame, "frames over credit");
}

static void receive_there (world_t *w, packet_t *packet)
{
    ctki_frame_t frame;
    ctki_effects_t fx;
    const char *bad = ctki_wire_decode (&frame, packet->data[0], packet->size[0], packet->data[1], packet->size[1]);
    EXPECT (w, !bad, "a bad frame: %s", bad);
    bool fail = (w->trouble & NO_MEMORY) && w->now_us < w->chaos_until_us && one_in (w, 10);
    if (fail)
        ctki_mem_fail (0, 1);
    ctki_in_receive (&w->in, w->now_us, packet->connection, &frame, chance (w), &fx);
    if (fail)
        ctki_mem_fail (-1, 0);
    EXPECT (w, !fx.malformed || w->in.left, "frame %" PRIu64 " of type %u is malformed", frame.n, frame.type);
    if (fx.opened) {
        tell (w, "session %" PRIx64 " opens", w->in.sid);
        drop_meals (w);
    }
    if (fx.give != CTKI_GIVE_NOTHING)
        deliver (w, &frame, &fx);
    if (fx.reply)
        send_back (w, packet->connection, &fx.answer);
    check_memory (w);
    free_packet (packet);
}

static void acknowledge (world_t *w)
{
    ctki_frame_t frame;
    ctki_effects_t fx;
    while (ctki_in_tick (&w->in, w->now_us, chance (w), &fx)) {
        if (fx.reply)
            send_back (w, fx.rid, &fx.answer);
    }
    if (w->in.open && w->now_us >= w->in.ack_at_us)
        ctki_in_consumed (&w->in, w->now_us, w->consumed, w->consumed_byte, w->consumed_frame);
    if (!ctki_in_next (&w->in, w->now_us, &frame))
        return;
    if (send_back (w, w->in.rid, &frame))
        ctki_in_acked (&w->in, w->now_us);
    else
        ctki_in_unreachable (&w->in);
    watch (w);
}

static void eat (world_t *w)
{
    meal_t *meal = w->meals;
    w->eat_at_us = w->now_us + (int64_t) below (w, (uint64_t) w->eat_us + 1);
    if (!meal)
        return;
    w->meals = meal->next;
    if (!w->meals)
        w->last_meal = NULL;
    w->consumed += meal->envelopes;
    w->consumed_byte += meal->charge;
    w->consumed_frame += meal->frames;
    free (meal);
    if (w->consumed_byte >= w->wake_byte || w->consumed_frame >= w->wake_frame)
        ctki_in_consumed (&w->in, w->now_us, w->consumed, w->consumed_byte, w->consumed_frame);
}

/* The obituary of a session says what the figures say. */
static void read_obit (world_t *w)
{
    ctki_obit_t *obit = ctki_out_obit (&w->out);
    if (!obit)
        return;
    EXPECT (w, obit->in_doubt == w->out.settled.in_doubt, "in doubt %" PRIu64 " by the figures, %" PRIu64 " by the obituary",
            w->out.settled.in_doubt, obit->in_doubt);
    ctki_free (obit);
    check_figures (w);
}

static void receive_back (world_t *w, packet_t *packet)
{
    ctki_frame_t frame;
    const char *bad = ctki_wire_decode (&frame, packet->data[0], packet->size[0], NULL, 0);
    EXPECT (w, !bad, "a bad frame: %s", bad);
    ctki_out_receive (&w->out, w->now_us, &frame);
    free_packet (packet);
    read_obit (w);
}

/* ---- restarts */

static void restart_receiver (world_t *w)
{
    tell (w, "the receiver restarts");
    if (w->connected)
        break_link (w);
    lose_suffix (&w->there[0], 0);
    lose_suffix (&w->there[1], 0);
    ctki_in_fini (&w->in);
    drop_meals (w);
    ctki_session_setup_t setup = w->setup;
    setup.self = PEER;
    setup.peer = SELF;
    setup.inc = 2000 + ++w->receiver_lives;
    ctki_in_init (&w->in, &setup);
}

static void start_sender (world_t *w)
{
    ctki_session_setup_t setup = w->setup;
    setup.self = SELF;
    setup.peer = PEER;
    setup.inc = 1000 + ++w->sender_life;
    ctki_out_init (&w->out, &setup, w->now_us);
    w->pushed = w->pushed_charge = 0;
    w->delivered = w->abandoned = w->in_doubt = 0;
    w->charge = 0;
    w->seen_sid = 0;
}

static void restart_sender (world_t *w)
{
    tell (w, "the sender restarts");
    check_figures (w);
    if (w->connected)
        break_link (w);
    lose_suffix (&w->back, 0);
    w->event_at_us = CTKI_FOREVER;
    ctki_out_fini (&w->out);
    start_sender (w);
}

static void restart_somebody (world_t *w)
{
    bool receiver = (w->trouble & RECEIVER_RESTARTS) && (!(w->trouble & SENDER_RESTARTS) || one_in (w, 2));
    if (receiver)
        restart_receiver (w);
    else
        restart_sender (w);
    w->restart_at_us = w->now_us + 100000 + (int64_t) below (w, 1500000);
}

/* ---- time */

static void choose_setup (world_t *w)
{
    uint32_t frame_bytes = 256u << below (w, 3);
    w->setup = (ctki_session_setup_t){.frame_bytes = frame_bytes,
                                      .fragment_bytes = frame_bytes * (uint32_t) below (w, 5),
                                      .message_bytes = frame_bytes * (1 + below (w, 12)),
                                      .window_bytes = frame_bytes * (2 + below (w, one_in (w, 2) ? 3 : 60)),
                                      .window_frames = one_in (w, 2) ? 8 : 8 + below (w, 100),
                                      .heartbeat_us = 500 * CTKI_MS,
                                      .suspect_us = 1500 * CTKI_MS,
                                      .down_us = 5 * CTKI_S};
    w->room = 1 + (unsigned) below (w, one_in (w, 2) ? 4 : 64);
    w->delay_us = (int64_t) below (w, one_in (w, 4) ? 30000 : 300);
    w->jitter_us = (int64_t) below (w, one_in (w, 4) ? 20000 : 300);
    w->pause_us = (int64_t) below (w, 30000);
    w->eat_us = (w->trouble & SLOW) ? (int64_t) below (w, 30000) : 50;
    w->to_push = 100 + below (w, 900);
}

static world_t *make_world (uint64_t seed, unsigned trouble)
{
    world_t *w = calloc (1, sizeof *w);
    ck_assert_ptr_nonnull (w);
    w->seed = seed;
    w->random = seed * 64 + trouble;
    w->trouble = trouble;
    w->aloud = getenv ("CTALK_TEST_SEED") != NULL;
    w->now_us = CTKI_S;
    w->chaos_until_us = w->now_us + CHAOS_US;
    choose_setup (w);
    w->pool = ctki_pool_new (ctki_writer_block_bytes (w->setup.frame_bytes), 4);
    w->slice_crc = calloc (FRAMES_MAX, sizeof *w->slice_crc);
    w->connect_at_us = w->now_us;
    w->event_at_us = w->break_at_us = w->restart_at_us = CTKI_FOREVER;
    if (trouble & (RECEIVER_RESTARTS | SENDER_RESTARTS))
        w->restart_at_us = w->now_us + (int64_t) below (w, CHAOS_US);
    w->push_at_us = w->eat_at_us = w->now_us;
    start_sender (w);
    restart_receiver (w);
    return w;
}

static void free_world (world_t *w)
{
    ctki_out_fini (&w->out);
    ctki_in_fini (&w->in);
    drop_meals (w);
    lose_suffix (&w->there[0], 0);
    lose_suffix (&w->there[1], 0);
    lose_suffix (&w->back, 0);
    ctki_pool_destroy (&w->pool);
    free (w->slice_crc);
    free (w);
}

static int64_t head_at (const way_t *way)
{
    return way->head ? way->head->at_us : CTKI_FOREVER;
}

static int64_t next_event (const world_t *w)
{
    int64_t at_us = CTKI_MIN (CTKI_MIN (w->connect_at_us, w->event_at_us), CTKI_MIN (w->break_at_us, w->restart_at_us));
    at_us = CTKI_MIN (at_us, CTKI_MIN (head_at (&w->there[0]), head_at (&w->there[1])));
    at_us = CTKI_MIN (at_us, CTKI_MIN (head_at (&w->back), ctki_in_deadline (&w->in)));
    if (w->meals)
        at_us = CTKI_MIN (at_us, w->eat_at_us);
    if (w->to_push)
        at_us = CTKI_MIN (at_us, w->push_at_us);
    return CTKI_MIN (at_us, w->blocked ? ctki_out_link_deadline (&w->out) : ctki_out_deadline (&w->out));
}

static void let_packets_arrive (world_t *w)
{
    for (int i = 0; i < 2; i++) {
        while (head_at (&w->there[i]) <= w->now_us)
            receive_there (w, take_packet (&w->there[i]));
    }
    while (head_at (&w->back) <= w->now_us)
        receive_back (w, take_packet (&w->back));
}

static void happen (world_t *w)
{
    if (w->now_us >= w->restart_at_us)
        restart_somebody (w);
    if (w->now_us >= w->break_at_us)
        break_link (w);
    if (w->now_us >= w->connect_at_us)
        connect_link (w);
    let_packets_arrive (w);
    if (w->now_us >= w->event_at_us)
        hear_of_link (w);
    if (w->to_push && w->now_us >= w->push_at_us) {
        push_some (w);
        w->push_at_us = w->now_us + (int64_t) below (w, (uint64_t) w->pause_us + 1);
    }
    if (ctki_out_link_dead (&w->out, w->now_us))
        rebuild_link (w);
    while (w->meals && w->now_us >= w->eat_at_us)
        eat (w);
    acknowledge (w);
    emit_all (w);
}

static bool at_rest (const world_t *w)
{
    bool linked = w->connected && w->event_at_us == CTKI_FOREVER && w->out.state == CTKI_OUT_OPEN;
    bool one_session = w->in.open && w->in.sid == w->out.sid;
    return linked && one_session && ctki_out_empty (&w->out) && !w->meals && !w->to_push;
}

/* Lets time pass until `holds`; fails at the deadline if there is one to fail at. */
static void run (world_t *w, int64_t until_us, bool (*holds) (const world_t *), const char *what)
{
    unsigned at_once = 0;
    for (unsigned steps = 0; !holds || !holds (w); steps++) {
        int64_t at_us = CTKI_MAX (next_event (w), w->now_us);
        if (at_us > until_us) {
            EXPECT (w, !what, "not in time: %s (una %" PRIu64 " next %" PRIu64 " state %d)", what, w->out.una,
                    w->out.next, (int) w->out.state);
            w->now_us = until_us;
            return;
        }
        at_once = at_us > w->now_us ? 0 : at_once + 1;
        EXPECT (w, steps < STEPS_MAX && at_once < STEPS_AT_ONCE, "a busy loop");
        w->now_us = at_us;
        happen (w);
        if (steps % 8 == 0)
            check_figures (w);
    }
    check_figures (w);
}

/* For a slow link and a small window: a round trip for each envelope that is left. */
static int64_t drain_us (const world_t *w)
{
    uint64_t left = w->pushed + w->to_push - w->delivered - w->abandoned;
    return DRAIN_US + (int64_t) left * 2 * (w->delay_us + w->jitter_us);
}

/* Trouble, then none, until all has arrived and was consumed. */
static void live (world_t *w)
{
    run (w, w->chaos_until_us, NULL, NULL);
    w->restart_at_us = w->break_at_us = CTKI_FOREVER;
    if (!w->connected)
        w->connect_at_us = w->now_us;
    w->eat_us = w->pause_us = 0;
    w->eat_at_us = w->push_at_us = w->now_us;
    run (w, w->now_us + drain_us (w), at_rest, "everything arrives");
}

/* ---- the oracle at the end */

static uint64_t missing (world_t *w)
{
    uint64_t count = 0;
    for (uint64_t i = 1; i <= w->pushed; i++) {
        if (w->fate[i].came)
            continue;
        count++;
        EXPECT (w, w->fate[i].transmitted, "envelope %" PRIu64 " was never transmitted, and is lost", i);
    }
    return count;
}

static void check_fates (world_t *w)
{
    uint64_t lost = missing (w);
    EXPECT (w, w->delivered + w->abandoned == w->pushed, "not all is settled");
    EXPECT (w, w->in_doubt == w->abandoned, "abandoned, and not in doubt");
    EXPECT (w, lost <= w->in_doubt, "%" PRIu64 " lost, %" PRIu64 " in doubt", lost, w->in_doubt);
    if (!(w->trouble & RECEIVER_RESTARTS))
        EXPECT (w, lost == 0 && w->in_doubt == 0, "lost %" PRIu64 " in doubt %" PRIu64, lost, w->in_doubt);
    EXPECT (w, w->in.received == w->consumed, "received %" PRIu64 " consumed %" PRIu64, w->in.received, w->consumed);
}

/* ---- the ends */

static bool sender_ended (const world_t *w)
{
    return w->out.state == CTKI_OUT_ENDED;
}

static void say_bye (world_t *w)
{
    ctki_out_close (&w->out, w->now_us);
    run (w, w->now_us + FAREWELL_US, sender_ended, "the sender ends");
    EXPECT (w, w->in.left, "nobody heard the BYE");
    EXPECT (w, w->abandoned == w->in_doubt, "something was abandoned by closing");
}

static bool confirmed (const world_t *w)
{
    return w->in.confirmed;
}

/* The receiver closes in the middle of traffic: the sender keeps what did not
 * come, for another incarnation, or gives it up when it closes, too. */
static void leave (world_t *w)
{
    w->to_push = 300;
    run (w, w->now_us + 20000, NULL, NULL);
    ctki_in_leave (&w->in, w->now_us);
    run (w, w->now_us + FAREWELL_US, confirmed, "the sender confirms that the receiver leaves");
    EXPECT (w, w->out.leaving, "confirmed, and the sender does not know");
    uint64_t in_doubt = w->in_doubt;
    if (one_in (w, 2)) { /* it comes back */
        restart_receiver (w);
        w->connect_at_us = w->now_us;
        run (w, w->now_us + drain_us (w), at_rest, "all arrives at the next one");
        check_fates (w);
    } else {
        w->to_push = 0;
        ctki_out_close (&w->out, w->now_us);
        run (w, w->now_us + FAREWELL_US, sender_ended, "the sender ends");
        EXPECT (w, w->delivered + w->abandoned == w->pushed, "not all is settled");
    }
    EXPECT (w, w->in_doubt == in_doubt, "what a leaving receiver did not take is not in doubt");
}

/* ---- the tests */

static void one_world (uint64_t seed, unsigned trouble)
{
    world_t *w = make_world (seed, trouble);
    live (w);
    check_fates (w);
    if (one_in (w, 2))
        say_bye (w);
    else
        leave (w);
    free_world (w);
}

static void worlds (unsigned trouble)
{
    const char *seed = getenv ("CTALK_TEST_SEED");
    if (seed) {
        one_world (strtoull (seed, NULL, 0), trouble);
        return;
    }
    for (uint64_t i = 1; i <= ctki_test_count (SEEDS); i++)
        one_world (i, trouble);
}

/* Over a whole link with small windows all arrives, and nothing is ever in doubt. */
START_TEST (test_quiet)
{
    worlds (SLOW);
}
END_TEST

/* Breaks of the connection lose, repeat and reorder nothing. */
START_TEST (test_breaks)
{
    worlds (BREAKS | SLOW);
}
END_TEST

/* Memory that runs out anywhere costs time and nothing else. */
START_TEST (test_no_memory)
{
    worlds (BREAKS | NO_MEMORY);
}
END_TEST

/* A receiver that restarts costs what it had or was under way, all of it in doubt; the rest arrives at the next one. */
START_TEST (test_receiver_restarts)
{
    worlds (BREAKS | RECEIVER_RESTARTS);
}
END_TEST

/* A sender that restarts is another: its envelopes follow those of the one before. */
START_TEST (test_sender_restarts)
{
    worlds (BREAKS | SENDER_RESTARTS);
}
END_TEST

/* All of it together. */
START_TEST (test_everything)
{
    worlds (EVERYTHING);
}
END_TEST

Suite *ctki_suite_pair (void)
{
    Suite *suite = suite_create ("pair");
    TCase *tcase = tcase_create ("pair");
    tcase_set_timeout (tcase, 60);
    tcase_add_test (tcase, test_quiet);
    tcase_add_test (tcase, test_breaks);
    tcase_add_test (tcase, test_no_memory);
    tcase_add_test (tcase, test_receiver_restarts);
    tcase_add_test (tcase, test_sender_restarts);
    tcase_add_test (tcase, test_everything);
    suite_add_tcase (suite, tcase);
    return suite;
}
