/* See compression.h. */
#include "command/compression.h"

#include "command/codec.h"
#include "command/little_endian.h"

#include <stdlib.h>
#include <zstd.h>

#define COMPRESSED_MAGIC UINT32_C(0x5a564b54) /* "TKVZ" */
#define HEAD_BYTES       16
#define ALIGNMENT        8

/* zstd's fast levels are the negative ones. Of JSON this one makes a quarter, in a third of the
 * time that it saves in checksums alone; level 1 makes a sixth, in twice the time. */
#define LEVEL (-3)
/* So many entries at most are not tried after some that did not shrink. */
#define SKIPPED_MAX 64u

struct command_compressor {
    ZSTD_CCtx *context;
    unsigned char *bytes;
    size_t capacity;
    unsigned n_skip;    /* Entries not to be tried from here on, */
    unsigned n_skipped; /* and how many were not the last time */
};

struct command_decompressor {
    ZSTD_DCtx *context;
    unsigned char *bytes;
    size_t capacity;
};

struct command_compressor *command_compressor_new(void)
{
    struct command_compressor *compressor = calloc(1, sizeof(*compressor));
    if (compressor == NULL)
        return NULL;
    compressor->context = ZSTD_createCCtx();
    if (compressor->context == NULL) {
        free(compressor);
        return NULL;
    }
    return compressor;
}

void command_compressor_free(struct command_compressor *compressor)
{
    if (compressor == NULL)
        return;
    ZSTD_freeCCtx(compressor->context);
    free(compressor->bytes);
    free(compressor);
}

struct command_decompressor *command_decompressor_new(void)
{
    struct command_decompressor *decompressor = calloc(1, sizeof(*decompressor));
    if (decompressor == NULL)
        return NULL;
    decompressor->context = ZSTD_createDCtx();
    if (decompressor->context == NULL) {
        free(decompressor);
        return NULL;
    }
    return decompressor;
}

void command_decompressor_free(struct command_decompressor *decompressor)
{
    if (decompressor == NULL)
        return;
    ZSTD_freeDCtx(decompressor->context);
    free(decompressor->bytes);
    free(decompressor);
}

/* Room for that much; what was there is not kept. */
static bool reserve(unsigned char **bytes, size_t *capacity, size_t wanted)
{
    if (wanted <= *capacity)
        return true;
    unsigned char *fresh = malloc(wanted);
    if (fresh == NULL)
        return false;
    free(*bytes);
    *bytes = fresh;
    *capacity = wanted;
    return true;
}

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void note_in_vain(struct command_compressor *compressor)
{
    unsigned n = compressor->n_skipped > 0 ? 2 * compressor->n_skipped : 1;
    compressor->n_skipped = n < SKIPPED_MAX ? n : SKIPPED_MAX;
    compressor->n_skip = compressor->n_skipped;
}

size_t command_entry_compress(struct command_compressor *compressor, const void *entry,
                              size_t bytes, const void **ret_compressed)
{
    if (bytes < COMMAND_COMPRESS_BYTES_MIN || bytes > COMMAND_COMPRESS_BYTES_MAX)
        return 0;
    if (compressor->n_skip > 0) {
        compressor->n_skip--;
        return 0;
    }
    size_t bound = ZSTD_compressBound(bytes);
    if (!reserve(&compressor->bytes, &compressor->capacity, HEAD_BYTES + aligned(bound)))
        return 0;
    unsigned char *head = compressor->bytes;
    size_t frame =
        ZSTD_compressCCtx(compressor->context, head + HEAD_BYTES, bound, entry, bytes, LEVEL);
    size_t size = ZSTD_isError(frame) ? bytes : HEAD_BYTES + aligned(frame);
    if (size > bytes - bytes / 8) {
        note_in_vain(compressor);
        return 0;
    }
    compressor->n_skipped = 0;
    store_u32(head, COMPRESSED_MAGIC);
    store_u32(head + 4, (uint32_t)bytes);
    store_u32(head + 8, (uint32_t)frame);
    store_u32(head + 12, 0);
    memset(head + HEAD_BYTES + frame, 0, size - HEAD_BYTES - frame);
    *ret_compressed = head;
    return size;
}

static bool is_compressed(const void *entry, size_t bytes)
{
    return bytes >= HEAD_BYTES && load_u32(entry) == COMPRESSED_MAGIC;
}

size_t command_entry_bytes(const void *entry, size_t bytes)
{
    return is_compressed(entry, bytes) ? load_u32((const unsigned char *)entry + 4) : bytes;
}

int command_entry_decompress(struct command_decompressor *decompressor, const void *entry,
                             size_t bytes, const void **ret_entry, size_t *ret_bytes)
{
    const unsigned char *head = entry;
    if (!is_compressed(entry, bytes)) {
        *ret_entry = entry;
        *ret_bytes = bytes;
        return 0;
    }
    size_t inside = load_u32(head + 4);
    size_t frame = load_u32(head + 8);
    if (inside < COMMAND_COMPRESS_BYTES_MIN || inside > COMMAND_COMPRESS_BYTES_MAX ||
        frame > bytes - HEAD_BYTES || aligned(frame) != bytes - HEAD_BYTES ||
        !all_zero(head + 12, 4) || !all_zero(head + HEAD_BYTES + frame, bytes - HEAD_BYTES - frame))
        return TIERS_CORRUPT;
    if (!reserve(&decompressor->bytes, &decompressor->capacity, inside))
        return TIERS_NO_MEMORY;
    size_t made = ZSTD_decompressDCtx(decompressor->context, decompressor->bytes, inside,
                                      head + HEAD_BYTES, frame);
    if (ZSTD_isError(made) || made != inside ||
        load_u32(decompressor->bytes) != COMMAND_ENTRY_MAGIC)
        return TIERS_CORRUPT;
    *ret_entry = decompressor->bytes;
    *ret_bytes = made;
    return 0;
}
