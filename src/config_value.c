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

static const void *value_of(const struct config *config, const struct config_row *row)
{
    return (const char *)config + row->offset;
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
    char **field = field_of(config, row);
    char *copy = strdup(text);
    if (copy == NULL)
        return false;
    free(*field);
    *field = copy;
    return true;
}

bool config_value_set(struct config *config, const struct config_row *row, const char *text)
{
    errno = 0;
    uint64_t *number = field_of(config, row);
    bool *flag = field_of(config, row);
    switch (row->type) {
    case CONFIG_TYPE_text:
        return text_valid(row, text) && text_set(config, row, text);
    case CONFIG_TYPE_choice:
        return choice_valid(row, text) && text_set(config, row, text);
    case CONFIG_TYPE_u64:
    case CONFIG_TYPE_bytes:
    case CONFIG_TYPE_ms:
        return number_parse(row, text, number);
    case CONFIG_TYPE_flag:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            return false;
        *flag = strcmp(text, "true") == 0;
        return true;
    }
    return false;
}

bool config_figures_parse(const char *text, double ret_figures[static CONFIG_FIGURES_N])
{
    double figures[CONFIG_FIGURES_N];
    for (size_t i = 0; i < CONFIG_FIGURES_N; i++) {
        /* strtod would take blanks, signs, words and hexadecimal digits too. */
        const size_t digits = strspn(text, "0123456789.");
        char *end;
        figures[i] = strtod(text, &end);
        if (digits == 0 || end != text + digits || *end != (i + 1 < CONFIG_FIGURES_N ? ',' : '\0'))
            return false;
        text = end + 1;
    }
    memcpy(ret_figures, figures, sizeof(figures));
    return true;
}

void config_value_free(struct config *config, const struct config_row *row)
{
    if (row->type != CONFIG_TYPE_text && row->type != CONFIG_TYPE_choice)
        return;
    char **field = field_of(config, row);
    free(*field);
    *field = NULL;
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
    char digits[CONFIG_VALUE_TEXT_BYTES];
    const char *const *text = value_of(config, row);
    const uint64_t *number = value_of(config, row);
    const bool *flag = value_of(config, row);
    switch (row->type) {
    case CONFIG_TYPE_text:
    case CONFIG_TYPE_choice:
        fputc('"', out);
        for (const char *at = *text; *at != '\0'; at++) {
            if (*at == '"' || *at == '\\')
                fputc('\\', out);
            fputc(*at, out);
        }
        fputc('"', out);
        break;
    case CONFIG_TYPE_u64:
    case CONFIG_TYPE_bytes:
    case CONFIG_TYPE_ms:
        number_format(row->type, *number, digits);
        fputs(digits, out);
        break;
    case CONFIG_TYPE_flag:
        fputs(*flag ? "true" : "false", out);
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
