/* How much memory this process can still fill with pages of files, those that it has filled already
 * included: what the system has, and what the control groups leave that the process is in, of
 * version 1 and 2.
 */
#ifndef TIERS_MEMORY_AVAILABLE_H
#define TIERS_MEMORY_AVAILABLE_H

#include <stdint.h>

/* Reads a few small files of the kernel's. Any thread. UINT64_MAX if nothing is known. */
uint64_t memory_available_bytes(void);

/* The same with all paths below `root` in place of /, for tests. */
uint64_t memory_available_below(const char *root);

#endif
