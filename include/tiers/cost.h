/* The cheapest split of the data over memory, SSD and HDD that meets a target latency.
 *
 * Pure: no engine, no clock. What is known of the load are two curves of the share of reads against
 * bytes: what a hot tier of so much memory answers (the miss-ratio curve of its policy, turned
 * over), and what falls on the so many bytes of data that are read most (which is what the warm
 * tier keeps inline). Between points both are straight lines. Every key's index entry stays on SSD.
 *
 *   cost    = memory price * hot + SSD price * (warm + index) + HDD price * (data - warm)
 *   latency = the mean, or a quantile, of the three latencies weighted by the shares of reads
 *
 * Costs are in the currency of the prices, per month. A GB is 10^9 bytes.
 */
#ifndef TIERS_COST_H
#define TIERS_COST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TIERS_COST_POINTS_MAX 32

struct tiers_cost_point {
    double bytes;
    double share; /* Of reads, 0 to 1 */
};

/* By ascending bytes. Shares that fall are raised to the one before. A point (0, 0) is implied. */
struct tiers_cost_curve {
    size_t n;
    struct tiers_cost_point points[TIERS_COST_POINTS_MAX];
};

struct tiers_cost_tiers { /* One figure for each medium */
    double memory;
    double ssd;
    double hdd;
};

struct tiers_cost_input {
    struct tiers_cost_tiers prices;      /* Per GB and month; 0 or more */
    struct tiers_cost_tiers latencies;   /* Of a read, in microseconds; memory <= ssd <= hdd */
    double target_us;                    /* At most this long */
    double quantile;                     /* 0: the mean is; else that quantile, below 1 */
    double hot_bytes_min;                /* A hot tier has at least this much */
    double memory_bytes;                 /* What all data would take in memory, overhead counted */
    double data_bytes;                   /* What all values take on disk */
    double index_bytes;                  /* What keys and metadata take on SSD in any case */
    struct tiers_cost_curve hot_curve;   /* Bytes of memory; all of memory_bytes answers all */
    struct tiers_cost_curve value_curve; /* Bytes of data; all of data_bytes answer all */
};

struct tiers_cost_split {
    bool feasible; /* Else this is the fastest split there is, and misses the target */
    double hot_bytes;
    double warm_bytes; /* Of values; the index comes on top */
    double cold_bytes;
    double cost;
    double latency_us; /* The mean or the quantile, as asked */
    double share_hot;
    double share_warm;
    double share_cold;
};

struct tiers_cost {
    struct tiers_cost_split cheapest;
    double memory_cost; /* With everything in memory and nowhere else */
};

/* 0, or TIERS_INVALID: a figure is negative, not finite or out of the order asked for. */
int tiers_cost(const struct tiers_cost_input *input, struct tiers_cost *ret_cost);

/* Cost and latency of a given split (as bytes of memory and of inline values), for comparisons.
 * `feasible` tells whether it meets the target. Errors as tiers_cost. */
int tiers_cost_of(const struct tiers_cost_input *input, double hot_bytes, double warm_bytes,
                  struct tiers_cost_split *ret_split);

struct tiers;

/* The sizes in force, to be compared by tiers_cost_of. */
struct tiers_cost_measured {
    double hot_bytes;
    double warm_bytes; /* Of values that are inline now */
};

/* Fills in sizes and curves as an engine measures them; prices, latencies, target and quantile stay
 * as they are. Sizes of what lies on disk are after compression; the index is an estimate. Any
 * thread. 0, or TIERS_NOT_FOUND: nothing was read yet, or the engine keeps no curves. */
int tiers_cost_measure(struct tiers *tiers, struct tiers_cost_input *input,
                       struct tiers_cost_measured *ret_measured);

/* Reads "MEMORY,SSD,HDD", three decimal numbers of 0 or more. False: it is something else. */
bool tiers_cost_tiers_parse(const char *text, struct tiers_cost_tiers *ret_tiers);

#endif
