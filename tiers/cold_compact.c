/* Compaction of cold segments. Mover thread, and a second one while nothing limits it.
 *
 * The happy path: choose the deadest segment, read it from its start, append again each record that
 * its key still points to, and after each batch sync and move the pointers in warm transactions
 * that check revision and location of each once more. The next batches of the segment are prepared
 * by a thread of its own while the pointers of this one move. One step is one batch, or some, so
 * that all other work goes between; that thread is waited for before. When no live byte is left,
 * one transaction deletes the segment's row, and then the file goes; a reader that still holds it
 * finishes first.
 *
 * Failures: no space pauses the work and loses nothing, since the old records stay until the end.
 * Dead records are not looked into at first. If anything in the segment does not make sense, or is
 * left in it at the end, it is scanned once more, and every record verified: of a damaged segment
 * all that is intact is saved. If live records are left even then, it stays and is tried again,
 * after longer and longer times. */
#include "cold_compact.h"

#include "compact_batch.h"
#include "producer.h"

#include <stdio.h>
#include <stdlib.h>

/* How often to look for a candidate while nothing else happens. */
#define CHECK_MS 250

/* So many may be prepared before they are pointed, besides the one that is pointed. */
#define BATCHES_AHEAD   2
#define BATCHES_AT_ONCE (BATCHES_AHEAD + 1)

/* Batches in a row before other work gets its turn, and before a flush that is due does. */
#define BATCHES_MAX       16
#define BATCHES_FLUSH_MAX 3

/* Of one segment. */
struct compaction {
    uint64_t segment;
    struct cold_scan *scan;
    bool verify;      /* Each record is verified, the dead ones too */
    unsigned damages; /* Places that were met, and told of */
    char odd[256];    /* Why the first scan stopped: for when the second finds no damage; or "" */
    struct compact_batch *batches[BATCHES_AT_ONCE]; /* In turns. Only the first: one by one */
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

static void damage_tell(struct mover *mover, unsigned places, const char *text)
{
    engine_count(&mover->tiers->counters.checksum_errors, places);
    if (places > 0 && mover->compaction->damages == 0) {
        engine_event(mover->tiers, TIERS_EVENT_ERROR, "segment_damaged", "%s", text);
    }
    mover->compaction->damages += places;
}

static void compaction_free(struct compaction *compaction)
{
    cold_scan_close(compaction->scan);
    for (size_t i = 0; i < BATCHES_AT_ONCE; i++) {
        compact_batch_close(compaction->batches[i]);
    }
    free(compaction);
}

void cold_compact_close(struct mover *mover)
{
    if (mover->compaction != NULL) {
        if (mover->compaction->damages == 0 && mover->compaction->odd[0] != '\0') {
            damage_tell(mover, 1, mover->compaction->odd);
        }
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
        compaction->segment = id;
        compaction->batches[0] = compact_batch_open(mover);
        bool more = mover->threaded && compaction->batches[0] != NULL;
        for (size_t i = 1; i < BATCHES_AT_ONCE && more; i++) {
            compaction->batches[i] = compact_batch_open(mover);
            more = compaction->batches[i] != NULL;
        }
        if (compaction->batches[0] != NULL) {
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

/* From the start of the segment again, now with each record verified. What was moved is dead. */
static void compaction_repeat(struct mover *mover)
{
    struct compaction *compaction = mover->compaction;
    uint64_t id = compaction->segment;
    cold_scan_close(compaction->scan);
    compaction->scan = NULL;
    compaction->verify = true;
    int error = cold_scan_open(mover->tiers->cold, id, &compaction->scan);
    if (error) {
        cold_compact_close(mover);
        segment_failed(mover, id, error);
    }
}

/* The scan is at its end: drops the segment, unless damage keeps live records in it. */
static void compaction_end(struct mover *mover)
{
    struct compaction *compaction = mover->compaction;
    uint64_t id = compaction->segment;
    unsigned damages = compaction->damages;
    bool dropped = false;
    /* The file goes when nobody has it open. */
    cold_scan_close(compaction->scan);
    compaction->scan = NULL;
    int error = segment_drop(mover, id, &dropped);
    if (error == 0 && !dropped && !compaction->verify) {
        compaction_repeat(mover);
        return;
    }
    cold_compact_close(mover);
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

/* ---- Batches: one after the other, or some at once ---- */

static void prepare_failed(struct mover *mover, const struct compact_batch *batch)
{
    if (batch->step == COMPACT_LOOK_UP) {
        mover_warm_failed(mover, batch->error, "records could not be looked up");
    } else if (batch->step == COMPACT_APPEND) {
        mover_cold_failed(mover, batch->error, "live records could not be rewritten", false);
    } else {
        mover_cold_failed(mover, batch->error, "compacted records could not be made durable", true);
    }
}

/* What preparing a batch has cost and met. */
static void batch_account(struct mover *mover, const struct compact_batch *batch)
{
    rate_pay(&mover->compact_rate, batch->scanned + batch->bytes);
    mover_cold_synced(mover, batch->touched, batch->n_touched, batch->appended_bytes);
    damage_tell(mover, batch->damages, batch->damage);
}

/* The other half of a prepared batch. False on failure. */
static bool batch_finish(struct mover *mover, const struct compact_batch *batch)
{
    if (batch->error) {
        prepare_failed(mover, batch);
        return false;
    }
    int error = compact_batch_point(batch);
    mover->one_by_one = error != 0;
    if (error) {
        mover_warm_failed(mover, error, "compacted records could not be indexed");
        return false;
    }
    engine_count(&mover->tiers->counters.compacted_bytes, batch->bytes);
    return true;
}

/* Whether compaction may work now. */
static bool is_allowed(struct mover *mover)
{
    uint64_t now_ms = engine_now_ms(mover->tiers);
    return now_ms >= mover->cold_retry_ms && atomic_load(&mover->tiers->exports) == 0 &&
           rate_wait_ms(&mover->compact_rate, now_ms) == 0 &&
           rate_wait_ms(&mover->write_rate, now_ms) == 0;
}

/* What is prepared ahead is paid for only when its turn comes. */
static bool is_unlimited(const struct mover *mover)
{
    return mover->compact_rate.bytes_per_second_max == 0 &&
           mover->write_rate.bytes_per_second_max == 0;
}

/* As producer_make. */
static bool batch_make(void *context, unsigned n)
{
    const struct compaction *compaction = context;
    struct compact_batch *batch = compaction->batches[n % BATCHES_AT_ONCE];
    compact_batch_prepare(batch, compaction->scan, compaction->verify);
    return batch->error == 0 && batch->scan_status == 0;
}

/* Whether the n-th batch of a run, from 0, may follow without other work getting its turn first. */
static bool may_follow(struct mover *mover, unsigned n)
{
    return n < BATCHES_MAX && is_allowed(mover) && !mover_is_called(mover) &&
           (n < BATCHES_FLUSH_MAX || !mover_flush_due(mover)) &&
           !(mover_demote_due(mover) && mover_cold_may_demote(mover));
}

/* How many batches are wanted, if `n_wanted` were so far, when the n-th, from 0, is to be pointed.
 */
static unsigned batches_wanted(struct mover *mover, unsigned n, unsigned n_wanted)
{
    while (n_wanted <= n + BATCHES_AHEAD && may_follow(mover, n_wanted)) {
        n_wanted++;
    }
    return n_wanted;
}

/* Those behind the n-th will not be pointed, since that one has failed. */
static void batches_give_up(struct mover *mover, unsigned n, unsigned n_prepared)
{
    for (unsigned i = n + 1; i < n_prepared; i++) {
        const struct compact_batch *batch = mover->compaction->batches[i % BATCHES_AT_ONCE];
        batch_account(mover, batch);
        if (batch->error) {
            prepare_failed(mover, batch);
        }
    }
}

/* As many batches as may follow each other. The last one; NULL: there was a failure, which has been
 * dealt with. */
static const struct compact_batch *batches_move(struct mover *mover)
{
    struct compaction *compaction = mover->compaction;
    const struct compact_batch *current = NULL;
    struct producer producer;
    bool several = compaction->batches[BATCHES_AT_ONCE - 1] != NULL && !mover->one_by_one &&
                   is_unlimited(mover);
    unsigned n_wanted = 1;
    unsigned n = 0;
    bool finished = false;
    bool more = batch_make(compaction, 0) && several;
    producer_init(&producer, batch_make, compaction, 1);
    do {
        current = compaction->batches[n % BATCHES_AT_ONCE];
        batch_account(mover, current);
        if (more && current->error == 0 && current->scan_status == 0) {
            n_wanted = batches_wanted(mover, n, n_wanted);
            producer_allow(&producer, n_wanted);
        }
        finished = batch_finish(mover, current);
    } while (finished && producer_await(&producer, ++n));
    unsigned n_prepared = producer_stop(&producer);
    if (!finished) {
        batches_give_up(mover, n, n_prepared);
    }
    return finished ? current : NULL;
}

static void compaction_step(struct mover *mover)
{
    uint64_t id = mover->compaction->segment;
    const struct compact_batch *last = batches_move(mover);
    int status = last != NULL ? last->scan_status : 0;
    if (last == NULL) {
        cold_compact_close(mover);
    } else if (status == TIERS_NOT_FOUND) {
        compaction_end(mover);
    } else if (status == TIERS_CORRUPT) {
        snprintf(mover->compaction->odd, sizeof mover->compaction->odd, "%s", last->damage);
        compaction_repeat(mover);
    } else if (status) {
        cold_compact_close(mover);
        segment_failed(mover, id, status);
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
    if (!is_allowed(mover)) {
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
