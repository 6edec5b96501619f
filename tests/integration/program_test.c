/* tierkvd as a program: its output, its exit statuses, its signals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/cluster.h"
#include "lib/http.h"
#include "lib/process.h"
#include "lib/temp_folder.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WAIT_MS_MOST 60000

static struct process_result run(const char *first, const char *second)
{
    struct process_result result;
    process_run((const char *const[]){TIERKVD_PATH, first, second, NULL}, NULL, 0, WAIT_MS_MOST,
                &result);
    return result;
}

static void help_and_version_end_with_status_0(void **state)
{
    (void)state;
    struct process_result result = run("--help", NULL);
    assert_int_equal(result.status, 0);
    assert_non_null(strstr(result.output, "--data-dir"));
    process_result_free(&result);
    result = run("--version", NULL);
    assert_int_equal(result.status, 0);
    assert_memory_equal(result.output, "tierkvd ", 8);
    process_result_free(&result);
}

static void a_printed_configuration_starts_nothing(void **state)
{
    char folder[TEMP_FOLDER_PATH_BYTES], flag[TEMP_FOLDER_PATH_BYTES + 32];
    (void)state;
    temp_folder_make(folder);
    snprintf(flag, sizeof(flag), "--data-dir=%s/data", folder);
    struct process_result result = run(flag, "--print-config");
    assert_int_equal(result.status, 0);
    assert_non_null(strstr(result.output, "http_listen: \"127.0.0.1:8091\" # default\n"));
    process_result_free(&result);
    assert_int_equal(rmdir(folder), 0);
}

static void a_wrong_setting_ends_with_status_2_before_anything_is_made(void **state)
{
    char folder[TEMP_FOLDER_PATH_BYTES], flag[TEMP_FOLDER_PATH_BYTES + 32];
    (void)state;
    temp_folder_make(folder);
    snprintf(flag, sizeof(flag), "--data-dir=%s/data", folder);
    struct process_result result = run(flag, "--hot-bytes=1");
    assert_int_equal(result.status, 2);
    assert_string_equal(result.output, "");
    assert_string_equal(result.errors,
                        "tierkvd: hot_bytes (flag --hot-bytes): \"1\" must be bytes, or with KiB, "
                        "MiB, GiB or TiB, from 1MiB to 1024TiB\n");
    process_result_free(&result);
    result = run("--http-listen=0.0.0.0:1", flag);
    assert_int_equal(result.status, 2);
    assert_non_null(strstr(result.errors, "set http_address"));
    process_result_free(&result);
    assert_int_equal(rmdir(folder), 0);
}

static void a_wrong_list_of_figures_is_told_like_any_other_setting(void **state)
{
    (void)state;
    struct process_result result = run("--print-config", "--tier-prices=a,b,c");
    assert_int_equal(result.status, 2);
    assert_string_equal(result.output, "");
    assert_string_equal(
        result.errors, "tierkvd: tier_prices (flag --tier-prices): \"a,b,c\" must be three decimal "
                       "numbers such as 4,0.1,0.02\n");
    process_result_free(&result);
}

static long status_of(const struct http_request *request)
{
    struct http_answer answer;
    http_run(request, &answer);
    long status = answer.status;
    http_free(&answer);
    return status;
}

/* With settings whose sum is just accepted. */
static void the_largest_writes_that_the_settings_allow_are_taken(void **state)
{
    enum { BODY_BYTES = 974832, VALUE_BYTES = 1048025, KEYS = 4096, KEY_BYTES = 511 };
    static const char *const flags[] = {"--max-body-bytes=974832", "--max-value-bytes=1048025",
                                        "--operations-bytes-max=1MiB", NULL};
    (void)state;
    struct cluster *cluster = cluster_start(1, flags);
    char *value = calloc(1, VALUE_BYTES), *body = malloc(BODY_BYTES + 1), *at = body;
    char path[5 + KEY_BYTES + 1] = "/key/";
    assert_non_null(value);
    assert_non_null(body);
    memset(path + 5, 'k', KEY_BYTES);
    const char *address = cluster_address(cluster, 0);
    assert_int_equal(status_of(&(struct http_request){.method = "PUT",
                                                      .address = address,
                                                      .path = path,
                                                      .body = value,
                                                      .body_len = VALUE_BYTES}),
                     200);
    for (int i = 0; i < KEYS - 1; i++)
        at += sprintf(at, "%c\"%04d\":\"\"", i == 0 ? '{' : ',', i);
    at += sprintf(at, ",\"last\":\"");
    memset(at, 'v', (size_t)(body + BODY_BYTES - at));
    memcpy(body + BODY_BYTES - 2, "\"}", 3);
    assert_int_equal(status_of(&(struct http_request){.method = "POST",
                                                      .address = address,
                                                      .path = "/key",
                                                      .body = body,
                                                      .body_len = BODY_BYTES}),
                     200);
    free(body);
    free(value);
    cluster_stop(cluster);
}

/* The text of a log file. */
static char *file_text(const char *path)
{
    char *text = calloc(1, 1 << 20);
    FILE *in = fopen(path, "r");
    assert_non_null(text);
    if (in != NULL) {
        size_t n = fread(text, 1, (1 << 20) - 1, in);
        text[n] = '\0';
        fclose(in);
    }
    return text;
}

static void the_ready_line_names_the_port_that_was_chosen(void **state)
{
    char folder[TEMP_FOLDER_PATH_BYTES], flag[TEMP_FOLDER_PATH_BYTES + 32],
        log[TEMP_FOLDER_PATH_BYTES + 32], address[64] = "";
    (void)state;
    temp_folder_make(folder);
    snprintf(flag, sizeof(flag), "--data-dir=%s/data", folder);
    snprintf(log, sizeof(log), "%s/log", folder);
    pid_t pid = process_start((const char *const[]){TIERKVD_PATH, flag, "--http-listen=127.0.0.1:0",
                                                    "--raft-listen=127.0.0.1:0", NULL},
                              log);
    for (uint64_t deadline = test_now_ms() + WAIT_MS_MOST;
         address[0] == '\0' && test_now_ms() < deadline; test_sleep_ms(10)) {
        char *text = file_text(log);
        const char *ready = strstr(text, "event=ready http=");
        if (ready != NULL)
            snprintf(address, sizeof(address), "%.*s", (int)strcspn(ready + 17, " \n"), ready + 17);
        free(text);
    }
    assert_int_equal(http_get_status(address, "/livez"), 200);
    assert_int_equal(kill(pid, SIGINT), 0);
    assert_int_equal(process_wait(pid, WAIT_MS_MOST), 0);
    char *text = file_text(log);
    assert_non_null(strstr(text, "event=stopped\n"));
    free(text);
    temp_folder_remove(folder);
}

static void a_node_started_again_needs_neither_its_name_nor_whom_it_joined(void **state)
{
    (void)state;
    struct cluster *cluster = cluster_start(2, NULL);
    char flag[1024], http[64], raft[64];
    snprintf(flag, sizeof(flag), "--data-dir=%s", cluster_directory(cluster, 1));
    snprintf(http, sizeof(http), "--http-listen=%s", cluster_address(cluster, 1));
    snprintf(raft, sizeof(raft), "--raft-listen=%s", cluster_raft_address(cluster, 1));
    cluster_node_kill(cluster, 1);
    char folder[TEMP_FOLDER_PATH_BYTES], log[TEMP_FOLDER_PATH_BYTES + 32];
    temp_folder_make(folder);
    snprintf(log, sizeof(log), "%s/log", folder);
    pid_t pid = process_start((const char *const[]){TIERKVD_PATH, flag, http, raft, NULL}, log);
    long status = 0;
    for (uint64_t deadline = test_now_ms() + WAIT_MS_MOST;
         status != 200 && test_now_ms() < deadline; test_sleep_ms(10))
        status = http_get_status(cluster_address(cluster, 1), "/readyz");
    assert_int_equal(status, 200);
    assert_int_equal(kill(pid, SIGTERM), 0);
    assert_int_equal(process_wait(pid, WAIT_MS_MOST), 0);
    char *text = file_text(log);
    assert_non_null(strstr(text, " node=n1 "));
    free(text);
    temp_folder_remove(folder);
    cluster_stop(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_and_version_end_with_status_0),
        cmocka_unit_test(a_printed_configuration_starts_nothing),
        cmocka_unit_test(a_wrong_setting_ends_with_status_2_before_anything_is_made),
        cmocka_unit_test(a_wrong_list_of_figures_is_told_like_any_other_setting),
        cmocka_unit_test_teardown(the_largest_writes_that_the_settings_allow_are_taken,
                                  cluster_teardown),
        cmocka_unit_test(the_ready_line_names_the_port_that_was_chosen),
        cmocka_unit_test_teardown(a_node_started_again_needs_neither_its_name_nor_whom_it_joined,
                                  cluster_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
