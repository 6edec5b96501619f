/* See sketch.h. The position in a row is some bits of a hash, so that doubling a row copies it:
 * each key then finds its old count in either half. */
#include "sketch.h"

#include <stdlib.h>
#include <string.h>

#define ROWS               4
#define COUNTERS_PER_ENTRY 4
#define WIDTH_FIRST        1024u
#define WIDTH_MAX          (1u << 26)

struct sketch {
    uint64_t width; /* Counters in a row; a power of two */
    uint8_t *counters;
};

static uint8_t *counter_of(const struct sketch *sketch, uint64_t key_hash, unsigned row)
{
    static const uint64_t odd[ROWS] = {0x9e3779b97f4a7c15u, 0xc2b2ae3d27d4eb4fu,
                                       0x165667b19e3779f9u, 0xd6e8feb86659fd93u};
    uint64_t mixed = (key_hash + row) * odd[row];

    mixed ^= mixed >> 32;
    return &sketch->counters[row * sketch->width + (mixed & (sketch->width - 1))];
}

struct sketch *sketch_new(void)
{
    struct sketch *sketch = malloc(sizeof(*sketch));

    if (sketch == NULL)
        return NULL;
    sketch->width = WIDTH_FIRST;
    sketch->counters = calloc(ROWS, sketch->width);
    if (sketch->counters == NULL) {
        free(sketch);
        return NULL;
    }
    return sketch;
}

void sketch_free(struct sketch *sketch)
{
    if (sketch == NULL)
        return;
    free(sketch->counters);
    free(sketch);
}

void sketch_fit(struct sketch *sketch, uint64_t entries)
{
    while (sketch->width < entries * COUNTERS_PER_ENTRY && sketch->width < WIDTH_MAX) {
        uint64_t width = sketch->width;
        uint8_t *wider = malloc(ROWS * width * 2);
        if (wider == NULL)
            return;
        for (unsigned row = 0; row < ROWS; row++) {
            memcpy(wider + row * width * 2, sketch->counters + row * width, width);
            memcpy(wider + row * width * 2 + width, sketch->counters + row * width, width);
        }
        free(sketch->counters);
        sketch->counters = wider;
        sketch->width = width * 2;
    }
}

unsigned sketch_estimate(const struct sketch *sketch, uint64_t key_hash)
{
    unsigned least = UINT8_MAX;

    for (unsigned row = 0; row < ROWS; row++) {
        unsigned count = *counter_of(sketch, key_hash, row);
        least = count < least ? count : least;
    }
    return least;
}

void sketch_add(struct sketch *sketch, uint64_t key_hash)
{
    unsigned least = sketch_estimate(sketch, key_hash);

    if (least == UINT8_MAX)
        return;
    for (unsigned row = 0; row < ROWS; row++) {
        uint8_t *counter = counter_of(sketch, key_hash, row);
        if (*counter == least)
            (*counter)++;
    }
}

void sketch_age(struct sketch *sketch)
{
    for (uint64_t i = 0; i < ROWS * sketch->width; i++)
        sketch->counters[i] /= 2;
}

size_t sketch_bytes(const struct sketch *sketch)
{
    return sizeof(*sketch) + ROWS * sketch->width;
}
