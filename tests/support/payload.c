/*
 * payload.c - payloads that can be checked by whoever receives them.
 */
#include "tests/support/payload.h"

#include <string.h>

static uint64_t mix (uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t seed_of (size_t size, ctalk_pid_t src, ctalk_pid_t dst, int64_t number)
{
    return mix (mix ((uint64_t) number) ^ mix ((uint64_t) (uint32_t) src << 32 | (uint32_t) dst) ^ (uint64_t) size);
}

void ctki_payload_fill (void *buffer, size_t size, ctalk_pid_t src, ctalk_pid_t dst, int64_t number)
{
    char *at = buffer;
    uint64_t seed = seed_of (size, src, dst, number);
    size_t word = 0;
    for (; size >= sizeof seed; size -= sizeof seed, at += sizeof seed) {
        uint64_t value = mix (seed + word++);
        memcpy (at, &value, sizeof value);
    }
    uint64_t last = mix (seed + word);
    if (size)
        memcpy (at, &last, size);
}

bool ctki_payload_ok (const void *data, size_t size, ctalk_pid_t src, ctalk_pid_t dst, int64_t number)
{
    const char *at = data;
    uint64_t seed = seed_of (size, src, dst, number), differs = 0;
    size_t word = 0;
    for (; size >= sizeof seed; size -= sizeof seed, at += sizeof seed) {
        uint64_t value;
        memcpy (&value, at, sizeof value);
        differs |= value ^ mix (seed + word++);
    }
    uint64_t last = mix (seed + word);
    return differs == 0 && (size == 0 || memcmp (at, &last, size) == 0);
}

uint64_t ctki_payload_hash (uint64_t hash, int64_t number, const void *data, size_t size)
{
    const char *at = data;
    hash = mix (hash ^ mix ((uint64_t) number) ^ (uint64_t) size);
    for (; size >= sizeof hash; size -= sizeof hash, at += sizeof hash) {
        uint64_t value;
        memcpy (&value, at, sizeof value);
        hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 29;
    }
    uint64_t last = 0;
    if (size)
        memcpy (&last, at, size);
    return mix (hash ^ last);
}
