/* Clients that make the server hold memory for them: answers that are not taken, bodies that do not
 * come to an end. It is bounded, others are served, and such connections are cut. */
#include "lib/cluster.h"
#include "lib/http.h"
#include "lib/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define VALUE_BYTES   60000
#define PIECE_BYTES   16000
#define STREAMS       60
#define WAIT_MS       30000
#define WITH_ALL_TIME "--idle-timeout=10m"

static char value[VALUE_BYTES];

static void put_value(const struct cluster *cluster)
{
    struct http_answer answer;

    memset(value, 'v', sizeof(value));
    http_run(&(struct http_request){.method = "PUT",
                                    .address = cluster_address(cluster, 0),
                                    .path = "/key/large",
                                    .body = value,
                                    .body_len = sizeof(value)},
             &answer);
    assert_int_equal(answer.status, 200);
    http_free(&answer);
}

static uint64_t connections_cut(const struct cluster *cluster)
{
    struct http_answer answer;
    const char *line;
    uint64_t n;

    http_run(&(struct http_request){.address = cluster_address(cluster, 0), .path = "/metrics"},
             &answer);
    assert_int_equal(answer.status, 200);
    line = strstr(answer.body, "\ntierkv_http_connections_cut_total ");
    assert_non_null(line);
    n = strtoull(strchr(line, ' '), NULL, 10);
    http_free(&answer);
    return n;
}

/* Asks for the value on so many streams, whose answers it takes no byte of. */
static int ask_and_take_nothing(const struct cluster *cluster, unsigned n)
{
    int fd = wire_connect(cluster_address(cluster, 0));
    unsigned char frame[WIRE_REQUEST_BYTES_MAX];

    assert_true(wire_http2_begin(fd, 0));
    for (unsigned i = 0; i < n; i++)
        (void)wire_send(
            fd, frame,
            wire_request(frame, WIRE_END_STREAM, 2 * i + 1, "GET", "/key/large?raw=true"));
    return fd;
}

static void a_peer_that_takes_no_answer_is_cut_after_the_idle_timeout(void **state)
{
    static const char *const flags[] = {"--idle-timeout=1s", NULL};
    struct cluster *cluster = cluster_start(1, flags);
    int fd;

    (void)state;
    put_value(cluster);
    assert_int_equal(connections_cut(cluster), 0);
    fd = ask_and_take_nothing(cluster, 1);
    assert_true(wire_wait_closed(fd, WAIT_MS));
    assert_int_equal(connections_cut(cluster), 1);
    close(fd);
    cluster_stop(cluster);
}

/* A body on one stream: head, then pieces one every `pause_ms` until the server closes or n are
 * sent. Whether all were. */
static bool dribble(int fd, size_t piece, unsigned n, int pause_ms)
{
    unsigned char frame[WIRE_FRAME_HEAD_BYTES + PIECE_BYTES];

    assert_true(wire_http2_begin(fd, 65535));
    (void)wire_send(fd, frame, wire_request(frame, 0, 1, "PUT", "/key/slow"));
    for (unsigned i = 0; i < n; i++) {
        size_t length =
            wire_frame(frame, WIRE_DATA, i + 1 == n ? WIRE_END_STREAM : 0, 1, value, piece);
        if (!wire_send(fd, frame, length) || wire_wait_closed(fd, (uint64_t)pause_ms))
            return false;
    }
    return true;
}

static void a_body_that_comes_too_slowly_is_cut_and_a_slow_one_is_not(void **state)
{
    static const char *const flags[] = {"--idle-timeout=1s", NULL};
    struct cluster *cluster = cluster_start(1, flags);
    int fd = wire_connect(cluster_address(cluster, 0));
    struct http_answer answer;

    (void)state;
    assert_false(dribble(fd, 1, WAIT_MS / 100, 100));
    assert_int_equal(connections_cut(cluster), 1);
    close(fd);
    fd = wire_connect(cluster_address(cluster, 0));
    assert_true(dribble(fd, 1000, 40, 100));
    http_run(
        &(struct http_request){.address = cluster_address(cluster, 0), .path = "/key/slow?raw"},
        &answer);
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.body_len, 40000);
    http_free(&answer);
    assert_int_equal(connections_cut(cluster), 1);
    close(fd);
    cluster_stop(cluster);
}

static void bodies_over_the_budget_cost_the_connection_that_holds_the_most(void **state)
{
    static const char *const flags[] = {"--buffers-bytes-max=1MiB", "--max-value-bytes=64KiB",
                                        "--max-body-bytes=64KiB", WITH_ALL_TIME, NULL};
    static const char head[] =
        "PUT /key/modest HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n";
    unsigned char frame[WIRE_FRAME_HEAD_BYTES + PIECE_BYTES];
    struct cluster *cluster = cluster_start(1, flags);
    int modest = wire_connect(cluster_address(cluster, 0)), greedy;
    char answer[512] = "";

    (void)state;
    assert_true(wire_send(modest, head, sizeof(head) - 1));
    assert_true(wire_send(modest, value, 50000));
    greedy = wire_connect(cluster_address(cluster, 0));
    assert_true(wire_http2_begin(greedy, 65535));
    for (unsigned i = 0; i < STREAMS; i++)
        assert_true(
            wire_send(greedy, frame, wire_request(frame, 0, 2 * i + 1, "PUT", "/key/greedy")));
    for (unsigned i = 0; i < 3 * STREAMS; i++) {
        size_t length = wire_frame(frame, WIRE_DATA, 0, 2 * (i % STREAMS) + 1, value, PIECE_BYTES);
        if (!wire_send(greedy, frame, length))
            break;
    }
    assert_true(wire_wait_closed(greedy, WAIT_MS));
    assert_int_equal(connections_cut(cluster), 1);
    assert_true(wire_send(modest, value + 50000, 10000));
    assert_true(recv(modest, answer, sizeof(answer) - 1, 0) > 0);
    assert_non_null(strstr(answer, "HTTP/1.1 200 "));
    close(greedy);
    close(modest);
    cluster_stop(cluster);
}

static void whoever_takes_nothing_makes_room_for_those_who_do(void **state)
{
    static const char *const flags[] = {"--buffers-bytes-max=1MiB", "--max-value-bytes=64KiB",
                                        "--max-body-bytes=64KiB", WITH_ALL_TIME, NULL};
    struct cluster *cluster = cluster_start(1, flags);
    uint64_t end = test_now_ms() + WAIT_MS;
    int fd;
    long status = 0;
    bool refused = false;

    (void)state;
    put_value(cluster);
    fd = ask_and_take_nothing(cluster, STREAMS);
    /* Some were refused; what was admitted holds the budget until it is cut. */
    while (status != 200 && test_now_ms() < end) {
        status = http_get_status(cluster_address(cluster, 0), "/key/large?raw");
        assert_true(status == 200 || status == 503);
        refused = refused || status == 503;
        if (status == 503)
            assert_int_equal(http_get_status(cluster_address(cluster, 0), "/livez"), 200);
    }
    assert_int_equal(status, 200);
    if (refused)
        assert_true(wire_wait_closed(fd, WAIT_MS));
    close(fd);
    cluster_stop(cluster);
}

static void sigterm_waits_for_a_body_that_is_under_way(void **state)
{
    static const char head[] = "PUT /key/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n";
    struct cluster *cluster = cluster_start(1, NULL);
    int fd = wire_connect(cluster_address(cluster, 0));
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    char answer[512] = "";

    (void)state;
    assert_true(wire_send(fd, head, sizeof(head) - 1));
    assert_true(wire_send(fd, "12345", 5));
    /* Another request is answered only after these bytes have been read. */
    assert_int_equal(http_get_status(cluster_address(cluster, 0), "/livez"), 200);
    cluster_node_signal(cluster, 0, SIGTERM);
    /* Idle connections are kept for a tenth of a second; this one is not idle. */
    assert_int_equal(poll(&polled, 1, 500), 0);
    assert_true(wire_send(fd, "67890", 5));
    assert_true(recv(fd, answer, sizeof(answer) - 1, 0) > 0);
    assert_non_null(strstr(answer, "HTTP/1.1 200 "));
    close(fd);
    assert_int_equal(cluster_node_wait_exit(cluster, 0, WAIT_MS), 0);
    cluster_stop(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_peer_that_takes_no_answer_is_cut_after_the_idle_timeout,
                                  cluster_teardown),
        cmocka_unit_test_teardown(a_body_that_comes_too_slowly_is_cut_and_a_slow_one_is_not,
                                  cluster_teardown),
        cmocka_unit_test_teardown(bodies_over_the_budget_cost_the_connection_that_holds_the_most,
                                  cluster_teardown),
        cmocka_unit_test_teardown(whoever_takes_nothing_makes_room_for_those_who_do,
                                  cluster_teardown),
        cmocka_unit_test_teardown(sigterm_waits_for_a_body_that_is_under_way, cluster_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
