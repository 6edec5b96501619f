/* The engine's file operations and the hook through which tests fail them. */
#include "file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/temp_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEEN_MAX 64

struct watch {
    char folder[TEMP_FOLDER_PATH_BYTES];
    int folder_fd;
    struct file_op seen[SEEN_MAX];
    size_t n_seen;
    enum file_kind refuse; /* Operations of this kind... */
    unsigned refusals;     /* ...as many times */
    int error;             /* ...by this one */
};

static int before(void *context, const struct file_op *op)
{
    struct watch *watch = context;
    if (watch->n_seen < SEEN_MAX)
        watch->seen[watch->n_seen++] = *op;
    if (op->kind != watch->refuse || watch->refusals == 0)
        return 0;
    watch->refusals--;
    return watch->error;
}

static struct file_faults faults = {.before = before};

static int setup(void **state)
{
    struct watch *watch = calloc(1, sizeof *watch);
    assert_non_null(watch);
    temp_folder_make(watch->folder);
    watch->folder_fd = open(watch->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(watch->folder_fd >= 0);
    faults.context = watch;
    file_faults_set(&faults);
    *state = watch;
    return 0;
}

static int teardown(void **state)
{
    struct watch *watch = *state;
    file_faults_set(NULL);
    close(watch->folder_fd);
    temp_folder_remove(watch->folder);
    free(watch);
    return 0;
}

static int file_make(struct watch *watch, const char *name)
{
    int fd = file_open(watch->folder_fd, name, O_RDWR | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    return fd;
}

/* The server's own posix_fallocate writes zeros into new segments of its log (library_calls_test):
 * the cold tier's must not come to that. */
static unsigned reservations;

int posix_fallocate(int fd, off_t offset, off_t n)
{
    reservations++;
    return fallocate(fd, 0, offset, n) == 0 ? 0 : errno;
}

static void allocating_is_left_to_the_file_system(void **state)
{
    struct watch *watch = *state;
    struct stat status;
    int fd = file_make(watch, "a");
    reservations = 0;
    assert_int_equal(file_allocate(fd, 0, 0, 8192), 0);
    assert_int_equal(reservations, 0);
    assert_int_equal(file_reserve(fd, 8192, 4096), 0);
    assert_int_equal(reservations, 1);
    assert_int_equal(fstat(fd, &status), 0);
    assert_int_equal(status.st_size, 12288);
    close(fd);
    assert_int_equal(file_unlink(watch->folder_fd, "a"), 0);
}

static void every_operation_is_seen_before_it_happens(void **state)
{
    struct watch *watch = *state;
    char path[TEMP_FOLDER_PATH_BYTES + 8];
    char bytes[8];
    snprintf(path, sizeof path, "%s/sub", watch->folder);
    int fd = file_make(watch, "a");
    assert_int_equal(file_allocate(fd, FALLOC_FL_KEEP_SIZE, 0, 8192), 0);
    assert_int_equal(file_truncate(fd, 4096), 0);
    assert_int_equal(file_write(fd, "12345678", sizeof bytes, 4), 0);
    assert_int_equal(file_read(fd, bytes, sizeof bytes, 4), 8);
    assert_memory_equal(bytes, "12345678", sizeof bytes);
    assert_int_equal(file_sync(fd), 0);
    assert_int_equal(file_folder_make(path, 0700), 0);
    assert_int_equal(file_unlink(watch->folder_fd, "a"), 0);
    close(fd);

    const enum file_kind kinds[] = {FILE_OPEN, FILE_ALLOCATE, FILE_TRUNCATE,    FILE_WRITE,
                                    FILE_READ, FILE_SYNC,     FILE_FOLDER_MAKE, FILE_UNLINK};
    assert_int_equal(watch->n_seen, sizeof kinds / sizeof kinds[0]);
    for (size_t i = 0; i < watch->n_seen; i++)
        assert_int_equal(watch->seen[i].kind, kinds[i]);
    assert_int_equal(watch->seen[2].bytes, 4096);
    assert_int_equal(watch->seen[3].offset, 4);
    assert_int_equal(watch->seen[4].offset, 4);
}

static void what_the_hook_refuses_does_not_happen(void **state)
{
    struct watch *watch = *state;
    int fd = file_make(watch, "a");
    watch->refuse = FILE_UNLINK;
    watch->refusals = 1;
    watch->error = EIO;
    assert_int_equal(file_unlink(watch->folder_fd, "a"), -1);
    assert_int_equal(errno, EIO);
    assert_int_equal(faccessat(watch->folder_fd, "a", F_OK, 0), 0);

    watch->refuse = FILE_TRUNCATE;
    watch->refusals = 1;
    watch->error = ENOSPC;
    assert_int_equal(file_truncate(fd, 4096), -1);
    assert_int_equal(errno, ENOSPC);
    struct stat status;
    assert_int_equal(fstat(fd, &status), 0);
    assert_int_equal(status.st_size, 0);
    close(fd);
}

static void an_interrupted_operation_is_repeated(void **state)
{
    struct watch *watch = *state;
    int fd = file_make(watch, "a");
    watch->refuse = FILE_TRUNCATE;
    watch->refusals = 3;
    watch->error = EINTR;
    assert_int_equal(file_truncate(fd, 4096), 0);
    assert_int_equal(watch->refusals, 0);
    close(fd);
}

static void an_operation_that_is_interrupted_for_ever_fails(void **state)
{
    struct watch *watch = *state;
    char byte;
    int fd = file_make(watch, "a");
    watch->refuse = FILE_READ;
    watch->refusals = UINT_MAX;
    watch->error = EINTR;
    assert_int_equal(file_read(fd, &byte, 1, 0), -1);
    assert_int_equal(errno, EINTR);
    close(fd);
}

static void a_failed_sync_is_not_repeated(void **state)
{
    struct watch *watch = *state;
    int fd = file_make(watch, "a");
    watch->refuse = FILE_SYNC;
    watch->refusals = 2;
    watch->error = EINTR;
    assert_int_equal(file_sync(fd), -1);
    assert_int_equal(errno, EINTR);
    assert_int_equal(watch->refusals, 1);
    close(fd);
}

static void a_read_ends_with_the_file(void **state)
{
    struct watch *watch = *state;
    char bytes[64];
    int fd = file_make(watch, "a");
    assert_int_equal(pwrite(fd, "0123456789", 10, 0), 10);
    assert_int_equal(file_read(fd, bytes, sizeof bytes, 4), 6);
    assert_memory_equal(bytes, "456789", 6);
    assert_int_equal(file_read(fd, bytes, sizeof bytes, 10), 0);
    close(fd);
}

static void a_parent_is_synced_through_a_descriptor_of_its_own(void **state)
{
    struct watch *watch = *state;
    char path[TEMP_FOLDER_PATH_BYTES + 8];
    snprintf(path, sizeof path, "%s/a", watch->folder);
    assert_int_equal(file_parent_sync(path), 0);
    assert_int_equal(watch->n_seen, 2);
    assert_int_equal(watch->seen[1].kind, FILE_SYNC);

    watch->refuse = FILE_SYNC;
    watch->refusals = 1;
    watch->error = EIO;
    assert_int_equal(file_parent_sync(path), -1);
    assert_int_equal(errno, EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_operation_is_seen_before_it_happens, setup, teardown),
        cmocka_unit_test_setup_teardown(allocating_is_left_to_the_file_system, setup, teardown),
        cmocka_unit_test_setup_teardown(what_the_hook_refuses_does_not_happen, setup, teardown),
        cmocka_unit_test_setup_teardown(an_interrupted_operation_is_repeated, setup, teardown),
        cmocka_unit_test_setup_teardown(an_operation_that_is_interrupted_for_ever_fails, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_failed_sync_is_not_repeated, setup, teardown),
        cmocka_unit_test_setup_teardown(a_read_ends_with_the_file, setup, teardown),
        cmocka_unit_test_setup_teardown(a_parent_is_synced_through_a_descriptor_of_its_own, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
