/* Command lines by tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "options.h"

struct example {
    uint64_t number;
    uint64_t size_bytes;
    double share;
    const char *name;
};

static const struct option_entry entries[] = {
    {OPTION_count, "number", offsetof(struct example, number), "7", 1, 100, "a number"},
    {OPTION_bytes, "size_bytes", offsetof(struct example, size_bytes), "2KiB", 1, 1 << 20,
     "a size"},
    {OPTION_real, "share", offsetof(struct example, share), "0.5", 0, 1, "a share"},
    {OPTION_text, "name", offsetof(struct example, name), "none", 0, 0, "a name"},
};
static const struct option_table table = {"usage", entries, sizeof entries / sizeof entries[0]};

/* Parses up to two words. They stay until the next call: texts are borrowed from argv. */
static int parse(struct example *example, const char **argument, const char *first,
                 const char *second)
{
    static char words[3][64];
    char *argv[] = {words[0], words[1], words[2], NULL};

    snprintf(words[0], sizeof words[0], "run");
    snprintf(words[1], sizeof words[1], "%s", first != NULL ? first : "");
    snprintf(words[2], sizeof words[2], "%s", second != NULL ? second : "");
    return options_parse(&table, example, 1 + (first != NULL) + (second != NULL), argv, argument);
}

static void what_is_not_said_has_its_default(void **state)
{
    (void)state;
    struct example example;
    assert_int_equal(parse(&example, NULL, NULL, NULL), 0);
    assert_int_equal(example.number, 7);
    assert_int_equal(example.size_bytes, 2048);
    assert_true(example.share == 0.5);
    assert_string_equal(example.name, "none");
}

static void values_follow_the_name_or_an_equals_sign(void **state)
{
    (void)state;
    struct example example;
    assert_int_equal(parse(&example, NULL, "--number=12", "--size-bytes=3KiB"), 0);
    assert_int_equal(example.number, 12);
    assert_int_equal(example.size_bytes, 3072);
    assert_int_equal(parse(&example, NULL, "--share", "0.25"), 0);
    assert_true(example.share == 0.25);
    assert_int_equal(parse(&example, NULL, "--name=other", NULL), 0);
    assert_string_equal(example.name, "other");
}

static void values_outside_their_range_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"--number=0",       "--number=101",      "--number=1.5",
                                        "--number=x",       "--number=",         "--number=1KiB",
                                        "--number=-3",      "--size-bytes=2MiB", "--share=1.1",
                                        "--share=nan",      "--share=0.5x",      "--unknown=1",
                                        "--size-bytes=1kb", "--number=1e300"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct example example;
        assert_int_equal(parse(&example, NULL, wrong[i], NULL), -1);
    }
}

static void one_argument_is_taken_where_one_is_allowed(void **state)
{
    (void)state;
    struct example example;
    const char *argument = NULL;
    assert_int_equal(parse(&example, &argument, "trace.txt", "--number=3"), 0);
    assert_string_equal(argument, "trace.txt");
    assert_int_equal(example.number, 3);
    assert_int_equal(parse(&example, &argument, "one", "two"), -1);
    assert_int_equal(parse(&example, NULL, "one", NULL), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_said_has_its_default),
        cmocka_unit_test(values_follow_the_name_or_an_equals_sign),
        cmocka_unit_test(values_outside_their_range_are_refused),
        cmocka_unit_test(one_argument_is_taken_where_one_is_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
