/* The requests of a benchmark: as many as asked for, the same for a seed, in the trace's order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/temp_folder.h"
#include "source.h"

static struct source_options defaults(void)
{
    return (struct source_options){.keys = 1000,
                                   .value_bytes = "100",
                                   .read_share = 0.5,
                                   .zipf = 0.9,
                                   .generate = "",
                                   .seed = 1};
}

static void open_source(struct source *source, const struct source_options *options)
{
    char error_text[512] = "";
    if (source_open(source, options, error_text, sizeof error_text) != 0)
        fail_msg("%s", error_text);
}

static void expect_refusal(const struct source_options *options)
{
    struct source source;
    char error_text[512] = "";
    assert_int_equal(source_open(&source, options, error_text, sizeof error_text), -1);
    assert_true(strlen(error_text) > 10);
}

static void as_many_requests_come_as_asked_for(void **state)
{
    (void)state;
    struct source_options options = defaults();
    options.requests = 1001;
    struct source source;
    open_source(&source, &options);
    struct source_cursor cursors[2];
    source_cursor_init(&cursors[0], 1);
    source_cursor_init(&cursors[1], 2);
    size_t n = 0, reads = 0;
    struct source_request request;
    while (source_next(&source, &cursors[n / 10 % 2], &request)) {
        assert_true(request.key < 1000);
        reads += request.op == 'r';
        n++;
    }
    /* The other cursor may still hold some of its share. */
    while (source_next(&source, &cursors[0], &request) ||
           source_next(&source, &cursors[1], &request))
        n++;
    assert_int_equal(n, 1001);
    assert_in_range(reads, 400, 600);
    assert_false(source_next(&source, &cursors[0], &request));
    source_close(&source);
}

static void a_seed_gives_the_same_requests(void **state)
{
    (void)state;
    struct source_options options = defaults();
    struct source source;
    open_source(&source, &options);
    struct source_cursor a, b;
    source_cursor_init(&a, 5);
    source_cursor_init(&b, 5);
    for (int i = 0; i < 1000; i++) {
        struct source_request x = {0}, y = {0};
        assert_true(source_next(&source, &a, &x) && source_next(&source, &b, &y));
        assert_int_equal(x.key, y.key);
        assert_int_equal(x.op, y.op);
    }
    source_close(&source);
}

static void a_trace_is_repeated_in_its_order_with_its_sizes(void **state)
{
    (void)state;
    char folder[TEMP_FOLDER_PATH_BYTES], path[TEMP_FOLDER_PATH_BYTES + 8];
    temp_folder_make(folder);
    snprintf(path, sizeof path, "%s/trace", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("a 100 r\nb 3 w\nc 70000000 d\na 100 w\n", file);
    assert_int_equal(fclose(file), 0);
    struct source_options options = defaults();
    options.trace = path;
    options.value_bytes = "trace";
    options.requests = 6;
    struct source source;
    open_source(&source, &options);
    assert_int_equal(source.keys, 3);
    struct source_cursor cursor;
    source_cursor_init(&cursor, 1);
    struct source_request requests[7];
    size_t n = 0;
    while (source_next(&source, &cursor, &requests[n]))
        n++;
    assert_int_equal(n, 6);
    static const char ops[] = "rwdwrw";
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(requests[i].op, ops[i]);
    assert_int_equal(requests[0].key, requests[3].key);
    assert_int_equal(requests[0].key, requests[4].key);
    assert_int_not_equal(requests[0].key, requests[1].key);
    assert_int_equal(source_value_bytes(&source, requests[0].key), 100);
    assert_int_equal(source_value_bytes(&source, requests[1].key), 16);       /* The least */
    assert_int_equal(source_value_bytes(&source, requests[2].key), 16 << 20); /* The most */
    source_close(&source);
    temp_folder_remove(folder);
}

static void a_key_keeps_its_size_within_the_bounds(void **state)
{
    (void)state;
    struct source_options options = defaults();
    options.value_bytes = "64-4KiB";
    struct source source;
    open_source(&source, &options);
    size_t small = 0;
    uint64_t sum = 0;
    for (uint64_t key = 0; key < 1000; key++) {
        uint32_t bytes = source_value_bytes(&source, key);
        assert_in_range(bytes, 64, 4096);
        assert_int_equal(bytes, source_value_bytes(&source, key));
        small += bytes < 512; /* Three of six doublings */
        sum += bytes;
    }
    assert_in_range(small, 450, 550);
    assert_int_equal(sum, source_value_bytes_all(&source));
    source_close(&source);
}

static void nonsense_is_refused_in_a_sentence(void **state)
{
    (void)state;
    static const char *const sizes[] = {"",  "15",    "9-",    "-9",   "100-50",
                                        "x", "1-2-3", "17MiB", "trace"};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct source_options options = defaults();
        options.value_bytes = sizes[i];
        expect_refusal(&options);
    }
    struct source_options options = defaults();
    options.generate = "nothing";
    expect_refusal(&options);
    options.generate = "zipf";
    options.trace = "/dev/null";
    expect_refusal(&options);
    options.generate = "";
    expect_refusal(&options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_requests_come_as_asked_for),
        cmocka_unit_test(a_seed_gives_the_same_requests),
        cmocka_unit_test(a_trace_is_repeated_in_its_order_with_its_sizes),
        cmocka_unit_test(a_key_keeps_its_size_within_the_bounds),
        cmocka_unit_test(nonsense_is_refused_in_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
