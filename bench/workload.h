/* Synthetic workloads: which key comes next, and is it read or written. Deterministic from a seed.
 *
 * Keys are numbered by popularity rank and then scattered, so that the popular ones do not lie side
 * by side in key order. Ranks follow Zipf's law; theta 0 is uniform, 0.99 is YCSB's default. */
#ifndef TIERKV_BENCH_WORKLOAD_H
#define TIERKV_BENCH_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WORKLOAD_KEY_BYTES       20 /* "key-" and sixteen digits */
#define WORKLOAD_VALUE_BYTES_MIN 16 /* A key and a version */

/* Constants of the distribution: shared by all threads, read-only once made. */
struct zipf {
    uint64_t n;
    double theta;
    double alpha;
    double zeta_n;
    double eta;
    double threshold_second; /* Below it: rank 1 */
};

/* 0 <= theta < 1, n >= 1. Takes time proportional to n. */
void zipf_init(struct zipf *zipf, uint64_t n, double theta);

/* A generator of random numbers, one per thread. */
struct workload_random {
    uint64_t state[2];
};

void workload_random_init(struct workload_random *random, uint64_t seed);
uint64_t workload_random_next(struct workload_random *random);
/* In [0, 1) */
double workload_random_unit(struct workload_random *random);

/* A rank in [0, n); 0 is the most popular. */
uint64_t zipf_next(const struct zipf *zipf, struct workload_random *random);

/* The number of the key that has a rank: a permutation of [0, n). */
uint64_t workload_scatter(uint64_t rank, uint64_t n);

/* Writes WORKLOAD_KEY_BYTES bytes and a NUL. */
void workload_key(uint64_t number, char key[WORKLOAD_KEY_BYTES + 1]);

/* Fills a value that belongs to a key and a version of it, half of it compressible, and tells
 * whether one read back is intact in its head. At least 16 bytes. */
void workload_value(uint64_t number, uint64_t version, void *value, size_t value_bytes);
bool workload_value_belongs(uint64_t number, const void *value, size_t value_bytes);

#endif
