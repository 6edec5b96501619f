/* File operations under a test hook: see file.h.
 *
 * Each asks the hook first, then makes its system call. Any thread; there is no state but the hook.
 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file system that reports an interruption this often is taken to have failed. */
#define TRIES_MAX 1000

static _Atomic(const struct file_faults *) faults_installed;

void file_faults_set(const struct file_faults *faults)
{
    atomic_store(&faults_installed, faults);
}

/* True if the hook lets the operation happen; else errno is set. */
static bool allowed(const struct file_op *op)
{
    const struct file_faults *faults = atomic_load(&faults_installed);
    int error = faults == NULL ? 0 : faults->before(faults->context, op);
    if (error != 0)
        errno = error;
    return error == 0;
}

static bool again(int result, unsigned *tries)
{
    return result == -1 && errno == EINTR && ++*tries < TRIES_MAX;
}

int file_open(int folder_fd, const char *name, int flags, mode_t mode)
{
    const struct file_op op = {.kind = FILE_OPEN, .fd = folder_fd, .name = name, .flags = flags};
    unsigned tries = 0;
    int fd;
    do {
        fd = allowed(&op) ? openat(folder_fd, name, flags | O_CLOEXEC, mode) : -1;
    } while (again(fd, &tries));
    return fd;
}

int file_unlink(int folder_fd, const char *name)
{
    const struct file_op op = {.kind = FILE_UNLINK, .fd = folder_fd, .name = name};
    return allowed(&op) ? unlinkat(folder_fd, name, 0) : -1;
}

int file_rename(const char *path, const char *new_path)
{
    const struct file_op op = {.kind = FILE_RENAME, .fd = AT_FDCWD, .name = path};
    return allowed(&op) ? rename(path, new_path) : -1;
}

int file_folder_make(const char *path, mode_t mode)
{
    const struct file_op op = {.kind = FILE_FOLDER_MAKE, .fd = AT_FDCWD, .name = path};
    return allowed(&op) ? mkdir(path, mode) : -1;
}

int file_truncate(int fd, uint64_t bytes)
{
    const struct file_op op = {.kind = FILE_TRUNCATE, .fd = fd, .bytes = bytes};
    unsigned tries = 0;
    int result;
    do {
        result = allowed(&op) ? ftruncate(fd, (off_t)bytes) : -1;
    } while (again(result, &tries));
    return result;
}

int file_allocate(int fd, int mode, uint64_t offset, uint64_t bytes)
{
    const struct file_op op = {
        .kind = FILE_ALLOCATE, .fd = fd, .flags = mode, .offset = offset, .bytes = bytes};
    unsigned tries = 0;
    int result;
    do {
        result = allowed(&op) ? fallocate(fd, mode, (off_t)offset, (off_t)bytes) : -1;
    } while (again(result, &tries));
    return result;
}

static int reserve(int fd, off_t offset, off_t bytes)
{
    int error = posix_fallocate(fd, offset, bytes);
    if (error != 0)
        errno = error;
    return error == 0 ? 0 : -1;
}

int file_reserve(int fd, uint64_t offset, uint64_t bytes)
{
    const struct file_op op = {.kind = FILE_ALLOCATE, .fd = fd, .offset = offset, .bytes = bytes};
    unsigned tries = 0;
    int result;
    do {
        result = allowed(&op) ? reserve(fd, (off_t)offset, (off_t)bytes) : -1;
    } while (again(result, &tries));
    return result;
}

int file_sync(int fd)
{
    const struct file_op op = {.kind = FILE_SYNC, .fd = fd};
    return allowed(&op) ? fsync(fd) : -1;
}

void file_write_back(int fd)
{
    (void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE);
}

int file_parent_sync(const char *path)
{
    char *copy = strdup(path);
    if (copy == NULL)
        return -1;
    int fd = file_open(AT_FDCWD, dirname(copy), O_RDONLY | O_DIRECTORY, 0);
    free(copy);
    if (fd == -1)
        return -1;
    int result = file_sync(fd);
    int error = errno;
    (void)close(fd);
    errno = error;
    return result;
}

ssize_t file_read(int fd, void *buffer, size_t n_bytes, uint64_t offset)
{
    unsigned char *bytes = buffer;
    size_t done = 0;
    unsigned tries = 0;
    while (done < n_bytes) {
        const struct file_op op = {
            .kind = FILE_READ, .fd = fd, .offset = offset + done, .bytes = n_bytes - done};
        ssize_t n =
            allowed(&op) ? pread(fd, bytes + done, n_bytes - done, (off_t)(offset + done)) : -1;
        if (n == 0)
            break;
        if (n > 0)
            done += (size_t)n;
        else if (!again(-1, &tries))
            return -1;
    }
    return (ssize_t)done;
}

int file_write(int fd, const void *bytes, size_t n_bytes, uint64_t offset)
{
    const unsigned char *from = bytes;
    size_t done = 0;
    unsigned tries = 0;
    while (done < n_bytes) {
        const struct file_op op = {
            .kind = FILE_WRITE, .fd = fd, .offset = offset + done, .bytes = n_bytes - done};
        ssize_t n =
            allowed(&op) ? pwrite(fd, from + done, n_bytes - done, (off_t)(offset + done)) : -1;
        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || !again(-1, &tries))
            return -1;
    }
    return 0;
}
