/* The segments' rows: which cold segments there are, and how much of each is alive. Part of the one
 * write transaction; mover thread only.
 *
 * What items say of live records is gathered for the few segments that are met, and put into their
 * rows with the commit, or when a row is asked for: a batch of a thousand items costs a look-up of
 * a row, not a thousand. */
#include "warm_private.h"

#include <string.h>

static int segment_row_get(struct warm_write *write, uint64_t id, struct warm_segment_row *ret_row)
{
    unsigned char key_bytes[WARM_SEGMENT_KEY_BYTES];
    warm_segment_key(id, key_bytes);
    MDB_val key = warm_val(key_bytes, sizeof key_bytes);
    MDB_val data;
    int rc = mdb_get(write->txn, write->warm->segments, &key, &data);
    return rc != 0 ? warm_error(rc) : warm_segment_row_decode(&key, &data, ret_row);
}

static int segment_row_put(struct warm_write *write, uint64_t id,
                           const struct warm_segment_row *row)
{
    unsigned char key_bytes[WARM_SEGMENT_KEY_BYTES];
    unsigned char row_bytes[WARM_SEGMENT_ROW_BYTES];
    warm_segment_key(id, key_bytes);
    warm_segment_row_encode(row, key_bytes, row_bytes);
    MDB_val key = warm_val(key_bytes, sizeof key_bytes);
    MDB_val data = warm_val(row_bytes, sizeof row_bytes);
    return warm_write_error(write, mdb_put(write->txn, write->warm->segments, &key, &data, 0));
}

/* Adds a change to the row, which it may have to make. */
static int change_put(struct warm_write *write, const struct warm_segment_change *change)
{
    struct warm_segment_row row = {0};
    int error = segment_row_get(write, change->id, &row);
    if (error && error != TIERS_NOT_FOUND) {
        return error;
    }
    /* Differences of what is far below 2^63. */
    int64_t bytes = (int64_t)row.live_bytes + change->bytes;
    int64_t records = (int64_t)row.live_records + change->records;
    if (bytes < 0 || records < 0) {
        return TIERS_CORRUPT;
    }
    row.live_bytes = (uint64_t)bytes;
    row.live_records = (uint64_t)records;
    return segment_row_put(write, change->id, &row);
}

static bool change_is_none(const struct warm_segment_change *change)
{
    return change->bytes == 0 && change->records == 0;
}

int warm_segment_changes_put(struct warm_write *write)
{
    int error = 0;
    while (write->n_changes > 0 && error == 0) {
        const struct warm_segment_change *change = &write->changes[--write->n_changes];
        error = change_is_none(change) ? 0 : change_put(write, change);
    }
    return error;
}

/* The segment's gathered change, first of all now; the one that was used longest ago makes room. */
static int change_find(struct warm_write *write, uint64_t id,
                       struct warm_segment_change **ret_change)
{
    struct warm_segment_change found = {.id = id};
    size_t i = 0;
    while (i < write->n_changes && write->changes[i].id != id) {
        i++;
    }
    if (i < write->n_changes) {
        found = write->changes[i];
    } else if (i == WARM_SEGMENT_CHANGES_MAX) {
        int error = change_put(write, &write->changes[--i]);
        if (error) {
            return error;
        }
    } else {
        write->n_changes++;
    }
    memmove(write->changes + 1, write->changes, i * sizeof write->changes[0]);
    write->changes[0] = found;
    *ret_change = &write->changes[0];
    return 0;
}

int warm_segment_live_add(struct warm_write *write, const struct cold_location *location)
{
    struct warm_segment_change *change = NULL;
    int error = change_find(write, location->segment, &change);
    if (error == 0) {
        change->bytes += location->bytes;
        change->records++;
        write->usage.cold_live_bytes += location->bytes;
        write->usage.cold_keys++;
    }
    return error;
}

int warm_segment_live_remove(struct warm_write *write, const struct cold_location *location)
{
    struct warm_segment_change *change = NULL;
    int error = change_find(write, location->segment, &change);
    if (error == 0) {
        change->bytes -= location->bytes;
        change->records--;
        write->usage.cold_live_bytes -= location->bytes;
        write->usage.cold_keys--;
    }
    return error;
}

/* The row as all changes so far make it. */
static int segment_row_current(struct warm_write *write, uint64_t id,
                               struct warm_segment_row *ret_row)
{
    int error = warm_segment_changes_put(write);
    return error ? error : segment_row_get(write, id, ret_row);
}

int warm_segment_get(struct warm_write *write, uint64_t id, struct warm_segment *ret_segment)
{
    struct warm_segment_row row = {0};
    int error = segment_row_current(write, id, &row);
    if (error == 0) {
        *ret_segment =
            (struct warm_segment){.id = id, .bytes = row.bytes, .live_bytes = row.live_bytes};
    }
    return error;
}

int warm_segment_put(struct warm_write *write, uint64_t id, uint64_t bytes)
{
    struct warm_segment_row row = {0};
    int error = segment_row_current(write, id, &row);
    if (error && error != TIERS_NOT_FOUND) {
        return error;
    }
    row.bytes = bytes;
    error = segment_row_put(write, id, &row);
    if (error || id < write->next_segment) {
        return error;
    }
    unsigned char next_bytes[WARM_NEXT_SEGMENT_ROW_BYTES];
    warm_next_segment_encode(id + 1, next_bytes);
    MDB_val key = warm_val(WARM_META_NEXT_SEGMENT, strlen(WARM_META_NEXT_SEGMENT));
    MDB_val data = warm_val(next_bytes, sizeof next_bytes);
    error = warm_write_error(write, mdb_put(write->txn, write->warm->meta, &key, &data, 0));
    if (error == 0) {
        write->next_segment = id + 1;
    }
    return error;
}

int warm_segment_delete(struct warm_write *write, uint64_t id)
{
    struct warm_segment_row row = {0};
    int error = segment_row_current(write, id, &row);
    if (error) {
        return error;
    }
    if (row.live_records != 0) {
        return TIERS_CORRUPT;
    }
    unsigned char key_bytes[WARM_SEGMENT_KEY_BYTES];
    warm_segment_key(id, key_bytes);
    MDB_val key = warm_val(key_bytes, sizeof key_bytes);
    return warm_write_error(write, mdb_del(write->txn, write->warm->segments, &key, NULL));
}
