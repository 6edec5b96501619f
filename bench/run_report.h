/* The reports of `tierbench run`. */
#ifndef TIERKV_BENCH_RUN_REPORT_H
#define TIERKV_BENCH_RUN_REPORT_H

#include "run_cost.h"

#include <stdio.h>

struct run_report {
    const struct run_options *options;
    struct source *source;
    struct run_result *const *results; /* Of each policy, complete, at least one */
    size_t n_results;
};

/* Sees, before there is anything to write, whether the files that the options name can be written;
 * changes none. 0, or -1: told on stderr. */
int run_report_check(const struct run_options *options);

/* Writes all that the options ask for. 0, or -1: told on stderr. */
int run_report(const struct run_report *report);

/* The parts of it: 0, or -1 with errno set. */
int run_report_table(const struct run_report *report, FILE *out);
int run_report_csv(const struct run_report *report, FILE *out);
int run_report_json(const struct run_report *report, FILE *out);
int run_report_series(const struct run_report *report, FILE *out);

/* 0, or -1: told on stderr. */
int run_report_plot(const struct run_report *report, const char *path);

/* The names of the kinds of calls, RUN_CALLS of them, and the quantiles that reports have. */
#define RUN_QUANTILES 4
extern const char *const run_call_names[RUN_CALLS];
extern const double run_quantiles[RUN_QUANTILES];
extern const char *const run_quantile_names[RUN_QUANTILES];

/* "hdd modelled: ...", or where the cold tier really lay. */
void run_report_cold(const struct run_report *report, char *text, size_t text_size);

#endif
