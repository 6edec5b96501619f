/* See source.h. A trace's requests are numbered on and on over its repetitions; a cursor takes the
 * next SHARE of them at a time, so that the threads keep to the trace's order but for a few. */
#include "source.h"

#include "text.h"
#include "tiers/tiers.h"
#include "trace_generate.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHARE 64

/* "256", "1KiB", "64-4096" */
static int parse_sizes(struct source *source, const char *text)
{
    char least_text[32];
    uint64_t least = 0, most = 0;
    const char *dash = strchr(text, '-');

    if (dash == NULL) {
        if (options_bytes(text, &least) != 0)
            return -1;
        most = least;
    } else {
        if ((size_t)(dash - text) >= sizeof(least_text))
            return -1;
        snprintf(least_text, sizeof(least_text), "%.*s", (int)(dash - text), text);
        if (options_bytes(least_text, &least) != 0 || options_bytes(dash + 1, &most) != 0)
            return -1;
    }
    if (least < WORKLOAD_VALUE_BYTES_MIN || most < least || most > TIERS_VALUE_BYTES_MAX)
        return -1;
    source->value_bytes_least = (uint32_t)least;
    source->value_bytes_most = (uint32_t)most;
    return 0;
}

/* Sizes by number of the trace's key become sizes by ours. */
static int scatter_sizes(struct source *source)
{
    uint32_t *sizes = calloc(source->keys, sizeof(*sizes));

    if (sizes == NULL)
        return -1;
    for (uint64_t i = 0; i < source->keys; i++)
        sizes[workload_scatter(i, source->keys)] = source->trace.key_sizes[i];
    free(source->trace.key_sizes);
    source->trace.key_sizes = sizes;
    return 0;
}

static int open_trace(struct source *source, const struct source_options *options, char *error_text,
                      size_t error_text_size)
{
    int error =
        options->trace != NULL
            ? trace_load(options->trace, &source->trace, error_text, error_text_size)
            : trace_generate(options->generate, &source->trace, error_text, error_text_size);

    if (error != 0)
        return -1;
    source->from_trace = true;
    source->keys = source->trace.n_keys_all;
    if (source->trace.n_requests > 0 && scatter_sizes(source) == 0)
        return 0;
    snprintf(error_text, error_text_size, "%s",
             source->trace.n_requests > 0 ? "out of memory" : "the trace is empty");
    trace_close(&source->trace);
    return -1;
}

int source_open(struct source *source, const struct source_options *options, char *error_text,
                size_t error_text_size)
{
    bool generate = options->generate[0] != '\0';

    *source = (struct source){.keys = options->keys,
                              .read_share = options->read_share,
                              .requests_max = options->requests,
                              .sizes_from_trace = strcmp(options->value_bytes, "trace") == 0};
    if (generate && options->trace != NULL) {
        snprintf(error_text, error_text_size, "give a trace file or --generate, not both");
        return -1;
    }
    if (source->sizes_from_trace && options->trace == NULL) {
        snprintf(error_text, error_text_size, "--value-bytes trace needs a trace file");
        return -1;
    }
    if (!source->sizes_from_trace && parse_sizes(source, options->value_bytes) != 0) {
        snprintf(error_text, error_text_size,
                 "--value-bytes %s: not a size from %d to %u, or two with a - between, or trace",
                 options->value_bytes, WORKLOAD_VALUE_BYTES_MIN, TIERS_VALUE_BYTES_MAX);
        return -1;
    }
    if (generate || options->trace != NULL)
        return open_trace(source, options, error_text, error_text_size);
    zipf_init(&source->zipf, source->keys, options->zipf);
    return 0;
}

void source_close(struct source *source)
{
    if (source->from_trace)
        trace_close(&source->trace);
}

void source_cursor_init(struct source_cursor *cursor, uint64_t seed)
{
    *cursor = (struct source_cursor){0};
    workload_random_init(&cursor->random, seed);
}

/* False when no requests are left. */
static bool take_share(struct source *source, struct source_cursor *cursor)
{
    uint64_t end = source->requests_max > 0 ? source->requests_max : UINT64_MAX;

    cursor->next = atomic_fetch_add_explicit(&source->taken, SHARE, memory_order_relaxed);
    if (cursor->next >= end)
        return false;
    cursor->end = end - cursor->next < SHARE ? end : cursor->next + SHARE;
    return true;
}

bool source_next(struct source *source, struct source_cursor *cursor,
                 struct source_request *ret_request)
{
    if (cursor->next == cursor->end && !take_share(source, cursor)) {
        cursor->end = cursor->next;
        return false;
    }
    uint64_t number = cursor->next++;
    if (source->from_trace) {
        const struct trace_request *request =
            &source->trace.requests[number % source->trace.n_requests];
        ret_request->key = workload_scatter(request->key, source->keys);
        ret_request->op = request->op;
    } else {
        uint64_t rank = zipf_next(&source->zipf, &cursor->random);
        ret_request->key = workload_scatter(rank, source->keys);
        ret_request->op = workload_random_unit(&cursor->random) < source->read_share ? 'r' : 'w';
    }
    return true;
}

/* In [0, 1), always the same for a key. */
static double unit_of(uint64_t key)
{
    struct workload_random random;

    workload_random_init(&random, key);
    return workload_random_unit(&random);
}

static uint32_t clamp_size(uint32_t bytes)
{
    if (bytes < WORKLOAD_VALUE_BYTES_MIN)
        return WORKLOAD_VALUE_BYTES_MIN;
    return bytes < TIERS_VALUE_BYTES_MAX ? bytes : TIERS_VALUE_BYTES_MAX;
}

uint32_t source_value_bytes(const struct source *source, uint64_t key)
{
    double least = source->value_bytes_least, most = source->value_bytes_most;

    if (source->sizes_from_trace)
        return clamp_size(source->trace.key_sizes[key]);
    if (least == most)
        return source->value_bytes_least;
    return (uint32_t)(least * pow(most / least, unit_of(key)));
}

uint32_t source_value_bytes_max(const struct source *source)
{
    return source->sizes_from_trace ? TIERS_VALUE_BYTES_MAX : source->value_bytes_most;
}

uint64_t source_value_bytes_all(const struct source *source)
{
    uint64_t sum = 0;

    if (!source->sizes_from_trace && source->value_bytes_least == source->value_bytes_most)
        return source->keys * source->value_bytes_least;
    for (uint64_t key = 0; key < source->keys; key++)
        sum += source_value_bytes(source, key);
    return sum;
}

void source_describe(const struct source *source, const struct source_options *options, char *text,
                     size_t text_size)
{
    if (source->from_trace)
        text_format(text, text_size,
                    "%s: %zu requests, %" PRIu64 " keys; values of %s bytes; seed %" PRIu64,
                    options->trace != NULL ? options->trace : options->generate,
                    source->trace.n_requests, source->keys, options->value_bytes, options->seed);
    else
        text_format(text, text_size,
                    "zipf %g: %.0f %% reads, %" PRIu64 " keys; values of %s bytes; seed %" PRIu64,
                    options->zipf, source->read_share * 100, source->keys, options->value_bytes,
                    options->seed);
}
