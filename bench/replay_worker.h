/* A thread of `tierbench replay`, and what its threads share. */
#ifndef TIERKV_BENCH_REPLAY_WORKER_H
#define TIERKV_BENCH_REPLAY_WORKER_H

#include "latency.h"
#include "replay_options.h"

#include <stdatomic.h>

#define REPLAY_STATUS_MAX 600

enum replay_phase { REPLAY_LOAD, REPLAY_WARMUP, REPLAY_MEASURE, REPLAY_STOP };

struct replay {
    const struct replay_options *options;
    struct source *source;
    bool deletes;          /* The trace has some, so that a key may be absent */
    _Atomic uint64_t load; /* Keys handed out to be loaded */
    _Atomic int phase;
    _Atomic bool failed;        /* Told on stderr */
    _Atomic uint64_t completed; /* Calls of any outcome, for the progress */
};

enum replay_call { REPLAY_READ, REPLAY_WRITE, REPLAY_CALLS };

/* What came of the calls that were complete while measuring. */
struct replay_counts {
    struct latency latencies[REPLAY_CALLS]; /* Of those that were answered as they should */
    uint64_t statuses[REPLAY_STATUS_MAX];   /* Final answers by status; 0: none came */
    uint64_t redirects;
    uint64_t absent; /* Answered 404 where the trace deletes keys: not an error */
    uint64_t wrong;  /* Values that do not belong to their key */
};

struct replay_worker;

/* Starts a thread that loads keys until all are handed out (in REPLAY_LOAD), or else sends requests
 * until REPLAY_STOP or their end. NULL: the replay failed. */
struct replay_worker *replay_worker_start(struct replay *replay, uint64_t number);

/* Waits for its end, adds its counts, frees it. NULL is allowed. */
void replay_worker_join(struct replay_worker *worker, struct replay_counts *counts);

/* The first failure is told and ends the replay. Any thread. */
void replay_fail(struct replay *replay, const char *what, const char *why);

/* CLOCK_MONOTONIC */
uint64_t replay_now_ns(void);

#endif
