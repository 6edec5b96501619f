/* Heads of requests whose end is certain, and others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/framing.h"

#include <string.h>

static bool is_plain(const char *head)
{
    return framing_is_plain(head, strlen(head));
}

static void one_way_to_tell_the_end_is_plain(void **state)
{
    (void)state;
    assert_true(is_plain("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_true(is_plain("PUT /k HTTP/1.1\r\nContent-Length: 3\r\nHost: x\r\n\r\nabc"));
    assert_true(is_plain("PUT /k HTTP/1.1\nTRANSFER-ENCODING: chunked\n\n3\r\nabc"));
    assert_true(is_plain(""));
    assert_true(is_plain("GET / HTTP/1.1"));
    assert_true(is_plain("GET / HTTP/1.1\r\n"));
}

static void two_ways_are_not(void **state)
{
    (void)state;
    assert_false(is_plain("PUT /k HTTP/1.1\r\nContent-Length: 3\r\ncontent-length: 5\r\n\r\n"));
    assert_false(
        is_plain("PUT /k HTTP/1.1\r\nContent-Length: 3\r\nA: b\r\nContent-Length: 3\r\n\r\n"));
    assert_false(
        is_plain("PUT /k HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"));
    assert_false(is_plain("PUT /k HTTP/1.1\nContent-Length: 3\nTransfer-Encoding: chunked\n\n"));
}

static void the_body_and_other_headers_do_not_count(void **state)
{
    (void)state;
    assert_true(is_plain("PUT /k HTTP/1.1\r\nContent-Length: 40\r\n\r\n\nContent-Length: 3\r\n"));
    assert_true(is_plain("PUT /k HTTP/1.1\r\nContent-Length: 3\r\nX-Content-Length: 4\r\n"
                         "Content-Length-X: 4\r\nX: Content-Length: 4\r\n\r\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_way_to_tell_the_end_is_plain),
        cmocka_unit_test(two_ways_are_not),
        cmocka_unit_test(the_body_and_other_headers_do_not_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
