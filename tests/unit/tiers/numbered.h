/* Records for tests: the key is a number, the value its version, padded to any length. */
#ifndef TIERKV_TESTS_NUMBERED_H
#define TIERKV_TESTS_NUMBERED_H

#include "record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct numbered_key {
    char bytes[24];
    size_t len;
    uint64_t hash;
};

static inline struct numbered_key numbered_key(unsigned number)
{
    struct numbered_key key;

    key.len = (size_t)snprintf(key.bytes, sizeof(key.bytes), "key/%08u", number);
    key.hash = record_key_hash(TIERS_SPACE_USER, key.bytes, key.len);
    return key;
}

/* One reference, the caller's. */
static inline struct tiers_record *numbered_record(unsigned number, uint64_t version,
                                                   size_t value_len)
{
    struct numbered_key key = numbered_key(number);
    struct tiers_meta meta = {.mod_revision = version};
    unsigned char *value = calloc(1, value_len + 1);

    if (value == NULL)
        abort();
    struct tiers_record *record =
        record_new(TIERS_SPACE_USER, key.bytes, key.len, value, value_len, &meta);
    free(value);
    if (record == NULL)
        abort();
    return record;
}

static inline struct tiers_record *numbered_tombstone(unsigned number, uint64_t version)
{
    struct numbered_key key = numbered_key(number);
    struct tiers_record *record =
        record_tombstone_new(TIERS_SPACE_USER, key.bytes, key.len, version);

    if (record == NULL)
        abort();
    return record;
}

/* The number in a record's key, which no zero ends. */
static inline unsigned numbered_of(const struct tiers_record *record)
{
    const char *key = tiers_record_key(record);
    unsigned number = 0;

    for (size_t i = strlen("key/"); i < record->key_len; i++)
        number = number * 10 + (unsigned)(key[i] - '0');
    return number;
}

/* A small generator of its own state, so that threads do not share one. */
static inline uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* From the variable SEED or the clock; printed, so that a failure can be replayed. Never 0. */
static inline uint64_t random_seed(void)
{
    const char *text = getenv("SEED");
    uint64_t seed = text != NULL ? strtoull(text, NULL, 10)
                                 : (uint64_t)time(NULL) * 1000003 + (uint64_t)clock();

    printf("SEED=%llu\n", (unsigned long long)seed);
    return seed != 0 ? seed : 1;
}

#endif
