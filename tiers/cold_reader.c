/* Asynchronous reads of cold records: see cold.h.
 *
 * A submit takes a slot, acquires the segment's file and reads the blocks that cover the record
 * into the slot's buffer; short reads go on where they ended. The completion checks the record
 * against what was asked for and calls `done`, all inside cold_reader_reap or cold_reader_wait on
 * the reader's own thread. Bounded twice: by the depth, and by the bytes of all buffers.
 */
#include "cold_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Of the records under way together; a single one may always go. */
#define READER_BYTES_MAX (64u << 20)

/* A slot keeps a buffer up to this size for its next read. */
#define BUFFER_KEPT_MAX (64u << 10)

struct slot {
    struct cold_reader *reader;
    struct slot *next_free;
    struct uring_op op;

    struct cold_file *file;
    struct cold_location location;
    enum tiers_space space;
    const void *key; /* The caller's */
    size_t key_len;
    uint64_t mod_revision;
    cold_read_done done;
    void *owner;

    unsigned char *bytes; /* Aligned; the blocks from `offset` on */
    size_t capacity;
    uint64_t offset;
    uint32_t length;   /* To read */
    uint32_t progress; /* Already read */
    unsigned tries;    /* Without progress */
};

struct cold_reader {
    struct cold *cold;
    struct uring *ring;
    struct cold_codec *codec;
    uint32_t depth;
    uint32_t under_way;
    uint64_t bytes_under_way;
    unsigned finished; /* Reads ever finished; wraps */
    bool delivering;   /* Inside `done` */
    bool closing;
    struct slot *free;
    /* One more than the depth: `done` may submit while its own slot still holds the item. */
    struct slot slots[];
};

int cold_reader_open(struct cold *cold, int event_fd, struct cold_reader **ret_reader)
{
    size_t n_slots = (size_t)cold->read_depth + 1;
    struct cold_reader *reader = calloc(1, sizeof *reader + n_slots * sizeof *reader->slots);
    if (reader == NULL)
        return TIERS_NO_MEMORY;
    reader->cold = cold;
    reader->depth = cold->read_depth;
    for (size_t i = 0; i < n_slots; i++) {
        reader->slots[i].reader = reader;
        reader->slots[i].next_free = reader->free;
        reader->free = &reader->slots[i];
    }
    int status = TIERS_NO_MEMORY;
    reader->codec = cold_codec_new();
    if (reader->codec == NULL)
        goto fail;
    /* Its sentence was told by cold_open, which needs a ring too. */
    char error_text[1];
    status = uring_open(reader->depth, event_fd, &reader->ring, error_text, sizeof error_text);
    if (status != 0)
        goto fail;
    *ret_reader = reader;
    return 0;

fail:
    cold_codec_free(reader->codec);
    free(reader);
    return status;
}

void cold_reader_close(struct cold_reader *reader)
{
    assert(!reader->delivering);
    reader->closing = true;
    while (reader->under_way > 0 && uring_wait(reader->ring) >= 0)
        ;
    /* If the ring failed the kernel may still write to the buffers: they are rather leaked. */
    if (!uring_close(reader->ring))
        return;
    for (size_t i = 0; i <= reader->depth; i++)
        free(reader->slots[i].bytes);
    cold_codec_free(reader->codec);
    free(reader);
}

/* ----------------------------------------------------------------------------------- completing */

/* Whether the record that was read is the one that was asked for. */
static int slot_check(struct slot *slot, struct cold_item *ret_item)
{
    struct cold_item item = {.location = slot->location};
    int status = cold_record_decode(slot->reader->codec,
                                    slot->bytes + (slot->location.offset - slot->offset),
                                    slot->location.bytes, &item);
    if (status != 0)
        return status;
    if (item.space != slot->space || item.key_len != slot->key_len ||
        item.meta.mod_revision != slot->mod_revision ||
        memcmp(item.key, slot->key, slot->key_len) != 0)
        return TIERS_CORRUPT;
    *ret_item = item;
    return 0;
}

static void slot_finish(struct slot *slot, int status)
{
    struct cold_reader *reader = slot->reader;
    struct cold_item item;
    if (reader->closing)
        status = TIERS_STOPPED;
    if (status == 0)
        status = slot_check(slot, &item);
    cold_files_release(&reader->cold->files, slot->file);
    reader->under_way--;
    reader->bytes_under_way -= slot->length;
    reader->finished++;

    reader->delivering = true;
    slot->done(slot->owner, status, status == 0 ? &item : NULL);
    reader->delivering = false;

    if (slot->capacity > BUFFER_KEPT_MAX) {
        free(slot->bytes);
        slot->bytes = NULL;
        slot->capacity = 0;
    }
    slot->next_free = reader->free;
    reader->free = slot;
}

static void slot_read(struct uring_op *op);

static void slot_submit(struct slot *slot)
{
    slot->op = (struct uring_op){
        .kind = URING_READ,
        .fd = slot->file->fd,
        .buffer = slot->bytes + slot->progress,
        .length = slot->length - slot->progress,
        .offset = slot->offset + slot->progress,
        .done = slot_read,
        .owner = slot,
    };
    uring_submit(slot->reader->ring, &slot->op);
}

static void slot_read(struct uring_op *op)
{
    struct slot *slot = op->owner;
    if (op->result > 0) {
        uint64_t progress = (uint64_t)slot->progress + (uint32_t)op->result;
        if (slot->offset + progress >= slot->location.offset + slot->location.bytes) {
            slot_finish(slot, 0);
            return;
        }
        progress = cold_align_down(progress);
        if (progress > slot->progress)
            slot->tries = 0;
        slot->progress = (uint32_t)progress;
    } else if (op->result == 0) {
        /* The file ends within the record. */
        slot_finish(slot, TIERS_CORRUPT);
        return;
    } else if (op->result == -EINVAL) {
        cold_files_refuse_direct(&slot->reader->cold->files, op->fd);
    } else if (op->result != -EAGAIN && op->result != -EINTR) {
        slot_finish(slot, uring_status(op->result));
        return;
    }
    if (++slot->tries == COLD_TRIES_MAX)
        slot_finish(slot, TIERS_IO);
    else
        slot_submit(slot);
}

unsigned cold_reader_reap(struct cold_reader *reader)
{
    assert(!reader->delivering);
    unsigned before = reader->finished;
    (void)uring_reap(reader->ring);
    return reader->finished - before;
}

unsigned cold_reader_wait(struct cold_reader *reader)
{
    assert(!reader->delivering);
    unsigned before = reader->finished;
    while (reader->under_way > 0 && reader->finished == before)
        if (uring_wait(reader->ring) < 0)
            break;
    return reader->finished - before;
}

/* ----------------------------------------------------------------------------------- submitting */

static int slot_reserve(struct slot *slot, size_t size)
{
    if (slot->capacity >= size)
        return 0;
    unsigned char *bytes = aligned_alloc(COLD_BLOCK_BYTES, size);
    if (bytes == NULL)
        return TIERS_NO_MEMORY;
    free(slot->bytes);
    slot->bytes = bytes;
    slot->capacity = size;
    return 0;
}

static bool location_possible(const struct cold_location *location, uint64_t file_bytes)
{
    return location->offset >= COLD_BLOCK_BYTES && location->bytes >= COLD_RECORD_HEADER_BYTES &&
           location->bytes <= COLD_RECORD_BYTES_MAX && location->offset <= file_bytes &&
           location->bytes <= file_bytes - location->offset;
}

int cold_reader_submit(struct cold_reader *reader, const struct cold_location *location,
                       enum tiers_space space, const void *key, size_t key_len,
                       uint64_t mod_revision, cold_read_done done, void *owner)
{
    if (reader->under_way == reader->depth)
        return TIERS_BUSY;
    struct cold_file *file = NULL;
    uint64_t file_bytes = 0;
    int status = cold_files_acquire(&reader->cold->files, location->segment, &file, &file_bytes);
    if (status != 0)
        return status;

    struct slot *slot = reader->free;
    assert(slot != NULL);
    uint64_t offset = cold_align_down(location->offset);
    uint64_t length = cold_align_up(location->offset + location->bytes) - offset;
    if (!location_possible(location, file_bytes))
        status = TIERS_CORRUPT;
    else if (reader->under_way > 0 && reader->bytes_under_way + length > READER_BYTES_MAX)
        status = TIERS_BUSY;
    else
        status = slot_reserve(slot, (size_t)length);
    if (status != 0) {
        cold_files_release(&reader->cold->files, file);
        return status;
    }
    reader->free = slot->next_free;
    slot->file = file;
    slot->location = *location;
    slot->space = space;
    slot->key = key;
    slot->key_len = key_len;
    slot->mod_revision = mod_revision;
    slot->done = done;
    slot->owner = owner;
    slot->offset = offset;
    slot->length = (uint32_t)length;
    slot->progress = 0;
    slot->tries = 0;
    reader->under_way++;
    reader->bytes_under_way += length;
    slot_submit(slot);
    return 0;
}
