/* The small io_uring: operations complete once, with the kernel's result or an injected one. */
#include "unit/tiers/cold_fixture.h"

#include <poll.h>
#include <sys/eventfd.h>

struct ring_fixture {
    char folder[TEMP_FOLDER_PATH_BYTES];
    struct uring *ring;
    int fd;
    int event_fd;
};

static int set_up(void **state)
{
    struct ring_fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    temp_folder_make(f->folder);
    char path[TEMP_FOLDER_PATH_BYTES + 8];
    snprintf(path, sizeof path, "%s/file", f->folder);
    f->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(f->fd >= 0);
    f->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(f->event_fd >= 0);
    char text[256];
    int status = uring_open(8, f->event_fd, &f->ring, text, sizeof text);
    if (status != 0)
        fail_msg("%s", text);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct ring_fixture *f = *state;
    uring_faults_set(NULL);
    assert_true(uring_close(f->ring));
    close(f->fd);
    close(f->event_fd);
    temp_folder_remove(f->folder);
    free(f);
    return 0;
}

static struct uring_op operation(enum uring_kind kind, int fd, void *buffer, uint32_t length,
                                 uint64_t offset)
{
    return (struct uring_op){
        .kind = kind, .fd = fd, .buffer = buffer, .length = length, .offset = offset};
}

static void what_was_written_is_read_back(void **state)
{
    struct ring_fixture *f = *state;
    char out[] = "hello, ring";
    char in[sizeof out] = {0};
    struct uring_op op = operation(URING_WRITE, f->fd, out, sizeof out, 100);
    assert_int_equal(uring_run(f->ring, &op), sizeof out);
    op = operation(URING_FSYNC, f->fd, NULL, 0, 0);
    assert_int_equal(uring_run(f->ring, &op), 0);
    op = operation(URING_READ, f->fd, in, sizeof in, 100);
    assert_int_equal(uring_run(f->ring, &op), sizeof in);
    assert_string_equal(in, out);
}

static void a_read_beyond_the_end_is_short(void **state)
{
    struct ring_fixture *f = *state;
    char bytes[64] = {0};
    assert_int_equal(pwrite(f->fd, "12345", 5, 0), 5);
    struct uring_op op = operation(URING_READ, f->fd, bytes, sizeof bytes, 2);
    assert_int_equal(uring_run(f->ring, &op), 3);
}

static void the_kernels_error_is_the_result(void **state)
{
    struct ring_fixture *f = *state;
    char byte;
    struct uring_op op = operation(URING_READ, 1 << 20, &byte, 1, 0);
    assert_int_equal(uring_run(f->ring, &op), -EBADF);
}

static void count_done(struct uring_op *op)
{
    (*(unsigned *)op->owner)++;
}

static void a_ring_takes_its_depth_and_signals_its_eventfd(void **state)
{
    struct ring_fixture *f = *state;
    unsigned done = 0;
    char bytes[8][512];
    struct uring_op ops[8];
    for (size_t i = 0; i < 8; i++) {
        memset(bytes[i], (int)i, sizeof bytes[i]);
        ops[i] = operation(URING_WRITE, f->fd, bytes[i], sizeof bytes[i], 512 * i);
        ops[i].done = count_done;
        ops[i].owner = &done;
        uring_submit(f->ring, &ops[i]);
        assert_int_equal(done, 0); /* Never inside submit */
    }
    while (done < 8) {
        struct pollfd poll_fd = {.fd = f->event_fd, .events = POLLIN};
        assert_int_equal(poll(&poll_fd, 1, 10000), 1);
        uint64_t signals;
        assert_int_equal(read(f->event_fd, &signals, sizeof signals), sizeof signals);
        (void)uring_reap(f->ring);
    }
    assert_int_equal(uring_reap(f->ring), 0);
    assert_int_equal(uring_wait(f->ring), 0);
    struct stat status;
    assert_int_equal(fstat(f->fd, &status), 0);
    assert_int_equal(status.st_size, 8 * 512);
}

/* The eventfd is emptied before each reap, as an owner does. */
static void completions_come_a_few_at_a_time_and_the_eventfd_tells_of_the_rest(void **state)
{
    enum { OPS = 3 * URING_REAP_MAX };
    struct ring_fixture *f = *state;
    struct uring *ring = NULL;
    struct uring_op ops[OPS];
    char bytes[OPS] = {0};
    unsigned done = 0;
    char text[256];
    assert_int_equal(uring_open(OPS, f->event_fd, &ring, text, sizeof text), 0);
    assert_int_equal(pwrite(f->fd, bytes, sizeof bytes, 0), sizeof bytes);
    for (size_t i = 0; i < OPS; i++) {
        ops[i] = operation(URING_READ, f->fd, &bytes[i], 1, i);
        ops[i].done = count_done;
        ops[i].owner = &done;
        uring_queue(ring, &ops[i]);
    }
    uring_flush(ring); /* What the page cache holds is read at once */
    unsigned reaps = 0;
    while (done < OPS) {
        struct pollfd poll_fd = {.fd = f->event_fd, .events = POLLIN};
        uint64_t signals;
        unsigned before = done;
        assert_int_equal(poll(&poll_fd, 1, 10000), 1);
        assert_int_equal(read(f->event_fd, &signals, sizeof signals), sizeof signals);
        unsigned reaped = uring_reap(ring);
        assert_int_equal(reaped, done - before);
        assert_true(done - before <= URING_REAP_MAX);
        reaps += done > before;
    }
    assert_true(reaps >= OPS / URING_REAP_MAX);
    assert_true(uring_close(ring));
}

static void queued_operations_start_with_the_flush(void **state)
{
    struct ring_fixture *f = *state;
    unsigned done = 0;
    char bytes[3] = "abc";
    struct uring_op ops[3];
    for (size_t i = 0; i < 3; i++) {
        ops[i] = operation(URING_WRITE, f->fd, &bytes[i], 1, i);
        ops[i].done = count_done;
        ops[i].owner = &done;
        uring_queue(f->ring, &ops[i]);
    }
    struct stat status;
    assert_int_equal(fstat(f->fd, &status), 0);
    assert_int_equal(status.st_size, 0);
    uring_flush(f->ring);
    while (done < 3)
        assert_true(uring_wait(f->ring) > 0);
    assert_int_equal(fstat(f->fd, &status), 0);
    assert_int_equal(status.st_size, 3);
}

static void registered_memory_serves_reads_and_writes(void **state)
{
    struct ring_fixture *f = *state;
    unsigned char *memory = aligned_alloc(4096, 8192);
    assert_non_null(memory);
    /* Where the limit of locked memory forbids it, all must work the same. */
    (void)uring_memory_register(f->ring, memory, 8192);
    memset(memory, 'a', 4096);
    struct uring_op op = operation(URING_WRITE, f->fd, memory, 4096, 0);
    assert_int_equal(uring_run(f->ring, &op), 4096);
    op = operation(URING_READ, f->fd, memory + 5000, 3192, 100);
    assert_int_equal(uring_run(f->ring, &op), 3192);
    assert_memory_equal(memory + 5000, memory, 3192);
    unsigned char outside[100];
    op = operation(URING_READ, f->fd, outside, sizeof outside, 0);
    assert_int_equal(uring_run(f->ring, &op), 100);
    assert_memory_equal(outside, memory, 100);
    assert_true(uring_close(f->ring));
    free(memory);
    char text[256];
    assert_int_equal(uring_open(8, f->event_fd, &f->ring, text, sizeof text), 0);
}

static void an_injected_result_replaces_the_operation(void **state)
{
    struct ring_fixture *f = *state;
    char out[] = "never written";
    struct fault fault = {.kind = URING_WRITE, .first = 2, .times = 1, .result = -ENOSPC};
    fault_set(&fault);
    struct uring_op op = operation(URING_WRITE, f->fd, out, 4, 0);
    assert_int_equal(uring_run(f->ring, &op), 4);
    op = operation(URING_WRITE, f->fd, out, sizeof out, 4);
    assert_int_equal(uring_run(f->ring, &op), -ENOSPC);
    struct stat status;
    assert_int_equal(fstat(f->fd, &status), 0);
    assert_int_equal(status.st_size, 4);
}

static void an_operation_can_be_cut_short(void **state)
{
    struct ring_fixture *f = *state;
    char out[] = "0123456789";
    struct fault fault = {.kind = URING_WRITE, .first = 1, .times = 1, .length = 3};
    fault_set(&fault);
    struct uring_op op = operation(URING_WRITE, f->fd, out, 10, 0);
    assert_int_equal(uring_run(f->ring, &op), 3);
}

static void errno_values_become_tiers_codes(void **state)
{
    (void)state;
    assert_int_equal(uring_status(0), 0);
    assert_int_equal(uring_status(ENOSPC), TIERS_NO_SPACE);
    assert_int_equal(uring_status(-EDQUOT), TIERS_NO_SPACE);
    assert_int_equal(uring_status(-ENOMEM), TIERS_NO_MEMORY);
    assert_int_equal(uring_status(EPERM), TIERS_ACCESS);
    assert_int_equal(uring_status(-EIO), TIERS_IO);
    assert_int_equal(uring_status(EBADF), TIERS_IO);
}

static void a_refused_ring_is_explained_in_one_sentence(void **state)
{
    (void)state;
    char text[256] = "";
    struct uring *ring = NULL;
    assert_int_equal(uring_open(1, 1 << 20, &ring, text, sizeof text), TIERS_IO);
    assert_null(ring);
    assert_non_null(strstr(text, "io_uring"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_written_is_read_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_read_beyond_the_end_is_short, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_kernels_error_is_the_result, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_ring_takes_its_depth_and_signals_its_eventfd, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            completions_come_a_few_at_a_time_and_the_eventfd_tells_of_the_rest, set_up, tear_down),
        cmocka_unit_test_setup_teardown(queued_operations_start_with_the_flush, set_up, tear_down),
        cmocka_unit_test_setup_teardown(registered_memory_serves_reads_and_writes, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_injected_result_replaces_the_operation, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_operation_can_be_cut_short, set_up, tear_down),
        cmocka_unit_test(errno_values_become_tiers_codes),
        cmocka_unit_test(a_refused_ring_is_explained_in_one_sentence),
    };
    return cmocka_run_group_tests_name("uring", tests, NULL, NULL);
}
