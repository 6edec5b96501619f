/* The codec of cold records: see cold_record.h for the layout.
 *
 * Encoding compresses straight into the destination, with too little room for a result that would
 * not pay; zstd then gives up early and the value is stored as it is. Decoding believes nothing
 * before the checksum is right, and no length even then.
 */
#include "cold_record.h"

#include "little_endian.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include <zstd.h>

#define FLAG_COMPRESSED  1
#define FLAG_DICTIONARY  2
#define FORMAT_PLAIN     1 /* Knows no dictionaries */
#define CHECKSUM_OFFSET  64
#define COMPRESSION      3
#define SAVED_PERCENT    12
#define COMPRESS_MIN     64 /* A shorter value has nothing to win: a frame costs 10 bytes */
#define DICTIONARY_MIN   32 /* The same, with a dictionary */
#define DECODED_KEPT_MAX (256u << 10) /* A larger buffer is given back before the next record */

/* After so many tries to compress in vain in a row SKIPPED_MIN values are not tried, and if they
 * are short further ones, up to SKIPPED_BYTES_MIN; after each further one twice as many. That ends
 * at SKIPPED_MAX values, or a million bytes of short ones: a try costs more than all the rest, and
 * for short values most of that goes into setting zstd up. */
#define MISSES_MAX        16
#define SKIPPED_MIN       8u
#define SKIPPED_MAX       256u
#define SKIPPED_BYTES_MIN ((size_t)8000)
#define DOUBLINGS_MAX     7

struct cold_codec {
    ZSTD_CCtx *compressor;
    ZSTD_DCtx *decompressor;
    unsigned char *decoded; /* The last decompressed value */
    size_t decoded_size;
    uint32_t dictionary;  /* The last one that was used; 0: none yet. A new one may change it all */
    unsigned misses;      /* Tries in a row that saved too little */
    unsigned skipped;     /* Of the values to come: they are not tried, */
    size_t skipped_bytes; /* nor these */
};

struct header {
    uint32_t magic;
    uint8_t format;
    uint8_t flags;
    uint8_t space;
    uint16_t key_len;
    uint32_t value_len;
    uint32_t stored_len;
    uint32_t dictionary;
};

struct cold_codec *cold_codec_new(void)
{
    struct cold_codec *codec = calloc(1, sizeof *codec);
    if (codec == NULL)
        return NULL;
    codec->compressor = ZSTD_createCCtx();
    codec->decompressor = ZSTD_createDCtx();
    if (codec->compressor == NULL || codec->decompressor == NULL) {
        cold_codec_free(codec);
        return NULL;
    }
    return codec;
}

void cold_codec_free(struct cold_codec *codec)
{
    if (codec == NULL)
        return;
    ZSTD_freeCCtx(codec->compressor);
    ZSTD_freeDCtx(codec->decompressor);
    free(codec->decoded);
    free(codec);
}

static size_t record_bytes(size_t key_len, size_t stored_len)
{
    size_t bytes = COLD_RECORD_HEADER_BYTES + key_len + stored_len;
    return (bytes + COLD_RECORD_ALIGN - 1) / COLD_RECORD_ALIGN * COLD_RECORD_ALIGN;
}

static uint64_t record_checksum(const unsigned char *bytes, size_t n_bytes)
{
    return XXH3_64bits_withSeed(bytes + COLD_RECORD_HEADER_BYTES,
                                n_bytes - COLD_RECORD_HEADER_BYTES,
                                XXH3_64bits(bytes, CHECKSUM_OFFSET));
}

size_t cold_record_bytes_max(size_t key_len, size_t value_len)
{
    return record_bytes(key_len, value_len);
}

static void note_miss(struct cold_codec *codec)
{
    if (++codec->misses < MISSES_MAX)
        return;
    unsigned doublings = codec->misses - MISSES_MAX;
    if (doublings > DOUBLINGS_MAX)
        doublings = DOUBLINGS_MAX;
    codec->skipped = SKIPPED_MIN << doublings;
    if (codec->skipped > SKIPPED_MAX)
        codec->skipped = SKIPPED_MAX;
    codec->skipped_bytes = SKIPPED_BYTES_MIN << doublings;
}

/* Stores the value at `to`, which has room for all of it. Returns the stored length, which is less
 * than the value's only if it was compressed. */
static size_t store_value(struct cold_codec *codec, const struct cold_item *item,
                          const struct cold_dictionary *dictionary, unsigned char *to)
{
    if (dictionary != NULL && dictionary->id != codec->dictionary) {
        codec->dictionary = dictionary->id;
        codec->misses = 0;
        codec->skipped = 0;
        codec->skipped_bytes = 0;
    }
    bool suited = item->value_len >= (dictionary != NULL ? DICTIONARY_MIN : COMPRESS_MIN);
    if (suited && (codec->skipped > 0 || codec->skipped_bytes > 0)) {
        codec->skipped -= codec->skipped > 0;
        codec->skipped_bytes -=
            item->value_len < codec->skipped_bytes ? item->value_len : codec->skipped_bytes;
    } else if (suited) {
        size_t worth = item->value_len - (item->value_len * SAVED_PERCENT + 99) / 100;
        size_t stored = dictionary != NULL
                            ? ZSTD_compress_usingCDict(codec->compressor, to, worth, item->value,
                                                       item->value_len, dictionary->compressor)
                            : ZSTD_compressCCtx(codec->compressor, to, worth, item->value,
                                                item->value_len, COMPRESSION);
        if (!ZSTD_isError(stored)) {
            codec->misses = 0;
            return stored;
        }
        note_miss(codec);
    }
    if (item->value_len > 0)
        memcpy(to, item->value, item->value_len);
    return item->value_len;
}

size_t cold_record_encode(struct cold_codec *codec, const struct cold_item *item,
                          const struct cold_dictionary *dictionary, unsigned char *bytes)
{
    assert(item->key_len >= 1 && item->key_len <= TIERS_KEY_BYTES_MAX);
    assert(item->value_len <= TIERS_VALUE_BYTES_MAX);

    if (item->value_len > COLD_DICTIONARY_VALUE_MAX)
        dictionary = NULL;
    unsigned char *key = bytes + COLD_RECORD_HEADER_BYTES;
    memcpy(key, item->key, item->key_len);
    size_t stored_len = store_value(codec, item, dictionary, key + item->key_len);
    size_t end = COLD_RECORD_HEADER_BYTES + item->key_len + stored_len;
    size_t n_bytes = record_bytes(item->key_len, stored_len);
    memset(bytes + end, 0, n_bytes - end);

    memset(bytes, 0, COLD_RECORD_HEADER_BYTES);
    little_endian_put(bytes, COLD_RECORD_MAGIC, 4);
    bytes[4] = COLD_RECORD_FORMAT;
    if (stored_len < item->value_len && dictionary != NULL) {
        bytes[5] = FLAG_COMPRESSED | FLAG_DICTIONARY;
        little_endian_put(bytes + 20, dictionary->id, 4);
    } else if (stored_len < item->value_len) {
        bytes[5] = FLAG_COMPRESSED;
    }
    bytes[6] = (unsigned char)item->space;
    little_endian_put(bytes + 8, item->key_len, 2);
    little_endian_put(bytes + 12, item->value_len, 4);
    little_endian_put(bytes + 16, stored_len, 4);
    little_endian_put(bytes + 24, item->meta.create_revision, 8);
    little_endian_put(bytes + 32, item->meta.mod_revision, 8);
    little_endian_put(bytes + 40, item->meta.version, 8);
    little_endian_put(bytes + 48, item->meta.flags, 8);
    little_endian_put(bytes + 56, item->meta.expires_ms, 8);
    little_endian_put(bytes + CHECKSUM_OFFSET, record_checksum(bytes, n_bytes), 8);
    return n_bytes;
}

static bool header_possible(const struct header *header)
{
    if (header->magic != COLD_RECORD_MAGIC || header->space > TIERS_SPACE_SYSTEM)
        return false;
    if (header->format != COLD_RECORD_FORMAT && header->format != FORMAT_PLAIN)
        return false;
    bool with_dictionary =
        header->flags == (FLAG_COMPRESSED | FLAG_DICTIONARY) && header->format != FORMAT_PLAIN;
    if ((header->flags & ~FLAG_COMPRESSED) != 0 && !with_dictionary)
        return false;
    if (with_dictionary != (header->dictionary != 0))
        return false;
    if (header->key_len < 1 || header->key_len > TIERS_KEY_BYTES_MAX)
        return false;
    if (header->value_len > TIERS_VALUE_BYTES_MAX)
        return false;
    if ((header->flags & FLAG_COMPRESSED) != 0)
        return header->stored_len < header->value_len;
    return header->stored_len == header->value_len;
}

static int header_read(const unsigned char *bytes, struct header *ret_header)
{
    struct header header = {
        .magic = (uint32_t)little_endian_get(bytes, 4),
        .format = bytes[4],
        .flags = bytes[5],
        .space = bytes[6],
        .key_len = (uint16_t)little_endian_get(bytes + 8, 2),
        .value_len = (uint32_t)little_endian_get(bytes + 12, 4),
        .stored_len = (uint32_t)little_endian_get(bytes + 16, 4),
        .dictionary = (uint32_t)little_endian_get(bytes + 20, 4),
    };
    if (!header_possible(&header))
        return TIERS_CORRUPT;
    *ret_header = header;
    return 0;
}

int cold_record_size(const unsigned char *bytes, size_t *ret_bytes)
{
    struct header header;
    int status = header_read(bytes, &header);
    if (status != 0)
        return status;
    *ret_bytes = record_bytes(header.key_len, header.stored_len);
    return 0;
}

uint32_t cold_record_dictionary(const unsigned char *bytes)
{
    struct header header;
    return header_read(bytes, &header) == 0 ? header.dictionary : 0;
}

static int decoded_reserve(struct cold_codec *codec, size_t size)
{
    if (codec->decoded_size >= size && codec->decoded_size <= DECODED_KEPT_MAX)
        return 0;
    free(codec->decoded);
    codec->decoded_size = 0;
    codec->decoded = malloc(size);
    if (codec->decoded == NULL)
        return TIERS_NO_MEMORY;
    codec->decoded_size = size;
    return 0;
}

static int decompress(struct cold_codec *codec, const unsigned char *stored,
                      const struct header *header, const struct cold_dictionary *dictionary)
{
    if (header->dictionary != 0 && (dictionary == NULL || dictionary->id != header->dictionary))
        return TIERS_CORRUPT;
    int status = decoded_reserve(codec, header->value_len);
    if (status != 0)
        return status;
    size_t n =
        header->dictionary != 0
            ? ZSTD_decompress_usingDDict(codec->decompressor, codec->decoded, header->value_len,
                                         stored, header->stored_len, dictionary->decompressor)
            : ZSTD_decompressDCtx(codec->decompressor, codec->decoded, header->value_len, stored,
                                  header->stored_len);
    return ZSTD_isError(n) || n != header->value_len ? TIERS_CORRUPT : 0;
}

/* All but value and location. */
static void item_describe(const struct header *header, const unsigned char *bytes,
                          struct cold_item *ret_item)
{
    ret_item->space = header->space == TIERS_SPACE_SYSTEM ? TIERS_SPACE_SYSTEM : TIERS_SPACE_USER;
    ret_item->key = bytes + COLD_RECORD_HEADER_BYTES;
    ret_item->key_len = header->key_len;
    ret_item->meta.create_revision = little_endian_get(bytes + 24, 8);
    ret_item->meta.mod_revision = little_endian_get(bytes + 32, 8);
    ret_item->meta.version = little_endian_get(bytes + 40, 8);
    ret_item->meta.flags = little_endian_get(bytes + 48, 8);
    ret_item->meta.expires_ms = little_endian_get(bytes + 56, 8);
    ret_item->value_len = header->value_len;
}

void cold_record_peek(const unsigned char *bytes, struct cold_item *ret_item)
{
    struct header header = {0};
    int status = header_read(bytes, &header);
    assert(status == 0);
    (void)status;
    item_describe(&header, bytes, ret_item);
    ret_item->value = NULL;
}

int cold_record_decode(struct cold_codec *codec, const unsigned char *bytes, size_t n_bytes,
                       const struct cold_dictionary *dictionary, struct cold_item *ret_item)
{
    if (n_bytes < COLD_RECORD_HEADER_BYTES)
        return TIERS_CORRUPT;
    struct header header;
    int status = header_read(bytes, &header);
    if (status != 0)
        return status;
    if (record_bytes(header.key_len, header.stored_len) != n_bytes)
        return TIERS_CORRUPT;
    if (little_endian_get(bytes + CHECKSUM_OFFSET, 8) != record_checksum(bytes, n_bytes))
        return TIERS_CORRUPT;

    const unsigned char *value = bytes + COLD_RECORD_HEADER_BYTES + header.key_len;
    if ((header.flags & FLAG_COMPRESSED) != 0) {
        status = decompress(codec, value, &header, dictionary);
        if (status != 0)
            return status;
        value = codec->decoded;
    }
    item_describe(&header, bytes, ret_item);
    ret_item->value = value;
    return 0;
}
