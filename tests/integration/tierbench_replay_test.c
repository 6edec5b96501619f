/* `tierbench replay`: what its report says when the node cannot be asked at the end what its tiers
 * did, and of a trace with an odd name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/cluster.h"
#include "lib/http.h"
#include "lib/process.h"
#include "lib/temp_folder.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 60000

static char folder[TEMP_FOLDER_PATH_BYTES];

static int set_up(void **state)
{
    (void)state;
    temp_folder_make(folder);
    return 0;
}

static int tear_down(void **state)
{
    temp_folder_remove(folder);
    return cluster_teardown(state);
}

/* Keys are only written before the measurement, so that it has begun with the first read. */
static void wait_for_reads(const char *address)
{
    static const char name[] = "\ntierkv_tiers_hits_hot_total ";
    uint64_t deadline = test_now_ms() + TIMEOUT_MS, reads = 0;

    while (reads == 0) {
        struct http_request request = {.address = address, .path = "/metrics"};
        struct http_answer answer;
        http_run(&request, &answer);
        const char *line = answer.body != NULL ? strstr(answer.body, name) : NULL;
        reads = line != NULL ? strtoull(line + sizeof(name) - 1, NULL, 10) : 0;
        http_free(&answer);
        assert_true(test_now_ms() < deadline);
    }
}

/* The report of a replay whose node is killed while it runs; free it. */
static char *replay_that_loses_its_node(const char *format)
{
    struct cluster *cluster = cluster_start(1, NULL);
    char url[128], path[TEMP_FOLDER_PATH_BYTES + 16];
    const char *const arguments[] = {TIERBENCH_PATH, "replay", "--http",    url,        "--format",
                                     format,         "--keys", "100",       "--warmup", "0",
                                     "--seconds",    "2",      "--timeout", "1",        NULL};

    snprintf(url, sizeof(url), "http://%s", cluster_address(cluster, 0));
    snprintf(path, sizeof(path), "%s/%s", folder, format);
    pid_t pid = process_start(arguments, path);
    wait_for_reads(cluster_address(cluster, 0));
    cluster_node_kill(cluster, 0);
    assert_int_not_equal(process_wait(pid, TIMEOUT_MS), -1);
    cluster_stop(cluster);
    char *text = calloc(1, 1 << 16);
    FILE *file = fopen(path, "r");
    assert_true(text != NULL && file != NULL);
    text[fread(text, 1, (1 << 16) - 1, file)] = '\0';
    fclose(file);
    return text;
}

static void a_table_says_what_is_not_known(void **state)
{
    char *text = replay_that_loses_its_node("table");

    (void)state;
    if (strstr(text, "unknown: a node could not be asked at the end") == NULL ||
        strstr(text, "hot 0.00 %") != NULL)
        fail_msg("%s", text);
    free(text);
}

static void json_has_null_for_what_is_not_known(void **state)
{
    char *text = replay_that_loses_its_node("json");
    json_t *report = json_loads(text, 0, NULL);

    (void)state;
    if (report == NULL || !json_is_null(json_object_get(report, "hits")))
        fail_msg("%s", text);
    json_decref(report);
    free(text);
}

static void json_names_a_trace_whose_path_is_no_utf8(void **state)
{
    struct cluster *cluster = cluster_start(1, NULL);
    char url[128], path[TEMP_FOLDER_PATH_BYTES + 16];
    const char *const arguments[] = {TIERBENCH_PATH, "replay", "--http",     url,  "--format",
                                     "json",         path,     "--requests", "10", NULL};
    struct process_result result;

    (void)state;
    snprintf(url, sizeof(url), "http://%s", cluster_address(cluster, 0));
    snprintf(path, sizeof(path), "%s/t\xff", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("a 20 w\na 20 r\n", file);
    assert_int_equal(fclose(file), 0);
    process_run(arguments, NULL, 0, TIMEOUT_MS, &result);
    json_t *report = json_loads(result.output, 0, NULL);
    const char *load = json_string_value(json_object_get(report, "load"));
    if (load == NULL || strstr(load, "/t\ufffd: 2 requests") == NULL)
        fail_msg("%s%s", result.errors, result.output);
    json_decref(report);
    process_result_free(&result);
    cluster_stop(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_table_says_what_is_not_known, set_up, tear_down),
        cmocka_unit_test_setup_teardown(json_has_null_for_what_is_not_known, set_up, tear_down),
        cmocka_unit_test_setup_teardown(json_names_a_trace_whose_path_is_no_utf8, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
