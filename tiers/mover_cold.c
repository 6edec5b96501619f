/* Writing to the cold tier: what demotion and compaction have in common. Mover thread.
 *
 * A sync names the segments that grew. Their rows belong in the same transaction as the first
 * pointers into them; if that transaction fails they are kept for the next one, so that no file is
 * ever unknown to the index for longer than needed.
 *
 * Failures: a full disk gives up the batch (nothing points to it yet) and pauses the work; a failed
 * sync stops the engine. */
#include "mover_private.h"

#include <string.h>

#define RETRY_MS 2000

/* Over its budget by more than this part of it, the warm tier is emptied as fast as can be. */
#define HURRY_SHARE 8

static void pending_add(struct mover *mover, const struct cold_known *segment)
{
    for (size_t i = 0; i < mover->n_pending; i++) {
        if (mover->pending[i].id == segment->id) {
            mover->pending[i].bytes = segment->bytes;
            return;
        }
    }
    /* After many failures in a row the oldest is left to be found and deleted at the next start. */
    if (mover->n_pending == MOVER_PENDING_MAX) {
        memmove(mover->pending, mover->pending + 1,
                (MOVER_PENDING_MAX - 1) * sizeof mover->pending[0]);
        mover->n_pending--;
    }
    mover->pending[mover->n_pending++] = *segment;
}

void mover_cold_rows_forget(struct mover *mover, uint64_t id)
{
    size_t n = 0;
    for (size_t i = 0; i < mover->n_pending; i++) {
        if (mover->pending[i].id != id) {
            mover->pending[n++] = mover->pending[i];
        }
    }
    mover->n_pending = n;
}

bool mover_cold_hurries(uint64_t used_bytes, uint64_t budget_bytes)
{
    return used_bytes > budget_bytes + budget_bytes / HURRY_SHARE;
}

bool mover_cold_may_demote(struct mover *mover)
{
    struct warm_usage usage;
    uint64_t budget = mover_warm_budget(mover);
    warm_usage(mover->tiers->warm, &usage);
    return mover_cold_hurries(usage.used_bytes, budget) ||
           rate_wait_ms(&mover->write_rate, engine_now_ms(mover->tiers)) == 0;
}

bool mover_cold_train(struct mover *mover)
{
    struct tiers *tiers = mover->tiers;
    unsigned saved_percent = 0;
    if (!cold_dictionary_due(tiers->cold)) {
        return false;
    }
    if (cold_dictionary_train(tiers->cold, &saved_percent) == 0) {
        engine_count(&tiers->counters.cold_dictionaries, 1);
        engine_event(tiers, TIERS_EVENT_INFO, "dictionary_trained",
                     "a new dictionary saves %u percent of small values in new cold segments",
                     saved_percent);
    }
    return true;
}

void mover_cold_synced(struct mover *mover, const struct cold_known *touched, size_t n,
                       uint64_t appended_bytes)
{
    uint64_t appended = appended_bytes - mover->appended_seen;
    rate_pay(&mover->write_rate, appended);
    engine_count(&mover->tiers->counters.cold_written_bytes, appended);
    mover->appended_seen = appended_bytes;
    for (size_t i = 0; i < n; i++) {
        pending_add(mover, &touched[i]);
    }
}

static int rows_put(struct mover *mover, struct warm_write *write)
{
    int error = 0;
    for (size_t i = 0; i < mover->n_pending && error == 0; i++) {
        error = warm_segment_put(write, mover->pending[i].id, mover->pending[i].bytes);
    }
    return error;
}

int mover_cold_commit(struct mover *mover, struct warm_write *write, int error)
{
    if (error == 0) {
        error = rows_put(mover, write);
    }
    if (error) {
        warm_write_abort(write);
        return error;
    }
    error = warm_write_commit(write);
    if (error == 0) {
        mover->n_pending = 0;
    }
    return error;
}

void mover_cold_failed(struct mover *mover, int error, const char *what, bool in_sync)
{
    /* TIERS_STOPPED: the fsync that failed was one that an append needed. */
    if (error == TIERS_STOPPED || (in_sync && error == TIERS_IO)) {
        engine_fail(mover->tiers, TIERS_IO, what);
        return;
    }
    engine_event(mover->tiers, TIERS_EVENT_WARNING, "cold_paused", "%s, nothing is lost: %s", what,
                 cold_error_text(mover->tiers->cold));
    cold_abandon(mover->tiers->cold);
    mover->cold_retry_ms = engine_now_ms(mover->tiers) + RETRY_MS;
}

void mover_warm_failed(struct mover *mover, int error, const char *what)
{
    if (error != TIERS_NO_SPACE && error != TIERS_NO_MEMORY && error != TIERS_BUSY) {
        engine_fail(mover->tiers, error, what);
        return;
    }
    mover->cold_retry_ms = engine_now_ms(mover->tiers) + RETRY_MS;
    engine_event(mover->tiers, TIERS_EVENT_WARNING, "warm_paused", "%s: %s; nothing is lost", what,
                 tiers_strerror(error));
}
