/* See identity.h. A new file replaces the old one atomically: written beside it, synced, renamed,
 * and the directory synced. */
#include "raft/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <xxhash.h>

#define FORMAT       1
#define TEXT_BYTES   512
#define NAME_DEFAULT "node1"

bool identity_name_valid(const char *name)
{
    size_t length =
        strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

    return length >= 1 && length <= 64 && name[length] == '\0';
}

uint64_t identity_raft_id(const char *name)
{
    uint64_t id = XXH3_64bits(name, strlen(name)) >> 2;

    return id == 0 ? 1 : id;
}

static int write_all(int fd, const char *text, size_t length)
{
    while (length > 0) {
        ssize_t n = write(fd, text, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        text += n;
        length -= (size_t)n;
    }
    return 0;
}

static int sync_directory_of(const char *path)
{
    char copy[4096];
    int fd, rv;

    snprintf(copy, sizeof copy, "%s", path);
    fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    rv = fsync(fd);
    close(fd);
    return rv;
}

/* Over all that the file says. */
static uint64_t check_of(const struct identity *identity)
{
    char text[TEXT_BYTES];
    int length = snprintf(text, sizeof text, "%s %" PRIx64 " %" PRIx64 " %" PRIx64, identity->name,
                          identity->raft_id, identity->incarnation, identity->cluster_id);

    return XXH3_64bits(text, (size_t)length);
}

int identity_store(const char *path, const struct identity *identity)
{
    char temporary[4096], text[TEXT_BYTES];
    int fd, length, rv = -1, error;

    if (snprintf(temporary, sizeof temporary, "%s.new", path) >= (int)sizeof temporary) {
        errno = ENAMETOOLONG;
        return -1;
    }
    length = snprintf(text, sizeof text,
                      "{\"format\": %d, \"name\": \"%s\", \"raft_id\": \"%" PRIx64
                      "\", \"incarnation\": \"%" PRIx64 "\", \"cluster_id\": \"%" PRIx64
                      "\", \"check\": \"%" PRIx64 "\"}\n",
                      FORMAT, identity->name, identity->raft_id, identity->incarnation,
                      identity->cluster_id, check_of(identity));
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    if (write_all(fd, text, (size_t)length) == 0 && fsync(fd) == 0)
        rv = 0;
    error = errno;
    if (close(fd) != 0 && rv == 0) {
        error = errno;
        rv = -1;
    }
    errno = error;
    if (rv == 0 && rename(temporary, path) != 0)
        rv = -1;
    return rv == 0 ? sync_directory_of(path) : -1;
}

static bool hex_field(const json_t *object, const char *name, uint64_t *ret_value)
{
    const char *text = json_string_value(json_object_get(object, name));
    char *end;

    if (text == NULL || *text == '\0' || *text == '-')
        return false;
    errno = 0;
    *ret_value = strtoull(text, &end, 16);
    return errno == 0 && *end == '\0';
}

static int parse(const char *path, const json_t *object, struct identity *ret_identity,
                 char *error_text, size_t error_text_size)
{
    const json_t *format = json_object_get(object, "format");
    const char *name = json_string_value(json_object_get(object, "name"));
    struct identity identity = {0};
    uint64_t check;

    if (json_is_integer(format) && json_integer_value(format) != FORMAT) {
        snprintf(error_text, error_text_size, "%s: format %" JSON_INTEGER_FORMAT " is not known",
                 path, json_integer_value(format));
        return -1;
    }
    if (!json_is_integer(format) || name == NULL || !identity_name_valid(name) ||
        !hex_field(object, "raft_id", &identity.raft_id) || identity.raft_id == 0 ||
        !hex_field(object, "incarnation", &identity.incarnation) ||
        !hex_field(object, "cluster_id", &identity.cluster_id)) {
        snprintf(error_text, error_text_size, "%s: is damaged", path);
        return -1;
    }
    snprintf(identity.name, sizeof identity.name, "%s", name);
    /* The first files had no check. */
    if (json_object_get(object, "check") != NULL &&
        (!hex_field(object, "check", &check) || check != check_of(&identity))) {
        snprintf(error_text, error_text_size, "%s: is damaged", path);
        return -1;
    }
    *ret_identity = identity;
    return 0;
}

static int create(const char *path, const char *name, struct identity *ret_identity,
                  char *error_text, size_t error_text_size)
{
    struct identity identity = {.raft_id = identity_raft_id(name)};

    snprintf(identity.name, sizeof identity.name, "%s", name);
    while (identity.incarnation == 0)
        if (getrandom(&identity.incarnation, sizeof identity.incarnation, 0) < 0)
            goto fail;
    if (identity_store(path, &identity) != 0)
        goto fail;
    *ret_identity = identity;
    return 0;
fail:
    snprintf(error_text, error_text_size, "%s: %s", path, strerror(errno));
    return -1;
}

int identity_open(const char *path, const char *name, struct identity *ret_identity,
                  char *error_text, size_t error_text_size)
{
    struct identity identity;
    json_error_t error;
    json_t *object;
    int rv;

    if (*name != '\0' && !identity_name_valid(name)) {
        snprintf(error_text, error_text_size,
                 "node name \"%s\": 1 to 64 letters, digits, dots, dashes and underscores are "
                 "allowed",
                 name);
        return -1;
    }
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return create(path, *name != '\0' ? name : NAME_DEFAULT, ret_identity, error_text,
                      error_text_size);
    object = json_load_file(path, 0, &error);
    if (object == NULL) {
        snprintf(error_text, error_text_size, "%s: %s", path, error.text);
        return -1;
    }
    rv = parse(path, object, &identity, error_text, error_text_size);
    json_decref(object);
    if (rv != 0)
        return -1;
    if (*name != '\0' && strcmp(identity.name, name) != 0) {
        snprintf(error_text, error_text_size,
                 "%s: this directory belongs to node \"%s\", not to \"%s\"", path, identity.name,
                 name);
        return -1;
    }
    *ret_identity = identity;
    return 0;
}
