/* The report of `tierbench run`. */
#ifndef TIERKV_BENCH_RUN_REPORT_H
#define TIERKV_BENCH_RUN_REPORT_H

#include "latency.h"
#include "tiers/tiers.h"

/* Kinds of calls that are told apart: reads by the tier that answered (enum tiers_tier), writes. */
#define RUN_CALLS_READ 3
#define RUN_CALL_WRITE RUN_CALLS_READ
#define RUN_CALLS      (RUN_CALLS_READ + 1)

/* `before` and `after` are the engine's statistics around the measurement of `seconds`. */
void run_report(const struct latency latencies[RUN_CALLS], double seconds,
                const struct tiers_stats *before, const struct tiers_stats *after);

#endif
