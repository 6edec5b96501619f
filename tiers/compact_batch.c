/* Compaction of one batch: see compact_batch.h.
 *
 * Most of what a segment holds is dead when its turn comes. So a record's key is looked up first,
 * with what the header says, unverified; only a live one is verified and decoded. If a header lies,
 * the record is damaged: either it seems dead, and its segment will not run empty, or what it says
 * of its length leads to a place where no record begins. Both have the segment scanned again, with
 * everything verified (cold_compact.c). */
#include "compact_batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_ARENA_BYTES (2u << 20)

struct compact_batch *compact_batch_open(struct mover *mover)
{
    struct compact_batch *batch = calloc(1, sizeof *batch);
    if (batch == NULL) {
        return NULL;
    }
    batch->mover = mover;
    batch->moved = malloc(MOVER_BATCH_ITEMS_MAX * sizeof *batch->moved);
    batch->keys = malloc(KEY_ARENA_BYTES);
    if (batch->moved == NULL || batch->keys == NULL ||
        warm_read_open(mover->tiers->warm, &batch->read) != 0) {
        compact_batch_close(batch);
        return NULL;
    }
    return batch;
}

void compact_batch_close(struct compact_batch *batch)
{
    if (batch == NULL) {
        return;
    }
    if (batch->read != NULL) {
        warm_read_close(batch->read);
    }
    free(batch->moved);
    free(batch->keys);
    free(batch);
}

static bool location_equals(const struct cold_location *a, const struct cold_location *b)
{
    return a->segment == b->segment && a->offset == b->offset && a->bytes == b->bytes;
}

/* ---- Preparing ---- */

/* 1: the item's key pointed to it when the batch began, 0: dead. A record of a full segment never
 * comes alive again, and whether it died since is asked once more when its pointer moves. */
static int item_live(const struct compact_batch *batch, const struct cold_item *item)
{
    struct warm_item now;
    int error = warm_get_near(batch->read, item->space, item->key, item->key_len, &now);
    if (error) {
        return error == TIERS_NOT_FOUND ? 0 : error;
    }
    return now.cold && location_equals(&now.location, &item->location) ? 1 : 0;
}

static int item_append(struct compact_batch *batch, const struct cold_item *item)
{
    struct compact_moved *moved = &batch->moved[batch->n];
    *moved = (struct compact_moved){.key_at = (uint32_t)batch->keys_used,
                                    .key_len = (uint16_t)item->key_len,
                                    .space = (uint8_t)item->space,
                                    .mod_revision = item->meta.mod_revision,
                                    .from = item->location};
    int error = cold_append(batch->mover->tiers->cold, item->space, item->key, item->key_len,
                            &item->meta, item->value, item->value_len, &moved->to);
    if (error) {
        return error;
    }
    memcpy(batch->keys + batch->keys_used, item->key, item->key_len);
    batch->keys_used += item->key_len;
    batch->bytes += item->location.bytes;
    batch->n++;
    return 0;
}

static bool batch_full(const struct compact_batch *batch, uint64_t scanned)
{
    return batch->n == MOVER_BATCH_ITEMS_MAX || batch->bytes >= MOVER_BATCH_BYTES_MAX ||
           batch->keys_used + TIERS_KEY_BYTES_MAX > KEY_ARENA_BYTES ||
           scanned >= MOVER_BATCH_BYTES_MAX;
}

static void damage_note(struct compact_batch *batch)
{
    snprintf(batch->damage, sizeof batch->damage, "%s", cold_error_text(batch->mover->tiers->cold));
}

/* The next record, its value included if it is live. 1: it is, 0: dead or damaged; a failure of the
 * scan is in batch->scan_status, one of the look-up is returned. */
static int record_next(struct compact_batch *batch, struct cold_scan *scan, bool verify,
                       struct cold_item *ret_item)
{
    int status = verify ? cold_scan_next(scan, ret_item) : cold_scan_peek(scan, ret_item);
    int live = status == 0 ? item_live(batch, ret_item) : 0;
    if (live > 0 && !verify) {
        status = cold_scan_read(scan, ret_item);
    }
    if (status == TIERS_CORRUPT && (!verify || batch->damages++ == 0)) {
        damage_note(batch);
    }
    if (status == TIERS_CORRUPT && verify) {
        status = 0;
    }
    batch->scan_status = status;
    return status == 0 ? live : 0;
}

/* 0 or the failure of batch->step. */
static int batch_fill(struct compact_batch *batch, struct cold_scan *scan, bool verify)
{
    uint64_t begin = cold_scan_bytes_read(scan);
    while (batch->scan_status == 0 && !batch_full(batch, batch->scanned)) {
        struct cold_item item;
        int live = record_next(batch, scan, verify, &item);
        batch->scanned = cold_scan_bytes_read(scan) - begin;
        if (live < 0) {
            return live;
        }
        int error = live > 0 ? item_append(batch, &item) : 0;
        if (error == TIERS_BUSY && batch->n > 0) {
            cold_scan_return(scan);
            return 0;
        }
        if (error) {
            batch->step = COMPACT_APPEND;
            return error;
        }
    }
    return 0;
}

void compact_batch_prepare(struct compact_batch *batch, struct cold_scan *scan, bool verify)
{
    struct cold *cold = batch->mover->tiers->cold;
    batch->n = 0;
    batch->bytes = 0;
    batch->keys_used = 0;
    batch->scanned = 0;
    batch->damages = 0;
    batch->scan_status = 0;
    batch->n_touched = 0;
    batch->step = COMPACT_LOOK_UP;
    batch->error = warm_read_begin(batch->read);
    if (batch->error == 0) {
        batch->error = batch_fill(batch, scan, verify);
        warm_read_end(batch->read);
    }
    /* Whatever stopped the scan: what it found is saved. */
    if (batch->error == 0 && batch->n > 0) {
        batch->step = COMPACT_SYNC;
        batch->n_touched = COLD_TOUCHED_MAX;
        batch->error = cold_sync(cold, batch->touched, &batch->n_touched);
    }
    if (batch->error) {
        batch->n_touched = 0;
    }
    batch->appended_bytes = cold_appended_bytes(cold);
}

/* ---- Pointing ---- */

/* Moves one pointer, if it is still the one that was followed. */
static int moved_point(struct warm_write *write, const struct compact_moved *moved, const void *key)
{
    struct warm_item now;
    int error = warm_write_get(write, moved->space, key, moved->key_len, &now);
    if (error == TIERS_NOT_FOUND) {
        return 0;
    }
    if (error || !now.cold || now.meta.mod_revision != moved->mod_revision ||
        !location_equals(&now.location, &moved->from)) {
        return error;
    }
    return warm_put_cold(write, moved->space, key, moved->key_len, &now.meta, now.digest,
                         now.value_len, &moved->to);
}

/* Moves the pointers [first, last). The rows of the segments that grew come with the first. */
static int pointers_move(const struct compact_batch *batch, size_t first, size_t last)
{
    struct mover *mover = batch->mover;
    struct warm_write *write = NULL;
    int error = warm_write_begin(mover->tiers->warm, &write);
    if (error) {
        return error;
    }
    for (size_t i = first; i < last && error == 0; i++) {
        const struct compact_moved *moved = &batch->moved[i];
        error = moved_point(write, moved, batch->keys + moved->key_at);
    }
    return mover_cold_commit(mover, write, error);
}

/* A segment's keys may lie anywhere in the index. Those that are cut off point where they did. */
int compact_batch_point(const struct compact_batch *batch)
{
    int error = 0;
    for (size_t i = 0; i < batch->n && error == 0; i += WARM_WRITE_KEYS_MAX) {
        size_t left = batch->n - i;
        error =
            pointers_move(batch, i, i + (left < WARM_WRITE_KEYS_MAX ? left : WARM_WRITE_KEYS_MAX));
    }
    return error;
}
