/* See sampler.h. The ring is the bounded queue of D. Vyukov: each slot carries the number of the
 * turn at which it may be written or read next. A writer takes a turn by one compare-and-swap and
 * then owns the slot; the one reader sees slots only once they are complete. Any thread. */
#include "sampler.h"

#include <stdlib.h>

struct sampler *sampler_new(void)
{
    struct sampler *sampler = aligned_alloc(_Alignof(struct sampler), sizeof *sampler);

    if (sampler == NULL)
        return NULL;
    atomic_init(&sampler->threshold, 0);
    atomic_init(&sampler->tail, 0);
    atomic_init(&sampler->dropped, 0);
    sampler->head = 0;
    for (uint64_t i = 0; i < SAMPLER_SLOTS; i++)
        atomic_init(&sampler->slots[i].turn, i);
    for (size_t i = 0; i < SAMPLER_EXCLUDED_MAX; i++)
        atomic_init(&sampler->excluded[i], 0);
    return sampler;
}

void sampler_free(struct sampler *sampler)
{
    free(sampler);
}

static bool is_excluded(const struct sampler *sampler, uint64_t key_hash)
{
    for (size_t i = 0; i < SAMPLER_EXCLUDED_MAX; i++) {
        if (atomic_load_explicit(&sampler->excluded[i], memory_order_relaxed) == key_hash)
            return true;
    }
    return false;
}

void sampler_push(struct sampler *sampler, uint64_t key_hash, uint32_t size, enum sample_kind kind)
{
    if (is_excluded(sampler, key_hash))
        return;
    uint64_t tail = atomic_load_explicit(&sampler->tail, memory_order_relaxed);
    for (;;) {
        struct sampler_slot *slot = &sampler->slots[tail % SAMPLER_SLOTS];
        uint64_t turn = atomic_load_explicit(&slot->turn, memory_order_acquire);
        if (turn < tail) { /* Not read yet since the last time round */
            atomic_fetch_add_explicit(&sampler->dropped, 1, memory_order_relaxed);
            return;
        }
        if (turn == tail &&
            atomic_compare_exchange_weak_explicit(&sampler->tail, &tail, tail + 1,
                                                  memory_order_relaxed, memory_order_relaxed)) {
            slot->sample =
                (struct sample){.key_hash = key_hash, .size = size, .kind = (uint8_t)kind};
            atomic_store_explicit(&slot->turn, tail + 1, memory_order_release);
            return;
        }
        if (turn > tail)
            tail = atomic_load_explicit(&sampler->tail, memory_order_relaxed);
    }
}

size_t sampler_pop(struct sampler *sampler, struct sample *ret_samples, size_t n_max)
{
    size_t n = 0;

    for (; n < n_max; n++, sampler->head++) {
        struct sampler_slot *slot = &sampler->slots[sampler->head % SAMPLER_SLOTS];
        if (atomic_load_explicit(&slot->turn, memory_order_acquire) != sampler->head + 1)
            break;
        ret_samples[n] = slot->sample;
        atomic_store_explicit(&slot->turn, sampler->head + SAMPLER_SLOTS, memory_order_release);
    }
    return n;
}

void sampler_exclude(struct sampler *sampler, const uint64_t *key_hashes, size_t n)
{
    for (size_t i = 0; i < SAMPLER_EXCLUDED_MAX; i++)
        atomic_store_explicit(&sampler->excluded[i], i < n ? key_hashes[i] : 0,
                              memory_order_relaxed);
}

void sampler_threshold_set(struct sampler *sampler, uint64_t threshold)
{
    if (atomic_load_explicit(&sampler->threshold, memory_order_relaxed) != threshold)
        atomic_store_explicit(&sampler->threshold, threshold, memory_order_relaxed);
}

uint64_t sampler_dropped(const struct sampler *sampler)
{
    return atomic_load_explicit(&sampler->dropped, memory_order_relaxed);
}
