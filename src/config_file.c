/* Reading the file is libcyaml's work, by a schema that the table of settings generates: every
 * value is taken as a text, so that the file's values go through the same reader as flags. The
 * library tells what is wrong only through its log, whose first line is kept for that. */
#include "config_file.h"

#include <cyaml/cyaml.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

struct config_file {
    struct texts *texts; /* NULL: the file has no settings */
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

static void describe(const struct config_file *file, const char *path, cyaml_err_t error,
                     char *error_text, size_t error_text_size)
{
    static const char *const names[] = {
#define X(type, field, text, least, most, help) #field,
        CONFIG_TABLE(X)
#undef X
    };
    static const char unexpected[] = "Load: Unexpected key: ";
    const char *complaint = file->complaint;
    if (error == CYAML_ERR_INVALID_KEY &&
        strncmp(complaint, unexpected, sizeof(unexpected) - 1) == 0) {
        const char *key = complaint + sizeof(unexpected) - 1;
        const char *nearest = config_nearest(key, names, CONFIG_SETTINGS_N);
        snprintf(error_text, error_text_size, "%s: unknown setting %s%s%s%s", path, key,
                 nearest != NULL ? "; did you mean " : "", nearest != NULL ? nearest : "",
                 nearest != NULL ? "?" : "");
        return;
    }
    if (strncmp(complaint, "Load: ", 6) == 0)
        complaint += 6;
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
    if (file->texts != NULL)
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
