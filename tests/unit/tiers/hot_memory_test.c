/* The hot tier's budget holds for the memory that is allocated, whatever the policy remembers:
 * ghost lists, sketches, tables. Measured is what the C library says it has handed out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hot.h"
#include "numbered.h"

#include <malloc.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

#define HOT_BYTES   ((uint64_t)8 << 20)
#define N_KEYS      200000
#define N_REQUESTS  300000
#define CHECK_EACH  1000
#define VALUE_BYTES 40
/* What the allocator rounds and cannot be known: a part of it all, and a little. */
#define WITH_EXCESS(bytes) ((bytes) + (bytes) / 50 + 4096)

static uint64_t allocated_bytes(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static struct hot *open_hot(const struct policy_type *type)
{
    struct hot_options options = {.bytes = HOT_BYTES, .policy = type};
    struct hot *hot = NULL;
    assert_int_equal(hot_open(&options, &hot), 0);
    return hot;
}

static void check(struct hot *hot, const char *name, uint64_t before)
{
    struct hot_stats stats;
    hot_stats(hot, &stats);
    uint64_t allocated = allocated_bytes() - before;
    if (allocated > WITH_EXCESS(stats.bytes) || stats.bytes > HOT_BYTES) {
        fail_msg("%s: %zu bytes allocated, %zu counted, the budget has %zu", name,
                 (size_t)allocated, (size_t)stats.bytes, (size_t)HOT_BYTES);
    }
}

/* A read that admits what it missed, or a write that is flushed at once. */
static void request(struct hot *hot, unsigned number, bool write)
{
    struct numbered_key key = numbered_key(number);
    const struct tiers_record *found = NULL;
    uint64_t ticket = 0;
    struct tiers_record *record;
    if (write) {
        record = numbered_record(number, 1, VALUE_BYTES);
        hot_write(hot, key.hash, record);
        hot_clean(hot, key.hash, record, false);
        tiers_record_release(record);
        return;
    }
    if (hot_get(hot, key.hash, TIERS_SPACE_USER, key.bytes, key.len, &found, &ticket) == HOT_HIT) {
        tiers_record_release(found);
        return;
    }
    record = numbered_record(number, 1, VALUE_BYTES);
    hot_admit(hot, key.hash, record, ticket, false);
    tiers_record_release(record);
}

/* Some keys come often, so that policies which remember more of those do. */
static void requests(struct hot *hot, const char *name, uint64_t before, uint64_t *random)
{
    for (unsigned i = 0; i < N_REQUESTS; i++) {
        uint64_t range = random_next(random) % 2 == 0 ? N_KEYS / 10 : N_KEYS;
        request(hot, (unsigned)(random_next(random) % range), random_next(random) % 4 == 0);
        if (i % CHECK_EACH == 0) {
            check(hot, name, before);
        }
    }
}

static void skip_if_sanitized(void)
{
    if (SANITIZED) {
        print_message("left out: a sanitizer's allocator does not tell\n");
        skip();
    }
}

static void no_policy_takes_more_memory_than_the_budget(void **state)
{
    (void)state;
    skip_if_sanitized();
    uint64_t random = random_seed();
    for (size_t i = 0; policy_at(i) != NULL; i++) {
        const struct policy_type *type = policy_at(i);
        uint64_t before = allocated_bytes();
        struct hot *hot = open_hot(type);
        requests(hot, type->name, before, &random);
        hot_close(hot);
    }
}

static void the_budget_holds_while_one_policy_follows_another(void **state)
{
    (void)state;
    skip_if_sanitized();
    uint64_t random = random_seed();
    uint64_t before = allocated_bytes();
    struct hot *hot = open_hot(policy_at(0));
    for (size_t i = 1; policy_at(i) != NULL; i++) {
        assert_int_equal(hot_policy_switch(hot, policy_at(i)), 0);
        check(hot, policy_at(i)->name, before);
        requests(hot, policy_at(i)->name, before, &random);
    }
    hot_close(hot);
}

static void what_is_reserved_is_not_used(void **state)
{
    (void)state;
    struct hot *hot = open_hot(policy_at(0));
    struct hot_stats full;
    struct hot_stats half;
    for (unsigned i = 0; i < N_KEYS; i++) {
        request(hot, i, false);
    }
    hot_stats(hot, &full);
    hot_reserve(hot, HOT_BYTES / 2);
    hot_stats(hot, &half);
    assert_in_range(half.bytes, HOT_BYTES / 16 * 15, HOT_BYTES);
    assert_in_range(half.keys, full.keys / 16 * 7, full.keys / 16 * 9);
    /* Given back. */
    hot_reserve(hot, 0);
    for (unsigned i = 0; i < N_KEYS; i++) {
        request(hot, i, false);
    }
    hot_stats(hot, &half);
    assert_in_range(half.keys, full.keys / 16 * 15, full.keys / 16 * 17);
    hot_close(hot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_policy_takes_more_memory_than_the_budget),
        cmocka_unit_test(the_budget_holds_while_one_policy_follows_another),
        cmocka_unit_test(what_is_reserved_is_not_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
