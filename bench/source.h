/* Where the requests of a benchmark come from: Zipf's law, or a trace. What `tierbench run` and
 * `tierbench replay` share, so that both speak of the same load.
 *
 * Keys are numbers in [0, keys), named by workload_key. A key has one value size for all time. The
 * popular keys, and those that are neighbours in a trace, are scattered over the order of keys.
 */
#ifndef TIERKV_BENCH_SOURCE_H
#define TIERKV_BENCH_SOURCE_H

#include "options.h"
#include "trace.h"
#include "workload.h"

#include <stdatomic.h>

/* X(type, field, default, least, most, help), to stand in the program's table of options. */
#define SOURCE_OPTIONS(X)                                                                          \
    X(count, keys, "1000000", 1, 1e10, "distinct keys; a trace brings its own")                    \
    X(text, value_bytes, "256", 0, 0,                                                              \
      "size of values: N, or LEAST-MOST (each doubling as likely), or trace")                      \
    X(real, read_share, "0.95", 0, 1,                                                              \
      "share of reads; the rest are writes; a trace brings its own")                               \
    X(real, zipf, "0.99", 0, 0.9999, "skew of the keys; 0: uniform")                               \
    X(text, generate, "", 0, 0, "make a trace by formula: zipf, shift or scan; as in simulate")    \
    X(count, requests, "0", 0, 1e18, "end after so many requests; 0: after --seconds")             \
    X(count, seed, "1", 0, 1e18, "of the random numbers")

struct source_options {
#define X(type, field, text_default, least, most, help) OPTION_FIELD_##type(field)
    SOURCE_OPTIONS(X)
#undef X
    const char *trace; /* A file; NULL: none */
};

struct source {
    uint64_t keys;
    double read_share;
    uint64_t requests_max;
    bool from_trace;
    struct trace trace; /* If so: repeated from its beginning when it ends */
    struct zipf zipf;   /* If not */
    bool sizes_from_trace;
    uint32_t value_bytes_least, value_bytes_most;
    _Atomic uint64_t taken; /* Requests handed out to cursors */
};

/* The requests of one thread. Threads share a trace by taking short runs of it in turn. */
struct source_cursor {
    struct workload_random random;
    uint64_t next, end;
};

struct source_request {
    uint64_t key;
    char op; /* r, w or d, as in a trace */
};

/* 0, or -1 with one sentence in error_text. Texts of the options are not kept. */
int source_open(struct source *source, const struct source_options *options, char *error_text,
                size_t error_text_size);
void source_close(struct source *source);

void source_cursor_init(struct source_cursor *cursor, uint64_t seed);

/* Any thread, with a cursor of its own. False: as many as there are to be were handed out. */
bool source_next(struct source *source, struct source_cursor *cursor,
                 struct source_request *ret_request);

/* From WORKLOAD_VALUE_BYTES_MIN to TIERS_VALUE_BYTES_MAX. */
uint32_t source_value_bytes(const struct source *source, uint64_t key);

uint32_t source_value_bytes_max(const struct source *source);

/* Of all keys' values together. */
uint64_t source_value_bytes_all(const struct source *source);

/* "zipf 0.99, 1000000 keys, ..." in one line, for the head of a report; cut between characters. */
void source_describe(const struct source *source, const struct source_options *options, char *text,
                     size_t text_size);

#endif
