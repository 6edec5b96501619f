/* Writing the state as a stream: see include/tiers/checkpoint.h.
 *
 * First the rows of the index, from one snapshot, then the bytes of the cold segments up to the
 * sizes that the snapshot names. A sealed segment never changes and an active one only grows, and
 * none is deleted while a checkpoint is open (engine_exports_begin). The caller's thread; blocks.
 */
#include "tiers/checkpoint.h"

#include "checkpoint_frame.h"
#include "cold.h"
#include "engine.h"
#include "file.h"
#include "little_endian.h"
#include "warm_copy.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SEGMENT_PREFIX_BYTES 16
#define HEAT_WORDS_A_FRAME   4096

struct tiers_checkpoint {
    struct tiers *tiers;
    struct warm_copy *copy;
    struct checkpoint_writer writer;
    unsigned char *payload; /* Of the frame being filled */
    size_t n;
    uint64_t rows;
};

int tiers_checkpoint_open(struct tiers *tiers, struct tiers_checkpoint **ret_checkpoint)
{
    struct tiers_checkpoint *checkpoint = calloc(1, sizeof *checkpoint);
    if (checkpoint == NULL) {
        return TIERS_NO_MEMORY;
    }
    checkpoint->payload = malloc(CHECKPOINT_FRAME_BYTES);
    if (checkpoint->payload == NULL) {
        free(checkpoint);
        return TIERS_NO_MEMORY;
    }
    checkpoint->tiers = tiers;
    pthread_mutex_lock(&tiers->export_mutex);
    int error = warm_copy_open(tiers->warm, &checkpoint->copy);
    if (error == 0) {
        atomic_fetch_add(&tiers->exports, 1);
    }
    pthread_mutex_unlock(&tiers->export_mutex);
    if (error) {
        free(checkpoint->payload);
        free(checkpoint);
        return error;
    }
    *ret_checkpoint = checkpoint;
    return 0;
}

void tiers_checkpoint_close(struct tiers_checkpoint *checkpoint)
{
    warm_copy_close(checkpoint->copy);
    atomic_fetch_sub(&checkpoint->tiers->exports, 1);
    free(checkpoint->payload);
    free(checkpoint);
}

void tiers_checkpoint_position(const struct tiers_checkpoint *checkpoint,
                               struct tiers_position *ret_position)
{
    warm_copy_position(checkpoint->copy, ret_position);
}

static int begin_write(struct tiers_checkpoint *checkpoint)
{
    unsigned char payload[CHECKPOINT_BEGIN_BYTES] = CHECKPOINT_MAGIC;
    struct tiers_position position;
    warm_copy_position(checkpoint->copy, &position);
    little_endian_put(payload + 8, CHECKPOINT_VERSION, 8);
    little_endian_put(payload + 16, position.index, 8);
    little_endian_put(payload + 24, position.revision, 8);
    little_endian_put(payload + 32, position.state_hash, 8);
    return checkpoint_frame_write(&checkpoint->writer, CHECKPOINT_FRAME_BEGIN, payload,
                                  sizeof payload);
}

static int rows_flush(struct tiers_checkpoint *checkpoint)
{
    size_t n = checkpoint->n;
    checkpoint->n = 0;
    return n <= CHECKPOINT_ROWS_PREFIX_BYTES
               ? 0
               : checkpoint_frame_write(&checkpoint->writer, CHECKPOINT_FRAME_ROWS,
                                        checkpoint->payload, n);
}

static unsigned char *row_put(unsigned char *to, const void *key, size_t key_len, const void *row,
                              size_t row_len)
{
    little_endian_put(to, key_len, 4);
    little_endian_put(to + 4, row_len, 4);
    memcpy(to + CHECKPOINT_ROW_BYTES, key, key_len);
    memcpy(to + CHECKPOINT_ROW_BYTES + key_len, row, row_len);
    return to + CHECKPOINT_ROW_BYTES + key_len + row_len;
}

/* A frame for one row that fits into no other. */
static int row_write_alone(struct tiers_checkpoint *checkpoint, enum warm_copy_table table,
                           const void *key, size_t key_len, const void *row, size_t row_len)
{
    size_t n = CHECKPOINT_ROWS_PREFIX_BYTES + CHECKPOINT_ROW_BYTES + key_len + row_len;
    unsigned char *payload = malloc(n);
    if (payload == NULL) {
        return TIERS_NO_MEMORY;
    }
    little_endian_put(payload, table, CHECKPOINT_ROWS_PREFIX_BYTES);
    row_put(payload + CHECKPOINT_ROWS_PREFIX_BYTES, key, key_len, row, row_len);
    int error = checkpoint_frame_write(&checkpoint->writer, CHECKPOINT_FRAME_ROWS, payload, n);
    free(payload);
    return error;
}

static int row_write(struct tiers_checkpoint *checkpoint, enum warm_copy_table table,
                     const void *key, size_t key_len, const void *row, size_t row_len)
{
    size_t bytes = CHECKPOINT_ROW_BYTES + key_len + row_len;
    int error = 0;
    if (checkpoint->n + bytes > CHECKPOINT_FRAME_BYTES) {
        error = rows_flush(checkpoint);
    }
    if (error) {
        return error;
    }
    checkpoint->rows++;
    if (CHECKPOINT_ROWS_PREFIX_BYTES + bytes > CHECKPOINT_FRAME_BYTES) {
        return row_write_alone(checkpoint, table, key, key_len, row, row_len);
    }
    if (checkpoint->n == 0) {
        little_endian_put(checkpoint->payload, table, CHECKPOINT_ROWS_PREFIX_BYTES);
        checkpoint->n = CHECKPOINT_ROWS_PREFIX_BYTES;
    }
    unsigned char *end = row_put(checkpoint->payload + checkpoint->n, key, key_len, row, row_len);
    checkpoint->n = (size_t)(end - checkpoint->payload);
    return 0;
}

static int table_write(struct tiers_checkpoint *checkpoint, enum warm_copy_table table)
{
    const void *key;
    const void *row;
    size_t key_len;
    size_t row_len;
    int error = warm_copy_table(checkpoint->copy, table);
    while (error == 0 &&
           (error = warm_copy_next(checkpoint->copy, &key, &key_len, &row, &row_len)) == 0) {
        error = row_write(checkpoint, table, key, key_len, row, row_len);
    }
    return error == TIERS_NOT_FOUND ? rows_flush(checkpoint) : error;
}

/* The file up to `bytes`, in frames. */
static int segment_write(struct tiers_checkpoint *checkpoint, const struct warm_segment *segment)
{
    int fd = -1;
    int error = cold_segment_open(checkpoint->tiers->cold, segment->id, &fd);
    if (error) {
        return error;
    }
    for (uint64_t offset = 0; offset < segment->bytes && error == 0;) {
        uint64_t left = segment->bytes - offset;
        size_t room = CHECKPOINT_FRAME_BYTES - SEGMENT_PREFIX_BYTES;
        size_t wanted = left < room ? (size_t)left : room;
        ssize_t n = file_read(fd, checkpoint->payload + SEGMENT_PREFIX_BYTES, wanted, offset);
        if (n != (ssize_t)wanted) {
            error = n < 0 ? TIERS_IO : TIERS_CORRUPT;
            break;
        }
        little_endian_put(checkpoint->payload, segment->id, 8);
        little_endian_put(checkpoint->payload + 8, offset, 8);
        error = checkpoint_frame_write(&checkpoint->writer, CHECKPOINT_FRAME_SEGMENT,
                                       checkpoint->payload, SEGMENT_PREFIX_BYTES + wanted);
        offset += wanted;
    }
    close(fd);
    return error;
}

static int segments_write(struct tiers_checkpoint *checkpoint)
{
    const void *key;
    const void *row;
    size_t key_len;
    size_t row_len;
    int error = warm_copy_table(checkpoint->copy, WARM_COPY_SEGMENTS);
    while (error == 0 &&
           (error = warm_copy_next(checkpoint->copy, &key, &key_len, &row, &row_len)) == 0) {
        struct warm_segment segment;
        error = warm_copy_segment(key, key_len, row, row_len, &segment)
                    ? segment_write(checkpoint, &segment)
                    : TIERS_CORRUPT;
    }
    return error == TIERS_NOT_FOUND ? 0 : error;
}

/* Which keys are hot, so that the copy need not learn it anew. */
static int heat_write(struct tiers_checkpoint *checkpoint)
{
    const struct heat *heat = checkpoint->tiers->heat;
    uint64_t words[HEAT_WORDS_A_FRAME];
    size_t total = heat_words(heat);
    int error = 0;
    for (size_t first = 0; first < total && error == 0; first += HEAT_WORDS_A_FRAME) {
        size_t n = total - first < HEAT_WORDS_A_FRAME ? total - first : HEAT_WORDS_A_FRAME;
        heat_save(heat, first, words, n);
        little_endian_put(checkpoint->payload, total, 8);
        little_endian_put(checkpoint->payload + 8, first, 8);
        for (size_t i = 0; i < n; i++) {
            little_endian_put(checkpoint->payload + 16 + i * 8, words[i], 8);
        }
        error = checkpoint_frame_write(&checkpoint->writer, CHECKPOINT_FRAME_HEAT,
                                       checkpoint->payload, 16 + n * 8);
    }
    return error;
}

int tiers_checkpoint_write(struct tiers_checkpoint *checkpoint, tiers_checkpoint_sink sink,
                           void *context)
{
    unsigned char end[8];
    checkpoint->writer = (struct checkpoint_writer){.sink = sink, .context = context};
    checkpoint->n = 0;
    checkpoint->rows = 0;
    int error = begin_write(checkpoint);
    for (unsigned table = 0; table < WARM_COPY_TABLES && error == 0; table++) {
        error = table_write(checkpoint, (enum warm_copy_table)table);
    }
    if (error == 0) {
        error = segments_write(checkpoint);
    }
    if (error == 0) {
        error = heat_write(checkpoint);
    }
    little_endian_put(end, checkpoint->rows, 8);
    return error
               ? error
               : checkpoint_frame_write(&checkpoint->writer, CHECKPOINT_FRAME_END, end, sizeof end);
}
