/* The warm tier: what it stores it gives back, snapshots stay still, and damage is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "warm_fixture.h"
#include "warm_item.h"
#include "warm_row.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* LMDB keeps the pages of the longer one: no damage. */
static void a_value_that_a_shorter_one_replaces_in_a_transaction_is_found_intact(void **state)
{
    struct fixture *f = *state;
    char *value = malloc(60000);
    assert_non_null(value);
    memset(value, 'v', 60000);
    struct warm_write *write = begin(f);
    for (size_t length = 59999; length > 100; length /= 2) {
        value[length] = '\0';
        put(write, "apple", value);
        put(write, length % 3 == 0 ? "pear" : "plum", value);
    }
    assert_int_equal(warm_write_commit(write), 0);
    free(value);
    reopen(f);
    assert_int_equal(usage(f).keys, 3);
    /* And its pages are free again once it is gone. */
    write = begin(f);
    assert_int_equal(warm_delete(write, TIERS_SPACE_USER, "apple", 5), 0);
    assert_int_equal(warm_write_commit(write), 0);
    reopen(f);
    assert_int_equal(usage(f).keys, 2);
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

/* As many as fit, but for the last page of each tree level. */
static void keys_that_come_in_order_fill_their_pages(void **state)
{
    struct fixture *f = *state;
    enum { N = 3000, GROUP = 700, PER_PAGE = 3, VALUE_BYTES = 1200 };
    static unsigned char value[VALUE_BYTES];
    position_put(f);
    for (unsigned from = 0; from < N; from += GROUP) {
        struct warm_write *write = begin(f);
        for (unsigned i = from; i < from + GROUP && i < N; i++) {
            char key[16];
            struct tiers_meta meta = {.create_revision = 1, .mod_revision = 1, .version = 1};
            size_t key_len = (size_t)snprintf(key, sizeof key, "%08u", i);
            /* Nor does it matter that others were put, changed or deleted between. */
            if (i % 100 == 50) {
                assert_int_equal(warm_put_inline(write, TIERS_SPACE_USER, "0", 1, &meta, 7, value,
                                                 i % VALUE_BYTES),
                                 0);
            }
            assert_int_equal(warm_put_inline(write, TIERS_SPACE_USER, key, key_len, &meta, 7, value,
                                             VALUE_BYTES),
                             0);
            if (i % 500 == 499) {
                assert_int_equal(warm_delete(write, TIERS_SPACE_USER, key, key_len), 0);
                assert_int_equal(warm_put_inline(write, TIERS_SPACE_USER, key, key_len, &meta, 7,
                                                 value, VALUE_BYTES),
                                 0);
            }
        }
        assert_int_equal(warm_write_commit(write), 0);
    }
    struct warm_usage usage;
    warm_usage(f->warm, &usage);
    assert_int_equal(usage.keys, N + 1);
    uint64_t pages = usage.user_leaf_bytes / warm_page_bytes(f->warm);
    print_message("%llu leaf pages\n", (unsigned long long)pages);
    assert_in_range(pages, N / PER_PAGE, N / PER_PAGE + N / 100);
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
    assert_int_equal(warm_open(f->folder, MAP_BYTES, 0, &second, f->text, sizeof f->text),
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
    assert_int_equal(warm_open(f->folder, MAP_BYTES, 0, &f->warm, f->text, sizeof f->text),
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
    assert_int_equal(warm_open(f->folder, MAP_BYTES, 0, &f->warm, f->text, sizeof f->text),
                     TIERS_CORRUPT);
}

static void a_full_map_keeps_the_old_state(void **state)
{
    struct fixture *f = *state;
    warm_close(f->warm);
    assert_int_equal(warm_open(f->folder, 256 << 10, 0, &f->warm, f->text, sizeof f->text), 0);
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

static void every_damage_to_the_header_of_an_item_is_found(void **state)
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
    MDB_val key = warm_val("key", 3);
    MDB_val data = warm_val(bytes, n);
    assert_true(n <= sizeof bytes);
    warm_item_encode(&item, &key, bytes);
    assert_int_equal(warm_item_decode(&key, &data, &decoded), 0);
    assert_true(decoded.cold);
    assert_int_equal(decoded.value_len, 70000);
    assert_int_equal(decoded.location.offset, 1ull << 40);
    assert_int_equal(decoded.location.bytes, 70100);
    for (data.mv_size = 0; data.mv_size < n; data.mv_size++) {
        assert_int_equal(warm_item_decode(&key, &data, &decoded), TIERS_CORRUPT);
    }
    for (size_t bit = 0; bit < n * 8; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        assert_int_equal(warm_item_decode(&key, &data, &decoded), TIERS_CORRUPT);
        bytes[bit / 8] ^= (unsigned char)(1u << (bit % 8));
    }
    MDB_val other = warm_val("kez", 3);
    assert_int_equal(warm_item_decode(&key, &data, &decoded), 0);
    assert_int_equal(warm_item_decode(&other, &data, &decoded), TIERS_CORRUPT);
}

static void row_put(MDB_txn *txn, const char *database, const char *key, const void *row, size_t n)
{
    MDB_dbi dbi;
    MDB_val key_val = warm_val(key, strlen(key));
    MDB_val row_val = warm_val(row, n);
    assert_int_equal(mdb_dbi_open(txn, database, 0, &dbi), 0);
    assert_int_equal(mdb_put(txn, dbi, &key_val, &row_val, 0), 0);
}

static void environment_change(struct fixture *f, void (*change)(MDB_txn *txn))
{
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    warm_close(f->warm);
    f->warm = NULL;
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 8), 0);
    assert_int_equal(mdb_env_set_mapsize(env, MAP_BYTES), 0);
    assert_int_equal(mdb_env_open(env, f->folder, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    change(txn);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void format_1_write(MDB_txn *txn)
{
    static const unsigned char format[16] = {'T', 'K', 'V', 'W', 'A', 'R', 'M', 0, 1};
    static const unsigned char position[24] = {3, [8] = 9, [16] = 77};
    static const unsigned char item[] = {0x10, 77, 0, 0, 0, 0, 0,   0,   0, /* Digest */
                                         3,    9,  4, 2, 1, 0, 'r', 'e', 'd'};
    row_put(txn, "meta", "format", format, sizeof format);
    row_put(txn, "meta", "position", position, sizeof position);
    row_put(txn, "user", "apple", item, sizeof item);
}

static void what_format_1_stored_is_still_read(void **state)
{
    struct fixture *f = *state;
    struct warm_read *read = NULL;
    struct warm_item item;
    struct tiers_position position;
    environment_change(f, format_1_write);
    for (int round = 0; round < 2; round++) {
        reopen(f);
        warm_position(f->warm, &position);
        assert_int_equal(position.index, 3);
        assert_int_equal(position.state_hash, 77);
        assert_int_equal(warm_read_open(f->warm, &read), 0);
        assert_int_equal(warm_read_begin(read), 0);
        assert_int_equal(warm_get(read, TIERS_SPACE_USER, "apple", 5, &item), 0);
        assert_memory_equal(item.value, "red", 3);
        assert_int_equal(item.meta.mod_revision, 9);
        assert_int_equal(item.meta.create_revision, 5);
        warm_read_end(read);
        warm_read_close(read);
    }
}

static void format_3_write(MDB_txn *txn)
{
    static const unsigned char format[16] = {'T', 'K', 'V', 'W', 'A', 'R', 'M', 0, 3};
    row_put(txn, "meta", "format", format, sizeof format);
}

static void a_later_format_is_refused(void **state)
{
    struct fixture *f = *state;
    environment_change(f, format_3_write);
    assert_int_equal(warm_open(f->folder, MAP_BYTES, 0, &f->warm, f->text, sizeof f->text),
                     TIERS_VERSION);
}

static void row_delete(MDB_txn *txn, const char *database, const char *key)
{
    MDB_dbi dbi;
    MDB_val key_val = warm_val(key, strlen(key));
    assert_int_equal(mdb_dbi_open(txn, database, 0, &dbi), 0);
    assert_int_equal(mdb_del(txn, dbi, &key_val, NULL), 0);
}

static void format_delete(MDB_txn *txn)
{
    row_delete(txn, "meta", WARM_META_FORMAT);
}

static void position_delete(MDB_txn *txn)
{
    row_delete(txn, "meta", WARM_META_POSITION);
}

static void next_segment_delete(MDB_txn *txn)
{
    row_delete(txn, "meta", WARM_META_NEXT_SEGMENT);
}

static void segments_drop(MDB_txn *txn)
{
    MDB_dbi dbi;
    assert_int_equal(mdb_dbi_open(txn, "segments", 0, &dbi), 0);
    assert_int_equal(mdb_drop(txn, dbi, 1), 0);
}

/* LMDB's file is whole each time: only what is in it tells. */
static void assert_refused_without(struct fixture *f, void (*change)(MDB_txn *txn))
{
    struct warm_write *write = begin(f);
    put(write, "apple", "red");
    assert_int_equal(warm_segment_put(write, 9, 100), 0);
    assert_int_equal(warm_write_commit(write), 0);
    reopen(f);
    environment_change(f, change);
    assert_int_equal(warm_open(f->folder, MAP_BYTES, 0, &f->warm, f->text, sizeof f->text),
                     TIERS_CORRUPT);
}

static void a_store_without_its_format_is_refused(void **state)
{
    assert_refused_without(*state, format_delete);
}

static void items_without_a_position_are_refused(void **state)
{
    assert_refused_without(*state, position_delete);
}

static void segments_without_the_next_ones_number_are_refused(void **state)
{
    assert_refused_without(*state, next_segment_delete);
}

static void a_store_without_one_of_its_trees_is_refused(void **state)
{
    assert_refused_without(*state, segments_drop);
}

static void every_damage_to_a_row_is_found(void **state)
{
    (void)state;
    unsigned char key_bytes[WARM_SEGMENT_KEY_BYTES];
    unsigned char bytes[WARM_SEGMENT_ROW_BYTES];
    struct warm_segment_row row = {.bytes = 1u << 20, .live_bytes = 5000, .live_records = 3};
    struct warm_segment_row decoded;
    warm_segment_key(7, key_bytes);
    MDB_val key = warm_val(key_bytes, sizeof key_bytes);
    MDB_val data = warm_val(bytes, sizeof bytes);
    warm_segment_row_encode(&row, key_bytes, bytes);
    assert_int_equal(warm_segment_row_decode(&key, &data, &decoded), 0);
    assert_memory_equal(&decoded, &row, sizeof row);
    for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        assert_int_equal(warm_segment_row_decode(&key, &data, &decoded), TIERS_CORRUPT);
        bytes[bit / 8] ^= (unsigned char)(1u << (bit % 8));
    }
    key_bytes[0] ^= 1;
    assert_int_equal(warm_segment_row_decode(&key, &data, &decoded), TIERS_CORRUPT);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(an_item_comes_back_after_reopening),
        TEST(an_aborted_transaction_changes_nothing),
        TEST(a_value_that_a_shorter_one_replaces_in_a_transaction_is_found_intact),
        TEST(a_snapshot_does_not_see_later_commits),
        TEST(iteration_goes_in_key_order_across_commits),
        TEST(keys_that_come_in_order_fill_their_pages),
        TEST(live_bytes_follow_the_pointers),
        TEST(deleting_an_absent_key_is_no_error),
        TEST(a_second_open_is_refused),
        TEST(a_file_of_another_kind_is_refused),
        TEST(a_truncated_file_is_refused_and_never_faults),
        TEST(a_full_map_keeps_the_old_state),
        TEST(what_format_1_stored_is_still_read),
        TEST(a_later_format_is_refused),
        TEST(a_store_without_its_format_is_refused),
        TEST(items_without_a_position_are_refused),
        TEST(segments_without_the_next_ones_number_are_refused),
        TEST(a_store_without_one_of_its_trees_is_refused),
        cmocka_unit_test(every_damage_to_a_row_is_found),
        cmocka_unit_test(every_damage_to_the_header_of_an_item_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
