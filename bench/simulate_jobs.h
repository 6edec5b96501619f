/* Runs many simulations of one trace on all cores. */
#ifndef TIERKV_BENCH_SIMULATE_JOBS_H
#define TIERKV_BENCH_SIMULATE_JOBS_H

#include "simulator.h"

struct simulate_job {
    struct simulation simulation;
    struct simulation_result result;
};

/* Runs every job on at most `threads` threads, in the order given, and fills in the results;
 * `requests_done` of each is set here. Shows a progress bar on stderr if that is a terminal. Each
 * thread needs memory for one node a key. 0, or -1: out of memory, results are not to be used. */
int simulate_jobs_run(struct simulate_job *jobs, size_t n_jobs, size_t threads);

#endif
