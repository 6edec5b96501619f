/* Opening the directory of segment files: see cold_files_open in cold_files.h.
 *
 * The happy path: list what the index knows, check that each file is there and long enough, cut off
 * what a crash left behind its end, check the newest headers, and last delete the files that the
 * index does not know. Any failure is one sentence that names the file, and leaves all as it was.
 * Runs before all other threads.
 */
#include "cold_files.h"

#include "file.h"
#include "uring.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a file system may allocate beyond a file's bytes for its own sake. */
#define ALLOCATED_SLACK (256u << 10)

/* How many of the newest segments have their header checked at open. The others are checked when
 * they are scanned, and each of their records when it is read: to open every file of a large disk
 * would make a restart slow. */
#define HEADERS_CHECKED_MAX 64

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
        if (cold_files_has(files, id))
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
    /* Beyond the end there may be blocks that were allocated ahead of a crash. */
    uint64_t allocated = (uint64_t)status.st_blocks * 512;
    if (size == file->bytes && allocated <= file->bytes + ALLOCATED_SLACK)
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
        status = cold_files_add(files, sorted[i].id, sorted[i].bytes);
        if (status != 0)
            break;
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
