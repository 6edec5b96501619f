/* Texts of reports: what is no UTF-8, and where a text is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "text.h"

#include <stdlib.h>
#include <string.h>

static void assert_copied(const char *text, const char *expected)
{
    char *copy = text_utf8(text);

    assert_non_null(copy);
    assert_string_equal(copy, expected);
    free(copy);
}

static void characters_of_utf8_stay(void **state)
{
    static const char text[] = "a\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80"
                               "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf";

    (void)state;
    assert_copied("", "");
    assert_copied(text, text);
}

static void other_bytes_are_replaced_one_by_one(void **state)
{
    (void)state;
    assert_copied("a\xff\xc3\xa9", "a\ufffd\xc3\xa9");
    assert_copied("\x80 \xc3", "\ufffd \ufffd");
    assert_copied("\xe2\x82", "\ufffd\ufffd");
    /* Overlong, a surrogate, above U+10FFFF. */
    assert_copied("\xc0\xaf", "\ufffd\ufffd");
    assert_copied("\xe0\x80\xaf", "\ufffd\ufffd\ufffd");
    assert_copied("\xed\xa0\x80", "\ufffd\ufffd\ufffd");
    assert_copied("\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd");
    assert_copied("\xf8\x88\x80\x80\x80", "\ufffd\ufffd\ufffd\ufffd\ufffd");
}

static void assert_cut(const char *from, size_t size, const char *expected)
{
    char text[64];

    memset(text, 'x', sizeof(text));
    text_format(text, size, "%s", from);
    assert_string_equal(text, expected);
}

static void a_text_is_cut_between_characters(void **state)
{
    (void)state;
    assert_cut("ab\u20ac", 6, "ab\u20ac");
    assert_cut("ab\u20ac", 5, "ab");
    assert_cut("ab\u20ac", 4, "ab");
    assert_cut("ab\u20ac", 3, "ab");
    assert_cut("a\u00e9\u00e9", 4, "a\u00e9");
    assert_cut("\U0001f600!", 5, "\U0001f600");
    assert_cut("\U0001f600!", 4, "");
    assert_cut("abc", 1, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_of_utf8_stay),
        cmocka_unit_test(other_bytes_are_replaced_one_by_one),
        cmocka_unit_test(a_text_is_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
