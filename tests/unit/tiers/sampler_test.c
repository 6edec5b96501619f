/* The way of the samples, with one thread and with several. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sampler.h"

#include <pthread.h>

#define WRITERS           3
#define PUSHES_PER_WRITER 50000u

static void samples_come_out_in_order_and_whole(void **state)
{
    (void)state;
    struct sampler *sampler = sampler_new();
    struct sample samples[10];

    assert_non_null(sampler);
    for (uint64_t i = 1; i <= 7; i++)
        sampler_push(sampler, i, (uint32_t)(10 * i), SAMPLE_WRITE);
    assert_int_equal(sampler_pop(sampler, samples, 4), 4);
    assert_int_equal(sampler_pop(sampler, samples + 4, 6), 3);
    for (uint64_t i = 0; i < 7; i++) {
        assert_int_equal(samples[i].key_hash, i + 1);
        assert_int_equal(samples[i].size, 10 * (i + 1));
        assert_int_equal(samples[i].kind, SAMPLE_WRITE);
    }
    assert_int_equal(sampler_pop(sampler, samples, 10), 0);
    sampler_free(sampler);
}

static void a_full_ring_drops_and_counts(void **state)
{
    (void)state;
    struct sampler *sampler = sampler_new();
    struct sample sample;
    uint64_t n = 0;

    assert_non_null(sampler);
    for (uint64_t i = 0; i < SAMPLER_SLOTS + 5; i++)
        sampler_push(sampler, i + 1, 1, SAMPLE_READ);
    assert_int_equal(sampler_dropped(sampler), 5);
    while (sampler_pop(sampler, &sample, 1) == 1)
        assert_int_equal(sample.key_hash, ++n);
    assert_int_equal(n, SAMPLER_SLOTS);
    sampler_push(sampler, 1, 1, SAMPLE_READ);
    assert_int_equal(sampler_pop(sampler, &sample, 1), 1);
    assert_int_equal(sampler_dropped(sampler), 5);
    sampler_free(sampler);
}

static void only_hashes_below_the_threshold_are_wanted(void **state)
{
    (void)state;
    struct sampler *sampler = sampler_new();

    assert_non_null(sampler);
    assert_false(sampler_wants(sampler, 0));
    sampler_threshold_set(sampler, 1000);
    assert_true(sampler_wants(sampler, 999));
    assert_false(sampler_wants(sampler, 1000));
    sampler_threshold_set(sampler, SAMPLER_ALL);
    assert_true(sampler_wants(sampler, UINT64_MAX - 1));
    sampler_free(sampler);
}

static void excluded_keys_do_not_enter_until_they_are_allowed_again(void **state)
{
    (void)state;
    struct sampler *sampler = sampler_new();
    struct sample sample;
    const uint64_t heavy[] = {7, 9};

    assert_non_null(sampler);
    sampler_exclude(sampler, heavy, 2);
    sampler_push(sampler, 9, 1, SAMPLE_READ);
    sampler_push(sampler, 8, 1, SAMPLE_READ);
    assert_int_equal(sampler_pop(sampler, &sample, 1), 1);
    assert_int_equal(sample.key_hash, 8);
    sampler_exclude(sampler, heavy, 0);
    sampler_push(sampler, 9, 1, SAMPLE_READ);
    assert_int_equal(sampler_pop(sampler, &sample, 1), 1);
    assert_int_equal(sample.key_hash, 9);
    sampler_free(sampler);
}

struct writer {
    struct sampler *sampler;
    uint32_t number;
    pthread_t thread;
};

static void *write_samples(void *argument)
{
    struct writer *writer = argument;

    for (uint64_t i = 1; i <= PUSHES_PER_WRITER; i++)
        sampler_push(writer->sampler, i, writer->number, SAMPLE_READ);
    return NULL;
}

static void no_sample_of_many_threads_is_torn_doubled_or_out_of_its_order(void **state)
{
    (void)state;
    struct sampler *sampler = sampler_new();
    struct writer writers[WRITERS];
    uint64_t last[WRITERS] = {0}, n = 0;

    assert_non_null(sampler);
    for (uint32_t i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.sampler = sampler, .number = i};
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_samples, &writers[i]), 0);
    }
    while (n + sampler_dropped(sampler) < WRITERS * PUSHES_PER_WRITER) {
        struct sample sample;
        if (sampler_pop(sampler, &sample, 1) == 0)
            continue;
        assert_in_range(sample.size, 0, WRITERS - 1);
        assert_true(sample.key_hash > last[sample.size]);
        last[sample.size] = sample.key_hash;
        n++;
    }
    for (size_t i = 0; i < WRITERS; i++)
        pthread_join(writers[i].thread, NULL);
    assert_true(n > 0);
    sampler_free(sampler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_come_out_in_order_and_whole),
        cmocka_unit_test(a_full_ring_drops_and_counts),
        cmocka_unit_test(only_hashes_below_the_threshold_are_wanted),
        cmocka_unit_test(excluded_keys_do_not_enter_until_they_are_allowed_again),
        cmocka_unit_test(no_sample_of_many_threads_is_torn_doubled_or_out_of_its_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
