/* The controller: plain numbers in, thresholds out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "controller.h"
#include "numbered.h"

#include <string.h>

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

#define PERMILLE 50

static struct controller_thresholds step(struct controller_state *state, uint64_t reads,
                                         uint64_t reads_cold)
{
    struct controller_window window = {
        .reads = reads, .reads_cold = reads_cold, .cold_read_permille_max = PERMILLE};
    struct controller_thresholds thresholds;
    controller_step(state, &window, &thresholds);
    return thresholds;
}

static struct controller_window window_random(uint64_t *random)
{
    uint64_t reads =
        random_next(random) % 3 == 0 ? random_next(random) % 200 : random_next(random) % 1000000;
    return (struct controller_window){
        .reads = reads,
        .reads_cold = random_next(random) % (reads + 1) >> random_next(random) % 12,
        .cold_read_permille_max = (uint32_t)(1 + random_next(random) % 1000),
        .hot_keys = random_next(random) % 1000,
        .hot_admitted = random_next(random) % 200,
        .demoted = random_next(random) % 3 == 0,
        .demote_heat_max = (unsigned)(random_next(random) % (HEAT_MAX + 1)),
    };
}

static void thresholds_stay_in_their_bounds_whatever_comes(void **state)
{
    (void)state;
    uint64_t random = random_seed();
    struct controller_state control = {0};
    for (int i = 0; i < 100000; i++) {
        struct controller_window window = window_random(&random);
        struct controller_thresholds thresholds;
        controller_step(&control, &window, &thresholds);
        assert_in_range(thresholds.promote_heat_min, 2, HEAT_MAX);
        assert_in_range(thresholds.admit_heat_min, 2, 8);
        assert_in_range(thresholds.promote_us_max, 1, CONTROLLER_WINDOW_MS * 1000 / 2);
        assert_true(strlen(controller_reason_text(thresholds.reason)) > 0);
        if (window.demoted && window.demote_heat_max < HEAT_MAX) {
            assert_true(thresholds.promote_heat_min > window.demote_heat_max);
        }
    }
}

/* From the same state, more cold reads never make promotion less eager. */
static void more_cold_reads_never_make_promotion_less_eager(void **state)
{
    (void)state;
    uint64_t random = random_seed();
    struct controller_state control = {0};
    for (int i = 0; i < 100000; i++) {
        struct controller_window less = window_random(&random);
        struct controller_window more = less;
        more.reads_cold += random_next(&random) % (more.reads - more.reads_cold + 1);
        struct controller_state other = control;
        struct controller_thresholds with_less;
        struct controller_thresholds with_more;
        controller_step(&control, &less, &with_less);
        controller_step(&other, &more, &with_more);
        assert_true(with_more.promote_heat_min <= with_less.promote_heat_min);
        assert_true(with_more.promote_us_max >= with_less.promote_us_max);
    }
}

/* Once settled, the same window again and again changes nothing any more. */
static void steady_input_settles_and_stays(void **state)
{
    (void)state;
    uint64_t random = random_seed();
    for (int i = 0; i < 1000; i++) {
        struct controller_state control = {0};
        struct controller_window window = window_random(&random);
        struct controller_thresholds settled = {0};
        for (int n = 0; n < 200; n++) {
            struct controller_thresholds thresholds;
            controller_step(&control, &window, &thresholds);
            if (n == 100) {
                settled = thresholds;
            } else if (n > 100) {
                assert_int_equal(thresholds.promote_heat_min, settled.promote_heat_min);
                assert_int_equal(thresholds.admit_heat_min, settled.admit_heat_min);
                assert_int_equal(thresholds.reason, settled.reason);
            }
        }
    }
}

static void promotion_is_eager_at_once_and_reluctant_after_a_while(void **state)
{
    (void)state;
    struct controller_state control = {0};
    struct controller_thresholds thresholds = {0};
    for (int i = 0; i < 20; i++) {
        thresholds = step(&control, 10000, 0);
    }
    assert_int_equal(thresholds.reason, CONTROLLER_COLD_SHARE_LOW);
    unsigned calm = thresholds.promote_heat_min;
    assert_true(calm > 2);
    thresholds = step(&control, 10000, 5000);
    assert_int_equal(thresholds.reason, CONTROLLER_COLD_SHARE_HIGH);
    assert_int_equal(thresholds.promote_heat_min, calm - 1);
    for (int i = 0; i < 3; i++) {
        thresholds = step(&control, 10000, 5000);
    }
    assert_int_equal(thresholds.promote_heat_min, 2);
}

static void a_large_value_must_be_read_more_often(void **state)
{
    (void)state;
    unsigned last = HEAT_MAX;
    assert_int_equal(controller_rank(HEAT_MAX, 1000), HEAT_MAX);
    assert_int_equal(controller_rank(3, 16u << 20), 0);
    for (uint64_t len = 1; len <= 16u << 20; len *= 2) {
        unsigned rank = controller_rank(HEAT_MAX, len);
        assert_true(rank <= last);
        last = rank;
    }
    assert_true(last < HEAT_MAX && last > 2);
}

static void room_in_the_hot_tier_has_two_marks(void **state)
{
    (void)state;
    assert_true(controller_hot_has_room(true, 80, 100));
    assert_false(controller_hot_has_room(false, 80, 100));
    assert_false(controller_hot_has_room(true, 95, 100));
    assert_true(controller_hot_has_room(false, 60, 100));
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

static void under_a_limit_a_chunk_is_a_quarter_of_a_second(void **state)
{
    (void)state;
    struct controller_input input = input_over_budget();
    input.warm_used_bytes = 1ull << 33;
    input.warm_budget_bytes = 1ull << 32;
    uint64_t unlimited = decide(&input).demote_chunk_bytes;
    input.bytes_per_second_max = 4u << 20;
    assert_int_equal(decide(&input).demote_chunk_bytes, 1u << 20);
    input.bytes_per_second_max = 1000;
    assert_true(decide(&input).demote_chunk_bytes > 1000);
    input.bytes_per_second_max = 1ull << 40;
    assert_int_equal(decide(&input).demote_chunk_bytes, unlimited);
}

static void pages_are_packed_anew_only_after_a_round_in_vain_and_when_they_are_sparse(void **state)
{
    (void)state;
    struct controller_input input = input_over_budget();
    input.sparse = true;
    assert_false(decide(&input).repack_always);
    input.rounds_in_vain = 1;
    assert_true(decide(&input).repack_always);
    input.sparse = false;
    assert_false(decide(&input).repack_always);

    assert_true(controller_pages_sparse(500, 1000));
    assert_false(controller_pages_sparse(690, 1000));
    assert_false(controller_pages_sparse(0, 0));
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
    assert_int_equal(decide(&input).demote_room_bytes, controller_excess_bytes(5u << 20, 4u << 20));
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
        cmocka_unit_test(thresholds_stay_in_their_bounds_whatever_comes),
        cmocka_unit_test(more_cold_reads_never_make_promotion_less_eager),
        cmocka_unit_test(steady_input_settles_and_stays),
        cmocka_unit_test(promotion_is_eager_at_once_and_reluctant_after_a_while),
        cmocka_unit_test(a_large_value_must_be_read_more_often),
        cmocka_unit_test(room_in_the_hot_tier_has_two_marks),
        cmocka_unit_test(rounds_in_vain_spare_less_until_all_is_taken),
        cmocka_unit_test(under_a_limit_a_chunk_is_a_quarter_of_a_second),
        cmocka_unit_test(pages_are_packed_anew_only_after_a_round_in_vain_and_when_they_are_sparse),
        cmocka_unit_test(a_file_that_cannot_grow_is_emptied_in_small_steps),
        cmocka_unit_test(no_more_is_taken_at_a_time_than_has_to_go),
        cmocka_unit_test(an_empty_histogram_takes_only_what_was_never_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
