/* Items of the warm tier that were taken out of the tree, and putting them back. Mover thread,
 * within its write transaction. For warm_repack.c. */
#ifndef TIERS_WARM_PARCEL_H
#define TIERS_WARM_PARCEL_H

#include "warm_private.h"

/* LMDB's own, of one entry of a leaf page. */
#define WARM_LEAF_ENTRY_BYTES 10
/* In its place when the data lies on pages of its own. */
#define WARM_PAGE_NUMBER_BYTES 8

/* Zeroed: empty. Items back to back: u32 data bytes, u16 key bytes, key, data. */
struct warm_parcel {
    unsigned char *bytes;
    size_t used;
    size_t size;
};

void warm_parcel_free(struct warm_parcel *parcel);

/* Adds the key. Where the data goes, or NULL: out of memory. */
unsigned char *warm_parcel_add(struct warm_parcel *parcel, const MDB_val *key, size_t data_bytes);

/* The item at `at`, which lies there as long as nothing is added. Returns where the next one is. */
size_t warm_parcel_item(const struct warm_parcel *parcel, size_t at, MDB_val *ret_key,
                        MDB_val *ret_data);

/* Puts the items, which are in key order and not in the tree, so that pages are full. Nothing was
 * left of them up to `last_key`, but for values on pages of their own. */
int warm_parcel_put(struct warm_write *write, MDB_cursor *cursor, const struct warm_parcel *parcel,
                    const MDB_val *last_key);

#endif
