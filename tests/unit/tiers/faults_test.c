/* Disks that fail: at every single point of every scenario the operation fails, or is cut short, or
 * interrupted, once or from then on. The engine answers clearly, no read ever has a wrong value,
 * and what was durable is there afterwards, also if the power fails at the end.
 */
#include "crash_damage.h"
#include "crash_scenario.h"

#include "cold_compact.h"
#include "file.h"

/* One process runs on after a failure, so that a run is longer than one that is killed. */
#ifdef __SANITIZE_ADDRESS__
#define POINTS_STRIDE 8
#else
#define POINTS_STRIDE 1
#endif

static struct crash_plan plan;
static bool power_off;

static void arm(struct scenario *scenario)
{
    scenario->failures = true;
    scenario_arm(scenario, &plan);
}

/* A failed sync leaves nothing to go on with, but for LMDB's, which writes all of it again when
 * there is space; and an unlink that is not durable is repeated by the next opening. */
static bool must_have_stopped(const struct scenario *scenario)
{
    return scenario->report->kind == LIBC_SYNC && plan.error == EIO &&
           strstr(scenario->report->place, ".seg") != NULL;
}

/* An interrupted write is repeated, and a full disk or quota is waited for; only without its meta
 * page, which takes no new space, LMDB cannot go on. */
static bool must_go_on(const struct scenario *scenario)
{
    bool meta_page = strstr(scenario->report->place, " 120 bytes") != NULL;
    return scenario->report->kind == LIBC_WRITE && plan.fate == CRASH_FAIL && plan.error != EIO &&
           (plan.error == EINTR || !meta_page);
}

static void child(struct scenario *scenario, enum scenario_kind kind)
{
    struct tiers_position position;
    arm(scenario);
    int error = scenario_open(scenario);
    if (error != 0) {
        if (!scenario->failures || scenario->f->text[0] == '\0' || error == TIERS_CORRUPT)
            scenario_defect(scenario, "refused to open (%d): %.400s", error, scenario->f->text);
    } else {
        tiers_position_applied(scenario->f->tiers, &position);
        scenario_model_set(scenario, kind, position.index);
        if (scenario_run(scenario, kind))
            scenario_check(scenario);
        bool stopped = tiers_flush(scenario->f->tiers) == TIERS_STOPPED;
        if (must_have_stopped(scenario) && !stopped)
            scenario_defect(scenario, "it goes on after a failed sync");
        if (must_go_on(scenario) && stopped)
            scenario_defect(scenario, "it stopped without need");
        (void)tiers_close(scenario->f->tiers);
    }
    if (power_off)
        crash_points_power_off();
    _exit(CRASH_EXIT_STATUS);
}

static void point_try(struct scenario *scenario, enum scenario_kind kind)
{
    scenario_reset(scenario, kind);
    pid_t pid = fork();
    if (pid == 0)
        child(scenario, kind);
    int status = scenario_wait(pid);
    if (status != CRASH_EXIT_STATUS || (status = scenario_survive(scenario, kind)) != 0)
        fail_msg("%s%s (%s) at point %llu (%s)%s: status %d: %s", plan.lasting ? "lasting " : "",
                 plan.fate == CRASH_SHORT ? "cut" : "failure",
                 plan.error != 0 ? strerror(plan.error) : "short", (unsigned long long)plan.point,
                 scenario->report->place, power_off ? ", then no power" : "", status,
                 scenario->report->text);
}

/* Whether an operation of that kind can meet with the plan. */
static bool possible(enum libc_kind kind)
{
    if (plan.fate == CRASH_SHORT || plan.error == EINTR)
        return kind == LIBC_WRITE;
    return plan.error == EIO || kind == LIBC_WRITE || kind == LIBC_CREATE || kind == LIBC_MKDIR ||
           kind == LIBC_SYNC;
}

static void every_point(struct scenario *scenario, enum scenario_kind kind)
{
    static const struct crash_plan plans[] = {
        {.fate = CRASH_FAIL, .error = EIO},
        {.fate = CRASH_FAIL, .error = EDQUOT, .lasting = true},
        {.fate = CRASH_SHORT},
        {.fate = CRASH_FAIL, .error = EINTR},
    };
    uint64_t runs = 0;
    scenario_count(scenario, kind);
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
        plan = plans[i];
        for (plan.point = 1; plan.point <= scenario->n_points; plan.point += POINTS_STRIDE) {
            if (!possible(scenario->kinds[plan.point]))
                continue;
            power_off = !power_off;
            point_try(scenario, kind);
            runs++;
        }
    }
    print_message("%llu points, %llu failures\n", (unsigned long long)scenario->n_points,
                  (unsigned long long)runs);
}

static void no_failure_harms_a_new_state(void **state)
{
    every_point(*state, SCENARIO_OPENING);
}

static void no_failure_harms_a_flush(void **state)
{
    every_point(*state, SCENARIO_FLUSH);
}

static void no_failure_harms_a_demotion(void **state)
{
    every_point(*state, SCENARIO_DEMOTION);
}

static void no_failure_harms_a_promotion(void **state)
{
    every_point(*state, SCENARIO_PROMOTION);
}

static void no_failure_harms_a_compaction(void **state)
{
    every_point(*state, SCENARIO_COMPACTION);
}

static void no_failure_harms_what_the_scrubber_saves(void **state)
{
    every_point(*state, SCENARIO_SCRUB);
}

/* ---- A quota ---- */

static bool write_cut(void *context, const struct libc_op *op, ssize_t *result)
{
    (void)context;
    *result = 1;
    return op->kind == LIBC_WRITE;
}

static int allocation_refused(void *context, const struct file_op *op)
{
    (void)context;
    return op->kind == FILE_ALLOCATE ? EDQUOT : 0;
}

/* LMDB says EIO when a write is cut short, and statvfs(2) knows nothing of quotas. */
static void a_write_that_a_quota_cuts_short_waits_for_space(void **state)
{
    static const struct libc_faults short_writes = {.before = write_cut};
    static const struct file_faults no_room = {.before = allocation_refused};
    struct fixture *f = fixture_new();
    struct model *model = model_new(4);
    (void)state;
    fixture_open(f, false);
    for (size_t i = 0; i < model->n; i++)
        model_put_group(f->tiers, model, i, 3000);
    libc_faults_set(&short_writes);
    file_faults_set(&no_room);
    int error = tiers_flush(f->tiers);
    bool full = tiers_no_space(f->tiers);
    libc_faults_set(NULL);
    file_faults_set(NULL);
    assert_int_equal(error, TIERS_NO_SPACE);
    assert_true(full);
    assert_int_equal(tiers_flush(f->tiers), 0);
    assert_false(tiers_no_space(f->tiers));
    model_expect_all(model, f->tiers);
    model_free(model);
    fixture_free(f);
}

static void a_write_that_is_cut_short_without_need_stops_the_engine(void **state)
{
    static const struct libc_faults short_writes = {.before = write_cut};
    struct fixture *f = fixture_new();
    struct model *model = model_new(1);
    (void)state;
    fixture_open(f, false);
    model_put_group(f->tiers, model, 0, 3000);
    libc_faults_set(&short_writes);
    int error = tiers_flush(f->tiers);
    libc_faults_set(NULL);
    assert_int_equal(error, TIERS_STOPPED);
    assert_int_equal(f->failures, 1);
    assert_int_equal(tiers_close(f->tiers), TIERS_STOPPED);
    f->tiers = NULL;
    model_free(model);
    fixture_free(f);
}

/* ---- Some chunks of demotion, or batches of compaction, at once ---- */

static bool write_refused(void *context, const struct libc_op *op, ssize_t *result)
{
    (void)context;
    *result = -ENOSPC;
    return op->kind == LIBC_WRITE;
}

/* The warm tier is far over its budget. */
static struct fixture *crowded_fixture(struct model *model)
{
    struct fixture *f = fixture_new();
    f->options.warm_map_bytes = 0;
    f->options.warm_bytes = 1u << 30;
    f->options.now_ms = fixture_clock;
    fixture_open(f, false);
    for (size_t i = 0; i < model->n; i++) {
        model_put_group(f->tiers, model, i, 8000);
        if (i % 50 == 49)
            assert_int_equal(tiers_flush(f->tiers), 0);
    }
    assert_int_equal(tiers_flush(f->tiers), 0);
    fixture_close(f);
    f->options.warm_bytes = 1u << 20;
    fixture_open(f, false);
    return f;
}

/* What was prepared behind it meanwhile: its turn comes again, too. */
static void a_chunk_whose_pointers_find_no_room_is_demoted_later(void **state)
{
    static const struct libc_faults no_room = {.before = write_refused};
    struct model *model = model_new(6000);
    (void)state;
    struct fixture *f = crowded_fixture(model);
    struct mover *mover = f->tiers->mover;
    mover->threaded = true; /* As far as mover_demote is concerned */
    libc_faults_set(&no_room);
    /* The first may have failed before the thread that prepares the others began. */
    unsigned n = 0;
    for (unsigned tries = 0; n < 2 && tries < 100; tries++) {
        mover->one_by_one = false;
        n = mover_demote(mover);
        assert_int_equal(mover->demotion.hand_len, 0);
        assert_int_equal(fixture_stats(f).demoted_keys, 0);
    }
    assert_in_range(n, 2, 3);
    /* Copies that nothing will point to are not made again and again. */
    assert_int_equal(mover_demote(mover), 1);
    libc_faults_set(NULL);
    mover->threaded = false;
    model_expect_all(model, f->tiers);
    f->clock_ms += 10000;
    for (int i = 0; i < 10000 && mover_step(mover); i++)
        ;
    assert_true(fixture_stats(f).warm_used_bytes <= f->options.warm_bytes);
    model_expect_all(model, f->tiers);
    fixture_close(f);
    fixture_open(f, false);
    model_expect_all(model, f->tiers);
    model_free(model);
    fixture_free(f);
}

/* Two of three keys of a store that is cold as a whole are gone. */
static struct fixture *dead_fixture(struct model *model)
{
    struct fixture *f = fixture_new();
    f->options.now_ms = fixture_clock;
    f->options.cold_segment_bytes = 64u << 20;
    fixture_open(f, false);
    for (size_t i = 0; i < model->n; i++) {
        model_put_group(f->tiers, model, i, 8000);
        if (i % 50 == 49) {
            assert_int_equal(tiers_flush(f->tiers), 0);
            (void)mover_step(f->tiers->mover);
        }
    }
    for (int i = 0; i < 10000 && mover_step(f->tiers->mover); i++)
        ;
    fixture_close(f); /* Seals the segment */
    fixture_open(f, false);
    for (size_t i = 0; i < model->n; i++) {
        if (i % 3 != 0)
            model_delete_group(f->tiers, model, i);
    }
    assert_int_equal(tiers_flush(f->tiers), 0);
    return f;
}

/* What was prepared behind it meanwhile is dead from birth, and its records are found again. */
static void a_batch_whose_pointers_find_no_room_is_compacted_later(void **state)
{
    static const struct libc_faults no_room = {.before = write_refused};
    struct model *model = model_new(6000);
    (void)state;
    struct fixture *f = dead_fixture(model);
    struct mover *mover = f->tiers->mover;
    mover->threaded = true; /* As far as compaction is concerned */
    libc_faults_set(&no_room);
    /* One batch is a third of what was scanned for it; until there were two. */
    uint64_t appended = 0;
    for (unsigned tries = 0; appended < MOVER_BATCH_BYTES_MAX / 2 && tries < 100; tries++) {
        uint64_t before = cold_appended_bytes(f->tiers->cold);
        mover->one_by_one = false;
        f->clock_ms += 10000;
        (void)cold_compact_step(mover);
        appended = cold_appended_bytes(f->tiers->cold) - before;
        assert_int_equal(fixture_stats(f).compacted_bytes, 0);
        assert_null(mover->compaction);
    }
    assert_true(appended >= MOVER_BATCH_BYTES_MAX / 2);
    uint64_t before = cold_appended_bytes(f->tiers->cold);
    f->clock_ms += 10000;
    (void)cold_compact_step(mover);
    assert_true(cold_appended_bytes(f->tiers->cold) - before < MOVER_BATCH_BYTES_MAX / 2);
    libc_faults_set(NULL);
    model_expect_all(model, f->tiers);
    f->clock_ms += 10000;
    for (int i = 0; i < 1000 && cold_compact_step(mover); i++)
        ;
    mover->threaded = false;
    assert_true(fixture_stats(f).compacted_segments > 0);
    model_expect_all(model, f->tiers);
    fixture_close(f); /* Seals the segment, where the dead from birth are */
    fixture_open(f, false);
    for (int i = 0; i < 1000 && cold_compact_step(f->tiers->mover); i++)
        ;
    assert_in_range(fixture_stats(f).cold_bytes, 0, 2 * fixture_stats(f).cold_live_bytes);
    model_expect_all(model, f->tiers);
    model_free(model);
    fixture_free(f);
}

static bool is_pending(const struct mover *mover, uint64_t id)
{
    for (size_t i = 0; i < mover->n_pending; i++) {
        if (mover->pending[i].id == id)
            return true;
    }
    return false;
}

/* Every row names a file. Returns whether one names this segment. */
static bool rows_check(struct fixture *f, uint64_t wanted)
{
    struct warm_segment *segments = NULL;
    size_t n = 0;
    bool found = false;
    assert_int_equal(warm_segments(f->tiers->warm, &segments, &n), 0);
    for (size_t i = 0; i < n; i++) {
        char path[TEMP_FOLDER_PATH_BYTES + 64];
        snprintf(path, sizeof path, "%s/%016llx.seg", f->cold_dir,
                 (unsigned long long)segments[i].id);
        assert_int_equal(access(path, R_OK), 0);
        found = found || segments[i].id == wanted;
    }
    free(segments);
    return found;
}

/* A segment grew, and was sealed, by chunks whose pointers found no room; with nothing alive in it
 * it was dropped before the row that says how long it is had its turn. */
static void a_segment_that_was_dropped_does_not_come_back(void **state)
{
    static const struct libc_faults no_room = {.before = write_refused};
    struct fixture *f = fixture_new();
    struct model *model = model_new(930);
    uint64_t id = 0;
    (void)state;
    f->options.now_ms = fixture_clock;
    fixture_open(f, false);
    struct mover *mover = f->tiers->mover;
    for (unsigned round = 0; round < 2; round++) {
        for (size_t i = 0; i < model->n; i++) {
            model_put_group(f->tiers, model, i, 1000);
            if (i % 200 == 0)
                assert_int_equal(tiers_flush(f->tiers), 0);
        }
        assert_int_equal(tiers_flush(f->tiers), 0);
        for (unsigned i = 0; round == 0 && i < 300; i++) {
            f->clock_ms += 50;
            (void)mover_step(mover);
        }
    }
    libc_faults_set(&no_room);
    for (unsigned i = 0; mover->chunks_since_compaction < 2 && i < 100; i++) {
        f->clock_ms += 3000;
        (void)mover_step(mover);
    }
    libc_faults_set(NULL);
    for (size_t i = 0; i < mover->n_pending && id == 0; i++) {
        if (rows_check(f, mover->pending[i].id) &&
            !cold_segment_active(f->tiers->cold, mover->pending[i].id))
            id = mover->pending[i].id;
    }
    assert_true(id != 0);
    f->clock_ms += 3000;
    for (unsigned i = 0; i < 100 && (rows_check(f, id) || is_pending(mover, id)); i++) {
        f->clock_ms++;
        (void)mover_step(mover);
    }
    for (unsigned i = 0; i < 20; i++) {
        assert_false(rows_check(f, id));
        f->clock_ms++;
        (void)mover_step(mover);
    }
    model_expect_all(model, f->tiers);
    fixture_close(f);
    fixture_open(f, false);
    model_expect_all(model, f->tiers);
    model_free(model);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_failure_harms_a_new_state),
        cmocka_unit_test(no_failure_harms_a_flush),
        cmocka_unit_test(no_failure_harms_a_demotion),
        cmocka_unit_test(no_failure_harms_a_promotion),
        cmocka_unit_test(no_failure_harms_a_compaction),
        cmocka_unit_test_setup_teardown(no_failure_harms_what_the_scrubber_saves, scenario_damage,
                                        scenario_repair),
        cmocka_unit_test(a_write_that_a_quota_cuts_short_waits_for_space),
        cmocka_unit_test(a_write_that_is_cut_short_without_need_stops_the_engine),
        cmocka_unit_test(a_chunk_whose_pointers_find_no_room_is_demoted_later),
        cmocka_unit_test(a_batch_whose_pointers_find_no_room_is_compacted_later),
        cmocka_unit_test(a_segment_that_was_dropped_does_not_come_back),
    };
    return cmocka_run_group_tests(tests, scenario_set_up, scenario_tear_down);
}
