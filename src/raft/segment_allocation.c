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
#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define PIECE_BYTES (1u << 20)
/* What direct I/O may ask for. */
#define BLOCK_BYTES 4096
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

/* Like pwrite, past the page cache where the file system can do that: through it zeros would be
 * copied into memory that had to be found, and cleared out again before the backend's own direct
 * writes. Nobody else has the descriptor yet. */
static ssize_t zeros_write_some(int fd, size_t n, off_t at)
{
    /* Never written to: so all of it is the kernel's one page of zeros. */
    static alignas(BLOCK_BYTES) unsigned char zeros[PIECE_BYTES];
    int flags = fcntl(fd, F_GETFL);

    if (n % BLOCK_BYTES == 0 && at % BLOCK_BYTES == 0 &&
        fcntl(fd, F_SETFL, flags | O_DIRECT) == 0) {
        ssize_t written = pwrite(fd, zeros, n, at);
        int error = errno;
        (void)fcntl(fd, F_SETFL, flags);
        errno = error;
        if (written >= 0 || (error != EINVAL && error != EOPNOTSUPP))
            return written;
    }
    return pwrite(fd, zeros, n, at);
}

/* 0 or an error's number. Afterwards they are on disk, and not in the page cache. */
static int zeros_write(int fd, off_t n)
{
    for (off_t done = 0; done < n;) {
        size_t wanted = n - done < (off_t)PIECE_BYTES ? (size_t)(n - done) : PIECE_BYTES;
        ssize_t written = zeros_write_some(fd, wanted, done);
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
