/* Values as texts: the same reader for flags, environment, file and defaults. */
#include "config_value.h"

#include "utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct unit {
    const char *suffix;
    uint64_t factor;
};

/* Largest first, so that printing takes the largest that fits; the empty one is the last. */
static const struct unit units_plain[] = {{"", 1}};
static const struct unit units_bytes[] = {{"TiB", UINT64_C(1) << 40},
                                          {"GiB", UINT64_C(1) << 30},
                                          {"MiB", UINT64_C(1) << 20},
                                          {"KiB", UINT64_C(1) << 10},
                                          {"", 1}};
static const struct unit units_ms[] = {
    {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {"", 1}};

static const struct unit *units_of(enum config_type type)
{
    switch (type) {
    case CONFIG_TYPE_bytes:
        return units_bytes;
    case CONFIG_TYPE_ms:
        return units_ms;
    default:
        return units_plain;
    }
}

static void *field_of(struct config *config, const struct config_row *row)
{
    return (char *)config + row->offset;
}

static uint64_t number_of(const struct config *config, const struct config_row *row)
{
    uint64_t number;
    memcpy(&number, (const char *)config + row->offset, sizeof(number));
    return number;
}

static const char *text_of(const struct config *config, const struct config_row *row)
{
    const char *text;
    memcpy(&text, (const char *)config + row->offset, sizeof(text));
    return text;
}

/* ----------------------------------------------------------------------------------------- read */

static bool number_parse(const struct config_row *row, const char *text, uint64_t *ret_number)
{
    uint64_t number = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0)
        return false;
    for (size_t i = 0; i < digits; i++)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(text[i] - '0'), &number))
            return false;
    const struct unit *unit = units_of(row->type);
    while (strcmp(unit->suffix, text + digits) != 0) {
        if (*unit->suffix == '\0')
            return false;
        unit++;
    }
    if (__builtin_mul_overflow(number, unit->factor, &number) || number < row->least ||
        number > row->most)
        return false;
    *ret_number = number;
    return true;
}

static bool text_valid(const struct config_row *row, const char *text)
{
    size_t length = strlen(text);
    if (length < row->least || length > row->most)
        return false;
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0';) {
        size_t character = utf8_length(at);
        if (character == 0 || utf8_is_control(at))
            return false;
        at += character;
    }
    return true;
}

/* Is the text one of those in the braces at the start of the help? */
static bool choice_valid(const struct config_row *row, const char *text)
{
    const size_t length = strlen(text);
    const char *at = row->help;
    while (*at == '{' || *at == ',') {
        at++;
        size_t choice = strcspn(at, ",}");
        if (choice == length && memcmp(at, text, length) == 0)
            return true;
        at += choice;
    }
    return false;
}

static bool text_set(struct config *config, const struct config_row *row, const char *text)
{
    char *copy = strdup(text);
    if (copy == NULL)
        return false;
    config_value_free(config, row);
    memcpy(field_of(config, row), &copy, sizeof(copy));
    /* cppcheck-suppress memleak; the field keeps it */
    return true;
}

bool config_value_set(struct config *config, const struct config_row *row, const char *text)
{
    errno = 0;
    uint64_t number;
    bool flag;
    switch (row->type) {
    case CONFIG_TYPE_text:
        return text_valid(row, text) && text_set(config, row, text);
    case CONFIG_TYPE_choice:
        return choice_valid(row, text) && text_set(config, row, text);
    case CONFIG_TYPE_u64:
    case CONFIG_TYPE_bytes:
    case CONFIG_TYPE_ms:
        if (!number_parse(row, text, &number))
            return false;
        memcpy(field_of(config, row), &number, sizeof(number));
        return true;
    case CONFIG_TYPE_flag:
        flag = strcmp(text, "true") == 0;
        if (!flag && strcmp(text, "false") != 0)
            return false;
        memcpy(field_of(config, row), &flag, sizeof(flag));
        return true;
    }
    return false;
}

void config_value_free(struct config *config, const struct config_row *row)
{
    if (row->type != CONFIG_TYPE_text && row->type != CONFIG_TYPE_choice)
        return;
    char *text;
    memcpy(&text, field_of(config, row), sizeof(text));
    free(text);
    memset(field_of(config, row), 0, sizeof(text));
}

/* ---------------------------------------------------------------------------------------- write */

static void number_format(enum config_type type, uint64_t number,
                          char text[static CONFIG_VALUE_TEXT_BYTES])
{
    const struct unit *unit = units_of(type);
    while (unit->factor > 1 && (number == 0 || number % unit->factor != 0))
        unit++;
    snprintf(text, CONFIG_VALUE_TEXT_BYTES, "%" PRIu64 "%s", number / unit->factor, unit->suffix);
}

void config_value_print(const struct config *config, const struct config_row *row, FILE *out)
{
    char number[CONFIG_VALUE_TEXT_BYTES];
    bool flag;
    switch (row->type) {
    case CONFIG_TYPE_text:
    case CONFIG_TYPE_choice:
        fputc('"', out);
        for (const char *at = text_of(config, row); *at != '\0'; at++) {
            if (*at == '"' || *at == '\\')
                fputc('\\', out);
            fputc(*at, out);
        }
        fputc('"', out);
        break;
    case CONFIG_TYPE_u64:
    case CONFIG_TYPE_bytes:
    case CONFIG_TYPE_ms:
        number_format(row->type, number_of(config, row), number);
        fputs(number, out);
        break;
    case CONFIG_TYPE_flag:
        memcpy(&flag, (const char *)config + row->offset, sizeof(flag));
        fputs(flag ? "true" : "false", out);
        break;
    }
}

void config_value_allowed(const struct config_row *row, char *ret_text, size_t text_size)
{
    char least[CONFIG_VALUE_TEXT_BYTES], most[CONFIG_VALUE_TEXT_BYTES];
    const char *kind = "a number";
    switch (row->type) {
    case CONFIG_TYPE_text:
        snprintf(ret_text, text_size, "printable UTF-8 text of %" PRIu64 " to %" PRIu64 " bytes",
                 row->least, row->most);
        return;
    case CONFIG_TYPE_choice:
        snprintf(ret_text, text_size, "one of %.*s", (int)strcspn(row->help + 1, "}"),
                 row->help + 1);
        return;
    case CONFIG_TYPE_flag:
        snprintf(ret_text, text_size, "true or false");
        return;
    case CONFIG_TYPE_bytes:
        kind = "bytes, or with KiB, MiB, GiB or TiB,";
        break;
    case CONFIG_TYPE_ms:
        kind = "milliseconds, or with ms, s, m or h,";
        break;
    case CONFIG_TYPE_u64:
        break;
    }
    number_format(row->type, row->least, least);
    number_format(row->type, row->most, most);
    snprintf(ret_text, text_size, "%s from %s to %s", kind, least, most);
}
