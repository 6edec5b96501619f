/* A shadow: which keys a cache with this policy and capacity would hold, without their values.
 *
 * It is told every access and says whether that would have been a hit. Several of them over the
 * same accesses compare policies and capacities while the real cache serves; over a sample of the
 * keys (all accesses of those whose hash is below a threshold) at a capacity scaled down likewise
 * each still predicts the whole (Waldspurger, Saemundsson, Ahmad, Park, "Cache Modeling and
 * Optimization using Miniature Simulations", USENIX ATC 2017). It takes about 50 bytes for each
 * key held, beside the ghost lists of the policy. Pure; one thread at a time.
 */
#ifndef TIERS_POLICY_SHADOW_H
#define TIERS_POLICY_SHADOW_H

#include "tiers/policy.h"

#include <stdbool.h>
#include <stdint.h>

struct shadow;

/* NULL: out of memory. `type` must outlive the shadow; sizes are in the unit of the capacity. */
struct shadow *shadow_new(const struct policy_type *type, uint64_t capacity);
/* NULL is allowed. */
void shadow_free(struct shadow *shadow);

/* A read or a write of the key: whether the cache would have held it. It does afterwards, unless
 * the policy does not admit the size or memory ran out. The key is known by its hash alone, which
 * must be well mixed; one with another size than before enters anew. A size of 0 counts as 1. */
bool shadow_access(struct shadow *shadow, uint64_t key_hash, uint32_t size);

/* The key was deleted. */
void shadow_remove(struct shadow *shadow, uint64_t key_hash);

/* Forgets the keys whose hash is not below the bound, as if they were deleted. */
void shadow_keep_below(struct shadow *shadow, uint64_t key_hash_bound);

/* Evicts at once what does not fit any more. */
void shadow_resize(struct shadow *shadow, uint64_t capacity);

/* From now on `evicted` is called, within shadow_access and shadow_resize, for each key that the
 * policy lets go; NULL: no more. It must not call the shadow. */
void shadow_watch(struct shadow *shadow, void (*evicted)(void *context, uint64_t key_hash),
                  void *context);

/* Whether it holds the key; no access. */
bool shadow_holds(const struct shadow *shadow, uint64_t key_hash);

/* Whether an entry of this size would be held at all. */
bool shadow_admits(const struct shadow *shadow, uint32_t size);

/* What is held: the sum of the sizes, and how many keys. */
uint64_t shadow_used(const struct shadow *shadow);
uint64_t shadow_entries(const struct shadow *shadow);

#endif
