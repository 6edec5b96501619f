/* The dictionaries that are loaded: see cold_dictionaries.h. */
#include "cold_dictionaries.h"

#include "cold_header.h"
#include "file.h"
#include "uring.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

void cold_dictionaries_open(struct cold_dictionaries *set)
{
    *set = (struct cold_dictionaries){0};
    pthread_mutex_init(&set->lock, NULL);
}

void cold_dictionaries_close(struct cold_dictionaries *set)
{
    for (size_t i = 0; i < set->n; i++)
        cold_dictionary_release(set->items[i]);
    pthread_mutex_destroy(&set->lock);
}

/* Under the lock: moves item `i` to the front. */
static void bring_forward(struct cold_dictionaries *set, size_t i)
{
    struct cold_dictionary *item = set->items[i];
    memmove(set->items + 1, set->items, i * sizeof(struct cold_dictionary *));
    set->items[0] = item;
}

void cold_dictionaries_put(struct cold_dictionaries *set, struct cold_dictionary *dictionary)
{
    struct cold_dictionary *unused = NULL;
    cold_dictionary_retain(dictionary);
    pthread_mutex_lock(&set->lock);
    if (set->n == COLD_DICTIONARIES_KEPT)
        unused = set->items[--set->n];
    set->items[set->n++] = dictionary;
    bring_forward(set, set->n - 1);
    pthread_mutex_unlock(&set->lock);
    cold_dictionary_release(unused);
}

static struct cold_dictionary *find(struct cold_dictionaries *set, uint32_t id)
{
    struct cold_dictionary *found = NULL;
    pthread_mutex_lock(&set->lock);
    for (size_t i = 0; i < set->n && found == NULL; i++) {
        if (set->items[i]->id != id)
            continue;
        found = set->items[i];
        cold_dictionary_retain(found);
        bring_forward(set, i);
    }
    pthread_mutex_unlock(&set->lock);
    return found;
}

/* Whole blocks into an aligned buffer, as direct I/O wants it. */
static int blocks_read(struct cold_files *files, const struct cold_file *file, unsigned char *bytes,
                       size_t n_bytes, uint64_t offset)
{
    ssize_t n = file_read(file->fd, bytes, n_bytes, offset);
    if (n < 0 && errno == EINVAL) {
        cold_files_refuse_direct(files, file->fd);
        n = file_read(file->fd, bytes, n_bytes, offset);
    }
    if (n < 0)
        return uring_status(errno);
    return (size_t)n == n_bytes ? 0 : TIERS_CORRUPT;
}

/* Reads the dictionary behind the header, if it is the one that is wanted. */
static int load(struct cold_dictionaries *set, struct cold_files *files,
                const struct cold_file *file, uint32_t id, unsigned char *bytes,
                struct cold_dictionary **ret_dictionary)
{
    struct cold_header header;
    int status = blocks_read(files, file, bytes, COLD_BLOCK_BYTES, 0);
    if (status == 0)
        status = cold_header_read(file->id, bytes, &header);
    if (status != 0)
        return status;
    if (header.dictionary_bytes == 0)
        return TIERS_NOT_FOUND;
    uint32_t there = cold_dictionary_id(header.dictionary_checksum);
    if (id != 0 && id != there)
        return TIERS_CORRUPT;
    struct cold_dictionary *dictionary = find(set, there);
    if (dictionary == NULL) {
        status = blocks_read(files, file, bytes, (size_t)cold_align_up(header.dictionary_bytes),
                             COLD_BLOCK_BYTES);
        if (status == 0 &&
            XXH3_64bits(bytes, header.dictionary_bytes) != header.dictionary_checksum)
            status = TIERS_CORRUPT;
        if (status == 0)
            status = cold_dictionary_new(bytes, header.dictionary_bytes, &dictionary);
        if (status != 0)
            return status;
        cold_dictionaries_put(set, dictionary);
    }
    *ret_dictionary = dictionary;
    return 0;
}

int cold_dictionaries_get(struct cold_dictionaries *set, struct cold_files *files,
                          const struct cold_file *file, uint32_t id,
                          struct cold_dictionary **ret_dictionary)
{
    struct cold_dictionary *dictionary = id != 0 ? find(set, id) : NULL;
    if (dictionary != NULL) {
        *ret_dictionary = dictionary;
        return 0;
    }
    size_t n_bytes = (size_t)cold_align_up(COLD_DICTIONARY_BYTES_MAX);
    unsigned char *bytes = aligned_alloc(COLD_BLOCK_BYTES, n_bytes);
    if (bytes == NULL)
        return TIERS_NO_MEMORY;
    int status = load(set, files, file, id, bytes, ret_dictionary);
    free(bytes);
    return status;
}
