/* The options of `tierbench replay`. */
#ifndef TIERKV_BENCH_REPLAY_OPTIONS_H
#define TIERKV_BENCH_REPLAY_OPTIONS_H

#include "h2_client.h"
#include "source.h"

#define REPLAY_TARGETS_MAX 16

/* X(type, field, default, least, most, help), beside those of source.h. */
#define REPLAY_OPTIONS(X)                                                                          \
    X(text, http, "", 0, 0, "http://HOST:PORT of the nodes, separated by commas")                  \
    X(text, level, "default", 0, 0, "of the reads: default, consistent or stale")                  \
    X(count, threads, "1", 1, 64, "threads, each with a connection of its own to every node")      \
    X(count, in_flight, "16", 1, 1000, "requests under way, per thread")                           \
    X(count, load, "1", 0, 1, "0: all keys are there already; 1: write them first")                \
    X(real, warmup, "2", 0, 86400, "seconds before the measurement")                               \
    X(real, seconds, "10", 0.1, 86400, "seconds of the measurement")                               \
    X(real, timeout, "10", 0.1, 3600,                                                              \
      "seconds without any answer after which a connection is cut")                                \
    X(text, format, "table", 0, 0, "table or json")

enum replay_level { REPLAY_DEFAULT, REPLAY_CONSISTENT, REPLAY_STALE };

struct replay_options {
    struct source_options source;
#define X(type, field, text_default, least, most, help) OPTION_FIELD_##type(field)
    REPLAY_OPTIONS(X)
#undef X
    /* Made of the above */
    char addresses[REPLAY_TARGETS_MAX][H2_ADDRESS_BYTES];
    size_t n_addresses;
    enum replay_level level_kind;
    bool json;
};

/* 0: go on; 1: help was printed; -1: a mistake, told on stderr. Texts are borrowed from argv. */
int replay_options_parse(struct replay_options *options, int argc, char **argv);

#endif
