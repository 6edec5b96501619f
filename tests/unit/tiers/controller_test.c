/* The controller: plain numbers in, thresholds out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "controller.h"

static struct controller_input input_over_budget(void)
{
    struct controller_input input = {
        .warm_used_bytes = 200, .warm_budget_bytes = 160, .warm_free_bytes = 1ull << 40};
    /* Half of the bytes were never read lately, a quarter each once and five times. */
    input.histogram.bytes[0] = 500;
    input.histogram.bytes[1] = 250;
    input.histogram.bytes[5] = 250;
    return input;
}

static struct controller_decision decide(const struct controller_input *input)
{
    struct controller_decision decision;
    controller_decide(input, &decision);
    return decision;
}

static void within_the_budget_nothing_is_in_excess(void **state)
{
    (void)state;
    assert_int_equal(controller_excess_bytes(100, 1600), 0);
    assert_int_equal(controller_excess_bytes(1500, 1600), 0);
    assert_int_equal(controller_excess_bytes(1600, 1600), 100);
}

static void the_threshold_cuts_off_just_enough(void **state)
{
    (void)state;
    struct controller_input input = input_over_budget();
    assert_int_equal(decide(&input).demote_heat_max, 0);
    input.warm_budget_bytes = 80;
    assert_int_equal(decide(&input).demote_heat_max, 1);
    input.warm_budget_bytes = 20;
    assert_int_equal(decide(&input).demote_heat_max, 5);
}

static void promotion_asks_for_more_heat_than_demotion_spares(void **state)
{
    (void)state;
    for (uint64_t budget = 1; budget < 300; budget++) {
        struct controller_input input = input_over_budget();
        input.warm_budget_bytes = budget;
        struct controller_decision decision = decide(&input);
        assert_true(decision.promote_heat_min > decision.demote_heat_max);
        assert_true(decision.promote_heat_min >= 2);
    }
}

static void promotion_is_more_eager_when_many_reads_are_cold(void **state)
{
    (void)state;
    struct controller_input input = input_over_budget();
    input.reads = 1000;
    input.reads_cold = 1;
    unsigned calm = decide(&input).promote_heat_min;
    input.reads_cold = 500;
    assert_true(decide(&input).promote_heat_min < calm);
}

static void rounds_in_vain_spare_less_until_all_is_taken(void **state)
{
    (void)state;
    struct controller_input input = input_over_budget();
    unsigned last = 0;
    assert_false(decide(&input).repack_always);
    while (input.rounds_in_vain < 10) {
        struct controller_decision decision = decide(&input);
        assert_true(decision.demote_heat_max >= last);
        last = decision.demote_heat_max;
        if (controller_exhausted(&decision)) {
            break;
        }
        input.rounds_in_vain++;
    }
    assert_int_equal(last, HEAT_MAX);
    assert_true(decide(&input).demote_value_len_min < 64);
}

static void a_file_that_cannot_grow_is_emptied_in_small_steps(void **state)
{
    (void)state;
    struct controller_input input = input_over_budget();
    input.warm_used_bytes = 2u << 30;
    input.warm_budget_bytes = 1u << 30;
    input.warm_free_bytes = 1u << 20;
    assert_int_equal(decide(&input).demote_chunk_bytes, 256u << 10);
    input.warm_free_bytes = 0;
    assert_true(decide(&input).demote_chunk_bytes > 0);
}

static void no_more_is_taken_at_a_time_than_has_to_go(void **state)
{
    (void)state;
    struct controller_input input = input_over_budget();
    input.warm_used_bytes = 5u << 20;
    input.warm_budget_bytes = 4u << 20;
    assert_int_equal(decide(&input).demote_chunk_bytes,
                     controller_excess_bytes(5u << 20, 4u << 20));
}

static void an_empty_histogram_takes_only_what_was_never_read(void **state)
{
    (void)state;
    struct controller_input input = {.warm_used_bytes = 200, .warm_budget_bytes = 100};
    assert_int_equal(decide(&input).demote_heat_max, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(within_the_budget_nothing_is_in_excess),
        cmocka_unit_test(the_threshold_cuts_off_just_enough),
        cmocka_unit_test(promotion_asks_for_more_heat_than_demotion_spares),
        cmocka_unit_test(promotion_is_more_eager_when_many_reads_are_cold),
        cmocka_unit_test(rounds_in_vain_spare_less_until_all_is_taken),
        cmocka_unit_test(a_file_that_cannot_grow_is_emptied_in_small_steps),
        cmocka_unit_test(no_more_is_taken_at_a_time_than_has_to_go),
        cmocka_unit_test(an_empty_histogram_takes_only_what_was_never_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
