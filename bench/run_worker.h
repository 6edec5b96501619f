/* A thread of `tierbench run` that reads and writes as fast as it can. */
#ifndef TIERKV_BENCH_RUN_WORKER_H
#define TIERKV_BENCH_RUN_WORKER_H

#include "run_engine.h"

struct run_worker;

/* Starts one. NULL: run_fail was called. */
struct run_worker *run_worker_start(struct run *run, uint64_t number);

/* Waits for its end, which comes with RUN_STOP or with the last request. Adds what it measured to
 * `latencies` (RUN_CALLS) and *absent, and frees it. NULL is allowed. */
void run_worker_join(struct run_worker *worker, struct latency *latencies, uint64_t *absent);

#endif
