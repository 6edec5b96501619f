/* See segments.h. One pass over the directory's names; runs before the backend opens it. */
#include "raft/segments.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
    for (size_t i = 0; i + 1 < n; i++) {
        char name[48];
        if (segments[i].first != segments[i + 1].first)
            continue;
        snprintf(name, sizeof name, "%016llu-%016llu", segments[i].first, segments[i].last);
        if (unlinkat(dirfd(handle), name, 0) != 0)
            goto out;
        removed++;
    }
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
