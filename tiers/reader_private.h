/* What the files of the reader share: reader.c (opening, the public functions), reader_lookup.c
 * (hot and warm, on the reader's own thread) and reader_operation.c (what takes longer). All of it
 * belongs to the reader's thread but for what a job's own functions touch. */
#ifndef TIERS_READER_PRIVATE_H
#define TIERS_READER_PRIVATE_H

#include "engine.h"
#include "reader_pool.h"

struct query {
    enum tiers_space space;
    const void *key;
    size_t key_len;
    uint64_t hash;
    uint64_t ticket; /* Of the miss in hot */
};

/* Where an operation waits. */
enum stage { STAGE_WARM, STAGE_COLD };

/* A read under way. Its memory belongs to the reader; `read` is NULL once cancelled. While a thread
 * of the pool runs the job, it alone uses `status`, `record` and `item`. */
struct operation {
    struct reader_job job;  /* First: a job is its operation */
    struct operation *next; /* In the list of free or of completed ones */
    struct tiers_reader *reader;
    struct tiers_read *read;
    struct query query; /* Its key is `key` */
    struct warm_item item;
    enum stage stage;
    bool may_wait; /* The caller waits, so that the look-up may wait for a disk */
    unsigned attempts;
    int status;
    struct tiers_record *record;
    unsigned char key[TIERS_KEY_BYTES_MAX];
};

/* Counted together: by then their counters have come from memory. Few: what a reader that seldom
 * reads has gathered is not known to others. */
#define READER_HEAT_HITS 4

struct tiers_reader {
    struct tiers *tiers;
    struct tiers_reader *next; /* Registry */
    struct tiers_reader *previous;
    struct warm_read *warm_read;
    struct cold_reader *cold_reader;
    int event_fd;
    bool quiet;         /* Neither counts nor moves anything: tiers_each */
    uint64_t sample;    /* Pseudo-random: which hits of hot count as heat */
    unsigned sample_in; /* The next of them, counted down; 1: the next hit */
    unsigned n_heat_hits;
    uint64_t heat_hits[READER_HEAT_HITS]; /* Hashes of those that are not counted yet */
    unsigned residency_turn;
    enum tiers_tier tier; /* That answered last */
    struct reader_inbox inbox;
    struct operation *operations;
    struct operation *free;
    struct operation *completed; /* Oldest first */
    struct operation **completed_tail;
    struct warm_residency residency;
    /* On cache lines of its own: written at each read, seldom read by others. */
    _Alignas(64) struct engine_counters counters;
};

/* ---- reader_lookup.c ---- */

/* Hot, then warm. 0: *ret_record holds a reference. TIERS_PENDING: the query's ticket is set, and
 * either *ret_stage is STAGE_COLD and *ret_item says where the value lies, or it is STAGE_WARM: the
 * warm tier would wait for a disk (not so if it `may_wait`). */
int reader_lookup(struct tiers_reader *reader, struct query *query, bool may_wait,
                  const struct tiers_record **ret_record, struct warm_item *ret_item,
                  enum stage *ret_stage);

/* Counts what is gathered in heat_hits. */
void reader_heat_tell(struct tiers_reader *reader);

/* As tiers_reader_get, but a look-up may wait for a disk. */
int reader_get_waiting(struct tiers_reader *reader, enum tiers_space space, const void *key,
                       size_t key_len, struct tiers_read *read,
                       const struct tiers_record **ret_record);

/* In a snapshot, on any thread; counts nothing. 0: *ret_record; TIERS_PENDING: *ret_item says where
 * the value lies. */
int reader_warm_get(struct warm_read *snapshot, const struct query *query, bool prefetch,
                    struct tiers_record **ret_record, struct warm_item *ret_item);

/* The warm tier has answered with `status`: counts, admits to hot, reports. */
void reader_warm_answered(struct tiers_reader *reader, const struct query *query, int status,
                          const struct tiers_record *record);
/* The same of the cold tier, which also offers the value to the mover. */
void reader_cold_answered(struct tiers_reader *reader, const struct query *query, int status,
                          const struct tiers_record *record, const struct cold_location *location);

/* The record of a value found below hot. Its digest covers key, metadata and value, and the index
 * has kept the digest since the write: a difference is damage. Any thread. */
int reader_record_make(const struct query *query, const struct warm_item *item, const void *value,
                       size_t value_len, struct tiers_record **ret_record);

/* ---- reader_operation.c ---- */

int reader_operations_make(struct tiers_reader *reader, size_t n);
/* Answers nobody any more and waits for what is under way. */
void reader_operations_close(struct tiers_reader *reader);

/* Goes on where reader_lookup ended with TIERS_PENDING: takes an operation and starts it. `item` is
 * NULL if it was STAGE_WARM. Results as tiers_reader_get. */
int reader_operation_begin(struct tiers_reader *reader, const struct query *query,
                           const struct warm_item *item, bool may_wait, struct tiers_read *read,
                           const struct tiers_record **ret_record);

/* Answers what has completed, and starts what that asks for. */
void reader_operations_complete(struct tiers_reader *reader);
/* The same, after waiting for the cold disk, for those that `may_wait`. */
void reader_operations_wait(struct tiers_reader *reader);

#endif
