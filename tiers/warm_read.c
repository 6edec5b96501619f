/* Snapshots of the warm tier: look-ups, iteration, and the list of segments.
 *
 * A warm_read keeps its LMDB transaction and renews it, which costs no system call. With MDB_NOTLS
 * a transaction belongs to its warm_read, not to a thread; one thread uses it at a time. Whatever
 * an item points to is gone when the snapshot ends. */
#include "warm_layout.h"
#include "warm_private.h"

#include "prefetch.h"
#include "warm_item.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Leaves that warm_next asks of memory before they are needed. */
#define LEAVES_AHEAD 4

struct warm_read {
    struct warm *warm;
    MDB_txn *txn; /* NULL until the first begin */
    MDB_cursor *cursors[WARM_SPACES];
    bool cursor_fresh[WARM_SPACES]; /* Renewed in the current snapshot */
    const void *at[WARM_SPACES];    /* The key in the map that warm_next gave last; NULL: none */
    bool begun;
};

int warm_read_open(struct warm *warm, struct warm_read **ret_read)
{
    struct warm_read *read = calloc(1, sizeof *read);
    if (read == NULL) {
        return TIERS_NO_MEMORY;
    }
    read->warm = warm;
    *ret_read = read;
    return 0;
}

void warm_read_close(struct warm_read *read)
{
    for (size_t i = 0; i < WARM_SPACES; i++) {
        if (read->cursors[i] != NULL) {
            mdb_cursor_close(read->cursors[i]);
        }
    }
    if (read->txn != NULL) {
        mdb_txn_abort(read->txn);
    }
    free(read);
}

int warm_read_begin(struct warm_read *read)
{
    assert(!read->begun);
    int rc = read->txn == NULL ? mdb_txn_begin(read->warm->env, NULL, MDB_RDONLY, &read->txn)
                               : mdb_txn_renew(read->txn);
    if (rc != 0) {
        return warm_error(rc);
    }
    memset(read->cursor_fresh, 0, sizeof read->cursor_fresh);
    memset(read->at, 0, sizeof read->at);
    read->begun = true;
    return 0;
}

void warm_read_end(struct warm_read *read)
{
    assert(read->begun);
    mdb_txn_reset(read->txn);
    read->begun = false;
}

int warm_get(struct warm_read *read, enum tiers_space space, const void *key, size_t key_len,
             struct warm_item *ret_item)
{
    assert(read->begun);
    MDB_val lookup = warm_val(key, key_len);
    MDB_val data;
    int rc = mdb_get(read->txn, read->warm->spaces[space], &lookup, &data);
    return rc != 0 ? warm_error(rc) : warm_item_decode(&lookup, &data, ret_item);
}

void warm_value_prefetch(const struct warm_item *item)
{
    size_t page_bytes = (size_t)getpagesize();
    if (item->cold || item->value_len < page_bytes) {
        return;
    }
    uintptr_t value = (uintptr_t)item->value;
    uintptr_t first = value - value % page_bytes;
    /* Advice: copying reads what was not taken. */
    (void)madvise((void *)first, value - first + item->value_len, MADV_WILLNEED);
}

const struct warm *warm_read_warm(const struct warm_read *read)
{
    return read->warm;
}

bool warm_read_tree_row(struct warm_read *read, enum tiers_space space, MDB_val *ret_row)
{
    assert(read->begun);
    const char *name = space == TIERS_SPACE_USER ? WARM_USER_TREE : WARM_SYSTEM_TREE;
    MDB_val key = warm_val(name, strlen(name));
    return mdb_get(read->txn, read->warm->main, &key, ret_row) == 0;
}

/* A cursor that is not renewed in each snapshot would look at pages of an older one. */
static int cursor_prepare(struct warm_read *read, enum tiers_space space, MDB_cursor **ret_cursor)
{
    MDB_cursor **cursor = &read->cursors[space];
    int rc = 0;
    if (*cursor == NULL) {
        rc = mdb_cursor_open(read->txn, read->warm->spaces[space], cursor);
    } else if (!read->cursor_fresh[space]) {
        rc = mdb_cursor_renew(read->txn, *cursor);
    }
    if (rc != 0) {
        return warm_error(rc);
    }
    read->cursor_fresh[space] = true;
    *ret_cursor = *cursor;
    return 0;
}

int warm_get_near(struct warm_read *read, enum tiers_space space, const void *key, size_t key_len,
                  struct warm_item *ret_item)
{
    assert(read->begun);
    MDB_cursor *cursor = NULL;
    int error = cursor_prepare(read, space, &cursor);
    if (error) {
        return error;
    }
    MDB_val lookup = warm_val(key, key_len);
    MDB_val data;
    read->at[space] = NULL;
    int rc = mdb_cursor_get(cursor, &lookup, &data, MDB_SET);
    return rc != 0 ? warm_error(rc) : warm_item_decode(&lookup, &data, ret_item);
}

/* The number of the page in the map where the key is or would be. Behind the last key there is one
 * place, 0. */
static int place_find(struct warm_read *read, const struct tiers_record *record, uint64_t *ret_page)
{
    MDB_cursor *cursor = NULL;
    int error = cursor_prepare(read, (enum tiers_space)record->space, &cursor);
    if (error) {
        return error;
    }
    MDB_val key = warm_val(tiers_record_key(record), record->key_len);
    MDB_val data;
    read->at[record->space] = NULL;
    int rc = mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE);
    if (rc != 0 && rc != MDB_NOTFOUND) {
        return warm_error(rc);
    }
    *ret_page = rc == 0 ? (uintptr_t)key.mv_data / read->warm->page_bytes : 0;
    return 0;
}

bool warm_same_page(struct warm_read *read, const struct tiers_record *a,
                    const struct tiers_record *b)
{
    uint64_t a_page = 0;
    uint64_t b_page = 0;
    assert(read->begun);
    return a->space == b->space && place_find(read, a, &a_page) == 0 &&
           place_find(read, b, &b_page) == 0 && a_page == b_page;
}

/* A tree that was filled in key order has its leaves one behind the other, with nodes at much the
 * same places: the processor is asked for the counterpart, some pages on, of what was just read,
 * and for the head of the page after that. */
static void leaf_prefetch(const struct warm_read *read, const void *key)
{
    size_t page_bytes = read->warm->page_bytes;
    uintptr_t page = (uintptr_t)key & ~(uintptr_t)(page_bytes - 1);
    const char *counterpart = (const char *)key + LEAVES_AHEAD * page_bytes;
    prefetch_line(counterpart - PREFETCH_LINE_BYTES / 2);
    prefetch_line(counterpart + PREFETCH_LINE_BYTES / 2);
    prefetch_line((const void *)(page + (LEAVES_AHEAD + 1) * page_bytes));
}

int warm_next(struct warm_read *read, enum tiers_space space, const void *after, size_t after_len,
              const void **ret_key, size_t *ret_key_len, struct warm_item *ret_item)
{
    assert(read->begun);
    MDB_cursor *cursor = NULL;
    int error = cursor_prepare(read, space, &cursor);
    if (error) {
        return error;
    }
    MDB_val key = warm_val(after, after_len);
    MDB_val data;
    int rc;
    if (after == NULL) {
        rc = mdb_cursor_get(cursor, &key, &data, MDB_FIRST);
    } else if (after == read->at[space]) {
        leaf_prefetch(read, after);
        rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT);
    } else {
        rc = mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE);
        if (rc == 0 && key.mv_size == after_len && memcmp(key.mv_data, after, after_len) == 0) {
            rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT);
        }
    }
    read->at[space] = rc == 0 ? key.mv_data : NULL;
    if (rc != 0) {
        return warm_error(rc);
    }
    error = warm_item_decode(&key, &data, ret_item);
    if (error == 0) {
        *ret_key = key.mv_data;
        *ret_key_len = key.mv_size;
    }
    return error;
}

/* Appends the rows to an array of room for `n_max`; counts on beyond it. */
static int segments_collect(struct warm *warm, MDB_txn *txn, struct warm_segment *segments,
                            size_t n_max, size_t *ret_n)
{
    MDB_cursor *cursor = NULL;
    MDB_val key;
    MDB_val data;
    int rc = mdb_cursor_open(txn, warm->segments, &cursor);
    if (rc != 0) {
        return warm_error(rc);
    }
    size_t n = 0;
    int error = 0;
    while (n < n_max && (rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == 0) {
        struct warm_segment_row row;
        error = warm_segment_row_decode(&key, &data, &row);
        if (error) {
            break;
        }
        segments[n++] = (struct warm_segment){
            .id = warm_segment_id(&key), .bytes = row.bytes, .live_bytes = row.live_bytes};
    }
    mdb_cursor_close(cursor);
    if (error == 0 && rc != 0 && rc != MDB_NOTFOUND) {
        error = warm_error(rc);
    }
    *ret_n = n;
    return error;
}

int warm_segments(struct warm *warm, struct warm_segment **ret_segments, size_t *ret_n)
{
    MDB_txn *txn = NULL;
    MDB_stat stat;
    struct warm_segment *segments = NULL;
    size_t n = 0;
    int error = warm_error(mdb_txn_begin(warm->env, NULL, MDB_RDONLY, &txn));
    if (error) {
        return error;
    }
    error = warm_error(mdb_stat(txn, warm->segments, &stat));
    if (error == 0) {
        segments = malloc((stat.ms_entries + 1) * sizeof *segments);
        error = segments == NULL ? TIERS_NO_MEMORY
                                 : segments_collect(warm, txn, segments, stat.ms_entries, &n);
    }
    mdb_txn_abort(txn);
    if (error) {
        free(segments);
        return error;
    }
    *ret_segments = segments;
    *ret_n = n;
    return 0;
}
