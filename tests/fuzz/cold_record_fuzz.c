/* Any bytes either are refused or decode to an item that survives encoding and decoding again; and
 * any item survives.
 *
 * The first byte chooses how the rest is taken: as a record as it stands; as a record whose header
 * and checksum are made plausible, so that the decoder's other checks are reached; as an item; or
 * as an item and a change to its record, so that damaged zstd frames are reached. */
#include "cold_record.h"
#include "little_endian.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct cold_codec *codec;
static struct cold_dictionary *dictionary;

/* A copy that ends exactly at the end of its allocation. */
static unsigned char *copy(const void *bytes, size_t n_bytes)
{
    unsigned char *result = malloc(n_bytes + (n_bytes == 0));
    assert(result != NULL);
    if (n_bytes > 0)
        memcpy(result, bytes, n_bytes);
    return result;
}

static void check_equal(const struct cold_item *a, const struct cold_item *b)
{
    assert(a->space == b->space);
    assert(a->key_len == b->key_len && memcmp(a->key, b->key, a->key_len) == 0);
    assert(memcmp(&a->meta, &b->meta, sizeof a->meta) == 0);
    assert(a->value_len == b->value_len);
    assert(a->value_len == 0 || memcmp(a->value, b->value, a->value_len) == 0);
}

/* `item` must not point into the codec. */
static void check_round_trip(const struct cold_item *item)
{
    size_t n_bytes_max = cold_record_bytes_max(item->key_len, item->value_len);
    unsigned char *bytes = malloc(n_bytes_max);
    assert(bytes != NULL);
    size_t n_bytes = cold_record_encode(codec, item, dictionary, bytes);
    assert(n_bytes <= n_bytes_max && n_bytes <= COLD_RECORD_BYTES_MAX);
    size_t size = 0;
    assert(cold_record_size(bytes, &size) == 0 && size == n_bytes);
    struct cold_item again;
    assert(cold_record_decode(codec, bytes, n_bytes, dictionary, &again) == 0);
    check_equal(item, &again);
    free(bytes);
}

static void fuzz_decode(const unsigned char *bytes, size_t n_bytes)
{
    struct cold_item item;
    if (cold_record_decode(codec, bytes, n_bytes, dictionary, &item) != 0)
        return;
    assert(item.key_len >= 1 && item.key_len <= TIERS_KEY_BYTES_MAX);
    assert(item.value_len <= TIERS_VALUE_BYTES_MAX);
    unsigned char *value = copy(item.value, item.value_len);
    item.value = value;
    check_round_trip(&item);
    free(value);
}

static void checksum_repair(unsigned char *record, size_t n_bytes)
{
    uint64_t seed = XXH3_64bits(record, 64);
    uint64_t checksum = XXH3_64bits_withSeed(record + COLD_RECORD_HEADER_BYTES,
                                             n_bytes - COLD_RECORD_HEADER_BYTES, seed);
    little_endian_put(record + 64, checksum, 8);
}

static void fuzz_decode_repaired(const unsigned char *bytes, size_t n_bytes)
{
    size_t record_bytes = n_bytes / COLD_RECORD_ALIGN * COLD_RECORD_ALIGN;
    if (record_bytes <= COLD_RECORD_HEADER_BYTES)
        return;
    unsigned char *record = copy(bytes, record_bytes);
    little_endian_put(record, COLD_RECORD_MAGIC, 4);
    record[4] = (unsigned char)(1 + record[4] % COLD_RECORD_FORMAT);
    little_endian_put(record + 20, (record[5] & 2) != 0 ? dictionary->id : 0, 4);
    size_t key_len = 1 + little_endian_get(record + 8, 2) % TIERS_KEY_BYTES_MAX;
    size_t body = record_bytes - COLD_RECORD_HEADER_BYTES;
    little_endian_put(record + 8, key_len, 2);
    if (key_len <= body)
        little_endian_put(record + 16, body - key_len, 4);
    checksum_repair(record, record_bytes);
    fuzz_decode(record, record_bytes);
    free(record);
}

/* `change` names a place, counted from either end, and what to put there. */
static void fuzz_changed(const struct cold_item *item, const unsigned char change[4])
{
    unsigned char *bytes = malloc(cold_record_bytes_max(item->key_len, item->value_len));
    assert(bytes != NULL);
    size_t n_bytes = cold_record_encode(codec, item, dictionary, bytes);
    size_t place = little_endian_get(change, 2) % n_bytes;
    bytes[change[2] % 2 == 0 ? place : n_bytes - 1 - place] = change[3];
    checksum_repair(bytes, n_bytes);
    unsigned char *record = copy(bytes, n_bytes);
    fuzz_decode(record, n_bytes);
    free(record);
    free(bytes);
}

static void fuzz_item(const unsigned char *bytes, size_t n_bytes, bool changed)
{
    struct cold_item item = {0};
    if (n_bytes < sizeof item.meta + 8)
        return;
    const unsigned char *change = bytes;
    bytes += 4;
    n_bytes -= 4;
    memcpy(&item.meta, bytes, sizeof item.meta);
    bytes += sizeof item.meta;
    n_bytes -= sizeof item.meta;
    item.space = bytes[0] % 2 == 0 ? TIERS_SPACE_USER : TIERS_SPACE_SYSTEM;
    unsigned repeats = 1u << (bytes[1] % 8);
    item.key_len = 1 + bytes[2] % (n_bytes - 3);
    item.key = bytes + 3;
    bytes += 3 + item.key_len;
    n_bytes -= 3 + item.key_len;

    /* Repetition is what makes values compressible. */
    unsigned char *value = malloc(n_bytes * repeats + 1);
    assert(value != NULL);
    for (unsigned i = 0; i < repeats && n_bytes > 0; i++)
        memcpy(value + i * n_bytes, bytes, n_bytes);
    item.value = value;
    item.value_len = n_bytes * repeats;
    if (changed)
        fuzz_changed(&item, change);
    else
        check_round_trip(&item);
    free(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char alike[] = "{\"service\":\"checkout\",\"address\":\"10.0.0.1\",\"port\":8080}";
    if (codec == NULL) {
        codec = cold_codec_new();
        assert(codec != NULL);
        assert(cold_dictionary_new(alike, sizeof alike, &dictionary) == 0);
    }
    if (size == 0 || size > (64u << 10)) /* 128 repeats stay within the limit of a value */
        return 0;
    unsigned char *bytes = copy(data + 1, size - 1);
    if (data[0] % 4 == 0)
        fuzz_decode(bytes, size - 1);
    else if (data[0] % 4 == 1)
        fuzz_decode_repaired(bytes, size - 1);
    else
        fuzz_item(bytes, size - 1, data[0] % 4 == 2);
    free(bytes);
    return 0;
}
