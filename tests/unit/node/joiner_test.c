#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "log.h"
#include "node/joiner.h"

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_MS_MOST 30000

/* What the joiner is told, and how often it asked. */
struct membership {
    pthread_mutex_t mutex;
    pthread_cond_t asked;
    unsigned n_asked;
    unsigned member_from; /* The answer is yes from this question on */
};

static bool is_member(void *context)
{
    struct membership *membership = context;
    pthread_mutex_lock(&membership->mutex);
    bool answer = ++membership->n_asked >= membership->member_from;
    pthread_cond_signal(&membership->asked);
    pthread_mutex_unlock(&membership->mutex);
    return answer;
}

static void wait_until_asked(struct membership *membership, unsigned times)
{
    pthread_mutex_lock(&membership->mutex);
    while (membership->n_asked < times)
        pthread_cond_wait(&membership->asked, &membership->mutex);
    pthread_mutex_unlock(&membership->mutex);
}

/* A bound port of 127.0.0.1; nobody answers until listen() is called on the socket. */
static int bound_socket(char ret_endpoint[static 32])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, length), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    snprintf(ret_endpoint, 32, "127.0.0.1:%u", (unsigned)ntohs(address.sin_port));
    return fd;
}

static struct joiner *start(const char *endpoint, struct membership *membership)
{
    const struct joiner_options options = {.endpoints = endpoint,
                                           .node = {.name = "n2",
                                                    .http_address = "127.0.0.1:1",
                                                    .raft_address = "127.0.0.1:2",
                                                    .incarnation = 3},
                                           .is_member = is_member,
                                           .context = membership};
    struct joiner *joiner;
    assert_int_equal(joiner_start(&options, &joiner), 0);
    return joiner;
}

static void it_asks_again_until_the_node_is_a_member(void **unused)
{
    (void)unused;
    struct membership membership = {
        .mutex = PTHREAD_MUTEX_INITIALIZER, .asked = PTHREAD_COND_INITIALIZER, .member_from = 3};
    char endpoint[32];
    int fd = bound_socket(endpoint);
    struct joiner *joiner = start(endpoint, &membership);
    wait_until_asked(&membership, 3);
    joiner_stop(joiner);
    assert_int_equal(membership.n_asked, 3);
    close(fd);
}

static void a_node_that_is_a_member_asks_nobody(void **unused)
{
    (void)unused;
    struct membership membership = {
        .mutex = PTHREAD_MUTEX_INITIALIZER, .asked = PTHREAD_COND_INITIALIZER, .member_from = 1};
    char endpoint[32];
    int fd = bound_socket(endpoint);
    assert_int_equal(listen(fd, 1), 0);
    struct joiner *joiner = start(endpoint, &membership);
    wait_until_asked(&membership, 1);
    joiner_stop(joiner);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&poll_fd, 1, 0), 0);
    close(fd);
}

/* The whole request: headers, and as much body as Content-Length says; or -1. */
static ssize_t read_request(int fd, char *text, size_t size)
{
    size_t length = 0;
    while (length + 1 < size) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        if (poll(&poll_fd, 1, WAIT_MS_MOST) != 1)
            return -1;
        ssize_t n = read(fd, text + length, size - 1 - length);
        if (n <= 0)
            return -1;
        length += (size_t)n;
        text[length] = '\0';
        if (strstr(text, "}") != NULL || strstr(text, "PRI * HTTP/2") != NULL)
            return (ssize_t)length;
    }
    return -1;
}

static void stopping_waits_for_one_request_at_most(void **unused)
{
    (void)unused;
    struct membership membership = {.mutex = PTHREAD_MUTEX_INITIALIZER,
                                    .asked = PTHREAD_COND_INITIALIZER,
                                    .member_from = 1000000};
    char endpoint[32], request[4096];
    int fd = bound_socket(endpoint);
    assert_int_equal(listen(fd, 8), 0);
    struct joiner *joiner = start(endpoint, &membership);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&poll_fd, 1, WAIT_MS_MOST), 1);
    int connection = accept(fd, NULL, NULL);
    assert_true(connection >= 0);
    assert_true(read_request(connection, request, sizeof(request)) > 0);
    /* The request breaks off and nobody listens any more. */
    close(fd);
    close(connection);
    joiner_stop(joiner);
    assert_in_range(membership.n_asked, 1, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_asks_again_until_the_node_is_a_member),
        cmocka_unit_test(a_node_that_is_a_member_asks_nobody),
        cmocka_unit_test(stopping_waits_for_one_request_at_most),
    };
    log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
