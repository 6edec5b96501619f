/* The process ends, or the power fails, at every single point of a flush, a demotion, a promotion,
 * a compaction, the scrubber's finding of damage and the making of a new state: what was durable
 * is there, nothing deleted comes back, and work goes on.
 *
 * TIERKV_CRASH_SEEDS: how many different subsets of what was not synced a power cut may lose at
 * each point (1).
 */
#include "crash_damage.h"
#include "crash_scenario.h"

/* Forks are slow under the sanitizer, which is to see errors of memory and needs no completeness.
 */
#ifdef __SANITIZE_ADDRESS__
#define POINTS_STRIDE 4
#else
#define POINTS_STRIDE 1
#endif

static struct crash_plan plan;

static void arm(struct scenario *scenario)
{
    scenario_arm(scenario, &plan);
}

/* Runs the plan; returns the child's status. */
static int run(struct scenario *scenario, enum scenario_kind kind)
{
    scenario_reset(scenario, kind);
    pid_t child = fork();
    if (child == 0)
        scenario_child(scenario, kind, arm);
    return scenario_wait(child);
}

static void point_try(struct scenario *scenario, enum scenario_kind kind)
{
    static const char *const words[] = {[CRASH_BEFORE] = "killed before",
                                        [CRASH_MIDDLE] = "killed in the middle of",
                                        [CRASH_POWER_ALL] = "power lost before",
                                        [CRASH_POWER_SOME] = "power lost during"};
    int status = run(scenario, kind);
    if (status != CRASH_EXIT_STATUS || (status = scenario_survive(scenario, kind)) != 0)
        fail_msg("%s point %llu (%s, seed %llu): status %d: %s", words[plan.fate],
                 (unsigned long long)plan.point, scenario->report->place,
                 (unsigned long long)plan.seed, status, scenario->report->text);
}

static void every_point(struct scenario *scenario, enum scenario_kind kind)
{
    const char *given = getenv("TIERKV_CRASH_SEEDS");
    uint64_t seeds = given != NULL ? strtoull(given, NULL, 10) : 1;
    uint64_t runs = 0;
    scenario_count(scenario, kind);
    uint64_t n = scenario->n_points;
    for (plan.point = 1; plan.point <= n; plan.point += POINTS_STRIDE) {
        for (plan.fate = CRASH_BEFORE; plan.fate <= CRASH_POWER_ALL; plan.fate++) {
            /* After a point is before the next one. */
            if (plan.fate == CRASH_MIDDLE && scenario->kinds[plan.point] != LIBC_WRITE)
                continue;
            point_try(scenario, kind);
            runs++;
        }
        plan.fate = CRASH_POWER_SOME;
        for (plan.seed = 1; plan.seed <= seeds; plan.seed++, runs++)
            point_try(scenario, kind);
        plan.seed = 0;
    }
    print_message("%llu points, %llu crashes\n", (unsigned long long)n, (unsigned long long)runs);
}

static void no_crash_harms_a_new_state(void **state)
{
    every_point(*state, SCENARIO_OPENING);
}

static void no_crash_harms_a_flush(void **state)
{
    every_point(*state, SCENARIO_FLUSH);
}

static void no_crash_harms_a_demotion(void **state)
{
    every_point(*state, SCENARIO_DEMOTION);
}

static void no_crash_harms_a_promotion(void **state)
{
    every_point(*state, SCENARIO_PROMOTION);
}

static void no_crash_harms_a_compaction(void **state)
{
    every_point(*state, SCENARIO_COMPACTION);
}

/* What is damaged is lost with its record and named; all else outlives it. */
static void no_crash_harms_what_the_scrubber_saves(void **state)
{
    every_point(*state, SCENARIO_SCRUB);
}

static struct tiers_stats stats_of(struct scenario *scenario, enum scenario_kind kind)
{
    struct tiers_position position;
    scenario_reset(scenario, kind);
    assert_int_equal(scenario_open(scenario), 0);
    tiers_position_applied(scenario->f->tiers, &position);
    scenario_model_set(scenario, kind, position.index);
    assert_true(scenario_run(scenario, kind));
    struct tiers_stats stats = fixture_stats(scenario->f);
    fixture_close(scenario->f);
    return stats;
}

static void each_scenario_does_its_kind_of_work(void **state)
{
    struct tiers_stats flush = stats_of(*state, SCENARIO_FLUSH);
    assert_true(flush.flushes >= 3 && flush.demoted_keys == 0 && flush.compacted_segments == 0);
    assert_true(stats_of(*state, SCENARIO_DEMOTION).demoted_keys > 0);
    assert_true(stats_of(*state, SCENARIO_PROMOTION).promoted_warm_keys > 0);
    assert_true(stats_of(*state, SCENARIO_COMPACTION).compacted_segments > 1);
    assert_true(stats_of(*state, SCENARIO_COMPACTION).compacted_bytes > 0);
}

static void the_scrubber_finds_the_damage_and_saves_the_rest(void **state)
{
    struct tiers_stats stats = stats_of(*state, SCENARIO_SCRUB);
    assert_int_equal(stats.scrub_damages, 1);
    assert_true(stats.scrubbed_segments > 0 && stats.compacted_bytes > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_scenario_does_its_kind_of_work),
        cmocka_unit_test(no_crash_harms_a_new_state),
        cmocka_unit_test(no_crash_harms_a_flush),
        cmocka_unit_test(no_crash_harms_a_demotion),
        cmocka_unit_test(no_crash_harms_a_promotion),
        cmocka_unit_test(no_crash_harms_a_compaction),
        cmocka_unit_test_setup_teardown(the_scrubber_finds_the_damage_and_saves_the_rest,
                                        scenario_damage, scenario_repair),
        cmocka_unit_test_setup_teardown(no_crash_harms_what_the_scrubber_saves, scenario_damage,
                                        scenario_repair),
    };
    return cmocka_run_group_tests(tests, scenario_set_up, scenario_tear_down);
}
