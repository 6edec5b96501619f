/* The log on disk for others: what is taken over comes back, within bounds, and damage is seen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/random.h"
#include "lib/temp_folder.h"
#include "raft/log_spill.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BYTES_MAX    (1ull << 30)
#define ENTRIES_MAX  64
#define RECORD_BYTES 32 /* Beside the payload */
#define TERM_OF(i)   ((raft_term)((i) / 1000 + 1))
#define CHANGE_EVERY 501
#define READ_BYTES   (64u << 10)

static char directory[TEMP_FOLDER_PATH_BYTES];
static struct log_cache cache;
static struct log_spill spill;

static int spill_open(void **unused)
{
    (void)unused;
    temp_folder_make(directory);
    log_cache_open(&cache, 1);
    log_spill_open(&spill, directory, BYTES_MAX, 0);
    return 0;
}

static int spill_close(void **unused)
{
    (void)unused;
    log_spill_drop(&spill);
    log_cache_close(&cache);
    temp_folder_remove(directory);
    return 0;
}

static void push(size_t bytes)
{
    raft_index index = cache.last + 1;
    char *base = raft_malloc(bytes);
    struct log_batch *batch = log_batch_new(base);
    struct raft_entry entry = {.term = TERM_OF(index),
                               .type = index % CHANGE_EVERY == 0 ? RAFT_CHANGE : RAFT_COMMAND,
                               .buf = {.base = base, .len = bytes},
                               .batch = base};

    assert_non_null(base);
    assert_non_null(batch);
    assert_int_equal(log_cache_reserve(&cache, 1), 0);
    memset(base, (int)(index & 0xff), bytes);
    memcpy(base, &index, sizeof index);
    log_cache_push(&cache, &entry, batch);
    log_batch_release(batch);
}

/* As the driver does: what leaves the cache goes to the spill. */
static void fill_spill(struct random *random, size_t n)
{
    raft_index from = cache.last + 1;

    for (size_t i = 0; i < n; i++)
        push(8 * (1 + random_below(random, random_below(random, 20) == 0 ? 20000 : 100)));
    while (from <= cache.last) {
        raft_index upto = from + random_below(random, 700);
        if (upto > cache.last)
            upto = cache.last;
        assert_int_equal(log_spill_take(&spill, &cache, from, upto), 0);
        log_cache_trim(&cache, upto);
        from = upto + 1;
    }
}

/* Reads from the index on, and checks what came. Returns where it ended. */
static raft_index read_from(raft_index index, size_t bytes_max)
{
    struct raft_entry entries[ENTRIES_MAX];
    struct log_batch *batch = NULL;
    size_t bytes = 0;
    unsigned n = 0;

    assert_int_equal(log_spill_read(&spill, index, bytes_max, ENTRIES_MAX, entries, &n, &batch), 0);
    assert_in_range(n, 1, ENTRIES_MAX);
    for (unsigned i = 0; i < n; i++) {
        const unsigned char *payload = entries[i].buf.base;
        raft_index found;
        memcpy(&found, payload, sizeof found);
        assert_true(found == index + i);
        assert_true(entries[i].term == TERM_OF(found));
        assert_ptr_equal(entries[i].batch, batch->base);
        if (entries[i].buf.len > sizeof found)
            assert_int_equal(payload[entries[i].buf.len - 1], found & 0xff);
        assert_true((entries[i].type == RAFT_CHANGE) == (found % CHANGE_EVERY == 0));
        assert_true(i == 0 || entries[i].type != RAFT_CHANGE);
        bytes += entries[i].buf.len;
    }
    assert_true(n == 1 || bytes <= bytes_max);
    log_batch_release(batch);
    return index + n;
}

static void what_is_taken_over_comes_back_in_order_and_from_anywhere(void **unused)
{
    (void)unused;
    struct random random;
    raft_index index = 1;

    random_init(&random, random_seed());
    fill_spill(&random, 3000);
    assert_false(log_spill_has(&spill, 0));
    assert_false(log_spill_has(&spill, 3001));
    while (index <= 3000)
        index = read_from(index, READ_BYTES);
    assert_true(index == 3001);
    for (int i = 0; i < 300; i++) {
        raft_term term;
        index = 1 + random_below(&random, 3000);
        assert_int_equal(log_spill_term(&spill, index, &term), 0);
        assert_true(term == TERM_OF(index));
        read_from(index, random_below(&random, READ_BYTES));
    }
}

static void what_is_given_up_gives_its_space_back(void **unused)
{
    (void)unused;
    struct random random;
    struct stat before, after;
    raft_index first;

    random_init(&random, random_seed());
    while (spill.end < 40u << 20)
        fill_spill(&random, 1000);
    assert_int_equal(fsync(spill.fd), 0);
    assert_int_equal(fstat(spill.fd, &before), 0);
    log_spill_trim(&spill, spill.last - 100);
    first = spill.first;
    assert_in_range(first, 2, spill.last - 100);
    assert_int_equal(fstat(spill.fd, &after), 0);
    assert_true(after.st_blocks < before.st_blocks / 2);
    assert_true(spill.end - spill.begin < spill.end / 2);
    fill_spill(&random, 1000);
    while (first <= spill.last)
        first = read_from(first, READ_BYTES);
}

static void beyond_its_bound_everything_is_given_up(void **unused)
{
    (void)unused;
    log_spill_drop(&spill);
    log_spill_open(&spill, directory, 10 * (1000 + RECORD_BYTES), 0);
    for (int i = 0; i < 11; i++)
        push(1000);
    assert_int_equal(log_spill_take(&spill, &cache, 1, 10), 0);
    assert_true(log_spill_has(&spill, 1));
    assert_int_equal(log_spill_take(&spill, &cache, 11, 11), EFBIG);
    assert_false(log_spill_has(&spill, 1));
    assert_false(log_spill_has(&spill, 11));
    /* And it begins anew with what is wanted then. */
    assert_int_equal(log_spill_take(&spill, &cache, 5, 7), 0);
    assert_true(log_spill_has(&spill, 5));
    assert_true(read_from(5, READ_BYTES) == 8);
}

static void a_full_file_system_is_left_alone(void **unused)
{
    (void)unused;
    log_spill_drop(&spill);
    log_spill_open(&spill, directory, BYTES_MAX, UINT64_MAX / 2);
    push(1000);
    assert_int_equal(log_spill_take(&spill, &cache, 1, 1), ENOSPC);
    assert_false(log_spill_has(&spill, 1));
}

/* What is sent from here becomes another node's log. */
static void every_damaged_byte_is_seen(void **unused)
{
    (void)unused;
    for (int i = 0; i < 3; i++)
        push(64);
    assert_int_equal(log_spill_take(&spill, &cache, 1, 3), 0);
    for (off_t at = RECORD_BYTES + 64; at < 2 * (RECORD_BYTES + 64); at++) {
        struct raft_entry entries[ENTRIES_MAX];
        struct log_batch *batch = NULL;
        unsigned char byte;
        unsigned n = 0;
        assert_int_equal(pread(spill.fd, &byte, 1, at), 1);
        byte ^= 0x10;
        assert_int_equal(pwrite(spill.fd, &byte, 1, at), 1);
        int error = log_spill_read(&spill, 1, READ_BYTES, ENTRIES_MAX, entries, &n, &batch);
        if (error == 0) { /* It ended before: no damaged entry is given */
            assert_int_equal(n, 1);
            log_batch_release(batch);
            error = log_spill_read(&spill, 2, READ_BYTES, ENTRIES_MAX, entries, &n, &batch);
        }
        assert_int_equal(error, EBADMSG);
        byte ^= 0x10;
        assert_int_equal(pwrite(spill.fd, &byte, 1, at), 1);
    }
    assert_true(read_from(1, READ_BYTES) == 4);
}

static void no_file_stays(void **unused)
{
    (void)unused;
    push(8);
    assert_int_equal(log_spill_take(&spill, &cache, 1, 1), 0);
    log_spill_drop(&spill);
    assert_int_equal(rmdir(directory), 0);
    temp_folder_make(directory);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, spill_open, spill_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_taken_over_comes_back_in_order_and_from_anywhere),
        TEST(what_is_given_up_gives_its_space_back),
        TEST(beyond_its_bound_everything_is_given_up),
        TEST(a_full_file_system_is_left_alone),
        TEST(every_damaged_byte_is_seen),
        TEST(no_file_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
