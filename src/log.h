/* Structured logs: one line an event, logfmt or JSON, to standard error.
 *
 * log_info("leader elected", LOG_U64("term", term), LOG_TEXT("leader", address));
 *   time=2026-01-02T03:04:05.678Z level=info event="leader elected" term=7 leader=10.0.0.1:8091
 *
 * Any thread. A line is written by one write(2). At 4 KiB it is cut and ends with truncated=true;
 * it stays valid in its format. Values may be any bytes: control characters are escaped, and what
 * is not UTF-8 becomes U+FFFD. Nothing here fails; errno is kept.
 */
#ifndef TIERKV_LOG_H
#define TIERKV_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_LOGFMT, LOG_FORMAT_JSON };

struct log_field {
    const char *name;
    enum { LOG_FIELD_TEXT, LOG_FIELD_U64, LOG_FIELD_I64, LOG_FIELD_HEX } type;
    union {
        const char *text; /* NULL is written as an empty text */
        uint64_t u64;
        int64_t i64;
    };
};

#define LOG_TEXT(n, v) ((struct log_field){.name = (n), .type = LOG_FIELD_TEXT, .text = (v)})
#define LOG_U64(n, v)  ((struct log_field){.name = (n), .type = LOG_FIELD_U64, .u64 = (v)})
#define LOG_I64(n, v)  ((struct log_field){.name = (n), .type = LOG_FIELD_I64, .i64 = (v)})
#define LOG_HEX(n, v)  ((struct log_field){.name = (n), .type = LOG_FIELD_HEX, .u64 = (v)})

/* Before other threads run. Without it: info, logfmt. */
void log_configure(enum log_level level, enum log_format format);
bool log_enabled(enum log_level level);
/* `event` and names are plain words of the program; only values may come from outside. */
void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t n);

/* The empty fields around the given ones let the macros take no fields at all: the first is
 * skipped, and log_write stops at the last. */
#define LOG_END ((struct log_field){.name = NULL})
#define log_at(level, event, ...)                                                                  \
    log_write((level), (event), (const struct log_field[]){LOG_END, ##__VA_ARGS__, LOG_END} + 1,   \
              SIZE_MAX)
#define log_debug(...)   log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...)    log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warning(...) log_at(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_error(...)   log_at(LOG_LEVEL_ERROR, __VA_ARGS__)

#endif
