#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "command/codec.h"

#include <stdlib.h>
#include <string.h>

static const struct command_op put_foo = {.type = COMMAND_OP_PUT,
                                          .key = "foo",
                                          .key_len = 3,
                                          .value = "bar",
                                          .value_len = 3,
                                          .flags = 7,
                                          .expires_ms = 9};
static const struct command_op delete_x = {.type = COMMAND_OP_DELETE, .key = "x\0y", .key_len = 3};

/* malloc'ed to the byte, so that a sanitizer sees every read past the end. */
static unsigned char *encode(enum command_type type, const struct command_op *ops, size_t n_ops,
                             size_t *ret_bytes)
{
    *ret_bytes = command_size(type, ops, n_ops);
    assert_true(*ret_bytes > 0);
    unsigned char *command = malloc(*ret_bytes);
    assert_non_null(command);
    command_encode(type, ops, n_ops, 1234567890123, command);
    return command;
}

static unsigned char *entry_of_two(size_t *ret_bytes)
{
    const struct command_op ops[] = {put_foo, delete_x};
    size_t bytes[2];
    unsigned char *commands[2] = {encode(COMMAND_WRITE, ops, 2, &bytes[0]),
                                  encode(COMMAND_WRITE, &ops[1], 1, &bytes[1])};
    *ret_bytes = command_entry_begin_size() + command_entry_item_size(bytes[0]) +
                 command_entry_item_size(bytes[1]);
    unsigned char *entry = malloc(*ret_bytes);
    assert_non_null(entry);
    struct command_entry_writer writer;
    command_entry_begin(&writer, entry);
    command_entry_add(&writer, commands[0], bytes[0]);
    command_entry_add(&writer, commands[1], bytes[1]);
    command_entry_end(&writer);
    assert_ptr_equal(writer.next, entry + *ret_bytes);
    free(commands[0]);
    free(commands[1]);
    return entry;
}

static void assert_op_equal(const struct command_op *a, const struct command_op *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->key_len, b->key_len);
    assert_memory_equal(a->key, b->key, a->key_len);
    assert_int_equal(a->value_len, b->value_len);
    if (a->value_len > 0)
        assert_memory_equal(a->value, b->value, a->value_len);
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(a->expires_ms, b->expires_ms);
}

static void what_was_encoded_is_decoded(void **unused)
{
    (void)unused;
    size_t bytes;
    unsigned char *entry = entry_of_two(&bytes);
    assert_int_equal(bytes % 8, 0);
    struct command_entry_view view;
    assert_int_equal(command_entry_decode(entry, bytes, &view), 0);
    assert_int_equal(view.count, 2);
    struct command_view command;
    struct command_op op;
    command_entry_view_next(&view, &command);
    assert_int_equal(command.type, COMMAND_WRITE);
    assert_int_equal(command.n_ops, 2);
    assert_int_equal(command.time_ms, 1234567890123);
    command_view_next(&command, &op);
    assert_op_equal(&op, &put_foo);
    command_view_next(&command, &op);
    assert_op_equal(&op, &delete_x);
    command_entry_view_next(&view, &command);
    assert_int_equal(command.n_ops, 1);
    command_view_next(&command, &op);
    assert_op_equal(&op, &delete_x);
    free(entry);
}

static void the_format_on_disk_is_as_documented(void **unused)
{
    (void)unused;
    static const unsigned char expected[] = {
        'T',  'K',  'V',  '1',  1,    0,    0, 0, /* entry: magic, count */
        46,   0,    0,    0,                      /* bytes of the command */
        1,    0,    1,    0,    0,    0,    0, 0, /* type, op count, zero */
        0xcb, 0x04, 0xfb, 0x71, 0x1f, 0x01, 0, 0, /* time_ms */
        1,    0,    3,    0,    3,    0,    0, 0, /* op, key_len, value_len */
        7,    0,    0,    0,    0,    0,    0, 0, 9, 0, 0, 0, 0, 0, 0, 0, /* flags, expires_ms */
        'f',  'o',  'o',  'b',  'a',  'r',  0, 0, 0, 0, 0, 0,             /* key, value, padding */
    };
    unsigned char entry[64];
    memset(entry, 0xee, sizeof(entry));
    size_t bytes;
    unsigned char *command = encode(COMMAND_WRITE, &put_foo, 1, &bytes);
    struct command_entry_writer writer;
    command_entry_begin(&writer, entry);
    command_entry_add(&writer, command, bytes);
    command_entry_end(&writer);
    assert_int_equal(writer.next - entry, sizeof(expected));
    assert_memory_equal(entry, expected, sizeof(expected));
    free(command);
}

static void an_entry_cut_anywhere_is_refused(void **unused)
{
    (void)unused;
    size_t bytes;
    unsigned char *entry = entry_of_two(&bytes);
    for (size_t cut = 0; cut < bytes; cut++) {
        unsigned char *part = malloc(cut + (cut == 0));
        assert_non_null(part);
        memcpy(part, entry, cut);
        struct command_entry_view view;
        assert_int_equal(command_entry_decode(part, cut, &view), TIERS_CORRUPT);
        free(part);
    }
    free(entry);
}

static void an_entry_with_something_behind_it_is_refused(void **unused)
{
    (void)unused;
    size_t bytes;
    unsigned char *entry = entry_of_two(&bytes);
    unsigned char *longer = calloc(1, bytes + 8);
    assert_non_null(longer);
    memcpy(longer, entry, bytes);
    struct command_entry_view view;
    assert_int_equal(command_entry_decode(longer, bytes + 8, &view), TIERS_CORRUPT);
    free(longer);
    free(entry);
}

/* Calls command_entry_decode with one byte of a good entry replaced. */
static int decode_with(size_t offset, unsigned char value)
{
    size_t bytes;
    unsigned char *entry = entry_of_two(&bytes);
    assert_true(offset < bytes);
    assert_int_not_equal(entry[offset], value);
    entry[offset] = value;
    struct command_entry_view view;
    int error = command_entry_decode(entry, bytes, &view);
    free(entry);
    return error;
}

static void damage_to_any_fixed_byte_is_found(void **unused)
{
    (void)unused;
    static const struct {
        const char *what;
        size_t offset;
        unsigned char value;
    } cases[] = {
        {"magic", 0, 'X'},
        {"too many commands", 4, 3},
        {"too few commands", 4, 1},
        {"command length that leaves no room", 11, 0xff},
        {"unknown command type", 12, 9},
        {"command type 0", 12, 0},
        {"type of another kind of command", 12, COMMAND_MEMBER_SET},
        {"reserved byte of a command", 13, 1},
        {"no operation", 14, 0},
        {"more operations than there are", 14, 3},
        {"more operations than are allowed", 15, 0xff},
        {"reserved word of a command", 16, 1},
        {"unknown operation", 28, 3},
        {"reserved byte of an operation", 29, 1},
        {"empty key", 30, 0},
        {"key longer than the limit", 31, 2},
        {"value longer than the command", 32, 200},
        {"value longer than the limit", 35, 0xff},
        {"flags of a delete", 28 + 24 + 6 + 8, 1},
        {"expiry of a delete", 28 + 24 + 6 + 16, 1},
        {"delete with a value", 28 + 24 + 6 + 4, 1},
        {"padding", 12 + 16 + 24 + 6 + 24 + 3, 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (decode_with(cases[i].offset, cases[i].value) != TIERS_CORRUPT)
            fail_msg("not found: %s", cases[i].what);
    }
}

static void sizes_out_of_range_are_not_encoded(void **unused)
{
    (void)unused;
    char key[TIERS_KEY_BYTES_MAX + 1] = {0};
    struct command_op op = {.type = COMMAND_OP_PUT, .key = key, .key_len = TIERS_KEY_BYTES_MAX};
    assert_true(command_size(COMMAND_WRITE, &op, 1) > 0);
    op.key_len = TIERS_KEY_BYTES_MAX + 1;
    assert_int_equal(command_size(COMMAND_WRITE, &op, 1), 0);
    op.key_len = 0;
    assert_int_equal(command_size(COMMAND_WRITE, &op, 1), 0);
    op.key_len = 1;
    op.value_len = TIERS_VALUE_BYTES_MAX;
    assert_true(command_size(COMMAND_WRITE, &op, 1) > TIERS_VALUE_BYTES_MAX);
    op.value_len = TIERS_VALUE_BYTES_MAX + 1;
    assert_int_equal(command_size(COMMAND_WRITE, &op, 1), 0);
    op.value_len = SIZE_MAX;
    assert_int_equal(command_size(COMMAND_WRITE, &op, 1), 0);
    op.type = COMMAND_OP_DELETE;
    op.value_len = 1;
    assert_int_equal(command_size(COMMAND_WRITE, &op, 1), 0);
}

static void counts_out_of_range_are_not_encoded(void **unused)
{
    (void)unused;
    struct command_op *ops = calloc(COMMAND_OPS_MAX + 1, sizeof(*ops));
    assert_non_null(ops);
    for (size_t i = 0; i < COMMAND_OPS_MAX + 1; i++)
        ops[i] = delete_x;
    assert_true(command_size(COMMAND_WRITE, ops, COMMAND_OPS_MAX) > 0);
    assert_int_equal(command_size(COMMAND_WRITE, ops, COMMAND_OPS_MAX + 1), 0);
    assert_int_equal(command_size(COMMAND_WRITE, ops, 0), 0);
    /* All values at their limit would not fit into the 32 bits of a command's length. */
    for (size_t i = 0; i < COMMAND_OPS_MAX; i++) {
        ops[i].type = COMMAND_OP_PUT;
        ops[i].value_len = TIERS_VALUE_BYTES_MAX;
    }
    assert_int_equal(command_size(COMMAND_WRITE, ops, COMMAND_OPS_MAX), 0);
    free(ops);
}

static void a_command_of_the_most_operations_comes_back(void **unused)
{
    (void)unused;
    struct command_op *ops = calloc(COMMAND_OPS_MAX, sizeof(*ops));
    assert_non_null(ops);
    for (size_t i = 0; i < COMMAND_OPS_MAX; i++)
        ops[i] = i % 2 == 0 ? put_foo : delete_x;
    size_t bytes;
    unsigned char *command = encode(COMMAND_WRITE, ops, COMMAND_OPS_MAX, &bytes);
    struct command_view view;
    assert_int_equal(command_decode(command, bytes, &view), 0);
    assert_int_equal(view.n_ops, COMMAND_OPS_MAX);
    for (size_t i = 0; i < view.n_ops; i++) {
        struct command_op op;
        command_view_next(&view, &op);
        assert_op_equal(&op, &ops[i]);
    }
    free(command);
    free(ops);
}

static void a_member_command_without_an_id_is_not_made(void **unused)
{
    (void)unused;
    struct command_member member = {.name = "n", .http_address = "a:1", .raft_address = "a:2"};
    size_t bytes;
    assert_null(command_member_set(&member, 0, &bytes));
    assert_null(command_member_remove(0, 0, &bytes));
    assert_null(command_cluster_init(0, 0, &bytes));
    member.raft_id = 1;
    void *command = command_member_set(&member, 0, &bytes);
    struct command_view view;
    assert_non_null(command);
    assert_int_equal(command_decode(command, bytes, &view), 0);
    free(command);
    member.name[0] = '\xff'; /* JSON cannot carry it */
    assert_null(command_member_set(&member, 0, &bytes));
    member.name[0] = '\0';
    assert_null(command_member_set(&member, 0, &bytes));
}

static void an_empty_entry_decodes_to_no_command(void **unused)
{
    (void)unused;
    unsigned char entry[8];
    struct command_entry_writer writer;
    struct command_entry_view view;
    assert_int_equal(command_entry_begin_size(), sizeof(entry));
    command_entry_begin(&writer, entry);
    command_entry_end(&writer);
    assert_int_equal(command_entry_decode(entry, sizeof(entry), &view), 0);
    assert_int_equal(view.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_encoded_is_decoded),
        cmocka_unit_test(the_format_on_disk_is_as_documented),
        cmocka_unit_test(an_entry_cut_anywhere_is_refused),
        cmocka_unit_test(an_entry_with_something_behind_it_is_refused),
        cmocka_unit_test(damage_to_any_fixed_byte_is_found),
        cmocka_unit_test(sizes_out_of_range_are_not_encoded),
        cmocka_unit_test(counts_out_of_range_are_not_encoded),
        cmocka_unit_test(a_command_of_the_most_operations_comes_back),
        cmocka_unit_test(a_member_command_without_an_id_is_not_made),
        cmocka_unit_test(an_empty_entry_decodes_to_no_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
