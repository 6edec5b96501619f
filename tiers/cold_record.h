/* The codec of cold records: pure, no I/O. One codec belongs to one thread.
 *
 * A record, all integers little-endian:
 *
 *   offset  bytes
 *        0      4  magic, "TKVr"
 *        4      1  format, COLD_RECORD_FORMAT, or 1: without flag 2
 *        5      1  flags: 1 = the stored bytes are a zstd frame; 2 = made with a dictionary; other
 *                  bits 0
 *        6      1  space (enum tiers_space)
 *        7      1  0
 *        8      2  key_len, 1 to TIERS_KEY_BYTES_MAX
 *       10      2  0
 *       12      4  value_len, 0 to TIERS_VALUE_BYTES_MAX
 *       16      4  stored_len: value_len, or less if compressed
 *       20      4  id of the dictionary, or 0
 *       24     40  create_revision, mod_revision, version, flags, expires_ms
 *       64      8  checksum
 *       72         key, stored bytes, zeros up to a multiple of 8
 *
 * The checksum is XXH3-64 of everything after it, seeded with the XXH3-64 of the 64 bytes before
 * it: no bit of a record is without cover.
 */
#ifndef TIERS_COLD_RECORD_H
#define TIERS_COLD_RECORD_H

#include "cold.h"
#include "cold_dictionary.h"
#include "tiers/tiers.h"

#define COLD_RECORD_MAGIC        0x72564b54u
#define COLD_RECORD_FORMAT       2
#define COLD_RECORD_HEADER_BYTES 72
#define COLD_RECORD_ALIGN        8

#define COLD_RECORD_BYTES_MAX                                                                      \
    (((uint64_t)COLD_RECORD_HEADER_BYTES + TIERS_KEY_BYTES_MAX + TIERS_VALUE_BYTES_MAX +           \
      COLD_RECORD_ALIGN - 1) /                                                                     \
     COLD_RECORD_ALIGN * COLD_RECORD_ALIGN)

struct cold_codec;

/* NULL: out of memory. */
struct cold_codec *cold_codec_new(void);
void cold_codec_free(struct cold_codec *codec);

/* What a record of these lengths takes at most (as it does uncompressed). */
size_t cold_record_bytes_max(size_t key_len, size_t value_len);

/* Writes the record of `item` (its location is not looked at; key and value within their limits) to
 * `bytes`, which has room for cold_record_bytes_max, and returns its size, a multiple of
 * COLD_RECORD_ALIGN. The value is compressed if that saves an eighth or so, a short one with
 * `dictionary` (NULL: none). While values prove incompressible only some are tried. Cannot fail. */
size_t cold_record_encode(struct cold_codec *codec, const struct cold_item *item,
                          const struct cold_dictionary *dictionary, unsigned char *bytes);

/* The size of the record that begins with these COLD_RECORD_HEADER_BYTES bytes, checked only for
 * being possible: a multiple of COLD_RECORD_ALIGN and at most COLD_RECORD_BYTES_MAX. 0 or
 * TIERS_CORRUPT. */
int cold_record_size(const unsigned char *bytes, size_t *ret_bytes);

/* The id of the dictionary that the record that begins with these COLD_RECORD_HEADER_BYTES bytes
 * needs, as far as they can be believed; 0: none. */
uint32_t cold_record_dictionary(const unsigned char *bytes);

/* What a record, of which cold_record_size has found the header possible, says of itself: all but
 * the value, which is NULL, and the location. Nothing of it is verified. `ret_item` points into
 * `bytes`. */
void cold_record_peek(const unsigned char *bytes, struct cold_item *ret_item);

/* Reads the record of exactly `n_bytes`, which may be anything. `dictionary` is what it says it
 * needs; NULL or another one is TIERS_CORRUPT if it needs one. `ret_item` points into `bytes` or
 * into the codec, until either changes; its location is left alone. 0, TIERS_CORRUPT,
 * TIERS_NO_MEMORY. */
int cold_record_decode(struct cold_codec *codec, const unsigned char *bytes, size_t n_bytes,
                       const struct cold_dictionary *dictionary, struct cold_item *ret_item);

#endif
