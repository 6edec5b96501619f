/* Writes of the cold tier that fail: what a sync promised survives them, what it did not promise
 * leaves no trace. */
#include "unit/tiers/cold_fixture.h"

#include <signal.h>
#include <sys/resource.h>

#define N_SAMPLES 200
#define N_LOST    40

/* Appends and syncs until it fails; returns how. */
static int append_until_failure(struct fixture *f, struct sample *samples, size_t n_samples)
{
    for (size_t i = 0; i < n_samples; i++) {
        int status = try_append(f, &samples[i]);
        if (status != 0)
            return status;
    }
    struct cold_known touched[COLD_TOUCHED_MAX];
    size_t n = COLD_TOUCHED_MAX;
    return cold_sync(f->cold, touched, &n);
}

/* The limit of the file size stands for the full disk: the kernel itself refuses the write. */
static void the_kernels_refusal_to_write_more_is_survived(void **state)
{
    struct fixture *f = *state;
    struct sample samples[2];
    sample_make(&samples[0], &f->random, 10, 1000);
    sample_make(&samples[1], &f->random, 10, 10u << 20);
    random_fill(&f->random, samples[1].value, samples[1].value_len);
    append(f, &samples[0]);
    sync_all(f);

    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit small = {.rlim_cur = 3000000, .rlim_max = before.rlim_max};
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int status = append_until_failure(f, &samples[1], 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, handler);

    assert_int_equal(status, TIERS_NO_SPACE);
    cold_abandon(f->cold);
    assert_readable(f, samples, 1);
    append(f, &samples[1]);
    sync_all(f);
    assert_readable(f, samples, 2);
    free(samples[0].value);
    free(samples[1].value);
}

static void short_and_interrupted_writes_are_continued(void **state)
{
    struct fixture *f = *state;
    struct fault faults[] = {
        {.kind = URING_WRITE, .first = 1, .times = 20, .length = 5000},
        {.kind = URING_WRITE, .first = 1, .times = 20, .length = 100},
        {.kind = URING_WRITE, .first = 1, .times = 20, .result = -EAGAIN},
        {.kind = URING_WRITE, .first = 2, .times = 20, .result = -EINTR},
        {.kind = URING_WRITE, .first = 1, .times = 1, .result = -EINVAL},
    };
    for (size_t k = 0; k < sizeof faults / sizeof *faults; k++) {
        fault_set(&faults[k]);
        struct sample *samples = samples_make(N_SAMPLES, &f->random);
        for (size_t i = 0; i < N_SAMPLES; i++)
            append(f, &samples[i]);
        sync_all(f);
        assert_true(faults[k].seen > faults[k].times);
        assert_int_equal(faults[k].unaligned, 0);
        uring_faults_set(NULL);
        assert_readable(f, samples, N_SAMPLES);
        samples_free(samples, N_SAMPLES);
    }
}

static void a_write_that_never_progresses_is_an_error(void **state)
{
    struct fixture *f = *state;
    struct fault fault = {.kind = URING_WRITE, .first = 1, .times = 1u << 30, .result = -EAGAIN};
    fault_set(&fault);
    struct sample *samples = samples_make(1, &f->random);
    append(f, &samples[0]);
    struct cold_known touched[COLD_TOUCHED_MAX];
    size_t n = COLD_TOUCHED_MAX;
    assert_int_equal(cold_sync(f->cold, touched, &n), TIERS_IO);
    assert_int_equal(n, COLD_TOUCHED_MAX);
    samples_free(samples, 1);
}

static void after_no_space_and_abandon_only_synced_records_are_left(void **state)
{
    struct fixture *f = *state;
    f->options.segment_bytes = 3u << 20;
    for (unsigned nth = 1; nth < 8; nth++) {
        fixture_reopen(f);
        f->n_known = 0;
        fixture_reopen(f);
        struct sample *samples = samples_make(N_SAMPLES, &f->random);
        for (size_t i = 0; i < N_SAMPLES / 2; i++)
            append(f, &samples[i]);
        sync_all(f);

        struct fault fault = {.kind = URING_WRITE, .first = nth, .times = 1, .result = -ENOSPC};
        fault_set(&fault);
        struct sample *lost = calloc(N_LOST, sizeof *lost);
        assert_non_null(lost);
        for (size_t i = 0; i < N_LOST; i++) {
            sample_make(&lost[i], &f->random, 20, 300000);
            random_fill(&f->random, lost[i].value, lost[i].value_len);
        }
        assert_int_equal(append_until_failure(f, lost, N_LOST), TIERS_NO_SPACE);
        /* The failure lasts until it is acknowledged. */
        assert_int_equal(try_append(f, &samples[N_SAMPLES / 2]), TIERS_NO_SPACE);
        assert_non_null(strstr(cold_error_text(f->cold), "No space"));
        cold_abandon(f->cold);
        uring_faults_set(NULL);
        assert_known_sizes(f);
        assert_readable(f, samples, N_SAMPLES / 2);

        for (size_t i = N_SAMPLES / 2; i < N_SAMPLES; i++)
            append(f, &samples[i]);
        sync_all(f);
        fixture_reopen(f);
        assert_readable(f, samples, N_SAMPLES);
        samples_free(samples, N_SAMPLES);
        samples_free(lost, N_LOST);
    }
}

static void an_abandoned_batch_leaves_no_file(void **state)
{
    struct fixture *f = *state;
    f->options.segment_bytes = 50000;
    fixture_reopen(f);
    struct sample *samples = samples_make(40, &f->random);
    for (size_t i = 0; i < 40; i++)
        append(f, &samples[i]);
    assert_true(files_in(f->folder) > 1);
    cold_abandon(f->cold);
    assert_int_equal(files_in(f->folder), 0);
    assert_int_equal(cold_segments(f->cold), 0);
    samples_free(samples, 40);
}

static void after_a_failed_fsync_nothing_is_written_any_more(void **state)
{
    struct fixture *f = *state;
    for (unsigned nth = 1; nth <= 2; nth++) { /* Of the data, of the directory */
        fixture_reopen(f);
        struct sample *samples = samples_make(1, &f->random);
        append(f, &samples[0]);
        struct fault fault = {.kind = URING_FSYNC, .first = nth, .times = 1, .result = -EIO};
        fault_set(&fault);
        struct cold_known touched[COLD_TOUCHED_MAX];
        size_t n = COLD_TOUCHED_MAX;
        assert_int_equal(cold_sync(f->cold, touched, &n), TIERS_IO);
        assert_int_equal(cold_sync(f->cold, touched, &n), TIERS_STOPPED);
        assert_int_equal(try_append(f, &samples[0]), TIERS_STOPPED);
        cold_abandon(f->cold);
        assert_int_equal(try_append(f, &samples[0]), TIERS_STOPPED);
        assert_int_equal(fault.seen, nth);
        uring_faults_set(NULL);
        samples_free(samples, 1);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_kernels_refusal_to_write_more_is_survived),
        TEST(short_and_interrupted_writes_are_continued),
        TEST(a_write_that_never_progresses_is_an_error),
        TEST(after_no_space_and_abandon_only_synced_records_are_left),
        TEST(an_abandoned_batch_leaves_no_file),
        TEST(after_a_failed_fsync_nothing_is_written_any_more),
    };
    return cmocka_run_group_tests_name("cold_write", tests, NULL, NULL);
}
