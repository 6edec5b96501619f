/* The bytes under a key in the warm index: a pure codec.
 *
 * An item, format 2 (integers little-endian; "varint" is unsigned LEB128, shortest form only):
 *   u8 format and kind: 0x20 inline, 0x21 cold   u32 check   u64 digest
 *   varint value_len, mod_revision, mod_revision - create_revision, version, flags, expires_ms
 *   inline: the value        cold: varint segment, offset, bytes of the record
 * The check is the low half of the XXH3-64 of all that follows it but the inline value, seeded with
 * that of the key and the first byte: what the digest cannot protect, since it needs the value.
 * Format 1 (0x10, 0x11) had no check and is still read.
 *
 * Every key of the store has such an item, cold ones too: a typical one is 24 bytes beside its
 * value, 32 when cold. Nothing may follow. The decoder trusts nothing.
 */
#ifndef TIERS_WARM_ITEM_H
#define TIERS_WARM_ITEM_H

#include "warm.h"

#include <lmdb.h>

/* No item takes more bytes than this beside its inline value. */
#define WARM_ITEM_OVERHEAD_BYTES_MAX (13 + 9 * 10)

/* Bytes that encode will write. The item's metadata must be valid: create_revision not above
 * mod_revision, version at least 1, value_len at most TIERS_VALUE_BYTES_MAX. */
size_t warm_item_size(const struct warm_item *item);

/* Writes exactly warm_item_size bytes. */
void warm_item_encode(const struct warm_item *item, const MDB_val *key, void *ret_bytes);

/* 0 or TIERS_CORRUPT. An inline value points into the data. */
int warm_item_decode(const MDB_val *key, const MDB_val *data, struct warm_item *ret_item);

/* By the first byte alone: whether it may be a cold one. */
bool warm_item_may_be_cold(const MDB_val *data);

#endif
