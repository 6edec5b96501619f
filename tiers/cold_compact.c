/* Compaction of cold segments. Mover thread.
 *
 * The happy path: choose the deadest segment, read it from its start, append again each record that
 * its key still points to, and after each batch sync and move the pointers in warm transactions
 * that check revision and location of each once more. One step is one batch, so that all other
 * work goes between. When no live byte is left, one transaction deletes the segment's row, and then
 * the file goes; a reader that still holds it finishes first.
 *
 * Failures: no space pauses the work and loses nothing, since the old records stay until the end.
 * Of a damaged segment all that is intact is saved; if live records are left in it, it stays and is
 * tried again, after longer and longer times. */
#include "cold_compact.h"

#include "mover_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* How often to look for a candidate while nothing else happens. */
#define CHECK_MS 250

#define KEY_ARENA_BYTES (2u << 20)

struct moved {
    uint32_t key_at; /* In the arena */
    uint16_t key_len;
    uint8_t space;
    uint64_t mod_revision;
    struct cold_location from;
    struct cold_location to;
};

struct compaction {
    struct mover *mover;
    struct cold_scan *scan;
    uint64_t scanned; /* Bytes of the scan that are paid for */
    unsigned damages;
    struct moved *moved;
    size_t n;
    uint64_t bytes;
    unsigned char *keys;
    size_t keys_used;
    bool reported; /* A failure has been dealt with */
};

size_t cold_compact_choose(const struct warm_segment *segments, size_t n,
                           bool (*excluded)(const void *context, uint64_t id), const void *context)
{
    size_t best = n;
    double best_share = 0.5;
    for (size_t i = 0; i < n; i++) {
        if (excluded(context, segments[i].id)) {
            continue;
        }
        double share =
            segments[i].bytes > 0 ? (double)segments[i].live_bytes / (double)segments[i].bytes : 0;
        if (share < best_share) {
            best = i;
            best_share = share;
        }
    }
    return best;
}

static bool location_equals(const struct cold_location *a, const struct cold_location *b)
{
    return a->segment == b->segment && a->offset == b->offset && a->bytes == b->bytes;
}

/* Moves one pointer, if it is still the one that was followed. */
static int moved_point(struct warm_write *write, const struct moved *moved, const void *key)
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
static int pointers_move(struct compaction *compaction, size_t first, size_t last)
{
    struct mover *mover = compaction->mover;
    struct warm_write *write = NULL;
    int error = warm_write_begin(mover->tiers->warm, &write);
    if (error) {
        return error;
    }
    for (size_t i = first; i < last && error == 0; i++) {
        const struct moved *moved = &compaction->moved[i];
        error = moved_point(write, moved, compaction->keys + moved->key_at);
    }
    if (error == 0) {
        error = mover_cold_rows_put(mover, write);
    }
    if (error) {
        warm_write_abort(write);
        return error;
    }
    error = warm_write_commit(write);
    if (error == 0) {
        mover_cold_rows_done(mover);
    }
    return error;
}

/* A segment's keys may lie anywhere in the index. Those that are cut off point where they did. */
static int batch_point(struct compaction *compaction)
{
    int error = 0;
    for (size_t i = 0; i < compaction->n && error == 0; i += WARM_WRITE_KEYS_MAX) {
        size_t left = compaction->n - i;
        error = pointers_move(compaction, i,
                              i + (left < WARM_WRITE_KEYS_MAX ? left : WARM_WRITE_KEYS_MAX));
    }
    return error;
}

/* Makes the batch durable and moves its pointers. */
static int batch_finish(struct compaction *compaction)
{
    struct mover *mover = compaction->mover;
    if (compaction->n == 0) {
        return 0;
    }
    int error = mover_cold_sync(mover);
    if (error) {
        mover_cold_failed(mover, error, "compacted records could not be made durable", true);
        compaction->reported = true;
        return error;
    }
    error = batch_point(compaction);
    if (error) {
        mover_warm_failed(mover, error, "compacted records could not be indexed");
        compaction->reported = true;
        return error;
    }
    engine_count(&mover->tiers->counters.compacted_bytes, compaction->bytes);
    compaction->n = 0;
    compaction->bytes = 0;
    compaction->keys_used = 0;
    return 0;
}

/* 1: the item's key pointed to it when the batch began, 0: dead. A record of a full segment never
 * comes alive again, and whether it died since is asked once more when its pointer moves. */
static int item_live(struct mover *mover, const struct cold_item *item)
{
    struct warm_item now;
    int error = warm_get_near(mover->read, item->space, item->key, item->key_len, &now);
    if (error) {
        return error == TIERS_NOT_FOUND ? 0 : error;
    }
    return now.cold && location_equals(&now.location, &item->location) ? 1 : 0;
}

static int item_append(struct compaction *compaction, const struct cold_item *item)
{
    struct moved *moved = &compaction->moved[compaction->n];
    *moved = (struct moved){.key_at = (uint32_t)compaction->keys_used,
                            .key_len = (uint16_t)item->key_len,
                            .space = (uint8_t)item->space,
                            .mod_revision = item->meta.mod_revision,
                            .from = item->location};
    int error = cold_append(compaction->mover->tiers->cold, item->space, item->key, item->key_len,
                            &item->meta, item->value, item->value_len, &moved->to);
    if (error == TIERS_BUSY && compaction->n > 0) {
        error = batch_finish(compaction);
        return error ? error : item_append(compaction, item);
    }
    if (error) {
        mover_cold_failed(compaction->mover, error, "live records could not be rewritten", false);
        compaction->reported = true;
        return error;
    }
    memcpy(compaction->keys + compaction->keys_used, item->key, item->key_len);
    compaction->keys_used += item->key_len;
    compaction->bytes += item->location.bytes;
    compaction->n++;
    return 0;
}

static int item_visit(struct compaction *compaction, const struct cold_item *item)
{
    int live = item_live(compaction->mover, item);
    if (live < 0) {
        mover_warm_failed(compaction->mover, live, "a record could not be looked up");
        compaction->reported = true;
        return live;
    }
    return live > 0 ? item_append(compaction, item) : 0;
}

static bool batch_full(const struct compaction *compaction, uint64_t scan_begin)
{
    return compaction->n == MOVER_BATCH_ITEMS_MAX || compaction->bytes >= MOVER_BATCH_BYTES_MAX ||
           compaction->keys_used + TIERS_KEY_BYTES_MAX > KEY_ARENA_BYTES ||
           cold_scan_bytes_read(compaction->scan) - scan_begin >= MOVER_BATCH_BYTES_MAX;
}

/* The row goes first: a file without a row is deleted at the next start at the latest. */
static int segment_remove(struct mover *mover, uint64_t id, bool *ret_dropped)
{
    struct warm_write *write = NULL;
    struct warm_segment segment;
    int error = warm_write_begin(mover->tiers->warm, &write);
    if (error) {
        return error;
    }
    error = warm_segment_get(write, id, &segment);
    if (error == 0 && segment.live_bytes > 0) {
        warm_write_abort(write);
        *ret_dropped = false;
        return 0;
    }
    if (error == 0) {
        error = warm_segment_delete(write, id);
    }
    if (error) {
        warm_write_abort(write);
        return error;
    }
    error = warm_write_commit(write);
    if (error == 0) {
        mover_cold_rows_forget(mover, id);
        cold_segment_delete(mover->tiers->cold, id);
        engine_count(&mover->tiers->counters.compacted_segments, 1);
        *ret_dropped = true;
    }
    return error;
}

/* An open checkpoint may still have to read it: then it is dropped another time. */
static int segment_drop(struct mover *mover, uint64_t id, bool *ret_dropped)
{
    struct tiers *tiers = mover->tiers;
    int error = 0;
    pthread_mutex_lock(&tiers->export_mutex);
    if (atomic_load(&tiers->exports) == 0) {
        error = segment_remove(mover, id, ret_dropped);
    } else {
        *ret_dropped = true;
    }
    pthread_mutex_unlock(&tiers->export_mutex);
    return error;
}

/* ---- One segment after the other ---- */

static void compaction_free(struct compaction *compaction)
{
    cold_scan_close(compaction->scan);
    free(compaction->moved);
    free(compaction->keys);
    free(compaction);
}

void cold_compact_close(struct mover *mover)
{
    if (mover->compaction != NULL) {
        compaction_free(mover->compaction);
        mover->compaction = NULL;
    }
}

static void segment_failed(struct mover *mover, uint64_t id, int error)
{
    engine_event(mover->tiers, TIERS_EVENT_ERROR, "segment_unreadable",
                 "cold segment %016llx cannot be compacted (%s): %s", (unsigned long long)id,
                 tiers_strerror(error), cold_error_text(mover->tiers->cold));
    mover_trouble_note(mover, id, true);
}

/* False: the segment cannot be opened. */
static bool compaction_begin(struct mover *mover, uint64_t id)
{
    struct compaction *compaction = calloc(1, sizeof *compaction);
    int error = TIERS_NO_MEMORY;
    if (compaction != NULL) {
        compaction->mover = mover;
        compaction->moved = malloc(MOVER_BATCH_ITEMS_MAX * sizeof *compaction->moved);
        compaction->keys = malloc(KEY_ARENA_BYTES);
        if (compaction->moved != NULL && compaction->keys != NULL) {
            error = cold_scan_open(mover->tiers->cold, id, &compaction->scan);
        }
    }
    if (error == 0) {
        mover->compaction = compaction;
        return true;
    }
    if (compaction != NULL) {
        compaction_free(compaction);
    }
    segment_failed(mover, id, error);
    return false;
}

/* The scan is at its end: drops the segment, unless damage keeps live records in it. */
static void compaction_end(struct mover *mover)
{
    const struct compaction *compaction = mover->compaction;
    uint64_t id = cold_scan_segment(compaction->scan);
    unsigned damages = compaction->damages;
    bool dropped = false;
    cold_compact_close(mover);
    int error = segment_drop(mover, id, &dropped);
    if (error) {
        mover_warm_failed(mover, error, "a compacted segment could not be removed from the index");
    } else if (dropped) {
        mover_trouble_forget(mover, id);
    } else {
        mover_trouble_note(mover, id, true);
        engine_event(mover->tiers, TIERS_EVENT_ERROR, "segment_kept",
                     "cold segment %016llx is damaged in %u places and still has live records, "
                     "which cannot be read; all others were saved",
                     (unsigned long long)id, damages);
    }
}

static void damage_note(struct compaction *compaction)
{
    struct tiers *tiers = compaction->mover->tiers;
    engine_count(&tiers->counters.checksum_errors, 1);
    if (compaction->damages++ == 0) {
        engine_event(tiers, TIERS_EVENT_ERROR, "segment_damaged", "%s",
                     cold_error_text(tiers->cold));
    }
}

/* Fills one batch. 0; TIERS_NOT_FOUND: the segment is at its end. */
static int batch_fill(struct compaction *compaction)
{
    uint64_t scan_begin = cold_scan_bytes_read(compaction->scan);
    int error = warm_read_begin(compaction->mover->read);
    if (error) {
        mover_warm_failed(compaction->mover, error, "records could not be looked up");
        compaction->reported = true;
        return error;
    }
    while (error == 0 && !batch_full(compaction, scan_begin)) {
        struct cold_item item;
        error = cold_scan_next(compaction->scan, &item);
        if (error == TIERS_CORRUPT) {
            damage_note(compaction);
            error = 0;
        } else if (error == 0) {
            error = item_visit(compaction, &item);
        }
    }
    warm_read_end(compaction->mover->read);
    return error;
}

static void compaction_step(struct mover *mover)
{
    struct compaction *compaction = mover->compaction;
    uint64_t id = cold_scan_segment(compaction->scan);
    int error = batch_fill(compaction);
    uint64_t scanned = cold_scan_bytes_read(compaction->scan);
    rate_pay(&mover->compact_rate, scanned - compaction->scanned + compaction->bytes);
    compaction->scanned = scanned;
    /* Whatever stopped the scan: what it found is saved. */
    int finished = compaction->reported ? error : batch_finish(compaction);
    if (compaction->reported) {
        cold_compact_close(mover);
    } else if (error == TIERS_NOT_FOUND && finished == 0) {
        compaction_end(mover);
    } else if (error) {
        cold_compact_close(mover);
        segment_failed(mover, id, error);
    }
}

static void segment_compact(struct mover *mover, const struct warm_segment *segment)
{
    bool dropped = false;
    if (segment->live_bytes > 0) {
        if (compaction_begin(mover, segment->id)) {
            compaction_step(mover);
        }
        return;
    }
    int error = segment_drop(mover, segment->id, &dropped);
    if (error) {
        mover_warm_failed(mover, error, "an empty segment could not be removed from the index");
    } else if (dropped) {
        mover_trouble_forget(mover, segment->id);
    }
}

struct choice {
    const struct mover *mover;
    uint64_t now_ms;
};

static bool segment_excluded(const void *context, uint64_t id)
{
    const struct choice *choice = context;
    return cold_segment_active(choice->mover->tiers->cold, id) ||
           mover_trouble_waits(choice->mover, id, choice->now_ms);
}

/* A segment in trouble whose time has come goes first, however much of it is alive. */
static size_t segment_choose(struct mover *mover, const struct warm_segment *segments, size_t n,
                             uint64_t now_ms)
{
    struct choice choice = {.mover = mover, .now_ms = now_ms};
    uint64_t id;
    while ((id = mover_trouble_due(mover, now_ms)) != 0) {
        for (size_t i = 0; i < n; i++) {
            if (segments[i].id == id && !cold_segment_active(mover->tiers->cold, id)) {
                return i;
            }
        }
        mover_trouble_forget(mover, id);
    }
    return cold_compact_choose(segments, n, segment_excluded, &choice);
}

bool cold_compact_step(struct mover *mover)
{
    struct tiers *tiers = mover->tiers;
    uint64_t now_ms = engine_now_ms(tiers);
    if (now_ms < mover->cold_retry_ms || atomic_load(&tiers->exports) > 0 ||
        rate_wait_ms(&mover->compact_rate, now_ms) > 0 ||
        rate_wait_ms(&mover->write_rate, now_ms) > 0) {
        return false;
    }
    if (mover->compaction != NULL) {
        compaction_step(mover);
        return true;
    }
    if (now_ms < mover->compact_check_ms) {
        return false;
    }
    struct warm_segment *segments = NULL;
    size_t n = 0;
    int error = warm_segments(tiers->warm, &segments, &n);
    if (error) {
        mover_warm_failed(mover, error, "the cold segments could not be listed");
        return false;
    }
    size_t chosen = segment_choose(mover, segments, n, now_ms);
    if (chosen < n) {
        segment_compact(mover, &segments[chosen]);
    } else {
        mover->compact_check_ms = now_ms + CHECK_MS;
    }
    free(segments);
    return chosen < n;
}
