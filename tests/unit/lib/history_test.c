/* The judge of histories: what it lets pass, and what it must not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/history.h"
#include "lib/random.h"

#include <stdio.h>

#define W(number, from, to)                                                                        \
    {                                                                                              \
        .write = true, .value = (number), .begin = (from), .end = (to)                             \
    }
#define R(number, from, to)                                                                        \
    {                                                                                              \
        .write = false, .value = (number), .begin = (from), .end = (to)                            \
    }
#define UNKNOWN HISTORY_UNKNOWN

#define EXPECT(verdict, ...)                                                                       \
    do {                                                                                           \
        const struct history_op ops[] = {__VA_ARGS__};                                             \
        assert_int_equal(history_check(ops, sizeof ops / sizeof ops[0]), (verdict));               \
    } while (0)
#define YES HISTORY_LINEARIZABLE
#define NO  HISTORY_NOT_LINEARIZABLE

static void what_one_client_does_in_turn_is_judged_as_it_reads(void **state)
{
    (void)state;
    assert_int_equal(history_check(NULL, 0), YES);
    EXPECT(YES, R(0, 1, 2), W(1, 3, 4), R(1, 5, 6), W(0, 7, 8), R(0, 9, 10));
    EXPECT(NO, R(1, 1, 2));
    EXPECT(NO, W(1, 1, 2), R(0, 3, 4));
    EXPECT(NO, W(1, 1, 2), W(2, 3, 4), R(1, 5, 6));
}

static void a_read_during_a_write_may_see_either(void **state)
{
    (void)state;
    EXPECT(YES, W(1, 1, 10), R(0, 2, 3));
    EXPECT(YES, W(1, 1, 10), R(1, 2, 3));
    EXPECT(YES, W(1, 1, 10), R(0, 2, 3), R(1, 4, 5));
    /* But not first the new value and then the old one. */
    EXPECT(NO, W(1, 1, 10), R(1, 2, 3), R(0, 4, 5));
}

static void a_stale_read_after_the_write_was_acknowledged_is_found(void **state)
{
    (void)state;
    EXPECT(NO, W(1, 1, 2), W(2, 3, 4), R(2, 5, 7), R(1, 6, 8), R(1, 9, 10));
    EXPECT(NO, W(1, 1, 2), W(2, 3, 9), R(2, 4, 5), R(1, 6, 7));
}

static void a_write_of_unknown_outcome_may_take_effect_late_or_never(void **state)
{
    (void)state;
    EXPECT(YES, W(1, 1, UNKNOWN), R(0, 5, 6), R(1, 7, 8));
    EXPECT(YES, W(1, 1, UNKNOWN), R(0, 5, 6), R(0, 7, 8));
    EXPECT(YES, W(2, 1, 2), W(1, 3, UNKNOWN), R(2, 5, 6), W(3, 7, 8), R(1, 9, 10));
    /* Not before it was sent, nor twice. */
    EXPECT(NO, R(1, 1, 2), W(1, 3, UNKNOWN));
    EXPECT(NO, W(1, 1, UNKNOWN), R(1, 2, 3), W(2, 4, 5), R(2, 6, 7), R(1, 8, 9));
}

static void lost_writes_are_found(void **state)
{
    (void)state;
    EXPECT(NO, W(1, 1, 2), R(1, 3, 4), R(0, 5, 6));
    EXPECT(NO, W(1, 1, 4), W(2, 2, 3), R(0, 5, 6));
}

/* A register that is right by construction: each operation takes effect at a moment between its
 * ends. Then one read is falsified. */
static void random_histories_pass_and_falsified_ones_do_not(void **state)
{
    enum { OPS = 400, CLIENTS = 6 };
    struct random random;
    unsigned falsified = 0, found = 0;

    (void)state;
    random_init(&random, random_seed());
    for (int round = 0; round < 60; round++) {
        struct history_op ops[OPS];
        uint64_t free_at[CLIENTS] = {0}, state_now = 0, moment = 0;
        for (size_t i = 0; i < OPS; i++) {
            uint64_t client = random_below(&random, CLIENTS);
            moment += 10;
            if (moment < free_at[client] + 2)
                moment = free_at[client] + 2;
            uint64_t room = moment - free_at[client] - 1;
            ops[i] = (struct history_op){.write = random_below(&random, 2) == 0, .value = i + 1};
            ops[i].begin = moment - random_below(&random, room < 60 ? room : 60);
            ops[i].end = moment + 1 + random_below(&random, 60);
            free_at[client] = ops[i].end + 1;
            if (ops[i].write)
                state_now = ops[i].value;
            else
                ops[i].value = state_now;
            if (ops[i].write && random_below(&random, 40) == 0)
                ops[i].end = HISTORY_UNKNOWN;
        }
        assert_int_equal(history_check(ops, OPS), YES);
        /* What was overwritten long ago. */
        for (size_t i = OPS - 1; i > OPS / 2; i--) {
            if (!ops[i].write && ops[i].value > 100) {
                ops[i].value = 0;
                falsified++;
                found += history_check(ops, OPS) == NO;
                break;
            }
        }
    }
    assert_true(falsified > 30);
    assert_int_equal(found, falsified);
}

#define SAW(number, of_revision, at)                                                               \
    {                                                                                              \
        .value = (number), .revision = (of_revision), .end = (at)                                  \
    }

static void a_session_that_is_taken_back_is_found(void **state)
{
    (void)state;
    const struct history_read good[] = {SAW(0, 0, 1), SAW(7, 3, 2), SAW(7, 3, 3),
                                        SAW(0, 0, 4), SAW(8, 9, 5), SAW(0, 0, 6)};
    const struct history_read back[] = {SAW(8, 9, 1), SAW(0, 0, 2), SAW(7, 3, 3)};
    const struct history_read changed[] = {SAW(8, 9, 1), SAW(7, 9, 2)};
    assert_true(history_is_monotonic(NULL, 0));
    assert_true(history_is_monotonic(good, sizeof good / sizeof good[0]));
    assert_false(history_is_monotonic(back, sizeof back / sizeof back[0]));
    assert_false(history_is_monotonic(changed, sizeof changed / sizeof changed[0]));
}

static void a_value_that_nobody_had_written_is_found(void **state)
{
    (void)state;
    const struct history_op ops[] = {W(5, 10, 20), W(6, 30, UNKNOWN), R(9, 1, 2)};
    const struct history_read good[] = {SAW(0, 0, 1), SAW(5, 1, 11), SAW(6, 2, 31), SAW(5, 1, 99)};
    const struct history_read early[] = {SAW(6, 2, 29)};
    const struct history_read never[] = {SAW(9, 2, 50)};
    assert_true(history_was_written(ops, 3, good, 4));
    assert_false(history_was_written(ops, 3, early, 1));
    assert_false(history_was_written(ops, 3, never, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_one_client_does_in_turn_is_judged_as_it_reads),
        cmocka_unit_test(a_read_during_a_write_may_see_either),
        cmocka_unit_test(a_stale_read_after_the_write_was_acknowledged_is_found),
        cmocka_unit_test(a_write_of_unknown_outcome_may_take_effect_late_or_never),
        cmocka_unit_test(lost_writes_are_found),
        cmocka_unit_test(a_session_that_is_taken_back_is_found),
        cmocka_unit_test(a_value_that_nobody_had_written_is_found),
        cmocka_unit_test(random_histories_pass_and_falsified_ones_do_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
