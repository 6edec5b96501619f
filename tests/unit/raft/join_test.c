/* Joins that do not get on, and what waits for them. */
#include "nodes_fixture.h"

#include "log.h"

#include <signal.h>

/* Far less than a change may take. */
#define PROMPT_MS 10000

/* A join whose answer is not waited for. */
struct pending_join {
    struct replica_change change;
    struct replica_operation *operation;
    struct inbox *reply;
};

static void join_begin(struct node *leader, enum replica_operation_type type,
                       struct pending_join *join)
{
    join->operation = replica_change_new(type, &join->change);
    join->reply = inbox_new(1);
    assert_non_null(join->operation);
    assert_non_null(join->reply);
    join->operation->reply = join->reply;
    assert_int_equal(replica_submit(leader->replica, join->operation), 0);
}

static int join_end(struct pending_join *join)
{
    struct pollfd readable = {.fd = inbox_fd(join->reply), .events = POLLIN};
    int status;

    assert_int_equal(poll(&readable, 1, PROMPT_MS), 1);
    assert_ptr_equal(inbox_take(join->reply), join->operation);
    status = join->operation->status;
    replica_operation_free(join->operation);
    inbox_free(join->reply);
    return status;
}

static void wait_until_listed(struct node *at, const char *name)
{
    uint64_t end = now_ms() + WAIT_MS_MAX;

    while (!is_listed(at, name) && now_ms() < end)
        usleep(2000);
    assert_true(is_listed(at, name));
}

static void a_joiner_that_cannot_be_reached_holds_up_nobody(void **state)
{
    struct fixture *fixture = *state;
    struct pending_join join = {.change.join = {.name = "nowhere", .incarnation = 1}};
    three_nodes(fixture);
    struct node *leader = wait_for_leader(fixture);
    struct replica_join *request = &join.change.join;
    uint64_t began;

    snprintf(request->http_address, sizeof request->http_address, "127.0.0.1:%d", port_free());
    snprintf(request->raft_address, sizeof request->raft_address, "127.0.0.1:%d", port_free());
    join_begin(leader, REPLICA_JOIN, &join);
    wait_until_listed(leader, "nowhere");
    began = now_ms();
    assert_int_equal(remove_member(fixture, a_follower(fixture, leader)->name, false, NULL), 0);
    assert_int_equal(remove_member(fixture, "nowhere", false, NULL), 0);
    assert_true(now_ms() - began < PROMPT_MS);
    assert_int_equal(join_end(&join), REPLICA_CONFLICT);
    assert_string_equal(join.change.detail, "the member nowhere is being removed");
    assert_false(is_listed(leader, "nowhere"));
    expect_voters(leader, 2);
}

/* The log no longer reaches back to the beginning. */
static void outgrow_the_log(struct fixture *fixture)
{
    static char value[65536];
    uint64_t end = now_ms() + WAIT_MS_MAX;
    struct replica_view view;

    random_text(1, value, sizeof value);
    for (int i = 0; i < 64; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        put_settled(fixture, key, value);
    }
    do {
        replica_view(wait_for_leader(fixture)->replica, &view);
        usleep(2000);
    } while (view.first_log_index == 1 && now_ms() < end);
    assert_true(view.first_log_index > 1);
}

/* Begins a join for which the state is transferred, which goes on for minutes. */
static void slow_join_begin(struct fixture *fixture, struct node *leader, struct node *fresh,
                            struct pending_join *join)
{
    uint64_t end = now_ms() + WAIT_MS_MAX;

    outgrow_the_log(fixture);
    node_start(fresh, false);
    join->change.join = join_request(fresh);
    join_begin(leader, REPLICA_JOIN, join);
    while (fresh->begun == 0 && now_ms() < end)
        usleep(2000);
    assert_int_equal(fresh->begun, 1);
}

static void slow_transfers(struct fixture *fixture)
{
    for (int i = 0; i < VOTERS; i++)
        fixture->nodes[i].transfer_bytes_per_second_max = 10000;
}

static void a_removal_does_not_wait_for_a_joiner_that_catches_up(void **state)
{
    struct fixture *fixture = *state;
    struct pending_join join = {0};
    slow_transfers(fixture);
    three_nodes(fixture);
    struct node *leader = wait_for_leader(fixture), *fresh = &fixture->nodes[3];
    uint64_t began;

    slow_join_begin(fixture, leader, fresh, &join);
    began = now_ms();
    assert_int_equal(remove_member(fixture, a_follower(fixture, leader)->name, false, NULL), 0);
    assert_true(now_ms() - began < PROMPT_MS);
    assert_true(is_listed(leader, fresh->name));
    assert_int_equal(remove_member(fixture, fresh->name, false, NULL), 0);
    assert_true(now_ms() - began < PROMPT_MS);
    assert_int_equal(join_end(&join), REPLICA_CONFLICT);
    expect_voters(leader, 2);
}

static void a_join_does_not_wait_for_another_that_does_not_get_on(void **state)
{
    struct fixture *fixture = *state;
    struct pending_join join = {0};
    slow_transfers(fixture);
    three_nodes(fixture);
    struct node *leader = wait_for_leader(fixture), *fresh = &fixture->nodes[3];
    struct replica_join changed = join_request(a_follower(fixture, leader));
    uint64_t began;

    slow_join_begin(fixture, leader, fresh, &join);
    began = now_ms();
    snprintf(changed.version, sizeof changed.version, "newer");
    assert_int_equal(join_as(leader, &changed), 0);
    assert_true(now_ms() - began < PROMPT_MS);
    assert_int_equal(remove_member(fixture, fresh->name, false, NULL), 0);
    assert_int_equal(join_end(&join), REPLICA_CONFLICT);
}

/* As one does who gives a new machine the old one's addresses, and the node another name. */
static void a_member_is_replaced_at_its_own_addresses_once_it_is_silent(void **state)
{
    struct fixture *fixture = *state;
    struct pending_join replacement = {0};
    three_nodes(fixture);
    struct node *leader = wait_for_leader(fixture), *fresh = &fixture->nodes[3];
    struct node *old = a_follower(fixture, leader);
    struct replica_join *request = &replacement.change.join;
    struct replica_view view;

    memcpy(fresh->raft_address, old->raft_address, sizeof fresh->raft_address);
    memcpy(fresh->http_address, old->http_address, sizeof fresh->http_address);
    snprintf(request->name, sizeof request->name, "%s", fresh->name);
    snprintf(request->http_address, sizeof request->http_address, "%s", fresh->http_address);
    snprintf(request->raft_address, sizeof request->raft_address, "%s", fresh->raft_address);
    snprintf(replacement.change.name, sizeof replacement.change.name, "%s", old->name);
    assert_int_equal(put(leader, "a", "1"), 0);
    join_begin(leader, REPLICA_REPLACE, &replacement);
    for (int i = 0; i < 20; i++)
        assert_int_equal(put(leader, "a", "2"), 0);
    replica_view(leader->replica, &view);
    assert_int_equal(view.n_members, 3);
    assert_true(is_listed(leader, old->name));
    node_stop(old);
    node_start(fresh, false);
    assert_int_equal(join_end(&replacement), 0);
    assert_true(is_listed(leader, fresh->name));
    assert_false(is_listed(leader, old->name));
    expect_voters(leader, 3);
    wait_for_agreement(fixture);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN); /* As main does */
    log_configure(LOG_LEVEL_WARNING, LOG_FORMAT_LOGFMT);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_joiner_that_cannot_be_reached_holds_up_nobody),
        TEST(a_removal_does_not_wait_for_a_joiner_that_catches_up),
        TEST(a_join_does_not_wait_for_another_that_does_not_get_on),
        TEST(a_member_is_replaced_at_its_own_addresses_once_it_is_silent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
