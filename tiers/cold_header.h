/* Name and header block of a cold segment file: pure, no I/O.
 *
 * A segment file begins with a block of COLD_BLOCK_BYTES, integers little-endian:
 *
 *   offset  bytes
 *        0      8  magic, "TKVcold" and a zero
 *        8      4  format version, COLD_SEGMENT_FORMAT
 *       12      4  0
 *       16      8  segment id
 *       24      8  XXH3-64 of the 24 bytes before
 *       32      4  size of the dictionary; 0: none
 *       36      4  0
 *       40      8  XXH3-64 of the dictionary; 0: none
 *       48      8  XXH3-64 of the 16 bytes before
 *       56         zeros
 *
 * Format 1 has zeros from 32 on. The dictionary, if there is one, follows in blocks of its own, the
 * last one filled up with zeros. Records follow back to back (cold_record.h), each at a multiple of
 * COLD_RECORD_ALIGN. Where a sync ended within a block the rest of the block is zeros, and the next
 * record begins with the next block; so the size of a segment is a multiple of COLD_BLOCK_BYTES.
 */
#ifndef TIERS_COLD_HEADER_H
#define TIERS_COLD_HEADER_H

#include <stdbool.h>
#include <stdint.h>

#define COLD_BLOCK_BYTES    4096u
#define COLD_SEGMENT_FORMAT 2
#define COLD_NAME_BYTES     24 /* Room for a segment's file name, terminator included */

/* The file name of segment `id`: 16 hex digits and ".seg". */
void cold_name_print(uint64_t id, char name[COLD_NAME_BYTES]);
/* False: not the name of a segment file. */
bool cold_name_parse(const char *name, uint64_t *ret_id);

/* What a header says of the dictionary. */
struct cold_header {
    uint32_t dictionary_bytes; /* At most COLD_DICTIONARY_BYTES_MAX; 0: none */
    uint64_t dictionary_checksum;
};

/* The header of segment `id`. `block` has COLD_BLOCK_BYTES. */
void cold_header_write(uint64_t id, const struct cold_header *header, unsigned char *block);
/* 0; TIERS_VERSION: intact, but of an unknown format version; TIERS_CORRUPT. */
int cold_header_read(uint64_t id, const unsigned char *block, struct cold_header *ret_header);
uint32_t cold_header_version(const unsigned char *block);

static inline uint64_t cold_align_down(uint64_t offset)
{
    return offset / COLD_BLOCK_BYTES * COLD_BLOCK_BYTES;
}

static inline uint64_t cold_align_up(uint64_t offset)
{
    return cold_align_down(offset + COLD_BLOCK_BYTES - 1);
}

#endif
