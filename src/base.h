/*
 * base.h - what every file may use: the assert, the limits with their units,
 * byte order. It includes only standard headers and owns nothing.
 */
#ifndef CTKI_BASE_H
#define CTKI_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* An internal invariant. Stays in release builds: a broken invariant must not
 * go on to lose data. Never for bytes from outside: those get an error. */
#define CTKI_ASSERT(x) ((x) ? (void) 0 : ctki_assert_failed (#x, __FILE__, __LINE__))
_Noreturn void ctki_assert_failed (const char *what, const char *file, int line);

/* Gets the line of memory at an address ready to be written to; harmless
 * wherever the address leads. (The built-in function does the same only for
 * processors that are named to the compiler. Older ones take it for nothing.) */
#if defined(__x86_64__)
#define CTKI_PREFETCH_WRITE(address) __asm__ volatile ("prefetchw (%0)" : : "r"(address))
#else
#define CTKI_PREFETCH_WRITE(address) __builtin_prefetch (address, 1)
#endif

/* In a loop that looks at what another processor writes. */
static inline void ctki_pause (void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause ();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#define CTKI_LIKELY(x) __builtin_expect (!!(x), 1)
#define CTKI_UNLIKELY(x) __builtin_expect (!!(x), 0)
#define CTKI_PRINTF(text, first) __attribute__ ((format (printf, text, first)))
#define CTKI_CACHE_LINE 64
#define CTKI_MIN(a, b) ((a) < (b) ? (a) : (b))
#define CTKI_MAX(a, b) ((a) > (b) ? (a) : (b))

/* Limits, each with its unit. */
enum {
    CTKI_CHARGE_BYTES = 64,          /* what an envelope costs in a queue or window besides its payload */
    CTKI_LARGE_BYTES = 4096,         /* from here on a payload that is taken over is shared, not copied */
    CTKI_COPY_BYTES = 24 * 1024 + 1, /* from here on one that is copied has memory of its own, below it goes into a batch */
    CTKI_LEASE_BYTES = 8192,         /* received frames up to here are copied, larger ones leased (pitfall H1) */
    CTKI_FRAME_BYTES_MAX = 65536,    /* the most that FrameBytes can be: every server takes frames of that size */
    CTKI_FRAGMENT_FRAMES = 4,        /* a fragment of a large envelope is so much larger: fewer to handle */
    CTKI_PART_BYTES_MAX = CTKI_FRAGMENT_FRAMES * CTKI_FRAME_BYTES_MAX, /* hence every server takes these */
    CTKI_FRAME_SLACK_BYTES = 512,    /* headers and checksum beside FrameBytes in a libzmq message */
    CTKI_STACK_BYTES = 256 * 1024,   /* of a library thread */
    CTKI_ACTOR_STACK_BYTES = 512 * 1024, /* of a user's actor */
    CTKI_CREDIT_BYTES = 16 * 1024,   /* what may be sent to an actor of another server before that says more */
    CTKI_ENDPOINT_BYTES = 320,       /* the longest endpoint in text, its end included */
    CTKI_CONFIG_BYTES = 1024 * 1024, /* the largest config file */
    CTKI_JSON_DEPTH = 64             /* the deepest nesting in a config file */
};

/* Big-endian numbers at any alignment (the wire format). */
static inline uint16_t ctki_get16 (const uint8_t *p)
{
    uint16_t v;
    memcpy (&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    v = __builtin_bswap16 (v);
#endif
    return v;
}

static inline uint32_t ctki_get32 (const uint8_t *p)
{
    uint32_t v;
    memcpy (&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    v = __builtin_bswap32 (v);
#endif
    return v;
}

static inline uint64_t ctki_get64 (const uint8_t *p)
{
    uint64_t v;
    memcpy (&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    v = __builtin_bswap64 (v);
#endif
    return v;
}

static inline void ctki_put16 (uint8_t *p, uint16_t v)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    v = __builtin_bswap16 (v);
#endif
    memcpy (p, &v, sizeof v);
}

static inline void ctki_put32 (uint8_t *p, uint32_t v)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    v = __builtin_bswap32 (v);
#endif
    memcpy (p, &v, sizeof v);
}

static inline void ctki_put64 (uint8_t *p, uint64_t v)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    v = __builtin_bswap64 (v);
#endif
    memcpy (p, &v, sizeof v);
}

#endif
