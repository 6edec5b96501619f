/* One run of the tier engine under one policy: what its parts share. */
#ifndef TIERKV_BENCH_RUN_ENGINE_H
#define TIERKV_BENCH_RUN_ENGINE_H

#include "run_result.h"

#include <pthread.h>
#include <stdatomic.h>

#define RUN_NS_PER_SECOND 1000000000u

enum run_phase { RUN_WARMUP, RUN_MEASURE, RUN_STOP };

struct run {
    const struct run_options *options;
    struct source *source;
    struct tiers *tiers;
    bool deletes; /* The trace has some, so that a key may be absent */
    _Atomic int phase;
    _Atomic bool failed;

    pthread_mutex_t lock; /* Makes its holder the applier */
    pthread_cond_t ready; /* The engine takes writes again */
    uint64_t next_index;
    uint64_t next_version;
    uint64_t put_bytes;
    unsigned char *value;    /* Of the write under way */
    _Atomic uint64_t writes; /* Puts and deletes */
};

/* Runs `policy` in two empty folders and fills in the result, for which there is memory for
 * `samples_max` samples. Told on stderr: what goes wrong (then the result is not complete) and, if
 * that is a terminal, the progress. */
void run_engine(const struct run_options *options, struct source *source, const char *policy,
                const char *warm_dir, const char *cold_dir, struct run_result *result,
                size_t samples_max);

/* CLOCK_MONOTONIC */
uint64_t run_now_ns(void);

/* Any thread. The first failure is told and ends the run. */
void run_fail(struct run *run, const char *what, const char *why);

/* Puts the keys [first, first + n), or deletes them, in one group. Any thread; waits while the
 * engine takes no writes. */
void run_write(struct run *run, uint64_t first, uint64_t n, bool put);

#endif
