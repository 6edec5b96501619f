/* Opening a data directory. Main thread, at start.
 *
 * A new directory gets everything else before state/CURRENT, which is put in place by a rename:
 * where CURRENT is, the layout is complete, and a start that was interrupted is simply repeated.
 * An existing state is never paired with a cold directory that is empty or missing (a disk that is
 * not mounted), nor a new one with a cold directory that has something in it. */
#include "node/datadir.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define CURRENT_MAGIC "tierkv-state "
/* 2: the number stands there twice. */
#define CURRENT_VERSION 2

/* What is needed while opening; `datadir` is complete at the end. */
struct opening {
    struct datadir datadir;
    const char *directory;
    char *cold_directory;
    char *state_directory;
    char *current_path;
    char *error_text;
    size_t error_text_size;
};

__attribute__((format(printf, 2, 3))) static int fail(const struct opening *opening,
                                                      const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(opening->error_text, opening->error_text_size, format, arguments);
    va_end(arguments);
    return -1;
}

static int fail_errno(const struct opening *opening, const char *action, const char *path)
{
    return fail(opening, "cannot %s %s: %s", action, path, strerror(errno));
}

/* malloc'ed; NULL: out of memory, as the error text says then. */
__attribute__((format(printf, 2, 3))) static char *path_make(const struct opening *opening,
                                                             const char *format, ...)
{
    char *path = NULL;
    va_list arguments;
    va_start(arguments, format);
    int n = vasprintf(&path, format, arguments);
    va_end(arguments);
    if (n >= 0)
        return path;
    fail(opening, "out of memory");
    return NULL;
}

/* ---------------------------------------------------------------------------------- file system */

static int directory_sync(const struct opening *opening, const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(opening, "open", path);
    int result = fsync(fd) == 0 ? 0 : fail_errno(opening, "sync", path);
    close(fd);
    return result;
}

static int parent_sync(const struct opening *opening, const char *path)
{
    char *copy = strdup(path);
    if (copy == NULL)
        return fail(opening, "out of memory");
    int result = directory_sync(opening, dirname(copy));
    free(copy);
    return result;
}

/* Creates the directory unless it is there. */
static int directory_make(const struct opening *opening, const char *path)
{
    struct stat status;
    if (mkdir(path, 0700) == 0)
        return parent_sync(opening, path);
    if (errno != EEXIST)
        return fail_errno(opening, "create the directory", path);
    if (stat(path, &status) != 0)
        return fail_errno(opening, "open", path);
    return S_ISDIR(status.st_mode) ? 0 : fail(opening, "%s is not a directory", path);
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static int lock_take(const struct opening *opening, const char *directory, int *ret_fd)
{
    char *path = path_make(opening, "%s/lock", directory);
    if (path == NULL)
        return -1;
    int result = 0;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        result = fail_errno(opening, "write to", path);
    else if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        result =
            errno == EWOULDBLOCK
                ? fail(opening, "%s is in use by another process (it holds %s)", directory, path)
                : fail_errno(opening, "lock", path);
    if (result == 0)
        *ret_fd = fd;
    else if (fd >= 0)
        close(fd);
    free(path);
    return result;
}

/* 1 or 0; -1: failed. Hidden names do not count. */
static int directory_empty(const struct opening *opening, const char *path)
{
    DIR *stream = opendir(path);
    if (stream == NULL)
        return fail_errno(opening, "read", path);
    int result = 1;
    const struct dirent *entry;
    while (result == 1 && (entry = readdir(stream)) != NULL)
        result = entry->d_name[0] == '.';
    closedir(stream);
    return result;
}

/* -------------------------------------------------------------------------------------- CURRENT */

/* Decimal digits up to a newline, which is passed over. False: something else stands there. */
static bool number_read(const char **at, uint64_t *ret_number)
{
    char *end;
    errno = 0;
    uint64_t number = strtoull(*at, &end, 10);
    if (!isdigit((unsigned char)**at) || errno != 0 || *end != '\n')
        return false;
    *at = end + 1;
    *ret_number = number;
    return true;
}

static int current_parse(struct opening *opening, const char *text)
{
    uint64_t version, state, again;
    const char *at = text + sizeof(CURRENT_MAGIC) - 1;
    if (strncmp(text, CURRENT_MAGIC, sizeof(CURRENT_MAGIC) - 1) != 0 || !number_read(&at, &version))
        return fail(opening, "%s is damaged", opening->current_path);
    if (version == 0 || version > CURRENT_VERSION)
        return fail(opening, "%s has format version %" PRIu64 ", which this program does not know",
                    opening->current_path, version);
    if (!number_read(&at, &state) || state == 0 ||
        (version > 1 && (!number_read(&at, &again) || again != state)) || *at != '\0')
        return fail(opening, "%s is damaged", opening->current_path);
    opening->datadir.state = state;
    return 0;
}

static int current_read(struct opening *opening)
{
    char text[128];
    FILE *in = fopen(opening->current_path, "re");
    if (in == NULL)
        return fail_errno(opening, "read", opening->current_path);
    size_t n = fread(text, 1, sizeof(text) - 1, in);
    text[n] = '\0';
    int result = ferror(in) ? fail_errno(opening, "read", opening->current_path)
                            : current_parse(opening, text);
    fclose(in);
    return result;
}

static int bytes_write(int fd, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t written = write(fd, bytes, n);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -1;
        bytes += written;
        n -= (size_t)written;
    }
    return 0;
}

static int current_write(struct opening *opening)
{
    char text[128];
    char *temporary = path_make(opening, "%s.new", opening->current_path);
    if (temporary == NULL)
        return -1;
    int n = snprintf(text, sizeof(text), CURRENT_MAGIC "%u\n%" PRIu64 "\n%" PRIu64 "\n",
                     CURRENT_VERSION, opening->datadir.state, opening->datadir.state);
    int result = -1;
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || bytes_write(fd, text, (size_t)n) != 0)
        result = fail_errno(opening, "write", temporary);
    else if (fsync(fd) != 0)
        result = fail_errno(opening, "sync", temporary);
    else if (rename(temporary, opening->current_path) != 0)
        result = fail_errno(opening, "rename", temporary);
    else
        result = directory_sync(opening, opening->state_directory);
    if (fd >= 0)
        close(fd);
    free(temporary);
    return result;
}

/* ---------------------------------------------------------------------------------------- opening
 */

static int state_paths_make(struct opening *opening)
{
    struct datadir *datadir = &opening->datadir;
    datadir->warm_path =
        path_make(opening, "%s/%" PRIu64 "/warm", opening->state_directory, datadir->state);
    datadir->manifest_path =
        path_make(opening, "%s/%" PRIu64 "/manifest", opening->state_directory, datadir->state);
    datadir->cold_path = path_make(opening, "%s/%" PRIu64, opening->cold_directory, datadir->state);
    return datadir->warm_path != NULL && datadir->cold_path != NULL &&
                   datadir->manifest_path != NULL
               ? 0
               : -1;
}

static int state_create(struct opening *opening)
{
    struct datadir *datadir = &opening->datadir;
    int result = -1;
    datadir->state = 1;
    char *number = path_make(opening, "%s/%" PRIu64, opening->state_directory, datadir->state);
    if (number == NULL || state_paths_make(opening) != 0)
        goto out;
    if (exists(datadir->warm_path)) {
        fail(opening, "%s is missing although %s is there", opening->current_path,
             datadir->warm_path);
        goto out;
    }
    if (directory_make(opening, datadir->cold_path) != 0 || directory_make(opening, number) != 0)
        goto out;
    int empty = directory_empty(opening, datadir->cold_path);
    if (empty == 0)
        fail(opening, "%s is not empty: it belongs to another data directory than %s",
             datadir->cold_path, opening->directory);
    if (empty == 1)
        result = current_write(opening);
out:
    free(number);
    return result;
}

/* ---- What is not live ---- */

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status;
    (void)type;
    (void)where;
    return remove(path);
}

/* With all that is in it; absent is fine. */
static int tree_remove(const struct opening *opening, const char *path)
{
    if (nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT)
        return 0;
    return fail_errno(opening, "remove", path);
}

/* Removes the directories that are named by another number than the live state's. */
static int others_remove(const struct opening *opening, const char *directory)
{
    DIR *stream = opendir(directory);
    if (stream == NULL)
        return fail_errno(opening, "read", directory);
    int result = 0;
    const struct dirent *entry;
    while (result == 0 && (entry = readdir(stream)) != NULL) {
        char *end;
        errno = 0;
        uint64_t number = strtoull(entry->d_name, &end, 10);
        if (!isdigit((unsigned char)entry->d_name[0]) || *end != '\0' || errno != 0 ||
            number == opening->datadir.state)
            continue;
        char *path = path_make(opening, "%s/%s", directory, entry->d_name);
        result = path != NULL ? tree_remove(opening, path) : -1;
        free(path);
    }
    closedir(stream);
    return result;
}

static int state_find(struct opening *opening)
{
    if (current_read(opening) != 0 || state_paths_make(opening) != 0)
        return -1;
    if (!exists(opening->datadir.cold_path))
        return fail(opening,
                    "%s, where the cold values of %s are, is missing: is its disk mounted?",
                    opening->datadir.cold_path, opening->directory);
    return others_remove(opening, opening->state_directory) == 0 &&
                   others_remove(opening, opening->cold_directory) == 0
               ? 0
               : -1;
}

static int fixed_paths_make(struct opening *opening, const char *cold_directory)
{
    struct datadir *datadir = &opening->datadir;
    const char *directory = opening->directory;
    const bool cold_inside = *cold_directory == '\0';
    datadir->raft_path = path_make(opening, "%s/raft", directory);
    datadir->identity_path = path_make(opening, "%s/node", directory);
    opening->state_directory = path_make(opening, "%s/state", directory);
    opening->current_path = path_make(opening, "%s/state/CURRENT", directory);
    opening->cold_directory = path_make(opening, "%s%s", cold_inside ? directory : cold_directory,
                                        cold_inside ? "/cold" : "");
    return datadir->raft_path != NULL && datadir->identity_path != NULL &&
                   opening->state_directory != NULL && opening->current_path != NULL &&
                   opening->cold_directory != NULL
               ? 0
               : -1;
}

static int open_all(struct opening *opening, const char *cold_directory)
{
    struct datadir *datadir = &opening->datadir;
    const char *directory = opening->directory;
    if (fixed_paths_make(opening, cold_directory) != 0)
        return -1;
    if (directory_make(opening, directory) != 0 ||
        lock_take(opening, directory, &datadir->lock_fd) != 0)
        return -1;
    const bool old = exists(opening->current_path);
    if (directory_make(opening, datadir->raft_path) != 0 ||
        directory_make(opening, opening->state_directory) != 0 ||
        directory_make(opening, opening->cold_directory) != 0 ||
        lock_take(opening, opening->cold_directory, &datadir->cold_lock_fd) != 0)
        return -1;
    return old ? state_find(opening) : state_create(opening);
}

int datadir_open(const char *directory, const char *cold_directory, struct datadir *ret_datadir,
                 char *error_text, size_t error_text_size)
{
    struct opening opening = {.datadir = {.lock_fd = -1, .cold_lock_fd = -1},
                              .directory = directory,
                              .error_text = error_text,
                              .error_text_size = error_text_size};
    int result = open_all(&opening, cold_directory);
    opening.datadir.state_directory = opening.state_directory;
    opening.datadir.cold_directory = opening.cold_directory;
    if (result == 0)
        *ret_datadir = opening.datadir;
    else
        datadir_close(&opening.datadir);
    free(opening.current_path);
    return result;
}

/* For the functions that exchange the state: as if it were being opened. False: out of memory. */
static bool reopen(const struct datadir *datadir, struct opening *ret_opening, char *error_text,
                   size_t error_text_size)
{
    *ret_opening = (struct opening){.datadir = {.state = datadir->state + 1},
                                    .cold_directory = datadir->cold_directory,
                                    .state_directory = datadir->state_directory,
                                    .error_text = error_text,
                                    .error_text_size = error_text_size};
    ret_opening->current_path = path_make(ret_opening, "%s/CURRENT", datadir->state_directory);
    return ret_opening->current_path != NULL;
}

int datadir_next(const struct datadir *datadir, struct datadir_next *ret_next, char *error_text,
                 size_t error_text_size)
{
    struct opening opening;
    if (!reopen(datadir, &opening, error_text, error_text_size))
        return -1;
    char *number =
        path_make(&opening, "%s/%" PRIu64, opening.state_directory, opening.datadir.state);
    int result = -1;
    if (number != NULL && state_paths_make(&opening) == 0 && tree_remove(&opening, number) == 0 &&
        tree_remove(&opening, opening.datadir.cold_path) == 0)
        result = directory_make(&opening, number);
    struct datadir_next next = {.warm_path = opening.datadir.warm_path,
                                .cold_path = opening.datadir.cold_path,
                                .manifest_path = opening.datadir.manifest_path};
    if (result == 0)
        *ret_next = next;
    else
        datadir_next_free(&next);
    free(number);
    free(opening.current_path);
    return result;
}

void datadir_next_free(struct datadir_next *next)
{
    free(next->warm_path);
    free(next->cold_path);
    free(next->manifest_path);
}

int datadir_next_commit(const struct datadir *datadir, char *error_text, size_t error_text_size)
{
    struct opening opening;
    if (!reopen(datadir, &opening, error_text, error_text_size))
        return -1;
    int result = current_write(&opening);
    free(opening.current_path);
    return result;
}

void datadir_close(struct datadir *datadir)
{
    if (datadir->cold_lock_fd >= 0)
        close(datadir->cold_lock_fd);
    if (datadir->lock_fd >= 0)
        close(datadir->lock_fd);
    free(datadir->raft_path);
    free(datadir->identity_path);
    free(datadir->warm_path);
    free(datadir->cold_path);
    free(datadir->manifest_path);
    free(datadir->state_directory);
    free(datadir->cold_directory);
}
