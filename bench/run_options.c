/* Parses the command line of `tierbench run`; every mistake is told in one line on stderr. */
#include "run_options.h"

#include "tiers/policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLES_MAX 1000000

static const struct option_entry entries[] = {
#define X(type, field, text_default, least, most, help)                                            \
    {OPTION_##type, #field, offsetof(struct run_options, source.field), text_default, least,       \
     most,          help},
    SOURCE_OPTIONS(X)
#undef X
#define X(type, field, text_default, least, most, help)                                            \
    {OPTION_##type, #field, offsetof(struct run_options, field), text_default, least, most, help},
        RUN_OPTIONS(X)
#undef X
};

static const struct option_table table = {
    .usage =
        "usage: tierbench run [--OPTION VALUE]... [TRACE]\n"
        "\n"
        "Runs the tier engine on real folders: writes all keys, warms up, then measures reads\n"
        "and writes that follow Zipf's law or a trace. Several policies run one after the\n"
        "other, each in a process and folders of its own. Traces: see tierbench simulate.\n",
    .entries = entries,
    .n = sizeof(entries) / sizeof(entries[0]),
};

static int refuse(const char *option, const char *text, const char *why)
{
    fprintf(stderr, "tierbench: --%s %s: %s\n", option, text, why);
    return -1;
}

static int split_policies(struct run_options *options)
{
    for (const char *name = options->policy; *name != '\0';) {
        size_t length = strcspn(name, ",");
        char *slot = options->policies[options->n_policies];
        if (length == 0 || length >= RUN_POLICY_BYTES_MAX)
            return refuse("policy", options->policy, "names separated by commas are wanted");
        if (options->n_policies == RUN_POLICIES_MAX)
            return refuse("policy", options->policy, "too many");
        memcpy(slot, name, length);
        slot[length] = '\0';
        if (policy_find(slot) == NULL && strcmp(slot, policy_auto.name) != 0)
            return refuse("policy", slot, "no such policy");
        options->n_policies++;
        name += length + (name[length] == ',');
    }
    return options->n_policies > 0 ? 0 : refuse("policy", "", "at least one is wanted");
}

/* "NAME=NUMBER", up to a comma. The text behind it, or NULL. */
static const char *parse_field(const char *text, const char *name, double *ret_value)
{
    size_t length = strlen(name);
    char *end = NULL;

    if (strncmp(text, name, length) != 0 || text[length] != '=')
        return NULL;
    double value = strtod(text + length + 1, &end);
    if (end == text + length + 1 || (*end != ',' && *end != '\0') || !(value >= 0 && value <= 1e9))
        return NULL;
    *ret_value = value;
    return *end == ',' ? end + 1 : end;
}

static int parse_model(struct run_options *options)
{
    double seek_ms = 0, mb_per_s = 0;

    for (const char *text = options->cold_model; *text != '\0';) {
        const char *rest = parse_field(text, "seek_ms", &seek_ms);
        if (rest == NULL)
            rest = parse_field(text, "mb_per_s", &mb_per_s);
        if (rest == NULL)
            return refuse("cold-model", options->cold_model,
                          "something like seek_ms=8,mb_per_s=150 is wanted");
        text = rest;
        options->cold_modelled = true;
    }
    options->disk.seek_us = (uint64_t)(seek_ms * 1000);
    options->disk.bytes_per_second = (uint64_t)(mb_per_s * 1e6);
    return 0;
}

static int complete(struct run_options *options)
{
    static const char *const formats[] = {"table", "csv", "json"};
    bool found = false;

    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        if (strcmp(options->format, formats[i]) == 0) {
            options->format_kind = (enum run_format)i;
            found = true;
        }
    }
    if (!found)
        return refuse("format", options->format, "table, csv or json");
    if ((options->warmup + options->seconds) / options->interval > SAMPLES_MAX)
        return refuse("interval", "", "too short for such a long run");
    if (!tiers_cost_tiers_parse(options->prices, &options->prices_each))
        return refuse("prices", options->prices, "three numbers separated by commas are wanted");
    return split_policies(options) == 0 ? parse_model(options) : -1;
}

int run_options_parse(struct run_options *options, int argc, char **argv)
{
    *options = (struct run_options){0};
    int parsed = options_parse(&table, options, argc, argv, &options->source.trace);

    return parsed != 0 ? parsed : complete(options);
}
