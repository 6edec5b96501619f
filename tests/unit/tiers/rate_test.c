/* The token bucket: never above its limit, hardly below it, never waiting without a limit. */
#include "unit/tiers/cold_fixture.h"

#include "rate.h"

#define MIB ((uint64_t)1 << 20)

static void without_a_limit_nothing_waits(void **state)
{
    (void)state;
    struct rate rate;
    rate_init(&rate, 0, 5);
    for (unsigned i = 0; i < 100; i++) {
        rate_pay(&rate, 1000 * MIB);
        assert_int_equal(rate_wait_ms(&rate, 5), 0);
    }
}

static void a_debt_is_paid_before_the_next_piece(void **state)
{
    (void)state;
    struct rate rate;
    rate_init(&rate, 1000, 0);
    assert_int_equal(rate_wait_ms(&rate, 0), 0);
    rate_pay(&rate, 3000);
    assert_int_equal(rate_wait_ms(&rate, 0), 3000);
    assert_int_equal(rate_wait_ms(&rate, 1000), 2000);
    assert_int_equal(rate_wait_ms(&rate, 2999), 1);
    assert_int_equal(rate_wait_ms(&rate, 3000), 0);
}

static void idle_time_is_not_saved_up(void **state)
{
    (void)state;
    struct rate rate;
    rate_init(&rate, 1000, 0);
    assert_int_equal(rate_wait_ms(&rate, 3600000), 0);
    rate_pay(&rate, 1250);
    assert_int_equal(rate_wait_ms(&rate, 3600000), 1000);
}

static void a_clock_that_stands_or_goes_back_gives_nothing(void **state)
{
    (void)state;
    struct rate rate;
    rate_init(&rate, 1000, 500);
    rate_pay(&rate, 100);
    assert_int_equal(rate_wait_ms(&rate, 500), 100);
    assert_int_equal(rate_wait_ms(&rate, 0), 100);
    assert_int_equal(rate_wait_ms(&rate, 600), 0);
}

/* Whatever the pieces, who always works when he may gets the limit and not more. */
static void random_pieces_get_the_limit_and_no_more(void **state)
{
    (void)state;
    uint64_t random = seed_take();
    for (unsigned round = 0; round < 20; round++) {
        uint64_t limit = 1 + random_next(&random) % (100 * MIB);
        uint64_t piece_max = 1 + limit / (1 + random_next(&random) % 50);
        uint64_t now_ms = random_next(&random) % 100000;
        uint64_t begin_ms = now_ms;
        uint64_t paid = 0;
        struct rate rate;
        rate_init(&rate, limit, now_ms);
        while (now_ms - begin_ms < 60000) {
            uint64_t wait_ms = rate_wait_ms(&rate, now_ms);
            if (wait_ms > 0) {
                now_ms += wait_ms;
                continue;
            }
            uint64_t piece = random_next(&random) % (piece_max + 1);
            rate_pay(&rate, piece);
            paid += piece;
            double seconds = (double)(now_ms - begin_ms) / 1000;
            assert_true((double)paid <= (double)limit * (seconds + 0.25) + (double)piece_max + 1);
        }
        assert_true((double)paid >= (double)limit * 58);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_limit_nothing_waits),
        cmocka_unit_test(a_debt_is_paid_before_the_next_piece),
        cmocka_unit_test(idle_time_is_not_saved_up),
        cmocka_unit_test(a_clock_that_stands_or_goes_back_gives_nothing),
        cmocka_unit_test(random_pieces_get_the_limit_and_no_more),
    };
    return cmocka_run_group_tests_name("rate", tests, NULL, NULL);
}
