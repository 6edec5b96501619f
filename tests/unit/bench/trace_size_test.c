/* Which request of a trace gives a key its size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/temp_folder.h"
#include "trace.h"

#include <stdio.h>

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

/* The trace has one key. */
static void assert_size(const char *text, uint32_t size, uint64_t unique_bytes)
{
    char path[TEMP_FOLDER_PATH_BYTES + 16], error_text[512];
    struct trace trace;

    snprintf(path, sizeof(path), "%s/trace", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    if (trace_load(path, &trace, error_text, sizeof(error_text)) != 0)
        fail_msg("%s", error_text);
    assert_int_equal(trace.n_keys_all, 1);
    assert_int_equal(trace.key_sizes[0], size);
    assert_int_equal(trace.unique_bytes, unique_bytes);
    trace_close(&trace);
}

static void a_delete_does_not_fix_the_size_of_a_key(void **state)
{
    (void)state;
    assert_size("a,,d\na,7,r\na,9,w\n", 7, 7);
    assert_size("a,3,d\na,7,w\n", 7, 7);
}

static void a_delete_gives_the_size_where_nothing_else_does(void **state)
{
    (void)state;
    assert_size("a,3,d\n", 3, 0);
    assert_size("a,3,d\na\n", 3, 3);
    assert_size("a\na,5,d\n", 5, 5);
}

static void the_first_request_with_a_size_gives_it(void **state)
{
    (void)state;
    assert_size("a\na 7 w\na 9 w\n", 7, 7);
    assert_size("a\na 0\na 9\n", 0, 0);
    assert_size("a\na,,d\na\n", 1, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_delete_does_not_fix_the_size_of_a_key),
        cmocka_unit_test(a_delete_gives_the_size_where_nothing_else_does),
        cmocka_unit_test(the_first_request_with_a_size_gives_it),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
