/* See uri.h. */
#include "http/uri.h"

#include <string.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

long uri_decode(const char *text, size_t n, char *out)
{
    size_t length = 0;

    for (size_t i = 0; i < n; i++) {
        int high, low;
        if (text[i] != '%') {
            out[length++] = text[i];
            continue;
        }
        if (n - i < 3 || (high = hex_digit(text[i + 1])) < 0 || (low = hex_digit(text[i + 2])) < 0)
            return -1;
        out[length++] = (char)(high << 4 | low);
        i += 2;
    }
    return (long)length;
}

static bool is(const char *text, size_t n, const char *word)
{
    return n == strlen(word) && memcmp(text, word, n) == 0;
}

/* A name alone sets it. What is neither true nor false is refused: `force=no` would do harm. */
static bool flag(const char *value, size_t value_len, bool *ret_set)
{
    bool is_true = value_len == 0 || is(value, value_len, "true") || is(value, value_len, "1");
    bool is_false = is(value, value_len, "false") || is(value, value_len, "0");

    *ret_set = is_true;
    return is_true || is_false;
}

/* A whole number with its unit: 500ms, 10s, 2m, 1h. */
static bool duration(const char *text, size_t n, uint64_t *ret_ms)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    uint64_t number = 0;
    size_t digits = 0;

    while (digits < n && digits < 10 && text[digits] >= '0' && text[digits] <= '9')
        number = number * 10 + (uint64_t)(text[digits++] - '0');
    for (size_t i = 0; digits > 0 && i < sizeof units / sizeof units[0]; i++) {
        if (is(text + digits, n - digits, units[i].name)) {
            *ret_ms = number * units[i].ms;
            return true;
        }
    }
    return false;
}

static bool parameter(const char *name, size_t name_len, const char *value, size_t value_len,
                      struct uri_query *query, const char **ret_error)
{
    if (is(name, name_len, "raw")) {
        if (!flag(value, value_len, &query->raw)) {
            *ret_error = "raw must be true or false";
            return false;
        }
    } else if (is(name, name_len, "force")) {
        if (!flag(value, value_len, &query->force)) {
            *ret_error = "force must be true or false";
            return false;
        }
    } else if (is(name, name_len, "max_stale")) {
        query->stale_bounded = true;
        if (!duration(value, value_len, &query->stale_ms_max)) {
            *ret_error = "max_stale must be a duration such as 500ms, 10s or 2m";
            return false;
        }
    } else if (is(name, name_len, "level")) {
        if (is(value, value_len, "default") || value_len == 0)
            query->level = URI_LEVEL_DEFAULT;
        else if (is(value, value_len, "consistent"))
            query->level = URI_LEVEL_CONSISTENT;
        else if (is(value, value_len, "stale"))
            query->level = URI_LEVEL_STALE;
        else {
            *ret_error = "level must be default, consistent or stale";
            return false;
        }
    }
    return true;
}

bool uri_query_parse(const char *text, size_t n, struct uri_query *ret_query,
                     const char **ret_error)
{
    struct uri_query query = {.level = URI_LEVEL_DEFAULT};

    while (n > 0) {
        const char *end = memchr(text, '&', n);
        size_t length = end != NULL ? (size_t)(end - text) : n;
        const char *equals = memchr(text, '=', length);
        size_t name_len = equals != NULL ? (size_t)(equals - text) : length;
        const char *value = equals != NULL ? equals + 1 : text + length;

        if (!parameter(text, name_len, value, (size_t)(text + length - value), &query, ret_error))
            return false;
        if (end == NULL)
            break;
        text += length + 1;
        n -= length + 1;
    }
    *ret_query = query;
    return true;
}
