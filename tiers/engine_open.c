/* Opening and closing the engine.
 *
 * The happy path: complete and check the options, make the directories, open the warm tier, which
 * knows the position and the cold segments, then the cold tier, memory, and last the mover.
 *
 * Failures: whatever was opened is closed again and one sentence names the file and the cause. Runs
 * on the caller's thread, before and after all others. */
#include "engine.h"

#include "file.h"
#include "heat_file.h"
#include "mover.h"
#include "observer.h"
#include "reader_pool.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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
#define READER_THREADS_DEFAULT    32
#define READER_THREADS_MAX        256
#define DISK_DEPTH_MAX            128 /* Of each reader, which keeps a buffer for each; the rest waits */
#define HEAT_COUNTERS_MIN         (1ull << 16)
#define HEAT_COUNTERS_MAX         (1ull << 26)
#define HEAT_BYTES_PER_COUNTER    256
#define HEAT_COUNTERS_PER_BYTE    2
/* What goes beyond counts as hot bytes, of which it may take about an eighth. */
#define HEAT_BYTES_FREE (4ull << 20)
/* One read of twenty may be a cold one. */
#define COLD_READ_PERMILLE_DEFAULT 50
#define POLICY_DEFAULT             "lru"
#define FOLDER_PATH_BYTES          4096

void tiers_options_init(struct tiers_options *options)
{
    *options = (struct tiers_options){
        .hot_bytes = HOT_BYTES_DEFAULT, .warm_bytes = WARM_BYTES_DEFAULT, .policy = POLICY_DEFAULT};
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

static bool policy_is_auto(const struct tiers_options *options)
{
    return options->policy != NULL && strcmp(options->policy, "auto") == 0;
}

/* The policy to begin with; NULL: there is none of that name. */
static const struct policy_type *policy_first(const struct tiers_options *options)
{
    return policy_find(options->policy == NULL || policy_is_auto(options) ? POLICY_DEFAULT
                                                                          : options->policy);
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
    } else if (options->warm_reader_threads > READER_THREADS_MAX) {
        problem = "warm_reader_threads must be at most 256";
    } else if (policy_is_auto(options) && options->curve_off) {
        problem = "the policy auto needs the curves that curve_off switches off";
    } else if (policy_first(options) == NULL) {
        problem = "there is no eviction policy of the name given";
    }
    if (problem != NULL) {
        describe(error_text, error_text_size, "%s", problem);
        return TIERS_INVALID;
    }
#define DEFAULT(field, value) options->field = options->field != 0 ? options->field : (value)
    DEFAULT(cold_segment_bytes, SEGMENT_BYTES_DEFAULT);
    DEFAULT(flush_bytes, flush_bytes_default(options->hot_bytes));
    DEFAULT(dirty_bytes_max, options->hot_bytes / 2);
    DEFAULT(flush_interval_ms, FLUSH_INTERVAL_MS_DEFAULT);
    DEFAULT(read_depth_max, READ_DEPTH_DEFAULT);
    DEFAULT(warm_reader_threads, READER_THREADS_DEFAULT);
    DEFAULT(cold_read_permille_max, COLD_READ_PERMILLE_DEFAULT);
#undef DEFAULT
    /* Else the applier would be held back while nothing has been handed to the mover. */
    if (options->flush_bytes > options->dirty_bytes_max / 2) {
        options->flush_bytes = options->dirty_bytes_max / 2;
    }
    return 0;
}

static int folder_status(int error)
{
    switch (error) {
    case ENOSPC:
    case EDQUOT:
        return TIERS_NO_SPACE;
    case ENOTDIR:
        return TIERS_INVALID;
    case ENOMEM:
        return TIERS_NO_MEMORY;
    case EIO:
        return TIERS_IO;
    default:
        return TIERS_ACCESS;
    }
}

/* Makes the directory and those above it, durably. The last name is synced even if it was there:
 * whoever made it may have been cut off before he did. */
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
        bool made = file_folder_make(part, 0700) == 0;
        bool there = made || errno == EEXIST;
        if (there && !made && end < n) {
            continue;
        }
        if (!there || (file_parent_sync(part) != 0 && (made || errno != EACCES))) {
            int cause = errno;
            describe(error_text, error_text_size, "cannot create the directory %s: %s", part,
                     strerror(cause));
            return folder_status(cause);
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
        uint32_t depth = tiers->options.read_depth_max;
        struct cold_options options = {
            .directory = tiers->options.cold_dir,
            .segment_bytes = tiers->options.cold_segment_bytes,
            .direct_io = tiers->options.direct_io,
            .read_depth = depth < DISK_DEPTH_MAX ? depth : DISK_DEPTH_MAX,
            .read_queue = depth > DISK_DEPTH_MAX ? depth - DISK_DEPTH_MAX : 0};
        error = cold_open(&options, known, n, warm_segment_next_id(tiers->warm), &tiers->cold,
                          error_text, error_text_size);
    }
    free(known);
    free(segments);
    return error;
}

/* A power of two, which heat_new does not round up. */
static size_t heat_counters(const struct tiers_options *options)
{
    uint64_t larger =
        options->hot_bytes > options->warm_bytes ? options->hot_bytes : options->warm_bytes;
    uint64_t wanted = larger / HEAT_BYTES_PER_COUNTER;
    uint64_t most = (options->hot_bytes / 8 + HEAT_BYTES_FREE) * HEAT_COUNTERS_PER_BYTE;
    most = most < HEAT_COUNTERS_MAX ? most : HEAT_COUNTERS_MAX;
    uint64_t counters = HEAT_COUNTERS_MIN;
    while (counters < wanted && counters * 2 <= most) {
        counters *= 2;
    }
    return (size_t)counters;
}

static int memory_open(struct tiers *tiers, char *error_text, size_t error_text_size)
{
    const struct tiers_options *options = &tiers->options;
    struct hot_options hot_options = {.bytes = options->hot_bytes, .policy = policy_first(options)};
    tiers->heat = heat_new(heat_counters(options));
    int error = tiers->heat == NULL ? TIERS_NO_MEMORY : 0;
    if (error == 0) {
        error = hot_open(&hot_options, &tiers->hot);
    }
    if (error == 0) {
        uint64_t bytes = heat_bytes(tiers->heat);
        hot_reserve(tiers->hot, bytes > HEAT_BYTES_FREE ? bytes - HEAT_BYTES_FREE : 0);
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
    if (tiers->observer != NULL) {
        observer_close(tiers->observer);
    }
    sampler_free(tiers->sampler);
    if (tiers->reader_pool != NULL) {
        reader_pool_close(tiers->reader_pool);
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
    pthread_mutex_destroy(&tiers->export_mutex);
    free(tiers);
}

static int observation_open(struct tiers *tiers, char *error_text, size_t error_text_size)
{
    struct observer_options options = {.policy = policy_first(&tiers->options),
                                       .automatic = policy_is_auto(&tiers->options),
                                       .curve = !tiers->options.curve_off};
    tiers->sampler = sampler_new();
    int error = tiers->sampler == NULL ? TIERS_NO_MEMORY : 0;
    if (error == 0) {
        error = observer_open(tiers, &options, &tiers->observer);
    }
    if (error) {
        describe(error_text, error_text_size, "cannot set up the observation of the load: %s",
                 tiers_strerror(error));
    }
    return error;
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
        error = warm_open(options->warm_dir, options->warm_map_bytes, options->warm_check_bytes_max,
                          &tiers->warm, error_text, error_text_size);
    }
    if (error == 0 && !warm_adds_up(tiers->warm)) {
        describe(error_text, error_text_size,
                 "%s/data.mdb is damaged: its keys do not add up to the state hash",
                 options->warm_dir);
        error = TIERS_CORRUPT;
    }
    if (error == 0) {
        error = cold_tier_open(tiers, error_text, error_text_size);
    }
    if (error == 0) {
        error = memory_open(tiers, error_text, error_text_size);
    }
    if (error == 0 && heat_file_take(options->warm_dir, tiers->heat)) {
        engine_event(tiers, TIERS_EVENT_INFO, "heat_taken",
                     "the state came with the heat of its keys");
    }
    if (error == 0) {
        error = warm_read_open(tiers->warm, &tiers->apply_read);
    }
    if (error == 0) {
        error = reader_pool_open(tiers->warm, options->warm_reader_threads, &tiers->reader_pool);
    }
    if (error == 0) {
        error = mover_open(tiers, &tiers->mover);
    }
    if (error == 0) {
        error = observation_open(tiers, error_text, error_text_size);
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
    pthread_mutex_init(&tiers->export_mutex, NULL);
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
        if (error == 0 && mover_thread) {
            error = observer_start(tiers->observer);
        }
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
