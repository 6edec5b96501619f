/* An engine in a temporary folder, with small budgets, for the tests of the engine's files. */
#ifndef TIERKV_TESTS_TIERS_ENGINE_FIXTURE_H
#define TIERKV_TESTS_TIERS_ENGINE_FIXTURE_H

#include "model.h"

#include "engine.h"
#include "lib/temp_folder.h"

#include <poll.h>
#include <stdatomic.h>

#define FIXTURE_MAP_BYTES (256u << 20)

/* How long what another thread does is waited for. */
#define FIXTURE_TURNS_MAX 60000
#define FIXTURE_TURN_MS   1

struct fixture {
    char folder[TEMP_FOLDER_PATH_BYTES];
    char warm_dir[TEMP_FOLDER_PATH_BYTES + 8];
    char cold_dir[TEMP_FOLDER_PATH_BYTES + 8];
    char text[512];
    struct tiers_options options;
    struct tiers *tiers;
    _Atomic uint64_t durable_index;
    _Atomic unsigned readies;
    _Atomic unsigned failures;
    _Atomic unsigned pauses;
    int report_fd;             /* Of a child process: where it reports to its parent */
    _Atomic uint64_t clock_ms; /* With fixture_clock as now_ms */
};

static inline void fixture_on_durable(void *context, uint64_t index)
{
    struct fixture *f = context;
    atomic_store(&f->durable_index, index);
}

static inline void fixture_on_ready(void *context)
{
    struct fixture *f = context;
    atomic_fetch_add(&f->readies, 1);
}

static inline void fixture_on_failed(void *context, int error, const char *detail)
{
    struct fixture *f = context;
    atomic_fetch_add(&f->failures, 1);
    print_message("stopped: %s (%d)\n", detail, error);
}

static inline void fixture_on_event(void *context, enum tiers_event_level level, const char *event,
                                    const char *detail)
{
    struct fixture *f = context;
    if (strcmp(event, "flush_paused") == 0) {
        atomic_fetch_add(&f->pauses, 1);
    }
    if (level != TIERS_EVENT_INFO) {
        print_message("event %s: %s\n", event, detail);
    }
}

static inline uint64_t fixture_clock(void *context)
{
    struct fixture *f = context;
    return atomic_load(&f->clock_ms);
}

static inline struct fixture *fixture_new(void)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL) {
        abort();
    }
    temp_folder_make(f->folder);
    snprintf(f->warm_dir, sizeof f->warm_dir, "%s/warm", f->folder);
    snprintf(f->cold_dir, sizeof f->cold_dir, "%s/cold", f->folder);
    f->clock_ms = 1000;
    tiers_options_init(&f->options);
    f->options.warm_dir = f->warm_dir;
    f->options.cold_dir = f->cold_dir;
    f->options.hot_bytes = 1u << 20;
    f->options.warm_bytes = 1u << 20;
    f->options.warm_map_bytes = FIXTURE_MAP_BYTES;
    f->options.cold_segment_bytes = 256u << 10;
    f->options.flush_interval_ms = 20;
    f->options.context = f;
    f->options.on_durable = fixture_on_durable;
    f->options.on_ready = fixture_on_ready;
    f->options.on_failed = fixture_on_failed;
    f->options.on_event = fixture_on_event;
    return f;
}

static inline void fixture_open(struct fixture *f, bool mover_thread)
{
    int error = engine_open(&f->options, mover_thread, &f->tiers, f->text, sizeof f->text);
    if (error != 0) {
        print_error("%s\n", f->text);
    }
    assert_int_equal(error, 0);
}

static inline void fixture_close(struct fixture *f)
{
    assert_int_equal(tiers_close(f->tiers), 0);
    f->tiers = NULL;
}

static inline void fixture_free(struct fixture *f)
{
    if (f->tiers != NULL) {
        tiers_close(f->tiers);
    }
    temp_folder_remove(f->folder);
    free(f);
}

static inline void fixture_apply_ready_await(struct tiers *tiers)
{
    int turns = 0;
    while (!tiers_apply_ready(tiers)) {
        assert_true(turns++ < FIXTURE_TURNS_MAX);
        poll(NULL, 0, FIXTURE_TURN_MS);
    }
}

static inline struct tiers_stats fixture_stats(struct fixture *f)
{
    struct tiers_stats stats;
    tiers_stats(f->tiers, &stats);
    return stats;
}

#endif
