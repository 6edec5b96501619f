/* The options of `tierbench run`. */
#ifndef TIERKV_BENCH_RUN_OPTIONS_H
#define TIERKV_BENCH_RUN_OPTIONS_H

#include "source.h"
#include "tiers/cost.h"
#include "tiers/testing.h"

#include <stdbool.h>

#define RUN_POLICIES_MAX     16
#define RUN_POLICY_BYTES_MAX 32
#define RUN_SAMPLES_SPARE    1000 /* Beyond those of --seconds, for --requests; even */

/* X(type, field, default, least, most, help), beside those of source.h. */
#define RUN_OPTIONS(X)                                                                             \
    X(text, policy, "lru", 0, 0, "eviction policies of the hot tier, separated by commas")         \
    X(count, threads, "1", 1, 256, "threads that read and write")                                  \
    X(count, depth, "16", 1, 1024, "reads of the cold tier under way, per thread")                 \
    X(real, warmup, "2", 0, 86400, "seconds before the measurement")                               \
    X(real, seconds, "10", 0.1, 86400, "seconds of the measurement")                               \
    X(real, interval, "1", 0.01, 86400,                                                            \
      "seconds between the samples over time; doubled as often as they become too many")           \
    X(bytes, hot_bytes, "64MiB", 1048576, 1e15, "memory of the hot tier")                          \
    X(bytes, warm_bytes, "256MiB", 1048576, 1e15, "disk space that the warm tier aims at")         \
    X(text, dir, "", 0, 0, "where folders for the data are made, removed at the end")              \
    X(text, warm_dir, "", 0, 0, "the same for the warm tier alone")                                \
    X(text, cold_dir, "", 0, 0, "the same for the cold tier alone")                                \
    X(text, cold_model, "", 0, 0,                                                                  \
      "delay the cold tier's disk like an HDD: seek_ms=8,mb_per_s=150")                            \
    X(count, direct_io, "0", 0, 1, "1: cold segments bypass the page cache")                       \
    X(text, prices, "4,0.1,0.02", 0, 0, "of memory, SSD, HDD per GB and month")                    \
    X(real, target_us, "0", 0, 1e9,                                                                \
      "name the cheapest split whose mean read takes at most so long; 0: none")                    \
    X(text, format, "table", 0, 0, "table, csv or json")                                           \
    X(text, output, "", 0, 0, "a file for it; empty: standard output")                             \
    X(text, series, "", 0, 0, "a file for the samples over time, as CSV")                          \
    X(text, plot, "", 0, 0, "a file for a chart of them, .svg or .png")

enum run_format { RUN_TABLE, RUN_CSV, RUN_JSON };

struct run_options {
    struct source_options source;
#define X(type, field, text_default, least, most, help) OPTION_FIELD_##type(field)
    RUN_OPTIONS(X)
#undef X
    /* Made of the above */
    char policies[RUN_POLICIES_MAX][RUN_POLICY_BYTES_MAX];
    size_t n_policies;
    enum run_format format_kind;
    struct tiers_cost_tiers prices_each;
    bool cold_modelled;
    struct tiers_disk_model disk;
};

/* 0: go on; 1: help was printed; -1: a mistake, told on stderr. Texts are borrowed from argv. */
int run_options_parse(struct run_options *options, int argc, char **argv);

#endif
