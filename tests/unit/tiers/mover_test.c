/* The mover, driven step by step without its thread: what moves between the tiers, and what must
 * not.
 */
#include "engine_fixture.h"

#include "mover_private.h"

#include "cold_compact.h"
#include "warm_private.h"

#define VALUE_BYTES 4000

static int set_up(void **state)
{
    struct fixture *f = fixture_new();
    f->options.now_ms = fixture_clock;
    fixture_open(f, false);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture_free(*state);
    return 0;
}

static void steps(struct fixture *f)
{
    for (int i = 0; i < 10000 && mover_step(f->tiers->mover); i++) {
    }
}

/* Keys [from, to) put and flushed. */
static void fill(struct fixture *f, struct model *model, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        model_put_group(f->tiers, model, i, VALUE_BYTES);
        if (i % 50 == 49) {
            assert_int_equal(tiers_flush(f->tiers), 0);
        }
    }
    assert_int_equal(tiers_flush(f->tiers), 0);
}

/* Where the index has a key. */
static struct warm_item item_of(struct fixture *f, size_t number)
{
    char key[32];
    size_t key_len = model_key_text(number, key);
    struct warm_read *read = NULL;
    struct warm_item item;
    assert_int_equal(warm_read_open(f->tiers->warm, &read), 0);
    assert_int_equal(warm_read_begin(read), 0);
    assert_int_equal(warm_get(read, TIERS_SPACE_USER, key, key_len, &item), 0);
    warm_read_end(read);
    warm_read_close(read);
    item.value = NULL;
    return item;
}

static size_t first_cold(struct fixture *f, const struct model *model)
{
    for (size_t i = 0; i < model->n; i++) {
        if (model->keys[i].exists && item_of(f, i).cold) {
            return i;
        }
    }
    fail_msg("no key is cold");
    return 0;
}

static void a_flush_comes_when_a_write_is_old_enough(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(1);
    model_put_group(f->tiers, model, 0, 10);
    mover_step(f->tiers->mover);
    assert_int_equal(f->durable_index, 0);
    f->clock_ms += f->options.flush_interval_ms;
    mover_step(f->tiers->mover);
    assert_int_equal(f->durable_index, 1);
    assert_int_equal(fixture_stats(f).dirty_bytes, 0);
    model_free(model);
}

static void a_flush_that_is_asked_for_comes_at_once_and_once(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(2);
    struct tiers_position durable, applied;
    model_put_group(f->tiers, model, 0, 10);
    tiers_flush_soon(f->tiers);
    (void)mover_step(f->tiers->mover);
    tiers_position_durable(f->tiers, &durable);
    tiers_position_applied(f->tiers, &applied);
    assert_int_equal(durable.index, applied.index);
    model_put_group(f->tiers, model, 1, 10);
    (void)mover_step(f->tiers->mover);
    tiers_position_durable(f->tiers, &durable);
    assert_int_equal(durable.index, applied.index);
    model_free(model);
}

static void empty_groups_become_durable_too(void **state)
{
    struct fixture *f = *state;
    tiers_apply_begin(f->tiers, 7);
    tiers_apply_end(f->tiers);
    f->clock_ms += f->options.flush_interval_ms;
    mover_step(f->tiers->mover);
    assert_int_equal(f->durable_index, 7);
}

static void an_overwritten_key_costs_one_warm_write(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(1);
    for (int i = 0; i < 100; i++) {
        model_put_group(f->tiers, model, 0, 10);
    }
    assert_int_equal(tiers_flush(f->tiers), 0);
    assert_int_equal(fixture_stats(f).flushed_keys, 1);
    model_expect_all(model, f->tiers);
    model_free(model);
}

static void demotion_brings_the_warm_tier_into_its_budget(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(1000);
    fill(f, model, 0, model->n);
    assert_true(fixture_stats(f).warm_used_bytes > f->options.warm_bytes);
    steps(f);
    struct tiers_stats stats = fixture_stats(f);
    assert_true(stats.warm_used_bytes <= f->options.warm_bytes);
    assert_true(stats.cold_keys > 500);
    assert_int_equal(stats.cold_keys, stats.demoted_keys);
    assert_int_equal(stats.warm_keys, model->n);
    model_expect_all(model, f->tiers);
    fixture_close(f);
    fixture_open(f, false);
    model_expect_all(model, f->tiers);
    assert_true(fixture_stats(f).hits_cold > 500);
    model_free(model);
}

/* Reads of keys [from, to), as the sketch sees them. */
static void heat_up(struct fixture *f, size_t from, size_t to, int times)
{
    for (size_t i = from; i < to; i++) {
        char key[32];
        size_t key_len = model_key_text(i, key);
        for (int n = 0; n < times; n++) {
            heat_touch(f->tiers->heat, record_key_hash(TIERS_SPACE_USER, key, key_len));
        }
    }
}

static void hot_keys_stay_warm(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(1000);
    fill(f, model, 0, model->n);
    for (size_t i = 0; i < 100; i++) {
        heat_up(f, i * 10, i * 10 + 1, 8);
    }
    steps(f);
    size_t cold = 0;
    for (size_t i = 0; i < 100; i++) {
        cold += item_of(f, i * 10).cold;
    }
    assert_int_equal(cold, 0);
    model_free(model);
}

static void demotion_never_resurrects_an_overwritten_or_deleted_key(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(600);
    fill(f, model, 0, model->n);
    heat_up(f, 80, model->n, 5);
    /* Newer versions exist in memory while the old ones are demoted. */
    for (size_t i = 0; i < 40; i++) {
        model_put_group(f->tiers, model, i, 100);
        model_delete_group(f->tiers, model, 40 + i);
    }
    while (mover_demote_due(f->tiers->mover)) {
        mover_demote(f->tiers->mover);
    }
    assert_true(item_of(f, 0).cold);
    model_expect_all(model, f->tiers);
    assert_int_equal(tiers_flush(f->tiers), 0);
    model_expect_all(model, f->tiers);
    assert_false(item_of(f, 0).cold);
    fixture_close(f);
    fixture_open(f, false);
    model_expect_all(model, f->tiers);
    model_free(model);
}

/* Offers the cold value of a key as a reader would. */
static void offer(struct fixture *f, struct model *model, size_t number)
{
    char key[32];
    size_t key_len = model_key_text(number, key);
    struct warm_item item = item_of(f, number);
    assert_true(item.cold);
    model_value_fill(number, item.meta.mod_revision, model->value, item.value_len);
    struct tiers_record *record =
        record_new(TIERS_SPACE_USER, key, key_len, model->value, item.value_len, &item.meta);
    assert_non_null(record);
    mover_offer(f->tiers->mover, record, &item.location);
    tiers_record_release(record);
}

static void promotion_makes_a_cold_value_inline_again(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(600);
    fill(f, model, 0, model->n);
    steps(f);
    size_t number = first_cold(f, model);
    uint64_t live = fixture_stats(f).cold_live_bytes;
    offer(f, model, number);
    mover_promote_batch(f->tiers->mover);
    assert_false(item_of(f, number).cold);
    assert_int_equal(fixture_stats(f).promoted_warm_keys, 1);
    assert_true(fixture_stats(f).cold_live_bytes < live);
    model_expect_all(model, f->tiers);
    model_free(model);
}

static void promotion_stops_where_its_share_of_time_ends(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(600);
    fill(f, model, 0, model->n);
    steps(f);
    size_t number = first_cold(f, model);
    for (size_t i = 0; i < 10; i++) {
        offer(f, model, number + i);
    }
    f->tiers->mover->control.promote_us = 3 * controller_promotion_us(VALUE_BYTES);
    mover_promote_batch(f->tiers->mover);
    assert_int_equal(fixture_stats(f).promoted_warm_keys, 3);
    assert_int_equal(fixture_stats(f).promotions_refused, 7);
    model_expect_all(model, f->tiers);
    model_free(model);
}

static void promotion_never_resurrects_an_overwritten_deleted_or_recreated_key(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(600);
    fill(f, model, 0, model->n);
    steps(f);
    size_t number = first_cold(f, model);
    assert_true(item_of(f, number + 1).cold && item_of(f, number + 2).cold);
    for (size_t i = 0; i < 3; i++) {
        offer(f, model, number + i);
    }
    model_put_group(f->tiers, model, number, 50);
    model_delete_group(f->tiers, model, number + 1);
    model_delete_group(f->tiers, model, number + 2);
    model_put_group(f->tiers, model, number + 2, 60);
    assert_int_equal(tiers_flush(f->tiers), 0);
    mover_promote_batch(f->tiers->mover);
    assert_int_equal(fixture_stats(f).promoted_warm_keys, 0);
    fixture_close(f);
    fixture_open(f, false);
    model_expect_all(model, f->tiers);
    model_free(model);
}

static void promotion_checks_the_place_not_only_the_revision(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(600);
    fill(f, model, 0, model->n);
    steps(f);
    size_t number = first_cold(f, model);
    char key[32];
    size_t key_len = model_key_text(number, key);
    offer(f, model, number);
    /* The same version moves to another place, as compaction does it. */
    struct warm_item item = item_of(f, number);
    struct warm_write *write = NULL;
    item.location.offset += 8;
    assert_int_equal(warm_write_begin(f->tiers->warm, &write), 0);
    assert_int_equal(warm_put_cold(write, TIERS_SPACE_USER, key, key_len, &item.meta, item.digest,
                                   item.value_len, &item.location),
                     0);
    assert_int_equal(warm_write_commit(write), 0);
    mover_promote_batch(f->tiers->mover);
    assert_true(item_of(f, number).cold);
    model_free(model);
}

static void compaction_gives_back_the_space_of_dead_records(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(1000);
    fill(f, model, 0, model->n);
    steps(f);
    uint64_t bytes = fixture_stats(f).cold_bytes;
    assert_true(fixture_stats(f).cold_segments > 4);
    /* Two thirds of all keys vanish: every segment is more dead than alive. */
    for (size_t i = 0; i < model->n; i++) {
        if (i % 3 != 0) {
            model_delete_group(f->tiers, model, i);
        }
    }
    assert_int_equal(tiers_flush(f->tiers), 0);
    f->clock_ms += 10000;
    steps(f);
    struct tiers_stats stats = fixture_stats(f);
    assert_true(stats.compacted_segments > 4);
    assert_true(stats.cold_bytes < bytes * 2 / 3);
    assert_true(stats.compacted_bytes > 0);
    model_expect_all(model, f->tiers);
    fixture_close(f);
    fixture_open(f, false);
    model_expect_all(model, f->tiers);
    model_free(model);
}

static void a_flush_between_the_batches_of_a_compaction_is_respected(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(1000);
    fill(f, model, 0, model->n);
    steps(f);
    for (size_t i = 0; i < model->n; i++) {
        if (i % 3 != 0) {
            model_delete_group(f->tiers, model, i);
        }
    }
    assert_int_equal(tiers_flush(f->tiers), 0);
    /* Dirty and due: the mover flushes these in the middle of its work. */
    for (size_t i = 0; i < model->n; i += 6) {
        model_put_group(f->tiers, model, i, 70);
    }
    f->clock_ms += 10000;
    steps(f);
    assert_int_equal(f->durable_index, model->index);
    fixture_close(f);
    fixture_open(f, false);
    model_expect_all(model, f->tiers);
    model_free(model);
}

static void an_index_over_its_budget_ends_the_demotion(void **state)
{
    struct fixture *f = *state;
    enum { KEYS = 30000 };
    struct model *model = model_new(KEYS);
    for (size_t i = 0; i < KEYS;) {
        tiers_apply_begin(f->tiers, ++model->index);
        for (size_t k = 0; k < 1000; k++) {
            assert_int_equal(model_put(f->tiers, model, i++, 10), 0);
        }
        tiers_apply_end(f->tiers);
        assert_int_equal(tiers_flush(f->tiers), 0);
    }
    assert_true(fixture_stats(f).warm_used_bytes > f->options.warm_bytes);
    int n = 0;
    while (n < 1000 && mover_demote_due(f->tiers->mover)) {
        mover_demote(f->tiers->mover);
        n++;
    }
    assert_true(n < 1000);
    /* One more flush is no reason to begin again. */
    model_put_group(f->tiers, model, 0, 10);
    assert_int_equal(tiers_flush(f->tiers), 0);
    assert_false(mover_demote_due(f->tiers->mover));
    model_expect_all(model, f->tiers);
    model_free(model);
}

static size_t last_transaction(struct fixture *f)
{
    MDB_envinfo info;
    assert_int_equal(mdb_env_info(f->tiers->warm->env, &info), 0);
    return info.me_last_txnid;
}

/* It was packed when it was written, and all that could leave has left. */
static void an_index_over_its_budget_is_looked_at_once_after_a_restart_and_not_written(void **state)
{
    struct fixture *f = *state;
    enum { KEYS = 30000 };
    struct model *model = model_new(KEYS);
    for (size_t i = 0; i < KEYS;) {
        tiers_apply_begin(f->tiers, ++model->index);
        for (size_t k = 0; k < 1000; k++) {
            assert_int_equal(model_put(f->tiers, model, i++, 10), 0);
        }
        tiers_apply_end(f->tiers);
    }
    assert_int_equal(tiers_flush(f->tiers), 0);
    steps(f);
    fixture_close(f);
    fixture_open(f, false);
    assert_true(fixture_stats(f).warm_used_bytes > f->options.warm_bytes);
    size_t last = last_transaction(f);
    assert_true(mover_demote_due(f->tiers->mover));
    steps(f);
    assert_false(mover_demote_due(f->tiers->mover));
    assert_int_equal(last_transaction(f), last);
    model_expect_all(model, f->tiers);
    model_free(model);
}

static void nothing_is_promoted_while_the_index_alone_is_over_its_budget(void **state)
{
    struct fixture *f = *state;
    enum { KEYS = 30000 };
    struct model *model = model_new(KEYS);
    for (size_t i = 0; i < KEYS;) {
        tiers_apply_begin(f->tiers, ++model->index);
        for (size_t k = 0; k < 1000; k++, i++) {
            assert_int_equal(model_put(f->tiers, model, i, i == 0 ? VALUE_BYTES : 10), 0);
        }
        tiers_apply_end(f->tiers);
    }
    assert_int_equal(tiers_flush(f->tiers), 0);
    steps(f);
    assert_true(fixture_stats(f).warm_used_bytes > f->options.warm_bytes);
    size_t number = first_cold(f, model);
    offer(f, model, number);
    mover_promote_batch(f->tiers->mover);
    assert_true(item_of(f, number).cold);
    assert_int_equal(fixture_stats(f).promoted_warm_keys, 0);
    assert_int_equal(fixture_stats(f).promotions_refused, 1);
    model_expect_all(model, f->tiers);
    model_free(model);
}

/* Of each page one item is left: the rest of what they take is given back. */
static void an_index_over_its_budget_is_packed_when_its_pages_are_sparse(void **state)
{
    struct fixture *f = *state;
    enum { KEYS = 100000 };
    struct model *model = model_new(KEYS);
    for (size_t i = 0; i < KEYS;) {
        tiers_apply_begin(f->tiers, ++model->index);
        for (size_t k = 0; k < 1000; k++) {
            assert_int_equal(model_put(f->tiers, model, i++, 10), 0);
        }
        tiers_apply_end(f->tiers);
    }
    assert_int_equal(tiers_flush(f->tiers), 0);
    steps(f);
    /* LMDB joins pages that are less than a quarter full. */
    for (size_t i = 0; i < KEYS; i++) {
        if (i % 3 != 0) {
            model_delete_group(f->tiers, model, i);
        }
    }
    assert_int_equal(tiers_flush(f->tiers), 0);
    fixture_close(f);
    fixture_open(f, false);
    uint64_t before = fixture_stats(f).warm_used_bytes;
    assert_true(before > f->options.warm_bytes);
    steps(f);
    assert_true(fixture_stats(f).warm_used_bytes < before / 10 * 7);
    model_expect_all(model, f->tiers);
    model_free(model);
}

static bool active_is(const void *context, uint64_t id)
{
    const uint64_t *active = context;
    return *active == id;
}

static void the_deadest_sealed_segment_is_compacted_first(void **state)
{
    (void)state;
    uint64_t active = 4;
    const struct warm_segment segments[] = {
        {.id = 1, .bytes = 100, .live_bytes = 60}, {.id = 2, .bytes = 100, .live_bytes = 30},
        {.id = 3, .bytes = 100, .live_bytes = 10}, {.id = 4, .bytes = 100, .live_bytes = 0},
        {.id = 5, .bytes = 100, .live_bytes = 49},
    };
    assert_int_equal(cold_compact_choose(segments, 5, active_is, &active), 2);
    assert_int_equal(cold_compact_choose(segments, 1, active_is, &active), 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_flush_comes_when_a_write_is_old_enough),
        TEST(a_flush_that_is_asked_for_comes_at_once_and_once),
        TEST(empty_groups_become_durable_too),
        TEST(an_overwritten_key_costs_one_warm_write),
        TEST(demotion_brings_the_warm_tier_into_its_budget),
        TEST(hot_keys_stay_warm),
        TEST(demotion_never_resurrects_an_overwritten_or_deleted_key),
        TEST(promotion_makes_a_cold_value_inline_again),
        TEST(promotion_stops_where_its_share_of_time_ends),
        TEST(promotion_never_resurrects_an_overwritten_deleted_or_recreated_key),
        TEST(promotion_checks_the_place_not_only_the_revision),
        TEST(compaction_gives_back_the_space_of_dead_records),
        TEST(a_flush_between_the_batches_of_a_compaction_is_respected),
        TEST(an_index_over_its_budget_ends_the_demotion),
        TEST(an_index_over_its_budget_is_looked_at_once_after_a_restart_and_not_written),
        TEST(nothing_is_promoted_while_the_index_alone_is_over_its_budget),
        TEST(an_index_over_its_budget_is_packed_when_its_pages_are_sparse),
        cmocka_unit_test(the_deadest_sealed_segment_is_compacted_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
