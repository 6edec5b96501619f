/* The hash table of a hot shard, against a model: hashes that collide in all ways, full buckets,
 * and growth in the midst of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hot_table.h"
#include "numbered.h"
#include "record.h"

#include <stdlib.h>

#define N_KEYS    4000
#define N_CHANGES 30000

struct model {
    struct hot_table table;
    struct hot_entry *entries[N_KEYS]; /* NULL: absent */
    uint64_t hashes[N_KEYS];
    size_t n;
    uint64_t random;
};

static unsigned closed;

static void entry_close(struct hot_entry *entry)
{
    closed++;
    tiers_record_release(hot_entry_record(entry));
}

static struct hot_entry *entry_new(const struct model *model, unsigned number, uint64_t version)
{
    struct hot_entry *entry = hot_entry_of(numbered_record(number, version, 10));
    entry->node.key_hash = model->hashes[number];
    return entry;
}

static struct hot_entry *find(const struct model *model, unsigned number)
{
    /* As the engine announces look-ups; changes nothing, whatever is there. */
    hot_table_prefetch_bucket(&model->table, model->hashes[number]);
    hot_table_prefetch_entry(&model->table, model->hashes[number]);
    struct numbered_key key = numbered_key(number);
    return hot_table_find(&model->table, model->hashes[number], TIERS_SPACE_USER, key.bytes,
                          key.len);
}

/* `spread` bits of the hash differ, `shift` bits above the lowest. */
static void open_model(struct model *model, unsigned spread, unsigned shift)
{
    model->random = random_seed();
    for (unsigned i = 0; i < N_KEYS; i++) {
        uint64_t bits = random_next(&model->random) & (((uint64_t)1 << spread) - 1);
        model->hashes[i] = bits << shift;
    }
    assert_int_equal(hot_table_open(&model->table), 0);
}

static void change(struct model *model, uint64_t version)
{
    unsigned number = (unsigned)(random_next(&model->random) % N_KEYS);
    struct hot_entry *before = model->entries[number];

    assert_ptr_equal(find(model, number), before);
    if (before == NULL) {
        model->entries[number] = entry_new(model, number, version);
        hot_table_insert(&model->table, model->entries[number]);
        model->n++;
    } else if (random_next(&model->random) % 2 == 0) {
        model->entries[number] = entry_new(model, number, version);
        hot_table_replace(&model->table, before, model->entries[number]);
        tiers_record_release(hot_entry_record(before));
    } else {
        model->entries[number] = NULL;
        hot_table_remove(&model->table, before);
        tiers_record_release(hot_entry_record(before));
        model->n--;
    }
    assert_ptr_equal(find(model, number), model->entries[number]);
    assert_int_equal(model->table.n, model->n);
}

static void check_against_model(unsigned spread, unsigned shift)
{
    struct model *model = calloc(1, sizeof *model);
    assert_non_null(model);
    open_model(model, spread, shift);
    for (unsigned i = 0; i < N_CHANGES; i++) {
        change(model, i + 1);
    }
    for (unsigned i = 0; i < N_KEYS; i++) {
        assert_ptr_equal(find(model, i), model->entries[i]);
    }
    closed = 0;
    size_t n = model->n;
    hot_table_close(&model->table, entry_close);
    assert_int_equal(closed, n);
    free(model);
}

static void keys_of_spread_hashes_are_found(void **state)
{
    (void)state;
    check_against_model(63, 0);
}

/* Every bucket is far too full: most entries are chained. */
static void keys_of_few_buckets_are_found(void **state)
{
    (void)state;
    check_against_model(7, 0);
}

/* They differ in what the tags do not hold. */
static void keys_of_one_bucket_and_tag_are_found(void **state)
{
    (void)state;
    check_against_model(8, 40);
}

/* They differ in the tag alone, whose bits say how buckets are split. */
static void keys_that_differ_in_the_tag_are_found(void **state)
{
    (void)state;
    check_against_model(12, 6);
}

/* As many as there are hashes: no chain helps. */
static void keys_of_one_hash_are_found(void **state)
{
    (void)state;
    check_against_model(1, 0);
}

static void buckets_are_added_as_entries_come(void **state)
{
    struct model *model = calloc(1, sizeof *model);
    (void)state;
    assert_non_null(model);
    open_model(model, 63, 0);
    uint64_t empty_bytes = hot_table_bytes(&model->table);
    for (unsigned i = 0; i < N_KEYS; i++) {
        hot_table_insert(&model->table, entry_new(model, i, 1));
    }
    uint64_t bytes = hot_table_bytes(&model->table);
    assert_true(bytes > empty_bytes);
    /* A quarter more than there are, at most. */
    assert_in_range(bytes, N_KEYS / HOT_BUCKET_LOAD * sizeof(struct hot_bucket),
                    N_KEYS / HOT_BUCKET_LOAD * sizeof(struct hot_bucket) * 5 / 4);
    hot_table_close(&model->table, entry_close);
    free(model);
}

/* Of each segment the first bucket and the last, by a table whose segments lie at addresses that
 * name them. */
static void every_bucket_has_a_place_of_its_own(void **state)
{
    hot_segment segments[HOT_TABLE_SEGMENTS_MAX];
    size_t first = 0;

    (void)state;
    for (size_t i = 0; i < HOT_TABLE_SEGMENTS_MAX; i++) {
        atomic_init(&segments[i], (uintptr_t)i << 48);
    }
    for (size_t i = 0; i < HOT_TABLE_SEGMENTS_MAX; i++) {
        size_t n = (HOT_BUCKETS_MIN / HOT_PARTS) << (i / HOT_PARTS);
        uintptr_t at_first = (uintptr_t)hot_bucket_at(segments, first);
        uintptr_t at_last = (uintptr_t)hot_bucket_at(segments, first + n - 1);
        assert_int_equal(at_first >> 48, i);
        assert_int_equal(at_last >> 48, i);
        assert_int_equal(at_last - at_first, (n - 1) * sizeof(struct hot_bucket));
        first += n;
    }
}

/* By the definition of linear hashing: the bits of the larger table if it has that bucket yet. */
static void a_hash_is_in_one_bucket_of_any_number(void **state)
{
    uint64_t random = random_seed();

    (void)state;
    for (size_t n = HOT_BUCKETS_MIN; n <= 70000; n += 1 + n / 64) {
        size_t larger = 1;
        while (larger < n) {
            larger *= 2;
        }
        for (unsigned i = 0; i < 100; i++) {
            uint64_t hash = random_next(&random);
            size_t expected = hash % larger < n ? hash % larger : hash % (larger / 2);
            assert_int_equal(hot_bucket_of(n, hash), expected);
        }
    }
}

/* Tags from a few hashes, so that they are found in any slots, and with all bits set and none. */
static void slots_are_matched_alike_with_the_lock_and_without(void **state)
{
    (void)state;
    struct hot_bucket bucket;
    uint64_t random = random_seed();
    unsigned n_found = 0;

    for (unsigned i = 0; i < 100000; i++) {
        uint64_t hashes[4] = {0, UINT64_MAX, random_next(&random), random_next(&random)};
        unsigned expected = 0;
        uint64_t hash = hashes[random_next(&random) % 4];
        for (unsigned slot = 0; slot < HOT_BUCKET_SLOTS; slot++) {
            uint64_t other = hashes[random_next(&random) % 4];
            uint64_t address = random_next(&random) >> (64 - HOT_ADDRESS_BITS);
            atomic_init(&bucket.slots[slot], hot_tag_of(other) | address);
            expected |= (unsigned)(hot_tag_of(other) == hot_tag_of(hash)) << slot;
        }
        assert_int_equal(hot_slots_matching(&bucket, hash), expected);
        assert_int_equal(hot_slots_matching_locked(&bucket, hash), expected);
        n_found += expected != 0;
    }
    assert_true(n_found > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_are_matched_alike_with_the_lock_and_without),
        cmocka_unit_test(keys_of_spread_hashes_are_found),
        cmocka_unit_test(keys_of_few_buckets_are_found),
        cmocka_unit_test(keys_of_one_bucket_and_tag_are_found),
        cmocka_unit_test(keys_that_differ_in_the_tag_are_found),
        cmocka_unit_test(keys_of_one_hash_are_found),
        cmocka_unit_test(buckets_are_added_as_entries_come),
        cmocka_unit_test(every_bucket_has_a_place_of_its_own),
        cmocka_unit_test(a_hash_is_in_one_bucket_of_any_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
