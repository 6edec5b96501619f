/* The cold tier: values that are seldom read, in append-only segment files on a large disk.
 *
 * A segment file is a header block and then records (cold_record.h) back to back; it is named
 * SEGMENT_ID in 16 hex digits + ".seg". Appends gather in a large aligned buffer and are written
 * through io_uring; cold_sync makes everything appended so far durable (data, then the directory
 * for a new file), and only then may a location be stored anywhere. A sealed segment never changes.
 *
 * The mover thread appends, syncs, scans and deletes. Each reader thread has a cold_reader of its
 * own. A segment file is unlinked at once by cold_segment_delete but its descriptor stays open
 * until the last reader that uses it has finished.
 */
#ifndef TIERS_COLD_H
#define TIERS_COLD_H

#include "tiers/tiers.h"

struct cold;
struct cold_reader;

/* Where a record lies. Plain data, stored in warm items. */
struct cold_location {
    uint64_t segment;
    uint64_t offset; /* Of the record's first byte in the file */
    uint32_t bytes;  /* Of the record as stored, header included */
};

struct cold_options {
    const char *directory;
    uint64_t segment_bytes; /* Seal beyond this size */
    bool direct_io;         /* Use O_DIRECT where the file system allows it */
    uint32_t read_depth;    /* Reads under way per cold_reader */
};

/* The segments that the index knows. Other segment files in the directory are leftovers of a crash
 * and are deleted; a known one that is missing or shorter than `bytes` is TIERS_CORRUPT. New
 * segments get ids from next_id on. */
struct cold_known {
    uint64_t id;
    uint64_t bytes;
};
int cold_open(const struct cold_options *options, const struct cold_known *known, size_t n_known,
              uint64_t next_id, struct cold **ret_cold, char *error_text, size_t error_text_size);
void cold_close(struct cold *cold);

/* ---- Mover ---- */

/* Buffers one record (writing out full buffers) and names its future location. The value is
 * compressed with zstd when that pays. 0, TIERS_NO_SPACE, TIERS_IO. After an error the records
 * since the last successful cold_sync are void: call cold_abandon. */
int cold_append(struct cold *cold, enum tiers_space space, const void *key, size_t key_len,
                const struct tiers_meta *meta, const void *value, size_t value_len,
                struct cold_location *ret_location);

/* After it returns 0 every location handed out is durable. `touched` receives the ids and sizes of
 * the segments that grew since the last sync (at most *n in, count out; a sync covers at most
 * COLD_TOUCHED_MAX segments, beyond that cold_append answers TIERS_BUSY: sync first). After a
 * failed fsync (TIERS_IO) the engine must stop. */
#define COLD_TOUCHED_MAX 64
int cold_sync(struct cold *cold, struct cold_known *touched, size_t *n);

/* Gives up what was appended since the last cold_sync: seals the active segment at its last synced
 * size (deleting it if nothing of it was ever synced). */
void cold_abandon(struct cold *cold);

/* True while the segment is the one being appended to. */
bool cold_segment_active(const struct cold *cold, uint64_t id);
void cold_segment_delete(struct cold *cold, uint64_t id);

/* Reads a sealed segment from its start in large sequential reads and calls `each` for each record;
 * stops at a non-zero result and returns it. TIERS_CORRUPT names the offset in the event log.
 * Pointers are valid during the call. */
struct cold_item {
    struct cold_location location;
    enum tiers_space space;
    const void *key;
    size_t key_len;
    struct tiers_meta meta;
    const void *value; /* Decompressed */
    size_t value_len;
};
int cold_segment_each(struct cold *cold, uint64_t id,
                      int (*each)(void *context, const struct cold_item *item), void *context);

uint64_t cold_bytes(const struct cold *cold);    /* Any thread */
uint64_t cold_segments(const struct cold *cold); /* Any thread */

/* ---- Readers: one thread each ---- */

/* Completion of one read: `item` (NULL unless status is 0) is valid during the call. TIERS_CORRUPT:
 * checksum, key or revision did not match what was asked for. */
typedef void (*cold_read_done)(void *owner, int status, const struct cold_item *item);

int cold_reader_open(struct cold *cold, int event_fd, struct cold_reader **ret_reader);
/* Waits for the reads under way; their `done` is called with TIERS_STOPPED. */
void cold_reader_close(struct cold_reader *reader);

/* Starts a read; event_fd gets readable when it completes. 0; TIERS_BUSY: depth reached;
 * TIERS_STALE: the segment is gone (compacted): look the key up again; TIERS_IO. The key is
 * borrowed until done. */
int cold_reader_submit(struct cold_reader *reader, const struct cold_location *location,
                       enum tiers_space space, const void *key, size_t key_len,
                       uint64_t mod_revision, cold_read_done done, void *owner);
/* Calls done for what has completed; never blocks. Returns the number of completions. */
unsigned cold_reader_reap(struct cold_reader *reader);
/* Blocks until at least one completed, then as reap. */
unsigned cold_reader_wait(struct cold_reader *reader);

#endif
