/* `tierbench simulate` as its user meets it: formats, plots, mistakes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/process.h"
#include "lib/temp_folder.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define TIMEOUT_MS     60000
#define TRACE_GENERATE "--generate=scan:requests=20000,keys=500,period=4000,scan=1000"

static char folder[TEMP_FOLDER_PATH_BYTES];

static int set_up(void **state)
{
    (void)state;
    temp_folder_make(folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    temp_folder_remove(folder);
    return 0;
}

static void path_of(const char *name, char *path, size_t size)
{
    snprintf(path, size, "%s/%s", folder, name);
}

/* Runs with the arguments up to NULL. */
#define simulate(...) process_run_list(TIMEOUT_MS, TIERBENCH_PATH, "simulate", __VA_ARGS__)

static void assert_succeeded(const struct process_result *result)
{
    if (result->status != 0)
        fail_msg("exit status %d: %s", result->status, result->errors);
    assert_string_equal(result->errors, "");
}

static void csv_and_json_tell_the_same(void **state)
{
    struct process_result csv =
        simulate(TRACE_GENERATE, "--capacities=10,5%", "--format=csv", "--threads=3", NULL);
    struct process_result json =
        simulate(TRACE_GENERATE, "--capacities=10,5%", "--format=json", "--threads=1", NULL);
    char *rest = NULL, *line;
    size_t n = 0;

    (void)state;
    assert_succeeded(&csv);
    assert_succeeded(&json);
    json_t *root = json_loads(json.output, 0, NULL);
    assert_non_null(root);
    json_t *results = json_object_get(root, "results");
    assert_int_equal(json_array_size(results), 2 * 9);
    line = strtok_r(csv.output, "\n", &rest);
    assert_string_equal(line, "policy,unit,capacity,share,accesses,misses,miss_ratio,bytes,"
                              "missed_bytes,byte_miss_ratio");
    while ((line = strtok_r(NULL, "\n", &rest)) != NULL) {
        json_t *one = json_array_get(results, n++);
        char policy[32];
        unsigned long long capacity, accesses, misses;
        assert_int_equal(sscanf(line, "%31[^,],objects,%llu,%*[^,],%llu,%llu", policy, &capacity,
                                &accesses, &misses),
                         4);
        assert_string_equal(json_string_value(json_object_get(one, "policy")), policy);
        assert_int_equal(json_integer_value(json_object_get(one, "capacity")), capacity);
        assert_int_equal(json_integer_value(json_object_get(one, "accesses")), accesses);
        assert_int_equal(json_integer_value(json_object_get(one, "misses")), misses);
        assert_int_equal(accesses, 20000);
        assert_true(misses > 0 && misses < accesses);
    }
    assert_int_equal(n, 2 * 9);
    json_decref(root);
    process_result_free(&csv);
    process_result_free(&json);
}

static void a_table_goes_to_a_file(void **state)
{
    char path[TEMP_FOLDER_PATH_BYTES + 16], text[4096];

    (void)state;
    path_of("table", path, sizeof(path));
    struct process_result result =
        simulate(TRACE_GENERATE, "--policies=lru,arc", "--by=bytes", "--output", path, NULL);
    assert_succeeded(&result);
    assert_string_equal(result.output, "");
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    assert_non_null(strstr(text, "miss ratio by objects"));
    assert_non_null(strstr(text, "miss ratio by bytes"));
    assert_non_null(strstr(text, "      lru       arc\n"));
    process_result_free(&result);
}

static bool gnuplot_is_installed(void)
{
    const char *const arguments[] = {"/bin/sh", "-c", "command -v gnuplot", NULL};
    struct process_result result;

    process_run(arguments, NULL, 0, TIMEOUT_MS, &result);
    bool found = result.status == 0;
    process_result_free(&result);
    return found;
}

static void a_plot_has_a_curve_for_each_policy(void **state)
{
    char path[TEMP_FOLDER_PATH_BYTES + 32];
    struct stat status;

    (void)state;
    if (!gnuplot_is_installed())
        skip();
    path_of("it's a plot.svg", path, sizeof(path));
    struct process_result result = simulate(TRACE_GENERATE, "--policies=sieve,wtinylfu",
                                            "--capacities=1%,10%", "--plot", path, NULL);
    assert_succeeded(&result);
    assert_int_equal(stat(path, &status), 0);
    char *text = malloc((size_t)status.st_size + 1);
    assert_non_null(text);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, (size_t)status.st_size, file)] = '\0';
    fclose(file);
    assert_non_null(strstr(text, "sieve"));
    assert_non_null(strstr(text, "wtinylfu"));
    assert_non_null(strstr(text, "</svg>"));
    free(text);
    process_result_free(&result);
}

static void without_gnuplot_a_plot_is_refused_by_name(void **state)
{
    const char *const arguments[] = {"/usr/bin/env", "PATH=/nowhere",  TIERBENCH_PATH, "simulate",
                                     TRACE_GENERATE, "--policies=lru", "--plot=x.svg", NULL};
    struct process_result result;

    (void)state;
    process_run(arguments, NULL, 0, TIMEOUT_MS, &result);
    assert_int_equal(result.status, 1);
    assert_string_equal(result.errors,
                        "tierbench: x.svg: gnuplot is not installed (package gnuplot-nox)\n");
    process_result_free(&result);
}

static void a_capacity_of_less_than_one_is_left_out(void **state)
{
    struct process_result result =
        simulate("--generate=zipf:keys=10,requests=100", "--capacities=1%,50%", "--format=csv",
                 "--policies=lru", NULL);

    (void)state;
    assert_int_equal(result.status, 0);
    assert_string_equal(result.errors, "tierbench: left out 1%: less than one of 10\n");
    assert_non_null(strstr(result.output, "\nlru,objects,5,"));
    process_result_free(&result);
}

static void mistakes_are_told_in_one_line(void **state)
{
    static const struct {
        const char *argument, *told;
        int status;
    } mistakes[] = {
        {"--policies=lru,foo", "--policies foo: no such policy (--help lists them)", 2},
        {"--capacities=0", "--capacities 0: not a number above 0", 2},
        {"--capacities=101%", "--capacities 101%: above 100%", 2},
        {"--capacities=1.5", "--capacities 1.5: not a whole number of objects or bytes", 2},
        {"--capacities=5MB", "--capacities 5MB: unknown unit; there are %, KiB, MiB, GiB, TiB", 2},
        {"--by=keys", "--by keys: objects or bytes", 2},
        {"--format=xml", "--format xml: table, csv or json", 2},
        {"--threads=0", "--threads 0: not a whole number from 1 to 256", 2},
        {"--generate=zap", "no such generator: zap", 1},
        {"--plot=x.pdf", "x.pdf: a plot is a .svg or a .png file", 1},
        {"--output=/nowhere/x", "/nowhere/x: No such file or directory", 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        char told[256];
        struct process_result result =
            simulate("--policies=lru", TRACE_GENERATE, mistakes[i].argument, NULL);
        snprintf(told, sizeof(told), "tierbench: %s\n", mistakes[i].told);
        assert_string_equal(result.errors, told);
        assert_int_equal(result.status, mistakes[i].status);
        process_result_free(&result);
    }
    struct process_result result = simulate("/nowhere/trace", NULL);
    assert_string_equal(result.errors, "tierbench: /nowhere/trace: No such file or directory\n");
    assert_int_equal(result.status, 1);
    process_result_free(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(csv_and_json_tell_the_same),
        cmocka_unit_test(a_table_goes_to_a_file),
        cmocka_unit_test(a_plot_has_a_curve_for_each_policy),
        cmocka_unit_test(without_gnuplot_a_plot_is_refused_by_name),
        cmocka_unit_test(a_capacity_of_less_than_one_is_left_out),
        cmocka_unit_test(mistakes_are_told_in_one_line),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
