/* The latch: one thread at a time, and nobody sleeps on. */
#include "latch.h"

#include "lib/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>

#define THREADS 4
#define TURNS   50000
/* One turn in so many gives its processor away while it holds the latch: the others get to sleep.
 */
#define YIELD_EVERY 64

struct shared {
    struct latch latch;
    uint64_t n; /* Guarded */
};

static void *take_turns(void *argument)
{
    struct shared *shared = argument;
    for (unsigned i = 0; i < TURNS; i++) {
        latch_take(&shared->latch);
        uint64_t n = shared->n;
        if (i % YIELD_EVERY == 0)
            sched_yield();
        shared->n = n + 1;
        latch_leave(&shared->latch);
    }
    return NULL;
}

static void no_turn_is_lost(void **state)
{
    struct shared shared = {0};
    pthread_t threads[THREADS];

    (void)state;
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_turns, &shared), 0);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(shared.n, (uint64_t)THREADS * TURNS);
    assert_int_equal(atomic_load(&shared.latch.state), LATCH_FREE);
}

struct sleeper {
    struct shared *shared;
    _Atomic bool done;
};

static void *sleep_on_it(void *argument)
{
    struct sleeper *sleeper = argument;
    latch_take(&sleeper->shared->latch);
    sleeper->shared->n++;
    latch_leave(&sleeper->shared->latch);
    atomic_store(&sleeper->done, true);
    return NULL;
}

/* All of them sleep before it is left; each that wakes wakes the next. */
static void all_that_sleep_are_woken(void **state)
{
    struct shared shared = {0};
    struct sleeper sleepers[THREADS];
    pthread_t threads[THREADS];

    (void)state;
    latch_take(&shared.latch);
    for (unsigned i = 0; i < THREADS; i++) {
        sleepers[i] = (struct sleeper){.shared = &shared};
        assert_int_equal(pthread_create(&threads[i], NULL, sleep_on_it, &sleepers[i]), 0);
    }
    uint64_t deadline = test_now_ms() + 10000;
    while (atomic_load(&shared.latch.state) != (uint32_t)LATCH_AWAITED) {
        assert_true(test_now_ms() < deadline);
        sched_yield();
    }
    test_sleep_ms(20); /* Not for anything: so that the others are likely to sleep, too */
    for (unsigned i = 0; i < THREADS; i++)
        assert_false(atomic_load(&sleepers[i].done));
    assert_int_equal(shared.n, 0);
    latch_leave(&shared.latch);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(shared.n, THREADS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_turn_is_lost),
        cmocka_unit_test(all_that_sleep_are_woken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
