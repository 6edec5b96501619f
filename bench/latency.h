/* A histogram of durations with logarithmic buckets: constant memory, relative error below 1/32,
 * from a nanosecond to hours. One per thread; merge them at the end. */
#ifndef TIERKV_BENCH_LATENCY_H
#define TIERKV_BENCH_LATENCY_H

#include <stdint.h>

#define LATENCY_STEPS   32 /* Buckets to each doubling */
#define LATENCY_BUCKETS (44 * LATENCY_STEPS)

struct latency {
    uint64_t count;
    uint64_t sum_ns;
    uint64_t max_ns;
    uint64_t buckets[LATENCY_BUCKETS];
};

void latency_add(struct latency *latency, uint64_t duration_ns);
void latency_merge(struct latency *into, const struct latency *from);

/* The duration that a share (0 to 1) of all do not exceed, exact to the bucket's width and never
 * above the greatest one seen. 0 when empty. */
uint64_t latency_quantile_ns(const struct latency *latency, double share);

#endif
