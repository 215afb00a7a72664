/*
 * fault.h - a bad way, for tests: what becomes of a frame on one way, which is
 * one direction between two servers. A way can be cut, and it can be bad: it
 * loses, doubles and delays frames by seeded draws. Pure: frames and the time go
 * in, due times come out. Nothing here is thread-safe; it stands under its
 * actor's lock.
 *
 * Frames of one way stay in order, for that is what a connection does: no frame
 * is due before one that was judged earlier. What whoever uses it must do:
 *
 *   - pass on what is due (ctki_delayed_pop ()) before anything else goes that
 *     way, and delay a frame when others of the way still are, due or not;
 *   - after ctki_fault_set (): ctki_delayed_hurry (), and pass it on: the way
 *     begins anew, and nothing may be overtaken or wait for times of the past;
 *   - after ctki_fault_cut (): ctki_delayed_clear (): what is on its way is lost.
 *
 * A frame that finds no memory or no room in the queue is lost, as on a real
 * way; the session notices.
 */
#ifndef CTKI_FAULT_H
#define CTKI_FAULT_H

#include <clustertalk.h>

#include "src/base.h"

enum {
    CTKI_FAULT_MS_MAX = 60000,            /* the longest delay, and the longest jitter */
    CTKI_FAULT_COPIES = 2,                /* the most that becomes of one frame */
    CTKI_DELAYED_PARTS = 2,               /* of a frame */
    CTKI_DELAYED_FRAMES = 4096,           /* the most in one queue */
    CTKI_DELAYED_BYTES = 16 * 1024 * 1024 /* the same, of their parts */
};

/* ---- what becomes of a frame */

typedef struct {
    bool on; /* cut or bad */
    bool cut;
    bool bad;
    ctalk_impairment_t how;
    uint64_t state;      /* of the draws */
    int64_t last_due_us; /* of the last frame that went on since the way was set */
} ctki_fault_t;          /* all bytes zero: a good way */

/* Whether every field is in its range; NaN is in none. */
bool ctki_fault_valid (const ctalk_impairment_t *how);

/* Makes the way bad, with draws from the first on, or good again (NULL). salt
 * tells the ways apart that have one seed. how must be valid. A cut remains. */
void ctki_fault_set (ctki_fault_t *fault, const ctalk_impairment_t *how, uint64_t salt);

/* Cuts the way or heals the cut; a bad way remains one. */
void ctki_fault_cut (ctki_fault_t *fault, bool cut);

/* Whether frames must be judged: the one test on the common path. */
static inline bool ctki_fault_on (const ctki_fault_t *fault)
{
    return CTKI_UNLIKELY (fault->on);
}

/* How many copies of a frame go on, and when each is due: now_us or later. */
int ctki_fault_judge (ctki_fault_t *fault, int64_t now_us, int64_t due_us[CTKI_FAULT_COPIES]);

/* ---- frames that are not due yet */

/* A frame in memory of its own, its parts 8-byte aligned. */
typedef struct ctki_delayed_frame ctki_delayed_frame_t;
struct ctki_delayed_frame {
    ctki_delayed_frame_t *next, *previous;
    int64_t due_us;
    uint64_t tag; /* whatever it came with */
    int count;    /* of parts */
    const uint8_t *data[CTKI_DELAYED_PARTS];
    size_t size[CTKI_DELAYED_PARTS];
};

/* Frames by their due time, those of one time in the order in which they came. */
typedef struct {
    ctki_delayed_frame_t *head, *tail;
    size_t count;
    size_t bytes;
} ctki_delayed_t; /* all bytes zero: empty */

/* Copies a frame of one or two parts. false: it is lost, for want of memory or room. */
bool ctki_delayed_push (ctki_delayed_t *queue, int64_t due_us, uint64_t tag, const uint8_t *const *data,
                        const size_t *size, int count);

/* The first frame if it is due: the caller's, to be freed. NULL: none is. */
ctki_delayed_frame_t *ctki_delayed_pop (ctki_delayed_t *queue, int64_t now_us);
void ctki_delayed_free (ctki_delayed_frame_t **frame_p);

/* Makes all that is there due at once. */
void ctki_delayed_hurry (ctki_delayed_t *queue);

/* Frees all that is there. */
void ctki_delayed_clear (ctki_delayed_t *queue);

/* When the first is due; INT64_MAX: there is none. */
static inline int64_t ctki_delayed_next (const ctki_delayed_t *queue)
{
    return queue->head ? queue->head->due_us : INT64_MAX;
}

#endif
