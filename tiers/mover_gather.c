/* Which dirty generations one flush takes, and whether it is worth its while yet. Mover thread.
 *
 * A transaction costs a number of scattered writes to the disk and a sync, however little is in it.
 * So generations whose keys lie close together, as those that count upwards do, wait for more of
 * their kind; those whose keys are scattered already change all the pages that one transaction may
 * change, and go at once. Which of the two they are is told by a sample: how many neighbours in key
 * order lie on different pages of the index as it is.
 *
 * Failures: where the index cannot be read the keys count as scattered; the flush will tell. */
#include "mover_private.h"

#include "warm_extent.h"

/* Neighbours looked at in each generation. The number of pages is then mostly right to a tenth of
 * that of the keys. */
#define NEIGHBOURS 64

/* Of what one flush takes at most so much is enough to begin. */
#define ENOUGH_DIVISOR 2

/* Keys may come in groups of the same number: the sample must not keep step with them. */
static size_t scattered(size_t i)
{
    return (size_t)((i + 1) * UINT64_C(0x9E3779B97F4A7C15) >> 40);
}

/* How many pages of the index the generation changes, its own new ones included. */
static uint64_t pages_estimate(struct mover *mover, struct dirty_generation *generation)
{
    const struct warm *warm = mover->tiers->warm;
    size_t n = generation->n;
    size_t pairs = n - 1 < NEIGHBOURS ? n - 1 : NEIGHBOURS;
    size_t apart = 0;
    dirty_sort(generation);
    if (warm_read_begin(mover->read) != 0) {
        return n;
    }
    for (size_t i = 0; i < pairs; i++) {
        size_t from = i * (n - 1) / pairs;
        size_t to = (i + 1) * (n - 1) / pairs;
        size_t at = from + scattered(i) % (to - from);
        apart += !warm_same_page(mover->read, generation->records[at], generation->records[at + 1]);
    }
    warm_read_end(mover->read);
    uint64_t changed = pairs > 0 ? (n - 1) * apart / pairs : 0;
    return 1 + changed + generation->bytes / warm_page_bytes(warm);
}

/* Their links are set under the apply mutex only; they themselves are frozen, and the mover's. */
static size_t generations_oldest(struct tiers *tiers, size_t n_max,
                                 struct dirty_generation *generations[])
{
    size_t n = 0;
    pthread_mutex_lock(&tiers->apply_mutex);
    for (struct dirty_generation *generation = dirty_oldest(tiers->dirty);
         generation != NULL && n < n_max; generation = generation->next) {
        generations[n++] = generation;
    }
    pthread_mutex_unlock(&tiers->apply_mutex);
    return n;
}

void mover_gather(struct mover *mover, size_t n_max, struct mover_batch *ret_batch)
{
    uint64_t flush_bytes = mover->tiers->options.flush_bytes;
    struct mover_batch batch = {0};
    size_t n = generations_oldest(mover->tiers, n_max, batch.generations);
    for (; batch.n < n; batch.n++) {
        struct dirty_generation *generation = batch.generations[batch.n];
        if (generation->pages == 0 && generation->n > 0) {
            generation->pages = pages_estimate(mover, generation);
        }
        if (batch.n > 0 && (batch.charges + generation->bytes > flush_bytes ||
                            batch.pages + generation->pages > WARM_WRITE_KEYS_MAX)) {
            batch.full = true;
            break;
        }
        batch.charges += generation->bytes;
        batch.pages += generation->pages;
    }
    batch.full |= batch.n == MOVER_GENERATIONS_MAX ||
                  batch.charges >= flush_bytes / ENOUGH_DIVISOR ||
                  batch.pages >= WARM_WRITE_KEYS_MAX / ENOUGH_DIVISOR;
    *ret_batch = batch;
}

bool mover_gathered_enough(struct mover *mover)
{
    const struct tiers *tiers = mover->tiers;
    struct mover_batch batch;
    mover_gather(mover, MOVER_GENERATIONS_MAX, &batch);
    return batch.n > 0 &&
           (batch.full || atomic_load(&tiers->no_space) ||
            engine_now_ms(tiers) - batch.generations[0]->opened_ms >=
                tiers->options.flush_interval_ms ||
            dirty_bytes(tiers->dirty) >= tiers->options.dirty_bytes_max / ENOUGH_DIVISOR);
}
