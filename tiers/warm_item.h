/* The bytes under a key in the warm index: a pure codec.
 *
 * An item, format 1 (digest little-endian; "varint" is unsigned LEB128, shortest form only):
 *   u8 format and kind: 0x10 inline, 0x11 cold   u64 digest
 *   varint value_len, mod_revision, mod_revision - create_revision, version, flags, expires_ms
 *   inline: the value        cold: varint segment, offset, bytes of the record
 * Every key of the store has such an item, cold ones too: a typical one is 20 bytes beside its
 * value, 28 when cold. Nothing may follow. The decoder trusts nothing.
 */
#ifndef TIERS_WARM_ITEM_H
#define TIERS_WARM_ITEM_H

#include "warm.h"

/* No item takes more bytes than this beside its inline value. */
#define WARM_ITEM_OVERHEAD_BYTES_MAX (9 + 9 * 10)

/* Bytes that encode will write. The item's metadata must be valid: create_revision not above
 * mod_revision, version at least 1, value_len at most TIERS_VALUE_BYTES_MAX. */
size_t warm_item_size(const struct warm_item *item);

/* Writes exactly warm_item_size bytes. */
void warm_item_encode(const struct warm_item *item, void *ret_bytes);

/* 0 or TIERS_CORRUPT. An inline value points into `bytes`. */
int warm_item_decode(const void *bytes, size_t n, struct warm_item *ret_item);

#endif
