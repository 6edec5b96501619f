/* What `tierbench simulate` found, as a table, CSV, JSON or a chart. */
#ifndef TIERKV_BENCH_SIMULATE_REPORT_H
#define TIERKV_BENCH_SIMULATE_REPORT_H

#include "simulate_jobs.h"
#include "simulate_options.h"

#include <stdio.h>

struct simulate_report {
    const struct simulate_options *options;
    const struct trace *trace;
    const struct simulate_job *jobs; /* All policies of the first capacity, then of the next */
};

/* In the format of the options. 0, or -1: could not be written (see errno). */
int simulate_report_write(const struct simulate_report *report, FILE *out);

/* Miss ratio against capacity, a curve for each policy. 0, or -1: told on stderr. */
int simulate_report_plot(const struct simulate_report *report, const char *path);

#endif
