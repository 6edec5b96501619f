/* The cost model: its answers beside those of trying every split. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/random.h"
#include "tiers/cost.h"
#include "tiers/tiers.h"

#define GB    1e9
#define STEPS 160

/* 100 GB of values, half of the reads on a hundredth of them. */
static struct tiers_cost_input input_skewed(void)
{
    return (struct tiers_cost_input){
        .prices = {.memory = 4, .ssd = 0.1, .hdd = 0.02},
        .latencies = {.memory = 1, .ssd = 100, .hdd = 8000},
        .target_us = 100,
        .memory_bytes = 120 * GB,
        .data_bytes = 100 * GB,
        .index_bytes = 2 * GB,
        .hot_curve = {.n = 3, .points = {{1.2 * GB, 0.5}, {12 * GB, 0.8}, {60 * GB, 0.97}}},
        .value_curve = {.n = 3, .points = {{1 * GB, 0.5}, {10 * GB, 0.8}, {50 * GB, 0.97}}},
    };
}

static void the_cheapest_split_meets_the_target_at_a_fraction_of_the_cost_of_memory(void **state)
{
    (void)state;
    struct tiers_cost_input input = input_skewed();
    struct tiers_cost cost;

    assert_int_equal(tiers_cost(&input, &cost), 0);
    assert_true(cost.cheapest.feasible);
    assert_true(cost.cheapest.latency_us <= 100.001);
    assert_float_equal(cost.memory_cost, 480, 1e-9);
    assert_true(cost.cheapest.cost < 480 / 20.0);
    assert_float_equal(cost.cheapest.warm_bytes + cost.cheapest.cold_bytes, 100 * GB, 1);
    assert_float_equal(
        cost.cheapest.share_hot + cost.cheapest.share_warm + cost.cheapest.share_cold, 1, 1e-9);
}

static void without_haste_everything_is_cold(void **state)
{
    (void)state;
    struct tiers_cost_input input = input_skewed();
    struct tiers_cost cost;

    input.target_us = 8000;
    input.hot_bytes_min = 1e6;
    assert_int_equal(tiers_cost(&input, &cost), 0);
    assert_true(cost.cheapest.feasible);
    assert_float_equal(cost.cheapest.hot_bytes, 1e6, 0);
    assert_float_equal(cost.cheapest.warm_bytes, 0, 0);
    assert_float_equal(cost.cheapest.cost, 4 * 0.001 + 0.1 * 2 + 0.02 * 100, 1e-9);
}

static void a_target_below_memory_s_latency_is_said_to_be_missed(void **state)
{
    (void)state;
    struct tiers_cost_input input = input_skewed();
    struct tiers_cost cost;

    input.target_us = 0.5;
    assert_int_equal(tiers_cost(&input, &cost), 0);
    assert_false(cost.cheapest.feasible);
    assert_float_equal(cost.cheapest.latency_us, 1, 1e-9);
    assert_float_equal(cost.cheapest.hot_bytes, 120 * GB, 1);
}

static void a_quantile_is_met_by_the_cheaper_of_memory_and_ssd(void **state)
{
    (void)state;
    struct tiers_cost_input input = input_skewed();
    struct tiers_cost cost;

    input.quantile = 0.97;
    input.target_us = 200;
    assert_int_equal(tiers_cost(&input, &cost), 0);
    assert_true(cost.cheapest.feasible);
    assert_float_equal(cost.cheapest.latency_us, 100, 0);
    assert_float_equal(cost.cheapest.warm_bytes, 50 * GB, 1);
    assert_float_equal(cost.cheapest.hot_bytes, 0, 0);
    input.target_us = 20;
    assert_int_equal(tiers_cost(&input, &cost), 0);
    assert_float_equal(cost.cheapest.latency_us, 1, 0);
    assert_float_equal(cost.cheapest.hot_bytes, 60 * GB, 1);
    assert_float_equal(cost.cheapest.warm_bytes, 0, 0);
}

/* A rising curve of up to six points below `bytes`. */
static struct tiers_cost_curve random_curve(struct random *random, double bytes)
{
    struct tiers_cost_curve curve = {.n = random_below(random, 7)};
    double at = 0, share = 0;

    for (size_t i = 0; i < curve.n; i++) {
        at += (bytes - at) * (double)random_below(random, 500) / 1000;
        share += (1 - share) * (double)random_below(random, 700) / 1000;
        curve.points[i] = (struct tiers_cost_point){.bytes = at, .share = share};
    }
    return curve;
}

static struct tiers_cost_input random_input(struct random *random)
{
    double data = 1 + (double)random_below(random, 1000);
    double ssd_price = (double)random_below(random, 200) / 1000;
    double ssd_us = 2 + (double)random_below(random, 300);
    struct tiers_cost_input input = {
        .prices = {.memory = (double)random_below(random, 6000) / 1000,
                   .ssd = ssd_price,
                   .hdd = (double)random_below(random, 100) / 1000},
        .latencies = {.memory = 1,
                      .ssd = ssd_us,
                      .hdd = ssd_us + (double)random_below(random, 9000)},
        .target_us = 1 + (double)random_below(random, 2000),
        .quantile = random_below(random, 3) == 0 ? 0.99 : 0,
        .memory_bytes = 1.3 * data * GB,
        .data_bytes = data * GB,
        .index_bytes = 0.05 * data * GB,
        .hot_bytes_min = 0.001 * data * GB,
    };
    input.hot_curve = random_curve(random, input.memory_bytes);
    input.value_curve = random_curve(random, input.data_bytes);
    return input;
}

static void no_split_of_a_fine_grid_is_cheaper_and_fast_enough(void **state)
{
    (void)state;
    struct random random;
    unsigned feasible = 0;

    random_init(&random, random_seed());
    for (unsigned round = 0; round < 100; round++) {
        struct tiers_cost_input input = random_input(&random);
        struct tiers_cost cost;
        struct tiers_cost_split again;

        assert_int_equal(tiers_cost(&input, &cost), 0);
        assert_int_equal(
            tiers_cost_of(&input, cost.cheapest.hot_bytes, cost.cheapest.warm_bytes, &again), 0);
        assert_float_equal(again.cost, cost.cheapest.cost, 1e-9);
        assert_true(again.feasible == cost.cheapest.feasible);
        feasible += again.feasible;
        for (unsigned i = 0; i <= STEPS; i++) {
            for (unsigned j = 0; j <= STEPS; j++) {
                struct tiers_cost_split split;
                double hot =
                    input.hot_bytes_min + (input.memory_bytes - input.hot_bytes_min) * i / STEPS;
                assert_int_equal(tiers_cost_of(&input, hot, input.data_bytes * j / STEPS, &split),
                                 0);
                if (split.feasible) {
                    assert_true(cost.cheapest.feasible);
                    assert_true(cost.cheapest.cost <= split.cost * (1 + 1e-9) + 1e-9);
                }
            }
        }
    }
    assert_true(feasible > 30);
}

static void figures_out_of_order_are_refused(void **state)
{
    (void)state;
    struct tiers_cost cost;
    struct tiers_cost_input input = input_skewed();

    input.latencies.ssd = 9000;
    assert_int_equal(tiers_cost(&input, &cost), TIERS_INVALID);
    input = input_skewed();
    input.prices.hdd = -1;
    assert_int_equal(tiers_cost(&input, &cost), TIERS_INVALID);
    input = input_skewed();
    input.quantile = 1;
    assert_int_equal(tiers_cost(&input, &cost), TIERS_INVALID);
    input = input_skewed();
    input.hot_curve.points[2].bytes = 1;
    assert_int_equal(tiers_cost(&input, &cost), TIERS_INVALID);
}

static void three_decimal_numbers_are_parsed_and_nothing_else(void **state)
{
    (void)state;
    static const char *const bad[] = {"",        "1",      "1,2",    "1,2,3,",   "1,2,3,4",
                                      "a,b,c",   " 1,2,3", "1,-2,3", "1,2,3 ",   "1,2,inf",
                                      "1,2,0x1", "1,2,.",  "1,,3",   "1.2.3,4,5"};
    struct tiers_cost_tiers figures;

    assert_true(tiers_cost_tiers_parse("4,0.125,.5", &figures));
    assert_float_equal(figures.memory, 4, 0);
    assert_float_equal(figures.ssd, 0.125, 0);
    assert_float_equal(figures.hdd, 0.5, 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(tiers_cost_tiers_parse(bad[i], &figures));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cheapest_split_meets_the_target_at_a_fraction_of_the_cost_of_memory),
        cmocka_unit_test(without_haste_everything_is_cold),
        cmocka_unit_test(a_target_below_memory_s_latency_is_said_to_be_missed),
        cmocka_unit_test(a_quantile_is_met_by_the_cheaper_of_memory_and_ssd),
        cmocka_unit_test(no_split_of_a_fine_grid_is_cheaper_and_fast_enough),
        cmocka_unit_test(figures_out_of_order_are_refused),
        cmocka_unit_test(three_decimal_numbers_are_parsed_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
