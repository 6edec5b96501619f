/* See options.h. getopt_long finds the entry, its type reads the value. One thread, at the start.
 */
#include "options.h"

#include <assert.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES 32

/* The name as a flag: - for _. */
static void flag_name(const struct option_entry *entry, char name[NAME_BYTES])
{
    snprintf(name, NAME_BYTES, "%s", entry->name);
    for (char *c = name; *c != '\0'; c++) {
        if (*c == '_')
            *c = '-';
    }
}

static void help(const struct option_table *table)
{
    puts(table->usage);
    for (size_t i = 0; i < table->n; i++) {
        const struct option_entry *entry = &table->entries[i];
        char name[NAME_BYTES];
        flag_name(entry, name);
        printf("  --%-13s %s", name, entry->help);
        if (entry->text_default[0] != '\0')
            printf(" (%s)", entry->text_default);
        putchar('\n');
    }
}

/* 0: there is no such suffix. */
static double suffix_factor(const char *suffix)
{
    static const struct {
        const char *suffix;
        double factor;
    } suffixes[] = {{"", 1}, {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};

    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        if (strcmp(suffix, suffixes[i].suffix) == 0)
            return suffixes[i].factor;
    }
    return 0;
}

int options_bytes(const char *text, uint64_t *ret_bytes)
{
    char *end = NULL;
    double value = strtod(text, &end);

    if (end == text || suffix_factor(end) == 0)
        return -1;
    value *= suffix_factor(end);
    if (!(value >= 0 && value < 0x1p62) || value != (double)(uint64_t)value)
        return -1;
    *ret_bytes = (uint64_t)value;
    return 0;
}

static bool set(const struct option_entry *entry, void *options, const char *text)
{
    void *field = (char *)options + entry->offset;
    char *end = NULL;
    uint64_t whole = 0;
    double value;

    switch (entry->type) {
    case OPTION_text:
        *(const char **)field = text;
        return true;
    case OPTION_real:
        value = strtod(text, &end);
        if (end == text || *end != '\0' || !(value >= entry->least && value <= entry->most))
            return false;
        *(double *)field = value;
        return true;
    case OPTION_count:
        if (strspn(text, "0123456789.eE+") != strlen(text))
            return false;
        break;
    case OPTION_bytes:
        break;
    }
    if (options_bytes(text, &whole) != 0 || (double)whole < entry->least ||
        (double)whole > entry->most)
        return false;
    *(uint64_t *)field = whole;
    return true;
}

static void refuse(const struct option_entry *entry, const char *flag, const char *text)
{
    fprintf(stderr, "tierbench: --%s %s: not in the range %g to %g\n", flag, text, entry->least,
            entry->most);
}

int options_parse(const struct option_table *table, void *options, int argc, char **argv,
                  const char **ret_argument)
{
    char names[OPTIONS_MAX][NAME_BYTES];
    struct option flags[OPTIONS_MAX + 2] = {{"help", no_argument, NULL, 'h'}};
    int index = 0;

    assert(table->n <= OPTIONS_MAX);
    for (size_t i = 0; i < table->n; i++) {
        bool fits = set(&table->entries[i], options, table->entries[i].text_default);
        assert(fits);
        flag_name(&table->entries[i], names[i]);
        flags[i + 1] = (struct option){names[i], required_argument, NULL, 'x'};
    }
    optind = 1;
    for (int flag; (flag = getopt_long(argc, argv, "h", flags, &index)) != -1;) {
        if (flag == 'h') {
            help(table);
            return 1;
        }
        if (flag != 'x')
            return -1; /* getopt has told what is wrong */
        if (!set(&table->entries[index - 1], options, optarg)) {
            refuse(&table->entries[index - 1], flags[index].name, optarg);
            return -1;
        }
    }
    if (optind < argc && ret_argument != NULL)
        *ret_argument = argv[optind++];
    if (optind < argc) {
        fprintf(stderr, "tierbench: unexpected argument %s\n", argv[optind]);
        return -1;
    }
    return 0;
}
