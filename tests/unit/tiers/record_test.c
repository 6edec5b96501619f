/* What a record is made of, and what its digest depends on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hot_entry.h"
#include "record.h"

#include <malloc.h>
#include <string.h>

static const struct tiers_meta meta = {
    .create_revision = 1, .mod_revision = 2, .version = 3, .flags = 4, .expires_ms = 5};

static void a_record_holds_copies_of_its_key_and_value(void **state)
{
    char key[] = "name";
    char value[] = "value";

    (void)state;
    struct tiers_record *record = record_new(TIERS_SPACE_SYSTEM, key, 4, value, 5, &meta);
    assert_non_null(record);
    key[0] = 'x';
    value[0] = 'x';
    assert_int_equal(record->key_len, 4);
    assert_int_equal(record->value_len, 5);
    assert_memory_equal(tiers_record_key(record), "name", 4);
    assert_memory_equal(tiers_record_value(record), "value", 5);
    assert_int_equal(record->space, TIERS_SPACE_SYSTEM);
    assert_false(record->tombstone);
    assert_memory_equal(tiers_record_meta(record), &meta, sizeof(meta));
    tiers_record_release(record);
}

static void nothing_of_a_record_overlaps_whatever_the_lengths(void **state)
{
    unsigned char key[20], value[20];

    (void)state;
    memset(key, 0xaa, sizeof(key));
    memset(value, 0xbb, sizeof(value));
    for (size_t key_len = 1; key_len <= sizeof(key); key_len++) {
        for (size_t value_len = 0; value_len <= sizeof(value); value_len++) {
            struct tiers_record *record =
                record_new(TIERS_SPACE_USER, key, key_len, value, value_len, &meta);
            assert_non_null(record);
            assert_memory_equal(tiers_record_key(record), key, key_len);
            assert_memory_equal(tiers_record_value(record), value, value_len);
            assert_memory_equal(tiers_record_meta(record), &meta, sizeof(meta));
            assert_int_equal(
                tiers_record_digest(record),
                record_digest(TIERS_SPACE_USER, key, key_len, value, value_len, &meta));
            const unsigned char *begin = (const unsigned char *)hot_entry_of(record);
            const unsigned char *tail = (const unsigned char *)tiers_record_tail(record);
            assert_true(tail >= record->bytes + key_len + value_len);
            assert_true(tail + sizeof(struct tiers_record_tail) <=
                        begin + malloc_usable_size(hot_entry_of(record)));
            assert_int_equal((uintptr_t)tail % _Alignof(struct tiers_record_tail), 0);
            tiers_record_release(record);
        }
    }
}

static void an_empty_value_may_be_null(void **state)
{
    (void)state;
    struct tiers_record *record = record_new(TIERS_SPACE_USER, "k", 1, NULL, 0, &meta);
    assert_non_null(record);
    assert_int_equal(record->value_len, 0);
    assert_int_equal(tiers_record_digest(record),
                     record_digest(TIERS_SPACE_USER, "k", 1, "", 0, &meta));
    tiers_record_release(record);
}

static void the_charge_covers_what_the_allocator_took(void **state)
{
    char value[1000] = {0};

    (void)state;
    struct tiers_record *record = record_new(TIERS_SPACE_USER, "k", 1, value, sizeof(value), &meta);
    assert_non_null(record);
    assert_true(record->charge > malloc_usable_size(hot_entry_of(record)));
    assert_true(record->charge >= sizeof(struct hot_entry) + sizeof(*record) + 1 + sizeof(value) +
                                      sizeof(struct tiers_record_tail));
    tiers_record_release(record);
}

static void a_retained_record_outlives_the_first_release(void **state)
{
    (void)state;
    struct tiers_record *record = record_new(TIERS_SPACE_USER, "k", 1, "v", 1, &meta);
    assert_non_null(record);
    tiers_record_retain(record);
    tiers_record_release(record);
    assert_memory_equal(tiers_record_value(record), "v", 1);
    tiers_record_release(record);
}

static void a_tombstone_has_no_share_in_the_state_hash(void **state)
{
    (void)state;
    struct tiers_record *record = record_tombstone_new(TIERS_SPACE_USER, "k", 1, 77);
    assert_non_null(record);
    assert_true(record->tombstone);
    assert_int_equal(tiers_record_digest(record), 0);
    assert_int_equal(tiers_record_meta(record)->mod_revision, 77);
    assert_true(record_key_equals(record, TIERS_SPACE_USER, "k", 1));
    tiers_record_release(record);
}

static void keys_are_equal_only_with_their_space_and_length(void **state)
{
    (void)state;
    struct tiers_record *record = record_new(TIERS_SPACE_USER, "ab", 2, "c", 1, &meta);
    assert_non_null(record);
    assert_true(record_key_equals(record, TIERS_SPACE_USER, "ab", 2));
    assert_false(record_key_equals(record, TIERS_SPACE_SYSTEM, "ab", 2));
    assert_false(record_key_equals(record, TIERS_SPACE_USER, "abc", 3));
    assert_false(record_key_equals(record, TIERS_SPACE_USER, "aa", 2));
    assert_int_not_equal(record_key_hash(TIERS_SPACE_USER, "ab", 2),
                         record_key_hash(TIERS_SPACE_SYSTEM, "ab", 2));
    tiers_record_release(record);
}

static void the_digest_depends_on_everything_replicated(void **state)
{
    uint64_t digests[16];
    size_t n = 0;

    (void)state;
    digests[n++] = record_digest(TIERS_SPACE_USER, "ab", 2, "cd", 2, &meta);
    digests[n++] = record_digest(TIERS_SPACE_SYSTEM, "ab", 2, "cd", 2, &meta);
    digests[n++] = record_digest(TIERS_SPACE_USER, "abc", 3, "d", 1, &meta);
    digests[n++] = record_digest(TIERS_SPACE_USER, "ab", 2, "ce", 2, &meta);
    digests[n++] = record_digest(TIERS_SPACE_USER, "ab", 2, "", 0, &meta);
    for (size_t i = 0; i < 5; i++) {
        struct tiers_meta other = meta;
        uint64_t *const fields[] = {&other.create_revision, &other.mod_revision, &other.version,
                                    &other.flags, &other.expires_ms};
        ++*fields[i];
        digests[n++] = record_digest(TIERS_SPACE_USER, "ab", 2, "cd", 2, &other);
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++)
            assert_true(digests[i] != digests[j]);
    }
}

static void the_digest_is_the_same_on_every_node(void **state)
{
    struct tiers_record *record = NULL;

    (void)state;
    /* Stored in warm files and compared between nodes: a change of it is a change of format. */
    assert_true(record_digest(TIERS_SPACE_USER, "key", 3, "value", 5, &meta) ==
                UINT64_C(0x4C71DDA2C58581D5));
    record = record_new(TIERS_SPACE_USER, "key", 3, "value", 5, &meta);
    assert_non_null(record);
    assert_true(tiers_record_digest(record) == UINT64_C(0x4C71DDA2C58581D5));
    tiers_record_release(record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_holds_copies_of_its_key_and_value),
        cmocka_unit_test(nothing_of_a_record_overlaps_whatever_the_lengths),
        cmocka_unit_test(an_empty_value_may_be_null),
        cmocka_unit_test(the_charge_covers_what_the_allocator_took),
        cmocka_unit_test(a_retained_record_outlives_the_first_release),
        cmocka_unit_test(a_tombstone_has_no_share_in_the_state_hash),
        cmocka_unit_test(keys_are_equal_only_with_their_space_and_length),
        cmocka_unit_test(the_digest_depends_on_everything_replicated),
        cmocka_unit_test(the_digest_is_the_same_on_every_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
