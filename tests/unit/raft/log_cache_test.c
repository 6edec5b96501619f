/* The log in memory: what is kept, how batches are shared, what is counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "raft/log_cache.h"

static struct log_cache cache;

static int cache_open(void **unused)
{
    (void)unused;
    log_cache_open(&cache, 1);
    return 0;
}

static int cache_close(void **unused)
{
    (void)unused;
    log_cache_close(&cache);
    return 0;
}

/* `n` entries of `bytes` each in one batch. */
static void push(raft_term term, unsigned n, size_t bytes)
{
    char *base = raft_malloc(n * bytes);
    struct log_batch *batch = log_batch_new(base);
    assert_non_null(base);
    assert_non_null(batch);
    assert_int_equal(log_cache_reserve(&cache, n), 0);
    for (unsigned i = 0; i < n; i++) {
        struct raft_entry entry = {.term = term,
                                   .type = RAFT_COMMAND,
                                   .buf = {.base = base + i * bytes, .len = bytes},
                                   .batch = base};
        *(uint64_t *)entry.buf.base = cache.last + 1;
        log_cache_push(&cache, &entry, batch);
    }
    log_batch_release(batch);
}

static void assert_content(void)
{
    size_t bytes = 0;
    for (raft_index i = cache.first; i <= cache.last; i++) {
        struct log_slot *slot = log_cache_at(&cache, i);
        assert_true(*(uint64_t *)slot->payload.base == i);
        bytes += slot->payload.len + sizeof *slot;
    }
    assert_true(cache.bytes == bytes);
    assert_false(log_cache_has(&cache, cache.first - 1));
    assert_false(log_cache_has(&cache, cache.last + 1));
}

static void entries_stay_in_place_while_the_cache_grows_and_wraps_around(void **unused)
{
    (void)unused;
    for (int round = 0; round < 200; round++) {
        push(1, 37, 16);
        if (round % 2 == 1)
            log_cache_trim(&cache, cache.first + 20);
        assert_content();
    }
    assert_true(cache.last == 200 * 37);
    assert_true(cache.first > 1000);
}

static void a_batch_lives_as_long_as_one_of_its_entries(void **unused)
{
    (void)unused;
    push(1, 3, 64);
    struct log_batch *batch = log_cache_at(&cache, 3)->batch;
    assert_int_equal(batch->references, 3);
    log_cache_trim(&cache, 1);
    log_cache_truncate(&cache, 3);
    assert_int_equal(batch->references, 1);
    assert_content();
    log_cache_trim(&cache, 2);
    assert_true(cache.bytes == 0);
}

static void an_entry_that_replaces_another_has_a_serial_of_its_own(void **unused)
{
    (void)unused;
    push(1, 5, 8);
    uint64_t third = log_cache_at(&cache, 3)->serial;
    log_cache_truncate(&cache, 3);
    assert_true(cache.last == 2);
    push(2, 2, 8);
    assert_content();
    assert_true(log_cache_at(&cache, 3)->serial > third);
    assert_true(log_cache_at(&cache, 3)->term == 2);
}

static void an_empty_cache_continues_after_its_last_entry(void **unused)
{
    (void)unused;
    push(1, 10, 8);
    log_cache_trim(&cache, 1000);
    assert_true(cache.first == 11 && cache.last == 10 && cache.bytes == 0);
    push(1, 1, 8);
    assert_true(log_cache_has(&cache, 11));
    log_cache_reset(&cache, 500);
    assert_true(cache.first == 501 && cache.last == 500 && cache.bytes == 0);
    push(1, 1, 8);
    assert_true(log_cache_has(&cache, 501));
    assert_content();
}

int main(void)
{
#define WITH_CACHE(test) cmocka_unit_test_setup_teardown(test, cache_open, cache_close)
    const struct CMUnitTest tests[] = {
        WITH_CACHE(entries_stay_in_place_while_the_cache_grows_and_wraps_around),
        WITH_CACHE(a_batch_lives_as_long_as_one_of_its_entries),
        WITH_CACHE(an_entry_that_replaces_another_has_a_serial_of_its_own),
        WITH_CACHE(an_empty_cache_continues_after_its_last_entry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
