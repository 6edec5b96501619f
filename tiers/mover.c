/* The mover's thread, its queue of offers, and the order of its work.
 *
 * The happy path: sleep until woken or until something may be due, then do steps while there is
 * more to do. Whoever needs a flush takes a ticket under the mutex and waits until it is answered.
 *
 * Failures: a full disk makes flushes pause and be retried (mover_flush.c), a failed fsync or a
 * damaged index stops the engine; waiters then get TIERS_STOPPED at once. */
#include "mover_private.h"

#include "cold_compact.h"
#include "observer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

/* The longest sleep: whatever is urgent wakes the mover. */
#define SLEEP_MS_MAX 1000

/* How many chunks may be demoted before a flush / a batch of compaction gets its turn. */
#define CHUNKS_PER_FLUSH      4
#define CHUNKS_PER_COMPACTION 2

/* And how many steps of other work before a piece is verified: damage is to be found also under a
 * load that never ends. */
#define STEPS_PER_SCRUB 16

int mover_open(struct tiers *tiers, struct mover **ret_mover)
{
    struct mover *mover = calloc(1, sizeof *mover);
    if (mover == NULL) {
        return TIERS_NO_MEMORY;
    }
    int error = warm_read_open(tiers->warm, &mover->read);
    if (error) {
        free(mover);
        return error;
    }
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&mover->cond, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&mover->mutex, NULL);
    mover->tiers = tiers;
    mover->flushed_ms = engine_now_ms(tiers);
    rate_init(&mover->write_rate, tiers->options.cold_write_bytes_per_second_max,
              mover->flushed_ms);
    rate_init(&mover->compact_rate, tiers->options.compact_bytes_per_second_max, mover->flushed_ms);
    mover_scrub_open(mover);
    mover_control_open(mover);
    *ret_mover = mover;
    return 0;
}

void mover_close(struct mover *mover)
{
    if (mover->threaded) {
        pthread_mutex_lock(&mover->mutex);
        mover->stop = true;
        pthread_cond_broadcast(&mover->cond);
        pthread_mutex_unlock(&mover->mutex);
        pthread_join(mover->thread, NULL);
    }
    for (size_t i = 0; i < mover->n_offers; i++) {
        tiers_record_release(mover->offers[i].record);
    }
    cold_compact_close(mover);
    mover_scrub_close(mover);
    warm_read_close(mover->read);
    pthread_cond_destroy(&mover->cond);
    pthread_mutex_destroy(&mover->mutex);
    free(mover);
}

/* ---- Called from other threads ---- */

void mover_wake(struct mover *mover)
{
    pthread_mutex_lock(&mover->mutex);
    mover->woken = true;
    pthread_cond_broadcast(&mover->cond);
    pthread_mutex_unlock(&mover->mutex);
}

int mover_flush(struct mover *mover)
{
    if (!mover->threaded) {
        return mover_flush_run(mover, true);
    }
    pthread_mutex_lock(&mover->mutex);
    uint64_t ticket = ++mover->flush_wanted;
    pthread_cond_broadcast(&mover->cond);
    while (mover->flush_done < ticket) {
        pthread_cond_wait(&mover->cond, &mover->mutex);
    }
    int status = mover->flush_status;
    pthread_mutex_unlock(&mover->mutex);
    return status;
}

void mover_flush_soon(struct mover *mover)
{
    pthread_mutex_lock(&mover->mutex);
    mover->flush_soon = true;
    mover->woken = true;
    pthread_cond_broadcast(&mover->cond);
    pthread_mutex_unlock(&mover->mutex);
}

bool mover_ready_or_notify(struct mover *mover)
{
    pthread_mutex_lock(&mover->mutex);
    /* Asked again under the mutex under which the mover answers, so that no turn is missed. */
    bool ready = engine_ready(mover->tiers);
    if (!ready && !mover->ready_wanted) {
        mover->ready_wanted = true;
        pthread_cond_broadcast(&mover->cond);
    }
    pthread_mutex_unlock(&mover->mutex);
    return ready;
}

void mover_offer(struct mover *mover, const struct tiers_record *record,
                 const struct cold_location *location)
{
    pthread_mutex_lock(&mover->mutex);
    if (mover->n_offers < MOVER_OFFERS_MAX &&
        mover->offers_bytes + record->charge <= MOVER_OFFER_BYTES_MAX) {
        if (mover->n_offers == 0) {
            mover->offers_since_ms = engine_now_ms(mover->tiers);
        }
        tiers_record_retain(record);
        mover->offers[mover->n_offers++] =
            (struct mover_offer){.record = record, .location = *location};
        mover->offers_bytes += record->charge;
    }
    pthread_mutex_unlock(&mover->mutex);
}

void mover_report_damage(struct mover *mover, const struct cold_location *location)
{
    pthread_mutex_lock(&mover->mutex);
    if (mover->damaged++ == 0) {
        mover->damaged_location = *location;
    }
    mover->woken = true;
    pthread_cond_broadcast(&mover->cond);
    pthread_mutex_unlock(&mover->mutex);
}

/* ---- The mover's own thread ---- */

static void damage_tell(struct mover *mover)
{
    pthread_mutex_lock(&mover->mutex);
    uint64_t damaged = mover->damaged;
    struct cold_location location = mover->damaged_location;
    mover->damaged = 0;
    pthread_mutex_unlock(&mover->mutex);
    if (damaged > 0 && location.segment == 0) {
        engine_event(mover->tiers, TIERS_EVENT_ERROR, "warm_item_damaged",
                     "%llu reads met values in the warm tier that fail their check",
                     (unsigned long long)damaged);
    } else if (damaged > 0) {
        engine_event(mover->tiers, TIERS_EVENT_ERROR, "cold_record_damaged",
                     "%llu reads met damaged records, first in segment %016llx at offset %llu",
                     (unsigned long long)damaged, (unsigned long long)location.segment,
                     (unsigned long long)location.offset);
        mover_trouble_note(mover, location.segment, false);
    }
}

static void ready_tell(struct mover *mover)
{
    pthread_mutex_lock(&mover->mutex);
    bool tell = mover->ready_wanted && engine_ready(mover->tiers);
    if (tell) {
        mover->ready_wanted = false;
    }
    pthread_mutex_unlock(&mover->mutex);
    if (tell && mover->tiers->options.on_ready != NULL) {
        mover->tiers->options.on_ready(mover->tiers->options.context);
    }
}

/* Answers the tickets that were taken before the flush began. */
static void flush_answer(struct mover *mover, uint64_t ticket, int status)
{
    pthread_mutex_lock(&mover->mutex);
    if (mover->flush_done < ticket) {
        mover->flush_done = ticket;
        mover->flush_status = status;
        pthread_cond_broadcast(&mover->cond);
    }
    pthread_mutex_unlock(&mover->mutex);
}

/* When demotion cannot keep up, flushes let it go first a few times, so that the warm tier keeps to
 * its budget; dirty bytes then grow until the applier is held back. */
static bool demotion_first(struct mover *mover)
{
    struct warm_usage usage;
    uint64_t budget = mover_warm_budget(mover);
    warm_usage(mover->tiers->warm, &usage);
    return usage.used_bytes > budget + budget / 8 && mover->chunks_since_flush < CHUNKS_PER_FLUSH &&
           mover_demote_due(mover);
}

bool mover_is_called(struct mover *mover)
{
    pthread_mutex_lock(&mover->mutex);
    bool called = mover->stop || mover->flush_done < mover->flush_wanted;
    pthread_mutex_unlock(&mover->mutex);
    return called || atomic_load(&mover->tiers->stopped) != 0;
}

/* Flushes what is due, or all of it if somebody asks. True if it tried to. */
static bool flush_step(struct mover *mover)
{
    pthread_mutex_lock(&mover->mutex);
    uint64_t ticket = mover->flush_wanted;
    bool asked = mover->flush_done < ticket;
    pthread_mutex_unlock(&mover->mutex);
    if (!asked && (!mover_flush_due(mover) || demotion_first(mover))) {
        return false;
    }
    mover->chunks_since_flush = 0;
    int status = mover_flush_run(mover, asked);
    if (status == 0) {
        pthread_mutex_lock(&mover->mutex);
        mover->flush_soon = false;
        pthread_mutex_unlock(&mover->mutex);
    }
    if (asked) {
        flush_answer(mover, ticket, status);
    }
    ready_tell(mover);
    return true;
}

/* The policy "auto": the observer has chosen, the mover makes the switch. */
static void policy_switch(struct mover *mover)
{
    struct tiers *tiers = mover->tiers;
    const struct policy_type *wanted = observer_policy_wanted(tiers->observer);
    if (wanted == NULL) {
        return;
    }
    int error = hot_policy_switch(tiers->hot, wanted);
    observer_policy_switched(tiers->observer, error);
    struct tiers_placement placement = {0};
    observer_placement(tiers->observer, &placement);
    if (error) {
        engine_event(tiers, TIERS_EVENT_WARNING, "policy_not_switched",
                     "the hot tier stays with %s instead of %s: %s", placement.policy.name,
                     wanted->name, tiers_strerror(error));
    } else {
        engine_event(tiers, TIERS_EVENT_INFO, "policy_switched",
                     "the hot tier evicts by %s now: predicted to answer %.2f %% more of the reads",
                     placement.policy.name, 100 * placement.policy.gain);
    }
}

bool mover_step(struct mover *mover)
{
    struct tiers *tiers = mover->tiers;
    damage_tell(mover);
    cold_sweep(tiers->cold);
    policy_switch(mover);
    bool flushed = flush_step(mover);
    if (atomic_load(&tiers->stopped) != 0) {
        return false;
    }
    mover_control_step(mover);
    if (++mover->steps_since_scrub >= STEPS_PER_SCRUB) {
        mover->steps_since_scrub = 0;
        if (mover_scrub_step(mover)) {
            return true;
        }
    }
    if (mover->chunks_since_compaction >= CHUNKS_PER_COMPACTION) {
        mover->chunks_since_compaction = 0;
        if (cold_compact_step(mover)) {
            return true;
        }
    }
    if (mover_demote_due(mover) && mover_cold_may_demote(mover)) {
        unsigned n = mover_demote(mover);
        mover->chunks_since_flush += n;
        mover->chunks_since_compaction += n;
        return true;
    }
    if (mover_promote_due(mover)) {
        mover_promote_batch(mover);
        return true;
    }
    if (mover_cold_train(mover) || cold_compact_step(mover)) {
        return true;
    }
    return mover_scrub_step(mover) || (flushed && mover_flush_due(mover));
}

/* Until when the mover may sleep if nobody wakes it. */
static uint64_t sleep_ms(struct mover *mover)
{
    uint64_t now_ms = engine_now_ms(mover->tiers);
    uint64_t ms = mover->tiers->options.flush_interval_ms / 4;
    if (ms > SLEEP_MS_MAX) {
        ms = SLEEP_MS_MAX;
    }
    /* Work that was stopped by its limit goes on as soon as that allows it. */
    struct rate *const rates[] = {&mover->write_rate, &mover->compact_rate, &mover->scrub.rate};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        uint64_t wait_ms = rate_wait_ms(rates[i], now_ms);
        if (wait_ms > 0 && wait_ms < ms) {
            ms = wait_ms;
        }
    }
    return ms > 0 ? ms : 1;
}

static void sleep_until_woken(struct mover *mover)
{
    struct timespec until;
    uint64_t ms = sleep_ms(mover);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(ms / 1000);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    int rc = 0;
    while (rc == 0 && !mover->stop && !mover->woken && mover->flush_wanted == mover->flush_done) {
        rc = pthread_cond_timedwait(&mover->cond, &mover->mutex, &until);
    }
    assert(rc == 0 || rc == ETIMEDOUT);
    mover->woken = false;
}

static void *mover_run(void *argument)
{
    struct mover *mover = argument;
    bool more = false;
    for (;;) {
        pthread_mutex_lock(&mover->mutex);
        if (!more) {
            sleep_until_woken(mover);
        }
        bool stop = mover->stop;
        pthread_mutex_unlock(&mover->mutex);
        if (stop) {
            return NULL;
        }
        more = mover_step(mover);
        if (!more) {
            cold_rest(mover->tiers->cold);
        }
    }
}

int mover_start(struct mover *mover)
{
    assert(!mover->threaded);
    mover->threaded = true; /* Which the thread looks at, too */
    if (pthread_create(&mover->thread, NULL, mover_run, mover) != 0) {
        mover->threaded = false;
        return TIERS_NO_MEMORY;
    }
    return 0;
}
