/* Reads what the kernel tells about memory: see memory_available.h.
 *
 * The happy path: MemAvailable of /proc/meminfo is the bound of the system. /proc/self/cgroup names
 * the group; it and each group above it may have a limit: what is left below that limit, and what
 * the group holds of files, can be had. A container may see only the part of the hierarchy below
 * its own group: names that are not there are skipped, and the topmost folder stands for it.
 *
 * A file that cannot be read or understood bounds nothing. */
#include "memory_available.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES 1024
/* memory.stat is the longest: some fifty lines. */
#define TEXT_BYTES 8192

/* Where the versions of control groups are found, and what their files are called. */
struct hierarchy {
    const char *folder;
    const char *limit;
    const char *usage;
    const char *file_active; /* In memory.stat */
    const char *file_inactive;
};

static const struct hierarchy unified = {"/sys/fs/cgroup", "memory.max", "memory.current",
                                         "active_file", "inactive_file"};
static const struct hierarchy unified_beside_v1 = {
    "/sys/fs/cgroup/unified", "memory.max", "memory.current", "active_file", "inactive_file"};
static const struct hierarchy memory_v1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes",
                                           "memory.usage_in_bytes", "total_active_file",
                                           "total_inactive_file"};

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static bool text_read(const char *path, char text[TEXT_BYTES])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    size_t n = 0;
    ssize_t got;
    while (n < TEXT_BYTES - 1 &&
           ((got = read(fd, text + n, TEXT_BYTES - 1 - n)) > 0 || (got < 0 && errno == EINTR))) {
        n += got > 0 ? (size_t)got : 0;
    }
    close(fd);
    text[n] = '\0';
    return n > 0;
}

/* The number after `name`, which stands at the start of a line. */
static bool field_find(const char *text, const char *name, uint64_t *ret_value)
{
    size_t len = strlen(name);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, len) == 0 && (line[len] == ' ' || line[len] == ':')) {
            return sscanf(line + len + 1, "%" SCNu64, ret_value) == 1;
        }
    }
    return false;
}

/* A file that holds one number; "max" is none. */
static bool number_read(const char *folder, const char *name, uint64_t *ret_value)
{
    char path[PATH_BYTES];
    char text[TEXT_BYTES];
    return snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path &&
           text_read(path, text) && sscanf(text, "%" SCNu64, ret_value) == 1;
}

/* What one group leaves. */
static uint64_t group_available(const struct hierarchy *hierarchy, const char *folder)
{
    char path[PATH_BYTES];
    char text[TEXT_BYTES];
    uint64_t limit;
    uint64_t usage;
    uint64_t active = 0;
    uint64_t inactive = 0;
    if (!number_read(folder, hierarchy->limit, &limit) ||
        !number_read(folder, hierarchy->usage, &usage)) {
        return UINT64_MAX;
    }
    if (snprintf(path, sizeof path, "%s/memory.stat", folder) < (int)sizeof path &&
        text_read(path, text)) {
        (void)field_find(text, hierarchy->file_active, &active);
        (void)field_find(text, hierarchy->file_inactive, &inactive);
    }
    uint64_t files = active + inactive;
    uint64_t others = usage > files ? usage - files : 0;
    return limit > others ? limit - others : 0;
}

/* The least of a group and all above it, up to the hierarchy's folder. Shortens `folder`. */
static uint64_t groups_available(const struct hierarchy *hierarchy, char *folder, size_t top_len)
{
    uint64_t available = UINT64_MAX;
    for (;;) {
        available = least(available, group_available(hierarchy, folder));
        char *slash = strrchr(folder, '/');
        if (slash == NULL || (size_t)(slash - folder) < top_len) {
            return available;
        }
        *slash = '\0';
    }
}

static uint64_t hierarchy_available(const char *root, const struct hierarchy *hierarchy,
                                    const char *group)
{
    char folder[PATH_BYTES];
    int top_len = snprintf(folder, sizeof folder, "%s%s", root, hierarchy->folder);
    int len = snprintf(folder, sizeof folder, "%s%s%s", root, hierarchy->folder,
                       strcmp(group, "/") == 0 ? "" : group);
    return len < (int)sizeof folder ? groups_available(hierarchy, folder, (size_t)top_len)
                                    : UINT64_MAX;
}

/* A line of /proc/self/cgroup: "ID:CONTROLLERS:GROUP"; version 2 names no controllers. */
static uint64_t line_available(const char *root, const char *line)
{
    const char *controllers = strchr(line, ':');
    const char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (group == NULL) {
        return UINT64_MAX;
    }
    if (strncmp(controllers, "::", 2) == 0) {
        return least(hierarchy_available(root, &unified, group + 1),
                     hierarchy_available(root, &unified_beside_v1, group + 1));
    }
    return strncmp(controllers, ":memory:", 8) == 0
               ? hierarchy_available(root, &memory_v1, group + 1)
               : UINT64_MAX;
}

uint64_t memory_available_below(const char *root)
{
    char path[PATH_BYTES];
    char text[TEXT_BYTES];
    uint64_t available = UINT64_MAX;
    uint64_t kib;
    if (snprintf(path, sizeof path, "%s/proc/meminfo", root) < (int)sizeof path &&
        text_read(path, text) && field_find(text, "MemAvailable", &kib)) {
        available = kib * 1024;
    }
    if (snprintf(path, sizeof path, "%s/proc/self/cgroup", root) < (int)sizeof path &&
        text_read(path, text)) {
        char *rest = NULL;
        for (const char *line = strtok_r(text, "\n", &rest); line != NULL;
             line = strtok_r(NULL, "\n", &rest)) {
            available = least(available, line_available(root, line));
        }
    }
    return available;
}

uint64_t memory_available_bytes(void)
{
    return memory_available_below("");
}
