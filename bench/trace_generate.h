/* Traces by formula instead of from a file, the same on every machine: zipf, shift (a hotspot that
 * moves), scan (zipf polluted by scans). Random numbers: splitmix64 (Steele, Lea, Flood, OOPSLA
 * 2014). pow() may differ in the last bit between C libraries and move a request or two. */
#ifndef TIERKV_BENCH_TRACE_GENERATE_H
#define TIERKV_BENCH_TRACE_GENERATE_H

#include "trace.h"

#include <stdio.h>

/* Makes the trace that `text` describes: NAME[:FIELD=VALUE,...], for instance
 * "zipf:keys=1000,theta=0.9". 0, or -1 with one sentence in error_text. */
int trace_generate(const char *text, struct trace *ret_trace, char *error_text,
                   size_t error_text_size);

/* The names, their fields and defaults, for a help text. */
void trace_generate_help(FILE *out);

#endif
