/*
 * fault.c - a bad way, for tests. A queue owns the frames in it.
 */
#include "src/fault.h"

#include "src/mem.h"

enum { US_PER_MS = 1000, PART_ALIGN = 8 };

/* ---- draws: splitmix64, whose whole state is a counter */

static uint64_t mix (uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t draw (ctki_fault_t *fault)
{
    return mix (fault->state += 0x9e3779b97f4a7c15u);
}

/* From 0, which is a value of it, to 1, which is none. */
static double draw_unit (ctki_fault_t *fault)
{
    return (double) (draw (fault) >> 11) * 0x1p-53;
}

static int64_t draw_jitter_us (ctki_fault_t *fault)
{
    return (int64_t) (draw (fault) % ((uint64_t) fault->how.jitter_ms * US_PER_MS + 1));
}

/* ---- what becomes of a frame */

static bool is_probability (double p)
{
    return p >= 0.0 && p <= 1.0; /* false for NaN */
}

static bool is_time (int ms)
{
    return ms >= 0 && ms <= CTKI_FAULT_MS_MAX;
}

bool ctki_fault_valid (const ctalk_impairment_t *how)
{
    return is_probability (how->loss) && is_probability (how->duplicate) && is_time (how->delay_ms)
           && is_time (how->jitter_ms);
}

static bool changes_nothing (const ctalk_impairment_t *how)
{
    return how->loss <= 0.0 && how->duplicate <= 0.0 && how->delay_ms == 0 && how->jitter_ms == 0;
}

void ctki_fault_set (ctki_fault_t *fault, const ctalk_impairment_t *how, uint64_t salt)
{
    CTKI_ASSERT (!how || ctki_fault_valid (how));
    fault->bad = how && !changes_nothing (how);
    fault->how = how ? *how : (ctalk_impairment_t){0};
    fault->state = mix (fault->how.seed) + mix (~salt);
    fault->last_due_us = 0;
    fault->on = fault->cut || fault->bad;
}

void ctki_fault_cut (ctki_fault_t *fault, bool cut)
{
    fault->cut = cut;
    fault->last_due_us = 0;
    fault->on = fault->cut || fault->bad;
}

/* After the last one at the earliest. */
static int64_t due_of (ctki_fault_t *fault, int64_t now_us, int64_t delay_us)
{
    return fault->last_due_us = CTKI_MAX (fault->last_due_us, now_us + delay_us);
}

int ctki_fault_judge (ctki_fault_t *fault, int64_t now_us, int64_t due_us[CTKI_FAULT_COPIES])
{
    if (fault->cut)
        return 0;
    if (!fault->bad) {
        due_us[0] = due_of (fault, now_us, 0);
        return 1;
    }
    /* As many draws for each frame, whatever becomes of it: so one figure can be
     * changed, and the other draws are still the same. */
    bool lost = draw_unit (fault) < fault->how.loss;
    bool doubled = draw_unit (fault) < fault->how.duplicate;
    int64_t delay_us = (int64_t) fault->how.delay_ms * US_PER_MS;
    int64_t first_us = delay_us + draw_jitter_us (fault), second_us = delay_us + draw_jitter_us (fault);
    if (lost)
        return 0;
    due_us[0] = due_of (fault, now_us, first_us);
    if (!doubled)
        return 1;
    due_us[1] = due_of (fault, now_us, second_us);
    return 2;
}

/* ---- frames that are not due yet */

static size_t aligned (size_t size)
{
    return (size + PART_ALIGN - 1) / PART_ALIGN * PART_ALIGN;
}

static size_t bytes_of (const size_t *size, int count)
{
    size_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += size[i];
    return bytes;
}

/* A frame with its parts behind it. */
static ctki_delayed_frame_t *copy_of (const uint8_t *const *data, const size_t *size, int count)
{
    size_t head = aligned (sizeof (ctki_delayed_frame_t)), all = head;
    for (int i = 0; i < count; i++)
        all += aligned (size[i]);
    ctki_delayed_frame_t *frame = ctki_alloc (all);
    if (!frame)
        return NULL;
    *frame = (ctki_delayed_frame_t){.count = count};
    uint8_t *to = (uint8_t *) frame + head;
    for (int i = 0; i < count; i++) {
        if (size[i])
            memcpy (to, data[i], size[i]);
        frame->data[i] = to;
        frame->size[i] = size[i];
        to += aligned (size[i]);
    }
    return frame;
}

/* Behind the last one that is not due later; with one way in the queue that is its tail. */
static void insert (ctki_delayed_t *queue, ctki_delayed_frame_t *frame)
{
    ctki_delayed_frame_t *before = queue->tail;
    while (before && before->due_us > frame->due_us)
        before = before->previous;
    frame->previous = before;
    frame->next = before ? before->next : queue->head;
    *(frame->next ? &frame->next->previous : &queue->tail) = frame;
    *(before ? &before->next : &queue->head) = frame;
}

bool ctki_delayed_push (ctki_delayed_t *queue, int64_t due_us, uint64_t tag, const uint8_t *const *data,
                        const size_t *size, int count)
{
    CTKI_ASSERT (count >= 1 && count <= CTKI_DELAYED_PARTS);
    size_t bytes = bytes_of (size, count);
    if (queue->count >= CTKI_DELAYED_FRAMES || bytes > CTKI_DELAYED_BYTES - queue->bytes)
        return false;
    ctki_delayed_frame_t *frame = copy_of (data, size, count);
    if (!frame)
        return false;
    frame->due_us = due_us;
    frame->tag = tag;
    insert (queue, frame);
    queue->count++;
    queue->bytes += bytes;
    return true;
}

static ctki_delayed_frame_t *take (ctki_delayed_t *queue)
{
    ctki_delayed_frame_t *frame = queue->head;
    queue->head = frame->next;
    *(queue->head ? &queue->head->previous : &queue->tail) = NULL;
    queue->count--;
    queue->bytes -= bytes_of (frame->size, frame->count);
    frame->next = NULL;
    return frame;
}

ctki_delayed_frame_t *ctki_delayed_pop (ctki_delayed_t *queue, int64_t now_us)
{
    return queue->head && queue->head->due_us <= now_us ? take (queue) : NULL;
}

void ctki_delayed_free (ctki_delayed_frame_t **frame_p)
{
    ctki_free (*frame_p);
    *frame_p = NULL;
}

void ctki_delayed_hurry (ctki_delayed_t *queue)
{
    for (ctki_delayed_frame_t *frame = queue->head; frame; frame = frame->next)
        frame->due_us = INT64_MIN;
}

void ctki_delayed_clear (ctki_delayed_t *queue)
{
    while (queue->head) {
        ctki_delayed_frame_t *frame = take (queue);
        ctki_delayed_free (&frame);
    }
}
