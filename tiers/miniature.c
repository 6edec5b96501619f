/* See miniature.h for what is simulated. A point is a capacity with a small cache for each policy,
 * all at one rate; small capacities can afford higher rates than large ones.
 *
 * A key that alone makes out much of what is sampled, in a step that brought too much, is excluded
 * until the end of the window: it is known to hit. Only if there is no such key are rates lowered.
 * After its rate was raised a point sits out the rest of the window: the keys that are new to it
 * miss once without meaning it. Until it has news, its old figures stand with a little weight.
 *
 * Cannot fail once made: a shadow that finds no memory simply does not hold the key. */
#include "miniature.h"

#include "policy/shadow.h"
#include "tiers/policy.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define KEYS_MAX_DEFAULT          1920
#define SAMPLES_PER_S_MAX_DEFAULT 2000
#define WINDOW_READS_MIN          256
#define WINDOW_MS_MAX             60000
#define FADE                      0.75
/* A step may bring so many times the average, and at least so many. */
#define STEP_BURST       4
#define STEP_SAMPLES_MIN 64
/* A key is heavy from this part of a step's samples on. */
#define HEAVY_PART 8
/* Rates are raised by this factor when keys and samples stay below this part of their bounds. */
#define RAISE_FACTOR 4
#define RAISE_PART   8
/* What the figures from before a raise are worth, in samples. */
#define PRIOR_SAMPLES 64
/* The hot tier puts a record that is seldom read only into this part of its budget. */
#define SELDOM_ROOM(capacity) ((capacity) - (capacity) / 8)

static const double multiples[TIERS_CURVE_POINTS] = {0.125, 0.25, 0.5, 1, 1.5, 2, 4, 8};
#define POINT_NOW 3

struct point {
    uint64_t capacity; /* Of the cache that is simulated */
    uint64_t threshold;
    struct shadow *shadows[TIERS_CURVE_POLICIES_MAX];
    double misses[TIERS_CURVE_POLICIES_MAX]; /* Of the whole, estimated */
    double reads;
    uint64_t step_samples;
    uint64_t window_samples;
    bool warming;
};

/* The summary of Misra and Gries (1982): keys that make out a part of the step's samples. */
struct heavy {
    uint64_t key_hash;
    uint64_t count;
};

struct miniature {
    struct miniature_options options;
    size_t n_policies;
    const struct policy_type *policies[TIERS_CURVE_POLICIES_MAX];
    struct point points[TIERS_CURVE_POINTS];
    struct heavy heavy[SAMPLER_EXCLUDED_MAX];
    uint64_t excluded[SAMPLER_EXCLUDED_MAX];
    size_t n_excluded;
    uint64_t samples;
    uint64_t step_samples;
    uint64_t step_ms; /* Time of the last step */
    uint64_t window_ms;
    uint64_t window_reads;
};

static double point_rate(const struct point *point)
{
    return ((double)point->threshold + 1) / ((double)UINT64_MAX + 1);
}

static uint64_t point_scaled_capacity(const struct point *point)
{
    return (uint64_t)((double)point->capacity * point_rate(point));
}

/* ---- Making and freeing ---- */

static bool point_open(struct miniature *miniature, struct point *point, double multiple)
{
    point->capacity = (uint64_t)((double)miniature->options.hot_bytes * multiple);
    point->threshold = SAMPLER_ALL;
    for (size_t i = 0; i < miniature->n_policies; i++) {
        point->shadows[i] = shadow_new(miniature->policies[i], point->capacity);
        if (point->shadows[i] == NULL)
            return false;
    }
    return true;
}

struct miniature *miniature_new(const struct miniature_options *options)
{
    struct miniature *miniature = calloc(1, sizeof *miniature);
    const struct policy_type *type;

    if (miniature == NULL)
        return NULL;
    miniature->options = *options;
    if (options->keys_max == 0)
        miniature->options.keys_max = KEYS_MAX_DEFAULT;
    if (options->samples_per_s_max == 0)
        miniature->options.samples_per_s_max = SAMPLES_PER_S_MAX_DEFAULT;
    miniature->step_ms = miniature->window_ms = options->now_ms;
    while (miniature->n_policies < TIERS_CURVE_POLICIES_MAX &&
           (type = policy_at(miniature->n_policies)) != NULL)
        miniature->policies[miniature->n_policies++] = type;
    for (size_t i = 0; i < TIERS_CURVE_POINTS; i++) {
        if (!point_open(miniature, &miniature->points[i], multiples[i])) {
            miniature_free(miniature);
            return NULL;
        }
    }
    return miniature;
}

void miniature_free(struct miniature *miniature)
{
    if (miniature == NULL)
        return;
    for (size_t i = 0; i < TIERS_CURVE_POINTS; i++) {
        for (size_t j = 0; j < miniature->n_policies; j++)
            shadow_free(miniature->points[i].shadows[j]);
    }
    free(miniature);
}

/* ---- Rates ---- */

static uint64_t point_keys(const struct miniature *miniature, const struct point *point)
{
    uint64_t most = 0;

    for (size_t i = 0; i < miniature->n_policies; i++) {
        uint64_t keys = shadow_entries(point->shadows[i]);
        most = keys > most ? keys : most;
    }
    return most;
}

static void point_lower(struct miniature *miniature, struct point *point)
{
    point->threshold /= 2;
    for (size_t i = 0; i < miniature->n_policies; i++) {
        shadow_keep_below(point->shadows[i], point->threshold);
        shadow_resize(point->shadows[i], point_scaled_capacity(point));
    }
}

static void point_raise(struct miniature *miniature, struct point *point)
{
    double prior;

    point->threshold = point->threshold >= SAMPLER_ALL / RAISE_FACTOR
                           ? SAMPLER_ALL
                           : point->threshold * RAISE_FACTOR + (RAISE_FACTOR - 1);
    prior = PRIOR_SAMPLES / point_rate(point);
    for (size_t i = 0; i < miniature->n_policies; i++) {
        shadow_resize(point->shadows[i], point_scaled_capacity(point));
        if (point->reads > prior)
            point->misses[i] *= prior / point->reads;
    }
    if (point->reads > prior)
        point->reads = prior;
    point->warming = true;
}

/* ---- Feeding ---- */

static void heavy_count(struct miniature *miniature, uint64_t key_hash)
{
    struct heavy *free_one = NULL;

    for (size_t i = 0; i < SAMPLER_EXCLUDED_MAX; i++) {
        struct heavy *heavy = &miniature->heavy[i];
        if (heavy->count > 0 && heavy->key_hash == key_hash) {
            heavy->count++;
            return;
        }
        if (heavy->count == 0)
            free_one = heavy;
    }
    if (free_one != NULL) {
        *free_one = (struct heavy){.key_hash = key_hash, .count = 1};
        return;
    }
    for (size_t i = 0; i < SAMPLER_EXCLUDED_MAX; i++)
        miniature->heavy[i].count--;
}

/* Whether the hot tier would leave a key out that is seldom read. */
static bool leaves_out(struct shadow *shadow, const struct sample *sample, uint64_t capacity)
{
    return shadow_used(shadow) + sample->size > SELDOM_ROOM(capacity) &&
           !shadow_holds(shadow, sample->key_hash);
}

/* Whether it was a read that missed. */
static bool shadow_feed(struct shadow *shadow, const struct sample *sample, uint64_t capacity)
{
    switch ((enum sample_kind)sample->kind) {
    case SAMPLE_DELETE:
        shadow_remove(shadow, sample->key_hash);
        return false;
    case SAMPLE_WRITE_SELDOM:
        if (leaves_out(shadow, sample, capacity))
            return false;
        (void)shadow_access(shadow, sample->key_hash, sample->size);
        return false;
    case SAMPLE_WRITE:
        (void)shadow_access(shadow, sample->key_hash, sample->size);
        return false;
    case SAMPLE_READ_SELDOM:
        if (leaves_out(shadow, sample, capacity))
            return true;
        break;
    case SAMPLE_READ:
        break;
    }
    return !shadow_access(shadow, sample->key_hash, sample->size);
}

static void point_feed(struct miniature *miniature, struct point *point,
                       const struct sample *sample)
{
    double weight = point->warming ? 0 : 1 / point_rate(point);
    uint64_t capacity = point_scaled_capacity(point);

    point->step_samples++;
    for (size_t i = 0; i < miniature->n_policies; i++) {
        struct sample charged = *sample;
        charged.size += miniature->policies[i]->bytes_per_entry;
        if (shadow_feed(point->shadows[i], &charged, capacity))
            point->misses[i] += weight;
    }
    while (point_keys(miniature, point) > miniature->options.keys_max)
        point_lower(miniature, point);
}

void miniature_feed(struct miniature *miniature, const struct sample *samples, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        heavy_count(miniature, samples[i].key_hash);
        for (size_t j = 0; j < TIERS_CURVE_POINTS; j++) {
            if (samples[i].key_hash < miniature->points[j].threshold)
                point_feed(miniature, &miniature->points[j], &samples[i]);
        }
    }
    miniature->samples += n;
    miniature->step_samples += n;
}

/* ---- Steps ---- */

/* True: a key was excluded that had not been. */
static bool heavy_exclude(struct miniature *miniature)
{
    bool found = false;

    for (size_t i = 0; i < SAMPLER_EXCLUDED_MAX; i++) {
        const struct heavy *heavy = &miniature->heavy[i];
        if (heavy->count > miniature->step_samples / HEAVY_PART &&
            miniature->n_excluded < SAMPLER_EXCLUDED_MAX) {
            miniature->excluded[miniature->n_excluded++] = heavy->key_hash;
            found = true;
        }
    }
    return found;
}

static void overload_relieve(struct miniature *miniature, uint64_t elapsed_ms)
{
    uint64_t most = miniature->options.samples_per_s_max * elapsed_ms / 1000 * STEP_BURST;

    most = most > STEP_SAMPLES_MIN ? most : STEP_SAMPLES_MIN;
    if (miniature->step_samples <= most || heavy_exclude(miniature))
        return;
    for (size_t i = 0; i < TIERS_CURVE_POINTS; i++) {
        if (miniature->points[i].step_samples > most)
            point_lower(miniature, &miniature->points[i]);
    }
}

static void point_window_end(struct miniature *miniature, struct point *point, uint64_t elapsed_ms)
{
    uint64_t most = miniature->options.samples_per_s_max * elapsed_ms / 1000;

    point->warming = false;
    if (point->window_samples > most) {
        point_lower(miniature, point);
    } else if (point->threshold != SAMPLER_ALL && point->window_samples < most / RAISE_PART &&
               point_keys(miniature, point) < miniature->options.keys_max / RAISE_PART) {
        point_raise(miniature, point);
    }
    point->window_samples = 0;
    point->reads *= FADE;
    for (size_t i = 0; i < miniature->n_policies; i++)
        point->misses[i] *= FADE;
}

static bool window_end_if_due(struct miniature *miniature, uint64_t now_ms)
{
    uint64_t elapsed_ms = now_ms - miniature->window_ms;

    if (elapsed_ms < MINIATURE_WINDOW_MS ||
        (miniature->window_reads < WINDOW_READS_MIN && elapsed_ms < WINDOW_MS_MAX))
        return false;
    for (size_t i = 0; i < TIERS_CURVE_POINTS; i++)
        point_window_end(miniature, &miniature->points[i], elapsed_ms);
    miniature->n_excluded = 0;
    miniature->window_ms = now_ms;
    miniature->window_reads = 0;
    return true;
}

bool miniature_step(struct miniature *miniature, const struct miniature_step *step)
{
    double came = (double)miniature->step_samples;
    double seen = step->dropped > 0 ? came / (came + (double)step->dropped) : 1;

    for (size_t i = 0; i < TIERS_CURVE_POINTS; i++) {
        struct point *point = &miniature->points[i];
        if (!point->warming)
            point->reads += (double)step->reads * seen;
        point->window_samples += point->step_samples;
    }
    miniature->window_reads += step->reads;
    overload_relieve(miniature, step->now_ms - miniature->step_ms);
    for (size_t i = 0; i < TIERS_CURVE_POINTS; i++)
        miniature->points[i].step_samples = 0;
    memset(miniature->heavy, 0, sizeof miniature->heavy);
    miniature->step_samples = 0;
    miniature->step_ms = step->now_ms;
    return window_end_if_due(miniature, step->now_ms);
}

/* ---- What came out ---- */

uint64_t miniature_threshold(const struct miniature *miniature)
{
    uint64_t most = 0;

    for (size_t i = 0; i < TIERS_CURVE_POINTS; i++) {
        if (miniature->points[i].threshold > most)
            most = miniature->points[i].threshold;
    }
    return most;
}

size_t miniature_excluded(const struct miniature *miniature,
                          uint64_t ret_key_hashes[static SAMPLER_EXCLUDED_MAX])
{
    memcpy(ret_key_hashes, miniature->excluded, sizeof miniature->excluded);
    return miniature->n_excluded;
}

static double hit_rate(const struct point *point, size_t policy)
{
    if (point->reads <= 0 || point->misses[policy] >= point->reads)
        return 0;
    return 1 - point->misses[policy] / point->reads;
}

void miniature_curve(const struct miniature *miniature, struct tiers_curve *ret_curve)
{
    struct tiers_curve curve = {
        .point_now = POINT_NOW, .n_policies = miniature->n_policies, .samples = miniature->samples};

    for (size_t j = 0; j < miniature->n_policies; j++)
        curve.policies[j].name = miniature->policies[j]->name;
    for (size_t i = 0; i < TIERS_CURVE_POINTS; i++) {
        const struct point *point = &miniature->points[i];
        curve.points[i] = (struct tiers_curve_point){
            .hot_bytes = point->capacity, .sample_rate = point_rate(point), .reads = point->reads};
        for (size_t j = 0; j < miniature->n_policies; j++) {
            curve.policies[j].hit_rate[i] = hit_rate(point, j);
            curve.keys_tracked += shadow_entries(point->shadows[j]);
        }
    }
    assert(curve.points[POINT_NOW].hot_bytes == miniature->options.hot_bytes);
    *ret_curve = curve;
}
