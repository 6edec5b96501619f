/* Compaction that nothing limits: batches are prepared while the pointers of others move, and the
 * applier changes keys of all of them. */
#include "engine_fixture.h"

#include "cold_compact.h"
#include "lib/random.h"
#include "mover_private.h"
#include "uring.h"

#include <poll.h>

#define KEYS        40000
#define VALUE_BYTES 2000
#define CHANGES     6000

/* Writes to the cold tier of any thread but the mover's own. */
struct writers {
    pthread_t mover;
    _Atomic bool known;
    _Atomic uint64_t others;
};

static bool writer_note(void *context, const struct uring_op *op, uint32_t *length, int *result)
{
    struct writers *writers = context;
    (void)length;
    (void)result;
    if (op->kind == URING_WRITE && atomic_load(&writers->known) &&
        !pthread_equal(writers->mover, pthread_self())) {
        atomic_fetch_add(&writers->others, 1);
    }
    return false;
}

static void compaction_await(struct fixture *f, uint64_t segments)
{
    int turns = 0;
    while (fixture_stats(f).compacted_segments < segments) {
        assert_true(turns++ < FIXTURE_TURNS_MAX);
        poll(NULL, 0, FIXTURE_TURN_MS);
    }
}

/* All values are cold, in a few large segments. */
static struct fixture *fixture_filled(struct model *model)
{
    struct fixture *f = fixture_new();
    f->options.hot_bytes = 8u << 20;
    f->options.warm_bytes = 4u << 20;
    f->options.warm_map_bytes = 0;
    f->options.cold_segment_bytes = 40u << 20;
    fixture_open(f, false);
    for (size_t i = 0; i < model->n;) {
        tiers_apply_begin(f->tiers, ++model->index);
        for (size_t k = 0; k < 500 && i < model->n; k++) {
            assert_int_equal(model_put(f->tiers, model, i++, VALUE_BYTES), 0);
        }
        tiers_apply_end(f->tiers);
        assert_int_equal(tiers_flush(f->tiers), 0);
        for (int steps = 0; steps < FIXTURE_TURNS_MAX && mover_step(f->tiers->mover); steps++)
            ;
    }
    return f;
}

static void delete_some(struct fixture *f, struct model *model, size_t kept_of)
{
    for (size_t i = 0; i < model->n;) {
        fixture_apply_ready_await(f->tiers);
        tiers_apply_begin(f->tiers, ++model->index);
        for (size_t k = 0; k < 500 && i < model->n; k++, i++) {
            if (i % kept_of != 0) {
                assert_int_equal(model_delete(f->tiers, model, i), 0);
            }
        }
        tiers_apply_end(f->tiers);
    }
}

static void changes_while_batches_are_under_way_are_never_undone(void **state)
{
    static struct writers writers;
    static const struct uring_faults hook = {.context = &writers, .before = writer_note};
    struct model *model = model_new(KEYS);
    struct random random;
    random_init(&random, random_seed());
    (void)state;
    uring_faults_set(&hook);
    struct fixture *f = fixture_filled(model);
    fixture_close(f);
    f->options.warm_bytes = 1u << 30; /* Nothing is demoted any more */
    fixture_open(f, true);
    uint64_t segments = fixture_stats(f).cold_segments;
    writers.mover = f->tiers->mover->thread;
    atomic_store(&writers.known, true);
    delete_some(f, model, 3);
    for (size_t i = 0; i < CHANGES; i++) {
        size_t number = random_below(&random, KEYS / 3) * 3;
        fixture_apply_ready_await(f->tiers);
        if (!model->keys[number].exists || random_below(&random, 4) != 0) {
            model_put_group(f->tiers, model, number, VALUE_BYTES + i % 100);
        } else {
            model_delete_group(f->tiers, model, number);
        }
    }
    assert_int_equal(tiers_flush(f->tiers), 0);
    compaction_await(f, segments);
    struct tiers_stats stats = fixture_stats(f);
    print_message("%llu bytes and %llu segments compacted, %llu writes by the second thread\n",
                  (unsigned long long)stats.compacted_bytes,
                  (unsigned long long)stats.compacted_segments,
                  (unsigned long long)atomic_load(&writers.others));
    model_expect_all(model, f->tiers);
    fixture_close(f);
    uring_faults_set(NULL);
    /* Else nothing was prepared elsewhere, and the test shows nothing. */
    assert_true(atomic_load(&writers.others) > 0);
    fixture_open(f, false);
    model_expect_all(model, f->tiers);
    fixture_free(f);
    model_free(model);
}

/* How much one step compacts, of segments that no thread works on. */
static uint64_t step_bytes(struct fixture *f)
{
    uint64_t before = fixture_stats(f).compacted_bytes;
    assert_true(cold_compact_step(f->tiers->mover));
    return fixture_stats(f).compacted_bytes - before;
}

/* Of each batch a third is alive. */
static void other_work_has_its_turn_after_each_batch(void **state)
{
    const uint64_t batch = MOVER_BATCH_BYTES_MAX / 2;
    struct model *model = model_new(KEYS);
    (void)state;
    struct fixture *f = fixture_filled(model);
    fixture_close(f);
    f->options.flush_interval_ms = 3600000;
    f->options.warm_bytes = 1u << 30;
    fixture_open(f, false);
    delete_some(f, model, 3);
    assert_int_equal(tiers_flush(f->tiers), 0);
    struct mover *mover = f->tiers->mover;
    mover->threaded = true; /* As far as compaction is concerned */
    mover->flush_wanted++;
    assert_in_range(step_bytes(f), 1, batch);
    mover->flush_wanted--;
    mover->stop = true;
    assert_in_range(step_bytes(f), 1, batch);
    mover->stop = false;
    f->tiers->options.warm_bytes = 4096;
    assert_true(mover_demote_due(mover));
    assert_in_range(step_bytes(f), 1, batch);
    f->tiers->options.warm_bytes = 1u << 30;
    assert_false(mover_demote_due(mover));
    assert_in_range(step_bytes(f), batch, SIZE_MAX);
    mover->threaded = false;
    model_expect_all(model, f->tiers);
    fixture_free(f);
    model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_while_batches_are_under_way_are_never_undone),
        cmocka_unit_test(other_work_has_its_turn_after_each_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
