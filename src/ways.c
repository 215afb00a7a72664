/*
 * ways.c - from what was asked for to what becomes of a frame. See ways.h.
 */
#include "src/ways.h"

#include <errno.h>

#include "src/mem.h"

static ctki_ways_t *ways_of (ctki_peer_t *peer)
{
    ctki_ways_t *ways = atomic_load (&peer->ways);
    if (ways)
        return ways;
    ways = ctki_alloc_zero (sizeof *ways);
    if (!ways)
        return NULL;
    atomic_store (&peer->ways, ways); /* the caller keeps others out */
    return ways;
}

int ctki_ways_cut (ctki_peer_t *peer, unsigned directions, bool on)
{
    ctki_ways_t *ways = ways_of (peer);
    if (!ways)
        return -1;
    ways->cut = on ? ways->cut | directions : ways->cut & ~directions;
    atomic_fetch_add (&ways->turn, 1);
    return 0;
}

int ctki_ways_impair (ctki_peer_t *peer, unsigned directions, const ctalk_impairment_t *how)
{
    ctki_ways_t *ways = ways_of (peer);
    if (!ways)
        return -1;
    ways->bad = how ? ways->bad | directions : ways->bad & ~directions;
    if (how && directions & CTALK_IN)
        ways->in = *how;
    if (how && directions & CTALK_OUT)
        ways->out = *how;
    atomic_fetch_add (&ways->turn, 1);
    return 0;
}

/* ---- one end */

/* Whether a way is as bad as it should be, draw by draw. */
static bool same (const ctki_way_t *way, const ctalk_impairment_t *how)
{
    const ctalk_impairment_t *is = &way->fault.how;
    if (!how || !way->fault.bad)
        return way->fault.bad == (how != NULL);
    return !(is->loss < how->loss) && !(is->loss > how->loss) && !(is->duplicate < how->duplicate)
           && !(is->duplicate > how->duplicate) && is->delay_ms == how->delay_ms && is->jitter_ms == how->jitter_ms
           && is->seed == how->seed;
}

/* Takes over what was asked for. */
static void learn (ctki_way_t *way, ctki_ways_t *ways, ctki_lock_t *lock, unsigned direction, uint64_t salt)
{
    ctki_lock_take (lock);
    const ctalk_impairment_t *how
        = !(ways->bad & direction) ? NULL : direction == CTALK_IN ? &ways->in : &ways->out;
    bool cut = (ways->cut & direction) != 0;
    way->turn = atomic_load (&ways->turn);
    if (!same (way, how)) {
        ctki_fault_set (&way->fault, how, salt);
        ctki_delayed_hurry (&way->delayed);
    }
    ctki_fault_cut (&way->fault, cut);
    ctki_lock_release (lock);
    if (cut)
        ctki_delayed_clear (&way->delayed);
}

bool ctki_way_look (ctki_way_t *way, ctki_peer_t *peer, ctki_lock_t *lock, unsigned direction, uint64_t salt,
                    bool *changed)
{
    ctki_ways_t *ways = atomic_load_explicit (&peer->ways, memory_order_acquire);
    if (CTKI_LIKELY (!ways))
        return false;
    if (atomic_load (&ways->turn) != way->turn) {
        learn (way, ways, lock, direction, salt);
        *changed = true;
    }
    return ctki_fault_on (&way->fault) || way->delayed.head;
}

int ctki_way_judge (ctki_way_t *way, int64_t now_us, uint64_t tag, const uint8_t *const *data, const size_t *size,
                    int count)
{
    int64_t due_us[CTKI_FAULT_COPIES];
    int at_once = 0, copies = ctki_fault_judge (&way->fault, now_us, due_us);
    for (int i = 0; i < copies; i++) {
        if (due_us[i] <= now_us && !way->delayed.head)
            at_once++;
        else
            ctki_delayed_push (&way->delayed, due_us[i], tag, data, size, count); /* or it is lost */
    }
    return at_once;
}
