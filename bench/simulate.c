/* `tierbench simulate`: loads the trace once, runs each policy at each capacity on all cores, and
 * reports. Capacities that come to less than one object or byte are told and left out. */
#include "simulate.h"

#include "simulate_jobs.h"
#include "simulate_options.h"
#include "simulate_report.h"
#include "trace_generate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int load(const struct simulate_options *options, struct trace *ret_trace)
{
    char error_text[512];
    int error = options->trace != NULL
                    ? trace_load(options->trace, ret_trace, error_text, sizeof(error_text))
                    : trace_generate(options->generate, ret_trace, error_text, sizeof(error_text));

    if (error != 0) {
        fprintf(stderr, "tierbench: %s\n", error_text);
        return error;
    }
    if (ret_trace->n_accesses == 0) {
        fprintf(stderr, "tierbench: the trace has no reads or writes\n");
        trace_close(ret_trace);
        return -1;
    }
    return 0;
}

/* Makes the jobs in the order of the report; drops capacities that come to nothing. NULL: told. */
static struct simulate_job *make_jobs(struct simulate_options *options, const struct trace *trace)
{
    uint64_t whole = options->by_bytes ? trace->unique_bytes : trace->n_keys;
    struct simulate_job *jobs = calloc(options->n_capacities * options->n_policies, sizeof(*jobs));
    size_t n = 0;

    if (jobs == NULL) {
        fprintf(stderr, "tierbench: out of memory\n");
        return NULL;
    }
    for (size_t c = 0; c < options->n_capacities; c++) {
        uint64_t capacity = simulate_capacity_of(&options->capacities[c], whole);
        if (capacity == 0) {
            fprintf(stderr, "tierbench: left out %g%%: less than one of %" PRIu64 "\n",
                    options->capacities[c].share * 100, whole);
            continue;
        }
        for (size_t i = 0; i < options->n_policies; i++)
            jobs[n++].simulation = (struct simulation){
                .trace = trace,
                .policy = options->policies[i],
                .capacity = capacity,
                .by_bytes = options->by_bytes,
            };
    }
    options->n_capacities = n / options->n_policies;
    if (n == 0) {
        fprintf(stderr, "tierbench: no capacity is left\n");
        free(jobs);
        return NULL;
    }
    return jobs;
}

static int write_to(const struct simulate_report *report, const char *path)
{
    FILE *out = path == NULL ? stdout : fopen(path, "w");
    int error = -1;

    if (out != NULL) {
        error = simulate_report_write(report, out);
        if (out != stdout && fclose(out) != 0)
            error = -1;
    }
    if (error != 0)
        fprintf(stderr, "tierbench: %s: %s\n", path == NULL ? "standard output" : path,
                strerror(errno));
    return error;
}

int simulate_main(int argc, char **argv)
{
    struct simulate_options options;
    struct trace trace = {0};
    struct simulate_job *jobs = NULL;
    int result = 1, parsed = simulate_options_parse(&options, argc, argv);

    if (parsed != 0)
        return parsed > 0 ? 0 : 2;
    if (load(&options, &trace) != 0)
        return 1;
    jobs = make_jobs(&options, &trace);
    if (jobs == NULL)
        goto out;
    if (simulate_jobs_run(jobs, options.n_capacities * options.n_policies, options.threads) != 0) {
        fprintf(stderr, "tierbench: out of memory; fewer --threads need less\n");
        goto out;
    }
    struct simulate_report report = {.options = &options, .trace = &trace, .jobs = jobs};
    if (write_to(&report, options.output) != 0 ||
        (options.plot != NULL && simulate_report_plot(&report, options.plot) != 0))
        goto out;
    result = 0;

out:
    free(jobs);
    trace_close(&trace);
    return result;
}
