/* The rows of the warm tier that are not items: position, next segment id, segments. Pure codecs.
 *
 * Each is a few little-endian u64 and then a check: XXH3-64 of those, seeded with the XXH3-64 of
 * the row's key. Rows of format 1 had no check, and are still read.
 */
#ifndef TIERS_WARM_ROW_H
#define TIERS_WARM_ROW_H

#include "tiers/tiers.h"

#include <lmdb.h>

/* Keys of the meta database. */
#define WARM_META_FORMAT       "format"
#define WARM_META_POSITION     "position"
#define WARM_META_NEXT_SEGMENT "next_segment"

#define WARM_POSITION_ROW_BYTES     32
#define WARM_NEXT_SEGMENT_ROW_BYTES 16
#define WARM_SEGMENT_ROW_BYTES      32

/* A row of the segments database. Its key is the id as a big-endian u64, so that rows lie in the
 * order of ids. */
#define WARM_SEGMENT_KEY_BYTES 8
struct warm_segment_row {
    uint64_t bytes;
    uint64_t live_bytes;
    uint64_t live_records;
};

MDB_val warm_val(const void *bytes, size_t n);

void warm_segment_key(uint64_t id, unsigned char ret_key[WARM_SEGMENT_KEY_BYTES]);
uint64_t warm_segment_id(const MDB_val *key);

/* Encoding takes the row's key where it is not a constant; decoding gives 0 or TIERS_CORRUPT. */
void warm_segment_row_encode(const struct warm_segment_row *row,
                             const unsigned char key[WARM_SEGMENT_KEY_BYTES],
                             unsigned char ret_bytes[WARM_SEGMENT_ROW_BYTES]);
int warm_segment_row_decode(const MDB_val *key, const MDB_val *data,
                            struct warm_segment_row *ret_row);
void warm_position_encode(const struct tiers_position *position,
                          unsigned char ret_bytes[WARM_POSITION_ROW_BYTES]);
int warm_position_decode(const MDB_val *data, struct tiers_position *ret_position);
void warm_next_segment_encode(uint64_t id, unsigned char ret_bytes[WARM_NEXT_SEGMENT_ROW_BYTES]);
int warm_next_segment_decode(const MDB_val *data, uint64_t *ret_id);

#endif
