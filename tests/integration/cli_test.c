/* The tierkv command line as a script uses it: output, standard input, exit codes. */
#include "lib/cluster.h"
#include "lib/process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct cluster *cluster;

static int start(void **state)
{
    (void)state;
    cluster = cluster_start(1, NULL);
    setenv("TIERKV_ENDPOINTS", cluster_endpoints(cluster), 1);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    if (cluster != NULL)
        cluster_stop(cluster);
    return 0;
}

/* Runs tierkv with up to seven arguments and checks its exit code. */
#define RUN(status, input, input_len, ...)                                                         \
    run((status), (input), (input_len), (const char *[9]){TIERKV_PATH, __VA_ARGS__, NULL})

static struct process_result run(int status, const void *input, size_t input_len,
                                 const char *const arguments[])
{
    struct process_result result;
    process_run(arguments, input, input_len, 30000, &result);
    if (result.status != status)
        print_message("tierkv %s: status %d: %s\n", arguments[1], result.status, result.errors);
    assert_int_equal(result.status, status);
    if (status != 0)
        assert_true(strncmp(result.errors, "tierkv: ", 8) == 0 || strstr(result.errors, "tierkv"));
    return result;
}

static void expect_output(struct process_result result, const char *wanted)
{
    assert_string_equal(result.output, wanted);
    process_result_free(&result);
}

static void discard(struct process_result result)
{
    process_result_free(&result);
}

static void a_value_that_was_put_is_got_and_after_del_it_is_not_found(void **state)
{
    (void)state;
    struct process_result result = RUN(0, NULL, 0, "put", "a/b c", "value");
    assert_memory_equal(result.output, "revision ", 9);
    process_result_free(&result);
    expect_output(RUN(0, NULL, 0, "get", "a/b c"), "value");
    expect_output(RUN(0, NULL, 0, "get", "a/b c", "--level", "consistent"), "value");
    expect_output(RUN(0, NULL, 0, "--level=stale", "get", "a/b c"), "value");
    discard(RUN(0, NULL, 0, "del", "a/b c"));
    expect_output(RUN(1, NULL, 0, "get", "a/b c"), "");
    discard(RUN(0, NULL, 0, "del", "a/b c"));
}

static void put_takes_any_bytes_from_standard_input(void **state)
{
    size_t length = 300000;
    unsigned char *value = malloc(length);

    (void)state;
    assert_non_null(value);
    for (size_t i = 0; i < length; i++)
        value[i] = (unsigned char)(i * i >> 3);
    discard(RUN(0, value, length, "put", "stdin", "-"));
    struct process_result result = RUN(0, NULL, 0, "get", "stdin");
    assert_int_equal(result.output_len, length);
    assert_memory_equal(result.output, value, length);
    process_result_free(&result);
    discard(RUN(0, "short", 5, "put", "stdin"));
    expect_output(RUN(0, NULL, 0, "get", "stdin"), "short");
    discard(RUN(0, "", 0, "put", "stdin"));
    expect_output(RUN(0, NULL, 0, "get", "stdin"), "");
    free(value);
}

static void values_that_begin_with_a_dash_stand_after_two(void **state)
{
    (void)state;
    discard(RUN(0, NULL, 0, "put", "--", "dash", "-x"));
    expect_output(RUN(0, NULL, 0, "get", "dash"), "-x");
}

static void json_output_has_key_value_and_revision(void **state)
{
    const char *key, *value;
    json_int_t revision, mod_revision;

    (void)state;
    struct process_result result = RUN(0, NULL, 0, "-o", "json", "put", "j", "text \"x\"");
    json_t *root = json_loads(result.output, 0, NULL);
    assert_int_equal(json_unpack(root, "{s:I}", "revision", &revision), 0);
    json_decref(root);
    process_result_free(&result);
    result = RUN(0, NULL, 0, "-o", "json", "get", "j");
    root = json_loads(result.output, 0, NULL);
    assert_int_equal(json_unpack(root, "{s:s,s:s,s:I !}", "key", &key, "value", &value,
                                 "mod_revision", &mod_revision),
                     0);
    assert_string_equal(key, "j");
    assert_string_equal(value, "text \"x\"");
    assert_int_equal(mod_revision, revision);
    json_decref(root);
    process_result_free(&result);
}

static void json_output_of_bytes_that_are_no_text_is_base64(void **state)
{
    const char *value;

    (void)state;
    discard(RUN(0, "\xff\x00\xfe\x01", 4, "put", "bytes"));
    struct process_result result = RUN(0, NULL, 0, "-o", "json", "get", "bytes");
    json_t *root = json_loads(result.output, 0, NULL);
    assert_int_equal(json_unpack(root, "{s:s}", "value_base64", &value), 0);
    assert_string_equal(value, "/wD+AQ==");
    json_decref(root);
    process_result_free(&result);
}

static void status_and_members_are_for_people_and_for_programs(void **state)
{
    (void)state;
    struct process_result result = RUN(0, NULL, 0, "members");
    assert_non_null(strstr(result.output, cluster_address(cluster, 0)));
    assert_int_equal(strcspn(result.output, "\n") < strlen(result.output) - 1, 1);
    process_result_free(&result);
    result = RUN(0, NULL, 0, "status");
    assert_non_null(strstr(result.output, "leader"));
    assert_null(strchr(result.output, '{'));
    process_result_free(&result);
    const char *const verbs[] = {"members", "status"};
    for (size_t i = 0; i < 2; i++) {
        result = RUN(0, NULL, 0, "-o", "json", verbs[i]);
        json_t *root = json_loads(result.output, 0, NULL);
        assert_true(json_is_object(root));
        json_decref(root);
        process_result_free(&result);
    }
}

static void wrong_command_lines_end_with_2(void **state)
{
    (void)state;
    discard(RUN(2, NULL, 0, "frobnicate"));
    discard(RUN(2, NULL, 0, "get"));
    discard(RUN(2, NULL, 0, "get", "a", "b"));
    discard(RUN(2, NULL, 0, "put", "a", "b", "c"));
    discard(RUN(2, NULL, 0, "--timeout", "soon", "get", "a"));
    discard(RUN(2, NULL, 0, "--timeout", "0s", "get", "a"));
    discard(RUN(2, NULL, 0, "--level", "some", "get", "a"));
    discard(RUN(2, NULL, 0, "-o", "xml", "get", "a"));
    discard(RUN(2, NULL, 0, "--what"));
    discard(RUN(2, NULL, 0, "--endpoints", "a:b:c", "get", "a"));
    discard(RUN(2, NULL, 0, "get", ""));
}

static void help_names_verbs_options_and_exit_codes(void **state)
{
    (void)state;
    struct process_result result = RUN(0, NULL, 0, "--help");
    assert_non_null(strstr(result.output, "put "));
    assert_non_null(strstr(result.output, "--endpoints"));
    assert_non_null(strstr(result.output, "Exit codes:"));
    process_result_free(&result);
}

static void nobody_listening_ends_with_3(void **state)
{
    (void)state;
    discard(RUN(3, NULL, 0, "--endpoints", "127.0.0.1:1", "get", "a"));
    discard(RUN(3, NULL, 0, "--endpoints", "127.0.0.1:1", "put", "a", "b"));
}

static void a_value_that_the_server_refuses_ends_with_4(void **state)
{
    size_t length = (size_t)2 << 20;
    char *value = calloc(1, length);

    (void)state;
    assert_non_null(value);
    discard(RUN(4, value, length, "put", "large"));
    free(value);
}

/* So large that the server does not take it to its end. */
static void a_value_far_above_the_limit_ends_with_4_too(void **state)
{
    size_t length = (size_t)9 << 20;
    char *value = calloc(1, length);

    (void)state;
    assert_non_null(value);
    struct process_result result = RUN(4, value, length, "put", "large");
    assert_non_null(strstr(result.errors, "answered 413"));
    process_result_free(&result);
    free(value);
}

static void a_member_that_is_none_ends_with_1_and_is_not_called_a_key(void **state)
{
    static const char *const verbs[] = {"remove", "transfer"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct process_result result = RUN(1, NULL, 0, "members", verbs[i], "nobody");
        assert_memory_equal(result.errors, "tierkv: no such member: ", 24);
        process_result_free(&result);
    }
    struct process_result result = RUN(1, NULL, 0, "get", "nobody");
    assert_memory_equal(result.errors, "tierkv: no such key: ", 21);
    process_result_free(&result);
}

static void a_write_without_an_answer_ends_with_5_and_a_read_with_3(void **state)
{
    (void)state;
    cluster_node_signal(cluster, 0, SIGSTOP);
    struct process_result write = {0}, read = {0};
    process_run((const char *[]){TIERKV_PATH, "-t", "300ms", "put", "stopped", "x", NULL}, NULL, 0,
                30000, &write);
    process_run((const char *[]){TIERKV_PATH, "-t", "300ms", "get", "stopped", NULL}, NULL, 0,
                30000, &read);
    cluster_node_signal(cluster, 0, SIGCONT);
    assert_int_equal(write.status, 5);
    assert_int_equal(read.status, 3);
    process_result_free(&write);
    process_result_free(&read);
    cluster_node_wait_ready(cluster, 0);
}

/* Runs a command line of the shell that must end with 6 and this message. */
static void expect_failure(const char *command, const char *wanted)
{
    struct process_result result;

    process_run((const char *[]){"/bin/sh", "-c", command, NULL}, NULL, 0, 30000, &result);
    assert_string_equal(result.errors, wanted);
    assert_int_equal(result.status, 6);
    process_result_free(&result);
}

static void output_that_cannot_be_written_is_an_error(void **state)
{
    char value[10000];

    (void)state;
    memset(value, 'x', sizeof(value));
    discard(RUN(0, NULL, 0, "put", "full", "x"));
    discard(RUN(0, value, sizeof(value), "put", "fuller"));
    expect_failure("exec " TIERKV_PATH " get full >/dev/full",
                   "tierkv: standard output: No space left on device\n");
    expect_failure("exec " TIERKV_PATH " get fuller >/dev/full",
                   "tierkv: standard output: No space left on device\n");
}

static void closed_input_and_output_are_no_place_for_a_socket(void **state)
{
    (void)state;
    discard(RUN(0, NULL, 0, "put", "closed", "x"));
    expect_failure("exec " TIERKV_PATH " get closed >&-",
                   "tierkv: standard output: Bad file descriptor\n");
    expect_failure("exec " TIERKV_PATH " put closed - <&-",
                   "tierkv: standard input: Bad file descriptor\n");
    expect_failure("exec " TIERKV_PATH " put closed y <&- >&- 2>&-", "");
    expect_output(RUN(0, NULL, 0, "get", "closed"), "y");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_that_was_put_is_got_and_after_del_it_is_not_found),
        cmocka_unit_test(put_takes_any_bytes_from_standard_input),
        cmocka_unit_test(values_that_begin_with_a_dash_stand_after_two),
        cmocka_unit_test(json_output_has_key_value_and_revision),
        cmocka_unit_test(json_output_of_bytes_that_are_no_text_is_base64),
        cmocka_unit_test(status_and_members_are_for_people_and_for_programs),
        cmocka_unit_test(wrong_command_lines_end_with_2),
        cmocka_unit_test(help_names_verbs_options_and_exit_codes),
        cmocka_unit_test(nobody_listening_ends_with_3),
        cmocka_unit_test(a_value_that_the_server_refuses_ends_with_4),
        cmocka_unit_test(a_value_far_above_the_limit_ends_with_4_too),
        cmocka_unit_test(a_member_that_is_none_ends_with_1_and_is_not_called_a_key),
        cmocka_unit_test(a_write_without_an_answer_ends_with_5_and_a_read_with_3),
        cmocka_unit_test(output_that_cannot_be_written_is_an_error),
        cmocka_unit_test(closed_input_and_output_are_no_place_for_a_socket),
    };
    int failures = cmocka_run_group_tests(tests, start, stop);
    cluster_teardown(NULL);
    return failures;
}
