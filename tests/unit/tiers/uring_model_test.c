/* The modelled disk: one head, one queue; and rings that obey it. */
#include "unit/tiers/cold_fixture.h"
#include "uring_model.h"

#include <time.h>

#define MS UINT64_C(1000000)

static const struct tiers_disk_model disk = {.seek_us = 8000, .bytes_per_second = 100000000};

static struct uring_op operation(enum uring_kind kind, int fd, uint64_t offset)
{
    return (struct uring_op){.kind = kind, .fd = fd, .offset = offset};
}

static void a_request_takes_a_seek_and_its_bytes(void **state)
{
    (void)state;
    struct uring_model model;
    uring_model_init(&model, &disk);
    struct uring_op op = operation(URING_READ, 3, 4096);
    assert_int_equal(uring_model_serve(&model, 1000 * MS, &op, 1000000), 1018 * MS);
}

static void requests_wait_for_those_before_them(void **state)
{
    (void)state;
    struct uring_model model;
    uring_model_init(&model, &disk);
    struct uring_op first = operation(URING_READ, 3, 0), second = operation(URING_READ, 3, 9999999);
    assert_int_equal(uring_model_serve(&model, 0, &first, 100000), 9 * MS);
    assert_int_equal(uring_model_serve(&model, 1 * MS, &second, 100000), 18 * MS);
    assert_int_equal(uring_model_serve(&model, 500 * MS, &first, 100000), 509 * MS);
}

static void streaming_costs_no_seek(void **state)
{
    (void)state;
    struct uring_model model;
    uring_model_init(&model, &disk);
    struct uring_op op = operation(URING_WRITE, 3, 0);
    assert_int_equal(uring_model_serve(&model, 0, &op, 1000000), 18 * MS);
    op.offset = 1000000;
    assert_int_equal(uring_model_serve(&model, 0, &op, 1000000), 28 * MS);
    op.fd = 4; /* The same place of another file is elsewhere on the disk */
    op.offset = 2000000;
    assert_int_equal(uring_model_serve(&model, 0, &op, 1000000), 46 * MS);
}

static void a_sync_costs_a_seek_and_moves_the_head(void **state)
{
    (void)state;
    struct uring_model model;
    uring_model_init(&model, &disk);
    struct uring_op write = operation(URING_WRITE, 3, 0), sync = operation(URING_FSYNC, 3, 0);
    assert_int_equal(uring_model_serve(&model, 0, &write, 1000000), 18 * MS);
    assert_int_equal(uring_model_serve(&model, 0, &sync, 0), 26 * MS);
    write.offset = 1000000;
    assert_int_equal(uring_model_serve(&model, 0, &write, 1000000), 44 * MS);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
    return (uint64_t)now.tv_sec * 1000 * MS + (uint64_t)now.tv_nsec;
}

static void count_done(struct uring_op *op)
{
    (*(unsigned *)op->owner)++;
}

static int take_the_model_away(void **state)
{
    (void)state;
    tiers_cold_model_set(NULL);
    return 0;
}

static void a_ring_completes_no_earlier_than_the_disk(void **state)
{
    (void)state;
    enum { READS = 4 };
    char folder[TEMP_FOLDER_PATH_BYTES], path[TEMP_FOLDER_PATH_BYTES + 8], text[256];
    temp_folder_make(folder);
    snprintf(path, sizeof path, "%s/file", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "0123456789", 10, 0), 10);

    tiers_cold_model_set(&disk);
    struct uring *rings[2];
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(uring_open(READS, -1, &rings[i], text, sizeof text), 0);
    uint64_t began_ns = now_ns();
    struct uring_op ops[2 * READS];
    char bytes[2 * READS];
    unsigned done = 0;
    for (size_t i = 0; i < 2 * READS; i++) { /* Backwards: each one seeks */
        ops[i] = operation(URING_READ, fd, 9 - i);
        ops[i].buffer = &bytes[i];
        ops[i].length = 1;
        ops[i].done = count_done;
        ops[i].owner = &done;
        uring_queue(rings[i % 2], &ops[i]);
    }
    for (size_t i = 0; i < 2; i++)
        uring_flush(rings[i]);
    assert_int_equal(done, 0);
    while (done < READS)
        assert_true(uring_wait(rings[0]) > 0);
    while (done < 2 * READS)
        assert_true(uring_wait(rings[1]) > 0);
    /* Two rings, one disk: the seeks add up. */
    assert_true(now_ns() - began_ns >= 2 * READS * disk.seek_us * 1000);
    for (size_t i = 0; i < 2 * READS; i++) {
        assert_int_equal(ops[i].result, 1);
        assert_int_equal(bytes[i], '9' - (int)i);
    }
    for (size_t i = 0; i < 2; i++)
        assert_true(uring_close(rings[i]));
    close(fd);
    temp_folder_remove(folder);
}

static void an_operation_that_fails_completes_too(void **state)
{
    (void)state;
    char text[256], byte;
    struct uring *ring;
    tiers_cold_model_set(&disk);
    assert_int_equal(uring_open(1, -1, &ring, text, sizeof text), 0);
    struct uring_op op = operation(URING_READ, 1 << 20, 0);
    op.buffer = &byte;
    op.length = 1;
    assert_int_equal(uring_run(ring, &op), -EBADF);
    assert_true(uring_close(ring));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_takes_a_seek_and_its_bytes),
        cmocka_unit_test(requests_wait_for_those_before_them),
        cmocka_unit_test(streaming_costs_no_seek),
        cmocka_unit_test(a_sync_costs_a_seek_and_moves_the_head),
        cmocka_unit_test_teardown(a_ring_completes_no_earlier_than_the_disk, take_the_model_away),
        cmocka_unit_test_teardown(an_operation_that_fails_completes_too, take_the_model_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
