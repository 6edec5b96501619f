#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "command/command.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One node's state on disk; can be closed and opened again. */
struct node {
    char directory[256];
    struct tiers *tiers;
    struct command_state *state;
    struct tiers_reader *reader;
    uint64_t index;
};

static void node_open(struct node *node)
{
    char warm[300], cold[300], error_text[256] = "";
    snprintf(warm, sizeof(warm), "%s/warm", node->directory);
    snprintf(cold, sizeof(cold), "%s/cold", node->directory);
    struct tiers_options options;
    tiers_options_init(&options);
    options.warm_dir = warm;
    options.cold_dir = cold;
    options.hot_bytes = 8 << 20;
    options.warm_bytes = 64 << 20;
    options.warm_map_bytes = 256 << 20;
    if (tiers_open(&options, &node->tiers, error_text, sizeof(error_text)) != 0)
        fail_msg("%s", error_text);
    assert_int_equal(command_state_open(node->tiers, &node->state), 0);
    assert_int_equal(tiers_reader_open(node->tiers, &node->reader), 0);
    struct tiers_position position;
    tiers_position_applied(node->tiers, &position);
    node->index = position.index;
}

static void node_close(struct node *node)
{
    tiers_reader_close(node->reader);
    command_state_close(node->state);
    assert_int_equal(tiers_close(node->tiers), 0);
}

static struct node *node_new(void)
{
    struct node *node = calloc(1, sizeof(*node));
    assert_non_null(node);
    const char *base = getenv("TMPDIR");
    snprintf(node->directory, sizeof(node->directory), "%s/apply_test.XXXXXX",
             base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(node->directory));
    node_open(node);
    return node;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void node_free(struct node *node)
{
    node_close(node);
    assert_int_equal(nftw(node->directory, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    free(node);
}

/* ------------------------------------------------------------------------------------- entries */

struct blob {
    void *bytes;
    size_t size;
};

static struct blob write_command(const struct command_op *ops, size_t n_ops)
{
    struct blob blob = {.size = command_size(COMMAND_WRITE, ops, n_ops)};
    assert_true(blob.size > 0);
    blob.bytes = malloc(blob.size);
    assert_non_null(blob.bytes);
    command_encode(COMMAND_WRITE, ops, n_ops, 1, blob.bytes);
    return blob;
}

static struct command_op put(const char *key, const char *value)
{
    return (struct command_op){.type = COMMAND_OP_PUT,
                               .key = key,
                               .key_len = strlen(key),
                               .value = value,
                               .value_len = strlen(value)};
}

static struct command_op delete_of(const char *key)
{
    return (struct command_op){.type = COMMAND_OP_DELETE, .key = key, .key_len = strlen(key)};
}

static struct blob put_one(const char *key, const char *value)
{
    struct command_op op = put(key, value);
    return write_command(&op, 1);
}

static struct blob delete_one(const char *key)
{
    struct command_op op = delete_of(key);
    return write_command(&op, 1);
}

static struct blob member_set(uint64_t raft_id, const char *http_address)
{
    struct command_member member = {
        .raft_id = raft_id, .incarnation = UINT64_MAX - raft_id, .raft_address = "10.0.0.1:8089"};
    snprintf(member.name, sizeof(member.name), "node%llu", (unsigned long long)raft_id);
    snprintf(member.http_address, sizeof(member.http_address), "%s", http_address);
    struct blob blob;
    blob.bytes = command_member_set(&member, 1, &blob.size);
    assert_non_null(blob.bytes);
    return blob;
}

static struct blob member_remove(uint64_t raft_id)
{
    struct blob blob;
    blob.bytes = command_member_remove(raft_id, 1, &blob.size);
    assert_non_null(blob.bytes);
    return blob;
}

static struct blob cluster_init(uint64_t cluster_id)
{
    struct blob blob;
    blob.bytes = command_cluster_init(cluster_id, 1, &blob.size);
    assert_non_null(blob.bytes);
    return blob;
}

/* Takes the commands. */
static struct blob entry_of(const struct blob *commands, size_t n)
{
    struct blob entry = {.size = command_entry_begin_size()};
    for (size_t i = 0; i < n; i++)
        entry.size += command_entry_item_size(commands[i].size);
    entry.bytes = malloc(entry.size);
    assert_non_null(entry.bytes);
    struct command_entry_writer writer;
    command_entry_begin(&writer, entry.bytes);
    for (size_t i = 0; i < n; i++) {
        command_entry_add(&writer, commands[i].bytes, commands[i].size);
        free(commands[i].bytes);
    }
    command_entry_end(&writer);
    return entry;
}

/* Applies these commands, which it takes, as one entry. */
static bool apply(struct node *node, const struct blob *commands, size_t n,
                  struct command_result *results)
{
    struct blob entry = entry_of(commands, n);
    bool members_changed;
    assert_int_equal(command_apply_entry(node->state, ++node->index, entry.bytes, entry.size,
                                         results, n, &members_changed),
                     0);
    free(entry.bytes);
    return members_changed;
}

static struct command_result apply_one(struct node *node, struct blob command)
{
    struct command_result result;
    apply(node, &command, 1, &result);
    return result;
}

static void assert_value(struct node *node, const char *key, const char *value)
{
    const struct tiers_record *record;
    int error = tiers_reader_get_wait(node->reader, TIERS_SPACE_USER, key, strlen(key), &record);
    if (value == NULL) {
        assert_int_equal(error, TIERS_NOT_FOUND);
        return;
    }
    assert_int_equal(error, 0);
    assert_int_equal(record->value_len, strlen(value));
    assert_memory_equal(tiers_record_value(record), value, strlen(value));
    tiers_record_release(record);
}

static uint64_t mod_revision(struct node *node, const char *key)
{
    struct tiers_meta meta;
    assert_int_equal(tiers_lookup_meta(node->tiers, TIERS_SPACE_USER, key, strlen(key), &meta), 0);
    return meta.mod_revision;
}

static struct tiers_position position_of(struct node *node)
{
    struct tiers_position position;
    tiers_position_applied(node->tiers, &position);
    return position;
}

/* ---------------------------------------------------------------------------------------- tests */

static void all_keys_of_a_command_share_one_revision(void **unused)
{
    (void)unused;
    struct node *node = node_new();
    struct command_op ops[] = {put("a", "1"), put("b", "2"), delete_of("c")};
    struct command_result result = apply_one(node, write_command(ops, 3));
    assert_int_equal(result.status, 0);
    assert_int_equal(result.revision, 1);
    assert_value(node, "a", "1");
    assert_value(node, "b", "2");
    assert_int_equal(mod_revision(node, "a"), 1);
    assert_int_equal(mod_revision(node, "b"), 1);
    node_free(node);
}

static void commands_of_an_entry_are_applied_in_order_with_a_result_each(void **unused)
{
    (void)unused;
    struct node *node = node_new();
    struct blob commands[] = {put_one("k", "old"), put_one("k", "new"), delete_one("k"),
                              put_one("k", "last")};
    struct command_result results[4];
    assert_false(apply(node, commands, 4, results));
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(results[i].revision, i + 1);
    assert_value(node, "k", "last");
    assert_int_equal(position_of(node).index, 1);
    assert_int_equal(position_of(node).revision, 4);
    node_free(node);
}

static void deleting_an_absent_key_succeeds_and_takes_a_revision(void **unused)
{
    (void)unused;
    struct node *node = node_new();
    struct command_result result = apply_one(node, delete_one("nothing"));
    assert_int_equal(result.status, 0);
    assert_int_equal(result.revision, 1);
    assert_value(node, "nothing", NULL);
    assert_int_equal(apply_one(node, put_one("k", "v")).revision, 2);
    node_free(node);
}

static void an_entry_that_does_not_decode_applies_nothing(void **unused)
{
    (void)unused;
    struct node *node = node_new();
    struct blob commands[] = {put_one("a", "1"), put_one("b", "2")};
    struct blob entry = entry_of(commands, 2);
    ((unsigned char *)entry.bytes)[entry.size - 1] = 1; /* Padding of the last command */
    bool members_changed;
    assert_int_equal(
        command_apply_entry(node->state, 1, entry.bytes, entry.size, NULL, 0, &members_changed),
        TIERS_CORRUPT);
    free(entry.bytes);
    assert_value(node, "a", NULL);
    assert_int_equal(position_of(node).index, 0);
    assert_int_equal(position_of(node).revision, 0);
    node_free(node);
}

static void a_member_whose_text_is_no_member_spoils_the_whole_entry(void **unused)
{
    (void)unused;
    static const char *texts[] = {
        "",
        "[]",
        "{",
        "{}",
        "{\"name\":\"n\",\"http\":\"a:1\",\"raft\":\"b:2\"}",
        "{\"name\":\"\",\"http\":\"a:1\",\"raft\":\"b:2\",\"incarnation\":\"0000000000000001\"}",
        "{\"name\":\"n\",\"http\":\"a:1\",\"raft\":\"b:2\",\"incarnation\":\"1\"}",
        "{\"name\":\"n\",\"http\":3,\"raft\":\"b:2\",\"incarnation\":\"0000000000000001\"}"};
    struct node *node = node_new();
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct command_op op = {.type = COMMAND_OP_PUT,
                                .key = "\0\0\0\0\0\0\0\1",
                                .key_len = 8,
                                .value = texts[i],
                                .value_len = strlen(texts[i])};
        struct blob member = {.size = command_size(COMMAND_MEMBER_SET, &op, 1)};
        member.bytes = malloc(member.size);
        assert_non_null(member.bytes);
        command_encode(COMMAND_MEMBER_SET, &op, 1, 1, member.bytes);
        struct blob entry = entry_of((struct blob[]){put_one("a", "1"), member}, 2);
        bool members_changed;
        assert_int_equal(
            command_apply_entry(node->state, 1, entry.bytes, entry.size, NULL, 0, &members_changed),
            TIERS_CORRUPT);
        free(entry.bytes);
        assert_value(node, "a", NULL);
    }
    node_free(node);
}

static void a_member_is_found_under_its_id_until_it_is_removed(void **unused)
{
    (void)unused;
    struct node *node = node_new();
    struct blob commands[] = {member_set(7, "h:7"), member_set(3, "h:3")};
    assert_true(apply(node, commands, 2, NULL));
    size_t n;
    const struct command_member *members = command_members(node->state, &n);
    assert_int_equal(n, 2);
    assert_int_equal(members[0].raft_id, 3);
    assert_int_equal(members[1].raft_id, 7);
    assert_string_equal(command_member_find(node->state, 7)->http_address, "h:7");
    assert_string_equal(command_member_find(node->state, 7)->name, "node7");
    struct blob removal = member_remove(7);
    assert_true(apply(node, &removal, 1, NULL));
    assert_null(command_member_find(node->state, 7));
    assert_non_null(command_member_find(node->state, 3));
    node_free(node);
}

static void repeating_a_member_command_changes_nothing(void **unused)
{
    (void)unused;
    struct node *node = node_new();
    struct blob command = member_set(1, "h:1");
    assert_true(apply(node, &command, 1, NULL));
    struct tiers_position before = position_of(node);
    struct blob again[] = {member_set(1, "h:1"), member_remove(9)};
    assert_false(apply(node, again, 2, NULL));
    assert_int_equal(position_of(node).revision, before.revision);
    assert_int_equal(position_of(node).state_hash, before.state_hash);
    command = member_set(1, "h:2");
    assert_true(apply(node, &command, 1, NULL));
    assert_string_equal(command_member_find(node->state, 1)->http_address, "h:2");
    node_free(node);
}

static void a_full_member_table_refuses_without_failing(void **unused)
{
    (void)unused;
    struct node *node = node_new();
    for (uint64_t i = 1; i <= COMMAND_MEMBERS_MAX; i++)
        assert_int_equal(apply_one(node, member_set(i, "h:1")).status, 0);
    assert_int_equal(apply_one(node, member_set(COMMAND_MEMBERS_MAX + 1, "h:1")).status,
                     TIERS_BUSY);
    assert_null(command_member_find(node->state, COMMAND_MEMBERS_MAX + 1));
    assert_int_equal(apply_one(node, member_set(COMMAND_MEMBERS_MAX, "h:2")).status, 0);
    apply_one(node, member_remove(5));
    assert_int_equal(apply_one(node, member_set(COMMAND_MEMBERS_MAX + 1, "h:1")).status, 0);
    node_free(node);
}

static void the_first_cluster_id_stays(void **unused)
{
    (void)unused;
    struct node *node = node_new();
    assert_int_equal(command_cluster_id(node->state), 0);
    apply_one(node, cluster_init(0xfedcba9876543210));
    apply_one(node, cluster_init(5));
    assert_true(command_cluster_id(node->state) == 0xfedcba9876543210);
    node_free(node);
}

static void members_and_cluster_id_are_there_after_a_restart(void **unused)
{
    (void)unused;
    struct node *node = node_new();
    struct blob commands[] = {cluster_init(42), member_set(1, "h:1"), member_set(2, "h:2"),
                              member_remove(1), put_one("user", "v")};
    apply(node, commands, 5, NULL);
    assert_int_equal(command_apply_empty(node->state, ++node->index), 0);
    struct tiers_position before = position_of(node);
    node_close(node);
    node_open(node);
    assert_int_equal(node->index, 2);
    assert_int_equal(position_of(node).revision, before.revision);
    assert_int_equal(position_of(node).state_hash, before.state_hash);
    assert_int_equal(command_cluster_id(node->state), 42);
    size_t n;
    const struct command_member *members = command_members(node->state, &n);
    assert_int_equal(n, 1);
    assert_int_equal(members[0].raft_id, 2);
    assert_true(members[0].incarnation == UINT64_MAX - 2);
    assert_string_equal(members[0].http_address, "h:2");
    assert_string_equal(members[0].raft_address, "10.0.0.1:8089");
    /* The next revision follows the ones before the restart. */
    assert_int_equal(apply_one(node, put_one("user", "w")).revision, before.revision + 1);
    node_free(node);
}

static void a_reset_leaves_one_member_under_another_id(void **unused)
{
    (void)unused;
    struct node *node = node_new();
    struct blob reset = {0};
    reset.bytes = command_cluster_reset(43, 2, 1, &reset.size);
    assert_non_null(reset.bytes);
    struct blob commands[] = {cluster_init(42), member_set(1, "h:1"), member_set(2, "h:2"),
                              member_set(3, "h:3"), reset};
    apply(node, commands, 5, NULL);
    for (int restart = 0; restart < 2; restart++) {
        size_t n;
        assert_int_equal(command_cluster_id(node->state), 43);
        assert_int_equal(command_cluster_id_before(node->state), 42);
        assert_int_equal(command_members(node->state, &n)[0].raft_id, 2);
        assert_int_equal(n, 1);
        node_close(node);
        node_open(node);
    }
    /* As retried, or of a log that is replayed. */
    struct tiers_position before = position_of(node);
    reset.bytes = command_cluster_reset(43, 2, 1, &reset.size);
    apply_one(node, reset);
    assert_int_equal(position_of(node).revision, before.revision);
    node_free(node);
}

static void user_keys_and_bookkeeping_do_not_meet(void **unused)
{
    (void)unused;
    struct node *node = node_new();
    struct blob commands[] = {cluster_init(42), put_one("cluster", "mine"),
                              put_one("member/0000000000000001", "mine too")};
    assert_true(apply(node, commands, 3, NULL));
    assert_int_equal(command_cluster_id(node->state), 42);
    assert_null(command_member_find(node->state, 1));
    assert_value(node, "cluster", "mine");
    apply_one(node, delete_one("cluster"));
    node_close(node);
    node_open(node);
    assert_int_equal(command_cluster_id(node->state), 42);
    node_free(node);
}

static void two_nodes_that_apply_the_same_entries_are_equal(void **unused)
{
    (void)unused;
    struct node *nodes[2] = {node_new(), node_new()};
    unsigned seed = (unsigned)getpid();
    print_message("seed %u\n", seed);
    for (unsigned round = 0; round < 200; round++) {
        char key[16], value[16];
        snprintf(key, sizeof(key), "k%d", rand_r(&seed) % 50);
        snprintf(value, sizeof(value), "v%u", round);
        uint64_t id = 1 + (uint64_t)(rand_r(&seed) % 20);
        int kind = rand_r(&seed) % 4;
        struct command_result results[2];
        for (size_t i = 0; i < 2; i++) {
            struct blob command = kind == 0   ? delete_one(key)
                                  : kind == 1 ? member_set(id, value)
                                  : kind == 2 ? member_remove(id)
                                              : put_one(key, value);
            results[i] = apply_one(nodes[i], command);
        }
        assert_int_equal(results[0].status, results[1].status);
        assert_int_equal(results[0].revision, results[1].revision);
        if (round == 100) { /* A restart in between makes no difference. */
            node_close(nodes[1]);
            node_open(nodes[1]);
        }
    }
    assert_true(position_of(nodes[0]).state_hash == position_of(nodes[1]).state_hash);
    node_free(nodes[0]);
    node_free(nodes[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_keys_of_a_command_share_one_revision),
        cmocka_unit_test(commands_of_an_entry_are_applied_in_order_with_a_result_each),
        cmocka_unit_test(deleting_an_absent_key_succeeds_and_takes_a_revision),
        cmocka_unit_test(an_entry_that_does_not_decode_applies_nothing),
        cmocka_unit_test(a_member_whose_text_is_no_member_spoils_the_whole_entry),
        cmocka_unit_test(a_member_is_found_under_its_id_until_it_is_removed),
        cmocka_unit_test(repeating_a_member_command_changes_nothing),
        cmocka_unit_test(a_full_member_table_refuses_without_failing),
        cmocka_unit_test(the_first_cluster_id_stays),
        cmocka_unit_test(members_and_cluster_id_are_there_after_a_restart),
        cmocka_unit_test(a_reset_leaves_one_member_under_another_id),
        cmocka_unit_test(user_keys_and_bookkeeping_do_not_meet),
        cmocka_unit_test(two_nodes_that_apply_the_same_entries_are_equal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
