/* Reports of `tierbench run`: which there are, and the one that people read. One thread. */
#include "run_report.h"

#include "plot.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB              1048576.0
#define SERIES_LINES_MAX 20

const char *const run_call_names[RUN_CALLS] = {"hot", "warm", "cold", "write"};
const double run_quantiles[RUN_QUANTILES] = {0.5, 0.9, 0.99, 0.999};
const char *const run_quantile_names[RUN_QUANTILES] = {"p50", "p90", "p99", "p99.9"};

void run_report_cold(const struct run_report *report, char *text, size_t text_size)
{
    const struct run_options *options = report->options;
    const char *dir = options->cold_dir[0] != '\0' ? options->cold_dir : options->dir;

    if (options->cold_modelled)
        text_format(text, text_size,
                    "MODELLED HDD (%g ms seek, %g MB/s, one request at a time; bytes go to %s)",
                    (double)options->disk.seek_us / 1000,
                    (double)options->disk.bytes_per_second / 1e6,
                    dir[0] != '\0' ? dir : "a temporary folder");
    else
        text_format(text, text_size, "%s, %s", dir[0] != '\0' ? dir : "a temporary folder",
                    options->direct_io != 0 ? "past the page cache where possible"
                                            : "through the page cache");
}

static void table_latencies(const struct run_result *result, FILE *out)
{
    fprintf(out, "%-6s %12s %12s", "calls", "number", "per second");
    for (size_t i = 0; i < RUN_QUANTILES; i++)
        fprintf(out, " %7s us", run_quantile_names[i]);
    fprintf(out, " %10s\n", "max us");
    for (size_t call = 0; call < RUN_CALLS; call++) {
        const struct latency *latency = &result->latencies[call];
        fprintf(out, "%-6s %12" PRIu64 " %12.0f", run_call_names[call], latency->count,
                (double)latency->count / result->seconds);
        for (size_t i = 0; i < RUN_QUANTILES; i++)
            fprintf(out, " %10.1f", (double)latency_quantile_ns(latency, run_quantiles[i]) / 1000);
        fprintf(out, " %10.1f\n", (double)latency->max_ns / 1000);
    }
}

/* At most SERIES_LINES_MAX lines, each over as many samples. */
static void table_series(const struct run_result *result, FILE *out)
{
    size_t intervals = result->n_samples - 1;
    size_t step = (intervals + SERIES_LINES_MAX - 1) / SERIES_LINES_MAX;

    if (step == 0)
        return;
    fprintf(out, "\n%9s %10s %10s %7s %7s %7s %10s %10s %10s\n", "seconds", "reads/s", "writes/s",
            "hot %", "warm %", "cold %", "flush MB/s", "demot MB/s", "compa MB/s");
    for (size_t i = 0; i < intervals; i += step) {
        size_t end = i + step < intervals ? i + step : intervals;
        struct run_rates rates;
        run_series_rates(&result->samples[i], &result->samples[end], &rates);
        fprintf(out, "%9.1f %10.0f %10.0f %7.2f %7.2f %7.2f %10.1f %10.1f %10.1f\n", rates.seconds,
                rates.reads_per_second, rates.writes_per_second, rates.share_hot * 100,
                rates.share_warm * 100, rates.share_cold * 100, rates.flushed_per_second / 1e6,
                rates.demoted_per_second / 1e6, rates.compacted_per_second / 1e6);
    }
}

static void table_moves(const struct run_result *result, FILE *out)
{
    const struct tiers_stats *before = &result->before, *after = &result->after;

    fprintf(out,
            "\nmoved:    flushed %.1f MiB in %" PRIu64
            " transactions, demoted %.1f MiB, compacted %.1f MiB; %" PRIu64
            " promoted to warm, %" PRIu64 " to hot, %" PRIu64 " evicted\n",
            (double)(after->flushed_bytes - before->flushed_bytes) / MIB,
            after->flushes - before->flushes,
            (double)(after->demoted_bytes - before->demoted_bytes) / MIB,
            (double)(after->compacted_bytes - before->compacted_bytes) / MIB,
            after->promoted_warm_keys - before->promoted_warm_keys,
            after->promoted_hot_keys - before->promoted_hot_keys,
            after->evictions - before->evictions);
    fprintf(out,
            "tiers:    hot %.1f MiB with %" PRIu64
            " keys, warm %.1f MiB, cold %.1f MiB with %" PRIu64 " keys in %" PRIu64 " segments\n",
            (double)after->hot_bytes / MIB, after->hot_keys, (double)after->warm_used_bytes / MIB,
            (double)after->cold_bytes / MIB, after->cold_keys, after->cold_segments);
    fprintf(out,
            "written:  %.2f bytes for each byte put while loading, %.2f after (%.1f MiB put); %s\n",
            run_write_amplification(result->loading.disk_bytes, result->loading.put_bytes),
            run_write_amplification(result->running.disk_bytes, result->running.put_bytes),
            (double)result->running.put_bytes / MIB,
            result->written_by_kernel
                ? "LMDB's by /proc/self/io, cold segments' by the engine's counters"
                : "all by the engine's counters, LMDB's pages left out");
    fprintf(out, "memory:   %.1f MiB, and %.1f MiB of mapped files\n",
            (double)result->memory_bytes / MIB, (double)result->mapped_bytes / MIB);
    if (result->absent > 0)
        fprintf(out, "absent:   %" PRIu64 " reads of keys that the trace had deleted\n",
                result->absent);
}

static void table_cheapest(const struct run_report *report, const struct run_result *result,
                           FILE *out)
{
    struct tiers_cost cost;
    int error = run_cost_cheapest(report->options, report->source, result, &cost);

    if (error == TIERS_INVALID) {
        fputs("cheapest: not known, since some tier answered no read\n", out);
        return;
    }
    if (error != 0) {
        fprintf(out, "cheapest: %s\n", tiers_strerror(error));
        return;
    }
    fprintf(out,
            "cheapest: hot %.1f MiB, warm %.1f MiB, cold %.1f MiB for %.4f a month; mean read "
            "%.1f us, %s the %g us asked for\n",
            cost.cheapest.hot_bytes / MIB, cost.cheapest.warm_bytes / MIB,
            cost.cheapest.cold_bytes / MIB, cost.cheapest.cost, cost.cheapest.latency_us,
            cost.cheapest.feasible ? "within" : "MISSING", report->options->target_us);
}

static void table_policy(const struct run_report *report, const struct run_result *result,
                         FILE *out)
{
    struct run_cost cost;

    fprintf(out,
            "\n== %s: loaded in %.1f s, %.0f keys per second, all durable; measured for %.1f s\n",
            result->policy, result->load_seconds,
            (double)report->source->keys / result->load_seconds, result->seconds);
    table_latencies(result, out);
    table_series(result, out);
    table_moves(result, out);
    run_cost(report->options, report->source, result, &cost);
    fprintf(out, "cost:     %.4f a month; %.4f with all %.1f MiB in memory: %.1f times as much\n",
            cost.tiered, cost.memory, cost.memory_bytes / MIB, cost.memory / cost.tiered);
    if (report->options->target_us > 0)
        table_cheapest(report, result, out);
}

static void table_comparison(const struct run_report *report, FILE *out)
{
    fprintf(out, "\n%-10s %10s %8s %8s %8s %10s %10s %10s %8s %9s\n", "policy", "reads/s", "hot %",
            "warm %", "cold %", "p50 us", "p99 us", "p99.9 us", "written", "cost");
    for (size_t i = 0; i < report->n_results; i++) {
        const struct run_result *result = report->results[i];
        struct latency reads;
        struct run_cost cost;
        run_result_reads(result, &reads);
        run_cost(report->options, report->source, result, &cost);
        fprintf(out, "%-10s %10.0f", result->policy, (double)reads.count / result->seconds);
        for (size_t call = 0; call < RUN_CALLS_READ; call++)
            fprintf(out, " %8.2f",
                    reads.count > 0
                        ? 100 * (double)result->latencies[call].count / (double)reads.count
                        : 0);
        fprintf(out, " %10.1f %10.1f %10.1f %8.2f %9.4f\n",
                (double)latency_quantile_ns(&reads, 0.5) / 1000,
                (double)latency_quantile_ns(&reads, 0.99) / 1000,
                (double)latency_quantile_ns(&reads, 0.999) / 1000,
                run_write_amplification(result->running.disk_bytes, result->running.put_bytes),
                cost.tiered);
    }
}

int run_report_table(const struct run_report *report, FILE *out)
{
    char text[512];

    source_describe(report->source, &report->options->source, text, sizeof(text));
    fprintf(out, "%s; %" PRIu64 " threads, hot %.1f MiB, warm %.1f MiB\n", text,
            report->options->threads, (double)report->options->hot_bytes / MIB,
            (double)report->options->warm_bytes / MIB);
    run_report_cold(report, text, sizeof(text));
    fprintf(out, "cold tier: %s\n", text);
    for (size_t i = 0; i < report->n_results; i++)
        table_policy(report, report->results[i], out);
    if (report->n_results > 1)
        table_comparison(report, out);
    return 0;
}

/* Whether the file could be opened for writing. What is there stays as it is; a pipe or a device is
 * not opened, since that might be noticed at its other end. An empty path is good. */
static int check_file(const char *path)
{
    struct stat status;

    if (path[0] == '\0' ||
        (stat(path, &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)))
        return 0;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0)
        (void)unlink(path);
    else if (errno == EEXIST)
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) {
        fprintf(stderr, "tierbench: %s: %s\n", path, strerror(errno));
        return -1;
    }
    close(fd);
    return 0;
}

int run_report_check(const struct run_options *options)
{
    const char *const paths[] = {options->output, options->series, options->plot};

    if (options->plot[0] != '\0' && plot_check(options->plot) != 0)
        return -1;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        if (check_file(paths[i]) != 0)
            return -1;
    }
    return 0;
}

/* Calls write with the file, or with standard output if the path is empty. */
static int write_to(const struct run_report *report, const char *path,
                    int (*write)(const struct run_report *report, FILE *out))
{
    int error = -1;

    errno = 0;
    FILE *out = path[0] == '\0' ? stdout : fopen(path, "we");
    if (out != NULL) {
        error = write(report, out);
        if (fflush(out) != 0 || ferror(out))
            error = -1;
        if (out != stdout && fclose(out) != 0)
            error = -1;
    }
    if (error != 0)
        fprintf(stderr, "tierbench: %s: %s\n", path[0] == '\0' ? "standard output" : path,
                strerror(errno));
    return error;
}

int run_report(const struct run_report *report)
{
    static int (*const writers[])(const struct run_report *report, FILE *out) = {
        [RUN_TABLE] = run_report_table, [RUN_CSV] = run_report_csv, [RUN_JSON] = run_report_json};
    const struct run_options *options = report->options;
    int error = write_to(report, options->output, writers[options->format_kind]);

    if (options->series[0] != '\0' && write_to(report, options->series, run_report_series) != 0)
        error = -1;
    if (options->plot[0] != '\0' && run_report_plot(report, options->plot) != 0)
        error = -1;
    return error;
}
