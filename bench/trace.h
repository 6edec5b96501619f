/* Access traces in memory: what the simulator and the replayers run.
 *
 * A file has one request a line, `KEY [SIZE [OP]]`, fields separated by commas or, in a line
 * without any, by blanks. KEY is any word, SIZE bytes (1 if absent), OP one of r, w, d or the words
 * read, get, write, put, set, delete (r if absent). If the first line has a field `key`, it names
 * the columns, in any order, among them perhaps `size` and `op`; others are skipped. Files
 * compressed with zstd are known by their magic number. Empty lines and those that begin with # are
 * skipped. A key has the size of its first request that names one and is no delete; deletes give
 * one only where no other does. Keys are numbered in order of appearance, so that a simulation
 * needs no hashing.
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
    uint32_t *key_sizes;  /* 1 where no request names one */
    /* Over the requests that are not deletes: */
    size_t n_accesses;
    size_t n_keys;
    uint64_t unique_bytes;
};

/* 0, or -1 with one sentence in error_text. The file is read as a stream. */
int trace_load(const char *path, struct trace *ret_trace, char *error_text, size_t error_text_size);

/* A growing trace: make a builder, add requests, finish. */
struct trace_builder;
/* NULL: out of memory. */
struct trace_builder *trace_builder_new(void);
/* 0, or -1: out of memory, or more than 2^32 - 2 keys. */
int trace_builder_add(struct trace_builder *builder, uint64_t key, uint32_t size, char op);
/* The same for a key named by 64 well-mixed bits. Negative size: the request names none. */
int trace_builder_add_hashed(struct trace_builder *builder, uint64_t key_hash, int64_t size,
                             char op);
/* Hands over the trace, to be closed by the caller, and frees the builder. */
void trace_builder_finish(struct trace_builder *builder, struct trace *ret_trace);
/* Gives up; NULL is allowed. */
void trace_builder_free(struct trace_builder *builder);

void trace_close(struct trace *trace);

#endif
