/* Takes the pages of a mapped file out of memory, as the kernel does when memory is short. */
#ifndef TIERKV_TESTS_TIERS_EVICT_H
#define TIERKV_TESTS_TIERS_EVICT_H

#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What a process has mapped stays in memory: it is unmapped first, wherever it is mapped. */
static inline void evict_unmap(const char *path)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[4096];
    if (maps == NULL) {
        abort();
    }
    while (fgets(line, sizeof line, maps) != NULL) {
        uintptr_t first;
        uintptr_t end;
        if (strstr(line, path) != NULL &&
            sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &first, &end) == 2) {
            madvise((void *)first, end - first, MADV_DONTNEED);
        }
    }
    fclose(maps);
}

/* `path` is absolute. What is not yet on disk stays. */
static inline void evict(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        abort();
    }
    evict_unmap(path);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

/* False where files have no other place than memory. */
static inline bool evict_possible(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        abort();
    }
    unsigned char state = 1;
    evict(path);
    void *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    bool gone = map != MAP_FAILED && mincore(map, 4096, &state) == 0 && (state & 1) == 0;
    if (map != MAP_FAILED) {
        munmap(map, 4096);
    }
    return gone;
}

#endif
