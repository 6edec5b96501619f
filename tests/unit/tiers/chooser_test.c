/* The choice of the policy: synthetic predictions in, switches out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "chooser.h"

#define WINDOW_MS 10000
#define POLICIES  3

struct story {
    struct chooser chooser;
    uint64_t now_ms;
    double samples;
    unsigned switches;
};

static struct story story_new(void)
{
    return (struct story){.samples = 10000};
}

/* One window with these predictions; the reason that was given. */
static enum chooser_reason window(struct story *story, double first, double second, double third)
{
    const double hit_rates[POLICIES] = {first, second, third};
    struct chooser_decision decision;

    story->now_ms += WINDOW_MS;
    struct chooser_input input = {
        .now_ms = story->now_ms, .samples = story->samples, .n = POLICIES, .hit_rates = hit_rates};
    chooser_step(&story->chooser, &input, &decision);
    story->switches += decision.switched;
    return decision.reason;
}

static void the_best_policy_stays(void **state)
{
    (void)state;
    struct story story = story_new();

    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(window(&story, 0.8, 0.7, 0.6), CHOOSER_BEST);
    assert_int_equal(story.chooser.policy, 0);
}

static void a_policy_that_is_better_for_long_enough_takes_over(void **state)
{
    (void)state;
    struct story story = story_new();
    unsigned windows = 0;

    while (story.switches == 0 && windows < 100) {
        window(&story, 0.7, 0.75, 0.72);
        windows++;
    }
    assert_int_equal(story.chooser.policy, 1);
    /* Opening counts as a switch: the dwell of a minute is six windows. */
    assert_int_equal(windows, CHOOSER_DWELL_MS / WINDOW_MS);
    assert_int_equal(window(&story, 0.7, 0.75, 0.72), CHOOSER_BEST);
}

static void a_lead_within_the_margin_changes_nothing(void **state)
{
    (void)state;
    struct story story = story_new();

    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(window(&story, 0.7, 0.7 + CHOOSER_MARGIN - 0.001, 0.7),
                         CHOOSER_MARGIN_SMALL);
    /* Of many misses a few less are not worth it either. */
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(window(&story, 0.1, 0.12, 0.1), CHOOSER_MARGIN_SMALL);
    assert_int_equal(story.switches, 0);
}

static void a_lead_that_comes_and_goes_changes_nothing(void **state)
{
    (void)state;
    struct story story = story_new();

    for (unsigned i = 0; i < 60; i++) {
        if (i % CHOOSER_LEAD_WINDOWS == 0)
            window(&story, 0.7, 0.7, 0.7);
        else
            window(&story, 0.7, 0.8, 0.7);
    }
    assert_int_equal(story.switches, 0);
}

static void two_that_lead_by_turns_do_not_hinder_each_other(void **state)
{
    (void)state;
    struct story story = story_new();

    for (unsigned i = 0; i < 10 && story.switches == 0; i++)
        window(&story, 0.7, i % 2 ? 0.8 : 0.801, i % 2 ? 0.801 : 0.8);
    assert_int_equal(story.switches, 1);
    assert_int_not_equal(story.chooser.policy, 0);
}

static void switches_are_a_dwell_apart_however_the_load_swings(void **state)
{
    (void)state;
    struct story story = story_new();
    uint64_t last_ms = 0;

    for (unsigned i = 0; i < 600; i++) {
        unsigned before = story.switches;
        bool first = i / 5 % 2 == 0;
        window(&story, first ? 0.9 : 0.5, first ? 0.5 : 0.9, 0.6);
        if (story.switches > before) {
            assert_true(story.now_ms - last_ms >= CHOOSER_DWELL_MS);
            last_ms = story.now_ms;
        }
    }
    assert_true(story.switches > 0);
}

static void few_samples_decide_nothing(void **state)
{
    (void)state;
    struct story story = story_new();

    story.samples = CHOOSER_SAMPLES_MIN - 1;
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(window(&story, 0.1, 0.9, 0.9), CHOOSER_FEW_SAMPLES);
    assert_int_equal(story.switches, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_policy_stays),
        cmocka_unit_test(a_policy_that_is_better_for_long_enough_takes_over),
        cmocka_unit_test(a_lead_within_the_margin_changes_nothing),
        cmocka_unit_test(a_lead_that_comes_and_goes_changes_nothing),
        cmocka_unit_test(two_that_lead_by_turns_do_not_hinder_each_other),
        cmocka_unit_test(switches_are_a_dwell_apart_however_the_load_swings),
        cmocka_unit_test(few_samples_decide_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
