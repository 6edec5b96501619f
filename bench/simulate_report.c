/* Each format is one function over the same results. Ratios have 6 digits, as published ones do.
 * One thread. */
#include "simulate_report.h"

#include "plot.h"
#include "text.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

static double miss_ratio(const struct simulation_result *result)
{
    return result->accesses == 0 ? 0 : (double)result->misses / (double)result->accesses;
}

static double byte_miss_ratio(const struct simulation_result *result)
{
    return result->bytes == 0 ? 0 : (double)result->missed_bytes / (double)result->bytes;
}

static const char *unit_of(const struct simulate_report *report)
{
    return report->options->by_bytes ? "bytes" : "objects";
}

static const char *name_of(const struct simulate_report *report)
{
    return report->options->trace != NULL ? report->options->trace : report->options->generate;
}

static const struct simulate_job *job_at(const struct simulate_report *report, size_t capacity,
                                         size_t policy)
{
    return &report->jobs[capacity * report->options->n_policies + policy];
}

/* Of all distinct keys or of their bytes. */
static double share_of(const struct simulate_report *report, uint64_t capacity)
{
    uint64_t whole =
        report->options->by_bytes ? report->trace->unique_bytes : report->trace->n_keys;

    return whole == 0 ? 0 : (double)capacity / (double)whole;
}

static void write_block(const struct simulate_report *report, FILE *out, const char *title,
                        double (*ratio)(const struct simulation_result *result))
{
    const struct simulate_options *options = report->options;

    fprintf(out, "\n%s\n%14s %7s", title, unit_of(report), "share");
    for (size_t i = 0; i < options->n_policies; i++)
        fprintf(out, " %9s", options->policies[i]->name);
    fputc('\n', out);
    for (size_t c = 0; c < options->n_capacities; c++) {
        uint64_t capacity = job_at(report, c, 0)->simulation.capacity;
        fprintf(out, "%14" PRIu64 " %6.2f%%", capacity, share_of(report, capacity) * 100);
        for (size_t i = 0; i < options->n_policies; i++)
            fprintf(out, " %9.6f", ratio(&job_at(report, c, i)->result));
        fputc('\n', out);
    }
}

static void write_table(const struct simulate_report *report, FILE *out)
{
    const struct trace *trace = report->trace;

    fprintf(out, "%s: %zu accesses, %zu keys, %" PRIu64 " bytes in all\n", name_of(report),
            trace->n_accesses, trace->n_keys, trace->unique_bytes);
    write_block(report, out, "miss ratio by objects", miss_ratio);
    write_block(report, out, "miss ratio by bytes", byte_miss_ratio);
}

static void write_csv(const struct simulate_report *report, FILE *out)
{
    const struct simulate_options *options = report->options;

    fputs("policy,unit,capacity,share,accesses,misses,miss_ratio,bytes,missed_bytes,"
          "byte_miss_ratio\n",
          out);
    for (size_t i = 0; i < options->n_policies; i++) {
        for (size_t c = 0; c < options->n_capacities; c++) {
            const struct simulate_job *job = job_at(report, c, i);
            const struct simulation_result *result = &job->result;
            fprintf(out,
                    "%s,%s,%" PRIu64 ",%.6f,%" PRIu64 ",%" PRIu64 ",%.6f,%" PRIu64 ",%" PRIu64
                    ",%.6f\n",
                    options->policies[i]->name, unit_of(report), job->simulation.capacity,
                    share_of(report, job->simulation.capacity), result->accesses, result->misses,
                    miss_ratio(result), result->bytes, result->missed_bytes,
                    byte_miss_ratio(result));
        }
    }
}

/* NULL: out of memory. */
static json_t *json_of_job(const struct simulate_report *report, const struct simulate_job *job)
{
    const struct simulation_result *result = &job->result;

    return json_pack("{s:s, s:I, s:f, s:I, s:I, s:f, s:I, s:I, s:f}", "policy",
                     job->simulation.policy->name, "capacity", (json_int_t)job->simulation.capacity,
                     "share", share_of(report, job->simulation.capacity), "accesses",
                     (json_int_t)result->accesses, "misses", (json_int_t)result->misses,
                     "miss_ratio", miss_ratio(result), "bytes", (json_int_t)result->bytes,
                     "missed_bytes", (json_int_t)result->missed_bytes, "byte_miss_ratio",
                     byte_miss_ratio(result));
}

static int write_json(const struct simulate_report *report, FILE *out)
{
    const struct simulate_options *options = report->options;
    const struct trace *trace = report->trace;
    json_t *results = json_array();
    json_t *root = NULL;
    char *name = text_utf8(name_of(report));
    int error = -1;

    for (size_t i = 0; i < options->n_policies; i++) {
        for (size_t c = 0; c < options->n_capacities; c++) {
            if (json_array_append_new(results, json_of_job(report, job_at(report, c, i))) != 0)
                goto out;
        }
    }
    root = json_pack("{s:s, s:s, s:I, s:I, s:I, s:O}", "trace", name, "unit", unit_of(report),
                     "accesses", (json_int_t)trace->n_accesses, "keys", (json_int_t)trace->n_keys,
                     "unique_bytes", (json_int_t)trace->unique_bytes, "results", results);
    if (root == NULL || json_dumpf(root, out, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) != 0)
        goto out;
    fputc('\n', out);
    error = 0;

out:
    json_decref(root);
    json_decref(results);
    free(name);
    if (error != 0 && errno == 0)
        errno = ENOMEM;
    return error;
}

int simulate_report_write(const struct simulate_report *report, FILE *out)
{
    int error = 0;

    errno = 0;
    if (report->options->format == SIMULATE_JSON)
        error = write_json(report, out);
    else if (report->options->format == SIMULATE_CSV)
        write_csv(report, out);
    else
        write_table(report, out);
    return error == 0 && fflush(out) == 0 && !ferror(out) ? 0 : -1;
}

int simulate_report_plot(const struct simulate_report *report, const char *path)
{
    const struct simulate_options *options = report->options;
    struct plot *plot = plot_open(path);

    if (plot == NULL)
        return -1;
    FILE *script = plot_script(plot);
    for (size_t i = 0; i < options->n_policies; i++) {
        fprintf(script, "$policy%zu << END\n", i);
        for (size_t c = 0; c < options->n_capacities; c++) {
            const struct simulate_job *job = job_at(report, c, i);
            fprintf(script, "%" PRIu64 " %.6f %.6f\n", job->simulation.capacity,
                    miss_ratio(&job->result), byte_miss_ratio(&job->result));
        }
        fputs("END\n", script);
    }
    fputs("set title noenhanced ", script);
    plot_text(plot, name_of(report));
    fprintf(script,
            "\nset xlabel 'capacity in %s'\nset ylabel 'miss ratio by %s'\nset logscale x\n"
            "set grid\nset key outside right top noenhanced\nset yrange [0:1]\nplot",
            unit_of(report), unit_of(report));
    for (size_t i = 0; i < options->n_policies; i++) {
        fprintf(script, "%s $policy%zu using 1:%d with linespoints title ", i == 0 ? "" : ",", i,
                options->by_bytes ? 3 : 2);
        plot_text(plot, options->policies[i]->name);
    }
    fputc('\n', script);
    return plot_close(plot);
}
