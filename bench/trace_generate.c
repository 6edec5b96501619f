/* See trace_generate.h. Each request takes a fixed number of random draws, so that changing one
 * field leaves the other choices as they were. A failure leaves nothing allocated. */
#include "trace_generate.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Scanned ranks begin here, or above the others if there are more of those. */
#define SCAN_RANK_LEAST 1000000

struct recipe {
    double requests;
    double keys;
    double seed;
    double read_share;
    double theta;     /* zipf, scan: weight of rank j is (j + 1)^-theta */
    double hot_keys;  /* shift: that many consecutive ranks... */
    double hot_share; /* ...take this share of the requests */
    double period;    /* shift: half of the hot keys are replaced so often; scan: one begins */
    double scan;      /* scan: requests of a period over which every other one scans */
};

#define ZIPF  1u
#define SHIFT 2u
#define SCAN  4u

static const struct generator {
    const char *name;
    unsigned kind;
    struct recipe defaults;
    const char *help;
} generators[] = {
    {"zipf",
     ZIPF,
     {.requests = 1e6, .keys = 1e5, .seed = 101, .read_share = 0.95, .theta = 0.99},
     "independent draws by Zipf's law"},
    {"shift",
     SHIFT,
     {.requests = 1e6,
      .keys = 1e5,
      .seed = 202,
      .read_share = 0.9,
      .hot_keys = 2000,
      .hot_share = 0.9,
      .period = 50000},
     "a hotspot that moves by half its width each period, and far away at half time"},
    {"scan",
     SCAN,
     {.requests = 1.2e6,
      .keys = 1e5,
      .seed = 303,
      .read_share = 0.95,
      .theta = 0.99,
      .period = 100000,
      .scan = 40000},
     "zipf, and scans over keys that never come back"},
};
#define N_GENERATORS (sizeof(generators) / sizeof(generators[0]))

static const struct field {
    const char *name;
    size_t offset;
    unsigned kinds; /* Generators that have it */
    double least, most;
    bool whole;
} recipe_fields[] = {
    {"requests", offsetof(struct recipe, requests), ZIPF | SHIFT | SCAN, 1, 1e10, true},
    {"keys", offsetof(struct recipe, keys), ZIPF | SHIFT | SCAN, 1, 1e8, true},
    {"seed", offsetof(struct recipe, seed), ZIPF | SHIFT | SCAN, 0, 1e15, true},
    {"read_share", offsetof(struct recipe, read_share), ZIPF | SHIFT | SCAN, 0, 1, false},
    {"theta", offsetof(struct recipe, theta), ZIPF | SCAN, 0, 10, false},
    {"hot_keys", offsetof(struct recipe, hot_keys), SHIFT, 1, 1e8, true},
    {"hot_share", offsetof(struct recipe, hot_share), SHIFT, 0, 1, false},
    {"period", offsetof(struct recipe, period), SHIFT | SCAN, 1, 1e10, true},
    {"scan", offsetof(struct recipe, scan), SCAN, 0, 1e10, true},
};
#define N_FIELDS (sizeof(recipe_fields) / sizeof(recipe_fields[0]))

static double *value_of(struct recipe *recipe, const struct field *field)
{
    void *value = (char *)recipe + field->offset;

    return value;
}

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* The i-th draw, from 1, of the stream of a seed: in [0, 1). */
static double draw(uint64_t seed, uint64_t i)
{
    return (double)(mix(seed + i * 0x9e3779b97f4a7c15u) >> 11) * 0x1p-53;
}

static uint64_t key_of(uint64_t rank)
{
    return mix(rank + 0x1000000000000001u);
}

/* From 64 B to 8 KiB, fixed for a key. */
static uint32_t size_of(uint64_t key)
{
    uint64_t hash = mix(key ^ 0x5151515151515151u);

    return (uint32_t)((UINT64_C(64) << (hash % 8)) + (hash >> 8) % 64);
}

/* Cumulated and scaled to 1. NULL: out of memory. */
static double *zipf_distribution(size_t n, double theta)
{
    double *sums = malloc(n * sizeof(*sums));
    double sum = 0;

    if (sums == NULL)
        return NULL;
    for (size_t i = 0; i < n; i++)
        sums[i] = sum += pow((double)(i + 1), -theta);
    for (size_t i = 0; i < n; i++)
        sums[i] /= sum;
    return sums;
}

/* The first rank whose cumulated share is above `unit`. */
static uint64_t zipf_rank(const double *distribution, size_t n, double unit)
{
    size_t low = 0, high = n - 1;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (distribution[middle] > unit)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static int generate_zipf(const struct recipe *recipe, struct trace_builder *builder)
{
    uint64_t requests = (uint64_t)recipe->requests, period = (uint64_t)recipe->period;
    uint64_t seed = (uint64_t)recipe->seed, scanned = 0;
    size_t n = (size_t)recipe->keys;
    uint64_t scan_first = n > SCAN_RANK_LEAST ? n : SCAN_RANK_LEAST;
    double *distribution = zipf_distribution(n, recipe->theta);
    int error = distribution == NULL ? -1 : 0;

    for (uint64_t i = 0; i < requests && error == 0; i++) {
        bool scans = period > 0 && (double)(i % period) < recipe->scan && (i % period) % 2 == 1;
        uint64_t rank =
            scans ? scan_first + scanned : zipf_rank(distribution, n, draw(seed, 2 * i + 1));
        bool reads = scans || draw(seed, 2 * i + 2) < recipe->read_share;
        uint64_t key = key_of(rank);
        scanned += scans;
        error = trace_builder_add(builder, key, size_of(key), reads ? 'r' : 'w');
    }
    free(distribution);
    return error;
}

static int generate_shift(const struct recipe *recipe, struct trace_builder *builder)
{
    uint64_t requests = (uint64_t)recipe->requests, period = (uint64_t)recipe->period;
    uint64_t seed = (uint64_t)recipe->seed, n = (uint64_t)recipe->keys;
    int error = 0;

    for (uint64_t i = 0; i < requests && error == 0; i++) {
        uint64_t far = i >= requests / 2 ? n / 2 : 0;
        uint64_t start = i / period * (uint64_t)(recipe->hot_keys / 2) + far;
        bool hot = draw(seed, 3 * i + 1) < recipe->hot_share;
        double place = draw(seed, 3 * i + 2);
        uint64_t rank = hot ? (start + (uint64_t)(place * recipe->hot_keys)) % n
                            : (uint64_t)(place * recipe->keys);
        uint64_t key = key_of(rank);
        bool reads = draw(seed, 3 * i + 3) < recipe->read_share;
        error = trace_builder_add(builder, key, size_of(key), reads ? 'r' : 'w');
    }
    return error;
}

__attribute__((format(printf, 3, 4))) static int fail(char *text, size_t size, const char *format,
                                                      ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, size, format, arguments);
    va_end(arguments);
    return -1;
}

static const struct generator *generator_find(const char *name, size_t length)
{
    for (size_t i = 0; i < N_GENERATORS; i++) {
        if (strlen(generators[i].name) == length && strncmp(generators[i].name, name, length) == 0)
            return &generators[i];
    }
    return NULL;
}

/* Takes over one FIELD=VALUE of `length` bytes. */
static int set_field(const struct generator *generator, struct recipe *recipe, const char *text,
                     size_t length, char *error_text, size_t error_text_size)
{
    const char *equals = memchr(text, '=', length);

    for (size_t i = 0; equals != NULL && i < N_FIELDS; i++) {
        const struct field *field = &recipe_fields[i];
        size_t name_length = (size_t)(equals - text);
        char *end = NULL;
        if ((field->kinds & generator->kind) == 0 || strlen(field->name) != name_length ||
            strncmp(field->name, text, name_length) != 0)
            continue;
        double value = strtod(equals + 1, &end);
        if (end != text + length || end == equals + 1 ||
            !(value >= field->least && value <= field->most) ||
            (field->whole && value != floor(value)))
            return fail(error_text, error_text_size, "%s: %s is not %s from %g to %g",
                        generator->name, field->name, field->whole ? "a whole number" : "a number",
                        field->least, field->most);
        *value_of(recipe, field) = value;
        return 0;
    }
    return fail(error_text, error_text_size, "%s has no such field: %.*s", generator->name,
                (int)length, text);
}

/* Takes over the fields of `text`, which begins at their colon if there are any. */
static int set_fields(const struct generator *generator, const char *text,
                      struct recipe *ret_recipe, char *error_text, size_t error_text_size)
{
    *ret_recipe = generator->defaults;
    while (*text != '\0') {
        size_t length = strcspn(++text, ",");
        if (set_field(generator, ret_recipe, text, length, error_text, error_text_size) != 0)
            return -1;
        text += length;
    }
    if (ret_recipe->hot_keys > ret_recipe->keys)
        return fail(error_text, error_text_size, "%s: hot_keys is above keys", generator->name);
    return 0;
}

int trace_generate(const char *text, struct trace *ret_trace, char *error_text,
                   size_t error_text_size)
{
    size_t name_length = strcspn(text, ":");
    const struct generator *generator = generator_find(text, name_length);
    struct trace_builder *builder = NULL;
    struct recipe recipe;
    int error;

    if (generator == NULL)
        return fail(error_text, error_text_size, "no such generator: %.*s", (int)name_length, text);
    error = set_fields(generator, text + name_length, &recipe, error_text, error_text_size);
    if (error != 0)
        return error;
    builder = trace_builder_new();
    error = builder == NULL            ? -1
            : generator->kind == SHIFT ? generate_shift(&recipe, builder)
                                       : generate_zipf(&recipe, builder);
    if (error != 0) {
        trace_builder_free(builder);
        return fail(error_text, error_text_size, "%s: the trace does not fit into memory", text);
    }
    trace_builder_finish(builder, ret_trace);
    return 0;
}

void trace_generate_help(FILE *out)
{
    for (size_t i = 0; i < N_GENERATORS; i++) {
        struct recipe defaults = generators[i].defaults;
        const char *separator = ":";
        fprintf(out, "  %s: %s\n      %s", generators[i].name, generators[i].help,
                generators[i].name);
        for (size_t j = 0; j < N_FIELDS; j++) {
            if ((recipe_fields[j].kinds & generators[i].kind) == 0)
                continue;
            fprintf(out, "%s%s=%.10g", separator, recipe_fields[j].name,
                    *value_of(&defaults, &recipe_fields[j]));
            separator = ",";
        }
        fputc('\n', out);
    }
}
