/* The buckets of a hot table: how a key's is found, and what its slots hold. For hot_table.c, and
 * for the look-up, which is part of its callers' code.
 *
 * Of n buckets the first n - 2^k have been split in two, where 2^k is the largest power of two
 * below n: their keys take one bit more of the hash. Only hot_bucket_of and the split in
 * hot_table.c know that.
 *
 * A slot holds an entry's address in its lower 48 bits, which is all that user space has, and 16
 * bits of its hash above. An entry's address is a multiple of 8: the lowest bit of the last slot
 * tells that its entry has others chained behind it. */
#ifndef TIERS_HOT_BUCKET_H
#define TIERS_HOT_BUCKET_H

#include "hot_entry.h"

#include <stdatomic.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define HOT_BUCKET_SLOTS 8
#define HOT_BUCKET_LAST  (HOT_BUCKET_SLOTS - 1)

/* Of the smallest table. */
#define HOT_BUCKETS_MIN_LOG2 4
#define HOT_BUCKETS_MIN      ((size_t)1 << HOT_BUCKETS_MIN_LOG2)

/* Buckets lie in segments, PARTS to each doubling of MIN plus their number: the first ones hold
 * MIN / PARTS buckets. */
#define HOT_PARTS_LOG2 2
#define HOT_PARTS      (1u << HOT_PARTS_LOG2)

#define HOT_ADDRESS_BITS 48
#define HOT_CHAINED      ((uint64_t)1)

/* The bits of the hash in a tag. The lower ones tell how a bucket is split without a look at its
 * entries; what bits the bucket's number does not take tell keys of a bucket apart. */
#define HOT_TAG_SHIFT 8
#define HOT_TAG_BITS  16

/* An entry's address with its tag above it; 0: free. */
typedef _Atomic uint64_t hot_slot;

struct hot_bucket {
    hot_slot slots[HOT_BUCKET_SLOTS];
} __attribute__((aligned(64)));

static inline unsigned hot_log2(size_t n)
{
    return 63 - (unsigned)__builtin_clzll(n);
}

/* ---- Slots ---- */

static inline uint64_t hot_slot_get(const struct hot_bucket *bucket, unsigned i)
{
    return atomic_load_explicit(&bucket->slots[i], memory_order_relaxed);
}

static inline uint64_t hot_tag_of(uint64_t hash)
{
    return hash >> HOT_TAG_SHIFT << HOT_ADDRESS_BITS;
}

static inline struct hot_entry *hot_entry_at(uint64_t slot)
{
    uint64_t address = slot & (((uint64_t)1 << HOT_ADDRESS_BITS) - 1) & ~HOT_CHAINED;
    return (struct hot_entry *)(uintptr_t)address;
}

/* Which slots may hold the hash, a bit for each. Without branches: none of them could be predicted,
 * and the processor goes on with what follows while it still waits for the bucket. A free slot's
 * tag is 0 and may match. */
static inline unsigned hot_slots_matching(const struct hot_bucket *bucket, uint64_t hash)
{
    const uint64_t tag = hot_tag_of(hash);
    unsigned matching = 0;

#pragma GCC unroll 8
    for (unsigned i = 0; i < HOT_BUCKET_SLOTS; i++)
        matching |= (unsigned)((hot_slot_get(bucket, i) ^ tag) >> HOT_ADDRESS_BITS == 0) << i;
    return matching;
}

/* The same for whoever holds the owner's lock, in a quarter of the instructions where vectors of
 * eight tags can be compared at once. */
static inline unsigned hot_slots_matching_locked(const struct hot_bucket *bucket, uint64_t hash)
{
#ifdef __SSE2__
    const __m128 *slots = (const __m128 *)(const void *)bucket;
    __m128i tags[2];

    for (unsigned i = 0; i < 2; i++) {
        /* The upper halves of four slots, of those the upper halves with their signs. */
        __m128 upper = _mm_shuffle_ps(slots[2 * i], slots[2 * i + 1], _MM_SHUFFLE(3, 1, 3, 1));
        tags[i] = _mm_srai_epi32(_mm_castps_si128(upper), 16);
    }
    __m128i tag = _mm_set1_epi16((short)(hot_tag_of(hash) >> HOT_ADDRESS_BITS));
    __m128i same = _mm_cmpeq_epi16(_mm_packs_epi32(tags[0], tags[1]), tag);
    return (unsigned)_mm_movemask_epi8(_mm_packs_epi16(same, _mm_setzero_si128()));
#else
    return hot_slots_matching(bucket, hash);
#endif
}

/* ---- Buckets ---- */

/* Where a segment's first bucket would lie if the segment began with bucket -MIN of the table: so
 * that a bucket is found by one addition. */
typedef _Atomic uintptr_t hot_segment;

static inline struct hot_bucket *hot_bucket_at(const hot_segment *segments, size_t i)
{
    size_t number = i + HOT_BUCKETS_MIN;
    unsigned part_log2 = hot_log2(number) - HOT_PARTS_LOG2;
    /* Its uppermost bit is that of the number: PARTS too much. */
    size_t part = number >> part_log2;
    size_t segment = part_log2 * HOT_PARTS + part -
                     ((HOT_BUCKETS_MIN_LOG2 - HOT_PARTS_LOG2) * HOT_PARTS + HOT_PARTS);
    uintptr_t origin = atomic_load_explicit(&segments[segment], memory_order_relaxed);
    return (struct hot_bucket *)(origin + number * sizeof(struct hot_bucket));
}

/* The number of the bucket, of `n_buckets`, that keys of this hash are in. */
static inline size_t hot_bucket_of(size_t n_buckets, uint64_t hash)
{
    const size_t mask = SIZE_MAX >> __builtin_clzll(n_buckets - 1);
    const size_t i = hash & mask;
    /* No branch: it could not be predicted. */
    return __builtin_expect_with_probability(i < n_buckets, 1, 0.5) ? i : i & (mask >> 1);
}

#endif
