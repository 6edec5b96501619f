/* Finding each setting's text by precedence, then reading and checking it. Main thread, before
 * anything else runs. Values are read by config_value.c, the file by config_file.c. */
#include "config.h"

#include "address.h"
#include "config_file.h"
#include "config_value.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES         64
#define ENVIRONMENT_PREFIX "TIERKV_"

const struct config_row config_rows[CONFIG_SETTINGS_N] = {
#define X(type, field, text, least, most, help)                                                    \
    {CONFIG_TYPE_##type, #field, offsetof(struct config, field), text, least, most, help},
    CONFIG_TABLE(X)
#undef X
};

extern char **environ;

/* Where the texts were found, until they are read. All borrowed. */
struct loading {
    const char *flags[CONFIG_SETTINGS_N];
    const char *config_path; /* NULL: no file */
    struct config_file *file;
    enum config_action action;
    char *error_text;
    size_t error_text_size;
};

__attribute__((format(printf, 2, 3))) static int fail(const struct loading *loading,
                                                      const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(loading->error_text, loading->error_text_size, format, arguments);
    va_end(arguments);
    return -1;
}

static void flag_name(const char *name, char ret_flag[static NAME_BYTES])
{
    snprintf(ret_flag, NAME_BYTES, "%s", name);
    for (char *at = ret_flag; *at != '\0'; at++)
        if (*at == '_')
            *at = '-';
}

static void environment_name(const char *name, char ret_variable[static NAME_BYTES])
{
    snprintf(ret_variable, NAME_BYTES, ENVIRONMENT_PREFIX "%s", name);
    for (char *at = ret_variable; *at != '\0'; at++)
        *at = (char)toupper((unsigned char)*at);
}

/* ---------------------------------------------------------------------------------------- flags */

static int unknown_flag(const struct loading *loading, const char *name)
{
    char flags[CONFIG_SETTINGS_N][NAME_BYTES];
    const char *names[CONFIG_SETTINGS_N + 4] = {"config", "help", "version", "print-config"};
    for (size_t i = 0; i < CONFIG_SETTINGS_N; i++) {
        flag_name(config_rows[i].name, flags[i]);
        names[i + 4] = flags[i];
    }
    const char *nearest = config_nearest(name, names, CONFIG_SETTINGS_N + 4);
    if (nearest != NULL)
        return fail(loading, "unknown flag --%s; did you mean --%s?", name, nearest);
    return fail(loading, "unknown flag --%s; --help lists all", name);
}

/* The setting of a flag's name, or NULL. */
static const struct config_row *row_of_flag(const char *name)
{
    for (size_t i = 0; i < CONFIG_SETTINGS_N; i++) {
        char flag[NAME_BYTES];
        flag_name(config_rows[i].name, flag);
        if (strcmp(flag, name) == 0)
            return &config_rows[i];
    }
    return NULL;
}

/* --name=value, --name value, or --name alone if the setting is a flag. */
static int flag_take(struct loading *loading, int argc, char **argv, int *at)
{
    char name[NAME_BYTES];
    const char *argument = argv[*at] + 2;
    const size_t length = strcspn(argument, "=");
    if (length >= sizeof(name))
        return fail(loading, "unknown flag %s; --help lists all", argv[*at]);
    memcpy(name, argument, length);
    name[length] = '\0';
    const struct config_row *row = row_of_flag(name);
    const bool is_config = strcmp(name, "config") == 0;
    if (row == NULL && !is_config)
        return unknown_flag(loading, name);
    const char *value;
    if (argument[length] == '=')
        value = argument + length + 1;
    else if (row != NULL && row->type == CONFIG_TYPE_flag)
        value = "true";
    else if (*at + 1 < argc)
        value = argv[++*at];
    else
        return fail(loading, "--%s needs a value", name);
    if (is_config)
        loading->config_path = value;
    else
        loading->flags[row - config_rows] = value;
    return 0;
}

static int flags_read(struct loading *loading, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            loading->action = CONFIG_HELP;
            return 0;
        }
        if (strcmp(argv[i], "--version") == 0) {
            loading->action = CONFIG_VERSION;
            return 0;
        }
        if (strcmp(argv[i], "--print-config") == 0) {
            loading->action = CONFIG_PRINT;
            continue;
        }
        if (strncmp(argv[i], "--", 2) != 0 || argv[i][2] == '\0')
            return fail(loading, "unexpected argument %s; settings are given as --NAME VALUE",
                        argv[i]);
        if (flag_take(loading, argc, argv, &i) != 0)
            return -1;
    }
    return 0;
}

/* ---------------------------------------------------------------------------------- environment */

/* NULL if it is not set or empty. */
static const char *environment_text(const char *variable)
{
    const char *text = getenv(variable);
    return text != NULL && *text != '\0' ? text : NULL;
}

/* Names that are almost those of settings are mistakes. Others are left alone: the command line has
 * variables of its own, and container platforms set TIERKV_SERVICE_HOST and the like. */
static int environment_check(const struct loading *loading)
{
    const char *names[CONFIG_SETTINGS_N];
    for (size_t i = 0; i < CONFIG_SETTINGS_N; i++)
        names[i] = config_rows[i].name;
    for (char **variable = environ; *variable != NULL; variable++) {
        const size_t prefix = sizeof(ENVIRONMENT_PREFIX) - 1;
        const size_t length = strcspn(*variable, "=");
        char name[NAME_BYTES];
        if (strncmp(*variable, ENVIRONMENT_PREFIX, prefix) != 0 || length - prefix >= sizeof(name))
            continue;
        for (size_t i = prefix; i < length; i++)
            name[i - prefix] = (char)tolower((unsigned char)(*variable)[i]);
        name[length - prefix] = '\0';
        const char *nearest = config_nearest(name, names, CONFIG_SETTINGS_N);
        char meant[NAME_BYTES];
        if (nearest == NULL)
            continue;
        environment_name(nearest, meant);
        if (strlen(meant) != length || memcmp(meant, *variable, length) != 0)
            return fail(loading, "unknown environment variable %.*s; did you mean %s?", (int)length,
                        *variable, meant);
    }
    return 0;
}

/* --------------------------------------------------------------------------------------- values */

/* "the flag --data-dir" and the like, for messages. */
static void source_describe(const struct loading *loading, const struct config *config,
                            enum config_setting setting, char *ret_text, size_t text_size)
{
    char name[NAME_BYTES];
    switch (config->sources[setting]) {
    case CONFIG_FROM_FLAG:
        flag_name(config_rows[setting].name, name);
        snprintf(ret_text, text_size, "flag --%s", name);
        break;
    case CONFIG_FROM_ENVIRONMENT:
        environment_name(config_rows[setting].name, name);
        snprintf(ret_text, text_size, "environment variable %s", name);
        break;
    case CONFIG_FROM_FILE:
        snprintf(ret_text, text_size, "file %s", loading->config_path);
        break;
    case CONFIG_FROM_DEFAULT:
        snprintf(ret_text, text_size, "default");
        break;
    }
}

static int value_read(struct loading *loading, struct config *config, enum config_setting setting)
{
    const struct config_row *row = &config_rows[setting];
    char variable[NAME_BYTES];
    environment_name(row->name, variable);
    const char *text = loading->flags[setting];
    enum config_source source = CONFIG_FROM_FLAG;
    if (text == NULL) {
        source = CONFIG_FROM_ENVIRONMENT;
        text = environment_text(variable);
    }
    if (text == NULL && loading->file != NULL) {
        source = CONFIG_FROM_FILE;
        text = config_file_text(loading->file, setting);
    }
    if (text == NULL) {
        source = CONFIG_FROM_DEFAULT;
        text = row->default_text;
    }
    config->sources[setting] = source;
    if (config_value_set(config, row, text))
        return 0;
    if (errno == ENOMEM)
        return fail(loading, "out of memory while reading the configuration");
    char described[512], allowed[256];
    source_describe(loading, config, setting, described, sizeof(described));
    config_value_allowed(row, allowed, sizeof(allowed));
    return fail(loading, "%s (%s): \"%s\" must be %s", row->name, described, text, allowed);
}

/* --------------------------------------------------------------------------------------- checks */

__attribute__((format(printf, 4, 5))) static int refuse(const struct loading *loading,
                                                        const struct config *config,
                                                        enum config_setting setting,
                                                        const char *format, ...)
{
    char described[512], reason[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof(reason), format, arguments);
    va_end(arguments);
    source_describe(loading, config, setting, described, sizeof(described));
    return fail(loading, "%s (%s): %s", config_rows[setting].name, described, reason);
}

static int name_check(const struct loading *loading, const struct config *config)
{
    for (const char *at = config->node_id; *at != '\0'; at++)
        if (!isalnum((unsigned char)*at) && strchr(".-_", *at) == NULL)
            return refuse(loading, config, CONFIG_SETTING_node_id,
                          "\"%s\" must consist of letters, digits, dots, hyphens and underscores",
                          config->node_id);
    return 0;
}

/* Where to listen, and what to tell others: the latter must be reachable and may only be left out
 * if the former is. */
static int addresses_check(const struct loading *loading, const struct config *config,
                           enum config_setting listen_setting, const char *listen,
                           enum config_setting told_setting, const char *told)
{
    struct address address;
    if (!address_parse(listen, &address))
        return refuse(loading, config, listen_setting,
                      "\"%s\" must be HOST:PORT, an IPv6 address in brackets", listen);
    if (*told == '\0' && address_is_wildcard(&address))
        return refuse(loading, config, listen_setting,
                      "%s is every address of this machine: set %s to the HOST:PORT that others "
                      "reach it by",
                      listen, config_rows[told_setting].name);
    if (*told != '\0' &&
        (!address_parse(told, &address) || address.port == 0 || address_is_wildcard(&address)))
        return refuse(loading, config, told_setting,
                      "\"%s\" must be HOST:PORT as others reach this node, an IPv6 address in "
                      "brackets",
                      told);
    return 0;
}

static int join_check(const struct loading *loading, const struct config *config)
{
    const char *at = config->join;
    while (*config->join != '\0') {
        char one[sizeof(((struct address *)NULL)->host)];
        struct address address;
        const size_t length = strcspn(at, ",");
        snprintf(one, sizeof(one), "%.*s", (int)(length < sizeof(one) ? length : sizeof(one)), at);
        if (length >= sizeof(one) || !address_parse(one, &address) || address.port == 0)
            return refuse(loading, config, CONFIG_SETTING_join,
                          "\"%s\" must be HOST:PORT; several are separated by commas", one);
        if (at[length] == '\0')
            break;
        at += length + 1;
    }
    return 0;
}

/* Bytes of the largest write, as the replica counts it (command/codec.c): a head, and for each key
 * a head, the key and its value. In a body a key takes quotes, colon and comma in place of its
 * head, so that the encoded command may be longer than the body. */
static uint64_t write_bytes_max(const struct config *config)
{
    enum { HEAD = 16, KEY_HEAD = 24, KEY_BYTES_MAX = 511, KEYS_MAX = 4096, KEY_JSON = 6 };
    const uint64_t put = HEAD + KEY_HEAD + KEY_BYTES_MAX + config->max_value_bytes;
    const uint64_t post = HEAD + KEYS_MAX * (KEY_HEAD - KEY_JSON) + config->max_body_bytes;
    return put > post ? put : post;
}

/* A write that alone is more than may wait would be told for ever to come back later. */
static int writes_check(const struct loading *loading, const struct config *config)
{
    const uint64_t least = write_bytes_max(config);
    if (config->operations_bytes_max >= least)
        return 0;
    return refuse(loading, config, CONFIG_SETTING_operations_bytes_max,
                  "must be at least %llu, the size of the largest write that max_value_bytes "
                  "(%llu) and max_body_bytes (%llu) allow",
                  (unsigned long long)least, (unsigned long long)config->max_value_bytes,
                  (unsigned long long)config->max_body_bytes);
}

static int figures_check(const struct loading *loading, const struct config *config)
{
    double figures[CONFIG_FIGURES_N];
    if (!config_figures_parse(config->tier_prices, figures))
        return refuse(loading, config, CONFIG_SETTING_tier_prices,
                      "\"%s\" must be three decimal numbers such as 4,0.1,0.02",
                      config->tier_prices);
    if (!config_figures_parse(config->tier_latencies, figures) || figures[0] > figures[1] ||
        figures[1] > figures[2])
        return refuse(loading, config, CONFIG_SETTING_tier_latencies,
                      "\"%s\" must be three rising numbers such as 1,100,8000",
                      config->tier_latencies);
    return 0;
}

static int relations_check(const struct loading *loading, const struct config *config)
{
    if (*config->data_dir == '\0' && loading->action == CONFIG_RUN)
        return fail(loading, "data_dir is not set: give --data-dir DIRECTORY, " ENVIRONMENT_PREFIX
                             "DATA_DIR, or data_dir in the file");
    if (name_check(loading, config) != 0 || join_check(loading, config) != 0)
        return -1;
    if (addresses_check(loading, config, CONFIG_SETTING_http_listen, config->http_listen,
                        CONFIG_SETTING_http_address, config->http_address) != 0 ||
        addresses_check(loading, config, CONFIG_SETTING_raft_listen, config->raft_listen,
                        CONFIG_SETTING_raft_address, config->raft_address) != 0)
        return -1;
    if (config->heartbeat * 2 > config->election_timeout)
        return refuse(loading, config, CONFIG_SETTING_heartbeat,
                      "must be at most half of election_timeout (%llums)",
                      (unsigned long long)config->election_timeout);
    if (writes_check(loading, config) != 0 || figures_check(loading, config) != 0)
        return -1;
    if (strcmp(config->policy, "auto") == 0 && !config->curve)
        return refuse(loading, config, CONFIG_SETTING_policy, "auto needs the setting curve");
    if (config->warm_map_bytes < config->warm_bytes)
        return refuse(loading, config, CONFIG_SETTING_warm_map_bytes,
                      "must be at least warm_bytes (%llu)", (unsigned long long)config->warm_bytes);
    return 0;
}

/* ----------------------------------------------------------------------------------------- load */

static int load(struct loading *loading, struct config *config, int argc, char **argv)
{
    if (flags_read(loading, argc, argv) != 0)
        return -1;
    if (loading->action == CONFIG_HELP || loading->action == CONFIG_VERSION)
        return 0;
    if (environment_check(loading) != 0)
        return -1;
    if (loading->config_path == NULL)
        loading->config_path = environment_text(ENVIRONMENT_PREFIX "CONFIG");
    if (loading->config_path != NULL &&
        config_file_load(loading->config_path, &loading->file, loading->error_text,
                         loading->error_text_size) != 0)
        return -1;
    for (size_t i = 0; i < CONFIG_SETTINGS_N; i++)
        if (value_read(loading, config, (enum config_setting)i) != 0)
            return -1;
    return relations_check(loading, config);
}

int config_load(struct config *config, int argc, char **argv, enum config_action *ret_action,
                char *error_text, size_t error_text_size)
{
    memset(config, 0, sizeof(*config));
    struct loading loading = {
        .action = CONFIG_RUN, .error_text = error_text, .error_text_size = error_text_size};
    int result = load(&loading, config, argc, argv);
    config_file_close(loading.file);
    if (result == 0) {
        *ret_action = loading.action;
        return 0;
    }
    /* The message quotes what was given; it is to stay one line. */
    for (unsigned char *at = (unsigned char *)error_text; *at != '\0'; at++)
        if (*at < 0x20 || *at == 0x7f)
            *at = '?';
    return result;
}

void config_close(struct config *config)
{
    for (size_t i = 0; i < CONFIG_SETTINGS_N; i++)
        config_value_free(config, &config_rows[i]);
}

/* ---------------------------------------------------------------------------------------- output
 */

void config_help(FILE *out)
{
    static const char *const placeholders[] = {
        [CONFIG_TYPE_text] = "TEXT",    [CONFIG_TYPE_u64] = "N",
        [CONFIG_TYPE_bytes] = "SIZE",   [CONFIG_TYPE_ms] = "TIME",
        [CONFIG_TYPE_flag] = "[=BOOL]", [CONFIG_TYPE_choice] = "CHOICE"};
    fputs("Usage: tierkvd --data-dir DIRECTORY [FLAGS]\n"
          "Runs a node of TierKV, a replicated key-value server with three storage tiers.\n\n"
          "  --config FILE     read settings from a YAML file (also TIERKV_CONFIG)\n"
          "  --print-config    print the settings in force as such a file, and end\n"
          "  --help            print this, and end\n"
          "  --version         print the version, and end\n\n"
          "Each setting is taken from its flag, else from the environment (--data-dir: "
          "TIERKV_DATA_DIR),\nelse from the file (data_dir: …), else it has its default. SIZE "
          "takes KiB, MiB, GiB, TiB; TIME takes\nms, s, m, h.\n\n",
          out);
    for (size_t i = 0; i < CONFIG_SETTINGS_N; i++) {
        const struct config_row *row = &config_rows[i];
        char flag[NAME_BYTES];
        flag_name(row->name, flag);
        fprintf(out, "  --%s%s%s\n        %s", flag, row->type == CONFIG_TYPE_flag ? "" : " ",
                placeholders[row->type], row->help);
        if (*row->default_text != '\0')
            fprintf(out, " (default %s)", row->default_text);
        fputc('\n', out);
    }
}

void config_print(const struct config *config, FILE *out)
{
    static const char *const sources[] = {[CONFIG_FROM_DEFAULT] = "default",
                                          [CONFIG_FROM_FILE] = "file",
                                          [CONFIG_FROM_ENVIRONMENT] = "environment",
                                          [CONFIG_FROM_FLAG] = "flag"};
    for (size_t i = 0; i < CONFIG_SETTINGS_N; i++) {
        fprintf(out, "%s: ", config_rows[i].name);
        config_value_print(config, &config_rows[i], out);
        fprintf(out, " # %s\n", sources[config->sources[i]]);
    }
}
