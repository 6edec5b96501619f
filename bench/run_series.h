/* What `tierbench run` sees over time: samples of counters, and what happened between two. Pure. */
#ifndef TIERKV_BENCH_RUN_SERIES_H
#define TIERKV_BENCH_RUN_SERIES_H

#include "tiers/tiers.h"

struct run_sample {
    double seconds; /* Since the requests began; the warm-up counts */
    uint64_t writes;
    struct tiers_stats stats;
};

struct run_rates {
    double seconds; /* At the end of the interval */
    double reads_per_second, writes_per_second;
    double share_hot, share_warm, share_cold; /* Of the reads that were answered; 0 without any */
    double flushed_per_second, demoted_per_second, compacted_per_second; /* Bytes */
    double promoted_warm_per_second, promoted_hot_per_second;            /* Values */
    uint64_t hot_bytes, warm_bytes, cold_bytes;                          /* At the end */
};

/* Between two samples of one run, `from` the earlier. All rates are 0 if no time has passed. */
void run_series_rates(const struct run_sample *from, const struct run_sample *to,
                      struct run_rates *ret_rates);

/* Makes room for a sample behind *n of at most `max` (at least 2, even): if there is none, every
 * second sample goes, so that two neighbouring intervals become one, and *interval is doubled. The
 * first sample stays. */
void run_series_make_room(struct run_sample *samples, size_t *n, size_t max, double *interval);

/* Bytes written for each byte put; 0 if none was put. */
double run_write_amplification(uint64_t written_bytes, uint64_t put_bytes);

#endif
