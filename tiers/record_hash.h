/* record_key_hash, as part of the caller's code. */
#ifndef TIERS_RECORD_HASH_H
#define TIERS_RECORD_HASH_H

#include "tiers/tiers.h"

/* Keys are short: inlining the hash halves its cost. */
#define XXH_INLINE_ALL
#include <xxhash.h>

_Static_assert(TIERS_SPACE_USER == 0, "what is hashed without a seed has seed 0");

/* Most are asked for with a seed that the compiler knows, and have no work with it then. */
static inline uint64_t record_key_hash_inline(enum tiers_space space, const void *key,
                                              size_t key_len)
{
    return space == TIERS_SPACE_USER ? XXH3_64bits(key, key_len)
                                     : XXH3_64bits_withSeed(key, key_len, (XXH64_hash_t)space);
}

#endif
