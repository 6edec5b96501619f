/* A lock for sections that are mostly some tens of instructions and are entered millions of times a
 * second: taking it and leaving it are one atomic operation each, in the caller's code.
 *
 * Who finds it taken looks again a few times and then sleeps, so that a holder who has lost its
 * processor is not waited for by spinning. Not fair, not recursive; of threads of one process.
 * After the last of the mutexes in U. Drepper, "Futexes Are Tricky" (2011), but for leaving, which
 * is one exchange instead of a subtraction and a store. */
#ifndef TIERS_LATCH_H
#define TIERS_LATCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum latch_state { LATCH_FREE, LATCH_TAKEN, LATCH_AWAITED };

/* All zero: free. Needs no closing. */
struct latch {
    _Atomic uint32_t state; /* enum latch_state */
};

/* Of the functions below only. */
void latch_wait(struct latch *latch);
void latch_wake(struct latch *latch);

static inline void latch_take(struct latch *latch)
{
    uint32_t expected = LATCH_FREE;
    if (__builtin_expect(!atomic_compare_exchange_strong_explicit(&latch->state, &expected,
                                                                  LATCH_TAKEN, memory_order_acquire,
                                                                  memory_order_relaxed),
                         false))
        latch_wait(latch);
}

static inline void latch_leave(struct latch *latch)
{
    if (__builtin_expect(atomic_exchange_explicit(&latch->state, LATCH_FREE,
                                                  memory_order_release) == LATCH_AWAITED,
                         false))
        latch_wake(latch);
}

#endif
