/* The report of `tierbench replay`. */
#ifndef TIERKV_BENCH_REPLAY_REPORT_H
#define TIERKV_BENCH_REPLAY_REPORT_H

#include "replay_metrics.h"
#include "replay_worker.h"

struct replay_report {
    const struct replay_options *options;
    const struct source *source;
    const struct replay_counts *counts;
    double load_seconds; /* 0: nothing was loaded */
    double seconds;
    struct replay_hits hits;  /* While the requests ran, of the nodes that were named */
    const char *hits_unknown; /* Why they are not known, in a few words; NULL: they are */
    size_t nodes_counted;
};

/* On standard output. 0, or -1: told on stderr. */
int replay_report(const struct replay_report *report);

/* Calls that had another end than a good answer. */
uint64_t replay_errors(const struct replay_counts *counts);

#endif
