#include "http/body.h"

#include "lib/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Writing ---- */

/* Writes the bytes as a JSON string and has jansson read it. */
static void expect_round_trip(const char *bytes, size_t n)
{
    size_t size = body_string_size(bytes, n);
    char *text = malloc(size + 2);
    json_error_t error;

    assert_non_null(text);
    text[0] = '[';
    assert_ptr_equal(body_string_write(text + 1, bytes, n), text + 1 + size);
    text[1 + size] = ']';
    json_t *array = json_loadb(text, size + 2, JSON_ALLOW_NUL, &error);
    if (array == NULL)
        fail_msg("%s", error.text);
    json_t *string = json_array_get(array, 0);
    assert_int_equal(json_string_length(string), n);
    assert_memory_equal(json_string_value(string), bytes, n);
    json_decref(array);
    free(text);
}

static void every_ascii_byte_survives_writing_and_reading(void **state)
{
    char bytes[128];

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (char)i;
        expect_round_trip(&bytes[i], 1);
    }
    expect_round_trip(bytes, sizeof(bytes));
    expect_round_trip("", 0);
    expect_round_trip("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9);
}

/* Text is looked at in words of 8 bytes. */
static void every_byte_is_noticed_at_every_place_of_a_word(void **state)
{
    (void)state;
    for (int byte = 0; byte < 256; byte++) {
        for (size_t at = 0; at < 24; at++) {
            char bytes[24];
            memset(bytes, at % 2 == 0 ? 'a' : ' ', sizeof(bytes));
            bytes[at] = (char)byte;
            assert_int_equal(body_is_utf8(bytes, sizeof(bytes)), byte < 0x80);
            if (byte < 0x80)
                expect_round_trip(bytes, sizeof(bytes));
            else
                assert_int_equal(body_utf8_prefix(bytes, sizeof(bytes)), at);
        }
    }
}

static void random_bytes_are_utf8_exactly_when_jansson_says_so(void **state)
{
    struct random random;

    (void)state;
    random_init(&random, random_seed());
    for (int i = 0; i < 200000; i++) {
        char bytes[5];
        size_t n = 1 + random_below(&random, sizeof(bytes));
        random_fill(&random, bytes, n);
        /* Mostly lead and continuation bytes, where the rules are. */
        for (size_t j = 0; j < n; j++)
            if (random_below(&random, 4) != 0)
                bytes[j] = (char)((j == 0 ? 0xc0 : 0x80) | (bytes[j] & 0x3f));
        json_t *string = json_stringn(bytes, n);
        assert_int_equal(string != NULL, body_is_utf8(bytes, n));
        if (string != NULL)
            expect_round_trip(bytes, n);
        json_decref(string);
    }
}

static void a_prefix_ends_before_what_is_cut_or_wrong(void **state)
{
    (void)state;
    assert_int_equal(body_utf8_prefix("abc", 3), 3);
    assert_int_equal(body_utf8_prefix("ab\xc3\xa9", 3), 2);
    assert_int_equal(body_utf8_prefix("ab\xc3\xa9", 4), 4);
    assert_int_equal(body_utf8_prefix("a\xff"
                                      "b",
                                      3),
                     1);
    assert_int_equal(body_utf8_prefix("\xed\xa0\x80", 3), 0); /* A surrogate */
    assert_int_equal(body_utf8_prefix("", 0), 0);
}

/* ---- Reading ---- */

static void expect_refused(const char *text, size_t n, int status, const char *code,
                           const char *in_message)
{
    struct body_puts puts;
    struct body_error error = {0};

    assert_false(body_puts_parse(text, n, 8, &puts, &error));
    assert_int_equal(error.status, status);
    assert_string_equal(error.code, code);
    assert_non_null(strstr(error.message, in_message));
}

static void expect_refused_text(const char *text, int status, const char *code,
                                const char *in_message)
{
    expect_refused(text, strlen(text), status, code, in_message);
}

static void all_members_of_an_object_become_puts(void **state)
{
    static const char text[] = "{\"a\":\"1\",\"\\u00e9\":\"x\\u0000y\",\"c\":\"\"}";
    struct body_puts puts;
    struct body_error error;
    size_t found = 0;

    (void)state;
    assert_true(body_puts_parse(text, sizeof(text) - 1, 8, &puts, &error));
    assert_int_equal(puts.n, 3);
    for (size_t i = 0; i < puts.n; i++) {
        const struct replica_put *put = &puts.puts[i];
        if (put->key_len == 1 && memcmp(put->key, "a", 1) == 0)
            found += put->value_len == 1 && memcmp(put->value, "1", 1) == 0;
        else if (put->key_len == 2 && memcmp(put->key, "\xc3\xa9", 2) == 0)
            found += put->value_len == 3 && memcmp(put->value, "x\0y", 3) == 0;
        else if (put->key_len == 1 && memcmp(put->key, "c", 1) == 0)
            found += put->value_len == 0;
    }
    assert_int_equal(found, 3);
    body_puts_free(&puts);
}

static void bodies_that_are_no_object_of_texts_are_refused(void **state)
{
    (void)state;
    expect_refused_text("", 400, "invalid_body", "empty");
    expect_refused_text("{", 400, "invalid_body", "not valid JSON");
    expect_refused_text("{\"a\":\"1\"} x", 400, "invalid_body", "not valid JSON");
    expect_refused_text("[\"a\"]", 400, "invalid_body", "not a JSON object");
    expect_refused_text("\"a\"", 400, "invalid_body", "");
    expect_refused_text("{}", 400, "invalid_body", "0 keys");
    expect_refused_text("{\"a\":1}", 400, "invalid_value", "key \"a\" is not a string");
    expect_refused_text("{\"a\":null}", 400, "invalid_value", "not a string");
    expect_refused_text("{\"a\":{\"b\":\"c\"}}", 400, "invalid_value", "not a string");
    expect_refused_text("{\"a\":\"1\",\"a\":\"2\"}", 400, "invalid_body", "duplicate");
    expect_refused_text("{\"\":\"1\"}", 400, "invalid_key", "0 bytes");
    expect_refused_text("{\"a\\u0000b\":\"1\"}", 400, "invalid_body", "NUL");
    expect_refused_text("{\"a\":\"\xff\"}", 400, "invalid_body", "not valid JSON");
    expect_refused("{\"a\":\"1\"}\0", 10, 400, "invalid_body", "not valid JSON");
}

static void sizes_are_limited(void **state)
{
    char text[2048] = "{\"";
    struct body_puts puts;
    struct body_error error;

    (void)state;
    expect_refused_text("{\"a\":\"123456789\"}", 413, "value_too_large", "9 bytes; at most 8");
    memset(text + 2, 'k', TIERS_KEY_BYTES_MAX);
    sprintf(text + 2 + TIERS_KEY_BYTES_MAX, "\":\"12345678\"}");
    assert_true(body_puts_parse(text, strlen(text), 8, &puts, &error));
    assert_int_equal(puts.puts[0].key_len, TIERS_KEY_BYTES_MAX);
    body_puts_free(&puts);
    sprintf(text + 2 + TIERS_KEY_BYTES_MAX, "k\":\"12345678\"}");
    expect_refused_text(text, 400, "invalid_key", "512 bytes");
}

static void a_body_sets_only_so_many_keys(void **state)
{
    char *text = malloc(16 * (REPLICA_PUTS_MAX + 2)), *end = text;
    struct body_puts puts;
    struct body_error error;

    (void)state;
    assert_non_null(text);
    *end++ = '{';
    for (int i = 0; i < REPLICA_PUTS_MAX; i++)
        end += sprintf(end, "%s\"%d\":\"v\"", i > 0 ? "," : "", i);
    *end = '}';
    assert_true(body_puts_parse(text, (size_t)(end + 1 - text), 8, &puts, &error));
    assert_int_equal(puts.n, REPLICA_PUTS_MAX);
    body_puts_free(&puts);
    sprintf(end, ",\"x\":\"v\"}");
    expect_refused_text(text, 400, "invalid_body", "4097 keys");
    free(text);
}

static void a_message_cuts_a_long_key_between_characters(void **state)
{
    char text[512] = "{\"x";
    struct body_puts puts;
    struct body_error error;

    (void)state;
    for (size_t i = 0; i < 100; i++)
        memcpy(text + 3 + 2 * i, "\xc3\xa9", 2);
    sprintf(text + 203, "\":1}");
    assert_false(body_puts_parse(text, strlen(text), 8, &puts, &error));
    assert_true(body_is_utf8(error.message, strlen(error.message)));
    assert_non_null(strstr(error.message, "is not a string"));
}

static bool join_parses(const char *text, struct replica_join *ret_join)
{
    struct body_error error = {0};
    bool ok = body_join_parse(text, strlen(text), ret_join, &error);
    assert_int_equal(error.status, ok ? 0 : 400);
    return ok;
}

static void a_join_names_a_node_and_its_addresses(void **state)
{
    struct replica_join join;

    (void)state;
    assert_true(join_parses("{\"id\":\"n1\",\"httpAddr\":\"[::1]:8091\",\"raftAddr\":\"h:1\","
                            "\"incarnation\":\"00000000000000fF\",\"more\":1}",
                            &join));
    assert_string_equal(join.name, "n1");
    assert_string_equal(join.http_address, "[::1]:8091");
    assert_string_equal(join.raft_address, "h:1");
    assert_int_equal(join.incarnation, 255);
}

static void a_transfer_may_name_the_new_leader(void **state)
{
    struct body_error error = {0};
    char name[65] = "before";

    (void)state;
    assert_true(body_transfer_parse("", 0, name, &error));
    assert_string_equal(name, "");
    assert_true(body_transfer_parse("{\"id\":\"n2\"}", 11, name, &error));
    assert_string_equal(name, "n2");
    assert_false(body_transfer_parse("{\"id\":2}", 8, name, &error));
    assert_int_equal(error.status, 400);
    assert_false(body_transfer_parse("n2", 2, name, &error));
    assert_string_equal(name, "n2");
}

static void joins_that_others_could_not_use_are_refused(void **state)
{
    static const char *const texts[] = {
        "{\"id\":\"n1\",\"httpAddr\":\"h:1\"}",
        "{\"httpAddr\":\"h:1\",\"raftAddr\":\"h:2\"}",
        "{\"id\":1,\"httpAddr\":\"h:1\",\"raftAddr\":\"h:2\"}",
        "{\"id\":\"\",\"httpAddr\":\"h:1\",\"raftAddr\":\"h:2\"}",
        "{\"id\":\"a\\u0000\",\"httpAddr\":\"h:1\",\"raftAddr\":\"h:2\"}",
        "{\"id\":\"a\",\"httpAddr\":\"h\",\"raftAddr\":\"h:2\"}",
        "{\"id\":\"a\",\"httpAddr\":\"h:0\",\"raftAddr\":\"h:2\"}",
        "{\"id\":\"a\",\"httpAddr\":\"h:65536\",\"raftAddr\":\"h:2\"}",
        "{\"id\":\"a\",\"httpAddr\":\"0.0.0.0:1\",\"raftAddr\":\"h:2\"}",
        "{\"id\":\"a\",\"httpAddr\":\"h:1\",\"raftAddr\":\"[::]:2\"}",
        "{\"id\":\"a\",\"httpAddr\":\"h:1\",\"raftAddr\":\"h:2\",\"incarnation\":7}",
        "{\"id\":\"a\",\"httpAddr\":\"h:1\",\"raftAddr\":\"h:2\",\"incarnation\":\"\"}",
        "{\"id\":\"a\",\"httpAddr\":\"h:1\",\"raftAddr\":\"h:2\",\"incarnation\":\"xyz\"}",
        "{\"id\":\"a\",\"httpAddr\":\"h:1\",\"raftAddr\":\"h:2\",\"incarnation\":\"-1\"}",
        ("{\"id\":\"a\",\"httpAddr\":\"h:1\",\"raftAddr\":\"h:2\",\"incarnation\":"
         "\"10000000000000000\"}"),
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct replica_join join;
        if (join_parses(texts[i], &join))
            fail_msg("accepted: %s", texts[i]);
    }
}

static void expect_digits(uint64_t number)
{
    char expected[BODY_NUMBER_BYTES + 1], text[BODY_NUMBER_BYTES + 1];

    snprintf(expected, sizeof expected, "%llu", (unsigned long long)number);
    *body_number_write(text, number) = '\0';
    assert_string_equal(text, expected);
}

static void numbers_have_the_digits_that_printf_gives_them(void **state)
{
    uint64_t power = 1;

    (void)state;
    for (unsigned i = 0; i < BODY_NUMBER_BYTES; i++, power *= 10) {
        expect_digits(power - 1);
        expect_digits(power);
    }
    for (unsigned i = 0; i < 64; i++)
        expect_digits(UINT64_MAX >> i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_ascii_byte_survives_writing_and_reading),
        cmocka_unit_test(every_byte_is_noticed_at_every_place_of_a_word),
        cmocka_unit_test(numbers_have_the_digits_that_printf_gives_them),
        cmocka_unit_test(random_bytes_are_utf8_exactly_when_jansson_says_so),
        cmocka_unit_test(a_prefix_ends_before_what_is_cut_or_wrong),
        cmocka_unit_test(all_members_of_an_object_become_puts),
        cmocka_unit_test(bodies_that_are_no_object_of_texts_are_refused),
        cmocka_unit_test(sizes_are_limited),
        cmocka_unit_test(a_body_sets_only_so_many_keys),
        cmocka_unit_test(a_message_cuts_a_long_key_between_characters),
        cmocka_unit_test(a_join_names_a_node_and_its_addresses),
        cmocka_unit_test(a_transfer_may_name_the_new_leader),
        cmocka_unit_test(joins_that_others_could_not_use_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
