/* One node whose data is more than ten times what hot and warm hold together: every key is read
 * back from whichever tier has it, before and after restarts. */
#include "lib/cluster.h"
#include "lib/http.h"
#include "lib/random.h"
#include "tierkv/client.h"

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

#define N_KEYS      6400
#define KEY_BYTES   32
#define VALUE_BYTES 10240
#define KEYS_A_POST 64
#define HOT_BYTES   "2MiB"
#define WARM_BYTES  "4MiB"
/* 62.5 MiB of values against 6 MiB of hot and warm. */
_Static_assert((long)N_KEYS *VALUE_BYTES > 10L * (6 << 20), "data is not ten times the tiers");

static const char *const flags[] = {"--hot-bytes=" HOT_BYTES,    "--warm-bytes=" WARM_BYTES,
                                    "--flush-interval=100ms",    "--flush-bytes=512KiB",
                                    "--cold-segment-bytes=8MiB", NULL};

static struct cluster *cluster;
static struct tierkv_client *client;
static uint64_t seed;
/* What each key should hold: the version of its value; 0: deleted. */
static unsigned versions[N_KEYS];

static int open_cluster(void **state)
{
    struct tierkv_client_options options;
    (void)state;
    seed = random_seed();
    cluster = cluster_start(1, flags);
    options = (struct tierkv_client_options){.endpoints = cluster_endpoints(cluster),
                                             .timeout_ms = 60000};
    return tierkv_client_open(&options, &client);
}

static int close_cluster(void **state)
{
    (void)state;
    tierkv_client_close(client);
    if (cluster != NULL)
        cluster_stop(cluster);
    return 0;
}

static size_t key_make(unsigned i, char ret_key[KEY_BYTES])
{
    return (size_t)snprintf(ret_key, KEY_BYTES, "tiers/%05u", i);
}

/* Letters and digits that do not compress away and follow from key and version. */
static void value_make(unsigned i, unsigned version, char *ret_value)
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
    struct random random;
    random_init(&random, seed + i * 1000ULL + version);
    for (size_t j = 0; j < VALUE_BYTES; j += 8) {
        uint64_t word = random_next(&random);
        for (size_t k = 0; k < 8; k++)
            ret_value[j + k] = digits[word >> (8 * k) & 63];
    }
    ret_value[VALUE_BYTES] = '\0';
}

/* Writes the next version of keys [begin, end) with one POST. */
static void post_keys(unsigned begin, unsigned end)
{
    static char value[VALUE_BYTES + 1];
    char key[KEY_BYTES];
    struct http_answer answer;
    json_t *root = json_object();

    for (unsigned i = begin; i < end; i++) {
        key_make(i, key);
        value_make(i, ++versions[i], value);
        assert_int_equal(json_object_set_new(root, key, json_string(value)), 0);
    }
    char *body = json_dumps(root, JSON_COMPACT);
    http_run(&(struct http_request){.method = "POST",
                                    .address = cluster_address(cluster, 0),
                                    .path = "/key",
                                    .body = body,
                                    .timeout_ms = 60000},
             &answer);
    if (answer.status != 200)
        print_message("POST: %ld, failure %d: %s\n", answer.status, answer.failure, answer.body);
    assert_int_equal(answer.status, 200);
    http_free(&answer);
    free(body);
    json_decref(root);
}

static void compare(unsigned i)
{
    static char wanted[VALUE_BYTES + 1];
    char key[KEY_BYTES];
    void *value = NULL;
    size_t length = 0, key_len = key_make(i, key);

    int status = tierkv_get(client, key, key_len, TIERKV_LEVEL_DEFAULT, &value, &length, NULL);
    if (versions[i] == 0) {
        assert_int_equal(status, TIERKV_NOT_FOUND);
        return;
    }
    if (status != 0)
        fail_msg("%s: %s", key, tierkv_client_error_text(client));
    value_make(i, versions[i], wanted);
    assert_int_equal(length, VALUE_BYTES);
    if (memcmp(value, wanted, VALUE_BYTES) != 0)
        fail_msg("%s does not hold version %u", key, versions[i]);
    free(value);
}

static void compare_all(void)
{
    for (unsigned i = 0; i < N_KEYS; i++)
        compare(i);
}

static uint64_t figure(const char *name)
{
    char path[64];
    snprintf(path, sizeof(path), "tiers.%s", name);
    return cluster_status_number(cluster, 0, path);
}

/* Waits until the mover has nothing left to do: all is flushed, and warm keeps to its budget. */
static void wait_settled(void)
{
    uint64_t deadline = test_now_ms() + 90000;
    while (figure("dirty_bytes") > 0 || figure("warm_used_bytes") > (uint64_t)(5 << 20)) {
        if (test_now_ms() > deadline)
            fail_msg("not settled: %llu bytes dirty, %llu used in warm",
                     (unsigned long long)figure("dirty_bytes"),
                     (unsigned long long)figure("warm_used_bytes"));
        test_sleep_ms(50);
    }
}

static void restart(bool cleanly)
{
    if (cleanly) {
        cluster_node_signal(cluster, 0, SIGTERM);
        assert_int_equal(cluster_node_wait_exit(cluster, 0, 60000), 0);
    } else {
        cluster_node_kill(cluster, 0);
    }
    cluster_node_start(cluster, 0);
    cluster_node_wait_ready(cluster, 0);
}

static void data_ten_times_larger_than_hot_and_warm_is_read_back_from_every_tier(void **state)
{
    (void)state;
    for (unsigned i = 0; i < N_KEYS; i += KEYS_A_POST)
        post_keys(i, i + KEYS_A_POST);
    wait_settled();
    assert_true(figure("cold_keys") > N_KEYS / 2);
    assert_true(figure("cold_bytes") > (uint64_t)N_KEYS * VALUE_BYTES / 2);
    assert_true(figure("hot_bytes") <= (uint64_t)(2 << 20) * 13 / 10);
    compare_all();
    /* What was read again and again becomes hot. */
    for (int round = 0; round < 20; round++)
        for (unsigned i = 0; i < 20; i++)
            compare(i);
    assert_true(figure("hits_cold") > N_KEYS / 4);
    assert_true(figure("hits_hot") >= 200);
    assert_true(figure("hits_warm") > 0);
}

static void all_tiers_survive_a_clean_restart(void **state)
{
    (void)state;
    restart(true);
    compare_all();
    assert_true(figure("cold_keys") > 0);
    assert_true(figure("warm_keys") >= N_KEYS);
}

static void overwritten_and_deleted_keys_stay_so_while_data_moves_between_tiers(void **state)
{
    struct random random;

    (void)state;
    random_init(&random, seed);
    for (int round = 0; round < 20; round++) {
        unsigned i = (unsigned)random_below(&random, N_KEYS - KEYS_A_POST);
        post_keys(i, i + KEYS_A_POST);
        for (int j = 0; j < 40; j++) {
            char key[KEY_BYTES];
            unsigned victim = (unsigned)random_below(&random, N_KEYS);
            size_t key_len = key_make(victim, key);
            assert_int_equal(tierkv_delete(client, key, key_len, NULL), 0);
            versions[victim] = 0;
            compare((unsigned)random_below(&random, N_KEYS));
        }
    }
    compare_all();
    wait_settled();
    compare_all();
}

static void all_tiers_survive_being_killed(void **state)
{
    (void)state;
    restart(false);
    compare_all();
    post_keys(0, KEYS_A_POST);
    restart(false);
    compare_all();
    assert_int_equal(figure("checksum_errors"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_ten_times_larger_than_hot_and_warm_is_read_back_from_every_tier),
        cmocka_unit_test(all_tiers_survive_a_clean_restart),
        cmocka_unit_test(overwritten_and_deleted_keys_stay_so_while_data_moves_between_tiers),
        cmocka_unit_test(all_tiers_survive_being_killed),
    };
    int failures = cmocka_run_group_tests(tests, open_cluster, close_cluster);
    cluster_teardown(NULL);
    return failures;
}
