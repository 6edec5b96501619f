/* What warm.c (opening, reading) and warm_write.c (writing) share. Nobody else includes it. */
#ifndef TIERS_WARM_PRIVATE_H
#define TIERS_WARM_PRIVATE_H

#include "warm.h"

#include <lmdb.h>
#include <pthread.h>

#define WARM_SPACES     2
#define WARM_FILE_MODE  0600
#define WARM_PATH_BYTES 4096

/* Keys of the meta database. */
#define WARM_META_FORMAT       "format"
#define WARM_META_POSITION     "position"
#define WARM_META_NEXT_SEGMENT "next_segment"

struct warm {
    MDB_env *env;
    MDB_dbi main;
    MDB_dbi spaces[WARM_SPACES];
    MDB_dbi segments;
    MDB_dbi meta;
    int lock_fd;
    uint64_t page_bytes;
    uint64_t map_bytes;
    /* Of the last committed transaction; the mutex guards what follows. */
    pthread_mutex_t mutex;
    struct tiers_position position;
    struct warm_usage usage;
    uint64_t next_segment;
};

/* A row of the segments database, 24 bytes: three little-endian u64. Its key is the id as a
 * big-endian u64, so that rows lie in the order of ids. */
struct warm_segment_row {
    uint64_t bytes;
    uint64_t live_bytes;
    uint64_t live_records;
};
#define WARM_SEGMENT_KEY_BYTES 8
#define WARM_SEGMENT_ROW_BYTES 24

/* Translates what LMDB returns: 0, an MDB_ code or an errno value. */
int warm_error(int lmdb_error);

MDB_val warm_val(const void *bytes, size_t n);
void warm_u64_put(unsigned char *out, uint64_t value);
uint64_t warm_u64_get(const unsigned char *in);
void warm_segment_key(uint64_t id, unsigned char ret_key[WARM_SEGMENT_KEY_BYTES]);
uint64_t warm_segment_id(const MDB_val *key);
/* TIERS_CORRUPT when the row has another size. */
int warm_segment_row_decode(const MDB_val *data, struct warm_segment_row *ret_row);

/* Fills the figures that LMDB knows: used_bytes, file_bytes, keys. */
int warm_usage_measure(struct warm *warm, MDB_txn *txn, struct warm_usage *usage);

#endif
