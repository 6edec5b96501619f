/* Any bytes either are refused or decode to commands that encode to the same bytes again; so do
 * those that are found compressed in them. */
#include "command/codec.h"
#include "command/compression.h"
#include "command/members.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void *encode_again(struct command_view *view, size_t *ret_bytes)
{
    struct command_op *ops = calloc(view->n_ops, sizeof(*ops));
    assert(ops != NULL);
    for (size_t i = 0; i < view->n_ops; i++)
        command_view_next(view, &ops[i]);
    size_t bytes = command_size(view->type, ops, view->n_ops);
    assert(bytes > 0);
    void *command = malloc(bytes);
    assert(command != NULL);
    command_encode(view->type, ops, view->n_ops, view->time_ms, command);
    if (view->type == COMMAND_MEMBER_SET) {
        struct command_member member;
        if (member_decode(command_id_decode(ops[0].key), ops[0].value, ops[0].value_len, &member) ==
            0) {
            char *text = member_encode(&member);
            struct command_member again;
            assert(text != NULL);
            assert(member_decode(member.raft_id, text, strlen(text), &again) == 0);
            assert(members_equal(&member, &again));
            free(text);
        }
    }
    free(ops);
    *ret_bytes = bytes;
    return command;
}

static void check_entry(const uint8_t *data, size_t size)
{
    struct command_entry_view view;
    if (command_entry_decode(data, size, &view) != 0)
        return;
    unsigned char *entry = malloc(size);
    assert(entry != NULL);
    struct command_entry_writer writer;
    command_entry_begin(&writer, entry);
    for (size_t i = 0; i < view.count; i++) {
        struct command_view command;
        command_entry_view_next(&view, &command);
        size_t bytes;
        void *encoded = encode_again(&command, &bytes);
        assert(command_entry_item_size(bytes) <= size - (size_t)(writer.next - entry));
        command_entry_add(&writer, encoded, bytes);
        free(encoded);
    }
    command_entry_end(&writer);
    assert((size_t)(writer.next - entry) == size);
    assert(memcmp(entry, data, size) == 0);
    free(entry);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct command_decompressor *decompressor;
    const void *entry = NULL;
    size_t bytes = 0;
    if (decompressor == NULL)
        decompressor = command_decompressor_new();
    assert(decompressor != NULL);
    if (command_entry_decompress(decompressor, data, size, &entry, &bytes) == 0)
        check_entry(entry, bytes);
    return 0;
}
