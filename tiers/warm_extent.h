/* How many keys one write transaction of the warm tier may change.
 *
 * LMDB keeps each page that a transaction changes in memory until the commit, and that memory until
 * it is closed. Pure.
 */
#ifndef TIERS_WARM_EXTENT_H
#define TIERS_WARM_EXTENT_H

#include <stddef.h>
#include <stdint.h>

/* Pages of the index that a transaction may change on the average, and so keys that are scattered
 * over any index. */
#define WARM_WRITE_KEYS_MAX 4096
/* And over a small one, whose pages many keys share. */
#define WARM_WRITE_KEYS_MAX_SMALL_INDEX (1u << 18)

/* For an index of so many branches and leaves and so many keys: between the two. */
size_t warm_extent_keys_max(uint64_t index_pages, uint64_t keys);

#endif
