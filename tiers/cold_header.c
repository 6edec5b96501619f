/* Name and header block of a cold segment file: see cold_header.h. */
#include "cold_header.h"

#include "little_endian.h"
#include "tiers/tiers.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define VERSION_OFFSET  8
#define ID_OFFSET       16
#define CHECKSUM_OFFSET 24

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

void cold_header_write(uint64_t id, unsigned char *block)
{
    memset(block, 0, COLD_BLOCK_BYTES);
    memcpy(block, magic, sizeof magic);
    little_endian_put(block + VERSION_OFFSET, COLD_SEGMENT_FORMAT, 4);
    little_endian_put(block + ID_OFFSET, id, 8);
    little_endian_put(block + CHECKSUM_OFFSET, XXH3_64bits(block, CHECKSUM_OFFSET), 8);
}

uint32_t cold_header_version(const unsigned char *block)
{
    return (uint32_t)little_endian_get(block + VERSION_OFFSET, 4);
}

int cold_header_check(uint64_t id, const unsigned char *block)
{
    if (memcmp(block, magic, sizeof magic) != 0)
        return TIERS_CORRUPT;
    if (little_endian_get(block + CHECKSUM_OFFSET, 8) != XXH3_64bits(block, CHECKSUM_OFFSET))
        return TIERS_CORRUPT;
    if (cold_header_version(block) != COLD_SEGMENT_FORMAT)
        return TIERS_VERSION;
    return little_endian_get(block + ID_OFFSET, 8) == id ? 0 : TIERS_CORRUPT;
}
