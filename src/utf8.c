/* A NUL is no continuation byte, so that nothing is read beyond the end of a text. */
#include "utf8.h"

size_t utf8_length(const unsigned char *text)
{
    unsigned char first = text[0];
    size_t length = 0;
    if (first < 0x80)
        length = 1;
    else if (first >= 0xc2 && first < 0xe0)
        length = 2;
    else if (first >= 0xe0 && first < 0xf0)
        length = 3;
    else if (first >= 0xf0 && first < 0xf5)
        length = 4;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (first == 0xe0 && text[1] < 0xa0) || (first == 0xf0 && text[1] < 0x90);
    bool surrogate = first == 0xed && text[1] >= 0xa0;
    bool too_high = first == 0xf4 && text[1] >= 0x90;
    return overlong || surrogate || too_high ? 0 : length;
}

bool utf8_is_control(const unsigned char *text)
{
    return text[0] < 0x20 || text[0] == 0x7f || (text[0] == 0xc2 && text[1] < 0xa0);
}
