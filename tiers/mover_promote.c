/* Promotion: values that are read often come back from cold to warm. Mover thread.
 *
 * Readers offer records with the place they were read from. A batch is taken out of the queue and
 * written in one transaction; an item that has another revision or place by now is left alone. A
 * failure drops the batch: whoever reads on will offer again. So does what the controller allows in
 * this window: the rest is left alone. While the index alone is over the warm tier's budget nothing
 * comes back: it would have to leave again. */
#include "mover_private.h"

#include <stdlib.h>
#include <string.h>

/* One transaction, one fsync: worth it for a good number of keys, or after a while. */
#define BATCH_FULL   64
#define BATCH_AGE_MS 500

bool mover_promote_due(struct mover *mover)
{
    uint64_t now_ms = engine_now_ms(mover->tiers);
    pthread_mutex_lock(&mover->mutex);
    bool due = mover->n_offers >= BATCH_FULL ||
               (mover->n_offers > 0 && now_ms - mover->offers_since_ms >= BATCH_AGE_MS);
    pthread_mutex_unlock(&mover->mutex);
    return due;
}

static bool location_equals(const struct cold_location *a, const struct cold_location *b)
{
    return a->segment == b->segment && a->offset == b->offset && a->bytes == b->bytes;
}

/* What a batch did. */
struct outcome {
    uint64_t promoted_keys;
    uint64_t promoted_bytes;
    uint64_t refused_keys;
};

static int offer_write(struct warm_write *write, const struct mover_offer *offer,
                       uint64_t *promote_us, struct outcome *outcome)
{
    const struct tiers_record *record = offer->record;
    const void *key = tiers_record_key(record);
    struct warm_item item;
    int error = warm_write_get(write, record->space, key, record->key_len, &item);
    if (error == TIERS_NOT_FOUND) {
        return 0;
    }
    if (error || !item.cold || item.meta.mod_revision != tiers_record_meta(record)->mod_revision ||
        !location_equals(&item.location, &offer->location)) {
        return error;
    }
    uint64_t cost_us = controller_promotion_us(record->value_len);
    if (cost_us > *promote_us) {
        outcome->refused_keys++;
        return 0;
    }
    *promote_us -= cost_us;
    error =
        warm_put_inline(write, record->space, key, record->key_len, tiers_record_meta(record),
                        tiers_record_digest(record), tiers_record_value(record), record->value_len);
    if (error == 0) {
        outcome->promoted_keys++;
        outcome->promoted_bytes += record->value_len;
    }
    return error;
}

static int offers_write(struct mover *mover, const struct mover_offer *offers, size_t n)
{
    struct warm_write *write = NULL;
    struct outcome outcome = {0};
    struct engine_counters *counters = &mover->tiers->counters;
    int error = warm_write_begin(mover->tiers->warm, &write);
    if (error) {
        return error;
    }
    for (size_t i = 0; i < n && error == 0; i++) {
        error = offer_write(write, &offers[i], &mover->control.promote_us, &outcome);
    }
    engine_count(&counters->promotions_refused, outcome.refused_keys);
    if (error || outcome.promoted_keys == 0) {
        warm_write_abort(write);
        return error;
    }
    error = warm_write_commit(write);
    if (error == 0) {
        engine_count(&counters->promoted_warm_keys, outcome.promoted_keys);
        engine_count(&counters->promoted_warm_bytes, outcome.promoted_bytes);
    }
    return error;
}

void mover_promote_batch(struct mover *mover)
{
    struct mover_offer *offers = malloc(sizeof mover->offers);
    if (offers == NULL) {
        return;
    }
    pthread_mutex_lock(&mover->mutex);
    size_t n = mover->n_offers;
    memcpy(offers, mover->offers, n * sizeof *offers);
    mover->n_offers = 0;
    mover->offers_bytes = 0;
    pthread_mutex_unlock(&mover->mutex);

    int error = 0;
    if (mover->demotion.exhausted_bytes != 0) {
        engine_count(&mover->tiers->counters.promotions_refused, n);
    } else {
        error = offers_write(mover, offers, n);
    }
    if (error) {
        mover_warm_failed(mover, error, "values could not be promoted");
    }
    for (size_t i = 0; i < n; i++) {
        tiers_record_release(offers[i].record);
    }
    free(offers);
}
