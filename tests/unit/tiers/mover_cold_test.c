/* The mover's work at the cold disk: limits on bandwidth hold, and small values that are alike get
 * a dictionary. */
#include "cold_story.h"

/* ---- Limits ---- */

static void demotion_keeps_to_its_limit_unless_far_over_the_budget(void **state)
{
    struct story *story = *state;
    struct fixture *f = story->f;
    const uint64_t limit = 50000;
    f->options.cold_write_bytes_per_second_max = limit;
    fixture_open(f, false);
    fill(story);
    /* Far over the budget there is no limit: the clock stands, and much is demoted. */
    steps(f);
    uint64_t hurried = fixture_stats(f).cold_written_bytes;
    assert_true(hurried > 10 * limit);
    struct warm_usage usage;
    uint64_t budget = mover_warm_budget(f->tiers->mover);
    warm_usage(f->tiers->warm, &usage);
    assert_in_range(usage.used_bytes, budget / 8 * 7, budget + budget / 8);
    /* A little over it, the debt of the hurry is paid first. */
    for (size_t i = 0; !mover_demote_due(f->tiers->mover); i++) {
        assert_true(i < KEYS);
        model_put_group(f->tiers, story->model, i, VALUE_BYTES);
        assert_int_equal(tiers_flush(f->tiers), 0);
    }
    f->clock_ms += hurried * 1000 / limit - 2000;
    steps(f);
    assert_true(mover_demote_due(f->tiers->mover));
    assert_int_equal(fixture_stats(f).cold_written_bytes, hurried);
    f->clock_ms += 2000;
    /* Then it goes in pieces of a quarter of a second, or of the least size. */
    uint64_t paid_ms = f->clock_ms;
    for (size_t i = 0; mover_demote_due(f->tiers->mover); i++) {
        assert_true(i < 10000);
        steps(f);
        uint64_t written = fixture_stats(f).cold_written_bytes - hurried;
        assert_true(written <= limit * (f->clock_ms - paid_ms) / 1000 + limit);
        f->clock_ms += 100;
    }
    assert_true(fixture_stats(f).cold_written_bytes > hurried);
    model_expect_all(story->model, f->tiers);
}

static void compaction_keeps_to_its_limit(void **state)
{
    struct story *story = *state;
    struct fixture *f = story->f;
    const uint64_t limit = 200000;
    f->options.compact_bytes_per_second_max = limit;
    fixture_open(f, false);
    fill(story);
    steps(f);
    uint64_t segments = fixture_stats(f).cold_segments;
    uint64_t begin_ms = f->clock_ms;
    delete_most(story);
    uint64_t before = 0;
    while (fixture_stats(f).cold_segments > segments / 2 && f->clock_ms - begin_ms < 1000000) {
        f->clock_ms += 250;
        steps(f);
        uint64_t compacted = fixture_stats(f).compacted_bytes;
        /* Never more than the segment that was begun while there was no debt. */
        assert_true(compacted - before <= 2 * f->options.cold_segment_bytes);
        assert_true(compacted <=
                    limit * (f->clock_ms - begin_ms) / 1000 + 2 * f->options.cold_segment_bytes);
        before = compacted;
    }
    assert_true(before > 0);
    assert_true(fixture_stats(f).cold_segments <= segments / 2);
    assert_true(f->clock_ms - begin_ms >= 1000 * before / limit / 2);
    model_expect_all(story->model, f->tiers);
}

/* ---- The dictionary ---- */

#define SMALL_KEYS 120000

static size_t small_value(size_t number, char value[200])
{
    return (size_t)snprintf(value, 200,
                            "{\"service\":\"svc-%zu\",\"address\":\"10.0.%zu.%zu\",\"port\":%zu,"
                            "\"meta\":{\"region\":\"eu-central-1\",\"zone\":\"b\"}}",
                            number % 500, number / 256 % 256, number % 256, number * 7919 % 65536);
}

static void small_puts(struct fixture *f, size_t from, size_t to, uint64_t *index)
{
    for (size_t i = from; i < to;) {
        tiers_apply_begin(f->tiers, ++*index);
        for (size_t k = 0; k < 5000 && i < to; k++, i++) {
            char key[32];
            char value[200];
            size_t key_len = model_key_text(i, key);
            size_t value_len = small_value(i, value);
            assert_int_equal(tiers_put(f->tiers, TIERS_SPACE_USER, key, key_len, value, value_len,
                                       0, 0, tiers_revision_next(f->tiers)),
                             0);
        }
        tiers_apply_end(f->tiers);
        assert_int_equal(tiers_flush(f->tiers), 0);
        steps(f);
    }
}

static void small_values_that_are_alike_get_a_dictionary(void **state)
{
    struct story *story = *state;
    struct fixture *f = story->f;
    f->options.cold_segment_bytes = 1u << 20;
    fixture_open(f, false);
    uint64_t index = 0;
    size_t n = 0;
    while (n < SMALL_KEYS && fixture_stats(f).cold_dictionaries == 0) {
        small_puts(f, n, n + 5000, &index);
        n += 5000;
    }
    assert_int_equal(fixture_stats(f).cold_dictionaries, 1);
    struct tiers_stats before = fixture_stats(f);
    small_puts(f, n, n + 15000, &index);
    n += 15000;
    struct tiers_stats after = fixture_stats(f);
    double plain = (double)before.cold_live_bytes / (double)before.cold_keys;
    double packed = (double)(after.cold_live_bytes - before.cold_live_bytes) /
                    (double)(after.cold_keys - before.cold_keys);
    assert_true(packed < plain * 0.85);

    fixture_close(f);
    fixture_open(f, false);
    struct tiers_reader *reader = NULL;
    assert_int_equal(tiers_reader_open(f->tiers, &reader), 0);
    for (size_t i = 0; i < n; i += 97) {
        const struct tiers_record *record = NULL;
        char key[32];
        char value[200];
        size_t key_len = model_key_text(i, key);
        size_t value_len = small_value(i, value);
        assert_int_equal(tiers_reader_get_wait(reader, TIERS_SPACE_USER, key, key_len, &record), 0);
        assert_int_equal(record->value_len, value_len);
        assert_memory_equal(tiers_record_value(record), value, value_len);
        tiers_record_release(record);
    }
    tiers_reader_close(reader);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(demotion_keeps_to_its_limit_unless_far_over_the_budget),
        TEST(compaction_keeps_to_its_limit),
        TEST(small_values_that_are_alike_get_a_dictionary),
    };
    return cmocka_run_group_tests_name("mover_cold", tests, NULL, NULL);
}
