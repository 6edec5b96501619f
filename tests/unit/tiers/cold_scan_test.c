/* Scans of whole segments: all records in order, and around damage all that are intact. */
#include "unit/tiers/cold_fixture.h"

#include "cold_record.h"

#define N_SAMPLES 200

/* Random samples of which one is larger than the window of a scan. */
static struct sample *samples_with_a_large_one(struct fixture *f)
{
    struct sample *samples = samples_make(N_SAMPLES, &f->random);
    struct sample *large = &samples[N_SAMPLES / 2];
    free(large->value);
    sample_make(large, &f->random, 100, 5u << 20);
    random_fill(&f->random, large->value, large->value_len);
    return samples;
}

static void a_scan_gives_what_was_appended_in_order(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_with_a_large_one(f);
    for (size_t i = 0; i < N_SAMPLES; i++) {
        append(f, &samples[i]);
        if (i == 0 || random_next(&f->random) % 10 == 0)
            sync_all(f);
    }
    sync_all(f);
    fixture_reopen(f);

    struct scan scan = {.samples = samples, .stop_at = -1};
    for (size_t i = 0; i < f->n_known; i++)
        assert_int_equal(segment_each(f->cold, f->known[i].id, scan_item, &scan), 0);
    assert_int_equal(scan.next, N_SAMPLES);
    assert_int_equal(scan.wrong, 0);
    samples_free(samples, N_SAMPLES);
}

static void a_scan_survives_short_and_interrupted_reads(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_with_a_large_one(f);
    for (size_t i = 0; i < N_SAMPLES; i++)
        append(f, &samples[i]);
    sync_all(f);
    fixture_reopen(f);

    struct fault faults[] = {
        {.kind = URING_READ, .first = 1, .times = 10, .length = 5000},
        {.kind = URING_READ, .first = 1, .times = 10, .result = -EINTR},
        {.kind = URING_READ, .first = 1, .times = 1, .result = -EINVAL},
    };
    for (size_t k = 0; k < sizeof faults / sizeof *faults; k++) {
        fault_set(&faults[k]);
        struct scan scan = {.samples = samples, .stop_at = -1};
        for (size_t i = 0; i < f->n_known; i++)
            assert_int_equal(segment_each(f->cold, f->known[i].id, scan_item, &scan), 0);
        assert_int_equal(scan.next, N_SAMPLES);
        assert_int_equal(scan.wrong, 0);
        assert_true(faults[k].seen > faults[k].times);
        assert_int_equal(faults[k].unaligned, 0);
    }
    samples_free(samples, N_SAMPLES);
}

static void a_scan_stops_when_it_is_told_to(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_make(3, &f->random);
    for (size_t i = 0; i < 3; i++)
        append(f, &samples[i]);
    sync_all(f);
    fixture_reopen(f);
    struct scan scan = {.samples = samples, .stop_at = 1};
    assert_int_equal(segment_each(f->cold, f->known[0].id, scan_item, &scan), 77);
    assert_int_equal(scan.next, 1);
    samples_free(samples, 3);
}

static void a_scan_of_the_active_or_an_unknown_segment_is_refused(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_make(1, &f->random);
    append(f, &samples[0]);
    sync_all(f);
    struct scan scan = {.samples = samples, .stop_at = -1};
    uint64_t id = samples[0].location.segment;
    assert_true(cold_segment_active(f->cold, id));
    assert_int_equal(segment_each(f->cold, id, scan_item, &scan), TIERS_INVALID);
    assert_int_equal(segment_each(f->cold, id + 1, scan_item, &scan), TIERS_STALE);
    samples_free(samples, 1);
}

static void a_scan_names_file_and_offset_of_damage(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_make(3, &f->random);
    for (size_t i = 0; i < 3; i++)
        append(f, &samples[i]);
    sync_all(f);
    fixture_reopen(f);

    char path[1024];
    segment_path(f, samples[1].location.segment, path);
    file_flip(path, samples[1].location.offset + 30, 4);
    struct scan scan = {.samples = samples, .stop_at = -1};
    assert_int_equal(segment_each(f->cold, f->known[0].id, scan_item, &scan), TIERS_CORRUPT);
    assert_int_equal(scan.next, 1);
    char offset[32];
    snprintf(offset, sizeof offset, "offset %" PRIu64, samples[1].location.offset);
    assert_non_null(strstr(cold_error_text(f->cold), offset));
    assert_non_null(strstr(cold_error_text(f->cold), f->folder));
    samples_free(samples, 3);
}

static void assert_found(const struct cold_item *item, const struct sample *sample)
{
    assert_int_equal(item->location.offset, sample->location.offset);
    assert_int_equal(item->location.bytes, sample->location.bytes);
    assert_int_equal(item->key_len, sample->key_len);
    assert_memory_equal(item->key, sample->key, sample->key_len);
}

static void a_record_can_be_passed_by_or_read_or_come_once_more(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_make(4, &f->random);
    for (size_t i = 0; i < 4; i++)
        append(f, &samples[i]);
    sync_all(f);
    fixture_reopen(f);
    char path[1024];
    segment_path(f, samples[0].location.segment, path);
    for (size_t i = 0; i < 2; i++)
        file_flip(path, samples[i].location.offset + 30, 4);

    struct cold_scan *scan = NULL;
    struct cold_item item;
    assert_int_equal(cold_scan_open(f->cold, samples[0].location.segment, &scan), 0);
    /* The first is passed by: nobody sees that it is damaged. */
    assert_int_equal(cold_scan_peek(scan, &item), 0);
    assert_found(&item, &samples[0]);
    assert_null(item.value);
    assert_int_equal(item.value_len, samples[0].value_len);
    /* The second is read. */
    assert_int_equal(cold_scan_peek(scan, &item), 0);
    assert_found(&item, &samples[1]);
    assert_int_equal(cold_scan_read(scan, &item), TIERS_CORRUPT);
    /* The third comes twice, read and found. */
    assert_int_equal(cold_scan_peek(scan, &item), 0);
    assert_int_equal(cold_scan_read(scan, &item), 0);
    assert_found(&item, &samples[2]);
    assert_memory_equal(item.value, samples[2].value, samples[2].value_len);
    cold_scan_return(scan);
    assert_int_equal(cold_scan_peek(scan, &item), 0);
    assert_found(&item, &samples[2]);
    assert_int_equal(cold_scan_next(scan, &item), 0);
    assert_found(&item, &samples[3]);
    assert_int_equal(cold_scan_peek(scan, &item), TIERS_NOT_FOUND);
    assert_int_equal(cold_scan_peek(scan, &item), TIERS_NOT_FOUND);
    cold_scan_close(scan);
    samples_free(samples, 4);
}

static void zeros_in_place_of_a_record_are_damage_not_padding(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = samples_make(1, &f->random);
    append(f, &samples[0]);
    sync_all(f);
    fixture_reopen(f);
    char path[1024];
    segment_path(f, f->known[0].id, path);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    char zeros[COLD_BLOCK_BYTES] = {0};
    assert_int_equal(pwrite(fd, zeros, sizeof zeros, COLD_BLOCK_BYTES), sizeof zeros);
    close(fd);
    struct scan scan = {.samples = samples, .stop_at = -1};
    assert_int_equal(segment_each(f->cold, f->known[0].id, scan_item, &scan), TIERS_CORRUPT);
    samples_free(samples, 1);
}

/* ---- Around damage ---- */

/* Which of the samples a scan found, and how often it met damage. */
struct salvage {
    bool found[N_SAMPLES];
    unsigned damages;
    int status; /* That ended the scan */
};

static void salvage_run(struct fixture *f, const struct sample *samples, size_t n,
                        struct salvage *salvage)
{
    *salvage = (struct salvage){0};
    struct cold_scan *scan = NULL;
    assert_int_equal(cold_scan_open(f->cold, samples[0].location.segment, &scan), 0);
    for (size_t calls = 0; calls < 100000; calls++) {
        struct cold_item item;
        salvage->status = cold_scan_next(scan, &item);
        if (salvage->status == TIERS_CORRUPT) {
            salvage->damages++;
            continue;
        }
        if (salvage->status != 0)
            break;
        size_t i = 0;
        while (i < n && samples[i].location.offset != item.location.offset)
            i++;
        assert_true(i < n && sample_equals(&samples[i], &item));
        salvage->found[i] = true;
    }
    cold_scan_close(scan);
}

/* Samples of sizes from a few bytes to many blocks in one sealed segment. */
static struct sample *segment_make(struct fixture *f)
{
    f->options.segment_bytes = 1u << 30;
    fixture_reopen(f);
    struct sample *samples = samples_with_a_large_one(f);
    for (size_t i = 0; i < N_SAMPLES; i++) {
        append(f, &samples[i]);
        if (i % 32 == 31)
            sync_all(f);
    }
    sync_all(f);
    fixture_reopen(f);
    return samples;
}

static void a_flipped_bit_costs_its_own_record_only(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = segment_make(f);
    char path[1024];
    segment_path(f, samples[0].location.segment, path);
    for (unsigned round = 0; round < 60; round++) {
        size_t hit = random_next(&f->random) % N_SAMPLES;
        const struct cold_location *location = &samples[hit].location;
        /* Every third time in the header, so that its length may be wrong. */
        uint64_t range = round % 3 == 0 ? COLD_RECORD_HEADER_BYTES : location->bytes;
        uint64_t offset = location->offset + random_next(&f->random) % range;
        unsigned char bits = (unsigned char)(1u << random_next(&f->random) % 8);
        file_flip(path, offset, bits);
        struct salvage salvage;
        salvage_run(f, samples, N_SAMPLES, &salvage);
        file_flip(path, offset, bits);
        assert_int_equal(salvage.status, TIERS_NOT_FOUND);
        assert_int_equal(salvage.damages, 1);
        for (size_t i = 0; i < N_SAMPLES; i++)
            assert_int_equal(salvage.found[i], i != hit);
    }
    samples_free(samples, N_SAMPLES);
}

static void a_lost_segment_header_costs_no_record(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = segment_make(f);
    char path[1024];
    segment_path(f, samples[0].location.segment, path);
    file_flip(path, 3, 1);
    struct salvage salvage;
    salvage_run(f, samples, N_SAMPLES, &salvage);
    file_flip(path, 3, 1);
    assert_int_equal(salvage.status, TIERS_NOT_FOUND);
    assert_int_equal(salvage.damages, 1);
    for (size_t i = 0; i < N_SAMPLES; i++)
        assert_true(salvage.found[i]);
    samples_free(samples, N_SAMPLES);
}

static void a_segment_cut_short_is_read_up_to_there(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = segment_make(f);
    char path[1024];
    segment_path(f, samples[0].location.segment, path);
    uint64_t cut = cold_align_down(samples[N_SAMPLES * 3 / 4].location.offset);
    assert_int_equal(truncate(path, (off_t)cut), 0);
    struct salvage salvage;
    salvage_run(f, samples, N_SAMPLES, &salvage);
    assert_int_equal(salvage.status, TIERS_NOT_FOUND);
    assert_true(salvage.damages >= 1);
    for (size_t i = 0; i < N_SAMPLES; i++)
        assert_int_equal(salvage.found[i],
                         samples[i].location.offset + samples[i].location.bytes <= cut);
    samples_free(samples, N_SAMPLES);
}

/* A disk that cannot read one block. */
struct bad_block {
    struct uring_faults hook;
    uint64_t offset;
};

static bool bad_block_before(void *context, const struct uring_op *op, uint32_t *length,
                             int *result)
{
    const struct bad_block *bad = context;
    (void)length;
    *result = -EIO;
    return op->kind == URING_READ && op->offset <= bad->offset &&
           bad->offset < op->offset + op->length;
}

static void an_unreadable_block_costs_the_records_in_it_only(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = segment_make(f);
    for (unsigned round = 0; round < 30; round++) {
        const struct cold_location *hit = &samples[random_next(&f->random) % N_SAMPLES].location;
        struct bad_block bad = {.hook = {.context = &bad, .before = bad_block_before},
                                .offset = cold_align_down(hit->offset + hit->bytes / 2)};
        uring_faults_set(&bad.hook);
        struct salvage salvage;
        salvage_run(f, samples, N_SAMPLES, &salvage);
        uring_faults_set(NULL);
        assert_int_equal(salvage.status, TIERS_NOT_FOUND);
        assert_true(salvage.damages >= 1);
        for (size_t i = 0; i < N_SAMPLES; i++) {
            const struct cold_location *location = &samples[i].location;
            bool touches = location->offset < bad.offset + COLD_BLOCK_BYTES &&
                           bad.offset < location->offset + location->bytes;
            assert_int_equal(salvage.found[i], !touches);
        }
    }
    samples_free(samples, N_SAMPLES);
}

static void a_disk_that_reads_nothing_ends_the_scan(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = segment_make(f);
    struct fault fault = {.kind = URING_READ, .first = 1, .times = 1u << 30, .result = -EIO};
    fault_set(&fault);
    struct salvage salvage;
    salvage_run(f, samples, N_SAMPLES, &salvage);
    assert_int_equal(salvage.status, TIERS_IO);
    assert_non_null(strstr(cold_error_text(f->cold), "Input/output error"));
    samples_free(samples, N_SAMPLES);
}

static void a_scan_ends_when_its_segment_is_deleted(void **state)
{
    struct fixture *f = *state;
    struct sample *samples = segment_make(f);
    struct cold_scan *scan = NULL;
    struct cold_item item;
    assert_int_equal(cold_scan_open(f->cold, samples[0].location.segment, &scan), 0);
    assert_int_equal(cold_scan_next(scan, &item), 0);
    cold_segment_delete(f->cold, samples[0].location.segment);
    assert_int_equal(cold_scan_next(scan, &item), TIERS_STALE);
    cold_scan_close(scan);
    samples_free(samples, N_SAMPLES);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_scan_gives_what_was_appended_in_order),
        TEST(a_scan_survives_short_and_interrupted_reads),
        TEST(a_scan_stops_when_it_is_told_to),
        TEST(a_scan_of_the_active_or_an_unknown_segment_is_refused),
        TEST(a_scan_names_file_and_offset_of_damage),
        TEST(a_record_can_be_passed_by_or_read_or_come_once_more),
        TEST(zeros_in_place_of_a_record_are_damage_not_padding),
        TEST(a_flipped_bit_costs_its_own_record_only),
        TEST(a_lost_segment_header_costs_no_record),
        TEST(a_segment_cut_short_is_read_up_to_there),
        TEST(an_unreadable_block_costs_the_records_in_it_only),
        TEST(a_disk_that_reads_nothing_ends_the_scan),
        TEST(a_scan_ends_when_its_segment_is_deleted),
    };
    return cmocka_run_group_tests_name("cold_scan", tests, NULL, NULL);
}
