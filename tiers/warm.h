/* The warm tier: one LMDB environment that indexes every key of the store.
 *
 * Databases: "user" and "system" (key to warm item, one per tiers_space), "segments" (cold segment
 * id to its byte counts) and "meta" (format, position, next segment id). A value lies inline in the
 * item or in a cold record that the item points to. Whatever changes together changes in one
 * transaction: items, live bytes of segments, position.
 *
 * One write transaction at a time, always on the mover thread. Readers never block and are not
 * blocked. LMDB's fsync (durable commit) is on.
 */
#ifndef TIERS_WARM_H
#define TIERS_WARM_H

#include "cold.h"
#include "tiers/tiers.h"
#include "warm_extent.h"

#define WARM_MAP_BYTES_DEFAULT (1ull << 40)

struct warm;
struct warm_read;  /* A read transaction, reusable; one thread at a time */
struct warm_write; /* The write transaction */

struct warm_item {
    bool cold;
    struct tiers_meta meta;
    uint64_t digest;
    const void *stored; /* As it lies in the tree. Into the map, valid until the transaction ends or
                         * writes; so is the value */
    const void *value;  /* Inline */
    uint32_t value_len; /* Of the value itself, also when cold */
    struct cold_location location; /* Cold */
};

struct warm_usage {
    uint64_t used_bytes; /* Used pages, free list excluded */
    uint64_t file_bytes;
    uint64_t map_bytes;       /* The hard limit of file_bytes */
    uint64_t keys;            /* Items of both spaces */
    uint64_t cold_keys;       /* Of those, with a cold value */
    uint64_t cold_live_bytes; /* Of the cold records they point to */
    size_t write_keys_max;    /* See warm_write_keys_max */
    uint64_t user_leaf_bytes; /* Of the leaf pages of the user space's tree */
};

struct warm_segment {
    uint64_t id;
    uint64_t bytes;      /* Of the whole file */
    uint64_t live_bytes; /* Of records that an item points to */
};

/* Opens or creates. The directory must exist. A file of which at most `check_bytes_max` (0: the
 * default, 256 MiB) are used is checked as warm_check.h says; TIERS_CORRUPT names the page.
 * `map_bytes` 0: the default, or less where the system grants less. TIERS_LOCKED: another process,
 * or another warm of this one, has it open. */
int warm_open(const char *directory, uint64_t map_bytes, uint64_t check_bytes_max,
              struct warm **ret_warm, char *error_text, size_t error_text_size);
void warm_close(struct warm *warm);
/* Whether the digests of the items added up to the position's state hash when it was opened: else
 * some are lost. True if the file was too large to look at them all. */
bool warm_adds_up(const struct warm *warm);
/* Whether all of the file was checked then, or made. */
bool warm_checked(const struct warm *warm);

/* As of the last commit. Any thread. */
void warm_position(struct warm *warm, struct tiers_position *ret_position);
/* As of the last commit. Any thread. */
void warm_usage(struct warm *warm, struct warm_usage *ret_usage);
/* At so many keys a generation is closed, as of the last commit; see warm_extent.h. A group of
 * applies is not divided for it, and a flush may take several. Any thread. */
size_t warm_write_keys_max(struct warm *warm);
uint64_t warm_page_bytes(const struct warm *warm);
/* An id above those of all segments that were ever put. Any thread. */
uint64_t warm_segment_next_id(struct warm *warm);

int warm_read_open(struct warm *warm, struct warm_read **ret_read);
void warm_read_close(struct warm_read *read);
/* begin takes the newest snapshot; end lets it go. A begun read pins pages: end it soon. */
int warm_read_begin(struct warm_read *read);
void warm_read_end(struct warm_read *read);
/* Between begin and end. 0, TIERS_NOT_FOUND, TIERS_CORRUPT, TIERS_IO. */
int warm_get(struct warm_read *read, enum tiers_space space, const void *key, size_t key_len,
             struct warm_item *ret_item);
/* Whether the keys of two records lie on one page of the index, or would lie there; also false if
 * that cannot be told. */
bool warm_same_page(struct warm_read *read, const struct tiers_record *a,
                    const struct tiers_record *b);
/* As warm_get, and faster when the key is near the one before, as in key order; else slower. */
int warm_get_near(struct warm_read *read, enum tiers_space space, const void *key, size_t key_len,
                  struct warm_item *ret_item);
/* Which pages, and which blocks of pages, were seen in memory, to be asked for once in each epoch.
 * One for each thread, zeroed at first; its owner changes the epoch about once a second. */
#define WARM_RESIDENCY_PAGES  1024
#define WARM_RESIDENCY_BLOCKS 8192
struct warm_residency {
    uint16_t epoch;
    bool whole_blocks; /* The owner's: blocks are asked about first, since many will be whole */
    uint64_t pages[WARM_RESIDENCY_PAGES];
    uint64_t blocks[WARM_RESIDENCY_BLOCKS];
};
/* Between begin and end. Whether warm_get of the key, and copying its value, would most likely find
 * all that it touches in memory. Does not wait for a disk itself; false if it cannot tell. */
bool warm_resident(struct warm_read *read, struct warm_residency *residency, enum tiers_space space,
                   const void *key, size_t key_len);
/* Between begin and end: starts to read what lies under an inline value in one piece, if it is
 * long. Copying it would fault page by page. */
void warm_value_prefetch(const struct warm_item *item);

/* What an item with a key of that length takes of a leaf page. */
size_t warm_leaf_bytes(const struct warm *warm, size_t key_len, const struct warm_item *item);

/* The first item whose key is after `after` (NULL: the very first) in key order. The key returned
 * points into the map. */
int warm_next(struct warm_read *read, enum tiers_space space, const void *after, size_t after_len,
              const void **ret_key, size_t *ret_key_len, struct warm_item *ret_item);

/* Mover only. A failed call leaves the transaction to be aborted. Segment live bytes are kept up by
 * the puts and deletes themselves. A value must not lie in the map. */
int warm_write_begin(struct warm *warm, struct warm_write **ret_write);
int warm_write_get(struct warm_write *write, enum tiers_space space, const void *key,
                   size_t key_len, struct warm_item *ret_item);
int warm_put_inline(struct warm_write *write, enum tiers_space space, const void *key,
                    size_t key_len, const struct tiers_meta *meta, uint64_t digest,
                    const void *value, size_t value_len);
int warm_put_cold(struct warm_write *write, enum tiers_space space, const void *key, size_t key_len,
                  const struct tiers_meta *meta, uint64_t digest, uint32_t value_len,
                  const struct cold_location *location);
/* Deleting an absent key is no error. */
int warm_delete(struct warm_write *write, enum tiers_space space, const void *key, size_t key_len);
/* An item as it lies in the tree, not looked into. */
struct warm_stored {
    const void *key;
    size_t key_len;
    const void *bytes;
    size_t n_bytes;
};
/* 0 or TIERS_CORRUPT. */
int warm_stored_decode(const struct warm_stored *stored, struct warm_item *ret_item);
/* Whether it is the same key's inline item that another snapshot, which still lasts, had: no more
 * has changed since than its place. Costs less than to decode it. */
bool warm_stored_is(const struct warm_stored *stored, const struct warm_item *item);

/* Asked in key order; true: the item becomes *ret_item, whose value must not be the item's, and
 * whose digest must be. */
typedef bool (*warm_repack_change)(void *context, const struct warm_stored *stored,
                                   struct warm_item *ret_item);
/* What an item takes in the file at least: its share of a leaf page full of such, and the pages of
 * a value on pages of its own. */
uint64_t warm_item_bytes(const struct warm *warm, size_t key_len, const struct warm_item *item);
/* Brings the small items between two keys (both included) closer together, and changes those that
 * `change` (may be NULL) says. LMDB joins pages only when it deletes: turning values into pointers
 * leaves pages mostly empty, this gives them back. */
int warm_repack(struct warm_write *write, enum tiers_space space, const void *first,
                size_t first_len, const void *last, size_t last_len, warm_repack_change change,
                void *context);
/* As the transaction has it. 0 or TIERS_NOT_FOUND. */
int warm_segment_get(struct warm_write *write, uint64_t id, struct warm_segment *ret_segment);
/* Says that segment `id` exists with `bytes` (grown or new) / is gone. */
int warm_segment_put(struct warm_write *write, uint64_t id, uint64_t bytes);
int warm_segment_delete(struct warm_write *write, uint64_t id);
int warm_set_position(struct warm_write *write, const struct tiers_position *position);
/* Durable when 0 is returned; the transaction is gone either way. TIERS_NO_SPACE leaves the old
 * state intact and may be tried again; after TIERS_IO the engine must stop. */
int warm_write_commit(struct warm_write *write);
void warm_write_abort(struct warm_write *write);

/* All segments, ascending; *ret_segments is malloc'ed and the caller's. */
int warm_segments(struct warm *warm, struct warm_segment **ret_segments, size_t *ret_n);

#endif
