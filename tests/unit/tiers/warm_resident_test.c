/* Whether a look-up would wait for the disk: what is told of pages that are not in memory, and of
 * pages that are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "warm_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define N_KEYS      4000
#define VALUE_BYTES 1000

static size_t key_of(unsigned i, char key[16])
{
    return (size_t)snprintf(key, 16, "key%08u", i);
}

static void fill(struct fixture *f)
{
    static char value[VALUE_BYTES];
    struct warm_write *write = begin(f);
    for (unsigned i = 0; i < N_KEYS; i++) {
        char key[16];
        size_t key_len = key_of(i, key);
        assert_int_equal(warm_put_inline(write, TIERS_SPACE_USER, key, key_len, &some_meta, 77,
                                         value, sizeof value),
                         0);
    }
    assert_int_equal(warm_write_commit(write), 0);
}

/* The file leaves the page cache, but for what is mapped. */
static void forget(struct fixture *f)
{
    char path[TEMP_FOLDER_PATH_BYTES + 16];
    snprintf(path, sizeof path, "%s/data.mdb", f->folder);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    close(fd);
}

/* How many look-ups would not wait. */
static unsigned resident(struct warm_read *read, struct warm_residency *residency)
{
    unsigned n = 0;
    for (unsigned i = 0; i < N_KEYS; i++) {
        char key[16];
        size_t key_len = key_of(i, key);
        n += warm_resident(read, residency, TIERS_SPACE_USER, key, key_len);
    }
    return n;
}

static void get(struct warm_read *read, unsigned i)
{
    struct warm_item item;
    char key[16];
    size_t key_len = key_of(i, key);
    assert_int_equal(warm_get(read, TIERS_SPACE_USER, key, key_len, &item), 0);
}

static unsigned whole_blocks(const struct warm_residency *residency)
{
    unsigned n = 0;
    for (size_t i = 0; i < WARM_RESIDENCY_BLOCKS; i++) {
        n += (residency->blocks[i] >> 16 & 1) != 0;
    }
    return n;
}

static void what_was_read_is_in_memory_and_what_was_dropped_is_not(void **state)
{
    struct fixture *f = *state;
    struct warm_residency *residency = calloc(1, sizeof *residency);
    struct warm_read *read = NULL;
    char key[16];
    assert_non_null(residency);
    residency->whole_blocks = true;
    fill(f);
    reopen(f);
    forget(f);
    assert_int_equal(warm_read_open(f->warm, &read), 0);
    assert_int_equal(warm_read_begin(read), 0);
    unsigned before = resident(read, residency);
    if (before > N_KEYS / 2) {
        /* A file system in memory. */
        print_message("left out: the page cache did not forget the file\n");
        warm_read_end(read);
        warm_read_close(read);
        free(residency);
        skip();
    }
    unsigned whole_before = whole_blocks(residency);

    /* One is read: it is there at once, though its block was not whole. */
    unsigned absent = 0;
    size_t key_len = key_of(absent, key);
    while (warm_resident(read, residency, TIERS_SPACE_USER, key, key_len)) {
        key_len = key_of(++absent, key);
    }
    get(read, absent);
    assert_true(warm_resident(read, residency, TIERS_SPACE_USER, key, key_len));

    for (unsigned i = 0; i < N_KEYS; i++) {
        get(read, i);
    }
    assert_int_equal(resident(read, residency), N_KEYS);
    /* The next epoch asks anew, and finds whole blocks. */
    residency->epoch++;
    assert_int_equal(resident(read, residency), N_KEYS);
    assert_true(whole_blocks(residency) > whole_before + 5);
    warm_read_end(read);
    warm_read_close(read);
    free(residency);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_read_is_in_memory_and_what_was_dropped_is_not,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
