/* Asking the processor for memory that is needed soon. A hint: any address may be given, and a
 * wrong one costs nothing but the try. */
#ifndef TIERS_PREFETCH_H
#define TIERS_PREFETCH_H

#include <stddef.h>

#define PREFETCH_LINE_BYTES 64

/* The lines of `n` bytes that are to be read from front to back. Only the first 2 KiB: there the
 * processor has found out by itself what follows. */
static inline void prefetch_bytes(const void *bytes, size_t n)
{
    size_t end = n < 2048 ? n : 2048;
    for (size_t i = 0; i < end; i += PREFETCH_LINE_BYTES) {
        __builtin_prefetch((const char *)bytes + i);
    }
}

#endif
