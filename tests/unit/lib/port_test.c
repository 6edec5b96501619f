/* A port that was given out is its program's, whether its server runs or not. */
#include "lib/port.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

/* A socket that listens on the port, or -1 with errno. */
static int listen_on(uint16_t port, int reuse)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse), 0);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 1) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static void nobody_else_is_given_it(void **state)
{
    (void)state;
    assert_int_equal(listen_on(port_free(), 0), -1);
    assert_int_equal(errno, EADDRINUSE);
}

static void its_server_may_go_and_come_back(void **state)
{
    (void)state;
    const uint16_t port = port_free();
    for (int start = 0; start < 3; start++) {
        const int server = listen_on(port, 1);
        assert_true(server >= 0);
        assert_int_equal(listen_on(port, 1), -1); /* One at a time */
        assert_int_equal(errno, EADDRINUSE);
        close(server);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_else_is_given_it),
        cmocka_unit_test(its_server_may_go_and_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
