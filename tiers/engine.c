/* The engine: joins the three tiers behind include/tiers/tiers.h.
 *
 * Here are opening and closing, the applier's functions, positions and statistics. Reads are in
 * reader.c, background work in mover.c and its companions.
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

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define HOT_BYTES_DEFAULT         (64ull << 20)
#define WARM_BYTES_DEFAULT        (1ull << 30)
#define BYTES_MIN                 (1ull << 20)
#define SEGMENT_BYTES_DEFAULT     (256ull << 20)
#define SEGMENT_BYTES_MIN         (64ull << 10)
#define FLUSH_BYTES_MAX           (16ull << 20)
#define FLUSH_BYTES_MIN           (256ull << 10)
#define FLUSH_INTERVAL_MS_DEFAULT 1000
#define READ_DEPTH_DEFAULT        64
#define READ_DEPTH_MAX            4096
#define HEAT_COUNTERS_MIN         (1ull << 16)
#define HEAT_COUNTERS_MAX         (1ull << 26)
#define HEAT_BYTES_PER_COUNTER    256
#define EVENT_DETAIL_BYTES        512
#define FOLDER_PATH_BYTES         4096

/* ---- Opening and closing ---- */

void tiers_options_init(struct tiers_options *options)
{
    *options = (struct tiers_options){
        .hot_bytes = HOT_BYTES_DEFAULT, .warm_bytes = WARM_BYTES_DEFAULT, .policy = "lru"};
}

__attribute__((format(printf, 3, 4))) static void describe(char *text, size_t size,
                                                           const char *format, ...)
{
    if (text != NULL && size > 0) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(text, size, format, arguments);
        va_end(arguments);
    }
}

/* A flush rewrites up to one page for each record and LMDB keeps such pages in memory: its size is
 * bound to the memory that the engine was given. */
static uint64_t flush_bytes_default(uint64_t hot_bytes)
{
    uint64_t bytes = hot_bytes / 16;
    bytes = bytes < FLUSH_BYTES_MAX ? bytes : FLUSH_BYTES_MAX;
    return bytes > FLUSH_BYTES_MIN ? bytes : FLUSH_BYTES_MIN;
}

static int options_complete(struct tiers_options *options, char *error_text, size_t error_text_size)
{
    const char *problem = NULL;
    if (options->warm_dir == NULL || options->cold_dir == NULL) {
        problem = "warm_dir and cold_dir must be named";
    } else if (options->hot_bytes < BYTES_MIN) {
        problem = "hot_bytes must be at least 1 MiB";
    } else if (options->warm_bytes < BYTES_MIN) {
        problem = "warm_bytes must be at least 1 MiB";
    } else if (options->warm_map_bytes != 0 && options->warm_map_bytes < BYTES_MIN / 4) {
        problem = "warm_map_bytes must be at least 256 KiB";
    } else if (options->cold_segment_bytes != 0 &&
               options->cold_segment_bytes < SEGMENT_BYTES_MIN) {
        problem = "cold_segment_bytes must be at least 64 KiB";
    } else if (options->read_depth_max > READ_DEPTH_MAX) {
        problem = "read_depth_max must be at most 4096";
    } else if (policy_find(options->policy != NULL ? options->policy : "lru") == NULL) {
        problem = "there is no eviction policy of the name given";
    }
    if (problem != NULL) {
        describe(error_text, error_text_size, "%s", problem);
        return TIERS_INVALID;
    }
#define DEFAULT(field, value) options->field = options->field != 0 ? options->field : (value)
    DEFAULT(policy, "lru");
    DEFAULT(cold_segment_bytes, SEGMENT_BYTES_DEFAULT);
    DEFAULT(flush_bytes, flush_bytes_default(options->hot_bytes));
    DEFAULT(dirty_bytes_max, options->hot_bytes / 2);
    DEFAULT(flush_interval_ms, FLUSH_INTERVAL_MS_DEFAULT);
    DEFAULT(read_depth_max, READ_DEPTH_DEFAULT);
#undef DEFAULT
    /* Else the applier would be held back while nothing has been handed to the mover. */
    if (options->flush_bytes > options->dirty_bytes_max / 2) {
        options->flush_bytes = options->dirty_bytes_max / 2;
    }
    return 0;
}

/* Makes the directory and those above it. */
static int folder_make(const char *path, char *error_text, size_t error_text_size)
{
    char part[FOLDER_PATH_BYTES];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof part) {
        describe(error_text, error_text_size, "the path of a directory is empty or too long");
        return TIERS_INVALID;
    }
    for (size_t end = 1; end <= n; end++) {
        if (path[end] != '/' && path[end] != '\0') {
            continue;
        }
        memcpy(part, path, end);
        part[end] = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST) {
            int cause = errno;
            describe(error_text, error_text_size, "cannot create the directory %s: %s", part,
                     strerror(cause));
            return cause == ENOSPC || cause == EDQUOT ? TIERS_NO_SPACE
                   : cause == ENOTDIR                 ? TIERS_INVALID
                   : cause == EIO                     ? TIERS_IO
                                                      : TIERS_ACCESS;
        }
    }
    struct stat status;
    if (stat(path, &status) != 0 || !S_ISDIR(status.st_mode)) {
        describe(error_text, error_text_size, "%s is not a directory", path);
        return TIERS_INVALID;
    }
    return 0;
}

static int cold_tier_open(struct tiers *tiers, char *error_text, size_t error_text_size)
{
    struct warm_segment *segments = NULL;
    struct cold_known *known = NULL;
    size_t n = 0;
    int error = warm_segments(tiers->warm, &segments, &n);
    if (error == 0) {
        known = calloc(n + 1, sizeof *known);
        error = known == NULL ? TIERS_NO_MEMORY : 0;
    }
    if (error) {
        describe(error_text, error_text_size, "cannot list the cold segments: %s",
                 tiers_strerror(error));
    } else {
        for (size_t i = 0; i < n; i++) {
            known[i] = (struct cold_known){.id = segments[i].id, .bytes = segments[i].bytes};
        }
        struct cold_options options = {.directory = tiers->options.cold_dir,
                                       .segment_bytes = tiers->options.cold_segment_bytes,
                                       .direct_io = tiers->options.direct_io,
                                       .read_depth = tiers->options.read_depth_max};
        error = cold_open(&options, known, n, warm_segment_next_id(tiers->warm), &tiers->cold,
                          error_text, error_text_size);
    }
    free(known);
    free(segments);
    return error;
}

static int memory_open(struct tiers *tiers, char *error_text, size_t error_text_size)
{
    const struct tiers_options *options = &tiers->options;
    uint64_t larger =
        options->hot_bytes > options->warm_bytes ? options->hot_bytes : options->warm_bytes;
    uint64_t counters = larger / HEAT_BYTES_PER_COUNTER;
    counters = counters < HEAT_COUNTERS_MAX ? counters : HEAT_COUNTERS_MAX;
    counters = counters > HEAT_COUNTERS_MIN ? counters : HEAT_COUNTERS_MIN;
    struct hot_options hot_options = {.bytes = options->hot_bytes,
                                      .policy = policy_find(options->policy)};
    tiers->heat = heat_new((size_t)counters);
    int error = tiers->heat == NULL ? TIERS_NO_MEMORY : 0;
    if (error == 0) {
        error = hot_open(&hot_options, &tiers->hot);
    }
    if (error == 0) {
        error = dirty_open(&tiers->dirty);
    }
    if (error) {
        describe(error_text, error_text_size, "cannot set up the hot tier: %s",
                 tiers_strerror(error));
    }
    return error;
}

static void engine_free(struct tiers *tiers)
{
    assert(tiers->readers == NULL);
    if (tiers->mover != NULL) {
        mover_close(tiers->mover);
    }
    if (tiers->apply_read != NULL) {
        warm_read_close(tiers->apply_read);
    }
    if (tiers->dirty != NULL) {
        dirty_close(tiers->dirty);
    }
    if (tiers->hot != NULL) {
        hot_close(tiers->hot);
    }
    heat_free(tiers->heat);
    if (tiers->cold != NULL) {
        cold_close(tiers->cold);
    }
    if (tiers->warm != NULL) {
        warm_close(tiers->warm);
    }
    pthread_mutex_destroy(&tiers->apply_mutex);
    pthread_mutex_destroy(&tiers->position_mutex);
    pthread_mutex_destroy(&tiers->registry_mutex);
    free(tiers);
}

static int parts_open(struct tiers *tiers, char *error_text, size_t error_text_size)
{
    struct tiers_options *options = &tiers->options;
    int error = options_complete(options, error_text, error_text_size);
    if (error == 0) {
        error = folder_make(options->warm_dir, error_text, error_text_size);
    }
    if (error == 0) {
        error = folder_make(options->cold_dir, error_text, error_text_size);
    }
    if (error == 0) {
        error = warm_open(options->warm_dir, options->warm_map_bytes, &tiers->warm, error_text,
                          error_text_size);
    }
    if (error == 0) {
        error = cold_tier_open(tiers, error_text, error_text_size);
    }
    if (error == 0) {
        error = memory_open(tiers, error_text, error_text_size);
    }
    if (error == 0) {
        error = warm_read_open(tiers->warm, &tiers->apply_read);
    }
    if (error == 0) {
        error = mover_open(tiers, &tiers->mover);
    }
    return error;
}

int engine_open(const struct tiers_options *options, bool mover_thread, struct tiers **ret_tiers,
                char *error_text, size_t error_text_size)
{
    describe(error_text, error_text_size, "out of memory");
    struct tiers *tiers = calloc(1, sizeof *tiers);
    if (tiers == NULL) {
        return TIERS_NO_MEMORY;
    }
    tiers->options = *options;
    pthread_mutex_init(&tiers->apply_mutex, NULL);
    pthread_mutex_init(&tiers->position_mutex, NULL);
    pthread_mutex_init(&tiers->registry_mutex, NULL);
    atomic_store(&tiers->hot_has_room, true);
    int error = parts_open(tiers, error_text, error_text_size);
    if (error == 0) {
        tiers->options.warm_dir = NULL;
        tiers->options.cold_dir = NULL;
        tiers->options.policy = NULL;
        warm_position(tiers->warm, &tiers->durable);
        tiers->applied = tiers->durable;
        tiers->applying = tiers->durable;
        error = mover_thread ? mover_start(tiers->mover) : 0;
    }
    if (error) {
        engine_free(tiers);
        return error;
    }
    *ret_tiers = tiers;
    return 0;
}

int tiers_open(const struct tiers_options *options, struct tiers **ret_tiers, char *error_text,
               size_t error_text_size)
{
    return engine_open(options, true, ret_tiers, error_text, error_text_size);
}

int tiers_close(struct tiers *tiers)
{
    int error = tiers_flush(tiers);
    engine_free(tiers);
    return error;
}

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
        *ret_current =
            (struct current){.exists = true, .digest = record->digest, .meta = record->meta};
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

/* Makes `record` (or NULL: out of memory) the key's current one and consumes it. */
static int record_apply(struct tiers *tiers, uint64_t hash, struct tiers_record *record,
                        const struct current *old)
{
    if (record == NULL) {
        return TIERS_NO_MEMORY;
    }
    int error = dirty_add(tiers->dirty, hash, record, engine_now_ms(tiers));
    if (error == 0) {
        error = hot_write(tiers->hot, hash, record);
    }
    if (error == 0) {
        tiers->applying.state_hash += record->digest - (old->exists ? old->digest : 0);
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

bool engine_ready(struct tiers *tiers)
{
    return dirty_bytes(tiers->dirty) <= tiers->options.dirty_bytes_max &&
           !atomic_load(&tiers->no_space) && atomic_load(&tiers->stopped) == 0;
}

bool tiers_apply_ready(struct tiers *tiers)
{
    return engine_ready(tiers) || mover_ready_or_notify(tiers->mover);
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
}
