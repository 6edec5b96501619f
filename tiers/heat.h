/* Heat: how often a key was accessed lately, for every key of the store, in constant memory.
 *
 * A count-min sketch (Cormode, Muthukrishnan 2005) of 4-bit-saturating counters with conservative
 * update, all halved after a fixed number of increments (the aging of TinyLFU, Einziger et al.
 * 2017), so that an old hit fades. Never an under-estimate between two halvings. Relaxed atomics:
 * any thread may call any function; a lost increment is harmless.
 */
#ifndef TIERS_HEAT_H
#define TIERS_HEAT_H

#include <stddef.h>
#include <stdint.h>

#define HEAT_MAX 15

struct heat;

/* `counters` is rounded up to a power of two; a byte holds two. NULL: out of memory. */
struct heat *heat_new(size_t counters);
void heat_free(struct heat *heat);

/* Counts one access and returns the estimate after it, 1 to HEAT_MAX. */
unsigned heat_touch(struct heat *heat, uint64_t key_hash);

/* The estimate, 0 to HEAT_MAX. */
unsigned heat_estimate(const struct heat *heat, uint64_t key_hash);

size_t heat_bytes(const struct heat *heat);

#endif
