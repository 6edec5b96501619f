/* The front end as clients see it: keys, values, operators' pages, redirects and errors. */
#include "server_fixture.h"

#include "raw_client.h"

#include <unistd.h>

/* ---- Keys and values ---- */

static void what_is_put_is_got_until_it_is_deleted(void **state)
{
    struct fixture *f = start(state);
    struct http_answer answer;

    expect_status(f, "PUT", "/key/foo", "bar", 200);
    expect_body(f, "/key/foo", "{\"foo\":\"bar\"}\n", 14);
    expect_body(f, "/key/foo?raw", "bar", 3);
    expect_body(f, "/key/foo?level=consistent&raw", "bar", 3);
    answer = run(f, HTTP_2, "HEAD", "/key/foo", NULL);
    assert_int_equal(answer.status, 200);
    assert_string_equal(http_header(&answer, "content-length"), "14");
    assert_string_equal(http_header(&answer, "etag"), "\"2\"");
    assert_string_equal(http_header(&answer, "tierkv-leader"), "127.0.0.1:1");
    assert_string_equal(http_header(&answer, "tierkv-term"), "7");
    assert_int_equal(answer.body_len, 0);
    http_free(&answer);
    answer = run(f, HTTP_1_1, "DELETE", "/key/foo", NULL);
    assert_string_equal(answer.body, "{\"revision\":3}\n");
    http_free(&answer);
    expect_error(f, "GET", "/key/foo", NULL, 404, "not_found", NULL);
    expect_status(f, "DELETE", "/key/foo", NULL, 200);
}

static void a_post_sets_all_its_keys_in_one_revision(void **state)
{
    struct fixture *f = start(state);
    struct http_answer one, other;

    expect_status(f, "POST", "/key", "{\"a\":\"1\",\"b/c\":\"2\"}", 200);
    one = run(f, HTTP_1_1, "GET", "/key/a", NULL);
    other = run(f, HTTP_2, "GET", "/key/b/c", NULL);
    assert_string_equal(one.body, "{\"a\":\"1\"}\n");
    assert_string_equal(other.body, "{\"b/c\":\"2\"}\n");
    assert_string_equal(http_header(&one, "etag"), "\"2\"");
    assert_string_equal(http_header(&other, "etag"), "\"2\"");
    http_free(&one);
    http_free(&other);
    expect_error(f, "POST", "/key", "[1]", 400, "invalid_body", "not applied");
    expect_error(f, "POST", "/key", "{\"a\":\"2\",\"b\":3}", 400, "invalid_value", "not applied");
    expect_body(f, "/key/a?raw", "1", 1);
}

static void a_post_of_another_type_is_refused(void **state)
{
    static const struct {
        const char *header;
        long status;
    } cases[] = {{"Content-Type: text/plain", 415},
                 {"Content-Type: application/jsonx", 415},
                 {"Content-Type: application/JSON; charset=utf-8", 200},
                 {"Content-Type:", 200}};
    struct fixture *f = start(state);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct http_answer answer;
        http_run(&(struct http_request){.method = "POST",
                                        .address = f->address,
                                        .path = "/key",
                                        .body = "{\"a\":\"1\"}",
                                        .headers = {cases[i].header}},
                 &answer);
        assert_int_equal(answer.status, cases[i].status);
        http_free(&answer);
    }
}

static void keys_may_be_any_bytes(void **state)
{
    struct fixture *f = start(state);
    char path[8 + 3 * 512 + 1] = "/key/", *end = path + 5;
    struct http_answer answer;

    for (int byte = 0; byte < 256; byte++)
        end += sprintf(end, "%%%02X", (unsigned)byte);
    expect_status(f, "PUT", path, "all", 200);
    sprintf(end, "?raw");
    expect_body(f, path, "all", 3);
    expect_status(f, "PUT", "/key/a%00b", "nul", 200);
    expect_status(f, "PUT", "/key/a%2Fb", "slash", 200);
    expect_status(f, "PUT", "/key/x/../y//", "dots", 200);
    expect_body(f, "/key/a%00b", "{\"a\\u0000b\":\"nul\"}\n", 19);
    expect_body(f, "/key/a/b?raw", "slash", 5);
    expect_body(f, "/key/x/%2E%2e/y//?raw", "dots", 4);
    expect_status(f, "GET", "/key/y", NULL, 404);
    expect_status(f, "PUT", "/key/%FF%20", "\xff\xfe", 200);
    answer = run(f, HTTP_1_1, "GET", "/key/%ff%20", NULL);
    assert_string_equal(answer.body, "{\"%FF%20\":\"//4=\"}\n");
    assert_string_equal(http_header(&answer, "tierkv-encoding"), "base64");
    assert_string_equal(http_header(&answer, "tierkv-key-encoding"), "percent");
    http_free(&answer);
}

static void keys_have_1_to_511_bytes(void **state)
{
    struct fixture *f = start(state);
    char path[8 + 3 * 512 + 1] = "/key/", *end = path + 5;

    for (int i = 0; i < 511; i++)
        end += sprintf(end, "%%6B");
    expect_status(f, "PUT", path, "long", 200);
    expect_status(f, "GET", path, NULL, 200);
    sprintf(end, "k");
    expect_error(f, "PUT", path, "longer", 400, "invalid_key", NULL);
    expect_error(f, "GET", path, NULL, 400, "invalid_key", NULL);
    expect_error(f, "PUT", "/key/", "none", 400, "invalid_key", NULL);
    expect_error(f, "GET", "/key/%4", NULL, 400, "invalid_key", NULL);
    expect_error(f, "GET", "/key/a?level=strong", NULL, 400, "invalid_query", NULL);
}

static void values_may_be_empty_and_are_limited(void **state)
{
    struct fixture *f = start(state);
    static char value[BODY_BYTES_MAX + 2], body[4 * BODY_BYTES_MAX];

    expect_status(f, "PUT", "/key/empty", "", 200);
    expect_body(f, "/key/empty", "{\"empty\":\"\"}\n", 13);
    memset(value, 'v', VALUE_BYTES_MAX);
    expect_status(f, "PUT", "/key/big", value, 200);
    value[VALUE_BYTES_MAX] = 'v';
    expect_error(f, "PUT", "/key/big", value, 413, "value_too_large", "not applied");
    snprintf(body, sizeof(body), "{\"k\":\"%s\"}", value);
    expect_error(f, "POST", "/key", body, 413, "value_too_large", "not applied");
    memset(value, ' ', BODY_BYTES_MAX + 1);
    expect_error(f, "POST", "/key", value, 413, "body_too_large", "not applied");
}

/* ---- Paths and methods ---- */

static void paths_and_methods_that_do_not_fit_say_what_does(void **state)
{
    static const struct {
        const char *method, *path, *allow;
    } cases[] = {
        {"GET", "/", NULL},
        {"GET", "/keys", NULL},
        {"GET", "/status/x", NULL},
        {"GET", "/Status", NULL},
        {"GET", "/key", "POST"},
        {"PATCH", "/key/a", "GET, HEAD, PUT, DELETE"},
        {"POST", "/key/a", "GET, HEAD, PUT, DELETE"},
        {"get", "/key/a", "GET, HEAD, PUT, DELETE"},
        {"GET", "/join", "POST"},
        {"POST", "/status", "GET, HEAD"},
        {"PUT", "/members", "GET, HEAD"},
    };
    struct fixture *f = start(state);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct http_answer answer = run(f, HTTP_1_1, cases[i].method, cases[i].path, NULL);
        if (cases[i].allow == NULL) {
            expect_error_answer(&answer, 404, "no_such_path", NULL);
        } else {
            expect_error_answer(&answer, 405, "method_not_allowed", NULL);
            assert_string_equal(http_header(&answer, "allow"), cases[i].allow);
        }
        http_free(&answer);
    }
}

static void operators_pages_can_be_read(void **state)
{
    static const char *const objects[] = {"/status", "/members"};
    struct fixture *f = start(state);

    for (size_t i = 0; i < 2; i++) {
        struct http_answer answer = run(f, HTTP_2, "GET", objects[i], NULL);
        json_t *object = json_loads(answer.body, 0, NULL);
        assert_int_equal(answer.status, 200);
        assert_true(json_is_object(object));
        json_decref(object);
        http_free(&answer);
    }
    expect_status(f, "GET", "/metrics", NULL, 200);
    expect_body(f, "/livez", "ok\n", 3);
    expect_body(f, "/readyz", "ok\n", 3);
    fake_replica_become(f->replica, REPLICA_FOLLOWER, "");
    expect_body(f, "/livez", "ok\n", 3);
    expect_error(f, "GET", "/readyz", NULL, 503, "not_ready", NULL);
}

/* ---- Roles and results ---- */

static void a_follower_sends_on_to_the_leader_with_path_and_query_as_sent(void **state)
{
    struct fixture *f = start(state);
    static const char *const methods[] = {"GET", "PUT", "DELETE"};

    fake_replica_become(f->replica, REPLICA_FOLLOWER, "[2001:db8::1]:8091");
    for (size_t i = 0; i < 3; i++) {
        struct http_answer answer =
            run(f, i == 1 ? HTTP_2 : HTTP_1_1, methods[i], "/key/a%2fB/../c%00?level=default&x=%41",
                i == 1 ? "value" : NULL);
        assert_int_equal(answer.status, 307);
        assert_string_equal(http_header(&answer, "location"),
                            "http://[2001:db8::1]:8091/key/a%2fB/../c%00?level=default&x=%41");
        http_free(&answer);
    }
    expect_status(f, "POST", "/key", "{\"a\":\"1\"}", 307);
    fake_replica_become(f->replica, REPLICA_FOLLOWER, "");
    expect_error(f, "PUT", "/key/a", "1", 503, "no_leader", "not applied");
    expect_error(f, "GET", "/key/a", NULL, 503, "no_leader", NULL);
}

static void a_follower_reads_stale_and_says_how_old_that_is(void **state)
{
    struct fixture *f = start(state);

    expect_status(f, "PUT", "/key/a", "1", 200);
    fake_replica_become(f->replica, REPLICA_FOLLOWER, "127.0.0.1:1");
    test_sleep_ms(10);
    for (int i = 0; i < 2; i++) {
        struct http_answer answer =
            run(f, HTTP_2, "GET", i == 0 ? "/key/a?level=stale" : "/key/no?level=stale", NULL);
        assert_int_equal(answer.status, i == 0 ? 200 : 404);
        assert_string_equal(http_header(&answer, "tierkv-applied-index"), "2");
        assert_in_range(atoi(http_header(&answer, "tierkv-last-contact-ms")), 40, 5000);
        http_free(&answer);
    }
}

static void each_result_of_the_replica_has_its_status(void **state)
{
    static const struct {
        int error;
        long status;
        const char *code, *outcome;
    } cases[] = {
        {REPLICA_NO_LEADER, 503, "no_leader", "not applied"},
        {REPLICA_BUSY, 503, "busy", "not applied"},
        {REPLICA_UNKNOWN, 503, "leadership_lost", "unknown"},
        {REPLICA_TOO_LARGE, 413, "too_large", "not applied"},
        {REPLICA_NO_SPACE, 507, "no_space", "not applied"},
        {REPLICA_SHUTDOWN, 503, "shutting_down", "not applied"},
        {REPLICA_STOPPED, 503, "stopped", "unknown"},
        {REPLICA_NO_MEMORY, 503, "unavailable", "not applied"},
    };
    struct fixture *f = start(state);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fake_replica_answer(f->replica, 0, cases[i].error);
        expect_error(f, "PUT", "/key/a", "1", cases[i].status, cases[i].code, cases[i].outcome);
        expect_error(f, "GET", "/key/a?level=consistent", NULL, cases[i].status, cases[i].code,
                     NULL);
        fake_replica_answer(f->replica, cases[i].error, 0);
        expect_error(f, "DELETE", "/key/a", NULL, cases[i].status, cases[i].code, cases[i].outcome);
        expect_error(f, "GET", "/key/a?level=consistent", NULL, cases[i].status, cases[i].code,
                     NULL);
    }
    fake_replica_answer(f->replica, 0, 0);
    expect_error(f, "GET", "/key/a?level=consistent", NULL, 404, "not_found", NULL);
}

static void a_join_is_answered_when_the_replica_is_done(void **state)
{
    static const char body[] =
        "{\"id\":\"n1\",\"httpAddr\":\"127.0.0.1:2\",\"raftAddr\":\"127.0.0.1:3\"}";
    static char large[70000];
    struct fixture *f = start(state);

    expect_body(f, "/livez", "ok\n", 3);
    expect_status(f, "POST", "/join", body, 200);
    expect_error(f, "POST", "/join", "{}", 400, "invalid_body", NULL);
    expect_error(f, "POST", "/join", "{\"id\":\"a b\",\"httpAddr\":\"h:2\",\"raftAddr\":\"h:3\"}",
                 400, "invalid_body", NULL);
    memset(large, ' ', sizeof(large) - 1);
    expect_error(f, "POST", "/join", large, 413, "body_too_large", NULL);
    fake_replica_answer(f->replica, 0, REPLICA_CONFLICT);
    expect_error(f, "POST", "/join", body, 409, "conflict", NULL);
    fake_replica_answer(f->replica, 0, REPLICA_UNREACHABLE);
    expect_error(f, "POST", "/join", body, 503, "unavailable", "unknown");
}

/* ---- Waiting ---- */

static void a_request_that_waits_too_long_is_answered_without_a_result(void **state)
{
    struct fixture *f = *state;

    f->options.request_timeout_ms = 100;
    start(state);
    fake_replica_hold(f->replica);
    expect_error(f, "PUT", "/key/a", "1", 503, "timeout", "unknown");
    expect_error(f, "GET", "/key/a?level=consistent", NULL, 503, "timeout", NULL);
    fake_replica_wait_held(f->replica, 4);
    fake_replica_release(f->replica);
    expect_body(f, "/key/a?level=consistent&raw", "1", 1);
}

static void a_join_may_take_longer_than_other_requests(void **state)
{
    static const char join[] =
        "POST /join HTTP/1.1\r\nhost: x\r\ncontent-length: 62\r\n\r\n"
        "{\"id\":\"n1\",\"httpAddr\":\"127.0.0.1:2\",\"raftAddr\":\"127.0.0.1:3\"} ";
    struct fixture *f = *state;
    char *answer;
    int fd;

    f->options.request_timeout_ms = 50;
    start(state);
    fake_replica_hold(f->replica);
    fd = raw_connect(f->address);
    raw_send(fd, join, sizeof(join) - 1);
    fake_replica_wait_held(f->replica, 1);
    expect_error(f, "PUT", "/key/a", "1", 503, "timeout", "unknown");
    fake_replica_release(f->replica);
    answer = raw_read_until(fd, "\"joined\":true}\n");
    assert_non_null(strstr(answer, "HTTP/1.1 200 OK"));
    free(answer);
    close(fd);
}

static void beyond_the_bound_requests_are_refused_but_not_those_that_memory_answers(void **state)
{
    static const char put[] = "PUT /key/a HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n1";
    struct fixture *f = *state;
    char *answers[2];
    int fds[2];

    f->options.requests_in_flight_max = 2;
    f->options.loops = 1;
    start(state);
    expect_status(f, "PUT", "/key/hot", "1", 200);
    fake_replica_hold(f->replica);
    for (size_t i = 0; i < 2; i++) {
        fds[i] = raw_connect(f->address);
        raw_send(fds[i], put, sizeof(put) - 1);
    }
    fake_replica_wait_held(f->replica, 2);
    expect_error(f, "PUT", "/key/b", "1", 503, "busy", "not applied");
    expect_error(f, "GET", "/key/hot?level=consistent", NULL, 503, "busy", NULL);
    expect_body(f, "/key/hot?raw", "1", 1);
    fake_replica_release(f->replica);
    for (size_t i = 0; i < 2; i++) {
        answers[i] = raw_read_until(fds[i], "{\"revision\":");
        assert_non_null(strstr(answers[i], "200 OK"));
        free(answers[i]);
        close(fds[i]);
    }
    expect_status(f, "PUT", "/key/b", "1", 200);
}

static void an_address_that_cannot_be_bound_is_named(void **state)
{
    static const char *const addresses[] = {"nothing", "192.0.2.1:0", "127.0.0.1:99999"};
    struct fixture *f = *state;

    for (size_t i = 0; i < 3; i++) {
        char error[256] = "";
        f->options.listen = addresses[i];
        assert_int_not_equal(http_server_start(&f->options, &f->server, error, sizeof(error)), 0);
        assert_non_null(strstr(error, addresses[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_put_is_got_until_it_is_deleted),
        TEST(a_post_sets_all_its_keys_in_one_revision),
        TEST(a_post_of_another_type_is_refused),
        TEST(keys_may_be_any_bytes),
        TEST(keys_have_1_to_511_bytes),
        TEST(values_may_be_empty_and_are_limited),
        TEST(paths_and_methods_that_do_not_fit_say_what_does),
        TEST(operators_pages_can_be_read),
        TEST(a_follower_sends_on_to_the_leader_with_path_and_query_as_sent),
        TEST(a_follower_reads_stale_and_says_how_old_that_is),
        TEST(each_result_of_the_replica_has_its_status),
        TEST(a_join_is_answered_when_the_replica_is_done),
        TEST(a_request_that_waits_too_long_is_answered_without_a_result),
        TEST(a_join_may_take_longer_than_other_requests),
        TEST(beyond_the_bound_requests_are_refused_but_not_those_that_memory_answers),
        TEST(an_address_that_cannot_be_bound_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
