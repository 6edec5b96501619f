/* The engine: joins the three tiers behind include/tiers/tiers.h.
 *
 * Here are the applier's functions, positions and statistics. Opening is in engine_open.c, reads
 * are in reader.c, background work in mover.c and its companions.
 *
 * The happy path of a write: look up the key's present version (hot, else warm), make the new
 * record, put it into the dirty generation and into hot, and shift the state hash by the difference
 * of the two digests. At the end of a group the position moves, and the generation is closed when
 * it is large or old enough; the mover does the rest.
 *
 * Failures: a group that fails half-way poisons the applier: the generation that holds its parts is
 * never flushed, the log brings it again. What fails in the background for good stops the engine
 * (engine_fail): every later call answers TIERS_STOPPED. */
#include "engine.h"

#include "mover.h"
#include "observer.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#define EVENT_DETAIL_BYTES 512

/* ---- Clock, events, failure ---- */

uint64_t engine_now_ms(const struct tiers *tiers)
{
    if (tiers->options.now_ms != NULL) {
        return tiers->options.now_ms(tiers->options.context);
    }
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void engine_event(const struct tiers *tiers, enum tiers_event_level level, const char *event,
                  const char *format, ...)
{
    if (tiers->options.on_event == NULL) {
        return;
    }
    char detail[EVENT_DETAIL_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    tiers->options.on_event(tiers->options.context, level, event, detail);
}

void engine_fail(struct tiers *tiers, int error, const char *what)
{
    int running = 0;
    assert(error != 0);
    if (!atomic_compare_exchange_strong(&tiers->stopped, &running, error)) {
        return;
    }
    engine_event(tiers, TIERS_EVENT_ERROR, "engine_stopped", "%s: %s", what, tiers_strerror(error));
    if (tiers->options.on_failed != NULL) {
        tiers->options.on_failed(tiers->options.context, error, what);
    }
}

/* ---- Applying ---- */

/* What a key has now. `digest` and `meta` only if it exists. */
struct current {
    bool exists;
    uint64_t digest;
    struct tiers_meta meta;
};

/* After a miss in hot whatever the key was last is durable, so that a snapshot taken now has it. */
static int current_from_warm(struct tiers *tiers, enum tiers_space space, const void *key,
                             size_t key_len, struct current *ret_current)
{
    struct warm_item item;
    int error = warm_read_begin(tiers->apply_read);
    if (error) {
        return error;
    }
    error = warm_get(tiers->apply_read, space, key, key_len, &item);
    warm_read_end(tiers->apply_read);
    if (error == 0) {
        *ret_current = (struct current){.exists = true, .digest = item.digest, .meta = item.meta};
        return 0;
    }
    *ret_current = (struct current){.exists = false};
    return error == TIERS_NOT_FOUND ? 0 : error;
}

static int current_get(struct tiers *tiers, uint64_t hash, enum tiers_space space, const void *key,
                       size_t key_len, struct current *ret_current)
{
    const struct tiers_record *record = NULL;
    switch (hot_peek(tiers->hot, hash, space, key, key_len, &record)) {
    case HOT_HIT:
        *ret_current = (struct current){.exists = true,
                                        .digest = tiers_record_digest(record),
                                        .meta = *tiers_record_meta(record)};
        tiers_record_release(record);
        return 0;
    case HOT_TOMBSTONE:
        tiers_record_release(record);
        *ret_current = (struct current){.exists = false};
        return 0;
    case HOT_MISS:
        break;
    }
    return current_from_warm(tiers, space, key, key_len, ret_current);
}

static bool key_valid(enum tiers_space space, const void *key, size_t key_len)
{
    return (space == TIERS_SPACE_USER || space == TIERS_SPACE_SYSTEM) && key != NULL &&
           key_len >= 1 && key_len <= TIERS_KEY_BYTES_MAX;
}

/* What keeps a mutation from being applied: an earlier failure. */
static int apply_refusal(const struct tiers *tiers)
{
    assert(tiers->apply_group);
    return atomic_load(&tiers->stopped) != 0 ? TIERS_STOPPED : tiers->apply_error;
}

static void sample_applied(struct tiers *tiers, uint64_t hash, const struct tiers_record *record)
{
    enum sample_kind kind = SAMPLE_DELETE;
    if (!sampler_wants(tiers->sampler, hash)) {
        return;
    }
    if (!record->tombstone) {
        kind = engine_seldom(tiers, heat_estimate(tiers->heat, hash)) ? SAMPLE_WRITE_SELDOM
                                                                      : SAMPLE_WRITE;
    }
    engine_sample(tiers, hash, record->charge, kind);
}

/* Makes `record` (or NULL: out of memory) the key's current one and consumes it. */
static int record_apply(struct tiers *tiers, uint64_t hash, struct tiers_record *record,
                        const struct current *old)
{
    if (record == NULL) {
        return TIERS_NO_MEMORY;
    }
    /* The time counts for the first record of a generation only, and takes a while to ask. */
    uint64_t now_ms = dirty_active_opened_ms(tiers->dirty) == 0 ? engine_now_ms(tiers) : 0;
    int error = dirty_add(tiers->dirty, hash, record, now_ms);
    if (error == 0) {
        hot_write(tiers->hot, hash, record);
        tiers->applying.state_hash += tiers_record_digest(record) - (old->exists ? old->digest : 0);
        sample_applied(tiers, hash, record);
    }
    tiers_record_release(record);
    return error;
}

void tiers_apply_begin(struct tiers *tiers, uint64_t index)
{
    pthread_mutex_lock(&tiers->apply_mutex);
    assert(!tiers->apply_group);
    assert(index > tiers->applying.index);
    tiers->apply_group = true;
    tiers->applying.index = index;
}

/* The applier closes a generation itself when it is large or old, so that the mover, when it is
 * late, finds whole generations of about equal size. A failure to close is no loss: it is tried
 * again at the end of the next group. */
static bool generation_close_if_due(struct tiers *tiers)
{
    uint64_t opened_ms = dirty_active_opened_ms(tiers->dirty);
    if (opened_ms == 0) {
        return false;
    }
    if (dirty_active_bytes(tiers->dirty) < tiers->options.flush_bytes &&
        dirty_active_keys(tiers->dirty) < warm_write_keys_max(tiers->warm) &&
        engine_now_ms(tiers) - opened_ms < tiers->options.flush_interval_ms) {
        return false;
    }
    return dirty_freeze(tiers->dirty, &tiers->applying) == 0;
}

void tiers_apply_end(struct tiers *tiers)
{
    bool closed = false;
    assert(tiers->apply_group);
    tiers->apply_group = false;
    if (tiers->apply_error == 0) {
        pthread_mutex_lock(&tiers->position_mutex);
        tiers->applied = tiers->applying;
        pthread_mutex_unlock(&tiers->position_mutex);
        closed = generation_close_if_due(tiers);
    }
    pthread_mutex_unlock(&tiers->apply_mutex);
    if (closed) {
        mover_wake(tiers->mover);
    }
}

uint64_t tiers_revision_next(struct tiers *tiers)
{
    assert(tiers->apply_group);
    return ++tiers->applying.revision;
}

int tiers_put(struct tiers *tiers, enum tiers_space space, const void *key, size_t key_len,
              const void *value, size_t value_len, uint64_t flags, uint64_t expires_ms,
              uint64_t revision)
{
    int error = apply_refusal(tiers);
    if (error) {
        return error;
    }
    if (!key_valid(space, key, key_len) || value_len > TIERS_VALUE_BYTES_MAX ||
        (value == NULL && value_len > 0) || revision > tiers->applying.revision) {
        return TIERS_INVALID;
    }
    uint64_t hash = record_key_hash(space, key, key_len);
    struct current old;
    error = current_get(tiers, hash, space, key, key_len, &old);
    if (error == 0) {
        struct tiers_meta meta = {.create_revision =
                                      old.exists ? old.meta.create_revision : revision,
                                  .mod_revision = revision,
                                  .version = old.exists ? old.meta.version + 1 : 1,
                                  .flags = flags,
                                  .expires_ms = expires_ms};
        error = record_apply(tiers, hash, record_new(space, key, key_len, value, value_len, &meta),
                             &old);
    }
    /* A key that is written again and again is better kept warm. */
    if (error == 0 && old.exists) {
        heat_touch(tiers->heat, hash);
    }
    tiers->apply_error = error;
    return error;
}

int tiers_delete(struct tiers *tiers, enum tiers_space space, const void *key, size_t key_len,
                 uint64_t revision, bool *ret_existed)
{
    int error = apply_refusal(tiers);
    if (error) {
        return error;
    }
    if (!key_valid(space, key, key_len) || revision > tiers->applying.revision) {
        return TIERS_INVALID;
    }
    uint64_t hash = record_key_hash(space, key, key_len);
    struct current old;
    error = current_get(tiers, hash, space, key, key_len, &old);
    if (error == 0 && old.exists) {
        error =
            record_apply(tiers, hash, record_tombstone_new(space, key, key_len, revision), &old);
    }
    tiers->apply_error = error;
    if (error == 0) {
        *ret_existed = old.exists;
    }
    return error;
}

int tiers_lookup_meta(struct tiers *tiers, enum tiers_space space, const void *key, size_t key_len,
                      struct tiers_meta *ret_meta)
{
    if (!key_valid(space, key, key_len)) {
        return TIERS_INVALID;
    }
    struct current now;
    int error = current_get(tiers, record_key_hash(space, key, key_len), space, key, key_len, &now);
    if (error) {
        return error;
    }
    if (!now.exists) {
        return TIERS_NOT_FOUND;
    }
    *ret_meta = now.meta;
    return 0;
}

void tiers_prefetch(struct tiers *tiers, enum tiers_space space, const struct tiers_key *keys,
                    size_t n)
{
    uint64_t hashes[TIERS_PREFETCH_MAX];

    assert(n <= TIERS_PREFETCH_MAX);
    for (size_t i = 0; i < n; i++) {
        hashes[i] = record_key_hash(space, keys[i].bytes, keys[i].len);
    }
    hot_prefetch(tiers->hot, hashes, n);
}

bool engine_ready(struct tiers *tiers)
{
    return dirty_bytes(tiers->dirty) <= tiers->options.dirty_bytes_max &&
           !atomic_load(&tiers->no_space) && atomic_load(&tiers->stopped) == 0;
}

bool tiers_apply_ready(struct tiers *tiers)
{
    return engine_ready(tiers) || mover_ready_or_notify(tiers->mover);
}

bool tiers_no_space(const struct tiers *tiers)
{
    return atomic_load(&tiers->no_space);
}

/* ---- Positions and flush ---- */

int engine_freeze(struct tiers *tiers, bool force)
{
    int error = 0;
    struct tiers_position durable;
    tiers_position_durable(tiers, &durable);
    pthread_mutex_lock(&tiers->apply_mutex);
    uint64_t opened_ms = dirty_active_opened_ms(tiers->dirty);
    bool due = opened_ms == 0
                   ? tiers->applying.index != durable.index
                   : force || engine_now_ms(tiers) - opened_ms >= tiers->options.flush_interval_ms;
    if (tiers->apply_error != 0) {
        error = tiers->apply_error;
    } else if (due) {
        error = dirty_freeze(tiers->dirty, &tiers->applying);
    }
    pthread_mutex_unlock(&tiers->apply_mutex);
    return error;
}

void engine_durable(struct tiers *tiers, const struct tiers_position *position)
{
    pthread_mutex_lock(&tiers->position_mutex);
    tiers->durable = *position;
    pthread_mutex_unlock(&tiers->position_mutex);
    if (tiers->options.on_durable != NULL) {
        tiers->options.on_durable(tiers->options.context, position->index);
    }
}

void tiers_position_applied(struct tiers *tiers, struct tiers_position *ret_position)
{
    pthread_mutex_lock(&tiers->position_mutex);
    *ret_position = tiers->applied;
    pthread_mutex_unlock(&tiers->position_mutex);
}

void tiers_position_durable(struct tiers *tiers, struct tiers_position *ret_position)
{
    pthread_mutex_lock(&tiers->position_mutex);
    *ret_position = tiers->durable;
    pthread_mutex_unlock(&tiers->position_mutex);
}

int tiers_flush(struct tiers *tiers)
{
    return mover_flush(tiers->mover);
}

void tiers_flush_soon(struct tiers *tiers)
{
    mover_flush_soon(tiers->mover);
}

/* ---- Statistics ---- */

void tiers_stats(struct tiers *tiers, struct tiers_stats *ret_stats)
{
    struct hot_stats in_hot;
    struct warm_usage in_warm;
    hot_stats(tiers->hot, &in_hot);
    warm_usage(tiers->warm, &in_warm);
    *ret_stats = (struct tiers_stats){
        .hot_bytes = in_hot.bytes,
        .hot_keys = in_hot.keys,
        .evictions = in_hot.evictions,
        .dirty_bytes = dirty_bytes(tiers->dirty),
        .warm_used_bytes = in_warm.used_bytes,
        .warm_keys = in_warm.keys,
        .cold_keys = in_warm.cold_keys,
        .cold_live_bytes = in_warm.cold_live_bytes,
        .cold_bytes = cold_bytes(tiers->cold),
        .cold_segments = cold_segments(tiers->cold),
    };
    engine_counters_sum(tiers, ret_stats);
    observer_stats(tiers->observer, ret_stats);
}

void tiers_curve(struct tiers *tiers, struct tiers_curve *ret_curve)
{
    observer_curve(tiers->observer, ret_curve);
}

void tiers_placement(struct tiers *tiers, struct tiers_placement *ret_placement)
{
    struct tiers_stats stats;
    const struct tiers_options *options = &tiers->options;
    tiers_stats(tiers, &stats);
    *ret_placement = (struct tiers_placement){
        .hot = {.bytes = stats.hot_bytes,
                .budget_bytes = options->hot_bytes,
                .keys = stats.hot_keys},
        .warm = {.bytes = stats.warm_used_bytes,
                 .budget_bytes = options->warm_bytes,
                 .keys = stats.warm_keys - stats.cold_keys},
        .cold = {.bytes = stats.cold_bytes, .keys = stats.cold_keys},
        .promote_heat_min = atomic_load(&tiers->promote_heat_min),
        .demote_heat_max = atomic_load(&tiers->demote_heat_max),
        .demoting = atomic_load(&tiers->demoting),
        .hot_has_room = atomic_load(&tiers->hot_has_room),
    };
    mover_placement(tiers->mover, ret_placement);
    observer_placement(tiers->observer, ret_placement);
}
