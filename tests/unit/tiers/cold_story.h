/* A store whose values go to a cold disk, with a clock of its own and a mover that is driven step
 * by step, for the tests of the mover's work there. */
#ifndef TIERKV_TESTS_TIERS_COLD_STORY_H
#define TIERKV_TESTS_TIERS_COLD_STORY_H

#include "engine_fixture.h"

#include "mover_private.h"

#define VALUE_BYTES 4000
#define KEYS        1000
#define STEPS_MAX   10000

struct story {
    struct fixture *f;
    struct model *model;
    unsigned damaged; /* Events */
    unsigned kept;
};

static inline void event_count(void *context, enum tiers_event_level level, const char *event,
                               const char *detail)
{
    struct story *story = context;
    if (level == TIERS_EVENT_ERROR) {
        print_message("event %s: %s\n", event, detail);
    }
    story->damaged += strcmp(event, "segment_damaged") == 0;
    story->kept += strcmp(event, "segment_kept") == 0;
}

static inline uint64_t clock_read(void *context)
{
    const struct story *story = context;
    return atomic_load(&story->f->clock_ms);
}

static inline int set_up(void **state)
{
    struct story *story = calloc(1, sizeof *story);
    assert_non_null(story);
    story->f = fixture_new();
    story->f->options.context = story;
    story->f->options.on_event = event_count;
    story->f->options.on_durable = NULL;
    story->f->options.on_ready = NULL;
    story->f->options.on_failed = NULL;
    story->f->options.now_ms = clock_read;
    story->model = model_new(KEYS);
    *state = story;
    return 0;
}

static inline int tear_down(void **state)
{
    struct story *story = *state;
    model_free(story->model);
    fixture_free(story->f);
    free(story);
    return 0;
}

static inline void steps(struct fixture *f)
{
    int i = 0;
    while (i < STEPS_MAX && mover_step(f->tiers->mover)) {
        i++;
    }
    assert_true(i < STEPS_MAX);
}

static inline void fill(struct story *story)
{
    for (size_t i = 0; i < KEYS; i++) {
        model_put_group(story->f->tiers, story->model, i, VALUE_BYTES);
        if (i % 50 == 49) {
            assert_int_equal(tiers_flush(story->f->tiers), 0);
        }
    }
}

/* Two thirds of all keys vanish: every segment is more dead than alive. */
static inline void delete_most(struct story *story)
{
    for (size_t i = 0; i < KEYS; i++) {
        if (i % 3 != 0) {
            model_delete_group(story->f->tiers, story->model, i);
        }
    }
    assert_int_equal(tiers_flush(story->f->tiers), 0);
}

#endif
