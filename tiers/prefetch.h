/* Asking the processor for memory that is needed soon. A hint: any address may be given, and a
 * wrong one costs nothing but the try. */
#ifndef TIERS_PREFETCH_H
#define TIERS_PREFETCH_H

#include <stddef.h>

#define PREFETCH_LINE_BYTES 64

/* The line that `address` is in. gcc (12) takes a function that does nothing else for one without
 * effect, and drops the calls of it; the empty statement is an effect. */
static inline void prefetch_line(const void *address)
{
    __builtin_prefetch(address);
    __asm__ volatile("" : : "r"(address));
}

/* The lines of `n` bytes that are to be read from front to back. Only the first 2 KiB: there the
 * processor has found out by itself what follows. */
static inline void prefetch_bytes(const void *bytes, size_t n)
{
    size_t end = n < 2048 ? n : 2048;
    for (size_t i = 0; i < end; i += PREFETCH_LINE_BYTES) {
        prefetch_line((const char *)bytes + i);
    }
}

#endif
