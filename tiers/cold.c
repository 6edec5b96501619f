/* The cold tier's writing side: see cold.h.
 *
 * A record is encoded, gets the next offset of the active segment, and is copied into the filling
 * one of two buffers. A full buffer is written while the other one fills. cold_sync pads the
 * partial buffer to a whole block, waits for the writes and fsyncs; the next record then begins
 * with the next block, so that bytes which were once synced are never written again.
 *
 * A failed write voids what came since the last sync: every further append and sync answers with
 * the same error until cold_abandon throws those records away. A failed fsync leaves it unknown
 * what is on the disk: everything answers TIERS_STOPPED from then on. All of it runs on the mover
 * thread, but for the two counters.
 */
#include "cold.h"

#include "cold_internal.h"
#include "file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Two writes, and a read or an fsync. */
#define RING_DEPTH 4

/* Blocks are allocated this much at a time, so that segments lie in few pieces on the disk. */
#define PREALLOCATE_BYTES ((uint64_t)16 << 20)

/* A larger scratch buffer is given back after the append that needed it. */
#define SCRATCH_KEPT_MAX ((size_t)2 * COLD_BUFFER_BYTES)

void cold_note(struct cold *cold, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(cold->error_text, sizeof cold->error_text, format, arguments);
    va_end(arguments);
}

const char *cold_error_text(const struct cold *cold)
{
    return cold->error_text;
}

int cold_segment_open(const struct cold *cold, uint64_t id, int *ret_fd)
{
    char name[COLD_NAME_BYTES];
    cold_name_print(id, name);
    int fd = file_open(cold->files.directory_fd, name, O_RDONLY, 0);
    if (fd < 0) {
        return errno == ENOENT ? TIERS_STALE : uring_status(errno);
    }
    *ret_fd = fd;
    return 0;
}

uint64_t cold_bytes(const struct cold *cold)
{
    return atomic_load(&cold->files.bytes);
}

uint64_t cold_segments(const struct cold *cold)
{
    return atomic_load(&cold->files.count);
}

/* ------------------------------------------------------------------------------ open and close */

static int writer_open(struct cold *cold, char *error_text, size_t error_text_size)
{
    for (size_t i = 0; i < 2; i++) {
        cold->buffers[i].cold = cold;
        cold->buffers[i].bytes = aligned_alloc(COLD_BLOCK_BYTES, COLD_BUFFER_BYTES);
    }
    cold->codec = cold_codec_new();
    if (cold->buffers[0].bytes == NULL || cold->buffers[1].bytes == NULL || cold->codec == NULL) {
        snprintf(error_text, error_text_size, "out of memory for the cold tier's buffers");
        return TIERS_NO_MEMORY;
    }
    return uring_open(RING_DEPTH, -1, &cold->ring, error_text, error_text_size);
}

static void writer_close(struct cold *cold)
{
    bool buffers_free = cold->ring == NULL || uring_close(cold->ring);
    /* Memory that the kernel may still read from is rather leaked than freed. */
    for (size_t i = 0; i < 2 && buffers_free; i++)
        free(cold->buffers[i].bytes);
    cold_codec_free(cold->codec);
    free(cold->scratch);
}

int cold_open(const struct cold_options *options, const struct cold_known *known, size_t n_known,
              uint64_t next_id, struct cold **ret_cold, char *error_text, size_t error_text_size)
{
    char unwanted[1];
    if (error_text == NULL) {
        error_text = unwanted;
        error_text_size = sizeof unwanted;
    }
    if (options->segment_bytes == 0 || options->read_depth == 0 ||
        options->read_depth > URING_DEPTH_MAX || options->read_queue > COLD_READ_QUEUE_MAX) {
        snprintf(error_text, error_text_size,
                 "the cold tier needs a segment size, and a read depth of 1 to %d",
                 URING_DEPTH_MAX);
        return TIERS_INVALID;
    }
    struct cold *cold = calloc(1, sizeof *cold);
    if (cold == NULL) {
        snprintf(error_text, error_text_size, "out of memory for the cold tier");
        return TIERS_NO_MEMORY;
    }
    cold->segment_bytes = options->segment_bytes;
    cold->read_depth = options->read_depth;
    cold->read_queue = options->read_queue;
    cold->active_fd = -1;
    cold->next_id = next_id == 0 ? 1 : next_id;
    for (size_t i = 0; i < n_known; i++)
        if (cold->next_id <= known[i].id)
            cold->next_id = known[i].id + 1;

    int status = writer_open(cold, error_text, error_text_size);
    if (status == 0)
        status = cold_files_open(&cold->files, options->directory, options->direct_io, known,
                                 n_known, error_text, error_text_size);
    if (status != 0) {
        writer_close(cold);
        free(cold);
        return status;
    }
    *ret_cold = cold;
    return 0;
}

void cold_close(struct cold *cold)
{
    cold_abandon(cold);
    writer_close(cold);
    cold_files_close(&cold->files);
    free(cold);
}

/* ----------------------------------------------------------------------------- writing buffers */

/* Where the next record goes. */
static uint64_t segment_end(const struct cold *cold)
{
    const struct cold_buffer *buffer = &cold->buffers[cold->filling];
    return buffer->offset + buffer->length;
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

/* Waits until `buffer` is not being written any more. */
static int buffer_wait(struct cold *cold, const struct cold_buffer *buffer)
{
    while (buffer->op.under_way) {
        int result = uring_wait(cold->ring);
        if (result < 0) {
            cold->stopped = true;
            cold->failure = cold_fail(cold, TIERS_IO, "io_uring failed: %s", strerror(-result));
            break;
        }
    }
    return cold->failure;
}

static int buffers_drain(struct cold *cold)
{
    (void)buffer_wait(cold, &cold->buffers[0]);
    return buffer_wait(cold, &cold->buffers[1]);
}

/* Only a help for the file system's layout: if it fails, writing goes on without it. */
static void preallocate(struct cold *cold, uint64_t end)
{
    if (end <= cold->preallocated)
        return;
    uint64_t target = cold->preallocated + PREALLOCATE_BYTES;
    if (target > cold_align_up(cold->segment_bytes))
        target = cold_align_up(cold->segment_bytes);
    if (target < end)
        target = end;
    if (file_allocate(cold->active_fd, FALLOC_FL_KEEP_SIZE, cold->preallocated,
                      target - cold->preallocated) == 0)
        cold->preallocated = target;
    else
        cold->preallocated = UINT64_MAX;
}

/* Starts writing the filling buffer, padded to whole blocks, and turns to the other one. */
static int buffer_flush(struct cold *cold)
{
    struct cold_buffer *buffer = &cold->buffers[cold->filling];
    if (buffer->length == 0)
        return cold->failure;
    uint32_t padded = (uint32_t)cold_align_up(buffer->length);
    memset(buffer->bytes + buffer->length, 0, padded - buffer->length);
    buffer->length = padded;
    preallocate(cold, buffer->offset + buffer->length);
    buffer_submit(buffer);

    struct cold_buffer *next = &cold->buffers[1 - cold->filling];
    int status = buffer_wait(cold, next);
    if (status != 0)
        return status;
    next->offset = buffer->offset + buffer->length;
    next->length = 0;
    next->written = 0;
    next->tries = 0;
    cold->filling = 1 - cold->filling;
    return 0;
}

static int buffers_put(struct cold *cold, const unsigned char *bytes, size_t n_bytes)
{
    while (n_bytes > 0) {
        struct cold_buffer *buffer = &cold->buffers[cold->filling];
        size_t part = COLD_BUFFER_BYTES - buffer->length;
        if (part > n_bytes)
            part = n_bytes;
        memcpy(buffer->bytes + buffer->length, bytes, part);
        buffer->length += (uint32_t)part;
        bytes += part;
        n_bytes -= part;
        if (buffer->length == COLD_BUFFER_BYTES) {
            int status = buffer_flush(cold);
            if (status != 0)
                return status;
        }
    }
    return 0;
}

/* --------------------------------------------------------------------------- the active segment */

static int fsync_descriptor(struct cold *cold, int fd, const char *what)
{
    cold->run_op = (struct uring_op){.kind = URING_FSYNC, .fd = fd};
    int result = uring_run(cold->ring, &cold->run_op);
    if (result >= 0)
        return 0;
    cold->stopped = true;
    cold->failure = cold_fail(cold, TIERS_IO, "fsync of %s in %s failed: %s", what,
                              cold->files.directory, strerror(-result));
    return cold->failure;
}

static bool active_touched(const struct cold *cold)
{
    return cold->n_touched > 0 && cold->touched[cold->n_touched - 1].file == cold->active;
}

/* Makes the active segment durable up to its end, if it grew. */
static int active_sync(struct cold *cold)
{
    if (!active_touched(cold))
        return 0;
    int status = buffer_flush(cold);
    if (status == 0)
        status = buffers_drain(cold);
    if (status == 0)
        status = fsync_descriptor(cold, cold->active_fd, "a cold segment");
    if (status == 0)
        cold->touched[cold->n_touched - 1].bytes = segment_end(cold);
    return status;
}

/* The active segment will not grow any more. Nothing of it is being written. */
static void active_close(struct cold *cold, uint64_t bytes)
{
    /* Gives back preallocated blocks; if that fails, the next open does it. */
    (void)file_truncate(cold->active_fd, bytes);
    (void)close(cold->active_fd);
    cold->active_fd = -1;
    cold->active = NULL;
}

static void touched_add(struct cold *cold, struct cold_file *file)
{
    assert(cold->n_touched < COLD_TOUCHED_MAX);
    cold->touched[cold->n_touched++] = (struct cold_touched){.file = file};
}

static int active_create(struct cold *cold)
{
    uint64_t id = cold->next_id++;
    int status = cold_files_create(&cold->files, id, &cold->active, &cold->active_fd);
    if (status != 0)
        return cold_fail(cold, status, "cannot create cold segment %016" PRIx64 " in %s", id,
                         cold->files.directory);
    cold->directory_changed = true;
    cold->preallocated = 0;
    touched_add(cold, cold->active);

    cold->filling = 0;
    struct cold_buffer *buffer = &cold->buffers[0];
    cold_header_write(id, buffer->bytes);
    buffer->offset = 0;
    buffer->length = COLD_BLOCK_BYTES;
    buffer->written = 0;
    buffer->tries = 0;
    return 0;
}

/* Sees to it that there is an active segment with room, which is among the touched. */
static int active_prepare(struct cold *cold)
{
    bool full = cold->active != NULL && segment_end(cold) >= cold->segment_bytes;
    bool ready = cold->active != NULL && !full;
    if (ready && active_touched(cold))
        return 0;
    if (cold->n_touched == COLD_TOUCHED_MAX)
        return TIERS_BUSY;
    if (ready) {
        touched_add(cold, cold->active);
        return 0;
    }
    if (full) {
        int status = active_sync(cold);
        if (status != 0)
            return status;
        active_close(cold, segment_end(cold));
    }
    return active_create(cold);
}

/* ---------------------------------------------------------------------------- append, sync,
 * abandon */

static int scratch_reserve(struct cold *cold, size_t size)
{
    if (cold->scratch_size >= size)
        return 0;
    free(cold->scratch);
    cold->scratch_size = 0;
    cold->scratch = malloc(size);
    if (cold->scratch == NULL)
        return cold_fail(cold, TIERS_NO_MEMORY, "out of memory for a cold record");
    cold->scratch_size = size;
    return 0;
}

int cold_append(struct cold *cold, enum tiers_space space, const void *key, size_t key_len,
                const struct tiers_meta *meta, const void *value, size_t value_len,
                struct cold_location *ret_location)
{
    if (cold->stopped)
        return TIERS_STOPPED;
    if (cold->failure != 0)
        return cold->failure;
    if (key_len < 1 || key_len > TIERS_KEY_BYTES_MAX || value_len > TIERS_VALUE_BYTES_MAX)
        return TIERS_INVALID;

    int status = scratch_reserve(cold, cold_record_bytes_max(key_len, value_len));
    if (status == 0)
        status = active_prepare(cold);
    if (status != 0)
        return status;
    struct cold_item item = {
        .space = space,
        .key = key,
        .key_len = key_len,
        .meta = *meta,
        .value = value,
        .value_len = value_len,
    };
    size_t n_bytes = cold_record_encode(cold->codec, &item, cold->scratch);
    struct cold_location location = {
        .segment = cold->active->id,
        .offset = segment_end(cold),
        .bytes = (uint32_t)n_bytes,
    };
    status = buffers_put(cold, cold->scratch, n_bytes);
    if (cold->scratch_size > SCRATCH_KEPT_MAX) {
        free(cold->scratch);
        cold->scratch = NULL;
        cold->scratch_size = 0;
    }
    if (status != 0)
        return status;
    *ret_location = location;
    return 0;
}

int cold_sync(struct cold *cold, struct cold_known *touched, size_t *n)
{
    if (cold->stopped)
        return TIERS_STOPPED;
    if (cold->failure != 0)
        return cold->failure;
    if (cold->n_touched > *n)
        return TIERS_INVALID;

    int status = active_sync(cold);
    if (status == 0 && cold->directory_changed)
        status = fsync_descriptor(cold, cold->files.directory_fd, "the directory");
    if (status != 0)
        return status;
    cold->directory_changed = false;

    for (size_t i = 0; i < cold->n_touched; i++) {
        const struct cold_touched *grown = &cold->touched[i];
        cold_files_publish(&cold->files, grown->file, grown->bytes);
        touched[i] = (struct cold_known){.id = grown->file->id, .bytes = grown->bytes};
    }
    *n = cold->n_touched;
    cold->n_touched = 0;
    if (cold->active != NULL && segment_end(cold) >= cold->segment_bytes)
        active_close(cold, segment_end(cold));
    return 0;
}

void cold_abandon(struct cold *cold)
{
    (void)buffers_drain(cold);
    if (cold->active != NULL)
        active_close(cold, cold->active->bytes);
    for (size_t i = 0; i < cold->n_touched; i++) {
        const struct cold_file *file = cold->touched[i].file;
        if (file->bytes == 0)
            (void)cold_files_delete(&cold->files, file->id);
        else
            cold_files_cut(&cold->files, file);
    }
    cold->n_touched = 0;
    if (!cold->stopped)
        cold->failure = 0;
}

/* -------------------------------------------------------------------------------------- segments
 */

bool cold_segment_active(const struct cold *cold, uint64_t id)
{
    return cold->active != NULL && cold->active->id == id;
}

static void touched_remove(struct cold *cold, uint64_t id)
{
    for (size_t i = 0; i < cold->n_touched; i++) {
        if (cold->touched[i].file->id != id)
            continue;
        cold->n_touched--;
        memmove(cold->touched + i, cold->touched + i + 1,
                (cold->n_touched - i) * sizeof *cold->touched);
        return;
    }
}

void cold_segment_delete(struct cold *cold, uint64_t id)
{
    if (cold_segment_active(cold, id)) {
        (void)buffers_drain(cold);
        active_close(cold, cold->active->bytes);
    }
    touched_remove(cold, id);
    if (cold_files_delete(&cold->files, id) && !cold->stopped)
        (void)fsync_descriptor(cold, cold->files.directory_fd, "the directory");
}
