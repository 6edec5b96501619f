/* The slow side of latch.h. Any thread. */
#include "latch.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

/* About what a section takes, some times over. */
#define LOOKS_MAX 100

static void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Until it is free, or for as long as a sleep would be no longer. */
static void look(const struct latch *latch)
{
    for (unsigned i = 0; i < LOOKS_MAX; i++) {
        if (atomic_load_explicit(&latch->state, memory_order_relaxed) == LATCH_FREE)
            return;
        pause_briefly();
    }
}

/* Whoever has slept takes it as awaited: others may still sleep, and who leaves is to wake one. A
 * sleep may end for no reason, or not begin because the state has changed: it is looked at again
 * in any case. */
void latch_wait(struct latch *latch)
{
    uint32_t expected = LATCH_FREE;
    look(latch);
    if (atomic_compare_exchange_strong_explicit(&latch->state, &expected, LATCH_TAKEN,
                                                memory_order_acquire, memory_order_relaxed))
        return;
    while (atomic_exchange_explicit(&latch->state, LATCH_AWAITED, memory_order_acquire) !=
           LATCH_FREE)
        (void)syscall(SYS_futex, &latch->state, FUTEX_WAIT_PRIVATE, LATCH_AWAITED, NULL, NULL, 0);
}

void latch_wake(struct latch *latch)
{
    (void)syscall(SYS_futex, &latch->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
