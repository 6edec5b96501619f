/* Whether readers may take it that the warm tier's pages are in memory.
 *
 * A reader that is about to look up the warm tier either asks where the pages are (warm_resident,
 * about a system call for a leaf) or takes it that they are in memory. The latter holds once
 * the file fits into the memory that the process may use and nobody missed a page for a while;
 * still one look-up in RESIDENCY_SAMPLE is asked for, and one page missed ends it at once.
 *
 * Readers ask and report on any thread; the mover steps it once a second.
 */
#ifndef TIERS_RESIDENCY_H
#define TIERS_RESIDENCY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define RESIDENCY_SAMPLE 16
/* Steps without a miss after which pages are taken to be in memory. */
#define RESIDENCY_CALM_STEPS 5

struct residency {
    atomic_bool assumed;
    atomic_bool missed; /* A page, since the last step */
    _Atomic uint16_t epoch;
    atomic_bool fits;    /* The file, into memory */
    unsigned calm_steps; /* The mover's */
};

/* All zero is the state to begin with. */

static inline bool residency_assumed(const struct residency *residency)
{
    return atomic_load_explicit(&residency->assumed, memory_order_relaxed);
}

static inline uint16_t residency_epoch(const struct residency *residency)
{
    return atomic_load_explicit(&residency->epoch, memory_order_relaxed);
}

static inline bool residency_fits(const struct residency *residency)
{
    return atomic_load_explicit(&residency->fits, memory_order_relaxed);
}

void residency_miss(struct residency *residency);

/* Once a second: the size of the file, and of what memory can be had for it. */
void residency_step(struct residency *residency, uint64_t file_bytes, uint64_t available_bytes);

#endif
