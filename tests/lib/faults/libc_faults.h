/* The file operations of the C library, under a test hook.
 *
 * A program that uses this module has its own open, write, pwrite, writev, fsync, fdatasync,
 * ftruncate, rename, unlink, unlinkat and mkdir: they take the place of the C library's also for
 * shared libraries such as LMDB, ask the hook, and make the system call. Only what changes a file
 * or a name is shown to the hook.
 */
#ifndef TIERKV_TESTS_FAULTS_LIBC_FAULTS_H
#define TIERKV_TESTS_FAULTS_LIBC_FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

enum libc_kind {
    LIBC_CREATE,
    LIBC_WRITE,
    LIBC_SYNC,
    LIBC_TRUNCATE,
    LIBC_RENAME,
    LIBC_UNLINK,
    LIBC_MKDIR
};

struct libc_op {
    enum libc_kind kind;
    int fd;                    /* Of the file; of the folder that `path` is in, or AT_FDCWD */
    const char *path;          /* Create, rename, unlink, mkdir */
    const char *new_path;      /* Rename */
    const struct iovec *parts; /* Write */
    int n_parts;
    off_t offset; /* Write: where to; truncate: the new size */
    bool moves;   /* Write: the descriptor's position moves with it */
};

struct libc_faults {
    void *context;
    /* If it returns true nothing is carried out, and the call has *result: a count, or -errno. */
    bool (*before)(void *context, const struct libc_op *op, ssize_t *result);
};

/* NULL, the default, takes the hook away. `faults` is borrowed. Not while other threads are at
 * work. */
void libc_faults_set(const struct libc_faults *faults);

#endif
