/* How results look: raw bytes, JSON, aligned lines and tables. */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COLUMNS_MAX    16
#define PATH_BYTES_MAX 256

/* Brings out what was printed. */
static int finish(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return CLI_OK;
    fprintf(stderr, "tierkv: standard output: %s\n", strerror(errno));
    return CLI_FAILED;
}

static int not_understood(void)
{
    fprintf(stderr, "tierkv: the server's answer was not understood\n");
    return CLI_FAILED;
}

static int no_memory(void)
{
    fprintf(stderr, "tierkv: out of memory\n");
    return CLI_FAILED;
}

/* malloc'ed; NULL: out of memory. */
static char *base64(const unsigned char *bytes, size_t length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc((length + 2) / 3 * 4 + 1);
    if (text == NULL)
        return NULL;
    char *out = text;
    for (size_t i = 0; i < length; i += 3) {
        size_t left = length - i;
        uint32_t group = (uint32_t)bytes[i] << 16;
        if (left > 1)
            group |= (uint32_t)bytes[i + 1] << 8;
        if (left > 2)
            group |= bytes[i + 2];
        *out++ = digits[group >> 18];
        *out++ = digits[group >> 12 & 63];
        *out++ = left > 1 ? digits[group >> 6 & 63] : '=';
        *out++ = left > 2 ? digits[group & 63] : '=';
    }
    *out = '\0';
    return text;
}

/* Adds bytes as text under `name` if they are UTF-8, else as base64 under `name_base64`. */
static bool set_bytes(json_t *object, const char *name, const char *name_base64, const void *bytes,
                      size_t length)
{
    json_t *text = json_stringn(bytes, length);
    if (text != NULL)
        return json_object_set_new(object, name, text) == 0;
    char *coded = base64(bytes, length);
    bool good = coded != NULL && json_object_set_new(object, name_base64, json_string(coded)) == 0;
    free(coded);
    return good;
}

int cli_print_record(const void *key, size_t key_len, const void *value, size_t value_len,
                     uint64_t mod_revision)
{
    int code = CLI_FAILED;
    char *text = NULL;
    json_t *object = json_object();

    if (object != NULL && set_bytes(object, "key", "key_base64", key, key_len) &&
        set_bytes(object, "value", "value_base64", value, value_len) &&
        json_object_set_new(object, "mod_revision", json_integer((json_int_t)mod_revision)) == 0)
        text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (text != NULL) {
        puts(text);
        code = finish();
    } else {
        code = no_memory();
    }
    free(text);
    return code;
}

int cli_print_bytes(const void *bytes, size_t length)
{
    /* Asked only after a success: isatty sets errno. */
    if (fwrite(bytes, 1, length, stdout) == length && isatty(STDOUT_FILENO))
        putchar('\n');
    return finish();
}

int cli_print_revision(uint64_t revision, bool json)
{
    printf(json ? "{\"revision\":%" PRIu64 "}\n" : "revision %" PRIu64 "\n", revision);
    return finish();
}

int cli_print_text(const char *text)
{
    size_t length = strlen(text);

    fputs(text, stdout);
    if (length == 0 || text[length - 1] != '\n')
        putchar('\n');
    return finish();
}

/* A value as a cell: strings without quotes, the rest as JSON. malloc'ed; NULL: out of memory. */
static char *cell_text(const json_t *value)
{
    if (value == NULL || json_is_null(value))
        return strdup("-");
    if (json_is_string(value))
        return strdup(json_string_length(value) > 0 ? json_string_value(value) : "-");
    return json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
}

/* Calls itself for objects within; JSON's own depth limit in jansson bounds it. width 0: only
 * measures. */
static bool walk_properties(json_t *object, const char *path, int width, int *ret_longest)
{
    const char *name;
    json_t *value;

    json_object_foreach(object, name, value)
    {
        char inner[PATH_BYTES_MAX];
        snprintf(inner, sizeof(inner), "%s%s%s", path, *path != '\0' ? "." : "", name);
        if (json_is_object(value)) {
            if (!walk_properties(value, inner, width, ret_longest))
                return false;
            continue;
        }
        if ((int)strlen(inner) > *ret_longest)
            *ret_longest = (int)strlen(inner);
        if (width == 0)
            continue;
        char *text = cell_text(value);
        if (text == NULL)
            return false;
        printf("%-*s  %s\n", width, inner, text);
        free(text);
    }
    return true;
}

int cli_print_properties(const char *json)
{
    int longest = 0;
    json_t *root = json_loads(json, 0, NULL);
    if (!json_is_object(root)) {
        json_decref(root);
        return not_understood();
    }
    walk_properties(root, "", 0, &longest);
    bool good = walk_properties(root, "", longest, &longest);
    json_decref(root);
    return good ? finish() : no_memory();
}

struct columns {
    size_t n;
    const char *names[COLUMNS_MAX]; /* Borrowed from the rows */
    int widths[COLUMNS_MAX];
};

/* The names that occur in the rows, in order of appearance; later ones than COLUMNS_MAX are left
 * out. */
static void collect_columns(const json_t *rows, struct columns *columns)
{
    size_t index;
    json_t *row, *value;
    const char *name;

    json_array_foreach(rows, index, row)
    {
        json_object_foreach(row, name, value)
        {
            size_t i = 0;
            while (i < columns->n && strcmp(columns->names[i], name) != 0)
                i++;
            if (i < columns->n || columns->n == COLUMNS_MAX)
                continue;
            columns->names[columns->n] = name;
            columns->widths[columns->n++] = (int)strlen(name);
        }
    }
}

/* One pass over all cells: measures them, or prints them. */
static bool walk_rows(const json_t *rows, struct columns *columns, bool print)
{
    size_t index;
    json_t *row;

    json_array_foreach(rows, index, row)
    {
        for (size_t i = 0; i < columns->n; i++) {
            char *text = cell_text(json_object_get(row, columns->names[i]));
            if (text == NULL)
                return false;
            if ((int)strlen(text) > columns->widths[i])
                columns->widths[i] = (int)strlen(text);
            if (print && i + 1 < columns->n)
                printf("%-*s  ", columns->widths[i], text);
            else if (print)
                printf("%s\n", text);
            free(text);
        }
    }
    return true;
}

int cli_print_table(const char *json, const char *name)
{
    struct columns columns = {.n = 0};
    json_t *root = json_loads(json, 0, NULL);
    const json_t *rows = json_object_get(root, name);

    if (!json_is_array(rows)) {
        json_decref(root);
        return not_understood();
    }
    collect_columns(rows, &columns);
    bool good = walk_rows(rows, &columns, false);
    for (size_t i = 0; good && i < columns.n; i++)
        printf("%-*s%s", i + 1 < columns.n ? columns.widths[i] : 0, columns.names[i],
               i + 1 < columns.n ? "  " : "\n");
    good = good && walk_rows(rows, &columns, true);
    json_decref(root);
    return good ? finish() : no_memory();
}
