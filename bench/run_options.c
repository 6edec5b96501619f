/* Parses --name VALUE and --name=VALUE by the table of run_options.h. */
#include "run_options.h"

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum type { TYPE_count, TYPE_bytes, TYPE_real, TYPE_text };

static const struct entry {
    enum type type;
    const char *name; /* As in the struct, with _ */
    size_t offset;
    const char *text_default;
    double least, most;
    const char *help;
} entries[] = {
#define X(type, field, text_default, least, most, help)                                            \
    {TYPE_##type, #field, offsetof(struct run_options, field), #text_default, least, most, help},
    RUN_OPTIONS(X)
#undef X
};
#define N_ENTRIES (sizeof(entries) / sizeof(entries[0]))

/* The name as a flag: - for _. Every name is shorter than `size`. */
static void flag_name(const struct entry *entry, char *name, size_t size)
{
    snprintf(name, size, "%s", entry->name);
    for (char *c = name; *c != '\0'; c++) {
        if (*c == '_')
            *c = '-';
    }
}

/* " (default)" as one would write it, or nothing. */
static void default_text(const struct entry *entry, char *text, size_t size)
{
    double value = strtod(entry->text_default, NULL);

    if (entry->type == TYPE_bytes && value >= 1048576)
        snprintf(text, size, " (%.0fMiB)", value / 1048576);
    else if (entry->type != TYPE_text)
        snprintf(text, size, " (%.10g)", value);
    else if (strlen(entry->text_default) > 2) /* More than its quotes */
        snprintf(text, size, " (%s)", entry->text_default);
    else
        *text = '\0';
}

static void help(void)
{
    puts("usage: tierbench run [--OPTION VALUE]...\n"
         "\n"
         "Writes all keys, warms up, then measures reads and writes of Zipf-distributed keys.\n");
    for (size_t i = 0; i < N_ENTRIES; i++) {
        char name[32], shown[32];
        flag_name(&entries[i], name, sizeof(name));
        default_text(&entries[i], shown, sizeof(shown));
        printf("  --%-12s %s%s\n", name, entries[i].help, shown);
    }
}

static double suffix_factor(const char *suffix)
{
    static const struct {
        const char *suffix;
        double factor;
    } suffixes[] = {{"", 1}, {"KiB", 1024}, {"MiB", 1048576}, {"GiB", 1073741824}};

    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        if (strcmp(suffix, suffixes[i].suffix) == 0)
            return suffixes[i].factor;
    }
    return 0;
}

static bool set(struct run_options *options, const struct entry *entry, const char *text)
{
    void *field = (char *)options + entry->offset;
    char *end = NULL;
    double value;

    if (entry->type == TYPE_text) {
        *(const char **)field = text;
        return true;
    }
    value = strtod(text, &end);
    if (end == text)
        return false;
    value *= entry->type == TYPE_bytes ? suffix_factor(end) : *end == '\0';
    if (!(value >= entry->least && value <= entry->most) || (*end != '\0' && value == 0))
        return false;
    if (entry->type == TYPE_real)
        *(double *)field = value;
    else if (value == (double)(uint64_t)value)
        *(uint64_t *)field = (uint64_t)value;
    else
        return false;
    return true;
}

int run_options_parse(struct run_options *options, int argc, char **argv)
{
    static char names[N_ENTRIES][32];
    struct option flags[N_ENTRIES + 2] = {{"help", no_argument, NULL, 'h'}};
    int index = 0;

#define X(type, field, text_default, least, most, help) options->field = (text_default);
    RUN_OPTIONS(X)
#undef X
    for (size_t i = 0; i < N_ENTRIES; i++) {
        flag_name(&entries[i], names[i], sizeof(names[i]));
        flags[i + 1] = (struct option){names[i], required_argument, NULL, 'x'};
    }
    for (int flag; (flag = getopt_long(argc, argv, "h", flags, &index)) != -1;) {
        if (flag == 'h') {
            help();
            return 1;
        }
        if (flag != 'x')
            return -1; /* getopt has told what is wrong */
        if (!set(options, &entries[index - 1], optarg)) {
            fprintf(stderr, "tierbench: --%s %s: not in the range %g to %g\n", flags[index].name,
                    optarg, entries[index - 1].least, entries[index - 1].most);
            return -1;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "tierbench: unexpected argument %s\n", argv[optind]);
        return -1;
    }
    return 0;
}
