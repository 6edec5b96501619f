/* The one write transaction of the warm tier: its begin and end, its items and the position. Mover
 * thread only.
 *
 * Items, the live bytes of the segments they point to, and the position change together. What a
 * transaction changed in the figures (position, usage, next segment) is gathered beside it and
 * published under the warm's mutex once the commit is durable.
 *
 * After any failure the caller aborts; a failed commit has aborted already. */
#include "warm_private.h"

#include "file.h"
#include "warm_item.h"
#include "warm_scrub.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* A file system with less than this to give may not take a transaction. */
#define DISK_FREE_BYTES_MIN (64u << 20)

static bool disk_short(struct warm *warm)
{
    mdb_filehandle_t fd;
    struct statvfs disk;
    return mdb_env_get_fd(warm->env, &fd) == 0 && fstatvfs(fd, &disk) == 0 &&
           (uint64_t)disk.f_bavail * disk.f_frsize < DISK_FREE_BYTES_MIN;
}

/* Whether the file system refuses that much to a new file. A quota shows in no other way. */
static bool quota_short(struct warm *warm)
{
    const char *directory;
    char path[WARM_PATH_BYTES];
    if (mdb_env_get_path(warm->env, &directory) != 0 ||
        snprintf(path, sizeof path, "%s/probe", directory) >= (int)sizeof path) {
        return false;
    }
    int cause = 0;
    int fd = file_open(AT_FDCWD, path, O_WRONLY | O_CREAT, WARM_FILE_MODE);
    if (fd == -1 || file_allocate(fd, FALLOC_FL_KEEP_SIZE, 0, DISK_FREE_BYTES_MIN) != 0) {
        cause = errno;
    }
    if (fd != -1) {
        (void)close(fd);
        (void)file_unlink(AT_FDCWD, path);
    }
    return warm_error(cause) == TIERS_NO_SPACE;
}

int warm_write_error(const struct warm_write *write, int lmdb_error)
{
    if (lmdb_error == EIO &&
        (write->disk_short || disk_short(write->warm) || quota_short(write->warm))) {
        return TIERS_NO_SPACE;
    }
    return warm_error(lmdb_error);
}

int warm_write_begin(struct warm *warm, struct warm_write **ret_write)
{
    struct warm_write *write = calloc(1, sizeof *write);
    if (write == NULL) {
        return TIERS_NO_MEMORY;
    }
    int rc = mdb_txn_begin(warm->env, NULL, 0, &write->txn);
    if (rc != 0) {
        free(write);
        return warm_error(rc);
    }
    write->warm = warm;
    write->disk_short = disk_short(warm);
    pthread_mutex_lock(&warm->mutex);
    write->position = warm->position;
    write->usage = warm->usage;
    write->next_segment = warm->next_segment;
    pthread_mutex_unlock(&warm->mutex);
    *ret_write = write;
    return 0;
}

void warm_write_abort(struct warm_write *write)
{
    mdb_txn_abort(write->txn);
    free(write);
}

int warm_write_commit(struct warm_write *write)
{
    struct warm *warm = write->warm;
    int error = warm_segment_changes_put(write);
    if (error == 0) {
        error = warm_usage_measure(warm, write->txn, &write->usage);
    }
    if (error) {
        warm_write_abort(write);
        return error;
    }
    error = warm_write_error(write, mdb_txn_commit(write->txn));
    if (error == 0) {
        pthread_mutex_lock(&warm->mutex);
        warm->position = write->position;
        warm->usage = write->usage;
        warm->next_segment = write->next_segment;
        pthread_mutex_unlock(&warm->mutex);
        if (warm->scrub != NULL) {
            warm_scrub_adjust(warm->scrub, write->passed_digests);
        }
    }
    free(write);
    return error;
}

int warm_write_cursor(struct warm_write *write, enum tiers_space space, MDB_cursor **ret_cursor)
{
    MDB_cursor **cursor = &write->cursors[space];
    int rc = *cursor == NULL ? mdb_cursor_open(write->txn, write->warm->spaces[space], cursor) : 0;
    *ret_cursor = *cursor;
    return warm_error(rc);
}

size_t warm_write_keys_max(struct warm *warm)
{
    pthread_mutex_lock(&warm->mutex);
    size_t n = warm->usage.write_keys_max;
    pthread_mutex_unlock(&warm->mutex);
    return n;
}

uint64_t warm_page_bytes(const struct warm *warm)
{
    return warm->page_bytes;
}

/* ---- Items ---- */

int warm_write_get(struct warm_write *write, enum tiers_space space, const void *key,
                   size_t key_len, struct warm_item *ret_item)
{
    MDB_cursor *cursor = NULL;
    int error = warm_write_cursor(write, space, &cursor);
    if (error) {
        return error;
    }
    MDB_val lookup = warm_val(key, key_len);
    MDB_val data;
    int rc = mdb_cursor_get(cursor, &lookup, &data, MDB_SET);
    return rc != 0 ? warm_error(rc) : warm_item_decode(&lookup, &data, ret_item);
}

/* An item's digest has changed; 0 stands for an item that is not there. */
static void digest_follow(struct warm_write *write, enum tiers_space space, const void *key,
                          size_t key_len, uint64_t before, uint64_t after)
{
    const struct warm_scrub *scrub = write->warm->scrub;
    if (scrub != NULL && before != after && warm_scrub_passed(scrub, space, key, key_len)) {
        write->passed_digests += after - before;
    }
}

static int last_key_find(struct warm_write *write, enum tiers_space space, MDB_cursor *cursor)
{
    struct warm_last_key *last = &write->last[space];
    MDB_val key = {0};
    MDB_val data;
    int rc = last->known ? 0 : mdb_cursor_get(cursor, &key, &data, MDB_LAST);
    if (rc != 0 && rc != MDB_NOTFOUND) {
        return warm_error(rc);
    }
    if (!last->known && rc == 0) {
        if (key.mv_size > sizeof last->bytes) {
            return TIERS_CORRUPT;
        }
        memcpy(last->bytes, key.mv_data, key.mv_size);
        last->len = (uint16_t)key.mv_size;
    }
    last->known = true;
    return 0;
}

/* Makes room for a new item; MDB_KEYEXIST: there is one, in *data. What comes behind all others is
 * put so that LMDB fills each page before it begins the next: of values of a third of a page it
 * would leave two on each. */
static int room_make(struct warm_write *write, enum tiers_space space, MDB_cursor *cursor,
                     MDB_val *key, MDB_val *data)
{
    struct warm_last_key *last = &write->last[space];
    MDB_val last_key = warm_val(last->bytes, last->len);
    bool behind = last->len == 0 || mdb_cmp(write->txn, mdb_cursor_dbi(cursor), key, &last_key) > 0;
    int rc = behind ? mdb_cursor_put(cursor, key, data, MDB_APPEND | MDB_RESERVE) : MDB_KEYEXIST;
    if (rc == 0) {
        memcpy(last->bytes, key->mv_data, key->mv_size);
        last->len = (uint16_t)key->mv_size;
    } else if (rc == MDB_KEYEXIST) { /* It is not behind all others, then */
        rc = mdb_cursor_put(cursor, key, data, MDB_NOOVERWRITE | MDB_RESERVE);
    }
    return rc;
}

static int item_put(struct warm_write *write, enum tiers_space space, const void *key,
                    size_t key_len, const struct warm_item *item)
{
    MDB_cursor *cursor = NULL;
    int error = warm_write_cursor(write, space, &cursor);
    if (error == 0) {
        error = last_key_find(write, space, cursor);
    }
    if (error) {
        return error;
    }
    MDB_val lookup = warm_val(key, key_len);
    size_t size = warm_item_size(item);
    MDB_val data = {.mv_size = size};
    struct warm_item old = {0};
    int rc = room_make(write, space, cursor, &lookup, &data);
    if (rc == MDB_KEYEXIST) {
        error = warm_item_decode(&lookup, &data, &old);
        if (error) {
            return error;
        }
        data = (MDB_val){.mv_size = size};
        rc = mdb_cursor_put(cursor, &lookup, &data, MDB_RESERVE);
    }
    if (rc != 0) {
        return warm_write_error(write, rc);
    }
    warm_item_encode(item, &lookup, data.mv_data);
    digest_follow(write, space, key, key_len, old.digest, item->digest);
    error = old.cold ? warm_segment_live_remove(write, &old.location) : 0;
    if (error == 0 && item->cold) {
        error = warm_segment_live_add(write, &item->location);
    }
    return error;
}

int warm_put_inline(struct warm_write *write, enum tiers_space space, const void *key,
                    size_t key_len, const struct tiers_meta *meta, uint64_t digest,
                    const void *value, size_t value_len)
{
    if (value_len > TIERS_VALUE_BYTES_MAX) {
        return TIERS_INVALID;
    }
    struct warm_item item = {
        .meta = *meta, .digest = digest, .value = value, .value_len = (uint32_t)value_len};
    return item_put(write, space, key, key_len, &item);
}

int warm_put_cold(struct warm_write *write, enum tiers_space space, const void *key, size_t key_len,
                  const struct tiers_meta *meta, uint64_t digest, uint32_t value_len,
                  const struct cold_location *location)
{
    struct warm_item item = {.cold = true,
                             .meta = *meta,
                             .digest = digest,
                             .value_len = value_len,
                             .location = *location};
    return item_put(write, space, key, key_len, &item);
}

int warm_delete(struct warm_write *write, enum tiers_space space, const void *key, size_t key_len)
{
    struct warm_item old = {0};
    int error = warm_write_get(write, space, key, key_len, &old);
    if (error) {
        return error == TIERS_NOT_FOUND ? 0 : error;
    }
    /* The look-up left the cursor on it. */
    digest_follow(write, space, key, key_len, old.digest, 0);
    error = warm_write_error(write, mdb_cursor_del(write->cursors[space], 0));
    if (error == 0 && old.cold) {
        error = warm_segment_live_remove(write, &old.location);
    }
    return error;
}

int warm_set_position(struct warm_write *write, const struct tiers_position *position)
{
    unsigned char bytes[WARM_POSITION_ROW_BYTES];
    warm_position_encode(position, bytes);
    MDB_val key = warm_val(WARM_META_POSITION, strlen(WARM_META_POSITION));
    MDB_val data = warm_val(bytes, sizeof bytes);
    int error = warm_write_error(write, mdb_put(write->txn, write->warm->meta, &key, &data, 0));
    if (error == 0) {
        write->position = *position;
    }
    return error;
}
