/* Which keys the active generation of the write-back buffer has, by their hashes: from key to the
 * number of its record.
 *
 * An open-addressed table from which nothing is removed. It doubles when three quarters are used,
 * but no insertion pays for that at once: the old table stays beside the new one, and each
 * insertion copies a few of its places. The applier's thread. Fails only for want of memory.
 */
#ifndef TIERS_DIRTY_MAP_H
#define TIERS_DIRTY_MAP_H

#include "tiers/tiers.h"

/* Half of the hash lies beside the number so that other keys' records are seldom touched. */
struct dirty_place {
    uint32_t tag;
    uint32_t number_plus_1; /* 0: free */
};

/* All zero: empty, and without memory. */
struct dirty_map {
    struct dirty_place *places;
    size_t n_places; /* Power of two or 0 */
    size_t used;
    struct dirty_place
        *old; /* NULL unless growing; its entries are in `places`, too, once copied */
    size_t n_old;
    size_t old_next; /* Old places below this one have been copied */
};

void dirty_map_free(struct dirty_map *map);

/* Room for one more. 0, or TIERS_NO_MEMORY with nothing changed. */
int dirty_map_reserve(struct dirty_map *map);

/* After dirty_map_reserve: remembers a number that is not inside, below UINT32_MAX. */
void dirty_map_insert(struct dirty_map *map, uint64_t hash, uint32_t number);

/* The number of the record that has the same key, of those inside; `records` has them all by
 * number. False: there is none. */
bool dirty_map_find(const struct dirty_map *map, uint64_t hash, const struct tiers_record *record,
                    const struct tiers_record *const *records, uint32_t *ret_number);

/* Memory of the tables. */
size_t dirty_map_bytes(const struct dirty_map *map);

#endif
