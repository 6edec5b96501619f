/* The warm tier: what it stores it gives back, snapshots stay still, and damage is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/temp_folder.h"
#include "warm.h"
#include "warm_item.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAP_BYTES (64u << 20)

struct fixture {
    char folder[TEMP_FOLDER_PATH_BYTES];
    char text[512];
    struct warm *warm;
};

static void reopen(struct fixture *f)
{
    if (f->warm != NULL) {
        warm_close(f->warm);
    }
    assert_int_equal(warm_open(f->folder, MAP_BYTES, &f->warm, f->text, sizeof f->text), 0);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    temp_folder_make(f->folder);
    reopen(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    if (f->warm != NULL) {
        warm_close(f->warm);
    }
    temp_folder_remove(f->folder);
    free(f);
    return 0;
}

static struct warm_write *begin(struct fixture *f)
{
    struct warm_write *write = NULL;
    assert_int_equal(warm_write_begin(f->warm, &write), 0);
    return write;
}

static const struct tiers_meta some_meta = {
    .create_revision = 5, .mod_revision = 900, .version = 7, .flags = 3, .expires_ms = 1u << 20};

static void put(struct warm_write *write, const char *key, const char *value)
{
    assert_int_equal(warm_put_inline(write, TIERS_SPACE_USER, key, strlen(key), &some_meta, 77,
                                     value, strlen(value)),
                     0);
}

static void put_cold(struct warm_write *write, const char *key, uint64_t segment, uint32_t bytes)
{
    struct cold_location location = {.segment = segment, .offset = 4096, .bytes = bytes};
    assert_int_equal(
        warm_put_cold(write, TIERS_SPACE_USER, key, strlen(key), &some_meta, 77, 10, &location), 0);
}

static struct warm_usage usage(struct fixture *f)
{
    struct warm_usage now;
    warm_usage(f->warm, &now);
    return now;
}

static uint64_t live_bytes(struct fixture *f, uint64_t id)
{
    struct warm_segment *segments = NULL;
    size_t n = 0;
    uint64_t live = UINT64_MAX;
    assert_int_equal(warm_segments(f->warm, &segments, &n), 0);
    for (size_t i = 0; i < n; i++) {
        if (segments[i].id == id) {
            live = segments[i].live_bytes;
        }
    }
    free(segments);
    return live;
}

static void an_item_comes_back_after_reopening(void **state)
{
    struct fixture *f = *state;
    struct tiers_position position = {.index = 3, .revision = 900, .state_hash = 1ull << 63};
    struct warm_write *write = begin(f);
    put(write, "apple", "red");
    assert_int_equal(warm_set_position(write, &position), 0);
    assert_int_equal(warm_write_commit(write), 0);
    reopen(f);

    struct warm_read *read = NULL;
    struct warm_item item;
    assert_int_equal(warm_read_open(f->warm, &read), 0);
    assert_int_equal(warm_read_begin(read), 0);
    assert_int_equal(warm_get(read, TIERS_SPACE_USER, "apple", 5, &item), 0);
    assert_false(item.cold);
    assert_int_equal(item.value_len, 3);
    assert_memory_equal(item.value, "red", 3);
    assert_memory_equal(&item.meta, &some_meta, sizeof some_meta);
    assert_int_equal(item.digest, 77);
    assert_int_equal(warm_get(read, TIERS_SPACE_SYSTEM, "apple", 5, &item), TIERS_NOT_FOUND);
    warm_read_end(read);
    warm_read_close(read);

    struct tiers_position found;
    warm_position(f->warm, &found);
    assert_memory_equal(&found, &position, sizeof found);
    assert_int_equal(usage(f).keys, 1);
}

static void an_aborted_transaction_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct warm_write *write = begin(f);
    put(write, "apple", "red");
    assert_int_equal(warm_segment_put(write, 9, 100), 0);
    warm_write_abort(write);
    assert_int_equal(usage(f).keys, 0);
    assert_int_equal(warm_segment_next_id(f->warm), 1);
    assert_int_equal(live_bytes(f, 9), UINT64_MAX);
}

static void a_snapshot_does_not_see_later_commits(void **state)
{
    struct fixture *f = *state;
    struct warm_read *read = NULL;
    struct warm_item item;
    assert_int_equal(warm_read_open(f->warm, &read), 0);
    assert_int_equal(warm_read_begin(read), 0);
    struct warm_write *write = begin(f);
    put(write, "apple", "red");
    assert_int_equal(warm_write_commit(write), 0);
    assert_int_equal(warm_get(read, TIERS_SPACE_USER, "apple", 5, &item), TIERS_NOT_FOUND);
    warm_read_end(read);
    assert_int_equal(warm_read_begin(read), 0);
    assert_int_equal(warm_get(read, TIERS_SPACE_USER, "apple", 5, &item), 0);
    warm_read_end(read);
    warm_read_close(read);
}

static void iteration_goes_in_key_order_across_commits(void **state)
{
    struct fixture *f = *state;
    struct warm_write *write = begin(f);
    put(write, "b", "2");
    put(write, "a", "1");
    put(write, "d", "4");
    assert_int_equal(warm_write_commit(write), 0);

    struct warm_read *read = NULL;
    const void *key = NULL;
    size_t key_len = 0;
    struct warm_item item;
    char seen[8] = "";
    assert_int_equal(warm_read_open(f->warm, &read), 0);
    for (int round = 0; round < 4; round++) {
        assert_int_equal(warm_read_begin(read), 0);
        char after = round > 0 ? seen[round - 1] : '\0';
        assert_int_equal(
            warm_next(read, TIERS_SPACE_USER, round > 0 ? &after : NULL, 1, &key, &key_len, &item),
            0);
        assert_int_equal(key_len, 1);
        memcpy(seen + round, key, 1);
        warm_read_end(read);
        if (round == 1) {
            write = begin(f);
            put(write, "c", "3");
            assert_int_equal(warm_write_commit(write), 0);
        }
    }
    assert_string_equal(seen, "abcd");
    assert_int_equal(warm_read_begin(read), 0);
    assert_int_equal(warm_next(read, TIERS_SPACE_USER, "d", 1, &key, &key_len, &item),
                     TIERS_NOT_FOUND);
    warm_read_end(read);
    warm_read_close(read);
}

static void live_bytes_follow_the_pointers(void **state)
{
    struct fixture *f = *state;
    struct warm_write *write = begin(f);
    put_cold(write, "a", 1, 100);
    put_cold(write, "b", 1, 200);
    put_cold(write, "c", 2, 400);
    assert_int_equal(warm_segment_put(write, 1, 1000), 0);
    assert_int_equal(warm_segment_put(write, 2, 1000), 0);
    assert_int_equal(warm_write_commit(write), 0);
    assert_int_equal(live_bytes(f, 1), 300);
    assert_int_equal(live_bytes(f, 2), 400);
    assert_int_equal(usage(f).cold_keys, 3);
    assert_int_equal(warm_segment_next_id(f->warm), 3);

    write = begin(f);
    put(write, "a", "inline again");
    assert_int_equal(warm_delete(write, TIERS_SPACE_USER, "b", 1), 0);
    put_cold(write, "c", 1, 50);
    assert_int_equal(warm_segment_delete(write, 2), 0);
    assert_int_equal(warm_write_commit(write), 0);
    assert_int_equal(live_bytes(f, 1), 50);
    assert_int_equal(live_bytes(f, 2), UINT64_MAX);
    reopen(f);
    assert_int_equal(usage(f).cold_keys, 1);
    assert_int_equal(usage(f).cold_live_bytes, 50);
    assert_int_equal(warm_segment_next_id(f->warm), 3);
}

static void deleting_an_absent_key_is_no_error(void **state)
{
    struct warm_write *write = begin(*state);
    assert_int_equal(warm_delete(write, TIERS_SPACE_USER, "none", 4), 0);
    assert_int_equal(warm_write_commit(write), 0);
}

static void a_second_open_is_refused(void **state)
{
    struct fixture *f = *state;
    struct warm *second = NULL;
    assert_int_equal(warm_open(f->folder, MAP_BYTES, &second, f->text, sizeof f->text),
                     TIERS_LOCKED);
    assert_non_null(strstr(f->text, f->folder));
}

static void overwrite_file(const struct fixture *f, const void *bytes, size_t n, long length)
{
    char path[TEMP_FOLDER_PATH_BYTES + 16];
    snprintf(path, sizeof path, "%s/data.mdb", f->folder);
    if (bytes != NULL) {
        FILE *file = fopen(path, "r+b");
        assert_non_null(file);
        assert_int_equal(fwrite(bytes, 1, n, file), n);
        assert_int_equal(fclose(file), 0);
    }
    if (length >= 0) {
        assert_int_equal(truncate(path, length), 0);
    }
}

static void a_file_of_another_kind_is_refused(void **state)
{
    struct fixture *f = *state;
    warm_close(f->warm);
    f->warm = NULL;
    char noise[8192];
    memset(noise, 'x', sizeof noise);
    overwrite_file(f, noise, sizeof noise, -1);
    assert_int_equal(warm_open(f->folder, MAP_BYTES, &f->warm, f->text, sizeof f->text),
                     TIERS_CORRUPT);
    assert_non_null(strstr(f->text, "data.mdb"));
}

static void a_truncated_file_is_refused_and_never_faults(void **state)
{
    struct fixture *f = *state;
    struct warm_write *write = begin(f);
    for (int i = 0; i < 1000; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%04d", i);
        put(write, key, "value value value value value value value value");
    }
    assert_int_equal(warm_write_commit(write), 0);
    warm_close(f->warm);
    f->warm = NULL;
    overwrite_file(f, NULL, 0, 8192);
    assert_int_equal(warm_open(f->folder, MAP_BYTES, &f->warm, f->text, sizeof f->text),
                     TIERS_CORRUPT);
}

static void a_full_map_keeps_the_old_state(void **state)
{
    struct fixture *f = *state;
    warm_close(f->warm);
    assert_int_equal(warm_open(f->folder, 256 << 10, &f->warm, f->text, sizeof f->text), 0);
    struct warm_write *write = begin(f);
    put(write, "first", "kept");
    assert_int_equal(warm_write_commit(write), 0);

    static char big[300 << 10];
    write = begin(f);
    assert_int_equal(
        warm_put_inline(write, TIERS_SPACE_USER, "big", 3, &some_meta, 1, big, sizeof big),
        TIERS_NO_SPACE);
    warm_write_abort(write);
    assert_int_equal(usage(f).keys, 1);
    write = begin(f);
    put(write, "second", "fits");
    assert_int_equal(warm_write_commit(write), 0);
    assert_int_equal(usage(f).keys, 2);
}

static void repacking_gives_back_the_pages_of_demoted_values(void **state)
{
    struct fixture *f = *state;
    enum { KEYS = 20000 };
    char key[32];
    char value[257];
    memset(value, 'v', 256);
    value[256] = '\0';
    struct warm_write *write = begin(f);
    for (int i = 0; i < KEYS; i++) {
        snprintf(key, sizeof key, "key%08d", i);
        put(write, key, value);
    }
    assert_int_equal(warm_write_commit(write), 0);
    uint64_t before = usage(f).used_bytes;

    write = begin(f);
    for (int i = 0; i < KEYS; i++) {
        snprintf(key, sizeof key, "key%08d", i);
        put_cold(write, key, 1, 300);
    }
    assert_int_equal(warm_repack(write, TIERS_SPACE_USER, "key00000000", 11, "key99999999", 11), 0);
    assert_int_equal(warm_write_commit(write), 0);
    uint64_t after = usage(f).used_bytes;
    print_message("used bytes %lu before, %lu after: %lu a key\n", (unsigned long)before,
                  (unsigned long)after, (unsigned long)(after / KEYS));
    assert_true(after < before / 4);
    assert_int_equal(usage(f).keys, KEYS);
    assert_int_equal(usage(f).cold_keys, KEYS);
    assert_int_equal(live_bytes(f, 1), 300ull * KEYS);
}

static void every_damaged_item_is_found_or_well_formed(void **state)
{
    (void)state;
    struct warm_item item = {.cold = true,
                             .meta = some_meta,
                             .digest = 0x1234567890abcdef,
                             .value_len = 70000,
                             .location = {.segment = 300, .offset = 1ull << 40, .bytes = 70100}};
    unsigned char bytes[WARM_ITEM_OVERHEAD_BYTES_MAX];
    struct warm_item decoded;
    size_t n = warm_item_size(&item);
    assert_true(n <= sizeof bytes);
    warm_item_encode(&item, bytes);
    assert_int_equal(warm_item_decode(bytes, n, &decoded), 0);
    assert_true(decoded.cold);
    assert_int_equal(decoded.value_len, 70000);
    assert_int_equal(decoded.location.offset, 1ull << 40);
    assert_int_equal(decoded.location.bytes, 70100);
    for (size_t cut = 0; cut < n; cut++) {
        assert_int_equal(warm_item_decode(bytes, cut, &decoded), TIERS_CORRUPT);
    }
    /* Whatever a flipped bit still decodes to must encode to the same bytes again. */
    for (size_t bit = 0; bit < n * 8; bit++) {
        unsigned char flipped[sizeof bytes];
        unsigned char again[sizeof bytes];
        memcpy(flipped, bytes, n);
        flipped[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        if (warm_item_decode(flipped, n, &decoded) == 0) {
            assert_int_equal(warm_item_size(&decoded), n);
            warm_item_encode(&decoded, again);
            assert_memory_equal(again, flipped, n);
        }
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(an_item_comes_back_after_reopening),
        TEST(an_aborted_transaction_changes_nothing),
        TEST(a_snapshot_does_not_see_later_commits),
        TEST(iteration_goes_in_key_order_across_commits),
        TEST(live_bytes_follow_the_pointers),
        TEST(deleting_an_absent_key_is_no_error),
        TEST(a_second_open_is_refused),
        TEST(a_file_of_another_kind_is_refused),
        TEST(a_truncated_file_is_refused_and_never_faults),
        TEST(a_full_map_keeps_the_old_state),
        TEST(repacking_gives_back_the_pages_of_demoted_values),
        cmocka_unit_test(every_damaged_item_is_found_or_well_formed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
