/* See heat_file.h. Whatever is wrong with the file, it is removed: the next start has no use for
 * it. */
#include "heat_file.h"

#include "file.h"
#include "little_endian.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define PIECE_WORDS 4096
#define PATH_BYTES  4096

static bool header_fits(int fd, const struct heat *heat, XXH3_state_t *hash)
{
    unsigned char header[HEAT_FILE_HEADER_BYTES];
    if (file_read(fd, header, sizeof header, 0) != (ssize_t)sizeof header ||
        memcmp(header, HEAT_FILE_MAGIC, 8) != 0 ||
        little_endian_get(header + 8, 8) != heat_words(heat)) {
        return false;
    }
    return XXH3_64bits_update(hash, header, sizeof header) == XXH_OK;
}

/* Goes through the words; with `load` they are taken. */
static bool words_read(int fd, struct heat *heat, XXH3_state_t *hash, bool load)
{
    unsigned char bytes[PIECE_WORDS * 8];
    uint64_t words[PIECE_WORDS];
    size_t total = heat_words(heat);
    for (size_t first = 0; first < total; first += PIECE_WORDS) {
        size_t n = total - first < PIECE_WORDS ? total - first : PIECE_WORDS;
        uint64_t offset = HEAT_FILE_HEADER_BYTES + (uint64_t)first * 8;
        if (file_read(fd, bytes, n * 8, offset) != (ssize_t)(n * 8)) {
            return false;
        }
        if (hash != NULL && XXH3_64bits_update(hash, bytes, n * 8) != XXH_OK) {
            return false;
        }
        for (size_t i = 0; i < n; i++) {
            words[i] = little_endian_get(bytes + i * 8, 8);
        }
        if (load) {
            heat_load(heat, first, words, n);
        }
    }
    return true;
}

static bool intact(int fd, struct heat *heat)
{
    unsigned char sum[8];
    XXH3_state_t *hash = XXH3_createState();
    bool ok =
        hash != NULL && XXH3_64bits_reset(hash) == XXH_OK && header_fits(fd, heat, hash) &&
        words_read(fd, heat, hash, false) &&
        file_read(fd, sum, sizeof sum, HEAT_FILE_HEADER_BYTES + (uint64_t)heat_words(heat) * 8) ==
            (ssize_t)sizeof sum &&
        little_endian_get(sum, 8) == XXH3_64bits_digest(hash);
    XXH3_freeState(hash);
    return ok;
}

bool heat_file_take(const char *directory, struct heat *heat)
{
    char path[PATH_BYTES];
    if (snprintf(path, sizeof path, "%s/" HEAT_FILE_NAME, directory) >= (int)sizeof path) {
        return false;
    }
    int fd = file_open(AT_FDCWD, path, O_RDONLY, 0);
    if (fd < 0) {
        return false;
    }
    bool taken = intact(fd, heat) && words_read(fd, heat, NULL, true);
    close(fd);
    (void)file_unlink(AT_FDCWD, path);
    return taken;
}
