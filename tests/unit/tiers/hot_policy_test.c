/* The policy of a hot tier: it decides as in the simulator, and is exchanged while the tier serves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hot.h"
#include "numbered.h"

#include <stdlib.h>

#define HOT_BYTES   (256u << 10)
#define VALUE_BYTES 100
#define N_KEYS      300

/* So few and large records that the table, whose growth would cost a part of the budget, keeps the
 * size it began with. */
#define LARGE_VALUE_BYTES 4000
#define N_REQUESTS        20000
#define N_REQUESTED_KEYS  200

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
    (void)hot_admit(hot, key.hash, made, ticket, false);
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

    hot_write(hot, hash, record);
    assert_int_equal(hot_policy_switch(hot, policy_find("arc")), 0);
    for (unsigned i = 10; i < 5000; i++)
        read_key(hot, i);
    assert_true(is_there(hot, 1));
    hot_clean(hot, hash, record, false);
    assert_true(is_there(hot, 1));
    tiers_record_release(record);
    hot_close(hot);
}

/* One instance of a policy over bare nodes: the simulator's loop, with the sizes of the hot tier.
 */
struct simulated {
    const struct policy_type *type;
    struct policy *policy;
    uint64_t fixed_bytes; /* Of the hot tier that has no entry, without its policy's */
    uint64_t room_bytes;
    uint64_t bytes;
    struct policy_node nodes[N_REQUESTED_KEYS];
    bool inside[N_REQUESTED_KEYS];
};

/* What the hot tier told its policy, noted on the way to `noted`. */
static const struct policy_type *noted;
static uint64_t noted_capacity;
static uint32_t noted_size;

static struct policy *create_and_note_capacity(uint64_t capacity)
{
    noted_capacity = capacity;
    return noted->create(capacity);
}

static void insert_and_note_size(struct policy *policy, struct policy_node *node)
{
    noted_size = node->size;
    noted->insert(policy, node);
}

static uint64_t policy_bytes(const struct policy_type *type, const struct policy *policy)
{
    return type->bytes != NULL ? type->bytes(policy) : 0;
}

/* What the policy takes is taken from the entries. */
static void simulated_room_set(struct simulated *simulated)
{
    const struct policy_type *type = simulated->type;
    uint64_t room_bytes =
        HOT_BYTES - simulated->fixed_bytes - policy_bytes(type, simulated->policy);

    if (room_bytes != simulated->room_bytes && type->resize != NULL)
        type->resize(simulated->policy, room_bytes);
    simulated->room_bytes = room_bytes;
}

/* `size` as the hot tier counted it: the allocator does not round equal sizes equally. */
static bool simulated_read(struct simulated *simulated, unsigned number, uint32_t size)
{
    const struct policy_type *type = simulated->type;
    struct policy_node *node = &simulated->nodes[number];

    if (simulated->inside[number]) {
        type->hit(simulated->policy, node);
        return true;
    }
    *node = (struct policy_node){.key_hash = numbered_key(number).hash, .size = size};
    if (type->prepare != NULL)
        type->prepare(simulated->policy, node->key_hash, node->size);
    simulated_room_set(simulated);
    while (simulated->bytes + node->size > simulated->room_bytes) {
        struct policy_node *victim = type->victim(simulated->policy);
        assert_non_null(victim);
        type->remove(simulated->policy, victim, true);
        simulated->inside[victim - simulated->nodes] = false;
        simulated->bytes -= victim->size;
        simulated_room_set(simulated);
    }
    type->insert(simulated->policy, node);
    simulated->inside[number] = true;
    simulated->bytes += node->size;
    return false;
}

static bool hot_read(struct hot *hot, unsigned number)
{
    struct numbered_key key = numbered_key(number);
    const struct tiers_record *record = NULL;
    uint64_t ticket = 0;

    if (hot_get(hot, key.hash, TIERS_SPACE_USER, key.bytes, key.len, &record, &ticket) == HOT_HIT) {
        tiers_record_release(record);
        return true;
    }
    struct tiers_record *made = numbered_record(number, 1, LARGE_VALUE_BYTES);
    assert_true(hot_admit(hot, key.hash, made, ticket, false));
    tiers_record_release(made);
    return false;
}

/* Half of the requests to a tenth of the keys. */
static unsigned requested_key(uint64_t *random)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    unsigned drawn = (unsigned)(*random >> 33);
    return drawn % 2 == 0 ? drawn / 2 % (N_REQUESTED_KEYS / 10) : drawn / 2 % N_REQUESTED_KEYS;
}

/* Hits of the hot tier and of the simulation, and the requests on which they disagreed. */
static void compare_with_simulation(const struct policy_type *type, unsigned *ret_differences,
                                    unsigned *ret_hits)
{
    struct policy_type noting = *type;
    noting.create = create_and_note_capacity;
    noting.insert = insert_and_note_size;
    noted = type;
    struct hot *hot = open_hot(&noting, 1);
    struct simulated *simulated = calloc(1, sizeof(*simulated));
    assert_non_null(simulated);
    *simulated = (struct simulated){.type = type, .policy = type->create(noted_capacity)};
    assert_non_null(simulated->policy);
    simulated->fixed_bytes = stats_of(hot).bytes - policy_bytes(type, simulated->policy);
    simulated_room_set(simulated);
    uint64_t random = 42;
    unsigned differences = 0;
    unsigned hits = 0;

    for (unsigned i = 0; i < N_REQUESTS; i++) {
        unsigned number = requested_key(&random);
        bool hit = hot_read(hot, number);
        hits += hit;
        differences += hit != simulated_read(simulated, number, noted_size);
    }
    assert_true(stats_of(hot).evictions > N_REQUESTED_KEYS);
    type->destroy(simulated->policy);
    free(simulated);
    hot_close(hot);
    *ret_differences = differences;
    *ret_hits = hits;
}

static void the_hot_tier_hits_where_the_simulator_hits(void **state)
{
    (void)state;
    for (size_t i = 0; policy_at(i) != NULL; i++) {
        const struct policy_type *type = policy_at(i);
        unsigned differences = 0;
        unsigned hits = 0;

        compare_with_simulation(type, &differences, &hits);
        compare_with_simulation(type, &differences, &hits);
        assert_in_range(hits, N_REQUESTS / 4, N_REQUESTS - 1);
        /* Where hits among the newest may be kept from the policy, their order may differ. */
        if (type->tolerates_late_hits)
            assert_in_range(differences, 0, N_REQUESTS / 100);
        else
            assert_int_equal(differences, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_switch_between_any_two_policies_keeps_every_record),
        cmocka_unit_test(recency_outlasts_the_switch),
        cmocka_unit_test(the_new_policy_decides_from_then_on),
        cmocka_unit_test(dirty_records_stay_pinned_through_a_switch),
        cmocka_unit_test(the_hot_tier_hits_where_the_simulator_hits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
