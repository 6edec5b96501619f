/* What a client may send: targets, queries and bodies. Any bytes are either refused with an error
 * that can be told, or give what its contract promises; and what we write, jansson reads back.
 *
 * The first byte chooses which of them the rest is. */
#include "http/body.h"
#include "http/uri.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_BYTES_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy that ends exactly at the end of its allocation; free it. */
static char *copy(const void *bytes, size_t n)
{
    char *result = malloc(n + (n == 0));
    assert(result != NULL);
    if (n > 0)
        memcpy(result, bytes, n);
    return result;
}

static void check_error(const struct body_error *error)
{
    assert(error->status == 400 || error->status == 413 || error->status == 503);
    assert(error->code != NULL && error->code[0] != '\0');
    assert(memchr(error->message, '\0', sizeof error->message) != NULL);
}

static void fuzz_target(const char *text, size_t n)
{
    char *decoded = copy(text, n), *escaped = malloc(3 * n + 1), *again;
    assert(escaped != NULL);
    long length = uri_decode(text, n, decoded);

    if (length >= 0) {
        assert((size_t)length <= n);
        for (size_t i = 0; i < (size_t)length; i++)
            snprintf(escaped + 3 * i, 4, "%%%02X", (unsigned)(unsigned char)decoded[i]);
        again = copy(escaped, 3 * (size_t)length);
        assert(uri_decode(escaped, 3 * (size_t)length, again) == length);
        assert(memcmp(again, decoded, (size_t)length) == 0);
        free(again);
    }
    free(escaped);
    free(decoded);
}

static void fuzz_query(const char *text, size_t n)
{
    struct uri_query query;
    const char *error = NULL;

    if (uri_query_parse(text, n, &query, &error))
        assert(query.level == URI_LEVEL_DEFAULT || query.level == URI_LEVEL_CONSISTENT ||
               query.level == URI_LEVEL_STALE);
    else
        assert(error != NULL);
}

static void fuzz_puts(const char *bytes, size_t n)
{
    struct body_puts puts;
    struct body_error error;

    if (!body_puts_parse(bytes, n, VALUE_BYTES_MAX, &puts, &error)) {
        check_error(&error);
        return;
    }
    assert(puts.n >= 1 && puts.n <= REPLICA_PUTS_MAX && puts.n == json_object_size(puts.object));
    for (size_t i = 0; i < puts.n; i++) {
        const struct replica_put *put = &puts.puts[i];
        assert(put->key_len >= 1 && put->key_len <= TIERS_KEY_BYTES_MAX);
        assert(put->value_len <= VALUE_BYTES_MAX);
        assert(body_is_utf8(put->key, put->key_len) && body_is_utf8(put->value, put->value_len));
    }
    body_puts_free(&puts);
}

static void fuzz_join(const char *bytes, size_t n)
{
    struct replica_join join;
    struct body_error error;

    if (!body_join_parse(bytes, n, &join, &error)) {
        check_error(&error);
        return;
    }
    assert(join.name[0] != '\0' && strlen(join.name) < sizeof join.name);
    assert(strrchr(join.http_address, ':') != NULL && strrchr(join.raft_address, ':') != NULL);
}

/* jansson is the judge: of what is UTF-8, and of what the texts we write mean. */
static void fuzz_string(const char *bytes, size_t n)
{
    json_t *judged = json_stringn(bytes, n);
    char *text;
    size_t size;

    assert(body_is_utf8(bytes, n) == (judged != NULL));
    json_decref(judged);
    if (judged == NULL)
        return;
    size = body_string_size(bytes, n);
    text = malloc(size);
    assert(text != NULL);
    assert(body_string_write(text, bytes, n) == text + size);
    json_t *read = json_loadb(text, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    assert(json_is_string(read) && json_string_length(read) == n);
    assert(memcmp(json_string_value(read), bytes, n) == 0);
    json_decref(read);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const kinds[])(const char *, size_t) = {fuzz_target, fuzz_query, fuzz_puts,
                                                          fuzz_join, fuzz_string};
    if (size == 0)
        return 0;
    char *bytes = copy(data + 1, size - 1);
    kinds[data[0] % (sizeof kinds / sizeof kinds[0])](bytes, size - 1);
    free(bytes);
    return 0;
}
