/* Scanning a whole segment, for compaction: see cold_segment_each in cold.h.
 *
 * A window of the file is kept in memory and moves forward in reads of COLD_BUFFER_BYTES; it grows
 * only for a record that is larger. A record that begins with a zero magic is the padding at the
 * end of a sync: it must be zeros up to the next block. Anything else that is no intact record ends
 * the scan with TIERS_CORRUPT. The callback may append to the cold tier meanwhile: the writes of
 * the appends overlap with the scan. Mover thread.
 */
#include "cold_internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct window {
    struct cold *cold;
    struct cold_file *file;
    uint64_t file_bytes;
    unsigned char *bytes; /* Aligned to blocks */
    size_t capacity;
    uint64_t offset; /* Of bytes[0] in the file; a multiple of blocks */
    size_t length;
};

static int corrupt(const struct window *window, uint64_t offset, const char *what)
{
    return cold_fail(window->cold, TIERS_CORRUPT,
                     "cold segment %016" PRIx64 " in %s is damaged at offset %" PRIu64 ": %s",
                     window->file->id, window->cold->files.directory, offset, what);
}

/* Reads the blocks up to `end` (at most the capacity) that follow what the window holds. */
static int window_read(struct window *window, uint64_t end)
{
    struct cold *cold = window->cold;
    for (unsigned tries = 0; window->offset + window->length < end; tries++) {
        uint64_t from = window->offset + window->length;
        cold->run_op = (struct uring_op){
            .kind = URING_READ,
            .fd = window->file->fd,
            .buffer = window->bytes + window->length,
            .length = (uint32_t)(end - from),
            .offset = from,
        };
        int result = uring_run(cold->ring, &cold->run_op);
        if (cold->run_op.under_way) {
            cold->stopped = true;
            window->bytes = NULL; /* The kernel may still write to it */
            return cold_fail(cold, TIERS_IO, "io_uring failed: %s", strerror(-result));
        }
        if (result == 0)
            return corrupt(window, from, "the file ends there");
        if (result > 0) {
            size_t progress =
                from + (size_t)result < end ? cold_align_down((uint64_t)result) : (size_t)result;
            window->length += progress;
            if (progress > 0)
                tries = 0;
        } else if (result == -EINVAL) {
            cold_files_refuse_direct(&cold->files, window->file->fd);
        }
        bool again = result >= 0 || result == -EINVAL || result == -EAGAIN || result == -EINTR;
        if (!again || tries == COLD_TRIES_MAX)
            return cold_fail(cold, result < 0 ? uring_status(result) : TIERS_IO,
                             "cannot read cold segment %016" PRIx64 " in %s: %s", window->file->id,
                             cold->files.directory, strerror(result < 0 ? -result : EIO));
    }
    return 0;
}

static int window_grow(struct window *window, size_t capacity)
{
    unsigned char *bytes = aligned_alloc(COLD_BLOCK_BYTES, capacity);
    if (bytes == NULL)
        return cold_fail(window->cold, TIERS_NO_MEMORY, "out of memory to scan a cold segment");
    if (window->length > 0)
        memcpy(bytes, window->bytes, window->length);
    free(window->bytes);
    window->bytes = bytes;
    window->capacity = capacity;
    return 0;
}

/* Makes the window hold `need` bytes from `position` on, and returns where they are. */
static int window_hold(struct window *window, uint64_t position, size_t need,
                       const unsigned char **ret_bytes)
{
    if (position + need > window->file_bytes)
        return corrupt(window, position, "a record goes beyond the end");
    if (position + need > window->offset + window->length) {
        size_t skip = (size_t)(cold_align_down(position) - window->offset);
        assert(skip <= window->length);
        memmove(window->bytes, window->bytes + skip, window->length - skip);
        window->offset += skip;
        window->length -= skip;

        uint64_t end = cold_align_up(position + need);
        int status = 0;
        if (end - window->offset > window->capacity)
            status = window_grow(window, (size_t)(end - window->offset));
        if (status != 0)
            return status;
        end = window->offset + window->capacity;
        if (end > window->file_bytes)
            end = cold_align_up(window->file_bytes);
        status = window_read(window, end);
        if (status != 0)
            return status;
    }
    *ret_bytes = window->bytes + (position - window->offset);
    return 0;
}

static bool zeros(const unsigned char *bytes, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

/* If padding begins at `position`, moves it to the next block. */
static int padding_skip(struct window *window, uint64_t *position, bool *ret_skipped)
{
    const unsigned char *bytes = NULL;
    int status = window_hold(window, *position, COLD_RECORD_ALIGN, &bytes);
    if (status != 0)
        return status;
    bool skip = zeros(bytes, 4);
    if (skip) {
        uint64_t end = cold_align_up(*position);
        status = window_hold(window, *position, (size_t)(end - *position), &bytes);
        if (status != 0)
            return status;
        if (end == *position || !zeros(bytes, (size_t)(end - *position)))
            return corrupt(window, *position, "zeros where a record should be");
        *position = end;
    }
    *ret_skipped = skip;
    return 0;
}

static int record_next(struct window *window, uint64_t *position, struct cold_item *ret_item)
{
    const unsigned char *bytes = NULL;
    size_t n_bytes = 0;
    int status = window_hold(window, *position, COLD_RECORD_HEADER_BYTES, &bytes);
    if (status != 0)
        return status;
    if (cold_record_size(bytes, &n_bytes) != 0)
        return corrupt(window, *position, "no record header");
    status = window_hold(window, *position, n_bytes, &bytes);
    if (status != 0)
        return status;
    status = cold_record_decode(window->cold->codec, bytes, n_bytes, ret_item);
    if (status == TIERS_CORRUPT)
        return corrupt(window, *position, "the record's checksum is wrong");
    if (status != 0)
        return cold_fail(window->cold, status, "out of memory to scan a cold segment");
    ret_item->location = (struct cold_location){
        .segment = window->file->id, .offset = *position, .bytes = (uint32_t)n_bytes};
    *position += n_bytes;
    return 0;
}

static int header_check(struct window *window)
{
    const unsigned char *bytes = NULL;
    int status = window_hold(window, 0, COLD_BLOCK_BYTES, &bytes);
    if (status != 0)
        return status;
    status = cold_header_check(window->file->id, bytes);
    if (status == TIERS_VERSION)
        return cold_fail(window->cold, status,
                         "cold segment %016" PRIx64 " in %s has an unknown format version",
                         window->file->id, window->cold->files.directory);
    return status == 0 ? 0 : corrupt(window, 0, "no segment header");
}

int cold_segment_each(struct cold *cold, uint64_t id,
                      int (*each)(void *context, const struct cold_item *item), void *context)
{
    if (cold_segment_active(cold, id))
        return TIERS_INVALID;
    struct window window = {.cold = cold};
    int status = cold_files_acquire(&cold->files, id, &window.file, &window.file_bytes);
    if (status != 0)
        return cold_fail(cold, status, "cannot open cold segment %016" PRIx64 " in %s", id,
                         cold->files.directory);
    status = window_grow(&window, COLD_BUFFER_BYTES);
    if (status == 0)
        status = header_check(&window);

    uint64_t position = COLD_BLOCK_BYTES;
    while (status == 0 && position < window.file_bytes) {
        bool skipped = false;
        status = padding_skip(&window, &position, &skipped);
        if (status != 0 || skipped)
            continue;
        struct cold_item item;
        status = record_next(&window, &position, &item);
        if (status == 0)
            status = each(context, &item);
    }
    free(window.bytes);
    cold_files_release(&cold->files, window.file);
    return status;
}
