/* A ghost list: the keys of entries that left a cache, oldest first, without their values.
 *
 * Bounded by the sum of the sizes the entries had; the oldest keys fall out. A hash table with
 * chains through one growing array of slots, so that a ghost costs 28 bytes. Pure; the caller's
 * thread. When memory runs out a ghost is simply not remembered.
 */
#ifndef TIERS_POLICY_GHOST_H
#define TIERS_POLICY_GHOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ghost;

/* NULL: out of memory. */
struct ghost *ghost_new(uint64_t capacity);
void ghost_free(struct ghost *ghost);
void ghost_resize(struct ghost *ghost, uint64_t capacity);

/* Adds the key as the youngest and drops the oldest ones beyond the capacity. A key that is there
 * already keeps its place. */
void ghost_add(struct ghost *ghost, uint64_t key_hash, uint32_t size);
/* Forgets the key; whether it was there. */
bool ghost_remove(struct ghost *ghost, uint64_t key_hash);
/* Forgets the oldest key, if any. */
void ghost_drop_oldest(struct ghost *ghost);
uint64_t ghost_size(const struct ghost *ghost);
/* Memory that it takes. */
size_t ghost_bytes(const struct ghost *ghost);

#endif
