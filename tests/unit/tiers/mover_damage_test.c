/* Damage at the cold disk: of a segment only what is damaged is lost, and the scrubber finds it. */
#include "cold_story.h"

#include "cold_header.h"
#include "cold_record.h"
#include "uring.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define FOLLOWING 5 /* Records behind one */

/* ---- Damage ---- */

static bool item_find(struct fixture *f, size_t number, struct warm_item *ret_item)
{
    char key[32];
    size_t key_len = model_key_text(number, key);
    struct warm_read *read = NULL;
    assert_int_equal(warm_read_open(f->tiers->warm, &read), 0);
    assert_int_equal(warm_read_begin(read), 0);
    int error = warm_get(read, TIERS_SPACE_USER, key, key_len, ret_item);
    warm_read_end(read);
    warm_read_close(read);
    ret_item->value = NULL;
    return error == 0;
}

/* A key whose number has the remainder `rest` by three, and whose record lies, with those of the
 * next few keys, in a sealed segment: delete_most leaves it if that is 0. */
static size_t record_find(struct story *story, size_t rest, struct cold_location *ret_location)
{
    for (size_t i = rest; i + FOLLOWING < KEYS; i += 3) {
        struct warm_item item;
        struct warm_item behind;
        if (item_find(story->f, i, &item) && item.cold &&
            !cold_segment_active(story->f->tiers->cold, item.location.segment) &&
            item_find(story->f, i + FOLLOWING, &behind) && behind.cold &&
            behind.location.segment == item.location.segment) {
            *ret_location = item.location;
            return i;
        }
    }
    fail_msg("no such key lies in a sealed segment");
    return 0;
}

/* Changes bytes of the record by "exclusive or". */
static void record_damage(const struct story *story, const struct cold_location *location,
                          size_t at, const unsigned char *mask, size_t n)
{
    unsigned char bytes[16];
    char name[COLD_NAME_BYTES];
    char path[1024];
    assert_true(n <= sizeof bytes);
    cold_name_print(location->segment, name);
    snprintf(path, sizeof path, "%s/%s", story->f->cold_dir, name);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    off_t offset = (off_t)(location->offset + at);
    assert_int_equal(pread(fd, bytes, n, offset), n);
    for (size_t i = 0; i < n; i++) {
        bytes[i] ^= mask[i];
    }
    assert_int_equal(pwrite(fd, bytes, n, offset), n);
    close(fd);
}

#define IN_THE_VALUE 1000

/* Flips a bit in the value of a key that stays, and whose segment is sealed and has others. */
static size_t damage_one(struct story *story, struct cold_location *ret_location)
{
    const unsigned char bit = 16;
    size_t number = record_find(story, 0, ret_location);
    record_damage(story, ret_location, IN_THE_VALUE, &bit, 1);
    return number;
}

static bool segment_there(struct fixture *f, uint64_t id)
{
    return cold_segment_after(f->tiers->cold, id - 1) == id;
}

/* All keys but one read back; that one is refused. */
static void expect_all_but(struct story *story, size_t damaged)
{
    struct tiers_reader *reader = NULL;
    const struct tiers_record *record = NULL;
    char key[32];
    size_t key_len = model_key_text(damaged, key);
    assert_int_equal(tiers_reader_open(story->f->tiers, &reader), 0);
    for (size_t i = 0; i < KEYS; i++) {
        if (i != damaged) {
            model_expect(story->model, reader, i);
        }
    }
    assert_int_equal(tiers_reader_get_wait(reader, TIERS_SPACE_USER, key, key_len, &record),
                     TIERS_CORRUPT);
    tiers_reader_close(reader);
}

static void compaction_of_a_damaged_segment_saves_the_rest_and_backs_off(void **state)
{
    struct story *story = *state;
    struct fixture *f = story->f;
    fixture_open(f, false);
    fill(story);
    steps(f);
    fixture_close(f); /* Empties the hot tier */
    fixture_open(f, false);
    struct cold_location location;
    size_t damaged = damage_one(story, &location);
    delete_most(story);
    f->clock_ms += 1000;
    steps(f);
    assert_true(segment_there(f, location.segment));
    assert_int_equal(story->damaged, 1);
    assert_int_equal(story->kept, 1);
    for (size_t i = 0; i < KEYS; i += 3) {
        struct warm_item item;
        assert_true(item_find(f, i, &item));
        assert_true(i == damaged || !item.cold || item.location.segment != location.segment);
    }
    expect_all_but(story, damaged);

    /* The tries come after a minute, two more, four more; not before. */
    unsigned tries = 1;
    uint64_t begin_ms = f->clock_ms;
    while (f->clock_ms - begin_ms < 500000) {
        f->clock_ms += 1000;
        steps(f);
        uint64_t seconds = (f->clock_ms - begin_ms) / 1000;
        tries = 1 + (seconds >= 60) + (seconds >= 180) + (seconds >= 420);
        assert_int_equal(story->kept, tries);
    }
    assert_int_equal(tries, 4);

    /* With the last live record gone the segment goes too. */
    model_put_group(f->tiers, story->model, damaged, VALUE_BYTES);
    assert_int_equal(tiers_flush(f->tiers), 0);
    f->clock_ms += 3600000;
    steps(f);
    assert_false(segment_there(f, location.segment));
    model_expect_all(story->model, f->tiers);
}

/* Filled, demoted and opened again, so that hot is empty. */
static void story_begin(struct story *story)
{
    fixture_open(story->f, false);
    fill(story);
    steps(story->f);
    fixture_close(story->f);
    fixture_open(story->f, false);
}

static void story_compact(struct story *story)
{
    delete_most(story);
    story->f->clock_ms += 1000;
    steps(story->f);
}

static void damage_in_a_dead_record_holds_nothing_up(void **state)
{
    struct story *story = *state;
    const unsigned char bit = 16;
    struct cold_location location;
    story_begin(story);
    (void)record_find(story, 1, &location);
    record_damage(story, &location, IN_THE_VALUE, &bit, 1);
    story_compact(story);
    assert_false(segment_there(story->f, location.segment));
    assert_int_equal(story->damaged, 0);
    model_expect_all(story->model, story->f->tiers);
}

/* The record seems to end in the middle of the third one behind it. */
static void a_dead_record_that_lies_of_its_length_hides_no_live_one(void **state)
{
    struct story *story = *state;
    struct cold_location location;
    story_begin(story);
    (void)record_find(story, 1, &location);
    uint32_t more = 2 * location.bytes + VALUE_BYTES / 2;
    uint32_t mask = VALUE_BYTES ^ (VALUE_BYTES + more);
    unsigned char masks[8];
    memcpy(masks, &mask, 4); /* Of the value's length, and of the stored one */
    memcpy(masks + 4, &mask, 4);
    record_damage(story, &location, 12, masks, sizeof masks);
    story_compact(story);
    assert_int_equal(story->damaged, 1);
    assert_int_equal(story->kept, 0);
    assert_false(segment_there(story->f, location.segment));
    model_expect_all(story->model, story->f->tiers);
}

/* A block that cannot be read until it has been tried by itself. */
struct bad_block {
    uint64_t offset;
    unsigned tried;
};

static bool block_refuse(void *context, const struct uring_op *op, uint32_t *length, int *result)
{
    struct bad_block *bad = context;
    (void)length;
    if (op->kind != URING_READ || bad->tried > 0 || op->offset > bad->offset ||
        op->offset + op->length <= bad->offset) {
        return false;
    }
    bad->tried += op->length == COLD_BLOCK_BYTES;
    *result = -EIO;
    return true;
}

static void damage_that_is_not_found_again_is_told_all_the_same(void **state)
{
    struct story *story = *state;
    struct cold_location location;
    story_begin(story);
    (void)record_find(story, 1, &location);
    struct bad_block bad = {.offset = location.offset / COLD_BLOCK_BYTES * COLD_BLOCK_BYTES};
    const struct uring_faults hook = {.context = &bad, .before = block_refuse};
    delete_most(story);
    story->f->clock_ms += 1000;
    uring_faults_set(&hook);
    steps(story->f);
    uring_faults_set(NULL);
    assert_int_equal(bad.tried, 1);
    assert_int_equal(story->damaged, 1);
    assert_int_equal(story->kept, 0);
    assert_int_equal(fixture_stats(story->f).checksum_errors, 1);
    assert_false(segment_there(story->f, location.segment));
    model_expect_all(story->model, story->f->tiers);
}

/* By its damaged key a live record seems dead. */
static void a_live_record_with_a_damaged_key_is_missed(void **state)
{
    struct story *story = *state;
    const unsigned char bit = 64;
    struct cold_location location;
    story_begin(story);
    size_t damaged = record_find(story, 0, &location);
    record_damage(story, &location, COLD_RECORD_HEADER_BYTES, &bit, 1);
    story_compact(story);
    assert_true(segment_there(story->f, location.segment));
    assert_int_equal(story->damaged, 1);
    assert_int_equal(story->kept, 1);
    expect_all_but(story, damaged);
}

static void a_read_that_meets_damage_has_the_rest_of_the_segment_saved(void **state)
{
    struct story *story = *state;
    struct fixture *f = story->f;
    fixture_open(f, false);
    fill(story);
    steps(f);
    fixture_close(f);
    fixture_open(f, false);
    struct cold_location location;
    size_t damaged = damage_one(story, &location);
    expect_all_but(story, damaged);
    f->clock_ms += 1000;
    steps(f);
    assert_int_equal(story->kept, 1);
    for (size_t i = 0; i < KEYS; i++) {
        struct warm_item item;
        assert_true(item_find(f, i, &item));
        assert_true(i == damaged || !item.cold || item.location.segment != location.segment);
    }
}

/* ---- Scrubbing ---- */

static void the_scrubber_reads_every_sealed_segment_once_in_its_interval(void **state)
{
    struct story *story = *state;
    struct fixture *f = story->f;
    f->options.scrub_interval_ms = 3600000;
    f->options.cold_segment_bytes = 64u << 10;
    fixture_open(f, false);
    fill(story);
    steps(f);
    fixture_close(f); /* Seals the active one */
    f->clock_ms += 12345;
    fixture_open(f, false);
    uint64_t segments = fixture_stats(f).cold_segments;
    assert_true(segments > 10);
    for (unsigned pass = 1; pass <= 3; pass++) {
        steps(f);
        struct tiers_stats stats = fixture_stats(f);
        assert_int_equal(stats.scrubbed_segments, pass * segments);
        assert_int_equal(stats.scrubbed_bytes, pass * stats.cold_bytes);
        f->clock_ms += 3500000;
        steps(f);
        assert_int_equal(fixture_stats(f).scrubbed_segments, pass * segments);
        f->clock_ms += 100000;
    }
    assert_int_equal(fixture_stats(f).scrub_damages, 0);
}

static void the_scrubber_keeps_to_its_limit(void **state)
{
    struct story *story = *state;
    struct fixture *f = story->f;
    f->options.scrub_interval_ms = 36000000;
    f->options.scrub_bytes_per_second_max = 100000;
    fixture_open(f, false);
    fill(story);
    f->clock_ms += 1000;
    uint64_t begin_ms = f->clock_ms;
    uint64_t bytes = 0;
    for (unsigned i = 0; i < 100; i++) {
        f->clock_ms += 100;
        steps(f);
        bytes = fixture_stats(f).scrubbed_bytes;
        assert_true(bytes <= (f->clock_ms - begin_ms) / 10 * 1000 + (1u << 20) + 25000);
    }
    assert_true(bytes >= 1000000 - 100000);
}

static void the_scrubber_reports_damage_once_and_has_the_rest_saved(void **state)
{
    struct story *story = *state;
    struct fixture *f = story->f;
    f->options.scrub_interval_ms = 3600000;
    fixture_open(f, false);
    fill(story);
    steps(f);
    fixture_close(f);
    struct cold_location location;
    f->clock_ms += 1;
    fixture_open(f, false);
    size_t damaged = damage_one(story, &location);
    steps(f);
    f->clock_ms += 1000;
    steps(f);
    struct tiers_stats stats = fixture_stats(f);
    assert_int_equal(stats.scrub_damages, 1);
    assert_int_equal(story->kept, 1);
    expect_all_but(story, damaged);
    for (size_t i = 0; i < KEYS; i++) {
        struct warm_item item;
        assert_true(item_find(f, i, &item));
        assert_true(i == damaged || !item.cold || item.location.segment != location.segment);
    }
    f->clock_ms += 30000;
    steps(f);
    assert_int_equal(fixture_stats(f).scrub_damages, 1);
    assert_int_equal(story->kept, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(compaction_of_a_damaged_segment_saves_the_rest_and_backs_off),
        TEST(damage_in_a_dead_record_holds_nothing_up),
        TEST(a_dead_record_that_lies_of_its_length_hides_no_live_one),
        TEST(damage_that_is_not_found_again_is_told_all_the_same),
        TEST(a_live_record_with_a_damaged_key_is_missed),
        TEST(a_read_that_meets_damage_has_the_rest_of_the_segment_saved),
        TEST(the_scrubber_reads_every_sealed_segment_once_in_its_interval),
        TEST(the_scrubber_keeps_to_its_limit),
        TEST(the_scrubber_reports_damage_once_and_has_the_rest_saved),
    };
    return cmocka_run_group_tests_name("mover_damage", tests, NULL, NULL);
}
