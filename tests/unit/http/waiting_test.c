/* Requests that wait for a disk or for the replica, over a state that is larger than memory and
 * warm tier together: what they are answered, and what is left of them when nobody waits any more.
 */
#include "fake_replica.h"

#include "http/server.h"

#include "lib/http.h"
#include "lib/random.h"
#include "lib/temp_folder.h"
#include "raw_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define KEYS              500
#define VALUE_BYTES       16384
#define IN_FLIGHT_MAX     64
#define COLD_WAIT_MS_MAX  20000
#define PLACES_WAIT_MS    10000
#define STOP_MS_MAX       5000
#define READS_AT_ONCE     60
#define ROUNDS_OF_LEAVING 25

struct fixture {
    char folder[TEMP_FOLDER_PATH_BYTES];
    struct tiers *tiers;
    struct replica *replica;
    struct http_server *server;
    char address[32];
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    char warm[TEMP_FOLDER_PATH_BYTES + 8], cold[TEMP_FOLDER_PATH_BYTES + 8], error[256] = "";
    struct tiers_options tiers;

    assert_non_null(f);
    signal(SIGPIPE, SIG_IGN);
    temp_folder_make(f->folder);
    snprintf(warm, sizeof(warm), "%s/warm", f->folder);
    snprintf(cold, sizeof(cold), "%s/cold", f->folder);
    tiers_options_init(&tiers);
    tiers.warm_dir = warm;
    tiers.cold_dir = cold;
    tiers.hot_bytes = 1 << 20;
    tiers.warm_bytes = 1 << 20;
    tiers.flush_interval_ms = 20;
    if (tiers_open(&tiers, &f->tiers, error, sizeof(error)) != 0)
        fail_msg("%s", error);
    f->replica = fake_replica_new(f->tiers);
    if (http_server_start(&(struct http_server_options){.listen = "127.0.0.1:0",
                                                        .loops = 1,
                                                        .connections_max = 100,
                                                        .requests_in_flight_max = IN_FLIGHT_MAX,
                                                        .max_value_bytes = VALUE_BYTES,
                                                        .max_body_bytes = VALUE_BYTES,
                                                        .buffers_bytes_max = 64 << 20,
                                                        .request_timeout_ms = 20000,
                                                        .idle_timeout_ms = 20000,
                                                        .name = "n0",
                                                        .replica = f->replica,
                                                        .tiers = f->tiers},
                          &f->server, error, sizeof(error)) != 0)
        fail_msg("%s", error);
    snprintf(f->address, sizeof(f->address), "127.0.0.1:%u", http_server_port(f->server));
    *state = f;
    return 0;
}

/* The replica gives back what it still has after the server has stopped, as a real one may. */
static int tear_down(void **state)
{
    struct fixture *f = *state;

    if (f->server != NULL)
        http_server_stop(f->server, 100);
    fake_replica_release(f->replica);
    http_server_free(f->server);
    fake_replica_free(f->replica);
    assert_int_equal(tiers_close(f->tiers), 0);
    temp_folder_remove(f->folder);
    free(f);
    return 0;
}

static struct http_answer ask(struct fixture *f, struct http_request request)
{
    struct http_answer answer;

    request.address = f->address;
    http_run(&request, &answer);
    return answer;
}

static long status_of(struct fixture *f, struct http_request request)
{
    struct http_answer answer = ask(f, request);
    long status = answer.status;

    http_free(&answer);
    return status;
}

/* Values that follow from the seed and hardly compress. */
static void fill(struct fixture *f, uint64_t seed)
{
    static char value[VALUE_BYTES];
    struct tiers_stats stats = {0};
    uint64_t until = test_now_ms() + COLD_WAIT_MS_MAX;
    struct random random;

    random_init(&random, seed);
    for (int i = 0; i < KEYS; i++) {
        char path[32];
        snprintf(path, sizeof(path), "/key/%d", i);
        random_fill(&random, value, sizeof(value));
        assert_int_equal(status_of(f, (struct http_request){.method = "PUT",
                                                            .path = path,
                                                            .body = value,
                                                            .body_len = sizeof(value)}),
                         200);
    }
    while (stats.cold_keys < KEYS / 2 && test_now_ms() < until) {
        test_sleep_ms(5);
        tiers_stats(f->tiers, &stats);
    }
    assert_true(stats.cold_keys >= KEYS / 2);
}

static void compare(struct fixture *f, uint64_t seed)
{
    static const char *const queries[] = {"raw", "raw&level=stale", "raw&level=consistent"};
    static char value[VALUE_BYTES];
    struct random random;

    random_init(&random, seed);
    for (int i = 0; i < KEYS; i++) {
        struct http_answer answer;
        char path[64];
        snprintf(path, sizeof(path), "/key/%d?%s", i, queries[i % 3]);
        random_fill(&random, value, sizeof(value));
        answer =
            ask(f, (struct http_request){.path = path, .version = i % 2 == 0 ? HTTP_1_1 : HTTP_2});
        assert_int_equal(answer.status, 200);
        assert_int_equal(answer.body_len, sizeof(value));
        assert_memory_equal(answer.body, value, sizeof(value));
        http_free(&answer);
    }
}

/* ---- Disks ---- */

static void values_come_back_from_every_tier(void **state)
{
    struct fixture *f = *state;
    uint64_t seed = random_seed();
    struct tiers_stats stats;

    fill(f, seed);
    compare(f, seed);
    tiers_stats(f->tiers, &stats);
    assert_true(stats.hits_cold > KEYS / 4);
}

static void clients_that_leave_during_disk_reads_do_no_harm(void **state)
{
    struct fixture *f = *state;
    uint64_t seed = random_seed();

    fill(f, seed);
    for (int round = 0; round < ROUNDS_OF_LEAVING; round++) {
        int fd = raw_connect(f->address);
        raw_http2_begin(fd);
        for (uint32_t i = 0; i < KEYS / ROUNDS_OF_LEAVING; i++) {
            char path[32];
            snprintf(path, sizeof(path), "/key/%u",
                     (unsigned)round * (KEYS / ROUNDS_OF_LEAVING) + i);
            raw_http2_request(fd, 2 * i + 1, "GET", path);
            if (i % 3 == 0)
                raw_http2_reset(fd, 2 * i + 1);
        }
        close(fd);
    }
    compare(f, seed);
}

/* ---- The replica ---- */

static void reads_that_arrive_together_share_a_round(void **state)
{
    struct fixture *f = *state;
    int fd = raw_connect(f->address), on = 1, off = 0;
    uint32_t last = 2 * READS_AT_ONCE + 1;

    fake_replica_hold(f->replica);
    setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on)); /* All in one piece */
    raw_http2_begin(fd);
    for (uint32_t i = 0; i < READS_AT_ONCE; i++)
        raw_http2_request(fd, 2 * i + 1, "GET", "/key/none?level=consistent");
    raw_http2_request(fd, last, "PUT", "/key/a");
    setsockopt(fd, IPPROTO_TCP, TCP_CORK, &off, sizeof(off));
    fake_replica_wait_held(f->replica, 2); /* The write came after all reads */
    assert_in_range(fake_replica_held(f->replica), 2, READS_AT_ONCE / 2);
    fake_replica_release(f->replica);
    free(raw_read_until(fd, "{\"revision\":"));
    close(fd);
}

static void requests_that_vanished_keep_their_places_until_their_operations_are_back(void **state)
{
    struct fixture *f = *state;
    uint64_t until = test_now_ms() + PLACES_WAIT_MS;
    int fd = raw_connect(f->address);

    fake_replica_hold(f->replica);
    raw_http2_begin(fd);
    for (uint32_t i = 0; i < IN_FLIGHT_MAX; i++)
        raw_http2_request(fd, 2 * i + 1, "PUT", "/key/a");
    fake_replica_wait_held(f->replica, IN_FLIGHT_MAX);
    for (uint32_t i = 0; i < IN_FLIGHT_MAX; i++)
        raw_http2_reset(fd, 2 * i + 1);
    raw_http2_request(fd, 2 * IN_FLIGHT_MAX + 1, "PUT", "/key/b");
    free(raw_read_until(fd, "\"busy\""));
    fake_replica_release(f->replica);
    while (status_of(f, (struct http_request){.method = "PUT", .path = "/key/b", .body = "1"}) !=
           200) {
        assert_true(test_now_ms() < until);
        test_sleep_ms(1);
    }
    close(fd);
}

struct asker {
    pthread_t thread;
    struct fixture *fixture;
    struct http_request request;
    struct http_answer answer;
};

static void *ask_in_thread(void *argument)
{
    struct asker *asker = argument;

    asker->answer = ask(asker->fixture, asker->request);
    return NULL;
}

static void a_stop_does_not_wait_for_the_replica(void **state)
{
    struct fixture *f = *state;
    struct asker askers[] = {
        {.request = {.method = "PUT", .path = "/key/a", .body = "1"}},
        {.request = {.method = "PUT", .path = "/key/b", .body = "1", .version = HTTP_2}},
        {.request = {.path = "/key/c?level=consistent"}},
        {.request = {.method = "POST",
                     .path = "/join",
                     .body = "{\"id\":\"n1\",\"httpAddr\":\"h:1\",\"raftAddr\":\"h:2\"}"}}};
    size_t n = sizeof(askers) / sizeof(askers[0]);
    uint64_t began;

    fake_replica_hold(f->replica);
    for (size_t i = 0; i < n; i++) {
        askers[i].fixture = f;
        assert_int_equal(pthread_create(&askers[i].thread, NULL, ask_in_thread, &askers[i]), 0);
    }
    fake_replica_wait_held(f->replica, n);
    began = test_now_ms();
    http_server_stop(f->server, 200);
    assert_in_range(test_now_ms() - began, 150, STOP_MS_MAX);
    for (size_t i = 0; i < n; i++) {
        pthread_join(askers[i].thread, NULL);
        assert_int_equal(askers[i].answer.status, 503);
        assert_non_null(strstr(askers[i].answer.body, "\"shutting_down\""));
        http_free(&askers[i].answer);
    }
    assert_int_equal(fake_replica_held(f->replica), n);
    fake_replica_release(f->replica);
    http_server_free(f->server);
    f->server = NULL;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(values_come_back_from_every_tier),
        TEST(clients_that_leave_during_disk_reads_do_no_harm),
        TEST(reads_that_arrive_together_share_a_round),
        TEST(requests_that_vanished_keep_their_places_until_their_operations_are_back),
        TEST(a_stop_does_not_wait_for_the_replica),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
