/* The process ends, or the power fails, at every single point of a flush, a demotion, a promotion,
 * a compaction and the making of a new state: what was durable is there, nothing deleted comes
 * back, and work goes on.
 *
 * TIERKV_CRASH_SEEDS: how many different subsets of what was not synced a power cut may lose at
 * each point (1).
 */
#include "crash_scenario.h"

/* Forks are slow under the sanitizer, which is to see errors of memory and needs no completeness.
 */
#ifdef __SANITIZE_ADDRESS__
#define POINTS_STRIDE 4
#else
#define POINTS_STRIDE 1
#endif

static struct crash_plan plan;

/* Appends of the cold tier do not go through the C library. */
static bool uring_before(void *context, const struct uring_op *op, uint32_t *length, int *result)
{
    (void)context;
    (void)length;
    struct iovec part = {.iov_base = op->buffer, .iov_len = op->length};
    struct libc_op as = {.kind = op->kind == URING_WRITE ? LIBC_WRITE : LIBC_SYNC, .fd = op->fd};
    ssize_t taken;
    if (op->kind == URING_READ)
        return false;
    if (op->kind == URING_WRITE) {
        as.parts = &part;
        as.n_parts = 1;
        as.offset = (off_t)op->offset;
    }
    if (!crash_points_take(&as, &taken))
        return false;
    *result = (int)taken;
    return true;
}

static const struct uring_faults uring_hook = {.before = uring_before};

static void arm(struct scenario *scenario)
{
    crash_points_arm(scenario->work, scenario->graves, &plan, scenario->report);
    uring_faults_set(&uring_hook);
}

/* A fresh copy of the prepared state, or nothing. */
static void work_reset(struct scenario *scenario, enum scenario_kind kind)
{
    temp_folder_remove(scenario->work);
    temp_folder_remove(scenario->graves);
    assert_int_equal(mkdir(scenario->graves, 0700), 0);
    if (kind == SCENARIO_OPENING)
        assert_int_equal(mkdir(scenario->work, 0700), 0);
    else
        folder_copy(scenario->base, scenario->work);
    memset(scenario->report, 0, sizeof *scenario->report);
    fflush(NULL);
}

/* Runs the plan; returns the child's status. */
static int run(struct scenario *scenario, enum scenario_kind kind)
{
    work_reset(scenario, kind);
    pid_t child = fork();
    if (child == 0)
        scenario_child(scenario, kind, arm);
    return scenario_wait(child);
}

static int survive(struct scenario *scenario, enum scenario_kind kind)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        scenario_survivor(scenario, kind);
    return scenario_wait(child);
}

static void point_try(struct scenario *scenario, enum scenario_kind kind)
{
    static const char *const words[] = {[CRASH_BEFORE] = "killed before",
                                        [CRASH_MIDDLE] = "killed in the middle of",
                                        [CRASH_POWER_ALL] = "power lost before",
                                        [CRASH_POWER_SOME] = "power lost during"};
    int status = run(scenario, kind);
    if (status != CRASH_EXIT_STATUS || (status = survive(scenario, kind)) != 0)
        fail_msg("%s point %llu (%s, seed %llu): status %d: %s", words[plan.fate],
                 (unsigned long long)plan.point, scenario->report->place,
                 (unsigned long long)plan.seed, status, scenario->report->text);
}

static void every_point(struct scenario *scenario, enum scenario_kind kind)
{
    const char *given = getenv("TIERKV_CRASH_SEEDS");
    uint64_t seeds = given != NULL ? strtoull(given, NULL, 10) : 1;
    plan = (struct crash_plan){.fate = CRASH_NEVER};
    int status = run(scenario, kind);
    if (status != 0)
        fail_msg("undisturbed: status %d: %s", status, scenario->report->text);
    uint64_t n = scenario->report->points;
    uint64_t runs = 0;
    assert_int_equal(survive(scenario, kind), 0);
    for (plan.point = 1; plan.point <= n; plan.point += POINTS_STRIDE) {
        for (plan.fate = CRASH_BEFORE; plan.fate <= CRASH_POWER_ALL; plan.fate++, runs++)
            point_try(scenario, kind);
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

/* The prepared state, and that each scenario does what it is there for. */
static void prepare(struct scenario *scenario)
{
    scenario_place(scenario, scenario->base);
    assert_int_equal(scenario_open(scenario), 0);
    scenario_model_set(scenario, SCENARIO_PREPARE, 0);
    assert_true(scenario_run(scenario, SCENARIO_PREPARE));
    scenario_check(scenario);
    struct tiers_stats stats = fixture_stats(scenario->f);
    print_message("prepared: %llu keys, %llu cold in %llu segments\n",
                  (unsigned long long)stats.warm_keys, (unsigned long long)stats.cold_keys,
                  (unsigned long long)stats.cold_segments);
    assert_true(stats.cold_keys > 20 && stats.cold_segments > 1);
    assert_true(stats.warm_keys > stats.cold_keys + 10);
    fixture_close(scenario->f);
    scenario_place(scenario, scenario->work);
    assert_int_equal(mkdir(scenario->work, 0700), 0);
    assert_int_equal(mkdir(scenario->graves, 0700), 0);
}

static int set_up(void **state)
{
    struct scenario *scenario = scenario_new();
    prepare(scenario);
    *state = scenario;
    return 0;
}

static int tear_down(void **state)
{
    scenario_free(*state);
    return 0;
}

static struct tiers_stats stats_of(struct scenario *scenario, enum scenario_kind kind)
{
    struct tiers_position position;
    work_reset(scenario, kind);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_scenario_does_its_kind_of_work),
        cmocka_unit_test(no_crash_harms_a_new_state),
        cmocka_unit_test(no_crash_harms_a_flush),
        cmocka_unit_test(no_crash_harms_a_demotion),
        cmocka_unit_test(no_crash_harms_a_promotion),
        cmocka_unit_test(no_crash_harms_a_compaction),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
