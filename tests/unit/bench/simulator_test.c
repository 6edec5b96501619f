/* Miss counts of the policies against those of another program.
 *
 * The expected ratios for generated traces, and the file reference.tsv of a folder of recorded
 * ones, were made with libCacheSim (commit aa0fc409): its replay rule and parameters are ours. The
 * option TIERKV_TRACES of the build names such a folder, of which a sample of the rows is checked;
 * without it there are the generated traces alone. The variable of the same name checks every row:
 *
 *     TIERKV_TRACES=FOLDER build/release/tests/bench_simulator_test
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "simulate_jobs.h"
#include "trace_generate.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS      2
#define POLICIES_MAX 16
#define ROWS_MAX     2048
#define SAMPLE_EVERY 7
/* pow() differs between machines, and ratios are rounded to 6 digits. */
#define ROUNDING 0.00001
#define EXACT    0.0000006

static char error_text[512];

/* How far a miss ratio may be above the reference's, and below it. */
static const struct tolerance {
    const char *policy;
    const char *reference_name;
    double above;
    double below;
} tolerances[] = {
    {"lru", "lru", EXACT, EXACT},     {"clock", "clock", EXACT, EXACT},
    {"sieve", "sieve", EXACT, EXACT}, {"twoq", "twoQ", 0.01, 0.01},
    {"arc", "arc", 0.01, 0.01},       {"s3fifo", "s3fifo", 0.01, 0.01},
    {"slru", "slru", 0.01, 1},        {"wtinylfu", "wtinylfu", 0.01, 1},
};
#define N_TOLERANCES (sizeof(tolerances) / sizeof(tolerances[0]))

/* wtinylfu on a pure loop; bench/POLICIES.md tells why. */
#define LOOP_TRACE "lirs_loop"
#define LOOP_ABOVE 0.016

static const struct tolerance *tolerance_of(const char *policy)
{
    for (size_t i = 0; i < N_TOLERANCES; i++) {
        if (strcmp(tolerances[i].policy, policy) == 0 ||
            strcmp(tolerances[i].reference_name, policy) == 0)
            return &tolerances[i];
    }
    return NULL;
}

static double miss_ratio(const struct simulate_job *job)
{
    return (double)job->result.misses / (double)job->result.accesses;
}

/* Runs all policies, auto the last, at each capacity, in this order. */
static struct simulate_job *run_all(const struct trace *trace, const uint64_t *capacities,
                                    size_t n_capacities, size_t *ret_n_policies)
{
    const struct policy_type *types[POLICIES_MAX];
    size_t n_policies = 0, n = 0;

    while (policy_at(n_policies) != NULL && n_policies < POLICIES_MAX - 1) {
        types[n_policies] = policy_at(n_policies);
        n_policies++;
    }
    types[n_policies++] = &policy_auto;
    struct simulate_job *jobs = calloc(n_capacities * n_policies, sizeof(*jobs));
    assert_non_null(jobs);
    for (size_t c = 0; c < n_capacities; c++) {
        for (size_t p = 0; p < n_policies; p++)
            jobs[n++].simulation =
                (struct simulation){.trace = trace, .policy = types[p], .capacity = capacities[c]};
    }
    assert_int_equal(simulate_jobs_run(jobs, n, THREADS), 0);
    *ret_n_policies = n_policies;
    return jobs;
}

/* How many policies are outside of what is allowed against the reference: told one by one. */
static size_t compare(const char *trace_name, const struct simulate_job *job, double reference,
                      double rounding)
{
    const struct tolerance *tolerance = tolerance_of(job->simulation.policy->name);
    double apart = miss_ratio(job) - reference;

    if (tolerance == NULL)
        return 0;
    bool loops = strcmp(trace_name, LOOP_TRACE) == 0 && strcmp(tolerance->policy, "wtinylfu") == 0;
    double above = loops ? LOOP_ABOVE : tolerance->above;
    if (apart <= above + rounding && -apart <= tolerance->below + rounding)
        return 0;
    print_error("%s at %llu: %s misses %.6f, the reference %.6f\n", trace_name,
                (unsigned long long)job->simulation.capacity, tolerance->policy, miss_ratio(job),
                reference);
    return 1;
}

/* auto is within 0.01 of the best of the others; the jobs of one capacity. */
static size_t compare_auto(const char *trace_name, const struct simulate_job *jobs,
                           size_t n_policies)
{
    double least = 1, found = miss_ratio(&jobs[n_policies - 1]);

    assert_ptr_equal(jobs[n_policies - 1].simulation.policy, &policy_auto);
    for (size_t p = 0; p + 1 < n_policies; p++)
        least = miss_ratio(&jobs[p]) < least ? miss_ratio(&jobs[p]) : least;
    if (found <= least + 0.01)
        return 0;
    print_error("%s at %llu: auto misses %.6f, the best %.6f\n", trace_name,
                (unsigned long long)jobs[0].simulation.capacity, found, least);
    return 1;
}

/* In the order of tolerances[]. */
static const struct {
    const char *recipe;
    uint64_t capacity;
    double ratios[N_TOLERANCES];
} generated[] = {
    {"zipf", 822, {0.530568, 0.518982, 0.435891, 0.450101, 0.437355, 0.433500, 0.444361, 0.434722}},
    {"zipf",
     8219,
     {0.299066, 0.289958, 0.251211, 0.262005, 0.251476, 0.248298, 0.253674, 0.246076}},
    {"shift",
     715,
     {0.716930, 0.712837, 0.725482, 0.696501, 0.686149, 0.689719, 0.699073, 0.704936}},
    {"shift",
     7147,
     {0.114435, 0.114574, 0.137402, 0.135012, 0.114838, 0.122855, 0.115371, 0.223171}},
    {"scan",
     3211,
     {0.537903, 0.528968, 0.463316, 0.472646, 0.461040, 0.459083, 0.469525, 0.462805}},
    {"scan",
     32105,
     {0.383089, 0.369152, 0.334218, 0.346718, 0.325215, 0.332157, 0.340037, 0.340017}},
};

static void generated_traces_give_the_misses_of_the_reference(void **state)
{
    size_t failed = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(generated) / sizeof(generated[0]); i++) {
        struct trace trace;
        size_t n_policies = 0;
        assert_int_equal(
            trace_generate(generated[i].recipe, &trace, error_text, sizeof(error_text)), 0);
        struct simulate_job *jobs = run_all(&trace, &generated[i].capacity, 1, &n_policies);
        for (size_t p = 0; p < n_policies; p++) {
            const struct tolerance *tolerance = tolerance_of(jobs[p].simulation.policy->name);
            if (tolerance != NULL)
                failed += compare(generated[i].recipe, &jobs[p],
                                  generated[i].ratios[tolerance - tolerances], ROUNDING);
        }
        failed += compare_auto(generated[i].recipe, jobs, n_policies);
        free(jobs);
        trace_close(&trace);
    }
    assert_int_equal(failed, 0);
}

/* One line of reference.tsv in mode objects. */
struct row {
    char trace[64];
    char policy[32];
    uint64_t capacity;
    double ratio;
};

static struct row rows[ROWS_MAX];

/* The rows of mode objects; 0: there is no such file. */
static size_t read_rows(const char *folder)
{
    char path[PATH_MAX], line[512], mode[32];
    size_t n = 0;

    snprintf(path, sizeof(path), "%s/reference.tsv", folder);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return 0;
    while (fgets(line, sizeof(line), file) != NULL && n < ROWS_MAX) {
        struct row *row = &rows[n];
        double share;
        unsigned long long capacity;
        int fields = sscanf(line, "%63s %31s %lf %llu %31s %lf", row->trace, mode, &share,
                            &capacity, row->policy, &row->ratio);
        row->capacity = capacity;
        n += fields == 6 && strcmp(mode, "objects") == 0;
    }
    assert_false(ferror(file));
    fclose(file);
    return n;
}

/* All policies on the rows [from, to), which are of one trace and one capacity. Adds the number of
 * those that we have the policy of. */
static size_t check_rows(const struct trace *trace, size_t from, size_t to, size_t *checked)
{
    size_t failed = 0, n_policies = 0;
    struct simulate_job *jobs = run_all(trace, &rows[from].capacity, 1, &n_policies);

    for (size_t i = from; i < to; i++) {
        for (size_t p = 0; p < n_policies; p++) {
            const struct tolerance *tolerance = tolerance_of(jobs[p].simulation.policy->name);
            if (tolerance == NULL || strcmp(rows[i].policy, tolerance->reference_name) != 0)
                continue;
            failed += compare(rows[i].trace, &jobs[p], rows[i].ratio, 0);
            (*checked)++;
        }
    }
    failed += compare_auto(rows[from].trace, jobs, n_policies);
    free(jobs);
    return failed;
}

static void recorded_traces_give_the_misses_of_the_reference(void **state)
{
    const char *folder = getenv("TIERKV_TRACES");
    size_t every = folder != NULL ? 1 : SAMPLE_EVERY, group = 0, checked = 0, failed = 0;
    char path[PATH_MAX], loaded[sizeof(rows[0].trace)] = "";
    struct trace trace = {0};

    (void)state;
    if (folder == NULL)
        folder = TRACES_FOLDER;
    if (folder[0] == '\0')
        skip();
    size_t n = read_rows(folder), to;
    if (n == 0)
        fail_msg("TIERKV_TRACES=%s: no reference.tsv with rows of mode objects", folder);
    for (size_t from = 0; from < n; from = to, group++) {
        for (to = from + 1; to < n && rows[to].capacity == rows[from].capacity &&
                            strcmp(rows[to].trace, rows[from].trace) == 0;
             to++)
            ;
        if (group % every != 0)
            continue;
        if (strcmp(loaded, rows[from].trace) != 0) {
            trace_close(&trace);
            snprintf(loaded, sizeof(loaded), "%s", rows[from].trace);
            snprintf(path, sizeof(path), "%s/%s.txt.zst", folder, loaded);
            if (trace_load(path, &trace, error_text, sizeof(error_text)) != 0)
                fail_msg("%s", error_text);
        }
        failed += check_rows(&trace, from, to, &checked);
    }
    trace_close(&trace);
    print_message("%zu rows checked, %zu comparisons failed\n", checked, failed);
    assert_int_equal(failed, 0);
}

static void deletions_are_skipped_and_bytes_are_counted(void **state)
{
    struct trace_builder *builder = trace_builder_new();
    struct trace trace;
    struct simulation_result result;

    (void)state;
    assert_non_null(builder);
    assert_int_equal(trace_builder_add(builder, 1, 10, 'r'), 0);
    assert_int_equal(trace_builder_add(builder, 2, 20, 'w'), 0);
    assert_int_equal(trace_builder_add(builder, 1, 10, 'd'), 0);
    assert_int_equal(trace_builder_add(builder, 1, 10, 'r'), 0);
    assert_int_equal(trace_builder_add(builder, 3, 31, 'r'), 0);
    assert_int_equal(trace_builder_add(builder, 3, 31, 'r'), 0);
    trace_builder_finish(builder, &trace);
    struct simulation simulation = {
        .trace = &trace, .policy = policy_find("lru"), .capacity = 30, .by_bytes = true};
    assert_int_equal(simulation_run(&simulation, &result), 0);
    assert_int_equal(result.accesses, 5);
    assert_int_equal(result.misses, 4);
    assert_int_equal(result.bytes, 10 + 20 + 10 + 31 + 31);
    assert_int_equal(result.missed_bytes, 10 + 20 + 31 + 31);
    trace_close(&trace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deletions_are_skipped_and_bytes_are_counted),
        cmocka_unit_test(generated_traces_give_the_misses_of_the_reference),
        cmocka_unit_test(recorded_traces_give_the_misses_of_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
