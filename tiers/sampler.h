/* Which accesses are looked at more closely, and their way from the threads that make them to the
 * one that looks.
 *
 * Keys are sampled, not accesses: all accesses of the keys whose hash is below a threshold
 * (Waldspurger, Park, Garthwaite, Ahmad, "Efficient MRC Construction with SHARDS", FAST 2015).
 * For all others the price is one load and one comparison. Samples go through one bounded ring that
 * no thread ever waits at: when it is full they are dropped and counted.
 */
#ifndef TIERS_SAMPLER_H
#define TIERS_SAMPLER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SAMPLER_EXCLUDED_MAX 8
#define SAMPLER_SLOTS        4096u
/* Threshold of a sampler that takes everything, or almost: the largest hash is left out. */
#define SAMPLER_ALL UINT64_MAX

enum sample_kind {
    SAMPLE_READ,
    SAMPLE_READ_SELDOM, /* Read so seldom lately that it is admitted only while there is room */
    SAMPLE_WRITE,
    SAMPLE_WRITE_SELDOM, /* Of a key as seldom read: if new, it stays only while there is room */
    SAMPLE_DELETE,
};

struct sample {
    uint64_t key_hash;
    uint32_t size; /* Bytes that the key takes in the hot tier */
    uint8_t kind;  /* enum sample_kind */
};

struct sampler_slot {
    _Atomic uint64_t turn;
    struct sample sample;
};

struct sampler {
    _Alignas(128) _Atomic uint64_t threshold; /* Read at each access, seldom written */
    _Atomic uint64_t excluded[SAMPLER_EXCLUDED_MAX];
    _Alignas(128) _Atomic uint64_t tail; /* Next turn to write */
    _Alignas(128) _Atomic uint64_t dropped;
    _Alignas(128) uint64_t head; /* Next turn to read; the reader's */
    struct sampler_slot slots[SAMPLER_SLOTS];
};

/* NULL: out of memory. Takes nothing at first. */
struct sampler *sampler_new(void);
/* NULL is allowed. */
void sampler_free(struct sampler *sampler);

/* Any thread. Whether accesses of the key are sampled. */
static inline bool sampler_wants(const struct sampler *sampler, uint64_t key_hash)
{
    return __builtin_expect(
        key_hash < atomic_load_explicit(&sampler->threshold, memory_order_relaxed), 0);
}

/* Any thread; for a key that sampler_wants. Never blocks. */
void sampler_push(struct sampler *sampler, uint64_t key_hash, uint32_t size, enum sample_kind kind);

/* One thread. Takes up to `n_max` samples, oldest first. */
size_t sampler_pop(struct sampler *sampler, struct sample *ret_samples, size_t n_max);

/* The same thread. Keys so hot that looking at each access costs more than it tells are named here:
 * their accesses are left out from now on. */
void sampler_exclude(struct sampler *sampler, const uint64_t *key_hashes, size_t n);
void sampler_threshold_set(struct sampler *sampler, uint64_t threshold);

/* Samples lost so far because the ring was full. */
uint64_t sampler_dropped(const struct sampler *sampler);

#endif
