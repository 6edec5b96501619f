/* The segment files of the cold tier: see cold_files.h.
 *
 * Deletion and reading meet like this: cold_files_delete takes the segment out of the registry and
 * unlinks it, so that nobody finds it any more; whoever acquired it before keeps the descriptor.
 * After the last of them the mover closes it, upon which the file system frees the space. It may
 * tell the disk so (discard) and wait for that, and the disk may do nothing else meanwhile: so no
 * reader does it, and large files are cut piece by piece, for others to get at the disk between.
 */
#include "cold_files.h"

#include "file.h"
#include "uring.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of a disk that frees 5 GB a second others wait for some milliseconds. */
#define CUT_BYTES ((uint64_t)16 << 20)

/* ----------------------------------------------------------------------------------- the registry
 */

/* The index of the first item whose id is not below `id`. */
static size_t items_find(const struct cold_files *files, uint64_t id)
{
    size_t low = 0;
    size_t high = files->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (files->items[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int items_append(struct cold_files *files, struct cold_file *file)
{
    assert(files->n == 0 || files->items[files->n - 1]->id < file->id);
    if (files->n == files->capacity) {
        size_t capacity = files->capacity == 0 ? 64 : 2 * files->capacity;
        struct cold_file **items = realloc(files->items, capacity * sizeof(struct cold_file *));
        if (items == NULL)
            return TIERS_NO_MEMORY;
        files->items = items;
        files->capacity = capacity;
    }
    files->items[files->n++] = file;
    atomic_store(&files->count, files->n);
    return 0;
}

static struct cold_file *file_new(uint64_t id, uint64_t bytes)
{
    struct cold_file *file = calloc(1, sizeof *file);
    if (file == NULL)
        return NULL;
    file->id = id;
    file->bytes = bytes;
    file->fd = -1;
    file->cut_fd = -1;
    return file;
}

static void file_free(struct cold_file *file)
{
    assert(file->users == 0);
    if (file->fd != -1)
        (void)close(file->fd);
    if (file->cut_fd != -1)
        (void)close(file->cut_fd);
    free(file);
}

/* The file has no name any more. */
static void file_remove(struct cold_file *file)
{
    uint64_t bytes = file->bytes;
    while (file->cut_fd != -1 && bytes > CUT_BYTES) {
        bytes -= CUT_BYTES;
        /* Else all the rest goes at once. */
        if (file_truncate(file->cut_fd, bytes) != 0)
            break;
    }
    file_free(file);
}

static void idle_add(struct cold_files *files, struct cold_file *file)
{
    file->idle_previous = files->idle_last;
    file->idle_next = NULL;
    if (files->idle_last != NULL)
        files->idle_last->idle_next = file;
    else
        files->idle_first = file;
    files->idle_last = file;
    files->n_idle++;
}

static void idle_remove(struct cold_files *files, struct cold_file *file)
{
    if (file->idle_previous != NULL)
        file->idle_previous->idle_next = file->idle_next;
    else
        files->idle_first = file->idle_next;
    if (file->idle_next != NULL)
        file->idle_next->idle_previous = file->idle_previous;
    else
        files->idle_last = file->idle_previous;
    files->n_idle--;
}

static void removable_add(struct cold_files *files, struct cold_file *file)
{
    file->idle_next = files->removable;
    files->removable = file;
}

int cold_files_add(struct cold_files *files, uint64_t id, uint64_t bytes)
{
    struct cold_file *file = file_new(id, bytes);
    int status = file == NULL ? TIERS_NO_MEMORY : items_append(files, file);
    if (status != 0)
        free(file);
    else
        atomic_fetch_add(&files->bytes, bytes);
    return status;
}

bool cold_files_has(const struct cold_files *files, uint64_t id)
{
    size_t i = items_find(files, id);
    return i < files->n && files->items[i]->id == id;
}

void cold_files_close(struct cold_files *files)
{
    cold_files_sweep(files);
    for (size_t i = 0; i < files->n; i++)
        file_free(files->items[i]);
    free(files->items);
    if (files->directory_fd != -1)
        (void)close(files->directory_fd);
    free(files->directory);
    pthread_mutex_destroy(&files->lock);
}

/* ---------------------------------------------------------------------------- for the mover thread
 */

/* Whether blocks and buffers as they are used here are enough for direct I/O on the file. A kernel
 * that cannot tell is believed until it answers EINVAL. */
static bool direct_fits(int fd)
{
    struct statx status;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) != 0 ||
        (status.stx_mask & STATX_DIOALIGN) == 0)
        return true;
    return status.stx_dio_offset_align != 0 && status.stx_dio_offset_align <= COLD_BLOCK_BYTES &&
           status.stx_dio_mem_align <= COLD_BLOCK_BYTES;
}

/* Opens a segment file, without O_DIRECT if the file system refuses it. -1: see errno. */
static int open_maybe_direct(struct cold_files *files, const char *name, int flags)
{
    if (atomic_load(&files->direct)) {
        int fd = file_open(files->directory_fd, name, flags | O_DIRECT, 0640);
        if (fd != -1 && !direct_fits(fd))
            cold_files_refuse_direct(files, fd);
        if (fd != -1 || errno != EINVAL)
            return fd;
        atomic_store(&files->direct, false);
        /* open(2) may have made the file before it refused the flag. */
        flags &= ~O_EXCL;
    }
    return file_open(files->directory_fd, name, flags, 0640);
}

int cold_files_create(struct cold_files *files, uint64_t id, struct cold_file **ret_file,
                      int *ret_fd)
{
    char name[COLD_NAME_BYTES];
    cold_name_print(id, name);
    struct cold_file *file = file_new(id, 0);
    if (file == NULL)
        return TIERS_NO_MEMORY;
    int fd = open_maybe_direct(files, name, O_WRONLY | O_CREAT | O_EXCL);
    if (fd == -1) {
        int error = errno;
        file_free(file);
        return uring_status(error);
    }
    pthread_mutex_lock(&files->lock);
    int status = items_append(files, file);
    pthread_mutex_unlock(&files->lock);
    if (status != 0) {
        (void)close(fd);
        (void)file_unlink(files->directory_fd, name);
        file_free(file);
        return status;
    }
    *ret_file = file;
    *ret_fd = fd;
    return 0;
}

void cold_files_publish(struct cold_files *files, struct cold_file *file, uint64_t bytes)
{
    pthread_mutex_lock(&files->lock);
    assert(bytes >= file->bytes);
    atomic_fetch_add(&files->bytes, bytes - file->bytes);
    file->bytes = bytes;
    pthread_mutex_unlock(&files->lock);
}

bool cold_files_delete(struct cold_files *files, uint64_t id)
{
    struct cold_file *file = NULL; /* Which only the mover frees */
    pthread_mutex_lock(&files->lock);
    size_t i = items_find(files, id);
    if (i < files->n && files->items[i]->id == id) {
        file = files->items[i];
        files->n--;
        memmove(files->items + i, files->items + i + 1,
                (files->n - i) * sizeof(struct cold_file *));
        atomic_store(&files->count, files->n);
        atomic_fetch_sub(&files->bytes, file->bytes);
        file->deleted = true;
        if (file->users == 0) {
            if (file->fd != -1)
                idle_remove(files, file);
            removable_add(files, file);
        }
    }
    pthread_mutex_unlock(&files->lock);
    if (file == NULL)
        return false;

    char name[COLD_NAME_BYTES];
    cold_name_print(id, name);
    if (file->bytes > CUT_BYTES)
        file->cut_fd = file_open(files->directory_fd, name, O_WRONLY, 0);
    /* A file that cannot be unlinked is a leftover, which the next open deletes. */
    (void)file_unlink(files->directory_fd, name);
    cold_files_sweep(files);
    return true;
}

void cold_files_sweep(struct cold_files *files)
{
    pthread_mutex_lock(&files->lock);
    struct cold_file *file = files->removable;
    files->removable = NULL;
    pthread_mutex_unlock(&files->lock);
    while (file != NULL) {
        struct cold_file *next = file->idle_next;
        file_remove(file);
        file = next;
    }
}

bool cold_files_deleted(struct cold_files *files, const struct cold_file *file)
{
    pthread_mutex_lock(&files->lock);
    bool deleted = file->deleted;
    pthread_mutex_unlock(&files->lock);
    return deleted;
}

uint64_t cold_files_after(struct cold_files *files, uint64_t id, uint64_t but)
{
    uint64_t found = 0;
    pthread_mutex_lock(&files->lock);
    for (size_t i = items_find(files, id + 1); i < files->n && found == 0; i++)
        if (files->items[i]->bytes > 0 && files->items[i]->id != but)
            found = files->items[i]->id;
    pthread_mutex_unlock(&files->lock);
    return found;
}

void cold_files_cut(struct cold_files *files, const struct cold_file *file)
{
    char name[COLD_NAME_BYTES];
    cold_name_print(file->id, name);
    int fd = file_open(files->directory_fd, name, O_WRONLY, 0);
    if (fd == -1)
        return;
    /* If it fails the bytes are only wasted: nobody reads beyond the durable size. */
    (void)file_truncate(fd, file->bytes);
    (void)close(fd);
}

/* ------------------------------------------------------------------------------------ any thread
 */

int cold_files_acquire(struct cold_files *files, uint64_t id, struct cold_file **ret_file,
                       uint64_t *ret_bytes)
{
    pthread_mutex_lock(&files->lock);
    size_t i = items_find(files, id);
    if (i == files->n || files->items[i]->id != id) {
        pthread_mutex_unlock(&files->lock);
        return TIERS_STALE;
    }
    struct cold_file *file = files->items[i];
    if (file->users++ == 0 && file->fd != -1)
        idle_remove(files, file);
    bool open_needed = file->fd == -1;
    uint64_t bytes = file->bytes;
    pthread_mutex_unlock(&files->lock);

    if (open_needed) {
        char name[COLD_NAME_BYTES];
        cold_name_print(id, name);
        int fd = open_maybe_direct(files, name, O_RDONLY);
        int error = fd == -1 ? errno : 0;
        /* Through the page cache nothing beside the record is to be read; scans read large pieces
         * anyway. */
        if (error == 0)
            (void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);

        /* Another thread may have opened or deleted it meanwhile. */
        pthread_mutex_lock(&files->lock);
        bool deleted = file->deleted;
        bool open_here = error == 0 && file->fd == -1;
        if (open_here)
            file->fd = fd;
        bool open_now = file->fd != -1;
        pthread_mutex_unlock(&files->lock);
        if (error == 0 && !open_here)
            (void)close(fd);
        if (!open_now) {
            cold_files_release(files, file);
            if (error != ENOENT)
                return uring_status(error);
            return deleted ? TIERS_STALE : TIERS_CORRUPT;
        }
    }
    *ret_file = file;
    *ret_bytes = bytes;
    return 0;
}

void cold_files_release(struct cold_files *files, struct cold_file *file)
{
    int fd_unused = -1;
    pthread_mutex_lock(&files->lock);
    assert(file->users > 0);
    file->users--;
    if (file->users == 0 && file->deleted) {
        removable_add(files, file);
    } else if (file->users == 0 && file->fd != -1) {
        idle_add(files, file);
        if (files->n_idle > COLD_DESCRIPTORS_MAX) {
            struct cold_file *oldest = files->idle_first;
            idle_remove(files, oldest);
            fd_unused = oldest->fd;
            oldest->fd = -1;
        }
    }
    pthread_mutex_unlock(&files->lock);
    if (fd_unused != -1)
        (void)close(fd_unused);
}

void cold_files_refuse_direct(struct cold_files *files, int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags == -1 || (flags & O_DIRECT) == 0)
        return;
    atomic_store(&files->direct, false);
    (void)fcntl(fd, F_SETFL, flags & ~O_DIRECT);
}
