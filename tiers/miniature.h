/* Live miniature simulation: miss-ratio curves of every policy while the cache serves.
 *
 * For each of several capacities around the hot tier's own, and each policy, a small cache of keys
 * alone is fed the accesses of a sample of the keys; its capacity is scaled down by the rate of the
 * sample, and so it misses as often as the large one would (Waldspurger, Saemundsson, Ahmad, Park,
 * "Cache Modeling and Optimization using Miniature Simulations", USENIX ATC 2017). Misses are set
 * in proportion to all reads, not to the sampled ones: so it does not matter whether the few
 * hottest keys are in the sample, which hit in any case (the correction of SHARDS, FAST 2015).
 *
 * Memory is bounded by keys_max in each small cache, time by samples_per_s_max: the rate of each
 * capacity is halved when either would be exceeded, and raised again when both are far off. Counts
 * fade by a quarter with each window of ten seconds, so that the curves follow the load.
 *
 * Pure: the caller brings samples and the time. One thread at a time.
 */
#ifndef TIERS_MINIATURE_H
#define TIERS_MINIATURE_H

#include "sampler.h"
#include "tiers/tiers.h"

#define MINIATURE_WINDOW_MS 10000

struct miniature;

struct miniature_options {
    uint64_t hot_bytes;
    uint64_t keys_max;          /* In each small cache. 0: default */
    uint64_t samples_per_s_max; /* For each capacity, on average. 0: default */
    uint64_t now_ms;
};

struct miniature_step {
    uint64_t now_ms;
    uint64_t reads;   /* Of present keys, since the step before */
    uint64_t dropped; /* Samples of that time that never came */
};

/* NULL: out of memory. */
struct miniature *miniature_new(const struct miniature_options *options);
/* NULL is allowed. */
void miniature_free(struct miniature *miniature);

void miniature_feed(struct miniature *miniature, const struct sample *samples, size_t n);

/* Accounts for what was fed since the last step and adapts the rates. True: a window has ended. */
bool miniature_step(struct miniature *miniature, const struct miniature_step *step);

/* As of the last step: only keys whose hash is below are of use, those named are of none. Returns
 * how many those are. */
uint64_t miniature_threshold(const struct miniature *miniature);
size_t miniature_excluded(const struct miniature *miniature,
                          uint64_t ret_key_hashes[static SAMPLER_EXCLUDED_MAX]);

/* All but samples_dropped, which is set to 0. */
void miniature_curve(const struct miniature *miniature, struct tiers_curve *ret_curve);

#endif
