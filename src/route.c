/*
 * route.c - members by pid.
 */
#include "src/route.h"

#include <errno.h>
#include <stdlib.h>

/* A listed member without a record is its number, doubled, plus one: no record
 * stands at an odd address. */
static void *tag (size_t number)
{
    return (void *) (uintptr_t) (number << 1 | 1);
}

static bool is_tag (const void *value)
{
    return ((uintptr_t) value & 1) != 0;
}

void ctki_route_init (ctki_route_t *route, const char *(*endpoint) (void *arg, size_t number), void *arg)
{
    *route = (ctki_route_t) {.endpoint = endpoint, .arg = arg};
}

static void stale (ctki_route_t *route)
{
    ctki_crowd_release (route->crowd);
    route->crowd = NULL;
}

static void release (ctki_peer_t *peer, void *arg)
{
    (void) arg;
    ctki_peer_release (peer);
}

void ctki_route_fini (ctki_route_t *route)
{
    stale (route);
    ctki_route_each (route, release, NULL);
    ctki_map_fini (&route->map);
}

int ctki_route_list (ctki_route_t *route, ctalk_pid_t pid, size_t number)
{
    if (ctki_map_put (&route->map, (uint64_t) pid, tag (number)))
        return -1;
    stale (route);
    return 0;
}

size_t ctki_route_count (const ctki_route_t *route)
{
    return route->map.count;
}

static int ascending (const void *a, const void *b)
{
    ctalk_pid_t x = *(const ctalk_pid_t *) a, y = *(const ctalk_pid_t *) b;
    return (x > y) - (x < y);
}

/* The greatest of a full heap of the smallest pids stands first. */
static void sift (ctalk_pid_t *heap, size_t size)
{
    for (size_t i = 0, child; (child = 2 * i + 1) < size; i = child) {
        if (child + 1 < size && heap[child + 1] > heap[child])
            child++;
        if (heap[i] >= heap[child])
            break;
        ctalk_pid_t t = heap[i];
        heap[i] = heap[child];
        heap[child] = t;
    }
}

/* Keeps the `capacity` smallest pids seen. */
static void keep (ctalk_pid_t *pids, size_t *kept, size_t capacity, ctalk_pid_t pid)
{
    if (*kept < capacity) {
        pids[(*kept)++] = pid;
        if (*kept == capacity) { /* from now on it is a heap: descending order is one */
            qsort (pids, capacity, sizeof *pids, ascending);
            for (size_t i = 0; i < capacity / 2; i++) {
                ctalk_pid_t t = pids[i];
                pids[i] = pids[capacity - 1 - i];
                pids[capacity - 1 - i] = t;
            }
        }
    } else if (capacity && pid < pids[0]) {
        pids[0] = pid;
        sift (pids, capacity);
    }
}

size_t ctki_route_pids (const ctki_route_t *route, ctalk_pid_t self, ctalk_pid_t *pids, size_t capacity)
{
    size_t kept = 0;
    for (size_t i = 0; i < route->map.capacity; i++) {
        if (route->map.slots[i].value)
            keep (pids, &kept, capacity, (ctalk_pid_t) route->map.slots[i].key);
    }
    if (self >= 0)
        keep (pids, &kept, capacity, self);
    if (kept)
        qsort (pids, kept, sizeof *pids, ascending);
    return route->map.count + (self >= 0);
}

bool ctki_route_has (const ctki_route_t *route, ctalk_pid_t pid)
{
    return ctki_map_get (&route->map, (uint64_t) pid) != NULL;
}

ctki_peer_t *ctki_route_peek (const ctki_route_t *route, ctalk_pid_t pid)
{
    void *value = ctki_map_get (&route->map, (uint64_t) pid);
    return is_tag (value) ? NULL : value;
}

/* Makes the record of a listed member. */
static ctki_peer_t *materialise (ctki_route_t *route, ctalk_pid_t pid, const void *value, int64_t now_us)
{
    ctki_peer_t *peer = ctki_peer_new (pid, route->endpoint (route->arg, (uintptr_t) value >> 1), now_us);
    if (!peer)
        errno = ENOMEM;
    else
        ctki_map_put (&route->map, (uint64_t) pid, peer); /* the key is there: this cannot fail */
    return peer;
}

ctki_peer_t *ctki_route_find (ctki_route_t *route, ctalk_pid_t pid, int64_t now_us)
{
    void *value = ctki_map_get (&route->map, (uint64_t) pid);
    if (CTKI_LIKELY (value && !is_tag (value)))
        return value;
    if (!value) {
        errno = EHOSTUNREACH;
        return NULL;
    }
    return materialise (route, pid, value, now_us);
}

int ctki_route_add (ctki_route_t *route, ctki_peer_t *peer)
{
    if (ctki_map_put (&route->map, (uint64_t) peer->pid, peer))
        return -1;
    stale (route);
    return 0;
}

ctki_peer_t *ctki_route_remove (ctki_route_t *route, ctalk_pid_t pid)
{
    void *value = ctki_map_remove (&route->map, (uint64_t) pid);
    if (value)
        stale (route);
    return is_tag (value) ? NULL : value;
}

ctki_crowd_t *ctki_route_everybody (ctki_route_t *route, int64_t now_us)
{
    if (route->crowd)
        return route->crowd;
    ctki_crowd_t *crowd = ctki_crowd_new (route->map.count);
    if (!crowd)
        return NULL;
    for (size_t i = 0; i < route->map.capacity; i++) {
        ctki_slot_t *slot = &route->map.slots[i];
        if (!slot->value)
            continue;
        if (is_tag (slot->value) && !materialise (route, (ctalk_pid_t) slot->key, slot->value, now_us)) {
            ctki_crowd_release (crowd);
            return NULL;
        }
        ctki_peer_hold (slot->value);
        crowd->peer[crowd->count++] = slot->value;
    }
    return route->crowd = crowd;
}

void ctki_route_each (const ctki_route_t *route, void (*fn) (ctki_peer_t *peer, void *arg), void *arg)
{
    for (size_t i = 0; i < route->map.capacity; i++) {
        void *value = route->map.slots[i].value;
        if (value && !is_tag (value))
            fn (value, arg);
    }
}
