/* An open warm tier in a folder of its own, for tests. To be included after cmocka.h. */
#ifndef TIERKV_TESTS_WARM_FIXTURE_H
#define TIERKV_TESTS_WARM_FIXTURE_H

#include "lib/temp_folder.h"
#include "warm.h"

#include <stdlib.h>
#include <string.h>

#define MAP_BYTES (64u << 20)

struct fixture {
    char folder[TEMP_FOLDER_PATH_BYTES];
    char text[512];
    struct warm *warm;
};

static inline void reopen(struct fixture *f)
{
    if (f->warm != NULL) {
        warm_close(f->warm);
        f->warm = NULL;
    }
    assert_int_equal(warm_open(f->folder, MAP_BYTES, 0, &f->warm, f->text, sizeof f->text), 0);
}

static inline int tear_down(void **state)
{
    struct fixture *f = *state;
    if (f->warm != NULL) {
        warm_close(f->warm);
    }
    temp_folder_remove(f->folder);
    free(f);
    return 0;
}

static inline struct warm_write *begin(struct fixture *f)
{
    struct warm_write *write = NULL;
    assert_int_equal(warm_write_begin(f->warm, &write), 0);
    return write;
}

/* As the engine does with the first items; without it they would be taken for damage. */
static inline void position_put(struct fixture *f)
{
    struct tiers_position position = {.index = 1};
    struct warm_write *write = begin(f);
    assert_int_equal(warm_set_position(write, &position), 0);
    assert_int_equal(warm_write_commit(write), 0);
}

static inline int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    temp_folder_make(f->folder);
    reopen(f);
    position_put(f);
    *state = f;
    return 0;
}

static const struct tiers_meta some_meta = {
    .create_revision = 5, .mod_revision = 900, .version = 7, .flags = 3, .expires_ms = 1u << 20};

static inline void put(struct warm_write *write, const char *key, const char *value)
{
    assert_int_equal(warm_put_inline(write, TIERS_SPACE_USER, key, strlen(key), &some_meta, 77,
                                     value, strlen(value)),
                     0);
}

static inline void put_cold(struct warm_write *write, const char *key, uint64_t segment,
                            uint32_t bytes)
{
    struct cold_location location = {.segment = segment, .offset = 4096, .bytes = bytes};
    assert_int_equal(
        warm_put_cold(write, TIERS_SPACE_USER, key, strlen(key), &some_meta, 77, 10, &location), 0);
}

static inline struct warm_usage usage(struct fixture *f)
{
    struct warm_usage now;
    warm_usage(f->warm, &now);
    return now;
}

static inline uint64_t live_bytes(struct fixture *f, uint64_t id)
{
    struct warm_segment *segments = NULL;
    size_t n = 0;
    uint64_t live = UINT64_MAX;
    assert_int_equal(warm_segments(f->warm, &segments, &n), 0);
    for (size_t i = 0; i < n; i++) {
        if (segments[i].id == id) {
            live = segments[i].live_bytes;
        }
    }
    free(segments);
    return live;
}

#endif
