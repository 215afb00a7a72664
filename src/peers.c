/*
 * peers.c - the map, and the life of a peer's record.
 */
#include "src/peers.h"

#include <errno.h>

#include "src/mem.h"

/* ---- map */

static size_t home_of (const ctki_map_t *map, uint64_t key)
{
    /* Fibonacci hashing: pids are often consecutive, sids random. */
    return (size_t) ((key * UINT64_C (0x9E3779B97F4A7C15)) >> 32) & (map->capacity - 1);
}

void ctki_map_fini (ctki_map_t *map)
{
    ctki_free (map->slots);
    *map = (ctki_map_t) {0};
}

static ctki_slot_t *find (const ctki_map_t *map, uint64_t key)
{
    if (map->capacity == 0)
        return NULL;
    size_t i = home_of (map, key);
    while (map->slots[i].value) {
        if (map->slots[i].key == key)
            return &map->slots[i];
        i = (i + 1) & (map->capacity - 1);
    }
    return NULL;
}

void *ctki_map_get (const ctki_map_t *map, uint64_t key)
{
    ctki_slot_t *slot = find (map, key);
    return slot ? slot->value : NULL;
}

static void insert (ctki_map_t *map, uint64_t key, void *value)
{
    size_t i = home_of (map, key);
    while (map->slots[i].value)
        i = (i + 1) & (map->capacity - 1);
    map->slots[i] = (ctki_slot_t) {key, value};
    map->count++;
}

static int grow (ctki_map_t *map)
{
    ctki_map_t larger = {.capacity = map->capacity ? map->capacity * 2 : 8};
    larger.slots = ctki_alloc_zero (larger.capacity * sizeof *larger.slots);
    if (!larger.slots)
        return -1;
    for (size_t i = 0; i < map->capacity; i++) {
        if (map->slots[i].value)
            insert (&larger, map->slots[i].key, map->slots[i].value);
    }
    ctki_free (map->slots);
    *map = larger;
    return 0;
}

int ctki_map_put (ctki_map_t *map, uint64_t key, void *value)
{
    CTKI_ASSERT (value);
    ctki_slot_t *slot = find (map, key);
    if (slot) {
        slot->value = value;
        return 0;
    }
    if ((map->count + 1) * 4 > map->capacity * 3 && grow (map))
        return -1;
    insert (map, key, value);
    return 0;
}

void *ctki_map_remove (ctki_map_t *map, uint64_t key)
{
    ctki_slot_t *slot = find (map, key);
    if (!slot)
        return NULL;
    void *value = slot->value;
    size_t mask = map->capacity - 1;
    size_t hole = (size_t) (slot - map->slots);
    /* Move back what would no longer be found across the hole. */
    for (size_t i = (hole + 1) & mask; map->slots[i].value; i = (i + 1) & mask) {
        size_t home = home_of (map, map->slots[i].key);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            map->slots[hole] = map->slots[i];
            hole = i;
        }
    }
    map->slots[hole].value = NULL;
    map->count--;
    return value;
}

/* ---- peer */

ctki_peer_t *ctki_peer_new (ctalk_pid_t pid, const char *endpoint, int64_t now_us)
{
    ctki_peer_t *peer = ctki_alloc_zero (sizeof *peer);
    if (!peer)
        return NULL;
    peer->pid = pid;
    atomic_init (&peer->refs, 1);
    atomic_init (&peer->state, CTALK_STATE_IDLE);
    atomic_init (&peer->state_since_us, now_us);
    if (endpoint && !(peer->endpoint = ctki_strdup (endpoint))) {
        ctki_free (peer);
        return NULL;
    }
    return peer;
}

void ctki_peer_hold (ctki_peer_t *peer)
{
    atomic_fetch_add_explicit (&peer->refs, 1, memory_order_relaxed);
}

void ctki_peer_release (ctki_peer_t *peer)
{
    if (peer && atomic_fetch_sub_explicit (&peer->refs, 1, memory_order_acq_rel) == 1) {
        CTKI_ASSERT (!peer->sender && !peer->inbound);
        for (size_t i = 0; i < peer->credits.capacity; i++)
            ctki_free (peer->credits.slots[i].value);
        ctki_map_fini (&peer->credits);
        ctki_free (atomic_load (&peer->ways));
        ctki_free (peer->endpoint);
        ctki_free (peer);
    }
}

/* ---- crowd */

ctki_crowd_t *ctki_crowd_new (size_t capacity)
{
    ctki_crowd_t *crowd = ctki_alloc (sizeof *crowd + capacity * sizeof (ctki_peer_t *));
    if (!crowd)
        return NULL;
    atomic_init (&crowd->refs, 1);
    crowd->count = 0;
    return crowd;
}

void ctki_crowd_hold (ctki_crowd_t *crowd)
{
    atomic_fetch_add_explicit (&crowd->refs, 1, memory_order_relaxed);
}

void ctki_crowd_release (ctki_crowd_t *crowd)
{
    if (crowd && atomic_fetch_sub_explicit (&crowd->refs, 1, memory_order_acq_rel) == 1) {
        for (size_t i = 0; i < crowd->count; i++)
            ctki_peer_release (crowd->peer[i]);
        ctki_free (crowd);
    }
}
