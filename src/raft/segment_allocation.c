/* Gives the log's segments zeros to lie on, before the backend writes into them.
 *
 * The backend allocates a segment by posix_fallocate. On ext4 and XFS that leaves extents which the
 * file system remembers as unwritten, so that each synced write of the log also has to commit the
 * journal that says that they no longer are: a second write to the disk, in a row with those of all
 * other files. Over zeros that are already there a synced write is one write. PostgreSQL and InnoDB
 * prepare their logs in the same way.
 *
 * The backend has no option for it. It is a shared library and calls whatever posix_fallocate the
 * process has: this one, which does all that POSIX asks of that function for any other caller, too.
 * Called by the backend on threads of libuv's pool, ahead of need. No state.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define PIECE_BYTES (256u << 10)
/* Not in <linux/magic.h>. */
#define ZFS_MAGIC    0x2fc12fc1
#define BCACHEFS     0xca451a4e
#define PREPARED_MAX (64 << 20)

/* Where a block that is written again stays where it is, and a sync costs something. */
static bool file_system_gains(int fd)
{
    struct statfs file_system;

    if (fstatfs(fd, &file_system) != 0)
        return false;
    switch ((unsigned long)file_system.f_type) {
    case TMPFS_MAGIC:
    case RAMFS_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case ZFS_MAGIC:
    case BCACHEFS:
        return false;
    default:
        return true;
    }
}

/* A new file that is only written: a segment. Nothing that anyone stored can be overwritten. */
static bool is_new_segment(int fd, off_t offset, off_t n)
{
    struct stat status;
    int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && (flags & O_ACCMODE) == O_WRONLY && (flags & O_APPEND) == 0 &&
           offset == 0 && n <= PREPARED_MAX && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
           status.st_size == 0;
}

/* 0 or an error's number. Afterwards they are on disk, and not in the page cache, which the
 * backend's direct writes would have to clear. */
static int zeros_write(int fd, off_t n)
{
    static const unsigned char zeros[PIECE_BYTES];

    for (off_t done = 0; done < n;) {
        size_t wanted = n - done < (off_t)PIECE_BYTES ? (size_t)(n - done) : PIECE_BYTES;
        ssize_t written = pwrite(fd, zeros, wanted, done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return written < 0 ? errno : ENOSPC;
        done += written;
    }
    if (fdatasync(fd) != 0)
        return errno;
    (void)posix_fadvise(fd, 0, n, POSIX_FADV_DONTNEED);
    return 0;
}

/* As POSIX has it: 0 or an error's number, errno untouched. Where the file system cannot allocate
 * it is EOPNOTSUPP, which POSIX allows and the backend knows what to do with. */
int posix_fallocate(int fd, off_t offset, off_t n)
{
    int errno_before = errno;
    int error = 0;

    if (offset < 0 || n <= 0)
        return EINVAL;
    bool prepare = is_new_segment(fd, offset, n) && file_system_gains(fd);
    /* First of all in one piece on the disk, or refused while nothing is written. */
    while (fallocate(fd, 0, offset, n) != 0) {
        error = errno;
        if (error != EINTR)
            break;
        error = 0;
    }
    if (error == 0 && prepare)
        error = zeros_write(fd, n);
    errno = errno_before;
    return error;
}
