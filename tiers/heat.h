/* Heat: how often a key was accessed lately, for every key of the store, in constant memory.
 *
 * A count-min sketch (Cormode, Muthukrishnan 2005) of 4-bit saturating counters with conservative
 * update. Each counter is halved once in ten accesses per counter of the sketch (the aging of
 * TinyLFU, Einziger et al. 2017), so that an old hit fades; the halvings are spread evenly over the
 * accesses, none pays for all. heat_age halves what time alone asks for, so that a load that was
 * idle before it shifted is followed as soon as a busy one. Up to HEAT_MAX never an under-estimate
 * between two halvings, unless threads race for a counter: any thread may call any function, and a
 * lost increment is harmless.
 */
#ifndef TIERS_HEAT_H
#define TIERS_HEAT_H

#include <stddef.h>
#include <stdint.h>

#define HEAT_MAX 15

struct heat;

/* `counters` is rounded up to a power of two, at least 128; a byte holds two. NULL: out of memory.
 */
struct heat *heat_new(size_t counters);
void heat_free(struct heat *heat);

/* Counts one access and returns the estimate after it, 1 to HEAT_MAX. */
unsigned heat_touch(struct heat *heat, uint64_t key_hash);

/* Brings what an estimate reads into the processor's cache. */
void heat_prefetch(const struct heat *heat, uint64_t key_hash);

/* The estimate, 0 to HEAT_MAX. */
unsigned heat_estimate(const struct heat *heat, uint64_t key_hash);

#define HEAT_HALF_LIFE_MS 30000

/* `elapsed_ms` have passed since the last call: what accesses did not halve in that time, so that
 * each counter is halved about once in HEAT_HALF_LIFE_MS at least. One thread at a time. */
void heat_age(struct heat *heat, uint64_t elapsed_ms);

size_t heat_bytes(const struct heat *heat);

/* The counters as words, for a sketch of the same size elsewhere. heat_save copies `n` words from
 * number `first` on; heat_load puts them there. Accesses meanwhile do no harm. */
size_t heat_words(const struct heat *heat);
void heat_save(const struct heat *heat, size_t first, uint64_t *ret_words, size_t n);
void heat_load(struct heat *heat, size_t first, const uint64_t *words, size_t n);

#endif
