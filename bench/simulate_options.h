/* The options of `tierbench simulate`. */
#ifndef TIERKV_BENCH_SIMULATE_OPTIONS_H
#define TIERKV_BENCH_SIMULATE_OPTIONS_H

#include "tiers/policy.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIMULATE_POLICIES_MAX   32
#define SIMULATE_CAPACITIES_MAX 64
#define SIMULATE_THREADS_MAX    256

/* What a cache may hold: a share of the trace's distinct keys (or their bytes), or so much. */
struct simulate_capacity {
    double share; /* 0: absolute */
    uint64_t absolute;
};

struct simulate_options {
    const char *trace; /* A file; NULL: generate */
    const char *generate;
    const struct policy_type *policies[SIMULATE_POLICIES_MAX];
    size_t n_policies;
    struct simulate_capacity capacities[SIMULATE_CAPACITIES_MAX];
    size_t n_capacities;
    bool by_bytes;
    enum { SIMULATE_TABLE, SIMULATE_CSV, SIMULATE_JSON } format;
    const char *output; /* NULL: stdout */
    const char *plot;   /* NULL: none */
    size_t threads;
};

/* 0: go on; 1: help was printed; -1: a mistake, told on stderr. Texts are borrowed from argv. */
int simulate_options_parse(struct simulate_options *options, int argc, char **argv);

/* The capacity in objects or bytes, for a trace with that many in all; 0: less than one. */
uint64_t simulate_capacity_of(const struct simulate_capacity *capacity, uint64_t whole);

#endif
