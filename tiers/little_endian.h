/* Integers of up to 8 bytes in the byte order of our file formats. */
#ifndef TIERS_LITTLE_ENDIAN_H
#define TIERS_LITTLE_ENDIAN_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

/* With a constant number of bytes either is one instruction. */
static inline void little_endian_put(unsigned char *to, uint64_t value, size_t bytes)
{
    uint64_t stored = htole64(value);
    memcpy(to, &stored, bytes);
}

static inline uint64_t little_endian_get(const unsigned char *from, size_t bytes)
{
    uint64_t stored = 0;
    memcpy(&stored, from, bytes);
    return le64toh(stored);
}

#endif
