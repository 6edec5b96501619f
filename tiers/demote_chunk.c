/* Demotion of one chunk: see demote_chunk.h.
 *
 * The snapshot is held from collecting to pointing: keys and values of the candidates lie in it. */
#include "demote_chunk.h"
#include "prefetch.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Items whose heat is looked up together. */
#define RANKED_AT_ONCE 16

/* Values are asked of memory so many before they are copied. */
#define VALUES_AHEAD 3

/* The same, of items that are taken out of their pages. */
#define ITEMS_AHEAD 6

/* After every APPENDED_AT_ONCE items that were appended or stay, COLLECTED_AT_ONCE of the next
 * chunk are looked at, so that both are done at about the same time: a quarter of the looking is
 * left for when the disk takes the last of what was appended. Smaller parts cost more than they
 * bring, since the processor's cache has another thing to do each time. */
#define COLLECTED_AT_ONCE (8 * RANKED_AT_ONCE)
#define APPENDED_AT_ONCE  (11 * RANKED_AT_ONCE)

/* About the largest value that lies in a leaf page. */
#define LEAF_VALUE_MAX 2048

/* Repacking pays when this share of the chunk's bytes has gone. */
#define REPACK_SHARE 4

struct demote_chunk *demote_chunk_open(struct mover *mover)
{
    struct demote_chunk *chunk = calloc(1, sizeof *chunk);
    if (chunk == NULL) {
        return NULL;
    }
    chunk->mover = mover;
    chunk->candidates = malloc(MOVER_BATCH_ITEMS_MAX * sizeof *chunk->candidates);
    if (chunk->candidates == NULL || warm_read_open(mover->tiers->warm, &chunk->read) != 0) {
        free(chunk->candidates);
        free(chunk);
        return NULL;
    }
    return chunk;
}

static void snapshot_end(struct demote_chunk *chunk)
{
    if (chunk->reading) {
        warm_read_end(chunk->read);
        chunk->reading = false;
    }
}

void demote_chunk_close(struct demote_chunk *chunk)
{
    if (chunk == NULL) {
        return;
    }
    snapshot_end(chunk);
    warm_read_close(chunk->read);
    free(chunk->candidates);
    free(chunk);
}

/* ---- Preparing ---- */

/* The candidates [from, chunk->n) are new: their ranks, into the histogram too. */
static void candidates_rank(struct demote_chunk *chunk, size_t from, const uint64_t *hashes)
{
    struct mover_demotion *demotion = &chunk->mover->demotion;
    for (size_t i = from; i < chunk->n; i++) {
        struct demote_candidate *candidate = &chunk->candidates[i];
        if (!candidate->item.cold) {
            unsigned heat = heat_estimate(chunk->mover->tiers->heat, hashes[i - from]);
            candidate->rank = controller_rank(heat, candidate->item.value_len);
            controller_histogram_add(&demotion->histogram, candidate->rank, candidate->room);
        }
    }
}

/* Whether a decision lets a chunk take no more items. */
static bool is_full(size_t n, uint64_t bytes, uint64_t room,
                    const struct controller_decision *decision)
{
    return n == MOVER_BATCH_ITEMS_MAX || bytes >= decision->demote_chunk_bytes ||
           room >= decision->demote_room_bytes;
}

/* Takes up to RANKED_AT_ONCE further items, whose heat is announced before it is asked for.
 * TIERS_NOT_FOUND: there are no more; those before are taken. */
static int candidates_take(struct demote_chunk *chunk)
{
    const struct mover_demotion *demotion = &chunk->mover->demotion;
    uint64_t hashes[RANKED_AT_ONCE] = {0};
    size_t from = chunk->n;
    int error = 0;
    while (chunk->n - from < RANKED_AT_ONCE &&
           !is_full(chunk->n, chunk->bytes, chunk->room, &demotion->decision)) {
        struct demote_candidate *candidate = &chunk->candidates[chunk->n];
        const struct demote_candidate *before = chunk->n > 0 ? candidate - 1 : NULL;
        const void *after = demotion->hand_len > 0 ? demotion->hand : NULL;
        error = warm_next(chunk->read, TIERS_SPACE_USER, before != NULL ? before->key : after,
                          before != NULL ? before->key_len : demotion->hand_len, &candidate->key,
                          &candidate->key_len, &candidate->item);
        if (error) {
            break;
        }
        candidate->chosen = false;
        if (!candidate->item.cold) {
            uint64_t hash = record_key_hash(TIERS_SPACE_USER, candidate->key, candidate->key_len);
            heat_prefetch(chunk->mover->tiers->heat, hash);
            hashes[chunk->n - from] = hash;
            candidate->room =
                warm_item_bytes(chunk->mover->tiers->warm, candidate->key_len, &candidate->item);
            chunk->bytes += candidate->item.value_len;
            chunk->room += candidate->room;
        }
        chunk->n++;
    }
    candidates_rank(chunk, from, hashes);
    return error;
}

static void decide(const struct demote_chunk *chunk)
{
    struct mover *mover = chunk->mover;
    struct warm_usage usage;
    warm_usage(mover->tiers->warm, &usage);
    uint64_t budget = mover_warm_budget(mover);
    uint64_t leaving = chunk->leaving_bytes < usage.used_bytes ? chunk->leaving_bytes : 0;
    struct controller_input input = {
        .warm_used_bytes = usage.used_bytes - leaving,
        .warm_budget_bytes = budget,
        .warm_free_bytes = usage.map_bytes - usage.used_bytes,
        .histogram = mover->demotion.histogram,
        .rounds_in_vain = mover->demotion.rounds_in_vain,
        .sparse = mover->demotion.sparse,
        .bytes_per_second_max = mover_cold_hurries(usage.used_bytes, budget)
                                    ? 0
                                    : mover->write_rate.bytes_per_second_max,
    };
    controller_decide(&input, &mover->demotion.decision);
}

static void chunk_reset(struct demote_chunk *chunk, uint64_t leaving_bytes)
{
    const struct mover_demotion *demotion = &chunk->mover->demotion;
    snapshot_end(chunk);
    chunk->leaving_bytes = leaving_bytes;
    chunk->n = 0;
    chunk->bytes = 0;
    chunk->room = 0;
    chunk->chosen_keys = 0;
    chunk->chosen_bytes = 0;
    chunk->chosen_room = 0;
    chunk->can_leave = 0;
    chunk->leaf_bytes = 0;
    chunk->last = false;
    chunk->n_touched = 0;
    memcpy(chunk->hand_before, demotion->hand, demotion->hand_len);
    chunk->hand_before_len = demotion->hand_len;
}

/* The chunk begins behind the hand, with a snapshot of its own. */
static void collect_begin(struct demote_chunk *chunk, uint64_t leaving_bytes)
{
    chunk->histogram_before = chunk->mover->demotion.histogram;
    chunk->decision_before = chunk->mover->demotion.decision;
    chunk_reset(chunk, leaving_bytes);
    decide(chunk);
    controller_histogram_halve(&chunk->mover->demotion.histogram);
    chunk->step = DEMOTE_LOOK_UP;
    chunk->error = warm_read_begin(chunk->read);
    chunk->reading = chunk->error == 0;
}

/* Takes items until there are `n_max`, or the chunk is full, at the end of the keys, or has failed.
 */
static void collect_up_to(struct demote_chunk *chunk, size_t n_max)
{
    const struct controller_decision *decision = &chunk->mover->demotion.decision;
    while (chunk->error == 0 && !chunk->last && chunk->n < n_max &&
           !is_full(chunk->n, chunk->bytes, chunk->room, decision)) {
        int error = candidates_take(chunk);
        chunk->last = error == TIERS_NOT_FOUND;
        chunk->error = chunk->last ? 0 : error;
    }
}

/* What the chunk leaves behind, this candidate included. */
static void remainder_add(struct demote_chunk *chunk, const struct demote_candidate *candidate)
{
    struct warm_item item = candidate->item;
    if (candidate->chosen) {
        item.cold = true;
        item.location = candidate->location;
    }
    chunk->can_leave += !item.cold && controller_value_can_leave(item.value_len);
    chunk->leaf_bytes += warm_leaf_bytes(chunk->mover->tiers->warm, candidate->key_len, &item);
}

static bool is_cold_enough(const struct demote_chunk *chunk,
                           const struct demote_candidate *candidate)
{
    const struct controller_decision *decision = &chunk->decision;
    return !candidate->item.cold && candidate->rank <= decision->demote_heat_max &&
           candidate->item.value_len >= decision->demote_value_len_min;
}

/* Appends what is cold enough. When the cold tier asks for a sync the chunk ends there. Meanwhile
 * most of `ahead`, unless that is NULL, is collected: what is appended comes at a pace that the
 * disk can keep up with, and it is not without work while the next chunk is looked for. */
static int chunk_append(struct demote_chunk *chunk, struct demote_chunk *ahead)
{
    struct cold *cold = chunk->mover->tiers->cold;
    for (size_t i = 0; i < chunk->n; i++) {
        if (ahead != NULL && i % APPENDED_AT_ONCE == APPENDED_AT_ONCE - 1) {
            collect_up_to(ahead, ahead->n + COLLECTED_AT_ONCE);
        }
        struct demote_candidate *candidate = &chunk->candidates[i];
        const struct warm_item *item = &candidate->item;
        if (i + VALUES_AHEAD < chunk->n &&
            is_cold_enough(chunk, &chunk->candidates[i + VALUES_AHEAD])) {
            const struct warm_item *soon = &chunk->candidates[i + VALUES_AHEAD].item;
            prefetch_bytes(soon->value, soon->value_len);
        }
        if (!is_cold_enough(chunk, candidate)) {
            remainder_add(chunk, candidate);
            continue;
        }
        int error = cold_append(cold, TIERS_SPACE_USER, candidate->key, candidate->key_len,
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
        remainder_add(chunk, candidate);
        chunk->chosen_keys++;
        chunk->chosen_bytes += item->value_len;
        chunk->chosen_room += candidate->room;
    }
    return 0;
}

/* The hand stands behind the chunk now. */
static void hand_move(const struct demote_chunk *chunk)
{
    struct mover_demotion *demotion = &chunk->mover->demotion;
    if (chunk->n > 0) {
        const struct demote_candidate *last = &chunk->candidates[chunk->n - 1];
        assert(last->key_len <= TIERS_KEY_BYTES_MAX);
        memcpy(demotion->hand, last->key, last->key_len);
        demotion->hand_len = last->key_len;
    }
}

void demote_chunk_drop(struct demote_chunk *chunk)
{
    if (chunk != NULL && chunk->collected) {
        chunk->mover->demotion.histogram = chunk->histogram_before;
        chunk->mover->demotion.decision = chunk->decision_before;
        chunk->collected = false;
        snapshot_end(chunk);
    }
}

/* What was collected ahead was too much if little has to leave by now. */
static void chunk_cut(struct demote_chunk *chunk)
{
    uint64_t bytes = 0;
    uint64_t room = 0;
    size_t n = 0;
    while (n < chunk->n && !is_full(n, bytes, room, &chunk->decision)) {
        const struct demote_candidate *candidate = &chunk->candidates[n++];
        if (!candidate->item.cold) {
            bytes += candidate->item.value_len;
            room += candidate->room;
        }
    }
    if (n < chunk->n) {
        chunk->n = n;
        chunk->bytes = bytes;
        chunk->room = room;
        chunk->last = false;
    }
}

/* Appends the chunk; what comes behind it is collected into `ahead`, unless that is NULL. */
static void append_and_collect(struct demote_chunk *chunk, struct demote_chunk *ahead)
{
    size_t n = chunk->n;
    hand_move(chunk);
    if (ahead != NULL) {
        /* How much of it has to leave is known when it is prepared. */
        collect_begin(ahead, 0);
        ahead->collected = true;
    }
    chunk->step = DEMOTE_APPEND;
    chunk->error = chunk_append(chunk, ahead);
    if (chunk->error == 0 && chunk->n < n) {
        demote_chunk_drop(ahead);
        hand_move(chunk);
    } else if (chunk->error == 0 && ahead != NULL) {
        cold_flush(chunk->mover->tiers->cold);
        collect_up_to(ahead, SIZE_MAX);
    }
}

void demote_chunk_prepare(struct demote_chunk *chunk, struct demote_chunk *ahead,
                          uint64_t leaving_bytes)
{
    struct cold *cold = chunk->mover->tiers->cold;
    if (!chunk->collected) {
        collect_begin(chunk, leaving_bytes);
        collect_up_to(chunk, SIZE_MAX);
    }
    chunk->collected = false;
    chunk->leaving_bytes = leaving_bytes;
    if (chunk->error == 0) {
        /* With this chunk's heat in the histogram, the first of all included. */
        decide(chunk);
        chunk->decision = chunk->mover->demotion.decision;
        chunk_cut(chunk);
        append_and_collect(chunk, chunk->last ? NULL : ahead);
    }
    if (chunk->error == 0 && chunk->chosen_keys > 0) {
        chunk->step = DEMOTE_SYNC;
        chunk->n_touched = COLD_TOUCHED_MAX;
        chunk->error = cold_sync(cold, chunk->touched, &chunk->n_touched);
    }
    if (chunk->error) {
        chunk->n_touched = 0;
    }
    chunk->appended_bytes = cold_appended_bytes(cold);
}

/* ---- Pointing ---- */

/* Whether the item, looked at again in the transaction that changes it, is what was appended. */
static bool is_unchanged(const struct demote_candidate *candidate, const struct warm_item *now)
{
    return !now->cold && now->meta.mod_revision == candidate->item.meta.mod_revision &&
           now->digest == candidate->item.digest;
}

static int candidate_point(struct warm_write *write, const struct demote_candidate *candidate)
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
static int candidates_point(struct warm_write *write, const struct demote_chunk *chunk)
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
    const struct demote_chunk *chunk;
    size_t next; /* Candidate; they are in key order, as the items come */
};

static int keys_compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

/* Its page is about to be copied. A large value lies on pages of its own, which stay. */
static void item_prefetch(const struct demote_candidate *candidate)
{
    const struct warm_item *item = &candidate->item;
    bool in_leaf = !item->cold && item->value_len <= LEAF_VALUE_MAX;
    prefetch_bytes(candidate->key, candidate->key_len + (in_leaf ? item->value_len : 0));
}

/* As warm_repack_change. */
static bool item_point(void *context, const struct warm_stored *stored, struct warm_item *ret_item)
{
    struct pointing *pointing = context;
    const struct demote_chunk *chunk = pointing->chunk;
    int order = 1;
    if (pointing->next + ITEMS_AHEAD < chunk->n) {
        item_prefetch(&chunk->candidates[pointing->next + ITEMS_AHEAD]);
    }
    while (pointing->next < chunk->n) {
        const struct demote_candidate *candidate = &chunk->candidates[pointing->next];
        order = keys_compare(candidate->key, candidate->key_len, stored->key, stored->key_len);
        if (order >= 0) {
            break;
        }
        pointing->next++;
    }
    if (order != 0) {
        return false;
    }
    const struct demote_candidate *candidate = &chunk->candidates[pointing->next++];
    if (!candidate->chosen || !warm_stored_is(stored, &candidate->item)) {
        return false;
    }
    *ret_item = candidate->item;
    ret_item->cold = true;
    ret_item->value = NULL;
    ret_item->location = candidate->location;
    return true;
}

int demote_chunk_point(const struct demote_chunk *chunk)
{
    struct mover *mover = chunk->mover;
    struct warm_write *write = NULL;
    int error = warm_write_begin(mover->tiers->warm, &write);
    if (error) {
        return error;
    }
    if (chunk->decision.repack_always || chunk->chosen_bytes * REPACK_SHARE >= chunk->bytes) {
        const struct demote_candidate *first = &chunk->candidates[0];
        const struct demote_candidate *last = &chunk->candidates[chunk->n - 1];
        struct pointing pointing = {.chunk = chunk};
        error = warm_repack(write, TIERS_SPACE_USER, first->key, first->key_len, last->key,
                            last->key_len, item_point, &pointing);
    } else {
        error = candidates_point(write, chunk);
    }
    return mover_cold_commit(mover, write, error);
}

void demote_chunk_note(const struct demote_chunk *chunk)
{
    struct mover_demotion *demotion = &chunk->mover->demotion;
    demotion->round_keys += chunk->chosen_keys;
    demotion->round_can_leave += chunk->can_leave;
    demotion->round_leaf_bytes += chunk->leaf_bytes;
}
