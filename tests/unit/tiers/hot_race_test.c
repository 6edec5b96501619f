/* The hot tier under threads: a writer, a cleaner (which is the mover, with an array for the warm
 * tier) and readers that admit what they find below. No reader may ever see a version older than
 * one that was applied before its read began. And announcers, which look at buckets without a lock
 * while the table grows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dirty.h"
#include "hot.h"
#include "numbered.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#define KEYS            64
#define READERS         3
#define ADMISSIONS      30000
#define VERSIONS_MAX    5000000
#define VERSIONS_FROZEN 16
#define HOT_BYTES       (16u << 10)
#define VALUE_BYTES     300
#define DIRTY_BYTES_MAX (32u << 10)

#define GENERATIONS_PER_SWITCH 20

/* A version that is a multiple of 3 is a deletion; 0: never written. */
struct world {
    struct hot *hot;
    struct dirty *dirty;
    uint64_t seed;
    _Atomic uint64_t applied[KEYS]; /* Published after hot_write */
    _Atomic uint64_t warm[KEYS];    /* Published before hot_clean */
    _Atomic bool written;
    _Atomic uint64_t admitted;
    _Atomic uint64_t stale; /* Reads that saw an older version than they had to */
};

struct reader {
    struct world *world;
    uint64_t random;
};

static bool is_deletion(uint64_t version)
{
    return version % 3 == 0;
}

static void write_version(struct world *world, unsigned number, uint64_t version)
{
    uint64_t hash = numbered_key(number).hash;
    struct tiers_record *record = is_deletion(version)
                                      ? numbered_tombstone(number, version)
                                      : numbered_record(number, version, VALUE_BYTES);

    hot_write(world->hot, hash, record);
    if (dirty_add(world->dirty, hash, record, version) != 0)
        abort();
    atomic_store_explicit(&world->applied[number], version, memory_order_release);
    tiers_record_release(record);
}

static void *run_writer(void *argument)
{
    struct world *world = argument;
    uint64_t random = world->seed;

    for (uint64_t version = 1; version <= VERSIONS_MAX; version++) {
        if (atomic_load(&world->admitted) >= ADMISSIONS)
            break;
        write_version(world, (unsigned)(random_next(&random) % KEYS), version);
        struct tiers_position position = {.index = version};
        if (version % VERSIONS_FROZEN == 0 && dirty_freeze(world->dirty, &position) != 0)
            abort();
        do
            sched_yield();
        while (dirty_bytes(world->dirty) > DIRTY_BYTES_MAX);
    }
    atomic_store(&world->written, true);
    return NULL;
}

static void clean_oldest(struct world *world, struct dirty_generation *generation)
{
    dirty_sort(generation);
    for (size_t i = 0; i < generation->n; i++) {
        const struct tiers_record *record = generation->records[i];
        atomic_store_explicit(&world->warm[numbered_of(record)],
                              tiers_record_meta(record)->mod_revision, memory_order_release);
    }
    for (size_t i = 0; i < generation->n; i++) {
        const struct tiers_record *record = generation->records[i];
        hot_clean(world->hot, numbered_key(numbered_of(record)).hash, record, false);
    }
    dirty_done(world->dirty, generation);
}

/* The mover switches policies, too. */
static void policy_switch(struct world *world, size_t number)
{
    size_t n_types = 0;

    while (policy_at(n_types) != NULL)
        n_types++;
    if (n_types == 0 || hot_policy_switch(world->hot, policy_at(number % n_types)) != 0)
        abort();
}

static void *run_cleaner(void *argument)
{
    struct world *world = argument;
    bool written = false;
    size_t cleaned = 0;

    do {
        struct dirty_generation *generation = NULL;
        written = atomic_load(&world->written);
        while ((generation = dirty_oldest(world->dirty)) != NULL) {
            clean_oldest(world, generation);
            if (++cleaned % GENERATIONS_PER_SWITCH == 0)
                policy_switch(world, cleaned / GENERATIONS_PER_SWITCH);
        }
        sched_yield();
    } while (!written);
    return NULL;
}

/* A miss: looks below, dawdles, and admits. Returns the version found. */
static uint64_t read_warm(struct reader *reader, unsigned number, uint64_t ticket)
{
    struct world *world = reader->world;
    uint64_t version = atomic_load_explicit(&world->warm[number], memory_order_acquire);

    if (is_deletion(version))
        return version;
    struct tiers_record *record = numbered_record(number, version, VALUE_BYTES);
    for (uint64_t i = random_next(&reader->random) % 4; i > 0; i--)
        sched_yield();
    if (hot_admit(world->hot, numbered_key(number).hash, record, ticket, false))
        atomic_fetch_add(&world->admitted, 1);
    tiers_record_release(record);
    return version;
}

/* The entries may leave at any moment. */
static void prefetch_some(struct world *world, unsigned number)
{
    uint64_t hashes[4];

    for (unsigned i = 0; i < 4; i++)
        hashes[i] = numbered_key((number + i) % KEYS).hash;
    hot_prefetch(world->hot, hashes, 4);
}

static void read_once(struct reader *reader, uint64_t seen[KEYS])
{
    struct world *world = reader->world;
    unsigned number = (unsigned)(random_next(&reader->random) % KEYS);
    struct numbered_key key = numbered_key(number);
    uint64_t expected = atomic_load_explicit(&world->applied[number], memory_order_acquire);
    const struct tiers_record *record = NULL;
    uint64_t version = 0;
    uint64_t ticket = 0;

    if (expected < seen[number])
        expected = seen[number];
    if (random_next(&reader->random) % 4 == 0)
        prefetch_some(world, number);
    switch (hot_get(world->hot, key.hash, TIERS_SPACE_USER, key.bytes, key.len, &record, &ticket)) {
    case HOT_HIT:
        version = tiers_record_meta(record)->mod_revision;
        tiers_record_release(record);
        break;
    case HOT_TOMBSTONE:
        return; /* Does not say of which version */
    case HOT_MISS:
        version = read_warm(reader, number, ticket);
        break;
    }
    if (version < expected)
        atomic_fetch_add(&world->stale, 1);
    seen[number] = version;
}

static void *run_reader(void *argument)
{
    struct reader *reader = argument;
    uint64_t seen[KEYS] = {0};

    while (!atomic_load(&reader->world->written))
        read_once(reader, seen);
    return NULL;
}

static void no_reader_sees_an_older_version_than_was_applied(void **state)
{
    static struct world world;
    struct hot_options options = {.bytes = HOT_BYTES, .shards = 1, .policy = policy_find("lru")};
    struct reader readers[READERS];
    pthread_t threads[READERS + 2];

    (void)state;
    world.seed = random_seed();
    assert_int_equal(hot_open(&options, &world.hot), 0);
    assert_int_equal(dirty_open(&world.dirty), 0);
    for (size_t i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.world = &world, .random = world.seed + 1 + i};
        assert_int_equal(pthread_create(&threads[i], NULL, run_reader, &readers[i]), 0);
    }
    assert_int_equal(pthread_create(&threads[READERS], NULL, run_cleaner, &world), 0);
    assert_int_equal(pthread_create(&threads[READERS + 1], NULL, run_writer, &world), 0);
    for (size_t i = 0; i < READERS + 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);

    struct hot_stats stats;
    hot_stats(world.hot, &stats);
    assert_int_equal(atomic_load(&world.stale), 0);
    assert_true(atomic_load(&world.admitted) >= ADMISSIONS);
    assert_true(stats.evictions > 0);
    assert_true(stats.bytes <= HOT_BYTES);
    hot_close(world.hot);
    dirty_close(world.dirty);
}

/* ---- Growth ---- */

#define GROWN_KEYS 60000

struct growth {
    struct hot *hot;
    _Atomic unsigned inserted; /* Keys below it are there */
};

/* Announces keys that are there, and some that are not yet; all of the former are found. */
static void *run_announcer(void *argument)
{
    struct growth *growth = argument;
    uint64_t random = (uint64_t)(uintptr_t)&random;
    uint64_t *ret_missed = calloc(1, sizeof *ret_missed);

    for (unsigned n = 0; ret_missed != NULL && n < GROWN_KEYS;) {
        uint64_t hashes[TIERS_PREFETCH_MAX];
        unsigned numbers[TIERS_PREFETCH_MAX];
        n = atomic_load_explicit(&growth->inserted, memory_order_acquire);
        for (unsigned i = 0; i < TIERS_PREFETCH_MAX; i++) {
            numbers[i] = (unsigned)(random_next(&random) % (n + 10));
            hashes[i] = numbered_key(numbers[i]).hash;
        }
        hot_prefetch(growth->hot, hashes, TIERS_PREFETCH_MAX);
        for (unsigned i = 0; i < TIERS_PREFETCH_MAX; i++) {
            struct numbered_key key = numbered_key(numbers[i]);
            const struct tiers_record *record = NULL;
            if (hot_peek(growth->hot, key.hash, TIERS_SPACE_USER, key.bytes, key.len, &record) ==
                HOT_HIT)
                tiers_record_release(record);
            else
                *ret_missed += numbers[i] < n;
        }
    }
    return ret_missed;
}

static void a_table_that_grows_is_looked_at_without_its_lock(void **state)
{
    struct hot_options options = {.bytes = 256u << 20, .shards = 2, .policy = policy_find("lru")};
    struct growth growth = {0};
    pthread_t threads[READERS];

    (void)state;
    assert_int_equal(hot_open(&options, &growth.hot), 0);
    for (size_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_announcer, &growth), 0);
    for (unsigned number = 0; number < GROWN_KEYS; number++) {
        struct tiers_record *record = numbered_record(number, 1, 8);
        hot_write(growth.hot, numbered_key(number).hash, record);
        tiers_record_release(record);
        atomic_store_explicit(&growth.inserted, number + 1, memory_order_release);
    }
    for (size_t i = 0; i < READERS; i++) {
        void *missed = NULL;
        assert_int_equal(pthread_join(threads[i], &missed), 0);
        assert_non_null(missed);
        assert_int_equal(*(uint64_t *)missed, 0);
        free(missed);
    }
    hot_close(growth.hot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_reader_sees_an_older_version_than_was_applied),
        cmocka_unit_test(a_table_that_grows_is_looked_at_without_its_lock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
