/*
 * crc32c.c - CRC32C (Castagnoli polynomial 0x1EDC6F41, reflected), the
 * checksum of frames.
 *
 * Owns one pointer: the way that suits this processor, chosen at the first
 * call. Two threads that choose at once choose the same. All tables are
 * constants. Nothing can go wrong.
 *
 * A checksum is a polynomial over GF(2) modulo the Castagnoli one, its
 * coefficient of x^0 in bit 31. Appending n zero bytes multiplies it by
 * x^(8n); that is all there is to joining two checksums, and to computing
 * three stretches of a block side by side, which the processor's instruction
 * needs to be fast: it takes three cycles, but one can start every cycle.
 */
#include <stdatomic.h>

#include "src/wire.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

#define POLYNOMIAL 0x82f63b78u
#define ONE 0x80000000u /* x^0 */

enum {
    POWERS = 31,    /* x^(2^31) is x again */
    BYTE_POWER = 3, /* x^8 is x^(2^3) */
    LONG_POWER = 10,
    SHORT_POWER = 7,
    LONG_BYTES = 1 << LONG_POWER, /* of one of three stretches */
    SHORT_BYTES = 1 << SHORT_POWER
};

/* ---- the portable way: eight bytes a turn, a table for each (slicing-by-8) */

/* SLICE_s: what the eight bits of a byte come to with s zero bytes behind it.
 * The checksum is linear, so an entry is the exclusive or of its bits'. */
#define SLICE_0 0xf26b8303u, 0xe13b70f7u, 0xc79a971fu, 0x8ad958cfu, 0x105ec76fu, 0x20bd8edeu, 0x417b1dbcu, 0x82f63b78u
#define SLICE_1 0x13a29877u, 0x274530eeu, 0x4e8a61dcu, 0x9d14c3b8u, 0x3fc5f181u, 0x7f8be302u, 0xff17c604u, 0xfbc3faf9u
#define SLICE_2 0xa541927eu, 0x4f6f520du, 0x9edea41au, 0x38513ec5u, 0x70a27d8au, 0xe144fb14u, 0xc76580d9u, 0x8b277743u
#define SLICE_3 0xdd45aab8u, 0xbf672381u, 0x7b2231f3u, 0xf64463e6u, 0xe964b13du, 0xd725148bu, 0xaba65fe7u, 0x52a0c93fu
#define SLICE_4 0x38116facu, 0x7022df58u, 0xe045beb0u, 0xc5670b91u, 0x8f2261d3u, 0x1ba8b557u, 0x37516aaeu, 0x6ea2d55cu
#define SLICE_5 0xef306b19u, 0xdb8ca0c3u, 0xb2f53777u, 0x6006181fu, 0xc00c303eu, 0x85f4168du, 0x0e045bebu, 0x1c08b7d6u
#define SLICE_6 0x68032cc8u, 0xd0065990u, 0xa5e0c5d1u, 0x4e2dfd53u, 0x9c5bfaa6u, 0x3d5b83bdu, 0x7ab7077au, 0xf56e0ef4u
#define SLICE_7 0x493c7d27u, 0x9278fa4eu, 0x211d826du, 0x423b04dau, 0x847609b4u, 0x0d006599u, 0x1a00cb32u, 0x34019664u

#define BIT(i, b, v) (((i) >> (b) &1u) != 0 ? (v) : 0u)
#define ENTRY_OF(i, a, b, c, d, e, f, g, h)                                                                            \
    (BIT (i, 0, a) ^ BIT (i, 1, b) ^ BIT (i, 2, c) ^ BIT (i, 3, d) ^ BIT (i, 4, e) ^ BIT (i, 5, f) ^ BIT (i, 6, g)     \
     ^ BIT (i, 7, h))
#define ENTRY(i, ...) ENTRY_OF (i, __VA_ARGS__)
#define ENTRIES_4(i, ...)                                                                                              \
    ENTRY (i, __VA_ARGS__), ENTRY ((i) + 1u, __VA_ARGS__), ENTRY ((i) + 2u, __VA_ARGS__), ENTRY ((i) + 3u, __VA_ARGS__)
#define ENTRIES_16(i, ...)                                                                                             \
    ENTRIES_4 (i, __VA_ARGS__), ENTRIES_4 ((i) + 4u, __VA_ARGS__), ENTRIES_4 ((i) + 8u, __VA_ARGS__),                  \
        ENTRIES_4 ((i) + 12u, __VA_ARGS__)
#define ENTRIES_64(i, ...)                                                                                             \
    ENTRIES_16 (i, __VA_ARGS__), ENTRIES_16 ((i) + 16u, __VA_ARGS__), ENTRIES_16 ((i) + 32u, __VA_ARGS__),             \
        ENTRIES_16 ((i) + 48u, __VA_ARGS__)
#define TABLE(...)                                                                                                     \
    {                                                                                                                  \
        ENTRIES_64 (0u, __VA_ARGS__), ENTRIES_64 (64u, __VA_ARGS__), ENTRIES_64 (128u, __VA_ARGS__),                   \
            ENTRIES_64 (192u, __VA_ARGS__)                                                                             \
    }

static const uint32_t tables[8][256] = {TABLE (SLICE_0), TABLE (SLICE_1), TABLE (SLICE_2), TABLE (SLICE_3),
                                        TABLE (SLICE_4), TABLE (SLICE_5), TABLE (SLICE_6), TABLE (SLICE_7)};

static inline uint64_t load64 (const uint8_t *p)
{
    uint64_t v;
    memcpy (&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64 (v);
#endif
    return v;
}

static uint32_t eight_bytes (uint64_t word)
{
    uint32_t crc = 0;
    for (unsigned i = 0; i < 8; ++i)
        crc ^= tables[7 - i][word >> (8 * i) & 0xffu];
    return crc;
}

uint32_t ctki_crc32c_portable (uint32_t crc, const void *data, size_t size)
{
    const uint8_t *p = data;
    crc = ~crc;
    for (; size >= 8; size -= 8, p += 8)
        crc = eight_bytes (load64 (p) ^ crc);
    for (; size > 0; --size, ++p)
        crc = crc >> 8 ^ tables[0][(crc ^ *p) & 0xffu];
    return ~crc;
}

/* ---- joining, the portable way */

/* x^(2^k) */
static const uint32_t powers[POWERS] = {
    0x40000000u, 0x20000000u, 0x08000000u, 0x00800000u, 0x00008000u, 0x82f63b78u, 0x6ea2d55cu, 0x18b8ea18u,
    0x510ac59au, 0xb82be955u, 0xb8fdb1e7u, 0x88e56f72u, 0x74c360a4u, 0xe4172b16u, 0x0d65762au, 0x35d73a62u,
    0x28461564u, 0xbf455269u, 0xe2ea32dcu, 0xfe7740e6u, 0xf946610bu, 0x3c204f8fu, 0x538586e3u, 0x59726915u,
    0x734d5309u, 0xbc1ac763u, 0x7d0722ccu, 0xd289cabeu, 0xe94ca9bcu, 0x05b74f3fu, 0xa51e1f42u};

static uint32_t multiply (uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (uint32_t bit = ONE; bit != 0; bit >>= 1) {
        product ^= (a & bit) != 0 ? b : 0;
        b = b >> 1 ^ ((b & 1u) != 0 ? POLYNOMIAL : 0);
    }
    return product;
}

/* crc * x^(8 * size) */
static uint32_t shift_portable (uint32_t crc, size_t size)
{
    for (unsigned k = BYTE_POWER; size != 0; size >>= 1, k = (k + 1) % POWERS)
        if (size & 1u)
            crc = multiply (crc, powers[k]);
    return crc;
}

uint32_t ctki_crc32c_combine_portable (uint32_t crc_a, uint32_t crc_b, size_t size_b)
{
    return shift_portable (crc_a, size_b) ^ crc_b;
}

/* ---- x86: the instructions crc32 (SSE 4.2) and pclmulqdq, on all since 2010 */

#if defined(__x86_64__)

#define TARGET __attribute__ ((target ("sse4.2,pclmul")))

/* x^(2^k - 33): a carry-less product with one of these, fed to the crc32
 * instruction (which multiplies by x^32, and the product is one bit short of
 * its 64), is a product with x^(2^k). */
static const uint32_t powers_33[POWERS] = {
    0xd610d67eu, 0x6b086b3fu, 0xd94f3c0bu, 0xbf818109u, 0x780d5a4du, 0x05ec76f1u, 0x00000001u, 0x493c7d27u,
    0xba4fc28eu, 0x9e4addf8u, 0x0d3b6092u, 0xb9e02b86u, 0xdd7e3b0cu, 0x170076fau, 0xa51b6135u, 0x82f89c77u,
    0x54a86326u, 0x1dc403ccu, 0x5ae703abu, 0xc5013a36u, 0xac2ac6ddu, 0x9b4615a9u, 0x688d1c61u, 0xf6af14e6u,
    0xb6ffe386u, 0xb717425bu, 0x478b0d30u, 0x54cc62e5u, 0x7b2102eeu, 0x8a99adefu, 0xa7568c8fu};

TARGET static inline uint64_t times (uint64_t crc, unsigned power)
{
    __m128i product =
        _mm_clmulepi64_si128 (_mm_cvtsi64_si128 ((long long) crc), _mm_cvtsi32_si128 ((int) powers_33[power]), 0);
    return (uint64_t) _mm_cvtsi128_si64 (product);
}

TARGET static uint32_t shift_x86 (uint32_t crc, size_t size)
{
    for (unsigned k = BYTE_POWER; size != 0; size >>= 1, k = (k + 1) % POWERS)
        if (size & 1u)
            crc = (uint32_t) _mm_crc32_u64 (0, times (crc, k));
    return crc;
}

/* Three stretches of 2^power bytes each, side by side, then joined. */
TARGET static inline uint64_t three_stretches (uint64_t crc, const uint8_t *p, unsigned power)
{
    size_t size = (size_t) 1 << power;
    uint64_t b = 0, c = 0;
    for (const uint8_t *stop = p + size; p < stop; p += 8) {
        crc = _mm_crc32_u64 (crc, load64 (p));
        b = _mm_crc32_u64 (b, load64 (p + size));
        c = _mm_crc32_u64 (c, load64 (p + 2 * size));
    }
    uint64_t joined = times (crc, power + BYTE_POWER + 1) ^ times (b, power + BYTE_POWER);
    return c ^ _mm_crc32_u64 (0, joined);
}

TARGET static uint32_t crc32c_x86 (uint32_t crc32, const void *data, size_t size)
{
    const uint8_t *p = data;
    uint64_t crc = ~crc32;
    for (; size >= (size_t) 3 * LONG_BYTES; size -= (size_t) 3 * LONG_BYTES, p += 3 * LONG_BYTES)
        crc = three_stretches (crc, p, LONG_POWER);
    for (; size >= (size_t) 3 * SHORT_BYTES; size -= (size_t) 3 * SHORT_BYTES, p += 3 * SHORT_BYTES)
        crc = three_stretches (crc, p, SHORT_POWER);
    for (; size >= 8; size -= 8, p += 8)
        crc = _mm_crc32_u64 (crc, load64 (p));
    crc32 = (uint32_t) crc;
    for (; size > 0; --size, ++p)
        crc32 = _mm_crc32_u8 (crc32, *p);
    return ~crc32;
}

/* ---- ARM: one stretch at a time, where the compiler was told that it may */

#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)

static uint32_t crc32c_arm (uint32_t crc, const void *data, size_t size)
{
    const uint8_t *p = data;
    crc = ~crc;
    for (; size >= 8; size -= 8, p += 8)
        crc = __crc32cd (crc, load64 (p));
    for (; size > 0; --size, ++p)
        crc = __crc32cb (crc, *p);
    return ~crc;
}

#endif

/* ---- the choice */

typedef struct {
    uint32_t (*crc) (uint32_t crc, const void *data, size_t size);
    uint32_t (*shift) (uint32_t crc, size_t size);
} way_t;

static const way_t *choose (void)
{
#if defined(__x86_64__)
    static const way_t x86 = {crc32c_x86, shift_x86};
    if (__builtin_cpu_supports ("sse4.2") && __builtin_cpu_supports ("pclmul"))
        return &x86;
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
    static const way_t arm = {crc32c_arm, shift_portable};
    return &arm;
#endif
    static const way_t portable = {ctki_crc32c_portable, shift_portable};
    return &portable;
}

static const way_t *way (void)
{
    static _Atomic (const way_t *) chosen; /* what it points to is constant: relaxed is enough */
    const way_t *it = atomic_load_explicit (&chosen, memory_order_relaxed);
    if (CTKI_UNLIKELY (it == NULL)) {
        it = choose ();
        atomic_store_explicit (&chosen, it, memory_order_relaxed);
    }
    return it;
}

uint32_t ctki_crc32c (uint32_t crc, const void *data, size_t size)
{
    return way ()->crc (crc, data, size);
}

uint32_t ctki_crc32c_combine (uint32_t crc_a, uint32_t crc_b, size_t size_b)
{
    return way ()->shift (crc_a, size_b) ^ crc_b;
}
