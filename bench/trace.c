/* See trace.h. Runs on one thread; a failure leaves nothing allocated. */
#include "trace.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include <zstd.h>

#define LINE_BYTES_MAX 4096

struct trace_builder {
    struct trace trace;
    size_t requests_capacity;
    size_t keys_capacity;
    uint32_t *table; /* Key number + 1 by hash, open addressing; 0: free */
    size_t table_size;
    unsigned char *accessed; /* By key number: seen in a request that is no delete */
};

struct trace_builder *trace_builder_new(void)
{
    struct trace_builder *builder = calloc(1, sizeof *builder);

    if (builder == NULL)
        return NULL;
    builder->table_size = 1u << 16;
    builder->table = calloc(builder->table_size, sizeof *builder->table);
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
    free(builder->accessed);
    free(builder);
}

static int grow_table(struct trace_builder *builder)
{
    size_t size = builder->table_size * 2;
    uint32_t *table = calloc(size, sizeof *table);

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
    if ((grown = realloc(builder->accessed, capacity)) == NULL)
        return -1;
    builder->accessed = grown;
    builder->keys_capacity = capacity;
    return 0;
}

/* The number of the key with this hash, a new one if need be; negative: out of memory. */
static int64_t key_number(struct trace_builder *builder, uint64_t hash, uint32_t size)
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
    trace->key_sizes[trace->n_keys_all] = size;
    builder->accessed[trace->n_keys_all] = 0;
    builder->table[slot] = (uint32_t)trace->n_keys_all + 1;
    trace->n_keys_all++;
    if (trace->n_keys_all * 2 > builder->table_size && grow_table(builder) != 0)
        return -1;
    return (int64_t)trace->n_keys_all - 1;
}

static int add_hashed(struct trace_builder *builder, uint64_t hash, uint32_t size, char op)
{
    struct trace *trace = &builder->trace;
    int64_t key = key_number(builder, hash, size);

    if (key < 0 || key >= UINT32_MAX)
        return -1;
    if (trace->n_requests == builder->requests_capacity) {
        size_t capacity = trace->n_requests == 0 ? 4096 : trace->n_requests * 2;
        void *grown = realloc(trace->requests, capacity * sizeof *trace->requests);
        if (grown == NULL)
            return -1;
        trace->requests = grown;
        builder->requests_capacity = capacity;
    }
    trace->requests[trace->n_requests++] = (struct trace_request){(uint32_t)key, op};
    if (op != 'd') {
        trace->n_accesses++;
        if (builder->accessed[key] == 0) {
            builder->accessed[key] = 1;
            trace->n_keys++;
            trace->unique_bytes += trace->key_sizes[key];
        }
    }
    return 0;
}

int trace_builder_add(struct trace_builder *builder, uint64_t key, uint32_t size, char op)
{
    return add_hashed(builder, XXH3_64bits(&key, sizeof key), size, op);
}

int trace_builder_finish(struct trace_builder *builder, struct trace *ret_trace)
{
    *ret_trace = builder->trace;
    memset(&builder->trace, 0, sizeof builder->trace);
    trace_builder_free(builder);
    return 0;
}

void trace_close(struct trace *trace)
{
    free(trace->requests);
    free(trace->key_hashes);
    free(trace->key_sizes);
    memset(trace, 0, sizeof *trace);
}

/* One field of a line; NULL at its end. Fields end at blanks and commas. */
static char *next_field(char **cursor)
{
    char *field;

    *cursor += strspn(*cursor, " \t,\r");
    if (**cursor == '\0')
        return NULL;
    field = *cursor;
    *cursor += strcspn(*cursor, " \t,\r");
    if (**cursor != '\0')
        *(*cursor)++ = '\0';
    return field;
}

/* 0, -1: out of memory, -2: not a request. */
static int add_line(struct trace_builder *builder, char *line)
{
    char *key = next_field(&line), *size_text, *op_text, *end;
    unsigned long long size = 1;

    if (key == NULL || *key == '#')
        return 0;
    size_text = next_field(&line);
    op_text = next_field(&line);
    if (size_text != NULL) {
        errno = 0;
        size = strtoull(size_text, &end, 10);
        if (errno != 0 || *end != '\0' || size > UINT32_MAX || *size_text == '-')
            return -2;
    }
    if (op_text != NULL && (strlen(op_text) != 1 || strchr("rwd", *op_text) == NULL))
        return -2;
    return add_hashed(builder, XXH3_64bits(key, strlen(key)), (uint32_t)size,
                      op_text == NULL ? 'r' : *op_text);
}

/* A file read as bytes, decompressed if it is a zstd stream. */
struct source {
    FILE *file;
    ZSTD_DStream *stream; /* NULL: plain */
    ZSTD_inBuffer in;
    char in_bytes[1 << 17];
    bool ended;
};

static int source_open(struct source *source, const char *path)
{
    static const unsigned char magic[4] = {0x28, 0xb5, 0x2f, 0xfd};

    memset(source, 0, sizeof *source);
    source->file = fopen(path, "rb");
    if (source->file == NULL)
        return -1;
    source->in.src = source->in_bytes;
    source->in.size = fread(source->in_bytes, 1, sizeof source->in_bytes, source->file);
    if (source->in.size >= sizeof magic && memcmp(source->in_bytes, magic, sizeof magic) == 0) {
        source->stream = ZSTD_createDStream();
        if (source->stream == NULL) {
            fclose(source->file);
            errno = ENOMEM;
            return -1;
        }
    }
    return 0;
}

static void source_close(struct source *source)
{
    ZSTD_freeDStream(source->stream);
    fclose(source->file);
}

/* Bytes read into `out`, 0 at the end, -1 on damage or a read error. */
static long source_read(struct source *source, char *out, size_t size)
{
    ZSTD_outBuffer buffer = {out, size, 0};

    while (buffer.pos == 0) {
        if (source->in.pos == source->in.size && !source->ended) {
            source->in.pos = 0;
            source->in.size = fread(source->in_bytes, 1, sizeof source->in_bytes, source->file);
            source->ended = source->in.size == 0;
            if (source->ended && ferror(source->file))
                return -1;
        }
        if (source->stream == NULL) {
            size_t n = source->in.size - source->in.pos;
            if (n > size)
                n = size;
            memcpy(out, source->in_bytes + source->in.pos, n);
            source->in.pos += n;
            return (long)n;
        }
        if (source->ended && source->in.pos == source->in.size)
            return 0;
        if (ZSTD_isError(ZSTD_decompressStream(source->stream, &buffer, &source->in)))
            return -1;
    }
    return (long)buffer.pos;
}

__attribute__((format(printf, 3, 4))) static int fail(char *text, size_t size, const char *format,
                                                      ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, size, format, arguments);
    va_end(arguments);
    return -1;
}

static int read_lines(struct source *source, struct trace_builder *builder, const char *path,
                      char *error_text, size_t error_text_size)
{
    char buffer[1 << 16], line[LINE_BYTES_MAX + 1];
    size_t line_length = 0, line_number = 1;
    long n;

    do {
        n = source_read(source, buffer, sizeof buffer);
        if (n < 0)
            return fail(error_text, error_text_size, "%s: cannot be read or is damaged", path);
        for (long i = 0; i <= n; i++) {
            bool end_of_line = i < n ? buffer[i] == '\n' : n == 0;
            int rv;
            if (i < n && !end_of_line) {
                if (line_length == LINE_BYTES_MAX)
                    return fail(error_text, error_text_size, "%s:%zu: line too long", path,
                                line_number);
                line[line_length++] = buffer[i];
            }
            if (!end_of_line)
                continue;
            line[line_length] = '\0';
            line_length = 0;
            rv = add_line(builder, line);
            if (rv == -1)
                return fail(error_text, error_text_size, "%s: out of memory", path);
            if (rv == -2)
                return fail(error_text, error_text_size,
                            "%s:%zu: not a request; expected KEY [SIZE [r|w|d]]", path,
                            line_number);
            line_number++;
        }
    } while (n > 0);
    return 0;
}

int trace_load(const char *path, struct trace *ret_trace, char *error_text, size_t error_text_size)
{
    struct trace_builder *builder = trace_builder_new();
    struct source *source = malloc(sizeof *source);
    int rv = -1;

    if (builder == NULL || source == NULL) {
        fail(error_text, error_text_size, "%s: out of memory", path);
        goto out;
    }
    if (source_open(source, path) != 0) {
        fail(error_text, error_text_size, "%s: %s", path, strerror(errno));
        goto out;
    }
    rv = read_lines(source, builder, path, error_text, error_text_size);
    source_close(source);
    if (rv == 0) {
        rv = trace_builder_finish(builder, ret_trace);
        builder = NULL;
    }
out:
    free(source);
    trace_builder_free(builder);
    return rv;
}
