/* See trace.h: the trace being built, and its table of keys. Reading files is trace_read.c's. Runs
 * on one thread; a failure leaves the builder as it was. */
#include "trace.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* What is known of a key so far. */
enum { KEY_ACCESSED = 1, KEY_SIZED = 2 }; /* Both by a request that is no delete */

struct trace_builder {
    struct trace trace;
    size_t requests_capacity;
    size_t keys_capacity;
    uint32_t *table; /* Key number + 1 by hash, open addressing; 0: free */
    size_t table_size;
    unsigned char *known; /* By key number: KEY_ bits */
};

struct trace_builder *trace_builder_new(void)
{
    struct trace_builder *builder = calloc(1, sizeof(*builder));

    if (builder == NULL)
        return NULL;
    builder->table_size = 1u << 16;
    builder->table = calloc(builder->table_size, sizeof(*builder->table));
    if (builder->table == NULL) {
        free(builder);
        return NULL;
    }
    return builder;
}

void trace_builder_free(struct trace_builder *builder)
{
    if (builder == NULL)
        return;
    trace_close(&builder->trace);
    free(builder->table);
    free(builder->known);
    free(builder);
}

static int grow_table(struct trace_builder *builder)
{
    size_t size = builder->table_size * 2;
    uint32_t *table = calloc(size, sizeof(*table));

    if (table == NULL)
        return -1;
    for (size_t i = 0; i < builder->trace.n_keys_all; i++) {
        size_t slot = builder->trace.key_hashes[i] & (size - 1);
        while (table[slot] != 0)
            slot = (slot + 1) & (size - 1);
        table[slot] = (uint32_t)i + 1;
    }
    free(builder->table);
    builder->table = table;
    builder->table_size = size;
    return 0;
}

static int grow_keys(struct trace_builder *builder)
{
    size_t capacity = builder->keys_capacity == 0 ? 1024 : builder->keys_capacity * 2;
    void *grown;

    if ((grown = realloc(builder->trace.key_hashes, capacity * sizeof(uint64_t))) == NULL)
        return -1;
    builder->trace.key_hashes = grown;
    if ((grown = realloc(builder->trace.key_sizes, capacity * sizeof(uint32_t))) == NULL)
        return -1;
    builder->trace.key_sizes = grown;
    if ((grown = realloc(builder->known, capacity)) == NULL)
        return -1;
    builder->known = grown;
    builder->keys_capacity = capacity;
    return 0;
}

/* The number of the key with this hash, a new one if need be; negative: out of memory. */
static int64_t key_number(struct trace_builder *builder, uint64_t hash)
{
    struct trace *trace = &builder->trace;
    size_t slot = hash & (builder->table_size - 1);

    while (builder->table[slot] != 0) {
        if (trace->key_hashes[builder->table[slot] - 1] == hash)
            return builder->table[slot] - 1;
        slot = (slot + 1) & (builder->table_size - 1);
    }
    if (trace->n_keys_all == builder->keys_capacity && grow_keys(builder) != 0)
        return -1;
    trace->key_hashes[trace->n_keys_all] = hash;
    trace->key_sizes[trace->n_keys_all] = 1;
    builder->known[trace->n_keys_all] = 0;
    builder->table[slot] = (uint32_t)trace->n_keys_all + 1;
    trace->n_keys_all++;
    if (trace->n_keys_all * 2 > builder->table_size && grow_table(builder) != 0)
        return -1;
    return (int64_t)trace->n_keys_all - 1;
}

/* A size counts until a read or write names one; that one stays. */
static void size_key(struct trace_builder *builder, uint32_t key, uint32_t size, char op)
{
    struct trace *trace = &builder->trace;

    if ((builder->known[key] & KEY_SIZED) != 0)
        return;
    if ((builder->known[key] & KEY_ACCESSED) != 0)
        trace->unique_bytes += (uint64_t)size - trace->key_sizes[key];
    trace->key_sizes[key] = size;
    if (op != 'd')
        builder->known[key] |= KEY_SIZED;
}

int trace_builder_add_hashed(struct trace_builder *builder, uint64_t hash, int64_t size, char op)
{
    struct trace *trace = &builder->trace;
    int64_t key = key_number(builder, hash);

    if (key < 0 || key >= UINT32_MAX)
        return -1;
    if (trace->n_requests == builder->requests_capacity) {
        size_t capacity = trace->n_requests == 0 ? 4096 : trace->n_requests * 2;
        void *grown = realloc(trace->requests, capacity * sizeof(*trace->requests));
        if (grown == NULL)
            return -1;
        trace->requests = grown;
        builder->requests_capacity = capacity;
    }
    trace->requests[trace->n_requests++] = (struct trace_request){(uint32_t)key, op};
    if (size >= 0)
        size_key(builder, (uint32_t)key, (uint32_t)size, op);
    if (op != 'd') {
        trace->n_accesses++;
        if ((builder->known[key] & KEY_ACCESSED) == 0) {
            builder->known[key] |= KEY_ACCESSED;
            trace->n_keys++;
            trace->unique_bytes += trace->key_sizes[key];
        }
    }
    return 0;
}

int trace_builder_add(struct trace_builder *builder, uint64_t key, uint32_t size, char op)
{
    return trace_builder_add_hashed(builder, XXH3_64bits(&key, sizeof(key)), size, op);
}

void trace_builder_finish(struct trace_builder *builder, struct trace *ret_trace)
{
    *ret_trace = builder->trace;
    builder->trace = (struct trace){0};
    trace_builder_free(builder);
}

void trace_close(struct trace *trace)
{
    free(trace->requests);
    free(trace->key_hashes);
    free(trace->key_sizes);
    memset(trace, 0, sizeof(*trace));
}
