/* Reads a trace from a file: bytes (decompressed if need be), lines, fields, requests. A line is
 * parsed where it lies in the buffer; what is left of a line at the buffer's end moves to its
 * front. One thread; a failure leaves nothing allocated and is told in one sentence. */
#include "trace.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <xxhash.h>
#include <zstd.h>

#define LINE_BYTES_MAX 4096
#define BUFFER_BYTES   ((size_t)1 << 18)
#define FIELDS_MAX     16

/* A file read as bytes. */
struct source {
    FILE *file;
    ZSTD_DStream *stream; /* NULL: plain */
    ZSTD_inBuffer in;
    char in_bytes[1 << 17];
    bool ended;
    bool frame_open; /* The compressed bytes so far end amid a frame */
};

enum column { COLUMN_KEY, COLUMN_SIZE, COLUMN_OP, COLUMNS };

struct reader {
    struct source source;
    struct trace_builder *builder;
    const char *path;
    size_t line_number;
    size_t columns[COLUMNS]; /* Which field of a line; FIELDS_MAX: absent */
    bool columns_known;
    char *error_text;
    size_t error_text_size;
    char buffer[BUFFER_BYTES + 1];
};

__attribute__((format(printf, 2, 3))) static int fail(struct reader *reader, const char *format,
                                                      ...)
{
    va_list arguments;
    int n = snprintf(reader->error_text, reader->error_text_size, "%s", reader->path);
    size_t used = n < 0 ? 0 : (size_t)n;

    if (used < reader->error_text_size) {
        va_start(arguments, format);
        vsnprintf(reader->error_text + used, reader->error_text_size - used, format, arguments);
        va_end(arguments);
    }
    return -1;
}

static int fail_at_line(struct reader *reader, const char *what)
{
    return fail(reader, ":%zu: %s", reader->line_number, what);
}

static int source_open(struct source *source, const char *path)
{
    static const unsigned char magic[4] = {0x28, 0xb5, 0x2f, 0xfd};

    source->file = fopen(path, "rb");
    if (source->file == NULL)
        return -1;
    source->in.src = source->in_bytes;
    source->in.size = fread(source->in_bytes, 1, sizeof(source->in_bytes), source->file);
    if (ferror(source->file))
        return -1;
    if (source->in.size >= sizeof(magic) && memcmp(source->in_bytes, magic, sizeof(magic)) == 0) {
        source->stream = ZSTD_createDStream();
        if (source->stream == NULL) {
            errno = ENOMEM;
            return -1;
        }
    }
    return 0;
}

static void source_close(struct source *source)
{
    ZSTD_freeDStream(source->stream);
    if (source->file != NULL)
        (void)fclose(source->file); /* Was only read from */
}

/* Bytes read into `out`, 0 at the end, -1 on a read error, -2 when the compression is damaged. */
static long source_read(struct source *source, char *out, size_t size)
{
    ZSTD_outBuffer buffer = {out, size, 0};

    while (buffer.pos == 0) {
        if (source->in.pos == source->in.size && !source->ended) {
            source->in.pos = 0;
            source->in.size = fread(source->in_bytes, 1, sizeof(source->in_bytes), source->file);
            source->ended = source->in.size == 0;
            if (ferror(source->file))
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
        if (source->ended && source->in.pos == source->in.size && !source->frame_open)
            return 0;
        size_t left = ZSTD_decompressStream(source->stream, &buffer, &source->in);
        if (ZSTD_isError(left) || (source->ended && left > 0 && buffer.pos == 0))
            return -2;
        source->frame_open = left > 0;
    }
    return (long)buffer.pos;
}

/* Cuts the line at its separators; how many fields, at most FIELDS_MAX. */
static size_t split(char *line, char *fields[FIELDS_MAX])
{
    bool by_comma = strchr(line, ',') != NULL;
    size_t n = 0;

    while (n < FIELDS_MAX) {
        line += strspn(line, " \t\r");
        if (*line == '\0' && !by_comma)
            break;
        fields[n++] = line;
        line += strcspn(line, by_comma ? "," : " \t\r");
        char *end = line;
        bool last = *line == '\0';
        *line = '\0';
        for (; end > fields[n - 1] && strchr(" \t\r", end[-1]) != NULL; end--)
            end[-1] = '\0';
        if (last)
            break;
        line++;
    }
    return n;
}

/* Whether these are names of columns; then they are taken over. */
static bool take_header(struct reader *reader, char *fields[FIELDS_MAX], size_t n)
{
    static const char *const names[COLUMNS] = {"key", "size", "op"};
    size_t columns[COLUMNS] = {FIELDS_MAX, FIELDS_MAX, FIELDS_MAX};

    for (size_t i = 0; i < n; i++) {
        for (size_t column = 0; column < COLUMNS; column++) {
            if (strcasecmp(fields[i], names[column]) == 0)
                columns[column] = i;
        }
    }
    if (columns[COLUMN_KEY] == FIELDS_MAX)
        return false;
    memcpy(reader->columns, columns, sizeof(columns));
    return true;
}

/* r, w or d; 0 for anything else. */
static char op_of(const char *text)
{
    static const struct {
        const char *text;
        char op;
    } ops[] = {{"r", 'r'},   {"w", 'w'},   {"d", 'd'},     {"read", 'r'},  {"get", 'r'},
               {"put", 'w'}, {"set", 'w'}, {"write", 'w'}, {"delete", 'd'}};

    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        if (strcasecmp(text, ops[i].text) == 0)
            return ops[i].op;
    }
    return 0;
}

static const char *field_of(const struct reader *reader, char *fields[FIELDS_MAX], size_t n,
                            enum column column)
{
    size_t i = reader->columns[column];

    return i < n && *fields[i] != '\0' ? fields[i] : NULL;
}

static int add_line(struct reader *reader, char *line)
{
    char *fields[FIELDS_MAX];
    size_t n;
    int64_t size = -1;
    char op = 'r';

    if (*line == '#')
        return 0;
    n = split(line, fields);
    if (n == 0)
        return 0;
    if (!reader->columns_known) {
        reader->columns_known = true;
        if (take_header(reader, fields, n))
            return 0;
    }
    const char *key = field_of(reader, fields, n, COLUMN_KEY);
    const char *size_text = field_of(reader, fields, n, COLUMN_SIZE);
    const char *op_text = field_of(reader, fields, n, COLUMN_OP);
    if (key == NULL)
        return fail_at_line(reader, "no key");
    if (size_text != NULL) {
        char *end = NULL;
        errno = 0;
        unsigned long long number = strtoull(size_text, &end, 10);
        if (errno != 0 || *end != '\0' || *size_text == '-' || number > UINT32_MAX)
            return fail_at_line(reader, "the size is not a number below 2^32");
        size = (int64_t)number;
    }
    if (op_text != NULL && (op = op_of(op_text)) == 0)
        return fail_at_line(reader, "the operation is none of r, w and d");
    if (trace_builder_add_hashed(reader->builder, XXH3_64bits(key, strlen(key)), size, op) != 0)
        return fail(reader, ": the trace does not fit into memory");
    return 0;
}

/* Parses the whole lines among the first `used` bytes of the buffer, the last one too at the end;
 * ret_used: what is left at its front. */
static int add_lines(struct reader *reader, size_t used, bool at_end, size_t *ret_used)
{
    char *line = reader->buffer, *end = reader->buffer + used;

    while (line < end) {
        char *newline = memchr(line, '\n', (size_t)(end - line));
        if (newline == NULL) {
            if ((size_t)(end - line) > LINE_BYTES_MAX)
                return fail_at_line(reader, "the line is too long for a request");
            if (!at_end)
                break;
            newline = end; /* The buffer has room for the zero */
        }
        *newline = '\0';
        if (strlen(line) != (size_t)(newline - line))
            return fail_at_line(reader, "not text");
        if (add_line(reader, line) != 0)
            return -1;
        reader->line_number++;
        line = newline + 1;
    }
    *ret_used = line < end ? (size_t)(end - line) : 0;
    memmove(reader->buffer, line < end ? line : end, *ret_used);
    return 0;
}

static int read_all(struct reader *reader)
{
    size_t used = 0;
    long n;

    do {
        n = source_read(&reader->source, reader->buffer + used, BUFFER_BYTES - used);
        if (n < 0)
            return fail(reader, n == -1 ? ": cannot be read" : ": the compressed file is damaged");
        if (add_lines(reader, used + (size_t)n, n == 0, &used) != 0)
            return -1;
    } while (n > 0);
    return 0;
}

int trace_load(const char *path, struct trace *ret_trace, char *error_text, size_t error_text_size)
{
    struct reader *reader = calloc(1, sizeof(*reader));
    int error = -1;

    if (reader == NULL) {
        snprintf(error_text, error_text_size, "%s: out of memory", path);
        return -1;
    }
    reader->path = path;
    reader->line_number = 1;
    reader->error_text = error_text;
    reader->error_text_size = error_text_size;
    for (size_t i = 0; i < COLUMNS; i++)
        reader->columns[i] = i;
    reader->builder = trace_builder_new();
    if (reader->builder == NULL) {
        fail(reader, ": out of memory");
        goto out;
    }
    if (source_open(&reader->source, path) != 0) {
        fail(reader, ": %s", strerror(errno));
        goto out;
    }
    error = read_all(reader);
    if (error == 0) {
        trace_builder_finish(reader->builder, ret_trace);
        reader->builder = NULL;
    }

out:
    source_close(&reader->source);
    trace_builder_free(reader->builder);
    free(reader);
    return error;
}
