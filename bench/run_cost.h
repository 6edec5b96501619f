/* What a month of the measured load would cost. */
#ifndef TIERKV_BENCH_RUN_COST_H
#define TIERKV_BENCH_RUN_COST_H

#include "run_result.h"

struct run_cost {
    double tiered; /* The memory, SSD and HDD that the run used */
    double memory; /* All of the data in memory, in a store with the same overhead */
    double memory_bytes;
};

/* Of a run that is complete. The currency is that of the prices. */
void run_cost(const struct run_options *options, const struct source *source,
              const struct run_result *result, struct run_cost *ret_cost);

/* The cheapest split that meets options->target_us, from the latencies that were measured and from
 * how `result`'s policy fares on the load at other sizes of memory. Runs for some seconds. 0, or a
 * negative code: TIERS_NO_MEMORY, TIERS_INVALID (no read reached one of the tiers, so that its
 * latency is not known). */
int run_cost_cheapest(const struct run_options *options, struct source *source,
                      const struct run_result *result, struct tiers_cost *ret_cost);

#endif
