/* Reading the file is libcyaml's work, by a schema that the table of settings generates: every
 * value is taken as a text, so that the file's values go through the same reader as flags. The
 * library tells what is wrong only through its log, whose first line is kept for that. What it
 * would overlook (nulls, further documents, NUL bytes) is found before, in libyaml's events. */
#include "config_file.h"

#include <cyaml/cyaml.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define FILE_BYTES_MAX (1 << 20)

struct texts {
#define X(type, field, text, least, most, help) char *field;
    CONFIG_TABLE(X)
#undef X
};

static const cyaml_schema_field_t fields[] = {
#define X(type, field, text, least, most, help)                                                    \
    CYAML_FIELD_STRING_PTR(#field, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct texts, field,  \
                           0, CYAML_UNLIMITED),
    CONFIG_TABLE(X)
#undef X
        CYAML_FIELD_END};

static const cyaml_schema_value_t schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct texts, fields)};

static const char *const setting_names[] = {
#define X(type, field, text, least, most, help) #field,
    CONFIG_TABLE(X)
#undef X
};

struct config_file {
    struct texts *texts;           /* NULL: the file has no settings */
    bool nulls[CONFIG_SETTINGS_N]; /* Which have no value: as good as not there */
    cyaml_config_t cyaml;
    char complaint[256]; /* First line of libcyaml's log */
};

static void on_log(cyaml_log_t level, void *context, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));

static void on_log(cyaml_log_t level, void *context, const char *format, va_list arguments)
{
    (void)level;
    struct config_file *file = context;
    if (file->complaint[0] != '\0')
        return;
    vsnprintf(file->complaint, sizeof(file->complaint), format, arguments);
    file->complaint[strcspn(file->complaint, "\n")] = '\0';
}

/* ----------------------------------------------------------------------------------- suggestions
 */

/* Least number of inserted, deleted and replaced characters between two names. */
static size_t edit_distance(const char *a, const char *b)
{
    enum { NAME_MAX_LENGTH = 63 };
    size_t row[NAME_MAX_LENGTH + 1];
    const size_t length = strlen(b);
    if (length > NAME_MAX_LENGTH)
        return SIZE_MAX;
    for (size_t j = 0; j <= length; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= length; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[length];
}

const char *config_nearest(const char *name, const char *const *names, size_t n)
{
    const char *nearest = NULL;
    size_t least = 3;
    for (size_t i = 0; i < n; i++) {
        size_t distance = edit_distance(name, names[i]);
        /* Two letters of four would make anything of anything. */
        if (distance < least && distance * 3 <= strlen(names[i])) {
            nearest = names[i];
            least = distance;
        }
    }
    return nearest;
}

/* -------------------------------------------------------------------------------------- loading */

/* The whole file, malloc'ed; NULL with errno (EFBIG: too large). */
static unsigned char *read_whole(const char *path, size_t *ret_size)
{
    FILE *in = fopen(path, "re");
    if (in == NULL)
        return NULL;
    int error = ENOMEM;
    unsigned char *bytes = malloc(FILE_BYTES_MAX + 1);
    if (bytes != NULL) {
        size_t size = fread(bytes, 1, FILE_BYTES_MAX + 1, in);
        error = ferror(in) ? errno : size > FILE_BYTES_MAX ? EFBIG : 0;
        *ret_size = size;
    }
    fclose(in);
    if (error != 0) {
        free(bytes);
        bytes = NULL;
    }
    errno = error;
    return bytes;
}

/* Where the events are that go by. */
struct place {
    size_t n_documents, depth; /* Depth 1: in the mapping of settings */
    bool is_value;             /* The next node there is a value, not a name */
    size_t setting;            /* Whose value; CONFIG_SETTINGS_N: of no setting */
};

static bool is_null(const yaml_event_t *event)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
    if (event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE || !event->data.scalar.plain_implicit)
        return false;
    for (size_t i = 0; i < sizeof(nulls) / sizeof(nulls[0]); i++)
        if (strcmp((const char *)event->data.scalar.value, nulls[i]) == 0)
            return true;
    return false;
}

/* A name or a value in the mapping of settings. */
static void node_pass(struct config_file *file, struct place *place, const yaml_event_t *event)
{
    const bool scalar = event->type == YAML_SCALAR_EVENT;
    if (place->is_value && place->setting < CONFIG_SETTINGS_N)
        file->nulls[place->setting] = scalar && is_null(event);
    if (!place->is_value) {
        place->setting = 0;
        while (place->setting < CONFIG_SETTINGS_N &&
               !(scalar && strcmp((const char *)event->data.scalar.value,
                                  setting_names[place->setting]) == 0))
            place->setting++;
    }
    place->is_value = !place->is_value;
}

/* NULL, or what is wrong; then, if it is a setting's value, place->is_value. */
static const char *event_examine(struct config_file *file, struct place *place,
                                 const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (++place->n_documents > 1)
            return "a second document begins; the settings stand in one";
        break;
    case YAML_SCALAR_EVENT:
        if (memchr(event->data.scalar.value, '\0', event->data.scalar.length) != NULL)
            return place->is_value ? "the value has a NUL byte" : "a name has a NUL byte";
        if (place->depth == 1)
            node_pass(file, place, event);
        break;
    case YAML_ALIAS_EVENT:
        if (place->depth == 1)
            node_pass(file, place, event);
        break;
    case YAML_MAPPING_START_EVENT:
    case YAML_SEQUENCE_START_EVENT:
        if (place->depth++ == 1)
            node_pass(file, place, event);
        break;
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        place->depth--;
        break;
    default:
        break;
    }
    return NULL;
}

/* Finds what libcyaml would overlook. 0, or -1 with one line in error_text. */
static int examine(struct config_file *file, const char *path, const unsigned char *bytes,
                   size_t size, char *error_text, size_t error_text_size)
{
    struct place place = {.setting = CONFIG_SETTINGS_N};
    const char *wrong = NULL;
    size_t line = 0;
    bool parsed, ended = false;
    yaml_parser_t parser;
    yaml_event_t event;
    if (!yaml_parser_initialize(&parser)) {
        snprintf(error_text, error_text_size, "%s: out of memory", path);
        return -1;
    }
    yaml_parser_set_input_string(&parser, bytes, size);
    do {
        parsed = yaml_parser_parse(&parser, &event);
        if (!parsed)
            break;
        wrong = event_examine(file, &place, &event);
        line = event.start_mark.line + 1;
        ended = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    } while (wrong == NULL && !ended);
    if (!parsed)
        snprintf(error_text, error_text_size,
                 "%s: not a YAML mapping of settings to values: libyaml: %s", path,
                 parser.problem != NULL ? parser.problem : "out of memory");
    else if (wrong != NULL && place.depth == 1 && place.is_value &&
             place.setting < CONFIG_SETTINGS_N)
        snprintf(error_text, error_text_size, "%s (file %s): line %zu: %s",
                 setting_names[place.setting], path, line, wrong);
    else if (wrong != NULL)
        snprintf(error_text, error_text_size, "%s: line %zu: %s", path, line, wrong);
    yaml_parser_delete(&parser);
    return parsed && wrong == NULL ? 0 : -1;
}

static void describe(const struct config_file *file, const char *path, cyaml_err_t error,
                     char *error_text, size_t error_text_size)
{
    static const char unexpected[] = "Load: Unexpected key: ";
    const char *complaint = file->complaint;
    if (error == CYAML_ERR_INVALID_KEY &&
        strncmp(complaint, unexpected, sizeof(unexpected) - 1) == 0) {
        const char *key = complaint + sizeof(unexpected) - 1;
        const char *nearest = config_nearest(key, setting_names, CONFIG_SETTINGS_N);
        snprintf(error_text, error_text_size, "%s: unknown setting %s%s%s%s", path, key,
                 nearest != NULL ? "; did you mean " : "", nearest != NULL ? nearest : "",
                 nearest != NULL ? "?" : "");
        return;
    }
    if (strncmp(complaint, "Load: ", 6) == 0)
        complaint += 6;
    /* What has no line of its own is told by its code alone. */
    if (strcmp(complaint, "Backtrace:") == 0)
        complaint = "";
    snprintf(error_text, error_text_size, "%s: not a YAML mapping of settings to values: %s", path,
             *complaint != '\0' ? complaint : cyaml_strerror(error));
}

int config_file_load(const char *path, struct config_file **ret_file, char *error_text,
                     size_t error_text_size)
{
    int result = -1;
    unsigned char *bytes = NULL;
    size_t size = 0;
    cyaml_data_t *data = NULL;
    cyaml_err_t error;
    struct config_file *file = calloc(1, sizeof(*file));
    if (file == NULL) {
        snprintf(error_text, error_text_size, "%s: out of memory", path);
        return -1;
    }
    file->cyaml = (cyaml_config_t){.log_fn = on_log,
                                   .log_ctx = file,
                                   .log_level = CYAML_LOG_ERROR,
                                   .mem_fn = cyaml_mem,
                                   .flags = CYAML_CFG_NO_ALIAS};
    bytes = read_whole(path, &size);
    if (bytes == NULL) {
        snprintf(error_text, error_text_size, "cannot read the configuration file %s: %s", path,
                 strerror(errno));
        goto out;
    }
    if (examine(file, path, bytes, size, error_text, error_text_size) != 0)
        goto out;
    error = cyaml_load_data(bytes, size, &file->cyaml, &schema, &data, NULL);
    if (error != CYAML_OK) {
        describe(file, path, error, error_text, error_text_size);
        goto out;
    }
    file->texts = data;
    *ret_file = file;
    file = NULL;
    result = 0;
out:
    free(bytes);
    free(file);
    return result;
}

const char *config_file_text(const struct config_file *file, enum config_setting setting)
{
    static const size_t offsets[] = {
#define X(type, field, text, least, most, help) offsetof(struct texts, field),
        CONFIG_TABLE(X)
#undef X
    };
    const char *text = NULL;
    if (file->texts != NULL && !file->nulls[setting])
        memcpy(&text, (const char *)file->texts + offsets[setting], sizeof(text));
    return text;
}

void config_file_close(struct config_file *file)
{
    if (file == NULL)
        return;
    if (file->texts != NULL)
        cyaml_free(&file->cyaml, &schema, file->texts, 0);
    free(file);
}
