/* The workload generator: a benchmark is worth what its distribution is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "workload.h"

static void zipf_ranks_follow_the_law(void **state)
{
    enum { N = 1000, DRAWS = 1000000, RANKS = 10 };
    static uint64_t counts[N];
    const double theta = 0.99;
    struct zipf zipf;
    struct workload_random random;
    double zeta_n = 0;

    (void)state;
    zipf_init(&zipf, N, theta);
    workload_random_init(&random, 42);
    for (int i = 0; i < DRAWS; i++) {
        uint64_t rank = zipf_next(&zipf, &random);
        assert_true(rank < N);
        counts[rank]++;
    }
    for (int i = 1; i <= N; i++)
        zeta_n += pow(i, -theta);
    /* The method is exact for the first two ranks and approximate after them. */
    for (int rank = 0; rank < RANKS; rank++) {
        double expected = DRAWS * pow(rank + 1, -theta) / zeta_n;
        double tolerance = rank < 2 ? 0.02 : 0.2;
        assert_true(fabs((double)counts[rank] - expected) < tolerance * expected);
    }
}

static void theta_zero_is_uniform(void **state)
{
    enum { N = 10, DRAWS = 100000 };
    uint64_t counts[N] = {0};
    struct zipf zipf;
    struct workload_random random;

    (void)state;
    zipf_init(&zipf, N, 0);
    workload_random_init(&random, 42);
    for (int i = 0; i < DRAWS; i++)
        counts[zipf_next(&zipf, &random)]++;
    for (int i = 0; i < N; i++)
        assert_in_range(counts[i], DRAWS / N * 9 / 10, DRAWS / N * 11 / 10);
}

static void small_key_counts_are_served(void **state)
{
    struct workload_random random;

    (void)state;
    workload_random_init(&random, 42);
    for (uint64_t n = 1; n <= 4; n++) {
        uint64_t seen = 0;
        struct zipf zipf;
        zipf_init(&zipf, n, 0.9);
        for (int i = 0; i < 1000; i++) {
            uint64_t rank = zipf_next(&zipf, &random);
            assert_true(rank < n);
            seen |= UINT64_C(1) << rank;
        }
        assert_int_equal(seen, (UINT64_C(1) << n) - 1);
    }
}

static void scatter_is_a_permutation(void **state)
{
    static const uint64_t sizes[] = {1, 2, 3, 7, 8, 9, 1000, 4096, 99991};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint64_t n = sizes[i];
        unsigned char *seen = calloc(n, 1);
        assert_non_null(seen);
        for (uint64_t rank = 0; rank < n; rank++) {
            uint64_t number = workload_scatter(rank, n);
            assert_true(number < n);
            assert_int_equal(seen[number], 0);
            seen[number] = 1;
        }
        free(seen);
    }
}

static void the_same_seed_gives_the_same_numbers(void **state)
{
    struct workload_random one, two, other;

    (void)state;
    workload_random_init(&one, 7);
    workload_random_init(&two, 7);
    workload_random_init(&other, 8);
    for (int i = 0; i < 100; i++) {
        uint64_t number = workload_random_next(&one);
        assert_int_equal(number, workload_random_next(&two));
        assert_int_not_equal(number, workload_random_next(&other));
    }
}

static void a_value_belongs_to_its_key_only(void **state)
{
    unsigned char value[100];
    char key[WORKLOAD_KEY_BYTES + 1];

    (void)state;
    workload_value(5, 1, value, sizeof(value));
    assert_true(workload_value_belongs(5, value, sizeof(value)));
    assert_false(workload_value_belongs(6, value, sizeof(value)));
    assert_false(workload_value_belongs(5, value, 8));
    workload_key(5, key);
    assert_string_equal(key, "key-0000000000000005");
    assert_int_equal(strlen(key), WORKLOAD_KEY_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zipf_ranks_follow_the_law),
        cmocka_unit_test(theta_zero_is_uniform),
        cmocka_unit_test(small_key_counts_are_served),
        cmocka_unit_test(scatter_is_a_permutation),
        cmocka_unit_test(the_same_seed_gives_the_same_numbers),
        cmocka_unit_test(a_value_belongs_to_its_key_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
