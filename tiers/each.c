/* Visits every key of a space: for start-up and tools.
 *
 * Once all is flushed the warm index names every key, so that it is walked in key order; each value
 * is then read as any other, wherever it lies, by a reader that leaves no trace in the statistics.
 * No snapshot is held while a value is read. Runs on the caller's thread and blocks. */
#include "engine.h"

#include <assert.h>
#include <string.h>

/* Replaces `key` (of *key_len bytes; 0: none yet) by the one after it. */
static int key_after(struct warm_read *read, enum tiers_space space,
                     unsigned char key[TIERS_KEY_BYTES_MAX], size_t *key_len)
{
    const void *next = NULL;
    size_t next_len = 0;
    struct warm_item item;
    int error = warm_read_begin(read);
    if (error) {
        return error;
    }
    error = warm_next(read, space, *key_len > 0 ? key : NULL, *key_len, &next, &next_len, &item);
    if (error == 0) {
        assert(next_len <= TIERS_KEY_BYTES_MAX);
        memcpy(key, next, next_len);
        *key_len = next_len;
    }
    warm_read_end(read);
    return error;
}

/* The walk itself. What `each` returned to stop it goes to *ret_stopped. */
static int walk(struct warm_read *read, struct tiers_reader *reader, enum tiers_space space,
                int (*each)(void *context, const struct tiers_record *record), void *context,
                int *ret_stopped)
{
    unsigned char key[TIERS_KEY_BYTES_MAX];
    size_t key_len = 0;
    int error = 0;
    while (*ret_stopped == 0 && (error = key_after(read, space, key, &key_len)) == 0) {
        const struct tiers_record *record = NULL;
        error = tiers_reader_get_wait(reader, space, key, key_len, &record);
        if (error) {
            return error;
        }
        *ret_stopped = each(context, record);
        tiers_record_release(record);
    }
    return error == TIERS_NOT_FOUND ? 0 : error;
}

int tiers_each(struct tiers *tiers, enum tiers_space space,
               int (*each)(void *context, const struct tiers_record *record), void *context)
{
    struct tiers_reader *reader = NULL;
    struct warm_read *read = NULL;
    int stopped = 0;
    int error = tiers_flush(tiers);
    if (error == 0) {
        error = warm_read_open(tiers->warm, &read);
    }
    if (error == 0) {
        error = reader_open_quiet(tiers, &reader);
    }
    if (error == 0) {
        error = walk(read, reader, space, each, context, &stopped);
        tiers_reader_close(reader);
    }
    if (read != NULL) {
        warm_read_close(read);
    }
    return stopped != 0 ? stopped : error;
}
