/* The memory of a whole engine: what it takes beside the hot tier's is bounded, and no key that is
 * not in memory costs any.
 *
 * Measured is the anonymous memory of the process, which has the allocator's waste and the mover's
 * in it, but not LMDB's mapped pages; the hot tier's bytes are taken off. TIERKV_MEMORY_KEYS names
 * another number of keys, for the long form: 20000000 take some 10 GB of disk and five minutes or
 * more. */
#include "engine_fixture.h"

#include "lib/random.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <time.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

#define KEYS_DEFAULT 400000
/* Beside the hot tier. */
#define ENGINE_BYTES_MAX (64ll << 20)
/* From a quarter of the keys to all of them: more branches of the index that a transaction changes,
 * at most one for each leaf, and what happens to coincide. Some one byte for each of 15 million
 * further keys would be seen. Below KEYS_SCATTERED_MIN even scattered writes meet on pages of the
 * index, the fewer there are: then only the bound itself tells what keys cost. */
#define NOISE_BYTES_MAX    (16ll << 20)
#define KEYS_SCATTERED_MIN 2000000
#define HOT_BYTES          (16u << 20)
#define FLUSH_BYTES        (4u << 20) /* Of more keys than may change in one transaction */
#define VALUE_BYTES        128
#define GROUP_KEYS         1000
#define SCATTERED          100000
#define DEPTH              64
#define SETTLE_S_MAX       7200

struct store {
    struct fixture *f;
    uint64_t keys;
    uint64_t index;
    int64_t before; /* Anonymous bytes before the engine was there */
    int64_t peak;   /* Beside the hot tier's, since it was last set */
    struct random random;
    unsigned char value[VALUE_BYTES];
};

static int64_t anonymous_bytes(void)
{
    char line[256];
    int64_t kib = -1;
    FILE *status = fopen("/proc/self/status", "r");
    assert_non_null(status);
    while (kib < 0 && fgets(line, sizeof line, status) != NULL) {
        if (sscanf(line, "RssAnon: %" SCNd64, &kib) != 1) {
            kib = -1;
        }
    }
    fclose(status);
    assert_true(kib >= 0);
    return kib * 1024;
}

/* The hot tier counts its overhead itself: what of it is missing there is seen here. */
static int64_t bytes_beside_hot(struct store *store)
{
    int64_t hot_bytes = (int64_t)fixture_stats(store->f).hot_bytes;
    return anonymous_bytes() - store->before - hot_bytes;
}

static void watch(struct store *store)
{
    int64_t bytes = bytes_beside_hot(store);
    store->peak = bytes > store->peak ? bytes : store->peak;
}

static void put(struct store *store, uint64_t number)
{
    char key[32];
    struct tiers *tiers = store->f->tiers;
    size_t key_len = model_key_text(number, key);
    uint64_t revision = tiers_revision_next(tiers);
    model_value_fill(number, revision, store->value, sizeof store->value);
    assert_int_equal(tiers_put(tiers, TIERS_SPACE_USER, key, key_len, store->value,
                               sizeof store->value, 0, 0, revision),
                     0);
}

/* Keys [first, last), or so many of all that are there, scattered. */
static void put_all(struct store *store, uint64_t first, uint64_t last, bool scattered)
{
    struct tiers *tiers = store->f->tiers;
    for (uint64_t i = first; i < last;) {
        if (!tiers_apply_ready(tiers)) {
            assert_int_equal(tiers_flush(tiers), 0);
        }
        tiers_apply_begin(tiers, ++store->index);
        for (unsigned k = 0; k < GROUP_KEYS && i < last; k++, i++) {
            put(store, scattered ? random_below(&store->random, store->keys) : i);
        }
        tiers_apply_end(tiers);
        watch(store);
    }
    assert_int_equal(tiers_flush(tiers), 0);
    watch(store);
}

/* Until most values are cold. */
static void settle(struct store *store)
{
    struct timespec pause = {.tv_nsec = 5000000};
    time_t last = time(NULL) + SETTLE_S_MAX;
    struct tiers_stats stats = fixture_stats(store->f);
    while (stats.cold_keys < store->keys / 10 * 9) {
        assert_true(time(NULL) < last);
        nanosleep(&pause, NULL);
        watch(store);
        stats = fixture_stats(store->f);
    }
}

struct slot {
    struct tiers_read read;
    struct store *store;
    uint64_t number;
    unsigned *under_way;
};

static void check(struct slot *slot, int status, const struct tiers_record *record)
{
    assert_int_equal(status, 0);
    assert_int_equal(record->value_len, VALUE_BYTES);
    assert_true(model_value_check(slot->number, record, slot->store->value));
    tiers_record_release(record);
}

static void done(struct tiers_read *read, int status, const struct tiers_record *record)
{
    struct slot *slot = read->owner;
    check(slot, status, record);
    --*slot->under_way;
}

/* Batches of DEPTH scattered reads, which wait for one another. */
static void read_scattered(struct store *store, uint64_t n)
{
    struct slot slots[DEPTH];
    struct tiers_reader *reader = NULL;
    assert_int_equal(tiers_reader_open(store->f->tiers, &reader), 0);
    for (uint64_t i = 0; i < n; i += DEPTH) {
        unsigned under_way = 0;
        for (size_t k = 0; k < DEPTH; k++) {
            char key[32];
            const struct tiers_record *record = NULL;
            struct slot *slot = &slots[k];
            *slot = (struct slot){.read = {.done = done, .owner = slot},
                                  .store = store,
                                  .number = random_below(&store->random, store->keys),
                                  .under_way = &under_way};
            size_t key_len = model_key_text(slot->number, key);
            int status =
                tiers_reader_get(reader, TIERS_SPACE_USER, key, key_len, &slot->read, &record);
            if (status == TIERS_PENDING) {
                under_way++;
            } else {
                check(slot, status, record);
            }
        }
        while (under_way > 0) {
            struct pollfd ready = {.fd = tiers_reader_fd(reader), .events = POLLIN};
            assert_true(poll(&ready, 1, -1) == 1 || errno == EINTR);
            watch(store);
            tiers_reader_complete(reader);
        }
    }
    tiers_reader_close(reader);
}

/* Grows to so many keys, then writes and reads among all. Returns what is used in the end. */
static int64_t grow(struct store *store, uint64_t keys)
{
    uint64_t first = store->keys;
    store->keys = keys;
    store->peak = 0;
    put_all(store, first, keys, false);
    settle(store);
    int64_t filled = store->peak;
    put_all(store, 0, SCATTERED, true);
    int64_t written = store->peak;
    settle(store);
    read_scattered(store, SCATTERED);
    struct tiers_stats stats = fixture_stats(store->f);
    print_message("%" PRIu64 " keys, %" PRIu64 " cold, warm file's pages %" PRIu64
                  " MiB: beside the hot tier's %" PRIu64 " MiB at most %.1f MiB when filled, %.1f "
                  "after scattered writes, %.1f after scattered reads\n",
                  stats.warm_keys, stats.cold_keys, stats.warm_used_bytes >> 20,
                  stats.hot_bytes >> 20, (double)filled / (1 << 20), (double)written / (1 << 20),
                  (double)store->peak / (1 << 20));
    return store->peak;
}

static int set_up(void **state)
{
    struct store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        return -1;
    }
    store->f = fixture_new();
    *state = store;
    return 0;
}

static int tear_down(void **state)
{
    struct store *store = *state;
    fixture_free(store->f);
    free(store);
    return 0;
}

static void keys_that_are_not_in_memory_cost_none(void **state)
{
    struct store *store = *state;
    if (SANITIZED) {
        print_message("left out: a sanitizer's own memory would be measured\n");
        skip();
    }
    uint64_t keys = environment_number("TIERKV_MEMORY_KEYS", KEYS_DEFAULT);
    random_init(&store->random, random_seed());
    store->f->options.hot_bytes = HOT_BYTES;
    store->f->options.flush_bytes = FLUSH_BYTES;
    store->f->options.warm_map_bytes = 64ull << 30;
    store->f->options.cold_segment_bytes = 64u << 20;
    store->before = anonymous_bytes();
    fixture_open(store->f, true);
    int64_t few = grow(store, keys / 4);
    int64_t many = grow(store, keys);
    uint64_t further_keys = keys - keys / 4;
    print_message("%.2f bytes for each further key\n", (double)(many - few) / (double)further_keys);
    assert_true(few < ENGINE_BYTES_MAX);
    assert_true(many < ENGINE_BYTES_MAX);
    if (keys / 4 >= KEYS_SCATTERED_MIN) {
        assert_true(many - few < NOISE_BYTES_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(keys_that_are_not_in_memory_cost_none, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
