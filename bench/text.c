/* See text.h. A NUL is no continuation byte, so that nothing is read beyond the end of a text. */
#include "text.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPLACEMENT       "\xef\xbf\xbd"
#define REPLACEMENT_BYTES 3

/* Bytes of the character that begins with this one; 0: none does. */
static size_t announced_bytes(unsigned char first)
{
    if (first < 0x80)
        return 1;
    if (first < 0xc0 || first >= 0xf8)
        return 0;
    return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/* Length of the well-formed character at the start of a text, or 0 if there is none. */
static size_t character_bytes(const unsigned char *text)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000}; /* By length */
    size_t length = announced_bytes(text[0]);
    uint32_t code = length > 1 ? text[0] & (0x7fu >> length) : text[0];

    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (text[i] & 0x3f);
    }
    bool surrogate = code >= 0xd800 && code < 0xe000;
    return code < least[length] || surrogate || code > 0x10ffff ? 0 : length;
}

/* Takes off the last character if it is not whole. */
static void trim(char *text)
{
    size_t length = strlen(text), first = length;

    while (first > 0 && length - first < 4) {
        first--;
        if (((unsigned char)text[first] & 0xc0) != 0x80) {
            if (announced_bytes((unsigned char)text[first]) > length - first)
                text[first] = '\0';
            return;
        }
    }
}

void text_format(char *text, size_t size, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int n = vsnprintf(text, size, format, arguments);
    va_end(arguments);
    if (n < 0)
        text[0] = '\0';
    else if ((size_t)n >= size)
        trim(text);
}

char *text_utf8(const char *text)
{
    const unsigned char *from = (const unsigned char *)text;
    char *copy = malloc(strlen(text) * REPLACEMENT_BYTES + 1), *to = copy;

    while (copy != NULL && *from != '\0') {
        size_t length = character_bytes(from);
        if (length > 0) {
            memcpy(to, from, length);
            to += length;
            from += length;
        } else {
            memcpy(to, REPLACEMENT, REPLACEMENT_BYTES);
            to += REPLACEMENT_BYTES;
            from++;
        }
    }
    if (copy != NULL)
        *to = '\0';
    return copy;
}
