/* What the parts of the warm tier share: warm.c (opening), warm_read.c, warm_write.c,
 * warm_segment.c, warm_repack.c, warm_parcel.c, warm_copy.c, warm_resident.c. Nobody else includes
 * it. */
#ifndef TIERS_WARM_PRIVATE_H
#define TIERS_WARM_PRIVATE_H

#include "warm.h"
#include "warm_check.h"
#include "warm_row.h"

#include <lmdb.h>
#include <pthread.h>

#define WARM_SPACES     2
#define WARM_FILE_MODE  0600
#define WARM_PATH_BYTES 4096

struct warm {
    MDB_env *env;
    MDB_dbi main;
    MDB_dbi spaces[WARM_SPACES];
    MDB_dbi segments;
    MDB_dbi meta;
    int lock_fd;
    struct warm_check checked; /* What was found when it was opened */
    bool made;                 /* There was no file then */
    struct warm_scrub *scrub;  /* Mover's; NULL: none */
    struct tiers_position opened_at;
    uint64_t page_bytes;
    uint64_t map_bytes;
    /* Of the last committed transaction; the mutex guards what follows. */
    pthread_mutex_t mutex;
    struct tiers_position position;
    struct warm_usage usage;
    uint64_t next_segment;
};

/* What the transaction changed in a segment's live records and has not put into its row yet. */
struct warm_segment_change {
    uint64_t id;
    int64_t bytes;
    int64_t records;
};

/* Most items of a transaction lie in one or two segments. */
#define WARM_SEGMENT_CHANGES_MAX 8

/* A key that no other of the space comes after. */
struct warm_last_key {
    bool known;
    uint16_t len; /* 0: the space is empty */
    unsigned char bytes[TIERS_KEY_BYTES_MAX];
};

struct warm_write {
    struct warm *warm;
    MDB_txn *txn;
    /* One for each space, opened when it is needed. The next key is mostly near: a cursor then
     * stays on its page. LMDB closes them with the transaction. */
    MDB_cursor *cursors[WARM_SPACES];
    struct warm_last_key last[WARM_SPACES];
    struct warm_segment_change changes[WARM_SEGMENT_CHANGES_MAX]; /* The last used comes first */
    size_t n_changes;
    struct tiers_position position;
    struct warm_usage usage;
    uint64_t next_segment;
    uint64_t passed_digests; /* By how much those of items grew that the scrubber has passed */
    bool disk_short; /* When it began: the space may come back before a failure is looked into */
};

/* Translates what LMDB returns: 0, an MDB_ code or an errno value. */
int warm_error(int lmdb_error);

/* warm_read.c, for warm_resident.c. Between begin and end: the bytes that name the root of a
 * space's tree, in the map. False: LMDB does not give them. */
bool warm_read_tree_row(struct warm_read *read, enum tiers_space space, MDB_val *ret_row);
const struct warm *warm_read_warm(const struct warm_read *read);

/* warm_write.c, for warm_repack.c. As warm_error, within that transaction. LMDB reports a write
 * that a full disk or a quota cut short as EIO. To try that transaction again is safe whatever the
 * cause, a failed sync included: all its pages are written anew, and nothing durable refers to the
 * old ones. */
int warm_write_error(const struct warm_write *write, int lmdb_error);
/* The space's cursor, wherever it stands. The caller does not close it. */
int warm_write_cursor(struct warm_write *write, enum tiers_space space, MDB_cursor **ret_cursor);

/* warm_segment.c, for the other parts. An item points to the record now. The segment's row may come
 * later in the transaction: it is made if need be. */
int warm_segment_live_add(struct warm_write *write, const struct cold_location *location);
/* An item that pointed to the record is gone. TIERS_CORRUPT, now or with the commit: its segment
 * did not know of it. */
int warm_segment_live_remove(struct warm_write *write, const struct cold_location *location);
/* Puts what was gathered into the rows; before the commit. */
int warm_segment_changes_put(struct warm_write *write);

/* Fills the figures that LMDB knows: used_bytes, file_bytes, keys. */
int warm_usage_measure(struct warm *warm, MDB_txn *txn, struct warm_usage *usage);

#endif
