/* Dictionaries: trained only when that pays, carried by the segments that need them, and missed by
 * name when they are damaged. */
#include "unit/tiers/cold_fixture.h"

#include "cold_dictionary.h"
#include "cold_record.h"
#include "little_endian.h"

#include <xxhash.h>

#define VALUE_BYTES 200
#define N_VALUES    80000
#define N_SAMPLES   400

/* A value such as a service registry holds: mostly the same for all, with a few fields that differ.
 */
static size_t value_make(uint64_t *random, unsigned char value[VALUE_BYTES])
{
    int n = snprintf((char *)value, VALUE_BYTES,
                     "{\"service\":\"svc-%u\",\"address\":\"10.%u.%u.%u\",\"port\":%u,"
                     "\"tags\":[\"production\",\"v%u\"],\"meta\":{\"region\":\"eu-central-1\"}}",
                     (unsigned)(random_next(random) % 500), (unsigned)(random_next(random) % 256),
                     (unsigned)(random_next(random) % 256), (unsigned)(random_next(random) % 256),
                     (unsigned)(random_next(random) % 65536), (unsigned)(random_next(random) % 9));
    assert_true(n > 0 && n < VALUE_BYTES);
    return (size_t)n;
}

/* Whether samples were ready after so many values at most. */
static bool feed(struct cold_samples *samples, uint64_t *random, bool alike, size_t n)
{
    for (size_t i = 0; i < n && !cold_samples_ready(samples); i++) {
        unsigned char value[VALUE_BYTES];
        size_t value_len = VALUE_BYTES;
        if (alike)
            value_len = value_make(random, value);
        else
            random_fill(random, value, VALUE_BYTES);
        cold_samples_add(samples, value, value_len);
    }
    return cold_samples_ready(samples);
}

/* ---- Training ---- */

static void values_that_are_alike_are_worth_a_dictionary(void **state)
{
    (void)state;
    uint64_t random = seed_take();
    struct cold_samples *samples = cold_samples_new();
    struct cold_dictionary *dictionary = NULL;
    unsigned saved_percent = 0;
    assert_non_null(samples);
    assert_true(feed(samples, &random, true, N_VALUES));
    assert_int_equal(cold_samples_train(samples, NULL, &dictionary, &saved_percent), 0);
    assert_true(saved_percent >= 40);
    assert_true(dictionary->id != 0 && dictionary->n_bytes <= COLD_DICTIONARY_BYTES_MAX);
    /* The next training is far away. */
    assert_false(feed(samples, &random, true, 2 * N_VALUES));
    cold_dictionary_release(dictionary);
    cold_samples_free(samples);
}

static void values_without_likeness_are_not(void **state)
{
    (void)state;
    uint64_t random = seed_take();
    struct cold_samples *samples = cold_samples_new();
    struct cold_dictionary *dictionary = NULL;
    unsigned saved_percent = 0;
    assert_non_null(samples);
    assert_true(feed(samples, &random, false, N_VALUES));
    assert_int_equal(cold_samples_train(samples, NULL, &dictionary, &saved_percent),
                     TIERS_NOT_FOUND);
    assert_null(dictionary);
    assert_false(cold_samples_ready(samples));
    cold_samples_free(samples);
}

static void a_second_dictionary_must_be_better_than_the_first(void **state)
{
    (void)state;
    uint64_t random = seed_take();
    struct cold_dictionary *first = NULL;
    struct cold_dictionary *second = NULL;
    unsigned saved_percent = 0;
    for (int round = 0; round < 2; round++) {
        struct cold_samples *samples = cold_samples_new();
        assert_non_null(samples);
        assert_true(feed(samples, &random, true, N_VALUES));
        if (round == 0)
            assert_int_equal(cold_samples_train(samples, NULL, &first, &saved_percent), 0);
        else
            assert_int_equal(cold_samples_train(samples, first, &second, &saved_percent),
                             TIERS_NOT_FOUND);
        cold_samples_free(samples);
    }
    cold_dictionary_release(first);
}

/* ---- In the cold tier ---- */

static int set_up(void **state)
{
    if (fixture_set_up(state) != 0)
        return 1;
    struct fixture *f = *state;
    f->options.segment_bytes = 1u << 20;
    fixture_reopen(f);
    return 0;
}

static void alike_sample(struct fixture *f, struct sample *sample)
{
    unsigned char value[VALUE_BYTES];
    size_t value_len = value_make(&f->random, value);
    sample_make(sample, &f->random, 12, value_len);
    memcpy(sample->value, value, value_len);
}

/* Appends until a dictionary is due, trains it, and begins a new segment. */
static void dictionary_get(struct fixture *f)
{
    for (size_t i = 0; i < N_VALUES && !cold_dictionary_due(f->cold); i++) {
        struct sample sample;
        alike_sample(f, &sample);
        append(f, &sample);
        free(sample.value);
        if (i % 1000 == 0)
            sync_all(f);
    }
    sync_all(f);
    unsigned saved_percent = 0;
    assert_true(cold_dictionary_due(f->cold));
    assert_int_equal(cold_dictionary_train(f->cold, &saved_percent), 0);
    assert_true(saved_percent >= 40);
    cold_abandon(f->cold); /* Seals the segment without a dictionary */
}

/* Values that are alike, in one segment. */
static struct sample *alike_samples_store(struct fixture *f)
{
    struct sample *samples = calloc(N_SAMPLES, sizeof *samples);
    assert_non_null(samples);
    for (size_t i = 0; i < N_SAMPLES; i++) {
        alike_sample(f, &samples[i]);
        append(f, &samples[i]);
    }
    sync_all(f);
    assert_int_equal(samples[0].location.segment, samples[N_SAMPLES - 1].location.segment);
    return samples;
}

static uint64_t stored_bytes(const struct sample *samples)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < N_SAMPLES; i++)
        bytes += samples[i].location.bytes;
    return bytes;
}

static void segments_carry_their_dictionary_through_a_restart(void **state)
{
    struct fixture *f = *state;
    struct sample *before = alike_samples_store(f);
    dictionary_get(f);
    struct sample *after = alike_samples_store(f);
    assert_true(stored_bytes(after) < stored_bytes(before) * 4 / 5);
    assert_true(after[0].location.offset > COLD_BLOCK_BYTES);
    assert_readable(f, after, N_SAMPLES);
    assert_readable(f, before, N_SAMPLES);

    fixture_reopen(f);
    assert_readable(f, after, N_SAMPLES);
    assert_readable(f, before, N_SAMPLES);
    /* The newest one is used further. */
    struct sample *later = alike_samples_store(f);
    assert_true(stored_bytes(later) < stored_bytes(before) * 4 / 5);
    assert_readable(f, later, N_SAMPLES);
    samples_free(before, N_SAMPLES);
    samples_free(after, N_SAMPLES);
    samples_free(later, N_SAMPLES);
}

static int count_item(void *context, const struct cold_item *item)
{
    (void)item;
    ++*(size_t *)context;
    return 0;
}

static void a_scan_reads_records_with_a_dictionary(void **state)
{
    struct fixture *f = *state;
    dictionary_get(f);
    struct sample *samples = alike_samples_store(f);
    fixture_reopen(f);
    size_t n = 0;
    assert_int_equal(segment_each(f->cold, samples[0].location.segment, count_item, &n), 0);
    assert_int_equal(n, N_SAMPLES);
    samples_free(samples, N_SAMPLES);
}

static void a_damaged_dictionary_is_named_and_no_wrong_value_read(void **state)
{
    struct fixture *f = *state;
    dictionary_get(f);
    struct sample *samples = alike_samples_store(f);
    char path[1024];
    segment_path(f, samples[0].location.segment, path);
    file_flip(path, COLD_BLOCK_BYTES + 100, 32);
    fixture_reopen(f);
    struct cold_reader *reader = NULL;
    assert_int_equal(cold_reader_open(f->cold, -1, &reader), 0);
    for (size_t i = 0; i < N_SAMPLES; i++)
        assert_int_equal(read_status(reader, &samples[i]), TIERS_CORRUPT);
    cold_reader_close(reader);
    size_t n = 0;
    uint64_t segment = samples[0].location.segment;
    assert_int_equal(segment_each(f->cold, segment, count_item, &n), TIERS_CORRUPT);
    assert_non_null(strstr(cold_error_text(f->cold), "dictionary"));
    assert_non_null(strstr(cold_error_text(f->cold), f->folder));

    /* It is the bytes that matter, not the file: once repaired, all is back. */
    file_flip(path, COLD_BLOCK_BYTES + 100, 32);
    assert_readable(f, samples, N_SAMPLES);
    samples_free(samples, N_SAMPLES);
}

static void small_segments_carry_no_dictionary(void **state)
{
    struct fixture *f = *state;
    f->options.segment_bytes = 100000;
    fixture_reopen(f);
    for (size_t i = 0; i < 20000; i++) {
        struct sample sample;
        alike_sample(f, &sample);
        append(f, &sample);
        free(sample.value);
        if (i % 1000 == 0)
            sync_all(f);
    }
    assert_false(cold_dictionary_due(f->cold));
}

/* A segment as the first version of the program wrote it. */
static void segment_make_old(const struct fixture *f, const struct sample *samples, size_t n)
{
    char path[1024];
    segment_path(f, samples[0].location.segment, path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    unsigned char block[COLD_BLOCK_BYTES] = {0};
    assert_int_equal(pread(fd, block, 32, 0), 32);
    block[8] = 1;
    little_endian_put(block + 24, XXH3_64bits(block, 24), 8);
    assert_int_equal(pwrite(fd, block, sizeof block, 0), sizeof block);
    for (size_t i = 0; i < n; i++) {
        size_t n_bytes = samples[i].location.bytes;
        unsigned char *bytes = malloc(n_bytes);
        assert_non_null(bytes);
        off_t at = (off_t)samples[i].location.offset;
        assert_int_equal(pread(fd, bytes, n_bytes, at), n_bytes);
        bytes[4] = 1;
        uint64_t checksum =
            XXH3_64bits_withSeed(bytes + COLD_RECORD_HEADER_BYTES,
                                 n_bytes - COLD_RECORD_HEADER_BYTES, XXH3_64bits(bytes, 64));
        little_endian_put(bytes + 64, checksum, 8);
        assert_int_equal(pwrite(fd, bytes, n_bytes, at), n_bytes);
        free(bytes);
    }
    close(fd);
}

static void segments_of_the_first_format_are_still_read(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = alike_samples_store(f);
    fixture_close(f);
    segment_make_old(f, samples, N_SAMPLES);
    fixture_reopen(f);
    assert_readable(f, samples, N_SAMPLES);
    size_t n = 0;
    assert_int_equal(segment_each(f->cold, samples[0].location.segment, count_item, &n), 0);
    assert_int_equal(n, N_SAMPLES);
    samples_free(samples, N_SAMPLES);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_that_are_alike_are_worth_a_dictionary),
        cmocka_unit_test(values_without_likeness_are_not),
        cmocka_unit_test(a_second_dictionary_must_be_better_than_the_first),
        TEST(segments_carry_their_dictionary_through_a_restart),
        TEST(a_scan_reads_records_with_a_dictionary),
        TEST(a_damaged_dictionary_is_named_and_no_wrong_value_read),
        TEST(small_segments_carry_no_dictionary),
        TEST(segments_of_the_first_format_are_still_read),
    };
    return cmocka_run_group_tests_name("cold_dictionary", tests, NULL, NULL);
}
