/* Log lines are put together on the caller's stack and written at once, so that lines of different
 * threads do not mix. Both formats share one escaping, that of JSON texts; logfmt leaves the quotes
 * out where they are not needed.
 *
 * Room for the end of the line (closing quote, "truncated", brace, newline) is set aside from the
 * start: whatever does not fit, the line ends properly. */
#include "log.h"

#include "utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES_MAX 4096
#define END_BYTES      24

static enum log_level log_level_least = LOG_LEVEL_INFO;
static enum log_format log_format_used = LOG_FORMAT_LOGFMT;

struct line {
    size_t length;
    bool full; /* Something was left out */
    char bytes[LINE_BYTES_MAX];
};

void log_configure(enum log_level level, enum log_format format)
{
    log_level_least = level;
    log_format_used = format;
}

bool log_enabled(enum log_level level)
{
    return level >= log_level_least;
}

/* Into the room that was set aside. */
static void line_end_add(struct line *line, const char *text)
{
    size_t n = strlen(text);
    memcpy(line->bytes + line->length, text, n);
    line->length += n;
}

/* All of it or nothing. Once something was left out, nothing more goes in. */
static void line_add(struct line *line, const char *bytes, size_t n)
{
    if (line->full || n > LINE_BYTES_MAX - END_BYTES - line->length) {
        line->full = true;
        return;
    }
    memcpy(line->bytes + line->length, bytes, n);
    line->length += n;
}

static void line_add_escaped(struct line *line, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    while (*at != '\0' && !line->full) {
        size_t length = utf8_length(at);
        char escape[8];
        if (length == 0) {
            line_add(line, "\xef\xbf\xbd", 3);
            length = 1;
        } else if (*at == '"' || *at == '\\') {
            snprintf(escape, sizeof(escape), "\\%c", *at);
            line_add(line, escape, 2);
        } else if (*at == '\n') {
            line_add(line, "\\n", 2);
        } else if (*at == '\t') {
            line_add(line, "\\t", 2);
        } else if (utf8_is_control(at)) {
            snprintf(escape, sizeof(escape), "\\u%04x", length == 1 ? at[0] : at[1]);
            line_add(line, escape, 6);
        } else {
            line_add(line, (const char *)at, length);
        }
        at += length;
    }
}

static bool needs_quotes(const char *text)
{
    if (*text == '\0')
        return true;
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0';) {
        size_t length = utf8_length(at);
        if (length == 0 || *at == ' ' || *at == '"' || *at == '=' || *at == '\\' ||
            utf8_is_control(at))
            return true;
        at += length;
    }
    return false;
}

/* The name with what separates it from its value. */
static void line_add_name(struct line *line, const char *name)
{
    const bool json = log_format_used == LOG_FORMAT_JSON;
    if (line->length > 0)
        line_add(line, json ? "," : " ", 1);
    else if (json)
        line_add(line, "{", 1);
    if (json)
        line_add(line, "\"", 1);
    line_add(line, name, strlen(name));
    line_add(line, json ? "\":" : "=", json ? 2 : 1);
}

static void line_add_text(struct line *line, const char *name, const char *text)
{
    const bool quoted = log_format_used == LOG_FORMAT_JSON || needs_quotes(text);
    const size_t start = line->length;
    line_add_name(line, name);
    if (quoted)
        line_add(line, "\"", 1);
    if (line->full) {
        line->length = start; /* A name alone would not be valid */
        return;
    }
    line_add_escaped(line, text);
    if (quoted)
        line_end_add(line, "\"");
}

static void line_add_number(struct line *line, const char *name, const char *digits)
{
    const size_t start = line->length;
    line_add_name(line, name);
    line_add(line, digits, strlen(digits));
    if (line->full)
        line->length = start;
}

static void line_add_field(struct line *line, const struct log_field *field)
{
    char digits[32];
    switch (field->type) {
    case LOG_FIELD_TEXT:
        line_add_text(line, field->name, field->text != NULL ? field->text : "");
        return;
    case LOG_FIELD_U64:
        snprintf(digits, sizeof(digits), "%" PRIu64, field->u64);
        break;
    case LOG_FIELD_I64:
        snprintf(digits, sizeof(digits), "%" PRId64, field->i64);
        break;
    case LOG_FIELD_HEX: /* A text: JSON has no such number */
        snprintf(digits, sizeof(digits), "%" PRIx64, field->u64);
        line_add_text(line, field->name, digits);
        return;
    }
    line_add_number(line, field->name, digits);
}

static void line_add_time(struct line *line)
{
    struct timespec now;
    struct tm parts;
    char text[64];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text + n, sizeof(text) - n, ".%03dZ", (int)(now.tv_nsec / 1000000));
    line_add_text(line, "time", text);
}

static void line_end(struct line *line)
{
    const bool json = log_format_used == LOG_FORMAT_JSON;
    if (line->full)
        line_end_add(line, json ? ",\"truncated\":true" : " truncated=true");
    line_end_add(line, json ? "}\n" : "\n");
}

static void line_write(const struct line *line)
{
    size_t written = 0;
    while (written < line->length) {
        ssize_t n = write(STDERR_FILENO, line->bytes + written, line->length - written);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* Nobody is left who could be told */
        written += (size_t)n;
    }
}

void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t n)
{
    static const char *const level_names[] = {"debug", "info", "warning", "error"};
    if (!log_enabled(level))
        return;
    const int saved_errno = errno;
    struct line line;
    line.length = 0;
    line.full = false;
    line_add_time(&line);
    line_add_text(&line, "level", level_names[level]);
    line_add_text(&line, "event", event);
    for (size_t i = 0; i < n && fields[i].name != NULL; i++)
        line_add_field(&line, &fields[i]);
    line_end(&line);
    line_write(&line);
    errno = saved_errno;
}
