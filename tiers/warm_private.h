/* What warm.c (opening, reading) and warm_write.c (writing) share. Nobody else includes it. */
#ifndef TIERS_WARM_PRIVATE_H
#define TIERS_WARM_PRIVATE_H

#include "warm.h"
#include "warm_check.h"
#include "warm_row.h"

#include <lmdb.h>
#include <pthread.h>

#define WARM_SPACES      2
#define WARM_FILE_MODE   0600
#define WARM_PATH_BYTES  4096
#define WARM_USER_TREE   "user"
#define WARM_SYSTEM_TREE "system"

struct warm {
    MDB_env *env;
    MDB_dbi main;
    MDB_dbi spaces[WARM_SPACES];
    MDB_dbi segments;
    MDB_dbi meta;
    int lock_fd;
    struct warm_check checked; /* What was found when it was opened */
    struct tiers_position opened_at;
    uint64_t page_bytes;
    uint64_t map_bytes;
    /* Of the last committed transaction; the mutex guards what follows. */
    pthread_mutex_t mutex;
    struct tiers_position position;
    struct warm_usage usage;
    uint64_t next_segment;
};

/* Translates what LMDB returns: 0, an MDB_ code or an errno value. */
int warm_error(int lmdb_error);

/* warm_read.c, for warm_resident.c. Between begin and end: the bytes that name the root of a
 * space's tree, in the map. False: LMDB does not give them. */
bool warm_read_tree_row(struct warm_read *read, enum tiers_space space, MDB_val *ret_row);
const struct warm *warm_read_warm(const struct warm_read *read);

/* Fills the figures that LMDB knows: used_bytes, file_bytes, keys. */
int warm_usage_measure(struct warm *warm, MDB_txn *txn, struct warm_usage *usage);

#endif
