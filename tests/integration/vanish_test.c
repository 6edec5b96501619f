/* Clients that go away: closed connections, reset streams and half requests while proposals and
 * disk reads run. The server must answer everyone else, then and afterwards. */
#include "lib/cluster.h"
#include "lib/http.h"
#include "lib/load.h"
#include "lib/random.h"
#include "lib/wire.h"
#include "tierkv/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define N_KEYS      1000
#define VALUE_BYTES 8192

enum goodbye { GOODBYE_CLOSE, GOODBYE_RESET, GOODBYE_KINDS };

static void leave(int fd, enum goodbye goodbye)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    if (goodbye == GOODBYE_RESET)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    close(fd);
}

/* An HTTP/1.1 request of which only a part may be sent. */
static void http1_and_leave(const char *address, struct random *random, enum goodbye goodbye)
{
    char request[VALUE_BYTES + 512];
    size_t length;
    int fd = wire_connect(address);
    uint64_t key = random_below(random, N_KEYS);

    if (random_below(random, 2) == 0) {
        length = (size_t)snprintf(request, sizeof(request),
                                  "PUT /key/vanish/%llu HTTP/1.1\r\nHost: x\r\n"
                                  "Content-Length: %d\r\n\r\n",
                                  (unsigned long long)key, VALUE_BYTES);
        memset(request + length, 'v', VALUE_BYTES);
        length += VALUE_BYTES;
    } else {
        length = (size_t)snprintf(
            request, sizeof(request), "GET /key/data/%llu?level=%s HTTP/1.1\r\nHost: x\r\n\r\n",
            (unsigned long long)key, random_below(random, 2) == 0 ? "default" : "consistent");
    }
    if (random_below(random, 8) == 0)
        length = random_below(random, length);
    (void)wire_send(fd, request, length);
    leave(fd, goodbye);
}

/* Many streams on one connection, nearly all reset at once. */
static void http2_and_leave(const char *address, struct random *random, enum goodbye goodbye)
{
    static const unsigned char cancel[4] = {0, 0, 0, 8};
    unsigned char frames[2048];
    char body[1024];
    int fd = wire_connect(address);

    memset(body, 'v', sizeof(body));
    (void)wire_http2_begin(fd, 65535);
    for (uint32_t stream = 1; stream < 100; stream += 2) {
        char path[64];
        uint64_t key = random_below(random, N_KEYS);
        bool write = random_below(random, 2) == 0;
        snprintf(path, sizeof(path), "/key/%s/%llu%s", write ? "vanish" : "data",
                 (unsigned long long)key, write ? "" : "?raw");
        size_t length =
            wire_request(frames, write ? 0 : WIRE_END_STREAM, stream, write ? "PUT" : "GET", path);
        if (write)
            length +=
                wire_frame(frames + length, WIRE_DATA, WIRE_END_STREAM, stream, body, sizeof(body));
        if (random_below(random, 10) != 0)
            length +=
                wire_frame(frames + length, WIRE_RST_STREAM, 0, stream, cancel, sizeof(cancel));
        (void)wire_send(fd, frames, length);
    }
    leave(fd, goodbye);
}

/* --------------------------------------------------------------------------------------- the tests
 */

static void vanish_many(const char *address, struct random *random, int n)
{
    for (int i = 0; i < n; i++) {
        enum goodbye goodbye = (enum goodbye)random_below(random, GOODBYE_KINDS);
        if (random_below(random, 4) == 0)
            http2_and_leave(address, random, goodbye);
        else
            http1_and_leave(address, random, goodbye);
    }
}

static struct tierkv_client *open_client(const char *endpoints)
{
    struct tierkv_client *client = NULL;
    struct tierkv_client_options options = {.endpoints = endpoints, .timeout_ms = 30000};
    assert_int_equal(tierkv_client_open(&options, &client), 0);
    return client;
}

static void data_value(uint64_t i, char *ret_value)
{
    struct random random;
    random_init(&random, i);
    random_fill(&random, ret_value, VALUE_BYTES);
}

static void fill(struct tierkv_client *client)
{
    static char value[VALUE_BYTES];
    for (uint64_t i = 0; i < N_KEYS; i++) {
        char key[32];
        size_t length = (size_t)snprintf(key, sizeof(key), "data/%llu", (unsigned long long)i);
        data_value(i, value);
        assert_int_equal(tierkv_put(client, key, length, value, VALUE_BYTES, NULL), 0);
    }
}

static void compare(struct tierkv_client *client)
{
    static char wanted[VALUE_BYTES];
    for (uint64_t i = 0; i < N_KEYS; i++) {
        char key[32];
        void *value = NULL;
        size_t value_len = 0;
        size_t length = (size_t)snprintf(key, sizeof(key), "data/%llu", (unsigned long long)i);
        if (tierkv_get(client, key, length, TIERKV_LEVEL_DEFAULT, &value, &value_len, NULL) != 0)
            fail_msg("%s: %s", key, tierkv_client_error_text(client));
        data_value(i, wanted);
        assert_int_equal(value_len, VALUE_BYTES);
        assert_memory_equal(value, wanted, VALUE_BYTES);
        free(value);
    }
}

static void requests_that_vanish_leave_a_single_node_in_order(void **state)
{
    static const char *const flags[] = {"--hot-bytes=1MiB", "--warm-bytes=1MiB",
                                        "--flush-interval=50ms", "--http-loops=2", NULL};
    struct random random;

    (void)state;
    random_init(&random, random_seed());
    struct cluster *cluster = cluster_start(1, flags);
    struct tierkv_client *client = open_client(cluster_endpoints(cluster));
    fill(client);
    vanish_many(cluster_address(cluster, 0), &random, 1000);
    compare(client);
    struct http_answer answer;
    http_run(&(struct http_request){.address = cluster_address(cluster, 0), .path = "/metrics"},
             &answer);
    const char *line = strstr(answer.body, "\ntierkv_http_requests_vanished_total ");
    assert_non_null(line);
    assert_true(strtod(strchr(line, ' '), NULL) > 0);
    http_free(&answer);
    tierkv_client_close(client);
    cluster_stop(cluster);
}

static void requests_that_vanish_while_nothing_can_be_committed_are_forgotten(void **state)
{
    static const char *const flags[] = {"--election-timeout=500ms", "--heartbeat=50ms", NULL};
    struct random random;

    (void)state;
    random_init(&random, random_seed());
    struct cluster *cluster = cluster_start(3, flags);
    struct tierkv_client *client = open_client(cluster_endpoints(cluster));
    fill(client);
    size_t leader = cluster_wait_leader(cluster);
    for (size_t i = 0; i < 3; i++)
        if (i != leader)
            cluster_node_signal(cluster, i, SIGSTOP);
    vanish_many(cluster_address(cluster, leader), &random, 200);
    assert_int_equal(http_get_status(cluster_address(cluster, leader), "/livez"), 200);
    for (size_t i = 0; i < 3; i++)
        if (i != leader)
            cluster_node_signal(cluster, i, SIGCONT);
    for (size_t i = 0; i < 3; i++)
        cluster_node_wait_ready(cluster, i);
    compare(client);
    assert_int_equal(tierkv_put(client, "after", 5, "x", 1, NULL), 0);
    cluster_expect_agreement(cluster);
    tierkv_client_close(client);
    cluster_stop(cluster);
}

static void sigterm_under_load_drains_and_ends_with_0(void **state)
{
    struct cluster *cluster = cluster_start(1, NULL);

    (void)state;
    struct load *load = load_start(&(struct load_options){.endpoints = cluster_endpoints(cluster),
                                                          .n_threads = 16,
                                                          .n_keys = 50,
                                                          .value_bytes = 2048,
                                                          .timeout_ms = 20000,
                                                          .seed = random_seed()});
    for (int round = 0; round < 3; round++) {
        load_wait(load, 300, 30000);
        cluster_node_signal(cluster, 0, SIGTERM);
        assert_int_equal(cluster_node_wait_exit(cluster, 0, 20000), 0);
        cluster_node_start(cluster, 0);
        cluster_node_wait_ready(cluster, 0);
    }
    load_wait(load, 100, 30000);
    load_pause(load);
    load_verify(load, cluster_endpoints(cluster));
    load_free(load);
    cluster_stop(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(requests_that_vanish_leave_a_single_node_in_order,
                                  cluster_teardown),
        cmocka_unit_test_teardown(requests_that_vanish_while_nothing_can_be_committed_are_forgotten,
                                  cluster_teardown),
        cmocka_unit_test_teardown(sigterm_under_load_drains_and_ends_with_0, cluster_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
