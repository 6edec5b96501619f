/* The front end as clients see it: real loops, sockets and tiers, and a replica whose role, results
 * and delays the test decides. */
#include "fake_replica.h"

#include "http/server.h"

#include "lib/http.h"
#include "lib/temp_folder.h"
#include "raw_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define VALUE_BYTES_MAX 4096
#define BODY_BYTES_MAX  16384

struct fixture {
    char folder[TEMP_FOLDER_PATH_BYTES];
    struct tiers *tiers;
    struct replica *replica;
    struct http_server *server;
    struct http_server_options options;
    char address[32];
    pthread_t stopper; /* The thread that stops the server */
    uint32_t drain_ms;
    bool stopping;
};

static void stop_end(struct fixture *f);

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    char warm[TEMP_FOLDER_PATH_BYTES + 8], cold[TEMP_FOLDER_PATH_BYTES + 8], error[256];
    struct tiers_options tiers;

    assert_non_null(f);
    signal(SIGPIPE, SIG_IGN);
    temp_folder_make(f->folder);
    snprintf(warm, sizeof(warm), "%s/warm", f->folder);
    snprintf(cold, sizeof(cold), "%s/cold", f->folder);
    tiers_options_init(&tiers);
    tiers.warm_dir = warm;
    tiers.cold_dir = cold;
    tiers.hot_bytes = 8 << 20;
    tiers.warm_bytes = 64 << 20;
    if (tiers_open(&tiers, &f->tiers, error, sizeof(error)) != 0)
        fail_msg("%s", error);
    f->replica = fake_replica_new(f->tiers);
    f->options = (struct http_server_options){.listen = "127.0.0.1:0",
                                              .loops = 2,
                                              .connections_max = 100,
                                              .requests_in_flight_max = 1000,
                                              .max_value_bytes = VALUE_BYTES_MAX,
                                              .max_body_bytes = BODY_BYTES_MAX,
                                              .request_timeout_ms = 20000,
                                              .idle_timeout_ms = 20000,
                                              .name = "n0",
                                              .replica = f->replica,
                                              .tiers = f->tiers};
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    fake_replica_release(f->replica);
    if (f->stopping)
        stop_end(f); /* A failed test left it behind */
    if (f->server != NULL) {
        http_server_stop(f->server, 1000);
        http_server_free(f->server);
    }
    fake_replica_free(f->replica);
    assert_int_equal(tiers_close(f->tiers), 0);
    temp_folder_remove(f->folder);
    free(f);
    return 0;
}

/* Starts the server with the options as they are then. */
static struct fixture *start(void **state)
{
    struct fixture *f = *state;
    char error[256] = "";

    if (http_server_start(&f->options, &f->server, error, sizeof(error)) != 0)
        fail_msg("%s", error);
    snprintf(f->address, sizeof(f->address), "127.0.0.1:%u", http_server_port(f->server));
    return f;
}

static struct http_answer run(struct fixture *f, enum http_version version, const char *method,
                              const char *path, const char *body)
{
    struct http_answer answer;

    http_run(&(struct http_request){.method = method,
                                    .address = f->address,
                                    .path = path,
                                    .body = body,
                                    .version = version},
             &answer);
    if (answer.failure != 0)
        fail_msg("%s %s: no answer (%d)", method, path, answer.failure);
    return answer;
}

static void expect_status(struct fixture *f, const char *method, const char *path, const char *body,
                          long status)
{
    for (int version = HTTP_1_1; version <= HTTP_2; version++) {
        struct http_answer answer = run(f, (enum http_version)version, method, path, body);
        if (answer.status != status)
            fail_msg("%s %s: %ld %s", method, path, answer.status, answer.body);
        http_free(&answer);
    }
}

/* An error in the shape that all have. `outcome` NULL: none is told. */
static void expect_error_answer(const struct http_answer *answer, long status, const char *code,
                                const char *outcome)
{
    json_t *object = json_loads(answer->body, 0, NULL);
    json_t *error = json_object_get(object, "error");
    const char *told = json_string_value(json_object_get(error, "outcome"));

    if (answer->status != status || error == NULL)
        fail_msg("%ld %s", answer->status, answer->body);
    assert_string_equal(json_string_value(json_object_get(error, "code")), code);
    assert_true(json_string_length(json_object_get(error, "message")) > 0);
    if (outcome == NULL)
        assert_null(told);
    else
        assert_string_equal(told, outcome);
    assert_string_equal(http_header(answer, "content-type"), "application/json");
    if (status == 503)
        assert_non_null(http_header(answer, "retry-after"));
    json_decref(object);
}

static void expect_error(struct fixture *f, const char *method, const char *path, const char *body,
                         long status, const char *code, const char *outcome)
{
    for (int version = HTTP_1_1; version <= HTTP_2; version++) {
        struct http_answer answer = run(f, (enum http_version)version, method, path, body);
        expect_error_answer(&answer, status, code, outcome);
        http_free(&answer);
    }
}

static void expect_body(struct fixture *f, const char *path, const char *wanted, size_t n)
{
    for (int version = HTTP_1_1; version <= HTTP_2; version++) {
        struct http_answer answer = run(f, (enum http_version)version, "GET", path, NULL);
        assert_int_equal(answer.status, 200);
        assert_int_equal(answer.body_len, n);
        assert_memory_equal(answer.body, wanted, n);
        http_free(&answer);
    }
}

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
    expect_error(f, "POST", "/join", body, 503, "unavailable", NULL);
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
    expect_status(f, "GET", "/livez", NULL, 200);
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

/* ---- Stopping ---- */

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

static void stop_end(struct fixture *f)
{
    pthread_join(f->stopper, NULL);
    f->stopping = false;
    http_server_free(f->server);
    f->server = NULL;
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

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
        TEST(a_reset_stream_leaves_its_operation_to_come_back_alone),
        TEST(closed_connections_leave_their_operations_to_come_back_alone),
        TEST(requests_come_in_all_forms_that_http_1_allows),
        TEST(a_redirect_of_an_absolute_target_keeps_only_path_and_query),
        TEST(a_redirect_never_carries_bytes_that_do_not_belong_in_a_header),
        TEST(what_libh2o_refuses_by_itself_is_json_too),
        TEST(idle_and_surplus_connections_are_closed),
        TEST(without_descriptors_clients_wait_and_are_served_later),
        TEST(a_stop_lets_requests_under_way_finish),
        TEST(when_its_time_is_over_a_stop_answers_what_still_waits),
        TEST(a_client_that_takes_no_answer_does_not_delay_a_stop_for_long),
        TEST(an_address_that_cannot_be_bound_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
