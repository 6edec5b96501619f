/* Integers of up to 8 bytes in the byte order of our file formats. */
#ifndef TIERS_LITTLE_ENDIAN_H
#define TIERS_LITTLE_ENDIAN_H

#include <stdint.h>

static inline void little_endian_put(unsigned char *to, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        to[i] = (unsigned char)(value >> (8 * i));
}

static inline uint64_t little_endian_get(const unsigned char *from, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)from[i] << (8 * i);
    return value;
}

#endif
