/* The hot tier: what is found, what is evicted, what is charged, and that nothing stale returns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hot.h"
#include "hot_table.h"
#include "numbered.h"

#define SMALL_BYTES ((size_t)64 << 10)

static struct hot *open_hot(uint64_t bytes, unsigned shards)
{
    struct hot_options options = {.bytes = bytes, .shards = shards, .policy = policy_find("lru")};
    struct hot *hot = NULL;

    assert_int_equal(hot_open(&options, &hot), 0);
    return hot;
}

static int set_up(void **state)
{
    *state = open_hot(SMALL_BYTES, 1);
    return 0;
}

static int tear_down(void **state)
{
    hot_close(*state);
    return 0;
}

static void write_record(struct hot *hot, unsigned number, const struct tiers_record *record)
{
    hot_write(hot, numbered_key(number).hash, record);
}

/* Writes a record that nobody else keeps. */
static void write_dirty(struct hot *hot, unsigned number, uint64_t version, size_t value_len)
{
    struct tiers_record *record = numbered_record(number, version, value_len);

    write_record(hot, number, record);
    tiers_record_release(record);
}

static enum hot_found get(struct hot *hot, unsigned number, uint64_t *ret_version,
                          uint64_t *ret_ticket)
{
    struct numbered_key key = numbered_key(number);
    const struct tiers_record *record = NULL;
    enum hot_found found =
        hot_get(hot, key.hash, TIERS_SPACE_USER, key.bytes, key.len, &record, ret_ticket);

    if (found == HOT_HIT) {
        assert_true(record_key_equals(record, TIERS_SPACE_USER, key.bytes, key.len));
        *ret_version = tiers_record_meta(record)->mod_revision;
        tiers_record_release(record);
    }
    return found;
}

/* Whether the key is there, unseen by the policy. */
static enum hot_found peek(struct hot *hot, unsigned number)
{
    struct numbered_key key = numbered_key(number);
    const struct tiers_record *record = NULL;
    enum hot_found found = hot_peek(hot, key.hash, TIERS_SPACE_USER, key.bytes, key.len, &record);

    if (found != HOT_MISS)
        tiers_record_release(record);
    return found;
}

static bool admit_with(struct hot *hot, unsigned number, uint64_t version, size_t value_len,
                       uint64_t ticket)
{
    struct tiers_record *record = numbered_record(number, version, value_len);
    bool admitted = hot_admit(hot, numbered_key(number).hash, record, ticket, false);

    tiers_record_release(record);
    return admitted;
}

static bool admit(struct hot *hot, unsigned number, uint64_t version, size_t value_len)
{
    uint64_t found_version = 0;
    uint64_t ticket = 0;

    assert_int_equal(get(hot, number, &found_version, &ticket), HOT_MISS);
    return admit_with(hot, number, version, value_len, ticket);
}

static struct hot_stats stats_of(struct hot *hot)
{
    struct hot_stats stats;

    hot_stats(hot, &stats);
    return stats;
}

/* ------------------------------------------------------------------------------- what is found */

static void the_last_write_is_found(void **state)
{
    uint64_t version = 0;
    uint64_t ticket = 0;

    assert_int_equal(get(*state, 1, &version, &ticket), HOT_MISS);
    write_dirty(*state, 1, 10, 100);
    write_dirty(*state, 1, 11, 200);
    assert_int_equal(get(*state, 1, &version, &ticket), HOT_HIT);
    assert_int_equal(version, 11);
    assert_int_equal(stats_of(*state).keys, 1);
}

static void spaces_do_not_mix(void **state)
{
    struct numbered_key key = numbered_key(1);
    const struct tiers_record *record = NULL;

    write_dirty(*state, 1, 10, 100);
    assert_int_equal(hot_peek(*state, key.hash, TIERS_SPACE_SYSTEM, key.bytes, key.len, &record),
                     HOT_MISS);
}

static void a_record_in_use_outlives_its_eviction(void **state)
{
    struct hot *hot = open_hot(SMALL_BYTES, 1);
    struct numbered_key key = numbered_key(1);
    const struct tiers_record *record = NULL;
    uint64_t ticket = 0;

    (void)state;
    write_dirty(hot, 1, 10, 100);
    assert_int_equal(hot_get(hot, key.hash, TIERS_SPACE_USER, key.bytes, key.len, &record, &ticket),
                     HOT_HIT);
    hot_close(hot);
    assert_int_equal(tiers_record_meta(record)->mod_revision, 10);
    tiers_record_release(record);
}

static void a_tombstone_answers_until_it_is_clean(void **state)
{
    struct tiers_record *tombstone = numbered_tombstone(1, 11);
    uint64_t version = 0;
    uint64_t ticket = 0;

    write_dirty(*state, 1, 10, 100);
    write_record(*state, 1, tombstone);
    assert_int_equal(get(*state, 1, &version, &ticket), HOT_TOMBSTONE);
    assert_int_equal(peek(*state, 1), HOT_TOMBSTONE);
    hot_clean(*state, numbered_key(1).hash, tombstone, false);
    assert_int_equal(get(*state, 1, &version, &ticket), HOT_MISS);
    assert_int_equal(stats_of(*state).keys, 0);
    tiers_record_release(tombstone);
}

/* ------------------------------------------------------------------------- admission by ticket */

static void a_write_since_the_miss_refuses_the_admission(void **state)
{
    struct tiers_record *tombstone = numbered_tombstone(1, 11);
    uint64_t version = 0;
    uint64_t ticket = 0;

    assert_int_equal(get(*state, 1, &version, &ticket), HOT_MISS);
    write_record(*state, 1, tombstone);
    hot_clean(*state, numbered_key(1).hash, tombstone, false);
    assert_false(admit_with(*state, 1, 10, 100, ticket));
    assert_int_equal(peek(*state, 1), HOT_MISS);
    tiers_record_release(tombstone);
}

static void an_admission_never_replaces_a_record(void **state)
{
    uint64_t version = 0;
    uint64_t ticket = 0;

    assert_int_equal(get(*state, 1, &version, &ticket), HOT_MISS);
    assert_true(admit_with(*state, 1, 10, 100, ticket));
    assert_false(admit_with(*state, 1, 9, 100, ticket));
    assert_int_equal(get(*state, 1, &version, &ticket), HOT_HIT);
    assert_int_equal(version, 10);
}

static void cleaning_a_replaced_record_changes_nothing(void **state)
{
    struct tiers_record *older = numbered_record(1, 10, 100);

    write_record(*state, 1, older);
    write_dirty(*state, 1, 11, 100);
    hot_clean(*state, numbered_key(1).hash, older, false);
    for (unsigned i = 100; i < 2000; i++)
        admit(*state, i, 1, 100);
    assert_int_equal(peek(*state, 1), HOT_HIT);
    tiers_record_release(older);
}

/* ------------------------------------------------------------------------- eviction and budget */

static void the_least_recently_used_leave_first(void **state)
{
    uint64_t version = 0;
    uint64_t ticket = 0;
    unsigned n = 0;

    while (stats_of(*state).evictions == 0)
        assert_true(admit(*state, n++, 1, 100));
    assert_int_equal(peek(*state, 0), HOT_MISS);
    assert_int_equal(get(*state, 1, &version, &ticket), HOT_HIT);
    for (unsigned i = 0; i < 10; i++)
        assert_true(admit(*state, n++, 1, 100));
    assert_int_equal(peek(*state, 1), HOT_HIT);
    for (unsigned i = 2; i < 12; i++)
        assert_int_equal(peek(*state, i), HOT_MISS);
    for (unsigned i = 12; i < n; i++)
        assert_int_equal(peek(*state, i), HOT_HIT);
}

/* The newest part of the entries may be out of order, no more than that part. */
static void frequent_hits_keep_an_entry_through_any_scan(void **state)
{
    uint64_t version = 0;
    uint64_t ticket = 0;

    assert_true(admit(*state, 1, 1, 100));
    for (unsigned i = 100; i < 5000; i++) {
        assert_true(admit(*state, i, 1, 100));
        assert_int_equal(get(*state, 1, &version, &ticket), HOT_HIT);
    }
}

static void dirty_records_are_never_evicted(void **state)
{
    for (unsigned i = 0; i < 2000; i++)
        write_dirty(*state, i, 1, 100);
    assert_true(stats_of(*state).bytes > SMALL_BYTES);
    assert_int_equal(stats_of(*state).evictions, 0);
    for (unsigned i = 0; i < 2000; i++)
        assert_int_equal(peek(*state, i), HOT_HIT);
    assert_false(admit(*state, 5000, 1, 100));
}

static void cleaned_records_make_room_again(void **state)
{
    struct tiers_record *records[2000];

    for (unsigned i = 0; i < 2000; i++) {
        records[i] = numbered_record(i, 1, 100);
        write_record(*state, i, records[i]);
    }
    for (unsigned i = 0; i < 2000; i++) {
        hot_clean(*state, numbered_key(i).hash, records[i], false);
        tiers_record_release(records[i]);
    }
    assert_true(stats_of(*state).bytes <= SMALL_BYTES);
    assert_true(stats_of(*state).keys > 0);
    assert_int_equal(stats_of(*state).keys + stats_of(*state).evictions, 2000);
    assert_int_equal(peek(*state, 1999), HOT_HIT);
}

static void a_clean_record_that_is_written_is_pinned_again(void **state)
{
    assert_true(admit(*state, 1, 1, 100));
    write_dirty(*state, 1, 2, 100);
    for (unsigned i = 100; i < 2000; i++)
        assert_true(admit(*state, i, 1, 100));
    assert_int_equal(peek(*state, 1), HOT_HIT);
    assert_true(stats_of(*state).bytes <= SMALL_BYTES);
}

static void an_oversized_record_is_served_while_dirty_but_not_kept(void **state)
{
    struct tiers_record *large = numbered_record(1, 1, 2 * SMALL_BYTES);

    assert_true(admit(*state, 2, 1, 100));
    assert_false(admit(*state, 1, 1, 2 * SMALL_BYTES));
    assert_int_equal(peek(*state, 2), HOT_HIT);
    write_record(*state, 1, large);
    assert_int_equal(peek(*state, 1), HOT_HIT);
    hot_clean(*state, numbered_key(1).hash, large, false);
    assert_int_equal(peek(*state, 1), HOT_MISS);
    assert_true(stats_of(*state).bytes <= SMALL_BYTES);
    tiers_record_release(large);
}

/* Written, and clean at once. */
static void write_seldom(struct hot *hot, unsigned number, uint64_t version)
{
    struct tiers_record *record = numbered_record(number, version, 100);

    write_record(hot, number, record);
    hot_clean(hot, numbered_key(number).hash, record, true);
    tiers_record_release(record);
}

static void new_keys_that_are_seldom_read_push_out_no_others(void **state)
{
    uint64_t version = 0;
    uint64_t ticket = 0;
    unsigned n = 0;

    while (stats_of(*state).evictions == 0)
        assert_true(admit(*state, n++, 1, 100));
    uint64_t keys = stats_of(*state).keys;
    assert_true(keys > 100);
    for (unsigned i = 0; i < 1000; i++)
        write_seldom(*state, 10000 + i, 1);
    assert_int_equal(peek(*state, 10999), HOT_MISS);
    /* Room for one at a time was made while it was dirty. */
    assert_in_range(stats_of(*state).keys, keys - 5, keys);
    /* What was there stays, however seldom it is read. */
    write_seldom(*state, n - 1, 2);
    assert_int_equal(get(*state, n - 1, &version, &ticket), HOT_HIT);
    assert_int_equal(version, 2);
}

static void new_keys_that_are_seldom_read_stay_while_there_is_room(void **state)
{
    for (unsigned i = 0; i < 1000; i++)
        write_seldom(*state, i, 1);
    assert_int_equal(peek(*state, 0), HOT_HIT);
    assert_int_equal(peek(*state, 999), HOT_MISS);
    assert_in_range(stats_of(*state).bytes, SMALL_BYTES / 4 * 3, SMALL_BYTES / 8 * 7);
}

static void room_for_a_large_record_takes_many_small_ones(void **state)
{
    for (unsigned i = 0; i < 1000; i++)
        assert_true(admit(*state, i, 1, 10));
    uint64_t evictions = stats_of(*state).evictions;
    assert_true(admit(*state, 5000, 1, SMALL_BYTES / 2));
    assert_true(stats_of(*state).evictions > evictions + 100);
    assert_int_equal(peek(*state, 5000), HOT_HIT);
    assert_true(stats_of(*state).bytes <= SMALL_BYTES);
}

static void bytes_return_to_where_they_began(void **state)
{
    uint64_t empty_bytes = stats_of(*state).bytes;

    for (unsigned i = 0; i < 50; i++) {
        struct tiers_record *record = numbered_record(i, 1, 10 * (size_t)i);
        uint64_t before = stats_of(*state).bytes;
        write_record(*state, i, record);
        assert_true(stats_of(*state).bytes >= before + record->charge);
        if (i % 2 == 0)
            hot_clean(*state, numbered_key(i).hash, record, false);
        tiers_record_release(record);
    }
    for (unsigned i = 0; i < 50; i++) {
        struct tiers_record *tombstone = numbered_tombstone(i, 2);
        write_record(*state, i, tombstone);
        hot_clean(*state, numbered_key(i).hash, tombstone, false);
        tiers_record_release(tombstone);
    }
    assert_int_equal(stats_of(*state).keys, 0);
    assert_int_equal(stats_of(*state).bytes, empty_bytes);
}

static void a_growing_table_keeps_every_entry(void **state)
{
    enum { KEYS = 20000 };
    struct hot *hot = open_hot(64u << 20, 1);

    (void)state;
    for (unsigned n = 0; n < KEYS; n++) {
        write_dirty(hot, n, n, 1);
        if (n % 97 == 0)
            assert_int_equal(peek(hot, n / 2), HOT_HIT);
    }
    for (unsigned n = 0; n < KEYS; n++)
        assert_int_equal(peek(hot, n), HOT_HIT);
    assert_int_equal(stats_of(hot).keys, KEYS);
    hot_close(hot);
}

static void options_out_of_range_are_refused(void **state)
{
    struct hot_options options = {.bytes = 1 << 20, .shards = 3, .policy = policy_find("lru")};
    struct hot *hot = NULL;

    (void)state;
    assert_int_equal(hot_open(&options, &hot), TIERS_INVALID);
    options.shards = 1024;
    assert_int_equal(hot_open(&options, &hot), TIERS_INVALID);
    assert_null(hot);
    options.shards = 0;
    assert_int_equal(hot_open(&options, &hot), 0);
    hot_close(hot);
}

/* ------------------------------------------------------------------------------ against a model */

#define MODEL_KEYS    300
#define MODEL_PENDING 64
#define MODEL_HELD    16

/* A reader between its miss and its admission. */
struct held {
    bool used;
    unsigned number;
    uint64_t version; /* As the warm tier had it */
    uint64_t ticket;
};

/* What the store must hold. A version that is a multiple of 5 is a deletion; 0: never written. */
struct model {
    struct hot *hot;
    uint64_t random;
    uint64_t version;
    uint64_t current[MODEL_KEYS];
    uint64_t warm[MODEL_KEYS];
    struct tiers_record *pending[MODEL_PENDING]; /* Written, not yet flushed, in order */
    unsigned pending_number[MODEL_PENDING];
    size_t n_pending;
    struct held held[MODEL_HELD];
    unsigned n_admitted;
};

static bool is_deletion(uint64_t version)
{
    return version % 5 == 0;
}

static void model_flush(struct model *model, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned number = model->pending_number[i];
        model->warm[number] = tiers_record_meta(model->pending[i])->mod_revision;
        hot_clean(model->hot, numbered_key(number).hash, model->pending[i],
                  random_next(&model->random) % 2 == 0);
        tiers_record_release(model->pending[i]);
    }
    model->n_pending -= n;
    memmove(model->pending, model->pending + n, model->n_pending * sizeof(struct tiers_record *));
    memmove(model->pending_number, model->pending_number + n,
            model->n_pending * sizeof(model->pending_number[0]));
}

static void model_write(struct model *model, unsigned number)
{
    if (model->n_pending == MODEL_PENDING)
        model_flush(model, MODEL_PENDING / 2);
    uint64_t version = ++model->version;
    struct tiers_record *record =
        is_deletion(version) ? numbered_tombstone(number, version)
                             : numbered_record(number, version, random_next(&model->random) % 600);
    write_record(model->hot, number, record);
    model->pending[model->n_pending] = record;
    model->pending_number[model->n_pending++] = number;
    model->current[number] = version;
}

static void model_read(struct model *model, unsigned number)
{
    struct held *held = &model->held[random_next(&model->random) % MODEL_HELD];
    uint64_t version = 0;
    uint64_t ticket = 0;

    switch (get(model->hot, number, &version, &ticket)) {
    case HOT_HIT:
        assert_int_equal(version, model->current[number]);
        break;
    case HOT_TOMBSTONE:
        assert_true(is_deletion(model->current[number]));
        break;
    case HOT_MISS:
        assert_int_equal(model->warm[number], model->current[number]);
        if (!is_deletion(model->warm[number]))
            *held = (struct held){true, number, model->warm[number], ticket};
        break;
    }
}

static void model_admit(struct model *model)
{
    struct held *held = &model->held[random_next(&model->random) % MODEL_HELD];

    if (!held->used)
        return;
    held->used = false;
    size_t value_len = random_next(&model->random) % 600;
    if (!admit_with(model->hot, held->number, held->version, value_len, held->ticket))
        return;
    assert_int_equal(held->version, model->current[held->number]);
    model->n_admitted++;
}

/* Whatever is dirty is inside, and the budget is kept if anything clean is. */
static void model_check(struct model *model)
{
    unsigned n_inside = 0;
    unsigned n_dirty = 0;

    for (unsigned number = 0; number < MODEL_KEYS; number++) {
        bool inside = peek(model->hot, number) != HOT_MISS;
        bool dirty = model->current[number] != model->warm[number];
        assert_true(inside || !dirty);
        n_inside += inside;
        n_dirty += dirty;
    }
    struct hot_stats stats = stats_of(model->hot);
    assert_int_equal(stats.keys, n_inside);
    assert_true(stats.bytes <= SMALL_BYTES || n_inside == n_dirty);
}

static void random_operations_agree_with_a_model(void **state)
{
    static struct model model;

    model = (struct model){.hot = *state, .random = random_seed()};
    for (unsigned i = 0; i < 100000; i++) {
        unsigned number = (unsigned)(random_next(&model.random) % MODEL_KEYS);
        uint64_t choice = random_next(&model.random) % 100;
        if (choice < 20)
            model_write(&model, number);
        else if (choice < 70)
            model_read(&model, number);
        else if (choice < 98)
            model_admit(&model);
        else
            model_flush(&model, random_next(&model.random) % (model.n_pending + 1));
        if (i % 1000 == 0)
            model_check(&model);
    }
    model_flush(&model, model.n_pending);
    model_check(&model);
    assert_true(model.n_admitted > 100);
    assert_true(stats_of(*state).evictions > 100);
}

#define WITH_HOT(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_HOT(the_last_write_is_found),
        WITH_HOT(spaces_do_not_mix),
        cmocka_unit_test(a_record_in_use_outlives_its_eviction),
        WITH_HOT(a_tombstone_answers_until_it_is_clean),
        WITH_HOT(a_write_since_the_miss_refuses_the_admission),
        WITH_HOT(an_admission_never_replaces_a_record),
        WITH_HOT(cleaning_a_replaced_record_changes_nothing),
        WITH_HOT(the_least_recently_used_leave_first),
        WITH_HOT(frequent_hits_keep_an_entry_through_any_scan),
        WITH_HOT(dirty_records_are_never_evicted),
        WITH_HOT(cleaned_records_make_room_again),
        WITH_HOT(a_clean_record_that_is_written_is_pinned_again),
        WITH_HOT(an_oversized_record_is_served_while_dirty_but_not_kept),
        WITH_HOT(new_keys_that_are_seldom_read_push_out_no_others),
        WITH_HOT(new_keys_that_are_seldom_read_stay_while_there_is_room),
        WITH_HOT(room_for_a_large_record_takes_many_small_ones),
        WITH_HOT(bytes_return_to_where_they_began),
        cmocka_unit_test(a_growing_table_keeps_every_entry),
        cmocka_unit_test(options_out_of_range_are_refused),
        WITH_HOT(random_operations_agree_with_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
