/* The engine as its users see it: applying, positions, durability, limits, and a long random story
 * against a reference.
 */
#include "engine_fixture.h"

#include "mover.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int set_up(void **state)
{
    *state = fixture_new();
    return 0;
}

static int tear_down(void **state)
{
    fixture_free(*state);
    return 0;
}

static struct tiers_meta meta_of(struct fixture *f, const char *key)
{
    struct tiers_meta meta = {0};
    assert_int_equal(tiers_lookup_meta(f->tiers, TIERS_SPACE_USER, key, strlen(key), &meta), 0);
    return meta;
}

static int put_text(struct fixture *f, enum tiers_space space, const char *key, const char *value)
{
    return tiers_put(f->tiers, space, key, strlen(key), value, strlen(value), 0, 0,
                     tiers_revision_next(f->tiers));
}

static void what_is_applied_survives_closing(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(50);
    fixture_open(f, true);
    for (size_t i = 0; i < model->n; i++) {
        model_put_group(f->tiers, model, i, i * 7);
    }
    model_delete_group(f->tiers, model, 3);
    model_expect_all(model, f->tiers);
    fixture_close(f);
    fixture_open(f, true);
    model_expect_all(model, f->tiers);
    model_free(model);
}

static void versions_count_and_creation_is_remembered_until_deletion(void **state)
{
    struct fixture *f = *state;
    bool existed = false;
    fixture_open(f, false);
    tiers_apply_begin(f->tiers, 1);
    assert_int_equal(put_text(f, TIERS_SPACE_USER, "k", "1"), 0);
    assert_int_equal(put_text(f, TIERS_SPACE_USER, "k", "2"), 0);
    tiers_apply_end(f->tiers);
    assert_int_equal(tiers_flush(f->tiers), 0);
    tiers_apply_begin(f->tiers, 2);
    assert_int_equal(put_text(f, TIERS_SPACE_USER, "k", "3"), 0);
    struct tiers_meta meta = meta_of(f, "k");
    assert_int_equal(meta.create_revision, 1);
    assert_int_equal(meta.mod_revision, 3);
    assert_int_equal(meta.version, 3);
    assert_int_equal(
        tiers_delete(f->tiers, TIERS_SPACE_USER, "k", 1, tiers_revision_next(f->tiers), &existed),
        0);
    assert_true(existed);
    assert_int_equal(
        tiers_delete(f->tiers, TIERS_SPACE_USER, "k", 1, tiers_revision_next(f->tiers), &existed),
        0);
    assert_false(existed);
    assert_int_equal(put_text(f, TIERS_SPACE_USER, "k", "4"), 0);
    tiers_apply_end(f->tiers);
    meta = meta_of(f, "k");
    assert_int_equal(meta.create_revision, 6);
    assert_int_equal(meta.version, 1);
}

static void the_hash_returns_to_zero_when_all_is_deleted(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(20);
    struct tiers_position position;
    fixture_open(f, false);
    for (size_t i = 0; i < model->n; i++) {
        model_put_group(f->tiers, model, i, 10);
    }
    assert_int_equal(tiers_flush(f->tiers), 0);
    tiers_position_durable(f->tiers, &position);
    assert_int_not_equal(position.state_hash, 0);
    for (size_t i = 0; i < model->n; i++) {
        model_delete_group(f->tiers, model, i);
    }
    tiers_position_applied(f->tiers, &position);
    assert_int_equal(position.state_hash, 0);
    model_free(model);
}

static void sizes_out_of_range_are_refused_and_change_nothing(void **state)
{
    struct fixture *f = *state;
    static char key[TIERS_KEY_BYTES_MAX + 1];
    fixture_open(f, false);
    tiers_apply_begin(f->tiers, 1);
    uint64_t revision = tiers_revision_next(f->tiers);
    assert_int_equal(tiers_put(f->tiers, TIERS_SPACE_USER, key, sizeof key, "", 0, 0, 0, revision),
                     TIERS_INVALID);
    assert_int_equal(tiers_put(f->tiers, TIERS_SPACE_USER, key, 0, "", 0, 0, 0, revision),
                     TIERS_INVALID);
    assert_int_equal(tiers_put(f->tiers, TIERS_SPACE_USER, key, 1, key, TIERS_VALUE_BYTES_MAX + 1ul,
                               0, 0, revision),
                     TIERS_INVALID);
    assert_int_equal(
        tiers_put(f->tiers, TIERS_SPACE_USER, key, TIERS_KEY_BYTES_MAX, "", 0, 0, 0, revision), 0);
    tiers_apply_end(f->tiers);
    assert_int_equal(tiers_flush(f->tiers), 0);
    assert_int_equal(fixture_stats(f).warm_keys, 1);
}

static void the_largest_value_travels_through_all_tiers(void **state)
{
    struct fixture *f = *state;
    struct tiers_reader *reader = NULL;
    unsigned char *value = malloc(TIERS_VALUE_BYTES_MAX);
    assert_non_null(value);
    model_value_fill(1, 1, value, TIERS_VALUE_BYTES_MAX);
    fixture_open(f, false);
    tiers_apply_begin(f->tiers, 1);
    assert_int_equal(tiers_put(f->tiers, TIERS_SPACE_USER, "big", 3, value, TIERS_VALUE_BYTES_MAX,
                               0, 0, tiers_revision_next(f->tiers)),
                     0);
    tiers_apply_end(f->tiers);
    assert_int_equal(tiers_reader_open(f->tiers, &reader), 0);
    for (int round = 0; round < 2; round++) {
        const struct tiers_record *record = NULL;
        assert_int_equal(tiers_reader_get_wait(reader, TIERS_SPACE_USER, "big", 3, &record), 0);
        assert_int_equal(record->value_len, TIERS_VALUE_BYTES_MAX);
        assert_memory_equal(tiers_record_value(record), value, TIERS_VALUE_BYTES_MAX);
        tiers_record_release(record);
        assert_int_equal(tiers_flush(f->tiers), 0);
        struct mover *mover = f->tiers->mover;
        while (mover_step(mover)) {
        }
    }
    assert_int_equal(fixture_stats(f).cold_keys, 1);
    tiers_reader_close(reader);
    free(value);
}

static int count_record(void *context, const struct tiers_record *record)
{
    size_t *counts = context;
    counts[0]++;
    counts[1] += record->value_len;
    return 0;
}

static int stop_at_once(void *context, const struct tiers_record *record)
{
    (void)record;
    ++*(int *)context;
    return 42;
}

static void each_sees_every_key_of_its_space_only(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(2000);
    size_t counts[2] = {0};
    int calls = 0;
    fixture_open(f, true);
    tiers_apply_begin(f->tiers, ++model->index);
    assert_int_equal(put_text(f, TIERS_SPACE_SYSTEM, "member/1", "abc"), 0);
    tiers_apply_end(f->tiers);
    for (size_t i = 0; i < model->n; i++) {
        model_put_group(f->tiers, model, i, 1000);
    }
    model_delete_group(f->tiers, model, 5);
    assert_int_equal(tiers_each(f->tiers, TIERS_SPACE_USER, count_record, counts), 0);
    assert_int_equal(counts[0], model->n - 1);
    assert_int_equal(counts[1], (model->n - 1) * 1000);
    memset(counts, 0, sizeof counts);
    assert_int_equal(tiers_each(f->tiers, TIERS_SPACE_SYSTEM, count_record, counts), 0);
    assert_int_equal(counts[0], 1);
    assert_int_equal(counts[1], 3);
    assert_int_equal(tiers_each(f->tiers, TIERS_SPACE_USER, stop_at_once, &calls), 42);
    assert_int_equal(calls, 1);
    model_free(model);
}

/* ---- Being held back ---- */

static void an_applier_that_is_ahead_is_told_when_to_go_on(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(4000);
    f->options.flush_interval_ms = 60000;
    f->options.dirty_bytes_max = 128u << 10;
    fixture_open(f, true);
    size_t held_back = 0;
    for (size_t i = 0; i < model->n; i++) {
        model_put_group(f->tiers, model, i, 500);
        unsigned before = atomic_load(&f->readies);
        if (!tiers_apply_ready(f->tiers)) {
            held_back++;
            /* Bounded by the test's own time limit. */
            while (atomic_load(&f->readies) == before) {
                usleep(100);
            }
        }
    }
    assert_true(held_back > 0);
    model_expect_all(model, f->tiers);
    model_free(model);
}

static void a_full_map_loses_nothing(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(40000);
    size_t applied = 0;
    f->options.hot_bytes = 64u << 20;
    f->options.warm_map_bytes = 1u << 20;
    fixture_open(f, true);
    while (applied < model->n && atomic_load(&f->pauses) == 0) {
        tiers_apply_begin(f->tiers, ++model->index);
        for (int i = 0; i < 100; i++) {
            assert_int_equal(model_put(f->tiers, model, applied++, 20), 0);
        }
        tiers_apply_end(f->tiers);
        int error = tiers_flush(f->tiers);
        assert_true(error == 0 || error == TIERS_NO_SPACE);
    }
    assert_true(applied < model->n);
    assert_false(tiers_apply_ready(f->tiers));
    /* Everything stays readable, and what was durable stays so. */
    model_expect_all(model, f->tiers);
    struct tiers_position durable;
    tiers_position_durable(f->tiers, &durable);
    assert_true(durable.index > 0 && durable.index < model->index);
    assert_int_equal(tiers_close(f->tiers), TIERS_NO_SPACE);
    f->options.warm_map_bytes = FIXTURE_MAP_BYTES;
    fixture_open(f, true);
    struct tiers_position reopened;
    tiers_position_applied(f->tiers, &reopened);
    assert_memory_equal(&reopened, &durable, sizeof durable);
    assert_int_equal(f->failures, 0);
    model_free(model);
}

static void a_full_disk_pauses_writes_until_there_is_room(void **state)
{
    struct fixture *f = *state;
    char disk[TEMP_FOLDER_PATH_BYTES + 8];
    char ballast[128];
    snprintf(disk, sizeof disk, "%s/disk", f->folder);
    assert_int_equal(mkdir(disk, 0700), 0);
    if (mount("none", disk, "tmpfs", 0, "size=12m") != 0) {
        skip();
    }
    /* Detached at once, for whatever way this test ends; the open folder keeps it alive. */
    char disk_again[64];
    int folder = open(disk, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(folder >= 0);
    assert_int_equal(umount2(disk, MNT_DETACH), 0);
    snprintf(disk_again, sizeof disk_again, "/proc/self/fd/%d", folder);
    struct model *model = model_new(3000);
    char warm_dir[128];
    snprintf(ballast, sizeof ballast, "%s/ballast", disk_again);
    snprintf(warm_dir, sizeof warm_dir, "%s/warm", disk_again);
    f->options.warm_dir = warm_dir;
    f->options.hot_bytes = 64u << 20;
    f->options.warm_bytes = 64u << 20;
    fixture_open(f, true);
    FILE *file = fopen(ballast, "wb");
    assert_non_null(file);
    static char zeros[1 << 20];
    for (int i = 0; i < 9; i++) {
        assert_int_equal(fwrite(zeros, 1, sizeof zeros, file), sizeof zeros);
    }
    assert_int_equal(fclose(file), 0);
    for (size_t i = 0; i < model->n; i++) {
        model_put_group(f->tiers, model, i, 2000);
    }
    assert_int_equal(tiers_flush(f->tiers), TIERS_NO_SPACE);
    assert_true(atomic_load(&f->pauses) >= 1);
    assert_false(tiers_apply_ready(f->tiers));
    model_expect_all(model, f->tiers);
    assert_int_equal(unlink(ballast), 0);
    while (atomic_load(&f->readies) == 0) {
        usleep(1000);
    }
    assert_int_equal(tiers_flush(f->tiers), 0);
    fixture_close(f);
    fixture_open(f, true);
    model_expect_all(model, f->tiers);
    fixture_close(f);
    assert_int_equal(f->failures, 0);
    f->options.warm_dir = f->warm_dir;
    close(folder);
    model_free(model);
}

/* Stands before the C library's: LMDB syncs through it. */
static atomic_bool sync_fails;
int sync_or_fail(int fd) __asm__("fdatasync");
int sync_or_fail(int fd)
{
    if (atomic_load(&sync_fails)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

static void after_a_failed_sync_the_engine_stops_for_good(void **state)
{
    struct fixture *f = *state;
    struct model *model = model_new(20);
    f->options.flush_interval_ms = 60000;
    fixture_open(f, true);
    for (size_t i = 0; i < 10; i++) {
        model_put_group(f->tiers, model, i, 100);
    }
    assert_int_equal(tiers_flush(f->tiers), 0);
    uint64_t durable_hash = model_hash(model);
    for (size_t i = 10; i < 20; i++) {
        model_put_group(f->tiers, model, i, 100);
    }
    atomic_store(&sync_fails, true);
    assert_int_equal(tiers_flush(f->tiers), TIERS_STOPPED);
    atomic_store(&sync_fails, false);
    /* The disk seems to be well again: that is no reason to believe it. */
    assert_int_equal(tiers_flush(f->tiers), TIERS_STOPPED);
    assert_int_equal(f->failures, 1);
    assert_false(tiers_apply_ready(f->tiers));
    model_expect_all(model, f->tiers);
    tiers_apply_begin(f->tiers, model->index + 1);
    assert_int_equal(put_text(f, TIERS_SPACE_USER, "k", "v"), TIERS_STOPPED);
    tiers_apply_end(f->tiers);
    assert_int_equal(tiers_close(f->tiers), TIERS_STOPPED);
    fixture_open(f, true);
    struct tiers_position position;
    tiers_position_applied(f->tiers, &position);
    assert_int_equal(position.index, 10);
    assert_int_equal(position.state_hash, durable_hash);
    assert_int_equal(fixture_stats(f).warm_keys, 10);
    model_free(model);
}

/* ---- Opening ---- */

static void a_second_engine_is_refused(void **state)
{
    struct fixture *f = *state;
    struct tiers *second = NULL;
    fixture_open(f, true);
    assert_int_equal(tiers_open(&f->options, &second, f->text, sizeof f->text), TIERS_LOCKED);
    assert_non_null(strstr(f->text, f->warm_dir));
}

static void a_folder_that_may_not_be_written_is_named(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(chmod(f->folder, 0555), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        /* Permissions do not bind root. */
        if (getuid() == 0 &&
            (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0)) {
            _exit(77);
        }
        struct tiers *tiers = NULL;
        int error = tiers_open(&f->options, &tiers, f->text, sizeof f->text);
        _exit(error == TIERS_ACCESS && strstr(f->text, f->warm_dir) != NULL ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(chmod(f->folder, 0755), 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        skip();
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void a_file_in_place_of_a_folder_is_named(void **state)
{
    struct fixture *f = *state;
    struct tiers *tiers = NULL;
    FILE *file = fopen(f->cold_dir, "wb");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(tiers_open(&f->options, &tiers, f->text, sizeof f->text), TIERS_INVALID);
    assert_non_null(strstr(f->text, f->cold_dir));
}

static void options_out_of_range_are_refused_with_a_sentence(void **state)
{
    struct fixture *f = *state;
    struct tiers *tiers = NULL;
    f->options.hot_bytes = 1000;
    assert_int_equal(tiers_open(&f->options, &tiers, f->text, sizeof f->text), TIERS_INVALID);
    assert_non_null(strstr(f->text, "hot_bytes"));
    f->options.hot_bytes = 1u << 20;
    f->options.policy = "nonsense";
    assert_int_equal(tiers_open(&f->options, &tiers, f->text, sizeof f->text), TIERS_INVALID);
    assert_non_null(strstr(f->text, "policy"));
}

/* ---- The whole story ---- */

static size_t value_len_random(uint64_t *random)
{
    uint64_t kind = model_random(random) % 100;
    if (kind < 10) {
        return 0;
    }
    if (kind < 70) {
        return model_random(random) % 400;
    }
    return kind < 98 ? model_random(random) % 6000 : model_random(random) % MODEL_VALUE_BYTES_MAX;
}

static void random_group(struct fixture *f, struct model *model, uint64_t *random)
{
    size_t n = 1 + model_random(random) % 20;
    tiers_apply_begin(f->tiers, model->index += 1 + model_random(random) % 3);
    for (size_t i = 0; i < n; i++) {
        size_t number = model_random(random) % model->n;
        if (model_random(random) % 5 == 0) {
            assert_int_equal(model_delete(f->tiers, model, number), 0);
        } else {
            assert_int_equal(model_put(f->tiers, model, number, value_len_random(random)), 0);
        }
    }
    tiers_apply_end(f->tiers);
}

static uint64_t seed_choose(void)
{
    const char *given = getenv("TIERKV_TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)getpid();
    print_message("seed %llu (set TIERKV_TEST_SEED to repeat)\n", (unsigned long long)seed);
    return seed;
}

static void a_random_story_agrees_with_the_model(void **state)
{
    struct fixture *f = *state;
    uint64_t random = seed_choose();
    struct model *model = model_new(3000);
    struct tiers_reader *reader = NULL;
    uint64_t hits_cold = 0;
    uint64_t hits_warm = 0;
    uint64_t compacted = 0;
    f->options.cold_segment_bytes = 128u << 10;
    fixture_open(f, true);
    assert_int_equal(tiers_reader_open(f->tiers, &reader), 0);
    for (int round = 0; round < 6000; round++) {
        random_group(f, model, &random);
        for (size_t i = model_random(&random) % 20; i > 0; i--) {
            model_expect(model, reader, model_random(&random) % model->n);
        }
        if (model_random(&random) % 1000 == 0) {
            hits_cold += fixture_stats(f).hits_cold;
            hits_warm += fixture_stats(f).hits_warm;
            compacted += fixture_stats(f).compacted_segments;
            tiers_reader_close(reader);
            fixture_close(f);
            fixture_open(f, true);
            model_expect_all(model, f->tiers);
            assert_int_equal(tiers_reader_open(f->tiers, &reader), 0);
        }
    }
    hits_cold += fixture_stats(f).hits_cold;
    hits_warm += fixture_stats(f).hits_warm;
    compacted += fixture_stats(f).compacted_segments;
    print_message("hits: warm %llu, cold %llu; segments compacted: %llu\n",
                  (unsigned long long)hits_warm, (unsigned long long)hits_cold,
                  (unsigned long long)compacted);
    tiers_reader_close(reader);
    model_expect_all(model, f->tiers);
    fixture_close(f);
    fixture_open(f, true);
    model_expect_all(model, f->tiers);
    assert_true(hits_cold > 0 && hits_warm > 0);
    assert_int_equal(f->failures, 0);
    model_free(model);
}

static void data_ten_times_larger_than_hot_and_warm_reads_back(void **state)
{
    struct fixture *f = *state;
    enum { VALUE_BYTES = 8000 };
    struct model *model = model_new(20 * (1u << 20) / VALUE_BYTES + 1);
    fixture_open(f, true);
    for (size_t i = 0; i < model->n; i++) {
        model_put_group(f->tiers, model, i, VALUE_BYTES);
        while (!tiers_apply_ready(f->tiers)) {
            assert_int_equal(tiers_flush(f->tiers), 0);
        }
    }
    model_expect_all(model, f->tiers);
    fixture_close(f);
    fixture_open(f, true);
    model_expect_all(model, f->tiers);
    struct tiers_stats stats = fixture_stats(f);
    assert_true(stats.hits_cold > model->n / 2);
    assert_true(stats.hot_bytes <= f->options.hot_bytes);
    model_free(model);
}

static void a_small_hot_tier_serves_a_large_warm_one(void **state)
{
    struct fixture *f = *state;
    f->options.hot_bytes = 1u << 20;
    f->options.warm_bytes = 1ull << 40;
    fixture_open(f, false);
    /* The sketch of heat leaves most of it for records. */
    assert_true(fixture_stats(f).hot_bytes < f->options.hot_bytes / 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_is_applied_survives_closing),
        TEST(versions_count_and_creation_is_remembered_until_deletion),
        TEST(the_hash_returns_to_zero_when_all_is_deleted),
        TEST(sizes_out_of_range_are_refused_and_change_nothing),
        TEST(the_largest_value_travels_through_all_tiers),
        TEST(each_sees_every_key_of_its_space_only),
        TEST(an_applier_that_is_ahead_is_told_when_to_go_on),
        TEST(a_full_map_loses_nothing),
        TEST(a_full_disk_pauses_writes_until_there_is_room),
        TEST(after_a_failed_sync_the_engine_stops_for_good),
        TEST(a_second_engine_is_refused),
        TEST(a_folder_that_may_not_be_written_is_named),
        TEST(a_file_in_place_of_a_folder_is_named),
        TEST(options_out_of_range_are_refused_with_a_sentence),
        TEST(a_small_hot_tier_serves_a_large_warm_one),
        TEST(a_random_story_agrees_with_the_model),
        TEST(data_ten_times_larger_than_hot_and_warm_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
