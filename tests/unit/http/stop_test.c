/* Stopping the front end while requests are under way. */
#include "server_fixture.h"

#include "raw_client.h"

#include <unistd.h>

static void *stop_thread(void *argument)
{
    struct fixture *f = argument;

    http_server_stop(f->server, f->drain_ms);
    return NULL;
}

static void stop_begin(struct fixture *f, uint32_t drain_ms)
{
    f->drain_ms = drain_ms;
    assert_int_equal(pthread_create(&f->stopper, NULL, stop_thread, f), 0);
    f->stopping = true;
}

static void wait_refused(const struct fixture *f)
{
    uint64_t deadline = test_now_ms() + 10000;
    bool refused = false;

    while (!refused && test_now_ms() < deadline) {
        int fd = raw_socket();
        refused = !raw_try_connect(fd, f->address);
        close(fd);
    }
    assert_true(refused);
}

static void a_stop_lets_requests_under_way_finish(void **state)
{
    static const char put[] = "PUT /key/a HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n1";
    struct fixture *f = start(state);
    int http1 = raw_connect(f->address), http2 = raw_connect(f->address),
        idle = raw_connect(f->address);
    char *answer;

    fake_replica_hold(f->replica);
    raw_send(http1, put, sizeof(put) - 1);
    raw_http2_begin(http2);
    raw_http2_request(http2, 1, "DELETE", "/key/b");
    fake_replica_wait_held(f->replica, 2);
    stop_begin(f, 20000);
    wait_refused(f);
    fake_replica_release(f->replica);
    answer = raw_read_until(http1, NULL);
    assert_non_null(strstr(answer, "200 OK"));
    free(answer);
    free(raw_read_until(http2, "{\"revision\":"));
    stop_end(f);
    free(raw_read_until(http2, NULL));
    free(raw_read_until(idle, NULL));
    close(http1);
    close(http2);
    close(idle);
}

static void when_its_time_is_over_a_stop_answers_what_still_waits(void **state)
{
    static const char put[] = "PUT /key/a HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n1";
    struct fixture *f = start(state);
    int http1 = raw_connect(f->address), http2 = raw_connect(f->address);
    char *answer;

    fake_replica_hold(f->replica);
    raw_send(http1, put, sizeof(put) - 1);
    raw_http2_begin(http2);
    raw_http2_request(http2, 1, "GET", "/key/b?level=consistent");
    fake_replica_wait_held(f->replica, 2);
    stop_begin(f, 50);
    answer = raw_read_until(http1, NULL);
    assert_non_null(strstr(answer, "HTTP/1.1 503"));
    assert_non_null(strstr(answer, "\"outcome\":\"unknown\""));
    free(answer);
    free(raw_read_until(http2, "shutting_down"));
    fake_replica_release(f->replica);
    stop_end(f);
    close(http1);
    close(http2);
}

static void a_client_that_takes_no_answer_does_not_delay_a_stop_for_long(void **state)
{
    struct fixture *f = *state;
    char request[64];
    char *value = malloc((8 << 20) + 1);
    uint64_t began;
    int fds[2];

    assert_non_null(value);
    f->options.max_value_bytes = 8 << 20;
    f->options.max_body_bytes = 8 << 20;
    start(state);
    memset(value, 'v', 8 << 20);
    value[8 << 20] = '\0';
    expect_status(f, "PUT", "/key/large", value, 200);
    free(value);
    for (int i = 0; i < 2; i++)
        fds[i] = raw_connect(f->address);
    snprintf(request, sizeof(request), "GET /key/large?raw HTTP/1.1\r\nhost: x\r\n\r\n");
    raw_send(fds[0], request, strlen(request));
    raw_http2_begin(fds[1]);
    raw_http2_request(fds[1], 1, "GET", "/key/large?raw");
    free(raw_read_until(fds[0], "vvv"));
    free(raw_read_until(fds[1], "vvv"));
    began = test_now_ms();
    http_server_stop(f->server, 200);
    http_server_free(f->server);
    f->server = NULL;
    assert_in_range(test_now_ms() - began, 0, 5000);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_stop_lets_requests_under_way_finish),
        TEST(when_its_time_is_over_a_stop_answers_what_still_waits),
        TEST(a_client_that_takes_no_answer_does_not_delay_a_stop_for_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
