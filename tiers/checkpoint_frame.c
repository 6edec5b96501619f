/* See checkpoint_frame.h. One thread a writer or reader; memory grows with the largest frame. */
#include "checkpoint_frame.h"

#include "little_endian.h"

#include <stdlib.h>
#include <xxhash.h>

#define HEADER_BYTES 16

static uint64_t hash_of(uint32_t type, uint32_t number, const void *payload, size_t n)
{
    return XXH3_64bits_withSeed(payload, n, (uint64_t)type << 32 | number);
}

int checkpoint_frame_write(struct checkpoint_writer *writer, enum checkpoint_frame_type type,
                           const void *payload, size_t n)
{
    unsigned char header[HEADER_BYTES];
    little_endian_put(header, type, 4);
    little_endian_put(header + 4, n, 4);
    little_endian_put(header + 8, hash_of(type, writer->number++, payload, n), 8);
    int error = writer->sink(writer->context, header, sizeof header);
    return error || n == 0 ? error : writer->sink(writer->context, payload, n);
}

static int reserve(struct checkpoint_reader *reader, size_t n)
{
    if (n <= reader->capacity) {
        return 0;
    }
    unsigned char *grown = realloc(reader->payload, n);
    if (grown == NULL) {
        return TIERS_NO_MEMORY;
    }
    reader->payload = grown;
    reader->capacity = n;
    return 0;
}

int checkpoint_frame_read(struct checkpoint_reader *reader)
{
    unsigned char header[HEADER_BYTES];
    int error = reader->source(reader->context, header, sizeof header);
    if (error) {
        return error;
    }
    uint32_t type = (uint32_t)little_endian_get(header, 4);
    size_t n = little_endian_get(header + 4, 4);
    if (n > CHECKPOINT_FRAME_BYTES_MAX) {
        return TIERS_CORRUPT;
    }
    error = reserve(reader, n);
    if (error == 0 && n > 0) {
        error = reader->source(reader->context, reader->payload, n);
    }
    if (error) {
        return error;
    }
    if (hash_of(type, reader->number++, reader->payload, n) != little_endian_get(header + 8, 8)) {
        return TIERS_CORRUPT;
    }
    reader->type = type;
    reader->n = n;
    return 0;
}

void checkpoint_reader_free(struct checkpoint_reader *reader)
{
    free(reader->payload);
    reader->payload = NULL;
    reader->capacity = 0;
}
