/* Asynchronous reads of the cold tier by several threads, whatever the mover does meanwhile. */
#include "unit/tiers/cold_fixture.h"

#include <pthread.h>
#include <sched.h>

#define N_THREADS 3
#define N_SHARED  400

struct shared {
    struct fixture *f;
    struct sample *samples;
    _Atomic size_t synced;  /* Samples below are durable */
    _Atomic size_t deleted; /* Samples below may be gone */
    _Atomic bool finished;
    _Atomic unsigned started;
    _Atomic unsigned wrong;
    _Atomic unsigned right;
};

struct thread_read {
    struct shared *shared;
    const struct sample *sample;
    size_t index;
};

static void thread_read_done(void *owner, int status, const struct cold_item *item)
{
    struct thread_read *read = owner;
    if (status == 0 && sample_equals(read->sample, item))
        atomic_fetch_add(&read->shared->right, 1);
    else
        atomic_fetch_add(&read->shared->wrong, 1);
    read->sample = NULL;
}

static void *read_until_finished(void *context)
{
    struct shared *shared = context;
    struct cold_reader *reader = NULL;
    if (cold_reader_open(shared->f->cold, -1, &reader) != 0) {
        atomic_fetch_add(&shared->wrong, 1);
        return NULL;
    }
    struct thread_read reads[8] = {0};
    uint64_t random = shared->f->random + atomic_fetch_add(&shared->started, 1);
    while (!atomic_load(&shared->finished)) {
        size_t synced = atomic_load(&shared->synced);
        for (size_t i = 0; i < 8 && synced > 0; i++) {
            if (reads[i].sample != NULL)
                continue;
            size_t index = random_next(&random) % synced;
            const struct sample *sample = &shared->samples[index];
            reads[i] = (struct thread_read){.shared = shared, .sample = sample, .index = index};
            int status = cold_reader_submit(reader, &sample->location, sample->space, sample->key,
                                            sample->key_len, sample->meta.mod_revision,
                                            thread_read_done, &reads[i]);
            if (status == 0)
                continue;
            reads[i].sample = NULL;
            if (status != TIERS_STALE || index >= atomic_load(&shared->deleted))
                atomic_fetch_add(&shared->wrong, 1);
        }
        if (cold_reader_wait(reader) == 0)
            sched_yield();
    }
    while (cold_reader_wait(reader) > 0)
        ;
    cold_reader_close(reader);
    return NULL;
}

/* Deletes all segments but the last few, as a mover does after compaction. */
static void delete_old_segments(struct shared *shared, size_t below)
{
    size_t keep = shared->samples[below].location.segment;
    size_t first_kept = 0;
    while (shared->samples[first_kept].location.segment < keep)
        first_kept++;
    atomic_store(&shared->deleted, first_kept);
    for (size_t i = 0; i < shared->f->n_known; i++)
        if (shared->f->known[i].id < keep)
            cold_segment_delete(shared->f->cold, shared->f->known[i].id);
}

static void readers_see_only_right_records_while_the_mover_works(void **state)
{
    struct fixture *f = *state;
    f->options.segment_bytes = 400000;
    fixture_reopen(f);
    struct shared shared = {.f = f, .samples = samples_make(N_SHARED, &f->random)};
    pthread_t threads[N_THREADS];
    for (size_t i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_until_finished, &shared), 0);
    for (size_t i = 0; i < N_SHARED; i++) {
        append(f, &shared.samples[i]);
        if (i % 20 != 19)
            continue;
        sync_all(f);
        atomic_store(&shared.synced, i + 1);
        if (i % 100 == 99)
            delete_old_segments(&shared, i / 2);
    }
    /* The readers get to see the final state too. */
    unsigned enough = atomic_load(&shared.right) + 200;
    while (atomic_load(&shared.right) < enough && atomic_load(&shared.wrong) == 0)
        sched_yield();
    atomic_store(&shared.finished, true);
    for (size_t i = 0; i < N_THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&shared.wrong), 0);
    samples_free(shared.samples, N_SHARED);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(readers_see_only_right_records_while_the_mover_works),
    };
    return cmocka_run_group_tests_name("cold_reader_race", tests, NULL, NULL);
}
