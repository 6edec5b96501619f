/* Access traces in memory: what the simulator and the replayers run.
 *
 * A file has one request a line, `KEY [SIZE [OP]]`, fields separated by blanks or commas; KEY is
 * any word, SIZE bytes (1 if absent), OP one of r, w, d (r if absent). Files compressed with zstd
 * are known by their magic number. Lines that begin with # are skipped. A key keeps the size of its
 * first request. Keys are numbered in order of appearance, so that a simulation needs no hashing.
 */
#ifndef TIERKV_BENCH_TRACE_H
#define TIERKV_BENCH_TRACE_H

#include <stddef.h>
#include <stdint.h>

struct trace_request {
    uint32_t key; /* Number of the key */
    char op;      /* r, w or d */
};

struct trace {
    struct trace_request *requests;
    size_t n_requests;
    size_t n_keys_all;
    uint64_t *key_hashes; /* By key number; 64 well-mixed bits */
    uint32_t *key_sizes;
    /* Over the requests that are not deletes: */
    size_t n_accesses;
    size_t n_keys;
    uint64_t unique_bytes;
};

/* 0, or -1 with one sentence in error_text. */
int trace_load(const char *path, struct trace *ret_trace, char *error_text, size_t error_text_size);

/* A growing trace for generators: begin, add requests, finish. add: 0, or -1 out of memory. */
struct trace_builder;
struct trace_builder *trace_builder_new(void);
int trace_builder_add(struct trace_builder *builder, uint64_t key, uint32_t size, char op);
/* Frees the builder. */
int trace_builder_finish(struct trace_builder *builder, struct trace *ret_trace);
void trace_builder_free(struct trace_builder *builder);

void trace_close(struct trace *trace);

#endif
