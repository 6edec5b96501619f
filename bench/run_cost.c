/* See run_cost.h. The load's two curves come from SAMPLES requests of the source: the keys that are
 * read most for each byte give the one of the warm tier, simulations of the policy at a row of
 * capacities that of the hot tier. The first request for a key would miss at any capacity; in a run
 * without end there are none of these, so they are left out. */
#include "run_cost.h"

#include "simulator.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GB_BYTES   1e9
#define SAMPLES    1000000
#define CAPACITIES 12

/* Of a key and value in memory: what the record says beside them, its slot in the table, the
 * policy's node. */
#define MEMORY_OVERHEAD_BYTES (sizeof(struct tiers_record) + sizeof(struct tiers_record_tail) + 48)

static double memory_bytes_all(const struct source *source)
{
    return (double)source_value_bytes_all(source) +
           (double)source->keys * (double)(WORKLOAD_KEY_BYTES + MEMORY_OVERHEAD_BYTES);
}

void run_cost(const struct run_options *options, const struct source *source,
              const struct run_result *result, struct run_cost *ret_cost)
{
    const struct tiers_cost_tiers *prices = &options->prices_each;

    ret_cost->memory_bytes = memory_bytes_all(source);
    ret_cost->memory = ret_cost->memory_bytes / GB_BYTES * prices->memory;
    ret_cost->tiered = ((double)result->memory_bytes * prices->memory +
                        (double)result->after.warm_used_bytes * prices->ssd +
                        (double)result->after.cold_bytes * prices->hdd) /
                       GB_BYTES;
}

/* The next SAMPLES requests of the source as a trace whose sizes are bytes of memory. */
static int sample(struct source *source, uint64_t seed, struct trace *ret_trace)
{
    struct trace_builder *builder = trace_builder_new();
    struct source_cursor cursor;
    struct source_request request;
    uint64_t requests_max = source->requests_max;

    if (builder == NULL)
        return TIERS_NO_MEMORY;
    source_cursor_init(&cursor, seed);
    source->requests_max = SAMPLES;
    atomic_store(&source->taken, 0);
    while (source_next(source, &cursor, &request)) {
        uint32_t bytes = source_value_bytes(source, request.key) + WORKLOAD_KEY_BYTES +
                         (uint32_t)MEMORY_OVERHEAD_BYTES;
        if (trace_builder_add(builder, request.key, bytes, request.op) != 0) {
            trace_builder_free(builder);
            return TIERS_NO_MEMORY;
        }
    }
    source->requests_max = requests_max;
    trace_builder_finish(builder, ret_trace);
    return 0;
}

/* What the policy answers with all of the memory, with half of it, and so on. */
static int hot_curve(const struct trace *trace, const char *policy, double memory_bytes,
                     struct tiers_cost_curve *curve)
{
    const struct policy_type *named = policy_find(policy);
    double repeated = (double)(trace->n_accesses - trace->n_keys);

    curve->n = CAPACITIES;
    for (size_t i = 0; i < CAPACITIES; i++) {
        double capacity = ldexp(memory_bytes, (int)i + 1 - CAPACITIES);
        struct simulation simulation = {.trace = trace,
                                        .policy = named != NULL ? named : &policy_auto,
                                        .capacity = 1 + (uint64_t)capacity,
                                        .by_bytes = true};
        struct simulation_result result;
        if (simulation_run(&simulation, &result) != 0)
            return TIERS_NO_MEMORY;
        double hits = (double)(result.accesses - result.misses);
        curve->points[i].bytes = capacity;
        curve->points[i].share = repeated > 0 ? hits / repeated : 0;
    }
    return 0;
}

struct popularity {
    uint64_t count;
    uint64_t bytes;
};

static int by_density(const void *a, const void *b)
{
    const struct popularity *x = a, *y = b;
    double left = (double)x->count * (double)y->bytes, right = (double)y->count * (double)x->bytes;

    return left > right ? -1 : left < right;
}

/* What falls on the values that are asked for most, per byte. */
static int value_curve(const struct trace *trace, struct tiers_cost_curve *curve)
{
    struct popularity *keys = calloc(trace->n_keys_all, sizeof(*keys));
    uint64_t count = 0, bytes = 0;
    size_t next = 1;

    if (keys == NULL)
        return TIERS_NO_MEMORY;
    for (size_t i = 0; i < trace->n_requests; i++)
        keys[trace->requests[i].key].count++;
    for (size_t i = 0; i < trace->n_keys_all; i++)
        keys[i].bytes = trace->key_sizes[i] - (uint32_t)MEMORY_OVERHEAD_BYTES;
    qsort(keys, trace->n_keys_all, sizeof(*keys), by_density);
    curve->n = 0;
    for (size_t i = 0; i < trace->n_keys_all && curve->n < TIERS_COST_POINTS_MAX; i++) {
        count += keys[i].count;
        bytes += keys[i].bytes;
        if (i + 1 == next || i + 1 == trace->n_keys_all) {
            curve->points[curve->n].bytes = (double)bytes;
            curve->points[curve->n++].share = (double)count / (double)trace->n_requests;
            next *= 2;
        }
    }
    free(keys);
    return 0;
}

static double mean_us(const struct latency *latency)
{
    return (double)latency->sum_ns / (double)latency->count / 1000;
}

static bool latencies_known(const struct run_result *result)
{
    for (size_t i = 0; i < RUN_CALLS_READ; i++) {
        if (result->latencies[i].count == 0)
            return false;
    }
    return true;
}

int run_cost_cheapest(const struct run_options *options, struct source *source,
                      const struct run_result *result, struct tiers_cost *ret_cost)
{
    struct trace trace = {0};
    struct tiers_cost_input input = {.prices = options->prices_each,
                                     .target_us = options->target_us,
                                     .hot_bytes_min = 1 << 20,
                                     .memory_bytes = memory_bytes_all(source),
                                     .data_bytes = (double)source_value_bytes_all(source),
                                     .index_bytes = (double)source->keys * MEMORY_OVERHEAD_BYTES};

    if (!latencies_known(result))
        return TIERS_INVALID;
    input.latencies.memory = mean_us(&result->latencies[TIERS_TIER_HOT]);
    input.latencies.ssd = mean_us(&result->latencies[TIERS_TIER_WARM]);
    input.latencies.hdd = mean_us(&result->latencies[TIERS_TIER_COLD]);
    int error = sample(source, options->source.seed, &trace);
    if (error == 0)
        error = hot_curve(&trace, result->policy, input.memory_bytes, &input.hot_curve);
    if (error == 0)
        error = value_curve(&trace, &input.value_curve);
    trace_close(&trace);
    return error == 0 ? tiers_cost(&input, ret_cost) : error;
}
