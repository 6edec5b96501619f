/* Demotion: the coldest values move from warm to cold while the warm tier is over its budget. Mover
 * thread, and a second one while there is much to do.
 *
 * A hand goes round the user keys in key order. For each chunk it passes: sample the heat of its
 * items, let the controller name the threshold, append the values at or below it to the cold tier,
 * sync, and only then turn them into pointers in one warm transaction, which looks at each item
 * once more: another revision, or a value that is no longer inline, is left alone and the record
 * appended for it is dead from birth. The hot tier's copies stay.
 *
 * In a hurry the next chunks are prepared by a thread of its own while this one's pointers are
 * made. That thread is waited for before anything else happens here: compaction must not meet
 * records that nothing points to yet.
 *
 * LMDB gives pages back only when items are deleted, so that a chunk of which a good part was taken
 * is packed anew.
 *
 * Failures: without space on either disk the work pauses (mover_cold.c). When a whole round brings
 * nothing more (the index alone is over the budget, and its pages are not half empty) it stops
 * until the warm tier has grown. */
#include "demote_chunk.h"
#include "producer.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* So many may be prepared before they are pointed: a chunk that takes longer than others to
 * prepare, or to point, holds nobody up. */
#define CHUNKS_AHEAD 2

/* Besides them one that is pointed, and one that is collected ahead. */
#define CHUNKS_AT_ONCE (CHUNKS_AHEAD + 2)

/* Chunks in a row before other work gets its turn, and before a flush that is due does. */
#define CHUNKS_MAX       40
#define CHUNKS_FLUSH_MAX 3

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

static void round_end(struct mover *mover, const struct demote_chunk *chunk)
{
    struct mover_demotion *demotion = &mover->demotion;
    struct warm_usage usage;
    warm_usage(mover->tiers->warm, &usage);
    demotion->hand_len = 0;
    /* What this round has packed will not be packed better by the next. */
    demotion->sparse = !chunk->decision.repack_always &&
                       controller_pages_sparse(demotion->round_leaf_bytes, usage.user_leaf_bytes);
    bool all_tried = demotion->round_can_leave == 0 || controller_exhausted(&chunk->decision);
    if (demotion->round_keys == 0 && all_tried && !demotion->sparse) {
        demotion->exhausted_bytes = usage.used_bytes;
        engine_event(mover->tiers, TIERS_EVENT_WARNING, "warm_over_budget",
                     "the index alone takes %llu bytes of warm_bytes; all values are cold",
                     (unsigned long long)usage.used_bytes);
    }
    demotion->rounds_in_vain++;
    demotion->round_keys = 0;
    demotion->round_leaf_bytes = 0;
    demotion->round_can_leave = 0;
}

static void prepare_failed(struct mover *mover, const struct demote_chunk *chunk)
{
    if (chunk->step == DEMOTE_LOOK_UP) {
        mover_warm_failed(mover, chunk->error, "values could not be looked up to be demoted");
    } else if (chunk->step == DEMOTE_APPEND) {
        mover_cold_failed(mover, chunk->error, "values could not be demoted", false);
    } else {
        mover_cold_failed(mover, chunk->error, "demoted values could not be made durable", true);
    }
}

/* The other half of a prepared chunk. False on failure. */
static bool chunk_finish(struct mover *mover, const struct demote_chunk *chunk)
{
    mover_cold_synced(mover, chunk->touched, chunk->n_touched, chunk->appended_bytes);
    if (chunk->error) {
        prepare_failed(mover, chunk);
        return false;
    }
    if (chunk->chosen_keys > 0 || (chunk->decision.repack_always && chunk->n > 0)) {
        int error = demote_chunk_point(chunk);
        mover->one_by_one = error != 0;
        if (error) {
            mover_warm_failed(mover, error, "demoted values could not be indexed");
            return false;
        }
    }
    if (chunk->chosen_keys > 0) {
        mover->demotion.in_window = true;
    }
    engine_count(&mover->tiers->counters.demoted_keys, chunk->chosen_keys);
    engine_count(&mover->tiers->counters.demoted_bytes, chunk->chosen_bytes);
    demote_chunk_note(chunk);
    if (chunk->last) {
        round_end(mover, chunk);
    }
    return true;
}

/* ---- One after the other, or some at once ---- */

/* Chunks that follow each other without a pause. The n-th, from 0, lies in chunks[n modulo their
 * number]. */
struct run {
    struct mover *mover;
    struct demote_chunk *const *chunks;
    _Atomic unsigned n_pointed;
    unsigned n_wanted;
    struct producer producer;
};

static struct demote_chunk *chunk_at(const struct run *run, unsigned n)
{
    return run->chunks[n % CHUNKS_AT_ONCE];
}

/* Where the n-th chunk may be collected ahead. NULL: it will not follow. */
static struct demote_chunk *chunk_ahead(const struct run *run, unsigned n)
{
    return n < CHUNKS_MAX ? chunk_at(run, n) : NULL;
}

/* As producer_make. */
static bool chunk_make(void *context, unsigned n)
{
    struct run *run = context;
    struct demote_chunk *chunk = chunk_at(run, n);
    uint64_t leaving_bytes = 0;
    for (unsigned i = atomic_load(&run->n_pointed); i < n; i++) {
        leaving_bytes += chunk_at(run, i)->chosen_room;
    }
    demote_chunk_prepare(chunk, chunk_ahead(run, n + 1), leaving_bytes);
    return chunk->error == 0 && !chunk->last;
}

/* Whether the n-th chunk is to follow the one that is to be pointed now, if those between them, and
 * that one, give back as much as it. */
static bool is_wanted(const struct run *run, const struct demote_chunk *current, unsigned n)
{
    struct mover *mover = run->mover;
    struct warm_usage usage;
    uint64_t budget = mover_warm_budget(mover);
    uint64_t leaving_bytes = (n - atomic_load(&run->n_pointed)) * current->chosen_room;
    warm_usage(mover->tiers->warm, &usage);
    return n < CHUNKS_MAX && !mover_is_called(mover) &&
           (n < CHUNKS_FLUSH_MAX || !mover_flush_due(mover)) &&
           mover_cold_hurries(usage.used_bytes, budget + leaving_bytes);
}

/* Has the chunks prepared that are to follow the n-th, which is to be pointed now. */
static void next_allow(struct run *run, const struct demote_chunk *current, unsigned n)
{
    if (current->error == 0 && !current->last) {
        while (run->n_wanted <= n + CHUNKS_AHEAD && is_wanted(run, current, run->n_wanted)) {
            run->n_wanted++;
        }
        producer_allow(&run->producer, run->n_wanted);
    }
}

static void hand_return(struct mover *mover, const struct demote_chunk *chunk)
{
    struct mover_demotion *demotion = &mover->demotion;
    memcpy(demotion->hand, chunk->hand_before, chunk->hand_before_len);
    demotion->hand_len = chunk->hand_before_len;
}

/* The producer has stopped: what became of chunk `n`, and of those behind it, which nothing is
 * going to point to. */
static void run_end(const struct run *run, unsigned n, unsigned n_prepared, bool finished)
{
    for (unsigned i = n + 1; i < n_prepared; i++) {
        const struct demote_chunk *chunk = chunk_at(run, i);
        mover_cold_synced(run->mover, chunk->touched, chunk->n_touched, chunk->appended_bytes);
        if (chunk->error) {
            prepare_failed(run->mover, chunk);
        }
    }
    if (!finished) {
        hand_return(run->mover, chunk_at(run, n));
    }
    for (unsigned i = 0; i < CHUNKS_AT_ONCE; i++) {
        demote_chunk_drop(run->chunks[i]);
    }
}

/* As many chunks as may follow each other. Their number. */
static unsigned chunks_move(struct mover *mover, struct demote_chunk *const chunks[CHUNKS_AT_ONCE])
{
    struct run run = {.mover = mover, .chunks = chunks, .n_wanted = 1};
    struct warm_usage usage;
    bool several = mover->threaded && !mover->one_by_one && chunks[CHUNKS_AT_ONCE - 1] != NULL;
    warm_usage(mover->tiers->warm, &usage);
    bool hurries = several && mover_cold_hurries(usage.used_bytes, mover_warm_budget(mover));
    demote_chunk_prepare(chunks[0], hurries ? chunk_ahead(&run, 1) : NULL, 0);
    producer_init(&run.producer, chunk_make, &run, 1);
    bool finished = false;
    unsigned n = 0;
    do {
        const struct demote_chunk *current = chunk_at(&run, n);
        if (several) {
            next_allow(&run, current, n);
        }
        finished = chunk_finish(mover, current);
        atomic_store(&run.n_pointed, ++n);
    } while (finished && producer_await(&run.producer, n));
    unsigned n_prepared = producer_stop(&run.producer);
    run_end(&run, n - 1, n_prepared, finished);
    return n_prepared;
}

unsigned mover_demote(struct mover *mover)
{
    /* Without one of the others, chunks come one by one. */
    struct demote_chunk *chunks[CHUNKS_AT_ONCE] = {demote_chunk_open(mover)};
    bool more = mover->threaded && chunks[0] != NULL;
    for (unsigned i = 1; i < CHUNKS_AT_ONCE && more; i++) {
        chunks[i] = demote_chunk_open(mover);
        more = chunks[i] != NULL;
    }
    unsigned n = 1;
    if (chunks[0] != NULL) {
        n = chunks_move(mover, chunks);
    } else {
        mover_warm_failed(mover, TIERS_NO_MEMORY, "values could not be demoted");
    }
    for (unsigned i = 0; i < CHUNKS_AT_ONCE; i++) {
        demote_chunk_close(chunks[i]);
    }
    return n;
}
