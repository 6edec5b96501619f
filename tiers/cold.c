/* The cold tier's writing side: see cold.h.
 *
 * A record gets the next offset of the active segment and is encoded into the filling one of a few
 * large buffers (cold_write.c), which are written while the next ones fill. cold_sync pads the
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

/* A larger scratch buffer is given back after the append that needed it. */
#define SCRATCH_KEPT_MAX ((size_t)2 * COLD_BUFFER_BYTES)

/* A dictionary may take this part of a segment at most. */
#define DICTIONARY_SHARE 32

/* How many of the newest segments are looked at for a dictionary at open. */
#define DICTIONARY_LOOKS_MAX 16

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

uint64_t cold_appended_bytes(const struct cold *cold)
{
    return cold->appended_bytes;
}

/* ------------------------------------------------------------------------------ open and close */

/* Goes on with the dictionary of the newest segment that has one. Without one it can still work. */
static void dictionary_find(struct cold *cold)
{
    const struct cold_files *files = &cold->files;
    for (size_t i = files->n; i > 0 && files->n - i < DICTIONARY_LOOKS_MAX; i--) {
        struct cold_file *file = NULL;
        uint64_t bytes;
        if (cold_files_acquire(&cold->files, files->items[i - 1]->id, &file, &bytes) != 0)
            continue;
        int status =
            cold_dictionaries_get(&cold->dictionaries, &cold->files, file, 0, &cold->dictionary);
        cold_files_release(&cold->files, file);
        if (status == 0)
            return;
    }
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

    cold_dictionaries_open(&cold->dictionaries);
    int status = cold_write_open(cold, error_text, error_text_size);
    if (status == 0)
        status = cold_files_open(&cold->files, options->directory, options->direct_io, known,
                                 n_known, error_text, error_text_size);
    if (status != 0) {
        cold_write_close(cold);
        cold_dictionaries_close(&cold->dictionaries);
        free(cold);
        return status;
    }
    dictionary_find(cold);
    *ret_cold = cold;
    return 0;
}

void cold_close(struct cold *cold)
{
    cold_abandon(cold);
    cold_write_close(cold);
    cold_files_close(&cold->files);
    cold_dictionary_release(cold->dictionary);
    cold_dictionaries_close(&cold->dictionaries);
    free(cold);
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
    int status = cold_write_flush(cold);
    if (status == 0)
        status = cold_write_drain(cold);
    if (status == 0)
        status = fsync_descriptor(cold, cold->active_fd, "a cold segment");
    if (status == 0)
        cold->touched[cold->n_touched - 1].bytes = cold_write_end(cold);
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
    cold_dictionary_release(cold->active_dictionary);
    cold->active_dictionary = NULL;
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
    touched_add(cold, cold->active);
    if (cold->dictionary != NULL &&
        cold->segment_bytes / DICTIONARY_SHARE >= cold->dictionary->n_bytes) {
        cold_dictionary_retain(cold->dictionary);
        cold->active_dictionary = cold->dictionary;
    }
    cold_write_begin(cold);
    return 0;
}

/* Sees to it that there is an active segment with room, which is among the touched. */
static int active_prepare(struct cold *cold)
{
    bool full = cold->active != NULL && cold_write_end(cold) >= cold->segment_bytes;
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
        active_close(cold, cold_write_end(cold));
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

    size_t n_bytes_max = cold_record_bytes_max(key_len, value_len);
    int status = active_prepare(cold);
    if (cold->stopped)
        return TIERS_STOPPED;
    if (status != 0)
        return status;
    unsigned char *room = cold_write_room(cold, n_bytes_max);
    if (room == NULL)
        status = scratch_reserve(cold, n_bytes_max);
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
    size_t n_bytes = cold_record_encode(cold->codec, &item, cold->active_dictionary,
                                        room != NULL ? room : cold->scratch);
    cold_samples_add(cold->samples, value, value_len);
    struct cold_location location = {
        .segment = cold->active->id,
        .offset = cold_write_end(cold),
        .bytes = (uint32_t)n_bytes,
    };
    status = room != NULL ? cold_write_take(cold, n_bytes)
                          : cold_write_put(cold, cold->scratch, n_bytes);
    if (cold->scratch_size > SCRATCH_KEPT_MAX) {
        free(cold->scratch);
        cold->scratch = NULL;
        cold->scratch_size = 0;
    }
    if (status != 0)
        return status;
    cold->appended_bytes += n_bytes;
    *ret_location = location;
    return 0;
}

void cold_flush(struct cold *cold)
{
    if (!cold->stopped && cold->failure == 0 && active_touched(cold))
        (void)cold_write_flush(cold);
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
    if (cold->active != NULL && cold_write_end(cold) >= cold->segment_bytes)
        active_close(cold, cold_write_end(cold));
    return 0;
}

void cold_sweep(struct cold *cold)
{
    cold_files_sweep(&cold->files);
}

void cold_rest(struct cold *cold)
{
    if (!cold->stopped && cold->failure == 0)
        cold_write_rest(cold);
}

void cold_abandon(struct cold *cold)
{
    (void)cold_write_drain(cold);
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

uint64_t cold_segment_after(struct cold *cold, uint64_t id)
{
    return cold_files_after(&cold->files, id, cold->active != NULL ? cold->active->id : 0);
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
        (void)cold_write_drain(cold);
        active_close(cold, cold->active->bytes);
    }
    touched_remove(cold, id);
    if (cold_files_delete(&cold->files, id) && !cold->stopped)
        (void)fsync_descriptor(cold, cold->files.directory_fd, "the directory");
}

/* ----------------------------------------------------------------------------- the dictionary */

bool cold_dictionary_due(const struct cold *cold)
{
    return cold_samples_ready(cold->samples) &&
           cold->segment_bytes / DICTIONARY_SHARE >= COLD_DICTIONARY_BYTES_MAX;
}

int cold_dictionary_train(struct cold *cold, unsigned *ret_saved_percent)
{
    struct cold_dictionary *dictionary = NULL;
    int status =
        cold_samples_train(cold->samples, cold->dictionary, &dictionary, ret_saved_percent);
    if (status != 0)
        return status;
    cold_dictionaries_put(&cold->dictionaries, dictionary);
    cold_dictionary_release(cold->dictionary);
    cold->dictionary = dictionary;
    return 0;
}
