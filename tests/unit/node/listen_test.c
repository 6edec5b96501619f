#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "address.h"
#include "node/listen.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* 0 if this port of 127.0.0.1 can be listened on. */
static int listen_on(uint16_t port, int shared)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &shared, sizeof(shared)), 0);
    int result = bind(fd, (const struct sockaddr *)&address, sizeof(address));
    if (result == 0)
        result = listen(fd, 1);
    close(fd);
    return result;
}

static void a_chosen_port_is_kept_for_listeners_that_share_it(void **unused)
{
    (void)unused;
    char text[64], error_text[128];
    int fd;
    struct address address;
    assert_int_equal(
        listen_reserve("127.0.0.1:0", text, sizeof(text), &fd, error_text, sizeof(error_text)), 0);
    assert_true(fd >= 0);
    assert_true(address_parse(text, &address));
    assert_string_equal(address.host, "127.0.0.1");
    assert_int_not_equal(address.port, 0);
    assert_int_not_equal(listen_on(address.port, 0), 0);
    assert_int_equal(listen_on(address.port, 1), 0);
    close(fd);
}

static void a_port_that_was_given_is_left_as_it_is(void **unused)
{
    (void)unused;
    char chosen[64], text[64], error_text[128];
    int fd;
    assert_int_equal(
        listen_reserve("127.0.0.1:0", chosen, sizeof(chosen), &fd, error_text, sizeof(error_text)),
        0);
    close(fd);
    assert_int_equal(
        listen_reserve(chosen, text, sizeof(text), &fd, error_text, sizeof(error_text)), 0);
    assert_string_equal(text, chosen);
    assert_int_equal(fd, -1);
}

static void a_port_in_use_is_refused_even_if_its_user_would_share_it(void **unused)
{
    (void)unused;
    char chosen[64], text[64], error_text[128] = "", expected[128];
    int fd, other_fd;
    assert_int_equal(
        listen_reserve("127.0.0.1:0", chosen, sizeof(chosen), &fd, error_text, sizeof(error_text)),
        0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(
        listen_reserve(chosen, text, sizeof(text), &other_fd, error_text, sizeof(error_text)), -1);
    snprintf(expected, sizeof(expected), "cannot listen on %s: Address already in use", chosen);
    assert_string_equal(error_text, expected);
    close(fd);
}

static void an_address_of_another_machine_is_refused_with_the_cause(void **unused)
{
    (void)unused;
    char text[64], error_text[128];
    int fd;
    assert_int_equal(
        listen_reserve("192.0.2.1:0", text, sizeof(text), &fd, error_text, sizeof(error_text)), -1);
    assert_string_equal(error_text,
                        "cannot listen on 192.0.2.1:0: Cannot assign requested address");
}

static void descriptors_are_raised_to_what_the_user_may_have(void **unused)
{
    (void)unused;
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max < 64 ? limit.rlim_max : 64;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_true(descriptors_raise() == limit.rlim_max);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_true(limit.rlim_cur == limit.rlim_max);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chosen_port_is_kept_for_listeners_that_share_it),
        cmocka_unit_test(a_port_that_was_given_is_left_as_it_is),
        cmocka_unit_test(a_port_in_use_is_refused_even_if_its_user_would_share_it),
        cmocka_unit_test(an_address_of_another_machine_is_refused_with_the_cause),
        cmocka_unit_test(descriptors_are_raised_to_what_the_user_may_have),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
