/* Reading traces from files and making them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/temp_folder.h"
#include "trace.h"
#include "trace_generate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

static char folder[TEMP_FOLDER_PATH_BYTES];
static char path[TEMP_FOLDER_PATH_BYTES + 16];
static char error_text[512];

static int set_up(void **state)
{
    (void)state;
    temp_folder_make(folder);
    snprintf(path, sizeof(path), "%s/trace", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    temp_folder_remove(folder);
    return 0;
}

static void write_file(const void *bytes, size_t length)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static struct trace load(const char *text)
{
    struct trace trace;

    write_file(text, strlen(text));
    if (trace_load(path, &trace, error_text, sizeof(error_text)) != 0)
        fail_msg("%s", error_text);
    return trace;
}

static void assert_refused(const char *text, const char *why)
{
    struct trace trace;

    write_file(text, strlen(text));
    assert_int_equal(trace_load(path, &trace, error_text, sizeof(error_text)), -1);
    assert_non_null(strstr(error_text, path));
    if (strstr(error_text, why) == NULL)
        fail_msg("%s, expected: %s", error_text, why);
}

static void size_and_operation_may_be_left_out(void **state)
{
    struct trace trace = load("a\nb 7\nc 9 w\nb 7 d");

    (void)state;
    assert_int_equal(trace.n_requests, 4);
    assert_int_equal(trace.n_accesses, 3);
    assert_int_equal(trace.n_keys, 3);
    assert_int_equal(trace.unique_bytes, 1 + 7 + 9);
    assert_int_equal(trace.requests[1].key, trace.requests[3].key);
    assert_int_equal(trace.requests[0].op, 'r');
    assert_int_equal(trace.requests[2].op, 'w');
    assert_int_equal(trace.requests[3].op, 'd');
    trace_close(&trace);
}

static void a_key_keeps_the_size_of_its_first_request(void **state)
{
    struct trace trace = load("a 5 r\na 100 w\n");

    (void)state;
    assert_int_equal(trace.key_sizes[0], 5);
    assert_int_equal(trace.unique_bytes, 5);
    trace_close(&trace);
}

static void a_key_that_is_only_deleted_is_no_key_of_the_cache(void **state)
{
    struct trace trace = load("a 5 d\nb 6 r\n");

    (void)state;
    assert_int_equal(trace.n_keys_all, 2);
    assert_int_equal(trace.n_keys, 1);
    assert_int_equal(trace.unique_bytes, 6);
    trace_close(&trace);
}

static void a_first_line_names_the_columns(void **state)
{
    struct trace trace =
        load("time,Op,Key,ttl,size\n1,get,k one,,10\n2,SET,k two,,20\n3,delete,k one,,10\n");

    (void)state;
    assert_int_equal(trace.n_requests, 3);
    assert_int_equal(trace.unique_bytes, 30);
    assert_int_equal(trace.requests[1].op, 'w');
    assert_int_equal(trace.requests[2].op, 'd');
    assert_int_equal(trace.requests[0].key, trace.requests[2].key);
    trace_close(&trace);
}

static void comments_empty_lines_and_carriage_returns_are_no_requests(void **state)
{
    struct trace trace = load("# a b c\r\n\r\n  \na 1 r\r\n\n");

    (void)state;
    assert_int_equal(trace.n_requests, 1);
    assert_int_equal(trace.key_sizes[0], 1);
    trace_close(&trace);
}

static void what_is_no_request_is_refused_with_its_line(void **state)
{
    (void)state;
    assert_refused("a 1 r\na x r\n", ":2: the size");
    assert_refused("a -1\n", ":1: the size");
    assert_refused("a 4294967296\n", ":1: the size");
    assert_refused("a 1 x\n", ":1: the operation");
    assert_refused("a,1\n,1\n", ":2: no key");
    char long_line[6000];
    memset(long_line, 'a', sizeof(long_line));
    long_line[sizeof(long_line) - 1] = '\0';
    assert_refused(long_line, ":1: the line is too long");
}

static void a_file_that_is_not_there_is_told(void **state)
{
    struct trace trace;

    (void)state;
    assert_int_equal(trace_load("/nowhere/trace", &trace, error_text, sizeof(error_text)), -1);
    assert_string_equal(error_text, "/nowhere/trace: No such file or directory");
}

/* Lines enough to span several buffers, as text. */
static char *make_text(size_t lines, size_t *ret_length)
{
    char *text = malloc(lines * 32);
    size_t length = 0;

    assert_non_null(text);
    for (size_t i = 0; i < lines; i++)
        length += (size_t)sprintf(text + length, "key-%zu %zu %c\n", i % 1000, i % 77, "rw"[i % 2]);
    *ret_length = length;
    return text;
}

static void a_compressed_file_is_read_like_a_plain_one(void **state)
{
    size_t length, lines = 100000;
    char *text = make_text(lines, &length);
    size_t bound = ZSTD_compressBound(length);
    void *compressed = malloc(bound);
    struct trace plain, packed;

    (void)state;
    assert_non_null(compressed);
    size_t packed_length = ZSTD_compress(compressed, bound, text, length, 1);
    assert_false(ZSTD_isError(packed_length));
    write_file(text, length);
    assert_int_equal(trace_load(path, &plain, error_text, sizeof(error_text)), 0);
    write_file(compressed, packed_length);
    assert_int_equal(trace_load(path, &packed, error_text, sizeof(error_text)), 0);
    assert_int_equal(plain.n_requests, lines);
    assert_int_equal(packed.n_requests, lines);
    assert_int_equal(plain.n_keys, 1000);
    assert_memory_equal(plain.requests, packed.requests, lines * sizeof(*plain.requests));
    assert_memory_equal(plain.key_hashes, packed.key_hashes, 1000 * sizeof(*plain.key_hashes));
    trace_close(&plain);
    trace_close(&packed);
    /* Cut anywhere, it is damaged, not short. */
    for (size_t cut = 1; cut < 4; cut++) {
        struct trace trace;
        write_file(compressed, packed_length * cut / 4);
        assert_int_equal(trace_load(path, &trace, error_text, sizeof(error_text)), -1);
        assert_non_null(strstr(error_text, "damaged"));
    }
    free(compressed);
    free(text);
}

static struct trace generate(const char *text)
{
    struct trace trace;

    if (trace_generate(text, &trace, error_text, sizeof(error_text)) != 0)
        fail_msg("%s", error_text);
    return trace;
}

static size_t count_of(const struct trace *trace, char op)
{
    size_t n = 0;

    for (size_t i = 0; i < trace->n_requests; i++)
        n += trace->requests[i].op == op;
    return n;
}

/* Figures of an independent program after the same recipe. */
static void generated_traces_are_the_published_ones(void **state)
{
    static const struct {
        const char *text;
        size_t requests, keys, reads;
        uint32_t first_sizes[3];
        char first_ops[4];
    } expected[] = {
        {"zipf", 1000000, 82193, 950500, {2101, 94, 1027}, "rrr"},
        {"shift", 1000000, 71470, 900421, {177, 574, 139}, "wrw"},
        {"scan", 1200000, 321054, 1152108, {2064, 564, 8219}, "rrr"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        struct trace trace = generate(expected[i].text);
        assert_int_equal(trace.n_requests, expected[i].requests);
        assert_in_range(trace.n_keys, expected[i].keys - 2, expected[i].keys + 2);
        assert_in_range(count_of(&trace, 'r'), expected[i].reads - 60, expected[i].reads + 60);
        for (size_t j = 0; j < 3; j++) {
            assert_int_equal(trace.key_sizes[trace.requests[j].key], expected[i].first_sizes[j]);
            assert_int_equal(trace.requests[j].op, expected[i].first_ops[j]);
        }
        trace_close(&trace);
    }
}

static void a_recipe_is_changed_field_by_field(void **state)
{
    struct trace trace = generate("zipf:requests=5000,keys=10,read_share=0");

    (void)state;
    assert_int_equal(trace.n_requests, 5000);
    assert_int_equal(trace.n_keys, 10);
    assert_int_equal(count_of(&trace, 'w'), 5000);
    trace_close(&trace);
}

static void a_wrong_recipe_is_told(void **state)
{
    static const char *const wrong[][2] = {
        {"zip", "no such generator: zip"},
        {"zipf:hot_keys=1", "zipf has no such field: hot_keys=1"},
        {"zipf:keys", "zipf has no such field: keys"},
        {"zipf:keys=1.5", "zipf: keys is not a whole number from 1 to 1e+08"},
        {"zipf:theta=x", "zipf: theta is not a number from 0 to 10"},
        {"shift:keys=10", "shift: hot_keys is above keys"},
    };
    struct trace trace;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(trace_generate(wrong[i][0], &trace, error_text, sizeof(error_text)), -1);
        assert_string_equal(error_text, wrong[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(size_and_operation_may_be_left_out),
        cmocka_unit_test(a_key_keeps_the_size_of_its_first_request),
        cmocka_unit_test(a_key_that_is_only_deleted_is_no_key_of_the_cache),
        cmocka_unit_test(a_first_line_names_the_columns),
        cmocka_unit_test(comments_empty_lines_and_carriage_returns_are_no_requests),
        cmocka_unit_test(what_is_no_request_is_refused_with_its_line),
        cmocka_unit_test(a_file_that_is_not_there_is_told),
        cmocka_unit_test(a_compressed_file_is_read_like_a_plain_one),
        cmocka_unit_test(generated_traces_are_the_published_ones),
        cmocka_unit_test(a_recipe_is_changed_field_by_field),
        cmocka_unit_test(a_wrong_recipe_is_told),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
