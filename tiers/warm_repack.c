/* Bringing the items of a range of keys closer together, and changing some of them on the way.
 * Mover thread, within its write transaction.
 *
 * LMDB joins pages only when it deletes. So the small items of the range are taken out in key
 * order, and put back in key order: each page is full before the next one begins. To change an item
 * there costs nothing more, while to look it up and put it by itself goes down the tree three
 * times.
 *
 * What LMDB does with a page that runs empty depends on its neighbour: if that is nearly empty too
 * the two are joined, which is cheap when there is nothing left to copy; from any other it fetches
 * an item, which then is to be taken out once more. So every now and then an item stays behind, as
 * an anchor that the pages after it run empty beside. The anchors are taken out last.
 */
#include "warm_item.h"
#include "warm_layout.h"
#include "warm_parcel.h"
#include "warm_private.h"

#include <string.h>

/* An anchor for so much of leaf pages: some of the hundred or so that one page of the level above
 * has. */
#define ANCHOR_EVERY_BYTES 32768

struct taking {
    struct warm_write *write;
    warm_repack_change change;
    void *context;
    size_t leaf_bytes_max;
    struct warm_parcel parcel;
    struct warm_parcel anchors; /* Keys without data */
    size_t anchored;            /* Bytes since the last anchor, it included; 0: there is none yet */
};

/* What a changed item said of its segment, and says now. */
static int item_live_move(struct taking *taking, const MDB_val *key, const MDB_val *data,
                          const struct warm_item *changed)
{
    struct warm_item item;
    int error = 0;
    if (warm_item_may_be_cold(data)) {
        error = warm_item_decode(key, data, &item);
        if (error == 0) {
            error = warm_segment_live_remove(taking->write, &item.location);
        }
    }
    return error == 0 && changed->cold ? warm_segment_live_add(taking->write, &changed->location)
                                       : error;
}

/* Puts the item under the cursor into the parcel, as it is or changed. *ret_taken: whether. */
static int item_take(struct taking *taking, const MDB_val *key, const MDB_val *data,
                     bool *ret_taken)
{
    struct warm_item changed;
    struct warm_stored stored = {.key = key->mv_data,
                                 .key_len = key->mv_size,
                                 .bytes = data->mv_data,
                                 .n_bytes = data->mv_size};
    if (taking->change != NULL && taking->change(taking->context, &stored, &changed)) {
        unsigned char *out = warm_parcel_add(&taking->parcel, key, warm_item_size(&changed));
        if (out == NULL) {
            return TIERS_NO_MEMORY;
        }
        warm_item_encode(&changed, key, out);
        *ret_taken = true;
        return item_live_move(taking, key, data, &changed);
    }
    *ret_taken = data->mv_size <= taking->leaf_bytes_max;
    if (*ret_taken) {
        unsigned char *out = warm_parcel_add(&taking->parcel, key, data->mv_size);
        if (out == NULL) {
            return TIERS_NO_MEMORY;
        }
        memcpy(out, data->mv_data, data->mv_size);
    }
    return 0;
}

/* The item under the cursor, of `bytes`, was put into the parcel at `at`. Takes it out of the tree,
 * or leaves it behind as an anchor, in what size it is going to have if that is less. */
static int item_remove(struct taking *taking, MDB_cursor *cursor, size_t at, size_t bytes)
{
    MDB_val key;
    MDB_val data;
    bool anchor = taking->anchored == 0 || taking->anchored >= ANCHOR_EVERY_BYTES;
    bool elsewhere = bytes > 2 * taking->leaf_bytes_max;
    taking->anchored = WARM_LEAF_ENTRY_BYTES + (elsewhere ? WARM_PAGE_NUMBER_BYTES : bytes) +
                       (anchor ? 0 : taking->anchored);
    if (!anchor) {
        return warm_write_error(taking->write, mdb_cursor_del(cursor, 0));
    }
    (void)warm_parcel_item(&taking->parcel, at, &key, &data);
    if (warm_parcel_add(&taking->anchors, &key, 0) == NULL) {
        return TIERS_NO_MEMORY;
    }
    if (data.mv_size >= bytes) {
        return 0;
    }
    return warm_write_error(taking->write, mdb_cursor_put(cursor, &key, &data, MDB_CURRENT));
}

/* Takes the items of [first, last] that lie in leaf pages, and those that change; other values on
 * pages of their own stay. */
static int parcel_take(struct taking *taking, MDB_cursor *cursor, MDB_val first, MDB_val last)
{
    MDB_txn *txn = taking->write->txn;
    MDB_dbi dbi = mdb_cursor_dbi(cursor);
    MDB_val key = first;
    MDB_val data;
    int error = 0;
    int rc = mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE);
    while (rc == 0 && mdb_cmp(txn, dbi, &key, &last) <= 0) {
        bool taken = false;
        size_t at = taking->parcel.used;
        error = item_take(taking, &key, &data, &taken);
        if (error == 0 && taken) {
            error = item_remove(taking, cursor, at, data.mv_size);
        }
        if (error) {
            return error;
        }
        rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT);
    }
    return rc == MDB_NOTFOUND ? 0 : warm_write_error(taking->write, rc);
}

static int anchors_take(struct taking *taking, MDB_cursor *cursor)
{
    int rc = 0;
    for (size_t at = 0; at < taking->anchors.used && rc == 0;) {
        MDB_val key;
        MDB_val data;
        at = warm_parcel_item(&taking->anchors, at, &key, &data);
        rc = mdb_cursor_get(cursor, &key, &data, MDB_SET);
        if (rc == 0) {
            rc = mdb_cursor_del(cursor, 0);
        }
    }
    return warm_write_error(taking->write, rc);
}

size_t warm_leaf_bytes(const struct warm *warm, size_t key_len, const struct warm_item *item)
{
    size_t bytes = WARM_LEAF_ENTRY_BYTES + key_len + warm_item_size(item);
    /* An entry takes half a page at most. */
    return bytes <= warm->page_bytes / 2 ? bytes
                                         : WARM_LEAF_ENTRY_BYTES + key_len + WARM_PAGE_NUMBER_BYTES;
}

uint64_t warm_item_bytes(const struct warm *warm, size_t key_len, const struct warm_item *item)
{
    size_t in_leaf = warm_leaf_bytes(warm, key_len, item);
    uint64_t share = warm->page_bytes / ((warm->page_bytes - PAGE_HEADER_BYTES) / in_leaf);
    if (item->cold || item->value_len < in_leaf) {
        return share;
    }
    uint64_t n = PAGE_HEADER_BYTES + warm_item_size(item) + warm->page_bytes - 1;
    return share + n / warm->page_bytes * warm->page_bytes;
}

int warm_repack(struct warm_write *write, enum tiers_space space, const void *first,
                size_t first_len, const void *last, size_t last_len, warm_repack_change change,
                void *context)
{
    MDB_cursor *cursor = NULL;
    struct taking taking = {.write = write,
                            .change = change,
                            .context = context,
                            .leaf_bytes_max = write->warm->page_bytes / 4};
    int error = warm_write_cursor(write, space, &cursor);
    if (error) {
        return error;
    }
    MDB_val last_key = warm_val(last, last_len);
    error = parcel_take(&taking, cursor, warm_val(first, first_len), last_key);
    if (error == 0) {
        error = anchors_take(&taking, cursor);
    }
    if (error == 0) {
        error = warm_parcel_put(write, cursor, &taking.parcel, &last_key);
    }
    warm_parcel_free(&taking.parcel);
    warm_parcel_free(&taking.anchors);
    return error;
}
