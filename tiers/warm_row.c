/* Rows of numbers with a check at their end: see warm_row.h. Pure: no state, no I/O, any thread. */
#include "warm_row.h"

#include "little_endian.h"

#include <string.h>
#include <xxhash.h>

#define NUMBERS_MAX 3
#define CHECK_BYTES 8

MDB_val warm_val(const void *bytes, size_t n)
{
    /* LMDB takes what it only reads through the same non-const type. */
    union {
        const void *read;
        void *any;
    } pointer = {.read = bytes};
    return (MDB_val){.mv_size = n, .mv_data = pointer.any};
}

static uint64_t check_of(const MDB_val *key, const unsigned char *bytes, size_t n_bytes)
{
    return XXH3_64bits_withSeed(bytes, n_bytes, XXH3_64bits(key->mv_data, key->mv_size));
}

static void encode(const MDB_val *key, const uint64_t *numbers, size_t n, unsigned char *out)
{
    for (size_t i = 0; i < n; i++) {
        little_endian_put(out + 8 * i, numbers[i], 8);
    }
    little_endian_put(out + 8 * n, check_of(key, out, 8 * n), CHECK_BYTES);
}

static int decode(const MDB_val *key, const MDB_val *data, uint64_t *ret_numbers, size_t n)
{
    const unsigned char *in = data->mv_data;
    bool checked = data->mv_size == 8 * n + CHECK_BYTES;
    if (!checked && data->mv_size != 8 * n) {
        return TIERS_CORRUPT;
    }
    if (checked && little_endian_get(in + 8 * n, CHECK_BYTES) != check_of(key, in, 8 * n)) {
        return TIERS_CORRUPT;
    }
    for (size_t i = 0; i < n; i++) {
        ret_numbers[i] = little_endian_get(in + 8 * i, 8);
    }
    return 0;
}

void warm_segment_key(uint64_t id, unsigned char ret_key[WARM_SEGMENT_KEY_BYTES])
{
    for (unsigned i = 0; i < WARM_SEGMENT_KEY_BYTES; i++) {
        ret_key[i] = (unsigned char)(id >> (56 - 8 * i));
    }
}

uint64_t warm_segment_id(const MDB_val *key)
{
    const unsigned char *in = key->mv_data;
    uint64_t id = 0;
    for (unsigned i = 0; i < WARM_SEGMENT_KEY_BYTES; i++) {
        id = id << 8 | in[i];
    }
    return id;
}

void warm_segment_row_encode(const struct warm_segment_row *row,
                             const unsigned char key[WARM_SEGMENT_KEY_BYTES],
                             unsigned char ret_bytes[WARM_SEGMENT_ROW_BYTES])
{
    const MDB_val key_val = warm_val(key, WARM_SEGMENT_KEY_BYTES);
    const uint64_t numbers[] = {row->bytes, row->live_bytes, row->live_records};
    encode(&key_val, numbers, 3, ret_bytes);
}

int warm_segment_row_decode(const MDB_val *key, const MDB_val *data,
                            struct warm_segment_row *ret_row)
{
    uint64_t numbers[NUMBERS_MAX];
    if (key->mv_size != WARM_SEGMENT_KEY_BYTES || decode(key, data, numbers, 3) != 0) {
        return TIERS_CORRUPT;
    }
    *ret_row = (struct warm_segment_row){
        .bytes = numbers[0], .live_bytes = numbers[1], .live_records = numbers[2]};
    return 0;
}

void warm_position_encode(const struct tiers_position *position,
                          unsigned char ret_bytes[WARM_POSITION_ROW_BYTES])
{
    const MDB_val key = warm_val(WARM_META_POSITION, strlen(WARM_META_POSITION));
    const uint64_t numbers[] = {position->index, position->revision, position->state_hash};
    encode(&key, numbers, 3, ret_bytes);
}

int warm_position_decode(const MDB_val *data, struct tiers_position *ret_position)
{
    const MDB_val key = warm_val(WARM_META_POSITION, strlen(WARM_META_POSITION));
    uint64_t numbers[NUMBERS_MAX];
    if (decode(&key, data, numbers, 3) != 0) {
        return TIERS_CORRUPT;
    }
    *ret_position = (struct tiers_position){
        .index = numbers[0], .revision = numbers[1], .state_hash = numbers[2]};
    return 0;
}

void warm_next_segment_encode(uint64_t id, unsigned char ret_bytes[WARM_NEXT_SEGMENT_ROW_BYTES])
{
    const MDB_val key = warm_val(WARM_META_NEXT_SEGMENT, strlen(WARM_META_NEXT_SEGMENT));
    encode(&key, &id, 1, ret_bytes);
}

int warm_next_segment_decode(const MDB_val *data, uint64_t *ret_id)
{
    const MDB_val key = warm_val(WARM_META_NEXT_SEGMENT, strlen(WARM_META_NEXT_SEGMENT));
    return decode(&key, data, ret_id, 1);
}
