/* Demotion: the coldest values move from warm to cold while the warm tier is over its budget. Mover
 * thread.
 *
 * A hand goes round the user keys in key order. For each chunk it passes: sample the heat of its
 * items, let the controller name the threshold, append the values at or below it to the cold tier,
 * sync, and only then turn them into pointers in one warm transaction, which looks at each item
 * once more: another revision, or a value that is no longer inline, is left alone and the record
 * appended for it is dead from birth. The hot tier's copies stay.
 *
 * LMDB gives pages back only when items are deleted, so that a chunk of which a good part was taken
 * is packed anew.
 *
 * Failures: without space on either disk the work pauses (mover_cold.c). When a whole round brings
 * nothing more (the index alone is over the budget) it stops until the warm tier has grown. */
#include "mover_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Repacking pays when this share of the chunk's bytes has gone. */
#define REPACK_SHARE 4

/* An item under the hand. The pointers lead into the snapshot, which is held until the end. */
struct candidate {
    const void *key;
    size_t key_len;
    struct warm_item item;
    unsigned rank; /* Heat less the size's share */
    bool chosen;
    struct cold_location location;
};

struct chunk {
    struct candidate *candidates;
    size_t n;
    uint64_t bytes; /* Of inline values */
    uint64_t chosen_keys;
    uint64_t chosen_bytes;
    bool last; /* The hand is at the end of the keys */
};

uint64_t mover_warm_budget(struct mover *mover)
{
    struct warm_usage usage;
    warm_usage(mover->tiers->warm, &usage);
    /* A file that cannot grow needs room for the transactions that empty it. */
    uint64_t limit = usage.map_bytes / 2;
    return mover->tiers->options.warm_bytes < limit ? mover->tiers->options.warm_bytes : limit;
}

bool mover_demote_due(struct mover *mover)
{
    struct mover_demotion *demotion = &mover->demotion;
    struct warm_usage usage;
    uint64_t budget = mover_warm_budget(mover);
    if (engine_now_ms(mover->tiers) < mover->cold_retry_ms) {
        return false;
    }
    warm_usage(mover->tiers->warm, &usage);
    if (usage.used_bytes > budget) {
        demotion->active = true;
    }
    if (controller_excess_bytes(usage.used_bytes, budget) == 0) {
        demotion->active = false;
        demotion->rounds_in_vain = 0;
        demotion->exhausted_bytes = 0;
    }
    if (demotion->exhausted_bytes != 0) {
        if (usage.used_bytes <= demotion->exhausted_bytes + budget / 16) {
            return false;
        }
        demotion->exhausted_bytes = 0;
        demotion->rounds_in_vain = 0;
    }
    return demotion->active;
}

/* ---- One chunk ---- */

static int chunk_collect(struct mover *mover, struct chunk *chunk)
{
    struct mover_demotion *demotion = &mover->demotion;
    const void *after = demotion->hand_len > 0 ? demotion->hand : NULL;
    size_t after_len = demotion->hand_len;
    uint64_t bytes_max = demotion->decision.demote_chunk_bytes;
    while (chunk->n < MOVER_BATCH_ITEMS_MAX && chunk->bytes < bytes_max) {
        struct candidate *candidate = &chunk->candidates[chunk->n];
        int error = warm_next(mover->read, TIERS_SPACE_USER, after, after_len, &candidate->key,
                              &candidate->key_len, &candidate->item);
        if (error == TIERS_NOT_FOUND) {
            chunk->last = true;
            break;
        }
        if (error) {
            return error;
        }
        after = candidate->key;
        after_len = candidate->key_len;
        candidate->chosen = false;
        if (!candidate->item.cold) {
            unsigned heat =
                heat_estimate(mover->tiers->heat, record_key_hash(TIERS_SPACE_USER, candidate->key,
                                                                  candidate->key_len));
            candidate->rank = controller_rank(heat, candidate->item.value_len);
            controller_histogram_add(&demotion->histogram, candidate->rank,
                                     candidate->item.value_len);
            chunk->bytes += candidate->item.value_len;
        }
        chunk->n++;
    }
    return 0;
}

static void decide(struct mover *mover)
{
    struct warm_usage usage;
    warm_usage(mover->tiers->warm, &usage);
    struct controller_input input = {
        .warm_used_bytes = usage.used_bytes,
        .warm_budget_bytes = mover_warm_budget(mover),
        .warm_free_bytes = usage.map_bytes - usage.used_bytes,
        .histogram = mover->demotion.histogram,
        .rounds_in_vain = mover->demotion.rounds_in_vain,
    };
    controller_decide(&input, &mover->demotion.decision);
}

/* Appends what is cold enough. When the cold tier asks for a sync the chunk ends there. */
static int chunk_append(struct mover *mover, struct chunk *chunk)
{
    const struct controller_decision *decision = &mover->demotion.decision;
    for (size_t i = 0; i < chunk->n; i++) {
        struct candidate *candidate = &chunk->candidates[i];
        const struct warm_item *item = &candidate->item;
        if (item->cold || candidate->rank > decision->demote_heat_max ||
            item->value_len < decision->demote_value_len_min) {
            continue;
        }
        int error =
            cold_append(mover->tiers->cold, TIERS_SPACE_USER, candidate->key, candidate->key_len,
                        &item->meta, item->value, item->value_len, &candidate->location);
        if (error == TIERS_BUSY && i > 0) {
            chunk->n = i;
            chunk->last = false;
            return 0;
        }
        if (error) {
            return error;
        }
        candidate->chosen = true;
        chunk->chosen_keys++;
        chunk->chosen_bytes += item->value_len;
    }
    return 0;
}

/* Whether the item, looked at again in the transaction that changes it, is what was appended. */
static bool is_unchanged(const struct candidate *candidate, const struct warm_item *now)
{
    return !now->cold && now->meta.mod_revision == candidate->item.meta.mod_revision &&
           now->digest == candidate->item.digest;
}

static int candidate_point(struct warm_write *write, const struct candidate *candidate)
{
    struct warm_item now;
    int error = warm_write_get(write, TIERS_SPACE_USER, candidate->key, candidate->key_len, &now);
    if (error == TIERS_NOT_FOUND) {
        return 0;
    }
    if (error || !is_unchanged(candidate, &now)) {
        return error;
    }
    return warm_put_cold(write, TIERS_SPACE_USER, candidate->key, candidate->key_len, &now.meta,
                         now.digest, now.value_len, &candidate->location);
}

/* One by one. */
static int candidates_point(struct warm_write *write, const struct chunk *chunk)
{
    int error = 0;
    for (size_t i = 0; i < chunk->n && error == 0; i++) {
        if (chunk->candidates[i].chosen) {
            error = candidate_point(write, &chunk->candidates[i]);
        }
    }
    return error;
}

struct pointing {
    const struct chunk *chunk;
    size_t next; /* Candidate; they are in key order, as the items come */
};

static int keys_compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

/* As warm_repack_change. */
static bool item_point(void *context, const void *key, size_t key_len, const struct warm_item *item,
                       struct warm_item *ret_item)
{
    struct pointing *pointing = context;
    const struct chunk *chunk = pointing->chunk;
    int order = 1;
    while (pointing->next < chunk->n) {
        const struct candidate *candidate = &chunk->candidates[pointing->next];
        order = keys_compare(candidate->key, candidate->key_len, key, key_len);
        if (order >= 0) {
            break;
        }
        pointing->next++;
    }
    if (order != 0) {
        return false;
    }
    const struct candidate *candidate = &chunk->candidates[pointing->next++];
    if (!candidate->chosen || !is_unchanged(candidate, item)) {
        return false;
    }
    *ret_item = *item;
    ret_item->cold = true;
    ret_item->value = NULL;
    ret_item->location = candidate->location;
    return true;
}

static int chunk_point(struct mover *mover, const struct chunk *chunk)
{
    struct warm_write *write = NULL;
    int error = warm_write_begin(mover->tiers->warm, &write);
    if (error) {
        return error;
    }
    if (mover->demotion.decision.repack_always ||
        chunk->chosen_bytes * REPACK_SHARE >= chunk->bytes) {
        const struct candidate *first = &chunk->candidates[0];
        const struct candidate *last = &chunk->candidates[chunk->n - 1];
        struct pointing pointing = {.chunk = chunk};
        error = warm_repack(write, TIERS_SPACE_USER, first->key, first->key_len, last->key,
                            last->key_len, item_point, &pointing);
    } else {
        error = candidates_point(write, chunk);
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

/* Everything that was chosen reaches cold, then the index. False on failure. */
static bool chunk_move(struct mover *mover, struct chunk *chunk)
{
    int error = chunk_append(mover, chunk);
    if (error) {
        mover_cold_failed(mover, error, "values could not be demoted", false);
        return false;
    }
    if (chunk->chosen_keys > 0 && (error = mover_cold_sync(mover)) != 0) {
        mover_cold_failed(mover, error, "demoted values could not be made durable", true);
        return false;
    }
    if (chunk->chosen_keys == 0 && !mover->demotion.decision.repack_always) {
        return true;
    }
    error = chunk_point(mover, chunk);
    if (error) {
        mover_warm_failed(mover, error, "demoted values could not be indexed");
        return false;
    }
    if (chunk->chosen_keys > 0) {
        mover->demotion.in_window = true;
    }
    engine_count(&mover->tiers->counters.demoted_keys, chunk->chosen_keys);
    engine_count(&mover->tiers->counters.demoted_bytes, chunk->chosen_bytes);
    return true;
}

static void round_end(struct mover *mover)
{
    struct mover_demotion *demotion = &mover->demotion;
    struct warm_usage usage;
    warm_usage(mover->tiers->warm, &usage);
    demotion->hand_len = 0;
    if (demotion->round_keys == 0 && controller_exhausted(&demotion->decision)) {
        demotion->exhausted_bytes = usage.used_bytes;
        engine_event(mover->tiers, TIERS_EVENT_WARNING, "warm_over_budget",
                     "the index alone takes %llu bytes of warm_bytes; all values are cold",
                     (unsigned long long)usage.used_bytes);
    }
    demotion->rounds_in_vain++;
    demotion->round_keys = 0;
}

static void hand_move(struct mover *mover, const struct chunk *chunk)
{
    struct mover_demotion *demotion = &mover->demotion;
    demotion->round_keys += chunk->chosen_keys;
    if (chunk->n > 0) {
        const struct candidate *last = &chunk->candidates[chunk->n - 1];
        assert(last->key_len <= TIERS_KEY_BYTES_MAX);
        memcpy(demotion->hand, last->key, last->key_len);
        demotion->hand_len = last->key_len;
    }
    if (chunk->last) {
        round_end(mover);
    }
}

void mover_demote_chunk(struct mover *mover)
{
    struct chunk chunk = {0};
    chunk.candidates = malloc(MOVER_BATCH_ITEMS_MAX * sizeof *chunk.candidates);
    if (chunk.candidates == NULL) {
        mover_warm_failed(mover, TIERS_NO_MEMORY, "values could not be demoted");
        return;
    }
    decide(mover);
    controller_histogram_halve(&mover->demotion.histogram);
    int error = warm_read_begin(mover->read);
    if (error == 0) {
        error = chunk_collect(mover, &chunk);
        if (error == 0) {
            /* With this chunk's heat in the histogram, the first of all included. */
            decide(mover);
            if (chunk.n == 0 || chunk_move(mover, &chunk)) {
                hand_move(mover, &chunk);
            }
        }
        warm_read_end(mover->read);
    }
    if (error) {
        mover_warm_failed(mover, error, "values could not be looked up to be demoted");
    }
    free(chunk.candidates);
}
