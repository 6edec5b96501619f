#include "http/uri.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

static void expect_decoded(const char *text, const char *wanted, size_t wanted_len)
{
    char out[64];

    assert_int_equal(uri_decode(text, strlen(text), out), wanted_len);
    assert_memory_equal(out, wanted, wanted_len);
}

static void every_byte_can_be_escaped(void **state)
{
    (void)state;
    for (int byte = 0; byte < 256; byte++) {
        char text[8], out[8];
        snprintf(text, sizeof(text), "%%%02x", (unsigned)byte);
        assert_int_equal(uri_decode(text, 3, out), 1);
        assert_int_equal((unsigned char)out[0], byte);
        snprintf(text, sizeof(text), "%%%02X", (unsigned)byte);
        assert_int_equal(uri_decode(text, 3, out), 1);
        assert_int_equal((unsigned char)out[0], byte);
    }
}

static void what_is_no_escape_stands_for_itself(void **state)
{
    (void)state;
    expect_decoded("", "", 0);
    expect_decoded("a+b", "a+b", 3);
    expect_decoded("a/b//c/../d/.", "a/b//c/../d/.", 13);
    expect_decoded("a%2Fb%2e", "a/b.", 4);
    expect_decoded("%2525", "%25", 3);
    expect_decoded("x%00y", "x\0y", 3);
}

static void malformed_escapes_are_refused(void **state)
{
    static const char *const texts[] = {"%", "a%", "%4", "a%4", "%zz", "%4z", "%z4", "%%41", "% 1"};
    char out[16];

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_int_equal(uri_decode(texts[i], strlen(texts[i]), out), -1);
}

static void expect_query(const char *text, enum uri_level level, bool raw)
{
    struct uri_query query = {.level = URI_LEVEL_STALE, .raw = true};
    const char *error = NULL;

    assert_true(uri_query_parse(text, strlen(text), &query, &error));
    assert_int_equal(query.level, level);
    assert_int_equal(query.raw, raw);
    assert_null(error);
}

static void parameters_are_read_in_any_order(void **state)
{
    (void)state;
    expect_query("", URI_LEVEL_DEFAULT, false);
    expect_query("raw", URI_LEVEL_DEFAULT, true);
    expect_query("raw=", URI_LEVEL_DEFAULT, true);
    expect_query("raw=true", URI_LEVEL_DEFAULT, true);
    expect_query("raw=false", URI_LEVEL_DEFAULT, false);
    expect_query("raw=0", URI_LEVEL_DEFAULT, false);
    expect_query("level=stale", URI_LEVEL_STALE, false);
    expect_query("level=consistent&raw", URI_LEVEL_CONSISTENT, true);
    expect_query("raw&level=default", URI_LEVEL_DEFAULT, true);
    expect_query("level=", URI_LEVEL_DEFAULT, false);
    expect_query("level=stale&level=consistent", URI_LEVEL_CONSISTENT, false);
}

static void unknown_parameters_are_ignored(void **state)
{
    (void)state;
    expect_query("&&", URI_LEVEL_DEFAULT, false);
    expect_query("=&a=b&rawx&levels=stale", URI_LEVEL_DEFAULT, false);
    expect_query("RAW&Level=stale", URI_LEVEL_DEFAULT, false);
}

static void an_unknown_level_is_refused_and_nothing_is_returned(void **state)
{
    struct uri_query query = {.level = URI_LEVEL_STALE, .raw = true};
    const char *error = NULL;

    (void)state;
    assert_false(uri_query_parse("level=strong", 12, &query, &error));
    assert_non_null(error);
    assert_int_equal(query.level, URI_LEVEL_STALE);
    assert_true(query.raw);
}

static void a_flag_is_true_or_false_and_nothing_else(void **state)
{
    static const char *const wrong[] = {"force=no", "force=False", "force=off", "raw=2", "raw=no"};
    struct uri_query query = {.level = URI_LEVEL_DEFAULT};
    const char *error = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        error = NULL;
        assert_false(uri_query_parse(wrong[i], strlen(wrong[i]), &query, &error));
        assert_non_null(error);
    }
    assert_true(uri_query_parse("force", 5, &query, &error));
    assert_true(query.force);
    assert_true(uri_query_parse("force=false", 11, &query, &error));
    assert_false(query.force);
}

static void a_bound_for_stale_reads_is_a_duration(void **state)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } durations[] = {{"max_stale=0s", 0},
                     {"max_stale=500ms", 500},
                     {"level=stale&max_stale=10s", 10000},
                     {"max_stale=2m", 120000},
                     {"max_stale=1h", 3600000}};
    static const char *const wrong[] = {"max_stale",   "max_stale=",    "max_stale=5",
                                        "max_stale=s", "max_stale=-1s", "max_stale=12345678901s"};
    const char *error = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof durations / sizeof durations[0]; i++) {
        struct uri_query query;
        assert_true(uri_query_parse(durations[i].text, strlen(durations[i].text), &query, &error));
        assert_true(query.stale_bounded);
        assert_int_equal(query.stale_ms_max, durations[i].ms);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct uri_query query;
        assert_false(uri_query_parse(wrong[i], strlen(wrong[i]), &query, &error));
        assert_non_null(strstr(error, "max_stale"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_can_be_escaped),
        cmocka_unit_test(what_is_no_escape_stands_for_itself),
        cmocka_unit_test(malformed_escapes_are_refused),
        cmocka_unit_test(parameters_are_read_in_any_order),
        cmocka_unit_test(unknown_parameters_are_ignored),
        cmocka_unit_test(an_unknown_level_is_refused_and_nothing_is_returned),
        cmocka_unit_test(a_flag_is_true_or_false_and_nothing_else),
        cmocka_unit_test(a_bound_for_stale_reads_is_a_duration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
