/* The write-back buffer: generations, their order, and their bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dirty.h"
#include "numbered.h"

static int set_up(void **state)
{
    struct dirty *dirty = NULL;

    if (dirty_open(&dirty) != 0)
        return -1;
    *state = dirty;
    return 0;
}

static int tear_down(void **state)
{
    dirty_close(*state);
    return 0;
}

/* Gives the buffer the only reference. */
static void add(struct dirty *dirty, unsigned number, uint64_t version)
{
    struct tiers_record *record = numbered_record(number, version, 100);

    assert_int_equal(dirty_add(dirty, numbered_key(number).hash, record, version), 0);
    tiers_record_release(record);
}

static void freeze(struct dirty *dirty, uint64_t index)
{
    struct tiers_position position = {.index = index};

    assert_int_equal(dirty_freeze(dirty, &position), 0);
}

static void the_last_write_of_a_key_replaces_those_before(void **state)
{
    struct dirty *dirty = *state;

    add(dirty, 7, 1);
    add(dirty, 8, 2);
    uint64_t bytes = dirty_active_bytes(dirty);
    for (uint64_t version = 3; version < 100; version++)
        add(dirty, 7, version);
    assert_int_equal(dirty_active_bytes(dirty), bytes);
    assert_int_equal(dirty_active_keys(dirty), 2);
    freeze(dirty, 1);
    assert_int_equal(dirty_active_keys(dirty), 0);
    struct dirty_generation *generation = dirty_oldest(dirty);
    assert_non_null(generation);
    assert_int_equal(generation->n, 2);
    assert_int_equal(tiers_record_meta(generation->records[0])->mod_revision, 99);
    assert_int_equal(tiers_record_meta(generation->records[1])->mod_revision, 2);
}

/* The map that knows them doubles several times, a little with each record. */
static void a_key_is_known_however_many_came_after_it(void **state)
{
    enum { N = 3000 };
    static const unsigned parts[] = {1, 2, 3, 5, 8, 13};
    static uint64_t versions[N];
    struct dirty *dirty = *state;

    for (unsigned number = 0; number < N; number++) {
        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
            versions[number / parts[i]] = number + 1;
            add(dirty, number / parts[i], number + 1);
        }
        assert_int_equal(dirty_active_keys(dirty), number + 1);
    }
    uint64_t bytes = dirty_active_bytes(dirty);
    assert_int_equal(bytes, dirty_bytes(dirty));
    freeze(dirty, 1);
    struct dirty_generation *generation = dirty_oldest(dirty);
    assert_int_equal(generation->n, N);
    for (unsigned number = 0; number < N; number++)
        assert_int_equal(tiers_record_meta(generation->records[number])->mod_revision,
                         versions[number]);
    assert_true(generation->bytes < bytes); /* Its map is gone */
    assert_int_equal(generation->bytes, dirty_bytes(dirty));
    dirty_done(dirty, generation);
    assert_int_equal(dirty_bytes(dirty), 0);
}

static void a_frozen_generation_keeps_what_it_held(void **state)
{
    struct dirty *dirty = *state;

    add(dirty, 7, 1);
    freeze(dirty, 1);
    add(dirty, 7, 2);
    freeze(dirty, 2);
    struct dirty_generation *generation = dirty_oldest(dirty);
    assert_int_equal(generation->position.index, 1);
    assert_int_equal(generation->n, 1);
    assert_int_equal(tiers_record_meta(generation->records[0])->mod_revision, 1);
    dirty_done(dirty, generation);
    generation = dirty_oldest(dirty);
    assert_int_equal(generation->position.index, 2);
    assert_int_equal(tiers_record_meta(generation->records[0])->mod_revision, 2);
    dirty_done(dirty, generation);
    assert_null(dirty_oldest(dirty));
}

static void a_deletion_is_carried_like_a_write(void **state)
{
    struct dirty *dirty = *state;
    struct tiers_record *tombstone = numbered_tombstone(7, 2);

    add(dirty, 7, 1);
    assert_int_equal(dirty_add(dirty, numbered_key(7).hash, tombstone, 0), 0);
    tiers_record_release(tombstone);
    freeze(dirty, 1);
    struct dirty_generation *generation = dirty_oldest(dirty);
    assert_int_equal(generation->n, 1);
    assert_true(generation->records[0]->tombstone);
}

static void an_index_that_moved_makes_a_generation_without_records(void **state)
{
    struct dirty *dirty = *state;

    freeze(dirty, 5);
    freeze(dirty, 5);
    struct dirty_generation *generation = dirty_oldest(dirty);
    assert_non_null(generation);
    assert_int_equal(generation->n, 0);
    assert_int_equal(generation->position.index, 5);
    dirty_sort(generation);
    dirty_done(dirty, generation);
    assert_null(dirty_oldest(dirty));
}

static void bytes_return_to_zero_when_all_is_done(void **state)
{
    struct dirty *dirty = *state;

    assert_int_equal(dirty_bytes(dirty), 0);
    for (unsigned round = 1; round <= 3; round++) {
        for (unsigned i = 0; i < 1000; i++)
            add(dirty, i % (300 * round), i);
        assert_true(dirty_active_bytes(dirty) > (uint64_t)300 * round * 100);
        freeze(dirty, round);
        assert_int_equal(dirty_active_bytes(dirty), 0);
    }
    uint64_t sum = 0;
    for (struct dirty_generation *generation = dirty_oldest(dirty); generation != NULL;
         generation = generation->next)
        sum += generation->bytes;
    assert_int_equal(dirty_bytes(dirty), sum);
    for (unsigned round = 1; round <= 3; round++)
        dirty_done(dirty, dirty_oldest(dirty));
    assert_int_equal(dirty_bytes(dirty), 0);
}

static void the_age_is_that_of_the_first_record(void **state)
{
    struct dirty *dirty = *state;

    assert_int_equal(dirty_active_opened_ms(dirty), 0);
    add(dirty, 1, 10);
    add(dirty, 2, 20);
    assert_int_equal(dirty_active_opened_ms(dirty), 10);
    freeze(dirty, 1);
    assert_int_equal(dirty_active_opened_ms(dirty), 0);
    assert_int_equal(dirty_oldest(dirty)->opened_ms, 10);
}

static void add_key(struct dirty *dirty, enum tiers_space space, const char *key)
{
    struct tiers_meta meta = {0};
    struct tiers_record *record = record_new(space, key, strlen(key), NULL, 0, &meta);

    assert_non_null(record);
    uint64_t hash = record_key_hash(space, key, strlen(key));
    assert_int_equal(dirty_add(dirty, hash, record, 1), 0);
    tiers_record_release(record);
}

static void sorting_is_by_space_then_bytes_then_length(void **state)
{
    static const char *const expected[] = {"a", "ab", "abc", "b", "\xff", "A"};
    struct dirty *dirty = *state;

    add_key(dirty, TIERS_SPACE_SYSTEM, "A");
    add_key(dirty, TIERS_SPACE_USER, "\xff");
    add_key(dirty, TIERS_SPACE_USER, "abc");
    add_key(dirty, TIERS_SPACE_USER, "b");
    add_key(dirty, TIERS_SPACE_USER, "a");
    add_key(dirty, TIERS_SPACE_USER, "ab");
    freeze(dirty, 1);
    struct dirty_generation *generation = dirty_oldest(dirty);
    dirty_sort(generation);
    assert_int_equal(generation->n, 6);
    for (size_t i = 0; i < generation->n; i++) {
        assert_int_equal(generation->records[i]->key_len, strlen(expected[i]));
        assert_memory_equal(tiers_record_key(generation->records[i]), expected[i],
                            strlen(expected[i]));
    }
    assert_int_equal(generation->records[5]->space, TIERS_SPACE_SYSTEM);
}

/* LMDB's order, to which flushes keep. */
static int key_order(const struct tiers_record *a, const struct tiers_record *b)
{
    size_t shorter = a->key_len < b->key_len ? a->key_len : b->key_len;
    int order = memcmp(tiers_record_key(a), tiers_record_key(b), shorter);
    return order != 0 ? order : (a->key_len > b->key_len) - (a->key_len < b->key_len);
}

/* Few different bytes, zeros among them, behind a beginning that all keys have. */
static void keys_that_begin_alike_are_sorted_by_what_follows(void **state)
{
    static const char bytes[] = {0, 1, 'a', (char)0xff};
    struct dirty *dirty = *state;
    uint64_t random = random_seed();

    for (uint64_t index = 1; index <= 20; index++) {
        size_t beginning = index % 4 * 5;
        for (int i = 0; i < 500; i++) {
            char key[48];
            size_t key_len = beginning + 1 + random_next(&random) % (sizeof key - 20);
            memset(key, 'k', beginning);
            for (size_t at = beginning; at < key_len; at++)
                key[at] = bytes[random_next(&random) % sizeof bytes];
            struct tiers_meta meta = {0};
            struct tiers_record *record = record_new(TIERS_SPACE_USER, key, key_len, "", 0, &meta);
            assert_non_null(record);
            uint64_t hash = record_key_hash(TIERS_SPACE_USER, key, key_len);
            assert_int_equal(dirty_add(dirty, hash, record, 1), 0);
            tiers_record_release(record);
        }
        freeze(dirty, index);
        struct dirty_generation *generation = dirty_oldest(dirty);
        dirty_sort(generation);
        for (size_t i = 1; i < generation->n; i++)
            assert_true(key_order(generation->records[i - 1], generation->records[i]) < 0);
        dirty_done(dirty, generation);
    }
}

#define MODEL_KEYS 3000

/* Random writes in random generations; replaying the generations must give what was written. */
static void replaying_all_generations_gives_the_last_versions(void **state)
{
    struct dirty *dirty = *state;
    uint64_t random = random_seed();
    uint64_t written[MODEL_KEYS] = {0};
    uint64_t replayed[MODEL_KEYS] = {0};
    uint64_t index = 0;

    for (uint64_t version = 1; version <= 50000; version++) {
        unsigned number = (unsigned)(random_next(&random) % MODEL_KEYS);
        add(dirty, number, version);
        written[number] = version;
        if (random_next(&random) % 5000 == 0)
            freeze(dirty, ++index);
    }
    freeze(dirty, ++index);
    struct dirty_generation *generation = NULL;
    while ((generation = dirty_oldest(dirty)) != NULL) {
        dirty_sort(generation);
        for (size_t i = 0; i < generation->n; i++) {
            const struct tiers_record *record = generation->records[i];
            unsigned number = numbered_of(record);
            assert_true(number < MODEL_KEYS);
            assert_true(replayed[number] < tiers_record_meta(record)->mod_revision);
            replayed[number] = tiers_record_meta(record)->mod_revision;
        }
        dirty_done(dirty, generation);
    }
    assert_memory_equal(replayed, written, sizeof(written));
}

#define WITH_DIRTY(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_DIRTY(the_last_write_of_a_key_replaces_those_before),
        WITH_DIRTY(a_key_is_known_however_many_came_after_it),
        WITH_DIRTY(a_frozen_generation_keeps_what_it_held),
        WITH_DIRTY(a_deletion_is_carried_like_a_write),
        WITH_DIRTY(an_index_that_moved_makes_a_generation_without_records),
        WITH_DIRTY(bytes_return_to_zero_when_all_is_done),
        WITH_DIRTY(the_age_is_that_of_the_first_record),
        WITH_DIRTY(sorting_is_by_space_then_bytes_then_length),
        WITH_DIRTY(keys_that_begin_alike_are_sorted_by_what_follows),
        WITH_DIRTY(replaying_all_generations_gives_the_last_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
