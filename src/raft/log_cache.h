/* The part of the Raft log that is in memory: every entry that the core may still ask for.
 *
 * raft_uv cannot re-read entries, so what followers may need and what is not yet applied stays
 * here. Payloads are shared: one allocation (a batch) may carry many entries and is freed with its
 * last reference. Each entry that is pushed gets a new serial number, which tells two entries apart
 * that had the same index one after the other. Raft loop only.
 */
#ifndef TIERKV_RAFT_LOG_CACHE_H
#define TIERKV_RAFT_LOG_CACHE_H

#include <raft.h>
#include <stdbool.h>
#include <stdint.h>

/* Memory from raft_malloc that the payloads of one or more entries lie in. */
struct log_batch {
    void *base;
    unsigned references;
};

struct log_slot {
    raft_term term;
    struct raft_buffer payload;
    struct log_batch *batch;
    uint64_t serial;
    enum raft_entry_type type;
};

struct log_cache {
    struct log_slot *slots; /* Ring; index i lies at i & (capacity - 1) */
    size_t capacity;
    size_t bytes; /* Payloads and slots */
    raft_index first;
    raft_index last; /* first - 1 when empty */
    uint64_t serial; /* Of the newest entry */
};

/* NULL: out of memory (`base` stays the caller's). One reference. */
struct log_batch *log_batch_new(void *base);
void log_batch_release(struct log_batch *batch);

void log_cache_open(struct log_cache *cache, raft_index first);
void log_cache_close(struct log_cache *cache);

bool log_cache_has(const struct log_cache *cache, raft_index index);
/* The index must be there. Valid until the next push or removal. */
struct log_slot *log_cache_at(const struct log_cache *cache, raft_index index);

/* Makes room, so that the next `n` pushes cannot fail. 0 or RAFT_NOMEM. */
int log_cache_reserve(struct log_cache *cache, size_t n);
/* Appends an entry under index last + 1; takes a reference of its own. Room must be reserved. */
void log_cache_push(struct log_cache *cache, const struct raft_entry *entry,
                    struct log_batch *batch);
/* Drops entries from `from` on / up to `upto` / all, continuing after `last`. */
void log_cache_truncate(struct log_cache *cache, raft_index from);
void log_cache_trim(struct log_cache *cache, raft_index upto);
void log_cache_reset(struct log_cache *cache, raft_index last);

#endif
