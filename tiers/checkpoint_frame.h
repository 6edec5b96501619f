/* The frames of a checkpoint's stream: a pure codec but for the caller's sink and source.
 *
 * A frame, integers little-endian:
 *   u32 type   u32 payload bytes   u64 XXH3-64 of the payload, seeded with type and number payload
 * Frames are numbered from 0, so that one that is lost, doubled or moved is noticed.
 */
#ifndef TIERS_CHECKPOINT_FRAME_H
#define TIERS_CHECKPOINT_FRAME_H

#include "tiers/checkpoint.h"

enum checkpoint_frame_type {
    CHECKPOINT_FRAME_BEGIN = 1, /* Magic, version, position */
    CHECKPOINT_FRAME_ROWS,      /* u32 table, then rows: u32 key bytes, u32 row bytes, key, row */
    CHECKPOINT_FRAME_SEGMENT,   /* u64 segment id, u64 offset, bytes of the file */
    CHECKPOINT_FRAME_HEAT,      /* u64 words of the whole sketch, u64 number of the first, words */
    CHECKPOINT_FRAME_END,       /* u64 rows */
};

#define CHECKPOINT_MAGIC             "TKVSTAT" /* With its zero */
#define CHECKPOINT_VERSION           1
#define CHECKPOINT_BEGIN_BYTES       40 /* Magic, u64 version, index, revision, state hash */
#define CHECKPOINT_ROWS_PREFIX_BYTES 4
#define CHECKPOINT_ROW_BYTES         8 /* Beside key and row */

/* Frames aim at this size; a row that is larger gets one of its own. */
#define CHECKPOINT_FRAME_BYTES 262144u
/* None is larger: a value of the largest size and what stands around it. */
#define CHECKPOINT_FRAME_BYTES_MAX (TIERS_VALUE_BYTES_MAX + 65536u)

struct checkpoint_writer {
    tiers_checkpoint_sink sink;
    void *context;
    uint32_t number;
};
int checkpoint_frame_write(struct checkpoint_writer *writer, enum checkpoint_frame_type type,
                           const void *payload, size_t n);

/* Reads frames into a buffer of its own. Zero it but for source and context. */
struct checkpoint_reader {
    tiers_checkpoint_source source;
    void *context;
    uint32_t number;
    uint32_t type; /* Of the frame that was read last */
    unsigned char *payload;
    size_t n;
    size_t capacity;
};
/* 0; the source's code; TIERS_CORRUPT; TIERS_NO_MEMORY. */
int checkpoint_frame_read(struct checkpoint_reader *reader);
void checkpoint_reader_free(struct checkpoint_reader *reader);

#endif
