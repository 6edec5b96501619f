/* The options of `tierbench run`, from one table. */
#ifndef TIERKV_BENCH_RUN_OPTIONS_H
#define TIERKV_BENCH_RUN_OPTIONS_H

#include <stdint.h>

/* X(type, field, default, least, most, help). Types: count and bytes (whole, KiB MiB GiB), real,
 * text. */
#define RUN_OPTIONS(X)                                                                             \
    X(count, keys, 1000000, 1, 1e10, "distinct keys")                                              \
    X(bytes, value_bytes, 256, 16, 16777216, "size of each value")                                 \
    X(real, read_share, 0.95, 0, 1, "share of reads; the rest are writes")                         \
    X(real, zipf, 0.99, 0, 0.9999, "skew of the keys; 0: uniform")                                 \
    X(count, threads, 1, 1, 256, "threads that read and write")                                    \
    X(count, depth, 16, 1, 1024, "reads of the cold tier under way, per thread")                   \
    X(real, warmup, 2, 0, 86400, "seconds before the measurement")                                 \
    X(real, seconds, 10, 0.1, 86400, "seconds of the measurement")                                 \
    X(bytes, hot_bytes, 67108864, 1048576, 1e15, "memory of the hot tier")                         \
    X(bytes, warm_bytes, 268435456, 1048576, 1e15, "disk space that the warm tier aims at")        \
    X(count, seed, 1, 0, 1e18, "of the random numbers")                                            \
    X(text, policy, "lru", 0, 0, "eviction policy of the hot tier")                                \
    X(text, dir, "", 0, 0, "where the data lies; empty: a temporary folder, removed at the end")

struct run_options {
#define RUN_FIELD_count(field)                          uint64_t field;
#define RUN_FIELD_bytes(field)                          uint64_t field;
#define RUN_FIELD_real(field)                           double field;
#define RUN_FIELD_text(field)                           const char *field;
#define X(type, field, text_default, least, most, help) RUN_FIELD_##type(field)
    RUN_OPTIONS(X)
#undef X
};

/* 0: go on; 1: help was printed; -1: a mistake, told on stderr. Texts are borrowed from argv. */
int run_options_parse(struct run_options *options, int argc, char **argv);

#endif
