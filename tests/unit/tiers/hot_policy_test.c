/* Switching the policy of a hot tier that serves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hot.h"
#include "numbered.h"

#define HOT_BYTES   (256u << 10)
#define VALUE_BYTES 100
#define N_KEYS      300

static struct hot *open_hot(const struct policy_type *type, unsigned shards)
{
    struct hot_options options = {.bytes = HOT_BYTES, .shards = shards, .policy = type};
    struct hot *hot = NULL;

    assert_int_equal(hot_open(&options, &hot), 0);
    return hot;
}

static bool is_there(struct hot *hot, unsigned number)
{
    struct numbered_key key = numbered_key(number);
    const struct tiers_record *record = NULL;

    if (hot_peek(hot, key.hash, TIERS_SPACE_USER, key.bytes, key.len, &record) == HOT_MISS)
        return false;
    tiers_record_release(record);
    return true;
}

/* A read that misses and brings the record in; a hit otherwise. */
static void read_key(struct hot *hot, unsigned number)
{
    struct numbered_key key = numbered_key(number);
    const struct tiers_record *record = NULL;
    uint64_t ticket = 0;

    if (hot_get(hot, key.hash, TIERS_SPACE_USER, key.bytes, key.len, &record, &ticket) == HOT_HIT) {
        tiers_record_release(record);
        return;
    }
    struct tiers_record *made = numbered_record(number, 1, VALUE_BYTES);
    (void)hot_admit(hot, key.hash, made, ticket);
    tiers_record_release(made);
}

static struct hot_stats stats_of(struct hot *hot)
{
    struct hot_stats stats;

    hot_stats(hot, &stats);
    return stats;
}

static void a_switch_between_any_two_policies_keeps_every_record(void **state)
{
    (void)state;
    for (size_t from = 0; policy_at(from) != NULL; from++) {
        for (size_t to = 0; policy_at(to) != NULL; to++) {
            struct hot *hot = open_hot(policy_at(from), 2);
            for (unsigned i = 0; i < N_KEYS; i++)
                read_key(hot, i);
            struct hot_stats before = stats_of(hot);
            assert_int_equal(before.keys, N_KEYS);
            assert_int_equal(hot_policy_switch(hot, policy_at(to)), 0);
            struct hot_stats after = stats_of(hot);
            assert_int_equal(after.keys, before.keys);
            assert_int_equal(after.bytes, before.bytes);
            /* And it can still evict all of them. */
            for (unsigned i = N_KEYS; i < 20 * N_KEYS; i++) {
                read_key(hot, i);
                read_key(hot, i);
            }
            assert_true(stats_of(hot).evictions > 10 * N_KEYS);
            assert_true(stats_of(hot).bytes <= HOT_BYTES);
            hot_close(hot);
        }
    }
}

static void recency_outlasts_the_switch(void **state)
{
    (void)state;
    struct hot *hot = open_hot(policy_find("lru"), 1);
    unsigned there = 0;

    for (unsigned i = 0; i < N_KEYS; i++)
        read_key(hot, i);
    assert_int_equal(hot_policy_switch(hot, policy_find("clock")), 0);
    assert_int_equal(hot_policy_switch(hot, policy_find("lru")), 0);
    for (unsigned i = N_KEYS; stats_of(hot).evictions < N_KEYS / 2; i++)
        read_key(hot, i);
    for (unsigned i = 0; i < N_KEYS / 2; i++)
        there += is_there(hot, i);
    assert_int_equal(there, 0);
    assert_true(is_there(hot, N_KEYS - 1));
    hot_close(hot);
}

static void the_new_policy_decides_from_then_on(void **state)
{
    (void)state;
    struct hot *hot = open_hot(policy_find("lru"), 1);
    unsigned there = 0;

    assert_int_equal(hot_policy_switch(hot, policy_find("wtinylfu")), 0);
    /* What is read often survives scans that are longer than the cache. */
    for (unsigned round = 0; round < 50; round++) {
        for (unsigned i = 0; i < 50; i++)
            read_key(hot, i);
        for (unsigned i = 0; i < 2000; i++)
            read_key(hot, 1000 + 2000 * round + i);
    }
    for (unsigned i = 0; i < 50; i++)
        there += is_there(hot, i);
    assert_true(there > 40);
    hot_close(hot);
}

static void dirty_records_stay_pinned_through_a_switch(void **state)
{
    (void)state;
    struct hot *hot = open_hot(policy_find("sieve"), 1);
    struct tiers_record *record = numbered_record(1, 1, VALUE_BYTES);
    uint64_t hash = numbered_key(1).hash;

    assert_int_equal(hot_write(hot, hash, record), 0);
    assert_int_equal(hot_policy_switch(hot, policy_find("arc")), 0);
    for (unsigned i = 10; i < 5000; i++)
        read_key(hot, i);
    assert_true(is_there(hot, 1));
    hot_clean(hot, hash, record);
    assert_true(is_there(hot, 1));
    tiers_record_release(record);
    hot_close(hot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_switch_between_any_two_policies_keeps_every_record),
        cmocka_unit_test(recency_outlasts_the_switch),
        cmocka_unit_test(the_new_policy_decides_from_then_on),
        cmocka_unit_test(dirty_records_stay_pinned_through_a_switch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
