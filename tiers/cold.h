/* The cold tier: values that are seldom read, in append-only segment files on a large disk.
 *
 * A segment file is a header block and then records (cold_record.h) back to back; it is named
 * SEGMENT_ID in 16 hex digits + ".seg". Appends gather in a large aligned buffer and are written
 * through io_uring; cold_sync makes everything appended so far durable (data, then the directory
 * for a new file), and only then may a location be stored anywhere. A sealed segment never changes.
 *
 * The mover thread appends, syncs, scans and deletes; in its place, one that prepares for it what
 * moves next (demote_chunk.h, compact_batch.h). Each reader thread has a cold_reader of its own. A
 * segment file is unlinked at once by cold_segment_delete but its descriptor stays open until the
 * last reader that uses it has finished.
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

#define COLD_READ_QUEUE_MAX (1u << 16)

struct cold_options {
    const char *directory;
    uint64_t segment_bytes; /* Seal beyond this size */
    bool direct_io;         /* Use O_DIRECT where the file system allows it */
    uint32_t read_depth;    /* Reads at the disk per cold_reader */
    uint32_t read_queue;    /* Further ones that may wait for their turn */
};

/* The segments that the index knows. Other segment files in the directory are leftovers of a crash
 * and are deleted; a known one that is missing or shorter than `bytes` is TIERS_CORRUPT. New
 * segments get ids from next_id on (or from above the highest known one). */
struct cold_known {
    uint64_t id;
    uint64_t bytes;
};

/* The directory is created if absent (not its parents). On failure `error_text` (may be NULL) gets
 * one sentence that names the file and the cause; TIERS_VERSION, TIERS_ACCESS, TIERS_IO and
 * TIERS_NO_MEMORY besides, io_uring being forbidden included. A refused open deletes nothing. */
int cold_open(const struct cold_options *options, const struct cold_known *known, size_t n_known,
              uint64_t next_id, struct cold **ret_cold, char *error_text, size_t error_text_size);
/* Abandons what was appended since the last cold_sync. All readers must be closed before. */
void cold_close(struct cold *cold);

/* ---- Mover ---- */

/* Buffers one record (writing out full buffers) and names its future location. The value is
 * compressed with zstd when that pays. Key, meta and value are copied. 0, TIERS_NO_SPACE, TIERS_IO,
 * TIERS_ACCESS or TIERS_NO_MEMORY (out of memory or descriptors). After one of these errors the
 * records since the last successful cold_sync are void: call cold_abandon; until then a failed
 * write is repeated. TIERS_BUSY: cold_sync first (see there). TIERS_INVALID: a size is out of its
 * range; nothing was done. TIERS_STOPPED: an fsync failed, now or before, for good. */
int cold_append(struct cold *cold, enum tiers_space space, const void *key, size_t key_len,
                const struct tiers_meta *meta, const void *value, size_t value_len,
                struct cold_location *ret_location);

/* Hands what is buffered to the kernel, so that a cold_sync a little later has less to wait for.
 * Trouble shows there. */
void cold_flush(struct cold *cold);

/* After it returns 0 every location handed out is durable. `touched` receives the ids and sizes of
 * the segments that grew since the last sync (at most *n in, count out; a sync covers at most
 * COLD_TOUCHED_MAX segments, beyond that cold_append answers TIERS_BUSY: sync first). After a
 * failed fsync (TIERS_IO) the engine must stop: everything answers TIERS_STOPPED from then on.
 * Other failures are those of cold_append. With nothing to sync it is 0 and *n is 0. Sealed
 * segments that had grown are durable and their locations final, like the active one's. */
#define COLD_TOUCHED_MAX 64
int cold_sync(struct cold *cold, struct cold_known *touched, size_t *n);

/* Whether enough small values have passed by to train a zstd dictionary from them. */
bool cold_dictionary_due(const struct cold *cold);
/* Trains it. 0: it saves *ret_saved_percent of the bytes of such values, and segments begun from
 * now on carry it. TIERS_NOT_FOUND: it does not pay. TIERS_NO_MEMORY. Takes a fraction of a second.
 */
int cold_dictionary_train(struct cold *cold, unsigned *ret_saved_percent);

/* Gives back the space of deleted segments that nobody reads any more. */
void cold_sweep(struct cold *cold);

/* There is nothing to append for a while: gives back memory that work in a hurry has used. */
void cold_rest(struct cold *cold);

/* Gives up what was appended since the last cold_sync: seals the active segment at its last synced
 * size, and deletes the segments of which nothing was ever synced. What was synced stays readable,
 * and appending may go on (unless an fsync had failed). */
void cold_abandon(struct cold *cold);

/* The sealed segment of the least id above `id`; 0: none. */
uint64_t cold_segment_after(struct cold *cold, uint64_t id);
/* True while the segment is the one being appended to. */
bool cold_segment_active(const struct cold *cold, uint64_t id);
/* Unlinks the segment's file and makes that durable. The index must no longer name it. Reads under
 * way complete, later ones get TIERS_STALE. Its space is given back in pieces, so that other work
 * of the disk is not held up for long. An unknown id is ignored. */
void cold_segment_delete(struct cold *cold, uint64_t id);

/* One sentence, naming file and cause, on the last failure of a function of this section. Valid
 * until the next failure; "" before the first one. */
const char *cold_error_text(const struct cold *cold);

struct cold_item {
    struct cold_location location;
    enum tiers_space space;
    const void *key;
    size_t key_len;
    struct tiers_meta meta;
    const void *value; /* Decompressed */
    size_t value_len;
};
/* Reads a sealed segment from its start in large sequential reads, record by record. Any number of
 * scans may be open; the caller may append, sync and delete meanwhile. TIERS_STALE: no such
 * segment. TIERS_INVALID: it is the active one. TIERS_NO_MEMORY, TIERS_ACCESS, TIERS_IO,
 * TIERS_CORRUPT (its file is gone), TIERS_STOPPED. */
struct cold_scan;
int cold_scan_open(struct cold *cold, uint64_t id, struct cold_scan **ret_scan);
void cold_scan_close(struct cold_scan *scan); /* NULL is ignored */
/* The next record; pointers are valid until the next call for any scan. TIERS_NOT_FOUND: there is
 * no further one. TIERS_CORRUPT: damage lies there, or a place that the disk cannot read;
 * cold_error_text names file and offset, and the next call goes on with the next intact record.
 * TIERS_STALE: the segment was deleted. TIERS_VERSION, TIERS_IO, TIERS_NO_MEMORY, TIERS_STOPPED:
 * the scan cannot go on. */
int cold_scan_next(struct cold_scan *scan, struct cold_item *ret_item);
/* The same in two steps. cold_scan_peek finds the next record and gives all of it but the value
 * (NULL), as its header has it, which nothing has verified: if that is not true then where the
 * record ends may not be, either. cold_scan_read verifies the record that was found, and reads it.
 */
int cold_scan_peek(struct cold_scan *scan, struct cold_item *ret_item);
int cold_scan_read(struct cold_scan *scan, struct cold_item *ret_item);
/* The record that was found last comes once more. */
void cold_scan_return(struct cold_scan *scan);
uint64_t cold_scan_segment(const struct cold_scan *scan);
/* From the disk, so far. */
uint64_t cold_scan_bytes_read(const struct cold_scan *scan);

/* Any thread. Opens the file of a segment for reading through the page cache; *ret_fd is the
 * caller's. TIERS_STALE: no such segment. TIERS_NO_MEMORY: out of descriptors. TIERS_ACCESS,
 * TIERS_IO. */
int cold_segment_open(const struct cold *cold, uint64_t id, int *ret_fd);

/* Bytes of all records ever appended, those that were voided included. */
uint64_t cold_appended_bytes(const struct cold *cold);

uint64_t cold_bytes(const struct cold *cold);    /* Any thread */
uint64_t cold_segments(const struct cold *cold); /* Any thread */

/* ---- Readers: one thread each ---- */

/* Completion of one read: `item` (NULL unless status is 0) is valid during the call. TIERS_CORRUPT:
 * checksum, key or revision did not match what was asked for. TIERS_IO, TIERS_NO_MEMORY. It may
 * submit to the reader, but not reap or wait. */
typedef void (*cold_read_done)(void *owner, int status, const struct cold_item *item);

/* `event_fd` is borrowed; -1: none, for a caller who only waits. The reader never reads from it:
 * read it empty before cold_reader_reap. */
int cold_reader_open(struct cold *cold, int event_fd, struct cold_reader **ret_reader);
/* Waits for the reads under way; their `done` is called with TIERS_STOPPED. */
void cold_reader_close(struct cold_reader *reader);

/* Starts a read of a record that was synced, or lets it wait: what waits goes to the disk sorted by
 * place, neighbours together, at the next flush, reap or wait at the latest. event_fd gets readable
 * when something completed. 0; TIERS_BUSY: as many as read_depth and read_queue allow, or 64 MiB of
 * records, are under way; TIERS_STALE: the segment is
 * gone (compacted): look the key up again; TIERS_CORRUPT: the location cannot be;
 * TIERS_STOPPED: the reader is being closed; TIERS_NO_MEMORY (out of memory or descriptors);
 * TIERS_ACCESS; TIERS_IO. The key is borrowed until done. */
int cold_reader_submit(struct cold_reader *reader, const struct cold_location *location,
                       enum tiers_space space, const void *key, size_t key_len,
                       uint64_t mod_revision, cold_read_done done, void *owner);
/* Sends what waits to the disk as far as the depth allows, with one system call. Worth it after a
 * number of submits; without it they go when the next read completes. */
void cold_reader_flush(struct cold_reader *reader);
/* Calls done for what has completed, a few at a time, then flushes; never blocks. While there are
 * more the event_fd is readable. Returns the number of completions. */
unsigned cold_reader_reap(struct cold_reader *reader);
/* Blocks until at least one completed, then as reap. */
unsigned cold_reader_wait(struct cold_reader *reader);

#endif
