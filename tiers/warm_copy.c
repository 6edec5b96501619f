/* Copying the rows of the warm tier: see warm_copy.h.
 *
 * A copy keeps one read transaction, and so its snapshot, from open to close. Filling appends,
 * since rows come in order (MDB_APPEND), in transactions of bounded size that are synced once, at
 * the end: nobody opens what is not complete. */
#include "warm_copy.h"

#include "file.h"
#include "warm_item.h"
#include "warm_private.h"

#include <stdlib.h>
#include <string.h>

/* LMDB keeps a transaction's pages in memory. */
#define TRANSACTION_BYTES_MAX (8u << 20)

struct warm_copy {
    struct warm *warm;
    MDB_txn *txn;
    MDB_cursor *cursor; /* NULL: no table yet */
    struct tiers_position position;
};

static MDB_dbi database_of(const struct warm *warm, enum warm_copy_table table)
{
    return table == WARM_COPY_SEGMENTS ? warm->segments : warm->spaces[table];
}

static int position_load(struct warm_copy *copy)
{
    MDB_val key = warm_val(WARM_META_POSITION, strlen(WARM_META_POSITION));
    MDB_val found;
    int rc = mdb_get(copy->txn, copy->warm->meta, &key, &found);
    if (rc == MDB_NOTFOUND) {
        return 0; /* Nothing was ever flushed */
    }
    if (rc != 0) {
        return warm_error(rc);
    }
    return warm_position_decode(&found, &copy->position);
}

int warm_copy_open(struct warm *warm, struct warm_copy **ret_copy)
{
    struct warm_copy *copy = calloc(1, sizeof *copy);
    if (copy == NULL) {
        return TIERS_NO_MEMORY;
    }
    copy->warm = warm;
    int error = warm_error(mdb_txn_begin(warm->env, NULL, MDB_RDONLY, &copy->txn));
    if (error == 0) {
        error = position_load(copy);
    }
    if (error) {
        warm_copy_close(copy);
        return error;
    }
    *ret_copy = copy;
    return 0;
}

void warm_copy_close(struct warm_copy *copy)
{
    if (copy->cursor != NULL) {
        mdb_cursor_close(copy->cursor);
    }
    if (copy->txn != NULL) {
        mdb_txn_abort(copy->txn);
    }
    free(copy);
}

void warm_copy_position(const struct warm_copy *copy, struct tiers_position *ret_position)
{
    *ret_position = copy->position;
}

int warm_copy_table(struct warm_copy *copy, enum warm_copy_table table)
{
    if (copy->cursor != NULL) {
        mdb_cursor_close(copy->cursor);
    }
    copy->cursor = NULL;
    return warm_error(mdb_cursor_open(copy->txn, database_of(copy->warm, table), &copy->cursor));
}

int warm_copy_next(struct warm_copy *copy, const void **ret_key, size_t *ret_key_len,
                   const void **ret_row, size_t *ret_row_len)
{
    MDB_val key;
    MDB_val data;
    int rc = mdb_cursor_get(copy->cursor, &key, &data, MDB_NEXT);
    if (rc != 0) {
        return warm_error(rc);
    }
    *ret_key = key.mv_data;
    *ret_key_len = key.mv_size;
    *ret_row = data.mv_data;
    *ret_row_len = data.mv_size;
    return 0;
}

bool warm_copy_segment(const void *key, size_t key_len, const void *row, size_t row_len,
                       struct warm_segment *ret_segment)
{
    MDB_val key_val = warm_val(key, key_len);
    MDB_val row_val = warm_val(row, row_len);
    struct warm_segment_row decoded;
    if (warm_segment_row_decode(&key_val, &row_val, &decoded) != 0) {
        return false;
    }
    *ret_segment = (struct warm_segment){
        .id = warm_segment_id(&key_val), .bytes = decoded.bytes, .live_bytes = decoded.live_bytes};
    return true;
}

/* ---- Filling ---- */

struct warm_fill {
    struct warm *warm;
    MDB_txn *txn; /* NULL between transactions */
    size_t bytes; /* In the transaction */
    uint64_t digests;
    uint64_t segment_last;
};

int warm_fill_open(const char *directory, struct warm_fill **ret_fill, char *error_text,
                   size_t error_text_size)
{
    struct warm_fill *fill = calloc(1, sizeof *fill);
    if (fill == NULL) {
        return TIERS_NO_MEMORY;
    }
    int error = warm_open(directory, 0, 0, &fill->warm, error_text, error_text_size);
    if (error == 0) {
        error = warm_error(mdb_env_set_flags(fill->warm->env, MDB_NOSYNC, 1));
    }
    if (error) {
        warm_fill_close(fill);
        return error;
    }
    *ret_fill = fill;
    return 0;
}

void warm_fill_close(struct warm_fill *fill)
{
    if (fill->txn != NULL) {
        mdb_txn_abort(fill->txn);
    }
    if (fill->warm != NULL) {
        warm_close(fill->warm);
    }
    free(fill);
}

static int commit(struct warm_fill *fill)
{
    MDB_txn *txn = fill->txn;
    fill->txn = NULL;
    fill->bytes = 0;
    int error = txn != NULL ? warm_error(mdb_txn_commit(txn)) : 0;
    mdb_filehandle_t fd;
    if (error == 0 && mdb_env_get_fd(fill->warm->env, &fd) == MDB_SUCCESS) {
        file_write_back(fd);
    }
    return error;
}

/* Checks a row for what the engine takes for granted when it opens. */
static int row_check(struct warm_fill *fill, enum warm_copy_table table, const void *key,
                     size_t key_len, const void *row, size_t row_len)
{
    struct warm_segment segment;
    struct warm_item item;
    if (table == WARM_COPY_SEGMENTS) {
        if (!warm_copy_segment(key, key_len, row, row_len, &segment)) {
            return TIERS_CORRUPT;
        }
        fill->segment_last = segment.id;
        return 0;
    }
    MDB_val key_val = warm_val(key, key_len);
    MDB_val row_val = warm_val(row, row_len);
    if (key_len == 0 || key_len > TIERS_KEY_BYTES_MAX ||
        warm_item_decode(&key_val, &row_val, &item) != 0) {
        return TIERS_CORRUPT;
    }
    fill->digests += item.digest;
    return 0;
}

int warm_fill_row(struct warm_fill *fill, enum warm_copy_table table, const void *key,
                  size_t key_len, const void *row, size_t row_len)
{
    int error = row_check(fill, table, key, key_len, row, row_len);
    if (error == 0 && fill->txn != NULL && fill->bytes >= TRANSACTION_BYTES_MAX) {
        error = commit(fill);
    }
    if (error == 0 && fill->txn == NULL) {
        error = warm_error(mdb_txn_begin(fill->warm->env, NULL, 0, &fill->txn));
    }
    if (error) {
        return error;
    }
    MDB_val key_val = warm_val(key, key_len);
    MDB_val row_val = warm_val(row, row_len);
    int rc = mdb_put(fill->txn, database_of(fill->warm, table), &key_val, &row_val, MDB_APPEND);
    fill->bytes += key_len + row_len;
    return rc == MDB_KEYEXIST ? TIERS_CORRUPT : warm_error(rc);
}

static int meta_put(struct warm_fill *fill, const char *name, const unsigned char *value, size_t n)
{
    MDB_val key = warm_val(name, strlen(name));
    MDB_val data = warm_val(value, n);
    return warm_error(mdb_put(fill->txn, fill->warm->meta, &key, &data, 0));
}

int warm_fill_end(struct warm_fill *fill, const struct tiers_position *position)
{
    unsigned char bytes[WARM_POSITION_ROW_BYTES];
    unsigned char next[WARM_NEXT_SEGMENT_ROW_BYTES];
    if (fill->digests != position->state_hash) {
        return TIERS_CORRUPT;
    }
    int error = 0;
    if (fill->txn == NULL) {
        error = warm_error(mdb_txn_begin(fill->warm->env, NULL, 0, &fill->txn));
    }
    warm_position_encode(position, bytes);
    warm_next_segment_encode(fill->segment_last + 1, next);
    if (error == 0) {
        error = meta_put(fill, WARM_META_POSITION, bytes, sizeof bytes);
    }
    if (error == 0) {
        error = meta_put(fill, WARM_META_NEXT_SEGMENT, next, sizeof next);
    }
    if (error == 0) {
        error = commit(fill);
    }
    return error ? error : warm_error(mdb_env_sync(fill->warm->env, 1));
}
