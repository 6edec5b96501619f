/* The buffers between appends and the active segment file.
 *
 * The happy path: records gather in the filling buffer; when it is full it is handed to the kernel
 * and the next one fills, so that several large writes are under way while records are encoded.
 * The buffers lie in one piece of memory. The first of them are pinned for the kernel and taken
 * first; the others are for work in a hurry, and their memory is given back after it.
 *
 * Failures: a short or interrupted write goes on at the last whole block. One that fails, or never
 * progresses, is kept in cold->failure and voids what came since the last sync (cold.c). If the
 * ring itself fails the cold tier is stopped for good. Mover thread, or in its place.
 */
#include "cold_internal.h"
#include "file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The buffers, a read or an fsync, and what the scans read ahead. */
#define RING_DEPTH (COLD_BUFFERS + 1 + COLD_SCANS_AHEAD_MAX * COLD_SCAN_READS_AHEAD)

_Static_assert(COLD_BUFFERS *COLD_BUFFER_BYTES % COLD_HUGE_PAGE_BYTES == 0, "for aligned_alloc");
_Static_assert(COLD_BUFFERS_KEPT *COLD_BUFFER_BYTES % COLD_HUGE_PAGE_BYTES == 0,
               "what is given back is whole pages");

/* Blocks are allocated this much at a time, so that segments lie in few pieces on the disk, and so
 * that the writes of a hurry wait seldom for the file system's journal. */
#define PREALLOCATE_BYTES ((uint64_t)64 << 20)

int cold_write_open(struct cold *cold, char *error_text, size_t error_text_size)
{
    size_t n_bytes = (size_t)COLD_BUFFERS * COLD_BUFFER_BYTES;
    cold->memory = aligned_alloc(COLD_HUGE_PAGE_BYTES, n_bytes);
    cold->codec = cold_codec_new();
    cold->samples = cold_samples_new();
    if (cold->memory == NULL || cold->codec == NULL || cold->samples == NULL) {
        snprintf(error_text, error_text_size, "out of memory for the cold tier's buffers");
        return TIERS_NO_MEMORY;
    }
    /* Advice: ordinary pages do, too. */
    (void)madvise(cold->memory, n_bytes, MADV_HUGEPAGE);
    for (size_t i = 0; i < COLD_BUFFERS; i++) {
        cold->buffers[i].cold = cold;
        cold->buffers[i].bytes = cold->memory + i * COLD_BUFFER_BYTES;
    }
    int status = uring_open(RING_DEPTH, -1, &cold->ring, error_text, error_text_size);
    if (status == 0)
        (void)uring_memory_register(cold->ring, cold->memory,
                                    (size_t)COLD_BUFFERS_KEPT * COLD_BUFFER_BYTES);
    return status;
}

void cold_write_close(struct cold *cold)
{
    /* Memory that the kernel may still read from is rather leaked than freed. */
    if (cold->ring == NULL || uring_close(cold->ring))
        free(cold->memory);
    cold_codec_free(cold->codec);
    cold_samples_free(cold->samples);
    free(cold->scratch);
}

uint64_t cold_write_end(const struct cold *cold)
{
    const struct cold_buffer *buffer = &cold->buffers[cold->filling];
    return buffer->offset + buffer->length;
}

static void buffer_reset(struct cold_buffer *buffer, uint64_t offset)
{
    assert(!buffer->op.under_way);
    buffer->offset = offset;
    buffer->length = 0;
    buffer->written = 0;
    buffer->tries = 0;
}

void cold_write_begin(struct cold *cold)
{
    cold->preallocated = 0;
    cold->filling = 0;
    struct cold_buffer *buffer = &cold->buffers[0];
    buffer_reset(buffer, 0);
    const struct cold_dictionary *dictionary = cold->active_dictionary;
    struct cold_header header = {0};
    buffer->length = COLD_BLOCK_BYTES;
    if (dictionary != NULL) {
        header.dictionary_bytes = dictionary->n_bytes;
        header.dictionary_checksum = dictionary->checksum;
        size_t padded = (size_t)cold_align_up(dictionary->n_bytes);
        memcpy(buffer->bytes + COLD_BLOCK_BYTES, dictionary->bytes, dictionary->n_bytes);
        memset(buffer->bytes + COLD_BLOCK_BYTES + dictionary->n_bytes, 0,
               padded - dictionary->n_bytes);
        buffer->length += (uint32_t)padded;
    }
    cold_header_write(cold->active->id, &header, buffer->bytes);
}

static void write_failed(struct cold *cold, int error)
{
    if (cold->failure == 0)
        cold->failure = cold_fail(cold, uring_status(error),
                                  "cannot write cold segment %016" PRIx64 " in %s: %s",
                                  cold->active->id, cold->files.directory, strerror(error));
}

static void buffer_written(struct uring_op *op);

static void buffer_submit(struct cold_buffer *buffer)
{
    struct cold *cold = buffer->cold;
    buffer->op = (struct uring_op){
        .kind = URING_WRITE,
        .fd = cold->active_fd,
        .buffer = buffer->bytes + buffer->written,
        .length = buffer->length - buffer->written,
        .offset = buffer->offset + buffer->written,
        .done = buffer_written,
        .owner = buffer,
    };
    uring_submit(cold->ring, &buffer->op);
}

static void buffer_written(struct uring_op *op)
{
    struct cold_buffer *buffer = op->owner;
    struct cold *cold = buffer->cold;
    if (op->result > 0) {
        uint32_t written = buffer->written + (uint32_t)op->result;
        assert(written <= buffer->length);
        /* Whatever is left must begin with a whole block again. */
        if (written < buffer->length)
            written = (uint32_t)cold_align_down(written);
        if (written > buffer->written)
            buffer->tries = 0;
        buffer->written = written;
        if (written == buffer->length)
            return;
    } else if (op->result == -EINVAL) {
        cold_files_refuse_direct(&cold->files, op->fd);
    } else if (op->result != 0 && op->result != -EAGAIN && op->result != -EINTR) {
        write_failed(cold, -op->result);
    }
    if (cold->failure != 0)
        return;
    if (++buffer->tries == COLD_TRIES_MAX)
        write_failed(cold, op->result < 0 ? -op->result : EIO);
    else
        buffer_submit(buffer);
}

/* Waits until something on its way has ended. False: the ring has failed. */
static bool ring_wait(struct cold *cold)
{
    int result = uring_wait(cold->ring);
    if (result < 0) {
        cold->stopped = true;
        cold->failure = cold_fail(cold, TIERS_IO, "io_uring failed: %s", strerror(-result));
    }
    return result >= 0;
}

int cold_write_drain(struct cold *cold)
{
    for (size_t i = 0; i < COLD_BUFFERS; i++) {
        while (cold->buffers[i].op.under_way && ring_wait(cold)) {
        }
    }
    return cold->failure;
}

/* The first buffer that is not being written, COLD_BUFFERS if all are. */
static unsigned buffer_free(const struct cold *cold)
{
    unsigned i = 0;
    while (i < COLD_BUFFERS && cold->buffers[i].op.under_way)
        i++;
    return i;
}

void cold_write_rest(struct cold *cold)
{
    struct cold_buffer *filling = &cold->buffers[cold->filling];
    /* Without an active segment what is buffered was given up. */
    bool buffered = cold->active != NULL && filling->length > 0;
    if (!cold->in_hurry || buffered || cold_write_drain(cold) != 0)
        return;
    if (cold->filling != 0) {
        buffer_reset(&cold->buffers[0], filling->offset);
        cold->filling = 0;
    }
    (void)madvise(cold->buffers[COLD_BUFFERS_KEPT].bytes,
                  (size_t)(COLD_BUFFERS - COLD_BUFFERS_KEPT) * COLD_BUFFER_BYTES, MADV_DONTNEED);
    cold->in_hurry = false;
}

/* Only a help for the file system: if it fails, writing goes on without it. The file grows by that,
 * too. A direct write beyond its end would have to be alone in the file, and waited for, so that
 * the others would queue behind it, however many the disk could take. */
static void preallocate(struct cold *cold, uint64_t end)
{
    if (end <= cold->preallocated)
        return;
    uint64_t target = cold->preallocated + PREALLOCATE_BYTES;
    if (target > cold_align_up(cold->segment_bytes))
        target = cold_align_up(cold->segment_bytes);
    if (target < end)
        target = end;
    if (file_allocate(cold->active_fd, 0, cold->preallocated, target - cold->preallocated) == 0)
        cold->preallocated = target;
    else
        cold->preallocated = UINT64_MAX;
}

int cold_write_flush(struct cold *cold)
{
    struct cold_buffer *buffer = &cold->buffers[cold->filling];
    if (buffer->length == 0)
        return cold->failure;
    uint32_t padded = (uint32_t)cold_align_up(buffer->length);
    memset(buffer->bytes + buffer->length, 0, padded - buffer->length);
    buffer->length = padded;
    preallocate(cold, buffer->offset + buffer->length);
    buffer_submit(buffer);

    uring_reap(cold->ring);
    unsigned filling = buffer_free(cold);
    while (filling == COLD_BUFFERS && ring_wait(cold))
        filling = buffer_free(cold);
    if (cold->failure != 0)
        return cold->failure;
    buffer_reset(&cold->buffers[filling], buffer->offset + buffer->length);
    cold->filling = filling;
    if (filling >= COLD_BUFFERS_KEPT)
        cold->in_hurry = true;
    return 0;
}

unsigned char *cold_write_room(struct cold *cold, size_t n_bytes)
{
    struct cold_buffer *buffer = &cold->buffers[cold->filling];
    return n_bytes <= COLD_BUFFER_BYTES - buffer->length ? buffer->bytes + buffer->length : NULL;
}

int cold_write_take(struct cold *cold, size_t n_bytes)
{
    struct cold_buffer *buffer = &cold->buffers[cold->filling];
    assert(n_bytes <= COLD_BUFFER_BYTES - buffer->length);
    buffer->length += (uint32_t)n_bytes;
    return buffer->length == COLD_BUFFER_BYTES ? cold_write_flush(cold) : 0;
}

int cold_write_put(struct cold *cold, const unsigned char *bytes, size_t n_bytes)
{
    while (n_bytes > 0) {
        struct cold_buffer *buffer = &cold->buffers[cold->filling];
        size_t part = COLD_BUFFER_BYTES - buffer->length;
        if (part > n_bytes)
            part = n_bytes;
        memcpy(buffer->bytes + buffer->length, bytes, part);
        bytes += part;
        n_bytes -= part;
        int status = cold_write_take(cold, part);
        if (status != 0)
            return status;
    }
    return 0;
}
