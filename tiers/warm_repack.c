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
#include "warm_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* LMDB's own, of one entry of a leaf page; of these, what does not lie with the node. */
#define LEAF_ENTRY_BYTES   10
#define LEAF_POINTER_BYTES 2
/* An anchor for so much of leaf pages: some of the hundred or so that one page of the level above
 * has. */
#define ANCHOR_EVERY_BYTES 32768
/* In its place when the data lies on pages of its own. */
#define PAGE_NUMBER_BYTES 8

/* Items taken out of the tree, back to back: u32 data bytes, u16 key bytes, key, data. */
struct parcel {
    unsigned char *bytes;
    size_t used;
    size_t size;
};

/* Adds the key. Where the data goes, or NULL: out of memory. */
static unsigned char *parcel_add(struct parcel *parcel, const MDB_val *key, size_t data_bytes)
{
    uint32_t data_len = (uint32_t)data_bytes;
    uint16_t key_len = (uint16_t)key->mv_size;
    size_t need = parcel->used + sizeof data_len + sizeof key_len + key_len + data_len;
    if (need > parcel->size) {
        size_t size = need * 2 > 65536 ? need * 2 : 65536;
        unsigned char *bytes = realloc(parcel->bytes, size);
        if (bytes == NULL) {
            return NULL;
        }
        parcel->bytes = bytes;
        parcel->size = size;
    }
    assert(parcel->bytes != NULL);
    unsigned char *out = parcel->bytes + parcel->used;
    memcpy(out, &data_len, sizeof data_len);
    memcpy(out + sizeof data_len, &key_len, sizeof key_len);
    memcpy(out + sizeof data_len + sizeof key_len, key->mv_data, key_len);
    parcel->used = need;
    return out + sizeof data_len + sizeof key_len + key_len;
}

/* The item at `at`, which lies there as long as nothing is added. Returns where the next one is. */
static size_t parcel_item(const struct parcel *parcel, size_t at, MDB_val *ret_key,
                          MDB_val *ret_data)
{
    uint32_t data_len;
    uint16_t key_len;
    memcpy(&data_len, parcel->bytes + at, sizeof data_len);
    memcpy(&key_len, parcel->bytes + at + sizeof data_len, sizeof key_len);
    at += sizeof data_len + sizeof key_len;
    *ret_key = warm_val(parcel->bytes + at, key_len);
    *ret_data = warm_val(parcel->bytes + at + key_len, data_len);
    return at + key_len + data_len;
}

/* ---- Putting back ---- */

/* What an item takes of a leaf page. LMDB keeps nodes at even places. */
static size_t entry_bytes(const MDB_val *key, const MDB_val *data)
{
    return (LEAF_ENTRY_BYTES + key->mv_size + data->mv_size + 1) / 2 * 2;
}

struct putting {
    MDB_cursor *cursor;
    const struct parcel *parcel;
    const char *last; /* What was put last: its key in the page; NULL: nothing yet */
};

/* *ret_apart: the item does not lie right before the one that was put last, as the next one in the
 * same page would. */
static int item_put(struct putting *putting, MDB_val *key, const MDB_val *data, bool *ret_apart)
{
    MDB_val room = {.mv_size = data->mv_size};
    int rc = mdb_cursor_put(putting->cursor, key, &room, MDB_NOOVERWRITE | MDB_RESERVE);
    if (rc == 0) {
        memcpy(room.mv_data, data->mv_data, data->mv_size);
        const char *place = (const char *)room.mv_data - key->mv_size;
        size_t node_bytes = entry_bytes(key, data) - LEAF_POINTER_BYTES;
        *ret_apart = putting->last != NULL && place + node_bytes != putting->last;
        putting->last = place;
    }
    return rc;
}

/* Puts the items that go into the page where the last one went and of which `used_bytes` are used,
 * beginning with the one at `*at`, which then is the first one after them. The last of them goes
 * first: LMDB finds the place of a key that is between others of the cursor's page without going
 * down the tree, while to append one it does. */
static int page_fill(struct putting *putting, size_t page_bytes, size_t used_bytes, size_t *at)
{
    const struct parcel *parcel = putting->parcel;
    MDB_val key;
    MDB_val data;
    size_t last = *at;
    size_t end = *at;
    for (size_t next = *at; next < parcel->used;) {
        size_t from = next;
        next = parcel_item(parcel, from, &key, &data);
        used_bytes += entry_bytes(&key, &data);
        if (used_bytes > page_bytes - PAGE_HEADER_BYTES) {
            break;
        }
        last = from;
        end = next;
    }
    bool apart = false;
    int rc = 0;
    if (last != *at) {
        (void)parcel_item(parcel, last, &key, &data);
        rc = item_put(putting, &key, &data, &apart);
        for (size_t next = *at; next < last && rc == 0;) {
            next = parcel_item(parcel, next, &key, &data);
            rc = item_put(putting, &key, &data, &apart);
        }
        *at = end;
    }
    return rc;
}

/* In key order. When LMDB has begun a new page, it holds the item and perhaps the one before. */
static int parcel_put(struct warm_write *write, MDB_cursor *cursor, const struct parcel *parcel)
{
    struct putting putting = {.cursor = cursor, .parcel = parcel};
    size_t bytes_before = 0;
    int rc = 0;
    for (size_t at = 0; at < parcel->used && rc == 0;) {
        MDB_val key;
        MDB_val data;
        bool apart = false;
        at = parcel_item(parcel, at, &key, &data);
        rc = item_put(&putting, &key, &data, &apart);
        size_t bytes = entry_bytes(&key, &data);
        if (rc == 0 && apart) {
            rc = page_fill(&putting, write->warm->page_bytes, bytes_before + bytes, &at);
        }
        bytes_before = bytes;
    }
    return warm_write_error(write, rc);
}

/* ---- Taking out ---- */

struct taking {
    struct warm_write *write;
    warm_repack_change change;
    void *context;
    size_t leaf_bytes_max;
    struct parcel parcel;
    struct parcel anchors; /* Keys without data */
    size_t anchored;       /* Bytes since the last anchor, it included; 0: there is none yet */
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
        unsigned char *out = parcel_add(&taking->parcel, key, warm_item_size(&changed));
        if (out == NULL) {
            return TIERS_NO_MEMORY;
        }
        warm_item_encode(&changed, key, out);
        *ret_taken = true;
        return item_live_move(taking, key, data, &changed);
    }
    *ret_taken = data->mv_size <= taking->leaf_bytes_max;
    if (*ret_taken) {
        unsigned char *out = parcel_add(&taking->parcel, key, data->mv_size);
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
    taking->anchored = LEAF_ENTRY_BYTES + (elsewhere ? PAGE_NUMBER_BYTES : bytes) +
                       (anchor ? 0 : taking->anchored);
    if (!anchor) {
        return warm_write_error(taking->write, mdb_cursor_del(cursor, 0));
    }
    (void)parcel_item(&taking->parcel, at, &key, &data);
    if (parcel_add(&taking->anchors, &key, 0) == NULL) {
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
        at = parcel_item(&taking->anchors, at, &key, &data);
        rc = mdb_cursor_get(cursor, &key, &data, MDB_SET);
        if (rc == 0) {
            rc = mdb_cursor_del(cursor, 0);
        }
    }
    return warm_write_error(taking->write, rc);
}

size_t warm_leaf_bytes(const struct warm *warm, size_t key_len, const struct warm_item *item)
{
    size_t bytes = LEAF_ENTRY_BYTES + key_len + warm_item_size(item);
    /* An entry takes half a page at most. */
    return bytes <= warm->page_bytes / 2 ? bytes : LEAF_ENTRY_BYTES + key_len + PAGE_NUMBER_BYTES;
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
    error = parcel_take(&taking, cursor, warm_val(first, first_len), warm_val(last, last_len));
    if (error == 0) {
        error = anchors_take(&taking, cursor);
    }
    if (error == 0) {
        error = parcel_put(write, cursor, &taking.parcel);
    }
    free(taking.parcel.bytes);
    free(taking.anchors.bytes);
    return error;
}
