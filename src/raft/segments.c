/* See segments.h. One pass over the directory's names; runs before the backend opens it. */
#include "raft/segments.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOTE "truncation"

struct segment {
    unsigned long long first, last;
};

static bool parse(const char *name, struct segment *ret_segment)
{
    int consumed = 0;

    return sscanf(name, "%16llu-%16llu%n", &ret_segment->first, &ret_segment->last, &consumed) ==
               2 &&
           consumed == 33 && name[consumed] == '\0';
}

static int by_first_then_last(const void *a, const void *b)
{
    const struct segment *x = a, *y = b;

    if (x->first != y->first)
        return x->first < y->first ? -1 : 1;
    return x->last < y->last ? -1 : x->last > y->last;
}

static int list(DIR *handle, struct segment **ret_segments, size_t *ret_n)
{
    struct segment *segments = NULL, segment;
    size_t n = 0, capacity = 0;
    struct dirent *entry;

    errno = 0;
    while ((entry = readdir(handle)) != NULL) {
        if (!parse(entry->d_name, &segment))
            continue;
        if (n == capacity) {
            struct segment *grown;
            capacity = capacity == 0 ? 64 : capacity * 2;
            grown = realloc(segments, capacity * sizeof *segments);
            if (grown == NULL) {
                free(segments);
                return -1;
            }
            segments = grown;
        }
        segments[n++] = segment;
        errno = 0;
    }
    if (errno != 0) {
        free(segments);
        return -1;
    }
    *ret_segments = segments;
    *ret_n = n;
    return 0;
}

/* ---- What is being truncated ---- */

int segments_note_truncation(const char *directory, uint64_t index)
{
    int folder = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd = -1, rv = -1, error;
    char text[32];

    if (folder < 0)
        return -1;
    fd = openat(folder, NOTE, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd >= 0) {
        int length = snprintf(text, sizeof text, "%" PRIu64 "\n", index);
        ssize_t n;
        do
            n = write(fd, text, (size_t)length);
        while (n < 0 && errno == EINTR);
        if (n >= 0 && n < length)
            errno = ENOSPC; /* What else keeps so few bytes out */
        if (n == length && fsync(fd) == 0 && fsync(folder) == 0)
            rv = 0;
    }
    error = errno;
    if (fd >= 0)
        close(fd);
    close(folder);
    errno = error;
    return rv;
}

/* 0: none, or its beginning was not noted completely, so that it never began. */
static uint64_t noted_truncation(int folder)
{
    char text[32] = "", newline = '\0';
    uint64_t index = 0;
    int fd = openat(folder, NOTE, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return 0;
    do
        n = read(fd, text, sizeof text - 1);
    while (n < 0 && errno == EINTR);
    close(fd);
    return n > 0 && sscanf(text, "%" SCNu64 "%c", &index, &newline) == 2 && newline == '\n' ? index
                                                                                            : 0;
}

/* ---- Repair ---- */

static int remove_segment(int folder, const struct segment *segment)
{
    char name[48];

    snprintf(name, sizeof name, "%016llu-%016llu", segment->first, segment->last);
    return unlinkat(folder, name, 0);
}

/* Of two segments with the same beginning the shorter is a copy that was to replace the other. The
 * longer one, still there, has all that it has. */
static int remove_copies(int folder, struct segment *segments, size_t *n, unsigned *removed)
{
    size_t kept = 0;

    for (size_t i = 0; i < *n; i++) {
        if (i + 1 < *n && segments[i].first == segments[i + 1].first) {
            if (remove_segment(folder, &segments[i]) != 0)
                return -1;
            ++*removed;
        } else {
            segments[kept++] = segments[i];
        }
    }
    *n = kept;
    return 0;
}

/* Segments are unlinked in order: if exactly the entries from the noted index on are missing
 * between two of them, the later ones were to go too. Any other gap is damage that only people can
 * judge. */
static int complete_truncation(int folder, const struct segment *segments, size_t n,
                               unsigned *removed)
{
    uint64_t index = noted_truncation(folder);
    size_t i = 1;

    while (i < n && segments[i].first == segments[i - 1].last + 1)
        i++;
    if (i >= n || index == 0 || segments[i - 1].last + 1 != index)
        return 0;
    for (size_t j = n; j > i; j--) {
        if (remove_segment(folder, &segments[j - 1]) != 0)
            return -1;
        ++*removed;
    }
    return 0;
}

int segments_repair(const char *directory, unsigned *ret_removed, char *error_text,
                    size_t error_text_size)
{
    DIR *handle = opendir(directory);
    struct segment *segments = NULL;
    unsigned removed = 0;
    size_t n = 0;
    int rv = -1;

    if (handle == NULL || list(handle, &segments, &n) != 0)
        goto out;
    if (n > 1)
        qsort(segments, n, sizeof *segments, by_first_then_last);
    if (remove_copies(dirfd(handle), segments, &n, &removed) != 0 ||
        complete_truncation(dirfd(handle), segments, n, &removed) != 0)
        goto out;
    if (removed > 0 && fsync(dirfd(handle)) != 0)
        goto out;
    *ret_removed = removed;
    rv = 0;
out:
    if (rv != 0)
        snprintf(error_text, error_text_size, "%s: %s", directory, strerror(errno));
    free(segments);
    if (handle != NULL)
        closedir(handle);
    return rv;
}
