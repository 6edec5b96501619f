/* Name and header block of a cold segment file: see cold_header.h. */
#include "cold_header.h"

#include "cold_dictionary.h"
#include "little_endian.h"
#include "tiers/tiers.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define VERSION_OFFSET          8
#define ID_OFFSET               16
#define CHECKSUM_OFFSET         24
#define DICTIONARY_OFFSET       32
#define DICTIONARY_FIELDS_BYTES 16
#define FORMAT_PLAIN            1

static const unsigned char magic[8] = "TKVcold";

void cold_name_print(uint64_t id, char name[COLD_NAME_BYTES])
{
    snprintf(name, COLD_NAME_BYTES, "%016" PRIx64 ".seg", id);
}

bool cold_name_parse(const char *name, uint64_t *ret_id)
{
    if (strspn(name, "0123456789abcdef") != 16 || strcmp(name + 16, ".seg") != 0)
        return false;
    *ret_id = strtoull(name, NULL, 16);
    return true;
}

void cold_header_write(uint64_t id, const struct cold_header *header, unsigned char *block)
{
    memset(block, 0, COLD_BLOCK_BYTES);
    memcpy(block, magic, sizeof magic);
    little_endian_put(block + VERSION_OFFSET, COLD_SEGMENT_FORMAT, 4);
    little_endian_put(block + ID_OFFSET, id, 8);
    little_endian_put(block + CHECKSUM_OFFSET, XXH3_64bits(block, CHECKSUM_OFFSET), 8);

    unsigned char *fields = block + DICTIONARY_OFFSET;
    little_endian_put(fields, header->dictionary_bytes, 4);
    little_endian_put(fields + 8, header->dictionary_checksum, 8);
    little_endian_put(fields + DICTIONARY_FIELDS_BYTES,
                      XXH3_64bits(fields, DICTIONARY_FIELDS_BYTES), 8);
}

uint32_t cold_header_version(const unsigned char *block)
{
    return (uint32_t)little_endian_get(block + VERSION_OFFSET, 4);
}

int cold_header_read(uint64_t id, const unsigned char *block, struct cold_header *ret_header)
{
    if (memcmp(block, magic, sizeof magic) != 0)
        return TIERS_CORRUPT;
    if (little_endian_get(block + CHECKSUM_OFFSET, 8) != XXH3_64bits(block, CHECKSUM_OFFSET))
        return TIERS_CORRUPT;
    uint32_t version = cold_header_version(block);
    if (version != COLD_SEGMENT_FORMAT && version != FORMAT_PLAIN)
        return TIERS_VERSION;
    if (little_endian_get(block + ID_OFFSET, 8) != id)
        return TIERS_CORRUPT;

    struct cold_header header = {0};
    const unsigned char *fields = block + DICTIONARY_OFFSET;
    if (version != FORMAT_PLAIN) {
        header.dictionary_bytes = (uint32_t)little_endian_get(fields, 4);
        header.dictionary_checksum = little_endian_get(fields + 8, 8);
        if (little_endian_get(fields + DICTIONARY_FIELDS_BYTES, 8) !=
                XXH3_64bits(fields, DICTIONARY_FIELDS_BYTES) ||
            header.dictionary_bytes > COLD_DICTIONARY_BYTES_MAX)
            return TIERS_CORRUPT;
    }
    *ret_header = header;
    return 0;
}
