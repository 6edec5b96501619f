/* The member table, its JSON texts, and the commands that carry them. Pure but for memory; raft
 * loop, and any thread for encoding.
 *
 * Ids are hexadecimal texts in JSON, since its integers end at 2^63. Fields that a later version
 * may add are ignored. */
#include "command/members.h"

#include "command/codec.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMBER_KEY_PREFIX "member/"
#define HEX_DIGITS        16

static_assert(sizeof(MEMBER_KEY_PREFIX) - 1 + HEX_DIGITS == MEMBER_KEY_BYTES, "key length");

/* ---------------------------------------------------------------------------------------- table */

const struct command_member *members_find(const struct members *members, uint64_t raft_id)
{
    for (size_t i = 0; i < members->n; i++)
        if (members->table[i].raft_id == raft_id)
            return &members->table[i];
    return NULL;
}

bool members_set(struct members *members, const struct command_member *member)
{
    size_t i = 0;
    while (i < members->n && members->table[i].raft_id < member->raft_id)
        i++;
    if (i == members->n || members->table[i].raft_id != member->raft_id) {
        if (members->n == COMMAND_MEMBERS_MAX)
            return false;
        memmove(&members->table[i + 1], &members->table[i],
                (members->n - i) * sizeof(members->table[0]));
        members->n++;
    }
    members->table[i] = *member;
    return true;
}

bool members_remove(struct members *members, uint64_t raft_id)
{
    const struct command_member *member = members_find(members, raft_id);
    if (member == NULL)
        return false;
    size_t i = (size_t)(member - members->table);
    members->n--;
    memmove(&members->table[i], &members->table[i + 1],
            (members->n - i) * sizeof(members->table[0]));
    return true;
}

bool members_equal(const struct command_member *a, const struct command_member *b)
{
    return a->raft_id == b->raft_id && a->incarnation == b->incarnation &&
           strcmp(a->name, b->name) == 0 && strcmp(a->http_address, b->http_address) == 0 &&
           strcmp(a->raft_address, b->raft_address) == 0 && strcmp(a->version, b->version) == 0;
}

/* ----------------------------------------------------------------------------------------- keys */

void member_key(uint64_t raft_id, char ret_key[static MEMBER_KEY_BYTES + 1])
{
    snprintf(ret_key, MEMBER_KEY_BYTES + 1, MEMBER_KEY_PREFIX "%016" PRIx64, raft_id);
}

/* Exactly 16 lower-case digits, so that each id has one text. */
static bool hex_parse(const char *text, size_t length, uint64_t *ret_value)
{
    if (length != HEX_DIGITS)
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned digit;
        if (text[i] >= '0' && text[i] <= '9')
            digit = (unsigned)(text[i] - '0');
        else if (text[i] >= 'a' && text[i] <= 'f')
            digit = (unsigned)(text[i] - 'a') + 10;
        else
            return false;
        value = value << 4 | digit;
    }
    *ret_value = value;
    return true;
}

bool member_key_parse(const void *key, size_t key_len, uint64_t *ret_raft_id)
{
    const size_t prefix = sizeof(MEMBER_KEY_PREFIX) - 1;
    return key_len == MEMBER_KEY_BYTES && memcmp(key, MEMBER_KEY_PREFIX, prefix) == 0 &&
           hex_parse((const char *)key + prefix, key_len - prefix, ret_raft_id);
}

/* ----------------------------------------------------------------------------------------- JSON */

static bool text_valid(const char *text, size_t bytes_max)
{
    size_t length = strnlen(text, bytes_max + 1);
    return length >= 1 && length <= bytes_max;
}

char *member_encode(const struct command_member *member)
{
    if (member->raft_id == 0 || !text_valid(member->name, COMMAND_NAME_BYTES_MAX) ||
        !text_valid(member->http_address, COMMAND_ADDRESS_BYTES_MAX) ||
        !text_valid(member->raft_address, COMMAND_ADDRESS_BYTES_MAX) ||
        strnlen(member->version, sizeof(member->version)) > COMMAND_VERSION_BYTES_MAX)
        return NULL;
    char incarnation[HEX_DIGITS + 1];
    snprintf(incarnation, sizeof(incarnation), "%016" PRIx64, member->incarnation);
    /* Fails on texts that are not UTF-8, which JSON cannot carry. */
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:s}", "name", member->name, "http", member->http_address,
                  "raft", member->raft_address, "incarnation", incarnation);
    if (object == NULL)
        return NULL;
    if (*member->version != '\0' &&
        json_object_set_new(object, "version", json_string(member->version)) != 0) {
        json_decref(object);
        return NULL;
    }
    char *text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(object);
    return text;
}

/* 0; TIERS_CORRUPT; TIERS_NO_MEMORY. */
static int object_load(const void *text, size_t bytes, json_t **ret_object)
{
    json_error_t error;
    json_t *object = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (object == NULL)
        return json_error_code(&error) == json_error_out_of_memory ? TIERS_NO_MEMORY
                                                                   : TIERS_CORRUPT;
    if (!json_is_object(object)) {
        json_decref(object);
        return TIERS_CORRUPT;
    }
    *ret_object = object;
    return 0;
}

static bool text_get(const json_t *object, const char *name, char *ret_text, size_t bytes_max)
{
    const json_t *value = json_object_get(object, name);
    size_t length = json_string_length(value);
    if (!json_is_string(value) || length < 1 || length > bytes_max)
        return false;
    memcpy(ret_text, json_string_value(value), length + 1);
    return true;
}

static bool hex_get(const json_t *object, const char *name, uint64_t *ret_value)
{
    const json_t *value = json_object_get(object, name);
    return json_is_string(value) &&
           hex_parse(json_string_value(value), json_string_length(value), ret_value);
}

int member_decode(uint64_t raft_id, const void *text, size_t bytes,
                  struct command_member *ret_member)
{
    json_t *object;
    int error = object_load(text, bytes, &object);
    if (error != 0)
        return error;
    struct command_member member = {.raft_id = raft_id};
    /* Rows of earlier programs have none. */
    bool version_valid = json_object_get(object, "version") == NULL ||
                         text_get(object, "version", member.version, COMMAND_VERSION_BYTES_MAX);
    if (raft_id != 0 && version_valid &&
        text_get(object, "name", member.name, COMMAND_NAME_BYTES_MAX) &&
        text_get(object, "http", member.http_address, COMMAND_ADDRESS_BYTES_MAX) &&
        text_get(object, "raft", member.raft_address, COMMAND_ADDRESS_BYTES_MAX) &&
        hex_get(object, "incarnation", &member.incarnation))
        *ret_member = member;
    else
        error = TIERS_CORRUPT;
    json_decref(object);
    return error;
}

char *cluster_encode(uint64_t cluster_id)
{
    char id[HEX_DIGITS + 1];
    snprintf(id, sizeof(id), "%016" PRIx64, cluster_id);
    json_t *object = json_pack("{s:s}", "id", id);
    if (object == NULL)
        return NULL;
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    return text;
}

int cluster_decode(const void *text, size_t bytes, uint64_t *ret_cluster_id)
{
    json_t *object;
    int error = object_load(text, bytes, &object);
    if (error != 0)
        return error;
    uint64_t cluster_id = 0;
    if (hex_get(object, "id", &cluster_id) && cluster_id != 0)
        *ret_cluster_id = cluster_id;
    else
        error = TIERS_CORRUPT;
    json_decref(object);
    return error;
}

/* ----------------------------------------------------------------------- making member commands */

static void *encode_one(enum command_type type, struct command_op *op, uint64_t id,
                        uint64_t time_ms, size_t *ret_bytes)
{
    unsigned char key[COMMAND_ID_BYTES];
    command_id_encode(id, key);
    op->key = key;
    op->key_len = sizeof(key);
    size_t bytes = command_size(type, op, 1);
    void *command = bytes > 0 ? malloc(bytes) : NULL;
    if (command != NULL) {
        command_encode(type, op, 1, time_ms, command);
        *ret_bytes = bytes;
    }
    op->key = NULL;
    return command;
}

void *command_member_set(const struct command_member *member, uint64_t time_ms, size_t *ret_bytes)
{
    char *text = member_encode(member);
    if (text == NULL)
        return NULL;
    struct command_op op = {.type = COMMAND_OP_PUT, .value = text, .value_len = strlen(text)};
    void *command = encode_one(COMMAND_MEMBER_SET, &op, member->raft_id, time_ms, ret_bytes);
    free(text);
    return command;
}

void *command_member_remove(uint64_t raft_id, uint64_t time_ms, size_t *ret_bytes)
{
    struct command_op op = {.type = COMMAND_OP_DELETE};
    return encode_one(COMMAND_MEMBER_REMOVE, &op, raft_id, time_ms, ret_bytes);
}

void *command_cluster_init(uint64_t cluster_id, uint64_t time_ms, size_t *ret_bytes)
{
    struct command_op op = {.type = COMMAND_OP_PUT};
    return encode_one(COMMAND_CLUSTER_INIT, &op, cluster_id, time_ms, ret_bytes);
}

void *command_cluster_reset(uint64_t cluster_id, uint64_t raft_id, uint64_t time_ms,
                            size_t *ret_bytes)
{
    unsigned char survivor[COMMAND_ID_BYTES];
    command_id_encode(raft_id, survivor);
    struct command_op op = {
        .type = COMMAND_OP_PUT, .value = survivor, .value_len = sizeof(survivor)};
    return encode_one(COMMAND_CLUSTER_RESET, &op, cluster_id, time_ms, ret_bytes);
}
