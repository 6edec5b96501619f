/* Addresses, and what a node says of its tiers. The connection itself is tested against real nodes
 * by integration/replay_test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "h2_client.h"
#include "replay_metrics.h"

static void addresses_are_found_in_urls(void **state)
{
    (void)state;
    static const char *const urls[][2] = {
        {"http://127.0.0.1:8091", "127.0.0.1:8091"},
        {"http://node.example:80/key/a?level=stale", "node.example:80"},
        {"http://[::1]:8091/", "[::1]:8091"},
        {"localhost:1", "localhost:1"},
    };
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        char address[H2_ADDRESS_BYTES];
        assert_int_equal(h2_address_parse(urls[i][0], address), 0);
        assert_string_equal(address, urls[i][1]);
    }
}

static void what_is_no_address_is_refused(void **state)
{
    (void)state;
    static const char *const urls[] = {"",           "http://",       "https://host:1", "host",
                                       "http://:80", "http://host:",  "ftp://host:21",  "8091",
                                       ":8091",      "http://host/:1"};
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        char address[H2_ADDRESS_BYTES] = "untouched";
        assert_int_equal(h2_address_parse(urls[i], address), -1);
        assert_string_equal(address, "untouched");
    }
}

static void nobody_listening_is_an_error(void **state)
{
    (void)state;
    struct h2_client *client = NULL;
    assert_true(h2_client_open("127.0.0.1:1", 1000, &client) < 0);
    assert_null(client);
}

static void hits_are_found_in_metrics(void **state)
{
    (void)state;
    struct replay_hits hits;
    replay_metrics_parse("# TYPE tierkv_tiers_hits_hot_total counter\n"
                         "tierkv_tiers_hits_hot_total 1200\n"
                         "tierkv_tiers_hits_warm_total_other 5\n"
                         "tierkv_tiers_hits_cold_total 7\n"
                         "tierkv_tiers_flushed_bytes_total 1e+06\n",
                         &hits);
    assert_int_equal(hits.hot, 1200);
    assert_int_equal(hits.warm, 0);
    assert_int_equal(hits.cold, 7);
    assert_int_equal(hits.flushed_bytes, 1000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_found_in_urls),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(nobody_listening_is_an_error),
        cmocka_unit_test(hits_are_found_in_metrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
