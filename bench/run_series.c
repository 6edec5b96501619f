/* See run_series.h. */
#include "run_series.h"

#include <assert.h>

static double share(uint64_t part, uint64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : 0;
}

void run_series_rates(const struct run_sample *from, const struct run_sample *to,
                      struct run_rates *ret_rates)
{
    const struct tiers_stats *before = &from->stats, *after = &to->stats;
    uint64_t hot = after->hits_hot - before->hits_hot;
    uint64_t warm = after->hits_warm - before->hits_warm;
    uint64_t cold = after->hits_cold - before->hits_cold;
    uint64_t hits = hot + warm + cold;
    double seconds = to->seconds - from->seconds;
    double per_second = seconds > 0 ? 1 / seconds : 0;

    assert(seconds >= 0);
    *ret_rates = (struct run_rates){
        .seconds = to->seconds,
        .reads_per_second = (double)(hits + after->misses - before->misses) * per_second,
        .writes_per_second = (double)(to->writes - from->writes) * per_second,
        .share_hot = share(hot, hits),
        .share_warm = share(warm, hits),
        .share_cold = share(cold, hits),
        .flushed_per_second = (double)(after->flushed_bytes - before->flushed_bytes) * per_second,
        .demoted_per_second = (double)(after->demoted_bytes - before->demoted_bytes) * per_second,
        .compacted_per_second =
            (double)(after->compacted_bytes - before->compacted_bytes) * per_second,
        .promoted_warm_per_second =
            (double)(after->promoted_warm_keys - before->promoted_warm_keys) * per_second,
        .promoted_hot_per_second =
            (double)(after->promoted_hot_keys - before->promoted_hot_keys) * per_second,
        .hot_bytes = after->hot_bytes,
        .warm_bytes = after->warm_used_bytes,
        .cold_bytes = after->cold_bytes,
    };
}

void run_series_make_room(struct run_sample *samples, size_t *n, size_t max, double *interval)
{
    assert(max >= 2 && max % 2 == 0 && *n <= max);
    if (*n < max)
        return;
    for (size_t i = 1; i < max / 2; i++)
        samples[i] = samples[2 * i];
    *n = max / 2;
    *interval *= 2;
}

double run_write_amplification(uint64_t written_bytes, uint64_t put_bytes)
{
    return share(written_bytes, put_bytes);
}
