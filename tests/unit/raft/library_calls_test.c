/* The calls of the log's backend that do not go to libc: allocating a segment, and taking an AIO
 * context apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/temp_folder.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SEGMENT_BYTES (8 << 20)
#define EXTENTS_MAX   64
#define WAIT_MS_MAX   20000

static int file_make(const char *folder, const char *name, int flags)
{
    char path[TEMP_FOLDER_PATH_BYTES + 32];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, flags | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

/* How many of its extents are allocated without being written; -1: the file system does not tell.
 */
static int extents_unwritten(int fd)
{
    struct fiemap *map = calloc(1, sizeof *map + EXTENTS_MAX * sizeof map->fm_extents[0]);
    int n = 0;

    assert_non_null(map);
    map->fm_length = FIEMAP_MAX_OFFSET;
    map->fm_extent_count = EXTENTS_MAX;
    if (ioctl(fd, FS_IOC_FIEMAP, map) != 0)
        n = -1;
    else
        for (unsigned i = 0; i < map->fm_mapped_extents; i++)
            n += (map->fm_extents[i].fe_flags & FIEMAP_EXTENT_UNWRITTEN) != 0;
    free(map);
    return n;
}

/* What a shared library finds: else all of this would be in vain. */
static void the_backend_finds_these_and_not_libcs(void **unused)
{
    (void)unused;
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);

    assert_non_null(libc);
    assert_non_null(dlsym(RTLD_DEFAULT, "posix_fallocate"));
    assert_ptr_not_equal(dlsym(RTLD_DEFAULT, "posix_fallocate"), dlsym(libc, "posix_fallocate"));
#if defined(__x86_64__) || defined(__aarch64__)
    assert_ptr_not_equal(dlsym(RTLD_DEFAULT, "syscall"), dlsym(libc, "syscall"));
#endif
    dlclose(libc);
}

static void a_new_segment_lies_on_zeros_that_were_written(void **unused)
{
    (void)unused;
    char folder[TEMP_FOLDER_PATH_BYTES];
    struct stat status;

    temp_folder_make(folder);
    int fd = file_make(folder, "segment", O_WRONLY);
    int plain = file_make(folder, "plain", O_WRONLY);
    assert_int_equal(posix_fallocate(fd, 0, SEGMENT_BYTES), 0);
    assert_int_equal(fstat(fd, &status), 0);
    assert_int_equal(status.st_size, SEGMENT_BYTES);
    assert_true(status.st_blocks >= SEGMENT_BYTES / 512);
    /* Where the kernel leaves them unwritten, as on ext4 and XFS, this does not. */
    if (fallocate(plain, 0, 0, SEGMENT_BYTES) == 0 && extents_unwritten(plain) > 0)
        assert_int_equal(extents_unwritten(fd), 0);
    else
        print_message("this file system keeps no unwritten extents\n");
    close(plain);
    close(fd);
    temp_folder_remove(folder);
}

static void what_is_in_a_file_stays_there(void **unused)
{
    (void)unused;
    char folder[TEMP_FOLDER_PATH_BYTES];
    char found[5];

    temp_folder_make(folder);
    int fd = file_make(folder, "written", O_RDWR);
    int writer = file_make(folder, "other", O_WRONLY);
    assert_int_equal(write(fd, "value", 5), 5);
    assert_int_equal(posix_fallocate(fd, 0, 65536), 0);
    assert_int_equal(pread(fd, found, sizeof found, 0), sizeof found);
    assert_memory_equal(found, "value", sizeof found);
    close(fd);
    /* Also in one that is only written to. */
    assert_int_equal(write(writer, "value", 5), 5);
    assert_int_equal(posix_fallocate(writer, 0, 65536), 0);
    snprintf(folder + strlen(folder), sizeof folder - strlen(folder), "/other");
    fd = open(folder, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, found, sizeof found, 0), sizeof found);
    assert_memory_equal(found, "value", sizeof found);
    close(fd);
    close(writer);
    *strrchr(folder, '/') = '\0';
    temp_folder_remove(folder);
}

static void an_allocation_that_fails_says_why_and_leaves_errno(void **unused)
{
    (void)unused;
    char folder[TEMP_FOLDER_PATH_BYTES];

    temp_folder_make(folder);
    int fd = file_make(folder, "segment", O_WRONLY);
    errno = 7;
    assert_int_equal(posix_fallocate(fd, -1, 10), EINVAL);
    assert_int_equal(posix_fallocate(fd, 0, 0), EINVAL);
    assert_int_equal(posix_fallocate(-1, 0, 10), EBADF);
    assert_int_equal(posix_fallocate(fd, 0, (off_t)1 << 62), EFBIG);
    assert_int_equal(errno, 7);
    close(fd);
    temp_folder_remove(folder);
}

static void a_call_of_the_kernel_is_what_it_was(void **unused)
{
    (void)unused;
    errno = 0;
    assert_int_equal(syscall(SYS_getpid), getpid());
    assert_int_equal(errno, 0);
    assert_int_equal(syscall(SYS_close, -1), -1);
    assert_int_equal(errno, EBADF);
    /* All six arguments arrive. */
    char folder[TEMP_FOLDER_PATH_BYTES];
    temp_folder_make(folder);
    int fd = file_make(folder, "pages", O_RDWR);
    assert_int_equal(pwrite(fd, "second page", 11, sysconf(_SC_PAGESIZE)), 11);
    char *page = (char *)syscall(SYS_mmap, NULL, 4096, PROT_READ, MAP_SHARED, fd, // NOLINT
                                 sysconf(_SC_PAGESIZE));
    assert_ptr_not_equal(page, MAP_FAILED);
    assert_memory_equal(page, "second page", 11);
    munmap(page, 4096);
    close(fd);
    temp_folder_remove(folder);
}

/* However many there are: those beyond what threads are spent on are waited for. */
static void contexts_that_are_destroyed_are_gone_in_the_end(void **unused)
{
    (void)unused;
    enum { CONTEXTS = 40 };
    aio_context_t contexts[CONTEXTS] = {0};
    struct io_event event;
    struct timespec none = {0};

    for (size_t i = 0; i < CONTEXTS; i++)
        assert_int_equal(syscall(SYS_io_setup, 1, &contexts[i]), 0);
    for (size_t i = 0; i < CONTEXTS; i++)
        assert_int_equal(syscall(SYS_io_destroy, contexts[i]), 0);
    for (size_t i = 0; i < CONTEXTS; i++) {
        unsigned waited_ms = 0;
        while (syscall(SYS_io_getevents, contexts[i], 0L, 1L, &event, &none) != -1) {
            assert_true(waited_ms++ < WAIT_MS_MAX);
            poll(NULL, 0, 1);
        }
        assert_int_equal(errno, EINVAL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_backend_finds_these_and_not_libcs),
        cmocka_unit_test(a_new_segment_lies_on_zeros_that_were_written),
        cmocka_unit_test(what_is_in_a_file_stays_there),
        cmocka_unit_test(an_allocation_that_fails_says_why_and_leaves_errno),
        cmocka_unit_test(a_call_of_the_kernel_is_what_it_was),
        cmocka_unit_test(contexts_that_are_destroyed_are_gone_in_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
