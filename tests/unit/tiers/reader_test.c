/* Reads through a reader: asynchronous cold reads, cancelling, bounds, damage, and readers beside
 * an applier and the mover.
 */
#include "engine_fixture.h"

#include "engine.h"
#include "mover.h"
#include "record.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#define VALUE_BYTES 4000
#define KEYS        800

struct story {
    struct fixture *f;
    struct model *model;
    struct tiers_reader *reader;
};

/* Almost all keys are cold and none is in memory. */
static int set_up(void **state)
{
    struct story *story = calloc(1, sizeof *story);
    assert_non_null(story);
    story->f = fixture_new();
    story->f->options.read_depth_max = 8;
    story->model = model_new(KEYS);
    fixture_open(story->f, false);
    for (size_t i = 0; i < KEYS; i++) {
        model_put_group(story->f->tiers, story->model, i, VALUE_BYTES);
    }
    assert_int_equal(tiers_flush(story->f->tiers), 0);
    while (mover_step(story->f->tiers->mover)) {
    }
    fixture_close(story->f);
    fixture_open(story->f, false);
    assert_int_equal(tiers_reader_open(story->f->tiers, &story->reader), 0);
    assert_true(fixture_stats(story->f).cold_keys > KEYS / 2);
    *state = story;
    return 0;
}

static int tear_down(void **state)
{
    struct story *story = *state;
    if (story->reader != NULL) {
        tiers_reader_close(story->reader);
    }
    fixture_free(story->f);
    model_free(story->model);
    free(story);
    return 0;
}

struct get {
    struct tiers_read read;
    bool done;
    int status;
    const struct tiers_record *record;
};

static void get_done(struct tiers_read *read, int status, const struct tiers_record *record)
{
    struct get *get = read->owner;
    assert_false(get->done);
    get->done = true;
    get->status = status;
    get->record = record;
}

static int get_start(struct story *story, size_t number, struct get *get)
{
    char key[32];
    size_t key_len = model_key_text(number, key);
    *get = (struct get){.read = {.done = get_done, .owner = get}};
    return tiers_reader_get(story->reader, TIERS_SPACE_USER, key, key_len, &get->read,
                            &get->record);
}

/* Waits for the eventfd, as an event loop would. */
static void complete_until(struct story *story, const bool *done)
{
    while (!*done) {
        struct pollfd fd = {.fd = tiers_reader_fd(story->reader), .events = POLLIN};
        assert_int_equal(poll(&fd, 1, 10000), 1);
        tiers_reader_complete(story->reader);
    }
}

/* Starts a read of the first cold key from *number on. */
static void cold_start(struct story *story, size_t *number, struct get *get)
{
    while (get_start(story, *number, get) != TIERS_PENDING) {
        if (get->record != NULL) {
            tiers_record_release(get->record);
        }
        assert_true(++*number < KEYS);
    }
}

static void a_cold_read_completes_through_the_descriptor(void **state)
{
    struct story *story = *state;
    size_t number = 0;
    struct get get;
    cold_start(story, &number, &get);
    complete_until(story, &get.done);
    assert_int_equal(get.status, 0);
    assert_memory_equal(tiers_record_meta(get.record), &story->model->keys[number].meta,
                        sizeof(struct tiers_meta));
    assert_true(model_value_check(number, get.record, story->model->value));
    tiers_record_release(get.record);
    assert_int_equal(fixture_stats(story->f).hits_cold, 1);
}

static void what_was_read_is_answered_from_memory_next_time(void **state)
{
    struct story *story = *state;
    size_t number = 0;
    struct get get;
    cold_start(story, &number, &get);
    complete_until(story, &get.done);
    tiers_record_release(get.record);
    assert_int_equal(get_start(story, number, &get), 0);
    tiers_record_release(get.record);
    assert_int_equal(fixture_stats(story->f).hits_hot, 1);
    assert_true(fixture_stats(story->f).promoted_hot_keys >= 1);
}

#define HOT_READS 400

/* Reads the key so often from memory; how much hotter it is than before. */
static unsigned hot_reads_heat(struct story *story, struct tiers_reader *reader, size_t number)
{
    char key[32];
    size_t key_len = model_key_text(number, key);
    uint64_t hash = record_key_hash(TIERS_SPACE_USER, key, key_len);
    unsigned before = heat_estimate(story->f->tiers->heat, hash);
    for (unsigned i = 0; i < HOT_READS; i++) {
        const struct tiers_record *record = NULL;
        assert_int_equal(tiers_reader_get_wait(reader, TIERS_SPACE_USER, key, key_len, &record), 0);
        assert_int_equal(tiers_reader_tier(reader), TIERS_TIER_HOT);
        tiers_record_release(record);
    }
    return heat_estimate(story->f->tiers->heat, hash) - before;
}

static void hits_in_memory_become_heat(void **state)
{
    struct story *story = *state;
    struct tiers_reader *quiet = NULL;
    size_t number = 0;
    struct get get;
    cold_start(story, &number, &get);
    complete_until(story, &get.done);
    tiers_record_release(get.record);
    assert_int_equal(reader_open_quiet(story->f->tiers, &quiet), 0);
    assert_int_equal(hot_reads_heat(story, quiet, number), 0);
    tiers_reader_close(quiet);
    assert_int_equal(fixture_stats(story->f).hits_hot, 0);
    /* A sample of them is counted, up to the most that there is. */
    assert_true(hot_reads_heat(story, story->reader, number) >= 5);
    assert_int_equal(fixture_stats(story->f).hits_hot, HOT_READS);
}

/* What it has gathered is counted when it closes, however little. */
static void a_reader_that_closes_tells_of_its_hits(void **state)
{
    struct story *story = *state;
    size_t number = 0;
    struct get get;
    char key[32];
    cold_start(story, &number, &get);
    complete_until(story, &get.done);
    tiers_record_release(get.record);
    size_t key_len = model_key_text(number, key);
    uint64_t hash = record_key_hash(TIERS_SPACE_USER, key, key_len);
    unsigned before = heat_estimate(story->f->tiers->heat, hash);
    assert_int_equal(get_start(story, number, &get), 0);
    tiers_record_release(get.record);
    assert_int_equal(heat_estimate(story->f->tiers->heat, hash), before);
    tiers_reader_close(story->reader);
    story->reader = NULL;
    assert_int_equal(heat_estimate(story->f->tiers->heat, hash), before + 1);
}

static void a_cancelled_read_is_never_answered(void **state)
{
    struct story *story = *state;
    size_t first = 0;
    struct get cancelled;
    struct get other;
    cold_start(story, &first, &cancelled);
    size_t second = first + 1;
    cold_start(story, &second, &other);
    tiers_reader_cancel(story->reader, &cancelled.read);
    complete_until(story, &other.done);
    tiers_record_release(other.record);
    assert_false(cancelled.done);
}

static void closing_drops_the_reads_under_way(void **state)
{
    struct story *story = *state;
    struct get gets[4];
    size_t number = 0;
    for (size_t i = 0; i < 4; i++, number++) {
        cold_start(story, &number, &gets[i]);
    }
    tiers_reader_close(story->reader);
    story->reader = NULL;
    for (size_t i = 0; i < 4; i++) {
        assert_false(gets[i].done);
    }
}

static void reads_beyond_the_depth_are_refused(void **state)
{
    struct story *story = *state;
    struct get gets[9];
    size_t number = 0;
    for (size_t i = 0; i < 8; i++, number++) {
        cold_start(story, &number, &gets[i]);
    }
    int error = get_start(story, number, &gets[8]);
    while (error == 0) {
        tiers_record_release(gets[8].record);
        error = get_start(story, ++number, &gets[8]);
    }
    assert_int_equal(error, TIERS_BUSY);
    for (size_t i = 0; i < 8; i++) {
        complete_until(story, &gets[i].done);
        tiers_record_release(gets[i].record);
    }
    assert_int_equal(get_start(story, number, &gets[8]), TIERS_PENDING);
}

static void an_absent_key_is_counted_as_a_miss(void **state)
{
    struct story *story = *state;
    const struct tiers_record *record = NULL;
    assert_int_equal(tiers_reader_get_wait(story->reader, TIERS_SPACE_USER, "absent", 6, &record),
                     TIERS_NOT_FOUND);
    assert_int_equal(fixture_stats(story->f).misses, 1);
}

static void a_read_whose_record_was_compacted_away_is_found_again(void **state)
{
    struct story *story = *state;
    struct fixture *f = story->f;
    struct get gets[8];
    size_t numbers[8];
    size_t number = 0;
    /* Two of three keys go, so that each segment is rewritten under the reads. */
    for (size_t i = 0; i < KEYS; i++) {
        if (i % 3 != 0) {
            model_delete_group(f->tiers, story->model, i);
        }
    }
    assert_int_equal(tiers_flush(f->tiers), 0);
    for (size_t i = 0; i < 8; i++, number++) {
        cold_start(story, &number, &gets[i]);
        numbers[i] = number;
    }
    while (mover_step(f->tiers->mover)) {
    }
    assert_true(fixture_stats(f).compacted_segments > 0);
    for (size_t i = 0; i < 8; i++) {
        complete_until(story, &gets[i].done);
        assert_int_equal(gets[i].status, 0);
        assert_true(model_value_check(numbers[i], gets[i].record, story->model->value));
        tiers_record_release(gets[i].record);
    }
    model_expect_all(story->model, f->tiers);
}

static void damage_on_the_cold_disk_is_reported_never_returned(void **state)
{
    struct story *story = *state;
    DIR *folder = opendir(story->f->cold_dir);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char path[TEMP_FOLDER_PATH_BYTES + 300];
        snprintf(path, sizeof path, "%s/%s", story->f->cold_dir, entry->d_name);
        if (strstr(entry->d_name, ".seg") == NULL) {
            continue;
        }
        FILE *file = fopen(path, "r+b");
        assert_non_null(file);
        /* One byte in each 2 KiB: no record of 4000 bytes is spared. */
        for (long at = 4096 + 1000; fseek(file, at, SEEK_SET) == 0 && fgetc(file) != EOF;
             at += 2048) {
            fseek(file, at, SEEK_SET);
            int byte = fgetc(file);
            fseek(file, at, SEEK_SET);
            fputc(byte ^ 0x55, file);
        }
        fclose(file);
    }
    closedir(folder);
    size_t damaged = 0;
    for (size_t i = 0; i < KEYS; i++) {
        char key[32];
        size_t key_len = model_key_text(i, key);
        const struct tiers_record *record = NULL;
        int error = tiers_reader_get_wait(story->reader, TIERS_SPACE_USER, key, key_len, &record);
        if (error == 0) {
            assert_true(model_value_check(i, record, story->model->value));
            tiers_record_release(record);
        } else {
            assert_int_equal(error, TIERS_CORRUPT);
            damaged++;
        }
    }
    assert_true(damaged > KEYS / 2);
    assert_int_equal(fixture_stats(story->f).checksum_errors, damaged);
}

static void damage_on_the_warm_disk_is_reported_never_returned(void **state)
{
    struct story *story = *state;
    struct fixture *f = story->f;
    static const char value[] = "a value that is easily found again";
    const struct tiers_record *record = NULL;
    tiers_apply_begin(f->tiers, ++story->model->index);
    assert_int_equal(tiers_put(f->tiers, TIERS_SPACE_SYSTEM, "k", 1, value, sizeof value, 0, 0,
                               tiers_revision_next(f->tiers)),
                     0);
    tiers_apply_end(f->tiers);
    tiers_reader_close(story->reader);
    story->reader = NULL;
    fixture_close(f);

    char path[TEMP_FOLDER_PATH_BYTES + 32];
    snprintf(path, sizeof path, "%s/data.mdb", f->warm_dir);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    size_t n = (size_t)ftell(file);
    char *bytes = malloc(n);
    assert_non_null(bytes);
    rewind(file);
    assert_int_equal(fread(bytes, 1, n, file), n);
    size_t flipped = 0;
    for (char *at = bytes; (at = memmem(at, n - (size_t)(at - bytes), value, sizeof value)); at++) {
        assert_int_equal(fseek(file, at - bytes, SEEK_SET), 0);
        fputc('A', file);
        flipped++;
    }
    assert_int_equal(fclose(file), 0);
    free(bytes);
    assert_true(flipped > 0);

    fixture_open(f, false);
    assert_int_equal(tiers_reader_open(f->tiers, &story->reader), 0);
    assert_int_equal(tiers_reader_get_wait(story->reader, TIERS_SPACE_SYSTEM, "k", 1, &record),
                     TIERS_CORRUPT);
    assert_int_equal(fixture_stats(f).checksum_errors, 1);
}

/* ---- Beside an applier and the mover ---- */

struct reading {
    struct tiers *tiers;
    uint64_t seed;
    _Atomic uint64_t *floor; /* Least revision that a reader may find, by key */
    atomic_bool *stop;
    unsigned long reads;
    unsigned long wrong;
};

/* A read that begins after a put has ended must see that put, or a later one. */
static void read_one(struct reading *reading, struct tiers_reader *reader, size_t number,
                     unsigned char *scratch)
{
    char key[32];
    size_t key_len = model_key_text(number, key);
    const struct tiers_record *record = NULL;
    uint64_t floor = atomic_load(&reading->floor[number]);
    int error = tiers_reader_get_wait(reader, TIERS_SPACE_USER, key, key_len, &record);
    reading->reads++;
    if (error == 0) {
        if (!model_value_check(number, record, scratch) ||
            tiers_record_meta(record)->mod_revision < floor ||
            tiers_record_meta(record)->flags != number) {
            reading->wrong++;
        }
        tiers_record_release(record);
    } else if (error != TIERS_NOT_FOUND) {
        reading->wrong++;
    }
}

static void *reading_run(void *argument)
{
    struct reading *reading = argument;
    struct tiers_reader *reader = NULL;
    unsigned char *scratch = malloc(MODEL_VALUE_BYTES_MAX);
    if (scratch == NULL || tiers_reader_open(reading->tiers, &reader) != 0) {
        abort();
    }
    while (!atomic_load(reading->stop)) {
        read_one(reading, reader, model_random(&reading->seed) % KEYS, scratch);
    }
    tiers_reader_close(reader);
    free(scratch);
    return NULL;
}

static void readers_never_see_an_older_value_than_was_applied(void **state)
{
    struct story *story = *state;
    struct fixture *f = story->f;
    static _Atomic uint64_t floor[KEYS];
    atomic_bool stop = false;
    struct reading readings[3];
    pthread_t threads[3];
    uint64_t random = (uint64_t)getpid();
    print_message("seed %llu\n", (unsigned long long)random);
    tiers_reader_close(story->reader);
    story->reader = NULL;
    fixture_close(f);
    f->options.cold_segment_bytes = 512u << 10;
    fixture_open(f, true);
    for (size_t i = 0; i < KEYS; i++) {
        atomic_store(&floor[i], 0);
    }
    for (size_t i = 0; i < 3; i++) {
        readings[i] =
            (struct reading){.tiers = f->tiers, .seed = random + i, .floor = floor, .stop = &stop};
        assert_int_equal(pthread_create(&threads[i], NULL, reading_run, &readings[i]), 0);
    }
    for (int round = 0; round < 3000; round++) {
        size_t number = model_random(&random) % KEYS;
        if (round % 7 == 0) {
            model_delete_group(f->tiers, story->model, number);
        } else {
            model_put_group(f->tiers, story->model, number, model_random(&random) % 6000);
        }
        atomic_store(&floor[number], story->model->revision);
        if (!tiers_apply_ready(f->tiers)) {
            assert_int_equal(tiers_flush(f->tiers), 0);
        }
    }
    atomic_store(&stop, true);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        print_message("%lu reads\n", readings[i].reads);
        assert_int_equal(readings[i].wrong, 0);
    }
    model_expect_all(story->model, f->tiers);
    assert_int_equal(f->failures, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_cold_read_completes_through_the_descriptor),
        TEST(what_was_read_is_answered_from_memory_next_time),
        TEST(hits_in_memory_become_heat),
        TEST(a_reader_that_closes_tells_of_its_hits),
        TEST(a_cancelled_read_is_never_answered),
        TEST(closing_drops_the_reads_under_way),
        TEST(reads_beyond_the_depth_are_refused),
        TEST(an_absent_key_is_counted_as_a_miss),
        TEST(a_read_whose_record_was_compacted_away_is_found_again),
        TEST(damage_on_the_cold_disk_is_reported_never_returned),
        TEST(damage_on_the_warm_disk_is_reported_never_returned),
        TEST(readers_never_see_an_older_value_than_was_applied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
