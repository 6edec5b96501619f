/* Which dirty generations a flush takes, and when: the mover is driven step by step. */
#include "engine_fixture.h"

#include "mover_private.h"

#include "warm_extent.h"

#include "lib/random.h"

#define SMALL 8    /* Bytes of a value: some fifty keys share a page of the index, */
#define LARGE 1500 /* or two */

static int set_up(void **state)
{
    struct fixture *f = fixture_new();
    f->options.now_ms = fixture_clock;
    f->options.hot_bytes = 64u << 20;
    f->options.warm_bytes = 128u << 20;
    f->options.flush_bytes = 16u << 20;
    fixture_open(f, false);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture_free(*state);
    return 0;
}

static uint64_t flushes(struct fixture *f)
{
    return fixture_stats(f).flushes;
}

/* Keys [from, to) in a generation of their own. */
static void generation_of(struct fixture *f, struct model *model, size_t from, size_t to,
                          size_t value_len)
{
    for (size_t i = from; i < to; i++) {
        model_put_group(f->tiers, model, i, value_len);
    }
    assert_int_equal(engine_freeze(f->tiers, true), 0);
}

/* So many keys from anywhere in the model likewise. */
static void generation_of_scattered(struct fixture *f, struct model *model, size_t n,
                                    struct random *random)
{
    while (dirty_active_keys(f->tiers->dirty) < n) {
        model_put_group(f->tiers, model, random_below(random, model->n), LARGE);
    }
    assert_int_equal(engine_freeze(f->tiers, true), 0);
}

static void generations_flushed_together_leave_the_position_of_the_last(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(3);
    for (size_t i = 0; i < 3; i++) {
        model_put_group(f->tiers, model, i, 10);
        generation_of(f, model, 0, 1, 20 + i);
    }
    assert_int_equal(tiers_flush(f->tiers), 0);
    assert_int_equal(flushes(f), 1);
    assert_int_equal(f->durable_index, 6);
    fixture_close(f);
    fixture_open(f, false);
    model_expect_all(model, f->tiers);
    model_free(model);
}

static void keys_that_count_upwards_wait_for_more_until_one_is_old_enough(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(4000);
    for (size_t from = 0; from < model->n; from += 1000) {
        generation_of(f, model, from, from + 1000, SMALL);
        mover_step(f->tiers->mover);
        assert_int_equal(flushes(f), 0);
    }
    f->clock_ms += f->options.flush_interval_ms;
    mover_step(f->tiers->mover);
    assert_int_equal(flushes(f), 1);
    assert_int_equal(f->durable_index, model->n);
    assert_int_equal(fixture_stats(f).flushed_keys, model->n);
    model_expect_all(model, f->tiers);
    model_free(model);
}

static void what_waits_goes_when_it_is_worth_a_transaction(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(100000);
    size_t n = 0;
    for (; flushes(f) == 0; n += 1000) {
        assert_true(n < model->n);
        assert_true(dirty_bytes(f->tiers->dirty) < f->options.flush_bytes);
        generation_of(f, model, n, n + 1000, SMALL);
        mover_step(f->tiers->mover);
    }
    assert_true(n > 4 * 1000);
    assert_int_equal(f->durable_index, n);
    model_free(model);
}

static void nothing_waits_while_an_applier_does(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(2000);
    fixture_close(f);
    f->options.dirty_bytes_max = 200000;
    fixture_open(f, false);
    for (size_t i = 0; i < model->n && tiers_apply_ready(f->tiers); i++) {
        model_put_group(f->tiers, model, i, SMALL);
    }
    assert_false(tiers_apply_ready(f->tiers));
    while (mover_step(f->tiers->mover)) {
    }
    assert_true(tiers_apply_ready(f->tiers));
    model_free(model);
}

/* Each of the generations changes most of the pages that a transaction may change. */
static void generations_of_scattered_keys_go_at_once_and_alone(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(12000);
    struct random random;
    random_init(&random, random_seed());
    generation_of(f, model, 0, model->n, LARGE);
    assert_int_equal(tiers_flush(f->tiers), 0);
    uint64_t before = flushes(f);
    generation_of_scattered(f, model, 3000, &random);
    mover_step(f->tiers->mover);
    assert_int_equal(flushes(f), before + 1);
    for (int i = 0; i < 3; i++) {
        generation_of_scattered(f, model, 3000, &random);
    }
    assert_int_equal(tiers_flush(f->tiers), 0);
    assert_int_equal(flushes(f), before + 4);
    /* As many neighbours change fewer. */
    for (size_t i = 0; i < 3; i++) {
        generation_of(f, model, 400 * i, 400 * (i + 1), LARGE);
    }
    assert_int_equal(tiers_flush(f->tiers), 0);
    assert_int_equal(flushes(f), before + 5);
    model_expect_all(model, f->tiers);
    model_free(model);
}

/* Several are tried one by one before the flush pauses, and it does pause. Only flushes: demotion
 * would make room. */
static void a_full_index_pauses_the_flush_of_several_generations(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(8000);
    fixture_close(f);
    f->options.warm_map_bytes = 4u << 20;
    fixture_open(f, false);
    for (size_t n = 0; !atomic_load(&f->tiers->no_space); n += 400) {
        assert_true(n < model->n);
        generation_of(f, model, n, n + 200, LARGE);
        generation_of(f, model, n + 200, n + 400, LARGE);
        f->clock_ms += f->options.flush_interval_ms;
        assert_true(mover_flush_due(f->tiers->mover));
        (void)mover_flush_run(f->tiers->mover, false);
    }
    assert_int_equal(f->pauses, 1);
    assert_false(mover_flush_due(f->tiers->mover));
    assert_true(f->durable_index > 0 && f->durable_index < model->index);
    model_free(model);
}

/* Pairs of neighbours far from all other pairs. */
static void keys_in_groups_do_not_mislead_the_sample(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(12000);
    struct mover_batch batch;
    generation_of(f, model, 0, model->n, LARGE);
    assert_int_equal(tiers_flush(f->tiers), 0);
    for (size_t n = 2048; n < 2051; n++) {
        for (size_t i = 0; i < n; i++) {
            model_put_group(f->tiers, model, i / 2 * 8 + i % 2, LARGE);
        }
        assert_int_equal(engine_freeze(f->tiers, true), 0);
        mover_gather(f->tiers->mover, 1, &batch);
        uint64_t new_pages = batch.charges / warm_page_bytes(f->tiers->warm);
        assert_in_range(batch.pages - new_pages, n / 4, n);
        assert_int_equal(tiers_flush(f->tiers), 0);
    }
    model_free(model);
}

/* By so many pages of the index LMDB's memory grows. */
static void the_pages_that_change_are_estimated_well(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(12000);
    struct mover_batch batch;
    struct random random;
    random_init(&random, random_seed());
    generation_of(f, model, 0, model->n, LARGE);
    assert_int_equal(tiers_flush(f->tiers), 0);
    /* Neighbours, as many as a generation takes: two to a page. */
    generation_of(f, model, 0, model->n, LARGE);
    mover_gather(f->tiers->mover, 1, &batch);
    uint64_t new_pages = batch.charges / warm_page_bytes(f->tiers->warm);
    size_t n = batch.generations[0]->n;
    assert_in_range(n, 4000, model->n);
    assert_in_range(batch.pages - new_pages, n / 4, n / 4 * 3);
    assert_int_equal(tiers_flush(f->tiers), 0);
    /* So few that hardly two share one. */
    generation_of_scattered(f, model, 300, &random);
    mover_gather(f->tiers->mover, 1, &batch);
    assert_in_range(batch.pages, 250, 300 + batch.charges / warm_page_bytes(f->tiers->warm) + 1);
    /* Behind all others: new pages only. */
    assert_int_equal(tiers_flush(f->tiers), 0);
    struct model *later = model_new(20000);
    later->index = model->index;
    later->revision = model->revision;
    generation_of(f, later, model->n, later->n, SMALL);
    mover_gather(f->tiers->mover, 1, &batch);
    assert_in_range(batch.pages, 1, 1 + batch.charges / warm_page_bytes(f->tiers->warm));
    model_free(later);
    model_free(model);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(generations_flushed_together_leave_the_position_of_the_last),
        TEST(keys_that_count_upwards_wait_for_more_until_one_is_old_enough),
        TEST(what_waits_goes_when_it_is_worth_a_transaction),
        TEST(nothing_waits_while_an_applier_does),
        TEST(generations_of_scattered_keys_go_at_once_and_alone),
        TEST(a_full_index_pauses_the_flush_of_several_generations),
        TEST(keys_in_groups_do_not_mislead_the_sample),
        TEST(the_pages_that_change_are_estimated_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
