/* See manifest.h. Any thread. */
#include "raft/manifest.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define MAGIC        "TKVMANI"
#define VERSION      1
#define HEADER_BYTES 56
#define HASH_BYTES   8

void manifest_close(struct manifest *manifest)
{
    raft_configuration_close(&manifest->configuration);
}

static void put(unsigned char *to, uint64_t value)
{
    value = htole64(value);
    memcpy(to, &value, sizeof value);
}

static uint64_t get(const unsigned char *from)
{
    uint64_t value;

    memcpy(&value, from, sizeof value);
    return le64toh(value);
}

int manifest_encode(const struct manifest *manifest, void **ret_bytes, size_t *ret_n)
{
    struct raft_buffer configuration;
    unsigned char *bytes;
    size_t n;

    if (raft_configuration_encode(&manifest->configuration, &configuration) != 0)
        return RAFT_NOMEM;
    n = HEADER_BYTES + configuration.len + HASH_BYTES;
    bytes = malloc(n);
    if (bytes != NULL) {
        memcpy(bytes, MAGIC, 8);
        put(bytes + 8, VERSION);
        put(bytes + 16, manifest->cluster_id);
        put(bytes + 24, manifest->index);
        put(bytes + 32, manifest->term);
        put(bytes + 40, manifest->configuration_index);
        put(bytes + 48, configuration.len);
        memcpy(bytes + HEADER_BYTES, configuration.base, configuration.len);
        put(bytes + n - HASH_BYTES, XXH3_64bits(bytes, n - HASH_BYTES));
        *ret_bytes = bytes;
        *ret_n = n;
    }
    raft_free(configuration.base);
    return bytes != NULL ? 0 : RAFT_NOMEM;
}

int manifest_decode(const void *bytes, size_t n, struct manifest *ret_manifest)
{
    const unsigned char *from = bytes;
    struct manifest manifest;
    struct raft_buffer configuration;
    int rv;

    if (n < HEADER_BYTES + HASH_BYTES || n > MANIFEST_BYTES_MAX || memcmp(from, MAGIC, 8) != 0 ||
        get(from + 8) != VERSION || get(from + 48) != n - HEADER_BYTES - HASH_BYTES ||
        get(from + n - HASH_BYTES) != XXH3_64bits(from, n - HASH_BYTES))
        return RAFT_MALFORMED;
    manifest = (struct manifest){.cluster_id = get(from + 16),
                                 .index = get(from + 24),
                                 .term = get(from + 32),
                                 .configuration_index = get(from + 40)};
    if (manifest.index == 0 || manifest.term == 0 ||
        manifest.configuration_index > manifest.index || manifest.configuration_index == 0)
        return RAFT_MALFORMED;
    /* The decoder keeps nothing of the buffer, and asks for one that it might write to. */
    configuration.len = get(from + 48);
    configuration.base = malloc(configuration.len > 0 ? configuration.len : 1);
    if (configuration.base == NULL)
        return RAFT_NOMEM;
    memcpy(configuration.base, from + HEADER_BYTES, configuration.len);
    raft_configuration_init(&manifest.configuration);
    rv = raft_configuration_decode(&configuration, &manifest.configuration);
    free(configuration.base);
    if (rv == 0)
        *ret_manifest = manifest;
    return rv;
}

/* ---- Files ---- */

static bool write_all(int fd, const unsigned char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t written = write(fd, bytes, n);
        if (written < 0 && errno != EINTR)
            return false;
        if (written > 0) {
            bytes += written;
            n -= (size_t)written;
        }
    }
    return true;
}

static int folder_sync(const char *path)
{
    char *copy = strdup(path);
    int fd = copy != NULL ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    int rv = fd >= 0 && fsync(fd) == 0 ? 0 : -1;

    if (fd >= 0)
        close(fd);
    free(copy);
    return rv;
}

int manifest_store(const char *path, const void *bytes, size_t n)
{
    char fresh[4096];
    int fd;
    bool ok;

    if (snprintf(fresh, sizeof fresh, "%s.new", path) >= (int)sizeof fresh) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    ok = write_all(fd, bytes, n) && fsync(fd) == 0;
    if (close(fd) != 0 || !ok || rename(fresh, path) != 0)
        return -1;
    return folder_sync(path);
}

int manifest_load(const char *path, struct manifest *ret_manifest)
{
    unsigned char *bytes;
    FILE *in = fopen(path, "re");
    size_t n;
    int rv;

    if (in == NULL)
        return errno == ENOENT ? RAFT_NOTFOUND : RAFT_IOERR;
    bytes = malloc(MANIFEST_BYTES_MAX + 1);
    if (bytes == NULL) {
        fclose(in);
        return RAFT_NOMEM;
    }
    n = fread(bytes, 1, MANIFEST_BYTES_MAX + 1, in);
    rv = ferror(in) ? RAFT_IOERR : manifest_decode(bytes, n, ret_manifest);
    fclose(in);
    free(bytes);
    return rv;
}
