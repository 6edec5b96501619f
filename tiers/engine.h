/* What the files of the engine share: engine_open.c, engine.c (applying), reader*.c, each.c,
 * mover*.c and cold_compact.c (background work). Nobody else includes it, but for tests.
 *
 * Locks, in the order in which they may be taken:
 *   1. apply_mutex      held for the length of a group of applies, and by the mover to freeze
 *   2. the mover's mutex
 *   3. position_mutex, registry_mutex, the observer's mutex, and the locks inside hot, dirty and
 *      warm
 * No lock is held while a disk is read or written, except that an applier's look-up may fault a
 * page of the warm map under apply_mutex.
 */
#ifndef TIERS_ENGINE_H
#define TIERS_ENGINE_H

#include "cold.h"
#include "dirty.h"
#include "heat.h"
#include "hot.h"
#include "record.h"
#include "residency.h"
#include "sampler.h"
#include "tiers/tiers.h"
#include "warm.h"

#include <pthread.h>
#include <stdatomic.h>

struct mover;
struct observer;
struct reader_pool;

/* Each reader and the mover count for themselves; tiers_stats adds up. */
#define ENGINE_COUNTERS(X)                                                                         \
    X(hits_hot)                                                                                    \
    X(hits_warm)                                                                                   \
    X(hits_cold)                                                                                   \
    X(misses)                                                                                      \
    X(warm_reads_pooled)                                                                           \
    X(flushes)                                                                                     \
    X(flushed_keys)                                                                                \
    X(flushed_bytes)                                                                               \
    X(demoted_keys)                                                                                \
    X(demoted_bytes)                                                                               \
    X(promoted_warm_keys)                                                                          \
    X(promoted_hot_keys)                                                                           \
    X(promoted_warm_bytes)                                                                         \
    X(promotions_refused)                                                                          \
    X(promotion_eased)                                                                             \
    X(promotion_tightened)                                                                         \
    X(admission_eased)                                                                             \
    X(admission_tightened)                                                                         \
    X(windows_few_reads)                                                                           \
    X(windows_cold_share_high)                                                                     \
    X(windows_cold_share_low)                                                                      \
    X(windows_cold_share_held)                                                                     \
    X(windows_warm_hotter)                                                                         \
    X(windows_hot_calm)                                                                            \
    X(windows_hot_steady)                                                                          \
    X(windows_hot_crowded)                                                                         \
    X(compacted_segments)                                                                          \
    X(compacted_bytes)                                                                             \
    X(cold_written_bytes)                                                                          \
    X(cold_dictionaries)                                                                           \
    X(scrubbed_segments)                                                                           \
    X(scrubbed_bytes)                                                                              \
    X(scrub_damages)                                                                               \
    X(warm_scrubs)                                                                                 \
    X(warm_scrubbed_bytes)                                                                         \
    X(checksum_errors)

struct engine_counters {
#define X(name) _Atomic uint64_t name;
    ENGINE_COUNTERS(X)
#undef X
};

/* Only the owner of a counter adds to it; others may read it at any time. */
static inline void engine_count(_Atomic uint64_t *counter, uint64_t n)
{
    uint64_t before = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, before + n, memory_order_relaxed);
}

struct tiers {
    struct tiers_options options; /* Defaults filled in; its strings are gone */
    struct hot *hot;
    struct dirty *dirty;
    struct warm *warm;
    struct cold *cold;
    struct heat *heat;
    struct mover *mover;
    struct sampler *sampler;
    struct observer *observer;
    struct reader_pool *reader_pool;
    struct residency residency;

    pthread_mutex_t apply_mutex;
    struct tiers_position applying; /* Of the group under way; else equal to applied */
    struct warm_read *apply_read;
    bool apply_group;
    int apply_error; /* A group failed half-way: its generation must never be flushed */

    pthread_mutex_t position_mutex;
    struct tiers_position applied;
    struct tiers_position durable;

    _Atomic int stopped;               /* The error that stopped the engine, or 0 */
    atomic_bool no_space;              /* The last flush found the warm tier's disk or map full */
    atomic_bool hot_has_room;          /* Readers may admit what they read once only */
    _Atomic unsigned admit_heat_min;   /* What enters a full hot tier, from this heat on */
    _Atomic unsigned promote_heat_min; /* Readers offer cold values from this heat on */
    _Atomic unsigned demote_heat_max;  /* For tiers_placement, as of the last decision */
    atomic_bool demoting;

    /* Held while a cold segment is dropped, and while a checkpoint takes its snapshot: one that is
     * open still reads the segments it knows of. */
    pthread_mutex_t export_mutex;
    atomic_uint exports; /* Checkpoints that are open */

    pthread_mutex_t registry_mutex;
    struct tiers_reader *readers;
    struct engine_counters retired;  /* Of closed readers */
    struct engine_counters counters; /* The mover's */
};

/* As tiers_open; without a mover thread background work happens only where a test calls
 * mover_step, and tiers_flush does its work on the caller's thread. */
int engine_open(const struct tiers_options *options, bool mover_thread, struct tiers **ret_tiers,
                char *error_text, size_t error_text_size);

uint64_t engine_now_ms(const struct tiers *tiers);

/* Mover thread, tiers_open and tiers_close only: callbacks run on no other thread. */
void engine_event(const struct tiers *tiers, enum tiers_event_level level, const char *event,
                  const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Mover thread. The engine answers TIERS_STOPPED from now on; reports it once. */
void engine_fail(struct tiers *tiers, int error, const char *what);

/* Mover thread: everything up to `position` is durable now. */
void engine_durable(struct tiers *tiers, const struct tiers_position *position);

/* Mover thread. Closes the active generation if it is due, or anything is in it and `force`. */
int engine_freeze(struct tiers *tiers, bool force);

/* An access of a key, for the miniature simulation; `charge` is its record's. Any thread. */
static inline void engine_sample(const struct tiers *tiers, uint64_t key_hash, uint32_t charge,
                                 enum sample_kind kind)
{
    if (sampler_wants(tiers->sampler, key_hash)) {
        sampler_push(tiers->sampler, key_hash, charge + HOT_KEY_OVERHEAD_BYTES, kind);
    }
}

/* Whether a key of this heat is too seldom read for others in hot to make room for it. Any thread.
 */
static inline bool engine_seldom(const struct tiers *tiers, unsigned heat)
{
    return heat < atomic_load_explicit(&tiers->admit_heat_min, memory_order_relaxed);
}

/* What tiers_apply_ready answers, without arranging for on_ready. */
bool engine_ready(struct tiers *tiers);

/* reader.c: a reader that neither counts nor moves anything. */
int reader_open_quiet(struct tiers *tiers, struct tiers_reader **ret_reader);

/* Adds the counters of all readers, closed ones too, and of the mover. Any thread. */
void engine_counters_sum(struct tiers *tiers, struct tiers_stats *stats);

#endif
