#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Standard error leads into a file while a test logs; the terminal gets it back afterwards. */
static char written[1 << 20];
static int terminal, file;

static void capture_begin(void)
{
    char path[] = "/tmp/log_test.XXXXXX";
    file = mkstemp(path);
    assert_true(file >= 0);
    unlink(path);
    terminal = dup(STDERR_FILENO);
    assert_int_equal(dup2(file, STDERR_FILENO), STDERR_FILENO);
}

static const char *capture_end(void)
{
    dup2(terminal, STDERR_FILENO);
    close(terminal);
    ssize_t n = pread(file, written, sizeof(written) - 1, 0);
    close(file);
    assert_true(n >= 0);
    written[n] = '\0';
    return written;
}

/* What follows the time in a logfmt line. */
static const char *after_time(const char *line)
{
    assert_memory_equal(line, "time=", 5);
    const char *space = strchr(line, ' ');
    assert_non_null(space);
    return space + 1;
}

static void a_line_has_time_level_event_and_fields(void **unused)
{
    (void)unused;
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    capture_begin();
    log_info("leader elected", LOG_U64("term", 7), LOG_TEXT("leader", "10.0.0.1:8091"),
             LOG_I64("delta", -3), LOG_HEX("id", 0xbeef));
    const char *line = capture_end();
    int year, month, day, hour, minute, second, millisecond, length = 0;
    assert_int_equal(sscanf(line, "time=%4d-%2d-%2dT%2d:%2d:%2d.%3dZ%n", &year, &month, &day, &hour,
                            &minute, &second, &millisecond, &length),
                     7);
    assert_int_equal(length, 29);
    assert_string_equal(after_time(line), "level=info event=\"leader elected\" term=7 "
                                          "leader=10.0.0.1:8091 delta=-3 id=beef\n");
}

static void values_are_quoted_only_when_needed(void **unused)
{
    (void)unused;
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    capture_begin();
    log_info("e", LOG_TEXT("plain", "a-b/c:1"), LOG_TEXT("empty", ""), LOG_TEXT("null", NULL),
             LOG_TEXT("space", "a b"), LOG_TEXT("equals", "a=b"), LOG_TEXT("quote", "a\"b\\c"));
    assert_string_equal(after_time(capture_end()),
                        "level=info event=e plain=a-b/c:1 empty=\"\" null=\"\" space=\"a b\" "
                        "equals=\"a=b\" quote=\"a\\\"b\\\\c\"\n");
}

static void a_value_cannot_forge_a_line_or_move_the_cursor(void **unused)
{
    (void)unused;
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    capture_begin();
    log_info("e", LOG_TEXT("v", "a\nlevel=error\t\r\x1b[2J\x7f\xc2\x9b"
                                "2J"));
    assert_string_equal(
        after_time(capture_end()),
        "level=info event=e v=\"a\\nlevel=error\\t\\u000d\\u001b[2J\\u007f\\u009b2J\"\n");
}

static void utf8_is_kept_and_anything_else_replaced(void **unused)
{
    (void)unused;
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    capture_begin();
    log_info("e", LOG_TEXT("good", "h\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"),
             LOG_TEXT("bad", "\xff"
                             "a\xc3"),
             LOG_TEXT("overlong", "\xc0\xaf"), LOG_TEXT("surrogate", "\xed\xa0\x80"),
             LOG_TEXT("high", "\xf4\x90\x80\x80"));
#define R "\xef\xbf\xbd"
    assert_string_equal(after_time(capture_end()),
                        "level=info event=e good=h\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80 bad=\"" R
                        "a" R "\" overlong=\"" R R "\" surrogate=\"" R R R "\" high=\"" R R R R
                        "\"\n");
#undef R
}

static void json_lines_are_valid_for_any_bytes(void **unused)
{
    (void)unused;
    unsigned seed = (unsigned)getpid();
    print_message("seed %u\n", seed);
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    for (unsigned round = 0; round < 300; round++) {
        char value[6000];
        size_t length = (size_t)rand_r(&seed) % sizeof(value);
        for (size_t i = 0; i < length; i++)
            value[i] = (char)(1 + rand_r(&seed) % 255);
        value[length < sizeof(value) ? length : sizeof(value) - 1] = '\0';
        capture_begin();
        log_warning("any", LOG_TEXT("value", value), LOG_U64("number", UINT64_C(7)));
        const char *line = capture_end();
        assert_true(strlen(line) <= 4096);
        assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
        json_error_t error;
        json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, &error);
        if (object == NULL)
            fail_msg("%s: %s", error.text, line);
        assert_string_equal(json_string_value(json_object_get(object, "level")), "warning");
        assert_true(json_is_string(json_object_get(object, "value")));
        bool truncated = json_is_true(json_object_get(object, "truncated"));
        assert_true(truncated || json_integer_value(json_object_get(object, "number")) == 7);
        json_decref(object);
    }
}

static void a_long_line_is_cut_and_says_so(void **unused)
{
    (void)unused;
    static char value[5000];
    for (int format = LOG_FORMAT_LOGFMT; format <= LOG_FORMAT_JSON; format++) {
        log_configure(LOG_LEVEL_INFO, (enum log_format)format);
        /* Every length around the limit, so that each kind of cut is met. */
        for (size_t length = 3950; length < 4110; length++) {
            memset(value, 'x', length);
            value[length] = '\0';
            capture_begin();
            log_info("e", LOG_TEXT("value", value), LOG_U64("last", 123456789));
            const char *line = capture_end();
            size_t line_length = strlen(line);
            assert_true(line_length <= 4096);
            assert_int_equal(line[line_length - 1], '\n');
            bool whole = strstr(line, "123456789") != NULL;
            assert_int_equal(strstr(line, "truncated") != NULL, !whole);
            if (format == LOG_FORMAT_JSON) {
                json_t *object = json_loads(line, 0, NULL);
                assert_non_null(object);
                json_decref(object);
            }
        }
    }
}

static void lines_below_the_level_are_not_written(void **unused)
{
    (void)unused;
    log_configure(LOG_LEVEL_WARNING, LOG_FORMAT_LOGFMT);
    assert_false(log_enabled(LOG_LEVEL_INFO));
    assert_true(log_enabled(LOG_LEVEL_ERROR));
    capture_begin();
    log_debug("no");
    log_info("no");
    log_error("yes");
    assert_string_equal(after_time(capture_end()), "level=error event=yes\n");
}

static void errno_survives_a_line(void **unused)
{
    (void)unused;
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
    capture_begin();
    close(STDERR_FILENO);
    errno = ENOSPC;
    log_info("lost");
    int after = errno;
    capture_end();
    assert_int_equal(after, ENOSPC);
}

static void *log_many(void *argument)
{
    for (unsigned i = 0; i < 500; i++)
        log_info("many", LOG_TEXT("who", argument), LOG_TEXT("filler", "0123456789 0123456789"));
    return NULL;
}

static void lines_of_several_threads_do_not_mix(void **unused)
{
    (void)unused;
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    capture_begin();
    pthread_t threads[4];
    static const char *const names[] = {"a", "b", "c", "d"};
    for (size_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, log_many, (void *)(uintptr_t)names[i]);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    capture_end();
    size_t lines = 0;
    for (char *line = strtok(written, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        json_t *object = json_loads(line, 0, NULL);
        assert_non_null(object);
        json_decref(object);
        lines++;
    }
    assert_int_equal(lines, 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_has_time_level_event_and_fields),
        cmocka_unit_test(values_are_quoted_only_when_needed),
        cmocka_unit_test(a_value_cannot_forge_a_line_or_move_the_cursor),
        cmocka_unit_test(utf8_is_kept_and_anything_else_replaced),
        cmocka_unit_test(json_lines_are_valid_for_any_bytes),
        cmocka_unit_test(a_long_line_is_cut_and_says_so),
        cmocka_unit_test(lines_below_the_level_are_not_written),
        cmocka_unit_test(errno_survives_a_line),
        cmocka_unit_test(lines_of_several_threads_do_not_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
