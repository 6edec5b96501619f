/* A reference for the engine's tests: what a store of numbered keys must hold.
 *
 * The value of a key follows from its number and revision, so that the model remembers lengths only
 * and any value found anywhere can be checked alone. Functions assert through cmocka but for
 * model_value_check, which any thread or process may call.
 */
#ifndef TIERKV_TESTS_TIERS_MODEL_H
#define TIERKV_TESTS_TIERS_MODEL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "record.h"
#include "tiers/tiers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL_VALUE_BYTES_MAX (64u << 10)

struct model_key {
    bool exists;
    uint32_t value_len;
    struct tiers_meta meta;
};

struct model {
    size_t n;
    struct model_key *keys;
    uint64_t index;
    uint64_t revision;
    unsigned char value[MODEL_VALUE_BYTES_MAX]; /* Scratch */
};

static inline uint64_t model_random(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    uint64_t z = *state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline struct model *model_new(size_t n)
{
    struct model *model = calloc(1, sizeof *model);
    if (model == NULL || (model->keys = calloc(n, sizeof *model->keys)) == NULL) {
        abort();
    }
    model->n = n;
    return model;
}

static inline void model_free(struct model *model)
{
    free(model->keys);
    free(model);
}

static inline size_t model_key_text(size_t number, char ret_key[32])
{
    return (size_t)snprintf(ret_key, 32, "key/%07zu", number);
}

static inline void model_value_fill(size_t number, uint64_t revision, unsigned char *value,
                                    size_t value_len)
{
    uint64_t state = number * 1000003 + revision;
    for (size_t i = 0; i < value_len; i += 8) {
        uint64_t word = model_random(&state);
        memcpy(value + i, &word, value_len - i < 8 ? value_len - i : 8);
    }
}

/* True if the record is some version of the key. */
static inline bool model_value_check(size_t number, const struct tiers_record *record,
                                     unsigned char *scratch)
{
    model_value_fill(number, tiers_record_meta(record)->mod_revision, scratch, record->value_len);
    return memcmp(scratch, tiers_record_value(record), record->value_len) == 0;
}

/* Inside a group. */
static inline int model_put(struct tiers *tiers, struct model *model, size_t number,
                            size_t value_len)
{
    char key[32];
    size_t key_len = model_key_text(number, key);
    struct model_key *at = &model->keys[number];
    uint64_t revision = tiers_revision_next(tiers);
    model->revision = revision;
    at->meta.create_revision = at->exists ? at->meta.create_revision : revision;
    at->meta.version = at->exists ? at->meta.version + 1 : 1;
    at->meta.mod_revision = revision;
    at->meta.flags = number;
    at->value_len = (uint32_t)value_len;
    at->exists = true;
    model_value_fill(number, revision, model->value, value_len);
    return tiers_put(tiers, TIERS_SPACE_USER, key, key_len, model->value, value_len, number, 0,
                     revision);
}

static inline int model_delete(struct tiers *tiers, struct model *model, size_t number)
{
    char key[32];
    size_t key_len = model_key_text(number, key);
    bool existed = false;
    uint64_t revision = tiers_revision_next(tiers);
    model->revision = revision;
    int error = tiers_delete(tiers, TIERS_SPACE_USER, key, key_len, revision, &existed);
    if (error == 0 && existed != model->keys[number].exists) {
        return TIERS_CORRUPT;
    }
    model->keys[number].exists = false;
    return error;
}

static inline uint64_t model_hash(struct model *model)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < model->n; i++) {
        const struct model_key *at = &model->keys[i];
        if (at->exists) {
            char key[32];
            size_t key_len = model_key_text(i, key);
            model_value_fill(i, at->meta.mod_revision, model->value, at->value_len);
            hash += record_digest(TIERS_SPACE_USER, key, key_len, model->value, at->value_len,
                                  &at->meta);
        }
    }
    return hash;
}

static inline void model_expect(struct model *model, struct tiers_reader *reader, size_t number)
{
    char key[32];
    size_t key_len = model_key_text(number, key);
    const struct tiers_record *record = NULL;
    const struct model_key *at = &model->keys[number];
    int error = tiers_reader_get_wait(reader, TIERS_SPACE_USER, key, key_len, &record);
    if (!at->exists) {
        assert_int_equal(error, TIERS_NOT_FOUND);
        return;
    }
    if (error != 0) {
        print_error("%s: %s\n", key, tiers_strerror(error));
    }
    assert_int_equal(error, 0);
    assert_memory_equal(tiers_record_meta(record), &at->meta, sizeof at->meta);
    assert_int_equal(record->value_len, at->value_len);
    assert_true(model_value_check(number, record, model->value));
    tiers_record_release(record);
}

static inline void model_expect_all(struct model *model, struct tiers *tiers)
{
    struct tiers_reader *reader = NULL;
    struct tiers_position position;
    assert_int_equal(tiers_reader_open(tiers, &reader), 0);
    for (size_t i = 0; i < model->n; i++) {
        model_expect(model, reader, i);
    }
    tiers_reader_close(reader);
    tiers_position_applied(tiers, &position);
    assert_int_equal(position.index, model->index);
    assert_int_equal(position.revision, model->revision);
    assert_int_equal(position.state_hash, model_hash(model));
}

/* One put in a group of its own. */
static inline void model_put_group(struct tiers *tiers, struct model *model, size_t number,
                                   size_t value_len)
{
    tiers_apply_begin(tiers, ++model->index);
    assert_int_equal(model_put(tiers, model, number, value_len), 0);
    tiers_apply_end(tiers);
}

static inline void model_delete_group(struct tiers *tiers, struct model *model, size_t number)
{
    tiers_apply_begin(tiers, ++model->index);
    assert_int_equal(model_delete(tiers, model, number), 0);
    tiers_apply_end(tiers);
}

#endif
