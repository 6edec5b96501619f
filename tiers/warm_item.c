/* Encodes and decodes warm items. Pure: no state, no I/O, any thread.
 *
 * Decoding walks the bytes with a cursor that remembers the first failure, so that the happy path
 * reads as the list of fields that it is; one check at the end decides. */
#include "warm_item.h"

#include "little_endian.h"

#include <assert.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { FORMAT_INLINE = 0x20, FORMAT_COLD = 0x21, FORMAT_1_INLINE = 0x10, FORMAT_1_COLD = 0x11 };

#define CHECK_BYTES  4
#define PREFIX_BYTES (1 + CHECK_BYTES) /* What stands before the bytes that are checked */

struct cursor {
    const unsigned char *next;
    const unsigned char *end;
    bool damaged;
};

static size_t varint_size(uint64_t value)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll(value | 1);
    return (bits + 6) / 7;
}

static unsigned char *varint_put(unsigned char *out, uint64_t value)
{
    while (value >= 0x80) {
        *out++ = (unsigned char)(value | 0x80);
        value >>= 7;
    }
    *out++ = (unsigned char)value;
    return out;
}

static uint64_t varint_get_long(struct cursor *cursor)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (cursor->next == cursor->end) {
            break;
        }
        unsigned char byte = *cursor->next++;
        /* The tenth byte has room for one bit only. */
        if (shift == 63 && byte > 1) {
            break;
        }
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            /* A last byte of zero means that a shorter form exists. */
            if (byte == 0 && shift > 0) {
                break;
            }
            return value;
        }
    }
    cursor->damaged = true;
    return 0;
}

/* Most are one byte. */
static inline uint64_t varint_get(struct cursor *cursor)
{
    if (cursor->next != cursor->end && *cursor->next < 0x80) {
        return *cursor->next++;
    }
    return varint_get_long(cursor);
}

size_t warm_item_size(const struct warm_item *item)
{
    const struct tiers_meta *meta = &item->meta;
    assert(meta->create_revision <= meta->mod_revision);
    assert(item->value_len <= TIERS_VALUE_BYTES_MAX);
    size_t n = PREFIX_BYTES + 8 + varint_size(item->value_len) + varint_size(meta->mod_revision) +
               varint_size(meta->mod_revision - meta->create_revision) +
               varint_size(meta->version) + varint_size(meta->flags) +
               varint_size(meta->expires_ms);
    if (!item->cold) {
        return n + item->value_len;
    }
    return n + varint_size(item->location.segment) + varint_size(item->location.offset) +
           varint_size(item->location.bytes);
}

/* `header` is a whole item of which `n` bytes are no value. */
static uint32_t check_of(const MDB_val *key, const unsigned char *header, size_t n)
{
    uint64_t seed = XXH3_64bits(key->mv_data, key->mv_size) + header[0];
    return (uint32_t)XXH3_64bits_withSeed(header + PREFIX_BYTES, n - PREFIX_BYTES, seed);
}

void warm_item_encode(const struct warm_item *item, const MDB_val *key, void *ret_bytes)
{
    const struct tiers_meta *meta = &item->meta;
    unsigned char *header = ret_bytes;
    unsigned char *out = header + PREFIX_BYTES;
    assert(meta->version > 0);
    header[0] = item->cold ? FORMAT_COLD : FORMAT_INLINE;
    little_endian_put(out, item->digest, 8);
    out += 8;
    out = varint_put(out, item->value_len);
    out = varint_put(out, meta->mod_revision);
    out = varint_put(out, meta->mod_revision - meta->create_revision);
    out = varint_put(out, meta->version);
    out = varint_put(out, meta->flags);
    out = varint_put(out, meta->expires_ms);
    if (item->cold) {
        out = varint_put(out, item->location.segment);
        out = varint_put(out, item->location.offset);
        out = varint_put(out, item->location.bytes);
    } else if (item->value_len > 0) {
        memcpy(out, item->value, item->value_len);
    }
    little_endian_put(header + 1, check_of(key, header, (size_t)(out - header)), CHECK_BYTES);
}

bool warm_item_may_be_cold(const MDB_val *data)
{
    const unsigned char *in = data->mv_data;
    return data->mv_size > 0 && (in[0] == FORMAT_COLD || in[0] == FORMAT_1_COLD);
}

int warm_item_decode(const MDB_val *key, const MDB_val *data, struct warm_item *ret_item)
{
    const unsigned char *in = data->mv_data;
    size_t n = data->mv_size;
    if (n < PREFIX_BYTES + 8) {
        return TIERS_CORRUPT;
    }
    bool checked = in[0] == FORMAT_INLINE || in[0] == FORMAT_COLD;
    if (!checked && in[0] != FORMAT_1_INLINE && in[0] != FORMAT_1_COLD) {
        return TIERS_CORRUPT;
    }
    size_t prefix = checked ? PREFIX_BYTES : 1;
    struct warm_item item = {.cold = warm_item_may_be_cold(data),
                             .stored = in,
                             .digest = little_endian_get(in + prefix, 8)};
    struct cursor cursor = {.next = in + prefix + 8, .end = in + n};
    uint64_t value_len = varint_get(&cursor);
    item.meta.mod_revision = varint_get(&cursor);
    uint64_t age = varint_get(&cursor);
    item.meta.version = varint_get(&cursor);
    item.meta.flags = varint_get(&cursor);
    item.meta.expires_ms = varint_get(&cursor);
    if (cursor.damaged || value_len > TIERS_VALUE_BYTES_MAX || age > item.meta.mod_revision ||
        item.meta.version == 0) {
        return TIERS_CORRUPT;
    }
    item.meta.create_revision = item.meta.mod_revision - age;
    item.value_len = (uint32_t)value_len;
    if (item.cold) {
        item.location.segment = varint_get(&cursor);
        item.location.offset = varint_get(&cursor);
        uint64_t record_bytes = varint_get(&cursor);
        if (cursor.damaged || cursor.next != cursor.end || record_bytes == 0 ||
            record_bytes > UINT32_MAX) {
            return TIERS_CORRUPT;
        }
        item.location.bytes = (uint32_t)record_bytes;
    } else {
        if ((size_t)(cursor.end - cursor.next) != value_len) {
            return TIERS_CORRUPT;
        }
        item.value = cursor.next;
    }
    size_t header_len = n - (item.cold ? 0 : (size_t)value_len);
    if (checked && little_endian_get(in + 1, CHECK_BYTES) != check_of(key, in, header_len)) {
        return TIERS_CORRUPT;
    }
    *ret_item = item;
    return 0;
}

int warm_stored_decode(const struct warm_stored *stored, struct warm_item *ret_item)
{
    MDB_val key = {.mv_size = stored->key_len, .mv_data = (void *)(uintptr_t)stored->key};
    MDB_val data = {.mv_size = stored->n_bytes, .mv_data = (void *)(uintptr_t)stored->bytes};
    return warm_item_decode(&key, &data, ret_item);
}

/* The digest speaks for the value. */
bool warm_stored_is(const struct warm_stored *stored, const struct warm_item *item)
{
    assert(!item->cold);
    size_t header_len = (size_t)((const char *)item->value - (const char *)item->stored);
    return stored->n_bytes == header_len + item->value_len &&
           memcmp(stored->bytes, item->stored, header_len) == 0;
}
