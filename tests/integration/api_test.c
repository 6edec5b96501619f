/* The HTTP API of one node as clients see it: HTTP/1.1, HTTP/2 by prior knowledge and by upgrade,
 * and the very curl lines of the README. */
#include "lib/cluster.h"
#include "lib/http.h"
#include "lib/process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_PATH_BYTES (5 + 3 * 511 + 8)
#define FORM           "Content-Type: application/x-www-form-urlencoded"

static struct cluster *cluster;
static const char *address;

static int start(void **state)
{
    static const char *const flags[] = {"--max-value-bytes=64KiB", "--max-body-bytes=256KiB", NULL};
    (void)state;
    cluster = cluster_start(1, flags);
    address = cluster_address(cluster, 0);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    if (cluster != NULL)
        cluster_stop(cluster);
    return 0;
}

/* Runs the request and checks its status. */
static struct http_answer expect(long status, struct http_request request)
{
    struct http_answer answer;
    request.address = address;
    http_run(&request, &answer);
    if (answer.status != status)
        print_message("%s %s: %ld, failure %d: %s\n", request.method, request.path, answer.status,
                      answer.failure, answer.body);
    assert_int_equal(answer.status, status);
    return answer;
}

static void expect_only(long status, struct http_request request)
{
    struct http_answer answer = expect(status, request);
    http_free(&answer);
}

/* Checks {"error":{"code":…,"message":…}}. */
static void expect_error(long status, struct http_request request)
{
    struct http_answer answer = expect(status, request);
    const char *code, *message;
    json_t *root = json_loadb(answer.body, answer.body_len, 0, NULL);
    assert_non_null(root);
    assert_int_equal(
        json_unpack(root, "{s:{s:s,s:s}}", "error", "code", &code, "message", &message), 0);
    assert_true(*code != '\0' && *message != '\0');
    json_decref(root);
    http_free(&answer);
}

static uint64_t revision_of(const struct http_answer *answer)
{
    json_int_t revision = 0;
    json_t *root = json_loadb(answer->body, answer->body_len, 0, NULL);
    assert_int_equal(json_unpack(root, "{s:I}", "revision", &revision), 0);
    json_decref(root);
    assert_true(revision > 0);
    return (uint64_t)revision;
}

static uint64_t put(const char *path, const void *value, size_t length)
{
    struct http_answer answer =
        expect(200, (struct http_request){.method = "PUT",
                                          .path = path,
                                          .body = value,
                                          .body_len = length,
                                          .headers = {"Content-Type: application/octet-stream"}});
    uint64_t revision = revision_of(&answer);
    http_free(&answer);
    return revision;
}

static void a_posted_key_is_read_and_deleted_in_every_http_version(void **state)
{
    (void)state;
    for (enum http_version version = HTTP_1_1; version <= HTTP_2_UPGRADE; version++) {
        struct http_answer answer = expect(200, (struct http_request){.method = "POST",
                                                                      .path = "/key",
                                                                      .body = "{\"foo\":\"bar\"}",
                                                                      .headers = {FORM},
                                                                      .version = version});
        assert_int_equal(answer.version, version == HTTP_1_1 ? 1 : 2);
        revision_of(&answer);
        http_free(&answer);
        answer = expect(200, (struct http_request){.path = "/key/foo", .version = version});
        json_t *root = json_loadb(answer.body, answer.body_len, 0, NULL);
        json_t *wanted = json_pack("{s:s}", "foo", "bar");
        assert_true(json_equal(root, wanted));
        json_decref(root);
        json_decref(wanted);
        assert_int_equal(answer.version, version == HTTP_1_1 ? 1 : 2);
        http_free(&answer);
        expect_only(
            200, (struct http_request){.method = "DELETE", .path = "/key/foo", .version = version});
        expect_error(404, (struct http_request){.path = "/key/foo", .version = version});
    }
}

static void the_curl_lines_of_the_readme_work_as_they_stand(void **state)
{
    char script[2048];
    struct process_result result;

    (void)state;
    snprintf(
        script, sizeof(script),
        "set -e\n"
        "curl -sS -L -XPOST %1$s/key -d '{\"user1\": \"batman\", \"user2\": \"robin\"}'; echo\n"
        "curl -sS -L -XGET %1$s/key/user1; echo\n"
        "curl -sS -L -XGET '%1$s/key/user2?level=consistent'; echo\n"
        "curl -sS -L -XDELETE %1$s/key/user1; echo\n"
        "curl -sS -L -o /dev/null -w '%%{http_code}\\n' %1$s/key/user1\n",
        address);
    const char *const arguments[] = {"/bin/sh", "-c", script, NULL};
    process_run(arguments, NULL, 0, 20000, &result);
    assert_string_equal(result.errors, "");
    assert_int_equal(result.status, 0);
    assert_non_null(strstr(result.output, "{\"user1\":\"batman\"}"));
    assert_non_null(strstr(result.output, "{\"user2\":\"robin\"}"));
    assert_non_null(strstr(result.output, "\n404\n"));
    process_result_free(&result);
}

static void raw_bytes_come_back_as_they_went_in(void **state)
{
    unsigned char value[1024];
    char etag[32];

    (void)state;
    for (size_t i = 0; i < sizeof(value); i++)
        value[i] = (unsigned char)(i * 7);
    uint64_t revision = put("/key/raw", value, sizeof(value));
    snprintf(etag, sizeof(etag), "\"%llu\"", (unsigned long long)revision);
    struct http_answer answer = expect(200, (struct http_request){.path = "/key/raw?raw"});
    assert_int_equal(answer.body_len, sizeof(value));
    assert_memory_equal(answer.body, value, sizeof(value));
    assert_string_equal(http_header(&answer, "ETag"), etag);
    http_free(&answer);
    answer = expect(200, (struct http_request){.path = "/key/raw",
                                               .headers = {"Accept: application/octet-stream"}});
    assert_int_equal(answer.body_len, sizeof(value));
    http_free(&answer);
}

static void an_empty_value_is_not_an_absent_one(void **state)
{
    (void)state;
    put("/key/empty", "", 0);
    struct http_answer answer = expect(200, (struct http_request){.path = "/key/empty?raw"});
    assert_int_equal(answer.body_len, 0);
    http_free(&answer);
    answer = expect(200, (struct http_request){.path = "/key/empty"});
    assert_non_null(strstr(answer.body, "{\"empty\":\"\"}"));
    http_free(&answer);
}

/* Percent-encodes all bytes of a key. */
static void key_path(const unsigned char *key, size_t length, const char *query,
                     char ret_path[KEY_PATH_BYTES])
{
    size_t n = (size_t)snprintf(ret_path, KEY_PATH_BYTES, "/key/");
    for (size_t i = 0; i < length; i++)
        n += (size_t)snprintf(ret_path + n, KEY_PATH_BYTES - n, "%%%02X", key[i]);
    snprintf(ret_path + n, KEY_PATH_BYTES - n, "%s", query);
}

static void keys_may_have_any_bytes(void **state)
{
    unsigned char key[511];
    char path[KEY_PATH_BYTES];

    (void)state;
    for (unsigned byte = 0; byte < 256; byte++) {
        key[0] = (unsigned char)byte;
        key_path(key, 1, "", path);
        put(path, &key[0], 1);
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        key[0] = (unsigned char)byte;
        key_path(key, 1, "?raw", path);
        struct http_answer answer = expect(200, (struct http_request){.path = path});
        assert_int_equal(answer.body_len, 1);
        assert_int_equal((unsigned char)answer.body[0], byte);
        http_free(&answer);
    }
    memset(key, 0xff, sizeof(key));
    key_path(key, sizeof(key), "", path);
    put(path, "long", 4);
    expect_only(200, (struct http_request){.path = path});
    key_path(key, sizeof(key), "x", path);
    expect_error(400, (struct http_request){.method = "PUT", .path = path, .body = "v"});
}

static void slashes_and_dots_are_part_of_the_key(void **state)
{
    static const char *const paths[] = {"/key/a/b", "/key/a//b", "/key/a/../b", "/key/..",
                                        "/key/./",  "/key//",    "/key/a/b/"};
    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        put(paths[i], paths[i], strlen(paths[i]));
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        char path[64];
        snprintf(path, sizeof(path), "%s?raw", paths[i]);
        struct http_answer answer = expect(200, (struct http_request){.path = path});
        assert_string_equal(answer.body, paths[i]);
        http_free(&answer);
    }
}

static void a_post_of_several_keys_is_one_write(void **state)
{
    (void)state;
    struct http_answer answer =
        expect(200, (struct http_request){.method = "POST",
                                          .path = "/key",
                                          .body = "{\"m1\":\"1\",\"m2\":\"2\",\"m3\":\"3\"}"});
    uint64_t revision = revision_of(&answer);
    http_free(&answer);
    for (int i = 1; i <= 3; i++) {
        char path[32], etag[32];
        snprintf(path, sizeof(path), "/key/m%d?raw", i);
        snprintf(etag, sizeof(etag), "\"%llu\"", (unsigned long long)revision);
        answer = expect(200, (struct http_request){.path = path});
        assert_string_equal(http_header(&answer, "ETag"), etag);
        http_free(&answer);
    }
}

static void revisions_grow_with_every_write(void **state)
{
    (void)state;
    uint64_t first = put("/key/rev", "1", 1);
    uint64_t second = put("/key/rev", "1", 1);
    struct http_answer answer =
        expect(200, (struct http_request){.method = "DELETE", .path = "/key/rev"});
    uint64_t third = revision_of(&answer);
    http_free(&answer);
    assert_true(first < second && second < third);
    expect_only(200, (struct http_request){.method = "DELETE", .path = "/key/rev"});
}

static void what_is_too_large_is_refused_and_the_node_lives_on(void **state)
{
    size_t length = (size_t)32 << 20;
    char *large = malloc(length);

    (void)state;
    assert_non_null(large);
    memset(large, 'x', length);
    put("/key/just", large, 65536);
    for (enum http_version version = HTTP_1_1; version <= HTTP_2; version++) {
        struct http_request request = {.method = "PUT",
                                       .address = address,
                                       .path = "/key/large",
                                       .body = large,
                                       .body_len = 65537,
                                       .version = version};
        expect_error(413, request);
        request.method = "POST";
        request.path = "/key";
        request.body_len = 262145;
        expect_error(413, request);
        /* So long a body is not waited for: the answer may be lost when the server closes. */
        request.body_len = length;
        struct http_answer answer;
        http_run(&request, &answer);
        assert_true(answer.status == 413 || answer.failure != 0);
        http_free(&answer);
    }
    expect_error(404, (struct http_request){.path = "/key/large"});
    free(large);
}

static void wrong_requests_get_errors_that_say_why(void **state)
{
    (void)state;
    expect_error(400, (struct http_request){.method = "POST", .path = "/key", .body = "{"});
    expect_error(400, (struct http_request){.method = "POST", .path = "/key", .body = "[1]"});
    expect_error(400, (struct http_request){.method = "POST", .path = "/key", .body = "{\"a\":1}"});
    expect_error(400,
                 (struct http_request){.method = "POST", .path = "/key", .body = "{\"\":\"a\"}"});
    expect_error(400, (struct http_request){.path = "/key/a?level=wrong"});
    expect_error(400, (struct http_request){.path = "/key/%zz"});
    expect_error(400, (struct http_request){.path = "/key/%4"});
    expect_error(400, (struct http_request){.path = "/key/"});
    expect_error(404, (struct http_request){.path = "/nothing"});
    expect_error(404, (struct http_request){.path = "/"});
    expect_error(404, (struct http_request){.path = "/keys"});
    struct http_answer answer =
        expect(405, (struct http_request){.method = "PATCH", .path = "/key/a", .body = "x"});
    assert_non_null(http_header(&answer, "Allow"));
    assert_non_null(strstr(http_header(&answer, "Allow"), "PUT"));
    http_free(&answer);
    answer = expect(405, (struct http_request){.method = "DELETE", .path = "/status"});
    assert_non_null(strstr(http_header(&answer, "Allow"), "GET"));
    http_free(&answer);
    expect_error(400, (struct http_request){.method = "POST", .path = "/join", .body = "{}"});
}

static void a_condition_that_cannot_be_looked_at_is_refused(void **state)
{
    static const char *const conditions[] = {"If-Match: \"1\"", "If-None-Match: *",
                                             "If-Unmodified-Since: Mon, 01 Jan 2024 00:00:00 GMT"};
    (void)state;
    expect_only(200, (struct http_request){.method = "PUT", .path = "/key/cond", .body = "old"});
    for (size_t i = 0; i < sizeof(conditions) / sizeof(conditions[0]); i++) {
        expect_error(501, (struct http_request){.method = "PUT",
                                                .path = "/key/cond",
                                                .body = "new",
                                                .headers = {conditions[i]}});
        expect_error(501, (struct http_request){.method = "POST",
                                                .path = "/key",
                                                .body = "{\"cond\":\"new\"}",
                                                .headers = {conditions[i]}});
        expect_error(501, (struct http_request){
                              .method = "DELETE", .path = "/key/cond", .headers = {conditions[i]}});
    }
    struct http_answer answer = expect(200, (struct http_request){.path = "/key/cond?raw"});
    assert_string_equal(answer.body, "old");
    http_free(&answer);
}

static void every_level_reads_what_was_written(void **state)
{
    static const char *const paths[] = {"/key/level?raw", "/key/level?raw&level=default",
                                        "/key/level?level=consistent&raw",
                                        "/key/level?raw&level=stale"};
    char value[16];

    (void)state;
    for (int i = 0; i < 20; i++) {
        snprintf(value, sizeof(value), "%d", i);
        put("/key/level", value, strlen(value));
        for (size_t j = 0; j < sizeof(paths) / sizeof(paths[0]); j++) {
            struct http_answer answer = expect(200, (struct http_request){.path = paths[j]});
            assert_string_equal(answer.body, value);
            http_free(&answer);
        }
    }
}

static void operators_see_health_metrics_members_and_status(void **state)
{
    (void)state;
    expect_only(200, (struct http_request){.path = "/livez"});
    expect_only(200, (struct http_request){.path = "/readyz"});
    put("/key/seen", "x", 1);
    struct http_answer answer = expect(200, (struct http_request){.path = "/metrics"});
    assert_non_null(strstr(answer.body, "# TYPE tierkv_http_requests_total counter"));
    assert_non_null(strstr(answer.body, "tierkv_http_requests_total{method=\"PUT\"}"));
    assert_non_null(strstr(answer.body, "tierkv_write_latency_seconds_bucket{le=\"+Inf\"}"));
    http_free(&answer);
    answer = expect(200, (struct http_request){.path = "/members"});
    assert_non_null(strstr(answer.body, address));
    http_free(&answer);
    json_t *status = cluster_status(cluster, 0);
    assert_true(json_is_object(status));
    json_decref(status);
    assert_int_equal(cluster_wait_leader(cluster), 0);
    cluster_status_number(cluster, 0, "tiers.hits_hot");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_posted_key_is_read_and_deleted_in_every_http_version),
        cmocka_unit_test(the_curl_lines_of_the_readme_work_as_they_stand),
        cmocka_unit_test(raw_bytes_come_back_as_they_went_in),
        cmocka_unit_test(an_empty_value_is_not_an_absent_one),
        cmocka_unit_test(keys_may_have_any_bytes),
        cmocka_unit_test(slashes_and_dots_are_part_of_the_key),
        cmocka_unit_test(a_post_of_several_keys_is_one_write),
        cmocka_unit_test(revisions_grow_with_every_write),
        cmocka_unit_test(what_is_too_large_is_refused_and_the_node_lives_on),
        cmocka_unit_test(wrong_requests_get_errors_that_say_why),
        cmocka_unit_test(a_condition_that_cannot_be_looked_at_is_refused),
        cmocka_unit_test(every_level_reads_what_was_written),
        cmocka_unit_test(operators_see_health_metrics_members_and_status),
    };
    int failures = cmocka_run_group_tests(tests, start, stop);
    cluster_teardown(NULL);
    return failures;
}
