/* One batch of the compaction of a segment, in two halves: preparing (scan, look up, append the
 * live records again, sync) and pointing (warm transactions).
 *
 * The halves of two batches may run at once. Whoever prepares owns the scan and the cold tier's
 * writing side; all else is the mover thread's. Batches of one segment do not meet: a record is
 * found once, and a batch changes only what points to its own. */
#ifndef TIERS_COMPACT_BATCH_H
#define TIERS_COMPACT_BATCH_H

#include "mover_private.h"

/* A record that was appended again. */
struct compact_moved {
    uint32_t key_at; /* In the batch's keys */
    uint16_t key_len;
    uint8_t space;
    uint64_t mod_revision;
    struct cold_location from;
    struct cold_location to;
};

enum compact_step { COMPACT_LOOK_UP, COMPACT_APPEND, COMPACT_SYNC };

struct compact_batch {
    struct mover *mover;
    struct warm_read *read;
    struct compact_moved *moved;
    size_t n;
    uint64_t bytes; /* Of these records, where they lay */
    unsigned char *keys;
    size_t keys_used;
    uint64_t scanned; /* Bytes that were read for it */
    unsigned damages; /* Places that the scan went on behind */
    char damage[256]; /* One sentence on the first, or on what ended the scan */
    /* How the scan ended. 0: the batch is full. TIERS_NOT_FOUND: the segment is at its end.
     * TIERS_CORRUPT: damage, unless it was to verify everything. Others: the scan cannot go on. */
    int scan_status;
    struct cold_known touched[COLD_TOUCHED_MAX]; /* Segments that grew */
    size_t n_touched;
    uint64_t appended_bytes; /* cold_appended_bytes afterwards */
    int error;               /* Of the step that failed: there is nothing to point */
    enum compact_step step;
};

/* NULL: out of memory. */
struct compact_batch *compact_batch_open(struct mover *mover);
/* NULL is allowed. */
void compact_batch_close(struct compact_batch *batch);

/* Fills the batch from what comes next in the scan, and makes the copies durable. `verify`: looks
 * into dead records, too, and goes on behind damage. */
void compact_batch_prepare(struct compact_batch *batch, struct cold_scan *scan, bool verify);

/* Moves the pointers that still lead to where the records lay. Mover thread. If it fails after a
 * part of them, these stay. */
int compact_batch_point(const struct compact_batch *batch);

#endif
