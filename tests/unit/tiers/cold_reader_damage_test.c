/* Asynchronous reads of the cold tier when the disk fails or lies: the right record or an error,
 * never anything else. */
#include "unit/tiers/cold_fixture.h"

#define N_SAMPLES 300

/* ---- Damage ---- */

static void a_bit_flipped_on_disk_is_never_a_wrong_value(void **state)
{
    struct fixture *f = *state;
    f->options.direct_io = false;
    fixture_reopen(f);
    for (int compressible = 0; compressible < 2; compressible++) {
        struct sample sample;
        sample_make(&sample, &f->random, 9, 300);
        if (compressible)
            memset(sample.value, 'y', 300);
        else
            random_fill(&f->random, sample.value, 300);
        append(f, &sample);
        sync_all(f);
        struct cold_reader *reader = reader_open(f);
        char path[1024];
        segment_path(f, sample.location.segment, path);
        for (uint64_t i = 0; i < sample.location.bytes; i++) {
            unsigned char bits = (unsigned char)(1u << (random_next(&f->random) % 8));
            file_flip(path, sample.location.offset + i, bits);
            assert_int_equal(read_status(reader, &sample), TIERS_CORRUPT);
            file_flip(path, sample.location.offset + i, bits);
        }
        assert_int_equal(read_status(reader, &sample), 0);
        cold_reader_close(reader);
        free(sample.value);
    }
}

static void another_record_than_asked_for_is_damage(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_store(f, 1);
    struct cold_reader *reader = reader_open(f);
    struct sample other = samples[0];
    other.meta.mod_revision++;
    assert_int_equal(read_status(reader, &other), TIERS_CORRUPT);
    other = samples[0];
    other.key[0] ^= 1;
    assert_int_equal(read_status(reader, &other), TIERS_CORRUPT);
    other = samples[0];
    other.key_len--;
    assert_int_equal(read_status(reader, &other), TIERS_CORRUPT);
    other = samples[0];
    other.space = other.space == TIERS_SPACE_USER ? TIERS_SPACE_SYSTEM : TIERS_SPACE_USER;
    assert_int_equal(read_status(reader, &other), TIERS_CORRUPT);
    assert_int_equal(read_status(reader, &samples[0]), 0);
    cold_reader_close(reader);
    samples_free(samples, 1);
}

static void an_impossible_location_is_damage(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_store(f, 1);
    struct cold_reader *reader = reader_open(f);
    const struct cold_location right = samples[0].location;
    const struct cold_location wrong[] = {
        {right.segment, 0, right.bytes},
        {right.segment, right.offset, 0},
        {right.segment, right.offset, UINT32_MAX},
        {right.segment, right.offset, right.bytes + 8},
        {right.segment, right.offset + 8, right.bytes},
        {right.segment, UINT64_MAX, right.bytes},
        {right.segment, UINT64_MAX - right.bytes + 1, right.bytes},
        {right.segment, right.offset + (1u << 30), right.bytes},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct sample sample = samples[0];
        sample.location = wrong[i];
        assert_int_equal(read_status(reader, &sample), TIERS_CORRUPT);
    }
    cold_reader_close(reader);
    samples_free(samples, 1);
}

static void a_file_cut_behind_our_back_is_damage(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_store(f, 1);
    struct cold_reader *reader = reader_open(f);
    char path[1024];
    segment_path(f, samples[0].location.segment, path);
    assert_int_equal(truncate(path, COLD_BLOCK_BYTES), 0);
    assert_int_equal(read_status(reader, &samples[0]), TIERS_CORRUPT);
    cold_reader_close(reader);
    samples_free(samples, 1);
}

/* ---- Faults ---- */

static void short_and_interrupted_reads_are_continued(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_store(f, N_SAMPLES);
    struct cold_reader *reader = reader_open(f);
    struct fault faults[] = {
        {.kind = URING_READ, .first = 1, .times = 50, .length = 4096},
        {.kind = URING_READ, .first = 1, .times = 50, .length = 100},
        {.kind = URING_READ, .first = 1, .times = 50, .result = -EAGAIN},
        {.kind = URING_READ, .first = 1, .times = 50, .result = -EINTR},
        {.kind = URING_READ, .first = 1, .times = 1, .result = -EINVAL},
    };
    for (size_t k = 0; k < sizeof faults / sizeof *faults; k++) {
        fault_set(&faults[k]);
        for (size_t i = 0; i < N_SAMPLES; i++)
            assert_int_equal(read_status(reader, &samples[i]), 0);
        uring_faults_set(NULL);
        assert_int_equal(faults[k].unaligned, 0);
    }
    cold_reader_close(reader);
    samples_free(samples, N_SAMPLES);
}

static void a_failed_read_is_reported_and_harms_no_other(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_store(f, 3);
    struct cold_reader *reader = reader_open(f);
    struct fault fault = {.kind = URING_READ, .first = 2, .times = 1, .result = -EIO};
    fault_set(&fault);
    struct answer answers[3];
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(submit(reader, &samples[i], &answers[i]), 0);
    while (cold_reader_wait(reader) > 0)
        ;
    assert_true(answers[0].equal && answers[2].equal);
    assert_int_equal(answers[1].status, TIERS_IO);
    cold_reader_close(reader);
    samples_free(samples, 3);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_bit_flipped_on_disk_is_never_a_wrong_value),
        TEST(another_record_than_asked_for_is_damage),
        TEST(an_impossible_location_is_damage),
        TEST(a_file_cut_behind_our_back_is_damage),
        TEST(short_and_interrupted_reads_are_continued),
        TEST(a_failed_read_is_reported_and_harms_no_other),
    };
    return cmocka_run_group_tests_name("cold_reader_damage", tests, NULL, NULL);
}
