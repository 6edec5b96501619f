/* libtierkv against scripted servers: what it sends, whom it asks next, and what it concludes. */
#include "client/endpoint.h"
#include "tierkv/client.h"
#include "unit/client/stub.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct tierkv_client *open_client(const char *endpoints, uint32_t timeout_ms)
{
    struct tierkv_client *client = NULL;
    struct tierkv_client_options options = {.endpoints = endpoints, .timeout_ms = timeout_ms};
    assert_int_equal(tierkv_client_open(&options, &client), 0);
    return client;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* The script of most tests: answers from a list, the last one again and again, and keeps the last
 * request. */
struct story {
    struct stub_answer answers[8];
    size_t n_answers;
    struct stub_request last;
    char body[4096];
};

static void tell(void *context, const struct stub_request *request, struct stub_answer *answer)
{
    struct story *story = context;
    size_t i = request->number - 1;
    *answer = story->answers[i < story->n_answers ? i : story->n_answers - 1];
    story->last = *request;
    assert_true(request->body_len < sizeof(story->body));
    memcpy(story->body, request->body, request->body_len + 1);
    story->last.body = story->body;
}

static const struct stub_answer busy = {
    .status = 503,
    .body = "{\"error\":{\"code\":\"no_leader\",\"message\":\"no leader is known\"}}"};
static const struct stub_answer unknown = {
    .status = 503,
    .body = "{\"error\":{\"code\":\"timeout\",\"message\":\"late\",\"outcome\":\"unknown\"}}"};
static const struct stub_answer done = {.status = 200, .body = "{\"revision\":42}"};

static struct stub_answer redirect_to(const struct stub *stub)
{
    struct stub_answer answer = {.status = 307, .header = "location"};
    snprintf(answer.header_value, sizeof(answer.header_value), "http://%s/elsewhere?x=../y",
             stub_endpoint(stub));
    return answer;
}

static void get_returns_the_bytes_and_the_revision(void **state)
{
    struct story story = {.answers = {{.status = 200,
                                       .body = "a\0b\xff",
                                       .body_len = 4,
                                       .header = "etag",
                                       .header_value = "\"18446744073709551615\""}},
                          .n_answers = 1};
    struct stub *stub = stub_start(tell, &story);
    struct tierkv_client *client = open_client(stub_endpoint(stub), 0);
    void *value;
    size_t length;
    uint64_t revision;

    (void)state;
    assert_int_equal(
        tierkv_get(client, "k", 1, TIERKV_LEVEL_CONSISTENT, &value, &length, &revision), 0);
    assert_int_equal(length, 4);
    assert_memory_equal(value, "a\0b\xff", 4);
    assert_true(revision == UINT64_MAX);
    free(value);
    assert_string_equal(story.last.method, "GET");
    assert_string_equal(story.last.path, "/key/k?raw&level=consistent");
    tierkv_client_close(client);
    stub_stop(stub);
}

static void an_empty_value_is_a_value(void **state)
{
    struct story story = {.answers = {{.status = 200, .header = "etag", .header_value = "\"7\""}},
                          .n_answers = 1};
    struct stub *stub = stub_start(tell, &story);
    struct tierkv_client *client = open_client(stub_endpoint(stub), 0);
    void *value = NULL;
    size_t length = 9;

    (void)state;
    assert_int_equal(tierkv_get(client, "k", 1, TIERKV_LEVEL_DEFAULT, &value, &length, NULL), 0);
    assert_non_null(value);
    assert_int_equal(length, 0);
    free(value);
    tierkv_client_close(client);
    stub_stop(stub);
}

static void keys_of_any_bytes_are_sent_encoded_and_otherwise_untouched(void **state)
{
    struct story story = {.answers = {done}, .n_answers = 1};
    struct stub *stub = stub_start(tell, &story);
    struct tierkv_client *client = open_client(stub_endpoint(stub), 0);
    static const char key[] = "a/../b//%2F?#\0\xff\xc3\xa4 +";
    uint64_t revision = 0;

    (void)state;
    assert_int_equal(tierkv_put(client, key, sizeof(key) - 1, "v", 1, &revision), 0);
    assert_true(revision == 42);
    assert_string_equal(story.last.path, "/key/a/../b//%252F%3F%23%00%FF%C3%A4%20%2B");
    assert_int_equal(tierkv_delete(client, ".", 1, NULL), 0);
    assert_string_equal(story.last.path, "/key/.");
    assert_string_equal(story.last.method, "DELETE");
    tierkv_client_close(client);
    stub_stop(stub);
}

static void keys_out_of_range_are_refused_before_anything_is_sent(void **state)
{
    struct story story = {.answers = {done}, .n_answers = 1};
    struct stub *stub = stub_start(tell, &story);
    struct tierkv_client *client = open_client(stub_endpoint(stub), 0);
    char key[512] = {0};

    (void)state;
    assert_int_equal(tierkv_put(client, key, 0, "", 0, NULL), TIERKV_INVALID);
    assert_int_equal(tierkv_put(client, key, 512, "", 0, NULL), TIERKV_INVALID);
    assert_int_equal(stub_requests(stub), 0);
    assert_int_equal(tierkv_put(client, key, 511, "", 0, NULL), 0);
    tierkv_client_close(client);
    stub_stop(stub);
}

static void a_redirect_keeps_method_body_and_path_and_the_leader_is_remembered(void **state)
{
    struct story leader_story = {.answers = {done}, .n_answers = 1};
    struct stub *leader = stub_start(tell, &leader_story);
    struct story follower_story = {.answers = {redirect_to(leader)}, .n_answers = 1};
    struct stub *follower = stub_start(tell, &follower_story);
    struct tierkv_client *client = open_client(stub_endpoint(follower), 0);

    (void)state;
    assert_int_equal(tierkv_put(client, "a/../k", 6, "value", 5, NULL), 0);
    assert_string_equal(leader_story.last.method, "PUT");
    assert_string_equal(leader_story.last.path, "/key/a/../k");
    assert_string_equal(leader_story.last.body, "value");
    assert_string_equal(leader_story.last.content_type, "application/octet-stream");
    assert_int_equal(tierkv_put(client, "k", 1, "", 0, NULL), 0);
    assert_int_equal(leader_story.last.body_len, 0);
    assert_int_equal(stub_requests(follower), 1);
    assert_int_equal(stub_requests(leader), 2);
    tierkv_client_close(client);
    stub_stop(follower);
    stub_stop(leader);
}

/* What came, without the bodies: by which version, and how much. */
struct versions {
    struct stub_answer answer;
    int versions[8];
    size_t lengths[8];
};

static void note_version(void *context, const struct stub_request *request,
                         struct stub_answer *answer)
{
    struct versions *versions = context;
    assert_in_range(request->number, 1, 8);
    versions->versions[request->number - 1] = request->version;
    versions->lengths[request->number - 1] = request->body_len;
    *answer = versions->answer;
}

static void a_large_body_goes_by_http_1_also_where_a_redirect_leads(void **state)
{
    const size_t most = (size_t)1 << 20;
    char *value = calloc(1, most + 1);
    struct versions at_leader = {.answer = done};
    struct stub *leader = stub_start(note_version, &at_leader);
    struct versions at_follower = {.answer = redirect_to(leader)};
    struct stub *follower = stub_start(note_version, &at_follower);
    struct tierkv_client *client = open_client(stub_endpoint(follower), 0);

    (void)state;
    assert_non_null(value);
    assert_int_equal(tierkv_put(client, "k", 1, value, most + 1, NULL), 0);
    assert_int_equal(tierkv_put(client, "k", 1, value, most, NULL), 0);
    assert_int_equal(tierkv_put(client, "k", 1, value, most + 1, NULL), 0);
    assert_int_equal(tierkv_put(client, "k", 1, "v", 1, NULL), 0);
    assert_int_equal(stub_requests(follower), 1);
    assert_int_equal(at_follower.versions[0], 0x101);
    assert_int_equal(at_follower.lengths[0], most + 1);
    assert_int_equal(at_leader.versions[0], 0x101);
    assert_int_equal(at_leader.lengths[0], most + 1);
    assert_int_equal(at_leader.versions[1], 0x200);
    assert_int_equal(at_leader.versions[2], 0x101);
    assert_int_equal(at_leader.versions[3], 0x200);
    /* The connection that speaks HTTP/2 is kept over the large one. */
    assert_int_equal(stub_connections(leader), 3);
    tierkv_client_close(client);
    stub_stop(follower);
    stub_stop(leader);
    free(value);
}

static void calls_share_one_connection_and_a_broken_one_is_replaced(void **state)
{
    struct story story = {.answers = {done}, .n_answers = 1};
    struct stub *stub = stub_start(tell, &story);
    struct tierkv_client *client = open_client(stub_endpoint(stub), 0);

    (void)state;
    for (int i = 0; i < 5; i++)
        assert_int_equal(tierkv_put(client, "k", 1, "v", 1, NULL), 0);
    assert_int_equal(stub_connections(stub), 1);
    stub_cut(stub);
    for (int i = 0; i < 5; i++)
        assert_int_equal(tierkv_put(client, "k", 1, "v", 1, NULL), 0);
    assert_int_equal(stub_connections(stub), 2);
    assert_int_equal(stub_requests(stub), 10);
    tierkv_client_close(client);
    stub_stop(stub);
}

static void a_stale_read_stays_with_the_endpoint_although_a_leader_is_known(void **state)
{
    struct story leader_story = {.answers = {done}, .n_answers = 1};
    struct stub *leader = stub_start(tell, &leader_story);
    struct story follower_story = {
        .answers = {redirect_to(leader),
                    {.status = 200, .body = "old", .header = "etag", .header_value = "\"3\""}},
        .n_answers = 2};
    struct stub *follower = stub_start(tell, &follower_story);
    struct tierkv_client *client = open_client(stub_endpoint(follower), 0);
    void *value;
    size_t length;

    (void)state;
    assert_int_equal(tierkv_put(client, "k", 1, "new", 3, NULL), 0);
    assert_int_equal(tierkv_get(client, "k", 1, TIERKV_LEVEL_STALE, &value, &length, NULL), 0);
    assert_memory_equal(value, "old", 3);
    free(value);
    assert_string_equal(follower_story.last.path, "/key/k?raw&level=stale");
    tierkv_client_close(client);
    stub_stop(follower);
    stub_stop(leader);
}

static void a_dead_leader_is_forgotten_and_the_endpoints_are_asked_again(void **state)
{
    struct story leader_story = {.answers = {done}, .n_answers = 1};
    struct stub *leader = stub_start(tell, &leader_story);
    struct story follower_story = {.answers = {redirect_to(leader), done}, .n_answers = 2};
    struct stub *follower = stub_start(tell, &follower_story);
    struct tierkv_client *client = open_client(stub_endpoint(follower), 0);

    (void)state;
    assert_int_equal(tierkv_put(client, "k", 1, "1", 1, NULL), 0);
    stub_stop(leader);
    assert_int_equal(tierkv_put(client, "k", 1, "2", 1, NULL), 0);
    assert_int_equal(stub_requests(follower), 2);
    tierkv_client_close(client);
    stub_stop(follower);
}

static void nodes_that_redirect_in_a_circle_end_at_the_deadline(void **state)
{
    struct story one_story = {.n_answers = 1}, two_story = {.n_answers = 1};
    struct stub *one = stub_start(tell, &one_story);
    struct stub *two = stub_start(tell, &two_story);
    one_story.answers[0] = redirect_to(two);
    two_story.answers[0] = redirect_to(one);
    struct tierkv_client *client = open_client(stub_endpoint(one), 500);

    (void)state;
    assert_int_equal(tierkv_put(client, "k", 1, "", 0, NULL), TIERKV_UNAVAILABLE);
    assert_in_range(stub_requests(one) + stub_requests(two), 8, 60);
    tierkv_client_close(client);
    stub_stop(one);
    stub_stop(two);
}

static void the_next_endpoint_is_asked_when_one_refuses_connections(void **state)
{
    struct story story = {.answers = {done}, .n_answers = 1};
    struct stub *stub = stub_start(tell, &story);
    char dead[32], list[128];
    stub_dead_endpoint(dead);
    snprintf(list, sizeof(list), "http://%s/, %s", dead, stub_endpoint(stub));
    struct tierkv_client *client = open_client(list, 0);

    (void)state;
    assert_int_equal(tierkv_put(client, "k", 1, "", 0, NULL), 0);
    tierkv_client_close(client);
    stub_stop(stub);
}

static void a_hanging_endpoint_does_not_take_a_read_all_its_time(void **state)
{
    struct story story = {
        .answers = {{.status = 200, .body = "v", .header = "etag", .header_value = "\"1\""}},
        .n_answers = 1};
    struct stub *stub = stub_start(tell, &story);
    struct mute *mute = mute_start(MUTE_KEEPS);
    char list[128];
    snprintf(list, sizeof(list), "%s,%s", mute_endpoint(mute), stub_endpoint(stub));
    struct tierkv_client *client = open_client(list, 900);
    void *value;
    size_t length;

    (void)state;
    assert_int_equal(tierkv_get(client, "k", 1, TIERKV_LEVEL_DEFAULT, &value, &length, NULL), 0);
    free(value);
    tierkv_client_close(client);
    mute_stop(mute);
    stub_stop(stub);
}

static void nothing_listening_is_said_at_once(void **state)
{
    char dead[32];
    stub_dead_endpoint(dead);
    struct tierkv_client *client = open_client(dead, 20000);
    uint64_t begin = now_ms();

    (void)state;
    assert_int_equal(tierkv_put(client, "k", 1, "", 0, NULL), TIERKV_UNREACHABLE);
    assert_true(now_ms() - begin < 5000);
    assert_non_null(strstr(tierkv_client_error_text(client), dead));
    assert_int_equal(tierkv_client_status(client), 0);
    tierkv_client_close(client);
}

static void unavailable_is_retried_until_it_works(void **state)
{
    struct story story = {.answers = {busy, unknown, busy, done}, .n_answers = 4};
    struct stub *stub = stub_start(tell, &story);
    struct tierkv_client *client = open_client(stub_endpoint(stub), 0);
    uint64_t revision = 0;

    (void)state;
    assert_int_equal(tierkv_put(client, "k", 1, "v", 1, &revision), 0);
    assert_true(revision == 42);
    assert_int_equal(stub_requests(stub), 4);
    tierkv_client_close(client);
    stub_stop(stub);
}

static void a_write_that_was_never_taken_ends_as_unavailable(void **state)
{
    struct story story = {.answers = {busy}, .n_answers = 1};
    struct stub *stub = stub_start(tell, &story);
    struct tierkv_client *client = open_client(stub_endpoint(stub), 300);

    (void)state;
    assert_int_equal(tierkv_put(client, "k", 1, "v", 1, NULL), TIERKV_UNAVAILABLE);
    assert_true(stub_requests(stub) > 1);
    assert_int_equal(tierkv_client_status(client), 503);
    assert_non_null(strstr(tierkv_client_error_text(client), "no leader is known"));
    tierkv_client_close(client);
    stub_stop(stub);
}

static void one_unknown_outcome_stays_unknown_although_later_tries_were_refused(void **state)
{
    struct story story = {.answers = {unknown, busy}, .n_answers = 2};
    struct stub *stub = stub_start(tell, &story);
    struct tierkv_client *client = open_client(stub_endpoint(stub), 300);

    (void)state;
    assert_int_equal(tierkv_put(client, "k", 1, "v", 1, NULL), TIERKV_OUTCOME_UNKNOWN);
    assert_true(stub_requests(stub) > 1);
    tierkv_client_close(client);
    stub_stop(stub);
}

static void a_long_retry_after_ends_the_call_instead_of_outlasting_it(void **state)
{
    struct story story = {
        .answers = {{.status = 503, .header = "retry-after", .header_value = "30"}},
        .n_answers = 1};
    struct stub *stub = stub_start(tell, &story);
    struct tierkv_client *client = open_client(stub_endpoint(stub), 20000);
    uint64_t begin = now_ms();

    (void)state;
    assert_int_equal(tierkv_put(client, "k", 1, "v", 1, NULL), TIERKV_UNAVAILABLE);
    assert_true(now_ms() - begin < 5000);
    assert_int_equal(stub_requests(stub), 1);
    tierkv_client_close(client);
    stub_stop(stub);
}

static void a_connection_that_breaks_leaves_a_write_unknown_and_a_read_unreachable(void **state)
{
    struct mute *mute = mute_start(MUTE_CLOSES);
    struct tierkv_client *client = open_client(mute_endpoint(mute), 300);
    void *value;
    size_t length;

    (void)state;
    assert_int_equal(tierkv_put(client, "k", 1, "v", 1, NULL), TIERKV_OUTCOME_UNKNOWN);
    assert_true(mute_connections(mute) > 1);
    assert_int_equal(tierkv_get(client, "k", 1, TIERKV_LEVEL_DEFAULT, &value, &length, NULL),
                     TIERKV_UNREACHABLE);
    tierkv_client_close(client);
    mute_stop(mute);
}

static void silence_ends_at_the_deadline(void **state)
{
    struct mute *mute = mute_start(MUTE_KEEPS);
    struct tierkv_client *client = open_client(mute_endpoint(mute), 400);
    void *value;
    size_t length;
    uint64_t begin = now_ms();

    (void)state;
    assert_int_equal(tierkv_get(client, "k", 1, TIERKV_LEVEL_DEFAULT, &value, &length, NULL),
                     TIERKV_TIMEOUT);
    assert_in_range(now_ms() - begin, 390, 3000);
    begin = now_ms();
    assert_int_equal(tierkv_delete(client, "k", 1, NULL), TIERKV_OUTCOME_UNKNOWN);
    assert_in_range(now_ms() - begin, 390, 3000);
    assert_int_equal(mute_connections(mute), 2);
    tierkv_client_close(client);
    mute_stop(mute);
}

struct canceller {
    struct tierkv_client *client;
    const struct mute *mute;
};

/* Once the server has the connection. */
static void *cancel(void *argument)
{
    const struct canceller *canceller = argument;

    while (mute_connections(canceller->mute) == 0)
        sched_yield();
    tierkv_client_cancel(canceller->client);
    return NULL;
}

/* Else the calls would end after an hour. */
static void a_call_that_is_cancelled_ends_at_once_and_so_do_later_ones(void **state)
{
    struct mute *mute = mute_start(MUTE_KEEPS);
    struct tierkv_client *client = open_client(mute_endpoint(mute), 3600000);
    struct canceller canceller = {.client = client, .mute = mute};
    pthread_t thread;
    void *value = NULL;
    size_t value_len;
    uint64_t revision;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, cancel, &canceller), 0);
    assert_int_equal(
        tierkv_get(client, "k", 1, TIERKV_LEVEL_DEFAULT, &value, &value_len, &revision),
        TIERKV_CANCELLED);
    pthread_join(thread, NULL);
    assert_int_equal(tierkv_put(client, "k", 1, "v", 1, NULL), TIERKV_CANCELLED);
    tierkv_client_close(client);
    mute_stop(mute);
}

static void refusals_are_told_apart_and_not_retried(void **state)
{
    static const struct {
        int status, error;
    } cases[] = {{400, TIERKV_REFUSED}, {404, TIERKV_NOT_FOUND},   {409, TIERKV_REFUSED},
                 {413, TIERKV_REFUSED}, {507, TIERKV_UNAVAILABLE}, {500, TIERKV_UNAVAILABLE},
                 {302, TIERKV_PROTOCOL}};
    struct story story = {
        .answers = {{.body = "{\"error\":{\"code\":\"c\",\"message\":\"the reason\"}}"}},
        .n_answers = 1};
    struct stub *stub = stub_start(tell, &story);
    struct tierkv_client *client = open_client(stub_endpoint(stub), 0);
    void *value;
    size_t length;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        story.answers[0].status = cases[i].status;
        assert_int_equal(tierkv_get(client, "k", 1, TIERKV_LEVEL_DEFAULT, &value, &length, NULL),
                         cases[i].error);
        assert_int_equal(stub_requests(stub), i + 1);
        assert_int_equal(tierkv_client_status(client), cases[i].status);
        assert_non_null(strstr(tierkv_client_error_text(client), "the reason"));
    }
    tierkv_client_close(client);
    stub_stop(stub);
}

static void an_answer_without_a_revision_is_not_understood(void **state)
{
    struct story story = {.answers = {{.status = 200, .body = "hello"}}, .n_answers = 1};
    struct stub *stub = stub_start(tell, &story);
    struct tierkv_client *client = open_client(stub_endpoint(stub), 0);
    void *value;
    size_t length;

    (void)state;
    assert_int_equal(tierkv_get(client, "k", 1, TIERKV_LEVEL_DEFAULT, &value, &length, NULL),
                     TIERKV_PROTOCOL);
    assert_int_equal(tierkv_put(client, "k", 1, "", 0, NULL), TIERKV_PROTOCOL);
    tierkv_client_close(client);
    stub_stop(stub);
}

static void join_sends_the_addresses_as_json(void **state)
{
    struct story story = {.answers = {{.status = 200, .body = "{}"}}, .n_answers = 1};
    struct stub *stub = stub_start(tell, &story);
    struct tierkv_client *client = open_client(stub_endpoint(stub), 0);
    const char *id, *http, *raft, *incarnation;

    (void)state;
    assert_int_equal(tierkv_join(client, &(struct tierkv_node){.name = "n\"2",
                                                               .http_address = "h:1",
                                                               .raft_address = "r:2",
                                                               .incarnation = 0xabcdef0123456789}),
                     0);
    assert_string_equal(story.last.method, "POST");
    assert_string_equal(story.last.path, "/join");
    json_t *root = json_loads(story.last.body, 0, NULL);
    assert_int_equal(json_unpack(root, "{s:s,s:s,s:s,s:s}", "id", &id, "httpAddr", &http,
                                 "raftAddr", &raft, "incarnation", &incarnation),
                     0);
    assert_string_equal(id, "n\"2");
    assert_string_equal(http, "h:1");
    assert_string_equal(raft, "r:2");
    assert_string_equal(incarnation, "abcdef0123456789");
    json_decref(root);
    tierkv_client_close(client);
    stub_stop(stub);
}

static void status_and_members_come_as_the_server_wrote_them(void **state)
{
    struct story story = {.answers = {{.status = 200, .body = "{\"x\": 1}\n"}}, .n_answers = 1};
    struct stub *stub = stub_start(tell, &story);
    struct tierkv_client *client = open_client(stub_endpoint(stub), 0);
    char *text;

    (void)state;
    assert_int_equal(tierkv_status(client, &text), 0);
    assert_string_equal(text, "{\"x\": 1}\n");
    assert_string_equal(story.last.path, "/status");
    free(text);
    assert_int_equal(tierkv_members(client, &text), 0);
    assert_string_equal(story.last.path, "/members");
    free(text);
    tierkv_client_close(client);
    stub_stop(stub);
}

static void endpoint_lists_are_checked(void **state)
{
    static const char *const bad[] = {"",      ",",     "a:1,",  "a:99999", "https://a:1",
                                      "a:1/x", "u@a:1", "a:1?x", "a b:1",   "[::1:1"};
    struct endpoints endpoints;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(endpoints_parse(bad[i], &endpoints), TIERKV_INVALID);
    assert_int_equal(endpoints_parse("a:1, http://b/ ,[::1]:3", &endpoints), 0);
    assert_int_equal(endpoints.n, 3);
    assert_string_equal(endpoints.texts[0], "a:1");
    assert_string_equal(endpoints.texts[1], "b:8091");
    assert_string_equal(endpoints.texts[2], "[::1]:3");
    endpoints_free(&endpoints);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(get_returns_the_bytes_and_the_revision),
        cmocka_unit_test(an_empty_value_is_a_value),
        cmocka_unit_test(keys_of_any_bytes_are_sent_encoded_and_otherwise_untouched),
        cmocka_unit_test(keys_out_of_range_are_refused_before_anything_is_sent),
        cmocka_unit_test(a_redirect_keeps_method_body_and_path_and_the_leader_is_remembered),
        cmocka_unit_test(a_large_body_goes_by_http_1_also_where_a_redirect_leads),
        cmocka_unit_test(calls_share_one_connection_and_a_broken_one_is_replaced),
        cmocka_unit_test(a_stale_read_stays_with_the_endpoint_although_a_leader_is_known),
        cmocka_unit_test(a_dead_leader_is_forgotten_and_the_endpoints_are_asked_again),
        cmocka_unit_test(nodes_that_redirect_in_a_circle_end_at_the_deadline),
        cmocka_unit_test(the_next_endpoint_is_asked_when_one_refuses_connections),
        cmocka_unit_test(a_hanging_endpoint_does_not_take_a_read_all_its_time),
        cmocka_unit_test(nothing_listening_is_said_at_once),
        cmocka_unit_test(unavailable_is_retried_until_it_works),
        cmocka_unit_test(a_write_that_was_never_taken_ends_as_unavailable),
        cmocka_unit_test(one_unknown_outcome_stays_unknown_although_later_tries_were_refused),
        cmocka_unit_test(a_long_retry_after_ends_the_call_instead_of_outlasting_it),
        cmocka_unit_test(a_connection_that_breaks_leaves_a_write_unknown_and_a_read_unreachable),
        cmocka_unit_test(silence_ends_at_the_deadline),
        cmocka_unit_test(a_call_that_is_cancelled_ends_at_once_and_so_do_later_ones),
        cmocka_unit_test(refusals_are_told_apart_and_not_retried),
        cmocka_unit_test(an_answer_without_a_revision_is_not_understood),
        cmocka_unit_test(join_sends_the_addresses_as_json),
        cmocka_unit_test(status_and_members_come_as_the_server_wrote_them),
        cmocka_unit_test(endpoint_lists_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
