/* The cold tier: what a sync promised survives reopening; segments are sealed, deleted and given
 * back. */
#include "unit/tiers/cold_fixture.h"

#include "file.h"

#define N_SAMPLES 200

static void records_survive_reopening_where_their_locations_say(void **state)
{
    struct fixture *f = *state;
    for (int direct = 0; direct < 2; direct++) {
        f->options.direct_io = direct;
        fixture_reopen(f);
        struct sample *samples = samples_make(N_SAMPLES, &f->random);
        for (size_t i = 0; i < N_SAMPLES; i++) {
            append(f, &samples[i]);
            if (random_next(&f->random) % 20 == 0)
                sync_all(f);
        }
        sync_all(f);
        assert_readable(f, samples, N_SAMPLES);
        fixture_reopen(f);
        assert_readable(f, samples, N_SAMPLES);
        samples_free(samples, N_SAMPLES);
    }
}

static void records_at_the_limits_survive(void **state)
{
    struct fixture *f = *state;
    static const size_t lengths[][2] = {
        {1, 0}, {1, 1}, {TIERS_KEY_BYTES_MAX, 3}, {TIERS_KEY_BYTES_MAX, TIERS_VALUE_BYTES_MAX}};
    struct sample samples[4];
    for (size_t i = 0; i < 4; i++) {
        sample_make(&samples[i], &f->random, lengths[i][0], lengths[i][1]);
        random_fill(&f->random, samples[i].value, samples[i].value_len);
        append(f, &samples[i]);
    }
    sync_all(f);
    assert_readable(f, samples, 4);
    for (size_t i = 0; i < 4; i++)
        free(samples[i].value);
}

static void sizes_out_of_range_are_refused(void **state)
{
    struct fixture *f = *state;
    struct tiers_meta meta = {0};
    struct cold_location location;
    char key[TIERS_KEY_BYTES_MAX + 1] = {0};
    assert_int_equal(cold_append(f->cold, TIERS_SPACE_USER, key, 0, &meta, "", 0, &location),
                     TIERS_INVALID);
    assert_int_equal(
        cold_append(f->cold, TIERS_SPACE_USER, key, sizeof key, &meta, "", 0, &location),
        TIERS_INVALID);
    assert_int_equal(cold_append(f->cold, TIERS_SPACE_USER, key, 1, &meta, "",
                                 TIERS_VALUE_BYTES_MAX + 1, &location),
                     TIERS_INVALID);
    assert_int_equal(cold_segments(f->cold), 0);
}

/* ---- Segments ---- */

static void a_full_segment_is_sealed_and_the_next_begins(void **state)
{
    struct fixture *f = *state;
    f->options.segment_bytes = 100000;
    fixture_reopen(f);
    struct sample *samples = samples_make(N_SAMPLES, &f->random);
    uint64_t last = 0;
    for (size_t i = 0; i < N_SAMPLES; i++) {
        append(f, &samples[i]);
        assert_true(samples[i].location.segment >= last);
        last = samples[i].location.segment;
        assert_true(samples[i].location.offset < 100000);
        if (i % 10 == 9)
            sync_all(f);
    }
    assert_true(f->n_known > 2);
    assert_known_sizes(f);
    assert_readable(f, samples, N_SAMPLES);
    samples_free(samples, N_SAMPLES);
}

static void a_sealed_segment_keeps_no_preallocated_blocks(void **state)
{
    struct fixture *f = *state;
    f->options.segment_bytes = 64u << 20;
    fixture_reopen(f);
    struct sample sample;
    sample_make(&sample, &f->random, 5, 100);
    append(f, &sample);
    sync_all(f);
    fixture_close(f);
    struct stat status;
    char path[1024];
    segment_path(f, sample.location.segment, path);
    assert_int_equal(stat(path, &status), 0);
    assert_true(status.st_blocks * 512 <= 64 << 10);
    free(sample.value);
}

static void after_reopening_a_new_segment_is_appended_to(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_make(2, &f->random);
    append(f, &samples[0]);
    sync_all(f);
    fixture_reopen(f);
    assert_false(cold_segment_active(f->cold, samples[0].location.segment));
    append(f, &samples[1]);
    assert_true(samples[1].location.segment > samples[0].location.segment);
    samples_free(samples, 2);
}

static void a_sync_without_appends_touches_nothing(void **state)
{
    struct fixture *f = *state;
    struct cold_known touched[COLD_TOUCHED_MAX];
    size_t n = COLD_TOUCHED_MAX;
    assert_int_equal(cold_sync(f->cold, touched, &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(files_in(f->folder), 0);
}

static void too_many_segments_ask_for_a_sync(void **state)
{
    struct fixture *f = *state;
    f->options.segment_bytes = 1;
    fixture_reopen(f);
    struct sample *samples = samples_make(COLD_TOUCHED_MAX + 1, &f->random);
    for (size_t i = 0; i < COLD_TOUCHED_MAX; i++)
        append(f, &samples[i]);
    assert_int_equal(try_append(f, &samples[COLD_TOUCHED_MAX]), TIERS_BUSY);
    sync_all(f);
    assert_int_equal(f->n_known, COLD_TOUCHED_MAX);
    append(f, &samples[COLD_TOUCHED_MAX]);
    sync_all(f);
    assert_readable(f, samples, COLD_TOUCHED_MAX + 1);
    samples_free(samples, COLD_TOUCHED_MAX + 1);
}

static void a_deleted_segment_is_gone_from_the_disk(void **state)
{
    struct fixture *f = *state;
    f->options.segment_bytes = 1;
    fixture_reopen(f);
    struct sample *samples = samples_make(2, &f->random);
    for (size_t i = 0; i < 2; i++)
        append(f, &samples[i]);
    sync_all(f);
    cold_segment_delete(f->cold, samples[0].location.segment);
    cold_segment_delete(f->cold, 12345);
    assert_false(segment_exists(f, samples[0].location.segment));
    assert_int_equal(cold_segments(f->cold), 1);
    assert_int_equal(cold_bytes(f->cold), f->known[1].bytes);
    assert_readable(f, &samples[1], 1);
    samples_free(samples, 2);
}

/* Truncations after a name has gone. */
struct cuts {
    bool unlinked;
    unsigned n;
    uint64_t size;    /* Of the file, as far as is known */
    uint64_t cut_max; /* The most that went at once */
};

static int cut_note(void *context, const struct file_op *op)
{
    struct cuts *cuts = context;
    cuts->unlinked = cuts->unlinked || op->kind == FILE_UNLINK;
    if (op->kind == FILE_TRUNCATE && cuts->unlinked) {
        uint64_t cut = cuts->size - op->bytes;
        cuts->cut_max = cut > cuts->cut_max ? cut : cuts->cut_max;
        cuts->size = op->bytes;
        cuts->n++;
    }
    return 0;
}

/* A disk may do nothing else while the file system gives back what a file had. */
static void a_large_segment_is_given_back_in_pieces(void **state)
{
    struct fixture *f = *state;
    f->options.segment_bytes = 40u << 20;
    fixture_reopen(f);
    struct sample sample;
    sample_make(&sample, &f->random, 5, TIERS_VALUE_BYTES_MAX);
    random_fill(&f->random, sample.value, sample.value_len);
    while (cold_appended_bytes(f->cold) < f->options.segment_bytes)
        append(f, &sample);
    sync_all(f);
    struct cuts cuts = {.size = cold_bytes(f->cold)};
    const struct file_faults hook = {.context = &cuts, .before = cut_note};
    file_faults_set(&hook);
    cold_segment_delete(f->cold, sample.location.segment);
    file_faults_set(NULL);
    print_message("%u cuts of up to %llu bytes\n", cuts.n, (unsigned long long)cuts.cut_max);
    assert_true(cuts.unlinked && cuts.n >= 2);
    assert_true(cuts.cut_max <= 16u << 20 && cuts.size <= 16u << 20);
    assert_int_equal(files_in(f->folder), 0);
    free(sample.value);
}

static void the_active_segment_can_be_deleted(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_make(3, &f->random);
    append(f, &samples[0]);
    sync_all(f);
    append(f, &samples[1]);
    cold_segment_delete(f->cold, samples[0].location.segment);
    assert_int_equal(files_in(f->folder), 0);
    f->n_known = 0;
    append(f, &samples[2]);
    sync_all(f);
    assert_readable(f, &samples[2], 1);
    samples_free(samples, 3);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(records_survive_reopening_where_their_locations_say),
        TEST(records_at_the_limits_survive),
        TEST(sizes_out_of_range_are_refused),
        TEST(a_full_segment_is_sealed_and_the_next_begins),
        TEST(a_sealed_segment_keeps_no_preallocated_blocks),
        TEST(after_reopening_a_new_segment_is_appended_to),
        TEST(a_sync_without_appends_touches_nothing),
        TEST(too_many_segments_ask_for_a_sync),
        TEST(a_deleted_segment_is_gone_from_the_disk),
        TEST(a_large_segment_is_given_back_in_pieces),
        TEST(the_active_segment_can_be_deleted),
    };
    return cmocka_run_group_tests_name("cold", tests, NULL, NULL);
}
