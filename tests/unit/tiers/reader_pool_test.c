/* Warm reads whose pages are not in memory: they go to the pool, and come back as cold ones do. */
#include "engine_fixture.h"

#include "evict.h"
#include "mover.h"
#include "reader_pool.h"

#include <poll.h>
#include <pthread.h>

#define KEYS        2000
#define VALUE_BYTES 400
#define LARGE_KEY   7
#define LARGE_BYTES 60000
#define IN_FLIGHT   16

struct story {
    struct fixture *f;
    struct model *model;
    struct tiers_reader *reader;
    char file[TEMP_FOLDER_PATH_BYTES + 32];
};

/* All keys are warm and none is in memory. */
static int set_up(void **state)
{
    struct story *story = calloc(1, sizeof *story);
    assert_non_null(story);
    story->f = fixture_new();
    story->f->options.warm_bytes = 64u << 20;
    story->f->options.read_depth_max = IN_FLIGHT;
    story->f->options.warm_reader_threads = 4;
    story->model = model_new(KEYS);
    fixture_open(story->f, false);
    for (size_t i = 0; i < KEYS; i++) {
        model_put_group(story->f->tiers, story->model, i,
                        i == LARGE_KEY ? LARGE_BYTES : VALUE_BYTES);
    }
    assert_int_equal(tiers_flush(story->f->tiers), 0);
    fixture_close(story->f);
    fixture_open(story->f, false);
    snprintf(story->file, sizeof story->file, "%s/data.mdb", story->f->warm_dir);
    assert_int_equal(tiers_reader_open(story->f->tiers, &story->reader), 0);
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

static void evict_or_skip(struct story *story)
{
    if (!evict_possible(story->file)) {
        print_message("skipped: pages of %s cannot be taken out of memory\n", story->file);
        skip();
    }
}

struct get {
    struct tiers_read read;
    size_t number;
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

static int key_start(struct story *story, const char *key, struct get *get)
{
    *get = (struct get){.read = {.done = get_done, .owner = get}};
    return tiers_reader_get(story->reader, TIERS_SPACE_USER, key, strlen(key), &get->read,
                            &get->record);
}

static int get_start(struct story *story, size_t number, struct get *get)
{
    char key[32];
    model_key_text(number, key);
    return key_start(story, key, get);
}

static void complete_until(struct story *story, const bool *done)
{
    while (!*done) {
        struct pollfd fd = {.fd = tiers_reader_fd(story->reader), .events = POLLIN};
        assert_int_equal(poll(&fd, 1, 10000), 1);
        tiers_reader_complete(story->reader);
    }
}

static void answer_expect(struct story *story, size_t number, struct get *get)
{
    assert_int_equal(get->status, 0);
    assert_int_equal(get->record->value_len, story->model->keys[number].value_len);
    assert_true(model_value_check(number, get->record, story->model->value));
    tiers_record_release(get->record);
}

static void a_warm_read_that_misses_memory_completes_through_the_descriptor(void **state)
{
    struct story *story = *state;
    struct get get;
    evict_or_skip(story);
    assert_int_equal(get_start(story, 1, &get), TIERS_PENDING);
    complete_until(story, &get.done);
    assert_int_equal(tiers_reader_tier(story->reader), TIERS_TIER_WARM);
    answer_expect(story, 1, &get);
    assert_int_equal(fixture_stats(story->f).hits_warm, 1);
    assert_int_equal(fixture_stats(story->f).warm_reads_pooled, 1);
}

/* True if it took the pool. */
static bool read_expect(struct story *story, size_t number)
{
    struct get get;
    int error = get_start(story, number, &get);
    if (error == TIERS_PENDING) {
        complete_until(story, &get.done);
    }
    answer_expect(story, number, &get);
    return error == TIERS_PENDING;
}

static void a_warm_read_whose_pages_are_in_memory_is_answered_at_once(void **state)
{
    struct story *story = *state;
    size_t pooled = 0;
    evict_or_skip(story);
    for (size_t number = 1000; number < 1040; number++) {
        pooled += read_expect(story, number);
    }
    /* One for each leaf. */
    assert_true(pooled >= 1 && pooled <= 20);
    assert_int_equal(fixture_stats(story->f).warm_reads_pooled, pooled);
}

static void a_value_on_pages_of_its_own_is_looked_for_there(void **state)
{
    struct story *story = *state;
    evict_or_skip(story);
    /* Its leaf is that of one of its neighbours. */
    (void)read_expect(story, LARGE_KEY - 1);
    (void)read_expect(story, LARGE_KEY + 1);
    uint64_t before = fixture_stats(story->f).warm_reads_pooled;
    assert_true(read_expect(story, LARGE_KEY));
    assert_int_equal(fixture_stats(story->f).warm_reads_pooled, before + 1);
}

static void an_absent_key_is_not_found_through_the_pool(void **state)
{
    struct story *story = *state;
    struct get get;
    evict_or_skip(story);
    assert_int_equal(key_start(story, "key/0000999x", &get), TIERS_PENDING);
    complete_until(story, &get.done);
    assert_int_equal(get.status, TIERS_NOT_FOUND);
    assert_null(get.record);
    assert_int_equal(fixture_stats(story->f).misses, 1);
}

static void what_the_pool_read_is_answered_from_memory_next_time(void **state)
{
    struct story *story = *state;
    struct get get;
    evict_or_skip(story);
    assert_int_equal(get_start(story, 5, &get), TIERS_PENDING);
    complete_until(story, &get.done);
    answer_expect(story, 5, &get);
    evict(story->file);
    assert_int_equal(get_start(story, 5, &get), 0);
    tiers_record_release(get.record);
    assert_int_equal(fixture_stats(story->f).hits_hot, 1);
}

static void a_write_during_the_read_keeps_the_old_value_out_of_memory(void **state)
{
    struct story *story = *state;
    struct get get;
    evict_or_skip(story);
    assert_int_equal(get_start(story, 5, &get), TIERS_PENDING);
    model_put_group(story->f->tiers, story->model, 5, 100);
    complete_until(story, &get.done);
    tiers_record_release(get.record);
    assert_int_equal(tiers_flush(story->f->tiers), 0);
    model_expect_all(story->model, story->f->tiers);
}

static void a_cancelled_read_is_never_answered(void **state)
{
    struct story *story = *state;
    struct get cancelled;
    struct get other;
    evict_or_skip(story);
    assert_int_equal(get_start(story, 1, &cancelled), TIERS_PENDING);
    assert_int_equal(get_start(story, 1500, &other), TIERS_PENDING);
    tiers_reader_cancel(story->reader, &cancelled.read);
    complete_until(story, &other.done);
    answer_expect(story, 1500, &other);
    assert_false(cancelled.done);
}

static void closing_waits_for_the_reads_under_way_and_drops_them(void **state)
{
    struct story *story = *state;
    struct get gets[IN_FLIGHT];
    evict_or_skip(story);
    size_t pending = 0;
    for (size_t i = 0; i < IN_FLIGHT; i++) {
        int error = get_start(story, i * 100, &gets[i]);
        pending += error == TIERS_PENDING;
        if (error == 0) {
            tiers_record_release(gets[i].record);
        }
    }
    assert_true(pending > 0);
    tiers_reader_close(story->reader);
    story->reader = NULL;
    for (size_t i = 0; i < IN_FLIGHT; i++) {
        assert_false(gets[i].done);
    }
}

static void reads_beyond_the_depth_are_refused(void **state)
{
    struct story *story = *state;
    struct get gets[IN_FLIGHT];
    struct get refused;
    evict_or_skip(story);
    size_t n = 0;
    /* Until a read is answered it counts. */
    for (size_t number = 0; n < IN_FLIGHT && number < KEYS; number += 20) {
        int error = get_start(story, number, &gets[n]);
        if (error == 0) {
            answer_expect(story, number, &gets[n]);
        } else {
            assert_int_equal(error, TIERS_PENDING);
            gets[n++].number = number;
        }
    }
    assert_int_equal(n, IN_FLIGHT);
    evict(story->file);
    assert_int_equal(get_start(story, KEYS - 1, &refused), TIERS_BUSY);
    for (size_t i = 0; i < n; i++) {
        complete_until(story, &gets[i].done);
        answer_expect(story, gets[i].number, &gets[i]);
    }
}

static void a_pool_that_can_make_no_thread_takes_no_job(void **state)
{
    struct story *story = *state;
    struct reader_pool *pool = NULL;
    struct reader_inbox inbox;
    struct reader_job job = {.inbox = &inbox};
    assert_int_equal(reader_pool_open(story->f->tiers->warm, 0, &pool), 0);
    reader_inbox_open(&inbox, -1);
    assert_false(reader_pool_submit(pool, &job));
    assert_null(reader_inbox_take(&inbox));
    reader_inbox_close(&inbox);
    reader_pool_close(pool);
}

/* ---- Beside an applier, the mover, and memory that is short ---- */

struct reading {
    struct story *story;
    uint64_t seed;
    _Atomic uint64_t *floor; /* Least revision that a reader may find, by key */
    atomic_bool *stop;
    unsigned long reads;
    unsigned long wrong;
};

struct async_get {
    struct tiers_read read;
    struct reading *reading;
    size_t number;
    uint64_t floor;
    bool busy;
};

static void async_check(struct async_get *get, int status, const struct tiers_record *record)
{
    struct reading *reading = get->reading;
    static _Thread_local unsigned char scratch[MODEL_VALUE_BYTES_MAX];
    reading->reads++;
    if (status == 0) {
        reading->wrong += !model_value_check(get->number, record, scratch) ||
                          tiers_record_meta(record)->mod_revision < get->floor;
        tiers_record_release(record);
    } else {
        /* What was cancelled counts until its disk has answered. */
        reading->wrong += status != TIERS_NOT_FOUND && status != TIERS_BUSY;
    }
}

static void async_done(struct tiers_read *read, int status, const struct tiers_record *record)
{
    struct async_get *get = read->owner;
    get->busy = false;
    async_check(get, status, record);
}

static void async_start(struct reading *reading, struct tiers_reader *reader, struct async_get *get)
{
    char key[32];
    const struct tiers_record *record = NULL;
    get->number = model_random(&reading->seed) % KEYS;
    get->floor = atomic_load(&reading->floor[get->number]);
    get->reading = reading;
    get->read = (struct tiers_read){.done = async_done, .owner = get};
    int error = tiers_reader_get(reader, TIERS_SPACE_USER, key, model_key_text(get->number, key),
                                 &get->read, &record);
    if (error == TIERS_PENDING) {
        get->busy = true;
    } else {
        async_check(get, error, record);
    }
}

static void *reading_run(void *argument)
{
    struct reading *reading = argument;
    struct tiers_reader *reader = NULL;
    struct async_get gets[IN_FLIGHT] = {0};
    if (tiers_reader_open(reading->story->f->tiers, &reader) != 0) {
        abort();
    }
    while (!atomic_load(reading->stop)) {
        size_t busy = 0;
        for (size_t i = 0; i < IN_FLIGHT; i++) {
            if (!gets[i].busy) {
                async_start(reading, reader, &gets[i]);
            } else if (model_random(&reading->seed) % 64 == 0) {
                tiers_reader_cancel(reader, &gets[i].read);
                gets[i].busy = false;
            }
            busy += gets[i].busy;
        }
        struct pollfd fd = {.fd = tiers_reader_fd(reader), .events = POLLIN};
        if (poll(&fd, 1, busy == IN_FLIGHT ? 10000 : 0) == 1) {
            tiers_reader_complete(reader);
        }
    }
    tiers_reader_close(reader);
    return NULL;
}

static void readers_never_see_an_older_value_than_was_applied(void **state)
{
    struct story *story = *state;
    struct fixture *f = story->f;
    static _Atomic uint64_t floor[KEYS];
    atomic_bool stop = false;
    struct reading readings[2];
    pthread_t threads[2];
    uint64_t random = (uint64_t)getpid();
    print_message("seed %llu\n", (unsigned long long)random);
    evict_or_skip(story);
    tiers_reader_close(story->reader);
    story->reader = NULL;
    fixture_close(f);
    /* Some of it becomes cold, so that reads go from the pool to the ring. */
    f->options.warm_bytes = 1u << 20;
    fixture_open(f, true);
    for (size_t i = 0; i < KEYS; i++) {
        atomic_store(&floor[i], 0);
    }
    for (size_t i = 0; i < 2; i++) {
        readings[i] =
            (struct reading){.story = story, .seed = random + i, .floor = floor, .stop = &stop};
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
        if (round % 50 == 0) {
            evict(story->file);
        }
    }
    atomic_store(&stop, true);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        print_message("%lu reads\n", readings[i].reads);
        assert_int_equal(readings[i].wrong, 0);
    }
    assert_true(fixture_stats(f).warm_reads_pooled > 0);
    model_expect_all(story->model, f->tiers);
    assert_int_equal(f->failures, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_warm_read_that_misses_memory_completes_through_the_descriptor),
        TEST(a_warm_read_whose_pages_are_in_memory_is_answered_at_once),
        TEST(a_value_on_pages_of_its_own_is_looked_for_there),
        TEST(an_absent_key_is_not_found_through_the_pool),
        TEST(what_the_pool_read_is_answered_from_memory_next_time),
        TEST(a_write_during_the_read_keeps_the_old_value_out_of_memory),
        TEST(a_cancelled_read_is_never_answered),
        TEST(closing_waits_for_the_reads_under_way_and_drops_them),
        TEST(reads_beyond_the_depth_are_refused),
        TEST(a_pool_that_can_make_no_thread_takes_no_job),
        TEST(readers_never_see_an_older_value_than_was_applied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
