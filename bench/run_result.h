/* What one policy's run of `tierbench run` measured. Without pointers: it is written by one process
 * and read by another. */
#ifndef TIERKV_BENCH_RUN_RESULT_H
#define TIERKV_BENCH_RUN_RESULT_H

#include "latency.h"
#include "run_options.h"
#include "run_series.h"

/* Kinds of calls that are told apart: reads by the tier that answered (enum tiers_tier), writes. */
#define RUN_CALLS_READ 3
#define RUN_CALL_WRITE RUN_CALLS_READ
#define RUN_CALLS      (RUN_CALLS_READ + 1)

/* Bytes that clients put, keys and values, and what was written to files because of them. */
struct run_written {
    uint64_t put_bytes;
    uint64_t disk_bytes;
};

struct run_result {
    char policy[RUN_POLICY_BYTES_MAX];
    bool complete; /* Else the run failed, and the rest means nothing */
    double load_seconds;
    double seconds; /* Of the measurement */
    struct latency latencies[RUN_CALLS];
    uint64_t absent;                  /* Reads of keys that the trace had deleted */
    struct tiers_stats before, after; /* Around the measurement */
    struct run_written loading;       /* Until all keys were durable */
    struct run_written running;       /* From then until all that was written was durable */
    bool written_by_kernel;           /* Else LMDB's pages are not in disk_bytes */
    uint64_t memory_bytes;            /* Grown since before the engine was opened */
    uint64_t mapped_bytes;
    double sample_interval; /* Seconds; doubled each time that samples were thinned */
    size_t n_samples; /* The first one at the beginning of the requests, the last one at the end */
    struct run_sample samples[];
};

/* Of all reads together. */
void run_result_reads(const struct run_result *result, struct latency *ret_latency);

#endif
