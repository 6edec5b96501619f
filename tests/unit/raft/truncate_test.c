/* The log in memory is kept short, and never stops the writes. */
#include "nodes_fixture.h"

#include "log.h"

#include <signal.h>

/* The fixture's log in memory is 1 MiB, and takes writes up to 2. */
#define LARGE_BYTES (3u << 20)

static int put_large(struct node *node, const char *key)
{
    static char value[LARGE_BYTES];
    struct replica_put one = {key, strlen(key), value, sizeof value};
    struct replica_operation *operation;
    int rv;

    random_text((uint64_t)key[0], value, sizeof value);
    operation = replica_put_new(&one, 1);
    assert_non_null(operation);
    rv = submit(node, operation);
    replica_operation_free(operation);
    return rv;
}

static void expect_short_log(struct node *node)
{
    uint64_t end = now_ms() + WAIT_MS_MAX;
    struct replica_view view;

    do {
        replica_view(node->replica, &view);
        usleep(2000);
    } while (view.log_bytes > 1 << 20 && now_ms() < end);
    assert_true(view.log_bytes <= 1 << 20);
}

static void a_write_that_fills_the_log_does_not_stop_those_behind_it(void **state)
{
    struct fixture *fixture = *state;
    /* A follower that is slow for a moment goes on from what the leader keeps on disk. */
    for (size_t i = 0; i < 3; i++)
        fixture->nodes[i].log_retained_bytes = 1 << 30;
    three_nodes(fixture);
    struct node *leader = wait_for_leader(fixture);

    for (const char *key = "abcd"; *key != '\0'; key++) {
        assert_int_equal(put_large(leader, key), 0);
        assert_int_equal(put(leader, "small", "1"), 0);
        assert_int_equal(put(leader, "small", "2"), 0);
    }
    assert_int_equal(put_large(leader, "e"), 0);
    assert_int_equal(put_large(leader, "f"), 0);
    assert_int_equal(put(leader, "small", "3"), 0);
    wait_for_agreement(fixture);
}

static void a_large_entry_leaves_the_log_when_another_follows_it(void **state)
{
    struct fixture *fixture = *state;
    node_start(&fixture->nodes[0], true);
    struct node *leader = wait_for_leader(fixture);

    assert_int_equal(put_large(leader, "a"), 0);
    assert_int_equal(put(leader, "small", "1"), 0);
    expect_short_log(leader);
    /* Also when it is the last one that the log of the time before has. */
    assert_int_equal(put_large(leader, "b"), 0);
    node_stop(leader);
    node_start(leader, false);
    wait_for_leader(fixture);
    assert_int_equal(put(leader, "small", "2"), 0);
    expect_short_log(leader);
}

/* The log grows with every write, what is dirty does not. */
static void overwriting_does_not_wait_for_the_flush_interval(void **state)
{
    static char value[64 << 10];
    struct fixture *fixture = *state;
    fixture->nodes[0].flush_interval_ms = 3600 * 1000;
    node_start(&fixture->nodes[0], true);
    struct node *leader = wait_for_leader(fixture);

    for (uint64_t i = 0; i < 100; i++) {
        struct replica_put one = {"same", 4, value, sizeof value};
        random_text(i, value, sizeof value);
        struct replica_operation *operation = replica_put_new(&one, 1);
        assert_non_null(operation);
        assert_int_equal(submit(leader, operation), 0);
        replica_operation_free(operation);
    }
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN); /* As main does */
    log_configure(LOG_LEVEL_WARNING, LOG_FORMAT_LOGFMT);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_write_that_fills_the_log_does_not_stop_those_behind_it),
        TEST(overwriting_does_not_wait_for_the_flush_interval),
        TEST(a_large_entry_leaves_the_log_when_another_follows_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
