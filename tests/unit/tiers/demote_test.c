/* Demotion in a hurry: one chunk is prepared while the pointers of another are made, and the
 * applier changes keys of both. */
#include "engine_fixture.h"

#include "lib/random.h"
#include "mover_private.h"
#include "uring.h"

#include <poll.h>

#define KEYS        24000
#define VALUE_BYTES 2000
#define CHANGES     6000

/* Which threads write to the cold tier: `others` counts writes of any but the first. */
struct writers {
    pthread_mutex_t mutex;
    bool known;
    pthread_t first;
    uint64_t others;
};

static bool writer_note(void *context, const struct uring_op *op, uint32_t *length, int *result)
{
    struct writers *writers = context;
    (void)length;
    (void)result;
    if (op->kind == URING_WRITE) {
        pthread_mutex_lock(&writers->mutex);
        if (!writers->known) {
            writers->first = pthread_self();
            writers->known = true;
        }
        writers->others += !pthread_equal(writers->first, pthread_self());
        pthread_mutex_unlock(&writers->mutex);
    }
    return false;
}

static void demotion_end_await(struct fixture *f)
{
    struct tiers_placement placement = {0};
    for (int turns = 0; turns < FIXTURE_TURNS_MAX; turns++) {
        tiers_placement(f->tiers, &placement);
        if (!placement.demoting && fixture_stats(f).warm_used_bytes <= f->options.warm_bytes) {
            return;
        }
        poll(NULL, 0, FIXTURE_TURN_MS);
    }
    fail_msg("the warm tier does not come into its budget");
}

/* The store as a model of all keys, most of them inline and the budget far below them. */
static struct fixture *fixture_filled(struct model *model, uint64_t warm_bytes)
{
    struct fixture *f = fixture_new();
    f->options.hot_bytes = 8u << 20;
    f->options.warm_bytes = 1u << 30;
    f->options.warm_map_bytes = 0;
    fixture_open(f, false);
    for (size_t i = 0; i < model->n;) {
        tiers_apply_begin(f->tiers, ++model->index);
        for (size_t k = 0; k < 500 && i < model->n; k++) {
            assert_int_equal(model_put(f->tiers, model, i++, VALUE_BYTES), 0);
        }
        tiers_apply_end(f->tiers);
        assert_int_equal(tiers_flush(f->tiers), 0);
    }
    fixture_close(f);
    f->options.warm_bytes = warm_bytes;
    fixture_open(f, true);
    return f;
}

static void changes_while_two_chunks_are_under_way_are_never_undone(void **state)
{
    static struct writers writers = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    static const struct uring_faults hook = {.context = &writers, .before = writer_note};
    struct model *model = model_new(KEYS);
    struct random random;
    random_init(&random, random_seed());
    (void)state;
    uring_faults_set(&hook);
    struct fixture *f = fixture_filled(model, 4u << 20);
    for (size_t i = 0; i < CHANGES; i++) {
        size_t number = random_below(&random, KEYS);
        fixture_apply_ready_await(f->tiers);
        if (random_below(&random, 4) == 0) {
            model_delete_group(f->tiers, model, number);
        } else {
            model_put_group(f->tiers, model, number, VALUE_BYTES + i % 100);
        }
    }
    assert_int_equal(tiers_flush(f->tiers), 0);
    demotion_end_await(f);
    model_expect_all(model, f->tiers);
    fixture_close(f);
    uring_faults_set(NULL);
    /* Else nothing was prepared elsewhere, and the test shows nothing. */
    assert_true(writers.others > 0);
    fixture_open(f, false);
    model_expect_all(model, f->tiers);
    fixture_free(f);
    model_free(model);
}

/* Chunks of a hurry are as large as the whole budget here, and the next but one is collected before
 * it is known how much the two before it give back. */
static void a_hurry_ends_where_the_budget_is_kept(void **state)
{
    const uint64_t budget = 12u << 20;
    struct model *model = model_new(KEYS);
    (void)state;
    struct fixture *f = fixture_filled(model, budget);
    demotion_end_await(f);
    print_message("%llu of %llu bytes left\n", (unsigned long long)fixture_stats(f).warm_used_bytes,
                  (unsigned long long)budget);
    assert_in_range(fixture_stats(f).warm_used_bytes, budget / 8 * 7, budget);
    model_expect_all(model, f->tiers);
    fixture_free(f);
    model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_while_two_chunks_are_under_way_are_never_undone),
        cmocka_unit_test(a_hurry_ends_where_the_budget_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
