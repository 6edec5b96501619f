/* See replay_report.h. */
#include "replay_report.h"

#include "text.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#define MIB 1048576.0

static const char *const names[REPLAY_CALLS] = {"read", "write"};
static const double quantiles[] = {0.5, 0.9, 0.99, 0.999};
static const char *const quantile_names[] = {"p50", "p90", "p99", "p99.9"};
#define N_QUANTILES (sizeof(quantiles) / sizeof(quantiles[0]))

uint64_t replay_errors(const struct replay_counts *counts)
{
    uint64_t n = counts->wrong;

    for (size_t status = 0; status < REPLAY_STATUS_MAX; status++) {
        if (status != 200)
            n += counts->statuses[status];
    }
    return n - counts->absent;
}

static uint64_t answered(const struct replay_counts *counts)
{
    return counts->latencies[REPLAY_READ].count + counts->latencies[REPLAY_WRITE].count;
}

static void table_hits(const struct replay_report *report)
{
    const struct replay_hits *hits = &report->hits;
    double reads = (double)(hits->hot + hits->warm + hits->cold);

    if (report->hits_unknown != NULL) {
        printf("reads answered by, and moved there: unknown: %s\n", report->hits_unknown);
        return;
    }
    printf("reads answered by, on the %zu nodes named: hot %.2f %%, warm %.2f %%, cold %.2f %%\n",
           report->nodes_counted, reads > 0 ? 100 * (double)hits->hot / reads : 0,
           reads > 0 ? 100 * (double)hits->warm / reads : 0,
           reads > 0 ? 100 * (double)hits->cold / reads : 0);
    printf("moved there: flushed %.1f MiB, demoted %.1f MiB, compacted %.1f MiB\n",
           (double)hits->flushed_bytes / MIB, (double)hits->demoted_bytes / MIB,
           (double)hits->compacted_bytes / MIB);
}

static void table(const struct replay_report *report)
{
    const struct replay_counts *counts = report->counts;

    if (report->load_seconds > 0)
        printf("loaded in %.1f s, %.0f keys per second\n", report->load_seconds,
               (double)report->source->keys / report->load_seconds);
    printf("\n%-6s %12s %12s", "calls", "answered", "per second");
    for (size_t i = 0; i < N_QUANTILES; i++)
        printf(" %7s us", quantile_names[i]);
    printf(" %10s\n", "max us");
    for (size_t call = 0; call < REPLAY_CALLS; call++) {
        const struct latency *latency = &counts->latencies[call];
        printf("%-6s %12" PRIu64 " %12.0f", names[call], latency->count,
               (double)latency->count / report->seconds);
        for (size_t i = 0; i < N_QUANTILES; i++)
            printf(" %10.1f", (double)latency_quantile_ns(latency, quantiles[i]) / 1000);
        printf(" %10.1f\n", (double)latency->max_ns / 1000);
    }
    printf("\nrequests per second: %.0f, with %" PRIu64 " redirects followed\n",
           (double)answered(counts) / report->seconds, counts->redirects);
    printf("errors: %" PRIu64, replay_errors(counts));
    for (size_t status = 0; status < REPLAY_STATUS_MAX; status++) {
        uint64_t n = counts->statuses[status] - (status == 404 ? counts->absent : 0);
        if (status != 200 && n > 0 && status == 0)
            printf(", %" PRIu64 " without an answer", n);
        else if (status != 200 && n > 0)
            printf(", %" PRIu64 " with %zu", n, status);
    }
    printf("%s\n", counts->wrong > 0 ? ", WRONG VALUES" : "");
    table_hits(report);
}

/* NULL: out of memory, as below. */
static json_t *json_of_latency(const struct latency *latency, double seconds)
{
    json_t *object = json_pack("{s:I, s:f}", "answered", (json_int_t)latency->count, "per_second",
                               (double)latency->count / seconds);

    for (size_t i = 0; object != NULL && i < N_QUANTILES; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%s_us", quantile_names[i]);
        if (json_object_set_new(
                object, name,
                json_real((double)latency_quantile_ns(latency, quantiles[i]) / 1000)) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

static json_t *json_of_statuses(const struct replay_counts *counts)
{
    json_t *object = json_object();

    for (size_t status = 0; object != NULL && status < REPLAY_STATUS_MAX; status++) {
        char name[16];
        snprintf(name, sizeof(name), "%zu", status);
        if (counts->statuses[status] > 0 &&
            json_object_set_new(object, name, json_integer((json_int_t)counts->statuses[status])) !=
                0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

/* null if they are not known */
static json_t *json_of_hits(const struct replay_report *report)
{
    const struct replay_hits *hits = &report->hits;

    if (report->hits_unknown != NULL)
        return json_null();
    return json_pack("{s:I, s:I, s:I, s:I}", "hot", (json_int_t)hits->hot, "warm",
                     (json_int_t)hits->warm, "cold", (json_int_t)hits->cold, "misses",
                     (json_int_t)hits->misses);
}

static int json(const struct replay_report *report, const char *text)
{
    const struct replay_counts *counts = report->counts;
    char *load = text_utf8(text);
    json_t *root = json_pack(
        "{s:s, s:s, s:f, s:f, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:o}", "load", load, "level",
        report->options->level, "load_seconds", report->load_seconds, "seconds", report->seconds,
        "read", json_of_latency(&counts->latencies[REPLAY_READ], report->seconds), "write",
        json_of_latency(&counts->latencies[REPLAY_WRITE], report->seconds), "statuses",
        json_of_statuses(counts), "errors", (json_int_t)replay_errors(counts), "wrong",
        (json_int_t)counts->wrong, "absent", (json_int_t)counts->absent, "redirects",
        (json_int_t)counts->redirects, "hits", json_of_hits(report));
    int error =
        root != NULL ? json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : -1;

    json_decref(root);
    free(load);
    putchar('\n');
    return error;
}

int replay_report(const struct replay_report *report)
{
    char text[512];
    int error = 0;

    source_describe(report->source, &report->options->source, text, sizeof(text));
    if (report->options->json) {
        error = json(report, text);
    } else {
        printf("%s; reads %s; %" PRIu64 " threads, %" PRIu64 " requests in flight each, %s\n", text,
               report->options->level, report->options->threads, report->options->in_flight,
               report->options->http);
        table(report);
    }
    if (error != 0 || fflush(stdout) != 0 || ferror(stdout)) {
        fputs("tierbench: the report could not be written\n", stderr);
        return -1;
    }
    return 0;
}
