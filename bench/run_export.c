/* Reports of `tierbench run` for programs: CSV and JSON. The names of columns and members are the
 * same in both. Durations are in microseconds, sizes in bytes. */
#include "run_report.h"

#include "text.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* X(name, format of the value, value): what a summary has of a result, its latencies apart. */
#define SUMMARY(X)                                                                                 \
    X(seconds, result->seconds)                                                                    \
    X(load_seconds, result->load_seconds)                                                          \
    X(absent, (double)result->absent)                                                              \
    X(flushed_bytes, (double)(result->after.flushed_bytes - result->before.flushed_bytes))         \
    X(flushes, (double)(result->after.flushes - result->before.flushes))                           \
    X(demoted_bytes, (double)(result->after.demoted_bytes - result->before.demoted_bytes))         \
    X(compacted_bytes, (double)(result->after.compacted_bytes - result->before.compacted_bytes))   \
    X(promoted_warm_keys,                                                                          \
      (double)(result->after.promoted_warm_keys - result->before.promoted_warm_keys))              \
    X(promoted_hot_keys,                                                                           \
      (double)(result->after.promoted_hot_keys - result->before.promoted_hot_keys))                \
    X(evictions, (double)(result->after.evictions - result->before.evictions))                     \
    X(hot_bytes, (double)result->after.hot_bytes)                                                  \
    X(warm_bytes, (double)result->after.warm_used_bytes)                                           \
    X(cold_bytes, (double)result->after.cold_bytes)                                                \
    X(put_bytes, (double)result->running.put_bytes)                                                \
    X(written_bytes, (double)result->running.disk_bytes)                                           \
    X(write_amplification,                                                                         \
      run_write_amplification(result->running.disk_bytes, result->running.put_bytes))              \
    X(write_amplification_loading,                                                                 \
      run_write_amplification(result->loading.disk_bytes, result->loading.put_bytes))              \
    X(memory_bytes, (double)result->memory_bytes)                                                  \
    X(mapped_bytes, (double)result->mapped_bytes)                                                  \
    X(cost, cost.tiered)                                                                           \
    X(cost_in_memory, cost.memory)

/* The same of an interval. */
#define SERIES(X)                                                                                  \
    X(seconds, rates.seconds)                                                                      \
    X(reads_per_second, rates.reads_per_second)                                                    \
    X(writes_per_second, rates.writes_per_second)                                                  \
    X(share_hot, rates.share_hot)                                                                  \
    X(share_warm, rates.share_warm)                                                                \
    X(share_cold, rates.share_cold)                                                                \
    X(flushed_bytes_per_second, rates.flushed_per_second)                                          \
    X(demoted_bytes_per_second, rates.demoted_per_second)                                          \
    X(compacted_bytes_per_second, rates.compacted_per_second)                                      \
    X(promoted_warm_per_second, rates.promoted_warm_per_second)                                    \
    X(promoted_hot_per_second, rates.promoted_hot_per_second)                                      \
    X(hot_bytes, (double)rates.hot_bytes)                                                          \
    X(warm_bytes, (double)rates.warm_bytes)                                                        \
    X(cold_bytes, (double)rates.cold_bytes)

static const char *written_by(const struct run_result *result)
{
    return result->written_by_kernel ? "proc+engine" : "engine";
}

int run_report_csv(const struct run_report *report, FILE *out)
{
    fputs("policy,written_by", out);
#define X(name, value) fputs("," #name, out);
    SUMMARY(X)
#undef X
    for (size_t call = 0; call < RUN_CALLS; call++) {
        fprintf(out, ",%s_calls", run_call_names[call]);
        for (size_t i = 0; i < RUN_QUANTILES; i++)
            fprintf(out, ",%s_%s_us", run_call_names[call], run_quantile_names[i]);
    }
    fputc('\n', out);
    for (size_t r = 0; r < report->n_results; r++) {
        const struct run_result *result = report->results[r];
        struct run_cost cost;
        run_cost(report->options, report->source, result, &cost);
        fprintf(out, "%s,%s", result->policy, written_by(result));
#define X(name, value) fprintf(out, ",%.10g", value);
        SUMMARY(X)
#undef X
        for (size_t call = 0; call < RUN_CALLS; call++) {
            const struct latency *latency = &result->latencies[call];
            fprintf(out, ",%" PRIu64, latency->count);
            for (size_t i = 0; i < RUN_QUANTILES; i++)
                fprintf(out, ",%.3f",
                        (double)latency_quantile_ns(latency, run_quantiles[i]) / 1000);
        }
        fputc('\n', out);
    }
    return 0;
}

int run_report_series(const struct run_report *report, FILE *out)
{
    fputs("policy", out);
#define X(name, value) fputs("," #name, out);
    SERIES(X)
#undef X
    fputc('\n', out);
    for (size_t r = 0; r < report->n_results; r++) {
        const struct run_result *result = report->results[r];
        for (size_t i = 1; i < result->n_samples; i++) {
            struct run_rates rates;
            run_series_rates(&result->samples[i - 1], &result->samples[i], &rates);
            fputs(result->policy, out);
#define X(name, value) fprintf(out, ",%.10g", value);
            SERIES(X)
#undef X
            fputc('\n', out);
        }
    }
    return 0;
}

/* NULL: out of memory, as with all that follow. */
static json_t *json_of_latency(const struct latency *latency)
{
    json_t *object = json_pack("{s:I}", "calls", (json_int_t)latency->count);

    for (size_t i = 0; object != NULL && i < RUN_QUANTILES; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%s_us", run_quantile_names[i]);
        if (json_object_set_new(
                object, name,
                json_real((double)latency_quantile_ns(latency, run_quantiles[i]) / 1000)) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

static json_t *json_of_series(const struct run_result *result)
{
    json_t *array = json_array();

    for (size_t i = 1; array != NULL && i < result->n_samples; i++) {
        struct run_rates rates;
        int error = 0;
        json_t *object = json_object();
        run_series_rates(&result->samples[i - 1], &result->samples[i], &rates);
#define X(name, value) error |= json_object_set_new(object, #name, json_real(value));
        SERIES(X)
#undef X
        error |= json_array_append_new(array, object);
        if (error != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *json_of_result(const struct run_report *report, const struct run_result *result)
{
    json_t *object =
        json_pack("{s:s, s:s}", "policy", result->policy, "written_by", written_by(result));
    struct run_cost cost;
    int error = 0;

    run_cost(report->options, report->source, result, &cost);
#define X(name, value) error |= json_object_set_new(object, #name, json_real(value));
    SUMMARY(X)
#undef X
    for (size_t call = 0; call < RUN_CALLS; call++)
        error |= json_object_set_new(object, run_call_names[call],
                                     json_of_latency(&result->latencies[call]));
    error |= json_object_set_new(object, "series", json_of_series(result));
    if (error != 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}

int run_report_json(const struct run_report *report, FILE *out)
{
    char text[512], *load, *cold;
    json_t *policies = json_array(), *root = NULL;
    int error = -1;

    source_describe(report->source, &report->options->source, text, sizeof(text));
    load = text_utf8(text);
    run_report_cold(report, text, sizeof(text));
    cold = text_utf8(text);
    for (size_t i = 0; i < report->n_results; i++) {
        if (json_array_append_new(policies, json_of_result(report, report->results[i])) != 0)
            goto out;
    }
    root = json_pack("{s:s, s:s, s:b, s:I, s:I, s:I, s:O}", "load", load, "cold", cold,
                     "cold_modelled", (int)report->options->cold_modelled, "threads",
                     (json_int_t)report->options->threads, "hot_bytes_max",
                     (json_int_t)report->options->hot_bytes, "warm_bytes_aim",
                     (json_int_t)report->options->warm_bytes, "policies", policies);
    if (root == NULL || json_dumpf(root, out, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) != 0)
        goto out;
    fputc('\n', out);
    error = 0;

out:
    json_decref(root);
    json_decref(policies);
    free(load);
    free(cold);
    if (error != 0 && errno == 0)
        errno = ENOMEM;
    return error;
}
