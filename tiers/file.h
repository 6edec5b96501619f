/* The engine's file operations that do not go through io_uring.
 *
 * Opening, making, cutting, syncing and deleting files: rare, on any thread, blocking. They stand
 * here so that a test sees each of them, and can refuse it or end the process just before it.
 *
 * All return as the system calls they are named after: -1 and errno on failure. What a signal
 * interrupted is repeated, but for file_sync: after a failed fsync nothing is retried.
 */
#ifndef TIERS_FILE_H
#define TIERS_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* openat(2) with O_CLOEXEC; `folder_fd` may be AT_FDCWD. */
int file_open(int folder_fd, const char *name, int flags, mode_t mode);
int file_unlink(int folder_fd, const char *name);
/* Both names stand for paths. */
int file_rename(const char *path, const char *new_path);
int file_folder_make(const char *path, mode_t mode);
int file_truncate(int fd, uint64_t bytes);
/* fallocate(2). */
int file_allocate(int fd, int mode, uint64_t offset, uint64_t bytes);
/* posix_fallocate(3), as the process has it: where the file system cannot allocate, and maybe
 * elsewhere, zeros are written. -1 and errno on failure. */
int file_reserve(int fd, uint64_t offset, uint64_t bytes);
/* fsync(2) of a file or a folder. */
int file_sync(int fd);
/* The same of the folder that `path` is in. */
int file_parent_sync(const char *path);
/* Has what was written so far go to the disk, after waiting for what an earlier call began: much
 * that is written bit by bit and synced at the end is then no flood, behind which others' syncs
 * wait. A hint: nothing is promised, and a failure is file_sync's to tell. */
void file_write_back(int fd);
/* Reads until `n_bytes` are there or the file ends; returns how many. */
ssize_t file_read(int fd, void *buffer, size_t n_bytes, uint64_t offset);

/* Writes all of it: 0, or -1. */
int file_write(int fd, const void *bytes, size_t n_bytes, uint64_t offset);

enum file_kind {
    FILE_OPEN,
    FILE_UNLINK,
    FILE_RENAME,
    FILE_FOLDER_MAKE,
    FILE_TRUNCATE,
    FILE_ALLOCATE,
    FILE_SYNC,
    FILE_READ,
    FILE_WRITE
};

/* One operation, as a test sees it. */
struct file_op {
    enum file_kind kind;
    int fd;           /* Of the file, or of the folder that `name` is in */
    const char *name; /* Open, unlink, rename, make: as given; else NULL */
    int flags;        /* Open: its flags; allocate: its mode */
    uint64_t offset;  /* Allocate, read, write */
    uint64_t bytes;   /* Truncate: the new size; allocate, read, write: how many */
};

/* Test hook: sees each operation before it is carried out, on the thread that asked for it. */
struct file_faults {
    void *context;
    /* May block. If it returns an errno value nothing is carried out and the operation fails with
     * it; 0: the operation goes on. */
    int (*before)(void *context, const struct file_op *op);
};

/* NULL, the default, takes the hook away. `faults` is borrowed. */
void file_faults_set(const struct file_faults *faults);

#endif
