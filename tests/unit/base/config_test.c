#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What config_load made of some arguments. */
struct loaded {
    struct config config;
    enum config_action action;
    int result;
    char error_text[512];
};

/* The arguments end with NULL; --data-dir is added, since every run needs it. */
static struct loaded load(const char *const *arguments)
{
    static char program[] = "tierkvd", data_dir[] = "--data-dir=/d";
    char *argv[24] = {program, data_dir};
    int argc = 2;
    for (size_t i = 0; arguments[i] != NULL; i++)
        argv[argc++] = (char *)(uintptr_t)arguments[i];
    struct loaded loaded = {.action = CONFIG_RUN};
    loaded.result = config_load(&loaded.config, argc, argv, &loaded.action, loaded.error_text,
                                sizeof(loaded.error_text));
    return loaded;
}

#define LOAD(...) load((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static void assert_loads(const struct loaded *loaded)
{
    if (loaded->result != 0)
        fail_msg("%s", loaded->error_text);
}

/* A refusal whose message has all of these parts. */
static void assert_refused(struct loaded loaded, const char *const *parts)
{
    config_close(&loaded.config);
    assert_int_equal(loaded.result, -1);
    assert_null(strchr(loaded.error_text, '\n'));
    for (; *parts != NULL; parts++)
        if (strstr(loaded.error_text, *parts) == NULL)
            fail_msg("\"%s\" is not in \"%s\"", *parts, loaded.error_text);
}

#define REFUSED(loaded, ...) assert_refused((loaded), (const char *const[]){__VA_ARGS__, NULL})

/* A configuration file with this text, in a path that the next call reuses. */
static char file_path[] = "/tmp/config_test.XXXXXX";

static int make_file_path(void **unused)
{
    (void)unused;
    int fd = mkstemp(file_path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **unused)
{
    (void)unused;
    return unlink(file_path);
}

static const char *file_with(const char *text)
{
    FILE *out = fopen(file_path, "w");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
    return file_path;
}

/* ----------------------------------------------------------------------------------- precedence */

static void nothing_given_leaves_the_defaults(void **unused)
{
    (void)unused;
    struct loaded loaded = LOAD();
    assert_loads(&loaded);
    assert_int_equal(loaded.action, CONFIG_RUN);
    assert_string_equal(loaded.config.data_dir, "/d");
    assert_string_equal(loaded.config.http_listen, "127.0.0.1:8091");
    assert_string_equal(loaded.config.join, "");
    assert_int_equal(loaded.config.max_value_bytes, 1 << 20);
    assert_int_equal(loaded.config.request_timeout, 10000);
    assert_true(loaded.config.warm_map_bytes == UINT64_C(1) << 40);
    assert_true(loaded.config.direct_io);
    assert_int_equal(loaded.config.sources[CONFIG_SETTING_join], CONFIG_FROM_DEFAULT);
    assert_int_equal(loaded.config.sources[CONFIG_SETTING_data_dir], CONFIG_FROM_FLAG);
    config_close(&loaded.config);
}

static void a_flag_beats_the_environment_which_beats_the_file(void **unused)
{
    (void)unused;
    const char *path = file_with("hot_bytes: 1GiB\nheartbeat: 10ms\nnode_id: from-file\n");
    setenv("TIERKV_HEARTBEAT", "20ms", 1);
    setenv("TIERKV_NODE_ID", "from-environment", 1);
    struct loaded loaded = LOAD("--config", path, "--node-id", "from-flag");
    unsetenv("TIERKV_HEARTBEAT");
    unsetenv("TIERKV_NODE_ID");
    assert_loads(&loaded);
    assert_int_equal(loaded.config.hot_bytes, 1 << 30);
    assert_int_equal(loaded.config.heartbeat, 20);
    assert_string_equal(loaded.config.node_id, "from-flag");
    assert_int_equal(loaded.config.sources[CONFIG_SETTING_hot_bytes], CONFIG_FROM_FILE);
    assert_int_equal(loaded.config.sources[CONFIG_SETTING_heartbeat], CONFIG_FROM_ENVIRONMENT);
    assert_int_equal(loaded.config.sources[CONFIG_SETTING_node_id], CONFIG_FROM_FLAG);
    config_close(&loaded.config);
}

static void an_empty_environment_variable_counts_as_not_set(void **unused)
{
    (void)unused;
    setenv("TIERKV_HEARTBEAT", "", 1);
    struct loaded loaded = LOAD();
    unsetenv("TIERKV_HEARTBEAT");
    assert_loads(&loaded);
    assert_int_equal(loaded.config.heartbeat, 100);
    config_close(&loaded.config);
}

static void the_file_may_be_named_in_the_environment(void **unused)
{
    (void)unused;
    setenv("TIERKV_CONFIG", file_with("http_loops: 3\n"), 1);
    struct loaded loaded = LOAD();
    unsetenv("TIERKV_CONFIG");
    assert_loads(&loaded);
    assert_int_equal(loaded.config.http_loops, 3);
    config_close(&loaded.config);
}

static void a_file_of_comments_only_changes_nothing(void **unused)
{
    (void)unused;
    struct loaded loaded = LOAD("--config", file_with("# nothing yet\n"));
    assert_loads(&loaded);
    config_close(&loaded.config);
}

/* --------------------------------------------------------------------------------------- values */

static void sizes_times_and_flags_take_their_units(void **unused)
{
    (void)unused;
    struct loaded loaded = LOAD("--hot-bytes=3MiB", "--warm-bytes", "2TiB", "--warm-map-bytes=4TiB",
                                "--max-value-bytes=4096", "--idle-timeout=2m",
                                "--request-timeout=1500", "--drain-timeout=0", "--direct-io=false");
    assert_loads(&loaded);
    assert_int_equal(loaded.config.hot_bytes, 3 << 20);
    assert_true(loaded.config.warm_bytes == UINT64_C(2) << 40);
    assert_int_equal(loaded.config.max_value_bytes, 4096);
    assert_int_equal(loaded.config.idle_timeout, 120000);
    assert_int_equal(loaded.config.request_timeout, 1500);
    assert_int_equal(loaded.config.drain_timeout, 0);
    assert_false(loaded.config.direct_io);
    config_close(&loaded.config);
    loaded = LOAD("--direct-io");
    assert_loads(&loaded);
    assert_true(loaded.config.direct_io);
    config_close(&loaded.config);
}

static void a_bad_number_names_setting_source_and_range(void **unused)
{
    (void)unused;
    static const char *const bad[] = {
        "", "x", "-1", "+1", " 1", "1 ", "1e3", "0x10", "257", "1KiB", "18446744073709551617"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        REFUSED(LOAD("--http-loops", bad[i]), "http_loops", "flag --http-loops", bad[i],
                "from 0 to 256");
}

static void a_bad_size_names_setting_source_and_range(void **unused)
{
    (void)unused;
    static const char *const bad[] = {"0",     "17MiB", "1MB",         "1.5MiB",     "MiB",
                                      "1 MiB", "1mib",  "16777215TiB", "20000000TiB"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        setenv("TIERKV_MAX_VALUE_BYTES", bad[i], 1);
        struct loaded loaded = LOAD();
        unsetenv("TIERKV_MAX_VALUE_BYTES");
        REFUSED(loaded, "max_value_bytes", "environment variable TIERKV_MAX_VALUE_BYTES", bad[i],
                "from 1 to 16MiB");
    }
}

static void a_bad_time_names_setting_source_and_range(void **unused)
{
    (void)unused;
    static const char *const bad[] = {"4ms", "11m", "1d", "ms", "-5s"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[64];
        snprintf(text, sizeof(text), "heartbeat: \"%s\"\n", bad[i]);
        REFUSED(LOAD("--config", file_with(text)), "heartbeat", "file ", file_path, bad[i],
                "from 5ms to 10s");
    }
}

static void a_bad_flag_or_choice_names_what_is_allowed(void **unused)
{
    (void)unused;
    REFUSED(LOAD("--direct-io=maybe"), "direct_io", "--direct-io", "maybe", "true or false");
    REFUSED(LOAD("--log-level=loud"), "log_level", "--log-level", "loud",
            "one of debug,info,warning,error");
    REFUSED(LOAD("--log-level=inf"), "log_level");
    REFUSED(LOAD("--log-level=debug,info"), "log_level");
    REFUSED(LOAD("--policy="), "policy", "one of lru");
}

static void a_bad_text_names_what_is_allowed(void **unused)
{
    (void)unused;
    char long_text[70];
    memset(long_text, 'n', sizeof(long_text));
    long_text[65] = '\0';
    REFUSED(LOAD("--node-id", long_text), "node_id", "--node-id", "0 to 64 bytes");
    REFUSED(LOAD("--cold-dir", "a\nb"), "cold_dir", "printable UTF-8");
    REFUSED(LOAD("--cold-dir", "\xff"), "cold_dir", "printable UTF-8");
    REFUSED(LOAD("--node-id", "a b"), "node_id", "--node-id", "letters");
}

static void addresses_are_checked_before_anything_starts(void **unused)
{
    (void)unused;
    static const char *const bad[] = {"localhost", "8091",  ":8091", "a:b",   "a:70000",   "a:",
                                      "::1:8091",  "[::1]", "[x]:1", "a b:1", "http://a:1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        REFUSED(LOAD("--http-listen", bad[i]), "http_listen", "--http-listen", "HOST:PORT");
        REFUSED(LOAD("--raft-listen", bad[i]), "raft_listen", "--raft-listen", "HOST:PORT");
        REFUSED(LOAD("--http-address", bad[i]), "http_address", "HOST:PORT");
        REFUSED(LOAD("--join", bad[i]), "join", "HOST:PORT");
    }
    REFUSED(LOAD("--join", "a:1,,b:2"), "join", "commas");
    REFUSED(LOAD("--join", "a:1,"), "join", "commas");
    struct loaded loaded = LOAD("--http-listen=[::1]:0", "--raft-listen=node-1.example:1",
                                "--join=a:1,[::1]:2,1.2.3.4:3");
    assert_loads(&loaded);
    config_close(&loaded.config);
}

static void a_wildcard_needs_an_address_for_others(void **unused)
{
    (void)unused;
    REFUSED(LOAD("--http-listen=0.0.0.0:8091"), "http_listen", "set http_address");
    REFUSED(LOAD("--http-listen=[::]:8091"), "http_listen", "set http_address");
    REFUSED(LOAD("--raft-listen=0.0.0.0:8089"), "raft_listen", "set raft_address");
    REFUSED(LOAD("--http-address=0.0.0.0:8091"), "http_address");
    struct loaded loaded = LOAD("--http-listen=0.0.0.0:8091", "--http-address=node1:8091");
    assert_loads(&loaded);
    config_close(&loaded.config);
}

static void settings_that_contradict_each_other_are_refused(void **unused)
{
    (void)unused;
    REFUSED(LOAD("--heartbeat=600ms"), "heartbeat", "half of election_timeout", "1000ms");
    REFUSED(LOAD("--operations-bytes-max=1MiB"), "operations_bytes_max", "max_body_bytes");
    REFUSED(LOAD("--warm-map-bytes=1GiB"), "warm_map_bytes", "warm_bytes");
}

static void operations_have_room_for_the_largest_write(void **unused)
{
    (void)unused;
    struct loaded loaded =
        LOAD("--max-body-bytes=974832", "--max-value-bytes=1048025", "--operations-bytes-max=1MiB");
    assert_loads(&loaded);
    config_close(&loaded.config);
    REFUSED(LOAD("--max-body-bytes=974833", "--operations-bytes-max=1MiB", "--max-value-bytes=1"),
            "operations_bytes_max", "at least 1048577", "max_body_bytes (974833)");
    REFUSED(LOAD("--max-body-bytes=64", "--operations-bytes-max=1MiB", "--max-value-bytes=1048026"),
            "operations_bytes_max", "at least 1048577", "max_value_bytes (1048026)");
    REFUSED(LOAD("--max-body-bytes=64MiB"), "operations_bytes_max (default)");
}

static void prices_and_latencies_are_three_numbers(void **unused)
{
    (void)unused;
    static const char *const bad[] = {"a,b,c",  "1,2,",    "1,2,3,4", "1,-2,3",
                                      "1, 2,3", "1,2,nan", "1,2,0x3", "1,2.3.4,5"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        REFUSED(LOAD("--print-config", "--tier-prices", bad[i]),
                "tier_prices (flag --tier-prices): ");
        REFUSED(LOAD("--tier-latencies", bad[i]), "tier_latencies (flag --tier-latencies): ");
    }
    REFUSED(LOAD("--tier-latencies=9,8,7"), "tier_latencies", "\"9,8,7\" must be three rising");
    struct loaded loaded = LOAD("--tier-prices=9,8.5,.7", "--tier-latencies=1,1,1");
    assert_loads(&loaded);
    config_close(&loaded.config);
}

/* ------------------------------------------------------------------------------------- mistakes */

static void an_unknown_name_is_named_with_a_suggestion(void **unused)
{
    (void)unused;
    REFUSED(LOAD("--hot-byts=1MiB"), "unknown flag --hot-byts", "--hot-bytes?");
    REFUSED(LOAD("--hot_bytes=1MiB"), "unknown flag --hot_bytes", "--hot-bytes?");
    REFUSED(LOAD("--confg=x"), "unknown flag --confg", "--config?");
    REFUSED(LOAD("--frobnicate"), "unknown flag --frobnicate", "--help");
    REFUSED(LOAD("--config", file_with("hot_bite: 1\n")), file_path, "unknown setting hot_bite",
            "hot_bytes?");
    REFUSED(LOAD("--config", file_with("frobnicate: 1\n")), "unknown setting frobnicate");
    setenv("TIERKV_HOT_BYTE", "1MiB", 1);
    struct loaded loaded = LOAD();
    unsetenv("TIERKV_HOT_BYTE");
    REFUSED(loaded, "TIERKV_HOT_BYTE;", "TIERKV_HOT_BYTES?");
}

static void variables_of_others_are_left_alone(void **unused)
{
    (void)unused;
    setenv("TIERKV_SERVICE_HOST", "10.0.0.1", 1);
    setenv("TIERKV_PORT_8091_TCP_ADDR", "10.0.0.1", 1);
    setenv("TIERKV_ENDPOINTS", "a:1", 1);
    struct loaded loaded = LOAD();
    unsetenv("TIERKV_SERVICE_HOST");
    unsetenv("TIERKV_PORT_8091_TCP_ADDR");
    unsetenv("TIERKV_ENDPOINTS");
    assert_loads(&loaded);
    config_close(&loaded.config);
}

static void arguments_that_are_no_flags_are_refused(void **unused)
{
    (void)unused;
    REFUSED(LOAD("start"), "unexpected argument start");
    REFUSED(LOAD("--"), "unexpected argument --");
    REFUSED(LOAD("--hot-bytes"), "--hot-bytes needs a value");
    REFUSED(LOAD("--config"), "--config needs a value");
}

static void a_file_that_is_no_mapping_is_refused(void **unused)
{
    (void)unused;
    static const char *const bad[] = {"- a\n",
                                      "just text\n",
                                      "hot_bytes: [1]\n",
                                      "hot_bytes: 1MiB\nhot_bytes: 2MiB\n",
                                      "hot_bytes: \"1\n",
                                      "node_id: \"\xff\"\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        REFUSED(LOAD("--config", file_with(bad[i])), file_path, "not a YAML mapping");
}

static void an_unquoted_null_in_the_file_counts_as_not_set(void **unused)
{
    (void)unused;
    static const char *const nulls[] = {"~", "null", "Null", "NULL", "", "# nothing"};
    for (size_t i = 0; i < sizeof(nulls) / sizeof(nulls[0]); i++) {
        char text[128];
        snprintf(text, sizeof(text), "heartbeat: 50ms\nnode_id: %s\nhttp_loops: %s\n", nulls[i],
                 nulls[i]);
        struct loaded loaded = LOAD("--config", file_with(text));
        assert_loads(&loaded);
        assert_string_equal(loaded.config.node_id, "");
        assert_int_equal(loaded.config.sources[CONFIG_SETTING_node_id], CONFIG_FROM_DEFAULT);
        assert_int_equal(loaded.config.sources[CONFIG_SETTING_http_loops], CONFIG_FROM_DEFAULT);
        assert_int_equal(loaded.config.heartbeat, 50);
        config_close(&loaded.config);
    }
    struct loaded loaded = LOAD("--config", file_with("node_id: \"null\"\ncold_dir: '~'\n"));
    assert_loads(&loaded);
    assert_string_equal(loaded.config.node_id, "null");
    assert_string_equal(loaded.config.cold_dir, "~");
    config_close(&loaded.config);
    REFUSED(LOAD("--config", file_with("frobnicate: ~\n")), "unknown setting frobnicate");
}

static void a_second_document_in_the_file_is_refused(void **unused)
{
    (void)unused;
    REFUSED(LOAD("--config", file_with("---\nnode_id: a\n---\nnode_id: b\n")), file_path, "line 3",
            "second document");
    struct loaded loaded = LOAD("--config", file_with("---\nnode_id: a\n...\n"));
    assert_loads(&loaded);
    assert_string_equal(loaded.config.node_id, "a");
    config_close(&loaded.config);
}

static void a_nul_byte_in_the_file_is_refused(void **unused)
{
    (void)unused;
    REFUSED(LOAD("--config", file_with("node_id: a\ncold_dir: \"/tmp/a\\0b\"\n")), "cold_dir",
            file_path, "line 2", "NUL byte");
    REFUSED(LOAD("--config", file_with("\"cold_dir\\0x\": /tmp\n")), file_path, "NUL byte");
}

static void an_alias_in_the_file_is_called_by_its_name(void **unused)
{
    (void)unused;
    REFUSED(LOAD("--config", file_with("node_id: &a x\ncold_dir: *a\n")), file_path, "alias");
}

static void a_file_that_cannot_be_read_is_named_with_the_cause(void **unused)
{
    (void)unused;
    REFUSED(LOAD("--config", "/nonexistent/x.yaml"), "/nonexistent/x.yaml",
            "No such file or directory");
    REFUSED(LOAD("--config", "/tmp"), "/tmp", "Is a directory");
}

static void running_without_a_data_directory_is_refused(void **unused)
{
    (void)unused;
    REFUSED(LOAD("--data-dir="), "data_dir is not set", "--data-dir", "TIERKV_DATA_DIR");
}

/* --------------------------------------------------------------------------------------- output */

static char *output_of(void (*print)(const struct config *config, FILE *out),
                       const struct config *config)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    print(config, out);
    fclose(out);
    return text;
}

static void the_printed_configuration_loads_back_to_the_same(void **unused)
{
    (void)unused;
    struct loaded loaded =
        LOAD("--print-config", "--data-dir", "/a \"quoted\" \\ path # with: h\xc3\xa9", "--join",
             "a:1,b:2", "--hot-bytes=1234567", "--warm-bytes=3GiB", "--idle-timeout=61s",
             "--drain-timeout=0", "--direct-io=false", "--log-format=json", "--node-id=007");
    assert_loads(&loaded);
    assert_int_equal(loaded.action, CONFIG_PRINT);
    char *text = output_of(config_print, &loaded.config);
    const char *path = file_with(text);
    free(text);
    static char program[] = "tierkvd", flag[] = "--config";
    char *argv[] = {program, flag, (char *)(uintptr_t)path};
    struct config again;
    enum config_action action;
    char error_text[512] = "";
    if (config_load(&again, 3, argv, &action, error_text, sizeof(error_text)) != 0)
        fail_msg("%s", error_text);
#define SAME_text(field)                        assert_string_equal(again.field, loaded.config.field)
#define SAME_choice(field)                      assert_string_equal(again.field, loaded.config.field)
#define SAME_u64(field)                         assert_true(again.field == loaded.config.field)
#define SAME_bytes(field)                       assert_true(again.field == loaded.config.field)
#define SAME_ms(field)                          assert_true(again.field == loaded.config.field)
#define SAME_flag(field)                        assert_true(again.field == loaded.config.field)
#define X(type, field, text, least, most, help) SAME_##type(field);
    CONFIG_TABLE(X)
#undef X
    config_close(&again);
    config_close(&loaded.config);
}

static void the_printed_configuration_says_where_values_came_from(void **unused)
{
    (void)unused;
    setenv("TIERKV_HEARTBEAT", "50ms", 1);
    struct loaded loaded = LOAD("--config", file_with("hot_bytes: 64MiB\n"), "--http-loops=2");
    unsetenv("TIERKV_HEARTBEAT");
    assert_loads(&loaded);
    char *text = output_of(config_print, &loaded.config);
    assert_non_null(strstr(text, "http_loops: 2 # flag\n"));
    assert_non_null(strstr(text, "heartbeat: 50ms # environment\n"));
    assert_non_null(strstr(text, "hot_bytes: 64MiB # file\n"));
    assert_non_null(strstr(text, "election_timeout: 1s # default\n"));
    free(text);
    config_close(&loaded.config);
}

static void print_help(const struct config *config, FILE *out)
{
    (void)config;
    config_help(out);
}

static void help_names_every_flag_and_wins_over_everything_else(void **unused)
{
    (void)unused;
    struct loaded loaded = LOAD("--hot-bytes=1MiB", "--help", "--nonsense");
    assert_loads(&loaded);
    assert_int_equal(loaded.action, CONFIG_HELP);
    config_close(&loaded.config);
    loaded = LOAD("--version");
    assert_loads(&loaded);
    assert_int_equal(loaded.action, CONFIG_VERSION);
    config_close(&loaded.config);
    char *text = output_of(print_help, NULL);
#define X(type, field, default_text, least, most, help) assert_non_null(strstr(text, help));
    CONFIG_TABLE(X)
#undef X
    assert_non_null(strstr(text, "--election-timeout"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_given_leaves_the_defaults),
        cmocka_unit_test(a_flag_beats_the_environment_which_beats_the_file),
        cmocka_unit_test(an_empty_environment_variable_counts_as_not_set),
        cmocka_unit_test(the_file_may_be_named_in_the_environment),
        cmocka_unit_test(a_file_of_comments_only_changes_nothing),
        cmocka_unit_test(sizes_times_and_flags_take_their_units),
        cmocka_unit_test(a_bad_number_names_setting_source_and_range),
        cmocka_unit_test(a_bad_size_names_setting_source_and_range),
        cmocka_unit_test(a_bad_time_names_setting_source_and_range),
        cmocka_unit_test(a_bad_flag_or_choice_names_what_is_allowed),
        cmocka_unit_test(a_bad_text_names_what_is_allowed),
        cmocka_unit_test(addresses_are_checked_before_anything_starts),
        cmocka_unit_test(a_wildcard_needs_an_address_for_others),
        cmocka_unit_test(settings_that_contradict_each_other_are_refused),
        cmocka_unit_test(operations_have_room_for_the_largest_write),
        cmocka_unit_test(prices_and_latencies_are_three_numbers),
        cmocka_unit_test(an_unknown_name_is_named_with_a_suggestion),
        cmocka_unit_test(variables_of_others_are_left_alone),
        cmocka_unit_test(arguments_that_are_no_flags_are_refused),
        cmocka_unit_test(a_file_that_is_no_mapping_is_refused),
        cmocka_unit_test(an_unquoted_null_in_the_file_counts_as_not_set),
        cmocka_unit_test(a_second_document_in_the_file_is_refused),
        cmocka_unit_test(a_nul_byte_in_the_file_is_refused),
        cmocka_unit_test(an_alias_in_the_file_is_called_by_its_name),
        cmocka_unit_test(a_file_that_cannot_be_read_is_named_with_the_cause),
        cmocka_unit_test(running_without_a_data_directory_is_refused),
        cmocka_unit_test(the_printed_configuration_loads_back_to_the_same),
        cmocka_unit_test(the_printed_configuration_says_where_values_came_from),
        cmocka_unit_test(help_names_every_flag_and_wins_over_everything_else),
    };
    return cmocka_run_group_tests(tests, make_file_path, remove_file);
}
