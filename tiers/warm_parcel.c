/* Putting items back into the warm tier's tree: see warm_parcel.h.
 *
 * In key order LMDB fills a page before it begins the next, as long as each item is the last of its
 * page. Two things are in the way. To append an item it goes down the tree, which costs more than
 * all the rest: so the last one that a page has room for is put before those between, whose place
 * is then found in the page itself. And where the range ends in a page with items behind it, that
 * would be split in the middle again and again: these items are taken out for a while.
 *
 * Where items lie is told from their addresses. If it is told wrong pages are less full, no more.
 */
#include "warm_parcel.h"

#include "warm_layout.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Of an entry, what does not lie with its node. */
#define LEAF_POINTER_BYTES 2

/* Of items behind the range that are taken out for a while: one, and all of them. */
#define FOLLOWER_BYTES_MAX  16384
#define FOLLOWERS_BYTES_MAX (256u << 10)

void warm_parcel_free(struct warm_parcel *parcel)
{
    free(parcel->bytes);
}

unsigned char *warm_parcel_add(struct warm_parcel *parcel, const MDB_val *key, size_t data_bytes)
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

size_t warm_parcel_item(const struct warm_parcel *parcel, size_t at, MDB_val *ret_key,
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

/* What an entry takes of a leaf page: half of it at most. LMDB keeps nodes at even places. */
static size_t entry_bytes(size_t page_bytes, size_t key_len, size_t data_len)
{
    size_t bytes = (WARM_LEAF_ENTRY_BYTES + key_len + data_len + 1) / 2 * 2;
    return bytes <= page_bytes / 2 ? bytes
                                   : WARM_LEAF_ENTRY_BYTES + key_len + WARM_PAGE_NUMBER_BYTES;
}

struct putting {
    MDB_cursor *cursor;
    size_t page_bytes;
    const struct warm_parcel *parcel;
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
        size_t node_bytes =
            entry_bytes(putting->page_bytes, key->mv_size, data->mv_size) - LEAF_POINTER_BYTES;
        *ret_apart = putting->last != NULL && place + node_bytes != putting->last;
        putting->last = place;
    }
    return rc;
}

/* Puts the items that go into the page where the last one went and of which `used_bytes` are used,
 * beginning with the one at `*at`, which then is the first one after them. The last of them goes
 * first: LMDB finds the place of a key that is between others of the cursor's page without going
 * down the tree, while to append one it does. */
static int page_fill(struct putting *putting, size_t used_bytes, size_t *at)
{
    const struct warm_parcel *parcel = putting->parcel;
    size_t page_bytes = putting->page_bytes;
    MDB_val key;
    MDB_val data;
    size_t last = *at;
    size_t end = *at;
    for (size_t next = *at; next < parcel->used;) {
        size_t from = next;
        next = warm_parcel_item(parcel, from, &key, &data);
        used_bytes += entry_bytes(page_bytes, key.mv_size, data.mv_size);
        if (used_bytes > page_bytes - PAGE_HEADER_BYTES) {
            break;
        }
        last = from;
        end = next;
    }
    bool apart = false;
    int rc = 0;
    if (last != *at) {
        (void)warm_parcel_item(parcel, last, &key, &data);
        rc = item_put(putting, &key, &data, &apart);
        for (size_t next = *at; next < last && rc == 0;) {
            next = warm_parcel_item(parcel, next, &key, &data);
            rc = item_put(putting, &key, &data, &apart);
        }
        *at = end;
    }
    return rc;
}

/* Items behind all that are put, in the page where these go, would have LMDB split that in the
 * middle each time, and leave it half empty: they are taken out until the others are there.
 * *ret_taken: some were. */
static int followers_take(struct putting *putting, const MDB_val *last_key,
                          struct warm_parcel *followers, bool *ret_taken)
{
    MDB_cursor *cursor = putting->cursor;
    size_t page_bytes = putting->page_bytes;
    uintptr_t place = (uintptr_t)putting->last;
    int rc = 0;
    size_t room = 0;
    while (rc == 0 && followers->used < FOLLOWERS_BYTES_MAX && room < page_bytes / 4) {
        MDB_val key;
        MDB_val data;
        rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT);
        if (rc != 0) {
            break;
        }
        uintptr_t next = (uintptr_t)key.mv_data;
        bool same_page = (place < next ? next - place : place - next) < page_bytes;
        if (!same_page || data.mv_size > FOLLOWER_BYTES_MAX ||
            mdb_cmp(mdb_cursor_txn(cursor), mdb_cursor_dbi(cursor), &key, last_key) <= 0) {
            break;
        }
        unsigned char *out = warm_parcel_add(followers, &key, data.mv_size);
        if (out == NULL) {
            return ENOMEM;
        }
        memcpy(out, data.mv_data, data.mv_size);
        room += entry_bytes(page_bytes, key.mv_size, data.mv_size);
        rc = mdb_cursor_del(cursor, 0);
        /* That has moved it. */
        putting->last = NULL;
        *ret_taken = true;
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* As they are. */
static int followers_put(MDB_cursor *cursor, const struct warm_parcel *followers)
{
    int rc = 0;
    for (size_t at = 0; at < followers->used && rc == 0;) {
        MDB_val key;
        MDB_val data;
        at = warm_parcel_item(followers, at, &key, &data);
        rc = mdb_cursor_put(cursor, &key, &data, MDB_NOOVERWRITE);
    }
    return rc;
}

/* In key order. When LMDB has begun a new page, it holds the item and perhaps the one before. */
int warm_parcel_put(struct warm_write *write, MDB_cursor *cursor, const struct warm_parcel *parcel,
                    const MDB_val *last_key)
{
    struct putting putting = {
        .cursor = cursor, .page_bytes = write->warm->page_bytes, .parcel = parcel};
    struct warm_parcel followers = {0};
    size_t bytes_before = 0;
    int rc = 0;
    for (size_t at = 0; at < parcel->used && rc == 0;) {
        MDB_val key;
        MDB_val data;
        bool apart = false;
        at = warm_parcel_item(parcel, at, &key, &data);
        rc = item_put(&putting, &key, &data, &apart);
        size_t bytes = entry_bytes(putting.page_bytes, key.mv_size, data.mv_size);
        bool taken = false;
        if (rc == 0 && apart) {
            rc = followers_take(&putting, last_key, &followers, &taken);
        }
        if (rc == 0 && apart && !taken) {
            rc = page_fill(&putting, bytes_before + bytes, &at);
        }
        bytes_before = bytes;
    }
    if (rc == 0) {
        rc = followers_put(cursor, &followers);
    }
    warm_parcel_free(&followers);
    return warm_write_error(write, rc);
}
