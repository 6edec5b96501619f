/* The front end with real loops, sockets and tiers, and a replica whose role, results and delays
 * the test decides; and what a client expects of its answers, over HTTP/1.1 and HTTP/2. */
#ifndef TIERKV_TESTS_HTTP_SERVER_FIXTURE_H
#define TIERKV_TESTS_HTTP_SERVER_FIXTURE_H

#include "fake_replica.h"

#include "http/server.h"

#include "lib/http.h"
#include "lib/temp_folder.h"

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

static inline void stop_end(struct fixture *f)
{
    pthread_join(f->stopper, NULL);
    f->stopping = false;
    http_server_free(f->server);
    f->server = NULL;
}

static inline int set_up(void **state)
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
                                              .buffers_bytes_max = 64 << 20,
                                              .request_timeout_ms = 20000,
                                              .idle_timeout_ms = 20000,
                                              .name = "n0",
                                              .replica = f->replica,
                                              .tiers = f->tiers};
    *state = f;
    return 0;
}

static inline int tear_down(void **state)
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
static inline struct fixture *start(void **state)
{
    struct fixture *f = *state;
    char error[256] = "";

    if (http_server_start(&f->options, &f->server, error, sizeof(error)) != 0)
        fail_msg("%s", error);
    snprintf(f->address, sizeof(f->address), "127.0.0.1:%u", http_server_port(f->server));
    return f;
}

static inline struct http_answer run(struct fixture *f, enum http_version version,
                                     const char *method, const char *path, const char *body)
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

static inline void expect_status(struct fixture *f, const char *method, const char *path,
                                 const char *body, long status)
{
    for (int version = HTTP_1_1; version <= HTTP_2; version++) {
        struct http_answer answer = run(f, (enum http_version)version, method, path, body);
        if (answer.status != status)
            fail_msg("%s %s: %ld %s", method, path, answer.status, answer.body);
        http_free(&answer);
    }
}

/* An error in the shape that all have. `outcome` NULL: none is told. */
static inline void expect_error_answer(const struct http_answer *answer, long status,
                                       const char *code, const char *outcome)
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

static inline void expect_error(struct fixture *f, const char *method, const char *path,
                                const char *body, long status, const char *code,
                                const char *outcome)
{
    for (int version = HTTP_1_1; version <= HTTP_2; version++) {
        struct http_answer answer = run(f, (enum http_version)version, method, path, body);
        expect_error_answer(&answer, status, code, outcome);
        http_free(&answer);
    }
}

static inline void expect_body(struct fixture *f, const char *path, const char *wanted, size_t n)
{
    for (int version = HTTP_1_1; version <= HTTP_2; version++) {
        struct http_answer answer = run(f, (enum http_version)version, "GET", path, NULL);
        assert_int_equal(answer.status, 200);
        assert_int_equal(answer.body_len, n);
        assert_memory_equal(answer.body, wanted, n);
        http_free(&answer);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
