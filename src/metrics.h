/* The server's own counters and latency histograms, defined once in a table and given out as
 * Prometheus text by GET /metrics. Tier and Raft figures are read from their owners at that moment.
 *
 * metrics_add and metrics_observe: any thread, wait-free (threads are spread over cells, so that
 * they do not share cache lines). */
#ifndef TIERKV_METRICS_H
#define TIERKV_METRICS_H

#include <stddef.h>
#include <stdint.h>

/* X(identifier, exposed name with labels, help) */
#define METRICS_COUNTERS(X)                                                                        \
    X(METRIC_REQUESTS_GET, "tierkv_http_requests_total{method=\"GET\"}", "Requests received")      \
    X(METRIC_REQUESTS_PUT, "tierkv_http_requests_total{method=\"PUT\"}", "Requests received")      \
    X(METRIC_REQUESTS_POST, "tierkv_http_requests_total{method=\"POST\"}", "Requests received")    \
    X(METRIC_REQUESTS_DELETE, "tierkv_http_requests_total{method=\"DELETE\"}",                     \
      "Requests received")                                                                         \
    X(METRIC_REQUESTS_OTHER, "tierkv_http_requests_total{method=\"other\"}", "Requests received")  \
    X(METRIC_RESPONSES_2XX, "tierkv_http_responses_total{class=\"2xx\"}", "Responses sent")        \
    X(METRIC_RESPONSES_3XX, "tierkv_http_responses_total{class=\"3xx\"}", "Responses sent")        \
    X(METRIC_RESPONSES_4XX, "tierkv_http_responses_total{class=\"4xx\"}", "Responses sent")        \
    X(METRIC_RESPONSES_5XX, "tierkv_http_responses_total{class=\"5xx\"}", "Responses sent")        \
    X(METRIC_REQUESTS_VANISHED, "tierkv_http_requests_vanished_total",                             \
      "Requests whose client went away before the answer")                                         \
    X(METRIC_REFUSED_BUSY, "tierkv_http_refused_total{reason=\"busy\"}", "Requests refused")       \
    X(METRIC_REFUSED_CONNECTIONS, "tierkv_http_refused_total{reason=\"connections\"}",             \
      "Requests refused")                                                                          \
    X(METRIC_CONNECTIONS_CUT, "tierkv_http_connections_cut_total",                                 \
      "Connections closed because they moved nothing or held too much memory")                     \
    X(METRIC_CONNECTIONS_ACCEPTED, "tierkv_http_connections_accepted_total", "Connections accepted")

/* Latencies in seconds, buckets of powers of two from 1 us to 16 s. Names may carry a label. */
#define METRICS_HISTOGRAMS(X)                                                                      \
    X(METRIC_WRITE_LATENCY, "tierkv_write_latency_seconds", "From request to answer of a write")   \
    X(METRIC_CONSISTENT_READ_LATENCY, "tierkv_consistent_read_latency_seconds",                    \
      "From request to answer of a consistent read")                                               \
    X(METRIC_READ_LATENCY_HOT, "tierkv_read_latency_seconds{tier=\"hot\"}", METRIC_READ_HELP)      \
    X(METRIC_READ_LATENCY_WARM, "tierkv_read_latency_seconds{tier=\"warm\"}", METRIC_READ_HELP)    \
    X(METRIC_READ_LATENCY_COLD, "tierkv_read_latency_seconds{tier=\"cold\"}", METRIC_READ_HELP)
#define METRIC_READ_HELP                                                                           \
    "From look-up to value, by the tier that had it; of those that waited for no disk one in 17 "  \
    "is measured, and counts as 17"

enum metrics_counter {
#define X(id, name, help) id,
    METRICS_COUNTERS(X)
#undef X
        METRICS_COUNTERS_N
};
enum metrics_histogram {
#define X(id, name, help) id,
    METRICS_HISTOGRAMS(X)
#undef X
        METRICS_HISTOGRAMS_N
};

void metrics_add(enum metrics_counter counter, uint64_t n);
void metrics_observe(enum metrics_histogram histogram, uint64_t latency_us);
/* A sample that stands for `n` such latencies. */
void metrics_observe_many(enum metrics_histogram histogram, uint64_t latency_us, uint64_t n);

/* Appends text to a growing buffer. Zero-initialise; free(text.base) when done. Not NUL-terminated.
 * What does not fit because memory is short is left out in whole lines; base may then be NULL. */
struct metrics_text {
    char *base;
    size_t length, capacity;
};
void metrics_render(struct metrics_text *text);
/* One sample of a figure owned elsewhere; type is "gauge" or "counter". The name may carry labels:
 * NAME{label="value"}. HELP and TYPE are written before the first sample of a NAME; samples of one
 * NAME must follow each other. */
void metrics_render_one(struct metrics_text *text, const char *name, const char *type,
                        const char *help, double value);

#endif
