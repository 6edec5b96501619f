/* Well-formed UTF-8, for texts that come from outside. Pure. */
#ifndef TIERKV_UTF8_H
#define TIERKV_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Length of the well-formed sequence at the start of a NUL-terminated text (1 for the NUL itself),
 * or 0 if there is none. */
size_t utf8_length(const unsigned char *text);

/* Does a text start with a character that could move a terminal's cursor: U+0001 to U+001F, U+007F
 * to U+009F? Also true of the NUL. */
bool utf8_is_control(const unsigned char *text);

#endif
