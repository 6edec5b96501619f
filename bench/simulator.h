/* Replays a trace through one eviction policy and counts its misses. Pure computation, no engine:
 * the policy code is the one that the hot tier runs. Any thread; one simulation is one thread. */
#ifndef TIERKV_BENCH_SIMULATOR_H
#define TIERKV_BENCH_SIMULATOR_H

#include "tiers/policy.h"
#include "trace.h"

#include <stdatomic.h>
#include <stdbool.h>

struct simulation {
    const struct trace *trace;
    const struct policy_type *policy;
    uint64_t capacity;
    bool by_bytes; /* Capacity counts bytes; else every key has size 1 */
    atomic_size_t
        *requests_done; /* Counted up from time to time, for a progress bar; may be NULL */
};

struct simulation_result {
    uint64_t accesses;
    uint64_t misses;
    uint64_t bytes;
    uint64_t missed_bytes;
};

/* Every r and w is an access; a miss inserts; d is skipped. 0, or -1: out of memory. */
int simulation_run(const struct simulation *simulation, struct simulation_result *ret_result);

#endif
