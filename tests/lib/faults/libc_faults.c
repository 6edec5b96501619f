/* File operations that stand in front of the C library's: see libc_faults.h.
 *
 * They make the system calls themselves, so that they work before the dynamic linker has found the
 * real ones, and beside a sanitizer that has its own. Any thread.
 */
#include "lib/faults/libc_faults.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Atomic(const struct libc_faults *) installed;

void libc_faults_set(const struct libc_faults *faults)
{
    atomic_store(&installed, faults);
}

/* True if the hook took the call over: *result is then as the call's, errno set. */
static bool taken(const struct libc_op *op, ssize_t *result)
{
    const struct libc_faults *faults = atomic_load(&installed);
    if (faults == NULL || !faults->before(faults->context, op, result))
        return false;
    if (*result < 0) {
        errno = (int)-*result;
        *result = -1;
    }
    return true;
}

static int open_at(int folder_fd, const char *path, int flags, mode_t mode)
{
    const struct libc_op op = {.kind = LIBC_CREATE, .fd = folder_fd, .path = path};
    ssize_t result;
    if ((flags & O_CREAT) != 0 && faccessat(folder_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) != 0 &&
        taken(&op, &result))
        return (int)result;
    return (int)syscall(SYS_openat, folder_fd, path, flags, mode);
}

/* The headers of the C library have no names for parameters but such as belong to it. */
/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name) */

int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return open_at(AT_FDCWD, path, flags, mode);
}

int openat(int folder_fd, const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return open_at(folder_fd, path, flags, mode);
}

ssize_t pwrite(int fd, const void *bytes, size_t n_bytes, off_t offset)
{
    const struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = n_bytes};
    const struct libc_op op = {
        .kind = LIBC_WRITE, .fd = fd, .parts = &part, .n_parts = 1, .offset = offset};
    ssize_t result;
    return taken(&op, &result) ? result : syscall(SYS_pwrite64, fd, bytes, n_bytes, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int n_parts)
{
    const struct libc_op op = {.kind = LIBC_WRITE,
                               .fd = fd,
                               .parts = parts,
                               .n_parts = n_parts,
                               .offset = lseek(fd, 0, SEEK_CUR),
                               .moves = true};
    ssize_t result;
    return op.offset != -1 && taken(&op, &result) ? result
                                                  : syscall(SYS_writev, fd, parts, n_parts);
}

ssize_t write(int fd, const void *bytes, size_t n_bytes)
{
    const struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = n_bytes};
    const struct libc_op op = {.kind = LIBC_WRITE,
                               .fd = fd,
                               .parts = &part,
                               .n_parts = 1,
                               .offset = lseek(fd, 0, SEEK_CUR),
                               .moves = true};
    ssize_t result;
    return op.offset != -1 && taken(&op, &result) ? result : syscall(SYS_write, fd, bytes, n_bytes);
}

int fsync(int fd)
{
    const struct libc_op op = {.kind = LIBC_SYNC, .fd = fd};
    ssize_t result;
    return taken(&op, &result) ? (int)result : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    const struct libc_op op = {.kind = LIBC_SYNC, .fd = fd};
    ssize_t result;
    return taken(&op, &result) ? (int)result : (int)syscall(SYS_fdatasync, fd);
}

int ftruncate(int fd, off_t bytes)
{
    const struct libc_op op = {.kind = LIBC_TRUNCATE, .fd = fd, .offset = bytes};
    ssize_t result;
    return taken(&op, &result) ? (int)result : (int)syscall(SYS_ftruncate, fd, bytes);
}

int rename(const char *path, const char *new_path)
{
    const struct libc_op op = {
        .kind = LIBC_RENAME, .fd = AT_FDCWD, .path = path, .new_path = new_path};
    ssize_t result;
    return taken(&op, &result) ? (int)result
                               : (int)syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, new_path, 0);
}

int unlinkat(int folder_fd, const char *path, int flags)
{
    const struct libc_op op = {.kind = LIBC_UNLINK, .fd = folder_fd, .path = path};
    ssize_t result;
    return taken(&op, &result) ? (int)result : (int)syscall(SYS_unlinkat, folder_fd, path, flags);
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int mkdir(const char *path, mode_t mode)
{
    const struct libc_op op = {.kind = LIBC_MKDIR, .fd = AT_FDCWD, .path = path};
    ssize_t result;
    return faccessat(AT_FDCWD, path, F_OK, 0) != 0 && taken(&op, &result)
               ? (int)result
               : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */
