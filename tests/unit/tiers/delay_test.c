/* An engine whose cold disk answers late and in any order: values are right, nobody waits for a
 * read but who asked for it, and it closes with whatever is under way. */
#include "engine_fixture.h"

#include "disk_delay.h"
#include "mover_private.h"
#include "numbered.h"

#include <poll.h>
#include <unistd.h>

#define KEYS        4000
#define VALUE_BYTES 1000
#define MAX_US      500
#define READS       12
#define READERS     2
#define ROUNDS      4
#define WAIT_MS     30000

struct slow {
    struct fixture *f;
    struct model *model;
    struct disk_delay *delay;
    struct tiers_reader *reader;
    uint64_t random;
};

static void steps(struct fixture *f)
{
    for (int i = 0; i < 10000 && mover_step(f->tiers->mover); i++) {
    }
}

static int set_up(void **state)
{
    struct slow *slow = calloc(1, sizeof *slow);
    if (slow == NULL) {
        abort();
    }
    slow->f = fixture_new();
    slow->model = model_new(KEYS);
    slow->random = random_seed();
    slow->delay = disk_delay_new(random_next(&slow->random), MAX_US);
    *state = slow;
    return 0;
}

static int tear_down(void **state)
{
    struct slow *slow = *state;
    if (slow->f->tiers != NULL) {
        fixture_close(slow->f);
    }
    assert_int_equal(slow->delay->n, 0);
    assert_int_equal(slow->delay->syncs_too_early, 0);
    disk_delay_free(slow->delay);
    model_free(slow->model);
    fixture_free(slow->f);
    free(slow);
    return 0;
}

/* Without a mover thread: most values are cold, and a reader is open. */
static void store_fill(struct slow *slow)
{
    fixture_open(slow->f, false);
    for (size_t i = 0; i < KEYS; i++) {
        model_put_group(slow->f->tiers, slow->model, i, VALUE_BYTES);
        if (i % 200 == 199) {
            assert_int_equal(tiers_flush(slow->f->tiers), 0);
        }
    }
    steps(slow->f);
    assert_true(fixture_stats(slow->f).cold_keys > KEYS / 2);
    assert_int_equal(tiers_reader_open(slow->f->tiers, &slow->reader), 0);
}

/* ---- Reads that are held back ---- */

struct held_read {
    struct tiers_read read;
    size_t number;
    bool right;
    bool done;
};

static void held_done(struct tiers_read *read, int status, const struct tiers_record *record)
{
    static unsigned char scratch[MODEL_VALUE_BYTES_MAX];
    struct held_read *held = read->owner;
    held->done = true;
    held->right = status == 0 && model_value_check(held->number, record, scratch);
    if (record != NULL) {
        tiers_record_release(record);
    }
}

/* Starts reads of cold values far apart, by hand. */
static void reads_hold(struct slow *slow, struct held_read *reads, size_t n)
{
    size_t number = 0;
    disk_delay_hold(slow->delay, DISK_DELAY_ALL);
    for (size_t i = 0; i < n; number += 17) {
        char key[32];
        const struct tiers_record *record = NULL;
        assert_true(number < KEYS);
        reads[i] = (struct held_read){.read = {.done = held_done}, .number = number};
        reads[i].read.owner = &reads[i];
        int error = tiers_reader_get(slow->reader, TIERS_SPACE_USER, key,
                                     model_key_text(number, key), &reads[i].read, &record);
        if (error == 0) {
            tiers_record_release(record);
        } else {
            assert_int_equal(error, TIERS_PENDING);
            i++;
        }
    }
    tiers_reader_complete(slow->reader); /* Sends to the disk what waits */
    assert_true(disk_delay_under_way(slow->delay) > 0);
}

static size_t reads_done(const struct held_read *reads, size_t n)
{
    size_t n_done = 0;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(reads[i].done, reads[i].right);
        n_done += reads[i].done;
    }
    return n_done;
}

/* An operation at the disk was let go: until the reader has something to complete. */
static void reader_step(struct slow *slow)
{
    struct pollfd ready = {.fd = tiers_reader_fd(slow->reader), .events = POLLIN};
    assert_int_equal(poll(&ready, 1, 60000), 1);
    tiers_reader_complete(slow->reader);
}

static bool answered_at_once(struct slow *slow, size_t number)
{
    static unsigned char scratch[MODEL_VALUE_BYTES_MAX];
    struct tiers_read read = {.done = held_done};
    const struct tiers_record *record = NULL;
    char key[32];
    bool right = tiers_reader_get(slow->reader, TIERS_SPACE_USER, key, model_key_text(number, key),
                                  &read, &record) == 0 &&
                 model_value_check(number, record, scratch);
    if (record != NULL) {
        tiers_record_release(record);
    }
    return right;
}

static void a_read_held_back_by_the_disk_holds_up_nothing_else(void **state)
{
    struct slow *slow = *state;
    struct held_read reads[READS];
    store_fill(slow);
    reads_hold(slow, reads, READS);
    unsigned under_way = disk_delay_under_way(slow->delay);
    for (size_t i = 0; i < 100; i++) {
        model_put_group(slow->f->tiers, slow->model, i, VALUE_BYTES);
    }
    for (size_t i = 0; i < 100; i++) {
        assert_true(answered_at_once(slow, i));
        assert_int_equal(tiers_reader_tier(slow->reader), TIERS_TIER_HOT);
    }
    assert_int_equal(tiers_flush(slow->f->tiers), 0);
    for (size_t i = 0; i < 100; i++) {
        assert_true(answered_at_once(slow, i));
    }
    assert_int_equal(disk_delay_under_way(slow->delay), under_way);
    assert_int_equal(reads_done(reads, READS), 0);

    /* The first one waits on while the others are answered. */
    while (disk_delay_under_way(slow->delay) > 1) {
        disk_delay_release(slow->delay, disk_delay_under_way(slow->delay) - 1);
        reader_step(slow);
    }
    assert_false(reads[0].done);
    assert_int_equal(reads_done(reads, READS), READS - 1);
    disk_delay_release(slow->delay, 0);
    while (!reads[0].done) {
        reader_step(slow);
    }
    assert_int_equal(reads_done(reads, READS), READS);
    tiers_reader_close(slow->reader);
}

static void what_is_cancelled_at_the_disk_is_never_answered(void **state)
{
    struct slow *slow = *state;
    struct held_read reads[READS];
    store_fill(slow);
    reads_hold(slow, reads, READS);
    for (size_t i = 0; i < READS; i += 2) {
        tiers_reader_cancel(slow->reader, &reads[i].read);
    }
    while (disk_delay_under_way(slow->delay) > 0) {
        disk_delay_release_any(slow->delay);
        reader_step(slow);
    }
    for (size_t i = 0; i < READS; i++) {
        assert_int_equal(reads[i].done, i % 2 == 1);
    }
    tiers_reader_close(slow->reader);
}

static void a_reader_closes_while_the_disk_is_at_its_reads(void **state)
{
    struct slow *slow = *state;
    struct held_read reads[READS];
    store_fill(slow);
    reads_hold(slow, reads, READS);
    disk_delay_release_all(slow->delay);
    tiers_reader_close(slow->reader);
    assert_int_equal(reads_done(reads, READS), 0);
    assert_int_equal(disk_delay_under_way(slow->delay), 0);
}

/* ---- All at work ---- */

struct reading {
    struct slow *slow;
    pthread_t thread;
    uint64_t random;
    _Atomic bool *stop;
    unsigned n;
    unsigned wrong;
};

/* Without assertions: they belong to the main thread. */
static void *reading_run(void *argument)
{
    struct reading *reading = argument;
    struct tiers_reader *reader = NULL;
    unsigned char *scratch = malloc(MODEL_VALUE_BYTES_MAX);
    if (scratch == NULL || tiers_reader_open(reading->slow->f->tiers, &reader) != 0) {
        abort();
    }
    while (!atomic_load(reading->stop) || reading->n < 100) {
        char key[32];
        size_t number = random_next(&reading->random) % KEYS;
        const struct tiers_record *record = NULL;
        int error = tiers_reader_get_wait(reader, TIERS_SPACE_USER, key,
                                          model_key_text(number, key), &record);
        reading->n++;
        if (error == 0) {
            reading->wrong += !model_value_check(number, record, scratch);
            tiers_record_release(record);
        } else {
            reading->wrong += error != TIERS_NOT_FOUND;
        }
    }
    tiers_reader_close(reader);
    free(scratch);
    return NULL;
}

static void values_are_right_while_every_operation_is_late(void **state)
{
    struct slow *slow = *state;
    struct reading readings[READERS];
    _Atomic bool stop = false;
    slow->f->options.scrub_interval_ms = 50;
    fixture_open(slow->f, true);
    for (size_t i = 0; i < READERS; i++) {
        readings[i] =
            (struct reading){.slow = slow, .random = random_next(&slow->random) | 1, .stop = &stop};
        assert_int_equal(pthread_create(&readings[i].thread, NULL, reading_run, &readings[i]), 0);
    }
    /* Overwritten and deleted values leave dead space behind, which is compacted. */
    for (size_t i = 0; i < ROUNDS * KEYS; i++) {
        size_t number = random_next(&slow->random) % KEYS;
        if (i % 10 == 9) {
            model_delete_group(slow->f->tiers, slow->model, number);
        } else {
            model_put_group(slow->f->tiers, slow->model, number, VALUE_BYTES);
        }
        if (i % 500 == 499) {
            assert_int_equal(tiers_flush(slow->f->tiers), 0);
        }
    }
    atomic_store(&stop, true);
    for (size_t i = 0; i < READERS; i++) {
        pthread_join(readings[i].thread, NULL);
        assert_int_equal(readings[i].wrong, 0);
    }
    struct tiers_stats stats = fixture_stats(slow->f);
    print_message("demoted %llu, compacted %llu, cold reads %llu; overtaken %u\n",
                  (unsigned long long)stats.demoted_keys,
                  (unsigned long long)stats.compacted_segments, (unsigned long long)stats.hits_cold,
                  disk_delay_overtaken(slow->delay));
    assert_true(stats.demoted_keys > 0 && stats.hits_cold > 0 &&
                disk_delay_overtaken(slow->delay) > 0);
    /* The scrubber comes when there is nothing more urgent. */
    for (int i = 0; i < WAIT_MS && stats.warm_scrubbed_bytes == 0; i++) {
        usleep(1000);
        stats = fixture_stats(slow->f);
    }
    assert_true(stats.warm_scrubbed_bytes > 0);
    model_expect_all(slow->model, slow->f->tiers);
    fixture_close(slow->f);
    fixture_open(slow->f, true);
    model_expect_all(slow->model, slow->f->tiers);
    assert_int_equal(slow->f->failures, 0);
}

static void an_engine_closes_while_the_disk_is_at_its_writes(void **state)
{
    struct slow *slow = *state;
    for (size_t round = 0; round < ROUNDS; round++) {
        enum uring_kind kind = round % 2 == 0 ? URING_WRITE : URING_FSYNC;
        fixture_open(slow->f, true);
        disk_delay_hold(slow->delay, 1u << kind);
        for (size_t i = 0; i < KEYS; i++) {
            model_put_group(slow->f->tiers, slow->model, i, VALUE_BYTES);
        }
        disk_delay_await(slow->delay, kind);
        disk_delay_release_all(slow->delay);
        fixture_close(slow->f);
        assert_int_equal(disk_delay_under_way(slow->delay), 0);
    }
    fixture_open(slow->f, true);
    model_expect_all(slow->model, slow->f->tiers);
    assert_int_equal(slow->f->failures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(a_read_held_back_by_the_disk_holds_up_nothing_else),
        TEST(what_is_cancelled_at_the_disk_is_never_answered),
        TEST(a_reader_closes_while_the_disk_is_at_its_reads),
        TEST(values_are_right_while_every_operation_is_late),
        TEST(an_engine_closes_while_the_disk_is_at_its_writes),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
