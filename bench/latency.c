/* Log-linear buckets: each doubling is cut into LATENCY_STEPS equal parts, durations below
 * LATENCY_STEPS have a bucket each. Pure; never fails. */
#include "latency.h"

#include <assert.h>
#include <stddef.h>

#define STEPS_LOG2 5

static_assert(1 << STEPS_LOG2 == LATENCY_STEPS, "steps are a power of two");

static size_t bucket_of(uint64_t duration_ns)
{
    if (duration_ns < LATENCY_STEPS)
        return (size_t)duration_ns;
    unsigned shift = 63u - (unsigned)__builtin_clzll(duration_ns) - STEPS_LOG2;
    size_t bucket = (size_t)shift * LATENCY_STEPS + (size_t)(duration_ns >> shift);
    return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1;
}

/* The greatest duration that falls into the bucket. */
static uint64_t bucket_most_ns(size_t bucket)
{
    if (bucket < LATENCY_STEPS)
        return bucket;
    size_t shift = bucket / LATENCY_STEPS - 1;
    uint64_t part = bucket - shift * LATENCY_STEPS;
    return ((part + 1) << shift) - 1;
}

void latency_add(struct latency *latency, uint64_t duration_ns)
{
    latency->count++;
    latency->sum_ns += duration_ns;
    if (duration_ns > latency->max_ns)
        latency->max_ns = duration_ns;
    latency->buckets[bucket_of(duration_ns)]++;
}

void latency_merge(struct latency *into, const struct latency *from)
{
    into->count += from->count;
    into->sum_ns += from->sum_ns;
    if (from->max_ns > into->max_ns)
        into->max_ns = from->max_ns;
    for (size_t i = 0; i < LATENCY_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
}

uint64_t latency_quantile_ns(const struct latency *latency, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)latency->count);
    uint64_t seen = 0;

    assert(share >= 0 && share <= 1);
    for (size_t i = 0; i < LATENCY_BUCKETS; i++) {
        seen += latency->buckets[i];
        if (seen > wanted || (seen == wanted && seen == latency->count && seen > 0)) {
            uint64_t most_ns = bucket_most_ns(i);
            return most_ns < latency->max_ns ? most_ns : latency->max_ns;
        }
    }
    return 0;
}
