/* Texts for reports: what users name may be any bytes, and JSON takes UTF-8 only. Pure. */
#ifndef TIERKV_BENCH_TEXT_H
#define TIERKV_BENCH_TEXT_H

#include <stddef.h>

/* As snprintf, but what is too long is cut between two characters of UTF-8. size is at least 1. */
__attribute__((format(printf, 3, 4))) void text_format(char *text, size_t size, const char *format,
                                                       ...);

/* A copy in which U+FFFD stands for each byte that is not UTF-8. The caller frees it. NULL: out of
 * memory. */
char *text_utf8(const char *text);

#endif
