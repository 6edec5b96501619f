/* `tierbench run` as its user meets it: how it ends, what it refuses, what it says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/http.h"
#include "lib/process.h"
#include "lib/temp_folder.h"

#include <errno.h>
#include <glob.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define TIMEOUT_MS 60000
#define PATH_BYTES (TEMP_FOLDER_PATH_BYTES + 32)

static char folder[TEMP_FOLDER_PATH_BYTES];
static char data_dir[PATH_BYTES]; /* Where the runs have their folders */

static int set_up(void **state)
{
    (void)state;
    temp_folder_make(folder);
    snprintf(data_dir, sizeof(data_dir), "%s/data", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    temp_folder_remove(folder);
    return 0;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* Runs with the arguments up to NULL. */
#define tierbench(...) process_run_list(TIMEOUT_MS, TIERBENCH_PATH, __VA_ARGS__)

/* How many paths look so below data_dir. */
static size_t count_paths(const char *pattern)
{
    char text[PATH_BYTES + 32];
    glob_t found;

    snprintf(text, sizeof(text), "%s/%s", data_dir, pattern);
    int error = glob(text, 0, NULL, &found);
    size_t n = error == 0 ? found.gl_pathc : 0;
    if (error == 0)
        globfree(&found);
    return n;
}

/* Starts a run that is longer than any wait, in a group of its own, and waits until its engine is
 * open. */
static pid_t start_run(void)
{
    const char *const arguments[] = {
        "/usr/bin/setsid", TIERBENCH_PATH, "run",       "--dir", data_dir,
        "--keys",          "1000",         "--seconds", "120",   NULL};
    char log_path[PATH_BYTES];
    uint64_t deadline = test_now_ms() + TIMEOUT_MS;

    snprintf(log_path, sizeof(log_path), "%s/log", folder);
    pid_t pid = process_start(arguments, log_path);
    while (count_paths("tierbench.*/*") == 0) {
        if (test_now_ms() >= deadline)
            fail_msg("the run does not begin; see %s", log_path);
        test_sleep_ms(2);
    }
    return pid;
}

/* The exit status of any child, as process_wait has it; -1: none ended in time; -2: no child. */
static int wait_for_any(uint64_t timeout_ms)
{
    uint64_t deadline = test_now_ms() + timeout_ms;

    do {
        int status;
        pid_t ended = waitpid(-1, &status, WNOHANG);
        if (ended < 0)
            return -2;
        if (ended > 0)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        test_sleep_ms(2);
    } while (test_now_ms() < deadline);
    return -1;
}

static void an_interrupted_run_leaves_nothing_behind(void **state)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

    (void)state;
    for (size_t i = 0; i < 2 * sizeof(signals) / sizeof(signals[0]); i++) {
        int number = signals[i / 2];
        pid_t pid = start_run();
        /* The process alone, as by kill, or all of them, as by the terminal. */
        assert_int_equal(kill(i % 2 == 0 ? pid : -pid, number), 0);
        assert_int_equal(process_wait(pid, TIMEOUT_MS), 128 + number);
        assert_int_equal(count_paths("*"), 0);
        assert_int_equal(wait_for_any(0), -2);
    }
}

static void a_signal_that_was_ignored_does_not_end_the_run(void **state)
{
    (void)state;
    signal(SIGHUP, SIG_IGN);
    pid_t pid = start_run();
    signal(SIGHUP, SIG_DFL);
    assert_int_equal(kill(pid, SIGHUP), 0);
    assert_int_equal(process_wait(pid, 300), -1);
    assert_int_not_equal(count_paths("*"), 0);
    assert_int_equal(kill(pid, SIGTERM), 0);
    assert_int_equal(process_wait(pid, TIMEOUT_MS), 128 + SIGTERM);
    assert_int_equal(count_paths("*"), 0);
}

static void the_engine_does_not_outlive_the_run(void **state)
{
    (void)state;
    pid_t pid = start_run();
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(process_wait(pid, TIMEOUT_MS), 128 + SIGKILL);
    assert_int_equal(wait_for_any(10000), 128 + SIGKILL);
}

static void values_too_large_to_be_under_way_together_are_read(void **state)
{
    struct process_result result = tierbench(
        "run", "--dir", data_dir, "--value-bytes=8MiB", "--keys=40", "--zipf=0", "--read-share=1",
        "--hot-bytes=1MiB", "--warm-bytes=1MiB", "--warmup=0", "--seconds=1", NULL);

    (void)state;
    assert_string_equal(result.errors, "");
    assert_int_equal(result.status, 0);
    process_result_free(&result);
}

static void a_file_that_cannot_be_written_is_told_before_the_run(void **state)
{
    static const char *const mistakes[][2] = {
        {"--output=/nowhere/x", "/nowhere/x: No such file or directory"},
        {"--series=/nowhere/x", "/nowhere/x: No such file or directory"},
        {"--series=/", "/: Is a directory"},
        {"--plot=/nowhere/x.svg", "/nowhere/x.svg: No such file or directory"},
        {"--plot=x.pdf", "x.pdf: a plot is a .svg or a .png file"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        char told[256], dir[PATH_BYTES];
        snprintf(told, sizeof(told), "tierbench: %s\n", mistakes[i][1]);
        snprintf(dir, sizeof(dir), "%s/not made", folder);
        struct process_result result = tierbench("run", "--dir", dir, "--keys=100", "--warmup=0",
                                                 "--seconds=0.1", mistakes[i][0], NULL);
        assert_string_equal(result.errors, told);
        assert_int_equal(result.status, 1);
        assert_int_not_equal(access(dir, F_OK), 0);
        process_result_free(&result);
    }
}

static void a_run_that_does_not_begin_changes_no_file(void **state)
{
    char old_path[PATH_BYTES], new_path[PATH_BYTES], text[16] = "";

    (void)state;
    snprintf(old_path, sizeof(old_path), "%s/old", folder);
    snprintf(new_path, sizeof(new_path), "%s/new", folder);
    write_file(old_path, "old");
    struct process_result result =
        tierbench("run", "--output", old_path, "--series", new_path, "/nowhere/trace", NULL);
    assert_int_equal(result.status, 2);
    assert_int_not_equal(access(new_path, F_OK), 0);
    FILE *file = fopen(old_path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(text, "old");
    process_result_free(&result);
}

static void assert_json_names(struct process_result *result, const char *member, const char *name)
{
    assert_string_equal(result->errors, "");
    assert_int_equal(result->status, 0);
    json_t *root = json_loads(result->output, 0, NULL);
    assert_non_null(root);
    const char *text = json_string_value(json_object_get(root, member));
    assert_non_null(text);
    if (strstr(text, name) == NULL)
        fail_msg("%s, expected: %s", text, name);
    json_decref(root);
    process_result_free(result);
}

static void json_names_a_trace_whose_path_is_no_utf8(void **state)
{
    char path[PATH_BYTES];

    (void)state;
    snprintf(path, sizeof(path), "%s/t\xff\xc3\xa9", folder);
    write_file(path, "a 20 w\nb 20 r\na 20 r\n");
    struct process_result simulated =
        tierbench("simulate", "--format=json", "--capacities=1", path, NULL);
    assert_json_names(&simulated, "trace", "/t\ufffd\u00e9");
    struct process_result run =
        tierbench("run", "--dir", data_dir, "--format=json", "--requests=10", path, NULL);
    assert_json_names(&run, "load", "/t\ufffd\u00e9: 3 requests");
}

/* Of the two paths, one byte apart, one is longer than a report has room for by half a character.
 */
static void a_long_path_is_cut_between_characters(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        char path[PATH_BYTES + 700];
        int n = snprintf(path, sizeof(path), "%s", folder);
        while (n < 400 + (int)i)
            path[n++] = '/';
        for (size_t j = 0; j < 120; j++)
            n += snprintf(path + n, sizeof(path) - (size_t)n, "\u00e9");
        write_file(path, "a 20 w\nb 20 r\na 20 r\n");
        struct process_result result =
            tierbench("run", "--dir", data_dir, "--format=json", "--requests=10", path, NULL);
        assert_null(strstr(result.output, "\ufffd"));
        assert_json_names(&result, "load", "\u00e9\u00e9");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_interrupted_run_leaves_nothing_behind, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_signal_that_was_ignored_does_not_end_the_run, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_engine_does_not_outlive_the_run, set_up, tear_down),
        cmocka_unit_test_setup_teardown(values_too_large_to_be_under_way_together_are_read, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_cannot_be_written_is_told_before_the_run,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_run_that_does_not_begin_changes_no_file, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(json_names_a_trace_whose_path_is_no_utf8, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_long_path_is_cut_between_characters, set_up, tear_down),
    };

    /* Children whose parent has gone become ours. They get no ignored signals from our parent. */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGINT, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
