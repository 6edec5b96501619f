/* See body.h. Reading is jansson's. Writing a value is the hot path of GET, so that it has a
 * writer of its own that goes straight into the answer's memory. */
#include "http/body.h"

#include "address.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A word with this in each byte. */
#define EACH(byte) (UINT64_C(0x0101010101010101) * (unsigned char)(byte))

__attribute__((format(printf, 4, 5))) static bool refuse(struct body_error *error, int status,
                                                         const char *code, const char *format, ...)
{
    va_list arguments;

    error->status = status;
    error->code = code;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    return false;
}

static json_t *parse_object(const char *bytes, size_t n, struct body_error *ret_error)
{
    json_error_t error;
    json_t *object;

    if (n == 0) {
        refuse(ret_error, 400, "invalid_body", "the body is empty; a JSON object is expected");
        return NULL;
    }
    object = json_loadb(bytes, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (object == NULL) {
        refuse(ret_error, 400, "invalid_body", "the body is not valid JSON: %s (line %d)",
               error.text, error.line);
        return NULL;
    }
    if (!json_is_object(object)) {
        json_decref(object);
        refuse(ret_error, 400, "invalid_body", "the body is not a JSON object");
        return NULL;
    }
    return object;
}

static bool add_put(struct body_puts *puts, const char *key, json_t *value, size_t value_bytes_max,
                    struct body_error *ret_error)
{
    size_t key_len = strlen(key);
    int shown_len = (int)body_utf8_prefix(key, key_len < 100 ? key_len : 100);

    if (key_len == 0 || key_len > TIERS_KEY_BYTES_MAX)
        return refuse(ret_error, 400, "invalid_key", "a key has %zu bytes; 1 to %d are allowed",
                      key_len, TIERS_KEY_BYTES_MAX);
    if (!json_is_string(value))
        return refuse(ret_error, 400, "invalid_value", "the value of key \"%.*s\" is not a string",
                      shown_len, key);
    if (json_string_length(value) > value_bytes_max)
        return refuse(ret_error, 413, "value_too_large",
                      "the value of key \"%.*s\" has %zu bytes; at most %zu are allowed", shown_len,
                      key, json_string_length(value), value_bytes_max);
    puts->puts[puts->n++] = (struct replica_put){.key = key,
                                                 .key_len = key_len,
                                                 .value = json_string_value(value),
                                                 .value_len = json_string_length(value)};
    return true;
}

bool body_puts_parse(const char *bytes, size_t n, size_t value_bytes_max,
                     struct body_puts *ret_puts, struct body_error *ret_error)
{
    struct body_puts puts = {.object = parse_object(bytes, n, ret_error)};
    const char *key;
    json_t *value;
    size_t size;

    if (puts.object == NULL)
        return false;
    size = json_object_size(puts.object);
    if (size == 0 || size > REPLICA_PUTS_MAX) {
        refuse(ret_error, 400, "invalid_body", "the body sets %zu keys; 1 to %d are allowed", size,
               REPLICA_PUTS_MAX);
        goto fail;
    }
    puts.puts = malloc(size * sizeof *puts.puts);
    if (puts.puts == NULL) {
        refuse(ret_error, 503, "out_of_memory", "out of memory");
        goto fail;
    }
    json_object_foreach(puts.object, key, value)
    {
        if (!add_put(&puts, key, value, value_bytes_max, ret_error))
            goto fail;
    }
    *ret_puts = puts;
    return true;
fail:
    body_puts_free(&puts);
    return false;
}

void body_puts_free(struct body_puts *puts)
{
    free(puts->puts);
    json_decref(puts->object);
}

static bool text_member(json_t *object, const char *name, char *out, size_t size,
                        struct body_error *ret_error)
{
    json_t *value = json_object_get(object, name);

    if (!json_is_string(value) || json_string_length(value) == 0 ||
        json_string_length(value) >= size ||
        strlen(json_string_value(value)) != json_string_length(value))
        return refuse(ret_error, 400, "invalid_body", "\"%s\" must be a text of 1 to %zu bytes",
                      name, size - 1);
    memcpy(out, json_string_value(value), json_string_length(value) + 1);
    return true;
}

static bool address_member(json_t *object, const char *name, char *out, size_t size,
                           struct body_error *ret_error)
{
    struct address address;

    if (!text_member(object, name, out, size, ret_error))
        return false;
    if (!address_parse(out, &address) || address.port == 0 || address_is_wildcard(&address))
        return refuse(ret_error, 400, "invalid_body",
                      "\"%s\" must be HOST:PORT, as others can reach it", name);
    return true;
}

bool body_join_parse(const char *bytes, size_t n, struct replica_join *ret_join,
                     struct body_error *ret_error)
{
    json_t *object = parse_object(bytes, n, ret_error);
    struct replica_join join = {0};
    json_t *incarnation;
    bool ok;

    if (object == NULL)
        return false;
    ok = text_member(object, "id", join.name, sizeof join.name, ret_error) &&
         address_member(object, "httpAddr", join.http_address, sizeof join.http_address,
                        ret_error) &&
         address_member(object, "raftAddr", join.raft_address, sizeof join.raft_address, ret_error);
    incarnation = json_object_get(object, "incarnation");
    if (ok && incarnation != NULL) {
        const char *text = json_string_value(incarnation);
        size_t digits = text != NULL ? strspn(text, "0123456789abcdefABCDEF") : 0;
        if (digits == 0 || digits > 16 || digits != json_string_length(incarnation))
            ok = refuse(ret_error, 400, "invalid_body",
                        "\"incarnation\" must be a text of 1 to 16 hexadecimal digits");
        else
            join.incarnation = strtoull(text, NULL, 16);
    }
    if (ok && json_object_get(object, "version") != NULL)
        ok = text_member(object, "version", join.version, sizeof join.version, ret_error);
    json_decref(object);
    if (ok)
        *ret_join = join;
    return ok;
}

bool body_transfer_parse(const char *bytes, size_t n, char ret_name[static 65],
                         struct body_error *ret_error)
{
    json_t *object = n > 0 ? parse_object(bytes, n, ret_error) : json_object();
    char name[65] = "";
    bool ok;

    if (object == NULL)
        return false;
    ok = json_object_get(object, "id") == NULL ||
         text_member(object, "id", name, sizeof name, ret_error);
    json_decref(object);
    if (ok)
        memcpy(ret_name, name, sizeof name);
    return ok;
}

/* ---- Writing ---- */

/* Bytes of the well-formed sequence at `at`, 0 if there is none (RFC 3629, table in section 4). */
static size_t sequence_length(const unsigned char *at, size_t left)
{
    unsigned char low = 0x80, high = 0xbf;
    size_t n;

    if (at[0] < 0x80)
        return 1;
    if (at[0] >= 0xc2 && at[0] <= 0xdf)
        n = 2;
    else if (at[0] >= 0xe0 && at[0] <= 0xef)
        n = 3;
    else if (at[0] >= 0xf0 && at[0] <= 0xf4)
        n = 4;
    else
        return 0;
    if (at[0] == 0xe0)
        low = 0xa0;
    else if (at[0] == 0xed)
        high = 0x9f;
    else if (at[0] == 0xf0)
        low = 0x90;
    else if (at[0] == 0xf4)
        high = 0x8f;
    if (left < n || at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if (at[i] < 0x80 || at[i] > 0xbf)
            return 0;
    return n;
}

/* Bytes of whole words at `at` that are ASCII. */
static size_t ascii_length(const unsigned char *at, size_t left)
{
    size_t n = 0;
    uint64_t word;

    for (; left - n >= sizeof word; n += sizeof word) {
        memcpy(&word, at + n, sizeof word);
        if ((word & EACH(0x80)) != 0)
            break;
    }
    return n;
}

size_t body_utf8_prefix(const char *bytes, size_t n)
{
    const unsigned char *begin = (const unsigned char *)bytes, *at = begin, *end = at + n;

    while (at < end) {
        size_t length;
        at += ascii_length(at, (size_t)(end - at));
        if (at == end)
            break;
        length = sequence_length(at, (size_t)(end - at));
        if (length == 0)
            break;
        at += length;
    }
    return (size_t)(at - begin);
}

bool body_is_utf8(const char *bytes, size_t n)
{
    return body_utf8_prefix(bytes, n) == n;
}

/* The letter behind the backslash, 'u' for \u00XX, 0 for bytes that stand for themselves. */
static char escape_of(unsigned char c)
{
    switch (c) {
    case '"':
    case '\\':
        return (char)c;
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return c < 0x20 || c == 0x7f ? 'u' : 0;
    }
}

/* Bytes of whole words at `at` that stand for themselves: 0x20 to 0x7e without the quote and the
 * backslash. In a word of such bytes none of these sums and differences sets a high bit; the first
 * byte of another kind sets its own. */
static size_t plain_length(const char *at, size_t left)
{
    size_t n = 0;
    uint64_t word;

    for (; left - n >= sizeof word; n += sizeof word) {
        uint64_t marks;
        memcpy(&word, at + n, sizeof word);
        marks = word | (word + EACH(1)) | (word - EACH(0x20));
        marks |= ((word ^ EACH('"')) - EACH(1)) | ((word ^ EACH('\\')) - EACH(1));
        if ((marks & EACH(0x80)) != 0)
            break;
    }
    return n;
}

size_t body_string_size(const char *bytes, size_t n)
{
    size_t size = 2 + n;

    for (size_t i = plain_length(bytes, n); i < n; i++) {
        char escape = escape_of((unsigned char)bytes[i]);
        size += escape == 0 ? 0 : escape == 'u' ? 5 : 1;
    }
    return size;
}

char *body_number_write(char *out, uint64_t number)
{
    char *end = out + 1;

    for (uint64_t rest = number; rest >= 10; rest /= 10)
        end++;
    for (char *at = end; at > out; number /= 10)
        *--at = (char)('0' + number % 10);
    return end;
}

char *body_string_write(char *out, const char *bytes, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    size_t plain = plain_length(bytes, n);

    *out++ = '"';
    memcpy(out, bytes, plain);
    out += plain;
    for (size_t i = plain; i < n; i++) {
        unsigned char c = (unsigned char)bytes[i];
        char escape = escape_of(c);
        if (escape == 0) {
            *out++ = (char)c;
            continue;
        }
        *out++ = '\\';
        *out++ = escape;
        if (escape == 'u') {
            *out++ = '0';
            *out++ = '0';
            *out++ = digits[c >> 4];
            *out++ = digits[c & 15];
        }
    }
    *out++ = '"';
    return out;
}
