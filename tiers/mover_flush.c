/* Flushing: dirty generations become durable in the warm tier. Mover thread.
 *
 * The happy path: take the oldest generations, write them in key order and the position of the last
 * one in one transaction, commit, tell hot that the records are clean, release the generations.
 *
 * Failures. No space or memory: the transaction is gone, everything stays dirty, appliers are asked
 * to wait and the flush is tried again after a while, with fewer generations. Anything else (a
 * failed fsync, a damaged index) stops the engine. */
#include "mover_private.h"

#include <assert.h>

#define RETRY_MS 250
/* Left free in the map, so that demotion, which needs pages to free pages, can still run. */
#define RESERVE_SHARE     16
#define RESERVE_BYTES_MAX (64ull << 20)

/* What was flushed. */
struct flushed {
    uint64_t keys;
    uint64_t bytes; /* Of keys and values */
};

static int record_flush(struct warm_write *write, const struct tiers_record *record,
                        struct flushed *flushed)
{
    const void *key = tiers_record_key(record);
    flushed->keys++;
    flushed->bytes += record->key_len;
    if (record->tombstone) {
        return warm_delete(write, record->space, key, record->key_len);
    }
    flushed->bytes += record->value_len;
    return warm_put_inline(write, record->space, key, record->key_len, tiers_record_meta(record),
                           tiers_record_digest(record), tiers_record_value(record),
                           record->value_len);
}

static int generation_flush(struct warm_write *write, struct dirty_generation *generation,
                            struct flushed *flushed)
{
    int error = 0;
    dirty_sort(generation);
    for (size_t i = 0; i < generation->n && error == 0; i++) {
        error = record_flush(write, generation->records[i], flushed);
    }
    return error;
}

static bool map_has_room(struct tiers *tiers)
{
    struct warm_usage usage;
    warm_usage(tiers->warm, &usage);
    uint64_t reserve = usage.map_bytes / RESERVE_SHARE;
    if (reserve > RESERVE_BYTES_MAX) {
        reserve = RESERVE_BYTES_MAX;
    }
    return usage.used_bytes + reserve < usage.map_bytes;
}

static int batch_write(struct tiers *tiers, const struct mover_batch *batch,
                       struct flushed *ret_flushed)
{
    struct warm_write *write = NULL;
    struct flushed flushed = {0};
    if (!map_has_room(tiers)) {
        return TIERS_NO_SPACE;
    }
    int error = warm_write_begin(tiers->warm, &write);
    if (error) {
        return error;
    }
    for (size_t i = 0; i < batch->n && error == 0; i++) {
        error = generation_flush(write, batch->generations[i], &flushed);
    }
    if (error == 0) {
        error = warm_set_position(write, &batch->generations[batch->n - 1]->position);
    }
    if (error) {
        warm_write_abort(write);
        return error;
    }
    error = warm_write_commit(write);
    if (error == 0) {
        *ret_flushed = flushed;
    }
    return error;
}

/* So many at a time, for the sake of the processor's cache. */
static void clean(struct tiers *tiers, const struct dirty_generation *generation)
{
    uint64_t hashes[TIERS_PREFETCH_MAX];
    size_t n;

    for (size_t from = 0; from < generation->n; from += n) {
        n = generation->n - from;
        if (n > TIERS_PREFETCH_MAX) {
            n = TIERS_PREFETCH_MAX;
        }
        for (size_t i = 0; i < n; i++) {
            const struct tiers_record *record = generation->records[from + i];
            hashes[i] = record_key_hash(record->space, tiers_record_key(record), record->key_len);
            heat_prefetch(tiers->heat, hashes[i]);
        }
        hot_prefetch(tiers->hot, hashes, n);
        for (size_t i = 0; i < n; i++) {
            hot_clean(tiers->hot, hashes[i], generation->records[from + i],
                      engine_seldom(tiers, heat_estimate(tiers->heat, hashes[i])));
        }
    }
}

/* The batch is durable. Hot forgets a record's pin only now; a later version of the key stays. */
static void batch_done(struct mover *mover, const struct mover_batch *batch,
                       const struct flushed *flushed)
{
    struct tiers *tiers = mover->tiers;
    struct tiers_position position = batch->generations[batch->n - 1]->position;
    for (size_t i = 0; i < batch->n; i++) {
        struct dirty_generation *generation = batch->generations[i];
        clean(tiers, generation);
        dirty_done(tiers->dirty, generation);
    }
    engine_count(&tiers->counters.flushes, 1);
    engine_count(&tiers->counters.flushed_keys, flushed->keys);
    engine_count(&tiers->counters.flushed_bytes, flushed->bytes);
    engine_durable(tiers, &position);
}

static void flush_failed(struct mover *mover, int error)
{
    struct tiers *tiers = mover->tiers;
    if (error != TIERS_NO_SPACE && error != TIERS_NO_MEMORY) {
        engine_fail(tiers, error, "a flush to the warm tier failed");
        return;
    }
    mover->flush_retry_ms = engine_now_ms(tiers) + RETRY_MS;
    if (!atomic_exchange(&tiers->no_space, true)) {
        engine_event(tiers, TIERS_EVENT_ERROR, "flush_paused",
                     "the warm tier takes no writes (%s); nothing is lost, writes wait",
                     tiers_strerror(error));
    }
}

static void flush_succeeded(struct mover *mover)
{
    struct tiers *tiers = mover->tiers;
    mover->flushed_ms = engine_now_ms(tiers);
    mover->flush_retry_ms = 0;
    if (atomic_exchange(&tiers->no_space, false)) {
        engine_event(tiers, TIERS_EVENT_INFO, "flush_resumed", "the warm tier takes writes again");
    }
}

int mover_flush_run(struct mover *mover, bool force)
{
    struct tiers *tiers = mover->tiers;
    struct mover_batch batch;
    size_t n_max = MOVER_GENERATIONS_MAX;
    if (atomic_load(&tiers->stopped) != 0) {
        return TIERS_STOPPED;
    }
    struct tiers_position goal;
    struct tiers_position durable;
    tiers_position_applied(tiers, &goal);
    /* What was closed before a failure to close is flushed all the same. */
    int closing = engine_freeze(tiers, force);
    for (mover_gather(mover, n_max, &batch); batch.n > 0; mover_gather(mover, n_max, &batch)) {
        struct flushed flushed;
        int error = batch_write(tiers, &batch, &flushed);
        if (error == 0) {
            batch_done(mover, &batch, &flushed);
            flush_succeeded(mover);
        } else if ((error == TIERS_NO_SPACE || error == TIERS_NO_MEMORY) && batch.n > 1) {
            n_max = 1;
            continue;
        } else {
            flush_failed(mover, error);
            return atomic_load(&tiers->stopped) != 0 ? TIERS_STOPPED : error;
        }
        /* An applier that is faster than the disk must not keep us here for ever. */
        tiers_position_durable(tiers, &durable);
        if (!force || durable.index >= goal.index) {
            break;
        }
    }
    return closing;
}

bool mover_flush_due(struct mover *mover)
{
    struct tiers *tiers = mover->tiers;
    uint64_t now_ms = engine_now_ms(tiers);
    struct tiers_position applied;
    struct tiers_position durable;
    if (atomic_load(&tiers->stopped) != 0 || now_ms < mover->flush_retry_ms) {
        return false;
    }
    if (mover_gathered_enough(mover)) {
        return true;
    }
    /* An applier that waits must not wait for the interval, nor who asked. */
    pthread_mutex_lock(&mover->mutex);
    bool wanted = mover->ready_wanted || mover->flush_soon;
    pthread_mutex_unlock(&mover->mutex);
    tiers_position_applied(tiers, &applied);
    tiers_position_durable(tiers, &durable);
    if (applied.index == durable.index) {
        return false;
    }
    if (!wanted && now_ms - mover->flushed_ms < tiers->options.flush_interval_ms) {
        return false;
    }
    /* Closes the active generation if it is old enough, or empty and only the index has moved. */
    engine_freeze(tiers, wanted);
    return dirty_oldest(tiers->dirty) != NULL;
}
