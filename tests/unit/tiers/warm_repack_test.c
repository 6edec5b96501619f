/* Repacking: pages come back, what is to change changes, and all else stays as it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/random.h"
#include "warm_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    assert_int_equal(
        warm_repack(write, TIERS_SPACE_USER, "key00000000", 11, "key99999999", 11, NULL, NULL), 0);
    assert_int_equal(warm_write_commit(write), 0);
    uint64_t after = usage(f).used_bytes;
    print_message("used bytes %lu before, %lu after: %lu a key\n", (unsigned long)before,
                  (unsigned long)after, (unsigned long)(after / KEYS));
    assert_true(after < before / 4);
    assert_int_equal(usage(f).keys, KEYS);
    assert_int_equal(usage(f).cold_keys, KEYS);
    assert_int_equal(live_bytes(f, 1), 300ull * KEYS);
}

/* Every second one of its keys becomes a pointer. */
static bool second_to_cold(void *context, const struct warm_stored *stored,
                           struct warm_item *ret_item)
{
    unsigned *n = context;
    assert_int_equal(warm_stored_decode(stored, ret_item), 0);
    assert_false(ret_item->cold);
    assert_int_equal(memcmp(stored->key, "key", 3), 0);
    ret_item->cold = true;
    ret_item->value = NULL;
    ret_item->location = (struct cold_location){.segment = 1, .offset = *n * 4096ull, .bytes = 300};
    return (*n)++ % 2 == 1;
}

static void repacking_changes_items_on_the_way_and_no_others(void **state)
{
    struct fixture *f = *state;
    enum { KEYS = 3000, LARGE = 5000 };
    char key[32];
    char value[LARGE + 1];
    unsigned asked = 0;
    struct warm_write *write = begin(f);
    for (int i = 0; i < KEYS; i++) {
        /* Small ones, ones with pages of their own, and what lies between. */
        size_t n = i % 3 == 0 ? 100 : i % 3 == 1 ? 1500 : LARGE;
        memset(value, 'a' + i % 26, n);
        value[n] = '\0';
        snprintf(key, sizeof key, "key%08d", i);
        put(write, key, value);
    }
    put(write, "kex", "before");
    put(write, "kez", "behind");
    assert_int_equal(warm_write_commit(write), 0);
    write = begin(f);
    assert_int_equal(warm_repack(write, TIERS_SPACE_USER, "key00000000", 11, "key99999999", 11,
                                 second_to_cold, &asked),
                     0);
    assert_int_equal(warm_write_commit(write), 0);
    assert_int_equal(asked, KEYS);
    assert_int_equal(usage(f).keys, KEYS + 2);
    assert_int_equal(usage(f).cold_keys, KEYS / 2);
    assert_int_equal(live_bytes(f, 1), 300ull * (KEYS / 2));
    struct warm_read *read = NULL;
    assert_int_equal(warm_read_open(f->warm, &read), 0);
    assert_int_equal(warm_read_begin(read), 0);
    for (unsigned i = 0; i < KEYS; i++) {
        struct warm_item item;
        size_t n = i % 3 == 0 ? 100 : i % 3 == 1 ? 1500 : LARGE;
        snprintf(key, sizeof key, "key%08u", i);
        assert_int_equal(warm_get(read, TIERS_SPACE_USER, key, 11, &item), 0);
        assert_int_equal(item.value_len, n);
        assert_int_equal(item.cold, i % 2 == 1);
        if (item.cold) {
            assert_int_equal(item.location.offset, i * 4096ull);
        } else {
            memset(value, 'a' + (int)(i % 26), n);
            assert_memory_equal(item.value, value, n);
        }
    }
    warm_read_end(read);
    warm_read_close(read);
}

/* Every one of its keys becomes a pointer. */
static bool each_to_cold(void *context, const struct warm_stored *stored,
                         struct warm_item *ret_item)
{
    unsigned *n = context;
    assert_int_equal(warm_stored_decode(stored, ret_item), 0);
    ret_item->cold = true;
    ret_item->value = NULL;
    ret_item->location =
        (struct cold_location){.segment = 1, .offset = 4096ull * (*n)++, .bytes = 300};
    return true;
}

/* Values of `value_bytes` are demoted a piece after the other, with those behind still there. */
static void repack_in_pieces(struct fixture *f, size_t value_bytes)
{
    enum { KEYS = 9000, PIECE = 3000, VALUE_BYTES_MAX = 6000 };
    static char value[VALUE_BYTES_MAX + 1];
    char key[32];
    char last[32];
    unsigned n = 0;
    assert_true(value_bytes <= VALUE_BYTES_MAX);
    memset(value, 'v', value_bytes);
    value[value_bytes] = '\0';
    struct warm_write *write = begin(f);
    for (int i = 0; i < KEYS; i++) {
        snprintf(key, sizeof key, "key%08d", i);
        put(write, key, value);
    }
    assert_int_equal(warm_write_commit(write), 0);
    for (int i = 0; i < KEYS; i += PIECE) {
        write = begin(f);
        snprintf(key, sizeof key, "key%08d", i);
        snprintf(last, sizeof last, "key%08d", i + PIECE - 1);
        assert_int_equal(warm_repack(write, TIERS_SPACE_USER, key, 11, last, 11, each_to_cold, &n),
                         0);
        assert_int_equal(warm_write_commit(write), 0);
        assert_int_equal(usage(f).cold_keys, n);
        assert_int_equal(usage(f).keys, KEYS);
    }
    assert_int_equal(n, KEYS);
    size_t entry_bytes = 0;
    struct warm_read *read = NULL;
    assert_int_equal(warm_read_open(f->warm, &read), 0);
    assert_int_equal(warm_read_begin(read), 0);
    for (unsigned i = 0; i < KEYS; i++) {
        struct warm_item item;
        snprintf(key, sizeof key, "key%08u", i);
        assert_int_equal(warm_get(read, TIERS_SPACE_USER, key, 11, &item), 0);
        assert_true(item.cold);
        assert_int_equal(item.location.offset, i * 4096ull);
        entry_bytes += warm_leaf_bytes(f->warm, 11, &item);
    }
    warm_read_end(read);
    warm_read_close(read);
    uint64_t leaf_bytes = usage(f).user_leaf_bytes;
    print_message("values of %zu bytes: pages are %.1f percent full\n", value_bytes,
                  100.0 * (double)entry_bytes / (double)leaf_bytes);
    assert_true(entry_bytes > leaf_bytes / 100 * 90);
}

static void pages_are_full_after_three_to_a_page(void **state)
{
    repack_in_pieces(*state, 1200);
}

static void pages_are_full_after_values_with_pages_of_their_own(void **state)
{
    repack_in_pieces(*state, 3500);
}

/* ---- Against a model ---- */

#define MODEL_KEYS  20000
#define MODEL_ROUND 12

/* What is expected of the key of the same number. */
struct model_item {
    bool present;
    bool cold;
    uint32_t value_len;
    uint64_t offset; /* Of a cold one */
};

struct model {
    struct model_item items[MODEL_KEYS];
    struct random random;
    uint64_t cold_next;
    unsigned to_cold; /* Of a hundred items, this round */
    unsigned to_large;
    unsigned char bytes[4096];
};

/* Keys of many lengths; their order is that of their numbers. */
static size_t model_key(unsigned i, char key[160])
{
    int n = snprintf(key, 160, "key%08u-%.*s", i, (int)(i * 7 % 130),
                     "a longer name, a longer name, a longer name, a longer name, a longer name, "
                     "a longer name, a longer name, a longer name, a longer name");
    return (size_t)n;
}

static const void *model_value(struct model *model, unsigned i, uint32_t value_len)
{
    memset(model->bytes, (int)(i % 251), value_len);
    return model->bytes;
}

/* Items become pointers, or smaller or larger values, or stay. */
static bool model_change(void *context, const struct warm_stored *stored,
                         struct warm_item *ret_item)
{
    struct model *model = context;
    char number[9] = {0};
    assert_true(stored->key_len > 11);
    memcpy(number, (const char *)stored->key + 3, 8);
    unsigned i = (unsigned)strtoul(number, NULL, 10);
    struct model_item *expected = &model->items[i];
    assert_true(expected->present);
    assert_int_equal(warm_stored_decode(stored, ret_item), 0);
    assert_int_equal(ret_item->cold, expected->cold);
    if (!ret_item->cold && random_below(&model->random, 100) < model->to_cold) {
        expected->cold = true;
        expected->offset = model->cold_next += 4096;
        ret_item->cold = true;
        ret_item->value = NULL;
        ret_item->location =
            (struct cold_location){.segment = 1, .offset = expected->offset, .bytes = 300};
        return true;
    }
    if (!ret_item->cold && random_below(&model->random, 100) < model->to_large) {
        expected->value_len = (uint32_t)random_below(&model->random, 1700);
        ret_item->value_len = expected->value_len;
        ret_item->value = model_value(model, i, expected->value_len);
        return true;
    }
    return false;
}

static void model_compare(struct fixture *f, struct model *model)
{
    struct warm_read *read = NULL;
    const void *key = NULL;
    size_t key_len = 0;
    struct warm_item item;
    uint64_t cold = 0;
    assert_int_equal(warm_read_open(f->warm, &read), 0);
    assert_int_equal(warm_read_begin(read), 0);
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        const struct model_item *expected = &model->items[i];
        char name[160];
        if (!expected->present) {
            continue;
        }
        assert_int_equal(warm_next(read, TIERS_SPACE_USER, key, key_len, &key, &key_len, &item), 0);
        assert_int_equal(key_len, model_key(i, name));
        assert_memory_equal(key, name, key_len);
        assert_int_equal(item.cold, expected->cold);
        assert_int_equal(item.value_len, expected->value_len);
        if (item.cold) {
            assert_int_equal(item.location.offset, expected->offset);
        } else {
            assert_memory_equal(item.value, model_value(model, i, item.value_len), item.value_len);
        }
        cold += item.cold;
    }
    assert_int_equal(warm_next(read, TIERS_SPACE_USER, key, key_len, &key, &key_len, &item),
                     TIERS_NOT_FOUND);
    warm_read_end(read);
    warm_read_close(read);
    assert_int_equal(usage(f).cold_keys, cold);
    assert_int_equal(live_bytes(f, 1), cold > 0 ? 300 * cold : UINT64_MAX);
}

static void model_fill(struct fixture *f, struct model *model)
{
    struct warm_write *write = begin(f);
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        char key[160];
        struct model_item *expected = &model->items[i];
        if (expected->present || random_below(&model->random, 100) < 30) {
            continue;
        }
        expected->present = true;
        expected->value_len = (uint32_t)random_below(
            &model->random, random_below(&model->random, 4) == 0 ? 4096 : 1200);
        size_t key_len = model_key(i, key);
        assert_int_equal(warm_put_inline(write, TIERS_SPACE_USER, key, key_len, &some_meta, 77,
                                         model_value(model, i, expected->value_len),
                                         expected->value_len),
                         0);
    }
    assert_int_equal(warm_write_commit(write), 0);
}

static void repacking_any_range_keeps_every_item(void **state)
{
    struct fixture *f = *state;
    uint64_t seed = random_seed();
    struct model *model = calloc(1, sizeof *model);
    assert_non_null(model);
    print_message("seed %llu\n", (unsigned long long)seed);
    random_init(&model->random, seed);
    for (unsigned round = 0; round < MODEL_ROUND; round++) {
        model_fill(f, model);
        unsigned first = (unsigned)random_below(&model->random, MODEL_KEYS);
        unsigned last = first + (unsigned)random_below(&model->random, MODEL_KEYS - first);
        char first_key[160];
        char last_key[160];
        size_t first_len = model_key(first, first_key);
        size_t last_len = model_key(last, last_key);
        model->to_cold = (unsigned)random_below(&model->random, 101);
        model->to_large = (unsigned)random_below(&model->random, 50);
        struct warm_write *write = begin(f);
        assert_int_equal(warm_repack(write, TIERS_SPACE_USER, first_key, first_len, last_key,
                                     last_len, model_change, model),
                         0);
        assert_int_equal(warm_write_commit(write), 0);
        model_compare(f, model);
    }
    free(model);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(repacking_gives_back_the_pages_of_demoted_values),
        TEST(pages_are_full_after_three_to_a_page),
        TEST(pages_are_full_after_values_with_pages_of_their_own),
        TEST(repacking_changes_items_on_the_way_and_no_others),
        TEST(repacking_any_range_keeps_every_item),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
