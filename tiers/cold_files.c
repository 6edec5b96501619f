/* The segment files of the cold tier: see cold_files.h.
 *
 * Deletion and reading meet like this: cold_files_delete takes the segment out of the registry and
 * unlinks it, so that nobody finds it any more; whoever acquired it before keeps the descriptor,
 * and the release of the last user closes it, upon which the file system frees the space.
 */
#include "cold_files.h"

#include "file.h"
#include "uring.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* How many of the newest segments have their header checked at open. The others are checked when
 * they are scanned, and each of their records when it is read: to open every file of a large disk
 * would make a restart slow. */
#define HEADERS_CHECKED_MAX 64

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
    return file;
}

static void file_free(struct cold_file *file)
{
    assert(file->users == 0);
    if (file->fd != -1)
        (void)close(file->fd);
    free(file);
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

/* ----------------------------------------------------------------------------------------- opening
 */

static int fail(char *error_text, size_t error_text_size, int error, const char *what,
                const char *directory, const char *name)
{
    snprintf(error_text, error_text_size, "cannot %s %s%s%s: %s", what, directory,
             name[0] == '\0' ? "" : "/", name, strerror(error));
    return uring_status(error);
}

/* Opens the directory, which is made (durably) if it is absent. */
static int directory_open(struct cold_files *files, char *error_text, size_t error_text_size)
{
    bool made = file_folder_make(files->directory, 0750) == 0;
    if (!made && errno != EEXIST)
        return fail(error_text, error_text_size, errno, "create", files->directory, "");
    files->directory_fd = file_open(AT_FDCWD, files->directory, O_RDONLY | O_DIRECTORY, 0);
    if (files->directory_fd == -1)
        return fail(error_text, error_text_size, errno, "open", files->directory, "");
    if (!made)
        return 0;

    if (file_parent_sync(files->directory) != 0)
        return fail(error_text, error_text_size, errno, "make durable", files->directory, "");
    return 0;
}

static int leftovers_delete(struct cold_files *files, char *error_text, size_t error_text_size)
{
    int fd = file_open(files->directory_fd, ".", O_RDONLY | O_DIRECTORY, 0);
    DIR *directory = fd == -1 ? NULL : fdopendir(fd);
    if (directory == NULL) {
        int error = errno;
        if (fd != -1)
            (void)close(fd);
        return fail(error_text, error_text_size, error, "list", files->directory, "");
    }
    int error = 0;
    bool deleted = false;
    const char *name = "";
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(directory);
        if (entry == NULL) {
            error = errno;
            break;
        }
        uint64_t id;
        if (!cold_name_parse(entry->d_name, &id))
            continue;
        size_t i = items_find(files, id);
        if (i < files->n && files->items[i]->id == id)
            continue;
        if (file_unlink(files->directory_fd, entry->d_name) != 0) {
            error = errno;
            name = entry->d_name;
            break;
        }
        deleted = true;
    }
    if (error == 0 && deleted && file_sync(files->directory_fd) != 0)
        error = errno;
    int status = 0;
    if (error != 0)
        status = fail(error_text, error_text_size, error, "clear leftovers from", files->directory,
                      name);
    (void)closedir(directory);
    return status;
}

/* Checks the size of a known segment, and cuts off what a crash left beyond it. */
static int known_check_size(struct cold_files *files, const struct cold_file *file,
                            char *error_text, size_t error_text_size)
{
    char name[COLD_NAME_BYTES];
    cold_name_print(file->id, name);
    struct stat status;
    if (fstatat(files->directory_fd, name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
        int error = errno;
        int code = fail(error_text, error_text_size, error, "find", files->directory, name);
        return error == ENOENT ? TIERS_CORRUPT : code;
    }
    if (file->bytes == 0 || file->bytes % COLD_BLOCK_BYTES != 0) {
        snprintf(error_text, error_text_size,
                 "%s/%s: the index gives it an impossible size of %" PRIu64 " bytes",
                 files->directory, name, file->bytes);
        return TIERS_CORRUPT;
    }
    uint64_t size = (uint64_t)status.st_size;
    if (!S_ISREG(status.st_mode) || size < file->bytes) {
        snprintf(error_text, error_text_size,
                 "%s/%s has %" PRIu64 " bytes where the index knows of %" PRIu64, files->directory,
                 name, size, file->bytes);
        return TIERS_CORRUPT;
    }
    if (size == file->bytes)
        return 0;
    int fd = file_open(files->directory_fd, name, O_WRONLY, 0);
    int error = fd == -1 || file_truncate(fd, file->bytes) != 0 ? errno : 0;
    if (fd != -1)
        (void)close(fd);
    if (error != 0)
        return fail(error_text, error_text_size, error, "cut", files->directory, name);
    return 0;
}

static int known_check_header(struct cold_files *files, const struct cold_file *file,
                              char *error_text, size_t error_text_size)
{
    char name[COLD_NAME_BYTES];
    cold_name_print(file->id, name);
    int fd = file_open(files->directory_fd, name, O_RDONLY, 0);
    if (fd == -1)
        return fail(error_text, error_text_size, errno, "open", files->directory, name);

    unsigned char block[COLD_BLOCK_BYTES] = {0};
    ssize_t n = file_read(fd, block, sizeof block, 0);
    int error = n < 0 ? errno : 0;
    (void)close(fd);
    if (error != 0)
        return fail(error_text, error_text_size, error, "read", files->directory, name);

    struct cold_header header;
    int status = cold_header_read(file->id, block, &header);
    if (status == TIERS_VERSION)
        snprintf(error_text, error_text_size, "%s/%s has format version %u, this program knows %d",
                 files->directory, name, cold_header_version(block), COLD_SEGMENT_FORMAT);
    else if (status != 0)
        snprintf(error_text, error_text_size, "%s/%s is no cold segment: its header is damaged",
                 files->directory, name);
    return status;
}

static int known_compare(const void *a, const void *b)
{
    uint64_t left = ((const struct cold_known *)a)->id;
    uint64_t right = ((const struct cold_known *)b)->id;
    return left < right ? -1 : left > right;
}

static int known_add(struct cold_files *files, const struct cold_known *known, size_t n_known)
{
    if (n_known == 0)
        return 0;
    struct cold_known *sorted = malloc(n_known * sizeof *sorted);
    if (sorted == NULL)
        return TIERS_NO_MEMORY;
    memcpy(sorted, known, n_known * sizeof *sorted);
    qsort(sorted, n_known, sizeof *sorted, known_compare);

    int status = 0;
    for (size_t i = 0; i < n_known; i++) {
        if (i > 0 && sorted[i].id == sorted[i - 1].id) {
            status = TIERS_INVALID;
            break;
        }
        struct cold_file *file = file_new(sorted[i].id, sorted[i].bytes);
        status = file == NULL ? TIERS_NO_MEMORY : items_append(files, file);
        if (status != 0) {
            free(file);
            break;
        }
        atomic_fetch_add(&files->bytes, sorted[i].bytes);
    }
    free(sorted);
    return status;
}

int cold_files_open(struct cold_files *files, const char *directory, bool direct,
                    const struct cold_known *known, size_t n_known, char *error_text,
                    size_t error_text_size)
{
    memset(files, 0, sizeof *files);
    files->directory_fd = -1;
    atomic_init(&files->direct, direct);
    pthread_mutex_init(&files->lock, NULL);

    files->directory = strdup(directory);
    int status = files->directory == NULL ? TIERS_NO_MEMORY : known_add(files, known, n_known);
    if (status != 0) {
        snprintf(error_text, error_text_size, "cannot list the cold segments of %s: %s", directory,
                 status == TIERS_INVALID ? "one is named twice" : "out of memory");
        goto fail;
    }
    status = directory_open(files, error_text, error_text_size);
    if (status != 0)
        goto fail;
    for (size_t i = 0; i < files->n; i++) {
        status = known_check_size(files, files->items[i], error_text, error_text_size);
        if (status == 0 && files->n - i <= HEADERS_CHECKED_MAX)
            status = known_check_header(files, files->items[i], error_text, error_text_size);
        if (status != 0)
            goto fail;
    }
    /* Last, so that a refused open has deleted nothing. */
    status = leftovers_delete(files, error_text, error_text_size);
    if (status != 0)
        goto fail;
    return 0;

fail:
    cold_files_close(files);
    return status;
}

void cold_files_close(struct cold_files *files)
{
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

/* Opens a segment file, without O_DIRECT if the file system refuses it. -1: see errno. */
static int open_maybe_direct(struct cold_files *files, const char *name, int flags)
{
    if (atomic_load(&files->direct)) {
        int fd = file_open(files->directory_fd, name, flags | O_DIRECT, 0640);
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
    struct cold_file *unused = NULL;
    pthread_mutex_lock(&files->lock);
    size_t i = items_find(files, id);
    bool found = i < files->n && files->items[i]->id == id;
    if (found) {
        struct cold_file *file = files->items[i];
        files->n--;
        memmove(files->items + i, files->items + i + 1,
                (files->n - i) * sizeof(struct cold_file *));
        atomic_store(&files->count, files->n);
        atomic_fetch_sub(&files->bytes, file->bytes);
        file->deleted = true;
        if (file->users == 0) {
            if (file->fd != -1)
                idle_remove(files, file);
            unused = file;
        }
    }
    pthread_mutex_unlock(&files->lock);
    if (!found)
        return false;

    /* A file that cannot be unlinked is a leftover, which the next open deletes. */
    char name[COLD_NAME_BYTES];
    cold_name_print(id, name);
    (void)file_unlink(files->directory_fd, name);
    if (unused != NULL)
        file_free(unused);
    return true;
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
    struct cold_file *unused = NULL;
    int fd_unused = -1;
    pthread_mutex_lock(&files->lock);
    assert(file->users > 0);
    file->users--;
    if (file->users == 0 && file->deleted) {
        unused = file;
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
    if (unused != NULL)
        file_free(unused);
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
