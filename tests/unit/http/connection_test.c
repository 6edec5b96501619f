/* Connections to the front end: the forms in which requests come, clients that vanish, and those
 * that are too many or say nothing. */
#include "server_fixture.h"

#include "raw_client.h"

#include <sys/resource.h>
#include <unistd.h>

/* ---- Vanishing ---- */

static double vanished(struct fixture *f)
{
    struct http_answer answer = run(f, HTTP_1_1, "GET", "/metrics", NULL);
    const char *line = strstr(answer.body, "\ntierkv_http_requests_vanished_total ");
    double n;

    assert_non_null(line);
    n = strtod(strchr(line, ' '), NULL);
    http_free(&answer);
    return n;
}

static void wait_vanished(struct fixture *f, double n)
{
    uint64_t deadline = test_now_ms() + 10000;

    while (vanished(f) < n && test_now_ms() < deadline)
        test_sleep_ms(2);
    assert_true(vanished(f) >= n);
}

static void a_reset_stream_leaves_its_operation_to_come_back_alone(void **state)
{
    struct fixture *f = start(state);
    double before = vanished(f);
    char *answer;
    int fd = raw_connect(f->address);

    expect_status(f, "PUT", "/key/a", "1", 200);
    fake_replica_hold(f->replica);
    raw_http2_begin(fd);
    raw_http2_request(fd, 1, "DELETE", "/key/a");
    raw_http2_request(fd, 3, "GET", "/key/b?level=consistent");
    raw_http2_request(fd, 5, "PUT", "/key/c");
    fake_replica_wait_held(f->replica, 3);
    raw_http2_reset(fd, 1);
    raw_http2_reset(fd, 3);
    wait_vanished(f, before + 2);
    fake_replica_release(f->replica);
    answer = raw_read_until(fd, "{\"revision\":"); /* Of stream 5 */
    free(answer);
    close(fd);
    expect_error(f, "GET", "/key/a", NULL, 404, "not_found", NULL);
    expect_status(f, "GET", "/key/c", NULL, 200);
}

static void closed_connections_leave_their_operations_to_come_back_alone(void **state)
{
    static const char text[] = "PUT /key/a HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n1";
    struct fixture *f = start(state);
    double before = vanished(f);
    int http1 = raw_connect(f->address), http2 = raw_connect(f->address);

    fake_replica_hold(f->replica);
    raw_send(http1, text, sizeof(text) - 1);
    raw_http2_begin(http2);
    for (uint32_t i = 0; i < 50; i++)
        raw_http2_request(http2, 2 * i + 1, "DELETE", "/key/b");
    fake_replica_wait_held(f->replica, 51);
    close(http1);
    close(http2);
    wait_vanished(f, before + 50); /* HTTP/1 does not look before it answers */
    fake_replica_release(f->replica);
    expect_body(f, "/key/a?raw", "1", 1);
}

/* ---- Forms of requests ---- */

static void expect_raw(struct fixture *f, const char *request, const char *const wanted[], size_t n)
{
    int fd = raw_connect(f->address);
    char *answer, *at;

    raw_send(fd, request, strlen(request));
    at = answer = raw_read_until(fd, NULL);
    for (size_t i = 0; i < n; i++) {
        char *found = strstr(at, wanted[i]);
        if (found == NULL)
            fail_msg("\"%s\" is not in: %s", wanted[i], at);
        at = found + strlen(wanted[i]);
    }
    free(answer);
    close(fd);
}

#define EXPECT_RAW(f, request, ...)                                                                \
    expect_raw(f, request, (const char *const[]){__VA_ARGS__},                                     \
               sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void requests_come_in_all_forms_that_http_1_allows(void **state)
{
    struct fixture *f = start(state);

    expect_status(f, "PUT", "/key/a", "1", 200);
    EXPECT_RAW(f, "GET /key/a?raw HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK", "Connection: close",
               "\r\n\r\n1");
    EXPECT_RAW(f, "GET http://any:1/key/a?raw HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
               "200 OK", "\r\n\r\n1");
    EXPECT_RAW(f, "GET HTTP://any HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "404",
               "no_such_path");
    EXPECT_RAW(f, "GET http://any?/key/a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "404",
               "no_such_path");
    EXPECT_RAW(f, "OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "404",
               "no_such_path");
    EXPECT_RAW(f,
               "GET /key/a?raw HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc"
               "PUT /key/b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
               "3\r\nxyz\r\n1\r\n!\r\n0\r\n\r\n"
               "GET /key/b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
               "\r\n\r\n1HTTP/1.1 200", "{\"revision\":3}\n", "HTTP/1.1 200", "{\"b\":\"xyz!\"}\n");
    EXPECT_RAW(f,
               "PUT /key/c HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1\r\n"
               "connection: close\r\n\r\nc",
               "100 Continue", "200 OK", "revision");
}

static void a_redirect_of_an_absolute_target_keeps_only_path_and_query(void **state)
{
    struct fixture *f = start(state);

    fake_replica_become(f->replica, REPLICA_FOLLOWER, "leader:1");
    EXPECT_RAW(f, "GET http://any:1/key/a?x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
               "307", "location: http://leader:1/key/a?x\r\n");
}

static void a_redirect_never_carries_bytes_that_do_not_belong_in_a_header(void **state)
{
    struct fixture *f = start(state);
    int fd = raw_connect(f->address);

    fake_replica_become(f->replica, REPLICA_FOLLOWER, "leader:1");
    raw_http2_begin(fd);
    raw_http2_request(fd, 1, "GET", "/key/a\r\nset-cookie:x");
    free(raw_read_until(fd, "bad_request"));
    raw_http2_request(fd, 3, "GET", "/key/a b");
    free(raw_read_until(fd, "invalid_path"));
    close(fd);
}

static void what_libh2o_refuses_by_itself_is_json_too(void **state)
{
    struct fixture *f = start(state);

    EXPECT_RAW(f, "PUT /key/a HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n",
               "HTTP/1.1 413", "application/json", "body_too_large");
    EXPECT_RAW(f, "PUT /key/a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nxx\r\n",
               "HTTP/1.1 400", "application/json", "bad_request");
    EXPECT_RAW(f, "PUT /key/a HTTP/1.1\r\nhost: x\r\nexpect: wonders\r\ncontent-length: 1\r\n\r\n1",
               "HTTP/1.1 417", "application/json", "unknown_expectation");
    EXPECT_RAW(f, "nonsense\r\n\r\n", "HTTP/1.1 400");
    expect_status(f, "GET", "/key/a", NULL, 404);
}

/* ---- Connections ---- */

static bool is_served(const struct fixture *f)
{
    static const char request[] = "GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    int fd = raw_connect(f->address);
    char *answer;
    bool served;

    raw_send(fd, request, sizeof(request) - 1);
    answer = raw_read_until(fd, NULL);
    served = strstr(answer, "200 OK") != NULL;
    free(answer);
    close(fd);
    return served;
}

/* A connection that its peer sees closed is still counted for a moment. */
static void wait_served(const struct fixture *f)
{
    uint64_t deadline = test_now_ms() + 10000;
    bool served = is_served(f);

    while (!served && test_now_ms() < deadline) {
        test_sleep_ms(2);
        served = is_served(f);
    }
    assert_true(served);
}

static void idle_and_surplus_connections_are_closed(void **state)
{
    struct fixture *f = *state;
    int first, second, third;

    f->options.connections_max = 2;
    f->options.idle_timeout_ms = 300;
    start(state);
    first = raw_connect(f->address);
    second = raw_connect(f->address);
    raw_send(first, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", 32);
    raw_send(second, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", 32);
    free(raw_read_until(first, "ok\n"));
    free(raw_read_until(second, "ok\n"));
    third = raw_connect(f->address);
    free(raw_read_until(third, NULL));
    free(raw_read_until(first, NULL));
    raw_send(second, "GET", 3); /* Not even a slow request keeps it */
    free(raw_read_until(second, NULL));
    close(first);
    close(second);
    close(third);
    wait_served(f);
}

static void without_descriptors_clients_wait_and_are_served_later(void **state)
{
    struct fixture *f = start(state);
    struct rlimit old, low;
    int fd, probe = dup(0);
    char *answer;

    assert_true(probe >= 0);
    close(probe);
    fd = raw_connect(f->address); /* Takes the lowest; the server's side needs one more */
    free((raw_send(fd, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", 32), raw_read_until(fd, "ok\n")));
    close(fd);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = old;
    fd = raw_socket();
    low.rlim_cur = (rlim_t)fd + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    raw_connect_socket(fd, f->address);
    raw_send(fd, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", 32);
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    test_sleep_ms(400);
    getrusage(RUSAGE_SELF, &after);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    answer = raw_read_until(fd, "ok\n");
    free(answer);
    close(fd);
    /* Waiting must not burn the processor: far less than the 400 ms that went by. */
    assert_in_range((after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000 +
                        (after.ru_utime.tv_usec - before.ru_utime.tv_usec) / 1000 +
                        (after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1000 +
                        (after.ru_stime.tv_usec - before.ru_stime.tv_usec) / 1000,
                    0, 200);
}

static void a_request_whose_end_is_not_certain_is_refused_and_nothing_follows_it(void **state)
{
    static const char *const heads[] = {
        "PUT /key/a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\nabcde",
        "PUT /key/a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n"
        "1\r\na\r\n0\r\n\r\n"};
    static const char next[] = "PUT /key/next HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n1";
    struct fixture *f = start(state);

    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        int fd = raw_connect(f->address);
        char *answer;
        raw_send(fd, heads[i], strlen(heads[i]));
        raw_send(fd, next, sizeof next - 1);
        answer = raw_read_until(fd, NULL);
        assert_non_null(strstr(answer, "HTTP/1.1 400 "));
        assert_null(strstr(answer, "HTTP/1.1 200 "));
        free(answer);
        close(fd);
    }
    expect_error(f, "GET", "/key/a", NULL, 404, "not_found", NULL);
    expect_error(f, "GET", "/key/next", NULL, 404, "not_found", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_reset_stream_leaves_its_operation_to_come_back_alone),
        TEST(closed_connections_leave_their_operations_to_come_back_alone),
        TEST(requests_come_in_all_forms_that_http_1_allows),
        TEST(a_redirect_of_an_absolute_target_keeps_only_path_and_query),
        TEST(a_redirect_never_carries_bytes_that_do_not_belong_in_a_header),
        TEST(what_libh2o_refuses_by_itself_is_json_too),
        TEST(a_request_whose_end_is_not_certain_is_refused_and_nothing_follows_it),
        TEST(idle_and_surplus_connections_are_closed),
        TEST(without_descriptors_clients_wait_and_are_served_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
