/* Counters in cells: each thread adds to the cell it drew when it first counted, the exposition
 * sums all cells up. With more threads than cells some share one, which costs time but no count. */
#include "metrics.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CELLS_N 32

/* Upper bounds 2^0 us (1 us) to 2^24 us (16.8 s), and one bucket for what took longer. */
#define BUCKET_FIRST_LOG2 0
#define BUCKET_LAST_LOG2  24
#define BUCKETS_N         (BUCKET_LAST_LOG2 - BUCKET_FIRST_LOG2 + 2)

struct cell {
    alignas(64) _Atomic uint64_t counters[METRICS_COUNTERS_N];
    _Atomic uint64_t buckets[METRICS_HISTOGRAMS_N][BUCKETS_N];
    _Atomic uint64_t sums_us[METRICS_HISTOGRAMS_N];
};

static struct cell cells[CELLS_N];
static atomic_uint cells_drawn;
static _Thread_local struct cell *cell_of_thread;

static struct cell *own_cell(void)
{
    if (cell_of_thread == NULL)
        cell_of_thread =
            &cells[atomic_fetch_add_explicit(&cells_drawn, 1, memory_order_relaxed) % CELLS_N];
    return cell_of_thread;
}

static void add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static uint64_t get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void metrics_add(enum metrics_counter counter, uint64_t n)
{
    add(&own_cell()->counters[counter], n);
}

/* The first bucket whose bound is not below the latency. */
static size_t bucket_of(uint64_t latency_us)
{
    if (latency_us <= UINT64_C(1) << BUCKET_FIRST_LOG2)
        return 0;
    if (latency_us > UINT64_C(1) << BUCKET_LAST_LOG2)
        return BUCKETS_N - 1;
    unsigned log2_rounded_up = 64 - (unsigned)__builtin_clzll(latency_us - 1);
    return log2_rounded_up - BUCKET_FIRST_LOG2;
}

void metrics_observe_many(enum metrics_histogram histogram, uint64_t latency_us, uint64_t n)
{
    struct cell *cell = own_cell();
    add(&cell->buckets[histogram][bucket_of(latency_us)], n);
    add(&cell->sums_us[histogram], latency_us * n);
}

void metrics_observe(enum metrics_histogram histogram, uint64_t latency_us)
{
    metrics_observe_many(histogram, latency_us, 1);
}

/* ----------------------------------------------------------------------------------- exposition */

static void text_add(struct metrics_text *text, const char *line)
{
    size_t n = strlen(line);
    if (n > text->capacity - text->length) {
        size_t capacity = text->capacity == 0 ? 16384 : text->capacity * 2;
        while (capacity - text->length < n)
            capacity *= 2;
        char *base = realloc(text->base, capacity);
        if (base == NULL)
            return;
        text->base = base;
        text->capacity = capacity;
    }
    memcpy(text->base + text->length, line, n);
    text->length += n;
}

/* HELP and TYPE, unless the family has them already. */
static void family_begin(struct metrics_text *text, const char *name, const char *type,
                         const char *help)
{
    char line[1024];
    int family_len = (int)strcspn(name, "{");
    int n = snprintf(line, sizeof(line), "# TYPE %.*s %s\n", family_len, name, type);
    if (n >= (int)sizeof(line))
        return;
    if (text->length > 0 && memmem(text->base, text->length, line, (size_t)n) != NULL)
        return;
    char help_line[1024];
    n = snprintf(help_line, sizeof(help_line), "# HELP %.*s %s\n", family_len, name, help);
    if (n < (int)sizeof(help_line))
        text_add(text, help_line);
    text_add(text, line);
}

static void sample_add(struct metrics_text *text, const char *name, uint64_t value)
{
    char line[1024];
    int n = snprintf(line, sizeof(line), "%s %llu\n", name, (unsigned long long)value);
    if (n < (int)sizeof(line))
        text_add(text, line);
}

static void counter_render(struct metrics_text *text, enum metrics_counter counter,
                           const char *name, const char *help)
{
    uint64_t value = 0;
    for (size_t i = 0; i < CELLS_N; i++)
        value += get(&cells[i].counters[counter]);
    family_begin(text, name, "counter", help);
    sample_add(text, name, value);
}

/* A sample of a histogram: `suffix` belongs to the family's name, `label` after its own labels. */
static void part_name(char *ret_name, size_t size, const char *name, const char *suffix,
                      const char *label)
{
    int family_len = (int)strcspn(name, "{");
    const char *labels = name + family_len; /* "" or "{a="b"}" */
    int labels_len = labels[0] != '\0' ? (int)strlen(labels) - 2 : 0;
    const char *comma = labels_len > 0 && label[0] != '\0' ? "," : "";
    if (labels_len == 0 && label[0] == '\0')
        snprintf(ret_name, size, "%s%s", name, suffix);
    else
        snprintf(ret_name, size, "%.*s%s{%.*s%s%s}", family_len, name, suffix, labels_len,
                 labels_len > 0 ? labels + 1 : "", comma, label);
}

static void histogram_render(struct metrics_text *text, enum metrics_histogram histogram,
                             const char *name, const char *help)
{
    uint64_t count = 0, sum_us = 0;
    char label[32], part[256], line[320];
    family_begin(text, name, "histogram", help);
    for (size_t bucket = 0; bucket < BUCKETS_N; bucket++) {
        for (size_t i = 0; i < CELLS_N; i++)
            count += get(&cells[i].buckets[histogram][bucket]);
        if (bucket == BUCKETS_N - 1)
            snprintf(label, sizeof(label), "le=\"+Inf\"");
        else
            snprintf(label, sizeof(label), "le=\"%.6f\"",
                     (double)(UINT64_C(1) << (bucket + BUCKET_FIRST_LOG2)) / 1e6);
        part_name(part, sizeof(part), name, "_bucket", label);
        sample_add(text, part, count);
    }
    for (size_t i = 0; i < CELLS_N; i++)
        sum_us += get(&cells[i].sums_us[histogram]);
    part_name(part, sizeof(part), name, "_sum", "");
    snprintf(line, sizeof(line), "%s %.6f\n", part, (double)sum_us / 1e6);
    text_add(text, line);
    part_name(part, sizeof(part), name, "_count", "");
    sample_add(text, part, count);
}

void metrics_render(struct metrics_text *text)
{
#define X(id, name, help) counter_render(text, id, name, help);
    METRICS_COUNTERS(X)
#undef X
#define X(id, name, help) histogram_render(text, id, name, help);
    METRICS_HISTOGRAMS(X)
#undef X
}

void metrics_render_one(struct metrics_text *text, const char *name, const char *type,
                        const char *help, double value)
{
    char line[1024];
    family_begin(text, name, type, help);
    /* 15 digits: counters stay exact to 10^15, fractions do not show binary noise. */
    int n = snprintf(line, sizeof(line), "%s %.15g\n", name, value);
    if (n < (int)sizeof(line))
        text_add(text, line);
}
